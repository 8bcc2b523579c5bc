//! What Loki's API answers: streams, vectors and matrices with their statistics, and errors as
//! plain text.
//!
//! Grafana's reader of streams is written by hand: `encodingFlags` comes before `result`, a stream
//! has `stream` and then `values`, a value has a third element only when the flags say so.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trine_query::budget::BudgetError;
use trine_query::logql::{LogRows, Point, QueryError, QueryResult, QueryValue, Stats, StreamEntry};
use trine_storage::{Error, Labels};

use super::volume::Group;
use crate::api::prometheus::json::{self, Object};
use crate::refusal::{RETRY_AFTER, Refusal};

const TIMED_OUT: &str = "request timed out, decrease the duration of the request or add more label \
                         matchers (prefer exact match over regex match) to reduce the amount of \
                         data processed";

/// The status of a request that its client gave up.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    text: String,
}

impl Failure {
    /// The request makes no sense.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            text: text.into(),
        }
    }
}

impl Failure {
    /// The tenant may not do this.
    pub(super) fn forbidden(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            text: text.into(),
        }
    }

    /// This server does not do this.
    pub(super) fn not_implemented(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_IMPLEMENTED,
            text: text.into(),
        }
    }

    /// There is no such thing.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            text: text.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: refusal.status(),
            text: refusal.text,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Cancelled => {
                let status = StatusCode::from_u16(CLIENT_CLOSED_REQUEST);
                let text = "the request was cancelled by the client".to_owned();
                Self {
                    status: status.unwrap_or(StatusCode::BAD_REQUEST),
                    text,
                }
            }
            // The engine tells this limit from others by its text only.
            QueryError::Limit(text) if text == BudgetError::TimedOut.to_string() => Self {
                status: StatusCode::GATEWAY_TIMEOUT,
                text: TIMED_OUT.to_owned(),
            },
            QueryError::Source(error) => error.into(),
            other => Self::bad(other.to_string()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let kind = (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        let mut response = (self.status, [kind], Body::from(self.text)).into_response();
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let seconds = HeaderValue::from(RETRY_AFTER.as_secs());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// A JSON text as a response.
pub(super) fn respond(text: String) -> Response {
    let kind = HeaderValue::from_static("application/json; charset=UTF-8");
    ([(header::CONTENT_TYPE, kind)], Body::from(text)).into_response()
}

/// As [`respond`], where clients expect the content type without a parameter.
pub(super) fn respond_strictly(text: String) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], Body::from(text)).into_response()
}

/// Names in the envelope.
pub(super) fn names(names: &[String]) -> String {
    data(|out| json::strings(out, names))
}

/// Label sets in the envelope.
pub(super) fn series(series: &[Labels]) -> String {
    data(|out| json::array(out, series, json::labels))
}

/// Data in the envelope; `write` writes the data.
pub(super) fn data(write: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    object.text("status", "success");
    write(object.key("data"));
    object.end();
    out
}

/// How the labels of a line are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As one set, by which lines are grouped.
    Merged,
    /// The labels of the stream, structured metadata and parsed labels apart.
    Categorized,
}

/// The result of a query that took `time` in the envelope.
pub(super) fn query_result(result: QueryResult, encoding: Encoding, time: Duration) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    object.text("status", "success");
    if !result.warnings.is_empty() {
        json::strings(object.key("warnings"), &result.warnings);
    }
    let mut data = Object::begin(object.key("data"));
    let kind = match &result.value {
        QueryValue::Streams(_) => "streams",
        QueryValue::Matrix(_) => "matrix",
        QueryValue::Vector(_) => "vector",
        QueryValue::Scalar(_) => "scalar",
    };
    data.text("resultType", kind);
    if encoding == Encoding::Categorized {
        json::strings(data.key("encodingFlags"), ["categorize-labels"]);
    }
    let list = data.key("result");
    match result.value {
        QueryValue::Streams(rows) => streams(list, rows, encoding),
        QueryValue::Matrix(matrix) => json::array(list, &matrix, |out, series| {
            let mut object = Object::begin(out);
            json::labels(object.key("metric"), &series.labels);
            json::array(object.key("values"), &series.points, |out, value| {
                point(out, *value);
            });
            object.end();
        }),
        QueryValue::Vector(vector) => json::array(list, &vector, |out, sample| {
            let mut object = Object::begin(out);
            json::labels(object.key("metric"), &sample.labels);
            let (timestamp_ns, value) = (sample.timestamp_ns, sample.value);
            point(
                object.key("value"),
                Point {
                    timestamp_ns,
                    value,
                },
            );
            object.end();
        }),
        QueryValue::Scalar(value) => point(list, value),
    }
    stats(data.key("stats"), result.stats, time);
    data.end();
    object.end();
    out
}

