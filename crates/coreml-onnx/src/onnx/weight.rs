//! Weights by reference: where each constant's elements come from, and how they are read.
//!
//! Nothing is widened or decompressed before somebody asks for the elements.

use std::sync::Arc;

use bytes::Bytes;
use coreml_format::{DType, Tensor};
use half::{bf16, f16, slice::HalfFloatSliceExt};

use super::Element;

/// A constant of an ONNX model.
#[derive(Clone, Debug)]
pub struct Weight {
    name: String,
    element: Element,
    source: Arc<Source>,
}

impl Weight {
    pub(crate) fn new(name: String, element: Element, source: Arc<Source>) -> Weight {
        Weight { name, element, source }
    }

    /// The initializer's name in the graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element type in the graph, which may be wider than in the file.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The size of each dimension.
    pub fn shape(&self) -> Vec<usize> {
        self.source.shape()
    }

    /// Bytes that the elements take in the graph's type.
    pub fn byte_len(&self) -> usize {
        self.shape().iter().product::<usize>() * self.element.size()
    }

    /// The elements in the graph's type, little endian. Cost: widens or decompresses the whole weight, unless the
    /// file has it in this form already; then this is a view of the file.
    pub fn bytes(&self) -> Bytes {
        if let Source::Stored(tensor) = &*self.source
            && stored_as(tensor.dtype(), self.element)
        {
            return tensor.bytes().clone();
        }
        match self.element {
            Element::F32 => Bytes::from_owner(Floats(self.source.f32s())),
            Element::I32 => le(self.source.i64s(), |v| (v as i32).to_le_bytes()),
            Element::I64 => le(self.source.i64s(), i64::to_le_bytes),
            Element::I16 => le(self.source.i64s(), |v| (v as i16).to_le_bytes()),
            Element::U16 => le(self.source.i64s(), |v| (v as u16).to_le_bytes()),
            Element::I8 => le(self.source.i64s(), |v| (v as i8).to_le_bytes()),
            Element::U8 => le(self.source.i64s(), |v| (v as u8).to_le_bytes()),
            Element::Bool => le(self.source.i64s(), |v| [u8::from(v != 0)]),
            Element::F16 => le(self.source.f32s(), |v| f16::from_f32(v).to_le_bytes()),
        }
    }

    /// The elements of a weight of type [`Element::F32`], widened or decompressed.
    pub fn f32s(&self) -> Vec<f32> {
        self.source.f32s()
    }
}

/// Floats seen as bytes without a copy.
struct Floats(Vec<f32>);

impl AsRef<[u8]> for Floats {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn le<T: Copy, const N: usize>(values: Vec<T>, to: impl Fn(T) -> [u8; N]) -> Bytes {
    Bytes::from(values.into_iter().flat_map(to).collect::<Vec<u8>>())
}

fn stored_as(dtype: DType, element: Element) -> bool {
    matches!(
        (dtype, element),
        (DType::Float32, Element::F32)
            | (DType::Float16, Element::F16)
            | (DType::Int32, Element::I32)
            | (DType::Int64, Element::I64)
            | (DType::Int8, Element::I8)
            | (DType::UInt8, Element::U8)
            | (DType::Bool, Element::Bool)
    )
}

/// Where a constant's elements come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// As the file has them.
    Stored(Tensor),
    /// Decompressed on demand.
    Constexpr(Constexpr),
    /// Unsigned integers of 1 to 8 bits, packed from the most significant bit on, as layers of neural networks have
    /// them.
    Packed {
        /// The packed integers.
        bytes: Bytes,
        /// Bits an integer.
        bits: usize,
        /// The size of each dimension.
        shape: Vec<usize>,
    },
    /// Axis `i` of the result is axis `perm[i]` of `source`.
    Permuted {
        /// What is permuted.
        source: Arc<Source>,
        /// The axes.
        perm: Vec<usize>,
    },
    /// The same elements in another shape.
    Reshaped {
        /// What is reshaped.
        source: Arc<Source>,
        /// The new shape, of as many elements.
        shape: Vec<usize>,
    },
}

/// What tells one stored constant from another: where its bytes lie, and how they are seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    bytes: (usize, usize),
    dtype: DType,
    forms: Vec<Form>,
}

/// One step from stored elements to a constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    Shaped(Vec<usize>),
    Permuted(Vec<usize>),
}

