//! What Prometheus' API answers: the envelope around data or an error, and the values of queries.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trine_query::budget::BudgetError;
use trine_query::promql::QueryError;
use trine_storage::{Error, Kind};

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
    SwitchedOff,
    TooLarge,
    NotFound,
    Forbidden,
    Internal,
}

impl FailureKind {
    /// The word for it and the status code. Grafana reads the text of 400, 422 and 503 only, so a
    /// server that is busy is 503.
    fn in_words(self) -> (&'static str, StatusCode) {
        match self {
            Self::BadData => ("bad_data", StatusCode::BAD_REQUEST),
            Self::Execution => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Canceled => ("canceled", client_closed()),
            Self::Timeout => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            // As Prometheus has it: the code of everything that it has no better one for.
            Self::SwitchedOff => ("unavailable", StatusCode::INTERNAL_SERVER_ERROR),
            Self::TooLarge => ("bad_data", StatusCode::PAYLOAD_TOO_LARGE),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            // The word of those who refuse it before it comes to Prometheus.
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// 499, by which servers write down that nobody waited for the answer.
fn client_closed() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

impl Failure {
    /// The request makes no sense.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::of(FailureKind::BadData, text)
    }

    /// There is no such thing.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::of(FailureKind::NotFound, text)
    }

    /// It is switched off.
    pub(super) fn switched_off(text: impl Into<String>) -> Self {
        Self::of(FailureKind::SwitchedOff, text)
    }

    /// The status code.
    pub(super) fn status(&self) -> StatusCode {
        self.kind.in_words().1
    }

    fn of(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            kind,
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
            Reason::Execution | Reason::Blocked(_) => FailureKind::Execution,
            Reason::Forbidden => FailureKind::Forbidden,
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
            // It may go well in a moment.
            QueryError::Source(error) if error.kind() == Kind::Unavailable => {
                FailureKind::Unavailable
            }
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
    annotations(&mut out, warnings, infos);
    out.push('}');
    out
}

/// Writes warnings and infos as further members of an object.
pub(super) fn annotations(out: &mut String, warnings: &[String], infos: &[String]) {
    for (name, texts) in [("warnings", warnings), ("infos", infos)] {
        if !texts.is_empty() {
            out.push(',');
            json::string(out, name);
            out.push(':');
            json::array(out, texts, |out, text| json::html_safe_string(out, text));
        }
    }
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

#[cfg(test)]
mod tests {
    use trine_storage::Kind;

    use super::*;

    #[test]
    fn warnings_and_infos_stand_beside_the_data() {
        let text = success(&["w".to_owned()], &["i<".to_owned()], |out| {
            out.push_str("[]");
        });
        let expect = r#"{"status":"success","data":[],"warnings":["w"],"infos":["i\u003c"]}"#;
        assert_eq!(text, expect);
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
                499,
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
