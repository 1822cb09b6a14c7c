//! Apple's systems: what Core ML, Foundation, IOKit and the kernel tell through `apple_frameworks`.

use apple_frameworks::{
    Device, devices,
    system::{self, MemoryPressure as Pressure, Power, PowerSource as Source, ThermalState as Heat},
};

use super::{
    coreml::CoreMlCapabilities,
    iokit::{MemoryPressure, MemoryStatus, PowerSource, PowerStatus, ThermalState, ThermalStatus},
};

pub(super) type Observation = system::Observation;

pub(super) fn capabilities() -> CoreMlCapabilities {
    let os = format!("{} {}", system::NAME, system::version());
    let os_version = match system::build() {
        Some(build) => format!("{os} ({build})"),
        None => os.clone(),
    };
    CoreMlCapabilities { os_version: Some(os_version), ..judge(&os, system::chip(), devices(), system::missing()) }
}

pub(super) fn thermal() -> ThermalStatus {
    judge_heat(system::thermal_state())
}

pub(super) fn on_thermal_change(callback: impl Fn(ThermalStatus) + Send + Sync + 'static) -> Option<Observation> {
    Some(system::on_thermal_change(move || callback(thermal())))
}

pub(super) fn power() -> PowerStatus {
    PowerStatus { low_power_mode: system::low_power_mode(), ..judge_power(system::power()) }
}

pub(super) fn memory() -> MemoryStatus {
    let (pressure, reason) = judge_pressure(system::memory_pressure());
    MemoryStatus {
        total_bytes: Some(system::physical_memory()),
        available_bytes: system::available_memory(),
        pressure,
        reason,
    }
}

fn judge(os: &str, chip: Option<String>, devices: Option<Vec<Device>>, missing: Vec<String>) -> CoreMlCapabilities {
    let mut notes = Vec::new();
    let (engine, gpu_available) = match &devices {
        Some(devices) => {
            let engine = devices.iter().find(|device| matches!(device, Device::NeuralEngine { .. }));
            if engine.is_none() {
                notes.push(
                    "Core ML has none for this process, as on Intel processors and in virtual machines".to_owned(),
                );
            }
            (engine.copied(), devices.contains(&Device::Gpu))
        }
        None => {
            // Each of Apple's processors for Macs has both.
            let told = chip.as_deref().is_some_and(|chip| chip.starts_with("Apple M") && !chip.contains("Virtual"));
            let assumed = if told { "; its processor has a Neural Engine and a GPU" } else { "" };
            notes.push(format!("{os} does not tell what Core ML computes on{assumed}"));
            (told.then_some(Device::NeuralEngine { cores: 0 }), told)
        }
    };
    if engine.is_some() {
        notes.push("the Neural Engine computes in fp16 alone; what needs fp32 runs on the GPU or the CPU".to_owned());
    }
    notes.extend(missing);
    let units = [("CPU", true), ("GPU", gpu_available), ("ANE", engine.is_some())];
    CoreMlCapabilities {
        coreml_available: true,
        ane_available: engine.is_some(),
        gpu_available,
        chip,
        ane_cores: match engine {
            Some(Device::NeuralEngine { cores }) if cores > 0 => Some(cores),
            _ => None,
        },
        os_version: None,
        supported_precisions: vec!["fp16".to_owned(), "fp32".to_owned()],
        compute_units: units.iter().filter(|unit| unit.1).map(|unit| unit.0.to_owned()).collect(),
        notes,
    }
}

fn judge_heat(heat: Option<Heat>) -> ThermalStatus {
    let state = match heat {
        Some(Heat::Nominal) => ThermalState::Nominal,
        Some(Heat::Fair) => ThermalState::Fair,
        Some(Heat::Serious) => ThermalState::Serious,
        Some(Heat::Critical) => ThermalState::Critical,
        None => ThermalState::Unknown,
    };
    let reason = match heat {
        Some(_) => format!("the system calls its thermal state {state}"),
        None => "the system's thermal state is one that this version does not know".to_owned(),
    };
    // Neither degrees nor the processor's clock are told to programs.
    ThermalStatus { state, reason, ..ThermalStatus::default() }
}

fn judge_power(power: Option<Power>) -> PowerStatus {
    let Some(power) = power else {
        let reason = "the system tells of its battery to the main thread of an application alone".to_owned();
        return PowerStatus { reason, ..PowerStatus::default() };
    };
    let (source, reason) = match power.source {
        Some(Source::Mains) => (PowerSource::Mains, "IOKit says that an adapter gives power"),
        Some(Source::Battery) => (PowerSource::Battery, "IOKit says that the battery gives power"),
        Some(Source::Ups) => (PowerSource::Battery, "IOKit says that a UPS gives power"),
        None => (PowerSource::Unknown, "IOKit does not say what gives power"),
    };
    let percents: Vec<f64> = power.batteries.iter().filter_map(|battery| battery.percent).collect();
    let watts: Vec<f64> = power.batteries.iter().filter_map(|battery| battery.watts).collect();
    PowerStatus {
        source,
        battery_percent: (!percents.is_empty()).then(|| percents.iter().sum::<f64>() / percents.len() as f64),
        low_power_mode: None,
        watts: (!watts.is_empty()).then(|| watts.iter().sum()),
        reason: reason.to_owned(),
    }
}

