//! Inputs that are made up: the same ones for the same seed, on every machine.

use apple_silicon::ane::features::{Array, ArrayType, Elements, Feature, Image, Pixels};
use coreml_format::schema::{ArrayKind, ColorSpace, Feature as Declared, FeatureKind, ImageKind, ShapeFlexibility};

use crate::{exit::Refusal, schema};

/// An input of the default size: floats from 0 to 1, whole numbers that are 0 or 1 (so that indices and masks are
/// valid), pictures of noise.
pub(super) fn feature(declared: &Declared, numbers: &mut Numbers) -> Result<Feature, Refusal> {
    match &declared.kind {
        FeatureKind::Int64 => Ok(numbers.bit().into()),
        FeatureKind::Double => Ok(f64::from(numbers.unit()).into()),
        FeatureKind::Image(kind) => image(kind, numbers),
        FeatureKind::MultiArray(kind) => array(kind, numbers),
        FeatureKind::String | FeatureKind::Dictionary(_) | FeatureKind::Sequence(..) | FeatureKind::State(_) => {
            Err(Refusal::Input(format!(
                "the input {:?} ({}) is not made up by --random; give it with --input",
                declared.name,
                schema::describe(declared)
            )))
        }
    }
}

fn array(kind: &ArrayKind, numbers: &mut Numbers) -> Result<Feature, Refusal> {
    let shape = match &kind.flexibility {
        ShapeFlexibility::Ranges(ranges) if kind.shape.is_empty() => ranges.iter().map(|range| range.lower).collect(),
        _ => kind.shape.clone(),
    };
    let count = elements(&shape)?;
    let elements: Elements = match kind.dtype {
        ArrayType::Float16 | ArrayType::Float32 | ArrayType::Float64 => {
            (0..count).map(|_| numbers.unit()).collect::<Vec<_>>().into()
        }
        ArrayType::Int32 | ArrayType::Int8 => (0..count).map(|_| numbers.bit()).collect::<Vec<_>>().into(),
    };
    Array::new(shape, elements).map(Feature::from).map_err(|e| Refusal::Input(e.to_string()))
}

fn image(kind: &ImageKind, numbers: &mut Numbers) -> Result<Feature, Refusal> {
    let count = elements(&[kind.width, kind.height, kind.color.channels()])?;
    let bytes = (0..count).map(|_| numbers.next() as u8).collect();
    let pixels = match kind.color {
        ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 => Pixels::Gray(bytes),
        ColorSpace::Rgb | ColorSpace::Bgr => Pixels::Rgb(bytes),
    };
    Image::new(kind.width, kind.height, pixels).map(Feature::from).map_err(|e| Refusal::Input(e.to_string()))
}

/// The number of elements, unless a damaged model declares a size that would take all memory.
fn elements(shape: &[usize]) -> Result<usize, Refusal> {
    const MOST: usize = 1 << 27;
    let count = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).filter(|&count| count <= MOST);
    count.ok_or_else(|| Refusal::Input(format!("an input of size {shape:?} is too large to be made up by --random")))
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1, without 1.
    fn unit(&mut self) -> f32 {
        const STEPS: f32 = (1 << 24) as f32;
        (self.next() >> 40) as f32 / STEPS
    }

    /// 0 or 1.
    fn bit(&mut self) -> i64 {
        (self.next() >> 63) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same() {
        let mut numbers = Numbers::new(1_234_567);
        // The published test vector.
        assert_eq!([numbers.next(), numbers.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert!((0..1000).map(|_| numbers.unit()).all(|x| (0.0..1.0).contains(&x)));
    }
}
