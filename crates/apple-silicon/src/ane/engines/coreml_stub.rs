//! Core ML where there is none.

use super::{
    Choice, Installed,
    native::{NativeModel, NativeRequest},
};
use crate::ane::errors::{ANEError, Result};

pub(super) const NAME: &str = "coreml";

/// Whether Core ML can be here at all.
pub(crate) const HERE: bool = false;

pub(super) fn installed() -> Option<Installed> {
    None
}

pub(crate) fn system_build() -> Option<String> {
    None
}

pub(super) fn choice() -> Choice {
    Choice { engine: NAME, version: String::new(), reason: "part of the system".to_owned() }
}

pub(crate) fn load(_: &NativeRequest<'_>) -> Result<NativeModel> {
    Err(ANEError::Unavailable)
}
