//! Shapes, slices and layout.

use coreml_format::mil::{Dim, Opset};

use super::{Fault, Lowering, OpReader, Results, axes, axis, made_count, rank};
use crate::onnx::{Element, OnnxBuilder, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "expand_dims", run: expand_dims },
    Lowering { mil: "reshape", run: reshape },
    Lowering { mil: "reshape_like", run: reshape_like },
    Lowering { mil: "reverse", run: reverse },
    Lowering { mil: "reverse_sequence", run: reverse_sequence },
    Lowering { mil: "slice_by_index", run: slice_by_index },
    Lowering { mil: "slice_by_size", run: slice_by_size },
    Lowering { mil: "slice_update", run: slice_update },
    Lowering { mil: "sliding_windows", run: sliding_windows },
    Lowering { mil: "squeeze", run: squeeze },
    Lowering { mil: "transpose", run: transpose },
];

/// The end of any axis, and one before its beginning.
const END: i64 = i32::MAX as i64;
const BEFORE: i64 = -END;

/// The first `lengths` elements along one axis in reverse order, for each index of another.
fn reverse_sequence(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, lengths) = (op.value("x")?, op.value("lengths")?);
    let rank = rank(&x)?;
    let time = axis(op.int_or("seq_axis", 0)?, rank)? as usize;
    let batch = axis(op.int_or("batch_axis", 0)?, rank)? as usize;
    if time == batch {
        return Err("seq_axis and batch_axis must differ".into());
    }
    Ok(vec![reversed_sequences(onnx, &x, &lengths, [batch, time], rank)])
}

/// The first elements of axis `time` in reverse order, as many as `lengths` says for each index of axis `batch`.
pub(crate) fn reversed_sequences(
    onnx: &mut OnnxBuilder,
    x: &Value,
    lengths: &Value,
    [batch, time]: [usize; 2],
    rank: usize,
) -> Value {
    let others = (0..rank).filter(|&a| a != time && a != batch);
    let perm: Vec<i64> = [time, batch].into_iter().chain(others).map(|a| a as i64).collect();
    let turned = onnx.transpose(x, &perm);
    // Engines reverse floats and wide integers.
    let element = turned.element();
    let turned = if element == Element::Bool { onnx.cast(&turned, Element::I32) } else { turned };
    let reversed = onnx.reverse_sequence(&turned, lengths);
    let reversed = onnx.cast(&reversed, element);
    onnx.transpose(&reversed, &inverse(&perm))
}

fn expand_dims(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along) = (op.value("x")?, op.ints("axes")?);
    let along = axes(&along, rank(&x)? + along.len())?;
    Ok(vec![onnx.unsqueeze(&x, &along)])
}

fn squeeze(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along) = (op.value("x")?, op.maybe_ints("axes")?);
    let dims = x.dims().ok_or("the rank of x must be known")?;
    let ones = || dims.iter().enumerate().filter(|(_, d)| **d == Dim::Fixed(1)).map(|(i, _)| i as i64).collect();
    let along = axes(&along.unwrap_or_else(ones), dims.len())?;
    if let Some(&axis) = along.iter().find(|&&axis| matches!(dims[axis as usize], Dim::Fixed(n) if n != 1)) {
        return Err(format!("axes name axis {axis}, whose size is not 1").into());
    }
    Ok(vec![onnx.squeeze(&x, &along)])
}

fn transpose(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, perm) = (op.value("x")?, op.ints("perm")?);
    let rank = rank(&x)?;
    match axes(&perm, rank) {
        Ok(counted) if counted.len() == rank => Ok(vec![onnx.transpose(&x, &counted)]),
        _ => Err(format!("perm is {perm:?}, expected each axis of a tensor of rank {rank} once").into()),
    }
}

fn reshape(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, shape) = (op.value("x")?, op.value("shape")?);
    let Some(source) = shape.constant() else { return Ok(vec![onnx.reshape_to(&x, &shape, true)]) };
    let mut wanted = source.i64s();
    if wanted.iter().any(|&d| d < -1) || wanted.iter().filter(|&&d| d == -1).count() > 1 {
        return Err(format!("cannot reshape to {wanted:?}").into());
    }
    copy_sizes(op.opset(), x.dims().ok_or("the rank of x must be known")?, &mut wanted)?;
    if let Some(given) = x.shape() {
        let total: usize = given.iter().product();
        let known = wanted.iter().filter(|&&d| d != -1).try_fold(1i64, |n, &d| n.checked_mul(d)).unwrap_or(0);
        let fits = if wanted.contains(&-1) { known > 0 && total as i64 % known == 0 } else { known == total as i64 };
        if !fits {
            return Err(format!("cannot reshape {given:?} ({total} elements) to {wanted:?}").into());
        }
    }
    let shape = onnx.ints(&wanted);
    Ok(vec![onnx.reshape_to(&x, &shape, true)])
}

