//! The k-nearest-neighbours classifier.

use std::{cmp::Ordering, collections::BTreeMap};

use coreml_format::{
    classic::{KNearestNeighborsClassifier, Label, NeighborIndex, Weighting},
    schema::ClassLabels,
};

use crate::{
    Result,
    inputs::check_length,
    math::{argmax, share},
};

/// Samples, ready to be searched.
#[derive(Debug)]
pub(crate) struct Neighbors {
    model: KNearestNeighborsClassifier,
    /// Every label once, sorted.
    classes: ClassLabels,
    /// The place in `classes` of each sample's label.
    class_of: Vec<usize>,
    tree: Option<KdTree>,
}

impl Neighbors {
    pub(crate) fn new(model: KNearestNeighborsClassifier) -> Neighbors {
        let classes = model.classes();
        let places: BTreeMap<Label, usize> =
            (0..classes.len()).filter_map(|place| Some((classes.get(place)?, place))).collect();
        let labels = (0..model.labels.len()).filter_map(|sample| model.labels.get(sample));
        let class_of = labels.filter_map(|label| places.get(&label).copied()).collect();
        let tree = match model.index {
            NeighborIndex::Linear => None,
            NeighborIndex::KdTree { leaf_size } => Some(KdTree::new(&model.samples, model.dimensions, leaf_size)),
        };
        Neighbors { model, classes, class_of, tree }
    }

    pub(crate) fn classes(&self) -> &ClassLabels {
        &self.classes
    }

    /// The share of each class among the nearest samples, and the place of the largest.
    pub(crate) fn classify(&self, x: &[f64]) -> Result<(Vec<f64>, usize)> {
        check_length(x.len(), self.model.dimensions)?;
        let nearest = self.nearest(x);
        let mut shares = vec![0.0; self.classes.len()];
        if nearest.is_empty() {
            shares[0] = 1.0;
            return Ok((shares, 0));
        }
        // Samples at the very place would weigh without limit: then only they count.
        let at_place = nearest.first().is_some_and(|nearest| nearest.distance == 0.0);
        for Neighbor { distance, sample } in nearest {
            let weight = match self.model.weighting {
                Weighting::Uniform => 1.0,
                Weighting::InverseDistance if at_place => f64::from(u8::from(distance == 0.0)),
                // The only distance function that models have is the squared one.
                Weighting::InverseDistance => 1.0 / distance,
            };
            shares[self.class_of[sample]] += weight;
        }
        share(&mut shares);
        let winner = argmax(&shares);
        Ok((shares, winner))
    }

    /// The nearest samples, nearest first; of equals, those first that come first.
    fn nearest(&self, x: &[f64]) -> Vec<Neighbor> {
        let mut nearest = Nearest { samples: &self.model.samples, x, most: self.model.neighbors, found: Vec::new() };
        match &self.tree {
            Some(tree) => tree.search(tree.root, &mut nearest),
            None => (0..self.class_of.len()).for_each(|sample| nearest.add(sample)),
        }
        nearest.found
    }
}

/// A sample with its squared distance.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Neighbor {
    distance: f64,
    sample: usize,
}

impl Neighbor {
    fn order(&self, other: &Neighbor) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.sample.cmp(&other.sample))
    }
}

/// The nearest samples so far, in order.
struct Nearest<'a> {
    samples: &'a [f32],
    x: &'a [f64],
    most: usize,
    found: Vec<Neighbor>,
}

impl Nearest<'_> {
    fn add(&mut self, sample: usize) {
        let dimensions = self.x.len();
        let values = &self.samples[sample * dimensions..(sample + 1) * dimensions];
        let distance = values.iter().zip(self.x).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
        let new = Neighbor { distance, sample };
        let place = self.found.partition_point(|known| known.order(&new).is_lt());
        if place < self.most {
            self.found.truncate(self.most - 1);
            self.found.insert(place, new);
        }
    }

    /// Whether a sample at this distance or beyond could not be among the nearest.
    fn is_beyond(&self, distance: f64) -> bool {
        self.found.len() == self.most && self.found.last().is_some_and(|last| distance > last.distance)
    }
}

/// A tree that halves the samples at each node, along the dimension in which they are furthest apart.
#[derive(Debug)]
struct KdTree {
    /// Places of samples; those of a leaf are beside each other.
    order: Vec<usize>,
    nodes: Vec<KdNode>,
    root: usize,
}

#[derive(Clone, Copy, Debug)]
enum KdNode {
    Leaf { start: usize, end: usize },
    Split { dimension: usize, value: f64, below: usize, above: usize },
}

impl KdTree {
    fn new(samples: &[f32], dimensions: usize, leaf_size: usize) -> KdTree {
        let count = samples.len() / dimensions;
        let mut tree = KdTree { order: (0..count).collect(), nodes: Vec::new(), root: 0 };
        tree.root = tree.build(samples, dimensions, leaf_size, 0, count);
        tree
    }

