//! How long each operation of a model takes on this machine, under its own name.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Instant,
};

use coreml_format::{Model, ModelKind};
use coreml_onnx::{LowerOptions, Lowered};

use super::coreml_model::{CoreMlModel, LoadOptions, Loading};
use crate::ane::{
    engines::{self, Choice, EngineOptions, NodeTime},
    errors::{ANEError, Result},
    features::Features,
    infer::Precision,
};

/// Runs before those that are measured.
const WARM_UP: usize = 3;

/// How long a model and each of its operations take.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Profile {
    /// The engine that ran it.
    pub engine: Choice,
    /// The runs that were measured.
    pub runs: usize,
    /// Median time of a prediction in microseconds, with what features cost and with what measuring costs.
    pub prediction: f64,
    /// Operations or layers that took time, in the order of the model.
    pub ops: Vec<OpTime>,
    /// What belongs to none of them, by the engine's operator: changes of layout, and the like.
    pub others: BTreeMap<String, f64>,
}

/// How long one operation takes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OpTime {
    /// Its name in the model.
    pub op: String,
    /// The operations that the engine computes together with it, and which have no time of their own.
    pub with: Vec<String>,
    /// Median time of a run in microseconds.
    pub microseconds: f64,
}

/// Runs a model on these inputs and measures each operation: `runs` times, after some that are not counted. `progress` is told
/// how many runs are done.
///
/// Only ONNX Runtime tells what its nodes take. It computes some operations together: the time is that of the last of them.
///
/// # Errors
/// Those of loading and predicting. [`ANEError::CompilationFailed`] for a model that has no operations, and for an engine that
/// measures none.
pub fn profile(
    path: impl AsRef<Path>,
    inputs: &Features,
    options: &LoadOptions,
    runs: usize,
    mut progress: impl FnMut(usize),
) -> Result<Profile> {
    let path = path.as_ref();
    let model = Model::open(path)?;
    let refused = |why: String| Err(ANEError::CompilationFailed(why).of_model(path));
    if !matches!(model.kind, ModelKind::Program(_) | ModelKind::NeuralNetwork(_)) {
        return refused(format!(
            "a model of type {} has no operations to measure; `ane run --repeat` measures it whole",
            model.kind.name()
        ));
    }
    let (engine, choice) = engines::select(options.engine, options.threads)?;
    let lower = LowerOptions {
        function: options.function.clone(),
        without_fp16: !engine.has_fp16(),
        ..LowerOptions::default()
    };
    let lowered = coreml_onnx::lower(&model, &lower).map_err(|error| ANEError::from(error).of_model(path))?;
    let ops = Ops::of(&model, &lowered, options.function.as_deref());
    let loading = Loading {
        engine: &*engine,
        choice: choice.clone(),
        path,
        precision: Precision::Fp32,
        options: EngineOptions { profile: true, ..options.of_engine() },
    };
    let schema = model.schema.clone();
    let loaded = CoreMlModel::load_graph(loading, lowered, schema, |_, _| Ok(()))?;
    let mut predictions = Vec::with_capacity(runs);
    for run in 0..WARM_UP + runs {
        let start = Instant::now();
        loaded.predict(inputs)?;
        if run >= WARM_UP {
            predictions.push(start.elapsed().as_secs_f64() * 1e6);
            progress(run + 1 - WARM_UP);
        }
    }
    let times = match loaded.engine_model().end_profile() {
        Err(ANEError::Unavailable) => {
            return refused(format!(
                "{} does not measure its operations; ONNX Runtime does (`ane engine install`)",
                choice.engine
            ));
        }
        times => times?,
    };
    let measured: Vec<NodeTime> = times.into_iter().filter(|time| time.run >= WARM_UP).collect();
    let (ops, others) = attribute(&measured, &ops);
    Ok(Profile { engine: choice, runs, prediction: median(predictions), ops, others })
}

