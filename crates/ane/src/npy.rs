//! numpy's files: `.npy` with one array, `.npz` with several by name.
//!
//! Knows arrays and strings; what a model makes of them is [`inputs`](crate::inputs)' business.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, Write},
    path::Path,
};

use apple_silicon::ane::features::{Array, Elements};
use npyz::{AutoSerialize, DType, Deserialize, NpyFile, Order, Serialize, TypeChar, WriteOptions, WriterBuilder};
use zip::{CompressionMethod, ZipArchive, ZipWriter, result::ZipError, write::SimpleFileOptions};

use crate::interrupt::WholeFile;

/// What one file in numpy's format holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Npy {
    /// Numbers or booleans.
    Array(Array),
    /// Strings of any shape, in row-major order.
    Strings(Vec<String>),
}

/// What is wrong with a file: half a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NpyError(String);

impl NpyError {
    fn new(what: &str, why: impl std::fmt::Display) -> NpyError {
        NpyError(format!("{what}: {why}"))
    }
}

/// Reads a `.npy` file.
pub(crate) fn read_npy(path: &Path) -> Result<Npy, NpyError> {
    let file = File::open(path).map_err(|e| NpyError::new("cannot be opened", e))?;
    read(BufReader::new(file))
}

/// Reads every array of a `.npz` file, in its order.
pub(crate) fn read_npz(path: &Path) -> Result<Vec<(String, Npy)>, NpyError> {
    let file = File::open(path).map_err(|e| NpyError::new("cannot be opened", e))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|e| NpyError::new("is not an .npz file of numpy's", e))?;
    let mut arrays = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let damaged = |e: ZipError| NpyError::new("is a damaged .npz file", e);
        let entry = archive.by_index(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?;
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        let array = read(BufReader::new(entry)).map_err(|e| NpyError(format!("the array {name:?} {e}")))?;
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// Writes arrays by name, uncompressed as `numpy.savez` does. The file appears when it is whole.
pub(crate) fn write_npz(path: &Path, arrays: &[(String, Npy)]) -> anyhow::Result<()> {
    let mut file = WholeFile::create(path)?;
    write_archive(&mut file, arrays)?;
    file.finish()?;
    Ok(())
}

fn write_archive(file: impl Write + Seek, arrays: &[(String, Npy)]) -> anyhow::Result<()> {
    let mut archive = ZipWriter::new(file);
    // Whether an entry passes 4 GiB has to be said before it is written.
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    for (name, array) in arrays {
        archive.start_file(format!("{name}.npy"), options)?;
        write(&mut archive, array)?;
    }
    archive.finish()?;
    Ok(())
}

fn read(reader: impl Read) -> Result<Npy, NpyError> {
    let file = NpyFile::new(reader).map_err(|e| NpyError::new("is not in numpy's format", e))?;
    let DType::Plain(dtype) = file.dtype() else {
        return Err(NpyError(format!("has elements of several fields ({})", file.dtype().descr())));
    };
    let values = match (dtype.type_char(), dtype.size_field()) {
        (TypeChar::UnicodeStr, _) => return Ok(Npy::Strings(in_rows(file)?.1)),
        (TypeChar::Float, 2) => elements::<half::f16>(file)?,
        (TypeChar::Float, 4) => elements::<f32>(file)?,
        (TypeChar::Float, 8) => elements::<f64>(file)?,
        (TypeChar::Int, 1) => elements::<i8>(file)?,
        (TypeChar::Int, 2) => widened::<i16, i32>(file)?,
        (TypeChar::Int, 4) => elements::<i32>(file)?,
        (TypeChar::Int, 8) => elements::<i64>(file)?,
        (TypeChar::Uint, 1) => elements::<u8>(file)?,
        (TypeChar::Uint, 2) => widened::<u16, i32>(file)?,
        (TypeChar::Uint, 4) => widened::<u32, i64>(file)?,
        (TypeChar::Uint, 8) => widened::<u64, i64>(file)?,
        (TypeChar::Bool, _) => elements::<bool>(file)?,
        _ => return Err(NpyError(format!("has elements of type {dtype}, which no model takes"))),
    };
    let (shape, values) = values;
    Array::new(shape, values).map(Npy::Array).map_err(|e| NpyError(e.to_string()))
}

fn elements<T: Deserialize + Clone>(file: NpyFile<impl Read>) -> Result<(Vec<usize>, Elements), NpyError>
where
    Elements: From<Vec<T>>,
{
    let (shape, values) = in_rows::<T>(file)?;
    Ok((shape, values.into()))
}

/// Elements of a type that features do not have, as the next wider one that they do have.
fn widened<T, W>(file: NpyFile<impl Read>) -> Result<(Vec<usize>, Elements), NpyError>
where
    T: Deserialize + Clone + std::fmt::Display,
    W: TryFrom<T>,
    Elements: From<Vec<W>>,
{
    let (shape, values) = in_rows::<T>(file)?;
    let wide: Result<Vec<W>, NpyError> = values
        .into_iter()
        .map(|value| W::try_from(value.clone()).map_err(|_| NpyError(format!("holds {value}, which is too large"))))
        .collect();
    Ok((shape, wide?.into()))
}

/// Shape and elements in row-major order, whatever the order in the file.
fn in_rows<T: Deserialize + Clone>(file: NpyFile<impl Read>) -> Result<(Vec<usize>, Vec<T>), NpyError> {
    let shape: Vec<usize> = file.shape().iter().map(|&size| size as usize).collect();
    let order = file.order();
    let values: Vec<T> = file.into_vec().map_err(|e| NpyError::new("cannot be read", e))?;
    if shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)) != Some(values.len()) {
        return Err(NpyError(format!("has {} elements and not those of its shape {shape:?}", values.len())));
    }
    let values = match order {
        Order::C => values,
        Order::Fortran => from_columns(&shape, &values),
    };
    Ok((shape, values))
}

