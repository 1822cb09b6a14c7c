//! The k-nearest-neighbours classifier.

use bytes::Bytes;

use super::{Label, labels, svm::bodies};
use crate::{
    pb::{self, classic as message},
    schema::ClassLabels,
};

/// A classifier by the labels of the nearest samples, by Euclidean distance.
#[derive(Clone, Debug, PartialEq)]
pub struct KNearestNeighborsClassifier {
    /// Numbers of each sample; at least one.
    pub dimensions: usize,
    /// One sample after the other.
    pub samples: Vec<f32>,
    /// The label of each sample.
    pub labels: ClassLabels,
    /// The label where there are no samples. It is of the same kind as the others.
    pub default: Option<Label>,
    /// How many samples are asked; at least one.
    pub neighbors: usize,
    /// How their labels are weighted.
    pub weighting: Weighting,
    /// How they are found, which does not change what is found.
    pub index: NeighborIndex,
}

/// How the labels of neighbours are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// All alike.
    Uniform,
    /// By 1 / distance.
    InverseDistance,
}

/// How neighbours are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborIndex {
    /// By looking at each sample.
    Linear,
    /// With a k-d tree.
    KdTree {
        /// Samples in a leaf of the tree; at least one.
        leaf_size: usize,
    },
}

impl KNearestNeighborsClassifier {
    /// Every label once, sorted; the default one where there are no samples.
    pub fn classes(&self) -> ClassLabels {
        let mut classes = self.labels.clone();
        match (&mut classes, &self.default) {
            (ClassLabels::Strings(labels), Some(Label::String(label))) if labels.is_empty() => {
                labels.push(label.clone());
            }
            (ClassLabels::Int64s(labels), Some(Label::Int64(label))) if labels.is_empty() => labels.push(*label),
            (ClassLabels::Strings(labels), _) => {
                labels.sort();
                labels.dedup();
            }
            (ClassLabels::Int64s(labels), _) => {
                labels.sort();
                labels.dedup();
            }
        }
        classes
    }
}

pub(super) fn read(body: Bytes) -> Result<KNearestNeighborsClassifier, String> {
    let model: message::KNearestNeighborsClassifier = pb::decode(body, "it")?;
    let found: message::NearestNeighborsIndex = pb::decode(model.nearest_neighbors_index.clone(), "its index")?;
    let dimensions = usize::try_from(found.number_of_dimensions).unwrap_or(0);
    if dimensions == 0 {
        return Err(format!("has samples of {} dimensions", found.number_of_dimensions));
    }
    let mut samples = Vec::new();
    for sample in bodies(model.nearest_neighbors_index, 2) {
        let sample: message::FloatVector = pb::decode(sample?, "a sample")?;
        if sample.vector.len() != dimensions {
            return Err(format!("has a sample of {} numbers, and {dimensions} dimensions", sample.vector.len()));
        }
        samples.extend(sample.vector);
    }
    let default = model.default_label.map(|label| match label {
        message::DefaultLabel::String(label) => Label::String(label),
        message::DefaultLabel::Int64(label) => Label::Int64(label),
    });
    let labels = match (labels::given(model.labels), &default) {
        (Some(labels), _) => labels,
        (None, Some(Label::String(_))) => ClassLabels::Strings(Vec::new()),
        (None, Some(Label::Int64(_))) => ClassLabels::Int64s(Vec::new()),
        (None, None) => return Err("has neither labels nor a default label".to_owned()),
    };
    match (&labels, &default) {
        (ClassLabels::Strings(_), Some(Label::Int64(_))) | (ClassLabels::Int64s(_), Some(Label::String(_))) => {
            return Err("has a default label of another kind than its labels".to_owned());
        }
        _ => {}
    }
    if labels.len() != samples.len() / dimensions {
        return Err(format!("has {} labels for {} samples", labels.len(), samples.len() / dimensions));
    }
    let asked = model.number_of_neighbors.unwrap_or_default().default_value;
    let neighbors = usize::try_from(asked).ok().filter(|&count| count > 0);
    let neighbors = neighbors.ok_or_else(|| format!("asks {asked} neighbours"))?;
    found.squared_euclidean_distance.ok_or("has no distance function")?;
    let weighting = match model.weighting.ok_or("does not say how neighbours are weighted")? {
        message::Weighting::Uniform(_) => Weighting::Uniform,
        message::Weighting::InverseDistance(_) => Weighting::InverseDistance,
    };
    let index = match found.index_type.ok_or("has no type of index")? {
        message::IndexType::Linear(_) => NeighborIndex::Linear,
        message::IndexType::SingleKdTree(tree) => match usize::try_from(tree.leaf_size) {
            Ok(leaf_size @ 1..) => NeighborIndex::KdTree { leaf_size },
            _ => return Err(format!("has a tree with leaves of {} samples", tree.leaf_size)),
        },
    };
    Ok(KNearestNeighborsClassifier { dimensions, samples, labels, default, neighbors, weighting, index })
}
