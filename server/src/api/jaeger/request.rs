//! Reading the parameters of Jaeger's older API: times in microseconds, durations as Go writes them,
//! tags. The handlers in `jaeger` call it; its errors are the texts that Jaeger answers with.

use std::collections::BTreeMap;

use trine_query::text::{parse_go_duration, quote};
use trine_storage::TimeRange;

use super::search::Search;
use crate::params::Params;
use crate::refusal::Refusal;

/// Traces that a search gives that does not say how many.
const LIMIT_DEFAULT: i32 = 100;

/// How far back a search goes that does not say where it starts: two days.
const LOOK_BACK_NS: i64 = 2 * DAY_NS;

const DAY_NS: i64 = 86_400_000_000_000;
const MILLISECOND_NS: i64 = 1_000_000;
const MICROSECOND_NS: i64 = 1000;

/// What `/api/traces` is asked.
#[derive(Debug, PartialEq)]
pub(super) enum Traces {
    /// Traces by their ids.
    Ids(Vec<[u8; 16]>),
    /// Traces that a search finds.
    Search(Search),
}

/// The parameters of a search, at the time `now_ns`.
pub(super) fn traces(params: &Params, now_ns: i64) -> Result<Traces, Refusal> {
    let start = time(params, "start", MICROSECOND_NS)?;
    let start = start.unwrap_or(now_ns.saturating_sub(LOOK_BACK_NS));
    let end = time(params, "end", MICROSECOND_NS)?.unwrap_or(now_ns);
    let tags = tags(params)?;
    let limit = match params.get("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => {
            let number = go_int(text).map_err(Refusal::bad)?;
            i32::try_from(number).map_err(|_| Refusal::bad(out_of_range(text)))?
        }
    };
    let duration = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(text) => go_duration(text).map_err(|why| unreadable(name, &why)),
    };
    let (min_ns, max_ns) = (duration("minDuration")?, duration("maxDuration")?);
    let ids = params.all("traceID").map(|text| {
        let id = trace_id(text);
        id.map_err(|why| Refusal::bad(format!("cannot parse traceID param: {why}")))
    });
    let ids: Vec<[u8; 16]> = ids.collect::<Result<_, _>>()?;
    raw(params)?;
    let service = params.get("service").map(str::to_owned);
    if ids.is_empty() && service.is_none() {
        return Err(service_required());
    }
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
    let limit =
        limit.ok_or_else(|| Refusal::bad("invalid parameter: limit must be greater than 0"))?;
    if start > end {
        let text = "invalid parameter: start time must be before end time";
        return Err(Refusal::bad(text));
    }
    if let (Some(min), Some(max)) = (min_ns, max_ns)
        && max < min
    {
        let text = "'maxDuration' should be greater than 'minDuration'";
        return Err(Refusal::bad(text));
    }
    if !ids.is_empty() {
        return Ok(Traces::Ids(ids));
    }
    Ok(Traces::Search(Search {
        service,
        operation: params.get("operation").map(str::to_owned),
        tags,
        range: TimeRange::inclusive(start, end),
        min_ns,
        max_ns,
        limit,
    }))
}

/// A service must be named.
pub(super) fn service_required() -> Refusal {
    Refusal::bad("parameter 'service' is required")
}

/// The parameters of a trace by id. Times are a hint where to look; it is found without.
pub(super) fn of_one(params: &Params) -> Result<(), Refusal> {
    time(params, "start", MICROSECOND_NS)?;
    time(params, "end", MICROSECOND_NS)?;
    raw(params).map(drop)
}

/// Whether spans are wanted as they are stored.
pub(super) fn raw(params: &Params) -> Result<bool, Refusal> {
    match params.get("raw") {
        None => Ok(false),
        Some(text) => go_bool(text).map_err(|why| unreadable("raw", &why)),
    }
}

/// The range of dependencies: `lookback` up to `endTs`, milliseconds.
pub(super) fn dependencies(params: &Params, now_ns: i64) -> Result<TimeRange, Refusal> {
    let end = time(params, "endTs", MILLISECOND_NS)?.unwrap_or(now_ns);
    let back = time(params, "lookback", MILLISECOND_NS)?.unwrap_or(DAY_NS);
    Ok(TimeRange::inclusive(end.saturating_sub(back), end))
}

