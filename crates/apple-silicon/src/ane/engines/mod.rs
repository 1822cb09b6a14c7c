//! Engines: what runs a lowered model.
//!
//! An engine is asked whether it runs a model rightly, loads it and runs it, and that is all: choosing one is
//! `select`'s, limits and checking of features are their callers'. Nothing of an engine's own types leaves its
//! module. Core ML takes a model's file itself; the others take the lowered model.

pub(crate) mod classic;
pub(crate) mod compiled;
#[cfg_attr(any(target_vendor = "apple", gnustep), path = "coreml/mod.rs")]
#[cfg_attr(not(any(target_vendor = "apple", gnustep)), path = "coreml_stub.rs")]
pub(crate) mod coreml;
#[cfg(test)]
pub(crate) mod fake;
mod install;
pub(crate) mod native;
mod onnxruntime;
mod pool;
mod rten;
mod tensor;

use std::{
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    str::FromStr,
};

use coreml_onnx::OnnxModel;

use self::compiled::{CompiledFiles, Signature};
pub use self::install::{Progress, install};
pub(crate) use self::tensor::{Data, EngineState, Shape, Tensor, unsupported};
use super::{
    errors::{ANEError, Result},
    infer::{ComputeUnit, Placement, Precision},
    limits::Limits,
    models::plan::ComputePlan,
};

/// Which engine to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EngineChoice {
    /// Core ML on Apple's systems, where it takes the model; else ONNX Runtime where it is found and loads, else rten.
    #[default]
    Auto,
    /// Core ML: the Neural Engine, the GPU and the CPU of Apple's systems, and of none else.
    CoreMl,
    /// ONNX Runtime, loaded at run time: every operation, and the fastest on convolutional networks.
    OnnxRuntime,
    /// rten, compiled in: pure Rust, most operations, and as fast on transformers.
    Rten,
}

impl EngineChoice {
    /// Every choice, in the order of help texts.
    pub const ALL: [EngineChoice; 4] =
        [EngineChoice::Auto, EngineChoice::CoreMl, EngineChoice::OnnxRuntime, EngineChoice::Rten];

    /// Whether Core ML is asked first.
    pub(crate) fn begins_with_coreml(self) -> bool {
        match self {
            EngineChoice::Auto => coreml::HERE,
            EngineChoice::CoreMl => true,
            EngineChoice::OnnxRuntime | EngineChoice::Rten => false,
        }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            EngineChoice::Auto => "auto",
            EngineChoice::CoreMl => coreml::NAME,
            EngineChoice::OnnxRuntime => onnxruntime::NAME,
            EngineChoice::Rten => rten::NAME,
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EngineChoice {
    type Err = ANEError;

    /// # Errors
    /// [`ANEError::CompilationFailed`] for a name that is not an engine's, with the names there are. `ane` is `coreml`.
    fn from_str(name: &str) -> Result<EngineChoice> {
        match EngineChoice::ALL.into_iter().find(|choice| choice.name() == name) {
            Some(choice) => Ok(choice),
            None if name == "ane" => Ok(EngineChoice::CoreMl),
            None => Err(ANEError::CompilationFailed(format!(
                "there is no engine {name:?}; choose `auto`, `coreml`, `onnxruntime` or `rten`"
            ))),
        }
    }
}

/// The engine that a model got, and why. Its `Display` is one line: `rten 0.27 (ONNX Runtime was not found ...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The engine's name, as on the command line.
    pub engine: &'static str,
    /// The engine's version; empty where it does not tell.
    pub version: String,
    /// Why this one, as half a sentence.
    pub reason: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.version.is_empty() { "" } else { " " };
        write!(f, "{}{space}{} ({})", self.engine, self.version, self.reason)
    }
}

/// An engine on this machine, for `ane engines`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The engine's name, as on the command line.
    pub engine: &'static str,
    /// The file that it would be loaded from; `None` for what is compiled in or was not found.
    pub path: Option<PathBuf>,
    /// Where it was found, as half a sentence.
    pub origin: String,
    /// Its version, where it is known.
    pub version: Option<String>,
    /// Whether it can be used.
    pub status: Status,
}

