"""Normalizations."""

import numpy as np
from coremltools.converters.mil import Builder as mb

from .case import case, const, normal, uniform


def channels(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def batch_norm(x, mean, variance, gamma=None, beta=None, epsilon=1e-5):
    y = (x - channels(mean, x)) / np.sqrt(channels(variance, x) + epsilon)
    y = y if gamma is None else y * channels(gamma, x)
    return y if beta is None else y + channels(beta, x)


def instance_norm(x, gamma=None, beta=None, epsilon=1e-5):
    over = tuple(range(2, x.ndim))
    y = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + epsilon)
    y = y if gamma is None else y * channels(gamma, x)
    return y if beta is None else y + channels(beta, x)


def layer_norm(x, axes=None, gamma=None, beta=None, epsilon=1e-5):
    axes = range(x.ndim) if axes is None else sorted(axis % x.ndim for axis in axes)
    over = tuple(axes)
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    y = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + epsilon)
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def l2_norm(x, epsilon=1e-6):
    return x / np.sqrt(np.square(x).sum((-1, -2, -3), keepdims=True) + epsilon)


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    """As many channels on each side: coremltools' test of an even size expects that of Core ML."""
    side = (size - 1) // 2
    squares = np.pad(np.square(x), [(0, 0), (side, side), *[(0, 0)] * (x.ndim - 2)])
    total = sum(squares[:, i : i + x.shape[1]] for i in range(2 * side + 1))
    return x / (k + alpha / size * total) ** beta


IMAGE = normal(2, 3, 4, 5)
STATISTICS = {"mean": const(normal(3)), "variance": const(uniform(0.5, 2, 3))}
SCALE = {"gamma": const(uniform(0.5, 2, 3)), "beta": const(normal(3))}

CASES = [
    case("batch_norm", "defaults", batch_norm, bare=True, x=IMAGE, **STATISTICS),
    case("batch_norm", "gamma_beta", batch_norm, x=IMAGE, **STATISTICS, **SCALE, epsilon=0.01),
    case("batch_norm", "rank3", batch_norm, x=normal(2, 3, 6), **STATISTICS, **SCALE),
    case("batch_norm", "rank5", batch_norm, x=normal(1, 3, 2, 2, 3), **STATISTICS, **SCALE),
    case("batch_norm", "ios17", batch_norm, opset="iOS17", x=IMAGE, **STATISTICS, **SCALE),
    case("instance_norm", "defaults", instance_norm, bare=True, x=IMAGE),
    case("instance_norm", "gamma_beta", instance_norm, x=IMAGE, **SCALE, epsilon=0.1),
    case("instance_norm", "rank3", instance_norm, x=normal(2, 3, 6), **SCALE),
    case("instance_norm", "ios17", instance_norm, opset="iOS17", x=IMAGE, **SCALE),
    # coremltools cannot write a layer_norm without axes, so they are given and then removed.
    case("layer_norm", "defaults", layer_norm, bare=True, x=normal(2, 3, 4),
         build=lambda x: mb.layer_norm(x=x, axes=[0, 1, 2])),
    case("layer_norm", "last_axis", layer_norm, x=normal(2, 3, 4), axes=[-1],
         gamma=const(normal(4)), beta=const(normal(4)), epsilon=0.01),
    case("layer_norm", "no_gamma", layer_norm, x=normal(2, 3, 4), axes=[2]),
    case("layer_norm", "gamma_only", layer_norm, x=normal(2, 3, 4), axes=[-1], gamma=const(normal(4))),
    case("layer_norm", "two_axes", layer_norm, x=normal(2, 3, 4, 5), axes=[-2, -1],
         gamma=const(normal(4, 5)), beta=const(normal(4, 5))),
    case("layer_norm", "two_axes_no_gamma", layer_norm, x=normal(2, 3, 4, 5), axes=[2, 3], epsilon=0.1),
    # Axes that are not the last ones: gamma belongs to the channels.
    case("layer_norm", "channel_axis", layer_norm, x=normal(2, 5, 1, 4), axes=[1],
         gamma=const(normal(5)), beta=const(normal(5))),
    case("layer_norm", "axes_apart", layer_norm, x=normal(2, 3, 4, 5), axes=[1, 3],
         gamma=const(normal(3, 5)), beta=const(normal(3, 5))),
    case("layer_norm", "ios17", layer_norm, opset="iOS17", x=normal(3, 6), axes=[1],
         gamma=const(normal(6)), beta=const(normal(6)), epsilon=1e-3),
    case("l2_norm", "defaults", l2_norm, bare=True, x=normal(2, 3, 4, 2)),
    case("l2_norm", "rank3", l2_norm, x=normal(3, 2, 4), epsilon=0.5),
    case("l2_norm", "rank5", l2_norm, opset="iOS17", x=normal(2, 2, 3, 1, 2), epsilon=1e-3),
    case("local_response_norm", "defaults", local_response_norm, bare=True, x=uniform(-9, 9, 1, 6, 3, 2), size=3),
    case("local_response_norm", "parameters", local_response_norm, x=normal(2, 7, 2, 3), size=5,
         alpha=0.5, beta=0.6, k=2.0),
    case("local_response_norm", "rank3", local_response_norm, opset="iOS17", x=normal(1, 5, 4), size=3,
         alpha=0.9, beta=1.0, k=0.5),
    case("local_response_norm", "even", local_response_norm, x=normal(2, 6, 2, 3), size=4, alpha=0.5),
    case("local_response_norm", "rank5", local_response_norm, x=normal(1, 5, 2, 3, 2), size=2, alpha=0.5, k=0.5),
]  # fmt: skip
