//! What fp16 does to models: as numpy's float16 has it, and diagnosed where it breaks.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use apple_silicon::ane::{
    engines::{EngineChoice, Status, installed},
    features::{Array, Feature, Features, Image, Pixels},
    infer::Precision,
    models::{
        coreml_model::{CoreMlModel, LoadOptions},
        numerics::{self, Numerics},
    },
};
use npyz::NpyFile;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/numerics").join(name).join("model.mlpackage")
}

/// Options for each engine that works here.
fn engines() -> Vec<LoadOptions> {
    let works = |name: &str| {
        installed().iter().any(|engine| engine.engine == name && !matches!(engine.status, Status::Unusable(_)))
    };
    let choices = [EngineChoice::OnnxRuntime, EngineChoice::Rten].into_iter().filter(|choice| works(choice.name()));
    choices.map(|engine| LoadOptions { engine, ..LoadOptions::default() }).collect()
}

fn compare(name: &str, inputs: &Features, options: &LoadOptions) -> Numerics {
    let mut told = Vec::new();
    let numerics = numerics::compare(model(name), inputs, options, |part| told.push(part)).unwrap();
    assert!(told.is_sorted() && told.last() == Some(&1.0), "{told:?}");
    numerics
}

#[test]
fn an_overflow_is_diagnosed_at_its_operation() {
    let inputs =
        |value: f32| Features::from_iter([("x", Array::new([2, 3], vec![0.0, 0.5, value, 0.0, 0.0, 0.0]).unwrap())]);
    for options in engines() {
        let numerics = compare("overflow", &inputs(1.0), &options);
        let first = numerics.first_failure().unwrap();
        let worst = first.worst.as_ref().unwrap();
        assert_eq!((first.op.as_str(), first.overflow), ("third", 2), "{:?}", options.engine);
        assert_eq!((&worst.index[..], worst.fp32, worst.fp16), (&[0, 1][..], 500_000.0, f32::INFINITY));
        let names: Vec<&str> = numerics.values.iter().map(|value| value.op.as_str()).collect();
        assert_eq!(names, ["first", "second", "third", "bounded", "product", "y"]);
        // Infinity less infinity.
        assert_eq!(numerics.outputs[0].invalid, 2, "{:?}", numerics.outputs);
        assert_eq!(
            compare("overflow", &inputs(0.06), &options).first_failure().map(|value| value.op.as_str()),
            Some("third")
        );
        // Nothing overflows where the third product is below 65504.
        let small = Features::from_iter([("x", Array::new([2, 3], vec![0.0613; 6]).unwrap())]);
        let numerics = compare("overflow", &small, &options);
        assert_eq!(numerics.first_failure(), None);
        let worst = numerics.values[..3].iter().map(|value| value.error).fold(0.0, f64::max);
        assert!(worst > 0.0 && worst < 1e-3, "{:?}", numerics.values);
    }
}

/// Each operation alone: its operand is what numpy's float16 gave for the one before.
#[test]
fn rounding_is_numpys() {
    let folder = model("chain").with_file_name("expected");
    let read = |name: &str| {
        let array = NpyFile::new(File::open(folder.join(format!("{name}.npy"))).unwrap()).unwrap();
        let shape: Vec<usize> = array.shape().iter().map(|&d| d as usize).collect();
        (shape, array.into_vec::<f32>().unwrap())
    };
    let (shape, x) = read("input");
    let inputs = Features::from_iter([("x", Array::new(shape, x).unwrap())]);
    for options in engines() {
        let options = LoadOptions { precision: Some(Precision::Fp16), ..options };
        let loaded = CoreMlModel::load(model("chain"), &options).unwrap();
        let outputs = loaded.predict(&inputs).unwrap();
        let mut differing = Vec::new();
        for (name, feature) in outputs.iter() {
            let (shape, expected) = read(name);
            let array = feature.as_array().unwrap();
            assert_eq!(array.shape(), shape);
            let wrong = array.to_f32s().iter().zip(&expected).filter(|(a, b)| a != b).count();
            println!("{:?} {name}: {wrong} of {} differ", options.engine, expected.len());
            differing.push((name.to_owned(), wrong));
        }
        let all: usize = differing.iter().map(|(_, wrong)| wrong).sum();
        assert_eq!(outputs.len(), 20);
        assert_eq!(all, 0, "{:?}: {differing:?}", options.engine);
    }
}

/// Constants that operations decompress one after the other stay constants.
#[test]
fn compressed_weights_are_compared() {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests/ops");
    let mut seen = 0;
    let kinds = ops.read_dir().unwrap().map(|entry| entry.unwrap().path());
    for kind in kinds.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("constexpr_")) {
        for case in kind.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|case| case.is_dir()) {
            let path = case.join("model.mlpackage");
            let half =
                LoadOptions { precision: Some(Precision::Fp16), engine: EngineChoice::Rten, ..LoadOptions::default() };
            CoreMlModel::load(&path, &half).unwrap_or_else(|error| panic!("{error}"));
            seen += 1;
        }
    }
    assert!(seen >= 20, "{seen}");
}

#[test]
fn a_classifiers_answers_are_compared() {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/digits.mlpackage");
    for options in engines() {
        let picture = Image::new(28, 28, Pixels::Gray(vec![128; 28 * 28])).unwrap();
        let inputs = Features::from_iter([("image", Feature::from(picture))]);
        let numerics = numerics::compare(&digits, &inputs, &options, |_| {}).unwrap();
        let answer = &numerics.answers[0];
        assert_eq!((answer.name.as_str(), &answer.fp32), ("classLabel", &answer.fp16));
        let probabilities = &numerics.outputs[0];
        assert_eq!((probabilities.name.as_str(), probabilities.elements), ("classLabel_probs", 10));
        assert!(probabilities.error < 0.05, "{probabilities:?}");
    }
}
