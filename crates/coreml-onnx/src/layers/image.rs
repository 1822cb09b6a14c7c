//! Rows and columns: padding, cropping, resizing.

use coreml_format::{
    mil::Dim,
    nn::{ConstantPad, CropResize, Grid, PaddingMode, Sampling, Upsample},
};

use super::{
    blob::{Blob, List, fixed, show},
    planes::{from_planes, planes, size_of},
    reader::LayerReader,
};
use crate::{
    lower::{
        Fault,
        resize::{ALIGNED, ASYMMETRIC, HALF_PIXEL, NEAREST, linear, upsampled},
        sampling::{self, Crop},
        window::LARGEST,
    },
    onnx::{OnnxBuilder, PadMode},
};

/// Cuts off rows and columns: as many as the layer says, or so that those of the second input are left.
pub(super) fn crop(
    layer: &LayerReader<'_>,
    amounts: [u64; 4],
    offset: [u64; 2],
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let ([x], more) = layer.first_of(1)?;
    let (outer, sides) = rows_and_columns(x)?;
    let mut dims = outer.to_vec();
    if let [like] = more {
        let (_, wanted) = rows_and_columns(like)?;
        let [Some(height), Some(width)] = [fixed(&wanted[0]), fixed(&wanted[1])] else {
            return Err("the rows and columns of its second input must be fixed".into());
        };
        let [top, left] = [amount(offset[0])?, amount(offset[1])?];
        let ends = [top + height as i64, left + width as i64];
        for (side, end) in sides.iter().zip(ends) {
            if fixed(side).is_some_and(|size| (size as i64) < end) {
                return Err(format!("it crops {} up to {end}", show(x.dims())).into());
            }
        }
        dims.extend(wanted);
        return Ok(x.with(onnx.slice(x.value(), &[top, left], &ends, &[-2, -1], &[1, 1]), dims));
    }
    let [top, bottom, left, right] = amounts;
    let [top, bottom, left, right] = [amount(top)?, amount(bottom)?, amount(left)?, amount(right)?];
    for (side, cut) in sides.iter().zip([top + bottom, left + right]) {
        dims.push(match side {
            Dim::Fixed(size) if *size as i64 > cut => Dim::Fixed(size - cut as usize),
            Dim::Fixed(size) => return Err(format!("it crops {cut} of {size} rows or columns").into()),
            Dim::Unknown => Dim::Unknown,
        });
    }
    let end = |amount: i64| if amount == 0 { i64::from(i32::MAX) } else { -amount };
    Ok(x.with(onnx.slice(x.value(), &[top, left], &[end(bottom), end(right)], &[-2, -1], &[1, 1]), dims))
}

fn amount(amount: u64) -> Result<i64, Fault> {
    let amount = i64::try_from(amount).ok().filter(|amount| *amount < LARGEST);
    amount.ok_or_else(|| "one of its amounts is too large".into())
}

/// The dimensions before the last two, and those.
fn rows_and_columns(x: &Blob) -> Result<(&[Dim], &[Dim]), Fault> {
    let outer = x.dims().len().checked_sub(2).ok_or("its input must have rows and columns")?;
    Ok(x.dims().split_at(outer))
}

/// Pads rows and columns.
pub(super) fn padding(
    layer: &LayerReader<'_>,
    mode: PaddingMode,
    amounts: [u64; 4],
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?;
    let (outer, sides) = rows_and_columns(x)?;
    let [top, bottom, left, right] = amounts;
    let [top, bottom, left, right] = [amount(top)?, amount(bottom)?, amount(left)?, amount(right)?];
    let mut dims = outer.to_vec();
    for (side, [before, after]) in sides.iter().zip([[top, bottom], [left, right]]) {
        if let (PaddingMode::Reflection, Dim::Fixed(size)) = (mode, side)
            && before.max(after) >= *size as i64
        {
            return Err(format!("it reflects {} of {size} rows or columns", before.max(after)).into());
        }
        dims.push(fixed(side).map_or(Dim::Unknown, |size| Dim::Fixed(size + (before + after) as usize)));
    }
    let none = vec![0; outer.len()];
    let pads = onnx.ints(&[&none[..], &[top, left], &none[..], &[bottom, right]].concat());
    let (mode, fill) = match mode {
        PaddingMode::Constant(value) => (PadMode::Constant, Some(onnx.scalar(value, x.value()))),
        PaddingMode::Reflection => (PadMode::Reflect, None),
        PaddingMode::Replication => (PadMode::Edge, None),
    };
    Ok(x.with(onnx.pad(x.value(), &pads, mode, fill.as_ref()), dims))
}

