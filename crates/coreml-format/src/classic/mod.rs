//! Classic models: linear models, trees, neighbours, transformers, and pipelines.
//!
//! What [`Model::open`](crate::Model::open) gives of them is checked: numbers of parameters agree with each other and
//! with the description's features, references resolve, and trees are trees. They hold no weights by reference; their
//! parameters are read into memory, and take there about what they take in the file.

mod fit;
mod labels;
mod linear;
mod neighbors;
mod pipeline;
mod read;
mod recommender;
mod suppression;
mod svm;
mod transform;
mod trees;

pub use labels::Label;
pub use linear::{ClassEncoding, GlmClassifier, GlmRegressor, Link};
pub use neighbors::{KNearestNeighborsClassifier, NeighborIndex, Weighting};
pub use pipeline::{Pipeline, PipelineKind, Stage};
pub use recommender::{ItemSimilarityRecommender, RecommenderInputs, SimilarItem};
pub use suppression::NonMaximumSuppression;
pub use svm::{Kernel, SupportVectorClassifier, SupportVectorRegressor, SupportVectors};
pub use transform::{
    ArrayFeatureExtractor, CategoricalMapping, DictVectorizer, FeatureVectorizer, Imputed, Imputer, InputColumn, Keys,
    Norm, Normalizer, OneHotEncoder, Replaced, Scaler,
};
pub use trees::{Node, Test, Transform, TreeEnsemble, TreeEnsembleClassifier, TreeEnsembleRegressor};

pub(crate) use pipeline::{link, stages};
pub(crate) use read::read;

use crate::schema::ClassLabels;

/// A classic model, by its type in `Model.proto`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the type of its name, which documents itself")]
pub enum Classic {
    GlmRegressor(GlmRegressor),
    GlmClassifier(GlmClassifier),
    SupportVectorRegressor(SupportVectorRegressor),
    SupportVectorClassifier(SupportVectorClassifier),
    TreeEnsembleRegressor(TreeEnsembleRegressor),
    TreeEnsembleClassifier(TreeEnsembleClassifier),
    KNearestNeighborsClassifier(KNearestNeighborsClassifier),
    ItemSimilarityRecommender(ItemSimilarityRecommender),
    OneHotEncoder(OneHotEncoder),
    Imputer(Imputer),
    FeatureVectorizer(FeatureVectorizer),
    DictVectorizer(DictVectorizer),
    Scaler(Scaler),
    CategoricalMapping(CategoricalMapping),
    Normalizer(Normalizer),
    ArrayFeatureExtractor(ArrayFeatureExtractor),
    NonMaximumSuppression(NonMaximumSuppression),
    /// Marks every class as present: it gives its input and a row of ones.
    ClassConfidenceThresholding,
    /// Gives its inputs as they are.
    Identity,
}

