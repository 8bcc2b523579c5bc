//! TraceQL metrics, over all tenants of a request: series over time, and series with one value.
//! `tempo` and `streaming` call it; `metrics_request` reads what is asked.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use trine_query::traceql::source::{Source, Value};
use trine_query::traceql::{self, MetricSeries, MetricsOptions, MetricsResult};

use super::metrics_request::Metrics;
use super::request;
use super::source::{self, Several, pair};
use crate::api::prometheus::run::Asked;
use crate::config::Traces;
use crate::proto::tempo::{
    Exemplar, InstantSeries, PartialStatus, QueryInstantResponse, QueryRangeResponse, Sample,
    SearchMetrics, TimeSeries,
};
use crate::refusal::Refusal;

/// Series over time.
pub(super) fn range(
    asked: &Asked,
    wanted: &Metrics,
    limits: &Traces,
) -> Result<QueryRangeResponse, Refusal> {
    let found = run(asked, wanted, limits)?;
    let (metrics, status) = told(&found);
    Ok(QueryRangeResponse {
        series: found.series.into_iter().map(time_series).collect(),
        metrics: Some(metrics),
        status: status.into(),
        message: found.message.unwrap_or_default(),
    })
}

/// Series with one value each.
pub(super) fn instant(
    asked: &Asked,
    wanted: &Metrics,
    limits: &Traces,
) -> Result<QueryInstantResponse, Refusal> {
    let found = run(asked, wanted, limits)?;
    let (metrics, status) = told(&found);
    let series = found.series.into_iter().filter_map(|series| {
        let (_, value) = *series.samples.last()?;
        Some(InstantSeries {
            labels: labels(series.labels),
            value,
        })
    });
    Ok(QueryInstantResponse {
        series: series.collect(),
        metrics: Some(metrics),
        status: status.into(),
        message: found.message.unwrap_or_default(),
    })
}

fn run(asked: &Asked, wanted: &Metrics, limits: &Traces) -> Result<MetricsResult, Refusal> {
    let query = request::parse(&wanted.query, limits)?;
    let options = MetricsOptions {
        start_ns: wanted.start_ns,
        end_ns: wanted.end_ns,
        step_ns: wanted.step_ns.unwrap_or(0),
        instant: wanted.step_ns.is_none(),
        exemplars: wanted.exemplars,
        series_max: wanted.series_max,
    };
    let stores = source::snapshots(asked)?;
    let several;
    let source: &dyn Source = match stores.as_slice() {
        [one] => one,
        _ => {
            several = Several(stores);
            &several
        }
    };
    source::engine(asked)
        .metrics(source, &query, &options.aligned(), &asked.cancel)
        .map_err(source::refusal)
}

/// What it took, and whether there is more.
fn told(found: &MetricsResult) -> (SearchMetrics, PartialStatus) {
    let (status, done) = match found.is_partial {
        true => (PartialStatus::Partial, 0),
        false => (PartialStatus::Complete, 1),
    };
    let metrics = SearchMetrics {
        inspected_traces: u32::try_from(found.inspected_traces).unwrap_or(u32::MAX),
        inspected_spans: found.inspected_spans,
        completed_jobs: done,
        total_jobs: 1,
        ..SearchMetrics::default()
    };
    (metrics, status)
}

fn time_series(series: MetricSeries) -> TimeSeries {
    let sample = |(timestamp_ms, value)| Sample {
        value,
        timestamp_ms,
    };
    let exemplar = |exemplar: traceql::Exemplar| Exemplar {
        labels: labels(exemplar.labels),
        value: exemplar.value,
        timestamp_ms: exemplar.timestamp_ms,
    };
    TimeSeries {
        labels: labels(series.labels),
        samples: series.samples.into_iter().map(sample).collect(),
        exemplars: series.exemplars.into_iter().map(exemplar).collect(),
    }
}

/// Labels with their types. One without a value says so in a word, as in Tempo.
fn labels(labels: Vec<(Arc<str>, Option<Value>)>) -> Vec<KeyValue> {
    let nil = || Value::Str("nil".into());
    let labels = labels.into_iter();
    labels
        .map(|(name, value)| pair(name.to_string(), Some(value.unwrap_or_else(nil))))
        .collect()
}
