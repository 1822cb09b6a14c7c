//! Tree ensembles.

use coreml_format::classic::{Node, Test, Transform, TreeEnsemble};

use crate::{
    Result, fault,
    math::{argmax, sigmoid, softmax},
};

/// Trees with what is done to their sum.
#[derive(Debug)]
pub(crate) struct Trees {
    ensemble: TreeEnsemble,
    transform: Transform,
    /// Whether all values of branches are fp32 values. Then features are compared as fp32 values too, as whoever
    /// trained such trees did.
    single: bool,
    /// Numbers that it looks at.
    width: usize,
}

impl Trees {
    pub(crate) fn new(ensemble: TreeEnsemble, transform: Transform) -> Trees {
        let is_single = |node: &Node| match node {
            Node::Branch { value, .. } => f64::from(*value as f32) == *value || value.is_nan(),
            Node::Leaf { .. } => true,
        };
        let single = ensemble.nodes.iter().all(is_single);
        let width = ensemble.last_feature().map_or(0, |last| last + 1);
        Trees { ensemble, transform, single, width }
    }

    /// The value of each dimension.
    pub(crate) fn evaluate(&self, x: &[f64]) -> Result<Vec<f64>> {
        let mut values = self.sum(x)?;
        match self.transform {
            Transform::None => {}
            Transform::Softmax => softmax(&mut values),
            Transform::Logistic => values.iter_mut().for_each(|value| *value = sigmoid(*value)),
            Transform::SoftmaxWithZeroClassReference => {
                values[0] = 0.0;
                softmax(&mut values);
            }
        }
        Ok(values)
    }

    /// The score of each class, and the place of the best.
    pub(crate) fn classify(&self, x: &[f64]) -> Result<(Vec<f64>, usize)> {
        if self.ensemble.dimensions() > 1 {
            let scores = self.evaluate(x)?;
            let winner = argmax(&scores);
            return Ok((scores, winner));
        }
        let sum = self.sum(x)?[0];
        let second = match self.transform {
            Transform::None => sum,
            // A softmax of this value and 0.
            Transform::Softmax | Transform::Logistic | Transform::SoftmaxWithZeroClassReference => sigmoid(sum),
        };
        // coremltools takes a little off a leaf of exactly 0.5, so that the first class wins: at 0.5 the second one does.
        Ok((vec![1.0 - second, second], usize::from(second >= 0.5)))
    }

    fn sum(&self, x: &[f64]) -> Result<Vec<f64>> {
        if x.len() < self.width {
            return fault(format!("it takes {} numbers, and {} were given", self.width, x.len()));
        }
        let mut sum = self.ensemble.base.clone();
        for root in &self.ensemble.roots {
            let (first, end) = self.leaf(*root, x);
            for (dimension, value) in &self.ensemble.values[first as usize..end as usize] {
                sum[*dimension as usize] += value;
            }
        }
        Ok(sum)
    }

    /// The values of the leaf that a tree ends at.
    fn leaf(&self, root: u32, x: &[f64]) -> (u32, u32) {
        let mut place = root;
        loop {
            match self.ensemble.nodes[place as usize] {
                Node::Leaf { first, end } => return (first, end),
                Node::Branch { feature, test, value, on_true, on_false, missing_is_true } => {
                    let x = x[feature as usize];
                    let x = if self.single { f64::from(x as f32) } else { x };
                    let holds = if x.is_nan() { missing_is_true } else { holds(test, x, value) };
                    place = if holds { on_true } else { on_false };
                }
            }
        }
    }
}

fn holds(test: Test, x: f64, value: f64) -> bool {
    match test {
        Test::LessThanEqual => x <= value,
        Test::LessThan => x < value,
        Test::GreaterThanEqual => x >= value,
        Test::GreaterThan => x > value,
        Test::Equal => x == value,
        Test::NotEqual => x != value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree that gives 1 where the test of the feature with `value` holds, else 0.
    fn stump(test: Test, value: f64, missing_is_true: bool) -> TreeEnsemble {
        TreeEnsemble {
            nodes: vec![
                Node::Branch { feature: 0, test, value, on_true: 1, on_false: 2, missing_is_true },
                Node::Leaf { first: 0, end: 1 },
                Node::Leaf { first: 1, end: 2 },
            ],
            roots: vec![0],
            values: vec![(0, 1.0), (0, 0.0)],
            base: vec![0.0],
        }
    }

    #[test]
    fn tests_of_branches() {
        for (test, expected) in [
            (Test::LessThanEqual, [1.0, 1.0, 0.0]),
            (Test::LessThan, [1.0, 0.0, 0.0]),
            (Test::GreaterThanEqual, [0.0, 1.0, 1.0]),
            (Test::GreaterThan, [0.0, 0.0, 1.0]),
            (Test::Equal, [0.0, 1.0, 0.0]),
            (Test::NotEqual, [1.0, 0.0, 1.0]),
        ] {
            for missing in [false, true] {
                let trees = Trees::new(stump(test, 2.0, missing), Transform::None);
                let values = [1.0, 2.0, 3.0].map(|x| trees.evaluate(&[x]).unwrap()[0]);
                assert_eq!(values, expected, "{test:?}");
                assert_eq!(trees.evaluate(&[f64::NAN]).unwrap(), [f64::from(u8::from(missing))]);
            }
        }
    }

    #[test]
    fn features_are_compared_in_the_precision_of_the_trees() {
        let (single, above) = (f64::from(0.1f32), f64::from(0.1f32) + 1e-12);
        let trees = Trees::new(stump(Test::LessThanEqual, single, false), Transform::None);
        assert_eq!(trees.evaluate(&[above]).unwrap(), [1.0]);
        let trees = Trees::new(stump(Test::LessThanEqual, 0.1, false), Transform::None);
        assert_eq!(trees.evaluate(&[0.1 + 1e-12]).unwrap(), [0.0]);
    }

    #[test]
    fn transforms() {
        let ln3 = 3f64.ln();
        let leaves = |values: Vec<(u32, f64)>, dimensions| TreeEnsemble {
            nodes: vec![Node::Leaf { first: 0, end: values.len() as u32 }],
            roots: vec![0],
            values,
            base: vec![0.0; dimensions],
        };
        let check = |values: Vec<(u32, f64)>, dimensions, transform, expected: &[f64], winner| {
            let (scores, best) = Trees::new(leaves(values, dimensions), transform).classify(&[]).unwrap();
            assert!(scores.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{scores:?}");
            assert_eq!(best, winner);
        };
        check(vec![(0, 0.5)], 1, Transform::None, &[0.5, 0.5], 1);
        check(vec![(0, 0.25)], 1, Transform::None, &[0.75, 0.25], 0);
        check(vec![(0, -ln3)], 1, Transform::Logistic, &[0.75, 0.25], 0);
        check(vec![(0, ln3)], 1, Transform::SoftmaxWithZeroClassReference, &[0.25, 0.75], 1);
        check(vec![(1, ln3)], 3, Transform::Softmax, &[0.2, 0.6, 0.2], 1);
        check(vec![(0, 9.0), (1, ln3)], 3, Transform::SoftmaxWithZeroClassReference, &[0.2, 0.6, 0.2], 1);
        check(vec![(2, 7.0)], 3, Transform::None, &[0.0, 0.0, 7.0], 2);
    }

    #[test]
    fn short_inputs_are_an_error() {
        assert!(Trees::new(stump(Test::Equal, 0.0, false), Transform::None).evaluate(&[]).is_err());
    }
}
