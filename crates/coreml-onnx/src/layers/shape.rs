//! Shapes and layout.

use coreml_format::{
    mil::Dim,
    nn::{Reorganization, Shape},
};

use super::{
    blob::{Blob, List, at_least_one, count, fixed, show, target},
    planes::{from_planes, planes},
    reader::LayerReader,
};
use crate::{
    lower::{Fault, axes, axis, blocks::into_depth},
    onnx::{Element, OnnxBuilder},
};

/// A shape with at most one -1, for what is left.
pub(super) fn reshape_static(layer: &LayerReader<'_>, shape: &[i64], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?;
    Ok(Blob::exact(onnx.reshape(x.value(), shape), reshaped(x.dims(), shape)?))
}

/// The dimensions of elements in another shape, which may hold a -1.
fn reshaped(from: &[Dim], shape: &[i64]) -> Result<Vec<Dim>, Fault> {
    let inferred = shape.iter().filter(|&&d| d == -1).count();
    if shape.is_empty() || inferred > 1 || shape.iter().any(|&d| d == 0 || d < -1) {
        return Err(format!("its target shape is {shape:?}, expected sizes of at least 1, or -1 once").into());
    }
    let known = shape.iter().filter(|&&d| d != -1).try_fold(1usize, |n, &d| n.checked_mul(d as usize));
    let known = known.ok_or_else(|| format!("its target shape {shape:?} is too large"))?;
    let rest = match count(from) {
        Some(all) if all % known == 0 && (inferred == 1 || all == known) => Dim::Fixed(all / known),
        Some(_) => return Err(format!("{} cannot be reshaped to {shape:?}", show(from)).into()),
        None => Dim::Unknown,
    };
    Ok(shape.iter().map(|&d| if d == -1 { rest } else { Dim::Fixed(d as usize) }).collect())
}

/// A shape in which 0 keeps the dimension at its place.
pub(super) fn rank_preserving_reshape(
    layer: &LayerReader<'_>,
    shape: &[i64],
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    if shape.len() != x.dims().len() {
        return Err(format!("its target shape is {shape:?}, expected {} sizes", x.dims().len()).into());
    }
    let kept = |(&size, dim): (&i64, &Dim)| if size == 0 { fixed(dim).map(|n| n as i64) } else { Some(size) };
    let sizes: Option<Vec<i64>> = shape.iter().zip(x.dims()).map(kept).collect();
    let dims = match &sizes {
        Some(sizes) => reshaped(x.dims(), sizes)?,
        None => {
            let one = |(&size, dim): (&i64, &Dim)| match size {
                0 => *dim,
                -1 => Dim::Unknown,
                n => Dim::Fixed(n.max(0) as usize),
            };
            shape.iter().zip(x.dims()).map(one).collect()
        }
    };
    let shape = onnx.ints(shape);
    Ok(Blob::exact(onnx.reshape_to(x.value(), &shape, true), dims))
}

pub(super) fn reshape_dynamic(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let (x, shape) = layer.pair()?;
    let shape = shape.list(onnx)?;
    let dims = match &shape.known {
        Some(known) => reshaped(x.dims(), known)?,
        None => vec![Dim::Unknown; shape.length],
    };
    Ok(Blob::exact(onnx.reshape_to(x.value(), &shape.value, false), dims))
}

/// The first input in the shape of the second.
pub(super) fn reshape_like(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let (x, like) = layer.pair()?;
    let like = like.unfolded(onnx);
    if let (Some(given), Some(wanted)) = (count(x.dims()), count(like.dims()))
        && given != wanted
    {
        return Err(format!("{} cannot be reshaped to {}", show(x.dims()), show(like.dims())).into());
    }
    let shape = shape_of(&like, onnx);
    Ok(Blob::exact(onnx.reshape_to(x.value(), &shape.value, false), like.dims().to_vec()))
}

