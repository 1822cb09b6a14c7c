//! Whether a model's parameters fit the features that its description declares.

use super::{Classic, Imputed, Keys, SupportVectors, TreeEnsemble};
use crate::{
    error::quote,
    schema::{ArrayKind, ClassLabels, Feature, FeatureKind, Interface, KeyKind, ShapeFlexibility},
};

/// Checks kinds and numbers of features. What a shape leaves open is left to the run.
pub(super) fn check(model: &Classic, interface: &Interface) -> Result<(), String> {
    match model {
        Classic::GlmRegressor(model) => {
            vector(interface, Width::Exactly(model.weights[0].len()))?;
            values(interface, model.weights.len())
        }
        Classic::GlmClassifier(model) => {
            vector(interface, Width::Exactly(model.weights[0].len()))?;
            classifier(interface, &model.labels, true)
        }
        Classic::SupportVectorRegressor(model) => {
            vector(interface, support(&model.vectors))?;
            values(interface, 1)
        }
        Classic::SupportVectorClassifier(model) => {
            vector(interface, support(&model.vectors))?;
            classifier(interface, &model.labels, model.platt.is_some())
        }
        Classic::TreeEnsembleRegressor(model) => {
            vector(interface, features(&model.trees))?;
            values(interface, model.trees.dimensions())
        }
        Classic::TreeEnsembleClassifier(model) => {
            vector(interface, features(&model.trees))?;
            classifier(interface, &model.labels, true)
        }
        Classic::KNearestNeighborsClassifier(model) => {
            vector(interface, Width::Exactly(model.dimensions))?;
            classifier(interface, &model.labels, true)
        }
        Classic::ItemSimilarityRecommender(model) => recommender(interface, model),
        Classic::OneHotEncoder(model) => {
            let (input, output) = one_to_one(interface)?;
            match (&model.categories, &input.kind) {
                (Keys::Strings(_), FeatureKind::String) | (Keys::Int64s(_), FeatureKind::Int64) => {}
                _ => return Err(unfit("input", input)),
            }
            match (model.sparse, &output.kind) {
                (true, FeatureKind::Dictionary(KeyKind::Int64)) => Ok(()),
                (false, FeatureKind::MultiArray(kind)) => length(output, kind, model.categories.len()),
                _ => Err(unfit("output", output)),
            }
        }
        Classic::Imputer(model) => imputer(interface, &model.imputed),
        Classic::FeatureVectorizer(model) => {
            for column in &model.columns {
                let input = interface.inputs.iter().find(|input| input.name == column.name);
                let input = input.ok_or_else(|| format!("takes {}, which is no input", quote(&column.name)))?;
                match &input.kind {
                    FeatureKind::Int64 | FeatureKind::Double if column.dimensions == 1 => {}
                    FeatureKind::MultiArray(kind) => length(input, kind, column.dimensions)?,
                    FeatureKind::Dictionary(_) => {}
                    _ => return Err(unfit("input", input)),
                }
            }
            match &only(&interface.outputs, "output")? {
                Feature { kind: FeatureKind::MultiArray(kind), .. } => {
                    length(&interface.outputs[0], kind, model.dimensions())
                }
                output => Err(unfit("output", output)),
            }
        }
        Classic::DictVectorizer(model) => {
            let (input, output) = one_to_one(interface)?;
            match (&input.kind, &output.kind) {
                (FeatureKind::Dictionary(_), FeatureKind::Dictionary(KeyKind::Int64)) => Ok(()),
                (FeatureKind::Dictionary(_), FeatureKind::MultiArray(kind)) => length(output, kind, model.keys.len()),
                (FeatureKind::Dictionary(_), _) => Err(unfit("output", output)),
                _ => Err(unfit("input", input)),
            }
        }
        Classic::Scaler(model) => {
            let (input, output) = one_to_one(interface)?;
            for values in [&model.shift, &model.scale] {
                match (&input.kind, values.len()) {
                    (FeatureKind::Int64 | FeatureKind::Double | FeatureKind::MultiArray(_), 0 | 1) => {}
                    (FeatureKind::MultiArray(kind), len) => length(input, kind, len)?,
                    _ => return Err(unfit("input", input)),
                }
            }
            match (&input.kind, &output.kind) {
                (FeatureKind::MultiArray(_), FeatureKind::MultiArray(_))
                | (FeatureKind::Int64 | FeatureKind::Double, FeatureKind::Int64 | FeatureKind::Double) => Ok(()),
                _ => Err(unfit("output", output)),
            }
        }
        Classic::CategoricalMapping(model) => {
            let (from, to) = match model {
                super::CategoricalMapping::StringToInt64 { .. } => (KeyKind::String, KeyKind::Int64),
                super::CategoricalMapping::Int64ToString { .. } => (KeyKind::Int64, KeyKind::String),
            };
            let (input, output) = one_to_one(interface)?;
            match (category(&input.kind), category(&output.kind)) {
                (Some((a, one)), Some((b, other))) if a == from && b == to && one == other => Ok(()),
                (Some((a, _)), _) if a == from => Err(unfit("output", output)),
                _ => Err(unfit("input", input)),
            }
        }
        Classic::Normalizer(_) => arrays(interface),
        Classic::ArrayFeatureExtractor(model) => {
            let (input, output) = one_to_one(interface)?;
            let FeatureKind::MultiArray(kind) = &input.kind else { return Err(unfit("input", input)) };
            let largest = model.indices.iter().max().copied().unwrap_or(0);
            if elements(kind).is_some_and(|count| largest >= count) {
                return Err(format!("extracts element {largest} of {}", quote(&input.name)));
            }
            match &output.kind {
                FeatureKind::Int64 | FeatureKind::Double if model.indices.len() == 1 => Ok(()),
                FeatureKind::MultiArray(kind) => length(output, kind, model.indices.len()),
                _ => Err(unfit("output", output)),
            }
        }
        Classic::NonMaximumSuppression(model) => {
            let inputs = [Some(&model.confidence_input), Some(&model.coordinates_input)];
            for name in inputs.into_iter().flatten() {
                named(&interface.inputs, name, |kind| matches!(kind, FeatureKind::MultiArray(_)))?;
            }
            for name in [&model.iou_threshold_input, &model.confidence_threshold_input].into_iter().flatten() {
                named(&interface.inputs, name, |kind| *kind == FeatureKind::Double)?;
            }
            for name in [&model.confidence_output, &model.coordinates_output] {
                named(&interface.outputs, name, |kind| matches!(kind, FeatureKind::MultiArray(_)))?;
            }
            match &interface.outputs[..] {
                [_, _] => Ok(()),
                outputs => Err(format!("has {} outputs, not 2", outputs.len())),
            }
        }
        Classic::ClassConfidenceThresholding => arrays(interface),
        Classic::Identity => {
            for output in &interface.outputs {
                let input = interface.inputs.iter().find(|input| input.name == output.name);
                input.filter(|input| input.kind == output.kind).ok_or_else(|| unfit("output", output))?;
            }
            Ok(())
        }
    }
}

