//! The threads that run models: as many as there are slots, each started when first needed.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    thread::{self, Thread},
};

use super::{
    lane::{Dispatch, Lane, Scratch},
    request::Cell,
};
use crate::ane::{
    errors::{ANEError, Result},
    resource_pool::Admission,
};

/// What a thread is asked to do.
pub(crate) enum Job {
    /// Run what waits in the lane, as one batch, in this share of the pool.
    Run(Arc<Lane>, Admission),
    /// Run this request alone, in this share of the pool.
    Alone(Arc<Lane>, Arc<Cell>, Admission),
    /// The pool has news for a dispatch.
    Poll(Arc<Dispatch>),
    /// Requests of the lane have waited for others for as long as they may.
    Flush(Arc<Lane>),
}

/// Threads that share one queue of jobs. They end when this is dropped and the queue is empty.
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    max: usize,
    /// Runs that nobody waits for any more.
    late: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that sleep. The one that fell asleep last is woken first: what it needs is still in the caches.
    idle: Vec<Thread>,
    closed: bool,
}

impl Workers {
    /// At most `max` threads.
    pub(crate) fn new(max: usize) -> Workers {
        Workers { shared: Arc::new(Shared { state: Mutex::default(), max: max.max(1), late: Arc::default() }) }
    }

    /// Runs that nobody waits for any more, and that have not ended.
    pub(crate) fn late(&self) -> usize {
        self.shared.late.load(Ordering::Relaxed)
    }

    /// Threads that were started and have not ended.
    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.shared.lock().threads
    }

    /// Hands a job to the next free thread.
    ///
    /// # Errors
    /// [`ANEError::MemoryAllocationFailed`] where there is no thread and none can be made; the job is dropped.
    pub(crate) fn push(&self, job: Job) -> Result<()> {
        let me = thread::current().id();
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        // Not this one, which wakes a task now: that may run here and wait for the job.
        if let Some(place) = state.idle.iter().rposition(|thread| thread.id() != me) {
            let thread = state.idle.remove(place);
            drop(state);
            thread.unpark();
            return Ok(());
        }
        if state.threads == self.shared.max {
            return Ok(());
        }
        let shared = self.shared.clone();
        // Under the lock, so that the last job is this one, and the threads are those that live.
        match thread::Builder::new().name("ane-worker".to_owned()).spawn(move || shared.work()) {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                let stranded = state.jobs.pop_back();
                drop(state);
                // Not under the lock, since a job may hold an admission.
                drop(stranded);
                return Err(ANEError::MemoryAllocationFailed(format!("there is no thread to run on: {error}")));
            }
            Err(_) => {}
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        idle.iter().for_each(Thread::unpark);
    }
}

impl Shared {
    fn work(&self) {
        let me = thread::current();
        let mut scratch = Scratch::new(&self.late);
        while let Some(job) = self.next(&me, scratch.take_last()) {
            // A lane may be dropped here with all that it holds, and the thread is everybody's.
            let done = catch_unwind(AssertUnwindSafe(|| match job {
                Job::Run(lane, admission) => lane.run_batch(admission, &mut scratch),
                Job::Alone(lane, cell, admission) => lane.run_alone(cell, admission, &mut scratch),
                Job::Poll(dispatch) => dispatch.poll(),
                Job::Flush(lane) => lane.flush(),
            }));
            if done.is_err() {
                wake(scratch.take_last());
                scratch = Scratch::new(&self.late);
            }
        }
    }

    /// The next job, for a thread that has done one, and has a task to wake.
    fn next(&self, me: &Thread, done: Option<Waker>) -> Option<Job> {
        let mut state = self.lock();
        if done.is_some() {
            // The task may run at once, on this core, and ask for the next run: then this thread is free to take it,
            // and no other is woken for nothing.
            let free = state.jobs.is_empty();
            state = self.rest(state, me, free, || wake(done));
        }
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                state.threads -= 1;
                return None;
            }
            // It may wake up by itself.
            state = self.rest(state, me, true, thread::park);
        }
    }

    /// Does something without the lock, among the idle threads where it is free.
    fn rest<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        me: &Thread,
        free: bool,
        meanwhile: impl FnOnce(),
    ) -> MutexGuard<'a, State> {
        if free {
            state.idle.push(me.clone());
        }
        drop(state);
        meanwhile();
        let mut state = self.lock();
        state.idle.retain(|thread| thread.id() != me.id());
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes a task of somebody else's. It may panic, and the thread is everybody's.
pub(super) fn wake(task: Option<Waker>) {
    let _ = catch_unwind(AssertUnwindSafe(|| task.map(Waker::wake)));
}
