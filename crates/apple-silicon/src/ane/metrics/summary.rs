//! What is read from a tracker.

use std::time::Duration;

use super::{
    histogram::HistogramSnapshot,
    outcome::{ErrorCounts, ErrorKind},
    sizes::SizeCounts,
};

/// How inferences have done. What has not been measured is 0.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PerformanceSummary {
    /// Inferences that ended, whichever way.
    pub total_inferences: u64,
    /// Milliseconds from call to answer, the recent ones weighing more.
    pub average_latency_ms: f64,
    /// Inferences per second, the recent ones weighing more.
    pub average_throughput_ips: f64,
    /// Memory in use in MB, the recent readings weighing more.
    pub memory_usage_mb: f64,
    /// From call to answer.
    pub latency: Percentiles,
    /// Of that, waiting.
    pub queue: Percentiles,
    /// Of that, being gathered and joined into a batch.
    pub batch: Percentiles,
    /// Of that, in the engine.
    pub compute: Percentiles,
    /// Samples of the inferences that succeeded.
    pub items: u64,
    /// Runs of the engine.
    pub batches: u64,
    /// Samples in a run.
    pub average_batch_size: f64,
    /// Inferences that failed, by kind.
    pub errors: ErrorCounts,
    /// Inferences that their callers gave up.
    pub cancelled: u64,
}

impl PerformanceSummary {
    /// Inferences whose deadline passed.
    pub fn timeouts(&self) -> u64 {
        self.errors.of(ErrorKind::Timeout)
    }
}

/// Times of inferences that succeeded, in ms, to within 1.6 % (see [`Histogram`](super::Histogram)).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Percentiles {
    /// Half took no longer.
    pub p50_ms: f64,
    /// 90 % took no longer.
    pub p90_ms: f64,
    /// 99 % took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl From<&HistogramSnapshot> for Percentiles {
    fn from(snapshot: &HistogramSnapshot) -> Percentiles {
        let [p50_ms, p90_ms, p99_ms] = [0.5, 0.9, 0.99].map(|q| milliseconds(snapshot.quantile(q)));
        Percentiles { p50_ms, p90_ms, p99_ms, max_ms: milliseconds(snapshot.max()) }
    }
}

/// Everything that a tracker has counted. Inferences that end while it is read may be in some of it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Measurements {
    /// Inferences that succeeded.
    pub succeeded: u64,
    /// Inferences that their callers gave up.
    pub cancelled: u64,
    /// Inferences that failed.
    pub errors: ErrorCounts,
    /// Samples of the inferences that succeeded.
    pub items: u64,
    /// Of those that succeeded, the time from call to answer.
    pub total: HistogramSnapshot,
    /// Of that, waiting.
    pub queue: HistogramSnapshot,
    /// Of that, being gathered and joined into a batch.
    pub batch: HistogramSnapshot,
    /// Of that, in the engine.
    pub compute: HistogramSnapshot,
    /// Runs of the engine.
    pub batches: SizeCounts,
}

impl Measurements {
    /// Inferences that ended, whichever way.
    pub fn inferences(&self) -> u64 {
        self.succeeded + self.cancelled + self.errors.total()
    }
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
