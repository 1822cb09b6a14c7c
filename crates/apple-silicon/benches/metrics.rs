//! What measuring costs: a table of all operations, measured in turns in one run since these machines are noisy, and
//! then each by criterion, which compares with its last run.
//!
//! `cargo bench -p apple-silicon --bench metrics`. An atomic addition is the yardstick.

use std::{
    array, env,
    hint::black_box,
    ops::Range,
    sync::{
        Barrier,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use apple_silicon::ane::metrics::{Ewma, Histogram, Observation, Outcome, PerformanceTracker, TimedEwma};
use criterion::Criterion;

const ROUNDS: usize = 101;
const VALUES: usize = 1024;

fn main() {
    let subjects = Subjects::new();
    let cases = subjects.cases();
    // Cargo's tests run benchmarks without it.
    if env::args().any(|argument| argument == "--bench") {
        table("one thread", &cases, |case| alone(case, 20_000));
        table("two threads, each", &cases, |case| contended(case, 20_000));
    }
    let (warm_up, time) = (Duration::from_millis(200), Duration::from_secs(1));
    let mut criterion = Criterion::default().warm_up_time(warm_up).measurement_time(time).configure_from_args();
    for case in &cases {
        criterion.bench_function(case.name, |bencher| bencher.iter_custom(|times| alone(case, times as usize).0));
    }
    criterion.final_summary();
}

/// An operation, and how to do it for a range of numbers.
struct Case<'a> {
    name: &'static str,
    run: Box<dyn Fn(Range<usize>) + Sync + 'a>,
}

/// How long so many took.
type Took = (Duration, usize);

struct Subjects {
    number: AtomicU64,
    ewma: Ewma,
    timed: TimedEwma,
    histogram: Histogram,
    tracker: PerformanceTracker,
    start: Instant,
    /// Latencies of 20 to 37 ms in no order, so that neither buckets nor branches repeat.
    latencies: [Duration; VALUES],
}

impl Subjects {
    fn new() -> Subjects {
        Subjects {
            number: AtomicU64::new(0),
            ewma: Ewma::with_alpha(0.1),
            timed: TimedEwma::with_half_life(Duration::from_secs(10)),
            histogram: Histogram::new(),
            tracker: PerformanceTracker::new(),
            start: Instant::now(),
            latencies: array::from_fn(|n| Duration::from_micros(20_000 + (n as u64 * 7919) % 17_000)),
        }
    }

    fn cases(&self) -> Vec<Case<'_>> {
        let ms = self.latencies.map(|latency| latency.as_secs_f64() * 1e3);
        vec![
            case("AtomicU64::fetch_add", |n| {
                self.number.fetch_add(n as u64, Relaxed);
            }),
            case("AtomicU64::update", |n| {
                self.number.update(Relaxed, Relaxed, |old| old ^ n as u64);
            }),
            case("Ewma::observe", move |n| self.ewma.observe(ms[n % VALUES])),
            case("Histogram::record", |n| self.histogram.record(self.latencies[n % VALUES])),
            case("tracker.update_latency", move |n| self.tracker.update_latency(ms[n % VALUES])),
            case("tracker.record_batch", |n| self.tracker.record_batch(1 + n as u64 % 8)),
            case("TimedEwma::observe_at", move |n| {
                self.timed.observe_at(self.start + Duration::from_micros(n as u64), ms[n % VALUES]);
            }),
            case("Instant + and -", |n| {
                black_box((self.start + Duration::from_micros(n as u64)).saturating_duration_since(self.start));
            }),
            case("tracker.record", |n| self.tracker.record(&self.observation(n))),
            case("Instant::now", |_| {
                black_box(Instant::now());
            }),
        ]
    }

    /// 1000 a second.
    fn observation(&self, n: usize) -> Observation {
        let compute = self.latencies[n % VALUES];
        let (queue, batch) = (compute / 16, compute / 64);
        let ended = self.start + Duration::from_millis(n as u64);
        Observation {
            ended,
            outcome: Outcome::Succeeded,
            items: 1,
            total: queue + batch + compute,
            queue,
            batch,
            compute,
        }
    }
}

fn case<'a>(name: &'static str, once: impl Fn(usize) + Sync + 'a) -> Case<'a> {
    let run = move |numbers: Range<usize>| numbers.for_each(|n| once(black_box(n)));
    Case { name, run: Box::new(run) }
}

fn alone(case: &Case<'_>, times: usize) -> Took {
    (timed(case, numbers(times)), times)
}

/// The slower of two threads that do the same on the same.
fn contended(case: &Case<'_>, times: usize) -> Took {
    let (barrier, numbers) = (Barrier::new(2), numbers(times));
    let run = || {
        barrier.wait();
        timed(case, numbers.clone())
    };
    thread::scope(|threads| {
        let other = threads.spawn(run);
        (run().max(other.join().expect("it does not panic")), times)
    })
}

/// Numbers that were not used before, since they are times, too, and those go on.
fn numbers(count: usize) -> Range<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let start = NEXT.fetch_add(count, Relaxed);
    start..start + count
}

fn timed(case: &Case<'_>, numbers: Range<usize>) -> Duration {
    let start = Instant::now();
    (case.run)(numbers);
    start.elapsed()
}

/// Prints the median time of each case over rounds in which every case has its turn.
fn table(title: &str, cases: &[Case<'_>], measure: impl Fn(&Case<'_>) -> Took) {
    let mut nanos = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for (case, nanos) in cases.iter().zip(&mut nanos) {
            let (time, times) = measure(case);
            nanos.push(time.as_secs_f64() * 1e9 / times as f64);
        }
    }
    println!("{title}: medians of {ROUNDS} rounds");
    let medians = nanos.iter_mut().map(|nanos| {
        nanos.sort_by(f64::total_cmp);
        nanos[ROUNDS / 2]
    });
    let mut yardstick = None;
    for (case, median) in cases.iter().zip(medians) {
        let yardstick = *yardstick.get_or_insert(median);
        println!("  {:24} {median:7.2} ns  {:5.2} x fetch_add", case.name, median / yardstick);
    }
}
