//! Every error has a real cause, and says what to do.

mod support;

use std::{fs, future::Future, path::Path};

#[cfg(not(target_vendor = "apple"))]
use apple_silicon::ane::{
    engines::EngineChoice,
    models::coreml_model::{CoreMlModel, LoadOptions},
};
use apple_silicon::ane::{
    errors::ANEError,
    features::{Array, ArrayType, Features},
    infer::InferenceOptions,
    manager::{ANEConfig, ANEManager, ModelId, ModelOptions},
    metrics::ErrorKind,
    models::coreml_model::CompilationOptions,
};
use support::network::{neural_network, relu};

/// A manager with a model of 8 numbers.
struct Service {
    folder: tempfile::TempDir,
    manager: ANEManager,
    model: ModelId,
}

impl Service {
    fn new() -> Service {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("relu.mlmodel"), neural_network(&[1, 8], &[relu(0)])).unwrap();
        let config = ANEConfig { max_concurrent_operations: 1, memory_pool_mb: 4, default_timeout_ms: 60_000 };
        let manager = ANEManager::with_config(config).unwrap();
        let model = run(manager.load_model(folder.path().join("relu.mlmodel"), &Default::default())).unwrap();
        Service { folder, manager, model }
    }

    fn load(&self, name: &str) -> ANEError {
        run(self.manager.load_model(self.folder.path().join(name), &CompilationOptions::default())).unwrap_err()
    }

    fn infer(&self, input: &[f32], options: InferenceOptions) -> ANEError {
        run(self.manager.execute_inference(self.model, input, &options)).unwrap_err()
    }

    fn raise(&self, kind: ErrorKind) -> ANEError {
        let options = InferenceOptions::default();
        match kind {
            #[cfg(not(target_vendor = "apple"))]
            ErrorKind::Unavailable => {
                let options = LoadOptions { engine: EngineChoice::CoreMl, ..LoadOptions::default() };
                CoreMlModel::load(self.folder.path().join("relu.mlmodel"), &options).unwrap_err()
            }
            // Core ML is part of the system there.
            #[cfg(target_vendor = "apple")]
            ErrorKind::Unavailable => ANEError::Unavailable,
            ErrorKind::ModelNotFound => self.load("none.mlmodel"),
            ErrorKind::InvalidModelFormat => {
                fs::write(self.folder.path().join("damaged.mlmodel"), "nothing").unwrap();
                self.load("damaged.mlmodel")
            }
            ErrorKind::CompilationFailed => {
                self.infer(&[0.0; 8], InferenceOptions { compute_units: Some("TPU".to_owned()), ..options })
            }
            // A division of whole numbers by zero.
            ErrorKind::InferenceFailed => {
                let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests/ops");
                let model =
                    run(self.manager.load_model(ops.join("floor_div/int32/model.mlpackage"), &Default::default()));
                let loaded = self.manager.model(model.clone().unwrap()).unwrap();
                let zeros = loaded.interface().inputs.iter().map(|input| {
                    let coreml_format::schema::FeatureKind::MultiArray(kind) = &input.kind else { panic!("{input:?}") };
                    (input.name.clone(), Array::filled(kind.dtype, kind.shape.clone(), 0.0).unwrap())
                });
                run(self.manager.predict(model.unwrap(), Features::from_iter(zeros), &options)).unwrap_err()
            }
            ErrorKind::Timeout => {
                let held = run(self.manager.request_admission(self.model, 0)).unwrap();
                let late = self.infer(&[0.0; 8], InferenceOptions { timeout_ms: 1, ..options });
                drop(held);
                late
            }
            ErrorKind::ResourceLimit => self.manager.allocate_buffer(5).unwrap_err(),
            ErrorKind::MemoryAllocationFailed => Array::filled(ArrayType::Float64, [usize::MAX / 16], 0.0).unwrap_err(),
            ErrorKind::InvalidShape => self.infer(&[0.0; 7], options),
            ErrorKind::UnsupportedPrecision => {
                self.infer(&[0.0; 8], InferenceOptions { precision: Some("int8".to_owned()), ..options })
            }
            ErrorKind::ModelAlreadyLoaded => self.load("relu.mlmodel"),
            // Code of a caller's that panics on a thread of the manager's.
            ErrorKind::Internal => {
                let path = self.folder.path().join("other.mlmodel");
                fs::write(&path, neural_network(&[1, 4], &[relu(0)])).unwrap();
                let (paths, options) = ([path], ModelOptions::default());
                let preload = self.manager.preload_models_with(&paths, &options, |_| panic!("as it should"));
                run(preload).unwrap_err()
            }
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn every_error_has_a_cause() {
    let service = Service::new();
    for kind in ErrorKind::ALL {
        let error = service.raise(kind);
        println!("{kind:?}: {error}");
        assert_eq!(ErrorKind::from(&error), kind, "{error}");
        assert!(error.to_string().len() > 20, "{error}");
    }
    assert_eq!(service.manager.list_models().len(), 2, "nothing is left of what failed");
}

/// A model of the type with this field number in `Model.proto`, with nothing in it.
#[cfg(not(target_vendor = "apple"))]
fn check_closed(number: u32, expected: &str) {
    let mut tag = number << 3 | 2;
    let mut bytes = vec![8, 4, 18, 0];
    while tag > 127 {
        bytes.push(tag as u8 | 128);
        tag >>= 7;
    }
    bytes.extend([tag as u8, 0]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("closed.mlmodel");
    fs::write(&path, bytes).unwrap();
    let error = CoreMlModel::load(&path, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, ANEError::CompilationFailed(_)), "{error}");
    assert_eq!(error.to_string(), format!("{}: it is a {expected}; it runs on Apple's systems alone", path.display()));
}

#[test]
#[cfg(not(target_vendor = "apple"))]
fn what_only_apple_can_read_is_named() {
    let language = "whose parameters only Apple's Natural Language framework can read";
    let sound = "whose parameters are part of Apple's Sound Analysis framework and not of the file";
    check_closed(2000, &format!("text classifier model, {language}"));
    check_closed(2001, &format!("word tagger model, {language}"));
    let vision = "whose parameters are part of Apple's Vision framework and not of the file";
    check_closed(2002, &format!("vision feature print model, {vision}"));
    check_closed(2003, &format!("sound analysis preprocessing model, {sound}"));
    check_closed(2004, &format!("gazetteer model, {language}"));
    check_closed(2005, &format!("word embedding model, {language}"));
    check_closed(2006, &format!("audio feature print model, {sound}"));
    check_closed(555, "custom model, whose code is in an app and not in the file");
}
