//! What a model adds up to: operations by kind, weights by type. Looks at no weight's bytes.

use std::collections::{BTreeMap, HashSet};

use crate::{
    Model, ModelKind, Tensor,
    classic::{Classic, Pipeline},
    mil::{Argument, Block, Op, Program, Value},
    nn::{NeuralNetwork, Weight},
};

/// Constants with fewer elements are parameters of an operation, such as strides, and no weights.
const FEWEST_ELEMENTS: usize = 10;

/// How much there is of one type of weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Tensors. One that several operations or functions share counts once.
    pub tensors: usize,
    /// Elements of all of them. Where a neural network packs them, padding may add a few.
    pub elements: usize,
    /// Bytes that they take in the file.
    pub bytes: usize,
}

/// The number of operations of each kind by function, nested blocks and constants included. A neural network counts
/// its layers as the function `main`; other models have none.
///
/// ```no_run
/// let model = coreml_format::Model::open("net.mlpackage")?;
/// for (function, kinds) in coreml_format::stats::operations(&model) {
///     println!("{function}: {} conv", kinds.get("conv").unwrap_or(&0));
/// }
/// # Ok::<(), coreml_format::ReadError>(())
/// ```
pub fn operations(model: &Model) -> BTreeMap<&str, BTreeMap<&str, usize>> {
    match &model.kind {
        ModelKind::Program(program) => {
            program.functions.iter().map(|(name, function)| (name.as_str(), kinds(&function.block))).collect()
        }
        ModelKind::NeuralNetwork(network) => {
            let mut kinds = BTreeMap::new();
            NeuralNetwork::visit(&network.layers, &mut |layer| *kinds.entry(layer.kind.name()).or_default() += 1);
            [("main", kinds)].into()
        }
        ModelKind::Classic(_) | ModelKind::Pipeline(_) | ModelKind::Compiled(_) | ModelKind::Other(_) => {
            BTreeMap::new()
        }
    }
}

/// How much there is of each type of weight, by its name: that of an element type (`fp16`), or of a neural network's
/// way to quantise (`8-bit linear`, `4-bit table`). Constants with fewer than 10 elements are no weights. Those of a
/// classic model are called `parameters`, and a pipeline has those of its stages together.
pub fn weights(model: &Model) -> BTreeMap<String, Amount> {
    match &model.kind {
        ModelKind::Program(program) => program_weights(program),
        ModelKind::NeuralNetwork(network) => network_weights(network),
        ModelKind::Classic(classic) => classic_weights(classic),
        ModelKind::Pipeline(pipeline) => each_stage(pipeline, weights, |amount, more| {
            amount.tensors += more.tensors;
            amount.elements += more.elements;
            amount.bytes += more.bytes;
        }),
        ModelKind::Compiled(_) | ModelKind::Other(_) => BTreeMap::new(),
    }
}

/// How often each way to compress weights is used, by name: the `constexpr_*` operations of a program, or a neural
/// network's ways to quantise.
pub fn compression(model: &Model) -> BTreeMap<String, usize> {
    match &model.kind {
        ModelKind::Program(program) => {
            let mut found = BTreeMap::new();
            each_op(program, &mut |op| {
                if op.kind.starts_with("constexpr_") {
                    *found.entry(op.kind.clone()).or_default() += 1;
                }
            });
            found
        }
        ModelKind::NeuralNetwork(_) => weights(model)
            .into_iter()
            .filter(|(name, _)| name.contains("-bit"))
            .map(|(name, amount)| (name, amount.tensors))
            .collect(),
        ModelKind::Pipeline(pipeline) => each_stage(pipeline, compression, |count, more| *count += more),
        ModelKind::Classic(_) | ModelKind::Compiled(_) | ModelKind::Other(_) => BTreeMap::new(),
    }
}

fn kinds(block: &Block) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    Program::visit(block, &mut |op| *kinds.entry(op.kind.as_str()).or_default() += 1);
    kinds
}

fn each_op<'a>(program: &'a Program, f: &mut impl FnMut(&'a Op)) {
    for function in program.functions.values() {
        Program::visit(&function.block, f);
    }
}

fn program_weights(program: &Program) -> BTreeMap<String, Amount> {
    let mut amounts = BTreeMap::new();
    // Tensors that share their place in a file share their address in its map.
    let mut seen = HashSet::new();
    let mut add = |tensor: &Tensor| {
        let bytes = tensor.bytes();
        if tensor.count() >= FEWEST_ELEMENTS && !bytes.is_empty() && seen.insert((bytes.as_ptr(), bytes.len())) {
            add_to(&mut amounts, tensor.dtype().name().to_owned(), tensor.count(), bytes.len());
        }
    };
    each_op(program, &mut |op| {
        let arguments = op.inputs.values().flatten().filter_map(|argument| match argument {
            Argument::Value(value) => Some(value),
            Argument::Name(_) => None,
        });
        op.attributes.values().chain(arguments).filter_map(Value::as_tensor).for_each(&mut add);
    });
    amounts
}

