//! Walks one function of an ML Program.

use std::sync::Arc;

use coreml_format::{
    DType, Model,
    mil::{self, Block, Op, Opset, Program, Type},
    schema::{ArrayType, Feature, FeatureKind, Interface},
};

use super::{
    Fault,
    control::{self, half_tensor},
    find, grouped,
    list::carried,
    reader::{Entry, OpReader, Scope},
};
use crate::{
    InputBinding, LowerError, LowerOptions, Lowered, OutputBinding, OutputForm, StateBinding, UnsupportedOp,
    onnx::{Element, OnnxBuilder, Source, Value},
};

pub(super) fn lower(model: &Model, program: &Program, options: &LowerOptions) -> Result<Lowered, LowerError> {
    let (name, interface) = choose(model, program, options)?;
    let function = &program.functions[&name];
    let missing = unsupported(&function.block);
    if !missing.is_empty() {
        return Err(LowerError::Unsupported(missing));
    }
    let mut lowerer = Lowerer {
        opset: function.opset,
        onnx: OnnxBuilder::new(options.without_fp16),
        scope: Scope::new(),
        states: Vec::new(),
        depth: 0,
        round_to_fp16: options.round_to_fp16,
    };
    let inputs = lowerer.inputs(function, &interface, options)?;
    lowerer.block(&function.block)?;
    lowerer.finish(&name, interface, inputs, options)
}

/// The function that was asked for, and its interface.
fn choose(model: &Model, program: &Program, options: &LowerOptions) -> Result<(String, Interface), LowerError> {
    let schema = &model.schema;
    let name = options.function.as_ref().unwrap_or(&schema.default_function);
    if !program.functions.contains_key(name) {
        let names: Vec<&str> = program.functions.keys().map(String::as_str).collect();
        return Err(LowerError::Model(format!("it has no function {name:?}; it has {}", names.join(", "))));
    }
    let interface = schema.functions.get(name).unwrap_or(&schema.interface);
    Ok((name.clone(), interface.clone()))
}

/// Every kind of operation without a lowering, nested blocks included.
fn unsupported(block: &Block) -> Vec<UnsupportedOp> {
    let mut missing = Vec::new();
    Program::visit(block, &mut |op| {
        if find(&op.kind).is_none() && !control::OPS.contains(&op.kind.as_str()) {
            missing.push((op.kind.as_str(), op.name.as_str()));
        }
    });
    grouped(missing)
}

/// The state of the walk.
pub(super) struct Lowerer<'a> {
    pub(super) opset: Opset,
    pub(super) onnx: OnnxBuilder,
    pub(super) scope: Scope<'a>,
    pub(super) states: Vec<State>,
    /// How many nested graphs are open.
    pub(super) depth: usize,
    /// Whether results are rounded to fp16.
    pub(super) round_to_fp16: bool,
}

/// A state on its way through the function.
pub(super) struct State {
    name: String,
    /// What a read gives now.
    pub(super) value: Value,
    pub(super) written: bool,
}

impl<'a> Lowerer<'a> {
    /// Declares the graph's inputs: features in the interface's order, then states.
    fn inputs(
        &mut self,
        function: &'a mil::Function,
        interface: &Interface,
        options: &LowerOptions,
    ) -> Result<Vec<InputBinding>, LowerError> {
        let mut bindings = Vec::new();
        self.onnx.reserve(interface.outputs.iter().map(|feature| feature.name.as_str()));
        for feature in &interface.inputs {
            let Some(input) = function.inputs.iter().find(|input| input.name == feature.name) else {
                return Err(LowerError::Model(format!(
                    "the program has no input {:?}, which its description names",
                    feature.name
                )));
            };
            let value = self.input(input, options.half_io && is_half(&feature.kind))?;
            self.scope.insert(&input.name, Entry::Value(value));
            bindings.push(InputBinding { feature: feature.clone(), port: bindings.len() });
        }
        for input in function.inputs.iter().filter(|input| matches!(input.ty, Type::State(_))) {
            let value = self.input(input, false)?;
            self.onnx.reserve([state_output(&input.name).as_str()]);
            self.scope.insert(&input.name, Entry::State(self.states.len()));
            self.states.push(State { name: input.name.clone(), value, written: false });
        }
        match function.inputs.iter().find(|input| !self.scope.contains_key(input.name.as_str())) {
            Some(input) => {
                Err(LowerError::Model(format!("the description does not name the program's input {:?}", input.name)))
            }
            None => Ok(bindings),
        }
    }

