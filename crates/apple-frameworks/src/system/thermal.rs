//! Heat.

use objc2::rc::autoreleasepool;
use objc2_foundation::{NSProcessInfo, NSProcessInfoThermalState, NSProcessInfoThermalStateDidChangeNotification};

use super::observation::Observation;

/// How warm the machine is, in the system's judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThermalState {
    /// Within normal limits.
    Nominal,
    /// Slightly warm.
    Fair,
    /// Hot: the system slows down.
    Serious,
    /// Too hot: the system slows down much.
    Critical,
}

/// How warm the machine is; `None` for a state that is newer than this library.
pub fn thermal_state() -> Option<ThermalState> {
    match autoreleasepool(|_| NSProcessInfo::processInfo().thermalState()) {
        NSProcessInfoThermalState::Nominal => Some(ThermalState::Nominal),
        NSProcessInfoThermalState::Fair => Some(ThermalState::Fair),
        NSProcessInfoThermalState::Serious => Some(ThermalState::Serious),
        NSProcessInfoThermalState::Critical => Some(ThermalState::Critical),
        _ => None,
    }
}

/// Calls back whenever [`thermal_state`] changes, from a thread of the system's.
pub fn on_thermal_change(callback: impl Fn() + Send + Sync + 'static) -> Observation {
    // The system tells of changes only to who has asked before.
    thermal_state();
    // SAFETY: a constant of the framework's, which every supported system has.
    let name = unsafe { NSProcessInfoThermalStateDidChangeNotification };
    Observation::of(name, callback)
}
