//! UDP and TCP: what opens, answers and ends a conversation.

use crate::compare::{Script, Step, backend, client};
use crate::forge::{ACK, FIN, PSH, Packet, RST, SYN, TCP, UDP, URG};
use crate::protocols;
use crate::talk::{Family, Talk};

/// Makes scripts, each with a client's port of its own.
pub(crate) struct Maker {
    scripts: Vec<Script>,
    port: u16,
}

impl Maker {
    /// One for each family.
    pub(crate) fn add(&mut self, name: &str, steps: impl Fn(Family, u16) -> Vec<Step>) {
        for family in Family::BOTH {
            self.port += 1;
            self.scripts.push(Script {
                name: name.into(),
                family,
                steps: steps(family, self.port),
            });
        }
    }

    /// One for each family, through the service and by the backend's own address.
    pub(crate) fn add_talk(&mut self, protocol: u8, name: &str, steps: impl Fn(Talk) -> Vec<Step>) {
        let kind = match protocol {
            UDP => "udp",
            TCP => "tcp",
            _ => "sctp",
        };
        self.add(&format!("{kind}: {name}"), |family, port| {
            steps(Talk::served(family, protocol, port))
        });
        self.add(&format!("plain {kind}: {name}"), |family, port| {
            steps(Talk::plain(family, protocol, port))
        });
    }
}

pub(crate) fn scripts() -> Vec<Script> {
    let mut maker = Maker {
        scripts: Vec::new(),
        port: 20_000,
    };
    datagrams(&mut maker);
    connections(&mut maker);
    unusual_segments(&mut maker);
    protocols::add(&mut maker);
    maker.scripts
}

fn datagrams(maker: &mut Maker) {
    let mut add = |name: &str, steps: fn(Talk) -> Vec<Step>| maker.add_talk(UDP, name, steps);
    add("asked and answered", |talk| {
        let both = || [client(talk.forward()), backend(talk.reply())];
        both().into_iter().chain(both()).collect()
    });
    add("without a checksum", |talk| {
        let without = |mut packet: Packet| {
            packet.transport[6..8].fill(0);
            packet
        };
        vec![
            client(without(talk.forward())),
            backend(without(talk.reply())),
        ]
    });
    add("a wrong checksum stays as wrong", |talk| {
        let wrong = |mut packet: Packet| {
            packet.transport[7] ^= 0x40;
            packet
        };
        vec![client(wrong(talk.forward())), backend(wrong(talk.reply()))]
    });
    add("a checksum that comes to be zero", |talk| {
        let with_word = |from, to, word: u16| Packet::udp(from, to, &word.to_be_bytes());
        let words = || 0..=u16::MAX;
        let is_zero = |packet: Packet| packet.transport[6..8] == [0xff; 2];
        let forward = words().find(|word| is_zero(with_word(talk.client, talk.backend, *word)));
        let reply = words().find(|word| is_zero(with_word(talk.asked, talk.client, *word)));
        vec![
            client(with_word(
                talk.client,
                talk.asked,
                forward.expect("one of all words"),
            )),
            backend(with_word(
                talk.backend,
                talk.client,
                reply.expect("one of all words"),
            )),
        ]
    });
    add("empty, and long", |talk| {
        let both = |payload: &[u8]| {
            [
                client(Packet::udp(talk.client, talk.asked, payload)),
                backend(Packet::udp(talk.backend, talk.client, payload)),
            ]
        };
        both(b"")
            .into_iter()
            .chain(both(&[7; 8_000]))
            .chain(both(&[7; 1_371]))
            .collect()
    });
    add("a length that is not the packet's", |talk| {
        let with_length = |length: u16| {
            let mut packet = talk.forward();
            packet.transport[4..6].copy_from_slice(&length.to_be_bytes());
            client(packet)
        };
        vec![
            client(talk.forward()),
            with_length(7),
            with_length(0),
            with_length(200),
            with_length(12),
        ]
    });
    add("an answer that nobody asked for", |talk| {
        vec![backend(talk.reply())]
    });
    add("an answer from another port", |talk| {
        let mut reply = talk.reply();
        reply.transport[1] ^= 1;
        reply.finish(6);
        vec![
            client(talk.forward()),
            backend(reply),
            backend(talk.reply()),
        ]
    });
    add("cut short", |talk| {
        let mut forward = talk.forward();
        forward.transport.truncate(7);
        vec![
            client(forward.clone()),
            client(talk.forward()),
            client(forward),
        ]
    });
    maker.add(
        "udp: the same ports by the backend's own address",
        |family, port| {
            let served = Talk::served(family, UDP, port);
            let plain = Talk::plain(family, UDP, port);
            vec![
                client(served.forward()),
                backend(served.reply()),
                client(plain.forward()),
            ]
        },
    );
    maker.add(
        "udp: a port that the service does not have",
        |family, port| {
            let packet = Packet::udp((family.client(), port), (family.service(), 54), b"anybody?");
            vec![client(packet)]
        },
    );
}

