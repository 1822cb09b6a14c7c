//! Blobs: the values that layers pass on, with their shapes.

use std::collections::HashMap;

use coreml_format::mil::Dim;

use crate::{
    lower::Fault,
    onnx::{Element, OnnxBuilder, Value},
};

/// No blob of a real network has more elements; one that has would only ask for memory.
const MOST_ELEMENTS: usize = 1 << 40;

/// Every blob that has been written so far, by name.
pub(super) type Blobs<'a> = HashMap<&'a str, Blob>;

/// A value with known rank.
///
/// Networks older than specification 4 compute on (sequence, batch, channel, height, width), where the sequence has
/// one element. Engines are at their best on four dimensions, so such a blob's value lacks the first.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    value: Value,
    /// Whether the blob has a first dimension of size 1 that `value` lacks.
    lead: bool,
}

impl Blob {
    /// A blob that is just its value.
    pub(super) fn exact(value: Value, dims: Vec<Dim>) -> Blob {
        Blob { value: value.with_dims(Some(dims)), lead: false }
    }

    /// A blob of five dimensions, from the value of the last four.
    pub(super) fn rank_5(value: Value, dims: [Dim; 4]) -> Blob {
        Blob { value: value.with_dims(Some(dims.to_vec())), lead: true }
    }

    /// The value: for layers that count their axes from the last one, and for those that work element by element.
    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// The dimensions of [`Blob::value`].
    pub(super) fn dims(&self) -> &[Dim] {
        self.value.dims().expect("every blob is made with dimensions")
    }

    /// The number of dimensions, the one that the value lacks included.
    pub(super) fn rank(&self) -> usize {
        self.dims().len() + usize::from(self.lead)
    }

    /// Whether the value lacks the first dimension.
    pub(super) fn has_lead(&self) -> bool {
        self.lead
    }

    /// The blob with all its dimensions in its value: for layers that count axes from the first one.
    pub(super) fn unfolded(&self, onnx: &mut OnnxBuilder) -> Blob {
        let value = self.whole(onnx);
        let dims = value.dims().unwrap_or_default().to_vec();
        Blob::exact(value, dims)
    }

    /// The value with all its dimensions.
    pub(super) fn whole(&self, onnx: &mut OnnxBuilder) -> Value {
        if !self.lead {
            return self.value.clone();
        }
        let dims = [&[Dim::Fixed(1)], self.dims()].concat();
        onnx.unsqueeze(&self.value, &[0]).with_dims(Some(dims))
    }

    /// Another value of the same shape.
    pub(super) fn same(&self, value: Value) -> Blob {
        let dims = self.dims().to_vec();
        self.with(value, dims)
    }

    /// Another value, which lacks the first dimension where this one does.
    pub(super) fn with(&self, value: Value, dims: Vec<Dim>) -> Blob {
        Blob { value: value.with_dims(Some(dims)), lead: self.lead }
    }

    /// `op_type` of two blobs, with shapes that are aligned at the last dimension.
    pub(super) fn broadcast(&self, op_type: &'static str, other: &Blob, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
        self.joined(other, |x, y| onnx.binary(op_type, x, y))
    }

    /// What `join` makes of two blobs, with shapes that are aligned at the last dimension.
    pub(super) fn joined(&self, other: &Blob, join: impl FnOnce(&Value, &Value) -> Value) -> Result<Blob, Fault> {
        let dims = broadcast(self.dims(), other.dims())?;
        let lead = self.rank().max(other.rank()) > dims.len();
        let value = join(&self.value, &other.value).with_dims(Some(dims));
        Ok(Blob { value, lead })
    }

    /// The elements as whole numbers: a shape, indices, bounds.
    pub(super) fn whole_numbers(&self, onnx: &mut OnnxBuilder) -> Value {
        match self.value.constant() {
            Some(source) => {
                let numbers: Vec<i64> = source.f32s().into_iter().map(|v| v as i64).collect();
                let list = onnx.ints(&numbers);
                // A constant in another shape than a list is rare enough for a node.
                if self.dims().len() == 1 { list } else { onnx.cast(&self.value, Element::I64) }
            }
            None => onnx.cast(&self.value, Element::I64).with_dims(Some(self.dims().to_vec())),
        }
    }

