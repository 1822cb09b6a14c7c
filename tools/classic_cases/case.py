"""What a case is, how features are declared, and how both are written."""

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from coremltools import proto
from coremltools.models import MLModel

FOLDER = Path(__file__).resolve().parent.parent.parent / "crates" / "coreml-classic" / "tests" / "classic"
CASES: list["Case"] = []

FLOAT32, DOUBLE, INT32 = 65568, 65600, 131104


@dataclass
class Case:
    """A model, and what it gives: pairs of inputs and outputs by name."""

    type: str
    name: str
    spec: Any
    runs: list[tuple[dict, dict]]
    tolerance: float = 1e-9
    weights: str | None = None
    beside: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.type}/{self.name}"


def case(kind, name, spec, *runs, tolerance=1e-9, weights=None, beside=None):
    CASES.append(Case(kind, name, spec, list(runs), tolerance, weights, beside or {}))


def model(inputs, outputs, version=4, predicted="", probabilities=""):
    """A `Model` message whose features are declared by (name, type) pairs."""
    spec = proto.Model_pb2.Model()
    spec.specificationVersion = version
    for features, list_ in ((inputs, spec.description.input), (outputs, spec.description.output)):
        for name, kind in features:
            feature = list_.add()
            feature.name = name
            kind(feature.type)
    spec.description.predictedFeatureName = predicted
    spec.description.predictedProbabilitiesName = probabilities
    return spec


def double(feature):
    feature.doubleType.SetInParent()


def int64(feature):
    feature.int64Type.SetInParent()


def string(feature):
    feature.stringType.SetInParent()


def array(*shape, dtype=DOUBLE, ranges=None):
    def declare(feature):
        feature.multiArrayType.dataType = dtype
        feature.multiArrayType.shape.extend(shape)
        for lower, upper in ranges or []:
            size = feature.multiArrayType.shapeRange.sizeRanges.add()
            size.lowerBound, size.upperBound = lower, upper

    return declare


def dictionary(key):
    def declare(feature):
        getattr(feature.dictionaryType, f"{key}KeyType").SetInParent()

    return declare


def sequence(element):
    def declare(feature):
        getattr(feature.sequenceType, f"{element}Type").SetInParent()
        feature.sequenceType.sizeRange.upperBound = -1

    return declare


def optional(kind):
    def declare(feature):
        kind(feature)
        feature.isOptional = True

    return declare


def labels(message, values):
    """Class labels of words or of numbers."""
    kind = message.stringClassLabels if isinstance(values[0], str) else message.int64ClassLabels
    kind.vector.extend(values)


def write(case: Case) -> None:
    folder = FOLDER / case.type / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if case.weights is None:
        (folder / "model.mlmodel").write_bytes(case.spec.SerializeToString(deterministic=True))
    else:
        MLModel(case.spec, weights_dir=case.weights, skip_model_load=True).save(str(folder / "model.mlpackage"))
    for name, spec in case.beside.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(spec.SerializeToString(deterministic=True))
    runs = [{"inputs": plain(inputs), "expected": plain(expected)} for inputs, expected in case.runs]
    text = json.dumps({"tolerance": case.tolerance, "runs": runs}, indent=1, allow_nan=False)
    (folder / "cases.json").write_text(text + "\n")


def plain(value):
    """Values as JSON has them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.integer, bool)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        value = float(value)
        return value if math.isfinite(value) else str(value)
    return value
