//! A model that Core ML has loaded, and how it predicts for many callers.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

use apple_frameworks::{
    Backings, Configuration, ElementType, Failure, Inputs, Model, Outputs, Prediction, Request, State, Units,
};
use coreml_format::{
    ModelKind,
    schema::{ArrayType, ClassLabels, Feature, FeatureKind, ShapeFlexibility},
};

use super::{CORE_ML, not_loaded, not_planned, not_predicted, plan, values};
use crate::ane::{
    engines::{Data, EngineState, LoadedEngineModel, Take, TakeSample, Tensor, native::NativeRequest},
    errors::{ANEError, Result},
    infer::{ComputeUnit, ComputeUnits, Placement},
    limits::Limits,
    models::{coreml_model::Hints, plan::ComputePlan},
};

/// What a model takes and gives.
struct Features {
    inputs: Vec<Feature>,
    outputs: Vec<Feature>,
    labels: Option<ClassLabels>,
    has_state: bool,
    /// Whether results have the shapes that the model declares. Nobody holds networks to theirs.
    checked: bool,
}

impl Features {
    fn of(request: &NativeRequest<'_>) -> Features {
        let interface = request.interface;
        Features {
            inputs: interface.inputs.clone(),
            outputs: interface.outputs.clone(),
            labels: request.labels.cloned(),
            has_state: !interface.states.is_empty(),
            checked: matches!(request.model.kind, ModelKind::Program(_)),
        }
    }

    /// The arrays of fixed shape among a program's outputs, where all inputs have one shape: Core ML can write to ours.
    fn backed(&self) -> Vec<(&str, &[usize], ElementType)> {
        let fixed = |feature: &Feature| match &feature.kind {
            FeatureKind::MultiArray(kind) => kind.flexibility == ShapeFlexibility::Fixed,
            FeatureKind::Image(kind) => kind.flexibility == coreml_format::schema::ImageFlexibility::Fixed,
            _ => true,
        };
        if !self.checked || !self.inputs.iter().all(fixed) {
            return Vec::new();
        }
        let array = |feature: &'_ Feature| match &feature.kind {
            // Arrays without elements have no memory to write to.
            FeatureKind::MultiArray(kind) if fixed(feature) && !kind.shape.is_empty() && !kind.shape.contains(&0) => {
                Some(element(kind.dtype))
            }
            _ => None,
        };
        let backed = self.outputs.iter().filter_map(|feature| match &feature.kind {
            FeatureKind::MultiArray(kind) => Some((feature.name.as_str(), kind.shape.as_slice(), array(feature)?)),
            _ => None,
        });
        backed.collect()
    }
}

fn element(dtype: ArrayType) -> ElementType {
    match dtype {
        ArrayType::Float16 => ElementType::Float16,
        ArrayType::Float32 => ElementType::Float32,
        ArrayType::Float64 => ElementType::Float64,
        ArrayType::Int32 => ElementType::Int32,
        ArrayType::Int8 => ElementType::Int8,
    }
}

/// A loaded model. Where a unit fails, it is loaded for fewer, and goes on.
pub(super) struct Session {
    recipe: Recipe,
    features: Features,
    asked: ComputeUnits,
    current: Mutex<Arc<Loaded>>,
    /// Arrays for outputs that no prediction has.
    idle: Mutex<Vec<Backings>>,
}

/// A model that is loaded for some units.
struct Loaded {
    units: Units,
    runner: Runner,
    /// Why it is not loaded for more.
    fallbacks: Vec<String>,
    plan: OnceLock<Result<ComputePlan, Failure>>,
    /// The model that predicts batches, loaded for the first.
    for_batches: Mutex<Option<Model>>,
}

impl Session {
    /// Loads a compiled model for the units asked for, or for fewer where that fails.
    pub(super) fn load(compiled: &Path, request: &NativeRequest<'_>) -> Result<Session> {
        let function = request.function.map(str::to_owned);
        let recipe = Recipe { compiled: compiled.to_owned(), function, hints: request.hints };
        let current = Mutex::new(Arc::new(recipe.first(&ladder(request.units), request.fallbacks.clone())?));
        Ok(Session { recipe, features: Features::of(request), asked: request.asked, current, idle: Mutex::default() })
    }

