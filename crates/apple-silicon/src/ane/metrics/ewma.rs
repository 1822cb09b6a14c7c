//! Exponentially weighted moving averages, by sample and by time.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub use super::{summary::PerformanceSummary, tracker::PerformanceTracker};

/// An average in which each sample counts for a fixed part: `v = alpha * x + (1 - alpha) * v`, and the first sample is
/// the average ([NIST, 6.3.2.4](https://www.itl.nist.gov/div898/handbook/pmc/section3/pmc324.htm)).
///
/// It lies between its least and its greatest sample. NaN and infinite samples are ignored. Samples of several threads
/// count in some order, each once.
///
/// Cost: one compare-and-swap, repeated where another thread came in between. 24 bytes.
///
/// ```
/// use apple_silicon::ane::metrics::Ewma;
///
/// let latency = Ewma::with_alpha(0.5);
/// latency.observe(100.0);
/// latency.observe(200.0);
/// assert_eq!(latency.value(), 150.0);
/// ```
pub struct Ewma {
    alpha: f64,
    keep: f64,
    average: Average,
}

impl Ewma {
    /// An average without samples. `alpha` is brought into 0 to 1; NaN is 1, an average that is the last sample.
    pub fn with_alpha(alpha: f64) -> Ewma {
        let alpha = if alpha.is_nan() { 1.0 } else { alpha.clamp(0.0, 1.0) };
        Ewma { alpha, keep: 1.0 - alpha, average: Average::none() }
    }

    /// Takes a sample in.
    #[inline]
    pub fn observe(&self, sample: f64) {
        if sample.is_finite() {
            self.average.blend(self.keep, sample, self.alpha);
        }
    }

    /// The average; 0 before the first sample.
    #[inline]
    pub fn value(&self) -> f64 {
        self.get().unwrap_or(0.0)
    }

    /// The average; `None` before the first sample.
    pub(super) fn get(&self) -> Option<f64> {
        self.average.get()
    }
}

impl fmt::Debug for Ewma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ewma").field("alpha", &self.alpha).field("value", &self.value()).finish()
    }
}

/// An average over time in which what was loses half of its weight with each half-life. A sample stands for the time
/// since the one before it: `v = x + (v - x) * 2^(-elapsed / half_life)`, and the first sample is the average. This is
/// the moving average with next-point interpolation of Eckner, "Algorithms for Unevenly Spaced Time Series: Moving
/// Averages and Other Rolling Operators" (2019).
///
/// A sample that is not later than all before it stands for no time and has no weight. NaN and infinite samples are
/// ignored. Each stretch of time is given to one sample, whichever threads they come from; two threads may bring
/// theirs in in either order.
///
/// Cost: two atomic updates and one `exp2`.
///
/// ```
/// use std::time::{Duration, Instant};
/// use apple_silicon::ane::metrics::TimedEwma;
///
/// const HALF_LIFE: Duration = Duration::from_secs(10);
/// let (ewma, t0) = (TimedEwma::with_half_life(HALF_LIFE), Instant::now());
/// ewma.observe_at(t0, 10.0);
/// ewma.observe_at(t0 + HALF_LIFE, 0.0);
/// assert_eq!(ewma.value(), 5.0);
/// ```
pub struct TimedEwma {
    half_life: Duration,
    /// One value, so that nobody sees the time of the first sample without it.
    first: OnceLock<(Instant, f64)>,
    /// Nanoseconds from the first sample to the latest.
    latest: AtomicU64,
    /// From the second sample on.
    average: Average,
}

impl TimedEwma {
    /// An average without samples. With a half-life of zero it is the last sample.
    pub fn with_half_life(half_life: Duration) -> TimedEwma {
        TimedEwma { half_life, first: OnceLock::new(), latest: AtomicU64::new(0), average: Average::none() }
    }

    /// Takes a sample in that stands for the time from the one before it until `at`.
    pub fn observe_at(&self, at: Instant, sample: f64) {
        if !sample.is_finite() {
            return;
        }
        let mut is_first = false;
        let (origin, first) = self.first.get_or_init(|| {
            is_first = true;
            (at, sample)
        });
        let now = nanos(at.saturating_duration_since(*origin));
        if is_first {
            return;
        }
        let elapsed = now.saturating_sub(self.latest.fetch_max(now, Relaxed));
        let keep = decay(elapsed, self.half_life);
        self.average.blend_from(*first, keep, sample, 1.0 - keep);
    }

