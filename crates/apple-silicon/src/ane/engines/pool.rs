//! A pool of values that can be used by one caller at a time each, made when first needed.

use std::{
    num::NonZeroUsize,
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::ane::{errors::Result, limits::Limits};

/// At most `max` values. Callers who find all of them taken are woken one for each that comes back, and a later
/// caller may be faster than a woken one: order and fairness are the business of whoever admits callers.
pub(super) struct Pool<T> {
    max: usize,
    state: Mutex<State<T>>,
    returned: Condvar,
}

struct State<T> {
    idle: Vec<T>,
    /// Values that exist or are being made.
    made: usize,
}

impl<T> Pool<T> {
    /// A pool that has its first value.
    pub(super) fn new(max: NonZeroUsize, first: T) -> Pool<T> {
        Pool { max: max.get(), state: Mutex::new(State { idle: vec![first], made: 1 }), returned: Condvar::new() }
    }

    /// Takes an idle value, makes one where there may be more, or waits.
    ///
    /// # Errors
    /// Those of `limits` while waiting, and those of `make`.
    pub(super) fn lease(&self, limits: &Limits, make: impl FnOnce() -> Result<T>) -> Result<Lease<'_, T>> {
        let mut state = self.lock();
        loop {
            limits.check()?;
            if let Some(value) = state.idle.pop() {
                return Ok(Lease { pool: self, value: Some(value) });
            }
            if state.made < self.max {
                state.made += 1;
                drop(state);
                // The lease gives the place back where `make` fails.
                let mut lease = Lease { pool: self, value: None };
                lease.value = Some(make()?);
                return Ok(lease);
            }
            state = self.wait(state, limits);
        }
    }

    /// Takes an idle value that `wanted` picks, without waiting.
    pub(super) fn lease_idle(&self, wanted: impl Fn(&T) -> bool) -> Option<Lease<'_, T>> {
        let mut state = self.lock();
        let at = state.idle.iter().position(wanted)?;
        Some(Lease { pool: self, value: Some(state.idle.swap_remove(at)) })
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>, limits: &Limits) -> MutexGuard<'a, State<T>> {
        // Neither a deadline nor a cancelled call wakes us, so look at them from time to time.
        const LOOK: std::time::Duration = std::time::Duration::from_millis(20);
        let left = limits.deadline().map_or(LOOK, |at| at.saturating_duration_since(Instant::now()).min(LOOK));
        self.returned.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value of the pool, for one caller. Dropping it gives the value back.
#[must_use = "dropping the lease gives the value back"]
pub(super) struct Lease<'a, T> {
    pool: &'a Pool<T>,
    value: Option<T>,
}

impl<T> Deref for Lease<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("a lease has its value until it is dropped")
    }
}

impl<T> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a lease has its value until it is dropped")
    }
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        match self.value.take() {
            Some(value) => state.idle.push(value),
            None => state.made -= 1,
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;
    use crate::ane::errors::ANEError;

    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    #[test]
    fn values_are_made_when_needed_and_used_again() {
        let pool = Pool::new(TWO, 1);
        let none = Limits::default();
        let first = pool.lease(&none, || panic!("one is idle")).unwrap();
        let second = pool.lease(&none, || Ok(2)).unwrap();
        assert_eq!((*first, *second), (1, 2));
        drop(second);
        assert_eq!(*pool.lease(&none, || panic!("one is idle")).unwrap(), 2);
    }

    #[test]
    fn waiting_ends_with_the_deadline_or_a_return() {
        let pool = Pool::new(NonZeroUsize::MIN, 1);
        let lease = pool.lease(&Limits::default(), || panic!("one is idle")).unwrap();
        let late = pool.lease(&Limits::within(Duration::from_millis(2)), || panic!("one may be made"));
        assert!(matches!(late, Err(ANEError::Timeout(2))));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| *pool.lease(&Limits::default(), || panic!("one may be made")).unwrap());
            drop(lease);
            assert_eq!(waiting.join().unwrap(), 1);
        });
    }

    #[test]
    fn a_failure_leaves_the_place_free() {
        let pool = Pool::new(TWO, 1);
        let none = Limits::default();
        let _first = pool.lease(&none, || panic!("one is idle")).unwrap();
        assert!(pool.lease(&none, || Err(ANEError::Unavailable)).is_err());
        assert_eq!(*pool.lease(&none, || Ok(7)).unwrap(), 7);
    }
}