/// A parameter that counts units of so many nanoseconds.
fn time(params: &Params, name: &str, unit_ns: i64) -> Result<Option<i64>, Refusal> {
    match params.get(name) {
        None => Ok(None),
        Some(text) => match go_int(text) {
            Ok(number) => Ok(Some(number.saturating_mul(unit_ns))),
            Err(why) => Err(unreadable(name, &why)),
        },
    }
}

/// `tag=key:value`, any number of them, and `tags={"key":"value"}`, which counts more.
fn tags(params: &Params) -> Result<Vec<(String, String)>, Refusal> {
    let mut tags = BTreeMap::new();
    for text in params.all("tag") {
        let Some((key, value)) = text.split_once(':') else {
            return Err(Refusal::bad(format!(
                "malformed 'tag' parameter, expecting key:value, received: {text}"
            )));
        };
        tags.insert(key.to_owned(), value.to_owned());
    }
    for text in params.all("tags") {
        tags.extend(text_map(text).map_err(|why| {
            Refusal::bad(format!(
                "malformed 'tags' parameter, cannot unmarshal JSON: {why}"
            ))
        })?);
    }
    Ok(tags.into_iter().collect())
}

/// An object of JSON with texts. `null` is one without any.
pub(super) fn text_map(text: &str) -> Result<BTreeMap<String, String>, String> {
    let read = serde_json::from_str::<Option<BTreeMap<String, String>>>(text);
    read.map(Option::unwrap_or_default)
        .map_err(|error| error.to_string())
}

/// A trace id: up to 32 hexadecimal digits, zeros on the left left out.
pub(super) fn trace_id(text: &str) -> Result<[u8; 16], String> {
    if text.len() > 32 {
        return Err(format!(
            "TraceID cannot be longer than 32 hex characters: {text}"
        ));
    }
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u128::from_str_radix(text, 16) {
        Ok(id) if is_hex => Ok(id.to_be_bytes()),
        _ => Err(format!(
            "strconv.ParseUint: parsing {}: invalid syntax",
            quote(text)
        )),
    }
}

fn unreadable(name: &str, why: &str) -> Refusal {
    Refusal::bad(format!("unable to parse param '{name}': {why}"))
}

/// A number, with the errors of Go.
fn go_int(text: &str) -> Result<i64, String> {
    text.parse::<i64>().map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
            out_of_range(text)
        }
        _ => format!("strconv.ParseInt: parsing {}: invalid syntax", quote(text)),
    })
}

fn out_of_range(text: &str) -> String {
    format!(
        "strconv.ParseInt: parsing {}: value out of range",
        quote(text)
    )
}

/// A length of time, with the errors of Go; none for one of nothing.
pub(super) fn go_duration(text: &str) -> Result<Option<i64>, String> {
    match parse_go_duration(text) {
        Ok(0) => Ok(None),
        Ok(ns) => Ok(Some(ns)),
        Err(_) => Err(duration_error(text)),
    }
}

/// What Go says of a duration that is none: numbers must have units, and known ones.
fn duration_error(text: &str) -> String {
    const UNITS: [&str; 8] = ["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h"];
    let whole = quote(text);
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while rest.starts_with(is_number) {
        rest = rest.trim_start_matches(is_number);
        let end = rest.find(is_number).unwrap_or(rest.len());
        let (unit, behind) = rest.split_at(end);
        if unit.is_empty() {
            return format!("time: missing unit in duration {whole}");
        }
        if !UNITS.contains(&unit) {
            return format!("time: unknown unit {} in duration {whole}", quote(unit));
        }
        rest = behind;
    }
    format!("time: invalid duration {whole}")
}

