"""Pipelines, with classic stages and with networks among them; and models that stand elsewhere."""

import shutil
import tempfile
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb

from .case import FLOAT32, array, case, dictionary, double, int64, labels, model, string

rng = np.random.default_rng(6)


def scaler(source, target, size, shift, scale):
    spec = model([(source, array(size))], [(target, array(size))])
    spec.scaler.shiftValue.extend(shift)
    spec.scaler.scaleValue.extend(scale)
    return spec


def vectorizer(columns, target, size):
    spec = model(columns, [(target, array(size))])
    for name, _ in columns:
        column = spec.featureVectorizer.inputList.add()
        column.inputColumn, column.inputDimensions = name, 1
    return spec


def linear(source, target, weights, offset):
    spec = model([(source, array(len(weights)))], [(target, double)], predicted=target)
    spec.glmRegressor.weights.add().value.extend(weights)
    spec.glmRegressor.offset.append(offset)
    return spec


# A regressor of numbers: vectorised, scaled under the same name, and added up.
weights, shift, scale = np.array([1.0, -2.0]), np.array([0.5, 1.0]), np.array([2.0, 3.0])
spec = model([("a", double), ("b", double)], [("y", double)], predicted="y")
for stage in (
    vectorizer([("a", double), ("b", double)], "v", 2),
    scaler("v", "v", 2, shift, scale),
    linear("v", "y", weights, 0.25),
):
    spec.pipelineRegressor.pipeline.models.add().CopyFrom(stage)
spec.pipelineRegressor.pipeline.names.extend(["vector", "scale", "sum"])
runs = []
for a, b in ((1.0, 2.0), (-0.5, 0.0)):
    runs.append(({"a": a, "b": b}, {"y": float(weights @ (scale * (np.array([a, b]) + shift)) + 0.25)}))
case("pipeline", "regressor", spec, *runs)

# A classifier in a pipeline in a pipeline.
inner = model([("v", array(2))], [("c", string), ("p", dictionary("string"))], predicted="c", probabilities="p")
stage = model([("w", array(2))], [("c", string), ("p", dictionary("string"))], predicted="c", probabilities="p")
stage.glmClassifier.weights.add().value.extend([3.0, -1.0])
stage.glmClassifier.offset.append(0.5)
labels(stage.glmClassifier, ["no", "yes"])
inner.pipelineClassifier.pipeline.models.add().CopyFrom(scaler("v", "w", 2, [0.0], [0.5]))
inner.pipelineClassifier.pipeline.models.add().CopyFrom(stage)
spec = model(
    [("a", double), ("b", double)],
    [("c", string), ("p", dictionary("string")), ("v", array(2))],
    predicted="c",
    probabilities="p",
)
spec.pipelineClassifier.pipeline.models.add().CopyFrom(vectorizer([("a", double), ("b", double)], "v", 2))
spec.pipelineClassifier.pipeline.models.add().CopyFrom(inner)
runs = []
for a, b in ((1.0, 2.0), (-1.0, 3.0)):
    yes = 1 / (1 + np.exp(-(0.5 * (3 * a - b) + 0.5)))
    expected = {"c": "yes" if yes > 0.5 else "no", "p": {"no": 1 - yes, "yes": yes}, "v": [a, b]}
    runs.append(({"a": a, "b": b}, expected))
case("pipeline", "nested_classifier", spec, *runs)


def program(source, target, weight):
    """An ML Program with a file of weights: `weight @ x`."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(weight.shape[1],))], opset_version=ct.target.iOS16)
    def prog(x):
        return mb.linear(x=x, weight=weight, name=target)

    made = ct.convert(
        prog, convert_to="mlprogram", compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS16
    )
    ct.utils.rename_feature(made._spec, "x", source)
    return made


# A network between classic stages, as a Program with weights in the package and as layers.
weight = rng.normal(size=(6, 4)).astype(np.float32)
x = rng.normal(size=(3, 4))
shift, scale = np.array([0.5]), np.array([-2.0])
y = np.float32(x * 1.5) @ weight.T
runs = [({"x": a}, {"z": scale * (b + shift)}) for a, b in zip(x, y)]


def with_network(stage, version):
    spec = model([("x", array(4))], [("z", array(6))], version=version)
    spec.pipeline.models.add().CopyFrom(scaler("x", "v", 4, [], [1.5]))
    spec.pipeline.models.add().CopyFrom(stage)
    spec.pipeline.models.add().CopyFrom(scaler("y", "z", 6, shift, scale))
    return spec


made = program("v", "y", weight)
folder = tempfile.mkdtemp()
shutil.copy(Path(made.weights_dir) / "weight.bin", Path(folder) / "1-weight.bin")
stage = made.get_spec()
for operation in stage.mlProgram.functions["main"].block_specializations["CoreML6"].operations:
    for value in operation.attributes.values():
        if value.WhichOneof("value") == "blobFileValue":
            value.blobFileValue.fileName = "@model_path/weights/1-weight.bin"
case("pipeline", "with_program", with_network(stage, 7), *runs, tolerance=1e-4, weights=folder)

builder = ct.models.neural_network.NeuralNetworkBuilder(
    [("v", ct.models.datatypes.Array(4))], [("y", ct.models.datatypes.Array(6))], disable_rank5_shape_mapping=True
)
builder.add_inner_product("product", weight, None, 4, 6, False, "v", "y")
case("pipeline", "with_layers", with_network(builder.spec, 4), *runs, tolerance=1e-4)

# A category becomes a number, and that a column of zeros with a one, which replaces it.
spec = model([("colour", string)], [("y", array(3))])
mapping = model([("colour", string)], [("x", int64)])
mapping.categoricalMapping.stringToInt64Map.map.update({"red": 4, "green": 5, "blue": 6})
encoder = model([("x", int64)], [("x", dictionary("int64"))])
encoder.oneHotEncoder.int64Categories.vector.extend([4, 5, 6])
encoder.oneHotEncoder.outputSparse = True
column = model([("x", dictionary("int64"))], [("y", array(3))])
entry = column.featureVectorizer.inputList.add()
entry.inputColumn, entry.inputDimensions = "x", 3
for stage in (mapping, encoder, column):
    spec.pipeline.models.add().CopyFrom(stage)
case("pipeline", "one_hot", spec, ({"colour": "green"}, {"y": [0, 1, 0]}), ({"colour": "blue"}, {"y": [0, 0, 1]}))

# A model in a file beside this one, and one whose type its identifier says.
linked = linear("x", "y", [2.0, 3.0], 1.0)
spec = model([("x", array(2))], [("y", double)], predicted="y")
spec.linkedModel.linkedModelFile.linkedModelFileName.defaultValue = "other.mlmodelc"
spec.linkedModel.linkedModelFile.linkedModelSearchPath.defaultValue = "elsewhere:parts"
run = ({"x": [1.0, -1.0]}, {"y": 0.0})
case("linkedModel", "beside", spec, run, beside={"parts/other.mlmodel": linked})
spec = model([("x", array(2))], [("y", double)], predicted="y")
spec.serializedModel.identifier = "CoreML.Specification.GLMRegressor"
spec.serializedModel.model = linked.glmRegressor.SerializeToString()
case("serializedModel", "linear", spec, run)
