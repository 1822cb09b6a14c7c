"""Activations, sums, products and normalisations."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .network import Network, case

erf = np.vectorize(math.erf)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def activation(name: str, non_linearity: str, function: Callable, params: Any = None) -> None:
    @case("activation", name)
    def _(net: Network):
        x = net.array(2, 3, 2, 4)
        net.builder.add_activation("activation", non_linearity, "x", "out", params)
        return function(x)


activation("linear", "LINEAR", lambda x: 2.5 * x - 0.75, [2.5, -0.75])
activation("relu", "RELU", lambda x: np.maximum(x, 0))
activation("leaky_relu", "LEAKYRELU", lambda x: np.where(x >= 0, x, 0.3 * x), [0.3])
activation("tanh", "TANH", np.tanh)
activation("scaled_tanh", "SCALED_TANH", lambda x: 1.5 * np.tanh(0.7 * x), [1.5, 0.7])
activation("sigmoid", "SIGMOID", sigmoid)
activation("sigmoid_hard", "SIGMOID_HARD", lambda x: np.clip(0.4 * x + 0.3, 0, 1), [0.4, 0.3])
activation("elu", "ELU", lambda x: np.where(x >= 0, x, 0.6 * np.expm1(x)), 0.6)
activation("softsign", "SOFTSIGN", lambda x: x / (1 + np.abs(x)))
activation("softplus", "SOFTPLUS", lambda x: np.log1p(np.exp(x)))


@case("activation", "thresholded_relu")
def _(net: Network):
    # A value at the threshold is kept.
    x = net.given([-1.0, 0.0, 0.5, 0.75, 2.0])
    net.builder.add_activation("activation", "THRESHOLDEDRELU", "x", "out", 0.5)
    return np.where(x >= 0.5, x, 0)


@case("activation", "prelu")
def _(net: Network):
    x, alpha = net.array(2, 3, 2, 4), net.normal(3)
    net.builder.add_activation("activation", "PRELU", "x", "out", alpha)
    return np.where(x >= 0, x, alpha.reshape(3, 1, 1) * x)


@case("activation", "prelu_one_slope")
def _(net: Network):
    x = net.array(3, 2, 4)
    net.builder.add_activation("activation", "PRELU", "x", "out", np.array([0.25]))
    return np.where(x >= 0, x, 0.25 * x)


@case("activation", "prelu_rank5_float16")
def _(net: Network):
    x, alpha = net.array(2, 1, 3, 2, 4), net.normal(3)
    net.builder.add_activation("activation", "PRELU", "x", "out", alpha)
    return np.where(x >= 0, x, net.half(net.layer.PReLU.alpha, alpha).reshape(3, 1, 1) * x)


@case("activation", "prelu_legacy", legacy=True)
def _(net: Network):
    x, alpha = net.array(3), net.normal(3)
    net.builder.add_activation("activation", "PRELU", "x", "out", alpha)
    return np.where(x >= 0, x, alpha * x).reshape(3, 1, 1)


@case("activation", "parametric_softplus")
def _(net: Network):
    x, alpha, beta = net.array(2, 3, 2, 4), net.normal(3), net.normal(3)
    net.builder.add_activation("activation", "PARAMETRICSOFTPLUS", "x", "out", [alpha, beta])
    return alpha.reshape(3, 1, 1) * np.log1p(np.exp(beta.reshape(3, 1, 1) * x))


@case("activation", "parametric_softplus_one_beta")
def _(net: Network):
    x, alpha = net.array(3, 2, 4), net.normal(3)
    net.builder.add_activation("activation", "PARAMETRICSOFTPLUS", "x", "out", [alpha, np.array([0.5])])
    return alpha.reshape(3, 1, 1) * np.log1p(np.exp(0.5 * x))


def gelu(mode: str, function: Callable) -> None:
    @case("gelu", mode.lower())
    def _(net: Network):
        x = net.array(2, 3, 4)
        net.builder.add_gelu("gelu", "x", "out", mode)
        return function(x)


gelu("EXACT", lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))))
gelu("TANH_APPROXIMATION", lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
gelu("SIGMOID_APPROXIMATION", lambda x: x * sigmoid(1.702 * x))


# --- sums and products ------------------------------------------------------------------------------


def fold(layer: str, mode: str, function: Callable) -> None:
    @case(layer, "alpha")
    def _(net: Network):
        x = net.array(2, 3)
        net.builder.add_elementwise("fold", "x", "out", mode, alpha=1.25)
        return function(x, 1.25)

    @case(layer, "two")
    def _(net: Network):
        x, y = net.array(2, 3, 4, 5), net.array(2, 3, 4, 5, name="y")
        net.builder.add_elementwise("fold", ["x", "y"], "out", mode)
        return function(x, y)

    @case(layer, "three")
    def _(net: Network):
        x, y, z = net.array(2, 3), net.array(2, 3, name="y"), net.array(2, 3, name="z")
        net.builder.add_elementwise("fold", ["x", "y", "z"], "out", mode)
        return function(function(x, y), z)

    @case(layer, "one_a_channel")
    def _(net: Network):
        x, y = net.array(2, 3, 4, 5), net.array(2, 3, 1, 1, name="y")
        net.builder.add_elementwise("fold", ["x", "y"], "out", mode)
        return function(x, y)

    @case(layer, "one_a_pixel_first")
    def _(net: Network):
        x, y = net.array(2, 1, 4, 5), net.array(2, 3, 4, 5, name="y")
        net.builder.add_elementwise("fold", ["x", "y"], "out", mode)
        return function(x, y)

    @case(layer, "legacy", legacy=True)
    def _(net: Network):
        x, y = net.array(3, 4, 5), net.array(3, name="y")
        net.builder.add_elementwise("fold", ["x", "y"], "out", mode)
        return function(x, y.reshape(3, 1, 1))

    @case(f"{layer}Broadcastable", "ranks")
    def _(net: Network):
        x, y = net.array(4, 1), net.array(2, 3, 1, 5, name="y")
        getattr(net.builder, f"add_{layer}_broadcastable")("fold", ["x", "y"], "out")
        return function(x, y)

    @case(f"{layer}Broadcastable", "same")
    def _(net: Network):
        x, y = net.array(3), net.array(3, name="y")
        getattr(net.builder, f"add_{layer}_broadcastable")("fold", ["x", "y"], "out")
        return function(x, y)


def one_by_one(layer: str, verb: str, function: Callable, second: float) -> None:
    @case(layer, "one_in_more_dimensions")
    def _(net: Network):
        x, y = net.given([41.0, 123.0]), net.given([[[second]]], name="y")
        getattr(net.builder, f"add_{verb}_broadcastable")("fold", ["x", "y"], "out")
        return function(x, y)


one_by_one("divideBroadcastable", "divide", np.divide, 41.0)
one_by_one("floorDivBroadcastable", "floor_div", np.floor_divide, 41.0)
one_by_one("modBroadcastable", "mod", np.mod, 41.0)
one_by_one("powBroadcastable", "pow", np.power, 2.0)

fold("add", "ADD", np.add)
fold("multiply", "MULTIPLY", np.multiply)


def scale(name: str, shape_scale: tuple[int, ...], shape_bias: tuple[int, ...] | None, *shape: int) -> None:
    def spread(values: np.ndarray) -> np.ndarray:
        return values if values.ndim == 3 else values.reshape(-1, 1, 1)

    @case("scale", name)
    def _(net: Network):
        x, w = net.array(*shape), net.normal(*shape_scale)
        b = net.normal(*shape_bias) if shape_bias else None
        options = {"shape_scale": list(shape_scale), "shape_bias": list(shape_bias or [])}
        net.builder.add_scale("scale", w, b, b is not None, "x", "out", **options)
        return x * spread(w) + (0.0 if b is None else spread(b))


scale("one", (1,), None, 2, 3, 4, 5)
scale("one_a_channel", (3,), (3,), 2, 3, 4, 5)
scale("one_a_pixel", (1, 4, 5), (1,), 2, 3, 4, 5)
scale("every_element", (3, 4, 5), (3, 4, 5), 3, 4, 5)
scale("rank5", (3,), (1, 4, 5), 2, 2, 3, 4, 5)


@case("scale", "legacy", legacy=True)
def _(net: Network):
    x, w = net.array(3), net.normal(3)
    net.builder.add_scale("scale", w, None, False, "x", "out", shape_scale=[3])
    return (x * w).reshape(3, 1, 1)


@case("scale", "linear_8_bits")
def _(net: Network):
    x, w, b = net.array(3, 4, 5), net.normal(3, 4, 5), net.normal(3)
    net.builder.add_scale("scale", w, b, True, "x", "out", shape_scale=[3, 4, 5], shape_bias=[3])
    w = net.linear(net.layer.scale, w.shape, 8, 0)
    return x * w + net.half(net.layer.bias, b).reshape(3, 1, 1)


# --- normalisations ---------------------------------------------------------------------------------


def mvn(name: str, across: bool, variance: bool, epsilon: float, *shape: int) -> None:
    @case("mvn", name)
    def _(net: Network):
        x = net.array(*shape)
        net.builder.add_mvn("mvn", "x", "out", across, variance, epsilon)
        over = (-3, -2, -1) if across else (-2, -1)
        centred = x - x.mean(over, keepdims=True)
        used = epsilon or 1e-6
        return centred / np.sqrt(np.square(centred).mean(over, keepdims=True) + used) if variance else centred


mvn("mean", False, False, 1e-5, 2, 3, 4, 5)
mvn("mean_across_channels", True, False, 1e-5, 2, 3, 4, 5)
mvn("variance", False, True, 1e-5, 2, 3, 4, 5)
mvn("variance_across_channels", True, True, 0.01, 2, 3, 4, 5)
mvn("default_epsilon", False, True, 0.0, 3, 4, 5)
mvn("large_epsilon", False, True, 0.5, 3, 4, 5)
mvn("rank5", True, True, 1e-5, 2, 2, 3, 4, 5)


@case("mvn", "legacy", legacy=True)
def _(net: Network):
    x = net.array(3, 4, 5)
    net.builder.add_mvn("mvn", "x", "out", True, True, 1e-5)
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


@case("mvn", "flexible_size")
def _(net: Network):
    x = net.array(1, 3, 4, 5)
    net.builder.add_mvn("mvn", "x", "out", False, True, 1e-5)
    ranges = net.spec.description.input[0].type.multiArrayType.shapeRange
    for lower, upper in [(1, 1), (3, 3), (1, 20), (1, 20)]:
        ranges.sizeRanges.add(lowerBound=lower, upperBound=upper)
    return (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis, keepdims=True))
    return exponentials / exponentials.sum(axis, keepdims=True)


def over_channels(name: str, *shape: int, legacy: bool = False) -> None:
    @case("softmax", name, legacy=legacy)
    def _(net: Network):
        x = net.array(*shape)
        net.builder.add_softmax("softmax", "x", "out")
        return softmax(x.reshape(5, 1, 1) if len(shape) == 1 else x, -3)


over_channels("rank3", 3, 4, 5)
over_channels("rank4", 2, 3, 4, 5)
over_channels("rank5", 2, 2, 3, 4, 5)
over_channels("legacy", 5, legacy=True)


def over_axis(name: str, axis: int, *shape: int) -> None:
    @case("softmaxND", name)
    def _(net: Network):
        x = net.array(*shape)
        net.builder.add_softmax_nd("softmax", "x", "out", axis)
        return softmax(x, axis)


over_axis("rank1", 0, 7)
over_axis("last", -1, 3, 4)
over_axis("first", 0, 3, 4, 2)
over_axis("middle_of_rank5", 2, 2, 1, 3, 2, 2)


@case("softmaxND", "large_numbers")
def _(net: Network):
    x = net.given([[0.5, 0.5], [1e8, 1e8]])
    net.builder.add_softmax_nd("softmax", "x", "out", 0)
    return softmax(x, 0)
