//! Core ML: the Neural Engine, the GPU and the CPU of Apple's systems.
//!
//! It takes a model's file itself: [`store`] keeps what Core ML compiled from it, a [`Session`](session::Session) runs it,
//! and [`values`] translates. All that is `unsafe` is in the crate `apple_frameworks`.

mod plan;
mod session;
mod store;
mod values;

use apple_frameworks::{Failure, system};

use self::{session::Session, store::Store};
use super::{
    Choice, Installed, Status,
    native::{Found, NativeModel, NativeRequest},
};
use crate::ane::errors::{ANEError, Result};

pub(super) const NAME: &str = "coreml";

/// Whether Core ML can be here at all.
pub(crate) const HERE: bool = true;

pub(super) fn installed() -> Option<Installed> {
    Some(Installed {
        engine: NAME,
        path: None,
        origin: "part of the system".to_owned(),
        version: Some(system::version().to_string()),
        status: Status::Chosen,
    })
}

/// Compiles a model, or finds it compiled, and loads it.
///
/// # Errors
/// [`ANEError::CompilationFailed`] with what Core ML says, its domain and code.
pub(crate) fn load(request: &NativeRequest<'_>) -> Result<NativeModel> {
    if request.model.path.extension().is_some_and(|suffix| suffix == "mlmodelc") {
        let session = Session::load(&request.model.path, request)?;
        return Ok(NativeModel { engine: Box::new(session), choice: choice(), compiled: None });
    }
    let store = Store::open(request.store)?;
    let (mut path, mut found) = store.compiled(request)?;
    let mut session = Session::load(&path, request);
    if let (Err(error), Found::Already) = (&session, found) {
        // It may have been damaged since.
        tracing::warn!("{} does not load and is made anew: {error}", path.display());
        store.discard(&path).map_err(|e| store.unwritable(&e))?;
        (path, found) = store.compiled(request)?;
        session = Session::load(&path, request);
    }
    let (session, compiled) = (session?, Some((path, found)));
    Ok(NativeModel { engine: Box::new(session), choice: choice(), compiled })
}

/// The build of the system, which changes with every update.
pub(crate) fn system_build() -> Option<String> {
    system::build()
}

/// Core ML as a choice.
pub(super) fn choice() -> Choice {
    Choice { engine: NAME, version: system::version().to_string(), reason: "part of the system".to_owned() }
}

/// What failed, with what the caller can do about it.
fn explained(failure: &Failure) -> String {
    let advice = match (failure.domain.as_str(), failure.code) {
        (CORE_ML, 1) => "; check the features against `ane inspect`",
        (CORE_ML, 3) => "; look whether the model's files can be read and the disk has room",
        (CORE_ML, 4 | 5) => "; it needs code of its own, which this library does not have",
        (CORE_ML, 8 | 9) => "; it is encrypted, which this library does not undo",
        (CORE_ML, 0) => "; try other compute units, or the engine `onnxruntime`, which says which operation it is",
        _ => "",
    };
    format!("{failure}{advice}")
}

/// The domain of Core ML's own errors; their codes are those of `MLModelError`.
const CORE_ML: &str = "com.apple.CoreML";

/// A failed load or compilation.
fn not_loaded(failure: &Failure) -> ANEError {
    ANEError::CompilationFailed(format!("Core ML does not load it: {}", explained(failure)))
}

/// A plan that was not made.
fn not_planned(failure: &Failure) -> ANEError {
    ANEError::CompilationFailed(format!("Core ML makes no plan: {}", explained(failure)))
}

/// A failed prediction.
fn not_predicted(failure: &Failure) -> ANEError {
    let why = format!("Core ML did not predict: {}", explained(failure));
    match (failure.domain.as_str(), failure.code) {
        (CORE_ML, 1) => ANEError::InvalidShape(why),
        _ => ANEError::InferenceFailed(why),
    }
}
