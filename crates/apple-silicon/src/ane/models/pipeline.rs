//! Models that no engine takes as a whole: classic ones, and pipelines, whose stages are models of their own.

use std::{borrow::Cow, collections::BTreeMap};

use coreml_format::{
    Model, ModelKind,
    classic::{Classic, Pipeline},
    schema::{FeatureKind, Interface},
};

use super::{
    bound::Bound,
    coreml_model::{Admit, Compiled, CoreMlModel, LoadOptions},
    native,
    store::Ready,
};
use crate::ane::{
    engines::{Choice, Data, LoadedEngineModel, Shape, Take, Tensor, classic},
    errors::{ANEError, Result},
    features::{Feature, Features},
    infer::Precision,
    limits::Limits,
};

/// Loads a classic model.
///
/// # Errors
/// [`ANEError::UnsupportedPrecision`] for anything but its own, which is double precision; `fp32` is taken for it.
pub(super) fn load_classic(
    model: &Model,
    classic: Classic,
    options: &LoadOptions,
    admit: &mut Admit<'_>,
) -> Result<CoreMlModel> {
    if let Some(precision @ (Precision::Fp16 | Precision::Int8)) = options.precision {
        return Err(ANEError::UnsupportedPrecision(format!(
            "{}: a {} computes in double precision, not in {precision}; leave the precision out",
            model.path.display(),
            classic.name()
        )));
    }
    let mut bound = native::bound(model, options.function.as_deref())?;
    bound.weight_bytes = classic.parameters().1;
    bound.working_set.bytes = features_bytes(&bound.interface);
    admit(bound.weight_bytes, bound.working_set.bytes)?;
    let engine = Box::new(classic::ClassicModel::new(classic, bound.interface.clone()));
    let ready = Ready { schema: model.schema.clone(), bound, engine, compiled: Compiled::Fresh };
    Ok(CoreMlModel::of_features(ready, classic::choice(), &model.path, Precision::Fp32))
}

/// Loads a pipeline, stage by stage. `admit` is asked before each, for all until then.
pub(super) fn load_pipeline(
    model: &Model,
    pipeline: Pipeline,
    options: &LoadOptions,
    admit: &mut Admit<'_>,
) -> Result<CoreMlModel> {
    let mut bound: Bound = native::bound(model, options.function.as_deref())?;
    let between: usize = pipeline.stages.iter().map(|stage| features_bytes(&stage.model.schema.interface)).sum();
    let between = between.saturating_add(features_bytes(&bound.interface));
    let (mut weights, mut largest) = (0usize, 0usize);
    let mut stages = Vec::with_capacity(pipeline.stages.len());
    for (index, stage) in pipeline.stages.into_iter().enumerate() {
        let name = format!("stage {index} {:?}", stage.name);
        let is_classic = matches!(stage.model.kind, ModelKind::Classic(_));
        let options = LoadOptions {
            function: None,
            compiled: None,
            precision: options.precision.filter(|_| !is_classic),
            ..options.clone()
        };
        let loaded = CoreMlModel::load_portable(stage.model, &options, &mut |more, working_set| {
            admit(weights.saturating_add(more), largest.max(working_set).saturating_add(between))
        });
        let loaded = loaded.map_err(|error| in_stage(error, &name))?;
        weights = weights.saturating_add(loaded.weight_bytes());
        largest = largest.max(loaded.working_set_bytes_of_default());
        stages.push((name, loaded));
    }
    bound.weight_bytes = weights;
    bound.working_set.bytes = largest.saturating_add(between);
    let choice = choice(&stages);
    let precision = options.precision.unwrap_or(Precision::Fp32);
    let engine = Box::new(Stages::new(stages, &bound.interface)?);
    let ready = Ready { schema: model.schema.clone(), bound, engine, compiled: Compiled::Fresh };
    Ok(CoreMlModel::of_features(ready, choice, &model.path, precision))
}

/// The engine of the networks among the stages, where there is one.
fn choice(stages: &[(String, CoreMlModel)]) -> Choice {
    let own = classic::choice();
    let with_engine: Vec<&Choice> =
        stages.iter().map(|(_, model)| model.engine()).filter(|choice| choice.engine != own.engine).collect();
    match with_engine.first() {
        Some(first) => {
            let reason = format!("{}; for {} of {} stages", first.reason, with_engine.len(), stages.len());
            Choice { reason, ..(*first).clone() }
        }
        None => Choice { reason: "a pipeline that needs no engine".to_owned(), ..own },
    }
}

