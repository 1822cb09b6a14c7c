//! The manager, as a service meets it: on whatever engine there is.

mod support;

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use apple_silicon::ane::{
    engines::{EngineChoice, start},
    errors::{ANEError, Result},
    features::{Array, ArrayType, Feature, Features, Image, Pixels},
    infer::{Batching, ComputeUnit, ComputeUnits, InferenceOptions, InferenceResult},
    manager::{ANEConfig, ANEManager, ModelId, ModelOptions},
    models::coreml_model::CompilationOptions,
};
use support::network::{convolution, flexible_network, inner_product, neural_network, relu, softmax};

/// A folder of models, and a manager.
struct Service {
    folder: tempfile::TempDir,
    manager: ANEManager,
}

impl Service {
    fn new(max_concurrent_operations: usize, memory_pool_mb: usize) -> Service {
        let config = ANEConfig { max_concurrent_operations, memory_pool_mb, default_timeout_ms: 60_000 };
        Service { folder: tempfile::tempdir().unwrap(), manager: ANEManager::with_config(config).unwrap() }
    }

    fn write(&self, name: &str, model: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, model).unwrap();
        path
    }

    async fn load(&self, path: &Path) -> ModelId {
        self.manager.load_model(path, &CompilationOptions::default()).await.unwrap()
    }

    /// A model that takes 1 to 64 rows of 8 numbers, and multiplies them by a matrix.
    async fn rows(&self, name: &str, batching: Batching) -> ModelId {
        let path = self.write(name, &flexible_network(&[1, 8], 64, &[inner_product(0, 8), relu(1)]));
        let options = ModelOptions { batching, ..ModelOptions::default() };
        self.manager.load_model_with(&path, &options).await.unwrap()
    }

    /// A model whose run takes about half a second.
    async fn slow(&self) -> (ModelId, Vec<f32>) {
        let rten = start(EngineChoice::Auto, None).unwrap().engine == "rten";
        let layers: Vec<Vec<u8>> = (0..if rten { 3 } else { 48 }).map(|n| convolution(n, 64)).collect();
        let path = self.write("slow.mlmodel", &neural_network(&[1, 64, 256, 256], &layers));
        (self.load(&path).await, vec![0.25; 64 * 256 * 256])
    }

    /// Waits until nothing runs: what was given up ends by itself, but not at once.
    async fn quiet(&self) {
        for _ in 0..6000 {
            let pool = self.manager.pool_statistics();
            if pool.slots_in_use == 0 && pool.waiting == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("something still runs: {:?}", self.manager.pool_statistics());
    }

    /// Checks that the pool holds the models' weights and nothing else.
    async fn check_idle(&self) {
        self.quiet().await;
        let pool = self.manager.pool_statistics();
        let weights: usize = self.manager.list_models().iter().map(|model| model.weight_bytes).sum();
        assert_eq!(self.manager.buffer_use().used, 0);
        let buffers = self.manager.buffer_use().idle_bytes;
        // The pool counts in units.
        let held = pool.bytes_in_use.saturating_sub(weights + buffers);
        assert!(held <= 4096 * (self.manager.list_models().len() + 1), "{held} bytes are held: {pool:?}");
        assert!(self.manager.list_models().iter().all(|model| model.waiting == 0));
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap().block_on(future)
}

fn row(seed: usize) -> Vec<f32> {
    (0..8).map(|i| ((seed * 8 + i) % 23) as f32 / 23.0 - 0.4).collect()
}

fn within(timeout_ms: u64) -> InferenceOptions {
    InferenceOptions { timeout_ms, ..InferenceOptions::default() }
}

#[test]
fn models_come_and_go() {
    run(async {
        let service = Service::new(2, 64);
        let path = service.write("a.mlmodel", &neural_network(&[1, 8], &[relu(0)]));
        let id = service.load(&path).await;
        let again = service.manager.load_model(&path, &CompilationOptions::default()).await;
        assert!(
            matches!(&again, Err(ANEError::ModelAlreadyLoaded(why)) if why.ends_with("it is loaded already, as model 1")),
            "{again:?}"
        );
        // The same file in another precision is another model.
        let fp16 = CompilationOptions { minimum_precision: Some("FP16".to_owned()), ..CompilationOptions::default() };
        let half = service.manager.load_model(&path, &fp16).await.unwrap();
        let listed: Vec<String> =
            service.manager.list_models().iter().map(|m| format!("{} {}", m.id, m.precision)).collect();
        assert_eq!(listed, ["model 1 fp32", "model 2 fp16"]);
        service.manager.unload_model(id).unwrap();
        let gone = service.manager.execute_inference(id, &[0.0; 8], &InferenceOptions::default()).await;
        assert_eq!(gone, Err(ANEError::ModelNotFound("there is no model 1; there is: model 2".to_owned())));
        assert!(service.manager.unload_model(id).is_err());
        service.manager.unload_model(half).unwrap();
        assert_eq!(service.manager.pool_statistics().bytes_in_use, 0);
        let missing = service.manager.load_model("none.mlmodel", &CompilationOptions::default()).await;
        assert!(matches!(missing, Err(ANEError::ModelNotFound(_))), "{missing:?}");
    });
}

#[test]
fn a_preload_is_all_or_nothing_and_tells_how_far_it_is() {
    run(async {
        let service = Service::new(2, 64);
        let paths: Vec<PathBuf> =
            (0..5).map(|n| service.write(&format!("{n}.mlmodel"), &neural_network(&[1, 8 + n], &[relu(0)]))).collect();
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tell = told.clone();
        let ids = service
            .manager
            .preload_models_with(&paths, &ModelOptions::default(), move |p| {
                tell.lock().unwrap().push((p.loaded, p.total))
            })
            .await
            .unwrap();
        assert_eq!(*told.lock().unwrap(), [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(service.manager.model(*id).unwrap().path(), paths[n], "in the order of the paths");
        }
        let damaged = service.write("damaged.mlmodel", b"nothing");
        let fresh = service.write("fresh.mlmodel", &neural_network(&[1, 99], &[relu(0)]));
        let failed = service.manager.preload_models(&[fresh, damaged]).await;
        assert!(matches!(failed, Err(ANEError::InvalidModelFormat(_))), "{failed:?}");
        assert_eq!(service.manager.list_models().len(), 5, "what was loaded beside it is unloaded again");
        // One that fails on the zeros of a warm-up is still a model.
        let divides = fixture("floor_div/int32").expect("a fixture");
        let id = service.manager.preload_models(&[divides]).await.unwrap()[0];
        service.manager.unload_model(id).unwrap();
        assert!(service.manager.warm_up(ids[0]).await.is_ok());
        assert_eq!(service.manager.get_performance_summary().await.unwrap().total_inferences, 0);
    });
}

#[test]
fn warm_ups_and_trials_have_their_share_of_the_pool() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let config = ANEConfig { max_concurrent_operations: 3, memory_pool_mb: 64, default_timeout_ms: 50 };
        let service = Service { folder, manager: ANEManager::with_config(config).unwrap() };
        let fixed = service.write("fixed.mlmodel", &neural_network(&[1, 8], &[relu(0)]));
        let id = service.load(&fixed).await;
        let admissions = || service.manager.pool_statistics().admissions;
        assert_eq!(admissions(), 0, "a load without a trial");
        service.manager.warm_up(id).await.unwrap();
        assert_eq!(admissions(), 3);
        let rows = service.write("rows.mlmodel", &flexible_network(&[1, 8], 64, &[relu(0)]));
        let batched = service.load(&rows).await;
        assert_eq!((admissions(), service.manager.list_models()[1].batching), (4, Batching::default()));
        service.manager.unload_model(batched).unwrap();
        service.manager.unload_model(service.manager.preload_models(&[&rows]).await.unwrap()[0]).unwrap();
        assert_eq!(admissions(), 6, "a trial, and one run to warm it up");
        service.check_idle().await;
        let held = [
            service.manager.request_admission(id, 0).await.unwrap(),
            service.manager.request_admission(id, 0).await.unwrap(),
            service.manager.request_admission(id, 0).await.unwrap(),
        ];
        assert_eq!(service.manager.warm_up(id).await, Err(ANEError::Timeout(50)));
        let refused = service.manager.load_model(&rows, &CompilationOptions::default()).await;
        assert_eq!(refused, Err(ANEError::Timeout(50)));
        drop(held);
        // Neither has kept anything, and two at a time do not wait for each other.
        let both = tokio::join!(service.manager.warm_up(id), service.manager.warm_up(id));
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
        assert_eq!(service.manager.list_models().len(), 1);
        service.check_idle().await;
    });
}

