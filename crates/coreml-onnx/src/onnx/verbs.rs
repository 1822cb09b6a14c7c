//! The verbs that lowerings write ONNX with: one method an operator, in the form of the opset that we write.

use bytes::Bytes;
use coreml_format::mil::Dim;

use super::{Element, OnnxBuilder, Source, Value, builder::NodeBuilder, pb::GraphProto};

/// How [`OnnxBuilder::pad`] fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PadMode {
    Constant,
    Edge,
    Reflect,
}

/// Window of a convolution or a pooling. Pads are all begins, then all ends, as ONNX has them.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) kernel: Vec<i64>,
    pub(crate) strides: Vec<i64>,
    pub(crate) dilations: Vec<i64>,
    pub(crate) pads: Vec<i64>,
    /// `SAME_UPPER` or `SAME_LOWER` instead of pads, where the input's size is known at run time only.
    pub(crate) auto: Option<&'static str>,
}

/// Attributes of ONNX's Resize.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resize {
    pub(crate) mode: &'static str,
    pub(crate) coordinates: &'static str,
    pub(crate) nearest: &'static str,
}

/// Weights of an ONNX recurrent operator, gates in its order: one direction, or forward and reverse stacked.
#[derive(Clone, Debug)]
pub(crate) struct Recurrent<'a> {
    pub(crate) x: &'a Value,
    pub(crate) w: &'a Value,
    pub(crate) r: &'a Value,
    pub(crate) b: Option<&'a Value>,
    pub(crate) initial: Vec<&'a Value>,
    pub(crate) peephole: Option<&'a Value>,
    pub(crate) hidden: i64,
    pub(crate) direction: &'static str,
    pub(crate) activations: Vec<Activation>,
    pub(crate) clip: Option<f32>,
}

/// An activation of a recurrent operator, with its parameters where it has some.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activation {
    pub(crate) name: &'static str,
    pub(crate) alpha: Option<f32>,
    pub(crate) beta: Option<f32>,
}

/// Constants.
impl OnnxBuilder {
    /// A list of int64, as shapes, axes and indices are given.
    pub(crate) fn ints(&mut self, values: &[i64]) -> Value {
        self.made(Element::I64, Source::ints(vec![values.len()], values))
    }

    /// An int64 scalar.
    pub(crate) fn int(&mut self, value: i64) -> Value {
        self.made(Element::I64, Source::ints(vec![], &[value]))
    }

    /// A scalar of the type of `like`.
    pub(crate) fn scalar(&mut self, value: f32, like: &Value) -> Value {
        match like.element() {
            Element::F32 => self.made(Element::F32, Source::floats(vec![], vec![value])),
            element => self.made(element, Source::ints(vec![], &[value as i64])),
        }
    }

    /// A float constant of this shape.
    pub(crate) fn floats(&mut self, shape: &[usize], values: Vec<f32>) -> Value {
        self.made(Element::F32, Source::floats(shape.to_vec(), values))
    }
}

/// Element by element.
impl OnnxBuilder {
    /// An operator with one operand, no attribute and a result of the operand's type.
    pub(crate) fn unary(&mut self, op_type: &'static str, x: &Value) -> Value {
        self.node(op_type).arg(x).out(x.element())
    }

    /// An operator with two operands that broadcast, and a result of their type.
    pub(crate) fn binary(&mut self, op_type: &'static str, x: &Value, y: &Value) -> Value {
        let (mut x, y) = self.unify(x, y);
        if matches!(op_type, "Div" | "Pow") && self.is_plain() && one_may_widen(&y, &x) {
            // rten gives the result the shape of the first operand where the second has one element.
            let shape = self.shape(&y);
            x = self.expand(&x, &shape);
        }
        self.node(op_type).arg(&x).arg(&y).out(x.element())
    }

    /// An operator with two operands that broadcast, and a boolean result.
    pub(crate) fn compare(&mut self, op_type: &'static str, x: &Value, y: &Value) -> Value {
        let (x, y) = self.unify(x, y);
        self.node(op_type).arg(&x).arg(&y).out(Element::Bool)
    }

