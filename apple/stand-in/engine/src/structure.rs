//! The structure of models, as `MLModelStructure` tells it.

use coreml_format::{
    Model, ModelKind,
    mil::{Block, Function, Named, Op, Opset, Program},
    nn::NeuralNetwork,
};
use serde_json::{Map, Value, json};

/// Operations that the pretended machine runs on its CPU alone, so that plans have more than one device.
const CPU_ONLY: [&str; 5] = ["classify", "cond", "non_maximum_suppression", "non_zero", "while_loop"];

/// The structure as `plan.m` reads it. A model that is neither a program nor a neural network has none.
pub(crate) fn of(model: &Model) -> Value {
    match &model.kind {
        ModelKind::Program(program) => {
            let functions: Map<String, Value> =
                program.functions.iter().map(|(name, written)| (name.clone(), function(written))).collect();
            json!({ "program": { "functions": functions } })
        }
        ModelKind::NeuralNetwork(network) => json!({ "neuralNetwork": { "layers": layers(network) } }),
        ModelKind::Classic(_) | ModelKind::Pipeline(_) | ModelKind::Compiled(_) | ModelKind::Other(_) => json!({}),
    }
}

fn function(function: &Function) -> Value {
    let mut running = 0u32;
    Program::visit(&function.block, &mut |op| running += u32::from(!is_constant(op)));
    let cost = 1.0 / f64::from(running.max(1));
    json!({ "inputs": names(&function.inputs), "block": block(&function.block, function.opset, cost) })
}

/// Every operation that runs has the same part of the cost.
fn block(block: &Block, opset: Opset, cost: f64) -> Value {
    let operations = block.ops.iter().map(|op| {
        let blocks = op.blocks.iter().map(|inner| self::block(inner, opset, cost));
        let mut facts = json!({
            "operator": operator(op, opset),
            "outputs": names(&op.outputs),
            "blocks": blocks.collect::<Value>(),
            "constant": is_constant(op),
            "cpu": CPU_ONLY.contains(&op.kind.as_str()),
        });
        if !is_constant(op) {
            facts["cost"] = json!(cost);
        }
        facts
    });
    json!({ "inputs": names(&block.inputs), "outputs": block.outputs, "operations": operations.collect::<Value>() })
}

fn is_constant(op: &Op) -> bool {
    op.kind == "const" || op.kind.starts_with("constexpr_")
}

/// As Core ML names it, with its opset: `ios17.conv`.
fn operator(op: &Op, opset: Opset) -> String {
    let version = match opset {
        Opset::IOS15 => 15,
        Opset::IOS16 => 16,
        Opset::IOS17 => 17,
        Opset::IOS18 => 18,
        Opset::IOS26 => 26,
    };
    if op.kind == "const" { op.kind.clone() } else { format!("ios{version}.{}", op.kind) }
}

fn names(named: &[Named]) -> Value {
    named.iter().map(|one| json!({ "name": one.name })).collect()
}

fn layers(network: &NeuralNetwork) -> Value {
    let layer = |layer: &coreml_format::nn::Layer| {
        json!({
            "name": layer.name,
            "type": layer.kind.name(),
            "inputs": layer.inputs,
            "outputs": layer.outputs,
        })
    };
    network.layers.iter().map(layer).collect()
}
