//! What is measured: averages, distributions and counts, and their text for Prometheus.
//!
//! Nothing here reads a clock, or knows models, pools or engines: times come in with what is recorded. All recorders
//! take `&self` from any number of threads, and none of their updates is lost.
//!
//! The first 32 threads that are alive at once have memory of their own for what they record, so that an update is no
//! locked instruction (which alone is 5 ns on x86-64); who reads adds it up. Others share theirs.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use apple_silicon::ane::metrics::{Observation, Outcome, PerformanceTracker};
//!
//! let tracker = PerformanceTracker::new();
//! let ms = Duration::from_millis;
//! tracker.record(&Observation {
//!     ended: Instant::now(),
//!     outcome: Outcome::Succeeded,
//!     items: 1,
//!     total: ms(25),
//!     queue: ms(4),
//!     batch: ms(1),
//!     compute: ms(20),
//! });
//! let summary = tracker.get_summary();
//! assert_eq!((summary.total_inferences, summary.average_latency_ms), (1, 25.0));
//! assert!((summary.average_throughput_ips - 40.0).abs() < 0.01);
//! ```

use super::sync;

mod backlog;
pub mod ewma;
pub mod histogram;
mod outcome;
pub mod prometheus;
mod ring;
mod shards;
mod sizes;
mod slots;
mod summary;
mod throughput;
mod tracker;

pub use ewma::{Ewma, TimedEwma};
pub use histogram::{Histogram, HistogramSnapshot};
pub use outcome::{ErrorCounts, ErrorKind, Outcome};
pub use sizes::SizeCounts;
pub use summary::{Measurements, Percentiles, PerformanceSummary};
pub use tracker::{Observation, PerformanceTracker};

/// Runs the same on four threads that start together, so that their updates meet.
#[cfg(test)]
fn on_four_threads(run: impl Fn(u32) + Sync) {
    let (barrier, run) = (std::sync::Barrier::new(4), &run);
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let barrier = &barrier;
            threads.spawn(move || {
                barrier.wait();
                run(thread);
            });
        }
    });
}
