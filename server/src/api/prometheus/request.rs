//! Reading the parameters of Prometheus' API: times, durations, limits, selectors and label names.
//! The handlers in `prometheus` call it; its errors are the texts that Prometheus answers with.

use std::time::Duration;

use trine_query::promql;
use trine_query::text::{parse_prometheus_duration, quote};
use trine_storage::{Matcher, TimeRange};

use super::answer::Failure;
use crate::params::Params;

/// Points that one series of a range query may have, beside the first.
pub(super) const POINTS_MAX: i64 = 11_000;

/// The parser's text for a selector that all series satisfy.
const SELECTS_ALL: &str = "vector selector must contain at least one non-empty matcher";

/// The range of a range query, milliseconds; both ends count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) step_ms: i64,
}

/// The parameters `start`, `end` and `step`.
pub(super) fn range(params: &Params) -> Result<Range, Failure> {
    let required = |name: &str| {
        let text = params.get(name).unwrap_or("");
        time_ms(text).map_err(|why| invalid(name, &why))
    };
    let (start_ms, end_ms) = (required("start")?, required("end")?);
    if end_ms < start_ms {
        return Err(invalid(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let step_ms = duration_ms(params.get("step").unwrap_or(""));
    let step_ms = step_ms.map_err(|why| invalid("step", &why))?;
    if step_ms <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive \
                   integer";
        return Err(invalid("step", why));
    }
    if end_ms.saturating_sub(start_ms) / step_ms > POINTS_MAX {
        return Err(Failure::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
             resolution (?step=XX)",
        ));
    }
    Ok(Range {
        start_ms,
        end_ms,
        step_ms,
    })
}

/// The parameters `start` and `end` of a question about series; what is absent is not bounded.
pub(super) fn window(params: &Params) -> Result<TimeRange, Failure> {
    let (start, end) = ends(params)?;
    Ok(TimeRange::inclusive(start, end))
}

/// The parameters `start` and `end` as they are, the widest ones for those that are absent.
pub(super) fn ends(params: &Params) -> Result<(i64, i64), Failure> {
    let start = optional_time(params, "start")?.unwrap_or(i64::MIN);
    let end = optional_time(params, "end")?.unwrap_or(i64::MAX);
    Ok((start, end))
}

/// A time that may be absent.
pub(super) fn optional_time(params: &Params, name: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    let time = time_ms(text);
    time.map(Some)
        .map_err(|why| invalid(name, &format!("invalid time value for '{name}': {why}")))
}

/// The parameter `lookback_delta`, milliseconds. Prometheus words this one by itself.
pub(super) fn lookback(params: &Params) -> Result<Option<i64>, Failure> {
    let Some(text) = params.get("lookback_delta") else {
        return Ok(None);
    };
    let wrong = |why| Failure::bad(format!("error parsing lookback delta duration: {why}"));
    duration_ms(text).map(Some).map_err(wrong)
}

/// The parameter `timeout`.
pub(super) fn timeout(params: &Params) -> Result<Option<Duration>, Failure> {
    let Some(text) = params.get("timeout") else {
        return Ok(None);
    };
    let ms = duration_ms(text).map_err(|why| invalid("timeout", &why))?;
    Ok(Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
}

/// The parameter `limit`; `None` for no limit, which is also what 0 means.
pub(super) fn limit(params: &Params) -> Result<Option<usize>, Failure> {
    let Some(text) = params.get("limit") else {
        return Ok(None);
    };
    let limit = integer(text).map_err(|why| invalid("limit", &why))?;
    match usize::try_from(limit) {
        Ok(0) => Ok(None),
        Ok(limit) => Ok(Some(limit)),
        Err(_) => Err(invalid("limit", "limit must be non-negative")),
    }
}

/// A whole number, with Go's words for what is none.
fn integer(text: &str) -> Result<i64, String> {
    let wrong = |why| format!("strconv.Atoi: parsing {}: {why}", quote(text));
    text.parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                wrong("value out of range")
            }
            _ => wrong("invalid syntax"),
        })
}

