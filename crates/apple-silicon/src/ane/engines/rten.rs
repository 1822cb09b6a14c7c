//! rten: pure Rust, always there.
//!
//! It takes ONNX with some silent differences, so [`OPERATORS`] lists what it runs rightly, read from its sources
//! (rten 0.27, `op_registry/onnx_registry.rs` and `ops/`), and a model with anything else is refused before it runs.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process,
    sync::{Arc, OnceLock},
    thread,
};

use coreml_onnx::{Element, Node, OnnxModel, Port, Storage};
use rten::{ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView, ValueView};
use rten_tensor::prelude::*;

use super::{
    Data, Engine, EngineOptions, LoadedEngineModel, Refusal, Take, Tensor,
    compiled::{self, CompiledFiles, Signature, WEIGHTS},
    tensor::{not_lowered, unsupported},
};
use crate::ane::{
    errors::{ANEError, Result},
    limits::Limits,
};

/// The engine's name on the command line.
pub(super) const NAME: &str = "rten";

/// The version that Cargo.toml asks for.
pub(super) const VERSION: &str = "0.27";

/// rten.
pub(super) struct Rten;

impl Engine for Rten {
    fn name(&self) -> &'static str {
        NAME
    }

    fn has_fp16(&self) -> bool {
        false
    }

    fn version(&self) -> String {
        VERSION.to_owned()
    }

    /// rten keeps freed buffers for the rest of a run. Of 17 models, it took 0.35 to 2.9 times what is live at a time.
    fn working_set(&self, live: usize) -> usize {
        live.saturating_mul(3)
    }

    fn check(&self, model: &OnnxModel) -> Result<(), Refusal> {
        model.nodes().into_iter().try_for_each(check_node)
    }

    fn load(&self, model: OnnxModel, options: &EngineOptions) -> Result<Box<dyn LoadedEngineModel>> {
        let mut weights = Vec::with_capacity(model.weights_len());
        model
            .write_weights(&mut weights)
            .map_err(|e| ANEError::Internal(format!("weights were not collected: {e}")))?;
        let (graph, signature) = (model.encode(Storage::Beside(WEIGHTS)), Signature::of(&model));
        drop(model);
        Ok(Box::new(Model::new(graph, weights, &signature, options)?))
    }

    /// What rten optimises cannot be written, so that only the lowered graph is kept, which is the same everywhere.
    fn fingerprint(&self) -> String {
        String::new()
    }

    fn compile(&self, model: &OnnxModel, folder: &Path, _: &EngineOptions) -> Result<()> {
        compiled::write_lowered(model, folder)
            .map_err(|e| ANEError::CompilationFailed(format!("the lowered model was not written: {e}")))
    }

    fn open(
        &self,
        files: CompiledFiles,
        signature: &Signature,
        options: &EngineOptions,
    ) -> Result<Box<dyn LoadedEngineModel>> {
        let failed = |e: io::Error| ANEError::CompilationFailed(format!("{}: {e}", files.folder.display()));
        let graph = compiled::read_whole(&files.graph).map_err(failed)?;
        let weights = files.weights.as_ref().map_or(Ok(Vec::new()), compiled::read_whole).map_err(failed)?;
        Ok(Box::new(Model::new(graph, weights, signature, options)?))
    }
}

struct Model {
    net: rten::Model,
    inputs: Vec<NodeId>,
    outputs: Vec<(NodeId, Element)>,
    threads: Option<Arc<ThreadPool>>,
    /// The number of nodes, which bounds how deep rten recurses.
    depth: usize,
}

impl Model {
    fn new(graph: Vec<u8>, weights: Vec<u8>, signature: &Signature, options: &EngineOptions) -> Result<Model> {
        let net = guarded("load", signature.nodes, || {
            let mut options = ModelOptions::with_all_ops();
            options.external_data(WEIGHTS, weights);
            options.load(graph).map_err(|e| refuse(&format!("rten does not take the model: {e}")).into())
        })?;
        let find = |port: &Port| {
            net.find_node(&port.name).ok_or_else(|| ANEError::Internal(format!("rten lost the port {:?}", port.name)))
        };
        Ok(Model {
            inputs: signature.inputs.iter().map(find).collect::<Result<_>>()?,
            outputs: signature.outputs.iter().map(|port| Ok((find(port)?, port.element))).collect::<Result<_>>()?,
            threads: options.threads.map(|n| Arc::new(ThreadPool::with_num_threads(n.get()))),
            depth: signature.nodes,
            net,
        })
    }
}

