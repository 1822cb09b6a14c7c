//! A Core ML model that is ready to predict.

use std::{
    borrow::Cow,
    fmt, iter,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use coreml_format::{
    Model, ModelKind,
    schema::{FeatureKind, Interface, Schema},
};
use coreml_onnx::{InputBinding, LowerOptions, Lowered, OutputBinding, Port, StateBinding};

use smallvec::{SmallVec, smallvec};

use super::{
    bound::Bound,
    compatibility::{self, Obstacle},
    inputs::{self, Carried},
    native, outputs, pipeline,
    plan::ComputePlan,
    probe::{self, Probe, Verdict},
    store::{self, Ready},
    vector::VectorForm,
};
use crate::ane::{
    engines::{
        self, Choice, Data, Engine, EngineChoice, EngineOptions, EngineState, LoadedEngineModel, Shape, Take, Tensor,
        coreml,
        native::{Found, NativeModel, NativeRequest},
    },
    errors::{ANEError, Result},
    features::{Array, Features},
    infer::{ComputeUnit, ComputeUnits, Placement, Precision},
    limits::Limits,
};

pub use super::{
    loaded::{CompilationOptions, LoadedModel, estimate_memory_usage, load_model, validate_ane_compatibility},
    store::Compiled,
};

/// How to load a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// The engine that runs it.
    pub engine: EngineChoice,
    /// The function of a multi-function model; the model's default where `None`.
    pub function: Option<String>,
    /// What to compute in; the engine's own precision where `None`, which is fp32 off Apple.
    pub precision: Option<Precision>,
    /// Folder where the compiled model is kept, among others, and found by the next load. Where `None`, it is not kept,
    /// but by Core ML, which has a folder in the user's cache.
    pub compiled: Option<PathBuf>,
    /// Where it would best run. A preference, as in Core ML; the other engines have the CPU alone.
    pub compute_units: ComputeUnits,
    /// What Core ML may take its time for, or trade; the other engines have none of it.
    pub hints: Hints,
    /// How it is tried in a child process first; it is not where `None`. Core ML leaves out units on which it did not run;
    /// on the other engines a bad verdict is an error.
    pub probe: Option<Probe>,
    /// Threads within one operation; the engine's own choice where `None`. ONNX Runtime shares one pool of threads
    /// of the size that the first model asked for; a model that asks for another size has threads of its own.
    pub threads: Option<NonZeroUsize>,
    /// Predictions that run at a time; more wait. With ONNX Runtime each needs a session, made when first needed: the
    /// second takes about as long as loading, since the weights are then laid out for sharing, and further ones cost
    /// their activations alone. Weights of matrix products are kept packed and, from the second session on, as they
    /// were too; other weights are there once.
    pub max_sessions: NonZeroUsize,
}

/// What Core ML may take its time for, or trade. Systems that do not know a hint load without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// Inputs seldom change their shape, so that preparing for one is worth more time (macOS 14.4, iOS 17.4).
    pub infrequent_reshapes: bool,
    /// Loading may take longer for faster predictions (macOS 15, iOS 18).
    pub fast_prediction: bool,
    /// The GPU may add up in half precision.
    pub low_precision_accumulation: bool,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            engine: EngineChoice::default(),
            function: None,
            precision: None,
            compiled: None,
            compute_units: ComputeUnits::default(),
            hints: Hints::default(),
            probe: None,
            threads: None,
            max_sessions: const { NonZeroUsize::new(4).unwrap() },
        }
    }
}

impl LoadOptions {
    pub(super) fn of_engine(&self) -> EngineOptions {
        EngineOptions { threads: self.threads, max_sessions: self.max_sessions, profile: false }
    }
}

/// How a lowered model is loaded.
pub(super) struct Loading<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) choice: Choice,
    pub(super) path: &'a Path,
    pub(super) precision: Precision,
    pub(super) options: EngineOptions,
}

/// A loaded model. It is shared between threads by reference; predictions run side by side.
pub struct CoreMlModel {
    path: PathBuf,
    schema: Schema,
    interface: Interface,
    choice: Choice,
    compiled: Compiled,
    engine: Box<dyn LoadedEngineModel>,
    carried: Carried,
    inputs: Vec<InputBinding>,
    outputs: Vec<OutputBinding>,
    states: Vec<StateBinding>,
    input_ports: Vec<Port>,
    output_ports: usize,
    weight_bytes: usize,
    working_set: WorkingSet,
    precision: Precision,
    obstacles: Vec<Obstacle>,
    /// How it takes one vector, or why it does not.
    vector: Result<VectorForm, String>,
    zeros: OnceLock<Result<State>>,
    /// Tells this model's states from those of others.
    id: u64,
}

