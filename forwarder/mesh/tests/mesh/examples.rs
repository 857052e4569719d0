//! What `config/examples` shows is read by those who would read it in earnest.
#![expect(
    clippy::disallowed_methods,
    reason = "the room is pure, its test reads files"
)]

use std::path::Path;

use config::Config;
use mesh::{Event, Settings, State, World, parse};
use tunnel::PublicKey;

fn load(world: &mut World, cluster: u8, directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let file = path.display().to_string();
        let parsed = parse(&file, &std::fs::read_to_string(&path).unwrap());
        assert_eq!(parsed.problems, [], "{file}");
        assert_eq!(parsed.skipped, [], "{file}");
        world.apply(Event::File {
            cluster,
            file,
            parsed,
            hash: "x".into(),
        });
    }
}

#[test]
fn both_examples_are_wholly_enforced_on_both_sides() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples");
    for node in ["eu-1", "us-1"] {
        let config = Config::load(&examples.join(format!("{node}.yaml"))).unwrap();
        let keys = vec![PublicKey::from_bytes([1; 32])];
        let mut world = World::new(Settings::of(&config, keys));
        load(&mut world, config.cluster.id, &config.manifests);
        for remote in &config.clusters {
            load(&mut world, remote.cluster.id, &remote.manifests);
        }
        world.apply(Event::Loaded);
        let compiled = world.compile();
        for status in &compiled.statuses {
            let others_policy = status.state == State::Ignored && status.kind == "NetworkPolicy";
            assert!(
                status.state == State::Enforced || others_policy,
                "{node}: {status:?}"
            );
        }
        let snapshot = &compiled.snapshot;
        assert_eq!(snapshot.nodes.len(), 1, "{node}");
        assert_eq!(snapshot.nodes[0].lanes.len(), 4, "{node}");
        assert_eq!(compiled.host.local_pods.len(), 8, "{node}");
        assert_eq!(compiled.host.global_frontends.len(), 2, "{node}");
        let services: Vec<usize> = snapshot
            .services
            .iter()
            .map(|(_, s)| s.backends.len())
            .collect();
        assert_eq!(
            services,
            [4, 4],
            "{node}: two backends of each cluster, in each family"
        );
    }
}