/// MIL's `constexpr_*`: how a compressed weight becomes a dense one.
///
/// A scale, an offset or a table may have any size that divides the data's in each dimension: one entry then serves
/// a block (coremltools 9.0, `mil/ops/defs/iOS18/compression.py`).
#[derive(Clone, Debug)]
pub(crate) enum Constexpr {
    /// `(data - offset) * scale`, by block.
    ShiftScale { data: Arc<Source>, scale: Arc<Source>, offset: Option<Arc<Source>> },
    /// `data * scale + bias`, by block, as layers of neural networks have it. A scale may be 0.
    ScaleBias { data: Arc<Source>, scale: Arc<Source>, bias: Option<Arc<Source>> },
    /// `lut[block][index]`, a vector of `lut`'s last dimension along `vector_axis`.
    Lut { indices: Arc<Source>, lut: Arc<Source>, vector_axis: usize },
    /// Non-zeros where `mask` is set.
    Dense { nonzero: Arc<Source>, mask: Arc<Source> },
    /// The non-zeros of what `dense` gives, in order, where `mask` is set.
    Sparse { dense: Arc<Source>, mask: Arc<Source> },
}

impl Source {
    /// A constant of our own making.
    pub(crate) fn floats(shape: Vec<usize>, values: Vec<f32>) -> Source {
        let tensor = Tensor::new(DType::Float32, shape, Bytes::from_owner(Floats(values)));
        Source::Stored(tensor.expect("the caller gives as many values as the shape has"))
    }

    /// An integer constant of our own making, of type `dtype` (int32 or int64).
    pub(crate) fn ints(shape: Vec<usize>, values: &[i64]) -> Source {
        let bytes = le(values.to_vec(), i64::to_le_bytes);
        Source::Stored(
            Tensor::new(DType::Int64, shape, bytes).expect("the caller gives as many values as the shape has"),
        )
    }

    pub(crate) fn shape(&self) -> Vec<usize> {
        match self {
            Source::Stored(tensor) => tensor.shape().to_vec(),
            Source::Permuted { source, perm } => {
                let shape = source.shape();
                perm.iter().map(|&axis| shape[axis]).collect()
            }
            Source::Reshaped { shape, .. } | Source::Packed { shape, .. } => shape.clone(),
            Source::Constexpr(Constexpr::ShiftScale { data, .. } | Constexpr::ScaleBias { data, .. }) => data.shape(),
            Source::Constexpr(Constexpr::Lut { indices, lut, vector_axis }) => {
                let mut shape = indices.shape();
                let vector = lut.shape().last().copied().unwrap_or(1);
                if vector > 1 {
                    shape[*vector_axis] *= vector;
                }
                shape
            }
            Source::Constexpr(Constexpr::Dense { mask, .. }) => mask.shape(),
            Source::Constexpr(Constexpr::Sparse { mask, .. }) => {
                vec![mask.i64s().into_iter().filter(|&bit| bit != 0).count()]
            }
        }
    }

    /// What makes this the same constant as another one; `None` where telling would cost more than it saves.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let (mut identity, form) = match self {
            Source::Stored(tensor) => {
                let bytes = (tensor.bytes().as_ptr() as usize, tensor.bytes().len());
                let identity = Identity { bytes, dtype: tensor.dtype(), forms: Vec::new() };
                (identity, Form::Shaped(tensor.shape().to_vec()))
            }
            Source::Permuted { source, perm } => (source.identity()?, Form::Permuted(perm.clone())),
            Source::Reshaped { source, shape } => (source.identity()?, Form::Shaped(shape.clone())),
            _ => return None,
        };
        identity.forms.push(form);
        Some(identity)
    }

    /// The stored tensor, where nothing has to be computed.
    pub(crate) fn stored(&self) -> Option<&Tensor> {
        if let Source::Stored(tensor) = self { Some(tensor) } else { None }
    }

    /// Whether the elements are integers or booleans as stored.
    pub(crate) fn is_float(&self) -> bool {
        match self {
            Source::Stored(tensor) => tensor.dtype().is_float(),
            Source::Permuted { source, .. } | Source::Reshaped { source, .. } => source.is_float(),
            Source::Constexpr(_) => true,
            Source::Packed { .. } => false,
        }
    }

    /// The elements as floats.
    pub(crate) fn f32s(&self) -> Vec<f32> {
        match self {
            Source::Stored(tensor) => stored_f32s(tensor),
            Source::Permuted { source, perm } => permute(&source.f32s(), &source.shape(), perm),
            Source::Reshaped { source, .. } => source.f32s(),
            Source::Constexpr(constexpr) => constexpr.f32s(),
            Source::Packed { .. } => self.i64s().into_iter().map(|v| v as f32).collect(),
        }
    }

    /// The elements as integers; floats are truncated.
    pub(crate) fn i64s(&self) -> Vec<i64> {
        match self {
            Source::Stored(tensor) => stored_i64s(tensor),
            Source::Permuted { source, perm } => permute(&source.i64s(), &source.shape(), perm),
            Source::Reshaped { source, .. } => source.i64s(),
            Source::Constexpr(constexpr) => constexpr.f32s().into_iter().map(|v| v as i64).collect(),
            Source::Packed { bytes, bits, shape } => unpack_high(bytes, *bits, shape.iter().product()),
        }
    }
}

