//! Where Jaeger keeps what OTLP has fields for: the names of tags, and what is made of them.
//! `ingest::jaeger_thrift` and `ingest::zipkin` take fields out of tags, `api::jaeger` puts them back.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

/// The service, an attribute of the resource.
pub const SERVICE: &str = "service.name";
/// The kind of a span.
pub const KIND: &str = "span.kind";
/// Whether a span failed.
pub const ERROR: &str = "error";
/// The status of a span, [`STATUS_OK`] or [`STATUS_ERROR`].
pub const STATUS: &str = "otel.status_code";
/// A span ended as it should.
pub const STATUS_OK: &str = "OK";
/// A span failed.
pub const STATUS_ERROR: &str = "ERROR";
/// What went wrong.
pub const STATUS_MESSAGE: &str = "otel.status_description";
/// The name of the instrumentation.
pub const SCOPE_NAME: &str = "otel.scope.name";
/// The version of the instrumentation.
pub const SCOPE_VERSION: &str = "otel.scope.version";
/// The older name of [`SCOPE_NAME`].
pub const LIBRARY_NAME: &str = "otel.library.name";
/// The older name of [`SCOPE_VERSION`].
pub const LIBRARY_VERSION: &str = "otel.library.version";
/// The trace state of W3C.
pub const TRACE_STATE: &str = "w3c.tracestate";
/// The name of an event, a field of a log.
pub const EVENT: &str = "event";
/// The type of a reference, an attribute of a link.
pub const REF_TYPE: &str = "opentracing.ref_type";
/// The type of a reference to a parent.
pub const CHILD_OF: &str = "child_of";
/// The type of a reference to what came before.
pub const FOLLOWS_FROM: &str = "follows_from";

const HTTP_STATUS: &str = "http.status_code";
const HTTP_STATUS_MESSAGE: &str = "http.status_message";

/// An attribute.
pub fn pair(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// An attribute that is text.
pub fn text(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    pair(key, Value::StringValue(value.into()))
}

/// The name of a kind; `None` for that which says nothing.
pub fn kind_name(kind: SpanKind) -> Option<&'static str> {
    match kind {
        SpanKind::Unspecified => None,
        SpanKind::Internal => Some("internal"),
        SpanKind::Server => Some("server"),
        SpanKind::Client => Some("client"),
        SpanKind::Producer => Some("producer"),
        SpanKind::Consumer => Some("consumer"),
    }
}

/// The kind that a name stands for; [`SpanKind::Unspecified`] for names of none.
pub fn kind_named(name: &str) -> SpanKind {
    let all = [
        SpanKind::Internal,
        SpanKind::Server,
        SpanKind::Client,
        SpanKind::Producer,
        SpanKind::Consumer,
    ];
    let found = all.into_iter().find(|kind| kind_name(*kind) == Some(name));
    found.unwrap_or(SpanKind::Unspecified)
}

/// The value of an attribute.
pub fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

