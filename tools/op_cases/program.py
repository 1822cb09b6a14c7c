"""Constants, control flow and state: what a program is made of besides its arithmetic."""

import numpy as np
from coremltools.converters.mil import Builder as mb

from .case import booleans, case, const, given, integers, normal, uniform


def plus(x, y):
    return x + y


def add(x, y):
    return mb.add(x=x, y=y)


CONST = [
    case("const", "fp32_inline", plus, build=add, x=normal(2, 3), y=const(normal(2, 3))),
    case("const", "fp32_file", plus, build=add, x=normal(4, 5), y=const(normal(4, 5))),
    case("const", "fp32_scalar", plus, build=add, x=normal(3), y=np.float32(1.5)),
    case("const", "int32", plus, build=add, x=integers(-9, 9, 12), y=const(integers(-99999, 99999, 12))),
    case("const", "ios18_int32_file", plus, opset="iOS18", build=add, x=integers(-9, 9, 12),
         y=const(integers(-99999, 99999, 12))),
    case("const", "fp16_inline", plus, opset="iOS16", rtol=2e-3, atol=2e-3, build=add,
         x=normal(3, dtype="fp16"), y=const(normal(3, dtype="fp16"))),
    case("const", "fp16_file", plus, opset="iOS16", rtol=2e-3, atol=2e-3, build=add,
         x=normal(4, 5, dtype="fp16"), y=const(normal(4, 5, dtype="fp16"))),
    case("const", "bool", lambda x, y: np.logical_xor(x, y), build=lambda x, y: mb.logical_xor(x=x, y=y),
         x=booleans(2, 6), y=const(booleans(2, 6))),
    *(
        case("const", f"ios17_{dtype}_{name}", plus, opset="iOS17",
             build=lambda x, y: mb.add(x=x, y=mb.cast(x=mb.identity(x=y), dtype="int32")),
             x=integers(-9, 9, count), y=const(integers(low, 100, count, dtype=dtype)))
        for dtype, low in (("int8", -100), ("uint8", 0), ("int16", -100), ("uint16", 0))
        for name, count in (("inline", 5), ("file", 12))
    ),
]  # fmt: skip


def choose(pred, x):
    return np.exp(x) if pred[0] > 0 else x * 2 - 1


def build_choose(pred, x):
    return mb.cond(
        pred=mb.cast(x=mb.squeeze(x=pred), dtype="bool"),
        _true_fn=lambda: mb.exp(x=x),
        _false_fn=lambda: mb.sub(x=mb.mul(x=x, y=2.0), y=1.0),
    )


def choose_two(x):
    return (x + 1, x - 1) if x.sum() > 0 else (x, x * x)


def build_choose_two(x):
    return mb.cond(
        pred=mb.greater(x=mb.reduce_sum(x=x), y=0.0),
        _true_fn=lambda: (mb.add(x=x, y=1.0), mb.sub(x=x, y=1.0)),
        _false_fn=lambda: (mb.identity(x=x), mb.mul(x=x, y=x)),
    )


def choose_nested(a, b, x):
    return (np.tanh(x) if b[0] else -x) if a[0] else x + 10


def build_choose_nested(a, b, x):
    inner = mb.cast(x=mb.squeeze(x=b), dtype="bool")
    return mb.cond(
        pred=mb.cast(x=mb.squeeze(x=a), dtype="bool"),
        _true_fn=lambda: mb.cond(
            pred=inner, _true_fn=lambda: mb.tanh(x=x), _false_fn=lambda: mb.mul(x=x, y=-1.0)
        ),
        _false_fn=lambda: mb.add(x=x, y=10.0),
    )


ONE, ZERO = given([1], "int32"), given([0], "int32")

COND = [
    case("cond", "true", choose, build=build_choose, pred=ONE, x=normal(2, 3)),
    case("cond", "false", choose, build=build_choose, pred=ZERO, x=normal(2, 3)),
    case("cond", "two_outputs_true", choose_two, build=build_choose_two, x=uniform(0, 1, 4)),
    case("cond", "two_outputs_false", choose_two, build=build_choose_two, x=uniform(-1, 0, 4)),
    case("cond", "nested", choose_nested, build=build_choose_nested, a=ONE, b=ZERO, x=normal(3)),
]


def powers(x, limit):
    """Doubles x until its sum reaches the limit, counting the steps."""
    count = 0
    while x.sum() < limit[0]:
        x, count = x * 2, count + 1
    return x, count


def build_powers(x, limit):
    limit = mb.squeeze(x=limit)
    return mb.while_loop(
        _cond=lambda x, count: mb.less(x=mb.reduce_sum(x=x), y=limit),
        _body=lambda x, count: (mb.mul(x=x, y=2.0), mb.add(x=count, y=1)),
        loop_vars=(x, np.int32(0)),
    )


