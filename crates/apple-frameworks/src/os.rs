//! Which system this is, and since which version it has what.

use std::fmt;

use objc2::rc::autoreleasepool;
use objc2_foundation::NSProcessInfo;

use crate::system::kernel;

/// The system's name. What is neither macOS nor a stand-in for it counts its versions as iOS does.
pub const NAME: &str = if MACOS { "macOS" } else { "iOS" };

const MACOS: bool = cfg!(any(target_os = "macos", gnustep));

/// A version of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each name is its own description")]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

/// This system's version.
pub fn version() -> Version {
    // A number below zero is no version.
    let number = |part| u32::try_from(part).unwrap_or(0);
    let told = autoreleasepool(|_| NSProcessInfo::processInfo().operatingSystemVersion());
    let told = Version {
        major: number(told.majorVersion),
        minor: number(told.minorVersion),
        patch: number(told.patchVersion),
    };
    if MACOS { told.unmasked() } else { told }
}

/// This system's build, such as `24D60`; `None` where the kernel is not Apple's.
pub fn build() -> Option<String> {
    kernel::text(c"kern.osversion")
}

/// The name of the processor, such as `Apple M4`, or that of the device, such as `iPhone17,1`, where there is none for
/// the processor; `None` where the kernel is not Apple's.
pub fn chip() -> Option<String> {
    kernel::text(c"machdep.cpu.brand_string").or_else(|| kernel::text(c"hw.machine"))
}

/// What this system is too old for, half a sentence each.
pub fn missing() -> Vec<String> {
    let here = version();
    FEATURES.iter().filter(|feature| here < feature.first()).map(|feature| feature.lack()).collect()
}

/// Something that only newer systems have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    what: &'static str,
    macos: (u32, u32),
    ios: (u32, u32),
}

// From `API_AVAILABLE` in the headers of the systems' development kits, and the same on developer.apple.com.
pub(crate) const ASYNC_COMPILE: Since = Since::new("asynchronous compilation", (13, 0), (16, 0));
pub(crate) const ASYNC_PREDICTION: Since = Since::new("asynchronous prediction", (14, 0), (17, 0));
pub(crate) const BYTES_WITH_HANDLER: Since = Since::new("lending of an array's elements", (12, 3), (15, 4));
pub(crate) const COMPUTE_DEVICES: Since = Since::new("list of what Core ML computes on", (14, 0), (17, 0));
pub(crate) const COMPUTE_PLAN: Since = Since::new("plan of where operations run", (14, 4), (17, 4));
pub(crate) const DISPLAY_NAME: Since = Since::new("name of a model in Instruments", (13, 0), (16, 0));
pub(crate) const FLOAT16_ARRAYS: Since = Since::new("arrays of half floats", (12, 0), (16, 0));
pub(crate) const FUNCTION_NAME: Since = Since::new("choice of a model's function", (15, 0), (18, 0));
pub(crate) const INT8_ARRAYS: Since = Since::new("arrays of 8-bit integers", (26, 0), (26, 0));
pub(crate) const LOW_POWER_MODE: Since = Since::new("low-power mode", (12, 0), (9, 0));
pub(crate) const NEURAL_ENGINE_UNITS: Since = Since::new("Neural Engine without the GPU", (13, 0), (16, 0));
pub(crate) const OPTIMIZATION_HINTS: Since = Since::new("hints on how shapes change", (14, 4), (17, 4));
pub(crate) const OUTPUT_BACKINGS: Since = Since::new("results in the caller's memory", (11, 0), (16, 0));
pub(crate) const SPECIALIZATION_STRATEGY: Since = Since::new("faster predictions for slower loads", (15, 0), (18, 0));
pub(crate) const STATE: Since = Since::new("models with states", (15, 0), (18, 0));

const FEATURES: &[Since] = &[
    ASYNC_COMPILE,
    ASYNC_PREDICTION,
    BYTES_WITH_HANDLER,
    COMPUTE_DEVICES,
    COMPUTE_PLAN,
    DISPLAY_NAME,
    FLOAT16_ARRAYS,
    FUNCTION_NAME,
    INT8_ARRAYS,
    LOW_POWER_MODE,
    NEURAL_ENGINE_UNITS,
    OPTIMIZATION_HINTS,
    OUTPUT_BACKINGS,
    SPECIALIZATION_STRATEGY,
    STATE,
];

impl Since {
    const fn new(what: &'static str, macos: (u32, u32), ios: (u32, u32)) -> Since {
        Since { what, macos, ios }
    }

    /// Whether this system has it.
    pub(crate) fn here(self) -> bool {
        version() >= self.first()
    }

    /// The first version of a system of this kind that has it.
    pub(crate) fn first(self) -> Version {
        let (major, minor) = if MACOS { self.macos } else { self.ios };
        Version { major, minor, patch: 0 }
    }

    /// That older systems do not have it: "no models with states before macOS 15".
    pub(crate) fn lack(self) -> String {
        format!("no {} before {self}", self.what)
    }
}

impl fmt::Display for Since {
    /// "macOS 15"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME} {}", self.first())
    }
}

impl Version {
    /// The true version. macOS tells binaries that were linked against an older kit what those can make sense of: 10.16
    /// for 11, and 16 for 26 (<https://github.com/dotnet/runtime/pull/116536>).
    fn unmasked(self) -> Version {
        match (self.major, self.minor) {
            (10, 16..) => Version { major: 11, minor: 0, patch: 0 },
            (16, _) => Version { major: 26, ..self },
            _ => self,
        }
    }
}

impl fmt::Display for Version {
    /// "15", "15.3", "15.3.1"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.minor, self.patch) {
            (0, 0) => write!(f, "{}", self.major),
            (minor, 0) => write!(f, "{}.{minor}", self.major),
            (minor, patch) => write!(f, "{}.{minor}.{patch}", self.major),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_of((major, minor, patch): (u32, u32, u32)) -> Version {
        Version { major, minor, patch }
    }

    #[test]
    fn versions_are_the_true_ones() {
        let check = |told, expected: &str| assert_eq!(version_of(told).unmasked().to_string(), expected);
        check((10, 16, 0), "11");
        check((10, 15, 7), "10.15.7");
        check((11, 7, 10), "11.7.10");
        check((15, 3, 1), "15.3.1");
        check((16, 0, 0), "26");
        check((16, 1, 0), "26.1");
        check((26, 0, 1), "26.0.1");
    }

    #[test]
    fn versions_are_ordered_by_their_parts() {
        let check = |less, more| assert!(version_of(less) < version_of(more));
        check((14, 3, 9), (14, 4, 0));
        check((14, 10, 0), (15, 0, 0));
        check((14, 4, 0), (14, 4, 1));
        check((9, 9, 9), (10, 0, 0));
    }

    #[test]
    fn features_say_since_when() {
        let check = |feature: Since, macos: &str, ios: &str| {
            assert_eq!(feature.lack(), if MACOS { macos } else { ios });
        };
        check(STATE, "no models with states before macOS 15", "no models with states before iOS 18");
        check(
            COMPUTE_PLAN,
            "no plan of where operations run before macOS 14.4",
            "no plan of where operations run before iOS 17.4",
        );
    }

    #[test]
    fn what_is_missing_is_what_is_not_here() {
        for feature in FEATURES {
            assert_eq!(missing().contains(&feature.lack()), !feature.here(), "{}", feature.what);
        }
    }

    #[test]
    fn every_feature_is_listed() {
        let declared = include_str!("os.rs").lines().filter(|line| line.contains(": Since = Since::new(")).count();
        // This test has the same words.
        assert_eq!(FEATURES.len(), declared - 1);
    }
}
