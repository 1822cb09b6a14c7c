//! Models: loading them, checking what they are given, and making features of what they give.

mod compatibility;
pub mod coreml_model;
mod inputs;
mod loaded;
mod outputs;
pub(crate) mod vector;

pub use compatibility::{Obstacle, ObstacleKind};