def scan(x, w):
    """A small recurrent layer, written row by row into a buffer as PyTorch's GRU is converted."""
    h = np.zeros(w.shape[0])
    rows = []
    for row in x:
        h = np.tanh(row + w @ h)
        rows.append(h)
    return np.stack(rows)


def build_scan(x, w):
    steps, size = x.shape

    def body(i, h, rows):
        row = mb.squeeze(x=mb.gather(x=x, indices=mb.expand_dims(x=i, axes=[0]), axis=0), axes=[0])
        product = mb.squeeze(x=mb.matmul(x=w, y=mb.expand_dims(x=h, axes=[1])), axes=[1])
        h = mb.tanh(x=mb.add(x=row, y=product))
        rows = mb.scatter(
            data=rows,
            indices=mb.expand_dims(x=i, axes=[0]),
            updates=mb.expand_dims(x=h, axes=[0]),
            axis=0,
            mode="update",
        )
        return mb.add(x=i, y=1), h, rows

    _, _, rows = mb.while_loop(
        _cond=lambda i, h, rows: mb.less(x=i, y=steps),
        _body=body,
        loop_vars=(np.int32(0), np.zeros(size, np.float32), np.zeros((steps, size), np.float32)),
    )
    return rows


def nested_sum(x, n):
    """The triangular numbers up to n, by two loops, times x."""
    total = sum(j for i in range(n[0]) for j in range(i + 1))
    return x * total


def build_nested_sum(x, n):
    limit = mb.squeeze(x=n)
    zero = mb.sub(x=limit, y=limit)
    # Another value than the outer loop starts from: coremltools names loop variables after what they start from, and
    # two loops of one start would shadow each other's.
    first = mb.sub(x=limit, y=limit)

    def outer(i, total):
        _, total = mb.while_loop(
            _cond=lambda j, total: mb.less_equal(x=j, y=i),
            _body=lambda j, total: (mb.add(x=j, y=1), mb.add(x=total, y=j)),
            loop_vars=(first, total),
        )
        return mb.add(x=i, y=1), total

    _, total = mb.while_loop(
        _cond=lambda i, total: mb.less(x=i, y=limit), _body=outer, loop_vars=(zero, zero)
    )
    return mb.mul(x=x, y=mb.cast(x=total, dtype="fp32"))


WHILE = [
    case("while_loop", "until_sum", powers, build=build_powers, x=uniform(0.1, 0.5, 3), limit=given([20.0])),
    case("while_loop", "never", powers, build=build_powers, x=uniform(0.1, 0.5, 3), limit=given([0.0])),
    case("while_loop", "scan", scan, build=build_scan, x=normal(5, 3), w=const(normal(3, 3))),
    case("while_loop", "nested", nested_sum, build=build_nested_sum, x=normal(2), n=given([4], "int32")),
]


def accumulate(x, total):
    total += x
    return total.copy()


def build_accumulate(x, total):
    return mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x))


def read_old(x, last):
    """Gives what was stored in the run before."""
    old = last.copy()
    last[:] = x
    return old


def build_read_old(x, last):
    old = mb.identity(x=mb.read_state(input=last))
    mb.coreml_update_state(state=last, value=x)
    return old


def cache_rows(row, position, cache):
    """Writes a row into a cache and gives the sum of all rows."""
    cache[position[0]] = row[0]
    return cache.sum(0)


def build_cache_rows(row, position, cache):
    end = mb.add(x=position, y=np.array([1], np.int32))
    zero = np.array([0], np.int32)
    written = mb.slice_update(
        x=mb.read_state(input=cache),
        update=row,
        begin=mb.concat(values=[position, zero], axis=0),
        end=mb.concat(values=[end, zero], axis=0),
        end_mask=[False, True],
    )
    return mb.reduce_sum(x=mb.coreml_update_state(state=cache, value=written), axes=[0], keep_dims=False)


def two_states(x, sums, count):
    count += 1
    sums += x
    return sums / count[0]


def build_two_states(x, sums, count):
    count = mb.coreml_update_state(
        state=count, value=mb.add(x=mb.read_state(input=count), y=np.float16(1))
    )
    sums = mb.coreml_update_state(state=sums, value=mb.add(x=mb.read_state(input=sums), y=x))
    return mb.real_div(x=sums, y=count)


# State is fp16. Quarters of small whole numbers are exact in it.
QUARTERS = {"rtol": 2e-3, "atol": 2e-3, "opset": "iOS18", "runs": 3}


def quarters(*shape: int):
    tensor = integers(-12, 12, *shape, dtype="fp16")
    draw = tensor.draw
    return type(tensor)(lambda rng: draw(rng) / 4, "fp16")


