//! Core ML's engine in `apple_silicon`: compiling once, failing over, states, batches, plans, on systems of every age.

#[path = "../../../crates/apple-silicon/tests/support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, TryRecvError},
    time::Duration,
};

use apple_silicon::ane::{
    compat::{coreml::detect_coreml_capabilities, iokit},
    engines::{EngineChoice, Status, installed},
    errors::{ANEError, Result},
    features::{Array, Dictionary, Feature, Features, Image, Pixels},
    infer::{ComputeUnit, ComputeUnits},
    models::coreml_model::{Compiled, CoreMlModel, LoadOptions},
};
use coreml_stand_in::{Call, StandIn, wait_until};
use half::f16;

const SYSTEMS: [(i64, i64); 9] = [(11, 0), (12, 0), (12, 3), (13, 0), (14, 0), (14, 4), (15, 0), (26, 0), (27, 0)];

/// A store of compiled models, and how models are loaded from it.
struct Setting {
    stand_in: StandIn,
    store: tempfile::TempDir,
    options: LoadOptions,
}

impl Setting {
    fn new(compute_units: ComputeUnits) -> Setting {
        let store = tempfile::tempdir().unwrap();
        let compiled = Some(store.path().to_owned());
        let options = LoadOptions { engine: EngineChoice::CoreMl, compute_units, compiled, ..LoadOptions::default() };
        Setting { stand_in: StandIn::new(), store, options }
    }

    fn load(&self, model: &Path) -> Result<CoreMlModel> {
        CoreMlModel::load(model, &self.options)
    }

