//! Where Core ML plans to run each operation of a model.

use serde::{Deserialize, Serialize};

use crate::ane::infer::{ComputeUnit, ComputeUnits, PlannedUnit};

/// Core ML's plan for a model, as it was on one machine. It is made before anything runs; what has run where in the end,
/// the system does not tell.
///
/// As JSON it is what `ane inspect --plan --json` prints; field names are a promise to whoever keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComputePlan {
    /// The system and its version, such as `macOS 15.1`.
    pub system: String,
    /// The chip, where the system tells.
    pub chip: Option<String>,
    /// What Core ML was allowed to use.
    pub compute_units: ComputeUnits,
    /// Operations or layers, in their order; those of inner blocks follow the one that has the blocks.
    pub operations: Vec<PlannedOperation>,
}

/// An operation or a layer in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedOperation {
    /// Where it is: the function and the way through inner blocks, or the model of a pipeline.
    pub path: String,
    /// What it does, such as `ios17.conv`, or the type of a layer.
    pub operator: String,
    /// What it computes, by name; a layer's own name.
    pub outputs: Vec<String>,
    /// Where it would run; `None` for what does not run, such as a constant.
    pub preferred: Option<ComputeUnit>,
    /// Where it could run.
    pub supported: Vec<ComputeUnit>,
    /// Its part of the model's cost, from 0 to 1; `None` where the system does not estimate it.
    pub cost: Option<f64>,
}

impl ComputePlan {
    #[cfg_attr(not(any(target_vendor = "apple", gnustep, test)), expect(dead_code, reason = "Core ML alone plans"))]
    pub(crate) fn new(
        system: String,
        chip: Option<String>,
        compute_units: ComputeUnits,
        operations: Vec<PlannedOperation>,
    ) -> ComputePlan {
        ComputePlan { system, chip, compute_units, operations }
    }

    /// The units that operations are planned for, those with the most cost first, and where there is no cost, with the
    /// most operations.
    pub fn units(&self) -> Vec<PlannedUnit> {
        let planned = |unit| {
            let mine = self.operations.iter().filter(|operation| operation.preferred == Some(unit));
            let operations = mine.clone().count();
            let cost = mine.filter_map(|operation| operation.cost).reduce(|sum, cost| sum + cost);
            (operations > 0).then_some(PlannedUnit { unit, operations, cost })
        };
        let all = [ComputeUnit::Ane, ComputeUnit::Gpu, ComputeUnit::Cpu];
        let mut units: Vec<PlannedUnit> = all.into_iter().filter_map(planned).collect();
        let cost = |unit: &PlannedUnit| unit.cost.unwrap_or(0.0);
        units.sort_by(|a, b| cost(b).total_cmp(&cost(a)).then(b.operations.cmp(&a.operations)));
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(preferred: Option<ComputeUnit>, cost: Option<f64>) -> PlannedOperation {
        let (path, operator) = ("main".to_owned(), "ios17.conv".to_owned());
        PlannedOperation { path, operator, outputs: vec!["y".to_owned()], preferred, supported: Vec::new(), cost }
    }

    #[test]
    fn units_come_by_their_cost() {
        use ComputeUnit::{Ane, Cpu, Gpu};
        for (operations, expected) in [
            (vec![], vec![]),
            (vec![(None, None), (Some(Cpu), None), (Some(Cpu), None), (Some(Ane), None)], vec![(Cpu, 2), (Ane, 1)]),
            (
                vec![(Some(Cpu), Some(0.1)), (Some(Cpu), Some(0.1)), (Some(Ane), Some(0.7)), (Some(Gpu), Some(0.1))],
                vec![(Ane, 1), (Cpu, 2), (Gpu, 1)],
            ),
        ] {
            let operations = operations.into_iter().map(|(unit, cost)| operation(unit, cost)).collect();
            let plan = ComputePlan::new("macOS 15.1".to_owned(), None, ComputeUnits::All, operations);
            let units: Vec<_> = plan.units().iter().map(|unit| (unit.unit, unit.operations)).collect();
            assert_eq!(units, expected);
        }
    }

    #[test]
    fn a_kept_plan_is_read_again() {
        let operations = vec![operation(Some(ComputeUnit::Ane), Some(0.5)), operation(None, None)];
        let plan =
            ComputePlan::new("macOS 15.1".to_owned(), Some("Apple M4".to_owned()), ComputeUnits::Ane, operations);
        let text = serde_json::to_string(&plan).unwrap();
        assert!(text.contains(r#""compute_units":"ANE""#) && text.contains(r#""preferred":"ANE""#), "{text}");
        assert_eq!(serde_json::from_str::<ComputePlan>(&text).unwrap(), plan);
    }
}