/// How many numbers a model takes.
enum Width {
    Exactly(usize),
    AtLeast(usize),
}

fn support(vectors: &SupportVectors) -> Width {
    match vectors {
        SupportVectors::Dense { dimensions, values } if !values.is_empty() => Width::Exactly(*dimensions),
        // What a sparse vector has beyond the input meets zeros, as in libsvm.
        SupportVectors::Dense { .. } | SupportVectors::Sparse { .. } => Width::AtLeast(0),
    }
}

fn features(trees: &TreeEnsemble) -> Width {
    Width::AtLeast(trees.last_feature().map_or(0, |last| last + 1))
}

/// Numbers and arrays, which the model takes as one vector.
fn vector(interface: &Interface, width: Width) -> Result<(), String> {
    let mut known = Some(0usize);
    for input in &interface.inputs {
        let count = match &input.kind {
            FeatureKind::Int64 | FeatureKind::Double => Some(1),
            FeatureKind::MultiArray(kind) => elements(kind),
            _ => return Err(unfit("input", input)),
        };
        known = known.zip(count).map(|(sum, count)| sum.saturating_add(count));
    }
    match (known, width) {
        (Some(given), Width::Exactly(taken)) if given != taken => {
            Err(format!("takes {taken} numbers, and its inputs have {given}"))
        }
        (Some(given), Width::AtLeast(taken)) if given < taken => {
            Err(format!("takes {taken} numbers, and its inputs have {given}"))
        }
        _ => Ok(()),
    }
}

/// The output of a regressor with this many values.
fn values(interface: &Interface, count: usize) -> Result<(), String> {
    let output = only(&interface.outputs, "output")?;
    match &output.kind {
        FeatureKind::Double if count == 1 => Ok(()),
        FeatureKind::MultiArray(kind) => length(output, kind, count),
        _ => Err(unfit("output", output)),
    }
}

/// The outputs of a classifier: its label and, where it has them, its probabilities.
fn classifier(interface: &Interface, labels: &ClassLabels, has_probabilities: bool) -> Result<(), String> {
    for output in &interface.outputs {
        match (&output.kind, labels.kind()) {
            (FeatureKind::String, KeyKind::String) | (FeatureKind::Int64, KeyKind::Int64) => {}
            (FeatureKind::Dictionary(keys), kind) if *keys == kind && has_probabilities => {}
            (FeatureKind::Dictionary(keys), kind) if *keys == kind => {
                return Err(format!("has no probabilities for the output {}", quote(&output.name)));
            }
            _ => return Err(unfit("output", output)),
        }
    }
    Ok(())
}

