//! Reads and validates Core ML models.
//!
//! [`Model::open`] takes a `.mlmodel` file, a `.mlpackage` or a compiled `.mlmodelc` folder and gives its schema,
//! its metadata and what it is made of: the operations of an ML Program or a neural network, the parameters of a
//! classic model, the stages of a pipeline. Weights are memory-mapped and referred to; nothing copies them to look at
//! them. What [`Model::open`] returns is checked: every reference resolves, every weight lies inside its file and has
//! the size that its type says.
//!
//! This crate knows nothing of engines or of ONNX.

pub mod classic;
mod compiled;
mod description;
mod dtype;
mod error;
pub mod mil;
mod mlmodel;
mod model;
pub mod nn;
mod package;
mod pb;
pub mod schema;
mod source;
pub mod spec;
pub mod stats;
mod tensor;
mod weights;

pub use dtype::DType;
pub use error::ReadError;
pub use model::{Model, ModelKind};
pub use tensor::Tensor;
