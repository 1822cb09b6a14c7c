"""Picking and placing by index, and what is where."""

import numpy as np
from op_cases.indexing import gather_nd as taken_at
from op_cases.indexing import scatter_along_axis as placed_along
from op_cases.indexing import scatter_nd as placed_at

from .network import Network, case


def indices(net: Network, below: int, *shape: int, name: str = "at", low: int = 0) -> np.ndarray:
    return net.given(net.rng.integers(low, below, shape), name).astype(int)


def gather(name: str, axis: int, shape: tuple[int, ...], places: tuple[int, ...], negative: bool = False) -> None:
    @case("gather", name)
    def _(net: Network):
        x = net.array(*shape)
        at = indices(net, shape[axis], *places, low=-shape[axis] if negative else 0)
        net.add("gather", "x at", axis=axis)
        return np.take(x, at, axis)


gather("front", 0, (4, 3), (6,))
gather("matrix_of_indices", 1, (2, 3, 4), (2, 5))
gather("negative_axis", -1, (2, 3, 4), (3,))
gather("negative_indices", 1, (2, 4, 2), (5,), negative=True)


@case("gather", "constant_indices")
def _(net: Network):
    x = net.array(4, 3)
    net.add("loadConstantND", "", "at", shape=[2, 2], data=np.array([[3, -1], [0, 2]], np.float32))
    net.add("gather", "x at", axis=0)
    return x[[[3, -1], [0, 2]]]


def points(net: Network, shape: tuple[int, ...], *outer: int, depth: int) -> np.ndarray:
    """Indices of that many leading dimensions of a shape."""
    return net.given(np.stack([net.rng.integers(0, size, outer) for size in shape[:depth]], -1), "at").astype(int)


def gather_nd(name: str, shape: tuple[int, ...], outer: tuple[int, ...], depth: int) -> None:
    @case("gatherND", name)
    def _(net: Network):
        x, at = net.array(*shape), points(net, shape, *outer, depth=depth)
        net.add("gatherND", "x at")
        return np.atleast_1d(taken_at(x, at))


gather_nd("rows", (4, 2, 3, 2), (6,), 2)
gather_nd("elements", (3, 2, 3), (5,), 3)
gather_nd("blob_of_points", (5, 3, 2), (2, 3), 1)
gather_nd("one_element", (3, 4), (), 2)


def gather_along_axis(name: str, axis: int, shape: tuple[int, ...], count: int, negative: bool = False) -> None:
    @case("gatherAlongAxis", name)
    def _(net: Network):
        x, places = net.array(*shape), list(shape)
        places[axis] = count
        at = indices(net, shape[axis], *places, low=-shape[axis] if negative else 0)
        net.add("gatherAlongAxis", "x at", axis=axis)
        return np.take_along_axis(x, at, axis)


gather_along_axis("middle", 1, (2, 4, 3), 5)
gather_along_axis("negative_axis", -1, (2, 3, 4), 2)
gather_along_axis("negative_indices", 0, (4, 3), 6, negative=True)

# In the order of `ScatterMode`.
MODES = ("update", "add", "sub", "mul", "div", "max", "min")


def distinct(net: Network, count: int, below: int) -> np.ndarray:
    """Where each place is written once, the order does not matter."""
    return net.given(net.rng.permutation(below)[:count], "at").astype(int)


def scatter(name: str, axis: int, mode: str, *shape: int) -> None:
    @case("scatter", name)
    def _(net: Network):
        x, at = net.array(*shape), distinct(net, shape[axis] - 1, shape[axis])
        updates = net.given(net.rng.uniform(0.5, 2, np.take(x, at, axis).shape), "updates")
        net.add("scatter", "x at updates", axis=axis, mode=MODES.index(mode))
        return moved(x, axis, at, updates, mode)


def moved(x: np.ndarray, axis: int, at: np.ndarray, updates: np.ndarray, mode: str) -> np.ndarray:
    """Indices of any rank, whose dimensions stand at the axis among those of the updates."""
    front = np.moveaxis(updates, range(axis % x.ndim, axis % x.ndim + at.ndim), range(at.ndim))
    return np.moveaxis(placed_at(np.moveaxis(x, axis, 0), at[..., None], front, mode), 0, axis)


for mode in MODES:
    scatter(mode, 0, mode, 4, 3)
scatter("update_negative_axis", -2, "update", 2, 4, 3)
scatter("mul_last_axis", 2, "mul", 2, 3, 4)


@case("scatter", "add_to_one_place_twice")
def _(net: Network):
    x, at, updates = net.array(4, 3), net.given([[1, -1], [1, 0]], "at"), net.array(4, 2, 2, name="updates")
    net.add("scatter", "x at updates", axis=1, mode=1)
    return moved(x, 1, at.astype(int), updates, "add")


