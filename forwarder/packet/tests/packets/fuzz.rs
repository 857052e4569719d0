//! The harnesses of `scripts/fuzz` for this room. `cargo test` replays `__fuzz__/NAME/corpus` and
//! what once crashed, and then tries some random input.

use bolero::{TypeGenerator, check};
use packet::{Checksum, Header, Offload, Segmentation, SegmentationKind};

use crate::coalesce::{coalesce, cut, flow};
use crate::samples::{
    Sample, assert_right_checksums, fix_v4_checksum, on_the_wire, plain, super_packet, tcp, udp,
};
use crate::{parse, robust};

const ACK: u8 = 16;
const PSH: u8 = 8;

/// The packet as it is, and with the IPv4 checksum that a fuzzer does not find by itself.
fn both(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![bytes.to_vec()];
    if bytes.len() >= 20 && bytes[0] >> 4 == 4 {
        let mut right = bytes.to_vec();
        fix_v4_checksum(&mut right);
        all.push(right);
    }
    all
}

#[test]
fn the_fast_parse_agrees_with_etherparse() {
    check!(name = "parse")
        .with_iterations(2000)
        .for_each(|bytes| {
            for bytes in both(bytes) {
                parse::agree(&bytes).unwrap();
            }
        });
}

/// What a device may say, right or wrong.
#[derive(Clone, Copy, Debug, TypeGenerator)]
struct Said {
    checksum: Option<(u16, u16)>,
    segmentation: Option<(Kind, u16)>,
}

#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Kind {
    Tcp,
    TcpEcn,
    Udp,
}

impl Said {
    fn offload(self) -> Offload {
        Offload {
            checksum: self.checksum.map_or(Checksum::Complete, |(start, offset)| {
                Checksum::Partial { start, offset }
            }),
            segmentation: self.segmentation.map(|(kind, size)| Segmentation {
                kind: match kind {
                    Kind::Tcp => SegmentationKind::Tcp,
                    Kind::TcpEcn => SegmentationKind::TcpEcn,
                    Kind::Udp => SegmentationKind::Udp,
                },
                size,
            }),
        }
    }
}

#[test]
fn whatever_passes_the_parse_can_be_handled() {
    check!(name = "handle")
        .with_type::<(Said, Vec<u8>)>()
        .with_iterations(1000)
        .for_each(|(said, bytes)| {
            for bytes in both(bytes) {
                robust::handle(&bytes, said.offload()).unwrap();
            }
        });
}

