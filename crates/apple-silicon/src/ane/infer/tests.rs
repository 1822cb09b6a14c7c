//! Lanes on an engine that does what it is told.

use std::{
    fs,
    pin::{Pin, pin},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use coreml_format::Model;
use coreml_onnx::LowerOptions;

use super::{
    Batching, InferenceOptions,
    execute::Call,
    lane::{Lane, Scratch, Trackers},
    warm::warm_up_together,
    workers::Workers,
};
use crate::ane::{
    blocking::wait,
    engines::{Data, Tensor, fake::Fake},
    errors::{ANEError, Result},
    features::{Array, Features},
    metrics::{ErrorKind, Observation, Outcome, PerformanceTracker},
    models::coreml_model::CoreMlModel,
    resource_pool::Pool,
};

#[path = "../../../tests/support/network.rs"]
#[allow(dead_code, unreachable_pub, reason = "these tests use their part")]
mod network;

/// What runs wait for.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    inside: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Waits until so many runs are at the gate.
    fn wait_for(&self, runs: usize) {
        until("runs at the gate", || self.inside.load(Ordering::SeqCst) >= runs);
    }
}

/// Waits until it is so.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        thread::yield_now();
    }
}

/// An engine whose runs wait at a gate where the first number of their input is one of these, or for any where there is
/// none.
fn gated(stops: &'static [f32]) -> (Arc<Gate>, Fake) {
    gated_with(stops, echo)
}