impl LoadedEngineModel for Model {
    /// rten cannot be interrupted, so limits are looked at before and after.
    fn run(&self, inputs: &[Tensor<'_>], limits: &Limits, take: &mut Take<'_>) -> Result<()> {
        limits.check()?;
        let mut values = Vec::with_capacity(inputs.len());
        for (id, tensor) in self.inputs.iter().zip(inputs) {
            values.push((*id, value(tensor)?));
        }
        let ids: Vec<NodeId> = self.outputs.iter().map(|(id, _)| *id).collect();
        let options = RunOptions::default().with_thread_pool(self.threads.clone());
        let results = guarded("run", self.depth, || {
            self.net.run(values, &ids, Some(options)).map_err(|e| {
                ANEError::InferenceFailed(format!("rten: {e}; with ONNX Runtime it may run: {}", super::INSTALL_HINT))
            })
        })?;
        limits.check()?;
        let results = results.into_iter().zip(&self.outputs).enumerate();
        results.into_iter().try_for_each(|(port, (value, (_, element)))| take(port, owned(value, *element)?))
    }
}

/// rten panics on some inputs that it does not expect; such a panic is an error here and no more. It recurses along
/// the graph, so a deep one gets a thread with the stack for it.
fn guarded<T: Send>(what: &str, depth: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    /// A chain of this many nodes fits the 2 MiB that a thread has by default.
    const SHALLOW: usize = 1000;
    /// Measured: 50,000 nodes in a chain overflow 8 MiB and fit 16 MiB in a release build; debug builds take more.
    const FRAME: usize = 2048;
    /// rten's threads are those of the process that first used it. In one forked from that it would wait for them.
    static BEGAN_IN: OnceLock<u32> = OnceLock::new();

    if *BEGAN_IN.get_or_init(process::id) != process::id() {
        return Err(ANEError::InferenceFailed(
            "the engine rten began in the process that this one was forked from, and its threads are there; use ONNX \
             Runtime, or start a process of its own (in Python: the method \"spawn\")"
                .to_owned(),
        ));
    }
    let work = || catch_unwind(AssertUnwindSafe(work));
    let done = if depth <= SHALLOW {
        work()
    } else {
        let stack = (depth * FRAME).min(1 << 30);
        thread::scope(|scope| match thread::Builder::new().stack_size(stack).spawn_scoped(scope, work) {
            Ok(deep) => deep.join().unwrap_or_else(Err),
            Err(e) => Ok(Err(ANEError::MemoryAllocationFailed(format!("no thread for a deep graph: {e}")))),
        })
    };
    done.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(ANEError::Internal(format!("rten gave up its {what}: {}", message.unwrap_or("no reason given"))))
    })
}

/// A tensor as rten takes it: floats are borrowed, whole numbers and booleans become int32.
fn value<'a>(tensor: &'a Tensor<'_>) -> Result<ValueOrView<'a>> {
    let shape = &*tensor.shape;
    let internal = |e: &dyn std::fmt::Display| ANEError::Internal(format!("a tensor for rten: {e}"));
    match &tensor.data {
        Data::F32(values) => Ok(ValueView::from_shape(shape, values).map_err(|e| internal(&e))?.into()),
        Data::I32(values) => Ok(ValueView::from_shape(shape, values).map_err(|e| internal(&e))?.into()),
        Data::I64(values) => {
            let values: Option<Vec<i32>> = values.iter().map(|&v| i32::try_from(v).ok()).collect();
            let values = values.ok_or_else(|| {
                ANEError::UnsupportedPrecision("rten has no whole numbers beyond 32 bits; use ONNX Runtime".to_owned())
            })?;
            Ok(Value::from_shape(shape, values).map_err(|e| internal(&e))?.into())
        }
        Data::Bool(values) => {
            let values: Vec<i32> = values.iter().map(|&v| i32::from(v)).collect();
            Ok(Value::from_shape(shape, values).map_err(|e| internal(&e))?.into())
        }
        Data::Shared(..) | Data::Feature(_) | Data::Absent | Data::State(_) => Err(not_lowered()),
    }
}

