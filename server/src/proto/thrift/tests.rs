//! The reader of Thrift against values that are written, and against damage.

use proptest::prelude::*;

use super::writer::Value;
use super::{DEPTH_MAX, Protocol, Reader, Result, ThriftError, Type};

const PROTOCOLS: [Protocol; 2] = [Protocol::Binary, Protocol::Compact];

/// A value as the reader sees it.
fn read(reader: &mut Reader<'_>, kind: Type) -> Result<Value> {
    Ok(match kind {
        Type::Bool => Value::Bool(reader.truth()?),
        Type::I32 => Value::I32(reader.i32()?),
        Type::I64 => Value::I64(reader.i64()?),
        Type::Double => Value::Double(reader.double()?),
        Type::Binary => Value::Binary(reader.bytes()?.to_vec()),
        Type::List => {
            let mut values = Vec::new();
            reader.elements(|reader, kind| {
                values.push(read(reader, kind)?);
                Ok(())
            })?;
            Value::List(values)
        }
        Type::Struct => {
            let mut fields = Vec::new();
            reader.fields(|reader, id, kind| {
                fields.push((id, read(reader, kind)?));
                Ok(())
            })?;
            Value::Struct(fields)
        }
        Type::I8 | Type::I16 | Type::Set | Type::Map => {
            reader.skip(kind)?;
            Value::I8(0)
        }
    })
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Value::I32),
        any::<i64>().prop_map(Value::I64),
        (-1e9f64..1e9).prop_map(Value::Double),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Binary),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 60, 20, |inner| {
        let fields = prop::collection::vec((any::<i16>(), inner.clone()), 0..6);
        prop_oneof![
            // Elements are of one type.
            (inner, 0usize..20).prop_map(|(value, count)| Value::List(vec![value; count])),
            fields.prop_map(Value::Struct),
        ]
    })
}

fn structure() -> impl Strategy<Value = Value> {
    prop::collection::vec((any::<i16>(), value()), 0..8).prop_map(Value::Struct)
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in structure()) {
        for protocol in PROTOCOLS {
            let bytes = value.written(protocol);
            let mut reader = Reader::new(&bytes, protocol);
            prop_assert_eq!(&read(&mut reader, Type::Struct).unwrap(), &value);
            prop_assert!(reader.rest.is_empty());
            let mut reader = Reader::new(&bytes, protocol);
            reader.skip(Type::Struct).unwrap();
            prop_assert!(reader.rest.is_empty());
        }
    }

    #[test]
    fn what_is_cut_is_refused(value in structure(), at in any::<prop::sample::Index>()) {
        for protocol in PROTOCOLS {
            let bytes = value.written(protocol);
            let cut = &bytes[..at.index(bytes.len())];
            prop_assert!(read(&mut Reader::new(cut, protocol), Type::Struct).is_err());
            prop_assert!(Reader::new(cut, protocol).skip(Type::Struct).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for protocol in PROTOCOLS {
            let skipped = Reader::new(&bytes, protocol).skip(Type::Struct);
            let read = read(&mut Reader::new(&bytes, protocol), Type::Struct);
            prop_assert_eq!(skipped.err(), read.err());
        }
    }
}

#[test]
fn maps_and_small_numbers_are_skipped() {
    let pairs = vec![
        (Value::text("k"), Value::I16(-3)),
        (Value::text("l"), Value::I16(300)),
    ];
    let value = Value::Struct(vec![
        (1, Value::I8(7)),
        (2, Value::Map(pairs)),
        (3, Value::Map(Vec::new())),
        (4, Value::I64(5)),
    ]);
    for protocol in PROTOCOLS {
        let bytes = value.written(protocol);
        let mut reader = Reader::new(&bytes, protocol);
        let zero = || Value::I8(0);
        let expect = vec![(1, zero()), (2, zero()), (3, zero()), (4, Value::I64(5))];
        assert_eq!(read(&mut reader, Type::Struct), Ok(Value::Struct(expect)));
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: u8| {
        (1..depth).fold(Value::Struct(Vec::new()), |inner, _| {
            Value::Struct(vec![(1, inner)])
        })
    };
    for protocol in PROTOCOLS {
        let skip =
            |depth| Reader::new(&nested(depth).written(protocol), protocol).skip(Type::Struct);
        assert_eq!(skip(DEPTH_MAX), Ok(()));
        assert_eq!(skip(DEPTH_MAX + 1), Err(ThriftError::TooDeep));
    }
}

#[test]
fn lengths_are_not_trusted() {
    for (protocol, bytes, expect) in [
        (
            Protocol::Binary,
            &[15, 0, 1, 10, 0x7f, 0xff, 0xff, 0xff, 0][..],
            ThriftError::Cut,
        ),
        (
            Protocol::Binary,
            &[15, 0, 1, 10, 0xff, 0xff, 0xff, 0xff, 0],
            ThriftError::BadNumber,
        ),
        (
            Protocol::Binary,
            &[11, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0],
            ThriftError::Cut,
        ),
        (
            Protocol::Binary,
            &[11, 0, 1, 0xff, 0xff, 0xff, 0xff, 0],
            ThriftError::BadNumber,
        ),
        (
            Protocol::Binary,
            &[13, 0, 1, 8, 8, 0x7f, 0xff, 0xff, 0xff],
            ThriftError::Cut,
        ),
        (Protocol::Binary, &[1, 0, 1, 0], ThriftError::BadType(1)),
        (
            Protocol::Binary,
            &[15, 0, 1, 99, 0, 0, 0, 1, 0],
            ThriftError::BadType(99),
        ),
        (
            Protocol::Compact,
            &[0x19, 0xf6, 0xff, 0xff, 0xff, 0xff, 0x0f, 0],
            ThriftError::Cut,
        ),
        (
            Protocol::Compact,
            &[0x18, 0xff, 0xff, 0xff, 0xff, 0x0f, 0],
            ThriftError::Cut,
        ),
        (Protocol::Compact, &[0x1d, 0], ThriftError::BadType(13)),
        (
            Protocol::Compact,
            &[
                0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
            ],
            ThriftError::BadNumber,
        ),
        (
            Protocol::Compact,
            &[0x1b, 0xff, 0xff, 0x03, 0x55],
            ThriftError::Cut,
        ),
    ] {
        let skipped = Reader::new(bytes, protocol).skip(Type::Struct);
        assert_eq!(skipped, Err(expect), "{protocol:?} {bytes:x?}");
    }
}
