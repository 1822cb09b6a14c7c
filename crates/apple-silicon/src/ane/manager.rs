//! The manager: models, and everything that their callers share.
//!
//! It knows which models there are and what they may use together. How a request runs is [`infer`](super::infer)'s
//! business, what fits is the [`Pool`]'s.

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use super::{
    blocking::{on_thread, on_threads, wait},
    compat::{
        coreml::detect_coreml_capabilities,
        iokit::{memory_status, power_status, thermal_status},
    },
    engines::{self, EngineChoice},
    errors::{ANEError, Result},
    features::Features,
    health::{self, Facts, HealthStatus},
    infer::{
        Batching, Buffer, InferenceOptions, InferenceResult, OutputBuffer,
        buffer::{BufferUse, Buffers},
        execute::Call,
        lane::{self, Lane},
        warm::{warm_up, warm_up_together},
        workers::Workers,
    },
    metrics::{
        PerformanceSummary, PerformanceTracker,
        prometheus::{self, BufferReading, Exposition, ModelReading, PoolReading},
    },
    models::coreml_model::{CompilationOptions, CoreMlModel, LoadOptions, State},
    resource_pool::{Admission, Pool, PoolStatistics, Reservation},
};

pub use super::status::{DeviceStatus, ModelInfo, PreloadProgress};

/// What a manager may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ANEConfig {
    /// Inferences that run at a time.
    pub max_concurrent_operations: usize,
    /// Memory for weights, working sets and buffers, in MB of 2^20 bytes.
    pub memory_pool_mb: usize,
    /// Milliseconds from a call until its answer, where its options say nothing.
    pub default_timeout_ms: u64,
}

impl Default for ANEConfig {
    /// Four at a time, 1024 MB, 5 seconds.
    fn default() -> ANEConfig {
        ANEConfig { max_concurrent_operations: 4, memory_pool_mb: 1024, default_timeout_ms: 5000 }
    }
}

/// A loaded model's number. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(u64);

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model {}", self.0)
    }
}

/// How to load a model into a manager, beyond what [`CompilationOptions`] say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelOptions {
    /// Compute units, precision, and where the compiled model is kept.
    pub compilation: CompilationOptions,
    /// The engine, the function and the threads. Its precision, its folder and its number of sessions are not used: the
    /// first two are `compilation`'s, and there is a session for each inference that may run at a time.
    pub load: LoadOptions,
    /// How concurrent requests are gathered.
    pub batching: Batching,
}

impl From<&CompilationOptions> for ModelOptions {
    fn from(compilation: &CompilationOptions) -> ModelOptions {
        ModelOptions { compilation: compilation.clone(), ..ModelOptions::default() }
    }
}

/// Manages models and their inferences: what may run at a time, in how much memory, for how long.
///
/// Clones are the same manager. Its futures need no particular executor, and dropping one at any point gives back
/// everything that it had.
///
/// ```no_run
/// use apple_silicon::ane::manager::ANEManager;
///
/// # async fn example() -> apple_silicon::ane::errors::Result<()> {
/// let manager = ANEManager::new()?;
/// let model = manager.load_model("mobilenet.mlpackage", &Default::default()).await?;
/// let result = manager.execute_inference(model, &[0.5; 3 * 224 * 224], &Default::default()).await?;
/// println!("{:?} in {:.2} ms", &result.output[..5], result.execution_time_ms);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ANEManager {
    shared: Arc<Shared>,
}

struct Shared {
    config: ANEConfig,
    pool: Pool,
    workers: Arc<Workers>,
    buffers: Arc<Buffers>,
    models: RwLock<BTreeMap<ModelId, Arc<Entry>>>,
    /// Models that are being loaded.
    loading: Mutex<Vec<Key>>,
    /// Held while room for weights is looked for.
    reserving: Mutex<()>,
    /// Has one slot, held while the slots of a warm-up are waited for.
    warming: Pool,
    next: AtomicU64,
    tracker: Arc<PerformanceTracker>,
}

/// A loaded model.
struct Entry {
    id: ModelId,
    key: Key,
    lane: Arc<Lane>,
}

