//! When a prediction has to stop: a deadline, a caller's wish, or both.
//!
//! Knows nothing of engines: they register what to do when the time has come.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
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

    /// Whether nothing will stop the prediction.
    pub(crate) fn are_none(&self) -> bool {
        self.deadline.is_none() && self.cancel.is_none()
    }

    /// When to stop at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|(at, _)| at)
    }

    /// Calls `stop` once when the limit is reached, from another thread, until the guard is dropped.
    pub(crate) fn watch(&self, stop: impl Fn() + Send + Sync + 'static) -> Watch {
        let stop: Stop = Arc::new(stop);
        let timer = self.deadline.map(|(at, _)| TIMER.add(at, stop.clone()));
        let cancel = self.cancel.as_ref().map(|cancel| (cancel.clone(), cancel.add(stop)));
        Watch { timer, cancel }
    }
}

/// A handle that ends predictions from another thread. Clones end the same predictions.
#[derive(Clone, Default)]
pub struct Cancel {
    state: Arc<Mutex<CancelState>>,
}

#[derive(Default)]
struct CancelState {
    cancelled: bool,
    next: u64,
    stops: BTreeMap<u64, Stop>,
}

type Stop = Arc<dyn Fn() + Send + Sync>;

impl Cancel {
    /// A handle that has not been used.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends every prediction that was started with this handle, and any that will be. An engine that cannot be
    /// interrupted (`rten`) ends its run first.
    pub fn cancel(&self) {
        let mut state = lock(&self.state);
        state.cancelled = true;
        state.stops.values().for_each(|stop| stop());
    }

    /// Whether the handle has been used.
    pub fn is_cancelled(&self) -> bool {
        lock(&self.state).cancelled
    }

    fn add(&self, stop: Stop) -> u64 {
        let mut state = lock(&self.state);
        if state.cancelled {
            stop();
        }
        state.next += 1;
        let id = state.next;
        state.stops.insert(id, stop);
        id
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish()
    }
}

/// Keeps a stop armed.
#[must_use = "dropping the watch disarms it"]
pub(crate) struct Watch {
    timer: Option<(Instant, u64)>,
    cancel: Option<(Cancel, u64)>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            TIMER.remove(key);
        }
        if let Some((cancel, id)) = &self.cancel {
            lock(&cancel.state).stops.remove(id);
        }
    }
}

/// One thread for all deadlines of the process, started when the first one is set.
static TIMER: LazyLock<Timer> = LazyLock::new(Timer::start);

struct Timer {
    shared: Arc<(Mutex<Armed>, Condvar)>,
}

#[derive(Default)]
struct Armed {
    next: u64,
    stops: BTreeMap<(Instant, u64), Stop>,
}

impl Timer {
    fn start() -> Timer {
        let shared = Arc::new((Mutex::new(Armed::default()), Condvar::new()));
        let seen = shared.clone();
        // Without a thread, deadlines are still checked before and after each run.
        let _ = thread::Builder::new().name("ane-deadlines".to_owned()).spawn(move || {
            let (armed, changed) = &*seen;
            let mut guard = lock(armed);
            loop {
                let now = Instant::now();
                while let Some(entry) = guard.stops.first_entry().filter(|entry| entry.key().0 <= now) {
                    entry.remove()();
                }
                guard = match guard.stops.first_key_value().map(|((at, _), _)| at.saturating_duration_since(now)) {
                    Some(wait) => changed.wait_timeout(guard, wait).unwrap_or_else(PoisonError::into_inner).0,
                    None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
                };
            }
        });
        Timer { shared }
    }

    fn add(&self, at: Instant, stop: Stop) -> (Instant, u64) {
        let (armed, changed) = &*self.shared;
        let mut guard = lock(armed);
        guard.next += 1;
        let key = (at, guard.next);
        guard.stops.insert(key, stop);
        if guard.stops.first_key_value().is_some_and(|(first, _)| *first == key) {
            changed.notify_one();
        }
        key
    }

    fn remove(&self, key: (Instant, u64)) {
        lock(&self.shared.0).stops.remove(&key);
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

    #[test]
    fn a_deadline_stops_what_runs() {
        let (stopped, seen) = mpsc::channel();
        let limits = Limits::within(Duration::from_millis(5));
        let _watch = limits.watch(move || stopped.send(()).unwrap());
        seen.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(limits.check(), Err(ANEError::Timeout(5)));
    }

    #[test]
    fn a_dropped_watch_is_disarmed() {
        let (stopped, seen) = mpsc::channel();
        let cancel = Cancel::new();
        let limits = Limits::within(Duration::from_secs(3600)).cancelled_by(&cancel);
        drop(limits.watch(move || stopped.send(()).unwrap()));
        cancel.cancel();
        assert_eq!(seen.recv(), Err(mpsc::RecvError), "the stop is gone, and was never called");
        assert!(matches!(limits.check(), Err(ANEError::InferenceFailed(_))));
    }

    #[test]
    fn a_used_handle_stops_at_once() {
        let (stopped, seen) = mpsc::channel();
        let cancel = Cancel::new();
        cancel.cancel();
        let _watch = Limits::default().cancelled_by(&cancel).watch(move || stopped.send(()).unwrap());
        seen.try_recv().unwrap();
    }
}
