"""Non-maximum suppression."""

import numpy as np
from op_cases.sorting import non_maximum_suppression

from .network import Network, case

OUTPUTS = ("out", "scores_out", "indices", "count")
SETTINGS = {"iou": 0.3, "score": 0.2, "most": 6}


def suppression(
    name: str, batch: int, boxes: int, classes: int, per_class: bool = False, given: int = 0, **changed: float
) -> None:
    """`given` is how many of the settings are inputs."""
    settings = SETTINGS | changed

    @case("NonMaximumSuppression", name, outputs=OUTPUTS)
    def _(net: Network):
        # Boxes of similar size in a small room, so that some of them overlap much.
        centres, sizes = net.rng.uniform(0, 4, (batch, boxes, 2)), net.rng.uniform(1, 3, (batch, boxes, 2))
        places = net.given(np.concatenate([centres, sizes], -1), "boxes")
        scores = net.rng.permutation(batch * boxes * classes).reshape(batch, boxes, classes)
        scores = net.given((scores + 0.5) / scores.size, "scores")
        names = list(settings)[:given]
        for which in names:
            net.given([settings[which]], which)
        # What is stored counts for nothing where there is an input.
        stored = settings | dict.fromkeys(names, 1)
        net.add(
            "NonMaximumSuppression",
            " ".join(("boxes", "scores", *names)),
            " ".join(OUTPUTS),
            iouThreshold=stored["iou"],
            scoreThreshold=stored["score"],
            maxBoxes=stored["most"],
            perClassSuppression=per_class,
        )
        found = non_maximum_suppression(
            places, scores, settings["iou"], settings["score"], int(settings["most"]), per_class
        )
        return dict(zip(OUTPUTS, (np.asarray(part, np.float64) for part in found)))


suppression("one_class", 1, 10, 1)
suppression("classes", 1, 10, 3)
suppression("classes_apart", 1, 10, 3, per_class=True)
suppression("batch", 2, 8, 2)
suppression("batch_classes_apart", 2, 8, 2, per_class=True)
suppression("fewer_than_there_are", 1, 10, 1, most=2, iou=0.9)
suppression("none_good_enough", 2, 6, 2, score=1.5)
suppression("everything", 1, 6, 1, iou=1.0, score=0.0, most=9)
suppression("overlap_given", 1, 10, 2, given=1)
suppression("score_given", 1, 10, 2, given=2, score=0.6)
suppression("number_given", 1, 10, 2, given=3, most=4)
