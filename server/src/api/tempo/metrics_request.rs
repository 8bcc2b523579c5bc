//! Reading the parameters of a TraceQL metrics query: times in any form, the step, how many series
//! and exemplars. `metrics` and `streaming` call it; its errors are the texts that Tempo answers with.

use trine_query::text::{format_go_duration, parse_prometheus_duration, quote};
use trine_query::traceql;

use super::request::{SECOND_NS, go_duration, is_over, unsigned};
use crate::config::{Traces, least};
use crate::params::{Params, instant_ns};
use crate::proto::tempo::{QueryInstantRequest, QueryRangeRequest};
use crate::refusal::Refusal;

/// How far back a metrics query goes that does not say it.
const SINCE_DEFAULT_NS: i64 = 3_600_000_000_000;

/// What a metrics query is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metrics {
    /// TraceQL.
    pub(super) query: String,
    /// Nanoseconds since 1970.
    pub(super) start_ns: i64,
    /// Nanoseconds since 1970.
    pub(super) end_ns: i64,
    /// Nanoseconds; `None` for one value a series.
    pub(super) step_ns: Option<i64>,
    /// The most exemplars.
    pub(super) exemplars: usize,
    /// The most series; 0 for any number.
    pub(super) series_max: usize,
}

/// The parameters of a metrics query over a range.
pub(super) fn metrics(params: &Params, limits: &Traces, now_ns: i64) -> Result<Metrics, Refusal> {
    let (start_ns, end_ns) = bounds(params, now_ns)?;
    let step_ns = match params.get("step") {
        None => traceql::default_step(start_ns, end_ns),
        Some(text) => step(text)?,
    };
    let asked = Metrics {
        query: metrics_query(params)?,
        start_ns,
        end_ns,
        step_ns: Some(step_ns),
        exemplars: unsigned(params, "exemplars")?.unwrap_or(0),
        series_max: unsigned(params, "maxSeries")?.unwrap_or(0),
    };
    asked.within(limits)
}

/// The parameters of a metrics query with one value a series.
pub(super) fn instant(params: &Params, limits: &Traces, now_ns: i64) -> Result<Metrics, Refusal> {
    let (start_ns, end_ns) = bounds(params, now_ns)?;
    let asked = Metrics {
        query: metrics_query(params)?,
        start_ns,
        end_ns,
        step_ns: None,
        exemplars: 0,
        series_max: unsigned(params, "maxSeries")?.unwrap_or(0),
    };
    asked.within(limits)
}

/// `q`, as elsewhere in this API, or `query`, as Prometheus calls it.
fn metrics_query(params: &Params) -> Result<String, Refusal> {
    let query = params.get("q").or_else(|| params.get("query"));
    query
        .map(str::to_owned)
        .ok_or_else(|| Refusal::bad("invalid TraceQL query: empty query"))
}

impl Metrics {
    /// What a message asks for, in which zero is what is not told.
    pub(super) fn of_range(message: &QueryRangeRequest, limits: &Traces) -> Result<Self, Refusal> {
        let (start_ns, end_ns) = (nanoseconds(message.start), nanoseconds(message.end));
        let step_ns = match nanoseconds(message.step) {
            0 => traceql::default_step(start_ns, end_ns),
            step => step,
        };
        let asked = Self {
            query: message.query.clone(),
            start_ns,
            end_ns,
            step_ns: Some(step_ns),
            exemplars: message.exemplars as usize,
            series_max: message.max_series as usize,
        };
        asked.within(limits)
    }

    /// As [`Metrics::of_range`], with one value a series.
    pub(super) fn of_instant(
        message: &QueryInstantRequest,
        limits: &Traces,
    ) -> Result<Self, Refusal> {
        let asked = Self {
            query: message.query.clone(),
            start_ns: nanoseconds(message.start),
            end_ns: nanoseconds(message.end),
            step_ns: None,
            exemplars: 0,
            series_max: 0,
        };
        asked.within(limits)
    }

    fn within(mut self, limits: &Traces) -> Result<Self, Refusal> {
        if self.end_ns <= self.start_ns {
            return Err(Refusal::bad("end must be greater than start"));
        }
        let length = self.end_ns.saturating_sub(self.start_ns);
        if is_over(length, limits.metrics_duration_max) {
            let max = go_duration(limits.metrics_duration_max);
            return Err(Refusal::bad(format!(
                "metrics query time range exceeds the maximum allowed duration of {max}"
            )));
        }
        if let Some(step) = self.step_ns {
            if step <= 0 {
                return Err(Refusal::bad("step must be greater than 0"));
            }
            let max = i64::try_from(limits.intervals_max).unwrap_or(i64::MAX);
            if max > 0 && length / step > max {
                return Err(Refusal::bad(format!(
                    "step of {} is too small, minimum step for given range is {}",
                    format_go_duration(step),
                    format_go_duration(length / max)
                )));
            }
            let most = limits.exemplars_max;
            self.exemplars = least(self.exemplars, most).min(most);
        }
        self.series_max = least(self.series_max, limits.response_series_max);
        Ok(self)
    }
}

fn nanoseconds(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The parameters `start`, `end` and `since` of a metrics query.
fn bounds(params: &Params, now_ns: i64) -> Result<(i64, i64), Refusal> {
    let since = match params.get("since") {
        None => SINCE_DEFAULT_NS,
        Some(text) => parse_prometheus_duration(text)
            .map(|ms| ms.saturating_mul(1_000_000))
            .map_err(|error| unreadable("since", &error.to_string()))?,
    };
    let time = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(text) => {
            let why = || format!("cannot parse {} to a valid timestamp", quote(text));
            let time = instant_ns(text).ok_or_else(|| unreadable(name, &why()));
            time.map(Some)
        }
    };
    let end = time("end")?.unwrap_or(now_ns);
    // A range that ends in the future reaches back from now.
    let start = time("start")?.unwrap_or_else(|| end.min(now_ns).saturating_sub(since));
    Ok((start, end))
}

fn unreadable(name: &str, why: &str) -> Refusal {
    Refusal::bad(format!("could not parse '{name}' parameter: {why}"))
}

/// A step: seconds, or a duration with units; nanoseconds.
fn step(text: &str) -> Result<i64, Refusal> {
    let wrong = || format!("cannot parse {} to a valid duration", quote(text));
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * SECOND_NS as f64;
        // 2^63 is a float, and the smallest one that does not fit.
        let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&ns);
        return if fits {
            Ok(ns as i64)
        } else {
            Err(Refusal::bad(format!("{}. It overflows int64", wrong())))
        };
    }
    let ms = parse_prometheus_duration(text).ok();
    ms.and_then(|ms| ms.checked_mul(1_000_000))
        .ok_or_else(|| Refusal::bad(wrong()))
}

#[cfg(test)]
mod tests;
