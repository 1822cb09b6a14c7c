//! A test double: an engine that records what it is given and gives what it is told to.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use coreml_onnx::OnnxModel;

use super::{
    Engine, EngineOptions, LoadedEngineModel, Refusal, Take, Tensor,
    compiled::{self, CompiledFiles, Signature},
};
use crate::ane::{
    errors::{ANEError, Result},
    limits::Limits,
};

/// What a fake model does with its inputs.
pub(crate) type Answer = dyn Fn(&[Tensor<'_>]) -> Result<Vec<Tensor<'static>>> + Send + Sync;

/// A loaded model that answers with a function.
#[derive(Clone)]
pub(crate) struct Fake {
    answer: Arc<Answer>,
    seen: Arc<Mutex<Vec<Vec<Tensor<'static>>>>>,
    /// Runs that have not ended, and the most that there were.
    running: Arc<Mutex<(usize, usize)>>,
}

impl Fake {
    pub(crate) fn new(answer: impl Fn(&[Tensor<'_>]) -> Result<Vec<Tensor<'static>>> + Send + Sync + 'static) -> Fake {
        Fake { answer: Arc::new(answer), seen: Arc::default(), running: Arc::default() }
    }

    /// The inputs of each run so far.
    pub(crate) fn seen(&self) -> Vec<Vec<Tensor<'static>>> {
        self.seen.lock().unwrap().clone()
    }

    /// The most runs that there were at a time.
    pub(crate) fn most_at_a_time(&self) -> usize {
        self.running.lock().unwrap().1
    }
}

impl Engine for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn has_fp16(&self) -> bool {
        true
    }

    fn version(&self) -> String {
        String::new()
    }

    fn check(&self, _: &OnnxModel) -> Result<(), Refusal> {
        Ok(())
    }

    fn load(&self, _: OnnxModel, _: &EngineOptions) -> Result<Box<dyn LoadedEngineModel>> {
        Ok(Box::new(self.clone()))
    }

    fn fingerprint(&self) -> String {
        String::new()
    }

    fn compile(&self, model: &OnnxModel, folder: &Path, _: &EngineOptions) -> Result<()> {
        compiled::write_lowered(model, folder).map_err(|e| ANEError::CompilationFailed(e.to_string()))
    }

    fn open(&self, _: CompiledFiles, _: &Signature, _: &EngineOptions) -> Result<Box<dyn LoadedEngineModel>> {
        Ok(Box::new(self.clone()))
    }
}

impl LoadedEngineModel for Fake {
    fn run(&self, inputs: &[Tensor<'_>], limits: &Limits, take: &mut Take<'_>) -> Result<()> {
        limits.check()?;
        self.seen.lock().unwrap().push(inputs.iter().map(|input| input.borrowed().into_owned()).collect());
        let mut running = self.running.lock().unwrap();
        running.0 += 1;
        running.1 = running.1.max(running.0);
        drop(running);
        let given = (self.answer)(inputs)
            .map(|outputs| outputs.into_iter().enumerate().try_for_each(|(port, tensor)| take(port, tensor)));
        self.running.lock().unwrap().0 -= 1;
        given?
    }
}