    /// A list of whole numbers: its length, and its values where they are known.
    pub(super) fn list(&self, onnx: &mut OnnxBuilder) -> Result<List, Fault> {
        let Some(length) = count(self.dims()) else {
            return Err(format!("it needs a list of known length, and gets one of shape {}", show(self.dims())).into());
        };
        let known = self.value.constant().map(|s| s.f32s().into_iter().map(|v| v as i64).collect());
        let value = self.whole_numbers(onnx);
        let value = if self.dims().len() == 1 { value } else { onnx.reshape(&value, &[length as i64]) };
        Ok(List { length, known, value })
    }

    /// The blob's only element as a scalar.
    pub(super) fn scalar(&self, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
        if count(self.dims()).is_some_and(|n| n != 1) {
            return Err(format!("it needs one number, and gets a blob of shape {}", show(self.dims())).into());
        }
        Ok(match self.value.constant() {
            Some(source) => onnx.floats(&[], vec![source.f32s()[0]]),
            None => onnx.reshape(&self.value, &[]).with_dims(Some(Vec::new())),
        })
    }

    /// This blob, unless no machine could hold it.
    pub(super) fn checked(self) -> Result<Blob, Fault> {
        let known = self.dims().iter().filter_map(fixed).try_fold(1usize, |n, d| n.checked_mul(d));
        match known {
            Some(count) if count <= MOST_ELEMENTS => Ok(self),
            _ => Err(format!("its result of shape {} is too large", show(self.dims())).into()),
        }
    }
}

/// A list of whole numbers, as a shape is.
pub(super) struct List {
    pub(super) length: usize,
    /// The numbers, where they are known before a run.
    pub(super) known: Option<Vec<i64>>,
    /// The numbers as int64.
    pub(super) value: Value,
}

/// The size, where it is known.
pub(super) fn fixed(dim: &Dim) -> Option<usize> {
    if let Dim::Fixed(n) = dim { Some(*n) } else { None }
}

/// The dimensions of the result where two shapes are aligned at the last dimension.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, Fault> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Dim], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| dims[i]);
    let one = |axis| match (at(a, axis), at(b, axis)) {
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Ok(other),
        (Dim::Unknown, other) | (other, Dim::Unknown) => Ok(other),
        (Dim::Fixed(a), Dim::Fixed(b)) if a == b => Ok(Dim::Fixed(a)),
        _ => Err(Fault(format!("shapes {} and {} do not go together", show(a), show(b)))),
    };
    (0..rank).map(one).collect()
}

/// The number of elements, where it is known.
pub(super) fn count(dims: &[Dim]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, dim| n.checked_mul(fixed(dim)?))
}

/// A shape for [`OnnxBuilder::reshape`], where at most one dimension is known at run time only.
pub(super) fn target(dims: &[Dim]) -> Result<Vec<i64>, Fault> {
    if dims.iter().filter(|dim| **dim == Dim::Unknown).count() > 1 {
        return Err(format!("of its shape {} more than one dimension is known at run time only", show(dims)).into());
    }
    Ok(dims.iter().map(|dim| fixed(dim).map_or(-1, |n| n as i64)).collect())
}

/// These dimensions and no others: fewer than one become one of size 1, since no blob is without dimensions.
pub(super) fn at_least_one(dims: Vec<Dim>) -> Vec<Dim> {
    if dims.is_empty() { vec![Dim::Fixed(1)] } else { dims }
}

/// As a person writes a shape: `[1, ?, 4]`.
pub(super) fn show(dims: &[Dim]) -> String {
    let dims: Vec<String> = dims.iter().map(|dim| fixed(dim).map_or("?".to_owned(), |n| n.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const F: fn(usize) -> Dim = Dim::Fixed;

    #[test]
    fn shapes_go_together_from_the_last_dimension() {
        let check = |a: &[Dim], b: &[Dim], expected: &str| {
            let shown = broadcast(a, b).map_or_else(|fault| fault.0, |dims| show(&dims));
            assert_eq!(shown, expected);
        };
        check(&[F(2), F(3)], &[F(4), F(1), F(3)], "[4, 2, 3]");
        check(&[Dim::Unknown, F(3)], &[F(1), F(3)], "[?, 3]");
        check(&[Dim::Unknown], &[F(5)], "[5]");
        check(&[], &[F(5)], "[5]");
        check(&[F(2)], &[F(3)], "shapes [2] and [3] do not go together");
    }
}
