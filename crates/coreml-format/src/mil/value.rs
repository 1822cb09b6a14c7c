//! Decoded types and constant values.

use bytes::Bytes;

use super::{Dim, TensorType, Type, Value};
use crate::{DType, Tensor, pb::mil as pb, weights::WeightFiles};

/// The type that a message gives.
pub(super) fn read_type(ty: Option<pb::ValueType>) -> Result<Type, String> {
    Ok(match ty.and_then(|ty| ty.kind).ok_or("has no type")? {
        pb::TypeKind::Tensor(tensor) => Type::Tensor(tensor_type(&tensor)?),
        pb::TypeKind::List(list) => {
            let length = match list.length.map(|length| dim(&length)).transpose()? {
                Some(Some(Dim::Fixed(length))) => Some(length),
                Some(Some(Dim::Unknown) | None) | None => None,
            };
            Type::List(Box::new(read_type(list.r#type)?), length)
        }
        pb::TypeKind::Tuple(tuple) => {
            Type::Tuple(tuple.types.into_iter().map(|ty| read_type(Some(ty))).collect::<Result<_, _>>()?)
        }
        pb::TypeKind::Dictionary(dictionary) => {
            Type::Dictionary(Box::new(read_type(dictionary.key_type)?), Box::new(read_type(dictionary.value_type)?))
        }
        pb::TypeKind::State(state) => Type::State(Box::new(read_type(state.wrapped_type)?)),
    })
}

fn tensor_type(ty: &pb::TensorType) -> Result<TensorType, String> {
    let number = ty.data_type;
    let dtype = DType::from_mil(number).ok_or_else(|| format!("has unknown data type {number}"))?;
    let listed = ty.dimensions.len();
    // A variadic dimension stands for any number of them, so the rank is unknown.
    let dims: Option<Vec<Dim>> = ty.dimensions.iter().map(dim).collect::<Result<_, _>>()?;
    match ty.rank {
        -1 if listed == 0 => Ok(TensorType { dtype, dims: None }),
        rank if usize::try_from(rank) == Ok(listed) || dims.is_none() => Ok(TensorType { dtype, dims }),
        rank => Err(format!("has rank {rank}, but lists {listed} dimensions")),
    }
}

/// One dimension; `None` for a variadic one.
fn dim(dimension: &pb::Dimension) -> Result<Option<Dim>, String> {
    match dimension.kind {
        None => Err("has a dimension that is neither fixed nor unknown".to_owned()),
        Some(pb::DimensionKind::Unknown(unknown)) => Ok((!unknown.variadic).then_some(Dim::Unknown)),
        Some(pb::DimensionKind::Constant(constant)) => match usize::try_from(constant.size) {
            Ok(size) => Ok(Some(Dim::Fixed(size))),
            Err(_) => Err(format!("has a dimension of size {}", constant.size)),
        },
    }
}

/// The constant that a message gives; its elements may lie in a weight file.
pub(super) fn read_value(value: pb::Value, weights: &mut WeightFiles) -> Result<Value, String> {
    let ty = read_type(value.r#type)?;
    let immediate = match value.kind.ok_or("has a type, but no value")? {
        pb::ValueKind::Blob(blob) => {
            let (dtype, shape) = fixed(&ty)?;
            return weights.tensor(&blob.file_name, blob.offset, dtype, shape).map(Value::Tensor);
        }
        pb::ValueKind::Immediate(immediate) => immediate.value.ok_or("has an empty value")?,
    };
    match (immediate, &ty) {
        (pb::Immediate::Tensor(tensor), Type::Tensor(_)) => {
            let (dtype, shape) = fixed(&ty)?;
            immediate_tensor(tensor, dtype, shape).map(Value::Tensor)
        }
        (pb::Immediate::List(list), Type::List(_, length)) => {
            let found = list.values.len();
            match length {
                Some(length) if *length != found => Err(format!("is declared as {ty}, but holds {found} values")),
                _ => Ok(Value::List(read_values(list.values, weights)?)),
            }
        }
        (pb::Immediate::Tuple(tuple), Type::Tuple(items)) => {
            if tuple.values.len() != items.len() {
                return Err(format!("is declared as {ty}, but holds {} values", tuple.values.len()));
            }
            Ok(Value::Tuple(read_values(tuple.values, weights)?))
        }
        (pb::Immediate::Dictionary(dictionary), Type::Dictionary(..)) => {
            let pairs = dictionary.values.into_iter().map(|pair| {
                let (key, value) = pair.key.zip(pair.value).ok_or("has a dictionary entry without key or value")?;
                Ok((read_value(key, weights)?, read_value(value, weights)?))
            });
            Ok(Value::Dictionary(pairs.collect::<Result<_, String>>()?))
        }
        _ => Err(format!("is declared as {ty}, but its value is of another kind")),
    }
}

fn read_values(values: Vec<pb::Value>, weights: &mut WeightFiles) -> Result<Vec<Value>, String> {
    values.into_iter().map(|value| read_value(value, weights)).collect()
}

/// Element type and shape of a constant.
fn fixed(ty: &Type) -> Result<(DType, Vec<usize>), String> {
    match ty {
        Type::Tensor(tensor) => match tensor.fixed() {
            Some(shape) => Ok((tensor.dtype, shape)),
            None => Err(format!("is a constant, but its type {tensor} is not fixed")),
        },
        _ => Err(format!("is stored as a tensor, but declared as {ty}")),
    }
}

/// A tensor that stands in the model file itself.
fn immediate_tensor(tensor: pb::TensorValue, dtype: DType, shape: Vec<usize>) -> Result<Tensor, String> {
    let elements = tensor.elements.ok_or_else(|| format!("is declared as {dtype} {shape:?}, but holds no elements"))?;
    let declared = format!("{dtype} {shape:?}");
    let (count, tensor) = match elements {
        pb::Elements::Strings(strings) if dtype == DType::String => {
            (strings.values.len(), Tensor::strings(shape, strings.values))
        }
        elements => {
            let bytes = packed(elements, dtype).map_err(|reason| format!("is declared as {declared}, but {reason}"))?;
            ((bytes.len() * 8).checked_div(dtype.bits()).unwrap_or(0), Tensor::new(dtype, shape, bytes))
        }
    };
    tensor.ok_or_else(|| format!("is declared as {declared}, but holds {count} elements"))
}

/// Elements as a [`Tensor`] stores them. Which field holds which types is a convention of the format: 8-bit and
/// smaller types, half floats and uint32 are in `bytes`, other integers in fields that are wider than they.
fn packed(elements: pb::Elements, dtype: DType) -> Result<Bytes, String> {
    use DType::{Bool, Float32, Float64, Int8, Int16, Int32, Int64, String, UInt8, UInt16, UInt32, UInt64};
    match (elements, dtype) {
        (pb::Elements::Bytes(raw), dtype) if dtype != String => Ok(raw.values),
        (pb::Elements::Floats(raw), Float32) | (pb::Elements::Doubles(raw), Float64) => Ok(raw.values),
        (pb::Elements::Bools(bools), Bool) => Ok(bools.values.into_iter().map(u8::from).collect()),
        (pb::Elements::Ints(ints), Int32) => Ok(le_bytes(&ints.values, i32::to_le_bytes)),
        (pb::Elements::Ints(ints), Int8 | Int16 | Int64 | UInt8 | UInt16 | UInt32 | UInt64) => {
            narrow(ints.values.into_iter().map(i64::from), dtype)
        }
        // A uint64 keeps its bits in the sign too.
        (pb::Elements::LongInts(ints), Int64 | UInt64) => Ok(le_bytes(&ints.values, i64::to_le_bytes)),
        (pb::Elements::LongInts(ints), Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32) => {
            narrow(ints.values.into_iter(), dtype)
        }
        (elements, _) => Err(format!("holds {}", field(&elements))),
    }
}

fn le_bytes<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
    values.iter().flat_map(|&value| bytes(value)).collect::<Vec<u8>>().into()
}

/// Integers, each in the bytes of `dtype`.
fn narrow(values: impl Iterator<Item = i64>, dtype: DType) -> Result<Bytes, String> {
    let bits = dtype.bits();
    let signed = matches!(dtype, DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64);
    let fits = |value: i64| match (signed, bits) {
        (true, 64) => true,
        (true, bits) => value >> (bits - 1) == 0 || value >> (bits - 1) == -1,
        (false, 64) => value >= 0,
        (false, bits) => value >> bits == 0,
    };
    let mut bytes = Vec::new();
    for value in values {
        if !fits(value) {
            return Err(format!("holds {value}"));
        }
        bytes.extend_from_slice(&value.to_le_bytes()[..bits / 8]);
    }
    Ok(bytes.into())
}

fn field(elements: &pb::Elements) -> &'static str {
    match elements {
        pb::Elements::Floats(_) => "floats",
        pb::Elements::Ints(_) => "ints",
        pb::Elements::Bools(_) => "bools",
        pb::Elements::Strings(_) => "strings",
        pb::Elements::LongInts(_) => "long ints",
        pb::Elements::Doubles(_) => "doubles",
        pb::Elements::Bytes(_) => "bytes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(values: &[i32]) -> pb::Elements {
        pb::Elements::Ints(pb::RepeatedInts { values: values.to_vec() })
    }

    fn longs(values: &[i64]) -> pb::Elements {
        pb::Elements::LongInts(pb::RepeatedLongInts { values: values.to_vec() })
    }

    fn raw(values: &'static [u8]) -> pb::RawValues {
        pb::RawValues { values: Bytes::from_static(values) }
    }

    fn check(elements: pb::Elements, dtype: DType, shape: &[usize], expected: &str) {
        let shown = match immediate_tensor(pb::TensorValue { elements: Some(elements) }, dtype, shape.to_vec()) {
            Ok(tensor) => {
                format!("{:?}", tensor.as_strings().map_or(format!("{:?}", &tensor.bytes()[..]), |s| s.join(",")))
            }
            Err(error) => error,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn each_type_in_its_field() {
        check(pb::Elements::Bytes(raw(b"\x00\x3c")), DType::Float16, &[], "[0, 60]");
        check(pb::Elements::Floats(raw(b"\x00\x00\x80\x3f")), DType::Float32, &[1], "[0, 0, 128, 63]");
        check(pb::Elements::Bytes(raw(b"\x21\x03")), DType::UInt4, &[3], "[33, 3]");
        check(pb::Elements::Bools(pb::RepeatedBools { values: vec![true, false] }), DType::Bool, &[2], "[1, 0]");
        check(ints(&[-1]), DType::Int32, &[1], "[255, 255, 255, 255]");
        check(ints(&[-2]), DType::Int8, &[], "[254]");
        check(ints(&[65535]), DType::UInt16, &[], "[255, 255]");
        check(longs(&[-1]), DType::UInt64, &[], "[255, 255, 255, 255, 255, 255, 255, 255]");
        check(ints(&[]), DType::Int32, &[0], "[]");
        let strings = pb::RepeatedStrings { values: vec!["a".to_owned(), "b".to_owned()] };
        check(pb::Elements::Strings(strings), DType::String, &[2], "a,b");
    }

    #[test]
    fn counts_and_fields_must_fit() {
        check(ints(&[1]), DType::Int32, &[2], "is declared as int32 [2], but holds 1 elements");
        check(ints(&[1, 2]), DType::Int32, &[], "is declared as int32 [], but holds 2 elements");
        check(ints(&[256]), DType::UInt8, &[], "holds 256");
        check(ints(&[-129]), DType::Int8, &[], "holds -129");
        check(ints(&[1]), DType::Float32, &[], "is declared as fp32 [], but holds ints");
        check(pb::Elements::Bytes(raw(b"a")), DType::String, &[], "but holds bytes");
        check(ints(&[1]), DType::String, &[], "but holds ints");
        check(ints(&[1]), DType::Int32, &[usize::MAX, 3], "holds 1 elements");
    }

    #[test]
    fn ranks() {
        let of = |rank, sizes: &[u64]| {
            let fixed =
                |&size| pb::Dimension { kind: Some(pb::DimensionKind::Constant(pb::ConstantDimension { size })) };
            tensor_type(&pb::TensorType { data_type: 11, rank, dimensions: sizes.iter().map(fixed).collect() })
        };
        assert_eq!(of(-1, &[]).unwrap().to_string(), "tensor<fp32, ?>");
        assert_eq!(of(2, &[3, 4]).unwrap().to_string(), "tensor<fp32, [3, 4]>");
        assert_eq!(of(9, &[3, 4]).unwrap_err(), "has rank 9, but lists 2 dimensions");
        assert_eq!(of(-1, &[3]).unwrap_err(), "has rank -1, but lists 1 dimensions");
    }
}
