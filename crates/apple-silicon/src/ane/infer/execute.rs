//! Executing inferences: options are checked, one vector becomes the parts that runs take, answers become results.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{
    buffer::{Buffer, Buffers, OutputBuffer},
    lane::Lane,
    preferences::{ComputeUnit, ComputeUnits, Precision},
    request::{Answer, Submission, Ticket},
    run::{Named, Output, Payload, Place, Spent, Values},
};
use crate::ane::{
    errors::{ANEError, Result},
    features::Features,
    metrics::{ErrorKind, Observation, Outcome},
    models::{
        coreml_model::{CoreMlModel, LoadedModel, State},
        vector::Part,
    },
    resource_pool::Admission,
};

/// How an inference is run.
///
/// ```
/// use apple_silicon::ane::infer::InferenceOptions;
///
/// let options = InferenceOptions { timeout_ms: 50, batch_size: Some(4), ..Default::default() };
/// assert!(options.enable_monitoring);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceOptions {
    /// Milliseconds from the call until the answer, over queue and run; 0 is the manager's default.
    pub timeout_ms: u64,
    /// Samples in one run at most, for an input that holds several: it is split along the first dimension, and what
    /// comes out is joined again. It is not gathered with other requests. Of a buffer, exactly so many are read. A
    /// model whose first dimension is not flexible gets one input after the other. The whole input is one run where
    /// `None`.
    pub batch_size: Option<usize>,
    /// What the model must compute in: "fp16", "fp32" or "int8"; whatever it computes in where `None`.
    pub precision: Option<String>,
    /// Where it would best run: "ANE", "GPU", "CPU" or "ALL". A preference, as in Core ML: results say what ran.
    pub compute_units: Option<String>,
    /// Whether the inference counts in the manager's metrics.
    pub enable_monitoring: bool,
}

impl Default for InferenceOptions {
    fn default() -> InferenceOptions {
        InferenceOptions {
            timeout_ms: 0,
            batch_size: None,
            precision: None,
            compute_units: None,
            enable_monitoring: true,
        }
    }
}

/// What an inference gave.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct InferenceResult<O = Vec<f32>> {
    /// The output. As one vector it is a classifier's scores in the order of its labels, else the first output that is
    /// an array, an image or a number.
    pub output: O,
    /// Milliseconds from the call until the answer.
    pub execution_time_ms: f64,
    /// Where they went.
    pub timing: Timing,
    /// Samples that the input held.
    pub samples: usize,
    /// Samples in the run that it was part of, those of other requests among them.
    pub batch: usize,
    /// What ran it, where that is certain; else what most of it is planned for.
    pub compute_unit: ComputeUnit,
    /// Whether the unit is certain. Of Core ML only the CPU alone is: it tells what it plans, never what has run.
    pub certain: bool,
    /// What was preferred.
    pub preferred: ComputeUnits,
    /// The engine's name.
    pub engine: &'static str,
}

/// Where the time of an inference went. Of an input that was split, the longest wait and the sums of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// Waiting for a slot, for memory, or for others to be joined with.
    pub queue: Duration,
    /// Joining it with others, and splitting what came out.
    pub batch: Duration,
    /// In the engine.
    pub compute: Duration,
    /// From the call until the answer.
    pub total: Duration,
}

impl Timing {
    fn add(&mut self, spent: &Spent) {
        self.queue = self.queue.max(spent.queue);
        self.batch += spent.batch;
        self.compute += spent.compute;
    }
}

/// What is used where options say nothing.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_millis(5000);

/// Runs a model that no manager holds: on threads of its own, as many as the machine has cores, without a limit on
/// memory. Dropping the future gives the inference up.
///
/// # Errors
/// [`ANEError::InvalidShape`] and [`ANEError::UnsupportedPrecision`] for what the model does not take,
/// [`ANEError::Timeout`] past the deadline, [`ANEError::InferenceFailed`] for what goes wrong in the engine.
pub async fn execute_inference(
    model: &LoadedModel,
    input: &[f32],
    options: &InferenceOptions,
) -> Result<InferenceResult> {
    Call::new(model.lane(), options, DEFAULT_TIMEOUT)?.vector(input).await
}

