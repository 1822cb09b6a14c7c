//! Classic models and pipelines: the fixtures of `tools/classic_fixtures.py` and `tools/classic_sklearn.py`, which say
//! what each model gives, through the library as callers use it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use apple_silicon::ane::{
    engines::EngineChoice,
    features::{Array, Dictionary, Feature, Features, Sequence},
    models::coreml_model::{CoreMlModel, LoadOptions},
};
use coreml_format::schema::{FeatureKind, KeyKind};
use serde_json::Value;

#[test]
fn every_fixture_gives_what_is_expected() {
    let folders = cases();
    assert!(folders.len() >= 85, "there are {} cases", folders.len());
    let failures: Vec<String> = folders.iter().filter_map(|folder| check(folder).err()).collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), folders.len(), failures.join("\n"));
}

/// Every folder `<type>/<case>`.
fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-classic/tests/classic");
    let list = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    };
    let mut cases: Vec<PathBuf> = list(&root).iter().flat_map(|kind| list(kind)).collect();
    cases.sort();
    cases
}

fn check(folder: &Path) -> Result<(), String> {
    let at = |reason: String| format!("{}: {reason}", folder.display());
    let cases: Value = serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let file =
        ["model.mlmodel", "model.mlpackage"].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
    // Networks in pipelines run on the engine that is always there.
    let options = LoadOptions { engine: EngineChoice::Rten, ..LoadOptions::default() };
    let model = CoreMlModel::load(file.expect("a case has a model"), &options).map_err(|e| at(e.to_string()))?;
    assert!(model.memory_bytes() > 0);
    let tolerance = cases["tolerance"].as_f64().unwrap();
    for (index, run) in cases["runs"].as_array().unwrap().iter().enumerate() {
        let at = |reason: String| at(format!("run {index}: {reason}"));
        let inputs = run["inputs"].as_object().unwrap();
        let mut features = Features::new();
        for declared in &model.interface().inputs {
            if let Some(value) = inputs.get(&declared.name) {
                features.insert(&declared.name, feature(&declared.kind, value));
            }
        }
        let outputs = model.predict(&features).map_err(|e| at(e.to_string()))?;
        let expected = run["expected"].as_object().unwrap();
        assert!(!expected.is_empty());
        for (name, expected) in expected {
            let output = outputs.get(name).ok_or_else(|| at(format!("there is no {name:?}")))?;
            if !agrees(output, expected, tolerance) {
                return Err(at(format!("{name:?} is {output:?}, not {expected}")));
            }
        }
    }
    Ok(())
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .or_else(|| value.as_str()?.parse().ok())
        .expect("a number, or the name of one that JSON does not have")
}

fn feature(kind: &FeatureKind, value: &Value) -> Feature {
    match kind {
        FeatureKind::Int64 => value.as_i64().unwrap().into(),
        FeatureKind::Double => number(value).into(),
        FeatureKind::String => value.as_str().unwrap().into(),
        FeatureKind::Dictionary(key) => {
            let entries = value.as_object().unwrap().iter().map(|(key, value)| (key.clone(), number(value)));
            let numbers = |(key, value): (String, f64)| (key.parse().unwrap(), value);
            match key {
                KeyKind::String => Dictionary::Strings(entries.collect()).into(),
                KeyKind::Int64 => Dictionary::Int64s(entries.map(numbers).collect()).into(),
            }
        }
        FeatureKind::Sequence(KeyKind::String, _) => {
            Sequence::Strings(items(value).iter().map(|item| item.as_str().unwrap().to_owned()).collect()).into()
        }
        FeatureKind::Sequence(KeyKind::Int64, _) => {
            Sequence::Int64s(items(value).iter().map(|item| item.as_i64().unwrap()).collect()).into()
        }
        FeatureKind::MultiArray(_) => {
            let mut shape = Vec::new();
            let mut first = value;
            while let Value::Array(items) = first {
                shape.push(items.len());
                first = items.first().unwrap_or(&Value::Null);
            }
            let values = flat(value);
            match values.iter().all(|value| value.is_i64()) {
                true => {
                    Array::new(shape, values.iter().map(|v| v.as_i64().unwrap()).collect::<Vec<_>>()).unwrap().into()
                }
                false => Array::new(shape, values.into_iter().map(number).collect::<Vec<_>>()).unwrap().into(),
            }
        }
        other => panic!("no case has {other:?}"),
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn flat(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        value => vec![value],
    }
}

fn agrees(output: &Feature, expected: &Value, tolerance: f64) -> bool {
    let close = |a: f64, b: &Value| {
        let b = number(b);
        (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= tolerance * b.abs().max(1.0)
    };
    let entries = |entries: Vec<(String, f64)>| {
        let expected = expected.as_object().unwrap();
        entries.len() == expected.len()
            && entries.iter().all(|(key, value)| expected.get(key).is_some_and(|expected| close(*value, expected)))
    };
    match output {
        Feature::Int64(value) => expected.as_i64() == Some(*value),
        Feature::Double(value) => close(*value, expected),
        Feature::String(value) => expected.as_str() == Some(value),
        Feature::Array(array) => {
            let (values, expected) = (array.to_f64s(), flat(expected));
            values.len() == expected.len() && values.iter().zip(expected).all(|(a, b)| close(*a, b))
        }
        Feature::Dictionary(Dictionary::Strings(all)) => entries(all.clone()),
        Feature::Dictionary(Dictionary::Int64s(all)) => {
            entries(all.iter().map(|(key, value)| (key.to_string(), *value)).collect())
        }
        Feature::Sequence(Sequence::Strings(all)) => {
            items(expected).iter().map(Value::as_str).eq(all.iter().map(|s| Some(s.as_str())))
        }
        Feature::Sequence(Sequence::Int64s(all)) => {
            items(expected).iter().map(Value::as_i64).eq(all.iter().map(|v| Some(*v)))
        }
        Feature::Image(_) => false,
    }
}
