//! The pool against a naive model of itself, its fairness, and its behaviour when tasks are aborted.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use apple_silicon::ane::{
    errors::{ANEError, Result},
    resource_pool::{Admission, Admit, Pool, PoolStatistics, Reservation, Reserve},
};
use proptest::prelude::*;

/// One step of a random program. Indices count modulo what there is; sizes are in tenths of the pool.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(Kind, usize),
    Try(Kind, usize),
    Poll(usize),
    Grow(usize, usize),
    Shrink(usize, usize),
    /// A request, waiting or not, or what was granted.
    Drop(usize),
    Expire(usize),
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Admission,
    Reservation,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop_oneof![3 => Just(Kind::Admission), 1 => Just(Kind::Reservation)];
    let (index, size) = (any::<usize>, || 0..=11usize);
    prop_oneof![
        60 => (kind(), size()).prop_map(|(kind, size)| Step::Ask(kind, size)),
        20 => (kind(), size()).prop_map(|(kind, size)| Step::Try(kind, size)),
        100 => index().prop_map(Step::Poll),
        20 => (index(), size()).prop_map(|(index, size)| Step::Grow(index, size)),
        20 => (index(), size()).prop_map(|(index, size)| Step::Shrink(index, size)),
        60 => index().prop_map(Step::Drop),
        10 => index().prop_map(Step::Expire),
        1 => Just(Step::Close),
    ]
}

/// What a program holds of the pool.
enum Real {
    Admit(Admit),
    Reserve(Reserve),
    Admission(Admission),
    Reservation(#[allow(dead_code, reason = "held")] Reservation),
}

/// The same in the model.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Unpolled,
    Waiting,
    Granted,
    Refused,
    Held,
}

struct Thing {
    id: usize,
    kind: Kind,
    bytes: usize,
    fate: Fate,
    real: Real,
    woken: Arc<CountingWaker>,
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A pool and a model of it, in which everything is a sum over all there is.
struct Machine {
    pool: Pool,
    /// A tenth of the pool.
    tenth: usize,
    unit: usize,
    closed: bool,
    next_id: usize,
    things: Vec<Thing>,
    queue: VecDeque<usize>,
    expected: PoolStatistics,
}

impl Machine {
    fn new(slots: usize, tenth: usize) -> Machine {
        let total = tenth * 10;
        let mut unit = 1;
        while total / unit >= 1 << 32 {
            unit *= 2;
        }
        let mut expected = PoolStatistics::default();
        (expected.slots, expected.bytes) = (slots, total / unit * unit);
        let pool = Pool::with_bytes(slots, total);
        Machine { pool, tenth, unit, closed: false, next_id: 0, things: vec![], queue: VecDeque::new(), expected }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Ask(kind, tenths) => self.ask(kind, self.tenth * tenths),
            Step::Try(kind, tenths) => self.try_now(kind, self.tenth * tenths),
            Step::Poll(index) => self.poll(index),
            Step::Grow(index, tenths) => self.grow(index, self.tenth * tenths),
            Step::Shrink(index, tenths) => self.shrink(index, self.tenth * tenths),
            Step::Drop(index) => self.drop(index),
            Step::Expire(index) => self.expire(index),
            Step::Close => self.close(),
        }
        self.compare();
    }

    fn ask(&mut self, kind: Kind, bytes: usize) {
        let real = match kind {
            Kind::Admission => Real::Admit(self.pool.admit_bytes(bytes)),
            Kind::Reservation => Real::Reserve(self.pool.reserve_bytes(bytes)),
        };
        self.push(kind, bytes, Fate::Unpolled, real);
    }

    fn try_now(&mut self, kind: Kind, bytes: usize) {
        let real = match kind {
            Kind::Admission => self.pool.try_admit_bytes(bytes).map(Real::Admission),
            Kind::Reservation => self.pool.try_reserve_bytes(bytes).map(Real::Reservation),
        };
        let allowed = self.allows(kind, bytes) && self.may_go(kind, bytes) && self.fits(kind, bytes);
        assert_eq!(real.is_ok(), allowed);
        match real {
            Ok(real) => {
                self.count(kind);
                self.push(kind, bytes, Fate::Held, real);
            }
            Err(error) => {
                assert!(matches!(error, ANEError::ResourceLimit(_)));
                if self.allows(kind, bytes) {
                    self.expected.rejected_busy += 1;
                } else {
                    self.count_refusal();
                }
            }
        }
    }

