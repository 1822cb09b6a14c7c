"""Rows and columns: cropping, padding, resizing."""

from typing import Any

import numpy as np
from op_cases.image import bilinear, crop_resize, nearest

from .network import Network, case


def borders(top: int, bottom: int, left: int, right: int) -> dict[str, Any]:
    pairs = [(top, bottom), (left, right)]
    return {"borderAmounts": [{"startEdgeSize": start, "endEdgeSize": end} for start, end in pairs]}


def crop(name: str, amounts: tuple[int, int, int, int], shape: tuple[int, ...], legacy: bool = False) -> None:
    @case("crop", name, legacy=legacy)
    def _(net: Network):
        x, (top, bottom, left, right) = net.array(*shape), amounts
        net.add("crop", "x", cropAmounts=borders(*amounts))
        return x[..., top : shape[-2] - bottom, left : shape[-1] - right]


crop("amounts", (1, 2, 3, 1), (2, 6, 7))
crop("one_side", (0, 2, 0, 0), (1, 2, 6, 3))
crop("rank5", (1, 0, 0, 1), (2, 1, 2, 3, 4))
crop("legacy", (1, 1, 0, 2), (2, 4, 5), legacy=True)


def crop_like(
    name: str, offset: list[int], shape: tuple[int, ...], like: tuple[int, ...], legacy: bool = False
) -> None:
    @case("crop", name, legacy=legacy)
    def _(net: Network):
        x, y = net.array(*shape), net.array(*like, name="y")
        # Amounts count for nothing where there is a second input.
        net.add("crop", "x y", "cropped", offset=offset, cropAmounts=borders(1, 1, 1, 1))
        net.add("multiply", "cropped y")
        top, left = offset or (0, 0)
        return x[..., top : top + like[-2], left : left + like[-1]] * y


crop_like("like", [1, 2], (1, 2, 6, 7), (1, 2, 3, 4))
crop_like("like_without_offset", [], (2, 6, 7), (2, 3, 4))
crop_like("like_legacy", [0, 3], (2, 6, 7), (2, 6, 4), legacy=True)

PADDINGS = {
    "constant": ({"constant": {"value": 1.5}}, {"constant_values": 1.5}),
    "zero": ({"constant": {}}, {}),
    "reflection": ({"reflection": {}}, {"mode": "reflect"}),
    "replication": ({"replication": {}}, {"mode": "edge"}),
}


def padding(kind: str, name: str, amounts: tuple[int, ...], shape: tuple[int, ...], legacy: bool = False) -> None:
    fields, options = PADDINGS[kind]

    @case("padding", f"{kind}_{name}", legacy=legacy)
    def _(net: Network):
        x, (top, bottom, left, right) = net.array(*shape), amounts
        net.add("padding", "x", paddingAmounts=borders(*amounts), **fields)
        return np.pad(x, [(0, 0)] * (len(shape) - 2) + [(top, bottom), (left, right)], **options)


for kind in PADDINGS:
    padding(kind, "rank4", (2, 1, 0, 3), (1, 2, 3, 5))
    padding(kind, "rank2", (0, 2, 1, 1), (4, 3))
    padding(kind, "legacy", (1, 1, 2, 0), (2, 3, 4), legacy=True)


def constant_pad(
    name: str, amounts: list[int], shape: tuple[int, ...], given: bool = False, up_to: bool = False
) -> None:
    @case("constantPad", name)
    def _(net: Network):
        x = net.array(*shape)
        fields = {"value": -2.5, "padToGivenOutputSizeMode": up_to}
        if given:
            net.given(amounts, name="amounts")
            net.add("constantPad", "x amounts", **fields)
        else:
            net.add("constantPad", "x", padAmounts=amounts, **fields)
        sizes = np.repeat(shape, 2)
        wanted = np.maximum(np.array(amounts) - sizes, 0) if up_to else np.array(amounts)
        return np.pad(x, wanted.reshape(-1, 2), constant_values=-2.5)


constant_pad("rank2", [0, 1, 4, 0], (2, 3))
constant_pad("rank3", [0, 0, 3, 4, 0, 9], (2, 3, 1))
constant_pad("given", [1, 0, 2, 1], (2, 3), given=True)
constant_pad("up_to", [0, 5, 7, 0], (3, 4), up_to=True)
constant_pad("up_to_less_than_there_is", [0, 2, 6, 0, 0, 3], (3, 4, 3), up_to=True)
constant_pad("up_to_given", [0, 5, 7, 0], (3, 4), up_to=True, given=True)


@case("constantPad", "rank5")
def _(net: Network):
    x = net.array(1, 2, 1, 2, 3)
    net.add("constantPad", "x", padAmounts=[1, 0, 0, 0, 0, 2, 1, 1, 0, 1])
    return np.pad(x, [(1, 0), (0, 0), (0, 2), (1, 1), (0, 1)])


# --- resizing ---------------------------------------------------------------------------------------

# `linearUpsampleMode`, and how the references call it.
LINEAR = {"default": (0, "DEFAULT"), "align_corners": (1, "STRICT_ALIGN_CORNERS"), "centres": (2, "UNALIGN_CORNERS")}


