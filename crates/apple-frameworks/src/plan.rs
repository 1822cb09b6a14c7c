//! Where Core ML would run each operation of a model.
//!
//! It is a plan, made before anything runs. What ran in the end, the system does not tell.

use std::{path::Path, sync::mpsc};

use block2::RcBlock;
use objc2::rc::autoreleasepool;
use objc2_core_ml::{
    MLComputePlan, MLComputePlanDeviceUsage, MLModelStructure, MLModelStructureNeuralNetworkLayer,
    MLModelStructureProgramBlock, MLModelStructureProgramOperation,
};
use objc2_foundation::NSError;

use crate::{
    configuration::Configuration,
    device::Device,
    failure::Failure,
    lend::contain,
    model::{answer, url},
    os,
};

/// Where a model would run.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// A model of MIL operations, by function in the order of their names, in each in the order in which they are
    /// written. The operations of inner blocks follow the one that has the blocks.
    Program(Vec<Operation>),
    /// A model of layers, in their order.
    NeuralNetwork(Vec<Layer>),
    /// Models after one another, by their names.
    Pipeline(Vec<(String, Plan)>),
    /// A model of another kind, such as trees. The system tells nothing of it.
    Other,
}

/// An operation of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// The function that it is in.
    pub function: String,
    /// The way to the block that it is in, from the function's own, which has none.
    pub block: Vec<Step>,
    /// Its name in MIL, with its opset, such as `ios17.conv`.
    pub operator: String,
    /// What it computes, by name.
    pub outputs: Vec<String>,
    /// Where it would run; `None` for what does not run, such as a constant.
    pub placement: Option<Placement>,
    /// Its part of the model's cost, from 0 to 1, as the system estimates it; `None` where it does not.
    pub cost: Option<f64>,
}

/// A step from a block to one inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// Which operation of the outer block has the inner one.
    pub operation: usize,
    /// Which of its blocks it is.
    pub block: usize,
}

/// A layer of a neural network.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Its type, such as `convolution`.
    pub kind: String,
    /// Where it would run; `None` where the system does not say.
    pub placement: Option<Placement>,
}

/// Where something would run, and where it could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where Core ML would run it.
    pub preferred: Device,
    /// Where Core ML could run it.
    pub supported: Vec<Device>,
}

/// Where Core ML would run each operation of a folder `.mlmodelc`.
///
/// Cost: the model is read and prepared as for a load, and waited for.
///
/// # Errors
/// What Core ML says of the model, and where this system makes no plans.
pub fn plan(compiled: &Path, configuration: &Configuration) -> Result<Plan, Failure> {
    if !os::COMPUTE_PLAN.here() {
        return Err(Failure::ours(os::COMPUTE_PLAN.lack()));
    }
    autoreleasepool(|_| {
        let (url, configuration) = (url(compiled)?, configuration.to_object()?);
        let (send, receive) = mpsc::channel();
        let handler = RcBlock::new(move |plan: *mut MLComputePlan, error: *mut NSError| {
            contain(|| {
                // SAFETY: Core ML gives a valid object or null, for as long as the handler runs.
                let plan = unsafe { plan.as_ref() };
                // SAFETY: the same.
                let error = unsafe { error.as_ref() };
                // Nobody waits where the caller's thread is gone.
                let _ = send.send(answer(plan, error).and_then(read));
            });
        });
        // SAFETY: the handler owns what it uses, and may be called on any thread; this system has the class.
        unsafe { MLComputePlan::loadContentsOfURL_configuration_completionHandler(&url, &configuration, &handler) };
        drop(handler);
        receive.recv().unwrap_or_else(|_| Err(Failure::ours("planning ended without an answer")))
    })
}

/// The plan as plain data.
fn read(plan: &MLComputePlan) -> Result<Plan, Failure> {
    // SAFETY: a plain property.
    let structure = unsafe { plan.modelStructure() };
    Reader { plan }.model(&structure, 0)
}

/// How deep blocks and pipelines may nest: far beyond what converters write, and no danger to a thread's stack.
const NESTING_LIMIT: usize = 64;

fn check_depth(depth: usize) -> Result<(), Failure> {
    if depth > NESTING_LIMIT {
        return Err(Failure::ours(format!("the model nests deeper than {NESTING_LIMIT}")));
    }
    Ok(())
}

struct Reader<'a> {
    plan: &'a MLComputePlan,
}

