//! Fragments: the kernel makes datagrams whole before it translates them, and cuts them again behind.

use crate::Side;
use crate::compare::{Script, Step};
use crate::forge::{ACK, Packet, SYN, TCP, UDP};
use crate::talk::{Family, Talk};

struct Maker {
    scripts: Vec<Script>,
    port: u16,
}

impl Maker {
    /// One for each family, through the service and by the backend's own address, from the client and from the backend
    /// as an answer. `pieces` gets a datagram of 1,208 bytes behind the IP header.
    fn add(&mut self, name: &str, pieces: impl Fn(&Packet) -> Vec<Vec<u8>>) {
        for family in Family::BOTH {
            self.port += 2;
            let served = Talk::served(family, UDP, self.port);
            let plain = Talk::plain(family, UDP, self.port + 1);
            for (kind, talk) in [("", served), ("plain ", plain)] {
                let payload: Vec<u8> = (0..1_200u16).map(|n| n as u8).collect();
                let first = Step {
                    from: Side::Client,
                    bytes: talk.forward().bytes(),
                };
                let from_client = Packet::udp(talk.client, talk.asked, &payload);
                let from_backend = Packet::udp(talk.backend, talk.client, &payload);
                self.push(
                    format!("{kind}question: {name}"),
                    family,
                    None,
                    Side::Client,
                    from_client,
                    &pieces,
                );
                self.push(
                    format!("{kind}answer: {name}"),
                    family,
                    Some(first),
                    Side::Backend,
                    from_backend,
                    &pieces,
                );
            }
        }
    }

    fn push(
        &mut self,
        name: String,
        family: Family,
        first: Option<Step>,
        from: Side,
        mut packet: Packet,
        pieces: &impl Fn(&Packet) -> Vec<Vec<u8>>,
    ) {
        // Of each datagram its own: what is left of one must not meet another's.
        packet.id = u32::try_from(self.scripts.len()).expect("few scripts") + 1;
        let fragments = pieces(&packet)
            .into_iter()
            .map(|bytes| Step { from, bytes });
        let steps = first.into_iter().chain(fragments).collect();
        self.scripts.push(Script {
            name,
            family,
            steps,
        });
    }
}

pub(crate) fn scripts() -> Vec<Script> {
    let mut maker = Maker {
        scripts: Vec::new(),
        port: 50_000,
    };
    let reordered = |packet: &Packet, order: &[usize]| -> Vec<Vec<u8>> {
        let fragments = packet.fragments(&[400, 800]);
        order
            .iter()
            .map(|place| fragments[*place].clone())
            .collect()
    };
    maker.add("two in order", |packet| packet.fragments(&[800]));
    maker.add("three in order", |packet| reordered(packet, &[0, 1, 2]));
    maker.add(
        "the first before the others, which are exchanged",
        |packet| reordered(packet, &[0, 2, 1]),
    );
    maker.add("backwards", |packet| reordered(packet, &[2, 1, 0]));
    maker.add("the last is lost", |packet| reordered(packet, &[0, 1]));
    maker.add("the first is lost", |packet| reordered(packet, &[1, 2]));
    maker.add("one comes twice", |packet| reordered(packet, &[0, 1, 1, 2]));
    maker.add("overlapping", |packet| {
        vec![
            packet.fragment(0, 800, true).bytes(),
            packet.fragment(400, 1_208, false).bytes(),
        ]
    });
    maker.add("a tiny first one", |packet| packet.fragments(&[8]));
    maker.add("a length that is no multiple of eight", |packet| {
        packet.fragments(&[801])
    });
    maker.add("an empty one", |packet| {
        vec![
            packet.fragment(0, 0, true).bytes(),
            packet.fragment(0, 800, true).bytes(),
        ]
    });
    connections(&mut maker);
    echoes(&mut maker);
    maker.scripts
}

fn connections(maker: &mut Maker) {
    for family in Family::BOTH {
        maker.port += 1;
        let talk = Talk::plain(family, TCP, maker.port);
        let syn = || Step {
            from: Side::Client,
            bytes: talk.sent((1_000, 0), SYN, b"").bytes(),
        };
        let answer = Step {
            from: Side::Backend,
            bytes: talk.answered((5_000, 1_001), SYN | ACK, b"").bytes(),
        };
        let mut segment = talk.sent((1_001, 5_001), ACK, &[3; 1_000]);
        segment.id = u32::from(maker.port);
        let sent = segment.fragments(&[512]).into_iter().map(|bytes| Step {
            from: Side::Client,
            bytes,
        });
        maker.scripts.push(Script {
            name: "plain tcp: two in order".into(),
            family,
            steps: [syn(), answer].into_iter().chain(sent).collect(),
        });
        segment.id += 0x8000;
        // RFC 1858: what would overwrite the flags.
        let split = segment.fragments(&[8, 512]).into_iter().map(|bytes| Step {
            from: Side::Client,
            bytes,
        });
        maker.scripts.push(Script {
            name: "tcp by the backend's address: a header in two pieces".into(),
            family,
            steps: [syn()].into_iter().chain(split).collect(),
        });
    }
}

fn echoes(maker: &mut Maker) {
    for family in Family::BOTH {
        maker.port += 1;
        let ask = Packet::echo(
            family.client(),
            family.backend(),
            true,
            maker.port,
            &[5; 1_000],
        );
        let steps = ask.fragments(&[504]).into_iter().map(|bytes| Step {
            from: Side::Client,
            bytes,
        });
        maker.scripts.push(Script {
            name: "echo: two in order".into(),
            family,
            steps: steps.collect(),
        });
    }
}
