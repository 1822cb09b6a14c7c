//! Random numbers.
//!
//! With a seed, every run on every engine gives the same numbers: they come from the generator of Wichmann and Hill
//! (Applied Statistics 31, 1982), whose three sequences are constants that are read from a place which the seed gives.
//! Without one, the place is drawn by the engine.

use super::{Fault, Lowering, OpReader, Results};
use crate::onnx::{Element, OnnxBuilder, Source, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "random_bernoulli", run: random_bernoulli },
    Lowering { mil: "random_categorical", run: random_categorical },
    Lowering { mil: "random_normal", run: random_normal },
    Lowering { mil: "random_uniform", run: random_uniform },
];

/// Multipliers and moduli of the three sequences. The multipliers are primitive roots, so a period is modulus - 1.
const SEQUENCES: [(u32, u32); 3] = [(171, 30269), (172, 30307), (170, 30323)];

fn random_bernoulli(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (shape, probability) = (op.value("shape")?, op.float_or("prob", 0.5)?);
    Ok(vec![bernoulli(onnx, &shape, probability, seed(op)?)])
}

/// 1 with this probability, otherwise 0.
pub(crate) fn bernoulli(onnx: &mut OnnxBuilder, shape: &Value, probability: f32, seed: Option<i64>) -> Value {
    let numbers = uniform(onnx, shape, seed);
    let limit = onnx.scalar(probability, &numbers);
    let hit = onnx.compare("Less", &numbers, &limit);
    onnx.cast(&hit, Element::F32)
}

fn random_uniform(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (shape, low, high) = (op.value("shape")?, op.float_or("low", 0.0)?, op.float_or("high", 1.0)?);
    Ok(vec![uniform_between(onnx, &shape, [low, high], seed(op)?)])
}

pub(crate) fn uniform_between(
    onnx: &mut OnnxBuilder,
    shape: &Value,
    [low, high]: [f32; 2],
    seed: Option<i64>,
) -> Value {
    let numbers = uniform(onnx, shape, seed);
    let scaled = onnx.with_scalar("Mul", &numbers, high - low);
    onnx.with_scalar("Add", &scaled, low)
}

fn random_normal(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (shape, mean, deviation) = (op.value("shape")?, op.float_or("mean", 0.0)?, op.float_or("stddev", 1.0)?);
    Ok(vec![normal(onnx, &shape, [mean, deviation], seed(op)?)])
}

/// By the transform of Box and Muller.
pub(crate) fn normal(onnx: &mut OnnxBuilder, shape: &Value, [mean, deviation]: [f32; 2], seed: Option<i64>) -> Value {
    let shape = onnx.cast(shape, Element::I64);
    let two = onnx.ints(&[2]);
    let pairs = onnx.concat(&[two, shape], 0);
    let pairs = uniform(onnx, &pairs, seed);
    let [radius, turn] = [0, 1].map(|i| {
        let at = onnx.int(i);
        onnx.gather(&pairs, &at, 0)
    });
    // Numbers are below 1, so that this one is above 0 and has a logarithm.
    let one = onnx.scalar(1.0, &radius);
    let radius = onnx.binary("Sub", &one, &radius);
    let radius = onnx.unary("Log", &radius);
    let radius = onnx.with_scalar("Mul", &radius, -2.0);
    let radius = onnx.unary("Sqrt", &radius);
    let angle = onnx.with_scalar("Mul", &turn, std::f32::consts::TAU);
    let angle = onnx.unary("Cos", &angle);
    let normal = onnx.binary("Mul", &radius, &angle);
    let scaled = onnx.with_scalar("Mul", &normal, deviation);
    onnx.with_scalar("Add", &scaled, mean)
}

fn random_categorical(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, mode, size) = (op.value("x")?, op.string_or("mode", "logits")?, op.int_or("size", 1)?);
    let logits = match mode.as_str() {
        "logits" => true,
        "probs" => false,
        other => return Err(format!("mode {other:?} is not known").into()),
    };
    Ok(vec![categorical(onnx, &x, logits, size, seed(op)?)?])
}

