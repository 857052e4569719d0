//! The harness of `scripts/fuzz` for this room: any bytes as a file of manifests. `cargo test`
//! replays `__fuzz__/manifest/corpus` and what once failed, and then tries some random input.

use bolero::check;
use mesh::{Event, World, parse};

use crate::settings;

#[test]
fn any_file_is_read_or_complained_about() {
    check!(name = "manifest")
        .with_iterations(200)
        .for_each(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            let mut parsed = parse("f.yaml", &text);
            for problem in &parsed.problems {
                problem.render(&text);
            }
            // What a file with problems has left is used all the same here: it must not matter.
            parsed.problems.clear();
            let mut world = World::new(settings());
            for (cluster, parsed) in [(1, parsed.clone()), (2, parsed)] {
                let (file, hash) = ("f.yaml".into(), "h".into());
                world.apply(Event::File {
                    cluster,
                    file,
                    parsed,
                    hash,
                });
            }
            world.apply(Event::Loaded);
            world.compile();
        });
}
