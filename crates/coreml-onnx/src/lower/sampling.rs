//! Images sampled at any points: resampling, affine transforms, crops.
//!
//! Everything here is gathered and blended by plain operators, so that every engine has every mode.

use coreml_format::mil::Dim;

use super::{Fault, Lowering, OpReader, Results, made_count};
use crate::onnx::{Element, OnnxBuilder, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "affine", run: affine },
    Lowering { mil: "crop_resize", run: crop_resize },
    Lowering { mil: "resample", run: resample },
];

/// What stands outside of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Padding {
    Constant(f32),
    /// The nearest pixel of the border.
    Border,
    /// Mirrored, the border itself left out.
    Reflection,
    /// Mirrored, the border once more.
    Symmetric,
}

impl Padding {
    fn read(op: &OpReader<'_>) -> Result<Padding, Fault> {
        let value = op.float_or("padding_value", 0.0)?;
        match op.string("padding_mode")?.to_lowercase().as_str() {
            "constant" => Ok(Padding::Constant(value)),
            "border" => Ok(Padding::Border),
            "reflection" => Ok(Padding::Reflection),
            "symmetric" => Ok(Padding::Symmetric),
            other => Err(format!("padding_mode {other:?} is not known").into()),
        }
    }
}

/// How a point between pixels is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampling {
    Nearest,
    Bilinear,
}

impl Sampling {
    fn read(op: &OpReader<'_>) -> Result<Sampling, Fault> {
        match op.string("sampling_mode")?.to_lowercase().as_str() {
            "nearest" => Ok(Sampling::Nearest),
            "bilinear" => Ok(Sampling::Bilinear),
            other => Err(format!("sampling_mode {other:?} is not known").into()),
        }
    }
}

/// Where coordinates run from one border to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Pixels,
    MinusOneToOne,
    ZeroToOne,
}

impl Range {
    fn read(op: &OpReader<'_>) -> Result<Range, Fault> {
        match op.string("coordinates_mode")?.to_lowercase().as_str() {
            "unnormalized" => Ok(Range::Pixels),
            "normalized_minus_one_to_one" => Ok(Range::MinusOneToOne),
            "normalized_zero_to_one" => Ok(Range::ZeroToOne),
            other => Err(format!("coordinates_mode {other:?} is not known").into()),
        }
    }

    /// Coordinates in pixels: 0 is the centre of the first one.
    fn in_pixels(self, onnx: &mut OnnxBuilder, at: &Value, size: &Value, aligned: bool) -> Value {
        let unit = match self {
            Range::Pixels => return at.clone(),
            Range::MinusOneToOne => {
                let raised = onnx.with_scalar("Add", at, 1.0);
                onnx.with_scalar("Mul", &raised, 0.5)
            }
            Range::ZeroToOne => at.clone(),
        };
        if aligned {
            let last = onnx.with_scalar("Sub", size, 1.0);
            return onnx.binary("Mul", &unit, &last);
        }
        let edge = onnx.binary("Mul", &unit, size);
        onnx.with_scalar("Sub", &edge, 0.5)
    }
}

/// Images of shape (batch, channel, height, width), laid out so that pixels are picked by one index.
pub(crate) struct Pixels {
    /// A row of channels a pixel.
    rows: Value,
    /// Sizes as floats.
    pub(crate) height: Value,
    pub(crate) width: Value,
    columns: Value,
    area: Value,
    images: Value,
}

