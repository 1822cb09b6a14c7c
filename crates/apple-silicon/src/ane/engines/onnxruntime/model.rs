//! A loaded model: sessions that share their weights.
//!
//! The first session is optimised from the lowered graph. Its weights are widened into a temporary file, one by one,
//! which ONNX Runtime maps: so they are in memory once while it packs them, and the file is gone when it has.
//!
//! Graph optimisation gives each session weights of its own (fused, folded or reordered), so a second session that was
//! made in the same way would cost them again. Instead, when a second one is needed, the optimised graph is taken from
//! ONNX Runtime once, and from then on every session is made from that: with its weights and packed weights shared,
//! and nothing left to optimise. The first session is replaced as soon as it is free.
//!
//! A compiled model is such an optimised graph, kept: its first session is made from the files, which are mapped.

use std::{
    borrow::Cow,
    io,
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use coreml_onnx::{Element, OnnxModel, Port, Storage, Weight};
use half::f16;
use ort::{
    logging::LogLevel,
    session::{
        RunOptions, Session, SessionInputValue,
        builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder},
    },
    value::{DynValue, Outlet, PrimitiveTensorElementType, Tensor as OrtTensor, TensorRef},
};
use smallvec::SmallVec;
use tempfile::TempDir;

use super::{
    failed,
    optimized::{self, Optimized},
    profile::Profile,
    runtime::Runtime,
};
use crate::ane::{
    engines::{
        Data, EngineOptions, LoadedEngineModel, NodeTime, Take, Tensor,
        compiled::{self, CompiledFiles, GRAPH, Signature, WEIGHTS},
        pool::{Lease, Pool},
        tensor::{not_lowered, unsupported},
    },
    errors::{ANEError, Result},
    limits::{Alarm, Limits},
};

/// A weight by the name that it has in the graph.
pub(super) type NamedWeight = (String, Arc<DynValue>);

/// A model that ONNX Runtime runs.
pub(super) struct Model {
    runtime: Arc<Runtime>,
    threads: Option<NonZeroUsize>,
    plan: Mutex<Plan>,
    /// Takes the place of the first session when that comes back.
    successor: Mutex<Option<Slot>>,
    pool: Pool<Slot>,
    /// Where the first session writes what its nodes take.
    profile: Mutex<Option<Profile>>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

/// Writes what ONNX Runtime makes of a lowered graph. The session is dropped: only what it writes is wanted.
pub(super) fn compile(
    runtime: &Runtime,
    model: &OnnxModel,
    folder: &Path,
    threads: Option<NonZeroUsize>,
) -> ort::Result<()> {
    let sources = Sources::of(model)?;
    // It warns that the graph is for this CPU alone, which its key says.
    let builder = runtime.session(threads)?.with_prepacking(false)?.with_log_level(LogLevel::Error)?;
    sources.session(optimized::write_to(builder, folder)?).map(drop)
}

/// A session of an optimised graph.
fn optimized_session(builder: SessionBuilder, folder: &Path) -> ort::Result<Slot> {
    let mut builder = builder.with_optimization_level(GraphOptimizationLevel::Disable)?;
    Slot::new(builder.commit_from_file(folder.join(GRAPH))?, false, None)
}

/// A session, and whether its weights are the shared ones.
struct Slot {
    session: Session,
    stop: Arc<Stop>,
    /// The same, as limits take it.
    alarm: Arc<dyn Alarm>,
    shared: bool,
    /// Files that the session maps, where the system does not let go of them before. Dropped after the session.
    _files: Option<TempDir>,
}

/// What sessions are made of.
enum Plan {
    /// There will be one session only.
    Single,
    /// The graph before optimisation; its weights are views of the package's files.
    Lowered(Box<OnnxModel>),
    /// The graph after optimisation, as it was kept.
    Compiled(CompiledFiles),
    /// The graph after optimisation, and its weights for all sessions.
    Optimized { optimized: Optimized, packed: PrepackedWeights },
}

impl Model {
    /// Makes the first session.
    pub(super) fn load(runtime: Arc<Runtime>, model: OnnxModel, options: &EngineOptions) -> Result<Model> {
        let signature = Signature::of(&model);
        let sources = Sources::of(&model).map_err(|e| failed("the weights were not taken", &e))?;
        // The package's pages are let go of before the weights come into memory again.
        let plan = if options.max_sessions.get() == 1 { Plan::Single } else { Plan::Lowered(Box::new(model)) };
        let profile = if options.profile { Some(Profile::begin()?) } else { None };
        let builder = runtime.session(options.threads).and_then(|builder| match &profile {
            Some(profile) => Ok(builder.with_profiling(profile.prefix())?),
            None => Ok(builder),
        });
        let first = builder.and_then(|builder| sources.session(builder));
        Ok(Model { profile: Mutex::new(profile), ..Model::new(runtime, first, plan, &signature, options)? })
    }

