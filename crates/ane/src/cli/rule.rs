//! `ane rule`: explains a rule of `ane check`.

use clap::Args;
use coreml_explain::{Rule, rule, rules};

use super::check::RuleReport;
use crate::{
    exit::Refusal,
    terminal::{self, BOLD, DIM, NAME, table},
};

/// Explain a rule of `ane check`, or list all of them
#[derive(Args)]
#[command(after_help = "\
Examples:
  ane rule               every rule in a line
  ane rule ANE026        why, what to do, and where it comes from
  ane rule softplus      the same by name")]
pub(crate) struct Arguments {
    /// The rule's number or name; all where left out
    #[arg(value_name = "RULE")]
    rules: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut chosen: Vec<&'static Rule> = Vec::new();
    for name in &arguments.rules {
        let found =
            rule(name).ok_or_else(|| Refusal::Usage(format!("there is no rule {name:?}; `ane rule` lists them")))?;
        chosen.push(found);
    }
    if arguments.json {
        let all = || rules().map(RuleReport::of).collect::<Vec<_>>();
        let some = || chosen.iter().map(|rule| RuleReport::of(rule)).collect::<Vec<_>>();
        return terminal::print_json(&if chosen.is_empty() { all() } else { some() });
    }
    if chosen.is_empty() {
        let row = |rule: &Rule| [rule.id.to_owned(), rule.title.to_owned(), format!("{:?}", rule.confidence)];
        return terminal::print(&table(&rules().map(row).collect::<Vec<_>>()));
    }
    let texts: Vec<String> = chosen.iter().map(|rule| text(rule)).collect();
    terminal::print(&texts.join("\n"))
}

fn text(rule: &Rule) -> String {
    let Rule { id, name, title, reason, advice, source, example, .. } = rule;
    let rows = [
        ["effect".to_owned(), rule.effect.name().to_owned()],
        ["confidence".to_owned(), format!("{:?}: {}", rule.confidence, rule.confidence.meaning())],
    ];
    format!(
        "{NAME}{id}{NAME:#} {BOLD}{title}{BOLD:#} {DIM}({name}){DIM:#}\n{}\n  {reason}\n\n  {BOLD}What to do{BOLD:#}: {advice}.\n  \
         {BOLD}Example{BOLD:#}: {example}\n  {BOLD}Source{BOLD:#}: {source}\n",
        table(&rows)
    )
}
