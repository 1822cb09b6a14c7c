//! Lets buffers come and go, step by step, and finds the worst moment.

use std::collections::{HashMap, HashSet};

use super::{
    PlannedTensor, Role,
    fact::Fact,
    infer::{Inference, graphs},
    steps::{self, Step, Target},
};
use crate::onnx::pb::{GraphProto, NodeProto, ValueInfoProto};

/// The worst moment of a graph.
#[derive(Default)]
pub(super) struct Peak {
    /// Sizes saturate one by one, so their sum needs more bits.
    pub(super) bytes: u128,
    pub(super) at: String,
    pub(super) tensors: Vec<PlannedTensor>,
}

/// The worst moment of `graph`. Values from the graphs around it are not counted.
pub(super) fn peak(graph: &GraphProto, values: &Inference<'_>) -> Peak {
    let outputs: HashSet<usize> = graph.output.iter().filter_map(|info| values.id(&info.name)).collect();
    let steps = steps::of(graph, values, &outputs);
    let mut buffers = Buffers::new(values, &outputs, &steps);
    let nested: Vec<Peak> = steps.iter().map(|step| inside(step, values)).collect();
    for (at, step) in steps.iter().enumerate() {
        buffers.step(at, step);
    }
    let live = buffers.live();
    let beside = |at: usize| nested.get(at).map_or(0, |nested| nested.bytes);
    let mut worst = 0;
    for at in 0..live.len() {
        if live[at] + beside(at) > live[worst] + beside(worst) {
            worst = at;
        }
    }
    let mut tensors = buffers.at(worst);
    let mut at = steps.get(worst).or(steps.last()).map_or("", |step| name_of(step.node)).to_owned();
    let bytes = live[worst] + beside(worst);
    if let Some(inner) = nested.into_iter().nth(worst) {
        tensors.extend(inner.tensors);
        at = if inner.at.is_empty() { at } else { inner.at };
    }
    tensors.sort_by(|x, y| y.bytes.cmp(&x.bytes).then_with(|| x.name.cmp(&y.name)));
    Peak { bytes, at, tensors }
}

fn name_of(node: &NodeProto) -> &str {
    if node.name.is_empty() { &node.op_type } else { &node.name }
}

/// What a step takes beside its results: a kernel's workspace, or the worst moment of a nested graph. Of branches one
/// runs.
fn inside(step: &Step<'_>, values: &Inference<'_>) -> Peak {
    let worst = match step.node.op_type.as_str() {
        "Loop" => graphs(step.node).next().map(|body| repeated(step, body, values)),
        _ => graphs(step.node).map(|graph| peak(graph, values)).max_by_key(|peak| peak.bytes),
    };
    worst.unwrap_or_else(|| {
        let bytes = step.workspace;
        let name = name_of(step.node).to_owned();
        let workspace = PlannedTensor { name, role: Role::Workspace, shape: Vec::new(), bytes };
        let tensors = if bytes == 0 { Vec::new() } else { vec![workspace] };
        Peak { bytes: bytes as u128, at: String::new(), tensors }
    })
}

/// A loop holds its variables twice, as an iteration gets them and as it gives them. At its end, it copies what the
/// last one gave while it still holds what that got.
fn repeated(step: &Step<'_>, body: &GraphProto, values: &Inference<'_>) -> Peak {
    let of = |infos: &[ValueInfoProto]| -> Vec<PlannedTensor> {
        let all = infos.iter().filter_map(|info| values.id(&info.name)).map(|id| live(id, values));
        all.filter(|tensor| tensor.bytes > 0).collect()
    };
    let sum = |tensors: &[PlannedTensor]| tensors.iter().map(|tensor| tensor.bytes as u128).sum::<u128>();
    let given = of(&body.input);
    let mut running = peak(body, values);
    running.bytes += sum(&given);
    running.tensors.extend(given.clone());
    let mut ending: Vec<PlannedTensor> = step.writes.iter().map(|&id| live(id, values)).collect();
    ending.extend(given);
    ending.extend(of(&body.output));
    if sum(&ending) > running.bytes {
        return Peak { bytes: sum(&ending), at: name_of(step.node).to_owned(), tensors: ending };
    }
    running
}

fn live(value: usize, values: &Inference<'_>) -> PlannedTensor {
    let fact = values.fact(value);
    PlannedTensor {
        name: values.name(value).to_owned(),
        role: Role::Live,
        shape: fact.shape.clone().unwrap_or_default(),
        bytes: fact.bytes(),
    }
}

/// Which values one buffer can take: those of an element size and a shape.
type Form = (usize, Vec<usize>);

/// A piece of memory and the values that it holds in turn.
struct Buffer {
    bytes: usize,
    form: Option<Form>,
    start: usize,
    end: usize,
    /// Reads that are still to come.
    pending: usize,
    /// Each value with the step that made it.
    tenants: Vec<(usize, usize)>,
}

/// The buffers of one graph.
struct Buffers<'s, 'a> {
    values: &'s Inference<'a>,
    outputs: &'s HashSet<usize>,
    /// The number of steps; outputs live until then.
    end: usize,
    /// How often each value is made or read, or leaves.
    uses: HashMap<usize, usize>,
    /// The step that touches a value last.
    last: HashMap<usize, usize>,
    buffers: Vec<Buffer>,
    of: HashMap<usize, usize>,
    /// Buffers whose values are dead, the latest last.
    free: HashMap<Form, Vec<usize>>,
}

