//! ONNX Runtime, loaded at run time.
//!
//! [`discovery`] finds the library, [`runtime`] loads it once for the process, and a [`Model`](model::Model) keeps a
//! pool of sessions that share their weights.

mod cpu;
mod discovery;
mod model;
mod optimized;
mod profile;
mod runtime;

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use coreml_onnx::OnnxModel;

pub(super) use self::discovery::{data_folder, library_name};
use self::{discovery::Origin, model::Model, runtime::Runtime};
use super::{
    Engine, EngineOptions, Installed, LoadedEngineModel, Refusal, Status,
    compiled::{CompiledFiles, Signature},
};
use crate::ane::errors::{ANEError, Result};

/// The engine's name on the command line.
pub(super) const NAME: &str = "onnxruntime";

/// ONNX Runtime, loaded.
pub(super) struct OnnxRuntime {
    runtime: Arc<Runtime>,
}

impl OnnxRuntime {
    /// Loads the library, or takes the one that the process has loaded before.
    ///
    /// # Errors
    /// Half a sentence that says what was looked at and what went wrong.
    pub(super) fn load(threads: Option<NonZeroUsize>) -> Result<OnnxRuntime, String> {
        runtime::get(threads).map(|runtime| OnnxRuntime { runtime })
    }

    /// Where it was found, to follow "found".
    pub(super) fn origin(&self) -> String {
        self.runtime.found.origin.describe().to_owned()
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn has_fp16(&self) -> bool {
        true
    }

    fn version(&self) -> String {
        self.runtime.found.version().unwrap_or_default()
    }

    /// ONNX Runtime has every operator that lowering writes.
    fn check(&self, _: &OnnxModel) -> Result<(), Refusal> {
        Ok(())
    }

    fn load(&self, model: OnnxModel, options: &EngineOptions) -> Result<Box<dyn LoadedEngineModel>> {
        Ok(Box::new(Model::load(self.runtime.clone(), model, options)?))
    }

    /// Optimised graphs are for the CPU that they were made on: weights are laid out for its vector registers.
    fn fingerprint(&self) -> String {
        format!("{}; {}", ort::info(), cpu::describe())
    }

    fn compile(&self, model: &OnnxModel, folder: &Path, options: &EngineOptions) -> Result<()> {
        model::compile(&self.runtime, model, folder, options.threads)
            .map_err(|e| failed("the optimised model was not written", &e))
    }

    fn open(
        &self,
        files: CompiledFiles,
        signature: &Signature,
        options: &EngineOptions,
    ) -> Result<Box<dyn LoadedEngineModel>> {
        Ok(Box::new(Model::open(self.runtime.clone(), files, signature, options)?))
    }
}

/// Names the package `onnxruntime` of the Python that this runs in.
pub(super) fn offer_package(package: &Path) {
    discovery::offer(package);
}

/// What was found, in order. Loads the first that works.
pub(super) fn installed() -> Vec<Installed> {
    let loaded = runtime::get(None);
    let mut found: Vec<Installed> = discovery::candidates()
        .map(|found| {
            let status = match &loaded {
                Ok(runtime) if runtime.found.path == found.path => Status::Chosen,
                Ok(runtime) => match runtime.passed_over.iter().find(|(path, _)| *path == found.path) {
                    Some((_, why)) => Status::Unusable(why.clone()),
                    None => Status::Available,
                },
                Err(why) => Status::Unusable(why.clone()),
            };
            Installed {
                engine: NAME,
                origin: found.origin.describe().to_owned(),
                version: found.version(),
                path: Some(found.path),
                status,
            }
        })
        .collect();
    if found.is_empty() {
        found.push(Installed {
            engine: NAME,
            path: None,
            origin: "not found".to_owned(),
            version: None,
            status: Status::Unusable(format!("it was not found; {}", super::INSTALL_HINT)),
        });
    }
    found
}

/// Loads the library that was just installed and runs nothing with it but a session's creation. Where the process
/// has loaded another one before, there is nothing more to check.
pub(super) fn check_library(path: &Path) -> Result<(), String> {
    let found = discovery::Found { path: path.to_owned(), origin: Origin::Installed };
    let runtime = runtime::get_from(found)?;
    runtime.try_session().map_err(|e| format!("it loads, but makes no session: {e}"))
}

/// An error of `ort` as ours.
fn failed(what: &str, error: &ort::Error) -> ANEError {
    ANEError::CompilationFailed(format!("ONNX Runtime: {what}: {}", error.message()))
}
