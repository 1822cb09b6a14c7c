"""The models of ../shared/models/open: their cases, and a comparison with the expected numbers.

Shared by check_exports.py and bench.py. `ANE_SHARED` names another folder than ../shared.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OPEN = Path(os.environ.get("ANE_SHARED", ROOT.parent / "shared")) / "models" / "open"
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


@dataclass
class Model:
    """One folder: its name, its description and the model's file."""

    folder: Path
    meta: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def file(self) -> Path:
        return self.folder / self.meta["file"]

    @property
    def reference(self) -> Path:
        return self.folder / "reference.onnx"

    def load(self, case: dict[str, Any], key: str) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / case[key]))


def models(names: list[str]) -> Iterator[Model]:
    """Every model, or those named."""
    for folder in sorted(OPEN.iterdir()):
        if not names or folder.name in names:
            yield Model(folder, json.loads((folder / "meta.json").read_text()))


def feed(ports: list[Any], inputs: dict[str, np.ndarray], states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs as a graph takes them: images as NCHW, states as they stand, at first zero."""
    fed = {}
    for i, port in enumerate(ports):
        array = inputs.get(port.name, states.get(port.name))
        if array is None:
            # The reference networks name inputs in their own way, in the same order.
            array = list(inputs.values())[i] if len(ports) == len(inputs) else np.zeros(port.shape)
        if array.dtype == np.uint8 and array.ndim == 3:
            array = array.transpose(2, 0, 1)[None]
        fed[port.name] = np.ascontiguousarray(array.astype(TYPES[port.type]))
    return fed


def used_of_tolerance(got: np.ndarray, wanted: np.ndarray, rtol: float, atol: float) -> float:
    """The largest error as a part of what is allowed: up to 1 is within tolerance."""
    got, wanted = got.astype(np.float64).reshape(wanted.shape), wanted.astype(np.float64)
    return float((np.abs(got - wanted) / (atol + rtol * np.abs(wanted))).max(initial=0))
