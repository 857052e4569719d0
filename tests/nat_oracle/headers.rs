//! What stands in the IP header and between it and the transport.

use crate::Side;
use crate::compare::{Script, Step, backend, client};
use crate::forge::{DF, Packet, UDP, finish_v4_header};
use crate::talk::{Family, Talk};

struct Maker {
    scripts: Vec<Script>,
    port: u16,
}

impl Maker {
    /// One through the service, one by the backend's own address.
    fn add(&mut self, family: Family, name: &str, steps: impl Fn(Talk) -> Vec<Step>) {
        self.port += 2;
        let port = self.port;
        let mut push = |name, talk| {
            let steps = steps(talk);
            self.scripts.push(Script {
                name,
                family,
                steps,
            });
        };
        push(name.into(), Talk::served(family, UDP, port));
        push(format!("plain {name}"), Talk::plain(family, UDP, port + 1));
    }

    fn add_both(&mut self, name: &str, steps: impl Fn(Talk) -> Vec<Step>) {
        for family in Family::BOTH {
            self.add(family, name, &steps);
        }
    }
}

pub(crate) fn scripts() -> Vec<Script> {
    let mut maker = Maker {
        scripts: Vec::new(),
        port: 30_000,
    };
    every_class(&mut maker);
    times_to_live(&mut maker);
    v4_headers(&mut maker);
    v4_options(&mut maker);
    v4_addresses(&mut maker);
    v6_extensions(&mut maker);
    maker.scripts
}

fn every_class(maker: &mut Maker) {
    maker.add_both("every DSCP and ECN", |talk| {
        let of_class = |mut packet: Packet, class| {
            packet.class = class;
            packet
        };
        let all = (0..=255).flat_map(|class| {
            [
                client(of_class(talk.forward(), class)),
                backend(of_class(talk.reply(), class)),
            ]
        });
        all.collect()
    });
}

fn times_to_live(maker: &mut Maker) {
    for ttl in [0, 1, 2, 255] {
        maker.add_both(&format!("TTL {ttl} from the client"), |talk| {
            vec![client(talk.forward()), client(talk.forward().ttl(ttl))]
        });
        maker.add_both(&format!("TTL {ttl} from the backend"), |talk| {
            vec![client(talk.forward()), backend(talk.reply().ttl(ttl))]
        });
    }
    maker.add_both("TTL 1 in the first packet", |talk| {
        vec![client(talk.forward().ttl(1)), client(talk.forward())]
    });
    maker.add_both("TTL 1 of a long packet", |talk| {
        let long = Packet::udp(talk.client, talk.asked, &[7; 1_400]);
        vec![client(long.ttl(1))]
    });
    maker.add_both("TTL 1 with a DSCP", |talk| {
        let mut packet = talk.forward().ttl(1);
        packet.class = 0xb8;
        vec![client(packet)]
    });
    maker.add_both("TTL 1 of a wrong checksum", |talk| {
        let mut packet = talk.forward().ttl(1);
        packet.transport[6] ^= 1;
        vec![client(packet)]
    });
}

fn v4_headers(maker: &mut Maker) {
    let mut add = |name: &str, change: fn(&mut Vec<u8>)| {
        maker.add(Family::V4, name, |talk| {
            let changed = |packet: Packet, from| {
                let mut bytes = packet.bytes();
                change(&mut bytes);
                Step { from, bytes }
            };
            vec![
                client(talk.forward()),
                changed(talk.forward(), Side::Client),
                changed(talk.reply(), Side::Backend),
            ]
        });
    };
    add("a wrong header checksum", |bytes| bytes[10] ^= 1);
    add("bytes behind the packet", |bytes| bytes.extend([1; 9]));
    add("a packet that ends early", |bytes| {
        bytes.truncate(bytes.len() - 4)
    });
    add("no version", |bytes| {
        bytes[0] = 0x55;
        finish_v4_header(&mut bytes[..20]);
    });
    add("a header length under five", |bytes| {
        bytes[0] = 0x44;
        finish_v4_header(&mut bytes[..16]);
    });
    add("a total length under the header's", |bytes| {
        bytes[2..4].copy_from_slice(&[0, 19]);
        finish_v4_header(&mut bytes[..20]);
    });
    for (name, word) in [
        ("DF", DF),
        ("the reserved flag", 0x8000),
        ("DF and the reserved flag", 0xc000),
    ] {
        maker.add(Family::V4, name, |talk| {
            let with_word = |mut packet: Packet| {
                packet.word = word;
                packet.id = 0;
                packet
            };
            vec![
                client(with_word(talk.forward())),
                backend(with_word(talk.reply())),
            ]
        });
    }
}

