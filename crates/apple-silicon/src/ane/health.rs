//! Whether all is well, and what is not.

use super::{
    compat::{
        coreml::CoreMlCapabilities,
        iokit::{MemoryPressure, MemoryStatus, PowerSource, PowerStatus, ThermalState, ThermalStatus},
    },
    engines::Choice,
    infer::{ComputeUnit, Placement},
    resource_pool::PoolStatistics,
};

/// How a manager and its machine are.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HealthStatus {
    /// The worst of all reasons; healthy where there is none but notices.
    pub state: HealthState,
    /// Whether there is a Neural Engine, and a way to it.
    pub ane_available: bool,
    /// Whether Core ML has a GPU.
    pub gpu_available: bool,
    /// What models run on, best first: of ANE, GPU and CPU, in this order, those that there are.
    pub compute_units: Vec<ComputeUnit>,
    /// Everything that is worth knowing, worst first.
    pub reasons: Vec<HealthReason>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthState {
    /// All is well.
    Healthy,
    /// It works, but slower or less surely than it could.
    Degraded,
    /// Requests fail, or will soon.
    Unhealthy,
}

/// One thing that is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthReason {
    /// How bad it is; [`HealthState::Healthy`] for a notice.
    pub state: HealthState,
    /// What it is about: "ane", "engine", "fallback", "thermal", "power", "memory", "pool", "late runs" or "errors".
    pub subject: &'static str,
    /// One sentence, with the value and what to do.
    pub message: String,
}

/// What health is judged by.
pub(crate) struct Facts<'a> {
    pub(crate) capabilities: &'a CoreMlCapabilities,
    pub(crate) thermal: &'a ThermalStatus,
    pub(crate) power: &'a PowerStatus,
    pub(crate) memory: &'a MemoryStatus,
    pub(crate) pool: &'a PoolStatistics,
    /// The engine that a model would get.
    pub(crate) engine: &'a Choice,
    /// Models that may use less than was asked for, since that failed: which, and why.
    pub(crate) fallen_back: &'a [(String, Placement)],
    /// Runs that nobody waits for any more and that have not ended.
    pub(crate) late: usize,
    /// The part of recent requests that failed, from 0 to 1; `None` before there were enough.
    pub(crate) failing: Option<f64>,
}

/// One thing to look at.
type Check = fn(&Facts<'_>) -> Option<HealthReason>;

const CHECKS: &[Check] = &[neural_engine, engine, fallbacks, thermal, power, memory, pool, late_runs, errors];

/// Judges the facts.
pub(crate) fn judge(facts: &Facts<'_>) -> HealthStatus {
    let mut reasons: Vec<HealthReason> = CHECKS.iter().filter_map(|check| check(facts)).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.state));
    HealthStatus {
        state: reasons.first().map_or(HealthState::Healthy, |worst| worst.state),
        ane_available: facts.capabilities.ane_available,
        gpu_available: facts.capabilities.gpu_available,
        compute_units: available(facts.capabilities),
        reasons,
    }
}

/// The compute units that there are, best first.
pub(crate) fn available(capabilities: &CoreMlCapabilities) -> Vec<ComputeUnit> {
    let ane = capabilities.ane_available.then_some(ComputeUnit::Ane);
    let gpu = capabilities.gpu_available.then_some(ComputeUnit::Gpu);
    ane.into_iter().chain(gpu).chain([ComputeUnit::Cpu]).collect()
}

fn reason(state: HealthState, subject: &'static str, message: String) -> Option<HealthReason> {
    Some(HealthReason { state, subject, message })
}

fn neural_engine(facts: &Facts<'_>) -> Option<HealthReason> {
    if facts.capabilities.ane_available {
        return None;
    }
    let why = facts.capabilities.notes.first().map_or(String::new(), |note| format!(" ({note})"));
    let next = if facts.capabilities.gpu_available { "the GPU" } else { "the CPU" };
    // On a Mac it should be there. Elsewhere nobody expects it.
    let state = if facts.capabilities.coreml_available { HealthState::Degraded } else { HealthState::Healthy };
    reason(state, "ane", format!("there is no Neural Engine here{why}; models run on {next}"))
}

fn engine(facts: &Facts<'_>) -> Option<HealthReason> {
    if facts.engine.engine != "rten" || facts.engine.reason.starts_with("asked for") {
        return None;
    }
    let why = &facts.engine.reason;
    reason(HealthState::Degraded, "engine", format!("models run on rten, which is slower on convolutions: {why}"))
}

