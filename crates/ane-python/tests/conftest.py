"""What the tests share: the models of this repository, and the engines of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ane

ROOT = Path(__file__).resolve().parents[3]
DIGITS = ROOT / "examples" / "digits"
FIXTURES = ROOT / "crates" / "coreml-onnx" / "tests"
CLASSIC = ROOT / "crates" / "coreml-classic" / "tests" / "classic"

#: Engines that work here, by name.
ENGINES = list(dict.fromkeys(engine.name for engine in ane.engines() if engine.status != "unusable"))


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


def op_model(case: str, **options) -> ane.Model:
    """The model of an operation's fixture, such as ``relu/rank1``."""
    return ane.Model(FIXTURES / "ops" / case / "model.mlpackage", **options)


def npz(path: Path) -> dict:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
