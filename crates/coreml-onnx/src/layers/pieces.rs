//! Putting blobs together and taking them apart: joining, splitting, slicing, repeating, reversing.

use coreml_format::{mil::Dim, nn::SliceNd};

use super::{
    blob::{Blob, List, at_least_one, broadcast, count, fixed, show},
    reader::LayerReader,
};
use crate::{
    lower::{
        Fault, axis,
        transform::{Slice, reversed_sequences, sliced, windows},
    },
    onnx::{Element, OnnxBuilder, Value},
};

/// The layer `concat`: along the channels or along the sequence.
pub(super) fn concat(layer: &LayerReader<'_>, sequence: bool, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let parts = layer.inputs();
    let first = parts.first().ok_or("it has no input")?;
    if !sequence && first.dims().len() >= 3 && parts.iter().all(|part| part.has_lead() == first.has_lead()) {
        let along = first.dims().len() - 3;
        let dims = concatenated(parts, along)?;
        return Ok(first.with(onnx.concat(&values(parts), along as i64), dims));
    }
    let parts: Vec<Blob> = parts.iter().map(|part| part.unfolded(onnx)).collect();
    let along = parts[0].dims().len().checked_sub(if sequence { 5 } else { 3 });
    let along = along.ok_or_else(|| format!("its input has rank {}, which is too low", parts[0].rank()))?;
    let dims = concatenated(&parts, along)?;
    Ok(Blob::exact(onnx.concat(&values(&parts), along as i64), dims))
}

fn values(parts: &[Blob]) -> Vec<Value> {
    parts.iter().map(|part| part.value().clone()).collect()
}

/// The dimensions of blobs joined at an axis, where all others must agree.
fn concatenated(parts: &[Blob], along: usize) -> Result<Vec<Dim>, Fault> {
    let mut dims = parts[0].dims().to_vec();
    for part in &parts[1..] {
        let apart = || Fault(format!("shapes {} and {} do not go together", show(&dims), show(part.dims())));
        if part.dims().len() != dims.len() {
            return Err(apart());
        }
        let mut joined = Vec::with_capacity(dims.len());
        for (at, pair) in dims.iter().zip(part.dims()).enumerate() {
            joined.push(match pair {
                (Dim::Fixed(a), Dim::Fixed(b)) if at == along => Dim::Fixed(a.saturating_add(*b)),
                _ if at == along => Dim::Unknown,
                (Dim::Fixed(a), Dim::Fixed(b)) if a != b => return Err(apart()),
                (Dim::Unknown, other) | (other, _) => *other,
            });
        }
        dims = joined;
    }
    Ok(dims)
}

/// Along any axis; interleaved, the first elements of all come before the second ones.
pub(super) fn concat_nd(
    layer: &LayerReader<'_>,
    along: i64,
    interleave: bool,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let parts: Vec<Blob> = layer.inputs().iter().map(|part| part.unfolded(onnx)).collect();
    let first = parts.first().ok_or("it has no input")?;
    let along = axis(along, first.dims().len())? as usize;
    let dims = concatenated(&parts, along)?;
    if !interleave {
        return Ok(Blob::exact(onnx.concat(&values(&parts), along as i64), dims));
    }
    if parts.iter().any(|part| part.dims() != first.dims()) {
        return Err("what it interleaves must have one shape".into());
    }
    let apart: Vec<Value> = parts.iter().map(|part| onnx.unsqueeze(part.value(), &[along as i64 + 1])).collect();
    let together = onnx.concat(&apart, along as i64 + 1);
    Ok(Blob::exact(onnx.reshape_dims(&together, &dims)?, dims))
}

pub(super) fn stack(layer: &LayerReader<'_>, along: i64, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let parts: Vec<Blob> = layer.inputs().iter().map(|part| part.unfolded(onnx)).collect();
    let first = parts.first().ok_or("it has no input")?;
    let along = axis(along, first.dims().len() + 1)?;
    for part in &parts {
        if broadcast(part.dims(), first.dims())?.len() != part.dims().len() || part.rank() != first.rank() {
            return Err("what it stacks must have one shape".into());
        }
    }
    let mut dims = first.dims().to_vec();
    dims.insert(along as usize, Dim::Fixed(parts.len()));
    let raised: Vec<Value> = parts.iter().map(|part| onnx.unsqueeze(part.value(), &[along])).collect();
    Ok(Blob::exact(onnx.concat(&raised, along), dims))
}