impl Classic {
    /// The name of the type in `Model.proto`.
    pub fn name(&self) -> &'static str {
        match self {
            Classic::GlmRegressor(_) => "glmRegressor",
            Classic::GlmClassifier(_) => "glmClassifier",
            Classic::SupportVectorRegressor(_) => "supportVectorRegressor",
            Classic::SupportVectorClassifier(_) => "supportVectorClassifier",
            Classic::TreeEnsembleRegressor(_) => "treeEnsembleRegressor",
            Classic::TreeEnsembleClassifier(_) => "treeEnsembleClassifier",
            Classic::KNearestNeighborsClassifier(_) => "kNearestNeighborsClassifier",
            Classic::ItemSimilarityRecommender(_) => "itemSimilarityRecommender",
            Classic::OneHotEncoder(_) => "oneHotEncoder",
            Classic::Imputer(_) => "imputer",
            Classic::FeatureVectorizer(_) => "featureVectorizer",
            Classic::DictVectorizer(_) => "dictVectorizer",
            Classic::Scaler(_) => "scaler",
            Classic::CategoricalMapping(_) => "categoricalMapping",
            Classic::Normalizer(_) => "normalizer",
            Classic::ArrayFeatureExtractor(_) => "arrayFeatureExtractor",
            Classic::NonMaximumSuppression(_) => "nonMaximumSuppression",
            Classic::ClassConfidenceThresholding => "classConfidenceThresholding",
            Classic::Identity => "identity",
        }
    }

    /// The labels of a classifier, in the order of its probabilities.
    pub fn class_labels(&self) -> Option<ClassLabels> {
        match self {
            Classic::GlmClassifier(model) => Some(model.labels.clone()),
            Classic::SupportVectorClassifier(model) => Some(model.labels.clone()),
            Classic::TreeEnsembleClassifier(model) => Some(model.labels.clone()),
            Classic::KNearestNeighborsClassifier(model) => Some(model.classes()),
            Classic::NonMaximumSuppression(model) => model.labels.clone(),
            Classic::GlmRegressor(_)
            | Classic::SupportVectorRegressor(_)
            | Classic::TreeEnsembleRegressor(_)
            | Classic::ItemSimilarityRecommender(_)
            | Classic::OneHotEncoder(_)
            | Classic::Imputer(_)
            | Classic::FeatureVectorizer(_)
            | Classic::DictVectorizer(_)
            | Classic::Scaler(_)
            | Classic::CategoricalMapping(_)
            | Classic::Normalizer(_)
            | Classic::ArrayFeatureExtractor(_)
            | Classic::ClassConfidenceThresholding
            | Classic::Identity => None,
        }
    }

    /// Numbers and words that were learnt: how many, and the bytes that they take in memory.
    pub fn parameters(&self) -> (usize, usize) {
        let of = |count: usize, each: usize| (count, count.saturating_mul(each));
        match self {
            Classic::GlmRegressor(model) => of(model.weights.iter().map(|row| row.len() + 1).sum(), size_of::<f64>()),
            Classic::GlmClassifier(model) => of(model.weights.iter().map(|row| row.len() + 1).sum(), size_of::<f64>()),
            Classic::SupportVectorRegressor(model) => {
                add(model.vectors.parameters(), of(model.coefficients.len() + 1, size_of::<f64>()))
            }
            Classic::SupportVectorClassifier(model) => {
                let coefficients: usize = model.coefficients.iter().map(Vec::len).sum();
                let pairs = model.rho.len() + model.platt.as_ref().map_or(0, |platt| 2 * platt.len());
                add(model.vectors.parameters(), of(coefficients + pairs, size_of::<f64>()))
            }
            Classic::TreeEnsembleRegressor(model) => model.trees.parameters(),
            Classic::TreeEnsembleClassifier(model) => model.trees.parameters(),
            Classic::KNearestNeighborsClassifier(model) => of(model.samples.len(), size_of::<f32>()),
            Classic::ItemSimilarityRecommender(model) => {
                of(model.similar.iter().map(|(_, list)| list.len()).sum(), size_of::<SimilarItem>())
            }
            Classic::OneHotEncoder(model) => model.categories.parameters(),
            Classic::DictVectorizer(model) => model.keys.parameters(),
            Classic::Imputer(model) => model.imputed.parameters(),
            Classic::FeatureVectorizer(model) => of(model.columns.len(), size_of::<InputColumn>()),
            Classic::Scaler(model) => of(model.shift.len() + model.scale.len(), size_of::<f64>()),
            Classic::CategoricalMapping(model) => model.parameters(),
            Classic::ArrayFeatureExtractor(model) => of(model.indices.len(), size_of::<usize>()),
            Classic::NonMaximumSuppression(_) => of(2, size_of::<f64>()),
            Classic::Normalizer(_) | Classic::ClassConfidenceThresholding | Classic::Identity => (0, 0),
        }
    }

    /// What it is made of, for people: `trees` and `nodes`, `support vectors`, `samples`. Empty where nothing is counted.
    pub fn facts(&self) -> Vec<(&'static str, usize)> {
        match self {
            Classic::GlmRegressor(model) => vec![("weights", model.weights.iter().map(Vec::len).sum())],
            Classic::GlmClassifier(model) => vec![("weights", model.weights.iter().map(Vec::len).sum())],
            Classic::SupportVectorRegressor(model) => vec![("support vectors", model.vectors.len())],
            Classic::SupportVectorClassifier(model) => vec![("support vectors", model.vectors.len())],
            Classic::TreeEnsembleRegressor(model) => model.trees.facts(),
            Classic::TreeEnsembleClassifier(model) => model.trees.facts(),
            Classic::KNearestNeighborsClassifier(model) => {
                vec![("samples", model.labels.len()), ("dimensions", model.dimensions), ("neighbours", model.neighbors)]
            }
            Classic::ItemSimilarityRecommender(model) => vec![("items", model.items)],
            Classic::OneHotEncoder(model) => vec![("categories", model.categories.len())],
            Classic::DictVectorizer(model) => vec![("keys", model.keys.len())],
            Classic::FeatureVectorizer(model) => {
                vec![("columns", model.columns.len()), ("dimensions", model.dimensions())]
            }
            Classic::ArrayFeatureExtractor(model) => vec![("indices", model.indices.len())],
            Classic::Imputer(_)
            | Classic::Scaler(_)
            | Classic::CategoricalMapping(_)
            | Classic::Normalizer(_)
            | Classic::NonMaximumSuppression(_)
            | Classic::ClassConfidenceThresholding
            | Classic::Identity => Vec::new(),
        }
    }
}

fn add(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}