#[test]
fn where_there_is_no_room_for_a_batch_there_is_none() {
    run(async {
        let service = Service::new(1, 16);
        // A run on one row takes more than 1 MB.
        let path = service.write("wide.mlmodel", &flexible_network(&[1, 3 << 16], 64, &[relu(0)]));
        let first = service.load(&path).await;
        let model = service.manager.list_models().pop().unwrap();
        assert_eq!(model.batching, Batching::default());
        service.manager.unload_model(first).unwrap();
        // That leaves room for one of them, and not for two.
        let _buffer = service.manager.allocate_buffer(16 - model.working_set_bytes.div_ceil(1 << 20)).unwrap();
        service.load(&path).await;
        assert_eq!(service.manager.list_models()[0].batching, Batching::OFF);
    });
}

#[test]
fn preferences_are_checked_and_never_ignored() {
    run(async {
        let service = Service::new(1, 64);
        let id = service.rows("rows.mlmodel", Batching::default()).await;
        let options = |units: Option<&str>, precision: Option<&str>| InferenceOptions {
            compute_units: units.map(str::to_owned),
            precision: precision.map(str::to_owned),
            ..InferenceOptions::default()
        };
        let try_with = |options: InferenceOptions| {
            let manager = service.manager.clone();
            async move { manager.execute_inference(id, &row(0), &options).await }
        };
        for (units, preferred) in [("ANE", ComputeUnits::Ane), ("gpu", ComputeUnits::Gpu), ("Cpu", ComputeUnits::Cpu)] {
            let result = try_with(options(Some(units), None)).await.unwrap();
            assert_eq!(result.preferred, preferred);
            if !cfg!(target_vendor = "apple") {
                assert_eq!(result.compute_unit, ComputeUnit::Cpu, "it says what ran");
            }
        }
        let wrong = try_with(options(Some("npu"), None)).await.unwrap_err().to_string();
        assert_eq!(wrong, "there are no compute units \"npu\"; choose \"ANE\", \"GPU\", \"CPU\" or \"ALL\"");
        assert!(try_with(options(None, Some("fp32"))).await.is_ok());
        for (precision, said) in
            [("fp16", "computes in fp32"), ("int8", "computes in fp32"), ("fp8", "no precision \"fp8\"")]
        {
            let error = try_with(options(None, Some(precision))).await.unwrap_err();
            assert!(matches!(&error, ANEError::UnsupportedPrecision(why) if why.contains(said)), "{error}");
        }
        let none = InferenceOptions { batch_size: Some(0), ..InferenceOptions::default() };
        assert!(matches!(try_with(none).await, Err(ANEError::InvalidShape(_))));
        let int8 = CompilationOptions { minimum_precision: Some("int8".to_owned()), ..CompilationOptions::default() };
        let refused = service.manager.load_model(service.folder.path().join("rows.mlmodel"), &int8).await;
        assert!(matches!(refused, Err(ANEError::UnsupportedPrecision(_))), "{refused:?}");
    });
}