impl Pixels {
    pub(crate) fn of(onnx: &mut OnnxBuilder, x: &Value) -> Result<Pixels, Fault> {
        if x.dims().map(<[_]>::len) != Some(4) {
            return Err("x must have rank 4".into());
        }
        let [images, channels, rows, columns] = [0, 1, 2, 3].map(|axis| size(onnx, x, axis));
        let last = onnx.transpose(x, &[0, 2, 3, 1]);
        let rows_of = match x.dims() {
            Some([_, Dim::Fixed(channels), ..]) => onnx.ints(&[-1, *channels as i64]),
            _ => {
                let (any, channels) = (onnx.ints(&[-1]), onnx.reshape(&channels, &[1]));
                onnx.concat(&[any, channels], 0)
            }
        };
        Ok(Pixels {
            rows: onnx.reshape_to(&last, &rows_of, false),
            height: onnx.cast(&rows, Element::F32),
            width: onnx.cast(&columns, Element::F32),
            area: onnx.binary("Mul", &rows, &columns),
            columns,
            images,
        })
    }

    /// The index of every image, in order.
    pub(crate) fn every_image(&self, onnx: &mut OnnxBuilder) -> Value {
        let (zero, one) = (onnx.int(0), onnx.int(1));
        onnx.range(&zero, &self.images, &one)
    }

    /// Samples at `points`: image, row and column, which broadcast with each other. Channels come last.
    pub(crate) fn sampled(
        &self,
        onnx: &mut OnnxBuilder,
        points: [&Value; 3],
        sampling: Sampling,
        padding: Padding,
    ) -> Value {
        let [image, row, column] = points;
        let image = onnx.cast(image, Element::I64);
        let first = onnx.binary("Mul", &image, &self.area);
        let pick =
            |onnx: &mut OnnxBuilder, row: &Value, column: &Value| self.pick(onnx, &first, [row, column], padding);
        if sampling == Sampling::Nearest {
            // What is mirrored is mirrored before it is rounded: half a pixel has another neighbour then.
            let [row, column] = [(row, &self.height), (column, &self.width)].map(|(at, size)| match padding {
                Padding::Reflection | Padding::Symmetric => {
                    let at = inside(onnx, at, size, padding);
                    onnx.unary("Round", &at)
                }
                Padding::Constant(_) | Padding::Border => onnx.unary("Round", at),
            });
            return pick(onnx, &row, &column);
        }
        let (top, left) = (onnx.unary("Floor", row), onnx.unary("Floor", column));
        let (down, right) = (onnx.binary("Sub", row, &top), onnx.binary("Sub", column, &left));
        let (down, right) = (onnx.unsqueeze(&down, &[-1]), onnx.unsqueeze(&right, &[-1]));
        let (bottom, next) = (onnx.with_scalar("Add", &top, 1.0), onnx.with_scalar("Add", &left, 1.0));
        let [upper, lower] = [&top, &bottom].map(|row| {
            let (near, far) = (pick(onnx, row, &left), pick(onnx, row, &next));
            between(onnx, &near, &far, &right)
        });
        between(onnx, &upper, &lower, &down)
    }

    /// The channels at whole rows and columns.
    fn pick(&self, onnx: &mut OnnxBuilder, first: &Value, [row, column]: [&Value; 2], padding: Padding) -> Value {
        let inner_row = inside(onnx, row, &self.height, padding);
        let inner_column = inside(onnx, column, &self.width, padding);
        let (inner_row, inner_column) = (onnx.cast(&inner_row, Element::I64), onnx.cast(&inner_column, Element::I64));
        let above = onnx.binary("Mul", &inner_row, &self.columns);
        let above = onnx.binary("Add", &above, first);
        let index = onnx.binary("Add", &above, &inner_column);
        let picked = onnx.gather(&self.rows, &index, 0);
        let Padding::Constant(value) = padding else { return picked };
        let (rows, columns) = (is_inside(onnx, row, &self.height), is_inside(onnx, column, &self.width));
        let there = onnx.compare("And", &rows, &columns);
        let there = onnx.unsqueeze(&there, &[-1]);
        let value = onnx.scalar(value, &picked);
        onnx.select(&there, &picked, &value)
    }
}