fn fallbacks(facts: &Facts<'_>) -> Option<HealthReason> {
    let (model, placement) = facts.fallen_back.first()?;
    let others = match facts.fallen_back.len() - 1 {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    let (unit, why) = (placement.main_unit(), placement.fallbacks.join("; "));
    let message = format!("{model}{others} runs on the {unit} at best, not on what was asked for: {why}");
    reason(HealthState::Degraded, "fallback", message)
}

fn thermal(facts: &Facts<'_>) -> Option<HealthReason> {
    let degrees = facts.thermal.temperature_celsius.map_or(String::new(), |t| format!(" ({t:.0} degrees Celsius)"));
    let (state, how) = match facts.thermal.state {
        ThermalState::Unknown | ThermalState::Nominal | ThermalState::Fair => return None,
        ThermalState::Serious => (HealthState::Degraded, "hot, and will run slower"),
        ThermalState::Critical => (HealthState::Unhealthy, "too hot, and runs much slower"),
        #[allow(unreachable_patterns, reason = "the enum may grow")]
        _ => return None,
    };
    reason(state, "thermal", format!("the machine is {how}{degrees}; give it less to do"))
}

fn power(facts: &Facts<'_>) -> Option<HealthReason> {
    if facts.power.low_power_mode == Some(true) {
        return reason(HealthState::Degraded, "power", "low-power mode is on, so that all runs slower".to_owned());
    }
    match (facts.power.source, facts.power.battery_percent) {
        (PowerSource::Battery, Some(percent)) if percent < 20.0 => {
            reason(HealthState::Degraded, "power", format!("the battery is at {percent:.0} %; connect it to mains"))
        }
        _ => None,
    }
}

fn memory(facts: &Facts<'_>) -> Option<HealthReason> {
    let free = facts.memory.available_bytes.map_or(String::new(), |bytes| format!(" ({} MB are free)", bytes >> 20));
    let (state, how) = match facts.memory.pressure {
        MemoryPressure::Warning => (HealthState::Degraded, "short of memory"),
        MemoryPressure::Critical => (HealthState::Unhealthy, "out of memory"),
        _ => return None,
    };
    reason(state, "memory", format!("the machine is {how}{free}; unload models, or give it more"))
}

fn pool(facts: &Facts<'_>) -> Option<HealthReason> {
    let pool = facts.pool;
    if pool.waiting == 0 {
        return None;
    }
    let what = if pool.slots_in_use == pool.slots { "slots" } else { "memory" };
    // A few that wait are what a pool is for.
    let state = if pool.waiting > 4 * pool.slots { HealthState::Degraded } else { HealthState::Healthy };
    reason(
        state,
        "pool",
        format!(
            "{} runs wait for {what} ({} of {} slots and {} of {} MB are in use); send less, or give the manager more",
            pool.waiting,
            pool.slots_in_use,
            pool.slots,
            pool.bytes_in_use >> 20,
            pool.bytes >> 20
        ),
    )
}

fn late_runs(facts: &Facts<'_>) -> Option<HealthReason> {
    if facts.late == 0 {
        return None;
    }
    let all = facts.late >= facts.pool.slots;
    let state = if all { HealthState::Unhealthy } else { HealthState::Degraded };
    let late = facts.late;
    reason(
        state,
        "late runs",
        format!("{late} runs go on although nobody waits for them any more, until their engine ends or stops them"),
    )
}

fn errors(facts: &Facts<'_>) -> Option<HealthReason> {
    let part = facts.failing?;
    let state = match part {
        part if part >= 0.5 => HealthState::Unhealthy,
        part if part >= 0.05 => HealthState::Degraded,
        _ => return None,
    };
    reason(state, "errors", format!("{:.0} % of recent requests failed; see the errors by kind", part * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ane::{infer::ComputeUnits, resource_pool::Pool};

    #[test]
    fn a_model_that_has_fallen_back_is_told() {
        let fallbacks = vec!["a prediction failed on all units: no answer".to_owned()];
        let placement = Placement { fallbacks, allowed: ComputeUnits::Cpu, ..Placement::on_cpu() };
        let fallen_back = [("a.mlpackage".to_owned(), placement)];
        let check = |fallen_back| {
            let facts = Facts {
                capabilities: &CoreMlCapabilities { ane_available: true, ..CoreMlCapabilities::default() },
                thermal: &ThermalStatus::default(),
                power: &PowerStatus::default(),
                memory: &MemoryStatus::default(),
                pool: &Pool::new(1, 1).statistics(),
                engine: &Choice { engine: "coreml", version: String::new(), reason: String::new() },
                fallen_back,
                late: 0,
                failing: None,
            };
            judge(&facts).reasons.into_iter().map(|reason| (reason.state, reason.message)).collect::<Vec<_>>()
        };
        assert_eq!(check(&[]), []);
        let message = "a.mlpackage runs on the CPU at best, not on what was asked for: a prediction failed on all units: \
                       no answer";
        assert_eq!(check(&fallen_back), [(HealthState::Degraded, message.to_owned())]);
    }
}