    /// Casts where two operands differ: a float wins over an integer, the wider integer over the narrower.
    fn unify(&mut self, x: &Value, y: &Value) -> (Value, Value) {
        let rank = |e: Element| match e {
            Element::Bool => 0,
            Element::F32 => 3,
            Element::I64 => 2,
            _ => 1,
        };
        let element = if rank(x.element()) >= rank(y.element()) { x.element() } else { y.element() };
        (self.cast(x, element), self.cast(y, element))
    }

    /// A plus, minus, times or divided by a number: `op_type` of `x` and a scalar of its type.
    pub(crate) fn with_scalar(&mut self, op_type: &'static str, x: &Value, scalar: f32) -> Value {
        let scalar = self.scalar(scalar, x);
        self.binary(op_type, x, &scalar)
    }

    /// Nothing where `x` has that type already.
    pub(crate) fn cast(&mut self, x: &Value, to: Element) -> Value {
        if x.element() == to {
            return x.clone();
        }
        let dims = x.dims().map(<[_]>::to_vec);
        if let Some(source) = x.constant()
            && (source.is_float() == (to == Element::F32))
            && !matches!(to, Element::Bool)
        {
            return self.weight(x.name(), to, source.clone());
        }
        if to == Element::Bool {
            // rten carries booleans as int32 and would leave any number as it is.
            let zero = self.scalar(0.0, x);
            let is_zero = self.compare("Equal", x, &zero);
            return self.unary("Not", &is_zero).with_dims(dims);
        }
        self.cast_node(x, to).with_dims(dims)
    }

    /// `x` rounded to the numbers that fp16 has, in fp32.
    pub(crate) fn round_half(&mut self, x: &Value) -> Value {
        if x.is_half() || x.element() != Element::F32 {
            return x.clone();
        }
        if !self.without_fp16() {
            let half = self.cast_node(x, Element::F16);
            return self.cast_node(&half, Element::F32).with_half(true);
        }
        let size = self.unary("Abs", x);
        let step = self.half_step(&size);
        let steps = self.binary("Div", x, &step);
        let whole = self.unary("Round", &steps);
        let rounded = self.binary("Mul", &whole, &step);
        // What fp16 has no number for is infinite there, or no number as before.
        let limit = self.scalar(65520.0, x);
        let inside = self.compare("Less", &size, &limit);
        let outside = self.with_scalar("Mul", x, f32::INFINITY);
        self.select(&inside, &rounded, &outside).with_half(true)
    }

    /// The distance between neighbours in fp16 at a size: 2^(exponent - 10), with -14 as the least exponent. A
    /// logarithm that is off by a rounding error next to a power of two does no harm: there, both steps round alike.
    fn half_step(&mut self, size: &Value) -> Value {
        let log = self.unary("Log", size);
        let log2 = self.with_scalar("Mul", &log, std::f32::consts::LOG2_E);
        let exponent = self.unary("Floor", &log2);
        let exponent = self.clip(&exponent, -14.0, 16.0);
        let exponent = self.with_scalar("Sub", &exponent, 10.0);
        let two = self.scalar(2.0, size);
        let near = self.binary("Pow", &two, &exponent);
        // Engines compute powers to within a rounding error; Veltkamp's splitting leaves the leading bit alone.
        let scaled = self.with_scalar("Mul", &near, 8_388_609.0);
        let low = self.binary("Sub", &scaled, &near);
        self.binary("Sub", &scaled, &low)
    }

    fn cast_node(&mut self, x: &Value, to: Element) -> Value {
        self.node("Cast").arg(x).int("to", i64::from(to.number())).out(to)
    }

    pub(crate) fn clip(&mut self, x: &Value, low: f32, high: f32) -> Value {
        let bound = |onnx: &mut Self, v: f32| v.is_finite().then(|| onnx.scalar(v, x));
        let (low, high) = (bound(self, low), bound(self, high));
        self.node("Clip").arg(x).maybe(low.as_ref()).maybe(high.as_ref()).out(x.element())
    }

