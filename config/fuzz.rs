//! The harness of `scripts/fuzz` for this crate: any bytes as a node's file. `cargo test` replays
//! `__fuzz__/config/corpus` and what once failed, and then tries some random input.

use std::path::Path;

use bolero::check;

use crate::Config;

#[test]
fn any_file_is_read_or_complained_about_where_the_mistake_is() {
    check!(name = "config")
        .with_iterations(500)
        .for_each(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            match Config::parse("node.yaml", Path::new("/etc/node.yaml"), &text) {
                Ok(config) => {
                    assert!((1..=255).contains(&config.cluster.id));
                    assert!(!config.node.is_empty() && config.lanes > 0);
                    assert!(config.manifests.is_absolute() && config.socket.is_absolute());
                }
                Err(problems) => {
                    assert!(!problems.is_empty());
                    for problem in problems {
                        assert!(!problem.render(&text).is_empty());
                    }
                }
            }
        });
}
