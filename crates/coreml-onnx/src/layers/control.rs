//! Walks layers in their order: branches, loops and what leaves them.
//!
//! Layers of a branch or a loop write blobs that layers behind it read, so what is carried out of a nested graph is what
//! it writes and somebody needs. A loop that is left or cut short from within says so in a blob of its own; what follows
//! in its body runs only while that is 0.

use std::collections::HashSet;

use coreml_format::{
    mil::Dim,
    nn::{self, Layer, LayerKind, NeuralNetwork},
};

use super::{
    blob::{Blob, Blobs, show},
    reader::LayerReader,
};
use crate::{
    LowerError, LowerOptions, error,
    lower::Fault,
    onnx::{Element, OnnxBuilder, Value, pb::GraphProto},
};

/// Names of blobs that say whether the loop is to end, and whether its iteration is; no file has a name with a NUL.
const BREAK: &str = "\0break";
const CONTINUE: &str = "\0continue";

/// Conditions are true from this size on (`NeuralNetwork.proto`).
const TRUE_ABOVE: f32 = 1e-6;

/// Layers that may be lowered, those of a loop as often as its shapes are looked for: loops in loops in a damaged file
/// must not take forever.
const MOST_LAYERS: usize = 1 << 20;

type Names<'a> = HashSet<&'a str>;

/// What stands in the way of a network.
type Walk = Result<(), LowerError>;

/// A loop's body: its graph, what its variables start with, and their dimensions after any number of iterations.
type Repeated = (GraphProto, Vec<Value>, Vec<Vec<Dim>>);

/// The state of the walk.
pub(super) struct Walker<'a, 'o> {
    pub(super) onnx: OnnxBuilder,
    pub(super) blobs: Blobs<'a>,
    options: &'o LowerOptions,
    lowered: usize,
}

impl<'a, 'o> Walker<'a, 'o> {
    pub(super) fn new(onnx: OnnxBuilder, blobs: Blobs<'a>, options: &'o LowerOptions) -> Walker<'a, 'o> {
        Walker { onnx, blobs, options, lowered: 0 }
    }

    /// Lowers these layers, of whose blobs `live` are read behind them.
    pub(super) fn layers(&mut self, layers: &'a [Layer], live: &Names<'a>) -> Walk {
        for (i, layer) in layers.iter().enumerate() {
            self.lowered += 1;
            if self.lowered > MOST_LAYERS {
                return Err(LowerError::Model("its loops are too deep in each other".to_owned()));
            }
            let rest = &layers[i + 1..];
            match &layer.kind {
                LayerKind::Branch { if_branch, else_branch } => {
                    let live = needed(rest, live);
                    let condition = self.condition(layer)?;
                    self.choose(layer, &condition, [if_branch, else_branch], &live)?;
                    if leaves(if_branch) || leaves(else_branch) {
                        return self.unless_left(layer, rest, &live);
                    }
                }
                LayerKind::Loop(params) => self.repeat(layer, params, &needed(rest, live))?,
                LayerKind::LoopBreak => return self.leave(layer, BREAK),
                LayerKind::LoopContinue => return self.leave(layer, CONTINUE),
                _ => self.layer(layer).map_err(|fault| at(layer, fault))?,
            }
        }
        Ok(())
    }

    fn layer(&mut self, layer: &'a Layer) -> Result<(), Fault> {
        self.onnx.begin(&layer.name);
        let results = super::run(&LayerReader::new(layer, &self.blobs)?, &mut self.onnx)?;
        if results.len() < layer.outputs.len() {
            return Err(format!("it has {} outputs, and gives {}", layer.outputs.len(), results.len()).into());
        }
        if layer.outputs.is_empty() {
            return Err("it has no output".into());
        }
        let mut checked = Vec::with_capacity(layer.outputs.len());
        for blob in results.into_iter().take(layer.outputs.len()) {
            let blob = blob.checked()?;
            let rounded = self.options.round_to_fp16.then(|| self.onnx.round_half(blob.value()));
            checked.push(rounded.map_or(blob.clone(), |value| blob.same(value)));
        }
        let names: Vec<&str> = layer.outputs.iter().map(String::as_str).collect();
        let values = checked.iter().map(|blob| blob.value().clone()).collect();
        let values = self.onnx.end(values, &names);
        for ((name, blob), value) in names.into_iter().zip(checked).zip(values) {
            self.blobs.insert(name, blob.same(value));
        }
        Ok(())
    }

