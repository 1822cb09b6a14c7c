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
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{
    batch::{self, Batching},
    buffer::{Buffer, OutputBuffer},
    workers::{Job, Workers},
};
use crate::ane::{
    engines::Tensor,
    errors::{ANEError, Result},
    features::Features,
    limits::{Alarm, Armed, Cancel, Limits},
    metrics::PerformanceTracker,
    models::coreml_model::{CoreMlModel, Results, State, Tensors, put},
    resource_pool::{Admission, Admit, Pool},
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
    queue: Mutex<Queue>,
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

/// Runs to ask the pool for, and the memory of the next.
struct Asks {
    runs: usize,
    bytes: usize,
}

/// What a request gives the model.
pub(crate) enum Payload {
    /// So many samples from the beginning of one vector.
    Vector { values: Values, len: usize, samples: usize },
    /// Named features, and the state to begin with.
    Features { features: Features, state: Option<State> },
}

/// A vector's memory.
pub(crate) enum Values {
    Own(Vec<f32>),
    Buffer(Buffer),
}

impl std::ops::Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Values::Own(values) => values,
            Values::Buffer(buffer) => buffer,
        }
    }
}

/// What the model gives a request.
pub(crate) enum Output {
    Vector(Vec<f32>),
    Buffer(OutputBuffer),
    Features(Features, Option<State>),
}

/// Where a request's output goes.
pub(crate) enum Place {
    /// A vector or features of its own.
    New,
    /// Memory that is used again.
    Buffer(OutputBuffer),
}

/// An answer, and where its time went.
pub(crate) struct Answer {
    pub(crate) output: Output,
    pub(crate) spent: Spent,
}

/// Where the time of a request went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// From the call until a thread took it.
    pub(crate) queue: Duration,
    /// Joining it with others, and taking its part of what came out.
    pub(crate) batch: Duration,
    /// In the engine.
    pub(crate) compute: Duration,
    /// Samples in its run, its own among them.
    pub(crate) samples: usize,
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
    admit: Mutex<Option<Admit>>,
}

/// What a thread keeps from one run to the next.
pub(crate) struct Scratch {
    run: Arc<Run>,
    taken: Vec<Taken>,
    /// Vectors of requests that are answered.
    vectors: Vec<Vec<f32>>,
}

impl Scratch {
    /// Counts runs that nobody waits for in `late`.
    pub(super) fn new(late: &Arc<AtomicUsize>) -> Scratch {
        Scratch { run: Arc::new(Run { late: late.clone(), ..Run::default() }), taken: Vec::new(), vectors: Vec::new() }
    }

    /// A run that was stopped stays so; the next one needs another.
    fn renew(&mut self) {
        if self.run.cancel.is_cancelled() {
            self.run.late.fetch_sub(1, Ordering::Relaxed);
            self.run = Scratch::new(&self.run.late).run;
        }
    }
}

/// A request that a thread has taken.
struct Taken {
    cell: Arc<Cell>,
    request: Submission,
    spent: Spent,
}

impl Lane {
    pub(crate) fn new(
        model: Arc<CoreMlModel>,
        pool: Pool,
        workers: Arc<Workers>,
        batching: Batching,
        slots: usize,
        trackers: Trackers,
    ) -> Arc<Lane> {
        let queue = Mutex::default();
        Arc::new_cyclic(|me| Lane { me: me.clone(), model, pool, workers, slots, batching, trackers, queue })
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
        self.ask(asks);
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
        queue.due = !queue.waiting.is_empty();
        let asks = self.asks(&mut queue);
        drop(queue);
        self.ask(asks);
    }

