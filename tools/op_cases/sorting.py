"""Sorting, cumulative sums and non-maximum suppression."""

import numpy as np

from .case import Tensor, case, distinct, given, integers, normal


def argsort(x, axis=-1, ascending=False):
    return np.argsort(x if ascending else -x, axis, stable=True)


def topk(x, k=1, axis=-1, ascending=False, sort=True, return_indices=True, output_indices_dtype="int32"):
    order = argsort(x, axis, ascending)
    indices = np.take(order, range(k), axis)
    values = np.take_along_axis(x, indices, axis)
    return (values, indices) if return_indices else values


def cumsum(x, axis=0, exclusive=False, reverse=False):
    x = np.flip(x, axis) if reverse else x
    y = np.cumsum(x, axis)
    y = y - x if exclusive else y  # coremltools' value_inference fails here
    return np.flip(y, axis) if reverse else y


def overlap(a, b):
    """Intersection over union of two boxes (x, y, width, height) around their centre."""
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    common = np.prod(np.maximum(high - low, 0))
    whole = np.prod(a[2:]) + np.prod(b[2:]) - common
    return common / whole if whole > 0 else 0.0


def suppress(boxes, scores, iou_threshold, score_threshold, max_boxes, per_class):
    """The indices of the boxes kept for one image, by falling best score."""
    best, classes = scores.max(1), scores.argmax(1)
    kept: list[int] = []
    for i in np.argsort(-best, stable=True):
        rivals = [j for j in kept if not per_class or classes[j] == classes[i]]
        if best[i] >= score_threshold and all(overlap(boxes[i], boxes[j]) <= iou_threshold for j in rivals):
            kept.append(int(i))
    # coremltools' tests of the op on Core ML: without any box above the threshold, the best one remains.
    return (kept or [int(best.argmax())])[:max_boxes]


def non_maximum_suppression(
    boxes, scores, iou_threshold, score_threshold, max_boxes, per_class_suppression=False
):
    n, _, classes = scores.shape
    # The places that are left over have zeros, and the index -1.
    out_boxes, out_scores = np.zeros((n, max_boxes, 4)), np.zeros((n, max_boxes, classes))
    indices, counts = np.full((n, max_boxes), -1), np.zeros(n)
    for b in range(n):
        kept = suppress(
            boxes[b], scores[b], iou_threshold, score_threshold, max_boxes, per_class_suppression
        )
        counts[b] = len(kept)
        indices[b, : len(kept)] = kept
        out_boxes[b, : len(kept)] = boxes[b, kept]
        out_scores[b, : len(kept)] = scores[b, kept]
    return out_boxes, out_scores, indices, counts


def non_maximum_suppression_ios17(boxes, scores, iou_threshold, max_boxes, per_class_suppression=False):
    """Boxes and scores have the number of boxes last; no score threshold and no counts."""
    results = non_maximum_suppression(
        boxes.swapaxes(1, 2), scores.swapaxes(1, 2), iou_threshold, -np.inf, max_boxes, per_class_suppression
    )
    return results[0].swapaxes(1, 2), results[1].swapaxes(1, 2), results[2]


