//! Support vector machines, as libsvm defines them.

use coreml_format::classic::{Kernel, SupportVectorClassifier, SupportVectorRegressor, SupportVectors};

use crate::{Result, inputs::check_length, math::argmax};

/// The value of a regressor.
pub(crate) fn evaluate(model: &SupportVectorRegressor, x: &[f64]) -> Result<f64> {
    let values = kernels(model.kernel, &model.vectors, x)?;
    let sum: f64 = values.iter().zip(&model.coefficients).map(|(value, coefficient)| value * coefficient).sum();
    Ok(sum - model.rho)
}

/// The probability of each class, or its share of the votes where the model has no probabilities; and the place of the
/// best.
pub(crate) fn classify(model: &SupportVectorClassifier, x: &[f64]) -> Result<(Vec<f64>, usize)> {
    let decisions = decisions(model, &kernels(model.kernel, &model.vectors, x)?);
    let classes = model.per_class.len();
    let scores = match &model.platt {
        Some(platt) => {
            let pairs: Vec<f64> =
                decisions.iter().zip(platt).map(|(decision, (a, b))| platt_probability(*decision, *a, *b)).collect();
            coupled(classes, &pairs)
        }
        None => votes(classes, &decisions),
    };
    let winner = argmax(&scores);
    Ok((scores, winner))
}

/// The kernel of `x` with each support vector.
fn kernels(kernel: Kernel, vectors: &SupportVectors, x: &[f64]) -> Result<Vec<f64>> {
    match vectors {
        SupportVectors::Dense { dimensions, values } => {
            if !values.is_empty() {
                check_length(x.len(), *dimensions)?;
            }
            let dot = |vector: &[f64]| vector.iter().zip(x).map(|(a, b)| a * b).sum();
            let distance = |vector: &[f64]| vector.iter().zip(x).map(|(a, b)| (a - b) * (a - b)).sum();
            Ok(values.chunks_exact(*dimensions).map(|v| apply(kernel, || dot(v), || distance(v))).collect())
        }
        SupportVectors::Sparse { ends, nodes } => {
            let squares: f64 = x.iter().map(|x| x * x).sum();
            let at = |index: usize| x.get(index).copied().unwrap_or(0.0);
            let dot = |vector: &[(usize, f64)]| vector.iter().map(|(index, value)| value * at(*index)).sum();
            // Where the vector has nothing, the square of x is left; elsewhere it is replaced.
            let distance = |vector: &[(usize, f64)]| {
                let differs = |(index, value): &(usize, f64)| {
                    let x = at(*index);
                    (value - x) * (value - x) - x * x
                };
                f64::max(squares + vector.iter().map(differs).sum::<f64>(), 0.0)
            };
            let mut start = 0;
            let mut each = |end: &usize| {
                let vector = &nodes[start..*end];
                start = *end;
                apply(kernel, || dot(vector), || distance(vector))
            };
            Ok(ends.iter().map(&mut each).collect())
        }
    }
}

fn apply(kernel: Kernel, dot: impl Fn() -> f64, squared_distance: impl Fn() -> f64) -> f64 {
    match kernel {
        Kernel::Linear => dot(),
        Kernel::Rbf { gamma } => (-gamma * squared_distance()).exp(),
        Kernel::Poly { degree, c, gamma } => (gamma * dot() + c).powi(degree),
        Kernel::Sigmoid { gamma, c } => (gamma * dot() + c).tanh(),
    }
}

/// One number for each pair of classes; above 0 where the first of them is preferred.
fn decisions(model: &SupportVectorClassifier, kernels: &[f64]) -> Vec<f64> {
    let mut starts = vec![0];
    for count in &model.per_class {
        starts.push(starts[starts.len() - 1] + count);
    }
    let part = |row: usize, class: usize| -> f64 {
        let range = starts[class]..starts[class + 1];
        model.coefficients[row][range.clone()].iter().zip(&kernels[range]).map(|(a, b)| a * b).sum()
    };
    let pairs = pairs(model.per_class.len());
    pairs.zip(&model.rho).map(|((i, j), rho)| part(j - 1, i) + part(i, j) - rho).collect()
}

/// (0, 1), (0, 2), ..., (1, 2), ...
fn pairs(classes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..classes).flat_map(move |i| (i + 1..classes).map(move |j| (i, j)))
}

