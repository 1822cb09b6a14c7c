//! Power, from the adapters and batteries that the kernel lists.
//!
//! <https://docs.kernel.org/power/power_supply_class.html>. The source is told as systemd's `systemd-ac-power` tells
//! it, but a machine without adapters and batteries is unknown here and not taken to be on mains.

use std::path::{Path, PathBuf};

use super::{
    super::iokit::{PowerSource, PowerStatus},
    files::{entries, name, number, text},
};

pub(super) fn read(root: &Path) -> PowerStatus {
    let class = root.join("sys/class");
    let supplies: Vec<Supply> = entries(&class.join("power_supply"), "").into_iter().filter_map(Supply::read).collect();
    let batteries: Vec<&Supply> = supplies.iter().filter(|supply| supply.kind == Kind::Battery).collect();
    let (source, reason) = source(&supplies);
    PowerStatus {
        source,
        battery_percent: percent(&batteries),
        low_power_mode: low_power_mode(root),
        watts: discharge(&batteries).or_else(|| metered(&class.join("hwmon"))),
        reason,
    }
}

struct Supply {
    folder: PathBuf,
    kind: Kind,
    /// Whether an adapter gives power.
    online: Option<bool>,
    /// What a battery does: `Charging`, `Discharging`, `Full`, `Not charging`.
    status: String,
}

#[derive(PartialEq)]
enum Kind {
    Adapter,
    Battery,
}

impl Supply {
    /// `None` for what does not feed the machine: a mouse's battery, or an empty bay.
    fn read(folder: PathBuf) -> Option<Supply> {
        let word = |file: &str| text(&folder.join(file)).unwrap_or_default();
        let kind = match word("type").as_str() {
            "Mains" | "USB" | "Wireless" => Kind::Adapter,
            "Battery" | "UPS" => Kind::Battery,
            _ => return None,
        };
        if word("scope") == "Device" || word("present") == "0" {
            return None;
        }
        let online = number(&folder.join("online")).map(|online| online > 0);
        Some(Supply { kind, online, status: word("status"), folder })
    }

    fn amount(&self, file: &str) -> Option<f64> {
        // Some drivers write a current that leaves the battery as a negative one.
        number(&self.folder.join(file)).map(|amount| amount.unsigned_abs() as f64).filter(|amount| *amount > 0.0)
    }

    fn percent(&self) -> Option<f64> {
        let told = number(&self.folder.join("capacity")).map(|percent| percent as f64);
        let counted = || {
            let of = |kind: &str| {
                let now = number(&self.folder.join(format!("{kind}_now")))?;
                Some(now as f64 / self.amount(&format!("{kind}_full"))? * 100.0)
            };
            of("energy").or_else(|| of("charge"))
        };
        told.or_else(counted).filter(|percent| (0.0..=100.0).contains(percent))
    }

    /// Watts: the kernel writes millionths of them, of volts and of amperes.
    fn watts(&self) -> Option<f64> {
        let product = || Some(self.amount("current_now")? * self.amount("voltage_now")? * 1e-12);
        self.amount("power_now").map(|power| power * 1e-6).or_else(product)
    }
}

fn source(supplies: &[Supply]) -> (PowerSource, String) {
    let adapters = || supplies.iter().filter(|supply| supply.kind == Kind::Adapter);
    let battery = |status: &str| supplies.iter().find(|supply| supply.kind == Kind::Battery && supply.status == status);
    let told = |source, supply: &Supply, does: &str| (source, format!("{} {does}", name(&supply.folder)));
    if let Some(adapter) = adapters().find(|supply| supply.online == Some(true)) {
        return told(PowerSource::Mains, adapter, "gives power");
    }
    if let Some(battery) = battery("Discharging") {
        return told(PowerSource::Battery, battery, "gives power");
    }
    if let Some(battery) = battery("Charging") {
        return told(PowerSource::Mains, battery, "is being charged");
    }
    match (adapters().find(|supply| supply.online == Some(false)), supplies.iter().any(|s| s.kind == Kind::Battery)) {
        (Some(adapter), true) => told(PowerSource::Battery, adapter, "gives no power, and there is a battery"),
        (_, true) => (PowerSource::Unknown, "the kernel has a battery, but neither uses nor charges it".to_owned()),
        (_, false) => (PowerSource::Unknown, "the kernel has no battery and no adapter that gives power".to_owned()),
    }
}