/// Puts the size that it copies in the place of each 0, where that is fixed. A 0 copies the dimension at its own
/// place; from iOS 17 on, at its place counted from the right, or is 1 where x has none there (docs of `reshape`,
/// coremltools 9.0). A size that stays 0 is one that ONNX copies in the same way.
fn copy_sizes(opset: Opset, given: &[Dim], wanted: &mut [i64]) -> Result<(), Fault> {
    let behind = wanted.len() as i64 - given.len() as i64;
    let shift = if opset >= Opset::IOS17 { behind } else { 0 };
    for (i, size) in wanted.iter_mut().enumerate().filter(|(_, size)| **size == 0) {
        let from = i as i64 - shift;
        *size = match usize::try_from(from).ok().and_then(|from| given.get(from)) {
            Some(Dim::Fixed(n)) => *n as i64,
            Some(Dim::Unknown) if shift == 0 => 0,
            Some(Dim::Unknown) => {
                return Err("a size of 0 copies a dimension of unknown size from another place".into());
            }
            None if opset >= Opset::IOS17 => 1,
            None => return Err("a size of 0 copies a dimension that x does not have".into()),
        };
    }
    Ok(())
}

/// Replaces dimensions `begins..ends` of each reference, concatenated, as the new shape.
fn reshape_like(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, references) = (op.value("x")?, op.values("ref_tensors")?);
    let (begins, ends) = (op.values("begins")?, op.values("ends")?);
    let masks = op.values("end_masks")?;
    if begins.len() != references.len() || ends.len() != references.len() || masks.len() != references.len() {
        return Err("ref_tensors, begins, ends and end_masks must have the same length".into());
    }
    let number = |value: &Value| {
        value.constant().and_then(|s| s.i64s().first().copied()).ok_or("begins and ends must be constants")
    };
    let mut pieces = Vec::with_capacity(references.len());
    for (i, reference) in references.iter().enumerate() {
        let end = if number(&masks[i])? != 0 { END } else { number(&ends[i])? };
        let shape = onnx.shape(reference);
        pieces.push(onnx.slice(&shape, &[number(&begins[i])?], &[end], &[0], &[1]));
    }
    let shape = if pieces.len() == 1 { pieces.remove(0) } else { onnx.concat(&pieces, 0) };
    Ok(vec![onnx.reshape_to(&x, &shape, true)])
}

fn reverse(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along) = (op.value("x")?, op.maybe_ints("axes")?);
    let rank = rank(&x)?;
    let along = axes(&along.unwrap_or_else(|| (0..rank as i64).collect()), rank)?;
    Ok(vec![onnx.reversed(&x, &along)])
}

/// The bounds of a slice: begin, end and step of each axis, and which axes go.
pub(crate) struct Slice {
    pub(crate) begin: Value,
    pub(crate) end: Value,
    pub(crate) steps: Vec<i64>,
    pub(crate) begin_mask: Vec<bool>,
    pub(crate) end_mask: Vec<bool>,
    pub(crate) squeeze: Vec<bool>,
}

impl Slice {
    fn read(op: &OpReader<'_>, rank: usize) -> Result<Slice, Fault> {
        let steps = op.maybe_ints("stride")?.unwrap_or_else(|| vec![1; rank]);
        let mask = |name| Ok::<_, Fault>(op.maybe_bools(name)?.unwrap_or_else(|| vec![false; rank]));
        let (begin_mask, end_mask, squeeze) = (mask("begin_mask")?, mask("end_mask")?, mask("squeeze_mask")?);
        if [steps.len(), begin_mask.len(), end_mask.len(), squeeze.len()] != [rank; 4] || steps.contains(&0) {
            return Err(format!("stride and masks need {rank} entries each, and no stride of 0").into());
        }
        let (begin, end) = (op.value("begin")?, op.value("end")?);
        for (name, bound) in [("begin", &begin), ("end", &end)] {
            if bound.shape().is_some_and(|shape| shape.iter().product::<usize>() != rank) {
                return Err(format!("{name} needs {rank} entries").into());
            }
        }
        Ok(Slice { begin, end, steps, begin_mask, end_mask, squeeze })
    }

    /// Where an axis starts if nothing says so, and where it ends.
    fn whole(step: i64) -> (i64, i64) {
        if step > 0 { (0, END) } else { (END, BEFORE) }
    }

