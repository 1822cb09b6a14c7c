//! Support vector machines.

use bytes::Bytes;

use super::labels;
use crate::{
    pb::{self, Fields, classic as message},
    schema::ClassLabels,
};

/// A support vector regressor: the sum of `coefficient * kernel(x, vector)`, less `rho`.
#[derive(Clone, Debug, PartialEq)]
pub struct SupportVectorRegressor {
    /// The kernel.
    pub kernel: Kernel,
    /// The support vectors.
    pub vectors: SupportVectors,
    /// One for each vector.
    pub coefficients: Vec<f64>,
    /// The constant.
    pub rho: f64,
}

/// A support vector classifier: one decision for each pair of classes.
#[derive(Clone, Debug, PartialEq)]
pub struct SupportVectorClassifier {
    /// The kernel.
    pub kernel: Kernel,
    /// The support vectors, class after class.
    pub vectors: SupportVectors,
    /// The number of vectors of each class.
    pub per_class: Vec<usize>,
    /// One row less than there are classes, with a number for each vector.
    pub coefficients: Vec<Vec<f64>>,
    /// The constant of each pair of classes: (0, 1), (0, 2), ..., (1, 2), ...
    pub rho: Vec<f64>,
    /// Platt's A and B of each pair, where the model gives probabilities.
    pub platt: Option<Vec<(f64, f64)>>,
    /// Two labels or more.
    pub labels: ClassLabels,
}

/// A kernel, by the formula of its documentation.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "fields carry the names of SVM.proto, which documents them")]
pub enum Kernel {
    Linear,
    Rbf { gamma: f64 },
    Poly { degree: i32, c: f64, gamma: f64 },
    Sigmoid { gamma: f64, c: f64 },
}

/// Support vectors.
#[derive(Clone, Debug, PartialEq)]
pub enum SupportVectors {
    /// All of one length.
    Dense {
        /// Elements of each, at least one.
        dimensions: usize,
        /// One vector after the other.
        values: Vec<f64>,
    },
    /// What is not given is 0.
    Sparse {
        /// Where each vector ends in `nodes`.
        ends: Vec<usize>,
        /// Indices from 0 on, rising within a vector, and values.
        nodes: Vec<(usize, f64)>,
    },
}

