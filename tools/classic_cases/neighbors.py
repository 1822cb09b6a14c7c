"""The k-nearest-neighbours classifier."""

import numpy as np

from .case import FLOAT32, array, case, dictionary, int64, labels, model, string

rng = np.random.default_rng(4)


def classify(samples, names, k, inverse, x):
    """Shares of the sorted labels among the nearest samples; equal distances go by the order of the samples."""
    distances = ((samples.astype(np.float64) - x) ** 2).sum(axis=1)
    nearest = np.argsort(distances, kind="stable")[:k]
    weights = np.ones(len(nearest))
    if inverse:
        zero = distances[nearest] == 0
        weights = zero.astype(float) if zero.any() else 1 / distances[nearest]
    known = sorted(set(names))
    shares = np.array([sum(w for w, i in zip(weights, nearest) if names[i] == name) for name in known])
    return known, shares / shares.sum()


def add(name, classes, count, k, inverse, leaf_size):
    samples = rng.integers(0, 6, size=(count, 3)).astype(np.float32)
    names = [classes[i] for i in rng.integers(len(classes), size=count)]
    key = "string" if isinstance(classes[0], str) else "int64"
    outputs = [("c", string if key == "string" else int64), ("p", dictionary(key))]
    spec = model([("x", array(3, dtype=FLOAT32))], outputs, predicted="c", probabilities="p")
    knn = spec.kNearestNeighborsClassifier
    knn.numberOfNeighbors.defaultValue = k
    knn.numberOfNeighbors.range.minValue, knn.numberOfNeighbors.range.maxValue = 1, 100
    index = knn.nearestNeighborsIndex
    index.numberOfDimensions = 3
    for sample in samples:
        index.floatSamples.add().vector.extend(sample)
    index.squaredEuclideanDistance.SetInParent()
    if leaf_size:
        index.singleKdTreeIndex.leafSize = leaf_size
    else:
        index.linearIndex.SetInParent()
    (knn.inverseDistanceWeighting if inverse else knn.uniformWeighting).SetInParent()
    if count:
        labels(knn, names)
    if key == "string":
        knn.defaultStringLabel = classes[0]
    else:
        knn.defaultInt64Label = classes[0]
    runs = []
    for x in rng.integers(0, 6, size=(10, 3)).astype(float) + rng.choice([0.0, 0.25], size=(10, 1)):
        known, shares = classify(samples, names, k, inverse, x) if count else ([classes[0]], np.array([1.0]))
        runs.append(({"x": x}, {"c": known[int(np.argmax(shares))], "p": dict(zip(known, shares))}))
    case("kNearestNeighborsClassifier", name, spec, *runs)


add("linear_uniform", ["cat", "dog", "ant"], 40, 5, False, 0)
add("linear_inverse", [30, 10, 20], 40, 6, True, 0)
add("kd_tree_uniform", [1, 2, 3, 4], 200, 7, False, 4)
add("kd_tree_inverse", ["b", "a"], 60, 3, True, 1)
add("more_neighbours_than_samples", ["b", "a"], 4, 9, False, 2)
add("empty", ["none"], 0, 3, False, 2)
