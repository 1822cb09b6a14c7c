//! The ONNX model that lowering gives.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use prost::Message;

use super::{
    Element, Weight,
    pb::{
        EXTERNAL, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
        TensorTypeProto, TypeProto, ValueInfoProto,
    },
};

/// The ONNX opset that we write, and the IR version that goes with it.
pub(crate) const OPSET: i64 = 20;
const IR_VERSION: i64 = 9;

/// Where external data is aligned, so that an engine can map it.
const ALIGNMENT: usize = 64;

/// An ONNX model: its graph, and its big weights by reference.
///
/// Weights up to 1 KiB are inside the graph, since engines fold and fuse with them.
#[derive(Clone, Debug)]
pub struct OnnxModel {
    pub(crate) graph: GraphProto,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) weights: Vec<Weight>,
    /// Dimensions that the Core ML model declares, by the names of values; `None` where open. They do not always hold.
    pub(crate) declared: HashMap<String, Vec<Option<usize>>>,
    /// The Core ML operation or layer that a node belongs to, by the node's name, where it has another name.
    pub(crate) origins: HashMap<String, String>,
    /// The value of the graph that has a value of the Core ML model, by the latter's name, where it has another name.
    pub(crate) values: HashMap<String, String>,
}

/// An input or output of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// Its element type.
    pub element: Element,
    /// Its dimensions; `None` where the size is known at run time only.
    pub dims: Vec<Option<usize>>,
}

/// Where an encoded model keeps its big weights.
#[derive(Clone, Copy, Debug)]
pub enum Storage<'a> {
    /// In the model itself. ONNX files cannot be larger than 2 GiB.
    Inside,
    /// In a file of this name beside the model, in the layout of [`OnnxModel::write_weights`].
    Beside(&'a str),
}

impl OnnxModel {
    /// The graph's inputs: the model's own, then one for each state.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The graph's outputs: the model's own, then one for each state.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The weights that are not inside the graph.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// Offset of each weight, in order, in a file of external data.
    pub fn weight_offsets(&self) -> Vec<usize> {
        let mut offset = 0usize;
        let mut offsets = Vec::with_capacity(self.weights.len());
        for weight in &self.weights {
            offset = offset.next_multiple_of(ALIGNMENT);
            offsets.push(offset);
            offset += weight.byte_len();
        }
        offsets
    }

    /// The size of a file of external data.
    pub fn weights_len(&self) -> usize {
        match (self.weight_offsets().last(), self.weights.last()) {
            (Some(offset), Some(weight)) => offset + weight.byte_len(),
            _ => 0,
        }
    }

    /// Writes the external data, one weight after the other, so that only one is widened at a time.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_weights(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let mut at = 0;
        for (weight, offset) in self.weights.iter().zip(self.weight_offsets()) {
            out.write_all(&[0; ALIGNMENT][..offset - at])?;
            let bytes = weight.bytes();
            out.write_all(&bytes)?;
            at = offset + bytes.len();
        }
        Ok(())
    }

    /// The model as the bytes of an ONNX file.
    pub fn encode(&self, storage: Storage<'_>) -> Vec<u8> {
        let mut graph = self.graph.clone();
        for (weight, offset) in self.weights.iter().zip(self.weight_offsets()) {
            let mut tensor = TensorProto {
                dims: weight.shape().iter().map(|&d| d as i64).collect(),
                data_type: weight.element().number(),
                name: weight.name().to_owned(),
                ..TensorProto::default()
            };
            match storage {
                Storage::Inside => tensor.raw_data = Some(weight.bytes()),
                Storage::Beside(location) => {
                    let entries = [
                        ("location", location.to_owned()),
                        ("offset", offset.to_string()),
                        ("length", weight.byte_len().to_string()),
                    ];
                    tensor.external_data =
                        entries.map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value }).into();
                    tensor.data_location = Some(EXTERNAL);
                }
            }
            graph.initializer.push(tensor);
        }
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: "ANE Manager".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            ..ModelProto::default()
        }
        .encode_to_vec()
    }

    /// The number of nodes by operator, nested graphs included.
    pub fn histogram(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        self.graph.histogram(&mut counts);
        counts
    }

    /// The name of the Core ML operation or layer that the node of this name belongs to.
    pub fn origin<'a>(&'a self, node: &'a str) -> &'a str {
        self.origins.get(node).map_or(node, String::as_str)
    }

    /// The value of the graph that has the result of this name in the Core ML model. What no output needs is in no graph.
    /// Where several layers of a network write a blob of one name, the last one's.
    pub fn value<'a>(&'a self, name: &'a str) -> &'a str {
        self.values.get(name).map_or(name, String::as_str)
    }

    /// Gives values in the middle of the graph as outputs too, after the others: of these names those that the outermost graph
    /// computes as fp32, in this order. What is an output already, or is in a nested graph, is left out.
    pub fn show<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
        let made: HashSet<&str> = self.graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let mut known: HashSet<&str> = self.outputs.iter().map(|port| port.name.as_str()).collect();
        let floats: HashSet<String> = (self.inferred_values(&[]).into_iter())
            .filter(|value| value.element == Element::F32)
            .map(|value| value.name)
            .collect();
        let wanted = names.into_iter().filter(|name| made.contains(name) && floats.contains(*name));
        let shown: Vec<&str> = wanted.filter(|name| known.insert(name)).collect();
        for name in &shown {
            let tensor_type = Some(TensorTypeProto { elem_type: Element::F32.number(), shape: None });
            let info = ValueInfoProto { name: (*name).to_owned(), r#type: Some(TypeProto { tensor_type }) };
            self.graph.output.push(info);
            self.outputs.push(Port { name: (*name).to_owned(), element: Element::F32, dims: Vec::new() });
        }
        shown
    }

    /// Every node, nested graphs included, for an engine to look at before it takes the model.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        let mut nodes = Vec::new();
        collect(&self.graph, &mut nodes);
        nodes
    }
}

fn collect<'a>(graph: &'a GraphProto, nodes: &mut Vec<Node<'a>>) {
    for node in &graph.node {
        nodes.push(Node { node });
        for inner in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
            collect(inner, nodes);
        }
    }
}

/// A look at one node.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    node: &'a NodeProto,
}

impl<'a> Node<'a> {
    /// The node's name, which begins with the name of the MIL operation or the layer that it comes from.
    pub fn name(&self) -> &'a str {
        &self.node.name
    }

    /// The operator.
    pub fn op_type(&self) -> &'a str {
        &self.node.op_type
    }

    /// Names of the inputs; empty where an optional one is left out.
    pub fn inputs(&self) -> &'a [String] {
        &self.node.input
    }

    /// Names of the outputs.
    pub fn outputs(&self) -> &'a [String] {
        &self.node.output
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.node.attribute.iter().find(|a| a.name == name)?.i
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.node.attribute.iter().find(|a| a.name == name)?.f
    }

    /// An attribute that is a list of integers; empty where there is none.
    pub fn ints(&self, name: &str) -> &'a [i64] {
        self.node.attribute.iter().find(|a| a.name == name).map_or(&[], |a| &a.ints)
    }

    /// A string attribute.
    pub fn string(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.node.attribute.iter().find(|a| a.name == name)?.s.as_deref()?).ok()
    }

    /// Whether the node has this attribute.
    pub fn has(&self, name: &str) -> bool {
        self.node.attribute.iter().any(|a| a.name == name)
    }
}

pub(crate) fn inline(name: &str, element: Element, shape: &[usize], bytes: Bytes) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: element.number(),
        name: name.to_owned(),
        raw_data: Some(bytes),
        ..TensorProto::default()
    }
}
