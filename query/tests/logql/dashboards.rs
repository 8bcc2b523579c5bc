//! The LogQL of real dashboards: every query parses.

use std::fmt::Write as _;
use std::path::Path;

use trine_query::logql::parse;

use super::{conformance, files, say, text};

/// A query of a file.
pub(super) struct Found {
    /// `file:number`
    pub(super) place: String,
    /// The query with values for variables.
    pub(super) query: String,
}

/// The LogQL of all files of a folder.
pub(super) fn queries(folder: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for path in files(folder, "json") {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let document: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let queries = document["queries"].as_array();
        let of_loki = |query: &&serde_json::Value| query["datasource"] == "loki";
        for (number, query) in queries.into_iter().flatten().filter(of_loki).enumerate() {
            found.push(Found {
                place: format!("{file}:{number}"),
                query: substituted(text(query, "expr")),
            });
        }
    }
    found
}

/// The query with values for the variables of Grafana, written `$name`, `${name:form}` or
/// `[[name]]`. `$1` of `label_replace` is none of them.
fn substituted(query: &str) -> String {
    let mut out = String::new();
    let mut rest = query;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let after = after.strip_prefix('$').unwrap();
        let (name, tail) = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}').unwrap_or((inner, "")),
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        let plain = name.split(':').next().unwrap_or(name);
        if plain.is_empty() || plain.starts_with(|c: char| c.is_ascii_digit()) {
            out.push('$');
            rest = after;
            continue;
        }
        out.push_str(match plain {
            "__auto" | "__rate_interval" => "5m",
            "__interval" => "1m",
            "__interval_ms" => "60000",
            "__range" => "1h",
            "__range_s" => "3600",
            // A pattern that is a variable stands for all values, as Grafana's "All" does.
            _ if out.ends_with("=~\"") => ".+",
            _ => "v",
        });
        rest = tail;
    }
    out + rest
}

#[test]
fn queries_of_dashboards() {
    let Some(folder) = conformance() else {
        say("conformance: SKIPPED, no data");
        return;
    };
    let found = queries(&folder.join("dashboards"));
    let (mut passed, mut wrong) = (0, String::new());
    for Found { place, query } in &found {
        match parse(query) {
            Ok(_) => passed += 1,
            Err(error) => writeln!(wrong, "{place}: {error}\n    {query}").unwrap(),
        }
    }
    say(&format!(
        "logql dashboards queries: {passed} of {} passed",
        found.len()
    ));
    assert!(wrong.is_empty(), "\n{wrong}");
}
