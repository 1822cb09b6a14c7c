//! Core ML models on any machine.
//!
//! [`ane`] loads a Core ML model, picks an engine for it and runs it: Core ML's own models, off a Mac too. Compute is
//! fp32 there, and weights that the package stores as fp16 are widened once and shared by everything that runs.

pub mod ane;

/// The example of the front page must compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The examples of the guide must run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/manager.md")]
struct ManagerGuide;