    pub(crate) fn select(&mut self, condition: &Value, x: &Value, y: &Value) -> Value {
        let condition = self.cast(condition, Element::Bool);
        let (x, y) = self.unify(x, y);
        if x.element() != Element::Bool {
            return self.node("Where").args([&condition, &x, &y]).out(x.element());
        }
        // ONNX Runtime has no kernel that selects booleans.
        let (x, y) = (self.cast(&x, Element::I32), self.cast(&y, Element::I32));
        let chosen = self.node("Where").args([&condition, &x, &y]).out(Element::I32);
        self.cast(&chosen, Element::Bool)
    }

    /// An activation with one float attribute.
    pub(crate) fn activation(&mut self, op_type: &'static str, x: &Value, attributes: &[(&str, f32)]) -> Value {
        let node = self.node(op_type).arg(x);
        attributes.iter().fold(node, |node, (name, value)| node.float(name, *value)).out(x.element())
    }

    pub(crate) fn gelu(&mut self, x: &Value, tanh: bool) -> Value {
        let node = self.node("Gelu").arg(x);
        if tanh { node.string("approximate", "tanh") } else { node }.out(x.element())
    }

    /// `log(1 + exp(x))`, in a form in which the exponential cannot overflow.
    pub(crate) fn softplus(&mut self, x: &Value) -> Value {
        let size = self.unary("Abs", x);
        let small = self.unary("Neg", &size);
        let rest = self.unary("Softplus", &small);
        let ramp = self.unary("Relu", x);
        self.binary("Add", &ramp, &rest)
    }

    /// -1, 0 or 1. rten's Sign gives 1 for a zero, so this one compares.
    pub(crate) fn sign(&mut self, x: &Value) -> Value {
        let zero = self.scalar(0.0, x);
        let (above, below) = (self.compare("Greater", x, &zero), self.compare("Less", x, &zero));
        let (above, below) = (self.cast(&above, x.element()), self.cast(&below, x.element()));
        self.binary("Sub", &above, &below)
    }

    pub(crate) fn modulo(&mut self, x: &Value, y: &Value) -> Value {
        self.node("Mod").arg(x).arg(y).out(x.element())
    }
}

/// Shapes and layout.
impl OnnxBuilder {
    /// The shape of `x` as int64.
    pub(crate) fn shape(&mut self, x: &Value) -> Value {
        self.node("Shape").arg(x).out(Element::I64)
    }

    /// `shape` may hold one -1; a 0 is a dimension of size 0 unless `copy_zeros`.
    pub(crate) fn reshape(&mut self, x: &Value, shape: &[i64]) -> Value {
        let shape = self.ints(shape);
        self.reshape_to(x, &shape, false)
    }

    pub(crate) fn reshape_to(&mut self, x: &Value, shape: &Value, copy_zeros: bool) -> Value {
        let shape = self.cast(shape, Element::I64);
        let node = self.node("Reshape").arg(x).arg(&shape);
        if copy_zeros { node } else { node.int("allowzero", 1) }.out(x.element())
    }

    pub(crate) fn transpose(&mut self, x: &Value, perm: &[i64]) -> Value {
        self.node("Transpose").arg(x).ints("perm", perm).out(x.element())
    }

    pub(crate) fn squeeze(&mut self, x: &Value, axes: &[i64]) -> Value {
        self.change_rank("Squeeze", "Unsqueeze", x, axes)
    }

    pub(crate) fn unsqueeze(&mut self, x: &Value, axes: &[i64]) -> Value {
        self.change_rank("Unsqueeze", "Squeeze", x, axes)
    }

    pub(crate) fn concat(&mut self, values: &[Value], axis: i64) -> Value {
        let element = values.first().map_or(Element::F32, Value::element);
        self.node("Concat").args(values).int("axis", axis).out(element)
    }

    /// Pieces of these sizes.
    pub(crate) fn split(&mut self, x: &Value, sizes: &[i64], axis: i64) -> Vec<Value> {
        let pieces = vec![x.element(); sizes.len()];
        let sizes = self.ints(sizes);
        self.node("Split").arg(x).arg(&sizes).int("axis", axis).outs(&pieces)
    }

