//! Sessions of one model share its weights: what a further one costs is its activations.
//!
//! The models are written here, as neural networks of the older format, since their weights are too big to check in.
//! One test for each kind of layer: ONNX Runtime reorders the weights of convolutions when it optimises, and packs
//! those of matrix products. Memory is looked at on Linux only.

mod support;

use std::{fs, num::NonZeroUsize, path::Path, sync::Barrier, thread};

use apple_silicon::ane::{
    engines::{EngineChoice, Status, installed},
    features::{Array, Features},
    limits::{Cancel, Limits},
    models::coreml_model::{CoreMlModel, LoadOptions},
};

use support::network::{convolution, neural_network};

#[cfg(target_os = "linux")]
const MIB: f64 = (1 << 20) as f64;
const SESSIONS: usize = 4;

/// glibc's variable that makes it give freed memory back at once, which is what this test looks at. Without it glibc
/// keeps up to what one session frees while it packs, for each thread that has made one.
#[cfg(target_os = "linux")]
const GIVE_BACK: &str = "MALLOC_MMAP_THRESHOLD_";

#[test]
#[cfg(target_os = "linux")]
fn sessions_share_weights() {
    use std::{env, process::Command};

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
    let layers: Vec<Vec<u8>> = (0..3).map(|n| support::network::inner_product(n, width)).collect();
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
