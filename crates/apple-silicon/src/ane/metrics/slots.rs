//! Numbers that are lent, each to one holder at a time.

use super::sync::{AtomicU64, Ordering};

/// How many numbers there are, from 0 on: 64 at most, the bits of a word.
pub(super) const SLOTS: usize = 32;

/// The numbers below [`SLOTS`]. A bit is set where one is lent.
pub(super) struct Slots(AtomicU64);

impl Slots {
    /// Over a zero, with all to be lent.
    pub(super) const fn new(none: AtomicU64) -> Slots {
        Slots(none)
    }

    /// Lends the least that is free, so that what is kept for each number stays small. Its holder sees what all holders
    /// before it have written. `None`, after one load, where all are lent.
    pub(super) fn take(&self) -> Option<usize> {
        let free = |taken: u64| Some(taken.trailing_ones() as usize).filter(|slot| *slot < SLOTS);
        let taken = self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| Some(taken | 1 << free(taken)?));
        // What others lend in between goes on with what a giver released: they only read, change and write.
        free(taken.ok()?)
    }

    /// Ends the lending of what [`Slots::take`] gave.
    pub(super) fn give_back(&self, slot: usize) {
        self.0.fetch_and(!(1 << slot), Ordering::Release);
    }
}
