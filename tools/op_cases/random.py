"""Random numbers. What can be expected of them is their distribution, and that a seed repeats them."""

import numpy as np
from coremltools.converters.mil import Builder as mb

from .case import case, given, normal, uniform

COUNT = 60_000
ROWS = 3


def moments(x, mean, deviation, shape=None):
    """Mean and standard deviation of each row of many numbers, and their correlation with the numbers behind them."""
    return x + np.stack([np.full(ROWS, mean), np.full(ROWS, deviation), np.zeros(ROWS)])


def build_moments(draw):
    def build(x, shape=(ROWS, COUNT), **_):
        drawn = draw(np.array(shape, np.int32))
        mean = mb.reduce_mean(x=drawn, axes=[1], keep_dims=True)
        centred = mb.sub(x=drawn, y=mean)
        deviation = mb.sqrt(x=mb.reduce_mean(x=mb.square(x=centred), axes=[1]))
        left = mb.slice_by_index(x=centred, begin=[0, 0], end=[ROWS, COUNT - 1])
        right = mb.slice_by_index(x=centred, begin=[0, 1], end=[ROWS, COUNT])
        neighbours = mb.reduce_mean(x=mb.mul(x=left, y=right), axes=[1])
        return mb.add(x=x, y=mb.stack(values=[mb.squeeze(x=mean, axes=[1]), deviation, neighbours], axis=0))

    return build


def repeated(x):
    """Twice the same seed, and the difference of another one: 0, and something."""
    return np.stack([x * 0, x * 0 + 1])


def build_repeated(draw):
    def build(x):
        shape = mb.shape(x=x)
        first, second, other = (draw(shape, seed) for seed in (7, 7, 8))
        same = mb.sub(x=first, y=second)
        changed = mb.cast(x=mb.not_equal(x=first, y=other), dtype="fp32")
        return mb.stack(values=[mb.mul(x=same, y=mb.mul(x=x, y=1.0)), changed], axis=0)

    return build


def certain(x, value):
    return x + value


def build_certain(draw):
    return lambda x, **_: mb.add(x=x, y=draw(mb.shape(x=x)))


# Bounds of the error: six times the deviation of a mean of so many numbers.
STATISTICS = {"x": normal(3, ROWS), "rtol": 0.0, "atol": 0.03}


def shares(probs, x):
    """How often each class is drawn."""
    return x + probs / probs.sum(-1, keepdims=True)


def build_shares(mode, seed):
    def build(probs, x):
        given = mb.log(x=probs) if mode == "logits" else probs
        drawn = mb.random_categorical(x=given, mode=mode, size=COUNT, seed=seed)
        counts = [
            mb.reduce_mean(x=mb.cast(x=mb.equal(x=drawn, y=np.float32(i)), dtype="fp32"), axes=[-1]) for i in range(4)
        ]
        return mb.add(x=x, y=mb.stack(values=counts, axis=-1))

    return build


def rows(x, y):
    """The last class has all the probability."""
    return y + 2


CASES = [
    case("random_uniform", "seeded", moments, x=STATISTICS["x"], mean=3.0, deviation=4 / np.sqrt(12), rtol=0.0, atol=0.05,
         build=build_moments(lambda shape: mb.random_uniform(shape=shape, low=1.0, high=5.0, seed=3))),
    case("random_uniform", "defaults", moments, **STATISTICS, mean=0.5, deviation=1 / np.sqrt(12), bare=True, shape=[ROWS, COUNT],
         build=build_moments(lambda shape: mb.random_uniform(shape=shape))),
    case("random_uniform", "repeated", repeated, x=normal(2, 5),
         build=build_repeated(lambda shape, seed: mb.random_uniform(shape=shape, seed=seed))),
    case("random_uniform", "one_value", certain, x=normal(2, 1, 3), value=1.5,
         build=build_certain(lambda shape: mb.random_uniform(shape=shape, low=1.5, high=1.5))),
    case("random_normal", "seeded", moments, **STATISTICS, mean=-1.0, deviation=0.5,
         build=build_moments(lambda shape: mb.random_normal(shape=shape, mean=-1.0, stddev=0.5, seed=0))),
    case("random_normal", "defaults", moments, **STATISTICS, mean=0.0, deviation=1.0, bare=True, shape=[ROWS, COUNT],
         build=build_moments(lambda shape: mb.random_normal(shape=shape))),
    case("random_normal", "repeated", repeated, x=normal(3),
         build=build_repeated(lambda shape, seed: mb.random_normal(shape=shape, seed=seed))),
    case("random_bernoulli", "seeded", moments, **STATISTICS, mean=0.2, deviation=0.4,
         build=build_moments(lambda shape: mb.random_bernoulli(shape=shape, prob=0.2, seed=11))),
    case("random_bernoulli", "defaults", moments, **STATISTICS, mean=0.5, deviation=0.5, bare=True, shape=[ROWS, COUNT],
         build=build_moments(lambda shape: mb.random_bernoulli(shape=shape))),
    case("random_bernoulli", "always", certain, x=normal(2, 3), value=1.0,
         build=build_certain(lambda shape: mb.random_bernoulli(shape=shape, prob=1.0))),
    case("random_bernoulli", "never", certain, x=normal(4), value=0.0,
         build=build_certain(lambda shape: mb.random_bernoulli(shape=shape, prob=0.0))),
    *(
        case("random_categorical", f"{mode}_{name}", shares, probs=uniform(0.1, 1, 2, 4), x=normal(2, 4), rtol=0.0,
             atol=0.015, build=build_shares(mode, seed))
        for mode in ("logits", "probs")
        for name, seed in (("seeded", 5), ("unseeded", -1))
    ),
    case("random_categorical", "defaults", rows, bare=True, x=given([[-100.0, -100.0, 50.0]] * 3), y=normal(3, 1),
         build=lambda x, y: mb.add(x=y, y=mb.random_categorical(x=x))),
]  # fmt: skip
