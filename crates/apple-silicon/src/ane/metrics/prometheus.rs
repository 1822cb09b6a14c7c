//! What is measured, as text for Prometheus (exposition format 0.0.4).
//!
//! Every metric is a row of `METRICS`. Durations are in seconds and memory in bytes. Each stage of an inference has a
//! metric of its own rather than a label, so that the sum over a metric's labels means something. Series are there from
//! the start, at zero.

use std::time::Duration;

use ::prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{HistogramSnapshot, Measurements, SizeCounts};

/// The content type of what [`render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is told.
///
/// ```
/// use apple_silicon::ane::metrics::prometheus::{Exposition, ModelReading, render};
///
/// let model = ModelReading { id: 1, name: "mobilenet.mlpackage".to_owned(), ..ModelReading::default() };
/// let text = render(&Exposition { models: vec![model], ..Exposition::default() });
/// assert!(text.contains(r#"ane_inferences_total{model="mobilenet.mlpackage",id="1",outcome="success"} 0"#));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// This library's version.
    pub version: String,
    /// The engine that models get by default.
    pub engine: String,
    /// The pool.
    pub pool: PoolReading,
    /// The buffers.
    pub buffers: BufferReading,
    /// The models that are loaded.
    pub models: Vec<ModelReading>,
}

