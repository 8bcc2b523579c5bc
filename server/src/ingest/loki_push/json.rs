//! The JSON body of a push. `ingest::loki_push` calls [`parse`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A whole request.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    pub(super) streams: Vec<Stream<'a>>,
}

/// One stream with its entries.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    pub(super) labels: StreamLabels<'a>,
    pub(super) entries: Vec<Entry<'a>>,
}

/// Names or values of labels and metadata.
type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// A stream's labels as they were written.
#[derive(Debug)]
pub(super) enum StreamLabels<'a> {
    /// `"stream": {"a": "b"}`
    Pairs(Pairs<'a>),
    /// `"labels": "{a=\"b\"}"`, the older form.
    Text(Cow<'a, str>),
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Nanoseconds since 1970.
    pub(super) timestamp: i64,
    pub(super) line: Cow<'a, str>,
    pub(super) metadata: Pairs<'a>,
}

/// Reads a body.
///
/// # Errors
/// The refusal's text.
pub(super) fn parse(body: &[u8]) -> Result<Request<'_>, String> {
    let text = std::str::from_utf8(body)
        .map_err(|error| format!("the JSON body is not UTF-8: {error}"))?;
    serde_json::from_str(text).map_err(|error| format!("cannot read the JSON body: {error}"))
}

/// Labels as text, for refusals.
pub(super) fn text(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> String {
    let inner: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{{{}}}", inner.join(", "))
}

/// A string, borrowed from the body where it holds no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// An object of strings, in its order.
struct Object<'a>(Pairs<'a>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(Object(pairs))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Object<'de>, E> {
                Ok(Object(Vec::new()))
            }
        }
        deserializer.deserialize_any(Collect)
    }
}

impl<'de> Deserialize<'de> for Entry<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Entry<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"an entry ["<nanoseconds>", "<line>", {"<name>": "<value>"}]"#)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entry<'de>, A::Error> {
                let missing = |what| de::Error::custom(format!("an entry lacks its {what}"));
                let Text(time) = seq.next_element()?.ok_or_else(|| missing("timestamp"))?;
                let timestamp = time.parse().map_err(|_| {
                    de::Error::custom(format!("{time:?} is not a timestamp in nanoseconds"))
                })?;
                let Text(line) = seq.next_element()?.ok_or_else(|| missing("line"))?;
                let metadata = seq
                    .next_element::<Object<'de>>()?
                    .map(|Object(pairs)| pairs);
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Entry {
                    timestamp,
                    line,
                    metadata: metadata.unwrap_or_default(),
                })
            }

            /// The older form: `{"ts": "<RFC 3339>", "line": "..."}`.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry<'de>, A::Error> {
                let (mut timestamp, mut line) = (None, None);
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "ts" | "timestamp" => {
                            let Text(time) = map.next_value()?;
                            let parsed: jiff::Timestamp = time.parse().map_err(|_| {
                                de::Error::custom(format!("{time:?} is not a time in RFC 3339"))
                            })?;
                            timestamp = Some(saturated(parsed));
                        }
                        "line" => line = Some(map.next_value::<Text<'de>>()?.0),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let missing = |what| de::Error::custom(format!("an entry lacks its {what}"));
                Ok(Entry {
                    timestamp: timestamp.ok_or_else(|| missing("timestamp"))?,
                    line: line.ok_or_else(|| missing("line"))?,
                    metadata: Vec::new(),
                })
            }
        }
        deserializer.deserialize_any(Read)
    }
}

fn saturated(time: jiff::Timestamp) -> i64 {
    let nanos = time.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

impl<'de> Deserialize<'de> for Stream<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Stream<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a stream {"stream": {...}, "values": [...]}"#)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stream<'de>, A::Error> {
                let mut labels = None;
                let mut entries = Vec::new();
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "stream" => {
                            labels = Some(StreamLabels::Pairs(map.next_value::<Object<'de>>()?.0));
                        }
                        "labels" => {
                            labels = Some(StreamLabels::Text(map.next_value::<Text<'de>>()?.0));
                        }
                        "values" | "entries" => {
                            entries = map.next_value::<Option<_>>()?.unwrap_or_default();
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let labels = labels.unwrap_or(StreamLabels::Pairs(Vec::new()));
                Ok(Stream { labels, entries })
            }
        }
        deserializer.deserialize_map(Read)
    }
}

impl<'de> Deserialize<'de> for Request<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Request<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a push request {"streams": [...]}"#)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request<'de>, A::Error> {
                let mut request = Request::default();
                while let Some(Text(key)) = map.next_key()? {
                    if &*key == "streams" {
                        request.streams = map.next_value::<Option<_>>()?.unwrap_or_default();
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(request)
            }
        }
        deserializer.deserialize_map(Read)
    }
}
