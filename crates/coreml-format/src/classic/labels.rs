//! Class labels of classic classifiers.

use crate::{
    pb::nn::Labels,
    schema::{ClassLabels, KeyKind},
};

/// One class label, or one item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// A word.
    String(String),
    /// A number.
    Int64(i64),
}

impl ClassLabels {
    /// The label at this place, where there is one.
    pub fn get(&self, index: usize) -> Option<Label> {
        match self {
            ClassLabels::Strings(labels) => labels.get(index).cloned().map(Label::String),
            ClassLabels::Int64s(labels) => labels.get(index).copied().map(Label::Int64),
        }
    }

    /// Whether labels are words or numbers.
    pub fn kind(&self) -> KeyKind {
        match self {
            ClassLabels::Strings(_) => KeyKind::String,
            ClassLabels::Int64s(_) => KeyKind::Int64,
        }
    }
}

/// The labels that a model gives; `None` where it gives none, or an empty list.
pub(super) fn given(labels: Option<Labels>) -> Option<ClassLabels> {
    let labels = match labels? {
        Labels::Strings(labels) => ClassLabels::Strings(labels.vector),
        Labels::Int64s(labels) => ClassLabels::Int64s(labels.vector),
    };
    (!labels.is_empty()).then_some(labels)
}

/// 0, 1, 2, ... for a classifier that gives no labels.
pub(super) fn counted(classes: usize) -> ClassLabels {
    ClassLabels::Int64s((0..classes as i64).collect())
}
