//! Runs the scripts in `query/testdata/promql` against the engine over a source in memory.
//!
//! The scripts have the grammar of Prometheus' own test scripts (`load`, `eval instant`, `eval
//! range`, `expect ..`), so that one may be tried on the other. Every instant case is also run as
//! the middle step of a range query.

mod script;

use trine_storage::Labels;

use self::script::{Case, Command, Expect, Script, When};
use super::eval::{Engine, Options, QueryResult, Value};
use super::source::memory::Memory;
use super::source::{Series, Values};
use super::{QueryError, ValueType, parse};
use crate::budget::Limits;
use crate::vector::is_absent;

#[test]
fn selectors() {
    passes(include_str!("../../testdata/promql/selectors.test"));
}

#[test]
fn operators() {
    passes(include_str!("../../testdata/promql/operators.test"));
}

#[test]
fn aggregations() {
    passes(include_str!("../../testdata/promql/aggregations.test"));
}

#[test]
fn range_functions() {
    passes(include_str!("../../testdata/promql/range_functions.test"));
}

#[test]
fn functions() {
    passes(include_str!("../../testdata/promql/functions.test"));
}

#[test]
fn histograms() {
    passes(include_str!("../../testdata/promql/histograms.test"));
}

#[test]
fn subqueries_and_times() {
    passes(include_str!(
        "../../testdata/promql/subqueries_and_times.test"
    ));
}

/// A runner that believes everything would pass every script.
#[test]
fn wrong_expectations_fail() {
    let load = "load 1m\n  m{a=\"x\"} 1 2 3\n\n";
    let wrong = [
        "eval instant at 1m m\n  m{a=\"x\"} 3\n",
        "eval instant at 1m m\n  m{a=\"y\"} 2\n",
        "eval instant at 1m m\n",
        "eval instant at 1m m + 1\n  {a=\"x\"} 3\n  {a=\"y\"} 3\n",
        "eval instant at 1m 1 + 1\n  3\n",
        "eval instant at 1m m\n  expect fail\n",
        "eval instant at 1m m\n  expect warn\n  m{a=\"x\"} 2\n",
        "eval range from 0 to 2m step 1m m\n  m{a=\"x\"} 1 2 4\n",
        "eval range from 0 to 2m step 1m m\n  m{a=\"x\"} 1 2 _\n",
    ];
    for case in wrong {
        let failures = run(&format!("{load}{case}"));
        assert_eq!(failures.len(), 1, "{case}\n{failures:?}");
    }
}

