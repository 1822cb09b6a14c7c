//! macOS's power supplies, as IOKit describes them.

use objc2_core_foundation::{CFBoolean, CFDictionary, CFNumber, CFString, CFType};
use objc2_io_kit::{
    IOPSCopyPowerSourcesInfo, IOPSCopyPowerSourcesList, IOPSGetPowerSourceDescription, IOPSGetProvidingPowerSourceType,
};

use super::power::{Description, Power, PowerSource};

pub(super) fn read() -> Option<Power> {
    let snapshot = IOPSCopyPowerSourcesInfo()?;
    // SAFETY: the snapshot is what the function takes.
    let source = unsafe { IOPSGetProvidingPowerSourceType(Some(&snapshot)) };
    // SAFETY: the snapshot is what the function takes.
    let supplies = unsafe { IOPSCopyPowerSourcesList(Some(&snapshot)) }?;
    // SAFETY: the list is documented to have elements of this type, which all objects of Core Foundation have.
    let supplies = unsafe { supplies.cast_unchecked::<CFType>() };
    let describe = |supply: &CFType| {
        // SAFETY: the supply is one of this snapshot's.
        let description = unsafe { IOPSGetPowerSourceDescription(Some(&snapshot), Some(supply)) }?;
        // SAFETY: keys are documented to be strings, and all objects of Core Foundation have the values' type.
        let description = unsafe { description.cast_unchecked::<CFString, CFType>() };
        read_description(description).battery()
    };
    Some(Power {
        source: source.and_then(|source| match source.to_string().as_str() {
            "AC Power" => Some(PowerSource::Mains),
            "Battery Power" => Some(PowerSource::Battery),
            "UPS Power" => Some(PowerSource::Ups),
            _ => None,
        }),
        batteries: supplies.iter().filter_map(|supply| describe(&supply)).collect(),
    })
}

/// Keys and their units are those of `IOPSKeys.h`.
fn read_description(description: &CFDictionary<CFString, CFType>) -> Description {
    let value = |key: &str| description.get(&CFString::from_str(key));
    let number = |key: &str| value(key)?.downcast_ref::<CFNumber>()?.as_i64();
    Description {
        present: value("Is Present").and_then(|value| Some(value.downcast_ref::<CFBoolean>()?.as_bool())),
        discharging: value("Power Source State").is_some_and(|value| {
            value.downcast_ref::<CFString>().is_some_and(|text| text.to_string() == "Battery Power")
        }),
        capacity: (number("Current Capacity"), number("Max Capacity")),
        milliamperes: number("Current"),
        millivolts: number("Voltage"),
    }
}
