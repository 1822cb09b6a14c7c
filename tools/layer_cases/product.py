"""Matrix products and embeddings."""

import numpy as np

from .network import Network, case


def inner_product(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    if x.ndim < 4:
        return x @ weight.T + bias
    outer = x.shape[: x.ndim - 3]
    return (x.reshape(*outer, -1) @ weight.T + bias).reshape(*outer, -1, 1, 1)


def add_inner_product(net: Network, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
    net.builder.add_inner_product(
        name="product",
        W=weight,
        b=bias,
        input_channels=weight.shape[1],
        output_channels=weight.shape[0],
        has_bias=bias is not None,
        input_name="x",
        output_name="out",
    )


def ranks(shape: tuple[int, ...]) -> None:
    @case("innerProduct", f"rank{len(shape)}")
    def _(net: Network):
        x, w, b = net.array(*shape), net.normal(5, 12), net.normal(5)
        add_inner_product(net, w, b)
        return inner_product(x, w, b)


for shape in [(12,), (3, 12), (2, 3, 12), (4, 3, 2, 2), (2, 3, 3, 2, 2)]:
    ranks(shape)


@case("innerProduct", "without_bias")
def _(net: Network):
    x, w = net.array(3, 4), net.normal(5, 4)
    add_inner_product(net, w)
    return inner_product(x, w)


@case("innerProduct", "legacy_rank1", legacy=True)
def _(net: Network):
    x, w, b = net.array(4), net.normal(5, 4), net.normal(5)
    add_inner_product(net, w, b)
    return inner_product(x, w, b).reshape(5, 1, 1)


@case("innerProduct", "legacy_rank3", legacy=True)
def _(net: Network):
    x, w, b = net.array(4, 1, 1), net.normal(5, 4), net.normal(5)
    add_inner_product(net, w, b)
    return inner_product(x[None], w, b)[0]


@case("innerProduct", "float16")
def _(net: Network):
    x, w, b = net.array(3, 4), net.normal(5, 4), net.normal(5)
    add_inner_product(net, w, b)
    return inner_product(x, net.half(net.layer.weights, w), net.half(net.layer.bias, b))


@case("innerProduct", "scales_without_bias")
def _(net: Network):
    x, w = net.array(3, 4), net.normal(5, 4)
    add_inner_product(net, w)
    return inner_product(x, net.linear(net.layer.weights, w.shape, 8, 0, bias=False))


@case("innerProduct", "int8_dynamic")
def _(net: Network):
    x, w = net.array(3, 4), net.normal(5, 4)
    add_inner_product(net, w)
    net.layer.int8DynamicQuantize = True
    return inner_product(x, net.int8(net.layer.weights, w.shape, 0.01))


def quantized(bits: int, how: str) -> None:
    @case("innerProduct", f"{how}_{bits}_bits")
    def _(net: Network):
        x, w, b = net.array(2, 7), net.normal(5, 7), net.normal(5)
        add_inner_product(net, w, b)
        weights = net.layer.weights
        axis = 0 if bits % 2 else None
        w = net.table(weights, w.shape, bits) if how == "table" else net.linear(weights, w.shape, bits, axis)
        return inner_product(x, w, b)


for bits in range(1, 9):
    quantized(bits, "linear")
    quantized(bits, "table")


# --- batched products -------------------------------------------------------------------------------


def pairs(name: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...], result: tuple[int, ...]) -> None:
    @case("batchedMatmul", name)
    def _(net: Network):
        a, b = net.array(*a_shape, name="a"), net.array(*b_shape, name="b")
        net.builder.add_batched_mat_mul(name="product", input_names=["a", "b"], output_name="out")
        return np.matmul(a, b).reshape(result)


pairs("matrices", (2, 3), (3, 4), (2, 4))
pairs("vectors", (10,), (10,), (1, 1))
pairs("matrix_and_vector", (4, 10), (10,), (4, 1))
pairs("vector_and_matrix", (10,), (10, 3), (1, 3))
pairs("vector_and_batch", (10,), (2, 10, 3), (2, 1, 3))
pairs("batches_broadcast", (1, 3, 4), (3, 2, 4, 5), (3, 2, 3, 5))
pairs("rank5", (2, 3, 1, 3, 4), (2, 1, 2, 4, 5), (2, 3, 2, 3, 5))


def transposes(turn_a: bool, turn_b: bool) -> None:
    names = [name for name, turned in (("a", turn_a), ("b", turn_b)) if turned]

    @case("batchedMatmul", f"transpose_{'_and_'.join(names)}")
    def _(net: Network):
        a = net.array(2, *((4, 3) if turn_a else (3, 4)), name="a")
        b = net.array(2, *((5, 4) if turn_b else (4, 5)), name="b")
        net.builder.add_batched_mat_mul(
            name="product", input_names=["a", "b"], output_name="out", transpose_a=turn_a, transpose_b=turn_b
        )
        return (a.swapaxes(1, 2) if turn_a else a) @ (b.swapaxes(1, 2) if turn_b else b)


transposes(True, False)
transposes(False, True)
transposes(True, True)


def add_by_weight(net: Network, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
    net.builder.add_batched_mat_mul(
        name="product",
        input_names=["x"],
        output_name="out",
        weight_matrix_rows=weight.shape[0],
        weight_matrix_columns=weight.shape[1],
        W=weight,
        bias=bias,
    )


def by_weight(shape: tuple[int, ...]) -> None:
    @case("batchedMatmul", f"weight_rank{len(shape)}")
    def _(net: Network):
        x, w, b = net.array(*shape), net.normal(6, 4), net.normal(4)
        add_by_weight(net, w, b)
        return x @ w + b


for shape in [(6,), (5, 6), (2, 3, 6), (2, 1, 5, 6), (2, 3, 1, 5, 6)]:
    by_weight(shape)


@case("batchedMatmul", "weight_without_bias_float16")
def _(net: Network):
    x, w = net.array(5, 6), net.normal(6, 4)
    add_by_weight(net, w)
    return x @ net.half(net.layer.weights, w.T).T


@case("batchedMatmul", "weight_linear_5_bits")
def _(net: Network):
    x, w = net.array(5, 6), net.normal(6, 4)
    add_by_weight(net, w)
    return x @ net.linear(net.layer.weights, (4, 6), 5, 0).T


@case("batchedMatmul", "weight_table_2_bits")
def _(net: Network):
    x, w = net.array(2, 5, 6), net.normal(6, 4)
    add_by_weight(net, w)
    return x @ net.table(net.layer.weights, (4, 6), 2).T


@case("batchedMatmul", "int8_dynamic")
def _(net: Network):
    x, w = net.array(5, 6), net.normal(6, 4)
    add_by_weight(net, w)
    net.layer.int8DynamicQuantize = True
    return x @ net.int8(net.layer.weights, (4, 6), 0.02).T


# --- embeddings -------------------------------------------------------------------------------------


def add_embedding(net: Network, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
    net.builder.add_embedding_nd(
        name="embedding",
        input_name="x",
        output_name="out",
        vocab_size=weight.shape[1],
        embedding_size=weight.shape[0],
        W=weight,
        b=bias,
    )


def embedded(shape: tuple[int, ...], with_bias: bool) -> None:
    @case("embeddingND", f"rank{len(shape)}{'_bias' if with_bias else ''}")
    def _(net: Network):
        x, w = net.given(net.rng.integers(0, 10, shape)).astype(int), net.normal(4, 10)
        b = net.normal(4) if with_bias else None
        add_embedding(net, w, b)
        return w.T[x[..., 0]] + (0.0 if b is None else b)


embedded((5, 1), False)
embedded((2, 3, 1), True)
embedded((2, 1, 3, 1), False)
embedded((1, 2, 1, 3, 1), True)


@case("embeddingND", "float16")
def _(net: Network):
    x, w = net.given(net.rng.integers(0, 10, (3, 1))).astype(int), net.normal(4, 10)
    add_embedding(net, w)
    return net.half(net.layer.weights, w).T[x[..., 0]]


@case("embeddingND", "linear_4_bits")
def _(net: Network):
    x, w = net.given(net.rng.integers(0, 10, (3, 1))).astype(int), net.normal(4, 10)
    add_embedding(net, w)
    return net.linear(net.layer.weights, w.shape, 4, 0).T[x[..., 0]]


@case("embeddingND", "table_7_bits")
def _(net: Network):
    x, w = net.given(net.rng.integers(0, 10, (3, 1))).astype(int), net.normal(4, 10)
    add_embedding(net, w)
    return net.table(net.layer.weights, w.shape, 7).T[x[..., 0]]