impl CoreMlModel {
    /// Loads a `.mlmodel` or a `.mlpackage` and makes it ready to run.
    ///
    /// Cost: the file is validated and lowered, its weights are widened to what the engine computes with, and the
    /// engine optimises the graph. The widened weights pass through a temporary file, where one can be written. After
    /// that nothing of the model's file is held, but for its mapping where a second session may be made. A compiled
    /// model that is found in [`LoadOptions::compiled`] is checked by hash and loaded as it is; its files must not be
    /// changed while it is in use, but can be removed.
    ///
    /// # Errors
    /// [`ANEError::ModelNotFound`], [`ANEError::InvalidModelFormat`] for a damaged file, and
    /// [`ANEError::CompilationFailed`] where there is no way to run the model here: an operation that is not lowered
    /// or that the engine does not run, or an engine that does not load; and for a folder [`LoadOptions::compiled`] that
    /// cannot be written where there is something to write.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<CoreMlModel> {
        CoreMlModel::load_within(path.as_ref(), options, |_, _| Ok(()))
    }

    /// Loads a model once `admit` has agreed to the bytes of its weights and of the working set of a run.
    pub(crate) fn load_within(
        path: &Path,
        options: &LoadOptions,
        mut admit: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<CoreMlModel> {
        let model = Model::open(path)?;
        let mut not_coreml = None;
        if options.engine.begins_with_coreml() {
            match CoreMlModel::load_native(&model, options, &mut admit) {
                Ok(loaded) => return Ok(loaded),
                // Nothing that another engine can help with.
                Err(error @ (ANEError::ResourceLimit(_) | ANEError::Timeout(_))) => return Err(error),
                Err(error) if options.engine == EngineChoice::CoreMl => return Err(error.of_model(path)),
                Err(error) => not_coreml = Some(error),
            }
        }
        // Where Core ML came first, the probe was of its units.
        if let Some(probe) = options.probe.as_ref().filter(|_| !options.engine.begins_with_coreml())
            && let Some(refusal) = probe::refusal(&probe.of(&model, options)?)
        {
            return Err(refusal.of_model(path));
        }
        let mut loaded = CoreMlModel::load_portable(model, options, &mut admit)?;
        if let Some(error) = not_coreml {
            loaded.choice.reason = format!("not Core ML: {error}; {}", loaded.choice.reason);
        }
        Ok(loaded)
    }

    /// Loads a model by any other way than through Core ML.
    pub(super) fn load_portable(mut model: Model, options: &LoadOptions, admit: &mut Admit<'_>) -> Result<CoreMlModel> {
        let obstacles = compatibility::examine(&model, options.function.as_deref());
        let loaded = match std::mem::replace(&mut model.kind, ModelKind::Other("")) {
            ModelKind::Classic(classic) => pipeline::load_classic(&model, *classic, options, admit),
            ModelKind::Pipeline(pipeline) => pipeline::load_pipeline(&model, pipeline, options, admit),
            kind => CoreMlModel::load_lowered(Model { kind, ..model }, options, admit),
        };
        Ok(CoreMlModel { obstacles, ..loaded? })
    }

    /// Loads what has a graph, on an engine that runs graphs.
    fn load_lowered(model: Model, options: &LoadOptions, admit: &mut Admit<'_>) -> Result<CoreMlModel> {
        let path = &model.path.clone();
        let (engine, choice) = engines::select(options.engine, options.threads)?;
        let precision = options.precision.unwrap_or(Precision::Fp32);
        if precision == Precision::Int8 {
            return Err(ANEError::UnsupportedPrecision(format!(
                "{}: {} does not compute in int8; choose \"fp32\" or \"fp16\"",
                path.display(),
                engine.name()
            )));
        }
        let lower = LowerOptions {
            function: options.function.clone(),
            without_fp16: !engine.has_fp16(),
            round_to_fp16: precision == Precision::Fp16,
            ..LowerOptions::default()
        };
        match &options.compiled {
            Some(folder) => {
                let options = options.of_engine();
                let request = store::Request { engine: &*engine, lower: &lower, options: &options, folder };
                let ready = store::load(&request, model, |bound| admit(bound.weight_bytes, bound.working_set.bytes))?;
                Ok(CoreMlModel::of(ready, choice, path, precision))
            }
            None => {
                let lowered = coreml_onnx::lower(&model, &lower).map_err(|e| ANEError::from(e).of_model(path))?;
                // Then only the lowered model refers to the mapped files.
                drop(model.kind);
                CoreMlModel::with_engine(&*engine, choice, lowered, model.schema, path, options, admit)
            }
        }
    }

    /// Loads a model through Core ML.
    fn load_native(
        model: &Model,
        options: &LoadOptions,
        admit: impl FnOnce(usize, usize) -> Result<()>,
    ) -> Result<CoreMlModel> {
        let function = options.function.as_deref();
        let obstacles = compatibility::examine(model, function);
        let precision = native::precision(model, &obstacles, options)?;
        let bound = native::bound(model, function)?;
        admit(bound.weight_bytes, bound.working_set.bytes)?;
        let (units, fallbacks) = probed(model, options)?;
        let request = NativeRequest {
            model,
            interface: &bound.interface,
            labels: model.schema.class_labels.as_ref(),
            function,
            asked: options.compute_units,
            units,
            fallbacks,
            hints: options.hints,
            store: options.compiled.as_deref(),
            content: &|| store::content(model),
        };
        let NativeModel { engine, choice, compiled } = coreml::load(&request)?;
        let compiled = match compiled {
            None => Compiled::Fresh,
            Some((path, Found::Already)) => Compiled::Found(path),
            Some((path, Found::MadeNow)) => Compiled::Stored(path),
        };
        let ready = Ready { schema: model.schema.clone(), bound, engine, compiled };
        let loaded = CoreMlModel::of_features(ready, choice, &model.path, precision);
        Ok(CoreMlModel { obstacles, ..loaded })
    }

    fn with_engine(
        engine: &dyn Engine,
        choice: Choice,
        lowered: Lowered,
        schema: Schema,
        path: &Path,
        options: &LoadOptions,
        admit: impl FnOnce(usize, usize) -> Result<()>,
    ) -> Result<CoreMlModel> {
        let precision = options.precision.unwrap_or(Precision::Fp32);
        let loading = Loading { engine, choice, path, precision, options: options.of_engine() };
        CoreMlModel::load_graph(loading, lowered, schema, admit)
    }

    /// Loads a lowered model.
    pub(super) fn load_graph(
        loading: Loading<'_>,
        lowered: Lowered,
        schema: Schema,
        admit: impl FnOnce(usize, usize) -> Result<()>,
    ) -> Result<CoreMlModel> {
        let Loading { engine, choice, path, precision, options } = loading;
        engine.check(&lowered.model).map_err(|refusal| ANEError::from(refusal).of_model(path))?;
        let (graph, bound) = Bound::of(engine, lowered);
        admit(bound.weight_bytes, bound.working_set.bytes)?;
        let engine = engine.load(graph, &options).map_err(|e| e.of_model(path))?;
        Ok(CoreMlModel::of(Ready { schema, bound, engine, compiled: Compiled::Fresh }, choice, path, precision))
    }

    /// What runs it.
    pub(super) fn engine_model(&self) -> &dyn LoadedEngineModel {
        &*self.engine
    }

    /// A model whose engine takes features themselves.
    pub(super) fn of_features(ready: Ready, choice: Choice, path: &Path, precision: Precision) -> CoreMlModel {
        CoreMlModel { carried: Carried::Features, ..CoreMlModel::of(ready, choice, path, precision) }
    }

    fn of(ready: Ready, choice: Choice, path: &Path, precision: Precision) -> CoreMlModel {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let Ready { schema, bound, engine, compiled } = ready;
        CoreMlModel {
            path: path.to_owned(),
            schema,
            choice,
            compiled,
            engine,
            carried: Carried::Tensors,
            output_ports: bound.signature.outputs.len(),
            input_ports: bound.signature.inputs,
            weight_bytes: bound.weight_bytes,
            working_set: bound.working_set,
            precision,
            obstacles: Vec::new(),
            vector: VectorForm::of(&bound.inputs, &bound.outputs),
            zeros: OnceLock::new(),
            interface: bound.interface,
            inputs: bound.inputs,
            outputs: bound.outputs,
            states: bound.states,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The path that was loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the whole model says of itself, all its functions among it.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Inputs, outputs and states of the function that was loaded.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The engine that runs it, and why.
    pub fn engine(&self) -> &Choice {
        &self.choice
    }

    /// Where its compiled form came from.
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// Bytes that the weights take as the engine computes with them, without what it packs beside.
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// What it computes in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What it runs on, as far as is known; [`CoreMlModel::placement`] tells more.
    pub fn compute_unit(&self) -> ComputeUnit {
        self.engine.compute_unit()
    }

    /// Whether what it runs on is known, and not just planned.
    pub(crate) fn unit_is_certain(&self) -> bool {
        self.engine.unit_is_certain()
    }

    /// Where it runs: what was asked, what is planned and what is known.
    pub fn placement(&self) -> Placement {
        self.engine.placement()
    }

    /// Where Core ML plans to run each operation. Cost: the first time as a load; then nothing.
    ///
    /// # Errors
    /// [`ANEError::Unavailable`] on the other engines, which have the CPU alone; [`ANEError::CompilationFailed`] with what
    /// Core ML says, and before macOS 14.4 and iOS 17.4, which make no plans.
    pub fn plan(&self) -> Result<ComputePlan> {
        self.engine.plan()
    }

    /// Bytes of the weights, and of the working set of one run on inputs of the default shapes: everything but the
    /// inputs that is in memory at a time, from the liveness of each tensor.
    pub fn memory_bytes(&self) -> usize {
        self.weight_bytes.saturating_add(self.working_set.bytes)
    }

    /// The working set of a run on inputs of the default shapes.
    pub(crate) fn working_set_bytes_of_default(&self) -> usize {
        self.working_set.bytes
    }

    /// The working set of a run on so many samples.
    pub(crate) fn working_set_bytes(&self, samples: usize) -> usize {
        let default = self.vector.as_ref().map_or(1, VectorForm::default_samples);
        scaled(self.working_set.bytes, samples, default)
    }

    /// The working set of a run on these tensors. It grows with the input that has grown most, so that one that is large
    /// and fixed hides no other.
    pub(crate) fn working_set_bytes_of(&self, tensors: &[Tensor<'_>]) -> usize {
        let sizes = self.inputs.iter().zip(&self.working_set.elements);
        let scaled = sizes.map(|(input, &default)| {
            scaled(self.working_set.bytes, tensors[input.port].shape.iter().product(), default)
        });
        scaled.max().unwrap_or(self.working_set.bytes)
    }

    /// Whether the first dimension of every input counts samples, as far as its shapes tell.
    pub(crate) fn counts_samples(&self) -> bool {
        let counts = |input: &InputBinding| match &input.feature.kind {
            FeatureKind::MultiArray(kind) => !kind.shape.is_empty() && super::vector::counts(kind),
            _ => false,
        };
        !self.has_state() && self.inputs.iter().all(counts)
    }

    /// What keeps it from the Neural Engine, as far as its structure tells.
    pub fn obstacles(&self) -> &[Obstacle] {
        &self.obstacles
    }

    /// Predicts. A model with state starts from zeros, and what it would remember is lost.
    ///
    /// # Errors
    /// [`ANEError::InvalidShape`] and [`ANEError::UnsupportedPrecision`] for features that the model does not take,
    /// before anything runs; [`ANEError::InferenceFailed`] for what goes wrong then.
    pub fn predict(&self, features: &Features) -> Result<Features> {
        self.predict_within(features, None, &Limits::default())
    }

    /// Predicts from a state, and leaves the new one in its place. A failed prediction leaves the state as it was.
    ///
    /// # Errors
    /// As [`CoreMlModel::predict`]; and [`ANEError::InvalidShape`] for the state of another model.
    pub fn predict_with_state(&self, features: &Features, state: &mut State) -> Result<Features> {
        self.predict_within(features, Some(state), &Limits::default())
    }

    /// Predicts within limits, which cover waiting for a free session too. ONNX Runtime stops between two
    /// operations; rten cannot be stopped, so a late result is thrown away.
    ///
    /// # Errors
    /// As [`CoreMlModel::predict`]; and [`ANEError::Timeout`] past the deadline.
    pub fn predict_within(&self, features: &Features, state: Option<&mut State>, limits: &Limits) -> Result<Features> {
        let before = state.as_deref();
        let tensors = self.tensors(features, before)?;
        let mut results = self.no_results();
        self.run(&tensors, limits, &mut |port, tensor| put(&mut results, port, tensor))?;
        drop(tensors);
        let features = self.collect(&mut results)?;
        if let Some(state) = state {
            *state = self.state_after(state, &mut results);
        }
        Ok(features)
    }

    /// Predicts for each of several inputs, in order. Core ML takes them as one batch; other engines predict one after the
    /// other. A model with state starts each from zeros.
    ///
    /// # Errors
    /// As [`CoreMlModel::predict`], for the first that fails; then none has an answer.
    pub fn predict_batch(&self, batch: &[Features]) -> Result<Vec<Features>> {
        self.predict_batch_within(batch, &Limits::default())
    }

    /// Predicts for each of several inputs, as [`CoreMlModel::predict_batch`], within limits for all of them together.
    ///
    /// # Errors
    /// As [`CoreMlModel::predict_batch`]; and [`ANEError::Timeout`] past the deadline.
    pub fn predict_batch_within(&self, batch: &[Features], limits: &Limits) -> Result<Vec<Features>> {
        let tensors: Result<Vec<Tensors<'_>>> = batch.iter().map(|features| self.tensors(features, None)).collect();
        let tensors = tensors?;
        let tensors: Vec<&[Tensor<'_>]> = tensors.iter().map(|tensors| &tensors[..]).collect();
        let mut results: Vec<Results> = batch.iter().map(|_| self.no_results()).collect();
        self.engine.run_batch(&tensors, limits, &mut |sample, port, tensor| put(&mut results[sample], port, tensor))?;
        results.iter_mut().map(|results| self.collect(results)).collect()
    }

    /// Runs the engine's session on this thread, on one vector, and appends what it gives to `output`. For callers who have
    /// threads and limits of their own; nothing is allocated but by the engine, where `output` has room.
    ///
    /// # Errors
    /// As [`CoreMlModel::predict`]; and [`ANEError::InvalidShape`] for a model that takes more than one vector.
    pub fn predict_vector(&self, input: &[f32], output: &mut Vec<f32>) -> Result<()> {
        let form = self.vector()?;
        let part = form.whole(input.len(), self.vector_port())?;
        let tensors = self.vector_tensors(input, part.samples)?;
        self.run(&tensors, &Limits::default(), &mut |port, tensor| {
            if port == form.port {
                form.append(&tensor.data, output);
            }
            Ok(())
        })
    }

    /// State of zeros, for [`CoreMlModel::predict_with_state`]. Empty for a model that has none.
    ///
    /// # Errors
    /// [`ANEError::Internal`] for a state whose size the model does not say, and
    /// [`ANEError::MemoryAllocationFailed`] for one that no memory holds.
    pub fn new_state(&self) -> Result<State> {
        self.zeros().cloned()
    }

    /// What the state of this name holds, in the type that the model declares. Cost: a copy.
    ///
    /// # Errors
    /// [`ANEError::InvalidShape`] where the model has no state of this name, and for the state of another model;
    /// [`ANEError::InferenceFailed`] on Core ML, which keeps its states to itself.
    pub fn read_state(&self, state: &State, name: &str) -> Result<Array> {
        let (place, declared) = self.state_place(state, name)?;
        let (FeatureKind::State(kind) | FeatureKind::MultiArray(kind)) = &declared.kind else {
            return Err(ANEError::Internal(format!("the state {name:?} is no tensor")));
        };
        let tensor = Tensor::clone(&state.tensors[place]);
        outputs::array(kind, tensor, false).map_err(|why| ANEError::Internal(format!("the state {name:?}: {why}")))
    }

    /// Replaces what the state of this name holds; values become the type that the model declares, as those of inputs do.
    ///
    /// # Errors
    /// As [`CoreMlModel::read_state`]; and [`ANEError::InvalidShape`] and [`ANEError::UnsupportedPrecision`] for an array
    /// that the state does not take. Then it stays as it was.
    pub fn write_state(&self, state: &mut State, name: &str, value: &Array) -> Result<()> {
        let (place, declared) = self.state_place(state, name)?;
        let port = &self.input_ports[self.states[place].input];
        state.tensors[place] = Arc::new(inputs::state(declared, port, value)?);
        Ok(())
    }

    /// The place of a state among a model's states, and what the model says of it.
    fn state_place(&self, state: &State, name: &str) -> Result<(usize, &coreml_format::schema::Feature)> {
        if state.model != self.id {
            return Err(of_another_model());
        }
        if self.carried == Carried::Features {
            return Err(ANEError::InferenceFailed(format!("Core ML does not show what the state {name:?} holds")));
        }
        let place = self.states.iter().position(|binding| binding.name == name);
        let declared = self.interface.states.iter().find(|feature| feature.name == name);
        place.zip(declared).ok_or_else(|| {
            let all: Vec<String> = self.states.iter().map(|binding| format!("{:?}", binding.name)).collect();
            let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            ANEError::InvalidShape(format!("there is no state {name:?}; the model has {all}"))
        })
    }

    /// One tensor for each input port: features, and what the state holds.
    pub(crate) fn tensors<'a>(&'a self, features: &'a Features, state: Option<&'a State>) -> Result<Tensors<'a>> {
        let prepared = inputs::prepare(&self.inputs, &self.input_ports, self.carried, features)?;
        self.arranged(self.inputs.iter().zip(prepared).map(|(binding, tensor)| (binding.port, tensor)), state)
    }

    /// One tensor for each input port, where the model takes one vector.
    pub(crate) fn vector_tensors<'a>(&'a self, values: &'a [f32], samples: usize) -> Result<Tensors<'a>> {
        let port = self.inputs[0].port;
        let tensor = self.vector()?.tensor(values, samples, &self.input_ports[port])?;
        self.arranged(iter::once((port, tensor)), None)
    }

    /// As [`CoreMlModel::vector_tensors`], in memory that the engine may keep hold of, so that it is not copied.
    pub(crate) fn shared_tensors<'a>(
        &'a self,
        memory: &'a Arc<Vec<f32>>,
        len: usize,
        samples: usize,
    ) -> Result<Tensors<'a>> {
        let mut tensors = self.vector_tensors(&memory[..len], samples)?;
        let data = &mut tensors[self.inputs[0].port].data;
        if self.carried == Carried::Features && matches!(data, Data::F32(Cow::Borrowed(_))) {
            *data = Data::Shared(memory, len);
        }
        Ok(tensors)
    }

    /// How the model takes and gives one vector.
    ///
    /// # Errors
    /// [`ANEError::InvalidShape`] for a model of several inputs, or whose input is no vector.
    pub(crate) fn vector(&self) -> Result<&VectorForm> {
        self.vector.as_ref().map_err(|why| ANEError::InvalidShape(why.clone()))
    }

    /// The port of the one input of a model that takes a vector.
    pub(crate) fn vector_port(&self) -> &Port {
        &self.input_ports[self.inputs[0].port]
    }

    fn arranged<'a>(
        &'a self,
        features: impl Iterator<Item = (usize, Tensor<'a>)>,
        state: Option<&'a State>,
    ) -> Result<Tensors<'a>> {
        let state = match state {
            Some(state) if state.model != self.id => {
                return Err(of_another_model());
            }
            Some(state) => state,
            None => self.zeros()?,
        };
        let mut places: SmallVec<[Option<Tensor<'a>>; 4]> = smallvec![None; self.input_ports.len()];
        for (port, tensor) in features {
            places[port] = Some(tensor);
        }
        for (binding, tensor) in self.states.iter().zip(&state.tensors) {
            places[binding.input] = Some(tensor.borrowed());
        }
        let tensors: Option<Tensors<'a>> = places.into_iter().collect();
        tensors.ok_or_else(|| ANEError::Internal("a port of the graph has no feature".to_owned()))
    }

    /// Runs the model on one tensor for each input port.
    pub(crate) fn run(&self, tensors: &[Tensor<'_>], limits: &Limits, take: &mut Take<'_>) -> Result<()> {
        self.engine.run(tensors, limits, take)
    }

    /// Places for the tensor of each output port.
    pub(crate) fn no_results(&self) -> Results {
        vec![None; self.output_ports]
    }

    /// The output features. Tensors that are no state's are moved out of `results`.
    pub(crate) fn collect(&self, results: &mut [Option<Tensor<'static>>]) -> Result<Features> {
        outputs::collect(&self.outputs, results, self.is_fixed())
    }

    /// What the state is after a run.
    pub(crate) fn state_after(&self, before: &State, results: &mut [Option<Tensor<'static>>]) -> State {
        let after = |(binding, old): (&StateBinding, &Arc<Tensor<'static>>)| {
            let new = binding.output.and_then(|port| results[port].take());
            new.map_or_else(|| old.clone(), Arc::new)
        };
        State { model: self.id, tensors: self.states.iter().zip(&before.tensors).map(after).collect() }
    }

    /// Whether every input is an array that may have the shape that is given for it.
    pub(crate) fn takes(&self, shape: impl Fn(&InputBinding) -> Option<Shape>) -> bool {
        self.inputs.iter().all(|input| match &input.feature.kind {
            FeatureKind::MultiArray(kind) => {
                shape(input).is_some_and(|shape| inputs::takes_shape(kind, &self.input_ports[input.port], &shape))
            }
            _ => false,
        })
    }

    /// Whether the model remembers something between predictions.
    pub(crate) fn has_state(&self) -> bool {
        !self.states.is_empty()
    }

    /// The state that every sequence starts with; made once.
    fn zeros(&self) -> Result<&State> {
        let zero = |binding: &StateBinding| {
            if self.carried == Carried::Features {
                let beginning = Tensor::owned(Shape::new(), Data::State(EngineState::default()));
                return Ok(Arc::new(beginning));
            }
            let port = &self.input_ports[binding.input];
            let shape: Option<Vec<usize>> = port.dims.iter().copied().collect();
            let shape =
                shape.ok_or_else(|| ANEError::Internal(format!("the state {:?} has no fixed size", binding.name)))?;
            Tensor::zeros(shape, port.element).map(Arc::new)
        };
        let make = || Ok(State { model: self.id, tensors: self.states.iter().map(zero).collect::<Result<_>>()? });
        self.zeros.get_or_init(make).as_ref().map_err(ANEError::clone)
    }

    /// Whether no input has a choice of shapes, so that outputs have the shapes that the model declares.
    fn is_fixed(&self) -> bool {
        self.inputs.iter().all(|binding| inputs::is_fixed(&binding.feature.kind))
    }
}

impl fmt::Debug for CoreMlModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreMlModel").field("path", &self.path).field("engine", &self.choice).finish_non_exhaustive()
    }
}

/// What a model remembers between predictions. It belongs to one sequence of predictions at a time.
#[derive(Clone, Debug)]
pub struct State {
    model: u64,
    tensors: Vec<Arc<Tensor<'static>>>,
}

/// Memory of a run on inputs of the default shapes.
#[derive(Clone, Debug)]
pub(super) struct WorkingSet {
    pub(super) bytes: usize,
    /// Elements of each input.
    pub(super) elements: Vec<usize>,
}

impl WorkingSet {
    /// From the liveness of each tensor; inputs count too, since a request's are held while it runs.
    pub(super) fn of(lowered: &Lowered, of_live: impl Fn(usize) -> usize) -> WorkingSet {
        let ports = lowered.model.inputs();
        let mut shapes: Vec<Vec<usize>> =
            ports.iter().map(|port| port.dims.iter().map(|dim| dim.unwrap_or(1)).collect()).collect();
        for input in &lowered.inputs {
            match &input.feature.kind {
                FeatureKind::MultiArray(kind) if kind.shape.len() == shapes[input.port].len() => {
                    shapes[input.port].clone_from(&kind.shape);
                }
                FeatureKind::Image(kind) => {
                    shapes[input.port] = vec![1, kind.color.channels(), kind.height, kind.width];
                }
                _ => {}
            }
        }
        let plan = lowered.model.memory_plan(&shapes);
        let inputs = lowered.inputs.iter().map(|input| &shapes[input.port]);
        let elements = inputs.map(|shape| shape.iter().fold(1usize, |n, &d| n.saturating_mul(d)));
        WorkingSet { bytes: of_live(plan.peak_bytes).saturating_add(plan.input_bytes), elements: elements.collect() }
    }
}

/// The first units on which a model runs in a child process, and why not on those before. The CPU needs no trial.
fn probed(model: &Model, options: &LoadOptions) -> Result<(ComputeUnits, Vec<String>)> {
    let Some(probe) = &options.probe else { return Ok((options.compute_units, Vec::new())) };
    let mut fallbacks = Vec::new();
    for &units in options.compute_units.fewer() {
        if units == ComputeUnits::Cpu {
            break;
        }
        let options = LoadOptions { engine: EngineChoice::CoreMl, compute_units: units, ..options.clone() };
        match probe.of(model, &options)?.verdict {
            Verdict::Runs => return Ok((units, fallbacks)),
            bad => fallbacks.push(format!("with {units:?} in a child process {bad}")),
        }
    }
    Ok((ComputeUnits::Cpu, fallbacks))
}

/// A working set for more or less than it was computed for. Activations grow with the first dimension, and no faster
/// than the inputs with others, but for attention.
fn scaled(bytes: usize, by: usize, from: usize) -> usize {
    let scaled = bytes as u128 * by as u128 / from.max(1) as u128;
    usize::try_from(scaled).unwrap_or(usize::MAX)
}

fn of_another_model() -> ANEError {
    ANEError::InvalidShape("the state was made by another model; use its own `new_state`".to_owned())
}

/// One tensor for each input port.
pub(crate) type Tensors<'a> = SmallVec<[Tensor<'a>; 4]>;