/// The size of an axis as an int64 scalar.
fn size(onnx: &mut OnnxBuilder, x: &Value, axis: usize) -> Value {
    match x.dims().map(|dims| dims[axis]) {
        Some(Dim::Fixed(n)) => onnx.int(n as i64),
        _ => {
            let (shape, at) = (onnx.shape(x), onnx.int(axis as i64));
            onnx.gather(&shape, &at, 0)
        }
    }
}

/// `near` and `far` in these shares: 0 is all of `near`.
pub(super) fn between(onnx: &mut OnnxBuilder, near: &Value, far: &Value, share: &Value) -> Value {
    let one = onnx.scalar(1.0, share);
    let rest = onnx.binary("Sub", &one, share);
    let (near, far) = (onnx.binary("Mul", near, &rest), onnx.binary("Mul", far, share));
    onnx.binary("Add", &near, &far)
}

/// Whether a coordinate is between the centres of the first and the last pixel.
fn is_inside(onnx: &mut OnnxBuilder, at: &Value, size: &Value) -> Value {
    let zero = onnx.scalar(0.0, at);
    let last = onnx.with_scalar("Sub", size, 1.0);
    let (from, to) = (onnx.compare("GreaterOrEqual", at, &zero), onnx.compare("LessOrEqual", at, &last));
    onnx.compare("And", &from, &to)
}

/// Where in the image stands what is at a coordinate, which may be outside.
fn inside(onnx: &mut OnnxBuilder, at: &Value, size: &Value, padding: Padding) -> Value {
    let (zero, one) = (onnx.scalar(0.0, at), onnx.scalar(1.0, at));
    let last = onnx.binary("Sub", size, &one);
    let (at, period, turn) = match padding {
        Padding::Constant(_) | Padding::Border => {
            let at = onnx.binary("Max", at, &zero);
            return onnx.binary("Min", &at, &last);
        }
        Padding::Reflection => {
            // An image of one pixel has no period.
            let period = onnx.with_scalar("Mul", &last, 2.0);
            let period = onnx.binary("Max", &period, &one);
            (onnx.unary("Abs", at), period.clone(), period)
        }
        Padding::Symmetric => {
            let flipped = onnx.unary("Neg", at);
            let flipped = onnx.binary("Sub", &flipped, &one);
            let period = onnx.with_scalar("Mul", size, 2.0);
            (onnx.binary("Max", at, &flipped), period.clone(), onnx.binary("Sub", &period, &one))
        }
    };
    let times = onnx.binary("Div", &at, &period);
    let times = onnx.unary("Floor", &times);
    let whole = onnx.binary("Mul", &times, &period);
    let rest = onnx.binary("Sub", &at, &whole);
    let back = onnx.binary("Sub", &turn, &rest);
    let place = onnx.binary("Min", &rest, &back);
    // A huge coordinate loses its last digits in this.
    let place = onnx.binary("Max", &place, &zero);
    onnx.binary("Min", &place, &last)
}

fn resample(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, coordinates) = (op.value("x")?, op.value("coordinates")?);
    let (sampling, padding, range) = (Sampling::read(op)?, Padding::read(op)?, Range::read(op)?);
    let aligned = op.bool_or("align_corners", false)?;
    let coordinates = onnx.cast(&coordinates, Element::F32);
    Ok(vec![resampled(onnx, &x, &coordinates, (sampling, padding), (range, aligned))?])
}

/// Samples at coordinates of shape (batch, rows, columns, 2), of which the last axis has column and row.
fn resampled(
    onnx: &mut OnnxBuilder,
    x: &Value,
    coordinates: &Value,
    (sampling, padding): (Sampling, Padding),
    (range, aligned): (Range, bool),
) -> Result<Value, Fault> {
    let pixels = Pixels::of(onnx, x)?;
    let [column, row] = [0, 1].map(|i| {
        let at = onnx.int(i);
        onnx.gather(coordinates, &at, 3)
    });
    let row = range.in_pixels(onnx, &row, &pixels.height, aligned);
    let column = range.in_pixels(onnx, &column, &pixels.width, aligned);
    let images = pixels.every_image(onnx);
    let images = onnx.unsqueeze(&images, &[1, 2]);
    let last = pixels.sampled(onnx, [&images, &row, &column], sampling, padding);
    Ok(onnx.transpose(&last, &[0, 3, 1, 2]))
}

