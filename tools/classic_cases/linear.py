"""Generalised linear models."""

import numpy as np
from scipy.stats import norm

from .case import array, case, dictionary, double, int64, labels, model, string

rng = np.random.default_rng(1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def fill(message, weights, offset):
    for row in weights:
        message.weights.add().value.extend(row)
    message.offset.extend(offset)


for transform, link in (("NoTransform", lambda x: x), ("Logit", sigmoid), ("Probit", norm.cdf)):
    w, b = rng.normal(size=(1, 4)), rng.normal(size=1)
    # The order of inputs is that of the vector: a number, three elements of an array.
    spec = model([("n", double), ("x", array(3))], [("y", double)], predicted="y")
    spec.glmRegressor.postEvaluationTransform = spec.glmRegressor.PostEvaluationTransform.Value(transform)
    fill(spec.glmRegressor, w, b)
    runs = []
    for x in rng.normal(size=(4, 4)):
        runs.append(({"n": x[0], "x": x[1:]}, {"y": float(link(w @ x + b)[0])}))
    case("glmRegressor", transform.lower(), spec, *runs)

w, b = rng.normal(size=(3, 2)), rng.normal(size=3)
spec = model([("a", int64), ("b", double)], [("y", array(3))], predicted="y")
fill(spec.glmRegressor, w, b)
case("glmRegressor", "three_values", spec, *[({"a": 2, "b": x}, {"y": w @ [2, x] + b}) for x in (-1.5, 0.25)])


def classifier(kind, encoding, transform, classes, probabilities):
    """`probabilities` makes those of all classes from the value of each row."""
    count = len(classes)
    rows = 1 if count == 2 else count - (encoding == "ReferenceClass")
    w, b = rng.normal(size=(rows, 3)), rng.normal(size=rows)
    key = "string" if isinstance(classes[0], str) else "int64"
    label = string if key == "string" else int64
    spec = model([("x", array(3))], [("c", label), ("p", dictionary(key))], predicted="c", probabilities="p")
    glm = spec.glmClassifier
    glm.classEncoding = glm.ClassEncoding.Value(encoding)
    glm.postEvaluationTransform = glm.PostEvaluationTransform.Value(transform)
    fill(glm, w, b)
    labels(glm, classes)
    runs = []
    for x in rng.normal(size=(6, 3)):
        p = probabilities(w @ x + b)
        runs.append(({"x": x}, {"c": classes[int(np.argmax(p))], "p": dict(zip(classes, p))}))
    case("glmClassifier", kind, spec, *runs)


def two(link):
    return lambda v: np.array([1 - link(v)[0], link(v)[0]])


def reference(v):
    e = np.exp(np.concatenate([[0.0], v]))
    return e / e.sum()


classifier("two_reference_logit", "ReferenceClass", "Logit", ["no", "yes"], two(sigmoid))
classifier("two_one_vs_rest_logit", "OneVsRest", "Logit", [7, -3], two(sigmoid))
classifier("two_probit", "ReferenceClass", "Probit", [0, 1], two(norm.cdf))
classifier("four_reference", "ReferenceClass", "Logit", ["a", "b", "c", "d"], reference)
classifier("three_one_vs_rest", "OneVsRest", "Logit", [3, 2, 1], lambda v: sigmoid(v) / sigmoid(v).sum())
