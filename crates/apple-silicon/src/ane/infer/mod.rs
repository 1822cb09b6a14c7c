//! Running models for many callers.
//!
//! A request goes one way: [`execute`] checks it, the lane of its model queues it, a thread takes it and what can be
//! joined with it, the model runs once, and the caller's future has the answer. Knows models and the pool; the manager
//! knows which models there are.

mod batch;
pub(crate) mod buffer;
pub mod execute;
mod kept;
pub(crate) mod lane;
mod placement;
mod preferences;
mod request;
mod run;
#[cfg(test)]
mod tests;
pub(crate) mod warm;
pub(crate) mod workers;

pub use self::{
    batch::Batching,
    buffer::{Buffer, BufferUse, OutputBuffer},
    execute::{InferenceOptions, InferenceResult, Timing, execute_inference},
    placement::{Placement, PlannedUnit},
    preferences::{ComputeUnit, ComputeUnits, Precision},
};
