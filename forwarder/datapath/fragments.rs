//! The datagrams whose fragments are passing: what their first fragment was, so that the later ones
//! are judged as it is, and which of their bytes have passed, so that none passes twice.
//!
//! A flood of identifiers takes a share that is fixed, and of that only its own source's: each
//! source finds its datagrams in one set of a few places.

use alloc::vec::Vec;
use core::time::Duration;

use packet::{Address, Flow, Fragment, Header, Kind, Piece, Time};

use crate::{Key, Reason, Side};

/// Sets of places, and places of each: with about 140 bytes for each place, 280 KiB for a worker.
const SETS: usize = 128;
const PLACES: usize = 16;
/// Parts of one datagram with gaps between them. Its sender sends it in order, so that each gap is
/// of a fragment that was lost or overtaken.
const RUNS: usize = 8;
/// How long a datagram that is not complete is remembered: as Linux waits for what is missing
/// (`net.ipv4.ipfrag_time`). Longer, and IPv4's 16 bits of identification come round (RFC 4963 §2).
const PATIENCE: Duration = Duration::from_secs(30);

/// The datagrams under way.
#[derive(Debug)]
pub(crate) struct Fragments {
    places: Vec<Option<Datagram>>,
    /// Rises with each fragment: which datagram is the oldest, time does not say, which is a batch's.
    noted: u32,
    secret: (u64, u64),
}

/// What is common to the fragments of a datagram, where they are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    source: Address,
    destination: Address,
    identifier: u32,
    side: Side,
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    name: Name,
    number: u32,
    since: Time,
    /// Flow and kind of the first fragment, once it has come.
    first: Option<(Flow, Kind)>,
    /// What has passed, as begin and end in bytes; none overlaps or touches another.
    runs: [(u16, u16); RUNS],
    count: u8,
    /// Where it ends, once that is known.
    end: Option<u16>,
    /// Two of its fragments overlap, or do not agree about its end: no more of it passes.
    spoilt: bool,
}

impl Fragments {
    /// A table whose memory is all reserved here; `used` is whether anybody will ask it.
    pub(crate) fn new(used: bool, secret: (u64, u64)) -> Fragments {
        let places = if used { SETS * PLACES } else { 0 };
        Fragments {
            places: core::iter::repeat_n(None, places).collect(),
            noted: 0,
            secret,
        }
    }

    /// Notes that a fragment is about to be judged, and says what it is to be judged by: the first
    /// one's flow and kind, where that has come, or what it is itself.
    ///
    /// # Errors
    /// It must not pass: it came twice, overlaps another (RFC 5722 §4, RFC 8200 §4.5; IPv4's as
    /// well, as Linux holds it since 4.19), or leaves too many gaps. Of a datagram with an
    /// overlap nothing passes any more.
    #[cold]
    pub(crate) fn note(
        &mut self,
        header: &Header,
        piece: Piece,
        side: Side,
        now: Time,
    ) -> Result<Header, Reason> {
        let name = Name {
            source: header.flow.source,
            destination: header.flow.destination,
            identifier: piece.identifier,
            side,
        };
        self.noted = self.noted.wrapping_add(1);
        let number = self.noted;
        let Some(place) = self.place(&name, now) else {
            return Ok(*header);
        };
        let datagram = place.get_or_insert_with(|| Datagram::new(name, number, now));
        datagram.add(piece)?;
        if header.fragment == Fragment::First {
            datagram.first = Some((header.flow, header.kind));
        }
        let (flow, kind) = datagram.first.unwrap_or((header.flow, header.kind));
        if datagram.is_complete() {
            // The identifier may be used again at once.
            *place = None;
        }
        Ok(Header {
            flow,
            kind,
            ..*header
        })
    }

    /// Where a datagram is, or may be: its own place, a free one, or that of the oldest.
    fn place(&mut self, name: &Name, now: Time) -> Option<&mut Option<Datagram>> {
        let key = Key {
            flow: Flow {
                source: name.source,
                destination: Address::UNSPECIFIED,
                source_port: 0,
                destination_port: 0,
                protocol: 0,
            },
            side: name.side,
        };
        let set = (key.hash(self.secret) % SETS as u64) as usize;
        let places = self.places.get_mut(set * PLACES..)?.get_mut(..PLACES)?;
        for place in places.iter_mut() {
            if place.is_some_and(|d| now.since(d.since) >= PATIENCE) {
                *place = None;
            }
        }
        let is_own = |place: &Option<Datagram>| place.is_some_and(|d| d.name == *name);
        if let Some(own) = places.iter().position(is_own) {
            return places.get_mut(own);
        }
        let noted = self.noted;
        let age =
            |place: &Option<Datagram>| place.map_or(u32::MAX, |d| noted.wrapping_sub(d.number));
        let place = places.iter_mut().max_by_key(|place| age(place))?;
        *place = None;
        Some(place)
    }
}

