//! A report as one page that needs nothing else.

use super::report::Report;

const PAGE: &str = include_str!("page.html");
const PLACE: &str = "__REPORT__";

pub(super) fn of(report: &Report) -> anyhow::Result<String> {
    // In a script, `<` could end it; names come from files.
    let json = serde_json::to_string(report)?.replace('<', "\\u003c");
    Ok(PAGE.replacen(PLACE, &json, 1))
}
