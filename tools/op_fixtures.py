"""Writes the op fixtures of `crates/coreml-onnx/tests/ops`.

    python tools/op_fixtures.py             all ops
    python tools/op_fixtures.py conv pad    only these ops

Every `<op>/<case>` folder gets a `model.mlpackage` with the op in it, `inputs.npz` and `expected.npz`, with
the input and output names of the model as keys (`inputs_0.npz`, `expected_0.npz`, `inputs_1.npz`, ... where
state carries over from run to run). Floats are float32, whole numbers and booleans int32, scalars have
shape [1]. A classifier has the predicted label, and its probabilities in the order of the labels.

In a case called `defaults` the op has only the arguments it cannot do without, so a reader needs its own
defaults. `cases.json` lists all cases. The expected numbers come from the numpy functions in `op_cases`.
"""

import importlib
import json
import logging
import pkgutil
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Program, types

import op_cases
import packages
from op_cases.case import Case

FOLDER = Path(__file__).resolve().parent.parent / "crates" / "coreml-onnx" / "tests" / "ops"
# Types that a Core ML input or output cannot have travel as int32, with a cast in the program.
MODEL_TYPES = {"fp32": types.fp32, "fp16": types.fp16, "int32": types.int32}


def main(wanted: list[str]) -> None:
    quieten_coremltools()
    cases = sorted(all_cases(), key=lambda case: (case.op, case.name))
    if repeated := [a.path for a, b in zip(cases, cases[1:]) if a.path == b.path]:
        raise SystemExit(f"two cases have the same name: {repeated}")
    if unknown := set(wanted) - {case.op for case in cases}:
        raise SystemExit(f"no such op: {', '.join(sorted(unknown))}")

    for op in wanted or [x.name for x in FOLDER.glob("*") if x.is_dir()]:
        shutil.rmtree(FOLDER / op, ignore_errors=True)
    failed = []
    for case in cases:
        if not wanted or case.op in wanted:
            try:
                write(case)
            except Exception as error:
                failed.append(case.path)
                print(f"{case.path}: {type(error).__name__}: {error}")
    write_list(cases)
    print(f"{len(cases)} cases of {len({case.op for case in cases})} ops, {len(failed)} failed")
    if failed:
        raise SystemExit(1)


def quieten_coremltools() -> None:
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    ct.converters.mil.mil.passes.pass_pipeline.tqdm = lambda items, *_, **__: items


def all_cases() -> Iterator[Case]:
    for module in pkgutil.iter_modules(op_cases.__path__):
        yield from getattr(importlib.import_module(f"op_cases.{module.name}"), "CASES", [])


def write(case: Case) -> None:
    folder = FOLDER / case.op / case.name
    program = build_program(case)
    # Before the conversion, which changes the program.
    outputs = {var.name: var.dtype for var in program.functions["main"].outputs}
    model = ct.convert(
        program,
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        minimum_deployment_target=getattr(ct.target, case.opset),
        classifier_config=ct.ClassifierConfig(case.classes) if case.classes else None,
        skip_model_load=True,
    )
    if case.bare:
        model = without_defaults(case, model)
    packages.save(model, folder / "model.mlpackage")

    state: dict[str, np.ndarray] = {}
    for run in range(case.runs):
        suffix = f"_{run}" if case.runs > 1 else ""
        np.savez(folder / f"inputs{suffix}.npz", **input_arrays(case, run))
        np.savez(folder / f"expected{suffix}.npz", **expected_arrays(case, run, state, outputs))
    check_model(case, model)


# --- the model --------------------------------------------------------------------------------------


def build_program(case: Case) -> Program:
    opset = getattr(ct.target, case.opset)
    placeholders = {
        name: mb.TensorSpec(shape=case_shape(case, name), dtype=MODEL_TYPES.get(tensor.dtype, types.int32))
        for name, tensor in case.inputs()
    }
    for name, shape in case.states.items():
        placeholders[name] = mb.StateTensorSpec(shape, dtype=types.fp16)

    program = Program()
    with Function(placeholders, opset_version=opset) as function:
        arguments = program_arguments(case, function.inputs)
        outputs = case.builder()(**arguments)
        outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
        outputs = [model_output(x) for x in outputs]
        for i, output in enumerate(outputs):
            output.name = "out" if len(outputs) == 1 else f"out_{i}"
        function.set_outputs(outputs)
    program.add_function("main", function)
    return program


def case_shape(case: Case, name: str) -> tuple[int, ...]:
    return input_arrays(case, 0)[name].shape


