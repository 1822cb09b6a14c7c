//! What is recorded of inferences.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{
    ewma::{AtomicAverage, Ewma},
    histogram::Histogram,
    outcome::{ErrorKind, Errors, Outcome},
    shards::Counter,
    sizes::Sizes,
    summary::{Measurements, Percentiles, PerformanceSummary, milliseconds},
    throughput::Throughput,
};

/// An inference that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When.
    pub ended: Instant,
    /// How.
    pub outcome: Outcome,
    /// Samples that it was asked for.
    pub items: u64,
    /// From the call until the end.
    pub total: Duration,
    /// Of that, waiting.
    pub queue: Duration,
    /// Of that, being gathered and joined into a batch.
    pub batch: Duration,
    /// Of that, in the engine.
    pub compute: Duration,
}

/// Measures inferences: latency, throughput, memory, batches and errors.
///
/// One is shared by any number of threads. 6 KiB, and 37 KiB on the heap for each thread that records, 1.2 MiB at most.
///
/// ```
/// use apple_silicon::ane::metrics::PerformanceTracker;
///
/// let tracker = PerformanceTracker::new();
/// tracker.update_latency(100.0); // ms
/// tracker.update_throughput(10.0); // inferences per second
/// tracker.update_memory(512.0); // MB
/// let summary = tracker.get_summary();
/// assert_eq!((summary.average_latency_ms, summary.average_throughput_ips), (100.0, 10.0));
/// ```
// On lines of its own, so that those of two models do not slow each other.
#[repr(align(128))]
pub struct PerformanceTracker {
    latency_ms: Ewma,
    throughput_ips: Ewma,
    memory_mb: Ewma,
    failing: AtomicAverage,
    completions: Throughput,
    items: Counter,
    cancelled: AtomicU64,
    errors: Errors,
    /// Of them, deadlines that were too short for any run.
    hopeless: AtomicU64,
    batches: Sizes,
    total: Histogram,
    queue: Histogram,
    batch: Histogram,
    compute: Histogram,
}

impl PerformanceTracker {
    /// The part of the latest latency, throughput or memory in its average: what was counts half after 7 more.
    pub const SMOOTHING: f64 = 0.1;
    /// The part of the latest inference in what [`failing`](Self::failing) says: it counts half after 14 more.
    const FAILING: f64 = 0.05;
    /// Inferences before it says anything.
    const ENOUGH: u64 = 20;

    /// A tracker that has measured nothing.
    pub fn new() -> PerformanceTracker {
        let average = || Ewma::with_alpha(Self::SMOOTHING);
        PerformanceTracker {
            latency_ms: average(),
            throughput_ips: average(),
            memory_mb: average(),
            // It starts there rather than at the first inference, whose share would be too large for long.
            failing: AtomicAverage::of(0.0),
            completions: Throughput::new(),
            items: Counter::new(),
            cancelled: AtomicU64::new(0),
            errors: Errors::default(),
            hopeless: AtomicU64::new(0),
            batches: Sizes::new(),
            total: Histogram::new(),
            queue: Histogram::new(),
            batch: Histogram::new(),
            compute: Histogram::new(),
        }
    }

    /// Brings a latency in ms into the average. [`PerformanceTracker::record`] does that and more.
    #[inline]
    pub fn update_latency(&self, ms: f64) {
        self.latency_ms.observe(ms);
    }

    /// Brings a throughput in inferences per second into the average. From the first call on, the summary has what it
    /// was given rather than what it counted.
    #[inline]
    pub fn update_throughput(&self, ips: f64) {
        self.throughput_ips.observe(ips);
    }

    /// Brings the memory in use, in MB, into the average.
    #[inline]
    pub fn update_memory(&self, mb: f64) {
        self.memory_mb.observe(mb);
    }

    /// Counts an inference. Times, items and throughput are of those that succeeded alone.
    pub fn record(&self, observation: &Observation) {
        match observation.outcome {
            Outcome::Succeeded => {
                self.succeeded(observation);
                // As good as zero stays as it is: that is cheaper, and numbers near zero are slow to compute with.
                if self.failing.value() > 1e-9 {
                    self.failing.observe(Self::FAILING, 0.0);
                }
            }
            Outcome::Failed(kind) => {
                self.errors.add(kind);
                if !kind.is_callers() {
                    self.failing.observe(Self::FAILING, 1.0);
                }
            }
            Outcome::Cancelled => {
                self.cancelled.fetch_add(1, Relaxed);
            }
        }
    }

    /// Counts an inference whose deadline was too short for any run: an error, but none of those that
    /// [`failing`](Self::failing) is about.
    pub(crate) fn record_hopeless(&self) {
        self.errors.add(ErrorKind::Timeout);
        self.hopeless.fetch_add(1, Relaxed);
    }

    /// What a run in the engine usually takes: the median, of those that succeeded. `None` before the first. Cost: 8.6
    /// KiB are added up for each thread that recorded.
    pub(crate) fn usual_compute(&self) -> Option<Duration> {
        let compute = self.compute.snapshot();
        (compute.count() > 0).then(|| compute.quantile(0.5))
    }

