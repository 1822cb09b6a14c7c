"""Compares `ane run` with Python's onnxruntime on the same networks, in one run, and writes docs/benchmarks.md.

    python tools/bench.py [--repeat 30] [--rounds 3] [MODEL ...]

For each model of ../shared/models/open that has a reference.onnx: latency on 1 and 2 threads (medians of --repeat
runs), load time and peak resident memory, each engine in a process of its own, in turns. Needs a release build and
tools/requirements-test.txt.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import models

ANE = models.ROOT / "target" / "release" / "ane"
PAGE = models.ROOT / "docs" / "benchmarks.md"

# Run in a process of its own, so that its memory is its own.
PEER = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import models, numpy, onnxruntime
model = next(models.models([sys.argv[2]]))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
options.log_severity_level = 3
start = time.perf_counter()
session = onnxruntime.InferenceSession(model.reference, options, providers=["CPUExecutionProvider"])
load = time.perf_counter() - start
fed = models.feed(session.get_inputs(), model.load(model.meta["cases"][0], "inputs"), {})
for _ in range(3):
    session.run(None, fed)
times = []
for _ in range(int(sys.argv[4])):
    start = time.perf_counter()
    session.run(None, fed)
    times.append(time.perf_counter() - start)
print(json.dumps({"load_ms": load * 1e3, "latency_ms": {"p50": sorted(times)[len(times) // 2] * 1e3}}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if not models.OPEN.is_dir():
        print("skipped: there are no models to compare with")
        return 0
    rows = []
    for model in models.models(arguments.models):
        if not model.reference.exists():
            continue
        for threads in (1, 2):
            row = compare(model, threads, arguments)
            rows.append(row)
            print(line(row), flush=True)
    if not arguments.models:
        PAGE.write_text(page(rows, arguments))
        print(f"wrote {PAGE.relative_to(models.ROOT)}")
    return 0


def compare(model: models.Model, threads: int, arguments: argparse.Namespace) -> dict:
    """Each engine in turns, so that a busy moment of the machine meets all of them."""
    runs: dict[str, list[dict]] = {"peer": [], "onnxruntime": [], "rten": []}
    for _ in range(arguments.rounds):
        peer = [sys.executable, "-c", PEER, models.ROOT / "tools", model.name, str(threads), str(arguments.repeat)]
        runs["peer"].append(measured(peer))
        for engine in ("onnxruntime", "rten"):
            inputs = model.folder / model.meta["cases"][0]["inputs"]
            function = model.meta["cases"][0].get("function")
            command = [ANE, "run", model.file, "--inputs", inputs, "--engine", engine, "--threads", str(threads)]
            command += ["--repeat", str(arguments.repeat), "--json", *(["--function", function] if function else [])]
            runs[engine].append(measured(command))
    best = {engine: summary(found) for engine, found in runs.items()}
    return {"model": model.name, "threads": threads, **best}


def measured(command: list) -> dict | None:
    """What a process prints, and the most memory that it held, in MiB; None where it failed."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(list(map(str, command)), stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            return None
        out.seek(0)
        found = json.loads(out.read())
    return {"p50_ms": found["latency_ms"]["p50"], "load_ms": found["load_ms"], "peak_mib": usage.ru_maxrss / 1024}


def summary(found: list[dict | None]) -> dict | None:
    """The median of the rounds; the least memory, since only a leak or a race would add to it."""
    if None in found:
        return None
    return {key: statistics.median(run[key] for run in found) for key in ("p50_ms", "load_ms", "peak_mib")}


def ratio(row: dict, engine: str, key: str) -> str:
    ours, peer = row[engine], row["peer"]
    return "refused" if ours is None else f"{ours[key] / peer[key]:.2f}"


def line(row: dict) -> str:
    peer = row["peer"]
    ours = [ratio(row, "onnxruntime", key) for key in ("p50_ms", "load_ms", "peak_mib")]
    rten = [ratio(row, "rten", key) for key in ("p50_ms", "load_ms", "peak_mib")]
    numbers = f"{peer['p50_ms']:.2f} | {peer['load_ms']:.0f} | {peer['peak_mib']:.0f}"
    return f"| {row['model']} | {row['threads']} | {numbers} | {' | '.join(ours)} | {' | '.join(rten)} |"


def page(rows: list[dict], arguments: argparse.Namespace) -> str:
    import onnxruntime

    apart = [row for row in rows if row["model"].startswith("gru")]
    rest = [row for row in rows if row not in apart]
    head = [
        "| model | threads | peer ms | peer load ms | peer MiB | latency | load | memory | rten latency | rten load | rten memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Made by `make bench` (`tools/bench.py`): `ane run` against Python's onnxruntime "
            f"{onnxruntime.__version__} on the same networks, in turns in one run, each in a process of its own. Latency is "
            f"the median of {arguments.repeat} runs, the median of {arguments.rounds} rounds; load is the time until a model can "
            "run; memory is the process's peak resident set. Columns after the peer's own numbers are ratios to it: "
            "under 1 is faster or smaller. The peer reads `reference.onnx`, made from the same network by PyTorch's "
            "exporter; we read the Core ML model and lower it first.",
            "",
            f"Machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}.",
            "",
            *head,
            *map(line, rest),
            "",
            "GRU networks stand apart: coremltools writes them as a `while_loop` that runs step by step, the peer's file has "
            "one GRU operator.",
            "",
            *head,
            *map(line, apart),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
