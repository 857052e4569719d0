//! What threads share is made of these. `tests/threads.rs` puts others in their place, which try
//! every order in which threads can meet.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

pub(crate) use crossbeam::queue::ArrayQueue;
pub(crate) use driver::Waker;
