//! What Prometheus' API answers: the envelope around data or an error, and the values of queries.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trine_query::budget::BudgetError;
use trine_query::promql::{QueryError, QueryResult, Samples, Value, Values};
use trine_storage::Error;

use super::json::{self, Object};
use crate::refusal::{RETRY_AFTER, Reason, Refusal};

/// The warning beside an answer that `limit` cut.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    kind: FailureKind,
    text: String,
}

/// The kinds of failures that clients tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    BadData,
    Execution,
    Canceled,
    Timeout,
    Unavailable,
    TooLarge,
    NotFound,
    Internal,
}

impl FailureKind {
    /// The word for it and the status code. Grafana reads the text of 400, 422 and 503 only, so a
    /// query that stopped and a server that is busy are 503.
    fn in_words(self) -> (&'static str, StatusCode) {
        match self {
            Self::BadData => ("bad_data", StatusCode::BAD_REQUEST),
            Self::Execution => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Canceled => ("canceled", StatusCode::SERVICE_UNAVAILABLE),
            Self::Timeout => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::TooLarge => ("bad_data", StatusCode::PAYLOAD_TOO_LARGE),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl Failure {
    /// The request makes no sense.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::BadData,
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
        let kind = match refusal.reason {
            Reason::Bad | Reason::UnsupportedMedia => FailureKind::BadData,
            Reason::TooLarge => FailureKind::TooLarge,
            Reason::NotFound => FailureKind::NotFound,
            Reason::Execution => FailureKind::Execution,
            Reason::Timeout => FailureKind::Timeout,
            Reason::Busy | Reason::Unavailable => FailureKind::Unavailable,
            Reason::Internal => FailureKind::Internal,
        };
        Self {
            kind,
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
        let kind = match &error {
            QueryError::Invalid(_) => FailureKind::BadData,
            QueryError::Budget(BudgetError::TimedOut) => FailureKind::Timeout,
            QueryError::Budget(BudgetError::Canceled) => FailureKind::Canceled,
            _ => FailureKind::Execution,
        };
        Self {
            kind,
            text: error.to_string(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (word, status) = self.kind.in_words();
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        object.text("status", "error");
        object.text("errorType", word);
        json::html_safe_string(object.key("error"), &self.text);
        object.end();
        let mut response = (status, respond(out)).into_response();
        if self.kind == FailureKind::Unavailable {
            let seconds = HeaderValue::from(RETRY_AFTER.as_secs());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// A JSON text as a response.
pub(super) fn respond(text: String) -> Response {
    let kind = (
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    ([kind], Body::from(text)).into_response()
}

/// Data in its envelope; `write` writes the data.
pub(super) fn success(
    warnings: &[String],
    infos: &[String],
    write: impl FnOnce(&mut String),
) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    object.text("status", "success");
    write(object.key("data"));
    for (name, texts) in [("warnings", warnings), ("infos", infos)] {
        if !texts.is_empty() {
            let list = object.key(name);
            json::array(list, texts, |out, text| json::html_safe_string(out, text));
        }
    }
    object.end();
    out
}

/// Sorted names, at most `limit` of them, in the envelope.
pub(super) fn names(mut names: Vec<String>, limit: Option<usize>) -> String {
    let warnings = truncate(&mut names, limit);
    success(&warnings, &[], |out| json::strings(out, &names))
}

/// Cuts a list to `limit` and gives the warning if that lost something.
pub(super) fn truncate<T>(list: &mut Vec<T>, limit: Option<usize>) -> Vec<String> {
    match limit {
        Some(limit) if list.len() > limit => {
            list.truncate(limit);
            vec![TRUNCATED.to_owned()]
        }
        _ => Vec::new(),
    }
}

/// The result of a query in the envelope, at most `limit` series of it.
pub(super) fn query_result(mut result: QueryResult, limit: Option<usize>) -> String {
    let mut warnings = match &mut result.value {
        Value::Vector(vector) => truncate(vector, limit),
        Value::Matrix(matrix) => truncate(matrix, limit),
        Value::Scalar { .. } | Value::String { .. } => Vec::new(),
    };
    warnings.append(&mut result.warnings);
    success(&warnings, &result.infos, |out| value(out, &result.value))
}

fn value(out: &mut String, value: &Value) {
    let mut object = Object::begin(out);
    let kind = match value {
        Value::Scalar { .. } => "scalar",
        Value::String { .. } => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    object.text("resultType", kind);
    let out = object.key("result");
    match value {
        Value::Scalar { time_ms, value } => point(out, *time_ms, *value),
        Value::String { time_ms, value } => {
            out.push('[');
            json::seconds(out, *time_ms);
            out.push(',');
            json::string(out, value);
            out.push(']');
        }
        Value::Vector(vector) => json::array(out, vector, |out, sample| {
            let mut object = Object::begin(out);
            json::labels(object.key("metric"), &sample.labels);
            point(object.key("value"), sample.time_ms, sample.value);
            object.end();
        }),
        Value::Matrix(matrix) => json::array(out, matrix, |out, series| {
            let mut object = Object::begin(out);
            json::labels(object.key("metric"), &series.labels);
            points(object.key("values"), &series.samples);
            object.end();
        }),
    }
    object.end();
}

fn points(out: &mut String, samples: &Samples) {
    match &samples.values {
        Values::Floats(values) => {
            let samples = samples.timestamps.iter().zip(values);
            json::array(out, samples, |out, (time_ms, value)| {
                point(out, *time_ms, *value);
            });
        }
        // The only kind that the engine knows today; the type leaves room for others.
        _ => out.push_str("[]"),
    }
}

fn point(out: &mut String, time_ms: i64, value: f64) {
    out.push('[');
    json::seconds(out, time_ms);
    out.push(',');
    json::sample_value(out, value);
    out.push(']');
}

#[cfg(test)]
mod tests {
    use trine_query::budget::Cost;
    use trine_query::promql::{Series, VectorSample};
    use trine_storage::{Kind, Labels};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn check(value: Value, limit: Option<usize>, expect: &str) {
        let (warnings, infos) = (Vec::new(), Vec::new());
        let result = QueryResult {
            value,
            warnings,
            infos,
            cost: Cost::default(),
        };
        assert_eq!(query_result(result, limit), expect);
    }

    #[test]
    fn values() {
        check(
            Value::Scalar {
                time_ms: 4000,
                value: 2.0,
            },
            None,
            r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#,
        );
        check(
            Value::String {
                time_ms: 1500,
                value: "a\"<b".to_owned(),
            },
            None,
            r#"{"status":"success","data":{"resultType":"string","result":[1.500,"a\"<b"]}}"#,
        );
        check(
            Value::Vector(Vec::new()),
            None,
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
        );
        let sample = |name, value| VectorSample {
            labels: labels(&[("a", name)]),
            time_ms: 1,
            value,
        };
        check(
            Value::Vector(vec![sample("1", f64::NAN), sample("2", f64::INFINITY)]),
            None,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[0.001,"NaN"]},{"metric":{"a":"2"},"value":[0.001,"+Inf"]}]}}"#,
        );
        check(
            Value::Vector(vec![sample("1", 1.0), sample("2", 2.0)]),
            Some(1),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[0.001,"1"]}]},"warnings":["results truncated due to limit"]}"#,
        );
        let values = Values::Floats(vec![1e-7, -0.0]);
        let samples = Samples {
            timestamps: vec![1000, 1001],
            values,
        };
        check(
            Value::Matrix(vec![Series {
                labels: labels(&[]),
                samples,
            }]),
            Some(1),
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1e-07"],[1.001,"-0"]]}]}}"#,
        );
    }

    #[test]
    fn warnings_and_infos_stand_beside_the_data() {
        let text = success(&["w".to_owned()], &["i<".to_owned()], |out| {
            out.push_str("[]");
        });
        let expect = r#"{"status":"success","data":[],"warnings":["w"],"infos":["i\u003c"]}"#;
        assert_eq!(text, expect);
        assert_eq!(
            names(Vec::new(), Some(1)),
            r#"{"status":"success","data":[]}"#
        );
    }

    #[tokio::test]
    async fn failures() {
        let refusal = |reason| Failure::from(Refusal::new(reason, "why"));
        for (failure, status, word) in [
            (Failure::bad("why"), 400, "bad_data"),
            (
                QueryError::Invalid("why".to_owned()).into(),
                400,
                "bad_data",
            ),
            (
                QueryError::Execution("why".to_owned()).into(),
                422,
                "execution",
            ),
            (
                QueryError::Budget(BudgetError::Samples).into(),
                422,
                "execution",
            ),
            (
                QueryError::Budget(BudgetError::TimedOut).into(),
                503,
                "timeout",
            ),
            (
                QueryError::Budget(BudgetError::Canceled).into(),
                503,
                "canceled",
            ),
            (Error::new(Kind::Io, "why").into(), 503, "unavailable"),
            (refusal(Reason::Busy), 503, "unavailable"),
            (refusal(Reason::TooLarge), 413, "bad_data"),
            (refusal(Reason::Internal), 500, "internal"),
        ] {
            let text = failure.to_string();
            let response = failure.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["content-type"], "application/json");
            let body = axum::body::to_bytes(response.into_body(), 4096)
                .await
                .unwrap();
            let expect = format!(r#"{{"status":"error","errorType":"{word}","error":"{text}"}}"#);
            assert_eq!(std::str::from_utf8(&body).unwrap(), expect);
        }
    }
}
