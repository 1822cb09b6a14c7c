//! Exponentially weighted moving averages, by sample and by time.

use std::{
    f64::consts::LN_2,
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::backlog::{Backlog, Fold};
pub use super::{summary::PerformanceSummary, tracker::PerformanceTracker};

/// An average in which each sample counts for a fixed part: `v = alpha * x + (1 - alpha) * v`, and the first sample is
/// the average ([NIST, 6.3.2.4](https://www.itl.nist.gov/div898/handbook/pmc/section3/pmc324.htm)).
///
/// It lies between its least and its greatest sample. NaN and infinite samples are ignored. Samples count once each and
/// in the order in which they came; among those that several threads bring at the same time, up to 128 of each, in some
/// order that keeps each thread's own.
///
/// Cost: a sample of the thread that brought the last ones too is two stores, and a lock with every 64th; a sample of
/// another thread is a lock, and so is reading. 0.6 KiB, and 1.1 KiB for each thread that brought four in a row, 32 of
/// them at most.
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
    samples: Backlog<BySample, 1>,
}

impl Ewma {
    /// An average without samples. `alpha` is brought into 0 to 1; NaN is 1, an average that is the last sample.
    pub fn with_alpha(alpha: f64) -> Ewma {
        let alpha = if alpha.is_nan() { 1.0 } else { alpha.clamp(0.0, 1.0) };
        Ewma { samples: Backlog::new(BySample { alpha, average: f64::NAN }) }
    }

    /// Takes a sample in.
    #[inline]
    pub fn observe(&self, sample: f64) {
        if sample.is_finite() {
            self.samples.update([sample.to_bits()]);
        }
    }

    /// The average; 0 before the first sample.
    pub fn value(&self) -> f64 {
        self.get().unwrap_or(0.0)
    }

    /// The average; `None` before the first sample.
    pub(super) fn get(&self) -> Option<f64> {
        Some(self.samples.read(|by_sample| by_sample.average)).filter(|average| !average.is_nan())
    }
}

impl fmt::Debug for Ewma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alpha = self.samples.read(|by_sample| by_sample.alpha);
        f.debug_struct("Ewma").field("alpha", &alpha).field("value", &self.value()).finish()
    }
}

struct BySample {
    alpha: f64,
    /// NaN, which no sample is, where there is none yet.
    average: f64,
}

impl Fold<1> for BySample {
    #[inline]
    fn fold(&mut self, [sample]: [u64; 1]) {
        self.average = blend(self.average, 1.0 - self.alpha, f64::from_bits(sample), self.alpha);
    }
}

/// An average over time in which what was loses half of its weight with each half-life. A sample stands for the time
/// since the one before it: `v = x + (v - x) * 2^(-elapsed / half_life)`, and the first sample is the average. This is
/// the moving average with next-point interpolation of Eckner, "Algorithms for Unevenly Spaced Time Series: Moving
/// Averages and Other Rolling Operators" (2019).
///
/// A sample that is not later than all before it stands for no time and has no weight. NaN and infinite samples are
/// ignored. Each stretch of time is given to one sample, whichever threads they come from. Samples count in the order
/// that [`Ewma`] says.
///
/// Cost: as [`Ewma`]'s, and some arithmetic: an `exp2` where the time since the last sample is above 1/355 of the
/// half-life. 0.6 KiB, and 2.1 KiB for each thread.
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
    /// What times are counted from: that of a first sample.
    origin: OnceLock<Instant>,
    samples: Backlog<ByTime, 2>,
}

impl TimedEwma {
    /// An average without samples. With a half-life of zero it is the last sample.
    pub fn with_half_life(half_life: Duration) -> TimedEwma {
        let rate = LN_2 / half_life.as_nanos() as f64;
        let by_time = ByTime { half_life, rate, latest: 0, average: f64::NAN };
        TimedEwma { origin: OnceLock::new(), samples: Backlog::new(by_time) }
    }

    /// Takes a sample in that stands for the time from the one before it until `at`.
    #[inline]
    pub fn observe_at(&self, at: Instant, sample: f64) {
        if sample.is_finite() {
            let origin = *self.origin.get_or_init(|| at);
            self.samples.update([nanos(at.saturating_duration_since(origin)), sample.to_bits()]);
        }
    }

    /// The average at the latest sample; 0 before the first.
    pub fn value(&self) -> f64 {
        let average = self.samples.read(|by_time| by_time.average);
        if average.is_nan() { 0.0 } else { average }
    }

    /// What [`TimedEwma::value`] would be after this sample.
    pub(super) fn value_with(&self, at: Instant, sample: f64) -> f64 {
        let Some(origin) = self.origin.get() else { return sample };
        self.samples.read(|by_time| by_time.with(nanos(at.saturating_duration_since(*origin)), sample))
    }
}

impl fmt::Debug for TimedEwma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half_life = self.samples.read(|by_time| by_time.half_life);
        f.debug_struct("TimedEwma").field("half_life", &half_life).field("value", &self.value()).finish()
    }
}

