"""Functions of one operand, and operations on two."""

from collections.abc import Callable

import numpy as np

from .elementwise import erf
from .network import Network, case


def function(layer: str, of: Callable, low: float = -3.0, high: float = 3.0) -> None:
    @case(layer, "rank4")
    def _(net: Network):
        x = net.given(net.rng.uniform(low, high, (2, 3, 2, 4)))
        net.add(layer, "x")
        return of(x)


function("ceil", np.ceil)
function("floor", np.floor)
function("exp2", np.exp2)
function("sin", np.sin)
function("cos", np.cos)
function("tan", np.tan, -1.2, 1.2)
function("asin", np.arcsin, -1, 1)
function("acos", np.arccos, -1, 1)
function("atan", np.arctan)
function("sinh", np.sinh)
function("cosh", np.cosh)
function("tanh", np.tanh)
function("asinh", np.arcsinh)
function("acosh", np.arccosh, 1, 6)
function("atanh", np.arctanh, -0.95, 0.95)
function("erf", erf)


@case("round", "halves")
def _(net: Network):
    # Halves go to the even neighbour.
    x = net.given([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, -0.6])
    net.add("round", "x")
    return np.round(x)


@case("sign", "zero")
def _(net: Network):
    x = net.given([[-2.5, 0.0, 3.0], [1e-3, -1e-3, 0.0]])
    net.add("sign", "x")
    return np.sign(x)


@case("logicalNot", "anything_but_zero_is_true")
def _(net: Network):
    x = net.given([[0.0, 0.5, 1.0], [-2.0, 0.0, 3.0]])
    net.add("logicalNot", "x")
    return (x == 0).astype(np.float64)


# The numbers of the enum `Operation` of `UnaryFunctionLayerParams`.
UNARY = {
    "sqrt": (0, lambda x, alpha, epsilon: np.sqrt(x)),
    "rsqrt": (1, lambda x, alpha, epsilon: 1 / np.sqrt(x + epsilon)),
    "inverse": (2, lambda x, alpha, epsilon: 1 / (x + epsilon)),
    "power": (3, lambda x, alpha, epsilon: x**alpha),
    "exp": (4, lambda x, alpha, epsilon: np.exp(x)),
    "log": (5, lambda x, alpha, epsilon: np.log(x + epsilon)),
    "abs": (6, lambda x, alpha, epsilon: np.abs(x)),
    "threshold": (7, lambda x, alpha, epsilon: np.maximum(x, alpha)),
}


def unary(name: str) -> None:
    number, of = UNARY[name]

    @case("unary", name)
    def _(net: Network):
        x = net.given(net.rng.uniform(0.1, 3, (2, 3, 4)))
        net.add("unary", "x", type=number, alpha=1.5)
        return of(x, 1.5, 1e-6)

    @case("unary", f"{name}_scaled_legacy", legacy=True)
    def _(net: Network):
        x = net.given(net.rng.uniform(0.1, 3, (2, 3, 4)))
        net.add("unary", "x", type=number, alpha=2.5, epsilon=0.25, scale=2.0, shift=0.5)
        return of(2 * x + 0.5, 2.5, 0.25)


for name in UNARY:
    unary(name)


@case("unary", "zeros_stand_for_defaults")
def _(net: Network):
    x = net.given([0.0, 1e-6, 2.0])
    net.add("unary", "x", type=2)
    return 1 / (x + np.float32(1e-6))


def operation(layer: str, of: Callable, low: float = -3.0) -> None:
    @case(layer, "same_rank")
    def _(net: Network):
        x = net.given(net.rng.uniform(low, 3, (2, 1, 4)))
        y = net.given(net.rng.uniform(0.5, 3, (2, 3, 1)), name="y")
        net.add(layer, "x y")
        return of(x, y).astype(np.float64)

    @case(layer, "other_ranks")
    def _(net: Network):
        x = net.given(net.rng.uniform(low, 3, 3))
        y = net.given(net.rng.uniform(0.5, 3, (1, 2, 2, 1, 3)), name="y")
        net.add(layer, "x y")
        return of(x, y).astype(np.float64)


