//! `ane.Model` and `ane.State`.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use apple_silicon::ane::{
    errors::ANEError,
    features::{Feature, Features},
    infer::ComputeUnits,
    limits::{Cancel, Limits},
    models::{
        Obstacle,
        coreml_model::{self, CoreMlModel, LoadOptions},
    },
};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList},
};

use crate::{errors::exception, interrupt, schema, values};

/// A loaded Core ML model.
///
/// Threads may share it: predictions run side by side, and the GIL is not held while they run.
///
/// Args:
///     path: a ``.mlpackage`` folder, a ``.mlmodel`` file or a compiled ``.mlmodelc`` folder.
///     compute_units: where it would best run: ``"ALL"``, ``"ANE"``, ``"GPU"`` or ``"CPU"``, or a
///         ``coremltools.ComputeUnit``. A preference; off Apple there is the CPU alone.
///     function: the function of a model that has several; its default one where ``None``.
///     engine: ``"auto"``, ``"coreml"``, ``"onnxruntime"`` or ``"rten"``.
///     precision: ``"fp32"`` or ``"fp16"``, which rounds every result to fp16 as the Neural Engine does.
///     compiled: a folder where the compiled model is kept and found by the next load.
///     threads: threads within one operation; the engine's choice where ``None``.
///
/// Raises:
///     ane.ModelNotFound, ane.InvalidModelFormat: nothing there, or a damaged file.
///     ane.CompilationFailed: this machine's engines cannot take the model; the message says why.
#[pyclass(frozen, module = "ane")]
pub(crate) struct Model {
    model: Arc<CoreMlModel>,
}

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (path, *, compute_units=None, function=None, engine="auto", precision=None, compiled=None, threads=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's callers name them")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        compute_units: Option<Bound<'_, PyAny>>,
        function: Option<String>,
        engine: &str,
        precision: Option<&str>,
        compiled: Option<PathBuf>,
        threads: Option<usize>,
    ) -> PyResult<Model> {
        let raise = |e: ANEError| exception(py, &e);
        let threads =
            threads.map(|n| NonZeroUsize::new(n).ok_or_else(|| PyValueError::new_err("threads must be over 0")));
        let options = LoadOptions {
            engine: engine.parse().map_err(raise)?,
            function,
            precision: precision.map(str::parse).transpose().map_err(raise)?,
            compiled,
            compute_units: compute_units.map_or(Ok(ComputeUnits::default()), |units| parse_units(&units))?,
            threads: threads.transpose()?,
            ..LoadOptions::default()
        };
        let (model, raised) = interrupt::run(py, &Cancel::new(), move || CoreMlModel::load(path, &options))?;
        Ok(Model { model: Arc::new(answer(py, model, raised)?) })
    }

    /// Predicts.
    ///
    /// Args:
    ///     inputs: values by the names of the model's inputs; or a list of such dictionaries, a batch. Arrays take
    ///         anything that ``numpy.asarray`` takes, of every type of numbers; images take PIL images and numpy arrays
    ///         of uint8 of the shapes (height, width, 3) and (height, width); other inputs take str, int, float, dict
    ///         and list.
    ///     state: what the model remembers, of ``new_state()``; it is changed where the prediction succeeds. Without
    ///         it, a model with state starts from zeros.
    ///     timeout: seconds after which the prediction ends.
    ///
    /// Returns:
    ///     A dictionary of values by the names of the model's outputs, or a list of them for a batch: numpy arrays of
    ///     the types that the model declares, str, int, float, dict, list, and PIL images (numpy arrays where PIL is
    ///     not installed).
    ///
    /// Raises:
    ///     ane.InvalidShape, ane.UnsupportedPrecision: inputs that the model does not take; nothing has run then.
    ///     ane.Timeout: the time was over.
    ///     ane.InferenceFailed: what went wrong in the engine.
    ///     KeyboardInterrupt: Ctrl-C. ONNX Runtime stops between two operations, rten ends its run first.
    #[pyo3(signature = (inputs, state=None, *, timeout=None))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        state: Option<&Bound<'py, State>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let limits = limits(timeout)?;
        if let Ok(inputs) = inputs.cast::<PyDict>() {
            let features = self.features(inputs)?;
            let outputs = self.predict_one(py, features, state, limits)?;
            return Ok(values::to_python(py, outputs)?.into_any());
        }
        let Ok(batch) = inputs.cast::<PyList>() else {
            let given = inputs.get_type().qualname()?;
            return Err(PyTypeError::new_err(format!("inputs must be a dict, or a list of dicts, not {given}")));
        };
        if state.is_some() {
            return Err(PyTypeError::new_err("a batch takes no state; predict with it one after the other"));
        }
        let features = |inputs: Bound<'py, PyAny>| self.features(inputs.cast::<PyDict>()?);
        let batch: Vec<Features> = batch.iter().map(features).collect::<PyResult<_>>()?;
        let (model, cancel) = (self.model.clone(), Cancel::new());
        let limits = limits.cancelled_by(&cancel);
        let (outputs, raised) = interrupt::run(py, &cancel, move || model.predict_batch_within(&batch, &limits))?;
        let outputs = answer(py, outputs, raised)?;
        let outputs: Vec<_> = outputs.into_iter().map(|one| values::to_python(py, one)).collect::<PyResult<_>>()?;
        Ok(PyList::new(py, outputs)?.into_any())
    }

    /// State of zeros, for ``predict``. It belongs to one sequence of predictions of this model.
    fn new_state(slf: &Bound<'_, Model>) -> PyResult<State> {
        let model = slf.clone().unbind();
        let state = slf.get().model.new_state().map_err(|e| exception(slf.py(), &e))?;
        Ok(State { model, held: Mutex::new(Some(state)) })
    }

    /// What the model takes and gives: an ``ane.Schema``.
    #[getter]
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        schema::schema(py, &self.model)
    }

    /// What the model says of itself: an ``ane.Metadata``.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        schema::metadata(py, &self.model.schema().metadata)
    }

    /// The engine that runs it, and why that one: an ``ane.Engine``.
    #[getter]
    fn engine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        schema::engine(py, self.model.engine())
    }

    /// Where it runs: an ``ane.Placement``.
    #[getter]
    fn placement<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        schema::placement(py, &self.model.placement())
    }

    /// What keeps it from the Neural Engine, a sentence each; empty where nothing is known to.
    #[getter]
    fn obstacles(&self) -> Vec<String> {
        let sentence = |one: &Obstacle| format!("{}; {}", one.message, one.remedy);
        self.model.obstacles().iter().map(sentence).collect()
    }

    /// The path that was loaded.
    #[getter]
    fn path(&self) -> PathBuf {
        self.model.path().to_owned()
    }

    /// What it computes in: ``"fp32"`` or ``"fp16"``.
    #[getter]
    fn precision(&self) -> String {
        self.model.precision().to_string()
    }

    /// Bytes of the weights and of one run on inputs of the default shapes.
    #[getter]
    fn memory_bytes(&self) -> usize {
        self.model.memory_bytes()
    }

    fn __repr__(&self) -> String {
        format!("<ane.Model {:?} on {}>", self.model.path().display().to_string(), self.model.engine())
    }
}

