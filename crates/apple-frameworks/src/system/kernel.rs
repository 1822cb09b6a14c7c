//! What Apple's kernel tells.

use std::{
    ffi::{CStr, c_void},
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use dispatch2::{
    _dispatch_source_type_memorypressure, DispatchObject, DispatchRetained, DispatchSource,
    dispatch_source_memorypressure_flags_t as Pressure,
};

use super::memory::MemoryPressure;

/// The text that the kernel has under this name; `None` where it has none.
pub(crate) fn text(name: &CStr) -> Option<String> {
    let mut len = 0;
    // SAFETY: the name ends with a zero, and without a buffer nothing but the length is written.
    if unsafe { libc::sysctlbyname(name.as_ptr(), ptr::null_mut(), &mut len, ptr::null_mut(), 0) } != 0 {
        return None;
    }
    let mut bytes = vec![0u8; len];
    let buffer = bytes.as_mut_ptr().cast();
    // SAFETY: the name ends with a zero, and the buffer has the length that is given with it.
    if unsafe { libc::sysctlbyname(name.as_ptr(), buffer, &mut len, ptr::null_mut(), 0) } != 0 {
        return None;
    }
    let text = CStr::from_bytes_until_nul(&bytes).ok()?.to_str().ok()?;
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// Free pages, those of files and those that their owners gave up. Pages that were read ahead are counted among the
/// free ones and among those of files. Under Rosetta it may be less than there is: pages are smaller there than the kernel's.
#[cfg(any(target_os = "macos", target_abi = "macabi"))]
pub(super) fn available_memory() -> Option<u64> {
    let mut count = libc::HOST_VM_INFO64_COUNT;
    let mut pages = std::mem::MaybeUninit::<libc::vm_statistics64>::zeroed();
    let buffer = pages.as_mut_ptr().cast();
    // SAFETY: the kernel writes no more integers than `count` says, which is how many the structure has.
    if unsafe { libc::host_statistics64(host(), libc::HOST_VM_INFO64, buffer, &mut count) } != libc::KERN_SUCCESS {
        return None;
    }
    // SAFETY: the structure is of integers alone, and what an older kernel did not write is zero.
    let pages = unsafe { pages.assume_init() };
    // SAFETY: a constant that the system sets before the process starts.
    let page = unsafe { libc::vm_page_size };
    let free = u64::from(pages.free_count).saturating_sub(u64::from(pages.speculative_count));
    let pages = free + u64::from(pages.external_page_count) + u64::from(pages.purgeable_count);
    Some(pages * page as u64)
}

/// The port of the host. It is kept, since each call of `mach_host_self` gives one more reference.
#[cfg(any(target_os = "macos", target_abi = "macabi"))]
fn host() -> libc::mach_port_t {
    static HOST: OnceLock<libc::mach_port_t> = OnceLock::new();
    *HOST.get_or_init(|| {
        #[expect(deprecated, reason = "libc has all the rest that is needed here, so that another crate is not")]
        // SAFETY: it takes nothing.
        unsafe {
            libc::mach_host_self()
        }
    })
}

/// What the system lets this process still have. No Mac has it, not even for what was made for iOS.
#[cfg(not(any(target_os = "macos", target_abi = "macabi")))]
pub(super) fn available_memory() -> Option<u64> {
    // SAFETY: declared as in `os/proc.h`, for iOS 13 and later.
    unsafe extern "C" {
        safe fn os_proc_available_memory() -> usize;
    }
    // Zero is for a process without a limit.
    Some(os_proc_available_memory() as u64).filter(|bytes| *bytes > 0)
}

/// The pressure that the kernel told of last. The first call begins to listen, for as long as the process lives.
pub(super) fn memory_pressure() -> Option<MemoryPressure> {
    let source = SOURCE.get_or_init(|| {
        let all = Pressure::DISPATCH_MEMORYPRESSURE_NORMAL.0
            | Pressure::DISPATCH_MEMORYPRESSURE_WARN.0
            | Pressure::DISPATCH_MEMORYPRESSURE_CRITICAL.0;
        let kind = (&raw const _dispatch_source_type_memorypressure).cast_mut();
        // SAFETY: the type is one of the system's, and takes this mask and no handle.
        let source = unsafe { DispatchSource::new(kind, 0, all as usize, None) };
        source.set_event_handler_f(keep);
        source
    });
    // Not before the source is where the handler finds it. It does nothing the second time.
    source.activate();
    let told = LAST.load(Ordering::Relaxed);
    let has = |pressure: Pressure| told & pressure.0 as usize != 0;
    if has(Pressure::DISPATCH_MEMORYPRESSURE_CRITICAL) {
        Some(MemoryPressure::Critical)
    } else if has(Pressure::DISPATCH_MEMORYPRESSURE_WARN) {
        Some(MemoryPressure::Warning)
    } else if has(Pressure::DISPATCH_MEMORYPRESSURE_NORMAL) {
        Some(MemoryPressure::Normal)
    } else {
        None
    }
}

static SOURCE: OnceLock<DispatchRetained<DispatchSource>> = OnceLock::new();

/// What the handler was told last, as the kernel's flags; zero before it was told anything.
static LAST: AtomicUsize = AtomicUsize::new(0);

extern "C" fn keep(_context: *mut c_void) {
    if let Some(source) = SOURCE.get() {
        LAST.store(source.data(), Ordering::Relaxed);
    }
}