/// The shape of a blob.
pub(super) fn shape_of(x: &Blob, onnx: &mut OnnxBuilder) -> List {
    let known: Option<Vec<i64>> = x.dims().iter().map(|dim| fixed(dim).map(|n| n as i64)).collect();
    let value = match &known {
        Some(known) => onnx.ints(known),
        None => onnx.shape(x.value()),
    };
    List { length: x.dims().len(), known, value }
}

pub(super) fn get_shape(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let shape = shape_of(&x, onnx);
    let value = match &shape.known {
        Some(known) => onnx.floats(&[shape.length], known.iter().map(|&d| d as f32).collect()),
        None => onnx.cast(&shape.value, Element::F32),
    };
    Ok(Blob::exact(value, vec![Dim::Fixed(shape.length)]))
}

/// The shape that a layer makes, and its dimensions.
pub(super) fn wanted(
    layer: &LayerReader<'_>,
    shape: &Shape,
    onnx: &mut OnnxBuilder,
) -> Result<(List, Vec<Dim>), Fault> {
    let last = || layer.inputs().last().ok_or_else(|| Fault::from("it has no input to take its shape from"));
    let (list, dims) = match shape {
        Shape::Static(sizes) => {
            let known: Result<Vec<i64>, _> = sizes.iter().map(|&size| i64::try_from(size)).collect();
            let known = known.map_err(|_| format!("its shape {sizes:?} is too large"))?;
            (List { length: known.len(), value: onnx.ints(&known), known: Some(known) }, None)
        }
        Shape::Like => {
            let like = last()?.unfolded(onnx);
            (shape_of(&like, onnx), Some(like.dims().to_vec()))
        }
        Shape::Dynamic => (last()?.list(onnx)?, None),
    };
    let dims = match (dims, &list.known) {
        (Some(dims), _) => dims,
        (None, Some(known)) if known.iter().all(|&d| d > 0) => known.iter().map(|&d| Dim::Fixed(d as usize)).collect(),
        (None, Some(known)) => return Err(format!("its shape is {known:?}, expected sizes of at least 1").into()),
        (None, None) => vec![Dim::Unknown; list.length],
    };
    if dims.is_empty() {
        return Err("its shape has no dimension".into());
    }
    Ok((list, dims))
}

/// The first input repeated along its dimensions of size 1, and along new ones in front.
pub(super) fn broadcast_to(layer: &LayerReader<'_>, shape: &Shape, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.inputs().first().ok_or("it has no input")?.unfolded(onnx);
    let (shape, dims) = wanted(layer, shape, onnx)?;
    let apart = || Fault(format!("{} cannot be broadcast to {}", show(x.dims()), show(&dims)));
    let ahead = dims.len().checked_sub(x.dims().len()).ok_or_else(apart)?;
    let fits = |(from, to): (&Dim, &Dim)| match (from, to) {
        (Dim::Fixed(from), Dim::Fixed(to)) => *from == 1 || from == to,
        _ => true,
    };
    if !x.dims().iter().zip(&dims[ahead..]).all(fits) {
        return Err(apart());
    }
    Ok(Blob::exact(onnx.expand(x.value(), &shape.value), dims))
}

/// The layer `reshape`: three sizes for the last three dimensions, or four with the sequence's length in front.
pub(super) fn reshape(
    layer: &LayerReader<'_>,
    shape: &[i64],
    channel_last: bool,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let mut x = layer.input()?.clone();
    if channel_last {
        x = x.with_last_three([1, 2, 0], onnx)?;
    }
    let laid_out = |[c, h, w]: [i64; 3]| if channel_last { [h, w, c] } else { [c, h, w] };
    let result = match *shape {
        [c, h, w] => {
            let (outer, inner) = x.last_three()?;
            let inner = reshaped(inner, &laid_out([c, h, w]))?;
            let dims = [outer, &inner].concat();
            x.with(onnx.reshape_dims(x.value(), &dims)?, dims)
        }
        [sequence, c, h, w] => {
            let [a, b, c] = laid_out([c, h, w]);
            let dims = reshaped(x.dims(), &[sequence, 1, a, b, c])?;
            Blob::exact(onnx.reshape_dims(x.value(), &dims)?, dims)
        }
        _ => return Err(format!("its target shape is {shape:?}, expected three or four sizes").into()),
    };
    if channel_last { result.with_last_three([2, 0, 1], onnx) } else { Ok(result) }
}

