//! Generalised linear models.

use bytes::Bytes;

use super::labels;
use crate::{
    pb::{
        self,
        classic::{self as message, Doubles},
    },
    schema::ClassLabels,
};

/// A generalised linear regressor: `link(weights * x + offset)` for each row of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct GlmRegressor {
    /// Rows of the same length, one for each value that it gives.
    pub weights: Vec<Vec<f64>>,
    /// One for each row.
    pub offset: Vec<f64>,
    /// What is done to each value.
    pub link: Link,
}

/// A generalised linear classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct GlmClassifier {
    /// Rows of the same length: one for two classes, else as many as the encoding asks for.
    pub weights: Vec<Vec<f64>>,
    /// One for each row.
    pub offset: Vec<f64>,
    /// Logit or probit; probit for two classes only.
    pub link: Link,
    /// How rows become classes, where there are more than two.
    pub encoding: ClassEncoding,
    /// Two labels or more.
    pub labels: ClassLabels,
}

/// What is done to a linear model's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing.
    Identity,
    /// `1 / (1 + exp(-x))`.
    Logit,
    /// The distribution function of the normal distribution.
    Probit,
}

/// How rows of weights become classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassEncoding {
    /// The first class has no row; its value is 0.
    ReferenceClass,
    /// Each class has a row of its own, and is compared with the others.
    OneVsRest,
}

pub(super) fn regressor(body: Bytes) -> Result<GlmRegressor, String> {
    let model: message::GlmRegressor = pb::decode(body, "it")?;
    let link = match model.post_evaluation_transform {
        0 => Link::Identity,
        1 => Link::Logit,
        2 => Link::Probit,
        other => return Err(format!("has unknown transform {other}")),
    };
    let weights = rows(model.weights, &model.offset)?;
    Ok(GlmRegressor { weights, offset: model.offset, link })
}

pub(super) fn classifier(body: Bytes) -> Result<GlmClassifier, String> {
    let model: message::GlmClassifier = pb::decode(body, "it")?;
    let link = match model.post_evaluation_transform {
        0 => Link::Logit,
        1 => Link::Probit,
        other => return Err(format!("has unknown transform {other}")),
    };
    let encoding = match model.class_encoding {
        0 => ClassEncoding::ReferenceClass,
        1 => ClassEncoding::OneVsRest,
        other => return Err(format!("has unknown class encoding {other}")),
    };
    let weights = rows(model.weights, &model.offset)?;
    let labels = labels::given(model.labels).unwrap_or_else(|| match (encoding, weights.len()) {
        (ClassEncoding::OneVsRest, rows @ 2..) => labels::counted(rows),
        (_, rows) => labels::counted(rows + 1),
    });
    let expected = match (encoding, labels.len()) {
        (_, 0 | 1) => return Err("has less than two classes".to_owned()),
        (ClassEncoding::OneVsRest, classes @ 3..) => classes,
        (_, classes) => classes - 1,
    };
    if weights.len() != expected {
        return Err(format!("has {} rows of weights for {} classes, not {expected}", weights.len(), labels.len()));
    }
    if link == Link::Probit && labels.len() > 2 {
        return Err(format!("has a probit transform for {} classes; it is for two", labels.len()));
    }
    Ok(GlmClassifier { weights, offset: model.offset, link, encoding, labels })
}

/// Rows of one length, as many as there are offsets, and at least one.
fn rows(weights: Vec<Doubles>, offset: &[f64]) -> Result<Vec<Vec<f64>>, String> {
    let rows: Vec<Vec<f64>> = weights.into_iter().map(|row| row.values).collect();
    if rows.len() != offset.len() {
        return Err(format!("has {} rows of weights and {} offsets", rows.len(), offset.len()));
    }
    let first = rows.first().ok_or("has no weights")?.len();
    if first == 0 {
        return Err("has an empty row of weights".to_owned());
    }
    match rows.iter().find(|row| row.len() != first) {
        Some(other) => Err(format!("has rows of {first} and of {} weights", other.len())),
        None => Ok(rows),
    }
}