/// The same, with an answer of its own.
fn gated_with(
    stops: &'static [f32],
    answer: impl Fn(&[Tensor<'_>]) -> Result<Vec<Tensor<'static>>> + Send + Sync + 'static,
) -> (Arc<Gate>, Fake) {
    let gate = Arc::new(Gate::default());
    let passed = gate.clone();
    let fake = Fake::new(move |inputs| {
        if stops.is_empty() || stops.contains(&floats(&inputs[0])[0]) {
            passed.pass();
        }
        answer(inputs)
    });
    (gate, fake)
}

/// Gives what it takes.
fn echo(inputs: &[Tensor<'_>]) -> Result<Vec<Tensor<'static>>> {
    Ok(vec![inputs[0].borrowed().into_owned()])
}

fn floats<'a>(tensor: &'a Tensor<'_>) -> &'a [f32] {
    let Data::F32(values) = &tensor.data else { panic!("{tensor:?} is not fp32") };
    values
}

/// The first number of each row of each run.
fn rows(fake: &Fake) -> Vec<Vec<f32>> {
    fake.seen().iter().map(|inputs| floats(&inputs[0]).chunks(4).map(|row| row[0]).collect()).collect()
}

/// Takes rows of 4 numbers, as many as there are up to 64.
fn model(fake: &Fake) -> Arc<CoreMlModel> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.mlmodel");
    fs::write(&path, network::flexible_network(&[1, 4], 64, &[network::relu(0)])).unwrap();
    let model = Model::open(&path).unwrap();
    let lowered = coreml_onnx::lower(&model, &LowerOptions::default()).unwrap();
    Arc::new(CoreMlModel::on_fake(fake, lowered, model.schema, &path))
}

/// A lane of that model, and what it runs in.
struct Rig {
    lane: Arc<Lane>,
    pool: Pool,
    workers: Arc<Workers>,
}

impl Rig {
    fn new(fake: &Fake, slots: usize, batching: Batching) -> Rig {
        Rig::within(fake, slots, batching, 64 << 20)
    }

    fn within(fake: &Fake, slots: usize, batching: Batching, bytes: usize) -> Rig {
        let (pool, workers) = (Pool::with_bytes(slots, bytes), Arc::new(Workers::new(slots)));
        let lane = lane(fake, &pool, &workers, slots, batching, Trackers::default());
        Rig { lane, pool, workers }
    }

    fn call<'a>(&'a self, options: &InferenceOptions) -> Call<'a> {
        Call::new(&self.lane, options, Duration::from_secs(60)).unwrap()
    }

    fn run(&self, input: &[f32], options: &InferenceOptions) -> Result<Vec<f32>> {
        run(&self.lane, input, options)
    }

    /// Waits until everything is given back.
    fn quiet(&self) {
        until("everything is given back", || {
            let pool = self.pool.statistics();
            pool.slots_in_use == 0 && pool.bytes_in_use == 0 && pool.waiting == 0 && self.workers.late() == 0
        });
    }
}

fn lane(
    fake: &Fake,
    pool: &Pool,
    workers: &Arc<Workers>,
    slots: usize,
    batching: Batching,
    trackers: Trackers,
) -> Arc<Lane> {
    Lane::new(model(fake), pool.clone(), workers.clone(), batching, slots, trackers, Default::default())
}

fn run(lane: &Arc<Lane>, input: &[f32], options: &InferenceOptions) -> Result<Vec<f32>> {
    wait(async { Call::new(lane, options, Duration::from_secs(60))?.vector(input).await.map(|result| result.output) })
}

/// What a run on one row takes of the pool.
fn unit() -> usize {
    model(&Fake::new(echo)).working_set_bytes(1)
}

const EIGHT: Batching = Batching { max_batch: 8, max_queue_delay: Duration::ZERO };

fn within(timeout_ms: u64) -> InferenceOptions {
    InferenceOptions { timeout_ms, ..InferenceOptions::default() }
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Begins it, and sees that it waits.
fn begin<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(poll_once(future.as_mut()).is_pending());
    future
}

#[test]
fn what_waits_for_the_only_slot_is_one_batch_and_comes_in_order() {
    let (gate, fake) = gated(&[]);
    let rig = Rig::new(&fake, 1, EIGHT);
    let call = rig.call(&InferenceOptions::default());
    let inputs: Vec<[f32; 4]> = (0..7).map(|n| [n as f32; 4]).collect();
    let first = begin(call.vector(&inputs[0]));
    gate.wait_for(1);
    let others: Vec<_> = inputs[1..].iter().map(|input| begin(call.vector(input))).collect();
    assert_eq!((rig.lane.waiting(), rig.pool.statistics().slots_in_use), (6, 1));
    gate.open();
    for (call, input) in [first].into_iter().chain(others).zip(&inputs) {
        assert_eq!(wait(call).unwrap().output, input);
    }
    assert_eq!(rows(&fake), [vec![0.0], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]);
    rig.quiet();
}

#[test]
fn a_failed_batch_is_tried_again_one_by_one() {
    let check = |three: fn() -> Result<Vec<Tensor<'static>>>, expected: fn(&ANEError) -> bool| {
        let (gate, fake) =
            gated_with(&[], move |inputs| if floats(&inputs[0]).contains(&3.0) { three() } else { echo(inputs) });
        let rig = Rig::new(&fake, 1, EIGHT);
        let call = rig.call(&InferenceOptions::default());
        let inputs: Vec<[f32; 4]> = (0..6).map(|n| [n as f32; 4]).collect();
        let first = begin(call.vector(&inputs[0]));
        gate.wait_for(1);
        let others: Vec<_> = inputs[1..].iter().map(|input| begin(call.vector(input))).collect();
        gate.open();
        for (n, call) in [first].into_iter().chain(others).enumerate() {
            match wait(call) {
                Err(error) => assert!(n == 3 && expected(&error), "{n}: {error}"),
                Ok(result) => assert!(n != 3 && result.output == inputs[n], "{n}: {result:?}"),
            }
        }
        rig.quiet();
    };
    check(
        || Err(ANEError::InferenceFailed("three".to_owned())),
        |error| matches!(error, ANEError::InferenceFailed(why) if why.ends_with("rows.mlmodel: three")),
    );
    check(|| panic!("as it should"), |error| matches!(error, ANEError::Internal(_)));
}

