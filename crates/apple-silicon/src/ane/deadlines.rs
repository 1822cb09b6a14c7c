//! Waiting for the pool until a deadline. The pool itself knows no clock.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    errors::{ANEError, Result},
    limits::{Alarm, Armed},
    resource_pool::{Admission, Admit, Pool, Reservation, Reserve},
};

impl Pool {
    /// Waits for a slot and `mb` MB of 2^20 bytes, until `timeout` has passed.
    ///
    /// # Errors
    /// [`ANEError::Timeout`] then; and as [`Pool::admit`].
    pub fn admit_within(&self, mb: usize, timeout: Duration) -> impl Future<Output = Result<Admission>> + Send {
        Within::new(self.admit(mb), timeout)
    }

    /// Waits for a slot and so many bytes, until `timeout` has passed.
    ///
    /// # Errors
    /// [`ANEError::Timeout`] then; and as [`Pool::admit_bytes`].
    pub fn admit_bytes_within(
        &self,
        bytes: usize,
        timeout: Duration,
    ) -> impl Future<Output = Result<Admission>> + Send {
        Within::new(self.admit_bytes(bytes), timeout)
    }

    /// Waits for so many bytes without a slot, until `timeout` has passed.
    ///
    /// # Errors
    /// [`ANEError::Timeout`] then; and as [`Pool::reserve_bytes`].
    pub fn reserve_bytes_within(
        &self,
        bytes: usize,
        timeout: Duration,
    ) -> impl Future<Output = Result<Reservation>> + Send {
        Within::new(self.reserve_bytes(bytes), timeout)
    }
}

/// A place in the pool's queue.
trait Waiting: Future + Unpin {
    /// Leaves the queue since time is up.
    fn expire(self);
}

impl Waiting for Admit {
    fn expire(self) {
        Admit::expire(self);
    }
}

impl Waiting for Reserve {
    fn expire(self) {
        Reserve::expire(self);
    }
}

/// A place in the queue that is left when time is up.
struct Within<W> {
    waiting: Option<W>,
    timeout: Duration,
    at: Option<Instant>,
    wake: Arc<WakeUp>,
    /// Armed when there is something to wait for.
    armed: Option<Armed>,
}

/// Wakes a task when time is up.
#[derive(Default)]
struct WakeUp {
    task: Mutex<Option<Waker>>,
}

impl Alarm for WakeUp {
    fn ring(&self) -> Option<Waker> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<W> Within<W> {
    fn new(waiting: W, timeout: Duration) -> Within<W> {
        let at = Instant::now().checked_add(timeout);
        Within { waiting: Some(waiting), timeout, at, wake: Arc::default(), armed: None }
    }
}

impl<T, W: Waiting<Output = Result<T>>> Future for Within<W> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let this = &mut *self;
        let Some(waiting) = &mut this.waiting else {
            return Poll::Ready(Err(ANEError::Internal("polled after its answer".to_owned())));
        };
        if let Poll::Ready(result) = Pin::new(waiting).poll(context) {
            (this.waiting, this.armed) = (None, None);
            return Poll::Ready(result);
        }
        // Before the look at the time: an alarm that rings after it finds the new task. The old one is dropped outside of
        // the lock, since it may be the last of its task's, and drop that.
        let stale = this.wake.task.lock().unwrap_or_else(PoisonError::into_inner).replace(context.waker().clone());
        drop(stale);
        if this.at.is_some_and(|at| Instant::now() >= at) {
            this.armed = None;
            this.waiting.take().into_iter().for_each(W::expire);
            let ms = u64::try_from(this.timeout.as_millis()).unwrap_or(u64::MAX);
            return Poll::Ready(Err(ANEError::Timeout(ms)));
        }
        if let (None, Some(at)) = (&this.armed, this.at) {
            this.armed = Some(Armed::at(at, this.wake.clone()));
        }
        Poll::Pending
    }
}
