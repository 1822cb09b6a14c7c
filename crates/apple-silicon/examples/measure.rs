//! Measures one model: load time, latency, and resident memory with each further session.
//!
//! `measure MODEL [ENGINE] [THREADS] [SESSIONS] [RUNS]` prints one line of JSON. Memory is read on Linux only.

use std::{
    num::NonZeroUsize,
    sync::Barrier,
    time::{Duration, Instant},
};

use apple_silicon::ane::{
    engines::{self, EngineChoice},
    features::{Array, Feature, Features, Image, Pixels},
    models::coreml_model::{CoreMlModel, LoadOptions},
};
use coreml_format::schema::{FeatureKind, Interface};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |index: usize, default: usize| arguments.get(index).map_or(default, |text| text.parse().expect("a number"));
    let engine: EngineChoice = arguments.get(1).map_or("auto", String::as_str).parse().expect("an engine");
    let (threads, sessions, runs) = (number(2, 1), number(3, 1), number(4, 30));
    let options = LoadOptions {
        engine,
        threads: NonZeroUsize::new(threads),
        max_sessions: NonZeroUsize::new(sessions).expect("at least one session"),
        ..LoadOptions::default()
    };
    // Loads ONNX Runtime itself, as `import onnxruntime` does in Python.
    engines::installed();
    let before = memory("VmRSS");
    let started = Instant::now();
    let model = CoreMlModel::load(&arguments[0], &options).expect("the model loads");
    let load = started.elapsed();
    let features = features(model.interface());
    let mut times: Vec<Duration> = (0..runs + 3)
        .map(|_| {
            let started = Instant::now();
            model.predict(&features).expect("it predicts");
            started.elapsed()
        })
        .skip(3)
        .collect();
    times.sort();
    let peak = memory("VmHWM");
    let mut resident = vec![memory("VmRSS")];
    for n in 2..=sessions {
        together(&model, &features, n);
        resident.push(memory("VmRSS"));
    }
    println!(
        "{{\"model\": {:?}, \"engine\": \"{}\", \"load_ms\": {:.1}, \"latency_ms\": {:.3}, \"peak_mib\": {peak:.1}, \
         \"start_mib\": {before:.1}, \"weights_mib\": {:.1}, \"resident_mib_by_sessions\": {resident:.1?}, \"peak_in_the_end_mib\": {:.1}}}",
        arguments[0],
        model.engine().engine,
        load.as_secs_f64() * 1e3,
        times[times.len() / 2].as_secs_f64() * 1e3,
        model.weight_bytes() as f64 / f64::from(1 << 20),
        memory("VmHWM"),
    );
}

/// Predicts from `n` threads at a time, often enough for all to have been in at once.
fn together(model: &CoreMlModel, features: &Features, n: usize) {
    let barrier = Barrier::new(n);
    std::thread::scope(|scope| {
        for _ in 0..n {
            scope.spawn(|| {
                for _ in 0..20 {
                    barrier.wait();
                    // A failure must not leave the others at the barrier.
                    if let Err(error) = model.predict(features) {
                        eprintln!("{error}");
                        std::process::exit(1);
                    }
                }
            });
        }
    });
}

/// Inputs of the default shapes: a fixed pattern, or ones for whole numbers.
fn features(interface: &Interface) -> Features {
    let feature = |kind: &FeatureKind| -> Feature {
        match kind {
            FeatureKind::MultiArray(kind) => {
                let count = kind.shape.iter().product();
                let whole = matches!(kind.dtype, coreml_format::schema::ArrayType::Int32);
                if whole {
                    return Array::new(kind.shape.clone(), vec![1i32; count]).expect("it fits").into();
                }
                let values: Vec<f32> = (0..count).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
                Array::new(kind.shape.clone(), values).expect("it fits").into()
            }
            FeatureKind::Image(kind) => {
                let values = (0..kind.width * kind.height * 3).map(|i| (i % 251) as u8).collect();
                Image::new(kind.width, kind.height, Pixels::Rgb(values)).expect("it fits").into()
            }
            FeatureKind::Double => 1.0.into(),
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