/// Points from -1 to 1 of the result, mapped by a matrix (a0, a1, a2, b0, b1, b2) for all images or for each.
fn affine(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, matrix) = (op.value("x")?, op.value("transform_matrix")?);
    let (height, width) = (side(op, "output_height")?, side(op, "output_width")?);
    let (sampling, padding, range) = (Sampling::read(op)?, Padding::read(op)?, Range::read(op)?);
    let aligned = op.bool_or("align_corners", true)?;
    made_count(&[height, width, 3])?;
    let coordinate = |i: usize, n: usize| match (range, aligned) {
        (Range::Pixels, _) => i as f32,
        (Range::MinusOneToOne, true) => {
            if n > 1 {
                2.0 * i as f32 / (n - 1) as f32 - 1.0
            } else {
                0.0
            }
        }
        (Range::MinusOneToOne, false) => (2 * i + 1) as f32 / n as f32 - 1.0,
        (Range::ZeroToOne, true) => {
            if n > 1 {
                i as f32 / (n - 1) as f32
            } else {
                0.5
            }
        }
        (Range::ZeroToOne, false) => (i as f32 + 0.5) / n as f32,
    };
    let point = |i: usize| [coordinate(i % width, width), coordinate(i / width, height), 1.0];
    let points = onnx.floats(&[height * width, 3], (0..height * width).flat_map(point).collect());
    let matrix = onnx.reshape(&matrix, &[-1, 2, 3]);
    let matrix = onnx.transpose(&matrix, &[0, 2, 1]);
    let mapped = onnx.mat_mul(&points, &matrix);
    let coordinates = onnx.reshape(&mapped, &[-1, height as i64, width as i64, 2]);
    Ok(vec![resampled(onnx, &x, &coordinates, (sampling, padding), (range, aligned))?])
}

/// A target size.
fn side(op: &OpReader<'_>, parameter: &str) -> Result<usize, Fault> {
    let size = op.int_or(parameter, 1)?;
    usize::try_from(size)
        .ok()
        .filter(|size| (1..1 << 20).contains(size))
        .ok_or_else(|| format!("{parameter} is {size}, expected at least 1").into())
}

/// How the places of samples are spread over a box, as over an image (docs of `resize_bilinear`, coremltools 9.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grid {
    StrictAlignCorners,
    AlignCorners,
    Default,
    OffsetCorners,
    UnalignCorners,
}

impl Grid {
    pub(super) fn named(name: &str) -> Result<Grid, Fault> {
        Ok(match name {
            "STRICT_ALIGN_CORNERS" => Grid::StrictAlignCorners,
            "ALIGN_CORNERS" => Grid::AlignCorners,
            "DEFAULT" => Grid::Default,
            "OFFSET_CORNERS" => Grid::OffsetCorners,
            "UNALIGN_CORNERS" => Grid::UnalignCorners,
            other => return Err(format!("sampling_mode {other:?} is not known").into()),
        })
    }