    /// Begins and ends, where both are constants.
    pub(crate) fn constant(&self) -> Option<(Vec<i64>, Vec<i64>)> {
        let (mut begins, mut ends) = (self.begin.constant()?.i64s(), self.end.constant()?.i64s());
        for axis in 0..self.steps.len() {
            let (first, last) = Slice::whole(self.steps[axis]);
            if self.squeeze[axis] {
                ends[axis] = if begins[axis] == -1 { END } else { begins[axis] + 1 };
                continue;
            }
            if self.begin_mask[axis] {
                begins[axis] = first;
            }
            if self.end_mask[axis] {
                ends[axis] = last;
            }
        }
        Some((begins, ends))
    }

    /// Begins and ends as int64 values.
    fn bounds(&self, onnx: &mut OnnxBuilder) -> (Value, Value) {
        if let Some((begins, ends)) = self.constant() {
            return (onnx.ints(&begins), onnx.ints(&ends));
        }
        let (begin, end) = (onnx.cast(&self.begin, Element::I64), onnx.cast(&self.end, Element::I64));
        let (first, last): (Vec<i64>, Vec<i64>) = self.steps.iter().map(|&step| Slice::whole(step)).unzip();
        let masked = |onnx: &mut OnnxBuilder, mask: &[bool], otherwise: &[i64], value: &Value| {
            if !mask.contains(&true) {
                return value.clone();
            }
            let mask = onnx.ints(&mask.iter().map(|&m| i64::from(m)).collect::<Vec<_>>());
            let mask = onnx.cast(&mask, Element::Bool);
            let otherwise = onnx.ints(otherwise);
            onnx.select(&mask, &otherwise, value)
        };
        let not_squeezed: Vec<bool> = self.begin_mask.iter().zip(&self.squeeze).map(|(m, s)| *m && !s).collect();
        let begins = masked(onnx, &not_squeezed, &first, &begin);
        let mut ends = masked(onnx, &self.end_mask, &last, &end);
        if self.squeeze.contains(&true) {
            let one = onnx.int(1);
            let next = onnx.binary("Add", &begin, &one);
            // The end after -1 is not 0 but the end of the axis.
            let zero = onnx.int(0);
            let at_end = onnx.compare("Equal", &next, &zero);
            let far = onnx.int(END);
            let next = onnx.select(&at_end, &far, &next);
            let mask = onnx.ints(&self.squeeze.iter().map(|&m| i64::from(m)).collect::<Vec<_>>());
            let mask = onnx.cast(&mask, Element::Bool);
            ends = onnx.select(&mask, &next, &ends);
        }
        (begins, ends)
    }

    /// The steps; an axis that goes is one element wide.
    pub(crate) fn steps(&self) -> Vec<i64> {
        self.steps.iter().zip(&self.squeeze).map(|(&step, &squeezed)| if squeezed { 1 } else { step }).collect()
    }

    fn squeezed(&self) -> Vec<i64> {
        (0..self.squeeze.len()).filter(|&axis| self.squeeze[axis]).map(|axis| axis as i64).collect()
    }
}

fn slice_by_index(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    let rank = rank(&x)?;
    let slice = Slice::read(op, rank)?;
    Ok(vec![sliced(onnx, x, &slice, rank)])
}

