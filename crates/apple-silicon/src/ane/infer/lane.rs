//! One model and the requests that wait for it.
//!
//! Requests wait in a queue. For what waits, the lane asks the pool for a slot and the memory of a run; when it is
//! given, a thread takes as many requests as one run may have, and answers each. A caller who goes away, or whose
//! deadline passes, takes its request out of the queue, or gives up its part of a run; a run that nobody waits for any
//! more is told to stop, and keeps its share of the pool until it has.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicUsize},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{
    batch::Batching,
    buffer::Buffers,
    kept::Kept,
    request::{Answer, Cell, Run, Submission, Ticket},
    run::{self, Asked, Work},
    workers::{self, Job, Workers},
};
use crate::ane::{
    errors::{ANEError, Result},
    limits::{Alarm, Armed},
    metrics::PerformanceTracker,
    models::coreml_model::CoreMlModel,
    resource_pool::{Admission, Admit, Pool, Reservation},
};

/// A model's own tracker, and that of all models of its manager.
pub(crate) type Trackers = SmallVec<[Arc<PerformanceTracker>; 2]>;

/// Runs that the pool is asked for, each by its memory.
type Asks = SmallVec<[usize; 4]>;

/// A loaded model with its queue.
pub(crate) struct Lane {
    me: Weak<Lane>,
    pub(crate) model: Arc<CoreMlModel>,
    pool: Pool,
    workers: Arc<Workers>,
    /// Runs at a time, of all models.
    pub(super) slots: usize,
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
    asked: Asks,
    /// Those of them that wait for the pool.
    dispatches: Vec<Arc<Dispatch>>,
    /// Rings when what waits has waited for others for long enough.
    flush: Option<Armed>,
    /// What waits need not wait for others any more.
    due: bool,
    /// Cells and vectors to use again.
    cells: Vec<Arc<Cell>>,
    vectors: Kept,
}

/// A request in the queue, with what decides of the run that it will be part of.
struct Waiting {
    cell: Arc<Cell>,
    share: usize,
    bytes: usize,
    joinable: bool,
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
    late: Arc<AtomicUsize>,
    /// Of each request that was taken and has no answer: its cell, what it asks for, and what becomes of it.
    cells: VecDeque<Arc<Cell>>,
    asked: VecDeque<Asked>,
    works: VecDeque<Work>,
    /// The task that is to be woken when the thread is done.
    last: Option<Waker>,
}

impl Scratch {
    /// Counts runs that nobody waits for in `late`.
    pub(super) fn new(late: &Arc<AtomicUsize>) -> Scratch {
        let (cells, asked, works) = Default::default();
        Scratch { run: Run::new(late), late: late.clone(), cells, asked, works, last: None }
    }

    /// The task that is to be woken when the thread is done.
    pub(super) fn take_last(&mut self) -> Option<Waker> {
        self.last.take()
    }

    /// Takes a request. `false` where its caller does not wait any more.
    fn take(&mut self, cell: Arc<Cell>) -> bool {
        let Some(Submission { payload, place, samples, monitored, called, .. }) = cell.begin() else { return false };
        self.asked.push_back(Asked { payload, samples, monitored, called });
        self.works.push_back(Work::new(place));
        self.cells.push_back(cell);
        true
    }

    /// A run that was stopped stays so; the next one needs another.
    fn renew(&mut self) {
        if self.run.is_stopped() {
            self.run = Run::new(&self.late);
        }
    }
}

/// How a turn of requests that were taken has ended.
enum Turn {
    /// So many of them have their answers.
    Done(usize),
    /// So many failed together, and have none.
    Failed(usize),
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
        [queue.waiting.len(), queue.shares, queue.asked.len(), queue.dispatches.len()]
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// A vector to fill, one that was used before where there is one.
    pub(crate) fn vector(&self, values: &[f32]) -> Vec<f32> {
        let mut vector = self.lock().vectors.take();
        vector.clear();
        vector.extend_from_slice(values);
        vector
    }

