//! Tree ensembles.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{labels, svm::bodies};
use crate::{
    pb::{self, classic as message},
    schema::ClassLabels,
};

/// Values that an ensemble may give; what would be added up for each prediction.
const MOST_DIMENSIONS: u64 = 1 << 20;

/// A regressor of trees.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeEnsembleRegressor {
    /// The trees.
    pub trees: TreeEnsemble,
    /// What is done to their sum.
    pub transform: Transform,
}

/// A classifier of trees.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeEnsembleClassifier {
    /// The trees; of one dimension for two classes, or of one for each class.
    pub trees: TreeEnsemble,
    /// What is done to their sum.
    pub transform: Transform,
    /// Two labels or more.
    pub labels: ClassLabels,
}

/// Trees, each with one root, no cycle and no node that is not reached.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeEnsemble {
    /// All nodes. Children are places in this list.
    pub nodes: Vec<Node>,
    /// The root of each tree.
    pub roots: Vec<u32>,
    /// Values of all leaves: the dimension, and what is added there.
    pub values: Vec<(u32, f64)>,
    /// What the sum of each dimension begins with; at least one.
    pub base: Vec<f64>,
}

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node {
    /// Goes on at one of two nodes.
    Branch {
        /// The place of the feature in the input.
        feature: u32,
        /// How the feature is compared.
        test: Test,
        /// What it is compared with.
        value: f64,
        /// Where it goes on if the test holds.
        on_true: u32,
        /// Where it goes on if not.
        on_false: u32,
        /// Where it goes on for NaN: as if the test held?
        missing_is_true: bool,
    },
    /// Ends with the values from `first` to `end` of [`TreeEnsemble::values`].
    Leaf {
        /// The first value.
        first: u32,
        /// The one after the last.
        end: u32,
    },
}

/// How a branch compares the input's feature with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Test {
    LessThanEqual,
    LessThan,
    GreaterThanEqual,
    GreaterThan,
    Equal,
    NotEqual,
}

/// What is done to the sum of all trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    None,
    /// Softmax over all dimensions.
    Softmax,
    /// `1 / (1 + exp(-x))` of each dimension.
    Logistic,
    /// Softmax over all dimensions, the first of which counts as 0.
    SoftmaxWithZeroClassReference,
}

impl TreeEnsemble {
    /// The number of values that it gives.
    pub fn dimensions(&self) -> usize {
        self.base.len()
    }

    /// The largest place in the input that a branch looks at; `None` without branches.
    pub fn last_feature(&self) -> Option<usize> {
        let feature = |node: &Node| match node {
            Node::Branch { feature, .. } => Some(*feature as usize),
            Node::Leaf { .. } => None,
        };
        self.nodes.iter().filter_map(feature).max()
    }

    pub(super) fn parameters(&self) -> (usize, usize) {
        let branches = self.nodes.iter().filter(|node| matches!(node, Node::Branch { .. })).count();
        (branches + self.values.len(), size_of_val(&self.nodes[..]) + size_of_val(&self.values[..]))
    }

    pub(super) fn facts(&self) -> Vec<(&'static str, usize)> {
        vec![("trees", self.roots.len()), ("nodes", self.nodes.len())]
    }
}

pub(super) fn regressor(body: Bytes) -> Result<TreeEnsembleRegressor, String> {
    let model: message::TreeEnsemble = pb::decode(body, "it")?;
    Ok(TreeEnsembleRegressor {
        trees: trees(model.parameters)?,
        transform: transform(model.post_evaluation_transform)?,
    })
}

pub(super) fn classifier(body: Bytes) -> Result<TreeEnsembleClassifier, String> {
    let model: message::TreeEnsemble = pb::decode(body, "it")?;
    let trees = trees(model.parameters)?;
    let dimensions = trees.dimensions();
    let classes = if dimensions == 1 { 2 } else { dimensions };
    let labels = labels::given(model.labels).unwrap_or_else(|| labels::counted(classes));
    if labels.len() != classes {
        return Err(format!("gives {dimensions} values for {} classes", labels.len()));
    }
    Ok(TreeEnsembleClassifier { trees, transform: transform(model.post_evaluation_transform)?, labels })
}

fn transform(transform: i32) -> Result<Transform, String> {
    match transform {
        0 => Ok(Transform::None),
        1 => Ok(Transform::Softmax),
        2 => Ok(Transform::Logistic),
        3 => Ok(Transform::SoftmaxWithZeroClassReference),
        other => Err(format!("has unknown transform {other}")),
    }
}