#[cfg_attr(test, derive(Clone))]
struct ByTime {
    half_life: Duration,
    /// What a nanosecond takes of the weight of what was before it, as a part of that.
    rate: f64,
    /// Nanoseconds from the origin to the latest sample.
    latest: u64,
    /// NaN, which no sample is, where there is none yet.
    average: f64,
}

impl ByTime {
    /// The average after one more sample.
    #[inline]
    fn with(&self, at: u64, sample: f64) -> f64 {
        let passed = self.passed(at.saturating_sub(self.latest));
        blend(self.average, 1.0 - passed, sample, passed)
    }

    /// The weight that so many nanoseconds take: `1 - 2^(-elapsed / half_life)`.
    #[inline]
    fn passed(&self, elapsed: u64) -> f64 {
        let x = elapsed as f64 * self.rate;
        if x < 1.0 / 512.0 {
            // The series of 1 - e^-x, whose next term is below 2^-54 of the first.
            x * (1.0 - x * (1.0 / 2.0 - x * (1.0 / 6.0 - x * (1.0 / 24.0 - x * (1.0 / 120.0)))))
        } else {
            1.0 - decay(elapsed, self.half_life)
        }
    }
}

impl Fold<2> for ByTime {
    #[inline]
    fn fold(&mut self, [at, sample]: [u64; 2]) {
        self.average = self.with(at, f64::from_bits(sample));
        self.latest = self.latest.max(at);
    }
}

/// An average by sample that is read as often as it is written: reading is one load, a sample one compare-and-swap.
pub(super) struct AtomicAverage(AtomicU64);

impl AtomicAverage {
    pub(super) fn of(value: f64) -> AtomicAverage {
        AtomicAverage(AtomicU64::new(value.to_bits()))
    }

    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    pub(super) fn observe(&self, alpha: f64, sample: f64) {
        let new = |old| blend(f64::from_bits(old), 1.0 - alpha, sample, alpha).to_bits();
        self.0.update(Relaxed, Relaxed, new);
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
    use std::{sync::Barrier, thread};

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

    /// More than have a slot, too.
    #[test]
    fn samples_of_all_threads_that_are_the_same_are_the_average() {
        for threads in [4, 40] {
            let (ewma, timed, origin) = (Ewma::with_alpha(0.1), TimedEwma::with_half_life(HALF_LIFE), Instant::now());
            let barrier = Barrier::new(threads);
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        barrier.wait();
                        for step in 0..1000 {
                            ewma.observe(0.3);
                            timed.observe_at(origin + Duration::from_millis(step), 0.3);
                            assert!(step % 100 > 0 || (ewma.value(), timed.value()) == (0.3, 0.3));
                        }
                    });
                }
            });
            assert_eq!((ewma.value(), timed.value()), (0.3, 0.3));
        }
    }

    #[test]
    fn short_times_lose_what_long_ones_do() {
        let by_time =
            |half_life| TimedEwma::with_half_life(Duration::from_nanos(half_life)).samples.read(ByTime::clone);
        for elapsed in [0, 1, 7, 1000, 1_000_000, 1_000_000_000] {
            for half_life in [1, 3, 354, 355, 1_000_000, 354_891_000, 354_892_000, 10_000_000_000, u64::MAX] {
                let (got, exact) =
                    (by_time(half_life).passed(elapsed), -(-(elapsed as f64) / half_life as f64 * LN_2).exp_m1());
                assert!((got - exact).abs() <= exact * 1e-13, "{elapsed} of {half_life}: {got}, not {exact}");
            }
        }
    }

    proptest! {
        /// As the formula says, whenever it is read.
        #[test]
        fn of_one_thread_it_is_exact(
            alpha in 0.0..=1.0, samples in prop::collection::vec((-1e3..1e3, prop::bool::weighted(0.02)), 1..1000)
        ) {
            let (ewma, mut expected) = (Ewma::with_alpha(alpha), f64::NAN);
            for (sample, reads) in samples {
                ewma.observe(sample);
                expected = blend(expected, 1.0 - alpha, sample, alpha);
                prop_assert!(!reads || ewma.value() == expected);
            }
            prop_assert_eq!(ewma.value(), expected);
        }

        #[test]
        fn of_one_thread_it_is_near_the_formula_over_time(
            samples in prop::collection::vec((0..100_000_000_000u64, 0..20u32, -1e3..1e3), 1..500)
        ) {
            let (ewma, mut at) = (TimedEwma::with_half_life(HALF_LIFE), Instant::now());
            let mut expected = f64::NAN;
            for (pause, shorter, sample) in samples {
                let pause = Duration::from_nanos(pause >> shorter);
                at += pause;
                ewma.observe_at(at, sample);
                let keep = (-pause.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
                expected = if expected.is_nan() { sample } else { sample + (expected - sample) * keep };
            }
            prop_assert!((ewma.value() - expected).abs() < 1e-9, "{} {expected}", ewma.value());
        }

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
