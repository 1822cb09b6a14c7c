//! Decoded messages as checked models.

use bytes::Bytes;

use super::{Classic, fit, linear, neighbors, recommender, suppression, svm, transform, trees};
use crate::schema::Interface;

/// Reads the classic model of this type; `None` for a type that is none.
pub(crate) fn read(name: &str, body: Bytes, interface: &Interface) -> Result<Option<Classic>, String> {
    let model = match name {
        "glmRegressor" => Classic::GlmRegressor(linear::regressor(body)?),
        "glmClassifier" => Classic::GlmClassifier(linear::classifier(body)?),
        "supportVectorRegressor" => Classic::SupportVectorRegressor(svm::regressor(body)?),
        "supportVectorClassifier" => Classic::SupportVectorClassifier(svm::classifier(body)?),
        "treeEnsembleRegressor" => Classic::TreeEnsembleRegressor(trees::regressor(body)?),
        "treeEnsembleClassifier" => Classic::TreeEnsembleClassifier(trees::classifier(body)?),
        "kNearestNeighborsClassifier" => Classic::KNearestNeighborsClassifier(neighbors::read(body)?),
        "itemSimilarityRecommender" => Classic::ItemSimilarityRecommender(recommender::read(body)?),
        "oneHotEncoder" => Classic::OneHotEncoder(transform::one_hot_encoder(body)?),
        "imputer" => Classic::Imputer(transform::imputer(body)?),
        "featureVectorizer" => Classic::FeatureVectorizer(transform::feature_vectorizer(body)?),
        "dictVectorizer" => Classic::DictVectorizer(transform::dict_vectorizer(body)?),
        "scaler" => Classic::Scaler(transform::scaler(body)?),
        "categoricalMapping" => Classic::CategoricalMapping(transform::categorical_mapping(body)?),
        "normalizer" => Classic::Normalizer(transform::normalizer(body)?),
        "arrayFeatureExtractor" => Classic::ArrayFeatureExtractor(transform::array_feature_extractor(body)?),
        "nonMaximumSuppression" => Classic::NonMaximumSuppression(suppression::read(body)?),
        "classConfidenceThresholding" => Classic::ClassConfidenceThresholding,
        "identity" => Classic::Identity,
        _ => return Ok(None),
    };
    fit::check(&model, interface)?;
    Ok(Some(model))
}