    /// Adds a node for what lies in `order` from `start` to `end`, and gives its place. Halving bounds the depth.
    fn build(&mut self, samples: &[f32], dimensions: usize, leaf_size: usize, start: usize, end: usize) -> usize {
        let node = if end - start <= leaf_size {
            KdNode::Leaf { start, end }
        } else {
            let part = &mut self.order[start..end];
            let at = |sample: usize, dimension: usize| samples[sample * dimensions + dimension];
            let dimension = widest(part, dimensions, at);
            let middle = part.len() / 2;
            part.select_nth_unstable_by(middle, |a, b| at(*a, dimension).total_cmp(&at(*b, dimension)));
            let value = f64::from(at(part[middle], dimension));
            let below = self.build(samples, dimensions, leaf_size, start, start + middle);
            let above = self.build(samples, dimensions, leaf_size, start + middle, end);
            KdNode::Split { dimension, value, below, above }
        };
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn search(&self, node: usize, nearest: &mut Nearest<'_>) {
        match self.nodes[node] {
            KdNode::Leaf { start, end } => self.order[start..end].iter().for_each(|sample| nearest.add(*sample)),
            KdNode::Split { dimension, value, below, above } => {
                let apart = nearest.x[dimension] - value;
                let (near, far) = if apart < 0.0 { (below, above) } else { (above, below) };
                self.search(near, nearest);
                if !nearest.is_beyond(apart * apart) {
                    self.search(far, nearest);
                }
            }
        }
    }
}

/// The dimension in which samples are furthest apart.
fn widest(samples: &[usize], dimensions: usize, at: impl Fn(usize, usize) -> f32) -> usize {
    let spread = |dimension: usize| {
        let values = || samples.iter().map(|sample| at(*sample, dimension));
        f64::from(values().fold(f32::NEG_INFINITY, f32::max)) - f64::from(values().fold(f32::INFINITY, f32::min))
    };
    argmax(&(0..dimensions).map(spread).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(weighting: Weighting, index: NeighborIndex, neighbors: usize) -> KNearestNeighborsClassifier {
        KNearestNeighborsClassifier {
            dimensions: 1,
            samples: vec![0.0, 1.0, 3.0, 3.0],
            labels: ClassLabels::Strings(["b", "a", "b", "a"].map(str::to_owned).to_vec()),
            default: None,
            neighbors,
            weighting,
            index,
        }
    }

    #[test]
    fn votes_and_weights() {
        for index in [NeighborIndex::Linear, NeighborIndex::KdTree { leaf_size: 1 }] {
            let classify = |weighting, k, x: f64| Neighbors::new(model(weighting, index, k)).classify(&[x]).unwrap();
            assert_eq!(classify(Weighting::Uniform, 1, 0.25), (vec![0.0, 1.0], 1));
            assert_eq!(classify(Weighting::Uniform, 2, 0.5), (vec![0.5, 0.5], 0), "the first label of equals");
            assert_eq!(classify(Weighting::Uniform, 9, 0.0), (vec![0.5, 0.5], 0), "no more than there are");
            let (shares, winner) = classify(Weighting::InverseDistance, 2, 0.25);
            assert!((shares[0] - 0.1).abs() < 1e-12 && winner == 1, "{shares:?}");
            assert_eq!(classify(Weighting::InverseDistance, 4, 1.0), (vec![1.0, 0.0], 0), "only what is there");
            assert_eq!(classify(Weighting::Uniform, 3, 3.0), (vec![2.0 / 3.0, 1.0 / 3.0], 0));
        }
    }

    #[test]
    fn without_samples_the_default_is_given() {
        let labels = ClassLabels::Int64s(Vec::new());
        let model = KNearestNeighborsClassifier {
            samples: Vec::new(),
            labels,
            default: Some(Label::Int64(7)),
            ..model(Weighting::Uniform, NeighborIndex::KdTree { leaf_size: 1 }, 3)
        };
        let neighbors = Neighbors::new(model);
        assert_eq!((neighbors.classes().get(0), neighbors.classify(&[0.0]).unwrap().1), (Some(Label::Int64(7)), 0));
    }

    #[test]
    fn a_tree_finds_what_a_list_finds() {
        // Whole numbers, so that many distances are equal.
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 29) as f32
        };
        let samples: Vec<f32> = (0..600).map(|_| next()).collect();
        let labels = ClassLabels::Int64s((0..200).collect());
        let with = |index| {
            let model = model(Weighting::Uniform, index, 7);
            Neighbors::new(KNearestNeighborsClassifier {
                dimensions: 3,
                samples: samples.clone(),
                labels: labels.clone(),
                ..model
            })
        };
        let list = with(NeighborIndex::Linear);
        for leaf_size in [1, 3, 30, 1000] {
            let tree = with(NeighborIndex::KdTree { leaf_size });
            for _ in 0..100 {
                let x = [f64::from(next()), f64::from(next()), f64::from(next())];
                assert_eq!(tree.nearest(&x), list.nearest(&x), "{x:?}");
            }
        }
    }
}