    /// The average at the latest sample; 0 before the first.
    pub fn value(&self) -> f64 {
        self.average.get().or(self.first.get().map(|(_, first)| *first)).unwrap_or(0.0)
    }

    /// What [`TimedEwma::value`] would be after this sample.
    pub(super) fn value_with(&self, at: Instant, sample: f64) -> f64 {
        let Some((origin, _)) = self.first.get() else { return sample };
        let now = nanos(at.saturating_duration_since(*origin));
        let keep = decay(now.saturating_sub(self.latest.load(Relaxed)), self.half_life);
        blend(self.value(), keep, sample, 1.0 - keep)
    }
}

impl fmt::Debug for TimedEwma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedEwma").field("half_life", &self.half_life).field("value", &self.value()).finish()
    }
}

/// The bits of an `f64`; NaN, which no sample is, where there is none yet.
struct Average(AtomicU64);

impl Average {
    fn none() -> Average {
        Average(AtomicU64::new(f64::NAN.to_bits()))
    }

    fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Relaxed))).filter(|value| !value.is_nan())
    }

    /// Becomes the sample where there is none yet.
    #[inline]
    fn blend(&self, keep: f64, sample: f64, part: f64) {
        self.0.update(Relaxed, Relaxed, |bits| blend(f64::from_bits(bits), keep, sample, part).to_bits());
    }

    fn blend_from(&self, first: f64, keep: f64, sample: f64, part: f64) {
        self.0.update(Relaxed, Relaxed, |bits| {
            let old = f64::from_bits(bits);
            blend(if old.is_nan() { first } else { old }, keep, sample, part).to_bits()
        });
    }
}

/// The weight that is left of what was so many nanoseconds ago.
pub(super) fn decay(elapsed: u64, half_life: Duration) -> f64 {
    if elapsed == 0 { 1.0 } else { (-(elapsed as f64) / half_life.as_nanos() as f64).exp2() }
}

/// Saturates after 584 years.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[inline]
fn blend(old: f64, keep: f64, sample: f64, part: f64) -> f64 {
    // One product and one sum depend on the old value; `old + part * (sample - old)` would be one more in a row, and
    // may overflow. Comparisons that are never wrong are predicted, `clamp` would be waited for.
    let new = old * keep + sample * part;
    if (old <= new && new <= sample) || (sample <= new && new <= old) { new } else { bounded(old, sample, new) }
}

