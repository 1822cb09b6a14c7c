"""Writes the layer fixtures of `crates/coreml-onnx/tests/layers`.

    python tools/layer_fixtures.py               all layers
    python tools/layer_fixtures.py pooling add   only these layers

Every `<layer>/<case>` folder gets a `model.mlmodel` with the layer in it, `inputs.npz` and `expected.npz`, with the
input and output names of the model as keys. Arrays are float32, images uint8 (height, width) or (height, width, 3)
in the order red, green, blue. A classifier has the predicted label, and its probabilities in the order of the
labels. The folder `network` has what no single layer does. `cases.json` lists all cases. The expected numbers come
from the numpy functions in `layer_cases`.
"""

import importlib
import json
import pkgutil
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np

import layer_cases
from layer_cases.network import CASES, Case, Network

FOLDER = Path(__file__).resolve().parent.parent / "crates" / "coreml-onnx" / "tests" / "layers"


def main(wanted: list[str]) -> None:
    warnings.simplefilter("ignore")
    for module in pkgutil.iter_modules(layer_cases.__path__):
        importlib.import_module(f"layer_cases.{module.name}")
    cases = sorted(CASES, key=lambda case: (case.layer, case.name))
    if repeated := [a.path for a, b in zip(cases, cases[1:]) if a.path == b.path]:
        raise SystemExit(f"two cases have the same name: {repeated}")
    if unknown := set(wanted) - {case.layer for case in cases}:
        raise SystemExit(f"no such layer: {', '.join(sorted(unknown))}")

    for layer in wanted or [x.name for x in FOLDER.glob("*") if x.is_dir()]:
        shutil.rmtree(FOLDER / layer, ignore_errors=True)
    failed = []
    for case in cases:
        if not wanted or case.layer in wanted:
            try:
                write(case)
            except Exception as error:
                failed.append(case.path)
                print(f"{case.path}: {type(error).__name__}: {error}")
    write_list(cases)
    print(f"{len(cases)} cases of {len({case.layer for case in cases})} layers, {len(failed)} failed")
    if failed:
        raise SystemExit(1)


def write(case: Case) -> None:
    folder = FOLDER / case.layer / case.name
    network = Network(case)
    with np.errstate(all="ignore"):
        expected = case.run(network)
    if not isinstance(expected, dict):
        expected = {case.outputs[0]: expected}
    layers = {layer.WhichOneof("layer") for layer in network.builder.nn_spec.layers}
    if case.layer not in layers | {"network"}:
        raise ValueError(f"{case.path}: the layer is not in the model")
    folder.mkdir(parents=True)
    (folder / "model.mlmodel").write_bytes(network.finished())
    np.savez(folder / "inputs.npz", **network.inputs)
    np.savez(folder / "expected.npz", **{name: stored(values) for name, values in expected.items()})


def stored(values: np.ndarray) -> np.ndarray:
    values = np.atleast_1d(values)
    return values.astype(np.float32) if values.dtype == np.float64 else values


def write_list(cases: list[Case]) -> None:
    rows = [
        {"layer": case.layer, "case": case.name, "tolerance": {"rtol": case.rtol, "atol": case.atol}} for case in cases
    ]
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    (FOLDER / "cases.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(sys.argv[1:])
