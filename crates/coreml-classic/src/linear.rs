//! Generalised linear models.

use coreml_format::classic::{ClassEncoding, GlmClassifier, GlmRegressor, Link};

use crate::{
    Result,
    inputs::check_length,
    math::{argmax, normal_cdf, share, sigmoid, softmax},
};

/// The values of a regressor.
pub(crate) fn evaluate(model: &GlmRegressor, x: &[f64]) -> Result<Vec<f64>> {
    Ok(rows(&model.weights, &model.offset, x)?.into_iter().map(|value| link(model.link, value)).collect())
}

/// The probability of each class, and the place of the best.
pub(crate) fn classify(model: &GlmClassifier, x: &[f64]) -> Result<(Vec<f64>, usize)> {
    let mut values = rows(&model.weights, &model.offset, x)?;
    if let [value] = values[..] {
        let second = link(model.link, value);
        // At the border the second class wins, as in trees.
        return Ok((vec![1.0 - second, second], usize::from(second >= 0.5)));
    }
    match model.encoding {
        ClassEncoding::ReferenceClass => {
            values.insert(0, 0.0);
            softmax(&mut values);
            let winner = argmax(&values);
            Ok((values, winner))
        }
        ClassEncoding::OneVsRest => {
            // Values tell more than their links where all of those are 0 or 1.
            let winner = argmax(&values);
            values.iter_mut().for_each(|value| *value = link(model.link, *value));
            share(&mut values);
            Ok((values, winner))
        }
    }
}

fn rows(weights: &[Vec<f64>], offset: &[f64], x: &[f64]) -> Result<Vec<f64>> {
    check_length(x.len(), weights[0].len())?;
    let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
    Ok(weights.iter().zip(offset).map(|(row, offset)| dot(row) + offset).collect())
}

fn link(link: Link, value: f64) -> f64 {
    match link {
        Link::Identity => value,
        Link::Logit => sigmoid(value),
        Link::Probit => normal_cdf(value),
    }
}

#[cfg(test)]
mod tests {
    use coreml_format::schema::ClassLabels;

    use super::*;

    fn check(link: Link, encoding: ClassEncoding, offset: &[f64], expected: &[f64], winner: usize) {
        let weights = vec![vec![1.0, -1.0]; offset.len()];
        let labels = ClassLabels::Int64s((0..expected.len() as i64).collect());
        let model = GlmClassifier { weights, offset: offset.to_vec(), link, encoding, labels };
        let (scores, best) = classify(&model, &[2.0, 2.0]).unwrap();
        assert!(scores.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{scores:?}");
        assert_eq!((scores.len(), best), (expected.len(), winner));
        assert!(classify(&model, &[1.0]).is_err());
    }

    #[test]
    fn encodings() {
        let ln3 = 3f64.ln();
        check(Link::Logit, ClassEncoding::OneVsRest, &[ln3], &[0.25, 0.75], 1);
        check(Link::Probit, ClassEncoding::ReferenceClass, &[0.0], &[0.5, 0.5], 1);
        check(Link::Logit, ClassEncoding::ReferenceClass, &[ln3, 0.0], &[0.2, 0.6, 0.2], 1);
        check(Link::Logit, ClassEncoding::OneVsRest, &[ln3, 0.0, -ln3], &[0.5, 1.0 / 3.0, 1.0 / 6.0], 0);
    }

    #[test]
    fn links() {
        let model = |link| GlmRegressor { weights: vec![vec![2.0]], offset: vec![-2.0], link };
        for (link, expected) in [(Link::Identity, 0.0), (Link::Logit, 0.5), (Link::Probit, 0.5)] {
            assert_eq!(evaluate(&model(link), &[1.0]).unwrap(), [expected]);
        }
    }
}