    fn current(&self) -> Arc<Loaded> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What to go on with after `failed` has failed with units that are not the last; `None` where there is nothing.
    fn next(&self, failed: &Arc<Loaded>, failure: &Failure) -> Option<Arc<Loaded>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, failed) {
            // Another prediction has gone on already.
            return Some(current.clone());
        }
        let rest: Vec<Units> =
            ladder(self.asked).into_iter().skip_while(|&units| units != failed.units).skip(1).collect();
        let mut fallbacks = failed.fallbacks.clone();
        fallbacks.push(format!("a prediction failed on {}: {failure}", describe(failed.units)));
        tracing::warn!("{}: {}", self.recipe.compiled.display(), fallbacks.last().map_or("", String::as_str));
        let loaded = self.recipe.first(&rest, fallbacks).ok()?;
        *current = Arc::new(loaded);
        Some(current.clone())
    }

    fn predict(
        &self,
        inputs: &[Tensor<'_>],
        loaded: &Arc<Loaded>,
        state: Option<State>,
    ) -> Result<Prediction, Failure> {
        loaded.runner.predict(Request { inputs: self.inputs(inputs)?, state, backings: self.backings()? })
    }

    fn inputs(&self, inputs: &[Tensor<'_>]) -> Result<Inputs, Failure> {
        let named = self.features.inputs.iter().zip(inputs).filter(|(_, tensor)| tensor.data != Data::Absent);
        let named: Result<Vec<_>, Failure> = named
            .map(|(feature, tensor)| Ok((feature.name.as_str(), values::to_value(&feature.kind, tensor)?)))
            .collect();
        Inputs::new(&named?)
    }

    fn read(&self, outputs: &Outputs, take: &mut Take<'_>) -> Result<()> {
        for (port, feature) in self.features.outputs.iter().enumerate() {
            let taken = outputs
                .read(&feature.name, |value| take(port, values::to_tensor(value, self.features.labels.as_ref())?));
            taken.map_err(|e| not_predicted(&e))??;
        }
        Ok(())
    }

    fn backings(&self) -> Result<Option<Backings>, Failure> {
        if let Some(idle) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(Some(idle));
        }
        Backings::new(&self.features.backed())
    }
}

