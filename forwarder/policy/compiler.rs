//! From policies and identities to a [`PolicyTable`], again and again: a change costs what it
//! touches. What is the same as last time, or was said in the same words, is not made again.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::compile::{DIRECTIONS, Piece};
use crate::members::Members;
use crate::sets::Sets;
use crate::table::{Part, PolicyTable, Program};
use crate::{Direction, Identity, Labels, Policy};

/// Makes tables, and remembers what the last one was made of.
#[derive(Debug, Default)]
pub struct Compiler {
    sets: Sets,
    /// In the order in which they were given.
    pieces: Vec<Piece>,
    piece_places: Places,
    /// Ascending.
    known: Vec<Known>,
    known_places: Places,
    classes: Classes,
}

/// An identity that has labels.
#[derive(Debug)]
struct Known {
    identity: Identity,
    labels: Labels,
    /// Its own in all sets, as long as it is known.
    place: u32,
    /// By direction: its program.
    programs: [u32; 2],
}

impl Compiler {
    /// The table of these policies over these identities, which come ascending, each once; labels
    /// of reserved identities are ignored.
    ///
    /// A policy is the same as before if it is the same allocation. Where policies come in the order
    /// of their names only those that are not the same are compiled, and whom they govern is looked
    /// at again. In another order all is right, too, but more may be compiled.
    pub fn update(
        &mut self,
        policies: &[Arc<Policy>],
        identities: &[(Identity, Labels)],
    ) -> PolicyTable {
        let (kept, gone) = self.sort_out(policies);
        let mut touched = self.identify(identities);
        for (policy, kept) in policies.iter().zip(kept) {
            let piece = kept.unwrap_or_else(|| {
                let place = self.piece_places.take();
                let piece = Piece::of(policy.clone(), place, &mut self.sets);
                touched.add(self.sets.members(piece.subject));
                piece
            });
            self.pieces.push(piece);
        }
        for piece in &gone {
            touched.add(self.sets.members(piece.subject));
        }
        self.classify(&touched);
        for piece in gone {
            piece.leave(&mut self.sets);
            // Not before: until now a class could be named by it.
            self.piece_places.give_back(piece.place);
        }
        self.table()
    }

    /// For each policy its piece, if it was compiled before; and the pieces that are left over.
    fn sort_out(&mut self, policies: &[Arc<Policy>]) -> (Vec<Option<Piece>>, Vec<Piece>) {
        let mut old = core::mem::take(&mut self.pieces).into_iter().peekable();
        let mut gone = Vec::new();
        let mut kept = Vec::with_capacity(policies.len());
        for policy in policies {
            let is_same = |piece: &Piece| Arc::ptr_eq(&piece.policy, policy);
            let is_over = |piece: &Piece| !is_same(piece) && piece.policy.name <= policy.name;
            while let Some(piece) = old.next_if(is_over) {
                gone.push(piece);
            }
            kept.push(old.next_if(is_same));
        }
        gone.extend(old);
        (kept, gone)
    }

    /// Takes notice of who comes and goes; returns who is new.
    fn identify(&mut self, identities: &[(Identity, Labels)]) -> Members {
        let mut touched = Members::default();
        let mut old = core::mem::take(&mut self.known).into_iter().peekable();
        let labelled = identities.iter().filter(|(i, _)| !i.is_reserved());
        for (identity, labels) in labelled {
            let is_over = |known: &Known| {
                known.identity < *identity || known.identity == *identity && known.labels != *labels
            };
            while let Some(known) = old.next_if(is_over) {
                self.forget(&known);
            }
            let known = old.next_if(|known| known.identity == *identity);
            let known = known.unwrap_or_else(|| {
                let place = self.known_places.take();
                self.sets.insert(place, labels);
                touched.insert(place);
                Known {
                    identity: *identity,
                    labels: labels.clone(),
                    place,
                    programs: [Classes::UNGOVERNED; 2],
                }
            });
            self.known.push(known);
        }
        for known in old {
            self.forget(&known);
        }
        touched
    }