/// Whether an engine can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// `auto` takes this one.
    Chosen,
    /// It works, or was not tried since another one comes first.
    Available,
    /// It does not work, and why.
    Unusable(String),
}

/// Every engine on this machine in the order in which `auto` looks at them. Loads ONNX Runtime where it is found.
///
/// Cost: a look into some folders; up to a tenth of a second where Python has to be asked.
pub fn installed() -> Vec<Installed> {
    let mut engines: Vec<Installed> = coreml::installed().into_iter().collect();
    for mut engine in onnxruntime::installed() {
        if !engines.is_empty() && engine.status == Status::Chosen {
            engine.status = Status::Available;
        }
        engines.push(engine);
    }
    let chosen = engines.iter().any(|engine| engine.status == Status::Chosen);
    engines.push(Installed {
        engine: rten::NAME,
        path: None,
        origin: "compiled in".to_owned(),
        version: Some(rten::VERSION.to_owned()),
        status: if chosen { Status::Available } else { Status::Chosen },
    });
    engines
}

/// Names the folder of the Python package `onnxruntime`, for programs that run inside a Python: its library is then
/// taken before any other but the one that `ORT_DYLIB_PATH` names. Nothing changes once a library is loaded.
pub fn offer_onnxruntime_package(folder: impl AsRef<Path>) {
    onnxruntime::offer_package(folder.as_ref());
}

/// How an engine loads a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineOptions {
    /// Threads within one operation; the engine's own choice where `None`.
    pub(crate) threads: Option<NonZeroUsize>,
    /// Runs at a time, for engines that need a copy of their state for each.
    pub(crate) max_sessions: NonZeroUsize,
    /// Whether runs are timed node by node, for [`LoadedEngineModel::end_profile`].
    pub(crate) profile: bool,
}

/// How long a node of the engine's graph took in one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeTime {
    /// The run, from 0.
    pub(crate) run: usize,
    /// The node's name, which begins with that of a node before optimisation where the engine has it from there.
    pub(crate) name: String,
    /// The engine's operator.
    pub(crate) operator: String,
    /// Microseconds.
    pub(crate) microseconds: f64,
}

/// What runs models.
pub(crate) trait Engine {
    fn name(&self) -> &'static str;

    fn version(&self) -> String;

    /// Whether it has the type fp16, so that lowering may round through it.
    fn has_fp16(&self) -> bool;

    /// What a run takes whose tensors, by their liveness, take so many bytes at a time.
    fn working_set(&self, live: usize) -> usize {
        live
    }

    /// Whether the engine runs this model, and rightly. The message is one sentence with the operation and what
    /// would help. Cost: a look at each node.
    fn check(&self, model: &OnnxModel) -> Result<(), Refusal>;

    /// Loads a checked model, and lets go of it as soon as it can. Cost: the graph is optimised and the weights are
    /// widened.
    fn load(&self, model: OnnxModel, options: &EngineOptions) -> Result<Box<dyn LoadedEngineModel>>;

    /// What shows in what [`Engine::compile`] writes, besides the model and the engine's version: the build of the
    /// engine and the machine, as far as they matter.
    fn fingerprint(&self) -> String;

    /// Writes a checked model to an empty folder, with all done that [`Engine::open`] is not to do again: it is lowered
    /// and widened, and optimised by engines that can keep that. Cost: as [`Engine::load`], and what is written.
    fn compile(&self, model: &OnnxModel, folder: &Path, options: &EngineOptions) -> Result<()>;

    /// Loads what [`Engine::compile`] has written with the same fingerprint.
    fn open(
        &self,
        files: CompiledFiles,
        signature: &Signature,
        options: &EngineOptions,
    ) -> Result<Box<dyn LoadedEngineModel>>;
}

