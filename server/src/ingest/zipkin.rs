//! Spans that Zipkin's clients send in JSON of version 2, as spans of OTLP, in the way of OpenTelemetry's
//! collector: what OTLP has fields for is taken out of the tags, endpoints become attributes,
//! annotations events. `ingest::span_http` calls [`translate`].
//!
//! Each span is given on as soon as it is read; the whole list is never in memory.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::jaeger_tags as tags;
use super::span_batch::{SPAN_ITEMS_MAX, SpanBatch};

const MICROSECOND_NS: u64 = 1000;

/// Says that a span came without the time of its start.
const START_ABSENT: &str = "otel.zipkin.absentField.startTime";
/// Names the attribute that the service comes from.
const SERVICE_SOURCE: &str = "otlp.service.name.source";
/// What a link is written as, before its number.
const LINK: &str = "otlp.link.";
/// Links of a span that are looked for.
const LINKS_MAX: usize = 128;

/// The spans of a list, of about `bytes_max` bytes as OTLP at most.
///
/// # Errors
/// A sentence that says what is wrong with it and where.
pub fn translate(body: &[u8], bytes_max: usize) -> Result<SpanBatch, String> {
    let mut batch = SpanBatch::new(bytes_max);
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = Spans(&mut batch).deserialize(&mut json);
    let read = read.and_then(|()| json.end());
    match read {
        Ok(()) => Ok(batch),
        Err(error) => Err(format!("cannot read the spans: {error}")),
    }
}

/// The list, read span by span.
struct Spans<'b>(&'b mut SpanBatch);

impl<'de> DeserializeSeed<'de> for Spans<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Spans<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of spans")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(read) = list.next_element::<Option<Read<'de>>>()? {
            let Some(read) = read else { continue };
            let (resource, scope, span) = read.into_otlp().map_err(A::Error::custom)?;
            let pushed = self.0.push(&resource, &scope, &span);
            pushed.map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A span as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Read<'a> {
    #[serde(borrow)]
    trace_id: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    parent_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    timestamp: Option<f64>,
    duration: Option<f64>,
    #[serde(borrow)]
    local_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow)]
    remote_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow)]
    annotations: Option<Few<Annotation<'a>>>,
    #[serde(borrow)]
    tags: Option<Pairs<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint<'a> {
    #[serde(borrow)]
    service_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ipv4: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ipv6: Option<Cow<'a, str>>,
    port: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotation<'a> {
    timestamp: Option<f64>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
}

/// A list that is not without end.
#[derive(Debug)]
struct Few<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    bound(items.len()).map_err(A::Error::custom)?;
                    items.push(item);
                }
                Ok(Few(items))
            }
        }

        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// The tags, in order.
#[derive(Debug)]
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// A text of either kind: `Cow` alone copies where it need not.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tags, texts by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    bound(pairs.len()).map_err(A::Error::custom)?;
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Items)
    }
}

/// Refuses one more than a span may have.
fn bound(count: usize) -> Result<(), String> {
    if count < SPAN_ITEMS_MAX {
        return Ok(());
    }
    Err(format!(
        "a span has more than {SPAN_ITEMS_MAX} tags or annotations"
    ))
}

