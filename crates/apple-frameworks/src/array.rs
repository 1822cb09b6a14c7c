//! Tensors, between Rust and `MLMultiArray`.

use std::{borrow::Cow, ffi::c_void, ptr::NonNull, slice, sync::Arc};

use block2::{RcBlock, StackBlock};
use bytemuck::Pod;
use half::f16;
use objc2::{AllocAnyThread, msg_send, rc::Retained};
use objc2_core_ml::{MLMultiArray, MLMultiArrayDataType};
use objc2_foundation::{NSArray, NSInteger, NSNumber};

use crate::{failure::Failure, lend::lend, os};

/// A tensor: its shape, and its elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<'a> {
    /// The size of each dimension.
    pub shape: Cow<'a, [usize]>,
    /// The elements.
    pub elements: Elements<'a>,
}

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Elements<'a> {
    Float16(Memory<'a, f16>),
    Float32(Memory<'a, f32>),
    Float64(Memory<'a, f64>),
    Int32(Memory<'a, i32>),
    Int8(Memory<'a, i8>),
}

/// Where elements are.
#[derive(Clone, Debug, PartialEq)]
pub enum Memory<'a, T: Clone> {
    /// At the caller's, or copied for it. Core ML gets a copy.
    Borrowed(Cow<'a, [T]>),
    /// Shared with Core ML, which reads them where they are: so many from the beginning.
    Shared(Arc<Vec<T>>, usize),
}

impl<T: Clone> Memory<'_, T> {
    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Memory::Borrowed(values) => values,
            Memory::Shared(values, len) => &values[..(*len).min(values.len())],
        }
    }
}

impl<T: Clone> Memory<'_, T> {
    fn into_owned(self) -> Memory<'static, T> {
        match self {
            Memory::Borrowed(values) => Memory::Borrowed(Cow::Owned(values.into_owned())),
            Memory::Shared(values, len) => Memory::Shared(values, len),
        }
    }
}

impl Array<'_> {
    /// The same array with memory of its own. Cost: a copy of what is borrowed.
    pub fn into_owned(self) -> Array<'static> {
        let elements = match self.elements {
            Elements::Float16(values) => Elements::Float16(values.into_owned()),
            Elements::Float32(values) => Elements::Float32(values.into_owned()),
            Elements::Float64(values) => Elements::Float64(values.into_owned()),
            Elements::Int32(values) => Elements::Int32(values.into_owned()),
            Elements::Int8(values) => Elements::Int8(values.into_owned()),
        };
        Array { shape: Cow::Owned(self.shape.into_owned()), elements }
    }
}

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum ElementType {
    Float16,
    Float32,
    Float64,
    Int32,
    Int8,
}

/// An array of Core ML's with these elements. Those that are shared stay where they are, for as long as it lives.
pub(crate) fn to_object(array: &Array<'_>) -> Result<Retained<MLMultiArray>, Failure> {
    match &array.elements {
        Elements::Float16(values) => place(&array.shape, values),
        Elements::Float32(values) => place(&array.shape, values),
        Elements::Float64(values) => place(&array.shape, values),
        Elements::Int32(values) => place(&array.shape, values),
        Elements::Int8(values) => place(&array.shape, values),
    }
}

/// An array of zeros, for Core ML to write to.
pub(crate) fn zeros(shape: &[usize], kind: ElementType) -> Result<Retained<MLMultiArray>, Failure> {
    fn of<T: Number>(shape: &[usize]) -> Result<Retained<MLMultiArray>, Failure> {
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let mut values: Vec<T> = Vec::new();
        let room = count.is_some_and(|count| values.try_reserve_exact(count).is_ok());
        if !room {
            return Err(Failure::ours(format!("there is no memory for an array of shape {shape:?}")));
        }
        values.resize(count.unwrap_or(0), T::zeroed());
        hold(shape, Owned::new(values))
    }
    match kind {
        ElementType::Float16 => of::<f16>(shape),
        ElementType::Float32 => of::<f32>(shape),
        ElementType::Float64 => of::<f64>(shape),
        ElementType::Int32 => of::<i32>(shape),
        ElementType::Int8 => of::<i8>(shape),
    }
}

