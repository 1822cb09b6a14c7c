//! Many inferences over mixed models, with loads and unloads between: nothing grows. `make soak` runs 200,000, the test
//! fewer; ANE_SOAK says how many. Looks at Linux's own counts.
#![cfg(target_os = "linux")]

mod support;

use std::{env, fs, path::Path, process::Command, time::Duration};

use apple_silicon::ane::{
    features::{Array, Features, Image, Pixels},
    infer::{Batching, InferenceOptions},
    manager::{ANEConfig, ANEManager, ModelId, ModelOptions},
};
use support::network::{convolution, flexible_network, inner_product, neural_network, relu};

/// Inferences between two loads.
const ROUND: usize = 500;
/// Inferences at a time.
const CALLERS: usize = 8;

/// glibc's variable for the number of its arenas. Threads that come and go, as those that load models do, else spread what
/// is free over up to 8 for each core, which grows for long before it stays, and hides what this test looks for.
const ARENAS: &str = "MALLOC_ARENA_MAX";

#[test]
fn nothing_grows() {
    if env::var_os(ARENAS).is_none() {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "nothing_grows", "--nocapture"]).env(ARENAS, "1");
        assert!(child.status().unwrap().success());
        return;
    }
    let total: usize = env::var("ANE_SOAK").map_or(6000, |text| text.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let mut readings = Vec::new();
    let (threads, descriptors) = runtime.block_on(soak(total, &mut readings));
    let warm = &readings[readings.len() / 4..];
    let slope = slope(warm);
    let grown = warm.last().unwrap().1 - warm[0].1;
    println!(
        "{total} inferences; resident MiB after a quarter of them {:.1}, in the end {:.1}, slope {:.3} MiB for 100,000",
        warm[0].1,
        warm.last().unwrap().1,
        slope * 1e5
    );
    println!("threads {threads:?}, descriptors {descriptors:?}: before the last rounds and after them");
    assert_eq!(threads.0, threads.1, "threads");
    assert_eq!(descriptors.0, descriptors.1, "descriptors");
    assert!(grown < 32.0, "resident memory grew by {grown:.1} MiB: {warm:.1?}");
}

/// Runs rounds of inferences. Gives threads and descriptors after the second round and after the last.
async fn soak(total: usize, readings: &mut Vec<(f64, f64)>) -> ((usize, usize), (usize, usize)) {
    let folder = tempfile::tempdir().unwrap();
    let config = ANEConfig { max_concurrent_operations: 2, memory_pool_mb: 256, default_timeout_ms: 60_000 };
    let manager = ANEManager::with_config(config).unwrap();
    write(folder.path());
    let (mut threads, mut descriptors) = ((0, 0), (0, 0));
    let rounds = total.div_ceil(ROUND).max(4);
    for round in 0..rounds {
        let models = load(&manager, folder.path()).await;
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (manager, models) = (manager.clone(), models.clone());
                tokio::spawn(async move {
                    for n in 0..ROUND / CALLERS {
                        infer(&manager, &models, caller + n * CALLERS).await;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        for model in models {
            manager.unload_model(model).unwrap();
        }
        // Loader threads may take a moment to end.
        tokio::time::sleep(Duration::from_millis(5)).await;
        readings.push((((round + 1) * ROUND) as f64, resident()));
        if round == 1 {
            (threads.0, descriptors.0) = (settled(|| count("task")).await, count("fd"));
        }
    }
    (threads.1, descriptors.1) = (settled(|| count("task")).await, count("fd"));
    let pool = manager.pool_statistics();
    assert_eq!((pool.slots_in_use, pool.waiting), (0, 0));
    assert_eq!(pool.bytes_in_use, manager.buffer_use().idle_bytes);
    (threads, descriptors)
}

fn write(folder: &Path) {
    fs::write(folder.join("relu.mlmodel"), neural_network(&[1, 64], &[relu(0)])).unwrap();
    fs::write(folder.join("rows.mlmodel"), flexible_network(&[1, 32], 16, &[inner_product(0, 32), relu(1)])).unwrap();
    fs::write(folder.join("conv.mlmodel"), neural_network(&[1, 8, 16, 16], &[convolution(0, 8), relu(1)])).unwrap();
}

async fn load(manager: &ANEManager, folder: &Path) -> Vec<ModelId> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = [
        folder.join("relu.mlmodel"),
        folder.join("rows.mlmodel"),
        folder.join("conv.mlmodel"),
        here.join("../../examples/digits/digits.mlpackage"),
    ];
    let options = ModelOptions { batching: Batching { max_batch: 8, ..Batching::default() }, ..Default::default() };
    manager.preload_models_with(&paths, &options, |_| {}).await.unwrap()
}

async fn infer(manager: &ANEManager, models: &[ModelId], n: usize) {
    let options = InferenceOptions::default();
    let value = (n % 7) as f32 / 7.0;
    match n % 6 {
        0 => drop(manager.execute_inference(models[0], &[value; 64], &options).await.unwrap()),
        1 => drop(manager.execute_inference(models[1], &[value; 32], &options).await.unwrap()),
        2 => drop(manager.execute_inference(models[2], &[value; 8 * 16 * 16], &options).await.unwrap()),
        3 => {
            let buffer = manager.allocate_buffer(1).unwrap();
            drop(manager.execute_inference_buffered(models[0], buffer, &options).await.unwrap());
        }
        4 => {
            let features = Features::from_iter([("x0", Array::new([2, 32], vec![value; 64]).unwrap())]);
            drop(manager.predict(models[1], features, &options).await.unwrap());
        }
        _ => {
            let model = manager.model(models[3]).unwrap();
            let input = &model.interface().inputs[0];
            let coreml_format::schema::FeatureKind::Image(kind) = &input.kind else { panic!("{input:?}") };
            let pixels = Pixels::Gray(vec![n as u8; kind.width * kind.height]);
            let picture = Image::new(kind.width, kind.height, pixels).unwrap();
            let features = Features::from_iter([(input.name.clone(), picture)]);
            drop(manager.predict(models[3], features, &options).await.unwrap());
        }
    }
}

/// Least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let over: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    over / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>().max(f64::MIN_POSITIVE)
}

/// Entries of a folder of this process.
fn count(folder: &str) -> usize {
    fs::read_dir(format!("/proc/self/{folder}")).unwrap().count()
}

/// The least count of several looks: threads that end are counted until they have.
async fn settled(count: impl Fn() -> usize) -> usize {
    let mut least = count();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(4)).await;
        least = least.min(count());
    }
    least
}

/// MiB.
fn resident() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap();
    pages * 4096.0 / f64::from(1 << 20)
}