/// The three segments that open a connection.
fn opened(talk: &Talk) -> Vec<Step> {
    vec![
        client(talk.sent((1_000, 0), SYN, b"")),
        backend(talk.answered((5_000, 1_001), SYN | ACK, b"")),
        client(talk.sent((1_001, 5_001), ACK, b"")),
    ]
}

fn then(mut steps: Vec<Step>, more: Vec<Step>) -> Vec<Step> {
    steps.extend(more);
    steps
}

fn connections(maker: &mut Maker) {
    let mut add = |name: &str, steps: fn(Talk) -> Vec<Step>| maker.add_talk(TCP, name, steps);
    add("a connection and its end", |talk| {
        then(
            opened(&talk),
            vec![
                client(talk.sent((1_001, 5_001), PSH | ACK, b"question")),
                backend(talk.answered((5_001, 1_009), PSH | ACK, b"answer")),
                client(talk.sent((1_009, 5_007), FIN | ACK, b"")),
                backend(talk.answered((5_007, 1_010), ACK, b"more")),
                backend(talk.answered((5_011, 1_010), FIN | ACK, b"")),
                client(talk.sent((1_010, 5_012), ACK, b"")),
                client(talk.sent((1_010, 5_012), ACK, b"")),
            ],
        )
    });
    add("both close at once", |talk| {
        then(
            opened(&talk),
            vec![
                client(talk.sent((1_001, 5_001), FIN | ACK, b"")),
                backend(talk.answered((5_001, 1_001), FIN | ACK, b"")),
                client(talk.sent((1_002, 5_002), ACK, b"")),
                backend(talk.answered((5_002, 1_002), ACK, b"")),
            ],
        )
    });
    add("the client resets it", |talk| {
        then(
            opened(&talk),
            vec![
                client(talk.sent((1_001, 5_001), RST | ACK, b"")),
                backend(talk.answered((5_001, 1_001), ACK, b"on its way")),
            ],
        )
    });
    add("the backend resets it", |talk| {
        then(
            opened(&talk),
            vec![
                client(talk.sent((1_001, 5_001), ACK, b"question")),
                backend(talk.answered((5_001, 0), RST, b"")),
                client(talk.sent((1_009, 5_001), ACK, b"on its way")),
            ],
        )
    });
    add("refused", |talk| {
        vec![
            client(talk.sent((1_000, 0), SYN, b"")),
            backend(talk.answered((0, 1_001), RST | ACK, b"")),
            client(talk.sent((2_000, 0), SYN, b"")),
            backend(talk.answered((0, 2_001), RST | ACK, b"")),
        ]
    });
    add("opened anew after its end", |talk| {
        let end = vec![
            client(talk.sent((1_001, 5_001), FIN | ACK, b"")),
            backend(talk.answered((5_001, 1_002), FIN | ACK, b"")),
            client(talk.sent((1_002, 5_002), ACK, b"")),
            client(talk.sent((900_000, 0), SYN, b"")),
            backend(talk.answered((700_000, 900_001), SYN | ACK, b"")),
            client(talk.sent((900_001, 700_001), ACK, b"again")),
        ];
        then(opened(&talk), end)
    });
    add("opened anew after a reset", |talk| {
        let end = vec![
            backend(talk.answered((5_001, 1_001), RST | ACK, b"")),
            client(talk.sent((900_000, 0), SYN, b"")),
            backend(talk.answered((700_000, 900_001), SYN | ACK, b"")),
        ];
        then(opened(&talk), end)
    });
    add("a SYN again and again", |talk| {
        let syn = || client(talk.sent((1_000, 0), SYN, b""));
        then(vec![syn(), syn(), syn()], opened(&talk))
    });
    add("opened from both ends at once", |talk| {
        vec![
            client(talk.sent((1_000, 0), SYN, b"")),
            backend(talk.answered((5_000, 0), SYN, b"")),
            client(talk.sent((1_000, 5_001), SYN | ACK, b"")),
            backend(talk.answered((5_000, 1_001), SYN | ACK, b"")),
            client(talk.sent((1_001, 5_001), ACK, b"data")),
        ]
    });
    add("a SYN with data", |talk| {
        vec![client(talk.sent((1_000, 0), SYN, b"early"))]
    });
    add("a SYN and an ACK that nobody asked for", |talk| {
        vec![
            backend(talk.answered((5_000, 1_001), SYN | ACK, b"")),
            client(talk.sent((1_000, 5_001), SYN | ACK, b"")),
        ]
    });
    add("the middle of an unknown connection", |talk| {
        vec![client(talk.sent((1_001, 5_001), ACK, b"lost"))]
    });
    add("the end of an unknown connection", |talk| {
        vec![client(talk.sent((1_001, 5_001), FIN | ACK, b""))]
    });
    add("a reset of an unknown connection", |talk| {
        vec![client(talk.sent((1_001, 5_001), RST, b""))]
    });
}

