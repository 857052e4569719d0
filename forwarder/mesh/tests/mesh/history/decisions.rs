//! What policies say of everybody.

use super::*;

/// Everybody with everybody, in both directions.
pub(super) fn decisions(snapshot: &Snapshot) -> String {
    let parties: Vec<(Address, &Endpoint)> = ADDRESSES
        .iter()
        .map(|text| address(text))
        .filter_map(|address| Some((address, &**snapshot.endpoint(address)?)))
        .collect();
    let party = |(address, endpoint)| Party { address, endpoint };
    let mut all = String::new();
    for &subject in &parties {
        for &peer in &parties {
            for direction in [Direction::Ingress, Direction::Egress] {
                let question = Question {
                    direction,
                    subject: party(subject),
                    peer: party(peer),
                    protocol: protocol::TCP,
                    port: Some(80),
                };
                let decision = snapshot.policy.decide(&question);
                let rules = snapshot.policy.explain(&question);
                let names = rules.iter().map(|rule| snapshot.policy.rule(*rule));
                let names: Vec<String> = names.map(|name| name.unwrap().to_string()).collect();
                writeln!(all, "{} {} {decision:?} {names:?}", subject.0, peer.0).unwrap();
            }
        }
    }
    all
}
