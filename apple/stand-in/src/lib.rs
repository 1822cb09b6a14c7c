//! What tests ask of the stand-in for Core ML: `framework/` is the stand-in itself, in Objective-C.
//!
//! It pretends to be a system of some version, says how many of Core ML's objects are alive, lets calls fail, wait or
//! crash, and keeps what code did that Core ML does not allow: a selector that is not in `../selectors.tsv` or that the
//! system is too old for, two predictions at a time with one model or state, two new states at a time, a pixel buffer that
//! is not unlocked.
//!
//! Linked in are `libCoreML.so` and, in every executable, `executable.c`; `../test.sh` builds both.

use std::{
    ffi::{CStr, CString, c_char, c_long, c_void},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The stand-in, as a test has it for itself: tests of one process come one after another. It begins as macOS 26 on a
/// machine with a Neural Engine of 16 cores, or as the environment says, which is for child processes: `STAND_IN_SYSTEM`
/// is a version, `STAND_IN_CORES` the number of cores, `STAND_IN_RAISES` a signal, and `STAND_IN_TAKES` the milliseconds
/// of the first prediction, below zero for ever.
///
/// A test that ends well fails where something was done that Core ML does not allow.
pub struct StandIn {
    _alone: MutexGuard<'static, ()>,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Call {
    Compile,
    Load,
    Predict,
    Plan,
    NewState,
}

impl StandIn {
    /// Waits for the tests before, and begins anew.
    pub fn new() -> StandIn {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: no other test runs.
        unsafe { ffi::stand_in_reset() };
        StandIn { _alone: alone }
    }

    /// Pretends to be this version of macOS.
    pub fn macos(&self, major: i64, minor: i64) {
        // SAFETY: plain numbers.
        unsafe { ffi::stand_in_set_system(major, minor, 0) };
    }

    /// Pretends to have a Neural Engine of so many cores; none where it is 0.
    pub fn neural_engine_cores(&self, cores: i64) {
        // SAFETY: a plain number.
        unsafe { ffi::stand_in_set_neural_engine_cores(cores) };
    }

    /// Pretends to be as warm as this value of `NSProcessInfoThermalState` says, and tells observers.
    pub fn thermal_state(&self, state: i64) {
        // SAFETY: a plain number.
        unsafe { ffi::stand_in_set_thermal_state(state) };
    }

    /// Pretends to be in low-power mode or not, and tells observers.
    pub fn low_power(&self, on: bool) {
        // SAFETY: a plain value.
        unsafe { ffi::stand_in_set_low_power(on) };
    }

    /// The next call of this kind fails with such an error.
    pub fn next_fails(&self, call: Call, domain: &str, code: i64, message: &str) {
        let (domain, message) = (c_string(domain), c_string(message));
        // SAFETY: the strings are copied.
        unsafe { ffi::stand_in_next_fails(call.name(), domain.as_ptr(), code, message.as_ptr()) };
    }

    /// What is asked of the next call of this kind is asked of so many.
    pub fn next_count(&self, call: Call, count: usize) {
        // SAFETY: a plain number.
        unsafe { ffi::stand_in_next_count(call.name(), count as c_long) };
    }

    /// The next call of this kind takes so long, besides what it takes anyway.
    pub fn next_takes(&self, call: Call, duration: Duration) {
        // SAFETY: a plain number.
        unsafe { ffi::stand_in_next_takes(call.name(), duration.as_millis() as c_long) };
    }

    /// The next call of this kind does not come to an end before [`StandIn::let_go`].
    pub fn next_hangs(&self, call: Call) {
        // SAFETY: a plain number.
        unsafe { ffi::stand_in_next_takes(call.name(), -1) };
    }

    /// Ends the calls that hang.
    pub fn let_go(&self) {
        // SAFETY: it has no arguments.
        unsafe { ffi::stand_in_let_go() };
    }

    /// Waits until so many calls hang.
    pub fn wait_for_hanging(&self, count: i64) {
        // SAFETY: it has no arguments.
        wait_until("calls hang", || unsafe { ffi::stand_in_hanging() } == count);
    }

    /// The next call of this kind gives neither a result nor an error; its block is dropped uncalled.
    pub fn next_is_silent(&self, call: Call) {
        // SAFETY: a plain name.
        unsafe { ffi::stand_in_next_is_silent(call.name()) };
    }

    /// The next call of this kind calls its block twice.
    pub fn next_answers_twice(&self, call: Call) {
        // SAFETY: a plain name.
        unsafe { ffi::stand_in_next_answers_twice(call.name()) };
    }

    /// The next call of this kind gives something without what Core ML says is always there: a plan whose operations have
    /// no names, or an error without a domain.
    pub fn next_is_hollow(&self, call: Call) {
        // SAFETY: a plain name.
        unsafe { ffi::stand_in_next_is_hollow(call.name()) };
    }

    /// Objects of this class that are alive; `block` counts blocks on the heap.
    pub fn live(&self, class: &str) -> i64 {
        let class = c_string(class);
        // SAFETY: the string is valid.
        unsafe { ffi::stand_in_live(class.as_ptr()) }
    }

    /// Waits until no object of these classes is alive: threads of the stand-in's let go of theirs after they answered.
    pub fn wait_for_none_of(&self, classes: &[&str]) {
        for class in classes {
            wait_until(class, || self.live(class) == 0);
        }
    }

    /// What happened since the beginning: calls by their names, and `backing` for each output that was written to the
    /// caller's memory.
    pub fn events(&self) -> Vec<String> {
        // SAFETY: it has no arguments.
        lines(unsafe { ffi::stand_in_events() })
    }

    /// How the last model was loaded.
    pub fn configuration(&self) -> String {
        // SAFETY: it has no arguments.
        lines(unsafe { ffi::stand_in_configuration() }).concat()
    }

    /// Where the elements of an input were, in the last prediction that had it.
    pub fn input_address(&self, name: &str) -> *const u8 {
        let name = c_string(name);
        // SAFETY: the string is valid.
        unsafe { ffi::stand_in_input_address(name.as_ptr()) }.cast()
    }

    /// What was done that Core ML does not allow, and forgets it.
    pub fn complaints(&self) -> Vec<String> {
        // SAFETY: it has no arguments.
        lines(unsafe { ffi::stand_in_complaints() })
    }
}

impl Default for StandIn {
    fn default() -> StandIn {
        StandIn::new()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let complaints = self.complaints();
        // SAFETY: this is the only test that runs.
        unsafe { ffi::stand_in_reset() };
        if !thread::panicking() {
            assert!(complaints.is_empty(), "not allowed: {complaints:#?}");
        }
    }
}

impl Call {
    fn name(self) -> *const c_char {
        let name = match self {
            Call::Compile => c"compile",
            Call::Load => c"load",
            Call::Predict => c"predict",
            Call::Plan => c"plan",
            Call::NewState => c"state",
        };
        name.as_ptr()
    }
}

/// Makes a compiled model in `folder` that is an echo: it gives what it takes, of whatever kind. With a state, it keeps the
/// arrays that it takes, and gives those that it took before; of these it declares `x` alone.
///
/// # Panics
/// Where the folder cannot be written.
pub fn echo(folder: &Path) -> PathBuf {
    let compiled = folder.join("echo.mlmodelc");
    fs::create_dir_all(&compiled).unwrap();
    fs::write(compiled.join("coremldata.bin"), "echo").unwrap();
    compiled
}

/// Waits until something is so, for twenty seconds at most.
///
/// # Panics
/// Where it is not so by then.
pub fn wait_until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < end, "it took too long: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("tests give no zeros")
}

