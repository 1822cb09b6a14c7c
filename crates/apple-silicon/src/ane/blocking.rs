//! Work that takes long, away from the executor's threads.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use super::errors::{ANEError, Result};

/// Begins `work` on a thread of its own. Dropping what is given lets the work go on, and drops what it gives.
///
/// # Errors
/// [`ANEError::MemoryAllocationFailed`] where no thread can be made, [`ANEError::Internal`] where the work panics.
pub(crate) fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Outcome<T>> {
    let outcome = Outcome { state: Arc::default() };
    let filled = outcome.state.clone();
    let work = move || {
        let panicked = |_| ANEError::Internal("a thread gave up; please report it".to_owned());
        let value = catch_unwind(AssertUnwindSafe(work)).map_err(panicked);
        let mut state = lock(&filled);
        state.value = Some(value);
        let task = state.task.take();
        drop(state);
        task.into_iter().for_each(Waker::wake);
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|e| ANEError::MemoryAllocationFailed(format!("there is no thread to work on: {e}")))?;
    Ok(outcome)
}

/// Does `work` on each item, on so many threads. What each gives is in the items' order.
///
/// # Errors
/// As [`on_thread`].
pub(crate) async fn on_threads<I: Send + 'static, T: Send + 'static>(
    name: &str,
    threads: usize,
    items: Vec<I>,
    work: impl Fn(I) -> T + Send + Sync + 'static,
) -> Result<Vec<T>> {
    let count = items.len();
    let (items, work) = (Arc::new(Mutex::new(items.into_iter().enumerate())), Arc::new(work));
    let begin = || {
        let (items, work) = (items.clone(), work.clone());
        let next = move || lock(&items).next();
        on_thread(name, move || std::iter::from_fn(next).map(|(index, item)| (index, work(item))).collect::<Vec<_>>())
    };
    let threads: Vec<Outcome<Vec<(usize, T)>>> = (0..threads.min(count)).map(|_| begin()).collect::<Result<_>>()?;
    let mut done = Vec::with_capacity(count);
    for thread in threads {
        done.extend(thread.await?);
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// What a thread will give.
pub(crate) struct Outcome<T> {
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    value: Option<Result<T>>,
    task: Option<Waker>,
}

impl<T> Default for State<T> {
    fn default() -> State<T> {
        State { value: None, task: None }
    }
}

impl<T> Future for Outcome<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut state = lock(&self.state);
        if let Some(value) = state.value.take() {
            return Poll::Ready(value);
        }
        let stale = state.task.replace(context.waker().clone());
        // Not under the lock, since the last of a task's wakers may drop the task.
        drop(state);
        drop(stale);
        Poll::Pending
    }
}

/// Waits for a future on this thread, which must not be an executor's.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let squares = wait(on_threads("squares", 3, (0..100u64).collect(), |n| n * n)).unwrap();
        assert_eq!(squares, (0..100).map(|n| n * n).collect::<Vec<u64>>());
    }

    #[test]
    fn a_panic_is_an_error() {
        let outcome = on_thread("panics", || panic!("as it should")).unwrap();
        assert!(matches!(wait(outcome), Err::<(), _>(ANEError::Internal(_))));
    }
}
