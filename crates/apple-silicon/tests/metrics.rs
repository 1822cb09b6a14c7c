//! The metrics as a whole: the contract's example, and the text for Prometheus against a parser of its format, which is
//! written here from its description, and against `promtool` where that is.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind as IoErrorKind, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use apple_silicon::ane::metrics::{
    ErrorKind, Observation, Outcome, PerformanceTracker,
    prometheus::{BufferReading, CONTENT_TYPE, Exposition, ModelReading, PoolReading, render},
};

/// Quotes, backslashes and line breaks: everything that must be escaped, and some that must not.
const AWKWARD: &str = "C:\\models\\new \"best\"\nmodel {id=\"7\", é}.mlpackage\\";

#[test]
fn the_contract() {
    let tracker = PerformanceTracker::new();
    tracker.update_latency(100.0); // ms
    tracker.update_throughput(10.0); // IPS
    tracker.update_memory(512.0); // MB
    let summary = tracker.get_summary();
    assert_eq!(
        (summary.average_latency_ms, summary.average_throughput_ips, summary.memory_usage_mb),
        (100.0, 10.0, 512.0)
    );
    tracker.update_latency(200.0);
    assert_eq!(tracker.get_summary().average_latency_ms, 110.0);
    assert_eq!(summary.total_inferences, 0, "nothing was run");
}

#[test]
fn trackers_are_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<PerformanceTracker>();
}

#[test]
fn the_text_is_well_formed() {
    for exposition in [Exposition::default(), full()] {
        check(&exposition);
    }
}

#[test]
fn every_value_is_where_it_belongs() {
    let metrics = check(&full());
    let value = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let key = (name.to_owned(), labels);
        *metrics.samples.get(&key).unwrap_or_else(|| panic!("no {key:?}"))
    };
    assert_eq!(value("ane_info", &[("version", "1.2.3"), ("engine", "rten")]), 1.0);
    assert_eq!(value("ane_models_loaded", &[]), 3.0);
    assert_eq!(value("ane_pool_slots", &[]), 4.0);
    assert_eq!(value("ane_pool_slots_in_use", &[]), 3.0);
    assert_eq!(value("ane_pool_memory_bytes", &[]), 1_073_741_824.0);
    assert_eq!(value("ane_pool_memory_in_use_bytes", &[]), 5e8);
    assert_eq!(value("ane_pool_waiting", &[]), 2.0);
    assert_eq!(value("ane_pool_admissions_total", &[]), 9_007_199_254_740_991.0);
    assert_eq!(value("ane_pool_waits_total", &[]), 5.0);
    assert_eq!(value("ane_pool_rejections_total", &[("reason", "never_fits")]), 6.0);
    assert_eq!(value("ane_pool_rejections_total", &[("reason", "timed_out")]), 7.0);
    assert_eq!(value("ane_buffers_in_use", &[]), 8.0);
    assert_eq!(value("ane_buffers_in_use_bytes", &[]), 9.0);
    assert_eq!(value("ane_buffers_idle", &[]), 10.0);
    assert_eq!(value("ane_buffers_idle_bytes", &[]), 11.0);
    let model = [("model", AWKWARD), ("id", "3")];
    assert_eq!(value("ane_model_info", &[model[0], model[1], ("engine", "onnxruntime")]), 1.0);
    assert_eq!(value("ane_model_weight_bytes", &model), 1e6);
    assert_eq!(value("ane_model_waiting", &model), 12.0);
    assert_eq!(value("ane_inference_items_total", &model), 300.0);
    for (outcome, count) in [("success", 100.0), ("cancelled", 1.0), ("timeout", 2.0), ("internal", 0.0)] {
        assert_eq!(value("ane_inferences_total", &[model[0], model[1], ("outcome", outcome)]), count, "{outcome}");
    }
    // 1 to 100 ms, a tenth of that in the queue, and nothing for batches.
    for (name, bound, count) in [
        ("ane_inference_duration_seconds", "0.01", 10.0),
        ("ane_inference_duration_seconds", "0.0001", 0.0),
        ("ane_inference_duration_seconds", "60", 100.0),
        ("ane_inference_queue_duration_seconds", "0.001", 10.0),
        ("ane_inference_batch_duration_seconds", "0.0001", 100.0),
        ("ane_inference_compute_duration_seconds", "0.01", 11.0),
    ] {
        let got = value(&format!("{name}_bucket"), &[model[0], model[1], ("le", bound)]);
        assert!((got - count).abs() <= 1.0, "{name} up to {bound}: {got}, not {count}");
    }
    let sum = value("ane_inference_duration_seconds_sum", &model);
    assert!((sum / 5.05 - 1.0).abs() < 1.0 / 64.0, "{sum}");
    assert_eq!(value("ane_inference_duration_seconds_count", &model), 100.0);
    for (bound, count) in [("1", 1.0), ("2", 1.0), ("4", 2.0), ("8", 3.0), ("1024", 3.0), ("+Inf", 4.0)] {
        assert_eq!(value("ane_batch_size_bucket", &[model[0], model[1], ("le", bound)]), count, "up to {bound}");
    }
    assert_eq!(value("ane_batch_size_sum", &model), 2013.0);
}