def upsampled(x: np.ndarray, factors: tuple[float, float], mode: str | None) -> np.ndarray:
    height, width = int(x.shape[-2] * factors[0]), int(x.shape[-1] * factors[1])
    return nearest(x, (height, width), 0) if mode is None else bilinear(x, height, width, LINEAR[mode][1])


def upsample(
    name: str, factors: tuple[float, float], mode: str | None, shape: tuple[int, ...], legacy: bool = False
) -> None:
    @case("upsample", name, legacy=legacy)
    def _(net: Network):
        x = net.array(*shape)
        whole = all(isinstance(factor, int) for factor in factors)
        fields = {"scalingFactor" if whole else "fractionalScalingFactor": list(factors)}
        fields |= {} if mode is None else {"mode": 1, "linearUpsampleMode": LINEAR[mode][0]}
        net.add("upsample", "x", **fields)
        return upsampled(x, factors, mode)


for mode in (None, *LINEAR):
    which = mode or "nearest"
    upsample(which, (2, 3), mode, (1, 2, 3, 4))
    upsample(f"{which}_fractional", (1.5, 2.5), mode, (2, 4, 2))
    upsample(f"{which}_rank5", (3, 1), mode, (2, 2, 1, 2, 3))
    upsample(f"{which}_legacy", (2, 2), mode, (2, 3, 2), legacy=True)
upsample("nearest_smaller", (0.5, 0.5), None, (1, 2, 4, 6))
upsample("nearest_of_sizes", (3.2, 1.12), None, (1, 2, 1, 3))
upsample("fractional_rounded_down", (1.3, 1.6), "default", (1, 1, 5, 4))


@case("upsample", "no_factor")
def _(net: Network):
    x = net.array(1, 2, 3, 2)
    net.add("upsample", "x")
    return x


# The names of `SamplingMode` in its order, and those of the references.
GRIDS = {
    "strict_align_endpoints": "STRICT_ALIGN_CORNERS",
    "align_endpoints": "ALIGN_CORNERS",
    "upsample": "DEFAULT",
    "roi_align": "OFFSET_CORNERS",
}


def resize(name: str, grid: str, shape: tuple[int, ...], size: tuple[int, int], legacy: bool = False) -> None:
    @case("resizeBilinear", name, legacy=legacy)
    def _(net: Network):
        x = net.array(*shape)
        net.add("resizeBilinear", "x", targetSize=list(size), mode={"samplingMethod": list(GRIDS).index(grid)})
        return bilinear(x, *size, GRIDS[grid])


for grid in GRIDS:
    resize(f"{grid}_larger", grid, (1, 2, 3, 4), (5, 7))
    resize(f"{grid}_smaller", grid, (2, 5, 7), (3, 2))
    resize(f"{grid}_one_pixel", grid, (1, 2, 4, 5), (1, 1))
resize("rank5", "align_endpoints", (2, 1, 2, 3, 4), (4, 6))
resize("legacy", "strict_align_endpoints", (2, 3, 4), (4, 6), legacy=True)


@case("resizeBilinear", "no_size")
def _(net: Network):
    x = net.array(2, 3, 4)
    net.add("resizeBilinear", "x")
    return x[:, :1, :1]


BOXES = ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST")
REGIONS = [[1.0, 1.5, 3.0, 4.0], [0.5, 0.0, 2.5, 3.5]]
# With centres in front, inside of the image too.
CENTRED = [[2.0, 2.5, 2.0, 3.0], [1.5, 2.0, 1.5, 1.0]]


def regions(
    name: str,
    boxes: list,
    grid: str = "align_endpoints",
    size: tuple[int, int] = (3, 4),
    batch: int = 1,
    images: list[int] | None = None,
    **options: Any,
) -> None:
    @case("cropResize", name)
    def _(net: Network):
        x = net.array(1, batch, 2, 5, 6)
        numbered = boxes if images is None else [[image, *box] for image, box in zip(images, boxes)]
        roi = net.given(np.reshape(numbered, (len(boxes), 1, -1, 1, 1)), name="roi")
        mode = options.get("box_coordinate_mode", BOXES[0])
        fields = {"spatialScale": options["spatial_scale"]} if "spatial_scale" in options else {}
        net.add(
            "cropResize",
            "x roi",
            targetSize=list(size),
            mode={"samplingMethod": list(GRIDS).index(grid)},
            boxIndicesMode={"boxMode": BOXES.index(mode)},
            normalizedCoordinates=options.get("normalized_coordinates", False),
            **fields,
        )
        return crop_resize(x[0], roi, *size, sampling_mode=GRIDS[grid], **options)


for grid in GRIDS:
    regions(grid, REGIONS, grid)
    regions(f"{grid}_one_pixel", REGIONS, grid, size=(1, 1))
for mode in BOXES:
    regions(mode.lower(), CENTRED if mode.startswith("CENTER") else REGIONS, box_coordinate_mode=mode)
regions("every_image", REGIONS, batch=2)
regions("numbered_image", REGIONS, batch=3, images=[2, 0])
regions("normalized", [[0.0, 0.25, 0.5, 1.0], [0.25, 0.125, 0.75, 0.5]], normalized_coordinates=True)
regions("spatial_scale", [[2.0, 3.0, 6.0, 8.0]], spatial_scale=0.5)
regions("whole_image", [[0.0, 0.0, 4.0, 5.0]], "upsample", size=(7, 3))
