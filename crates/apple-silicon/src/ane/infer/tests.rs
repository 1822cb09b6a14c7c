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

mod review {
    use super::*;
    use crate::ane::features::{Array, Features};

    fn lane_in(fake: &Fake, slots: usize, batching: Batching, pool: Pool) -> Arc<Lane> {
        lane_with(fake, slots, batching, pool, Arc::new(Workers::new(slots)))
    }
    fn lane_with(fake: &Fake, slots: usize, batching: Batching, pool: Pool, workers: Arc<Workers>) -> Arc<Lane> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.mlmodel");
        fs::write(&path, network::flexible_network(&[1, 4], 64, &[network::relu(0)])).unwrap();
        let model = Model::open(&path).unwrap();
        let lowered = coreml_onnx::lower(&model, &LowerOptions::default()).unwrap();
        let model = CoreMlModel::on_fake(fake, lowered, model.schema, &path);
        Lane::new(Arc::new(model), pool, workers, batching, slots, Default::default(), Default::default())
    }
    fn gated(gate: &Arc<Gate>) -> Fake {
        let gate = gate.clone();
        Fake::new(move |inputs| {
            gate.pass();
            echo(inputs)
        })
    }
    fn poll_once<F: Future>(f: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        f.poll(&mut Context::from_waker(Waker::noop()))
    }
    fn settle() {
        thread::sleep(Duration::from_millis(150));
    }

    /// a panic in a batch: only the bad one should fail
    #[test]
    fn r1_panic_in_batch_fails_all() {
        let gate = Arc::new(Gate::default());
        let g = gate.clone();
        let fake = Fake::new(move |inputs| {
            g.pass();
            assert!(!floats(&inputs[0]).contains(&3.0), "as it should");
            echo(inputs)
        });
        let (lane, _pool) = lane(&fake, 1, EIGHT);
        let o = InferenceOptions::default();
        let call = Call::new(&lane, &o, Duration::from_secs(60)).unwrap();
        let inputs: Vec<[f32; 4]> = (0..6).map(|n| [n as f32; 4]).collect();
        let mut calls: Vec<_> = inputs.iter().map(|i| Box::pin(call.vector(i))).collect();
        assert!(poll_once(calls[0].as_mut()).is_pending());
        gate.wait_for(1);
        calls.iter_mut().skip(1).for_each(|c| assert!(poll_once(c.as_mut()).is_pending()));
        gate.open();
        let results: Vec<bool> = calls.into_iter().map(|c| wait(c).is_ok()).collect();
        assert_eq!(results, [true, true, true, false, true, true]);
    }

    /// leftovers of a gather that met the memory limit wait for the whole run though a slot and memory come free
    #[test]
    fn r2_leftovers_wait_for_the_run() {
        let gate = Arc::new(Gate::default());
        let fake = gated(&gate);
        let probe = lane_in(&fake, 1, EIGHT, Pool::new(1, 1));
        let u = probe.model.working_set_bytes(1);
        println!("unit {u}");
        let pool = Pool::with_bytes(2, 6 * u);
        let lane = lane_in(&fake, 2, EIGHT, pool.clone());
        let o = InferenceOptions::default();
        let call = Call::new(&lane, &o, Duration::from_secs(60)).unwrap();
        // both slots and half of the memory are somebody else's
        let other = pool.try_admit_bytes(3 * u).unwrap();
        let other2 = pool.try_admit_bytes(0).unwrap();
        let mut calls: Vec<_> = (0..6).map(|_| Box::pin(call.vector(&[1.0; 4]))).collect();
        calls.iter_mut().for_each(|c| assert!(poll_once(c.as_mut()).is_pending()));
        drop(other2);
        gate.wait_for(1); // runs 3 of them: that is all the memory
        drop(other); // a slot and memory for the other 3 are free now
        settle();
        let s = pool.statistics();
        println!(
            "in use {} of {} slots, {} of {} bytes; waiting in lane {}, in pool {}",
            s.slots_in_use,
            s.slots,
            s.bytes_in_use,
            s.bytes,
            lane.waiting(),
            s.waiting
        );
        let runs = gate.inside.load(Ordering::SeqCst);
        gate.open();
        calls.into_iter().for_each(|c| drop(wait(c).unwrap()));
        assert_eq!(runs, 2, "the other three run beside");
    }

    /// each run asked for takes the bytes of the first in the queue
    #[test]
    fn r3_each_dispatch_asks_for_the_heads_bytes() {
        let gate = Arc::new(Gate::default());
        let fake = gated(&gate);
        let probe = lane_in(&fake, 1, Batching::OFF, Pool::new(1, 1));
        let u = probe.model.working_set_bytes(1);
        let pool = Pool::with_bytes(4, 64 * u);
        let lane = lane_in(&fake, 4, Batching::OFF, pool.clone());
        let o = InferenceOptions::default();
        let call = Call::new(&lane, &o, Duration::from_secs(60)).unwrap();
        let a = pool.try_admit_bytes(30 * u).unwrap();
        let (big, small) = (vec![1.0; 4 * 40], vec![1.0; 4]);
        let mut b = Box::pin(call.vector(&big));
        let mut c = Box::pin(call.vector(&small));
        assert!(poll_once(b.as_mut()).is_pending());
        assert!(poll_once(c.as_mut()).is_pending());
        drop(a);
        gate.wait_for(1);
        settle();
        let s = pool.statistics();
        println!("{} bytes free, {} waits in pool, {} in lane", s.bytes - s.bytes_in_use, s.waiting, lane.waiting());
        let mut someone = Box::pin(pool.admit_bytes(1));
        let blocked = poll_once(someone.as_mut()).is_pending();
        let inside = gate.inside.load(Ordering::SeqCst);
        gate.open();
        wait(b).unwrap();
        wait(c).unwrap();
        assert_eq!((inside, blocked), (2, false), "24 units are free, the second needs one");
    }

    #[test]
    fn r5_stale_flush() {
        let (lane, _pool) =
            lane(&Fake::new(echo), 1, Batching { max_batch: 8, max_queue_delay: Duration::from_millis(300) });
        assert_eq!(run(&lane, &[9.0; 4], &within(10)), Err(ANEError::Timeout(10)));
        thread::sleep(Duration::from_millis(500));
        let start = Instant::now();
        run(&lane, &[9.0; 4], &InferenceOptions::default()).unwrap();
        println!("waited {:?}", start.elapsed());
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    }

    #[test]
    fn r6_cancelled_batches_are_not_recorded() {
        // by reading; see report
        let _ = (Array::new([1], vec![0.0f32]), Features::new());
    }

    /// a model that a late run uses has its weights given back? (lane knows no reservation)
    #[test]
    fn r7_max_batch_without_end() {
        let (sent, got) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("rows.mlmodel");
            fs::write(&path, network::neural_network(&[1, 4], &[network::relu(0)])).unwrap();
            let model = Model::open(&path).unwrap();
            let lowered = coreml_onnx::lower(&model, &LowerOptions::default()).unwrap();
            let model = CoreMlModel::on_fake(&Fake::new(echo), lowered, model.schema, &path);
            let start = Instant::now();
            let b = Batching { max_batch: 10_000_000, max_queue_delay: Duration::ZERO }.for_model(&model);
            println!("ten million: {b:?} after {:?}", start.elapsed());
            let b = Batching { max_batch: usize::MAX, max_queue_delay: Duration::ZERO }.for_model(&model);
            sent.send(b).unwrap();
        });
        assert!(got.recv_timeout(Duration::from_secs(20)).is_ok(), "still looking for a batch size");
    }

    /// expired deadline with a clock thread behind: begin does not look
    #[test]
    fn r8_panicking_waker_ends_a_worker() {
        struct Bad;
        impl std::task::Wake for Bad {
            fn wake(self: Arc<Self>) {
                panic!("a waker that panics");
            }
        }
        let gate = Arc::new(Gate::default());
        let (lane, pool) = lane(&gated(&gate), 1, Batching::OFF);
        let o = InferenceOptions::default();
        let call = Call::new(&lane, &o, Duration::from_secs(60)).unwrap();
        let mut bad = Box::pin(call.vector(&[1.0; 4]));
        assert!(bad.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Bad)))).is_pending());
        gate.wait_for(1);
        gate.open();
        quiet(&pool);
        settle();
        assert_eq!(run(&lane, &[1.0; 4], &within(2000)), Ok(vec![1.0; 4]));
    }

    #[test]
    fn s_stress() {
        use std::sync::atomic::AtomicU64;
        static LATEST: AtomicU64 = AtomicU64::new(0);
        let engine = || {
            Fake::new(|inputs| {
                let v = floats(&inputs[0]);
                let n = (v[0] as u64).wrapping_mul(2654435761) >> 3;
                if n.is_multiple_of(7) {
                    thread::sleep(Duration::from_micros(300));
                }
                if v.iter().any(|&v| v as u64 % 97 == 13) {
                    return Err(ANEError::InferenceFailed("bad".into()));
                }
                if v.iter().any(|&v| v as u64 % 389 == 17) {
                    panic!("as it should");
                }
                echo(inputs)
            })
        };
        std::panic::set_hook(Box::new(|i| {
            let t = i.to_string();
            if !t.contains("as it should") {
                eprintln!("{t}");
            }
        }));
        let probe = lane_in(&engine(), 1, Batching::OFF, Pool::new(1, 1));
        let u = probe.model.working_set_bytes(1);
        for round in 0..30u64 {
            let pool = Pool::with_bytes(3, 50 * u);
            let workers = Arc::new(Workers::new(3));
            let lanes: Vec<Arc<Lane>> = [(1, 0), (8, 0), (8, 700), (32, 100)]
                .iter()
                .map(|&(max_batch, us)| {
                    lane_with(
                        &engine(),
                        3,
                        Batching { max_batch, max_queue_delay: Duration::from_micros(us) },
                        pool.clone(),
                        workers.clone(),
                    )
                })
                .collect();
            let answered = AtomicUsize::new(0);
            let starved = AtomicUsize::new(0);
            thread::scope(|scope| {
                for t in 0..6u64 {
                    let (lanes, pool, answered, starved) = (&lanes, &pool, &answered, &starved);
                    scope.spawn(move || {
                        let mut r = round * 1000 + t * 77 + 1;
                        let mut next = move || {
                            r ^= r << 13;
                            r ^= r >> 7;
                            r ^= r << 17;
                            r
                        };
                        for _ in 0..150 {
                            let lane = &lanes[(next() % 4) as usize];
                            // up to 64 rows: above 50 never fits
                            let rows = match next() % 10 {
                                0 | 9 => 1 + next() % 64,
                                1 => 30 + next() % 20,
                                _ => 1 + next() % 3,
                            } as usize;
                            let input = vec![(next() % 1000) as f32; rows * 4];
                            let long = next() % 3 == 0;
                            let o = InferenceOptions {
                                timeout_ms: if long { 20_000 } else { 1 + next() % 4 },
                                batch_size: (next() % 4 == 0).then(|| 1 + (next() % 8) as usize),
                                ..Default::default()
                            };
                            let call = Call::new(lane, &o, Duration::from_secs(60)).unwrap();
                            let mut f = Box::pin(call.vector(&input));
                            match next() % 4 {
                                0 => {
                                    for _ in 0..next() % 3 {
                                        if poll_once(f.as_mut()).is_ready() {
                                            break;
                                        }
                                        if next() % 2 == 0 {
                                            thread::yield_now();
                                        }
                                    }
                                }
                                1 => {
                                    if let Ok(a) = wait(pool.admit_bytes_within(
                                        (next() % 10) as usize * u,
                                        Duration::from_millis(next() % 3),
                                    )) {
                                        let input = [1.0; 4];
                                        let _ = wait(call.admitted(&input, a));
                                    }
                                }
                                _ => match wait(f) {
                                    Err(ANEError::Timeout(20_000)) => {
                                        starved.fetch_add(1, Ordering::SeqCst);
                                    }
                                    Err(ANEError::ResourceLimit(why)) if rows <= 50 || o.batch_size.is_some() => {
                                        println!("WRONG {rows} rows {:?}: {why}", o.batch_size);
                                        starved.fetch_add(1, Ordering::SeqCst);
                                    }
                                    _ => {
                                        answered.fetch_add(1, Ordering::SeqCst);
                                    }
                                },
                            }
                            LATEST.store(round, Ordering::SeqCst);
                        }
                    });
                }
            });
            let start = Instant::now();
            let clean = || {
                pool.statistics().slots_in_use == 0
                    && pool.statistics().bytes_in_use == 0
                    && pool.statistics().waiting == 0
                    && workers.late() == 0
                    && lanes.iter().all(|l| l.books() == [0; 4])
            };
            while !clean() && start.elapsed() < Duration::from_secs(3) {
                thread::yield_now();
            }
            let books: Vec<_> = lanes.iter().map(|l| l.books()).collect();
            if !clean() || starved.load(Ordering::SeqCst) > 0 || round % 100 == 0 {
                println!(
                    "round {round}: {} answered, {} starved, books {books:?}, late {}, {:?}",
                    answered.load(Ordering::SeqCst),
                    starved.load(Ordering::SeqCst),
                    workers.late(),
                    pool.statistics()
                );
            }
            assert!(clean());
            assert_eq!(starved.load(Ordering::SeqCst), 0);
            for l in &lanes {
                assert!(run(l, &[1.0; 4], &InferenceOptions::default()).is_ok());
            }
        }
    }

    /// the flush of a queue that was emptied by a deadline
    #[test]
    fn r9_flush_after_a_deadline_hangs() {
        let (lane, _pool) =
            lane(&Fake::new(echo), 1, Batching { max_batch: 8, max_queue_delay: Duration::from_millis(100) });
        assert_eq!(run(&lane, &[9.0; 4], &within(10)), Err(ANEError::Timeout(10)));
        thread::sleep(Duration::from_millis(300));
        for _ in 0..3 {
            assert_eq!(run(&lane, &[9.0; 4], &within(3000)), Ok(vec![9.0; 4]));
        }
    }

    /// the second of two runs asked for at once is refused for what the first asked
    #[test]
    fn r10_never_fits_takes_a_neighbour_along() {
        let fake = Fake::new(echo);
        let probe = lane_in(&fake, 1, Batching::OFF, Pool::new(1, 1));
        let u = probe.model.working_set_bytes(1);
        let pool = Pool::with_bytes(2, 4 * u);
        let lane = lane_in(&fake, 2, Batching { max_batch: 8, max_queue_delay: Duration::from_secs(1) }, pool);
        let o = InferenceOptions::default();
        let call = Call::new(&lane, &o, Duration::from_secs(60)).unwrap();
        let (five, one, three) = (vec![1.0; 20], vec![1.0; 4], vec![1.0; 12]);
        let mut a = Box::pin(call.vector(&five));
        let mut b = Box::pin(call.vector(&one));
        let mut c = Box::pin(call.vector(&three));
        assert!(poll_once(a.as_mut()).is_pending());
        assert!(poll_once(b.as_mut()).is_pending());
        let _ = poll_once(c.as_mut());
        println!("{:?}", wait(a).map(|r| r.output.len()));
        let b = wait(b).map(|r| r.output.len());
        println!("{b:?} {:?}", wait(c).map(|r| r.output.len()));
        assert_eq!(b, Ok(4));
    }
}
