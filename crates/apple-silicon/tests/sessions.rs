//! Sessions of one model share its weights: what a further one costs is its activations.
//!
//! The models are written here, as neural networks of the older format, since their weights are too big to check in.
//! One test for each kind of layer: ONNX Runtime reorders the weights of convolutions when it optimises, and packs
//! those of matrix products. Memory is looked at on Linux only.

use std::{env, fs, num::NonZeroUsize, path::Path, process::Command, sync::Barrier, thread};

use apple_silicon::ane::{
    engines::{EngineChoice, Status, installed},
    features::{Array, Features},
    limits::{Cancel, Limits},
    models::coreml_model::{CoreMlModel, LoadOptions},
};

const MIB: f64 = (1 << 20) as f64;
const SESSIONS: usize = 4;

/// glibc's variable that makes it give freed memory back at once, which is what this test looks at. Without it glibc
/// keeps up to what one session frees while it packs, for each thread that has made one.
const GIVE_BACK: &str = "MALLOC_MMAP_THRESHOLD_";

#[test]
#[cfg(target_os = "linux")]
fn sessions_share_weights() {
    if env::var_os(GIVE_BACK).is_none() {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "sessions_share_weights", "--nocapture"]).env(GIVE_BACK, "65536");
        assert!(child.status().unwrap().success());
        return;
    }
    if !has_onnxruntime() {
        return;
    }
    let (channels, size) = (512, 8);
    let layers: Vec<Vec<u8>> = (0..4).map(|n| convolution(n, channels)).collect();
    share("convolutions", &[1, channels, size, size], layers, 4 * channels * channels * 9);
    let width = 2048;
    let layers: Vec<Vec<u8>> = (0..3).map(|n| inner_product(n, width)).collect();
    share("matrix products", &[4, width], layers, 3 * width * width);
}

/// Checks what further sessions cost for a model with this many weights.
#[cfg(target_os = "linux")]
fn share(what: &str, shape: &[usize], layers: Vec<Vec<u8>>, weights: usize) {
    let weights = (weights * size_of::<f32>()) as f64 / MIB;
    let resident = residents(shape, layers);
    println!("{what} with {weights:.0} MiB of weights, resident with 1 to {SESSIONS} sessions: {resident:.0?} MiB");
    for n in 1..SESSIONS {
        let more = resident[n] - resident[n - 1];
        assert!(more < 0.3 * weights, "{what}: session {} costs {more:.0} MiB", n + 1);
    }
}

#[test]
fn sessions_agree_and_runs_can_be_stopped() {
    if !has_onnxruntime() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layers: Vec<Vec<u8>> = (0..8).map(|n| convolution(n, 64)).collect();
    let shape = [1, 64, 64, 64];
    let model = load(folder.path(), &shape, &layers);
    let features = input(&shape);
    let alone = model.predict(&features).unwrap();
    let barrier = Barrier::new(SESSIONS);
    thread::scope(|scope| {
        for _ in 0..SESSIONS {
            scope.spawn(|| {
                for _ in 0..4 {
                    barrier.wait();
                    assert_eq!(model.predict(&features).unwrap(), alone, "every session gives the same bits");
                }
            });
        }
    });
    let cancel = Cancel::new();
    let limits = Limits::default().cancelled_by(&cancel);
    let stopped = thread::scope(|scope| {
        let runs = scope.spawn(|| (0..10_000).find_map(|_| model.predict_within(&features, None, &limits).err()));
        cancel.cancel();
        runs.join().unwrap()
    });
    assert_eq!(stopped.expect("it was cancelled").to_string(), "the prediction was cancelled by its caller");
    assert_eq!(model.predict(&features).unwrap(), alone, "a stopped session can be used again");
}

