//! What a query over logs may ask, in Loki's words: its length and age, the labels that its selectors
//! name, the bytes that it would read. The handlers of `loki` call it before a query begins.

use std::collections::BTreeSet;
use std::time::Duration;

use trine_query::logql::RangeQuery;
use trine_query::logql::ast::{Expr, LogExpr, MetricExpr, MetricKind};
use trine_query::text::{format_go_duration, format_prometheus_duration};
use trine_storage::time::nanos;
use trine_storage::{Matcher, TimeRange};

use self::header::{Context, Own};
use super::answer::Failure;
use super::source;
use crate::api::prometheus::run::Asked;
use crate::config::{Config, least};

mod header;

/// What a query of several tenants may ask: the least of what each of them may.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QueryLimits {
    pub(super) entries_max: usize,
    pub(super) series_max: usize,
    length_ns: i64,
    interval_ns: i64,
    lookback_ns: i64,
    bytes_max: u64,
    required: BTreeSet<String>,
    required_count: usize,
    pub(super) timeout: Duration,
}

impl QueryLimits {
    /// Of the tenants of a request, and of the request itself.
    pub(super) fn of(asked: &Asked) -> Self {
        let config = &asked.app.config;
        let mut tenants = asked.tenants.iter();
        let first = tenants
            .next()
            .map_or(config, |(id, _)| config.of(id.as_str()));
        let mut limits = Self::new(first);
        for (id, _) in tenants {
            limits.tighten(Self::new(config.of(id.as_str())));
        }
        if let Some(own) = Own::of(&asked.headers) {
            limits.tighten(own.limits());
        }
        limits
    }

    fn new(config: &Config) -> Self {
        let logs = &config.logs;
        Self {
            entries_max: logs.entries_max,
            series_max: config.query_series_max,
            length_ns: nanos(logs.query_length_max),
            interval_ns: nanos(logs.query_interval_max),
            lookback_ns: nanos(logs.query_lookback_max),
            bytes_max: logs.query_bytes_max as u64,
            required: logs.required_labels.iter().cloned().collect(),
            required_count: logs.required_labels_count,
            timeout: config.query_timeout,
        }
    }

    fn tighten(&mut self, other: Self) {
        self.entries_max = least(self.entries_max, other.entries_max);
        self.series_max = self.series_max.min(other.series_max);
        self.length_ns = least(self.length_ns, other.length_ns);
        self.interval_ns = least(self.interval_ns, other.interval_ns);
        self.lookback_ns = least(self.lookback_ns, other.lookback_ns);
        self.bytes_max = least(self.bytes_max, other.bytes_max);
        self.required.extend(other.required);
        self.required_count = self.required_count.max(other.required_count);
        self.timeout = self.timeout.min(other.timeout);
    }

    /// Refuses a limit on lines that is too large.
    pub(super) fn check_entries(&self, limit: usize) -> Result<(), Failure> {
        if self.entries_max == 0 || limit <= self.entries_max {
            return Ok(());
        }
        Err(Failure::bad(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > \
             {})",
            self.entries_max
        )))
    }

    /// Refuses a range that is too long, or cuts what is too long ago.
    pub(super) fn check_range(&self, query: &mut RangeQuery, now_ns: i64) -> Result<(), Failure> {
        let length = query.end_ns.saturating_sub(query.start_ns);
        if self.length_ns > 0 && length > self.length_ns {
            return Err(Failure::bad(format!(
                "the query time range exceeds the limit (query length: {}, limit: {})",
                format_go_duration(length),
                format_prometheus_duration(self.length_ns / 1_000_000)
            )));
        }
        if self.lookback_ns > 0 {
            let oldest = now_ns.saturating_sub(self.lookback_ns);
            if query.end_ns < oldest {
                return Err(Failure::bad(format!(
                    "this data is no longer available, it is past now - max_query_lookback ({})",
                    format_prometheus_duration(self.lookback_ns / 1_000_000)
                )));
            }
            query.start_ns = query.start_ns.max(oldest);
        }
        Ok(())
    }

    /// Refuses selectors that name too few labels.
    fn check_labels(&self, matchers: &[Matcher]) -> Result<(), Failure> {
        let present: BTreeSet<&str> = matchers.iter().map(Matcher::name).collect();
        let told = || present.iter().copied().collect::<Vec<_>>().join(", ");
        let missing = self.required.iter().map(String::as_str);
        let missing: Vec<&str> = missing.filter(|name| !present.contains(name)).collect();
        if !missing.is_empty() {
            return Err(Failure::bad(format!(
                "stream selector is missing required matchers [{}], labels present in the query \
                 were [{}]",
                missing.join(", "),
                told()
            )));
        }
        if matchers.len() < self.required_count {
            return Err(Failure::bad(format!(
                "stream selector has less label matchers than required: (present: [{}], \
                 number_present: {}, required_number_label_matchers: {})",
                told(),
                matchers.len(),
                self.required_count
            )));
        }
        Ok(())
    }

    /// Refuses an expression whose selectors name too few labels, whose ranges are too long, or which
    /// would read too much between `start_ns` and `end_ns`.
    pub(super) fn check(
        &self,
        asked: &Asked,
        expr: &Expr,
        (start_ns, end_ns): (i64, i64),
    ) -> Result<(), Failure> {
        let mut reads = Vec::new();
        reads_of(expr, &mut reads);
        for read in &reads {
            self.check_labels(&read.log.selector.matchers)?;
            self.check_interval(read.interval_ns)?;
        }
        if self.bytes_max == 0 {
            return Ok(());
        }
        let whole = Context::of(&asked.headers);
        let bytes = match &whole {
            Some(whole) => {
                let mut reads = Vec::new();
                reads_of(&whole.expr, &mut reads);
                bytes_of(asked, &reads, (whole.start_ns, whole.end_ns))?
            }
            None => bytes_of(asked, &reads, (start_ns, end_ns))?,
        };
        if bytes <= self.bytes_max {
            return Ok(());
        }
        Err(Failure::bad(format!(
            "the query would read too many bytes (query: {}, limit: {}); consider adding more \
             specific stream selectors or reduce the time range of the query",
            binary_size(bytes),
            binary_size(self.bytes_max)
        )))
    }

    fn check_interval(&self, interval_ns: i64) -> Result<(), Failure> {
        if self.interval_ns == 0 || interval_ns <= self.interval_ns {
            return Ok(());
        }
        let told = |ns: i64| format_prometheus_duration(ns / 1_000_000);
        Err(Failure::bad(format!(
            "[interval] value exceeds limit: [{}] > [{}]",
            told(interval_ns),
            told(self.interval_ns)
        )))
    }
}

