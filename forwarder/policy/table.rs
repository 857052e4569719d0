//! The compiled form of all policies: what the packet path asks.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::addresses::Addresses;
use crate::members::Members;
use crate::{
    Decision, Direction, EntryVerdict, Identity, NamedPort, Party, Question, RuleId, RuleName,
    Tier, Verdict,
};

/// All policies over all identities, as [`reference`](crate::reference) defines them.
///
/// Subjects that the same policies govern share one program, so that a question costs two binary
/// searches over the identities and one step for each entry that governs its subject.
#[derive(Clone, Debug)]
pub struct PolicyTable {
    /// Identities that have labels, ascending.
    pub(crate) identities: Vec<Identity>,
    /// The place of each in the sets.
    pub(crate) places: Vec<u32>,
    /// By direction: the program of each.
    pub(crate) assigned: [Vec<u32>; 2],
    /// The first one is empty.
    pub(crate) programs: Vec<Arc<Program>>,
    /// Sets of peers, and of subjects; many entries have the same.
    pub(crate) sets: Vec<Members>,
    /// By place of a policy: the number of its first rule.
    pub(crate) firsts: Vec<u32>,
    /// The rules of each policy for people, behind the number of the first; ascending.
    pub(crate) rolls: Vec<(u32, Arc<Roll>)>,
}

/// The rules of one policy: what each is called, and how often it has decided. The counts are all
/// that ever changes in a table, and every copy has the same: they go on as long as the policy stays
/// as it is.
#[derive(Debug)]
pub(crate) struct Roll {
    pub(crate) names: Vec<RuleName>,
    pub(crate) decided: Vec<AtomicU64>,
}

/// All that governs a subject in one direction. It does not change when other policies do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    /// Policies that cannot be enforced.
    pub(crate) refusing: Vec<Part>,
    /// Policies that deny what nobody allows.
    pub(crate) isolating: Vec<Part>,
    /// By tier: entries in the order in which they are asked.
    pub(crate) tiers: [Vec<Arc<Rule>>; 3],
    /// Whether any of these policies is in audit mode.
    pub(crate) audit: bool,
}

/// A rule, wherever its policy stands among the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// The place of the policy.
    pub(crate) policy: u32,
    /// The rule's number in that: the policy as a whole, for ingress and for egress, then entries.
    pub(crate) number: u32,
    /// Whether the policy is in audit mode.
    pub(crate) audit: bool,
}

/// Whose denials count.
#[derive(Clone, Copy, PartialEq)]
enum Denials {
    /// All policies'.
    All,
    /// Those of policies that are not in audit mode.
    Enforced,
}

impl Denials {
    fn count(self, part: &Part) -> bool {
        self == Denials::All || !part.audit
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) part: Part,
    pub(crate) priority: u32,
    pub(crate) verdict: EntryVerdict,
    pub(crate) any_peer: bool,
    /// Which of the table's sets holds the identities that match.
    pub(crate) peers: u32,
    /// Those that match, whoever has them.
    pub(crate) addresses: Addresses,
    /// Those that match if they are outside of the mesh.
    pub(crate) outside: Addresses,
    /// The clusters whose pods and nodes match.
    pub(crate) clusters: Vec<u8>,
    /// Whether those of every cluster do.
    pub(crate) mesh: bool,
    /// Reserved identities that match.
    pub(crate) reserved: Vec<Identity>,
    /// `None` is all traffic.
    pub(crate) ports: Option<PortSet>,
}

/// Destination ports that match.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortSet {
    /// Protocols of which every port matches, also one that cannot be found.
    pub(crate) protocols: Vec<u8>,
    /// Protocol, first and last port.
    pub(crate) ranges: Vec<(u8, u16, u16)>,
    /// Protocol and name.
    pub(crate) names: Vec<(u8, String)>,
}

/// What the table knows of an identity.
#[derive(Clone, Copy, PartialEq)]
enum Standing {
    Unknown,
    Reserved,
    /// It has labels, and this place among the identities that do.
    Labelled(usize),
}

/// Who the two ends of a flow are, and all that governs the subject.
struct Parties<'a> {
    subject: Standing,
    peer: Standing,
    program: &'a Program,
}

impl Parties<'_> {
    /// Whether nobody knows the labels of one of them.
    fn is_unknown(&self) -> bool {
        self.subject == Standing::Unknown || self.peer == Standing::Unknown
    }
}

