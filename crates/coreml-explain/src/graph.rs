//! A function of a model as a list of operations, which is the same for programs and for networks.

use std::collections::HashMap;

use coreml_format::{
    DType, Model, ModelKind, Tensor,
    mil::{Argument, Block, Dim, Op as MilOp, Opset, Type},
    nn::{Layer, LayerKind, NeuralNetwork},
    schema::{Feature, FeatureKind, ImageFlexibility, Interface, ShapeFlexibility},
};
use coreml_onnx::Lowered;

/// Operations and layers that only move values, sorted.
const MOVES: &[&str] = &[
    "cast",
    "classify",
    "concat",
    "concatND",
    "copy",
    "expandDims",
    "expand_dims",
    "flatten",
    "flatten2d",
    "flattenTo2D",
    "identity",
    "loadConstant",
    "loadConstantND",
    "permute",
    "read_state",
    "reshape",
    "reshapeStatic",
    "reverse",
    "slice",
    "sliceBySize",
    "sliceStatic",
    "slice_by_index",
    "slice_by_size",
    "split",
    "splitND",
    "squeeze",
    "stack",
    "transpose",
    "write_state",
];

/// The shape of a value; `None` where a size is known at run time only.
pub type Dims = Vec<Option<usize>>;

/// A function of a model: its operations in order, and the values between them.
#[derive(Debug)]
pub struct Graph<'a> {
    /// The model.
    pub model: &'a Model,
    /// The function.
    pub function: &'a str,
    /// What the function takes and gives; `None` for a function that is not there.
    pub interface: Option<&'a Interface>,
    /// The opset of a program.
    pub opset: Option<Opset>,
    /// Operations or layers but constants, those of inner blocks after the one that has the blocks.
    pub ops: Vec<Op<'a>>,
    /// What they read and write.
    pub values: Vec<Value<'a>>,
}

/// An operation of a program or a layer of a network.
#[derive(Debug)]
pub struct Op<'a> {
    /// Its name in the model.
    pub name: &'a str,
    /// What it does, in the format's own word: `conv`, `innerProduct`.
    pub kind: &'a str,
    /// Where it comes from.
    pub source: Source<'a>,
    /// What it reads: the parameter's name (empty for a layer's inputs) and the place of the value.
    pub operands: Vec<(&'a str, usize)>,
    /// The places of the values that it gives.
    pub results: Vec<usize>,
    /// The place of the operation in whose block it is.
    pub inside: Option<usize>,
}

/// What an operation is in its format.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// One of a program.
    Program(&'a MilOp),
    /// One of a network.
    Network(&'a Layer),
}

/// Something that is read or written.
#[derive(Debug, Default)]
pub struct Value<'a> {
    /// Its name in the model; empty for a constant in place.
    pub name: &'a str,
    /// The element type, where the model says one. Networks do not.
    pub dtype: Option<DType>,
    /// As the model declares it, or a network's as inferred; `None` where even the rank is unknown.
    pub dims: Option<Dims>,
    /// The shape in a run with inputs of their default shapes, where it could be inferred.
    pub shape: Option<Vec<usize>>,
    /// Every shape that the description names for an input.
    pub declared: Vec<Dims>,
    /// The elements of a constant; not of one that is compressed.
    pub tensor: Option<&'a Tensor>,
    /// The operation that decompresses a constant.
    pub compressed: Option<&'a MilOp>,
    /// The operation that gives it; `None` for inputs and constants.
    pub maker: Option<usize>,
    /// The operations that read it.
    pub readers: Vec<usize>,
}

/// The sizes of a window that moves over planes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// What it does.
    pub pools: bool,
    /// Its size in each dimension.
    pub kernel: Vec<usize>,
    /// Its steps.
    pub strides: Vec<usize>,
    /// The distance of its elements.
    pub dilations: Vec<usize>,
}

impl Op<'_> {
    /// Whether it only moves values or changes their type. What is left of a model without its work is no reason to run it
    /// on the Neural Engine.
    pub fn moves(&self) -> bool {
        MOVES.binary_search(&self.kind).is_ok()
    }
}