    fn poll(&mut self, index: usize) {
        let Some(place) = self.pick(index, |thing| thing.fate != Fate::Held) else { return };
        let Thing { id, kind, bytes, fate, .. } = self.things[place];
        let now = match fate {
            Fate::Unpolled if !self.allows(kind, bytes) => Fate::Refused,
            Fate::Unpolled if self.may_go(kind, bytes) && self.fits(kind, bytes) => Fate::Granted,
            Fate::Unpolled => {
                self.queue.push_back(id);
                Fate::Waiting
            }
            fate => fate,
        };
        let thing = &mut self.things[place];
        thing.fate = now;
        thing.woken = Arc::default();
        let task = Waker::from(thing.woken.clone());
        let mut context = Context::from_waker(&task);
        let answer = match &mut thing.real {
            Real::Admit(admit) => Pin::new(admit).poll(&mut context).map_ok(Real::Admission),
            Real::Reserve(reserve) => Pin::new(reserve).poll(&mut context).map_ok(Real::Reservation),
            Real::Admission(_) | Real::Reservation(_) => unreachable!("only requests are picked"),
        };
        match (now, answer) {
            (Fate::Waiting, Poll::Pending) => {}
            (Fate::Granted, Poll::Ready(Ok(real))) => {
                (thing.real, thing.fate) = (real, Fate::Held);
                self.expected.waits += u64::from(fate == Fate::Granted);
                self.count(kind);
            }
            (Fate::Refused, Poll::Ready(Err(ANEError::ResourceLimit(_)))) => {
                self.things.remove(place);
                match fate {
                    Fate::Refused => self.expected.rejected_closed += 1,
                    _ => self.count_refusal(),
                }
            }
            (now, answer) => panic!("{now:?}, but the answer is {:?}", answer.map(|answer| answer.map(|_| ()))),
        }
    }

    fn grow(&mut self, index: usize, extra: usize) {
        let Some(place) = self.pick(index, |thing| matches!(thing.real, Real::Admission(_))) else { return };
        let bytes = self.things[place].bytes;
        let missing = self.round(bytes + extra) - self.round(bytes);
        let fits = missing <= self.expected.bytes - self.lent(|_| true);
        let thing = &mut self.things[place];
        let Real::Admission(admission) = &mut thing.real else { return };
        assert_eq!(admission.try_grow(extra), fits);
        thing.bytes += if fits { extra } else { 0 };
        assert_eq!(admission.bytes(), thing.bytes);
    }

    fn shrink(&mut self, index: usize, bytes: usize) {
        let Some(place) = self.pick(index, |thing| matches!(thing.real, Real::Admission(_))) else { return };
        let thing = &mut self.things[place];
        let Real::Admission(admission) = &mut thing.real else { return };
        admission.shrink_to(bytes);
        thing.bytes = thing.bytes.min(bytes);
        assert_eq!(admission.bytes(), thing.bytes);
        self.hand_on();
    }

    fn drop(&mut self, index: usize) {
        let Some(place) = self.pick(index, |_| true) else { return };
        let Thing { id, fate, .. } = self.things.remove(place);
        let answered = matches!(fate, Fate::Unpolled | Fate::Held);
        self.expected.cancelled += u64::from(!answered);
        self.queue.retain(|waiting| *waiting != id);
        self.hand_on();
    }

    fn expire(&mut self, index: usize) {
        let Some(place) = self.pick(index, |thing| thing.fate != Fate::Held) else { return };
        let Thing { id, real, .. } = self.things.remove(place);
        match real {
            Real::Admit(admit) => admit.expire(),
            Real::Reserve(reserve) => reserve.expire(),
            Real::Admission(_) | Real::Reservation(_) => unreachable!("only requests are picked"),
        }
        self.expected.rejected_timed_out += 1;
        self.queue.retain(|waiting| *waiting != id);
        self.hand_on();
    }

    fn close(&mut self) {
        self.pool.close();
        self.closed = true;
        for id in self.queue.drain(..) {
            self.things.iter_mut().filter(|thing| thing.id == id).for_each(|thing| thing.fate = Fate::Refused);
        }
    }

    /// Whether nobody who waits is delayed.
    fn may_go(&self, kind: Kind, bytes: usize) -> bool {
        let waiting = self.things.iter().filter(|thing| self.queue.contains(&thing.id));
        let wanted: usize = waiting.map(|thing| self.round(thing.bytes)).sum();
        let free = self.expected.bytes - self.lent(|_| true);
        self.queue.is_empty() || (kind == Kind::Reservation && self.round(bytes) + wanted <= free)
    }