/// What rten gives, in the type of the port.
fn owned(value: Value, element: Element) -> Result<Tensor<'static>> {
    match (value, element) {
        (Value::FloatTensor(values), Element::F32) => {
            Ok(Tensor::owned(values.shape().to_vec(), Data::F32(values.into_data().into())))
        }
        (Value::Int32Tensor(values), _) => {
            let (shape, values) = (values.shape().to_vec(), values.into_data());
            let data = match element {
                Element::I32 => Data::I32(values.into()),
                Element::I64 => Data::I64(values.into_iter().map(i64::from).collect()),
                Element::Bool => Data::Bool(values.into_iter().map(|v| v != 0).collect()),
                other => return Err(unsupported(other)),
            };
            Ok(Tensor::owned(shape, data))
        }
        (value, element) => {
            Err(ANEError::Internal(format!("rten gave {:?} for a port of type {element:?}", value.dtype())))
        }
    }
}

fn refuse(sentence: &str) -> Refusal {
    Refusal(format!("{sentence}; use ONNX Runtime: {}", super::INSTALL_HINT))
}

fn check_node(node: Node<'_>) -> Result<(), Refusal> {
    let op_type = node.op_type();
    let why = match OPERATORS.binary_search_by_key(&op_type, |row| row.op_type) {
        Ok(row) => (OPERATORS[row].limit)(&node),
        Err(_) => Some("rten has no such operator"),
    };
    match why {
        Some(why) => Err(refuse(&format!("{op_type} at {:?} does not run on rten: {why}", node.name()))),
        None => Ok(()),
    }
}

/// An ONNX operator that rten runs, and what it does not run of it.
struct Operator {
    op_type: &'static str,
    /// What is asked for that rten does not do.
    limit: fn(&Node<'_>) -> Option<&'static str>,
}

/// What rten runs rightly, sorted. An attribute that rten refuses itself when it loads needs no limit here.
const OPERATORS: &[Operator] = &[
    all("Abs"),
    all("Acos"),
    all("Acosh"),
    all("Add"),
    all("And"),
    all("ArgMax"),
    all("ArgMin"),
    all("Asin"),
    all("Asinh"),
    all("Atan"),
    all("Atanh"),
    some("AveragePool", pool),
    all("BatchNormalization"),
    some("Cast", cast),
    all("Ceil"),
    all("Clip"),
    all("Concat"),
    all("ConstantOfShape"),
    some("Conv", conv),
    some("ConvTranspose", conv),
    all("Cos"),
    all("Cosh"),
    all("CumSum"),
    all("DepthToSpace"),
    some("DequantizeLinear", quantize),
    all("Div"),
    all("Einsum"),
    all("Elu"),
    all("Equal"),
    all("Erf"),
    all("Exp"),
    all("Expand"),
    all("Flatten"),
    all("Floor"),
    some("GRU", gru),
    all("Gather"),
    all("GatherElements"),
    all("GatherND"),
    all("Gelu"),
    all("Gemm"),
    all("GlobalAveragePool"),
    all("GlobalMaxPool"),
    all("Greater"),
    all("GreaterOrEqual"),
    all("GridSample"),
    all("HardSigmoid"),
    all("HardSwish"),
    all("Identity"),
    all("If"),
    all("InstanceNormalization"),
    some("LSTM", lstm),
    all("LayerNormalization"),
    all("LeakyRelu"),
    all("Less"),
    all("LessOrEqual"),
    all("Log"),
    all("LogSoftmax"),
    all("Loop"),
    all("LpNormalization"),
    all("MatMul"),
    all("Max"),
    some("MaxPool", pool),
    all("Mean"),
    all("Min"),
    all("Mod"),
    all("Mul"),
    all("Neg"),
    all("NonZero"),
    all("Not"),
    all("OneHot"),
    all("Or"),
    all("PRelu"),
    all("Pad"),
    all("Pow"),
    some("QuantizeLinear", quantize),
    all("RandomUniform"),
    all("Range"),
    all("Reciprocal"),
    all("ReduceL1"),
    all("ReduceL2"),
    all("ReduceLogSum"),
    all("ReduceLogSumExp"),
    all("ReduceMax"),
    all("ReduceMean"),
    all("ReduceMin"),
    all("ReduceProd"),
    all("ReduceSum"),
    all("ReduceSumSquare"),
    all("Relu"),
    all("Reshape"),
    some("Resize", resize),
    all("ReverseSequence"),
    all("Round"),
    all("ScatterElements"),
    all("ScatterND"),
    all("Shape"),
    all("Sigmoid"),
    all("Sign"),
    all("Sin"),
    all("Sinh"),
    all("Size"),
    all("Slice"),
    all("Softmax"),
    all("Softplus"),
    all("Softsign"),
    all("Split"),
    all("Sqrt"),
    all("Squeeze"),
    all("Sub"),
    all("Sum"),
    all("Tan"),
    all("Tanh"),
    all("Tile"),
    all("TopK"),
    all("Transpose"),
    all("Trilu"),
    all("Unsqueeze"),
    all("Where"),
    all("Xor"),
];

const fn all(op_type: &'static str) -> Operator {
    some(op_type, |_| None)
}

const fn some(op_type: &'static str, limit: fn(&Node<'_>) -> Option<&'static str>) -> Operator {
    Operator { op_type, limit }
}

