//! Systems that are not asked, such as Windows: everything is unknown.

use std::convert::Infallible;

use super::{
    coreml::CoreMlCapabilities,
    iokit::{MemoryStatus, PowerStatus, ThermalStatus},
};

/// No change is told, so that there is nothing to hold.
pub(super) type Observation = Infallible;

const UNKNOWN: &str = "this system is not asked";

pub(super) fn capabilities() -> CoreMlCapabilities {
    CoreMlCapabilities::cpu_only("Core ML is a part of macOS and iOS")
}

pub(super) fn thermal() -> ThermalStatus {
    ThermalStatus { reason: UNKNOWN.to_owned(), ..ThermalStatus::default() }
}

pub(super) fn on_thermal_change(_: impl Fn(ThermalStatus) + Send + Sync + 'static) -> Option<Observation> {
    None
}

pub(super) fn power() -> PowerStatus {
    PowerStatus { reason: UNKNOWN.to_owned(), ..PowerStatus::default() }
}

pub(super) fn memory() -> MemoryStatus {
    MemoryStatus { reason: UNKNOWN.to_owned(), ..MemoryStatus::default() }
}