/// Lends the elements of an array, in row-major order. They are copied where their strides leave gaps.
pub(crate) fn read<R>(object: &MLMultiArray, take: impl FnOnce(Array<'_>) -> R) -> Result<R, Failure> {
    // SAFETY: a plain property.
    let kind = unsafe { object.dataType() };
    match kind {
        MLMultiArrayDataType::Float16 => {
            read_as(object, |shape, v| take(Array { shape, elements: Elements::Float16(v) }))
        }
        MLMultiArrayDataType::Float32 => {
            read_as(object, |shape, v| take(Array { shape, elements: Elements::Float32(v) }))
        }
        MLMultiArrayDataType::Float64 => {
            read_as(object, |shape, v| take(Array { shape, elements: Elements::Float64(v) }))
        }
        MLMultiArrayDataType::Int32 => read_as(object, |shape, v| take(Array { shape, elements: Elements::Int32(v) })),
        MLMultiArrayDataType::Int8 => read_as(object, |shape, v| take(Array { shape, elements: Elements::Int8(v) })),
        other => Err(Failure::ours(format!("an array has elements of the unknown type {:#x}", other.0))),
    }
}

/// A type of elements.
trait Number: Pod {
    const TYPE: MLMultiArrayDataType;

    /// Whether this system's arrays have it.
    fn here() -> bool {
        true
    }
}

impl Number for f16 {
    const TYPE: MLMultiArrayDataType = MLMultiArrayDataType::Float16;

    fn here() -> bool {
        os::FLOAT16_ARRAYS.here()
    }
}

impl Number for f32 {
    const TYPE: MLMultiArrayDataType = MLMultiArrayDataType::Float32;
}

impl Number for f64 {
    const TYPE: MLMultiArrayDataType = MLMultiArrayDataType::Float64;
}

impl Number for i32 {
    const TYPE: MLMultiArrayDataType = MLMultiArrayDataType::Int32;
}

impl Number for i8 {
    const TYPE: MLMultiArrayDataType = MLMultiArrayDataType::Int8;

    fn here() -> bool {
        os::INT8_ARRAYS.here()
    }
}

fn place<T: Number>(shape: &[usize], values: &Memory<'_, T>) -> Result<Retained<MLMultiArray>, Failure> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let len = values.as_slice().len();
    if count != Some(len) {
        return Err(Failure::ours(format!("{len} elements do not make an array of shape {shape:?}")));
    }
    match values {
        Memory::Borrowed(values) => hold(shape, Owned::new(values.to_vec())),
        Memory::Shared(values, _) => hold(shape, values.clone()),
    }
}

/// Memory that an array of Core ML's is made on.
trait Held: 'static {
    type Number: Number;

    /// Where the elements begin. It stays so until this is dropped, wherever this is moved to.
    fn pointer(&self) -> NonNull<Self::Number>;
}

/// Core ML reads these and does not write to them: they are given to it as inputs alone.
impl<T: Number> Held for Arc<Vec<T>> {
    type Number = T;

    fn pointer(&self) -> NonNull<T> {
        NonNull::from(self.as_slice()).cast()
    }
}

/// Elements that nobody looks at through Rust any more, so that Core ML may write to them.
struct Owned<T>(NonNull<[T]>);

