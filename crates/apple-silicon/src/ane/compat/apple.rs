//! Apple's systems. Their frameworks are not asked yet, so everything is unknown.

use super::{
    coreml::CoreMlCapabilities,
    iokit::{MemoryStatus, PowerStatus, ThermalStatus},
};

const UNKNOWN: &str = "this version does not ask macOS and iOS";

pub(super) fn capabilities() -> CoreMlCapabilities {
    CoreMlCapabilities::cpu_only("this version does not reach Core ML")
}

pub(super) fn thermal() -> ThermalStatus {
    ThermalStatus { reason: UNKNOWN.to_owned(), ..ThermalStatus::default() }
}

pub(super) fn power() -> PowerStatus {
    PowerStatus { reason: UNKNOWN.to_owned(), ..PowerStatus::default() }
}

pub(super) fn memory() -> MemoryStatus {
    MemoryStatus { reason: UNKNOWN.to_owned(), ..MemoryStatus::default() }
}
