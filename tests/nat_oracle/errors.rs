//! ICMP errors about packets of known and unknown conversations, with whole and broken quotes.

use std::net::IpAddr;

use crate::compare::{Script, Step, backend, client};
use crate::forge::{ACK, Packet, SYN, TCP, UDP, finish_v4_header};
use crate::talk::{Family, Talk};

/// Type, code, the four bytes behind the checksum, and a name.
type Kind = (u8, u8, u32, String);

fn kinds(family: Family) -> Vec<Kind> {
    let mut all: Vec<Kind> = Vec::new();
    let mut add = |kind, codes: std::ops::Range<u8>, word, name: &str| {
        all.extend(codes.map(|code| (kind, code, word, format!("{name} {code}"))));
    };
    match family {
        Family::V4 => {
            add(3, 0..16, 0, "unreachable");
            add(3, 4..5, 1_280, "packet too big");
            add(4, 0..1, 0, "source quench");
            add(5, 0..4, 0x0a01_0001, "redirect");
            add(11, 0..2, 0, "time exceeded");
            add(12, 0..3, 0x0900_0000, "parameter problem");
        }
        Family::V6 => {
            add(1, 0..9, 0, "unreachable");
            add(2, 0..1, 1_280, "packet too big");
            add(3, 0..2, 0, "time exceeded");
            add(4, 0..4, 6, "parameter problem");
            add(100, 0..1, 0, "private error");
            add(127, 0..1, 0, "reserved error");
        }
    }
    all
}

/// What becomes of the quote of a packet, and a name.
type Quoting = (&'static str, fn(&Talk, &Packet) -> Vec<u8>);

const QUOTES: &[Quoting] = &[
    ("eight bytes of the transport", |_, packet| cut(packet, 8)),
    ("seven bytes of the transport", |_, packet| cut(packet, 7)),
    ("four bytes of the transport", |_, packet| cut(packet, 4)),
    ("three bytes of the transport", |_, packet| cut(packet, 3)),
    ("no byte of the transport", |_, packet| cut(packet, 0)),
    ("an odd length", |_, packet| cut(packet, 25)),
    ("seventeen bytes of the transport", |_, packet| {
        cut(packet, 17)
    }),
    ("eighteen bytes of the transport", |_, packet| {
        cut(packet, 18)
    }),
    ("nineteen bytes of the transport", |_, packet| {
        cut(packet, 19)
    }),
    ("twenty bytes of the transport", |_, packet| cut(packet, 20)),
    ("half of an IP header", |_, packet| {
        packet.bytes()[..10].to_vec()
    }),
    ("nothing", |_, _| Vec::new()),
    ("a wrong transport checksum", |talk, packet| {
        let mut packet = packet.clone();
        packet.transport[if talk.protocol == UDP { 6 } else { 16 }] ^= 1;
        packet.bytes()
    }),
    ("a checksum field of zero", |talk, packet| {
        let mut packet = packet.clone();
        let at = if talk.protocol == UDP { 6 } else { 16 };
        packet.transport[at..at + 2].fill(0);
        packet.bytes()
    }),
    ("a destination port of nobody", |_, packet| {
        changed(packet, |packet| packet.transport[3] ^= 1)
    }),
    ("a source port of nobody", |_, packet| {
        changed(packet, |packet| packet.transport[1] ^= 1)
    }),
    ("another protocol", |_, packet| {
        changed(packet, |packet| packet.protocol ^= 17 ^ 6)
    }),
    ("another source", |talk, packet| {
        changed(packet, |packet| packet.from = talk.family.stranger())
    }),
    ("another destination", |talk, packet| {
        changed(packet, |packet| packet.to = talk.family.stranger())
    }),
    ("both ends exchanged", |_, packet| {
        changed(packet, |packet| {
            (packet.from, packet.to) = (packet.to, packet.from);
            packet.transport[..4].rotate_left(2);
        })
    }),
    ("another version", |_, packet| {
        let mut bytes = packet.bytes();
        bytes[0] ^= 0x20;
        bytes
    }),
    ("a time to live of zero", |_, packet| {
        packet.clone().ttl(0).bytes()
    }),
    ("bytes behind the packet", |_, packet| {
        let mut bytes = packet.bytes();
        bytes.extend([9; 13]);
        bytes
    }),
];

const QUOTES_V4: &[Quoting] = &[
    ("a wrong header checksum", |_, packet| {
        let mut bytes = packet.bytes();
        bytes[10] ^= 1;
        bytes
    }),
    ("a header length under five", |_, packet| {
        let mut bytes = packet.bytes();
        bytes[0] = 0x44;
        bytes
    }),
    ("a header longer than the quote", |_, packet| {
        let mut bytes = cut(packet, 8);
        bytes[0] = 0x4f;
        bytes
    }),
    ("a total length that lies", |_, packet| {
        let mut bytes = packet.bytes();
        bytes[2] = 0x40;
        finish_v4_header(&mut bytes[..20]);
        bytes
    }),
    ("a header with options", |_, packet| {
        let mut packet = packet.clone();
        packet.options = vec![148, 4, 0, 0];
        packet.bytes()
    }),
    ("a later fragment", |_, packet| {
        let mut packet = packet.clone();
        packet.word = 3;
        packet.bytes()
    }),
    ("a first fragment", |_, packet| {
        let mut packet = packet.clone();
        packet.word = crate::forge::MF;
        packet.bytes()
    }),
];

const QUOTES_V6: &[Quoting] = &[
    ("an extension header", |_, packet| {
        packet
            .clone()
            .extension(60, &[0, 0, 1, 4, 0, 0, 0, 0])
            .bytes()
    }),
    ("an extension header that is cut", |_, packet| {
        packet
            .clone()
            .extension(60, &[0, 9, 1, 4, 0, 0, 0, 0])
            .bytes()
    }),
    ("a first fragment", |_, packet| {
        packet.fragment(0, packet.transport.len(), true).bytes()
    }),
    ("a later fragment", |_, packet| {
        let length = packet.transport.len();
        let mut fragment = packet.fragment(0, length, false);
        fragment.extensions[0].1[3] = 8;
        fragment.bytes()
    }),
];

fn cut(packet: &Packet, transport: usize) -> Vec<u8> {
    let mut bytes = packet.bytes();
    let header = bytes.len() - packet.transport.len();
    bytes.truncate(header + transport);
    bytes
}

fn changed(packet: &Packet, change: impl Fn(&mut Packet)) -> Vec<u8> {
    let mut packet = packet.clone();
    change(&mut packet);
    packet.bytes()
}

fn quotes(family: Family) -> impl Iterator<Item = &'static Quoting> {
    let own = match family {
        Family::V4 => QUOTES_V4,
        Family::V6 => QUOTES_V6,
    };
    QUOTES.iter().chain(own)
}

