//! What Core ML can do here.

use super::os;

/// What this machine runs models on.
///
/// It says what this library reaches: where [`coreml_available`](CoreMlCapabilities::coreml_available) is false,
/// models run on the CPU through ONNX Runtime or rten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreMlCapabilities {
    /// Whether models run through Core ML.
    pub coreml_available: bool,
    /// Whether Core ML has a Neural Engine here. Systems before macOS 14 and iOS 17 do not tell: there it is what the
    /// processor's name says, and false where that says nothing.
    pub ane_available: bool,
    /// Whether Core ML has a GPU here.
    pub gpu_available: bool,
    /// The processor's name as the system tells it, such as `Apple M4`; `None` where it does not.
    pub chip: Option<String>,
    /// Cores of the Neural Engine; `None` where there is none, or the system does not say.
    pub ane_cores: Option<usize>,
    /// The system's name and version as it tells them; `None` where it does not.
    pub os_version: Option<String>,
    /// Types that a model may compute in, by their names in MIL: `fp32`, `fp16`. A model whose weights have another
    /// type still runs; they are widened.
    pub supported_precisions: Vec<String>,
    /// What a model can run on: `CPU`, `GPU`, `ANE`.
    pub compute_units: Vec<String>,
    /// Why something is not available, half a sentence each: first why there is no Neural Engine, last what newer
    /// versions of the system have.
    pub notes: Vec<String>,
}

/// What Core ML can do here.
///
/// Never fails. Cost: two small files are read on Linux; Core ML and the kernel are asked on Apple's systems.
///
/// ```
/// use apple_silicon::ane::compat::coreml::detect_coreml_capabilities;
///
/// let capabilities = detect_coreml_capabilities();
/// if capabilities.supported_precisions.contains(&"fp16".to_string()) {
///     println!("half floats are computed as such");
/// }
/// assert!(capabilities.compute_units.contains(&"CPU".to_string()));
/// ```
pub fn detect_coreml_capabilities() -> CoreMlCapabilities {
    os::capabilities()
}

impl CoreMlCapabilities {
    /// Those of a machine where models run on the CPU alone, and why.
    #[cfg_attr(any(target_vendor = "apple", gnustep), allow(dead_code, reason = "these systems have more"))]
    pub(super) fn cpu_only(why: &str) -> CoreMlCapabilities {
        CoreMlCapabilities {
            // The engines compute in fp32 there, whatever the model asks for.
            supported_precisions: vec!["fp32".to_owned()],
            compute_units: vec!["CPU".to_owned()],
            notes: vec![why.to_owned()],
            ..CoreMlCapabilities::default()
        }
    }
}