/// What a pool lends, and what it has done.
#[derive(Clone, Debug, Default)]
pub struct PoolReading {
    /// Slots in all.
    pub slots: u64,
    /// Slots that are lent.
    pub slots_in_use: u64,
    /// Bytes in all.
    pub memory_bytes: u64,
    /// Bytes that are lent.
    pub memory_in_use_bytes: u64,
    /// Requests that wait now.
    pub waiting: u64,
    /// Requests that were admitted.
    pub admissions: u64,
    /// Requests that had to wait.
    pub waits: u64,
    /// Requests that were not admitted, by reason. Each reason is there once.
    pub rejections: Vec<(&'static str, u64)>,
}

/// What buffers there are.
#[derive(Clone, Debug, Default)]
pub struct BufferReading {
    /// Buffers that are in use.
    pub in_use: u64,
    /// Their bytes.
    pub in_use_bytes: u64,
    /// Buffers that wait to be used again.
    pub idle: u64,
    /// Their bytes.
    pub idle_bytes: u64,
}

/// A model, and how it has done.
#[derive(Clone, Debug, Default)]
pub struct ModelReading {
    /// Tells it from others of the same name: no two have the same.
    pub id: u64,
    /// Its path, or what else it is called.
    pub name: String,
    /// The engine that runs it.
    pub engine: String,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Requests that wait for it.
    pub waiting: u64,
    /// What its tracker has counted.
    pub measurements: Measurements,
}

/// The text. A metric that has no series is left out, such as those of models where none is loaded.
pub fn render(exposition: &Exposition) -> String {
    let families: Vec<MetricFamily> = METRICS.iter().filter_map(|row| row.read(exposition)).collect();
    TextEncoder::new().encode_to_string(&families).expect("a string takes everything, and each family has a series")
}

/// A metric.
struct Row {
    name: &'static str,
    help: &'static str,
    series: Series,
}

/// Its type, and where its series are read.
enum Series {
    Counter(Read<u64>),
    Gauge(Read<u64>),
    Histogram(Read<Distribution>),
}

type Read<T> = fn(&Exposition) -> Vec<(Labels, T)>;
type Labels = Vec<(&'static str, String)>;

const METRICS: &[Row] = &[
    Row {
        name: "ane_info",
        help: "The version of the library, and the engine that models get by default.",
        series: Series::Gauge(|all| vec![(vec![("version", all.version.clone()), ("engine", all.engine.clone())], 1)]),
    },
    Row {
        name: "ane_models_loaded",
        help: "Models that are loaded.",
        series: Series::Gauge(|all| one(all.models.len() as u64)),
    },
    Row {
        name: "ane_pool_slots",
        help: "Runs that the pool admits at a time.",
        series: Series::Gauge(|all| one(all.pool.slots)),
    },
    Row {
        name: "ane_pool_slots_in_use",
        help: "Runs that the pool has admitted and that have not ended.",
        series: Series::Gauge(|all| one(all.pool.slots_in_use)),
    },
    Row {
        name: "ane_pool_memory_bytes",
        help: "Memory that the pool lends.",
        series: Series::Gauge(|all| one(all.pool.memory_bytes)),
    },
    Row {
        name: "ane_pool_memory_in_use_bytes",
        help: "Memory that the pool has lent: to weights, runs and buffers.",
        series: Series::Gauge(|all| one(all.pool.memory_in_use_bytes)),
    },
    Row {
        name: "ane_pool_waiting",
        help: "Requests that wait for a slot or for memory.",
        series: Series::Gauge(|all| one(all.pool.waiting)),
    },
    Row {
        name: "ane_pool_admissions_total",
        help: "Requests that the pool has admitted.",
        series: Series::Counter(|all| one(all.pool.admissions)),
    },
    Row {
        name: "ane_pool_waits_total",
        help: "Requests that had to wait for a slot or for memory.",
        series: Series::Counter(|all| one(all.pool.waits)),
    },
    Row {
        name: "ane_pool_rejections_total",
        help: "Requests that the pool has not admitted.",
        series: Series::Counter(|all| {
            let rejections = all.pool.rejections.iter();
            rejections.map(|(reason, count)| (vec![("reason", (*reason).to_owned())], *count)).collect()
        }),
    },
    Row {
        name: "ane_buffers_in_use",
        help: "Buffers that callers or runs hold.",
        series: Series::Gauge(|all| one(all.buffers.in_use)),
    },
    Row {
        name: "ane_buffers_in_use_bytes",
        help: "Memory of the buffers that callers or runs hold.",
        series: Series::Gauge(|all| one(all.buffers.in_use_bytes)),
    },
    Row {
        name: "ane_buffers_idle",
        help: "Buffers that wait to be used again.",
        series: Series::Gauge(|all| one(all.buffers.idle)),
    },
    Row {
        name: "ane_buffers_idle_bytes",
        help: "Memory of the buffers that wait to be used again.",
        series: Series::Gauge(|all| one(all.buffers.idle_bytes)),
    },
    Row {
        name: "ane_model_info",
        help: "The engine that runs the model.",
        series: Series::Gauge(|all| {
            let labels = |model: &ModelReading| model.labels_and("engine", &model.engine);
            all.models.iter().map(|model| (labels(model), 1)).collect()
        }),
    },
    Row {
        name: "ane_model_weight_bytes",
        help: "Memory of the model's weights.",
        series: Series::Gauge(|all| all.each(|model| model.weight_bytes)),
    },
    Row {
        name: "ane_model_waiting",
        help: "Requests that wait for the model.",
        series: Series::Gauge(|all| all.each(|model| model.waiting)),
    },
    Row {
        name: "ane_inferences_total",
        help: "Inferences that have ended, by how they ended.",
        series: Series::Counter(|all| {
            let outcomes = |model| outcomes(model).map(|(name, count)| (model.labels_and("outcome", name), count));
            all.models.iter().flat_map(outcomes).collect()
        }),
    },
    Row {
        name: "ane_inference_items_total",
        help: "Samples of the inferences that succeeded.",
        series: Series::Counter(|all| all.each(|model| model.measurements.items)),
    },
    Row {
        name: "ane_inference_duration_seconds",
        help: "Time from call to answer, of inferences that succeeded.",
        series: Series::Histogram(|all| all.each(|model| durations(&model.measurements.total))),
    },
    Row {
        name: "ane_inference_queue_duration_seconds",
        help: "Time of an inference that was spent waiting.",
        series: Series::Histogram(|all| all.each(|model| durations(&model.measurements.queue))),
    },
    Row {
        name: "ane_inference_batch_duration_seconds",
        help: "Time of an inference that was spent on being gathered and joined into a batch.",
        series: Series::Histogram(|all| all.each(|model| durations(&model.measurements.batch))),
    },
    Row {
        name: "ane_inference_compute_duration_seconds",
        help: "Time of an inference that was spent in the engine.",
        series: Series::Histogram(|all| all.each(|model| durations(&model.measurements.compute))),
    },
    Row {
        name: "ane_batch_size",
        help: "Samples in a run of the engine.",
        series: Series::Histogram(|all| all.each(|model| sizes(&model.measurements.batches))),
    },
];

/// Upper bounds of the buckets of durations, in microseconds.
const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

impl Row {
    fn read(&self, all: &Exposition) -> Option<MetricFamily> {
        let (kind, metrics) = match self.series {
            Series::Counter(read) => (MetricType::COUNTER, metrics(read(all), set_counter)),
            Series::Gauge(read) => (MetricType::GAUGE, metrics(read(all), set_gauge)),
            Series::Histogram(read) => (MetricType::HISTOGRAM, metrics(read(all), set_histogram)),
        };
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        (!family.get_metric().is_empty()).then_some(family)
    }
}

impl Exposition {
    fn each<T>(&self, read: fn(&ModelReading) -> T) -> Vec<(Labels, T)> {
        self.models.iter().map(|model| (model.labels(), read(model))).collect()
    }
}

impl ModelReading {
    fn labels(&self) -> Labels {
        vec![("model", self.name.clone()), ("id", self.id.to_string())]
    }

    fn labels_and(&self, name: &'static str, value: &str) -> Labels {
        let mut labels = self.labels();
        labels.push((name, value.to_owned()));
        labels
    }
}

/// Counts up to each bound, in all, and the sum of what was counted.
struct Distribution {
    cumulative: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
}

fn one(value: u64) -> Vec<(Labels, u64)> {
    vec![(Labels::new(), value)]
}

fn outcomes(model: &ModelReading) -> impl Iterator<Item = (&'static str, u64)> {
    let Measurements { succeeded, cancelled, errors, .. } = &model.measurements;
    let failed = errors.iter().map(|(kind, count)| (kind.name(), count)).collect::<Vec<_>>();
    [("success", *succeeded), ("cancelled", *cancelled)].into_iter().chain(failed)
}

fn durations(snapshot: &HistogramSnapshot) -> Distribution {
    let bounds = BOUNDS_US.map(Duration::from_micros);
    Distribution {
        cumulative: bounds.map(|bound| (bound.as_secs_f64(), snapshot.at_most(bound))).into(),
        count: snapshot.count(),
        sum: snapshot.sum().as_secs_f64(),
    }
}

fn sizes(counts: &SizeCounts) -> Distribution {
    Distribution {
        cumulative: counts.cumulative().map(|(bound, count)| (bound as f64, count)).collect(),
        count: counts.count(),
        sum: counts.sum() as f64,
    }
}

fn metrics<T>(series: Vec<(Labels, T)>, set: fn(&mut Metric, T)) -> Vec<Metric> {
    let metric = |(labels, value): (Labels, T)| {
        let mut metric = Metric::from_label(labels.into_iter().map(label).collect());
        set(&mut metric, value);
        metric
    };
    series.into_iter().map(metric).collect()
}

fn label((name, value): (&'static str, String)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}

fn set_counter(metric: &mut Metric, value: u64) {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    metric.set_counter(counter);
}

fn set_gauge(metric: &mut Metric, value: u64) {
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    metric.set_gauge(gauge);
}

fn set_histogram(metric: &mut Metric, value: Distribution) {
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(value.cumulative.into_iter().map(bucket).collect());
    histogram.set_sample_count(value.count);
    histogram.set_sample_sum(value.sum);
    metric.set_histogram(histogram);
}