/// Takes an attribute that is text out of the others.
pub fn take_text(attributes: &mut Vec<KeyValue>, key: &str) -> Option<String> {
    let at = attributes.iter().position(|pair| pair.key == key)?;
    match attributes.get(at)?.value.as_ref()?.value.as_ref()? {
        Value::StringValue(_) => {}
        _ => return None,
    }
    match attributes.remove(at).value?.value? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Takes the status out of the attributes of a span from Jaeger. An `error` that is true counts more
/// than a status, a status more than the code of an HTTP answer.
pub fn take_status(attributes: &mut Vec<KeyValue>, kind: SpanKind) -> Option<Status> {
    let http_message = |attributes: &[KeyValue]| match find(attributes, HTTP_STATUS_MESSAGE) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    };
    let status = |code: StatusCode, message: Option<String>| Status {
        code: code.into(),
        message: message.unwrap_or_default(),
    };
    let failed = matches!(find(attributes, ERROR), Some(Value::BoolValue(true)));
    let told = take_text(attributes, STATUS);
    if failed {
        attributes.retain(|pair| pair.key != ERROR);
        let message = take_text(attributes, STATUS_MESSAGE);
        let message = message.unwrap_or_else(|| http_message(attributes));
        return Some(status(StatusCode::Error, Some(message)));
    }
    if let Some(told) = told {
        let code = match told.to_ascii_uppercase().as_str() {
            STATUS_OK => StatusCode::Ok,
            STATUS_ERROR => StatusCode::Error,
            _ => StatusCode::Unset,
        };
        return Some(status(code, take_text(attributes, STATUS_MESSAGE)));
    }
    let code = match find(attributes, HTTP_STATUS)? {
        Value::IntValue(code) => *code,
        Value::StringValue(text) => text.parse().ok()?,
        _ => return None,
    };
    let is_fine = match code {
        100..400 => true,
        // What a client sees as its failure is none of the server.
        400..500 => kind == SpanKind::Server,
        _ => false,
    };
    (!is_fine).then(|| status(StatusCode::Error, Some(http_message(attributes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(tags: &[(&str, Value)], kind: SpanKind) -> (Option<(i32, String)>, Vec<String>) {
        let mut attributes: Vec<KeyValue> = tags
            .iter()
            .map(|(key, value)| pair(*key, value.clone()))
            .collect();
        let status = take_status(&mut attributes, kind);
        let left = attributes.into_iter().map(|pair| pair.key).collect();
        (status.map(|status| (status.code, status.message)), left)
    }

    #[test]
    fn the_status_is_taken_from_the_tag_that_knows_best() {
        let yes = || Value::BoolValue(true);
        let no = || Value::BoolValue(false);
        let word = |text: &str| Value::StringValue(text.to_owned());
        let code = |code: i64| Value::IntValue(code);
        let (server, client) = (SpanKind::Server, SpanKind::Client);
        type Case<'a> = (
            Vec<(&'a str, Value)>,
            SpanKind,
            Option<(i32, &'a str)>,
            &'a [&'a str],
        );
        let cases: Vec<Case<'_>> = vec![
            (vec![], server, None, &[]),
            (vec![(ERROR, yes())], server, Some((2, "")), &[]),
            (vec![(ERROR, no())], server, None, &[ERROR]),
            (vec![(ERROR, word("true"))], server, None, &[ERROR]),
            (
                vec![
                    (ERROR, yes()),
                    (STATUS, word("OK")),
                    (STATUS_MESSAGE, word("m")),
                ],
                server,
                Some((2, "m")),
                &[],
            ),
            (
                vec![(ERROR, yes()), (HTTP_STATUS_MESSAGE, word("gone"))],
                server,
                Some((2, "gone")),
                &[HTTP_STATUS_MESSAGE],
            ),
            (
                vec![(STATUS, word("ok")), ("a", yes())],
                server,
                Some((1, "")),
                &["a"],
            ),
            (
                vec![(STATUS, word("Error")), (STATUS_MESSAGE, word("m"))],
                server,
                Some((2, "m")),
                &[],
            ),
            (vec![(STATUS, word("?"))], server, Some((0, "")), &[]),
            (vec![(HTTP_STATUS, code(200))], client, None, &[HTTP_STATUS]),
            (vec![(HTTP_STATUS, code(404))], server, None, &[HTTP_STATUS]),
            (
                vec![(HTTP_STATUS, code(404))],
                client,
                Some((2, "")),
                &[HTTP_STATUS],
            ),
            (
                vec![(HTTP_STATUS, code(503))],
                server,
                Some((2, "")),
                &[HTTP_STATUS],
            ),
            (
                vec![(HTTP_STATUS, word("500"))],
                server,
                Some((2, "")),
                &[HTTP_STATUS],
            ),
            (vec![(HTTP_STATUS, word("x"))], server, None, &[HTTP_STATUS]),
            (
                vec![(HTTP_STATUS, code(503)), (STATUS, word("OK"))],
                server,
                Some((1, "")),
                &[HTTP_STATUS],
            ),
        ];
        for (tags, kind, status, left) in cases {
            let expect = status.map(|(code, message)| (code, message.to_owned()));
            let left: Vec<String> = left.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(taken(&tags, kind), (expect, left), "{tags:?}");
        }
    }

    #[test]
    fn kinds_have_names() {
        for number in 0..6 {
            let kind = SpanKind::try_from(number).unwrap();
            assert_eq!(kind_named(kind_name(kind).unwrap_or("")), kind);
        }
        assert_eq!(kind_named("Server"), SpanKind::Unspecified);
    }
}
