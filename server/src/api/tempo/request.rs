//! Reading the parameters of Tempo's API: trace ids, times, limits, and the tag search that is
//! older than TraceQL. The handlers in `tempo` call it; its errors are the texts that Tempo answers
//! with.

use std::fmt::Write as _;

use trine_query::text::{parse_go_duration, quote};
use trine_storage::TimeRange;

use crate::params::Params;
use crate::refusal::Refusal;

/// Traces that one search may give.
const LIMIT_MAX: usize = 262_144;

/// Traces that a search gives that does not say how many.
const LIMIT_DEFAULT: usize = 20;

/// Spans of a set that one search may give.
const SPANS_PER_SET_MAX: usize = 100;

/// Spans of a set that a search gives that does not say how many.
const SPANS_PER_SET_DEFAULT: usize = 3;

const SECOND_NS: i64 = 1_000_000_000;

/// What a search is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    /// TraceQL.
    pub(super) query: String,
    /// Nanoseconds since 1970.
    pub(super) range: TimeRange,
    /// The most traces.
    pub(super) limit: usize,
    /// The most spans of a set; `None` for all.
    pub(super) spans_per_set: Option<usize>,
}

/// The parameters of a search.
pub(super) fn search(params: &Params) -> Result<Search, Refusal> {
    let query = match (params.get("q"), params.get("tags")) {
        (Some(_), Some(_)) => {
            return Err(invalid("can't specify tags and q in the same query"));
        }
        (Some(query), None) => query.to_owned(),
        (None, tags) => tag_query(tags.unwrap_or(""), params)?,
    };
    let limit = match params.get("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => positive("limit", text)?,
    };
    if limit > LIMIT_MAX {
        return Err(invalid(&format!(
            "limit {limit} exceeds the maximum of {LIMIT_MAX}"
        )));
    }
    let spans = match params.get("spss") {
        None => SPANS_PER_SET_DEFAULT,
        Some("0") => 0,
        Some(text) => positive("spss", text)?,
    };
    if spans > SPANS_PER_SET_MAX {
        let max = SPANS_PER_SET_MAX;
        return Err(Refusal::bad(format!(
            "spans per span set exceeds {max}. received {spans}"
        )));
    }
    let spans_per_set = (spans > 0).then_some(spans);
    Ok(Search {
        query,
        range: range(params)?,
        limit,
        spans_per_set,
    })
}

/// The parameters `start` and `end`, seconds; without them all of time. Tempo bounds the distance
/// between them to a week by default; there is no need for that here.
pub(super) fn range(params: &Params) -> Result<TimeRange, Refusal> {
    let time = |name: &str| match params.get(name) {
        None => Ok(0),
        Some(text) => text.parse::<u32>().map(i64::from).map_err(|_| {
            invalid(&format!(
                "invalid {name}: {} is not in seconds",
                quote(text)
            ))
        }),
    };
    match (time("start")?, time("end")?) {
        (0, 0) => Ok(TimeRange::new(i64::MIN, i64::MAX)),
        (0, _) | (_, 0) => Err(Refusal::bad(
            "only one of start and end provided: must provide both or neither",
        )),
        (start, end) if end <= start => Err(Refusal::bad(format!(
            "http parameter start must be before end. received start={start} end={end}"
        ))),
        // Up to the end of the last second: 2^32 seconds are 4.3e18 nanoseconds, which fit.
        (start, end) => Ok(TimeRange::new(start * SECOND_NS, (end + 1) * SECOND_NS)),
    }
}

/// The limit of a list of names or values; `None` for none.
pub(super) fn list_limit(params: &Params) -> Result<Option<usize>, Refusal> {
    match params.get("limit") {
        None | Some("0") => Ok(None),
        Some(text) => positive("limit", text).map(Some),
    }
}

fn positive(name: &str, text: &str) -> Result<usize, Refusal> {
    let number = text.parse::<usize>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Refusal::bad(format!("invalid {name}: must be a positive number")))
}

fn invalid(why: &str) -> Refusal {
    Refusal::bad(format!("invalid request: {why}"))
}

