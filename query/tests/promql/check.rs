//! Runs one case of a script in all its forms and compares the answers with what is expected.

use trine_query::budget::Limits;
use trine_query::promql::{
    Engine, Options, QueryError, QueryResult, SampleValue, SeriesValue, Source, Value, ValueType,
    parse,
};
use trine_query::vector::{Histogram, is_absent};
use trine_storage::Labels;

use super::script::{Case, Expect, Wanted, When};
use super::{histogram, rewrite};

const MINUTE: i64 = 60_000;

type Evaluated = Result<QueryResult, QueryError>;

/// A series of the answer with one entry a step.
type Got = (Labels, Vec<Option<SampleValue>>);

/// Runs the case as it is written, fixed at its time and evaluated at others, and each of these as
/// the middle step of a range query.
pub(super) fn check(source: &dyn Source, case: &Case) -> Result<(), String> {
    compare(case, evaluate(source, &case.query, case.when)?)?;
    let When::Instant(time_ms) = case.when else {
        return Ok(());
    };
    in_a_range(source, case, &case.query, time_ms)?;
    let Some(fixed) = rewrite::fixed_at(&case.query, time_ms)? else {
        return Ok(());
    };
    for other in rewrite::other_times(time_ms) {
        let place = |error| format!("as {fixed} at {other} ms: {error}");
        compare(case, evaluate(source, &fixed, When::Instant(other))?).map_err(place)?;
        in_a_range(source, case, &fixed, other).map_err(place)?;
    }
    Ok(())
}

fn in_a_range(source: &dyn Source, case: &Case, query: &str, time_ms: i64) -> Result<(), String> {
    let wanted = match &case.expect {
        Expect::Number(number) => vec![Wanted {
            labels: Labels::empty(),
            values: vec![SeriesValue::Float(*number)],
        }],
        Expect::Series(series) => series.clone(),
        Expect::String(_) | Expect::Failure(_) => return Ok(()),
    };
    let parsed = parse(query).map_err(|error| error.to_string())?;
    let is_range = parsed.expr.value_type() == ValueType::RangeVector;
    if case.ordered || is_range || rewrite::asks_for_steps(query) {
        return Ok(());
    }
    let when = When::Range(time_ms - MINUTE, time_ms + MINUTE, MINUTE);
    let place = |error| format!("in a range query: {error}");
    let result = match evaluate(source, query, when)? {
        Ok(result) => result,
        Err(error) => return Err(place(format!("it failed with {error}"))),
    };
    let Value::Matrix(series) = result.value else {
        return Err(place(format!("it is {:?}", result.value)));
    };
    let middle: Vec<Got> = series
        .into_iter()
        .filter_map(|series| {
            let at = series
                .samples
                .timestamps
                .iter()
                .position(|t| *t == time_ms)?;
            Some((series.labels, vec![series.samples.values.get(at)]))
        })
        .collect();
    same_series(&wanted, &middle, false).map_err(place)
}

fn evaluate(source: &dyn Source, query: &str, when: When) -> Result<Evaluated, String> {
    let query = parse(query).map_err(|error| error.to_string())?;
    let engine = Engine::new(Limits::default());
    let options = Options {
        annotations_max: 1000,
        delayed_name_removal: true,
        start_timestamps: true,
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
    let annotations = [
        ("warnings", &case.warnings, &result.warnings),
        ("infos", &case.infos, &result.infos),
    ];
    for (kind, wanted, got) in annotations {
        wanted.accepts(got).map_err(|e| format!("{kind}: {e}"))?;
    }
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
            let got = samples.into_iter().map(|s| (s.labels, vec![Some(s.value)]));
            same_series(wanted, &got.collect::<Vec<_>>(), case.ordered)
        }
        (Expect::Series(wanted), Value::Matrix(series)) => {
            if !series.is_sorted_by(|a, b| a.labels < b.labels) {
                return Err("the result is not in label order".to_owned());
            }
            let (start, end, step) = case.times();
            let got = series.into_iter().map(|series| {
                let (mut at, mut out) = (start, Vec::new());
                while at <= end {
                    let found = series.samples.timestamps.iter().position(|t| *t == at);
                    out.push(found.and_then(|found| series.samples.values.get(found)));
                    at += step.max(1);
                }
                let kept = out.iter().flatten().count();
                if kept < series.samples.timestamps.len() {
                    // A point at a time that no step has.
                    out.push(series.samples.values.get(kept));
                }
                (series.labels, out)
            });
            same_series(wanted, &got.collect::<Vec<Got>>(), false)
        }
        (_, value) => Err(format!("it is {value:?}")),
    }
}

