//! RFC 5927, RFC 8201, RFC 8021, RFC 792: ICMP errors about what is under way, to whom sent it, and
//! no others.

use datapath::Reason;

use crate::robust::bytes::{ACK, Ip, SYN};
use crate::robust::stage::{Ends, Way};
use crate::robust::table::{Outcome, Row, check};
use crate::sized::over;
use crate::world::World;

pub(crate) const LISTS: [crate::robust::table::List; 3] = [sequences, flows, sizes];

#[test]
fn an_error_about_a_segment_that_is_not_under_way_is_ignored() {
    check(sequences);
}

#[test]
fn an_error_about_an_unknown_flow_or_to_somebody_else_is_ignored() {
    check(flows);
}

#[test]
fn a_packet_too_big_under_1280_bytes_is_ignored() {
    check(sizes);
}

/// A connection of which the near end has sent bytes 1001 to 1100, and nothing is acknowledged.
fn connected(row: Row, ends: &Ends) -> Row {
    row.passes(&ends.tcp((1_000, 0), SYN, b""))
        .far(
            ends.tcp_back((5_000, 1_001), SYN | ACK, b"").bytes(),
            Outcome::Forwarded,
        )
        .passes(&ends.tcp((1_001, 5_001), ACK, &[7; 100]))
}

pub(crate) fn sequences(ends: &Ends) -> Vec<Row> {
    let quoting = |sequence: u32| {
        let segment = ends.tcp((sequence, 5_001), ACK, &[7; 100]);
        ends.unreachable(&segment.bytes()).bytes()
    };
    let wrong = || Outcome::Dropped("wrongSequence");
    let mut rows = Vec::new();
    for sequence in [1_001, 1_050, 1_100, 1_101] {
        let row = connected(Row::new("under way"), ends);
        rows.push(row.far(quoting(sequence), Outcome::Forwarded));
    }
    for sequence in [0, 999, 1_000, 1_102, 1_001 + (1 << 31), u32::MAX] {
        let row = connected(Row::new("never sent, or acknowledged long ago"), ends);
        rows.push(row.far(quoting(sequence), wrong()));
    }
    let acknowledged = ends.tcp_back((5_001, 1_101), ACK, b"").bytes();
    rows.push(
        connected(Row::new("acknowledged since"), ends)
            .far(acknowledged, Outcome::Forwarded)
            .far(quoting(1_001), wrong())
            .far(quoting(1_101), Outcome::Forwarded),
    );
    let beyond = ends.tcp_back((5_001, 9_000), ACK, b"").bytes();
    rows.push(
        connected(
            Row::new("what acknowledges more than was sent changes nothing"),
            ends,
        )
        .far(beyond, Outcome::Forwarded)
        .far(quoting(1_001), Outcome::Forwarded),
    );
    let syn = ends.tcp((1_000, 0), SYN, b"").bytes();
    rows.push(
        Row::new("a SYN")
            .near(syn.clone(), Outcome::Forwarded)
            .far(ends.unreachable(&syn).bytes(), Outcome::Forwarded)
            .far(quoting(1_002), wrong()),
    );
    // The near end complains about what the far one has sent.
    let back = ends.reverse();
    let about_far = |sequence: u32| {
        let segment = ends.tcp_back((sequence, 1_001), ACK, b"data").bytes();
        back.unreachable(&segment).bytes()
    };
    rows.push(
        connected(Row::new("the other direction has numbers of its own"), ends)
            .far(
                ends.tcp_back((5_001, 1_101), ACK, b"data").bytes(),
                Outcome::Forwarded,
            )
            .near(about_far(1_001), wrong())
            .near(about_far(5_001), Outcome::Forwarded),
    );
    rows
}