/// A packet of one of a few senders, who mostly go on where they stopped.
#[derive(Clone, Debug, TypeGenerator)]
struct Step {
    flow: u8,
    tag: bool,
    push: bool,
    trouble: Option<Trouble>,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Trouble {
    Sequence(u32),
    Identifier(u16),
    Ttl(u8),
    Class(u8),
    Fragment(u16),
    Options([u8; 4]),
    TcpOptions([u8; 4]),
    Window(u16),
    Bit(u16),
    Behind([u8; 3]),
    Length(u16),
    Flags(u8),
}

/// What the senders send, in order, with their tags: only what the parse takes.
fn packets(steps: &[Step], v6: bool) -> Vec<(u32, Vec<u8>)> {
    let mut next = [(u32::MAX - 300, u16::MAX - 2); 4];
    let mut sent = Vec::new();
    for step in steps {
        let sender = usize::from(step.flow % 4);
        let (sequence, identifier) = &mut next[sender];
        let mut length = 100;
        match step.trouble {
            Some(Trouble::Sequence(other)) => *sequence = other,
            Some(Trouble::Identifier(other)) => *identifier = other,
            Some(Trouble::Length(other)) => length = usize::from(other % 1460),
            _ => {}
        }
        let mut sample = sample(step, v6, sender as u16, *sequence, length);
        sample.identifier = *identifier;
        let mut bytes = sample.bytes();
        match step.trouble {
            Some(Trouble::Bit(at)) => {
                let bits = bytes.len() * 8;
                let at = usize::from(at) % bits;
                bytes[at / 8] ^= 1 << (at % 8);
            }
            Some(Trouble::Behind(more)) => bytes.extend(more),
            _ => {}
        }
        *sequence = sequence.wrapping_add(length as u32);
        *identifier = identifier.wrapping_add(1);
        if Header::parse(&bytes).is_ok() {
            sent.push((u32::from(step.tag), bytes));
        }
    }
    sent
}

fn sample(step: &Step, v6: bool, sender: u16, sequence: u32, length: usize) -> Sample {
    let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
    let ports = (sender, 80);
    let options = match &step.trouble {
        Some(Trouble::TcpOptions(options)) => options,
        _ => &[1; 4],
    };
    let flags = match step.trouble {
        Some(Trouble::Flags(flags)) => flags,
        _ if step.push => ACK | PSH,
        _ => ACK,
    };
    let mut sample = match sender {
        3 => plain(v6, 17, udp(ports, &payload)),
        _ => plain(v6, 6, tcp(ports, sequence, flags, options, &payload)),
    };
    match step.trouble {
        Some(Trouble::Ttl(ttl)) => sample.ttl = ttl,
        Some(Trouble::Class(class)) => sample.class = class,
        Some(Trouble::Fragment(word)) => sample.fragment = word,
        Some(Trouble::Options(options)) => sample.options = options.to_vec(),
        Some(Trouble::Window(window)) if sender != 3 => {
            sample.transport[14..16].copy_from_slice(&window.to_be_bytes());
        }
        _ => {}
    }
    sample
}

#[test]
fn cutting_what_was_coalesced_gives_back_every_packet() {
    check!(name = "coalesce")
        .with_type::<(bool, u8, Vec<Step>)>()
        .with_iterations(500)
        .for_each(|(v6, slots, steps)| {
            let packets = packets(steps, *v6);
            let mut before: Vec<(u32, Vec<u8>)> = packets
                .iter()
                .map(|(tag, bytes)| {
                    let length = Header::parse(bytes).unwrap().length as usize;
                    (*tag, bytes[..length].to_vec())
                })
                .collect();
            let out = coalesce(&packets, usize::from(slots % 5) + 1);
            for (_, packet) in out.iter().filter(|(_, packet)| packet.segments() > 1) {
                on_the_wire(packet)
                    .iter()
                    .for_each(|s| assert_right_checksums(s));
            }
            let mut after = cut(&out);
            // A stable sort: the order within a flow stays.
            before.sort_by_key(|(_, bytes)| flow(bytes));
            after.sort_by_key(|(_, bytes)| flow(bytes));
            assert_eq!(after, before);
        });
}

/// A super-packet as a pod's stack hands it over.
#[derive(Clone, Debug, TypeGenerator)]
struct Whole {
    v6: bool,
    udp: bool,
    size: u16,
    sequence: u32,
    identifier: u16,
    flags: u8,
    class: u8,
    options: Vec<[u8; 4]>,
    length: u16,
    fill: u8,
}

#[test]
fn every_segment_is_a_packet_with_right_lengths_and_checksums() {
    check!(name = "segment")
        .with_type::<Whole>()
        .with_iterations(500)
        .for_each(|whole| {
            let length = usize::from(whole.length % 65_000);
            let payload = vec![whole.fill; length];
            let options = whole.options.concat();
            let options = &options[..options.len().min(40)];
            let mut sample = if whole.udp {
                plain(whole.v6, 17, udp((1, 2), &payload))
            } else {
                let text = tcp((1, 2), whole.sequence, whole.flags, options, &payload);
                plain(whole.v6, 6, text)
            };
            sample.identifier = whole.identifier;
            sample.class = whole.class;
            let packet = super_packet(&sample, whole.size.max(1));
            let segments = on_the_wire(&packet);
            assert_eq!(segments.len(), packet.segments());
            let mut payload_again: Vec<u8> = Vec::new();
            for segment in &segments {
                let header = Header::parse(segment).unwrap();
                assert_eq!(header.length as usize, segment.len());
                assert!(segment.len() <= packet.segment_length());
                assert_eq!(header.flow, packet.header().flow);
                assert_right_checksums(segment);
                payload_again.extend(&segment[usize::from(header.payload)..]);
            }
            assert_eq!(payload_again, payload);
        });
}
