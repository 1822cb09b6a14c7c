//! A report in the Static Analysis Results Interchange Format (SARIF 2.1.0, OASIS), for code review tools.

use coreml_explain::Effect;
use serde_json::{Value, json};

use super::report::{FindingReport, Report, RuleReport};

pub(super) fn of(report: &Report) -> anyhow::Result<String> {
    let rules: Vec<Value> = report.rules.iter().map(rule).collect();
    let results: Vec<Value> = report.findings.iter().map(|finding| result(report, finding)).collect();
    let driver = json!({ "name": "ane", "version": env!("CARGO_PKG_VERSION"), "rules": rules });
    let run = json!({ "tool": { "driver": driver }, "columnKind": "unicodeCodePoints", "results": results });
    Ok(serde_json::to_string_pretty(&json!({ "version": "2.1.0", "runs": [run] }))? + "\n")
}

fn level(effect: Effect) -> &'static str {
    match effect {
        Effect::Off | Effect::Numbers => "warning",
        Effect::Doubtful | Effect::Slow | Effect::Note => "note",
    }
}

fn rule(rule: &RuleReport) -> Value {
    let text = format!("{} {} (Confidence {:?}: {})", rule.reason, sentence(rule.advice), rule.confidence, rule.source);
    json!({
        "id": rule.id,
        "name": rule.name,
        "shortDescription": { "text": rule.title },
        "fullDescription": { "text": rule.reason },
        "help": { "text": text },
        "defaultConfiguration": { "level": level(rule.effect) },
        "properties": { "confidence": rule.confidence, "effect": rule.effect },
    })
}

fn result(report: &Report, finding: &FindingReport) -> Value {
    let index = report.rules.iter().position(|rule| rule.id == finding.rule);
    let rule = index.map(|index| &report.rules[index]);
    let operation = finding.operation.map(|place| &report.operations[place]);
    let of = operation.map_or("The model".to_owned(), |op| format!("{} {:?}", op.kind, op.name));
    let advice = rule.map_or(String::new(), |rule| format!(" {}", sentence(rule.advice)));
    let name = operation.map_or(report.function.as_str(), |op| op.name.as_str());
    let logical =
        json!([{ "name": name, "fullyQualifiedName": format!("{}/{name}", report.function), "kind": "function" }]);
    let mut result = json!({
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": rule.map_or("note", |rule| level(rule.effect)),
        "message": { "text": format!("{of}: {}.{advice}", finding.message) },
        "locations": [{
            "physicalLocation": { "artifactLocation": { "uri": uri(&report.model) } },
            "logicalLocations": logical,
        }],
        "partialFingerprints": { "ruleAndOperation/v1": format!("{}:{name}", finding.rule) },
    });
    if finding.known {
        result["baselineState"] = json!("unchanged");
    }
    result
}

fn sentence(half: &str) -> String {
    let mut letters = half.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// A path as a relative URI: what is no unreserved character or slash is escaped.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.replace('\\', "/").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped() {
        assert_eq!(uri("my models/net.mlpackage"), "my%20models/net.mlpackage");
        assert_eq!(sentence("use palettes"), "Use palettes.");
    }
}
