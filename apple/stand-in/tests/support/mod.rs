//! What the tests of `apple_frameworks` share.
#![allow(dead_code, reason = "each test uses its part")]

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, mpsc},
};

use apple_frameworks::{
    Array, Configuration, Elements, Failure, Inputs, Memory, Model, Outputs, Pixels, Prediction, Request, State, Units,
    Value, compile,
};
use coreml_stand_in::StandIn;

/// A model among the fixtures of operations, such as `identity/fp32`.
pub(crate) fn op(name: &str) -> PathBuf {
    repository().join("crates/coreml-onnx/tests/ops").join(name).join("model.mlpackage")
}

/// Takes a picture of a digit, and gives its label and the probability of each.
pub(crate) fn digits() -> PathBuf {
    repository().join("examples/digits/digits.mlpackage")
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Compiles and loads a model for these units.
pub(crate) fn load(model: &Path, units: Units) -> Result<Model, Failure> {
    let compiled = compile(model)?;
    let loaded = Model::load(&compiled, &Configuration { units, ..Configuration::default() });
    fs::remove_dir_all(compiled.parent().unwrap()).unwrap();
    loaded
}

/// An echo for these units.
pub(crate) fn echo(units: Units) -> Model {
    static COMPILED: LazyLock<PathBuf> =
        LazyLock::new(|| coreml_stand_in::echo(Path::new(env!("CARGO_TARGET_TMPDIR"))));
    Model::load(&COMPILED, &Configuration { units, ..Configuration::default() }).unwrap()
}

/// A way to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Sync,
    Async,
    Batch,
}

/// The ways that this system has.
pub(crate) fn ways() -> Vec<Way> {
    let all = [Way::Sync, Way::Batch, Way::Async];
    all.into_iter().filter(|&way| way != Way::Async || Model::is_async()).collect()
}

/// A request without state and backings.
pub(crate) fn request(features: &[(&str, Value<'_>)]) -> Result<Request, Failure> {
    Ok(Request { inputs: Inputs::new(features)?, state: None, backings: None })
}

/// Predicts without a state.
pub(crate) fn predict(model: &mut Model, features: &[(&str, Value<'_>)], way: Way) -> Result<Outputs, Failure> {
    match way {
        Way::Batch => Ok(model.predict_batch(&[Inputs::new(features)?])?.remove(0)),
        Way::Sync | Way::Async => run(model, request(features)?, way).result,
    }
}

/// Predicts, and waits for the end.
pub(crate) fn run(model: &mut Model, request: Request, way: Way) -> Prediction {
    if way == Way::Sync {
        return model.predict(request);
    }
    let (send, receive) = mpsc::channel();
    model.predict_async(request, move |prediction| send.send(prediction).unwrap()).unwrap();
    receive.recv().unwrap()
}

/// Predicts with a state, which comes back.
pub(crate) fn run_with(
    model: &mut Model,
    features: &[(&str, Value<'_>)],
    state: State,
    way: Way,
) -> (Result<Outputs, Failure>, State) {
    let request = Request { state: Some(state), ..request(features).unwrap() };
    let Prediction { result, state } = run(model, request, way);
    (result, state.unwrap())
}

/// An output, copied.
pub(crate) fn output(outputs: &Outputs, name: &str) -> Value<'static> {
    outputs.read(name, owned).unwrap()
}

/// A value that borrows nothing.
pub(crate) fn owned(value: Value<'_>) -> Value<'static> {
    match value {
        Value::Array(array) => Value::Array(owned_array(array)),
        Value::Pixels(pixels) => {
            let Pixels { width, height, format, bytes } = pixels;
            Value::Pixels(Pixels { width, height, format, bytes: Cow::Owned(bytes.into_owned()) })
        }
        Value::Int64(value) => Value::Int64(value),
        Value::Double(value) => Value::Double(value),
        Value::String(text) => Value::String(Cow::Owned(text.into_owned())),
        Value::StringDictionary(entries) => Value::StringDictionary(entries),
        Value::Int64Dictionary(entries) => Value::Int64Dictionary(entries),
        Value::StringSequence(words) => Value::StringSequence(words),
        Value::Int64Sequence(numbers) => Value::Int64Sequence(numbers),
    }
}

pub(crate) fn owned_array(array: Array<'_>) -> Array<'static> {
    fn copied<T: Clone>(memory: &Memory<'_, T>) -> Memory<'static, T> {
        Memory::Borrowed(Cow::Owned(memory.as_slice().to_vec()))
    }
    let elements = match &array.elements {
        Elements::Float16(values) => Elements::Float16(copied(values)),
        Elements::Float32(values) => Elements::Float32(copied(values)),
        Elements::Float64(values) => Elements::Float64(copied(values)),
        Elements::Int32(values) => Elements::Int32(copied(values)),
        Elements::Int8(values) => Elements::Int8(copied(values)),
    };
    Array { shape: Cow::Owned(array.shape.into_owned()), elements }
}

/// An array of the caller's elements.
pub(crate) fn array<T: Clone + 'static>(
    shape: &[usize],
    elements: impl Fn(Memory<'static, T>) -> Elements<'static>,
    values: Vec<T>,
) -> Value<'static> {
    let elements = elements(Memory::Borrowed(Cow::Owned(values)));
    Value::Array(Array { shape: Cow::Owned(shape.to_vec()), elements })
}

/// An array of fp32.
pub(crate) fn floats(shape: &[usize], values: impl Into<Vec<f32>>) -> Value<'static> {
    array(shape, Elements::Float32, values.into())
}

/// Waits until none of Core ML's objects is alive.
pub(crate) fn nothing_lives(stand_in: &StandIn) {
    stand_in.wait_for_none_of(&[
        "MLModel",
        "MLModelConfiguration",
        "MLOptimizationHints",
        "MLMultiArray",
        "MLFeatureValue",
        "MLSequence",
        "MLDictionaryFeatureProvider",
        "MLArrayBatchProvider",
        "MLPredictionOptions",
        "MLState",
        "CVPixelBuffer",
        "block",
    ]);
}
