//! How inferences end, and how often.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::ane::errors::ANEError;

/// How an inference ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With its result.
    Succeeded,
    /// With an error.
    Failed(ErrorKind),
    /// Its caller gave it up.
    Cancelled,
}

impl<T> From<&Result<T, ANEError>> for Outcome {
    fn from(result: &Result<T, ANEError>) -> Outcome {
        match result {
            Ok(_) => Outcome::Succeeded,
            Err(error) => Outcome::Failed(error.into()),
        }
    }
}

/// A variant of [`ANEError`], without what it says.
///
/// ```
/// use apple_silicon::ane::{errors::ANEError, metrics::ErrorKind};
///
/// let kind = ErrorKind::from(&ANEError::Timeout(50));
/// assert_eq!((kind, kind.name()), (ErrorKind::Timeout, "timeout"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "they are documented where the errors are")]
pub enum ErrorKind {
    Unavailable,
    ModelNotFound,
    InvalidModelFormat,
    CompilationFailed,
    InferenceFailed,
    Timeout,
    ResourceLimit,
    MemoryAllocationFailed,
    InvalidShape,
    UnsupportedPrecision,
    ModelAlreadyLoaded,
    Internal,
}

impl ErrorKind {
    /// Every kind, in the order of the variants.
    pub const ALL: [ErrorKind; 12] = [
        ErrorKind::Unavailable,
        ErrorKind::ModelNotFound,
        ErrorKind::InvalidModelFormat,
        ErrorKind::CompilationFailed,
        ErrorKind::InferenceFailed,
        ErrorKind::Timeout,
        ErrorKind::ResourceLimit,
        ErrorKind::MemoryAllocationFailed,
        ErrorKind::InvalidShape,
        ErrorKind::UnsupportedPrecision,
        ErrorKind::ModelAlreadyLoaded,
        ErrorKind::Internal,
    ];

    /// Its name in metrics and logs: the variant's, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::ModelNotFound => "model_not_found",
            ErrorKind::InvalidModelFormat => "invalid_model_format",
            ErrorKind::CompilationFailed => "compilation_failed",
            ErrorKind::InferenceFailed => "inference_failed",
            ErrorKind::Timeout => "timeout",
            ErrorKind::ResourceLimit => "resource_limit",
            ErrorKind::MemoryAllocationFailed => "memory_allocation_failed",
            ErrorKind::InvalidShape => "invalid_shape",
            ErrorKind::UnsupportedPrecision => "unsupported_precision",
            ErrorKind::ModelAlreadyLoaded => "model_already_loaded",
            ErrorKind::Internal => "internal",
        }
    }

    /// Whether the request was wrong, so that it says nothing about how well requests are served.
    pub const fn is_callers(self) -> bool {
        match self {
            // Of an inference, it is a preference that makes no sense.
            ErrorKind::CompilationFailed
            | ErrorKind::ModelNotFound
            | ErrorKind::InvalidShape
            | ErrorKind::UnsupportedPrecision
            | ErrorKind::ModelAlreadyLoaded => true,
            ErrorKind::Unavailable
            | ErrorKind::InvalidModelFormat
            | ErrorKind::InferenceFailed
            | ErrorKind::Timeout
            | ErrorKind::ResourceLimit
            | ErrorKind::MemoryAllocationFailed
            | ErrorKind::Internal => false,
        }
    }
}

impl From<&ANEError> for ErrorKind {
    fn from(error: &ANEError) -> ErrorKind {
        match error {
            ANEError::Unavailable => ErrorKind::Unavailable,
            ANEError::ModelNotFound(_) => ErrorKind::ModelNotFound,
            ANEError::InvalidModelFormat(_) => ErrorKind::InvalidModelFormat,
            ANEError::CompilationFailed(_) => ErrorKind::CompilationFailed,
            ANEError::InferenceFailed(_) => ErrorKind::InferenceFailed,
            ANEError::Timeout(_) => ErrorKind::Timeout,
            ANEError::ResourceLimit(_) => ErrorKind::ResourceLimit,
            ANEError::MemoryAllocationFailed(_) => ErrorKind::MemoryAllocationFailed,
            ANEError::InvalidShape(_) => ErrorKind::InvalidShape,
            ANEError::UnsupportedPrecision(_) => ErrorKind::UnsupportedPrecision,
            ANEError::ModelAlreadyLoaded(_) => ErrorKind::ModelAlreadyLoaded,
            ANEError::Internal(_) => ErrorKind::Internal,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many errors of each kind.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ErrorCounts([u64; ErrorKind::ALL.len()]);

impl ErrorCounts {
    /// Those of one kind.
    pub fn of(&self, kind: ErrorKind) -> u64 {
        self.0[kind as usize]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every kind with its count, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorKind, u64)> {
        ErrorKind::ALL.into_iter().zip(self.0)
    }
}

impl fmt::Debug for ErrorCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
    }
}

/// Errors that are being counted.
#[derive(Default)]
pub(super) struct Errors([AtomicU64; ErrorKind::ALL.len()]);

impl Errors {
    pub(super) fn add(&self, kind: ErrorKind) {
        self.0[kind as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn counts(&self) -> ErrorCounts {
        ErrorCounts(std::array::from_fn(|kind| self.0[kind].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_where_they_are_counted() {
        let errors = Errors::default();
        for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind}");
            (0..=place).for_each(|_| errors.add(kind));
        }
        let counts = errors.counts();
        assert_eq!(counts.total(), (1..=12).sum::<u64>());
        assert_eq!((counts.of(ErrorKind::Unavailable), counts.of(ErrorKind::Internal)), (1, 12));
        assert!(counts.iter().map(|(_, count)| count).eq(1..=12));
    }

    #[test]
    fn names_are_the_variants() {
        for kind in ErrorKind::ALL {
            assert_eq!(kind.name().replace('_', ""), format!("{kind:?}").to_lowercase());
        }
    }

    #[test]
    fn errors_have_their_kind() {
        let errors: [fn(String) -> ANEError; 10] = [
            ANEError::ModelNotFound,
            ANEError::InvalidModelFormat,
            ANEError::CompilationFailed,
            ANEError::InferenceFailed,
            ANEError::ResourceLimit,
            ANEError::MemoryAllocationFailed,
            ANEError::InvalidShape,
            ANEError::UnsupportedPrecision,
            ANEError::ModelAlreadyLoaded,
            ANEError::Internal,
        ];
        let others = [ANEError::Unavailable, ANEError::Timeout(5)];
        for error in errors.map(|error| error(String::new())).into_iter().chain(others) {
            let (variant, kind) = (format!("{error:?}"), format!("{:?}", ErrorKind::from(&error)));
            assert_eq!(variant.split('(').next(), Some(&*kind));
        }
    }

    #[test]
    fn results_have_an_outcome() {
        assert_eq!(Outcome::from(&Ok(())), Outcome::Succeeded);
        let failed: Result<(), _> = Err(ANEError::Timeout(5));
        assert_eq!(Outcome::from(&failed), Outcome::Failed(ErrorKind::Timeout));
    }
}
