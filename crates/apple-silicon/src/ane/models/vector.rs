//! The simple case: one vector of floats in, one out.
//!
//! Which input and which output that is, is decided once, at load.

use coreml_format::schema::{ArrayKind, ArrayType, Feature as Declared, FeatureKind, ShapeFlexibility};
use coreml_onnx::{Element, InputBinding, OutputBinding, OutputForm, Port};
use half::f16;

use super::inputs::{self, describe};
use crate::ane::{
    engines::{Data, Shape, Tensor},
    errors::{ANEError, Result},
};

/// How a model takes and gives one vector.
#[derive(Clone, Debug)]
pub(crate) struct VectorForm {
    input: InputBinding,
    /// The input's default shape.
    shape: Shape,
    /// Whether the first dimension is flexible, so that it counts samples.
    stacks: bool,
    /// The graph output that is given.
    pub(crate) port: usize,
    /// Whether Core ML would give it as fp16.
    half: bool,
}

/// Values for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where they begin.
    pub(crate) start: usize,
    /// How many there are.
    pub(crate) len: usize,
    /// How many samples they are; 1 where the first dimension does not count samples.
    pub(crate) samples: usize,
}

impl VectorForm {
    /// The form of a model; or why it has none, as a sentence that says what to do.
    pub(crate) fn of(inputs: &[InputBinding], outputs: &[OutputBinding]) -> Result<VectorForm, String> {
        const INSTEAD: &str = "give named features: `ANEManager::predict`";
        let [input] = inputs else {
            let names: Vec<&str> = inputs.iter().map(|input| input.feature.name.as_str()).collect();
            return Err(format!("the model takes {names:?} and not one vector; {INSTEAD}"));
        };
        let (shape, stacks): (Shape, bool) = match &input.feature.kind {
            FeatureKind::MultiArray(kind) if !kind.shape.is_empty() => (kind.shape.as_slice().into(), counts(kind)),
            FeatureKind::Image(kind) => {
                (Shape::from_slice(&[1, kind.color.channels(), kind.height, kind.width]), false)
            }
            FeatureKind::Int64 | FeatureKind::Double => (Shape::from_slice(&[1]), false),
            other => {
                let name = &input.feature.name;
                return Err(format!("the input {name:?} takes {} and not a vector; {INSTEAD}", describe(other)));
            }
        };
        let output = output(outputs).ok_or_else(|| format!("no output of the model is a vector; {INSTEAD}"))?;
        let half = matches!(&output.feature.kind, FeatureKind::MultiArray(kind) if kind.dtype == ArrayType::Float16);
        Ok(VectorForm { input: input.clone(), shape, stacks, port: output.port, half })
    }

    /// Elements of one sample: of one place of the first dimension where that is flexible, else of the whole input.
    fn sample_len(&self) -> usize {
        let dims = if self.stacks { &self.shape[1..] } else { &self.shape[..] };
        dims.iter().product()
    }

    /// The part that is the whole of `len` values, for one run.
    pub(crate) fn whole(&self, len: usize, port: &Port) -> Result<Part> {
        let sample = self.sample_len();
        let samples = if self.stacks { len.checked_div(sample).unwrap_or(0) } else { 1 };
        if samples > 0 && samples.checked_mul(sample) == Some(len) && self.takes(samples, port) {
            return Ok(Part { start: 0, len, samples });
        }
        Err(self.wrong_length(len))
    }

    /// What a run reads of a buffer that has room for `room` values: `samples`, or those of the default shape.
    pub(crate) fn leading(&self, room: usize, samples: Option<usize>, port: &Port) -> Result<Part> {
        let samples = if self.stacks { samples.unwrap_or(self.shape[0]) } else { 1 };
        let len = samples.saturating_mul(self.sample_len());
        if !self.takes(samples, port) {
            return Err(self.wrong_length(len));
        }
        if len > room {
            let name = &self.input.feature.name;
            return Err(ANEError::InvalidShape(format!(
                "the input {name:?} takes {len} values, and the buffer has room for {room}; allocate a larger one"
            )));
        }
        Ok(Part { start: 0, len, samples })
    }

    /// Samples of the default shape.
    pub(crate) fn default_samples(&self) -> usize {
        if self.stacks { self.shape[0] } else { 1 }
    }

    /// The next part of what begins at `start`, with `most` samples at most: as many as the model takes at a time.
    pub(crate) fn next(&self, start: usize, len: usize, most: usize, port: &Port) -> Result<Part> {
        let sample = self.sample_len();
        let left = (len - start).checked_div(sample).unwrap_or(0);
        let most = if self.stacks { most.min(left) } else { most.min(left).min(1) };
        let samples = (1..=most).rev().find(|&samples| self.takes(samples, port));
        match samples {
            Some(samples) if len.is_multiple_of(sample) => Ok(Part { start, len: samples * sample, samples }),
            _ => Err(self.wrong_length(len)),
        }
    }

