//! A kernel that is not Apple's.

use std::ffi::CStr;

use super::memory::MemoryPressure;

pub(crate) fn text(_name: &CStr) -> Option<String> {
    None
}

pub(super) fn available_memory() -> Option<u64> {
    None
}

pub(super) fn memory_pressure() -> Option<MemoryPressure> {
    None
}