/// How full the batteries are together: weighted by what each holds where all tell, else the mean.
fn percent(batteries: &[&Supply]) -> Option<f64> {
    let percents: Vec<f64> = batteries.iter().map(|battery| battery.percent()).collect::<Option<_>>()?;
    let holds = |file: &&str| batteries.iter().map(|battery| battery.amount(file)).collect::<Option<Vec<f64>>>();
    let weights = ["energy_full", "charge_full"].iter().find_map(holds).unwrap_or_else(|| vec![1.0; percents.len()]);
    let all: f64 = weights.iter().sum();
    (all > 0.0).then(|| percents.iter().zip(&weights).map(|(percent, weight)| percent * weight).sum::<f64>() / all)
}

/// What leaves the batteries; `None` where nothing does, or one of them does not tell.
fn discharge(batteries: &[&Supply]) -> Option<f64> {
    let discharging: Vec<_> = batteries.iter().filter(|battery| battery.status == "Discharging").collect();
    let watts = discharging.iter().map(|battery| battery.watts()).sum::<Option<f64>>();
    watts.filter(|_| !discharging.is_empty())
}

/// What ACPI's power meter, which some servers have, measures of the whole machine. RAPL is left out: its counters
/// are for root alone, and a rate takes two readings.
fn metered(hwmon: &Path) -> Option<f64> {
    let is_meter = |monitor: &&PathBuf| text(&monitor.join("name")).is_some_and(|name| name == "power_meter");
    let monitors = entries(hwmon, "hwmon");
    let monitor = monitors.iter().find(is_meter)?;
    let read = |file: &&str| number(&monitor.join(file)).filter(|power| *power > 0);
    ["power1_average", "power1_input"].iter().find_map(read).map(|power| power as f64 * 1e-6)
}

