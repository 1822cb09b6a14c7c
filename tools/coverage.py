"""Writes docs/coverage.md: what runs, of MIL's operations and of the layers of neural networks, on which engine.

    make coverage
    python tools/coverage.py FOLDER

FOLDER has what the last test runs have told: `ops-onnxruntime.json` and the like, by the fixtures' test with
ANE_FIXTURES_RECORD, and `conformance*.json`, by `tools/conformance.py --all ... --record`. Which operations and layers
there are, and since when, is asked of coremltools.
"""

import importlib.metadata
import json
import re
import sys
import warnings
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "crates" / "coreml-onnx" / "tests"
PAGE = ROOT / "docs" / "coverage.md"
ENGINES = ("onnxruntime", "rten")


def main(folder):
    kinds, suites = conformance(folder)
    excused = dict(line.split(": ", 1) for line in (TESTS.parent / "src/lower/excused.txt").read_text().splitlines())
    version = importlib.metadata.version("coremltools")
    lines = [
        "# What runs",
        "",
        "Made by `make coverage`; do not edit. Each case is a small model whose results numpy has computed, run on both engines",
        "by `cargo test`. The last column counts the tests of coremltools " + version + " that predict with the operation or",
        "layer, with ONNX Runtime, in the runs that are listed at the end.",
        "",
    ]
    notes = []
    for title, what, rows, field in (
        ("Operations of ML Programs", "op", operations(), "ops"),
        ("Layers of neural networks", "layer", layers(), "layers"),
    ):
        cases = Counter(case[what] for case in json.loads((TESTS / field / "cases.json").read_text()))
        outcomes = {engine: outcome(folder / f"{field}-{engine}.json") for engine in ENGINES}
        run = [name for name in rows if cases[name]]
        lines += [f"## {title}", "", f"{len(run)} of {len(rows)} have cases, {sum(cases.values())} in all.", ""]
        lines += [f"| {what} | since | cases | onnxruntime | rten | coremltools' tests |", "|---|---|---|---|---|---|"]
        for name, since in rows.items():
            shown = [cell(name, cases[name], outcomes[engine], notes) for engine in ENGINES]
            if name in excused:
                shown = [excused[name], ""]
            passed, failed = kinds.get(name, (0, 0))
            tests = f"{passed} of {passed + failed}" if passed + failed else ""
            lines.append(f"| `{name}` | {since} | {cases[name]} | {shown[0]} | {shown[1]} | {tests} |")
        lines.append("")
    lines += ["## What an engine refuses", "", "A model with it is refused before it runs, with this sentence.", ""]
    lines += [f"{number}. {reason}" for number, reason in enumerate(notes, 1)]
    lines += ["", "## coremltools' own tests", ""]
    if suites:
        lines += ["| run | predict | pass | rate |", "|---|---|---|---|"]
        lines += [f"| {name} | {ran} | {passed} | {passed / ran:.2%} |" for name, ran, passed in suites]
    else:
        lines.append("Not run.")
    PAGE.write_text("\n".join(lines) + "\n")
    print(f"wrote {PAGE.relative_to(ROOT)}")


def operations():
    """Each operation of a file, with the opsets that brought it or changed it."""
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    # An operation has one class from the opset that brought it on, and another from each that changed it.
    def opsets(versions):
        return {made.__module__.split(".")[-2] for made in versions.values()}

    found = {name: opsets(versions) for name, versions in SSAOpRegistry.core_ops.items()}
    return {name: ", ".join(sorted(since)) for name, since in sorted(found.items()) if name != "_const_symbolic"}


def layers():
    from coremltools.proto import NeuralNetwork_pb2

    members = NeuralNetwork_pb2.NeuralNetworkLayer.DESCRIPTOR.oneofs_by_name["layer"].fields
    # The numbers of the fields tell the layers of iOS 13 from the older ones.
    return {field.name: "iOS 13 or later" if field.number >= 600 else "iOS 11 or 12" for field in members}


def outcome(path):
    """By operation: the cases that were refused, with their reasons, and those that were wrong."""
    by_name = defaultdict(lambda: ([], []))
    told = json.loads(path.read_text())
    for place, kind in enumerate(("refused", "wrong")):
        for line in told[kind]:
            case, reason = line.split(": ", 1)
            by_name[case.split("/")[0]][place].append(reason)
    return by_name


def cell(name, cases, outcomes, notes):
    refused, wrong = outcomes[name]
    if not cases:
        return ""
    if not refused and not wrong:
        return "all"
    # Without the file and the place in it.
    refused = [re.sub(r' at "[^"]*"', "", re.sub(r"^.*?/model\.\w+: ", "", reason)) for reason in refused]
    for reason in refused:
        if reason not in notes:
            notes.append(reason)
    numbers = ", ".join(str(notes.index(reason) + 1) for reason in dict.fromkeys(refused))
    refusals = f" (refuses {len(refused)}: {numbers})" if refused else ""
    return f"{cases - len(refused) - len(wrong)}{refusals}" + (f", {len(wrong)} wrong" if wrong else "")


def conformance(folder):
    kinds, suites = defaultdict(lambda: [0, 0]), []
    for path in sorted(folder.glob("conformance*.json")):
        told = json.loads(path.read_text())
        passed, failed = len(told["passed"]), len(told["failed"])
        suites.append((path.stem.removeprefix("conformance-"), passed + failed, passed))
        for kind, counts in told["kinds"].items():
            kinds[kind] = [a + b for a, b in zip(kinds[kind], counts)]
    return kinds, suites


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