fn trees(parameters: Bytes) -> Result<TreeEnsemble, String> {
    let found: message::TreeParameters = pb::decode(parameters.clone(), "its trees")?;
    let dimensions = match found.num_prediction_dimensions {
        0 => return Err("gives no values: numPredictionDimensions is 0".to_owned()),
        dimensions @ 1..=MOST_DIMENSIONS => dimensions as usize,
        dimensions => return Err(format!("gives {dimensions} values; {MOST_DIMENSIONS} is the most")),
    };
    let base = match found.base_prediction_value.len() {
        0 => vec![0.0; dimensions],
        len if len == dimensions => found.base_prediction_value,
        len => return Err(format!("begins with {len} values, and gives {dimensions}")),
    };
    let mut builder = Builder::default();
    for node in bodies(parameters, 1) {
        builder.add(pb::decode(node?, "a node")?, dimensions)?;
    }
    let (nodes, roots) = builder.link()?;
    Ok(TreeEnsemble { nodes, roots, values: builder.values, base })
}

/// Nodes as they stand in the file: children by id.
#[derive(Default)]
struct Builder {
    /// The place of each node, by tree and node id.
    places: BTreeMap<(u64, u64), u32>,
    nodes: Vec<Unlinked>,
    values: Vec<(u32, f64)>,
}

struct Unlinked {
    id: (u64, u64),
    node: Node,
    /// The ids of a branch's children: true, false.
    children: Option<[u64; 2]>,
}

impl Builder {
    fn add(&mut self, node: message::TreeNode, dimensions: usize) -> Result<(), String> {
        let id = (node.tree_id, node.node_id);
        let at = |reason: String| format!("tree {}, node {}: {reason}", id.0, id.1);
        let place = u32::try_from(self.nodes.len()).map_err(|_| "has too many nodes".to_owned())?;
        if self.places.insert(id, place).is_some() {
            return Err(at("is there twice".to_owned()));
        }
        let unlinked = match test(node.node_behavior).map_err(at)? {
            None => Unlinked { id, node: self.leaf(&node.evaluation_info, dimensions).map_err(at)?, children: None },
            Some(test) => {
                let feature = u32::try_from(node.branch_feature_index)
                    .map_err(|_| at(format!("looks at feature {}", node.branch_feature_index)))?;
                let node_itself = Node::Branch {
                    feature,
                    test,
                    value: node.branch_feature_value,
                    on_true: 0,
                    on_false: 0,
                    missing_is_true: node.missing_value_tracks_true_child,
                };
                let children = Some([node.true_child_node_id, node.false_child_node_id]);
                Unlinked { id, node: node_itself, children }
            }
        };
        self.nodes.push(unlinked);
        Ok(())
    }

    fn leaf(&mut self, values: &[message::EvaluationInfo], dimensions: usize) -> Result<Node, String> {
        if values.is_empty() {
            return Err("is a leaf without a value".to_owned());
        }
        let place = |len: usize| u32::try_from(len).map_err(|_| "has too many values".to_owned());
        let first = self.values.len();
        for value in values {
            if value.evaluation_index >= dimensions as u64 {
                let index = value.evaluation_index;
                return Err(format!("is a leaf with a value for dimension {index} of {dimensions}"));
            }
            self.values.push((value.evaluation_index as u32, value.evaluation_value));
        }
        self.values[first..].sort_by_key(|(dimension, _)| *dimension);
        if self.values[first..].windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err("is a leaf with two values for one dimension".to_owned());
        }
        Ok(Node::Leaf { first: place(first)?, end: place(self.values.len())? })
    }

    /// Nodes with children by place, and the root of each tree, in the order of their ids.
    fn link(&self) -> Result<(Vec<Node>, Vec<u32>), String> {
        let mut nodes: Vec<Node> = self.nodes.iter().map(|unlinked| unlinked.node).collect();
        let mut has_parent = vec![false; nodes.len()];
        for (node, unlinked) in nodes.iter_mut().zip(&self.nodes) {
            let Unlinked { id: (tree, id), children, .. } = unlinked;
            let (Node::Branch { on_true, on_false, .. }, Some(children)) = (node, children) else { continue };
            for (place, child) in [on_true, on_false].into_iter().zip(children) {
                let at = |reason: &str| format!("tree {tree}, node {id}: {reason}: node {child}");
                *place = *self.places.get(&(*tree, *child)).ok_or_else(|| at("goes on at a node that is not there"))?;
                if std::mem::replace(&mut has_parent[*place as usize], true) {
                    return Err(at("goes on at a node that another one goes on at, too"));
                }
            }
        }
        let mut roots: Vec<((u64, u64), u32)> = Vec::new();
        for (&id, &place) in self.places.iter().filter(|(_, place)| !has_parent[**place as usize]) {
            match roots.last() {
                Some((other, _)) if other.0 == id.0 => {
                    return Err(format!("tree {}: nodes {} and {} are both roots", id.0, other.1, id.1));
                }
                _ => roots.push((id, place)),
            }
        }
        let roots: Vec<u32> = roots.into_iter().map(|(_, place)| place).collect();
        // Every node has one parent at most, so what no root leads to goes round in a circle.
        let reached = reached(&nodes, &roots);
        if reached != nodes.len() {
            return Err(format!("has {} nodes that no root leads to", nodes.len() - reached));
        }
        Ok((nodes, roots))
    }
}