    fn forget(&mut self, known: &Known) {
        self.sets.remove(known.place, &known.labels);
        self.known_places.give_back(known.place);
        for class in known.programs {
            self.classes.leave(class);
        }
    }

    /// Finds out anew by what these identities are governed.
    fn classify(&mut self, touched: &Members) {
        // By place: all that govern somebody. A look at each policy, not at each for everybody.
        let mut governing: Vec<Vec<&Piece>> = vec![Vec::new(); self.known_places.count as usize];
        for piece in &self.pieces {
            for place in self.sets.members(piece.subject).common(touched) {
                governing[place as usize].push(piece);
            }
        }
        let touched = |known: &&mut Known| touched.contains(known.place);
        for known in self.known.iter_mut().filter(touched) {
            let governing = governing[known.place as usize].iter().copied();
            for direction in DIRECTIONS {
                let governs = |piece: &&Piece| piece.governs[direction as usize];
                let governing: Vec<&Piece> = governing.clone().filter(governs).collect();
                let class = &mut known.programs[direction as usize];
                let old = core::mem::replace(class, self.classes.enter(direction, &governing));
                self.classes.leave(old);
            }
        }
    }

    fn table(&self) -> PolicyTable {
        let assigned = |direction: usize| {
            let known = self.known.iter();
            known.map(|known| known.programs[direction]).collect()
        };
        let mut firsts = vec![0; self.piece_places.count as usize];
        let mut rolls = Vec::with_capacity(self.pieces.len());
        let mut next = 0;
        for piece in &self.pieces {
            firsts[piece.place as usize] = next;
            rolls.push((next, piece.roll.clone()));
            next += piece.roll.names.len() as u32;
        }
        PolicyTable {
            identities: self.known.iter().map(|known| known.identity).collect(),
            places: self.known.iter().map(|known| known.place).collect(),
            assigned: [assigned(0), assigned(1)],
            programs: self.classes.programs.clone(),
            sets: self.sets.all().to_vec(),
            firsts,
            rolls,
        }
    }
}

/// Numbers that are given away one at a time and come back.
#[derive(Debug, Default)]
struct Places {
    free: Vec<u32>,
    count: u32,
}

impl Places {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        })
    }

    fn give_back(&mut self, place: u32) {
        self.free.push(place);
    }
}

/// Identities that the same policies govern, in one direction, share a program.
#[derive(Debug)]
struct Classes {
    /// The program's number, by direction and the places of the policies in their order.
    numbers: BTreeMap<(Direction, Vec<u32>), u32>,
    /// The first one is empty.
    programs: Vec<Arc<Program>>,
    /// By number: whose program it is, and how many have it.
    uses: Vec<(Direction, Vec<u32>, usize)>,
    free: Vec<u32>,
}

impl Classes {
    /// Of those whom no policy governs.
    const UNGOVERNED: u32 = 0;

    /// The program of one more whom these policies govern.
    fn enter(&mut self, direction: Direction, governing: &[&Piece]) -> u32 {
        if governing.is_empty() {
            return Classes::UNGOVERNED;
        }
        let places: Vec<u32> = governing.iter().map(|piece| piece.place).collect();
        let class = (direction, places);
        if let Some(&number) = self.numbers.get(&class) {
            self.uses[number as usize].2 += 1;
            return number;
        }
        let program = Arc::new(program(governing, direction));
        let uses = (direction, class.1.clone(), 1);
        let number = match self.free.pop() {
            Some(number) => {
                self.programs[number as usize] = program;
                self.uses[number as usize] = uses;
                number
            }
            None => {
                self.programs.push(program);
                self.uses.push(uses);
                self.programs.len() as u32 - 1
            }
        };
        self.numbers.insert(class, number);
        number
    }

    /// One who had a program does not any more.
    fn leave(&mut self, number: u32) {
        if number == Classes::UNGOVERNED {
            return;
        }
        let (direction, places, users) = &mut self.uses[number as usize];
        *users -= 1;
        if *users == 0 {
            let class = (*direction, core::mem::take(places));
            self.numbers.remove(&class);
            self.programs[number as usize] = self.programs[0].clone();
            self.free.push(number);
        }
    }
}

