//! The library's errors: what a caller can act on, and nothing else.

use coreml_format::ReadError;
use coreml_onnx::LowerError;

/// A result of this library.
pub type Result<T, E = ANEError> = std::result::Result<T, E>;

/// What went wrong. Every message names the model, feature or operation, and what to do.
///
/// ```
/// use apple_silicon::ane::{errors::ANEError, models::coreml_model::{CoreMlModel, LoadOptions}};
///
/// let error = CoreMlModel::load("missing.mlpackage", &LoadOptions::default()).unwrap_err();
/// assert!(matches!(error, ANEError::ModelNotFound(_)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ANEError {
    /// There is no Apple Neural Engine here, or no way to it.
    #[error("there is no Apple Neural Engine on this machine; choose the engine `auto`, `onnxruntime` or `rten`")]
    Unavailable,
    /// There is no model at the path, or none with the id.
    #[error("{0}")]
    ModelNotFound(String),
    /// The model's file is damaged, or is no Core ML model.
    #[error("{0}")]
    InvalidModelFormat(String),
    /// The model is sound, but this machine's engines cannot take it.
    #[error("{0}")]
    CompilationFailed(String),
    /// A prediction failed.
    #[error("{0}")]
    InferenceFailed(String),
    /// The deadline passed; with the milliseconds that the call was given.
    #[error("there was no answer within {0} ms; give it more time, a smaller input or a larger pool")]
    Timeout(u64),
    /// More was asked for than the configured limits allow.
    #[error("{0}")]
    ResourceLimit(String),
    /// The system gave no memory.
    #[error("{0}")]
    MemoryAllocationFailed(String),
    /// A feature is missing, unknown or of the wrong kind or shape.
    #[error("{0}")]
    InvalidShape(String),
    /// A value or an element type that the feature does not take.
    #[error("{0}")]
    UnsupportedPrecision(String),
    /// A model with this id is loaded already.
    #[error("{0}")]
    ModelAlreadyLoaded(String),
    /// A fault of this library or of an engine; please report it.
    #[error("{0}")]
    Internal(String),
}

impl ANEError {
    /// Names the model in an error that came from below it.
    pub(crate) fn of_model(self, path: &std::path::Path) -> ANEError {
        match self {
            ANEError::CompilationFailed(why) => ANEError::CompilationFailed(format!("{}: {why}", path.display())),
            ANEError::InvalidShape(why) => ANEError::InvalidShape(format!("{}: {why}", path.display())),
            ANEError::UnsupportedPrecision(why) => ANEError::UnsupportedPrecision(format!("{}: {why}", path.display())),
            other => other,
        }
    }
}

impl From<ReadError> for ANEError {
    fn from(error: ReadError) -> ANEError {
        let message = error.to_string();
        match error {
            ReadError::NotFound { .. } => ANEError::ModelNotFound(message),
            _ => ANEError::InvalidModelFormat(message),
        }
    }
}

impl From<LowerError> for ANEError {
    fn from(error: LowerError) -> ANEError {
        ANEError::CompilationFailed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_crates_below_fold_in() {
        let missing = ReadError::NotFound { path: "a.mlmodel".into(), hint: String::new() };
        assert_eq!(ANEError::from(missing), ANEError::ModelNotFound("a.mlmodel: no such file".into()));
        let damaged = ReadError::Invalid { path: "a.mlmodel".into(), reason: "is empty".into() };
        assert_eq!(ANEError::from(damaged), ANEError::InvalidModelFormat("a.mlmodel: is empty".into()));
        let other = LowerError::Model("tree ensembles are not offered".into());
        assert_eq!(ANEError::from(other), ANEError::CompilationFailed("tree ensembles are not offered".into()));
    }
}
