//! Frames, buffers, checksums and prefixes: what every room speaks of.
//!
//! A frame comes in as a [`Buf`], is checked once into a [`Packet`], and from then on its facts
//! ([`Header`]) cannot be wrong. The rest of the room is what can be done to a packet without
//! knowing why: answer it with an ICMP error or a reset, cut a super-packet into segments, make one of many.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod batch;
mod buf;
mod chain;
pub mod checksum;
mod coalesce;
mod door;
mod ending;
mod flow;
mod fragment;
mod header;
mod icmp;
mod lane;
mod ledger;
mod malformed;
mod mss;
mod network;
mod number;
mod offload;
mod packet;
mod piece;
mod prefix;
mod prefix_map;
mod quote;
mod resegment;
mod rewrite;
mod search_tree;
mod segment;
mod sequence;
mod tcp_options;
mod time;

pub use address::Address;
pub use batch::Batch;
pub use buf::{Arena, Buf, FRAME_MAX, HEADROOM, TAILROOM};
pub use coalesce::{Coalescer, NoBuffer, SEGMENTS_MAX};
pub use door::{Datagrams, Frame, Local, Path};
pub use ending::{empty_datagram, reset, reset_for};
pub use flow::{Flow, protocol};
pub use fragment::Fragmenter;
pub use header::{Fragment, Header, Kind, icmp_kind, icmp_type, tcp_flag};
pub use icmp::{Complaint, echo_reply, echo_request, icmp_error, padded_echo_request};
pub use lane::lane_of;
pub use ledger::Ledger;
pub use malformed::Malformed;
pub use offload::{Checksum, Offload, Segmentation, SegmentationKind};
pub use packet::Packet;
pub use piece::Piece;
pub use prefix::{Prefix, PrefixError};
pub use prefix_map::PrefixMap;
pub use search_tree::SearchTree;
pub use segment::Segmenter;
pub use sequence::Sequence;
pub use time::{Now, Time};