impl Value<'_> {
    /// Whether it is known before any run.
    pub fn is_constant(&self) -> bool {
        self.tensor.is_some() || self.compressed.is_some()
    }

    /// The number of elements in a run with default shapes.
    pub fn count(&self) -> Option<usize> {
        self.shape.as_ref().map(|shape| shape.iter().fold(1, |n: usize, &d| n.saturating_mul(d)))
    }

    /// The elements as numbers, where it is a constant with at most `limit` of them.
    pub fn numbers(&self, limit: usize) -> Option<Vec<f64>> {
        numbers(self.tensor?, limit)
    }
}

impl<'a> Graph<'a> {
    /// The operations of a function of a model, the default one where `None`. There are none in classic models, in
    /// pipelines, and in what Apple keeps to itself.
    ///
    /// `lowered` gives the shapes that a network does not say, and those of open sizes.
    ///
    /// Cost: linear in the number of operations. Weights are not touched.
    pub fn of(model: &'a Model, function: Option<&'a str>, lowered: Option<&Lowered>) -> Graph<'a> {
        let schema = &model.schema;
        let name = function.unwrap_or(&schema.default_function);
        let is_default = name == schema.default_function;
        let interface = schema.functions.get(name).or(Some(&schema.interface).filter(|_| is_default));
        let mut graph = Graph { model, function: name, interface, opset: None, ops: Vec::new(), values: Vec::new() };
        match &model.kind {
            ModelKind::Program(program) => {
                if let Some(function) = program.functions.get(name) {
                    graph.opset = Some(function.opset);
                    let mut names = HashMap::new();
                    for input in &function.inputs {
                        let place = graph.declare(&input.name, &input.ty, &mut names);
                        graph.values[place].declared = graph.described(&input.name);
                    }
                    graph.block(&function.block, None, &mut names);
                }
            }
            ModelKind::NeuralNetwork(network) if is_default => graph.network(network),
            ModelKind::NeuralNetwork(_)
            | ModelKind::Classic(_)
            | ModelKind::Pipeline(_)
            | ModelKind::Compiled(_)
            | ModelKind::Other(_) => {}
        }
        if let Some(lowered) = lowered {
            graph.infer(lowered);
        }
        for value in &mut graph.values {
            let fixed = |dims: &Dims| dims.iter().copied().collect::<Option<Vec<usize>>>();
            value.shape = value.shape.take().or_else(|| value.dims.as_ref().and_then(fixed));
        }
        for place in 0..graph.ops.len() {
            for operand in 0..graph.ops[place].operands.len() {
                let value = graph.ops[place].operands[operand].1;
                graph.values[value].readers.push(place);
            }
            for result in 0..graph.ops[place].results.len() {
                let value = graph.ops[place].results[result];
                graph.values[value].maker = Some(place);
            }
        }
        graph
    }

    /// The value that an operation reads as `parameter`; of a layer the input with that number.
    pub fn operand(&self, op: &Op<'_>, parameter: &str, input: usize) -> Option<&Value<'a>> {
        let place = match op.source {
            Source::Program(_) => op.operands.iter().find(|operand| operand.0 == parameter)?.1,
            Source::Network(_) => op.operands.get(input)?.1,
        };
        Some(&self.values[place])
    }

    /// The values that an operation reads.
    pub fn operands<'g>(&'g self, op: &'g Op<'_>) -> impl Iterator<Item = &'g Value<'a>> {
        op.operands.iter().map(|operand| &self.values[operand.1])
    }

    /// The values that an operation gives.
    pub fn results<'g>(&'g self, op: &'g Op<'_>) -> impl Iterator<Item = &'g Value<'a>> {
        op.results.iter().map(|&place| &self.values[place])
    }

    /// The operations that read what an operation gives.
    pub fn readers<'g>(&'g self, op: &'g Op<'a>) -> impl Iterator<Item = &'g Op<'a>> {
        self.results(op).flat_map(|value| &value.readers).map(|&place| &self.ops[place])
    }

    /// The operation that gives a value.
    pub fn maker(&self, value: &Value<'_>) -> Option<&Op<'a>> {
        value.maker.map(|place| &self.ops[place])
    }

    /// The one number that a program's operation has as `parameter`.
    pub fn number(&self, op: &Op<'_>, parameter: &str) -> Option<f64> {
        let Source::Program(_) = op.source else { return None };
        match self.operand(op, parameter, 0)?.numbers(1)?[..] {
            [number] => Some(number),
            _ => None,
        }
    }

    /// The whole numbers that a program's operation has as `parameter`.
    pub fn sizes(&self, op: &Op<'_>, parameter: &str) -> Option<Vec<i64>> {
        let Source::Program(_) = op.source else { return None };
        Some(self.operand(op, parameter, 0)?.numbers(16)?.into_iter().map(|n| n as i64).collect())
    }

    /// Axes of an operation, counted from the front of a value of `rank` dimensions.
    pub fn axes(&self, op: &Op<'_>, rank: usize) -> Option<Vec<usize>> {
        let axes = match op.source {
            Source::Program(_) => self.sizes(op, "axes").or_else(|| self.sizes(op, "axis"))?,
            Source::Network(layer) => match &layer.kind {
                LayerKind::SoftmaxNd { axis } => vec![*axis],
                LayerKind::Softmax => vec![-3],
                LayerKind::ReduceNd { axes: Some(axes), .. } => axes.clone(),
                _ => return None,
            },
        };
        let rank = rank as i64;
        Some(axes.iter().map(|&axis| if axis < 0 { axis + rank } else { axis } as usize).collect())
    }

    /// The window of a convolution or a pooling. A global pooling has none.
    pub fn window(&self, op: &Op<'_>) -> Option<Window> {
        match op.source {
            Source::Program(_) => {
                let pools = matches!(op.kind, "max_pool" | "avg_pool" | "l2_pool");
                if !pools && !matches!(op.kind, "conv" | "conv_transpose") {
                    return None;
                }
                let sizes = |parameter| {
                    let sizes = self.sizes(op, parameter)?;
                    sizes.into_iter().map(|n| usize::try_from(n).ok()).collect::<Option<Vec<usize>>>()
                };
                let kernel = match pools {
                    true => sizes("kernel_sizes")?,
                    false => self.operand(op, "weight", 1)?.shape.as_ref()?.get(2..)?.to_vec(),
                };
                let ones = vec![1; kernel.len()];
                let strides = sizes("strides").unwrap_or_else(|| ones.clone());
                let dilations = sizes("dilations").unwrap_or(ones);
                Some(Window { pools, kernel, strides, dilations })
            }
            Source::Network(layer) => {
                let all = |sizes: &[u64]| sizes.iter().map(|&n| n as usize).collect::<Vec<_>>();
                let window = |pools, kernel: &[u64], strides: &[u64], dilations: &[u64]| {
                    Some(Window { pools, kernel: all(kernel), strides: all(strides), dilations: all(dilations) })
                };
                match &layer.kind {
                    LayerKind::Convolution(c) => window(false, &c.kernel_size, &c.stride, &c.dilation),
                    LayerKind::Convolution3d(c) => window(false, &c.kernel_size, &c.stride, &c.dilation),
                    LayerKind::Pooling(p) if !p.global => window(true, &p.kernel_size, &p.stride, &[1; 2]),
                    LayerKind::Pooling3d(p) if !p.global => window(true, &p.kernel_size, &p.stride, &[1; 3]),
                    _ => None,
                }
            }
        }
    }

    /// The shapes that the description has for an input or a state.
    fn described(&self, name: &str) -> Vec<Dims> {
        let features =
            self.interface.into_iter().flat_map(|interface| interface.inputs.iter().chain(&interface.states));
        features.filter(|feature| feature.name == name).flat_map(declared_shapes).collect()
    }

    fn network(&mut self, network: &'a NeuralNetwork) {
        let mut names = HashMap::new();
        let interface = self.interface;
        for feature in interface.into_iter().flat_map(|interface| &interface.inputs) {
            let (name, declared) = (feature.name.as_str(), declared_shapes(feature));
            let value = self.add(Value { name, dims: default_dims(feature), declared, ..Value::default() });
            names.insert(feature.name.as_str(), value);
        }
        self.layers(&network.layers, None, &mut names);
    }

    fn layers(&mut self, layers: &'a [Layer], inside: Option<usize>, names: &mut HashMap<&'a str, usize>) {
        for layer in layers {
            let operands = layer.inputs.iter().filter_map(|name| Some(("", *names.get(name.as_str())?))).collect();
            let results: Vec<usize> =
                layer.outputs.iter().map(|name| self.add(Value { name, ..Value::default() })).collect();
            let (name, kind, source) = (layer.name.as_str(), layer.kind.name(), Source::Network(layer));
            self.ops.push(Op { name, kind, source, operands, results: results.clone(), inside });
            let place = self.ops.len() - 1;
            names.extend(layer.outputs.iter().map(String::as_str).zip(results));
            for inner in layer.kind.nested() {
                self.layers(inner, Some(place), names);
            }
        }
    }

    /// Names of blocks side by side may be the same, so each is looked up while its block is walked.
    fn block(&mut self, block: &'a Block, inside: Option<usize>, names: &mut HashMap<&'a str, usize>) {
        for op in &block.ops {
            if op.kind == "const" || op.kind.starts_with("constexpr_") {
                self.constant(op, names);
                continue;
            }
            let mut operands = Vec::new();
            for (parameter, arguments) in &op.inputs {
                for argument in arguments {
                    let value = match argument {
                        Argument::Name(name) => names.get(name.as_str()).copied(),
                        Argument::Value(value) => value.as_tensor().map(|tensor| self.add(constant("", tensor))),
                    };
                    operands.extend(value.map(|value| (parameter.as_str(), value)));
                }
            }
            let source = Source::Program(op);
            self.ops.push(Op { name: &op.name, kind: &op.kind, source, operands, results: Vec::new(), inside });
            let place = self.ops.len() - 1;
            for inner in &op.blocks {
                for input in &inner.inputs {
                    self.declare(&input.name, &input.ty, names);
                }
                self.block(inner, Some(place), names);
            }
            self.ops[place].results =
                op.outputs.iter().map(|output| self.declare(&output.name, &output.ty, names)).collect();
        }
    }

    fn constant(&mut self, op: &'a MilOp, names: &mut HashMap<&'a str, usize>) {
        for output in &op.outputs {
            let tensor = op.attributes.get("val").and_then(|value| value.as_tensor());
            let place = self.declare(&output.name, &output.ty, names);
            let value = &mut self.values[place];
            value.tensor = tensor.filter(|_| op.kind == "const");
            value.compressed = (op.kind != "const").then_some(op);
        }
    }

    fn declare(&mut self, name: &'a str, ty: &'a Type, names: &mut HashMap<&'a str, usize>) -> usize {
        let tensor = ty.as_tensor();
        let size = |dim: &Dim| if let Dim::Fixed(size) = dim { Some(*size) } else { None };
        let place = self.add(Value {
            name,
            dtype: tensor.map(|tensor| tensor.dtype),
            dims: tensor.and_then(|tensor| Some(tensor.dims.as_ref()?.iter().map(size).collect())),
            ..Value::default()
        });
        names.insert(name, place);
        place
    }

    fn add(&mut self, value: Value<'a>) -> usize {
        self.values.push(value);
        self.values.len() - 1
    }

    /// The shapes in a run with default shapes; a network's are all that is known of its blobs.
    fn infer(&mut self, lowered: &Lowered) {
        let inputs = default_shapes(lowered);
        let inferred = lowered.model.inferred_values(&inputs);
        let shapes: HashMap<&str, &Vec<usize>> =
            inferred.iter().filter_map(|value| Some((value.name.as_str(), value.shape.as_ref()?))).collect();
        let is_network = matches!(self.model.kind, ModelKind::NeuralNetwork(_));
        for value in self.values.iter_mut().filter(|value| !value.is_constant() && !value.name.is_empty()) {
            let Some(shape) = shapes.get(lowered.model.value(value.name)) else { continue };
            value.shape = Some((*shape).clone());
            if is_network && value.dims.is_none() {
                value.dims = Some(shape.iter().copied().map(Some).collect());
            }
        }
    }
}

