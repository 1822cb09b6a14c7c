"""Activations and softmax."""

import numpy as np
from scipy.special import erf, expit

from .case import case, const, given, normal, uniform


def channels(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One value per channel, shaped to broadcast with x."""
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def clamped_relu(x, alpha, beta):
    return np.minimum(np.where(x >= 0, x, alpha * x), beta)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(x))


def gelu(x, mode="EXACT"):
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * expit(1.702 * x)
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def leaky_relu(x, alpha):
    return np.where(x >= 0, x, alpha * x)


def linear_activation(x, alpha, beta):
    return alpha * x + beta


def prelu(x, alpha):
    return np.where(x > 0, x, channels(alpha, x) * x)


def relu(x):
    return np.maximum(x, 0)


def relu6(x):
    return np.clip(x, 0, 6)


def scaled_tanh(x, alpha, beta):
    return alpha * np.tanh(beta * x)


def sigmoid(x):
    return expit(x)


def sigmoid_hard(x, alpha, beta):
    return np.clip(alpha * x + beta, 0, 1)


def silu(x):
    return x * expit(x)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def softplus(x):
    return np.logaddexp(0, x)


def softplus_parametric(x, alpha, beta):
    return channels(alpha, x) * np.logaddexp(0, channels(beta, x) * x)


def softsign(x):
    return x / (1 + np.abs(x))


def thresholded_relu(x, alpha):
    return np.where(x >= alpha, x, 0)


WIDE = uniform(-8, 8, 2, 3, 5)

CASES = [
    case("clamped_relu", "rank3", clamped_relu, x=WIDE, alpha=0.3, beta=4.0),
    case("clamped_relu", "negative_slope", clamped_relu, x=uniform(-8, 8, 11), alpha=-0.5, beta=2.5),
    case("clamped_relu", "ios17", clamped_relu, opset="iOS17", x=WIDE, alpha=0.3, beta=4.0),
    case("elu", "rank3", elu, x=WIDE, alpha=0.7),
    case("elu", "ios17", elu, opset="iOS17", x=uniform(-8, 8, 1, 2, 3, 1, 2), alpha=1.5),
    case("gelu", "defaults", gelu, bare=True, x=WIDE),
    case("gelu", "exact", gelu, x=WIDE, mode="EXACT"),
    case("gelu", "tanh", gelu, x=WIDE, mode="TANH_APPROXIMATION"),
    case("gelu", "sigmoid", gelu, x=WIDE, mode="SIGMOID_APPROXIMATION"),
    case("leaky_relu", "rank3", leaky_relu, x=WIDE, alpha=0.1),
    case("leaky_relu", "steep", leaky_relu, x=uniform(-3, 3, 7), alpha=1.5),
    case("leaky_relu", "ios17", leaky_relu, opset="iOS17", x=uniform(-3, 3, 1, 2, 2, 2, 2), alpha=0.25),
    case("linear_activation", "rank3", linear_activation, x=WIDE, alpha=-1.5, beta=0.25),
    case("linear_activation", "ios17", linear_activation, opset="iOS17", x=normal(5), alpha=2.0, beta=-1.0),
    case("prelu", "rank4", prelu, x=normal(2, 3, 4, 5), alpha=const(given([0.1, -0.4, 2.0]))),
    # Ranks 3 and 5 are documented, but only with one value for all channels.
    case("prelu", "rank3", prelu, x=normal(2, 3, 4), alpha=const(given([0.3, 0.3, 0.3]))),
    case("prelu", "rank5", prelu, x=normal(1, 2, 2, 3, 2), alpha=const(given([0.3, 0.3]))),
    case("prelu", "ios17", prelu, opset="iOS17", x=normal(1, 12, 2, 2), alpha=const(normal(12))),
    case("relu", "rank1", relu, x=normal(7)),
    case("relu", "rank5", relu, x=normal(1, 2, 3, 2, 2)),
    case("relu6", "rank4", relu6, x=uniform(-3, 9, 1, 3, 4, 2)),
    case("scaled_tanh", "rank3", scaled_tanh, x=WIDE, alpha=1.7, beta=0.4),
    case("scaled_tanh", "ios17", scaled_tanh, opset="iOS17", x=WIDE, alpha=-0.5, beta=2.0),
    case("sigmoid", "rank3", sigmoid, x=WIDE),
    case("sigmoid", "large", sigmoid, x=given([-100.0, -20.0, 0.0, 20.0, 100.0])),
    case("sigmoid_hard", "rank3", sigmoid_hard, x=WIDE, alpha=0.2, beta=0.6),
    case("sigmoid_hard", "falling", sigmoid_hard, x=WIDE, alpha=-0.3, beta=0.1),
    case("sigmoid_hard", "ios17", sigmoid_hard, opset="iOS17", x=WIDE, alpha=1 / 6, beta=0.5),
    case("silu", "rank3", silu, x=WIDE),
    case("silu", "rank1", silu, x=uniform(-8, 8, 9)),
    case("softmax", "defaults", softmax, bare=True, x=normal(2, 3, 5)),
    case("softmax", "axis_1", softmax, x=normal(2, 3, 5), axis=1),
    case("softmax", "axis_0_rank1", softmax, x=normal(6), axis=0),
    case("softmax", "axis_minus_2", softmax, x=normal(2, 3, 4, 5), axis=-2),
    case("softmax", "large_values", softmax, x=uniform(-500, 500, 3, 4), axis=-1),
    case("softplus", "rank3", softplus, x=WIDE),
    case("softplus", "large", softplus, x=given([-100.0, -20.0, 0.0, 20.0, 100.0])),
    case(
        "softplus_parametric",
        "rank4",
        softplus_parametric,
        x=normal(2, 3, 4, 5),
        alpha=const(uniform(0.5, 2, 3)),
        beta=const(uniform(-2, 2, 3)),
    ),
    case(
        "softplus_parametric",
        "rank3",
        softplus_parametric,
        opset="iOS17",
        x=normal(2, 4, 3),
        alpha=const(uniform(0.5, 2, 4)),
        beta=const(uniform(0.5, 2, 4)),
    ),
    case("softsign", "rank3", softsign, x=WIDE),
    case("thresholded_relu", "rank3", thresholded_relu, x=WIDE, alpha=1.5),
    case("thresholded_relu", "negative", thresholded_relu, x=WIDE, alpha=-2.0),
    # A value equal to alpha passes: the comparison is x >= alpha.
    case("thresholded_relu", "at_threshold", thresholded_relu, x=given([-1.0, 0.5, 1.0, 2.0]), alpha=1.0),
    case("thresholded_relu", "ios17", thresholded_relu, opset="iOS17", x=uniform(-3, 3, 9), alpha=0.5),
]
