//! What the fuzz targets share: a package in memory-backed storage with one file replaced, opened and lowered.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run <target>` from the folder above; `python tools/fuzz_seeds.py` lays the seeds.

use std::{fs, path::PathBuf};

use coreml_format::Model;
use coreml_onnx::{LowerOptions, Storage, lower};

/// A small good model: `examples/digits/digits.mlpackage`.
const MODEL: &[u8] = include_bytes!("../../examples/digits/digits.mlpackage/Data/com.apple.CoreML/model.mlmodel");
const WEIGHTS: &[u8] =
    include_bytes!("../../examples/digits/digits.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
const MANIFEST: &[u8] = include_bytes!("../../examples/digits/digits.mlpackage/Manifest.json");

/// Weights past this size are not read: the fuzzer would spend its time on widening them.
const WIDEST: usize = 1 << 20;

/// The parts of a package; those left out are the good model's.
#[derive(Default)]
pub struct Parts<'a> {
    /// `Manifest.json`.
    pub manifest: Option<&'a [u8]>,
    /// The root model.
    pub model: Option<&'a [u8]>,
    /// `weights/weight.bin`.
    pub weights: Option<&'a [u8]>,
}

/// Opens a package made of these parts and lowers it.
pub fn open_package(parts: Parts<'_>) {
    let root = folder("fuzz.mlpackage");
    let data = root.join("Data/com.apple.CoreML");
    fs::create_dir_all(data.join("weights")).expect("storage");
    fs::write(root.join("Manifest.json"), parts.manifest.unwrap_or(MANIFEST)).expect("storage");
    fs::write(data.join("model.mlmodel"), parts.model.unwrap_or(MODEL)).expect("storage");
    fs::write(data.join("weights/weight.bin"), parts.weights.unwrap_or(WEIGHTS)).expect("storage");
    open(root);
}

/// Opens a `.mlmodel` of these bytes and lowers it.
pub fn open_file(bytes: &[u8]) {
    let path = folder("fuzz.mlmodel");
    fs::write(&path, bytes).expect("storage");
    open(path);
}

/// Opens a compiled model with this `coremldata.bin`.
pub fn open_compiled(bytes: &[u8]) {
    let root = folder("fuzz.mlmodelc");
    fs::create_dir_all(&root).expect("storage");
    fs::write(root.join("coremldata.bin"), bytes).expect("storage");
    open(root);
}

/// Removes what this process laid down.
pub fn clean() {
    fs::remove_dir_all(base()).ok();
}

/// A path of this process.
pub fn folder(name: &str) -> PathBuf {
    fs::create_dir_all(base()).expect("storage");
    base().join(name)
}

/// Storage that needs no disk, where there is some.
fn base() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let root = if memory.is_dir() { memory } else { std::env::temp_dir() };
    root.join(format!("ane-fuzz-{}", std::process::id()))
}

/// Whatever the bytes are: an error or a model, within bounds, and no panic.
fn open(path: PathBuf) {
    let Ok(model) = Model::open(path) else { return };
    let Ok(lowered) = lower(&model, &LowerOptions::default()) else { return };
    if lowered.model.weights_len() < WIDEST {
        lowered.model.encode(Storage::Inside);
    }
}
