//! What the manager costs: time and allocations of one inference over the bare engine session, and what batching
//! gives. Everything is measured in one run, in turns, since these machines are noisy; medians.
//!
//! `cargo bench -p apple-silicon --bench manager [-- PART]`, where PART is `overhead`, `allocations`, `batching` or
//! `deadlines`; or `loop`, which only runs inferences, for a profiler.

#[path = "../tests/support/network.rs"]
#[allow(dead_code, reason = "the benchmark uses its part")]
mod network;

use std::{
    alloc::System,
    env, fs,
    future::Future,
    hint::black_box,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use apple_silicon::ane::{
    engines::{EngineChoice, start},
    infer::{Batching, InferenceOptions, Timing},
    manager::{ANEConfig, ANEManager, ModelId, ModelOptions},
    models::coreml_model::{CoreMlModel, estimate_memory_usage},
};
use coreml_format::Model;
use coreml_onnx::{LowerOptions, Storage, lower};
use ort::{
    session::{Session, SessionInputValue},
    value::TensorRef,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ELEMENTS: usize = 64;

fn main() {
    // cargo gives `--bench` to every benchmark.
    let part = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if part.as_deref() == Some("raw") {
        let [library, model] = [2, 1].map(|from_end| env::args().rev().nth(from_end - 1).expect("an argument"));
        return raw(&library, Path::new(&model));
    }
    let engine = start(EngineChoice::Auto, None).expect("there is an engine");
    println!("engine: {engine}");
    if wanted("overhead") || wanted("allocations") {
        let bench = Nothing::new();
        if wanted("overhead") {
            bench.overhead();
        }
        if wanted("allocations") {
            bench.allocations();
        }
    }
    if part.as_deref() == Some("loop") {
        Nothing::new().many();
    }
    if wanted("batching") {
        batching();
    }
    if wanted("deadlines") {
        deadlines();
    }
}

/// A model that does nothing worth mentioning, in a manager and by itself.
struct Nothing {
    manager: ANEManager,
    model: ModelId,
    session: Arc<CoreMlModel>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Nothing {
    fn new() -> Nothing {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("relu.mlmodel");
        fs::write(&path, network::neural_network(&[1, ELEMENTS], &[network::relu(0)])).expect("it is written");
        let manager = ANEManager::new().expect("a manager");
        let model = block_on(manager.load_model(&path, &Default::default())).expect("it loads");
        let session = manager.model(model).expect("it is loaded");
        Nothing { manager, model, session, path, _folder: folder }
    }

    /// The engine's session, and nothing else of ours.
    fn bare(&self, input: &[f32], output: &mut Vec<f32>) {
        output.clear();
        self.session.predict_vector(input, output).expect("it runs");
    }

    fn overhead(&self) {
        let input = vec![0.5; ELEMENTS];
        let options = InferenceOptions::default();
        let unmonitored = InferenceOptions { enable_monitoring: false, ..options.clone() };
        let hand_over = HandOver::new(|| {});
        let session_there = HandOver::new({
            let (session, input, mut output) = (self.session.clone(), input.clone(), Vec::new());
            move || {
                output.clear();
                session.predict_vector(&input, &mut output).expect("it runs");
            }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let managed = |options: &InferenceOptions| {
            block_on(self.manager.execute_inference(self.model, &input, options)).expect("it runs");
        };
        let mut output = Vec::new();
        let mut rows: Vec<Row<'_>> = vec![
            Row::new("bare session", || self.bare(&input, &mut output)),
            Row::new("hand-over to a thread and back", || hand_over.there_and_back()),
            Row::new("session on that thread", || session_there.there_and_back()),
            Row::new("execute_inference", || managed(&options)),
            Row::new("execute_inference, unmonitored", || managed(&unmonitored)),
            Row::new("execute_inference, on tokio", || {
                let run = self.manager.execute_inference(self.model, &input, &options);
                runtime.block_on(run).expect("it runs");
            }),
        ];
        let medians = in_turns(&mut rows, 40, 400);
        let (bare, hand_over) = (medians[0], medians[1]);
        println!("\noverhead of one inference of a model that does nothing, microseconds (median)");
        for (row, median) in rows.iter().zip(&medians) {
            println!("  {:<34} {:>7.2}", row.name, median * 1e6);
        }
        for (row, median) in rows.iter().zip(&medians).skip(2) {
            let over = (median - bare - hand_over) * 1e6;
            println!("  {:<34} {over:>+7.2} over session and hand-over", row.name);
        }
        self.stages(&input, &options);
        let start = Instant::now();
        (0..1_000_000).for_each(|_| _ = black_box(estimate_memory_usage(black_box(&self.session))));
        println!("  a memory estimate takes {:.2} ns (mean of a million)", start.elapsed().as_secs_f64() * 1e3);
        self.compare_with_raw();
    }

    /// Something that a profiler measures from outside.
    fn many(&self) {
        let input = vec![0.5; ELEMENTS];
        for _ in 0..400_000 {
            drop(block_on(self.manager.execute_inference(self.model, &input, &InferenceOptions::default())));
        }
    }

    /// Where the time goes, as results tell it.
    fn stages(&self, input: &[f32], options: &InferenceOptions) {
        let results: Vec<_> = (0..10_000)
            .map(|_| block_on(self.manager.execute_inference(self.model, input, options)).expect("it runs").timing)
            .collect();
        let median = |pick: fn(&Timing) -> Duration| {
            let mut times: Vec<Duration> = results.iter().map(pick).collect();
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1e6
        };
        let [queue, compute, total] = [|t: &Timing| t.queue, |t: &Timing| t.compute, |t: &Timing| t.total].map(median);
        let rest = total - queue - compute;
        println!(
            "  of which: until a thread has it {queue:.2}, in the engine {compute:.2}, until its caller has it {rest:.2}"
        );
    }

    fn compare_with_raw(&self) {
        let engines = apple_silicon::ane::engines::installed();
        let Some(library) = engines.into_iter().find_map(|engine| engine.path) else { return };
        let program = env::current_exe().expect("a program");
        let raw =
            std::process::Command::new(program).arg("raw").arg(library).arg(&self.path).output().expect("it runs");
        let raw = String::from_utf8_lossy(if raw.stdout.is_empty() { &raw.stderr } else { &raw.stdout }).into_owned();
        println!("  `ort` alone, in a process of its own: microseconds and allocations of a run: {}", raw.trim());
    }

    fn allocations(&self) {
        const RUNS: usize = 1000;
        let input = vec![0.5; ELEMENTS];
        let options = InferenceOptions::default();
        let count = |run: &mut dyn FnMut()| {
            (0..100).for_each(|_| run());
            let region = Region::new(ALLOCATOR);
            (0..RUNS).for_each(|_| run());
            let change = region.change();
            let per_run = |count: usize| count as f64 / RUNS as f64;
            (per_run(change.allocations + change.reallocations), per_run(change.bytes_allocated))
        };
        println!("\nallocations of one inference, those of every thread (the bare session's are `ort`'s own)");
        let print = |name: &str, run: &mut dyn FnMut()| {
            let (allocations, bytes) = count(run);
            println!("  {name:<34} {allocations:>7.3} of {bytes:>7.1} bytes together");
        };
        let mut output = Vec::new();
        print("bare session", &mut || self.bare(&input, &mut output));
        print("execute_inference", &mut || {
            drop(block_on(self.manager.execute_inference(self.model, &input, &options)).expect("it runs"));
        });
        print("execute_inference_buffered", &mut || {
            let mut buffer = self.manager.allocate_buffer(1).expect("there is room");
            buffer[..ELEMENTS].copy_from_slice(&input);
            drop(block_on(self.manager.execute_inference_buffered(self.model, buffer, &options)).expect("it runs"));
        });
    }
}

/// ONNX Runtime as `ort` has it, without this library. It takes one environment in a process, so this is another one.
fn raw(library: &str, path: &Path) {
    let model = Model::open(path).expect("it opens");
    let lowered = lower(&model, &LowerOptions::default()).expect("it is lowered");
    let environment = ort::init_from(library).expect("it loads").build().expect("an environment");
    let session = Session::builder(&environment)
        .and_then(|mut builder| builder.commit_from_memory(&lowered.model.encode(Storage::Inside)));
    let mut session = session.expect("a session");
    let (input, mut output) = (vec![0.5f32; ELEMENTS], Vec::new());
    let mut run = || {
        let value: SessionInputValue<'_> = TensorRef::from_array_view(([1, ELEMENTS], &*input)).expect("fits").into();
        let outputs = session.run(&[value][..]).expect("it runs");
        output.clear();
        output.extend_from_slice(outputs[0].try_extract_tensor::<f32>().expect("floats").1);
    };
    let region = Region::new(ALLOCATOR);
    (0..1000).for_each(|_| run());
    let change = region.change();
    let median = in_turns(&mut [Row::new("raw", run)], 40, 400)[0];
    println!("{:.2} {:.3}", median * 1e6, (change.allocations + change.reallocations) as f64 / 1e3);
}

/// The batcher on a network that reads its weights anew for each run.
fn batching() {
    const REQUESTS: usize = 64;
    let path = env::var_os("ANE_WEIGHT_BOUND").map_or_else(default_network, PathBuf::from);
    if !path.exists() {
        println!("\nbatching: skipped, {} is not there: python tools/weight_bound.py makes it", path.display());
        return;
    }
    let config = ANEConfig { max_concurrent_operations: 1, memory_pool_mb: 4096, default_timeout_ms: 60_000 };
    let manager = ANEManager::with_config(config).expect("a manager");
    let load = |batching: Batching| {
        let options = ModelOptions { batching, ..ModelOptions::default() };
        block_on(manager.load_model_with(&path, &options)).expect("it loads")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let input: Arc<[f32]> = (0..1024).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    println!(
        "\nbatching: {REQUESTS} callers at a time, 1024-4096-4096-1000, requests a second and milliseconds (median of rounds)"
    );
    let mut rounds: [Vec<(f64, f64, f64)>; 2] = Default::default();
    for _ in 0..5 {
        for (index, batching) in
            [Batching::OFF, Batching { max_batch: REQUESTS, ..Batching::default() }].into_iter().enumerate()
        {
            let model = load(batching);
            let requests = if index == 0 { 4 } else { 20 };
            let measured = runtime.block_on(callers(&manager, model, &input, REQUESTS, requests));
            rounds[index].push(measured);
            manager.unload_model(model).expect("it was loaded");
        }
    }
    let median = |values: &[(f64, f64, f64)], pick: fn(&(f64, f64, f64)) -> f64| {
        let mut picked: Vec<f64> = values.iter().map(pick).collect();
        picked.sort_by(f64::total_cmp);
        picked[picked.len() / 2]
    };
    let table: Vec<[f64; 3]> =
        rounds.iter().map(|r| [median(r, |m| m.0), median(r, |m| m.1), median(r, |m| m.2)]).collect();
    for (name, row) in ["one by one", "gathered"].iter().zip(&table) {
        println!("  {name:<12} {:>8.0} a second   p50 {:>7.1}   p95 {:>7.1}", row[0], row[1], row[2]);
    }
    println!(
        "  ratio        {:>8.2}            p50 {:>7.2}   p95 {:>7.2}",
        table[1][0] / table[0][0],
        table[1][1] / table[0][1],
        table[1][2] / table[0][2]
    );
}

/// A deadline of 50 ms on a run of half a second: when the caller is answered, and when the permit is back.
fn deadlines() {
    const TRIES: usize = 20;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("slow.mlmodel");
    let layers: Vec<Vec<u8>> = (0..64).map(|n| network::convolution(n, 64)).collect();
    fs::write(&path, network::neural_network(&[1, 64, 256, 256], &layers)).expect("it is written");
    let manager = ANEManager::new().expect("a manager");
    let model = block_on(manager.load_model(&path, &Default::default())).expect("it loads");
    let input = vec![0.25; 64 * 256 * 256];
    let start = Instant::now();
    block_on(manager.execute_inference(model, &input, &InferenceOptions::default())).expect("it runs");
    let whole = start.elapsed();
    let options = InferenceOptions { timeout_ms: 50, ..InferenceOptions::default() };
    let (mut answered, mut back) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        let start = Instant::now();
        let result = block_on(manager.execute_inference(model, &input, &options)).map(drop);
        answered.push(start.elapsed().as_secs_f64() * 1e3);
        assert_eq!(result, Err(apple_silicon::ane::errors::ANEError::Timeout(50)));
        while manager.pool_statistics().slots_in_use > 0 {
            thread::yield_now();
        }
        back.push(start.elapsed().as_secs_f64() * 1e3);
    }
    answered.sort_by(f64::total_cmp);
    back.sort_by(f64::total_cmp);
    println!(
        "\ndeadline of 50 ms on a run of {:.0} ms, {TRIES} times, milliseconds after the call",
        whole.as_secs_f64() * 1e3
    );
    for (name, times) in [("answered", &answered), ("permit back", &back)] {
        println!("  {name:<12} median {:>6.1}   worst {:>6.1}", times[TRIES / 2], times[TRIES - 1]);
    }
}

fn default_network() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench/weight_bound.mlpackage")
}

/// Requests a second, and the median and the 95th percentile of their times, of callers that each wait for an answer
/// before they ask again.
async fn callers(
    manager: &ANEManager,
    model: ModelId,
    input: &Arc<[f32]>,
    callers: usize,
    requests: usize,
) -> (f64, f64, f64) {
    let options = InferenceOptions::default();
    manager.execute_inference(model, input, &options).await.expect("it runs");
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (manager, input, options) = (manager.clone(), input.clone(), options.clone());
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(requests);
                for _ in 0..requests {
                    let start = Instant::now();
                    manager.execute_inference(model, &input, &options).await.expect("it runs");
                    times.push(start.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("no panic"));
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort();
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    (rate, at(0.5), at(0.95))
}

struct Row<'a> {
    name: &'static str,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Row<'a> {
    fn new(name: &'static str, run: impl FnMut() + 'a) -> Row<'a> {
        Row { name, run: Box::new(run) }
    }
}

/// The median time of each, in seconds, of as many runs in each of the rounds.
fn in_turns(rows: &mut [Row<'_>], rounds: usize, runs: usize) -> Vec<f64> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for round in 0..=rounds {
        for (row, times) in rows.iter_mut().zip(&mut times) {
            for _ in 0..runs {
                let start = Instant::now();
                (row.run)();
                // The first round only warms up.
                if round > 0 {
                    times.push(start.elapsed().as_secs_f64());
                }
            }
        }
    }
    times
        .into_iter()
        .map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect()
}

/// A thread that is given something and gives it back: a queue with a condition variable there, as thread pools have,
/// and an unparked thread back, as executors have.
struct HandOver {
    shared: Arc<(Mutex<Vec<Thread>>, Condvar)>,
    _ended: mpsc::Receiver<()>,
}

impl HandOver {
    fn new(mut work: impl FnMut() + Send + 'static) -> HandOver {
        let shared: Arc<(Mutex<Vec<Thread>>, Condvar)> = Arc::default();
        let (ending, ended) = mpsc::channel();
        let given = shared.clone();
        thread::spawn(move || {
            let (queue, ready) = &*given;
            let mut queue = queue.lock().expect("no panic");
            while Arc::strong_count(&given) > 1 {
                match queue.pop() {
                    Some(caller) => {
                        drop(queue);
                        work();
                        caller.unpark();
                        queue = given.0.lock().expect("no panic");
                    }
                    None => queue = ready.wait_timeout(queue, Duration::from_millis(500)).expect("no panic").0,
                }
            }
            drop(ending);
        });
        HandOver { shared, _ended: ended }
    }

    fn there_and_back(&self) {
        let (queue, ready) = &*self.shared;
        queue.lock().expect("no panic").push(thread::current());
        ready.notify_one();
        thread::park();
    }
}

/// Waits for a future on this thread. Keeps its waker, so that nothing is allocated.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }

    thread_local! {
        static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
    }

    let mut future = std::pin::pin!(future);
    WAKER.with(|waker| {
        loop {
            match future.as_mut().poll(&mut Context::from_waker(waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => thread::park(),
            }
        }
    })
}
