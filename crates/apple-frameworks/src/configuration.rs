//! How Core ML loads a model.

use objc2::rc::Retained;
use objc2_core_ml::{
    MLComputeUnits, MLModelConfiguration, MLOptimizationHints, MLReshapeFrequencyHint, MLSpecializationStrategy,
};
use objc2_foundation::NSString;

use crate::{failure::Failure, os};

/// What Core ML may compute on. It is a preference: what a unit does not take runs on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Units {
    /// All there are.
    #[default]
    All,
    /// The Neural Engine and the CPU; all there are before macOS 13 and iOS 16, which have no such choice.
    CpuAndNeuralEngine,
    /// The GPU and the CPU.
    CpuAndGpu,
    /// The CPU.
    CpuOnly,
}

/// How Core ML loads a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// What it may compute on.
    pub units: Units,
    /// The function of a model with several; its default where `None`.
    pub function: Option<String>,
    /// The name in Instruments; not used before macOS 13 and iOS 16.
    pub display_name: Option<String>,
    /// Whether the GPU may add up in half precision.
    pub low_precision_accumulation: bool,
    /// Inputs seldom change their shape, so that preparing for one is worth more time; not used before macOS 14.4 and
    /// iOS 17.4.
    pub infrequent_reshapes: bool,
    /// Loading may take longer for faster predictions; not used before macOS 15 and iOS 18.
    pub fast_prediction: bool,
}

impl Configuration {
    /// The configuration as an object.
    ///
    /// # Errors
    /// For a function where the system does not know functions: it would run another one.
    pub(crate) fn to_object(&self) -> Result<Retained<MLModelConfiguration>, Failure> {
        // SAFETY: `new` makes an object that is valid with its defaults.
        let object = unsafe { MLModelConfiguration::new() };
        // SAFETY: the value is one of the enumeration's.
        unsafe { object.setComputeUnits(self.units()) };
        if self.low_precision_accumulation {
            // SAFETY: a plain property.
            unsafe { object.setAllowLowPrecisionAccumulationOnGPU(true) };
        }
        if let Some(name) = self.display_name.as_deref().filter(|_| os::DISPLAY_NAME.here()) {
            // SAFETY: a copied property; this system has it.
            unsafe { object.setModelDisplayName(Some(&NSString::from_str(name))) };
        }
        if let Some(function) = &self.function {
            if !os::FUNCTION_NAME.here() {
                return Err(Failure::ours(format!(
                    "the function {function:?} cannot be chosen before {}",
                    os::FUNCTION_NAME
                )));
            }
            // SAFETY: a copied property; this system has it.
            unsafe { object.setFunctionName(Some(&NSString::from_str(function))) };
        }
        if (self.infrequent_reshapes || self.fast_prediction) && os::OPTIMIZATION_HINTS.here() {
            // SAFETY: `hints` copies or makes its own object; this system has the class.
            unsafe { object.setOptimizationHints(&self.hints()) };
        }
        Ok(object)
    }

    fn units(&self) -> MLComputeUnits {
        match self.units {
            Units::All => MLComputeUnits::All,
            Units::CpuAndNeuralEngine if os::NEURAL_ENGINE_UNITS.here() => MLComputeUnits::CPUAndNeuralEngine,
            Units::CpuAndNeuralEngine => MLComputeUnits::All,
            Units::CpuAndGpu => MLComputeUnits::CPUAndGPU,
            Units::CpuOnly => MLComputeUnits::CPUOnly,
        }
    }

    fn hints(&self) -> Retained<MLOptimizationHints> {
        // SAFETY: `new` makes an object that is valid with its defaults; asked for where the class is there.
        let hints = unsafe { MLOptimizationHints::new() };
        if self.infrequent_reshapes && os::OPTIMIZATION_HINTS.here() {
            // SAFETY: the value is one of the enumeration's.
            unsafe { hints.setReshapeFrequency(MLReshapeFrequencyHint::Infrequent) };
        }
        if self.fast_prediction && os::SPECIALIZATION_STRATEGY.here() {
            // SAFETY: the value is one of the enumeration's, and this system has the property.
            unsafe { hints.setSpecializationStrategy(MLSpecializationStrategy::FastPrediction) };
        }
        hints
    }
}
