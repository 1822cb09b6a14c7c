"""Support vector machines."""

import itertools

import numpy as np

from .case import array, case, double, int64, labels, model, string

rng = np.random.default_rng(2)

KERNELS = {
    "linear": (lambda k: k.linearKernel.SetInParent(), lambda a, b: a @ b),
    "rbf": (lambda k: setattr(k.rbfKernel, "gamma", 0.3), lambda a, b: np.exp(-0.3 * np.sum((a - b) ** 2))),
    "poly": (
        lambda k: (setattr(k.polyKernel, "degree", 3), setattr(k.polyKernel, "c", 0.5), setattr(k.polyKernel, "gamma", 0.7)),
        lambda a, b: (0.7 * a @ b + 0.5) ** 3,
    ),
    "sigmoid": (
        lambda k: (setattr(k.sigmoidKernel, "c", -0.2), setattr(k.sigmoidKernel, "gamma", 0.4)),
        lambda a, b: np.tanh(0.4 * a @ b - 0.2),
    ),
}


def add_vectors(svm, vectors, sparse):
    for vector in vectors:
        if not sparse:
            svm.denseSupportVectors.vectors.add().values.extend(vector)
            continue
        nodes = svm.sparseSupportVectors.vectors.add().nodes
        for index in np.flatnonzero(vector):
            node = nodes.add()
            node.index, node.value = int(index) + 1, vector[index]


for name, (declare, kernel) in KERNELS.items():
    for sparse in (False, True):
        vectors, alpha, rho = rng.normal(size=(5, 3)), rng.normal(size=5), 0.25
        vectors[rng.random(vectors.shape) < 0.3] = 0
        spec = model([("a", double), ("x", array(2))], [("y", double)], predicted="y")
        svm = spec.supportVectorRegressor
        declare(svm.kernel)
        add_vectors(svm, vectors, sparse)
        svm.coefficients.alpha.extend(alpha)
        svm.rho = rho
        runs = []
        for x in rng.normal(size=(4, 3)):
            y = sum(a * kernel(v, x) for a, v in zip(alpha, vectors)) - rho
            runs.append(({"a": x[0], "x": x[1:]}, {"y": float(y)}))
        case("supportVectorRegressor", f"{name}_{'sparse' if sparse else 'dense'}", spec, *runs)


def classifier(name, classes, per_class, kernel_name, sparse):
    """One against one, and the class with the most votes; the first of equals."""
    declare, kernel = KERNELS[kernel_name]
    count, total = len(classes), sum(per_class)
    vectors = rng.normal(size=(total, 3))
    coefficients, rho = rng.normal(size=(count - 1, total)), rng.normal(size=count * (count - 1) // 2)
    spec = model([("x", array(3))], [("c", string if isinstance(classes[0], str) else int64)], predicted="c")
    svm = spec.supportVectorClassifier
    declare(svm.kernel)
    add_vectors(svm, vectors, sparse)
    svm.numberOfSupportVectorsPerClass.extend(per_class)
    for row in coefficients:
        svm.coefficients.add().alpha.extend(row)
    svm.rho.extend(rho)
    labels(svm, classes)
    owner = np.repeat(np.arange(count), per_class)
    runs = []
    for x in rng.normal(size=(8, 3)):
        values, votes = np.array([kernel(v, x) for v in vectors]), np.zeros(count)
        for pair, (i, j) in enumerate(itertools.combinations(range(count), 2)):
            # libsvm keeps the coefficients of class i against class j in row j-1 and, for those of j, in row i.
            decision = coefficients[j - 1][owner == i] @ values[owner == i]
            decision += coefficients[i][owner == j] @ values[owner == j] - rho[pair]
            votes[i if decision > 0 else j] += 1
        runs.append(({"x": x}, {"c": classes[int(np.argmax(votes))]}))
    case("supportVectorClassifier", name, spec, *runs)


classifier("two_linear", ["no", "yes"], [2, 3], "linear", False)
classifier("two_rbf_sparse", [5, 9], [3, 2], "rbf", True)
classifier("four_poly", ["a", "b", "c", "d"], [2, 1, 3, 2], "poly", False)