/// Asked before weights come into memory, with the bytes of the weights and of the working set of a run.
pub(super) type Admit<'a> = dyn FnMut(usize, usize) -> Result<()> + 'a;

/// A place for the tensor of each output port.
pub(crate) type Results = Vec<Option<Tensor<'static>>>;

/// Keeps an output port's tensor.
pub(crate) fn put(results: &mut Results, port: usize, tensor: Tensor<'_>) -> Result<()> {
    let place = results.get_mut(port);
    let place = place.ok_or_else(|| ANEError::Internal("an engine gave an output too many".to_owned()))?;
    *place = Some(tensor.into_owned());
    Ok(())
}

#[cfg(test)]
impl CoreMlModel {
    /// A lowered model on a fake engine.
    pub(crate) fn on_fake(
        fake: &crate::ane::engines::fake::Fake,
        lowered: Lowered,
        schema: Schema,
        path: &Path,
    ) -> CoreMlModel {
        let choice = Choice { engine: "fake", version: String::new(), reason: "a test".to_owned() };
        CoreMlModel::with_engine(fake, choice, lowered, schema, path, &LoadOptions::default(), |_, _| Ok(())).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ane::{
        engines::{Data, fake::Fake},
        features::{ArrayType, Feature},
    };

    /// A model from the fixtures of an op, on a fake engine.
    fn model(fixture: &str, fake: &Fake) -> CoreMlModel {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../coreml-onnx/tests/ops")
            .join(fixture)
            .join("model.mlpackage");
        let model = Model::open(&path).unwrap();
        let lowered = coreml_onnx::lower(&model, &LowerOptions::default()).unwrap();
        CoreMlModel::on_fake(fake, lowered, model.schema, &path)
    }

    /// Gives every output port what the first input holds.
    fn echo(ports: usize) -> Fake {
        Fake::new(move |inputs| {
            let Data::F32(values) = &inputs[0].data else { panic!("{:?} is not fp32", inputs[0].data) };
            let tensor = Tensor::owned(inputs[0].shape.to_vec(), Data::F32(values.to_vec().into()));
            Ok(vec![tensor; ports])
        })
    }

    fn only_input(model: &CoreMlModel) -> (String, Array) {
        let feature = &model.interface().inputs[0];
        let coreml_format::schema::FeatureKind::MultiArray(kind) = &feature.kind else { panic!("no array") };
        (feature.name.clone(), Array::filled(ArrayType::Float32, kind.shape.clone(), 0.5).unwrap())
    }

    #[test]
    fn features_go_in_and_come_out() {
        let fake = echo(1);
        let model = model("relu/rank1", &fake);
        let (name, array) = only_input(&model);
        let outputs = model.predict(&Features::from_iter([(name, array.clone())])).unwrap();
        assert_eq!(outputs.len(), 1);
        assert_eq!(outputs.iter().next().unwrap().1, &Feature::Array(array));
        assert_eq!(fake.seen().len(), 1);
        assert_eq!(model.engine().to_string(), "fake (a test)");
    }

    #[test]
    fn what_the_model_does_not_take_never_runs() {
        let fake = echo(1);
        let model = model("relu/rank1", &fake);
        let (name, array) = only_input(&model);
        let shape = array.shape().to_vec();
        let longer = Array::filled(ArrayType::Float32, [shape[0] + 1], 0.0).unwrap();
        for (features, message) in [
            (
                Features::new(),
                format!("the input {name:?} is missing: a Float32 array of shape {shape:?}; nothing was given"),
            ),
            (
                Features::from_iter([("y", 1)]),
                format!("there is no input \"y\"; the model takes {name:?} (a Float32 array of shape {shape:?})"),
            ),
            (
                Features::from_iter([(name.as_str(), longer.clone())]),
                format!(
                    "the input {name:?} takes a Float32 array of shape {shape:?}, not a Float32 array of shape {:?}",
                    longer.shape()
                ),
            ),
            (
                Features::from_iter([(name.as_str(), "red")]),
                format!("the input {name:?} takes a Float32 array of shape {shape:?}, not a string"),
            ),
        ] {
            assert_eq!(model.predict(&features), Err(ANEError::InvalidShape(message)));
        }
        assert_eq!(fake.seen(), Vec::<Vec<Tensor<'_>>>::new());
    }

    #[test]
    fn a_wrong_answer_of_an_engine_is_an_error() {
        let short = Fake::new(|_| Ok(vec![Tensor::owned(vec![1], Data::F32(vec![1.0].into()))]));
        let model = model("relu/rank1", &short);
        let error = model.predict(&Features::from_iter([only_input(&model)])).unwrap_err().to_string();
        assert!(error.ends_with(": its shape is [1]"), "{error}");
        let none = Fake::new(|_| Ok(Vec::new()));
        let model = self::model("relu/rank1", &none);
        assert!(matches!(model.predict(&Features::from_iter([only_input(&model)])), Err(ANEError::Internal(_))));
    }

    #[test]
    fn state_lives_on_where_a_prediction_succeeds() {
        // Both ports, of the output and of the state, give the input.
        let fake = echo(2);
        let model = model("write_state/accumulate", &fake);
        let mut state = model.new_state().unwrap();
        let features = Features::from_iter([only_input(&model)]);
        model.predict_with_state(&features, &mut state).unwrap();
        model.predict_with_state(&features, &mut state).unwrap();
        let states: Vec<f32> = fake.seen().iter().map(|inputs| first(&inputs[1])).collect();
        assert_eq!(states, [0.0, 0.5], "it starts at zero and takes what came out");
        assert!(model.predict_within(&features, Some(&mut state), &Limits::within(Duration::ZERO)).is_err());
        assert_eq!(first(&state.tensors[0]), 0.5);
        let name = &model.interface().states[0].name;
        let held = model.read_state(&state, name).unwrap();
        let written = Array::filled(ArrayType::Float32, held.shape(), 2.0).unwrap();
        model.write_state(&mut state, name, &written).unwrap();
        assert_eq!(model.read_state(&state, name).unwrap(), written.convert(held.array_type().unwrap()).unwrap());
        let longer = Array::filled(ArrayType::Float32, [held.len() + 1], 2.0).unwrap();
        assert!(matches!(model.write_state(&mut state, name, &longer), Err(ANEError::InvalidShape(_))));
        assert!(matches!(model.read_state(&state, "none"), Err(ANEError::InvalidShape(_))));
        let other = self::model("write_state/accumulate", &fake);
        assert!(matches!(other.predict_with_state(&features, &mut state), Err(ANEError::InvalidShape(_))));
    }

    fn first(tensor: &Tensor<'_>) -> f32 {
        let Data::F32(values) = &tensor.data else { panic!("{:?} is not fp32", tensor.data) };
        values[0]
    }
}
