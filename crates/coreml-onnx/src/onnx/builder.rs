//! Makes an ONNX graph node by node.
//!
//! Only this module touches `NodeProto`. Lowerings write through the verbs of `verbs.rs`, which stand on
//! [`OnnxBuilder::node`].

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use coreml_format::mil::Dim;

use super::{
    Element, Identity, OnnxModel, Port, Source, Weight,
    model::inline,
    pb::{
        AttributeProto, DimensionProto, DimensionValue, GraphProto, NodeProto, TensorShapeProto, TensorTypeProto,
        TypeProto, ValueInfoProto, attribute_type,
    },
};

/// Constants up to this size go into the graph: engines fold shapes and fuse biases with what they find there.
const INLINE_BYTES: usize = 1024;

/// A value of the graph that is being built, or a constant that is written when a node first reads it.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    name: Rc<str>,
    element: Element,
    dims: Option<Vec<Dim>>,
    /// Whether every element is a number that fp16 has.
    half: bool,
    constant: Option<Arc<Source>>,
}

impl Value {
    pub(crate) fn element(&self) -> Element {
        self.element
    }

    /// Dimensions as the model declares them; `None` for a value in the middle of a lowering.
    pub(crate) fn dims(&self) -> Option<&[Dim]> {
        self.dims.as_deref()
    }

    /// The shape, where every dimension is known.
    pub(crate) fn shape(&self) -> Option<Vec<usize>> {
        self.dims()?.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None }).collect()
    }

    pub(crate) fn constant(&self) -> Option<&Arc<Source>> {
        self.constant.as_ref()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the model declares this value as fp16, so that rounding it there changes nothing.
    pub(crate) fn is_half(&self) -> bool {
        self.half
    }

    /// The same value, declared as fp16 or as something wider.
    pub(crate) fn with_half(mut self, half: bool) -> Value {
        self.half = half;
        self
    }

    /// The same value with these dimensions.
    pub(crate) fn with_dims(mut self, dims: Option<Vec<Dim>>) -> Value {
        self.dims = dims;
        self
    }
}

/// Builds a graph, with nested graphs on a stack.
pub(crate) struct OnnxBuilder {
    graphs: Vec<Vec<NodeProto>>,
    inputs: Vec<Port>,
    initializers: Vec<super::pb::TensorProto>,
    weights: Vec<Weight>,
    /// Names of values and of nodes, each with the depth of its graph. A value of a nested graph has no name of a node
    /// around it: rten would take the one for the other.
    names: HashMap<Rc<str>, usize>,
    node_names: HashMap<String, usize>,
    /// Constants that are in the graph, by the names of their values: the names that they have there.
    written: HashMap<Rc<str>, Rc<str>>,
    /// Big weights by what they are made of, since models use one blob in several places.
    shared: HashMap<(Element, Identity), Rc<str>>,
    /// What undoes a change of rank, by the value that it gave: the operator, its axes and the value from before.
    undo: HashMap<Rc<str>, (&'static str, Vec<i64>, Value)>,
    /// What `undo` got from the operation that is being lowered.
    undo_of_op: Vec<Rc<str>>,
    /// The dimensions that the model declares for a value, by its name, as far as a node reads it.
    declared: HashMap<Rc<str>, Vec<Option<usize>>>,
    /// Values that became outputs, by their inner names.
    moved: HashMap<Rc<str>, String>,
    made: HashMap<(Element, Vec<usize>, Bytes), Value>,
    /// The operations that nodes of other names belong to.
    origins: HashMap<String, String>,
    /// Values by the model's names, where the graph has others.
    values: HashMap<String, Rc<str>>,
    /// Whether the engine lacks an fp16 type.
    without_fp16: bool,
    /// Name of the operation that is being lowered and index of its first node in the innermost graph.
    op: (String, usize),
}

/// A node on its way into the graph.
pub(crate) struct NodeBuilder<'a> {
    onnx: &'a mut OnnxBuilder,
    node: NodeProto,
}

impl OnnxBuilder {
    pub(crate) fn new(without_fp16: bool) -> OnnxBuilder {
        OnnxBuilder {
            without_fp16,
            graphs: vec![Vec::new()],
            inputs: Vec::new(),
            initializers: Vec::new(),
            weights: Vec::new(),
            names: HashMap::new(),
            origins: HashMap::new(),
            values: HashMap::new(),
            node_names: HashMap::new(),
            written: HashMap::new(),
            shared: HashMap::new(),
            undo: HashMap::new(),
            undo_of_op: Vec::new(),
            declared: HashMap::new(),
            moved: HashMap::new(),
            made: HashMap::new(),
            op: (String::new(), 0),
        }
    }