    /// `pieces` equal pieces.
    pub(crate) fn split_even(&mut self, x: &Value, pieces: usize, axis: i64) -> Vec<Value> {
        let elements = vec![x.element(); pieces];
        self.node("Split").arg(x).int("axis", axis).int("num_outputs", pieces as i64).outs(&elements)
    }

    pub(crate) fn slice(&mut self, x: &Value, starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]) -> Value {
        let (starts, ends, axes, steps) = (self.ints(starts), self.ints(ends), self.ints(axes), self.ints(steps));
        self.slice_at(x, &starts, &ends, &axes, &steps)
    }

    /// A slice whose bounds are int64 values.
    pub(crate) fn slice_at(&mut self, x: &Value, starts: &Value, ends: &Value, axes: &Value, steps: &Value) -> Value {
        self.node("Slice").args([x, starts, ends, axes, steps]).out(x.element())
    }

    /// The elements of each of `axes` in reverse order.
    pub(crate) fn reversed(&mut self, x: &Value, axes: &[i64]) -> Value {
        let n = axes.len();
        let (last, before_first) = (i64::from(i32::MAX), -i64::from(i32::MAX));
        self.slice(x, &vec![last; n], &vec![before_first; n], axes, &vec![-1; n])
    }

    pub(crate) fn expand(&mut self, x: &Value, shape: &Value) -> Value {
        let shape = self.cast(shape, Element::I64);
        self.node("Expand").arg(x).arg(&shape).out(x.element())
    }

    pub(crate) fn tile(&mut self, x: &Value, repeats: &Value) -> Value {
        let repeats = self.cast(repeats, Element::I64);
        self.node("Tile").arg(x).arg(&repeats).out(x.element())
    }

    /// `pads` has all begins, then all ends.
    pub(crate) fn pad(&mut self, x: &Value, pads: &Value, mode: PadMode, fill: Option<&Value>) -> Value {
        let pads = self.cast(pads, Element::I64);
        let mode = match mode {
            PadMode::Constant => "constant",
            PadMode::Edge => "edge",
            PadMode::Reflect => "reflect",
        };
        let node = self.node("Pad").arg(x).arg(&pads).string("mode", mode);
        if let Some(fill) = fill { node.arg(fill) } else { node }.out(x.element())
    }

    pub(crate) fn depth_to_space(&mut self, x: &Value, block: i64, crd: bool) -> Value {
        let mode = if crd { "CRD" } else { "DCR" };
        self.node("DepthToSpace").arg(x).int("blocksize", block).string("mode", mode).out(x.element())
    }

    pub(crate) fn space_to_depth(&mut self, x: &Value, block: i64) -> Value {
        self.node("SpaceToDepth").arg(x).int("blocksize", block).out(x.element())
    }

    /// A tensor of int64 `shape` filled with `value`.
    pub(crate) fn constant_of_shape(&mut self, shape: &Value, value: f32, element: Element) -> Value {
        let shape = self.cast(shape, Element::I64);
        let bytes: Bytes = match element {
            Element::F32 => value.to_le_bytes().to_vec(),
            Element::I64 => (value as i64).to_le_bytes().to_vec(),
            Element::Bool => vec![u8::from(value != 0.0)],
            _ => (value as i32).to_le_bytes().to_vec(),
        }
        .into();
        self.node("ConstantOfShape").arg(&shape).tensor("value", element, &[1], bytes).out(element)
    }

    /// `count` numbers from 0 to below 1, other ones in every run.
    pub(crate) fn random_uniform(&mut self, count: i64) -> Value {
        self.node("RandomUniform").ints("shape", &[count]).float("low", 0.0).float("high", 1.0).out(Element::F32)
    }

    pub(crate) fn range(&mut self, start: &Value, limit: &Value, step: &Value) -> Value {
        self.node("Range").args([start, limit, step]).out(start.element())
    }
}

/// Picking and placing.
impl OnnxBuilder {
    pub(crate) fn gather(&mut self, x: &Value, indices: &Value, axis: i64) -> Value {
        self.node("Gather").arg(x).arg(indices).int("axis", axis).out(x.element())
    }

    pub(crate) fn gather_elements(&mut self, x: &Value, indices: &Value, axis: i64) -> Value {
        self.node("GatherElements").arg(x).arg(indices).int("axis", axis).out(x.element())
    }

