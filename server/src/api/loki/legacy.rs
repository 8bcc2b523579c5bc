//! The paths and answers that Loki had before version 1, for clients of that time.

use trine_query::logql::QueryValue;

use super::answer::Failure;
use super::{engine, ranged, request, source};
use crate::api::prometheus::json::{self, Object};
use crate::api::prometheus::run::Asked;

/// `label` and `label/{name}/values`: just the texts.
pub(super) fn values(texts: &[String]) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::strings(object.key("values"), texts);
    object.end();
    out
}

/// `query`: lines with the labels of their streams as a text.
pub(super) fn query(asked: &Asked) -> Result<String, Failure> {
    let (expr, query) = ranged(asked)?;
    let result = engine(asked).range(&*source::of(asked)?, &expr, query, &asked.cancel)?;
    let QueryValue::Streams(rows) = result.value else {
        return Err(Failure::bad(
            "legacy endpoints only support streams result type; use /loki/api/v1/query_range",
        ));
    };
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::array(object.key("streams"), rows.merged(), |out, stream| {
        let mut object = Object::begin(out);
        object.text("labels", &stream.labels.to_string());
        json::array(object.key("entries"), &stream.entries, |out, entry| {
            let mut object = Object::begin(out);
            object.text("ts", &request::rfc3339(entry.timestamp_ns));
            object.text("line", &String::from_utf8_lossy(&entry.line));
            object.end();
        });
        object.end();
    });
    object.end();
    Ok(out)
}