fn passes(text: &str) {
    let failures = run(text);
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Runs a script; one text for each case that failed.
fn run(text: &str) -> Vec<String> {
    let script = Script::parse(text).expect("the script is well formed");
    let mut source = Memory::default();
    let mut failures = Vec::new();
    for command in script.commands {
        match command {
            Command::Clear => source = Memory::default(),
            Command::Load(samples) => {
                for (labels, time_ms, value) in samples {
                    source.add(&labels, time_ms, value);
                }
            }
            Command::Eval(case) => {
                if let Err(reason) = check(&source, &case) {
                    failures.push(format!("line {}: {}\n    {reason}", case.line, case.query));
                }
            }
        }
    }
    failures
}

/// Runs one case in its own way, and an instant one also inside a range query.
fn check(source: &Memory, case: &Case) -> Result<(), String> {
    let result = evaluate(source, &case.query, case.when)?;
    compare(case, result)?;
    let When::Instant(time_ms) = case.when else {
        return Ok(());
    };
    // A range query has other rules for order, and other answers for the query's own times.
    let is_value = matches!(case.expect, Expect::Series(_) | Expect::Number(_))
        && !matches!(result_type(&case.query), Some(ValueType::RangeVector));
    let bound_to_instant = ["start()", "end()", "sort", "range()", "step()"];
    if !is_value
        || case.ordered
        || bound_to_instant
            .iter()
            .any(|word| case.query.contains(word))
    {
        return Ok(());
    }
    let minute = 60_000;
    let when = When::Range(time_ms - minute, time_ms + minute, minute);
    let result = evaluate(source, &case.query, when)?;
    let Ok(QueryResult {
        value: Value::Matrix(series),
        ..
    }) = &result
    else {
        return compare(case, result).map_err(|e| format!("as a range query: {e}"));
    };
    let middle = series.iter().filter_map(|series| {
        let Values::Floats(values) = &series.samples.values else {
            return None;
        };
        let at = series
            .samples
            .timestamps
            .iter()
            .position(|time| *time == time_ms)?;
        Some((series.labels.clone(), vec![values[at]]))
    });
    let expected = match &case.expect {
        Expect::Number(number) => vec![(Labels::empty(), vec![Some(*number)])],
        Expect::Series(series) => series.clone(),
        Expect::String(_) | Expect::Failure(_) => return Ok(()),
    };
    same_series(&expected, &middle.collect::<Vec<_>>(), false)
        .map_err(|e| format!("as a range query: {e}"))
}

fn result_type(query: &str) -> Option<ValueType> {
    parse(query).ok().map(|query| query.expr.value_type())
}

type Evaluated = Result<QueryResult, QueryError>;

fn evaluate(source: &Memory, query: &str, when: When) -> Result<Evaluated, String> {
    let query = parse(query).map_err(|error| error.to_string())?;
    let engine = Engine::new(Limits::default());
    let options = Options {
        annotations_max: 1000,
        ..Options::default()
    };
    Ok(match when {
        When::Instant(time_ms) => engine.instant(source, &query, time_ms, &options),
        When::Range(start, end, step) => engine.range(source, &query, (start, end, step), &options),
    })
}

fn compare(case: &Case, result: Evaluated) -> Result<(), String> {
    let result = match (result, &case.expect) {
        (Err(error), Expect::Failure(wanted)) => {
            let text = error.to_string();
            return if wanted.accepts(&text) {
                Ok(())
            } else {
                Err(format!("it failed with {text}"))
            };
        }
        (Err(error), _) => return Err(format!("it failed with {error}")),
        (Ok(_), Expect::Failure(_)) => return Err("it did not fail".to_owned()),
        (Ok(result), _) => result,
    };
    case.warnings
        .accepts(&result.warnings)
        .map_err(|e| format!("warnings: {e}"))?;
    case.infos
        .accepts(&result.infos)
        .map_err(|e| format!("infos: {e}"))?;
    match (&case.expect, result.value) {
        (Expect::Number(wanted), Value::Scalar { value, .. }) => {
            if same(*wanted, value) {
                Ok(())
            } else {
                Err(format!("it is {value}"))
            }
        }
        (Expect::String(wanted), Value::String { value, .. }) => {
            if *wanted == value {
                Ok(())
            } else {
                Err(format!("it is {value:?}"))
            }
        }
        (Expect::Series(wanted), Value::Vector(samples)) => {
            let got = samples.into_iter().map(|s| {
                let value = s.value.as_float().expect("the scripts have floats only");
                (s.labels, vec![value])
            });
            same_series(wanted, &got.collect::<Vec<_>>(), case.ordered)
        }
        (Expect::Series(wanted), Value::Matrix(series)) => {
            if !series.is_sorted_by(|a, b| a.labels < b.labels) {
                return Err("the result is not in label order".to_owned());
            }
            let got = series.into_iter().map(|series| at_times(case, series));
            same_series(wanted, &got.collect::<Vec<_>>(), false)
        }
        (_, value) => Err(format!("it is {value:?}")),
    }
}

/// The values of a series at the times that the case asks for; NaN that no data has for none.
fn at_times(case: &Case, series: Series) -> (Labels, Vec<f64>) {
    let Values::Floats(values) = series.samples.values else {
        panic!("the scripts have floats only")
    };
    let (start, end, step) = case.times();
    let (mut at, mut out) = (start, Vec::new());
    while at <= end {
        let found = series
            .samples
            .timestamps
            .iter()
            .position(|time| *time == at);
        out.push(found.map_or(crate::vector::ABSENT, |found| values[found]));
        at += step.max(1);
    }
    (series.labels, out)
}

type Wanted = (Labels, Vec<Option<f64>>);

fn same_series(wanted: &[Wanted], got: &[(Labels, Vec<f64>)], ordered: bool) -> Result<(), String> {
    let fail = |why: String| Err(format!("{why}; it is {got:?}"));
    if wanted.len() != got.len() {
        return fail(format!("{} series are expected", wanted.len()));
    }
    for (at, (labels, values)) in wanted.iter().enumerate() {
        let found = if ordered {
            got.get(at).filter(|(other, _)| other == labels)
        } else {
            got.iter().find(|(other, _)| other == labels)
        };
        let Some((_, got)) = found else {
            return fail(format!("{labels} is missing"));
        };
        for step in 0..values.len().max(got.len()) {
            let wanted = values.get(step).copied().flatten();
            let got = got.get(step).copied().filter(|value| !is_absent(*value));
            let equal = match (wanted, got) {
                (Some(wanted), Some(got)) => same(wanted, got),
                (None, None) => true,
                _ => false,
            };
            if !equal {
                return fail(format!("{labels} at step {step}: {wanted:?} is expected"));
            }
        }
    }
    Ok(())
}

/// Equal up to a relative difference of one in a million.
fn same(a: f64, b: f64) -> bool {
    const TOLERANCE: f64 = 1e-6;
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}
