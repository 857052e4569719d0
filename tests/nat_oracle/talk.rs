//! Who talks with whom, and one conversation's packets as each place sees them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::forge::{End, Packet, SCTP, TCP, UDP};

/// Protocol, port of the service and port of its backend, as `rules.nft` says too.
pub(crate) const PORTS: [(u8, u16, u16); 3] =
    [(UDP, 53, 5353), (TCP, 80, 8080), (SCTP, 3868, 3869)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
        }
    }

    fn pick(self, v4: [u8; 4], v6: [u16; 3]) -> IpAddr {
        let [a, b, c] = v6;
        let [.., last] = v4;
        match self {
            Family::V4 => Ipv4Addr::from(v4).into(),
            Family::V6 => Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last.into()).into(),
        }
    }

    /// The pod.
    pub(crate) fn client(self) -> IpAddr {
        self.pick([10, 1, 0, 9], [0xfd10, 1, 0])
    }

    /// The service, which nobody has.
    pub(crate) fn service(self) -> IpAddr {
        self.pick([10, 96, 0, 1], [0xfd10, 0x96, 0])
    }

    /// The only backend, outside of the mesh: between it and us nothing is sealed.
    pub(crate) fn backend(self) -> IpAddr {
        self.pick([203, 0, 113, 9], [0x2001, 0xdb8, 0x113])
    }

    /// The node that translates.
    pub(crate) fn node(self) -> IpAddr {
        self.pick([192, 0, 2, 1], [0x2001, 0xdb8, 0])
    }

    /// A router between the node and the backend.
    pub(crate) fn router(self) -> IpAddr {
        self.pick([198, 51, 100, 7], [0x2001, 0xdb8, 0x198])
    }

    /// Somebody who has to do with nothing.
    pub(crate) fn stranger(self) -> IpAddr {
        self.pick([198, 51, 100, 66], [0x2001, 0xdb8, 0x199])
    }
}

/// One conversation of the client's: through the service, or with the backend by its own address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    pub(crate) family: Family,
    pub(crate) protocol: u8,
    /// What the client asks.
    pub(crate) asked: End,
    /// Who answers.
    pub(crate) backend: End,
    pub(crate) client: End,
}

impl Talk {
    /// One through the service.
    pub(crate) fn served(family: Family, protocol: u8, client_port: u16) -> Talk {
        let (_, port, backend_port) = ports(protocol);
        Talk {
            family,
            protocol,
            asked: (family.service(), port),
            backend: (family.backend(), backend_port),
            client: (family.client(), client_port),
        }
    }

    /// One without translation.
    pub(crate) fn plain(family: Family, protocol: u8, client_port: u16) -> Talk {
        let served = Talk::served(family, protocol, client_port);
        Talk {
            asked: served.backend,
            ..served
        }
    }

    /// What the client sends, with some payload: of TCP the first segment after the opening.
    pub(crate) fn forward(&self) -> Packet {
        self.packet(self.client, self.asked)
    }

    /// The same as it reaches the backend.
    pub(crate) fn arrived(&self) -> Packet {
        self.packet(self.client, self.backend).ttl(63)
    }

    /// What the backend sends.
    pub(crate) fn reply(&self) -> Packet {
        self.packet(self.backend, self.client)
    }

    /// The same as it reaches the client.
    pub(crate) fn returned(&self) -> Packet {
        self.packet(self.asked, self.client).ttl(63)
    }

    /// A TCP segment from the client.
    pub(crate) fn sent(&self, numbers: (u32, u32), flags: u8, payload: &[u8]) -> Packet {
        Packet::tcp(self.client, self.asked, numbers, flags, payload)
    }

    /// A TCP segment from the backend.
    pub(crate) fn answered(&self, numbers: (u32, u32), flags: u8, payload: &[u8]) -> Packet {
        Packet::tcp(self.backend, self.client, numbers, flags, payload)
    }

    fn packet(&self, from: End, to: End) -> Packet {
        const PAYLOAD: &[u8] = b"some bytes of payload";
        match self.protocol {
            UDP => Packet::udp(from, to, PAYLOAD),
            TCP => {
                // Neither acknowledges what the other says here: both are under way at once.
                let numbers = if from == self.client {
                    (1_001, 5_001)
                } else {
                    (5_001, 1_001)
                };
                Packet::tcp(from, to, numbers, crate::forge::ACK, PAYLOAD)
            }
            other => panic!("no payload for protocol {other}"),
        }
    }
}

fn ports(protocol: u8) -> (u8, u16, u16) {
    let found = PORTS.into_iter().find(|(of, ..)| *of == protocol);
    found.expect("a protocol of the service")
}
