//! Those who do not keep to the rules: a pod that sends garbage and other pods' addresses, and a node
//! that has been taken over and speaks for others.

use std::net::IpAddr;

use crate::model::{NODES, node_v4, node_v6, pod_v4, pod_v6};
use crate::random::Random;
use crate::sim::{FUZZED, HOSTILE, Sim};

/// One hostile act. Nothing of it may be delivered, but what is a pod's own.
pub fn act(sim: &mut Sim) {
    let node = sim.random.index(NODES);
    let v4 = sim.random.percent(60);
    let Some(victim) = local_address(sim, node, v4) else {
        return;
    };
    match sim.random.below(6) {
        0 => {
            let mut garbage = vec![0; sim.random.between(1, 200) as usize];
            sim.random.fill(&mut garbage);
            garbage.extend_from_slice(HOSTILE);
            // A length that cannot be, whatever else it is.
            garbage.truncate(sim.random.between(1, 39) as usize);
            sim.inject(node, garbage);
        }
        1 => {
            let port = port(&mut sim.random);
            let mut packet = udp((victim, port), (victim, 53), HOSTILE, 64);
            packet.truncate(packet.len() - sim.random.between(1, 16) as usize);
            sim.inject(node, packet);
        }
        2 => {
            // From our TUN, and another node's.
            let source = foreign_address(sim, node, v4);
            let packet = udp((source, port(&mut sim.random)), (victim, 53), HOSTILE, 64);
            sim.inject(node, packet);
        }
        3 => {
            let Some(source) = local_address(sim, node, v4) else {
                return;
            };
            let to = foreign_address(sim, node, v4);
            let mut packet = udp((source, port(&mut sim.random)), (to, 53), FUZZED, 64);
            fuzz(&mut sim.random, &mut packet);
            sim.inject(node, packet);
        }
        4 => {
            // Larger than the tunnel carries.
            let to = foreign_address(sim, node, v4);
            let mut payload = FUZZED.to_vec();
            payload.resize(sim.mtu - 28 + sim.random.below(100) as usize, 0);
            let packet = udp((victim, port(&mut sim.random)), (to, 53), &payload, 64);
            sim.inject(node, packet);
        }
        _ => take_over(sim, node, v4),
    }
}

/// A node seals what it may not: others' sources, or what its peer is not to carry on.
fn take_over(sim: &mut Sim, node: usize, v4: bool) {
    let to = (node + sim.random.between(1, 3) as usize) % NODES;
    let Some(victim) = local_address(sim, to, v4) else {
        return;
    };
    let third = (0..NODES)
        .find(|n| *n != node && *n != to)
        .expect("four nodes");
    let stranger: IpAddr = match v4 {
        true => [203, 0, 113, 9].into(),
        false => [0x2001, 0xdb8, 9, 0, 0, 0, 0, 9].into(),
    };
    let source = match sim.random.below(5) {
        // The victim's neighbour, its node, somebody else's pod, and the world.
        0 => local_address(sim, to, v4).unwrap_or(victim),
        1 => {
            if v4 {
                node_v4(to)
            } else {
                node_v6(to)
            }
        }
        2 => foreign_address(sim, node, v4),
        3 => stranger,
        _ => {
            // Its own pod, to somebody who is not there.
            let own = local_address(sim, node, v4);
            let elsewhere = local_address(sim, third, v4);
            if let (Some(own), Some(elsewhere)) = (own, elsewhere) {
                let packet = udp((own, port(&mut sim.random)), (elsewhere, 53), HOSTILE, 64);
                let now = sim.clocks();
                sim.hosts[node].forge(now, to, &packet);
            }
            return;
        }
    };
    if crate::reference::node_of_prefix(source) == Some(node) {
        return;
    }
    let packet = udp((source, port(&mut sim.random)), (victim, 53), HOSTILE, 64);
    let now = sim.clocks();
    sim.hosts[node].forge(now, to, &packet);
}

/// Ports that no stack uses.
fn port(random: &mut Random) -> u16 {
    random.between(61_000, 65_000) as u16
}

fn local_address(sim: &mut Sim, node: usize, v4: bool) -> Option<IpAddr> {
    let here = sim.places.iter().filter(|place| place.node == Some(node));
    let addresses: Vec<IpAddr> = here.filter_map(|place| place.stack.address(v4)).collect();
    let count = addresses.len();
    (count > 0).then(|| addresses[sim.random.index(count)])
}

/// An address of another node: a pod's that is there, or that might be.
fn foreign_address(sim: &mut Sim, node: usize, v4: bool) -> IpAddr {
    let other = (node + sim.random.between(1, 3) as usize) % NODES;
    let number = sim.random.between(1, 20) as u8;
    let nobody = if v4 {
        pod_v4(other, number)
    } else {
        pod_v6(other, number)
    };
    match sim.random.percent(70) {
        true => local_address(sim, other, v4).unwrap_or(nobody),
        false => nobody,
    }
}

/// Changes a few bits of the headers; but not the source, which the host's rules have proven, nor the
/// length, or the mark by which we know it might be cut off.
fn fuzz(random: &mut Random, packet: &mut [u8]) {
    let (source, length, headers) = match packet[0] >> 4 {
        4 => (12..16, 2..4, 28),
        _ => (8..24, 4..6, 48),
    };
    for _ in 0..random.between(1, 4) {
        let place = random.index(headers);
        if !source.contains(&place) && !length.contains(&place) {
            packet[place] ^= 1 << random.below(8);
        }
    }
    // With a good checksum a change gets further.
    if source.len() == 4 && random.percent(80) {
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// A datagram with good checksums.
fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8], ttl: u8) -> Vec<u8> {
    let length = 8 + payload.len();
    let mut body = Vec::new();
    for word in [from.1, to.1, length as u16, 0] {
        body.extend_from_slice(&word.to_be_bytes());
    }
    body.extend_from_slice(payload);
    let mut packet = Vec::new();
    let mut pseudo = Vec::new();
    match (from.0, to.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = (20 + length) as u16;
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&total.to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0x40, 0, ttl, 17, 0, 0]);
            packet.extend_from_slice(&source.octets());
            packet.extend_from_slice(&destination.octets());
            let sum = checksum(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            pseudo.extend_from_slice(&packet[12..20]);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&(length as u16).to_be_bytes());
            packet.extend_from_slice(&[17, ttl]);
            packet.extend_from_slice(&source.octets());
            packet.extend_from_slice(&destination.octets());
            pseudo.extend_from_slice(&packet[8..40]);
        }
        _ => unreachable!("two families in one packet"),
    }
    pseudo.extend_from_slice(&[0, 17]);
    pseudo.extend_from_slice(&(length as u16).to_be_bytes());
    pseudo.extend_from_slice(&body);
    let sum = match checksum(&pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    body[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&body);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
