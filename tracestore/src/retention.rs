//! Which blocks go: a pure function of what the catalog says and the time.

use std::time::Duration;

use trine_storage::catalog::{BlockMeta, outdated};
use trine_storage::ulid::BlockId;

/// The oldest timestamp that is kept, nanoseconds since 1970.
pub(crate) fn oldest_ns(retention: Option<Duration>, now_ns: i64) -> i64 {
    retention.map_or(i64::MIN, |kept| {
        now_ns.saturating_sub(i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX))
    })
}

/// The blocks whose every span is older than the retention.
pub(crate) fn plan<'a>(
    blocks: impl Iterator<Item = &'a BlockMeta>,
    retention: Option<Duration>,
    now_ns: i64,
) -> Vec<BlockId> {
    outdated(blocks, oldest_ns(retention, now_ns), None)
}

#[cfg(test)]
mod tests {
    use trine_storage::TimeRange;

    use super::*;

    #[test]
    fn a_block_goes_when_its_last_span_is_too_old() {
        let meta = |start, end| BlockMeta {
            id: BlockId::from_bits(start as u128),
            range: TimeRange::new(start, end),
            rows: 1,
            bytes: 1,
            level: 0,
            sequence: 0,
            created_ms: 0,
            deletes_applied: 0,
        };
        let blocks = [meta(0, 100), meta(100, 200), meta(150, 201)];
        let gone = |retention_ns: Option<u64>, now| {
            plan(blocks.iter(), retention_ns.map(Duration::from_nanos), now).len()
        };
        for (retention_ns, now, expected) in [
            (None, i64::MAX, 0),
            (Some(50), 149, 0),
            (Some(50), 150, 1),
            (Some(50), 250, 2),
            (Some(50), 251, 3),
            (Some(u64::MAX), 1_000, 0),
        ] {
            assert_eq!(
                gone(retention_ns, now),
                expected,
                "{retention_ns:?} at {now}"
            );
        }
    }
}
