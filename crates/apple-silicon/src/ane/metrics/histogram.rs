//! How durations are distributed.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::shards::Shards;

/// A step of the finest scale is 16 ns.
const UNIT_BITS: u32 = 4;
/// From 512 ns on, a power of two is divided into 32 buckets.
const STEP_BITS: u32 = 5;
const STEPS: usize = 1 << STEP_BITS;
/// Up to 2^42 ns.
const RANGE_BITS: u32 = 42;
const LONGEST: u64 = (1 << RANGE_BITS) - 1;
const BUCKETS: usize = ((RANGE_BITS - UNIT_BITS - STEP_BITS + 1) as usize) * STEPS;

/// Counts durations in buckets whose width grows with what they hold, as HdrHistogram's do: 16 ns wide up to 1 µs, then
/// 32 of the same width between a power of two and the next.
///
/// What it tells is as if each duration had been rounded to the middle of its bucket: to within 1/64 (1.6 %) of itself
/// from 512 ns on, to within 8 ns below. Durations above 73 minutes (2^42 ns) count as that. The longest is kept as it
/// was.
///
/// Cost: a record is a load and a store where the thread has its own counts, which the first 32 that are alive at once
/// have, and one atomic addition elsewhere. 0.5 KiB, and 8.6 KiB for each thread of those 32 that records and for all
/// others together, on cache lines that are shared with nothing else: 285 KiB at most. A thread that comes after one
/// that has ended goes on with its counts.
///
/// ```
/// use std::time::Duration;
/// use apple_silicon::ane::metrics::Histogram;
///
/// let histogram = Histogram::new();
/// (1..=100).for_each(|ms| histogram.record(Duration::from_millis(ms)));
/// let p90 = histogram.snapshot().quantile(0.9).as_secs_f64();
/// assert!((p90 / 0.090 - 1.0).abs() <= 1.0 / 64.0);
/// ```
pub struct Histogram {
    cells: Shards<Cells>,
}

/// 128 bytes are a cache line on Apple silicon, and the pair of lines that x86 fetches.
#[repr(align(128))]
struct Cells {
    buckets: [AtomicU64; BUCKETS],
    longest: AtomicU64,
}

impl Histogram {
    /// A histogram without durations.
    pub fn new() -> Histogram {
        Histogram { cells: Shards::new() }
    }

    /// Counts a duration.
    #[inline]
    pub fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(LONGEST).min(LONGEST);
        let (cells, writer) = self.cells.mine();
        writer.add(&cells.buckets[bucket(ns)], 1);
        writer.raise(&cells.longest, ns);
    }

    /// What was counted until now. Durations that are recorded meanwhile are in it or not, each as a whole, and the
    /// longest may then be rounded, too. Cost: 8.6 KiB are made, and as many read for each thread that has its own.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot::default();
        for Cells { buckets, longest } in self.cells.all() {
            snapshot.buckets.iter_mut().zip(buckets).for_each(|(count, more)| *count += more.load(Relaxed));
            snapshot.longest = snapshot.longest.max(longest.load(Relaxed));
        }
        snapshot.longest = match snapshot.buckets.iter().rposition(|count| *count > 0) {
            None => 0,
            Some(last) if bucket(snapshot.longest) == last => snapshot.longest,
            // It is that of a duration that is not in the buckets yet, or lacks that of one that is.
            Some(last) => middle(last),
        };
        snapshot
    }
}

impl Default for Cells {
    fn default() -> Cells {
        Cells { buckets: [const { AtomicU64::new(0) }; BUCKETS], longest: AtomicU64::new(0) }
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// What a [`Histogram`] had counted.
#[derive(Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    buckets: Box<[u64]>,
    longest: u64,
}

impl HistogramSnapshot {
    /// How many durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of the rounded durations.
    pub fn sum(&self) -> Duration {
        let sum: u128 = self.rounded().map(|(ns, count)| u128::from(ns) * u128::from(count)).sum();
        const SECOND: u128 = 1_000_000_000;
        Duration::new(u64::try_from(sum / SECOND).unwrap_or(u64::MAX), (sum % SECOND) as u32)
    }

    /// The longest duration, not rounded; zero where there is none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// The rounded duration that so large a part of all does not exceed: of `n` sorted durations the one at
    /// `ceil(q * n)`, counted from 1. `q` is brought into 0 to 1. Zero where there is none.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = ((q * self.count() as f64).ceil() as u64).clamp(1, self.count().max(1));
        let mut seen = 0;
        let found = self.rounded().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        Duration::from_nanos(found.map_or(0, |(ns, _)| ns))
    }

