//! Joining requests along the first dimension, and splitting what comes out.
//!
//! Knows tensors and a model's shapes; who waits and for how long is the lane's business.

use std::{borrow::Cow, time::Duration};

use coreml_format::schema::{ArrayType, FeatureKind};
use coreml_onnx::InputBinding;

use crate::ane::{
    engines::{Data, Shape, Tensor},
    errors::{ANEError, Result},
    features::{Array, Elements, Feature, Features},
    limits::Limits,
    models::coreml_model::{CoreMlModel, Results, Tensors, put},
    resource_pool::Admission,
};

/// How concurrent requests for one model are gathered into batches.
///
/// A model takes batches where the first dimension of each input is flexible or enumerated, where it has no state, and
/// where a trial at load shows that what it gives for one sample does not depend on the others. Elsewhere requests run
/// one by one, whatever is asked for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Samples in a run at most; 1 turns batching off.
    pub max_batch: usize,
    /// How long a request may wait for others where a run could begin at once. With zero, only requests that wait
    /// anyway, since every slot is taken, are gathered.
    pub max_queue_delay: Duration,
}

impl Default for Batching {
    /// Up to 32 samples, and no delay.
    fn default() -> Batching {
        Batching { max_batch: 32, max_queue_delay: Duration::ZERO }
    }
}

impl Batching {
    /// Every request in a run of its own.
    pub const OFF: Batching = Batching { max_batch: 1, max_queue_delay: Duration::ZERO };

    /// No batch is larger, whatever is asked for.
    const MOST: usize = 4096;

    /// What of this the model takes. Cost: where it may take batches, three runs on made-up inputs, in the share of the
    /// pool that `admit` gives for so many bytes.
    ///
    /// # Errors
    /// Those of `admit`, but for [`ANEError::ResourceLimit`]: where there is no room for a batch, there are none.
    pub(crate) fn for_model(
        self,
        model: &CoreMlModel,
        admit: impl FnOnce(usize) -> Result<Admission>,
    ) -> Result<Batching> {
        let most = (2..=self.max_batch.min(Batching::MOST)).rev().find(|&samples| takes_samples(model, samples));
        let Some(max_batch) = most else { return Ok(Batching::OFF) };
        let off = |why: String| {
            tracing::info!(model = %model.path().display(), "requests are not gathered into batches: {why}");
            Ok(Batching::OFF)
        };
        let trial = match Trial::new(model, max_batch) {
            Ok(trial) => trial,
            Err(why) => return off(why),
        };
        let admission = match admit(trial.bytes) {
            Err(ANEError::ResourceLimit(why)) => return off(why),
            admission => admission?,
        };
        let independent = trial.rows_are_independent(model);
        drop(admission);
        match independent {
            Ok(()) => Ok(Batching { max_batch, ..self }),
            Err(why) => off(why),
        }
    }
}

/// Whether every input takes so many samples of its default shape.
fn takes_samples(model: &CoreMlModel, samples: usize) -> bool {
    let shape = |input: &InputBinding| match &input.feature.kind {
        FeatureKind::MultiArray(kind) if !kind.shape.is_empty() => {
            let mut shape = Shape::from_slice(&kind.shape);
            shape[0] = samples;
            Some(shape)
        }
        _ => None,
    };
    !model.has_state() && model.takes(shape)
}

/// A run of the model on a batch, to be compared with runs on two of its samples alone. A first dimension that is
/// flexible may be time or tokens as well as samples, and the file does not say.
struct Trial {
    samples: usize,
    batch: Features,
    /// Working set of the batch's run.
    bytes: usize,
}

impl Trial {
    /// The smallest batch; or why there is none.
    fn new(model: &CoreMlModel, max_batch: usize) -> Result<Trial, String> {
        let sizes = (2..=max_batch).find(|&samples| takes_samples(model, samples));
        let (Some(samples), true) = (sizes, takes_samples(model, 1)) else {
            return Err("it takes no single sample".to_owned());
        };
        let batch = sample_rows(model, 0, samples).map_err(|e| e.to_string())?;
        let bytes = model.working_set_bytes_of(&model.tensors(&batch, None).map_err(|e| e.to_string())?);
        Ok(Trial { samples, batch, bytes })
    }

