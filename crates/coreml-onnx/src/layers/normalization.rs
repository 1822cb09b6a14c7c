//! Normalisations.

use coreml_format::{
    mil::Dim,
    nn::{Batchnorm, Moments, Weight},
};

use super::{
    blob::{Blob, show},
    planes::{from_planes, planes},
    reader::LayerReader,
};
use crate::{
    lower::{
        Fault, axis,
        normalization::{normalised, response_norm},
    },
    onnx::OnnxBuilder,
};

pub(super) fn batchnorm(layer: &LayerReader<'_>, params: &Batchnorm, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = planes::<2>(blob, onnx)?;
    let &[_, channels, height, width] = x.dims().unwrap_or_default() else {
        return Err("its input must have planes".into());
    };
    if matches!(channels, Dim::Fixed(n) if n as u64 != params.channels) {
        return Err(format!("its input has shape {}, expected {} channels", show(blob.dims()), params.channels).into());
    }
    let n = [params.channels];
    let (gamma, beta) =
        (layer.weight("gamma", &params.gamma, &n, onnx)?, layer.weight("beta", &params.beta, &n, onnx)?);
    let value = match &params.moments {
        Moments::Stored { mean, variance } => {
            let mean = layer.weight("mean", mean, &n, onnx)?;
            let variance = layer.weight("variance", variance, &n, onnx)?;
            onnx.batch_norm(&x, [&gamma, &beta, &mean, &variance], params.epsilon)
        }
        Moments::OfInstance => onnx.instance_norm(&x, &gamma, &beta, params.epsilon),
        Moments::OfBatch => {
            let normal = normalised(onnx, &x, &[0, 2, 3], [None, None], params.epsilon)?;
            let (gamma, beta) = (onnx.unsqueeze(&gamma, &[1, 2]), onnx.unsqueeze(&beta, &[1, 2]));
            let scaled = onnx.binary("Mul", &normal, &gamma);
            onnx.binary("Add", &scaled, &beta)
        }
    };
    from_planes(blob, value, channels, [height, width], onnx)
}

/// Divided by the root of the sum of squares over the last three dimensions.
pub(super) fn l2_normalize(layer: &LayerReader<'_>, epsilon: f32, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = image(layer)?;
    // An epsilon of 0 stands for the default.
    let epsilon = if epsilon == 0.0 { 1e-6 } else { epsilon };
    Ok(x.same(onnx.l2_normalised(x.value(), &[-3, -2, -1], epsilon)))
}

/// Within a window of channels.
pub(super) fn lrn(
    layer: &LayerReader<'_>,
    [alpha, beta, k]: [f32; 3],
    size: u64,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = planes::<2>(blob, onnx)?;
    let &[_, channels, height, width] = x.dims().unwrap_or_default() else {
        return Err("its input must have planes".into());
    };
    let size = i64::try_from(size).ok().filter(|size| (1..1 << 31).contains(size)).ok_or("its window has no size")?;
    let value = response_norm(onnx, &x, size, [alpha, beta, k])?;
    from_planes(blob, value, channels, [height, width], onnx)
}

/// Over the last dimensions, which have this shape.
pub(super) fn layer_normalization(
    layer: &LayerReader<'_>,
    shape: &[i64],
    [gamma, beta]: [&Weight; 2],
    epsilon: f32,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let rank = x.dims().len();
    let fits = |(&size, dim): (&i64, &Dim)| matches!(dim, Dim::Unknown) || *dim == Dim::Fixed(size as usize);
    if shape.len() > rank || !shape.iter().zip(&x.dims()[rank - shape.len()..]).all(fits) {
        return Err(format!("it normalises shape {shape:?}, and its input has shape {}", show(x.dims())).into());
    }
    let sizes: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    let gamma = layer.weight("gamma", gamma, &sizes, onnx)?;
    let beta = layer.weight("beta", beta, &sizes, onnx)?;
    let along: Vec<i64> = (rank - shape.len()..rank).map(|axis| axis as i64).collect();
    Ok(x.same(normalised(onnx, x.value(), &along, [Some(gamma), Some(beta)], epsilon)?))
}

/// Mean 0 within each channel, or across all three last dimensions; variance 1 too, where there is an epsilon for it.
pub(super) fn mvn(
    layer: &LayerReader<'_>,
    across_channels: bool,
    variance: Option<f32>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = image(layer)?;
    let rank = x.dims().len() as i64;
    let along: Vec<i64> = (rank - if across_channels { 3 } else { 2 }..rank).collect();
    Ok(x.same(match variance {
        // An epsilon of 0 stands for the default.
        Some(epsilon) => {
            let epsilon = if epsilon == 0.0 { 1e-6 } else { epsilon };
            normalised(onnx, x.value(), &along, [None, None], epsilon)?
        }
        None => {
            let mean = onnx.reduce("ReduceMean", x.value(), &along, true);
            onnx.binary("Sub", x.value(), &mean)
        }
    }))
}

/// Over the channels, which are the third dimension from the last.
pub(super) fn softmax(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = image(layer)?;
    Ok(x.same(onnx.softmax(x.value(), -3)))
}

pub(super) fn softmax_nd(layer: &LayerReader<'_>, along: i64, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?;
    // Counted from the end, axes are the same with and without the first dimension of a blob.
    let from_end = axis(along, x.rank())? - x.rank() as i64;
    if from_end < -(x.dims().len() as i64) {
        let whole = x.whole(onnx);
        let dims = whole.dims().unwrap_or_default().to_vec();
        return Ok(Blob::exact(onnx.softmax(&whole, from_end), dims));
    }
    Ok(x.same(onnx.softmax(x.value(), from_end)))
}

/// The input of a layer that has channels, rows and columns.
fn image<'l>(layer: &'l LayerReader<'_>) -> Result<&'l Blob, Fault> {
    match layer.input()? {
        x if x.dims().len() >= 3 => Ok(x),
        x => Err(format!("its input has rank {}, expected at least 3", x.rank()).into()),
    }
}
