//! Numbers as MIL text writes them, as little-endian elements.

use crate::{DType, error::quote};

/// The elements of a tensor. Types of less than a byte stand in weight files only.
pub(super) fn bytes(dtype: DType, words: &[&str]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for word in words {
        push(dtype, word, &mut bytes).ok_or_else(|| format!("{} is no {dtype}", quote(word)))?;
    }
    Ok(bytes)
}

fn push(dtype: DType, word: &str, bytes: &mut Vec<u8>) -> Option<()> {
    match dtype {
        DType::Bool => bytes.push(u8::from(word.parse::<bool>().ok()?)),
        DType::Float16 => bytes.extend(half(float(word)?).to_le_bytes()),
        DType::Float32 => bytes.extend((float(word)? as f32).to_le_bytes()),
        DType::Float64 => bytes.extend(float(word)?.to_le_bytes()),
        DType::Int8 => bytes.extend(word.parse::<i8>().ok()?.to_le_bytes()),
        DType::Int16 => bytes.extend(word.parse::<i16>().ok()?.to_le_bytes()),
        DType::Int32 => bytes.extend(word.parse::<i32>().ok()?.to_le_bytes()),
        DType::Int64 => bytes.extend(word.parse::<i64>().ok()?.to_le_bytes()),
        DType::UInt8 => bytes.extend(word.parse::<u8>().ok()?.to_le_bytes()),
        DType::UInt16 => bytes.extend(word.parse::<u16>().ok()?.to_le_bytes()),
        DType::UInt32 => bytes.extend(word.parse::<u32>().ok()?.to_le_bytes()),
        DType::UInt64 => bytes.extend(word.parse::<u64>().ok()?.to_le_bytes()),
        _ => return None,
    }
    Some(())
}

/// A decimal number, a hexadecimal one such as `0x1.8p-3`, `inf` or `nan`.
fn float(word: &str) -> Option<f64> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => hexadecimal(hex)?,
        None => digits.parse::<f64>().ok()?,
    };
    Some(if negative { -value } else { value })
}

/// The digits and the exponent of a hexadecimal number. Its value is exact as long as it has 53 bits.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = match text.split_once('p') {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || whole.len() + fraction.len() > 32 {
        return None;
    }
    let mut value = 0.0f64;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let shift = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    // In two steps, so that neither is out of range where the whole is not.
    Some(value * 2f64.powi(shift / 2) * 2f64.powi(shift - shift / 2))
}

/// fp16, rounded to the nearest, ties to even.
fn half(value: f64) -> u16 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7e00;
    }
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    // The size of a step at this magnitude; below 2^-14 all steps are 2^-24.
    let exponent = (magnitude.to_bits() >> 52) as i32 - 1023;
    let exponent = exponent.max(-14);
    let steps = (magnitude * 2f64.powi(10 - exponent)).round_ties_even() as u16;
    // A carry into the exponent's bits is right as it is.
    let biased = if steps < 1 << 10 { 0 } else { ((exponent + 15) as u16) << 10 };
    sign | if biased == 0 { steps } else { biased + (steps - (1 << 10)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (word, expected) in [
            ("0x1.8p-3", Some(0.1875)),
            ("-0x1p+4", Some(-16.0)),
            ("0x0p+0", Some(0.0)),
            ("1e-3", Some(0.001)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("0x1p-1074", Some(5e-324)),
            ("0x", None),
            ("0xp1", None),
            ("x", None),
            ("0x1p99999999999", None),
        ] {
            assert_eq!(float(word), expected, "{word}");
        }
    }

    #[test]
    fn halves() {
        for (value, expected) in [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (65519.9, 0x7bff),
            (65520.0, 0x7c00),
            (5.960_464_477_539_063e-8, 0x0001),
            (2.980_232_238_769_531e-8, 0x0000),
            (6.103_515_625e-5, 0x0400),
            (6.097_555_160_522_461e-5, 0x03ff),
            (0.999_9, 0x3c00),
            (1.000_488_281_25, 0x3c00),
            (f64::INFINITY, 0x7c00),
        ] {
            assert_eq!(half(value), expected, "{value}");
        }
    }

    #[test]
    fn elements_of_every_type() {
        assert_eq!(bytes(DType::Int8, &["-1", "127"]), Ok(vec![255, 127]));
        assert_eq!(bytes(DType::Float32, &["0x1p0"]), Ok(1f32.to_le_bytes().to_vec()));
        assert_eq!(bytes(DType::Bool, &["true"]), Ok(vec![1]));
        assert_eq!(bytes(DType::Int8, &["128"]), Err("\"128\" is no int8".to_owned()));
    }
}
