//! What admission costs, beside tokio's semaphore: one for the slots alone, and two, for the slots and the memory.
//!
//! After Criterion's groups a table shows the ratios, from rounds in which all take turns: on a shared machine two
//! figures that were measured one after the other cannot be divided.

use std::{
    hint::black_box,
    num::NonZeroUsize,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use apple_silicon::ane::resource_pool::{Admission, Pool};
use criterion::{Criterion, Throughput};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// What each run asks for, in MB.
const MB: usize = 64;
const TASKS: [usize; 4] = [2, 4, 8, 16];
/// Rounds of the table, of which the median is shown.
const ROUNDS: usize = 41;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Builder::new_multi_thread().worker_threads(cores()).build().expect("threads can be started");
    uncontended(&mut criterion);
    contended(&mut criterion, &runtime);
    criterion.final_summary();
    if !std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        table(&runtime);
    }
}

/// What lets so many in at once.
trait Gate: Clone + Send + Sync + 'static {
    const NAME: &str;
    type Permit: Send;
    fn new(permits: usize) -> Self;
    fn enter(&self) -> impl Future<Output = Self::Permit> + Send;
}

impl Gate for Pool {
    const NAME: &str = "ane";
    type Permit = Admission;

    fn new(permits: usize) -> Pool {
        Pool::new(permits, permits * MB)
    }

    async fn enter(&self) -> Admission {
        self.admit(MB).await.expect("it fits")
    }
}

#[derive(Clone)]
struct TokioOwned(Arc<Semaphore>);

impl Gate for TokioOwned {
    const NAME: &str = "tokio_owned";
    type Permit = OwnedSemaphorePermit;

    fn new(permits: usize) -> TokioOwned {
        TokioOwned(Arc::new(Semaphore::new(permits)))
    }

    async fn enter(&self) -> OwnedSemaphorePermit {
        self.0.clone().acquire_owned().await.expect("it is not closed")
    }
}

#[derive(Clone)]
struct TokioPair {
    slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

impl Gate for TokioPair {
    const NAME: &str = "tokio_pair";
    type Permit = (OwnedSemaphorePermit, OwnedSemaphorePermit);

    fn new(permits: usize) -> TokioPair {
        TokioPair { slots: Arc::new(Semaphore::new(permits)), memory: Arc::new(Semaphore::new(permits * MB)) }
    }

    async fn enter(&self) -> Self::Permit {
        let slot = self.slots.clone().acquire_owned().await.expect("it is not closed");
        let memory = self.memory.clone().acquire_many_owned(MB as u32).await.expect("it is not closed");
        (slot, memory)
    }
}

/// What a task does while it is in.
#[derive(Clone, Copy)]
enum Hold {
    /// Lets others run, so that most have to wait.
    Yield,
    /// Leaves at once, so that threads meet at the gate's atomics alone.
    Nothing,
}

fn uncontended(criterion: &mut Criterion) {
    fn bench<G: Gate>(criterion: &mut Criterion) {
        let gate = G::new(4);
        criterion.bench_function(&format!("pool/uncontended/{}", G::NAME), |bencher| {
            bencher.iter_custom(|times| alone(&gate, times));
        });
    }
    bench::<Pool>(criterion);
    bench::<TokioOwned>(criterion);
    bench::<TokioPair>(criterion);
}

fn contended(criterion: &mut Criterion, runtime: &Runtime) {
    fn bench<G: Gate>(criterion: &mut Criterion, runtime: &Runtime, tasks: usize) {
        let mut group = criterion.benchmark_group(format!("pool/contended/{tasks}"));
        group.throughput(Throughput::Elements(1)).sample_size(20);
        let gate = G::new(tasks / 2);
        group.bench_function(G::NAME, |bencher| {
            bencher.iter_custom(|times| together(runtime, &gate, tasks, Hold::Yield, times));
        });
    }
    for tasks in TASKS {
        bench::<Pool>(criterion, runtime, tasks);
        bench::<TokioOwned>(criterion, runtime, tasks);
        bench::<TokioPair>(criterion, runtime, tasks);
    }
}

fn table(runtime: &Runtime) {
    println!("\nnanoseconds per admission (median of {ROUNDS} interleaved rounds), and ours as a part of tokio's");
    println!("{:<26} {:>8} {:>12} {:>11} {:>9} {:>8}", "", "ane", "tokio_owned", "tokio_pair", "of owned", "of pair");
    let (ane, owned, pair) = (Pool::new(4, 4 * MB), TokioOwned::new(4), TokioPair::new(4));
    row(
        "uncontended",
        200_000,
        &mut [&mut |times| alone(&ane, times), &mut |times| alone(&owned, times), &mut |times| alone(&pair, times)],
    );
    for (hold, name, times) in [(Hold::Yield, "waiting", 20_000), (Hold::Nothing, "passing", 200_000)] {
        for tasks in TASKS {
            let slots = tasks / 2;
            let (ane, owned, pair) = (Pool::new(slots, slots * MB), TokioOwned::new(slots), TokioPair::new(slots));
            row(
                &format!("{tasks} tasks {name}, {slots} slots"),
                times,
                &mut [
                    &mut |times| together(runtime, &ane, tasks, hold, times),
                    &mut |times| together(runtime, &owned, tasks, hold, times),
                    &mut |times| together(runtime, &pair, tasks, hold, times),
                ],
            );
        }
    }
    println!("{} threads; each run asks for a slot and {MB} MB", cores());
}

/// Measures all in turn, and prints the medians of the times and of the ratios within a round.
fn row(name: &str, times: u64, measures: &mut [&mut dyn FnMut(u64) -> Duration; 3]) {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let mut nanoseconds = [0.0; 3];
        // Who goes first changes, so that nobody always has the caches that the other left.
        for turn in 0..3 {
            let which = (round + turn) % 3;
            nanoseconds[which] = measures[which](times).as_nanos() as f64 / times as f64;
        }
        rounds.push(nanoseconds);
    }
    let median = |of: fn(&[f64; 3]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let [ane, owned, pair] = [median(|round| round[0]), median(|round| round[1]), median(|round| round[2])];
    let [of_owned, of_pair] = [median(|round| round[0] / round[1]), median(|round| round[0] / round[2])];
    println!("{name:<26} {ane:>8.1} {owned:>12.1} {pair:>11.1} {of_owned:>9.2} {of_pair:>8.2}");
}

/// One task has the gate to itself. It never waits, so no runtime takes part, nor the budget that tokio's has.
fn alone<G: Gate>(gate: &G, times: u64) -> Duration {
    let task = pin!(async {
        let start = Instant::now();
        for _ in 0..times {
            drop(black_box(gate.enter().await));
        }
        start.elapsed()
    });
    match task.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(time) => time,
        Poll::Pending => unreachable!("nobody else is there"),
    }
}

/// Tasks share the gate; `times` is what they do in all.
fn together<G: Gate>(runtime: &Runtime, gate: &G, tasks: usize, hold: Hold, times: u64) -> Duration {
    let each = times.div_ceil(tasks as u64);
    runtime.block_on(async {
        let start = Instant::now();
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move {
                    for _ in 0..each {
                        let permit = gate.enter().await;
                        if let Hold::Yield = hold {
                            tokio::task::yield_now().await;
                        }
                        drop(black_box(permit));
                    }
                })
            })
            .collect();
        for task in running {
            task.await.expect("no task panics");
        }
        start.elapsed()
    })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(2, NonZeroUsize::get)
}
