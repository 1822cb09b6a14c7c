"""Makes nested_weights.mlpackage: a loop whose body repeats a row of 16 numbers 32 times.

ONNX Runtime computes that once, when it optimises, so that the nested graph has a weight of its own. It runs 1000 times,
so that predictions take long enough to overlap.
Needs tools/requirements.txt: python crates/apple-silicon/tests/models/nested_weights.py
"""

import sys
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[3] / "tools"))
from packages import save  # noqa: E402

ROW = (np.arange(16, dtype=np.float32) / 16).reshape(1, 16)


@mb.program(input_specs=[mb.TensorSpec((32, 16))], opset_version=ct.target.iOS15)
def program(x):
    def body(count, sum):
        rows = mb.tile(x=ROW, reps=[32, 1])
        return mb.add(x=count, y=1), mb.add(x=sum, y=rows)

    _, sum = mb.while_loop(_cond=lambda count, sum: mb.less(x=count, y=1000), _body=body, loop_vars=(np.int32(0), x))
    return mb.identity(x=sum, name="sum")


model = ct.convert(
    program,
    convert_to="mlprogram",
    compute_precision=ct.precision.FLOAT32,
    minimum_deployment_target=ct.target.iOS15,
    pass_pipeline=ct.PassPipeline.EMPTY,
    skip_model_load=True,
)
save(model, FOLDER / "nested_weights.mlpackage")
