//! Blobs that are made from nothing: constants, ranges, random numbers.

use coreml_format::{
    mil::Dim,
    nn::{Distribution, Shape, Weight},
};

use super::{
    blob::{Blob, at_least_one},
    reader::LayerReader,
    shape::wanted,
};
use crate::{
    lower::{
        Fault, made_count,
        random::{bernoulli, categorical, normal, uniform_between},
    },
    onnx::{Element, OnnxBuilder, Value},
};

/// Channels, rows and columns, in a blob of five dimensions.
pub(super) fn load_constant(
    layer: &LayerReader<'_>,
    [channels, height, width]: [u64; 3],
    data: &Weight,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let value = constant(layer, &[1, channels, height, width], data, onnx)?;
    let [channels, height, width] = [channels, height, width].map(|size| Dim::Fixed(size as usize));
    Ok(Blob::rank_5(value, [Dim::Fixed(1), channels, height, width]))
}

pub(super) fn load_constant_nd(
    layer: &LayerReader<'_>,
    shape: &[u64],
    data: &Weight,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let shape = if shape.is_empty() { &[1] } else { shape };
    let value = constant(layer, shape, data, onnx)?;
    let dims = value.dims().unwrap_or_default().to_vec();
    Ok(Blob::exact(value, dims))
}

fn constant(layer: &LayerReader<'_>, shape: &[u64], data: &Weight, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    if !layer.inputs().is_empty() {
        return Err("it has an input, expected none".into());
    }
    layer.weight("data", data, shape, onnx)
}

pub(super) fn fill(layer: &LayerReader<'_>, value: f32, shape: &Shape, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let (shape, dims) = wanted(layer, shape, onnx)?;
    Ok(Blob::exact(onnx.constant_of_shape(&shape.value, value, Element::F32), dims))
}

pub(super) fn range_static([start, end, step]: [f32; 3], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let steps = ((f64::from(end) - f64::from(start)) / f64::from(step)).ceil();
    if steps.is_nan() || steps <= 0.0 {
        return Err(format!("it has no number from {start} to {end} in steps of {step}").into());
    }
    let n = made_count(&[steps as usize])?;
    let numbers = (0..n).map(|i| start + i as f32 * step).collect();
    Ok(Blob::exact(onnx.floats(&[n], numbers), vec![Dim::Fixed(n)]))
}

/// From `start` to before the first input, in steps. A second and a third input stand for start and step.
pub(super) fn range_dynamic(
    layer: &LayerReader<'_>,
    [start, step]: [f32; 2],
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let ([end], more) = layer.first_of(2)?;
    let end = end.scalar(onnx)?;
    let start = match more.first() {
        Some(start) => start.scalar(onnx)?,
        None => onnx.floats(&[], vec![start]),
    };
    let step = match more.get(1) {
        Some(step) => step.scalar(onnx)?,
        None => onnx.floats(&[], vec![step]),
    };
    if step.constant().is_some_and(|source| source.f32s().contains(&0.0)) {
        return Err("its step is 0: the range would never end".into());
    }
    Ok(Blob::exact(onnx.range(&start, &end, &step), vec![Dim::Unknown]))
}

pub(super) fn random(
    layer: &LayerReader<'_>,
    distribution: Distribution,
    seed: i64,
    shape: &Shape,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let (shape, dims) = wanted(layer, shape, onnx)?;
    let (shape, seed) = (&shape.value, seeded(seed));
    let numbers = match distribution {
        Distribution::Normal { mean, std_dev } => normal(onnx, shape, [mean, std_dev], seed),
        Distribution::Uniform { min, max } => uniform_between(onnx, shape, [min, max], seed),
        Distribution::Bernoulli { prob } => bernoulli(onnx, shape, prob, seed),
    };
    Ok(Blob::exact(numbers, dims))
}

/// The seed; `None` where numbers are to differ from run to run.
fn seeded(seed: i64) -> Option<i64> {
    (seed != -1).then_some(seed)
}

/// Draws classes by their share of the whole, or by logits.
pub(super) fn categorical_distribution(
    layer: &LayerReader<'_>,
    samples: i64,
    logits: bool,
    temperature: f32,
    seed: i64,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let samples_size = usize::try_from(samples).ok().filter(|&n| n > 0).ok_or("it draws no sample")?;
    let tempered = if logits && temperature != 1.0 {
        onnx.with_scalar("Div", x.value(), temperature).with_dims(Some(x.dims().to_vec()))
    } else {
        x.value().clone()
    };
    let drawn = categorical(onnx, &tempered, logits, samples, seeded(seed))?;
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(Dim::Fixed(samples_size));
    Ok(Blob::exact(drawn, at_least_one(dims)))
}
