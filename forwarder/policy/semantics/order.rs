//! Who decides: isolation, tiers, priorities, refusal, and what is said of it.

use alloc::string::ToString;
use alloc::vec;

use packet::protocol;

use super::*;

fn named(name: &str, mut policy: Policy) -> Policy {
    policy.name.name = name.to_string();
    policy
}

#[test]
fn whom_no_policy_governs_everybody_may_reach() {
    assert!(ask(CLIENT).is_allowed(&[]));
    let elsewhere = Policy {
        subject: app("other"),
        ..policy(vec![])
    };
    assert!(ask(CLIENT).is_allowed(&[elsewhere]));
}

#[test]
fn isolation_denies_in_its_own_direction_what_nobody_allows() {
    let deny = [policy(vec![])];
    let (decision, rules) = ask(CLIENT).decide(&deny);
    assert!(!decision.is_allowed() && decision.isolated && !decision.refused);
    assert_eq!(rules, ["NetworkPolicy shop/server ingress (shop.yaml:1)"]);
    let out = Ask {
        direction: Direction::Egress,
        ..ask(CLIENT)
    };
    assert!(out.is_allowed(&deny));
    assert!(!ask(Identity::WORLD).is_allowed(&deny));
    assert!(!ask(Identity::HOST).is_allowed(&deny));
}

#[test]
fn policies_add_up() {
    let one = policy(vec![allow(from(app("client")), Ports::Any)]);
    assert!(ask(CLIENT).is_allowed(core::slice::from_ref(&one)));
    assert!(!ask(OTHER).is_allowed(core::slice::from_ref(&one)));
    let two = policy(vec![allow(from(app("other")), Ports::Any)]);
    assert!(ask(CLIENT).is_allowed(&[one.clone(), two.clone()]));
    assert!(ask(OTHER).is_allowed(&[two, one]));
}

#[test]
fn tiers_and_priorities_are_asked_in_order_and_deny_wins_among_equals() {
    use EntryVerdict::{Allow, Deny, Pass};
    use Tier::{Admin, Baseline, Normal};
    for (entries, is) in [
        (vec![at(Admin, 5, Deny), at(Normal, 0, Allow)], false),
        (vec![at(Admin, 5, Allow), at(Normal, 0, Deny)], true),
        (vec![at(Admin, 5, Allow), at(Admin, 6, Deny)], true),
        (vec![at(Admin, 6, Allow), at(Admin, 5, Deny)], false),
        (vec![at(Admin, 5, Allow), at(Admin, 5, Deny)], false),
        (
            vec![at(Admin, 5, Pass), at(Admin, 5, Allow), at(Normal, 0, Deny)],
            true,
        ),
        (
            vec![at(Admin, 4, Pass), at(Admin, 5, Allow), at(Normal, 0, Deny)],
            false,
        ),
        (
            vec![at(Admin, 4, Pass), at(Admin, 5, Deny), at(Normal, 0, Allow)],
            true,
        ),
        (
            vec![
                at(Normal, 0, Pass),
                at(Normal, 1, Deny),
                at(Baseline, 0, Allow),
            ],
            true,
        ),
        (vec![at(Baseline, 0, Deny)], false),
        (vec![at(Normal, 0, Allow), at(Baseline, 0, Deny)], true),
        (vec![at(Baseline, 0, Pass), at(Baseline, 1, Deny)], true),
    ] {
        let policies = [adds(entries)];
        assert_eq!(
            ask(CLIENT).is_allowed(&policies),
            is,
            "{:#?}",
            policies[0].entries
        );
    }
}

#[test]
fn isolation_stands_between_the_normal_tier_and_the_baseline() {
    use EntryVerdict::{Allow, Pass};
    let isolating = policy(vec![]);
    for (tier, verdict, is) in [
        (Tier::Admin, Allow, true),
        (Tier::Admin, Pass, false),
        (Tier::Normal, Allow, true),
        (Tier::Normal, Pass, false),
        (Tier::Baseline, Allow, false),
    ] {
        let policies = [isolating.clone(), adds(vec![at(tier, 0, verdict)])];
        assert_eq!(
            ask(CLIENT).is_allowed(&policies),
            is,
            "{tier:?} {verdict:?}"
        );
    }
}

#[test]
fn a_policy_that_cannot_be_enforced_denies_before_an_administrator_allows() {
    let admin = adds(vec![at(Tier::Admin, 0, EntryVerdict::Allow)]);
    let refused = Policy {
        refused: Some("it asks for L7".to_string()),
        ..policy(vec![])
    };
    let policies = [admin, refused];
    let (decision, rules) = ask(CLIENT).decide(&policies);
    assert!(!decision.is_allowed() && decision.refused);
    assert_eq!(
        rules,
        ["NetworkPolicy shop/server ingress refused: it asks for L7 (shop.yaml:1)"]
    );
    let out = Ask {
        direction: Direction::Egress,
        ..ask(CLIENT)
    };
    assert!(out.is_allowed(&policies), "it does not govern egress");
    let elsewhere = Policy {
        subject: app("other"),
        ..policies[1].clone()
    };
    assert!(ask(CLIENT).is_allowed(&[elsewhere]), "it governs others");
}

#[test]
fn a_refused_policy_without_isolation_denies_where_it_has_entries() {
    let entry = at(Tier::Normal, 0, EntryVerdict::Deny);
    let refused = Policy {
        refused: Some("why".to_string()),
        ..adds(vec![entry])
    };
    assert!(!ask(CLIENT).is_allowed(&[refused]));
}

#[test]
fn who_has_no_known_labels_is_denied_even_where_nothing_is_isolated() {
    for identity in [Identity::UNKNOWN, Identity(0x2_0000), Identity(0x0100_0001)] {
        let (decision, rules) = ask(identity).decide(&[]);
        assert!(!decision.is_allowed() && decision.unknown, "{identity}");
        assert_eq!(decision.rule, None);
        assert!(rules.is_empty());
    }
}

#[test]
fn an_explanation_lists_all_that_matched_in_the_order_of_asking() {
    let policies = [
        policy(vec![
            allow(from(app("other")), Ports::Any),
            allow(from(app("client")), Ports::Any),
            allow(Peers::Any, port(protocol::TCP, PortMatch::Range(80, 80))),
        ]),
        named(
            "admin",
            adds(vec![
                at(Tier::Baseline, 0, EntryVerdict::Deny),
                at(Tier::Admin, 7, EntryVerdict::Pass),
                at(Tier::Admin, 8, EntryVerdict::Deny),
            ]),
        ),
    ];
    let (decision, rules) = ask(CLIENT).decide(&policies);
    assert!(decision.is_allowed() && decision.isolated);
    assert_eq!(
        rules,
        [
            "NetworkPolicy shop/admin ingress[1] (shop.yaml:1)",
            "NetworkPolicy shop/server ingress[1] (shop.yaml:1)",
            "NetworkPolicy shop/server ingress[2] (shop.yaml:1)",
        ]
    );
    assert_eq!(decision.rule, Some(RuleId(2 + 1)));
}
