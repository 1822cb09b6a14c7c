"""Makes a weight-bound network, 1024-4096-4096-1000 with a flexible batch, to measure batching with.

    python tools/weight_bound.py target/bench/weight_bound.mlpackage
"""

import sys
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import get_new_symbol

WIDTHS = [1024, 4096, 4096, 1000]
MOST = 128


def program():
    random = np.random.default_rng(7)

    @mb.program(input_specs=[mb.TensorSpec(shape=(get_new_symbol(), WIDTHS[0]))])
    def network(x):
        for index, (width, next_width) in enumerate(zip(WIDTHS, WIDTHS[1:])):
            weight = random.standard_normal((next_width, width), dtype=np.float32) / np.sqrt(width, dtype=np.float32)
            last = index == len(WIDTHS) - 2
            name = "y" if last else f"linear_{index}"
            x = mb.linear(x=x, weight=weight, bias=np.zeros(next_width, np.float32), name=name)
            x = x if last else mb.relu(x=x, name=f"relu_{index}")
        return x

    return network


def main():
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    batch = ct.RangeDim(lower_bound=1, upper_bound=MOST, default=1)
    model = ct.convert(
        program(),
        inputs=[ct.TensorType(name="x", shape=(batch, WIDTHS[0]))],
        minimum_deployment_target=ct.target.iOS16,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    model.save(str(path))
    print(f"{path}: {sum(a * b for a, b in zip(WIDTHS, WIDTHS[1:])) / 1e6:.1f} million weights")


main()