/// Whether the firmware's profile is the one that saves power. What a profile of the user's own does is not known.
fn low_power_mode(root: &Path) -> Option<bool> {
    match text(&root.join("sys/firmware/acpi/platform_profile"))?.as_str() {
        "custom" => None,
        profile => Some(profile == "low-power"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::files::tests::machine, *};

    /// What a machine with these supplies, and further files, is found to be.
    fn check(supplies: &[(&str, &[(&str, &str)])], files: &[(&str, &str)], expected: &str) {
        let mut all: Vec<(String, &str)> = files.iter().map(|(path, content)| (path.to_string(), *content)).collect();
        for (supply, files) in supplies {
            let folder = format!("sys/class/power_supply/{supply}");
            all.extend(files.iter().map(|(file, content)| (format!("{folder}/{file}"), *content)));
        }
        let all: Vec<(&str, &str)> = all.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        let found = read(machine(&all).path());
        let percent = found.battery_percent.map(|percent| format!(" {percent:.1} %")).unwrap_or_default();
        let watts = found.watts.map(|watts| format!(" {watts:.2} W")).unwrap_or_default();
        let low = found.low_power_mode.map(|low| format!(" low={low}")).unwrap_or_default();
        assert_eq!(format!("{}{percent}{watts}{low}: {}", found.source, found.reason), expected);
    }

    const ADAPTER: (&str, &[(&str, &str)]) = ("AC", &[("type", "Mains\n"), ("online", "1\n")]);
    const UNPLUGGED: (&str, &[(&str, &str)]) = ("AC", &[("type", "Mains\n"), ("online", "0\n")]);

    #[test]
    fn laptops() {
        let battery: &[_] = &[
            ("type", "Battery\n"),
            ("present", "1\n"),
            ("status", "Discharging\n"),
            ("capacity", "73\n"),
            ("power_now", "11250000\n"),
        ];
        let profile = ("sys/firmware/acpi/platform_profile", "low-power\n");
        check(&[UNPLUGGED, ("BAT0", battery)], &[profile], "battery 73.0 % 11.25 W low=true: BAT0 gives power");
        let balanced = ("sys/firmware/acpi/platform_profile", "balanced\n");
        let charging: &[_] =
            &[("type", "Battery"), ("status", "Charging"), ("capacity", "74"), ("power_now", "30000000")];
        check(&[ADAPTER, ("BAT0", charging)], &[balanced], "mains 74.0 % low=false: AC gives power");
        let mouse: &[_] = &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging"), ("capacity", "5")];
        check(&[ADAPTER, ("hidpp_battery_0", mouse)], &[], "mains: AC gives power");
        let weak: &[_] = &[("type", "USB\n"), ("online", "1\n")];
        check(
            &[UNPLUGGED, ("ucsi-source", weak), ("BAT0", battery)],
            &[],
            "mains 73.0 % 11.25 W: ucsi-source gives power",
        );
    }

    #[test]
    fn batteries() {
        let current: &[_] = &[
            ("type", "Battery"),
            ("status", "Discharging"),
            ("charge_now", "1000000"),
            ("charge_full", "4000000"),
            ("current_now", "-1500000"),
            ("voltage_now", "12000000"),
        ];
        check(&[("BAT0", current)], &[], "battery 25.0 % 18.00 W: BAT0 gives power");
        let of = |status, percent, full| {
            [("type", "Battery"), ("status", status), ("capacity", percent), ("energy_full", full)]
        };
        let (large, small) = (of("Not charging", "100", "60000000"), of("Unknown", "0", "20000000"));
        check(
            &[UNPLUGGED, ("BAT0", &large), ("BAT1", &small)],
            &[],
            "battery 75.0 %: AC gives no power, and there is a battery",
        );
        let untold = of("Not charging", "0", "?");
        check(
            &[("BAT0", &large), ("BAT1", &untold)],
            &[],
            "unknown 50.0 %: the kernel has a battery, but neither uses nor charges it",
        );
        let absent: &[_] = &[("type", "Battery"), ("present", "0"), ("capacity", "0")];
        check(&[ADAPTER, ("BAT1", absent)], &[], "mains: AC gives power");
        check(&[("BAT0", &of("Charging", "40", "1"))], &[], "mains 40.0 %: BAT0 is being charged");
        let two =
            [("BAT0", current), ("BAT1", &[("type", "Battery"), ("status", "Discharging"), ("capacity", "75")][..])];
        check(&two, &[], "battery 50.0 %: BAT0 gives power");
    }

    #[test]
    fn servers_and_virtual_machines() {
        const NOTHING: &str = "unknown: the kernel has no battery and no adapter that gives power";
        check(&[], &[], NOTHING);
        let meter = [
            ("sys/class/hwmon/hwmon2/name", "power_meter\n"),
            ("sys/class/hwmon/hwmon2/power1_average", "213000000\n"),
        ];
        check(&[], &meter, &NOTHING.replace("unknown", "unknown 213.00 W"));
        check(&[ADAPTER], &[], "mains: AC gives power");
        check(&[UNPLUGGED], &[], NOTHING);
    }

    #[test]
    fn garbage_is_not_told() {
        let battery: &[_] = &[("type", "Battery"), ("status", "?"), ("capacity", "300"), ("power_now", "?")];
        let adapter: &[_] = &[("type", "Mains"), ("online", "yes")];
        check(
            &[("AC", adapter), ("BAT0", battery), ("x", &[("type", "Perpetual")]), ("y", &[("online", "1")])],
            &[("sys/firmware/acpi/platform_profile", "custom\n")],
            "unknown: the kernel has a battery, but neither uses nor charges it",
        );
        let empty: &[_] = &[("type", "Battery"), ("status", "Discharging"), ("energy_now", "5"), ("energy_full", "0")];
        check(&[("BAT0", empty)], &[], "battery: BAT0 gives power");
    }
}
