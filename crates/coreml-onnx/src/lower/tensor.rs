//! Making, joining and sorting tensors.

use coreml_format::mil::Dim;

use super::{Fault, Lowering, OpReader, Results, axis, rank};
use crate::onnx::{Element, OnnxBuilder, PadMode, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "argsort", run: argsort },
    Lowering { mil: "band_part", run: band_part },
    Lowering { mil: "concat", run: concat },
    Lowering { mil: "cumsum", run: cumsum },
    Lowering { mil: "fill", run: fill },
    Lowering { mil: "fill_like", run: fill_like },
    Lowering { mil: "flatten2d", run: flatten2d },
    Lowering { mil: "identity", run: identity },
    Lowering { mil: "non_zero", run: non_zero },
    Lowering { mil: "one_hot", run: one_hot },
    Lowering { mil: "pad", run: pad },
    Lowering { mil: "range_1d", run: range_1d },
    Lowering { mil: "shape", run: shape },
    Lowering { mil: "split", run: split },
    Lowering { mil: "stack", run: stack },
    Lowering { mil: "tile", run: tile },
    Lowering { mil: "topk", run: topk },
];

fn argsort(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along, ascending) = (op.value("x")?, op.int_or("axis", -1)?, op.bool_or("ascending", false)?);
    let along = axis(along, rank(&x)?)?;
    let k = onnx.size_of(&x, along);
    Ok(vec![onnx.top_k(&x, &k, along, !ascending).1])
}

fn topk(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along, ascending) = (op.value("x")?, op.int_or("axis", -1)?, op.bool_or("ascending", false)?);
    let indices = op.bool_or("return_indices", true)?;
    // Where the order is left open, Core ML sorts all the same: coremltools' own tests say so.
    op.bool_or("sort", true)?;
    // Every index is carried as int32, whatever type is asked for.
    op.string_or("output_indices_dtype", "int32")?;
    let along = axis(along, rank(&x)?)?;
    let k = match op.maybe("k")? {
        Some(k) if k.dims().is_some_and(<[_]>::is_empty) => onnx.reshape(&k, &[1]),
        Some(k) => k,
        None => onnx.ints(&[1]),
    };
    let (values, at) = onnx.top_k(&x, &k, along, !ascending);
    Ok(if indices { vec![values, at] } else { vec![values] })
}

/// Keeps `lower` diagonals below the main one and `upper` above it; a negative number keeps all.
fn band_part(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, lower, upper) = (op.value("x")?, op.int_or("lower", -1)?, op.int_or("upper", -1)?);
    Ok(vec![onnx.band(&x, lower, upper)])
}

fn concat(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (values, along, interleave) = (op.values("values")?, op.int("axis")?, op.bool_or("interleave", false)?);
    // Scalars are joined to a list.
    let listed = |value: Value| match value.dims() {
        Some([]) => onnx.reshape(&value, &[1]).with_dims(Some(vec![Dim::Fixed(1)])),
        _ => value,
    };
    let values: Vec<Value> = values.into_iter().map(listed).collect();
    let dims = values[0].dims().ok_or("the rank of the values must be known")?.to_vec();
    let along = axis(along, dims.len())?;
    if values.len() == 1 {
        return Ok(values);
    }
    let element = op.output_element(0)?;
    let values: Vec<Value> = values.iter().map(|value| onnx.cast(value, element)).collect();
    if !interleave {
        return Ok(vec![onnx.concat(&values, along)]);
    }
    let apart: Vec<Value> = values.iter().map(|value| onnx.unsqueeze(value, &[along + 1])).collect();
    let together = onnx.concat(&apart, along + 1);
    let shape: Vec<i64> = dims
        .iter()
        .enumerate()
        .map(|(i, dim)| match dim {
            Dim::Fixed(n) if i as i64 == along => Ok((n * values.len()) as i64),
            Dim::Fixed(n) => Ok(*n as i64),
            Dim::Unknown => Err("interleaved values need fixed shapes"),
        })
        .collect::<Result<_, _>>()?;
    Ok(vec![onnx.reshape(&together, &shape)])
}

