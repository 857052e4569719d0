//! RFC 1624, RFC 768, RFC 8200 §8.1: checksums that pass zero. RFC 2474, RFC 2983, RFC 6040: the
//! byte that says how urgent a packet is, and whether it met congestion.

use datapath::Reason;

use crate::robust::bytes::{Ip, UDP, later_by, udp};
use crate::robust::stage::{Ends, Way};
use crate::robust::table::{Outcome, Row, check};
use crate::world::{SERVICE, SERVICE_V6, World, pod, pod_v6};

pub(crate) const LISTS: [crate::robust::table::List; 2] = [edges, classes];

#[test]
fn checksums_are_right_whatever_they_pass() {
    check(edges);
}

#[test]
fn dscp_and_ecn_pass_untouched() {
    check(classes);
}

pub(crate) fn edges(ends: &Ends) -> Vec<Row> {
    let none = ends.udp(b"no checksum").with(|ip| ip.bare = true);
    // Over IPv6 the ends of a tunnel may do so (RFC 6936); whether they do is not ours to say.
    let mut rows = vec![Row::new("a UDP checksum of zero stays zero").passes(&none)];
    if ends.v6 {
        return rows;
    }
    let with_identifier = |identifier: u16| {
        let ip = ends.udp(b"datagram").with(|ip| ip.identifier = identifier);
        ip.bytes()
    };
    let sum = |bytes: &[u8]| [bytes[10], bytes[11]];
    let find = |hops: u8, wanted: [u8; 2]| {
        let mut all = (0..=u16::MAX).map(with_identifier);
        all.find(|bytes| sum(&later_by(bytes, hops)) == wanted)
            .expect("one of them")
    };
    let zero = find(0, [0, 0]);
    let ones = patched_to_ones(&zero);
    rows.push(Row::new("a header checksum of 0000").near(zero, Outcome::Forwarded));
    let expected = later_by(&ones, ends.hops());
    rows.push(Row::new("and its other form").near(ones, Outcome::Becomes(expected)));
    for hops in 1..=2 {
        for near_zero in [[0, 0], [0xff, 0xfe], [0, 1], [1, 0]] {
            let bytes = find(hops, near_zero);
            rows.push(Row::new("one that passes zero").near(bytes, Outcome::Forwarded));
        }
    }
    rows
}

/// The same with a header checksum of ffff, which counts as 0000 does.
fn patched_to_ones(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[10..12].fill(0xff);
    bytes
}

pub(crate) fn classes(ends: &Ends) -> Vec<Row> {
    let row = (0..=255).fold(Row::new("a class"), |row, class| {
        row.passes(&ends.udp(b"datagram").with(|ip| ip.class = class))
    });
    vec![row]
}

fn to_service(v6: bool) -> (World, Ends) {
    let mut world = World::new();
    world.backends = vec![(2, 1, true)];
    world.publish();
    let ends = Ends {
        far: if v6 {
            SERVICE_V6.to_vec()
        } else {
            SERVICE.to_vec()
        },
        ..Ends::new(Way::Across, v6)
    };
    (world, ends)
}

#[test]
fn a_translated_checksum_is_that_of_the_packet_written_anew_and_zero_means_none() {
    for v6 in [false, true] {
        let (mut world, ends) = to_service(v6);
        let backend = Ends {
            far: if v6 {
                pod_v6(2, 1).to_vec()
            } else {
                pod(2, 1).to_vec()
            },
            ..ends.clone()
        };
        let datagram = |ends: &Ends, port: u16, filler: u16| {
            Ip::new(ends, UDP, udp((5000, port), &filler.to_be_bytes()))
        };
        let at = if v6 { 46 } else { 26 };
        let sum = |ip: &Ip| u16::from_be_bytes([ip.bytes()[at], ip.bytes()[at + 1]]);
        // One whose sum is zero behind the translation, one before it, and their neighbours.
        for (ends_of, port) in [(&backend, 8080), (&ends, 80)] {
            let filler =
                (0..=u16::MAX).find(|filler| sum(&datagram(ends_of, port, *filler)) == 0xffff);
            let filler = filler.expect("one of them");
            for filler in [filler.wrapping_sub(1), filler, filler.wrapping_add(1)] {
                world.send(1, &datagram(&ends, 80, filler).bytes());
                let expected = later_by(&datagram(&backend, 8080, filler).bytes(), 2);
                assert_eq!(world.delivered(2), [expected], "{v6} {filler}");
            }
        }
        // None at all.
        let none = datagram(&ends, 80, 7).with(|ip| ip.bare = true);
        world.send(1, &none.bytes());
        if v6 {
            assert_eq!(world.drops(1, Reason::NoChecksum), 1);
            assert!(world.delivered(2).is_empty() && world.delivered(1).is_empty());
        } else {
            let expected = datagram(&backend, 8080, 7).with(|ip| ip.bare = true);
            assert_eq!(world.delivered(2), [later_by(&expected.bytes(), 2)]);
        }
    }
}

#[test]
fn an_answer_without_a_checksum_is_not_made_a_services_over_ipv6() {
    let (mut world, ends) = to_service(true);
    world.send(
        1,
        &Ip::new(&ends, UDP, udp((5000, 80), b"question")).bytes(),
    );
    assert_eq!(world.delivered(2).len(), 1);
    let mut back = ends.reverse();
    back.near = pod_v6(2, 1).to_vec();
    let answer = Ip::new(&back, UDP, udp((8080, 5000), b"answer")).with(|ip| ip.bare = true);
    world.send(2, &answer.bytes());
    assert_eq!(world.drops(1, Reason::NoChecksum), 1);
    assert!(world.delivered(1).is_empty());
}

/// RFC 6040 §4.2, figure 4; rows are the inner field, columns the outer one.
#[test]
fn what_the_wire_says_of_congestion_is_combined_with_what_the_packet_says() {
    const TABLE: [[Option<u8>; 4]; 4] = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    for v6 in [false, true] {
        let ends = Ends::new(Way::Across, v6);
        let mut world = World::new();
        world.send(1, &ends.udp(b"handshake").bytes());
        world.delivered(2);
        for (inner, row) in TABLE.iter().enumerate() {
            for (outer, expected) in row.iter().enumerate() {
                world.ecn = Some(outer as u8);
                let class = |ecn: u8| 0xb8 | ecn;
                let send = |ecn: u8| {
                    ends.udp(b"datagram")
                        .with(|ip| ip.class = class(ecn))
                        .bytes()
                };
                world.send(1, &send(inner as u8));
                let arrived: Vec<_> = expected
                    .iter()
                    .map(|ecn| later_by(&send(*ecn), 2))
                    .collect();
                assert_eq!(world.delivered(2), arrived, "{inner} in {outer}");
            }
        }
        let refused = world.hosts[1]
            .out
            .dropped()
            .find(|(name, _)| *name == "congestionUnmarkable");
        assert_eq!(refused, Some(("congestionUnmarkable", 1)));
    }
}
