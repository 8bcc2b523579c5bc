//! The queries of real dashboards and rules, and those of the compliance tester: every one parses,
//! and runs without error over data that has its names and labels.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use trine_query::budget::Limits;
use trine_query::promql::{Engine, Options, Query, Value, parse};

use super::cases::{conformance, files, listed, say, substituted};
use super::generate::{VARIANTS, data_for};

/// The time at which queries are evaluated, a multiple of a minute.
const NOW: i64 = 1_700_000_040_000;

/// The instances of which the compliance tester has data.
const INSTANCES: [&str; 3] = [
    "demo.promlabs.com:10000",
    "demo.promlabs.com:10001",
    "demo.promlabs.com:10002",
];

/// A query of a file.
struct Found {
    /// `file:number`
    place: String,
    text: String,
}

/// What running a query showed.
enum Outcome {
    Something,
    Nothing,
    Error(String),
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The PromQL of all files, those of dashboards and those of rules.
fn queries(folder: &Path) -> (Vec<Found>, Vec<Found>) {
    let mut paths = files(folder, "json");
    paths.retain(|path| !path.ends_with("index.json"));
    let (mut of_panels, mut of_rules) = (Vec::new(), Vec::new());
    for path in paths {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let document = json(&path);
        let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
        let take = |out: &mut Vec<Found>, number: usize, query: &serde_json::Value| {
            out.push(Found {
                place: format!("{file}:{number}"),
                text: substituted(query["expr"].as_str().unwrap()),
            });
        };
        let panels = list("queries");
        let panels = panels.iter().filter(|q| q["datasource"] == "prometheus");
        for (number, query) in panels.enumerate() {
            take(&mut of_panels, number, query);
        }
        for (number, rule) in list("rules").iter().enumerate() {
            take(&mut of_rules, number, rule);
        }
    }
    (of_panels, of_rules)
}

fn run(query: &Query) -> Outcome {
    let engine = Engine::new(Limits::default());
    let options = Options::default();
    for variant in 0..VARIANTS {
        let source = data_for(query, NOW, variant, &[]);
        let result = engine.instant(&source, query, NOW, &options);
        let something = match result.map(|result| result.value) {
            Ok(Value::Vector(samples)) => !samples.is_empty(),
            Ok(Value::Matrix(series)) => !series.is_empty(),
            Ok(Value::Scalar { .. } | Value::String { .. }) => true,
            Err(error) => return Outcome::Error(format!("variant {variant}: {error}")),
        };
        if something {
            let times = (NOW - 300_000, NOW, 60_000);
            return match engine.range(&source, query, times, &options) {
                Ok(_) => Outcome::Something,
                Err(error) => Outcome::Error(format!("as a range query: {error}")),
            };
        }
    }
    Outcome::Nothing
}

/// Queries that find nothing in generated data: `file:number reason`.
fn known_empty() -> BTreeSet<String> {
    listed(include_str!("../../testdata/promql_dashboards_empty.txt"))
}

#[test]
fn queries_of_dashboards() {
    let Some(folder) = conformance().map(|folder| folder.join("dashboards")) else {
        say("conformance: SKIPPED, no data");
        return;
    };
    if !folder.is_dir() {
        return;
    }
    let (of_panels, of_rules) = queries(&folder);
    let mut known = known_empty();
    let mut wrong = String::new();
    for (what, list) in [("dashboards", of_panels), ("rules", of_rules)] {
        let (mut parsed, mut ran, mut found) = (0, 0, 0);
        let total = list.len();
        for Found { place, text } in list {
            let query = match parse(&text) {
                Ok(query) => query,
                Err(error) => {
                    writeln!(wrong, "{place}: {error}\n    {text}").unwrap();
                    continue;
                }
            };
            parsed += 1;
            match run(&query) {
                Outcome::Something => {
                    (ran, found) = (ran + 1, found + 1);
                    if known.remove(&place) {
                        writeln!(wrong, "{place} finds something now").unwrap();
                    }
                }
                Outcome::Nothing => {
                    ran += 1;
                    if !known.remove(&place) {
                        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                        writeln!(wrong, "{place} finds nothing: {text}").unwrap();
                    }
                }
                Outcome::Error(error) => {
                    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                    writeln!(wrong, "{place} {error}\n    {text}").unwrap();
                }
            }
        }
        say(&format!(
            "promql {what}: {parsed} of {total} parse, {ran} run, {found} find something"
        ));
        assert!(
            total == 0 || found * 10 >= total * 9,
            "less than nine in ten find something\n{wrong}"
        );
    }
    for place in known {
        writeln!(wrong, "{place} is listed and not there").unwrap();
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The values that stand for a name in a template of the compliance tester.
fn variants(name: &str) -> &'static [&'static str] {
    match name {
        "range" => &["1s", "15s", "1m", "5m", "15m", "1h"],
        "offset" => &["1m", "5m", "10m"],
        "simpleAggrOp" => &["sum", "avg", "max", "min", "count", "stddev", "stdvar"],
        "simpleTimeAggrOp" => &[
            "sum", "avg", "max", "min", "count", "stddev", "stdvar", "absent", "last",
        ],
        "topBottomOp" => &["topk", "bottomk"],
        "quantile" => &[
            "-0.5", "0.1", "0.5", "0.75", "0.95", "0.90", "0.99", "1", "1.5",
        ],
        "arithBinOp" => &["+", "-", "*", "/", "%", "^"],
        "compBinOp" => &["==", "!=", "<", ">", "<=", ">="],
        "binOp" => &[
            "+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">=",
        ],
        "simpleMathFunc" => &[
            "abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "round",
        ],
        "extrapolatedRateFunc" => &["delta", "rate", "increase"],
        "clampFunc" => &["clamp_min", "clamp_max"],
        "instantRateFunc" => &["idelta", "irate"],
        "dateFunc" => &[
            "day_of_month",
            "day_of_week",
            "days_in_month",
            "hour",
            "minute",
            "month",
            "year",
        ],
        "smoothingFactor" | "trendFactor" => &["0.1", "0.5", "0.8"],
        other => panic!("no values for {other}"),
    }
}

/// All queries of a template.
fn expanded(template: &str) -> Vec<String> {
    let Some((before, rest)) = template.split_once("{{") else {
        return vec![template.to_owned()];
    };
    let (name, after) = rest.split_once("}}").unwrap();
    let name = name.trim().trim_start_matches('.');
    let place = format!("{{{{.{name}}}}}");
    let filled = variants(name).iter().map(|value| {
        let after = after.replace(&place, value);
        expanded(&format!("{before}{value}{after}"))
    });
    filled.flatten().collect()
}

/// The templates, each with whether it must fail: the file says one thing a line.
fn templates(text: &str) -> Vec<(String, bool)> {
    let mut out: Vec<(String, bool)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(query) = line.strip_prefix("- query:") {
            let query = query.trim();
            let single = query.strip_prefix('\'').and_then(|q| q.strip_suffix('\''));
            let double = query.strip_prefix('"').and_then(|q| q.strip_suffix('"'));
            let query = match (single, double) {
                (Some(query), _) => query.replace("''", "'"),
                (None, Some(query)) => query.replace("\\\"", "\"").replace("\\\\", "\\"),
                (None, None) => query.to_owned(),
            };
            out.push((query, false));
        } else if line == "should_fail: true"
            && let Some(last) = out.last_mut()
        {
            last.1 = true;
        }
    }
    out
}

#[test]
fn queries_of_the_compliance_tester() {
    let file = "promql/compliance/promql-test-queries.yml";
    let Some(path) = conformance().map(|folder| folder.join(file)) else {
        return;
    };
    let Ok(text) = std::fs::read_to_string(path) else {
        return;
    };
    let (mut passed, mut total, mut wrong) = (0, 0, String::new());
    let engine = Engine::new(Limits::default());
    for (template, must_fail) in templates(&text) {
        // Names of labels may be any text since Prometheus 3.
        let must_fail = must_fail && !template.contains("~invalid");
        for query in expanded(&template) {
            total += 1;
            let outcome = parse(&query)
                .map_err(|error| error.to_string())
                .and_then(|parsed| {
                    let source = data_for(&parsed, NOW, 0, &INSTANCES);
                    let times = (NOW - 300_000, NOW, 60_000);
                    let result = engine.range(&source, &parsed, times, &Options::default());
                    result.map_err(|error| error.to_string())
                });
            match (outcome, must_fail) {
                (Ok(_), false) | (Err(_), true) => passed += 1,
                (Ok(_), true) => writeln!(wrong, "{query} does not fail").unwrap(),
                (Err(error), false) => writeln!(wrong, "{query}: {error}").unwrap(),
            }
        }
    }
    say(&format!(
        "promql compliance queries: {passed} of {total} passed"
    ));
    assert!(wrong.is_empty(), "\n{wrong}");
}
