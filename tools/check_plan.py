"""Compares the memory plan (`OnnxModel::memory_plan`) with what Python's onnxruntime computes and takes.

    python tools/check_plan.py shapes [MODEL ...]     the shape of every value of fixtures and open models
    python tools/check_plan.py peaks [MODEL ...]      the most memory of one run
    python tools/check_plan.py kernels [OPERATOR ...] what each kernel overwrites, and takes beside its results

MODEL is a package, a folder with one, or the name of an open model. `peaks` and `kernels` count what the allocator gives
(`check_plan.c`, preloaded), so they ask for Linux and a C compiler. The session's arena and its memory patterns are off:
they change how much is reserved, not how much is in use. Skips, saying so, what cannot be done here.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "target/debug/examples"
FIXTURES = ROOT / "crates/coreml-onnx/tests"
COUNTER = ROOT / "target/check_plan.so"
# Models of different forms, where `peaks` is given none.
PEAKS = (
    "mobilenet_v2_fp16 efficientnet_b0_fp16 efficientnet_b0_nn bert_6x384 basic_pitch lstm_fp32 bilstm_fp32 gru_fp32"
    " tiny_cnn_fp16io"
)


def main() -> int:
    try:
        import numpy  # noqa: F401
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as missing:
        print(f"skipped: {missing.name} is not installed (pip install -r tools/requirements-test.txt)")
        return 0
    checks = {"shapes": shapes, "peaks": peaks, "kernels": kernels}
    if len(sys.argv) < 2 or sys.argv[1] not in checks:
        print(__doc__)
        return 2
    if sys.argv[1] != "shapes" and "LD_PRELOAD" not in os.environ:
        return counted()
    build = ["cargo", "build", "--quiet", "--locked", "--package", "coreml-onnx", "--examples"]
    # The counter is not for the compiler.
    subprocess.run(build, cwd=ROOT, check=True, env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})
    return checks[sys.argv[1]](sys.argv[2:])


# Models and their inputs.


def cases(names):
    """Name, file, function and inputs of each model."""
    import models
    import numpy as np

    def load(path):
        return dict(np.load(path)) if path.exists() else {}

    if not names:
        for family in ("ops", "layers"):
            for folder in sorted(FIXTURES.glob(f"{family}/*/*/")):
                yield "/".join(folder.parts[-3:]), model_in(folder), None, load(folder / "inputs.npz")
    opened = [n for n in names if "/" not in n]
    if (opened or not names) and models.OPEN.is_dir():
        for name in (name for name in opened if not (models.OPEN / name).is_dir()):
            print(f"{name} is no open model")
        for model in models.models(opened):
            for case in model.meta["cases"]:
                yield model.name, model.file, case.get("function"), model.load(case, "inputs")
    elif opened or not names:
        print("skipped: the open models are not here")
    for name in names:
        if "/" in name:
            folder = Path(name)
            packaged = folder.suffix in (".mlpackage", ".mlmodel")
            yield folder.stem, folder if packaged else model_in(folder), None, load(folder / "inputs.npz")


def model_in(folder):
    return next(iter(sorted(folder.glob("*.mlmodel")) + sorted(folder.glob("*.mlpackage"))))


def exported(file, function, folder):
    """The ONNX file; None where the model cannot be lowered."""
    command = [EXAMPLES / "lower", file, folder] + ([function] if function else [])
    return folder / "model.onnx" if subprocess.run(command, capture_output=True).returncode == 0 else None


def planned(file, function, fed):
    given = [f"{name}={','.join(map(str, array.shape))}" for name, array in fed.items()]
    command = [EXAMPLES / "plan", file, "--half", *(["--function", function] if function else []), *given]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def feed(session, inputs):
    """The inputs that are there; others are ones, with sizes that are open as 1."""
    import models
    import numpy as np

    models.TYPES.setdefault("tensor(bool)", np.bool_)
    sizes = lambda port: [d if isinstance(d, int) else 1 for d in port.shape]
    # A gray image has no axis of channels.
    gray = lambda array: array[..., None] if array.dtype == np.uint8 and array.ndim == 2 else array
    inputs = {name: gray(array) for name, array in inputs.items()}
    ones = {port.name: np.ones(sizes(port)) for port in session.get_inputs() if port.name not in inputs}
    return models.feed(session.get_inputs(), {**inputs, **ones}, {})


# Shapes.


def shapes(names):
    import onnxruntime as ort

    total = {"exact": 0, "at most": 0, "unknown": 0, "wrong": 0}
    elements = {"float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "int8": "I8", "uint8": "U8"}
    elements |= {"int16": "I16", "uint16": "U16", "bool": "Bool"}
    count = skipped = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, file, function, inputs in cases(names):
            path = exported(file, function, Path(folder))
            if path is None:
                skipped += 1
                continue
            options = ort.SessionOptions()
            options.log_severity_level = 4
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            session = ort.InferenceSession(every_value_an_output(path), options, providers=["CPUExecutionProvider"])
            fed = feed(session, inputs)
            plan = planned(file, function, fed)
            ports = [port.name for port in session.get_outputs()]
            for value, array in zip(ports, session.run(ports, fed)):
                got = plan["values"][value]
                is_, shape = got["is"], got["shape"]
                total[is_] += 1
                wrong = got["element"] != elements[str(array.dtype)] or (
                    shape != list(array.shape)
                    if is_ == "exact"
                    else is_ == "at most" and any(a > b for a, b in zip(array.shape, shape))
                )
                total["wrong"] += wrong
                if wrong or is_ == "unknown":
                    print(f"{name}: {value}: planned {got}, computed {array.dtype} {list(array.shape)}")
            count += 1
    print(f"{count} models and cases, {skipped} not lowered; values: {total}")
    return 1 if total["wrong"] else 0


def every_value_an_output(path):
    import onnx

    model = onnx.load(path)
    there = {port.name for port in model.graph.output}
    for node in model.graph.node:
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name and name not in there)
    return model.SerializeToString()


# Memory.


def counted():
    """Starts this program again with the counter in it."""
    if sys.platform != "linux":
        print("skipped: allocations are counted on Linux alone")
        return 0
    COUNTER.parent.mkdir(exist_ok=True)
    build = ["cc", "-O2", "-shared", "-fPIC", "-o", COUNTER, Path(__file__).with_suffix(".c"), "-lpthread"]
    try:
        subprocess.run(build, check=True)
    except FileNotFoundError:
        print("skipped: there is no C compiler")
        return 0
    # Large blocks come from the heap too, so that their sizes are not rounded to pages.
    more = {"LD_PRELOAD": str(COUNTER), "MALLOC_MMAP_THRESHOLD_": "4000000000"}
    return subprocess.run([sys.executable, *sys.argv], env={**os.environ, **more}).returncode


def most_in_use(session, fed):
    """Bytes that are in use at most while the session runs once, beside what is there before."""
    import onnxruntime as ort

    counter = ctypes.CDLL(None)
    counter.count_stop.restype = ctypes.c_long
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in fed.items()}

    def run():
        binding = session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for port in session.get_outputs():
            binding.bind_output(port.name, "cpu")
        counter.count_start()
        session.run_with_iobinding(binding)
        return counter.count_stop()

    run()
    return run()


def session_of(model, level, arena=False):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def peaks(names):
    levels = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "none": "ORT_DISABLE_ALL"}
    print(f"{'':26}{'planned':>12} {'ratio of the plan to what is in use, by optimisation':}")
    with tempfile.TemporaryDirectory() as folder:
        seen = set()
        for name, file, function, inputs in cases(names or PEAKS.split()):
            path = exported(file, function, Path(folder))
            if path is None or (name, function) in seen:
                continue
            seen.add((name, function))
            fed, row = None, ""
            for label, level in levels.items():
                session = session_of(str(path), level)
                fed = fed or feed(session, inputs)
                plan = planned(file, function, fed)
                most = most_in_use(session, fed)
                row += f"  {label} {plan['peak_bytes'] / most:5.2f} ({most:,})"
            print(f"{name:26}{plan['peak_bytes']:12,}{row}  at {plan['at'][-40:]}, {plan['unknown']} unknown", flush=True)
    return 0


# Kernels.


def kernels(names):
    """One operator at a time, after a fresh value, and with its result read by a Shape, so that it is no output."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, 16, 128, 128]

    def constant(name, array):
        return numpy_helper.from_array(np.asarray(array), name)

    def graph(op_type, attributes, constants, where, shape, last, inputs):
        element = TensorProto.FLOAT
        ports = [helper.make_tensor_value_info("x", element, shape)]
        nodes, operands = [], []
        for i in range(inputs):
            nodes.append(helper.make_node("Cos", ["x"], [f"x{i}"]))
            operands.append(f"x{i}")
        operands[where:where] = [c if c == "" else c.name for c in constants]
        results = ["y", "h", "c"][: {"LSTM": 3, "GRU": 2, "RNN": 2, "TopK": 2}.get(op_type, 1)]
        nodes.append(helper.make_node(op_type, operands, results, **attributes))
        if last:
            nodes.append(helper.make_node("Shape", ["y"], ["z"]))
        out = helper.make_tensor_value_info("z" if last else "y", TensorProto.INT64 if last else 0, None)
        made = helper.make_graph(nodes, "g", ports, [out], [c for c in constants if c != ""])
        if not last:
            del made.output[:]
            made.output.append(onnx.ValueInfoProto(name="y"))
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()

    one, ones = np.float32(1), lambda *s: np.ones(s, np.float32)
    ints = lambda *v: np.array(v, np.int64)
    # Operator, attributes, constants, fresh operands; where others than these: the shape, and where constants stand.
    probes = [(op, {}, [], 1) for op in "Abs Ceil Cos Elu Erf Exp Floor Gelu HardSigmoid LeakyRelu Log Neg Reciprocal"
              " Relu Round Sigmoid Softmax Softplus Softsign Sqrt Tanh Identity GlobalAveragePool".split()]
    probes += [(op, {}, [], 2) for op in "Add Div Max Mul Pow PRelu Sub".split()]
    probes += [
        ("Clip", {}, [constant("low", one), constant("high", one)], 1),
        ("Cast", {"to": TensorProto.INT32}, [], 1),
        ("Softmax", {"axis": 1}, [], 1),
        ("Trilu", {}, [], 1),
        ("CumSum", {}, [constant("axis", np.int64(1))], 1),
        ("Transpose", {"perm": [0, 2, 3, 1]}, [], 1),
        ("Reshape", {}, [constant("to", ints(16, -1))], 1),
        ("Squeeze", {}, [constant("axes", ints(0))], 1),
        ("Unsqueeze", {}, [constant("axes", ints(0))], 1),
        ("LRN", {"size": 5}, [], 1),
        ("LayerNormalization", {}, [constant("s", ones(128)), constant("b", ones(128))], 1),
        ("InstanceNormalization", {}, [constant("s", ones(16)), constant("b", ones(16))], 1),
        ("BatchNormalization", {}, [constant(n, ones(16)) for n in "sbmv"], 1),
        ("ScatterElements", {}, [constant("i", np.zeros([1] * 4, np.int64)), constant("u", ones(1, 1, 1, 1))], 1),
        ("ScatterND", {}, [constant("i", ints(0)[None]), constant("u", ones(1, *shape[1:]))], 1),
        ("ReduceMean", {}, [constant("axes", ints(1))], 1),
        ("ConvTranspose", {"strides": [2, 2]}, [constant("w", ones(16, 8, 2, 2))], 1),
        ("NonZero", {}, [], 1),
        ("Where", {}, [constant("c", np.ones(shape, bool))], 2, shape, 0),
        ("Concat", {"axis": 1}, [], 2),
        ("Gather", {"axis": 1}, [constant("i", np.arange(16))], 1),
        ("Slice", {}, [constant("s", ints(1)), constant("e", ints(15)), constant("a", ints(1))], 1),
        ("Pad", {}, [constant("p", ints(0, 0, 1, 1, 0, 0, 1, 1))], 1),
        ("Tile", {}, [constant("r", ints(1, 1, 2, 1))], 1),
        ("TopK", {"axis": 3}, [constant("k", ints(128))], 1),
        ("Resize", {"mode": "linear"}, ["", constant("s", np.array([1, 1, 2, 2], np.float32))], 1),
        ("MaxPool", {"kernel_shape": [3, 3], "pads": [1] * 4}, [], 1),
        ("MatMul", {}, [], 2),
        ("Einsum", {"equation": "nchw,nwhu->nchu"}, [], 2, [2, 64, 4, 64]),
        # Pointwise, with fewer filters than places, and with more.
        ("Conv", {"kernel_shape": [1, 1]}, [constant("w", ones(16, 16, 1, 1))], 1),
        ("Conv", {"kernel_shape": [3, 3]}, [constant("w", ones(16, 16, 3, 3))], 1),
        ("Conv", {"kernel_shape": [3, 3]}, [constant("w", ones(256, 64, 3, 3))], 1, [1, 64, 10, 10]),
    ]
    sequence = [256, 4, 64]
    for op_type, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction, n in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            weights = [constant("w", ones(n, gates * 64, 64)), constant("r", ones(n, gates * 64, 64))]
            probes.append((op_type, {"hidden_size": 64, "direction": direction}, weights, 1, sequence))
    for op_type, attributes, constants, inputs, *others in probes:
        if names and op_type not in names:
            continue
        of, at = [*others, *[shape, 1][len(others) :]]
        fed = {"x": np.zeros(of, np.float32)}
        whole = session_of(graph(op_type, attributes, constants, at, of, False, inputs), "ORT_DISABLE_ALL")
        inner = session_of(graph(op_type, attributes, constants, at, of, True, inputs), "ORT_DISABLE_ALL")
        operand, result = 4 * int(np.prod(of)), whole.run(None, fed)[0].nbytes
        beside = most_in_use(whole, fed) - inputs * operand - result
        again = most_in_use(inner, fed) - inputs * operand - beside
        place = "over its operand" if again < result / 2 else "fresh"
        print(f"{op_type:22} {str(attributes)[:44]:46} {place:17} beside its first result {beside / result:5.2f} of that")
    return 0


if __name__ == "__main__":
    sys.exit(main())
