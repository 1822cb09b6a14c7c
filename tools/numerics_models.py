"""Makes the models of crates/apple-silicon/tests/numerics, and what numpy's float16 gives for one of them.

    python tools/numerics_models.py        needs coremltools; writes the folder anew

`overflow` multiplies by 100 three times: the third product is beyond fp16. `chain` has an output for each of its operations,
and `expected` holds what numpy gives for each in float16, from the values of the operation before it.
"""

import shutil
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb

ROOT = Path(__file__).resolve().parents[1] / "crates" / "apple-silicon" / "tests" / "numerics"

half = np.float16


def save(made, name):
    # Without passes, so that the operations are those that are written here.
    pipeline = ct.PassPipeline.EMPTY
    model = ct.convert(made, compute_precision=ct.precision.FLOAT32, pass_pipeline=pipeline,
                       minimum_deployment_target=ct.target.iOS15)
    folder = ROOT / name
    folder.mkdir(parents=True)
    model.save(str(folder / "model.mlpackage"))
    return folder


def overflow():
    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 3))])
    def made(x):
        a = mb.mul(x=x, y=np.float32(100), name="first")
        b = mb.mul(x=a, y=np.float32(100), name="second")
        c = mb.mul(x=b, y=np.float32(100), name="third")
        d = mb.tanh(x=c, name="bounded")
        return mb.sub(x=c, y=mb.mul(x=d, y=c, name="product"), name="y")

    save(made, "overflow")


#: The name of an operation, how it is built, and what numpy computes for it in float16.
CHAIN = [
    ("add", lambda x: mb.add(x=x, y=np.float32(0.3), name="add"), lambda x: x + half(0.3)),
    ("mul", lambda x: mb.mul(x=x, y=np.float32(1.7), name="mul"), lambda x: x * half(1.7)),
    ("sub", lambda x: mb.sub(x=x, y=np.float32(0.123), name="sub"), lambda x: x - half(0.123)),
    ("real_div", lambda x: mb.real_div(x=x, y=np.float32(3), name="real_div"), lambda x: x / half(3)),
    ("square", lambda x: mb.square(x=x, name="square"), np.square),
    ("abs", lambda x: mb.abs(x=x, name="abs"), np.abs),
    ("sqrt", lambda x: mb.sqrt(x=x, name="sqrt"), np.sqrt),
    ("exp", lambda x: mb.exp(x=x, name="exp"), np.exp),
    ("maximum", lambda x: mb.maximum(x=x, y=np.float32(1.1), name="maximum"), lambda x: np.maximum(x, half(1.1))),
    ("minimum", lambda x: mb.minimum(x=x, y=np.float32(2.9), name="minimum"), lambda x: np.minimum(x, half(2.9))),
    ("log", lambda x: mb.log(x=x, epsilon=np.float32(0), name="log"), np.log),
    ("sin", lambda x: mb.sin(x=x, name="sin"), np.sin),
    ("cos", lambda x: mb.cos(x=x, name="cos"), np.cos),
    ("tanh", lambda x: mb.tanh(x=x, name="tanh"), np.tanh),
    ("exp2", lambda x: mb.exp2(x=x, name="exp2"), np.exp2),
    ("floor_div", lambda x: mb.floor_div(x=x, y=np.float32(0.3), name="floor_div"), lambda x: np.floor(x / half(0.3))),
    ("pow", lambda x: mb.pow(x=x, y=np.float32(3), name="pow"), lambda x: np.power(x, half(3))),
    ("relu", lambda x: mb.relu(x=x, name="relu"), lambda x: np.maximum(x, half(0))),
    ("sum", lambda x: mb.reduce_sum(x=x, axes=[1], keep_dims=True, name="sum"),
     lambda x: x.astype(np.float32).sum(1, keepdims=True).astype(half)),
    ("mean", lambda x: mb.reduce_mean(x=x, axes=[0], keep_dims=True, name="mean"),
     lambda x: x.astype(np.float32).mean(0, keepdims=True).astype(half)),
]


def chain():
    @mb.program(input_specs=[mb.TensorSpec(shape=(7, 11))])
    def made(x):
        results = []
        for _, build, _ in CHAIN:
            x = build(x)
            results.append(x)
        return results

    folder = save(made, "chain")
    (folder / "expected").mkdir()
    x = np.random.default_rng(0).uniform(-2, 2, (7, 11)).astype(np.float32)
    expected, value = {"input": x}, x.astype(half)
    for name, _, compute in CHAIN:
        value = compute(value)
        assert value.dtype == half, name
        expected[name] = value.astype(np.float32)
    for name, value in expected.items():
        np.save(folder / "expected" / f"{name}.npy", value)


if __name__ == "__main__":
    shutil.rmtree(ROOT, ignore_errors=True)
    overflow()
    chain()
