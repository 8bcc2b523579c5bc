//! Reading the parameters of Tempo's API: trace ids, times, limits, what a search is for. The handlers in `tempo` and `streaming` call it; its errors are the texts that Tempo
//! answers with.

use std::time::Duration;

use trine_query::text::{format_go_duration, parse_go_duration, quote};
use trine_query::traceql::{self, ast::Query};
use trine_storage::TimeRange;

use super::tag_query;
use crate::config::Traces;
use crate::params::Params;
use crate::proto::tempo::SearchRequest;
use crate::refusal::Refusal;

pub(super) const SECOND_NS: i64 = 1_000_000_000;

/// What a search is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    /// TraceQL.
    pub(super) query: String,
    /// Nanoseconds since 1970.
    pub(super) range: TimeRange,
    /// The most traces.
    pub(super) limit: usize,
    /// The most spans of a set; 0 for all.
    pub(super) spans_per_set: usize,
}

/// The parameters of a search.
pub(super) fn search(params: &Params, limits: &Traces) -> Result<Search, Refusal> {
    let query = match (params.get("q"), params.get("tags")) {
        (Some(_), Some(_)) => {
            return Err(Refusal::bad(
                "invalid request: can't specify tags and q in the same query",
            ));
        }
        (Some(query), None) => query.to_owned(),
        (None, tags) => tag_query::query(
            &tag_query::logfmt(tags.unwrap_or(""))?,
            duration_ns(params, "minDuration")?,
            duration_ns(params, "maxDuration")?,
        )?,
    };
    let seconds = seconds(params)?;
    let limit = positive(params, "limit")?;
    let spans = unsigned(params, "spss")?;
    Search::within(limits, query, (limit, spans), seconds)
}

impl Search {
    /// What a message asks for, in which zero is what is not told.
    pub(super) fn of_message(message: &SearchRequest, limits: &Traces) -> Result<Self, Refusal> {
        let query = if message.query.is_empty() {
            let mut tags: tag_query::Tags = message.tags.clone().into_iter().collect();
            tags.sort();
            let bound = |ms: u32| (ms > 0).then(|| i64::from(ms) * 1_000_000);
            let (min, max) = (message.min_duration_ms, message.max_duration_ms);
            tag_query::query(&tags, bound(min), bound(max))?
        } else if message.tags.is_empty() {
            message.query.clone()
        } else {
            return Err(Refusal::bad(
                "invalid request: can't specify tags and q in the same query",
            ));
        };
        let told = |number: u32| (number > 0).then_some(number as usize);
        let counts = (told(message.limit), told(message.spans_per_span_set));
        let seconds = ends(message.start, message.end)?;
        Self::within(limits, query, counts, seconds)
    }

    fn within(
        limits: &Traces,
        query: String,
        (limit, spans): (Option<usize>, Option<usize>),
        seconds: Option<(u32, u32)>,
    ) -> Result<Self, Refusal> {
        let max = limits.result_limit_max;
        let limit = limit.unwrap_or(limits.result_limit);
        if max > 0 && limit > max {
            return Err(Refusal::bad(format!(
                "limit {limit} exceeds max limit {max}"
            )));
        }
        if let Some((start, end)) = seconds
            && is_over(
                i64::from(end - start) * SECOND_NS,
                limits.search_duration_max,
            )
        {
            let max = go_duration(limits.search_duration_max);
            return Err(Refusal::bad(format!(
                "range specified by start and end exceeds {max}. received start={start} end={end}"
            )));
        }
        let max = limits.spans_per_set_max;
        let spans = spans.unwrap_or(limits.spans_per_set);
        if max > 0 && spans > max {
            return Err(Refusal::bad(format!(
                "spans per span set exceeds {max}. received {spans}"
            )));
        }
        Ok(Self {
            query,
            range: range_of(seconds),
            limit,
            // Who asks for all gets as many as anybody may have.
            spans_per_set: if spans == 0 { max } else { spans },
        })
    }
}

