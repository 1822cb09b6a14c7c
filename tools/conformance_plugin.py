"""A pytest plugin: coremltools' own tests, with `ane` where Core ML would be. `conformance.py` runs pytest with it.

Off macOS those tests stop before `predict`. This plugin installs `ane.coremltools`, tells coremltools that it is on a Mac,
and notes which tests predicted. Each test begins from a seed of its own, so that a run can be repeated.
"""

import gc
import hashlib
import importlib.util
import json
import os
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import ane.coremltools

PREDICTED = "ane predicted"


def install():
    ane.coremltools.install(force=True)

    import coremltools  # noqa: F401
    import coremltools._deps
    import coremltools.models.utils

    # Tests of layers import torch and most do not use it; coremltools itself has looked for it before.
    if importlib.util.find_spec("torch") is None:
        stand_in = types.ModuleType("torch")
        stand_in.Tensor = type("Tensor", (), {})
        sys.modules["torch"] = stand_in
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("coremltools."):
            for name, value in (
                ("_is_macos", lambda: True), ("_macos_version", lambda: (15, 0)), ("_IS_MACOS", True)
            ):
                if hasattr(module, name):
                    setattr(module, name, value)


class Predicted:
    """Which tests have called for a prediction, and of which operations and layers."""

    tests = {}

    @classmethod
    def note(cls, model):
        kinds = cls.tests.setdefault(os.environ.get("PYTEST_CURRENT_TEST", "").rsplit(" (", 1)[0], set())
        kinds.update(kinds_of(model._spec))

    @classmethod
    def watch(cls):
        from coremltools.models import model

        def noting(do):
            def noted(model, *arguments, **named):
                cls.note(model)
                return do(model, *arguments, **named)

            return noted

        # Here, and not at the proxy: a model that did not load has none, and its test fails at `predict`.
        model.MLModel.predict = noting(model.MLModel.predict)


def kinds_of(spec):
    """The names of a model's operations or layers."""
    blocks = [block for f in spec.mlProgram.functions.values() for block in f.block_specializations.values()]
    while blocks:
        for operation in blocks.pop().operations:
            yield operation.type
            blocks.extend(operation.blocks)
    networks = [getattr(spec, name) for name in ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")]
    while networks:
        for layer in networks.pop().layers:
            yield layer.WhichOneof("layer")
            networks.extend([layer.branch.ifBranch, layer.branch.elseBranch] if layer.HasField("branch") else [])
            networks.extend([layer.loop.conditionNetwork, layer.loop.bodyNetwork] if layer.HasField("loop") else [])


# coremltools' tests ask for the system when they are imported.
install()
Predicted.watch()


def pytest_addoption(parser):
    parser.addoption("--conformance-list", help="run the tests of this file, and fail where one is not there")
    parser.addoption("--conformance-sample", type=int, default=1, help="run one test in so many")
    parser.addoption("--conformance-record", help="write the outcome of each test to this file, as JSON")


def listed(path):
    lines = (line.strip() for line in Path(path).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def digest(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def pytest_collection_modifyitems(config, items):
    names = config.getoption("--conformance-list")
    if names:
        wanted = set(listed(names))
        missing = wanted - {item.nodeid for item in items}
        if missing:
            raise pytest.UsageError(f"{len(missing)} of the listed tests are not there, such as {min(missing)}")
        keep = [item for item in items if item.nodeid in wanted]
    else:
        every = config.getoption("--conformance-sample")
        keep = [item for item in items if digest(item.nodeid) % every == 0]
    kept = set(keep)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = keep


def pytest_collection_finish(session):
    """coremltools collects garbage for every model, which takes 0.4 s among the objects of twenty thousand tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    seed = digest(item.nodeid)
    random.seed(seed)
    np.random.seed(seed)
    if hasattr(sys.modules.get("torch"), "manual_seed"):
        sys.modules["torch"].manual_seed(seed)


def pytest_runtest_teardown(item):
    # Travels with the report, also from a worker of pytest-xdist.
    kinds = Predicted.tests.get(item.nodeid.replace("\x00", "(null)"))
    if kinds is not None:
        item.user_properties.append((PREDICTED, sorted(kinds)))


class Outcomes:
    """What became of each test, in the process that reports."""

    def __init__(self):
        self.outcomes, self.predicted, self.reasons = {}, {}, {}

    def pytest_runtest_logreport(self, report):
        for name, kinds in report.user_properties:
            if name == PREDICTED:
                self.predicted[report.nodeid] = kinds
        if report.when == "call" or report.outcome != "passed":
            if self.outcomes.get(report.nodeid) != "failed":
                self.outcomes[report.nodeid] = report.outcome
            if report.outcome == "failed":
                message = getattr(getattr(report.longrepr, "reprcrash", None), "message", "") or "?"
                self.reasons[report.nodeid] = message.splitlines()[0][:200]

    def of_predicting(self, outcome):
        return [test for test in sorted(self.predicted) if self.outcomes.get(test) == outcome]

    def pytest_sessionfinish(self, session):
        # A listed test that no longer predicts would say nothing of the engine.
        idle = set(self.of_predicting("passed")) ^ {t for t, outcome in self.outcomes.items() if outcome == "passed"}
        if session.config.getoption("--conformance-list") and idle and session.exitstatus == 0:
            session.exitstatus = 1
            self.reasons[min(idle)] = f"{len(idle)} listed tests did not predict"

    def pytest_terminal_summary(self, terminalreporter, config):
        passed, failed = self.of_predicting("passed"), self.of_predicting("failed")
        counts = {}
        for reason in self.reasons.values():
            counts[reason] = counts.get(reason, 0) + 1
        for reason, count in sorted(counts.items(), key=lambda pair: -pair[1])[:25]:
            terminalreporter.write_line(f"{count:6} {reason}")
        ran = len(passed) + len(failed)
        rate = f" ({len(passed) / ran:.2%})" if ran else ""
        terminalreporter.write_line(f"tests that predict: {ran}, passed {len(passed)}{rate}")
        record = config.getoption("--conformance-record")
        if record:
            kinds = {}
            for place, tests in enumerate((passed, failed)):
                for kind in (kind for test in tests for kind in self.predicted[test]):
                    kinds.setdefault(kind, [0, 0])[place] += 1
            failed = {test: self.reasons.get(test, "?") for test in failed}
            told = {"passed": passed, "failed": failed, "kinds": kinds}
            Path(record).write_text(json.dumps(told, indent=1))


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(), "ane-conformance-outcomes")