    fn takes(&self, samples: usize, port: &Port) -> bool {
        match &self.input.feature.kind {
            FeatureKind::MultiArray(kind) => inputs::takes_shape(kind, port, &self.shape_of(samples)),
            _ => samples == 1,
        }
    }

    fn shape_of(&self, samples: usize) -> Shape {
        let mut shape = self.shape.clone();
        if self.stacks {
            shape[0] = samples;
        }
        shape
    }

    fn wrong_length(&self, len: usize) -> ANEError {
        let Declared { name, kind, .. } = &self.input.feature;
        let each = if self.stacks { " for each sample" } else { "" };
        let sample = self.sample_len();
        ANEError::InvalidShape(format!(
            "the input {name:?} takes {}, which is {sample} values{each}, not {len}",
            describe(kind)
        ))
    }

    /// The tensor of a part. Floats are borrowed where the graph carries floats.
    pub(crate) fn tensor<'a>(&self, values: &'a [f32], samples: usize, port: &Port) -> Result<Tensor<'a>> {
        let wrong = |value: f32, why: &str| {
            let name = &self.input.feature.name;
            ANEError::UnsupportedPrecision(format!("the input {name:?}: the value {value} {why}"))
        };
        if let FeatureKind::MultiArray(ArrayKind { dtype: ArrayType::Float16, .. }) = &self.input.feature.kind
            && let Some(value) = values.iter().find(|v| v.is_finite() && v.abs() >= 65520.0)
        {
            // From 65520 on, values round to infinity.
            return Err(wrong(*value, "is out of the range of Float16"));
        }
        let whole = |value: f32| {
            let in_range = value.fract() == 0.0 && (-2_147_483_648.0..2_147_483_648.0).contains(&value);
            in_range.then_some(value).ok_or_else(|| wrong(value, "is not a whole number of 32 bits"))
        };
        let whole_kind = matches!(
            &self.input.feature.kind,
            FeatureKind::Int64 | FeatureKind::MultiArray(ArrayKind { dtype: ArrayType::Int32 | ArrayType::Int8, .. })
        );
        if whole_kind {
            values.iter().try_for_each(|&v| whole(v).map(drop))?;
        }
        let data = match port.element {
            Element::F32 => Data::F32(values.into()),
            Element::I32 => Data::I32(values.iter().map(|&v| v as i32).collect()),
            Element::I64 => Data::I64(values.iter().map(|&v| v as i64).collect()),
            Element::Bool => Data::Bool(values.iter().map(|&v| v != 0.0).collect()),
            other => return Err(crate::ane::engines::unsupported(other)),
        };
        // A number's port may have any rank.
        let shape = match &self.input.feature.kind {
            FeatureKind::Int64 | FeatureKind::Double => Shape::from_elem(1, port.dims.len()),
            _ => self.shape_of(samples),
        };
        Ok(Tensor { shape, data })
    }

    /// Appends the elements of the output's tensor. Cost: one copy.
    pub(crate) fn append(&self, data: &Data<'_>, out: &mut Vec<f32>) {
        let start = out.len();
        match data {
            Data::F32(values) => out.extend_from_slice(values),
            Data::I32(values) => out.extend(values.iter().map(|&v| v as f32)),
            Data::I64(values) => out.extend(values.iter().map(|&v| v as f32)),
            Data::Bool(values) => out.extend(values.iter().map(|&v| f32::from(u8::from(v)))),
            Data::Shared(memory, len) => out.extend_from_slice(&memory[..*len]),
            Data::Feature(feature) => out.extend(feature.numbers().into_iter().map(|v| v as f32)),
            Data::Absent | Data::State(_) => {}
        }
        if self.half {
            out[start..].iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
        }
    }
}

/// Whether the first dimension may have more than one size.
pub(super) fn counts(kind: &ArrayKind) -> bool {
    match &kind.flexibility {
        ShapeFlexibility::Fixed => false,
        ShapeFlexibility::Enumerated(shapes) => {
            // Other dimensions must agree, or there is no one sample.
            shapes.iter().all(|shape| shape.len() == kind.shape.len() && shape[1..] == kind.shape[1..])
                && shapes.iter().any(|shape| shape[0] != kind.shape[0])
        }
        ShapeFlexibility::Ranges(ranges) => ranges.first().is_some_and(|range| range.upper != Some(range.lower)),
    }
}

/// A classifier's scores, in the order of its labels; else the first tensor, image or number.
fn output(outputs: &[OutputBinding]) -> Option<&OutputBinding> {
    let scores = outputs.iter().find(|output| matches!(output.form, OutputForm::Probabilities(_)));
    scores.or_else(|| outputs.iter().find(|output| matches!(output.form, OutputForm::Tensor)))
}
