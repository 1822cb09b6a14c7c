//! Lanes on an engine that does what it is told.

use std::{
    fs,
    num::NonZeroUsize,
    pin::pin,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use coreml_format::Model;
use coreml_onnx::LowerOptions;

use super::{Batching, InferenceOptions, execute::Call, lane::Lane, workers::Workers};
use crate::ane::{
    blocking::wait,
    engines::{Data, Tensor, fake::Fake},
    errors::{ANEError, Result},
    models::coreml_model::CoreMlModel,
    resource_pool::Pool,
};

#[path = "../../../tests/support/network.rs"]
#[allow(dead_code, unreachable_pub, reason = "these tests use their part")]
mod network;

/// What a gated engine waits for.
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
        while self.inside.load(Ordering::SeqCst) < runs {
            thread::yield_now();
        }
    }
}

/// Rows of 4 numbers, as many as there are up to 64, on a fake engine; and the pool that it runs in.
fn lane(fake: &Fake, slots: usize, batching: Batching) -> (Arc<Lane>, Pool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.mlmodel");
    fs::write(&path, network::flexible_network(&[1, 4], 64, &[network::relu(0)])).unwrap();
    let model = Model::open(&path).unwrap();
    let lowered = coreml_onnx::lower(&model, &LowerOptions::default()).unwrap();
    let model = CoreMlModel::on_fake(fake, lowered, model.schema, &path);
    let pool = Pool::new(slots, 64);
    let lane = Lane::new(
        Arc::new(model),
        pool.clone(),
        Arc::new(Workers::new(slots)),
        batching,
        slots,
        Default::default(),
        Default::default(),
    );
    (lane, pool)
}

/// Gives what it takes.
fn echo(inputs: &[Tensor<'_>]) -> Result<Vec<Tensor<'static>>> {
    Ok(vec![inputs[0].borrowed().into_owned()])
}

fn floats<'a>(tensor: &'a Tensor<'_>) -> &'a [f32] {
    let Data::F32(values) = &tensor.data else { panic!("{tensor:?} is not fp32") };
    values
}

const EIGHT: Batching = Batching { max_batch: 8, max_queue_delay: Duration::ZERO };

fn run(lane: &Arc<Lane>, input: &[f32], options: &InferenceOptions) -> Result<Vec<f32>> {
    wait(async { Call::new(lane, options, Duration::from_secs(60))?.vector(input).await.map(|result| result.output) })
}

fn within(timeout_ms: u64) -> InferenceOptions {
    InferenceOptions { timeout_ms, ..InferenceOptions::default() }
}

/// Waits until everything is given back.
fn quiet(pool: &Pool) {
    while pool.statistics().slots_in_use > 0 || pool.statistics().bytes_in_use > 0 {
        thread::yield_now();
    }
}

#[test]
fn what_waits_for_the_only_slot_is_one_batch_and_comes_in_order() {
    let gate = Arc::new(Gate::default());
    let fake = Fake::new({
        let gate = gate.clone();
        move |inputs| {
            gate.pass();
            echo(inputs)
        }
    });
    let (lane, pool) = lane(&fake, 1, EIGHT);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..7)
            .map(|n| {
                let caller = scope.spawn({
                    let lane = lane.clone();
                    move || run(&lane, &[n as f32; 4], &InferenceOptions::default())
                });
                // The first one is in the engine, and the others come one after the other.
                while gate.inside.load(Ordering::SeqCst) == 0 || lane.waiting() < n {
                    thread::yield_now();
                }
                caller
            })
            .collect();
        assert_eq!(pool.statistics().slots_in_use, 1);
        gate.open();
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.join().unwrap(), Ok(vec![n as f32; 4]));
        }
    });
    let rows: Vec<Vec<f32>> =
        fake.seen().iter().map(|inputs| floats(&inputs[0]).chunks(4).map(|row| row[0]).collect()).collect();
    assert_eq!(rows, [vec![0.0], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]);
    quiet(&pool);
}

#[test]
fn a_failed_batch_is_tried_again_one_by_one() {
    let gate = Arc::new(Gate::default());
    let fake = Fake::new({
        let gate = gate.clone();
        move |inputs| {
            gate.pass();
            match floats(&inputs[0]).contains(&3.0) {
                true => Err(ANEError::InferenceFailed("three".to_owned())),
                false => echo(inputs),
            }
        }
    });
    let (lane, pool) = lane(&fake, 1, EIGHT);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..6)
            .map(|n| {
                let caller = lane.clone();
                let caller = scope.spawn(move || run(&caller, &[n as f32; 4], &InferenceOptions::default()));
                // The first one is in the engine before another comes.
                while gate.inside.load(Ordering::SeqCst) == 0 || lane.waiting() < n {
                    thread::yield_now();
                }
                caller
            })
            .collect();
        gate.open();
        for (n, caller) in callers.into_iter().enumerate() {
            match caller.join().unwrap() {
                Err(ANEError::InferenceFailed(why)) => assert!(n == 3 && why.ends_with("rows.mlmodel: three"), "{why}"),
                answer => assert!(n != 3 && answer == Ok(vec![n as f32; 4]), "{n}: {answer:?}"),
            }
        }
    });
    quiet(&pool);
}

