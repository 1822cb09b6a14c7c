//! What a framework says when it fails.

use std::fmt;

use objc2_foundation::NSError;

/// An `NSError`, with its domain and code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who failed, such as `com.apple.CoreML`.
    pub domain: String,
    /// The domain's number for what failed.
    pub code: i64,
    /// What failed, in the system's words.
    pub message: String,
}

impl Failure {
    /// The domain of failures that this crate finds itself.
    pub const OURS: &str = "apple-frameworks";

    /// A call that the system answered with neither a result nor an error, or with one that makes no sense.
    pub(crate) fn ours(message: impl Into<String>) -> Failure {
        Failure { domain: Failure::OURS.to_owned(), code: 0, message: message.into() }
    }
}

impl From<&NSError> for Failure {
    fn from(error: &NSError) -> Failure {
        let (domain, code) = (error.domain().to_string(), error.code() as i64);
        Failure { domain, code, message: error.localizedDescription().to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.message, self.domain, self.code)
    }
}

impl std::error::Error for Failure {}