fn imputer(interface: &Interface, imputed: &Imputed) -> Result<(), String> {
    let (input, output) = one_to_one(interface)?;
    match (imputed, &input.kind) {
        (Imputed::Double(_), FeatureKind::Double | FeatureKind::MultiArray(_))
        | (Imputed::Int64(_), FeatureKind::Int64)
        | (Imputed::String(_), FeatureKind::String)
        | (Imputed::StringDictionary(_), FeatureKind::Dictionary(KeyKind::String))
        | (Imputed::Int64Dictionary(_), FeatureKind::Dictionary(KeyKind::Int64)) => {}
        (Imputed::Array(values), FeatureKind::MultiArray(kind)) => length(input, kind, values.len())?,
        _ => return Err(unfit("input", input)),
    }
    let alike = std::mem::discriminant(&input.kind) == std::mem::discriminant(&output.kind);
    if alike { Ok(()) } else { Err(unfit("output", output)) }
}

fn recommender(interface: &Interface, model: &super::ItemSimilarityRecommender) -> Result<(), String> {
    let inputs = &model.inputs;
    let list = |kind: &FeatureKind| matches!(kind, FeatureKind::Sequence(..) | FeatureKind::MultiArray(_));
    if inputs.items.is_empty() {
        only(&interface.inputs, "input")?;
    } else {
        named(&interface.inputs, &inputs.items, |kind| list(kind) || matches!(kind, FeatureKind::Dictionary(_)))?;
    }
    if let Some(name) = &inputs.count {
        named(&interface.inputs, name, |kind| *kind == FeatureKind::Int64)?;
    }
    for name in [&inputs.restriction, &inputs.exclusion].into_iter().flatten() {
        named(&interface.inputs, name, list)?;
    }
    let keys = model.ids.as_ref().map_or(KeyKind::Int64, ClassLabels::kind);
    if let Some(name) = &model.list_output {
        named(&interface.outputs, name, |kind| matches!(kind, FeatureKind::Sequence(kind, _) if *kind == keys))?;
    }
    if let Some(name) = &model.score_output {
        named(&interface.outputs, name, |kind| *kind == FeatureKind::Dictionary(keys))?;
    }
    let given = [&model.list_output, &model.score_output];
    match interface.outputs.iter().find(|output| !given.iter().any(|name| name.as_ref() == Some(&output.name))) {
        Some(output) => Err(format!("does not give the output {}", quote(&output.name))),
        None => Ok(()),
    }
}

/// The type of a category or of a sequence of them, and whether it is a sequence.
fn category(kind: &FeatureKind) -> Option<(KeyKind, bool)> {
    match kind {
        FeatureKind::String => Some((KeyKind::String, false)),
        FeatureKind::Int64 => Some((KeyKind::Int64, false)),
        FeatureKind::Sequence(kind, _) => Some((*kind, true)),
        _ => None,
    }
}

/// One array in, one array out.
fn arrays(interface: &Interface) -> Result<(), String> {
    let (input, output) = one_to_one(interface)?;
    match (&input.kind, &output.kind) {
        (FeatureKind::MultiArray(_), FeatureKind::MultiArray(_)) => Ok(()),
        (FeatureKind::MultiArray(_), _) => Err(unfit("output", output)),
        _ => Err(unfit("input", input)),
    }
}

fn one_to_one(interface: &Interface) -> Result<(&Feature, &Feature), String> {
    Ok((only(&interface.inputs, "input")?, only(&interface.outputs, "output")?))
}

fn only<'a>(features: &'a [Feature], role: &str) -> Result<&'a Feature, String> {
    match features {
        [feature] => Ok(feature),
        features => Err(format!("has {} {role}s, not 1", features.len())),
    }
}

fn named(features: &[Feature], name: &str, fits: impl Fn(&FeatureKind) -> bool) -> Result<(), String> {
    match features.iter().find(|feature| feature.name == name) {
        Some(feature) if fits(&feature.kind) => Ok(()),
        Some(feature) => Err(unfit("feature", feature)),
        None => Err(format!("names {}, which is not described", quote(name))),
    }
}

/// Whether an array may have so many elements.
fn length(feature: &Feature, kind: &ArrayKind, expected: usize) -> Result<(), String> {
    match elements(kind) {
        Some(count) if count != expected => {
            Err(format!("has {count} elements in {}, not {expected}", quote(&feature.name)))
        }
        _ => Ok(()),
    }
}

/// The number of elements of an array, where its shape is fixed and known.
fn elements(kind: &ArrayKind) -> Option<usize> {
    let known = kind.flexibility == ShapeFlexibility::Fixed && !kind.shape.is_empty();
    known.then(|| kind.shape.iter().product())
}

fn unfit(role: &str, feature: &Feature) -> String {
    format!("has the {role} {} of a kind that does not fit it", quote(&feature.name))
}
