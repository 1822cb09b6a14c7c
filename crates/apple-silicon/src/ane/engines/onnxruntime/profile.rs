//! What ONNX Runtime writes of the time that its nodes take.

use std::{fs, path::PathBuf};

use ort::session::Session;
use serde::Deserialize;
use tempfile::TempDir;

use super::failed;
use crate::ane::{
    engines::NodeTime,
    errors::{ANEError, Result},
};

/// What follows a node's name in the event of its kernel.
const KERNEL: &str = "_kernel_time";
/// The event of a whole run.
const RUN: &str = "model_run";

/// A folder for the file of a session.
pub(super) struct Profile {
    folder: TempDir,
}

/// An event in the format of Chrome's trace viewer.
#[derive(Deserialize)]
struct Event {
    cat: String,
    name: String,
    /// Microseconds since the session began.
    ts: f64,
    /// Microseconds.
    dur: f64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    op_name: String,
}

impl Profile {
    pub(super) fn begin() -> Result<Profile> {
        let folder = tempfile::tempdir()
            .map_err(|error| ANEError::Internal(format!("a profile needs a temporary folder: {error}")))?;
        Ok(Profile { folder })
    }

    /// What the session's file begins with.
    pub(super) fn prefix(&self) -> PathBuf {
        self.folder.path().join("profile")
    }

    /// Ends the session's profile and reads it.
    pub(super) fn end(self, session: &mut Session) -> Result<Vec<NodeTime>> {
        let file = session.end_profiling().map_err(|error| failed("the profile was not written", &error))?;
        let text = fs::read(&file).map_err(|error| ANEError::Internal(format!("{file}: {error}")))?;
        let events: Vec<Event> = serde_json::from_slice(&text)
            .map_err(|error| ANEError::Internal(format!("the profile of ONNX Runtime is not understood: {error}")))?;
        Ok(node_times(events))
    }
}

/// The kernels of each run, in the order in which they ran. Nested graphs are in their node's time.
fn node_times(mut events: Vec<Event>) -> Vec<NodeTime> {
    events.sort_by(|a, b| a.ts.total_cmp(&b.ts));
    let runs: Vec<(f64, f64)> =
        events.iter().filter(|event| event.name == RUN).map(|event| (event.ts, event.ts + event.dur)).collect();
    let mut times = Vec::new();
    let mut until = f64::NEG_INFINITY;
    for event in events.into_iter().filter(|event| event.cat == "Node") {
        let Some(name) = event.name.strip_suffix(KERNEL) else { continue };
        let Some(run) = runs.iter().position(|(start, end)| (*start..=*end).contains(&event.ts)) else { continue };
        // What begins while another kernel runs is in a graph inside of it.
        if event.ts < until {
            continue;
        }
        until = event.ts + event.dur;
        let (name, operator) = (name.to_owned(), event.args.op_name);
        times.push(NodeTime { run, name, operator, microseconds: event.dur });
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_times_of_runs() {
        let text = r#"[
            {"cat": "Session", "name": "model_loading_uri", "ts": 1, "dur": 9, "args": {}},
            {"cat": "Node", "name": "a_kernel_time", "ts": 21, "dur": 2, "args": {"op_name": "Conv", "x": [1]}},
            {"cat": "Node", "name": "loop_kernel_time", "ts": 24, "dur": 5, "args": {"op_name": "Loop"}},
            {"cat": "Node", "name": "inner_kernel_time", "ts": 25, "dur": 2, "args": {"op_name": "Add"}},
            {"cat": "Node", "name": "a_fence_before", "ts": 21, "dur": 0},
            {"cat": "Session", "name": "model_run", "ts": 20, "dur": 10},
            {"cat": "Session", "name": "model_run", "ts": 40, "dur": 10},
            {"cat": "Node", "name": "a_kernel_time", "ts": 41, "dur": 3, "args": {"op_name": "Conv"}}
        ]"#;
        let found: Vec<(usize, String, f64)> = node_times(serde_json::from_str(text).unwrap())
            .into_iter()
            .map(|time| (time.run, time.name, time.microseconds))
            .collect();
        let expected = [(0, "a", 2.0), (0, "loop", 5.0), (1, "a", 3.0)];
        assert_eq!(found, expected.map(|(run, name, time)| (run, name.to_owned(), time)));
    }
}
