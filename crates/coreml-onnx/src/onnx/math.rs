//! Verbs that are made of verbs: what ONNX has no operator for, or an engine no kernel.

use coreml_format::mil::Dim;

use super::{Element, OnnxBuilder, Value, verbs::may_be_one};

impl OnnxBuilder {
    /// An operator with two boolean operands; anything but 0 is true.
    pub(crate) fn logic(&mut self, op_type: &'static str, x: &Value, y: &Value) -> Value {
        let (x, y) = (self.cast(x, Element::Bool), self.cast(y, Element::Bool));
        self.compare(op_type, &x, &y)
    }

    /// The opposite, as a boolean.
    pub(crate) fn not(&mut self, x: &Value) -> Value {
        let x = self.cast(x, Element::Bool);
        self.unary("Not", &x)
    }

    /// A comparison that ONNX lacks.
    pub(crate) fn not_equal(&mut self, x: &Value, y: &Value) -> Value {
        let equal = self.compare("Equal", x, y);
        self.unary("Not", &equal)
    }

    /// `x / y` to the last bit, for what is rounded to a whole number after it: rten multiplies by the reciprocal of a
    /// divisor that has one element, so that 41 by 41 is less than 1. With two elements it divides.
    pub(crate) fn quotient(&mut self, x: &Value, y: &Value) -> Value {
        let (x_rank, y_rank) = match (x.dims(), y.dims()) {
            (Some(x), Some(y)) if self.is_plain() && may_be_one(y) => (x.len(), y.len()),
            _ => return self.binary("Div", x, y),
        };
        let (x, y) = (self.unsqueeze(x, &[x_rank as i64]), self.unsqueeze(y, &[y_rank as i64]));
        let twice = self.concat(&[y.clone(), y], y_rank as i64);
        let quotients = self.binary("Div", &x, &twice);
        let first = self.int(0);
        self.gather(&quotients, &first, x_rank.max(y_rank) as i64)
    }

    /// The quotient, rounded down.
    pub(crate) fn floor_div(&mut self, x: &Value, y: &Value) -> Value {
        if x.element() == Element::F32 {
            let quotient = self.quotient(x, y);
            return self.unary("Floor", &quotient);
        }
        // ONNX divides integers towards zero. Mod has the divisor's sign, so x - mod(x, y) divides without a rest.
        let rest = self.modulo(x, y);
        let whole = self.binary("Sub", x, &rest);
        self.binary("Div", &whole, y)
    }

    /// The rest, with the divisor's sign.
    pub(crate) fn floor_mod(&mut self, x: &Value, y: &Value) -> Value {
        if x.element() != Element::F32 {
            return self.modulo(x, y);
        }
        // For floats ONNX offers C's fmod alone, which has the dividend's sign.
        let floor = self.floor_div(x, y);
        let multiple = self.binary("Mul", &floor, y);
        self.binary("Sub", x, &multiple)
    }

    /// Two to the power of `x`.
    pub(crate) fn exp2(&mut self, x: &Value) -> Value {
        let two = self.scalar(2.0, x);
        self.binary("Pow", &two, x)
    }

    fn plus_epsilon(&mut self, x: &Value, epsilon: f32) -> Value {
        if epsilon == 0.0 { x.clone() } else { self.with_scalar("Add", x, epsilon) }
    }

    /// `1 / (x + epsilon)`.
    pub(crate) fn inverse(&mut self, x: &Value, epsilon: f32) -> Value {
        let shifted = self.plus_epsilon(x, epsilon);
        self.unary("Reciprocal", &shifted)
    }

    /// `log(x + epsilon)`.
    pub(crate) fn log(&mut self, x: &Value, epsilon: f32) -> Value {
        let shifted = self.plus_epsilon(x, epsilon);
        self.unary("Log", &shifted)
    }

    /// `1 / sqrt(x + epsilon)`.
    pub(crate) fn rsqrt(&mut self, x: &Value, epsilon: f32) -> Value {
        let shifted = self.plus_epsilon(x, epsilon);
        let root = self.unary("Sqrt", &shifted);
        self.unary("Reciprocal", &root)
    }

    /// `x / sqrt(sum(x^2) + epsilon)` over some axes.
    pub(crate) fn l2_normalised(&mut self, x: &Value, axes: &[i64], epsilon: f32) -> Value {
        let squares = self.reduce("ReduceSumSquare", x, axes, true);
        let shifted = self.with_scalar("Add", &squares, epsilon);
        let norm = self.unary("Sqrt", &shifted);
        self.binary("Div", x, &norm)
    }

    /// The size of an axis as an int64 list of one.
    pub(crate) fn size_of(&mut self, x: &Value, axis: i64) -> Value {
        match x.dims().and_then(|dims| dims.get(axis as usize)) {
            Some(Dim::Fixed(n)) => self.ints(&[*n as i64]),
            _ => {
                let shape = self.shape(x);
                self.slice(&shape, &[axis], &[axis + 1], &[0], &[1])
            }
        }
    }

    /// Keeps `lower` diagonals below the main one and `upper` above it; a negative number keeps all.
    pub(crate) fn band(&mut self, x: &Value, lower: i64, upper: i64) -> Value {
        let mut band = x.clone();
        if lower >= 0 {
            band = self.trilu(&band, -lower, true);
        }
        if upper >= 0 {
            band = self.trilu(&band, upper, false);
        }
        band
    }
}