pub(crate) fn sliced(onnx: &mut OnnxBuilder, x: Value, slice: &Slice, rank: usize) -> Value {
    let steps = slice.steps();
    let (forward, backward): (Vec<usize>, Vec<usize>) =
        (0..rank).partition(|&axis| !is_taken_by_indices(onnx, rank, steps[axis]));
    let mut x = x;
    if !backward.is_empty() {
        let (begins, ends) = slice.bounds(onnx);
        let bounds = Bounds { begins: &begins, ends: &ends, steps: &steps };
        for axis in backward {
            x = bounds.along(onnx, &x, axis, rank);
        }
    }
    let mut result = match slice.constant() {
        Some((begins, ends)) => {
            let cut: Vec<usize> = forward
                .into_iter()
                .filter(|&a| {
                    (begins[a], ends[a], steps[a]) != (0, END, 1) && !covers(&x, a, begins[a], ends[a], steps[a])
                })
                .collect();
            let pick = |values: &[i64]| cut.iter().map(|&axis| values[axis]).collect::<Vec<_>>();
            let along: Vec<i64> = cut.iter().map(|&axis| axis as i64).collect();
            if cut.is_empty() { x } else { onnx.slice(&x, &pick(&begins), &pick(&ends), &along, &pick(&steps)) }
        }
        None => {
            let (begins, ends) = slice.bounds(onnx);
            let steps: Vec<i64> = forward.iter().map(|&axis| steps[axis]).collect();
            let along = onnx.ints(&forward.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
            let pick = |onnx: &mut OnnxBuilder, bounds: Value| match forward.len() {
                n if n == rank => bounds,
                _ => onnx.gather(&bounds, &along, 0),
            };
            let (begins, ends, steps) = (pick(onnx, begins), pick(onnx, ends), onnx.ints(&steps));
            onnx.slice_at(&x, &begins, &ends, &along, &steps)
        }
    };
    let squeezed = slice.squeezed();
    if !squeezed.is_empty() {
        result = onnx.squeeze(&result, &squeezed);
    }
    result
}

/// Whether these bounds take the whole of an axis.
fn covers(x: &Value, axis: usize, begin: i64, end: i64, step: i64) -> bool {
    matches!(x.dims().map(|dims| dims[axis]), Some(Dim::Fixed(n)) if begin == 0 && end >= n as i64 && step == 1)
}

fn slice_by_size(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, begin, size) = (op.value("x")?, op.value("begin")?, op.value("size")?);
    let rank = rank(&x)?;
    let along = onnx.ints(&(0..rank as i64).collect::<Vec<_>>());
    let (begin, size) = (onnx.cast(&begin, Element::I64), onnx.cast(&size, Element::I64));
    let end = match (begin.constant(), size.constant()) {
        (Some(begin), Some(size)) => {
            let ends: Vec<i64> =
                begin.i64s().iter().zip(size.i64s()).map(|(&b, s)| if s == -1 { END } else { b + s }).collect();
            onnx.ints(&ends)
        }
        _ => {
            // A size of -1 means all that is left.
            let rest = onnx.int(-1);
            let all = onnx.compare("Equal", &size, &rest);
            let (far, sum) = (onnx.int(END), onnx.binary("Add", &begin, &size));
            onnx.select(&all, &far, &sum)
        }
    };
    let steps = onnx.ints(&vec![1; rank]);
    Ok(vec![onnx.slice_at(&x, &begin, &end, &along, &steps)])
}

/// `x` with a slice replaced: axis by axis, what stands before, the new part, and what stands after.
fn slice_update(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, update) = (op.value("x")?, op.value("update")?);
    let rank = rank(&x)?;
    let slice = Slice::read(op, rank)?;
    let squeezed = slice.squeezed();
    let update = if squeezed.is_empty() { update } else { onnx.unsqueeze(&update, &squeezed) };
    let constant = slice.constant();
    let cut: Vec<usize> = match &constant {
        Some((begins, ends)) => (0..rank).filter(|&a| !covers(&x, a, begins[a], ends[a], slice.steps[a])).collect(),
        None => (0..rank).filter(|&a| !(slice.begin_mask[a] && slice.end_mask[a] && slice.steps[a] == 1)).collect(),
    };
    let (begins, ends) = slice.bounds(onnx);
    let bounds = Bounds { begins: &begins, ends: &ends, steps: &slice.steps() };
    Ok(vec![updated(onnx, &x, &update, &cut, &bounds)?])
}

struct Bounds<'a> {
    begins: &'a Value,
    ends: &'a Value,
    steps: &'a [i64],
}

impl Bounds<'_> {
    /// Begin and end of one axis, as lists of one.
    fn of(&self, onnx: &mut OnnxBuilder, axis: usize) -> (Value, Value) {
        let at = [axis as i64];
        let next = [axis as i64 + 1];
        (onnx.slice(self.begins, &at, &next, &[0], &[1]), onnx.slice(self.ends, &at, &next, &[0], &[1]))
    }

    /// The slice of `x` along one axis.
    fn along(&self, onnx: &mut OnnxBuilder, x: &Value, axis: usize, rank: usize) -> Value {
        let (begin, end) = self.of(onnx, axis);
        let (along, step) = (onnx.ints(&[axis as i64]), onnx.ints(&[self.steps[axis]]));
        let part = if is_taken_by_indices(onnx, rank, self.steps[axis]) {
            let indices = indices(onnx, x, axis, (&begin, &end, &step));
            onnx.gather(x, &indices, axis as i64)
        } else {
            onnx.slice_at(x, &begin, &end, &along, &step)
        };
        let dims = x.dims().map(|dims| {
            dims.iter().enumerate().map(|(at, dim)| if at == axis { Dim::Unknown } else { *dim }).collect()
        });
        part.with_dims(dims)
    }
}

