//! Evaluates Core ML's classic models: linear models, support vector machines, trees, neighbours, and the transformers
//! that make features of features.
//!
//! An [`Evaluator`] is made once of a checked [`Classic`] model, and gives the values of its outputs for values of its
//! inputs. It computes in double precision, as Core ML does. It knows nothing of engines, threads or files, and its
//! answers depend on nothing but its inputs.
//!
//! ```no_run
//! use coreml_classic::{Evaluator, Value};
//! use coreml_format::{Model, ModelKind};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Model::open("house_prices.mlmodel")?;
//! let ModelKind::Classic(classic) = model.kind else { panic!("another kind of model") };
//! let evaluator = Evaluator::new(*classic, model.schema.interface);
//! let outputs = evaluator.evaluate(&[Some(Value::Double(3.0)), Some(Value::Double(120.0))])?;
//! # Ok(())
//! # }
//! ```

mod classify;
mod inputs;
mod linear;
mod math;
mod neighbors;
mod recommender;
mod suppression;
mod svm;
mod transform;
mod trees;
mod value;

pub use value::{Array, Dictionary, Sequence, Value};

use coreml_format::{
    classic::{Classic, Label},
    schema::{ClassLabels, Interface},
};

use self::{inputs::Inputs, neighbors::Neighbors, recommender::Recommender, transform::Places, trees::Trees};

/// Why a model gives no answer to its inputs, as half a sentence that names the feature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluationError(String);

/// The result of an evaluation.
pub type Result<T, E = EvaluationError> = std::result::Result<T, E>;

/// A classic model that is ready to be evaluated, from any thread.
#[derive(Debug)]
pub struct Evaluator {
    prepared: Prepared,
    interface: Interface,
}

/// A model with what is made once of its parameters.
#[derive(Debug)]
enum Prepared {
    TreeRegressor(Trees),
    TreeClassifier(Trees, ClassLabels),
    Neighbors(Neighbors),
    Recommender(Recommender),
    OneHotEncoder(coreml_format::classic::OneHotEncoder, Places),
    DictVectorizer(Places),
    /// Any other, which needs nothing.
    Plain(Classic),
}

impl Evaluator {
    /// Makes a model ready. `interface` is that of its description, which it was checked against.
    ///
    /// Cost: that of the parameters; a k-d tree is built here.
    pub fn new(model: Classic, interface: Interface) -> Evaluator {
        let prepared = match model {
            Classic::TreeEnsembleRegressor(model) => Prepared::TreeRegressor(Trees::new(model.trees, model.transform)),
            Classic::TreeEnsembleClassifier(model) => {
                Prepared::TreeClassifier(Trees::new(model.trees, model.transform), model.labels)
            }
            Classic::KNearestNeighborsClassifier(model) => Prepared::Neighbors(Neighbors::new(model)),
            Classic::ItemSimilarityRecommender(model) => Prepared::Recommender(Recommender::new(model)),
            Classic::OneHotEncoder(model) => {
                let places = Places::of(&model.categories);
                Prepared::OneHotEncoder(model, places)
            }
            Classic::DictVectorizer(model) => Prepared::DictVectorizer(Places::of(&model.keys)),
            other => Prepared::Plain(other),
        };
        Evaluator { prepared, interface }
    }

    /// The value of each output, in the order of the description, for the value of each input in that order; `None` for
    /// an optional one that is left out.
    ///
    /// # Errors
    /// [`EvaluationError`] for a value of another kind or number than the model takes, a category that it does not know,
    /// and a result that its output does not hold.
    pub fn evaluate(&self, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
        let inputs = Inputs::new(&self.interface.inputs, inputs)?;
        let outputs = &self.interface.outputs[..];
        let regressor = |values| inputs::numbers(&outputs[0], values).map(|value| vec![value]);
        let one = |value: Result<Value>| value.map(|value| vec![value]);
        let model = match &self.prepared {
            Prepared::TreeRegressor(trees) => return regressor(trees.evaluate(&inputs.vector()?)?),
            Prepared::TreeClassifier(trees, labels) => {
                let (scores, winner) = trees.classify(&inputs.vector()?)?;
                return classify::outputs(outputs, labels, winner, &scores);
            }
            Prepared::Neighbors(neighbors) => {
                let (scores, winner) = neighbors.classify(&inputs.vector()?)?;
                return classify::outputs(outputs, neighbors.classes(), winner, &scores);
            }
            Prepared::Recommender(recommender) => return recommender.evaluate(&inputs, outputs),
            Prepared::OneHotEncoder(model, places) => return one(transform::one_hot(model, places, inputs.only()?)),
            Prepared::DictVectorizer(places) => {
                return one(transform::dict_vectorizer(places, inputs.only()?, &outputs[0]));
            }
            Prepared::Plain(model) => model,
        };
        match model {
            Classic::GlmRegressor(model) => regressor(linear::evaluate(model, &inputs.vector()?)?),
            Classic::GlmClassifier(model) => {
                let (scores, winner) = linear::classify(model, &inputs.vector()?)?;
                classify::outputs(outputs, &model.labels, winner, &scores)
            }
            Classic::SupportVectorRegressor(model) => regressor(vec![svm::evaluate(model, &inputs.vector()?)?]),
            Classic::SupportVectorClassifier(model) => {
                let (scores, winner) = svm::classify(model, &inputs.vector()?)?;
                classify::outputs(outputs, &model.labels, winner, &scores)
            }
            Classic::Imputer(model) => one(transform::imputer(model, &inputs)),
            Classic::FeatureVectorizer(model) => one(transform::feature_vectorizer(model, &inputs)),
            Classic::Scaler(model) => one(transform::scaler(model, inputs.only()?, &outputs[0])),
            Classic::CategoricalMapping(model) => one(transform::categorical_mapping(model, inputs.only()?)),
            Classic::Normalizer(model) => one(transform::normalizer(model, inputs.only()?)),
            Classic::ArrayFeatureExtractor(model) => {
                one(transform::array_feature_extractor(model, inputs.only()?, &outputs[0]))
            }
            Classic::NonMaximumSuppression(model) => suppression::evaluate(model, &inputs, outputs),
            Classic::ClassConfidenceThresholding => one(transform::class_confidence_thresholding(inputs.only()?)),
            Classic::Identity => outputs.iter().map(|output| inputs.required(&output.name).cloned()).collect(),
            Classic::TreeEnsembleRegressor(_)
            | Classic::TreeEnsembleClassifier(_)
            | Classic::KNearestNeighborsClassifier(_)
            | Classic::ItemSimilarityRecommender(_)
            | Classic::OneHotEncoder(_)
            | Classic::DictVectorizer(_) => unreachable!("these have forms of their own"),
        }
    }
}

fn fault<T>(why: impl Into<String>) -> Result<T> {
    Err(EvaluationError(why.into()))
}

/// A label for messages.
fn show(label: &Label) -> String {
    match label {
        Label::String(label) => format!("{label:?}"),
        Label::Int64(label) => label.to_string(),
    }
}