/// A call whose options were checked.
pub(crate) struct Call<'a> {
    lane: &'a Arc<Lane>,
    batch_size: Option<usize>,
    preferred: ComputeUnits,
    timeout: Duration,
    /// The same, where the caller has chosen it.
    own_timeout: Option<Duration>,
    called: Instant,
    monitored: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(lane: &'a Arc<Lane>, options: &InferenceOptions, default: Duration) -> Result<Call<'a>> {
        let called = Instant::now();
        let checked = check(lane, options, default, called);
        if checked.is_err() {
            let mut watched = Watched { lane, monitored: options.enable_monitoring, called, own_timeout: None };
            watched.end(&checked, &Timing::default(), 0);
        }
        checked
    }

    /// One vector in, one out. Costs a copy of the input, for a run that may outlive its caller's patience.
    pub(crate) async fn vector(&self, input: &[f32]) -> Result<InferenceResult> {
        self.watched(self.run_vector(input)).await
    }

    /// One vector, in a share of the pool that the caller has already.
    pub(crate) async fn admitted(&self, input: &[f32], admission: Admission) -> Result<InferenceResult> {
        self.watched(self.run_admitted(input, admission)).await
    }

    /// One vector out of a buffer, without a copy.
    pub(crate) async fn buffered(&self, buffer: Buffer, home: &Arc<Buffers>) -> Result<InferenceResult<OutputBuffer>> {
        self.watched(self.run_buffered(buffer, home)).await
    }

    /// Named features of any kind. A state is read when the run begins, and replaced when it has succeeded.
    pub(crate) async fn features(
        &self,
        features: Features,
        state: Option<&mut State>,
    ) -> Result<InferenceResult<Features>> {
        self.watched(self.run_features(features, state)).await
    }

    /// Counts a run, however it ends.
    async fn watched<O>(&self, run: impl Future<Output = Result<InferenceResult<O>>>) -> Result<InferenceResult<O>> {
        let Call { lane, monitored, called, own_timeout, .. } = *self;
        let mut watched = Watched { lane, monitored, called, own_timeout };
        let result = run.await;
        let (timing, samples) = result.as_ref().map_or_else(|_| Default::default(), |r| (r.timing, r.samples));
        watched.end(&result, &timing, samples);
        result
    }

    async fn run_vector(&self, input: &[f32]) -> Result<InferenceResult> {
        let (first, rest) = self.parts(input.len())?;
        let submission = |part: Part| {
            let values = Values::Own(self.lane.vector(&input[part.start..part.start + part.len]));
            self.vector_submission(values, part, Place::New)
        };
        if rest.is_empty() {
            let answer = self.lane.submit(submission(first)).await?;
            return Ok(self.result(answer, first.samples)?.map(VectorOutput::into_vec));
        }
        let samples = first.samples + rest.iter().map(|part| part.samples).sum::<usize>();
        let parts = [first].into_iter().chain(rest).map(submission);
        self.run_parts(
            parts,
            samples,
            |output| Ok(VectorOutput::of(output)?.into_vec()),
            |mut all, more| {
                all.extend_from_slice(&more);
                Ok(all)
            },
        )
        .await
    }

    /// Runs the parts of an input, of which there is one at least, and joins their outputs in their order. A few at a
    /// time are on their way, so that no slot waits for a part and requests of others come in between.
    async fn run_parts<O>(
        &self,
        parts: impl Iterator<Item = Submission>,
        samples: usize,
        output: impl Fn(Output) -> Result<O>,
        join: impl Fn(O, O) -> Result<O>,
    ) -> Result<InferenceResult<O>> {
        let mut parts = parts.map(|part| self.lane.submit(part));
        let mut tickets: VecDeque<Ticket> = parts.by_ref().take(2 * self.lane.slots).collect();
        let mut joined: Option<InferenceResult<O>> = None;
        while let Some(ticket) = tickets.pop_front() {
            let Answer { output: more, spent, .. } = ticket.await?;
            tickets.extend(parts.next());
            let more = output(more)?;
            joined = Some(match joined {
                None => self.report(more, &spent, samples),
                Some(mut result) => {
                    result.timing.add(&spent);
                    result.batch = result.batch.max(spent.samples);
                    InferenceResult { output: join(result.output, more)?, ..result }
                }
            });
        }
        joined.map(|result| self.ended(result)).ok_or_else(mixed_up)
    }

    async fn run_admitted(&self, input: &[f32], mut admission: Admission) -> Result<InferenceResult> {
        let (part, rest) = self.parts(input.len())?;
        if !rest.is_empty() {
            return Err(ANEError::InvalidShape(format!(
                "an admission is for one run, and the batch size splits the input into {}; ask for an admission each",
                rest.len() + 1
            )));
        }
        let needed = self.lane.model.working_set_bytes(part.samples);
        let missing = needed.saturating_sub(admission.bytes());
        if missing > 0 && !admission.try_grow(missing) {
            return Err(ANEError::ResourceLimit(format!(
                "the run needs {needed} bytes, the admission is for {}, and the pool has no more free; ask for more",
                admission.bytes()
            )));
        }
        let submission = self.vector_submission(Values::Own(self.lane.vector(input)), part, Place::New);
        let ticket = self.lane.submit_admitted(submission, admission)?;
        Ok(self.result(ticket.await?, part.samples)?.map(VectorOutput::into_vec))
    }

    async fn run_buffered(&self, buffer: Buffer, home: &Arc<Buffers>) -> Result<InferenceResult<OutputBuffer>> {
        let part = self.lane.model.vector()?.leading(buffer.len(), self.batch_size, self.lane.model.vector_port())?;
        let submission = self.vector_submission(Values::Buffer(buffer), part, Place::Buffer(OutputBuffer::new(home)));
        Ok(self.result(self.lane.submit(submission).await?, part.samples)?.map(|output| match output {
            VectorOutput::Reused(buffer) => buffer,
            VectorOutput::New(values) => OutputBuffer::of(values, home),
        }))
    }

    async fn run_features(&self, features: Features, state: Option<&mut State>) -> Result<InferenceResult<Features>> {
        if let (Some(most), None) = (self.batch_size, &state)
            && let Some(sizes) = super::batch::parts(&self.lane.model, &features, most)
        {
            let mut start = 0;
            // All of them first, so that what the model does not take fails before anything runs.
            let parts: Result<Vec<Submission>> = sizes
                .iter()
                .map(|&len| {
                    let part = super::batch::part(&features, start, len)?;
                    start += len;
                    self.features_submission(part, None)
                })
                .collect();
            return self.run_parts(parts?.into_iter(), start, features_of, super::batch::append).await;
        }
        let submission = self.features_submission(features, state.as_deref())?;
        let samples = submission.samples;
        let Answer { output, spent, .. } = self.lane.submit(submission).await?;
        let Output::Features(named) = output else { return Err(mixed_up()) };
        if let (Some(state), Some(after)) = (state, named.state) {
            *state = after;
        }
        Ok(self.report(named.features, &spent, samples))
    }

    /// A request for features. What the model does not take fails here, at once and alone.
    fn features_submission(&self, features: Features, state: Option<&State>) -> Result<Submission> {
        let model = &self.lane.model;
        let tensors = model.tensors(&features, state)?;
        let samples = super::batch::samples(&tensors).filter(|&samples| samples > 0 && model.counts_samples());
        let bytes = model.working_set_bytes_of(&tensors);
        drop(tensors);
        let payload = Payload::Features(Box::new(Named { features, state: state.cloned() }));
        let submission = self.submission(payload, samples.unwrap_or(1));
        let joinable = submission.joinable && samples.is_some();
        Ok(Submission { bytes, joinable, ..submission })
    }

    /// The runs that an input of so many values takes: the first, and the others.
    fn parts(&self, len: usize) -> Result<(Part, SmallVec<[Part; 1]>)> {
        let form = self.lane.model.vector()?;
        let port = self.lane.model.vector_port();
        let Some(most) = self.batch_size else { return Ok((form.whole(len, port)?, SmallVec::new())) };
        let first = form.next(0, len, most, port)?;
        let mut rest = SmallVec::new();
        let mut last = first;
        while last.start + last.len < len {
            // What was too much before stays so.
            last = form.next(last.start + last.len, len, last.samples, port)?;
            rest.push(last);
        }
        Ok((first, rest))
    }

    fn vector_submission(&self, values: Values, part: Part, place: Place) -> Submission {
        let payload = Payload::Vector { values, len: part.len, samples: part.samples };
        Submission { place, ..self.submission(payload, part.samples) }
    }

    fn submission(&self, payload: Payload, samples: usize) -> Submission {
        Submission {
            payload,
            place: Place::New,
            bytes: self.lane.model.working_set_bytes(samples),
            samples,
            share: samples.min(self.lane.batching.max_batch),
            // A batch size is a limit, so its parts are not gathered again.
            joinable: self.batch_size.is_none(),
            called: self.called,
            timeout: self.timeout,
            monitored: self.monitored,
        }
    }

    fn result(&self, answer: Answer, samples: usize) -> Result<InferenceResult<VectorOutput>> {
        Ok(self.report(VectorOutput::of(answer.output)?, &answer.spent, samples))
    }

    /// The result of several runs, of which the last has ended now.
    fn ended<O>(&self, mut result: InferenceResult<O>) -> InferenceResult<O> {
        result.timing.total = self.called.elapsed();
        result.execution_time_ms = milliseconds(result.timing.total);
        result
    }

    fn report<O>(&self, output: O, spent: &Spent, samples: usize) -> InferenceResult<O> {
        let mut timing = Timing { total: self.called.elapsed(), ..Timing::default() };
        timing.add(spent);
        InferenceResult {
            output,
            execution_time_ms: milliseconds(timing.total),
            timing,
            samples,
            batch: spent.samples,
            compute_unit: self.lane.model.compute_unit(),
            certain: self.lane.model.unit_is_certain(),
            preferred: self.preferred,
            engine: self.lane.model.engine().engine,
        }
    }
}