impl<'s, 'a> Buffers<'s, 'a> {
    fn new(values: &'s Inference<'a>, outputs: &'s HashSet<usize>, steps: &[Step<'_>]) -> Buffers<'s, 'a> {
        let mut uses = HashMap::new();
        for &value in steps.iter().flat_map(|step| step.reads.iter().chain(&step.writes)).chain(outputs) {
            *uses.entry(value).or_insert(0) += 1;
        }
        let mut buffers = Buffers {
            values,
            outputs,
            end: steps.len(),
            uses,
            last: outputs.iter().map(|&value| (value, steps.len())).collect(),
            buffers: Vec::new(),
            of: HashMap::new(),
            free: HashMap::new(),
        };
        // An output that is a weight is copied out before anything runs.
        let mut weights: Vec<usize> = outputs.iter().copied().filter(|&id| values.fact(id).constant).collect();
        weights.sort_unstable();
        weights.into_iter().for_each(|id| buffers.allocate(id, 0));
        buffers
    }

    fn step(&mut self, at: usize, step: &Step<'_>) {
        // What a nested graph makes is counted there while it runs.
        let made = if graphs(step.node).next().is_some() { at + 1 } else { at };
        for (i, &value) in step.writes.iter().enumerate() {
            let target = if i == 0 && !self.outputs.contains(&value) { step.target } else { Target::Fresh };
            match target {
                Target::View(x) => {
                    // A view of an input is in the caller's memory.
                    if let Some(&buffer) = self.of.get(&x) {
                        self.share(buffer, value, at);
                    }
                }
                Target::Over(x) if self.is_last_read(x, value, step) => self.share(self.of[&x], value, at),
                Target::Over(_) | Target::Fresh => match self.kept(value) {
                    Some(buffer) => self.share(buffer, value, at),
                    None => self.allocate(value, made),
                },
            }
        }
        for value in step.reads.iter().chain(&step.writes) {
            self.used(*value, at);
        }
    }

    /// Whether `x` has a buffer that `step` is the last to read, and `value` fits there.
    fn is_last_read(&self, x: usize, value: usize, step: &Step<'_>) -> bool {
        let reads = step.reads.iter().filter(|&&read| read == x).count();
        let fits = self.form(x).is_some() && self.form(x) == self.form(value);
        fits && self.of.get(&x).is_some_and(|&buffer| self.buffers[buffer].pending == reads)
    }

    /// A buffer that was kept for a value like this one.
    fn kept(&mut self, value: usize) -> Option<usize> {
        if self.outputs.contains(&value) {
            return None;
        }
        self.free.get_mut(&self.form(value)?)?.pop()
    }

    fn share(&mut self, buffer: usize, value: usize, at: usize) {
        self.of.insert(value, buffer);
        self.buffers[buffer].pending += self.uses[&value];
        self.buffers[buffer].tenants.push((value, at));
    }

    fn allocate(&mut self, value: usize, at: usize) {
        self.of.insert(value, self.buffers.len());
        self.buffers.push(Buffer {
            bytes: self.values.fact(value).bytes(),
            form: self.form(value),
            start: at,
            end: if self.outputs.contains(&value) { self.end } else { at },
            pending: self.uses[&value],
            tenants: vec![(value, at)],
        });
    }

    fn used(&mut self, value: usize, at: usize) {
        let Some(&id) = self.of.get(&value) else { return };
        let last = self.last.entry(value).or_insert(at);
        *last = at.max(*last);
        let buffer = &mut self.buffers[id];
        buffer.end = buffer.end.max(at);
        buffer.pending -= 1;
        if buffer.pending == 0
            && let Some(form) = buffer.form.clone()
        {
            self.free.entry(form).or_default().push(id);
        }
    }

    /// `None` for scalars and for sizes that are not known: nothing is kept for them.
    fn form(&self, value: usize) -> Option<Form> {
        let Fact { element, shape, .. } = self.values.fact(value);
        shape.clone().filter(|shape| !shape.is_empty()).map(|shape| (element.size(), shape))
    }

    /// Bytes that are held at each step, and after the last one.
    fn live(&self) -> Vec<u128> {
        let (mut come, mut go) = (vec![0u128; self.end + 2], vec![0u128; self.end + 2]);
        for buffer in self.buffers.iter().filter(|buffer| buffer.start <= buffer.end) {
            come[buffer.start] += buffer.bytes as u128;
            go[buffer.end + 1] += buffer.bytes as u128;
        }
        let mut held = 0;
        let held_at = |at: usize| {
            held = held + come[at] - go[at];
            held
        };
        (0..=self.end).map(held_at).collect()
    }

    /// What is held at a step.
    fn at(&self, at: usize) -> Vec<PlannedTensor> {
        let there = self.buffers.iter().filter(|b| b.start <= at && at <= b.end && b.bytes > 0);
        there.map(|buffer| self.tenant(buffer, at)).collect()
    }

    /// The value that a buffer holds at a step, or that it held before.
    fn tenant(&self, buffer: &Buffer, at: usize) -> PlannedTensor {
        let mut here = buffer.tenants.iter().rev().filter(|(_, made)| *made <= at);
        let is_live = |value: &usize| self.last.get(value).is_some_and(|&last| last >= at);
        let living = here.clone().map(|(value, _)| *value).find(is_live);
        let (value, role) = match living {
            Some(value) => (value, Role::Live),
            None => (here.next().map_or(buffer.tenants[0].0, |(value, _)| *value), Role::Kept),
        };
        let tenant = PlannedTensor { role, ..live(value, self.values) };
        if tenant.bytes == buffer.bytes {
            return tenant;
        }
        // Views and what overwrites have as many bytes, but for values that were not inferred.
        let shape = live(buffer.tenants[0].0, self.values).shape;
        PlannedTensor { shape, bytes: buffer.bytes, ..tenant }
    }
}
