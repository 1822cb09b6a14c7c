"""Loading, predicting, states, batches and what a model tells."""

import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import DIGITS, ENGINES, FIXTURES, npz, op_model

import ane

Image = pytest.importorskip("PIL.Image")

EXPECTED = json.loads((DIGITS / "expected.json").read_text())


@pytest.mark.parametrize("picture", sorted(EXPECTED))
def test_digits(engine, picture):
    model = ane.Model(DIGITS / "digits.mlpackage", engine=engine)
    image = Image.open(DIGITS / picture)
    answer = model.predict({"image": image})
    assert answer["classLabel"] == EXPECTED[picture]["classLabel"]
    assert answer["classLabel_probs"] == pytest.approx(EXPECTED[picture]["classLabel_probs"], abs=1e-5)
    assert model.predict({"image": np.asarray(image)}) == answer
    assert model.predict({"image": image.convert("RGB")})["classLabel"] == answer["classLabel"]
    planes = np.asarray(image, dtype=np.float32).reshape(1, 1, 28, 28)
    assert model.predict({"image": planes}) == answer


FIXTURE_CASES = [
    f"{kind}/{case}"
    for kind, cases in {
        "ops": ["relu/rank1", "cond/nested", "while_loop/scan", "topk", "gather", "argsort"],
        "layers": ["add/two", "innerProduct", "convolution/bias", "embeddingND"],
    }.items()
    for case in cases
]


@pytest.mark.parametrize("case", FIXTURE_CASES)
def test_fixtures(engine, case):
    folder = FIXTURES / case
    folders = [folder] if (folder / "inputs.npz").exists() else sorted(folder.iterdir())
    for folder in folders:
        path = next(path for path in folder.iterdir() if path.name.startswith("model."))
        try:
            model = ane.Model(path, engine=engine)
        except ane.CompilationFailed as refusal:
            assert engine == "rten", refusal
            continue
        outputs = model.predict(npz(folder / "inputs.npz"))
        declared = {feature.name: feature for feature in model.schema.outputs}
        for name, expected in npz(folder / "expected.npz").items():
            assert outputs[name].dtype == declared[name].dtype
            np.testing.assert_allclose(outputs[name], expected, rtol=2e-3, atol=1e-4, err_msg=f"{folder}: {name}")


def test_a_batch_is_answered_in_order(engine):
    model = ane.Model(DIGITS / "digits.mlpackage", engine=engine)
    pictures = [Image.open(DIGITS / f"digit_{digit}.png") for digit in range(10)]
    answers = model.predict([{"image": picture} for picture in pictures])
    assert [answer["classLabel"] for answer in answers] == [str(digit) for digit in range(10)]
    assert model.predict([]) == []


def test_state_lives_on(engine):
    model = op_model("write_state/accumulate", engine=engine)
    (taken,), (held,) = model.schema.inputs, model.schema.states
    ones = {taken.name: np.ones(taken.shape, np.float32)}
    (output,) = (feature.name for feature in model.schema.outputs)
    state, other = model.new_state(), model.new_state()
    assert [model.predict(ones, state)[output].max() for _ in range(3)] == [1, 2, 3]
    assert model.predict(ones, state=other)[output].max() == 1, "states do not share"
    assert model.predict(ones)[output].max() == 1, "without one, each prediction begins from zeros"
    assert state.names == [held.name]
    assert state.read(held.name).dtype == held.dtype
    assert state.read(held.name).max() == 3
    state.write(held.name, np.full(held.shape, 10))
    assert model.predict(ones, state)[output].max() == 11
    with pytest.raises(ane.InvalidShape, match="there is no state"):
        state.read("none")
    with pytest.raises(ane.InvalidShape, match="the state"):
        state.write(held.name, np.zeros((7, 7, 7)))
    with pytest.raises(ane.InvalidShape, match="another model"):
        op_model("write_state/accumulate", engine=engine).predict(ones, state)
    with pytest.raises(TypeError, match="a batch takes no state"):
        model.predict([ones], state)