    pub(crate) fn gather_nd(&mut self, x: &Value, indices: &Value, batch_dims: i64) -> Value {
        let indices = self.cast(indices, Element::I64);
        self.node("GatherND").arg(x).arg(&indices).int("batch_dims", batch_dims).out(x.element())
    }

    pub(crate) fn scatter_elements(
        &mut self,
        x: &Value,
        indices: &Value,
        updates: &Value,
        axis: i64,
        reduction: &str,
    ) -> Value {
        let node = self.node("ScatterElements").args([x, indices, updates]).int("axis", axis);
        node.string("reduction", reduction).out(x.element())
    }

    pub(crate) fn scatter_nd(&mut self, x: &Value, indices: &Value, updates: &Value, reduction: &str) -> Value {
        let indices = self.cast(indices, Element::I64);
        self.node("ScatterND").args([x, &indices, updates]).string("reduction", reduction).out(x.element())
    }

    /// Values and int64 indices.
    pub(crate) fn top_k(&mut self, x: &Value, k: &Value, axis: i64, largest: bool) -> (Value, Value) {
        let k = self.cast(k, Element::I64);
        let node = self.node("TopK").arg(x).arg(&k).int("axis", axis);
        let node = node.int("largest", i64::from(largest)).int("sorted", 1);
        let mut both = node.outs(&[x.element(), Element::I64]);
        let indices = both.pop().expect("two results");
        (both.pop().expect("two results"), indices)
    }

    pub(crate) fn one_hot(&mut self, indices: &Value, depth: &Value, values: &Value, axis: i64) -> Value {
        self.node("OneHot").args([indices, depth, values]).int("axis", axis).out(values.element())
    }

    pub(crate) fn non_zero(&mut self, x: &Value) -> Value {
        self.node("NonZero").arg(x).out(Element::I64)
    }

    /// The first `lengths` elements of axis 0 in reverse order, for each index of axis 1.
    pub(crate) fn reverse_sequence(&mut self, x: &Value, lengths: &Value) -> Value {
        let lengths = self.cast(lengths, Element::I64);
        let node = self.node("ReverseSequence").arg(x).arg(&lengths);
        node.int("time_axis", 0).int("batch_axis", 1).out(x.element())
    }

    pub(crate) fn trilu(&mut self, x: &Value, k: i64, upper: bool) -> Value {
        let k = self.int(k);
        self.node("Trilu").arg(x).arg(&k).int("upper", i64::from(upper)).out(x.element())
    }
}

/// Reductions and products.
impl OnnxBuilder {
    /// Reduces `axes`, or every axis where there is none.
    pub(crate) fn reduce(&mut self, op_type: &'static str, x: &Value, axes: &[i64], keep_dims: bool) -> Value {
        let axes = (!axes.is_empty()).then(|| self.ints(axes));
        let node = self.node(op_type).arg(x);
        let node = if let Some(axes) = &axes { node.arg(axes) } else { node };
        node.int("keepdims", i64::from(keep_dims)).out(x.element())
    }

    /// `ArgMax` or `ArgMin`, int64.
    pub(crate) fn arg(&mut self, op_type: &'static str, x: &Value, axis: i64, keep_dims: bool) -> Value {
        self.node(op_type).arg(x).int("axis", axis).int("keepdims", i64::from(keep_dims)).out(Element::I64)
    }

    pub(crate) fn cum_sum(&mut self, x: &Value, axis: i64, exclusive: bool, reverse: bool) -> Value {
        let axis = self.int(axis);
        self.cum_sum_along(x, &axis, exclusive, reverse)
    }

    /// Along an axis that is a value: an int64 scalar.
    pub(crate) fn cum_sum_along(&mut self, x: &Value, axis: &Value, exclusive: bool, reverse: bool) -> Value {
        let node = self.node("CumSum").arg(x).arg(axis);
        node.int("exclusive", i64::from(exclusive)).int("reverse", i64::from(reverse)).out(x.element())
    }

    pub(crate) fn mat_mul(&mut self, x: &Value, y: &Value) -> Value {
        self.node("MatMul").arg(x).arg(y).out(x.element())
    }

