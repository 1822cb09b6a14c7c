//! Models: loading them, checking what they are given, and making features of what they give.

pub mod coreml_model;
mod inputs;
mod outputs;
