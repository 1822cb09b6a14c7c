//! The manager over Core ML's engine: deadlines that pass while Core ML hangs, and memory that is not copied.

use std::{
    future::Future,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use apple_silicon::ane::{
    engines::EngineChoice,
    errors::ANEError,
    infer::{Batching, ComputeUnit, InferenceOptions},
    manager::{ANEConfig, ANEManager, ModelId, ModelOptions},
    models::coreml_model::{CompilationOptions, LoadOptions},
};
use coreml_stand_in::{Call, StandIn, wait_until};

/// A manager with one model, which takes and gives 24 numbers.
struct Service {
    stand_in: StandIn,
    _store: tempfile::TempDir,
    manager: ANEManager,
    model: ModelId,
}

impl Service {
    fn new(macos: (i64, i64), units: &str, batching: Batching) -> Service {
        let (stand_in, store) = (StandIn::new(), tempfile::tempdir().unwrap());
        stand_in.macos(macos.0, macos.1);
        let config = ANEConfig { max_concurrent_operations: 2, memory_pool_mb: 64, default_timeout_ms: 60_000 };
        let manager = ANEManager::with_config(config).unwrap();
        let options = ModelOptions {
            compilation: CompilationOptions {
                compute_units: Some(units.to_owned()),
                output_path: Some(store.path().to_owned()),
                ..CompilationOptions::default()
            },
            load: LoadOptions { engine: EngineChoice::CoreMl, ..LoadOptions::default() },
            batching,
        };
        let model = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../crates/coreml-onnx/tests/ops/identity/fp32/model.mlpackage");
        let model = run(manager.load_model_with(model, &options)).unwrap();
        Service { stand_in, _store: store, manager, model }
    }

    fn infer(&self, first: f32, timeout_ms: u64) -> Result<Vec<f32>, ANEError> {
        let options = InferenceOptions { timeout_ms, ..InferenceOptions::default() };
        let result = run(self.manager.execute_inference(self.model, &x(first), &options))?;
        assert_eq!(result.engine, "coreml");
        Ok(result.output)
    }

    fn running(&self) -> usize {
        self.manager.pool_statistics().slots_in_use
    }
}

fn x(first: f32) -> Vec<f32> {
    (0u8..24).map(|n| first + f32::from(n)).collect()
}

/// Waits for a future on this thread.
fn run<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_prediction_that_never_returns_answers_timeout_and_keeps_its_slot() {
    // Through completion handlers, and on a thread of the model's own.
    for macos in [(26, 0), (13, 0)] {
        let service = Service::new(macos, "ALL", Batching::OFF);
        assert_eq!(service.infer(0.0, 0), Ok(x(0.0)));
        let idle = service.manager.pool_statistics().bytes_in_use;
        service.stand_in.next_hangs(Call::Predict);
        let start = Instant::now();
        assert_eq!(service.infer(1.0, 100), Err(ANEError::Timeout(100)));
        assert!(start.elapsed() < Duration::from_secs(30), "it does not wait for Core ML");
        service.stand_in.wait_for_hanging(1);
        assert_eq!(service.running(), 1, "what runs is not taken for done");
        assert!(service.manager.pool_statistics().bytes_in_use > idle);
        // Two may run; where Core ML's handlers are not there, the model's thread hangs, and with it the second.
        if macos >= (14, 0) {
            assert_eq!(service.infer(2.0, 0), Ok(x(2.0)));
        } else {
            assert_eq!(service.infer(2.0, 100), Err(ANEError::Timeout(100)));
        }
        service.stand_in.let_go();
        wait_until("slots come back", || service.running() == 0);
        assert_eq!(service.manager.pool_statistics().bytes_in_use, idle);
        assert_eq!(service.infer(3.0, 0), Ok(x(3.0)));
    }
}

#[test]
fn a_late_prediction_is_answered_in_time() {
    let service = Service::new((26, 0), "CPU", Batching::OFF);
    service.stand_in.next_takes(Call::Predict, Duration::from_millis(300));
    assert_eq!(service.infer(1.0, 50), Err(ANEError::Timeout(50)));
    wait_until("the slot comes back", || service.running() == 0);
    service.stand_in.next_takes(Call::Predict, Duration::from_millis(20));
    assert_eq!(service.infer(2.0, 60_000), Ok(x(2.0)));
}

#[test]
fn a_model_goes_while_a_prediction_hangs() {
    let service = Service::new((26, 0), "ALL", Batching::OFF);
    service.stand_in.next_hangs(Call::Predict);
    assert_eq!(service.infer(1.0, 50), Err(ANEError::Timeout(50)));
    service.manager.unload_model(service.model).unwrap();
    assert!(matches!(service.infer(1.0, 50), Err(ANEError::ModelNotFound(_))));
    assert!(service.stand_in.live("MLModel") >= 1, "the prediction has it");
    service.stand_in.let_go();
    service.stand_in.wait_for_none_of(&["MLModel", "block"]);
    wait_until("everything comes back", || {
        let pool = service.manager.pool_statistics();
        pool.slots_in_use == 0 && pool.bytes_in_use == 0
    });
}

#[test]
fn buffers_are_read_where_they_are() {
    let service = Service::new((26, 0), "ANE", Batching::OFF);
    for round in 0u8..3 {
        let mut buffer = service.manager.allocate_buffer(1).unwrap();
        buffer[..24].copy_from_slice(&x(f32::from(round)));
        let address = buffer.as_ptr();
        let options = InferenceOptions::default();
        let result = run(service.manager.execute_inference_buffered(service.model, buffer, &options)).unwrap();
        assert_eq!(result.output[..], x(f32::from(round)));
        assert_eq!(service.stand_in.input_address("x"), address.cast());
    }
}

#[test]
fn failures_count_and_units_are_told() {
    let service = Service::new((26, 0), "ALL", Batching::OFF);
    service.stand_in.next_fails(Call::Predict, "com.apple.CoreML", 1, "wrong");
    assert!(matches!(service.infer(1.0, 0), Err(ANEError::InvalidShape(_))));
    // The model was loaded for everything; each failure takes a unit from it.
    for unit in ["GPU", "CPU"] {
        service.stand_in.next_fails(Call::Predict, "com.apple.CoreML", 0, "no more");
        assert_eq!(service.infer(1.0, 0), Ok(x(1.0)));
        assert_eq!(service.manager.list_models()[0].compute_unit.to_string(), unit);
    }
    let models = service.manager.list_models();
    assert_eq!((models[0].compute_unit, models[0].placement.fallbacks.len()), (ComputeUnit::Cpu, 2));
    let health = run(service.manager.health_check()).unwrap();
    assert!(format!("{health:?}").contains("no more"), "{health:?}");
}

#[test]
fn many_callers() {
    for macos in [(26, 0), (12, 0)] {
        let service = Service::new(macos, "ALL", Batching::default());
        thread::scope(|scope| {
            for caller in 0u8..8 {
                let service = &service;
                scope.spawn(move || {
                    for round in 0u8..25 {
                        let first = f32::from(caller) * 100.0 + f32::from(round);
                        assert_eq!(service.infer(first, 0), Ok(x(first)));
                    }
                });
            }
        });
        assert_eq!(service.running(), 0);
    }
}