/// Equal pieces of the channels, as many as the layer has outputs.
pub(super) fn split(layer: &LayerReader<'_>, pieces: u64, onnx: &mut OnnxBuilder) -> Result<Vec<Blob>, Fault> {
    let x = layer.input()?;
    let (outer, inner) = x.last_three()?;
    let outputs = layer.outputs();
    if outputs == 0 || (pieces != 0 && pieces != outputs as u64) {
        return Err(format!("it splits into {pieces} pieces, and has {outputs} outputs").into());
    }
    let Some(channels) = fixed(&inner[0]) else { return Err("the number of its channels must be fixed".into()) };
    if channels % outputs != 0 {
        return Err(format!("{channels} channels cannot be divided into {outputs} equal pieces").into());
    }
    let dims = [outer, &[Dim::Fixed(channels / outputs)], &inner[1..]].concat();
    let parts = onnx.split_even(x.value(), outputs, outer.len() as i64);
    Ok(parts.into_iter().map(|part| x.with(part, dims.clone())).collect())
}

/// Pieces along any axis, of these sizes or of sizes that differ by 1 at most, the larger ones first.
pub(super) fn split_nd(
    layer: &LayerReader<'_>,
    along: i64,
    sizes: &[u64],
    onnx: &mut OnnxBuilder,
) -> Result<Vec<Blob>, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let along = axis(along, x.dims().len())?;
    let outputs = layer.outputs();
    let whole = fixed(&x.dims()[along as usize]);
    let sizes: Vec<usize> = if sizes.is_empty() {
        let whole = whole.ok_or("the size of the axis that it splits must be fixed")?;
        let (least, rest) = (whole / outputs.max(1), whole % outputs.max(1));
        (0..outputs).map(|piece| least + usize::from(piece < rest)).collect()
    } else {
        sizes.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect()
    };
    let sum = sizes.iter().fold(0usize, |sum, &size| sum.saturating_add(size));
    if sizes.len() != outputs || sizes.contains(&0) || whole.is_some_and(|whole| whole != sum) {
        return Err(format!("pieces of {sizes:?} do not make an axis of {}", show(x.dims())).into());
    }
    let list: Vec<i64> = sizes.iter().map(|&size| size as i64).collect();
    let parts = onnx.split(x.value(), &list, along);
    let piece = |(part, &size): (Value, &usize)| {
        let mut dims = x.dims().to_vec();
        dims[along as usize] = Dim::Fixed(size);
        Blob::exact(part, dims)
    };
    Ok(parts.into_iter().zip(&sizes).map(piece).collect())
}

/// The layer `slice`: every `stride`-th element from `start` to before `end` of one of the last three axes.
pub(super) fn slice(
    layer: &LayerReader<'_>,
    [start, end]: [i64; 2],
    stride: u64,
    along: i64,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?;
    let at = (x.dims().len() as i64 + along) as usize;
    if at >= x.dims().len() {
        return Err(format!("its input has rank {}, expected at least {}", x.rank(), -along).into());
    }
    // Networks that leave it out mean every element.
    let stride = i64::try_from(stride.max(1)).map_err(|_| "its stride is too large")?;
    let mut dims = x.dims().to_vec();
    dims[at] = taken(dims[at], start, end, stride)?;
    Ok(x.with(onnx.slice(x.value(), &[start], &[end], &[along], &[stride]), dims))
}

/// The end of any axis, and one before its beginning.
const END: i64 = i32::MAX as i64;

/// How many elements a slice takes of a dimension. Bounds below 0 count from its end.
fn taken(dim: Dim, start: i64, end: i64, step: i64) -> Result<Dim, Fault> {
    let Dim::Fixed(size) = dim else { return Ok(Dim::Unknown) };
    let size = i64::try_from(size).map_err(|_| "it slices a dimension that is too large")?;
    let from_front = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let (start, end) = (from_front(start).clamp(low, high), from_front(end).clamp(low, high));
    let span = if step > 0 { end - start } else { start - end };
    if span <= 0 {
        return Err(format!("its slice of {size} elements is empty").into());
    }
    Ok(Dim::Fixed(span.unsigned_abs().div_ceil(step.unsigned_abs()) as usize))
}

pub(super) fn slice_static(layer: &LayerReader<'_>, params: &SliceNd, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let list = |numbers: &[i64], onnx: &mut OnnxBuilder| List {
        length: numbers.len(),
        known: Some(numbers.to_vec()),
        value: onnx.ints(numbers),
    };
    let bounds = [list(&params.begin_ids, onnx), list(&params.end_ids, onnx)];
    let steps = list(&params.strides, onnx);
    cut(&x, bounds, steps, [&params.begin_masks, &params.end_masks, &params.squeeze_masks], onnx)
}