fn v4_options(maker: &mut Maker) {
    let all: [(&str, &[u8]); 13] = [
        ("record route", &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("record route that is full", &[7, 7, 8, 192, 0, 2, 77, 0]),
        ("time stamp", &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("router alert", &[148, 4, 0, 0]),
        ("security", &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("stream identifier", &[136, 4, 0, 1]),
        ("unknown", &[222, 4, 1, 2]),
        ("nothing", &[1, 1, 1, 0]),
        ("loose source route", &[131, 7, 4, 192, 0, 2, 77, 0]),
        ("strict source route", &[137, 7, 4, 192, 0, 2, 77, 0]),
        ("of length zero", &[222, 0, 0, 0]),
        ("longer than the header", &[222, 9, 0, 0]),
        ("record route with a bad pointer", &[7, 7, 2, 0, 0, 0, 0, 0]),
    ];
    for (name, options) in all {
        maker.add(Family::V4, &format!("option: {name}"), |talk| {
            let with = |mut packet: Packet| {
                packet.options = options.to_vec();
                packet
            };
            vec![
                client(talk.forward()),
                client(with(talk.forward())),
                backend(with(talk.reply())),
            ]
        });
    }
}

fn v4_addresses(maker: &mut Maker) {
    let all = [
        ("of this host", [127, 0, 0, 1]),
        ("of this network", [0, 1, 2, 3]),
        ("unspecified", [0, 0, 0, 0]),
        ("multicast", [239, 1, 2, 3]),
        ("reserved", [240, 1, 2, 3]),
        ("broadcast", [255, 255, 255, 255]),
    ];
    for (name, octets) in all {
        maker.add(Family::V4, &format!("a source {name}"), |talk| {
            vec![client(Packet::udp(
                (octets.into(), talk.client.1),
                talk.asked,
                b"from nowhere",
            ))]
        });
        maker.add(Family::V4, &format!("a destination {name}"), |talk| {
            vec![client(Packet::udp(
                talk.client,
                (octets.into(), 53),
                b"to nowhere",
            ))]
        });
    }
}

fn v6_extensions(maker: &mut Maker) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    const MOBILITY: u8 = 135;
    // The first byte is the next header's number, the second the length; then options.
    let all: [(&str, u8, &[u8]); 17] = [
        ("hop-by-hop padding", HOP_BY_HOP, &[0, 0, 1, 4, 0, 0, 0, 0]),
        (
            "hop-by-hop router alert",
            HOP_BY_HOP,
            &[0, 0, 5, 2, 0, 0, 1, 0],
        ),
        (
            "hop-by-hop unknown, skip",
            HOP_BY_HOP,
            &[0, 0, 0x1e, 4, 1, 2, 3, 4],
        ),
        (
            "hop-by-hop unknown, discard",
            HOP_BY_HOP,
            &[0, 0, 0x5e, 4, 1, 2, 3, 4],
        ),
        (
            "hop-by-hop unknown, report",
            HOP_BY_HOP,
            &[0, 0, 0x9e, 4, 1, 2, 3, 4],
        ),
        (
            "hop-by-hop unknown, report but for many",
            HOP_BY_HOP,
            &[0, 0, 0xde, 4, 1, 2, 3, 4],
        ),
        (
            "hop-by-hop with a broken option",
            HOP_BY_HOP,
            &[0, 0, 0x1e, 9, 1, 2, 3, 4],
        ),
        (
            "hop-by-hop longer than the packet",
            HOP_BY_HOP,
            &[0, 200, 1, 4, 0, 0, 0, 0],
        ),
        (
            "destination options",
            DESTINATION,
            &[0, 0, 1, 4, 0, 0, 0, 0],
        ),
        (
            "destination options unknown, discard",
            DESTINATION,
            &[0, 0, 0x5e, 4, 1, 2, 3, 4],
        ),
        (
            "routing of type 4 at its end",
            ROUTING,
            &[0, 0, 4, 0, 0, 0, 0, 0],
        ),
        (
            "routing of type 4 on its way",
            ROUTING,
            &[
                0, 2, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9,
            ],
        ),
        ("routing of type 0", ROUTING, &[0, 0, 0, 0, 0, 0, 0, 0]),
        (
            "authentication",
            AUTHENTICATION,
            &[0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4],
        ),
        ("mobility", MOBILITY, &[0, 0, 1, 0, 0, 0, 0, 0]),
        ("unknown number", 200, &[0, 0, 1, 4, 0, 0, 0, 0]),
        ("an atomic fragment", 44, &[0, 0, 0, 0, 1, 2, 3, 4]),
    ];
    for (name, number, bytes) in all {
        maker.add(Family::V6, &format!("extension: {name}"), |talk| {
            let with = |packet: Packet| packet.extension(number, bytes);
            vec![
                client(talk.forward()),
                client(with(talk.forward())),
                backend(with(talk.reply())),
            ]
        });
    }
    maker.add(Family::V6, "extension: several", |talk| {
        let padding = [0, 0, 1, 4, 0, 0, 0, 0];
        let with = |packet: Packet| {
            packet
                .extension(HOP_BY_HOP, &padding)
                .extension(DESTINATION, &padding)
                .extension(ROUTING, &[0, 0, 4, 0, 0, 0, 0, 0])
                .extension(DESTINATION, &padding)
        };
        vec![
            client(talk.forward()),
            client(with(talk.forward())),
            backend(with(talk.reply())),
        ]
    });
    maker.add(
        Family::V6,
        "extension: hop-by-hop that is not the first",
        |talk| {
            let padding = [0, 0, 1, 4, 0, 0, 0, 0];
            vec![client(
                talk.forward()
                    .extension(DESTINATION, &padding)
                    .extension(HOP_BY_HOP, &padding),
            )]
        },
    );
    maker.add(Family::V6, "nothing behind the header", |talk| {
        vec![client(Packet::new(
            talk.client.0,
            talk.asked.0,
            59,
            Vec::new(),
        ))]
    });
    maker.add(Family::V6, "a flow label", |talk| {
        let labelled = |packet: Packet, from| {
            let mut bytes = packet.bytes();
            bytes[1..4].copy_from_slice(&[0x0a, 0xbc, 0xde]);
            Step { from, bytes }
        };
        vec![
            labelled(talk.forward(), Side::Client),
            labelled(talk.reply(), Side::Backend),
        ]
    });
}