    fn input(&mut self, input: &mil::Named, half: bool) -> Result<Value, LowerError> {
        let tensor = input.ty.as_tensor();
        let (Some(element), Some(dims)) =
            (tensor.and_then(|t| Element::carrier(t.dtype)), tensor.and_then(|t| t.dims.clone()))
        else {
            return Err(LowerError::Model(format!("input {:?} of type {} cannot be lowered", input.name, input.ty)));
        };
        let port = self.onnx.input(&input.name, if half { Element::F16 } else { element }, dims);
        let value = self.onnx.cast(&port, element);
        // What the caller gives for an fp16 input is fp32 here, and not rounded.
        let value = if self.round_to_fp16 { self.onnx.round_half(&value) } else { value };
        Ok(typed(value, &input.ty))
    }

    /// Lowers every operation of a block, in order.
    pub(super) fn block(&mut self, block: &'a Block) -> Result<(), LowerError> {
        for op in &block.ops {
            self.op(op).map_err(|(op, fault)| LowerError::Op {
                kind: op.kind.clone(),
                name: crate::error::shorten(&op.name),
                reason: fault.0,
            })?;
        }
        Ok(())
    }

    /// Lowers one operation. A fault names the operation that it is in, which may be a nested one.
    fn op(&mut self, op: &'a Op) -> Result<(), (&'a Op, Fault)> {
        if control::OPS.contains(&op.kind.as_str()) {
            return control::lower(self, op);
        }
        let Some(lowering) = find(&op.kind) else { return Err((op, "it has no lowering".into())) };
        self.onnx.begin(&op.name);
        let reader = OpReader::new(op, self.opset, &self.scope, &mut self.onnx);
        let results = (lowering.run)(&reader, &mut self.onnx).and_then(|results| {
            reader.finish()?;
            Ok(results)
        });
        let results = results.and_then(|results| self.declared(op, results)).map_err(|fault| (op, fault))?;
        let names: Vec<&str> = op.outputs.iter().map(|out| out.name.as_str()).collect();
        let results = self.onnx.end(results, &names);
        for (out, value) in op.outputs.iter().zip(results) {
            self.scope.insert(&out.name, Entry::Value(typed(value, &out.ty)));
        }
        Ok(())
    }

    /// Checks results against their declared types.
    fn declared(&mut self, op: &Op, results: Vec<Value>) -> Result<Vec<Value>, Fault> {
        if results.len() < op.outputs.len() {
            return Err(format!("it declares {} results and gives {}", op.outputs.len(), results.len()).into());
        }
        let mut checked = Vec::with_capacity(op.outputs.len());
        for (out, value) in op.outputs.iter().zip(results) {
            let declared = carried(&out.ty).and_then(|t| Element::carrier(t.dtype));
            let value = match (declared, value.element()) {
                (Some(declared), given) if declared == given => value,
                // ONNX gives indices and shapes as int64, which MIL has as int32.
                (Some(Element::I32), Element::I64) => self.onnx.cast(&value, Element::I32),
                (_, given) => {
                    return Err(
                        format!("its operands give {given:?} where {} is declared for {:?}", out.ty, out.name).into()
                    );
                }
            };
            checked.push(if self.round_to_fp16 { self.rounded(value) } else { value });
        }
        Ok(checked)
    }

