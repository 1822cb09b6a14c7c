//! What this machine can do and how it is doing.
//!
//! The platform is chosen here, once: `os` is this system's, with the same functions on each. None of them fails;
//! what a system does not tell is unknown.

pub mod coreml;
pub mod iokit;

#[cfg_attr(target_os = "linux", path = "linux/mod.rs")]
#[cfg_attr(target_vendor = "apple", path = "apple.rs")]
#[cfg_attr(not(any(target_os = "linux", target_vendor = "apple")), path = "other.rs")]
mod os;

// The other systems' answers, compiled for tests so that their signatures stay those of `os`.
#[cfg(all(test, target_os = "linux"))]
mod apple;
#[cfg(all(test, target_os = "linux"))]
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

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_its_memory() {
        let memory = memory_status();
        assert!(memory.total_bytes.unwrap() >= memory.available_bytes.unwrap(), "{memory:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn systems_without_answers_say_so() {
        for capabilities in [other::capabilities(), apple::capabilities()] {
            assert_eq!((capabilities.coreml_available, capabilities.ane_available), (false, false));
            assert_eq!(capabilities.compute_units, ["CPU"]);
            assert_eq!(capabilities.notes.len(), 1);
        }
        for thermal in [other::thermal(), apple::thermal()] {
            assert_eq!((thermal.state, thermal.temperature_celsius), (ThermalState::Unknown, None));
            assert!(!thermal.reason.is_empty());
        }
        for power in [other::power(), apple::power()] {
            assert_eq!((power.source, power.battery_percent), (PowerSource::Unknown, None));
            assert!(!power.reason.is_empty());
        }
        for memory in [other::memory(), apple::memory()] {
            assert_eq!((memory.pressure, memory.total_bytes), (MemoryPressure::Unknown, None));
            assert!(!memory.reason.is_empty());
        }
    }
}
