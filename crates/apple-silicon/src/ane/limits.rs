//! When a prediction has to stop: a deadline, a caller's wish, or both.
//!
//! Knows nothing of engines: they register what to do when the time has come.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    thread,
    time::{Duration, Instant},
};

use super::errors::{ANEError, Result};

/// When a prediction has to stop. The default has no limit.
///
/// ```
/// use std::time::Duration;
/// use apple_silicon::ane::limits::{Cancel, Limits};
///
/// let cancel = Cancel::new();
/// let limits = Limits::within(Duration::from_millis(50)).cancelled_by(&cancel);
/// cancel.cancel();
/// assert!(limits.check().is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Limits {
    deadline: Option<(Instant, Duration)>,
    cancel: Option<Cancel>,
}

impl Limits {
    /// Stops `time` from now.
    pub fn within(time: Duration) -> Limits {
        Limits { deadline: Instant::now().checked_add(time).map(|at| (at, time)), cancel: None }
    }

    /// Stops when `cancel` is used, too.
    pub fn cancelled_by(mut self, cancel: &Cancel) -> Limits {
        self.cancel = Some(cancel.clone());
        self
    }

    /// Whether the prediction may go on.
    ///
    /// # Errors
    /// [`ANEError::Timeout`] past the deadline, [`ANEError::InferenceFailed`] when cancelled.
    pub fn check(&self) -> Result<()> {
        if self.cancel.as_ref().is_some_and(Cancel::is_cancelled) {
            return Err(ANEError::InferenceFailed("the prediction was cancelled by its caller".to_owned()));
        }
        match self.deadline {
            Some((at, time)) if Instant::now() >= at => {
                Err(ANEError::Timeout(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
            }
            _ => Ok(()),
        }
    }

    /// When to stop at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|(at, _)| at)
    }

    /// Rings the alarm when a limit is reached, from another thread, until the guard is dropped.
    pub(crate) fn watch(&self, alarm: &Arc<dyn Alarm>) -> Watch {
        let timer = self.deadline.map(|(at, _)| Armed::at(at, alarm.clone()));
        let cancel = self.cancel.as_ref().map(|cancel| (cancel.clone(), cancel.add(alarm.clone())));
        Watch { timer, cancel }
    }
}

/// A handle that ends predictions from another thread. Clones end the same predictions.
#[derive(Clone, Default)]
pub struct Cancel {
    shared: Arc<CancelShared>,
}

#[derive(Default)]
struct CancelShared {
    /// Set under the lock, and read without it, since it is looked at more often.
    cancelled: AtomicBool,
    alarms: Mutex<CancelAlarms>,
}

#[derive(Default)]
struct CancelAlarms {
    next: u64,
    alarms: Vec<(u64, Arc<dyn Alarm>)>,
}

/// What is told when a limit is reached. It is called with a lock held, so it must be quick and must not arm or
/// disarm alarms; the task that it gives is woken when the lock is free.
pub(crate) trait Alarm: Send + Sync {
    fn ring(&self) -> Option<Waker>;
}

impl<F: Fn() + Send + Sync> Alarm for F {
    fn ring(&self) -> Option<Waker> {
        self();
        None
    }
}

impl Cancel {
    /// A handle that has not been used.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends every prediction that was started with this handle, and any that will be. An engine that cannot be
    /// interrupted (`rten`) ends its run first.
    pub fn cancel(&self) {
        let guard = lock(&self.shared.alarms);
        self.shared.cancelled.store(true, Ordering::Release);
        let tasks: Vec<Waker> = guard.alarms.iter().filter_map(|(_, alarm)| alarm.ring()).collect();
        drop(guard);
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Whether the handle has been used.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Acquire)
    }

    fn add(&self, alarm: Arc<dyn Alarm>) -> u64 {
        let mut guard = lock(&self.shared.alarms);
        let task = if self.is_cancelled() { alarm.ring() } else { None };
        guard.next += 1;
        let id = guard.next;
        guard.alarms.push((id, alarm));
        drop(guard);
        task.into_iter().for_each(Waker::wake);
        id
    }

    fn remove(&self, id: u64) {
        lock(&self.shared.alarms).alarms.retain(|(armed, _)| *armed != id);
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish()
    }
}

/// Keeps alarms armed.
#[must_use = "dropping the watch disarms it"]
pub(crate) struct Watch {
    timer: Option<Armed>,
    cancel: Option<(Cancel, u64)>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.timer.take();
        if let Some((cancel, id)) = &self.cancel {
            cancel.remove(*id);
        }
    }
}

/// An alarm that rings at a time, once, unless this is dropped before. Once it is dropped, the alarm neither rings nor
/// is ringing.
#[must_use = "dropping it disarms the alarm"]
#[derive(Debug)]
pub(crate) struct Armed {
    key: (Instant, u64),
}

impl Armed {
    pub(crate) fn at(at: Instant, alarm: Arc<dyn Alarm>) -> Armed {
        Armed { key: TIMER.add(at, alarm) }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        TIMER.remove(self.key);
    }
}