impl Reader<'_> {
    fn model(&self, structure: &MLModelStructure, depth: usize) -> Result<Plan, Failure> {
        check_depth(depth)?;
        // SAFETY: a plain property.
        if let Some(program) = unsafe { structure.program() } {
            // SAFETY: a plain property.
            let (names, functions) = unsafe { program.functions() }.to_vecs();
            let mut functions: Vec<_> = names.iter().map(|name| name.to_string()).zip(functions).collect();
            functions.sort_by(|a, b| a.0.cmp(&b.0));
            let mut operations = Vec::new();
            for (name, function) in functions {
                // SAFETY: a plain property.
                let block = unsafe { function.block() };
                self.block(&name, &block, &mut Vec::new(), &mut operations)?;
            }
            return Ok(Plan::Program(operations));
        }
        // SAFETY: a plain property.
        if let Some(network) = unsafe { structure.neuralNetwork() } {
            // SAFETY: a plain property.
            let layers = unsafe { network.layers() };
            return Ok(Plan::NeuralNetwork(layers.iter().map(|layer| self.layer(&layer)).collect()));
        }
        // SAFETY: a plain property.
        if let Some(pipeline) = unsafe { structure.pipeline() } {
            // SAFETY: a plain property.
            let names = unsafe { pipeline.subModelNames() };
            // SAFETY: a plain property.
            let models = unsafe { pipeline.subModels() };
            let mut stages = Vec::new();
            for (name, model) in names.iter().zip(models.iter()) {
                stages.push((name.to_string(), self.model(&model, depth + 1)?));
            }
            return Ok(Plan::Pipeline(stages));
        }
        Ok(Plan::Other)
    }

    /// Adds the operations of a block, which is at the end of `path`.
    fn block(
        &self,
        function: &str,
        block: &MLModelStructureProgramBlock,
        path: &mut Vec<Step>,
        operations: &mut Vec<Operation>,
    ) -> Result<(), Failure> {
        check_depth(path.len())?;
        // SAFETY: a plain property.
        let written = unsafe { block.operations() };
        for (index, operation) in written.iter().enumerate() {
            // Models have many thousands of operations, with some objects for each.
            autoreleasepool(|_| operations.push(self.operation(function, &operation, path)));
            // SAFETY: a plain property.
            let inner = unsafe { operation.blocks() };
            for (which, block) in inner.iter().enumerate() {
                path.push(Step { operation: index, block: which });
                self.block(function, &block, path, operations)?;
                path.pop();
            }
        }
        Ok(())
    }

    fn operation(&self, function: &str, operation: &MLModelStructureProgramOperation, path: &[Step]) -> Operation {
        // SAFETY: a plain property.
        let operator = unsafe { operation.operatorName() };
        // SAFETY: a plain property.
        let outputs = unsafe { operation.outputs() };
        // SAFETY: the operation is one of this plan's.
        let usage = unsafe { self.plan.computeDeviceUsageForMLProgramOperation(operation) };
        // SAFETY: the operation is one of this plan's.
        let cost = unsafe { self.plan.estimatedCostOfMLProgramOperation(operation) };
        Operation {
            function: function.to_owned(),
            block: path.to_vec(),
            operator: operator.to_string(),
            // SAFETY: a plain property.
            outputs: outputs.iter().map(|output| unsafe { output.name() }.to_string()).collect(),
            placement: usage.map(|usage| placement(&usage)),
            // SAFETY: a plain property.
            cost: cost.map(|cost| unsafe { cost.weight() }),
        }
    }

    fn layer(&self, layer: &MLModelStructureNeuralNetworkLayer) -> Layer {
        // SAFETY: a plain property.
        let name = unsafe { layer.name() };
        // SAFETY: a plain property.
        let kind = unsafe { layer.r#type() };
        // SAFETY: the layer is one of this plan's.
        let usage = unsafe { self.plan.computeDeviceUsageForNeuralNetworkLayer(layer) };
        Layer { name: name.to_string(), kind: kind.to_string(), placement: usage.map(|usage| placement(&usage)) }
    }
}

fn placement(usage: &MLComputePlanDeviceUsage) -> Placement {
    // SAFETY: a plain property.
    let preferred = unsafe { usage.preferredComputeDevice() };
    // SAFETY: a plain property.
    let supported = unsafe { usage.supportedComputeDevices() };
    Placement {
        preferred: Device::of(&preferred),
        supported: supported.iter().map(|device| Device::of(&device)).collect(),
    }
}