/// What a request wants to know about its own cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stats {
    /// Nothing.
    No,
    /// Timings and samples.
    Yes,
    /// The same, asked for with a word that will mean nothing one day.
    Deprecated,
}

/// The warning for [`Stats::Deprecated`].
pub(super) fn stats_deprecated(params: &Params) -> String {
    format!(
        "value {} for parameter \"stats\" is deprecated and will be rejected in the next major \
         release, use \"true\" or \"all\"",
        quote(params.get("stats").unwrap_or(""))
    )
}

/// The parameter `stats`.
pub(super) fn stats(params: &Params) -> Stats {
    match params.get("stats") {
        None => Stats::No,
        Some("true" | "all") => Stats::Yes,
        Some(_) => Stats::Deprecated,
    }
}

/// A number of things; `None` for no bound, which is also what a negative one means.
pub(super) fn count(params: &Params, name: &str) -> Result<Option<usize>, Failure> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    let number: Result<i64, _> = text.parse();
    let number = number.map_err(|_| Failure::bad(format!("{name} must be a number")))?;
    Ok(usize::try_from(number).ok())
}

/// A truth as Go reads it; false when it is absent.
pub(super) fn truth(params: &Params, name: &str) -> Result<bool, Failure> {
    match params.get(name) {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(text) => {
            let why = format!(
                "unable to parse boolean: strconv.ParseBool: parsing {}: invalid syntax",
                quote(text)
            );
            Err(invalid(name, &why))
        }
    }
}

/// The selectors of the parameters `match[]`. Not every route wraps the texts of its errors, so that
/// is left to the caller.
pub(super) fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, String> {
    let texts = params.all("match[]");
    let parsed: Vec<_> = texts.map(promql::parse_selector).collect();
    let selects_all = |error: &promql::SyntaxError| error.message == SELECTS_ALL;
    // One that does not parse is told of before one that selects everything.
    let broken = |found: &&Result<_, _>| matches!(found, Err(error) if !selects_all(error));
    if let Some(Err(error)) = parsed.iter().find(broken) {
        return Err(error.to_string());
    }
    // Of a selector alone Prometheus says it in other words than of one in a query.
    let none = |_| "match[] must contain at least one non-empty matcher".to_owned();
    parsed
        .into_iter()
        .map(|found| found.map_err(none))
        .collect()
}

/// The selector of the parameter `selector`, that of Mimir.
pub(super) fn selector(params: &Params) -> Result<Option<Vec<Matcher>>, Failure> {
    let Some(text) = params.get("selector") else {
        return Ok(None);
    };
    let matchers = promql::parse_selector(text);
    let wrong =
        |error: promql::SyntaxError| Failure::bad(format!("failed to parse selector: {error}"));
    matchers.map(Some).map_err(wrong)
}

/// The parameter `name` does not say what it should.
pub(super) fn invalid(name: &str, why: &str) -> Failure {
    Failure::bad(format!("invalid parameter {}: {why}", quote(name)))
}

/// What Prometheus' own clients write for "from the beginning" and "to the end", in years that are
/// no RFC 3339.
const BEGINNING: &str = "-292273086-05-16T16:47:06Z";
const END: &str = "292277025-08-18T07:12:54.999999999Z";

/// Seconds since 1970 with a fraction, or RFC 3339; in milliseconds.
fn time_ms(text: &str) -> Result<i64, String> {
    match text {
        BEGINNING => return Ok(i64::MIN),
        END => return Ok(i64::MAX),
        _ => {}
    }
    if let Some(ms) = float_ms(text) {
        return ms.ok_or_else(|| format!("cannot parse {} to a valid timestamp", quote(text)));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(time.as_millisecond()),
        Err(_) => Err(format!("cannot parse {} to a valid timestamp", quote(text))),
    }
}

/// Seconds with a fraction, or a Prometheus duration; in milliseconds.
fn duration_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("cannot parse {} to a valid duration", quote(text));
    match float_ms(text) {
        Some(Some(ms)) => Ok(ms),
        Some(None) => Err(format!("{}. It overflows int64", wrong())),
        None => parse_prometheus_duration(text).map_err(|_| wrong()),
    }
}

