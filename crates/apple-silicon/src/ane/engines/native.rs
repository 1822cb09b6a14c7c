//! Engines that take a model's file itself, and what such an engine is asked for.

use std::path::{Path, PathBuf};

use coreml_format::{
    Model,
    schema::{ClassLabels, Interface},
};

use super::{Choice, LoadedEngineModel};
use crate::ane::{infer::ComputeUnits, models::coreml_model::Hints};

/// A model to load.
#[cfg_attr(not(any(target_vendor = "apple", gnustep)), expect(dead_code, reason = "Core ML's engine alone reads it"))]
pub(crate) struct NativeRequest<'a> {
    pub(crate) model: &'a Model,
    /// Inputs and outputs of the function; ports are numbered in this order, and one for the state follows both.
    pub(crate) interface: &'a Interface,
    pub(crate) labels: Option<&'a ClassLabels>,
    pub(crate) function: Option<&'a str>,
    pub(crate) asked: ComputeUnits,
    /// What to begin with: what was asked, but for what is known not to work.
    pub(crate) units: ComputeUnits,
    /// Why it is less, half a sentence each.
    pub(crate) fallbacks: Vec<String>,
    pub(crate) hints: Hints,
    /// The folder for what is compiled; the user's own where `None`.
    pub(crate) store: Option<&'a Path>,
    /// A hash of the model's content.
    pub(crate) content: &'a dyn Fn() -> std::io::Result<String>,
}

/// A model that is loaded.
pub(crate) struct NativeModel {
    pub(crate) engine: Box<dyn LoadedEngineModel>,
    pub(crate) choice: Choice,
    /// Where its compiled form is kept, and whether it was there.
    pub(crate) compiled: Option<(PathBuf, Found)>,
}

/// Whether something was there already.
#[cfg_attr(not(any(target_vendor = "apple", gnustep)), expect(dead_code, reason = "Core ML's engine alone makes it"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Already,
    MadeNow,
}
