//! What operations take, and how long a chip's Neural Engine would need for them at best.

use std::collections::HashMap;

use coreml_format::DType;
use coreml_onnx::{Certainty, Lowered, OpCost};
use serde::Serialize;

use crate::{
    chips::{Chip, DISPATCH, ON_CHIP_BYTES},
    graph::{Graph, Op, Source, default_shapes},
};

/// Bytes of a number on the Neural Engine.
const HALF: f64 = 2.0;

/// Published times are between these parts of the time at best; see `tests/published.rs`.
pub(crate) const ERROR: [f64; 2] = [0.7, 2.0];

/// What a run takes of a chip's Neural Engine, if all of it ran there.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// The chip.
    pub chip: &'static Chip,
    /// Each operation, by its place in the graph.
    pub ops: Vec<OpEstimate>,
    /// Seconds at best: the roofline of each operation, and one dispatch.
    pub seconds: f64,
    /// What published times of other models make of that: as little and as much as this, in seconds.
    pub range: [f64; 2],
    /// Floating-point operations in all.
    pub flops: u64,
    /// Bytes of weights that are read, as they are stored.
    pub weight_bytes: f64,
    /// Whether some sizes are bounds or guesses.
    pub certain: bool,
}

/// What one operation takes.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct OpEstimate {
    /// Floating-point operations: a multiplication and an addition are two.
    pub flops: u64,
    /// Bytes of activations that it reads and writes in fp16.
    pub activation_bytes: f64,
    /// Bytes of weights that it reads, as they are stored.
    pub weight_bytes: f64,
    /// Seconds at best.
    pub seconds: f64,
    /// Whether arithmetic takes longer than memory.
    pub computing: bool,
}

impl Estimate {
    /// Counts what each operation takes, and what a chip needs for it: the longer of arithmetic at its peak and of memory at its
    /// bandwidth. Activations of up to 32 MB stay on the chip.
    pub(crate) fn of(graph: &Graph<'_>, lowered: &Lowered, chip: &'static Chip) -> Estimate {
        let costs = lowered.model.costs(&default_shapes(lowered));
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (place, op) in graph.ops.iter().enumerate() {
            places.entry(op.name).or_insert(place);
        }
        let mut ops = vec![OpEstimate::default(); graph.ops.len()];
        for cost in &costs {
            // What lowering adds at the model's ends belongs to no operation.
            let Some(&place) = places.get(cost.op.as_str()) else { continue };
            let bits = stored_bits(graph, &graph.ops[place]);
            let one = OpEstimate::of(cost, bits, chip);
            let sum = &mut ops[place];
            sum.flops = sum.flops.saturating_add(one.flops);
            sum.activation_bytes += one.activation_bytes;
            sum.weight_bytes += one.weight_bytes;
            sum.seconds += one.seconds;
            sum.computing |= one.computing;
        }
        let seconds = DISPATCH.iter().sum::<f64>() / 2.0 + ops.iter().map(|op| op.seconds).sum::<f64>();
        Estimate {
            chip,
            seconds,
            range: ERROR.map(|part| part * seconds),
            flops: ops.iter().fold(0, |sum: u64, op| sum.saturating_add(op.flops)),
            weight_bytes: ops.iter().map(|op| op.weight_bytes).sum(),
            certain: costs.iter().all(|cost| cost.certainty == Certainty::Exact),
            ops,
        }
    }
}

impl OpEstimate {
    fn of(cost: &OpCost, bits: f64, chip: &Chip) -> OpEstimate {
        let activation_bytes = (cost.read as f64 + cost.written as f64) * HALF;
        let weight_bytes = cost.weights as f64 * bits / 8.0;
        let from_memory = if activation_bytes > ON_CHIP_BYTES { activation_bytes } else { 0.0 };
        let arithmetic = cost.flops as f64 / (chip.teraflops * 1e12);
        let memory = (weight_bytes + from_memory) / (chip.gigabytes * 1e9);
        OpEstimate {
            flops: cost.flops,
            activation_bytes,
            weight_bytes,
            seconds: arithmetic.max(memory),
            computing: arithmetic > memory,
        }
    }
}

/// Bits of one stored number of an operation's weights: of its largest, and 16 at most, since fp32 is fp16 on the Neural Engine.
fn stored_bits(graph: &Graph<'_>, op: &Op<'_>) -> f64 {
    let whole = |dtype: DType| (dtype.bits() as f64).min(16.0);
    match op.source {
        Source::Program(_) => {
            let weights = graph.operands(op).filter(|value| value.is_constant());
            let Some(largest) = weights.max_by_key(|value| value.count()) else { return 16.0 };
            match (largest.compressed, largest.tensor) {
                (Some(constant), _) => {
                    let stored: f64 = constexpr_bytes(constant);
                    let count = largest.count().unwrap_or(0).max(1) as f64;
                    (stored * 8.0 / count).min(16.0)
                }
                (None, Some(tensor)) => whole(tensor.dtype()),
                (None, None) => 16.0,
            }
        }
        Source::Network(layer) => {
            let bits = layer.kind.weights().into_iter().map(|weight| match weight {
                coreml_format::nn::Weight::Float(_) => 16.0,
                coreml_format::nn::Weight::Linear { bits, .. } | coreml_format::nn::Weight::Table { bits, .. } => {
                    f64::from(*bits)
                }
            });
            bits.fold(None, |least: Option<f64>, bits| Some(least.map_or(bits, |least| least.min(bits))))
                .unwrap_or(16.0)
        }
    }
}

fn constexpr_bytes(op: &coreml_format::mil::Op) -> f64 {
    use coreml_format::mil::Argument;
    let arguments = op.inputs.values().flatten().filter_map(|argument| match argument {
        Argument::Value(value) => value.as_tensor(),
        Argument::Name(_) => None,
    });
    let tensors = op.attributes.values().filter_map(|value| value.as_tensor()).chain(arguments);
    tensors.map(|tensor| tensor.bytes().len() as f64).sum()
}
