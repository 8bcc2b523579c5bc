//! What one record of the log holds: the requests of one commit as they came (`FORMAT.md`, "WAL record").
//! `db` writes and replays it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{Reader, put_signed, put_varint};
use trine_storage::{Error, Kind, Result};

use crate::otlp::Bounds;
use crate::stage::Stage;
use crate::stats::Accepted;

/// Bounds and a request. Version 1 had spans in bytes of their own.
const VERSION: u8 = 2;

const NAME: &str = "a record of the write-ahead log";

/// The record's bytes but for the request, which is its end.
pub(crate) fn encode_head(bounds: &Bounds) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_signed(&mut out, bounds.oldest_ns);
    put_signed(&mut out, bounds.newest_ns);
    put_varint(&mut out, bounds.span_bytes_max);
    put_varint(&mut out, bounds.attributes_max);
    out
}

/// The bounds and the request of a record.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are no record, [`Kind::Unsupported`] when another version wrote
/// them.
pub(crate) fn decode(record: &[u8]) -> Result<(Bounds, &[u8])> {
    let mut reader = Reader::new(NAME, record);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(Error::new(
            Kind::Unsupported,
            format!("a record of the log has version {version}, this program reads {VERSION}"),
        ));
    }
    let bounds = Bounds {
        oldest_ns: reader.signed()?,
        newest_ns: reader.signed()?,
        span_bytes_max: reader.varint()?,
        attributes_max: reader.varint()?,
    };
    let request = reader.take(reader.remaining())?;
    Ok((bounds, request))
}

/// Stores the spans of a record as they were stored the first time.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are no record, [`Kind::Unsupported`] when another version wrote
/// them. Nothing is stored then.
pub(crate) fn replay(record: &[u8], stage: &mut Stage) -> Result<Accepted> {
    let (bounds, request) = decode(record)?;
    stage.push_request(request, &bounds).map_err(|error| {
        let offset = (record.len() - request.len()) as u64;
        match error.kind() {
            Kind::Invalid => Error::corrupt(NAME, offset, error),
            _ => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Span;
    use crate::otlp::Writer;
    use crate::otlp::tests::{ANY, good, request, trace};

    fn record(bounds: &Bounds, request: &[u8]) -> Vec<u8> {
        [&encode_head(bounds), request].concat()
    }

    /// The bytes written down in FORMAT.md, "WAL record".
    #[test]
    fn golden_bytes() {
        let bounds = Bounds {
            oldest_ns: -1,
            newest_ns: 1_000,
            span_bytes_max: 300,
            attributes_max: 2,
        };
        let mut writer = Writer::default();
        writer.push(&Arc::default(), &Arc::default(), &good());
        let mut expected = vec![2, 1, 0xd0, 0x0f, 0xac, 2, 2];
        expected.extend([0x0a, 57, 0x0a, 0, 0x12, 53, 0x0a, 0, 0x12, 49, 0x0a, 16]);
        expected.extend([1; 16]);
        expected.extend([0x12, 8]);
        expected.extend([2; 8]);
        expected.extend([0x2a, 1, b'n', 0x39, 0xe8, 3, 0, 0, 0, 0, 0, 0]);
        expected.extend([0x41, 0xeb, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record(&bounds, &writer.finish()), expected);
        let mut stage = Stage::default();
        assert_eq!(replay(&expected, &mut stage).unwrap().stored, 1);
        for cut in 1..7 {
            let error = replay(&expected[..cut], &mut Stage::default()).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "cut at {cut}");
        }
        let error = replay(&expected[..expected.len() - 1], &mut stage).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let text = "a record of the write-ahead log is damaged at byte 7: the request is malformed";
        assert!(error.to_string().starts_with(text), "{error}");
    }

    #[test]
    fn another_version_is_refused_by_number() {
        for version in [1, 9] {
            let error = replay(&[version], &mut Stage::default()).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            let text = format!("version {version}");
            assert!(error.to_string().contains(&text), "{error}");
        }
    }

    #[test]
    fn a_replay_refuses_what_was_refused() {
        let mut writer = Writer::default();
        for start_ns in [999, 1_000, 2_000, 2_001] {
            let span = Span { start_ns, ..good() };
            writer.push(&Arc::default(), &Arc::default(), &span);
        }
        let bounds = Bounds {
            oldest_ns: 1_000,
            newest_ns: 2_000,
            ..ANY
        };
        let request = writer.finish();
        let (mut first, mut again) = (Stage::default(), Stage::default());
        let accepted = first.push_request(&request, &bounds).unwrap();
        assert_eq!((accepted.stored, accepted.rejected.len()), (2, 2));
        assert_eq!(
            replay(&record(&bounds, &request), &mut again).unwrap(),
            accepted
        );
        assert_eq!(format!("{again:?}"), format!("{first:?}"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_replay_stores_what_was_stored(trace in trace(), oldest_ns: i64, newest_ns: i64) {
            let request = request(&trace);
            let bounds = Bounds { oldest_ns, newest_ns, span_bytes_max: 200, attributes_max: 3 };
            let (mut first, mut again) = (Stage::default(), Stage::default());
            let accepted = first.push_request(&request, &bounds).unwrap();
            prop_assert_eq!(replay(&record(&bounds, &request), &mut again).unwrap(), accepted);
            prop_assert_eq!(format!("{:?}", again), format!("{:?}", first));
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>) {
            replay(&bytes, &mut Stage::default()).ok();
            bytes.insert(0, VERSION);
            replay(&bytes, &mut Stage::default()).ok();
        }
    }
}