/// What makes two loads the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    path: PathBuf,
    load: LoadOptions,
}

/// A share of the pool for one inference of one model, from [`ANEManager::request_admission`]. Dropped, it goes back.
#[derive(Debug)]
#[must_use = "dropping the admission gives its share back"]
pub struct ModelAdmission {
    entry: Arc<Entry>,
    admission: Admission,
}

impl ModelAdmission {
    /// The model that it is for.
    pub fn model(&self) -> ModelId {
        self.entry.id
    }

    /// Bytes of memory that it holds.
    pub fn bytes(&self) -> usize {
        self.admission.bytes()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ANEManager {
    /// A manager with the default configuration.
    ///
    /// # Errors
    /// None today; a machine without any engine would be one.
    pub fn new() -> Result<ANEManager> {
        ANEManager::with_config(ANEConfig::default())
    }

    /// A manager that may use so much.
    ///
    /// # Errors
    /// [`ANEError::ResourceLimit`] for a configuration in which nothing could ever run.
    pub fn with_config(config: ANEConfig) -> Result<ANEManager> {
        for (name, value) in [
            ("max_concurrent_operations", config.max_concurrent_operations as u64),
            ("memory_pool_mb", config.memory_pool_mb as u64),
            ("default_timeout_ms", config.default_timeout_ms),
        ] {
            if value == 0 {
                return Err(ANEError::ResourceLimit(format!(
                    "with {name} = 0 nothing could ever run; give at least 1"
                )));
            }
        }
        Ok(ANEManager {
            shared: Arc::new(Shared {
                pool: Pool::new(config.max_concurrent_operations, config.memory_pool_mb),
                workers: Arc::new(Workers::new(config.max_concurrent_operations)),
                buffers: Arc::default(),
                models: RwLock::default(),
                loading: Mutex::default(),
                reserving: Mutex::default(),
                warming: Pool::new(1, 0),
                next: AtomicU64::new(1),
                tracker: Arc::new(PerformanceTracker::new()),
                config,
            }),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ANEConfig {
        &self.shared.config
    }

    /// Loads a model, on a thread of its own. Dropping the future lets the load end and then be thrown away.
    ///
    /// # Errors
    /// As [`CoreMlModel::load`]; [`ANEError::ModelAlreadyLoaded`] with the number that it has, where the same file is
    /// loaded with the same options; [`ANEError::ResourceLimit`] where the weights and one run do not fit the pool, and
    /// [`ANEError::Timeout`] where runs hold their memory, or all slots, for longer than the default timeout.
    pub async fn load_model(&self, path: impl AsRef<Path>, options: &CompilationOptions) -> Result<ModelId> {
        self.load_model_with(path, &options.into()).await
    }

    /// Loads a model with a choice of engine, function and batching.
    ///
    /// # Errors
    /// As [`ANEManager::load_model`].
    pub async fn load_model_with(&self, path: impl AsRef<Path>, options: &ModelOptions) -> Result<ModelId> {
        let (manager, path, options) = (self.clone(), path.as_ref().to_owned(), options.clone());
        Ok(on_thread("ane-loader", move || manager.load_blocking(&path, &options))?.await??.claim())
    }

    fn load_blocking(&self, path: &Path, options: &ModelOptions) -> Result<Unclaimed> {
        let compilation = options.compilation.to_load_options()?;
        let sessions = NonZeroUsize::new(self.shared.config.max_concurrent_operations).unwrap_or(NonZeroUsize::MIN);
        let load = LoadOptions {
            // Named, so that who names the default loads the same. Core ML's depends on the model.
            precision: compilation.precision.or(engines::default_precision(options.load.engine)),
            compute_units: compilation.compute_units,
            compiled: compilation.compiled,
            max_sessions: sessions,
            ..options.load.clone()
        };
        // A path that is not there is the loader's to explain.
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let loading = Loading::begin(&self.shared, Key { path: canonical, load })?;
        let shared = &*self.shared;
        let mut reservation = None;
        let model = CoreMlModel::load_within(path, &loading.key.load, |weights, working_set| {
            // A pipeline asks again for all that is loaded and what comes next; it must not be counted twice.
            reservation = None;
            reservation = Some(shared.reserve_weights(path, weights, working_set)?);
            Ok(())
        })?;
        if model.engine().engine == EngineChoice::CoreMl.name() {
            // Where there is a plan, results tell it. That there is none is no reason not to run.
            if let Err(error) = model.plan() {
                tracing::debug!("{}: {error}", path.display());
            }
        }
        let weights = reservation.ok_or_else(|| ANEError::Internal("weights were not counted".to_owned()))?;
        let batching = options.batching.for_model(&model, |bytes| match shared.room() {
            room if bytes > room => {
                Err(ANEError::ResourceLimit(format!("a batch takes {bytes} bytes, {room} are there")))
            }
            _ => wait(shared.admit(bytes)),
        })?;
        let slots = shared.config.max_concurrent_operations;
        let trackers = [Arc::new(PerformanceTracker::new()), shared.tracker.clone()].into_iter().collect();
        let (pool, workers) = (shared.pool.clone(), shared.workers.clone());
        let held = lane::Shared { buffers: shared.buffers.clone(), _weights: Some(weights) };
        let lane = Lane::new(Arc::new(model), pool, workers, batching, slots, trackers, held);
        let id = ModelId(shared.next.fetch_add(1, Ordering::Relaxed));
        let entry = Entry { id, key: loading.key.clone(), lane };
        shared.models_mut().insert(id, Arc::new(entry));
        drop(loading);
        tracing::info!(model = id.0, path = %path.display(), "loaded");
        Ok(Unclaimed { manager: Some(self.clone()), id })
    }

    /// Unloads a model. Inferences that have begun end as they would; its memory comes back with the last of them.
    ///
    /// # Errors
    /// [`ANEError::ModelNotFound`] where there is no such model.
    pub fn unload_model(&self, id: ModelId) -> Result<()> {
        let entry = self.shared.models_mut().remove(&id);
        entry.map(drop).ok_or_else(|| self.not_found(id))
    }

    /// The models that are loaded, in the order of their numbers.
    pub fn list_models(&self) -> Vec<ModelInfo> {
        self.shared.entries().iter().map(|entry| entry.info()).collect()
    }

    /// What a model is, among it what it takes and gives: schema, metadata, engine.
    ///
    /// # Errors
    /// [`ANEError::ModelNotFound`] where there is no such model.
    pub fn model(&self, id: ModelId) -> Result<Arc<CoreMlModel>> {
        Ok(self.entry(id)?.lane.model.clone())
    }

    /// Loads models at startup, several at a time, and makes each ready for its first inference. All of them or none:
    /// where one fails, those that this call has loaded are unloaded again.
    ///
    /// # Errors
    /// As [`ANEManager::load_model`], for the first path that fails.
    pub async fn preload_models(&self, paths: &[impl AsRef<Path>]) -> Result<Vec<ModelId>> {
        self.preload_models_with(paths, &ModelOptions::default(), |_| {}).await
    }

    /// Loads models as [`ANEManager::preload_models`] does, and tells after each how far it has come.
    ///
    /// # Errors
    /// As [`ANEManager::load_model`], for the first path that fails.
    pub async fn preload_models_with(
        &self,
        paths: &[impl AsRef<Path>],
        options: &ModelOptions,
        progress: impl Fn(&PreloadProgress) + Send + Sync + 'static,
    ) -> Result<Vec<ModelId>> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.as_ref().to_owned()).collect();
        let (manager, options, total) = (self.clone(), options.clone(), paths.len());
        let loaded = Mutex::new(0);
        let load = move |path: PathBuf| {
            let model = manager.load_blocking(&path, &options)?;
            // A model may be sound and yet fail on zeros.
            if let Err(error) = manager.warm_up_once(model.id) {
                tracing::warn!(path = %path.display(), "not warmed up: {error}");
            }
            // Counted and told under one lock, so that the numbers come in order.
            let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
            *loaded += 1;
            progress(&PreloadProgress { path, loaded: *loaded, total });
            Ok(model)
        };
        let loaded: Result<Vec<Unclaimed>> =
            on_threads("ane-loader", cores(), paths, load).await?.into_iter().collect();
        Ok(loaded?.into_iter().map(Unclaimed::claim).collect())
    }

    /// Makes what a model's first inferences would have to make: runs it on made-up inputs, in every slot at a time, or
    /// in as many as there is memory for. Counts in no metric.
    ///
    /// # Errors
    /// [`ANEError::ModelNotFound`]; [`ANEError::Timeout`] where a slot did not come free within the default timeout;
    /// and whatever an inference can end with.
    pub async fn warm_up(&self, id: ModelId) -> Result<Duration> {
        let (entry, start, timeout) = (self.entry(id)?, Instant::now(), self.default_timeout());
        // One at a time, since two that have half of the slots each would wait for each other.
        let only = self.shared.warming.admit_bytes_within(0, timeout).await?;
        let bytes = entry.lane.model.working_set_bytes_of_default();
        // More than there is memory for never run at a time.
        let fit = self.shared.room().checked_div(bytes).unwrap_or(usize::MAX);
        let mut admissions = Vec::new();
        for _ in 0..fit.clamp(1, self.shared.pool.statistics().slots) {
            admissions.push(self.shared.admit(bytes).await?);
        }
        drop(only);
        warm_up_together(entry.lane.clone(), admissions, timeout).await?;
        Ok(start.elapsed())
    }

    fn warm_up_once(&self, id: ModelId) -> Result<()> {
        let model = &self.entry(id)?.lane.model;
        warm_up(model, wait(self.shared.admit(model.working_set_bytes_of_default()))?)
    }

    /// Waits for a slot and for the memory of one run of the model, with `input_size_mb` on top. The admission is for
    /// [`ANEManager::execute_inference_admitted`].
    ///
    /// # Errors
    /// [`ANEError::ModelNotFound`]; [`ANEError::ResourceLimit`] for what can never fit; [`ANEError::Timeout`] where
    /// nothing came free within the default timeout.
    pub async fn request_admission(&self, id: ModelId, input_size_mb: usize) -> Result<ModelAdmission> {
        let entry = self.entry(id)?;
        let run = entry.lane.model.working_set_bytes_of_default();
        let bytes = input_size_mb.saturating_mul(1 << 20).saturating_add(run);
        let admission = self.shared.admit(bytes).await?;
        Ok(ModelAdmission { entry, admission })
    }

    /// Runs a model on one vector. See [`InferenceOptions`] for deadline, batches and preferences.
    ///
    /// Cost: a copy of the input, and two hand-overs between threads.
    ///
    /// # Errors
    /// [`ANEError::ModelNotFound`]; [`ANEError::InvalidShape`] and [`ANEError::UnsupportedPrecision`] for what the
    /// model does not take; [`ANEError::ResourceLimit`] for what can never fit the pool; [`ANEError::Timeout`] past the
    /// deadline; [`ANEError::InferenceFailed`] for what goes wrong in the engine.
    pub async fn execute_inference(
        &self,
        id: ModelId,
        input: &[f32],
        options: &InferenceOptions,
    ) -> Result<InferenceResult> {
        let entry = self.entry(id)?;
        self.call(&entry, options)?.vector(input).await
    }

    /// Runs a model on one vector, in a share of the pool that was admitted before.
    ///
    /// # Errors
    /// As [`ANEManager::execute_inference`]; and [`ANEError::ResourceLimit`] where the input needs more memory than the
    /// admission holds and the pool has free.
    pub async fn execute_inference_admitted(
        &self,
        admission: ModelAdmission,
        input: &[f32],
        options: &InferenceOptions,
    ) -> Result<InferenceResult> {
        let ModelAdmission { entry, admission } = admission;
        self.call(&entry, options)?.admitted(input, admission).await
    }

    /// Memory for one input, in MB of 2^20 bytes, as floats: zeros, or what its last user left. It counts in the pool.
    ///
    /// # Errors
    /// [`ANEError::ResourceLimit`] where the pool has not so much free.
    pub fn allocate_buffer(&self, size_mb: usize) -> Result<Buffer> {
        self.shared.buffers.allocate(size_mb.saturating_mul(1 << 20), &self.shared.pool)
    }

    /// Runs a model on the beginning of a buffer without a copy: on its default shape, or on as many samples as the
    /// batch size says; the engine reads the buffer. Afterwards it goes back to the manager, as the result's memory
    /// does when that is dropped.
    ///
    /// # Errors
    /// As [`ANEManager::execute_inference`].
    pub async fn execute_inference_buffered(
        &self,
        id: ModelId,
        buffer: Buffer,
        options: &InferenceOptions,
    ) -> Result<InferenceResult<OutputBuffer>> {
        let entry = self.entry(id)?;
        self.call(&entry, options)?.buffered(buffer, &self.shared.buffers).await
    }

    /// Runs a model on named features of any kind. A model with state starts from zeros.
    ///
    /// # Errors
    /// As [`ANEManager::execute_inference`].
    pub async fn predict(
        &self,
        id: ModelId,
        features: Features,
        options: &InferenceOptions,
    ) -> Result<InferenceResult<Features>> {
        let entry = self.entry(id)?;
        self.call(&entry, options)?.features(features, None).await
    }

    /// Runs a model on named features and a state, which it replaces when it has succeeded. A failed, late or dropped
    /// call leaves the state as it was.
    ///
    /// # Errors
    /// As [`ANEManager::execute_inference`].
    pub async fn predict_with_state(
        &self,
        id: ModelId,
        features: Features,
        state: &mut State,
        options: &InferenceOptions,
    ) -> Result<InferenceResult<Features>> {
        let entry = self.entry(id)?;
        self.call(&entry, options)?.features(features, Some(state)).await
    }

    /// How all models have done together since the manager was made, and the memory of the pool that is in use now.
    ///
    /// # Errors
    /// None today.
    pub async fn get_performance_summary(&self) -> Result<PerformanceSummary> {
        let mut summary = self.shared.tracker.summary_at(Instant::now());
        summary.memory_usage_mb = self.shared.pool.statistics().bytes_in_use as f64 / f64::from(1 << 20);
        Ok(summary)
    }

    /// How one model has done, and the memory of its weights.
    ///
    /// # Errors
    /// [`ANEError::ModelNotFound`] where there is no such model.
    pub fn model_performance(&self, id: ModelId) -> Result<PerformanceSummary> {
        let entry = self.entry(id)?;
        let mut summary = entry.lane.trackers[0].summary_at(Instant::now());
        summary.memory_usage_mb = entry.lane.model.weight_bytes() as f64 / f64::from(1 << 20);
        Ok(summary)
    }

    /// Everything that is measured, as text for Prometheus (exposition format 0.0.4). Answer a scrape with it, and with
    /// [`CONTENT_TYPE`](super::metrics::prometheus::CONTENT_TYPE).
    pub fn prometheus(&self) -> String {
        let (pool, buffers) = (self.pool_statistics(), self.buffer_use());
        prometheus::render(&Exposition {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: engines::start(EngineChoice::Auto, None)
                .map_or_else(|_| String::new(), |choice| choice.to_string()),
            pool: PoolReading {
                slots: pool.slots as u64,
                slots_in_use: pool.slots_in_use as u64,
                memory_bytes: pool.bytes as u64,
                memory_in_use_bytes: pool.bytes_in_use as u64,
                waiting: pool.waiting as u64,
                admissions: pool.admissions,
                waits: pool.waits,
                rejections: vec![
                    ("never_fits", pool.rejected_never_fits),
                    ("busy", pool.rejected_busy),
                    ("timed_out", pool.rejected_timed_out),
                    ("closed", pool.rejected_closed),
                ],
            },
            buffers: BufferReading {
                in_use: buffers.used as u64,
                in_use_bytes: buffers.used_bytes as u64,
                idle: buffers.idle as u64,
                idle_bytes: buffers.idle_bytes as u64,
            },
            models: self.shared.entries().iter().map(|entry| entry.reading()).collect(),
        })
    }

    /// What the machine has, and what of the manager's limits is in use. Looks for engines, on a thread of its own.
    ///
    /// # Errors
    /// [`ANEError::MemoryAllocationFailed`] where there is no thread.
    pub async fn get_device_status(&self) -> Result<DeviceStatus> {
        let engines = on_thread("ane-status", engines::installed)?.await?;
        let pool = self.shared.pool.statistics();
        let capabilities = detect_coreml_capabilities();
        Ok(DeviceStatus {
            memory_total_mb: self.shared.config.memory_pool_mb,
            memory_used_mb: megabytes(pool.bytes_in_use),
            max_concurrent_models: self.shared.config.max_concurrent_operations,
            running: pool.slots_in_use,
            waiting: pool.waiting,
            models_loaded: self.shared.entries().len(),
            ane_available: capabilities.ane_available,
            gpu_available: capabilities.gpu_available,
            compute_units: health::available(&capabilities),
            engines,
            thermal: thermal_status(),
            power: power_status(),
            memory: memory_status(),
            capabilities,
        })
    }

    /// Whether all is well, with the reasons where it is not. Asks the machine; see [`compat`](super::compat) for what
    /// that costs.
    ///
    /// # Errors
    /// None today.
    pub async fn health_check(&self) -> Result<HealthStatus> {
        let engine = engines::start(EngineChoice::Auto, None)?;
        let placement = |entry: &Arc<Entry>| {
            let model = &entry.lane.model;
            (model.path().display().to_string(), model.placement())
        };
        let mut fallen_back: Vec<_> = self.shared.entries().iter().map(placement).collect();
        fallen_back.retain(|(_, placement)| !placement.fallbacks.is_empty());
        Ok(health::judge(&Facts {
            fallen_back: &fallen_back,
            capabilities: &detect_coreml_capabilities(),
            thermal: &thermal_status(),
            power: &power_status(),
            memory: &memory_status(),
            pool: &self.shared.pool.statistics(),
            engine: &engine,
            late: self.shared.workers.late(),
            failing: self.shared.tracker.failing(),
        }))
    }

    /// What the pool has given and holds.
    pub fn pool_statistics(&self) -> PoolStatistics {
        self.shared.pool.statistics()
    }

    /// Buffers that are used, and that wait to be used again.
    pub fn buffer_use(&self) -> BufferUse {
        self.shared.buffers.statistics()
    }

    fn default_timeout(&self) -> Duration {
        self.shared.default_timeout()
    }

    fn call<'a>(&self, entry: &'a Entry, options: &InferenceOptions) -> Result<Call<'a>> {
        Call::new(&entry.lane, options, self.default_timeout())
    }

    fn entry(&self, id: ModelId) -> Result<Arc<Entry>> {
        let models = self.shared.models.read().unwrap_or_else(PoisonError::into_inner);
        let entry = models.get(&id).cloned();
        drop(models);
        entry.ok_or_else(|| self.not_found(id))
    }

    fn not_found(&self, id: ModelId) -> ANEError {
        let loaded: Vec<String> = self.shared.entries().iter().map(|entry| entry.id.to_string()).collect();
        let loaded = if loaded.is_empty() { "none is loaded".to_owned() } else { loaded.join(", ") };
        ANEError::ModelNotFound(format!("there is no {id}; there is: {loaded}"))
    }
}

impl fmt::Debug for ANEManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ANEManager").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Shared {
    /// Counts a model's weights. What is not there because others hold it for a while is waited for; what is there only
    /// when something is unloaded is refused.
    fn reserve_weights(&self, path: &Path, weights: usize, working_set: usize) -> Result<Reservation> {
        let needed = weights.saturating_add(working_set);
        let pool = self.pool.statistics();
        if needed > pool.bytes {
            return Err(ANEError::ResourceLimit(format!(
                "{}: it needs {} MB ({} of weights, {} for a run) and the pool has {} MB; give the manager more",
                path.display(),
                megabytes(needed),
                megabytes(weights),
                megabytes(working_set),
                megabytes(pool.bytes)
            )));
        }
        // One at a time, or two would each find room for one.
        let _one = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        self.buffers.trim();
        let reserved = self.pool.statistics().bytes_reserved;
        // Else a model that is loaded could not run any more, and all others would wait behind its requests.
        let largest = self.entries().iter().map(|entry| entry.lane.model.working_set_bytes_of_default()).max();
        let needed = weights.saturating_add(working_set.max(largest.unwrap_or(0)));
        if needed > pool.bytes.saturating_sub(reserved) {
            return Err(ANEError::ResourceLimit(format!(
                "{}: it needs {} MB ({} of weights, {} for a run); of the pool's {} MB other models and buffers hold {}; \
                 unload one, or give the manager more",
                path.display(),
                megabytes(needed),
                megabytes(weights),
                megabytes(working_set),
                megabytes(pool.bytes),
                megabytes(reserved)
            )));
        }
        wait(self.pool.reserve_bytes_within(weights, self.default_timeout()))
    }