#[test]
fn fp16_rounds_as_the_neural_engine_does() {
    run(async {
        let service = Service::new(1, 64);
        let path = service.write("relu.mlmodel", &neural_network(&[1, 8], &[relu(0)]));
        let fp16 = CompilationOptions { minimum_precision: Some("fp16".to_owned()), ..CompilationOptions::default() };
        let id = service.manager.load_model(&path, &fp16).await.unwrap();
        let input = [0.1, 2049.0, 70000.0, -1.0, 1e-9, 65519.0, 65520.0, 0.5];
        let result = service.manager.execute_inference(id, &input, &InferenceOptions::default()).await.unwrap();
        let fp32 = service.load(&path).await;
        let exact = service.manager.execute_inference(fp32, &input, &InferenceOptions::default()).await.unwrap();
        assert_eq!(exact.output, [0.1, 2049.0, 70000.0, 0.0, 1e-9, 65519.0, 65520.0, 0.5]);
        if result.engine == "onnxruntime" {
            let half = |v: f32| half::f16::from_f32(v).to_f32();
            let expected: Vec<f32> = input.iter().map(|&v| half(v).max(0.0)).collect();
            assert_eq!(result.output, expected);
        }
    });
}

#[test]
fn an_input_is_split_and_joined() {
    run(async {
        let service = Service::new(2, 64);
        let id = service.rows("rows.mlmodel", Batching::default()).await;
        let input: Vec<f32> = (0..10).flat_map(row).collect();
        let options = |batch_size| InferenceOptions { batch_size, ..InferenceOptions::default() };
        let whole = service.manager.execute_inference(id, &input, &options(None)).await.unwrap();
        assert_eq!((whole.output.len(), whole.batch), (80, 10));
        for batch_size in [1, 3, 4, 10, 99] {
            let split = service.manager.execute_inference(id, &input, &options(Some(batch_size))).await.unwrap();
            assert_close(&split.output, &whole.output);
        }
        let fixed = service.write("fixed.mlmodel", &neural_network(&[1, 8], &[relu(0)]));
        let fixed = service.load(&fixed).await;
        let split = service.manager.execute_inference(fixed, &input, &options(Some(4))).await.unwrap();
        assert_eq!(split.output, input.iter().map(|v| v.max(0.0)).collect::<Vec<f32>>(), "one after the other");
        for (id, len, batch_size, said) in [
            (id, 12, None, "8 values for each sample, not 12"),
            (id, 12, Some(2), "8 values for each sample, not 12"),
            (id, 0, None, "8 values for each sample, not 0"),
            (id, 65 * 8, None, "8 values for each sample, not 520"),
            (fixed, 9, None, "8 values, not 9"),
        ] {
            let wrong = service.manager.execute_inference(id, &vec![0.0; len], &options(batch_size)).await;
            assert!(matches!(&wrong, Err(ANEError::InvalidShape(why)) if why.contains(said)), "{wrong:?}");
        }
        let features = Features::from_iter([("x0", Array::new([10, 8], input.clone()).unwrap())]);
        for batch_size in [None, Some(3), Some(10)] {
            let typed = service.manager.predict(id, features.clone(), &options(batch_size)).await.unwrap();
            let array = typed.output.get("x2").unwrap().as_array().unwrap();
            assert_eq!((array.shape(), typed.samples), (&[10, 8][..], 10));
            assert_close(&array.to_f32s(), &whole.output);
        }
        // More than the model takes at a time, or than it takes at all.
        for (id, rows, batch_size) in [(id, 100, 32), (fixed, 3, 4)] {
            let values: Vec<f32> = (0..rows).flat_map(row).collect();
            let features = Features::from_iter([("x0", Array::new([rows, 8], values.clone()).unwrap())]);
            let typed = service.manager.predict(id, features, &options(Some(batch_size))).await.unwrap();
            let plain = service.manager.execute_inference(id, &values, &options(Some(batch_size))).await.unwrap();
            let (_, output) = typed.output.iter().next().unwrap();
            assert_eq!((output.as_array().unwrap().shape(), typed.samples), (&[rows, 8][..], rows));
            assert_close(&output.as_array().unwrap().to_f32s(), &plain.output);
        }
        let single = Features::from_iter([("x0", Array::new([1, 8], row(0)).unwrap())]);
        let typed = service.manager.predict(fixed, single, &options(Some(4))).await.unwrap();
        assert_eq!(typed.output.get("x1").unwrap().as_array().unwrap().shape(), [1, 8]);
        service.check_idle().await;
    });
}