/// Pads any dimensions with a value: by amounts, or up to sizes. A second input may give either.
pub(super) fn constant_pad(
    layer: &LayerReader<'_>,
    params: &ConstantPad,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let ([x], more) = layer.first_of(1)?;
    let x = x.unfolded(onnx);
    let rank = x.dims().len();
    let list = match more {
        [given] => given.list(onnx)?,
        _ => {
            let known = params.amounts.iter().map(|&n| amount(n)).collect::<Result<Vec<i64>, _>>()?;
            List { length: known.len(), value: onnx.ints(&known), known: Some(known) }
        }
    };
    if list.length != 2 * rank {
        return Err(format!("it has {} amounts, expected two for each of {rank} dimensions", list.length).into());
    }
    let fill = onnx.scalar(params.value, x.value());
    let known = list.known.as_ref().filter(|_| !params.to_given_size || x.dims().iter().all(|d| fixed(d).is_some()));
    if let Some(known) = known {
        let missing = |at: usize, size: i64| match fixed(&x.dims()[at]) {
            Some(given) if params.to_given_size => (size - given as i64).max(0),
            _ => size,
        };
        let (mut pads, mut dims) = (vec![0; 2 * rank], Vec::with_capacity(rank));
        for at in 0..rank {
            let (before, after) = (missing(at, known[2 * at]), missing(at, known[2 * at + 1]));
            if before < 0 || after < 0 {
                return Err("it pads with a negative amount".into());
            }
            (pads[at], pads[rank + at]) = (before, after);
            let padded = |size: usize| size.saturating_add(before as usize).saturating_add(after as usize);
            dims.push(fixed(&x.dims()[at]).map_or(Dim::Unknown, |size| Dim::Fixed(padded(size))));
        }
        let pads = onnx.ints(&pads);
        return Ok(Blob::exact(onnx.pad(x.value(), &pads, PadMode::Constant, Some(&fill)), dims));
    }
    let mut pairs = onnx.reshape(&list.value, &[rank as i64, 2]);
    if params.to_given_size {
        let shape = onnx.shape(x.value());
        let sizes = onnx.unsqueeze(&shape, &[1]);
        let missing = onnx.binary("Sub", &pairs, &sizes);
        pairs = onnx.with_scalar("Max", &missing, 0.0);
    }
    let turned = onnx.transpose(&pairs, &[1, 0]);
    let pads = onnx.reshape(&turned, &[2 * rank as i64]);
    let padded = onnx.pad(x.value(), &pads, PadMode::Constant, Some(&fill));
    Ok(Blob::exact(padded, vec![Dim::Unknown; rank]))
}

pub(super) fn upsample(layer: &LayerReader<'_>, params: &Upsample, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = planes::<2>(blob, onnx)?;
    let &[_, channels, height, width] = x.dims().unwrap_or_default() else {
        return Err("its input must have planes".into());
    };
    if !params.factors.iter().all(|f| f.is_finite() && *f > 0.0 && *f < 65536.0) {
        return Err(format!("its factors are {:?}, expected numbers above 0", params.factors).into());
    }
    let how = match params.sampling {
        Sampling::Nearest => NEAREST,
        Sampling::Linear => ASYMMETRIC,
        Sampling::AlignedCorners => ALIGNED,
        Sampling::PixelCentres => HALF_PIXEL,
    };
    let value = upsampled(onnx, &x, params.factors, how)?;
    let grown = |dim: Dim, factor: f32| fixed(&dim).map_or(Dim::Unknown, |n| Dim::Fixed((n as f32 * factor) as usize));
    let sides = [grown(height, params.factors[0]), grown(width, params.factors[1])];
    from_planes(blob, value, channels, sides, onnx)
}

pub(super) fn resize_bilinear(
    layer: &LayerReader<'_>,
    [height, width]: [u64; 2],
    grid: Grid,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = planes::<2>(blob, onnx)?;
    let channels = x.dims().unwrap_or_default()[1];
    let (height, width) = (size_of(height)?, size_of(width)?);
    let value = linear(onnx, &x, [height, width], sampling_grid(grid))?;
    from_planes(blob, value, channels, [Dim::Fixed(height as usize), Dim::Fixed(width as usize)], onnx)
}

/// A grid by the name that MIL has for it.
fn sampling_grid(grid: Grid) -> sampling::Grid {
    match grid {
        Grid::StrictAlignEndpoints => sampling::Grid::StrictAlignCorners,
        Grid::AlignEndpoints => sampling::Grid::AlignCorners,
        Grid::Upsample => sampling::Grid::Default,
        Grid::RoiAlign => sampling::Grid::OffsetCorners,
    }
}

/// Cuts regions out of images and resizes them. A region has four coordinates, and may have the number of its image in
/// front.
pub(super) fn crop_resize(layer: &LayerReader<'_>, params: &CropResize, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let (images, regions) = layer.pair()?;
    let (images, regions) = (images.unfolded(onnx), regions.unfolded(onnx));
    let (&[Dim::Fixed(1), batch, channels, height, width], &[count, _, Dim::Fixed(numbers @ (4 | 5)), _, _]) =
        (images.dims(), regions.dims())
    else {
        return Err(format!(
            "its inputs have shapes {} and {}, expected [1, batch, channels, height, width] and [regions, 1, 4 or 5, 1, 1]",
            show(images.dims()),
            show(regions.dims())
        )
        .into());
    };
    let [target_height, target_width] = params.target_size.map(size_of);
    let crop = Crop {
        height: target_height? as usize,
        width: target_width? as usize,
        normalized: params.normalized_coordinates,
        scale: params.spatial_scale,
        centred: params.boxes.centre_size,
        width_first: params.boxes.width_first,
        grid: sampling_grid(params.grid),
        padding: 0.0,
    };
    crate::lower::made_count(&[crop.height, crop.width])?;
    let x = onnx.squeeze(images.value(), &[0]).with_dims(Some(vec![batch, channels, height, width]));
    let rows = onnx.reshape(regions.value(), &[-1, numbers as i64]);
    let (value, batch) = if numbers == 4 {
        (crop.cut(onnx, &x, &rows, None)?, batch)
    } else {
        let boxes = onnx.slice(&rows, &[1], &[5], &[1], &[1]);
        let image = onnx.slice(&rows, &[0], &[1], &[1], &[1]);
        let image = onnx.reshape(&image, &[-1]);
        let cut = crop.cut(onnx, &x, &boxes, Some(&image))?;
        (onnx.unsqueeze(&cut, &[1]), Dim::Fixed(1))
    };
    Ok(Blob::exact(value, vec![count, batch, channels, Dim::Fixed(crop.height), Dim::Fixed(crop.width)]))
}