impl SupportVectors {
    /// The number of vectors.
    pub fn len(&self) -> usize {
        match self {
            SupportVectors::Dense { dimensions, values } => values.len() / dimensions,
            SupportVectors::Sparse { ends, .. } => ends.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn parameters(&self) -> (usize, usize) {
        match self {
            SupportVectors::Dense { values, .. } => (values.len(), size_of_val(&values[..])),
            SupportVectors::Sparse { ends, nodes } => (nodes.len(), size_of_val(&nodes[..]) + size_of_val(&ends[..])),
        }
    }
}

pub(super) fn regressor(body: Bytes) -> Result<SupportVectorRegressor, String> {
    let model: message::SupportVectorRegressor = pb::decode(body, "it")?;
    let vectors = vectors(model.sparse, model.dense)?;
    let coefficients = model.coefficients.unwrap_or_default().values;
    if coefficients.len() != vectors.len() {
        return Err(format!("has {} coefficients for {} support vectors", coefficients.len(), vectors.len()));
    }
    Ok(SupportVectorRegressor { kernel: kernel(model.kernel)?, vectors, coefficients, rho: model.rho })
}

pub(super) fn classifier(body: Bytes) -> Result<SupportVectorClassifier, String> {
    let model: message::SupportVectorClassifier = pb::decode(body, "it")?;
    let vectors = vectors(model.sparse, model.dense)?;
    let labels = labels::given(model.labels).ok_or("has no class labels")?;
    let classes = labels.len();
    if classes < 2 {
        return Err("has less than two classes".to_owned());
    }
    // The numbers of classes and of pairs are bounded by what the file holds: each label stands in it.
    let pairs = classes.saturating_mul(classes - 1) / 2;
    let per_class: Option<Vec<usize>> =
        model.number_of_support_vectors_per_class.iter().map(|&count| usize::try_from(count).ok()).collect();
    let per_class = per_class.ok_or("has a negative number of support vectors of a class")?;
    let sum = per_class.iter().fold(0usize, |sum, &count| sum.saturating_add(count));
    if per_class.len() != classes || sum != vectors.len() {
        return Err(format!(
            "has {} numbers of support vectors with the sum {sum}, for {classes} classes and {} vectors",
            per_class.len(),
            vectors.len()
        ));
    }
    let coefficients: Vec<Vec<f64>> = model.coefficients.into_iter().map(|row| row.values).collect();
    if coefficients.len() != classes - 1 || coefficients.iter().any(|row| row.len() != vectors.len()) {
        return Err(format!(
            "has {} rows of coefficients, not {} with one for each of {} support vectors",
            coefficients.len(),
            classes - 1,
            vectors.len()
        ));
    }
    if model.rho.len() != pairs {
        return Err(format!("has {} values of rho for {pairs} pairs of classes", model.rho.len()));
    }
    let platt = match (model.prob_a.len(), model.prob_b.len()) {
        (0, 0) => None,
        (a, b) if a == pairs && b == pairs => Some(model.prob_a.into_iter().zip(model.prob_b).collect()),
        (a, b) => return Err(format!("has {a} values of probA and {b} of probB for {pairs} pairs of classes")),
    };
    let kernel = kernel(model.kernel)?;
    Ok(SupportVectorClassifier { kernel, vectors, per_class, coefficients, rho: model.rho, platt, labels })
}

fn kernel(kernel: Option<message::Kernel>) -> Result<Kernel, String> {
    let kernel = match kernel.and_then(|kernel| kernel.kind).ok_or("has no kernel")? {
        message::KernelKind::Linear(_) => Kernel::Linear,
        message::KernelKind::Rbf(k) => Kernel::Rbf { gamma: k.gamma },
        message::KernelKind::Poly(k) => Kernel::Poly { degree: k.degree, c: k.c, gamma: k.gamma },
        message::KernelKind::Sigmoid(k) => Kernel::Sigmoid { gamma: k.gamma, c: k.c },
    };
    match kernel {
        Kernel::Rbf { gamma } | Kernel::Poly { gamma, .. } | Kernel::Sigmoid { gamma, .. } if gamma < 0.0 => {
            Err(format!("has a kernel with the negative gamma {gamma}"))
        }
        Kernel::Poly { degree, .. } if degree < 0 => Err(format!("has a kernel of the negative degree {degree}")),
        other => Ok(other),
    }
}

fn vectors(sparse: Option<Bytes>, dense: Option<Bytes>) -> Result<SupportVectors, String> {
    match (sparse, dense) {
        (_, Some(all)) => dense_vectors(all),
        (Some(all), None) => sparse_vectors(all),
        (None, None) => Err("has no support vectors".to_owned()),
    }
}

fn dense_vectors(all: Bytes) -> Result<SupportVectors, String> {
    let mut values = Vec::new();
    let mut dimensions = None;
    for vector in bodies(all, 1) {
        let vector: message::Doubles = pb::decode(vector?, "a support vector")?;
        let expected = *dimensions.get_or_insert(vector.values.len());
        if vector.values.len() != expected || expected == 0 {
            return Err(format!("has support vectors of {expected} and of {} values", vector.values.len()));
        }
        values.extend(vector.values);
    }
    Ok(SupportVectors::Dense { dimensions: dimensions.unwrap_or(1), values })
}

fn sparse_vectors(all: Bytes) -> Result<SupportVectors, String> {
    let (mut ends, mut nodes) = (Vec::new(), Vec::<(usize, f64)>::new());
    for vector in bodies(all, 1) {
        let vector: message::SparseVector = pb::decode(vector?, "a support vector")?;
        let mut last = 0;
        for node in vector.nodes {
            // Files count from 1, as libsvm does.
            let index = usize::try_from(node.index).unwrap_or(0);
            if index <= last {
                return Err(format!("has the index {} after {last} in a support vector", node.index));
            }
            nodes.push((index - 1, node.value));
            last = index;
        }
        ends.push(nodes.len());
    }
    Ok(SupportVectors::Sparse { ends, nodes })
}

/// The content of each field with this number.
pub(super) fn bodies(message: Bytes, number: u32) -> impl Iterator<Item = Result<Bytes, String>> {
    Fields::new(message).filter_map(move |field| match field {
        Ok(field) if field.number == number => field.body.map(Ok),
        Ok(_) => None,
        Err(reason) => Some(Err(reason)),
    })
}