#[test]
fn requests_are_gathered_and_each_gets_its_own() {
    run(async {
        let service = Service::new(1, 64);
        let id =
            service.rows("rows.mlmodel", Batching { max_batch: 16, max_queue_delay: Duration::from_millis(20) }).await;
        assert_eq!(service.manager.list_models()[0].batching.max_batch, 16);
        let alone = service.rows("alone.mlmodel", Batching::OFF).await;
        let mut tasks = Vec::new();
        for seed in 0..200 {
            let manager = service.manager.clone();
            tasks.push(tokio::spawn(async move {
                // Every seventh is wrong, and fails alone.
                let input = if seed % 7 == 3 { vec![0.0; 5] } else { row(seed) };
                let joined = manager.execute_inference(id, &input, &InferenceOptions::default()).await;
                let single = manager.execute_inference(alone, &input, &InferenceOptions::default()).await;
                (seed, joined, single)
            }));
        }
        let mut largest = 0;
        for task in tasks {
            let (seed, joined, single) = task.await.unwrap();
            if seed % 7 == 3 {
                assert!(matches!(joined, Err(ANEError::InvalidShape(_))), "{joined:?}");
                continue;
            }
            let (joined, single) = (joined.unwrap(), single.unwrap());
            assert_close(&joined.output, &single.output);
            assert_eq!(single.batch, 1);
            largest = largest.max(joined.batch);
        }
        assert!((2..=16).contains(&largest), "the largest batch had {largest}");
        service.check_idle().await;
    });
}