impl Constexpr {
    fn f32s(&self) -> Vec<f32> {
        match self {
            Constexpr::ShiftScale { data, scale, offset } => shift_scale(data, scale, offset.as_deref()),
            Constexpr::ScaleBias { data, scale, bias } => scale_bias(data, scale, bias.as_deref()),
            Constexpr::Lut { indices, lut, vector_axis } => look_up(indices, lut, *vector_axis),
            Constexpr::Dense { nonzero, mask } => {
                let mut nonzero = nonzero.f32s().into_iter();
                mask.i64s().into_iter().map(|bit| if bit != 0 { nonzero.next().unwrap_or(0.0) } else { 0.0 }).collect()
            }
            Constexpr::Sparse { dense, mask } => {
                let bits = mask.i64s();
                dense.f32s().into_iter().zip(bits).filter(|(_, bit)| *bit != 0).map(|(value, _)| value).collect()
            }
        }
    }
}

fn shift_scale(data: &Source, scale: &Source, offset: Option<&Source>) -> Vec<f32> {
    let shape = data.shape();
    let mut values = data.f32s();
    if let Some(offset) = offset {
        let (offsets, mut blocks) = (offset.f32s(), Blocks::new(&shape, &offset.shape()));
        values.iter_mut().for_each(|v| *v -= offsets[blocks.next()]);
    }
    let (scales, mut blocks) = (scale.f32s(), Blocks::new(&shape, &scale.shape()));
    values.iter_mut().for_each(|v| *v *= scales[blocks.next()]);
    values
}

fn scale_bias(data: &Source, scale: &Source, bias: Option<&Source>) -> Vec<f32> {
    let shape = data.shape();
    let mut values = data.f32s();
    let (scales, mut blocks) = (scale.f32s(), Blocks::new(&shape, &scale.shape()));
    values.iter_mut().for_each(|v| *v *= scales[blocks.next()]);
    if let Some(bias) = bias {
        let (biases, mut blocks) = (bias.f32s(), Blocks::new(&shape, &bias.shape()));
        values.iter_mut().for_each(|v| *v += biases[blocks.next()]);
    }
    values
}

fn look_up(indices: &Source, lut: &Source, vector_axis: usize) -> Vec<f32> {
    let (shape, lut_shape, table) = (indices.shape(), lut.shape(), lut.f32s());
    let [.., entries, vector] = lut_shape[..] else { return Vec::new() };
    let index = indices.i64s();
    let mut blocks = Blocks::new(&shape, &lut_shape[..lut_shape.len() - 2]);
    // An index past the table cannot come out of a validated file; clamp all the same.
    let at = |block: usize, i: i64, lane: usize| {
        table[(block * entries + usize::try_from(i).unwrap_or(0).min(entries - 1)) * vector + lane]
    };
    if vector == 1 {
        return index.into_iter().map(|i| at(blocks.next(), i, 0)).collect();
    }
    let inner: usize = shape[vector_axis + 1..].iter().product();
    let mut values = vec![0.0; index.len() * vector];
    for (n, i) in index.into_iter().enumerate() {
        let (block, outer, rest) = (blocks.next(), n / inner, n % inner);
        for lane in 0..vector {
            values[(outer * vector + lane) * inner + rest] = at(block, i, lane);
        }
    }
    values
}

