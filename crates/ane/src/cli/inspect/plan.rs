//! `ane inspect --plan`: where Core ML plans to run each operation.

use anyhow::Context;
use apple_silicon::ane::{
    engines::EngineChoice,
    models::{
        coreml_model::{CoreMlModel, LoadOptions},
        plan::{ComputePlan, PlannedOperation},
    },
};

use super::Arguments;
use crate::terminal::{self, BOLD, Progress, clean, count, table};

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = LoadOptions {
        engine: EngineChoice::CoreMl,
        compute_units: arguments.compute_units.parse()?,
        function: arguments.function.clone(),
        ..LoadOptions::default()
    };
    let progress = Progress::spinner("planning");
    let load = || CoreMlModel::load(&arguments.model, &options)?.plan();
    let plan = load().context("a plan is made by Core ML, on a Mac or a device")?;
    drop(progress);
    if arguments.json { terminal::print_json(&plan) } else { terminal::print(&text(&plan)) }
}

/// What runs, and where. Constants and the like, which run nowhere, are left out.
fn text(plan: &ComputePlan) -> String {
    let chip = plan.chip.as_ref().map_or(String::new(), |chip| format!(", {chip}"));
    let mut text = format!("{BOLD}Core ML's plan{BOLD:#} on {}{}\n", clean(&plan.system), clean(&chip));
    let share = |cost: Option<f64>| cost.map_or(String::new(), |cost| format!("{:.1} %", cost * 100.0));
    for unit in plan.units() {
        let operations = count(unit.operations, "operation");
        let cost = unit.cost.map_or(String::new(), |cost| format!(", {} of the cost", share(Some(cost))));
        text.push_str(&format!("  {}: {operations}{cost}\n", unit.unit));
    }
    text.push('\n');
    let row = |operation: &PlannedOperation| {
        let preferred = operation.preferred?.to_string();
        let others: Vec<String> = operation.supported.iter().map(ToString::to_string).collect();
        let [path, operator, output] =
            [&operation.path, &operation.operator, &operation.outputs.join(", ")].map(|cell| clean(cell).into_owned());
        Some([preferred, others.join(" "), share(operation.cost), operator, output, path])
    };
    let heading = ["runs on", "could", "cost", "operation", "output", "in"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(heading).chain(plan.operations.iter().filter_map(row)).collect();
    text.push_str(&table(&rows));
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_plan_is_told() {
        let plan = r#"{"system": "macOS 15.1", "chip": "Apple M4", "compute_units": "ALL", "operations": [
            {"path": "main", "operator": "const", "outputs": ["w"], "preferred": null, "supported": [], "cost": null},
            {"path": "main", "operator": "ios17.conv", "outputs": ["y"], "preferred": "ANE", "supported": ["CPU", "ANE"],
             "cost": 0.75},
            {"path": "main/1.0", "operator": "ios17.topk", "outputs": ["v", "i"], "preferred": "CPU",
             "supported": ["CPU"], "cost": 0.25}]}"#;
        let plan: ComputePlan = serde_json::from_str(plan).unwrap();
        let text = anstream::adapter::strip_str(&text(&plan)).to_string();
        expect![[r#"
            Core ML's plan on macOS 15.1, Apple M4
              ANE: 1 operation, 75.0 % of the cost
              CPU: 1 operation, 25.0 % of the cost

              runs on  could    cost    operation   output  in
              ANE      CPU ANE  75.0 %  ios17.conv  y       main
              CPU      CPU      25.0 %  ios17.topk  v, i    main/1.0
        "#]]
        .assert_eq(&text);
    }
}
