"""Exports every model of ../shared/models/open with `ane export`, and runs the files in Python's onnxruntime.

    python tools/check_exports.py [MODEL ...]

Each file must pass onnx.checker and give the expected numbers. Prints the counts of MIL and ONNX operations.
Skips, saying so, without the models or without onnx and onnxruntime.
"""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path


def main() -> int:
    try:
        import numpy  # noqa: F401
        import onnx
        import onnxruntime
    except ImportError as missing:
        print(f"skipped: {missing.name} is not installed (pip install -r tools/requirements-test.txt)")
        return 0
    import models

    if not models.OPEN.is_dir():
        print(f"skipped: there are no models in {models.OPEN.parent.name}/{models.OPEN.name}")
        return 0
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--package", "ane"], cwd=models.ROOT, check=True)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for model in models.models(sys.argv[1:]):
            trouble, worst, counts = check(model, Path(folder), onnx, onnxruntime, models)
            failed += bool(trouble)
            print(f"{model.name:42} {trouble or 'ok':24} worst {worst:5.2f} of tolerance, {counts}")
    print(f"{failed} failed")
    return 1 if failed else 0


def check(model, folder, onnx, onnxruntime, models) -> tuple[str, float, str]:
    """What is wrong, the worst error as a part of the tolerance, and the operation counts."""
    sessions, states, worst = {}, {}, 0.0
    counts: Counter[str] = Counter()
    for case in model.meta["cases"]:
        function = case.get("function")
        if function not in sessions:
            file = folder / f"{model.name}_{function}.onnx"
            choice = ["--function", function] if function else []
            command = [models.ROOT / "target/debug/ane", "export", model.file, "-o", file, *choice]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return done.stderr.strip(), worst, ""
            onnx.checker.check_model(str(file), full_check=True)
            counts += histogram(onnx.load(file, load_external_data=False).graph)
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            sessions[function] = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        session = sessions[function]
        fed = models.feed(session.get_inputs(), model.load(case, "inputs"), states)
        outputs = dict(zip([port.name for port in session.get_outputs()], session.run(None, fed)))
        states.update({name.removesuffix("_out"): value for name, value in outputs.items() if name.endswith("_out")})
        for name, wanted in model.load(case, "expected").items():
            if wanted.dtype.kind in "US":
                continue  # The label is the file's user's to look up; its scores are compared.
            got = outputs.get(name) if name in outputs else next(iter(outputs.values()))
            tolerance = model.meta["tolerance"]
            worst = max(worst, models.used_of_tolerance(got, wanted, tolerance["rtol"], tolerance["atol"]))
    mil = model.meta["op_histogram"]
    total = f"{sum(n for op, n in mil.items() if op != 'const')} ops to {sum(counts.values())} nodes"
    return ("" if worst <= 1 else "out of tolerance"), worst, total


def histogram(graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    for node in graph.node:
        counts[node.op_type] += 1
        for attribute in node.attribute:
            if attribute.HasField("g"):
                counts += histogram(attribute.g)
    return counts


if __name__ == "__main__":
    sys.exit(main())
