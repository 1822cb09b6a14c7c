//! Reductions, and orders along an axis.

use coreml_format::{
    mil::Dim,
    nn::{ReduceMode, Reduction},
};

use super::{
    blob::{Blob, at_least_one, fixed},
    reader::LayerReader,
};
use crate::{
    lower::{Fault, axes, axis, reduction::reduced},
    onnx::{Element, OnnxBuilder, Value},
};

/// The layer `reduce`: some of the last three axes become 1.
pub(super) fn reduce(
    layer: &LayerReader<'_>,
    mode: ReduceMode,
    epsilon: f32,
    (gone, stay): (usize, usize),
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let rank = blob.dims().len();
    if rank < gone + stay {
        return Err(format!("its input has rank {rank}, expected at least {}", gone + stay).into());
    }
    let along: Vec<i64> = (rank - gone - stay..rank - stay).map(|axis| axis as i64).collect();
    let mut dims = blob.dims().to_vec();
    along.iter().for_each(|&axis| dims[axis as usize] = Dim::Fixed(1));
    let mut x = blob.value().clone();
    let onnx_op = match mode {
        ReduceMode::Sum => "ReduceSum",
        ReduceMode::Average => "ReduceMean",
        ReduceMode::Product => "ReduceProd",
        ReduceMode::LogSum => {
            let shifted = onnx.with_scalar("Add", &x, epsilon);
            x = onnx.unary("Log", &shifted);
            "ReduceSum"
        }
        ReduceMode::SumSquare => "ReduceSumSquare",
        ReduceMode::L1 => "ReduceL1",
        ReduceMode::L2 => "ReduceL2",
        ReduceMode::Max => "ReduceMax",
        ReduceMode::Min => "ReduceMin",
        ReduceMode::ArgMax => {
            let [along] = along[..] else { return Err("the place of a maximum is along one axis only".into()) };
            let at = onnx.arg("ArgMax", &x, along, true);
            return Ok(blob.with(onnx.cast(&at, Element::F32), dims));
        }
    };
    let x = x.with_dims(Some(blob.dims().to_vec()));
    Ok(blob.with(reduced(onnx, onnx_op, &x, &along, true), dims))
}

/// A reduction over any axes, all of them where `along` is `None`.
pub(super) fn reduce_nd(
    layer: &LayerReader<'_>,
    reduction: Reduction,
    along: Option<&[i64]>,
    keep: bool,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let blob = layer.input()?.unfolded(onnx);
    let rank = blob.dims().len();
    let along = match along {
        Some(along) => axes(along, rank)?,
        None => (0..rank as i64).collect(),
    };
    if along.is_empty() {
        return Err("it names no axis".into());
    }
    let onnx_op = match reduction {
        Reduction::L1 => "ReduceL1",
        Reduction::L2 => "ReduceL2",
        Reduction::Max => "ReduceMax",
        Reduction::Min => "ReduceMin",
        Reduction::Sum => "ReduceSum",
        Reduction::Prod => "ReduceProd",
        Reduction::Mean => "ReduceMean",
        Reduction::LogSum => "ReduceLogSum",
        Reduction::SumSquare => "ReduceSumSquare",
        Reduction::LogSumExp => "ReduceLogSumExp",
    };
    let result = reduced(onnx, onnx_op, blob.value(), &along, keep);
    Ok(without(&blob, result, &along, keep, onnx))
}

/// A blob of which `along` were reduced: they are 1 where they were kept, else gone, but for the last of all.
fn without(x: &Blob, result: Value, along: &[i64], kept: bool, onnx: &mut OnnxBuilder) -> Blob {
    let goes = |at: usize| along.contains(&(at as i64));
    let dims = x.dims().iter().enumerate();
    if kept {
        let dims = dims.map(|(at, &dim)| if goes(at) { Dim::Fixed(1) } else { dim }).collect();
        return Blob::exact(result, dims);
    }
    let dims: Vec<Dim> = dims.filter(|(at, _)| !goes(*at)).map(|(_, &dim)| dim).collect();
    let result = if dims.is_empty() { onnx.reshape(&result, &[1]) } else { result };
    Blob::exact(result, at_least_one(dims))
}

/// `ArgMax` or `ArgMin`.
pub(super) fn arg(
    layer: &LayerReader<'_>,
    onnx_op: &'static str,
    along: i64,
    remove: bool,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let along = axis(along, x.dims().len())?;
    // The only dimension of a vector stays.
    let remove = remove && x.dims().len() > 1;
    let at = onnx.arg(onnx_op, x.value(), along, !remove);
    let at = onnx.cast(&at, Element::F32);
    Ok(without(&x, at, &[along], !remove, onnx))
}

pub(super) fn arg_sort(
    layer: &LayerReader<'_>,
    along: i64,
    descending: bool,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let along = axis(along, x.dims().len())?;
    let size = onnx.size_of(x.value(), along);
    let (_, at) = onnx.top_k(x.value(), &size, along, descending);
    Ok(x.same(onnx.cast(&at, Element::F32)))
}

/// Values and places. How many, a second input may say.
pub(super) fn top_k(
    layer: &LayerReader<'_>,
    along: i64,
    k: u64,
    smallest: bool,
    onnx: &mut OnnxBuilder,
) -> Result<Vec<Blob>, Fault> {
    let ([x], more) = layer.first_of(1)?;
    let x = x.unfolded(onnx);
    let along = axis(along, x.dims().len())?;
    let (k, size) = match more {
        [k] => {
            let list = k.list(onnx)?;
            let size = list.known.as_ref().and_then(|known| usize::try_from(*known.first()?).ok());
            (list.value, size.map_or(Dim::Unknown, Dim::Fixed))
        }
        _ => (onnx.ints(&[i64::try_from(k).unwrap_or(i64::MAX)]), Dim::Fixed(k as usize)),
    };
    if let (Some(size), Dim::Fixed(k)) = (fixed(&x.dims()[along as usize]), size)
        && k > size
    {
        return Err(format!("it asks for {k} of {size} elements").into());
    }
    let mut dims = x.dims().to_vec();
    dims[along as usize] = size;
    let (values, at) = onnx.top_k(x.value(), &k, along, !smallest);
    let at = onnx.cast(&at, Element::F32);
    Ok(vec![Blob::exact(values, dims.clone()), Blob::exact(at, dims)])
}

/// Sums up to each element. The axis may be a second input.
pub(super) fn cum_sum(
    layer: &LayerReader<'_>,
    along: i64,
    exclusive: bool,
    reverse: bool,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let ([x], more) = layer.first_of(1)?;
    let x = x.unfolded(onnx);
    let along = match more {
        [given] => {
            let along = given.scalar(onnx)?;
            onnx.cast(&along, Element::I64)
        }
        _ => {
            let along = axis(along, x.dims().len())?;
            onnx.int(along)
        }
    };
    Ok(x.same(onnx.cum_sum_along(x.value(), &along, exclusive, reverse)))
}
