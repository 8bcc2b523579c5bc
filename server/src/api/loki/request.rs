//! Reading the parameters of Loki's API: times, durations, limits, directions and selectors. The
//! handlers in `loki` call it; its errors are the texts that Loki answers with.

use trine_query::logql::source::Direction;
use trine_query::logql::{self, RangeQuery};
use trine_query::text::{parse_prometheus_duration, quote};
use trine_storage::{Matcher, TimeRange};

use super::answer::Failure;
use crate::params::{Params, instant_ns, seconds_as_ms};

/// Points that one series of a range query may have, beside the first.
const POINTS_MAX: i64 = 11_000;

/// Lines that a query gives that does not say how many.
const LINES_DEFAULT: usize = 100;

/// Lines that fields are looked for in unless a query says how many.
const SAMPLE_DEFAULT: usize = 100;

/// Fields, or values of one, that are told unless a query says how many.
const FIELDS_DEFAULT: usize = 1000;

/// How far back a query goes that does not say it.
const SINCE_DEFAULT_NS: i64 = 3_600_000_000_000;

const SECOND_NS: i64 = 1_000_000_000;

/// The range of a question; both ends count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) start_ns: i64,
    pub(super) end_ns: i64,
}

impl Bounds {
    /// The instants between and at the ends.
    pub(super) fn range(self) -> TimeRange {
        TimeRange::inclusive(self.start_ns, self.end_ns)
    }
}

/// The parameters `start`, `end` and `since`.
pub(super) fn bounds(params: &Params, now_ns: i64) -> Result<Bounds, Failure> {
    let since = match params.get("since") {
        Some(text) => parse_prometheus_duration(text)
            .map(|ms| ms.saturating_mul(1_000_000))
            .map_err(|error| unreadable("since", &error.to_string()))?,
        None => SINCE_DEFAULT_NS,
    };
    let end_ns = time(params, "end")?.unwrap_or(now_ns);
    let start_ns = match time(params, "start")? {
        Some(start) => start,
        None => end_ns.min(now_ns).saturating_sub(since),
    };
    if end_ns < start_ns {
        return Err(Failure::bad(
            "end timestamp must not be before or equal to start time",
        ));
    }
    Ok(Bounds { start_ns, end_ns })
}

/// The parameters of a range query.
pub(super) fn range_query(params: &Params, now_ns: i64) -> Result<RangeQuery, Failure> {
    let Bounds { start_ns, end_ns } = bounds(params, now_ns)?;
    let length = end_ns.saturating_sub(start_ns);
    let step_ns = match duration_ns(params, "step")? {
        Some(step) => step,
        None => (length / (250 * SECOND_NS))
            .max(1)
            .saturating_mul(SECOND_NS),
    };
    if step_ns <= 0 {
        return Err(Failure::bad(
            "zero or negative query resolution step widths are not accepted. Try a positive \
             integer",
        ));
    }
    if length / step_ns > POINTS_MAX {
        return Err(Failure::bad(
            "exceeded maximum resolution of 11,000 points per time series. Try increasing the \
             value of the step parameter",
        ));
    }
    let interval_ns = duration_ns(params, "interval")?.unwrap_or(0);
    if interval_ns < 0 {
        return Err(Failure::bad("interval must be >= 0"));
    }
    let (direction, limit) = (direction(params)?, limit(params)?);
    Ok(RangeQuery {
        start_ns,
        end_ns,
        step_ns,
        direction,
        limit,
        interval_ns,
    })
}

/// The parameter `limit`.
pub(super) fn limit(params: &Params) -> Result<usize, Failure> {
    Ok(count(params, "limit")?.unwrap_or(LINES_DEFAULT))
}

/// In how many lines fields are looked for: the parameter `line_limit`.
pub(super) fn line_limit(params: &Params) -> Result<usize, Failure> {
    Ok(count(params, "line_limit")?.unwrap_or(SAMPLE_DEFAULT))
}

/// How many fields, or values of one, are told: the parameter `limit`, or `field_limit`.
pub(super) fn fields_limit(params: &Params) -> Result<usize, Failure> {
    let limit = match count(params, "limit")? {
        Some(limit) => Some(limit),
        None => count(params, "field_limit")?,
    };
    Ok(limit.unwrap_or(FIELDS_DEFAULT))
}

fn count(params: &Params, name: &str) -> Result<Option<usize>, Failure> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    let limit: i64 = text
        .parse()
        .map_err(|_| unreadable(name, &format!("{} is not a number", quote(text))))?;
    match usize::try_from(limit) {
        Ok(limit) if limit > 0 => Ok(Some(limit)),
        _ => Err(Failure::bad("limit must be a positive value")),
    }
}

/// The parameter `direction`.
pub(super) fn direction(params: &Params) -> Result<Direction, Failure> {
    match params.get("direction") {
        None => Ok(Direction::Backward),
        Some(text) if text.eq_ignore_ascii_case("backward") => Ok(Direction::Backward),
        Some(text) if text.eq_ignore_ascii_case("forward") => Ok(Direction::Forward),
        Some(text) => Err(Failure::bad(format!("invalid direction '{text}'"))),
    }
}

/// Nanoseconds of a time that may be absent, in any form of [`instant_ns`].
pub(super) fn time(params: &Params, name: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    let wrong = || {
        let why = format!("cannot parse {} to a valid timestamp", quote(text));
        unreadable(name, &why)
    };
    instant_ns(text).map(Some).ok_or_else(wrong)
}

/// A time in the form of RFC 3339, with nanoseconds where there are any.
pub(super) fn rfc3339(time_ns: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time_ns));
    time.map_or_else(|_| time_ns.to_string(), |time| time.to_string())
}