/// Two requests that one run takes and that cannot be joined, since the model takes 64 rows at most: 40 rows of 1, and
/// 40 rows of 2.
fn in_turns(
    stops: &'static [f32],
    check: impl FnOnce(&Rig, &Gate, &Fake, [Pin<Box<dyn Future<Output = Vec<f32>> + '_>>; 2]),
) {
    let (gate, fake) = gated(stops);
    let rig = Rig::new(&fake, 1, Batching { max_batch: 80, max_queue_delay: Duration::ZERO });
    let call = rig.call(&InferenceOptions::default());
    let held = rig.pool.try_admit_bytes(0).unwrap();
    let one_after_the_other = [[1.0; 160], [2.0; 160]];
    let calls = one_after_the_other.each_ref().map(|input| {
        let call = &call;
        let mut future: Pin<Box<dyn Future<Output = Vec<f32>> + '_>> =
            Box::pin(async move { call.vector(input).await.unwrap().output });
        assert!(poll_once(future.as_mut()).is_pending());
        future
    });
    drop(held);
    gate.wait_for(1);
    assert_eq!(rig.lane.waiting(), 0, "both were taken");
    check(&rig, &gate, &fake, calls);
    rig.quiet();
}

#[test]
fn what_cannot_be_joined_is_answered_each_when_it_is_done() {
    in_turns(&[2.0], |rig, gate, _, [mut one, two]| {
        assert_eq!(poll_once(one.as_mut()), Poll::Ready(vec![1.0; 160]), "the second one runs");
        assert_eq!((rig.pool.statistics().slots_in_use, rig.workers.late()), (1, 0));
        gate.open();
        assert_eq!(wait(two), [2.0; 160]);
    });
}

#[test]
fn who_has_its_answer_does_not_wait_for_the_next_turn() {
    in_turns(&[2.0], |rig, gate, _, [_one, two]| {
        drop(two);
        assert_eq!(rig.workers.late(), 1, "nobody waits for the run that goes on");
        gate.open();
    });
}

#[test]
fn who_goes_away_before_its_turn_has_none() {
    in_turns(&[1.0], |rig, gate, fake, [one, two]| {
        drop(two);
        assert_eq!(rig.workers.late(), 0, "the run is the other's");
        gate.open();
        assert_eq!(wait(one), [1.0; 160]);
        rig.quiet();
        assert_eq!(rows(fake), [[1.0; 40]]);
    });
    in_turns(&[1.0], |rig, gate, _, [one, two]| {
        drop(one);
        assert_eq!(rig.workers.late(), 1, "who has its turn later does not wait for this one");
        gate.open();
        assert_eq!(wait(two), [2.0; 160]);
    });
}

#[test]
fn the_parts_of_an_input_let_others_in_between() {
    let (gate, fake) = gated(&[]);
    let rig = Rig::new(&fake, 1, Batching::OFF);
    let input: Vec<f32> = (0..80).map(|n| (n / 4) as f32).collect();
    let parts = rig.call(&InferenceOptions { batch_size: Some(1), ..InferenceOptions::default() });
    let whole = rig.call(&InferenceOptions::default());
    let features = Features::from_iter([("x0", Array::new([20, 4], input.clone()).unwrap())]);
    let vector = begin(parts.vector(&input));
    gate.wait_for(1);
    let typed = begin(parts.features(features, None));
    let other = begin(whole.vector(&[99.0; 4]));
    assert_eq!(rig.lane.waiting(), 1 + 2 + 1, "two of each are on their way");
    gate.open();
    assert_eq!(wait(other).unwrap().output, [99.0; 4]);
    assert_eq!(rows(&fake), [[0.0], [1.0], [0.0], [1.0], [99.0]]);
    assert_eq!(wait(vector).unwrap().output, input);
    let typed = wait(typed).unwrap();
    let (_, output) = typed.output.iter().next().unwrap();
    assert_eq!((output.as_array().unwrap().to_f32s().to_vec(), typed.samples), (input, 20));
    rig.quiet();
}

#[test]
fn a_run_that_cannot_be_stopped_keeps_its_share_until_it_ends() {
    let (gate, fake) = gated(&[]);
    let rig = Rig::new(&fake, 1, Batching::OFF);
    assert_eq!(rig.run(&[1.0; 4], &within(1000)), Err(ANEError::Timeout(1000)));
    // It still runs, so the next one only waits for the slot, until its own deadline.
    gate.wait_for(1);
    assert_eq!(rig.run(&[2.0; 4], &within(10)), Err(ANEError::Timeout(10)));
    assert_eq!(rig.pool.statistics().slots_in_use, 1);
    assert_eq!(rig.lane.waiting(), 0, "who gives up leaves the queue");
    gate.open();
    rig.quiet();
    assert_eq!(rig.run(&[3.0; 4], &InferenceOptions::default()), Ok(vec![3.0; 4]));
    assert_eq!(rows(&fake), [[1.0], [3.0]], "what gave up while it waited never ran");
}

#[test]
fn a_panic_of_an_engine_is_an_error_and_the_thread_goes_on() {
    let fake = Fake::new(|inputs| if floats(&inputs[0])[0] == 0.0 { panic!("as it should") } else { echo(inputs) });
    let rig = Rig::new(&fake, 1, EIGHT);
    let lost = rig.run(&[0.0; 4], &InferenceOptions::default());
    assert!(matches!(lost, Err(ANEError::Internal(_))), "{lost:?}");
    assert_eq!(rig.run(&[1.0; 4], &InferenceOptions::default()), Ok(vec![1.0; 4]));
    rig.quiet();
}

#[test]
fn a_full_batch_does_not_wait_for_others() {
    let fake = Fake::new(echo);
    let rig = Rig::new(&fake, 1, Batching { max_batch: 4, max_queue_delay: Duration::from_secs(3600) });
    let call = rig.call(&InferenceOptions::default());
    let inputs: Vec<[f32; 4]> = (0..4).map(|n| [n as f32; 4]).collect();
    let calls: Vec<_> = inputs[..3].iter().map(|input| begin(call.vector(input))).collect();
    assert_eq!(wait(call.vector(&inputs[3])).unwrap().output, inputs[3]);
    for (call, input) in calls.into_iter().zip(&inputs) {
        assert_eq!(wait(call).unwrap().output, input);
    }
    assert_eq!(fake.seen().len(), 1);
    // One alone waits until its deadline.
    assert_eq!(rig.run(&[9.0; 4], &within(10)), Err(ANEError::Timeout(10)));
    rig.quiet();
}

/// The alarm of a request that has gone must not ring for the next one, and must not keep it from having its own.
#[test]
fn a_delay_begins_anew_after_a_deadline() {
    const DELAY: Duration = Duration::from_millis(100);
    let rig = Rig::new(&Fake::new(echo), 1, Batching { max_batch: 8, max_queue_delay: DELAY });
    assert_eq!(rig.run(&[9.0; 4], &within(10)), Err(ANEError::Timeout(10)));
    thread::sleep(2 * DELAY);
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(rig.run(&[9.0; 4], &within(30_000)), Ok(vec![9.0; 4]));
        assert!(start.elapsed() >= DELAY, "{:?}", start.elapsed());
    }
}

#[test]
fn a_dropped_call_is_forgotten_and_others_are_served() {
    let (gate, fake) = gated(&[]);
    let rig = Rig::new(&fake, 1, Batching::OFF);
    let call = rig.call(&InferenceOptions::default());
    let running = begin(call.vector(&[0.0; 4]));
    gate.wait_for(1);
    let mut waiting: Vec<_> = (1..4).map(|_| begin(call.vector(&[1.0; 4]))).collect();
    drop(waiting.remove(0));
    assert_eq!(rig.lane.waiting(), 2);
    gate.open();
    for call in waiting {
        assert_eq!(wait(call).unwrap().output, [1.0; 4]);
    }
    assert!(wait(running).is_ok());
    rig.quiet();
    assert_eq!(fake.seen().len(), 3);
}

#[test]
fn a_closed_pool_ends_everything() {
    let rig = Rig::new(&Fake::new(echo), 1, EIGHT);
    rig.pool.close();
    let refused = rig.run(&[0.0; 4], &InferenceOptions::default());
    assert!(matches!(refused, Err(ANEError::ResourceLimit(_))), "{refused:?}");
}

#[test]
fn threads_end_with_their_workers() {
    let count = || fs::read_dir("/proc/self/task").map(|tasks| tasks.count());
    let Ok(before) = count() else { return };
    let rig = Rig::new(&Fake::new(echo), 1, EIGHT);
    rig.run(&[0.0; 4], &InferenceOptions::default()).unwrap();
    drop(rig);
    // The clock's thread is the process's, and stays.
    until("threads end", || count().unwrap() <= before + 1);
}

#[test]
fn what_met_the_limit_of_memory_runs_beside_when_there_is_more() {
    let (gate, fake) = gated(&[]);
    let unit = unit();
    let rig = Rig::within(&fake, 2, EIGHT, 6 * unit);
    let call = rig.call(&InferenceOptions::default());
    // Both slots and half of the memory are somebody else's.
    let (half, slot) = (rig.pool.try_admit_bytes(3 * unit).unwrap(), rig.pool.try_admit_bytes(0).unwrap());
    let calls: Vec<_> = (0..6).map(|_| begin(call.vector(&[1.0; 4]))).collect();
    drop(slot);
    // Three of them: that is all the memory.
    gate.wait_for(1);
    drop(half);
    gate.wait_for(2);
    gate.open();
    calls.into_iter().for_each(|call| assert!(wait(call).is_ok()));
}

#[test]
fn each_run_is_asked_for_with_the_memory_of_its_own_request() {
    let (gate, fake) = gated(&[]);
    let unit = unit();
    let rig = Rig::within(&fake, 4, Batching::OFF, 64 * unit);
    let call = rig.call(&InferenceOptions::default());
    let held = rig.pool.try_admit_bytes(30 * unit).unwrap();
    let (big, small) = (vec![1.0; 4 * 40], vec![1.0; 4]);
    let (big, small) = (begin(call.vector(&big)), begin(call.vector(&small)));
    drop(held);
    // 24 units are free, and the second needs one.
    gate.wait_for(2);
    assert!(poll_once(pin!(rig.pool.admit_bytes(1))).is_ready());
    gate.open();
    assert!(wait(big).is_ok() && wait(small).is_ok());
}

/// Runs are granted in their order, but threads may begin them in any other.
#[test]
fn a_small_run_that_begins_first_leaves_the_large_request_to_its_own() {
    let (gate, fake) = gated(&[40.0]);
    let unit = unit();
    let rig = Rig::within(&fake, 4, Batching::OFF, 64 * unit);
    let call = rig.call(&InferenceOptions::default());
    let (held, early) = (rig.pool.try_admit_bytes(30 * unit).unwrap(), rig.pool.try_admit_bytes(unit).unwrap());
    let (big, small) = (vec![40.0; 4 * 40], vec![1.0; 4]);
    let (big, small) = (begin(call.vector(&big)), begin(call.vector(&small)));
    rig.lane.run_batch(early, &mut Scratch::new(&Default::default()));
    assert_eq!(rows(&fake), [[1.0]]);
    assert!(wait(small).is_ok());
    drop(held);
    gate.wait_for(1);
    gate.open();
    assert!(wait(big).is_ok());
    rig.quiet();
}

#[test]
fn what_never_fits_fails_alone() {
    let unit = unit();
    let delay = Batching { max_batch: 8, max_queue_delay: Duration::from_secs(1) };
    let rig = Rig::within(&Fake::new(echo), 2, delay, 4 * unit);
    let call = rig.call(&InferenceOptions::default());
    let (five, one, three) = (vec![1.0; 20], vec![1.0; 4], vec![1.0; 12]);
    let (five, one) = (begin(call.vector(&five)), begin(call.vector(&one)));
    // With these the batch is full.
    assert_eq!(wait(call.vector(&three)).unwrap().output.len(), 12);
    assert!(matches!(wait(five), Err(ANEError::ResourceLimit(_))));
    assert_eq!(wait(one).unwrap().output.len(), 4);
}

/// Calls a function when its task is woken.
struct OnWake<F>(F);

impl<F: Fn() + Send + Sync> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn on_wake(call: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(OnWake(call)))
}

