"""coremltools with `ane` in Core ML's place."""

import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

import ane
import ane.coremltools

ct = pytest.importorskip("coremltools", reason="coremltools is not installed")
if sys.platform == "darwin":
    pytest.skip("Core ML itself is there", allow_module_level=True)

from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import get_new_symbol as any_size, types  # noqa: E402
from coremltools.models.datatypes import Array  # noqa: E402
from coremltools.models.neural_network import NeuralNetworkBuilder  # noqa: E402


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.delenv(ane.coremltools.ENGINE_VARIABLE, raising=False)
    assert ane.coremltools.install()
    yield
    ane.coremltools.uninstall()


def program(shape, build, **options):
    @mb.program(input_specs=[mb.TensorSpec(shape=shape)])
    def made(x):
        return build(x)

    return ct.convert(made, compute_precision=ct.precision.FLOAT32, **options)


def double():
    return program((2, 3), lambda x: mb.mul(x=x, y=2.0, name="y"), minimum_deployment_target=ct.target.iOS15)


def test_what_convert_gives_predicts():
    model = double()
    x = np.arange(6).reshape(2, 3)
    for value in (x, x.astype(np.float16), x.astype(np.float64), x.tolist()):
        np.testing.assert_array_equal(model.predict({"x": value})["y"], 2 * x)
    batch = model.predict([{"x": x}, {"x": x + 1}])
    np.testing.assert_array_equal(batch[1]["y"], 2 * (x + 1))
    assert model.load_duration_in_nano_seconds > 0 and model.last_predict_duration_in_nano_seconds > 0


@pytest.mark.parametrize("units", list(ct.ComputeUnit))
def test_saved_models_predict(tmp_path, units):
    path = str(tmp_path / "double.mlpackage")
    double().save(path)
    model = ct.models.MLModel(path, compute_units=units)
    assert model.compute_unit == units
    assert model.predict({"x": np.ones((2, 3))})["y"].sum() == 12
    compiled = ct.models.CompiledMLModel(model.get_compiled_model_path(), compute_units=units)
    assert compiled.predict({"x": np.ones((2, 3))})["y"].sum() == 12
    with pytest.raises(KeyError):
        model.predict({"none": np.ones((2, 3))})
    with pytest.raises(ane.InvalidShape):
        model.predict({"x": np.ones((3, 2))})


def test_a_network_s_file_may_be_gone():
    builder = NeuralNetworkBuilder([("x", Array(3))], [("y", Array(3))])
    builder.add_activation("relu", "RELU", "x", "y")
    model = ct.models.MLModel(builder.spec)
    assert model.predict({"x": np.array([-1.0, 0.0, 2.0])})["y"].tolist() == [0, 0, 2]


def test_states(tmp_path):
    @mb.program(
        input_specs=[mb.TensorSpec((2,), dtype=ct.converters.mil.mil.types.fp16),
                     mb.StateTensorSpec((2,), dtype=ct.converters.mil.mil.types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def accumulate(x, total):
        return mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x), name="y")

    model = ct.convert(accumulate, minimum_deployment_target=ct.target.iOS18)
    state = model.make_state()
    for n in (1, 2, 3):
        assert model.predict({"x": np.ones(2)}, state)["y"].tolist() == [n, n]
    (name,) = (one.name for one in model.get_spec().description.state)
    assert state.read_state(name).tolist() == [3, 3]
    state.write_state(name, np.array([5.0, 6.0]))
    assert model.predict({"x": np.ones(2)}, state)["y"].tolist() == [6, 7]
    with pytest.raises(RuntimeError, match="there is no state"):
        state.read_state("none")


def test_images():
    Image = pytest.importorskip("PIL.Image")
    color = ct.colorlayout.RGB
    model = program(
        (1, 3, 4, 5),
        lambda x: mb.sub(x=255.0, y=x, name="y"),
        inputs=[ct.ImageType("x", shape=(1, 3, 4, 5), color_layout=color)],
        minimum_deployment_target=ct.target.iOS16,
    )
    # `convert` takes image outputs of traced networks, and not of programs.
    spec = model.get_spec()
    image = spec.description.output[0].type.imageType
    image.width, image.height = 5, 4
    image.colorSpace = spec.description.input[0].type.imageType.colorSpace
    model = ct.models.MLModel(spec, weights_dir=model.weights_dir)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    negative = model.predict({"x": Image.fromarray(pixels)})["y"]
    assert (negative.mode, negative.size) == ("RGBA", (5, 4))
    np.testing.assert_array_equal(np.asarray(negative)[:, :, :3], 255 - pixels)
    # The package itself has no alpha channel, and takes arrays too.
    path = model.package_path
    for value in (Image.fromarray(pixels), pixels):
        plain = ane.Model(path).predict({"x": value})["y"]
        assert plain.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(plain), 255 - pixels)


