//! What crosses between the workers of a node: bounded, in order, and a little late.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use datapath::Crossing;
use packet::{Buf, Time};

use crate::random::Random;

/// Buffers that may be on their way to one worker; of more its arena must make others.
const HOMEWARD: usize = 24;

/// All rings of one node.
#[derive(Debug)]
pub struct Rings {
    random: Random,
    /// Packets that one ring holds.
    capacity: usize,
    /// By from and to.
    crossings: BTreeMap<(u16, u16), VecDeque<(Time, Crossing)>>,
    /// By to.
    homeward: BTreeMap<u16, VecDeque<(Time, Buf)>>,
    /// Segments that were in rings when the worker at their end died.
    pub lost: u64,
}

impl Rings {
    /// Empty rings of a size that is drawn.
    pub fn new(mut random: Random) -> Rings {
        Rings {
            capacity: random.pick(&[2, 8, 32, 64]),
            crossings: BTreeMap::new(),
            homeward: BTreeMap::new(),
            lost: 0,
            random,
        }
    }

    /// Puts a packet into the ring from one worker to another, which gives it back if it is full.
    // By value, as a worker's.
    #[allow(clippy::result_large_err)]
    pub fn push(
        &mut self,
        now: Time,
        (from, to): (u16, u16),
        crossing: Crossing,
    ) -> Result<(), Crossing> {
        assert_ne!(from, to, "a worker leaves a packet to itself");
        let late = Duration::from_micros(self.random.pick(&[0, 1, 5, 400]));
        let ring = self.crossings.entry((from, to)).or_default();
        if ring.len() == self.capacity {
            return Err(crossing);
        }
        let behind = ring.back().map_or(now, |(at, _)| *at);
        ring.push_back(((now + late).max(behind), crossing));
        Ok(())
    }

    /// Sends a buffer home; without room it is dropped.
    pub fn send_home(&mut self, now: Time, buf: Buf) {
        let late = Duration::from_micros(self.random.pick(&[0, 1, 50]));
        let ring = self.homeward.entry(buf.home()).or_default();
        if ring.len() < HOMEWARD {
            ring.push_back((now + late, buf));
        }
    }

    /// The next packet that has come for a worker; which ring is read first is left to chance.
    pub fn take(&mut self, now: Time, to: u16) -> Option<Crossing> {
        let due = |ring: &VecDeque<(Time, Crossing)>| ring.front().is_some_and(|f| f.0 <= now);
        let rings = self.crossings.iter_mut();
        let mut ready: Vec<_> = rings
            .filter(|((_, end), ring)| *end == to && due(ring))
            .collect();
        if ready.is_empty() {
            return None;
        }
        let which = self.random.index(ready.len());
        ready[which].1.pop_front().map(|(_, crossing)| crossing)
    }

    /// The next buffer that has come home.
    pub fn take_home(&mut self, now: Time, to: u16) -> Option<Buf> {
        let ring = self.homeward.get_mut(&to)?;
        match ring.front() {
            Some((at, _)) if *at <= now => ring.pop_front().map(|(_, buf)| buf),
            _ => None,
        }
    }

    /// When the next packet comes for a worker. Buffers wake nobody.
    pub fn due(&self, to: u16) -> Option<Time> {
        let rings = self.crossings.iter().filter(|((_, end), _)| *end == to);
        rings.filter_map(|(_, ring)| Some(ring.front()?.0)).min()
    }

    /// What waits for a worker is gone with it.
    pub fn clear(&mut self, to: u16) {
        for ((_, end), ring) in &mut self.crossings {
            if *end == to {
                let gone = ring.drain(..).map(|(_, crossing)| crossing.segments());
                self.lost += gone.sum::<usize>() as u64;
            }
        }
        self.homeward.remove(&to);
    }

    /// Segments in all rings.
    pub fn segments(&self) -> u64 {
        let all = self.crossings.values().flatten();
        all.map(|(_, crossing)| crossing.segments() as u64).sum()
    }

    /// Buffers in all rings.
    pub fn buffers(&self) -> usize {
        let crossings = self.crossings.values().map(VecDeque::len);
        let homeward = self.homeward.values().map(VecDeque::len);
        crossings.chain(homeward).sum()
    }
}
