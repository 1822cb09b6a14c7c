//! Heat, from thermal zones, hardware monitors and cooling devices.
//!
//! Zones and their trip points: <https://docs.kernel.org/driver-api/thermal/sysfs-api.html>. Monitors:
//! <https://docs.kernel.org/hwmon/sysfs-interface.html>.

use std::path::{Path, PathBuf};

use super::{
    super::iokit::{ThermalState, ThermalStatus},
    files::{entries, name, number, text},
};

pub(super) fn read(root: &Path) -> ThermalStatus {
    let class = root.join("sys/class");
    let mut sensors = zones(&class.join("thermal"));
    sensors.extend(monitors(&class.join("hwmon")));
    let throttled = throttled(&class.join("thermal"));

    let hottest = |of: Place| sensors.iter().filter(|s| s.place == of).max_by(|a, b| a.celsius.total_cmp(&b.celsius));
    let hottest = hottest(Place::Processor).or_else(|| hottest(Place::Machine));
    let (state, reason) = judge(&sensors, throttled);
    ThermalStatus {
        state,
        temperature_celsius: hottest.map(|sensor| sensor.celsius),
        throttled,
        source: hottest.map(|sensor| sensor.source.clone()),
        reason,
    }
}

/// A sensor that has been read.
struct Sensor {
    place: Place,
    celsius: f64,
    /// Temperatures from which on the machine is in a state.
    limits: Vec<(f64, ThermalState)>,
    source: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Processor,
    Machine,
}

/// Zones of a processor by how their types start, in lower case. Others are of disks, radios, batteries and skin.
const PROCESSOR_ZONES: [&str; 6] = ["x86_pkg_temp", "tcpu", "cpu", "soc", "bigcore", "littlecore"];

/// Drivers of the sensors in processors.
const PROCESSOR_MONITORS: [&str; 4] = ["coretemp", "k8temp", "k10temp", "zenpower"];

/// How the types of cooling devices start that slow a processor down: those of ACPI, of cpufreq and of forced idling,
/// the last two under their older names too.
const PROCESSOR_COOLING: [&str; 6] =
    ["Processor", "cpufreq-", "thermal-cpufreq-", "idle-", "thermal-idle-", "intel_powerclamp"];

fn zones(thermal: &Path) -> Vec<Sensor> {
    entries(thermal, "thermal_zone").iter().filter_map(|zone| read_zone(zone)).collect()
}

fn read_zone(zone: &Path) -> Option<Sensor> {
    let kind = text(&zone.join("type"))?.to_ascii_lowercase();
    let place = match kind.as_str() {
        // The zone that ACPI declares for the whole machine.
        "acpitz" => Place::Machine,
        kind if PROCESSOR_ZONES.iter().any(|start| kind.starts_with(start)) => Place::Processor,
        _ => return None,
    };
    let limits = match kind.as_str() {
        // Its trip points are when some program wants to be told.
        "x86_pkg_temp" => Vec::new(),
        _ => trip_points(zone),
    };
    Some(Sensor { place, celsius: celsius(&zone.join("temp"))?, limits, source: format!("{} ({kind})", name(zone)) })
}

fn trip_points(zone: &Path) -> Vec<(f64, ThermalState)> {
    let kinds = (0..).map_while(|index: usize| Some((index, text(&zone.join(format!("trip_point_{index}_type")))?)));
    let limit = |(index, kind): (usize, String)| {
        let at = celsius(&zone.join(format!("trip_point_{index}_temp")))?;
        // Firmware writes 0, or less, for a trip point that it does not use.
        Some((at, state_past(&kind)?)).filter(|_| at > 0.0)
    };
    kinds.filter_map(limit).collect()
}

/// The state past a trip point of this type.
fn state_past(kind: &str) -> Option<ThermalState> {
    match kind {
        "critical" | "hot" => Some(ThermalState::Critical),
        "passive" => Some(ThermalState::Serious),
        "active" => Some(ThermalState::Fair),
        _ => None,
    }
}

fn monitors(hwmon: &Path) -> Vec<Sensor> {
    let mut sensors = Vec::new();
    for monitor in entries(hwmon, "hwmon") {
        let Some(driver) = text(&monitor.join("name")) else { continue };
        if !PROCESSOR_MONITORS.contains(&driver.as_str()) {
            continue;
        }
        for input in entries(&monitor, "temp") {
            let Some(channel) = name(&input).strip_suffix("_input") else { continue };
            let limit = |file: &str| celsius(&monitor.join(format!("{channel}_{file}"))).filter(|at| *at > 0.0);
            // At `crit` the processor slows itself down, at `max` fans should run at full speed.
            let limits = [("crit", ThermalState::Serious), ("max", ThermalState::Fair)];
            let limits = limits.into_iter().filter_map(|(file, state)| Some((limit(file)?, state))).collect();
            let Some(celsius) = celsius(&input) else { continue };
            let source = format!("{} ({driver} {channel})", name(&monitor));
            sensors.push(Sensor { place: Place::Processor, celsius, limits, source });
        }
    }
    sensors
}

