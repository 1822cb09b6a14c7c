//! Reads one operation's operands, and remembers which ones were read.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use coreml_format::{
    mil::{self, Argument, Dim, Named, Op, Opset},
    schema::ClassLabels,
};

use super::{Fault, list::carried};
use crate::onnx::{Element, OnnxBuilder, Source, Value};

/// What a name stands for while a function is lowered.
#[derive(Clone)]
pub(super) enum Entry<'a> {
    /// A value of the graph.
    Value(Value),
    /// A constant that no tensor of the graph can hold: strings, lists.
    Constant(&'a mil::Value),
    /// A state, by its index.
    State(usize),
    /// The label with the highest of these scores.
    Label(Value, Arc<ClassLabels>),
    /// These scores by label.
    Probabilities(Value, Arc<ClassLabels>),
}

/// Every name that has been defined so far.
pub(super) type Scope<'a> = HashMap<&'a str, Entry<'a>>;

/// One operation as its lowering sees it.
pub(super) struct OpReader<'a> {
    op: &'a Op,
    opset: Opset,
    scope: &'a Scope<'a>,
    /// Constants that stand in arguments instead of names.
    literals: HashMap<(&'a str, usize), Value>,
    read: RefCell<Vec<String>>,
}

impl<'a> OpReader<'a> {
    pub(super) fn new(op: &'a Op, opset: Opset, scope: &'a Scope<'a>, onnx: &mut OnnxBuilder) -> OpReader<'a> {
        let mut literals = HashMap::new();
        for (parameter, arguments) in &op.inputs {
            for (i, argument) in arguments.iter().enumerate() {
                if let Argument::Value(mil::Value::Tensor(tensor)) = argument
                    && let Some(element) = Element::carrier(tensor.dtype())
                {
                    let name = format!("{}.{parameter}", op.name);
                    let value = onnx.weight(&name, element, Arc::new(Source::Stored(tensor.clone())));
                    literals.insert((parameter.as_str(), i), value);
                }
            }
        }
        OpReader { op, opset, scope, literals, read: RefCell::new(Vec::new()) }
    }

    pub(super) fn kind(&self) -> &'a str {
        &self.op.kind
    }

    pub(super) fn opset(&self) -> Opset {
        self.opset
    }