def program_arguments(case: Case, inputs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the op, with a variable in place of every tensor that is an input of the model."""
    arguments = case.values()
    for name, tensor in case.inputs():
        var = inputs[name]
        if tensor.dtype not in MODEL_TYPES:
            var = mb.cast(x=var, dtype=tensor.dtype)
        if name in arguments:
            arguments[name] = var
        else:
            group, index = name.rsplit("_", 1)
            arguments[group][int(index)] = var
    return arguments | {name: inputs[name] for name in case.states}


def model_output(var: Any) -> Any:
    allowed = (types.fp32, types.fp16, types.int32)
    return var if var.dtype in allowed else mb.cast(x=var, dtype="int32")


def without_defaults(case: Case, model: ct.models.MLModel) -> ct.models.MLModel:
    """The model with the op stripped of the inputs that coremltools filled in."""
    spec = model.get_spec()
    block = main_block(spec)
    for op in block.operations:
        if op.type == case.op:
            for name in [x for x in op.inputs if x not in case.arguments]:
                unused = op.inputs[name].arguments[0].name
                del op.inputs[name]
                for i, other in enumerate(block.operations):
                    if other.type == "const" and other.outputs[0].name == unused:
                        del block.operations[i]
                        break
    return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)


def main_block(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def check_model(case: Case, model: ct.models.MLModel) -> None:
    """The op must have survived the conversion, and the declared shapes must be those of the reference."""
    spec = model.get_spec()
    block = main_block(spec)
    if case.op not in {op.type for op in block.operations}:
        raise ValueError("the op is not in the model")
    suffix = "_0" if case.runs > 1 else ""
    expected = np.load(FOLDER / case.op / case.name / f"expected{suffix}.npz")
    if set(expected) != {output.name for output in spec.description.output}:
        raise ValueError(f"the model has other outputs: {[x.name for x in spec.description.output]}")
    for op in block.operations:
        for output in [x for x in op.outputs if op.type != "classify"]:
            dimensions = output.type.tensorType.dimensions
            if output.name in expected and all(x.HasField("constant") for x in dimensions):
                declared = tuple(x.constant.size for x in dimensions) or (1,)
                if declared != expected[output.name].shape:
                    raise ValueError(f"declared {declared}, computed {expected[output.name].shape}")


# --- the numbers ------------------------------------------------------------------------------------


def input_arrays(case: Case, run: int) -> dict[str, np.ndarray]:
    values = case.values(run)
    arrays = {}
    for name, tensor in case.inputs():
        if name in values:
            value = values[name]
        else:
            group, index = name.rsplit("_", 1)
            value = values[group][int(index)]
        arrays[name] = value.astype(np.float32 if tensor.dtype in ("fp32", "fp16") else np.int32)
    return arrays


def expected_arrays(
    case: Case, run: int, state: dict[str, np.ndarray], outputs: dict[str, Any]
) -> dict[str, np.ndarray]:
    arguments = {name: exact(value) for name, value in case.values(run).items()}
    for name, shape in case.states.items():
        arguments[name] = state.setdefault(name, np.zeros(shape))
    with np.errstate(all="ignore"):
        results = case.reference(**arguments)
    results = list(results) if isinstance(results, (tuple, list)) else [results]
    if len(results) != len(outputs):
        raise ValueError(f"the reference has {len(results)} results, the program {len(outputs)}")
    if case.classes:
        label = case.classes[int(np.argmax(results[0]))]
        return {"classLabel": np.array([label]), "classLabel_probs": results[0].ravel().astype(np.float32)}
    return {
        name: np.atleast_1d(result).astype(np.int32 if dtype == types.int32 else np.float32)
        for (name, dtype), result in zip(outputs.items(), results)
    }


def exact(value: Any) -> Any:
    """Floats as float64, so that the reference is more precise than what is tested with it."""
    if isinstance(value, list):
        return [exact(x) for x in value]
    if isinstance(value, np.ndarray) and value.dtype in (np.float16, np.float32):
        return value.astype(np.float64)
    if isinstance(value, np.ndarray) and value.dtype != np.bool_:
        return value.astype(np.int64)
    return value


def write_list(cases: list[Case]) -> None:
    rows = [
        {
            "op": case.op,
            "case": case.name,
            "opset": case.opset,
            "tolerance": {"rtol": case.rtol, "atol": case.atol},
        }
        for case in cases
    ]
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    (FOLDER / "cases.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(sys.argv[1:])
