//! Decoded weights of layers.

use bytes::Bytes;

use super::Weight;
use crate::{DType, Tensor, pb::nn as pb};

/// How many elements a weight has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    /// What the layer's sizes say: so many elements, and so many scales where they are quantised.
    Of { elements: u64, scales: u64 },
    /// The layer does not say; any number but 0.
    Any,
}

impl Count {
    /// The same number of elements with this number of scales.
    pub(super) fn with_scales(self, scales: u64) -> Count {
        match self {
            Count::Of { elements, .. } => Count::Of { elements, scales },
            Count::Any => Count::Any,
        }
    }
}

/// The product of some sizes as a [`Count`], with a scale for each of the first size. An error where it is 0 or does
/// not fit.
pub(super) fn count(sizes: &[u64]) -> Result<Count, String> {
    let elements = sizes.iter().try_fold(1u64, |n, &size| n.checked_mul(size));
    match elements {
        None => Err(format!("sizes {sizes:?} are too large")),
        Some(0) => Err(format!("sizes {sizes:?} have a zero")),
        Some(elements) => Ok(Count::Of { elements, scales: sizes.first().copied().unwrap_or(1) }),
    }
}

/// The weight that the layer calls `what`.
pub(super) fn read_weight(params: Option<pb::WeightParams>, count: Count, what: &str) -> Result<Weight, String> {
    let read = || match params.unwrap_or_default() {
        pb::WeightParams { quantization: Some(quantization), raw_value, int8_raw_value, .. } => {
            quantized(quantization, raw_value, int8_raw_value, count)
        }
        params => float(params, count),
    };
    read().map_err(|reason| format!("{what}: {reason}"))
}

/// [`read_weight`], where `present`.
pub(super) fn optional_weight(
    present: bool,
    params: Option<pb::WeightParams>,
    count: Count,
    what: &str,
) -> Result<Option<Weight>, String> {
    present.then(|| read_weight(params, count, what)).transpose()
}

fn float(params: pb::WeightParams, count: Count) -> Result<Weight, String> {
    let (dtype, bytes) = match (params.float_value, params.float16_value) {
        (float, half) if half.is_empty() => (DType::Float32, float),
        (float, half) if float.is_empty() => (DType::Float16, half),
        _ => return Err("is stored both as float32 and as float16".to_owned()),
    };
    let size = dtype.bits() / 8;
    let stored = bytes.len() / size;
    let expected = match count {
        Count::Of { elements, .. } => elements,
        Count::Any => stored.max(1) as u64,
    };
    let tensor = if stored as u64 == expected { Tensor::new(dtype, vec![stored], bytes) } else { None };
    tensor.map(Weight::Float).ok_or_else(|| format!("expected {expected} values, but {stored} are stored"))
}