/// A vector, in memory of its own or in memory that goes back.
enum VectorOutput {
    New(Vec<f32>),
    Reused(OutputBuffer),
}

impl VectorOutput {
    fn of(output: Output) -> Result<VectorOutput> {
        match output {
            Output::Vector(values) => Ok(VectorOutput::New(values)),
            Output::Buffer(buffer) => Ok(VectorOutput::Reused(buffer)),
            Output::Features(_) => Err(mixed_up()),
        }
    }

    fn into_vec(self) -> Vec<f32> {
        match self {
            VectorOutput::New(values) => values,
            VectorOutput::Reused(buffer) => buffer.into_vec(),
        }
    }
}

/// A call that is counted when it ends; one that is dropped before counts as cancelled.
struct Watched<'a> {
    lane: &'a Lane,
    monitored: bool,
    called: Instant,
    own_timeout: Option<Duration>,
}

impl Watched<'_> {
    fn end<T>(&mut self, result: &Result<T>, timing: &Timing, samples: usize) {
        self.record(Outcome::from(result), timing, samples);
        self.monitored = false;
    }

    fn record(&self, outcome: Outcome, timing: &Timing, samples: usize) {
        if !self.monitored {
            return;
        }
        if outcome == Outcome::Failed(ErrorKind::Timeout) && self.was_hopeless() {
            self.lane.trackers.iter().for_each(|tracker| tracker.record_hopeless());
            return;
        }
        let total = if timing.total.is_zero() { self.called.elapsed() } else { timing.total };
        let observation = Observation {
            ended: self.called + total,
            outcome,
            items: samples as u64,
            total,
            queue: timing.queue,
            batch: timing.batch,
            compute: timing.compute,
        };
        self.lane.trackers.iter().for_each(|tracker| tracker.record(&observation));
    }

    /// Whether its caller gave it less time than a run usually takes, so that no manager could have met it.
    fn was_hopeless(&self) -> bool {
        let usual = || self.lane.trackers.first()?.usual_compute();
        self.own_timeout.is_some_and(|own| usual().is_some_and(|usual| own < usual))
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.record(Outcome::Cancelled, &Timing::default(), 0);
    }
}