#[test]
fn typed_requests_are_gathered_too() {
    run(async {
        let service = Service::new(1, 64);
        let id =
            service.rows("rows.mlmodel", Batching { max_batch: 8, max_queue_delay: Duration::from_millis(20) }).await;
        let mut tasks = Vec::new();
        for seed in 0..40 {
            let manager = service.manager.clone();
            tasks.push(tokio::spawn(async move {
                let features = Features::from_iter([("x0", Array::new([1, 8], row(seed)).unwrap())]);
                let typed = manager.predict(id, features, &InferenceOptions::default()).await.unwrap();
                let plain = manager.execute_inference(id, &row(seed), &InferenceOptions::default()).await.unwrap();
                assert_close(&typed.output.get("x2").unwrap().as_array().unwrap().to_f32s(), &plain.output);
                typed.batch
            }));
        }
        let mut largest = 0;
        for task in tasks {
            largest = largest.max(task.await.unwrap());
        }
        assert!(largest > 1, "none was gathered");
        let wrong = Features::from_iter([("y", 1)]);
        let error = service.manager.predict(id, wrong, &InferenceOptions::default()).await.unwrap_err();
        assert!(matches!(&error, ANEError::InvalidShape(why) if why.contains("no input \"y\"")), "{error}");
        service.check_idle().await;
    });
}

#[test]
fn a_first_dimension_that_is_no_batch_is_found_out() {
    run(async {
        let service = Service::new(1, 64);
        for (axis, batching) in [(0, Batching::OFF), (1, Batching::default())] {
            let path = service.write(&format!("{axis}.mlmodel"), &flexible_network(&[1, 8], 64, &[softmax(0, axis)]));
            let id = service.load(&path).await;
            let model = service.manager.list_models().pop().unwrap();
            assert_eq!((model.id, model.batching), (id, batching), "a softmax along axis {axis}");
        }
    });
}

fn fixture(name: &str) -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests/ops").join(name).join("model.mlpackage");
    path.is_dir().then_some(path)
}

#[test]
fn deadlines_end_runs_and_permits_come_back_when_they_have() {
    run(async {
        let service = Service::new(1, 512);
        let (id, input) = service.slow().await;
        let len = |result: Result<InferenceResult>| result.map(|result| result.output.len());
        let late = service.manager.execute_inference(id, &input, &within(50)).await;
        assert_eq!(len(late), Err(ANEError::Timeout(50)));
        // One that waits behind it for the only slot has a deadline of its own.
        let patient = within(60_000);
        let first = service.manager.execute_inference(id, &input, &patient);
        let second = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            service.manager.execute_inference(id, &input, &within(30)).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(len(first), Ok(input.len()));
        assert_eq!(len(second), Err(ANEError::Timeout(30)));
        service.check_idle().await;
    });
}