impl<T> Owned<T> {
    fn new(values: Vec<T>) -> Owned<T> {
        Owned(NonNull::from(Box::leak(values.into_boxed_slice())))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a leaked box and is freed here alone.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl<T: Number> Held for Owned<T> {
    type Number = T;

    fn pointer(&self) -> NonNull<T> {
        self.0.cast()
    }
}

/// An array on memory that its deallocator block owns. The block does nothing when it is called; the memory goes when
/// the block does, which is after the array, and also where no array was made.
fn hold<H: Held>(shape: &[usize], memory: H) -> Result<Retained<MLMultiArray>, Failure> {
    if shape.contains(&0) {
        // There would be no memory to point to.
        return Err(Failure::ours(format!("an array of shape {shape:?} has no elements")));
    }
    if !H::Number::here() {
        return Err(Failure::ours("this version of the system has no arrays of such elements"));
    }
    let pointer = memory.pointer().cast::<c_void>();
    let deallocator = RcBlock::new(move |_: NonNull<c_void>| {
        let _owner = &memory;
    });
    let (shape, strides) = (numbers(shape), numbers(&strides(shape)));
    // SAFETY: the pointer leads to as many elements of this type as the shape has, with these strides, and they stay
    // there while the block lives, which the array keeps for as long as it lives itself.
    let array = unsafe {
        MLMultiArray::initWithDataPointer_shape_dataType_strides_deallocator_error(
            MLMultiArray::alloc(),
            pointer,
            &shape,
            H::Number::TYPE,
            &strides,
            Some(&deallocator),
        )
    };
    array.map_err(|e| Failure::from(&*e))
}

/// The strides of elements in row-major order, of a shape whose number of elements is known to be a number above 0.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

fn numbers(values: &[usize]) -> Retained<NSArray<NSNumber>> {
    let numbers: Vec<_> = values.iter().map(|&value| NSNumber::new_usize(value)).collect();
    NSArray::from_retained_slice(&numbers)
}

fn read_as<T: Number, R>(
    object: &MLMultiArray,
    take: impl FnOnce(Cow<'_, [usize]>, Memory<'_, T>) -> R,
) -> Result<R, Failure> {
    // SAFETY: a plain property.
    let shape = unsafe { object.shape() };
    // SAFETY: a plain property.
    let strides = unsafe { object.strides() };
    let layout = Layout::of(&shape, &strides)?;
    with_bytes(object, &layout, size_of::<T>(), |bytes| {
        let values = layout.gather(bytes)?;
        Ok(take(Cow::Borrowed(&layout.shape), Memory::Borrowed(values)))
    })?
}

/// Lends an array's memory.
fn with_bytes<R>(
    object: &MLMultiArray,
    layout: &Layout,
    size: usize,
    take: impl FnOnce(&[u8]) -> R,
) -> Result<R, Failure> {
    let extent = layout.extent.checked_mul(size).filter(|&extent| isize::try_from(extent).is_ok());
    let extent = extent.ok_or_else(|| Failure::ours("an array is larger than memory"))?;
    if extent == 0 {
        // Such an array need not have a place.
        return Ok(take(&[]));
    }
    let lent = |pointer: *const c_void, len: NSInteger| {
        // SAFETY: Core ML lends so many bytes from here on until the handler returns, and nobody writes to a result.
        let bytes = |len| unsafe { slice::from_raw_parts(pointer.cast::<u8>(), len) };
        usize::try_from(len).ok().filter(|_| !pointer.is_null()).map(bytes).unwrap_or_default()
    };
    if !os::BYTES_WITH_HANDLER.here() {
        // SAFETY: the type is that of the declaration, but that it may be null.
        let pointer: *mut c_void = unsafe { msg_send![object, dataPointer] };
        // It is valid while the array lives, for as far as its shape and strides reach.
        return Ok(take(lent(pointer, extent as NSInteger)));
    }
    let taken = lend(take, |take| {
        let handler = StackBlock::new(|pointer: *const c_void, len: NSInteger| take(lent(pointer, len)));
        // SAFETY: the types are those of the declaration, but for the block's pointer, which may be null. The block is called
        // before this returns, if at all.
        let () = unsafe { msg_send![object, getBytesWithHandler: &*handler] };
    });
    taken.ok_or_else(|| Failure::ours("an array did not lend its elements"))
}

/// Where the elements of an array are.
#[derive(Debug, PartialEq)]
struct Layout {
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// Elements from the first to the last in memory, both among them.
    extent: usize,
}

impl Layout {
    fn of(shape: &NSArray<NSNumber>, strides: &NSArray<NSNumber>) -> Result<Layout, Failure> {
        let plain = |numbers: &NSArray<NSNumber>| -> Option<Vec<usize>> {
            numbers.iter().map(|number| usize::try_from(number.as_i64()).ok()).collect()
        };
        let layout = plain(shape).zip(plain(strides)).and_then(|(shape, strides)| Layout::new(shape, strides));
        layout.ok_or_else(|| Failure::ours("an array has a shape and strides that do not fit each other"))
    }

    fn new(shape: Vec<usize>, strides: Vec<usize>) -> Option<Layout> {
        if shape.len() != strides.len() {
            return None;
        }
        let mut extent = 1usize;
        for (&size, &stride) in shape.iter().zip(&strides) {
            extent = extent.checked_add(size.saturating_sub(1).checked_mul(stride)?)?;
        }
        if shape.contains(&0) {
            extent = 0;
        }
        shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        Some(Layout { shape, strides, extent })
    }

    fn is_contiguous(&self) -> bool {
        let plain = strides(&self.shape);
        self.shape.iter().zip(&self.strides).zip(plain).all(|((&size, &stride), plain)| size == 1 || stride == plain)
    }

    /// The elements in row-major order.
    fn gather<'a, T: Pod>(&self, bytes: &'a [u8]) -> Result<Cow<'a, [T]>, Failure> {
        let needed = self.extent.checked_mul(size_of::<T>()).filter(|&needed| needed <= bytes.len());
        let needed = needed.ok_or_else(|| {
            Failure::ours(format!("an array of shape {:?} lends {} bytes alone", self.shape, bytes.len()))
        })?;
        let values: Cow<'a, [T]> = match bytemuck::try_cast_slice(&bytes[..needed]) {
            Ok(values) => Cow::Borrowed(values),
            // Not aligned as Rust asks.
            Err(_) => {
                Cow::Owned(bytes[..needed].chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
            }
        };
        if self.extent == 0 || self.is_contiguous() {
            return Ok(values);
        }
        let mut gathered = Vec::with_capacity(self.shape.iter().product());
        self.gather_axis(&values, 0, 0, &mut gathered);
        Ok(Cow::Owned(gathered))
    }