    pub(crate) fn einsum(&mut self, values: &[Value], equation: &str) -> Value {
        let element = values.first().map_or(Element::F32, Value::element);
        self.node("Einsum").args(values).string("equation", equation).out(element)
    }

    pub(crate) fn softmax(&mut self, x: &Value, axis: i64) -> Value {
        self.node("Softmax").arg(x).int("axis", axis).out(x.element())
    }
}

/// Windows, normalisation, resizing, recurrence.
impl OnnxBuilder {
    pub(crate) fn conv(&mut self, x: &Value, w: &Value, bias: Option<&Value>, window: &Window, groups: i64) -> Value {
        let node = self.node("Conv").arg(x).arg(w);
        let node = if let Some(bias) = bias { node.arg(bias) } else { node };
        let node = node.ints("kernel_shape", &window.kernel).ints("strides", &window.strides);
        node.ints("dilations", &window.dilations).padded(window).int("group", groups).out(x.element())
    }

    pub(crate) fn conv_transpose(
        &mut self,
        x: &Value,
        w: &Value,
        bias: Option<&Value>,
        window: &Window,
        output_padding: &[i64],
        groups: i64,
    ) -> Value {
        let node = self.node("ConvTranspose").arg(x).arg(w);
        let node = if let Some(bias) = bias { node.arg(bias) } else { node };
        let node = node.ints("kernel_shape", &window.kernel).ints("strides", &window.strides);
        let node = node.ints("dilations", &window.dilations).padded(window).int("group", groups);
        let node =
            if output_padding.iter().any(|&p| p != 0) { node.ints("output_padding", output_padding) } else { node };
        node.out(x.element())
    }

    pub(crate) fn max_pool(&mut self, x: &Value, window: &Window, ceil: bool) -> Value {
        self.node("MaxPool")
            .arg(x)
            .ints("kernel_shape", &window.kernel)
            .ints("strides", &window.strides)
            .padded(window)
            .int("ceil_mode", i64::from(ceil))
            .out(x.element())
    }

    pub(crate) fn average_pool(&mut self, x: &Value, window: &Window, ceil: bool, count_padding: bool) -> Value {
        self.node("AveragePool")
            .arg(x)
            .ints("kernel_shape", &window.kernel)
            .ints("strides", &window.strides)
            .padded(window)
            .int("ceil_mode", i64::from(ceil))
            .int("count_include_pad", i64::from(count_padding))
            .out(x.element())
    }

    pub(crate) fn batch_norm(&mut self, x: &Value, parameters: [&Value; 4], epsilon: f32) -> Value {
        self.node("BatchNormalization").arg(x).args(parameters).float("epsilon", epsilon).out(x.element())
    }

    pub(crate) fn instance_norm(&mut self, x: &Value, scale: &Value, bias: &Value, epsilon: f32) -> Value {
        self.node("InstanceNormalization").args([x, scale, bias]).float("epsilon", epsilon).out(x.element())
    }

    /// Normalises the axes from `axis` on.
    pub(crate) fn layer_norm(
        &mut self,
        x: &Value,
        axis: i64,
        scale: &Value,
        bias: Option<&Value>,
        epsilon: f32,
    ) -> Value {
        let node = self.node("LayerNormalization").arg(x).arg(scale);
        let node = if let Some(bias) = bias { node.arg(bias) } else { node };
        node.int("axis", axis).float("epsilon", epsilon).out(x.element())
    }

    pub(crate) fn lrn(&mut self, x: &Value, size: i64, alpha: f32, beta: f32, k: f32) -> Value {
        let node = self.node("LRN").arg(x).int("size", size);
        node.float("alpha", alpha).float("beta", beta).float("bias", k).out(x.element())
    }

    /// Resizes to `scales` or to `sizes`, each with one entry an axis.
    pub(crate) fn resize(&mut self, x: &Value, sizes: &Value, how: Resize) -> Value {
        let node = self.node("Resize").arg(x).maybe(None).maybe(None).arg(sizes);
        let node = node.string("mode", how.mode).string("coordinate_transformation_mode", how.coordinates);
        let node = if how.mode == "nearest" { node.string("nearest_mode", how.nearest) } else { node };
        node.out(x.element())
    }