    /// The only input of a layer as a boolean scalar.
    fn condition(&mut self, layer: &'a Layer) -> Result<Value, LowerError> {
        let input = LayerReader::new(layer, &self.blobs).and_then(|reader| reader.input().cloned());
        let blob = input.map_err(|fault| at(layer, fault))?;
        self.onnx.begin(&layer.name);
        let truth = truth(&blob, &mut self.onnx).map_err(|fault| at(layer, fault))?;
        Ok(self.end_one(layer, truth, "condition"))
    }

    /// Ends what was made for a layer and gives its result a name.
    fn end_one(&mut self, layer: &Layer, value: Value, role: &str) -> Value {
        self.onnx.end(vec![value], &[&format!("{}.{role}", layer.name)]).pop().expect("one result was given")
    }

    /// Runs the first layers where the condition holds, otherwise the second.
    fn choose(&mut self, layer: &'a Layer, condition: &Value, both: [&'a [Layer]; 2], live: &Names<'a>) -> Walk {
        let before = self.blobs.clone();
        let [then, otherwise] = both.map(writes);
        let kept = |name: &&str| {
            (live.contains(name) || [BREAK, CONTINUE].contains(name))
                && (before.contains_key(name) || (then.contains(name) && otherwise.contains(name)))
        };
        let mut names: Vec<&'a str> = then.union(&otherwise).copied().filter(kept).collect();
        names.sort_unstable();
        let (mut graphs, mut dims) = (Vec::new(), Vec::new());
        for (layers, side) in both.into_iter().zip(["then", "else"]) {
            self.blobs.clone_from(&before);
            self.onnx.open_graph();
            self.layers(layers, live)?;
            self.onnx.begin(&layer.name);
            let results = self.unfolded(layer, &names)?;
            let values: Vec<Value> = results.iter().map(|blob| blob.value().clone()).collect();
            graphs.push(self.onnx.close_graph(&format!("{}/{side}", layer.name), &[], &values));
            let found: Vec<Vec<Dim>> = results.iter().map(|blob| blob.dims().to_vec()).collect();
            dims = if dims.is_empty() { found } else { joined(layer, &names, &dims, &found)? };
        }
        self.blobs = before;
        if names.is_empty() {
            return Ok(());
        }
        let (otherwise, then) = (graphs.pop().expect("two graphs"), graphs.pop().expect("two graphs"));
        self.onnx.begin(&layer.name);
        let results = self.onnx.if_(condition, then, otherwise, &vec![Element::F32; names.len()]);
        self.define(names, results, dims);
        Ok(())
    }

    /// These blobs with all their dimensions in their values.
    fn unfolded(&mut self, layer: &Layer, names: &[&str]) -> Result<Vec<Blob>, LowerError> {
        let one = |name: &&str| match self.blobs.get(*name) {
            Some(blob) => Ok(blob.clone().unfolded(&mut self.onnx)),
            None => Err(at(layer, Fault(format!("not every way through it writes {name:?}")))),
        };
        names.iter().map(one).collect()
    }

    fn define(&mut self, names: Vec<&'a str>, results: Vec<Value>, dims: Vec<Vec<Dim>>) {
        let results = self.onnx.end(results, &names);
        for ((name, value), dims) in names.into_iter().zip(results).zip(dims) {
            self.blobs.insert(name, Blob::exact(value, dims));
        }
    }

    /// Marks that the loop, or its iteration, ends here. What follows never runs.
    fn leave(&mut self, layer: &'a Layer, flag: &'static str) -> Walk {
        if !self.blobs.contains_key(flag) {
            return Err(at(layer, "it is in no loop".into()));
        }
        let yes = self.flag(1.0);
        self.blobs.insert(flag, yes);
        Ok(())
    }

    fn flag(&mut self, value: f32) -> Blob {
        Blob::exact(self.onnx.floats(&[1], vec![value]), vec![Dim::Fixed(1)])
    }

    /// Runs the rest of a loop's body unless a branch has left it.
    fn unless_left(&mut self, layer: &'a Layer, rest: &'a [Layer], live: &Names<'a>) -> Walk {
        if rest.is_empty() {
            return Ok(());
        }
        self.onnx.begin(&layer.name);
        let [broke, continued] = [BREAK, CONTINUE].map(|name| self.blobs[name].value().clone());
        let either = self.onnx.binary("Max", &broke, &continued);
        let left = truth(&Blob::exact(either, vec![Dim::Fixed(1)]), &mut self.onnx).map_err(|f| at(layer, f))?;
        let left = self.end_one(layer, left, "left");
        self.choose(layer, &left, [&[], rest], live)
    }

    fn repeat(&mut self, layer: &'a Layer, params: &'a nn::Loop, live: &Names<'a>) -> Walk {
        let count = self.count(layer, params)?;
        if count.is_none() && params.condition.is_none() {
            return Ok(());
        }
        let flags = [BREAK, CONTINUE].map(|name| (name, self.blobs.remove(name)));
        let condition_layers = params.condition.as_ref().map_or(&[][..], |(layers, _)| layers);
        let mut needed = needed(&params.body, &needed(condition_layers, live));
        needed.extend(params.condition.as_ref().map(|(_, name)| name.as_str()));
        let start = match &params.condition {
            Some((layers, name)) => {
                self.layers(layers, &needed)?;
                self.onnx.begin(&layer.name);
                let holds = self.holds(layer, name)?;
                Some(self.end_one(layer, holds, "condition"))
            }
            None => None,
        };
        let before = self.blobs.clone();
        let written: Names<'a> = writes(&params.body).union(&writes(condition_layers)).copied().collect();
        let mut names: Vec<&'a str> = written.into_iter().filter(|name| needed.contains(name)).collect();
        names.retain(|name| before.contains_key(name) || live.contains(name));
        names.sort_unstable();
        let (body, variables, dims) = self.body(layer, params, &names, &needed, &before)?;
        self.blobs = before;
        self.blobs.extend(flags.into_iter().filter_map(|(name, flag)| Some((name, flag?))));
        self.onnx.begin(&layer.name);
        let results = self.onnx.loop_up_to(count.as_ref(), start.as_ref(), &variables, body);
        self.define(names, results, dims);
        Ok(())
    }

    /// The most iterations as an int64 scalar; `None` where the condition alone counts, or nothing runs.
    fn count(&mut self, layer: &'a Layer, params: &nn::Loop) -> Result<Option<Value>, LowerError> {
        if layer.inputs.is_empty() {
            let count = i64::try_from(params.max_iterations).unwrap_or(i64::MAX);
            return Ok((count > 0).then(|| self.onnx.int(count)));
        }
        let input = LayerReader::new(layer, &self.blobs).and_then(|reader| reader.input().cloned());
        let blob = input.map_err(|fault| at(layer, fault))?;
        self.onnx.begin(&layer.name);
        let count = blob.scalar(&mut self.onnx).map_err(|fault| at(layer, fault))?;
        let count = self.onnx.cast(&count, Element::I64);
        Ok(Some(self.end_one(layer, count, "count")))
    }

    fn body(
        &mut self,
        layer: &'a Layer,
        params: &'a nn::Loop,
        names: &[&'a str],
        needed: &Names<'a>,
        before: &Blobs<'a>,
    ) -> Result<Repeated, LowerError> {
        // What the body is first to write gets its shape from a first look at the body, and starts with zeros.
        let mut dims: Vec<Option<Vec<Dim>>> = Vec::new();
        let mut variables: Vec<Option<Value>> = Vec::new();
        for name in names {
            let blob = before.get(name).map(|blob| blob.unfolded(&mut self.onnx));
            dims.push(blob.as_ref().map(|blob| blob.dims().to_vec()));
            variables.push(blob.map(|blob| blob.value().clone()));
        }
        loop {
            let (body, found) = self.iteration(layer, params, names, needed, &dims, before)?;
            let mut wider = Vec::with_capacity(names.len());
            for ((name, dims), found) in names.iter().zip(&dims).zip(found) {
                wider.push(Some(match dims {
                    Some(dims) => joined(layer, &[*name], std::slice::from_ref(dims), &[found])?.remove(0),
                    None => found,
                }));
            }
            if wider == dims {
                let dims = dims.into_iter().flatten().collect();
                let variables = variables.into_iter().flatten().collect();
                return Ok((body, variables, dims));
            }
            for (variable, dims) in variables.iter_mut().zip(&wider) {
                if let (None, Some(dims)) = (&variable, dims) {
                    let shape: Vec<usize> = dims.iter().map(|dim| super::blob::fixed(dim).unwrap_or(1)).collect();
                    let shape = self.onnx.ints(&shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
                    *variable = Some(self.onnx.constant_of_shape(&shape, 0.0, Element::F32));
                }
            }
            dims = wider;
        }
    }

    /// The graph of one iteration where variables have these dimensions, and those that they have after it. A variable
    /// without dimensions is none yet.
    fn iteration(
        &mut self,
        layer: &'a Layer,
        params: &'a nn::Loop,
        names: &[&'a str],
        needed: &Names<'a>,
        dims: &[Option<Vec<Dim>>],
        before: &Blobs<'a>,
    ) -> Result<(GraphProto, Vec<Vec<Dim>>), LowerError> {
        self.blobs.clone_from(before);
        self.onnx.open_graph();
        let number = self.onnx.graph_input("iteration", Element::I64, Some(Vec::new()));
        let going_on = self.onnx.graph_input("going_on", Element::Bool, Some(Vec::new()));
        let mut inputs = vec![number, going_on.clone()];
        for (name, dims) in names.iter().zip(dims) {
            let Some(dims) = dims else { continue };
            let variable = self.onnx.graph_input(name, Element::F32, Some(dims.clone()));
            self.blobs.insert(name, Blob::exact(variable.clone(), dims.clone()));
            inputs.push(variable);
        }
        let no = self.flag(0.0);
        self.blobs.insert(BREAK, no.clone());
        self.blobs.insert(CONTINUE, no);
        self.layers(&params.body, needed)?;
        let mut next = going_on;
        if leaves(&params.body) {
            self.onnx.begin(&layer.name);
            let broke = self.blobs[BREAK].clone();
            let broke = truth(&broke, &mut self.onnx).map_err(|fault| at(layer, fault))?;
            let stays = self.onnx.not(&broke);
            next = self.end_one(layer, stays, "stays");
        }
        if let Some((layers, name)) = &params.condition {
            // After a break it is computed for nothing, and harmless.
            self.layers(layers, needed)?;
            self.onnx.begin(&layer.name);
            let holds = self.holds(layer, name)?;
            let both = if leaves(&params.body) { self.onnx.compare("And", &next, &holds) } else { holds };
            next = self.end_one(layer, both, "goes_on");
        }
        self.onnx.begin(&layer.name);
        let results = self.unfolded(layer, names)?;
        let found = results.iter().map(|blob| blob.dims().to_vec()).collect();
        let mut outputs = vec![next];
        outputs.extend(results.iter().map(|blob| blob.value().clone()));
        Ok((self.onnx.close_graph(&format!("{}/body", layer.name), &inputs, &outputs), found))
    }

    fn holds(&mut self, layer: &Layer, name: &str) -> Result<Value, LowerError> {
        let blob = self.blobs.get(name).cloned();
        let blob = blob.ok_or_else(|| at(layer, Fault(format!("its condition does not write {name:?}"))))?;
        truth(&blob, &mut self.onnx).map_err(|fault| at(layer, fault))
    }
}

fn at(layer: &Layer, fault: Fault) -> LowerError {
    LowerError::Op { kind: layer.kind.name().to_owned(), name: error::shorten(&layer.name), reason: fault.0 }
}

/// Whether a blob's only element counts as true, as a scalar.
fn truth(blob: &Blob, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    let value = blob.scalar(onnx)?;
    let size = onnx.unary("Abs", &value);
    let limit = onnx.floats(&[], vec![TRUE_ABOVE]);
    Ok(onnx.compare("Greater", &size, &limit).with_dims(Some(Vec::new())))
}

/// The dimensions that blobs have on two ways; those that differ are known at run time only.
fn joined(layer: &Layer, names: &[&str], a: &[Vec<Dim>], b: &[Vec<Dim>]) -> Result<Vec<Vec<Dim>>, LowerError> {
    let one = |((name, a), b): ((&&str, &Vec<Dim>), &Vec<Dim>)| {
        if a.len() != b.len() {
            let shapes = format!("{} and {}", show(a), show(b));
            return Err(at(layer, Fault(format!("it gives {name:?} the shapes {shapes}, which have different ranks"))));
        }
        Ok(a.iter().zip(b).map(|(a, b)| if a == b { *a } else { Dim::Unknown }).collect())
    };
    names.iter().zip(a).zip(b).map(one).collect()
}

/// What these layers read, nested ones too, and what is live behind them.
fn needed<'a>(layers: &'a [Layer], live: &Names<'a>) -> Names<'a> {
    let mut names = live.clone();
    NeuralNetwork::visit(layers, &mut |layer| {
        names.extend(layer.inputs.iter().map(String::as_str));
        if let LayerKind::Loop(nn::Loop { condition: Some((_, name)), .. }) = &layer.kind {
            names.insert(name);
        }
    });
    names
}

/// What these layers write, nested ones too.
fn writes(layers: &[Layer]) -> Names<'_> {
    let mut names = Names::new();
    NeuralNetwork::visit(layers, &mut |layer| names.extend(layer.outputs.iter().map(String::as_str)));
    if leaves(layers) {
        names.extend([BREAK, CONTINUE]);
    }
    names
}

/// Whether these layers may leave the loop that they are in.
fn leaves(layers: &[Layer]) -> bool {
    layers.iter().any(|layer| match &layer.kind {
        LayerKind::LoopBreak | LayerKind::LoopContinue => true,
        LayerKind::Branch { if_branch, else_branch } => leaves(if_branch) || leaves(else_branch),
        _ => false,
    })
}