    /// Declares a graph input. Its name is kept, so inputs come first.
    pub(crate) fn input(&mut self, name: &str, element: Element, dims: Vec<Dim>) -> Value {
        let name = self.fresh(name);
        self.inputs.push(Port { name: name.to_string(), element, dims: dims.iter().map(fixed).collect() });
        Value { name, element, dims: Some(dims), half: false, constant: None }
    }

    /// A constant by reference. Nothing is written until a node reads it.
    pub(crate) fn weight(&mut self, name: &str, element: Element, source: Arc<Source>) -> Value {
        let dims = source.shape().into_iter().map(Dim::Fixed).collect();
        // Constants are in the outermost graph, whoever reads them.
        Value { name: self.fresh_at(1, name), element, dims: Some(dims), half: false, constant: Some(source) }
    }

    /// A small constant of our own making; equal ones are shared.
    pub(crate) fn made(&mut self, element: Element, source: Source) -> Value {
        let bytes = Weight::new(String::new(), element, Arc::new(source.clone())).bytes();
        let key = (element, source.shape(), bytes);
        if let Some(value) = self.made.get(&key) {
            return value.clone();
        }
        let value = self.weight("const", element, Arc::new(source));
        self.made.insert(key, value.clone());
        value
    }

    /// Starts the lowering of an operation; nodes up to [`OnnxBuilder::end`] belong to it.
    pub(crate) fn begin(&mut self, name: &str) {
        self.op = (name.to_owned(), self.nodes().len());
    }

    /// Ends an operation: names its nodes after it and its results as the model does. A result that no node of the
    /// operation makes (it passed an operand through) keeps its name.
    pub(crate) fn end(&mut self, results: Vec<Value>, names: &[&str]) -> Vec<Value> {
        let (op, first) = std::mem::take(&mut self.op);
        let last = self.nodes().len();
        for i in first..last {
            let name = if i + 1 == last { op.clone() } else { format!("{op}/{}", self.nodes()[i].op_type) };
            let name = self.fresh_node(self.graphs.len(), name);
            if name != op {
                self.origins.insert(name.clone(), op.clone());
            }
            self.nodes()[i].name = name;
        }
        // Results get their names now, so what was made here is no longer known by the name that stands in `undo`.
        for name in std::mem::take(&mut self.undo_of_op) {
            let stale = |before: &Value| self.made_since(first, before);
            if self.undo.get(&name).is_some_and(|(_, _, before)| stale(before)) {
                self.undo.remove(&name);
            }
        }
        let results: Vec<Value> =
            results.into_iter().zip(names).map(|(value, name)| self.rename(value, name, first)).collect();
        for (value, name) in results.iter().zip(names).filter(|(value, name)| *value.name != ***name) {
            self.values.insert((*name).to_owned(), value.name.clone());
        }
        results
    }

    /// Whether a node from `first` on makes a value.
    fn made_since(&self, first: usize, value: &Value) -> bool {
        let nodes = self.graphs.last().expect("the outermost graph is always there");
        nodes[first..].iter().any(|n| n.output.iter().any(|o| **o == *value.name))
    }

    fn rename(&mut self, value: Value, name: &str, first: usize) -> Value {
        if !self.made_since(first, &value) || *value.name == *name {
            return value;
        }
        let new = self.fresh(name);
        for node in &mut self.nodes()[first..] {
            for place in node.input.iter_mut().chain(&mut node.output).filter(|place| ***place == *value.name) {
                *place = new.to_string();
            }
        }
        if let Some(undo) = self.undo.remove(&value.name) {
            self.undo.insert(new.clone(), undo);
        }
        Value { name: new, ..value }
    }

    /// Adds or removes axes of size 1 with `op_type`, or gives the value from before where that undoes what made `x`:
    /// operations hand over states with and without their axis of directions, and engines keep such pairs.
    pub(super) fn change_rank(
        &mut self,
        op_type: &'static str,
        opposite: &'static str,
        x: &Value,
        axes: &[i64],
    ) -> Value {
        if let Some((undoing, same, before)) = self.undo.get(&x.name)
            && *undoing == op_type
            && same == axes
        {
            return before.clone();
        }
        let list = self.ints(axes);
        let changed = self.node(op_type).arg(x).arg(&list).out(x.element);
        self.undo.insert(changed.name.clone(), (opposite, axes.to_vec(), x.clone()));
        self.undo_of_op.push(changed.name.clone());
        changed
    }