    /// Waits for a slot and so many bytes, within the default timeout.
    async fn admit(&self, bytes: usize) -> Result<Admission> {
        let mut waiting = pin!(self.pool.admit_bytes_within(bytes, self.default_timeout()));
        // It waits from its first poll on.
        let first = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
        match first {
            Poll::Ready(admission) => admission,
            Poll::Pending => {
                self.buffers.make_room(&self.pool);
                waiting.await
            }
        }
    }

    /// Bytes that there are for runs, beside what models and buffers hold.
    fn room(&self) -> usize {
        self.buffers.trim();
        let pool = self.pool.statistics();
        pool.bytes.saturating_sub(pool.bytes_reserved)
    }

    fn default_timeout(&self) -> Duration {
        Duration::from_millis(self.config.default_timeout_ms)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn models_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<ModelId, Arc<Entry>>> {
        self.models.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn info(&self) -> ModelInfo {
        let model = &self.lane.model;
        ModelInfo {
            id: self.id,
            path: model.path().to_owned(),
            function: self.key.load.function.clone(),
            engine: model.engine().to_string(),
            compute_unit: model.compute_unit(),
            placement: model.placement(),
            precision: model.precision(),
            weight_bytes: model.weight_bytes(),
            working_set_bytes: model.working_set_bytes_of_default(),
            batching: self.lane.batching,
            waiting: self.lane.waiting(),
        }
    }

    fn reading(&self) -> ModelReading {
        let model = &self.lane.model;
        ModelReading {
            id: self.id.0,
            name: model.path().display().to_string(),
            engine: model.engine().engine.to_owned(),
            weight_bytes: model.weight_bytes() as u64,
            waiting: self.lane.waiting() as u64,
            measurements: self.lane.trackers[0].measurements(),
        }
    }
}

/// A model that was loaded for a caller who has not heard of it. Dropped, it is unloaded again.
struct Unclaimed {
    manager: Option<ANEManager>,
    id: ModelId,
}

impl Unclaimed {
    fn claim(mut self) -> ModelId {
        self.manager = None;
        self.id
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(manager) = self.manager.take() {
            // It is gone where somebody has unloaded it meanwhile.
            let _ = manager.unload_model(self.id);
        }
    }
}

/// Keeps two loads of the same model from going on at a time.
struct Loading<'a> {
    shared: &'a Shared,
    key: Key,
}

impl Loading<'_> {
    fn begin(shared: &Shared, key: Key) -> Result<Loading<'_>> {
        let mut loading = shared.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let path = key.path.display();
        if let Some(entry) = shared.entries().iter().find(|entry| entry.key == key) {
            return Err(ANEError::ModelAlreadyLoaded(format!("{path}: it is loaded already, as {}", entry.id)));
        }
        if loading.contains(&key) {
            return Err(ANEError::ModelAlreadyLoaded(format!("{path}: it is being loaded by another call")));
        }
        loading.push(key.clone());
        drop(loading);
        Ok(Loading { shared, key })
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut loading = self.shared.loading.lock().unwrap_or_else(PoisonError::into_inner);
        loading.retain(|key| *key != self.key);
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn megabytes(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}
