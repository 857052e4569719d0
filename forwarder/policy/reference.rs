//! What the model means, written so that it can be read: every policy, every entry, in order.
//!
//! This is the definition that [`PolicyTable`](crate::PolicyTable) is tested against, and the
//! judge in simulations. It takes time in proportion to everything; nothing that forwards uses it.
//!
//! 1. An identity that nobody has given labels, and that is not reserved, is denied.
//! 2. A policy that governs the subject in this direction and cannot be enforced denies.
//! 3. The entries of the other policies that govern the subject, and match direction, peer and
//!    port, are taken by tier, then priority, then Deny before Allow before Pass. The first Deny
//!    or Allow decides; a Pass skips the rest of its tier.
//! 4. Behind the Normal tier, a subject that any policy isolates in this direction is denied.
//! 5. Behind the Baseline tier, the flow is allowed.
//! 6. What is denied so is asked once more, of the policies as they would be if those in audit mode
//!    denied nothing: they neither refuse nor isolate, and have no entries that deny. If that allows
//!    the flow, it is allowed, and audited. If not, it is denied for that reason.
//!
//! Sources: NetworkPolicy (networking.k8s.io/v1) and ClusterNetworkPolicy
//! (policy.networking.k8s.io/v1alpha2) for tiers, Pass and isolation.

use alloc::vec::Vec;

use crate::{
    Decision, Entity, Entry, EntryVerdict, Identity, Isolates, Labels, Party, Peer, Peers, Policy,
    PortMatch, Ports, Question, RuleId, Selector, Tier, Verdict, Whose,
};

/// The decision on a flow.
pub fn decide(
    policies: &[Policy],
    identities: &[(Identity, Labels)],
    question: &Question<'_>,
) -> Decision {
    judge(policies, identities, question).0
}

/// The rules that matched a flow: the policies that refuse it; or else the entries by the order in
/// which they are asked, to the end of the tier that decided, without those that a Pass skipped,
/// and then the isolating policies if isolation decided.
pub fn explain(
    policies: &[Policy],
    identities: &[(Identity, Labels)],
    question: &Question<'_>,
) -> Vec<RuleId> {
    judge(policies, identities, question).1
}

/// The number of a policy as a whole, in the question's direction, among all rules of these
/// policies; those of its entries follow.
fn rule_of_policy(policies: &[Policy], policy: usize, question: &Question<'_>) -> RuleId {
    let before: usize = policies[..policy].iter().map(|p| 2 + p.entries.len()).sum();
    RuleId((before + question.direction as usize) as u32)
}

fn rule_of_entry(policies: &[Policy], policy: usize, entry: usize) -> RuleId {
    let before: usize = policies[..policy].iter().map(|p| 2 + p.entries.len()).sum();
    RuleId((before + 2 + entry) as u32)
}

fn judge(
    policies: &[Policy],
    identities: &[(Identity, Labels)],
    question: &Question<'_>,
) -> (Decision, Vec<RuleId>) {
    let (all, seen) = judge_alike(policies, identities, question);
    if all.is_allowed() || all.unknown {
        return (all, seen);
    }
    let enforced: Vec<Policy> = policies.iter().map(without_denials).collect();
    let (decision, rules) = judge_alike(&enforced, identities, question);
    if decision.is_allowed() {
        let audited = Decision {
            verdict: Verdict::Allow,
            audited: true,
            ..all
        };
        return (audited, seen);
    }
    let denied = Decision {
        isolated: all.isolated,
        ..decision
    };
    (denied, rules)
}

/// A policy in audit mode with all by which it would deny taken out; the numbers of rules stay.
fn without_denials(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    if policy.audit {
        policy.refused = None;
        policy.isolates = Isolates::default();
        let denying = |entry: &&mut Entry| entry.verdict == EntryVerdict::Deny;
        for entry in policy.entries.iter_mut().filter(denying) {
            entry.peers = Peers::Of(Vec::new());
        }
    }
    policy
}

