//! A Core ML model, opened and checked.

use std::path::{Path, PathBuf};

use crate::{
    ReadError,
    classic::{Classic, Pipeline},
    mil::Program,
    nn::NeuralNetwork,
    schema::Schema,
};

/// A model: where it came from, what it takes and gives, and what it does.
#[derive(Clone, Debug)]
pub struct Model {
    /// The path that was opened.
    pub path: PathBuf,
    /// The version of the file format; [`spec::minimum_os`](crate::spec::minimum_os) says what it needs. 0 where a
    /// compiled model does not say.
    pub spec_version: u32,
    /// Inputs, outputs, functions and metadata.
    pub schema: Schema,
    /// What the model is.
    pub kind: ModelKind,
}

/// What a model is made of.
#[derive(Clone, Debug)]
pub enum ModelKind {
    /// An ML Program.
    Program(Program),
    /// A neural network, classifier or regressor of the older layer format.
    NeuralNetwork(NeuralNetwork),
    /// A classic model: linear, of trees, of neighbours, or one that transforms features.
    Classic(Box<Classic>),
    /// Several models, one after the other; or one that is a file of its own.
    Pipeline(Pipeline),
    /// A compiled `.mlmodelc` of which the description alone can be read, and why: its content is Apple's own. A compiled
    /// ML Program whose text can be read is a [`ModelKind::Program`].
    Compiled(String),
    /// Any other type, by its name in `Model.proto`, such as `textClassifier`: Apple's own, or not described anywhere.
    Other(&'static str),
}

impl ModelKind {
    /// The name of the type in `Model.proto`, such as `treeEnsembleRegressor`; or `compiled`.
    pub fn name(&self) -> &'static str {
        match self {
            ModelKind::Program(_) => "mlProgram",
            ModelKind::NeuralNetwork(network) if network.classifier.is_some() => "neuralNetworkClassifier",
            ModelKind::NeuralNetwork(network) if network.regressor => "neuralNetworkRegressor",
            ModelKind::NeuralNetwork(_) => "neuralNetwork",
            ModelKind::Classic(classic) => classic.name(),
            ModelKind::Pipeline(pipeline) => pipeline.kind.name(),
            ModelKind::Compiled(_) => "compiled",
            ModelKind::Other(name) => name,
        }
    }
}

impl Model {
    /// Opens a `.mlmodel`, a `.mlpackage` or a `.mlmodelc` and validates it whole.
    ///
    /// Cost: the description and the program are decoded; of the weights only each blob's header of 64 bytes is
    /// read.
    ///
    /// A model's files must not change while it is open, for its weights are views of them. Replace them by other
    /// files instead.
    ///
    /// ```no_run
    /// let model = coreml_format::Model::open("net.mlpackage")?;
    /// for input in &model.schema.interface.inputs {
    ///     println!("{}: {:?}", input.name, input.kind);
    /// }
    /// # Ok::<(), coreml_format::ReadError>(())
    /// ```
    ///
    /// # Errors
    /// [`ReadError`] names the file, and the function and operation where there is one.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, ReadError> {
        crate::package::open(path.as_ref())
    }
}
