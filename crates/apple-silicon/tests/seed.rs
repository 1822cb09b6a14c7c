//! Every example of the contract that this project began from, word for word; around each only what it leaves open.
//! Where the contract itself is at hand, the last test compares.

mod support;

use std::{
    env, fs,
    future::Future,
    path::{Path, PathBuf},
};

use apple_silicon::ane::{
    compat::{
        coreml::detect_coreml_capabilities,
        iokit::{power_status, thermal_status},
    },
    infer::{InferenceOptions, execute_inference},
    manager::ModelId,
    metrics::ewma::PerformanceTracker,
    models::coreml_model::{
        CompilationOptions, LoadedModel, estimate_memory_usage, load_model, validate_ane_compatibility,
    },
    resource_pool::Pool,
};
use support::network::{convolution, neural_network};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A model of 1 x 3 x 224 x 224 in and out, under the names that the contract has.
struct Models {
    folder: tempfile::TempDir,
}

impl Models {
    fn new() -> Models {
        let folder = tempfile::tempdir().unwrap();
        let network = neural_network(&[1, 3, 224, 224], &[convolution(0, 3)]);
        for name in ["efficientnet.mlmodel", "model1.mlmodel", "model2.mlmodel"] {
            fs::write(folder.path().join(name), &network).unwrap();
        }
        Models { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Loaded to compute in fp16, as the contract asks of inferences.
    fn loaded(&self) -> LoadedModel {
        load_model(self.path("efficientnet.mlmodel"), &fp16()).unwrap()
    }

    fn input(&self) -> Vec<f32> {
        vec![0.5; 3 * 224 * 224]
    }
}

fn fp16() -> CompilationOptions {
    CompilationOptions { minimum_precision: Some("fp16".to_owned()), ..CompilationOptions::default() }
}

async fn manager_with_model(models: &Models) -> (ANEManager, ModelId) {
    let manager = ANEManager::new().unwrap();
    let model_id = manager.load_model(models.path("efficientnet.mlmodel"), &fp16()).await.unwrap();
    (manager, model_id)
}

#[test]
fn resource_pool() {
    async fn example() -> Result<()> {
        let (max_concurrent_operations, total_memory_mb, required_memory_mb) = (2, 64, 16);
        // Resource pool configuration
        let pool = Pool::new(max_concurrent_operations, total_memory_mb);

        // Admission request (async)
        let admission = pool.admit(required_memory_mb).await?;
        // The contract unwraps a second time here: `if let Ok(_permit) = admission {`. There is nothing left to unwrap.
        {
            let _permit = admission;
            // Resource allocated, proceed with inference
            // Automatic cleanup when admission drops
            assert_eq!(pool.statistics().bytes_in_use, required_memory_mb << 20);
        }
        assert_eq!(pool.statistics().bytes_in_use, 0);
        Ok(())
    }
    block_on(example()).unwrap();
}

#[test]
fn model_management() {
    fn example(model_path: &Path, compilation_options: CompilationOptions) -> Result<usize> {
        // Model loading with validation
        let loaded_model = load_model(model_path, &compilation_options)?;
        validate_ane_compatibility(&loaded_model)?;

        // Memory estimation for resource planning
        let memory_mb = estimate_memory_usage(&loaded_model);
        Ok(memory_mb)
    }
    let models = Models::new();
    let memory_mb = example(&models.path("efficientnet.mlmodel"), CompilationOptions::default()).unwrap();
    assert!(memory_mb >= 1, "an output of 1 x 3 x 224 x 224 takes 0.6 MB alone: {memory_mb}");
}

#[test]
#[rustfmt::skip]
fn inference_execution() {
    async fn example(model: LoadedModel, input_data: Vec<f32>) -> Result<usize> {
        // Inference execution with options
        let options = InferenceOptions {
            timeout_ms: 5000,
            batch_size: Some(4),
            precision: Some("fp16".to_string()),
            // The contract leaves this field out here, and has it elsewhere.
            compute_units: None,
            enable_monitoring: true,
        };

        let result = execute_inference(&model, &input_data, &options).await?;
        Ok(result.output.len())
    }
    let models = Models::new();
    assert_eq!(block_on(example(models.loaded(), models.input())), Ok(3 * 224 * 224));
}

#[test]
#[rustfmt::skip]
#[allow(unused_mut, reason = "the contract has it")]
fn metrics() {
    // Performance tracking
    let mut tracker = PerformanceTracker::new();
    tracker.update_latency(100.0);  // ms
    tracker.update_throughput(10.0); // IPS
    tracker.update_memory(512.0);   // MB

    let summary = tracker.get_summary();
    // EWMA-smoothed performance metrics
    assert_eq!(summary.average_latency_ms, 100.0);
    assert_eq!(summary.average_throughput_ips, 10.0);
    assert_eq!(summary.memory_usage_mb, 512.0);
}

#[test]
#[rustfmt::skip]
fn compatibility() {
    let capabilities = detect_coreml_capabilities();
    if capabilities.supported_precisions.contains(&"fp16".to_string()) {
        // ANE supports FP16 precision
        assert!(capabilities.ane_available);
    }
    let thermal = thermal_status();     // System temperature
    let power = power_status();        // Power consumption
    println!("{thermal:?} {power:?}");
}

use apple_silicon::ane::manager::{ANEConfig, ANEManager};

#[test]
#[rustfmt::skip]
#[allow(clippy::identity_op, reason = "the contract has it")]
fn basic_inference_pipeline() {
    async fn example() -> Result<()> {
        // 1. Configure manager
        let config = ANEConfig {
            max_concurrent_operations: 4,
            memory_pool_mb: 1024,
            default_timeout_ms: 5000,
        };
        let manager = ANEManager::with_config(config)?;

        // 2. Load model
        let model_id = manager.load_model("efficientnet.mlmodel", &Default::default()).await?;

        // 3. Prepare input (NCHW format for Core ML)
        let input = vec![0.5f32; 1 * 3 * 224 * 224]; // Batch=1, Channels=3, H=224, W=224

        // 4. Execute inference
        let result = manager.execute_inference(model_id, &input, &Default::default()).await?;

        // 5. Process results
        println!("Predictions: {:?}", &result.output[..5]); // Top 5 probabilities
        println!("Latency: {:.2}ms", result.execution_time_ms);
        assert!(result.execution_time_ms > 0.0);
        Ok(())
    }
    let models = Models::new();
    in_folder(models.folder.path(), || block_on(example())).unwrap();
}

#[test]
#[rustfmt::skip]
fn advanced_configuration() {
    async fn example(manager: ANEManager, model_id: ModelId, input: Vec<f32>, input_size_mb: usize) -> Result<()> {
        // Custom inference options
        let options = InferenceOptions {
            timeout_ms: 10000,
            batch_size: Some(8),
            precision: Some("fp16".to_string()),
            compute_units: Some("ANE".to_string()),
            enable_monitoring: true,
        };

        // Resource-constrained inference
        let admission = manager.request_admission(model_id, input_size_mb).await?;
        let result = manager.execute_inference_admitted(admission, &input, &options).await?;
        println!("asked for {:?}, ran on {}", result.preferred, result.compute_unit);
        Ok(())
    }
    let models = Models::new();
    block_on(async {
        let (manager, model_id) = manager_with_model(&models).await;
        example(manager, model_id, models.input(), 1).await
    })
    .unwrap();
}

#[test]
#[rustfmt::skip]
fn monitoring() {
    async fn example(manager: &ANEManager) -> Result<u64> {
        // Performance monitoring
        let metrics = manager.get_performance_summary().await?;
        println!("ANE Performance Summary:");
        println!("  Total Inferences: {}", metrics.total_inferences);
        println!("  Average Latency: {:.2}ms", metrics.average_latency_ms);
        println!("  Throughput: {:.1} IPS", metrics.average_throughput_ips);
        println!("  Memory Usage: {:.1}MB", metrics.memory_usage_mb);

        // Device status
        let device_status = manager.get_device_status().await?;
        println!("Device Status:");
        println!("  Memory Total: {}MB", device_status.memory_total_mb);
        println!("  Max Concurrent: {}", device_status.max_concurrent_models);
        println!("  ANE Available: {}", device_status.ane_available);
        assert_eq!(device_status.memory_total_mb, 1024);
        Ok(metrics.total_inferences)
    }
    let models = Models::new();
    block_on(async {
        let (manager, model_id) = manager_with_model(&models).await;
        for _ in 0..3 {
            manager.execute_inference(model_id, &models.input(), &Default::default()).await.unwrap();
        }
        assert_eq!(example(&manager).await, Ok(3));
    });
}

use apple_silicon::ane::errors::{ANEError, Result};

#[test]
#[rustfmt::skip]
fn error_handling() {
    async fn example(model: LoadedModel, input: Vec<f32>, options: InferenceOptions) {
        match execute_inference(&model, &input, &options).await {
            Ok(result) => {
                // Process successful result
                println!("Inference completed in {:.2}ms", result.execution_time_ms);
            }
            Err(ANEError::Timeout(ms)) => {
                // Handle timeout
                println!("Inference timed out after {}ms", ms);
            }
            Err(ANEError::ResourceLimit(msg)) => {
                // Handle resource exhaustion
                println!("Resource limit: {}", msg);
            }
            Err(ANEError::ModelNotFound(path)) => {
                // Handle missing model
                println!("Model not found: {}", path);
            }
            Err(e) => {
                // Handle other errors
                println!("Inference failed: {}", e);
            }
        }
    }
    let models = Models::new();
    block_on(example(models.loaded(), models.input(), InferenceOptions::default()));
}

#[test]
fn custom_memory_management() {
    async fn example(
        manager: &ANEManager,
        model_id: ModelId,
        size_mb: usize,
        options: InferenceOptions,
    ) -> Result<usize> {
        // Direct buffer allocation for performance-critical paths
        let buffer = manager.allocate_buffer(size_mb)?;
        let result = manager.execute_inference_buffered(model_id, buffer, &options).await?;
        Ok(result.output.len())
    }
    let models = Models::new();
    block_on(async {
        let (manager, model_id) = manager_with_model(&models).await;
        assert_eq!(example(&manager, model_id, 1, InferenceOptions::default()).await, Ok(3 * 224 * 224));
    });
}

#[test]
fn model_preloading() {
    async fn example(manager: &ANEManager) -> Result<usize> {
        // Preload models at startup for reduced latency
        let model_ids = manager.preload_models(&["model1.mlmodel", "model2.mlmodel"]).await?;
        Ok(model_ids.len())
    }
    let models = Models::new();
    let manager = ANEManager::new().unwrap();
    assert_eq!(in_folder(models.folder.path(), || block_on(example(&manager))), Ok(2));
    assert_eq!(manager.list_models().len(), 2);
}

#[test]
#[rustfmt::skip]
fn health_monitoring() {
    fn switch_to_mps_backend() -> Result<&'static str> {
        Ok("another backend")
    }
    async fn example(manager: &ANEManager) -> Result<&'static str> {
        // Continuous health checks
        let health = manager.health_check().await?;
        if !health.ane_available {
            // Fallback to alternative backend
            return switch_to_mps_backend();
        }
        Ok("the Neural Engine")
    }
    let manager = ANEManager::new().unwrap();
    let expected = if detect_coreml_capabilities().ane_available { "the Neural Engine" } else { "another backend" };
    assert_eq!(block_on(example(&manager)), Ok(expected));
}

