//! The graph that ONNX Runtime has optimised, written by it and read back with its weights.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use half::f16;
use ort::{
    session::builder::{GraphOptimizationLevel, SessionBuilder},
    value::{DynValue, PrimitiveTensorElementType, Tensor},
};
use prost::Message;
use tempfile::TempDir;

use super::model::NamedWeight;
use crate::ane::engines::compiled::{CompiledFiles, GRAPH, WEIGHTS, read_whole};

/// Bytes from which a weight is shared; smaller ones stay in the graph, and in each session.
const SHARED_FROM: &str = "1024";

/// Lets the session that will be made write its optimised graph to `folder`.
pub(super) fn write_to(builder: SessionBuilder, folder: &Path) -> ort::Result<SessionBuilder> {
    Ok(builder
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_optimized_model_path(folder.join(GRAPH))?
        .with_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)?
        .with_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", SHARED_FROM)?)
}

/// An optimised graph, for sessions without optimisation.
pub(super) struct Optimized {
    /// Weights by the names that they have in the graph.
    pub(super) weights: Vec<NamedWeight>,
    /// Holds the graph's file, and one for the weights that has their size but nothing in it: ONNX Runtime insists on
    /// a file, and reads nothing of it where all weights are handed over.
    folder: TempDir,
}

impl Optimized {
    /// The folder with the graph's file.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Reads what was written. `None` where a nested graph has a weight outside the file, which ONNX Runtime does not let
/// sessions share.
pub(super) fn read(files: &CompiledFiles) -> io::Result<Option<Optimized>> {
    let graph = read_whole(&files.graph)?;
    let Some(weights) = read_weights(&graph, files.weights.as_ref())? else { return Ok(None) };
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join(GRAPH), graph)?;
    if let Some(data) = &files.weights {
        File::create(folder.path().join(WEIGHTS))?.set_len(data.metadata()?.len())?;
    }
    Ok(Some(Optimized { weights, folder }))
}

/// A copy of the files.
pub(super) fn copy(files: &CompiledFiles) -> io::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let all = [(GRAPH, Some(&files.graph)), (WEIGHTS, files.weights.as_ref())];
    for (name, mut file) in all.into_iter().filter_map(|(name, file)| Some((name, file?))) {
        file.rewind()?;
        io::copy(&mut file, &mut File::create(folder.path().join(name))?)?;
    }
    Ok(folder)
}

fn read_weights(graph: &[u8], data: Option<&File>) -> io::Result<Option<Vec<NamedWeight>>> {
    let model = ModelProto::decode(graph).map_err(io::Error::other)?;
    let main = model.graph.unwrap_or_default();
    if main.node.iter().any(NodeProto::has_external) {
        return Ok(None);
    }
    let mut weights = Vec::new();
    for tensor in main.initializer.iter().filter(|tensor| tensor.is_external()) {
        let data = data.ok_or_else(|| io::Error::other("there is no file of weights"))?;
        match read_weight(tensor, data)? {
            Some(value) => weights.push((tensor.name.clone(), Arc::new(value))),
            None => return Ok(None),
        }
    }
    Ok(Some(weights))
}

/// One weight. `None` for element types that no lowered graph has.
fn read_weight(tensor: &TensorProto, file: &File) -> io::Result<Option<DynValue>> {
    // Numbers of `TensorProto.DataType`.
    let value = match tensor.data_type {
        1 => elements::<f32>(tensor, file),
        2 => elements::<u8>(tensor, file),
        3 => elements::<i8>(tensor, file),
        6 => elements::<i32>(tensor, file),
        7 => elements::<i64>(tensor, file),
        10 => elements::<f16>(tensor, file),
        11 => elements::<f64>(tensor, file),
        _ => return Ok(None),
    };
    value.map(Some)
}

/// Elements in memory of our own: ONNX Runtime shares no other.
fn elements<T>(tensor: &TensorProto, mut file: &File) -> io::Result<DynValue>
where
    T: PrimitiveTensorElementType + bytemuck::Pod + std::fmt::Debug,
{
    let count = tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let end = count.and_then(|n| tensor.offset().checked_add(n.checked_mul(size_of::<T>())? as u64));
    let (Some(count), Some(end)) = (count, end) else {
        return Err(io::Error::other(format!("the weight {:?} has no size", tensor.name)));
    };
    if end > file.metadata()?.len() {
        return Err(io::Error::other(format!("the weight {:?} lies past the end of its file", tensor.name)));
    }
    let mut values = vec![T::zeroed(); count];
    file.seek(SeekFrom::Start(tensor.offset()))?;
    file.read_exact(bytemuck::cast_slice_mut(&mut values))?;
    Ok(Tensor::from_array((tensor.dims.clone(), values)).map_err(io::Error::other)?.into_dyn())
}

// The few fields of `onnx.proto` that are needed to find the weights. prost passes over the others.

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(message, optional, tag = "6")]
    g: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<StringStringEntryProto>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

impl NodeProto {
    fn has_external(&self) -> bool {
        self.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).any(|graph| {
            graph.initializer.iter().any(TensorProto::is_external) || graph.node.iter().any(NodeProto::has_external)
        })
    }
}

impl TensorProto {
    fn is_external(&self) -> bool {
        const EXTERNAL: i32 = 1;
        self.data_location == EXTERNAL
    }

    fn offset(&self) -> u64 {
        let entry = self.external_data.iter().find(|entry| entry.key == "offset");
        entry.and_then(|entry| entry.value.parse().ok()).unwrap_or(0)
    }
}
