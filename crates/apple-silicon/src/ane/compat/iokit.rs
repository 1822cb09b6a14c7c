//! How this machine is doing: heat, power and memory.
//!
//! Named after the framework that answers on Apple's systems, with Foundation and the kernel. On Linux the kernel's
//! files do, and elsewhere nothing: then everything is unknown, and `reason` says why. Nothing is guessed.

use std::fmt;

use super::os;

/// How warm the machine is, and whether that slows it down.
///
/// Never fails. Cost: on Linux the files of each thermal zone, cooling device and hardware monitor are read: 0.4 ms
/// for 12 zones and 20 devices, measured on files in memory. What a sensor takes to answer comes on top.
///
/// ```
/// use apple_silicon::ane::compat::iokit::{ThermalState, thermal_status};
///
/// let thermal = thermal_status();
/// if thermal.state >= ThermalState::Serious {
///     println!("less work would be kind: {}", thermal.reason);
/// }
/// ```
pub fn thermal_status() -> ThermalStatus {
    os::thermal()
}

/// Calls back with the new status whenever the thermal state changes, until the watch is dropped; `None` where the
/// system tells of no changes, which is everywhere but on Apple's systems. There, ask [`thermal_status`] now and then.
///
/// The call comes from a thread of the system's, which it should not keep. One that is under way when the watch is
/// dropped still comes to its end.
///
/// ```
/// use apple_silicon::ane::compat::iokit::{ThermalState, on_thermal_change};
///
/// let watch = on_thermal_change(|status| {
///     if status.state >= ThermalState::Serious {
///         eprintln!("less work would be kind: {}", status.reason);
///     }
/// });
/// if watch.is_none() {
///     println!("this system has to be asked");
/// }
/// ```
pub fn on_thermal_change(callback: impl Fn(ThermalStatus) + Send + Sync + 'static) -> Option<ThermalWatch> {
    os::on_thermal_change(callback).map(|observation| ThermalWatch { _observation: observation })
}

/// What the machine runs on.
///
/// Never fails. Cost: on Linux a few files for each adapter and battery are read, about 0.06 ms for one of each.
///
/// ```
/// use apple_silicon::ane::compat::iokit::{PowerSource, power_status};
///
/// let power = power_status();
/// if power.source == PowerSource::Battery {
///     println!("on battery: {:?} %", power.battery_percent);
/// }
/// ```
pub fn power_status() -> PowerStatus {
    os::power()
}

/// How much memory this process can still get.
///
/// Never fails. Cost: on Linux three files are read, and four for each control group above this process: about
/// 0.05 ms.
///
/// ```
/// use apple_silicon::ane::compat::iokit::{MemoryPressure, memory_status};
///
/// let memory = memory_status();
/// if memory.pressure == MemoryPressure::Critical {
///     println!("no more models now: {}", memory.reason);
/// }
/// ```
pub fn memory_status() -> MemoryStatus {
    os::memory()
}

/// How warm the machine is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ThermalStatus {
    /// What the warmth means for work.
    pub state: ThermalState,
    /// The processor's hottest sensor in degrees Celsius; the whole machine's where the processor has none.
    pub temperature_celsius: Option<f64>,
    /// Whether the system slows the processor down to cool it. Firmware that does so on its own is not seen.
    pub throttled: Option<bool>,
    /// Where the temperature was read.
    pub source: Option<String>,
    /// Why the state is what it is, as half a sentence.
    pub reason: String,
}

/// What warmth means for work, in Apple's words. Ordered; what is not known comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ThermalState {
    /// The system does not tell, or not enough to judge by.
    #[default]
    Unknown,
    /// Within normal limits.
    Nominal,
    /// Slightly warm: fans run. Background work can wait.
    Fair,
    /// Hot: the system slows down.
    Serious,
    /// Too hot: the system slows down much, and may stop.
    Critical,
}

/// Changes of the thermal state are told as long as this is held; see [`on_thermal_change`].
#[derive(Debug)]
#[must_use = "nothing is told any more once it is dropped"]
pub struct ThermalWatch {
    _observation: os::Observation,
}

/// What the machine runs on.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PowerStatus {
    /// Mains or battery.
    pub source: PowerSource,
    /// How full the battery is, from 0 to 100; all of them together where there are several.
    pub battery_percent: Option<f64>,
    /// Whether the machine was told to save power at the price of speed.
    pub low_power_mode: Option<bool>,
    /// What the machine draws, in watts: out of its battery, or through a power meter that the firmware has.
    pub watts: Option<f64>,
    /// How the source is known, as half a sentence.
    pub reason: String,
}

/// Where the power comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PowerSource {
    /// The system does not tell.
    #[default]
    Unknown,
    /// An adapter; a battery may be charging.
    Mains,
    /// A battery, or a UPS that the mains has left.
    Battery,
}

/// How much memory there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStatus {
    /// The machine's memory in bytes, or what this process and its neighbours in a container may have of it.
    pub total_bytes: Option<u64>,
    /// Bytes that can be had without swapping.
    pub available_bytes: Option<u64>,
    /// Whether work waits for memory, or soon will.
    pub pressure: MemoryPressure,
    /// Why the pressure is what it is and what limits the memory, as half a sentence.
    pub reason: String,
}

/// Whether work waits for memory. Ordered; what is not known comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MemoryPressure {
    /// The system does not tell.
    #[default]
    Unknown,
    /// There is enough.
    Normal,
    /// Work waits at times, or little is left. Let go of what can be made again.
    Warning,
    /// Nearly nothing is left, or nothing gets on: the system is about to swap or to end processes.
    Critical,
}

impl fmt::Display for ThermalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ThermalState::Unknown => "unknown",
            ThermalState::Nominal => "nominal",
            ThermalState::Fair => "fair",
            ThermalState::Serious => "serious",
            ThermalState::Critical => "critical",
        })
    }
}

impl fmt::Display for PowerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PowerSource::Unknown => "unknown",
            PowerSource::Mains => "mains",
            PowerSource::Battery => "battery",
        })
    }
}

impl fmt::Display for MemoryPressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemoryPressure::Unknown => "unknown",
            MemoryPressure::Normal => "normal",
            MemoryPressure::Warning => "warning",
            MemoryPressure::Critical => "critical",
        })
    }
}