/// Bytes of all features of an interface, once as they are given and once as doubles.
fn features_bytes(interface: &Interface) -> usize {
    const EACH: usize = 2 * size_of::<f64>();
    let elements = |kind: &FeatureKind| match kind {
        FeatureKind::MultiArray(kind) => kind.shape.iter().fold(1usize, |n, &d| n.saturating_mul(d)),
        FeatureKind::Image(kind) => kind.color.channels().saturating_mul(kind.width).saturating_mul(kind.height),
        _ => 1,
    };
    let all = interface.inputs.iter().chain(&interface.outputs).map(|feature| elements(&feature.kind));
    all.fold(0usize, usize::saturating_add).saturating_mul(EACH)
}

fn in_stage(error: ANEError, stage: &str) -> ANEError {
    match error {
        ANEError::CompilationFailed(why) => ANEError::CompilationFailed(format!("{stage}: {why}")),
        ANEError::InferenceFailed(why) => ANEError::InferenceFailed(format!("{stage}: {why}")),
        ANEError::InvalidShape(why) => ANEError::InvalidShape(format!("{stage}: {why}")),
        ANEError::UnsupportedPrecision(why) => ANEError::UnsupportedPrecision(format!("{stage}: {why}")),
        other => other,
    }
}

/// The stages of a pipeline. Features lie in places: one for each input of the pipeline and each output of a stage.
struct Stages {
    interface: Interface,
    stages: Vec<Stage>,
    places: usize,
    /// The place of each output.
    outputs: Vec<usize>,
}

struct Stage {
    name: String,
    model: CoreMlModel,
    /// What it takes: the input's name, its place, and whether nothing takes it after.
    inputs: Vec<(String, usize, bool)>,
    /// What it gives: the output's name, and its place.
    outputs: Vec<(String, usize)>,
}

impl Stages {
    fn new(models: Vec<(String, CoreMlModel)>, interface: &Interface) -> Result<Stages> {
        let mut place_of: BTreeMap<String, usize> = BTreeMap::new();
        let mut places = 0;
        let mut next = || {
            places += 1;
            places - 1
        };
        for input in &interface.inputs {
            place_of.insert(input.name.clone(), next());
        }
        let mut stages = Vec::with_capacity(models.len());
        for (name, model) in models {
            let taken = model.interface().inputs.iter().filter_map(|input| {
                // What is not there is optional, or the file would not have been opened.
                Some((input.name.clone(), *place_of.get(&input.name)?, false))
            });
            let inputs = taken.collect();
            let given = model.interface().outputs.iter().map(|output| (output.name.clone(), next()));
            let outputs: Vec<(String, usize)> = given.collect();
            place_of.extend(outputs.iter().cloned());
            stages.push(Stage { name, model, inputs, outputs });
        }
        let output = |name: &String| {
            let place = place_of.get(name).copied();
            place.ok_or_else(|| ANEError::Internal(format!("no stage gives the output {name:?}")))
        };
        let outputs = interface.outputs.iter().map(|feature| output(&feature.name)).collect::<Result<Vec<usize>>>()?;
        let mut needed = vec![false; places];
        outputs.iter().for_each(|place| needed[*place] = true);
        for (_, place, last) in stages.iter_mut().rev().flat_map(|stage| &mut stage.inputs) {
            *last = !std::mem::replace(&mut needed[*place], true);
        }
        Ok(Stages { interface: interface.clone(), stages, places, outputs })
    }

    fn features(&self, inputs: &[Tensor<'_>]) -> Result<Vec<Option<Feature>>> {
        let given = self.interface.inputs.iter().zip(inputs);
        let mut features =
            given.map(|(declared, tensor)| classic::given(declared, tensor)).collect::<Result<Vec<_>>>()?;
        features.resize(self.places, None);
        Ok(features)
    }
}

impl LoadedEngineModel for Stages {
    fn run(&self, inputs: &[Tensor<'_>], limits: &Limits, take: &mut Take<'_>) -> Result<()> {
        let mut features = self.features(inputs)?;
        for stage in &self.stages {
            let mut taken = Features::new();
            for (name, place, last) in &stage.inputs {
                let feature = if *last { features[*place].take() } else { features[*place].clone() };
                if let Some(feature) = feature {
                    taken.insert(name.as_str(), feature);
                }
            }
            let given = stage.model.predict_within(&taken, None, limits).map_err(|e| in_stage(e, &stage.name))?;
            for (name, feature) in given {
                if let Some((_, place)) = stage.outputs.iter().find(|(known, _)| *known == name) {
                    features[*place] = Some(feature);
                }
            }
        }
        for (port, place) in self.outputs.iter().enumerate() {
            let feature = features[*place].clone();
            let feature = feature.ok_or_else(|| ANEError::InferenceFailed("an output was left out".to_owned()))?;
            let shape = feature.as_array().map_or(Shape::new(), |array| array.shape().into());
            take(port, Tensor { shape, data: Data::Feature(Cow::Owned(feature)) })?;
        }
        Ok(())
    }
}
