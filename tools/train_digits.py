"""Trains the digit classifier of `examples/digits` and writes that folder.

    python tools/train_digits.py        (some seconds; see tools/requirements.txt)

A small convolutional network is trained with plain numpy on scikit-learn's handwritten digits, then
written as a Core ML program with an image input. `expected.json` holds probabilities computed in
float32 numpy from the weights that are stored in the package, in a second implementation of the network.
"""

import json
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import packages

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "digits"
SEED = 7
EPOCHS = 24
BATCH = 32
MAX_SHIFT = 2
SIDE = 28
REQUIRED_ACCURACY = 0.98
LEGIBLE = 0.99  # the probability above which a picture is plain enough to be an example

Weights = dict[str, np.ndarray]


def main() -> None:
    pixels, labels = digits_as_pictures()
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, labels, test_size=0.2, stratify=labels, random_state=SEED
    )
    weights = train(train_x, train_y)
    model = core_ml_model(weights)
    stored = stored_weights(model)
    predicted = np.array([reference_probabilities(stored, x).argmax() for x in test_x])
    accuracy = float((predicted == test_y).mean())
    print(f"held-out accuracy: {accuracy:.4f} on {len(test_y)} digits")
    if accuracy < REQUIRED_ACCURACY:
        raise SystemExit(f"accuracy is below {REQUIRED_ACCURACY}")

    FOLDER.mkdir(parents=True, exist_ok=True)
    packages.save(model, FOLDER / "digits.mlpackage")
    write_examples(stored, test_x, test_y)


# --- data -------------------------------------------------------------------------------------------


def digits_as_pictures() -> tuple[np.ndarray, np.ndarray]:
    """All digits as 28x28 uint8 pictures, white on black, and their labels."""
    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    large = [Image.fromarray(x).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for x in small]
    return np.stack([np.asarray(x) for x in large]), digits.target


def network_input(pictures: np.ndarray) -> np.ndarray:
    return (pictures.astype(np.float32) / 255)[..., None]


def shifted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every picture of the batch moved by its own small offset, filled with black."""
    padded = np.pad(x, ((0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT), (0, 0)))
    offsets = rng.integers(0, 2 * MAX_SHIFT + 1, (len(x), 2))
    return np.stack([p[r : r + SIDE, c : c + SIDE] for p, (r, c) in zip(padded, offsets)])


# --- training (NHWC) --------------------------------------------------------------------------------


def initial_weights(rng: np.random.Generator) -> Weights:
    def he(inputs: int, outputs: int) -> np.ndarray:
        return (rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)).astype(np.float32)

    shapes = {"conv1": (9, 8), "conv2": (9 * 8, 16), "hidden": (7 * 7 * 16, 48), "logits": (48, 10)}
    weights = {f"{name}_w": he(*shape) for name, shape in shapes.items()}
    return weights | {f"{name}_b": np.zeros(n, np.float32) for name, (_, n) in shapes.items()}


def patches(x: np.ndarray) -> np.ndarray:
    """im2col for a 3x3 convolution with padding 1; the last axis is ordered (row, column, channel)."""
    n, height, width, channels = x.shape
    windows = sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), axis=(1, 2))
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(n, height, width, 9 * channels)


def max_pool(x: np.ndarray) -> np.ndarray:
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


def forward(w: Weights, x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits, and the intermediate values that `gradients` needs."""
    kept = {"conv1": patches(x)}
    kept["relu1"] = np.maximum(kept["conv1"] @ w["conv1_w"] + w["conv1_b"], 0)
    kept["conv2"] = patches(max_pool(kept["relu1"]))
    kept["relu2"] = np.maximum(kept["conv2"] @ w["conv2_w"] + w["conv2_b"], 0)
    kept["hidden"] = max_pool(kept["relu2"]).reshape(len(x), -1)
    kept["logits"] = np.maximum(kept["hidden"] @ w["hidden_w"] + w["hidden_b"], 0)
    return kept["logits"] @ w["logits_w"] + w["logits_b"], kept


def gradients(w: Weights, x: np.ndarray, labels: np.ndarray) -> Weights:
    logits, kept = forward(w, x)
    found: Weights = {}

    def linear(name: str, upstream: np.ndarray) -> np.ndarray:
        rows = upstream.reshape(-1, upstream.shape[-1])
        found[f"{name}_w"] = kept[name].reshape(-1, kept[name].shape[-1]).T @ rows
        found[f"{name}_b"] = rows.sum(0)
        return upstream @ w[f"{name}_w"].T

    def through_pool_and_relu(name: str, upstream: np.ndarray) -> np.ndarray:
        before = kept[name]
        spread = upstream.repeat(2, 1).repeat(2, 2)
        largest = max_pool(before).repeat(2, 1).repeat(2, 2)
        return spread * ((before == largest) & (before > 0))

    upstream = softmax(logits)
    upstream[np.arange(len(x)), labels] -= 1
    upstream = linear("logits", upstream / len(x)) * (kept["logits"] > 0)
    upstream = linear("hidden", upstream).reshape(len(x), 7, 7, 16)
    upstream = linear("conv2", through_pool_and_relu("relu2", upstream))
    upstream = patches_back(upstream, channels=8)
    linear("conv1", through_pool_and_relu("relu1", upstream))
    return found


def patches_back(upstream: np.ndarray, channels: int) -> np.ndarray:
    """The transpose of `patches`: adds every patch back to where it was read."""
    n, height, width, _ = upstream.shape
    cells = upstream.reshape(n, height, width, 3, 3, channels)
    padded = np.zeros((n, height + 2, width + 2, channels), np.float32)
    for row in range(3):
        for column in range(3):
            padded[:, row : row + height, column : column + width] += cells[:, :, :, row, column]
    return padded[:, 1:-1, 1:-1]


