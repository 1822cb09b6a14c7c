"""Recurrent layers, whose blobs are (sequence, batch, vector, 1, 1)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit

from .network import Network, case

INPUTS, HIDDEN, STEPS, BATCH = 3, 4, 5, 2

# A network stores no parameters for these; then a scaled tanh is a plain one, as coremltools' tests of LSTMs show.
ACTIVATIONS: dict[str, Callable] = {
    "linear": lambda x: x,
    "ReLU": lambda x: np.maximum(x, 0),
    "sigmoid": expit,
    "tanh": np.tanh,
    "sigmoidHard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "scaledTanh": np.tanh,
}
SIZES = {"inputVectorSize": INPUTS, "outputVectorSize": HIDDEN}


def steps(net: Network, batch: int = BATCH) -> np.ndarray:
    """The input as (sequence, batch, vector)."""
    return net.array(STEPS, batch, INPUTS, 1, 1)[..., 0, 0]


def state(net: Network, name: str) -> np.ndarray:
    return net.array(1, BATCH, HIDDEN, 1, 1, name=name)[0, ..., 0, 0]


def blob(values: np.ndarray) -> np.ndarray:
    """A vector, a batch or a sequence of them as a blob."""
    return values.reshape(*(1,) * (3 - values.ndim), *values.shape, 1, 1)


def unroll(x: np.ndarray, first: Any, reverse: bool, step: Callable) -> tuple[np.ndarray, Any]:
    """The output of every step, in the order in which they are computed, and the last state."""
    outputs, last = [], first
    for at in range(len(x))[:: -1 if reverse else 1]:
        output, last = step(x[at], last)
        outputs.append(output)
    return np.stack(outputs), last


def simple(
    name: str, activation: str = "tanh", bias: bool = True, reverse: bool = False, sequence: bool = True
) -> None:
    @case("simpleRecurrent", name, outputs=("out", "last"))
    def _(net: Network):
        x, h = steps(net), state(net, "h")
        w, r, b = net.normal(HIDDEN, INPUTS), net.normal(HIDDEN, HIDDEN), net.normal(HIDDEN)
        fields = {"activation": {activation: {}}, "weightMatrix": w, "recursionMatrix": r, "hasBiasVector": bias}
        fields |= {"biasVector": b} if bias else {}
        net.add("simpleRecurrent", "x h", "out last", sequenceOutput=sequence, reverseInput=reverse, **SIZES, **fields)

        def step(x_t: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            h = ACTIVATIONS[activation](x_t @ w.T + h @ r.T + (b if bias else 0))
            return h, h

        every, last = unroll(x, h, reverse, step)
        return {"out": blob(every if sequence else last), "last": blob(last)}


for function in ACTIVATIONS:
    simple(function, activation=function)
simple("without_bias", bias=False)
simple("reverse_sequence", reverse=True)
simple("last_only", sequence=False)
simple("reverse_last_only", reverse=True, sequence=False)


@case("simpleRecurrent", "legacy", legacy=True)
def _(net: Network):
    x, w, r = net.sequence(STEPS, INPUTS), net.normal(HIDDEN, INPUTS), net.normal(HIDDEN, HIDDEN)
    weights = {"weightMatrix": w, "recursionMatrix": r}
    net.add("simpleRecurrent", "x", activation={"tanh": {}}, sequenceOutput=True, **SIZES, **weights)

    def step(x_t: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h = np.tanh(x_t @ w.T + h @ r.T)
        return h, h

    return blob(unroll(x[..., 0, 0], np.zeros((1, HIDDEN)), False, step)[0])


GRU_GATES = ("update", "reset", "output")


def gru(
    name: str,
    functions: tuple[str, str] = ("sigmoid", "tanh"),
    bias: bool = True,
    reverse: bool = False,
    sequence: bool = True,
    given: bool = True,
) -> None:
    @case("gru", name, outputs=("out", "last") if given else ("out",))
    def _(net: Network):
        x = steps(net)
        h = state(net, "h") if given else np.zeros((BATCH, HIDDEN))
        f, g = (ACTIVATIONS[function] for function in functions)
        w = {gate: net.normal(HIDDEN, INPUTS) for gate in GRU_GATES}
        r = {gate: net.normal(HIDDEN, HIDDEN) for gate in GRU_GATES}
        b = {gate: net.normal(HIDDEN) if bias else np.zeros(HIDDEN) for gate in GRU_GATES}
        stored = [("WeightMatrix", w), ("RecursionMatrix", r)] + ([("BiasVector", b)] if bias else [])
        fields = {f"{gate}Gate{what}": values[gate] for what, values in stored for gate in GRU_GATES}
        fields |= {"activations": [{function: {}} for function in functions], "hasBiasVectors": bias}
        names = ("x h", "out last") if given else ("x", "out")
        net.add("gru", *names, sequenceOutput=sequence, reverseInput=reverse, **SIZES, **fields)

        def step(x_t: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z, q = (f(x_t @ w[gate].T + h @ r[gate].T + b[gate]) for gate in ("update", "reset"))
            o = g(x_t @ w["output"].T + (h * q) @ r["output"].T + b["output"])
            h = (1 - z) * o + z * h
            return h, h

        every, last = unroll(x, h, reverse, step)
        results = {"out": blob(every if sequence else last)}
        return results | {"last": blob(last)} if given else results


gru("sequence")
gru("last_only", sequence=False)
gru("reverse_sequence", reverse=True)
gru("reverse_last_only", reverse=True, sequence=False)
gru("without_bias", bias=False)
gru("without_state", given=False)
gru("other_functions", functions=("sigmoidHard", "ReLU"))
gru("more_functions", functions=("tanh", "sigmoid"))

LSTM_GATES = ("inputGate", "forgetGate", "blockInput", "outputGate")


def lstm_weights(net: Network, bias: bool, peephole: bool, **_: Any) -> tuple[dict[str, np.ndarray], Callable]:
    """The message, and its weights by gate and kind, with zeros for those that it lacks."""
    message = {f"{gate}WeightMatrix": net.normal(HIDDEN, INPUTS) for gate in LSTM_GATES}
    message |= {f"{gate}RecursionMatrix": net.normal(HIDDEN, HIDDEN) for gate in LSTM_GATES}
    message |= {f"{gate}BiasVector": net.normal(HIDDEN) for gate in LSTM_GATES if bias}
    gates = ("inputGate", "forgetGate", "outputGate")
    message |= {f"{gate}PeepholeVector": net.normal(HIDDEN) for gate in gates if peephole}
    return message, lambda gate, kind: message.get(gate + kind, np.zeros(HIDDEN))


def lstm_way(x, h, c, of, functions, reverse, forget_bias, coupled, clip, **_: Any) -> tuple[np.ndarray, Any]:
    """One direction: the outputs of its steps, and its last states."""
    f, g, last = (ACTIVATIONS[function] for function in functions)

    def step(x_t: np.ndarray, state: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, Any]:
        y, c = state
        sums = {
            gate: x_t @ of(gate, "WeightMatrix").T + y @ of(gate, "RecursionMatrix").T + of(gate, "BiasVector")
            for gate in LSTM_GATES
        }
        i = f(sums["inputGate"] + of("inputGate", "PeepholeVector") * c)
        forget = f(sums["forgetGate"] + of("forgetGate", "PeepholeVector") * c + forget_bias)
        c = c * (1 - i if coupled else forget) + i * g(sums["blockInput"])
        c = np.clip(c, -(clip or 50), clip or 50)
        y = last(c) * f(sums["outputGate"] + of("outputGate", "PeepholeVector") * c)
        return y, (y, c)

    return unroll(x, (h, c), reverse, step)


DEFAULTS = {
    "functions": ("sigmoid", "tanh", "tanh"),
    "bias": True,
    "peephole": False,
    "reverse": False,
    "sequence": True,
    "forget_bias": False,
    "coupled": False,
    "clip": 0.0,
}


def lstm_params(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "sequenceOutput": options["sequence"],
        "hasBiasVectors": options["bias"],
        "forgetBias": options["forget_bias"],
        "hasPeepholeVectors": options["peephole"],
        "coupledInputAndForgetGate": options["coupled"],
        "cellClipThreshold": options["clip"],
    }


def lstm(name: str, **changed: Any) -> None:
    options = DEFAULTS | changed

    @case("uniDirectionalLSTM", name, outputs=("out", "last_h", "last_c"))
    def _(net: Network):
        x, h, c = steps(net), state(net, "h"), state(net, "c")
        message, of = lstm_weights(net, **options)
        functions = [{function: {}} for function in options["functions"]]
        fields = {"activations": functions, "params": lstm_params(options), "weightParams": message}
        net.add("uniDirectionalLSTM", "x h c", "out last_h last_c", reverseInput=options["reverse"], **SIZES, **fields)
        every, (h, c) = lstm_way(x, h, c, of, **options)
        return {"out": blob(every if options["sequence"] else h), "last_h": blob(h), "last_c": blob(c)}


lstm("sequence")
lstm("last_only", sequence=False)
lstm("reverse_sequence", reverse=True)
lstm("reverse_last_only", reverse=True, sequence=False)
lstm("without_bias", bias=False)
lstm("forget_bias", forget_bias=True)
lstm("forget_bias_alone", forget_bias=True, bias=False)
lstm("peephole", peephole=True)
lstm("clip", clip=0.4)
lstm("peephole_clip_reverse", peephole=True, clip=0.5, reverse=True)
lstm("coupled", coupled=True)
lstm("coupled_peephole_hard", coupled=True, peephole=True, functions=("sigmoidHard", "tanh", "tanh"))
lstm("coupled_forget_bias", coupled=True, forget_bias=True)
lstm("other_functions", functions=("sigmoidHard", "linear", "scaledTanh"))
lstm("more_functions", functions=("tanh", "sigmoid", "ReLU"))


@case("uniDirectionalLSTM", "states_of_more_samples")
def _(net: Network):
    # As coremltools writes it for packed sequences: the first length stands for the number of samples.
    x = steps(net)
    net.given([1, STEPS + x.shape[1], HIDDEN, 1, 1], name="shape")
    net.add("fillDynamic", "shape", "zeros", value=0.25)
    message, of = lstm_weights(net, **DEFAULTS)
    functions = [{function: {}} for function in DEFAULTS["functions"]]
    fields = {"activations": functions, "params": lstm_params(DEFAULTS), "weightParams": message}
    net.add("uniDirectionalLSTM", "x zeros zeros", "out last_h last_c", **SIZES, **fields)
    states = np.full((x.shape[1], HIDDEN), 0.25)
    return blob(lstm_way(x, states, states, of, **DEFAULTS)[0])


@case("uniDirectionalLSTM", "legacy_float16", legacy=True)
def _(net: Network):
    x = net.sequence(STEPS, INPUTS)[..., 0, 0]
    message, of = lstm_weights(net, **DEFAULTS)
    functions = [{function: {}} for function in DEFAULTS["functions"]]
    fields = {"activations": functions, "params": lstm_params(DEFAULTS), "weightParams": message}
    stored = net.add("uniDirectionalLSTM", "x", **SIZES, **fields).weightParams
    message |= {name: net.half(getattr(stored, name), values) for name, values in message.items()}
    zeros = np.zeros((1, HIDDEN))
    return blob(lstm_way(x, zeros, zeros, of, **DEFAULTS)[0])


def both_ways(name: str, **changed: Any) -> None:
    options = DEFAULTS | changed
    lasts = ("last_h", "last_c", "last_h_back", "last_c_back")

    @case("biDirectionalLSTM", name, outputs=("out", *lasts))
    def _(net: Network):
        x = steps(net)
        h, c, h_back, c_back = (state(net, name) for name in ("h", "c", "h_back", "c_back"))
        (there, of), (back, of_back) = (lstm_weights(net, **options) for _ in range(2))
        functions = [{function: {}} for function in options["functions"]]
        fields = {"activationsForwardLSTM": functions, "activationsBackwardLSTM": functions}
        fields |= {"params": lstm_params(options), "weightParams": [there, back]}
        net.add("biDirectionalLSTM", "x h c h_back c_back", " ".join(("out", *lasts)), **SIZES, **fields)
        ways = [(h, c, of, False), (h_back, c_back, of_back, True)]
        results = [lstm_way(x, h, c, of, **options | {"reverse": reverse}) for h, c, of, reverse in ways]
        # The way back is stacked in the order in which it computes; its outputs stand beside the steps they belong to.
        every = np.concatenate([results[0][0], results[1][0][::-1]], -1)
        (h, c), (h_back, c_back) = (last for _, last in results)
        out = every if options["sequence"] else np.concatenate([h, h_back], -1)
        return dict(zip(("out", *lasts), map(blob, (out, h, c, h_back, c_back))))


both_ways("sequence")
both_ways("last_only", sequence=False)
both_ways("without_bias", bias=False)
both_ways("forget_bias_alone", forget_bias=True, bias=False)
both_ways("peephole_clip", peephole=True, clip=0.4)
both_ways("coupled", coupled=True)
both_ways("other_functions", functions=("sigmoidHard", "tanh", "ReLU"))


@case("biDirectionalLSTM", "legacy", legacy=True)
def _(net: Network):
    x, zeros = net.sequence(STEPS, INPUTS)[..., 0, 0], np.zeros((1, HIDDEN))
    (there, of), (back, of_back) = (lstm_weights(net, **DEFAULTS) for _ in range(2))
    functions = [{function: {}} for function in DEFAULTS["functions"]]
    fields = {"activationsForwardLSTM": functions, "activationsBackwardLSTM": functions}
    net.add("biDirectionalLSTM", "x", params=lstm_params(DEFAULTS), weightParams=[there, back], **SIZES, **fields)
    forward, _ = lstm_way(x, zeros, zeros, of, **DEFAULTS)
    backward, _ = lstm_way(x, zeros, zeros, of_back, **DEFAULTS | {"reverse": True})
    return blob(np.concatenate([forward, backward[::-1]], -1))