    /// Runs that the pool is to be asked for now; they are counted as asked for.
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
            return Asks { runs: 0, bytes: 0 };
        }
        // More than there are slots would only make the pool's queue longer.
        let runs = queue.shares.div_ceil(self.batching.max_batch).min(self.slots);
        let runs = runs.saturating_sub(queue.asked);
        queue.asked += runs;
        Asks { runs, bytes: queue.waiting.front().map_or(0, |first| first.bytes) }
    }

    fn ask(self: &Arc<Lane>, Asks { runs, bytes }: Asks) {
        for _ in 0..runs {
            let mut admit = self.pool.admit_bytes(bytes);
            match Pin::new(&mut admit).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(granted) => self.granted(granted),
                Poll::Pending => {
                    let dispatch = Arc::new(Dispatch { lane: self.clone(), admit: Mutex::new(Some(admit)) });
                    self.lock().dispatches.push(dispatch.clone());
                    dispatch.poll();
                }
            }
        }
    }

    fn granted(self: &Arc<Lane>, granted: Result<Admission>) {
        let pushed = granted.and_then(|admission| self.workers.push(Job::Run(self.clone(), admission)));
        if let Err(error) = pushed {
            // What the first request asks for will never be there, so none of this run's will be.
            let mut queue = self.lock();
            queue.asked -= 1;
            let first = queue.pop();
            drop(queue);
            if let Some(first) = first {
                first.cell.answer(Err(error));
            }
            // On another thread, since all that waits may end this way. Where there is none, deadlines end it.
            let _ = self.workers.push(Job::Flush(self.clone()));
        }
    }

    /// Asks for what still waits, and keeps vectors to use them again.
    fn ask_again(self: &Arc<Lane>, vectors: &mut Vec<Vec<f32>>) {
        const MOST: usize = 64;
        let mut queue = self.lock();
        let asks = self.asks(&mut queue);
        let room = MOST.saturating_sub(queue.vectors.len()).min(vectors.len());
        queue.vectors.extend(vectors.drain(..room));
        drop(queue);
        vectors.clear();
        self.ask(asks);
    }

    /// Takes a request out of the queue whose caller does not wait any more.
    fn forget(&self, cell: &Arc<Cell>) {
        let mut queue = self.lock();
        let Some(place) = queue.waiting.iter().position(|other| Arc::ptr_eq(&other.cell, cell)) else { return };
        let removed = queue.waiting.remove(place);
        queue.shares -= removed.map_or(0, |removed| removed.share);
        let runs = queue.shares.div_ceil(self.batching.max_batch);
        let superfluous = if queue.asked > runs { queue.dispatches.pop() } else { None };
        // One that the pool has just granted begins, and finds less to do.
        let superfluous = superfluous.and_then(|dispatch| dispatch.take());
        if superfluous.is_some() {
            queue.asked -= 1;
        }
        drop(queue);
        // Dropped outside of the lock, since the pool may wake others.
        drop(superfluous);
        drop(cell.lock().request.take());
    }

    /// Runs the requests at the head of the queue.
    pub(super) fn run_batch(self: &Arc<Lane>, mut admission: Admission, scratch: &mut Scratch) {
        let enough = self.gather(&mut admission, scratch);
        if enough {
            self.run_taken(admission, scratch);
        } else {
            drop(admission);
        }
        self.ask_again(&mut scratch.vectors);
    }

    /// Runs one request.
    pub(super) fn run_alone(self: &Arc<Lane>, cell: Arc<Cell>, admission: Admission, scratch: &mut Scratch) {
        scratch.run.waiting.store(1, Ordering::Release);
        if let Some(taken) = cell.begin(&scratch.run, Instant::now()) {
            scratch.taken.push(taken);
            self.run_taken(admission, scratch);
            self.ask_again(&mut scratch.vectors);
        }
    }

    /// Takes what one run may have from the head of the queue. `false` where the admission is too small for the first
    /// request, which stays, or where there is none.
    fn gather(&self, admission: &mut Admission, scratch: &mut Scratch) -> bool {
        let now = Instant::now();
        let (mut shares, mut bytes) = (0, 0);
        // One more than there will be, so that no run is stopped while it is gathered.
        scratch.run.waiting.store(1, Ordering::Release);
        let mut queue = self.lock();
        queue.asked -= 1;
        while let Some(&Waiting { share: more, bytes: room, joinable, .. }) = queue.waiting.front() {
            let first = scratch.taken.is_empty();
            let fits = first || (joinable && shares + more <= self.batching.max_batch);
            let missing = (bytes + room).saturating_sub(admission.bytes());
            if !fits || (missing > 0 && !admission.try_grow(missing)) {
                break;
            }
            let Waiting { cell, .. } = queue.pop().expect("there is a first one");
            scratch.run.waiting.fetch_add(1, Ordering::AcqRel);
            match cell.begin(&scratch.run, now) {
                Some(taken) => {
                    (shares, bytes) = (shares + more, bytes + room);
                    scratch.taken.push(taken);
                    if !joinable {
                        break;
                    }
                }
                None => _ = scratch.run.waiting.fetch_sub(1, Ordering::AcqRel),
            }
        }
        let flushed = if queue.waiting.is_empty() {
            queue.due = false;
            queue.flush.take()
        } else {
            None
        };
        drop(queue);
        drop(flushed);
        if scratch.taken.is_empty() {
            return false;
        }
        scratch.run.leave();
        if bytes < admission.bytes() {
            admission.shrink_to(bytes);
        }
        true
    }

    /// Runs what was taken and answers it. The share of the pool comes back before any caller hears of it.
    fn run_taken(&self, admission: Admission, scratch: &mut Scratch) {
        let span = tracing::debug_span!("run", model = %self.model.path().display(), requests = scratch.taken.len());
        let entered = span.enter();
        let limits = Limits::default().cancelled_by(&scratch.run.cancel);
        let mut answers: SmallVec<[Option<Result<Output>>; 1]> = scratch.taken.iter().map(|_| None).collect();
        let ran = catch_unwind(AssertUnwindSafe(|| self.compute(&mut scratch.taken, &mut answers, &limits)));
        drop(entered);
        drop(admission);
        for (taken, answer) in scratch.taken.drain(..).zip(answers) {
            let lost = || Err(ANEError::Internal("the engine gave up; please report it".to_owned()));
            let answer = answer.filter(|_| ran.is_ok()).unwrap_or_else(lost);
            let spent = taken.spent;
            // A buffer is back before its caller hears of it, and can be had again.
            if let Payload::Vector { values: Values::Own(vector), .. } = taken.request.payload {
                scratch.vectors.push(vector);
            }
            taken.cell.answer(answer.map(|output| Answer { output, spent }));
        }
        scratch.renew();
    }

    /// One run for all where they can be joined, and one each where not, or where that failed.
    fn compute(&self, taken: &mut [Taken], answers: &mut [Option<Result<Output>>], limits: &Limits) {
        let (mut places, mut spent): (SmallVec<[Place; 1]>, SmallVec<[Spent; 1]>) = taken
            .iter_mut()
            .map(|taken| (std::mem::replace(&mut taken.request.place, Place::New), taken.spent))
            .unzip();
        let all = &*taken;
        let mut requests: SmallVec<[(usize, Tensors<'_>); 1]> = SmallVec::new();
        for (index, taken) in all.iter().enumerate() {
            match self.tensors(&taken.request.payload) {
                Ok(tensors) => requests.push((index, tensors)),
                Err(error) => answers[index] = Some(Err(error)),
            }
        }
        while !requests.is_empty() {
            let count = self.joined(&requests);
            let group: SmallVec<[(usize, Tensors<'_>); 1]> = requests.drain(..count).collect();
            if count > 1 && self.run_joined(&group, all, &mut places, answers, &mut spent, limits).is_ok() {
                continue;
            }
            // A failed batch is tried again one by one, so that a bad request fails alone.
            for (index, tensors) in &group {
                let request = &all[*index].request;
                let place = std::mem::replace(&mut places[*index], Place::New);
                let began = Instant::now();
                answers[*index] = Some(self.run_one(tensors, &request.payload, place, limits));
                spent[*index].compute += began.elapsed();
                spent[*index].samples = request.samples;
                self.count_run(request.monitored, request.samples);
            }
        }
        drop(requests);
        taken.iter_mut().zip(spent).for_each(|(taken, spent)| taken.spent = spent);
    }

    /// How many requests from the first on one run may have.
    fn joined(&self, requests: &[(usize, Tensors<'_>)]) -> usize {
        let (_, first) = &requests[0];
        let alike = requests.iter().take_while(|(_, tensors)| batch::joinable(first, tensors)).count();
        let fits = |&count: &usize| {
            let samples: Option<usize> = requests[..count].iter().map(|(_, tensors)| batch::samples(tensors)).sum();
            samples.is_some_and(|samples| batch::takes(&self.model, first, samples))
        };
        (2..=alike).rev().find(fits).unwrap_or(1)
    }

    fn run_joined(
        &self,
        group: &[(usize, Tensors<'_>)],
        taken: &[Taken],
        places: &mut [Place],
        answers: &mut [Option<Result<Output>>],
        spent: &mut [Spent],
        limits: &Limits,
    ) -> Result<()> {
        let began = Instant::now();
        let sizes: SmallVec<[usize; 8]> = group.iter().filter_map(|(_, tensors)| batch::samples(tensors)).collect();
        let samples = sizes.iter().sum();
        let tensors: SmallVec<[Tensors<'_>; 8]> =
            group.iter().map(|(_, tensors)| tensors.iter().map(Tensor::borrowed).collect()).collect();
        let joined = batch::join(&tensors, samples);
        let (mut computed, start) = (Duration::ZERO, Instant::now());
        let mut parts: Vec<Part> =
            group.iter().map(|(index, _)| self.part(&taken[*index].request.payload, places, *index)).collect();
        self.model.run(&joined, limits, &mut |port, tensor| {
            // Ports come when all is computed.
            computed = if computed.is_zero() { start.elapsed() } else { computed };
            let mut at = 0;
            for (part, &size) in parts.iter_mut().zip(&sizes) {
                part.take(&self.model, port, batch::rows(&tensor, at, size, samples)?)?;
                at += size;
            }
            Ok(())
        })?;
        self.count_run(group.iter().any(|(index, _)| taken[*index].request.monitored), samples);
        for ((index, _), part) in group.iter().zip(parts) {
            answers[*index] = Some(part.output(&self.model, &taken[*index].request.payload));
            spent[*index].compute += computed;
            spent[*index].batch += began.elapsed().saturating_sub(computed);
            spent[*index].samples = samples;
        }
        Ok(())
    }

    fn count_run(&self, monitored: bool, samples: usize) {
        if monitored {
            self.trackers.iter().for_each(|tracker| tracker.record_batch(samples as u64));
        }
    }

    fn run_one(&self, tensors: &Tensors<'_>, payload: &Payload, place: Place, limits: &Limits) -> Result<Output> {
        let mut part = Part::new(&self.model, payload, place);
        self.model.run(tensors, limits, &mut |port, tensor| part.take(&self.model, port, tensor))?;
        part.output(&self.model, payload)
    }

    fn part(&self, payload: &Payload, places: &mut [Place], index: usize) -> Part {
        Part::new(&self.model, payload, std::mem::replace(&mut places[index], Place::New))
    }

    fn tensors<'a>(&'a self, payload: &'a Payload) -> Result<Tensors<'a>> {
        match payload {
            Payload::Vector { values, len, samples } => self.model.vector_tensors(&values[..*len], *samples),
            Payload::Features { features, state } => self.model.tensors(features, state.as_ref()),
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

    fn pop(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.shares -= first.share;
        Some(first)
    }
}

/// One request's part of what comes out.
enum Part {
    Vector(Vec<f32>),
    Buffer(OutputBuffer),
    Features(Results),
}

impl Part {
    fn new(model: &CoreMlModel, payload: &Payload, place: Place) -> Part {
        match (payload, place) {
            (Payload::Features { .. }, _) => Part::Features(model.no_results()),
            (Payload::Vector { .. }, Place::New) => Part::Vector(Vec::new()),
            (Payload::Vector { .. }, Place::Buffer(mut buffer)) => {
                buffer.values_mut().clear();
                Part::Buffer(buffer)
            }
        }
    }

    fn take(&mut self, model: &CoreMlModel, port: usize, tensor: Tensor<'_>) -> Result<()> {
        let out = match self {
            Part::Features(results) => return put(results, port, tensor),
            Part::Vector(values) => values,
            Part::Buffer(buffer) => buffer.values_mut(),
        };
        let form = model.vector()?;
        if port == form.port {
            form.append(&tensor.data, out);
        }
        Ok(())
    }

    fn output(self, model: &CoreMlModel, payload: &Payload) -> Result<Output> {
        Ok(match (self, payload) {
            (Part::Vector(values), _) => Output::Vector(values),
            (Part::Buffer(buffer), _) => Output::Buffer(buffer),
            (Part::Features(mut results), Payload::Features { state: Some(before), .. }) => {
                let features = model.collect(&mut results)?;
                Output::Features(features, Some(model.state_after(before, &mut results)))
            }
            (Part::Features(mut results), _) => Output::Features(model.collect(&mut results)?, None),
        })
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
        self.lane.granted(granted);
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

    /// Makes it part of a run, unless its caller does not wait any more.
    fn begin(self: &Arc<Cell>, run: &Arc<Run>, now: Instant) -> Option<Taken> {
        let mut state = self.lock();
        if state.phase != Phase::Waiting {
            return None;
        }
        let request = state.request.take()?;
        state.phase = Phase::Running;
        state.run = Some(run.clone());
        let spent = Spent { queue: now.saturating_duration_since(request.called), ..Spent::default() };
        Some(Taken { cell: self.clone(), request, spent })
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
}

impl Ticket {
    fn new(lane: &Arc<Lane>, cell: Arc<Cell>, called: Instant, timeout: Duration) -> Ticket {
        let armed = called.checked_add(timeout).map(|at| Armed::at(at, cell.clone()));
        Ticket { lane: lane.clone(), cell, timeout, armed, answered: false }
    }
}

impl Future for Ticket {
    type Output = Result<Answer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Answer>> {
        let mut state = self.cell.lock();
        let answer = match state.phase {
            Phase::Answered => state.answer.take(),
            Phase::Expired => Some(Err(ANEError::Timeout(u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX)))),
            Phase::Waiting | Phase::Running => {
                match &mut state.task {
                    Some(task) => task.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
            Phase::Left => None,
        };
        let answered = state.phase == Phase::Answered;
        drop(state);
        self.answered = answered;
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
            return;
        }
        drop(self.cell.give_up(Phase::Left));
        self.lane.forget(&self.cell);
    }
}