/// The last three dimensions as channels.
pub(super) fn flatten(layer: &LayerReader<'_>, channel_last: bool, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let mut x = layer.input()?.clone();
    if channel_last {
        x = x.with_last_three([1, 2, 0], onnx)?;
    }
    let (outer, inner) = x.last_three()?;
    let flat = count(inner).map_or(Dim::Unknown, Dim::Fixed);
    let dims = [outer, &[flat, Dim::Fixed(1), Dim::Fixed(1)]].concat();
    Ok(x.with(onnx.reshape_dims(x.value(), &dims)?, dims))
}

pub(super) fn flatten_to_2d(layer: &LayerReader<'_>, at: i64, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    // The rank itself is allowed: everything goes in front.
    let at = if at == x.dims().len() as i64 { at } else { axis(at, x.dims().len())? } as usize;
    let (rows, columns) = x.dims().split_at(at);
    let dims = [rows, columns].map(|part| count(part).map_or(Dim::Unknown, Dim::Fixed)).to_vec();
    Ok(Blob::exact(onnx.reshape_dims(x.value(), &dims)?, dims))
}

/// A new order of sequence, channels, rows and columns.
pub(super) fn permute(layer: &LayerReader<'_>, order: &[u64], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?;
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if order.is_empty() {
        return Ok(x.clone());
    }
    if sorted != [0, 1, 2, 3] {
        return Err(format!("its order is {order:?}, expected 0, 1, 2 and 3 in some order").into());
    }
    if order[0] == 0 {
        return x.with_last_three([order[1] as usize - 1, order[2] as usize - 1, order[3] as usize - 1], onnx);
    }
    let x = x.unfolded(onnx);
    if x.dims().len() != 5 {
        return Err(format!("its input has rank {}, expected 5", x.dims().len()).into());
    }
    // The batch, which is dimension 1, has no number.
    let place = |&at: &u64| if at == 0 { 0 } else { at as i64 + 1 };
    let perm = [place(&order[0]), 1, place(&order[1]), place(&order[2]), place(&order[3])];
    let dims = perm.iter().map(|&at| x.dims()[at as usize]).collect();
    Ok(Blob::exact(onnx.transpose(x.value(), &perm), dims))
}

/// Fewer axes than dimensions are those of the last ones, and what is before them, each of size 1, goes: coremltools
/// makes such transposes where it turns an array input into an image.
pub(super) fn transpose(layer: &LayerReader<'_>, perm: &[u64], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let mut x = layer.input()?.whole(onnx);
    let mut dims = x.dims().unwrap_or_default().to_vec();
    let before: Vec<i64> = (0..dims.len().saturating_sub(perm.len()) as i64).collect();
    let perm: Vec<i64> = perm.iter().map(|&axis| i64::try_from(axis).unwrap_or(i64::MAX)).collect();
    if !before.is_empty() && dims[..before.len()].iter().all(|dim| *dim == Dim::Fixed(1)) {
        dims.drain(..before.len());
        x = onnx.squeeze(&x, &before);
    }
    if axes(&perm, dims.len())?.len() != dims.len() {
        return Err(format!("axes {perm:?} do not name every dimension of {}", show(&dims)).into());
    }
    let turned = perm.iter().map(|&axis| dims[axis as usize]).collect();
    Ok(Blob::exact(onnx.transpose(&x, &perm), turned))
}

/// Dimensions of size 1, at axes of the result.
pub(super) fn expand_dims(layer: &LayerReader<'_>, new: &[i64], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?.whole(onnx);
    let mut left = x.dims().unwrap_or_default().iter().copied();
    let rank = left.len() + new.len();
    let new = axes(new, rank)?;
    if new.is_empty() {
        return Err("it names no axis".into());
    }
    let dims = (0..rank as i64)
        .filter_map(|axis| if new.contains(&axis) { Some(Dim::Fixed(1)) } else { left.next() })
        .collect();
    Ok(Blob::exact(onnx.unsqueeze(&x, &new), dims))
}