    /// Keeps the cell of a request that was answered, and its vector, to use them again.
    pub(super) fn keep(&self, cell: &Arc<Cell>, vector: Vec<f32>) {
        const MOST: usize = 64;
        let mut queue = self.lock();
        if queue.cells.len() < MOST {
            queue.cells.push(cell.clone());
        }
        let spare = queue.vectors.keep(vector);
        drop(queue);
        drop(spare);
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

    /// The runs that the pool is to be asked for now, behind those that it was asked for, each by the memory of the
    /// request that it would begin with; they are counted as asked for.
    fn asks(&self, queue: &mut Queue) -> Asks {
        let gathers = !queue.waiting.is_empty()
            && !queue.due
            && queue.shares < self.batching.max_batch
            && self.batching.max_queue_delay > Duration::ZERO;
        if gathers {
            let at = Instant::now().checked_add(self.batching.max_queue_delay);
            if let (None, Some(at), Some(me)) = (&queue.flush, at, self.me.upgrade()) {
                queue.flush = Some(Armed::at(at, me));
            }
            return Asks::new();
        }
        // More than there are slots would only make the pool's queue longer.
        let runs = queue.shares.div_ceil(self.batching.max_batch).min(self.slots);
        let places = queue.asked.len()..runs;
        let mut asks: Asks =
            places.map(|place| queue.bytes_at(place.saturating_mul(self.batching.max_batch))).collect();
        // Requests come and go, so that those that were asked for may all be too small for what is the first now.
        if let (Some(next), false) = (asks.first_mut(), queue.has_run_to_come()) {
            *next = queue.bytes_at(0);
        }
        queue.asked.extend_from_slice(&asks);
        asks
    }

    fn ask_all(self: &Arc<Lane>, asks: Asks) {
        asks.into_iter().for_each(|bytes| self.ask(bytes));
    }

    /// Asks the pool for a run with so much memory.
    fn ask(self: &Arc<Lane>, bytes: usize) {
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
            queue.begin(bytes);
            let first = queue.waiting.iter().position(|waiting| waiting.bytes >= bytes);
            let first = first.and_then(|place| queue.remove(place));
            let flushed = queue.rest();
            drop(queue);
            drop(flushed);
            if let Some(first) = first {
                first.cell.answer(Err(error)).into_iter().for_each(Waker::wake);
            }
            // On another thread, since all that waits may end this way. Where there is none, deadlines end it.
            let _ = self.workers.push(Job::Flush(self.clone()));
        }
    }

    /// Takes a request out of the queue whose caller does not wait any more.
    pub(super) fn forget(&self, cell: &Arc<Cell>) {
        let mut queue = self.lock();
        let place = queue.waiting.iter().position(|waiting| Arc::ptr_eq(&waiting.cell, cell));
        if place.and_then(|place| queue.remove(place)).is_none() {
            return;
        }
        let runs = queue.shares.div_ceil(self.batching.max_batch);
        let dispatch = if queue.asked.len() > runs { queue.dispatches.pop() } else { None };
        // One that the pool has just granted begins, and finds less to do.
        let superfluous = dispatch.and_then(|dispatch| Some((dispatch.take()?, dispatch)));
        if let Some((_, dispatch)) = &superfluous {
            queue.begin(dispatch.bytes);
        }
        let flushed = queue.rest();
        drop(queue);
        // Dropped outside of the lock, since the pool may wake others.
        drop((superfluous, flushed));
        drop(cell.withdraw());
    }

    /// Runs the requests at the head of the queue.
    pub(super) fn run_batch(self: &Arc<Lane>, mut admission: Admission, scratch: &mut Scratch) {
        let asks = self.gather(&mut admission, scratch);
        if scratch.cells.is_empty() {
            drop(admission);
            self.ask_all(asks);
        } else {
            // What is left has its turn in the pool's queue before this run ends.
            self.ask_all(asks);
            self.run_taken(admission, scratch);
        }
    }

    /// Runs one request.
    pub(super) fn run_alone(&self, cell: Arc<Cell>, admission: Admission, scratch: &mut Scratch) {
        if scratch.take(cell) {
            self.run_taken(admission, scratch);
        }
    }