/// What policies say, whether they are in audit mode or not.
fn judge_alike(
    policies: &[Policy],
    identities: &[(Identity, Labels)],
    question: &Question<'_>,
) -> (Decision, Vec<RuleId>) {
    let direction = question.direction;
    let subject = question.subject.endpoint.identity;
    let peer = question.peer.endpoint.identity;
    let governing = || {
        policies.iter().enumerate().filter(|(_, policy)| {
            policy.governs(direction) && selects(&policy.subject, identities, subject)
        })
    };
    let of_policy = |(index, _): (usize, &Policy)| rule_of_policy(policies, index, question);
    let isolating = || governing().filter(|(_, policy)| policy.isolates.has(direction));
    let answer = |verdict, rule| Decision {
        verdict,
        isolated: isolating().next().is_some(),
        refused: false,
        unknown: false,
        audited: false,
        rule,
    };

    if !is_known(identities, subject) || !is_known(identities, peer) {
        let unknown = Decision {
            unknown: true,
            ..answer(Verdict::Deny, None)
        };
        return (unknown, Vec::new());
    }
    let refusing: Vec<RuleId> = governing()
        .filter(|(_, policy)| policy.refused.is_some())
        .map(of_policy)
        .collect();
    if let Some(&first) = refusing.first() {
        let refused = Decision {
            refused: true,
            ..answer(Verdict::Deny, Some(first))
        };
        return (refused, refusing);
    }

    let mut matching: Vec<(&Entry, RuleId)> = Vec::new();
    for (p, policy) in governing() {
        for (e, entry) in policy.entries.iter().enumerate() {
            if entry.direction == direction && matches(entry, identities, question) {
                matching.push((entry, rule_of_entry(policies, p, e)));
            }
        }
    }
    matching.sort_by_key(|(e, rule)| (e.tier, e.priority, e.verdict, *rule));

    let mut seen = Vec::new();
    for tier in [Tier::Admin, Tier::Normal, Tier::Baseline] {
        let mut decided = None;
        for (entry, rule) in matching.iter().filter(|(e, _)| e.tier == tier) {
            seen.push(*rule);
            match entry.verdict {
                EntryVerdict::Deny if decided.is_none() => {
                    decided = Some(answer(Verdict::Deny, Some(*rule)));
                }
                EntryVerdict::Allow if decided.is_none() => {
                    decided = Some(answer(Verdict::Allow, Some(*rule)));
                }
                EntryVerdict::Deny | EntryVerdict::Allow => {}
                EntryVerdict::Pass => break,
            }
        }
        if let Some(decision) = decided {
            return (decision, seen);
        }
        if tier == Tier::Normal
            && let Some(first) = isolating().next()
        {
            seen.extend(isolating().map(of_policy));
            return (answer(Verdict::Deny, Some(of_policy(first))), seen);
        }
    }
    (answer(Verdict::Allow, None), seen)
}

/// The labels of an identity, the last that were given; reserved identities have none.
fn labels_of(identities: &[(Identity, Labels)], identity: Identity) -> Option<&Labels> {
    let mut given = identities.iter().rev().filter(|(i, _)| *i == identity);
    given
        .next()
        .map(|(_, l)| l)
        .filter(|_| !identity.is_reserved())
}

fn is_known(identities: &[(Identity, Labels)], identity: Identity) -> bool {
    match identity.is_reserved() {
        true => identity != Identity::UNKNOWN,
        false => labels_of(identities, identity).is_some(),
    }
}

fn selects(selector: &Selector, identities: &[(Identity, Labels)], identity: Identity) -> bool {
    labels_of(identities, identity).is_some_and(|labels| selector.matches(labels))
}

fn matches(entry: &Entry, identities: &[(Identity, Labels)], question: &Question<'_>) -> bool {
    let peer = &question.peer;
    let is_peer = |choice: &Peer| match choice {
        Peer::Selector(selector) => selects(selector, identities, peer.endpoint.identity),
        Peer::Cidr {
            prefix,
            except,
            whose,
        } => {
            let meant = *whose == Whose::Anybody || peer.endpoint.identity.is_world();
            let excepted = except.iter().any(|e| e.contains(peer.address));
            meant && prefix.contains(peer.address) && !excepted
        }
        Peer::Entity(entity) => is_entity(*entity, peer),
    };
    let peer_matches = match &entry.peers {
        Peers::Any => true,
        Peers::Of(choices) => choices.iter().any(is_peer),
    };
    peer_matches && port_matches(&entry.ports, question)
}

fn is_entity(entity: Entity, peer: &Party<'_>) -> bool {
    let identity = peer.endpoint.identity;
    match entity {
        Entity::All => true,
        Entity::World => identity.is_world(),
        Entity::WorldV4 => identity.is_world() && peer.address.is_v4(),
        Entity::WorldV6 => identity.is_world() && !peer.address.is_v4(),
        Entity::Cluster(cluster) => peer.endpoint.cluster == Some(cluster),
        Entity::Mesh => peer.endpoint.cluster.is_some(),
        Entity::One(one) => identity == one,
    }
}

fn port_matches(ports: &Ports, question: &Question<'_>) -> bool {
    let Ports::Of(rules) = ports else {
        return true;
    };
    let named = &question.destination().endpoint.named_ports;
    rules.iter().any(|rule| {
        rule.protocol == question.protocol
            && match (&rule.port, question.port) {
                (PortMatch::Any, _) => true,
                (_, None) => false,
                (PortMatch::Range(first, last), Some(port)) => *first <= port && port <= *last,
                (PortMatch::Named(name), Some(port)) => named
                    .iter()
                    .any(|n| n.name == *name && n.protocol == question.protocol && n.port == port),
            }
    })
}
