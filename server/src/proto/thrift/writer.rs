//! Messages in Thrift for tests: values and how they are written.

use super::Protocol;

/// A value of Thrift.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    I8(u8),
    I16(i16),
    I32(i32),
    I64(i64),
    Double(f64),
    Binary(Vec<u8>),
    /// Elements of one type; that of an empty list is a number.
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Struct(Vec<(i16, Value)>),
}

impl Value {
    /// A text.
    pub(crate) fn text(text: &str) -> Self {
        Self::Binary(text.into())
    }

    fn number(&self, protocol: Protocol) -> u8 {
        let (binary, compact) = match self {
            Self::Bool(true) => (2, 1),
            Self::Bool(false) => (2, 2),
            Self::I8(_) => (3, 3),
            Self::I16(_) => (6, 4),
            Self::I32(_) => (8, 5),
            Self::I64(_) => (10, 6),
            Self::Double(_) => (4, 7),
            Self::Binary(_) => (11, 8),
            Self::List(_) => (15, 9),
            Self::Map(_) => (13, 11),
            Self::Struct(_) => (12, 12),
        };
        match protocol {
            Protocol::Binary => binary,
            Protocol::Compact => compact,
        }
    }

    /// The bytes of the value.
    pub(crate) fn written(&self, protocol: Protocol) -> Vec<u8> {
        let mut out = Vec::new();
        match protocol {
            Protocol::Binary => self.binary(&mut out),
            Protocol::Compact => self.compact(&mut out),
        }
        out
    }

    fn binary(&self, out: &mut Vec<u8>) {
        let number = |value: &Self| value.number(Protocol::Binary);
        let count = |count: usize| (count as i32).to_be_bytes();
        match self {
            Self::Bool(truth) => out.push((*truth).into()),
            Self::I8(number) => out.push(*number),
            Self::I16(number) => out.extend(number.to_be_bytes()),
            Self::I32(number) => out.extend(number.to_be_bytes()),
            Self::I64(number) => out.extend(number.to_be_bytes()),
            Self::Double(number) => out.extend(number.to_be_bytes()),
            Self::Binary(bytes) => {
                out.extend(count(bytes.len()));
                out.extend(bytes);
            }
            Self::List(values) => {
                out.push(values.first().map_or(8, number));
                out.extend(count(values.len()));
                values.iter().for_each(|value| value.binary(out));
            }
            Self::Map(pairs) => {
                let (key, value) = pairs
                    .first()
                    .map_or((8, 8), |(k, v)| (number(k), number(v)));
                out.extend([key, value]);
                out.extend(count(pairs.len()));
                for (key, value) in pairs {
                    key.binary(out);
                    value.binary(out);
                }
            }
            Self::Struct(fields) => {
                for (id, value) in fields {
                    out.push(number(value));
                    out.extend(id.to_be_bytes());
                    value.binary(out);
                }
                out.push(0);
            }
        }
    }

    fn compact(&self, out: &mut Vec<u8>) {
        let number = |value: &Self| value.number(Protocol::Compact);
        match self {
            Self::Bool(truth) => out.push(if *truth { 1 } else { 2 }),
            Self::I8(number) => out.push(*number),
            Self::I16(number) => varint(zigzag((*number).into()), out),
            Self::I32(number) => varint(zigzag((*number).into()), out),
            Self::I64(number) => varint(zigzag(*number), out),
            Self::Double(number) => out.extend(number.to_le_bytes()),
            Self::Binary(bytes) => {
                varint(bytes.len() as u64, out);
                out.extend(bytes);
            }
            Self::List(values) => {
                let kind = values.first().map_or(5, number);
                match values.len() {
                    few @ 0..15 => out.push((few as u8) << 4 | kind),
                    many => {
                        out.push(0xf0 | kind);
                        varint(many as u64, out);
                    }
                }
                values.iter().for_each(|value| value.compact(out));
            }
            Self::Map(pairs) => {
                varint(pairs.len() as u64, out);
                if let Some((key, value)) = pairs.first() {
                    out.push(number(key) << 4 | number(value));
                }
                for (key, value) in pairs {
                    key.compact(out);
                    value.compact(out);
                }
            }
            Self::Struct(fields) => {
                let mut last = 0i16;
                for (id, value) in fields {
                    match id.checked_sub(last) {
                        Some(distance @ 1..=15) => {
                            out.push((distance as u8) << 4 | number(value));
                        }
                        _ => {
                            out.push(number(value));
                            varint(zigzag((*id).into()), out);
                        }
                    }
                    if !matches!(value, Self::Bool(_)) {
                        value.compact(out);
                    }
                    last = *id;
                }
                out.push(0);
            }
        }
    }
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
