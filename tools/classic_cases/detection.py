"""Non-maximum suppression, and the item similarity recommender."""

import numpy as np

from .case import FLOAT32, array, case, dictionary, double, int64, model, optional, sequence

rng = np.random.default_rng(5)


def overlap(a, b):
    """Intersection over union of boxes by centre and size."""
    corners = [(np.array(x[:2]) - np.array(x[2:]) / 2, np.array(x[:2]) + np.array(x[2:]) / 2) for x in (a, b)]
    sides = np.minimum(corners[0][1], corners[1][1]) - np.maximum(corners[0][0], corners[1][0])
    shared = float(np.prod(np.clip(sides, 0, None)))
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def suppress(confidence, boxes, iou, threshold, per_class):
    """The algorithm in the words of the format's description: take the best, discard what overlaps it, repeat."""
    left = [int(i) for i in np.argsort(-confidence.max(axis=1), kind="stable") if confidence[i].max() >= threshold]
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        same = lambda i: not per_class or confidence[i].argmax() == confidence[best].argmax()
        left = [i for i in left if not (same(i) and overlap(boxes[i], boxes[best]) > iou)]
    return kept


def add(name, per_class, rows=None, ranges=None, inputs=False, dtype=FLOAT32):
    shape = (rows,) if rows else ()
    box, score = (array(*shape, n, dtype=dtype) if rows else array(dtype=dtype, ranges=ranges and [ranges, (n, n)]) for n in (4, 3))
    features = [("scores", array(12, 3, dtype=dtype)), ("boxes", array(12, 4, dtype=dtype))]
    if inputs:
        features += [("iou", optional(double)), ("least", optional(double))]
    spec = model(features, [("kept_scores", score), ("kept_boxes", box)], version=5)
    nms = spec.nonMaximumSuppression
    nms.pickTop.perClass = per_class
    nms.iouThreshold, nms.confidenceThreshold = 0.4, 0.3
    nms.confidenceInputFeatureName, nms.coordinatesInputFeatureName = "scores", "boxes"
    nms.confidenceOutputFeatureName, nms.coordinatesOutputFeatureName = "kept_scores", "kept_boxes"
    nms.stringClassLabels.vector.extend(["a", "b", "c"])
    if inputs:
        nms.iouThresholdInputFeatureName, nms.confidenceThresholdInputFeatureName = "iou", "least"
    runs = []
    for iou, least in ((0.4, 0.3), (0.1, 0.5), (1.0, 0.0)) if inputs else ((0.4, 0.3),) * 3:
        centres = rng.choice([0.2, 0.3, 0.7], size=(12, 2)) + rng.normal(scale=0.02, size=(12, 2))
        boxes = np.hstack([centres, rng.uniform(0.15, 0.3, size=(12, 2))]).astype(np.float32)
        scores = rng.random((12, 3)).astype(np.float32) * rng.choice([0.3, 1.0], size=(12, 1)).astype(np.float32)
        kept = suppress(scores, boxes.astype(float), iou, least, per_class)
        lower, upper = (rows, rows) if rows else ranges or (0, 99)
        kept = kept[:upper]
        pad = max(lower - len(kept), 0)
        given = {"scores": scores, "boxes": boxes}
        if inputs and (iou, least) != (0.4, 0.3):
            given |= {"iou": iou, "least": least}
        runs.append((given, {
            "kept_scores": np.pad(scores[kept], ((0, pad), (0, 0))).reshape(-1, 3),
            "kept_boxes": np.pad(boxes[kept], ((0, pad), (0, 0))).reshape(-1, 4),
        }))
    case("nonMaximumSuppression", name, spec, *runs, tolerance=1e-6)


add("any_class", False)
add("per_class", True)
add("padded", True, rows=12)
add("cut", False, rows=2)
add("range", True, ranges=(3, 5))
add("threshold_inputs", False, inputs=True)

# The recommender, by its formula: the sum over given items i of sim(k, i) * (score(i) - shift(k)).
ITEMS = ["tea", "milk", "bread", "jam", "salt"]
similar = {0: {1: 0.5, 2: 0.25}, 2: {3: 0.75, 0: 0.25}, 3: {2: 0.75, 1: 0.5}}
shift = {2: 0.5}


def recommender(names, restricted=False):
    words = names is ITEMS
    key = "string" if words else "int64"
    features = [("given", dictionary(key)), ("count", optional(int64)), ("not", optional(sequence(key)))]
    if restricted:
        features.append(("only", sequence(key)))
    spec = model(features, [("items", sequence(key)), ("scores", dictionary(key))])
    isr = spec.itemSimilarityRecommender
    for item in sorted(set(similar) | set(shift) | {4}):
        entry = isr.itemItemSimilarities.add()
        entry.itemId, entry.itemScoreAdjustment = item, shift.get(item, 0.0)
        for other, score in similar.get(item, {}).items():
            connected = entry.similarItemList.add()
            connected.itemId, connected.similarityScore = other, score
    if words:
        isr.itemStringIds.vector.extend(names)
    isr.itemInputFeatureName, isr.numRecommendationsInputFeatureName = "given", "count"
    isr.itemExclusionInputFeatureName = "not"
    isr.itemRestrictionInputFeatureName = "only" if restricted else ""
    isr.recommendedItemListOutputFeatureName, isr.recommendedItemScoreOutputFeatureName = "items", "scores"
    return spec


def recommended(names, given, count=None, excluded=None, only=None):
    scores = np.zeros(len(names))
    for item, score in given.items():
        for other, similarity in similar.get(item, {}).items():
            scores[other] += similarity * (score - shift.get(other, 0.0))
    excluded = set(given) if excluded is None else set(excluded)
    allowed = [i for i in range(len(names)) if i not in excluded and (only is None or i in only)]
    best = sorted(allowed, key=lambda i: -scores[i])[:count]
    inputs = {"given": {names[i]: score for i, score in given.items()}}
    inputs |= {} if count is None else {"count": count}
    inputs |= {} if excluded == set(given) else {"not": [names[i] for i in excluded]}
    inputs |= {} if only is None else {"only": [names[i] for i in only]}
    return inputs, {"items": [names[i] for i in best], "scores": {names[i]: scores[i] for i in best}}


case(
    "itemSimilarityRecommender", "words", recommender(ITEMS),
    recommended(ITEMS, {0: 2.0}), recommended(ITEMS, {0: 1.0, 3: 3.0}, count=2), recommended(ITEMS, {2: 1.0}, excluded=[3]),
)
case("itemSimilarityRecommender", "numbers", recommender(range(5), True), recommended(range(5), {0: 2.0, 2: 1.0}, only=[1, 3]))
