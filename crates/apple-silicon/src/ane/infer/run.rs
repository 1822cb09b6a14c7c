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
    /// From the call until a thread took it.
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
}

/// What becomes of a request.
pub(super) struct Work {
    place: Place,
    pub(super) spent: Spent,
    pub(super) answer: Option<Result<Output>>,
}

impl Work {
    pub(super) fn new(place: Place, queue: Duration) -> Work {
        Work { place, spent: Spent { queue, ..Spent::default() }, answer: None }
    }
}

/// Runs the model, once for all requests where they can be joined, and once for each where not. Each has an answer then.
pub(super) fn run(model: &CoreMlModel, asked: &[Asked], works: &mut [Work], limits: &Limits) {
    // The rule, and the one that has to be fast.
    if let ([asked], [work]) = (asked, &mut *works) {
        match tensors(model, &asked.payload) {
            Ok(tensors) => run_one(model, asked, &tensors, work, limits),
            Err(error) => work.answer = Some(Err(error)),
        }
        return;
    }
    let mut left: Vec<Request<'_>> = Vec::with_capacity(asked.len());
    for (asked, work) in asked.iter().zip(works) {
        match tensors(model, &asked.payload) {
            Ok(tensors) => left.push(Request { asked, tensors, work }),
            Err(error) => work.answer = Some(Err(error)),
        }
    }
    while !left.is_empty() {
        let mut group: Vec<Request<'_>> = left.drain(..joined(model, &left)).collect();
        // A failed batch is tried again one by one, so that a bad request fails alone.
        if group.len() == 1 || guarded(|| run_joined(model, &mut group, limits)).is_err() {
            for Request { asked, tensors, work } in group {
                run_one(model, asked, &tensors, work, limits);
            }
        }
    }
}

/// A request with its tensors.
struct Request<'a> {
    asked: &'a Asked,
    tensors: Tensors<'a>,
    work: &'a mut Work,
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

fn run_one(model: &CoreMlModel, asked: &Asked, tensors: &Tensors<'_>, work: &mut Work, limits: &Limits) {
    if let Err(stopped) = limits.check() {
        work.answer = Some(Err(stopped));
        return;
    }
    let mut part = Part::new(model, &asked.payload, &mut work.place);
    let began = Instant::now();
    let ran = guarded(|| model.run(tensors, limits, &mut |port, tensor| part.take(model, port, tensor)));
    work.spent.compute += began.elapsed();
    (work.spent.samples, work.spent.first) = (asked.samples, true);
    work.answer = Some(ran.and_then(|()| part.output(model, &asked.payload)));
}

/// A panic as an error, so that it costs one run and no more.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let lost = |_| Err(ANEError::Internal("the engine gave up; please report it".to_owned()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(lost)
}

/// How many requests from the first on one run may have.
fn joined(model: &CoreMlModel, requests: &[Request<'_>]) -> usize {
    let first = &requests[0].tensors;
    let alike = requests.iter().take_while(|request| batch::joinable(first, &request.tensors)).count();
    let fits = |&count: &usize| {
        let samples: Option<usize> = requests[..count].iter().map(|request| batch::samples(&request.tensors)).sum();
        samples.is_some_and(|samples| batch::takes(model, first, samples))
    };
    (2..=alike).rev().find(fits).unwrap_or(1)
}

fn run_joined(model: &CoreMlModel, group: &mut [Request<'_>], limits: &Limits) -> Result<()> {
    let began = Instant::now();
    let sizes: SmallVec<[usize; 32]> = group.iter().filter_map(|request| batch::samples(&request.tensors)).collect();
    let samples = sizes.iter().sum();
    let joined = batch::join(group.iter().map(|request| &request.tensors[..]), samples);
    let mut parts: Vec<Part> =
        group.iter_mut().map(|request| Part::new(model, &request.asked.payload, &mut request.work.place)).collect();
    let (mut computed, start) = (None, Instant::now());
    model.run(&joined, limits, &mut |port, tensor| {
        // Ports come when all is computed.
        computed.get_or_insert_with(|| start.elapsed());
        let mut at = 0;
        for (part, &size) in parts.iter_mut().zip(&sizes) {
            part.take(model, port, batch::rows(&tensor, at, size, samples)?)?;
            at += size;
        }
        Ok(())
    })?;
    let compute = computed.unwrap_or_else(|| start.elapsed());
    let batch = began.elapsed().saturating_sub(compute);
    let counted = group.iter().position(|request| request.asked.monitored);
    for (place, (request, part)) in group.iter_mut().zip(parts).enumerate() {
        let Spent { queue, .. } = request.work.spent;
        request.work.spent = Spent { queue, batch, compute, samples, first: counted == Some(place) };
        request.work.answer = Some(part.output(model, &request.asked.payload));
    }
    Ok(())
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
