//! One model and the requests that wait for it.
//!
//! Requests wait in a queue. For what waits, the lane asks the pool for a slot and the memory of a run; when it is
//! given, a thread takes as many requests as one run may have, and answers each. A caller who goes away, or whose
//! deadline passes, takes its request out of the queue, or gives up its part of a run; a run that nobody waits for any
//! more is told to stop, and keeps its share of the pool until it has.

use std::{
    collections::VecDeque,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{
    batch::Batching,
    buffer::Buffers,
    run::{self, Asked, Output, Payload, Place, Spent, Work},
    workers::{Job, Workers},
};
use crate::ane::{
    errors::{ANEError, Result},
    limits::{Alarm, Armed, Cancel, Limits},
    metrics::PerformanceTracker,
    models::coreml_model::CoreMlModel,
    resource_pool::{Admission, Admit, Pool, Reservation},
};

/// A model's own tracker, and that of all models of its manager.
pub(crate) type Trackers = SmallVec<[Arc<PerformanceTracker>; 2]>;

/// A loaded model with its queue.
pub(crate) struct Lane {
    me: Weak<Lane>,
    pub(crate) model: Arc<CoreMlModel>,
    pool: Pool,
    workers: Arc<Workers>,
    /// Runs at a time, of all models.
    slots: usize,
    /// What the model takes of what was asked for.
    pub(crate) batching: Batching,
    /// Where its inferences count.
    pub(crate) trackers: Trackers,
    shared: Shared,
    queue: Mutex<Queue>,
}

/// What a lane shares with others, or holds for its model.
#[derive(Default)]
pub(crate) struct Shared {
    /// Idle ones are given up where a run waits.
    pub(crate) buffers: Arc<Buffers>,
    /// The weights' share of the pool, held until the last run has ended.
    pub(crate) _weights: Option<Reservation>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Shares of a batch of all that wait.
    shares: usize,
    /// Runs that the pool was asked for, and that have not begun.
    asked: usize,
    /// Those of them that wait for the pool.
    dispatches: Vec<Arc<Dispatch>>,
    /// Rings when what waits has waited for others for long enough.
    flush: Option<Armed>,
    /// What waits need not wait for others any more.
    due: bool,
    /// Cells and vectors to use again.
    cells: Vec<Arc<Cell>>,
    vectors: Vec<Vec<f32>>,
}

/// A request in the queue, with what decides of the run that it will be part of.
struct Waiting {
    cell: Arc<Cell>,
    share: usize,
    bytes: usize,
    joinable: bool,
}

/// An answer, and where its time went.
pub(crate) struct Answer {
    pub(crate) output: Output,
    pub(crate) spent: Spent,
    /// The request's vector, to use it again.
    vector: Vec<f32>,
}

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
    Running,
    Answered,
    /// Its deadline passed.
    Expired,
    /// Its caller went away.
    Left,
}

/// A run, and how many still wait for it.
#[derive(Default)]
struct Run {
    waiting: AtomicUsize,
    cancel: Cancel,
    /// Runs of all threads that nobody waits for.
    late: Arc<AtomicUsize>,
}

impl Run {
    /// One that waits for it less. The last one stops it.
    fn leave(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.late.fetch_add(1, Ordering::Relaxed);
            self.cancel.cancel();
        }
    }
}

/// A request for a run that waits for the pool.
pub(crate) struct Dispatch {
    lane: Arc<Lane>,
    /// What it has asked for.
    bytes: usize,
    admit: Mutex<Option<Admit>>,
}

/// What a thread keeps from one run to the next.
pub(crate) struct Scratch {
    run: Arc<Run>,
    /// Of each request that was taken: its cell, what it asks for, and what becomes of it.
    cells: Vec<Arc<Cell>>,
    asked: Vec<Asked>,
    works: Vec<Work>,
}

impl Scratch {
    /// Counts runs that nobody waits for in `late`.
    pub(super) fn new(late: &Arc<AtomicUsize>) -> Scratch {
        let run = Arc::new(Run { late: late.clone(), ..Run::default() });
        Scratch { run, cells: Vec::new(), asked: Vec::new(), works: Vec::new() }
    }

    /// A run that was stopped stays so; the next one needs another.
    fn renew(&mut self) {
        if self.run.cancel.is_cancelled() {
            self.run.late.fetch_sub(1, Ordering::Relaxed);
            self.run = Scratch::new(&self.run.late).run;
        }
    }
}

impl Lane {
    pub(crate) fn new(
        model: Arc<CoreMlModel>,
        pool: Pool,
        workers: Arc<Workers>,
        batching: Batching,
        slots: usize,
        trackers: Trackers,
        shared: Shared,
    ) -> Arc<Lane> {
        let queue = Mutex::default();
        Arc::new_cyclic(|me| Lane { me: me.clone(), model, pool, workers, slots, batching, trackers, shared, queue })
    }

