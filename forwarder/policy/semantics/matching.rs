//! Which peers and ports an entry matches.

use alloc::string::ToString;
use alloc::vec;

use packet::{Address, protocol};

use super::*;

#[test]
fn an_empty_list_of_peers_or_ports_matches_nothing() {
    assert!(!ask(CLIENT).is_allowed(&[policy(vec![allow(Peers::Of(vec![]), Ports::Any)])]));
    assert!(!ask(CLIENT).is_allowed(&[policy(vec![allow(Peers::Any, Ports::Of(vec![]))])]));
}

#[test]
fn no_selector_matches_an_identity_that_is_reserved() {
    for selector in [
        Selector::everything(),
        Selector::everything().and(Requirement::DoesNotExist("app".to_string())),
        Selector::everything().and(Requirement::NotIn("x".to_string(), vec![])),
    ] {
        let policies = [policy(vec![allow(from(selector), Ports::Any)])];
        for identity in [Identity::WORLD, Identity::HOST, Identity::REMOTE_NODE] {
            assert!(!ask(identity).is_allowed(&policies), "{identity}");
        }
    }
    let anybody = [policy(vec![allow(Peers::Any, Ports::Any)])];
    assert!(ask(Identity::WORLD).is_allowed(&anybody));
    assert!(ask(Identity::REMOTE_NODE).is_allowed(&anybody));
}

#[test]
fn a_block_matches_whoever_has_the_address_and_its_exceptions_match_nobody() {
    let policies = [policy(vec![allow(
        block("10.1.0.0/16", &["10.1.2.0/24"]),
        Ports::Any,
    )])];
    for (address, is) in [
        ("10.1.0.1", true),
        ("10.1.2.1", false),
        ("10.2.0.1", false),
        ("fd00::1", false),
    ] {
        for identity in [
            CLIENT,
            Identity::WORLD,
            Identity::HOST,
            Identity::REMOTE_NODE,
        ] {
            let asked = Ask {
                peer: identity,
                ..Ask::at(address)
            };
            assert_eq!(asked.is_allowed(&policies), is, "{identity} at {address}");
        }
    }
}

#[test]
fn what_one_block_excepts_another_may_allow() {
    let first = policy(vec![allow(
        block("10.1.0.0/16", &["10.1.2.0/24"]),
        Ports::Any,
    )]);
    let second = policy(vec![allow(block("10.1.2.7/32", &[]), Ports::Any)]);
    let policies = [first, second];
    assert!(Ask::at("10.1.2.7").is_allowed(&policies));
    assert!(!Ask::at("10.1.2.8").is_allowed(&policies));
}

#[test]
fn ports_are_of_one_protocol_and_ranges_hold_both_ends() {
    use protocol::{ICMP, SCTP, TCP, UDP};
    let tcp = [policy(vec![allow(
        Peers::Any,
        port(TCP, PortMatch::Range(80, 82)),
    )])];
    for (protocol, port, is) in [
        (TCP, Some(79), false),
        (TCP, Some(80), true),
        (TCP, Some(82), true),
        (TCP, Some(83), false),
        (TCP, None, false),
        (UDP, Some(80), false),
        (SCTP, Some(80), false),
        (ICMP, None, false),
    ] {
        assert_eq!(
            Ask::to(protocol, port).is_allowed(&tcp),
            is,
            "{protocol} {port:?}"
        );
    }
    let sctp = [policy(vec![allow(Peers::Any, port(SCTP, PortMatch::Any))])];
    assert!(Ask::to(SCTP, 1).is_allowed(&sctp));
    assert!(!Ask::to(TCP, 1).is_allowed(&sctp));
}

#[test]
fn a_port_that_cannot_be_found_is_matched_by_rules_for_any_port_only() {
    let later_fragment = Ask::to(protocol::TCP, None);
    let all_tcp = port(protocol::TCP, PortMatch::Any);
    let whole_range = port(protocol::TCP, PortMatch::Range(0, 65_535));
    assert!(later_fragment.is_allowed(&[policy(vec![allow(Peers::Any, all_tcp)])]));
    assert!(!later_fragment.is_allowed(&[policy(vec![allow(Peers::Any, whole_range)])]));
    let unknown_protocol = Ask::to(253, None);
    assert!(unknown_protocol.is_allowed(&[policy(vec![allow(Peers::Any, Ports::Any)])]));
}

#[test]
fn a_named_port_is_the_destinations() {
    let named = |port| NamedPort {
        name: "http".to_string(),
        protocol: protocol::TCP,
        port,
    };
    let rule = || port(protocol::TCP, PortMatch::Named("http".to_string()));
    let towards = [policy(vec![allow(Peers::Any, rule())])];
    let mut asked = ask(CLIENT);
    assert!(!asked.is_allowed(&towards), "nobody has named a port");
    asked.peer_names = vec![named(80)];
    assert!(
        !asked.is_allowed(&towards),
        "the source's names do not count"
    );
    asked.subject_names = vec![named(81)];
    assert!(
        !asked.is_allowed(&towards),
        "the name stands for another port"
    );
    asked.subject_names = vec![named(80)];
    assert!(asked.is_allowed(&towards));
    asked.protocol = protocol::UDP;
    assert!(!asked.is_allowed(&towards));

    let entry = Entry {
        direction: Direction::Egress,
        ..allow(Peers::Any, rule())
    };
    let isolates = Isolates {
        ingress: false,
        egress: true,
    };
    let away = [Policy {
        isolates,
        ..policy(vec![entry])
    }];
    let mut asked = Ask {
        direction: Direction::Egress,
        ..ask(CLIENT)
    };
    asked.subject_names = vec![named(80)];
    assert!(!asked.is_allowed(&away));
    asked.peer_names = vec![named(80)];
    assert!(asked.is_allowed(&away));
}

#[test]
fn subjects_and_peers_of_both_families_are_judged_alike() {
    let policies = [policy(vec![allow(
        block("fd00:1::/64", &["fd00:1::8/125"]),
        Ports::Any,
    )])];
    for (address, is) in [
        ("fd00:1::7", true),
        ("fd00:1::8", false),
        ("fd00:1:0:1::", false),
    ] {
        assert_eq!(Ask::at(address).is_allowed(&policies), is, "{address}");
    }
    let four: Address = "10.1.0.1".parse::<core::net::IpAddr>().unwrap().into();
    assert!(four.is_v4() && !Ask::at("10.1.0.1").is_allowed(&policies));
}