#[test]
fn a_waker_that_panics_costs_nobody_anything() {
    let (gate, fake) = gated(&[]);
    let rig = Rig::new(&fake, 1, EIGHT);
    let call = rig.call(&InferenceOptions::default());
    let running = begin(call.vector(&[0.0; 4]));
    gate.wait_for(1);
    let bad = on_wake(|| panic!("as it should"));
    let mut calls: Vec<_> = (0..3).map(|_| Box::pin(call.vector(&[1.0; 4]))).collect();
    for call in &mut calls[..2] {
        assert!(call.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
    }
    assert!(poll_once(calls[2].as_mut()).is_pending());
    gate.open();
    assert!(wait(running).is_ok());
    rig.quiet();
    calls.into_iter().for_each(|call| assert!(wait(call).is_ok()));
    assert_eq!(rig.run(&[1.0; 4], &InferenceOptions::default()), Ok(vec![1.0; 4]));
}

/// A thread that has answered is free to take what the caller asks for next, so that no other is woken for it.
#[test]
fn a_thread_is_free_before_it_wakes_its_caller() {
    let (gate, fake) = gated(&[1.0]);
    let rig = Rig::new(&fake, 2, Batching::OFF);
    let call = rig.call(&InferenceOptions::default());
    let waking = Arc::new(Gate::default());
    let slow = on_wake({
        let waking = waking.clone();
        move || {
            waking.pass();
            // What the thread was told by then must not be lost with its token.
            thread::park();
        }
    });
    let mut first = Box::pin(call.vector(&[1.0; 4]));
    assert!(first.as_mut().poll(&mut Context::from_waker(&slow)).is_pending());
    gate.open();
    waking.wait_for(1);
    let second = begin(call.vector(&[2.0; 4]));
    waking.open();
    assert_eq!(wait(second).unwrap().output, [2.0; 4]);
    assert_eq!(rig.workers.threads(), 1);
    assert!(wait(first).is_ok());
}

/// A waker may run its task at once, and that may wait for another run.
#[test]
fn a_task_that_runs_in_its_waker_may_wait_there() {
    let (gate, fake) = gated(&[1.0]);
    let rig = Rig::new(&fake, 2, Batching::OFF);
    let call = rig.call(&InferenceOptions::default());
    let (told, answer) = mpsc::channel();
    let inline = on_wake({
        let lane = rig.lane.clone();
        move || told.send(run(&lane, &[2.0; 4], &within(10_000))).unwrap()
    });
    let mut first = Box::pin(call.vector(&[1.0; 4]));
    assert!(first.as_mut().poll(&mut Context::from_waker(&inline)).is_pending());
    gate.open();
    assert_eq!(answer.recv().unwrap(), Ok(vec![2.0; 4]));
    assert!(wait(first).is_ok());
}

#[test]
fn a_warm_up_has_every_run_at_a_time() {
    const HOUR: Duration = Duration::from_secs(3600);
    let warm_up = |fake: &Fake| {
        let rig = Rig::new(fake, 3, Batching::OFF);
        let admissions = (0..3).map(|_| rig.pool.try_admit_bytes(1).unwrap()).collect();
        let warm = wait(warm_up_together(rig.lane.clone(), admissions, HOUR));
        assert_eq!(rig.pool.statistics().slots_in_use, 0);
        warm
    };
    let fake = Fake::new(echo);
    assert_eq!(warm_up(&fake), Ok(()));
    assert_eq!((fake.seen().len(), fake.most_at_a_time()), (3, 3));
    // Nobody waits for one that has failed.
    let runs = AtomicUsize::new(0);
    let fake = Fake::new(move |inputs| match runs.fetch_add(1, Ordering::SeqCst) {
        1 => Err(ANEError::InferenceFailed("the second".to_owned())),
        _ => echo(inputs),
    });
    assert_eq!(warm_up(&fake), Err(ANEError::InferenceFailed("the second".to_owned())));
}

#[test]
fn a_trial_runs_in_a_share_of_the_pool() {
    let model = model(&Fake::new(echo));
    let asked = Batching { max_batch: 16, ..Batching::default() };
    let pool = Pool::with_bytes(1, 2 * unit());
    let taken = asked.for_model(&model, |bytes| {
        assert_eq!(bytes, 2 * unit(), "a batch of two");
        pool.try_admit_bytes(bytes)
    });
    assert_eq!((taken, pool.statistics().admissions), (Ok(asked), 1));
    let small = Pool::with_bytes(1, unit());
    assert_eq!(asked.for_model(&model, |bytes| small.try_admit_bytes(bytes)), Ok(Batching::OFF));
    assert_eq!(asked.for_model(&model, |_| Err(ANEError::Timeout(5))), Err(ANEError::Timeout(5)));
}

#[test]
fn the_search_for_a_batch_size_has_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.mlmodel");
    fs::write(&path, network::neural_network(&[1, 4], &[network::relu(0)])).unwrap();
    let model = Model::open(&path).unwrap();
    let lowered = coreml_onnx::lower(&model, &LowerOptions::default()).unwrap();
    let model = CoreMlModel::on_fake(&Fake::new(echo), lowered, model.schema, &path);
    let endless = Batching { max_batch: usize::MAX, max_queue_delay: Duration::ZERO };
    let taken = endless.for_model(&model, |_| panic!("there is no batch to try"));
    assert_eq!(taken, Ok(Batching::OFF));
}