    /// How many rounded durations are not longer than this.
    pub fn at_most(&self, bound: Duration) -> u64 {
        let within = |(ns, _): &(u64, u64)| u128::from(*ns) <= bound.as_nanos();
        self.rounded().take_while(within).map(|(_, count)| count).sum()
    }

    /// Adds what another has counted, as if all had been recorded in one.
    pub fn merge(&mut self, other: &HistogramSnapshot) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(count, more)| *count += more);
        self.longest = self.longest.max(other.longest);
    }

    /// Durations with their counts, from short to long. None is above the longest.
    fn rounded(&self) -> impl Iterator<Item = (u64, u64)> {
        let full = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        full.map(|(bucket, count)| (middle(bucket).min(self.longest), *count))
    }
}

impl Default for HistogramSnapshot {
    fn default() -> HistogramSnapshot {
        HistogramSnapshot { buckets: vec![0; BUCKETS].into(), longest: 0 }
    }
}

impl fmt::Debug for HistogramSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistogramSnapshot")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

/// The bucket of so many nanoseconds, which are [`LONGEST`] at most.
#[inline]
fn bucket(ns: u64) -> usize {
    let units = ns >> UNIT_BITS;
    let shift = (units | STEPS as u64).ilog2() - STEP_BITS;
    shift as usize * STEPS + (units >> shift) as usize
}

/// A bucket's least nanosecond, and how many it has.
fn bounds(bucket: usize) -> (u64, u64) {
    let shift = (bucket / STEPS).saturating_sub(1);
    let units = (bucket - shift * STEPS) as u64;
    ((units << shift) << UNIT_BITS, (1 << shift) << UNIT_BITS)
}