/// What rounding has put outside, and the first sample.
#[cold]
fn bounded(old: f64, sample: f64, new: f64) -> f64 {
    if old.is_nan() { sample } else { new.clamp(old.min(sample), old.max(sample)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::on_four_threads, *};

    const HALF_LIFE: Duration = Duration::from_secs(10);

    #[test]
    fn by_sample() {
        let check = |alpha: f64, samples: &[f64], expected: f64| {
            let ewma = Ewma::with_alpha(alpha);
            samples.iter().for_each(|sample| ewma.observe(*sample));
            assert_eq!(ewma.value(), expected, "alpha {alpha}, {samples:?}");
        };
        check(0.1, &[], 0.0);
        check(0.1, &[100.0], 100.0);
        check(0.5, &[100.0, 200.0], 150.0);
        check(0.25, &[0.0, 8.0, 0.0], 1.5);
        check(0.1, &[0.3; 1000], 0.3);
        check(0.5, &[-4.0, 4.0], 0.0);
        check(0.5, &[f64::MAX, -f64::MAX, f64::MAX], f64::MAX / 2.0);
        check(0.5, &[f64::NAN, 1.0, f64::INFINITY, 3.0, f64::NEG_INFINITY, f64::NAN], 2.0);
        check(0.0, &[1.0, 9.0], 1.0);
        check(1.0, &[1.0, 9.0], 9.0);
        check(7.0, &[1.0, 9.0], 9.0);
        check(-7.0, &[1.0, 9.0], 1.0);
        check(f64::NAN, &[1.0, 9.0], 9.0);
    }

    #[test]
    fn by_time() {
        let check = |samples: &[(u64, f64)], expected: f64| {
            let (ewma, origin) = (TimedEwma::with_half_life(HALF_LIFE), Instant::now());
            for (second, sample) in samples {
                ewma.observe_at(origin + Duration::from_secs(100 + second), *sample);
            }
            assert_eq!(ewma.value(), expected, "{samples:?}");
        };
        check(&[], 0.0);
        check(&[(0, 10.0)], 10.0);
        check(&[(0, 10.0), (10, 0.0)], 5.0);
        check(&[(0, 10.0), (10, 0.0), (30, 0.0)], 1.25);
        // Halfway in two steps is halfway.
        check(&[(0, 8.0), (10, 0.0), (20, 0.0)], 2.0);
        // What is not later has no weight, and leaves the time as it is.
        check(&[(0, 10.0), (10, 0.0), (10, 99.0), (5, 99.0), (20, 0.0)], 2.5);
        check(&[(10, 10.0), (0, 99.0), (20, 0.0)], 5.0);
        check(&[(0, f64::NAN), (5, 10.0), (10, f64::INFINITY), (15, 0.0)], 5.0);
    }

    #[test]
    fn without_a_half_life_it_is_the_last_sample() {
        let (ewma, origin) = (TimedEwma::with_half_life(Duration::ZERO), Instant::now());
        ewma.observe_at(origin, 1.0);
        ewma.observe_at(origin + Duration::from_nanos(1), 2.0);
        assert_eq!(ewma.value(), 2.0);
    }

    #[test]
    fn a_look_ahead_changes_nothing() {
        let (ewma, origin) = (TimedEwma::with_half_life(HALF_LIFE), Instant::now());
        assert_eq!(ewma.value_with(origin, 3.0), 3.0);
        ewma.observe_at(origin, 10.0);
        assert_eq!(ewma.value_with(origin + HALF_LIFE, 0.0), 5.0);
        assert_eq!(ewma.value_with(origin, 0.0), 10.0);
        assert_eq!(ewma.value(), 10.0);
    }

    /// Zeros after one sample: what is left of it says how many of them counted.
    #[test]
    fn no_sample_of_any_thread_is_lost() {
        const ALPHA: f64 = 1.0 / 65_536.0;
        let ewma = Ewma::with_alpha(ALPHA);
        ewma.observe(1.0);
        on_four_threads(|_| (0..200_000).for_each(|_| ewma.observe(0.0)));
        let expected = (0..800_000).fold(1.0, |left, _| left * (1.0 - ALPHA));
        assert_eq!(ewma.value(), expected);
    }

    /// Each thread brings times that lie between those of the others.
    #[test]
    fn no_time_of_any_thread_is_lost() {
        let (ewma, origin) = (TimedEwma::with_half_life(HALF_LIFE), Instant::now());
        ewma.observe_at(origin, 1.0);
        const STEPS: u32 = 20_000;
        on_four_threads(|thread| {
            for step in 0..STEPS {
                ewma.observe_at(origin + (HALF_LIFE / STEPS) * (4 * step + thread + 1), 0.0);
            }
        });
        assert!((ewma.value() / (-4f64).exp2() - 1.0).abs() < 1e-9, "{}", ewma.value());
    }

    proptest! {
        #[test]
        fn it_lies_between_its_samples(alpha in 0.0..=1.0, samples in prop::collection::vec(-1e300..1e300, 1..50)) {
            let ewma = Ewma::with_alpha(alpha);
            let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
            for sample in samples {
                ewma.observe(sample);
                (least, greatest) = (sample.min(least), sample.max(greatest));
                prop_assert!((least..=greatest).contains(&ewma.value()));
            }
        }

        #[test]
        fn it_lies_between_its_samples_over_time(
            samples in prop::collection::vec((0..100_000_000_000u64, -1e300..1e300), 1..50)
        ) {
            let (ewma, mut at) = (TimedEwma::with_half_life(HALF_LIFE), Instant::now());
            let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
            for (pause, sample) in samples {
                at += Duration::from_nanos(pause);
                ewma.observe_at(at, sample);
                (least, greatest) = (sample.min(least), sample.max(greatest));
                prop_assert!((least..=greatest).contains(&ewma.value()));
            }
        }
    }
}
