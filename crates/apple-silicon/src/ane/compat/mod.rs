//! What this machine can do and how it is doing.
//!
//! The platform is chosen here, once: `os` is this system's, with the same functions on each. None of them fails;
//! what a system does not tell is unknown.

pub mod coreml;
pub mod iokit;

#[cfg_attr(any(target_vendor = "apple", gnustep), path = "apple.rs")]
#[cfg_attr(all(target_os = "linux", not(gnustep)), path = "linux/mod.rs")]
#[cfg_attr(not(any(target_vendor = "apple", gnustep, target_os = "linux")), path = "other.rs")]
mod os;

// Compiled for tests so that its signatures stay those of `os`.
#[cfg(test)]
mod other;

#[cfg(test)]
mod tests {
    use super::{coreml::*, iokit::*, *};

    #[test]
    fn this_system_answers() {
        let capabilities = detect_coreml_capabilities();
        assert!(capabilities.supported_precisions.contains(&"fp32".to_string()));
        assert!(capabilities.compute_units.contains(&"CPU".to_string()));
        assert!(capabilities.coreml_available || !capabilities.ane_available, "the ANE is reached through Core ML");
        assert!(capabilities.coreml_available || !capabilities.notes.is_empty(), "what is missing is said");
        assert!(!thermal_status().reason.is_empty());
        assert!(!power_status().reason.is_empty());
        assert!(!memory_status().reason.is_empty());
    }

    #[test]
    fn this_system_tells_of_changes_or_says_that_it_does_not() {
        let watch = on_thermal_change(|_| ());
        assert_eq!(watch.is_some(), cfg!(any(target_vendor = "apple", gnustep)));
    }

    #[cfg(all(target_os = "linux", not(gnustep)))]
    #[test]
    fn linux_tells_its_memory() {
        let memory = memory_status();
        assert!(memory.total_bytes.unwrap() >= memory.available_bytes.unwrap(), "{memory:?}");
    }

    #[cfg(any(target_vendor = "apple", gnustep))]
    #[test]
    fn apples_systems_tell_who_they_are() {
        let (capabilities, memory) = (detect_coreml_capabilities(), memory_status());
        assert!(capabilities.coreml_available, "{capabilities:?}");
        let os = capabilities.os_version.unwrap();
        assert!(os.starts_with("macOS 1") || os.starts_with("macOS 2") || os.starts_with("iOS "), "{os}");
        assert!(memory.total_bytes > Some(1 << 27), "{memory:?}");
        assert!(memory.available_bytes <= memory.total_bytes, "{memory:?}");
        assert_ne!(thermal_status().state, ThermalState::Unknown);
    }

    #[cfg(target_os = "macos")]
    #[test]
    fn macs_tell_their_power_and_what_is_left_of_their_memory() {
        let (power, memory) = (power_status(), memory_status());
        assert_ne!(power.source, PowerSource::Unknown, "{power:?}");
        assert!(memory.available_bytes > Some(0), "{memory:?}");
        assert!(detect_coreml_capabilities().chip.is_some());
    }

    #[test]
    fn systems_without_answers_say_so() {
        let capabilities = other::capabilities();
        assert_eq!((capabilities.coreml_available, capabilities.ane_available), (false, false));
        assert_eq!(capabilities.compute_units, ["CPU"]);
        assert_eq!(capabilities.notes.len(), 1);
        let thermal = other::thermal();
        assert_eq!((thermal.state, thermal.temperature_celsius), (ThermalState::Unknown, None));
        assert!(!thermal.reason.is_empty());
        assert!(other::on_thermal_change(|_| ()).is_none());
        let power = other::power();
        assert_eq!((power.source, power.battery_percent), (PowerSource::Unknown, None));
        assert!(!power.reason.is_empty());
        let memory = other::memory();
        assert_eq!((memory.pressure, memory.total_bytes), (MemoryPressure::Unknown, None));
        assert!(!memory.reason.is_empty());
    }
}
