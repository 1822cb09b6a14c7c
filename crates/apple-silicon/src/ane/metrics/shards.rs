//! Counters of which each thread writes its own copy, without the locked instruction that one for all would need.

use std::{
    cell::{Cell, OnceCell},
    marker::PhantomData,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::slots::{SLOTS, Slots};

/// Copies of `T`, to be added up by who reads: one for each thread that has a slot, made when it first writes, and one
/// that all others share. A thread keeps its slot until it ends; the next thread that gets it goes on with its copy. So
/// there are 33 at most, and no more than threads that wrote anything and were alive at once.
///
/// Cost: 0.5 KiB and the copies. A write of a thread that has a slot is a load and a store.
pub(super) struct Shards<T> {
    own: [OnceLock<Box<T>>; SLOTS],
    common: OnceLock<Box<T>>,
}

impl<T: Default> Shards<T> {
    /// Without any copy.
    pub(super) const fn new() -> Shards<T> {
        Shards { own: [const { OnceLock::new() }; SLOTS], common: OnceLock::new() }
    }

    /// The copy that this thread writes, and how.
    #[inline]
    pub(super) fn mine(&self) -> (&T, Writer) {
        let slot = own_slot();
        let copy = slot.map_or(&self.common, |slot| &self.own[slot]);
        let writer = Writer { is_alone: slot.is_some(), _not_send: PhantomData };
        (copy.get().map_or_else(|| make(copy), |cells| &**cells), writer)
    }

    /// All copies that there are.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.own.iter().chain([&self.common]).filter_map(|copy| Some(&**copy.get()?))
    }
}

/// How this thread writes what [`Shards::mine`] gave with it. For one update: its slot may be another's afterwards.
#[derive(Clone, Copy)]
pub(super) struct Writer {
    is_alone: bool,
    _not_send: PhantomData<*const ()>,
}

impl Writer {
    /// Adds to a cell.
    #[inline]
    pub(super) fn add(self, cell: &AtomicU64, more: u64) {
        if self.is_alone {
            cell.store(cell.load(Relaxed).wrapping_add(more), Relaxed);
        } else {
            cell.fetch_add(more, Relaxed);
        }
    }

    /// Raises a cell to at least that.
    #[inline]
    pub(super) fn raise(self, cell: &AtomicU64, least: u64) {
        if least > cell.load(Relaxed) {
            if self.is_alone {
                cell.store(least, Relaxed);
            } else {
                cell.fetch_max(least, Relaxed);
            }
        }
    }
}

/// A count. Cost: 0.5 KiB, and 128 bytes for each thread.
pub(super) struct Counter(Shards<Line>);

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Counter {
        Counter(Shards::new())
    }

    #[inline]
    pub(super) fn add(&self, more: u64) {
        let (Line(count), writer) = self.0.mine();
        writer.add(count, more);
    }

    pub(super) fn total(&self) -> u64 {
        self.0.all().fold(0, |total, Line(count)| total.wrapping_add(count.load(Relaxed)))
    }
}

/// This thread's slot, below [`SLOTS`], which no other thread has until this one ends. `None` where all are lent, and
/// while what is local to the thread is dropped at its end.
///
/// Cost: one load, from the second call on.
#[inline]
pub(super) fn own_slot() -> Option<usize> {
    let slot = SLOT.get();
    if slot < SLOTS { Some(slot) } else { find_slot(slot) }
}

static LENT: Slots = Slots::new(AtomicU64::new(0));

const NONE_YET: usize = SLOTS;
const NEVER_AGAIN: usize = SLOTS + 1;

thread_local! {
    /// Needs no drop, so it is there until the thread has ended, and reading it is one load.
    static SLOT: Cell<usize> = const { Cell::new(NONE_YET) };
    static GIVES_BACK: OnceCell<GivesBack> = const { OnceCell::new() };
}

/// This thread's slot, which it gives back when the thread ends.
struct GivesBack(usize);

impl Drop for GivesBack {
    fn drop(&mut self) {
        SLOT.set(NEVER_AGAIN);
        LENT.give_back(self.0);
    }
}

