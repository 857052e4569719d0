//! The room packet, held against etherparse, naive models and itself, through its public face.

mod coalesce;
mod parse;
mod refusal;
mod samples;
mod segment;
