"""Recurrent layers."""

import numpy as np
from scipy.special import expit

from .case import case, const, normal

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": expit,
    "tanh": np.tanh,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    # With the factors that coremltools' own tests of the op on Core ML have: both are 1.
    "scaled_tanh": np.tanh,
}


def unroll(x, direction, output_sequence, step, state):
    """Runs `step` over time. Gives the hidden states in the order in which they were computed, and the last state."""
    hidden = []
    for x_t in x if direction == "forward" else x[::-1]:
        state = step(x_t, state)
        hidden.append(state[0])
    return np.stack(hidden if output_sequence else hidden[-1:]), state


def rnn(
    x, initial_h, weight_ih, weight_hh, bias=0.0, direction="forward", output_sequence=False, activation="tanh"
):
    act = ACTIVATIONS[activation]
    y, (h,) = unroll(
        x,
        direction,
        output_sequence,
        lambda x_t, state: (act(x_t @ weight_ih.T + state[0] @ weight_hh.T + bias),),
        (initial_h,),
    )
    return y, h


def gru(
    x, initial_h, weight_ih, weight_hh, bias=None, direction="forward", output_sequence=False,
    recurrent_activation="sigmoid", activation="tanh", reset_after=False, input_bias=None,
):  # fmt: skip
    gate, act = ACTIVATIONS[recurrent_activation], ACTIVATIONS[activation]
    size = initial_h.shape[1]
    zero = np.zeros(3 * size)
    # The order of the gates is reset, output, update.
    w_r, w_o, w_z = np.split(weight_ih, 3)
    r_r, r_o, r_z = np.split(weight_hh, 3)
    b_r, b_o, b_z = np.split(zero if bias is None else bias, 3)
    i_r, i_o, i_z = np.split(zero if input_bias is None else input_bias, 3)

    def step(x_t, state):
        (h,) = state
        r = gate(x_t @ w_r.T + i_r + h @ r_r.T + b_r)
        z = gate(x_t @ w_z.T + i_z + h @ r_z.T + b_z)
        # The formula of the documentation is that of reset_after=True. coremltools' own tests of the op on
        # Core ML, and the default of the iOS18 parameter, have the reset gate inside the product.
        recurrent = r * (h @ r_o.T + b_o) if reset_after else (r * h) @ r_o.T + b_o
        o = act(x_t @ w_o.T + i_o + recurrent)
        return ((1 - z) * o + z * h,)

    y, (h,) = unroll(x, direction, output_sequence, step, (initial_h,))
    return y, h


def lstm_one_way(
    x, h, c, weight_ih, weight_hh, bias, peephole, direction, output_sequence, gate, cell, act, clip
):  # fmt: skip
    bias = np.zeros(len(weight_ih)) if bias is None else bias
    p_i, p_f, p_o = np.zeros(3) if peephole is None else np.split(peephole, 3)

    def step(x_t, state):
        h, c = state
        i, f, o, z = np.split(x_t @ weight_ih.T + h @ weight_hh.T + bias, 4, axis=-1)
        c = gate(f + p_f * c) * c + gate(i + p_i * c) * cell(z)
        # coremltools' own tests of the op on Core ML: the state of the cell is clipped.
        c = c if clip is None else np.clip(c, -clip, clip)
        return gate(o + p_o * c) * act(c), c

    y, (h, c) = unroll(x, direction, output_sequence, step, (h, c))
    return y, h, c


def lstm(
    x, initial_h, initial_c, weight_ih, weight_hh, bias=None, peephole=None, weight_ih_back=None,
    weight_hh_back=None, bias_back=None, peephole_back=None, direction="forward", output_sequence=False,
    recurrent_activation="sigmoid", cell_activation="tanh", activation="tanh", clip=None,
):  # fmt: skip
    acts = [*(ACTIVATIONS[name] for name in (recurrent_activation, cell_activation, activation)), clip]
    if direction != "bidirectional":
        return lstm_one_way(
            x, initial_h, initial_c, weight_ih, weight_hh, bias, peephole, direction, output_sequence, *acts
        )
    size = weight_hh.shape[1]
    there = lstm_one_way(
        x, initial_h[:, :size], initial_c[:, :size], weight_ih, weight_hh, bias, peephole, "forward",
        output_sequence, *acts,
    )  # fmt: skip
    back = lstm_one_way(
        x, initial_h[:, size:], initial_c[:, size:], weight_ih_back, weight_hh_back, bias_back,
        peephole_back, "reverse", output_sequence, *acts,
    )  # fmt: skip
    # Here, unlike in a layer that only goes backwards, outputs are put back in the order of the inputs.
    return tuple(np.concatenate(pair, -1) for pair in zip(there, (back[0][::-1], *back[1:])))


