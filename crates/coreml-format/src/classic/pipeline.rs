//! Pipelines: models that pass features by name.

use std::{
    collections::BTreeMap,
    mem::discriminant,
    path::{Component, Path},
};

use bytes::Bytes;

use crate::{
    Model,
    error::quote,
    pb::{self, classic as message},
    schema::{ClassLabels, FeatureKind, Interface},
};

/// Stages that a pipeline may have: a damaged file of some MB would else make millions of them.
const MOST_STAGES: usize = 1 << 14;

/// Models in the order in which they run. Each takes features of the pipeline's inputs, or of a stage before it, and
/// what it gives replaces what has the same name.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// What the pipeline is.
    pub kind: PipelineKind,
    /// At least one.
    pub stages: Vec<Stage>,
}

/// What a pipeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineKind {
    /// A plain pipeline.
    Plain,
    /// A classifier: one of its stages is.
    Classifier,
    /// A regressor: one of its stages is.
    Regressor,
    /// A single stage, which is a file of its own.
    Linked,
}

/// A stage of a pipeline.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name; `model0`, `model1`, ... where the pipeline gives none.
    pub name: String,
    /// The model.
    pub model: Model,
}

impl PipelineKind {
    /// The name of the type in `Model.proto`.
    pub fn name(self) -> &'static str {
        match self {
            PipelineKind::Plain => "pipeline",
            PipelineKind::Classifier => "pipelineClassifier",
            PipelineKind::Regressor => "pipelineRegressor",
            PipelineKind::Linked => "linkedModel",
        }
    }
}

/// The encoded models of a pipeline, with their names. `kind` is what the field of `Model` says.
pub(crate) fn stages(body: Bytes, kind: PipelineKind) -> Result<Vec<(String, Bytes)>, String> {
    let name = kind.name();
    let pipeline = match kind {
        PipelineKind::Plain | PipelineKind::Linked => pb::decode::<pb::model::Pipeline>(body, name)?,
        PipelineKind::Classifier | PipelineKind::Regressor => {
            pb::decode::<pb::model::WrappedPipeline>(body, name)?.pipeline.unwrap_or_default()
        }
    };
    let (models, names) = (pipeline.models, pipeline.names);
    if models.is_empty() {
        return Err(format!("is a {name} without any model"));
    }
    if models.len() > MOST_STAGES {
        return Err(format!("is a {name} of {} models; {MOST_STAGES} is the most", models.len()));
    }
    if !names.is_empty() && names.len() != models.len() {
        return Err(format!("is a {name} with {} names for {} models", names.len(), models.len()));
    }
    let named = |(index, model)| (names.get(index).cloned().unwrap_or_else(|| format!("model{index}")), model);
    Ok(models.into_iter().enumerate().map(named).collect())
}

/// A model file that another one refers to.
#[derive(Debug)]
pub(crate) struct Link {
    /// Paths from the model's own folder, in the order in which they are tried.
    pub(crate) paths: Vec<String>,
}

/// What a linked model refers to. Only paths that stay below the model's own folder are taken.
pub(crate) fn link(body: Bytes) -> Result<Link, String> {
    let model: message::LinkedModel = pb::decode(body, "it")?;
    let file = model.file.ok_or("is a linkedModel without a link")?;
    let name = file.name.unwrap_or_default().default_value;
    if name.is_empty() {
        return Err("is a linkedModel without the name of a file".to_owned());
    }
    let search = file.search_path.unwrap_or_default().default_value;
    let mut paths = Vec::new();
    for folder in search.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        if folder.starts_with('$') {
            continue; // a place in an app's bundle, which only an app has
        }
        let path = format!("{folder}/{name}");
        if !inside(&path) {
            return Err(format!("links to {}, which may lie outside of the model's own folder", quote(&path)));
        }
        // What is linked is compiled on Apple's systems; what it was compiled from will do.
        let source =
            path.strip_suffix(".mlmodelc").map(|stem| [format!("{stem}.mlpackage"), format!("{stem}.mlmodel")]);
        paths.push(path);
        paths.extend(source.into_iter().flatten());
    }
    Ok(Link { paths })
}

fn inside(path: &str) -> bool {
    !path.contains('\0')
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

impl Pipeline {
    /// The labels of the last stage that gives the predicted class.
    pub(crate) fn class_labels(&self, interface: &Interface) -> Option<ClassLabels> {
        let classifier = |stage: &&Stage| {
            let predicted = &stage.model.schema.interface.predicted_feature;
            stage.model.schema.class_labels.is_some()
                && (*predicted == interface.predicted_feature || interface.predicted_feature.is_none())
        };
        self.stages.iter().rev().find(classifier)?.model.schema.class_labels.clone()
    }

    /// Checks that every stage finds its inputs, and that the outputs are there at the end.
    pub(crate) fn check(&self, interface: &Interface) -> Result<(), String> {
        let mut kinds: BTreeMap<&str, &FeatureKind> =
            interface.inputs.iter().map(|input| (input.name.as_str(), &input.kind)).collect();
        for (index, Stage { name, model }) in self.stages.iter().enumerate() {
            let at = |reason: String| format!("stage {index} {}: {reason}", quote(name));
            for input in &model.schema.interface.inputs {
                match kinds.get(input.name.as_str()) {
                    Some(kind) if alike(kind, &input.kind) => {}
                    Some(kind) => {
                        let (name, takes) = (quote(&input.name), variant(&input.kind));
                        return Err(at(format!("takes {name} as {takes}, and gets {}", variant(kind))));
                    }
                    None if input.optional => {}
                    None => {
                        return Err(at(format!("takes {}, which nothing before it gives", quote(&input.name))));
                    }
                }
            }
            kinds.extend(model.schema.interface.outputs.iter().map(|output| (output.name.as_str(), &output.kind)));
        }
        match interface.outputs.iter().find(|output| !kinds.contains_key(output.name.as_str())) {
            Some(output) => Err(format!("no stage gives the output {}", quote(&output.name))),
            None => Ok(()),
        }
    }
}

/// Whether a feature of one kind goes where another is taken. Shapes and types of keys are left to the run.
fn alike(given: &FeatureKind, taken: &FeatureKind) -> bool {
    let number = |kind: &FeatureKind| matches!(kind, FeatureKind::Int64 | FeatureKind::Double);
    discriminant(given) == discriminant(taken) || (number(given) && number(taken))
}

fn variant(kind: &FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Int64 => "an integer",
        FeatureKind::Double => "a number",
        FeatureKind::String => "a string",
        FeatureKind::Image(_) => "an image",
        FeatureKind::MultiArray(_) => "an array",
        FeatureKind::Dictionary(_) => "a dictionary",
        FeatureKind::Sequence(..) => "a sequence",
        FeatureKind::State(_) => "a state",
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn check_link(name: &str, search: &str, expected: &str) {
        let parameter = |value: &str| Some(message::StringParameter { default_value: value.to_owned() });
        let file = message::LinkedModelFile { name: parameter(name), search_path: parameter(search) };
        let shown = match link(message::LinkedModel { file: Some(file) }.encode_to_vec().into()) {
            Ok(link) => link.paths.join(" "),
            Err(reason) => reason,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn links_stay_below_their_folder() {
        check_link("a.mlmodelc", "", "./a.mlmodelc ./a.mlpackage ./a.mlmodel");
        check_link("a.mlmodel", "b:$BUNDLE_MAIN:c", "b/a.mlmodel c/a.mlmodel");
        check_link("../a.mlmodel", "", "may lie outside");
        check_link("a.mlmodel", "/etc", "may lie outside");
        check_link("", "", "without the name of a file");
    }
}