fn reached(nodes: &[Node], roots: &[u32]) -> usize {
    let mut open = roots.to_vec();
    let mut count = 0;
    while let Some(place) = open.pop() {
        count += 1;
        if let Node::Branch { on_true, on_false, .. } = nodes[place as usize] {
            open.extend([on_true, on_false]);
        }
    }
    count
}

/// The test of a branch; `None` for a leaf.
fn test(behavior: i32) -> Result<Option<Test>, String> {
    Ok(Some(match behavior {
        0 => Test::LessThanEqual,
        1 => Test::LessThan,
        2 => Test::GreaterThanEqual,
        3 => Test::GreaterThan,
        4 => Test::Equal,
        5 => Test::NotEqual,
        6 => return Ok(None),
        other => return Err(format!("has unknown behaviour {other}")),
    }))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Nodes as `tree.id:true/false` or `tree.id=dimension`.
    fn check(nodes: &[&str], dimensions: u64, expected: &str) {
        let id = |text: &str| text.parse::<u64>().unwrap();
        let mut bytes =
            message::TreeParameters { num_prediction_dimensions: dimensions, ..Default::default() }.encode_to_vec();
        for text in nodes {
            let (tree, rest) = text.split_once('.').unwrap();
            let node = match (rest.split_once(':'), rest.split_once('=')) {
                (Some((node, children)), _) => {
                    let (on_true, on_false) = children.split_once('/').unwrap();
                    message::TreeNode {
                        tree_id: id(tree),
                        node_id: id(node),
                        true_child_node_id: id(on_true),
                        false_child_node_id: id(on_false),
                        ..Default::default()
                    }
                }
                (None, leaf) => {
                    let (node, index) = leaf.unwrap_or((rest, ""));
                    let index = index.parse().ok();
                    let info =
                        index.map(|index| message::EvaluationInfo { evaluation_index: index, evaluation_value: 1.0 });
                    message::TreeNode {
                        tree_id: id(tree),
                        node_id: id(node),
                        node_behavior: 6,
                        evaluation_info: info.into_iter().collect(),
                        ..Default::default()
                    }
                }
            };
            let node = node.encode_to_vec();
            prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut bytes);
            prost::encoding::encode_varint(node.len() as u64, &mut bytes);
            bytes.extend(node);
        }
        let shown = match trees(bytes.into()) {
            Ok(trees) => format!("{} nodes, roots {:?}", trees.nodes.len(), trees.roots),
            Err(reason) => reason,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn trees_are_trees() {
        check(&[], 1, "0 nodes, roots []");
        check(&["0.0:1/2", "0.1=0", "0.2=0", "1.7=0"], 1, "4 nodes, roots [0, 3]");
        check(&["0.1=0", "0.1=0"], 1, "tree 0, node 1: is there twice");
        check(&["0.0:1/2", "0.1=0"], 1, "tree 0, node 0: goes on at a node that is not there: node 2");
        check(&["0.0:1/1", "0.1=0"], 1, "goes on at a node that another one goes on at, too: node 1");
        check(&["0.0:0/1", "0.1=0"], 1, "has 2 nodes that no root leads to");
        check(&["0.0=0", "0.1=0"], 1, "tree 0: nodes 0 and 1 are both roots");
        check(&["0.0"], 1, "is a leaf without a value");
        check(&["0.0=2"], 2, "a value for dimension 2 of 2");
        check(&["0.0=0"], 0, "gives no values");
        check(&["0.0=0"], u64::MAX, "is the most");
    }
}