impl Datagram {
    fn new(name: Name, number: u32, since: Time) -> Datagram {
        Datagram {
            name,
            number,
            since,
            first: None,
            runs: [(0, 0); RUNS],
            count: 0,
            end: None,
            spoilt: false,
        }
    }

    fn runs(&self) -> &[(u16, u16)] {
        &self.runs[..usize::from(self.count)]
    }

    /// Adds the bytes of a fragment.
    fn add(&mut self, piece: Piece) -> Result<(), Reason> {
        let Piece { start, end, .. } = piece;
        if self.spoilt {
            return Err(Reason::FragmentOverlap);
        }
        // RFC 8200 §4.5 lets a repetition be dropped alone: the network may make one.
        if self.runs().iter().any(|run| run.0 <= start && end <= run.1) {
            return Err(Reason::FragmentOverlap);
        }
        let overlaps = self.runs().iter().any(|run| start < run.1 && run.0 < end);
        let passes_end = self.end.is_some_and(|known| known < end);
        let ends_before = piece.last && self.runs().iter().any(|run| end < run.1);
        if overlaps || passes_end || ends_before || (piece.last && self.end.is_some()) {
            self.spoilt = true;
            return Err(Reason::FragmentOverlap);
        }
        if !self.join(start, end) {
            self.spoilt = true;
            return Err(Reason::FragmentGaps);
        }
        if piece.last {
            self.end = Some(end);
        }
        Ok(())
    }

    /// Joins new bytes to the runs that they touch; `false` where there is no room for one more.
    fn join(&mut self, mut start: u16, mut end: u16) -> bool {
        let mut number = 0;
        while number < usize::from(self.count) {
            let run = self.runs[number];
            if run.1 == start || run.0 == end {
                (start, end) = (start.min(run.0), end.max(run.1));
                self.count -= 1;
                self.runs[number] = self.runs[usize::from(self.count)];
            } else {
                number += 1;
            }
        }
        let room = usize::from(self.count) < RUNS;
        if room {
            self.runs[usize::from(self.count)] = (start, end);
            self.count += 1;
        }
        room
    }

    fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.runs() == [(0, end)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Reason = Reason::FragmentOverlap;

    fn header(source: u8, first: bool) -> Header {
        Header {
            flow: Flow {
                source: Address::from_v4([10, 0, 0, source]),
                destination: Address::from_v4([10, 0, 1, 1]),
                source_port: if first { 7 } else { 0 },
                destination_port: if first { 53 } else { 0 },
                protocol: 17,
            },
            kind: if first { Kind::Udp } else { Kind::Unreadable },
            fragment: if first {
                Fragment::First
            } else {
                Fragment::Later
            },
            length: 28,
            transport: 20,
            payload: 20,
            ttl: 64,
            traffic_class: 0,
            tcp_flags: 0,
            dont_fragment: false,
        }
    }

    struct Bench {
        table: Fragments,
        now: Time,
    }

    impl Bench {
        fn new() -> Bench {
            Bench {
                table: Fragments::new(true, (1, 2)),
                now: Time::ZERO,
            }
        }

        /// A fragment of source 1 from `start` to `end`, each in units of eight bytes.
        fn note(
            &mut self,
            identifier: u32,
            start: u16,
            end: u16,
            more: bool,
        ) -> Result<u16, Reason> {
            self.note_from(1, identifier, (start, end), more)
        }

        fn note_from(
            &mut self,
            source: u8,
            identifier: u32,
            (start, end): (u16, u16),
            more: bool,
        ) -> Result<u16, Reason> {
            let piece = Piece {
                identifier,
                start: start * 8,
                end: end * 8,
                last: !more,
            };
            let header = header(source, start == 0);
            let judged = self.table.note(&header, piece, Side::Out, self.now)?;
            Ok(judged.flow.destination_port)
        }

        fn known(&self) -> usize {
            self.table.places.iter().flatten().count()
        }
    }

    #[test]
    fn a_later_fragment_is_judged_as_its_first_and_alone_before_that_has_come() {
        let mut bench = Bench::new();
        assert_eq!(bench.note(1, 2, 4, true), Ok(0));
        assert_eq!(bench.note(1, 0, 2, true), Ok(53));
        assert_eq!(bench.note(1, 4, 5, true), Ok(53));
        assert_eq!(bench.note(2, 4, 5, true), Ok(0), "another datagram");
        assert_eq!(bench.note(1, 5, 6, false), Ok(53));
        assert_eq!(bench.known(), 1, "what is complete is forgotten");
        assert_eq!(
            bench.note(1, 0, 2, true),
            Ok(53),
            "the same identifier again"
        );
    }

    #[test]
    fn an_overlap_spoils_its_datagram_and_a_repetition_is_only_not_repeated() {
        for (start, end, more) in [(3, 5, true), (1, 3, true), (0, 3, true), (1, 2, false)] {
            let mut bench = Bench::new();
            assert_eq!(bench.note(1, 0, 2, true), Ok(53));
            assert_eq!(bench.note(1, 4, 6, false), Ok(53));
            assert_eq!(bench.note(1, 4, 6, false), Err(ALL), "it came twice");
            let spoils = (start, end) != (1, 2);
            assert_eq!(bench.note(1, start, end, more), Err(ALL));
            let rest = bench.note(1, 2, 4, true);
            assert_eq!(rest.is_err(), spoils, "{start} {end}");
        }
    }

    #[test]
    fn a_datagram_has_one_end() {
        for (start, end, more) in [(6, 7, true), (6, 7, false), (1, 2, false)] {
            let mut bench = Bench::new();
            assert_eq!(bench.note(1, 4, 6, false), Ok(0));
            assert_eq!(bench.note(1, start, end, more), Err(ALL), "{start} {end}");
            assert_eq!(bench.note(1, 0, 4, true), Err(ALL));
        }
        let mut bench = Bench::new();
        assert_eq!(bench.note(1, 4, 6, true), Ok(0));
        assert_eq!(
            bench.note(1, 2, 3, false),
            Err(ALL),
            "more was there already"
        );
    }

    #[test]
    fn the_gaps_of_a_datagram_are_bounded() {
        let mut bench = Bench::new();
        for number in 0..RUNS as u16 {
            assert!(bench.note(1, number * 2, number * 2 + 1, true).is_ok());
        }
        assert_eq!(bench.note(1, 100, 101, true), Err(Reason::FragmentGaps));
        assert_eq!(bench.note(1, 1, 2, true), Err(ALL));
    }

    #[test]
    fn a_flood_of_identifiers_takes_only_what_is_its_own_sources() {
        let mut bench = Bench::new();
        // A source of another set.
        let set = |source: u8, bench: &mut Bench| {
            bench.table.places.fill(None);
            let _ = bench.note_from(source, 1, (0, 2), true);
            bench
                .table
                .places
                .iter()
                .position(Option::is_some)
                .expect("one")
                / PLACES
        };
        let flooded = set(1, &mut bench);
        let other = (2..255)
            .find(|s| set(*s, &mut bench) != flooded)
            .expect("one");
        bench.table.places.fill(None);
        assert_eq!(bench.note_from(other, 1, (0, 2), true), Ok(53));
        for identifier in 0..10_000 {
            assert_eq!(bench.note(identifier, 0, 2, true), Ok(53));
            assert!(bench.known() <= PLACES + 1);
        }
        assert_eq!(bench.note_from(other, 1, (2, 3), true), Ok(53));
        assert_eq!(bench.note(9_999, 2, 3, true), Ok(53), "the newest stay");
        assert_eq!(bench.note(1, 2, 3, true), Ok(0));
    }

    #[test]
    fn what_never_becomes_complete_is_forgotten() {
        let mut bench = Bench::new();
        assert_eq!(bench.note(1, 0, 2, true), Ok(53));
        assert_eq!(bench.note(1, 1, 3, true), Err(ALL));
        bench.now = Time::ZERO + PATIENCE;
        assert_eq!(bench.note(1, 0, 2, true), Ok(53));
    }

    proptest! {
        #[test]
        fn no_byte_of_a_datagram_passes_twice(
            pieces in prop::collection::vec((0..40_u16, 1..6_u16, any::<bool>()), 1..40),
        ) {
            let mut bench = Bench::new();
            let mut passed: Vec<u16> = Vec::new();
            for (start, length, more) in pieces {
                if bench.note(1, start, start + length, more || start % 3 > 0).is_ok() {
                    let new: Vec<u16> = (start..start + length).collect();
                    prop_assert!(new.iter().all(|unit| !passed.contains(unit)));
                    passed.extend(new);
                }
                if bench.known() == 0 {
                    passed.clear();
                }
            }
        }
    }
}
