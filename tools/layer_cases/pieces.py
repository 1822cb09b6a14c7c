"""Joining, splitting, slicing, repeating, reversing."""

import numpy as np
from op_cases.shape import reverse_sequence, sliding_windows

from .network import Network, case


def concat(name: str, shapes: list[tuple[int, ...]], sequence: bool = False, legacy: bool = False) -> None:
    @case("concat", name, legacy=legacy)
    def _(net: Network):
        names = [f"x{at}" for at in range(len(shapes))]
        parts = [net.array(*shape, name=name) for name, shape in zip(names, shapes)]
        net.add("concat", " ".join(names), sequenceConcat=sequence)
        # A network that is declared without sequence and batch gives them where a sequence is longer than one.
        if legacy and sequence:
            parts = [part[None, None] for part in parts]
        return np.concatenate(parts, -5 if sequence else -3)


concat("rank3", [(2, 3, 4), (1, 3, 4)])
concat("rank4_three", [(2, 1, 2, 3), (2, 3, 2, 3), (2, 2, 2, 3)])
concat("rank5", [(2, 1, 2, 2, 3), (2, 1, 1, 2, 3)])
concat("sequence", [(2, 1, 2, 2, 3), (3, 1, 2, 2, 3)], sequence=True)
concat("legacy", [(2, 3, 4), (3, 3, 4)], legacy=True)
concat("sequence_legacy", [(2, 3, 4), (2, 3, 4)], sequence=True, legacy=True)


def concat_nd(name: str, axis: int, shapes: list[tuple[int, ...]], interleave: bool = False) -> None:
    @case("concatND", name)
    def _(net: Network):
        names = [f"x{at}" for at in range(len(shapes))]
        parts = [net.array(*shape, name=name) for name, shape in zip(names, shapes)]
        net.add("concatND", " ".join(names), axis=axis, interleave=interleave)
        if not interleave:
            return np.concatenate(parts, axis)
        result = np.empty(np.concatenate(parts, axis).shape)
        turned = np.moveaxis(result, axis, 0)
        for at, part in enumerate(parts):
            turned[at :: len(parts)] = np.moveaxis(part, axis, 0)
        return result


concat_nd("front", 0, [(2, 3), (1, 3)])
concat_nd("negative", -1, [(2, 3), (2, 1), (2, 4)])
concat_nd("middle_rank5", 2, [(1, 2, 3, 1, 2), (1, 2, 1, 1, 2)])
concat_nd("interleaved", 0, [(3, 2), (3, 2)], interleave=True)
concat_nd("interleaved_three", -2, [(2, 3, 2), (2, 3, 2), (2, 3, 2)], interleave=True)


def stack(name: str, axis: int, count: int, *shape: int) -> None:
    @case("stack", name)
    def _(net: Network):
        names = [f"x{at}" for at in range(count)]
        parts = [net.array(*shape, name=name) for name in names]
        net.add("stack", " ".join(names), axis=axis)
        return np.stack(parts, axis)


stack("front", 0, 2, 3)
stack("end", 3, 3, 2, 4, 2)
stack("negative", -2, 2, 2, 4)


def split(name: str, shape: tuple[int, ...], legacy: bool = False) -> None:
    @case("split", name, legacy=legacy, outputs=("a", "b", "c"))
    def _(net: Network):
        x = net.array(*shape)
        net.add("split", "x", "a b c", nOutputs=3)
        return dict(zip("abc", np.split(x, 3, -3)))


split("rank3", (6, 2, 3))
split("rank5", (2, 1, 3, 2, 2))
split("legacy", (6, 2, 1), legacy=True)


def split_nd(name: str, axis: int, expected: list[int], shape: tuple[int, ...], **fields: object) -> None:
    names = "abcd"[: len(expected)]

    @case("splitND", name, outputs=tuple(names))
    def _(net: Network):
        x = net.array(*shape)
        net.add("splitND", "x", " ".join(names), axis=axis, **fields)
        return dict(zip(names, np.split(x, np.cumsum(expected)[:-1], axis)))


