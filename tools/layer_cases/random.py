"""Random numbers. What can be expected of them is their distribution, and that a seed repeats them."""

from typing import Any

import numpy as np
from op_cases.random import COUNT, ROWS, moments, repeated

from .network import Network, case

# Bounds of the error: at least six times the deviation of a mean of so many numbers, or of products of two of them, as
# long as they deviate by little more than 1.
STATISTICS = {"rtol": 0.0, "atol": 0.05}


def draw(net: Network, layer: str, out: str, shape: list[int], **fields: Any) -> None:
    """Draws numbers, with the shape in the form that the layer has it in."""
    if layer.endswith("Static"):
        net.add(layer, "", out, outputShape=shape, **fields)
    elif layer.endswith("Dynamic"):
        net.add("loadConstantND", "", f"{out}_shape", shape=[len(shape)], data=np.array(shape, np.float32))
        net.add(layer, f"{out}_shape", out, **fields)
    else:
        net.add("fillStatic", "", f"{out}_like", value=7.0, targetShape=shape)
        net.add(layer, f"{out}_like", out, **fields)


def drawn(layer: str, name: str, centre: float, width: float, /, **fields: Any) -> None:
    @case(layer, name, **STATISTICS)
    def _(net: Network):
        x = net.array(3, ROWS)
        draw(net, layer, "drawn", [ROWS, COUNT], **fields)
        net.add("reduceMean", "drawn", "mean", axes=[1], keepDims=True)
        net.add("subtractBroadcastable", "drawn mean", "centred")
        net.add("multiplyBroadcastable", "centred centred", "squares")
        net.add("reduceMean", "squares", "variance", axes=[1])
        net.add("unary", "variance", "deviation", type=0)
        net.add("squeeze", "mean", "flat_mean", axes=[1])
        # How much each number says of the one behind it.
        net.add("splitND", "centred", "left last", axis=1, splitSizes=[COUNT - 1, 1])
        net.add("splitND", "centred", "first right", axis=1, splitSizes=[1, COUNT - 1])
        net.add("multiplyBroadcastable", "left right", "products")
        net.add("reduceMean", "products", "neighbours", axes=[1])
        net.add("stack", "flat_mean deviation neighbours", "statistics", axis=0)
        net.add("addBroadcastable", "x statistics")
        return moments(x, centre, width)


def same_again(layer: str, **fields: Any) -> None:
    @case(layer, "seed_repeats")
    def _(net: Network):
        x = net.array(2, 5)
        for out, seed in (("first", 7), ("second", 7), ("other", 8)):
            draw(net, layer, out, [2, 5], seed=seed, **fields)
        net.add("subtractBroadcastable", "first second", "same")
        net.add("multiplyBroadcastable", "same x", "nothing")
        net.add("subtractBroadcastable", "first other", "difference")
        # Somewhere one seed differs from another.
        net.add("reduceSumSquare", "difference", "how_much", reduceAll=True)
        net.add("greaterThan", "how_much", "changed", alpha=0.0)
        net.add("addBroadcastable", "changed nothing", "changed_everywhere")
        net.add("stack", "nothing changed_everywhere", axis=0)
        return repeated(x)


for form in ("Like", "Static", "Dynamic"):
    drawn(f"randomNormal{form}", "seeded", -1.0, 0.5, seed=3, mean=-1.0, stdDev=0.5)
    drawn(f"randomNormal{form}", "without_seed", 0.5, 1.0, seed=-1, mean=0.5, stdDev=1.0)
    same_again(f"randomNormal{form}", mean=0.0, stdDev=1.0)
    drawn(f"randomUniform{form}", "seeded", 3.0, 4 / np.sqrt(12), seed=3, minVal=1.0, maxVal=5.0)
    drawn(f"randomUniform{form}", "without_seed", -0.5, 1 / np.sqrt(12), seed=-1, minVal=-1.0, maxVal=0.0)
    same_again(f"randomUniform{form}", minVal=0.0, maxVal=1.0)
    drawn(f"randomBernoulli{form}", "seeded", 0.2, 0.4, seed=11, prob=0.2)
    drawn(f"randomBernoulli{form}", "without_seed", 0.5, 0.5, seed=-1, prob=0.5)


def certain(layer: str, name: str, value: float, **fields: Any) -> None:
    @case(layer, name)
    def _(net: Network):
        x = net.array(2, 3)
        draw(net, layer, "drawn", [2, 3], seed=5, **fields)
        net.add("addBroadcastable", "x drawn")
        return x + value


certain("randomNormalStatic", "no_deviation", 1.5, mean=1.5, stdDev=0.0)
certain("randomUniformLike", "one_value", 2.5, minVal=2.5, maxVal=2.5)
certain("randomBernoulliStatic", "always", 1.0, prob=1.0)
certain("randomBernoulliDynamic", "never", 0.0, prob=0.0)


@case("randomUniformDynamic", "shape_from_a_run", rtol=0.0, atol=1.0)
def _(net: Network):
    net.given([3, 2], name="shape")
    net.add("randomUniformDynamic", "shape", minVal=1.0, maxVal=3.0, seed=4)
    return np.full((3, 2), 2.0)


CLASSES = 4


def shares(name: str, logits: bool, seed: int, temperature: float | None = None) -> None:
    """How often each class is drawn."""

    @case("categoricalDistribution", name, rtol=0.0, atol=0.015)
    def _(net: Network):
        p = net.rng.uniform(0.1, 1, (2, CLASSES))
        x = net.given(np.log(p) if logits else p)
        fields = {"numSamples": COUNT, "isLogits": logits, "seed": seed, "eps": 1e-10}
        fields |= {} if temperature is None else {"temperature": temperature}
        net.add("categoricalDistribution", "x", "drawn", **fields)
        for number in range(CLASSES):
            net.add("equal", "drawn", f"is_{number}", alpha=float(number))
            net.add("reduceMean", f"is_{number}", f"share_{number}", axes=[1])
        net.add("stack", " ".join(f"share_{number}" for number in range(CLASSES)), axis=-1)
        weights = np.exp(x / (temperature or 1.0)) if logits else x
        return weights / weights.sum(-1, keepdims=True)


shares("logits", True, 5, 1.0)
shares("logits_without_seed", True, -1, 1.0)
shares("logits_default_temperature", True, 6)
shares("logits_temperature", True, 7, 0.5)
shares("probabilities", False, 8, 1.0)
shares("probabilities_without_seed", False, -1)


@case("categoricalDistribution", "certain_rank3")
def _(net: Network):
    x = net.given([[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    net.add("categoricalDistribution", "x", numSamples=5, seed=1, temperature=1.0)
    return np.broadcast_to(x.argmax(-1)[..., None], (1, 2, 5)).astype(np.float64)
