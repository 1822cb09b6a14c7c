//! What the system is, and how the machine is doing: heat, power and memory.

#[cfg_attr(not(target_vendor = "apple"), path = "no_kernel.rs")]
pub(crate) mod kernel;
mod memory;
mod observation;
mod power;
#[cfg_attr(not(target_os = "macos"), path = "no_supplies.rs")]
mod supplies;
mod thermal;

pub use memory::{MemoryPressure, available_memory, memory_pressure, physical_memory};
pub use observation::Observation;
pub use power::{Battery, Power, PowerSource, low_power_mode, on_low_power_change, power};
pub use thermal::{ThermalState, on_thermal_change, thermal_state};

pub use crate::os::{NAME, Version, build, chip, missing, version};