fn unusual_segments(maker: &mut Maker) {
    let mut add = |name: &str, steps: fn(Talk) -> Vec<Step>| maker.add_talk(TCP, name, steps);
    add("explicit congestion notification", |talk| {
        const ECE: u8 = 0x40;
        const CWR: u8 = 0x80;
        vec![
            client(talk.sent((1_000, 0), SYN | ECE | CWR, b"")),
            backend(talk.answered((5_000, 1_001), SYN | ACK | ECE, b"")),
            client(talk.sent((1_001, 5_001), ACK | CWR, b"data")),
            backend(talk.answered((5_001, 1_005), ACK | ECE, b"")),
        ]
    });
    add("urgent data", |talk| {
        let mut urgent = talk.sent((1_001, 5_001), ACK | URG, b"now");
        urgent.transport[19] = 3;
        urgent.finish(16);
        then(opened(&talk), vec![client(urgent)])
    });
    add("options", |talk| {
        vec![
            client(with_options(&talk, 1_460)),
            backend(talk.answered((5_000, 1_001), SYN | ACK, b"")),
        ]
    });
    add("a segment size that nobody carries", |talk| {
        vec![client(with_options(&talk, 65_495))]
    });
    add("a wrong checksum stays as wrong", |talk| {
        let wrong = |mut packet: Packet| {
            packet.transport[16] ^= 1;
            packet
        };
        vec![
            client(wrong(talk.sent((1_000, 0), SYN, b""))),
            backend(wrong(talk.answered((5_000, 1_001), SYN | ACK, b""))),
        ]
    });
    add("a header that is too short", |talk| {
        let with_offset = |offset: u8| {
            let mut packet = talk.sent((1_001, 5_001), ACK, b"");
            packet.transport[12] = offset << 4;
            packet.finish(16);
            client(packet)
        };
        let mut cut = talk.sent((1_001, 5_001), ACK, b"");
        cut.transport.truncate(19);
        then(
            opened(&talk),
            vec![with_offset(4), with_offset(6), client(cut)],
        )
    });
    for (name, flags) in [
        ("no flags", 0),
        ("SYN and FIN", SYN | FIN),
        ("SYN and RST", SYN | RST),
        ("FIN alone", FIN),
        ("all flags", 0x3f),
    ] {
        maker.add_talk(TCP, &format!("in a connection: {name}"), |talk| {
            then(
                opened(&talk),
                vec![client(talk.sent((1_001, 5_001), flags, b""))],
            )
        });
        maker.add_talk(TCP, &format!("to begin with: {name}"), |talk| {
            vec![client(talk.sent((1_000, 0), flags, b""))]
        });
    }
    let mut add = |name: &str, steps: fn(Talk) -> Vec<Step>| maker.add_talk(TCP, name, steps);
    add("an ACK before the answer", |talk| {
        vec![
            client(talk.sent((1_000, 0), SYN, b"")),
            client(talk.sent((1_001, 5_001), ACK, b"too early")),
        ]
    });
    add("data outside of the window", |talk| {
        then(
            opened(&talk),
            vec![client(talk.sent((900_000_000, 5_001), ACK, b"stray"))],
        )
    });
    add("a blind RST", |talk| {
        then(
            opened(&talk),
            vec![
                backend(talk.answered((900_000_000, 0), RST, b"")),
                client(talk.sent((1_001, 5_001), ACK, b"still here")),
                backend(talk.answered((5_001, 1_011), ACK, b"so am I")),
            ],
        )
    });
    add("a blind SYN", |talk| {
        then(
            opened(&talk),
            vec![
                client(talk.sent((900_000_000, 0), SYN, b"")),
                client(talk.sent((1_001, 5_001), ACK, b"still here")),
                backend(talk.answered((5_001, 1_011), ACK, b"so am I")),
            ],
        )
    });
}

/// A SYN with maximum segment size, window scale, SACK permitted and a time stamp.
fn with_options(talk: &Talk, mss: u16) -> Packet {
    let mut syn = talk.sent((1_000, 0), SYN, b"");
    syn.transport[12] = 10 << 4;
    syn.transport.extend([2, 4]);
    syn.transport.extend(mss.to_be_bytes());
    syn.transport
        .extend([4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]);
    syn.finish(16);
    syn
}