    /// Plain first come first served.
    fn hand_on(&mut self) {
        while let Some(id) = self.queue.front() {
            let Some(place) = self.things.iter().position(|thing| thing.id == *id) else { panic!("{id} is gone") };
            if !self.fits(self.things[place].kind, self.things[place].bytes) {
                return;
            }
            self.things[place].fate = Fate::Granted;
            self.queue.pop_front();
        }
    }

    /// The pool agrees with the model, and exactly those that were answered have been woken, once.
    fn compare(&mut self) {
        self.expected.slots_in_use = self.lent_slots();
        self.expected.bytes_in_use = self.lent(|_| true);
        self.expected.slots_peak = self.expected.slots_peak.max(self.expected.slots_in_use);
        self.expected.bytes_peak = self.expected.bytes_peak.max(self.expected.bytes_in_use);
        self.expected.bytes_reserved = self.lent(|thing| thing.kind == Kind::Reservation && thing.fate == Fate::Held);
        self.expected.waiting = self.queue.len();
        assert_eq!(self.pool.statistics(), self.expected);
        assert_eq!(self.pool.is_closed(), self.closed);
        for thing in &self.things {
            let answered = matches!(thing.fate, Fate::Granted | Fate::Refused);
            assert_eq!(thing.woken.0.load(Ordering::Relaxed), usize::from(answered), "{}", thing.id);
        }
    }

    fn push(&mut self, kind: Kind, bytes: usize, fate: Fate, real: Real) {
        self.next_id += 1;
        self.things.push(Thing { id: self.next_id, kind, bytes, fate, real, woken: Arc::default() });
    }

    fn pick(&self, index: usize, of: impl Fn(&Thing) -> bool) -> Option<usize> {
        let places: Vec<usize> = (0..self.things.len()).filter(|place| of(&self.things[*place])).collect();
        (!places.is_empty()).then(|| places[index % places.len()])
    }

    fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Admission => self.expected.admissions += 1,
            Kind::Reservation => self.expected.reservations += 1,
        }
    }

    fn count_refusal(&mut self) {
        match self.closed {
            true => self.expected.rejected_closed += 1,
            false => self.expected.rejected_never_fits += 1,
        }
    }

    fn allows(&self, kind: Kind, bytes: usize) -> bool {
        let slots = usize::from(kind == Kind::Admission);
        !self.closed && slots <= self.expected.slots && self.round(bytes) <= self.expected.bytes
    }

    fn fits(&self, kind: Kind, bytes: usize) -> bool {
        let slots = usize::from(kind == Kind::Admission);
        self.lent_slots() + slots <= self.expected.slots
            && self.lent(|_| true) + self.round(bytes) <= self.expected.bytes
    }

    fn lent_slots(&self) -> usize {
        self.holders().filter(|thing| thing.kind == Kind::Admission).count()
    }

    fn lent(&self, of: impl Fn(&Thing) -> bool) -> usize {
        self.holders().filter(|thing| of(thing)).map(|thing| self.round(thing.bytes)).sum()
    }

    fn holders(&self) -> impl Iterator<Item = &Thing> {
        self.things.iter().filter(|thing| matches!(thing.fate, Fate::Granted | Fate::Held))
    }

    fn round(&self, bytes: usize) -> usize {
        bytes.next_multiple_of(self.unit)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The large pool counts in units of 8 bytes, of which the odd tenth is no multiple.
    #[test]
    fn the_pool_does_what_the_model_does(
        slots in 0..=4usize,
        tenth in prop_oneof![Just(0), Just(1), Just(3_000_000_007)],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut machine = Machine::new(slots, tenth);
        for step in steps {
            machine.run(step);
        }
        while !machine.things.is_empty() {
            machine.run(Step::Drop(0));
        }
        let end = machine.pool.statistics();
        prop_assert_eq!((end.slots_in_use, end.bytes_in_use, end.bytes_reserved, end.waiting), (0, 0, 0, 0));
    }
}

/// Each is granted in its turn by the one before it, though a hundred wait and each fifth gives up.
#[test]
fn a_hundred_waiters_are_served_in_order() {
    let pool = Pool::with_bytes(1, 1000);
    let held = pool.try_admit_bytes(1).unwrap();
    let turns: Arc<Mutex<Vec<usize>>> = Arc::default();
    let mut waiters: Vec<Option<Admit>> = (0..100).map(|number| Some(pool.admit_bytes(number * 10))).collect();
    for (number, waiter) in waiters.iter_mut().enumerate() {
        assert!(poll(waiter.as_mut().unwrap(), &told(&turns, number)).is_pending());
    }
    (0..100).step_by(5).for_each(|number| drop(waiters[number].take()));
    drop(held);
    for expected in (0..100).filter(|number| number % 5 != 0) {
        let told = turns.lock().unwrap().pop();
        assert_eq!(told, Some(expected));
        assert!(turns.lock().unwrap().is_empty(), "one at a time");
        let mut admit = waiters[expected].take().unwrap();
        assert!(matches!(poll(&mut admit, Waker::noop()), Poll::Ready(Ok(_))));
    }
}

