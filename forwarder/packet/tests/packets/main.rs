//! The room packet, held against etherparse, naive models and itself, through its public face.

mod coalesce;
mod ending;
mod fit;
mod fuzz;
mod icmp;
mod parse;
mod refusal;
mod rewrite;
mod robust;
mod samples;
mod segment;