fn judge_pressure(pressure: Option<Pressure>) -> (MemoryPressure, String) {
    let pressure = match pressure {
        Some(Pressure::Normal) => MemoryPressure::Normal,
        Some(Pressure::Warning) => MemoryPressure::Warning,
        Some(Pressure::Critical) => MemoryPressure::Critical,
        None => {
            let reason = "the kernel tells of changes alone, and of none since this process first asked";
            return (MemoryPressure::Unknown, reason.to_owned());
        }
    };
    (pressure, format!("the kernel called the pressure {pressure} when it last changed"))
}

#[cfg(test)]
mod tests {
    use apple_frameworks::system::Battery;

    use super::*;

    /// What is found on a machine: units, cores, and the first note.
    fn check(os: &str, chip: &str, devices: Option<Vec<Device>>, units: &[&str], cores: Option<usize>, note: &str) {
        let found = judge(os, Some(chip.to_owned()), devices, vec!["no models with states before macOS 15".to_owned()]);
        assert_eq!(found.compute_units, units, "{found:?}");
        assert_eq!((found.ane_available, found.gpu_available), (units.contains(&"ANE"), units.contains(&"GPU")));
        assert_eq!(found.ane_cores, cores, "{found:?}");
        assert!(found.notes[0].contains(note), "{found:?}");
        assert!(found.notes.last().unwrap().contains("states"), "what is missing is said: {found:?}");
        assert_eq!(found.supported_precisions, ["fp16", "fp32"]);
    }

    #[test]
    fn machines() {
        let all = vec![Device::Cpu, Device::Gpu, Device::NeuralEngine { cores: 16 }];
        check("macOS 15.3", "Apple M4", Some(all), &["CPU", "GPU", "ANE"], Some(16), "fp16 alone");
        let virtual_machine = Some(vec![Device::Cpu, Device::Other]);
        check("macOS 14", "Apple M1 (Virtual)", virtual_machine, &["CPU"], None, "virtual machines");
        check("macOS 14", "Intel(R) Core(TM) i9", Some(vec![Device::Cpu, Device::Gpu]), &["CPU", "GPU"], None, "Intel");
        let told = "macOS 13.6 does not tell what Core ML computes on; its processor has";
        check("macOS 13.6", "Apple M2", None, &["CPU", "GPU", "ANE"], None, told);
        check("macOS 12", "Intel(R) Core(TM) i9", None, &["CPU"], None, "macOS 12 does not tell");
        check("macOS 13", "Apple M1 (Virtual)", None, &["CPU"], None, "macOS 13 does not tell");
        check("iOS 16.1", "iPhone14,2", None, &["CPU"], None, "iOS 16.1 does not tell");
    }

    #[test]
    fn heat_is_named_as_the_system_names_it() {
        let check = |heat, state, reason: &str| {
            let found = judge_heat(heat);
            assert_eq!((found.state, found.temperature_celsius, found.throttled), (state, None, None));
            assert!(found.reason.contains(reason), "{found:?}");
        };
        check(Some(Heat::Nominal), ThermalState::Nominal, "thermal state nominal");
        check(Some(Heat::Fair), ThermalState::Fair, "thermal state fair");
        check(Some(Heat::Serious), ThermalState::Serious, "thermal state serious");
        check(Some(Heat::Critical), ThermalState::Critical, "thermal state critical");
        check(None, ThermalState::Unknown, "does not know");
    }

    #[test]
    fn supplies() {
        let check = |power: Option<Power>, source, percent, watts, reason: &str| {
            let found = judge_power(power);
            assert_eq!((found.source, found.battery_percent, found.watts), (source, percent, watts), "{found:?}");
            assert!(found.reason.contains(reason), "{found:?}");
        };
        let power = |source, batteries: &[(Option<f64>, Option<f64>)]| {
            let batteries = batteries.iter().map(|&(percent, watts)| Battery { percent, watts }).collect();
            Some(Power { source, batteries })
        };
        check(power(Some(Source::Mains), &[]), PowerSource::Mains, None, None, "an adapter");
        let charging = power(Some(Source::Mains), &[(Some(80.0), None)]);
        check(charging, PowerSource::Mains, Some(80.0), None, "an adapter");
        let laptop = power(Some(Source::Battery), &[(Some(55.0), Some(9.5))]);
        check(laptop, PowerSource::Battery, Some(55.0), Some(9.5), "the battery");
        let supply = power(Some(Source::Ups), &[(Some(50.0), Some(40.0)), (Some(100.0), None), (None, Some(2.0))]);
        check(supply, PowerSource::Battery, Some(75.0), Some(42.0), "a UPS");
        check(power(None, &[(None, None)]), PowerSource::Unknown, None, None, "does not say");
        check(None, PowerSource::Unknown, None, None, "main thread");
    }

    #[test]
    fn pressure_is_what_was_told_last() {
        let check = |pressure, expected, why: &str| {
            let (found, reason) = judge_pressure(pressure);
            assert_eq!(found, expected);
            assert!(reason.contains(why), "{reason}");
        };
        check(Some(Pressure::Normal), MemoryPressure::Normal, "normal when it last changed");
        check(Some(Pressure::Warning), MemoryPressure::Warning, "warning");
        check(Some(Pressure::Critical), MemoryPressure::Critical, "critical");
        check(None, MemoryPressure::Unknown, "changes alone");
    }
}
