"""What no single layer does: images and their preprocessing, classifiers, regressors, declared outputs."""

from typing import Any

import coremltools as ct
import numpy as np
from op_cases.convolution import conv

from .elementwise import softmax
from .network import Network, case

RELU = {"name": "relu", "non_linearity": "RELU", "output_name": "out"}


def scaled(name: str, color: str, order: tuple[str, ...], **options: Any) -> None:
    biases = {"red": -123.5, "green": -116.25, "blue": -103.0, "gray": -99.5}

    @case("network", name, **options)
    def _(net: Network):
        x = net.image(4, 5, color)
        net.builder.add_activation(**RELU, input_name="image")
        scaler = net.builder.nn_spec.preprocessing.add(featureName="image").scaler
        scaler.channelScale = 0.5
        scaler.redBias, scaler.greenBias, scaler.blueBias = biases["red"], biases["green"], biases["blue"]
        scaler.grayBias = biases["gray"]
        bias = np.array([biases[channel] for channel in order]).reshape(-1, 1, 1)
        result = np.maximum(0.5 * x + bias, 0)
        return result[0] if options.get("legacy") else result


scaled("image_rgb", "RGB", ("red", "green", "blue"))
scaled("image_bgr", "BGR", ("blue", "green", "red"))
scaled("image_gray", "GRAYSCALE", ("gray",))
scaled("image_legacy", "RGB", ("red", "green", "blue"), legacy=True)


@case("network", "image_without_preprocessing")
def _(net: Network):
    x = net.image(4, 5, "RGB")
    net.builder.add_activation("linear", "LINEAR", "image", "out", [1.0, 1.0])
    return x + 1


@case("network", "image_mean", legacy=True)
def _(net: Network):
    x, mean = net.image(4, 5, "BGR"), net.normal(3, 4, 5) * 50 + 100
    mean = mean.astype(np.float32).astype(np.float64)
    net.builder.add_activation(**RELU, input_name="image")
    net.builder.nn_spec.preprocessing.add(featureName="image").meanImage.meanImage.extend(mean.flatten())
    return np.maximum(x - mean, 0)[0]


@case("network", "image_preprocessing_without_name")
def _(net: Network):
    x, y = net.image(4, 5, "RGB"), net.array(3, 1, 1, name="y")
    net.builder.add_add_broadcastable("sum", ["image", "y"], "out")
    net.builder.nn_spec.preprocessing.add().scaler.channelScale = 0.25
    return 0.25 * x + y


@case("network", "image_into_convolution", legacy=True)
def _(net: Network):
    x, w = net.image(6, 6, "RGB"), net.normal(2, 3, 3, 3)
    weight = w.transpose(2, 3, 1, 0)
    net.builder.add_convolution(
        "conv", 3, 2, 3, 3, 1, 1, "valid", 1, weight, None, False, input_name="image", output_name="conv"
    )
    net.builder.add_activation(**RELU, input_name="conv")
    net.builder.nn_spec.preprocessing.add(featureName="image").scaler.channelScale = 1 / 256
    return np.maximum(conv(x / 256, w), 0)[0]


@case("network", "image_output")
def _(net: Network):
    x = net.image(4, 5, "RGB")
    net.builder.add_activation("linear", "LINEAR", "image", "out", [-1.0, 255.0])
    image = net.spec.description.output[0].type.imageType
    image.width, image.height = 5, 4
    image.colorSpace = ct.proto.FeatureTypes_pb2.ImageFeatureType.ColorSpace.Value("RGB")
    return (255 - x)[0].transpose(1, 2, 0).astype(np.uint8)


def classified(name: str, labels: list[Any], blob: str, **options: Any) -> None:
    @case("network", name, mode="classifier", **options)
    def _(net: Network):
        x, w = net.array(4), net.normal(3, 4)
        net.builder.add_inner_product("product", w, None, 4, 3, False, "x", "scores")
        net.builder.add_softmax_nd("softmax", "scores", "out", -1)
        net.builder.set_class_labels(labels, "label", blob)
        scores = w @ x
        # The blob has the probabilities; the output that shows them has a name of its own.
        shown = scores if blob == "scores" else softmax(scores, 0)
        return {"label": np.array([labels[int(shown.argmax())]]), "out": shown}


classified("classifier", ["cat", "dog", "eel"], "out")
classified("classifier_of_numbers", [10, 20, 30], "out")
classified("classifier_by_another_blob", ["cat", "dog", "eel"], "scores")