/// A truth value as Go reads it.
pub(super) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            quote(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = 1_700_000_000_000_000_000;

    fn asked(query: &str) -> Result<Traces, String> {
        traces(&Params::from_query(query), NOW_NS).map_err(|refusal| refusal.text)
    }

    #[test]
    fn searches() {
        let plain = Search {
            service: Some("a".to_owned()),
            operation: None,
            tags: Vec::new(),
            range: TimeRange::inclusive(NOW_NS - LOOK_BACK_NS, NOW_NS),
            min_ns: None,
            max_ns: None,
            limit: 100,
        };
        assert_eq!(
            asked("service=a&operation="),
            Ok(Traces::Search(plain.clone()))
        );
        let query = "service=a&operation=GET+/&start=1000&end=2000&limit=7&minDuration=1.5ms\
                     &maxDuration=2s&tag=k:v:w&tag=l:1&tags={\"l\":\"2\",\"m\":\"n\"}&tags=null&raw=t";
        let all = Search {
            operation: Some("GET /".to_owned()),
            tags: [("k", "v:w"), ("l", "2"), ("m", "n")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .to_vec(),
            range: TimeRange::inclusive(1_000_000, 2_000_000),
            min_ns: Some(1_500_000),
            max_ns: Some(2_000_000_000),
            limit: 7,
            ..plain
        };
        assert_eq!(asked(query), Ok(Traces::Search(all)));
        let id = |low: u8| u128::from(low).to_be_bytes();
        assert_eq!(
            asked("traceID=1&traceID=0f"),
            Ok(Traces::Ids(vec![id(1), id(15)]))
        );
    }

    #[test]
    fn what_is_refused_is_refused_in_jaegers_words() {
        for (query, why) in [
            ("", "parameter 'service' is required"),
            (
                "service=a&start=x",
                "unable to parse param 'start': strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "service=a&end=99999999999999999999",
                "unable to parse param 'end': strconv.ParseInt: parsing \
                 \"99999999999999999999\": value out of range",
            ),
            (
                "service=a&limit=x",
                "strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "service=a&limit=3000000000",
                "strconv.ParseInt: parsing \"3000000000\": value out of range",
            ),
            (
                "service=a&limit=0",
                "invalid parameter: limit must be greater than 0",
            ),
            (
                "service=a&minDuration=5",
                "unable to parse param 'minDuration': time: missing unit in duration \"5\"",
            ),
            (
                "service=a&minDuration=5s3x",
                "unable to parse param 'minDuration': time: unknown unit \"x\" in duration \
                 \"5s3x\"",
            ),
            (
                "service=a&maxDuration=long",
                "unable to parse param 'maxDuration': time: invalid duration \"long\"",
            ),
            (
                "service=a&minDuration=5s&maxDuration=4s",
                "'maxDuration' should be greater than 'minDuration'",
            ),
            (
                "service=a&start=2&end=1",
                "invalid parameter: start time must be before end time",
            ),
            (
                "service=a&tag=k",
                "malformed 'tag' parameter, expecting key:value, received: k",
            ),
            (
                "traceID=g",
                "cannot parse traceID param: strconv.ParseUint: parsing \"g\": invalid syntax",
            ),
            (
                "service=a&raw=x",
                "unable to parse param 'raw': strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(asked(query), Err(why.to_owned()), "{query}");
        }
        let error = asked("service=a&tags={\"k\":1}").unwrap_err();
        assert!(
            error.starts_with("malformed 'tags' parameter, cannot unmarshal JSON: "),
            "{error}"
        );
    }

    #[test]
    fn ids_may_be_short_and_not_long() {
        let full = "2f3e0cee77ae5dc9c17ade3689eb2e54";
        assert_eq!(
            trace_id(full).map(u128::from_be_bytes),
            Ok(0x2f3e_0cee_77ae_5dc9_c17a_de36_89eb_2e54)
        );
        assert_eq!(trace_id("A").map(u128::from_be_bytes), Ok(10));
        for text in ["", "+1", "x", &format!("0{full}")] {
            assert!(trace_id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dependencies_look_back_a_day_or_as_told() {
        let range = |query: &str| dependencies(&Params::from_query(query), NOW_NS).unwrap();
        assert_eq!(range(""), TimeRange::inclusive(NOW_NS - DAY_NS, NOW_NS));
        assert_eq!(
            range("endTs=5000&lookback=2000"),
            TimeRange::inclusive(3_000_000_000, 5_000_000_000)
        );
        let params = Params::from_query("endTs=1&lookback=x");
        assert_eq!(
            dependencies(&params, 0).unwrap_err().text,
            "unable to parse param 'lookback': strconv.ParseInt: parsing \"x\": invalid syntax"
        );
    }
}
