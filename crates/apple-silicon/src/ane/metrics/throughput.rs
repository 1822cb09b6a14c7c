//! Completions per second, from counts and times.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    ewma::{TimedEwma, decay, nanos},
    shards::Shards,
};

/// After that long, a completion counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// For that long at least completions are counted before their rate is averaged, which costs more than counting.
const WINDOW: Duration = Duration::from_millis(100);

/// The average rate of completions since the first of them began, the recent ones weighing more. A steady rate is that
/// rate from the first completion on, and it falls while nothing completes.
pub(super) struct Throughput {
    began: OnceLock<Instant>,
    cells: Shards<Cells>,
    /// Nanoseconds from the beginning to that of the open window.
    window: AtomicU64,
    /// Completions before the open window.
    before: AtomicU64,
    /// Of the closed windows, as if there had been nothing for ever before the first.
    rate: TimedEwma,
}

/// Of the threads that write it.
#[derive(Default)]
#[repr(align(128))]
struct Cells {
    completed: AtomicU64,
    /// Nanoseconds from the beginning to the latest completion.
    latest: AtomicU64,
}

impl Throughput {
    pub(super) fn new() -> Throughput {
        Throughput {
            began: OnceLock::new(),
            cells: Shards::new(),
            window: AtomicU64::new(0),
            before: AtomicU64::new(0),
            rate: TimedEwma::with_half_life(HALF_LIFE),
        }
    }

    /// Counts something that took so long.
    pub(super) fn record(&self, ended: Instant, took: Duration) {
        let began = *self.began.get_or_init(|| {
            let began = ended.checked_sub(took).unwrap_or(ended);
            self.rate.observe_at(began, 0.0);
            began
        });
        let now = nanos(ended.saturating_duration_since(began));
        let (cells, writer) = self.cells.mine();
        writer.add(&cells.completed, 1);
        writer.raise(&cells.latest, now);
        let window = self.window.load(Relaxed);
        let elapsed = now.saturating_sub(window);
        // Who moves the window closes it, so each is closed once.
        if elapsed >= nanos(WINDOW) && self.window.compare_exchange(window, now, Relaxed, Relaxed).is_ok() {
            let completed = self.completed();
            let counted = completed.saturating_sub(self.before.fetch_max(completed, Relaxed));
            self.rate.observe_at(ended, per_second(counted, elapsed));
        }
    }

    pub(super) fn completed(&self) -> u64 {
        self.cells.all().map(|cells| cells.completed.load(Relaxed)).sum()
    }

    /// Completions per second, as of then or of the latest completion, whichever is later; 0 before the first.
    pub(super) fn per_second(&self, at: Option<Instant>) -> f64 {
        let Some(began) = self.began.get() else { return 0.0 };
        let at = at.map_or(0, |at| nanos(at.saturating_duration_since(*began)));
        let latest = self.cells.all().map(|cells| cells.latest.load(Relaxed)).max();
        let now = at.max(latest.unwrap_or(0));
        let open = now.saturating_sub(self.window.load(Relaxed));
        let counted = self.completed().saturating_sub(self.before.load(Relaxed));
        let rate = match open {
            0 => self.rate.value(),
            open => self.rate.value_with(*began + Duration::from_nanos(now), per_second(counted, open)),
        };
        // The part of all weights that lies after the beginning; the rest was given to the nothing before it.
        match 1.0 - decay(now, HALF_LIFE) {
            0.0 => 0.0,
            part => rate / part,
        }
    }
}

fn per_second(count: u64, nanos: u64) -> f64 {
    count as f64 * 1e9 / nanos as f64
}

#[cfg(test)]
mod tests {
    use super::{super::on_four_threads, *};

    const SECOND: Duration = Duration::from_secs(1);

    fn is_near(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 1e-6 * expected, "{got}, not {expected}");
    }

    /// So many per second, evenly, for so long, from `start` on.
    fn run(throughput: &Throughput, start: Instant, rate: u32, time: Duration) {
        let each = SECOND / rate;
        (1..=(time.as_secs_f64() * f64::from(rate)) as u32).for_each(|n| throughput.record(start + each * n, each));
    }

    #[test]
    fn a_steady_rate_is_that_rate_from_the_first_on() {
        for (rate, time) in [(2, SECOND / 2), (2, SECOND * 100), (1000, SECOND / 1000), (1000, SECOND * 7)] {
            let throughput = Throughput::new();
            run(&throughput, Instant::now() + SECOND, rate, time);
            is_near(throughput.per_second(None), rate.into());
        }
    }

    #[test]
    fn nothing_has_no_rate() {
        let (throughput, now) = (Throughput::new(), Instant::now());
        assert_eq!((throughput.per_second(None), throughput.per_second(Some(now))), (0.0, 0.0));
        throughput.record(now, Duration::ZERO);
        assert_eq!((throughput.per_second(None), throughput.completed()), (0.0, 1));
    }

    #[test]
    fn those_that_end_together_all_count() {
        let (throughput, start) = (Throughput::new(), Instant::now() + SECOND);
        (0..8).for_each(|n| throughput.record(start + Duration::from_micros(n), SECOND));
        // A little more than 8: the first is spread over the second, the others came at its end and weigh more.
        assert!((8.0..=8.3).contains(&throughput.per_second(None)), "{}", throughput.per_second(None));
    }

    #[test]
    fn it_follows_a_change_and_falls_when_idle() {
        let (throughput, start) = (Throughput::new(), Instant::now());
        run(&throughput, start, 10, SECOND * 1000);
        run(&throughput, start + SECOND * 1000, 30, HALF_LIFE);
        let changed = throughput.per_second(None);
        assert!((19.9..20.1).contains(&changed), "half of the way from 10 to 30: {changed}");
        let idle = throughput.per_second(Some(start + SECOND * 1000 + HALF_LIFE * 3));
        assert!((idle / (changed / 4.0) - 1.0).abs() < 0.01, "two half-lives later: {idle}");
    }

    #[test]
    fn an_earlier_time_is_that_of_the_latest_completion() {
        let (throughput, start) = (Throughput::new(), Instant::now());
        run(&throughput, start, 10, SECOND);
        assert_eq!(throughput.per_second(Some(start)), throughput.per_second(None));
    }

    #[test]
    fn no_completion_of_any_thread_is_lost() {
        let (throughput, start) = (Throughput::new(), Instant::now());
        on_four_threads(|_| run(&throughput, start, 1000, SECOND * 50));
        assert_eq!(throughput.completed(), 200_000);
    }
}