    /// Makes the first session of a compiled model.
    pub(super) fn open(
        runtime: Arc<Runtime>,
        files: CompiledFiles,
        signature: &Signature,
        options: &EngineOptions,
    ) -> Result<Model> {
        let first = runtime.session(options.threads).and_then(|builder| optimized_session(builder, &files.folder));
        let plan = if options.max_sessions.get() == 1 { Plan::Single } else { Plan::Compiled(files) };
        Model::new(runtime, first, plan, signature, options)
    }

    fn new(
        runtime: Arc<Runtime>,
        first: ort::Result<Slot>,
        plan: Plan,
        signature: &Signature,
        options: &EngineOptions,
    ) -> Result<Model> {
        let (inputs, outputs) = (signature.inputs.clone(), signature.outputs.clone());
        let first = first.and_then(|slot| slot.with_ports(&inputs, &outputs));
        Ok(Model {
            pool: Pool::new(options.max_sessions, first.map_err(|e| failed("the model was not taken", &e))?),
            threads: options.threads,
            plan: Mutex::new(plan),
            successor: Mutex::new(None),
            profile: Mutex::new(None),
            runtime,
            inputs,
            outputs,
        })
    }

    /// Makes a session beyond the first one.
    fn another(&self) -> Result<Slot> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |e: ort::Error| failed("a second session was not made", &e);
        let optimized = match &*plan {
            Plan::Lowered(model) => Some(self.optimize(model)),
            Plan::Compiled(files) => Some(optimized::read(files)),
            Plan::Single | Plan::Optimized { .. } => None,
        };
        match optimized {
            Some(Ok(Some(optimized))) => {
                *plan = Plan::Optimized { optimized, packed: PrepackedWeights::new() };
                let successor = self.next_session(&plan).map_err(failed)?;
                *self.successor.lock().unwrap_or_else(PoisonError::into_inner) = Some(successor);
            }
            Some(Ok(None)) => tracing::warn!("each session has weights of its own: nested graphs do not share them"),
            Some(Err(error)) => tracing::warn!("each session has weights of its own: {error}"),
            None => {}
        }
        self.next_session(&plan).map_err(failed)
    }

    /// The optimised graph; `None` where its weights cannot be shared.
    fn optimize(&self, model: &OnnxModel) -> io::Result<Option<Optimized>> {
        let folder = tempfile::tempdir()?;
        compile(&self.runtime, model, folder.path(), self.threads).map_err(io::Error::other)?;
        optimized::read(&CompiledFiles::open(folder.path())?)
    }

    fn next_session(&self, plan: &Plan) -> ort::Result<Slot> {
        let builder = self.runtime.session(self.threads)?;
        let slot = match plan {
            Plan::Single => Err(ort::Error::new("one session was asked for at most")),
            Plan::Lowered(model) => Sources::of(model)?.session(builder),
            Plan::Compiled(files) => {
                // The folder may have gone since.
                let folder = optimized::copy(files).map_err(ort::Error::wrap)?;
                let slot = optimized_session(builder, folder.path())?;
                Ok(Slot { _files: cfg!(windows).then_some(folder), ..slot })
            }
            Plan::Optimized { optimized, packed } => {
                let mut builder = builder.with_prepacked_weights(packed)?;
                for (name, value) in &optimized.weights {
                    builder = builder.with_initializer(name, value.clone())?;
                }
                Ok(Slot { shared: true, ..optimized_session(builder, optimized.folder())? })
            }
        };
        slot?.with_ports(&self.inputs, &self.outputs)
    }

    /// Puts the successor in the place of the first session where that lies idle, as it may for good.
    fn retire_idle(&self) {
        let waiting = self.successor.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if waiting && let Some(mut slot) = self.pool.lease_idle(|slot| !slot.shared) {
            self.retire(&mut slot);
        }
    }