/// Whether a cooling device slows a processor down; `None` where none could.
fn throttled(thermal: &Path) -> Option<bool> {
    let state = |device: &PathBuf| {
        let kind = text(&device.join("type"))?;
        let slows = PROCESSOR_COOLING.iter().any(|start| kind.starts_with(start));
        // The forced idling of Intel says -1 while it does nothing.
        slows.then(|| number(&device.join("cur_state")).map(|state| state > 0))?
    };
    entries(thermal, "cooling_device").iter().filter_map(state).reduce(|a, b| a || b)
}

/// The worst state that a sensor or the kernel's own doing tells of, and why.
fn judge(sensors: &[Sensor], throttled: Option<bool>) -> (ThermalState, String) {
    let mut worst = (ThermalState::Unknown, String::new());
    for sensor in sensors {
        for &(at, state) in sensor.limits.iter().filter(|(at, _)| sensor.celsius >= *at) {
            if state > worst.0 {
                worst =
                    (state, format!("{} is at {:.1} °C, past its limit of {at:.1} °C", sensor.source, sensor.celsius));
            }
        }
    }
    if throttled == Some(true) && worst.0 < ThermalState::Serious {
        return (ThermalState::Serious, "the kernel slows the processor down to cool it".to_owned());
    }
    let judged = sensors.iter().any(|sensor| !sensor.limits.is_empty());
    match worst.0 {
        ThermalState::Unknown if judged => (ThermalState::Nominal, "every sensor is below its limits".to_owned()),
        ThermalState::Unknown if sensors.is_empty() => {
            (worst.0, "the kernel has no sensor of the processor, as in most virtual machines".to_owned())
        }
        ThermalState::Unknown => (worst.0, "the kernel gives no limits to judge the temperature by".to_owned()),
        _ => worst,
    }
}

/// A temperature, which the kernel writes in thousandths of a degree. What no machine has is taken for a sensor that
/// is not there.
fn celsius(path: &Path) -> Option<f64> {
    let celsius = number(path)? as f64 / 1000.0;
    (-100.0..=250.0).contains(&celsius).then_some(celsius)
}

#[cfg(test)]
mod tests {
    use super::{super::files::tests::machine, *};

    /// What a machine of these files, under `/sys/class`, is found to be.
    fn check(files: &[(&str, &str)], state: ThermalState, celsius: Option<f64>, throttled: Option<bool>, told: &str) {
        let paths: Vec<String> = files.iter().map(|(path, _)| format!("sys/class/{path}")).collect();
        let files: Vec<(&str, &str)> = paths.iter().zip(files).map(|(path, file)| (path.as_str(), file.1)).collect();
        let found = read(machine(&files).path());
        assert_eq!((found.state, found.temperature_celsius, found.throttled), (state, celsius, throttled), "{found:?}");
        let all = format!("{:?}: {}", found.source, found.reason);
        assert!(all.contains(told), "{all}");
    }

    const LAPTOP: [(&str, &str); 13] = [
        ("thermal/thermal_zone0/type", "acpitz\n"),
        ("thermal/thermal_zone0/temp", "47000\n"),
        ("thermal/thermal_zone0/trip_point_0_type", "critical\n"),
        ("thermal/thermal_zone0/trip_point_0_temp", "128000\n"),
        ("thermal/thermal_zone1/type", "x86_pkg_temp\n"),
        ("thermal/thermal_zone1/temp", "52000\n"),
        // Set by a program that wants to be told.
        ("thermal/thermal_zone1/trip_point_0_type", "passive\n"),
        ("thermal/thermal_zone1/trip_point_0_temp", "45000\n"),
        // The radio is no reason to compute less.
        ("thermal/thermal_zone2/type", "iwlwifi_1\n"),
        ("thermal/thermal_zone2/temp", "99000\n"),
        ("thermal/cooling_device0/type", "Processor\n"),
        ("thermal/cooling_device0/cur_state", "0\n"),
        ("thermal/cooling_device1/type", "Fan\n"),
    ];