/// Volumes by group at the ends of steps, in the form of a matrix.
pub(super) fn volumes_over_time(groups: &[(Group, Vec<(i64, u64)>)]) -> String {
    data(|out| {
        let mut data = Object::begin(out);
        data.text("resultType", "matrix");
        json::array(data.key("result"), groups, |out, (group, volumes)| {
            let mut object = Object::begin(out);
            metric(object.key("metric"), group);
            json::array(
                object.key("values"),
                volumes,
                |out, (timestamp_ns, volume)| {
                    let (timestamp_ns, value) = (*timestamp_ns, *volume as f64);
                    point(
                        out,
                        Point {
                            timestamp_ns,
                            value,
                        },
                    );
                },
            );
            object.end();
        });
        stats(data.key("stats"), Stats::default(), Duration::ZERO);
        data.end();
    })
}

fn metric(out: &mut String, group: &Group) {
    let mut metric = Object::begin(out);
    for (name, value) in group {
        metric.text(name, value);
    }
    metric.end();
}

/// Volumes by group, at the end of the range, in the form of a vector.
pub(super) fn volumes(groups: &[(Group, u64)], time_ns: i64) -> String {
    data(|out| {
        let mut data = Object::begin(out);
        data.text("resultType", "vector");
        json::array(data.key("result"), groups, |out, (group, volume)| {
            let mut object = Object::begin(out);
            metric(object.key("metric"), group);
            point(
                object.key("value"),
                Point {
                    timestamp_ns: time_ns,
                    value: *volume as f64,
                },
            );
            object.end();
        });
        stats(data.key("stats"), Stats::default(), Duration::ZERO);
        data.end();
    })
}

/// Lines by the labels of their streams.
pub(super) fn streams(out: &mut String, rows: LogRows, encoding: Encoding) {
    let streams = match encoding {
        Encoding::Merged => rows.merged(),
        Encoding::Categorized => rows.categorized(),
    };
    json::array(out, &streams, |out, stream| {
        let mut object = Object::begin(out);
        json::labels(object.key("stream"), &stream.labels);
        json::array(object.key("values"), &stream.entries, |out, entry| {
            line(out, entry, encoding);
        });
        object.end();
    });
}

fn line(out: &mut String, entry: &StreamEntry, encoding: Encoding) {
    json::display(out, format_args!("[\"{}\",", entry.timestamp_ns));
    json::string(out, &String::from_utf8_lossy(&entry.line));
    if encoding == Encoding::Categorized {
        out.push(',');
        let mut object = Object::begin(out);
        for (name, labels) in [
            ("structuredMetadata", &entry.metadata),
            ("parsed", &entry.parsed),
        ] {
            if !labels.is_empty() {
                json::labels(object.key(name), labels);
            }
        }
        object.end();
    }
    out.push(']');
}

/// Seconds to the millisecond, and the value as a string that never has an exponent.
fn point(out: &mut String, point: Point) {
    let seconds = point.timestamp_ns.div_euclid(1_000_000) as f64 / 1000.0;
    json::display(out, format_args!("[{seconds},\""));
    json::float(out, point.value);
    out.push_str("\"]");
}

