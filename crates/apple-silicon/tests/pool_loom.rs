//! The pool's source under a model checker, which tries every interleaving of its atomics and locks up to a number of
//! preemptions. The pool's `sync` module is replaced by the checker's, so no build flag is needed.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use loom::{
    future::block_on,
    model::Builder,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};
use resource_pool::{Admission, Admit, Pool};

#[path = "../src/ane/ledger.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part of it is used here")]
mod ledger;
#[path = "../src/ane/resource_pool.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part of it is used here")]
mod resource_pool;

mod errors {
    pub(crate) use apple_silicon::ane::errors::*;
}

mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    };
}

/// Two threads are few enough to try all there is.
const ALL: Option<usize> = None;
/// Three threads are not.
const UP_TO_3: Option<usize> = Some(3);

/// Explores `model` with a fresh pool of so many slots and bytes, and demands at the end of each run that nothing is
/// lent and nobody waits. A run in which a thread waits for ever fails, too.
fn check(slots: usize, bytes: usize, preemptions: Option<usize>, model: impl Fn(&Pool) + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        let pool = Pool::with_bytes(slots, bytes);
        model(&pool);
        let end = pool.statistics();
        assert_eq!((end.slots_in_use, end.bytes_in_use, end.bytes_reserved, end.waiting), (0, 0, 0, 0));
        assert!(end.slots_peak <= slots && end.bytes_peak <= bytes);
        pool.close();
        assert!(pool.try_admit_bytes(0).is_err());
    });
}

fn spawn(pool: &Pool, run: impl FnOnce(Pool) + Send + 'static) -> thread::JoinHandle<()> {
    let pool = pool.clone();
    thread::spawn(move || run(pool))
}

fn poll(admit: &mut Admit) -> Poll<Admission> {
    Pin::new(admit).poll(&mut Context::from_waker(Waker::noop())).map(Result::unwrap)
}

#[test]
fn a_release_is_never_missed() {
    check(1, 8, ALL, |pool| {
        let other = spawn(pool, |pool| drop(block_on(pool.admit_bytes(8)).unwrap()));
        drop(block_on(pool.admit_bytes(8)).unwrap());
        other.join().unwrap();
        assert_eq!(pool.statistics().admissions, 2);
    });
}

