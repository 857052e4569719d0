//! RFC 1858, RFC 3128, RFC 5722, RFC 7112, RFC 8200 §4.5: fragments follow their first, and none
//! writes over another.

use datapath::Reason;
use policy::Direction;

use crate::judged::only;
use crate::robust::bytes::{FRAGMENT, Ip, SYN, TCP, UDP, later_by, patched, tcp, udp};
use crate::robust::stage::{End, Ends, Stage, Way};
use crate::robust::table::{Outcome, Row, all_ends, check, only_dns_and_web};
use crate::world::{SERVICE, World, pod, read};

pub(crate) const LISTS: [crate::robust::table::List; 4] = [following, tiny, overlapping, lengths];

#[test]
fn a_fragment_is_judged_as_its_first() {
    check(following);
}

#[test]
fn a_first_fragment_has_all_headers_and_a_later_one_none() {
    check(tiny);
}

#[test]
fn of_a_datagram_whose_fragments_overlap_nothing_more_passes() {
    check(overlapping);
}

#[test]
fn a_fragment_has_a_length_that_can_be() {
    check(lengths);
}

/// Fragments of `ip` with one identifier; `true` is the last.
fn pieces(row: Row, ip: &Ip, parts: &[(usize, usize, bool, Outcome)]) -> Row {
    parts.iter().fold(row, |row, (from, to, last, outcome)| {
        row.near(ip.fragment(77, *from, *to, !last), outcome.clone())
    })
}

fn dropped(counter: &'static str) -> Outcome {
    Outcome::Dropped(counter)
}

use Outcome::Forwarded;

pub(crate) fn following(ends: &Ends) -> Vec<Row> {
    let datagram = ends.udp(&[5; 92]);
    let other = ends.udp_of((5000, 54), &[5; 92]);
    let (begin, middle, end) = ((0, 48), (48, 96), (96, 100));
    let all = |outcome: Outcome| {
        [
            (begin.0, begin.1, false, outcome.clone()),
            (middle.0, middle.1, false, outcome.clone()),
            (end.0, end.1, true, outcome),
        ]
    };
    let denied = || dropped("ingressDenied");
    let rules = || only_dns_and_web(ends);
    let answer = ends.reverse().udp_of((53, 5000), &[5; 92]);
    let mut rows = vec![
        pieces(Row::new("in order"), &datagram, &all(Forwarded)),
        pieces(
            Row::new("in reverse order, where no rule names ports"),
            &datagram,
            &[
                (96, 100, true, Forwarded),
                (48, 96, false, Forwarded),
                (0, 48, false, Forwarded),
            ],
        ),
        pieces(
            Row::new("by a rule for the port").under(rules()),
            &datagram,
            &all(Forwarded),
        ),
        pieces(
            Row::new("against a rule for the port").under(rules()),
            &other,
            &all(denied()),
        ),
        pieces(
            Row::new("without its first, only a rule for any port would let it pass")
                .under(rules()),
            &datagram,
            &[
                (48, 96, false, denied()),
                (0, 48, false, Forwarded),
                (96, 100, true, Forwarded),
            ],
        ),
        pieces(
            pieces(
                Row::new("the same identifier again").under(rules()),
                &datagram,
                &all(Forwarded),
            ),
            &datagram,
            &all(Forwarded),
        ),
    ];
    // The answer to a small question is long, and nobody may begin anything with who asked.
    let mut row = Row::new("a long answer")
        .under(only(ends.near_name, "3-1", Direction::Ingress))
        .passes(&ends.udp(b"what?"));
    for (from, to, more) in [(0, 48, true), (48, 96, true), (96, 100, false)] {
        row = row.far(answer.fragment(9, from, to, more), Forwarded);
    }
    rows.push(row);
    rows
}

pub(crate) fn tiny(ends: &Ends) -> Vec<Row> {
    let syn = ends.tcp((1, 0), SYN, &[1; 40]);
    let with_options = ends
        .tcp((1, 0), SYN, &[1; 40])
        .with(|ip| ip.transport[12] = 0x80);
    let tiny = || dropped("tinyFragment");
    let mut rows = Vec::new();
    for length in [8, 16] {
        let row = Row::new("a first fragment with a part of the TCP header");
        rows.push(pieces(row, &syn, &[(0, length, false, tiny())]));
    }
    rows.extend([
        pieces(
            Row::new("TCP options that are not in it"),
            &with_options,
            &[(0, 24, false, tiny()), (0, 32, false, Forwarded)],
        ),
        pieces(Row::new("TCP at offset 1"), &syn, &[(8, 32, true, tiny())]),
        pieces(
            Row::new("the TCP header and no more"),
            &syn,
            &[(0, 24, false, Forwarded)],
        ),
        pieces(
            Row::new("SCTP with ports, but not all of its header"),
            &Ip::new(ends, 132, vec![1; 40]),
            &[(0, 8, false, tiny()), (0, 16, false, Forwarded)],
        ),
        pieces(
            Row::new("UDP's header and no more"),
            &ends.udp(&[1; 40]),
            &[(0, 8, false, Forwarded), (8, 48, true, Forwarded)],
        ),
    ]);
    if ends.v6 {
        let chain = [&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &syn.transport].concat();
        let chain = Ip::new(ends, 60, chain);
        let half = Ip::new(ends, 60, vec![TCP, 1, 1, 4, 0, 0, 0, 0]);
        rows.extend([
            pieces(
                Row::new("a chain that goes on in the next fragment"),
                &chain,
                &[
                    (0, 8, false, tiny()),
                    (0, 24, false, tiny()),
                    (0, 32, false, Forwarded),
                ],
            ),
            pieces(
                Row::new("half an extension header"),
                &half,
                &[(0, 8, false, tiny())],
            ),
        ]);
    }
    rows
}

