//! State that depends on the order of its updates, without a locked instruction for each of them.

use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::{ring::Ring, shards::own_slot, slots::SLOTS};

/// Updates of one thread that may wait to be folded in.
const ENTRIES: usize = 128;
/// From so many on, their thread folds them in as soon as nobody else is at it.
const ENOUGH: usize = 64;
/// A thread whose updates come so often in a row is the one that may let them wait.
const IN_A_ROW: u32 = 4;
const NOBODY: usize = SLOTS;

/// What updates of so many words are folded into.
pub(super) trait Fold<const WORDS: usize> {
    /// Takes one update in.
    fn fold(&mut self, update: [u64; WORDS]);
}

/// A state and the updates that it lacks. Who reads it folds them in first, so that it sees each update that was made
/// before.
///
/// The favoured thread, which wrote the last ones too, puts its updates into a ring of its own and folds them in by the
/// dozen. Any other folds in what waits and then its own, so that updates count in the order in which they were made;
/// where it finds another at that, it uses its own ring, too. Then updates made at about the same time, up to
/// `ENTRIES` of each thread, may change places between threads, but not those of one thread.
///
/// An update waits for nobody, unless its thread has no slot, or has a full ring while another thread is folding: that
/// takes microseconds at most, unless the other is preempted.
///
/// Cost: 0.6 KiB, and a ring of 128 updates for each thread that was favoured. An update of the favoured thread is some
/// stores, and a lock with every 64th; of another thread, a lock.
pub(super) struct Backlog<S, const WORDS: usize> {
    /// A hint that may be out of date: each thread writes its own ring whatever it says.
    favoured: AtomicUsize,
    rings: [OnceLock<Box<Ring<WORDS, ENTRIES>>>; SLOTS],
    folded: Mutex<Folded<S>>,
}

struct Folded<S> {
    state: S,
    /// Who updated it last without being favoured, and how often since anyone else did.
    last: usize,
    in_a_row: u32,
}

impl<S: Fold<WORDS>, const WORDS: usize> Backlog<S, WORDS> {
    pub(super) fn new(state: S) -> Self {
        Backlog {
            favoured: AtomicUsize::new(NOBODY),
            rings: [const { OnceLock::new() }; SLOTS],
            folded: Mutex::new(Folded { state, last: NOBODY, in_a_row: 0 }),
        }
    }

    /// Makes an update.
    #[inline]
    pub(super) fn update(&self, update: [u64; WORDS]) {
        let slot = own_slot();
        match slot {
            Some(slot) if slot == self.favoured.load(Relaxed) => match self.rings[slot].get() {
                Some(ring) => match ring.push(update) {
                    Some(waiting) if waiting < ENOUGH => {}
                    Some(_) => self.try_fold(),
                    None => self.update_now(update),
                },
                None => self.update_aside(Some(slot), update),
            },
            slot => self.update_aside(slot, update),
        }
    }

    /// Reads the state, with all updates that were made before.
    pub(super) fn read<R>(&self, read: impl FnOnce(&S) -> R) -> R {
        let mut folded = self.lock();
        self.fold(&mut folded);
        read(&folded.state)
    }

    #[cold]
    #[inline(never)]
    fn try_fold(&self) {
        if let Some(mut folded) = self.try_lock() {
            self.fold(&mut folded);
        }
    }

    #[cold]
    fn update_now(&self, update: [u64; WORDS]) {
        let mut folded = self.lock();
        self.fold(&mut folded);
        folded.state.fold(update);
        folded.last = NOBODY;
    }

    #[cold]
    fn update_aside(&self, slot: Option<usize>, update: [u64; WORDS]) {
        let Some(slot) = slot else { return self.update_now(update) };
        match self.try_lock() {
            Some(mut folded) => {
                let others = self.fold(&mut folded);
                folded.state.fold(update);
                folded.in_a_row = if others || folded.last != slot { 1 } else { folded.in_a_row + 1 };
                folded.last = slot;
                if folded.in_a_row >= IN_A_ROW || self.favoured.load(Relaxed) == NOBODY {
                    self.rings[slot].get_or_init(|| Box::new(Ring::new()));
                    self.favoured.store(slot, Relaxed);
                }
            }
            None => {
                let ring = self.rings[slot].get_or_init(|| Box::new(Ring::new()));
                if ring.push(update).is_none() {
                    self.update_now(update);
                }
            }
        }
    }

