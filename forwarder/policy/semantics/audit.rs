//! Policies on trial: what they deny passes and is marked, what they allow is allowed.

use alloc::string::ToString;
use alloc::vec;

use super::*;

fn on_trial(policy: Policy) -> Policy {
    Policy {
        audit: true,
        ..policy
    }
}

/// Verdict and mark.
fn outcome(policies: &[Policy]) -> (bool, bool) {
    let decision = ask(CLIENT).decide(policies).0;
    (decision.is_allowed(), decision.audited)
}

const PASSES: (bool, bool) = (true, false);
const MARKED: (bool, bool) = (true, true);
const DENIED: (bool, bool) = (false, false);

#[test]
fn what_only_a_policy_on_trial_denies_passes_and_is_marked_with_its_rule() {
    let isolates = policy(vec![]);
    assert_eq!(outcome(core::slice::from_ref(&isolates)), DENIED);
    let (decision, rules) = ask(CLIENT).decide(&[on_trial(isolates.clone())]);
    assert!(decision.is_allowed() && decision.audited && decision.isolated);
    assert_eq!(rules, ["NetworkPolicy shop/server ingress (shop.yaml:1)"]);
    let refused = Policy {
        refused: Some("it cannot be".to_string()),
        ..isolates
    };
    let (decision, _) = ask(CLIENT).decide(&[on_trial(refused)]);
    assert!(decision.is_allowed() && decision.audited && decision.refused);
    let denies = adds(vec![at(Tier::Admin, 1, EntryVerdict::Deny)]);
    assert_eq!(outcome(&[on_trial(denies)]), MARKED);
}

#[test]
fn what_another_policy_denies_too_stays_denied_for_that_one() {
    let isolates = policy(vec![]);
    let mut other = isolates.clone();
    other.name.name = "other".to_string();
    let both = [on_trial(isolates), other];
    assert_eq!(outcome(&both), DENIED);
    let (_, rules) = ask(CLIENT).decide(&both);
    assert_eq!(rules, ["NetworkPolicy shop/other ingress (shop.yaml:1)"]);
}

#[test]
fn what_a_policy_on_trial_allows_is_allowed() {
    let isolates = policy(vec![]);
    let allows = on_trial(policy(vec![allow(from(app("client")), Ports::Any)]));
    assert_eq!(outcome(&[isolates, allows]), PASSES);
}

#[test]
fn a_denial_on_trial_uncovers_what_stands_behind_it() {
    let denies = on_trial(adds(vec![at(Tier::Admin, 1, EntryVerdict::Deny)]));
    let later = adds(vec![at(Tier::Admin, 2, EntryVerdict::Deny)]);
    assert_eq!(outcome(&[denies.clone(), later]), DENIED);
    let baseline = adds(vec![at(Tier::Baseline, 1, EntryVerdict::Deny)]);
    let isolates = on_trial(policy(vec![]));
    assert_eq!(outcome(&[isolates, baseline]), DENIED);
    let allows = adds(vec![at(Tier::Admin, 2, EntryVerdict::Allow)]);
    assert_eq!(outcome(&[denies, allows]), MARKED);
}