    /// Starts a nested graph. Its nodes see every value of the graphs around it.
    pub(crate) fn open_graph(&mut self) {
        self.graphs.push(Vec::new());
    }

    /// Ends a nested graph.
    pub(crate) fn close_graph(&mut self, name: &str, inputs: &[Value], outputs: &[Value]) -> GraphProto {
        let outputs = outputs.iter().map(|value| self.own(value)).collect::<Vec<_>>();
        let mut nodes = self.graphs.pop().expect("opened before");
        // Nodes of operations inside have their names already.
        for node in nodes.iter_mut().filter(|node| node.name.is_empty()) {
            node.name = self.fresh_node(self.graphs.len() + 1, format!("{}/{}", self.op.0, node.op_type));
        }
        GraphProto {
            node: nodes,
            name: name.to_owned(),
            initializer: Vec::new(),
            input: inputs.iter().map(|v| value_info(&v.name, v.element, v.dims())).collect(),
            // Shapes of results are left to inference: in a loop they may change.
            output: outputs.iter().map(|v| value_info(&v.name, v.element, None)).collect(),
        }
    }

    /// An input of a nested graph.
    pub(crate) fn graph_input(&mut self, name: &str, element: Element, dims: Option<Vec<Dim>>) -> Value {
        Value { name: self.fresh(name), element, dims, half: false, constant: None }
    }

    /// A value that a node of the innermost graph makes, as graph outputs must be; a copy where it is not.
    fn own(&mut self, value: &Value) -> Value {
        let made_here = self.nodes().iter().any(|n| n.output.iter().any(|o| **o == *value.name));
        if made_here { value.clone() } else { self.node("Identity").arg(value).out(value.element) }
    }

