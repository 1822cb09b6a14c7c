//! Measures what keeping compiled models saves: the time of a load that compiles for itself alone, of one that keeps the
//! result, and of one that finds it; and the resident memory after each.
//!
//! `store MODEL... [--engine ENGINE] [--rounds N]`. Loads of all models and kinds take turns; medians. Memory is
//! read on Linux only, each in a process of its own: after loading, after the first prediction, after four at a time,
//! and the most there was before those.

use std::{
    env,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::Barrier,
    thread,
    time::Instant,
};

use apple_silicon::ane::{
    engines::{self, EngineChoice},
    features::{Array, Feature, Features, Image, Pixels},
    models::coreml_model::{CoreMlModel, LoadOptions},
};
use coreml_format::schema::{ArrayType, FeatureKind, Interface};

const KINDS: [&str; 3] = ["fresh", "stored", "found"];

fn main() {
    let mut models: Vec<PathBuf> = Vec::new();
    let (mut engine, mut rounds) = (EngineChoice::Auto, 9);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--engine" => engine = arguments.next().expect("an engine").parse().expect("an engine"),
            "--rounds" => rounds = arguments.next().expect("a number").parse().expect("a number"),
            "--resident" => return resident(&models[0], engine, arguments.next().map(PathBuf::from)),
            _ => models.push(PathBuf::from(argument)),
        }
    }
    engines::start(engine, NonZeroUsize::new(1)).expect("the engine");
    let kept = tempfile::tempdir().expect("a folder");
    let mut times = vec![[const { Vec::new() }; KINDS.len()]; models.len()];
    for round in 0..=rounds {
        for (model, times) in models.iter().zip(&mut times) {
            let empty = tempfile::tempdir().expect("a folder");
            for (store, times) in [None, Some(empty.path()), Some(kept.path())].into_iter().zip(times) {
                let start = Instant::now();
                let loaded = load(model, engine, store);
                let time = start.elapsed().as_secs_f64() * 1e3;
                drop(loaded);
                // The first round warms up, and fills the store.
                if round > 0 {
                    times.push(time);
                }
            }
        }
    }
    println!(
        "{engine}, milliseconds to load, median of {rounds} (least); MiB resident: loaded, predicted, four at a time, peak"
    );
    for (model, times) in models.iter().zip(&mut times) {
        println!("{}", model.display());
        let empty = tempfile::tempdir().expect("a folder");
        for ((kind, times), store) in KINDS.iter().zip(times).zip([None, Some(empty.path()), Some(kept.path())]) {
            times.sort_by(f64::total_cmp);
            let memory = memory_of(model, engine, store);
            println!("  {kind:<7} {:>8.1} ({:.1})   {memory}", times[times.len() / 2], times[0]);
        }
    }
}

fn load(model: &Path, engine: EngineChoice, store: Option<&Path>) -> CoreMlModel {
    let compiled = store.map(Path::to_owned);
    let options = LoadOptions { engine, compiled, threads: NonZeroUsize::new(1), ..LoadOptions::default() };
    CoreMlModel::load(model, &options).expect("the model loads")
}

/// What a process of its own says of its memory.
fn memory_of(model: &Path, engine: EngineChoice, store: Option<&Path>) -> String {
    let mut child = Command::new(env::current_exe().expect("a path"));
    child.arg(model).args(["--engine", engine.name(), "--resident"]).args(store);
    String::from_utf8_lossy(&child.output().expect("it runs").stdout).trim().to_owned()
}

fn resident(model: &Path, engine: EngineChoice, store: Option<PathBuf>) {
    engines::start(engine, NonZeroUsize::new(1)).expect("the engine");
    let before = memory("VmRSS");
    let model = load(model, engine, store.as_deref());
    let loaded = memory("VmRSS");
    let features = features(model.interface());
    model.predict(&features).expect("it predicts");
    let (predicted, peak) = (memory("VmRSS"), memory("VmHWM"));
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..12 {
                    barrier.wait();
                    // A failure must not leave the others at the barrier.
                    if let Err(error) = model.predict(&features) {
                        eprintln!("{error}");
                        process::exit(1);
                    }
                }
            });
        }
    });
    let together = memory("VmRSS");
    let [loaded, predicted, together, peak] = [loaded, predicted, together, peak].map(|mib| mib - before);
    println!("{loaded:>6.1} {predicted:>6.1} {together:>6.1} {peak:>6.1}");
}

/// Inputs of the default shapes.
fn features(interface: &Interface) -> Features {
    let feature = |kind: &FeatureKind| -> Feature {
        match kind {
            FeatureKind::MultiArray(kind) => {
                let count = kind.shape.iter().product();
                match kind.dtype {
                    ArrayType::Int32 => Array::new(kind.shape.clone(), vec![1i32; count]),
                    _ => Array::new(kind.shape.clone(), vec![0.5f32; count]),
                }
                .expect("it fits")
                .into()
            }
            FeatureKind::Image(kind) => {
                let pixels = Pixels::Rgb(vec![127; kind.width * kind.height * 3]);
                Image::new(kind.width, kind.height, pixels).expect("it fits").into()
            }
            _ => 1i64.into(),
        }
    };
    interface.inputs.iter().map(|input| (input.name.clone(), feature(&input.kind))).collect()
}

/// A field of `/proc/self/status`, in MiB.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