    fn gather_axis<T: Pod>(&self, values: &[T], axis: usize, from: usize, out: &mut Vec<T>) {
        let (Some(&size), Some(&stride)) = (self.shape.get(axis), self.strides.get(axis)) else {
            out.push(values[from]);
            return;
        };
        if stride == 1 && axis + 1 == self.shape.len() {
            out.extend_from_slice(&values[from..from + size]);
            return;
        }
        for place in 0..size {
            self.gather_axis(values, axis + 1, from + place * stride, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_in_row_major_order() {
        let memory: Vec<i32> = (0..64).collect();
        for (shape, strides, expected) in [
            (vec![2, 3], vec![3, 1], Some(vec![0, 1, 2, 3, 4, 5])),
            (vec![2, 3], vec![16, 1], Some(vec![0, 1, 2, 16, 17, 18])),
            (vec![3, 2], vec![1, 3], Some(vec![0, 3, 1, 4, 2, 5])),
            (vec![1, 2], vec![99, 1], Some(vec![0, 1])),
            (vec![3, 1], vec![16, 1], Some(vec![0, 16, 32])),
            (vec![], vec![], Some(vec![0])),
            (vec![0, 4], vec![4, 1], Some(vec![])),
            (vec![5, 1], vec![16, 1], None),
            (vec![2, 3], vec![3], None),
            (vec![usize::MAX, 2], vec![2, 1], None),
        ] {
            let layout = Layout::new(shape.clone(), strides.clone());
            let gathered =
                layout.and_then(|layout| Some(layout.gather(bytemuck::cast_slice(&memory)).ok()?.into_owned()));
            assert_eq!(gathered, expected, "{shape:?} by {strides:?}");
        }
    }

    #[test]
    fn elements_may_lie_anywhere() {
        let bytes: Vec<u8> = (0..13).collect();
        let layout = Layout::new(vec![3], vec![1]).unwrap();
        let values = layout.gather::<i32>(&bytes[1..]).unwrap();
        assert_eq!(values[0], i32::from_ne_bytes([1, 2, 3, 4]));
    }
}
