//! Answers as Grafana decodes them: against the fields that Tempo's messages had in May 2025, with no
//! others allowed. `search` and `metrics/query` are read so; a key more is an error there.

use std::collections::HashMap;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct SearchResponse {
    pub(super) traces: Vec<Trace>,
    pub(super) metrics: Metrics,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Trace {
    #[serde(rename = "traceID")]
    pub(super) trace_id: String,
    pub(super) root_service_name: String,
    pub(super) root_trace_name: String,
    pub(super) start_time_unix_nano: String,
    pub(super) duration_ms: u32,
    pub(super) span_set: Option<SpanSet>,
    pub(super) span_sets: Vec<SpanSet>,
    pub(super) service_stats: HashMap<String, ServiceStats>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct ServiceStats {
    pub(super) span_count: u32,
    pub(super) error_count: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct SpanSet {
    pub(super) spans: Vec<Span>,
    pub(super) matched: u32,
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Span {
    #[serde(rename = "spanID")]
    pub(super) span_id: String,
    pub(super) name: String,
    pub(super) start_time_unix_nano: String,
    pub(super) duration_nanos: String,
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyValue {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: AnyValue,
}

/// One of these.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct AnyValue {
    pub(super) string_value: Option<String>,
    pub(super) bool_value: Option<bool>,
    pub(super) int_value: Option<String>,
    pub(super) double_value: Option<f64>,
    pub(super) array_value: Option<serde_json::Value>,
    pub(super) kvlist_value: Option<serde_json::Value>,
    pub(super) bytes_value: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Metrics {
    pub(super) inspected_traces: u32,
    pub(super) inspected_bytes: String,
    pub(super) total_blocks: u32,
    pub(super) completed_jobs: u32,
    pub(super) total_jobs: u32,
    pub(super) total_block_bytes: String,
    pub(super) inspected_spans: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct InstantResponse {
    pub(super) series: Vec<InstantSeries>,
    pub(super) metrics: Metrics,
    pub(super) status: String,
    pub(super) message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct InstantSeries {
    pub(super) labels: Vec<KeyValue>,
    pub(super) value: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RangeResponse {
    pub(super) series: Vec<TimeSeries>,
    pub(super) metrics: Metrics,
    pub(super) status: String,
    pub(super) message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TimeSeries {
    pub(super) labels: Vec<KeyValue>,
    pub(super) samples: Vec<Sample>,
    pub(super) exemplars: Vec<Exemplar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Sample {
    pub(super) timestamp_ms: String,
    pub(super) value: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Exemplar {
    pub(super) labels: Vec<KeyValue>,
    pub(super) value: f64,
    pub(super) timestamp_ms: String,
}

/// The answer, or the key that must not be there.
pub(super) fn decode<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl KeyValue {
    /// The value as a person would write it.
    pub(super) fn shown(&self) -> String {
        let AnyValue {
            string_value,
            bool_value,
            int_value,
            double_value,
            ..
        } = &self.value;
        let text = string_value.clone().or_else(|| int_value.clone());
        let text = text.or_else(|| bool_value.map(|truth| truth.to_string()));
        text.or_else(|| double_value.map(|number| number.to_string()))
            .unwrap_or_default()
    }
}

/// `a=1 b=2` of labels.
pub(super) fn shown(labels: &[KeyValue]) -> String {
    let all: Vec<String> = labels
        .iter()
        .map(|label| format!("{}={}", label.key, label.shown()))
        .collect();
    all.join(" ")
}

#[test]
fn a_key_that_is_not_known_is_refused() {
    for text in [
        r#"{"traces":[],"metrics":{"backendReads":"1"}}"#,
        r#"{"traces":[{"spans":[]}]}"#,
        r#"{"status":"PARTIAL"}"#,
    ] {
        assert!(serde_json::from_str::<SearchResponse>(text).is_err());
    }
}