/// How many bytes of lines there are to be looked at between `start_ns` and `end_ns`.
fn bytes_of(
    asked: &Asked,
    reads: &[Read<'_>],
    (start_ns, end_ns): (i64, i64),
) -> Result<u64, Failure> {
    let mut bytes: u64 = 0;
    for read in reads {
        let start = start_ns.saturating_sub(read.before_ns);
        let end = end_ns.saturating_sub(read.offset_ns);
        let range = TimeRange::inclusive(start, end.max(start));
        for (view, matchers) in source::chosen(asked, &read.log.selector.matchers)? {
            bytes = bytes.saturating_add(view.totals(&matchers, range)?.bytes);
        }
    }
    Ok(bytes)
}

/// Whether an expression reads lines at all.
pub(super) fn reads_lines(expr: &Expr) -> bool {
    let mut reads = Vec::new();
    reads_of(expr, &mut reads);
    !reads.is_empty()
}

/// Lines that an expression reads.
struct Read<'a> {
    log: &'a LogExpr,
    /// How far before the first step, and before the last.
    before_ns: i64,
    offset_ns: i64,
    /// What is in brackets.
    interval_ns: i64,
}

fn reads_of<'a>(expr: &'a Expr, reads: &mut Vec<Read<'a>>) {
    match expr {
        Expr::Log(log) => reads.push(Read {
            log,
            before_ns: 0,
            offset_ns: 0,
            interval_ns: 0,
        }),
        Expr::Metric(metric) => reads_of_metric(metric, reads),
    }
}

fn reads_of_metric<'a>(metric: &'a MetricExpr, reads: &mut Vec<Read<'a>>) {
    match &metric.kind {
        MetricKind::Literal(_) | MetricKind::Vector(_) => {}
        MetricKind::Range(range) => reads.push(Read {
            log: &range.range.log,
            before_ns: range.range.interval.saturating_add(range.range.offset),
            offset_ns: range.range.offset,
            interval_ns: range.range.interval,
        }),
        MetricKind::Aggregate(aggregate) => reads_of_metric(&aggregate.inner, reads),
        MetricKind::Binary(binary) => {
            reads_of_metric(&binary.left, reads);
            reads_of_metric(&binary.right, reads);
        }
        MetricKind::LabelReplace(replace) => reads_of_metric(&replace.inner, reads),
    }
}

/// Bytes with a unit of a power of 1024, as people read them: `1.5 GiB`, `15 GiB`.
pub(super) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or("B");
    while value >= 1024.0 {
        let Some(larger) = units.next() else { break };
        unit = larger;
        value /= 1024.0;
    }
    let value = (value * 10.0).round() / 10.0;
    let digits = usize::from(value < 10.0);
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, expect) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 << 20, "10 MiB"),
            (150 << 30, "150 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(binary_size(bytes), expect);
        }
    }
}
