//! Settings of queries over traces, with Tempo's names and defaults: what a search, a TraceQL metrics
//! query, a list of tags and a trace by its id may ask. `config` reads them with all others, for all
//! tenants and, from the key `overrides` of the file, for one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use trine_query::text::format_prometheus_duration;
use trine_query::traceql::{CONDITION_GROUPS_MAX, EXEMPLARS_DEFAULT, QUERY_BYTES_MAX};

use super::{Setting, least, value};

/// Limits of queries over traces. A limit of zero is none, unless its description says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// Time between start and end of a search.
    pub search_duration_max: Duration,
    /// Traces that a search gives that does not say how many; at least one.
    pub result_limit: usize,
    /// Traces that a search may ask for.
    pub result_limit_max: usize,
    /// Spans of a set that a search gives that does not say how many; at least one.
    pub spans_per_set: usize,
    /// Spans of a set that a search may ask for.
    pub spans_per_set_max: usize,
    /// Bytes of a TraceQL query; at least one.
    pub query_bytes_max: usize,
    /// Time between start and end of a metrics query.
    pub metrics_duration_max: Duration,
    /// Steps of a metrics query.
    pub intervals_max: usize,
    /// Series that a metrics query gives; further ones are left out, and that is said.
    pub response_series_max: usize,
    /// Exemplars that a metrics query gives.
    pub exemplars_max: usize,
    /// Bytes of the names of one answer about tags.
    pub tags_bytes_max: usize,
    /// Bytes of the values of one answer about a tag.
    pub tag_values_bytes_max: usize,
    /// Alternatives that the filter of a query for values of a tag may have.
    pub condition_groups_max: usize,
    /// Bytes of protobuf of a trace by its id.
    pub trace_bytes_max: usize,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            search_duration_max: Duration::from_secs(168 * 3600),
            result_limit: 20,
            result_limit_max: 262_144,
            spans_per_set: 3,
            spans_per_set_max: 100,
            query_bytes_max: QUERY_BYTES_MAX,
            metrics_duration_max: Duration::from_secs(24 * 3600),
            intervals_max: 10_000,
            response_series_max: 1000,
            exemplars_max: EXEMPLARS_DEFAULT,
            tags_bytes_max: 0,
            tag_values_bytes_max: 1_000_000,
            condition_groups_max: CONDITION_GROUPS_MAX,
            trace_bytes_max: 5_000_000,
        }
    }
}

impl Traces {
    /// Bounds this by what holds for another tenant, too.
    pub fn tighten(&mut self, other: &Self) {
        let Self {
            search_duration_max,
            result_limit,
            result_limit_max,
            spans_per_set,
            spans_per_set_max,
            query_bytes_max,
            metrics_duration_max,
            intervals_max,
            response_series_max,
            exemplars_max,
            tags_bytes_max,
            tag_values_bytes_max,
            condition_groups_max,
            trace_bytes_max,
        } = self;
        *search_duration_max = least(*search_duration_max, other.search_duration_max);
        *metrics_duration_max = least(*metrics_duration_max, other.metrics_duration_max);
        *exemplars_max = (*exemplars_max).min(other.exemplars_max);
        for (held, other) in [
            (result_limit, other.result_limit),
            (result_limit_max, other.result_limit_max),
            (spans_per_set, other.spans_per_set),
            (spans_per_set_max, other.spans_per_set_max),
            (query_bytes_max, other.query_bytes_max),
            (intervals_max, other.intervals_max),
            (response_series_max, other.response_series_max),
            (tags_bytes_max, other.tags_bytes_max),
            (tag_values_bytes_max, other.tag_values_bytes_max),
            (condition_groups_max, other.condition_groups_max),
            (trace_bytes_max, other.trace_bytes_max),
        ] {
            *held = least(*held, other);
        }
    }
}

/// The name here of a setting that one tenant may have for itself.
pub(super) fn own_name(name: &str) -> Option<&'static str> {
    let setting = SETTINGS.iter().find(|setting| setting.name == name);
    setting.map(|setting| setting.name)
}

/// The limits of queries over traces by Tempo's names, as its page of overrides shows them.
pub fn shown(traces: &Traces) -> BTreeMap<&'static str, Value> {
    let time = |duration: Duration| {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Value::from(format_prometheus_duration(ms))
    };
    BTreeMap::from([
        ("default_result_limit", json!(traces.result_limit)),
        ("default_spans_per_span_set", json!(traces.spans_per_set)),
        (
            "max_bytes_per_tag_values_query",
            json!(traces.tag_values_bytes_max),
        ),
        ("max_bytes_per_tags_query", json!(traces.tags_bytes_max)),
        ("max_bytes_per_trace", json!(traces.trace_bytes_max)),
        (
            "max_condition_groups_per_tag_query",
            json!(traces.condition_groups_max),
        ),
        ("max_exemplars", json!(traces.exemplars_max)),
        ("max_intervals", json!(traces.intervals_max)),
        ("max_metrics_duration", time(traces.metrics_duration_max)),
        (
            "max_query_expression_size_bytes",
            json!(traces.query_bytes_max),
        ),
        ("max_response_series", json!(traces.response_series_max)),
        ("max_result_limit", json!(traces.result_limit_max)),
        ("max_search_duration", time(traces.search_duration_max)),
        ("max_spans_per_span_set", json!(traces.spans_per_set_max)),
    ])
}

