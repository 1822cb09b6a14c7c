//! What the tests on whole models share: reading npz files, and comparing outputs with what is in them.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod network;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use apple_silicon::ane::{
    engines::{EngineChoice, Status, installed},
    features::{Array, Dictionary, Elements, Feature, Features, Image, Pixels},
};
use half::f16;
use npyz::{DType, NpyFile, Order, TypeChar};

/// The folder `shared`, which is not part of this repository; `None` where it is absent.
pub(crate) fn shared(folder: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("ANE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    Some(shared.join(folder)).filter(|folder| folder.is_dir())
}

/// Whether tests can run on this engine; says so where they cannot.
pub(crate) fn is_there(engine: EngineChoice) -> bool {
    let found =
        installed().iter().any(|e| e.engine == engine.name() && matches!(e.status, Status::Chosen | Status::Available));
    if !found {
        println!("skipped: {engine} was not found");
    }
    found
}

/// Features out of an npz file of inputs.
pub(crate) fn read_features(path: &Path) -> Features {
    read_npz(path, true).into_iter().map(|(name, npy)| (name, npy.into_feature())).collect()
}

/// Compares every number in `file` with the output of that name; `tolerance` (rtol, atol) is told the largest value.
/// Says what is off.
pub(crate) fn compare(file: &Path, outputs: &Features, tolerance: impl Fn(f64) -> (f64, f64)) -> Result<(), String> {
    for (name, expected) in read_npz(file, false) {
        let Npy::Numbers { shape, values } = expected else { continue };
        let (got_shape, got) = numbers(outputs.get(&name).ok_or_else(|| format!("no output {name}"))?);
        let scalars = values.len() == 1 && got.len() == 1;
        if got_shape != shape && !scalars {
            return Err(format!("{name} has shape {got_shape:?}, not {shape:?}"));
        }
        let (rtol, atol) = tolerance(values.iter().fold(0.0, |largest, v| v.abs().max(largest)));
        let same = |e: f64, g: f64| e == g || (e.is_nan() && g.is_nan()) || (e - g).abs() <= atol + rtol * e.abs();
        let wrong = values.iter().zip(&got).filter(|&(e, g)| !same(*e, *g)).count();
        if wrong > 0 {
            let worst = values.iter().zip(&got).map(|(e, g)| (e - g).abs()).fold(0.0, f64::max);
            return Err(format!(
                "{wrong} of {} values of {name} are off, by up to {worst:.2e} (rtol {rtol:.1e}, atol {atol:.1e})",
                values.len()
            ));
        }
    }
    Ok(())
}

fn numbers(feature: &Feature) -> (Vec<usize>, Vec<f64>) {
    match feature {
        Feature::Array(array) => (array.shape().to_vec(), array.to_f64s()),
        Feature::Dictionary(Dictionary::Strings(entries)) => {
            (vec![entries.len()], entries.iter().map(|(_, value)| *value).collect())
        }
        Feature::Dictionary(Dictionary::Int64s(entries)) => {
            (vec![entries.len()], entries.iter().map(|(_, value)| *value).collect())
        }
        Feature::Int64(value) => (vec![1], vec![*value as f64]),
        Feature::Double(value) => (vec![1], vec![*value]),
        other => panic!("{} has no numbers", other.describe()),
    }
}

/// One array of an npz file.
enum Npy {
    /// Floats and whole numbers, as doubles.
    Numbers { shape: Vec<usize>, values: Vec<f64> },
    /// Numbers as they are typed in the file, for inputs.
    Typed(Array),
    /// Height x width, or height x width x (red, green, blue).
    Picture(Image),
    /// Words, which stand elsewhere as well.
    Words,
}

impl Npy {
    fn into_feature(self) -> Feature {
        match self {
            Npy::Numbers { shape, values } => Feature::Array(Array::new(shape, values).unwrap()),
            Npy::Typed(array) => Feature::Array(array),
            Npy::Picture(image) => Feature::Image(image),
            Npy::Words => panic!("words are no input"),
        }
    }
}

fn read_npz(path: &Path, typed: bool) -> Vec<(String, Npy)> {
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    let mut read = |name: &str| read_npy(NpyFile::new(archive.by_name(name).unwrap()).unwrap(), typed);
    names.iter().map(|name| (name.trim_end_matches(".npy").to_owned(), read(name))).collect()
}

fn read_npy(npy: NpyFile<impl Read>, typed: bool) -> Npy {
    let shape: Vec<usize> = npy.shape().iter().map(|&d| d as usize).collect();
    let DType::Plain(dtype) = npy.dtype() else { panic!("a structured array") };
    let by_column = npy.order() == Order::Fortran;
    let elements = match (dtype.type_char(), dtype.size_field()) {
        (TypeChar::Float, 2) => Elements::Float16(npy.into_vec::<f16>().unwrap()),
        (TypeChar::Float, 4) => Elements::Float32(npy.into_vec().unwrap()),
        (TypeChar::Float, 8) => Elements::Float64(npy.into_vec().unwrap()),
        (TypeChar::Int, 4) => Elements::Int32(npy.into_vec().unwrap()),
        (TypeChar::Int, 8) => Elements::Int64(npy.into_vec().unwrap()),
        (TypeChar::Uint, 1) => {
            let bytes = npy.into_vec().unwrap();
            let (height, width, pixels) = match shape[..] {
                [height, width] => (height, width, Pixels::Gray(bytes)),
                [height, width, 3] => (height, width, Pixels::Rgb(bytes)),
                _ => panic!("no picture has shape {shape:?}"),
            };
            return Npy::Picture(Image::new(width, height, pixels).unwrap());
        }
        (TypeChar::UnicodeStr, _) => return Npy::Words,
        other => panic!("{other:?} is not read here"),
    };
    let array = Array::new(shape.clone(), elements).unwrap();
    if typed {
        assert!(!by_column, "inputs are stored row by row");
        return Npy::Typed(array);
    }
    let values = array.to_f64s();
    Npy::Numbers { values: if by_column { rows_of(&shape, &values) } else { values }, shape }
}

/// Elements in row-major order, out of those in column-major order.
fn rows_of(shape: &[usize], columns: &[f64]) -> Vec<f64> {
    let at = |mut row_index: usize| {
        let (mut index, mut stride) = (0, columns.len());
        for &size in shape.iter().rev() {
            stride /= size;
            index += row_index % size * stride;
            row_index /= size;
        }
        columns[index]
    };
    (0..columns.len()).map(at).collect()
}
