"""What becomes of Python's values, on the way in and out."""

import numpy as np
import pytest
from conftest import CLASSIC, op_model

import ane

TYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]


@pytest.fixture(scope="module")
def floats():
    model = op_model("relu/rank1", engine="rten")
    (feature,) = model.schema.inputs
    assert feature.dtype == "float32"
    return model, feature


def relu(floats, value):
    model, feature = floats
    (y,) = model.predict({feature.name: value}).values()
    return y


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_of_numbers_is_taken(floats, dtype):
    x = (np.arange(floats[1].shape[0]) % 2).astype(dtype)
    y = relu(floats, x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x.astype(np.float32))


def test_layouts_and_lists(floats):
    n = floats[1].shape[0]
    x = np.arange(n, dtype=np.float32)
    big_endian, strided, read_only = x.astype(">f4"), np.repeat(x, 2)[::2], x.copy()
    read_only.flags.writeable = False
    for value in (big_endian, strided, x[::-1][::-1], read_only, x.tolist(), tuple(x), [np.float64(v) for v in x]):
        np.testing.assert_array_equal(relu(floats, value), x)


def test_keys_may_be_numbers_where_words_are_declared():
    folder = CLASSIC / "trained" / "pipeline_of_numbers_as_keys"
    model = ane.Model(folder / "model.mlmodel")
    (feature,) = model.schema.inputs
    (label, _) = model.predict({feature.name: {3: 1, 17: 1.0}}).values()
    assert label in (0, 1)
    for wrong in ({3: "a"}, {None: 1}, [3]):
        with pytest.raises(ane.InvalidShape, match="takes a dict"):
            model.predict({feature.name: wrong})


def test_outputs_are_the_caller_s(floats):
    x = np.ones(floats[1].shape, np.float32)
    first = relu(floats, x)
    first[:] = 7
    assert relu(floats, x).max() == 1
    assert first.flags.writeable and first.flags.c_contiguous


def test_what_is_not_taken(floats):
    model, feature = floats
    n = feature.shape[0]
    for value, error in [
        (np.ones(n + 1), ane.InvalidShape),
        (np.ones((1, n)), ane.InvalidShape),
        (np.ones(n, complex), ane.UnsupportedPrecision),
        (np.full(n, 1e300), ane.UnsupportedPrecision),
        (np.array(["a"] * n), ane.InvalidShape),
        ([[1], [1, 2]], ane.InvalidShape),
        (object(), ane.InvalidShape),
        (None, ane.InvalidShape),
        ("text", ane.InvalidShape),
    ]:
        with pytest.raises(error, match=feature.name):
            model.predict({feature.name: value})
    with pytest.raises(ane.InvalidShape, match='there is no input "none"'):
        model.predict({feature.name: np.ones(n), "none": 1})
    with pytest.raises(ane.InvalidShape, match="is missing"):
        model.predict({})
    with pytest.raises(TypeError, match="inputs must be a dict"):
        model.predict(np.ones(n))
    with pytest.raises(TypeError):
        model.predict([np.ones(n)])
    with pytest.raises(TypeError):
        model.predict({1: np.ones(n)})


def test_whole_numbers_are_not_cut():
    model = op_model("while_loop/nested", engine="rten")
    x = np.ones(2, np.float32)
    names = {feature.dtype: feature.name for feature in model.schema.inputs}
    for n in (np.array([4]), [4], np.array([4], np.uint8), 4, np.int64(4), np.array([4], np.uint64)):
        (y,) = model.predict({names["float32"]: x, names["int32"]: n}).values()
        assert y.tolist() == [10, 10], n
    for n in ([4.0], [1 << 40], [1 << 63]):
        with pytest.raises(ane.UnsupportedPrecision):
            model.predict({names["float32"]: x, names["int32"]: n})


@pytest.mark.parametrize("case, label", [("strings", str), ("numbers", int)])
def test_classifiers(case, label):
    model = op_model(f"classify/{case}", engine="rten")
    inputs = {feature.name: np.zeros(feature.shape, feature.dtype) for feature in model.schema.inputs}
    outputs = model.predict(inputs)
    assert type(outputs[model.schema.predicted_feature]) is label
    scores = outputs[model.schema.predicted_probabilities]
    assert list(scores) == model.schema.class_labels
    assert all(type(key) is label and type(value) is float for key, value in scores.items())