    fn count(&self, event: &str) -> usize {
        self.stand_in.events().iter().filter(|known| *known == event).count()
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stand_in.wait_for_none_of(&["MLModel", "MLMultiArray", "MLState", "MLFeatureValue", "block"]);
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn op(name: &str) -> PathBuf {
    repository().join("crates/coreml-onnx/tests/ops").join(name).join("model.mlpackage")
}

fn digits() -> PathBuf {
    repository().join("examples/digits/digits.mlpackage")
}

fn one(name: &str, feature: impl Into<Feature>) -> Features {
    Features::from_iter([(name, feature.into())])
}

/// What the model `identity/fp32` takes.
fn x(first: f32) -> Features {
    let values: Vec<f32> = (0u8..24).map(|n| first + f32::from(n)).collect();
    one("x", Array::new([2, 3, 4], values).unwrap())
}

fn same(features: &Features) -> Option<&Array> {
    features.get("out").or(features.get("x")).and_then(Feature::as_array)
}

fn digit() -> Features {
    let bytes: Vec<u8> = (0..28 * 28).map(|n| if n % 28 / 4 == 3 { 255 } else { 0 }).collect();
    one("image", Image::new(28, 28, Pixels::Gray(bytes)).unwrap())
}

#[test]
fn results_are_those_of_other_engines_on_every_system() {
    let rten = LoadOptions { engine: EngineChoice::Rten, ..LoadOptions::default() };
    let expected = CoreMlModel::load(digits(), &rten).unwrap().predict(&digit()).unwrap();
    for units in [ComputeUnits::All, ComputeUnits::Ane, ComputeUnits::Gpu, ComputeUnits::Cpu] {
        let setting = Setting::new(units);
        for (major, minor) in SYSTEMS {
            setting.stand_in.macos(major, minor);
            let outputs = setting.load(&digits()).unwrap().predict(&digit()).unwrap();
            assert_eq!(outputs.get("classLabel"), expected.get("classLabel"), "{units:?} on macOS {major}.{minor}");
            let entries = |features: &Features| match features.get("classLabel_probs") {
                Some(Feature::Dictionary(Dictionary::Strings(entries))) => entries.clone(),
                other => panic!("{other:?}"),
            };
            assert_eq!(entries(&outputs), entries(&expected), "in the order of the labels");
        }
    }
}

#[test]
fn half_floats_and_whole_numbers() {
    let setting = Setting::new(ComputeUnits::All);
    let halves: Vec<f16> = (0u8..12).map(|n| f16::from_f32(f32::from(n) - 2.5)).collect();
    let wide: Vec<f32> = halves.iter().map(|v| v.to_f32()).collect();
    let half = one("x", Array::new([3, 4], halves.clone()).unwrap());
    let outputs = setting.load(&op("cast/fp16_to_fp32")).unwrap().predict(&half).unwrap();
    assert_eq!(same(&outputs), Some(&Array::new([3, 4], wide.clone()).unwrap()));
    let single = one("x", Array::new([3, 4], wide).unwrap());
    let outputs = setting.load(&op("cast/fp32_to_fp16")).unwrap().predict(&single).unwrap();
    assert_eq!(same(&outputs), Some(&Array::new([3, 4], halves).unwrap()));
    let whole = Array::new([3], vec![i32::MIN, 7, i32::MAX]).unwrap();
    let outputs = setting.load(&op("identity/int32")).unwrap().predict(&one("x", whole.clone())).unwrap();
    assert_eq!(same(&outputs), Some(&whole));
    // Before macOS 12 there are no arrays of half floats.
    setting.stand_in.macos(11, 7);
    let refused = setting.load(&op("cast/fp16_to_fp32")).unwrap().predict(&half).unwrap_err();
    assert!(refused.to_string().contains("system"), "{refused}");
}

#[test]
fn models_are_compiled_once() {
    let setting = Setting::new(ComputeUnits::All);
    let model = op("identity/fp32");
    let entry = match setting.load(&model).unwrap().compiled() {
        Compiled::Stored(entry) => entry.clone(),
        other => panic!("{other:?}"),
    };
    assert!(entry.starts_with(setting.store.path()));
    assert_eq!(*setting.load(&model).unwrap().compiled(), Compiled::Found(entry.clone()));
    // The same content elsewhere is the same model.
    let copy = setting.store.path().join("copy.mlpackage");
    copy_folder(&model, &copy);
    assert_eq!(*setting.load(&copy).unwrap().compiled(), Compiled::Found(entry.clone()));
    assert_eq!(setting.count("compile"), 1);
    assert!(matches!(setting.load(&op("identity/int32")).unwrap().compiled(), Compiled::Stored(_)));
    // A compiled folder is loaded as it is.
    let loaded = setting.load(&entry);
    assert!(loaded.is_err() || setting.count("compile") == 2, "the stand-in's folders are none that can be read");
    let left = fs::read_dir(setting.store.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<String> = left.map(|name| name.into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains("partial")), "{left:?}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

#[test]
fn a_damaged_entry_of_the_store_is_made_anew() {
    let setting = Setting::new(ComputeUnits::All);
    let model = op("identity/fp32");
    let Compiled::Stored(entry) = setting.load(&model).unwrap().compiled().clone() else { panic!("not stored") };
    fs::remove_file(entry.join("coremldata.bin")).unwrap();
    let loaded = setting.load(&model).unwrap();
    assert_eq!((loaded.compiled(), setting.count("compile")), (&Compiled::Stored(entry), 2));
    assert_eq!(same(&loaded.predict(&x(0.0)).unwrap()), same(&x(0.0)));
}

#[test]
fn a_failed_compilation_leaves_nothing() {
    let setting = Setting::new(ComputeUnits::All);
    setting.stand_in.next_fails(Call::Compile, "com.apple.CoreML", 3, "disk full");
    let error = setting.load(&op("identity/fp32")).unwrap_err();
    assert!(matches!(error, ANEError::CompilationFailed(_)), "{error:?}");
    for words in ["disk full", "com.apple.CoreML", "3", "identity/fp32"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(fs::read_dir(setting.store.path()).unwrap().count(), 0);
    setting.load(&op("identity/fp32")).unwrap();
}

/// A prediction that fails with this code on the last units is this error.
fn check_failure(domain: &str, code: i64, expected: fn(&ANEError) -> bool) {
    let setting = Setting::new(ComputeUnits::Cpu);
    let model = setting.load(&op("identity/fp32")).unwrap();
    setting.stand_in.next_fails(Call::Predict, domain, code, "told so");
    let error = model.predict(&x(0.0)).unwrap_err();
    assert!(expected(&error), "{domain} {code}: {error:?}");
    for words in ["told so", domain, &code.to_string()] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(same(&model.predict(&x(0.0)).unwrap()), same(&x(0.0)), "the next one works");
}

#[test]
fn failures_are_errors_with_their_domain_and_code() {
    for code in [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99] {
        check_failure("com.apple.CoreML", code, |e| matches!(e, ANEError::InferenceFailed(_)));
    }
    check_failure("com.apple.CoreML", 1, |e| matches!(e, ANEError::InvalidShape(_)));
    check_failure("NSCocoaErrorDomain", 1, |e| matches!(e, ANEError::InferenceFailed(_)));
}

#[test]
fn silence_is_an_error() {
    let setting = Setting::new(ComputeUnits::Cpu);
    let model = setting.load(&op("identity/fp32")).unwrap();
    setting.stand_in.next_is_silent(Call::Predict);
    let error = model.predict(&x(0.0)).unwrap_err();
    assert!(matches!(error, ANEError::InferenceFailed(_)), "{error:?}");
    setting.stand_in.macos(13, 0);
    let model = setting.load(&op("identity/fp32")).unwrap();
    setting.stand_in.next_is_silent(Call::Predict);
    assert!(model.predict(&x(0.0)).is_err());
    assert!(model.predict(&x(0.0)).is_ok());
}

#[test]
fn wrong_features_are_found_before_core_ml_sees_them() {
    let setting = Setting::new(ComputeUnits::All);
    let model = setting.load(&op("identity/fp32")).unwrap();
    let check = |features: &Features, words: &str| {
        let error = model.predict(features).unwrap_err();
        assert!(matches!(error, ANEError::InvalidShape(_) | ANEError::UnsupportedPrecision(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    };
    check(&one("x", Array::new([2, 3], vec![0f32; 6]).unwrap()), "[2, 3, 4]");
    check(&one("y", 1.0), "\"y\"");
    check(&Features::new(), "missing");
    check(&one("x", 1.0), "\"x\"");
    assert_eq!(setting.count("predict"), 0);
}

#[test]
fn what_does_not_load_is_loaded_for_fewer_units() {
    let setting = Setting::new(ComputeUnits::All);
    setting.stand_in.next_fails(Call::Load, "com.apple.CoreML", 0, "no Neural Engine today");
    let model = setting.load(&op("identity/fp32")).unwrap();
    let placement = model.placement();
    assert_eq!((placement.asked, placement.allowed), (ComputeUnits::All, ComputeUnits::Gpu));
    assert_eq!(placement.fallbacks.len(), 1);
    assert!(placement.fallbacks[0].contains("no Neural Engine today"), "{placement:?}");
    assert!(setting.stand_in.configuration().starts_with("units=1 "));
    assert_eq!(same(&model.predict(&x(0.0)).unwrap()), same(&x(0.0)));
}

#[test]
fn what_does_not_predict_goes_on_with_fewer_units() {
    let setting = Setting::new(ComputeUnits::Ane);
    let model = setting.load(&op("identity/fp32")).unwrap();
    assert_eq!(model.placement().allowed, ComputeUnits::Ane);
    for allowed in [ComputeUnits::Gpu, ComputeUnits::Cpu] {
        setting.stand_in.next_fails(Call::Predict, "com.apple.CoreML", 0, "ANE error");
        assert_eq!(same(&model.predict(&x(1.0)).unwrap()), same(&x(1.0)), "the caller sees nothing of it");
        assert_eq!(model.placement().allowed, allowed);
    }
    let placement = model.placement();
    assert_eq!((placement.fallbacks.len(), placement.known), (2, Some(ComputeUnit::Cpu)));
    setting.stand_in.next_fails(Call::Predict, "com.apple.CoreML", 0, "the CPU too");
    assert!(matches!(model.predict(&x(1.0)), Err(ANEError::InferenceFailed(_))), "nothing is left");
    assert!(model.predict(&x(1.0)).is_ok());
    // Features that Core ML does not take are not the units' fault.
    let model = setting.load(&op("identity/fp32")).unwrap();
    setting.stand_in.next_fails(Call::Predict, "com.apple.CoreML", 1, "wrong feature");
    assert!(model.predict(&x(1.0)).is_err());
    assert_eq!(model.placement().allowed, ComputeUnits::Ane);
}

#[test]
fn auto_takes_another_engine_where_core_ml_does_not_load() {
    let setting = Setting::new(ComputeUnits::Cpu);
    let options = LoadOptions { engine: EngineChoice::Auto, ..setting.options.clone() };
    assert_eq!(CoreMlModel::load(op("identity/fp32"), &options).unwrap().engine().engine, "coreml");
    setting.stand_in.next_fails(Call::Load, "com.apple.CoreML", 0, "not this one");
    setting.stand_in.next_count(Call::Load, 2);
    let model = CoreMlModel::load(op("identity/fp32"), &options).unwrap();
    assert_ne!(model.engine().engine, "coreml");
    assert!(model.engine().reason.contains("not this one"), "{}", model.engine());
    assert_eq!(same(&model.predict(&x(0.0)).unwrap()), same(&x(0.0)));
}

#[test]
fn core_ml_comes_first() {
    let _stand_in = StandIn::new();
    let engines = installed();
    assert_eq!((engines[0].engine, &engines[0].status), ("coreml", &Status::Chosen));
    assert!(engines[1..].iter().all(|engine| engine.status != Status::Chosen), "{engines:?}");
}

#[test]
fn states_belong_to_their_predictions() {
    for macos in [(15, 0), (26, 0)] {
        let setting = Setting::new(ComputeUnits::All);
        setting.stand_in.macos(macos.0, macos.1);
        let model = setting.load(&op("write_state/accumulate")).unwrap();
        let x = one("x", Array::new([2, 3], vec![f16::ONE; 6]).unwrap());
        let first = model.predict(&x).unwrap();
        let mut state = model.new_state().unwrap();
        assert_eq!(model.predict_with_state(&x, &mut state).unwrap(), first);
        let mut copy = state.clone();
        let second = model.predict_with_state(&x, &mut state).unwrap();
        assert_ne!(second, first);
        // Core ML has changed it in place.
        let used = model.predict_with_state(&x, &mut copy).unwrap_err();
        assert!(used.to_string().contains("new state"), "{used}");
        setting.stand_in.next_fails(Call::Predict, "com.apple.CoreML", 11, "cancelled");
        assert!(model.predict_with_state(&x, &mut state).is_err());
        assert!(model.predict_with_state(&x, &mut state).is_err(), "nobody knows what it holds");
        let mut anew = model.new_state().unwrap();
        assert_eq!(model.predict_with_state(&x, &mut anew).unwrap(), first);
        // Of another model.
        let other = setting.load(&op("write_state/accumulate")).unwrap();
        assert!(other.predict_with_state(&x, &mut anew).is_err());
    }
}

#[test]
fn models_with_states_need_macos_15() {
    let setting = Setting::new(ComputeUnits::All);
    setting.stand_in.macos(14, 7);
    let x = one("x", Array::new([2, 3], vec![f16::ONE; 6]).unwrap());
    let error = setting.load(&op("write_state/accumulate")).and_then(|model| model.predict(&x)).unwrap_err();
    assert!(error.to_string().contains("macOS 15"), "{error}");
}

#[test]
fn batches_are_core_mls() {
    let setting = Setting::new(ComputeUnits::All);
    let model = setting.load(&op("identity/fp32")).unwrap();
    let batch: Vec<Features> = (0u8..10).map(|n| x(f32::from(n))).collect();
    let outputs = model.predict_batch(&batch).unwrap();
    assert_eq!(outputs.iter().map(same).collect::<Vec<_>>(), batch.iter().map(same).collect::<Vec<_>>());
    assert_eq!(setting.count("predict"), 1, "in one call");
    setting.stand_in.next_fails(Call::Predict, "com.apple.CoreML", 1, "one is wrong");
    assert!(model.predict_batch(&batch).is_err());
    assert!(model.predict_batch(&[]).unwrap().is_empty());
}

#[test]
fn predictions_go_side_by_side() {
    for macos in [(13, 0), (26, 0)] {
        let setting = Setting::new(ComputeUnits::All);
        setting.stand_in.macos(macos.0, macos.1);
        let model = setting.load(&op("identity/fp32")).unwrap();
        std::thread::scope(|scope| {
            for thread in 0u8..4 {
                let model = &model;
                scope.spawn(move || {
                    for round in 0u8..50 {
                        let x = x(f32::from(thread) * 1000.0 + f32::from(round));
                        assert_eq!(same(&model.predict(&x).unwrap()), same(&x));
                    }
                });
            }
        });
    }
}

#[test]
fn a_hanging_prediction_does_not_hold_up_others() {
    let setting = Setting::new(ComputeUnits::All);
    let model = setting.load(&op("identity/fp32")).unwrap();
    setting.stand_in.next_hangs(Call::Predict);
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| model.predict(&x(5.0)));
        setting.stand_in.wait_for_hanging(1);
        for _ in 0..10 {
            assert!(model.predict(&x(0.0)).is_ok());
        }
        assert!(!hanging.is_finished());
        setting.stand_in.let_go();
        assert_eq!(same(&hanging.join().unwrap().unwrap()), same(&x(5.0)));
    });
}

#[test]
fn what_a_network_declares_of_its_outputs_gets_no_memory() {
    let setting = Setting::new(ComputeUnits::All);
    let mut network = support::network::neural_network(&[1, 3], &[support::network::relu(0)]);
    let place = network.windows(4).rposition(|bytes| bytes == [10, 2, 1, 3]).expect("the shape of the output");
    for size in [0, 2, 7] {
        network[place + 2] = size;
        let path = setting.store.path().join(format!("{size}.mlmodel"));
        fs::write(&path, &network).unwrap();
        let x = Array::new([1, 3], vec![1.0f32, 2.0, 3.0]).unwrap();
        let outputs = setting.load(&path).unwrap().predict(&one("x0", x.clone())).unwrap();
        assert_eq!(outputs.get("x1"), Some(&Feature::Array(x)), "declared as {size}x3");
    }
    assert_eq!(setting.count("backing"), 0);
}

#[test]
fn placement_is_told() {
    let setting = Setting::new(ComputeUnits::Ane);
    let model = setting.load(&digits()).unwrap();
    let plan = model.plan().unwrap();
    assert_eq!((plan.compute_units, plan.system.as_str()), (ComputeUnits::Ane, "macOS 26"));
    assert_eq!(plan.operations.len(), 48);
    let units: Vec<ComputeUnit> = plan.units().iter().map(|planned| planned.unit).collect();
    assert_eq!(units, [ComputeUnit::Ane, ComputeUnit::Cpu]);
    assert_eq!(model.placement().planned, plan.units());
    assert_eq!(model.compute_unit(), ComputeUnit::Ane);
    assert_eq!(model.placement().known, None, "Core ML does not tell");
    model.plan().unwrap();
    assert_eq!(setting.count("plan"), 1, "it is made once");
    setting.stand_in.macos(14, 3);
    let error = setting.load(&digits()).unwrap().plan().unwrap_err();
    assert!(error.to_string().contains("14.4"), "{error}");
}

#[test]
fn capabilities_are_told() {
    let stand_in = StandIn::new();
    let capabilities = detect_coreml_capabilities();
    assert!(capabilities.coreml_available && capabilities.ane_available && capabilities.gpu_available);
    assert_eq!(capabilities.ane_cores, Some(16));
    assert_eq!(capabilities.os_version.as_deref(), Some("macOS 26"));
    stand_in.neural_engine_cores(0);
    assert!(!detect_coreml_capabilities().ane_available);
    for (major, minor) in SYSTEMS {
        stand_in.macos(major, minor);
        let capabilities = detect_coreml_capabilities();
        assert!(capabilities.coreml_available);
        assert_eq!(capabilities.notes.iter().any(|note| note.contains("macOS 15")), major < 15, "{capabilities:?}");
    }
}

#[test]
fn heat_is_told() {
    let stand_in = StandIn::new();
    let before = iokit::thermal_status();
    let (send, receive) = mpsc::channel();
    let watch = iokit::on_thermal_change(move |status| {
        let _ = send.send(status);
    });
    assert!(watch.is_some());
    stand_in.thermal_state(2);
    let hot = receive.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_ne!(format!("{hot:?}"), format!("{before:?}"));
    drop(watch);
    wait_until("the callback is dropped", || receive.try_recv() == Err(TryRecvError::Disconnected));
}