fn quantized(params: pb::QuantizationParams, raw: Bytes, int8: Bytes, count: Count) -> Result<Weight, String> {
    let Count::Of { elements, scales } = count else {
        return Err("is quantised, which is not known here".to_owned());
    };
    let bits = u32::try_from(params.number_of_bits).ok().filter(|bits| (1..=8).contains(bits));
    let bits = bits.ok_or_else(|| format!("is quantised to {} bits; 1 to 8 are known", params.number_of_bits))?;
    let signed = !int8.is_empty();
    let packed = match (raw.is_empty(), signed) {
        (_, false) => raw,
        (true, true) if bits == 8 => int8,
        (true, true) => return Err(format!("is stored as int8, but quantised to {bits} bits")),
        (false, true) => return Err("is stored both raw and as int8".to_owned()),
    };
    let expected = elements.checked_mul(u64::from(bits)).map(|bits| bits.div_ceil(8));
    if expected != Some(packed.len() as u64) {
        return Err(format!("expected {elements} values of {bits} bits, but {} bytes are stored", packed.len()));
    }
    match params.quantization.ok_or("is quantised, but does not say how")? {
        pb::Quantization::Linear(pb::LinearQuantization { scale, bias }) => {
            let fits = |n: usize| n == 1 || n as u64 == scales;
            if !fits(scale.len()) || !(bias.is_empty() || fits(bias.len())) {
                let found = format!("has {} scales and {} biases", scale.len(), bias.len());
                return Err(format!("{found}; expected 1 or {scales} of each"));
            }
            Ok(Weight::Linear { packed, bits, signed, scale, bias })
        }
        pb::Quantization::LookUpTable(_) if signed => Err("is stored as int8, but has a table".to_owned()),
        pb::Quantization::LookUpTable(pb::LookUpTable { float_value: table }) => {
            if table.len() != 1 << bits {
                return Err(format!("has a table of {} values; {} were expected", table.len(), 1 << bits));
            }
            Ok(Weight::Table { packed, bits, table })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(params: pb::WeightParams, sizes: &[u64], expected: &str) {
        let shown = match count(sizes).and_then(|count| read_weight(Some(params), count, "weights")) {
            Ok(weight) => format!("{weight:?}"),
            Err(error) => error,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    fn floats(n: usize) -> pb::WeightParams {
        pb::WeightParams { float_value: vec![0; 4 * n].into(), ..Default::default() }
    }

    fn linear(bits: u64, bytes: usize, scales: usize, biases: usize) -> pb::WeightParams {
        let linear = pb::LinearQuantization { scale: vec![1.0; scales], bias: vec![0.0; biases] };
        pb::WeightParams {
            raw_value: vec![0; bytes].into(),
            quantization: Some(pb::QuantizationParams {
                number_of_bits: bits,
                quantization: Some(pb::Quantization::Linear(linear)),
            }),
            ..Default::default()
        }
    }

    #[test]
    fn floats_of_both_widths() {
        check(floats(6), &[2, 3], "Float(Tensor { dtype: Float32, shape: [6]");
        check(pb::WeightParams { float16_value: vec![0; 12].into(), ..Default::default() }, &[6], "dtype: Float16");
        check(floats(5), &[2, 3], "weights: expected 6 values, but 5 are stored");
        check(pb::WeightParams::default(), &[1], "expected 1 values, but 0 are stored");
        check(pb::WeightParams { float16_value: vec![0; 2].into(), ..floats(1) }, &[1], "both");
        check(floats(1), &[1 << 50, 1 << 50], "too large");
        check(floats(1), &[0, 1], "have a zero");
    }

    #[test]
    fn quantised() {
        check(linear(3, 2, 1, 0), &[5, 1], "Linear { packed");
        check(linear(8, 6, 2, 2), &[2, 3], "Linear { packed");
        check(linear(8, 6, 3, 2), &[2, 3], "has 3 scales and 2 biases; expected 1 or 2 of each");
        check(linear(8, 5, 1, 1), &[2, 3], "expected 6 values of 8 bits, but 5 bytes are stored");
        check(linear(77, 5, 1, 1), &[2, 3], "77 bits");
        check(linear(u64::MAX, 5, 1, 1), &[2, 3], "bits; 1 to 8 are known");
        check(linear(8, 0, 1, 1), &[u64::MAX], "bits, but 0 bytes");
        let table = pb::Quantization::LookUpTable(pb::LookUpTable { float_value: vec![0.0; 4] });
        let with_table = |bits| pb::WeightParams {
            quantization: Some(pb::QuantizationParams { number_of_bits: bits, quantization: Some(table.clone()) }),
            ..linear(bits, 1, 0, 0)
        };
        check(with_table(2), &[4], "Table { packed");
        check(with_table(1), &[4], "has a table of 4 values; 2 were expected");
        let int8 = pb::WeightParams { int8_raw_value: vec![0; 4].into(), ..linear(8, 0, 1, 0) };
        check(int8, &[4], "signed: true");
    }
}
