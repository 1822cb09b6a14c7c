//! What a model is given: from files, from the command line, or made up.
//!
//! The command line names sources; [`Source::read`] makes features of one when its turn comes, so that a thousand
//! pictures are never in memory at once.

mod picture;
mod random;
mod value;

use std::path::{Path, PathBuf};

use anyhow::Context;
use apple_silicon::ane::features::Features;
use coreml_format::schema::{Feature as Declared, FeatureKind, Interface};

use crate::{exit::Refusal, npy, schema, terminal::clean};

/// `NAME=VALUE` on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    name: String,
    value: String,
}

impl std::str::FromStr for Named {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Named, &'static str> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as image=photo.jpg")?;
        Ok(Named { name: name.to_owned(), value: value.to_owned() })
    }
}

/// What the inputs of all predictions come from.
pub(crate) struct Request<'a> {
    /// Files with the inputs of one prediction each: `.npz`, or a picture.
    pub(crate) files: &'a [PathBuf],
    /// Single inputs. A name that is given several times makes as many predictions.
    pub(crate) named: &'a [Named],
    /// The seed for inputs that nothing else gives.
    pub(crate) random: Option<u64>,
}

/// What the inputs of one prediction come from.
pub(crate) struct Source<'a> {
    file: Option<&'a Path>,
    named: Vec<&'a Named>,
    random: Option<u64>,
}

impl<'a> Request<'a> {
    /// One source for each prediction, at least one.
    pub(crate) fn sources(&self) -> Result<Vec<Source<'a>>, Refusal> {
        let mut names: Vec<(&str, Vec<&Named>)> = Vec::new();
        for named in self.named {
            match names.iter_mut().find(|(name, _)| *name == named.name) {
                Some((_, values)) => values.push(named),
                None => names.push((&named.name, vec![named])),
            }
        }
        let count = names.iter().map(|(_, values)| values.len()).chain([self.files.len(), 1]).max().unwrap_or(1);
        let lengths = names.iter().map(|(name, values)| (format!("--input {name}="), values.len()));
        for (what, length) in lengths.chain([("files".to_owned(), self.files.len())]) {
            if length > 1 && length != count {
                let message =
                    format!("{what} is given {length} times for {count} predictions; give it once or {count} times");
                return Err(Refusal::Usage(message));
            }
        }
        let source = |index: usize| Source {
            file: self.files.get(index).or(self.files.first()).map(PathBuf::as_path),
            named: names.iter().map(|(_, values)| *values.get(index).unwrap_or(&values[0])).collect(),
            random: self.random.map(|seed| seed.wrapping_add(index as u64)),
        };
        Ok((0..count).map(source).collect())
    }
}

impl Source<'_> {
    /// What to call it in results: the file, the values, or the seed.
    pub(crate) fn label(&self) -> String {
        let file = self.file.map(|path| path.display().to_string());
        let named = self.named.iter().map(|named| match self.named.len() {
            1 if self.file.is_none() && Path::new(&named.value).is_file() => named.value.clone(),
            _ => format!("{}={}", named.name, named.value),
        });
        let given: Vec<String> = file.into_iter().chain(named).collect();
        match (given.is_empty(), self.random) {
            (false, _) => given.join(", "),
            (true, Some(seed)) => format!("random inputs, seed {seed}"),
            (true, None) => "no inputs".to_owned(),
        }
    }

    /// Reads the inputs.
    ///
    /// # Errors
    /// [`Refusal`] for what cannot be read, is not an input of the model, or is missing.
    pub(crate) fn read(&self, interface: &Interface) -> anyhow::Result<Features> {
        let mut features = Features::new();
        if let Some(file) = self.file {
            read_file(file, interface, &mut features).with_context(|| file.display().to_string())?;
        }
        for Named { name, value } in &self.named {
            let declared = find(interface, name)?;
            let feature =
                value::parse(&declared.kind, value).with_context(|| format!("--input {name}={}", clean(value)))?;
            features.insert(name, feature);
        }
        if let Some(seed) = self.random {
            let mut numbers = random::Numbers::new(seed);
            for declared in &interface.inputs {
                if features.get(&declared.name).is_none() {
                    features.insert(&declared.name, random::feature(declared, &mut numbers)?);
                }
            }
        }
        nothing_missing(interface, &features)?;
        Ok(features)
    }
}