#[cold]
fn find_slot(state: usize) -> Option<usize> {
    if state == NEVER_AGAIN {
        return None;
    }
    let lent = GIVES_BACK.try_with(|gives_back| {
        let slot = LENT.take()?;
        // There is none yet: with one, `SLOT` would have said so.
        gives_back.set(GivesBack(slot)).ok()?;
        Some(slot)
    });
    let slot = lent.ok()??;
    SLOT.set(slot);
    Some(slot)
}

#[cold]
fn make<T: Default>(copy: &OnceLock<Box<T>>) -> &T {
    copy.get_or_init(Box::default)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{Arc, Barrier, Mutex},
        thread,
    };

    use super::{super::on_four_threads, *};

    #[test]
    fn the_least_that_is_free_is_lent() {
        let slots = Slots::new(AtomicU64::new(0));
        assert!((0..SLOTS).all(|slot| slots.take() == Some(slot)));
        assert_eq!(slots.take(), None);
        [7, 3, 31].into_iter().for_each(|slot| slots.give_back(slot));
        assert_eq!([slots.take(), slots.take(), slots.take(), slots.take()], [Some(3), Some(7), Some(31), None]);
    }

    #[test]
    fn threads_that_are_alive_have_slots_of_their_own() {
        let (slots, barrier) = (Mutex::new(Vec::new()), Barrier::new(4));
        on_four_threads(|_| {
            let slot = own_slot();
            slots.lock().unwrap().extend(slot);
            barrier.wait();
            assert_eq!(own_slot(), slot);
        });
        let slots = slots.into_inner().unwrap();
        assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), slots.len(), "{slots:?}");
    }

    #[test]
    fn slots_are_used_again() {
        let count = Arc::new(Counter::new());
        for _ in 0..1000 {
            let count = count.clone();
            thread::spawn(move || count.add(3)).join().unwrap();
        }
        assert_eq!(count.total(), 3000);
        assert!(count.0.all().count() <= SLOTS + 1);
    }

    #[test]
    fn more_threads_than_slots_lose_nothing() {
        let (count, barrier) = (Counter::new(), Barrier::new(2 * SLOTS));
        thread::scope(|threads| {
            for _ in 0..2 * SLOTS {
                threads.spawn(|| {
                    (0..500).for_each(|_| count.add(1));
                    barrier.wait();
                    (0..500).for_each(|_| count.add(1));
                });
            }
        });
        assert_eq!(count.total(), 2 * SLOTS as u64 * 1000);
        assert_eq!(count.0.all().count(), SLOTS + 1);
    }

    /// What is local to a thread may be dropped before its slot or after it.
    #[test]
    fn the_end_of_a_thread_counts() {
        struct AddsAtTheEnd(Arc<Counter>);
        impl Drop for AddsAtTheEnd {
            fn drop(&mut self) {
                self.0.add(1);
            }
        }
        thread_local! {
            static BEFORE: OnceCell<AddsAtTheEnd> = const { OnceCell::new() };
            static AFTER: OnceCell<AddsAtTheEnd> = const { OnceCell::new() };
        }
        let count = Arc::new(Counter::new());
        let local = count.clone();
        let thread = thread::spawn(move || {
            assert!(BEFORE.with(|cell| cell.set(AddsAtTheEnd(local.clone())).is_ok()));
            local.add(1);
            assert!(AFTER.with(|cell| cell.set(AddsAtTheEnd(local.clone())).is_ok()));
        });
        thread.join().unwrap();
        assert_eq!(count.total(), 3);
    }

    #[test]
    fn cells_are_raised_and_added_to_by_both() {
        for is_alone in [true, false] {
            let (writer, cell) = (Writer { is_alone, _not_send: PhantomData }, AtomicU64::new(5));
            writer.add(&cell, 2);
            writer.raise(&cell, 6);
            assert_eq!(cell.load(Relaxed), 7);
            writer.raise(&cell, 8);
            assert_eq!(cell.load(Relaxed), 8);
        }
    }
}
