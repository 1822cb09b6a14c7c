//! The files of a compiled model: a graph, and its big weights beside it.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};

use coreml_onnx::{OnnxModel, Port, Storage};

/// The graph's file.
pub(crate) const GRAPH: &str = "graph.onnx";

/// The weights' file, which a graph with small weights alone does not have. rten takes names that end in `.data` only.
pub(crate) const WEIGHTS: &str = "weights.data";

/// What an engine has to know of a graph to make a model of its file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signature {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// The number of nodes before optimisation, nested graphs included.
    pub(crate) nodes: usize,
}

impl Signature {
    pub(crate) fn of(model: &OnnxModel) -> Signature {
        let (inputs, outputs) = (model.inputs().to_vec(), model.outputs().to_vec());
        Signature { inputs, outputs, nodes: model.nodes().len() }
    }
}

/// The files of a compiled model, open: what is read through them stays as it is, even where the folder goes.
#[derive(Debug)]
pub(crate) struct CompiledFiles {
    pub(crate) folder: PathBuf,
    pub(crate) graph: File,
    pub(crate) weights: Option<File>,
}

impl CompiledFiles {
    pub(crate) fn open(folder: &Path) -> io::Result<CompiledFiles> {
        let weights = match open_file(&folder.join(WEIGHTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        Ok(CompiledFiles { folder: folder.to_owned(), graph: open_file(&folder.join(GRAPH))?, weights })
    }
}

/// Opens a regular file; a pipe would wait for its writer.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    File::open(path)
}

/// The whole of an open file. Memory is taken for as many bytes as it has, and no more.
pub(super) fn read_whole(mut file: &File) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(len).map_err(io::Error::other)?)?;
    file.rewind()?;
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a lowered graph and its weights, widened one by one.
pub(super) fn write_lowered(model: &OnnxModel, folder: &Path) -> io::Result<()> {
    fs::write(folder.join(GRAPH), model.encode(Storage::Beside(WEIGHTS)))?;
    if model.weights().is_empty() {
        return Ok(());
    }
    let mut file = BufWriter::new(File::create(folder.join(WEIGHTS))?);
    model.write_weights(&mut file)?;
    file.flush()
}