    /// Folds in what waits, and says whether there was any. The favoured thread's last: what others let wait they did
    /// before it was favoured, or while another was folding.
    fn fold(&self, folded: &mut Folded<S>) -> bool {
        let favoured = self.favoured.load(Relaxed);
        let mut any = false;
        let others = self.rings.iter().enumerate().filter(|(slot, _)| *slot != favoured).map(|(_, ring)| ring);
        for ring in others.chain(self.rings.get(favoured)).filter_map(OnceLock::get) {
            ring.drain(|update| {
                any = true;
                folded.state.fold(update);
            });
        }
        any
    }

    fn lock(&self) -> MutexGuard<'_, Folded<S>> {
        self.folded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Folded<S>>> {
        match self.folded.try_lock() {
            Ok(folded) => Some(folded),
            Err(TryLockError::Poisoned(folded)) => Some(folded.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use proptest::prelude::*;

    use super::{super::on_four_threads, *};

    /// All updates, in the order in which they counted.
    #[derive(Default)]
    struct Log(Vec<[u64; 2]>);

    impl Fold<2> for Log {
        fn fold(&mut self, update: [u64; 2]) {
            self.0.push(update);
        }
    }

    /// Each thread's in its order, and none missing or twice.
    fn check(log: &Log, threads: u64, each: u64) {
        assert_eq!(log.0.len() as u64, threads * each);
        for thread in 0..threads {
            let steps = log.0.iter().filter(|[of, _]| *of == thread).map(|[_, step]| *step);
            assert!(steps.eq(0..each), "thread {thread}");
        }
    }

    #[test]
    fn threads_keep_their_order() {
        let log = Backlog::new(Log::default());
        on_four_threads(|thread| {
            for step in 0..20_000 {
                log.update([thread.into(), step]);
                if step % 1000 == u64::from(thread) {
                    assert!(log.read(|log| log.0.iter().rev().any(|update| *update == [thread.into(), step])));
                }
            }
        });
        log.read(|log| check(log, 4, 20_000));
    }

    #[test]
    fn threads_may_be_many() {
        let (log, barrier) = (Backlog::new(Log::default()), std::sync::Barrier::new(40));
        thread::scope(|threads| {
            for thread in 0..40 {
                let (log, barrier) = (&log, &barrier);
                threads.spawn(move || {
                    (0..300).for_each(|step| log.update([thread, step]));
                    barrier.wait();
                    (300..600).for_each(|step| log.update([thread, step]));
                });
            }
        });
        log.read(|log| check(log, 40, 600));
    }

    /// The thread that holds the lock is at it for long.
    #[test]
    fn updates_wait_where_another_is_folding() {
        let log = Backlog::new(Log::default());
        let made = |from, to| (from..to).for_each(|step| log.update([0, step]));
        made(0, 10);
        let held = log.lock();
        made(10, 10 + ENTRIES as u64 - 10);
        thread::scope(|threads| {
            // Its ring is full with 9, since the first was folded in at once.
            let (log, (sender, done)) = (&log, mpsc::channel());
            threads.spawn(move || {
                log.update([1, 0]);
                sender.send(()).unwrap();
            });
            done.recv().unwrap();
        });
        drop(held);
        made(ENTRIES as u64, 1000);
        log.read(|log| {
            assert_eq!(log.0.len(), 1001);
            assert!(log.0.iter().filter(|[thread, _]| *thread == 0).map(|[_, step]| *step).eq(0..1000));
        });
    }

    proptest! {
        /// One thread after another, each as often as it says: as if there were no threads.
        #[test]
        fn what_comes_later_counts_later(turns in prop::collection::vec((0..3usize, 1..200u64, any::<bool>()), 1..20)) {
            let log = Backlog::new(Log::default());
            let mut expected = Vec::new();
            thread::scope(|threads| {
                let (done, is_done) = mpsc::channel();
                let orders: [_; 3] = std::array::from_fn(|thread| {
                    let ((order, orders), log, done) = (mpsc::channel::<u64>(), &log, done.clone());
                    threads.spawn(move || {
                        for times in orders {
                            (0..times).for_each(|step| log.update([thread as u64, step]));
                            done.send(()).unwrap();
                        }
                    });
                    order
                });
                for (thread, times, reads) in turns {
                    orders[thread].send(times).unwrap();
                    is_done.recv().unwrap();
                    expected.extend((0..times).map(|step| [thread as u64, step]));
                    if reads {
                        assert_eq!(log.read(|log| log.0.len()), expected.len());
                    }
                }
            });
            prop_assert!(log.read(|log| log.0 == expected));
        }
    }
}
