//! OTLP attribute values as text, for labels and structured metadata. `ingest::otlp_metrics` and
//! `ingest::otlp_logs` call it.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

/// A value as text: strings as they are, everything else as JSON.
pub fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(other) => json(Some(other)).to_string(),
    }
}

fn json(value: Option<&Value>) -> serde_json::Value {
    use serde_json::Value as Json;
    let inner = |value: &AnyValue| json(value.value.as_ref());
    match value {
        None | Some(Value::StringValueStrindex(_)) => Json::Null,
        Some(Value::StringValue(text)) => Json::String(text.clone()),
        Some(Value::BoolValue(truth)) => Json::Bool(*truth),
        Some(Value::IntValue(number)) => Json::from(*number),
        Some(Value::DoubleValue(number)) => Json::from(*number),
        Some(Value::BytesValue(bytes)) => Json::String(base64(bytes)),
        Some(Value::ArrayValue(array)) => Json::Array(array.values.iter().map(inner).collect()),
        Some(Value::KvlistValue(list)) => {
            let entry = |pair: &KeyValue| {
                let value = pair.value.as_ref().map_or(Json::Null, inner);
                (pair.key.clone(), value)
            };
            Json::Object(list.values.iter().map(entry).collect())
        }
    }
}

/// Lower-case hexadecimal, as ids are written.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Infallible: the target is a String.
        write!(out, "{byte:02x}").ok();
    }
    out
}

/// Standard base64 with padding, as protobuf's JSON writes bytes.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= three.len() {
                let digit = bits >> (18 - 6 * i) & 0x3f;
                out.push(char::from(
                    ALPHABET.get(digit as usize).copied().unwrap_or(b'='),
                ));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// Calls `each` with the names and texts of `attributes`; lists of pairs are flattened with `_`.
pub fn flatten(prefix: &str, attributes: &[KeyValue], each: &mut impl FnMut(&str, String)) {
    for pair in attributes {
        let name = if prefix.is_empty() {
            super::otlp_names::label_name(&pair.key)
        } else {
            format!("{prefix}_{}", super::otlp_names::label_name(&pair.key))
        };
        match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::KvlistValue(list)) => flatten(&name, &list.values, each),
            _ => each(&name, text(pair.value.as_ref())),
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};

    use super::{base64, flatten, hex, text};

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn pair(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(any(value)),
            ..KeyValue::default()
        }
    }

    #[test]
    fn texts() {
        let list = KeyValueList {
            values: vec![pair("k", Value::IntValue(1))],
        };
        let array = ArrayValue {
            values: vec![any(Value::BoolValue(true)), any(Value::DoubleValue(0.5))],
        };
        for (value, expect) in [
            (Value::StringValue("a\"b".into()), "a\"b"),
            (Value::IntValue(-3), "-3"),
            (Value::DoubleValue(1.5), "1.5"),
            (Value::BoolValue(false), "false"),
            (Value::BytesValue(vec![0, 255]), "\"AP8=\""),
            (Value::ArrayValue(array), "[true,0.5]"),
            (Value::KvlistValue(list), "{\"k\":1}"),
        ] {
            assert_eq!(text(Some(&any(value))), expect);
        }
        assert_eq!(text(None), "");
    }

    #[test]
    fn bytes_as_text() {
        assert_eq!(hex(&[0, 0xab]), "00ab");
        for (bytes, expect) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (&[0xff, 0xfe, 0xfd], "//79"),
        ] {
            assert_eq!(base64(bytes), expect);
        }
    }

    #[test]
    fn nested_pairs_are_flattened() {
        let inner = KeyValueList {
            values: vec![pair("c.d", Value::IntValue(1))],
        };
        let mut got = Vec::new();
        let attributes = [
            pair("a.b", Value::KvlistValue(inner)),
            pair("e", Value::BoolValue(true)),
        ];
        flatten("", &attributes, &mut |name, value| {
            got.push(format!("{name}={value}"));
        });
        assert_eq!(got, ["a_b_c_d=1", "e=true"]);
    }
}
