//! What a caller prefers, by the names that Core ML's users know.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ane::errors::{ANEError, Result};

/// Where a caller would like a model to run. As in Core ML it is a preference: what is not there is passed over in the
/// order ANE, GPU, CPU, and results say what ran.
///
/// ```
/// use apple_silicon::ane::infer::ComputeUnits;
///
/// assert_eq!("ane".parse(), Ok(ComputeUnits::Ane));
/// assert!("TPU".parse::<ComputeUnits>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ComputeUnits {
    /// The Neural Engine first, then the GPU, then the CPU.
    #[default]
    All,
    /// The Neural Engine, and the CPU for what it does not take.
    Ane,
    /// The GPU, and the CPU for what it does not take.
    Gpu,
    /// The CPU alone.
    Cpu,
}

impl ComputeUnits {
    const NAMES: [(&str, ComputeUnits); 4] = [
        ("ALL", ComputeUnits::All),
        ("ANE", ComputeUnits::Ane),
        ("GPU", ComputeUnits::Gpu),
        ("CPU", ComputeUnits::Cpu),
    ];

    /// These units, then fewer and fewer: what to go on with where a model does not run.
    pub(crate) fn fewer(self) -> &'static [ComputeUnits] {
        match self {
            ComputeUnits::All => &[ComputeUnits::All, ComputeUnits::Gpu, ComputeUnits::Cpu],
            ComputeUnits::Ane => &[ComputeUnits::Ane, ComputeUnits::Gpu, ComputeUnits::Cpu],
            ComputeUnits::Gpu => &[ComputeUnits::Gpu, ComputeUnits::Cpu],
            ComputeUnits::Cpu => &[ComputeUnits::Cpu],
        }
    }

    /// The preference of an option that may be left out.
    pub(crate) fn of(option: Option<&str>) -> Result<ComputeUnits> {
        option.map_or(Ok(ComputeUnits::default()), str::parse)
    }
}

impl FromStr for ComputeUnits {
    type Err = ANEError;

    /// # Errors
    /// [`ANEError::CompilationFailed`] for any other name, with the names there are.
    fn from_str(name: &str) -> Result<ComputeUnits> {
        let known = ComputeUnits::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, units)| *units).ok_or_else(|| {
            ANEError::CompilationFailed(format!(
                "there are no compute units {name:?}; choose \"ANE\", \"GPU\", \"CPU\" or \"ALL\""
            ))
        })
    }
}

/// What ran a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ComputeUnit {
    /// The Apple Neural Engine.
    Ane,
    /// The GPU.
    Gpu,
    /// The CPU.
    Cpu,
}

impl fmt::Display for ComputeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ComputeUnit::Ane => "ANE",
            ComputeUnit::Gpu => "GPU",
            ComputeUnit::Cpu => "CPU",
        })
    }
}

/// What a model computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Half precision: every result is rounded to fp16, as the Neural Engine does.
    Fp16,
    /// Single precision.
    Fp32,
    /// Integer arithmetic on quantised activations.
    Int8,
}

impl Precision {
    const NAMES: [(&str, Precision); 3] =
        [("fp16", Precision::Fp16), ("fp32", Precision::Fp32), ("int8", Precision::Int8)];

    /// The precision of an option that may be left out.
    pub(crate) fn of(option: Option<&str>) -> Result<Option<Precision>> {
        option.map(str::parse).transpose()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Precision::NAMES.iter().find(|(_, precision)| precision == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Precision {
    type Err = ANEError;

    /// # Errors
    /// [`ANEError::UnsupportedPrecision`] for any other name, with the names there are.
    fn from_str(name: &str) -> Result<Precision> {
        let known = Precision::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, precision)| *precision).ok_or_else(|| {
            ANEError::UnsupportedPrecision(format!(
                "there is no precision {name:?}; choose \"fp16\", \"fp32\" or \"int8\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_any_case_and_others_are_told() {
        for (name, units) in [("ane", ComputeUnits::Ane), ("Cpu", ComputeUnits::Cpu), ("ALL", ComputeUnits::All)] {
            assert_eq!(name.parse(), Ok(units));
        }
        let message = "npu".parse::<ComputeUnits>().unwrap_err().to_string();
        assert_eq!(message, "there are no compute units \"npu\"; choose \"ANE\", \"GPU\", \"CPU\" or \"ALL\"");
        assert_eq!("FP16".parse(), Ok(Precision::Fp16));
        let message = "bf16".parse::<Precision>().unwrap_err().to_string();
        assert_eq!(message, "there is no precision \"bf16\"; choose \"fp16\", \"fp32\" or \"int8\"");
    }
}