fn votes(classes: usize, decisions: &[f64]) -> Vec<f64> {
    let mut votes = vec![0.0; classes];
    for ((i, j), decision) in pairs(classes).zip(decisions) {
        votes[if *decision > 0.0 { i } else { j }] += 1.0;
    }
    votes.iter().map(|votes| votes / decisions.len() as f64).collect()
}

/// Platt's probability that the first class of a pair is the right one, kept off 0 and 1 as libsvm keeps it.
fn platt_probability(decision: f64, a: f64, b: f64) -> f64 {
    const NEAREST: f64 = 1e-7;
    crate::math::sigmoid(-(decision * a + b)).clamp(NEAREST, 1.0 - NEAREST)
}

/// Probabilities of classes from those of pairs: the second method of Wu, Lin and Weng, "Probability Estimates for
/// Multi-class Classification by Pairwise Coupling" (JMLR 5, 2004), by its Algorithm 2. Ends where libsvm ends.
fn coupled(classes: usize, of_pairs: &[f64]) -> Vec<f64> {
    if let [first] = of_pairs {
        return vec![*first, 1.0 - first];
    }
    let mut r = vec![vec![0.0; classes]; classes];
    for ((i, j), probability) in pairs(classes).zip(of_pairs) {
        r[i][j] = *probability;
        r[j][i] = 1.0 - probability;
    }
    let q = |t: usize, j: usize| match t == j {
        true => (0..classes).filter(|&j| j != t).map(|j| r[j][t] * r[j][t]).sum(),
        false => -r[j][t] * r[t][j],
    };
    let q: Vec<Vec<f64>> = (0..classes).map(|t| (0..classes).map(|j| q(t, j)).collect()).collect();
    let (most, near) = (classes.max(100), 0.005 / classes as f64);
    let mut p = vec![1.0 / classes as f64; classes];
    for _ in 0..most {
        let mut qp: Vec<f64> = q.iter().map(|row| row.iter().zip(&p).map(|(q, p)| q * p).sum()).collect();
        let mut pqp: f64 = qp.iter().zip(&p).map(|(qp, p)| qp * p).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < near) {
            break;
        }
        for t in 0..classes {
            let step = (pqp - qp[t]) / q[t][t];
            p[t] += step;
            pqp = (pqp + step * (step * q[t][t] + 2.0 * qp[t])) / ((1.0 + step) * (1.0 + step));
            for j in 0..classes {
                qp[j] = (qp[j] + step * q[t][j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_and_sparse_agree() {
        let dense = SupportVectors::Dense { dimensions: 3, values: vec![1.0, 0.0, 2.0, 0.0, 0.0, 0.0] };
        let sparse = SupportVectors::Sparse { ends: vec![2, 2], nodes: vec![(0, 1.0), (2, 2.0)] };
        let x = [3.0, 5.0, 7.0];
        for (kernel, expected) in [
            (Kernel::Linear, [17.0, 0.0]),
            (Kernel::Rbf { gamma: 0.01 }, [(-0.54f64).exp(), (-0.83f64).exp()]),
            (Kernel::Poly { degree: 2, c: 1.0, gamma: 0.5 }, [90.25, 1.0]),
            (Kernel::Sigmoid { gamma: 0.1, c: -1.0 }, [0.7f64.tanh(), (-1.0f64).tanh()]),
        ] {
            for vectors in [&dense, &sparse] {
                let values = kernels(kernel, vectors, &x).unwrap();
                assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{kernel:?} {values:?}");
            }
        }
        assert!(kernels(Kernel::Linear, &dense, &[1.0]).is_err());
    }

    #[test]
    fn pairs_that_agree_are_coupled_exactly() {
        // Probabilities of 1/2, 1/3 and 1/6 make these of pairs.
        let p = coupled(3, &[0.6, 0.75, 2.0 / 3.0]);
        assert!(p.iter().zip([0.5, 1.0 / 3.0, 1.0 / 6.0]).all(|(a, b)| (a - b).abs() < 2e-2), "{p:?}");
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(coupled(2, &[0.7]), [0.7, 1.0 - 0.7]);
    }

    #[test]
    fn the_first_of_equal_votes_wins() {
        assert_eq!(votes(3, &[1.0, -1.0, 1.0]), [1.0 / 3.0; 3]);
        assert_eq!(votes(2, &[0.0]), [0.0, 1.0]);
    }
}
