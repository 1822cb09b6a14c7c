//! Tensors as they go into engines and come out of them.

use std::{any::Any, borrow::Cow, fmt, sync::Arc};

use coreml_onnx::Element;
use smallvec::SmallVec;

use crate::ane::{
    errors::{ANEError, Result},
    features::{Feature, repeated},
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
    /// So many values from the beginning of memory that an engine may keep hold of, where it takes features.
    Shared(&'a Arc<Vec<f32>>, usize),
    /// A feature itself, where the engine takes features and not the tensors that they are lowered to.
    Feature(Cow<'a, Feature>),
    /// Nothing: an optional feature that was left out, for such an engine.
    Absent,
    /// What such an engine remembers between runs.
    State(EngineState),
}

/// What an engine remembers between runs, in a form of its own; none at the beginning.
#[derive(Clone, Default)]
pub(crate) struct EngineState(pub(crate) Option<Arc<dyn Any + Send + Sync>>);

impl PartialEq for EngineState {
    fn eq(&self, other: &EngineState) -> bool {
        match (&self.0, &other.0) {
            (Some(this), Some(other)) => Arc::ptr_eq(this, other),
            (this, other) => this.is_none() && other.is_none(),
        }
    }
}

impl fmt::Debug for EngineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "EngineState(..)" } else { "EngineState(none)" })
    }
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
            Data::Shared(memory, len) => Data::Shared(memory, *len),
            Data::Feature(feature) => Data::Feature(Cow::Borrowed(feature)),
            Data::Absent => Data::Absent,
            Data::State(state) => Data::State(state.clone()),
        };
        Tensor { shape: self.shape.clone(), data }
    }

    /// The same tensor with elements of its own. Cost: a copy where they are borrowed.
    pub(crate) fn into_owned(self) -> Tensor<'static> {
        Tensor { shape: self.shape, data: self.data.into_owned() }
    }
}

impl Data<'_> {
    /// The same elements, owned. Cost: a copy where they are borrowed.
    pub(crate) fn into_owned(self) -> Data<'static> {
        match self {
            Data::F32(values) => Data::F32(Cow::Owned(values.into_owned())),
            Data::I32(values) => Data::I32(Cow::Owned(values.into_owned())),
            Data::I64(values) => Data::I64(Cow::Owned(values.into_owned())),
            Data::Bool(values) => Data::Bool(Cow::Owned(values.into_owned())),
            Data::Shared(memory, len) => Data::F32(memory[..len].to_vec().into()),
            Data::Feature(feature) => Data::Feature(Cow::Owned(feature.into_owned())),
            Data::Absent => Data::Absent,
            Data::State(state) => Data::State(state),
        }
    }
}

/// The fault of giving a feature to an engine that takes the tensors of a lowered graph.
pub(crate) fn not_lowered() -> ANEError {
    ANEError::Internal("a lowered graph was given a feature that is no tensor".to_owned())
}

/// The fault of a graph whose port has a type that lowering never gives one.
pub(crate) fn unsupported(element: Element) -> ANEError {
    ANEError::Internal(format!("the lowered graph has a port of type {element:?}, which engines do not pass"))
}