@case("network", "classifier_legacy", mode="classifier", legacy=True)
def _(net: Network):
    x, w = net.array(4), net.normal(3, 4)
    net.builder.add_inner_product("product", w, None, 4, 3, False, "x", "scores")
    net.builder.add_softmax("softmax", "scores", "out")
    # Without a name, the scores are the last layer's output.
    net.builder.set_class_labels(["cat", "dog", "eel"], "label", "out")
    net.builder.nn_spec.labelProbabilityLayerName = ""
    shown = softmax(w @ x, 0)
    return {"label": np.array([["cat", "dog", "eel"][int(shown.argmax())]]), "out": shown}


@case("network", "regressor", mode="regressor")
def _(net: Network):
    x, w = net.array(4), net.normal(1, 4)
    net.builder.add_inner_product("product", w, None, 4, 1, False, "x", "out")
    net.spec.description.predictedFeatureName = "out"
    net.spec.description.output[0].type.doubleType.SetInParent()
    return w @ x


@case("network", "regressor_by_last_layer", mode="regressor", legacy=True)
def _(net: Network):
    x, w = net.array(4), net.normal(2, 4)
    net.builder.add_inner_product("product", w, None, 4, 2, False, "x", "blob")
    net.spec.description.predictedFeatureName = "out"
    net.spec.description.output[0].type.multiArrayType.shape.append(2)
    return w @ x


@case("network", "declared_output_legacy", legacy=True)
def _(net: Network):
    x, w = net.array(3, 1, 1), net.normal(5, 3)
    net.builder.add_inner_product("product", w, None, 3, 5, False, "x", "out")
    net.spec.description.output[0].type.multiArrayType.shape.append(5)
    return w @ x.reshape(3)


@case("network", "declared_output_of_another_size", legacy=True)
def _(net: Network):
    # What the network computes is what counts.
    x, w = net.array(1, 2, 2), net.normal(1, 1, 2, 2)
    weight = w.transpose(2, 3, 1, 0)
    net.builder.add_convolution(
        "conv", 1, 1, 2, 2, 1, 1, "valid", 1, weight, None, False, input_name="x", output_name="out"
    )
    net.spec.description.output[0].type.multiArrayType.shape.extend([2, 1, 1])
    return (w[0, 0] * x[0]).sum().reshape(1, 1, 1)


@case("network", "output_named_as_the_input", outputs=("x",))
def _(net: Network):
    x = net.array(2, 3)
    net.builder.add_copy("copy", "x", "x")
    return x


@case("network", "int32_interface")
def _(net: Network):
    x = net.given(net.rng.integers(-5, 6, (2, 3)))
    net.builder.add_activation("relu", "RELU", "x", "out")
    for feature in (net.spec.description.input[0], net.spec.description.output[0]):
        feature.type.multiArrayType.dataType = ct.proto.FeatureTypes_pb2.ArrayFeatureType.INT32
    net.inputs["x"] = net.inputs["x"].astype(np.int32)
    return np.maximum(x, 0).astype(np.int32)


@case("network", "double_interface")
def _(net: Network):
    x = net.array(2, 3)
    net.builder.add_activation("relu", "RELU", "x", "out")
    for feature in (net.spec.description.input[0], net.spec.description.output[0]):
        feature.type.multiArrayType.dataType = ct.proto.FeatureTypes_pb2.ArrayFeatureType.DOUBLE
    return np.maximum(x, 0)


@case("network", "two_outputs", outputs=("out", "middle"))
def _(net: Network):
    x = net.array(2, 3)
    net.builder.add_activation("scale", "LINEAR", "x", "middle", [2.0, 1.0])
    net.builder.add_activation("relu", "RELU", "middle", "out")
    return {"out": np.maximum(2 * x + 1, 0), "middle": 2 * x + 1}


@case("network", "enumerated_shapes")
def _(net: Network):
    x = net.array(2, 3)
    net.builder.add_activation("relu", "RELU", "x", "out")
    shapes = net.spec.description.input[0].type.multiArrayType.enumeratedShapes
    for shape in [(2, 3), (4, 3)]:
        shapes.shapes.add(shape=shape)
    return np.maximum(x, 0)


@case("network", "residual_legacy", legacy=True)
def _(net: Network):
    x, w, b = net.array(2, 5, 5), net.normal(2, 2, 3, 3), net.normal(2)
    net.builder.add_convolution(
        "conv", 2, 2, 3, 3, 1, 1, "same", 1, w.transpose(2, 3, 1, 0), b, True, input_name="x", output_name="conv"
    )
    net.builder.add_activation("relu", "RELU", "conv", "relu")
    net.builder.add_elementwise("sum", ["relu", "x"], "sum", "ADD")
    net.builder.add_pooling("pool", 0, 0, 0, 0, "AVERAGE", "VALID", "sum", "pooled", is_global=True)
    net.builder.add_elementwise("gated", ["sum", "pooled"], "out", "MULTIPLY")
    total = np.maximum(conv(x[None], w, b, pad_type="same"), 0)[0] + x
    return total * total.mean((1, 2), keepdims=True)
