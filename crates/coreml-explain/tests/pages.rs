//! `docs/rules.md` is made from the table of rules: `UPDATE_EXPECT=1 cargo test -p coreml-explain --test pages` writes it.

use std::fmt::Write;

use coreml_explain::{Rule, rules};
use expect_test::expect_file;

#[test]
fn the_page_of_rules_is_that_of_the_table() {
    let mut page = "# Rules\n\nWhat `ane check` looks for. This page is made from the table of rules \
                    (`crates/coreml-explain/src/rules`).\n\n| rule | | effect | confidence |\n|---|---|---|---|\n"
        .to_owned();
    for rule in rules() {
        let (id, title, effect) = (rule.id, rule.title, rule.effect.name());
        writeln!(page, "| [{id}](#{}) | {title} | {effect} | {:?} |", id.to_lowercase(), rule.confidence).unwrap();
    }
    page.push_str("\nConfidence: A, Apple says so; B, several have measured it; C, one source says so.\n");
    rules().for_each(|rule| page.push_str(&section(rule)));
    expect_file!["../../../docs/rules.md"].assert_eq(&page);
}

fn section(rule: &Rule) -> String {
    let Rule { id, name, title, reason, advice, source, example, .. } = rule;
    format!(
        "\n## {id}\n\n**{title}** (`{name}`, {}, confidence {:?})\n\n{reason}\n\n- What to do: {advice}.\n- Example: {example}\n\
         - Source: {source}\n",
        rule.effect.name(),
        rule.confidence
    )
}