/// Draws classes by their share of the whole: the first one at which the running sum exceeds a random number.
pub(crate) fn categorical(
    onnx: &mut OnnxBuilder,
    x: &Value,
    logits: bool,
    size: i64,
    seed: Option<i64>,
) -> Result<Value, Fault> {
    let rank = super::rank(x)?;
    if rank == 0 || size < 1 {
        return Err("x must have an axis of classes, and size must be at least 1".into());
    }
    let x = onnx.cast(x, Element::F32);
    let shares = if logits { onnx.softmax(&x, -1) } else { x.clone() };
    let last = rank as i64 - 1;
    let sums = onnx.cum_sum(&shares, last, false, false);
    let whole = onnx.slice(&sums, &[-1], &[i64::from(i32::MAX)], &[last], &[1]);
    let shape = onnx.shape(&x);
    let outer = onnx.slice(&shape, &[0], &[last], &[0], &[1]);
    let samples = onnx.ints(&[size]);
    let shape = if rank == 1 { samples } else { onnx.concat(&[outer, samples], 0) };
    let drawn = uniform(onnx, &shape, seed);
    let drawn = onnx.binary("Mul", &drawn, &whole);
    let drawn = onnx.unsqueeze(&drawn, &[-1]);
    // The last sum is the whole, which no number reaches; a rounding error must not go beyond the last class.
    let inner = onnx.slice(&sums, &[0], &[-1], &[last], &[1]);
    let inner = onnx.unsqueeze(&inner, &[-2]);
    let passed = onnx.compare("LessOrEqual", &inner, &drawn);
    let passed = onnx.cast(&passed, Element::F32);
    Ok(onnx.reduce("ReduceSum", &passed, &[-1], false))
}

/// The seed; `None` where numbers are to differ from run to run.
fn seed(op: &OpReader<'_>) -> Result<Option<i64>, Fault> {
    let seed = op.int_or("seed", -1)?;
    Ok((seed != -1).then_some(seed))
}

/// Numbers from 0 to below 1.
fn uniform(onnx: &mut OnnxBuilder, shape: &Value, seed: Option<i64>) -> Value {
    let shape = onnx.cast(shape, Element::I64);
    let known: Option<i64> = shape.constant().map(|source| source.i64s().iter().product());
    let count = match known {
        Some(count) => onnx.int(count),
        None => onnx.reduce("ReduceProd", &shape, &[0], false),
    };
    let (zero, one) = (onnx.int(0), onnx.int(1));
    let order = onnx.range(&zero, &count, &one);
    let drawn = seed.is_none().then(|| onnx.random_uniform(SEQUENCES.len() as i64));
    let mut sum: Option<Value> = None;
    for (i, (multiplier, modulus)) in SEQUENCES.into_iter().enumerate() {
        let period = i64::from(modulus - 1);
        let at = match &drawn {
            Some(drawn) => {
                let place = onnx.int(i as i64);
                let place = onnx.gather(drawn, &place, 0);
                let place = onnx.with_scalar("Mul", &place, period as f32);
                let place = onnx.cast(&place, Element::I64);
                onnx.binary("Add", &order, &place)
            }
            None => {
                let place = onnx.int(place(seed.unwrap_or(0), i, period));
                onnx.binary("Add", &order, &place)
            }
        };
        let period = onnx.int(period);
        let at = onnx.modulo(&at, &period);
        let sequence =
            onnx.made(Element::F32, Source::floats(vec![modulus as usize - 1], sequence(multiplier, modulus)));
        let numbers = onnx.gather(&sequence, &at, 0);
        sum = Some(sum.map_or(numbers.clone(), |sum| onnx.binary("Add", &sum, &numbers)));
    }
    let sum = sum.expect("there are three sequences");
    let whole = onnx.unary("Floor", &sum);
    let numbers = onnx.binary("Sub", &sum, &whole);
    onnx.reshape_to(&numbers, &shape, false)
}

/// Every number of a sequence, as a share of its modulus.
fn sequence(multiplier: u32, modulus: u32) -> Vec<f32> {
    let powers = std::iter::successors(Some(1), |&x| Some(x * multiplier % modulus));
    powers.take(modulus as usize - 1).map(|x| x as f32 / modulus as f32).collect()
}

/// Where a sequence starts for a seed: the finaliser of SplitMix64, so that near seeds are far apart.
fn place(seed: i64, sequence: usize, period: i64) -> i64 {
    let mut z = (seed as u64).wrapping_add(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(sequence as u64 + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % period as u64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_have_their_whole_period() {
        for (multiplier, modulus) in SEQUENCES {
            let mut numbers = sequence(multiplier, modulus);
            numbers.sort_by(f32::total_cmp);
            numbers.dedup();
            assert_eq!(numbers.len(), modulus as usize - 1);
        }
    }
}