/// `None` when the text is no number, `Some(None)` when it does not fit.
fn float_ms(text: &str) -> Option<Option<i64>> {
    // Rust reads what Go reads: decimals, exponents, inf and nan in any case.
    let seconds: f64 = text.parse().ok()?;
    let ms = (seconds * 1000.0).round();
    // 2^63 is a float, and the smallest one that does not fit.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&ms);
    Some(fits.then_some(ms as i64))
}

/// A label name as it stands in a path: names that are not plain identifiers come as
/// `U__http_2e_status`, with `_hex_` for a character and `__` for an underscore.
pub(super) fn label_name(text: &str) -> String {
    let plain = || text.to_owned();
    let Some(mut rest) = text.strip_prefix("U__") else {
        return plain();
    };
    let mut name = String::with_capacity(rest.len());
    while let Some(at) = rest.find('_') {
        let (before, after) = rest.split_at(at);
        name.push_str(before);
        let Some((code, tail)) = after.get(1..).and_then(|after| after.split_once('_')) else {
            return plain();
        };
        if code.is_empty() {
            name.push('_');
        } else {
            let digits = code.len() <= 6 && code.bytes().all(|b| b.is_ascii_hexdigit());
            let number = digits.then(|| u32::from_str_radix(code, 16).ok()).flatten();
            let Some(character) = number.and_then(char::from_u32) else {
                return plain();
            };
            name.push(character);
        }
        rest = tail;
    }
    name.push_str(rest);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expect) in [
            ("0", 0),
            ("4", 4000),
            ("1700000000.1235", 1_700_000_000_124),
            ("-1.5", -1500),
            ("1.7e9", 1_700_000_000_000),
            ("1700000000000", 1_700_000_000_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
            (BEGINNING, i64::MIN),
            (END, i64::MAX),
        ] {
            assert_eq!(time_ms(text), Ok(expect), "{text}");
        }
        for text in [
            "",
            "x",
            "NaN",
            "inf",
            "1e300",
            "2023-11-14",
            "2023-11-14T22:13:20",
        ] {
            let expect = format!("cannot parse \"{text}\" to a valid timestamp");
            assert_eq!(time_ms(text), Err(expect));
        }
    }

    #[test]
    fn durations() {
        for (text, expect) in [
            ("15", 15_000),
            ("0.001", 1),
            ("1m0s", 60_000),
            ("1h30m0s", 5_400_000),
            ("-1", -1000),
        ] {
            assert_eq!(duration_ms(text), Ok(expect), "{text}");
        }
        assert_eq!(
            duration_ms("x"),
            Err(r#"cannot parse "x" to a valid duration"#.to_owned())
        );
        let overflow = r#"cannot parse "1e300" to a valid duration. It overflows int64"#;
        assert_eq!(duration_ms("1e300"), Err(overflow.to_owned()));
    }

    #[test]
    fn ranges() {
        let check =
            |query: &str| range(&Params::from_query(query)).map_err(|failure| failure.to_string());
        assert_eq!(
            check("start=0&end=11000&step=1"),
            Ok(Range {
                start_ms: 0,
                end_ms: 11_000_000,
                step_ms: 1000
            })
        );
        for (query, text) in [
            (
                "end=1&step=1",
                r#"invalid parameter "start": cannot parse "" to a valid timestamp"#,
            ),
            (
                "start=0&end=x",
                r#"invalid parameter "end": cannot parse "x" to a valid timestamp"#,
            ),
            (
                "start=2&end=1&step=1",
                r#"invalid parameter "end": end timestamp must not be before start time"#,
            ),
            (
                "start=0&end=1&step=1y1",
                r#"invalid parameter "step": cannot parse "1y1" to a valid duration"#,
            ),
            (
                "start=0&end=1&step=0",
                "invalid parameter \"step\": zero or negative query resolution step widths are not \
                 accepted. Try a positive integer",
            ),
            (
                "start=0&end=11001&step=1",
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the \
                 query resolution (?step=XX)",
            ),
        ] {
            assert_eq!(check(query), Err(text.to_owned()), "{query}");
        }
    }

    #[test]
    fn limits_and_times_that_may_be_absent() {
        let params = Params::from_query("limit=3&time=x&timeout=1m");
        assert_eq!(limit(&params).unwrap(), Some(3));
        assert_eq!(timeout(&params).unwrap(), Some(Duration::from_secs(60)));
        assert_eq!(optional_time(&params, "start").unwrap(), None);
        assert_eq!(
            optional_time(&params, "time").unwrap_err().to_string(),
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a \
             valid timestamp"
        );
        for (query, expect) in [
            ("limit=0", Ok(None)),
            ("", Ok(None)),
            (
                "limit=-1",
                Err(r#"invalid parameter "limit": limit must be non-negative"#),
            ),
            (
                "limit=x",
                Err(r#"invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax"#),
            ),
            (
                "limit=99999999999999999999",
                Err(
                    r#"invalid parameter "limit": strconv.Atoi: parsing "99999999999999999999": value out of range"#,
                ),
            ),
        ] {
            let found = limit(&Params::from_query(query)).map_err(|failure| failure.to_string());
            assert_eq!(found, expect.map_err(str::to_owned), "{query}");
        }
    }

    #[test]
    fn stats_counts_and_truths() {
        for (query, expect) in [
            ("", Stats::No),
            ("stats=", Stats::No),
            ("stats=true", Stats::Yes),
            ("stats=all", Stats::Yes),
            ("stats=1", Stats::Deprecated),
        ] {
            assert_eq!(stats(&Params::from_query(query)), expect, "{query}");
        }
        let text = |failure: Failure| failure.to_string();
        for (query, expect) in [
            ("", Ok(None)),
            ("n=0", Ok(Some(0))),
            ("n=7", Ok(Some(7))),
            ("n=-1", Ok(None)),
            ("n=x", Err("n must be a number".to_owned())),
        ] {
            let params = Params::from_query(query);
            assert_eq!(count(&params, "n").map_err(text), expect, "{query}");
        }
        let wrong = r#"invalid parameter "b": unable to parse boolean: strconv.ParseBool: parsing "x": invalid syntax"#;
        for (query, expect) in [
            ("", Ok(false)),
            ("b=true", Ok(true)),
            ("b=0", Ok(false)),
            ("b=x", Err(wrong.to_owned())),
        ] {
            let params = Params::from_query(query);
            assert_eq!(truth(&params, "b").map_err(text), expect, "{query}");
        }
    }

    #[test]
    fn selectors_must_select() {
        let check = |query: &str| selectors(&Params::from_query(query)).map(|found| found.len());
        assert_eq!(check(""), Ok(0));
        assert_eq!(check("match[]=up&match[]={a=~%22b.%2B%22}"), Ok(2));
        assert_eq!(check("match[]={__name__!=%22%22}"), Ok(1));
        let empty = "match[] must contain at least one non-empty matcher";
        assert_eq!(check("match[]={a=~%22.*%22}"), Err(empty.to_owned()));
        assert_eq!(check("match[]={}"), Err(empty.to_owned()));
        let broken = "1:4: parse error: unexpected end of input inside braces";
        assert_eq!(check("match[]={}&match[]=up{"), Err(broken.to_owned()));
    }

    #[test]
    fn label_names_in_paths() {
        for (text, expect) in [
            ("job", "job"),
            ("__name__", "__name__"),
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___1F600_x", "\u{1F600}x"),
            ("U__", ""),
            ("U__a_zz_b", "U__a_zz_b"),
            ("U__a_2e", "U__a_2e"),
            ("U__a_", "U__a_"),
            ("U__a_d800_", "U__a_d800_"),
            ("U__a_0000002e_", "U__a_0000002e_"),
            ("U__é_2e_é", "é.é"),
        ] {
            assert_eq!(label_name(text), expect, "{text}");
        }
    }
}