def weights(gates: int, inputs: int = 3, hidden: int = 4, suffix: str = "", bias: bool = True) -> dict:
    """The constants of one direction."""
    found = {
        f"weight_ih{suffix}": const(normal(gates * hidden, inputs)),
        f"weight_hh{suffix}": const(normal(gates * hidden, hidden)),
    }
    return found | ({f"bias{suffix}": const(normal(gates * hidden))} if bias else {})


def states(*names: str, batch: int = 2, size: int = 4) -> dict:
    return {name: normal(batch, size) for name in names}


PEEPHOLE = {"peephole": const(normal(12))}
X = {"x": normal(5, 2, 3)}
H = states("initial_h")
HC = states("initial_h", "initial_c")
BOTH_HC = states("initial_h", "initial_c", size=8)
BOTH = weights(4) | weights(4, suffix="_back")

LSTM = {
    "defaults": X | HC | weights(4, bias=False) | {"bare": True},
    "sequence": X | HC | weights(4) | {"output_sequence": True},
    "last_only": X | HC | weights(4) | {"output_sequence": False},
    "no_bias": X | HC | weights(4, bias=False) | {"output_sequence": True},
    "one_step": {"x": normal(1, 2, 3)} | HC | weights(4) | {"output_sequence": True},
    "reverse_sequence": X | HC | weights(4) | {"direction": "reverse", "output_sequence": True},
    "reverse_last_only": X | HC | weights(4) | {"direction": "reverse", "output_sequence": False},
    "bidirectional_sequence": X | BOTH_HC | BOTH | {"direction": "bidirectional", "output_sequence": True},
    "bidirectional_last_only": X | BOTH_HC | BOTH | {"direction": "bidirectional", "output_sequence": False},
    "bidirectional_no_bias": X
    | BOTH_HC
    | weights(4, bias=False)
    | weights(4, suffix="_back", bias=False)
    | {"direction": "bidirectional", "output_sequence": True},
    "activations": X
    | HC
    | weights(4)
    | {
        "output_sequence": True,
        "recurrent_activation": "tanh",
        "cell_activation": "sigmoid",
        "activation": "relu",
    },
    "peephole": X | HC | weights(4) | PEEPHOLE | {"output_sequence": True},
    "clip": X | HC | weights(4) | {"output_sequence": True, "clip": 0.3},
    "peephole_clip_reverse": X
    | HC
    | weights(4)
    | PEEPHOLE
    | {"output_sequence": True, "clip": 0.5, "direction": "reverse"},
    "bidirectional_peephole_clip": X
    | BOTH_HC
    | BOTH
    | PEEPHOLE
    | {"peephole_back": const(normal(12)), "direction": "bidirectional", "output_sequence": True, "clip": 0.4},
    "hard_sigmoid_scaled_tanh": X
    | HC
    | weights(4)
    | {"output_sequence": True, "recurrent_activation": "hard_sigmoid", "activation": "scaled_tanh"},
    "linear": X | HC | weights(4) | {"output_sequence": True, "activation": "linear"},
    "ios17": X | HC | weights(4) | {"output_sequence": True, "opset": "iOS17"},
}
GRU = {
    "defaults": X | H | weights(3, bias=False) | {"bare": True},
    "sequence": X | H | weights(3) | {"output_sequence": True},
    "last_only": X | H | weights(3) | {"output_sequence": False},
    "reverse_sequence": X | H | weights(3) | {"direction": "reverse", "output_sequence": True},
    "activations": X
    | H
    | weights(3)
    | {"output_sequence": True, "recurrent_activation": "tanh", "activation": "sigmoid"},
    "reverse_last_only": X | H | weights(3) | {"direction": "reverse", "output_sequence": False},
    "ios17": X | H | weights(3) | {"output_sequence": True, "opset": "iOS17"},
    "ios18_reset_after": X
    | H
    | weights(3)
    | {"input_bias": const(normal(12)), "reset_after": True, "output_sequence": True, "opset": "iOS18"},
    "ios18_reset_before": X
    | H
    | weights(3)
    | {"input_bias": const(normal(12)), "reset_after": False, "output_sequence": True, "opset": "iOS18"},
}
RNN = {
    "defaults": X | H | weights(1, bias=False) | {"bare": True},
    "sequence": X | H | weights(1) | {"output_sequence": True},
    "reverse_sequence": X | H | weights(1) | {"direction": "reverse", "output_sequence": True},
    "reverse_last_only": X | H | weights(1) | {"direction": "reverse", "output_sequence": False},
    "relu": X | H | weights(1) | {"activation": "relu", "output_sequence": True},
    "linear": X | H | weights(1) | {"activation": "linear", "output_sequence": True},
    "scaled_tanh": X | H | weights(1) | {"activation": "scaled_tanh", "output_sequence": True},
    "ios17_sigmoid": X | H | weights(1) | {"activation": "sigmoid", "opset": "iOS17"},
}

CASES = [
    case(op, name, reference, **arguments)
    for op, reference, rows in (("lstm", lstm, LSTM), ("gru", gru, GRU), ("rnn", rnn, RNN))
    for name, arguments in rows.items()
]