#[test]
fn promtool_has_nothing_to_say() {
    assert!(CONTENT_TYPE.contains("version=0.0.4"));
    for exposition in [Exposition::default(), full()] {
        let promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut promtool = match promtool {
            Err(error) if error.kind() == IoErrorKind::NotFound => return println!("skipped: promtool was not found"),
            promtool => promtool.unwrap(),
        };
        promtool.stdin.take().unwrap().write_all(render(&exposition).as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    }
}

/// The parser finds what is wrong.
#[test]
fn a_wrong_text_is_refused() {
    let refused = |text: &str, why: &str| match parse(text) {
        Ok(_) => panic!("{why}: nothing was found in {text:?}"),
        Err(found) => assert!(found.contains(why), "{text:?}: {found:?}, not {why:?}"),
    };
    refused("# TYPE a gauge\na 1", "line break");
    refused("a 1\n", "no type");
    refused("# TYPE a gauge\na 1\n# TYPE a gauge\n", "twice");
    refused("# TYPE a gauge\n# HELP a b\na 1\na 2\n", "twice");
    refused("# TYPE a gauge\n# TYPE b gauge\na 1\n", "no type");
    refused("# TYPE a pie\n", "type");
    refused("# TYPE 1a gauge\n", "name");
    refused("# TYPE a gauge\na one\n", "number");
    refused("# TYPE a gauge\na{b=\"c} 1\n", "label");
    refused("# TYPE a gauge\na{b=\"\\c\"} 1\n", "escape");
    refused("# TYPE a gauge\na{b=\"c\",b=\"d\"} 1\n", "label");
    refused("# TYPE a counter\na -1\n", "negative");
    let histogram = |samples: &str| format!("# TYPE a histogram\n{samples}");
    refused(&histogram("a_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n"), "+Inf");
    refused(&histogram("a_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n"), "cumulative");
    refused(&histogram("a_bucket{le=\"2\"} 1\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 1\n"), "order");
    refused(&histogram("a_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n"), "count");
    refused(&histogram("a_bucket{le=\"+Inf\"} 1\na_count 1\n"), "sum");
    refused(&histogram("a_bucket 1\n"), "le");
}

/// Two models of one name, one of them idle, and one with an awkward name.
fn full() -> Exposition {
    let tracker = PerformanceTracker::new();
    let start = Instant::now();
    let ended = |n: u64, outcome| {
        let (total, queue) = (Duration::from_millis(n), Duration::from_micros(100 * n));
        let ended = start + Duration::from_secs(n);
        Observation { ended, outcome, items: 3, total, queue, batch: Duration::ZERO, compute: total - queue }
    };
    (1..=100).for_each(|n| tracker.record(&ended(n, Outcome::Succeeded)));
    let failed = [ErrorKind::Timeout, ErrorKind::Timeout, ErrorKind::InvalidShape].map(Outcome::Failed);
    failed.into_iter().chain([Outcome::Cancelled]).for_each(|outcome| tracker.record(&ended(1, outcome)));
    [1, 4, 8, 2000].into_iter().for_each(|samples| tracker.record_batch(samples));
    let model = |id, name: &str| ModelReading {
        id,
        name: name.to_owned(),
        engine: "onnxruntime".to_owned(),
        weight_bytes: 1_000_000,
        waiting: 12,
        measurements: tracker.measurements(),
    };
    Exposition {
        version: "1.2.3".to_owned(),
        engine: "rten".to_owned(),
        pool: PoolReading {
            slots: 4,
            slots_in_use: 3,
            memory_bytes: 1 << 30,
            memory_in_use_bytes: 500_000_000,
            waiting: 2,
            admissions: (1 << 53) - 1,
            waits: 5,
            rejections: vec![("never_fits", 6), ("timed_out", 7)],
        },
        buffers: BufferReading { in_use: 8, in_use_bytes: 9, idle: 10, idle_bytes: 11 },
        models: vec![
            model(1, "a.mlpackage"),
            ModelReading { id: 2, name: "a.mlpackage".to_owned(), ..ModelReading::default() },
            model(3, AWKWARD),
        ],
    }
}

fn check(exposition: &Exposition) -> Metrics {
    let text = render(exposition);
    let metrics = parse(&text).unwrap_or_else(|why| panic!("{why}, in\n{text}"));
    assert!(metrics.types.keys().all(|name| metrics.helped.contains(name)), "each metric has a help: {text}");
    metrics
}

#[derive(Default)]
struct Metrics {
    types: BTreeMap<String, String>,
    helped: BTreeSet<String>,
    samples: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

/// Reads the format and checks what it demands, and that counters and histograms are what they are called.
fn parse(text: &str) -> Result<Metrics, String> {
    let mut metrics = Metrics::default();
    let mut family = String::new();
    // A histogram's buckets by its other labels, in the order of the text.
    let mut buckets: BTreeMap<(String, Labels), Vec<(f64, f64)>> = BTreeMap::new();
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no line break".to_owned());
    }
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next(), words.next().unwrap_or(""), words.next().unwrap_or(""));
            match kind {
                Some("HELP") if metrics.helped.insert(checked_name(name)?) => {}
                Some("TYPE") if !["counter", "gauge", "histogram"].contains(&rest) => Err(format!("type {rest:?}"))?,
                Some("TYPE") if metrics.types.insert(checked_name(name)?, rest.to_owned()).is_none() => {
                    family = name.to_owned();
                }
                _ => Err(format!("twice: {line}"))?,
            }
            continue;
        }
        let (name, labels, value) = sample(line)?;
        let is_histogram = metrics.types.get(&family).is_some_and(|kind| kind == "histogram");
        let suffix = name.strip_prefix(&family).filter(|_| !family.is_empty());
        match (is_histogram, suffix) {
            (false, Some("")) | (true, Some("_sum" | "_count")) => {}
            (true, Some("_bucket")) => {
                let mut others = labels.clone();
                let bound = others.remove("le").ok_or(format!("no le: {line}"))?;
                buckets.entry((family.clone(), others)).or_default().push((number(&bound)?, value));
            }
            _ => Err(format!("no type just before: {line}"))?,
        }
        if metrics.types[&family] != "gauge" && value < 0.0 {
            return Err(format!("negative: {line}"));
        }
        if metrics.samples.insert((name, labels), value).is_some() {
            return Err(format!("twice: {line}"));
        }
    }
    for ((name, labels), buckets) in buckets {
        let named = |suffix: &str| metrics.samples.get(&(format!("{name}{suffix}"), labels.clone()));
        let steps = || buckets.windows(2).map(|pair| (pair[0], pair[1]));
        let last = buckets.last().filter(|(bound, _)| *bound == f64::INFINITY);
        for (holds, what) in [
            (steps().all(|(a, b)| a.0 < b.0), "the order of the bounds"),
            (steps().all(|(a, b)| a.1 <= b.1), "not cumulative"),
            (last.is_some(), "no +Inf"),
            (last.map(|(_, count)| count) == named("_count"), "the count is not the last bucket's"),
            (named("_sum").is_some(), "no sum"),
        ] {
            if !holds {
                return Err(format!("{name} {labels:?}: {what}"));
            }
        }
    }
    Ok(metrics)
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let end = line.find(['{', ' ']).ok_or(format!("no value: {line}"))?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or(format!("label: {line}"))?;
            let (value, after) = unescaped(after)?;
            if labels.insert(checked_name(label)?, value).is_some() {
                return Err(format!("label twice: {line}"));
            }
            rest = after;
            match rest.split_at_checked(1).ok_or(format!("label: {line}"))? {
                (",", more) => rest = more,
                ("}", more) => break rest = more,
                _ => Err(format!("label: {line}"))?,
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or(format!("no space: {line}"))?;
    Ok((checked_name(name)?, labels, number(value)?))
}

/// A label's value until its closing quote, and what comes after that.
fn unescaped(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('\\' | '"'))) => escaped,
                other => Err(format!("escape {other:?}"))?,
            }),
            plain => value.push(plain),
        }
    }
    Err(format!("label without an end: {text}"))
}

fn checked_name(name: &str) -> Result<String, String> {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let is_name = starts && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    if is_name { Ok(name.to_owned()) } else { Err(format!("name {name:?}")) }
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        text => text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(format!("number {text:?}")),
    }
}