    /// Queues a request.
    pub(crate) fn submit(self: &Arc<Lane>, request: Submission) -> Ticket {
        let (called, timeout) = (request.called, request.timeout);
        let (share, bytes, joinable) = (request.share, request.bytes, request.joinable);
        let mut queue = self.lock();
        let cell = queue.cell(request);
        queue.shares += share;
        queue.waiting.push_back(Waiting { cell: cell.clone(), share, bytes, joinable });
        let asks = self.asks(&mut queue);
        drop(queue);
        self.ask_all(asks);
        // Its thread is waking up meanwhile.
        Ticket::new(self, cell, called, timeout)
    }

    /// Runs a request in a share of the pool that its caller has.
    pub(crate) fn submit_admitted(self: &Arc<Lane>, request: Submission, admission: Admission) -> Result<Ticket> {
        let (called, timeout) = (request.called, request.timeout);
        let cell = self.lock().cell(request);
        let ticket = Ticket::new(self, cell.clone(), called, timeout);
        self.workers.push(Job::Alone(self.clone(), cell, admission))?;
        Ok(ticket)
    }

    /// Requests that wait, their shares, runs asked for, and those of them that wait for the pool.
    #[cfg(test)]
    pub(crate) fn books(&self) -> [usize; 4] {
        let queue = self.lock();
        [queue.waiting.len(), queue.shares, queue.asked, queue.dispatches.len()]
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// A vector to fill, one that was used before where there is one.
    pub(crate) fn vector(&self, values: &[f32]) -> Vec<f32> {
        let mut vector = self.lock().vectors.pop().unwrap_or_default();
        vector.clear();
        vector.extend_from_slice(values);
        vector
    }

    /// What waits has waited for long enough.
    pub(super) fn flush(self: &Arc<Lane>) {
        let mut queue = self.lock();
        queue.due = true;
        let stale = queue.rest();
        let asks = self.asks(&mut queue);
        drop(queue);
        drop(stale);
        self.ask_all(asks);
    }

    /// The runs that the pool is to be asked for now, by their places behind those that it was asked for; they are
    /// counted as asked for.
    fn asks(&self, queue: &mut Queue) -> Range<usize> {
        let gathers = !queue.waiting.is_empty()
            && !queue.due
            && queue.shares < self.batching.max_batch
            && self.batching.max_queue_delay > Duration::ZERO;
        if gathers {
            let at = Instant::now().checked_add(self.batching.max_queue_delay);
            if let (None, Some(at), Some(me)) = (&queue.flush, at, self.me.upgrade()) {
                queue.flush = Some(Armed::at(at, me));
            }
            return 0..0;
        }
        // More than there are slots would only make the pool's queue longer.
        let runs = queue.shares.div_ceil(self.batching.max_batch).min(self.slots);
        let asked = queue.asked;
        queue.asked = asked.max(runs);
        asked..queue.asked
    }

    fn ask_all(self: &Arc<Lane>, asks: Range<usize>) {
        asks.for_each(|place| self.ask(place));
    }

    /// Asks the pool for the run at a place, with the memory of the request that it would begin with.
    fn ask(self: &Arc<Lane>, place: usize) {
        let bytes = self.lock().bytes_at(place.saturating_mul(self.batching.max_batch));
        let mut admit = self.pool.admit_bytes(bytes);
        match Pin::new(&mut admit).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(granted) => self.granted(granted, bytes),
            Poll::Pending => {
                let dispatch = Arc::new(Dispatch { lane: self.clone(), bytes, admit: Mutex::new(Some(admit)) });
                self.lock().dispatches.push(dispatch.clone());
                dispatch.poll();
                self.shared.buffers.make_room(&self.pool);
            }
        }
    }

    fn granted(self: &Arc<Lane>, granted: Result<Admission>, bytes: usize) {
        let pushed = granted.and_then(|admission| self.workers.push(Job::Run(self.clone(), admission)));
        if let Err(error) = pushed {
            // So much will never be there. For others there may be enough, and the one that it was for may have left.
            let mut queue = self.lock();
            queue.asked -= 1;
            let first = queue.remove(|waiting| waiting.bytes >= bytes);
            let flushed = queue.rest();
            drop(queue);
            drop(flushed);
            if let Some(first) = first {
                first.cell.answer(Err(error));
            }
            // On another thread, since all that waits may end this way. Where there is none, deadlines end it.
            let _ = self.workers.push(Job::Flush(self.clone()));
        }
    }