impl Default for Classes {
    fn default() -> Classes {
        Classes {
            numbers: BTreeMap::new(),
            programs: vec![Arc::default()],
            uses: vec![(Direction::Ingress, Vec::new(), 0)],
            free: Vec::new(),
        }
    }
}

/// The program of those whom these policies govern, which come in their order.
fn program(governing: &[&Piece], direction: Direction) -> Program {
    let mut program = Program::default();
    for piece in governing {
        let whole = Part {
            policy: piece.place,
            number: direction as u32,
            audit: piece.policy.audit,
        };
        program.audit |= piece.policy.audit;
        if piece.policy.refused.is_some() {
            program.refusing.push(whole);
        }
        if piece.policy.isolates.has(direction) {
            program.isolating.push(whole);
        }
        for (entry, rule) in piece.policy.entries.iter().zip(&piece.rules) {
            if entry.direction == direction {
                program.tiers[entry.tier as usize].push(rule.clone());
            }
        }
    }
    for tier in &mut program.tiers {
        // Stable: of equals the earlier policy's and then the earlier entry is asked first.
        tier.sort_by_key(|rule| (rule.priority, rule.verdict));
    }
    program
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::world;
    use crate::reference;

    #[test]
    fn what_was_counted_stays_with_a_policy_that_others_change_around() {
        let named = |name: &str, refused: Option<&str>| {
            Arc::new(Policy {
                name: crate::PolicyName {
                    name: name.into(),
                    ..Default::default()
                },
                refused: refused.map(Into::into),
                ..Policy::default()
            })
        };
        let mut compiler = Compiler::default();
        let other = named("b", None);
        let table = compiler.update(&[named("a", None), other.clone()], &[]);
        for rule in [1, 2, 2] {
            table.count(crate::RuleId(rule));
        }
        table.count(crate::RuleId(99));
        let counts = |table: &PolicyTable| -> Vec<u64> { table.rules().map(|(_, n)| n).collect() };
        assert_eq!(counts(&table), [0, 1, 2, 0]);
        let changed = [named("a", Some("it cannot be")), other];
        let table = compiler.update(&changed, &[]);
        assert_eq!(counts(&table), [0, 0, 2, 0]);
        let table = compiler.update(&changed[1..], &[]);
        assert_eq!(counts(&table), [2, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Each step takes some of the world's policies and identities.
        #[test]
        fn a_table_that_was_changed_often_answers_as_the_reference_does(
            world in world(),
            named in any::<bool>(),
            steps in vec((any::<u8>(), any::<u16>()), 1..8),
        ) {
            let mut policies: Vec<Arc<Policy>> = world.policies.iter().cloned().map(Arc::new).collect();
            if named {
                for (number, policy) in policies.iter_mut().enumerate() {
                    Arc::make_mut(policy).name.name = format!("{number}");
                }
            }
            let mut compiler = Compiler::default();
            for (some_policies, some_identities) in steps {
                let some = policies.iter().enumerate();
                let some = some.filter(|(at, _)| some_policies >> at & 1 == 1);
                let some: Vec<Arc<Policy>> = some.map(|(_, policy)| policy.clone()).collect();
                let identities = world.identities.iter().enumerate();
                let identities = identities.filter(|(at, _)| some_identities >> at & 1 == 1);
                let identities: BTreeMap<Identity, Labels> = identities.map(|(_, i)| i.clone()).collect();
                let identities: Vec<(Identity, Labels)> = identities.into_iter().collect();
                let table = compiler.update(&some, &identities);
                let some: Vec<Policy> = some.iter().map(|policy| (**policy).clone()).collect();
                for question in world.questions() {
                    let expected = reference::decide(&some, &identities, &question);
                    prop_assert_eq!(table.decide(&question), expected, "{:#?}", question);
                    let rules = reference::explain(&some, &identities, &question);
                    prop_assert_eq!(&table.explain(&question), &rules, "{:#?}", question);
                    for rule in rules {
                        prop_assert_eq!(table.rule(rule).map(|r| r.direction), Some(question.direction));
                    }
                }
            }
        }
    }
}