/// What one run wrote, the next one sees: the cell alone would let updates get lost. The third only freezes and thaws.
#[test]
fn a_slot_is_handed_over_with_all_that_was_written() {
    fn add_one(cell: &AtomicU64) {
        cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
    check(1, 8, UP_TO_3, |pool| {
        let cell = Arc::new(AtomicU64::new(0));
        let runs = [1, 2].map(|bytes| {
            let cell = cell.clone();
            spawn(pool, move |pool| {
                let admission = block_on(pool.admit_bytes(bytes)).unwrap();
                add_one(&cell);
                drop(admission);
            })
        });
        drop(poll(&mut pool.admit_bytes(8)));
        runs.into_iter().for_each(|run| run.join().unwrap());
        assert_eq!(cell.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn two_waiters_are_served_by_one_release() {
    check(2, 8, UP_TO_3, |pool| {
        let held = pool.try_admit_bytes(8).unwrap();
        let others = [1, 4].map(|bytes| spawn(pool, move |pool| drop(block_on(pool.admit_bytes(bytes)).unwrap())));
        drop(held);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(pool.statistics().admissions, 3);
    });
}

#[test]
fn two_waiters_are_served_by_each_other() {
    check(1, 8, UP_TO_3, |pool| {
        let held = pool.try_admit_bytes(1).unwrap();
        let others = [2, 8].map(|bytes| spawn(pool, move |pool| drop(block_on(pool.admit_bytes(bytes)).unwrap())));
        drop(held);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_request_that_is_dropped_unpolled_leaves_no_trace() {
    check(1, 8, ALL, |pool| {
        let other = spawn(pool, |pool| drop(pool.admit_bytes(8)));
        drop(block_on(pool.admit_bytes(8)).unwrap());
        other.join().unwrap();
        assert_eq!(pool.statistics().cancelled, 0);
    });
}

/// The first in the queue is dropped while the one who holds all gives back: before its grant, or after it and unseen.
#[test]
fn the_one_behind_a_dropped_one_is_served() {
    check(1, 8, UP_TO_3, |pool| {
        let held = pool.try_admit_bytes(8).unwrap();
        let mut first = pool.admit_bytes(8);
        assert!(poll(&mut first).is_pending());
        let holder = spawn(pool, move |_| drop(held));
        let second = spawn(pool, |pool| drop(block_on(pool.admit_bytes(8)).unwrap()));
        drop(first);
        holder.join().unwrap();
        second.join().unwrap();
        assert_eq!(pool.statistics().cancelled, 1);
    });
}

/// A large head is dropped, so that what is free already is enough for the next one and nobody will give back.
#[test]
fn the_one_behind_a_dropped_large_one_is_served_without_a_release() {
    check(2, 8, ALL, |pool| {
        let held = pool.try_admit_bytes(1).unwrap();
        let mut large = pool.admit_bytes(8);
        assert!(poll(&mut large).is_pending());
        let small = spawn(pool, |pool| drop(block_on(pool.admit_bytes(2)).unwrap()));
        drop(large);
        small.join().unwrap();
        drop(held);
    });
}

#[test]
fn a_grant_that_nobody_saw_is_passed_on_when_dropped() {
    check(1, 8, ALL, |pool| {
        let held = pool.try_admit_bytes(8).unwrap();
        let mut first = pool.admit_bytes(8);
        assert!(poll(&mut first).is_pending());
        drop(held);
        assert!(pool.try_admit_bytes(0).is_err(), "it was granted, though nobody looked");
        let second = spawn(pool, |pool| drop(block_on(pool.admit_bytes(8)).unwrap()));
        first.expire();
        second.join().unwrap();
        assert_eq!(pool.statistics().rejected_timed_out, 1);
    });
}

#[test]
fn a_waiter_may_change_its_task_while_it_is_granted() {
    check(1, 8, ALL, |pool| {
        let held = pool.try_admit_bytes(8).unwrap();
        let mut admit = pool.admit_bytes(8);
        assert!(poll(&mut admit).is_pending());
        let holder = spawn(pool, move |_| drop(held));
        drop(block_on(admit).unwrap());
        holder.join().unwrap();
    });
}

#[test]
fn closing_races_with_waiting_and_granting() {
    check(1, 8, UP_TO_3, |pool| {
        let held = pool.try_admit_bytes(8).unwrap();
        let waiter = spawn(pool, |pool| drop(block_on(pool.admit_bytes(8))));
        let closer = spawn(pool, |pool| pool.close());
        drop(held);
        waiter.join().unwrap();
        closer.join().unwrap();
        let end = pool.statistics();
        assert!(pool.is_closed());
        assert_eq!(end.admissions + end.rejected_closed, 2, "{end:?}");
    });
}

#[test]
fn trying_never_overtakes() {
    check(2, 8, ALL, |pool| {
        let held = pool.try_admit_bytes(4).unwrap();
        let mut large = pool.admit_bytes(8);
        assert!(poll(&mut large).is_pending());
        let late = spawn(pool, |pool| {
            if let Ok(late) = pool.try_admit_bytes(1) {
                // Only what came after the large one's turn.
                assert_eq!(pool.statistics().cancelled, 1);
                drop(late);
            }
        });
        drop(held);
        assert!(pool.try_admit_bytes(1).is_err(), "the large one was granted all");
        drop(large);
        late.join().unwrap();
    });
}

#[test]
fn growing_and_shrinking_race_with_waiting() {
    check(2, 8, ALL, |pool| {
        let mut held = pool.try_admit_bytes(4).unwrap();
        let waiter = spawn(pool, |pool| drop(block_on(pool.admit_bytes(6)).unwrap()));
        if held.try_grow(4) {
            assert_eq!(held.bytes(), 8);
        }
        held.shrink_to(2);
        // Enough is free for the waiter, so it need not wait for the rest.
        waiter.join().unwrap();
        drop(held);
    });
}

#[test]
fn two_that_grow_never_get_more_than_there_is() {
    check(2, 8, ALL, |pool| {
        let [mut one, mut two] = [3, 3].map(|bytes| pool.try_admit_bytes(bytes).unwrap());
        let other = spawn(pool, move |_| {
            two.try_grow(2);
            drop(two);
        });
        one.try_grow(2);
        drop(one);
        other.join().unwrap();
        assert!(pool.statistics().bytes_peak >= 8, "at least one of them grew");
    });
}

#[test]
fn the_peak_is_what_was_lent_at_once() {
    check(2, 8, ALL, |pool| {
        let other = {
            let pool = pool.clone();
            thread::spawn(move || pool.try_admit_bytes(5).unwrap())
        };
        let admission = pool.try_admit_bytes(3).unwrap();
        drop((admission, other.join().unwrap()));
        let end = pool.statistics();
        assert_eq!((end.slots_peak, end.bytes_peak), (2, 8));
    });
}

#[test]
fn reservations_share_the_queue() {
    check(1, 8, UP_TO_3, |pool| {
        let held = block_on(pool.reserve_bytes(6)).unwrap();
        let admitted = spawn(pool, |pool| drop(block_on(pool.admit_bytes(4)).unwrap()));
        let reserved = spawn(pool, |pool| drop(block_on(pool.reserve_bytes(8)).unwrap()));
        drop(held);
        admitted.join().unwrap();
        reserved.join().unwrap();
        let end = pool.statistics();
        assert_eq!((end.admissions, end.reservations), (1, 2));
    });
}

/// A wait is left by a race of two futures, as a timeout does it.
#[test]
fn leaving_races_with_the_grant() {
    check(1, 8, UP_TO_3, |pool| {
        let held = pool.try_admit_bytes(8).unwrap();
        let leaver = spawn(pool, |pool| {
            let mut admit = pool.admit_bytes(8);
            match poll(&mut admit) {
                Poll::Ready(admission) => drop(admission),
                Poll::Pending => match poll(&mut admit) {
                    Poll::Ready(admission) => drop(admission),
                    Poll::Pending => admit.expire(),
                },
            }
        });
        let stayer = spawn(pool, |pool| {
            let admission = block_on(pin!(pool.admit_bytes(8))).unwrap();
            drop(admission);
        });
        drop(held);
        leaver.join().unwrap();
        stayer.join().unwrap();
        let end = pool.statistics();
        assert_eq!(end.admissions + end.rejected_timed_out, 3);
    });
}
