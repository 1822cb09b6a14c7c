//! What is published of each chip's Neural Engine.

use serde::Serialize;

/// What a chip's Neural Engine reaches, as far as somebody has measured it or Apple says so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Chip {
    /// Its name without `Apple`.
    pub name: &'static str,
    /// The number of the A-series chip whose Neural Engine it has, or that came out with it.
    pub generation: u32,
    /// Peak of fp16 arithmetic, in 10^12 operations a second. Since the A17 Pro and the M4 Apple gives int8, which is halved
    /// here.
    pub teraflops: f64,
    /// Where that comes from.
    pub teraflops_source: &'static str,
    /// Bytes a second from memory, in 10^9.
    pub gigabytes: f64,
    /// Where that comes from.
    pub gigabytes_source: &'static str,
}

const APPLE: &str = "Apple's TOPS";
const HALVED: &str = "half of Apple's int8 TOPS";
const MADERIX: &str = "measured by maderix, convolutions through private interfaces";
const ANEMLL: &str = "anemll-bench, llama_lm_head";
const RESNET: &str = "derived from ResNet50's 51 MB of weights in 1.52 ms on the A16 (coremltools' guide)";
const A17: &str = "derived, between OPT-1.3B's 2.6 GB in 92 ms and ResNet50's 51 MB in 1.38 ms (coremltools' guide)";

/// Every chip with a figure, oldest first. Sources: `hollance/neural-engine` (supported devices) for Apple's TOPS,
/// `maderix/ANE`, `anemll/anemll-bench`, and coremltools' guide for optimisation.
pub const CHIPS: &[Chip] = &[
    chip("A14", 14, (11.0, APPLE), (37.0, RESNET)),
    chip("M1", 14, (11.0, APPLE), (60.9, ANEMLL)),
    chip("M1 Pro", 14, (11.0, APPLE), (54.9, ANEMLL)),
    chip("M1 Max", 14, (11.0, APPLE), (54.6, ANEMLL)),
    chip("M1 Ultra", 14, (22.0, APPLE), (54.7, ANEMLL)),
    chip("A15", 15, (15.8, APPLE), (37.0, RESNET)),
    chip("M2", 15, (15.8, APPLE), (60.5, ANEMLL)),
    chip("M2 Max", 15, (15.8, APPLE), (62.0, ANEMLL)),
    chip("M2 Ultra", 15, (31.6, APPLE), (61.7, ANEMLL)),
    chip("A16", 16, (17.0, APPLE), (37.0, RESNET)),
    chip("M3", 16, (18.0, APPLE), (63.1, ANEMLL)),
    chip("M3 Max", 16, (18.0, APPLE), (120.2, ANEMLL)),
    chip("A17 Pro", 17, (17.5, HALVED), (34.0, A17)),
    chip("A18", 18, (17.5, HALVED), (34.0, A17)),
    chip("M4", 18, (18.6, MADERIX), (64.2, ANEMLL)),
    chip("M4 Pro", 18, (12.6, MADERIX), (126.4, ANEMLL)),
    chip("M4 Max", 18, (10.9, MADERIX), (118.9, ANEMLL)),
    chip("M5", 19, (12.4, MADERIX), (70.2, ANEMLL)),
];

/// What an estimate is for where nobody names a chip.
pub(crate) const DEFAULT: &str = "M1";

/// The first generation that computes on int8 faster than on fp16.
pub(crate) const FAST_INT8: u32 = 17;

/// What one prediction costs beside its work, in seconds: the bare run of a Neural Engine program (maderix), and the
/// largest that Core ML was seen to take around it (aosama/astronomical#540).
pub(crate) const DISPATCH: [f64; 2] = [0.095e-3, 0.23e-3];

/// What the Neural Engine holds beside memory (maderix; confidence C). Operations that take more read their activations from
/// memory.
pub(crate) const ON_CHIP_BYTES: f64 = 32.0 * 1024.0 * 1024.0;

const fn chip(
    name: &'static str,
    generation: u32,
    (teraflops, teraflops_source): (f64, &'static str),
    (gigabytes, gigabytes_source): (f64, &'static str),
) -> Chip {
    Chip { name, generation, teraflops, teraflops_source, gigabytes, gigabytes_source }
}

impl Chip {
    /// The chip of this name, with or without `Apple`, in any case: `m1`, `Apple M4 Pro`, `a17-pro`.
    ///
    /// ```
    /// assert_eq!(coreml_explain::Chip::named("apple m4-pro").unwrap().generation, 18);
    /// assert!(coreml_explain::Chip::named("M0").is_none());
    /// ```
    pub fn named(name: &str) -> Option<&'static Chip> {
        let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
        let name = plain(name);
        let name = name.strip_prefix("apple").unwrap_or(&name);
        CHIPS.iter().find(|chip| plain(chip.name) == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_are_found_by_their_names() {
        assert!(CHIPS.iter().all(|chip| Chip::named(chip.name) == Some(chip)));
        assert!(Chip::named(DEFAULT).is_some());
        assert!(CHIPS.is_sorted_by_key(|chip| chip.generation));
    }
}
