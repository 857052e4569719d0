//! RFC 791, RFC 1812, RFC 7126: headers that lie, time that has run out, options, martians.

use crate::robust::bytes::{Ip, patched};
use crate::robust::stage::{Ends, Way};
use crate::robust::table::{Answer, Outcome, Row, TIME_EXCEEDED, check, is_across};

/// Which lists there are for others to spoil.
pub(crate) const LISTS: [crate::robust::table::List; 5] =
    [lengths, times, options, martians, transports];

#[test]
fn what_contradicts_itself_is_dropped_by_name_and_in_silence() {
    check(lengths);
    check(transports);
}

#[test]
fn what_has_no_time_left_is_answered_where_that_is_allowed_and_never_forwarded() {
    check(times);
}

#[test]
fn options_pass_untouched_but_for_source_routes() {
    check(options);
}

#[test]
fn martians_are_dropped() {
    check(martians);
}

pub(crate) fn lengths(ends: &Ends) -> Vec<Row> {
    let udp = ends.udp(b"datagram").bytes();
    let (truncated, version) =
        ends.sealed(("innerLength", "innerVersion"), ("truncated", "version"));
    let spoilt = |change: &dyn Fn(&mut Vec<u8>)| patched(udp.clone(), |bytes| change(bytes));
    let length_at = if ends.v6 { 5 } else { 3 };
    let mut padded = udp.clone();
    padded.extend([0xee; 9]);
    let mut rows = vec![
        Row::new("neither IPv4 nor IPv6").drops(spoilt(&|b| b[0] = 0x55), version),
        Row::new("version 0").drops(spoilt(&|b| b[0] &= 0x0f), version),
        Row::new("an end past the frame's").drops(spoilt(&|b| b[length_at] += 1), truncated),
        Row::new("half a header").drops(udp[..19].to_vec(), truncated),
        Row::new("bytes behind the end are cut off").near(
            padded,
            Outcome::Becomes(crate::robust::bytes::later_by(&udp, ends.hops())),
        ),
    ];
    if ends.v6 {
        return rows;
    }
    let shorter_than_ip = ends.sealed("innerLength", "headerLength");
    rows.extend([
        Row::new("IHL under 5").drops(spoilt(&|b| b[0] = 0x44), "headerLength"),
        Row::new("total length under 20").drops(spoilt(&|b| b[3] = 19), shorter_than_ip),
        Row::new("total length under the IHL")
            .drops(spoilt(&|b| (b[0], b[3]) = (0x46, 20)), "headerLength"),
        Row::new("an IHL past the frame").drops(
            patched(udp[..20].to_vec(), |b| (b[0], b[3]) = (0x4f, 20)),
            "headerLength",
        ),
    ]);
    for bit in 0..16 {
        let mut bytes = udp.clone();
        bytes[10 + bit / 8] ^= 1 << (bit % 8);
        rows.push(Row::new("a wrong header checksum").drops(bytes, "headerChecksum"));
    }
    rows
}

pub(crate) fn transports(ends: &Ends) -> Vec<Row> {
    let cut = |protocol, length| Ip::new(ends, protocol, vec![0x50; length]).bytes();
    let with_length = |length: u8| {
        let ip = ends.udp(b"data").with(|ip| ip.transport[5] = length);
        ip.bytes()
    };
    let offset = |offset: u8| {
        let ip = ends
            .tcp((1, 0), 2, b"")
            .with(|ip| ip.transport[12] = offset << 4);
        ip.bytes()
    };
    let icmp = if ends.v6 { 58 } else { 1 };
    vec![
        Row::new("half a TCP header").drops(cut(6, 19), "transportLength"),
        Row::new("half a UDP header").drops(cut(17, 7), "transportLength"),
        Row::new("half an SCTP header").drops(cut(132, 11), "transportLength"),
        Row::new("half an ICMP header").drops(cut(icmp, 7), "transportLength"),
        Row::new("TCP data within the header").drops(offset(4), "tcpHeader"),
        Row::new("TCP options past the end").drops(offset(6), "transportLength"),
        Row::new("UDP shorter than its header").drops(with_length(7), "udpLength"),
        Row::new("UDP past the end").drops(with_length(13), "udpLength"),
        Row::new("UDP that leaves bytes unused passes").near(with_length(11), Outcome::Forwarded),
        Row::new("a protocol that nobody knows passes").passes(
            &Ip::new(ends, 200, vec![1; 9]).with(
                // Over IPv6 from 146 on it might be an extension header, which passes as well.
                |ip| ip.protocol = if ip.v6 { 145 } else { 200 },
            ),
        ),
    ]
}

