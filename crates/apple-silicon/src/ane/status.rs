//! What a manager tells of itself.

use std::path::PathBuf;

use super::{
    compat::{
        coreml::CoreMlCapabilities,
        iokit::{MemoryStatus, PowerStatus, ThermalStatus},
    },
    engines::Installed,
    infer::{Batching, ComputeUnit, Placement, Precision},
    manager::ModelId,
};

/// A model that a manager holds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Its number.
    pub id: ModelId,
    /// The path that it was loaded from.
    pub path: PathBuf,
    /// The function that runs, where the caller named one.
    pub function: Option<String>,
    /// The engine that runs it, its version, and why it was chosen.
    pub engine: String,
    /// What it runs on, as far as is known.
    pub compute_unit: ComputeUnit,
    /// What was asked, what is planned and what is known.
    pub placement: Placement,
    /// What it computes in.
    pub precision: Precision,
    /// Bytes of its weights.
    pub weight_bytes: usize,
    /// Bytes of the working set of a run on inputs of the default shapes.
    pub working_set_bytes: usize,
    /// What of the batching that was asked for it takes.
    pub batching: Batching,
    /// Requests that wait for it.
    pub waiting: usize,
}

/// What the machine has, and what of a manager's limits is in use.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceStatus {
    /// Memory that the manager may use, in MB of 2^20 bytes.
    pub memory_total_mb: usize,
    /// What of it is in use: weights, working sets and buffers.
    pub memory_used_mb: usize,
    /// Inferences that may run at a time.
    pub max_concurrent_models: usize,
    /// Inferences, or batches of them, that run now.
    pub running: usize,
    /// Runs that wait for a slot or for memory.
    pub waiting: usize,
    /// Models that are loaded.
    pub models_loaded: usize,
    /// Whether there is a Neural Engine, and a way to it.
    pub ane_available: bool,
    /// Whether Core ML has a GPU.
    pub gpu_available: bool,
    /// What models run on, best first.
    pub compute_units: Vec<ComputeUnit>,
    /// Engines in the order in which models get them.
    pub engines: Vec<Installed>,
    /// How hot it is.
    pub thermal: ThermalStatus,
    /// Where power comes from.
    pub power: PowerStatus,
    /// The machine's memory.
    pub memory: MemoryStatus,
    /// What Core ML can do here.
    pub capabilities: CoreMlCapabilities,
}

/// How far a preload has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreloadProgress {
    /// The model that was loaded just now.
    pub path: PathBuf,
    /// Models loaded so far.
    pub loaded: usize,
    /// Models to load.
    pub total: usize,
}