/// Bytes of a query: no more than the parser takes.
fn query_bytes(text: &str) -> Result<usize, String> {
    let bytes = value::size(text)?;
    if bytes > QUERY_BYTES_MAX {
        return Err(format!("it may be {QUERY_BYTES_MAX} bytes at most"));
    }
    Ok(bytes)
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "max-search-duration",
        value: "DURATION",
        help: "Time between start and end of a search for traces; 0 for any [default: 168h]",
        apply: |config, text| {
            value::put(
                &mut config.traces.search_duration_max,
                value::duration(text),
            )
        },
    },
    Setting {
        name: "default-result-limit",
        value: "N",
        help: "Traces that a search gives that does not say how many [default: 20]",
        apply: |config, text| value::put(&mut config.traces.result_limit, value::count(text)),
    },
    Setting {
        name: "max-result-limit",
        value: "N",
        help: "Traces that a search may ask for; 0 for any number [default: 262144]",
        apply: |config, text| value::put(&mut config.traces.result_limit_max, value::number(text)),
    },
    Setting {
        name: "default-spans-per-span-set",
        value: "N",
        help: "Spans of a set that a search gives that does not say how many [default: 3]",
        apply: |config, text| value::put(&mut config.traces.spans_per_set, value::count(text)),
    },
    Setting {
        name: "max-spans-per-span-set",
        value: "N",
        help: "Spans of a set that a search may ask for; 0 for any number [default: 100]",
        apply: |config, text| value::put(&mut config.traces.spans_per_set_max, value::number(text)),
    },
    Setting {
        name: "max-query-expression-size-bytes",
        value: "SIZE",
        help: "Size of a TraceQL query; no more than the default [default: 128KiB]",
        apply: |config, text| value::put(&mut config.traces.query_bytes_max, query_bytes(text)),
    },
    Setting {
        name: "max-metrics-duration",
        value: "DURATION",
        help: "Time between start and end of a TraceQL metrics query; 0 for any [default: 24h]",
        apply: |config, text| {
            value::put(
                &mut config.traces.metrics_duration_max,
                value::duration(text),
            )
        },
    },
    Setting {
        name: "max-intervals",
        value: "N",
        help: "Steps of a TraceQL metrics query; 0 for any number [default: 10000]",
        apply: |config, text| value::put(&mut config.traces.intervals_max, value::number(text)),
    },
    Setting {
        name: "max-response-series",
        value: "N",
        help: "Series that a TraceQL metrics query gives; the answer says that there were more; 0 \
               for any number [default: 1000]",
        apply: |config, text| {
            value::put(&mut config.traces.response_series_max, value::number(text))
        },
    },
    Setting {
        name: "max-exemplars",
        value: "N",
        help: "Exemplars that a TraceQL metrics query gives; 0 for none [default: 100]",
        apply: |config, text| value::put(&mut config.traces.exemplars_max, value::number(text)),
    },
    Setting {
        name: "max-bytes-per-tags-query",
        value: "SIZE",
        help: "Size of the names of one answer about tags of traces; further ones are left out; 0 \
               for any size [default: 0]",
        apply: |config, text| {
            value::put(&mut config.traces.tags_bytes_max, value::size_or_none(text))
        },
    },
    Setting {
        name: "max-bytes-per-tag-values-query",
        value: "SIZE",
        help: "Size of the values of one answer about a tag of traces; further ones are left out; \
               0 for any size [default: 1MB]",
        apply: |config, text| {
            value::put(
                &mut config.traces.tag_values_bytes_max,
                value::size_or_none(text),
            )
        },
    },
    Setting {
        name: "max-condition-groups-per-tag-query",
        value: "N",
        help: "Alternatives that the filter of a query for values of a tag may have; 0 for any \
               number [default: 100]",
        apply: |config, text| {
            value::put(&mut config.traces.condition_groups_max, value::number(text))
        },
    },
    Setting {
        name: "max-bytes-per-trace",
        value: "SIZE",
        help: "Size of a trace by its id, in protobuf; of a larger one a part is given, and that is \
               said; 0 for any size [default: 5MB]",
        apply: |config, text| {
            value::put(
                &mut config.traces.trace_bytes_max,
                value::size_or_none(text),
            )
        },
    },
];