    /// Counts a run of the engine on so many samples, those of several inferences among them.
    pub fn record_batch(&self, samples: u64) {
        self.batches.record(samples);
    }

    /// How inferences have done, as of the latest that succeeded. The throughput does not fall before the next; see
    /// [`PerformanceTracker::summary_at`] for that.
    pub fn get_summary(&self) -> PerformanceSummary {
        self.summary(None)
    }

    /// How inferences have done, with the throughput as of `now`: it falls while nothing succeeds.
    pub fn summary_at(&self, now: Instant) -> PerformanceSummary {
        self.summary(Some(now))
    }

    /// Everything that was counted. Cost: 35 KiB are added up for each thread that recorded.
    pub fn measurements(&self) -> Measurements {
        Measurements {
            succeeded: self.completions.completed(),
            cancelled: self.cancelled.load(Relaxed),
            errors: self.errors.counts(),
            items: self.items.total(),
            total: self.total.snapshot(),
            queue: self.queue.snapshot(),
            batch: self.batch.snapshot(),
            compute: self.compute.snapshot(),
            batches: self.batches.counts(),
        }
    }

    /// The part of recent inferences that failed, from 0 to 1; `None` before there were 20. Those that failed by the
    /// request's own fault (a deadline that is shorter than a run usually takes is one) and those that were given up
    /// are not among them.
    pub fn failing(&self) -> Option<f64> {
        let faults =
            self.errors.counts().iter().filter(|(kind, _)| !kind.is_callers()).map(|(_, count)| count).sum::<u64>();
        let judged = self.completions.completed() + faults.saturating_sub(self.hopeless.load(Relaxed));
        // The part of all weights that inferences have; the rest is that of the zero at the start.
        let weight = 1.0 - (1.0 - Self::FAILING).powf(judged as f64);
        (judged >= Self::ENOUGH).then(|| (self.failing.value() / weight).min(1.0))
    }

    fn succeeded(&self, observation: &Observation) {
        let Observation { ended, outcome: _, items, total, queue, batch, compute } = *observation;
        self.update_latency(milliseconds(total));
        self.completions.record(ended, total);
        self.items.add(items);
        self.total.record(total);
        self.queue.record(queue);
        self.batch.record(batch);
        self.compute.record(compute);
    }

    fn summary(&self, now: Option<Instant>) -> PerformanceSummary {
        let measured = self.measurements();
        PerformanceSummary {
            total_inferences: measured.inferences(),
            average_latency_ms: self.latency_ms.value(),
            average_throughput_ips: self.throughput_ips.get().unwrap_or_else(|| self.completions.per_second(now)),
            memory_usage_mb: self.memory_mb.value(),
            latency: Percentiles::from(&measured.total),
            queue: Percentiles::from(&measured.queue),
            batch: Percentiles::from(&measured.batch),
            compute: Percentiles::from(&measured.compute),
            items: measured.items,
            batches: measured.batches.count(),
            average_batch_size: measured.batches.average(),
            errors: measured.errors,
            cancelled: measured.cancelled,
        }
    }
}

impl Default for PerformanceTracker {
    fn default() -> PerformanceTracker {
        PerformanceTracker::new()
    }
}