    /// Takes a request out of the queue whose caller does not wait any more.
    fn forget(&self, cell: &Arc<Cell>) {
        let mut queue = self.lock();
        if queue.remove(|waiting| Arc::ptr_eq(&waiting.cell, cell)).is_none() {
            return;
        }
        let runs = queue.shares.div_ceil(self.batching.max_batch);
        let superfluous = if queue.asked > runs { queue.dispatches.pop() } else { None };
        // One that the pool has just granted begins, and finds less to do.
        let superfluous = superfluous.and_then(|dispatch| dispatch.take());
        if superfluous.is_some() {
            queue.asked -= 1;
        }
        let flushed = queue.rest();
        drop(queue);
        // Dropped outside of the lock, since the pool may wake others.
        drop((superfluous, flushed));
        let request = cell.lock().request.take();
        drop(request);
    }

    /// Runs the requests at the head of the queue.
    pub(super) fn run_batch(self: &Arc<Lane>, mut admission: Admission, scratch: &mut Scratch) {
        let (enough, asks) = self.gather(&mut admission, scratch);
        if enough {
            // What is left has its turn in the pool's queue before this run ends.
            self.ask_all(asks);
            self.run_taken(admission, scratch);
        } else {
            drop(admission);
            // It was too small for the first request, so the next is for that, whatever else was asked for.
            asks.enumerate().for_each(|(nth, place)| self.ask(if nth == 0 { 0 } else { place }));
        }
    }

    /// Runs one request.
    pub(super) fn run_alone(&self, cell: Arc<Cell>, admission: Admission, scratch: &mut Scratch) {
        scratch.run.waiting.store(1, Ordering::Release);
        if cell.begin(scratch, Instant::now()) {
            self.run_taken(admission, scratch);
        }
    }

