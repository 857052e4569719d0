//! What goes wrong with the packets of a hairpin, and who hears of it.

use super::*;

#[test]
fn an_error_of_the_pod_quotes_what_it_has_sent_itself_at_either_end() {
    for talk in TALKS {
        let mut world = alone();
        let [ask, answer] = talk.exchange(&mut world, CLIENT_PORT);
        let segment = (SYN | ACK, 5_000, 1_000);
        let asked = talk.packet(
            Service(CLIENT_PORT),
            Pod(BACKEND_PORT),
            (SYN, 1_000, 0),
            b"question",
        );
        let answered = talk.packet(Service(80), Pod(CLIENT_PORT), segment, b"answer");
        for (got, sent) in [(asked, ask), (answered, answer)] {
            // The quote has the CRC or sum of what arrived, and the time to live.
            let got = later_by(&got.bytes(), 1);
            let mut quoted = later_by(&sent, 1);
            if talk.protocol == SCTP {
                // Nobody makes a quoted CRC anew: of most packets only a part is quoted.
                let at = if talk.v6 { 48 } else { 28 };
                quoted[at..at + 4].copy_from_slice(&got[at..at + 4]);
            }
            let error = talk.error(Pod(0), Service(0), &got);
            let arrives = talk.error(Service(0), Pod(0), &quoted);
            bounce(&mut world, &error, &later_by(&arrives, 1));
        }
    }
}

#[test]
fn a_routers_error_reaches_the_pod_as_that_of_the_router() {
    let talk = TALKS[2];
    let mut world = alone();
    let [ask, _] = talk.exchange(&mut world, CLIENT_PORT);
    let got = talk.packet(
        Service(CLIENT_PORT),
        Pod(BACKEND_PORT),
        (0, 0, 0),
        b"question",
    );
    // Too big for the way to the pod, says the node's own kernel, to whom the packet is from.
    let too_big = |to: At, quoted: &[u8]| {
        let message = icmp(3, 4, [0, 0, 5, 0], &quoted[..28]);
        let mut ends = talk.ends(Pod(0), to);
        ends.near = vec![192, 0, 2, 1];
        Ip::new(&ends, ICMP, message).bytes()
    };
    let error = too_big(Service(0), &later_by(&got.bytes(), 1));
    let arrives = later_by(&too_big(Pod(0), &later_by(&ask, 1)), 1);
    bounce(&mut world, &error, &arrives);
    // A redirect would lead the pod astray, and of an unknown flow nothing is said.
    let mut redirect = error.clone();
    redirect[20..22].copy_from_slice(&[5, 1]);
    let sum = crate::robust::bytes::naive_checksum(&[&redirect[20..22], &redirect[24..]].concat());
    redirect[22..24].copy_from_slice(&sum.to_be_bytes());
    vanish(&mut world, &redirect, Reason::Redirect);
    let unknown = talk.packet(Service(7), Pod(BACKEND_PORT), (0, 0, 0), b"question");
    let error = talk.error(Pod(0), Service(0), &unknown.bytes());
    vanish(&mut world, &error, Reason::NoFlow);
}

#[test]
fn an_error_about_what_is_not_under_way_is_dropped() {
    let talk = TALKS[0];
    let mut world = alone();
    talk.exchange(&mut world, CLIENT_PORT);
    for (from, to) in [
        (Service(CLIENT_PORT), Pod(BACKEND_PORT)),
        (Service(80), Pod(CLIENT_PORT)),
    ] {
        let forged = talk.packet(from, to, (ACK, 77_777, 1), b"forged");
        let error = talk.error(Pod(0), Service(0), &forged.bytes());
        vanish(&mut world, &error, Reason::WrongSequence);
    }
}

#[test]
fn a_packet_whose_time_has_run_out_is_quoted_as_it_was_sent() {
    let talk = TALKS[2];
    let mut world = alone();
    talk.exchange(&mut world, CLIENT_PORT);
    for (from, to) in [
        (Pod(CLIENT_PORT), Service(80)),
        (Pod(BACKEND_PORT), Service(CLIENT_PORT)),
    ] {
        let late = talk.packet(from, to, (0, 0, 0), b"late");
        let late = late.with(|ip| ip.ttl = 1).bytes();
        world.send(1, &late);
        let came = world.delivered(1);
        let [error] = &came[..] else {
            panic!("one error, not {came:?}")
        };
        assert_eq!(error[12..20], [[192, 0, 2, 1], pod(1, 1)].concat());
        assert_eq!((error[20], &error[28..]), (11, &late[..]));
    }
    assert_eq!(world.drops(1, Reason::TimeExceeded), 2);
}