#[test]
fn futures_dropped_anywhere_leave_nothing_behind() {
    run(async {
        let service = Service::new(2, 64);
        let rows = service.rows("rows.mlmodel", Batching::default()).await;
        let delayed =
            service.rows("delayed.mlmodel", Batching { max_batch: 8, max_queue_delay: Duration::from_millis(3) }).await;
        let before = service.manager.pool_statistics().bytes_in_use;
        let mut random = 1u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut answered, mut dropped) = (0, 0);
        for n in 0..1000u64 {
            let manager = service.manager.clone();
            let id = if n % 2 == 0 { rows } else { delayed };
            let kind = next(4);
            let task = tokio::spawn(async move {
                let options = InferenceOptions::default();
                match kind {
                    0 => {
                        let buffer = manager.allocate_buffer(1)?;
                        manager.execute_inference_buffered(id, buffer, &options).await.map(drop)
                    }
                    1 => {
                        let admission = manager.request_admission(id, 1).await?;
                        manager.execute_inference_admitted(admission, &row(1), &options).await.map(drop)
                    }
                    2 => {
                        let features = Features::from_iter([("x0", Array::new([1, 8], row(2))?)]);
                        manager.predict(id, features, &options).await.map(drop)
                    }
                    _ => manager.execute_inference(id, &row(n as usize), &options).await.map(drop),
                }
            });
            for _ in 0..next(4) {
                tokio::task::yield_now().await;
            }
            if next(3) > 0 {
                tokio::time::sleep(Duration::from_micros(next(300))).await;
            }
            task.abort();
            match task.await {
                Ok(result) => {
                    result.unwrap();
                    answered += 1;
                }
                Err(error) if error.is_cancelled() => dropped += 1,
                Err(error) => panic!("{error}"),
            }
        }
        println!("{answered} were answered and {dropped} dropped");
        assert!(answered > 50 && dropped > 50, "{answered} were answered and {dropped} dropped");
        service.check_idle().await;
        let idle = service.manager.buffer_use().idle_bytes;
        assert_eq!(service.manager.pool_statistics().bytes_in_use, before + idle);
    });
}

#[test]
fn sixteen_models_all_make_progress() {
    run(async {
        let service = Service::new(2, 256);
        let mut models = Vec::new();
        for n in 0..16 {
            let name = format!("{n}.mlmodel");
            // Some are much slower than others.
            let (network, len) = if n % 4 == 0 {
                let layers: Vec<Vec<u8>> = (0..2).map(|n| convolution(n, 32)).collect();
                (neural_network(&[1, 32, 48, 48], &layers), 32 * 48 * 48)
            } else {
                (flexible_network(&[1, 8], 64, &[inner_product(0, 8), relu(1)]), 8)
            };
            models.push((service.load(&service.write(&name, &network)).await, len));
        }
        let mut tasks = Vec::new();
        for (id, len) in models.iter().copied().flat_map(|model| [model; 3]) {
            let manager = service.manager.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..20 {
                    manager.execute_inference(id, &vec![0.5; len], &InferenceOptions::default()).await?;
                }
                Ok::<_, ANEError>(())
            }));
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        for (id, _) in models {
            assert_eq!(service.manager.model_performance(id).unwrap().total_inferences, 60);
        }
        assert_eq!(service.manager.get_performance_summary().await.unwrap().total_inferences, 16 * 60);
        service.check_idle().await;
    });
}

#[test]
fn memory_is_a_limit() {
    run(async {
        // 2048 x 2048 floats are 16 MB.
        let service = Service::new(2, 24);
        let big = service.write("big.mlmodel", &neural_network(&[1, 2048], &[inner_product(0, 2048)]));
        let id = service.load(&big).await;
        assert!(service.manager.list_models()[0].weight_bytes >= 16 << 20);
        let other = service.write("other.mlmodel", &neural_network(&[1, 2048], &[inner_product(0, 2048)]));
        let refused = service.manager.load_model(&other, &CompilationOptions::default()).await;
        assert!(
            matches!(&refused, Err(ANEError::ResourceLimit(why)) if why.contains("other models and buffers hold 16")),
            "{refused:?}"
        );
        let too_big = service.write("huge.mlmodel", &neural_network(&[1, 3072], &[inner_product(0, 3072)]));
        let refused = service.manager.load_model(&too_big, &CompilationOptions::default()).await;
        assert!(
            matches!(&refused, Err(ANEError::ResourceLimit(why)) if why.contains("the pool has 24 MB")),
            "{refused:?}"
        );
        let buffer = service.manager.allocate_buffer(4).unwrap();
        assert!(matches!(service.manager.allocate_buffer(8), Err(ANEError::ResourceLimit(_))));
        drop(buffer);
        // What lies idle makes room.
        assert_eq!(service.manager.buffer_use().idle, 1);
        drop(service.manager.allocate_buffer(7).unwrap());
        assert!(matches!(service.manager.request_admission(id, 1000).await, Err(ANEError::ResourceLimit(_))));
        let held = service.manager.request_admission(id, 0).await.unwrap();
        assert_eq!(held.model(), id);
        drop(held);
        service.manager.unload_model(id).unwrap();
        service.load(&other).await;
        for config in [
            ANEConfig { max_concurrent_operations: 0, ..ANEConfig::default() },
            ANEConfig { memory_pool_mb: 0, ..ANEConfig::default() },
            ANEConfig { default_timeout_ms: 0, ..ANEConfig::default() },
        ] {
            assert!(matches!(ANEManager::with_config(config), Err(ANEError::ResourceLimit(_))));
        }
    });
}

