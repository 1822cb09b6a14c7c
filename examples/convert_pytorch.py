"""Converts a PyTorch network to Core ML, predicts with it on this machine and compares: also on Linux.

    pip install torch==2.7.0 coremltools==9.0 target/wheels/ane-*.whl
    python examples/convert_pytorch.py
"""

import torch

import ane.coremltools
import coremltools as ct

ane.coremltools.install()

network = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(),
    torch.nn.Linear(128, 10), torch.nn.Softmax(dim=1),
).eval()
x = torch.rand(1, 3, 32, 32)
model = ct.convert(torch.jit.trace(network, x), inputs=[ct.TensorType("x", shape=x.shape)])

(answer,) = model.predict({"x": x.numpy()}).values()
difference = abs(answer - network(x).detach().numpy()).max()
print(f"largest difference to PyTorch: {difference:.1e}")
assert difference < 1e-3