    /// `count` places from `start` to `end`, both of shape (boxes, 1): (boxes, count). `last` is the image's last pixel.
    fn places(self, onnx: &mut OnnxBuilder, count: usize, [start, end]: [&Value; 2], last: &Value) -> Value {
        let n = count as f32;
        let shares = |onnx: &mut OnnxBuilder, share: &dyn Fn(f32) -> f32| {
            onnx.floats(&[1, count], (0..count).map(|i| share(i as f32)).collect())
        };
        if matches!(self, Grid::StrictAlignCorners | Grid::AlignCorners) {
            let alone = if self == Grid::AlignCorners { 0.5 } else { 0.0 };
            let shares = shares(onnx, &|i| if count > 1 { i / (n - 1.0) } else { alone });
            let span = onnx.binary("Sub", end, start);
            let steps = onnx.binary("Mul", &span, &shares);
            return onnx.binary("Add", start, &steps);
        }
        // A box that is inside out means the whole image where corners are not aligned (coremltools 9.0's tests).
        let zero = onnx.scalar(0.0, start);
        let turned = onnx.compare("Less", end, start);
        let (start, end) = (onnx.select(&turned, &zero, start), onnx.select(&turned, last, end));
        let span = onnx.binary("Sub", &end, &start);
        let (span, shares, offset) = match self {
            Grid::OffsetCorners => {
                let one = onnx.scalar(1.0, &span);
                (onnx.binary("Max", &span, &one), shares(onnx, &|i| (i + 0.5) / n), 0.0)
            }
            Grid::UnalignCorners => (onnx.with_scalar("Add", &span, 1.0), shares(onnx, &|i| (i + 0.5) / n), -0.5),
            _ => (onnx.with_scalar("Add", &span, 1.0), shares(onnx, &|i| i / n), 0.0),
        };
        let steps = onnx.binary("Mul", &span, &shares);
        let steps = if offset == 0.0 { steps } else { onnx.with_scalar("Add", &steps, offset) };
        let places = onnx.binary("Add", &start, &steps);
        let places = onnx.binary("Max", &places, &start);
        onnx.binary("Min", &places, &end)
    }
}

/// What a crop takes of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crop {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Whether boxes are from 0 to 1.
    pub(crate) normalized: bool,
    pub(crate) scale: f32,
    /// Whether a box has centre and size instead of its corners.
    pub(crate) centred: bool,
    pub(crate) width_first: bool,
    pub(crate) grid: Grid,
    pub(crate) padding: f32,
}

impl Crop {
    fn read(op: &OpReader<'_>) -> Result<Crop, Fault> {
        let (centred, width_first) = match op.string_or("box_coordinate_mode", "CORNERS_HEIGHT_FIRST")?.as_str() {
            "CORNERS_HEIGHT_FIRST" => (false, false),
            "CORNERS_WIDTH_FIRST" => (false, true),
            "CENTER_SIZE_HEIGHT_FIRST" => (true, false),
            "CENTER_SIZE_WIDTH_FIRST" => (true, true),
            other => return Err(format!("box_coordinate_mode {other:?} is not known").into()),
        };
        Ok(Crop {
            height: side(op, "target_height")?,
            width: side(op, "target_width")?,
            normalized: op.bool_or("normalized_coordinates", false)?,
            scale: op.float_or("spatial_scale", 1.0)?,
            centred,
            width_first,
            grid: Grid::named(&op.string_or("sampling_mode", "DEFAULT")?)?,
            padding: op.float_or("pad_value", 0.0)?,
        })
    }

    /// Crops each image by each box, of shape (boxes, 4), or one image by one box where `images` says which.
    ///
    /// Gives (boxes, images, channels, height, width), and with `images` no second axis.
    pub(crate) fn cut(
        &self,
        onnx: &mut OnnxBuilder,
        x: &Value,
        boxes: &Value,
        images: Option<&Value>,
    ) -> Result<Value, Fault> {
        let pixels = Pixels::of(onnx, x)?;
        let [top, left, bottom, right] = self.corners(onnx, boxes, &pixels);
        let last = onnx.with_scalar("Sub", &pixels.height, 1.0);
        let rows = self.grid.places(onnx, self.height, [&top, &bottom], &last);
        let last = onnx.with_scalar("Sub", &pixels.width, 1.0);
        let columns = self.grid.places(onnx, self.width, [&left, &right], &last);
        // Points of shape (boxes, images, rows, columns), without images where each box has its own.
        let (images, rows, columns, order): (_, _, _, &[i64]) = match images {
            Some(images) => (
                onnx.unsqueeze(images, &[1, 2]),
                onnx.unsqueeze(&rows, &[2]),
                onnx.unsqueeze(&columns, &[1]),
                &[0, 3, 1, 2],
            ),
            None => {
                let every = pixels.every_image(onnx);
                (
                    onnx.unsqueeze(&every, &[0, 2, 3]),
                    onnx.unsqueeze(&rows, &[1, 3]),
                    onnx.unsqueeze(&columns, &[1, 2]),
                    &[0, 1, 4, 2, 3],
                )
            }
        };
        let sampled = pixels.sampled(onnx, [&images, &rows, &columns], Sampling::Bilinear, Padding::Border);
        // A point outside of the image is padding, however near it is.
        let (in_rows, in_columns) = (is_inside(onnx, &rows, &pixels.height), is_inside(onnx, &columns, &pixels.width));
        let there = onnx.compare("And", &in_rows, &in_columns);
        let there = onnx.unsqueeze(&there, &[-1]);
        let padding = onnx.scalar(self.padding, &sampled);
        let padded = onnx.select(&there, &sampled, &padding);
        Ok(onnx.transpose(&padded, order))
    }

