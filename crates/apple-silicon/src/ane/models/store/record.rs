//! What an entry says of itself: `bindings.json`.
//!
//! It holds what lowering tells besides the graph, and the sizes and hashes of the other files. Features are named only:
//! what they are is read from the model, but for the sizes of arrays.

use std::{
    fs,
    io::{self, Read, Seek},
    path::Path,
    sync::Arc,
};

use blake3::Hasher;
use coreml_format::schema::{ClassLabels, Feature, FeatureKind, Interface, ShapeFlexibility, SizeRange};
use coreml_onnx::{Element, InputBinding, OutputBinding, OutputForm, Port, StateBinding};
use serde::{Deserialize, Serialize};

use crate::ane::{
    engines::compiled::{CompiledFiles, Signature, open_file},
    models::{bound::Bound, coreml_model::WorkingSet},
};

/// The record's file.
pub(super) const BINDINGS: &str = "bindings.json";

/// Labels of classes take most of it; no model has so many.
const LIMIT: u64 = 64 << 20;

/// A record and its own hash.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    seal: String,
    record: Record,
}

/// What an entry says of itself.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The key in full.
    key: String,
    /// For who looks into the store.
    engine: String,
    graph: FileRecord,
    weights: Option<FileRecord>,
    weight_bytes: usize,
    nodes: usize,
    working_set: usize,
    input_elements: Vec<usize>,
    input_ports: Vec<PortRecord>,
    output_ports: Vec<PortRecord>,
    inputs: Vec<InputRecord>,
    outputs: Vec<OutputRecord>,
    states: Vec<StateRecord>,
    labels: Vec<LabelsRecord>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    bytes: u64,
    blake3: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortRecord {
    name: String,
    #[serde(with = "ElementRecord")]
    element: Element,
    dims: Vec<Option<usize>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Element", rename_all = "lowercase")]
enum ElementRecord {
    F32,
    F16,
    I64,
    I32,
    I8,
    U8,
    I16,
    U16,
    Bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputRecord {
    feature: String,
    port: usize,
    sizes: Option<SizesRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputRecord {
    feature: String,
    port: usize,
    form: FormRecord,
    sizes: Option<SizesRecord>,
}

/// The sizes that the lowered network gives an array, which may differ from the declared ones.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SizesRecord {
    shape: Vec<usize>,
    /// Of each dimension, where any size within is taken.
    ranges: Option<Vec<(usize, Option<usize>)>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormRecord {
    Tensor,
    /// Index in `labels`.
    Label(usize),
    /// Index in `labels`.
    Probabilities(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateRecord {
    name: String,
    input: usize,
    output: Option<usize>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LabelsRecord {
    Strings(Vec<String>),
    Int64s(Vec<i64>),
}

/// Writes the record of the compiled model in `folder`. Cost: reads its files.
pub(super) fn write(folder: &Path, key: String, engine: String, bound: &Bound) -> io::Result<()> {
    let files = CompiledFiles::open(folder)?;
    let graph = FileRecord::of(&files.graph)?;
    let weights = files.weights.as_ref().map(FileRecord::of).transpose()?;
    let record = Record::of(key, engine, graph, weights, bound);
    let seal = record.seal()?;
    fs::write(folder.join(BINDINGS), serde_json::to_vec_pretty(&Sealed { seal, record })?)
}

/// Reads the record of the entry in `folder`.
///
/// # Errors
/// Half a sentence that says what is wrong with it, for an entry that is not what was written.
pub(super) fn read(folder: &Path, key: &str) -> Result<Record, String> {
    let text = read_limited(&folder.join(BINDINGS)).map_err(|e| format!("{BINDINGS}: {e}"))?;
    let damaged = |why: &dyn std::fmt::Display| format!("{BINDINGS} is damaged: {why}");
    let Sealed { seal, record } = serde_json::from_slice(&text).map_err(|e| damaged(&e))?;
    if record.seal().map_err(|e| damaged(&e))? != seal {
        return Err(damaged(&"its content does not match its hash"));
    }
    if record.key != key {
        return Err(format!("it was made from something else: its key is {}", record.key));
    }
    Ok(record)
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    open_file(path)?.take(LIMIT + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", LIMIT >> 20)));
    }
    Ok(text)
}

impl Record {
    fn of(key: String, engine: String, graph: FileRecord, weights: Option<FileRecord>, bound: &Bound) -> Record {
        let mut labels = Vec::new();
        let mut label = |of: &ClassLabels| {
            let of = LabelsRecord::of(of);
            labels.iter().position(|known| *known == of).unwrap_or_else(|| {
                labels.push(of);
                labels.len() - 1
            })
        };
        let mut output = |output: &OutputBinding| OutputRecord {
            feature: output.feature.name.clone(),
            port: output.port,
            form: match &output.form {
                OutputForm::Tensor => FormRecord::Tensor,
                OutputForm::Label(labels) => FormRecord::Label(label(labels)),
                OutputForm::Probabilities(labels) => FormRecord::Probabilities(label(labels)),
            },
            sizes: SizesRecord::of(&output.feature),
        };
        let input = |input: &InputBinding| InputRecord {
            feature: input.feature.name.clone(),
            port: input.port,
            sizes: SizesRecord::of(&input.feature),
        };
        let state = |StateBinding { name, input, output }: &StateBinding| StateRecord {
            name: name.clone(),
            input: *input,
            output: *output,
        };
        Record {
            key,
            engine,
            graph,
            weights,
            weight_bytes: bound.weight_bytes,
            nodes: bound.signature.nodes,
            working_set: bound.working_set.bytes,
            input_elements: bound.working_set.elements.clone(),
            input_ports: bound.signature.inputs.iter().map(PortRecord::of).collect(),
            output_ports: bound.signature.outputs.iter().map(PortRecord::of).collect(),
            inputs: bound.inputs.iter().map(input).collect(),
            outputs: bound.outputs.iter().map(&mut output).collect(),
            states: bound.states.iter().map(state).collect(),
            labels,
        }
    }

    /// The hash of everything in it.
    fn seal(&self) -> serde_json::Result<String> {
        Ok(blake3::hash(&serde_json::to_vec(self)?).to_string())
    }

    /// Whether the files hold what was written. Cost: reads those that have the right size.
    pub(super) fn check_files(&self, files: &CompiledFiles) -> Result<(), String> {
        self.graph.check(&files.graph)?;
        match (&self.weights, &files.weights) {
            (Some(written), Some(file)) => written.check(file),
            (None, None) => Ok(()),
            _ => Err("weights are missing, or too many".to_owned()),
        }
    }

    /// Binds the features of the model's own interface.
    pub(super) fn bind(self, interface: &Interface) -> Result<Bound, String> {
        let (takes, gives) = (self.input_ports.len(), self.output_ports.len());
        let named = |features: &[Feature], names: &[&str]| features.iter().map(|f| f.name.as_str()).eq(names.to_vec());
        let inputs: Vec<&str> = self.inputs.iter().map(|input| input.feature.as_str()).collect();
        let outputs: Vec<&str> = self.outputs.iter().map(|output| output.feature.as_str()).collect();
        let mut taken: Vec<usize> = self.inputs.iter().map(|input| input.port).collect();
        taken.extend(self.states.iter().map(|state| state.input));
        taken.sort_unstable();
        let mut given =
            self.outputs.iter().map(|output| output.port).chain(self.states.iter().filter_map(|s| s.output));
        if !named(&interface.inputs, &inputs)
            || !named(&interface.outputs, &outputs)
            || !taken.into_iter().eq(0..takes)
            || self.input_elements.len() != self.inputs.len()
            || given.any(|port| port >= gives)
        {
            return Err("its bindings are not those of the model".to_owned());
        }
        let labels: Vec<Arc<ClassLabels>> = self.labels.into_iter().map(|labels| Arc::new(labels.restore())).collect();
        let labels = |index: usize| labels.get(index).cloned().ok_or("it has no such labels");
        let form = |form| match form {
            FormRecord::Tensor => Ok(OutputForm::Tensor),
            FormRecord::Label(index) => labels(index).map(OutputForm::Label),
            FormRecord::Probabilities(index) => labels(index).map(OutputForm::Probabilities),
        };
        let features = interface.inputs.iter().cloned();
        let inputs = features.zip(&self.inputs).map(|(feature, input)| InputBinding {
            feature: SizesRecord::restore(&input.sizes, feature),
            port: input.port,
        });
        let features = interface.outputs.iter().cloned();
        let outputs = features.zip(&self.outputs).map(|(feature, output)| {
            let feature = SizesRecord::restore(&output.sizes, feature);
            form(output.form).map(|form| OutputBinding { feature, port: output.port, form })
        });
        let states = self.states.into_iter();
        Ok(Bound {
            interface: interface.clone(),
            inputs: inputs.collect(),
            outputs: outputs.collect::<Result<_, _>>()?,
            states: states.map(|StateRecord { name, input, output }| StateBinding { name, input, output }).collect(),
            signature: Signature {
                inputs: self.input_ports.into_iter().map(PortRecord::restore).collect(),
                outputs: self.output_ports.into_iter().map(PortRecord::restore).collect(),
                nodes: self.nodes,
            },
            weight_bytes: self.weight_bytes,
            working_set: WorkingSet { bytes: self.working_set, elements: self.input_elements },
        })
    }
}

impl FileRecord {
    /// Reads a file, a piece at a time.
    fn of(mut file: &fs::File) -> io::Result<FileRecord> {
        file.rewind()?;
        let mut hasher = Hasher::new();
        let hash = hasher.update_reader(file)?.finalize();
        Ok(FileRecord { bytes: hasher.count(), blake3: hash.to_string() })
    }

    fn check(&self, file: &fs::File) -> Result<(), String> {
        let bytes = file.metadata().map_err(|e| e.to_string())?.len();
        if bytes != self.bytes {
            return Err(format!("a file has {bytes} bytes, not {}", self.bytes));
        }
        match FileRecord::of(file) {
            Ok(found) if found == *self => Ok(()),
            Ok(_) => Err("a file does not hold what was written".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl PortRecord {
    fn of(port: &Port) -> PortRecord {
        PortRecord { name: port.name.clone(), element: port.element, dims: port.dims.clone() }
    }

    fn restore(self) -> Port {
        Port { name: self.name, element: self.element, dims: self.dims }
    }
}

impl SizesRecord {
    fn of(feature: &Feature) -> Option<SizesRecord> {
        let FeatureKind::MultiArray(kind) = &feature.kind else { return None };
        let ranges = match &kind.flexibility {
            ShapeFlexibility::Ranges(ranges) => Some(ranges.iter().map(|range| (range.lower, range.upper)).collect()),
            _ => None,
        };
        Some(SizesRecord { shape: kind.shape.clone(), ranges })
    }

    /// The feature with these sizes.
    fn restore(sizes: &Option<SizesRecord>, mut feature: Feature) -> Feature {
        let (FeatureKind::MultiArray(kind), Some(SizesRecord { shape, ranges })) = (&mut feature.kind, sizes) else {
            return feature;
        };
        kind.shape.clone_from(shape);
        if let Some(ranges) = ranges {
            let ranges = ranges.iter().map(|&(lower, upper)| SizeRange { lower, upper });
            kind.flexibility = ShapeFlexibility::Ranges(ranges.collect());
        }
        feature
    }
}

impl LabelsRecord {
    fn of(labels: &ClassLabels) -> LabelsRecord {
        match labels {
            ClassLabels::Strings(labels) => LabelsRecord::Strings(labels.clone()),
            ClassLabels::Int64s(labels) => LabelsRecord::Int64s(labels.clone()),
        }
    }

    fn restore(self) -> ClassLabels {
        match self {
            LabelsRecord::Strings(labels) => ClassLabels::Strings(labels),
            LabelsRecord::Int64s(labels) => ClassLabels::Int64s(labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use coreml_onnx::LowerOptions;

    use super::{super::key::fixtures, *};
    use crate::ane::engines::{compiled::GRAPH, fake::Fake};

    fn file() -> FileRecord {
        FileRecord { bytes: 0, blake3: String::new() }
    }

    /// Bindings of one model, written and read; `change` comes in between.
    fn check(bound: &Bound, change: impl Fn(&mut Record)) -> Result<Bound, String> {
        let record = Record::of(String::new(), String::new(), file(), None, bound);
        let text = serde_json::to_vec(&record).unwrap();
        let mut record: Record = serde_json::from_slice(&text).unwrap();
        assert_eq!(serde_json::to_vec(&record).unwrap(), text, "a seal holds");
        change(&mut record);
        record.bind(&bound.interface)
    }

    fn bounds() -> impl Iterator<Item = Bound> {
        let fake = Fake::new(|_| Ok(Vec::new()));
        fixtures().into_iter().filter_map(move |model| {
            Some(Bound::of(&fake, coreml_onnx::lower(&model, &LowerOptions::default()).ok()?).1)
        })
    }

    #[test]
    fn bindings_of_every_fixture_come_back() {
        for bound in bounds() {
            assert_eq!(format!("{:?}", check(&bound, |_| ()).unwrap()), format!("{bound:?}"));
        }
    }

    #[test]
    fn a_flipped_bit_shows() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(GRAPH), "a graph").unwrap();
        let bound = bounds().find(|bound| !bound.states.is_empty()).expect("a fixture has state");
        write(folder.path(), "key".to_owned(), "engine".to_owned(), &bound).unwrap();
        let check = || {
            let record = read(folder.path(), "key")?;
            record.check_files(&CompiledFiles::open(folder.path()).unwrap())
        };
        assert_eq!(check(), Ok(()));
        for file in [GRAPH, BINDINGS] {
            let path = folder.path().join(file);
            let written = fs::read(&path).unwrap();
            for at in 0..written.len() {
                let mut damaged = written.clone();
                damaged[at] ^= 1 << (at % 8);
                fs::write(&path, &damaged).unwrap();
                // JSON does not tell white space from other white space.
                let is_same = [&written, &damaged].iter().all(|text| text[at].is_ascii_whitespace());
                assert_eq!(check().is_ok(), is_same, "byte {at} of {file}");
            }
            fs::write(&path, written).unwrap();
        }
    }

    #[test]
    fn bindings_that_do_not_fit_are_refused() {
        type Change = fn(&mut Record);
        let changes: [(&str, Change); 8] = [
            ("port", |record| record.inputs[0].port = 7),
            ("port", |record| record.outputs[0].port = usize::MAX),
            ("feature", |record| record.inputs[0].feature.push('x')),
            ("feature", |record| drop(record.outputs.pop())),
            ("feature", |record| drop(record.inputs.pop())),
            ("state", |record| record.states[0].input = 0),
            ("state", |record| record.states[0].output = Some(9)),
            ("labels", |record| record.outputs[0].form = FormRecord::Label(9)),
        ];
        let stateful = bounds().find(|bound| !bound.states.is_empty()).expect("a fixture has state");
        check(&stateful, |_| ()).unwrap();
        for (what, change) in changes {
            assert!(check(&stateful, change).is_err(), "{what}");
        }
    }
}
