//! Power.

use objc2::rc::autoreleasepool;
use objc2_foundation::{NSProcessInfo, NSString};

use super::{observation::Observation, supplies};
use crate::os;

/// What gives power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PowerSource {
    /// An adapter; a battery may be charging.
    Mains,
    /// The machine's battery.
    Battery,
    /// An uninterruptible power supply that the mains has left.
    Ups,
}

/// Where power comes from, and what there is of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Power {
    /// What gives power now; `None` where the system does not say.
    pub source: Option<PowerSource>,
    /// Batteries, and power supplies with one.
    pub batteries: Vec<Battery>,
}

/// A battery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Battery {
    /// How full it is, from 0 to 100; `None` where it does not say.
    pub percent: Option<f64>,
    /// What it gives, in watts; `None` where it gives nothing, or does not say.
    pub watts: Option<f64>,
}

/// Where power comes from; `None` where the system does not tell. iOS tells the main thread of an application alone.
pub fn power() -> Option<Power> {
    autoreleasepool(|_| supplies::read())
}

/// Whether the user told the machine to save power; `None` before macOS 12, which has no such mode.
pub fn low_power_mode() -> Option<bool> {
    os::LOW_POWER_MODE.here().then(|| autoreleasepool(|_| NSProcessInfo::processInfo().isLowPowerModeEnabled()))
}

/// Calls back whenever [`low_power_mode`] changes, from a thread of the system's.
pub fn on_low_power_change(callback: impl Fn() + Send + Sync + 'static) -> Observation {
    // The constant of this name and value came with macOS 12. A binary that refers to it does not start on macOS 11.
    let name = NSString::from_str("NSProcessInfoPowerStateDidChangeNotification");
    Observation::of(&name, callback)
}

/// A power supply as the system describes it.
#[cfg(any(target_os = "macos", test))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Description {
    /// Whether it is there: there may be a bay without a battery in it.
    pub(super) present: Option<bool>,
    /// Whether it gives power.
    pub(super) discharging: bool,
    /// What it holds and could hold, in the same unit.
    pub(super) capacity: (Option<i64>, Option<i64>),
    /// Below zero for what leaves it.
    pub(super) milliamperes: Option<i64>,
    pub(super) millivolts: Option<i64>,
}

#[cfg(any(target_os = "macos", test))]
impl Description {
    /// The battery that is described; `None` where there is none.
    pub(super) fn battery(self) -> Option<Battery> {
        if self.present == Some(false) {
            return None;
        }
        let percent = match self.capacity {
            (Some(now), Some(full)) if full > 0 => Some(now as f64 / full as f64 * 100.0),
            _ => None,
        };
        let watts = self.milliamperes.zip(self.millivolts).map(|(current, voltage)| {
            let microwatts = current.unsigned_abs() as f64 * voltage.unsigned_abs() as f64;
            microwatts * 1e-6
        });
        Some(Battery {
            percent: percent.filter(|percent| (0.0..=100.0).contains(percent)),
            watts: watts.filter(|watts| self.discharging && *watts > 0.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batteries() {
        let check = |description: Description, expected: Option<(Option<f64>, Option<f64>)>| {
            let found = description.battery();
            assert_eq!(found.map(|battery| (battery.percent, battery.watts)), expected, "{description:?}");
        };
        let laptop = Description {
            present: Some(true),
            discharging: true,
            capacity: (Some(80), Some(100)),
            milliamperes: Some(-1500),
            millivolts: Some(12_000),
        };
        check(laptop, Some((Some(80.0), Some(18.0))));
        check(Description { discharging: false, milliamperes: Some(900), ..laptop }, Some((Some(80.0), None)));
        check(Description { milliamperes: Some(0), ..laptop }, Some((Some(80.0), None)));
        check(Description { capacity: (Some(4000), Some(5000)), ..laptop }, Some((Some(80.0), Some(18.0))));
        check(Description { present: Some(false), ..laptop }, None);
        check(Description { capacity: (Some(1), Some(0)), ..laptop }, Some((None, Some(18.0))));
        check(Description { capacity: (Some(200), Some(100)), ..laptop }, Some((None, Some(18.0))));
        check(Description { millivolts: None, ..laptop }, Some((Some(80.0), None)));
        check(Description::default(), Some((None, None)));
    }
}