fn stack(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (values, along) = (op.values("values")?, op.int("axis")?);
    let along = axis(along, rank(&values[0])? + 1)?;
    let raised: Vec<Value> = values.iter().map(|value| onnx.unsqueeze(value, &[along])).collect();
    Ok(vec![onnx.concat(&raised, along)])
}

fn split(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along) = (op.value("x")?, op.int("axis")?);
    let (pieces, sizes) = (op.maybe_ints("num_splits")?, op.maybe_ints("split_sizes")?);
    let along = axis(along, rank(&x)?)?;
    match (sizes, pieces.as_deref()) {
        (Some(sizes), _) => {
            let whole: i64 = sizes.iter().sum();
            if sizes.iter().any(|&size| size < 0)
                || matches!(x.dims().map(|d| d[along as usize]), Some(Dim::Fixed(n)) if n as i64 != whole)
            {
                return Err(format!("split_sizes {sizes:?} do not add up to the size of axis {along}").into());
            }
            Ok(onnx.split(&x, &sizes, along))
        }
        (None, Some([pieces])) if *pieces as usize == op.outputs().len() => {
            if let Some(Dim::Fixed(size)) = x.dims().map(|dims| dims[along as usize])
                && size as i64 % pieces != 0
            {
                return Err(format!("axis {along} of size {size} does not split into {pieces} equal pieces").into());
            }
            Ok(onnx.split_even(&x, *pieces as usize, along))
        }
        _ => Err("it needs split_sizes, or num_splits with as many results".into()),
    }
}

fn cumsum(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along) = (op.value("x")?, op.int_or("axis", 0)?);
    let (exclusive, reverse) = (op.bool_or("exclusive", false)?, op.bool_or("reverse", false)?);
    axis(along, rank(&x)?)?;
    Ok(vec![onnx.cum_sum(&x, along, exclusive, reverse)])
}

fn fill(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let shape = op.value("shape")?;
    let element = op.output_element(0)?;
    Ok(vec![filled(op, onnx, &shape, element)?])
}

fn fill_like(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let like = op.value("ref_tensor")?;
    let shape = onnx.shape(&like);
    let element = op.output_element(0)?;
    Ok(vec![filled(op, onnx, &shape, element)?])
}

fn filled(op: &OpReader<'_>, onnx: &mut OnnxBuilder, shape: &Value, element: Element) -> Result<Value, Fault> {
    match op.maybe("value")? {
        Some(value) if value.constant().is_none() => {
            let value = onnx.cast(&value, element);
            Ok(onnx.expand(&value, shape))
        }
        Some(_) => Ok(onnx.constant_of_shape(shape, op.float("value")?, element)),
        None => Ok(onnx.constant_of_shape(shape, 0.0, element)),
    }
}

fn flatten2d(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along) = (op.value("x")?, op.int_or("axis", 1)?);
    let dims = x.dims().ok_or("the rank of x must be known")?;
    // Rank itself is allowed: everything goes in front.
    let along = if along == dims.len() as i64 { along } else { axis(along, dims.len())? } as usize;
    let count = |dims: &[Dim]| {
        dims.iter().try_fold(1i64, |n, d| if let Dim::Fixed(d) = d { Some(n * *d as i64) } else { None })
    };
    let shape = match (count(&dims[..along]), count(&dims[along..])) {
        (Some(rows), _) => [rows, -1],
        (None, Some(columns)) => [-1, columns],
        (None, None) => return Err("one side of the flattened axis must have a fixed size".into()),
    };
    Ok(vec![onnx.reshape(&x, &shape)])
}

fn identity(op: &OpReader<'_>, _: &mut OnnxBuilder) -> Results {
    Ok(vec![op.value("x")?])
}

fn non_zero(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    let columns = onnx.non_zero(&x);
    Ok(vec![onnx.transpose(&columns, &[1, 0])])
}