    fn rows_are_independent(&self, model: &CoreMlModel) -> Result<(), String> {
        let run = |features: &Features| -> Result<Results> {
            let tensors = model.tensors(features, None)?;
            let mut results = model.no_results();
            model.run(&tensors, &Limits::default(), &mut |port, tensor| put(&mut results, port, tensor))?;
            Ok(results)
        };
        let joined = run(&self.batch).map_err(|e| e.to_string())?;
        for row in [0, self.samples - 1] {
            let alone = sample_rows(model, row, 1).and_then(|features| run(&features)).map_err(|e| e.to_string())?;
            for (joined, alone) in joined.iter().zip(&alone) {
                let (Some(joined), Some(alone)) = (joined, alone) else {
                    return Err("an output is missing".to_owned());
                };
                let part = rows(joined, row, 1, self.samples).map_err(|e| e.to_string())?;
                if part.shape != alone.shape || !agree(&part.data, &alone.data) {
                    return Err("what it gives for a sample depends on the others".to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Made-up inputs of the default shapes, for a run that only warms the model up.
pub(super) fn made_up(model: &CoreMlModel) -> Result<Features> {
    let mut features = Features::new();
    for input in model.interface().inputs.iter().filter(|input| !input.optional) {
        let unlike = |what: &str| {
            ANEError::InvalidShape(format!("no input can be made up for {:?}, which is {what}", input.name))
        };
        let feature = match &input.kind {
            FeatureKind::MultiArray(kind) if kind.shape.is_empty() => return Err(unlike("of no known shape")),
            FeatureKind::MultiArray(kind) => Array::filled(kind.dtype, kind.shape.clone(), 0.0)?.into(),
            FeatureKind::Image(kind) => {
                let shape = [1, kind.color.channels(), kind.height, kind.width];
                Array::filled(ArrayType::Float32, shape, 0.0)?.into()
            }
            FeatureKind::Int64 => Feature::Int64(0),
            FeatureKind::Double => Feature::Double(0.0),
            FeatureKind::String => Feature::String(String::new()),
            FeatureKind::Dictionary(_) => return Err(unlike("a dictionary")),
            FeatureKind::Sequence(..) => return Err(unlike("a sequence")),
            FeatureKind::State(_) => return Err(unlike("a state")),
        };
        features.insert(input.name.clone(), feature);
    }
    Ok(features)
}

/// Made-up inputs: samples `first` and following of an endless row of different ones.
fn sample_rows(model: &CoreMlModel, first: usize, samples: usize) -> Result<Features> {
    let mut features = Features::new();
    for input in &model.interface().inputs {
        let FeatureKind::MultiArray(kind) = &input.kind else {
            return Err(ANEError::InvalidShape("only arrays are joined".to_owned()));
        };
        let sample: usize = kind.shape[1..].iter().product();
        let numbers = first * sample..(first + samples) * sample;
        let elements = match kind.dtype {
            // Whole numbers are often indices, and the first two are within any table.
            ArrayType::Int32 | ArrayType::Int8 => {
                Elements::Int8(numbers.map(|n| (scattered(n) > 0.0).into()).collect())
            }
            ArrayType::Float16 | ArrayType::Float32 | ArrayType::Float64 => {
                Elements::Float32(numbers.map(scattered).collect())
            }
        };
        let shape: Vec<usize> = [&[samples], &kind.shape[1..]].concat();
        features.insert(input.name.clone(), Array::new(shape, elements)?);
    }
    Ok(features)
}

/// The n-th number of a sequence that is spread over -1..1 without a visible pattern.
fn scattered(n: usize) -> f32 {
    let mixed = (n as u32).wrapping_add(1).wrapping_mul(0x9e37_79b9);
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca6b);
    (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// Whether two runs gave the same, but for the order of additions.
fn agree(a: &Data<'_>, b: &Data<'_>) -> bool {
    match (a, b) {
        (Data::F32(a), Data::F32(b)) => {
            let scale = a.iter().filter(|v| v.is_finite()).fold(0f32, |most, v| most.max(v.abs()));
            let near = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-3 * scale;
            a.len() == b.len() && a.iter().zip(&**b).all(|(&a, &b)| near(a, b))
        }
        _ => a == b,
    }
}

/// Whether the model takes tensors like these with so many samples.
pub(super) fn takes(model: &CoreMlModel, tensors: &[Tensor<'_>], samples: usize) -> bool {
    model.takes(|input| {
        let mut shape = tensors[input.port].shape.clone();
        *shape.first_mut()? = samples;
        Some(shape)
    })
}

/// The sizes of the parts into which features are split, each of `most` samples at most and as many as the model takes
/// at a time. `None` where there is one part only, or no way to split, which the model's own check then explains.
pub(super) fn parts(model: &CoreMlModel, features: &Features, most: usize) -> Option<Vec<usize>> {
    let rows = |feature: &Feature| feature.as_array().and_then(|array| array.shape().first().copied());
    let mut sizes = features.iter().map(|(_, feature)| rows(feature));
    let samples = sizes.next()??;
    if sizes.any(|size| size != Some(samples)) {
        return None;
    }
    let takes = |len: usize| {
        model.takes(|input| {
            let mut shape = Shape::from_slice(features.get(&input.feature.name)?.as_array()?.shape());
            *shape.first_mut()? = len;
            Some(shape)
        })
    };
    let (mut parts, mut left, mut most) = (Vec::new(), samples, most);
    while left > 0 {
        // What was too much before stays so.
        most = (1..=most.min(left)).rev().find(|&len| takes(len))?;
        parts.push(most);
        left -= most;
    }
    (parts.len() > 1).then_some(parts)
}

/// Samples `start` and following of features that are all arrays.
pub(super) fn part(features: &Features, start: usize, len: usize) -> Result<Features> {
    let part = |(name, feature): (&str, &Feature)| match feature {
        Feature::Array(array) => Ok((name.to_owned(), array.rows(start, len)?)),
        other => Err(ANEError::InvalidShape(format!("the input {name:?} is {} and cannot be split", other.describe()))),
    };
    Ok(Features::from_iter(features.iter().map(part).collect::<Result<Vec<_>>>()?))
}

/// Puts the outputs of one part behind those of the parts before it.
pub(super) fn append(all: Features, more: Features) -> Result<Features> {
    let joined = |((name, all), (_, more)): ((String, Feature), (String, Feature))| match (all, more) {
        (Feature::Array(mut all), Feature::Array(more)) => {
            all.append(more)?;
            Ok((name, all))
        }
        (all, _) => Err(ANEError::InvalidShape(format!(
            "the output {name:?} is {} and cannot be joined; leave the batch size out",
            all.describe()
        ))),
    };
    Ok(Features::from_iter(all.into_iter().zip(more).map(joined).collect::<Result<Vec<_>>>()?))
}

/// How many samples the tensors of a request hold; `None` where their first dimensions differ.
pub(super) fn samples(tensors: &[Tensor<'_>]) -> Option<usize> {
    let mut sizes = tensors.iter().map(|tensor| tensor.shape.first().copied());
    let first = sizes.next()??;
    sizes.all(|size| size == Some(first)).then_some(first)
}

/// Whether two requests may be joined: tensors of the same shapes but for the number of samples.
pub(super) fn joinable(a: &[Tensor<'_>], b: &[Tensor<'_>]) -> bool {
    let alike = |(a, b): (&Tensor<'_>, &Tensor<'_>)| {
        !matches!(a.data, Data::Shared(..) | Data::Feature(_) | Data::Absent | Data::State(_))
            && a.shape.len() == b.shape.len()
            && a.shape.get(1..) == b.shape.get(1..)
            && std::mem::discriminant(&a.data) == std::mem::discriminant(&b.data)
    };
    a.len() == b.len() && a.iter().zip(b).all(alike)
}

/// The requests one after the other, port by port. There is one at least, and all are [`joinable`].
pub(super) fn join<'a>(requests: impl Iterator<Item = &'a [Tensor<'a>]> + Clone, samples: usize) -> Tensors<'static> {
    fn concat<'a, T: Clone + 'a>(parts: impl Iterator<Item = &'a [T]> + Clone) -> Vec<T> {
        let mut all = Vec::with_capacity(parts.clone().map(<[T]>::len).sum());
        parts.for_each(|part| all.extend_from_slice(part));
        all
    }
    macro_rules! concat_as {
        ($port:expr, $variant:ident) => {
            Data::$variant(
                concat(requests.clone().map(|request| match &request[$port].data {
                    Data::$variant(values) => &**values,
                    _ => &[],
                }))
                .into(),
            )
        };
    }
    let first = requests.clone().next().unwrap_or_default();
    let joined = |(port, first): (usize, &Tensor<'_>)| {
        let data = match &first.data {
            Data::F32(_) => concat_as!(port, F32),
            Data::I32(_) => concat_as!(port, I32),
            Data::I64(_) => concat_as!(port, I64),
            Data::Bool(_) => concat_as!(port, Bool),
            // Never: such tensors are not joinable.
            Data::Shared(..) | Data::Feature(_) | Data::Absent | Data::State(_) => first.data.clone().into_owned(),
        };
        let mut shape = first.shape.clone();
        shape[0] = samples;
        Tensor::owned(shape, data)
    };
    first.iter().enumerate().map(joined).collect()
}

/// The part of an output that belongs to `len` of the batch's `samples`.
pub(super) fn rows<'a>(tensor: &'a Tensor<'_>, start: usize, len: usize, samples: usize) -> Result<Tensor<'a>> {
    if tensor.shape.first() != Some(&samples) {
        let shape = &tensor.shape;
        return Err(ANEError::InferenceFailed(format!(
            "an output of shape {shape:?} has no part for each of {samples}"
        )));
    }
    let row: usize = tensor.shape[1..].iter().product();
    let part = start * row..(start + len) * row;
    let data = match &tensor.data {
        Data::F32(values) => Data::F32(values[part].into()),
        Data::I32(values) => Data::I32(values[part].into()),
        Data::I64(values) => Data::I64(values[part].into()),
        Data::Bool(values) => Data::Bool(values[part].into()),
        Data::Shared(memory, _) => Data::F32(memory[part].into()),
        Data::Feature(feature) => match &**feature {
            Feature::Array(array) => Data::Feature(Cow::Owned(Feature::Array(array.rows(start, len)?))),
            other => return Err(ANEError::InferenceFailed(format!("{} has no parts", other.describe()))),
        },
        Data::Absent | Data::State(_) => return Err(ANEError::InferenceFailed("a state has no parts".to_owned())),
    };
    let mut shape = tensor.shape.clone();
    shape[0] = len;
    Ok(Tensor { shape, data })
}
