//! Packets from an unfriendly world, line by line of facts/robustness: each as bytes, and what comes
//! of it — forwarded, and how it looks on the other side; dropped, and under which name; answered, by
//! whom, to whom and quoting how much.
//!
//! Each packet goes three ways, in both families where it can: from a pod over two nodes, from a pod
//! to another one of its own node, and from a peer's tunnel (`stage`). After each the books balance,
//! nothing but what the table says arrives anywhere, and no other drop is counted (`table`). Then all
//! of them again, spoilt in every way that comes to mind (`mutated`).

pub(crate) mod bytes;
mod errors;
mod extensions;
mod fragments;
mod headers;
mod limits;
mod mutated;
mod prefixes;
mod sources;
pub(crate) mod stage;
mod sums;
mod table;
