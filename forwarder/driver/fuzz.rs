//! The harness of `scripts/fuzz` for this room: what a TUN may say in front of a frame. `cargo test`
//! replays `__fuzz__/vnet/corpus` and what once failed, and then tries some random input.

use bolero::check;
use packet::{Arena, Packet, Segmenter};

use crate::vnet;

#[test]
fn whatever_a_tun_says_of_a_frame_is_refused_or_said_again_to_the_next() {
    check!(name = "vnet")
        .with_iterations(2000)
        .for_each(|bytes| {
            let Some((header, frame)) = bytes.split_first_chunk::<{ vnet::LENGTH }>() else {
                return;
            };
            let Some(offload) = vnet::parse(header) else {
                return;
            };
            let mut buf = Arena::new(0, 1).take().expect("a buffer");
            buf.extend(&frame[..frame.len().min(65_535)]);
            let Ok(packet) = Packet::parse(buf, offload) else {
                return;
            };
            let (said, facts) = (*packet.offload(), *packet.header());
            let again = vnet::emit(&said, facts.is_v4(), facts.payload);
            assert_eq!(vnet::parse(&again), Some(said));
            let mut out = vec![0; 65_535];
            let mut segmenter = Segmenter::new(&packet);
            while segmenter.next(&mut out).is_some() {}
            assert_eq!(segmenter.remaining(), 0);
        });
}