STATE = [
    case("write_state", "accumulate", accumulate, **QUARTERS, build=build_accumulate,
         x=quarters(2, 3), states={"total": (2, 3)}),
    case("write_state", "cache", cache_rows, **QUARTERS, build=build_cache_rows,
         row=quarters(1, 4), position=integers(0, 2, 1), states={"cache": (3, 4)}),
    case("write_state", "two_states", two_states, **QUARTERS, build=build_two_states,
         x=quarters(3), states={"sums": (3,), "count": (1,)}),
    case("read_state", "before_write", read_old, **QUARTERS, build=build_read_old, x=quarters(2, 2),
         states={"last": (2, 2)}),
]  # fmt: skip


def through_list(x, order):
    """The rows of x, each written to a list and then read in another order, and the length of the list."""
    return x[order], np.array(len(x))


def build_list(rows, dtype="fp32"):
    return mb.make_list(init_length=rows, dynamic_length=False, elem_shape=(3,), dtype=dtype)


def build_list_gather(x, order, dtype="fp32"):
    rows = mb.list_scatter(ls=build_list(x.shape[0], dtype), indices=np.arange(x.shape[0], dtype=np.int32), value=x)
    return mb.list_gather(ls=rows, indices=order), mb.list_length(ls=rows)


def build_list_read(x, order):
    rows = build_list(x.shape[0])
    for i in range(x.shape[0]):
        rows = mb.list_write(ls=rows, index=np.int32(i), value=mb.gather(x=x, indices=np.int32(i), axis=0))
    places = mb.split(x=order, num_splits=order.shape[0], axis=0)
    read = [mb.list_read(ls=rows, index=mb.squeeze(x=place)) for place in places]
    return mb.stack(values=read, axis=0), mb.list_length(ls=rows)


def growing(x, steps):
    """Squares of the rows in a list that grows, read backwards."""
    rows = [x[i % len(x)] * i for i in range(steps[0])]
    return np.stack(rows[::-1]), np.array(len(rows))


def build_growing(x, steps):
    steps = mb.squeeze(x=steps)
    rows = mb.make_list(init_length=1, dynamic_length=True, elem_shape=(3,), dtype="fp32")

    def write(i, rows):
        row = mb.gather(x=x, indices=mb.mod(x=i, y=np.int32(2)), axis=0)
        row = mb.mul(x=row, y=mb.cast(x=i, dtype="fp32"))
        return mb.add(x=i, y=np.int32(1)), mb.list_write(ls=rows, index=i, value=row)

    _, rows = mb.while_loop(
        _cond=lambda i, rows: mb.less(x=i, y=steps), _body=write, loop_vars=(np.int32(0), rows)
    )
    length = mb.list_length(ls=rows)
    last = mb.sub(x=length, y=np.int32(1))
    order = mb.range_1d(start=last, end=np.int32(-1), step=np.int32(-1))
    return mb.list_gather(ls=rows, indices=order), length


def last_two(x):
    return x[2] + x[0], np.array(3)


def build_last_two(x):
    """Elements whose width is known at run time only."""
    rows = mb.make_list(init_length=1, dynamic_length=True, elem_shape=("width",), dtype="fp32")
    for i in range(3):
        rows = mb.list_write(ls=rows, index=np.int32(i), value=mb.gather(x=x, indices=np.int32(i), axis=0))
    first, last = (mb.list_read(ls=rows, index=np.int32(i)) for i in (0, 2))
    return mb.add(x=first, y=last), mb.list_length(ls=rows)


LIST = [
    case("while_loop", "growing_list", growing, build=build_growing, x=normal(2, 3), steps=given([5], "int32")),
    case("list_write", "growing_elements", last_two, build=build_last_two, x=normal(3, 4)),
    case("make_list", "int32", through_list, x=integers(-9, 9, 4, 3), order=integers(0, 3, 3),
         build=lambda x, order: build_list_gather(x, order, "int32")),
    *(
        case(op, "rows", through_list, build=build, x=normal(4, 3), order=integers(0, 3, 3))
        for op, build in (
            ("make_list", build_list_gather),
            ("list_scatter", build_list_gather),
            ("list_gather", build_list_gather),
            ("list_length", build_list_gather),
            ("list_write", build_list_read),
            ("list_read", build_list_read),
        )
    ),
]  # fmt: skip


def probabilities(x):
    return np.exp(x) / np.exp(x).sum()


def build_probabilities(x):
    return mb.softmax(x=x, axis=-1)


CLASSIFY = [
    case("classify", "strings", probabilities, build=build_probabilities, x=normal(1, 4),
         classes=["no", "yes", "süß", "a, b"]),
    case("classify", "numbers", probabilities, build=build_probabilities, x=normal(3), classes=[10, -1, 7]),
]  # fmt: skip

CASES = CLASSIFY + LIST + CONST + COND + WHILE + STATE