    /// Takes what one run may have from the head of the queue. `false` where the admission is too small for the first
    /// request, which stays, or where there is none. And what to ask for next.
    fn gather(&self, admission: &mut Admission, scratch: &mut Scratch) -> (bool, Range<usize>) {
        let now = Instant::now();
        let (mut shares, mut bytes) = (0, 0usize);
        // One more than there will be, so that no run is stopped while it is gathered.
        scratch.run.waiting.store(1, Ordering::Release);
        let mut queue = self.lock();
        queue.asked -= 1;
        while let Some(&Waiting { share: more, bytes: room, joinable, .. }) = queue.waiting.front() {
            let first = scratch.cells.is_empty();
            let fits = first || (joinable && shares + more <= self.batching.max_batch);
            let missing = bytes.saturating_add(room).saturating_sub(admission.bytes());
            if !fits || (missing > 0 && !admission.try_grow(missing)) {
                break;
            }
            let Waiting { cell, .. } = queue.pop().expect("there is a first one");
            scratch.run.waiting.fetch_add(1, Ordering::AcqRel);
            if !cell.begin(scratch, now) {
                scratch.run.waiting.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            (shares, bytes) = (shares + more, bytes + room);
            if !joinable {
                break;
            }
        }
        let flushed = queue.rest();
        let asks = self.asks(&mut queue);
        drop(queue);
        drop(flushed);
        if scratch.cells.is_empty() {
            return (false, asks);
        }
        scratch.run.leave();
        if bytes < admission.bytes() {
            admission.shrink_to(bytes);
        }
        (true, asks)
    }

    /// Runs what was taken and answers it. The share of the pool comes back before any caller hears of it.
    fn run_taken(&self, admission: Admission, scratch: &mut Scratch) {
        let Scratch { run, cells, asked, works } = scratch;
        let span = tracing::debug_span!("run", model = %self.model.path().display(), requests = cells.len());
        let limits = Limits::default().cancelled_by(&run.cancel);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            span.in_scope(|| run::run(&self.model, asked, works, &limits));
        }));
        drop(admission);
        for ((cell, asked), work) in cells.drain(..).zip(asked.drain(..)).zip(works.drain(..)) {
            let lost = || Err(ANEError::Internal("the engine gave up; please report it".to_owned()));
            let Work { answer, spent, .. } = work;
            if spent.first && asked.monitored {
                self.trackers.iter().for_each(|tracker| tracker.record_batch(spent.samples as u64));
            }
            let answer = answer.filter(|_| ran.is_ok()).unwrap_or_else(lost).map_err(|e| self.named(e));
            // A buffer is back before its caller hears of it, and can be had again.
            let vector = asked.payload.into_vector();
            cell.answer(answer.map(|output| Answer { output, spent, vector }));
        }
        scratch.renew();
    }

    /// An error of an engine, with the model that it was running.
    fn named(&self, error: ANEError) -> ANEError {
        match error {
            ANEError::InferenceFailed(why) => {
                ANEError::InferenceFailed(format!("{}: {why}", self.model.path().display()))
            }
            other => other,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alarm for Lane {
    fn ring(&self) -> Option<Waker> {
        if let Some(me) = self.me.upgrade() {
            // Where no thread can be made, the requests end at their deadlines.
            let _ = self.workers.push(Job::Flush(me));
        }
        None
    }
}

impl Queue {
    fn cell(&mut self, request: Submission) -> Arc<Cell> {
        let cell = self.cells.pop().unwrap_or_else(|| Arc::new(Cell { state: Mutex::new(CellState::new()) }));
        let mut state = cell.lock();
        *state = CellState { phase: Phase::Waiting, request: Some(request), ..CellState::new() };
        drop(state);
        cell
    }

    /// Working set of the request that so many shares are before, or else of the first one.
    fn bytes_at(&self, mut before: usize) -> usize {
        let found = self.waiting.iter().find(|waiting| {
            let begins = before == 0;
            before = before.saturating_sub(waiting.share);
            begins
        });
        found.or(self.waiting.front()).map_or(0, |waiting| waiting.bytes)
    }

    /// Where nothing waits, nothing is due. Gives the alarm, to be disarmed outside of the lock. Whoever may have taken
    /// the last one calls it: an alarm that has rung and is still here would keep the next one from being armed.
    fn rest(&mut self) -> Option<Armed> {
        if !self.waiting.is_empty() {
            return None;
        }
        self.due = false;
        self.flush.take()
    }

    /// Takes the first such request out.
    fn remove(&mut self, wanted: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let place = self.waiting.iter().position(wanted)?;
        let removed = self.waiting.remove(place)?;
        self.shares -= removed.share;
        Some(removed)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.shares -= first.share;
        Some(first)
    }
}

impl Dispatch {
    /// Asks the pool; it wakes the dispatch when it has an answer.
    pub(super) fn poll(self: &Arc<Dispatch>) {
        let task = Waker::from(self.clone());
        let mut admit = self.admit.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = match admit.as_mut().map(|admit| Pin::new(admit).poll(&mut Context::from_waker(&task))) {
            Some(Poll::Ready(granted)) => granted,
            // Not yet, or cancelled.
            Some(Poll::Pending) | None => return,
        };
        let done = admit.take();
        drop(admit);
        drop(done);
        self.lane.lock().dispatches.retain(|other| !Arc::ptr_eq(other, self));
        self.lane.granted(granted, self.bytes);
    }

    fn take(&self) -> Option<Admit> {
        self.admit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Wake for Dispatch {
    /// Called by whoever gives something back to the pool, maybe with locks held: so a thread of ours does the work.
    fn wake(self: Arc<Self>) {
        let workers = self.lane.workers.clone();
        // Where no thread can be made, the requests end at their deadlines.
        let _ = workers.push(Job::Poll(self));
    }
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, CellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it part of the next run, unless its caller does not wait any more.
    fn begin(self: &Arc<Cell>, scratch: &mut Scratch, now: Instant) -> bool {
        let mut state = self.lock();
        if state.phase != Phase::Waiting {
            return false;
        }
        let Some(request) = state.request.take() else { return false };
        state.phase = Phase::Running;
        state.run = Some(scratch.run.clone());
        drop(state);
        let Submission { payload, place, samples, monitored, called, .. } = request;
        scratch.works.push(Work::new(place, now.saturating_duration_since(called)));
        scratch.asked.push(Asked { payload, samples, monitored });
        scratch.cells.push(self.clone());
        true
    }

    fn answer(&self, answer: Result<Answer>) {
        let mut state = self.lock();
        state.run = None;
        if matches!(state.phase, Phase::Waiting | Phase::Running) {
            state.phase = Phase::Answered;
            state.answer = Some(answer);
        }
        let task = state.task.take();
        drop(state);
        task.into_iter().for_each(Waker::wake);
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
    fn new(lane: &Arc<Lane>, cell: Arc<Cell>, called: Instant, timeout: Duration) -> Ticket {
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
        const MOST: usize = 64;
        drop(self.armed.take());
        if self.answered {
            let mut queue = self.lane.lock();
            if queue.cells.len() < MOST {
                queue.cells.push(self.cell.clone());
            }
            if self.vector.capacity() > 0 && queue.vectors.len() < MOST {
                queue.vectors.push(std::mem::take(&mut self.vector));
            }
            return;
        }
        drop(self.cell.give_up(Phase::Left));
        // One that a run has taken is in no queue, and looking for it would be a look at all of it.
        let waits = self.cell.lock().request.is_some();
        if waits {
            self.lane.forget(&self.cell);
        }
    }
}