split_nd("equal", 1, [2, 2, 2], (2, 6, 3), numSplits=3)
split_nd("sizes", -3, [3, 2], (5, 3, 4), splitSizes=[3, 2])
split_nd("sizes_before_number", 0, [1, 4, 2], (7,), splitSizes=[1, 4, 2], numSplits=3)


def slice_(
    name: str, axis: int, start: int, end: int, stride: int, shape: tuple[int, ...], legacy: bool = False
) -> None:
    @case("slice", name, legacy=legacy)
    def _(net: Network):
        x = net.array(*shape)
        net.add("slice", "x", startIndex=start, endIndex=end, stride=stride, axis=axis)
        taken = [slice(None)] * len(shape)
        taken[axis - 3] = slice(start, end, stride)
        return x[tuple(taken)]


slice_("channels", 0, 1, 4, 1, (2, 5, 2, 3))
slice_("rows_by_twos", 1, 1, 6, 2, (2, 7, 2))
slice_("columns_from_the_end", 2, -4, -1, 2, (6,))
slice_("rank5", 0, 0, -1, 3, (2, 1, 5, 2, 2))
slice_("legacy", 0, 1, 3, 1, (4, 2, 3), legacy=True)

# (begin, end, stride, begin mask, end mask, squeeze mask) of each axis, and what numpy has for it.
SLICES = {
    "documented": ([(1, 3, 2, 1, 0, 0), (2, -3, 2, 0, 1, 0), (3, 2, 2, 1, 1, 0)], np.s_[:3:2, 2::2, ::2]),
    "squeezed": ([(1, 3, 2, 1, 0, 0), (2, -3, 2, 0, 1, 1), (3, 2, 2, 1, 1, 0)], np.s_[:3:2, 2, ::2]),
    "negative": ([(-4, -1, 1, 0, 0, 0), (0, 0, 1, 1, 1, 0), (-1, 5, 1, 0, 0, 1)], np.s_[-4:-1, :, -1]),
    "backwards": ([(4, 1, -1, 0, 0, 0), (0, 0, -2, 1, 1, 0), (-1, -4, -2, 0, 0, 0)], np.s_[4:1:-1, ::-2, -1:-4:-2]),
    "beyond": ([(2, 99, 1, 0, 0, 0), (-99, 2, 1, 0, 0, 0), (0, 5, 3, 0, 0, 0)], np.s_[2:99, :2, ::3]),
    "all_squeezed": ([(1, 2, 1, 0, 0, 1), (-2, 0, 1, 0, 0, 1), (4, 0, 1, 0, 0, 1)], np.s_[1, -2, 4]),
}
FIELDS = ("beginIds", "endIds", "strides", "beginMasks", "endMasks", "squeezeMasks")


def lists(rows: list[tuple[int, ...]]) -> dict[str, list]:
    columns = dict(zip(FIELDS, map(list, zip(*rows))))
    return {name: list(map(bool, column)) if name.endswith("Masks") else column for name, column in columns.items()}


def slice_static(name: str) -> None:
    rows, taken = SLICES[name]

    @case("sliceStatic", name)
    def _(net: Network):
        x = net.array(5, 5, 5)
        net.add("sliceStatic", "x", **lists(rows))
        return x[taken]


def slice_dynamic(name: str, inputs: int, constant: bool = False) -> None:
    """With as many of the lists as inputs, from the first one on; the others are stored."""
    rows, taken = SLICES[name]
    of = lists(rows)
    given = FIELDS[:inputs]

    @case("sliceDynamic", f"{name}_{inputs}" + ("_constant" if constant else ""))
    def _(net: Network):
        x = net.array(5, 5, 5)
        for field in given:
            # Strides and masks decide on the shape, and have to be known.
            if not constant and field in ("beginIds", "endIds"):
                net.given(of[field], name=field)
        for field in given:
            if constant or field not in ("beginIds", "endIds"):
                net.add("loadConstantND", "", field, shape=[3], data=np.array(of[field], np.float32))
        stored = {field: of[field] for field in FIELDS[inputs:]}
        net.add("sliceDynamic", " ".join(("x", *given)), **stored)
        return x[taken]