/// Small ones come and go without end. The large one gets its turn when those that were admitted before it are gone.
#[test]
fn a_stream_of_small_ones_does_not_starve_a_large_one() {
    let pool = Pool::with_bytes(4, 100);
    let mut running: VecDeque<Admission> = (0..4).map(|_| pool.try_admit_bytes(10).unwrap()).collect();
    let mut small: VecDeque<Admit> = VecDeque::new();
    let mut large = pool.admit_bytes(100);
    assert!(poll(&mut large, Waker::noop()).is_pending());
    let mut ended = 0;
    let large = loop {
        if let Poll::Ready(large) = poll(&mut large, Waker::noop()) {
            break large.unwrap();
        }
        small.push_back(pool.admit_bytes(10));
        for small in &mut small {
            assert!(poll(small, Waker::noop()).is_pending(), "none may pass");
        }
        assert!(pool.try_admit_bytes(0).is_err());
        drop(running.pop_front());
        ended += 1;
    };
    assert_eq!(ended, 4);
    drop(large);
    let admitted = small.iter_mut().filter_map(|small| match poll(small, Waker::noop()) {
        Poll::Ready(admission) => Some(admission.unwrap()),
        Poll::Pending => None,
    });
    assert_eq!(admitted.collect::<Vec<_>>().len(), 4);
}

#[test]
fn a_waiter_is_woken_through_its_latest_task() {
    let pool = Pool::new(1, 1);
    let held = pool.try_admit(1).unwrap();
    let turns: Arc<Mutex<Vec<usize>>> = Arc::default();
    let mut admit = pool.admit(1);
    for task in [1, 2] {
        assert!(poll(&mut admit, &told(&turns, task)).is_pending());
    }
    drop(held);
    assert_eq!(*turns.lock().unwrap(), [2]);
}

/// More than the count in the pool's word can hold.
#[test]
fn admissions_are_counted_without_loss() {
    let pool = Pool::new(1, 1);
    (0..100_000).for_each(|_| drop(pool.try_admit(1).unwrap()));
    assert_eq!(pool.statistics().admissions, 100_000);
}

#[test]
fn refusals_say_what_to_do() {
    fn check(result: Result<Admission>, message: &str) {
        assert_eq!(result.unwrap_err(), ANEError::ResourceLimit(message.to_owned()));
    }
    let pool = Pool::new(2, 16);
    check(
        pool.try_admit(17),
        "a run asked for 17 MB, but the pool has 2 slots and 16 MB in all; give the pool more, or ask for less",
    );
    check(
        pool.try_admit(usize::MAX),
        &format!(
            "a run asked for {} bytes, but the pool has 2 slots and 16 MB in all; give the pool more, or ask for less",
            usize::MAX
        ),
    );
    let _held = pool.try_admit(12).unwrap();
    check(
        pool.try_admit(5),
        "a run asked for 5 MB, but 1 of 2 slots and 4 MB of 16 MB are free and 0 requests wait; wait for it, or try \
         again later",
    );
    pool.close();
    check(pool.try_admit(1), "a run asked for 1 MB of a pool that is closed; make a new pool");
    check(
        Pool::new(0, 16).try_admit(1),
        "a run asked for 1 MB, but the pool has 0 slots and 16 MB in all; give the pool more, or ask for less",
    );
}

#[test]
fn what_can_never_fit_does_not_wait() {
    for (pool, mb) in [(Pool::new(1, 16), 17), (Pool::new(0, 16), 1), (Pool::new(1, 0), 1)] {
        let _held = pool.try_admit(0);
        assert!(matches!(poll(&mut pool.admit(mb), Waker::noop()), Poll::Ready(Err(ANEError::ResourceLimit(_)))));
        assert_eq!(pool.statistics().rejected_never_fits, 1 + u64::from(_held.is_err()));
    }
}

#[test]
fn a_pool_without_limit_admits_as_many_as_it_has_slots() {
    let pool = Pool::with_bytes(usize::MAX, usize::MAX);
    let all: Vec<Admission> = (0..65_535).map(|_| pool.try_admit_bytes(1 << 40).unwrap()).collect();
    assert!(pool.try_admit_bytes(0).is_err());
    drop(all);
    assert_eq!(pool.statistics().bytes_in_use, 0);
}

