//! Where a model runs: what was asked, what is planned and what is known.

use super::{ComputeUnit, ComputeUnits};

/// Where a loaded model runs.
///
/// Core ML decides for each operation, and does not tell afterwards: apart from the CPU alone, what has run where is
/// never known. So this says what was asked, what Core ML may use, and what it plans.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Placement {
    /// What the load asked for.
    pub asked: ComputeUnits,
    /// What may be used: what was asked, unless that has failed here.
    pub allowed: ComputeUnits,
    /// Units that operations are planned for, those with the most cost first; empty where there is no plan.
    pub planned: Vec<PlannedUnit>,
    /// What is certain to run it; `None` where the system does not tell.
    pub known: Option<ComputeUnit>,
    /// Why less is allowed than was asked, half a sentence each.
    pub fallbacks: Vec<String>,
}

/// A unit's part of a plan.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PlannedUnit {
    /// The unit.
    pub unit: ComputeUnit,
    /// Operations that prefer it.
    pub operations: usize,
    /// Their part of the whole cost, from 0 to 1, where the system estimates it.
    pub cost: Option<f64>,
}

impl Placement {
    /// The placement of a model on an engine that has the CPU alone.
    pub(crate) fn on_cpu() -> Placement {
        Placement {
            asked: ComputeUnits::All,
            allowed: ComputeUnits::Cpu,
            planned: Vec::new(),
            known: Some(ComputeUnit::Cpu),
            fallbacks: Vec::new(),
        }
    }

    /// The one unit that says most: what is known, else what most of the cost is planned for, else the first that may
    /// be used.
    pub fn main_unit(&self) -> ComputeUnit {
        let planned = self.planned.first().map(|planned| planned.unit);
        self.known.or(planned).unwrap_or(match self.allowed {
            ComputeUnits::All | ComputeUnits::Ane => ComputeUnit::Ane,
            ComputeUnits::Gpu => ComputeUnit::Gpu,
            ComputeUnits::Cpu => ComputeUnit::Cpu,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_comes_before_what_is_planned() {
        let planned = |unit| vec![PlannedUnit { unit, operations: 1, cost: None }];
        for (allowed, planned, known, expected) in [
            (ComputeUnits::All, Vec::new(), None, ComputeUnit::Ane),
            (ComputeUnits::Gpu, Vec::new(), None, ComputeUnit::Gpu),
            (ComputeUnits::All, planned(ComputeUnit::Gpu), None, ComputeUnit::Gpu),
            (ComputeUnits::Cpu, planned(ComputeUnit::Gpu), Some(ComputeUnit::Cpu), ComputeUnit::Cpu),
        ] {
            let placement = Placement { allowed, planned, known, ..Placement::on_cpu() };
            assert_eq!(placement.main_unit(), expected, "{placement:?}");
        }
    }
}