fn from_columns<T: Clone>(shape: &[usize], values: &[T]) -> Vec<T> {
    let place = |row_major: usize| {
        let (mut rest, mut place) = (row_major, 0);
        for (axis, &size) in shape.iter().enumerate().rev() {
            place += rest % size * shape[..axis].iter().product::<usize>();
            rest /= size;
        }
        place
    };
    (0..values.len()).map(|index| values[place(index)].clone()).collect()
}

fn write(out: impl Write, npy: &Npy) -> std::io::Result<()> {
    match npy {
        Npy::Strings(strings) => write_strings(out, strings),
        Npy::Array(array) => match array.elements() {
            Elements::Float16(values) => write_values(out, array.shape(), values),
            Elements::Float32(values) => write_values(out, array.shape(), values),
            Elements::Float64(values) => write_values(out, array.shape(), values),
            Elements::Int32(values) => write_values(out, array.shape(), values),
            Elements::Int8(values) => write_values(out, array.shape(), values),
            Elements::Int64(values) => write_values(out, array.shape(), values),
            Elements::UInt8(values) => write_values(out, array.shape(), values),
            Elements::Bool(values) => write_values(out, array.shape(), values),
        },
    }
}

fn write_values<T: AutoSerialize>(out: impl Write, shape: &[usize], values: &[T]) -> std::io::Result<()> {
    let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    let mut writer = WriteOptions::new().default_dtype().shape(&shape).writer(out).begin_nd()?;
    writer.extend(values)?;
    writer.finish()
}

fn write_strings(out: impl Write, strings: &[String]) -> std::io::Result<()> {
    let longest = strings.iter().map(|string| string.chars().count()).max().unwrap_or(0).max(1);
    let dtype = format!("<U{longest}").parse().expect("a number after U makes a type");
    write_as(out, DType::new_scalar(dtype), strings)
}

fn write_as<T: Serialize>(out: impl Write, dtype: DType, values: &[T]) -> std::io::Result<()> {
    let options = WriteOptions::new().dtype(dtype).shape(&[values.len() as u64]);
    let mut writer = options.writer(out).begin_nd()?;
    writer.extend(values)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let array = |values: Elements| Npy::Array(Array::new([2, 1], values).unwrap());
        let arrays: Vec<(String, Npy)> = [
            array(vec![half::f16::ONE, half::f16::NEG_INFINITY].into()),
            array(vec![1.5f32, f32::NAN].into()),
            array(vec![1.5f64, -2.0].into()),
            array(vec![i32::MIN, 7].into()),
            array(vec![-128i8, 127].into()),
            array(vec![i64::MAX, -1].into()),
            array(vec![0u8, 255].into()),
            array(vec![true, false].into()),
            Npy::Array(Array::new([], vec![4i64]).unwrap()),
            Npy::Strings(vec!["cat".to_owned(), "Stra\u{df}e".to_owned(), String::new()]),
        ]
        .into_iter()
        .enumerate()
        .map(|(i, npy)| (format!("array/{i}"), npy))
        .collect();

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrays.npz");
        write_npz(&path, &arrays).unwrap();
        // NaN is not equal to itself, so compare what is shown.
        assert_eq!(format!("{:?}", read_npz(&path).unwrap()), format!("{arrays:?}"));
    }

    /// A `.npy` file with this header and these bytes after it.
    fn check(header: &str, data: &[u8], expected: &str) {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend_from_slice(&(header.len() as u16).to_le_bytes());
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(data);
        let shown = match read(Cursor::new(file)) {
            Ok(npy) => format!("{npy:?}"),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn other_layouts_are_read() {
        let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }\n";
        check(header, &[1, 4, 2, 5, 3, 6], "UInt8([1, 2, 3, 4, 5, 6])");
        check("{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }\n", &[1, 0, 255, 255], "Int32([256, -1])");
        check("{'descr': '<u8', 'fortran_order': False, 'shape': (1,), }\n", &[255; 8], "too large");
    }

    #[test]
    fn what_no_model_takes_is_refused() {
        check("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }\n", &[0; 8], "type <c8, which no model takes");
        check("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", &[0; 8], "which no model takes");
        check("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }\n", &[0; 2], "cannot be read");
        check("nonsense", &[], "is not in numpy's format");
    }
}