def test_what_does_not_load_is_told_by_predict():
    builder = NeuralNetworkBuilder([("x", Array(3))], [("y", Array(3))])
    builder.add_activation("relu", "RELU", "x", "y")
    custom = builder.spec.neuralNetwork.layers[0]
    custom.ClearField("activation")
    custom.custom.className = "Mine"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = ct.models.MLModel(builder.spec)
    assert any("Mine" in str(one.message) or "custom" in str(one.message) for one in told)
    with pytest.raises(Exception, match="custom"):
        model.predict({"x": np.ones(3)})


@pytest.mark.parametrize("factor", [0.7, 1.12, 1.5, 2])
@pytest.mark.parametrize("upsample", [mb.upsample_bilinear, mb.upsample_nearest_neighbor])
def test_flexible_sizes_are_scaled_as_fixed_ones(upsample, factor):
    aligned = {"align_corners": False} if upsample is mb.upsample_bilinear else {}
    scale = {"scale_factor_height": factor, "scale_factor_width": factor}
    length = ct.RangeDim(1, 50, default=22)
    flexible = {"inputs": [ct.TensorType("x", shape=(1, 1, 7, length))], "minimum_deployment_target": ct.target.iOS16}
    made = [
        program((1, 1, 7, 22), lambda x: upsample(x=x, **scale, **aligned)),
        program((1, 1, 7, any_size()), lambda x: upsample(x=x, **scale, **aligned), **flexible),
    ]
    x = np.random.default_rng(0).normal(size=(1, 1, 7, 22)).astype(np.float32)
    fixed, flexible = (list(model.predict({"x": x}).values())[0] for model in made)
    np.testing.assert_allclose(flexible, fixed, 1e-5)


# coremltools adds the size to indices below 0, so that -3 of 2 is -1.
@pytest.mark.parametrize("index, validate", [(7, False), (7, True), (-3, True)])
def test_a_failed_prediction_has_core_mls_words(index, validate):
    specs = [mb.TensorSpec(shape=(2,)), mb.TensorSpec(shape=(1,), dtype=types.int32)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS17)
    def made(x, at):
        return mb.gather(x=x, indices=at, axis=0, validate_indices=validate, name="y")

    model = ct.convert(made, minimum_deployment_target=ct.target.iOS17)
    given = {"x": np.ones(2), "at": np.array([index], np.int32)}
    for call in (lambda: model.predict(given), lambda: model.predict([given])):
        with pytest.raises(ane.InferenceFailed, match="^Error computing NN outputs: .*(7|1000000000)"):
            call()


def test_the_engine_is_chosen(monkeypatch):
    path = double().package_path
    assert ane.coremltools.Engine(path, engine="rten").model.engine.name == "rten"
    monkeypatch.setenv(ane.coremltools.ENGINE_VARIABLE, "rten")
    assert ane.coremltools.Engine(path).model.engine.name == "rten"
    monkeypatch.delenv(ane.coremltools.ENGINE_VARIABLE)
    assert ane.coremltools.install(engine="rten")
    assert ct.models.MLModel(path).__proxy__._engine.model.engine.name == "rten"
    assert ane.coremltools.install()


def test_uninstall_gives_back():
    from coremltools.models import model as module

    path = double().package_path
    ane.coremltools.uninstall()
    assert module._MLModelProxy is None and not module._is_macos()
    assert not ane.coremltools.installed()
    with pytest.raises(Exception, match="macOS"):
        ct.models.MLModel(path).predict({"x": np.ones((2, 3))})
    ane.coremltools.uninstall()


@pytest.mark.parametrize("order", ["import ane.coremltools\nane.coremltools.install()\nimport coremltools as ct",
                                   "import coremltools as ct\nimport ane.coremltools\nane.coremltools.install()"])
def test_either_may_be_imported_first(order, tmp_path):
    path = str(tmp_path / "double.mlpackage")
    double().save(path)
    code = f"{order}\nimport numpy as np\nprint(ct.models.MLModel({path!r}).predict({{'x': np.ones((2, 3))}})['y'].sum())"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout == "12.0\n", done.stderr
    if order.startswith("import ane"):
        assert "Failed to load" not in done.stderr


def test_without_coremltools_it_says_so():
    code = """
        import sys
        sys.modules["coremltools"] = None
        import ane.coremltools
        try:
            ane.coremltools.install()
        except ImportError as error:
            print(error, ane.coremltools.installed(), "coremltools.libcoremlpython" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout == "coremltools is not installed; `pip install coremltools` gets it False False\n", done.stderr