def train(pictures: np.ndarray, labels: np.ndarray) -> Weights:
    """Adam with a cosine learning rate and a little weight decay."""
    rng = np.random.default_rng(SEED)
    weights = initial_weights(rng)
    mean = {k: np.zeros_like(v) for k, v in weights.items()}
    square = {k: np.zeros_like(v) for k, v in weights.items()}
    inputs = network_input(pictures)
    steps = EPOCHS * (len(inputs) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(inputs))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            step += 1
            rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * step / steps))
            for name, g in gradients(weights, shifted(inputs[chosen], rng), labels[chosen]).items():
                mean[name] = 0.9 * mean[name] + 0.1 * g
                square[name] = 0.999 * square[name] + 0.001 * g * g
                direction = (mean[name] / (1 - 0.9**step)) / (
                    np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8
                )
                weights[name] = (weights[name] * (1 - 1e-2 * rate) - rate * direction).astype(np.float32)
    return weights


# --- Core ML (NCHW) ---------------------------------------------------------------------------------


def core_ml_model(w: Weights) -> ct.models.MLModel:
    def kernel(name: str) -> np.ndarray:
        return np.ascontiguousarray(w[name].reshape(3, 3, -1, w[name].shape[1]).transpose(3, 2, 0, 1))

    # The flattened picture is (row, column, channel) in training and (channel, row, column) here.
    hidden = np.ascontiguousarray(w["hidden_w"].reshape(7, 7, 16, -1).transpose(3, 2, 0, 1))

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(1, 1, SIDE, SIDE))], opset_version=ct.target.iOS16
    )
    def program(image):
        x = mb.conv(x=image, weight=kernel("conv1_w"), bias=w["conv1_b"], pad_type="same", name="conv1")
        x = mb.max_pool(x=mb.relu(x=x), kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")
        x = mb.conv(x=x, weight=kernel("conv2_w"), bias=w["conv2_b"], pad_type="same", name="conv2")
        x = mb.max_pool(x=mb.relu(x=x), kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")
        x = mb.reshape(x=x, shape=[1, -1])
        x = mb.linear(x=x, weight=hidden.reshape(len(hidden), -1), bias=w["hidden_b"], name="hidden")
        x = mb.linear(
            x=mb.relu(x=x), weight=np.ascontiguousarray(w["logits_w"].T), bias=w["logits_b"], name="logits"
        )
        return mb.softmax(x=x, axis=-1, name="probabilities")

    model = ct.convert(
        program,
        convert_to="mlprogram",
        inputs=[
            ct.ImageType(
                name="image",
                shape=(1, 1, SIDE, SIDE),
                color_layout=ct.colorlayout.GRAYSCALE,
                scale=1 / 255,
            )
        ],
        classifier_config=ct.ClassifierConfig([str(digit) for digit in range(10)]),
        compute_precision=ct.precision.FLOAT16,
        minimum_deployment_target=ct.target.iOS16,
        skip_model_load=True,
    )
    model.author = "ANE Manager"
    model.license = "MIT OR Apache-2.0"
    model.version = "1.0"
    model.short_description = "Recognises one handwritten digit in a 28x28 picture."
    model.input_description["image"] = "28x28 grayscale picture, a white digit on black."
    model.output_description["classLabel"] = "The most likely digit."
    model.output_description["classLabel_probs"] = "The probability of each digit."
    return model


# --- reference and files ----------------------------------------------------------------------------


def stored_weights(model: ct.models.MLModel) -> Weights:
    """The fp16 constants of the package, as float32, under their names in `core_ml_model`."""
    stored = ct.optimize.coreml.get_weights_metadata(model, weight_threshold=0)
    layers = ("conv1", "conv2", "hidden", "logits")
    return {
        f"{layer}_{part}": stored[f"{layer}_{part}_0_to_fp16"].val.astype(np.float32)
        for layer in layers
        for part in ("weight", "bias")
    }


def reference_probabilities(w: Weights, picture: np.ndarray) -> np.ndarray:
    """The network for one picture, written directly on the stored (channel first) weights."""

    def convolution(name: str, x: np.ndarray) -> np.ndarray:
        windows = sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
        y = np.einsum("chwij,ocij->ohw", windows, w[f"{name}_weight"])
        return y + w[f"{name}_bias"][:, None, None]

    def relu_and_pool(x: np.ndarray) -> np.ndarray:
        return sliding_window_view(np.maximum(x, 0), (2, 2), axis=(1, 2))[:, ::2, ::2].max((3, 4))

    x = picture[None].astype(np.float32) * np.float32(1 / 255)
    x = relu_and_pool(convolution("conv1", x))
    x = relu_and_pool(convolution("conv2", x))
    x = np.maximum(w["hidden_weight"] @ x.ravel() + w["hidden_bias"], 0)
    return softmax(w["logits_weight"] @ x + w["logits_bias"])


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def write_examples(w: Weights, pictures: np.ndarray, labels: np.ndarray) -> None:
    """The first picture of each class that the stored network is sure of, and the numbers expected for it."""
    expected = {}
    for digit in range(10):
        for picture in pictures[labels == digit]:
            probabilities = reference_probabilities(w, picture)
            if probabilities[digit] > LEGIBLE:
                break
        name = f"digit_{digit}.png"
        Image.fromarray(picture).save(FOLDER / name)
        expected[name] = {
            "classLabel": str(digit),
            "classLabel_probs": {str(i): round(float(p), 7) for i, p in enumerate(probabilities)},
        }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