/// The default shape of each of a graph's inputs, for [`coreml_onnx::OnnxModel::costs`] and its like.
pub fn default_shapes(lowered: &Lowered) -> Vec<Vec<usize>> {
    let ports = lowered.model.inputs();
    let mut shapes: Vec<Vec<usize>> =
        ports.iter().map(|port| port.dims.iter().map(|dim| dim.unwrap_or(1)).collect()).collect();
    for binding in &lowered.inputs {
        let default = default_dims(&binding.feature).and_then(|dims| dims.into_iter().collect::<Option<Vec<_>>>());
        let (Some(default), Some(shape)) = (default, shapes.get_mut(binding.port)) else { continue };
        // A network's array may have fewer dimensions than its port; then the port's own sizes are fixed ones.
        if default.len() == shape.len() {
            *shape = default;
        }
    }
    shapes
}

fn constant<'a>(name: &'a str, tensor: &'a Tensor) -> Value<'a> {
    Value {
        name,
        dtype: Some(tensor.dtype()),
        dims: Some(tensor.shape().iter().copied().map(Some).collect()),
        tensor: Some(tensor),
        ..Value::default()
    }
}

fn default_dims(feature: &Feature) -> Option<Dims> {
    declared_shapes(feature).into_iter().next()
}

/// The shapes that the description names, the default one first. Of ranges that is the only one.
pub(crate) fn declared_shapes(feature: &Feature) -> Vec<Dims> {
    let known = |shape: &[usize]| shape.iter().copied().map(Some).collect::<Dims>();
    let first = |default: Dims, mut all: Vec<Dims>| {
        all.retain(|shape| *shape != default);
        all.insert(0, default);
        all
    };
    match &feature.kind {
        FeatureKind::MultiArray(array) | FeatureKind::State(array) => match &array.flexibility {
            ShapeFlexibility::Enumerated(shapes) => {
                first(known(&array.shape), shapes.iter().map(|shape| known(shape)).collect())
            }
            ShapeFlexibility::Fixed | ShapeFlexibility::Ranges(_) => vec![known(&array.shape)],
        },
        FeatureKind::Image(image) => {
            let shape = |width, height| known(&[1, image.color.channels(), height, width]);
            let default = shape(image.width, image.height);
            match &image.flexibility {
                ImageFlexibility::Enumerated(sizes) => {
                    first(default, sizes.iter().map(|&(width, height)| shape(width, height)).collect())
                }
                ImageFlexibility::Fixed | ImageFlexibility::Ranges { .. } => vec![default],
            }
        }
        FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary(_)
        | FeatureKind::Sequence(..) => Vec::new(),
    }
}