/// A slice whose begins are an input; ends, steps and masks may be inputs too, in this order.
pub(super) fn slice_dynamic(layer: &LayerReader<'_>, params: &SliceNd, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let ([x, begin], more) = layer.first_of(5)?;
    let x = x.unfolded(onnx);
    let rank = x.dims().len();
    let begin = begin.list(onnx)?;
    let mut given = more.iter();
    // coremltools stores five of each, whatever the rank.
    let mut numbers = |stored: &[i64], onnx: &mut OnnxBuilder| match (given.next(), up_to(rank, stored)) {
        (Some(blob), _) => blob.list(onnx),
        (None, stored) => Ok(List { length: stored.len(), known: Some(stored.to_vec()), value: onnx.ints(stored) }),
    };
    let zeros = vec![0; rank];
    let end = numbers(if params.end_ids.is_empty() { &zeros } else { &params.end_ids }, onnx)?;
    let steps = numbers(&params.strides, onnx)?;
    let mut masks = Vec::with_capacity(3);
    for stored in [&params.begin_masks, &params.end_masks, &params.squeeze_masks] {
        masks.push(match given.next() {
            None => up_to(rank, stored).to_vec(),
            Some(blob) => {
                let known = blob.list(onnx)?.known.ok_or("its masks must be known before a run")?;
                known.into_iter().map(|mask| mask != 0).collect()
            }
        });
    }
    cut(&x, [begin, end], steps, [&masks[0], &masks[1], &masks[2]], onnx)
}

fn up_to<T>(count: usize, all: &[T]) -> &[T] {
    &all[..all.len().min(count)]
}

fn cut(
    x: &Blob,
    [begin, end]: [List; 2],
    steps: List,
    masks: [&Vec<bool>; 3],
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let rank = x.dims().len();
    let steps = steps.known.ok_or("its strides must be known before a run")?;
    let or_none = |mask: &Vec<bool>| if mask.is_empty() { vec![false; rank] } else { mask.clone() };
    let [begin_mask, end_mask, squeeze] = masks.map(or_none);
    let lengths = [begin.length, end.length, steps.len(), begin_mask.len(), end_mask.len(), squeeze.len()];
    if lengths != [rank; 6] || steps.contains(&0) {
        return Err(format!("its bounds, strides and masks need {rank} entries each, and no stride of 0").into());
    }
    let slice = Slice { begin: begin.value, end: end.value, steps, begin_mask, end_mask, squeeze };
    let bounds = slice.constant();
    let dims: Result<Vec<Dim>, Fault> = (0..rank)
        .map(|at| match &bounds {
            Some((begins, ends)) => Ok(taken(x.dims()[at], begins[at], ends[at], slice.steps[at])?),
            None => {
                let whole = slice.begin_mask[at] && slice.end_mask[at] && slice.steps[at].abs() == 1;
                Ok(if whole { x.dims()[at] } else { Dim::Unknown })
            }
        })
        .collect();
    let dims = dims?;
    let stay = (0..rank).filter(|&at| !slice.squeeze[at]);
    let dims: Vec<Dim> = stay.map(|at| dims[at]).collect();
    let value = sliced(onnx, x.value().clone(), &slice, rank);
    let value = if dims.is_empty() { onnx.reshape(&value, &[1]) } else { value };
    Ok(Blob::exact(value, at_least_one(dims)))
}

/// `size` elements of an axis, from where the second input says.
pub(super) fn slice_by_size(
    layer: &LayerReader<'_>,
    size: i64,
    along: i64,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let (x, begin) = layer.pair()?;
    let x = x.unfolded(onnx);
    let along = axis(along, x.dims().len())?;
    let begin = begin.list(onnx)?;
    if begin.length != 1 {
        return Err(format!("it begins at {} places, expected one", begin.length).into());
    }
    let mut dims = x.dims().to_vec();
    let end = match size {
        // All that is left.
        -1 => {
            dims[along as usize] = Dim::Unknown;
            onnx.ints(&[END])
        }
        1.. => {
            dims[along as usize] = Dim::Fixed(size as usize);
            let size = onnx.ints(&[size]);
            onnx.binary("Add", &begin.value, &size)
        }
        _ => return Err(format!("its size is {size}, expected at least 1").into()),
    };
    let (along, step) = (onnx.ints(&[along]), onnx.ints(&[1]));
    Ok(Blob::exact(onnx.slice_at(x.value(), &begin.value, &end, &along, &step), dims))
}

