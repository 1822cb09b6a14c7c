"""Embeddings with trailing dimensions of size 1, and products of vectors."""

import numpy as np

from .network import Network, case


def add(net: Network, weight: np.ndarray, bias: np.ndarray | None = None):
    fields = {"hasBias": bias is not None} | ({} if bias is None else {"bias": bias})
    return net.add("embedding", "x", inputDim=weight.shape[1], outputChannels=weight.shape[0], weights=weight, **fields)


def looked_up(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    return (weight.T[x[..., 0, 0, 0].astype(int)] + bias)[..., None, None]


def embedding(name: str, shape: tuple[int, ...], with_bias: bool = False) -> None:
    @case("embedding", name)
    def _(net: Network):
        x, weight = net.given(net.rng.integers(0, 7, shape)), net.normal(3, 7)
        bias = net.normal(3) if with_bias else None
        add(net, weight, bias)
        return looked_up(x, weight, 0.0 if bias is None else bias)


embedding("rank4", (5, 1, 1, 1))
embedding("rank5", (2, 3, 1, 1, 1))
embedding("bias", (4, 1, 1, 1), with_bias=True)


@case("embedding", "legacy", legacy=True)
def _(net: Network):
    net.declared["x"] = (1,)
    x, weight = net.given(np.reshape([2, 0, 6, 2], (4, 1, 1, 1, 1))), net.normal(3, 7)
    add(net, weight)
    return looked_up(x, weight)


@case("embedding", "float16")
def _(net: Network):
    x, weight, bias = net.given(net.rng.integers(0, 7, (5, 1, 1, 1))), net.normal(3, 7), net.normal(3)
    layer = add(net, weight, bias)
    return looked_up(x, net.half(layer.weights, weight), net.half(layer.bias, bias))


@case("embedding", "linear_8_bits")
def _(net: Network):
    x = net.given(net.rng.integers(0, 7, (5, 1, 1, 1)))
    layer = add(net, np.zeros((3, 7)))
    return looked_up(x, net.linear(layer.weights, (3, 7), 8, 0))


@case("embedding", "table_4_bits")
def _(net: Network):
    x = net.given(net.rng.integers(0, 7, (5, 1, 1, 1)))
    layer = add(net, np.zeros((3, 7)))
    return looked_up(x, net.table(layer.weights, (3, 7), 4))


def dot(name: str, shape: tuple[int, ...], cosine: bool, legacy: bool = False) -> None:
    @case("dot", name, legacy=legacy)
    def _(net: Network):
        x, y = net.array(*shape), net.array(*shape, name="y")
        net.add("dot", "x y", cosineSimilarity=cosine)
        product = (x * y).sum(-3, keepdims=True)
        if not cosine:
            return product
        lengths = [np.sqrt((side**2).sum(-3, keepdims=True)) for side in (x, y)]
        return product / (lengths[0] * lengths[1])


dot("rank3", (5, 1, 1), False)
dot("rank5", (2, 3, 4, 1, 1), False)
dot("cosine", (2, 5, 1, 1), True)
dot("legacy", (5, 1, 1), False, legacy=True)
dot("cosine_legacy", (5, 1, 1), True, legacy=True)
