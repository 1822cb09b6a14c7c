//! Tensors as they go into engines and come out of them.

use std::borrow::Cow;

use coreml_onnx::Element;
use smallvec::SmallVec;

use crate::ane::{
    errors::{ANEError, Result},
    features::repeated,
};

/// A shape. Core ML's tensors have at most five dimensions, so that none is on the heap.
pub(crate) type Shape = SmallVec<[usize; 5]>;

/// A tensor; its elements are borrowed where whoever gives it keeps them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor<'a> {
    pub(crate) shape: Shape,
    pub(crate) data: Data<'a>,
}

/// Elements of the types that lowered models have at their ports.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data<'a> {
    F32(Cow<'a, [f32]>),
    I32(Cow<'a, [i32]>),
    I64(Cow<'a, [i64]>),
    Bool(Cow<'a, [bool]>),
}

impl Tensor<'_> {
    /// An owned tensor, for what an engine gives.
    pub(crate) fn owned(shape: impl Into<Shape>, data: Data<'static>) -> Tensor<'static> {
        Tensor { shape: shape.into(), data }
    }

    /// A tensor of zeros.
    pub(crate) fn zeros(shape: Vec<usize>, element: Element) -> Result<Tensor<'static>> {
        let data = match element {
            Element::F32 => Data::F32(repeated(0.0, &shape)?.into()),
            Element::I32 => Data::I32(repeated(0, &shape)?.into()),
            Element::I64 => Data::I64(repeated(0, &shape)?.into()),
            Element::Bool => Data::Bool(repeated(false, &shape)?.into()),
            other => return Err(unsupported(other)),
        };
        Ok(Tensor::owned(shape, data))
    }

    /// The same tensor without a copy.
    pub(crate) fn borrowed(&self) -> Tensor<'_> {
        let data = match &self.data {
            Data::F32(values) => Data::F32(Cow::Borrowed(values)),
            Data::I32(values) => Data::I32(Cow::Borrowed(values)),
            Data::I64(values) => Data::I64(Cow::Borrowed(values)),
            Data::Bool(values) => Data::Bool(Cow::Borrowed(values)),
        };
        Tensor { shape: self.shape.clone(), data }
    }

    /// The same tensor with elements of its own. Cost: a copy where they are borrowed.
    pub(crate) fn into_owned(self) -> Tensor<'static> {
        let data = match self.data {
            Data::F32(values) => Data::F32(Cow::Owned(values.into_owned())),
            Data::I32(values) => Data::I32(Cow::Owned(values.into_owned())),
            Data::I64(values) => Data::I64(Cow::Owned(values.into_owned())),
            Data::Bool(values) => Data::Bool(Cow::Owned(values.into_owned())),
        };
        Tensor { shape: self.shape, data }
    }
}

/// The fault of a graph whose port has a type that lowering never gives one.
pub(crate) fn unsupported(element: Element) -> ANEError {
    ANEError::Internal(format!("the lowered graph has a port of type {element:?}, which engines do not pass"))
}
