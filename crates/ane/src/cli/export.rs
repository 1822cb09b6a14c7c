//! `ane export`: the model as an ONNX file.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use apple_silicon::ane::errors::ANEError;
use clap::{Args, ValueEnum};
use coreml_format::Model;
use coreml_onnx::{LowerOptions, Lowered, OnnxModel, Storage};

use crate::{
    exit::Refusal,
    interrupt::WholeFile,
    terminal::{self, BOLD, GOOD, Progress, bytes, clean, count},
};

/// Weights of this size and more go into a file of their own, unless asked otherwise: ONNX files end at 2 GiB, and
/// tools that read them keep several copies.
const LARGE: usize = 1 << 30;

/// Write a model as an ONNX file
///
/// Nodes keep the names of the operations they come from. Compressed weights are written out as floats. States become
/// one more input and output each, and images become arrays (1, channels, height, width) with values of 0 to 255.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ane export model.mlpackage -o model.onnx
  ane export model.mlpackage -o model.onnx --io float --external-data
  ane export llm.mlpackage -o prompt.onnx --function prompt")]
pub(crate) struct Arguments {
    /// The model: .mlpackage or .mlmodel
    model: PathBuf,
    /// The ONNX file to write; it is replaced when the new one is whole
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// The function to export; the model's default function where left out
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Write the weights to OUT.onnx.data beside the file; the default from 1 GiB on
    #[arg(long, conflicts_with = "inline")]
    external_data: bool,
    /// Write the weights into the file; the default below 1 GiB
    #[arg(long)]
    inline: bool,
    /// Element type of float16 inputs and outputs: as the model declares them, or float32
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = Io::Half)]
    io: Io,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Io {
    Half,
    Float,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let model = Model::open(&arguments.model).map_err(ANEError::from)?;
    let options = LowerOptions {
        function: arguments.function.clone(),
        half_io: arguments.io == Io::Half,
        ..LowerOptions::default()
    };
    let lowered = coreml_onnx::lower(&model, &options)
        .map_err(ANEError::from)
        .with_context(|| arguments.model.display().to_string())?;

    let path = &arguments.output;
    let place = place(arguments, lowered.model.weights_len());
    let written = match place {
        Place::Inside => write_inside(&lowered.model, path),
        Place::Beside => write_beside(&lowered.model, path),
    };
    written.with_context(|| format!("{} cannot be written", path.display()))?;
    terminal::print(&summary(&model, arguments, &lowered, place))
}

/// Where the weights go.
#[derive(Clone, Copy)]
enum Place {
    Inside,
    Beside,
}

fn place(arguments: &Arguments, weights: usize) -> Place {
    match (arguments.inline, arguments.external_data) {
        (true, _) => Place::Inside,
        (_, true) => Place::Beside,
        _ if weights >= LARGE => Place::Beside,
        _ => Place::Inside,
    }
}

fn write_inside(model: &OnnxModel, path: &Path) -> anyhow::Result<()> {
    const ONNX_LIMIT: usize = i32::MAX as usize;
    if model.weights_len() >= ONNX_LIMIT {
        let message = format!(
            "{} of weights are more than an ONNX file can hold; use --external-data",
            bytes(model.weights_len() as u64)
        );
        return Err(Refusal::Usage(message).into());
    }
    let _progress = Progress::spinner("writing");
    write_file(path, &model.encode(Storage::Inside))
}

fn write_beside(model: &OnnxModel, path: &Path) -> anyhow::Result<()> {
    let (data, name) = data_path(path)?;
    let progress = Progress::bytes(model.weights_len() as u64, "writing");
    // The weights come first, so that an ONNX file is never without them.
    let mut file = WholeFile::create(&data)?;
    model.write_weights(&mut progress.bar().wrap_write(&mut file))?;
    file.finish()?;
    write_file(path, &model.encode(Storage::Beside(&name)))
}

fn write_file(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut file = WholeFile::create(path)?;
    file.write_all(content)?;
    file.finish()?;
    Ok(())
}

/// The file of the weights, and its name as the ONNX file refers to it.
fn data_path(path: &Path) -> anyhow::Result<(PathBuf, String)> {
    let name = path.file_name().and_then(|name| name.to_str()).context("is not a name that ONNX can refer to")?;
    let name = format!("{name}.data");
    Ok((path.with_file_name(&name), name))
}

fn summary(model: &Model, arguments: &Arguments, lowered: &Lowered, place: Place) -> String {
    let stats = coreml_format::stats::operations(model);
    let function = arguments.function.as_deref().unwrap_or(&model.schema.default_function);
    // A neural network has one function, whatever its description calls it.
    let kinds = stats.get(function).or_else(|| stats.values().next());
    let is_const = |kind: &str| kind == "const" || kind.starts_with("constexpr_");
    let ops: usize = kinds.into_iter().flatten().filter(|(kind, _)| !is_const(kind)).map(|(_, count)| count).sum();
    let nodes: usize = lowered.model.histogram().values().sum();
    let weights = bytes(lowered.model.weights_len() as u64);
    let kept = match place {
        Place::Inside => "inside".to_owned(),
        Place::Beside => format!("in {}.data", arguments.output.display()),
    };
    let mut text = format!(
        "{GOOD}wrote{GOOD:#} {BOLD}{}{BOLD:#}: {} -> {}, {weights} of weights {}\n",
        clean(&arguments.output.display().to_string()),
        count(ops, "operation"),
        count(nodes, "ONNX node"),
        clean(&kept),
    );
    for state in &lowered.states {
        let port = |index: usize, ports: &[coreml_onnx::Port]| clean(&ports[index].name).into_owned();
        let after =
            state.output.map(|output| format!(", after it in output {}", port(output, lowered.model.outputs())));
        text.push_str(&format!(
            "  state {}: before the run in input {}{}\n",
            clean(&state.name),
            port(state.input, lowered.model.inputs()),
            after.unwrap_or_default(),
        ));
    }
    text
}