/// What Grafana's inspector and `logcli --stats` show. What Trine has no figure for is zero.
fn stats(out: &mut String, stats: Stats, time: Duration) {
    let seconds = time.as_secs_f64();
    let per_second = |count: u64| {
        if seconds > 0.0 {
            (count as f64 / seconds) as u64
        } else {
            0
        }
    };
    let mut object = Object::begin(out);
    let mut summary = Object::begin(object.key("summary"));
    summary.raw("bytesProcessedPerSecond", per_second(stats.bytes_processed));
    summary.raw("linesProcessedPerSecond", per_second(stats.lines_processed));
    summary.raw("totalBytesProcessed", stats.bytes_processed);
    summary.raw("totalLinesProcessed", stats.lines_processed);
    summary.raw("execTime", seconds);
    summary.raw("queueTime", 0);
    summary.raw("subqueries", 0);
    summary.raw("totalEntriesReturned", stats.entries_returned);
    summary.raw("splits", 1);
    summary.raw("shards", 1);
    summary.raw("totalPostFilterLines", stats.lines_passed);
    summary.raw("totalStructuredMetadataBytesProcessed", 0);
    summary.end();
    let mut querier = Object::begin(object.key("querier"));
    store_stats(querier.key("store"), stats);
    querier.end();
    let mut ingester = Object::begin(object.key("ingester"));
    zeros(
        &mut ingester,
        &[
            "totalReached",
            "totalChunksMatched",
            "totalBatches",
            "totalLinesSent",
        ],
    );
    store_stats(ingester.key("store"), Stats::default());
    ingester.end();
    // Where older versions have it, and Grafana looks for it.
    store_stats(object.key("store"), stats);
    let mut cache = Object::begin(object.key("cache"));
    for name in CACHES {
        let mut one = Object::begin(cache.key(name));
        zeros(
            &mut one,
            &[
                "entriesFound",
                "entriesRequested",
                "entriesStored",
                "bytesReceived",
                "bytesSent",
                "requests",
                "downloadTime",
                "queryLengthServed",
            ],
        );
        one.end();
    }
    cache.end();
    index_stats(object.key("index"));
    object.end();
}

/// What Loki tells of its index.
pub(super) fn index_stats(out: &mut String) {
    let mut index = Object::begin(out);
    zeros(
        &mut index,
        &["totalChunks", "postFilterChunks", "shardsDuration"],
    );
    index.raw("usedBloomFilters", false);
    zeros(
        &mut index,
        &["totalStreams", "chunkRefsLookupTime", "bloomFilterTime"],
    );
    index.end();
}

/// The caches of Loki, none of which is there.
const CACHES: [&str; 10] = [
    "chunk",
    "index",
    "result",
    "statsResult",
    "volumeResult",
    "seriesResult",
    "labelResult",
    "instantMetricResult",
    "logResult",
    "taskResult",
];

fn zeros(object: &mut Object<'_>, names: &[&str]) {
    for name in names {
        object.raw(name, 0);
    }
}

fn store_stats(out: &mut String, stats: Stats) {
    let mut store = Object::begin(out);
    zeros(
        &mut store,
        &[
            "totalChunksRef",
            "totalChunksDownloaded",
            "chunksDownloadTime",
        ],
    );
    store.raw("queryReferencedStructuredMetadata", false);
    store.raw("queryUsedV2Engine", false);
    let mut chunk = Object::begin(store.key("chunk"));
    zeros(&mut chunk, &["headChunkBytes", "headChunkLines"]);
    chunk.raw("decompressedBytes", stats.bytes_processed);
    chunk.raw("decompressedLines", stats.lines_processed);
    zeros(&mut chunk, &["compressedBytes", "totalDuplicates"]);
    chunk.raw("postFilterLines", stats.lines_passed);
    zeros(
        &mut chunk,
        &[
            "headChunkStructuredMetadataBytes",
            "decompressedStructuredMetadataBytes",
        ],
    );
    chunk.end();
    zeros(
        &mut store,
        &[
            "chunkRefsFetchTime",
            "congestionControlLatency",
            "pipelineWrapperFilteredLines",
        ],
    );
    store.end();
}

#[cfg(test)]
mod tests;