impl Model {
    fn features(&self, inputs: &Bound<'_, PyDict>) -> PyResult<Features> {
        let declared = &self.model.interface().inputs;
        let mut features = Features::new();
        for (name, value) in inputs {
            let name: String = name.extract()?;
            let kind = declared.iter().find(|feature| feature.name == name).map(|feature| &feature.kind);
            // A name that the model does not know is for the library to report.
            let feature = kind.map_or(Ok(Feature::Int64(0)), |kind| values::to_feature(&name, kind, &value))?;
            features.insert(name, feature);
        }
        Ok(features)
    }

    fn predict_one(
        &self,
        py: Python<'_>,
        features: Features,
        state: Option<&Bound<'_, State>>,
        limits: Limits,
    ) -> PyResult<Features> {
        let (model, cancel) = (self.model.clone(), Cancel::new());
        let limits = limits.cancelled_by(&cancel);
        let mut taken = state.map(|state| state.get().take()).transpose()?;
        let work = move || (model.predict_within(&features, taken.as_mut(), &limits), taken);
        let ((outputs, taken), raised) = interrupt::run(py, &cancel, work)?;
        if let Some(state) = state {
            *state.get().held() = taken;
        }
        answer(py, outputs, raised)
    }
}

/// A result, unless a signal's handler has raised something meanwhile.
fn answer<T>(py: Python<'_>, result: Result<T, ANEError>, raised: Option<PyErr>) -> PyResult<T> {
    match raised {
        Some(raised) => Err(raised),
        None => result.map_err(|e| exception(py, &e)),
    }
}

/// What a model remembers between predictions: of ``Model.new_state()``, for ``Model.predict``.
#[pyclass(frozen, module = "ane")]
pub(crate) struct State {
    model: Py<Model>,
    /// `None` while a prediction has it.
    held: Mutex<Option<coreml_model::State>>,
}

#[pymethods]
impl State {
    /// What the state of this name holds, as a numpy array of the type that the model declares.
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let held = self.held();
        let state = held.as_ref().ok_or_else(in_use)?;
        let array = self.model.get().model.read_state(state, name).map_err(|e| exception(py, &e))?;
        values::array_to_python(py, array)
    }

    /// Replaces what the state of this name holds.
    fn write(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let model = &self.model.get().model;
        let array = values::to_array(name, value)?;
        let mut held = self.held();
        let state = held.as_mut().ok_or_else(in_use)?;
        model.write_state(state, name, &array).map_err(|e| exception(py, &e))
    }

    /// The names of the states.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.model.get().model.interface().states.iter().map(|state| state.name.clone()).collect()
    }

    fn __repr__(&self) -> String {
        format!("<ane.State of {:?}>", self.names())
    }
}

impl State {
    fn held(&self) -> MutexGuard<'_, Option<coreml_model::State>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> PyResult<coreml_model::State> {
        self.held().take().ok_or_else(in_use)
    }
}

fn in_use() -> PyErr {
    PyRuntimeError::new_err("the state is in use by another prediction; each sequence of predictions needs its own")
}

fn limits(timeout: Option<f64>) -> PyResult<Limits> {
    let Some(seconds) = timeout else { return Ok(Limits::default()) };
    let wrong = |e| PyValueError::new_err(format!("timeout: {e}"));
    Ok(Limits::within(Duration::try_from_secs_f64(seconds).map_err(wrong)?))
}

/// One of the library's names, or of coremltools'; also as a member of its enumeration.
fn parse_units(units: &Bound<'_, PyAny>) -> PyResult<ComputeUnits> {
    let name: String = match units.extract() {
        Ok(name) => name,
        Err(_) => units.getattr("name").and_then(|name| name.extract()).map_err(|_| {
            PyTypeError::new_err("compute_units must be a name such as \"ALL\", or a coremltools.ComputeUnit")
        })?,
    };
    match name.to_ascii_uppercase().as_str() {
        "CPU_ONLY" => Ok(ComputeUnits::Cpu),
        "CPU_AND_GPU" => Ok(ComputeUnits::Gpu),
        "CPU_AND_NE" => Ok(ComputeUnits::Ane),
        _ => name.parse().map_err(|e: ANEError| exception(units.py(), &e)),
    }
}