/// A trace id as it stands in a path: up to 32 hexadecimal digits, zeros on the left left out.
pub(super) fn trace_id(text: &str) -> Result<[u8; 16], Refusal> {
    for (at, c) in text.chars().enumerate() {
        if !c.is_ascii_hexdigit() {
            return Err(Refusal::bad(format!(
                "trace IDs can only contain hex characters: invalid character '{c}' at position {}",
                at + 1
            )));
        }
    }
    let id = if text.is_empty() {
        Ok(0)
    } else {
        u128::from_str_radix(text, 16)
    };
    match id {
        Ok(id) if text.len() <= 32 => Ok(id.to_be_bytes()),
        _ => Err(Refusal::bad("trace IDs can't be larger than 128 bits")),
    }
}

/// TraceQL that asks what the parameters `tags` (logfmt), `minDuration` and `maxDuration` ask.
fn tag_query(tags: &str, params: &Params) -> Result<String, Refusal> {
    let mut conditions = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (name, value) in logfmt(tags)? {
        if names.contains(&name) {
            return Err(Refusal::bad(format!(
                "invalid tags: tag {name} has been set twice"
            )));
        }
        conditions.push(condition(&name, &value));
        names.push(name);
    }
    let duration = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(text) => parse_go_duration(text)
            .map(Some)
            .map_err(|error| Refusal::bad(format!("invalid {name}: {error}"))),
    };
    let (min, max) = (duration("minDuration")?, duration("maxDuration")?);
    if let (Some(min), Some(max)) = (min, max)
        && max <= min
    {
        return Err(Refusal::bad(
            "invalid maxDuration: must be greater than minDuration",
        ));
    }
    conditions.extend(min.map(|ns| format!("traceDuration >= {ns}ns")));
    conditions.extend(max.map(|ns| format!("traceDuration <= {ns}ns")));
    if conditions.is_empty() {
        return Ok("{}".to_owned());
    }
    Ok(format!("{{ {} }}", conditions.join(" && ")))
}

/// The condition that a tag stands for. Names of services and spans are searched for a part of
/// them, everything else for the whole value.
fn condition(name: &str, value: &str) -> String {
    let part = |attribute: &str| {
        format!(
            "{attribute} =~ {}",
            quote(&format!(".*{}.*", literal(value)))
        )
    };
    match name {
        "service.name" => part("resource.service.name"),
        "root.service.name" => part("rootServiceName"),
        "root.name" => part("rootName"),
        "name" => part("name"),
        "status.code" if matches!(value, "ok" | "error" | "unset") => format!("status = {value}"),
        "error" if value == "true" => "status = error".to_owned(),
        _ => {
            let plain = name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            let name = if plain {
                format!(".{name}")
            } else {
                format!(".{}", quote(name))
            };
            let typed = value.parse::<i64>().is_ok()
                || matches!(value, "true" | "false")
                || (value.contains('.')
                    && value.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                    && value.parse::<f64>().is_ok());
            if typed {
                format!("({name} = {} || {name} = {value})", quote(value))
            } else {
                format!("{name} = {}", quote(value))
            }
        }
    }
}

/// A regular expression that matches `text` only.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Pairs of a line in logfmt: `name=value` or `name="quoted value"`, separated by spaces.
fn logfmt(line: &str) -> Result<Vec<(String, String)>, Refusal> {
    let mut pairs = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return Err(Refusal::bad(format!(
                "invalid tags: unexpected '=' in {}",
                quote(line)
            )));
        }
        let (value, after) = match after.strip_prefix('=') {
            Some(after) => logfmt_value(after)
                .ok_or_else(|| Refusal::bad("invalid tags: unterminated quoted value"))?,
            None => (String::new(), after),
        };
        pairs.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

