//! The ten bytes in front of each TUN frame: what was left undone (`struct virtio_net_hdr`, Linux
//! `include/uapi/linux/virtio_net.h`), in the host's byte order unless TUNSETVNETLE says otherwise.

use packet::{Checksum, Offload, Segmentation, SegmentationKind};

/// Length of the header, as TUNSETVNETHDRSZ is told; the kernel's default too.
pub(crate) const LENGTH: usize = 10;

// include/uapi/linux/virtio_net.h
const F_NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What the header says; `None` where it says something that no TUN of ours is asked for.
pub(crate) fn parse(header: &[u8; LENGTH]) -> Option<Offload> {
    let [flags, gso_type, ..] = *header;
    let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let checksum = if flags & F_NEEDS_CSUM != 0 {
        Checksum::Partial {
            start: word(6),
            offset: word(8),
        }
    } else {
        Checksum::Complete
    };
    let kind = match (gso_type & !GSO_ECN, gso_type & GSO_ECN != 0) {
        (GSO_NONE, false) => {
            return Some(Offload {
                checksum,
                segmentation: None,
            });
        }
        (GSO_TCPV4 | GSO_TCPV6, false) => SegmentationKind::Tcp,
        (GSO_TCPV4 | GSO_TCPV6, true) => SegmentationKind::TcpEcn,
        (GSO_UDP_L4, false) => SegmentationKind::Udp,
        _ => return None,
    };
    let size = word(4);
    (size != 0).then_some(Offload {
        checksum,
        segmentation: Some(Segmentation { kind, size }),
    })
}

/// The header of a frame of IPv4 (or IPv6) whose headers up to the payload are `headers` bytes
/// long.
pub(crate) fn emit(offload: &Offload, v4: bool, headers: u16) -> [u8; LENGTH] {
    let mut header = [0; LENGTH];
    let mut put = |at: usize, word: u16| header[at..at + 2].copy_from_slice(&word.to_ne_bytes());
    if let Some(Segmentation { size, .. }) = offload.segmentation {
        put(2, headers);
        put(4, size);
    }
    if let Checksum::Partial { start, offset } = offload.checksum {
        put(6, start);
        put(8, offset);
        header[0] = F_NEEDS_CSUM;
    }
    header[1] = match offload.segmentation.map(|segmentation| segmentation.kind) {
        None => GSO_NONE,
        Some(SegmentationKind::Tcp) if v4 => GSO_TCPV4,
        Some(SegmentationKind::Tcp) => GSO_TCPV6,
        Some(SegmentationKind::TcpEcn) if v4 => GSO_TCPV4 | GSO_ECN,
        Some(SegmentationKind::TcpEcn) => GSO_TCPV6 | GSO_ECN,
        Some(SegmentationKind::Udp) => GSO_UDP_L4,
    };
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offload(kind: SegmentationKind) -> Offload {
        Offload {
            checksum: Checksum::Partial {
                start: 40,
                offset: 16,
            },
            segmentation: Some(Segmentation { kind, size: 1380 }),
        }
    }

    #[test]
    fn what_is_emitted_is_parsed_as_the_same() {
        let kinds = [
            SegmentationKind::Tcp,
            SegmentationKind::TcpEcn,
            SegmentationKind::Udp,
        ];
        for v4 in [true, false] {
            for kind in kinds {
                assert_eq!(parse(&emit(&offload(kind), v4, 60)), Some(offload(kind)));
            }
            assert_eq!(
                parse(&emit(&Offload::default(), v4, 60)),
                Some(Offload::default())
            );
        }
    }

    #[test]
    fn a_super_packet_without_a_segment_size_is_refused() {
        let mut header = emit(&offload(SegmentationKind::Tcp), true, 60);
        header[4..6].fill(0);
        assert_eq!(parse(&header), None);
    }

    #[test]
    fn kinds_that_were_never_asked_for_are_refused() {
        // UFO (3), and ECN on something other than TCP.
        for gso_type in [3, 2, 77, GSO_ECN, GSO_UDP_L4 | GSO_ECN] {
            let mut header = emit(&offload(SegmentationKind::Tcp), true, 60);
            header[1] = gso_type;
            assert_eq!(parse(&header), None, "{gso_type}");
        }
    }
}