/// Nanoseconds of a duration that may be absent: seconds, or a duration with units.
fn duration_ns(params: &Params, name: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    let ms = match text.parse::<f64>() {
        Ok(seconds) => seconds_as_ms(seconds),
        Err(_) => parse_prometheus_duration(text).ok(),
    };
    let wrong = || {
        unreadable(
            name,
            &format!("cannot parse {} to a valid duration", quote(text)),
        )
    };
    ms.and_then(|ms| ms.checked_mul(1_000_000))
        .map(Some)
        .ok_or_else(wrong)
}

/// The selector of the parameter `query`, which all streams satisfy when it is absent.
pub(super) fn selector(params: &Params) -> Result<Vec<Matcher>, Failure> {
    match params.get("query") {
        Some(text) => Ok(logql::parse_selector(text)?),
        None => Ok(Vec::new()),
    }
}

/// The selectors of the parameters `match[]` and `match`; one that all streams satisfy when there
/// are none.
pub(super) fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, Failure> {
    let mut selectors = Vec::new();
    for text in params.all("match[]").chain(params.all("match")) {
        selectors.push(logql::parse_selector(text)?);
    }
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    Ok(selectors)
}

fn unreadable(name: &str, why: &str) -> Failure {
    Failure::bad(format!("could not parse '{name}' parameter: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    const NOW: i64 = 1_700_000_000_000_000_000;

    #[test]
    fn times() {
        let check = |text: &str| time(&Params::from_query(&format!("t={text}")), "t");
        for (text, expect) in [
            ("4000000000", 4_000_000_000_000_000_000),
            ("1700000000", NOW),
            ("1700000000000000000", NOW),
            ("1700000000.5", NOW + 500_000_000),
            ("40000000000", 40_000_000_000),
            ("-1", -SECOND_NS),
            ("2023-11-14T22:13:20.000000001Z", NOW + 1),
        ] {
            assert_eq!(check(text), Ok(Some(expect)), "{text}");
        }
        assert_eq!(check(""), Ok(None));
        for text in ["x", "1e9", "99999999999999999999", "9e999.0", "2023-11-14"] {
            let expect = format!(
                "could not parse 't' parameter: cannot parse \"{text}\" to a valid timestamp"
            );
            assert_eq!(check(text).unwrap_err().to_string(), expect);
        }
    }

    #[test]
    fn bounds_have_defaults() {
        let check = |query: &str| {
            bounds(&Params::from_query(query), NOW)
                .map(|b| (b.start_ns, b.end_ns))
                .map_err(|failure| failure.to_string())
        };
        assert_eq!(check(""), Ok((NOW - HOUR, NOW)));
        assert_eq!(check("since=2h"), Ok((NOW - 2 * HOUR, NOW)));
        assert_eq!(
            check("end=1600000000&since=1h"),
            Ok((1_600_000_000 * SECOND_NS - HOUR, 1_600_000_000 * SECOND_NS))
        );
        let future = 1_800_000_000 * SECOND_NS;
        assert_eq!(check("end=1800000000"), Ok((NOW - HOUR, future)));
        assert_eq!(check("start=5&end=5"), Ok((5 * SECOND_NS, 5 * SECOND_NS)));
        let order = "end timestamp must not be before or equal to start time";
        assert_eq!(check("start=6&end=5"), Err(order.to_owned()));
    }

    #[test]
    fn range_queries() {
        let check = |query: &str| {
            range_query(&Params::from_query(query), NOW).map_err(|failure| failure.to_string())
        };
        let plain = RangeQuery {
            start_ns: NOW - HOUR,
            end_ns: NOW,
            step_ns: 14 * SECOND_NS,
            direction: Direction::Backward,
            limit: 100,
            interval_ns: 0,
        };
        assert_eq!(check(""), Ok(plain));
        assert_eq!(
            check("start=0&end=10&step=500ms&direction=FORWARD&limit=7&interval=2"),
            Ok(RangeQuery {
                start_ns: 0,
                end_ns: 10 * SECOND_NS,
                step_ns: 500_000_000,
                direction: Direction::Forward,
                limit: 7,
                interval_ns: 2 * SECOND_NS,
            })
        );
        assert!(check("start=0&end=11000&step=1").is_ok());
        for (query, text) in [
            (
                "start=0&end=11001&step=1",
                "exceeded maximum resolution of 11,000 points per time series. Try increasing the \
                 value of the step parameter",
            ),
            (
                "step=0",
                "zero or negative query resolution step widths are not accepted. Try a positive \
                 integer",
            ),
            (
                "step=x",
                "could not parse 'step' parameter: cannot parse \"x\" to a valid duration",
            ),
            ("interval=-1", "interval must be >= 0"),
            ("direction=up", "invalid direction 'up'"),
            ("limit=0", "limit must be a positive value"),
            ("limit=-1", "limit must be a positive value"),
            (
                "limit=x",
                "could not parse 'limit' parameter: \"x\" is not a number",
            ),
        ] {
            assert_eq!(check(query), Err(text.to_owned()), "{query}");
        }
    }

    #[test]
    fn selectors_of_both_names() {
        let check = |query: &str| selectors(&Params::from_query(query)).map(|found| found.len());
        assert_eq!(check(""), Ok(1));
        assert_eq!(
            check("match[]={a=%22b%22}&match={}&match[]={c=%22d%22}"),
            Ok(3)
        );
        assert!(
            check("match=x")
                .unwrap_err()
                .to_string()
                .starts_with("parse error")
        );
    }
}
