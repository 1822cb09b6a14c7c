//! What a model takes and gives: features, their kinds and shapes, and metadata.

use std::collections::BTreeMap;

/// Inputs, outputs and states of one function of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// What a prediction takes.
    pub inputs: Vec<Feature>,
    /// What a prediction gives.
    pub outputs: Vec<Feature>,
    /// What lives on from one prediction to the next.
    pub states: Vec<Feature>,
    /// The output with the predicted class or value.
    pub predicted_feature: Option<String>,
    /// The output with the probability of each class.
    pub predicted_probabilities: Option<String>,
}

/// A model's whole description.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// The default function's interface.
    pub interface: Interface,
    /// Every function of a multi-function model by name, the default one too; empty for any other model.
    pub functions: BTreeMap<String, Interface>,
    /// The function that runs where none is asked for; `main` unless the model says otherwise.
    pub default_function: String,
    /// Author, licence and what else the model says of itself.
    pub metadata: Metadata,
    /// Class labels of a classifier, in the order of its scores.
    pub class_labels: Option<ClassLabels>,
}

/// What a model says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// One or two sentences.
    pub description: String,
    /// The model's own version.
    pub version: String,
    /// Who made it.
    pub author: String,
    /// Its licence.
    pub license: String,
    /// Anything else, by key.
    pub user_defined: BTreeMap<String, String>,
}

/// The labels of a classifier.
#[derive(Clone, Debug, PartialEq)]
pub enum ClassLabels {
    /// Labels that are words.
    Strings(Vec<String>),
    /// Labels that are numbers.
    Int64s(Vec<i64>),
}

impl ClassLabels {
    /// The number of classes.
    pub fn len(&self) -> usize {
        match self {
            ClassLabels::Strings(labels) => labels.len(),
            ClassLabels::Int64s(labels) => labels.len(),
        }
    }

    /// Whether there is no class at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One input, output or state.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// The name that callers use.
    pub name: String,
    /// What the model's author says of it.
    pub description: String,
    /// What it is.
    pub kind: FeatureKind,
    /// Whether a caller may leave it out.
    pub optional: bool,
}

/// The kind of a feature.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureKind {
    /// A whole number.
    Int64,
    /// A real number.
    Double,
    /// Text.
    String,
    /// A picture.
    Image(ImageKind),
    /// A tensor.
    MultiArray(ArrayKind),
    /// A dictionary with keys of this type and real values.
    Dictionary(KeyKind),
    /// A list of strings or of whole numbers, with its length's bounds.
    Sequence(KeyKind, SizeRange),
    /// State with this tensor inside.
    State(ArrayKind),
}

/// Type of a dictionary's keys or a sequence's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Whole numbers.
    Int64,
    /// Strings.
    String,
}

/// A multi-array feature.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrayKind {
    /// The element type.
    pub dtype: ArrayType,
    /// The default shape. Empty where the model gives none.
    pub shape: Vec<usize>,
    /// Which other shapes are taken.
    pub flexibility: ShapeFlexibility,
    /// The value of every element of an optional input that is left out.
    pub default: Option<f64>,
}

/// Element types that Core ML's multi-arrays have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum ArrayType {
    Float16,
    Float32,
    Float64,
    Int32,
    Int8,
}

/// Shapes that a multi-array may have.
#[derive(Clone, Debug, PartialEq)]
pub enum ShapeFlexibility {
    /// The default shape alone.
    Fixed,
    /// Any of these, the default among them.
    Enumerated(Vec<Vec<usize>>),
    /// Each dimension within its range.
    Ranges(Vec<SizeRange>),
}

/// An inclusive range of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    /// The smallest size.
    pub lower: usize,
    /// The largest size; `None` where there is no limit.
    pub upper: Option<usize>,
}

impl SizeRange {
    /// Whether `size` lies in the range.
    pub fn contains(&self, size: usize) -> bool {
        size >= self.lower && self.upper.is_none_or(|upper| size <= upper)
    }
}

/// An image feature.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageKind {
    /// Default width in pixels.
    pub width: usize,
    /// Default height in pixels.
    pub height: usize,
    /// Channels and their order.
    pub color: ColorSpace,
    /// Which other sizes are taken.
    pub flexibility: ImageFlexibility,
}

/// Channels of an image, in the order that the network sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorSpace {
    /// One channel of 8 bits.
    Grayscale,
    /// One channel of half floats.
    GrayscaleFloat16,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

impl ColorSpace {
    /// The number of channels that the network sees.
    pub fn channels(self) -> usize {
        match self {
            ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 => 1,
            ColorSpace::Rgb | ColorSpace::Bgr => 3,
        }
    }
}

/// Sizes that an image may have.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageFlexibility {
    /// The default size alone.
    Fixed,
    /// Any of these (width, height).
    Enumerated(Vec<(usize, usize)>),
    /// Width and height each within a range.
    Ranges {
        /// Widths.
        width: SizeRange,
        /// Heights.
        height: SizeRange,
    },
}