/// The operations of a model outside of blocks, in order.
#[derive(Default)]
struct Ops {
    names: Vec<String>,
    /// The places of the operations whose results each reads.
    reads: Vec<Vec<usize>>,
    /// The engine's operators that each was lowered to.
    operators: Vec<Vec<String>>,
    /// The place of the operation that a node of the lowered graph belongs to.
    nodes: HashMap<String, usize>,
}

impl Ops {
    fn of(model: &Model, lowered: &Lowered, function: Option<&str>) -> Ops {
        let graph = coreml_explain::Graph::of(model, function, None);
        let mut ops = Ops::default();
        // Those in blocks are in the time of the operation that has the blocks.
        let mut places = vec![0; graph.ops.len()];
        for (number, op) in graph.ops.iter().enumerate() {
            if let Some(owner) = op.inside {
                places[number] = places[owner];
                continue;
            }
            places[number] = ops.names.len();
            ops.names.push(op.name.to_owned());
            ops.reads.push(graph.operands(op).filter_map(|value| value.maker).map(|maker| places[maker]).collect());
        }
        ops.operators = vec![Vec::new(); ops.names.len()];
        let by_name: HashMap<&str, usize> =
            ops.names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        for node in lowered.model.nodes() {
            if let Some(&place) = by_name.get(lowered.model.origin(node.name())) {
                ops.operators[place].push(node.op_type().to_owned());
                ops.nodes.insert(node.name().to_owned(), place);
            }
        }
        ops
    }

    /// The operation that an optimised node belongs to by its name, which is that of one of the nodes that it joins, at times
    /// with more behind it.
    fn named(&self, name: &str) -> Option<usize> {
        let mut name = name.strip_suffix("_nchwc").unwrap_or(name);
        loop {
            if let Some(&place) = self.nodes.get(name) {
                return Some(place);
            }
            name = &name[..name.rfind('/')?];
        }
    }

    /// The operation before this one that gave a joined node its operator, as a convolution does that is joined with its
    /// activation and called after it.
    fn joined(&self, place: usize, operator: &str, has_time: &[bool]) -> Option<usize> {
        if self.operators[place].iter().any(|own| own == operator) {
            return None;
        }
        let is = |before: &usize| !has_time[*before] && self.operators[*before].iter().any(|own| own == operator);
        self.reads[place].iter().copied().find(is)
    }
}

/// The operation that each node's time belongs to. Where optimisation keeps no name, the node stands for those operations
/// between its neighbours that have no time of their own.
fn attribute(times: &[NodeTime], all: &Ops) -> (Vec<OpTime>, BTreeMap<String, f64>) {
    let order = &all.names;
    let known = |name: &str| all.named(name);
    let timed: Vec<Option<usize>> = times.iter().map(|time| known(&time.name)).collect();
    let mut has_time = vec![false; order.len()];
    timed.iter().flatten().for_each(|&place| has_time[place] = true);
    let mut sums: BTreeMap<usize, BTreeMap<usize, f64>> = BTreeMap::new();
    let mut others: BTreeMap<&str, BTreeMap<usize, f64>> = BTreeMap::new();
    // The operation in whose time that of another one is.
    let mut owners: HashMap<usize, usize> = HashMap::new();
    for (number, time) in times.iter().enumerate() {
        let named = timed[number].map(|place| match all.joined(place, &time.operator, &has_time) {
            Some(before) => {
                owners.insert(place, before);
                before
            }
            None => place,
        });
        let place = named.or_else(|| {
            let (first, last) = between(number, times, &timed, &has_time)?;
            owners.extend((first..last).filter(|&place| !has_time[place]).map(|place| (place, last)));
            Some(last)
        });
        let sum = match place {
            Some(place) => sums.entry(place).or_default().entry(time.run).or_default(),
            None => others.entry(&time.operator).or_default().entry(time.run).or_default(),
        };
        *sum += time.microseconds;
    }
    let median_of = |runs: &BTreeMap<usize, f64>| median(runs.values().copied().collect());
    // Others without time of their own are computed with the one before them that has some, as an activation is.
    let mut with: HashMap<usize, Vec<String>> = HashMap::new();
    let mut last = None;
    for (place, name) in order.iter().enumerate() {
        match owners.get(&place).copied().or(last) {
            _ if sums.contains_key(&place) => last = Some(place),
            Some(owner) => with.entry(owner).or_default().push(name.clone()),
            None => {}
        }
    }
    let op = |(place, runs): (&usize, &BTreeMap<usize, f64>)| OpTime {
        op: order[*place].clone(),
        with: with.remove(place).unwrap_or_default(),
        microseconds: median_of(runs),
    };
    let ops = sums.iter().map(op).collect();
    let others = others.into_iter().map(|(operator, runs)| (operator.to_owned(), median_of(&runs))).collect();
    (ops, others)
}