    /// Keeps names free for the graph's outputs; [`OnnxBuilder::finish`] gives them.
    pub(crate) fn reserve<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        self.names.extend(names.into_iter().map(|name| (Rc::from(name), 1)));
    }

    /// Ends the graph. Each output gets a port of its reserved name.
    pub(crate) fn finish(mut self, graph: &str, outputs: Vec<(String, Value)>) -> OnnxModel {
        let mut ports: Vec<Port> = Vec::with_capacity(outputs.len());
        let mut infos = Vec::with_capacity(outputs.len());
        for (name, value) in outputs {
            // A value that is an output already, an input or a constant goes out as a copy.
            let made = self.graphs[0].iter().any(|n| n.output.iter().any(|o| **o == *value.name));
            if made {
                rename_all(&mut self.graphs[0], &value.name, &name);
                self.moved.insert(value.name.clone(), name.clone());
            } else {
                let source = self.moved.get(&value.name).map_or(value.name.clone(), |name| name.as_str().into());
                let source = Value { name: source, ..value.clone() };
                self.node("Identity").arg(&source).out_named(value.element, name.as_str().into());
            }
            infos.push(value_info(&name, value.element, value.dims()));
            let dims: Vec<Option<usize>> = value.dims().unwrap_or_default().iter().map(fixed).collect();
            if value.dims.is_some() {
                self.declared.insert(name.as_str().into(), dims.clone());
            }
            ports.push(Port { name, element: value.element, dims });
        }
        self.remove_dead(&ports);
        let info = |port: &Port| {
            let dims: Vec<Dim> = port.dims.iter().map(|d| d.map_or(Dim::Unknown, Dim::Fixed)).collect();
            value_info(&port.name, port.element, Some(&dims))
        };
        let graph = GraphProto {
            node: self.graphs.pop().expect("the outermost graph"),
            name: graph.to_owned(),
            initializer: self.initializers,
            input: self.inputs.iter().map(info).collect(),
            output: infos,
        };
        let declared = self.declared.into_iter().map(|(name, dims)| (name.to_string(), dims)).collect();
        // An output has its own name at last, whoever knew the value by another.
        let moved = &self.moved;
        let last = |name: &Rc<str>| moved.get(name).cloned().unwrap_or_else(|| name.to_string());
        let mut values: HashMap<String, String> =
            self.values.iter().map(|(name, value)| (name.clone(), last(value))).collect();
        for (name, port) in moved {
            values.entry(name.to_string()).or_insert_with(|| port.clone());
        }
        OnnxModel {
            graph,
            inputs: self.inputs,
            outputs: ports,
            weights: self.weights,
            declared,
            origins: self.origins,
            values,
        }
    }

    pub(super) fn without_fp16(&self) -> bool {
        self.without_fp16
    }

    /// Whether the engine is one with few operators. The one that lacks fp16 is.
    pub(crate) fn is_plain(&self) -> bool {
        self.without_fp16
    }

    /// Removes nodes that no output needs, and constants that only such nodes read.
    fn remove_dead(&mut self, outputs: &[Port]) {
        let mut needed: HashSet<String> = outputs.iter().map(|port| port.name.clone()).collect();
        let mut kept: Vec<NodeProto> = Vec::with_capacity(self.graphs[0].len());
        while let Some(node) = self.graphs[0].pop() {
            if node.output.iter().any(|output| needed.contains(output)) {
                reads(&node, &mut needed);
                kept.push(node);
            }
        }
        kept.reverse();
        self.graphs[0] = kept;
        self.initializers.retain(|initializer| needed.contains(&initializer.name));
        self.weights.retain(|weight| needed.contains(weight.name()));
    }

    /// Starts a node. Attributes, operands and results follow; see [`NodeBuilder`].
    pub(super) fn node(&mut self, op_type: &str) -> NodeBuilder<'_> {
        NodeBuilder { node: NodeProto { op_type: op_type.to_owned(), ..NodeProto::default() }, onnx: self }
    }

    /// A name that no value has yet, in the innermost graph: `stem`, or `stem` with a number.
    fn fresh(&mut self, stem: &str) -> Rc<str> {
        self.fresh_at(self.graphs.len(), stem)
    }

    fn fresh_at(&mut self, depth: usize, stem: &str) -> Rc<str> {
        let stem = if stem.is_empty() { "value" } else { stem };
        let mut name: Rc<str> = stem.into();
        let mut n = self.names.len();
        let around = |name: &str| self.node_names.get(name).is_some_and(|&node| node < depth);
        while self.names.contains_key(&name) || around(&name) {
            name = format!("{stem}.{n}").into();
            n += 1;
        }
        self.names.insert(name.clone(), depth);
        name
    }

    fn fresh_node(&mut self, depth: usize, name: String) -> String {
        let mut n = self.node_names.len();
        let mut unique = name.clone();
        let inside = |name: &str| self.names.get(name).is_some_and(|&value| value > depth);
        while self.node_names.contains_key(&unique) || inside(&unique) {
            unique = format!("{name}.{n}");
            n += 1;
        }
        self.node_names.insert(unique.clone(), depth);
        unique
    }

    fn nodes(&mut self) -> &mut Vec<NodeProto> {
        self.graphs.last_mut().expect("the outermost graph is always there")
    }

    /// The name by which a node reads a value. A constant is written when it is first read.
    fn read(&mut self, value: &Value) -> Rc<str> {
        let Some(source) = value.constant.clone() else {
            if let Some(dims) = &value.dims {
                self.declared.entry(value.name.clone()).or_insert_with(|| dims.iter().map(fixed).collect());
            }
            return value.name.clone();
        };
        if let Some(name) = self.written.get(&value.name) {
            return name.clone();
        }
        let name = self.write(value, source);
        self.written.insert(value.name.clone(), name.clone());
        name
    }

    fn write(&mut self, value: &Value, source: Arc<Source>) -> Rc<str> {
        let identity = source.identity();
        let weight = Weight::new(value.name.to_string(), value.element, source);
        if weight.byte_len() <= INLINE_BYTES {
            self.initializers.push(inline(&value.name, value.element, &weight.shape(), weight.bytes()));
            return value.name.clone();
        }
        if let Some(identity) = identity {
            match self.shared.entry((value.element, identity)) {
                Entry::Occupied(there) => return there.get().clone(),
                Entry::Vacant(place) => place.insert(value.name.clone()),
            };
        }
        self.weights.push(weight);
        value.name.clone()
    }
}