/// Resident memory in MiB after runs with 1, 2, ... sessions at a time.
#[cfg(target_os = "linux")]
fn residents(shape: &[usize], layers: Vec<Vec<u8>>) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let model = load(folder.path(), shape, &layers);
    drop(layers);
    let features = input(shape);
    (1..=SESSIONS)
        .map(|sessions| {
            let barrier = Barrier::new(sessions);
            thread::scope(|scope| {
                for _ in 0..sessions {
                    scope.spawn(|| {
                        for _ in 0..12 {
                            barrier.wait();
                            model.predict(&features).unwrap();
                        }
                    });
                }
            });
            resident()
        })
        .collect()
}

fn has_onnxruntime() -> bool {
    let found = installed().iter().any(|e| e.engine == "onnxruntime" && e.status == Status::Chosen);
    if !found {
        println!("skipped: onnxruntime was not found");
    }
    found
}

fn load(folder: &Path, shape: &[usize], layers: &[Vec<u8>]) -> CoreMlModel {
    let path = folder.join("network.mlmodel");
    fs::write(&path, neural_network(shape, layers)).unwrap();
    let options = LoadOptions {
        engine: EngineChoice::OnnxRuntime,
        max_sessions: NonZeroUsize::new(SESSIONS).unwrap(),
        threads: NonZeroUsize::new(1),
        ..LoadOptions::default()
    };
    CoreMlModel::load(&path, &options).unwrap()
}

fn input(shape: &[usize]) -> Features {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 13) as f32 / 13.0 - 0.4).collect();
    Features::from_iter([("x0", Array::new(shape, values).unwrap())])
}

#[cfg(target_os = "linux")]
fn resident() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / MIB
}

// A small writer of Core ML's messages; numbers are those of `Model.proto` and `NeuralNetwork.proto`.

fn neural_network(shape: &[usize], layers: &[Vec<u8>]) -> Vec<u8> {
    const FLOAT32: u64 = 65568;
    let array = [packed(1, shape), number(2, FLOAT32)].concat();
    let feature = |tag, name: &str| bytes(tag, &[bytes(1, name.as_bytes()), bytes(3, &bytes(5, &array))].concat());
    let description = [feature(1, "x0"), feature(10, &format!("x{}", layers.len()))].concat();
    const EXACT_ARRAY_MAPPING: u64 = 1;
    let network = [layers.concat(), number(5, EXACT_ARRAY_MAPPING)].concat();
    [number(1, 4), bytes(2, &description), bytes(500, &network)].concat()
}

/// A convolution of 3 x 3 with as many channels on both sides.
fn convolution(n: usize, channels: usize) -> Vec<u8> {
    let same = bytes(51, &[]);
    let sizes = [number(1, channels as u64), number(2, channels as u64), number(10, 1)].concat();
    let windows = [packed(20, &[3, 3]), packed(30, &[1, 1]), packed(40, &[1, 1])].concat();
    layer(n, 100, &[sizes, windows, same, bytes(90, &weights(n, channels * channels * 9))].concat())
}

fn inner_product(n: usize, width: usize) -> Vec<u8> {
    let sizes = [number(1, width as u64), number(2, width as u64)].concat();
    layer(n, 140, &[sizes, bytes(20, &weights(n, width * width))].concat())
}

fn layer(n: usize, kind: u64, parameters: &[u8]) -> Vec<u8> {
    let name = |n| format!("x{n}").into_bytes();
    bytes(1, &[bytes(1, &name(n)), bytes(2, &name(n)), bytes(3, &name(n + 1)), bytes(kind, parameters)].concat())
}

/// Packed floats, different for each layer, since ONNX Runtime merges constants that are equal.
fn weights(n: usize, count: usize) -> Vec<u8> {
    let mut state = 12345 + n as u32;
    let values = (0..count).flat_map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 24) as f32 * 0.02 - 0.01).to_le_bytes()
    });
    bytes(1, &values.collect::<Vec<u8>>())
}

fn bytes(tag: u64, content: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

fn packed(tag: u64, values: &[usize]) -> Vec<u8> {
    bytes(tag, &values.iter().flat_map(|&v| varint(v as u64)).collect::<Vec<u8>>())
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