/// Walks a tensor in row-major order and gives, for each element, the index of its block's entry.
struct Blocks {
    shape: Vec<usize>,
    /// Entry stride and block size of each dimension.
    steps: Vec<(usize, usize)>,
    position: Vec<usize>,
    uniform: bool,
}

impl Blocks {
    /// `entries` has the rank of `shape` and divides it; a shorter one is aligned at the left, as a scalar is.
    fn new(shape: &[usize], entries: &[usize]) -> Blocks {
        let mut stride = 1;
        let mut steps = vec![(0, 1); shape.len()];
        for axis in (0..shape.len()).rev() {
            let n = entries.get(axis).copied().unwrap_or(1).max(1);
            steps[axis] = (stride, (shape[axis] / n).max(1));
            stride *= n;
        }
        let uniform = stride == 1;
        Blocks { shape: shape.to_vec(), steps, position: vec![0; shape.len()], uniform }
    }

    fn next(&mut self) -> usize {
        if self.uniform {
            return 0;
        }
        let entry = self.position.iter().zip(&self.steps).map(|(p, (stride, block))| p / block * stride).sum();
        for axis in (0..self.shape.len()).rev() {
            self.position[axis] += 1;
            if self.position[axis] < self.shape[axis] {
                break;
            }
            self.position[axis] = 0;
        }
        entry
    }
}

fn stored_f32s(tensor: &Tensor) -> Vec<f32> {
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::Float32 => read(bytes, f32::from_le_bytes),
        DType::Float16 => widen(bytes),
        DType::Float64 => read(bytes, |b| f64::from_le_bytes(b) as f32),
        DType::BFloat16 => read(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        DType::Float8E4M3FN => bytes.iter().map(|&b| small_float(b, 4, 7)).collect(),
        DType::Float8E5M2 => bytes.iter().map(|&b| small_float(b, 5, 15)).collect(),
        _ => stored_i64s(tensor).into_iter().map(|v| v as f32).collect(),
    }
}

fn stored_i64s(tensor: &Tensor) -> Vec<i64> {
    let bytes = tensor.bytes();
    let unpacked = |bits| unpack(bytes, bits, tensor.count());
    match tensor.dtype() {
        DType::Bool | DType::UInt8 => bytes.iter().map(|&b| i64::from(b)).collect(),
        DType::Int8 => bytes.iter().map(|&b| i64::from(b as i8)).collect(),
        DType::Int16 => read(bytes, |b| i64::from(i16::from_le_bytes(b))),
        DType::UInt16 => read(bytes, |b| i64::from(u16::from_le_bytes(b))),
        DType::Int32 => read(bytes, |b| i64::from(i32::from_le_bytes(b))),
        DType::UInt32 => read(bytes, |b| i64::from(u32::from_le_bytes(b))),
        DType::Int64 => read(bytes, i64::from_le_bytes),
        DType::UInt64 => read(bytes, |b| u64::from_le_bytes(b) as i64),
        DType::UInt1 => unpacked(1).collect(),
        DType::UInt2 => unpacked(2).collect(),
        DType::UInt3 => unpacked(3).collect(),
        DType::UInt4 => unpacked(4).collect(),
        DType::UInt6 => unpacked(6).collect(),
        DType::Int4 => unpacked(4).map(|v| if v >= 8 { v - 16 } else { v }).collect(),
        DType::String => Vec::new(),
        DType::Float16
        | DType::Float32
        | DType::Float64
        | DType::BFloat16
        | DType::Float8E4M3FN
        | DType::Float8E5M2 => stored_f32s(tensor).into_iter().map(|v| v as i64).collect(),
    }
}

fn read<T, const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| from(chunk)).collect()
}

/// fp16 to fp32 through a small buffer, since the file's bytes need not be aligned.
fn widen(bytes: &[u8]) -> Vec<f32> {
    const LANE: usize = 4096;
    let mut wide = vec![0f32; bytes.len() / 2];
    let mut narrow = [f16::ZERO; LANE];
    for (from, to) in bytes.chunks(2 * LANE).zip(wide.chunks_mut(LANE)) {
        let narrow = &mut narrow[..to.len()];
        for (half, pair) in narrow.iter_mut().zip(from.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*pair);
        }
        narrow.convert_to_f32_slice(to);
    }
    wide
}

