//! Whom each choice of labels means, kept while identities come and go.
//!
//! Which identities have this label, with this value, is known of all of them, so that a new choice
//! costs set operations and not a look at every identity's labels; and which choices ask for that
//! label, so that a new identity costs a look at those only.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::members::Members;
use crate::{Labels, Requirement, Selector};

/// All choices that policies make; identities are known by their places.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    /// Places that somebody has.
    present: Members,
    /// Who has a label.
    who: ByLabel,
    /// Which choices can only mean somebody who has a label.
    asking: ByLabel,
    /// Choices that can mean somebody without any particular label.
    asking_all: Vec<u32>,
    numbers: BTreeMap<Arc<[Selector]>, u32>,
    /// By number: whom a choice means.
    members: Vec<Members>,
    /// By number: the choice, and how many use it; none of a number that is free.
    choices: Vec<Option<Choice>>,
    free: Vec<u32>,
}

/// Who is selected by one of these.
#[derive(Debug)]
struct Choice {
    selectors: Arc<[Selector]>,
    users: usize,
}

impl Sets {
    /// Somebody with these labels comes to a free place.
    pub(crate) fn insert(&mut self, place: u32, labels: &Labels) {
        self.present.insert(place);
        for (key, value) in labels.iter() {
            self.who.add(key, value, place);
        }
        self.for_each_meaning(labels, |members| members.insert(place));
    }

    /// Who had these labels leaves a place.
    pub(crate) fn remove(&mut self, place: u32, labels: &Labels) {
        self.present.take(place);
        for (key, value) in labels.iter() {
            self.who.take(key, value, place);
        }
        self.for_each_meaning(labels, |members| members.take(place));
    }

    /// The number of a choice, for one more who uses it.
    pub(crate) fn enter(&mut self, selectors: Vec<Selector>) -> u32 {
        if let Some(&number) = self.numbers.get(selectors.as_slice()) {
            if let Some(choice) = &mut self.choices[number as usize] {
                choice.users += 1;
            }
            return number;
        }
        let selectors: Arc<[Selector]> = selectors.into();
        let mut members = Members::default();
        for selector in selectors.iter() {
            members.add(&self.select(selector));
        }
        let choice = Choice {
            selectors: selectors.clone(),
            users: 1,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.members[number as usize] = members;
                self.choices[number as usize] = Some(choice);
                number
            }
            None => {
                self.members.push(members);
                self.choices.push(Some(choice));
                self.members.len() as u32 - 1
            }
        };
        for selector in selectors.iter() {
            match wanted(selector) {
                Some((key, values)) => {
                    for value in values {
                        self.asking.add(key, value, number);
                    }
                }
                None => self.asking_all.push(number),
            }
        }
        self.numbers.insert(selectors, number);
        number
    }

    /// One who used a choice does not any more.
    pub(crate) fn leave(&mut self, number: u32) {
        let place = &mut self.choices[number as usize];
        let Some(choice) = place.as_mut() else {
            return;
        };
        choice.users -= 1;
        if choice.users > 0 {
            return;
        }
        if let Some(choice) = place.take() {
            for selector in choice.selectors.iter() {
                match wanted(selector) {
                    Some((key, values)) => {
                        for value in values {
                            self.asking.take(key, value, number);
                        }
                    }
                    None => self.asking_all.retain(|other| *other != number),
                }
            }
            self.numbers.remove(&choice.selectors);
        }
        self.members[number as usize] = Members::default();
        self.free.push(number);
    }

    /// Whom a choice means.
    pub(crate) fn members(&self, number: u32) -> &Members {
        &self.members[number as usize]
    }

    /// By number: whom the choices mean.
    pub(crate) fn all(&self) -> &[Members] {
        &self.members
    }

    /// Does something to every choice that means who has these labels, perhaps twice.
    fn for_each_meaning(&mut self, labels: &Labels, mut change: impl FnMut(&mut Members)) {
        let asked = labels
            .iter()
            .flat_map(|(key, value)| self.asking.with(key, value));
        for &number in asked.chain(&self.asking_all) {
            let Some(choice) = &self.choices[number as usize] else {
                continue;
            };
            if choice.selectors.iter().any(|s| s.matches(labels)) {
                change(&mut self.members[number as usize]);
            }
        }
    }

    fn select(&self, selector: &Selector) -> Members {
        let mut selected = self.present.clone();
        for requirement in &selector.requirements {
            match requirement {
                Requirement::In(key, values) => selected.keep(&self.with_one_of(key, values)),
                Requirement::NotIn(key, values) => selected.remove(&self.with_one_of(key, values)),
                Requirement::Exists(key) => selected.keep(&self.who.all_with(key)),
                Requirement::DoesNotExist(key) => selected.remove(&self.who.all_with(key)),
            }
        }
        selected
    }

    fn with_one_of(&self, key: &str, values: &[String]) -> Members {
        let places = values.iter().flat_map(|value| self.who.with(key, value));
        places.copied().collect()
    }
}

/// The first label that a selector wants with certain values: who has none of them is not meant.
fn wanted(selector: &Selector) -> Option<(&str, &[String])> {
    let mut requirements = selector.requirements.iter();
    requirements.find_map(|requirement| match requirement {
        Requirement::In(key, values) => Some((key.as_str(), values.as_slice())),
        _ => None,
    })
}

/// Numbers by a label's key and value, in no order.
#[derive(Debug, Default)]
struct ByLabel(BTreeMap<String, BTreeMap<String, Vec<u32>>>);

impl ByLabel {
    fn add(&mut self, key: &str, value: &str, number: u32) {
        // Nearly always both are known, and nothing has to be copied.
        if !self.0.contains_key(key) {
            self.0.insert(key.into(), BTreeMap::new());
        }
        let Some(values) = self.0.get_mut(key) else {
            return;
        };
        match values.get_mut(value) {
            Some(numbers) => numbers.push(number),
            None => {
                values.insert(value.into(), Vec::from([number]));
            }
        }
    }

    fn take(&mut self, key: &str, value: &str, number: u32) {
        let Some(values) = self.0.get_mut(key) else {
            return;
        };
        if let Some(numbers) = values.get_mut(value) {
            if let Some(at) = numbers.iter().position(|other| *other == number) {
                numbers.swap_remove(at);
            }
            if numbers.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.0.remove(key);
        }
    }

    fn with(&self, key: &str, value: &str) -> &[u32] {
        let numbers = self.0.get(key).and_then(|values| values.get(value));
        numbers.map_or(&[], Vec::as_slice)
    }

    fn all_with(&self, key: &str) -> Members {
        let values = self.0.get(key).into_iter().flat_map(BTreeMap::values);
        values.flatten().copied().collect()
    }
}