/// An error to whom the quoted packet came from.
fn error(from: IpAddr, to: IpAddr, kind: &Kind, quote: &[u8]) -> Packet {
    Packet::icmp(from, to, kind.0, kind.1, kind.2, quote)
}

/// A conversation that both ends have taken part in; what they said last has not been acknowledged.
fn known(talk: &Talk) -> Vec<Step> {
    if talk.protocol == UDP {
        return vec![client(talk.forward()), backend(talk.reply())];
    }
    vec![
        client(talk.sent((1_000, 0), SYN, b"")),
        backend(talk.answered((5_000, 1_001), SYN | ACK, b"")),
        client(talk.sent((1_001, 5_001), ACK, b"")),
        client(talk.forward()),
        backend(talk.reply()),
    ]
}

struct Maker {
    scripts: Vec<Script>,
    port: u16,
}

impl Maker {
    /// One for each family and protocol, through the service and not.
    fn add(&mut self, name: &str, family: Family, steps: impl Fn(&Talk) -> Vec<Step>) {
        for (protocol, of) in [(UDP, "udp"), (TCP, "tcp")] {
            self.port += 2;
            let (served, plain) = (
                Talk::served(family, protocol, self.port),
                Talk::plain(family, protocol, self.port + 1),
            );
            for (kind, talk) in [("", served), ("plain ", plain)] {
                let mut all = known(&talk);
                all.extend(steps(&talk));
                self.scripts.push(Script {
                    name: format!("{kind}{of}: {name}"),
                    family,
                    steps: all,
                });
            }
        }
    }
}

pub(crate) fn scripts() -> Vec<Script> {
    let mut maker = Maker {
        scripts: Vec::new(),
        port: 33_000,
    };
    for family in Family::BOTH {
        every_kind(&mut maker, family);
        every_quote(&mut maker, family);
        whose(&mut maker, family);
        about_echoes(&mut maker, family);
    }
    maker.scripts
}

fn every_kind(maker: &mut Maker, family: Family) {
    for kind in kinds(family) {
        let name = &kind.3;
        let to_client = |talk: &Talk, from| {
            let quote = talk.arrived().bytes();
            backend(error(from, talk.client.0, &kind, &quote))
        };
        maker.add(&format!("{name} from the backend"), family, |talk| {
            vec![to_client(talk, talk.backend.0)]
        });
        maker.add(&format!("{name} from a router"), family, |talk| {
            vec![to_client(talk, family.router())]
        });
        maker.add(&format!("{name} from the client"), family, |talk| {
            let quote = talk.returned().bytes();
            vec![client(error(talk.client.0, talk.asked.0, &kind, &quote))]
        });
    }
}

