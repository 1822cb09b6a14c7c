//! A model's inputs by name, and as one vector.

use coreml_format::schema::{Feature, FeatureKind};

use crate::{Result, Value, fault};

/// The value of each input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs<'a> {
    features: &'a [Feature],
    values: &'a [Option<Value>],
}

impl<'a> Inputs<'a> {
    pub(crate) fn new(features: &'a [Feature], values: &'a [Option<Value>]) -> Result<Inputs<'a>> {
        if features.len() == values.len() {
            return Ok(Inputs { features, values });
        }
        fault(format!("it takes {} inputs, and {} were given", features.len(), values.len()))
    }

    /// The input of this name, where it was given.
    pub(crate) fn named(&self, name: &str) -> Option<&'a Value> {
        let place = self.features.iter().position(|feature| feature.name == name)?;
        self.values[place].as_ref()
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'a Value> {
        self.named(name).map_or_else(|| fault(format!("the input {name:?} is missing")), Ok)
    }

    /// The value of the only input.
    pub(crate) fn only(&self) -> Result<&'a Value> {
        match self.values {
            [Some(value)] => Ok(value),
            _ => fault("its input is missing"),
        }
    }

    /// The only input, where it was given.
    pub(crate) fn only_optional(&self) -> Option<&'a Value> {
        self.values.first()?.as_ref()
    }

    /// The only input's name and kind.
    pub(crate) fn only_feature(&self) -> &'a Feature {
        &self.features[0]
    }

    /// All inputs, one after the other. What is left out is NaN, which trees know as missing.
    pub(crate) fn vector(&self) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for (feature, value) in self.features.iter().zip(self.values) {
            match value {
                Some(Value::Double(value)) => all.push(*value),
                Some(Value::Int64(value)) => all.push(*value as f64),
                Some(Value::Array(array)) => all.extend_from_slice(&array.values),
                Some(other) => return fault(format!("the input {:?} is {}", feature.name, other.describe())),
                None => all.extend(std::iter::repeat_n(f64::NAN, elements(&feature.kind))),
            }
        }
        Ok(all)
    }
}

fn elements(kind: &FeatureKind) -> usize {
    match kind {
        FeatureKind::MultiArray(kind) => kind.shape.iter().product(),
        _ => 1,
    }
}

/// Checks the length of a vector.
pub(crate) fn check_length(given: usize, taken: usize) -> Result<()> {
    if given == taken { Ok(()) } else { fault(format!("it takes {taken} numbers, and {given} were given")) }
}

/// Numbers as the output is declared: one as a number, any as an array. A whole number must be whole.
pub(crate) fn numbers(output: &Feature, values: Vec<f64>) -> Result<Value> {
    match (&output.kind, &values[..]) {
        (FeatureKind::Double, &[value]) => Ok(Value::Double(value)),
        (FeatureKind::Int64, &[value]) => whole(value)
            .map(Value::Int64)
            .ok_or_else(|| crate::EvaluationError(format!("the output {:?} is no integer: {value}", output.name))),
        (FeatureKind::MultiArray(kind), _) => {
            let fits = kind.shape.iter().product::<usize>() == values.len() && !kind.shape.is_empty();
            let shape = if fits { kind.shape.clone() } else { vec![values.len()] };
            Ok(Value::Array(crate::Array { shape, values }))
        }
        _ => fault(format!("the output {:?} does not hold {} numbers", output.name, values.len())),
    }
}

/// A number as an integer, where it is one.
pub(crate) fn whole(value: f64) -> Option<i64> {
    const LIMIT: f64 = (1u64 << 63) as f64;
    (value.fract() == 0.0 && (-LIMIT..LIMIT).contains(&value)).then_some(value as i64)
}