fn one_hot(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (indices, depth, along) = (op.value("indices")?, op.value("one_hot_vector_size")?, op.int_or("axis", -1)?);
    let (on, off) = (op.float_or("on_value", 1.0)?, op.float_or("off_value", 0.0)?);
    let values = onnx.floats(&[2], vec![off, on]);
    let depth = if depth.dims().is_some_and(<[_]>::is_empty) { onnx.reshape(&depth, &[1]) } else { depth };
    let hot = onnx.one_hot(&indices, &depth, &values, along);
    let element = op.output_element(0)?;
    Ok(vec![onnx.cast(&hot, element)])
}

/// MIL pads the last axes, begin and end of each in turn.
fn pad(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, pad, mode) = (op.value("x")?, op.value("pad")?, op.string_or("mode", "constant")?);
    let fill = op.float_or("constant_val", 0.0)?;
    let rank = rank(&x)?;
    let mode = match mode.as_str() {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "replicate" => PadMode::Edge,
        other => return Err(format!("mode {other:?} is not known").into()),
    };
    let fill = (mode == PadMode::Constant).then(|| onnx.scalar(fill, &x));
    let pads = match pad.constant() {
        Some(source) => {
            let amounts = source.i64s();
            let n = amounts.len() / 2;
            if amounts.len() % 2 != 0 || n > rank || amounts.iter().any(|p| !(0..1 << 31).contains(p)) {
                return Err(
                    format!("pad is {amounts:?}, expected two numbers of at least 0 for each padded axis").into()
                );
            }
            let mut pads = vec![0; 2 * rank];
            for axis in 0..n {
                pads[rank - n + axis] = amounts[2 * axis];
                pads[2 * rank - n + axis] = amounts[2 * axis + 1];
            }
            if pads.iter().all(|&p| p == 0) {
                return Ok(vec![x]);
            }
            onnx.ints(&pads)
        }
        None => {
            let Some([entries]) =
                pad.shape().as_deref().map(<[usize]>::to_vec).and_then(|s| <[usize; 1]>::try_from(s).ok())
            else {
                return Err("pad must be a list of fixed length".into());
            };
            let n = (entries / 2) as i64;
            let pairs = onnx.cast(&pad, Element::I64);
            let pairs = onnx.reshape(&pairs, &[n, 2]);
            let rows = onnx.transpose(&pairs, &[1, 0]);
            let front = onnx.ints(&[0, rank as i64 - n, 0, 0]);
            let spread = onnx.pad(&rows, &front, PadMode::Constant, None);
            onnx.reshape(&spread, &[2 * rank as i64])
        }
    };
    Ok(vec![onnx.pad(&x, &pads, mode, fill.as_ref())])
}

fn range_1d(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (start, end, step) = (op.value("start")?, op.value("end")?, op.value("step")?);
    if step.constant().is_some_and(|source| source.f32s().contains(&0.0)) {
        return Err("step is 0: the range would never end".into());
    }
    let element = op.output_element(0)?;
    let [start, end, step] = [start, end, step].map(|value| {
        let value = onnx.cast(&value, element);
        if value.dims().is_some_and(|dims| !dims.is_empty()) { onnx.reshape(&value, &[]) } else { value }
    });
    let known = [&start, &end, &step].iter().all(|value| value.constant().is_some());
    if element == Element::F32 || known {
        return Ok(vec![onnx.range(&start, &end, &step)]);
    }
    // ONNX Runtime makes a Slice of a Gather that takes a Range, and to a Slice an end of -1 is the last element. It does
    // not look through a Neg.
    let [start, end, step] = [start, end, step].map(|value| onnx.unary("Neg", &value));
    let range = onnx.range(&start, &end, &step);
    Ok(vec![onnx.unary("Neg", &range)])
}

fn shape(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.shape(&x)])
}

fn tile(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, repeats) = (op.value("x")?, op.value("reps")?);
    if repeats.constant().is_some_and(|source| source.i64s().iter().all(|&r| r == 1)) {
        return Ok(vec![x]);
    }
    Ok(vec![onnx.tile(&x, &repeats)])
}
