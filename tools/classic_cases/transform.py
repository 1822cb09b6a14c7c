"""Models that make features of features."""

import numpy as np

from .case import FLOAT32, INT32, array, case, dictionary, double, int64, model, optional, sequence, string

NAN = float("nan")

# One-hot encoders.
WORDS, NUMBERS = ["red", "green", "blue"], [10, -5, 7, 0]


def one_hot(name, categories, sparse, ignore, runs):
    words = isinstance(categories[0], str)
    output = dictionary("int64") if sparse else array(len(categories))
    spec = model([("x", string if words else int64)], [("y", output)])
    encoder = spec.oneHotEncoder
    (encoder.stringCategories if words else encoder.int64Categories).vector.extend(categories)
    encoder.outputSparse, encoder.handleUnknown = sparse, int(ignore)
    case("oneHotEncoder", name, spec, *[({"x": x}, {"y": y}) for x, y in runs])


one_hot("words", WORDS, False, False, [(w, np.eye(3)[i]) for i, w in enumerate(WORDS)])
one_hot("numbers_ignore", NUMBERS, False, True, [(7, np.eye(4)[2]), (8, np.zeros(4))])
one_hot("words_sparse", WORDS, True, True, [("blue", {2: 1.0}), ("pink", {})])
one_hot("numbers_sparse", NUMBERS, True, False, [(n, {i: 1.0}) for i, n in enumerate(NUMBERS)])


# Imputers.
def imputer(name, kind, set_, runs, out=None):
    spec = model([("x", optional(kind))], [("y", out or kind)])
    set_(spec.imputer)
    case("imputer", name, spec, *[({} if x is None else {"x": x}, {"y": y}) for x, y in runs])


def set_number(imputer):
    imputer.imputedDoubleValue, imputer.replaceDoubleValue = 7.5, -1.0


def set_nan(imputer):
    imputer.imputedDoubleArray.vector.extend([1.0, 2.0, 3.0])
    imputer.replaceDoubleValue = NAN


def set_number_in_array(imputer):
    imputer.imputedDoubleValue, imputer.replaceDoubleValue = 9.0, 0.0


def set_whole(imputer):
    imputer.imputedInt64Value, imputer.replaceInt64Value = 42, 0


def set_wholes(imputer):
    imputer.imputedInt64Array.vector.extend([5, 6])
    imputer.replaceInt64Value = -1


def set_word(imputer):
    imputer.imputedStringValue, imputer.replaceStringValue = "unknown", ""


def set_words(imputer):
    imputer.imputedStringDictionary.map["a"] = 1.5
    imputer.imputedStringDictionary.map["b"] = 2.5


imputer("number", double, set_number, [(-1.0, 7.5), (3.0, 3.0), (None, 7.5)])
imputer("array_nan", array(3), set_nan, [([NAN, 5.0, NAN], [1.0, 5.0, 3.0]), ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])])
imputer("array_number", array(2, dtype=FLOAT32), set_number_in_array, [([0.0, 1.5], [9.0, 1.5])])
imputer("integer", int64, set_whole, [(0, 42), (3, 3), (None, 42)])
imputer("integers", array(2, dtype=INT32), set_wholes, [([-1, -1], [5, 6]), ([1, -1], [1, 6])])
imputer("word", string, set_word, [("", "unknown"), ("x", "x"), (None, "unknown")])
imputer("dictionary", dictionary("string"), set_words, [({"b": 0.0, "c": 1.0}, {"a": 1.5, "b": 0.0, "c": 1.0})])

# Feature vectorisers: the order is that of the columns, not of the inputs.
spec = model(
    [("n", int64), ("d", double), ("v", array(2, 2, dtype=FLOAT32)), ("s", dictionary("int64"))], [("y", array(9))]
)
for name, size in (("v", 4), ("s", 3), ("n", 1), ("d", 1)):
    column = spec.featureVectorizer.inputList.add()
    column.inputColumn, column.inputDimensions = name, size
case(
    "featureVectorizer",
    "every_kind",
    spec,
    (
        {"n": -2, "d": 0.5, "v": [[1.0, 2.0], [3.0, 4.0]], "s": {2: 8.0, 0: 9.0}},
        {"y": [1.0, 2.0, 3.0, 4.0, 9.0, 0.0, 8.0, -2.0, 0.5]},
    ),
    ({"n": 0, "d": 0.0, "v": [[0.0, 0.0], [0.0, 1.0]], "s": {}}, {"y": [0, 0, 0, 1.0, 0, 0, 0, 0, 0]}),
)