    /// Puts the successor in the place of the first session.
    fn retire(&self, slot: &mut Lease<'_, Slot>) {
        if !slot.shared
            && let Some(successor) = self.successor.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            **slot = successor;
        }
    }
}

impl LoadedEngineModel for Model {
    fn run(&self, inputs: &[Tensor<'_>], limits: &Limits, take: &mut Take<'_>) -> Result<()> {
        let mut slot = self.pool.lease(limits, || self.another())?;
        let result = slot.run(inputs, &self.outputs, limits, take);
        self.retire(&mut slot);
        drop(slot);
        self.retire_idle();
        result
    }

    fn end_profile(&self) -> Result<Vec<NodeTime>> {
        let profile = self.profile.lock().unwrap_or_else(PoisonError::into_inner).take();
        let slot = self.pool.lease_idle(|slot| !slot.shared);
        let (Some(profile), Some(mut slot)) = (profile, slot) else { return Err(ANEError::Unavailable) };
        profile.end(&mut slot.session)
    }
}

impl Slot {
    fn new(session: Session, shared: bool, files: Option<TempDir>) -> ort::Result<Slot> {
        let stop = Arc::new(Stop { options: RunOptions::new()?, rang: AtomicBool::new(false) });
        Ok(Slot { session, alarm: stop.clone(), stop, shared, _files: files })
    }

    /// Checks that the session has the model's ports in their order: runs give tensors by place.
    fn with_ports(self, inputs: &[Port], outputs: &[Port]) -> ort::Result<Slot> {
        let names = |ports: &[Outlet]| ports.iter().map(|port| port.name().to_owned()).collect::<Vec<_>>();
        let (takes, gives) = (names(self.session.inputs()), names(self.session.outputs()));
        let same = |ports: &[Port], names: &[String]| ports.iter().map(|port| &port.name).eq(names);
        if same(inputs, &takes) && same(outputs, &gives) {
            return Ok(self);
        }
        Err(ort::Error::new(format!("its session takes {takes:?} and gives {gives:?}")))
    }