pub(crate) fn overlapping(ends: &Ends) -> Vec<Row> {
    let datagram = ends.udp(&[5; 92]);
    let overlap = || dropped("fragmentOverlap");
    let rest = (48, 100, true, overlap());
    let mut rows = vec![
        pieces(
            Row::new("by one unit of eight bytes"),
            &datagram,
            &[
                (0, 48, false, Forwarded),
                (40, 96, false, overlap()),
                rest.clone(),
            ],
        ),
        pieces(
            Row::new("teardrop: an end within what was there"),
            &datagram,
            &[
                (0, 40, false, Forwarded),
                (24, 28, true, overlap()),
                (40, 100, true, Forwarded),
            ],
        ),
        pieces(
            Row::new("all of another, and more"),
            &datagram,
            &[
                (48, 96, false, Forwarded),
                (40, 100, true, overlap()),
                (0, 40, false, overlap()),
            ],
        ),
        pieces(
            Row::new("the first comes last and writes over others"),
            &datagram,
            &[
                (48, 96, false, Forwarded),
                (0, 56, false, overlap()),
                (96, 100, true, overlap()),
            ],
        ),
        pieces(
            Row::new("what comes twice passes once, and spoils nothing"),
            &datagram,
            &[
                (0, 48, false, Forwarded),
                (0, 48, false, overlap()),
                (48, 100, true, Forwarded),
            ],
        ),
        pieces(
            Row::new("a datagram with two ends"),
            &datagram,
            &[
                (48, 100, true, Forwarded),
                (96, 108, true, overlap()),
                (0, 48, false, overlap()),
            ],
        ),
        pieces(
            Row::new("an end before what was there"),
            &datagram,
            &[(48, 96, false, Forwarded), (40, 44, true, overlap())],
        ),
        pieces(
            Row::new("more than is kept account of"),
            &ends.udp(&[5; 400]),
            &(0..9)
                .map(|n| {
                    (
                        n * 32,
                        n * 32 + 16,
                        false,
                        if n < 8 {
                            Forwarded
                        } else {
                            dropped("fragmentGaps")
                        },
                    )
                })
                .collect::<Vec<_>>(),
        ),
    ];
    // Another datagram's fragments overlap nothing.
    let row = Row::new("the same place in another datagram");
    let row = row.near(datagram.fragment(1, 0, 48, true), Forwarded);
    rows.push(row.near(datagram.fragment(2, 40, 96, true), Forwarded));
    if ends.v6 {
        // RFC 7112 §1 and RFC 5722 §3: the ports that were judged would be written over, by what
        // says that it is something else.
        let syn = tcp((40_000, 80), (1, 0), SYN, &[]);
        let first = [&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &syn, &[0; 4]].concat();
        let first = Ip::new(ends, 60, first);
        let second = Ip::new(ends, 60, vec![0; 40]);
        rows.push(
            Row::new("ports that would be others behind an extension header")
                .under(only_dns_and_web(ends))
                .near(first.fragment(7, 0, 32, true), Forwarded)
                .near(second.fragment(7, 8, 40, false), overlap()),
        );
    }
    rows
}

pub(crate) fn lengths(ends: &Ends) -> Vec<Row> {
    let datagram = ends.udp(&[5; 92]);
    let length = || dropped("fragmentLength");
    let row = |says, part| pieces(Row::new(says), &datagram, &[part]);
    let mut rows = vec![
        row(
            "no multiple of eight, and more to come",
            (0, 44, false, length()),
        ),
        row("nothing in it", (48, 48, true, length())),
        row(
            "an end behind 65,535 bytes",
            (65_528, 65_552, true, dropped("fragmentEnd")),
        ),
        row("an end at 65,535 bytes", (65_528, 65_535, true, Forwarded)),
    ];
    if ends.v6 {
        let ip = ends
            .udp(b"datagram")
            .with(|ip| ip.extensions = vec![(FRAGMENT, vec![0; 7])]);
        let half = patched(ip.bytes()[..47].to_vec(), |bytes| bytes[5] = 7);
        rows.push(Row::new("half a fragment header").drops(half, "extensionHeader"));
    }
    rows
}