impl LoadedEngineModel for Session {
    fn run(&self, inputs: &[Tensor<'_>], limits: &Limits, take: &mut Take<'_>) -> Result<()> {
        limits.check()?;
        let ports = self.features.inputs.len();
        let mut loaded = self.current();
        let kept = match inputs.get(ports).map(|tensor| &tensor.data) {
            Some(Data::State(kept)) => Some(kept),
            _ => None,
        };
        let outputs = loop {
            let state = match kept {
                Some(kept) => Some(remembered(kept, &loaded)?),
                None if self.features.has_state => Some(loaded.runner.new_state().map_err(|e| not_predicted(&e))?),
                None => None,
            };
            let ended = self.predict(&inputs[..ports], &loaded, state);
            let (failure, state) = match ended {
                Ok(Prediction { result: Ok(outputs), state }) => break (outputs, state),
                Ok(Prediction { result: Err(failure), state }) => (failure, state),
                Err(failure) => (failure, None),
            };
            // What a failed prediction has made of its state is not known, so it is let go.
            let again = state.is_none() && may_be_the_units(&failure);
            let next = again.then(|| self.next(&loaded, &failure)).flatten();
            loaded = next.ok_or_else(|| not_predicted(&failure))?;
        };
        let (outputs, state) = outputs;
        self.read(&outputs, take)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(outputs.into_backings());
        if self.features.has_state {
            let kept = EngineState(Some(Arc::new(Remembered(Mutex::new(state)))));
            take(self.features.outputs.len(), Tensor { shape: Default::default(), data: Data::State(kept) })?;
        }
        Ok(())
    }

    /// Through Core ML's own batches, which it takes from one thread at a time: so a model is kept for them alone.
    fn run_batch(&self, batch: &[&[Tensor<'_>]], limits: &Limits, take: &mut TakeSample<'_>) -> Result<()> {
        limits.check()?;
        let loaded = self.current();
        let inputs: Result<Vec<Inputs>, Failure> = batch.iter().map(|inputs| self.inputs(inputs)).collect();
        let inputs = inputs.map_err(|e| not_predicted(&e))?;
        let mut model = loaded.for_batches.lock().unwrap_or_else(PoisonError::into_inner);
        let model = match &mut *model {
            Some(model) => model,
            none => none.insert(self.recipe.model(loaded.units).map_err(|e| not_loaded(&e))?),
        };
        let outputs = model.predict_batch(&inputs).map_err(|e| not_predicted(&e))?;
        if outputs.len() != batch.len() {
            let (got, asked) = (outputs.len(), batch.len());
            return Err(ANEError::InferenceFailed(format!("Core ML gave {got} predictions for a batch of {asked}")));
        }
        let mut each = outputs.iter().enumerate();
        each.try_for_each(|(sample, outputs)| self.read(outputs, &mut |port, tensor| take(sample, port, tensor)))
    }

    fn placement(&self) -> Placement {
        let loaded = self.current();
        let known = (loaded.units == Units::CpuOnly).then_some(ComputeUnit::Cpu);
        Placement {
            asked: self.asked,
            allowed: allowed(loaded.units),
            planned: loaded.plan.get().and_then(|plan| plan.as_ref().ok()).map(ComputePlan::units).unwrap_or_default(),
            known,
            fallbacks: loaded.fallbacks.clone(),
        }
    }

    fn compute_unit(&self) -> ComputeUnit {
        self.placement().main_unit()
    }

    fn unit_is_certain(&self) -> bool {
        self.current().units == Units::CpuOnly
    }

    fn plan(&self) -> Result<ComputePlan> {
        let loaded = self.current();
        let Recipe { compiled, .. } = &self.recipe;
        let configuration = self.recipe.configuration(loaded.units);
        let plan = loaded.plan.get_or_init(|| plan::of(compiled, &configuration, allowed(loaded.units)));
        plan.clone().map_err(|e| not_planned(&e))
    }
}

/// A state between predictions. The next prediction takes it out and puts another one in its place, so that none can
/// go on from a state that has changed since.
struct Remembered(Mutex<Option<State>>);

fn remembered(kept: &EngineState, loaded: &Loaded) -> Result<State> {
    let Some(kept) = &kept.0 else { return loaded.runner.new_state().map_err(|e| not_predicted(&e)) };
    let kept = kept.downcast_ref::<Remembered>();
    let state = kept.and_then(|kept| kept.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    state.ok_or_else(|| {
        ANEError::InvalidShape(
            "the state was used by another prediction, or by one that failed or came too late, and Core ML has changed \
             it in place; begin with a new state"
                .to_owned(),
        )
    })
}

/// What a model is loaded from, and how.
struct Recipe {
    compiled: PathBuf,
    function: Option<String>,
    hints: Hints,
}

impl Recipe {
    /// Loads the model for the first units that it loads for.
    fn first(&self, ladder: &[Units], mut fallbacks: Vec<String>) -> Result<Loaded> {
        let mut first_failure = None;
        for &units in ladder {
            match self.model(units).and_then(Runner::new) {
                Ok(runner) => {
                    return Ok(Loaded {
                        units,
                        runner,
                        fallbacks,
                        plan: OnceLock::new(),
                        for_batches: Mutex::default(),
                    });
                }
                Err(failure) => {
                    fallbacks.push(format!("it did not load for {}: {failure}", describe(units)));
                    first_failure.get_or_insert(failure);
                }
            }
        }
        Err(first_failure.map_or_else(
            || ANEError::InferenceFailed("no units are left to load the model for".to_owned()),
            |failure| not_loaded(&failure),
        ))
    }

    fn model(&self, units: Units) -> Result<Model, Failure> {
        Model::load(&self.compiled, &self.configuration(units))
    }

    fn configuration(&self, units: Units) -> Configuration {
        let Hints { infrequent_reshapes, fast_prediction, low_precision_accumulation } = self.hints;
        Configuration {
            units,
            function: self.function.clone(),
            display_name: self.compiled.file_stem().and_then(|name| name.to_str()).map(str::to_owned),
            low_precision_accumulation,
            infrequent_reshapes,
            fast_prediction,
        }
    }
}

/// What predicts.
enum Runner {
    /// Predictions go side by side.
    Async(Model),
    /// One at a time, on a thread that has the model for itself.
    Thread(mpsc::Sender<Job>),
}

/// Something for a model's thread to do.
enum Job {
    Predict(Box<Request>, mpsc::SyncSender<Prediction>),
    NewState(mpsc::SyncSender<Result<State, Failure>>),
}

impl Runner {
    fn new(model: Model) -> Result<Runner, Failure> {
        if Model::is_async() {
            return Ok(Runner::Async(model));
        }
        let (send, jobs) = mpsc::channel();
        let serve = move || {
            let mut model = model;
            // Whoever asked may have gone.
            for job in jobs {
                match job {
                    Job::Predict(request, answer) => drop(answer.send(model.predict(*request))),
                    Job::NewState(answer) => drop(answer.send(model.new_state())),
                }
            }
        };
        let spawned = thread::Builder::new().name("ane-coreml".to_owned()).spawn(serve);
        spawned.map_err(|e| own_failure(format!("there is no thread for the model: {e}")))?;
        Ok(Runner::Thread(send))
    }

    /// Predicts, and waits for the end however long it takes: what runs is not to be taken for done.
    fn predict(&self, request: Request) -> Result<Prediction, Failure> {
        let (send, answer) = mpsc::sync_channel(1);
        match self {
            Runner::Async(model) => model.predict_async(request, move |prediction| drop(send.send(prediction)))?,
            Runner::Thread(jobs) => jobs.send(Job::Predict(Box::new(request), send)).map_err(|_| ended())?,
        }
        answer.recv().map_err(|_| ended())
    }

    fn new_state(&self) -> Result<State, Failure> {
        match self {
            Runner::Async(model) => model.new_state(),
            Runner::Thread(jobs) => {
                let (send, answer) = mpsc::sync_channel(1);
                jobs.send(Job::NewState(send)).map_err(|_| ended())?;
                answer.recv().map_err(|_| ended())?
            }
        }
    }
}

fn ended() -> Failure {
    own_failure("a prediction ended without an answer".to_owned())
}

fn own_failure(message: String) -> Failure {
    Failure { domain: Failure::OURS.to_owned(), code: 0, message }
}

/// Whether it may help to predict on fewer units: it was not the features, nor somebody's wish.
fn may_be_the_units(failure: &Failure) -> bool {
    const FEATURE_TYPE: i64 = 1;
    const PREDICTION_CANCELLED: i64 = 11;
    failure.domain != Failure::OURS
        && !(failure.domain == CORE_ML && matches!(failure.code, FEATURE_TYPE | PREDICTION_CANCELLED))
}

/// The units to try, one after the other.
fn ladder(asked: ComputeUnits) -> Vec<Units> {
    asked.fewer().iter().map(|&units| named(units)).collect()
}

fn named(units: ComputeUnits) -> Units {
    match units {
        ComputeUnits::All => Units::All,
        ComputeUnits::Ane => Units::CpuAndNeuralEngine,
        ComputeUnits::Gpu => Units::CpuAndGpu,
        ComputeUnits::Cpu => Units::CpuOnly,
    }
}

fn allowed(units: Units) -> ComputeUnits {
    match units {
        Units::All => ComputeUnits::All,
        Units::CpuAndNeuralEngine => ComputeUnits::Ane,
        Units::CpuAndGpu => ComputeUnits::Gpu,
        Units::CpuOnly => ComputeUnits::Cpu,
    }
}

fn describe(units: Units) -> &'static str {
    match units {
        Units::All => "all units",
        Units::CpuAndNeuralEngine => "the Neural Engine and the CPU",
        Units::CpuAndGpu => "the GPU and the CPU",
        Units::CpuOnly => "the CPU",
    }
}