pub(crate) fn times(ends: &Ends) -> Vec<Row> {
    let with_ttl = |ip: Ip, ttl: u8| ip.with(|ip| ip.ttl = ttl).bytes();
    let exceeded = || Outcome::Answered(TIME_EXCEEDED);
    let udp = || ends.udp(b"datagram");
    let mut rows = Vec::new();
    for ttl in [0, 1] {
        rows.extend([
            Row::new("a datagram without time").near(with_ttl(udp(), ttl), exceeded()),
            Row::new("a SYN without time")
                .near(with_ttl(ends.tcp((1, 0), 2, b""), ttl), exceeded()),
            Row::new("an echo without time").near(with_ttl(ends.echo(b"ping"), ttl), exceeded()),
            Row::new("a long datagram is quoted as far as fits")
                .near(with_ttl(ends.udp(&[7; 1_300]), ttl), exceeded()),
        ]);
    }
    rows.push(Row::new("the last hop that there is time for").near(
        with_ttl(udp(), 2),
        if is_across(ends) {
            Outcome::Answered(Answer {
                by_far_node: true,
                ..TIME_EXCEEDED
            })
        } else {
            Outcome::Forwarded
        },
    ));
    let unreachable = ends.unreachable(&udp().bytes());
    rows.push(
        Row::new("nothing is said about an ICMP error")
            .passes(&udp())
            .far(with_ttl(unreachable, 1), Outcome::Dropped("timeExceeded")),
    );
    rows.push(
        Row::new("nor about a fragment that is not the first")
            .near(udp().fragment(7, 0, 8, true), Outcome::Forwarded)
            .drops(
                with_ttl_of(udp().fragment(7, 8, 16, false), ends.v6, 1),
                "timeExceeded",
            ),
    );
    rows.push(Row::new("but about the first one").near(
        with_ttl_of(udp().fragment(7, 0, 8, true), ends.v6, 1),
        exceeded(),
    ));
    if !ends.v6 {
        rows.push(
            Row::new("nor about an ICMP redirect, whatever it quotes")
                .passes(&udp())
                .far(
                    with_ttl(ends.reverse().icmp(5, 1, [0; 4], &udp().bytes()), 1),
                    Outcome::Dropped("timeExceeded"),
                ),
        );
    }
    rows
}

fn with_ttl_of(bytes: Vec<u8>, v6: bool, ttl: u8) -> Vec<u8> {
    patched(bytes, |bytes| bytes[if v6 { 7 } else { 8 }] = ttl)
}

pub(crate) fn options(ends: &Ends) -> Vec<Row> {
    if ends.v6 {
        return Vec::new();
    }
    let with = |options: &[u8]| ends.udp(b"data").with(|ip| ip.options = options.to_vec());
    let unknown: [&[u8]; 8] = [
        &[0x5e, 4, 1, 2],
        &[0xde, 4, 1, 2],
        &[1, 1, 1, 1],
        &[0, 0, 0, 0],
        // Record route, time stamp, router alert, and the security option of RFC 1108.
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[148, 4, 0, 0],
        &[130, 4, 0, 0],
    ];
    let mut rows: Vec<Row> = unknown
        .iter()
        .map(|options| Row::new("an option that is nothing to us").passes(&with(options)))
        .collect();
    // Behind the end of the options nobody reads (RFC 791 §3.1).
    rows.push(Row::new("a source route behind the end").passes(&with(&[0, 131, 3, 4])));
    for route in [131, 137] {
        for options in [[route, 3, 4, 0], [1, route, 3, 4]] {
            rows.push(Row::new("a source route").drops(with(&options).bytes(), "sourceRoute"));
        }
    }
    for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
        rows.push(Row::new("an option that cannot be").drops(with(&options).bytes(), "options"));
    }
    rows
}

pub(crate) fn martians(ends: &Ends) -> Vec<Row> {
    let from = |source: &[u8]| {
        let ip = ends.udp(b"data").with(|ip| ip.source = source.to_vec());
        ip.bytes()
    };
    let to = |destination: &[u8]| {
        let ip = ends
            .udp(b"data")
            .with(|ip| ip.destination = destination.to_vec());
        ip.bytes()
    };
    let v6 = |head: &[u8], last: u8| {
        let mut address = head.to_vec();
        address.resize(15, 0);
        address.push(last);
        address
    };
    let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 1, 0, 1]].concat();
    let (sources, destinations, many): (Vec<Vec<u8>>, Vec<Vec<u8>>, Vec<Vec<u8>>) = match ends.v6 {
        false => (
            [
                [0, 1, 2, 3],
                [127, 0, 0, 1],
                [224, 0, 0, 1],
                [239, 1, 2, 3],
                [240, 0, 0, 1],
                [255; 4],
            ]
            .map(Vec::from)
            .into(),
            [[0, 0, 0, 0], [127, 1, 2, 3], [240, 0, 0, 1]]
                .map(Vec::from)
                .into(),
            [[224, 0, 0, 1], [239, 1, 2, 3], [255; 4]]
                .map(Vec::from)
                .into(),
        ),
        true => (
            vec![
                v6(&[], 0),
                v6(&[], 1),
                v6(&[0xff, 2], 1),
                v6(&[0xff, 0x0e], 1),
            ],
            vec![v6(&[], 0), v6(&[], 1), v6(&[0xff, 1], 1), v6(&[0xff, 0], 1)],
            vec![
                v6(&[0xff, 2], 1),
                v6(&[0xff, 0x0e], 1),
                v6(&[0xfe, 0x80], 1),
            ],
        ),
    };
    let mut rows = Vec::new();
    for source in sources {
        rows.push(Row::new("a source that no host has").drops(from(&source), "martianSource"));
    }
    for destination in destinations {
        let row = Row::new("a destination that is on no wire");
        rows.push(row.drops(to(&destination), "martianDestination"));
    }
    for destination in many {
        // RFC 1812 §5.3.5.1, RFC 4291 §2.5.6: with time left, and without.
        let name = ends.sealed("notOurs", "notRouted");
        let row = Row::new("a broadcast, a group or one link only is not routed, and not answered");
        let late = with_ttl_of(to(&destination), ends.v6, 1);
        rows.push(row.drops(to(&destination), name).drops(late, name));
    }
    if ends.v6 {
        let row = Row::new("IPv4 written as IPv6 is on no wire");
        rows.push(
            row.drops(from(&mapped), "mappedAddress")
                .drops(to(&mapped), "mappedAddress"),
        );
        if ends.way != Way::Peer {
            let row = Row::new("from one link nothing is routed");
            let name = if is_across(ends) {
                "notOurs"
            } else {
                "notRouted"
            };
            rows.push(row.drops(from(&v6(&[0xfe, 0x80], 9)), name));
        }
    }
    rows
}
