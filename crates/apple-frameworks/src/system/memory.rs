//! Memory.

use objc2::rc::autoreleasepool;
use objc2_foundation::NSProcessInfo;

use super::kernel;

/// How short of memory the machine is, in the kernel's judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemoryPressure {
    /// There is enough.
    Normal,
    /// Memory gets short.
    Warning,
    /// Processes will be ended, or the machine will swap.
    Critical,
}

/// The machine's memory, in bytes.
pub fn physical_memory() -> u64 {
    autoreleasepool(|_| NSProcessInfo::processInfo().physicalMemory())
}

/// Bytes that this process can get without swapping: on macOS those that are free or whose content can be read or made
/// again, which is what Activity Monitor shows as neither used nor compressed; on iOS what the process may still take.
/// `None` where the kernel is not Apple's, or does not say.
pub fn available_memory() -> Option<u64> {
    kernel::available_memory()
}

/// How short of memory the machine is; `None` where the kernel is not Apple's, and until the pressure changes for the
/// first time after this was called for the first time: the kernel tells of changes alone.
pub fn memory_pressure() -> Option<MemoryPressure> {
    kernel::memory_pressure()
}
