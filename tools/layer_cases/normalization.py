"""Normalisations."""

import numpy as np
from op_cases.normalization import local_response_norm

from .network import Network, case


def spread(values: np.ndarray) -> np.ndarray:
    """One number a channel, along axis -3."""
    return values.reshape(-1, 1, 1)


def batchnorm(name: str, shape: tuple[int, ...], epsilon: float = 0.25, legacy: bool = False) -> None:
    @case("batchnorm", name, legacy=legacy)
    def _(net: Network):
        x = net.array(*shape)
        gamma, beta, mean, variance = (net.normal(shape[-3]) for _ in range(4))
        variance = variance**2
        weights = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        net.add("batchnorm", "x", channels=shape[-3], epsilon=epsilon, **weights)
        normal = (x - spread(mean)) / np.sqrt(spread(variance) + (epsilon or 1e-5))
        return spread(gamma) * normal + spread(beta)


batchnorm("rank3", (3, 2, 4))
batchnorm("rank4", (2, 3, 2, 4))
batchnorm("rank5", (2, 2, 3, 2, 4))
batchnorm("default_epsilon", (1, 3, 2, 2), epsilon=0.0)
batchnorm("legacy", (3, 2, 4), legacy=True)


@case("batchnorm", "float16")
def _(net: Network):
    x, names = net.array(2, 3, 2, 2), ("gamma", "beta", "mean", "variance")
    layer = net.add("batchnorm", "x", channels=3, epsilon=1e-3)
    gamma, beta, mean, variance = (net.half(getattr(layer, name), net.rng.uniform(0.5, 2, 3)) for name in names)
    return spread(gamma) * (x - spread(mean)) / np.sqrt(spread(variance) + np.float32(1e-3)) + spread(beta)


def computed(name: str, shape: tuple[int, ...], instance: bool) -> None:
    @case("batchnorm", name)
    def _(net: Network):
        x, gamma, beta = 3 * net.array(*shape), net.normal(shape[-3]), net.normal(shape[-3])
        net.given(x)
        fields = {"computeMeanVar": True, "instanceNormalization": instance, "epsilon": 0.125}
        net.add("batchnorm", "x", channels=shape[-3], gamma=gamma, beta=beta, **fields)
        along = (-2, -1) if instance else (*range(len(shape) - 3), -2, -1)
        normal = (x - x.mean(along, keepdims=True)) / np.sqrt(x.var(along, keepdims=True) + 0.125)
        return spread(gamma) * normal + spread(beta)


computed("instance", (2, 3, 4, 5), True)
computed("instance_rank5", (2, 2, 3, 4, 5), True)
computed("batch", (2, 3, 4, 5), False)
computed("batch_rank3", (3, 4, 5), False)
computed("batch_rank5", (2, 2, 3, 4, 5), False)


def l2normalize(name: str, epsilon: float, shape: tuple[int, ...], size: float = 1.0, legacy: bool = False) -> None:
    @case("l2normalize", name, legacy=legacy)
    def _(net: Network):
        x = net.given(size * net.normal(*shape))
        net.add("l2normalize", "x", epsilon=epsilon)
        return x / np.sqrt((x**2).sum((-3, -2, -1), keepdims=True) + (epsilon or 1e-6))


l2normalize("rank3", 0.5, (3, 2, 4))
l2normalize("rank5", 2.0, (2, 2, 3, 2, 4))
# So small that epsilon counts.
l2normalize("default_epsilon", 0.0, (2, 3, 2, 2), size=1e-3)
l2normalize("legacy", 0.25, (3, 2, 4), legacy=True)


def lrn(name: str, shape: tuple[int, ...], size: int, k: float, legacy: bool = False) -> None:
    @case("lrn", name, legacy=legacy)
    def _(net: Network):
        x = net.array(*shape)
        net.add("lrn", "x", alpha=0.75, beta=0.625, localSize=size, k=k)
        planes = x.reshape(-1, *shape[-3:])
        return local_response_norm(planes, size, 0.75, 0.625, k or 1.0).reshape(shape)


lrn("rank4", (2, 6, 2, 3), 3, 2.0)
lrn("rank3_wide", (4, 2, 3), 5, 0.5)
lrn("rank5", (2, 2, 5, 2, 2), 3, 1.5)
lrn("default_k", (1, 6, 2, 3), 5, 0.0)
lrn("legacy", (6, 2, 3), 3, 2.0, legacy=True)


def layer_normalization(name: str, shape: tuple[int, ...], last: int, epsilon: float) -> None:
    @case("layerNormalization", name)
    def _(net: Network):
        x = net.array(*shape)
        over = shape[len(shape) - last :]
        gamma, beta = net.normal(*over), net.normal(*over)
        net.add("layerNormalization", "x", normalizedShape=list(over), eps=epsilon, gamma=gamma, beta=beta)
        along = tuple(range(-last, 0))
        return gamma * (x - x.mean(along, keepdims=True)) / np.sqrt(x.var(along, keepdims=True) + epsilon) + beta


layer_normalization("last", (2, 3, 4), 1, 1e-5)
layer_normalization("two", (2, 3, 4, 5), 2, 0.125)
layer_normalization("three", (2, 3, 4, 5), 3, 1e-5)
layer_normalization("all", (3, 4), 2, 0.5)
layer_normalization("vector", (5,), 1, 1e-5)