fn read_file(path: &Path, interface: &Interface, features: &mut Features) -> anyhow::Result<()> {
    if picture::is_picture(path) {
        let Declared { name, kind, .. } = only_image(interface)?;
        features.insert(name, value::picture(kind, path)?);
        return Ok(());
    }
    for (name, npy) in npy::read_npz(path).map_err(|e| Refusal::Input(e.to_string()))? {
        let declared = find(interface, &name)?;
        let feature = value::from_npy(&declared.kind, npy).with_context(|| format!("the array {name:?}"))?;
        features.insert(name, feature);
    }
    Ok(())
}

/// The model's image input, where there is just one.
fn only_image(interface: &Interface) -> Result<&Declared, Refusal> {
    let images: Vec<&Declared> =
        interface.inputs.iter().filter(|declared| matches!(declared.kind, FeatureKind::Image(_))).collect();
    match images[..] {
        [image] => Ok(image),
        [] => Err(Refusal::Input(format!("is a picture, but the model takes none; it takes {}", list(interface)))),
        _ => Err(Refusal::Input(format!(
            "the model takes several pictures; say which one this is with --input NAME=FILE: {}",
            list(interface)
        ))),
    }
}

fn find<'a>(interface: &'a Interface, name: &str) -> Result<&'a Declared, Refusal> {
    interface
        .inputs
        .iter()
        .find(|declared| declared.name == name)
        .ok_or_else(|| Refusal::Input(format!("the model has no input {name:?}; it takes {}", list(interface))))
}

fn nothing_missing(interface: &Interface, features: &Features) -> Result<(), Refusal> {
    let missing: Vec<&Declared> = (interface.inputs.iter())
        .filter(|declared| !declared.optional && features.get(&declared.name).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (inputs, are) = if missing.len() == 1 { ("input", "is") } else { ("inputs", "are") };
    let names: Vec<String> = missing.iter().map(|declared| describe(declared)).collect();
    let flags: Vec<String> = missing.iter().map(|declared| flag(declared)).collect();
    Err(Refusal::Input(format!(
        "the {inputs} {} {are} missing; give {}, or --inputs FILE.npz with every input, or --random SEED",
        names.join(", "),
        flags.join(" "),
    )))
}

/// How to give this input alone.
fn flag(declared: &Declared) -> String {
    let value = match &declared.kind {
        FeatureKind::Image(_) => "PICTURE.png",
        FeatureKind::MultiArray(_) | FeatureKind::State(_) => "ARRAY.npy",
        FeatureKind::Int64 | FeatureKind::Double => "NUMBER",
        FeatureKind::String => "TEXT",
        FeatureKind::Dictionary(_) => "'{\"KEY\": NUMBER}'",
        FeatureKind::Sequence(..) => "'[VALUE, ...]'",
    };
    format!("--input {}={value}", clean(&declared.name))
}

fn list(interface: &Interface) -> String {
    interface.inputs.iter().map(describe).collect::<Vec<_>>().join(", ")
}

fn describe(declared: &Declared) -> String {
    format!("{:?} ({})", declared.name, schema::describe(declared))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: usize, named: &[&str], expected: Result<&[&str], &str>) {
        let files: Vec<PathBuf> = (0..files).map(|i| format!("{i}.npz").into()).collect();
        let named: Vec<Named> = named.iter().map(|text| text.parse().unwrap()).collect();
        let sources = Request { files: &files, named: &named, random: None }.sources();
        let labels = sources.map(|sources| sources.iter().map(Source::label).collect::<Vec<_>>());
        match (labels, expected) {
            (Ok(labels), Ok(expected)) => assert_eq!(labels, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (labels, _) => panic!("{labels:?}"),
        }
    }

    #[test]
    fn what_is_given_once_is_for_all_predictions() {
        check(0, &[], Ok(&["no inputs"]));
        check(2, &["k=1"], Ok(&["0.npz, k=1", "1.npz, k=1"]));
        check(1, &["a=1", "a=2", "b=3"], Ok(&["0.npz, a=1, b=3", "0.npz, a=2, b=3"]));
        check(3, &["a=1", "a=2"], Err("--input a= is given 2 times for 3 predictions"));
    }
}