#[test]
fn deadlines_that_no_run_could_meet_are_not_the_managers_failures() {
    let (_gate, fake) = gated(&[]);
    let tracker = Arc::new(PerformanceTracker::new());
    let second = Duration::from_secs(1);
    let outcome = Outcome::Succeeded;
    let ran = Observation {
        ended: Instant::now(),
        outcome,
        items: 1,
        total: second,
        queue: Duration::ZERO,
        batch: Duration::ZERO,
        compute: second,
    };
    (0..100).for_each(|_| tracker.record(&ran));
    let (pool, workers) = (Pool::new(1, 64), Arc::new(Workers::new(1)));
    let lane = lane(&fake, &pool, &workers, 1, Batching::OFF, [tracker.clone()].into_iter().collect());
    let late = |options: &InferenceOptions, default: u64| {
        let call = Call::new(&lane, options, Duration::from_millis(default)).unwrap();
        let late = wait(call.vector(&[1.0; 4])).map(drop);
        assert!(matches!(late, Err(ANEError::Timeout(_))), "{late:?}");
        tracker.failing()
    };
    (0..30).for_each(|_| assert_eq!(late(&within(1), 60_000), Some(0.0)));
    // The default is not the caller's choice, and one of 1.2 seconds could have been met.
    assert!(late(&InferenceOptions::default(), 1) > Some(0.04));
    assert!(late(&within(1200), 60_000) > Some(0.09));
    assert_eq!(tracker.get_summary().errors.of(ErrorKind::Timeout), 32);
}