/// A float of 8 bits: sign, `exponent` bits with this bias, the rest mantissa (OCP 8-bit floating point, 2023).
fn small_float(byte: u8, exponent: u32, bias: i32) -> f32 {
    let mantissa = 7 - exponent;
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let e = i32::from(byte >> mantissa) & ((1 << exponent) - 1);
    let m = f32::from(byte & ((1 << mantissa) - 1)) / (1 << mantissa) as f32;
    let all_ones = e == (1 << exponent) - 1;
    match (exponent, all_ones) {
        (5, true) if m == 0.0 => sign * f32::INFINITY,
        (5, true) => f32::NAN,
        // E4M3FN has no infinity, and NaN only where mantissa bits are all set.
        (4, true) if byte & 7 == 7 => f32::NAN,
        _ if e == 0 => sign * m * 2f32.powi(1 - bias),
        _ => sign * (1.0 + m) * 2f32.powi(e - bias),
    }
}

/// Integers of `bits` bits, packed from the least significant bit on; 3 and 6 bits cross byte borders.
pub(crate) fn unpack(bytes: &[u8], bits: usize, count: usize) -> impl Iterator<Item = i64> + '_ {
    let mask = (1u32 << bits) - 1;
    (0..count).map(move |i| {
        let (byte, shift) = (i * bits / 8, i * bits % 8);
        let low = u32::from(bytes.get(byte).copied().unwrap_or(0));
        let high = u32::from(bytes.get(byte + 1).copied().unwrap_or(0));
        i64::from(((low | high << 8) >> shift) & mask)
    })
}

/// Integers of `bits` bits, packed from the most significant bit on.
fn unpack_high(bytes: &[u8], bits: usize, count: usize) -> Vec<i64> {
    let mask = (1u32 << bits) - 1;
    let at = |byte: usize| u32::from(bytes.get(byte).copied().unwrap_or(0));
    (0..count)
        .map(|i| {
            let (byte, used) = (i * bits / 8, i * bits % 8);
            let pair = at(byte) << 8 | at(byte + 1);
            i64::from(pair >> (16 - used - bits) & mask)
        })
        .collect()
}

/// Moves axis `perm[i]` to `i`.
fn permute<T: Copy + Default>(values: &[T], shape: &[usize], perm: &[usize]) -> Vec<T> {
    if let ([rows, columns], [1, 0]) = (shape, perm) {
        return transpose(values, *rows, *columns);
    }
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    let steps: Vec<(usize, usize)> = perm.iter().map(|&axis| (shape[axis], strides[axis])).collect();
    let mut out = Vec::with_capacity(values.len());
    let mut position = vec![0; perm.len()];
    for _ in 0..values.len() {
        out.push(values[position.iter().zip(&steps).map(|(p, (_, stride))| p * stride).sum::<usize>()]);
        for axis in (0..perm.len()).rev() {
            position[axis] += 1;
            if position[axis] < steps[axis].0 {
                break;
            }
            position[axis] = 0;
        }
    }
    out
}