    fn run(&mut self, inputs: &[Tensor<'_>], outputs: &[Port], limits: &Limits, take: &mut Take<'_>) -> Result<()> {
        let stopped = |e: ort::Error| match limits.check() {
            Err(limit) => limit,
            Ok(()) => ANEError::InferenceFailed(format!("ONNX Runtime: {}", e.message())),
        };
        limits.check()?;
        let mut values: SmallVec<[SessionInputValue<'_>; 4]> = SmallVec::new();
        for tensor in inputs {
            values.push(view(tensor).map_err(stopped)?);
        }
        if self.stop.rang.swap(false, Ordering::AcqRel) {
            self.stop.options.unterminate().map_err(stopped)?;
        }
        let watch = limits.watch(&self.alarm);
        let results = self.session.run_with_options(&*values, &self.stop.options).map_err(stopped)?;
        drop(watch);
        for (index, port) in outputs.iter().enumerate() {
            take(index, lent(&results[index], port.element)?)?;
        }
        Ok(())
    }
}

/// Tells ONNX Runtime to stop a run. One for all runs of a slot, which come one after the other.
struct Stop {
    options: RunOptions,
    rang: AtomicBool,
}

impl Alarm for Stop {
    fn ring(&self) -> Option<Waker> {
        self.rang.store(true, Ordering::Release);
        // It fails where the library is broken, and then the run ends by itself.
        let _ = self.options.terminate();
        None
    }
}

/// A lowered graph and its weights, ready for one session.
enum Sources {
    /// A graph's file with its weights beside it.
    Files(TempDir),
    /// All in memory: for small models, and where no file can be written, which costs the weights once more for as long
    /// as the session lives.
    Memory { graph: Vec<u8>, weights: Vec<NamedWeight> },
}

impl Sources {
    /// Up to this many bytes of weights, files take longer than they save.
    const SMALL: usize = 256 << 10;

    /// Widens the weights.
    fn of(model: &OnnxModel) -> ort::Result<Sources> {
        if model.weights_len() <= Sources::SMALL {
            return Ok(Sources::Memory { graph: model.encode(Storage::Inside), weights: Vec::new() });
        }
        match Sources::write(model) {
            Ok(folder) => Ok(Sources::Files(folder)),
            Err(error) => {
                tracing::warn!("weights are kept in memory, since the temporary folder cannot be written: {error}");
                let named = |weight: &Weight| Ok((weight.name().to_owned(), Arc::new(weight_value(weight)?)));
                let weights = model.weights().iter().map(named).collect::<ort::Result<_>>()?;
                Ok(Sources::Memory { graph: model.encode(Storage::Beside(WEIGHTS)), weights })
            }
        }
    }

    fn write(model: &OnnxModel) -> io::Result<TempDir> {
        let folder = tempfile::tempdir()?;
        compiled::write_lowered(model, folder.path())?;
        Ok(folder)
    }

    /// A session that is optimised from the lowered graph.
    fn session(self, mut builder: SessionBuilder) -> ort::Result<Slot> {
        match self {
            Sources::Files(folder) => {
                let session = builder.commit_from_file(folder.path().join(GRAPH))?;
                // A file that is mapped can be removed, but not on Windows.
                let files = cfg!(windows).then_some(folder);
                Slot::new(session, false, files)
            }
            Sources::Memory { graph, weights } => {
                for (name, value) in weights {
                    builder = builder.with_external_initializer(name, value)?;
                }
                Slot::new(builder.commit_from_memory(&graph)?, false, None)
            }
        }
    }
}

/// A borrowed tensor as a session's input.
fn view<'a>(tensor: &'a Tensor<'_>) -> ort::Result<SessionInputValue<'a>> {
    let shape = tensor.shape.as_slice();
    Ok(match &tensor.data {
        Data::F32(values) => TensorRef::from_array_view((shape, &**values))?.into(),
        Data::I32(values) => TensorRef::from_array_view((shape, &**values))?.into(),
        Data::I64(values) => TensorRef::from_array_view((shape, &**values))?.into(),
        Data::Bool(values) => TensorRef::from_array_view((shape, &**values))?.into(),
        Data::Shared(..) | Data::Feature(_) | Data::Absent | Data::State(_) => {
            return Err(ort::Error::new(not_lowered().to_string()));
        }
    })
}

/// A session's output, which stays ONNX Runtime's.
fn lent(value: &DynValue, element: Element) -> Result<Tensor<'_>> {
    fn extract<'a, T>(value: &'a DynValue, data: impl FnOnce(Cow<'a, [T]>) -> Data<'a>) -> Result<Tensor<'a>>
    where
        T: PrimitiveTensorElementType + Clone + 'static,
    {
        let (shape, values) = value
            .try_extract_tensor::<T>()
            .map_err(|e| ANEError::Internal(format!("ONNX Runtime gave another type: {}", e.message())))?;
        let shape = shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
        Ok(Tensor { shape, data: data(Cow::Borrowed(values)) })
    }
    match element {
        Element::F32 => extract(value, Data::F32),
        Element::I32 => extract(value, Data::I32),
        Element::I64 => extract(value, Data::I64),
        Element::Bool => extract(value, Data::Bool),
        other => Err(unsupported(other)),
    }
}

/// A weight, read and widened once.
fn weight_value(weight: &Weight) -> ort::Result<DynValue> {
    let shape = weight.shape();
    match weight.element() {
        Element::F32 => Ok(OrtTensor::from_array((shape, weight.f32s()))?.into_dyn()),
        Element::F16 => value_of::<f16>(shape, &weight.bytes()),
        Element::I64 => value_of::<i64>(shape, &weight.bytes()),
        Element::I32 => value_of::<i32>(shape, &weight.bytes()),
        Element::I16 => value_of::<i16>(shape, &weight.bytes()),
        Element::U16 => value_of::<u16>(shape, &weight.bytes()),
        Element::I8 => value_of::<i8>(shape, &weight.bytes()),
        Element::U8 => value_of::<u8>(shape, &weight.bytes()),
        Element::Bool => {
            let values: Vec<bool> = weight.bytes().iter().map(|&b| b != 0).collect();
            Ok(OrtTensor::from_array((shape, values))?.into_dyn())
        }
    }
}

/// A tensor of little-endian elements.
fn value_of<T>(shape: Vec<usize>, bytes: &[u8]) -> ort::Result<DynValue>
where
    T: PrimitiveTensorElementType + bytemuck::Pod + std::fmt::Debug,
{
    let mut values = vec![T::zeroed(); bytes.len() / size_of::<T>()];
    bytemuck::cast_slice_mut(&mut values).copy_from_slice(bytes);
    Ok(OrtTensor::from_array((shape, values))?.into_dyn())
}