#[test]
fn whatever_callers_do_everything_comes_back() {
    let engine = || {
        Fake::new(|inputs| {
            let values = floats(&inputs[0]);
            if ((values[0] as u64).wrapping_mul(2_654_435_761) >> 3).is_multiple_of(7) {
                thread::sleep(Duration::from_micros(300));
            }
            if values.iter().any(|&v| v as u64 % 97 == 13) {
                return Err(ANEError::InferenceFailed("bad".to_owned()));
            }
            assert!(values.iter().all(|&v| v as u64 % 389 != 17), "as it should");
            echo(inputs)
        })
    };
    std::panic::set_hook(Box::new(|info| {
        let what = info.to_string();
        if !what.contains("as it should") {
            eprintln!("{what}");
        }
    }));
    let unit = unit();
    for round in 0..30u64 {
        let (pool, workers) = (Pool::with_bytes(3, 50 * unit), Arc::new(Workers::new(3)));
        let lanes = [(1, 0), (8, 0), (8, 700), (32, 100)].map(|(max_batch, delay)| {
            let batching = Batching { max_batch, max_queue_delay: Duration::from_micros(delay) };
            lane(&engine(), &pool, &workers, 3, batching, Trackers::default())
        });
        thread::scope(|scope| {
            for thread in 0..6u64 {
                let (lanes, pool) = (&lanes, &pool);
                scope.spawn(move || {
                    let mut random = Random(round * 1000 + thread * 77 + 1);
                    (0..150).for_each(|_| one_of_many(&mut random, lanes, pool, unit));
                });
            }
        });
        until("everything comes back", || {
            let pool = pool.statistics();
            (pool.slots_in_use, pool.bytes_in_use, pool.waiting, workers.late()) == (0, 0, 0, 0)
                && lanes.iter().all(|lane| lane.books() == [0; 4])
        });
        for lane in &lanes {
            assert!(run(lane, &[1.0; 4], &InferenceOptions::default()).is_ok());
        }
    }
}