#[test]
fn idle_buffers_make_room_for_runs() {
    run(async {
        let service = Service::new(1, 4);
        let id = service.rows("rows.mlmodel", Batching::default()).await;
        drop(service.manager.allocate_buffer(3).unwrap());
        assert_eq!(service.manager.buffer_use().idle_bytes, 3 << 20);
        drop(service.manager.request_admission(id, 2).await.unwrap());
        assert_eq!(service.manager.buffer_use().idle_bytes, 0);
        // A run that waits has the same.
        let path = service.write("wide.mlmodel", &flexible_network(&[1, 8], 65536, &[relu(0)]));
        let wide = service.load(&path).await;
        drop(service.manager.allocate_buffer(3).unwrap());
        let input = vec![0.5; 8 * 20000];
        let result = service.manager.execute_inference(wide, &input, &InferenceOptions::default()).await.unwrap();
        assert_eq!((result.output.len(), service.manager.buffer_use().idle_bytes), (8 * 20000, 0));
    });
}

#[test]
fn a_load_that_nobody_waits_for_is_undone() {
    run(async {
        let service = Service::new(1, 64);
        let path = service.write("a.mlmodel", &neural_network(&[1, 8], &[relu(0)]));
        let options = CompilationOptions::default();
        {
            let mut load = std::pin::pin!(service.manager.load_model(&path, &options));
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(load.as_mut().poll(context))).await;
            assert!(polled.is_pending(), "it takes a thread");
        }
        for _ in 0..1000 {
            match service.manager.load_model(&path, &options).await {
                Ok(_) => return,
                Err(ANEError::ModelAlreadyLoaded(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the first load stays");
    });
}

#[test]
fn weights_are_held_until_the_last_run_has_ended() {
    run(async {
        let service = Service::new(1, 512);
        let (id, input) = service.slow().await;
        let patient = within(60_000);
        let running = service.manager.execute_inference(id, &input, &patient);
        let unload = async {
            while service.manager.pool_statistics().slots_in_use == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            service.manager.unload_model(id).unwrap();
            service.manager.pool_statistics().bytes_reserved
        };
        let (result, reserved) = tokio::join!(running, unload);
        assert!(result.is_ok());
        assert!(reserved > 100 << 10, "{reserved} bytes of weights are held");
        // The thread that ran it lets go of it a moment after its answer.
        for _ in 0..6000 {
            if service.manager.pool_statistics().bytes_in_use == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", service.manager.pool_statistics());
    });
}

#[test]
fn buffers_are_read_where_they_are_and_used_again() {
    run(async {
        let service = Service::new(1, 64);
        let id = service.rows("rows.mlmodel", Batching::default()).await;
        let mut last = None;
        for seed in 0..20 {
            let mut buffer = service.manager.allocate_buffer(1).unwrap();
            buffer[..8].copy_from_slice(&row(seed));
            let result =
                service.manager.execute_inference_buffered(id, buffer, &InferenceOptions::default()).await.unwrap();
            let plain = service.manager.execute_inference(id, &row(seed), &InferenceOptions::default()).await.unwrap();
            assert_close(&result.output, &plain.output);
            last = Some(result);
        }
        assert_eq!(service.manager.buffer_use().idle, 1, "one was enough for all");
        let mut buffer = service.manager.allocate_buffer(1).unwrap();
        buffer[..16].copy_from_slice(&[row(1), row(2)].concat());
        let two = InferenceOptions { batch_size: Some(2), ..InferenceOptions::default() };
        let result = service.manager.execute_inference_buffered(id, buffer, &two).await.unwrap();
        assert_eq!(result.output.len(), 16);
        let many = InferenceOptions { batch_size: Some(1 << 40), ..InferenceOptions::default() };
        let buffer = service.manager.allocate_buffer(1).unwrap();
        let wrong = service.manager.execute_inference_buffered(id, buffer, &many).await;
        assert!(matches!(wrong, Err(ANEError::InvalidShape(_))), "{wrong:?}");
        drop(last);
        service.check_idle().await;
    });
}

#[test]
fn states_live_on_where_a_prediction_succeeds() {
    run(async {
        let Some(path) = fixture("write_state/accumulate") else { panic!("a fixture is missing") };
        let service = Service::new(1, 64);
        let id = service.load(&path).await;
        let model = service.manager.model(id).unwrap();
        let coreml_format::schema::FeatureKind::MultiArray(kind) = &model.interface().inputs[0].kind else { panic!() };
        let features = || {
            let array = Array::filled(ArrayType::Float32, kind.shape.clone(), 0.5).unwrap();
            Features::from_iter([(model.interface().inputs[0].name.clone(), array)])
        };
        let options = InferenceOptions::default();
        let mut state = model.new_state().unwrap();
        let first = service.manager.predict_with_state(id, features(), &mut state, &options).await.unwrap();
        let second = service.manager.predict_with_state(id, features(), &mut state, &options).await.unwrap();
        assert_ne!(first.output, second.output, "it remembers");
        let afresh = service.manager.predict(id, features(), &options).await.unwrap();
        assert_eq!(first.output, afresh.output, "without a state it starts from zeros");
        let kept = state.clone();
        let wrong = Features::from_iter([("none", 1)]);
        assert!(service.manager.predict_with_state(id, wrong, &mut state, &options).await.is_err());
        let third = service.manager.predict_with_state(id, features(), &mut state, &options).await.unwrap();
        let mut kept = kept;
        let same = service.manager.predict_with_state(id, features(), &mut kept, &options).await.unwrap();
        assert_eq!(third.output, same.output, "a failure left the state as it was");
    });
}

#[test]
fn pictures_and_labels_go_through() {
    run(async {
        let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/digits.mlpackage");
        let service = Service::new(1, 64);
        let id = service.load(&digits).await;
        let model = service.manager.model(id).unwrap();
        let input = &model.interface().inputs[0];
        let coreml_format::schema::FeatureKind::Image(kind) = &input.kind else { panic!("{input:?}") };
        let picture = Image::new(kind.width, kind.height, Pixels::Gray(vec![0; kind.width * kind.height])).unwrap();
        let features = Features::from_iter([(input.name.clone(), Feature::Image(picture))]);
        let typed = service.manager.predict(id, features, &InferenceOptions::default()).await.unwrap();
        assert!(matches!(typed.output.get("classLabel"), Some(Feature::Int64(_) | Feature::String(_))));
        let zeros = vec![0.0; kind.width * kind.height];
        let plain = service.manager.execute_inference(id, &zeros, &InferenceOptions::default()).await.unwrap();
        assert_eq!(plain.output.len(), 10, "scores in the order of the labels");
        assert!((plain.output.iter().sum::<f32>() - 1.0).abs() < 1e-3);
    });
}

#[test]
fn health_says_what_is_not_as_it_should_be() {
    run(async {
        let service = Service::new(1, 64);
        let health = service.manager.health_check().await.unwrap();
        if !health.ane_available {
            assert!(health.reasons.iter().any(|reason| reason.subject == "ane"), "{health:?}");
        }
        assert_eq!(health.compute_units.last(), Some(&ComputeUnit::Cpu));
        let status = service.manager.get_device_status().await.unwrap();
        assert_eq!((status.memory_total_mb, status.max_concurrent_models, status.running), (64, 1, 0));
        assert!(!status.engines.is_empty());
    });
}

#[track_caller]
fn assert_close(a: &[f32], b: &[f32]) {
    let near = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()));
    assert!(near, "{a:?} is not {b:?}");
}

#[allow(dead_code, reason = "futures must go to other threads")]
fn futures_are_send(manager: &ANEManager, id: ModelId) {
    fn send(_: impl Send) {}
    send(manager.execute_inference(id, &[], &InferenceOptions::default()));
    send(manager.predict(id, Features::new(), &InferenceOptions::default()));
    send(manager.load_model("", &CompilationOptions::default()));
    send(async { manager.preload_models(&[""]).await });
}
