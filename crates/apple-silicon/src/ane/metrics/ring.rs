//! What one thread has to tell, until another or itself takes it in.

use super::sync::{AtomicU64, Ordering};

/// A queue of up to `ENTRIES` entries of `WORDS` words, written by one thread and emptied by one at a time.
///
/// `pushed` and `taken` count entries since ever. Who reads one of them with acquire may touch the entries that it tells
/// about: the taker those that were pushed, since it sees them; the pusher those that were taken, since the taker has
/// read them by then.
#[repr(align(128))]
pub(super) struct Ring<const WORDS: usize, const ENTRIES: usize> {
    pushed: AtomicU64,
    taken: AtomicU64,
    entries: [[AtomicU64; WORDS]; ENTRIES],
}

impl<const WORDS: usize, const ENTRIES: usize> Ring<WORDS, ENTRIES> {
    pub(super) fn new() -> Self {
        let entries = std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)));
        Ring { pushed: AtomicU64::new(0), taken: AtomicU64::new(0), entries }
    }

    /// Appends an entry, and says how many there are now. `None` where it is full. For one thread at a time, which sees
    /// what the one before it wrote.
    #[inline]
    pub(super) fn push(&self, entry: [u64; WORDS]) -> Option<usize> {
        let pushed = self.pushed.load(Ordering::Relaxed);
        let waiting = (pushed - self.taken.load(Ordering::Acquire)) as usize;
        if waiting >= ENTRIES {
            return None;
        }
        let place = &self.entries[pushed as usize % ENTRIES];
        place.iter().zip(entry).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        self.pushed.store(pushed + 1, Ordering::Release);
        Some(waiting + 1)
    }

    /// Takes all entries, in the order in which they were pushed. For one thread at a time, which sees what the one
    /// before it wrote; the pusher may go on meanwhile.
    #[inline]
    pub(super) fn drain(&self, mut each: impl FnMut([u64; WORDS])) {
        let taken = self.taken.load(Ordering::Relaxed);
        let pushed = self.pushed.load(Ordering::Acquire);
        for entry in taken..pushed {
            let place = &self.entries[entry as usize % ENTRIES];
            each(std::array::from_fn(|word| place[word].load(Ordering::Relaxed)));
        }
        if pushed > taken {
            self.taken.store(pushed, Ordering::Release);
        }
    }
}