/// Whether a slice goes by indices: rten panics where it goes backwards in more than four dimensions.
fn is_taken_by_indices(onnx: &OnnxBuilder, rank: usize, step: i64) -> bool {
    onnx.is_plain() && rank > 4 && step < 0
}

fn updated(
    onnx: &mut OnnxBuilder,
    x: &Value,
    update: &Value,
    cut: &[usize],
    bounds: &Bounds<'_>,
) -> Result<Value, Fault> {
    let Some((&axis, rest)) = cut.split_first() else { return Ok(update.clone()) };
    let step = bounds.steps[axis];
    let (begin, end) = bounds.of(onnx, axis);
    let along = onnx.ints(&[axis as i64]);
    let step_value = onnx.ints(&[step]);
    let inner = if rest.is_empty() {
        update.clone()
    } else {
        let part = bounds.along(onnx, x, axis, rank(x)?);
        updated(onnx, &part, update, rest, bounds)?
    };
    if step != 1 {
        return scattered(onnx, x, &inner, axis, (&begin, &end, &step_value));
    }
    let (zero, one, far) = (onnx.ints(&[0]), onnx.ints(&[1]), onnx.ints(&[END]));
    let before = onnx.slice_at(x, &zero, &begin, &along, &one);
    let after = onnx.slice_at(x, &end, &far, &along, &one);
    Ok(onnx.concat(&[before, inner, after], axis as i64))
}

/// Places slices of `update` at every `step`-th index of an axis.
fn scattered(
    onnx: &mut OnnxBuilder,
    x: &Value,
    update: &Value,
    axis: usize,
    bounds: (&Value, &Value, &Value),
) -> Result<Value, Fault> {
    let indices = indices(onnx, x, axis, bounds);
    let indices = onnx.unsqueeze(&indices, &[1]);
    let perm = to_front(axis, rank(x)?);
    let (turned, update) = (onnx.transpose(x, &perm), onnx.transpose(update, &perm));
    let placed = onnx.scatter_nd(&turned, &indices, &update, "none");
    Ok(onnx.transpose(&placed, &inverse(&perm)))
}

/// The indices that a slice takes of an axis: the slice of all of them.
fn indices(onnx: &mut OnnxBuilder, x: &Value, axis: usize, (begin, end, step): (&Value, &Value, &Value)) -> Value {
    let shape = onnx.shape(x);
    let size = onnx.slice(&shape, &[axis as i64], &[axis as i64 + 1], &[0], &[1]);
    let size = onnx.squeeze(&size, &[0]);
    let (zero, one, first) = (onnx.int(0), onnx.int(1), onnx.ints(&[0]));
    let all = onnx.range(&zero, &size, &one);
    onnx.slice_at(&all, begin, end, &first, step)
}

/// The permutation that moves `axis` to the front.
pub(crate) fn to_front(axis: usize, rank: usize) -> Vec<i64> {
    std::iter::once(axis).chain((0..rank).filter(|&a| a != axis)).map(|a| a as i64).collect()
}

/// The permutation that undoes `perm`.
pub(crate) fn inverse(perm: &[i64]) -> Vec<i64> {
    let mut undo = vec![0; perm.len()];
    for (to, &from) in perm.iter().enumerate() {
        undo[from as usize] = to as i64;
    }
    undo
}

fn sliding_windows(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along, size, stride) = (op.value("x")?, op.int("axis")?, op.int("size")?, op.int_or("stride", 1)?);
    let along = axis(along, rank(&x)?)?;
    Ok(vec![windows(onnx, &x, along, [size, stride])?])
}

/// All windows of `size` elements along an axis, `stride` elements apart: the axis becomes two.
pub(crate) fn windows(onnx: &mut OnnxBuilder, x: &Value, along: i64, [size, stride]: [i64; 2]) -> Result<Value, Fault> {
    let Some(Dim::Fixed(length)) = x.dims().map(|dims| dims[along as usize]) else {
        return Err("the axis of the windows must have a fixed size".into());
    };
    if size < 1 || stride < 1 || size > length as i64 {
        return Err(format!("windows of {size} with stride {stride} do not fit an axis of {length}").into());
    }
    let windows = (length as i64 - size) / stride + 1;
    made_count(&[windows as usize, size as usize])?;
    let starts: Vec<i64> = (0..windows).flat_map(|w| (0..size).map(move |i| w * stride + i)).collect();
    let flat = onnx.ints(&starts);
    let indices = onnx.reshape(&flat, &[windows, size]);
    Ok(onnx.gather(x, &indices, along))
}