/// rten has float, int32, int8 and uint8, and takes a cast to any other type of the same kind for one of these.
fn cast(node: &Node<'_>) -> Option<&'static str> {
    // Numbers of `TensorProto.DataType`.
    match node.int("to") {
        Some(1 | 2 | 3 | 6 | 7) => None,
        // A cast to bool is none in rten: 0.5 would become 0, and 2 would stay 2. Comparisons give 0 and 1 as they
        // are, so lowering, which writes this cast for whole numbers, is still right where they are used as conditions.
        Some(9) => None,
        Some(10) => Some("it has no fp16, so nothing would be rounded"),
        _ => Some("it has no such element type"),
    }
}

fn conv(node: &Node<'_>) -> Option<&'static str> {
    windows(node)
}

fn pool(node: &Node<'_>) -> Option<&'static str> {
    if node.outputs().len() > 1 {
        return Some("it gives no indices");
    }
    if node.ints("dilations").iter().any(|&d| d != 1) {
        return Some("it has no dilated pooling");
    }
    windows(node)
}

/// What convolution and pooling have in common.
fn windows(node: &Node<'_>) -> Option<&'static str> {
    match (node.ints("kernel_shape").len(), node.string("auto_pad")) {
        (1 | 2, None | Some("NOTSET" | "VALID" | "SAME_UPPER")) => None,
        (1 | 2, _) => Some("it pads at the end only where padding is uneven"),
        _ => Some("it has one and two spatial dimensions only"),
    }
}

fn quantize(node: &Node<'_>) -> Option<&'static str> {
    (node.int("block_size").unwrap_or(0) != 0).then_some("it does not quantize by block")
}

fn resize(node: &Node<'_>) -> Option<&'static str> {
    match (node.string("mode"), node.string("coordinate_transformation_mode")) {
        (Some("cubic"), _) => Some("its cubic interpolation is linear"),
        (_, None | Some("half_pixel" | "asymmetric" | "align_corners" | "pytorch_half_pixel")) => None,
        _ => Some("it does not have this mapping of coordinates"),
    }
}

fn lstm(node: &Node<'_>) -> Option<&'static str> {
    let given = |index: usize| node.inputs().get(index).is_some_and(|name| !name.is_empty());
    if given(4) {
        return Some("it ignores the lengths of sequences");
    }
    given(7).then_some("it ignores peepholes")
}

fn gru(node: &Node<'_>) -> Option<&'static str> {
    if node.int("linear_before_reset").unwrap_or(0) == 0 {
        return Some("it has GRUs with linear_before_reset only");
    }
    node.inputs().get(4).is_some_and(|name| !name.is_empty()).then_some("it ignores the lengths of sequences")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_sorted_and_unique() {
        assert!(OPERATORS.is_sorted_by(|a, b| a.op_type < b.op_type));
    }

    #[test]
    fn a_refusal_is_one_sentence_with_what_helps() {
        let Refusal(sentence) = refuse("LRN at \"norm\" does not run on rten: rten has no such operator");
        assert_eq!(
            sentence,
            "LRN at \"norm\" does not run on rten: rten has no such operator; use ONNX Runtime: `ane engine install` gets it"
        );
    }
}
