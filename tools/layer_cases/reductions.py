"""Reductions, and orders along an axis."""

from collections.abc import Callable

import numpy as np

from .network import Network, case

# The numbers of the enums `ReduceOperation` and `ReduceAxis`.
MODES = {
    "sum": (0, np.sum),
    "average": (1, np.mean),
    "product": (2, np.prod),
    "log_sum": (3, lambda x, axis, keepdims: np.sum(np.log(x + 1e-6), axis, keepdims=keepdims)),
    "sum_square": (4, lambda x, axis, keepdims: np.sum(x * x, axis, keepdims=keepdims)),
    "l1": (5, lambda x, axis, keepdims: np.sum(np.abs(x), axis, keepdims=keepdims)),
    "l2": (6, lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis, keepdims=keepdims))),
    "max": (7, np.max),
    "min": (8, np.min),
}
AXES = {"chw": (0, (-3, -2, -1)), "hw": (1, (-2, -1)), "c": (2, (-3,)), "h": (3, (-2,)), "w": (4, (-1,))}


def reduce(mode: str, axis: str, legacy: bool = False) -> None:
    (mode_number, of), (axis_number, axes) = MODES[mode], AXES[axis]

    @case("reduce", f"{mode}_{axis}" + ("_legacy" if legacy else ""), legacy=legacy)
    def _(net: Network):
        shape = (3, 4, 5) if legacy else (2, 3, 4, 5)
        x = net.given(net.rng.uniform(0.2, 2, shape) * (1 if "log" in mode else net.rng.choice([-1, 1], shape)))
        net.add("reduce", "x", mode=mode_number, axis=axis_number)
        return of(x, axis=axes, keepdims=True)


for mode, axis in zip(MODES, ["chw", "hw", "c", "h", "w", "chw", "c", "w", "hw"]):
    reduce(mode, axis)
for axis in AXES:
    reduce("average", axis, legacy=True)


@case("reduce", "log_sum_epsilon")
def _(net: Network):
    x = net.given(net.rng.uniform(0, 1, (3, 2)))
    net.add("reduce", "x", mode=3, axis=4, epsilon=0.5)
    return np.log(x + 0.5).sum(-1, keepdims=True)


def arg_max(axis: str) -> None:
    number, (at,) = AXES[axis]

    @case("reduce", f"arg_max_{axis}_legacy", legacy=True)
    def _(net: Network):
        x = net.array(3, 4, 5)
        net.add("reduce", "x", mode=9, axis=number)
        return np.expand_dims(x.argmax(at), at).astype(np.float64)


for axis in "chw":
    arg_max(axis)


def reduce_nd(layer: str, of: Callable, low: float = -2.0) -> None:
    """`of` takes an axis and keeps it."""

    @case(layer, "one_axis")
    def _(net: Network):
        x = net.given(net.rng.uniform(low, 2, (2, 3, 4)))
        net.add(layer, "x", axes=[-2])
        return of(x, (-2,)).squeeze(-2)

    @case(layer, "two_axes_kept")
    def _(net: Network):
        x = net.given(net.rng.uniform(low, 2, (2, 3, 1, 4, 2)))
        net.add(layer, "x", axes=[0, -1], keepDims=True)
        return of(x, (0, -1))

    @case(layer, "all")
    def _(net: Network):
        x = net.given(net.rng.uniform(low, 2, (2, 3)))
        net.add(layer, "x", axes=[0], reduceAll=True)
        return of(x, (0, 1)).reshape(1)


reduce_nd("reduceL1", lambda x, axis: np.abs(x).sum(axis, keepdims=True))
reduce_nd("reduceL2", lambda x, axis: np.sqrt((x * x).sum(axis, keepdims=True)))
reduce_nd("reduceMax", lambda x, axis: x.max(axis, keepdims=True))
reduce_nd("reduceMin", lambda x, axis: x.min(axis, keepdims=True))
reduce_nd("reduceSum", lambda x, axis: x.sum(axis, keepdims=True))
reduce_nd("reduceProd", lambda x, axis: x.prod(axis, keepdims=True))
reduce_nd("reduceMean", lambda x, axis: x.mean(axis, keepdims=True))
reduce_nd("reduceLogSum", lambda x, axis: np.log(x.sum(axis, keepdims=True)), 0.1)
reduce_nd("reduceSumSquare", lambda x, axis: (x * x).sum(axis, keepdims=True))
reduce_nd("reduceLogSumExp", lambda x, axis: np.log(np.exp(x).sum(axis, keepdims=True)))


def arg(layer: str, of: Callable) -> None:
    @case(layer, "kept")
    def _(net: Network):
        x = net.array(2, 5, 3)
        net.add(layer, "x", axis=-2)
        return np.expand_dims(of(x, 1), 1).astype(np.float64)

    @case(layer, "removed")
    def _(net: Network):
        x = net.array(2, 5, 3)
        net.add(layer, "x", axis=2, removeDim=True)
        return of(x, 2).astype(np.float64)

    @case(layer, "vector")
    def _(net: Network):
        # The only dimension stays, whatever is asked.
        x = net.array(5)
        net.add(layer, "x", axis=0, removeDim=True)
        return of(x, 0).reshape(1).astype(np.float64)


arg("argMax", np.argmax)
arg("argMin", np.argmin)


def arg_sort(name: str, axis: int, descending: bool, *shape: int) -> None:
    @case("argSort", name)
    def _(net: Network):
        x = net.array(*shape)
        net.add("argSort", "x", axis=axis, descending=descending)
        return np.argsort(-x if descending else x, axis, kind="stable").astype(np.float64)


arg_sort("ascending", 1, False, 3, 5)
arg_sort("descending", 0, True, 4, 2, 3)


def top_k(name: str, axis: int, smallest: bool, given: bool) -> None:
    @case("topK", name, outputs=("out", "at"))
    def _(net: Network):
        x = net.array(4, 6, 3)
        if given:
            net.given([2.0], name="k")
        net.add("topK", "x k" if given else "x", "out at", axis=axis, K=0 if given else 2, useBottomK=smallest)
        order = np.argsort(x if smallest else -x, axis, kind="stable").take([0, 1], axis)
        return {"out": np.take_along_axis(x, order, axis), "at": order.astype(np.float64)}


top_k("largest", 1, False, False)
top_k("smallest", -1, True, False)
top_k("given", 0, False, True)


def cum_sum(name: str, axis: int, given: bool = False, **options: bool) -> None:
    @case("cumSum", name)
    def _(net: Network):
        x = net.array(3, 4, 2)
        if given:
            net.given([axis], name="axis")
        net.add("cumSum", "x axis" if given else "x", axis=0 if given else axis, **options)
        turned = np.flip(x, axis) if options.get("reverse") else x
        sums = turned.cumsum(axis) - (turned if options.get("excludeFinalSum") else 0)
        return np.flip(sums, axis) if options.get("reverse") else sums


cum_sum("plain", 1)
cum_sum("exclusive", -1, excludeFinalSum=True)
cum_sum("reverse", 0, reverse=True)
cum_sum("exclusive_reverse", 1, excludeFinalSum=True, reverse=True)
cum_sum("given_axis", -2, given=True)