fn middle(bucket: usize) -> u64 {
    let (low, width) = bounds(bucket);
    low + width / 2
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use proptest::prelude::*;

    use super::{super::on_four_threads, *};

    const NANOSECOND: Duration = Duration::from_nanos(1);

    fn of(durations: &[u64]) -> HistogramSnapshot {
        let histogram = Histogram::new();
        durations.iter().for_each(|ns| histogram.record(Duration::from_nanos(*ns)));
        histogram.snapshot()
    }

    /// Whether a duration is as good as the exact one.
    fn is_near(got: Duration, exact: u64) -> bool {
        let got = got.as_nanos() as u64;
        got.abs_diff(exact) <= (exact / 64).max(8)
    }

    /// Spread evenly over the powers of two.
    fn nanoseconds() -> impl Strategy<Value = u64> {
        (0..RANGE_BITS, any::<u64>()).prop_map(|(bits, value)| value & ((2 << bits) - 1))
    }

    #[test]
    fn buckets_follow_one_another() {
        let mut next = 0;
        for index in 0..BUCKETS {
            let (low, width) = bounds(index);
            assert_eq!(low, next, "bucket {index}");
            assert_eq!((bucket(low), bucket(low + width - 1)), (index, index), "bucket {index}");
            next = low + width;
        }
        assert_eq!(next, LONGEST + 1);
    }

    #[test]
    fn of_nothing() {
        let empty = Histogram::new().snapshot();
        assert_eq!(empty, HistogramSnapshot::default());
        assert_eq!((empty.count(), empty.sum(), empty.max()), (0, Duration::ZERO, Duration::ZERO));
        assert_eq!((empty.quantile(0.5), empty.at_most(Duration::MAX)), (Duration::ZERO, 0));
    }

    #[test]
    fn of_one() {
        for ns in [0, 1, 511, 512, 1_000, 25_000_000, 3_600_000_000_000, LONGEST] {
            let one = of(&[ns]);
            assert_eq!((one.count(), one.max()), (1, Duration::from_nanos(ns)));
            assert!(is_near(one.sum(), ns), "{ns}: {:?}", one.sum());
            let rounded = one.quantile(0.5);
            assert_eq!(one.at_most(rounded), 1, "{ns}");
            assert_eq!(one.at_most(rounded.saturating_sub(NANOSECOND)), u64::from(rounded.is_zero()), "{ns}");
            for q in [f64::NAN, f64::NEG_INFINITY, -1.0, 0.0, 0.5, 1.0, 2.0] {
                assert!(is_near(one.quantile(q), ns), "{ns}: {:?}", one.quantile(q));
            }
        }
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let histogram = Histogram::new();
        histogram.record(Duration::MAX);
        histogram.record(Duration::from_secs(5000));
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count(), snapshot.max()), (2, Duration::from_nanos(LONGEST)));
        assert!(is_near(snapshot.quantile(0.5), LONGEST));
    }

    #[test]
    fn nothing_has_no_longest() {
        let histogram = Histogram::new();
        histogram.cells.mine().0.longest.store(7, Relaxed);
        assert_eq!(histogram.snapshot(), HistogramSnapshot::default());
    }

    #[test]
    fn it_is_as_large_as_it_says() {
        assert_eq!((size_of::<Cells>(), size_of::<Histogram>()), (8832, 528));
    }

    #[test]
    fn no_duration_of_any_thread_is_lost() {
        let histogram = Histogram::new();
        // They meet in the same buckets, and each in turn has the longest.
        on_four_threads(|thread| {
            (0..200_000).for_each(|step| histogram.record(Duration::from_millis(1) + NANOSECOND * (4 * step + thread)));
        });
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count(), snapshot.max()), (800_000, Duration::from_nanos(1_799_999)));
    }

    /// A record that another thread has done by half.
    #[test]
    fn the_longest_is_in_the_last_bucket() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_millis(20));
        for longest in [0, 10_000_000, 40_000_000] {
            histogram.cells.mine().0.longest.store(longest, Relaxed);
            let snapshot = histogram.snapshot();
            assert!(is_near(snapshot.max(), 20_000_000), "{:?}", snapshot.max());
            assert!(is_near(snapshot.quantile(1.0), 20_000_000), "{:?}", snapshot.quantile(1.0));
        }
    }

    /// More at once than have counts of their own, and after one another.
    #[test]
    fn threads_may_be_many() {
        let histogram = Histogram::new();
        let (threads, barrier) = (40, Barrier::new(40));
        let record =
            |thread: u64| (0..1000).for_each(|step| histogram.record(NANOSECOND * (1000 * thread + step) as u32));
        for _ in 0..3 {
            thread::scope(|scope| {
                for number in 0..threads {
                    let (barrier, record) = (&barrier, &record);
                    scope.spawn(move || {
                        record(number);
                        barrier.wait();
                        record(number);
                    });
                }
            });
        }
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count(), snapshot.max()), (240_000, NANOSECOND * 39_999));
        let mut same = of(&(0..40_000).collect::<Vec<_>>());
        same.buckets.iter_mut().for_each(|count| *count *= 6);
        assert_eq!(snapshot, same);
        assert!(histogram.cells.all().count() <= 33);
    }

    #[test]
    fn a_snapshot_of_what_changes_agrees_with_itself() {
        let histogram = Histogram::new();
        thread::scope(|threads| {
            threads.spawn(|| (0..20_000).for_each(|us| histogram.record(Duration::from_micros(us))));
            loop {
                let snapshot = histogram.snapshot();
                let count = snapshot.count();
                assert_eq!(snapshot.at_most(Duration::MAX), count);
                assert!(snapshot.quantile(1.0) <= snapshot.max());
                assert!(is_near(snapshot.quantile(1.0), snapshot.max().as_nanos() as u64));
                if count == 20_000 {
                    break;
                }
            }
        });
    }

    proptest! {
        #[test]
        fn quantiles_are_near(mut durations in prop::collection::vec(nanoseconds(), 1..300), q in 0.0..=1.0) {
            let snapshot = of(&durations);
            durations.sort_unstable();
            for q in [q, 0.0, 0.5, 0.9, 0.99, 1.0] {
                let rank = ((q * durations.len() as f64).ceil() as usize).max(1);
                let (got, exact) = (snapshot.quantile(q), durations[rank - 1]);
                prop_assert!(is_near(got, exact), "{q}: {got:?}, exact {exact} ns");
            }
        }

        #[test]
        fn sums_are_near(durations in prop::collection::vec(nanoseconds(), 1..300)) {
            let (got, exact) = (of(&durations).sum().as_nanos() as f64, durations.iter().sum::<u64>() as f64);
            prop_assert!((got - exact).abs() <= exact / 64.0 + 8.0 * durations.len() as f64);
        }

        #[test]
        fn merged_is_recorded_in_one(
            a in prop::collection::vec(nanoseconds(), 0..100),
            b in prop::collection::vec(nanoseconds(), 0..100)
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }

        #[test]
        fn bounds_divide_at_1_64th(durations in prop::collection::vec(nanoseconds(), 0..100), bound in nanoseconds()) {
            let got = of(&durations).at_most(Duration::from_nanos(bound));
            let slack = (bound / 63).max(8);
            let count = |bound: u64| durations.iter().filter(|ns| **ns <= bound).count() as u64;
            let least = bound.checked_sub(slack).map_or(0, count);
            prop_assert!((least..=count(bound + slack)).contains(&got));
        }
    }
}