# Dictionary vectorisers. Keys that it does not know are left out: coremltools' tests say so.
spec = model([("x", dictionary("string"))], [("y", dictionary("int64"))])
spec.dictVectorizer.stringToIndex.vector.extend(["a", "c", "b", "z"])
runs = [({"x": {"a": 4.0, "c": 8.0}}, {"y": {0: 4.0, 1: 8.0}}), ({"x": {"q": 1.0}}, {"y": {}})]
case("dictVectorizer", "words", spec, *runs)
spec = model([("x", dictionary("int64"))], [("y", array(3))])
spec.dictVectorizer.int64ToIndex.vector.extend([30, 10, 20])
case("dictVectorizer", "numbers_dense", spec, ({"x": {10: 1.5, 30: -2.0}}, {"y": [-2.0, 1.5, 0.0]}))


# Scalers.
def scaler(name, kind, shift, scale, runs, out=None):
    spec = model([("x", kind)], [("y", out or kind)])
    spec.scaler.shiftValue.extend(shift)
    spec.scaler.scaleValue.extend(scale)
    case("scaler", name, spec, *[({"x": x}, {"y": y}) for x, y in runs])


scaler("number", double, [1.0], [0.5], [(3.0, 2.0), (-1.0, 0.0)])
scaler("whole_to_number", int64, [], [0.5], [(3, 1.5)], out=double)
scaler("whole", int64, [-1.0], [3.0], [(3, 6)])
scaler("array", array(3), [1.0, 2.0, 3.0], [2.0, 0.5, -1.0], [([1.0, 2.0, 3.0], [4.0, 2.0, -6.0])])
scaler("array_one", array(2, dtype=FLOAT32), [0.25], [], [([1.0, -2.0], [1.25, -1.75])])
scaler("nothing", array(2), [], [], [([1.0, -2.0], [1.0, -2.0])])

# Normalisers. The largest element of an array, not its largest absolute value, is what the format's words say.
x = np.array([[3.0, -4.0, 1.0], [0.5, 0.25, 2.0], [0.0, 0.0, 0.0]])
for kind, norms in (("LMax", x.max(axis=1)), ("L1", np.abs(x).sum(axis=1)), ("L2", np.sqrt((x**2).sum(axis=1)))):
    spec = model([("x", array(3))], [("y", array(3))])
    spec.normalizer.normType = spec.normalizer.NormType.Value(kind)
    runs = [({"x": row}, {"y": row / (norm or 1.0)}) for row, norm in zip(x, norms)]
    case("normalizer", kind.lower(), spec, *runs)

# Extractors.
for name, indices, output, y in (
    ("number", [2], double, 7.5),
    ("whole", [1], int64, -3),
    ("array", [3, 0, 3], array(3), [4.0, 1.0, 4.0]),
):
    spec = model([("x", array(4))], [("y", output)])
    spec.arrayFeatureExtractor.extractIndex.extend(indices)
    case("arrayFeatureExtractor", name, spec, ({"x": [1.0, -3.0, 7.5, 4.0]}, {"y": y}))

# Mappings.
spec = model([("x", string)], [("y", int64)])
spec.categoricalMapping.stringToInt64Map.map.update({"a": 5, "b": -6})
spec.categoricalMapping.int64Value = 99
case("categoricalMapping", "words", spec, ({"x": "b"}, {"y": -6}), ({"x": "c"}, {"y": 99}))
spec = model([("x", sequence("int64"))], [("y", sequence("string"))])
spec.categoricalMapping.int64ToStringMap.map.update({1: "one", 2: "two"})
spec.categoricalMapping.strValue = "?"
case("categoricalMapping", "sequence", spec, ({"x": [2, 1, 3]}, {"y": ["two", "one", "?"]}), ({"x": []}, {"y": []}))

# What is given as it is, and marked as present.
spec = model([("a", string), ("b", array(2)), ("c", dictionary("int64"))], [("c", dictionary("int64")), ("a", string), ("b", array(2))])
spec.identity.SetInParent()
case("identity", "three", spec, *[({"a": "x", "b": [1.0, 2.0], "c": {3: 4.0}},) * 2])
spec = model([("x", array(3, dtype=FLOAT32))], [("y", array(2, 3, dtype=FLOAT32))], version=8)
spec.classConfidenceThresholding.precisionRecallCurves.add()
case("classConfidenceThresholding", "three", spec, ({"x": [0.5, 0.25, 0.0]}, {"y": [[0.5, 0.25, 0.0], [1, 1, 1]]}))