/// Without these dimensions of size 1, or without any where `gone` is `None`; one of them stays where none else would.
pub(super) fn squeeze(layer: &LayerReader<'_>, gone: Option<&[i64]>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let gone = match gone {
        Some(gone) => axes(gone, x.dims().len())?,
        None => {
            let ones = x.dims().iter().enumerate().filter(|(_, dim)| **dim == Dim::Fixed(1));
            ones.map(|(at, _)| at as i64).collect()
        }
    };
    if let Some(&wide) = gone.iter().find(|&&at| fixed(&x.dims()[at as usize]).is_some_and(|n| n != 1)) {
        return Err(format!("dimension {wide} of {} is not 1", show(x.dims())).into());
    }
    let stay = |at: &usize| !gone.contains(&(*at as i64));
    let dims: Vec<Dim> = (0..x.dims().len()).filter(stay).map(|at| x.dims()[at]).collect();
    if gone.is_empty() {
        return Ok(x);
    }
    if dims.is_empty() {
        return Ok(Blob::exact(onnx.reshape(x.value(), &[1]), at_least_one(dims)));
    }
    Ok(Blob::exact(onnx.squeeze(x.value(), &gone), dims))
}

/// Blocks of pixels become channels, or channels blocks of pixels.
pub(super) fn reorganize_data(
    layer: &LayerReader<'_>,
    mode: Reorganization,
    block: u64,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = planes::<2>(blob, onnx)?;
    let block = usize::try_from(block).ok().filter(|block| (1..1 << 16).contains(block));
    let block = block.ok_or("its block size must be at least 1")?;
    let divided = |dim: Dim, by: usize| match dim {
        Dim::Fixed(n) if n % by != 0 => Err(Fault(format!("a size of {n} cannot be divided by {by}"))),
        Dim::Fixed(n) => Ok(Dim::Fixed(n / by)),
        Dim::Unknown => Ok(Dim::Unknown),
    };
    let times = |dim: Dim, by: usize| fixed(&dim).map_or(Dim::Unknown, |n| Dim::Fixed(n.saturating_mul(by)));
    let &[_, c, h, w] = x.dims().unwrap_or_default() else { return Err("its input must have planes".into()) };
    let (value, [c, h, w]) = match mode {
        Reorganization::SpaceToDepth => {
            let sizes = [times(c, block * block), divided(h, block)?, divided(w, block)?];
            (into_depth(onnx, &x, block as i64)?, sizes)
        }
        Reorganization::DepthToSpace | Reorganization::PixelShuffle => (
            onnx.depth_to_space(&x, block as i64, mode == Reorganization::PixelShuffle),
            [divided(c, block * block)?, times(h, block), times(w, block)],
        ),
    };
    from_planes(blob, value, c, [h, w], onnx)
}

impl Blob {
    /// The dimensions before the last three, and those.
    pub(super) fn last_three(&self) -> Result<(&[Dim], &[Dim]), Fault> {
        let dims = self.dims();
        let outer = dims.len().checked_sub(3);
        let outer = outer.ok_or_else(|| format!("its input has rank {}, expected at least 3", self.rank()))?;
        Ok(dims.split_at(outer))
    }

    /// The last three dimensions in another order.
    fn with_last_three(&self, order: [usize; 3], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
        let (outer, inner) = self.last_three()?;
        let dims = [outer, &order.map(|at| inner[at])].concat();
        let last = order.map(|at| (outer.len() + at) as i64);
        let perm: Vec<i64> = (0..outer.len() as i64).chain(last).collect();
        Ok(self.with(onnx.transpose(self.value(), &perm), dims))
    }
}

impl OnnxBuilder {
    /// `x` in a shape of which at most one dimension is known at run time only.
    pub(crate) fn reshape_dims(&mut self, x: &crate::onnx::Value, dims: &[Dim]) -> Result<crate::onnx::Value, Fault> {
        Ok(self.reshape(x, &target(dims)?))
    }
}