    /// `LSTM`, `GRU` or `RNN`: all hidden states, the last one, and the last cell of an LSTM.
    pub(crate) fn recurrent(&mut self, op_type: &'static str, net: &Recurrent<'_>, reset_after: bool) -> Vec<Value> {
        let f = net.x.element();
        let node = self.node(op_type).args([net.x, net.w, net.r]).maybe(net.b).maybe(None);
        let mut node = node.args(net.initial.iter().copied());
        if let Some(peephole) = net.peephole {
            node = node.arg(peephole);
        }
        node = node.int("hidden_size", net.hidden).string("direction", net.direction);
        node = node.strings("activations", &net.activations.iter().map(|a| a.name).collect::<Vec<_>>());
        if net.activations.iter().any(|a| a.alpha.is_some()) {
            node = node.floats("activation_alpha", &net.activations.iter().filter_map(|a| a.alpha).collect::<Vec<_>>());
        }
        if net.activations.iter().any(|a| a.beta.is_some()) {
            node = node.floats("activation_beta", &net.activations.iter().filter_map(|a| a.beta).collect::<Vec<_>>());
        }
        if let Some(clip) = net.clip {
            node = node.float("clip", clip);
        }
        if op_type == "GRU" {
            node = node.int("linear_before_reset", i64::from(reset_after));
        }
        node.outs(&vec![f; if op_type == "LSTM" { 3 } else { 2 }])
    }
}

impl NodeBuilder<'_> {
    fn padded(self, window: &Window) -> Self {
        match window.auto {
            Some(auto) => self.string("auto_pad", auto),
            None => self.ints("pads", &window.pads),
        }
    }
}

/// Control flow.
impl OnnxBuilder {
    pub(crate) fn if_(
        &mut self,
        condition: &Value,
        then: GraphProto,
        otherwise: GraphProto,
        results: &[Element],
    ) -> Vec<Value> {
        self.node("If").arg(condition).graph("then_branch", then).graph("else_branch", otherwise).outs(results)
    }

    /// Runs `body` while its first result is true. `body` takes the trip count, the condition and the variables.
    pub(crate) fn loop_(&mut self, condition: &Value, variables: &[Value], body: GraphProto) -> Vec<Value> {
        self.loop_up_to(None, Some(condition), variables, body)
    }

    /// Runs `body` at most `count` times, and while its first result is true: like [`OnnxBuilder::loop_`].
    pub(crate) fn loop_up_to(
        &mut self,
        count: Option<&Value>,
        condition: Option<&Value>,
        variables: &[Value],
        body: GraphProto,
    ) -> Vec<Value> {
        let elements: Vec<Element> = variables.iter().map(Value::element).collect();
        self.node("Loop").maybe(count).maybe(condition).args(variables).graph("body", body).outs(&elements)
    }

    /// Runs `body` at most `count` times, like [`OnnxBuilder::loop_`]. What `body` gives beyond the variables, of types
    /// `collected`, is stacked step by step, and stands behind them in the results.
    pub(crate) fn repeat(
        &mut self,
        count: &Value,
        variables: &[Value],
        collected: &[Element],
        body: GraphProto,
    ) -> Vec<Value> {
        let elements: Vec<Element> = variables.iter().map(Value::element).chain(collected.iter().copied()).collect();
        self.node("Loop").arg(count).maybe(None).args(variables).graph("body", body).outs(&elements)
    }
}

/// Whether these are dimensions of one element, as far as they are known.
pub(super) fn may_be_one(dims: &[Dim]) -> bool {
    dims.iter().all(|dim| matches!(dim, Dim::Fixed(1) | Dim::Unknown))
}

/// Whether `y` may have one element and more dimensions than `x`.
fn one_may_widen(y: &Value, x: &Value) -> bool {
    let x = x.dims().map(<[_]>::len);
    match y.dims() {
        Some(y) => may_be_one(y) && x.map_or(!y.is_empty(), |x| y.len() > x),
        None => x == Some(0),
    }
}