#[test]
fn a_flood_of_identifiers_is_bounded_and_leaves_the_others_alone() {
    for ends in all_ends() {
        let mut stage = Stage::new(&ends, vec![only_dns_and_web(&ends)]);
        let datagram = ends.udp(&[5; 92]);
        for identifier in 0..2_000 {
            let first = datagram.fragment(identifier, 0, 48, true);
            assert_eq!(stage.send(End::Near, &first).arrived.len(), 1);
        }
        // The newest is known still, and the oldest not.
        let rest = |identifier| datagram.fragment(identifier, 48, 100, false);
        assert_eq!(stage.send(End::Near, &rest(1_999)).arrived.len(), 1);
        assert!(stage.send(End::Near, &rest(0)).arrived.is_empty());
        assert!(stage.world.hosts[0].forwarder.flows() <= 4);
        assert_eq!(stage.world.hosts[0].forwarder.queued(), 0);
    }
}

#[test]
fn fragments_to_a_service_reach_the_backend_of_their_first_and_answers_come_from_the_service() {
    let mut world = World::new();
    world.backends = vec![(2, 1, true), (2, 2, true)];
    world.publish();
    let ends = Ends {
        far: SERVICE.to_vec(),
        ..Ends::new(Way::Across, false)
    };
    for port in 1..20 {
        let whole = Ip::new(&ends, UDP, udp((port, 80), &[5; 92]));
        world.send(1, &whole.fragment(port, 48, 96, true));
        assert_eq!(world.drops(1, Reason::ServiceFragment), u64::from(port));
        let mut backend = None;
        for (from, to) in [(0, 48), (96, 100)] {
            world.send(1, &whole.fragment(port, from, to, to < 100));
            let arrived = world.delivered(2);
            assert_eq!(arrived.len(), 1);
            let to = read_header(&arrived[0]).flow.destination;
            assert_eq!(*backend.get_or_insert(to), to);
        }
        let backend = backend.and_then(|address| address.v4()).expect("IPv4");
        let back = Ends {
            near: backend.to_vec(),
            far: pod(1, 1).to_vec(),
            ..ends.clone()
        };
        let answer = Ip::new(&back, UDP, udp((8080, port), &[6; 92]));
        for (from, to) in [(0, 48), (48, 100)] {
            world.send(2, &answer.fragment(port, from, to, to < 100));
            let arrived = world.delivered(1).pop().expect("the answer");
            assert_eq!(read_header(&arrived).flow.source.v4(), Some(SERVICE));
            // The checksum is that of the whole, which the far end sums up.
            if from == 0 {
                let mut seen = Ends::new(Way::Inside, false);
                (seen.near, seen.far) = (SERVICE.to_vec(), pod(1, 1).to_vec());
                let expected = Ip::new(&seen, UDP, udp((80, port), &[6; 92]));
                assert_eq!(arrived, later_by(&expected.fragment(port, 0, 48, true), 2));
            }
        }
    }
}

#[test]
fn a_long_echo_to_a_node_is_put_together_and_answered_by_its_host() {
    let mut world = World::new();
    let mut ends = Ends::new(Way::Across, false);
    ends.far = vec![192, 0, 2, 2];
    let echo = ends.echo(&[5; 92]);
    for (from, to) in [(0, 48), (48, 100)] {
        world.send(1, &echo.fragment(7, from, to, to < 100));
        assert_eq!(world.delivered(2).len(), 1);
    }
    world.send(1, &echo.bytes());
    assert!(
        world.delivered(2).is_empty(),
        "a short one is answered before any host"
    );
    assert_eq!(world.delivered(1).len(), 1);
}

fn read_header(bytes: &[u8]) -> packet::Header {
    packet::Header::parse(bytes).expect("a packet of ours")
}

#[test]
fn a_change_of_policy_between_two_fragments_holds_for_the_second() {
    let mut world = World::new();
    let ends = Ends::new(Way::Across, false);
    let whole = ends.udp(&[5; 92]);
    world.send(1, &whole.fragment(1, 0, 48, true));
    assert_eq!(world.delivered(2).len(), 1);
    world.policies = vec![only_dns_and_web(&ends)];
    world.publish();
    world.send(1, &whole.fragment(1, 48, 56, true));
    assert_eq!(
        world.delivered(2).len(),
        1,
        "its first went to an open port"
    );
    world.policies = vec![only("2-1", "1-2", Direction::Ingress)];
    world.publish();
    world.send(1, &whole.fragment(1, 56, 64, true));
    assert!(world.delivered(2).is_empty());
    assert_eq!(world.drops(2, Reason::IngressDenied), 1);
    // A whole datagram of the flow is judged as before, and its answer is known.
    world.policies.clear();
    world.publish();
    world.send(1, &whole.bytes());
    assert_eq!(read(&world.delivered(2)[0]).flow.destination_port, 53);
}
