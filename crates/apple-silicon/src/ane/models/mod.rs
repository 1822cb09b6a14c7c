//! Models: loading them, checking what they are given, and making features of what they give.

mod bound;
mod compatibility;
pub mod coreml_model;
mod inputs;
mod loaded;
mod native;
pub mod numerics;
mod outputs;
mod pipeline;
pub mod plan;
pub mod probe;
pub mod profile;
mod store;
pub(crate) mod vector;

pub use compatibility::{Obstacle, ObstacleKind};
