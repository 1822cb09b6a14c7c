"""coremltools' own tests on the package `ane`: a fixed list of them, or all.

    python tools/conformance.py                       the list, tools/conformance_tests.txt; fails where one fails
    python tools/conformance.py --engine rten         on this engine
    python tools/conformance.py --all converters/mil/mil/ops/tests -k LSTM
                                                      every test there that fits, and how many pass
    python tools/conformance.py --choose 400          makes the list anew: tests that pass on both engines, some of each kind

Needs `ane`, coremltools and pytest in this Python; pytest-xdist makes it faster. Paths are relative to coremltools'
folder. Without coremltools, or with another version than the list's, the list is skipped, and that is said.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
LIST = TOOLS / "conformance_tests.txt"
#: Where the list is chosen from.
FOLDERS = ["converters/mil/mil/ops/tests", "test/neural_network/test_numpy_nn_layers.py"]
HEADER = "# coremltools "


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", help="onnxruntime or rten; the best there is where it is left out")
    parser.add_argument("--all", nargs="+", metavar="PATH", help="run all tests of these paths, not the list")
    parser.add_argument("--choose", type=int, metavar="N", help="write a new list of about so many tests")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="with --all and --choose: one test in N")
    parser.add_argument("--record", metavar="FILE", help="write the outcome of each test as JSON")
    arguments, rest = parser.parse_known_args()

    package = coremltools_folder()
    if package is None:
        print("skipped: the conformance tests need coremltools; `pip install coremltools` gets it")
        return 0
    if arguments.choose:
        return choose(package, arguments.choose, arguments.sample)
    options = ["--conformance-record", os.path.abspath(arguments.record)] if arguments.record else []
    if arguments.all:
        options += ["--conformance-sample", str(arguments.sample)]
        return pytest(package, arguments.all, options + rest, arguments.engine)
    lines = LIST.read_text().splitlines()
    version = next(line.removeprefix(HEADER) for line in lines if line.startswith(HEADER))
    if importlib.metadata.version("coremltools") != version:
        print(f"skipped: the conformance tests are those of coremltools {version}")
        return 0
    files = dict.fromkeys(line.split("::")[0] for line in lines if line and not line.startswith("#"))
    return pytest(package, files, ["--conformance-list", str(LIST), *options, *rest], arguments.engine)


def coremltools_folder():
    spec = importlib.util.find_spec("coremltools")
    return Path(spec.origin).parent if spec and spec.origin else None


def pytest(package, paths, options, engine=None):
    """Runs pytest in coremltools' folder, so that the names of tests are the same everywhere."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "conformance_plugin", "-p", "no:cacheprovider"]
    # Their conftest gives tests names with values in them, which are not the same from run to run.
    command += ["--noconftest", "--rootdir", ".", "-c", os.devnull, "-W", "ignore", "--no-header", *options]
    if importlib.util.find_spec("xdist") and not any(one.startswith("-n") for one in options):
        command += ["-n", str(min(os.cpu_count() or 1, 8))]
    environment = {**os.environ, "PYTHONPATH": str(TOOLS), "PYTHONDONTWRITEBYTECODE": "1"}
    # With these, numpy sorts equal numbers in any order, and some tests take its order for the right one.
    environment.setdefault("NPY_DISABLE_CPU_FEATURES", "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX2")
    if engine:
        environment["ANE_ENGINE"] = engine
    return subprocess.run([*command, *paths], cwd=package, env=environment).returncode


def choose(package, count, sample):
    passed = None
    for engine in ("onnxruntime", "rten"):
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "record.json"
            pytest(package, FOLDERS, ["--conformance-sample", str(sample), "--conformance-record", str(record)], engine)
            here = set(json.loads(record.read_text())["passed"])
        passed = here if passed is None else passed & here
    # A few of every test function: the first of each, the second of each, and so on.
    kinds = {}
    for test in sorted(passed):
        kinds.setdefault(test.split("[")[0], []).append(test)
    turns = [(turn, test) for tests in kinds.values() for turn, test in enumerate(spread(tests))]
    chosen = sorted(test for _, test in sorted(turns)[:count])
    version = importlib.metadata.version("coremltools")
    header = f"{HEADER}{version}\n# Tests that pass on every engine, by `python tools/conformance.py --choose {count}`.\n"
    LIST.write_text(header + "".join(f"{test}\n" for test in chosen))
    print(f"{len(chosen)} tests of {len(kinds)} kinds, out of {len(passed)} that pass on both engines")
    return 0


def spread(tests):
    """Neighbours differ in one value, so those that are far apart come first."""
    step = max(1, len(tests) // 3)
    return [test for start in range(step) for test in tests[start::step]]


if __name__ == "__main__":
    sys.exit(main())