impl NodeBuilder<'_> {
    pub(super) fn arg(mut self, value: &Value) -> Self {
        let name = self.onnx.read(value);
        self.node.input.push(name.to_string());
        self
    }

    pub(super) fn args<'v>(self, values: impl IntoIterator<Item = &'v Value>) -> Self {
        values.into_iter().fold(self, |node, value| node.arg(value))
    }

    /// An optional operand; left out as an empty name.
    pub(super) fn maybe(mut self, value: Option<&Value>) -> Self {
        match value {
            Some(value) => self.arg(value),
            None => {
                self.node.input.push(String::new());
                self
            }
        }
    }

    fn attribute(mut self, name: &str, r#type: i32, set: impl FnOnce(&mut AttributeProto)) -> Self {
        let mut attribute = AttributeProto { name: name.to_owned(), r#type, ..AttributeProto::default() };
        set(&mut attribute);
        self.node.attribute.push(attribute);
        self
    }

    pub(super) fn int(self, name: &str, value: i64) -> Self {
        self.attribute(name, attribute_type::INT, |a| a.i = Some(value))
    }

    pub(super) fn float(self, name: &str, value: f32) -> Self {
        self.attribute(name, attribute_type::FLOAT, |a| a.f = Some(value))
    }

    pub(super) fn string(self, name: &str, value: &str) -> Self {
        self.attribute(name, attribute_type::STRING, |a| a.s = Some(value.as_bytes().to_vec()))
    }

    pub(super) fn ints(self, name: &str, values: &[i64]) -> Self {
        self.attribute(name, attribute_type::INTS, |a| a.ints = values.to_vec())
    }

    pub(super) fn floats(self, name: &str, values: &[f32]) -> Self {
        self.attribute(name, attribute_type::FLOATS, |a| a.floats = values.to_vec())
    }

    pub(super) fn strings(self, name: &str, values: &[&str]) -> Self {
        self.attribute(name, attribute_type::STRINGS, |a| {
            a.strings = values.iter().map(|v| v.as_bytes().to_vec()).collect();
        })
    }

    pub(super) fn tensor(self, name: &str, element: Element, shape: &[usize], bytes: Bytes) -> Self {
        self.attribute(name, attribute_type::TENSOR, |a| a.t = Some(inline("", element, shape, bytes)))
    }

    pub(super) fn graph(self, name: &str, graph: GraphProto) -> Self {
        self.attribute(name, attribute_type::GRAPH, |a| a.g = Some(graph))
    }

    /// Adds the node, which has one result.
    pub(super) fn out(self, element: Element) -> Value {
        self.outs(&[element]).pop().expect("one element gives one result")
    }

    /// Adds the node, with one result for each element type.
    pub(super) fn outs(self, elements: &[Element]) -> Vec<Value> {
        let stem = format!("{}/{}", self.onnx.op.0, self.node.op_type);
        let named = elements.iter().map(|&element| (element, self.onnx.fresh(&stem))).collect::<Vec<_>>();
        self.emit(named)
    }

    fn out_named(self, element: Element, name: Rc<str>) -> Value {
        self.emit(vec![(element, name)]).pop().expect("one name gives one result")
    }

    fn emit(mut self, named: Vec<(Element, Rc<str>)>) -> Vec<Value> {
        self.node.output = named.iter().map(|(_, name)| name.to_string()).collect();
        if self.onnx.op.0.is_empty() {
            self.node.name = self.onnx.fresh_node(self.onnx.graphs.len(), self.node.output[0].clone());
        }
        self.onnx.nodes().push(self.node);
        named
            .into_iter()
            .map(|(element, name)| Value { name, element, dims: None, half: false, constant: None })
            .collect()
    }
}

/// Everything that a node reads, nested graphs included.
fn reads(node: &NodeProto, names: &mut HashSet<String>) {
    names.extend(node.input.iter().cloned());
    for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        names.extend(graph.output.iter().map(|output| output.name.clone()));
        graph.node.iter().for_each(|inner| reads(inner, names));
    }
}

fn rename_all(nodes: &mut [NodeProto], from: &str, to: &str) {
    for node in nodes {
        for place in node.input.iter_mut().chain(&mut node.output).filter(|place| *place == from) {
            *place = to.to_owned();
        }
        for graph in node.attribute.iter_mut().filter_map(|a| a.g.as_mut()) {
            rename_all(&mut graph.node, from, to);
        }
    }
}

fn fixed(dim: &Dim) -> Option<usize> {
    if let Dim::Fixed(n) = dim { Some(*n) } else { None }
}

fn value_info(name: &str, element: Element, dims: Option<&[Dim]>) -> ValueInfoProto {
    let shape = dims.map(|dims| TensorShapeProto {
        dim: dims
            .iter()
            .enumerate()
            .map(|(axis, dim)| DimensionProto {
                value: Some(match dim {
                    Dim::Fixed(n) => DimensionValue::Value(*n as i64),
                    Dim::Unknown => DimensionValue::Param(format!("{name}_{axis}")),
                }),
            })
            .collect(),
    });
    let tensor_type = Some(TensorTypeProto { elem_type: element.number(), shape });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}