fn same_series(wanted: &[Wanted], got: &[Got], ordered: bool) -> Result<(), String> {
    let fail = |why: String| Err(format!("{why}; it is {}", shown(got)));
    if wanted.len() != got.len() {
        return fail(format!("{} series are expected", wanted.len()));
    }
    for (at, series) in wanted.iter().enumerate() {
        let labels = &series.labels;
        let found = if ordered {
            got.get(at).filter(|(other, _)| other == labels)
        } else {
            got.iter().find(|(other, _)| other == labels)
        };
        let Some((_, got)) = found else {
            return fail(format!("{labels} is missing"));
        };
        for step in 0..series.values.len().max(got.len()) {
            let wanted = series.values.get(step).unwrap_or(&SeriesValue::Missing);
            let got = got.get(step).and_then(Option::as_ref);
            if !same_value(wanted, got) {
                return fail(format!("{labels} at step {step}: {wanted:?} is expected"));
            }
        }
    }
    Ok(())
}

fn shown(got: &[Got]) -> String {
    let series = got.iter().map(|(labels, values)| {
        let values = values.iter().map(|value| match value {
            None => "_".to_owned(),
            Some(SampleValue::Float(value)) => value.to_string(),
            Some(SampleValue::Histogram(histogram)) => format!("{histogram:?}"),
        });
        format!("{labels} {}", values.collect::<Vec<_>>().join(" "))
    });
    series.collect::<Vec<_>>().join("; ")
}

fn same_value(wanted: &SeriesValue, got: Option<&SampleValue>) -> bool {
    match (wanted, got) {
        (SeriesValue::Missing, None) => true,
        (SeriesValue::Float(wanted), Some(SampleValue::Float(got))) => {
            is_absent(*wanted) == is_absent(*got) && same(*wanted, *got)
        }
        (SeriesValue::Histogram(wanted), Some(SampleValue::Histogram(got))) => {
            let hint = wanted.hint.is_some();
            same_histogram(&histogram::engine(wanted), got, hint)
        }
        _ => false,
    }
}

/// Buckets that are empty do not count, and neither does the hint unless it was written.
fn same_histogram(wanted: &Histogram, got: &Histogram, with_hint: bool) -> bool {
    let buckets = |wanted: &mut dyn Iterator<Item = (i32, f64)>,
                   got: &mut dyn Iterator<Item = (i32, f64)>| {
        let (mut wanted, mut got) = (
            wanted.filter(|(_, count)| *count != 0.0),
            got.filter(|(_, count)| *count != 0.0),
        );
        loop {
            match (wanted.next(), got.next()) {
                (None, None) => return true,
                (Some((a, x)), Some((b, y))) if a == b && same(x, y) => {}
                _ => return false,
            }
        }
    };
    wanted.schema == got.schema
        && wanted.zero_threshold.to_bits() == got.zero_threshold.to_bits()
        && same(wanted.zero_count, got.zero_count)
        && same(wanted.count, got.count)
        && same(wanted.sum, got.sum)
        && buckets(&mut wanted.positive.iter(), &mut got.positive.iter())
        && buckets(&mut wanted.negative.iter(), &mut got.negative.iter())
        && wanted.custom_values == got.custom_values
        && (!with_hint || wanted.reset_hint == got.reset_hint)
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