/// The first and the last operation without time of its own between the neighbours of a node.
fn between(number: usize, times: &[NodeTime], timed: &[Option<usize>], has_time: &[bool]) -> Option<(usize, usize)> {
    // A change of layout stands for no operation of the model.
    const LAYOUT: [&str; 5] = ["Reshape", "Transpose", "ReorderInput", "ReorderOutput", "Cast"];
    if LAYOUT.contains(&times[number].operator.as_str()) {
        return None;
    }
    let run = times[number].run;
    let near = |place: usize| timed[place].filter(|_| times[place].run == run);
    let before = (0..number).rev().find_map(near)?;
    let after = (number + 1..times.len()).find_map(near)?;
    let mut free = (before + 1..after).filter(|&place| !has_time[place]);
    let first = free.next()?;
    Some((first, free.next_back().unwrap_or(first)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_go_to_their_operations() {
        let ops = [
            ("conv", vec![], "Conv"),
            ("clip", vec![0], "Clip"),
            ("linear", vec![1], "MatMul"),
            ("add", vec![2], "Add"),
            ("norm", vec![3], "LayerNormalization"),
            ("gelu", vec![4], "Gelu"),
        ];
        let all = Ops {
            names: ops.iter().map(|op| op.0.to_owned()).collect(),
            reads: ops.iter().map(|op| op.1.clone()).collect(),
            operators: ops.iter().map(|op| vec![op.2.to_owned()]).collect(),
            nodes: [("clip", 1), ("linear/MatMul", 2), ("gelu", 5)]
                .map(|(name, place)| (name.to_owned(), place))
                .into(),
        };
        let node = |run, name: &str, operator: &str, microseconds| NodeTime {
            run,
            name: name.to_owned(),
            operator: operator.to_owned(),
            microseconds,
        };
        let run = |run, scale: f64| {
            [
                node(run, "token_7", "ReorderInput", scale),
                node(run, "clip_nchwc", "Conv", 10.0 * scale),
                node(run, "linear/MatMul/MatMulAddFusion", "Gemm", 20.0 * scale),
                node(run, "token_9", "Reshape", 2.0 * scale),
                node(run, "SkipLayerNormalization", "SkipLayerNormalization", 5.0 * scale),
                node(run, "gelu", "Gelu", scale),
            ]
        };
        let times: Vec<NodeTime> = [run(0, 1.0), run(1, 2.0), run(2, 9.0)].concat();
        let (ops, others) = attribute(&times, &all);
        let shown: Vec<(&str, Vec<&str>, f64)> = (ops.iter())
            .map(|op| (op.op.as_str(), op.with.iter().map(String::as_str).collect(), op.microseconds))
            .collect();
        let expected = [
            ("conv", vec!["clip"], 20.0),
            ("linear", vec![], 40.0),
            ("norm", vec!["add"], 10.0),
            ("gelu", vec![], 2.0),
        ];
        assert_eq!(shown, expected);
        assert_eq!(others, [("ReorderInput".to_owned(), 2.0), ("Reshape".to_owned(), 4.0)].into());
    }

    #[test]
    fn medians() {
        for (values, expected) in [(vec![], 0.0), (vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 3.0], 2.5)] {
            assert_eq!(median(values), expected);
        }
    }
}