fn logfmt_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_at(text.find(' ').unwrap_or(text.len()));
        return Some((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

/// Digits of an id, two for each byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a String takes everything");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids() {
        let full = "2f3e0cee77ae5dc9c17ade3689eb2e54";
        for (text, expect) in [
            (full, full),
            ("1", "00000000000000000000000000000001"),
            ("ABC", "00000000000000000000000000000abc"),
        ] {
            assert_eq!(trace_id(text).map(|id| hex(&id)), Ok(expect.to_owned()));
        }
        for (text, why) in [
            (
                "12x4",
                "trace IDs can only contain hex characters: invalid character 'x' at position 3",
            ),
            (
                "+1",
                "trace IDs can only contain hex characters: invalid character '+' at position 1",
            ),
            (
                &format!("0{full}"),
                "trace IDs can't be larger than 128 bits",
            ),
            (
                &format!("1{full}"),
                "trace IDs can't be larger than 128 bits",
            ),
        ] {
            assert_eq!(trace_id(text), Err(Refusal::bad(why)), "{text}");
        }
    }

    #[test]
    fn searches() {
        let check = |query: &str| search(&Params::from_query(query)).map_err(|e| e.text);
        let all = TimeRange::new(i64::MIN, i64::MAX);
        let plain = Search {
            query: "{}".to_owned(),
            range: all,
            limit: 20,
            spans_per_set: Some(3),
        };
        assert_eq!(check(""), Ok(plain.clone()));
        let range = TimeRange::new(SECOND_NS, 3 * SECOND_NS);
        let query = "{name=\"a\"}".to_owned();
        assert_eq!(
            check("q={name=%22a%22}&start=1&end=2&limit=262144&spss=0"),
            Ok(Search {
                query,
                range,
                limit: 262_144,
                spans_per_set: None
            })
        );
        assert_eq!(check("spss=100").map(|s| s.spans_per_set), Ok(Some(100)));
        for (query, why) in [
            (
                "q={}&tags=a=b",
                "invalid request: can't specify tags and q in the same query",
            ),
            ("limit=0", "invalid limit: must be a positive number"),
            ("limit=x", "invalid limit: must be a positive number"),
            (
                "limit=262145",
                "invalid request: limit 262145 exceeds the maximum of 262144",
            ),
            ("spss=101", "spans per span set exceeds 100. received 101"),
            (
                "start=1",
                "only one of start and end provided: must provide both or neither",
            ),
            (
                "start=2&end=2",
                "http parameter start must be before end. received start=2 end=2",
            ),
            (
                "start=x&end=2",
                "invalid request: invalid start: \"x\" is not in seconds",
            ),
            ("tags=a=1 a=2", "invalid tags: tag a has been set twice"),
            ("tags=a=%22b", "invalid tags: unterminated quoted value"),
            (
                "minDuration=x",
                "invalid minDuration: not a valid duration string: \"x\"",
            ),
            (
                "minDuration=2s&maxDuration=1s",
                "invalid maxDuration: must be greater than minDuration",
            ),
        ] {
            assert_eq!(check(query), Err(why.to_owned()), "{query}");
        }
    }

    #[test]
    fn tags_become_traceql() {
        for (query, expect) in [
            ("tags=http.method=GET", r#"{ .http.method = "GET" }"#),
            (
                "tags=service.name=sh.op",
                r#"{ resource.service.name =~ ".*sh\\.op.*" }"#,
            ),
            (
                "tags=name=%22GET /%22 x=%22a\\%22b%22",
                r#"{ name =~ ".*GET /.*" && .x = "a\"b" }"#,
            ),
            ("tags=code=200", r#"{ (.code = "200" || .code = 200) }"#),
            ("tags=a%26b=c", r#"{ ."a&b" = "c" }"#),
            (
                "tags=error=true status.code=ok",
                "{ status = error && status = ok }",
            ),
            ("minDuration=1s", "{ traceDuration >= 1000000000ns }"),
            (
                "tags=root.name=a&minDuration=1ms&maxDuration=1s",
                r#"{ rootName =~ ".*a.*" && traceDuration >= 1000000ns && traceDuration <= 1000000000ns }"#,
            ),
        ] {
            let found = search(&Params::from_query(query)).map(|search| search.query);
            assert_eq!(found, Ok(expect.to_owned()), "{query}");
        }
    }
}
