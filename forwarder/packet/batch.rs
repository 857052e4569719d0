//! A queue that has a limit and never moves its memory.

use alloc::collections::VecDeque;
use alloc::collections::vec_deque;

/// A first-in first-out queue of at most `limit` items. It allocates once, when it is made.
#[derive(Debug)]
pub struct Batch<T> {
    items: VecDeque<T>,
    limit: usize,
}

impl<T> Batch<T> {
    /// An empty queue for at most `limit` items.
    pub fn with_limit(limit: usize) -> Batch<T> {
        Batch {
            items: VecDeque::with_capacity(limit),
            limit,
        }
    }

    /// Appends an item.
    ///
    /// # Errors
    /// A full queue gives the item back: who brought it drops it, under a name.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.items.len() == self.limit {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Takes the oldest item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Puts an item back in front: it was taken, and could not be handled yet. Only for what
    /// [`Batch::pop`] has just given.
    #[inline]
    pub fn put_back(&mut self, item: T) {
        self.items.push_front(item);
    }

    /// The newest item, still to be changed.
    #[inline]
    pub fn last_mut(&mut self) -> Option<&mut T> {
        self.items.back_mut()
    }

    /// Items in order, oldest first.
    pub fn iter(&self) -> vec_deque::Iter<'_, T> {
        self.items.iter()
    }

    /// How many items wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// How many more fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.limit - self.items.len()
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the next [`Batch::push`] would fail.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.items.len() == self.limit
    }
}
