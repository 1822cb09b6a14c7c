//! Core ML's plans, in this library's words.

use apple_frameworks::{
    Configuration, Device,
    plan::{Placement, Plan, Step, plan},
    system,
};

use crate::ane::{
    infer::{ComputeUnit, ComputeUnits},
    models::plan::{ComputePlan, PlannedOperation},
};

/// The plan for a compiled model. Cost: the model is read and prepared as for a load.
pub(super) fn of(
    compiled: &std::path::Path,
    configuration: &Configuration,
    units: ComputeUnits,
) -> Result<ComputePlan, apple_frameworks::Failure> {
    let mut operations = Vec::new();
    add(&plan(compiled, configuration)?, "", &mut operations);
    Ok(ComputePlan::new(format!("{} {}", system::NAME, system::version()), system::chip(), units, operations))
}

fn add(plan: &Plan, path: &str, operations: &mut Vec<PlannedOperation>) {
    match plan {
        Plan::Program(program) => operations.extend(program.iter().map(|operation| PlannedOperation {
            path: within(path, &format!("{}{}", operation.function, blocks(&operation.block))),
            operator: operation.operator.clone(),
            outputs: operation.outputs.clone(),
            preferred: operation.placement.as_ref().and_then(|placement| unit(placement.preferred)),
            supported: supported(operation.placement.as_ref()),
            cost: operation.cost,
        })),
        Plan::NeuralNetwork(layers) => operations.extend(layers.iter().map(|layer| PlannedOperation {
            path: path.to_owned(),
            operator: layer.kind.clone(),
            outputs: vec![layer.name.clone()],
            preferred: layer.placement.as_ref().and_then(|placement| unit(placement.preferred)),
            supported: supported(layer.placement.as_ref()),
            cost: None,
        })),
        Plan::Pipeline(models) => models.iter().for_each(|(name, plan)| add(plan, &within(path, name), operations)),
        Plan::Other => {}
    }
}

fn within(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// The way to an inner block, such as `/3.1` for the second block of the fourth operation.
fn blocks(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("/{}.{}", step.operation, step.block)).collect()
}

fn supported(placement: Option<&Placement>) -> Vec<ComputeUnit> {
    placement.map_or_else(Vec::new, |placement| placement.supported.iter().filter_map(|&device| unit(device)).collect())
}

/// The unit that a device is; `None` for a kind that came after this version.
fn unit(device: Device) -> Option<ComputeUnit> {
    match device {
        Device::Cpu => Some(ComputeUnit::Cpu),
        Device::Gpu => Some(ComputeUnit::Gpu),
        Device::NeuralEngine { .. } => Some(ComputeUnit::Ane),
        Device::Other => None,
    }
}