impl Read<'_> {
    fn into_otlp(self) -> Result<(Resource, InstrumentationScope, Span), String> {
        let mut attributes = Vec::new();
        for (key, value) in self.tags.map_or_else(Vec::new, |pairs| pairs.0) {
            attributes.push(tags::text(key, value));
        }
        let trace_id = id::<16>("traceId", &self.trace_id)?;
        let span_id = id::<8>("id", &self.id)?;
        let parent_id = match self.parent_id.as_deref() {
            None | Some("") => None,
            Some(text) => Some(id::<8>("parentId", text)?),
        };
        // Some clients say of a root that it is its own parent.
        let parent_id = parent_id.filter(|parent| *parent != span_id && *parent != [0; 8]);
        let kind = match self.kind.as_deref() {
            Some("CLIENT") => SpanKind::Client,
            Some("SERVER") => SpanKind::Server,
            Some("PRODUCER") => SpanKind::Producer,
            Some("CONSUMER") => SpanKind::Consumer,
            _ => match tags::take_text(&mut attributes, tags::KIND) {
                Some(name) if name == "internal" => SpanKind::Internal,
                _ => SpanKind::Unspecified,
            },
        };
        let local = self.local_endpoint.unwrap_or_default();
        let scope = scope(&mut attributes);
        let resource = resource(&mut attributes, local.service_name.as_deref());
        let trace_state = tags::take_text(&mut attributes, tags::TRACE_STATE).unwrap_or_default();
        let status = status(&mut attributes);
        let links = links(&mut attributes);
        let remote = self.remote_endpoint.unwrap_or_default();
        address(&mut attributes, &local, "net.host.ip", "net.host.port");
        if let Some(service) = remote
            .service_name
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            put(&mut attributes, tags::text("peer.service", service));
        }
        address(&mut attributes, &remote, "net.peer.ip", "net.peer.port");
        let start_us = self.timestamp.map_or(0, microseconds);
        if start_us == 0 {
            attributes.push(tags::pair(START_ABSENT, Value::BoolValue(true)));
        }
        let end_us = start_us.saturating_add(self.duration.map_or(0, microseconds));
        let annotations = self.annotations.map_or_else(Vec::new, |few| few.0);
        let span = Span {
            trace_id: trace_id.to_vec(),
            span_id: span_id.to_vec(),
            trace_state,
            parent_span_id: parent_id.map_or_else(Vec::new, |id| id.to_vec()),
            name: self.name.map_or_else(String::new, Cow::into_owned),
            kind: kind.into(),
            start_time_unix_nano: start_us.saturating_mul(MICROSECOND_NS),
            end_time_unix_nano: end_us.saturating_mul(MICROSECOND_NS),
            attributes,
            events: annotations.into_iter().map(event).collect(),
            links,
            status,
            ..Span::default()
        };
        Ok((resource, scope, span))
    }
}

/// Digits of an id, of which those on the left may be missing.
fn id<const N: usize>(name: &str, text: &str) -> Result<[u8; N], String> {
    let is_id = !text.is_empty() && text.len() <= 2 * N;
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16)
        .ok()
        .filter(|_| is_id && digits);
    let bytes = number.map(u128::to_be_bytes);
    let last = bytes.as_ref().and_then(|bytes| bytes.last_chunk::<N>());
    last.copied().ok_or_else(|| {
        let digits = 2 * N;
        format!("{name} {text:?} is no id: send up to {digits} hexadecimal digits")
    })
}

/// Microseconds as senders write them, now and then with a fraction; what is no time is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "such a cast stops at the ends"
)]
fn microseconds(number: f64) -> u64 {
    number as u64
}

/// Adds an attribute, unless there is one of its name.
fn put(attributes: &mut Vec<KeyValue>, new: KeyValue) {
    if !attributes.iter().any(|pair| pair.key == new.key) {
        attributes.push(new);
    }
}

fn address(attributes: &mut Vec<KeyValue>, endpoint: &Endpoint<'_>, ip: &str, port: &str) {
    for text in [&endpoint.ipv4, &endpoint.ipv6].into_iter().flatten() {
        if !text.is_empty() {
            put(attributes, tags::text(ip, text.as_ref()));
        }
    }
    if let Some(number) = endpoint.port.filter(|port| *port > 0) {
        attributes.retain(|pair| pair.key != port);
        attributes.push(tags::pair(port, Value::IntValue(number)));
    }
}

fn scope(attributes: &mut Vec<KeyValue>) -> InstrumentationScope {
    let mut first = |names: [&str; 2]| {
        let found = names.map(|name| tags::take_text(attributes, name));
        found.into_iter().flatten().next().unwrap_or_default()
    };
    InstrumentationScope {
        name: first([tags::SCOPE_NAME, tags::LIBRARY_NAME]),
        version: first([tags::SCOPE_VERSION, tags::LIBRARY_VERSION]),
        ..InstrumentationScope::default()
    }
}

/// The service, and the tags that are about what sent the span rather than about the span.
fn resource(attributes: &mut Vec<KeyValue>, service: Option<&str>) -> Resource {
    let source = tags::take_text(attributes, SERVICE_SOURCE);
    let source = source.filter(|name| !name.is_empty());
    let source = source.unwrap_or_else(|| tags::SERVICE.to_owned());
    let mut own = Vec::new();
    own.extend(
        service
            .filter(|name| !name.is_empty())
            .map(|name| tags::text(source.as_str(), name)),
    );
    let moved = attributes.extract_if(.., |pair| is_of_resource(&pair.key));
    for pair in moved {
        put(&mut own, pair);
    }
    Resource {
        attributes: own,
        ..Resource::default()
    }
}

