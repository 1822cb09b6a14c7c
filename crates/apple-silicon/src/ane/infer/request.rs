//! A request on its way: what it asks for, its caller's hold on it, and the run that it is part of.
//!
//! A request ends once: by its answer, by its deadline, or by its caller's going away, whichever comes first.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    lane::Lane,
    run::{Output, Payload, Place, Spent},
};
use crate::ane::{
    errors::{ANEError, Result},
    limits::{Alarm, Armed, Cancel, Limits},
};

/// A request.
pub(crate) struct Submission {
    pub(crate) payload: Payload,
    pub(crate) place: Place,
    /// Working set of a run of it alone.
    pub(crate) bytes: usize,
    /// Samples that it holds.
    pub(crate) samples: usize,
    /// How much of a batch it takes: its samples, and never more than a batch has.
    pub(crate) share: usize,
    /// Whether it may be joined with others.
    pub(crate) joinable: bool,
    pub(crate) called: Instant,
    pub(crate) timeout: Duration,
    /// Whether it counts in the metrics.
    pub(crate) monitored: bool,
}

/// An answer, and where its time went.
pub(crate) struct Answer {
    pub(crate) output: Output,
    pub(crate) spent: Spent,
    /// The request's vector, to use it again.
    pub(super) vector: Vec<f32>,
}

/// A caller's hold on its request. Dropping it gives the request up.
pub(crate) struct Ticket {
    lane: Arc<Lane>,
    cell: Arc<Cell>,
    timeout: Duration,
    armed: Option<Armed>,
    answered: bool,
    vector: Vec<f32>,
}

impl Ticket {
    pub(super) fn new(lane: &Arc<Lane>, cell: Arc<Cell>, called: Instant, timeout: Duration) -> Ticket {
        let armed = called.checked_add(timeout).map(|at| Armed::at(at, cell.clone()));
        Ticket { lane: lane.clone(), cell, timeout, armed, answered: false, vector: Vec::new() }
    }
}

impl Future for Ticket {
    type Output = Result<Answer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Answer>> {
        let mut vector = Vec::new();
        let mut state = self.cell.lock();
        let answer = match state.phase {
            Phase::Answered => {
                let mut answer = state.answer.take();
                if let Some(Ok(answer)) = &mut answer {
                    vector = std::mem::take(&mut answer.vector);
                }
                answer
            }
            Phase::Expired => Some(Err(ANEError::Timeout(u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX)))),
            Phase::Waiting | Phase::Running => {
                let known = state.task.as_ref().is_some_and(|task| task.will_wake(context.waker()));
                let stale = if known { None } else { state.task.replace(context.waker().clone()) };
                // Not under the lock: the last of a task's wakers may drop the task, and requests that it holds.
                drop(state);
                drop(stale);
                return Poll::Pending;
            }
            Phase::Left => None,
        };
        let answered = state.phase == Phase::Answered;
        drop(state);
        (self.answered, self.vector) = (answered, vector);
        Poll::Ready(answer.unwrap_or_else(|| Err(ANEError::Internal("polled after its answer".to_owned()))))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        drop(self.armed.take());
        if self.answered {
            self.lane.keep(&self.cell, std::mem::take(&mut self.vector));
            return;
        }
        drop(self.cell.give_up(Phase::Left));
        // One that was taken is in no queue, and looking for it would be a look at all of it.
        let waits = self.cell.lock().request.is_some();
        if waits {
            self.lane.forget(&self.cell);
        }
    }
}

/// A request on its way, shared by its caller, its lane and the clock.
pub(crate) struct Cell {
    state: Mutex<CellState>,
}

struct CellState {
    phase: Phase,
    task: Option<Waker>,
    request: Option<Submission>,
    answer: Option<Result<Answer>>,
    /// The run that it is part of.
    run: Option<Arc<Run>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    /// A thread has taken it. It is part of a run, or has its turn after one.
    Running,
    Answered,
    /// Its deadline passed.
    Expired,
    /// Its caller went away.
    Left,
}

impl Cell {
    /// One without a request.
    pub(super) fn new() -> Cell {
        Cell { state: Mutex::new(CellState::new()) }
    }

    /// Makes it a request's.
    pub(super) fn fill(&self, request: Submission) {
        *self.lock() = CellState { phase: Phase::Waiting, request: Some(request), ..CellState::new() };
    }

    /// Takes what it asks for, unless its caller does not wait any more.
    pub(super) fn begin(&self) -> Option<Submission> {
        let mut state = self.lock();
        if state.phase != Phase::Waiting {
            return None;
        }
        state.phase = Phase::Running;
        state.request.take()
    }

    /// Takes what it asks for, of one whose caller does not wait any more.
    pub(super) fn withdraw(&self) -> Option<Submission> {
        self.lock().request.take()
    }

    /// Makes it part of a run, unless its caller does not wait any more.
    fn join(&self, run: &Arc<Run>) {
        let mut state = self.lock();
        if state.phase == Phase::Running {
            run.waiting.fetch_add(1, Ordering::AcqRel);
            state.run = Some(run.clone());
        }
    }

    /// Its run has ended without an answer.
    pub(super) fn part(&self) {
        self.lock().run = None;
    }

    /// Answers it, and gives the task that is to be woken.
    pub(super) fn answer(&self, answer: Result<Answer>) -> Option<Waker> {
        let mut state = self.lock();
        let run = state.run.take();
        if matches!(state.phase, Phase::Waiting | Phase::Running) {
            state.phase = Phase::Answered;
            state.answer = Some(answer);
        }
        let task = state.task.take();
        // What came too late is dropped after this, since a buffer in it goes back to its manager.
        drop(state);
        drop(run);
        task
    }

    /// Nobody waits for it any more.
    fn give_up(&self, phase: Phase) -> Option<Waker> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Waiting | Phase::Running) {
            return None;
        }
        state.phase = phase;
        if let Some(run) = state.run.take() {
            run.leave();
        }
        state.task.take()
    }

    fn lock(&self) -> MutexGuard<'_, CellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alarm for Cell {
    /// Its deadline has passed.
    fn ring(&self) -> Option<Waker> {
        self.give_up(Phase::Expired)
    }
}

impl CellState {
    fn new() -> CellState {
        CellState { phase: Phase::Left, task: None, request: None, answer: None, run: None }
    }
}

/// A run of the engine, and how many still wait for it. One is used for many runs, one after the other.
pub(super) struct Run {
    waiting: AtomicUsize,
    cancel: Cancel,
    /// Reached when nobody waits for it any more.
    pub(super) limits: Limits,
    /// Runs of all threads that nobody waits for.
    late: Arc<AtomicUsize>,
}

impl Run {
    /// Counts itself in `late` when nobody waits for it any more.
    pub(super) fn new(late: &Arc<AtomicUsize>) -> Arc<Run> {
        let cancel = Cancel::new();
        let limits = Limits::default().cancelled_by(&cancel);
        Arc::new(Run { waiting: AtomicUsize::new(0), cancel, limits, late: late.clone() })
    }

    /// Begins for those of the requests that are waited for, and is stopped where there are none.
    pub(super) fn begin(self: &Arc<Run>, cells: &[Arc<Cell>]) {
        // One more than there are, so that it is not stopped before all are part of it.
        self.waiting.store(1, Ordering::Release);
        cells.iter().for_each(|cell| cell.join(self));
        self.leave();
    }

    /// Whether it was stopped. It stays so; the next run needs another.
    pub(super) fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// One that waits for it less. The last one stops it.
    fn leave(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.late.fetch_add(1, Ordering::Relaxed);
            self.cancel.cancel();
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.is_stopped() {
            self.late.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
