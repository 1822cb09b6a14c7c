//! Facts about the specification: its versions and the types of models it knows.

use std::fmt;

/// The newest version of the specification that this crate reads.
pub const NEWEST: u32 = 10;

/// The oldest systems that read a version of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinimumOs {
    /// The version of iOS (tvOS and, from 11 on, iPadOS have the same number).
    pub ios: &'static str,
    /// The version of macOS.
    pub macos: &'static str,
}

/// One row a version, from 1 on.
const MINIMUM_OS: [MinimumOs; NEWEST as usize] = [
    MinimumOs { ios: "11", macos: "10.13" },
    MinimumOs { ios: "11.2", macos: "10.13.2" },
    MinimumOs { ios: "12", macos: "10.14" },
    MinimumOs { ios: "13", macos: "10.15" },
    MinimumOs { ios: "14", macos: "11" },
    MinimumOs { ios: "15", macos: "12" },
    MinimumOs { ios: "16", macos: "13" },
    MinimumOs { ios: "17", macos: "14" },
    MinimumOs { ios: "18", macos: "15" },
    MinimumOs { ios: "26", macos: "26" },
];

/// The oldest systems that read this version of the specification; `None` for a version that is not known.
///
/// ```
/// assert_eq!(coreml_format::spec::minimum_os(7).unwrap().to_string(), "iOS 16, macOS 13");
/// assert_eq!(coreml_format::spec::minimum_os(0), None);
/// ```
pub fn minimum_os(spec_version: u32) -> Option<MinimumOs> {
    let row = usize::try_from(spec_version).ok()?.checked_sub(1)?;
    MINIMUM_OS.get(row).copied()
}

impl fmt::Display for MinimumOs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "iOS {}, macOS {}", self.ios, self.macos)
    }
}

/// Every type of model, sorted by its field number in `Model.proto`: (number, name).
pub const MODEL_TYPES: &[(u32, &str)] = &[
    (200, "pipelineClassifier"),
    (201, "pipelineRegressor"),
    (202, "pipeline"),
    (300, "glmRegressor"),
    (301, "supportVectorRegressor"),
    (302, "treeEnsembleRegressor"),
    (303, "neuralNetworkRegressor"),
    (304, "bayesianProbitRegressor"),
    (400, "glmClassifier"),
    (401, "supportVectorClassifier"),
    (402, "treeEnsembleClassifier"),
    (403, "neuralNetworkClassifier"),
    (404, "kNearestNeighborsClassifier"),
    (500, "neuralNetwork"),
    (501, "itemSimilarityRecommender"),
    (502, "mlProgram"),
    (555, "customModel"),
    (556, "linkedModel"),
    (560, "classConfidenceThresholding"),
    (600, "oneHotEncoder"),
    (601, "imputer"),
    (602, "featureVectorizer"),
    (603, "dictVectorizer"),
    (604, "scaler"),
    (606, "categoricalMapping"),
    (607, "normalizer"),
    (609, "arrayFeatureExtractor"),
    (610, "nonMaximumSuppression"),
    (900, "identity"),
    (2000, "textClassifier"),
    (2001, "wordTagger"),
    (2002, "visionFeaturePrint"),
    (2003, "soundAnalysisPreprocessing"),
    (2004, "gazetteer"),
    (2005, "wordEmbedding"),
    (2006, "audioFeaturePrint"),
    (3000, "serializedModel"),
];

/// The name of the model type with this field number.
pub(crate) fn model_type(number: u32) -> Option<&'static str> {
    let row = MODEL_TYPES.binary_search_by_key(&number, |row| row.0).ok()?;
    Some(MODEL_TYPES[row].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_types_are_sorted() {
        assert!(MODEL_TYPES.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(model_type(502), Some("mlProgram"));
        assert_eq!(model_type(1), None);
    }

    #[test]
    fn every_version_up_to_the_newest_has_a_row() {
        assert!((1..=NEWEST).all(|version| minimum_os(version).is_some()));
        assert_eq!(minimum_os(NEWEST + 1), None);
    }
}
