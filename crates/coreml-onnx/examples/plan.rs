//! Prints what is planned for a model as JSON: the shape of every value, and the worst moment. `tools/check_plan.py`
//! compares it with what ONNX Runtime computes and takes.
//!
//! `cargo run --example plan -- MODEL [--function NAME] [--half] [INPUT=1,3,224,224 ...]`

use std::{collections::HashMap, error::Error};

use coreml_onnx::{Certainty, LowerOptions, lower};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: plan MODEL [--function NAME] [--half] [INPUT=SHAPE ...]")?;
    let (mut options, mut shapes) = (LowerOptions::default(), HashMap::new());
    while let Some(argument) = arguments.next() {
        match argument.split_once('=') {
            Some((name, shape)) => {
                let shape: Result<Vec<usize>, _> = shape.split(',').filter(|d| !d.is_empty()).map(str::parse).collect();
                shapes.insert(name.to_owned(), shape?);
            }
            None if argument == "--half" => options.half_io = true,
            None if argument == "--function" => options.function = arguments.next(),
            None => return Err(format!("{argument} is not known").into()),
        }
    }
    let model = lower(&coreml_format::Model::open(path)?, &options)?.model;
    // A size that is open is 1 where the caller says no other.
    let shape = |port: &coreml_onnx::Port| {
        let declared = || port.dims.iter().map(|d| d.unwrap_or(1)).collect();
        shapes.get(&port.name).cloned().unwrap_or_else(declared)
    };
    let inputs: Vec<Vec<usize>> = model.inputs().iter().map(shape).collect();
    let plan = model.memory_plan(&inputs);
    let certainty = |certainty| match certainty {
        Certainty::Exact => "exact",
        Certainty::AtMost => "at most",
        Certainty::Unknown => "unknown",
    };
    let values: HashMap<String, _> = model
        .inferred_values(&inputs)
        .into_iter()
        .map(|v| {
            (v.name, json!({"element": format!("{:?}", v.element), "shape": v.shape, "is": certainty(v.certainty)}))
        })
        .collect();
    let tensors: Vec<_> = plan
        .tensors
        .iter()
        .map(|t| json!({"name": t.name, "role": format!("{:?}", t.role), "shape": t.shape, "bytes": t.bytes}))
        .collect();
    let inputs: HashMap<&String, _> = model.inputs().iter().map(|port| &port.name).zip(inputs).collect();
    println!(
        "{}",
        json!({"inputs": inputs, "peak_bytes": plan.peak_bytes, "at": plan.at, "tensors": tensors, "values": values,
               "input_bytes": plan.input_bytes, "output_bytes": plan.output_bytes, "unknown": plan.unknown})
    );
    Ok(())
}