/// One call of any kind, that is answered, late, or dropped.
fn one_of_many(random: &mut Random, lanes: &[Arc<Lane>], pool: &Pool, unit: usize) {
    let lane = &lanes[random.below(4) as usize];
    // From 51 rows on it never fits.
    let rows = match random.below(10) {
        0 | 9 => 1 + random.below(64),
        1 => 30 + random.below(20),
        _ => 1 + random.below(3),
    } as usize;
    let input = vec![random.below(1000) as f32; rows * 4];
    let options = InferenceOptions {
        timeout_ms: if random.below(3) == 0 { 20_000 } else { 1 + random.below(4) },
        batch_size: (random.below(4) == 0).then(|| 1 + random.below(8) as usize),
        ..InferenceOptions::default()
    };
    let call = Call::new(lane, &options, Duration::from_secs(60)).unwrap();
    let mut future = Box::pin(call.vector(&input));
    match random.below(4) {
        0 => {
            for _ in 0..random.below(3) {
                if poll_once(future.as_mut()).is_ready() {
                    break;
                }
                thread::yield_now();
            }
        }
        1 => {
            let bytes = random.below(10) as usize * unit;
            let admission = wait(pool.admit_bytes_within(bytes, Duration::from_millis(random.below(3))));
            let _ = admission.map(|admission| wait(call.admitted(&[1.0; 4], admission)));
        }
        _ => match wait(future) {
            Err(ANEError::Timeout(20_000)) => panic!("nobody cared for it"),
            Err(ANEError::ResourceLimit(why)) => {
                assert!(rows > 50 && options.batch_size.is_none(), "{rows} rows: {why}")
            }
            _ => {}
        },
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}