impl PolicyTable {
    /// The decision on a flow. Neither allocates nor locks.
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        let parties = self.parties(question);
        let all = self.judge(&parties, Denials::All, question);
        if all.is_allowed() || !parties.program.audit {
            return all;
        }
        match self.judge(&parties, Denials::Enforced, question) {
            enforced if enforced.is_allowed() => Decision {
                verdict: Verdict::Allow,
                audited: true,
                ..all
            },
            denied => denied,
        }
    }

    /// What policies say where only these denials count.
    fn judge(&self, parties: &Parties<'_>, denials: Denials, question: &Question<'_>) -> Decision {
        let program = parties.program;
        let answer = |verdict, rule: Option<Part>| Decision {
            verdict,
            isolated: !program.isolating.is_empty(),
            refused: false,
            unknown: false,
            audited: false,
            rule: rule.map(|part| self.id(part)),
        };
        if parties.is_unknown() {
            return Decision {
                unknown: true,
                ..answer(Verdict::Deny, None)
            };
        }
        let first = |parts: &[Part]| parts.iter().copied().find(|part| denials.count(part));
        if let Some(refusing) = first(&program.refusing) {
            return Decision {
                refused: true,
                ..answer(Verdict::Deny, Some(refusing))
            };
        }
        for tier in TIERS {
            let mut matching = self.matching(parties, denials, tier, question);
            if let Some(rule) = matching.next() {
                match rule.verdict {
                    EntryVerdict::Deny => return answer(Verdict::Deny, Some(rule.part)),
                    EntryVerdict::Allow => return answer(Verdict::Allow, Some(rule.part)),
                    EntryVerdict::Pass => {}
                }
            }
            if tier == Tier::Normal
                && let Some(isolating) = first(&program.isolating)
            {
                return answer(Verdict::Deny, Some(isolating));
            }
        }
        answer(Verdict::Allow, None)
    }

    /// The rules that matched a flow, as [`reference::explain`](crate::reference::explain) says.
    pub fn explain(&self, question: &Question<'_>) -> Vec<RuleId> {
        let parties = self.parties(question);
        if parties.is_unknown() {
            return Vec::new();
        }
        let denials = match self.decide(question).is_allowed() {
            true => Denials::All,
            false => Denials::Enforced,
        };
        let all = |parts: &[Part]| -> Vec<RuleId> {
            let parts = parts.iter().filter(|part| denials.count(part));
            parts.map(|part| self.id(*part)).collect()
        };
        let refusing = all(&parties.program.refusing);
        if !refusing.is_empty() {
            return refusing;
        }
        let isolating = all(&parties.program.isolating);
        let mut seen = Vec::new();
        for tier in TIERS {
            let mut decided = false;
            for rule in self.matching(&parties, denials, tier, question) {
                seen.push(self.id(rule.part));
                match rule.verdict {
                    EntryVerdict::Deny | EntryVerdict::Allow => decided = true,
                    EntryVerdict::Pass => break,
                }
            }
            if decided {
                break;
            }
            if tier == Tier::Normal && !isolating.is_empty() {
                seen.extend(isolating);
                break;
            }
        }
        seen
    }

    fn parties(&self, question: &Question<'_>) -> Parties<'_> {
        let subject = self.standing(question.subject.endpoint.identity);
        Parties {
            subject,
            peer: self.standing(question.peer.endpoint.identity),
            program: self.program(question.direction, subject),
        }
    }

    /// What a rule of this table is called; `None` for a number of another table.
    pub fn rule(&self, rule: RuleId) -> Option<&RuleName> {
        let (roll, place) = self.roll(rule)?;
        roll.names.get(place)
    }

    /// Notes that a rule has decided about a flow.
    pub fn count(&self, rule: RuleId) {
        let decided = self
            .roll(rule)
            .and_then(|(roll, place)| roll.decided.get(place));
        if let Some(decided) = decided {
            decided.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All rules by number, with how often each has decided since its policy is as it is.
    pub fn rules(&self) -> impl Iterator<Item = (&RuleName, u64)> {
        let rolls = self.rolls.iter();
        rolls.flat_map(|(_, roll)| {
            let decided = roll.decided.iter().map(|n| n.load(Ordering::Relaxed));
            roll.names.iter().zip(decided)
        })
    }

    fn roll(&self, rule: RuleId) -> Option<(&Roll, usize)> {
        let behind = self.rolls.partition_point(|(first, _)| *first <= rule.0);
        let (first, roll) = self.rolls.get(behind.checked_sub(1)?)?;
        Some((roll, (rule.0 - first) as usize))
    }

    fn id(&self, part: Part) -> RuleId {
        RuleId(self.firsts[part.policy as usize] + part.number)
    }

    fn standing(&self, identity: Identity) -> Standing {
        if identity == Identity::UNKNOWN {
            Standing::Unknown
        } else if identity.is_reserved() {
            Standing::Reserved
        } else {
            match self.identities.binary_search(&identity) {
                Ok(number) => Standing::Labelled(number),
                Err(_) => Standing::Unknown,
            }
        }
    }

    fn program(&self, direction: Direction, subject: Standing) -> &Program {
        let number = match subject {
            Standing::Labelled(number) => self.assigned[direction as usize][number],
            Standing::Reserved | Standing::Unknown => 0,
        };
        &self.programs[number as usize]
    }

    fn matching<'a>(
        &'a self,
        parties: &Parties<'a>,
        denials: Denials,
        tier: Tier,
        question: &'a Question<'_>,
    ) -> impl Iterator<Item = &'a Rule> + use<'a> {
        let place = match parties.peer {
            Standing::Labelled(number) => Some(self.places[number]),
            Standing::Reserved | Standing::Unknown => None,
        };
        let rules = parties.program.tiers[tier as usize].iter();
        rules.map(|rule| &**rule).filter(move |rule| {
            (rule.verdict != EntryVerdict::Deny || denials.count(&rule.part))
                && rule.matches_peer(place, &self.sets, question)
                && rule.ports.as_ref().is_none_or(|p| p.matches(question))
        })
    }
}

const TIERS: [Tier; 3] = [Tier::Admin, Tier::Normal, Tier::Baseline];

impl Rule {
    #[inline]
    fn matches_peer(&self, place: Option<u32>, sets: &[Members], question: &Question<'_>) -> bool {
        self.any_peer
            || place.is_some_and(|place| sets[self.peers as usize].contains(place))
            || self.addresses.contains(question.peer.address)
            || self.matches_entity(&question.peer)
    }

    fn matches_entity(&self, peer: &Party<'_>) -> bool {
        let endpoint = peer.endpoint;
        self.reserved.contains(&endpoint.identity)
            || endpoint
                .cluster
                .is_some_and(|c| self.mesh || self.clusters.contains(&c))
            || endpoint.identity.is_world() && self.outside.contains(peer.address)
    }
}

impl PortSet {
    fn matches(&self, question: &Question<'_>) -> bool {
        let protocol = question.protocol;
        if self.protocols.contains(&protocol) {
            return true;
        }
        let Some(port) = question.port else {
            return false;
        };
        let in_range =
            |&(p, first, last): &(u8, u16, u16)| p == protocol && (first..=last).contains(&port);
        let is_here = |named: &NamedPort| named.protocol == protocol && named.port == port;
        self.ranges.iter().any(in_range)
            || self.names.iter().any(|(p, name)| {
                let named = &question.destination().endpoint.named_ports;
                *p == protocol && named.iter().any(|n| is_here(n) && n.name == *name)
            })
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::arbitrary::{QUESTIONS, World, world};
    use crate::reference;

    fn check(world: &World) -> Result<(), TestCaseError> {
        let table = PolicyTable::compile(&world.policies, &world.identities);
        for question in world.questions() {
            let (policies, identities) = (&world.policies, &world.identities);
            let expected = reference::decide(policies, identities, &question);
            prop_assert_eq!(table.decide(&question), expected, "{:#?}", question);
            let rules = reference::explain(policies, identities, &question);
            prop_assert_eq!(&table.explain(&question), &rules, "{:#?}", question);
            // Whatever decided is among what matched, and has a name.
            if let Some(rule) = expected.rule {
                prop_assert!(rules.contains(&rule));
                let name = table.rule(rule).unwrap();
                prop_assert_eq!(name.direction, question.direction);
            }
        }
        Ok(())
    }

    const WORLDS: u32 = 5000;

    // A million questions a run.
    const _: () = assert!(WORLDS as usize * QUESTIONS >= 1_000_000);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(WORLDS))]
        #[test]
        fn the_table_answers_as_the_reference_does(world in world()) {
            check(&world)?;
        }
    }

    #[test]
    fn random_worlds_meet_every_way_to_decide() {
        let mut runner = TestRunner::deterministic();
        let mut ways: BTreeMap<[bool; 5], BTreeMap<Option<bool>, u32>> = BTreeMap::new();
        for _ in 0..400 {
            let world = world().new_tree(&mut runner).unwrap().current();
            let table = PolicyTable::compile(&world.policies, &world.identities);
            for question in world.questions() {
                let decision = table.decide(&question);
                let whole = decision
                    .rule
                    .map(|rule| table.rule(rule).unwrap().index.is_none());
                let way = [
                    decision.is_allowed(),
                    decision.isolated,
                    decision.refused,
                    decision.unknown,
                    decision.audited,
                ];
                *ways.entry(way).or_default().entry(whole).or_default() += 1;
            }
        }
        let expected = [
            ("", None),          // allowed by default
            ("", Some(false)),   // by an entry
            ("i", Some(false)),  // by an entry, against isolation
            ("d", Some(false)),  // denied by an entry
            ("di", Some(false)), // by an entry, although isolated too
            ("di", Some(true)),  // by isolation
            ("dr", Some(true)),  // by refusal alone
            ("dir", Some(true)), // by refusal
            ("du", None),        // nobody knows the peer
            ("diu", None),       // nobody knows the peer, isolated
            ("a", Some(false)),  // would be denied by an entry
            ("ia", Some(false)), // by an entry, although isolated too
            ("ia", Some(true)),  // by isolation
            ("ra", Some(true)),  // by refusal alone
            ("ira", Some(true)), // by refusal
        ];
        for (letters, whole) in expected {
            let has = |letter| letters.contains(letter);
            let way = [!has('d'), has('i'), has('r'), has('u'), has('a')];
            let count = ways.get(&way).and_then(|by| by.get(&whole));
            assert!(
                count.is_some_and(|n| *n >= 20),
                "{letters} {whole:?}: {ways:?}"
            );
        }
        let all: usize = ways.values().map(BTreeMap::len).sum();
        assert_eq!(all, expected.len(), "{ways:?}");
    }
}
