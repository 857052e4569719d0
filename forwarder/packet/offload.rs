//! What a device leaves to its reader, or takes from its writer: unfinished checksums and frames
//! larger than a packet may be (Linux `include/uapi/linux/virtio_net.h`).

/// Whether the transport checksum of a frame is what the wire wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Complete: to be verified or trusted as any other.
    #[default]
    Complete,
    /// Only the pseudo-header is summed up, folded and not inverted, in the checksum field; whoever
    /// puts the frame on a wire finishes it (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    Partial {
        /// Where summing begins, in bytes from the start of the IP header.
        start: u16,
        /// Where the checksum field lies, in bytes from `start`.
        offset: u16,
    },
}

/// Which transport a super-packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentationKind {
    /// TCP over either IP version.
    Tcp,
    /// TCP whose first segment may carry CWR (`VIRTIO_NET_HDR_GSO_ECN`).
    TcpEcn,
    /// UDP over either IP version (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

/// How a super-packet is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// Which transport.
    pub kind: SegmentationKind,
    /// Payload bytes of each segment but the last; never zero.
    pub size: u16,
}

/// All that a device says about one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The state of the transport checksum.
    pub checksum: Checksum,
    /// Present for a super-packet.
    pub segmentation: Option<Segmentation>,
}
