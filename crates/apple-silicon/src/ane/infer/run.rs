//! One run of a model for the requests that were taken for it.
//!
//! Knows a model and what goes in and out of it; not who waits, nor for how long.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{
    batch,
    buffer::{Buffer, OutputBuffer},
};
use crate::ane::{
    engines::Tensor,
    errors::{ANEError, Result},
    features::Features,
    limits::Limits,
    models::coreml_model::{CoreMlModel, Results, State, Tensors, put},
};

/// What a request gives the model.
pub(crate) enum Payload {
    /// So many samples from the beginning of one vector.
    Vector { values: Values, len: usize, samples: usize },
    /// Named features, and the state to begin with.
    Features(Box<Named>),
}

impl Payload {
    /// The vector's memory, where it is the lane's; a buffer goes back to its manager.
    pub(super) fn into_vector(self) -> Vec<f32> {
        match self {
            Payload::Vector { values: Values::Own(vector), .. } => vector,
            Payload::Vector { values: Values::Buffer(_), .. } | Payload::Features(_) => Vec::new(),
        }
    }
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

/// Named features, and a state before or after them.
pub(crate) struct Named {
    pub(crate) features: Features,
    pub(crate) state: Option<State>,
}

/// What the model gives a request.
pub(crate) enum Output {
    Vector(Vec<f32>),
    Buffer(OutputBuffer),
    Features(Box<Named>),
}

/// Where a request's output goes.
pub(crate) enum Place {
    /// A vector or features of its own.
    New,
    /// Memory that is used again.
    Buffer(OutputBuffer),
}

/// Where the time of a request went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// From the call until its run began.
    pub(crate) queue: Duration,
    /// Joining it with others, and taking its part of what came out.
    pub(crate) batch: Duration,
    /// In the engine.
    pub(crate) compute: Duration,
    /// Samples in its run, its own among them.
    pub(crate) samples: usize,
    /// Whether it is the one that its run is counted with.
    pub(crate) first: bool,
}

/// What a request asks for.
pub(super) struct Asked {
    pub(super) payload: Payload,
    pub(super) samples: usize,
    /// Whether it counts in the metrics.
    pub(super) monitored: bool,
    pub(super) called: Instant,
}

/// What becomes of a request.
pub(super) struct Work {
    place: Place,
    pub(super) spent: Spent,
    pub(super) answer: Option<Result<Output>>,
}

impl Work {
    pub(super) fn new(place: Place) -> Work {
        Work { place, spent: Spent::default(), answer: None }
    }
}

/// The tensors of as many requests, from the first on, as one run may have. None where the first has one for itself.
pub(super) fn together<'a>(model: &'a CoreMlModel, asked: &'a [Asked]) -> Vec<Tensors<'a>> {
    // What is wrong with it, its own run tells.
    let Ok(first) = tensors(model, &asked[0].payload) else { return Vec::new() };
    let mut requests = vec![first];
    let takes = |first: &[Tensor<'_>], most: usize| {
        let samples = |count: usize| asked[..count].iter().map(|asked| asked.samples).sum();
        (2..=most).rev().find(|&count| batch::takes(model, first, samples(count))).unwrap_or(0)
    };
    for asked in asked.iter().take(takes(&requests[0], asked.len())).skip(1) {
        match tensors(model, &asked.payload) {
            Ok(tensors) if batch::joinable(&requests[0], &tensors) => requests.push(tensors),
            _ => break,
        }
    }
    requests.truncate(takes(&requests[0], requests.len()));
    requests
}

/// Runs the model for one request, which has an answer then.
pub(super) fn alone(model: &CoreMlModel, asked: &Asked, work: &mut Work, limits: &Limits) {
    work.answer = Some(run_one(model, asked, &mut work.place, &mut work.spent, limits));
}