operation("modBroadcastable", np.mod)
operation("minBroadcastable", np.minimum)
operation("maxBroadcastable", np.maximum)
operation("powBroadcastable", np.power, 0.1)
operation("divideBroadcastable", np.divide)
operation("floorDivBroadcastable", np.floor_divide)
operation("subtractBroadcastable", np.subtract)


def logic(layer: str, of: Callable) -> None:
    @case(layer, "anything_but_zero_is_true")
    def _(net: Network):
        x, y = net.given([0.0, 0.0, 0.5, -2.0]), net.given([[0.0], [3.0], [-0.25]], name="y")
        net.add(layer, "x y")
        return of(x != 0, y != 0).astype(np.float64)


logic("logicalAnd", np.logical_and)
logic("logicalOr", np.logical_or)
logic("logicalXor", np.logical_xor)


def comparison(layer: str, of: Callable) -> None:
    @case(layer, "two")
    def _(net: Network):
        x = net.given(net.rng.integers(-2, 3, (2, 3, 4)))
        y = net.given(net.rng.integers(-2, 3, (3, 1)), name="y")
        net.add(layer, "x y")
        return of(x, y).astype(np.float64)

    @case(layer, "alpha")
    def _(net: Network):
        x = net.given(net.rng.integers(-2, 3, (3, 4)))
        net.add(layer, "x", alpha=1.0)
        return of(x, 1).astype(np.float64)


comparison("equal", np.equal)
comparison("notEqual", np.not_equal)
comparison("lessThan", np.less)
comparison("lessEqual", np.less_equal)
comparison("greaterThan", np.greater)
comparison("greaterEqual", np.greater_equal)


@case("whereBroadcastable", "ranks")
def _(net: Network):
    condition = net.given([[1.0], [0.0], [0.5]], name="condition")
    x, y = net.array(2, 3, 4), net.array(4, name="y")
    net.add("whereBroadcastable", "condition x y")
    return np.where(condition != 0, x, y)


@case("clip", "both_sides")
def _(net: Network):
    x = net.array(2, 3, 4)
    net.add("clip", "x", minVal=-0.5, maxVal=0.75)
    return np.clip(x, -0.5, 0.75)


def clamped(name: str, alpha: float, beta: float) -> None:
    @case("clampedReLU", name)
    def _(net: Network):
        x = net.given(np.arange(-5.0, 6.0))
        net.add("clampedReLU", "x", alpha=alpha, beta=beta)
        return np.minimum(beta, np.where(x >= 0, x, alpha * x))


clamped("plain", 0.0, 3.0)
clamped("negative_slope", -0.5, 2.0)
clamped("negative_limit", 2.0, -4.0)


def fold_all(layer: str, of: Callable) -> None:
    @case(layer, "two")
    def _(net: Network):
        x, y = net.array(2, 3, 4, 5), net.array(2, 3, 4, 5, name="y")
        net.add(layer, "x y")
        return of([x, y])

    @case(layer, "three_legacy", legacy=True)
    def _(net: Network):
        x, y, z = (net.array(2, 3, 4, name=name) for name in ("x", "y", "z"))
        net.add(layer, "x y z")
        return of([x, y, z])

    @case(layer, "one_a_channel")
    def _(net: Network):
        x, y = net.array(2, 3, 4, 5), net.array(2, 3, 1, 1, name="y")
        net.add(layer, "x y")
        return of(np.broadcast_arrays(x, y))


fold_all("average", lambda parts: sum(parts) / len(parts))
fold_all("max", lambda parts: np.max(parts, 0))
fold_all("min", lambda parts: np.min(parts, 0))


def bias(name: str, shape: tuple[int, ...], legacy: bool = False) -> None:
    @case("bias", name, legacy=legacy)
    def _(net: Network):
        x, b = net.array(3, 2, 4), net.normal(*shape)
        net.add("bias", "x", shape=list(shape), bias=b)
        return x + (b.reshape(-1, 1, 1) if len(shape) == 1 else b)


bias("one", (1,))
bias("one_a_channel_legacy", (3,), legacy=True)
bias("one_a_pixel", (1, 2, 4))
bias("one_an_element", (3, 2, 4))