    /// Top, left, bottom and right in pixels, each of shape (boxes, 1).
    fn corners(&self, onnx: &mut OnnxBuilder, boxes: &Value, pixels: &Pixels) -> [Value; 4] {
        let boxes = onnx.cast(boxes, Element::F32);
        let mut columns: [Value; 4] = std::array::from_fn(|i| {
            let i = i as i64;
            onnx.slice(&boxes, &[i], &[i + 1], &[1], &[1])
        });
        if self.width_first {
            columns.swap(0, 1);
            columns.swap(2, 3);
        }
        if self.centred {
            for i in 0..2 {
                let half = onnx.with_scalar("Mul", &columns[i + 2], 0.5);
                columns[i + 2] = onnx.binary("Add", &columns[i], &half);
                columns[i] = onnx.binary("Sub", &columns[i], &half);
            }
        }
        for (i, column) in columns.iter_mut().enumerate() {
            if self.scale != 1.0 {
                *column = onnx.with_scalar("Mul", column, self.scale);
            }
            if self.normalized {
                let size = if i % 2 == 0 { &pixels.height } else { &pixels.width };
                let last = onnx.with_scalar("Sub", size, 1.0);
                *column = onnx.binary("Mul", column, &last);
            }
        }
        columns
    }
}

/// Up to iOS 16, boxes have shape (n, 1, 4 or 5, 1, 1), five numbers with the image in front; from iOS 17 on (n, 4).
fn crop_resize(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, crop) = (op.value("x")?, Crop::read(op)?);
    if let Some(boxes) = op.maybe("boxes")? {
        let images = match op.maybe("box_indices")? {
            Some(images) => images,
            None => {
                let count = size(onnx, &boxes, 0);
                let (zero, one) = (onnx.int(0), onnx.int(1));
                onnx.range(&zero, &count, &one)
            }
        };
        return Ok(vec![crop.cut(onnx, &x, &boxes, Some(&images))?]);
    }
    let roi = op.value("roi")?;
    let numbers = match roi.dims() {
        Some([_, _, Dim::Fixed(numbers @ (4 | 5)), _, _]) => *numbers as i64,
        _ => return Err("roi must have the shape (boxes, 1, 4 or 5, 1, 1)".into()),
    };
    let rows = onnx.reshape(&roi, &[-1, numbers]);
    if numbers == 4 {
        return Ok(vec![crop.cut(onnx, &x, &rows, None)?]);
    }
    let boxes = onnx.slice(&rows, &[1], &[5], &[1], &[1]);
    let images = onnx.slice(&rows, &[0], &[1], &[1], &[1]);
    let images = onnx.reshape(&images, &[-1]);
    let cut = crop.cut(onnx, &x, &boxes, Some(&images))?;
    Ok(vec![onnx.unsqueeze(&cut, &[1])])
}