def crowded_boxes(batch: int, count: int, coordinates_last: bool = True) -> Tensor:
    """Boxes of similar size in a small room, so that some of them overlap much."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        centres = rng.uniform(0, 4, (batch, count, 2))
        sizes = rng.uniform(1, 3, (batch, count, 2))
        boxes = np.concatenate([centres, sizes], -1)
        return boxes if coordinates_last else np.ascontiguousarray(boxes.swapaxes(1, 2))

    return Tensor(draw, "fp32")


def different_scores(*shape: int) -> Tensor:
    return Tensor(lambda rng: (rng.permutation(int(np.prod(shape))) / 100 + 0.01).reshape(shape), "fp32")


X = distinct(3, 4, 5)
NMS = {"boxes": crowded_boxes(2, 8), "scores": different_scores(2, 8, 3)}

CASES = [
    case("argsort", "defaults", argsort, bare=True, x=X),
    case("argsort", "ascending", argsort, x=X, ascending=True),
    case("argsort", "axis_1", argsort, x=X, axis=1, ascending=False),
    case("argsort", "negative_axis", argsort, x=X, axis=-3, ascending=True),
    case("argsort", "int32", argsort, x=distinct(7, dtype="int32"), axis=0),
    case("topk", "defaults", topk, bare=True, x=X),
    case("topk", "largest", topk, x=X, k=3, axis=-1),
    case("topk", "smallest", topk, x=X, k=2, axis=1, ascending=True),
    case("topk", "rank1", topk, x=distinct(9), k=4, axis=0),
    case("topk", "int32", topk, x=distinct(3, 4, dtype="int32"), k=2, axis=-2),
    case("topk", "ios16", topk, opset="iOS16", x=X, k=3, axis=-1, sort=True, return_indices=True),
    case("topk", "ios16_values_only", topk, opset="iOS16", x=X, k=3, axis=0, return_indices=False),
    case("topk", "ios16_any_order", topk, opset="iOS16", x=X, k=3, axis=-1, sort=False),
    case("topk", "ios17", topk, opset="iOS17", x=X, k=2, axis=1, output_indices_dtype="int32"),
    case("topk", "ios17_uint16", topk, opset="iOS17", x=X, k=2, axis=-1, output_indices_dtype="uint16"),
    case("cumsum", "defaults", cumsum, bare=True, x=normal(3, 4)),
    case("cumsum", "axis", cumsum, x=normal(2, 3, 4), axis=1),
    case("cumsum", "exclusive", cumsum, x=normal(2, 5), axis=-1, exclusive=True),
    case("cumsum", "reverse", cumsum, x=normal(2, 5), axis=-1, reverse=True),
    case("cumsum", "exclusive_reverse", cumsum, x=normal(4, 2), axis=0, exclusive=True, reverse=True),
    case("cumsum", "int32", cumsum, x=integers(-9, 9, 6), axis=0),
    case("non_maximum_suppression", "all_classes", non_maximum_suppression, **NMS,
         iou_threshold=0.2, score_threshold=0.05, max_boxes=3),
    case("non_maximum_suppression", "per_class", non_maximum_suppression, **NMS,
         iou_threshold=0.1, score_threshold=0.05, max_boxes=4, per_class_suppression=True),
    case("non_maximum_suppression", "padded", non_maximum_suppression, **NMS,
         iou_threshold=0.05, score_threshold=0.4, max_boxes=8, per_class_suppression=False),
    case("non_maximum_suppression", "nothing_above", non_maximum_suppression, **NMS,
         iou_threshold=0.3, score_threshold=0.9, max_boxes=3),
    case("non_maximum_suppression", "one_class", non_maximum_suppression, boxes=crowded_boxes(1, 20),
         scores=different_scores(1, 20, 1), iou_threshold=0.3, score_threshold=0.1, max_boxes=12),
    case("non_maximum_suppression", "points", non_maximum_suppression,
         boxes=given([[[1, 1, 0, 0], [1, 1, 0, 0], [2, 2, 1, 1]]]), scores=given([[[0.9], [0.8], [0.7]]]),
         iou_threshold=0.5, score_threshold=0.1, max_boxes=3),
    case("non_maximum_suppression", "ios17_per_class", non_maximum_suppression_ios17, opset="iOS17",
         boxes=crowded_boxes(2, 9, coordinates_last=False), scores=different_scores(2, 3, 9),
         iou_threshold=0.1, max_boxes=6, per_class_suppression=True),
    case("non_maximum_suppression", "ios17", non_maximum_suppression_ios17, opset="iOS17",
         boxes=crowded_boxes(1, 6, coordinates_last=False), scores=different_scores(1, 2, 6),
         iou_threshold=0.2, max_boxes=2, per_class_suppression=False),
]  # fmt: skip
