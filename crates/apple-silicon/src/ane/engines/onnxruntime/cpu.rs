//! What of the CPU decides how ONNX Runtime optimises a graph.

use std::env::consts::{ARCH, OS};

/// The system, the architecture, and the extensions of its instructions for which ONNX Runtime has kernels.
pub(super) fn describe() -> String {
    let found = extensions().into_iter().filter_map(|(name, found)| found.then_some(name));
    [OS, ARCH].into_iter().chain(found).collect::<Vec<_>>().join(" ")
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<(&'static str, bool)> {
    macro_rules! detect {
        ($($name:tt)*) => { vec![$(($name, std::arch::is_x86_feature_detected!($name))),*] };
    }
    detect!("sse4.1" "avx" "f16c" "fma" "avx2" "avxvnni" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni"
        "avx512bf16" "avx512fp16")
}

#[cfg(target_arch = "aarch64")]
fn extensions() -> Vec<(&'static str, bool)> {
    macro_rules! detect {
        ($($name:tt)*) => { vec![$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    detect!("neon" "fp16" "dotprod" "i8mm" "bf16" "sve" "sve2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn extensions() -> Vec<(&'static str, bool)> {
    Vec::new()
}