fn every_quote(maker: &mut Maker, family: Family) {
    let kind: Kind = match family {
        Family::V4 => (3, 3, 0, String::new()),
        Family::V6 => (1, 4, 0, String::new()),
    };
    for (name, quoting) in quotes(family) {
        maker.add(&format!("quote from the backend: {name}"), family, |talk| {
            let quote = quoting(talk, &talk.arrived());
            vec![backend(error(talk.backend.0, talk.client.0, &kind, &quote))]
        });
        maker.add(&format!("quote from the client: {name}"), family, |talk| {
            let quote = quoting(talk, &talk.returned());
            vec![client(error(talk.client.0, talk.asked.0, &kind, &quote))]
        });
    }
}

fn whose(maker: &mut Maker, family: Family) {
    let kind: Kind = match family {
        Family::V4 => (3, 1, 0, String::new()),
        Family::V6 => (1, 3, 0, String::new()),
    };
    maker.add("whose: the quote is not translated", family, |talk| {
        let quote = talk.forward().bytes();
        vec![backend(error(talk.backend.0, talk.client.0, &kind, &quote))]
    });
    maker.add(
        "whose: the quote is of another conversation",
        family,
        |talk| {
            let other = Talk {
                client: (talk.client.0, talk.client.1 ^ 0x4000),
                ..*talk
            };
            let mut steps = known(&other);
            let quote = other.arrived().bytes();
            steps.push(backend(error(talk.backend.0, talk.client.0, &kind, &quote)));
            steps
        },
    );
    maker.add(
        "whose: the quote is of an unknown conversation",
        family,
        |talk| {
            let other = Talk {
                client: (talk.client.0, talk.client.1 ^ 0x4000),
                ..*talk
            };
            let quote = other.arrived().bytes();
            vec![backend(error(talk.backend.0, talk.client.0, &kind, &quote))]
        },
    );
    maker.add(
        "whose: the error goes to another than it quotes",
        family,
        |talk| {
            let quote = talk.arrived().bytes();
            vec![backend(error(
                talk.backend.0,
                talk.family.node(),
                &kind,
                &quote,
            ))]
        },
    );
    maker.add(
        "whose: the client complains to the backend itself",
        family,
        |talk| {
            let quote = talk.reply().bytes();
            vec![client(error(talk.client.0, talk.backend.0, &kind, &quote))]
        },
    );
    maker.add("whose: the error has a wrong checksum", family, |talk| {
        let mut error = error(
            talk.backend.0,
            talk.client.0,
            &kind,
            &talk.arrived().bytes(),
        );
        error.transport[2] ^= 1;
        vec![backend(error)]
    });
    maker.add("whose: the error's time to live ends", family, |talk| {
        let quote = talk.arrived().bytes();
        vec![backend(
            error(talk.backend.0, talk.client.0, &kind, &quote).ttl(1),
        )]
    });
    maker.add("whose: the error has a class", family, |talk| {
        let mut error = error(
            talk.backend.0,
            talk.client.0,
            &kind,
            &talk.arrived().bytes(),
        );
        error.class = 0xc2;
        vec![backend(error)]
    });
    maker.add(
        "whose: the error says how long its quote is",
        family,
        |talk| {
            // RFC 4884: the quote is filled up, and an extension follows it.
            let mut quote = talk.arrived().bytes();
            quote.resize(128, 0);
            quote.extend([0x20, 0, 0xdf, 0xff, 0, 8, 1, 1, 0, 1, 0x21, 1]);
            let kind = (
                kind.0,
                kind.1,
                if family == Family::V4 {
                    32 << 16
                } else {
                    16 << 24
                },
                String::new(),
            );
            vec![backend(error(talk.backend.0, talk.client.0, &kind, &quote))]
        },
    );
    maker.add(
        "whose: the conversation goes on after an error",
        family,
        |talk| {
            let quote = talk.arrived().bytes();
            vec![
                backend(error(talk.backend.0, talk.client.0, &kind, &quote)),
                client(talk.forward()),
            ]
        },
    );
}

fn about_echoes(maker: &mut Maker, family: Family) {
    for kind in kinds(family) {
        for (from, place) in [
            (family.backend(), "the backend"),
            (family.router(), "a router"),
        ] {
            maker.port += 1;
            let (pod, id) = (family.client(), maker.port);
            let ask = Packet::echo(pod, family.backend(), true, id, b"ping");
            let quote = ask.clone().ttl(63).bytes();
            maker.scripts.push(Script {
                name: format!("echo: {} from {place}", kind.3),
                family,
                steps: vec![client(ask), backend(error(from, pod, &kind, &quote))],
            });
        }
    }
}