/// The elements as numbers; `None` for more than `limit`, for strings and for types of fewer than 8 bits.
pub(crate) fn numbers(tensor: &Tensor, limit: usize) -> Option<Vec<f64>> {
    fn read<const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|&chunk| from(chunk)).collect()
    }
    if tensor.count() > limit {
        return None;
    }
    let bytes = tensor.bytes();
    Some(match tensor.dtype() {
        DType::Float16 => read(bytes, |b| half::f16::from_le_bytes(b).to_f64()),
        DType::Float32 => read(bytes, |b| f32::from_le_bytes(b).into()),
        DType::Float64 => read(bytes, f64::from_le_bytes),
        DType::BFloat16 => read(bytes, |b| half::bf16::from_le_bytes(b).to_f64()),
        DType::Int32 => read(bytes, |b| i32::from_le_bytes(b).into()),
        DType::UInt32 => read(bytes, |b| u32::from_le_bytes(b).into()),
        DType::Int64 => read(bytes, |b| i64::from_le_bytes(b) as f64),
        DType::UInt64 => read(bytes, |b| u64::from_le_bytes(b) as f64),
        DType::Int16 => read(bytes, |b| i16::from_le_bytes(b).into()),
        DType::UInt16 => read(bytes, |b| u16::from_le_bytes(b).into()),
        DType::Int8 => read(bytes, |b| i8::from_le_bytes(b).into()),
        DType::UInt8 | DType::Bool => read(bytes, |b: [u8; 1]| b[0].into()),
        DType::String
        | DType::Float8E4M3FN
        | DType::Float8E5M2
        | DType::Int4
        | DType::UInt1
        | DType::UInt2
        | DType::UInt3
        | DType::UInt4
        | DType::UInt6 => return None,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_moves_is_sorted() {
        assert!(super::MOVES.is_sorted());
    }
}
