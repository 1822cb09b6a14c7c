//! What threads of the metrics share without a locked instruction, under a model checker, which tries every
//! interleaving of its atomics. As with the pool, the module `sync` is replaced by the checker's. It does not model a store
//! that overtakes a load, against which the ring's pusher reads `taken` with acquire.

use loom::{
    model,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};
use ring::Ring;
use slots::{SLOTS, Slots};

#[path = "../src/ane/metrics/ring.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part of it is used here")]
mod ring;
#[path = "../src/ane/metrics/slots.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part of it is used here")]
mod slots;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

/// A single slot that is free.
fn one() -> Slots {
    let slots = Slots::new(AtomicU64::new(0));
    (0..SLOTS - 1).for_each(|slot| assert_eq!(slots.take(), Some(slot)));
    slots
}

/// With a slot, a counter is written by a load and a store: a hand-over that showed less than all would lose some.
#[test]
fn a_slot_is_handed_over_with_what_was_counted() {
    model(|| {
        let shared = Arc::new((one(), AtomicU64::new(0), AtomicU64::new(0)));
        let count = |shared: &(Slots, AtomicU64, AtomicU64)| {
            let (slots, own, common) = shared;
            match slots.take() {
                Some(slot) => {
                    own.store(own.load(Relaxed) + 1, Relaxed);
                    slots.give_back(slot);
                }
                None => _ = common.fetch_add(1, Relaxed),
            }
        };
        let others: [_; 2] = std::array::from_fn(|_| {
            let shared = shared.clone();
            thread::spawn(move || count(&shared))
        });
        count(&shared);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.1.load(Relaxed) + shared.2.load(Relaxed), 3);
    });
}

/// One pushes into a ring that is soon full, two take.
#[test]
fn what_is_pushed_is_taken_whole_in_order_and_once() {
    model(|| {
        let shared = Arc::new((Ring::<2, 2>::new(), Mutex::new(Vec::new())));
        let take = |shared: &(Ring<2, 2>, Mutex<Vec<[u64; 2]>>)| {
            let mut taken = shared.1.lock().unwrap();
            shared.0.drain(|entry| taken.push(entry));
        };
        let pusher = {
            let shared = shared.clone();
            thread::spawn(move || (1..=3).filter(|n| shared.0.push([*n, 10 * n]).is_some()).collect::<Vec<_>>())
        };
        let taker = {
            let shared = shared.clone();
            thread::spawn(move || take(&shared))
        };
        take(&shared);
        let pushed = pusher.join().unwrap();
        taker.join().unwrap();
        take(&shared);
        let expected: Vec<_> = pushed.iter().map(|n| [*n, 10 * n]).collect();
        assert_eq!(*shared.1.lock().unwrap(), expected);
    });
}

/// The next thread of a slot goes on with its ring, while another takes from it.
#[test]
fn a_ring_is_handed_over_with_its_slot() {
    model(|| {
        let shared = Arc::new((one(), Ring::<1, 1>::new(), Mutex::new(0)));
        let take = |shared: &(Slots, Ring<1, 1>, Mutex<u64>)| {
            let mut sum = shared.2.lock().unwrap();
            shared.1.drain(|[entry]| *sum += entry);
        };
        let pushers = [1, 10].map(|value| {
            let shared = shared.clone();
            thread::spawn(move || {
                let Some(slot) = shared.0.take() else { return 0 };
                let pushed = if shared.1.push([value]).is_some() { value } else { 0 };
                shared.0.give_back(slot);
                pushed
            })
        });
        take(&shared);
        let pushed: u64 = pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum();
        take(&shared);
        assert_eq!(*shared.2.lock().unwrap(), pushed);
    });
}
