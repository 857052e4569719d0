//! packet's segmentation and coalescing against the kernel's own software segmentation, byte for
//! byte.
//!
//! ```text
//!   super-packet → [ full ] → this host routes it → [ plain ] → segments
//!                  takes super-packets              takes none, so the kernel cuts and finishes
//! ```
//! Routing takes one from the TTL, so the expectation does too, before it is cut.

mod common;

use common::build::{ACK, CWR, ECE, Ends, FIN, PSH, offload, tcp, udp};
use common::{Worker, in_empty_network, ip, pattern, skip, sysctl, tun};
use driver::TunOffloads;
use packet::{Coalescer, Header, Offload, Packet, SegmentationKind, Segmenter};

const V4: (&str, &str) = ("10.1.0.2", "10.2.0.2");
const V6: (&str, &str) = ("fd01::2", "fd02::2");

fn ends((source, destination): (&str, &str)) -> Ends {
    Ends {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// The two TUNs and the host between them.
struct Kernel {
    full: Worker,
    plain: Worker,
}

impl Kernel {
    fn new() -> Kernel {
        let full = Worker::new(tun("full", TunOffloads::default()), Vec::new());
        let plain = Worker::new(tun("plain", TunOffloads::None), Vec::new());
        ip("addr add 10.1.0.1/24 dev full");
        ip("addr add 10.2.0.1/24 dev plain");
        ip("addr add fd01::1/64 dev full nodad");
        ip("addr add fd02::1/64 dev plain nodad");
        for family in ["ipv4", "ipv6"] {
            sysctl(&format!("{family}/conf/all/forwarding"), "1");
        }
        sysctl("ipv4/conf/all/rp_filter", "0");
        Kernel { full, plain }
    }

    /// What the kernel makes of a packet.
    fn segments(&mut self, bytes: &[u8], offload: Offload, expected: usize) -> Vec<Vec<u8>> {
        self.full.queue_packet(bytes, offload);
        self.full.transmit().unwrap();
        assert_eq!(self.full.arena.lent(), self.full.frames.len());
        let destination = if bytes[0] >> 4 == 4 { 16..20 } else { 24..40 };
        let version = bytes[0] >> 4;
        let came = self.plain.receive(expected, |frame| {
            frame[0] >> 4 == version && frame[destination.clone()] == bytes[destination.clone()]
        });
        came.into_iter().map(|(bytes, _)| bytes).collect()
    }

    /// Compares both, and gives the segments.
    fn compare(&mut self, what: &str, bytes: &[u8], offload: Offload) -> Vec<Vec<u8>> {
        let mut packet = self.full.packet(bytes, offload);
        packet.decrement_ttl();
        let ours = cut(&packet);
        self.full.arena.put(packet.into_buf());
        let kernels = self.segments(bytes, offload, ours.len());
        assert_eq!(kernels.len(), ours.len(), "{what}: how many segments");
        for (number, (kernel, ours)) in kernels.iter().zip(&ours).enumerate() {
            if kernel != ours {
                let at = kernel.iter().zip(ours).position(|(a, b)| a != b);
                panic!(
                    "{what}: segment {number} differs at {at:?}\nkernel {:02x?}\nours   {:02x?}",
                    &kernel[..kernel.len().min(80)],
                    &ours[..ours.len().min(80)],
                );
            }
        }
        kernels
    }
}

fn cut(packet: &Packet) -> Vec<Vec<u8>> {
    let mut segmenter = Segmenter::new(packet);
    let mut scratch = [0; 65_536];
    std::iter::from_fn(|| {
        let length = segmenter.next(&mut scratch)?;
        Some(scratch[..length].to_vec())
    })
    .collect()
}

/// Payload lengths around the edges of segments of `size` bytes.
fn lengths(size: usize) -> [usize; 6] {
    [
        size + 1,
        2 * size - 1,
        2 * size,
        2 * size + 1,
        7 * size + size / 2,
        44 * size,
    ]
}

#[test]
fn tcp_is_cut_as_the_kernel_cuts_it() {
    in_empty_network("tcp_is_cut_as_the_kernel_cuts_it", || {
        let mut kernel = Kernel::new();
        let flags = [
            ACK,
            ACK | PSH,
            ACK | FIN,
            ACK | PSH | FIN,
            ACK | ECE,
            ACK | CWR,
            ACK | CWR | ECE | PSH | FIN,
        ];
        for family in [V4, V6] {
            for (number, flags) in flags.into_iter().enumerate() {
                for size in [1380, 1000, 536] {
                    for length in lengths(size) {
                        let payload = pattern(length, number);
                        let bytes = tcp(ends(family), flags, number as u8 % 4, &payload);
                        let kind = if flags & CWR == 0 {
                            SegmentationKind::Tcp
                        } else {
                            SegmentationKind::TcpEcn
                        };
                        let what = format!("{family:?} flags {flags:#x} {length} by {size}");
                        kernel.compare(&what, &bytes, offload(&bytes, Some(kind), size as u16));
                    }
                }
            }
        }
    });
}

#[test]
fn udp_is_cut_as_the_kernel_cuts_it() {
    in_empty_network("udp_is_cut_as_the_kernel_cuts_it", || {
        let mut kernel = Kernel::new();
        if !kernel.full.is_on("tun.udpSegmentation") {
            return skip("udp_is_cut_as_the_kernel_cuts_it", "no USO on a TUN here");
        }
        for family in [V4, V6] {
            for size in [1372, 1000, 1] {
                for length in lengths(size) {
                    let bytes = udp(ends(family), 2, &pattern(length, 1));
                    let what = format!("{family:?} {length} by {size}");
                    let offload = offload(&bytes, Some(SegmentationKind::Udp), size as u16);
                    kernel.compare(&what, &bytes, offload);
                }
            }
        }
    });
}

#[test]
fn a_partial_checksum_is_finished_as_the_kernel_finishes_it() {
    in_empty_network("a_partial_checksum_is_finished", || {
        let mut kernel = Kernel::new();
        for family in [V4, V6] {
            for length in [0, 1, 2, 1399, 1400] {
                let payload = pattern(length, 2);
                for bytes in [
                    tcp(ends(family), ACK | PSH, 0, &payload),
                    udp(ends(family), 0, &payload),
                ] {
                    let what = format!("{family:?} {length}");
                    kernel.compare(&what, &bytes, offload(&bytes, None, 0));
                }
            }
            // The sum that is zero is sent as ffff for UDP (RFC 768) and as it is for TCP.
            for is_udp in [true, false] {
                let make = if is_udp { udp_of } else { tcp_of };
                let mut payload = [0; 4];
                let bytes = make(ends(family), &payload);
                let finished = kernel.compare("zero", &bytes, offload(&bytes, None, 0));
                let at = if bytes[0] >> 4 == 4 { 20 } else { 40 };
                let at = at + if is_udp { 6 } else { 16 };
                payload[..2].copy_from_slice(&finished[0][at..at + 2]);
                let bytes = make(ends(family), &payload);
                let finished = kernel.compare("zero", &bytes, offload(&bytes, None, 0));
                let sum = u16::from_be_bytes([finished[0][at], finished[0][at + 1]]);
                assert!(sum == 0 || sum == 0xffff, "{sum:#x}");
            }
        }
    });
}

fn udp_of(ends: Ends, payload: &[u8; 4]) -> Vec<u8> {
    udp(ends, 0, payload)
}

fn tcp_of(ends: Ends, payload: &[u8; 4]) -> Vec<u8> {
    tcp(ends, ACK, 0, payload)
}

#[test]
fn what_we_coalesce_the_kernel_cuts_into_what_it_was() {
    in_empty_network("what_we_coalesce_the_kernel_cuts", || {
        let mut kernel = Kernel::new();
        for family in [V4, V6] {
            let tcp = |flags, length| {
                let bytes = tcp(ends(family), flags, 1, &pattern(length, 3));
                let offload = offload(&bytes, Some(SegmentationKind::Tcp), 1380);
                (bytes, offload)
            };
            let udp = |length| {
                let bytes = udp(ends(family), 1, &pattern(length, 3));
                let offload = offload(&bytes, Some(SegmentationKind::Udp), 1380);
                (bytes, offload)
            };
            let mut wholes = vec![
                tcp(ACK, 30 * 1380),
                tcp(ACK | PSH, 30 * 1380 + 1),
                tcp(ACK, 2761),
            ];
            if kernel.full.is_on("tun.udpSegmentation") {
                wholes.extend([udp(30 * 1380), udp(2761)]);
            }
            for (bytes, offload) in wholes {
                let what = format!("{family:?} {} {offload:?}", bytes.len());
                let whole = kernel.full.packet(&bytes, offload);
                let segments = cut(&whole);
                kernel.full.arena.put(whole.into_buf());

                let mut coalescer = Coalescer::new(8);
                let mut merged = Vec::new();
                for segment in &segments {
                    let header = Header::parse(segment).unwrap();
                    coalescer
                        .push(segment, &header, 0, &mut kernel.full.arena, &mut merged)
                        .unwrap();
                }
                coalescer.flush(&mut merged);
                assert_eq!(merged.len(), 1, "{what}");
                let (_, merged) = merged.pop().unwrap();
                assert_eq!(merged.segments(), segments.len());
                let (bytes, offload) = (merged.bytes().to_vec(), *merged.offload());
                kernel.full.arena.put(merged.into_buf());

                let came = kernel.compare("coalesced", &bytes, offload);
                for (came, segment) in came.iter().zip(&segments) {
                    let mut packet = kernel.full.packet(segment, Offload::default());
                    packet.decrement_ttl();
                    assert_eq!(came, packet.bytes());
                    kernel.full.arena.put(packet.into_buf());
                }
            }
        }
    });
}