    /// A result in fp16. A constant stays one, since operations that decompress read each other's results.
    fn rounded(&mut self, value: Value) -> Value {
        match value.constant().filter(|source| !value.is_half() && source.is_float()) {
            Some(source) if value.element() == Element::F32 => {
                let tensor = half_tensor(source.shape(), source.f32s().into_iter());
                self.onnx.weight(value.name(), Element::F32, Arc::new(Source::Stored(tensor))).with_half(true)
            }
            _ => self.onnx.round_half(&value),
        }
    }

    /// Binds the outputs and ends the graph.
    fn finish(
        mut self,
        name: &str,
        interface: Interface,
        inputs: Vec<InputBinding>,
        options: &LowerOptions,
    ) -> Result<Lowered, LowerError> {
        let mut ports: Vec<(String, Value)> = Vec::new();
        let mut outputs = Vec::new();
        for feature in &interface.outputs {
            let (value, form) = match self.scope.get(feature.name.as_str()) {
                Some(Entry::Value(value)) => (value.clone(), OutputForm::Tensor),
                Some(Entry::Label(scores, labels)) => (scores.clone(), OutputForm::Label(labels.clone())),
                Some(Entry::Probabilities(scores, labels)) => {
                    (scores.clone(), OutputForm::Probabilities(labels.clone()))
                }
                _ => return Err(LowerError::Model(format!("the program does not give the output {:?}", feature.name))),
            };
            let shared =
                ports.iter().position(|(_, other)| !matches!(form, OutputForm::Tensor) && other.name() == value.name());
            let port = match shared {
                Some(port) => port,
                None => {
                    let value = self.boundary(feature, value, options);
                    ports.push((feature.name.clone(), value));
                    ports.len() - 1
                }
            };
            outputs.push(OutputBinding { feature: feature.clone(), port, form });
        }
        let mut states = Vec::new();
        for (i, state) in std::mem::take(&mut self.states).into_iter().enumerate() {
            let output = state.written.then_some(ports.len());
            if state.written {
                ports.push((state_output(&state.name), state.value));
            }
            states.push(StateBinding { name: state.name, input: inputs.len() + i, output });
        }
        let model = self.onnx.finish(name, ports);
        Ok(Lowered { model, interface, inputs, outputs, states })
    }

    /// A value as it leaves the graph: booleans as the int32 that Core ML has for them, halves as the caller asks.
    fn boundary(&mut self, feature: &Feature, value: Value, options: &LowerOptions) -> Value {
        let dims = value.dims().map(<[_]>::to_vec);
        let element = match value.element() {
            Element::Bool => Element::I32,
            Element::F32 if options.half_io && is_half(&feature.kind) => Element::F16,
            element => element,
        };
        self.onnx.cast(&value, element).with_dims(dims)
    }
}

/// A value with what its declared type says of it.
pub(super) fn typed(value: Value, ty: &Type) -> Value {
    let tensor = carried(ty);
    let half = tensor.as_ref().is_some_and(|t| t.dtype == DType::Float16);
    value.with_dims(tensor.and_then(|t| t.dims)).with_half(half)
}

/// The graph output with a state's new value.
fn state_output(state: &str) -> String {
    format!("{state}_out")
}

fn is_half(kind: &FeatureKind) -> bool {
    matches!(kind, FeatureKind::MultiArray(array) if array.dtype == ArrayType::Float16)
}

pub(super) fn labels_of(value: &mil::Value) -> Option<Arc<coreml_format::schema::ClassLabels>> {
    use coreml_format::schema::ClassLabels;
    if let Some(strings) = value.as_strings() {
        return Some(Arc::new(ClassLabels::Strings(strings)));
    }
    let numbers = |tensor: &coreml_format::Tensor| crate::onnx::Source::Stored(tensor.clone()).i64s();
    match value {
        mil::Value::Tensor(tensor) => Some(Arc::new(ClassLabels::Int64s(numbers(tensor)))),
        mil::Value::List(items) => {
            let all: Option<Vec<i64>> = items.iter().map(|item| numbers(item.as_tensor()?).first().copied()).collect();
            all.map(|all| Arc::new(ClassLabels::Int64s(all)))
        }
        mil::Value::Tuple(_) | mil::Value::Dictionary(_) => None,
    }
}
