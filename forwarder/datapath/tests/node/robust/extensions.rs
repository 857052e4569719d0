//! RFC 8200, RFC 7045, RFC 5095, RFC 7112, RFC 6946: what may stand between the IPv6 header and the
//! ports, and what a rule for ports makes of a packet without one.

use crate::robust::bytes::{Ip, UDP, fragment_header, udp};
use crate::robust::stage::Ends;
use crate::robust::table::{Outcome, Row, check, no_dns, only_dns_and_web};

pub(crate) const LISTS: [crate::robust::table::List; 4] = [unknown, chains, routing, atomic];

#[test]
fn what_nobody_knows_passes_but_not_by_a_rule_for_ports() {
    check(unknown);
}

#[test]
fn a_chain_of_headers_is_followed_to_its_end_or_refused() {
    check(chains);
}

#[test]
fn a_routing_header_that_still_has_a_way_to_go_is_dropped() {
    check(routing);
}

#[test]
fn an_atomic_fragment_stands_alone() {
    check(atomic);
}

fn with(ends: &Ends, extensions: &[(u8, Vec<u8>)]) -> Ip {
    ends.udp(b"datagram")
        .with(|ip| ip.extensions = extensions.to_vec())
}

/// Eight bytes of any header that has its length in its second byte.
fn short(number: u8) -> (u8, Vec<u8>) {
    (number, vec![0, 0, 1, 4, 0, 0, 0, 0])
}

pub(crate) fn unknown(ends: &Ends) -> Vec<Row> {
    let mut strangers: Vec<Ip> = [50, 59, 47]
        .map(|number| Ip::new(ends, number, vec![9; 16]))
        .into();
    if ends.v6 {
        let numbers = [146, 200, 253, 254];
        strangers.extend(numbers.map(|number| with(ends, &[short(number)])));
        strangers.push(with(ends, &[short(60), short(253)]));
    } else {
        strangers.extend([253, 254].map(|number| Ip::new(ends, number, vec![9; 16])));
    }
    let mut rows = Vec::new();
    for stranger in strangers {
        rows.push(Row::new("it passes where nothing forbids it").passes(&stranger));
        rows.push(
            Row::new("a rule that denies a port denies nothing else")
                .under(no_dns(ends))
                .passes(&stranger)
                .drops(ends.udp(b"denied").bytes(), "ingressDenied"),
        );
        rows.push(
            Row::new("a rule that allows a port allows nothing else")
                .under(only_dns_and_web(ends))
                .passes(&ends.udp(b"allowed"))
                .drops(stranger.bytes(), "ingressDenied"),
        );
    }
    rows
}

pub(crate) fn chains(ends: &Ends) -> Vec<Row> {
    if !ends.v6 {
        return Vec::new();
    }
    let ah = (51, vec![0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    let ah_of_16 = (51, [ah.1.clone(), vec![0; 4]].concat()).clone();
    let ah = (51, {
        let mut bytes = ah_of_16.1;
        bytes[1] = 2;
        bytes
    });
    let known = [
        vec![short(0)],
        vec![short(60)],
        vec![short(0), short(60), ah.clone(), short(60)],
        vec![short(135)],
        vec![short(139)],
        vec![short(140)],
        vec![ah],
        vec![short(60); 8],
    ];
    let mut rows = Vec::new();
    for extensions in known {
        let (allowed, mut other) = (with(ends, &extensions), with(ends, &extensions));
        other.transport = udp((5000, 54), b"datagram");
        rows.push(
            Row::new("the port is found behind what is known")
                .under(only_dns_and_web(ends))
                .passes(&allowed)
                .drops(other.bytes(), "ingressDenied"),
        );
    }
    let long = (60, vec![0, 9, 1, 4, 0, 0, 0, 0]);
    let past = with(ends, &[long]).bytes();
    let twice = with(
        ends,
        &[fragment_header(0, false, 1), fragment_header(0, false, 1)],
    )
    .bytes();
    let behind = with(ends, &[short(60), short(0)]).bytes();
    let nine = with(ends, &vec![short(60); 9]).bytes();
    rows.extend([
        Row::new("a header past the end").drops(past, "extensionHeader"),
        Row::new("a fragment of a fragment").drops(twice, "extensionHeader"),
        Row::new("hop by hop, but not first").drops(behind, "hopByHopOrder"),
        Row::new("more headers than anybody needs").drops(nine, "extensionChain"),
    ]);
    rows
}

pub(crate) fn routing(ends: &Ends) -> Vec<Row> {
    if !ends.v6 {
        return Vec::new();
    }
    let header = |kind: u8, left: u8| (43, [&[0, 2, kind, left][..], &[0; 20]].concat());
    let drops = |says, extensions: &[(u8, Vec<u8>)], counter| {
        Row::new(says).drops(with(ends, extensions).bytes(), counter)
    };
    let mut rows = vec![
        drops("type 0", &[header(0, 1)], "routingHeaderZero"),
        drops(
            "type 0 with no way to go",
            &[header(0, 0)],
            "routingHeaderZero",
        ),
        drops(
            "type 0 behind others",
            &[short(0), short(60), header(0, 1)],
            "routingHeaderZero",
        ),
    ];
    // Mobile IPv6 (RFC 6275), RPL (RFC 6554), segment routing (RFC 8754), and one of no RFC.
    for kind in [2, 3, 4, 99] {
        rows.push(drops(
            "policy would judge another address",
            &[header(kind, 1)],
            "sourceRoute",
        ));
        rows.push(Row::new("a way that is at its end").passes(&with(ends, &[header(kind, 0)])));
    }
    rows
}

pub(crate) fn atomic(ends: &Ends) -> Vec<Row> {
    if !ends.v6 {
        return Vec::new();
    }
    let atomic = with(ends, &[fragment_header(0, false, 7)]);
    let long = ends.udp(&[5; 24]);
    let other = Ip::new(ends, UDP, udp((5000, 54), b"datagram"))
        .with(|ip| ip.extensions = vec![fragment_header(0, false, 7)]);
    vec![
        Row::new("it has no part in the datagram of its identifier")
            .under(only_dns_and_web(ends))
            .passes(&atomic)
            .passes(&atomic)
            .near(long.fragment(7, 0, 16, true), Outcome::Forwarded)
            .passes(&atomic)
            .drops(other.bytes(), "ingressDenied")
            .near(long.fragment(7, 16, 32, false), Outcome::Forwarded),
    ]
}
