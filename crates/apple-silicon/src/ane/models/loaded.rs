//! A model with what it takes to run it for many callers.

use std::{
    fmt,
    num::NonZeroUsize,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    thread,
    time::Instant,
};

use super::coreml_model::{CoreMlModel, LoadOptions};
use crate::ane::{
    blocking::wait,
    errors::Result,
    infer::{Batching, ComputeUnits, Precision, lane::Lane, workers::Workers},
    metrics::{PerformanceSummary, PerformanceTracker},
    resource_pool::Pool,
};

/// How to compile a model. Off Apple that means to lower and to optimise it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompilationOptions {
    /// Where it would best run: "ANE", "GPU", "CPU" or "ALL". A preference, as in Core ML.
    pub compute_units: Option<String>,
    /// The precision that is good enough. Engines on the CPU compute in "fp32"; with "fp16" they round every result to
    /// fp16, as the Neural Engine does, so that its numbers can be seen; on rten what is too large for fp16 stays as it is
    /// instead of becoming infinite. "int8" is refused: no engine here computes in it.
    pub minimum_precision: Option<String>,
    /// A folder in which the compiled model is kept. The next load with the same options finds it there, and skips
    /// what was done. Entries are keyed by the model's content, the options, the engine's version and the CPU.
    pub output_path: Option<PathBuf>,
}

impl CompilationOptions {
    /// The options of a load.
    pub(crate) fn to_load_options(&self) -> Result<LoadOptions> {
        Ok(LoadOptions {
            compute_units: ComputeUnits::of(self.compute_units.as_deref())?,
            precision: Precision::of(self.minimum_precision.as_deref())?,
            compiled: self.output_path.clone(),
            ..LoadOptions::default()
        })
    }
}

/// A loaded model that no manager holds, for [`execute_inference`](crate::ane::infer::execute_inference). It derefs to
/// the [`CoreMlModel`], which tells its schema and metadata and predicts on the caller's own thread.
pub struct LoadedModel {
    lane: Arc<Lane>,
}

impl LoadedModel {
    /// Makes a model ready for many callers. What may be batched is tried out; see [`Batching`].
    pub fn new(model: CoreMlModel, batching: Batching) -> LoadedModel {
        let Standalone { pool, workers, slots } = &*STANDALONE;
        let batching = batching.for_model(&model, |bytes| wait(pool.admit_bytes(bytes))).unwrap_or(Batching::OFF);
        let trackers = [Arc::new(PerformanceTracker::new())].into_iter().collect();
        let (pool, workers) = (pool.clone(), workers.clone());
        let shared = Default::default();
        LoadedModel { lane: Lane::new(Arc::new(model), pool, workers, batching, *slots, trackers, shared) }
    }

    /// How its inferences have done.
    pub fn performance(&self) -> PerformanceSummary {
        self.lane.trackers[0].summary_at(Instant::now())
    }

    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }
}

impl Deref for LoadedModel {
    type Target = CoreMlModel;

    fn deref(&self) -> &CoreMlModel {
        &self.lane.model
    }
}

impl fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModel")
            .field("path", &self.path())
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}

/// What models share that no manager holds.
struct Standalone {
    pool: Pool,
    workers: Arc<Workers>,
    slots: usize,
}

static STANDALONE: LazyLock<Standalone> = LazyLock::new(|| {
    let slots = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Standalone { pool: Pool::with_bytes(slots, usize::MAX), workers: Arc::new(Workers::new(slots)), slots }
});

/// Loads a model, and compiles it where no compiled one is found in `output_path`.
///
/// ```no_run
/// use apple_silicon::ane::models::coreml_model::{CompilationOptions, estimate_memory_usage, load_model};
///
/// # fn main() -> apple_silicon::ane::errors::Result<()> {
/// let model = load_model("mobilenet.mlpackage", &CompilationOptions::default())?;
/// println!("{} MB, on {}", estimate_memory_usage(&model), model.engine());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`CoreMlModel::load`]; and [`ANEError::UnsupportedPrecision`](crate::ane::errors::ANEError::UnsupportedPrecision)
/// for a precision that no engine here computes in.
pub fn load_model(path: impl AsRef<Path>, options: &CompilationOptions) -> Result<LoadedModel> {
    let model = CoreMlModel::load(path, &options.to_load_options()?)?;
    Ok(LoadedModel::new(model, Batching::default()))
}

/// Whether the Neural Engine can take the model, as far as its structure tells: its kind, types, shapes and sizes.
///
/// # Errors
/// The first obstacle as the error that fits it: [`ANEError::UnsupportedPrecision`], [`ANEError::InvalidShape`] or
/// [`ANEError::CompilationFailed`]. The message lists all of them, and what to do.
///
/// [`ANEError::UnsupportedPrecision`]: crate::ane::errors::ANEError::UnsupportedPrecision
/// [`ANEError::InvalidShape`]: crate::ane::errors::ANEError::InvalidShape
/// [`ANEError::CompilationFailed`]: crate::ane::errors::ANEError::CompilationFailed
pub fn validate_ane_compatibility(model: &CoreMlModel) -> Result<()> {
    super::compatibility::verdict(model.obstacles()).map_err(|e| e.of_model(model.path()))
}

/// Memory that the model takes while it runs once, in MB of 2^20 bytes, rounded up: its weights and the working set of
/// a run. Both were computed at load, so asking costs a few nanoseconds.
pub fn estimate_memory_usage(model: &CoreMlModel) -> usize {
    model.memory_bytes().div_ceil(1 << 20)
}
