//! How long predictions take.

use std::time::Duration;

use serde::Serialize;

/// Milliseconds of many runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) runs: usize,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
}

impl Latency {
    /// `None` where nothing ran.
    pub(crate) fn of(runs: &[Duration]) -> Option<Latency> {
        let mut sorted: Vec<f64> = runs.iter().map(|run| run.as_secs_f64() * 1000.0).collect();
        sorted.sort_by(f64::total_cmp);
        // The nearest rank: the smallest value that at least this share of the runs does not exceed.
        let rank = |percent: usize| sorted[(percent * sorted.len()).div_ceil(100).max(1) - 1];
        let min = *sorted.first()?;
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        Some(Latency { runs: sorted.len(), p50: rank(50), p90: rank(90), p99: rank(99), min, mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_runs_that_happened() {
        let runs: Vec<Duration> = (1..=10).rev().map(Duration::from_millis).collect();
        let expected = Latency { runs: 10, p50: 5.0, p90: 9.0, p99: 10.0, min: 1.0, mean: 5.5 };
        assert_eq!(Latency::of(&runs), Some(expected));
        assert_eq!(Latency::of(&[]), None);
        assert_eq!(Latency::of(&runs[..1]).unwrap().p50, 10.0);
    }
}