impl fmt::Debug for PerformanceTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerformanceTracker").field("summary", &self.get_summary()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{on_four_threads, outcome::ErrorKind},
        *,
    };

    fn succeeded(ended: Instant, [queue, batch, compute]: [u64; 3]) -> Observation {
        let ms = Duration::from_millis;
        Observation {
            ended,
            outcome: Outcome::Succeeded,
            items: 2,
            total: ms(queue + batch + compute),
            queue: ms(queue),
            batch: ms(batch),
            compute: ms(compute),
        }
    }

    fn ended(outcome: Outcome) -> Observation {
        Observation { outcome, ..succeeded(Instant::now(), [50; 3]) }
    }

    fn is_near(got: Percentiles, ms: [f64; 4]) {
        let got = [got.p50_ms, got.p90_ms, got.p99_ms, got.max_ms];
        let near = |(got, ms): (f64, f64)| (got - ms).abs() <= ms / 64.0;
        assert!(got.into_iter().zip(ms).all(near), "{got:?}, not {ms:?}");
    }

    #[test]
    fn a_new_one_has_measured_nothing() {
        let tracker = PerformanceTracker::new();
        assert_eq!(tracker.get_summary(), PerformanceSummary::default());
        assert_eq!(tracker.summary_at(Instant::now()), PerformanceSummary::default());
        assert_eq!(tracker.measurements(), Measurements::default());
    }

    #[test]
    fn each_stage_has_its_own_times() {
        let (tracker, start) = (PerformanceTracker::new(), Instant::now());
        for n in 1..=100 {
            tracker.record(&succeeded(start + Duration::from_secs(n), [n, 10 * n, 100 * n]));
        }
        let summary = tracker.get_summary();
        is_near(summary.queue, [50.0, 90.0, 99.0, 100.0]);
        is_near(summary.batch, [500.0, 900.0, 990.0, 1000.0]);
        is_near(summary.compute, [5000.0, 9000.0, 9900.0, 10_000.0]);
        is_near(summary.latency, [5550.0, 9990.0, 10_989.0, 11_100.0]);
        assert_eq!((summary.total_inferences, summary.items), (100, 200));
        assert!((0.99..=1.01).contains(&summary.average_throughput_ips), "{}", summary.average_throughput_ips);
        let expected = (1..=100).map(|n| f64::from(111 * n)).reduce(|old, new| old * 0.9 + new * 0.1).unwrap();
        assert!((summary.average_latency_ms - expected).abs() < 1e-6, "{} {expected}", summary.average_latency_ms);
    }

    #[test]
    fn what_did_not_succeed_has_no_times() {
        let tracker = PerformanceTracker::new();
        ErrorKind::ALL.into_iter().for_each(|kind| tracker.record(&ended(Outcome::Failed(kind))));
        tracker.record(&ended(Outcome::Failed(ErrorKind::Timeout)));
        tracker.record(&ended(Outcome::Cancelled));
        let summary = tracker.get_summary();
        assert_eq!((summary.total_inferences, summary.cancelled, summary.timeouts()), (14, 1, 2));
        assert!(ErrorKind::ALL.into_iter().all(|kind| summary.errors.of(kind) >= 1));
        let untouched = PerformanceSummary {
            total_inferences: 14,
            cancelled: 1,
            errors: summary.errors,
            ..PerformanceSummary::default()
        };
        assert_eq!(summary, untouched);
    }

    #[test]
    fn a_throughput_that_is_given_is_the_one() {
        let tracker = PerformanceTracker::new();
        tracker.record(&succeeded(Instant::now(), [0, 0, 100]));
        assert!((tracker.get_summary().average_throughput_ips - 10.0).abs() < 1e-6);
        tracker.update_throughput(0.0);
        assert_eq!(tracker.get_summary().average_throughput_ips, 0.0);
    }

    #[test]
    fn an_idle_throughput_falls_as_of_now() {
        let (tracker, start) = (PerformanceTracker::new(), Instant::now());
        tracker.record(&succeeded(start, [0, 0, 100]));
        assert_eq!(tracker.summary_at(start), tracker.get_summary());
        let later = tracker.summary_at(start + Duration::from_secs(60)).average_throughput_ips;
        assert!(later < 0.2, "{later}");
    }

    #[test]
    fn batches_are_counted_apart() {
        let tracker = PerformanceTracker::new();
        [1, 8, 3].into_iter().for_each(|samples| tracker.record_batch(samples));
        let summary = tracker.get_summary();
        assert_eq!((summary.batches, summary.average_batch_size, summary.total_inferences), (3, 4.0, 0));
    }

    #[test]
    fn failing_is_about_recent_inferences() {
        let check = |outcomes: &[(u64, Outcome)], expected: Option<std::ops::RangeInclusive<f64>>| {
            let tracker = PerformanceTracker::new();
            for (times, outcome) in outcomes {
                (0..*times).for_each(|_| tracker.record(&ended(*outcome)));
            }
            match (tracker.failing(), expected) {
                (Some(part), Some(expected)) if expected.contains(&part) => {}
                (None, None) => {}
                (part, expected) => panic!("{outcomes:?}: {part:?}, not {expected:?}"),
            }
        };
        let late = Outcome::Failed(ErrorKind::Timeout);
        check(&[], None);
        check(&[(19, late)], None);
        check(&[(20, late)], Some(0.999..=1.0));
        check(&[(20, Outcome::Succeeded)], Some(0.0..=0.0));
        check(&[(1000, late), (14, Outcome::Succeeded)], Some(0.45..=0.52));
        check(&[(1000, Outcome::Succeeded), (1, late)], Some(0.05..=0.051));
        check(&[(1, late), (19, Outcome::Succeeded)], Some(0.02..=0.05));
        let wrong = Outcome::Failed(ErrorKind::InvalidShape);
        check(&[(1000, wrong), (1000, Outcome::Cancelled)], None);
        check(&[(20, Outcome::Succeeded), (1000, wrong), (1000, Outcome::Cancelled)], Some(0.0..=0.0));
    }

    #[test]
    fn nothing_of_any_thread_is_lost() {
        let (tracker, start) = (PerformanceTracker::new(), Instant::now());
        on_four_threads(|_| {
            for n in 0..1000 {
                tracker.record(&succeeded(start + Duration::from_millis(n), [1, 1, n]));
                tracker.record(&ended(Outcome::Failed(ErrorKind::Internal)));
                tracker.record(&ended(Outcome::Cancelled));
                tracker.record_batch(n);
            }
        });
        let measured = tracker.measurements();
        assert_eq!((measured.succeeded, measured.cancelled, measured.errors.total()), (4000, 4000, 4000));
        assert_eq!((measured.items, measured.batches.count(), measured.batches.sum()), (8000, 4000, 4 * 499_500));
        for stage in [measured.total, measured.queue, measured.batch, measured.compute] {
            assert_eq!(stage.count(), 4000);
        }
    }
}