impl<O> InferenceResult<O> {
    fn map<P>(self, output: impl FnOnce(O) -> P) -> InferenceResult<P> {
        InferenceResult {
            output: output(self.output),
            execution_time_ms: self.execution_time_ms,
            timing: self.timing,
            samples: self.samples,
            batch: self.batch,
            compute_unit: self.compute_unit,
            certain: self.certain,
            preferred: self.preferred,
            engine: self.engine,
        }
    }
}

fn features_of(output: Output) -> Result<Features> {
    let Output::Features(named) = output else { return Err(mixed_up()) };
    Ok(named.features)
}

fn mixed_up() -> ANEError {
    ANEError::Internal("what came out is not of the kind that went in; please report it".to_owned())
}

fn check<'a>(lane: &'a Arc<Lane>, options: &InferenceOptions, default: Duration, called: Instant) -> Result<Call<'a>> {
    let preferred = ComputeUnits::of(options.compute_units.as_deref())?;
    if let Some(asked) = Precision::of(options.precision.as_deref())? {
        check_precision(&lane.model, asked)?;
    }
    if options.batch_size == Some(0) {
        return Err(ANEError::InvalidShape("a batch has one sample at least; the batch size was 0".to_owned()));
    }
    let own_timeout = (options.timeout_ms > 0).then(|| Duration::from_millis(options.timeout_ms));
    let timeout = own_timeout.unwrap_or(default);
    let monitored = options.enable_monitoring;
    Ok(Call { lane, batch_size: options.batch_size, preferred, timeout, own_timeout, called, monitored })
}

fn check_precision(model: &CoreMlModel, asked: Precision) -> Result<()> {
    let computes = model.precision();
    if asked == computes {
        return Ok(());
    }
    let engine = model.engine().engine;
    let other = match computes {
        Precision::Fp16 => "",
        _ => "; load it with `minimum_precision: Some(\"fp16\")` to compute as the Neural Engine does, in fp16",
    };
    Err(ANEError::UnsupportedPrecision(format!(
        "{asked} was asked for, and {} computes in {computes} on {engine}{other}",
        model.path().display()
    )))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