for name in SLICES:
    slice_static(name)
    slice_dynamic(name, 2)
slice_dynamic("documented", 1)
slice_dynamic("documented", 3)
slice_dynamic("squeezed", 6)
slice_dynamic("backwards", 6, constant=True)


@case("sliceDynamic", "five_of_each")
def _(net: Network):
    # As coremltools' builder writes it for inputs of every rank.
    x = net.array(2, 3, 4)
    net.given([1, 1, 1], name="begin")
    net.given([2, 3, 4], name="end")
    stored = {"endIds": [1] * 5, "strides": [1] * 5} | {field: [False] * 5 for field in FIELDS[3:]}
    net.add("sliceDynamic", "x begin end", **stored)
    return x[1:, 1:, 1:]


def slice_by_size(name: str, axis: int, begin: int, size: int, *shape: int) -> None:
    @case("sliceBySize", name)
    def _(net: Network):
        x = net.array(*shape)
        net.given([begin], name="begin")
        net.add("sliceBySize", "x begin", axis=axis, size=size)
        return np.take(x, range(begin, shape[axis] if size == -1 else begin + size), axis)


slice_by_size("middle", 1, 1, 2, 2, 4, 3)
slice_by_size("negative_axis", -1, 0, 3, 2, 5)
slice_by_size("all_that_is_left", 0, 2, -1, 5, 2)


def windows(name: str, axis: int, size: int, step: int, *shape: int) -> None:
    @case("slidingWindows", name)
    def _(net: Network):
        x = net.array(*shape)
        net.add("slidingWindows", "x", axis=axis, windowSize=size, step=step)
        return sliding_windows(x, axis, size, step)


windows("vector", 0, 3, 1, 7)
windows("middle", 1, 2, 2, 2, 7, 3)
windows("negative_axis", -2, 4, 3, 2, 9, 2)
windows("rank4", 2, 2, 1, 2, 1, 4, 2)


def repeat(name: str, times: int, shape: tuple[int, ...], legacy: bool = False) -> None:
    @case("sequenceRepeat", name, legacy=legacy)
    def _(net: Network):
        x = net.array(*shape)
        net.add("sequenceRepeat", "x", nRepetitions=times)
        whole = x[None, None] if legacy else x
        return np.concatenate([whole] * max(times, 1), -5)


repeat("twice", 2, (3, 1, 2, 2, 1))
repeat("unset", 0, (2, 1, 2, 1, 1))
repeat("legacy", 3, (2, 2, 1), legacy=True)


def reverse(name: str, flags: list[bool], *shape: int) -> None:
    @case("reverse", name)
    def _(net: Network):
        x = net.array(*shape)
        net.add("reverse", "x", reverseDim=flags)
        return np.flip(x, [axis for axis, flag in enumerate(flags) if flag])


reverse("one", [False, True], 2, 4)
reverse("all", [True, True, True], 2, 3, 4)
reverse("none", [False, False], 2, 3)
reverse("rank5", [True, False, False, True, False], 2, 1, 2, 3, 2)


def reverse_seq(name: str, batch: int, sequence: int, lengths: list[int], *shape: int) -> None:
    @case("reverseSeq", name)
    def _(net: Network):
        x = net.array(*shape)
        net.given(lengths, name="lengths")
        net.add("reverseSeq", "x lengths", batchAxis=batch, sequenceAxis=sequence)
        return reverse_sequence(x, lengths, sequence, batch)


reverse_seq("matrix", 0, 1, [3, 0], 2, 4)
reverse_seq("rank3", 0, 1, [2, 3], 2, 3, 2)
reverse_seq("apart", 1, -1, [1, 4, 2], 2, 3, 4)