/// A model that is ready to run, from any thread.
pub(crate) trait LoadedEngineModel: Send + Sync {
    /// Runs the model on one tensor for each input port, and gives the tensor of each output port to `take`, in order.
    /// Waits for a free session where all are taken.
    fn run(&self, inputs: &[Tensor<'_>], limits: &Limits, take: &mut Take<'_>) -> Result<()>;

    /// Runs the model on each of a batch, and gives the tensor of each sample's output port to `take`, in order. Samples
    /// need not have the same shapes.
    fn run_batch(&self, batch: &[&[Tensor<'_>]], limits: &Limits, take: &mut TakeSample<'_>) -> Result<()> {
        let mut each = batch.iter().enumerate();
        each.try_for_each(|(sample, inputs)| self.run(inputs, limits, &mut |port, tensor| take(sample, port, tensor)))
    }

    /// Where it runs.
    fn placement(&self) -> Placement {
        Placement::on_cpu()
    }

    /// What it runs on, as far as is known. Cost: asked for each result, so next to none.
    fn compute_unit(&self) -> ComputeUnit {
        ComputeUnit::Cpu
    }

    /// Whether [`LoadedEngineModel::compute_unit`] is known, and not just planned.
    fn unit_is_certain(&self) -> bool {
        true
    }

    /// What nodes took in the runs since loading with [`EngineOptions::profile`], in the order in which they ran. Once.
    fn end_profile(&self) -> Result<Vec<NodeTime>> {
        Err(ANEError::Unavailable)
    }

    /// Where the system plans to run each operation, where it plans. Cost: the first time as a load.
    fn plan(&self) -> Result<ComputePlan> {
        Err(ANEError::Unavailable)
    }
}

/// Takes the tensor of an output port; engines that keep results in memory of their own lend it.
pub(crate) type Take<'a> = dyn FnMut(usize, Tensor<'_>) -> Result<()> + 'a;

/// Takes the tensor of a sample's output port.
pub(crate) type TakeSample<'a> = dyn FnMut(usize, usize, Tensor<'_>) -> Result<()> + 'a;

/// Why an engine does not take a model: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

impl From<Refusal> for ANEError {
    fn from(refusal: Refusal) -> ANEError {
        ANEError::CompilationFailed(refusal.0)
    }
}

/// Starts the engine that a choice means, so that the first model does not pay for it: ONNX Runtime's library is found
/// and loaded. Done once a process; later calls and loads find it there.
///
/// # Errors
/// [`ANEError::CompilationFailed`] where the engine asked for by name is not there or does not load.
pub fn start(choice: EngineChoice, threads: Option<NonZeroUsize>) -> Result<Choice> {
    if coreml::HERE && choice.begins_with_coreml() {
        return Ok(coreml::choice());
    }
    select(choice, threads).map(|(_, choice)| choice)
}

/// The engine for a choice, ready to load models.
///
/// # Errors
/// [`ANEError::CompilationFailed`] where the engine asked for by name is not there or does not load. `auto` always
/// finds one.
pub(crate) fn select(choice: EngineChoice, threads: Option<NonZeroUsize>) -> Result<(Box<dyn Engine>, Choice)> {
    let (engine, reason): (Box<dyn Engine>, String) = match choice {
        // It takes models by their file, which is not `select`'s business.
        EngineChoice::CoreMl => return Err(ANEError::Unavailable),
        EngineChoice::Rten => (Box::new(rten::Rten), "asked for by name".to_owned()),
        EngineChoice::OnnxRuntime => match onnxruntime::OnnxRuntime::load(threads) {
            Ok(engine) => (Box::new(engine), "asked for by name".to_owned()),
            Err(why) => return Err(ANEError::CompilationFailed(format!("{why}; {INSTALL_HINT}"))),
        },
        EngineChoice::Auto => match onnxruntime::OnnxRuntime::load(threads) {
            Ok(engine) => {
                let reason = format!("found {}", engine.origin());
                (Box::new(engine), reason)
            }
            Err(why) => (Box::new(rten::Rten), format!("{why}; {INSTALL_HINT}")),
        },
    };
    let choice = Choice { engine: engine.name(), version: engine.version(), reason };
    Ok((engine, choice))
}

/// What an engine computes in where nothing is asked for; `None` where that depends on the model.
pub(crate) fn default_precision(choice: EngineChoice) -> Option<Precision> {
    (!choice.begins_with_coreml()).then_some(Precision::Fp32)
}

/// What helps where ONNX Runtime is missing.
const INSTALL_HINT: &str = "`ane engine install` gets it";