#[test]
fn debug_output_shows_what_is_free() {
    let pool = Pool::with_bytes(2, 100);
    let admission = pool.try_admit_bytes(30).unwrap();
    assert_eq!(format!("{pool:?}"), "Pool { slots: 2, slots_free: 1, bytes: 100, bytes_free: 70, .. }");
    assert_eq!(format!("{admission:?}"), "Admission { bytes: 30, .. }");
    assert_eq!(format!("{:?}", pool.admit_bytes(5)), "Admit { bytes: 5, waits: false, .. }");
}

#[test]
fn polling_after_the_answer_is_an_error() {
    let pool = Pool::new(1, 1);
    let mut admit = pool.admit(1);
    assert!(matches!(poll(&mut admit, Waker::noop()), Poll::Ready(Ok(_))));
    assert!(matches!(poll(&mut admit, Waker::noop()), Poll::Ready(Err(ANEError::Internal(_)))));
}

/// Tasks that wait, hold, grow and give up are aborted wherever they are. Nothing is lost, and never is more lent than
/// there is.
#[test]
fn aborted_tasks_lose_nothing() {
    const SLOTS: usize = 4;
    const BYTES: usize = 1000;
    const TASKS: usize = 2000;

    async fn task(pool: Pool, running: Arc<[AtomicUsize; 2]>, mut random: Random) {
        for _ in 0..4 {
            let bytes = random.below(BYTES / 2);
            let mut admission = match random.below(8) {
                0 => match pool.try_admit_bytes(bytes) {
                    Ok(admission) => admission,
                    Err(_) => continue,
                },
                1 => {
                    drop(pool.reserve_bytes(bytes).await.unwrap());
                    continue;
                }
                2 => tokio::select! {
                    biased;
                    admission = pool.admit_bytes(bytes) => admission.unwrap(),
                    () = tokio::task::yield_now() => continue,
                },
                _ => pool.admit_bytes(bytes).await.unwrap(),
            };
            admission.try_grow(random.below(100));
            admission.shrink_to(bytes);
            let running = Running::new(&running, admission.bytes());
            for _ in 0..random.below(3) {
                tokio::task::yield_now().await;
            }
            drop(running);
            drop(admission);
        }
    }

    /// What runs by the tasks' own account.
    struct Running<'a>(&'a [AtomicUsize; 2], usize);

    impl<'a> Running<'a> {
        fn new(sums: &'a [AtomicUsize; 2], bytes: usize) -> Running<'a> {
            assert!(sums[0].fetch_add(1, Ordering::Relaxed) < SLOTS);
            assert!(sums[1].fetch_add(bytes, Ordering::Relaxed) + bytes <= BYTES);
            Running(sums, bytes)
        }
    }

    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0[0].fetch_sub(1, Ordering::Relaxed);
            self.0[1].fetch_sub(self.1, Ordering::Relaxed);
        }
    }

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let pool = Pool::with_bytes(SLOTS, BYTES);
    runtime.block_on(async {
        let mut random = Random(1);
        let running: Arc<[AtomicUsize; 2]> = Arc::default();
        let mut tasks = VecDeque::new();
        for number in 0..TASKS {
            tasks.push_back(tokio::spawn(task(pool.clone(), running.clone(), Random(number as u64 + 2))));
            if random.below(3) == 0 {
                tasks[random.below(tasks.len())].abort();
            }
            if tasks.len() > 40 {
                let ended = tasks.pop_front().unwrap().await;
                assert!(ended.map_or_else(|error| error.is_cancelled(), |()| true), "a task panicked");
            }
        }
        for task in tasks {
            let ended = task.await;
            assert!(ended.map_or_else(|error| error.is_cancelled(), |()| true), "a task panicked");
        }
    });
    drop(runtime);
    let end = pool.statistics();
    assert_eq!((end.slots_in_use, end.bytes_in_use, end.bytes_reserved, end.waiting), (0, 0, 0, 0), "{end:?}");
    assert!(end.waits > 0 && end.cancelled > 0, "the tasks were in each other's way: {end:?}");
    assert!(end.slots_peak <= SLOTS && end.bytes_peak <= BYTES);
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

fn poll(admit: &mut Admit, task: &Waker) -> Poll<Result<Admission>> {
    Pin::new(admit).poll(&mut Context::from_waker(task))
}

/// A task that writes its number down when it is woken.
fn told(turns: &Arc<Mutex<Vec<usize>>>, number: usize) -> Waker {
    struct Told(Arc<Mutex<Vec<usize>>>, usize);
    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().push(self.1);
        }
    }
    Waker::from(Arc::new(Told(turns.clone(), number)))
}
