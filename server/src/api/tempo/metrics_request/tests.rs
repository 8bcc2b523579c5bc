//! What parameters of metrics queries mean, and in which words they are refused.

use std::time::Duration;

use super::*;

const NOW: i64 = 1_700_000_000 * SECOND_NS;
const HOUR: i64 = 3_600 * SECOND_NS;

fn check(query: &str) -> Result<Metrics, String> {
    let params = Params::from_query(&format!("q={{}}|rate()&{query}"));
    metrics(&params, &Traces::default(), NOW).map_err(|refusal| refusal.text)
}

#[test]
fn times_in_any_form() {
    for (query, start, end) in [
        ("", NOW - HOUR, NOW),
        ("since=10m", NOW - HOUR / 6, NOW),
        (
            "end=1699990000",
            1_699_986_400 * SECOND_NS,
            1_699_990_000 * SECOND_NS,
        ),
        // What lies ahead is no reason to look back less far.
        ("end=1700003600", NOW - HOUR, NOW + HOUR),
        (
            "start=1699999000&end=1700000000",
            NOW - 1_000 * SECOND_NS,
            NOW,
        ),
        (
            "start=1699999000000000001&end=1700000000000000000",
            NOW - 1_000 * SECOND_NS + 1,
            NOW,
        ),
        (
            "start=1699999000.5&end=2023-11-14T22:13:20Z",
            NOW - 999_500_000_000,
            NOW,
        ),
    ] {
        let found = check(query).unwrap();
        assert_eq!((found.start_ns, found.end_ns), (start, end), "{query}");
    }
}

#[test]
fn steps() {
    for (step, expect) in [
        ("15", 15 * SECOND_NS),
        ("15s", 15 * SECOND_NS),
        ("1m30s", 90 * SECOND_NS),
        ("0.5", SECOND_NS / 2),
        ("1e1", 10 * SECOND_NS),
    ] {
        let found = check(&format!("step={step}")).unwrap();
        assert_eq!(found.step_ns, Some(expect), "{step}");
    }
    let default = traceql::default_step(NOW - HOUR, NOW);
    assert_eq!(check("").unwrap().step_ns, Some(default));
}

#[test]
fn numbers_have_limits() {
    for (query, exemplars, series) in [
        ("", 100, 1000),
        ("exemplars=7&maxSeries=9", 7, 9),
        ("exemplars=101&maxSeries=1001", 100, 1000),
    ] {
        let found = check(query).unwrap();
        let told = (found.exemplars, found.series_max);
        assert_eq!(told, (exemplars, series), "{query}");
    }
    let none = Traces {
        exemplars_max: 0,
        response_series_max: 0,
        ..Traces::default()
    };
    let params = Params::from_query("q={}|rate()&exemplars=7");
    let found = metrics(&params, &none, NOW).unwrap();
    assert_eq!((found.exemplars, found.series_max), (0, 0));
}

#[test]
fn edges() {
    let day = "start=1699913600&end=1700000000";
    assert!(check(&format!("{day}&step=10s")).is_ok());
    assert!(check("start=1699990000&end=1700000000&step=1").is_ok());
    assert!(check("start=1699989999&end=1700000000&step=1").is_err());
    for (query, why) in [
        ("start=5&end=5", "end must be greater than start"),
        ("start=6&end=5", "end must be greater than start"),
        (
            "start=1699913599&end=1700000000",
            "metrics query time range exceeds the maximum allowed duration of 24h0m0s",
        ),
        (
            "start=1699980000&end=1700000000&step=1",
            "step of 1s is too small, minimum step for given range is 2s",
        ),
        ("step=0", "step must be greater than 0"),
        ("step=-1s", "cannot parse \"-1s\" to a valid duration"),
        ("step=-1", "step must be greater than 0"),
        ("step=x", "cannot parse \"x\" to a valid duration"),
        (
            "step=1e40",
            "cannot parse \"1e40\" to a valid duration. It overflows int64",
        ),
        (
            "start=x",
            "could not parse 'start' parameter: cannot parse \"x\" to a valid timestamp",
        ),
        (
            "exemplars=-1",
            "invalid exemplars: strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
    ] {
        assert_eq!(check(query), Err(why.to_owned()), "{query}");
    }
    let since = check("since=x").unwrap_err();
    assert!(
        since.starts_with("could not parse 'since' parameter: "),
        "{since}"
    );
}

#[test]
fn one_value_a_series() {
    let limits = Traces::default();
    let check = |query: &str| {
        let params = Params::from_query(query);
        instant(&params, &limits, NOW).map_err(|refusal| refusal.text)
    };
    let found = check("query={}|rate()&start=1&end=2").unwrap();
    assert_eq!((found.step_ns, found.exemplars), (None, 0));
    assert_eq!(found.query, "{}|rate()");
    assert_eq!(check("q=a&query=b").unwrap().query, "a");
    let why = "invalid TraceQL query: empty query";
    assert_eq!(check(""), Err(why.to_owned()));
}

#[test]
fn messages() {
    let limits = Traces {
        metrics_duration_max: Duration::ZERO,
        intervals_max: 0,
        ..Traces::default()
    };
    let message = QueryRangeRequest {
        query: "{} | rate()".to_owned(),
        start: 1,
        end: u64::MAX,
        step: 1,
        ..QueryRangeRequest::default()
    };
    let found = Metrics::of_range(&message, &limits).unwrap();
    assert_eq!((found.start_ns, found.end_ns), (1, i64::MAX));
    assert_eq!((found.step_ns, found.exemplars), (Some(1), 100));
    let message = QueryInstantRequest {
        query: String::new(),
        start: 3,
        end: 2,
    };
    let refused = Metrics::of_instant(&message, &limits).unwrap_err();
    assert_eq!(refused.text, "end must be greater than start");
}