/// Whether OpenTelemetry's conventions have an attribute for resources.
fn is_of_resource(key: &str) -> bool {
    const FAMILIES: [&str; 10] = [
        "cloud.",
        "container.",
        "device.",
        "host.",
        "k8s.",
        "os.",
        "process.",
        "service.",
        "telemetry.",
        "webengine.",
    ];
    const NAMES: [&str; 8] = [
        "deployment.environment",
        "faas.id",
        "faas.instance",
        "faas.max_memory",
        "faas.name",
        "faas.version",
        "opencensus.exporterversion",
        "opencensus.resourcetype",
    ];
    FAMILIES.iter().any(|family| key.starts_with(family)) || NAMES.contains(&key)
}

/// The status that OpenTelemetry's exporters write; that of a span with `error=true` is an error.
fn status(attributes: &mut Vec<KeyValue>) -> Option<Status> {
    let mut status = None;
    if let Some(told) = tags::take_text(attributes, tags::STATUS) {
        let told = told.to_ascii_uppercase();
        let code = match told.strip_prefix("STATUS_CODE_").unwrap_or(&told) {
            tags::STATUS_OK => StatusCode::Ok,
            tags::STATUS_ERROR => StatusCode::Error,
            _ => StatusCode::Unset,
        };
        let message = tags::take_text(attributes, tags::STATUS_MESSAGE).unwrap_or_default();
        status = Some(Status {
            code: code.into(),
            message,
        });
    }
    if let Some(Value::StringValue(text)) = tags::find(attributes, tags::ERROR)
        && text == "true"
    {
        attributes.retain(|pair| pair.key != tags::ERROR);
        status.get_or_insert_default().code = StatusCode::Error.into();
    }
    status
}

/// An annotation. OpenTelemetry's exporters write the attributes of an event and how many are missing
/// behind its name: `name|{"a":1}|0`.
fn event(annotation: Annotation<'_>) -> Event {
    let time_us = annotation.timestamp.map_or(0, microseconds);
    let value = annotation.value.unwrap_or_default();
    let mut event = Event {
        time_unix_nano: time_us.saturating_mul(MICROSECOND_NS),
        ..Event::default()
    };
    let parts = value.split_once('|').and_then(|(name, rest)| {
        let (attributes, dropped) = rest.rsplit_once('|')?;
        Some((name, object(attributes)?, dropped.parse().ok()?))
    });
    match parts {
        Some((name, attributes, dropped)) => {
            event.name = name.to_owned();
            event.attributes = attributes;
            event.dropped_attributes_count = dropped;
        }
        None => event.name = value.into_owned(),
    }
    event
}

/// The links that OpenTelemetry's exporters write as tags: `otlp.link.0` is
/// `trace id|span id|state|{attributes}|how many are missing`.
fn links(attributes: &mut Vec<KeyValue>) -> Vec<Link> {
    let mut links = Vec::new();
    for number in 0..LINKS_MAX {
        let key = format!("{LINK}{number}");
        let Some(text) = tags::take_text(attributes, &key) else {
            break;
        };
        match link(&text) {
            Some(link) => links.push(link),
            None => attributes.push(tags::text(key, text)),
        }
    }
    links
}

fn link(text: &str) -> Option<Link> {
    let mut parts = text.splitn(4, '|');
    let trace_id = id::<16>("trace", parts.next()?).ok()?;
    let span_id = id::<8>("span", parts.next()?).ok()?;
    let trace_state = parts.next()?.to_owned();
    let (attributes, dropped) = parts.next()?.rsplit_once('|')?;
    Some(Link {
        trace_id: trace_id.to_vec(),
        span_id: span_id.to_vec(),
        trace_state,
        attributes: object(attributes)?,
        dropped_attributes_count: dropped.parse().ok()?,
        ..Link::default()
    })
}

/// The attributes that an object of JSON holds; `None` when it is none.
fn object(text: &str) -> Option<Vec<KeyValue>> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let value = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Some(Value::StringValue(text)),
        serde_json::Value::Bool(truth) => Some(Value::BoolValue(truth)),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => Some(Value::IntValue(number)),
            None => number.as_f64().map(Value::DoubleValue),
        },
        _ => None,
    };
    let pairs = object.into_iter();
    let pairs = pairs.filter_map(|(key, found)| Some(tags::pair(key, value(found)?)));
    Some(pairs.collect())
}

#[cfg(test)]
mod tests;