def test_a_model_tells_of_itself():
    model = ane.Model(str(DIGITS / "digits.mlpackage"), engine="rten", compute_units="CPU")
    (image,) = model.schema.inputs
    assert (image.name, image.kind, image.color, image.shape) == ("image", "image", "L", (28, 28))
    assert [feature.kind for feature in model.schema.outputs] == ["str", "dict"]
    assert model.schema.class_labels == [str(digit) for digit in range(10)]
    assert model.schema.predicted_feature == "classLabel"
    assert model.metadata.author == "ANE Manager"
    assert (model.engine.name, model.engine.reason) == ("rten", "asked for by name")
    assert str(model.engine).startswith("rten 0.")
    assert model.placement.known == "CPU"
    assert (model.precision, str(model.path)) == ("fp32", str(DIGITS / "digits.mlpackage"))
    assert model.memory_bytes > 90_000, "its weights alone are more"
    assert model.obstacles == []
    assert "digits.mlpackage" in repr(model)


def test_options():
    rounded = op_model("exp/rank3", engine=ENGINES[0], precision="fp16")
    assert rounded.precision == "fp16"
    (feature,) = rounded.schema.inputs
    x = np.linspace(0, 1, int(np.prod(feature.shape)), dtype=np.float32).reshape(feature.shape)
    (y,) = rounded.predict({feature.name: x}).values()
    np.testing.assert_array_equal(y, y.astype(np.float16))
    for options, error, message in [
        ({"engine": "tpu"}, ane.CompilationFailed, "there is no engine"),
        ({"compute_units": "TPU"}, ane.CompilationFailed, "there are no compute units"),
        ({"compute_units": 3}, TypeError, "compute_units must be"),
        ({"precision": "bf16"}, ane.UnsupportedPrecision, "there is no precision"),
        ({"function": "none"}, ane.Error, "none"),
        ({"threads": 0}, ValueError, "threads"),
    ]:
        with pytest.raises(error, match=message):
            op_model("relu/rank1", **options)


def test_the_compiled_model_is_kept(tmp_path):
    for _ in range(2):
        model = ane.Model(DIGITS / "digits.mlpackage", engine="rten", compiled=tmp_path)
        assert model.predict({"image": Image.open(DIGITS / "digit_7.png")})["classLabel"] == "7"
    assert any(tmp_path.iterdir())


def test_errors_are_python_s_too(tmp_path):
    damaged = tmp_path / "damaged.mlmodel"
    damaged.write_bytes(b"\xff" * 100)
    for path, error, builtin in [
        (tmp_path / "none.mlpackage", ane.ModelNotFound, FileNotFoundError),
        (damaged, ane.InvalidModelFormat, ValueError),
    ]:
        for kind in (error, builtin, ane.Error):
            with pytest.raises(kind, match=path.name):
                ane.Model(path)
    assert issubclass(ane.Timeout, TimeoutError) and issubclass(ane.MemoryAllocationFailed, MemoryError)
    again = pickle.loads(pickle.dumps(ane.InvalidShape("why")))
    assert (type(again), str(again), type(again).__module__) == (ane.InvalidShape, "why", "ane")


def test_threads_share_a_model():
    model = ane.Model(DIGITS / "digits.mlpackage")
    picture = np.asarray(Image.open(DIGITS / "digit_4.png"))
    labels = []

    def predict():
        for _ in range(20):
            labels.append(model.predict({"image": picture})["classLabel"])

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert labels == ["4"] * 80


def test_the_environment_s_onnxruntime_is_taken():
    """The package that this Python would import, and not one that the machine has; it is not imported for that."""
    pytest.importorskip("onnxruntime")
    code = (
        "import sys, ane, importlib.util\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "folder = importlib.util.find_spec('onnxruntime').submodule_search_locations[0]\n"
        "chosen = next(engine for engine in ane.engines() if engine.status == 'chosen')\n"
        "assert chosen.path.startswith(folder), chosen\n"
        "import onnxruntime\n"
        f"print(ane.Model({str(DIGITS / 'digits.mlpackage')!r}).engine.name)\n"
    )
    # Nothing that would lead there by chance: no active environment, and an empty path.
    environment = {"PATH": "/nonexistent", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "onnxruntime\n", done.stderr