/// A blocked transpose, since linear layers' weights are the bulk of a transformer.
fn transpose<T: Copy + Default>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    const BLOCK: usize = 32;
    let mut out = vec![T::default(); values.len()];
    for row in (0..rows).step_by(BLOCK) {
        for column in (0..columns).step_by(BLOCK) {
            for r in row..(row + BLOCK).min(rows) {
                for c in column..(column + BLOCK).min(columns) {
                    out[c * rows + r] = values[r * columns + c];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(dtype: DType, shape: &[usize], bytes: &[u8]) -> Arc<Source> {
        Arc::new(Source::Stored(Tensor::new(dtype, shape.to_vec(), Bytes::copy_from_slice(bytes)).unwrap()))
    }

    fn floats(shape: &[usize], values: &[f32]) -> Arc<Source> {
        Arc::new(Source::floats(shape.to_vec(), values.to_vec()))
    }

    #[test]
    fn sub_byte_integers_unpack_from_the_low_bit() {
        // 3-bit values 1..=5 are 001 010 011 100 101 from the low bit on: 0b11010001, 0b1011000.
        assert_eq!(stored(DType::UInt3, &[5], &[0b1101_0001, 0b0101_1000]).i64s(), [1, 2, 3, 4, 5]);
        assert_eq!(stored(DType::Int4, &[3], &[0xf7, 0x08]).i64s(), [7, -1, -8]);
        assert_eq!(stored(DType::UInt1, &[9], &[0b1000_0001, 1]).i64s(), [1, 0, 0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn layers_pack_integers_from_the_high_bit() {
        // 3-bit values 1..=5 are 001 010 011 100 101 from the high bit on: 0b00101001, 0b11001010.
        let bytes = Bytes::from_static(&[0b0010_1001, 0b1100_1010]);
        let data = Arc::new(Source::Packed { bytes, bits: 3, shape: vec![5] });
        assert_eq!((data.i64s(), data.f32s()), (vec![1, 2, 3, 4, 5], vec![1.0, 2.0, 3.0, 4.0, 5.0]));
        let (scale, bias) = (floats(&[1], &[2.0]), Some(floats(&[1], &[0.5])));
        assert_eq!(Source::Constexpr(Constexpr::ScaleBias { data, scale, bias }).f32s(), [2.5, 4.5, 6.5, 8.5, 10.5]);
    }

    #[test]
    fn small_floats_follow_the_ocp_tables() {
        for (byte, e4m3, e5m2) in [
            (0x00, 0.0, 0.0),
            (0x38, 1.0, 0.5),
            (0x3c, 1.5, 1.0),
            (0xc0, -2.0, -2.0),
            (0x01, 0.001953125, 1.5258789e-5),
        ] {
            assert_eq!((small_float(byte, 4, 7), small_float(byte, 5, 15)), (e4m3, e5m2), "{byte:#x}");
        }
        assert_eq!(small_float(0x7e, 4, 7), 448.0);
        assert!(small_float(0x7f, 4, 7).is_nan() && small_float(0x7d, 5, 15).is_nan());
        assert_eq!(small_float(0xfc, 5, 15), f32::NEG_INFINITY);
    }

    #[test]
    fn blocks_share_scales() {
        let data = stored(DType::Int8, &[2, 4], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let scale = floats(&[2, 2], &[1.0, 10.0, 100.0, 1000.0]);
        let offset = floats(&[1, 1], &[1.0]);
        let dense = Source::Constexpr(Constexpr::ShiftScale { data, scale, offset: Some(offset) });
        assert_eq!(dense.f32s(), [0.0, 1.0, 20.0, 30.0, 400.0, 500.0, 6000.0, 7000.0]);
    }

    #[test]
    fn vectors_of_a_table_lie_along_their_axis() {
        let indices = stored(DType::UInt8, &[2, 2], &[0, 1, 1, 0]);
        let lut = floats(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let dense = Source::Constexpr(Constexpr::Lut { indices, lut, vector_axis: 0 });
        assert_eq!(dense.shape(), [4, 2]);
        assert_eq!(dense.f32s(), [1.0, 3.0, 2.0, 4.0, 3.0, 1.0, 4.0, 2.0]);
    }

    #[test]
    fn sparse_and_dense_undo_each_other() {
        let mask = stored(DType::UInt1, &[2, 2], &[0b0110]);
        let dense =
            Arc::new(Source::Constexpr(Constexpr::Dense { nonzero: floats(&[2], &[5.0, 6.0]), mask: mask.clone() }));
        assert_eq!(dense.f32s(), [0.0, 5.0, 6.0, 0.0]);
        assert_eq!(Source::Constexpr(Constexpr::Sparse { dense, mask }).f32s(), [5.0, 6.0]);
    }

    #[test]
    fn constants_are_the_same_where_bytes_and_forms_are() {
        let source = floats(&[2, 3], &[1.0; 6]);
        let turned = |source: &Arc<Source>| Arc::new(Source::Permuted { source: source.clone(), perm: vec![1, 0] });
        let shaped = |source: &Arc<Source>| Arc::new(Source::Reshaped { source: source.clone(), shape: vec![3, 2] });
        assert_eq!(turned(&source).identity(), turned(&source).identity());
        assert_ne!(turned(&source).identity(), source.identity());
        assert_ne!(turned(&shaped(&source)).identity(), shaped(&turned(&source)).identity());
        assert_ne!(floats(&[2, 3], &[1.0; 6]).identity(), source.identity());
    }

    #[test]
    fn axes_move() {
        let source = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let turned = Source::Permuted { source: source.clone(), perm: vec![1, 0] };
        assert_eq!((turned.shape(), turned.f32s()), (vec![3, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
        let cube = Arc::new(Source::Reshaped { source, shape: vec![1, 2, 3] });
        assert_eq!(Source::Permuted { source: cube, perm: vec![2, 0, 1] }.f32s(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
