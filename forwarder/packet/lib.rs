//! Frames, buffers, checksums and prefixes: what every room speaks of.
//!
//! A frame comes in as a [`Buf`], is checked once into a [`Packet`], and from then on its facts
//! ([`Header`]) cannot be wrong. The rest of the room is what can be done to a packet without
//! knowing why: answer it with an ICMP error, cut a super-packet into segments, make one of many.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod batch;
mod buf;
mod door;
mod flow;
mod offload;
mod time;

pub use address::Address;
pub use batch::Batch;
pub use buf::{Arena, Buf, FRAME_MAX, HEADROOM, TAILROOM};
pub use door::{Datagrams, Frame};
pub use flow::{Flow, protocol};
pub use offload::{Checksum, Offload, Segmentation, SegmentationKind};
pub use time::{Now, Time};
