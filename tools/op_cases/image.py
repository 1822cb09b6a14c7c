"""Resizing and sampling of images."""

import numpy as np

from .case import Tensor, case, const, given, integers, normal, uniform


def grid(size_in: int, size_out: int, mode: str) -> np.ndarray:
    """The source position of every target pixel along one axis, as documented for resize_bilinear."""
    i = np.arange(size_out)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if size_out == 1:
            return np.array([(size_in - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        points = i * (size_in - 1) / (size_out - 1)
    elif mode == "DEFAULT":
        points = i * size_in / size_out
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size_in - 1) / size_out
        points = (i + 0.5) * delta
    else:
        points = (i + 0.5) * size_in / size_out - 0.5
    return np.clip(points, 0, size_in - 1)


def interpolate(x: np.ndarray, axis: int, points: np.ndarray) -> np.ndarray:
    low = np.floor(points).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = -1
    weight = (points - low).reshape(shape)
    return np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight


def bilinear(x, height, width, mode):
    x = interpolate(x, x.ndim - 2, grid(x.shape[-2], height, mode))
    return interpolate(x, x.ndim - 1, grid(x.shape[-1], width, mode))


def resize_bilinear(x, target_size_height=1, target_size_width=1, sampling_mode="DEFAULT"):
    return bilinear(x, target_size_height, target_size_width, sampling_mode)


def upsample_bilinear(
    x, scale_factor_height=1, scale_factor_width=1, align_corners=True, half_pixel_centers=None
):
    half_pixel = not align_corners if half_pixel_centers is None else half_pixel_centers
    # The scale that counts is that of the rounded output size.
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half_pixel else "DEFAULT"
    height, width = int(x.shape[-2] * scale_factor_height), int(x.shape[-1] * scale_factor_width)
    return bilinear(x, height, width, mode)


def nearest(x, size, offset):
    rows = np.floor((np.arange(size[0]) + offset) * x.shape[-2] / size[0]).astype(int)
    columns = np.floor((np.arange(size[1]) + offset) * x.shape[-1] / size[1]).astype(int)
    return x[..., rows, :][..., columns]


def upsample_nearest_neighbor(x, scale_factor_height=1, scale_factor_width=1):
    size = int(x.shape[-2] * scale_factor_height), int(x.shape[-1] * scale_factor_width)
    return nearest(x, size, 0)


def resize_nearest_neighbor(x, target_size_height, target_size_width):
    # The documentation leaves the rounding open. coremltools uses this op for TensorFlow's half-pixel
    # centres, and upsample_nearest_neighbor for its plain positions.
    return nearest(x, (target_size_height, target_size_width), 0.5)


def resize(x, shape, resized_dims, interpolation_mode="LINEAR", sampling_mode="DEFAULT"):
    """`shape` is aligned with the last dimensions of x, and only its last `resized_dims` count."""
    count = int(resized_dims)
    target = [n or x.shape[i - count] for i, n in enumerate(list(shape)[len(shape) - count :])]
    target = list(x.shape[-2 : x.ndim - count]) + target
    if interpolation_mode == "NEAREST_NEIGHBOR":
        return nearest(x, target, 0.5)
    return bilinear(x, *target, sampling_mode)


def resize_rank5(x, **options):
    outer = x.shape[:-3]
    result = resize(x.reshape(-1, *x.shape[-3:]), **options)
    return result.reshape(*outer, *result.shape[1:])


def corners(box, mode, height, width, normalized, scale):
    """(top, left, bottom, right) in pixels."""
    a, b, c, d = box
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if mode.startswith("CENTER_SIZE"):
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    box = np.array([a, b, c, d]) * scale
    return box * [height - 1, width - 1, height - 1, width - 1] if normalized else box


def crop_points(start, end, count, mode):
    """Like `grid`, for the part of an axis from `start` to `end`."""
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return np.array([(start + end) / 2 if mode == "ALIGN_CORNERS" else start])
        return start + np.arange(count) * (end - start) / (count - 1)
    # The others are documented for images alone; a box from 0 to size - 1 is a whole image.
    return start + grid(end - start + 1, count, mode)


def crop_boxes(x, boxes, images, height, width, normalized, scale, box_mode, mode, pad_value):
    results = []
    for box, image in zip(boxes, images):
        top, left, bottom, right = corners(box, box_mode, *x.shape[-2:], normalized, scale)
        rows, columns = crop_points(top, bottom, height, mode), crop_points(left, right, width, mode)
        inside_rows = (rows >= 0) & (rows <= x.shape[-2] - 1)
        inside_columns = (columns >= 0) & (columns <= x.shape[-1] - 1)
        patch = interpolate(x[image], 1, np.clip(rows, 0, x.shape[-2] - 1))
        patch = interpolate(patch, 2, np.clip(columns, 0, x.shape[-1] - 1))
        results.append(np.where(inside_rows[:, None] & inside_columns, patch, pad_value))
    return np.stack(results)


def crop_resize(
    x, roi, target_height=1, target_width=1, normalized_coordinates=False, spatial_scale=1.0,
    box_coordinate_mode="CORNERS_HEIGHT_FIRST", sampling_mode="DEFAULT", pad_value=0.0,
):  # fmt: skip
    boxes = roi[:, 0, :, 0, 0]
    options = (
        target_height, target_width, normalized_coordinates, spatial_scale, box_coordinate_mode,
        sampling_mode, pad_value,
    )  # fmt: skip
    if boxes.shape[1] == 5:
        return crop_boxes(x, boxes[:, 1:], boxes[:, 0].astype(int), *options)[:, None]
    return np.stack([crop_boxes(x, boxes, [b] * len(boxes), *options) for b in range(len(x))], 1)


def crop_resize_ios17(
    x, boxes, box_indices=None, target_height=1, target_width=1, normalized_coordinates=False, spatial_scale=1.0,
    box_coordinate_mode="CORNERS_HEIGHT_FIRST", sampling_mode="DEFAULT", pad_value=0.0,
):  # fmt: skip
    return crop_boxes(
        x, boxes, range(len(boxes)) if box_indices is None else box_indices, target_height, target_width,
        normalized_coordinates, spatial_scale, box_coordinate_mode, sampling_mode, pad_value,
    )  # fmt: skip


def pixel_position(value, size, mode, align_corners):
    if mode == "unnormalized":
        return value
    unit = (value + 1) / 2 if mode == "normalized_minus_one_to_one" else value
    return unit * (size - 1) if align_corners else unit * size - 0.5


def pixel(image, row, column, padding_mode, padding_value):
    """The channels at a whole position, which may be outside the image."""

    def place(i, size):
        if 0 <= i < size:
            return i
        if padding_mode == "border":
            return min(max(i, 0), size - 1)
        if padding_mode == "reflection":
            i = abs(i) % (2 * (size - 1))
            return min(i, 2 * (size - 1) - i)
        if padding_mode == "symmetric":
            i = (i if i >= 0 else -i - 1) % (2 * size)
            return min(i, 2 * size - 1 - i)
        return None

    row, column = place(row, image.shape[1]), place(column, image.shape[2])
    if row is None or column is None:
        return np.full(image.shape[0], padding_value)
    return image[:, row, column]


def mirrored(at, size, mode):
    """The position inside of the image that one outside shows."""
    if mode == "symmetric":
        at = (at + 0.5) % (2 * size)
        return np.clip(min(at, 2 * size - at) - 0.5, 0, size - 1)
    if mode == "reflection":
        at = abs(at) % max(2 * (size - 1), 1)
        return min(at, 2 * (size - 1) - at)
    return at


def resample(x, coordinates, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners):
    n, channels, height, width = x.shape
    result = np.empty((n, channels, *coordinates.shape[1:3]))
    for b, i, j in np.ndindex(n, *coordinates.shape[1:3]):
        column, row = coordinates[b, i, j]
        row = pixel_position(row, height, coordinates_mode, align_corners)
        column = pixel_position(column, width, coordinates_mode, align_corners)

        def at(r, c):
            return pixel(x[b], int(r), int(c), padding_mode, padding_value)

        if sampling_mode == "nearest":
            row, column = mirrored(row, height, padding_mode), mirrored(column, width, padding_mode)
            result[b, :, i, j] = at(np.round(row), np.round(column))
            continue
        top, left = np.floor(row), np.floor(column)
        down, right = row - top, column - left
        upper = at(top, left) * (1 - right) + at(top, left + 1) * right
        lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
        result[b, :, i, j] = upper * (1 - down) + lower * down
    return result


def affine(
    x, transform_matrix, output_height, output_width, sampling_mode, padding_mode, padding_value,
    coordinates_mode, align_corners,
):  # fmt: skip
    """Target positions from -1 to 1 are mapped to source positions, then sampled."""
    columns, rows = np.meshgrid(np.linspace(-1, 1, output_width), np.linspace(-1, 1, output_height))
    matrices = np.broadcast_to(transform_matrix, (len(x), 6)).reshape(-1, 2, 3)
    points = np.stack([columns, rows, np.ones_like(rows)], -1)
    coordinates = np.einsum("hwk,nck->nhwc", points, matrices)
    return resample(
        x, coordinates, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners
    )


SMALL = normal(1, 2, 3, 4)
MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")

RESIZING = [
    *(
        case("resize_bilinear", f"{mode.lower()}_{name}", resize_bilinear, x=normal(1, 2, 4, 5),
             target_size_height=height, target_size_width=width, sampling_mode=mode)
        for mode in MODES
        for name, height, width in (("up", 7, 10), ("down", 3, 2))
    ),
    case("resize_bilinear", "defaults", resize_bilinear, bare=True, x=SMALL, target_size_height=5,
         target_size_width=6),
    case("resize_bilinear", "align_corners_to_one", resize_bilinear, x=SMALL, target_size_height=1,
         target_size_width=3, sampling_mode="ALIGN_CORNERS"),
    case("resize_bilinear", "strict_align_corners_to_one", resize_bilinear, x=SMALL, target_size_height=1,
         target_size_width=3, sampling_mode="STRICT_ALIGN_CORNERS"),
    case("resize_bilinear", "rank3", resize_bilinear, x=normal(2, 3, 3), target_size_height=6,
         target_size_width=4, sampling_mode="UNALIGN_CORNERS"),
    case("upsample_bilinear", "defaults", upsample_bilinear, bare=True, x=SMALL, scale_factor_height=2,
         scale_factor_width=3),
    case("upsample_bilinear", "half_pixel", upsample_bilinear, x=SMALL, scale_factor_height=2,
         scale_factor_width=3, align_corners=False),
    case("upsample_bilinear", "fractional", upsample_bilinear, x=SMALL, scale_factor_height=1.5,
         scale_factor_width=2.6, align_corners=False),
    case("upsample_bilinear", "fractional_align_corners", upsample_bilinear, x=SMALL, scale_factor_height=2.5,
         scale_factor_width=1.25, align_corners=True),
    case("upsample_bilinear", "down", upsample_bilinear, x=normal(1, 2, 6, 8), scale_factor_height=0.5,
         scale_factor_width=0.75, align_corners=False),
    case("upsample_bilinear", "rank3", upsample_bilinear, x=normal(2, 3, 2), scale_factor_height=2,
         scale_factor_width=2, align_corners=False),
    case("upsample_bilinear", "ios16_half_pixel", upsample_bilinear, opset="iOS16", x=SMALL,
         scale_factor_height=2, scale_factor_width=2, align_corners=False, half_pixel_centers=True),
    case("upsample_bilinear", "ios16_no_half_pixel", upsample_bilinear, opset="iOS16", x=SMALL,
         scale_factor_height=2, scale_factor_width=3, align_corners=False, half_pixel_centers=False),
    case("upsample_nearest_neighbor", "defaults", upsample_nearest_neighbor, bare=True, x=SMALL),
    case("upsample_nearest_neighbor", "whole", upsample_nearest_neighbor, x=SMALL, scale_factor_height=2,
         scale_factor_width=3),
    case("upsample_nearest_neighbor", "fractional", upsample_nearest_neighbor, x=normal(1, 2, 2, 4),
         scale_factor_height=2.5, scale_factor_width=1.5),
    case("upsample_nearest_neighbor", "of_sizes", upsample_nearest_neighbor, x=normal(1, 2, 1, 3),
         scale_factor_height=3.17, scale_factor_width=0.67),
    case("upsample_nearest_neighbor", "of_equal_sizes", upsample_nearest_neighbor, x=normal(1, 2, 1, 3),
         scale_factor_height=2.0, scale_factor_width=1.12),
    case("upsample_nearest_neighbor", "rank3", upsample_nearest_neighbor, x=normal(2, 2, 3),
         scale_factor_height=1, scale_factor_width=4),
    case("resize_nearest_neighbor", "whole", resize_nearest_neighbor, x=SMALL, target_size_height=6,
         target_size_width=12),
    case("resize_nearest_neighbor", "fractional", resize_nearest_neighbor, x=normal(1, 2, 2, 4),
         target_size_height=3, target_size_width=7),
    case("resize_nearest_neighbor", "down", resize_nearest_neighbor, x=normal(1, 1, 6, 9),
         target_size_height=2, target_size_width=3),
    *(
        case("resize", f"linear_{mode.lower()}", resize, opset="iOS17", x=SMALL, shape=[1, 2, 5, 7],
             resized_dims=np.uint32(2), interpolation_mode="LINEAR", sampling_mode=mode)
        for mode in MODES
    ),
    case("resize", "defaults", resize, opset="iOS17", bare=True, x=SMALL, shape=[6, 5],
         resized_dims=np.uint32(2)),
    case("resize", "nearest", resize, opset="iOS17", x=SMALL, shape=[6, 8], resized_dims=np.uint32(2),
         interpolation_mode="NEAREST_NEIGHBOR"),
    case("resize", "inherited_size", resize, opset="iOS17", x=SMALL, shape=[1, 0, 6],
         resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
    case("resize", "one_dimension", resize, opset="iOS17", x=SMALL, shape=[9, 7], resized_dims=np.uint32(1)),
    *(
        case("resize", f"dynamic_{name}_{mode.lower()}", resize, opset="iOS17", x=SMALL, shape=given(shape, "int32"),
             resized_dims=np.uint32(2), sampling_mode=mode)
        for mode in MODES
        for name, shape in (("up", [1, 5, 7]), ("one", [2, 1]))
    ),
    case("resize", "dynamic_nearest", resize, opset="iOS17", x=SMALL, shape=given([7, 3], "int32"),
         resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"),
    # Each place is a whole number, which 1 / 41 is not good enough for.
    case("resize", "dynamic_nearest_halved", resize, opset="iOS17", x=normal(1, 82), shape=given([41], "int32"),
         resized_dims=np.uint32(1), interpolation_mode="NEAREST_NEIGHBOR"),
    case("resize", "dynamic_inherited", resize, opset="iOS17", x=SMALL, shape=given([0, 9], "int32"),
         resized_dims=np.uint32(2)),
    case("resize", "rank5", resize_rank5, opset="iOS17", x=normal(2, 1, 3, 4, 5), shape=[6, 7],
         resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
    case("resize", "int32", resize, opset="iOS17", x=integers(-9, 9, 1, 2, 3, 4), shape=[6, 7],
         resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"),
    case("resize", "dynamic", resize, opset="iOS17", x=SMALL, shape=given([5, 3], "int32"),
         resized_dims=np.uint32(2), sampling_mode="ALIGN_CORNERS"),
]  # fmt: skip


def rois(boxes: list, images: list | None = None) -> Tensor:
    rows = [[*([] if images is None else [images[i]]), *box] for i, box in enumerate(boxes)]
    return const(given(np.array(rows).reshape(len(rows), 1, -1, 1, 1)))


CROPPING = [
    case("crop_resize", "corners", crop_resize, x=normal(2, 3, 5, 6), roi=rois([[1, 1, 3, 4], [0, 2, 2, 5]]),
         target_height=3, target_width=4, sampling_mode="ALIGN_CORNERS"),
    case("crop_resize", "width_first", crop_resize, x=normal(1, 2, 5, 6), roi=rois([[1, 1, 4, 3]]),
         target_height=2, target_width=3, box_coordinate_mode="CORNERS_WIDTH_FIRST",
         sampling_mode="ALIGN_CORNERS"),
    case("crop_resize", "center_size", crop_resize, x=normal(1, 2, 5, 6), roi=rois([[2, 2.5, 2, 3]]),
         target_height=3, target_width=2, box_coordinate_mode="CENTER_SIZE_HEIGHT_FIRST",
         sampling_mode="STRICT_ALIGN_CORNERS"),
    # One image, as coremltools declares another shape for several than the documentation.
    case("crop_resize", "normalized_with_image", crop_resize, x=normal(1, 2, 4, 5),
         roi=rois([[0, 0.25, 0.5, 1], [0.1, 0.1, 0.9, 0.8]], images=[0, 0]), target_height=2, target_width=3,
         normalized_coordinates=True, sampling_mode="ALIGN_CORNERS"),
    case("crop_resize", "spatial_scale", crop_resize, x=normal(1, 2, 5, 6), roi=rois([[2, 2, 6, 8]]),
         target_height=3, target_width=4, spatial_scale=0.5, sampling_mode="ALIGN_CORNERS"),
    case("crop_resize", "to_one_pixel", crop_resize, x=normal(1, 2, 5, 6), roi=rois([[1, 1, 2, 4]]),
         target_height=1, target_width=1, sampling_mode="ALIGN_CORNERS"),
    *(
        case("crop_resize", mode.lower(), crop_resize, x=normal(2, 2, 6, 7), roi=rois([[1, 2, 4, 5], [0, 0, 5, 6]]),
             target_height=3, target_width=5, sampling_mode=mode)
        for mode in MODES
    ),
    case("crop_resize", "ios16_padded", crop_resize, opset="iOS16", x=normal(1, 2, 4, 4),
         roi=rois([[-1, 0, 4, 3]]), target_height=6, target_width=4, sampling_mode="ALIGN_CORNERS",
         pad_value=7.0),
    case("crop_resize", "ios17", crop_resize_ios17, opset="iOS17", x=normal(2, 2, 4, 5),
         boxes=given([[0.0, 0.2, 0.6, 0.8], [0.1, 0.5, 1.3, 1.0], [0.3, 0.0, 0.9, 0.7]]),
         box_indices=given([1, 0, 1], "int32"), target_height=3, target_width=2, normalized_coordinates=True,
         sampling_mode="ALIGN_CORNERS", pad_value=10.0),
    case("crop_resize", "ios17_own_images", crop_resize_ios17, opset="iOS17", x=normal(2, 2, 4, 5),
         boxes=const(given([[1.0, 1.0, 3.0, 4.0], [0.0, 2.0, 2.0, 3.0]])), target_height=2, target_width=2,
         sampling_mode="ALIGN_CORNERS"),
]  # fmt: skip

SAMPLING = {"sampling_mode": "bilinear", "padding_mode": "constant", "padding_value": 0.0}
UNIT = {"coordinates_mode": "normalized_minus_one_to_one", "align_corners": True}
RESAMPLING = [
    case("resample", "normalized", resample, x=normal(2, 3, 4, 5), coordinates=uniform(-1, 1, 2, 3, 2, 2),
         **SAMPLING, **UNIT),
    case("resample", "pixel_edges", resample, x=normal(2, 3, 4, 5), coordinates=uniform(-1, 1, 2, 3, 2, 2),
         **SAMPLING, coordinates_mode="normalized_minus_one_to_one", align_corners=False),
    case("resample", "outside", resample, x=normal(1, 2, 4, 5), coordinates=uniform(-1.6, 1.6, 1, 4, 4, 2),
         **SAMPLING, **UNIT),
    case("resample", "padding_value", resample, x=normal(1, 2, 4, 5), coordinates=uniform(-2, 6, 1, 4, 4, 2),
         sampling_mode="bilinear", padding_mode="constant", padding_value=3.5, coordinates_mode="unnormalized",
         align_corners=True),
    case("resample", "border", resample, x=normal(1, 2, 4, 5), coordinates=uniform(-2, 6, 1, 4, 4, 2),
         sampling_mode="bilinear", padding_mode="border", padding_value=0.0, coordinates_mode="unnormalized",
         align_corners=True),
    case("resample", "reflection", resample, x=normal(1, 2, 4, 5), coordinates=uniform(-2, 6, 1, 4, 4, 2),
         sampling_mode="bilinear", padding_mode="reflection", padding_value=0.0,
         coordinates_mode="unnormalized", align_corners=True),
    case("resample", "symmetric", resample, x=normal(1, 2, 4, 5), coordinates=uniform(-2, 6, 1, 4, 4, 2),
         sampling_mode="bilinear", padding_mode="symmetric", padding_value=0.0,
         coordinates_mode="unnormalized", align_corners=True),
    case("resample", "nearest", resample, x=normal(1, 2, 4, 5), coordinates=uniform(0, 1, 1, 3, 3, 2),
         sampling_mode="nearest", padding_mode="constant", padding_value=0.0,
         coordinates_mode="normalized_zero_to_one", align_corners=True),
    *(
        case("resample", f"nearest_{mode}_halves", resample, x=normal(1, 2, 3, 4),
             coordinates=given([[[[at, at + 1] for at in np.arange(-5, 6, 2.5)], [[at, at] for at in np.arange(-4.5, 5)][:5]]]),
             sampling_mode="nearest", padding_mode=mode, padding_value=0.0, coordinates_mode="unnormalized",
             align_corners=True)
        for mode in ("symmetric", "reflection", "border")
    ),
    case("resample", "whole_pixels", resample, x=normal(1, 2, 4, 5), coordinates=integers(0, 3, 1, 2, 3, 2),
         sampling_mode="nearest", padding_mode="border", padding_value=0.0, coordinates_mode="unnormalized",
         align_corners=True),
    case("resample", "ios17", resample, opset="iOS17", x=normal(1, 2, 4, 5),
         coordinates=uniform(-1, 1, 1, 3, 2, 2), **SAMPLING, **UNIT),
    case("affine", "one_matrix", affine, x=normal(2, 2, 4, 5),
         transform_matrix=given([[0.8, 0.1, -0.1, -0.2, 0.7, 0.15]]), output_height=3, output_width=4,
         **SAMPLING, **UNIT),
    case("affine", "matrix_per_image", affine, x=normal(2, 2, 4, 4), transform_matrix=uniform(-0.5, 0.5, 2, 6),
         output_height=5, output_width=3, **SAMPLING, **UNIT),
]  # fmt: skip

CASES = RESIZING + CROPPING + RESAMPLING