    /// Takes what one run may have from the head of the queue, and gives what to ask for next. It takes none where
    /// there is none, or where the admission is too small for the first, and no other run is to come for that.
    fn gather(&self, admission: &mut Admission, scratch: &mut Scratch) -> Asks {
        let (mut shares, mut bytes) = (0, 0usize);
        let mut queue = self.lock();
        queue.begin(admission.bytes());
        let place = queue.place_for(admission);
        while let Some(&Waiting { share: more, bytes: room, joinable, .. }) = queue.waiting.get(place) {
            let first = scratch.cells.is_empty();
            let fits = first || (joinable && shares + more <= self.batching.max_batch);
            let missing = bytes.saturating_add(room).saturating_sub(admission.bytes());
            if !fits || (missing > 0 && !admission.try_grow(missing)) {
                break;
            }
            let Some(Waiting { cell, .. }) = queue.remove(place) else { break };
            if !scratch.take(cell) {
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
        admission.shrink_to(bytes);
        asks
    }

    /// Runs what was taken, in turns where it cannot be joined, and answers each request after its turn. The share of
    /// the pool comes back before the callers of the last turn hear of it.
    fn run_taken(&self, admission: Admission, scratch: &mut Scratch) {
        let mut admission = Some(admission);
        // Those of a failed batch are tried again one by one, so that a bad request fails alone.
        let mut failed = 0;
        while !scratch.cells.is_empty() {
            let most = if failed > 0 { 1 } else { scratch.cells.len() };
            let done = match catch_unwind(AssertUnwindSafe(|| self.turn(most, scratch))) {
                Ok(Turn::Done(count)) => count,
                Ok(Turn::Failed(count)) => {
                    failed = count;
                    0
                }
                Err(_) => scratch.cells.len(),
            };
            failed = failed.saturating_sub(done);
            if done == scratch.cells.len() {
                drop(admission.take());
            }
            self.answer(done, scratch);
            scratch.renew();
        }
    }

    /// Runs the model once, for as many requests as can be joined, from the first on, and for so many at most.
    fn turn(&self, most: usize, scratch: &mut Scratch) -> Turn {
        let Scratch { run, cells, asked, works, .. } = scratch;
        let (cells, asked, works) = (cells.make_contiguous(), asked.make_contiguous(), works.make_contiguous());
        let together = if most > 1 { run::together(&self.model, &asked[..most]) } else { Vec::new() };
        let count = together.len().max(1);
        let cells = &cells[..count];
        run.begin(cells);
        let span = tracing::debug_span!("run", model = %self.model.path().display(), requests = count);
        let _inside = span.enter();
        if count == 1 {
            run::alone(&self.model, &asked[0], &mut works[0], &run.limits);
            return Turn::Done(1);
        }
        match run::joined(&self.model, &together, &asked[..count], &mut works[..count], &run.limits) {
            Ok(()) => Turn::Done(count),
            Err(_) => {
                cells.iter().for_each(|cell| cell.part());
                Turn::Failed(count)
            }
        }
    }

    /// Answers the first so many requests. The task of the very last one is left for the thread to wake.
    fn answer(&self, count: usize, scratch: &mut Scratch) {
        let Scratch { cells, asked, works, last, .. } = scratch;
        for ((cell, asked), work) in cells.drain(..count).zip(asked.drain(..count)).zip(works.drain(..count)) {
            let lost = || Err(ANEError::Internal("the engine gave up; please report it".to_owned()));
            let Work { answer, spent, .. } = work;
            if spent.first && asked.monitored {
                self.trackers.iter().for_each(|tracker| tracker.record_batch(spent.samples as u64));
            }
            let answer = answer.unwrap_or_else(lost).map_err(|e| self.named(e));
            // A buffer is back before its caller hears of it, and can be had again.
            let vector = asked.payload.into_vector();
            let task = cell.answer(answer.map(|output| Answer { output, spent, vector }));
            workers::wake(std::mem::replace(last, task));
        }
        if !scratch.cells.is_empty() {
            workers::wake(scratch.last.take());
        }
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
        let cell = self.cells.pop().unwrap_or_else(|| Arc::new(Cell::new()));
        cell.fill(request);
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

    /// A run that the pool was asked for begins, or will never begin.
    fn begin(&mut self, bytes: usize) {
        let place = self.asked.iter().position(|&asked| asked == bytes);
        place.map(|place| self.asked.remove(place));
    }

    /// Whether a run was asked for that has room for the first request.
    fn has_run_to_come(&self) -> bool {
        let needed = self.bytes_at(0);
        self.asked.iter().any(|&asked| asked >= needed)
    }

    /// The place of the request that a run in this admission begins with. It is the first one, unless that needs more
    /// and has another run to come: then it is the first that needs no more.
    fn place_for(&self, admission: &mut Admission) -> usize {
        let Some(first) = self.waiting.front() else { return 0 };
        let missing = first.bytes.saturating_sub(admission.bytes());
        if missing == 0 || !self.has_run_to_come() || admission.try_grow(missing) {
            return 0;
        }
        self.waiting.iter().position(|waiting| waiting.bytes <= admission.bytes()).unwrap_or(0)
    }

    /// Takes the request at a place out.
    fn remove(&mut self, place: usize) -> Option<Waiting> {
        let removed = self.waiting.remove(place)?;
        self.shares -= removed.share;
        Some(removed)
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