#[test]
fn a_run_that_cannot_be_stopped_keeps_its_share_until_it_ends() {
    let gate = Arc::new(Gate::default());
    let fake = Fake::new({
        let gate = gate.clone();
        move |inputs| {
            gate.pass();
            echo(inputs)
        }
    });
    let (lane, pool) = lane(&fake, 1, Batching::OFF);
    thread::scope(|scope| {
        let first = scope.spawn(|| run(&lane, &[1.0; 4], &within(1000)));
        gate.wait_for(1);
        assert_eq!(first.join().unwrap(), Err(ANEError::Timeout(1000)));
    });
    // It still runs, so the next one only waits for the slot, until its own deadline.
    assert_eq!(run(&lane, &[2.0; 4], &within(10)), Err(ANEError::Timeout(10)));
    assert_eq!(pool.statistics().slots_in_use, 1);
    assert_eq!(lane.waiting(), 0, "who gives up leaves the queue");
    gate.open();
    quiet(&pool);
    assert_eq!(run(&lane, &[3.0; 4], &InferenceOptions::default()), Ok(vec![3.0; 4]));
    let seen: Vec<f32> = fake.seen().iter().map(|inputs| floats(&inputs[0])[0]).collect();
    assert_eq!(seen, [1.0, 3.0], "what gave up while it waited never ran");
}

#[test]
fn a_panic_of_an_engine_is_an_error_and_the_thread_goes_on() {
    let fake = Fake::new(|inputs| if floats(&inputs[0])[0] == 0.0 { panic!("as it should") } else { echo(inputs) });
    let (lane, pool) = lane(&fake, 1, EIGHT);
    let lost = run(&lane, &[0.0; 4], &InferenceOptions::default());
    assert!(matches!(lost, Err(ANEError::Internal(_))), "{lost:?}");
    assert_eq!(run(&lane, &[1.0; 4], &InferenceOptions::default()), Ok(vec![1.0; 4]));
    quiet(&pool);
}

#[test]
fn a_full_batch_does_not_wait_for_others() {
    let fake = Fake::new(echo);
    let hour = Batching { max_batch: 4, max_queue_delay: Duration::from_secs(3600) };
    let (lane, pool) = lane(&fake, 1, hour);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|n| {
                let lane = lane.clone();
                scope.spawn(move || run(&lane, &[n as f32; 4], &InferenceOptions::default()))
            })
            .collect();
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.join().unwrap(), Ok(vec![n as f32; 4]));
        }
    });
    assert_eq!(fake.seen().len(), 1);
    // One alone waits until its deadline.
    assert_eq!(run(&lane, &[9.0; 4], &within(10)), Err(ANEError::Timeout(10)));
    quiet(&pool);
}

#[test]
fn a_dropped_call_is_forgotten_and_others_are_served() {
    let gate = Arc::new(Gate::default());
    let fake = Fake::new({
        let gate = gate.clone();
        move |inputs| {
            gate.pass();
            echo(inputs)
        }
    });
    let (lane, pool) = lane(&fake, 1, Batching::OFF);
    let options = InferenceOptions::default();
    let call = Call::new(&lane, &options, Duration::from_secs(60)).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut running = pin!(call.vector(&[0.0; 4]));
        assert!(running.as_mut().poll(&mut context).is_pending());
        gate.wait_for(1);
        let mut waiting: Vec<_> = (1..4).map(|_| Box::pin(call.vector(&[1.0; 4]))).collect();
        for call in &mut waiting {
            assert!(call.as_mut().poll(&mut context).is_pending());
        }
        drop(waiting.remove(0));
        assert_eq!(lane.waiting(), 2);
        gate.open();
        for call in waiting {
            assert_eq!(wait(call).unwrap().output, [1.0; 4]);
        }
        assert!(matches!(running.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    }
    quiet(&pool);
    assert_eq!(fake.seen().len(), 3);
}

#[test]
fn a_closed_pool_ends_everything() {
    let (lane, pool) = lane(&Fake::new(echo), 1, EIGHT);
    pool.close();
    let refused = run(&lane, &[0.0; 4], &InferenceOptions::default());
    assert!(matches!(refused, Err(ANEError::ResourceLimit(_))), "{refused:?}");
}

#[test]
fn threads_end_with_their_workers() {
    let count = || fs::read_dir("/proc/self/task").map(|tasks| tasks.count());
    let Ok(before) = count() else { return };
    let (lane, _pool) = lane(&Fake::new(echo), NonZeroUsize::MIN.get(), EIGHT);
    run(&lane, &[0.0; 4], &InferenceOptions::default()).unwrap();
    drop(lane);
    let start = Instant::now();
    // The clock's thread is the process's, and stays.
    while count().unwrap() > before + 1 && start.elapsed() < Duration::from_secs(30) {
        thread::yield_now();
    }
    assert!(count().unwrap() <= before + 1);
}
