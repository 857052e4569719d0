//! `farlane check` as a person reads it: every mistake with its line, a caret and what to write.

use std::path::PathBuf;
use std::process::Command;

/// A directory that is gone with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("farlane-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory of our own");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_mistake_in_a_policy_is_shown_where_it_stands() {
    let home = Scratch::new("check");
    let file = home.0.join("policy.yaml");
    let text = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - ports: [{port: 70000}]
  - schedule: weekdays
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";
    std::fs::write(&file, text).expect("writable");
    let output = Command::new(env!("CARGO_BIN_EXE_farlane"))
        .arg("check")
        .arg(&file)
        .output()
        .expect("our own program");
    let said = String::from_utf8_lossy(&output.stdout);
    let path = file.display();
    let expected = format!(
        "{path}:7:20: NetworkPolicy shop/web is refused: `port` must be a whole number from 1 to 65535, not the number 70000
  7 |   - ports: [{{port: 70000}}]
    |                    ^
{path}:8:5: NetworkPolicy shop/web is refused: a rule of `ingress` has the field `schedule`, which is not enforced
  8 |   - schedule: weekdays
    |     ^
1 file checked, 2 problems
"
    );
    assert_eq!(said, expected);
    assert_eq!(output.status.code(), Some(1));
}
