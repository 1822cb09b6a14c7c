//! Waiting allocates nothing once the queue has been as long before. Alone in its program, since the allocator is
//! everybody's.

use std::{
    alloc::System,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use apple_silicon::ane::resource_pool::{Admission, Admit, Pool};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn waiting_allocates_nothing() {
    let pool = Pool::with_bytes(8, 100);
    round(&pool);
    let region = Region::new(ALLOCATOR);
    (0..100).for_each(|_| round(&pool));
    assert_eq!(region.change().allocations + region.change().reallocations, 0);
    assert_eq!(pool.statistics().waits, 101 * 7);
}

/// Eight wait. One is dropped, and a release grants the rest.
fn round(pool: &Pool) {
    let held = pool.try_admit_bytes(100).unwrap();
    let mut waiters = [1, 2, 3, 4, 5, 6, 7, 8].map(|bytes| Some(pool.admit_bytes(bytes)));
    assert!(waiters.iter_mut().flatten().all(|admit| poll(admit).is_pending()));
    waiters[3] = None;
    drop(held);
    assert!(waiters.iter_mut().flatten().all(|admit| poll(admit).is_ready()));
}

fn poll(admit: &mut Admit) -> Poll<Admission> {
    Pin::new(admit).poll(&mut Context::from_waker(Waker::noop())).map(Result::unwrap)
}
