//! Reads one layer: its blobs and its weights.

use std::sync::Arc;

use bytes::Bytes;
use coreml_format::{
    DType, Tensor,
    mil::Dim,
    nn::{Layer, LayerKind, Weight},
};

use super::blob::{Blob, Blobs};
use crate::{
    lower::Fault,
    onnx::{Constexpr, Element, OnnxBuilder, Source, Value},
};

/// One layer as its lowering sees it.
pub(super) struct LayerReader<'a> {
    layer: &'a Layer,
    inputs: Vec<Blob>,
}

impl<'a> LayerReader<'a> {
    pub(super) fn new(layer: &'a Layer, blobs: &Blobs<'_>) -> Result<LayerReader<'a>, Fault> {
        let blob = |name: &String| {
            blobs.get(name.as_str()).cloned().ok_or_else(|| Fault(format!("it reads {name:?}, which no layer writes")))
        };
        Ok(LayerReader { layer, inputs: layer.inputs.iter().map(blob).collect::<Result<_, _>>()? })
    }

    pub(super) fn kind(&self) -> &'a LayerKind {
        &self.layer.kind
    }

    pub(super) fn name(&self) -> &'a str {
        &self.layer.name
    }

    /// Every input, in order.
    pub(super) fn inputs(&self) -> &[Blob] {
        &self.inputs
    }

    /// The input of a layer that takes one.
    pub(super) fn input(&self) -> Result<&Blob, Fault> {
        match &self.inputs[..] {
            [input] => Ok(input),
            other => Err(format!("expected one input, and it has {}", other.len()).into()),
        }
    }

    /// The first inputs, as many as a layer needs, and those beyond that it may have: at most `more`.
    pub(super) fn first_of<const N: usize>(&self, more: usize) -> Result<([&Blob; N], &[Blob]), Fault> {
        match self.inputs.split_at_checked(N) {
            Some((first, rest)) if rest.len() <= more => Ok((std::array::from_fn(|i| &first[i]), rest)),
            _ if more == 0 => Err(format!("expected {N} inputs, and it has {}", self.inputs.len()).into()),
            _ => Err(format!("expected {N} to {} inputs, and it has {}", N + more, self.inputs.len()).into()),
        }
    }

    /// How many blobs the layer writes.
    pub(super) fn outputs(&self) -> usize {
        self.layer.outputs.len()
    }

    /// The inputs of a layer that takes two.
    pub(super) fn pair(&self) -> Result<(&Blob, &Blob), Fault> {
        match &self.inputs[..] {
            [first, second] => Ok((first, second)),
            other => Err(format!("expected two inputs, and it has {}", other.len()).into()),
        }
    }

    /// A weight of this shape. Where it is quantised, its scales run along the first dimension.
    pub(super) fn weight(
        &self,
        role: &str,
        weight: &Weight,
        shape: &[u64],
        onnx: &mut OnnxBuilder,
    ) -> Result<Value, Fault> {
        self.weight_scaled_along(0, role, weight, shape, onnx)
    }

    /// A weight of this shape, with its scales along another dimension.
    pub(super) fn weight_scaled_along(
        &self,
        axis: usize,
        role: &str,
        weight: &Weight,
        shape: &[u64],
        onnx: &mut OnnxBuilder,
    ) -> Result<Value, Fault> {
        let shape = shape.iter().map(|&d| usize::try_from(d).map_err(|_| format!("{role} is too large")));
        let source = source(weight, shape.collect::<Result<_, _>>()?, axis);
        let source = source.ok_or_else(|| Fault(format!("{role} is not stored in the size that the layer has")))?;
        Ok(onnx.weight(&format!("{}.{role}", self.layer.name), Element::F32, Arc::new(source)))
    }

    /// The elements of a weight that the lowering itself computes with.
    pub(super) fn numbers(&self, role: &str, weight: &Weight, shape: &[usize]) -> Result<Vec<f32>, Fault> {
        let source = source(weight, shape.to_vec(), 0);
        let source = source.ok_or_else(|| Fault(format!("{role} is not stored in the size that the layer has")))?;
        Ok(source.f32s())
    }

    /// A weight with one element, or with one a channel of `x`, shaped to go along axis -3 of `x`.
    pub(super) fn per_channel(
        &self,
        role: &str,
        weight: &Weight,
        x: &Blob,
        onnx: &mut OnnxBuilder,
    ) -> Result<Value, Fault> {
        let Weight::Float(tensor) = weight else { return Err(format!("{role} must not be quantised").into()) };
        let n = tensor.count();
        match x.dims() {
            _ if n == 1 => self.weight(role, weight, &[1], onnx),
            [.., Dim::Fixed(channels), _, _] if n == *channels => self.weight(role, weight, &[n as u64, 1, 1], onnx),
            _ => Err(format!("{role} has {n} elements, expected one, or one a channel").into()),
        }
    }
}

/// Where a weight's elements come from. `None` where they are not as many as the shape has.
fn source(weight: &Weight, shape: Vec<usize>, axis: usize) -> Option<Source> {
    match weight {
        Weight::Float(tensor) => Some(Source::Stored(Tensor::new(tensor.dtype(), shape, tensor.bytes().clone())?)),
        Weight::Linear { packed, bits, signed, scale, bias } => {
            let spread = |values: &[f32]| {
                let mut entries = vec![1; shape.len()];
                *entries.get_mut(axis)? = values.len();
                (values.len() == 1 || values.len() == shape[axis])
                    .then(|| Arc::new(Source::floats(entries, values.to_vec())))
            };
            let bias = if bias.is_empty() { None } else { Some(spread(bias)?) };
            let scale = spread(scale)?;
            let data = Arc::new(integers(packed, *bits, *signed, shape)?);
            Some(Source::Constexpr(Constexpr::ScaleBias { data, scale, bias }))
        }
        Weight::Table { packed, bits, table } => {
            let lut = Arc::new(Source::floats(vec![table.len(), 1], table.clone()));
            let indices = Arc::new(integers(packed, *bits, false, shape)?);
            Some(Source::Constexpr(Constexpr::Lut { indices, lut, vector_axis: 0 }))
        }
    }
}

fn integers(packed: &Bytes, bits: u32, signed: bool, shape: Vec<usize>) -> Option<Source> {
    if bits == 8 {
        let dtype = if signed { DType::Int8 } else { DType::UInt8 };
        return Some(Source::Stored(Tensor::new(dtype, shape, packed.clone())?));
    }
    let bits = bits as usize;
    let count = shape.iter().try_fold(bits, |n, &d| n.checked_mul(d))?;
    (count.div_ceil(8) == packed.len()).then(|| Source::Packed { bytes: packed.clone(), bits, shape })
}