fn network_weights(network: &NeuralNetwork) -> BTreeMap<String, Amount> {
    let mut amounts = BTreeMap::new();
    let mut all = Vec::new();
    NeuralNetwork::visit(&network.layers, &mut |layer| all.extend(layer.kind.weights()));
    for weight in all {
        let (name, elements, bytes) = match weight {
            Weight::Float(tensor) => (tensor.dtype().name().to_owned(), tensor.count(), tensor.bytes().len()),
            Weight::Linear { packed, bits, .. } => {
                (format!("{bits}-bit linear"), unpacked(packed, *bits), packed.len())
            }
            Weight::Table { packed, bits, .. } => (format!("{bits}-bit table"), unpacked(packed, *bits), packed.len()),
        };
        if elements >= FEWEST_ELEMENTS {
            add_to(&mut amounts, name, elements, bytes);
        }
    }
    amounts
}

/// One tensor for all that a classic model has learnt.
fn classic_weights(classic: &Classic) -> BTreeMap<String, Amount> {
    match classic.parameters() {
        (0, _) => BTreeMap::new(),
        (elements, bytes) => [("parameters".to_owned(), Amount { tensors: 1, elements, bytes })].into(),
    }
}

/// What each stage has, added up by name.
fn each_stage<T: Default>(
    pipeline: &Pipeline,
    of: impl Fn(&Model) -> BTreeMap<String, T>,
    add: impl Fn(&mut T, T),
) -> BTreeMap<String, T> {
    let mut all = BTreeMap::new();
    for (name, more) in pipeline.stages.iter().flat_map(|stage| of(&stage.model)) {
        add(all.entry(name).or_default(), more);
    }
    all
}

fn unpacked(packed: &[u8], bits: u32) -> usize {
    packed.len() * 8 / bits as usize
}

fn add_to(amounts: &mut BTreeMap<String, Amount>, name: String, elements: usize, bytes: usize) {
    let amount = amounts.entry(name).or_default();
    amount.tensors += 1;
    amount.elements += elements;
    amount.bytes += bytes;
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::Bytes;

    use super::*;
    use crate::{
        DType,
        mil::{Function, Opset},
        nn::{ArrayMapping, ImageMapping, Layer, LayerKind},
        schema::Schema,
    };

    fn model(kind: ModelKind) -> Model {
        Model { path: PathBuf::new(), spec_version: 7, schema: Schema::default(), kind }
    }

    fn op(kind: &str, value: Option<Tensor>) -> Op {
        Op {
            kind: kind.to_owned(),
            name: String::new(),
            inputs: BTreeMap::new(),
            outputs: Vec::new(),
            blocks: Vec::new(),
            attributes: value.map(|tensor| ("val".to_owned(), Value::Tensor(tensor))).into_iter().collect(),
        }
    }

    #[test]
    fn programs() {
        let shared = Bytes::from(vec![0; 64]);
        let half = |bytes: &Bytes| Tensor::new(DType::Float16, vec![bytes.len() / 2], bytes.clone()).unwrap();
        let ops = vec![
            op("const", Some(half(&shared))),
            op("const", Some(half(&shared))),
            op("const", Some(half(&shared.slice(..8)))),
            op("constexpr_lut_to_dense", Some(Tensor::new(DType::UInt4, vec![128], shared.slice(..64)).unwrap())),
            Op { blocks: vec![Block { ops: vec![op("relu", None)], ..Block::default() }], ..op("cond", None) },
        ];
        let function = Function { inputs: vec![], opset: Opset::IOS18, block: Block { ops, ..Block::default() } };
        let model = model(ModelKind::Program(Program { functions: [("main".to_owned(), function)].into() }));

        let counted = operations(&model);
        let expected = [("cond", 1), ("const", 3), ("constexpr_lut_to_dense", 1), ("relu", 1)];
        assert_eq!(counted["main"], expected.into());
        assert_eq!(weights(&model), [("fp16".to_owned(), Amount { tensors: 1, elements: 32, bytes: 64 })].into());
        assert_eq!(compression(&model), [("constexpr_lut_to_dense".to_owned(), 1)].into());
    }

    #[test]
    fn networks() {
        let weights_of = |bits| Weight::Table { packed: vec![0; 6].into(), bits, table: vec![] };
        let layer = |bits| Layer {
            name: String::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            kind: LayerKind::LoadConstantNd { shape: vec![12], data: weights_of(bits) },
        };
        let network = NeuralNetwork {
            layers: vec![layer(4), layer(3)],
            preprocessing: BTreeMap::new(),
            array_mapping: ArrayMapping::Exact,
            image_mapping: ImageMapping::Rank4,
            classifier: None,
            regressor: false,
        };
        let model = model(ModelKind::NeuralNetwork(network));
        assert_eq!(operations(&model)["main"], [("loadConstantND", 2)].into());
        assert_eq!(weights(&model)["4-bit table"], Amount { tensors: 1, elements: 12, bytes: 6 });
        assert_eq!(compression(&model), [("3-bit table".to_owned(), 1), ("4-bit table".to_owned(), 1)].into());
    }
}