    fn changed<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        LAPTOP.into_iter().chain(changes.iter().copied()).collect()
    }

    #[test]
    fn laptops() {
        use ThermalState::*;
        check(&LAPTOP, Nominal, Some(52.0), Some(false), "thermal_zone1 (x86_pkg_temp)");
        let hot = changed(&[("thermal/thermal_zone0/temp", "128000\n")]);
        check(
            &hot,
            Critical,
            Some(52.0),
            Some(false),
            "thermal_zone0 (acpitz) is at 128.0 °C, past its limit of 128.0",
        );
        let just_below = changed(&[("thermal/thermal_zone0/temp", "127999\n")]);
        check(&just_below, Nominal, Some(52.0), Some(false), "below its limits");
        let slowed = changed(&[("thermal/cooling_device0/cur_state", "3\n")]);
        check(&slowed, Serious, Some(52.0), Some(true), "slows the processor down");
        let one_of_two = changed(&[
            ("thermal/cooling_device0/cur_state", "3\n"),
            ("thermal/cooling_device2/type", "Processor\n"),
            ("thermal/cooling_device2/cur_state", "0\n"),
        ]);
        check(&one_of_two, Serious, Some(52.0), Some(true), "slows the processor down");
        let fan = changed(&[("thermal/cooling_device1/cur_state", "3\n")]);
        check(&fan, Nominal, Some(52.0), Some(false), "below");
    }

    #[test]
    fn servers_and_boards() {
        use ThermalState::*;
        let server = |package: &'static str| {
            [
                ("hwmon/hwmon0/name", "nvme\n"),
                ("hwmon/hwmon0/temp1_input", "95000\n"),
                ("hwmon/hwmon1/name", "coretemp\n"),
                ("hwmon/hwmon1/temp1_input", package),
                ("hwmon/hwmon1/temp1_max", "84000\n"),
                ("hwmon/hwmon1/temp1_crit", "100000\n"),
                ("hwmon/hwmon1/temp2_input", "40000\n"),
            ]
        };
        check(&server("61000"), Nominal, Some(61.0), None, "hwmon1 (coretemp temp1)");
        check(&server("84000"), Fair, Some(84.0), None, "past its limit of 84.0 °C");
        check(&server("100000"), Serious, Some(100.0), None, "past its limit of 100.0 °C");
        let board = |trip: &'static str| {
            [
                ("thermal/thermal_zone0/type", "cpu-thermal\n"),
                ("thermal/thermal_zone0/temp", "81000\n"),
                ("thermal/thermal_zone0/trip_point_0_type", trip),
                ("thermal/thermal_zone0/trip_point_0_temp", "80000\n"),
                ("thermal/thermal_zone0/trip_point_1_type", "critical\n"),
                ("thermal/thermal_zone0/trip_point_1_temp", "110000\n"),
                ("thermal/cooling_device0/type", "cpufreq-cpu0\n"),
                ("thermal/cooling_device0/cur_state", "0\n"),
            ]
        };
        check(&board("active\n"), Fair, Some(81.0), Some(false), "80.0");
        check(&board("passive\n"), Serious, Some(81.0), Some(false), "80.0");
        check(&board("hot\n"), Critical, Some(81.0), Some(false), "80.0");
        check(&board("lukewarm\n"), Nominal, Some(81.0), Some(false), "below");
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        use ThermalState::*;
        check(&[], Unknown, None, None, "None: the kernel has no sensor");
        let sensor = [("thermal/thermal_zone0/type", "x86_pkg_temp"), ("thermal/thermal_zone0/temp", "52000")];
        check(&sensor, Unknown, Some(52.0), None, "gives no limits");
        let unused = |trip: &'static str| {
            [
                ("thermal/thermal_zone0/type", "acpitz"),
                ("thermal/thermal_zone0/temp", "52000"),
                ("thermal/thermal_zone0/trip_point_0_type", "passive"),
                ("thermal/thermal_zone0/trip_point_0_temp", trip),
            ]
        };
        check(&unused("0"), Unknown, Some(52.0), None, "gives no limits");
        check(&unused("-273150"), Unknown, Some(52.0), None, "gives no limits");
    }

    #[test]
    fn garbage_is_not_told() {
        use ThermalState::*;
        for temperature in ["", "warm", "1e9", "-273000", "99999999999999999999999", "52.5", "\u{fffd}\u{0}"] {
            let zone = [("thermal/thermal_zone0/type", "acpitz"), ("thermal/thermal_zone0/temp", temperature)];
            check(&zone, Unknown, None, None, "no sensor");
        }
        let idle = [
            ("thermal/cooling_device0/type", "intel_powerclamp"),
            ("thermal/cooling_device0/cur_state", "-1"),
            ("thermal/cooling_device1/type", "Processor"),
            ("thermal/cooling_device1/cur_state", "?"),
            ("hwmon/hwmon0/temp1_input", "50000"),
        ];
        check(&idle, Unknown, None, Some(false), "no sensor");
    }
}