/// Works in a folder; one test at a time does, since the folder is the process's.
fn in_folder<T>(folder: &Path, work: impl FnOnce() -> T) -> T {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = env::current_dir().unwrap();
    env::set_current_dir(folder).unwrap();
    let result = work();
    env::set_current_dir(before).unwrap();
    result
}

/// Lines of the contract that no test above has: all of them are explained where they would be.
const DIFFERENT: &[&str] = &[
    "if let Ok(_permit) = admission {",
    // Two uses that a file has once, as it may here.
    "use apple_silicon::ane::manager::{ANEManager, ANEConfig};",
    "use apple_silicon::ane::errors::{ANEError, Result};",
];

#[test]
fn examples_are_those_of_the_contract() {
    let Some(seed) = support::shared("seed") else {
        println!("skipped: the contract is not at hand");
        return;
    };
    let contract = fs::read_to_string(seed.join("ane-manager.md")).unwrap();
    let tests: Vec<&str> = include_str!("seed.rs").lines().map(str::trim).collect();
    let mut compared = 0;
    for block in contract.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        // Definitions are compared by the compiler, which sees every field in the examples.
        if block.trim_start().starts_with("pub ") {
            continue;
        }
        for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
            assert!(tests.contains(&line) || DIFFERENT.contains(&line), "the contract's line is not in a test: {line}");
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared} lines were compared");
}
