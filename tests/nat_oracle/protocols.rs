//! SCTP, ICMP echo and what has no ports: conversations that are neither UDP nor TCP.

use crate::compare::{Step, backend, client};
use crate::connections::Maker;
use crate::forge::{Packet, SCTP};
use crate::talk::Family;

pub(crate) fn add(maker: &mut Maker) {
    associations(maker);
    echoes(maker);
    others(maker);
}

/// An SCTP chunk of a type, with what follows its length.
fn chunk(kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = (4 + rest.len()) as u16;
    let mut bytes = vec![kind, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend(rest);
    bytes
}

fn associations(maker: &mut Maker) {
    const DATA: u8 = 0;
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    const ABORT: u8 = 6;
    const COOKIE_ECHO: u8 = 10;
    const COOKIE_ACK: u8 = 11;
    // Tag, window, streams out and in, first number.
    let init = |kind, tag: u8| chunk(kind, &[0, 0, 0, tag, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, tag]);
    let data = || chunk(DATA, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    maker.add_talk(SCTP, "an association", |talk| {
        let sent = |tag, bytes: Vec<u8>| client(Packet::sctp(talk.client, talk.asked, tag, &bytes));
        let answered =
            |tag, bytes: Vec<u8>| backend(Packet::sctp(talk.backend, talk.client, tag, &bytes));
        vec![
            sent(0, init(INIT, 7)),
            answered(7, init(INIT_ACK, 9)),
            sent(9, chunk(COOKIE_ECHO, &[1, 2, 3, 4])),
            answered(7, chunk(COOKIE_ACK, &[])),
            sent(9, data()),
            answered(7, data()),
            sent(9, chunk(ABORT, &[])),
        ]
    });
    maker.add_talk(SCTP, "the middle of an unknown association", |talk| {
        vec![client(Packet::sctp(talk.client, talk.asked, 9, &data()))]
    });
}

fn echoes(maker: &mut Maker) {
    let add =
        |maker: &mut Maker, name: &str, steps: fn(Family, u16) -> Vec<Step>| maker.add(name, steps);
    add(maker, "echo: asked and answered", |family, id| {
        let (pod, far) = (family.client(), family.backend());
        let ask = || client(Packet::echo(pod, far, true, id, b"ping"));
        let answer = || backend(Packet::echo(far, pod, false, id, b"ping"));
        vec![ask(), answer(), ask(), answer(), answer()]
    });
    add(maker, "echo: from beyond", |family, id| {
        let (pod, far) = (family.client(), family.backend());
        let ask = backend(Packet::echo(far, pod, true, id, b"ping"));
        let answer = client(Packet::echo(pod, far, false, id, b"ping"));
        vec![ask, answer]
    });
    add(
        maker,
        "echo: an answer that nobody asked for",
        |family, id| {
            let (pod, far) = (family.client(), family.backend());
            vec![
                backend(Packet::echo(far, pod, false, id, b"ping")),
                client(Packet::echo(pod, far, false, id, b"ping")),
            ]
        },
    );
    add(
        maker,
        "echo: an answer with another identifier",
        |family, id| {
            let (pod, far) = (family.client(), family.backend());
            vec![
                client(Packet::echo(pod, far, true, id, b"ping")),
                backend(Packet::echo(far, pod, false, !id, b"ping")),
            ]
        },
    );
    add(
        maker,
        "echo: a wrong checksum stays as wrong",
        |family, id| {
            let mut ask = Packet::echo(family.client(), family.backend(), true, id, b"ping");
            ask.transport[2] ^= 1;
            vec![client(ask)]
        },
    );
    add(maker, "echo: cut short", |family, id| {
        let mut ask = Packet::echo(family.client(), family.backend(), true, id, b"");
        ask.transport.truncate(6);
        vec![client(ask)]
    });
    add(maker, "echo: to the service", |family, id| {
        vec![client(Packet::echo(
            family.client(),
            family.service(),
            true,
            id,
            b"ping",
        ))]
    });
}

fn others(maker: &mut Maker) {
    const GRE: u8 = 47;
    maker.add("another protocol: asked and answered", |family, _| {
        let (pod, far) = (family.client(), family.backend());
        vec![
            client(Packet::new(pod, far, GRE, vec![0, 0, 8, 0, 1, 2, 3, 4])),
            backend(Packet::new(far, pod, GRE, vec![0, 0, 8, 0, 1, 2, 3, 4])),
        ]
    });
    maker.add("another protocol: to the service", |family, _| {
        vec![client(Packet::new(
            family.client(),
            family.service(),
            GRE,
            vec![0; 8],
        ))]
    });
    for kind in [
        9, 10, 13, 14, 15, 17, 30, 42, 130, 133, 135, 137, 143, 160, 200,
    ] {
        maker.add(&format!("icmp: type {kind}"), |family, _| {
            vec![client(Packet::icmp(
                family.client(),
                family.backend(),
                kind,
                0,
                1,
                &[0; 16],
            ))]
        });
    }
}