/// One thread for all deadlines of the process, started when the first one is set.
static TIMER: LazyLock<Timer> = LazyLock::new(Timer::start);

struct Timer {
    shared: Arc<(Mutex<Clock>, Condvar)>,
}

#[derive(Default)]
struct Clock {
    next: u64,
    /// Sorted by time. Most calls have the same time to live, so most are added at the end, and a queue beats a tree.
    alarms: VecDeque<((Instant, u64), Arc<dyn Alarm>)>,
    /// When the thread looks next, where it looks at all: an alarm after that needs no waking.
    looks_at: Option<Instant>,
}

impl Timer {
    fn start() -> Timer {
        let shared = Arc::new((Mutex::new(Clock::default()), Condvar::new()));
        let seen = shared.clone();
        // Without a thread, deadlines are still checked before and after each run.
        let _ = thread::Builder::new().name("ane-deadlines".to_owned()).spawn(move || {
            let (clock, sooner) = &*seen;
            let mut rang = Vec::new();
            let mut guard = lock(clock);
            loop {
                let now = Instant::now();
                while guard.alarms.front().is_some_and(|((at, _), _)| *at <= now) {
                    rang.extend(guard.alarms.pop_front().map(|(_, alarm)| (alarm.ring(), alarm)));
                }
                if !rang.is_empty() {
                    // Waking and dropping may run anything, which may arm and disarm alarms.
                    drop(guard);
                    for (task, alarm) in rang.drain(..) {
                        // A task of somebody else's may panic, and the clock is everybody's.
                        let _ = catch_unwind(AssertUnwindSafe(|| drop((task.map(Waker::wake), alarm))));
                    }
                    guard = lock(clock);
                    continue;
                }
                guard.looks_at = guard.alarms.front().map(|((at, _), _)| *at);
                guard = match guard.looks_at.map(|at| at.saturating_duration_since(now)) {
                    Some(wait) => sooner.wait_timeout(guard, wait).unwrap_or_else(PoisonError::into_inner).0,
                    None => sooner.wait(guard).unwrap_or_else(PoisonError::into_inner),
                };
            }
        });
        Timer { shared }
    }

    fn add(&self, at: Instant, alarm: Arc<dyn Alarm>) -> (Instant, u64) {
        let (clock, sooner) = &*self.shared;
        let mut guard = lock(clock);
        guard.next += 1;
        let key = (at, guard.next);
        let place = guard.alarms.partition_point(|(other, _)| *other < key);
        guard.alarms.insert(place, (key, alarm));
        if guard.looks_at.is_none_or(|looks| at < looks) {
            guard.looks_at = Some(at);
            sooner.notify_one();
        }
        key
    }

    fn remove(&self, key: (Instant, u64)) {
        let mut guard = lock(&self.shared.0);
        let removed = guard.alarms.binary_search_by_key(&key, |(other, _)| *other).ok();
        let removed = removed.and_then(|place| guard.alarms.remove(place));
        drop(guard);
        // Here, since dropping an alarm may do more than counting down.
        drop(removed);
    }
}

/// Locks; what a panicking thread left behind is still whole here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn alarm(ring: impl Fn() + Send + Sync + 'static) -> Arc<dyn Alarm> {
        Arc::new(ring)
    }

    #[test]
    fn a_deadline_stops_what_runs() {
        let (stopped, seen) = mpsc::channel();
        let limits = Limits::within(Duration::from_millis(5));
        let _watch = limits.watch(&alarm(move || stopped.send(()).unwrap()));
        seen.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(limits.check(), Err(ANEError::Timeout(5)));
    }

    #[test]
    fn alarms_ring_in_the_order_of_their_times() {
        let (rang, seen) = mpsc::channel();
        let start = Instant::now();
        let armed: Vec<Armed> = [30u64, 10, 20, 10]
            .map(|ms| {
                let rang = rang.clone();
                Armed::at(start + Duration::from_millis(ms), alarm(move || rang.send(ms).unwrap()))
            })
            .into();
        let order: Vec<u64> = (0..4).map(|_| seen.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        assert_eq!(order, [10, 10, 20, 30]);
        drop(armed);
    }

    #[test]
    fn a_dropped_watch_is_disarmed() {
        let (stopped, seen) = mpsc::channel();
        let cancel = Cancel::new();
        let limits = Limits::within(Duration::from_secs(3600)).cancelled_by(&cancel);
        drop(limits.watch(&alarm(move || stopped.send(()).unwrap())));
        cancel.cancel();
        assert_eq!(seen.recv(), Err(mpsc::RecvError), "the stop is gone, and was never called");
        assert!(matches!(limits.check(), Err(ANEError::InferenceFailed(_))));
    }

    #[test]
    fn a_used_handle_stops_at_once() {
        let (stopped, seen) = mpsc::channel();
        let cancel = Cancel::new();
        cancel.cancel();
        let _watch = Limits::default().cancelled_by(&cancel).watch(&alarm(move || stopped.send(()).unwrap()));
        seen.try_recv().unwrap();
    }
}