def scatter_nd(name: str, mode: str, depth: int, at: list, *shape: int) -> None:
    @case("scatterND", name)
    def _(net: Network):
        x, at_ = net.array(*shape), net.given(at, "at").astype(int)
        updates = net.given(net.rng.uniform(0.5, 2, (*at_.shape[:-1], *shape[depth:])), "updates")
        net.add("scatterND", "x at updates", mode=MODES.index(mode))
        return placed_at(x, at_, updates, mode)


for mode in MODES:
    scatter_nd(mode, mode, 1, [[2], [0], [3]], 4, 3)
scatter_nd("update_elements", "update", 2, [[0, 1], [2, 0], [1, 1], [2, 1]], 3, 2)
scatter_nd("sub_elements_blob_of_points", "sub", 2, [[[0, 1], [2, 0]], [[0, 1], [1, 1]]], 3, 2)


def scatter_along_axis(name: str, axis: int, mode: str, at: list, *shape: int) -> None:
    @case("scatterAlongAxis", name)
    def _(net: Network):
        x, at_ = net.array(*shape), net.given(at, "at").astype(int)
        updates = net.given(net.rng.uniform(0.5, 2, at_.shape), "updates")
        net.add("scatterAlongAxis", "x at updates", axis=axis, mode=MODES.index(mode))
        return placed_along(x, at_, updates, axis, mode)


for mode in MODES:
    scatter_along_axis(mode, 1, mode, [[2, 0], [1, 3], [3, 2]], 3, 4)
scatter_along_axis("update_negative", -2, "update", [[-1, 0, 1], [0, 2, -1]], 4, 3)


def where_non_zero(name: str, values: list) -> None:
    @case("whereNonZero", name)
    def _(net: Network):
        x = net.given(values)
        net.add("whereNonZero", "x")
        return np.argwhere(x).astype(np.float64)


where_non_zero("vector", [0.0, 1.0, 0.0, -0.5])
where_non_zero("matrix", [[1.0, 2.0, 1.0], [0.0, 2.0, 2.0], [2.0, 1.0, 0.0]])
where_non_zero("rank3", [[[0.0, 3.0], [0.0, 0.0]], [[-1.0, 0.0], [0.5, 2.0]]])


def band(name: str, lower: int, upper: int, *shape: int) -> None:
    @case("matrixBandPart", name)
    def _(net: Network):
        x = net.array(*shape)
        net.add("matrixBandPart", "x", numLower=lower, numUpper=upper)
        row, column = np.indices(shape[-2:])
        kept = (lower < 0) | (row - column <= lower)
        return x * (kept & ((upper < 0) | (column - row <= upper)))


band("diagonal", 0, 0, 4, 4)
band("both", 1, 2, 5, 4)
band("all_below", -1, 0, 4, 5)
band("all_above_rank3", 1, -1, 2, 4, 3)


def triangle(layer: str, of: object) -> None:
    def one(name: str, k: int, *shape: int) -> None:
        @case(layer, name)
        def _(net: Network):
            x = net.array(*shape)
            net.add(layer, "x", k=k)
            return of(x, k)

    one("main", 0, 4, 4)
    one("below", -1, 4, 5)
    one("above_rank4", 2, 2, 1, 5, 4)


triangle("lowerTriangular", np.tril)
triangle("upperTriangular", np.triu)


def one_hot(
    name: str, values: list, axis: int, size: int = 4, on: float = 1.0, off: float = 0.0, given: str = ""
) -> None:
    @case("oneHot", name)
    def _(net: Network):
        x = net.given(values)
        if given == "input":
            net.given([size], "size")
        if given == "constant":
            net.add("loadConstantND", "", "size", shape=[1], data=np.array([size], np.float32))
        # Its own size counts for nothing where there is a second input.
        stored = 9 if given else size
        net.add("oneHot", "x size" if given else "x", oneHotVectorSize=stored, axis=axis, onValue=on, offValue=off)
        hot = x[..., None] == np.arange(size)
        return np.moveaxis(np.where(hot, on, off), -1, axis)


# An index outside gives a vector of the other value.
one_hot("last", [2.0, -1.0, 0.0, 4.0], -1, on=5.0, off=-1.0)
one_hot("front", [2.0, 0.0, 3.0], 0)
one_hot("middle", [[2.0, 0.0, 3.0], [1.0, 1.0, 2.0]], 1)
one_hot("size_from_input", [[2.0, 0.0, 3.0]], 2, given="input")
one_hot("size_from_constant", [[2.0, 0.0, 3.0]], -1, given="constant", on=2.0)
