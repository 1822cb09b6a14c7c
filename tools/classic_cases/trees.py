"""Tree ensembles."""

import numpy as np

from .case import array, case, dictionary, double, int64, labels, model, optional, string

rng = np.random.default_rng(3)
NAN = float("nan")
TESTS = {
    "BranchOnValueLessThanEqual": np.less_equal,
    "BranchOnValueLessThan": np.less,
    "BranchOnValueGreaterThanEqual": np.greater_equal,
    "BranchOnValueGreaterThan": np.greater,
    "BranchOnValueEqual": np.equal,
    "BranchOnValueNotEqual": np.not_equal,
}


def grow(depth, features, dimensions, tests):
    """A tree as nested tuples: a leaf's values by dimension, or a branch."""
    if depth == 0:
        chosen = rng.permutation(dimensions)[: rng.integers(1, dimensions + 1)]
        return {int(d): float(rng.normal()) for d in chosen}
    # Whole numbers, so that equality is met too.
    branch = (str(rng.choice(tests)), int(rng.integers(features)), float(rng.integers(-1, 2)), bool(rng.integers(2)))
    return (*branch, grow(depth - 1, features, dimensions, tests), grow(depth - 1, features, dimensions, tests))


def add(ensemble, tree_id, tree, ids):
    """Adds a tree with ids in no particular order; gives the id of its root."""
    node = ensemble.nodes.add()
    node.treeId, node.nodeId = tree_id, ids.pop()
    kinds = node.TreeNodeBehavior
    if isinstance(tree, dict):
        node.nodeBehavior = kinds.Value("LeafNode")
        for index, value in tree.items():
            info = node.evaluationInfo.add()
            info.evaluationIndex, info.evaluationValue = index, value
        return node.nodeId
    test, feature, value, missing, on_true, on_false = tree
    node.nodeBehavior = kinds.Value(test)
    node.branchFeatureIndex, node.branchFeatureValue = feature, value
    node.missingValueTracksTrueChild = missing
    node.trueChildNodeId = add(ensemble, tree_id, on_true, ids)
    node.falseChildNodeId = add(ensemble, tree_id, on_false, ids)
    return node.nodeId


def walk(tree, x):
    while not isinstance(tree, dict):
        test, feature, value, missing, on_true, on_false = tree
        holds = missing if np.isnan(x[feature]) else TESTS[test](x[feature], value)
        tree = on_true if holds else on_false
    return tree


def total(trees, base, x):
    sums = np.array(base, dtype=float)
    for tree in trees:
        for index, value in walk(tree, x).items():
            sums[index] += value
    return sums


def ensemble(message, trees, base):
    message.numPredictionDimensions = len(base)
    message.basePredictionValue.extend(base)
    for tree_id, tree in enumerate(trees):
        add(message, tree_id * 3, tree, [int(i) for i in rng.permutation(100)])


def samples(count, features):
    x = rng.integers(-2, 3, size=(count, features)).astype(float)
    x[rng.random(x.shape) < 0.15] = NAN
    return x


def softmax(v):
    e = np.exp(v - v.max())
    return e / e.sum()


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def zero_class(v):
    return softmax(np.concatenate([[0.0], v[1:]]))


for test in TESTS:
    trees = [grow(3, 3, 1, [test]) for _ in range(4)]
    spec = model([("x", array(3))], [("y", double)], predicted="y")
    ensemble(spec.treeEnsembleRegressor.treeEnsemble, trees, [0.5])
    runs = [({"x": x}, {"y": total(trees, [0.5], x)[0]}) for x in samples(12, 3)]
    case("treeEnsembleRegressor", test.removeprefix("BranchOn").lower(), spec, *runs)

trees, base = [grow(2, 4, 3, list(TESTS)) for _ in range(5)], [0.1, 0.2, -0.3]
spec = model([("a", int64), ("b", optional(double)), ("x", array(2))], [("y", array(3))], predicted="y")
spec.treeEnsembleRegressor.postEvaluationTransform = 2
ensemble(spec.treeEnsembleRegressor.treeEnsemble, trees, base)
runs = []
for x in samples(12, 4):
    x[0] = 1.0 if np.isnan(x[0]) else x[0]
    inputs = {"a": int(x[0]), "b": x[1], "x": x[2:]}
    if np.isnan(x[1]):
        del inputs["b"]
    runs.append((inputs, {"y": sigmoid(total(trees, base, x))}))
case("treeEnsembleRegressor", "left_out_logistic_three_values", spec, *runs)


def classifier(name, classes, dimensions, transform, probabilities):
    trees, base = [grow(3, 3, dimensions, list(TESTS)) for _ in range(6)], list(rng.normal(size=dimensions))
    key = "string" if isinstance(classes[0], str) else "int64"
    outputs = [("c", string if key == "string" else int64), ("p", dictionary(key))]
    spec = model([("x", array(3))], outputs, predicted="c", probabilities="p")
    tree = spec.treeEnsembleClassifier
    tree.postEvaluationTransform = transform
    ensemble(tree.treeEnsemble, trees, base)
    labels(tree, classes)
    runs = []
    for x in samples(12, 3):
        p = probabilities(total(trees, base, x))
        runs.append(({"x": x}, {"c": classes[int(np.argmax(p))], "p": dict(zip(classes, p))}))
    case("treeEnsembleClassifier", name, spec, *runs)


classifier("two_plain", [0, 1], 1, 0, lambda v: np.array([1 - v[0], v[0]]))
classifier("two_logistic", ["no", "yes"], 1, 2, lambda v: np.array([1 - sigmoid(v[0]), sigmoid(v[0])]))
classifier("two_zero_class_reference", [4, 2], 1, 3, lambda v: softmax(np.array([0.0, v[0]])))
classifier("three_plain", ["a", "b", "c"], 3, 0, lambda v: v)
classifier("three_softmax", ["a", "b", "c"], 3, 1, softmax)
classifier("three_logistic", [1, 2, 3], 3, 2, sigmoid)
classifier("three_zero_class_reference", [1, 2, 3], 3, 3, zero_class)