fn run_one(
    model: &CoreMlModel,
    asked: &Asked,
    place: &mut Place,
    spent: &mut Spent,
    limits: &Limits,
) -> Result<Output> {
    limits.check()?;
    let tensors = tensors(model, &asked.payload)?;
    let mut part = Part::new(model, &asked.payload, place);
    let began = Instant::now();
    let ran = guarded(|| model.run(&tensors, limits, &mut |port, tensor| part.take(model, port, tensor)));
    spent.queue = began.saturating_duration_since(asked.called);
    spent.compute = began.elapsed();
    (spent.samples, spent.first) = (asked.samples, true);
    ran.and_then(|()| part.output(model, &asked.payload))
}

/// Runs the model once for requests that are [`together`], and each has an answer then.
///
/// # Errors
/// Those of the run. Then none has an answer.
pub(super) fn joined(
    model: &CoreMlModel,
    requests: &[Tensors<'_>],
    asked: &[Asked],
    works: &mut [Work],
    limits: &Limits,
) -> Result<()> {
    let began = Instant::now();
    let sizes: SmallVec<[usize; 32]> = requests.iter().filter_map(|tensors| batch::samples(tensors)).collect();
    let samples = sizes.iter().sum();
    let mut parts: Vec<Part> =
        asked.iter().zip(&mut *works).map(|(asked, work)| Part::new(model, &asked.payload, &mut work.place)).collect();
    let (mut computed, mut start) = (None, began);
    guarded(|| {
        let joined = batch::join(requests.iter().map(|tensors| &tensors[..]), samples);
        start = Instant::now();
        model.run(&joined, limits, &mut |port, tensor| {
            // Ports come when all is computed.
            computed.get_or_insert_with(|| start.elapsed());
            let mut at = 0;
            for (part, &size) in parts.iter_mut().zip(&sizes) {
                part.take(model, port, batch::rows(&tensor, at, size, samples)?)?;
                at += size;
            }
            Ok(())
        })
    })?;
    let compute = computed.unwrap_or_else(|| start.elapsed());
    let batch = began.elapsed().saturating_sub(compute);
    let counted = asked.iter().position(|asked| asked.monitored);
    for (place, ((asked, work), part)) in asked.iter().zip(works).zip(parts).enumerate() {
        let queue = began.saturating_duration_since(asked.called);
        work.spent = Spent { queue, batch, compute, samples, first: counted == Some(place) };
        work.answer = Some(part.output(model, &asked.payload));
    }
    Ok(())
}

fn tensors<'a>(model: &'a CoreMlModel, payload: &'a Payload) -> Result<Tensors<'a>> {
    match payload {
        Payload::Vector { values: Values::Buffer(buffer), len, samples } => match buffer.shared() {
            Some(memory) => model.shared_tensors(memory, *len, *samples),
            None => model.vector_tensors(&buffer[..*len], *samples),
        },
        Payload::Vector { values, len, samples } => model.vector_tensors(&values[..*len], *samples),
        Payload::Features(named) => model.tensors(&named.features, named.state.as_ref()),
    }
}

/// A panic as an error, so that it costs one run and no more.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let lost = |_| Err(ANEError::Internal("the engine gave up; please report it".to_owned()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(lost)
}

/// One request's part of what comes out.
enum Part {
    Vector(Vec<f32>),
    Buffer(OutputBuffer),
    Features(Results),
}

impl Part {
    fn new(model: &CoreMlModel, payload: &Payload, place: &mut Place) -> Part {
        match (payload, std::mem::replace(place, Place::New)) {
            (Payload::Features(_), _) => Part::Features(model.no_results()),
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
        let mut results = match self {
            Part::Vector(values) => return Ok(Output::Vector(values)),
            Part::Buffer(buffer) => return Ok(Output::Buffer(buffer)),
            Part::Features(results) => results,
        };
        let features = model.collect(&mut results)?;
        let before = match payload {
            Payload::Features(named) => named.state.as_ref(),
            Payload::Vector { .. } => None,
        };
        let state = before.map(|before| model.state_after(before, &mut results));
        Ok(Output::Features(Box::new(Named { features, state })))
    }
}