    /// What the operation defines: names and declared types.
    pub(super) fn outputs(&self) -> &'a [Named] {
        &self.op.outputs
    }

    /// The declared dimensions of a result, a list's length in front; `None` where its rank is unknown.
    pub(super) fn output_dims(&self, index: usize) -> Option<Vec<Dim>> {
        carried(&self.op.outputs.get(index)?.ty)?.dims
    }

    /// The declared shape of a result, where it is fixed.
    pub(super) fn output_shape(&self, index: usize) -> Option<Vec<usize>> {
        self.op.outputs.get(index)?.ty.as_tensor()?.fixed()
    }

    /// The element type of the graph in which a result is carried.
    pub(super) fn output_element(&self, index: usize) -> Result<Element, Fault> {
        let tensor = self.op.outputs.get(index).and_then(|out| carried(&out.ty));
        tensor
            .and_then(|t| Element::carrier(t.dtype))
            .ok_or_else(|| format!("result {index} is not a tensor of numbers").into())
    }

    /// Takes note of an operand whose meaning is in the type of the result too.
    pub(super) fn declared(&self, parameter: &str) {
        self.read.borrow_mut().push(parameter.to_owned());
    }

    /// A required operand.
    pub(super) fn value(&self, parameter: &str) -> Result<Value, Fault> {
        self.maybe(parameter)?.ok_or_else(|| missing(parameter))
    }

    /// An optional operand.
    pub(super) fn maybe(&self, parameter: &str) -> Result<Option<Value>, Fault> {
        let mut values = self.all(parameter)?;
        match values.len() {
            0 => Ok(None),
            1 => Ok(values.pop()),
            n => Err(format!("operand {parameter} is bound to {n} values, expected one").into()),
        }
    }

    /// A variadic operand, with at least one value.
    pub(super) fn values(&self, parameter: &str) -> Result<Vec<Value>, Fault> {
        let values = self.all(parameter)?;
        if values.is_empty() { Err(missing(parameter)) } else { Ok(values) }
    }

    fn all(&self, parameter: &str) -> Result<Vec<Value>, Fault> {
        let Some(arguments) = self.arguments(parameter) else { return Ok(Vec::new()) };
        let one = |(i, argument): (usize, &Argument)| match argument {
            Argument::Name(name) => match self.scope.get(name.as_str()) {
                Some(Entry::Value(value)) => Ok(value.clone()),
                Some(_) => Err(Fault(format!("operand {parameter} ({name}) is not a tensor of numbers"))),
                None => Err(Fault(format!("operand {parameter} reads {name:?}, which nothing defines"))),
            },
            Argument::Value(_) => {
                let literal = self.literals.get(&(parameter, i)).cloned();
                literal.ok_or_else(|| Fault(format!("operand {parameter} is not a tensor of numbers")))
            }
        };
        arguments.iter().enumerate().map(one).collect()
    }

    /// The entry that an operand names, whatever it is.
    pub(super) fn entry(&self, parameter: &str) -> Result<&'a Entry<'a>, Fault> {
        match self.arguments(parameter) {
            Some([Argument::Name(name)]) => self
                .scope
                .get(name.as_str())
                .ok_or_else(|| format!("operand {parameter} reads {name:?}, which nothing defines").into()),
            _ => Err(missing(parameter)),
        }
    }

    fn arguments(&self, parameter: &str) -> Option<&'a [Argument]> {
        let arguments = self.op.inputs.get(parameter)?;
        self.read.borrow_mut().push(parameter.to_owned());
        Some(arguments)
    }

    /// A required constant, in the attributes or among the operands.
    pub(super) fn source(&self, parameter: &str) -> Result<Arc<Source>, Fault> {
        self.maybe_source(parameter)?.ok_or_else(|| missing(parameter))
    }

    /// An optional constant.
    pub(super) fn maybe_source(&self, parameter: &str) -> Result<Option<Arc<Source>>, Fault> {
        if let Some(value) = self.op.attributes.get(parameter) {
            self.read.borrow_mut().push(parameter.to_owned());
            let tensor = value.as_tensor().ok_or_else(|| Fault(format!("attribute {parameter} is not a tensor")))?;
            return Ok(Some(Arc::new(Source::Stored(tensor.clone()))));
        }
        let Some(value) = self.maybe(parameter)? else { return Ok(None) };
        match value.constant() {
            Some(source) => Ok(Some(source.clone())),
            None => Err(format!("operand {parameter} must be a constant").into()),
        }
    }

    /// A required list of integers; a scalar is a list of one.
    pub(super) fn ints(&self, parameter: &str) -> Result<Vec<i64>, Fault> {
        self.maybe_ints(parameter)?.ok_or_else(|| missing(parameter))
    }

    /// An optional list of integers.
    pub(super) fn maybe_ints(&self, parameter: &str) -> Result<Option<Vec<i64>>, Fault> {
        let Some(source) = self.maybe_source(parameter)? else { return Ok(None) };
        if source.is_float() {
            return Err(format!("operand {parameter} must hold integers, and holds floats").into());
        }
        Ok(Some(source.i64s()))
    }

    pub(super) fn int(&self, parameter: &str) -> Result<i64, Fault> {
        only(parameter, &self.ints(parameter)?)
    }

    pub(super) fn int_or(&self, parameter: &str, default: i64) -> Result<i64, Fault> {
        self.maybe_ints(parameter)?.map_or(Ok(default), |values| only(parameter, &values))
    }

    pub(super) fn bool_or(&self, parameter: &str, default: bool) -> Result<bool, Fault> {
        Ok(self.int_or(parameter, i64::from(default))? != 0)
    }

    pub(super) fn maybe_bools(&self, parameter: &str) -> Result<Option<Vec<bool>>, Fault> {
        Ok(self.maybe_ints(parameter)?.map(|values| values.into_iter().map(|v| v != 0).collect()))
    }

    pub(super) fn float(&self, parameter: &str) -> Result<f32, Fault> {
        only(parameter, &self.source(parameter)?.f32s())
    }

    pub(super) fn float_or(&self, parameter: &str, default: f32) -> Result<f32, Fault> {
        self.maybe_source(parameter)?.map_or(Ok(default), |source| only(parameter, &source.f32s()))
    }

    /// A list of floats; an empty one where the operand is left out.
    pub(super) fn floats(&self, parameter: &str) -> Result<Vec<f32>, Fault> {
        Ok(self.source(parameter)?.f32s())
    }

    pub(super) fn string(&self, parameter: &str) -> Result<String, Fault> {
        self.maybe_string(parameter)?.ok_or_else(|| missing(parameter))
    }

    pub(super) fn string_or(&self, parameter: &str, default: &str) -> Result<String, Fault> {
        Ok(self.maybe_string(parameter)?.unwrap_or_else(|| default.to_owned()))
    }

    fn maybe_string(&self, parameter: &str) -> Result<Option<String>, Fault> {
        let Some(constant) = self.constant(parameter)? else { return Ok(None) };
        match constant.as_strings().as_deref() {
            Some([one]) => Ok(Some(one.clone())),
            _ => Err(format!("operand {parameter} must be a string").into()),
        }
    }

    /// A constant that is no tensor of numbers: a string or a list.
    pub(super) fn constant(&self, parameter: &str) -> Result<Option<&'a mil::Value>, Fault> {
        if let Some(value) = self.op.attributes.get(parameter) {
            self.read.borrow_mut().push(parameter.to_owned());
            return Ok(Some(value));
        }
        match self.arguments(parameter) {
            None => Ok(None),
            Some([Argument::Value(value)]) => Ok(Some(value)),
            Some(_) => match self.entry(parameter)? {
                Entry::Constant(value) => Ok(Some(value)),
                _ => Err(format!("operand {parameter} must be a constant string or list").into()),
            },
        }
    }

    /// Fails on an operand that nobody read: to ignore it would be a silent wrong answer.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let read = self.read.borrow();
        let constexpr = self.op.kind.starts_with("constexpr_");
        let attributes = self.op.attributes.keys().filter(|name| constexpr && *name != "name");
        match self.op.inputs.keys().chain(attributes).find(|name| !read.contains(name)) {
            None => Ok(()),
            Some(name) => Err(format!("operand {name} is not known for this operation in opset {}", self.opset).into()),
        }
    }
}

fn missing(parameter: &str) -> Fault {
    Fault(format!("operand {parameter} is missing"))
}

fn only<T: Copy>(parameter: &str, values: &[T]) -> Result<T, Fault> {
    match values {
        [one] => Ok(*one),
        _ => Err(format!("operand {parameter} must be a scalar, and has {} elements", values.len()).into()),
    }
}
