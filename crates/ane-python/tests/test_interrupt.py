"""Ctrl-C and time limits end a prediction that would take hours."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from conftest import FIXTURES, op_model

import ane

LONG = FIXTURES / "ops" / "while_loop" / "nested"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process there")
@pytest.mark.parametrize("batch", [False, True])
def test_ctrl_c_ends_a_prediction(batch):
    pytest.importorskip("onnxruntime")  # rten cannot be stopped
    code = f"""
        import signal, numpy as np, ane
        signal.signal(signal.SIGINT, signal.default_int_handler)
        model = ane.Model({str(LONG / "model.mlpackage")!r}, engine="onnxruntime")
        names = {{feature.dtype: feature.name for feature in model.schema.inputs}}
        inputs = lambda n: {{names["float32"]: np.ones(2, np.float32), names["int32"]: [n]}}
        try:
            print("begins", flush=True)
            model.predict([inputs(60_000)] * 2 if {batch} else inputs(60_000))
        except KeyboardInterrupt:
            (y,) = model.predict(inputs(4)).values()
            print("interrupted;", y.tolist())
    """
    running = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "begins\n"
    time.sleep(0.3)  # so that it is most likely in the engine
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=60)
    assert (out, running.returncode) == ("interrupted; [10.0, 10.0]\n", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize(("engine", "expected"), [("onnxruntime", "predicts"), ("rten", "the engine rten began in")])
def test_a_forked_process(engine, expected):
    """Its parent's threads are not there: ONNX Runtime makes others, and rten cannot."""
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    code = f"""
        import os, numpy as np, ane
        path = {str(LONG / "model.mlpackage")!r}
        def predict():
            model = ane.Model(path, engine={engine!r})
            names = {{feature.dtype: feature.name for feature in model.schema.inputs}}
            model.predict({{names["float32"]: np.ones(2, np.float32), names["int32"]: [4]}})
        predict()
        child = os.fork()
        if child == 0:
            try:
                predict()
                print("predicts", flush=True)
            except ane.Error as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert expected in done.stdout, done.stderr


def test_a_time_limit_ends_a_prediction():
    pytest.importorskip("onnxruntime")
    model = op_model("while_loop/nested", engine="onnxruntime")
    names = {feature.dtype: feature.name for feature in model.schema.inputs}
    inputs = {names["float32"]: np.ones(2, np.float32), names["int32"]: [60_000]}
    with pytest.raises(TimeoutError, match="20 ms") as raised:
        model.predict(inputs, timeout=0.02)
    assert type(raised.value) is ane.Timeout
    with pytest.raises(ane.Timeout):
        model.predict([inputs], timeout=0.02)
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            model.predict(inputs, timeout=timeout)