/// The lines of a text, which is freed.
fn lines(text: *mut c_char) -> Vec<String> {
    // SAFETY: the stand-in gives a valid string, which is ours.
    let lines = unsafe { CStr::from_ptr(text) }.to_string_lossy().lines().map(str::to_owned).collect();
    // SAFETY: the stand-in allocated it, and nobody else has it.
    unsafe { ffi::free(text.cast()) };
    lines
}

mod ffi {
    use super::{c_char, c_long, c_void};

    unsafe extern "C" {
        pub(super) fn stand_in_reset();
        pub(super) fn stand_in_set_system(major: c_long, minor: c_long, patch: c_long);
        pub(super) fn stand_in_set_neural_engine_cores(cores: c_long);
        pub(super) fn stand_in_set_thermal_state(state: c_long);
        pub(super) fn stand_in_set_low_power(on: bool);
        pub(super) fn stand_in_next_fails(
            call: *const c_char,
            domain: *const c_char,
            code: c_long,
            message: *const c_char,
        );
        pub(super) fn stand_in_next_count(call: *const c_char, count: c_long);
        pub(super) fn stand_in_next_takes(call: *const c_char, milliseconds: c_long);
        pub(super) fn stand_in_next_is_silent(call: *const c_char);
        pub(super) fn stand_in_next_answers_twice(call: *const c_char);
        pub(super) fn stand_in_next_is_hollow(call: *const c_char);
        pub(super) fn stand_in_hanging() -> c_long;
        pub(super) fn stand_in_let_go();
        pub(super) fn stand_in_live(class: *const c_char) -> c_long;
        pub(super) fn stand_in_events() -> *mut c_char;
        pub(super) fn stand_in_configuration() -> *mut c_char;
        pub(super) fn stand_in_complaints() -> *mut c_char;
        pub(super) fn stand_in_input_address(name: *const c_char) -> *const c_void;
        pub(super) fn free(pointer: *mut c_void);
    }
}
