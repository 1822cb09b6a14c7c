//! Opens real models, damaged models and models damaged here. The models lie in `models` of the folder that
//! `ANE_SHARED` names, or of `../shared` beside the repository; where there is none, these tests pass and say so.

use std::{
    fs,
    path::{Path, PathBuf},
};

use coreml_format::{Model, ModelKind, stats};

/// The folders in `models/<set>`, or none with a word about it.
fn cases(set: &str) -> Vec<PathBuf> {
    let shared = match std::env::var_os("ANE_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    };
    let folder = shared.join("models").join(set);
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("skipped: there is no folder {}", folder.display());
        return Vec::new();
    };
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The model of a case, whatever its extension.
fn model_path(case: &Path) -> PathBuf {
    let entries = fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path());
    let is_model = |path: &PathBuf| {
        path.extension().is_some_and(|e| e.to_string_lossy().starts_with("mlmodel") || e == "mlpackage")
    };
    entries.into_iter().find(is_model).unwrap_or_else(|| case.join("model.mlpackage"))
}

#[test]
fn open_models_open() {
    for case in cases("open") {
        let meta = json(&case.join("meta.json"));
        let model = Model::open(model_path(&case)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(u64::from(model.spec_version), meta["spec_version"].as_u64().unwrap(), "{}", case.display());

        let names = |list: &serde_json::Value| -> Vec<String> {
            list.as_array().into_iter().flatten().map(|f| f["name"].as_str().unwrap().to_owned()).collect()
        };
        let interface = &model.schema.interface;
        let inputs: Vec<String> = interface.inputs.iter().map(|input| input.name.clone()).collect();
        if model.schema.functions.is_empty() {
            assert_eq!(inputs, names(&meta["inputs"]), "{}", case.display());
        }
        assert_eq!(
            matches!(model.kind, ModelKind::Program(_)),
            meta["type"] == "mlProgram",
            "{}: {:?}",
            case.display(),
            meta["type"]
        );
        check_stats(&model, &meta, &case);
    }
}

fn check_stats(model: &Model, meta: &serde_json::Value, case: &Path) {
    let operations: usize = stats::operations(model).values().flat_map(|kinds| kinds.values()).sum();
    assert!(operations > 0, "{}", case.display());
    let weights: usize = stats::weights(model).values().map(|amount| amount.bytes).sum();
    let expected = meta["weight_bytes"].as_u64().unwrap() as usize;
    // `weight_bytes` has the small constants too, and what of the file is shared or padding.
    assert!(weights <= expected + 4096 && weights * 3 >= expected, "{}: {weights} of {expected}", case.display());
}

#[test]
fn broken_models_are_refused() {
    for case in cases("broken") {
        let expected = json(&case.join("expected.json"));
        let opened = Model::open(model_path(&case));
        match (expected["must"].as_str().unwrap(), expected["stage"].as_str().unwrap()) {
            ("ok", _) => assert!(opened.is_ok(), "{}: {}", case.display(), opened.unwrap_err()),
            ("error", "load") => {
                let Err(error) = opened else { panic!("{} opens", case.display()) };
                let message = error.to_string();
                for word in expected["mentions"].as_array().unwrap() {
                    let word = word.as_str().unwrap();
                    assert!(message.contains(word), "{}: no {word} in {message}", case.display());
                }
                assert!(message.len() < 1000, "{}: {} bytes of message", case.display(), message.len());
            }
            // May be opened: the flaw shows when the model runs.
            _ => (),
        }
    }
}

/// Pseudo-random numbers that are the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// A model of `models/<set>/<name>` copied to a folder of its own: that folder, the model and its model file.
fn copy(set: &str, name: &str) -> Option<(tempfile::TempDir, PathBuf, PathBuf)> {
    let case = cases(set).into_iter().find(|case| case.ends_with(name))?;
    let source = model_path(&case);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join(source.file_name().unwrap());
    if source.is_file() {
        fs::write(&target, fs::read(&source).unwrap()).unwrap();
        return Some((folder, target.clone(), target));
    }
    for file in ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"] {
        if let Ok(content) = fs::read(source.join(file)) {
            fs::create_dir_all(target.join(file).parent().unwrap()).unwrap();
            fs::write(target.join(file), content).unwrap();
        }
    }
    let file = target.join("Data/com.apple.CoreML/model.mlmodel");
    Some((folder, target, file))
}

const DAMAGED: &[(&str, &str)] = &[
    ("open", "tiny_cnn_fp16io"),
    ("open", "stateful_kv_attention"),
    ("open", "gru_fp16"),
    ("open", "multifunction"),
    ("open", "mobilenet_v2_w035_sparse50_pal4_ios18"),
    ("broken", "nn_control_good"),
    ("broken", "classifier_label_count"),
];

#[test]
fn truncated_models_are_refused() {
    for (set, name) in DAMAGED {
        let Some((_folder, model, file)) = copy(set, name) else { continue };
        let content = fs::read(&file).unwrap();
        for step in 0..100 {
            // A new file each time: the one before may still be mapped.
            fs::remove_file(&file).unwrap();
            fs::write(&file, &content[..content.len() * step / 100]).unwrap();
            assert!(Model::open(&model).is_err(), "{name} opens after {step} %");
        }
    }
}

#[test]
fn flipped_bytes_do_not_panic() {
    let mut numbers = Numbers(1);
    for (set, name) in DAMAGED {
        let Some((_folder, model, file)) = copy(set, name) else { continue };
        let content = fs::read(&file).unwrap();
        for round in 0..300 {
            let mut damaged = content.clone();
            for _ in 0..1 + round % 4 {
                let at = numbers.below(damaged.len());
                damaged[at] ^= 1 << numbers.below(8);
            }
            fs::remove_file(&file).unwrap();
            fs::write(&file, damaged).unwrap();
            if let Err(error) = Model::open(&model) {
                assert!(error.to_string().len() < 2000, "{name}: {error}");
            }
        }
    }
}
