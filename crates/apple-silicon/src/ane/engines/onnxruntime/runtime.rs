//! The library, loaded once for the process, with one environment and one pool of threads.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ort::{
    environment::{Environment, GlobalThreadPoolOptions},
    logging::LogLevel,
    session::{
        Session,
        builder::{AutoDevicePolicy, SessionBuilder},
    },
};
use tracing::level_filters::LevelFilter;

use super::discovery::{self, Found, Origin};

/// ONNX Runtime as the process has loaded it.
pub(super) struct Runtime {
    environment: Environment,
    pub(super) found: Found,
    /// Libraries that came first but do not work, and why.
    pub(super) passed_over: Vec<(PathBuf, String)>,
    /// Threads of the shared pool; ONNX Runtime's choice where `None`.
    threads: Option<NonZeroUsize>,
}

/// `ort` takes one library and one environment for the life of the process.
static RUNTIME: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);

/// The runtime that is loaded, or the first one found that loads. `threads` counts for the first load.
pub(super) fn get(threads: Option<NonZeroUsize>) -> Result<Arc<Runtime>, String> {
    let mut loaded = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*loaded {
        return Ok(runtime.clone());
    }
    let mut passed_over = Vec::new();
    for found in discovery::candidates() {
        match Runtime::load(&found, threads) {
            Ok(environment) => {
                let runtime = Arc::new(Runtime { environment, found, passed_over, threads });
                return Ok(loaded.insert(runtime).clone());
            }
            // Who names a library wants that one.
            Err(why) if found.origin == Origin::Variable => {
                return Err(format!("the ONNX Runtime that ORT_DYLIB_PATH names does not load: {why}"));
            }
            Err(why) => passed_over.push((found.path, why)),
        }
    }
    match passed_over.into_iter().next() {
        Some((_, why)) => Err(format!("ONNX Runtime was found but does not load: {why}")),
        None => Err("ONNX Runtime was not found".to_owned()),
    }
}

/// The runtime that is loaded, or else this one.
pub(super) fn get_from(found: Found) -> Result<Arc<Runtime>, String> {
    let mut loaded = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*loaded {
        return Ok(runtime.clone());
    }
    let environment = Runtime::load(&found, None)?;
    let runtime = Runtime { environment, found, passed_over: Vec::new(), threads: None };
    Ok(loaded.insert(Arc::new(runtime)).clone())
}

impl Runtime {
    fn load(found: &Found, threads: Option<NonZeroUsize>) -> Result<Environment, String> {
        if !found.path.is_file() {
            return Err(format!("{}: no such file", found.path.display()));
        }
        let environment = ort::init_from(&found.path).map_err(|e| e.to_string())?;
        let environment = environment
            .with_name("ane")
            .with_telemetry(false)
            .with_global_thread_pool(thread_pool(threads).map_err(|e| e.to_string())?)
            .with_logger(Arc::new(|level, category: &str, _: &str, place: &str, message: &str| {
                log(level, category, place, message);
            }))
            .build()
            .map_err(|e| e.to_string())?;
        environment.set_log_level(wanted_level());
        Ok(environment)
    }

    /// A builder with what all our sessions have in common.
    pub(super) fn session(&self, threads: Option<NonZeroUsize>) -> ort::Result<SessionBuilder> {
        // On a Mac `ort` would else give the graph to Core ML behind our back.
        let builder = Session::builder(&self.environment)?
            .with_auto_device(AutoDevicePolicy::PreferCPU)?
            .with_log_level(wanted_level())?;
        match threads {
            // The shared pool has another number of threads, so this session has its own.
            Some(n) if self.threads != threads => {
                Ok(builder.with_independent_thread_pool()?.with_intra_threads(n.get())?)
            }
            _ => Ok(builder),
        }
    }

    /// Makes a session of the smallest model there is.
    pub(super) fn try_session(&self) -> ort::Result<()> {
        self.session(None)?.commit_from_memory(SMALLEST_MODEL).map(drop)
    }
}

/// `y = Identity(x)` with IR version 9, opset 20 and `x` of type fp32 and shape [1].
const SMALLEST_MODEL: &[u8] = b"\x08\x09:7\x0a\x10\x0a\x01x\x12\x01y\"\x08Identity\x12\x01g\
Z\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01b\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
B\x04\x0a\x00\x10\x14";

fn thread_pool(threads: Option<NonZeroUsize>) -> ort::Result<GlobalThreadPoolOptions> {
    let pool = GlobalThreadPoolOptions::default().with_inter_threads(1)?;
    match threads {
        Some(n) => pool.with_intra_threads(n.get()),
        None => Ok(pool),
    }
}

/// What a subscriber wants to see at most, so that ONNX Runtime does not format what nobody reads.
fn wanted_level() -> LogLevel {
    match LevelFilter::current() {
        LevelFilter::OFF => LogLevel::Fatal,
        LevelFilter::ERROR => LogLevel::Error,
        LevelFilter::WARN | LevelFilter::INFO => LogLevel::Warning,
        LevelFilter::DEBUG => LogLevel::Info,
        _ => LogLevel::Verbose,
    }
}

fn log(level: LogLevel, category: &str, place: &str, message: &str) {
    match level {
        LogLevel::Verbose => tracing::trace!(target: "onnxruntime", category, place, "{message}"),
        LogLevel::Info => tracing::debug!(target: "onnxruntime", category, place, "{message}"),
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", category, place, "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "onnxruntime", category, place, "{message}"),
    }
}