pub(crate) fn flows(ends: &Ends) -> Vec<Row> {
    let datagram = ends.udp(b"datagram");
    let known = || Row::new("about a known flow").passes(&datagram);
    let no_flow = || Outcome::Dropped("noFlow");
    let other_port = ends.udp_of((5001, 53), b"datagram").bytes();
    let bytes = datagram.bytes();
    let network = if ends.v6 { 40 } else { 20 };
    let mut stranger = ends.udp(b"datagram");
    *stranger.source.last_mut().expect("an address") = 3;
    let error = |quoted: &[u8]| ends.unreachable(quoted).bytes();
    let (unknown_kind, source_quench) = if ends.v6 { (100, 127) } else { (4, 12) };
    let mut rows = vec![
        known().far(error(&bytes), Outcome::Forwarded),
        known().far(error(&bytes[..network + 8]), Outcome::Forwarded),
        known().far(
            ends.reverse().icmp(unknown_kind, 0, [0; 4], &bytes).bytes(),
            Outcome::Forwarded,
        ),
        known().far(
            ends.reverse()
                .icmp(source_quench, 0, [0; 4], &bytes)
                .bytes(),
            Outcome::Forwarded,
        ),
        known().far(error(&bytes[..network + 7]), no_flow()),
        known().far(error(&[]), no_flow()),
        known().far(error(&other_port), no_flow()),
        known().far(error(&ends.tcp((1, 2), ACK, b"").bytes()), no_flow()),
        known().far(error(&ends.echo(b"ping").bytes()), no_flow()),
        // Its receiver is not whom it quotes as the sender.
        known().far(error(&stranger.bytes()), no_flow()),
        known().far(error(&datagram.fragment(7, 8, 16, false)), no_flow()),
        Row::new("about no flow at all").far(error(&bytes), no_flow()),
        Row::new("about an echo")
            .passes(&ends.echo(b"ping"))
            .far(error(&ends.echo(b"ping").bytes()), Outcome::Forwarded),
    ];
    if !ends.v6 {
        let redirect = ends.reverse().icmp(5, 1, [10, 1, 0, 9], &bytes).bytes();
        // A known difference: RFC 1122 §3.2.2.2 has a host take one from its first gateway only, which
        // this is not. Hosts see to that themselves, and facts/robustness does not ask it of us.
        rows.push(known().far(redirect, Outcome::Forwarded));
    }
    rows
}

pub(crate) fn sizes(ends: &Ends) -> Vec<Row> {
    let datagram = ends.udp(b"datagram");
    let too_big = |mtu: u32| -> Ip {
        let (kind, code) = if ends.v6 { (2, 0) } else { (3, 4) };
        ends.reverse()
            .icmp(kind, code, mtu.to_be_bytes(), &datagram.bytes())
    };
    let mut rows = Vec::new();
    // IPv4's links may carry as little as 68 bytes (RFC 1191 §3), and zero comes from a router that
    // does not say (§5): what a host makes of that is its own business.
    for mtu in [0, 68, 576, 1_279, 1_280, 1_400, u32::from(u16::MAX)] {
        let ignored = ends.v6 && mtu < 1_280;
        let outcome = if ignored {
            Outcome::Dropped("mtuTooSmall")
        } else {
            Outcome::Forwarded
        };
        let row = Row::new("packet too big").passes(&datagram);
        rows.push(row.far(too_big(mtu).bytes(), outcome));
    }
    rows
}

/// RFC 4459 §3.2, RFC 1191, RFC 8201, RFC 8899; discovery itself is `sized`.
#[test]
fn a_packet_that_the_path_does_not_carry_is_answered_with_what_fits_beside_the_overhead() {
    const OVERHEAD: u32 = 60;
    for (carries, inner_v6) in [(1_368, 1_368 - OVERHEAD), (1_300, 1_280)] {
        for v6 in [false, true] {
            let mut world: World = over(carries);
            let ends = Ends::new(Way::Across, v6);
            let long = ends.udp(&[7; 1_372]).with(|ip| ip.word = 0x4000).bytes();
            world.send(1, &long);
            assert!(world.delivered(2).is_empty());
            assert_eq!(world.drops(1, Reason::PacketTooBig), 1);
            let error = world.delivered(1).pop().expect("an answer");
            let (kind, mtu) = match v6 {
                true => (&error[40..42], &error[44..48]),
                false => (&error[20..22], &error[24..28]),
            };
            let expected = if v6 {
                inner_v6
            } else {
                carries as u32 - OVERHEAD
            };
            assert_eq!(kind, if v6 { [2, 0] } else { [3, 4] });
            assert_eq!(mtu, expected.to_be_bytes());
            assert_eq!(error.len(), if v6 { 1_280 } else { 576 });
            assert_eq!(
                crate::robust::stage::destination(&error),
                ends.near.as_slice()
            );
            // Neither about an ICMP error, nor about a fragment that is not the first.
            world.send(1, &ends.udp(b"begins").bytes());
            let about = ends.reverse().udp_of((53, 5000), &[7; 1_300]).bytes();
            let error = ends
                .reverse()
                .unreachable(&about)
                .with(|ip| ip.word = 0x4000);
            world.send(1, &error.bytes());
            assert_eq!(world.drops(1, Reason::PacketTooBig), 2);
            let later = ends.udp(&[7; 2_700]).fragment(7, 1_304, 2_680, false);
            let later = crate::robust::bytes::patched(later, |bytes| {
                if !v6 {
                    bytes[6] |= 0x40;
                }
            });
            world.send(1, &later);
            assert_eq!(world.drops(1, Reason::PacketTooBig), 3);
            assert!(world.delivered(1).is_empty());
        }
    }
}
