//! Functions that several models share.

use std::f64::consts::SQRT_2;

/// `1 / (1 + exp(-x))`, without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// The distribution function of the normal distribution.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// Shares of 1 in the ratio of exponentials.
pub(crate) fn softmax(values: &mut [f64]) {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    share(values);
}

/// Divides by the sum, where there is one.
pub(crate) fn share(values: &mut [f64]) {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|value| *value /= sum);
    }
}

/// The place of the largest value, the first of equals; NaN is below every number. 0 for none.
pub(crate) fn argmax(values: &[f64]) -> usize {
    let better = |a: f64, b: f64| a > b || (b.is_nan() && !a.is_nan());
    (0..values.len()).reduce(|best, i| if better(values[i], values[best]) { i } else { best }).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!((sigmoid(0.0), sigmoid(800.0), sigmoid(-800.0)), (0.5, 1.0, 0.0));
        assert!((normal_cdf(1.959_963_984_540_054) - 0.975).abs() < 1e-15);
        assert!((normal_cdf(-8.0) / 6.220_960_574_271_74e-16 - 1.0).abs() < 1e-13);
        let mut values = [1000.0, 1000.0, f64::NEG_INFINITY];
        softmax(&mut values);
        assert_eq!(values, [0.5, 0.5, 0.0]);
        assert_eq!((argmax(&[f64::NAN, 1.0, 3.0, 3.0]), argmax(&[])), (2, 0));
    }
}