/// Reads TraceQL.
pub(super) fn parse(query: &str, limits: &Traces) -> Result<Query, Refusal> {
    size(query, limits)?;
    traceql::parse(query).map_err(|error| Refusal::bad(format!("invalid TraceQL query: {error}")))
}

/// Refuses TraceQL that is too long to be read.
pub(super) fn size(query: &str, limits: &Traces) -> Result<(), Refusal> {
    let max = limits.query_bytes_max;
    if query.len() <= max {
        return Ok(());
    }
    Err(Refusal::bad(format!(
        "TraceQL expression exceeds the configured maximum size of {max} bytes, reduce the query \
         expression size or contact your system administrator"
    )))
}

/// The parameters `start` and `end`, seconds; without them all of time.
pub(super) fn range(params: &Params) -> Result<TimeRange, Refusal> {
    seconds(params).map(range_of)
}

fn seconds(params: &Params) -> Result<Option<(u32, u32)>, Refusal> {
    let time = |name: &str| match params.get(name) {
        None => Ok(0),
        Some(text) => number::<u32>(name, text),
    };
    ends(time("start")?, time("end")?)
}

/// Both ends of a range, or none.
fn ends(start: u32, end: u32) -> Result<Option<(u32, u32)>, Refusal> {
    match (start, end) {
        (0, 0) => Ok(None),
        (0, _) | (_, 0) => Err(Refusal::bad(
            "only one of start and end provided: must provide both or neither",
        )),
        (start, end) if end <= start => Err(Refusal::bad(format!(
            "http parameter start must be before end. received start={start} end={end}"
        ))),
        ends => Ok(Some(ends)),
    }
}

/// The range between two seconds that a message holds.
pub(super) fn range_of_message(start: u32, end: u32) -> Result<TimeRange, Refusal> {
    ends(start, end).map(range_of)
}

/// Up to the end of the last second: 2^32 seconds are 4.3e18 nanoseconds, which fit.
fn range_of(seconds: Option<(u32, u32)>) -> TimeRange {
    let ns = |second: u32| i64::from(second) * SECOND_NS;
    seconds.map_or(TimeRange::new(i64::MIN, i64::MAX), |(start, end)| {
        TimeRange::new(ns(start), ns(end) + SECOND_NS)
    })
}

/// The limit of a list of names or values; `None` for none.
pub(super) fn list_limit(params: &Params) -> Result<Option<usize>, Refusal> {
    Ok(unsigned(params, "limit")?.filter(|limit| *limit > 0))
}

/// Whether a time is longer than a limit, of which zero is none.
pub(super) fn is_over(ns: i64, max: Duration) -> bool {
    let ns = u128::try_from(ns).unwrap_or(0);
    !max.is_zero() && ns > max.as_nanos()
}

pub(super) fn go_duration(duration: Duration) -> String {
    format_go_duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

fn duration_ns(params: &Params, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    parse_go_duration(text)
        .map(Some)
        .map_err(|error| Refusal::bad(format!("invalid {name}: {error}")))
}

/// A number that may be absent.
pub(super) fn unsigned(params: &Params, name: &str) -> Result<Option<usize>, Refusal> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    Ok(Some(number::<u32>(name, text)? as usize))
}

/// A number that may be absent, and else is not zero.
fn positive(params: &Params, name: &str) -> Result<Option<usize>, Refusal> {
    let is_negative = |text: &str| text.starts_with('-') && text.parse::<i64>().is_ok();
    if !params.get(name).is_some_and(is_negative) {
        let told = unsigned(params, name)?;
        if told != Some(0) {
            return Ok(told);
        }
    }
    Err(Refusal::bad(format!(
        "invalid {name}: must be a positive number"
    )))
}

/// A number without a sign; what is none is refused in the words of Go.
pub(super) fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Refusal> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parsed = if is_number { text.parse().ok() } else { None };
    parsed.ok_or_else(|| {
        let why = if is_number {
            "value out of range"
        } else {
            "invalid syntax"
        };
        Refusal::bad(format!(
            "invalid {name}: strconv.ParseUint: parsing {}: {why}",
            quote(text)
        ))
    })
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

#[cfg(test)]
mod tests;