pub(super) fn sliding_windows(
    layer: &LayerReader<'_>,
    along: i64,
    [size, step]: [u64; 2],
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let along = axis(along, x.dims().len())?;
    let [size, step] = [size, step].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    let value = windows(onnx, x.value(), along, [size, step])?;
    let length = fixed(&x.dims()[along as usize]).expect("windows need a fixed size");
    let mut dims = x.dims().to_vec();
    let count = (length - size as usize) / step as usize + 1;
    dims.splice(along as usize..=along as usize, [Dim::Fixed(count), Dim::Fixed(size as usize)]);
    Ok(Blob::exact(value, dims))
}

/// Repeats a blob along its axes, the last ones where there are fewer numbers. A second input may give them.
pub(super) fn tile(layer: &LayerReader<'_>, repeats: &[u64], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let ([x], more) = layer.first_of(1)?;
    let x = x.unfolded(onnx);
    let rank = x.dims().len();
    let list = match more {
        [given] => given.list(onnx)?,
        _ => {
            let known: Vec<i64> = repeats.iter().map(|&n| i64::try_from(n).unwrap_or(i64::MAX)).collect();
            List { length: known.len(), value: onnx.ints(&known), known: Some(known) }
        }
    };
    let ahead = rank.checked_sub(list.length).ok_or("it repeats more dimensions than its input has")?;
    let list = after_ones(list, ahead, onnx);
    let dims = match &list.known {
        None => vec![Dim::Unknown; rank],
        Some(known) => {
            let one = |(dim, &n): (&Dim, &i64)| match (dim, usize::try_from(n)) {
                (_, Err(_) | Ok(0)) => Err(Fault(format!("it repeats {n} times, expected at least once"))),
                (Dim::Fixed(size), Ok(n)) => Ok(Dim::Fixed(size.saturating_mul(n))),
                (Dim::Unknown, Ok(_)) => Ok(Dim::Unknown),
            };
            x.dims().iter().zip(known).map(one).collect::<Result<_, _>>()?
        }
    };
    Ok(Blob::exact(onnx.tile(x.value(), &list.value), dims))
}

/// The list with so many ones in front.
fn after_ones(list: List, ahead: usize, onnx: &mut OnnxBuilder) -> List {
    if ahead == 0 {
        return list;
    }
    let ones = vec![1; ahead];
    let length = ahead + list.length;
    match list.known {
        Some(known) => {
            let known = [ones, known].concat();
            List { length, value: onnx.ints(&known), known: Some(known) }
        }
        None => {
            let ones = onnx.ints(&ones);
            List { length, value: onnx.concat(&[ones, list.value], 0), known: None }
        }
    }
}

/// Repeats the sequence, which is the fifth dimension from the last.
pub(super) fn sequence_repeat(layer: &LayerReader<'_>, times: u64, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?;
    if times == 1 {
        return Ok(x.clone());
    }
    let x = x.unfolded(onnx);
    let rank = x.dims().len();
    let along = rank.checked_sub(5).ok_or_else(|| format!("its input has rank {rank}, expected at least 5"))?;
    let mut repeats = vec![1; rank];
    repeats[along] = i64::try_from(times).map_err(|_| "it repeats too often")?;
    let mut dims = x.dims().to_vec();
    dims[along] = fixed(&dims[along]).map_or(Dim::Unknown, |n| Dim::Fixed(n.saturating_mul(times as usize)));
    let repeats = onnx.ints(&repeats);
    Ok(Blob::exact(onnx.tile(x.value(), &repeats), dims))
}

pub(super) fn reverse(layer: &LayerReader<'_>, flags: &[bool], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    if flags.len() != x.dims().len() {
        return Err(format!("it has {} flags for an input of rank {}", flags.len(), x.dims().len()).into());
    }
    let along: Vec<i64> = (0..flags.len()).filter(|&at| flags[at]).map(|at| at as i64).collect();
    if along.is_empty() { Ok(x) } else { Ok(x.same(onnx.reversed(x.value(), &along))) }
}

/// The first elements of an axis in reverse order, as many as the second input says for each index of the batch.
pub(super) fn reverse_seq(
    layer: &LayerReader<'_>,
    batch: i64,
    sequence: i64,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let (x, lengths) = layer.pair()?;
    let x = x.unfolded(onnx);
    let rank = x.dims().len();
    let (batch, sequence) = (axis(batch, rank)?, axis(sequence, rank)?);
    if batch == sequence {
        return Err("its batch and its sequence are one axis".into());
    }
    if let (Some(all), Some(given)) = (fixed(&x.dims()[batch as usize]), count(lengths.dims()))
        && all != given
    {
        return Err(format!("it has {given} lengths for a batch of {all}").into());
    }
    let lengths = onnx.cast(lengths.value(), Element::I64);
    let axes = [batch as usize, sequence as usize];
    Ok(x.same(reversed_sequences(onnx, x.value(), &lengths, axes, rank)))
}
