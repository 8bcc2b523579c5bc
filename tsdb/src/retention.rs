//! Which blocks go: a pure function of what the catalog says and the time.

use std::time::Duration;

use trine_storage::catalog::{BlockMeta, outdated};
use trine_storage::ulid::BlockId;

/// The oldest timestamp that is kept, milliseconds since 1970.
pub(crate) fn oldest_ms(retention: Option<Duration>, now_ms: i64) -> i64 {
    retention.map_or(i64::MIN, |kept| {
        now_ms.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX))
    })
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) age: Option<Duration>,
    pub(crate) bytes: Option<u64>,
}

/// The blocks whose every sample is older than the retention, and the oldest of those that are more
/// than the bytes that are kept.
pub(crate) fn plan<'a>(
    blocks: impl Iterator<Item = &'a BlockMeta>,
    limits: &Limits,
    now_ms: i64,
) -> Vec<BlockId> {
    outdated(blocks, oldest_ms(limits.age, now_ms), limits.bytes)
}

#[cfg(test)]
mod tests {
    use trine_storage::TimeRange;

    use super::*;

    #[test]
    fn a_block_goes_when_its_last_sample_is_too_old() {
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
        let gone = |retention_ms: Option<u64>, now| {
            let limits = Limits {
                age: retention_ms.map(Duration::from_millis),
                bytes: None,
            };
            plan(blocks.iter(), &limits, now).len()
        };
        for (retention_ms, now, expected) in [
            (None, i64::MAX, 0),
            (Some(50), 149, 0),
            (Some(50), 150, 1),
            (Some(50), 250, 2),
            (Some(50), 251, 3),
            (Some(u64::MAX), 1_000, 0),
        ] {
            assert_eq!(
                gone(retention_ms, now),
                expected,
                "{retention_ms:?} at {now}"
            );
        }
    }

    #[test]
    fn the_oldest_blocks_go_when_there_are_too_many_bytes() {
        let meta = |number: u128| BlockMeta {
            id: BlockId::from_bits(number),
            range: TimeRange::new(0, number as i64),
            rows: 1,
            bytes: 10,
            level: 1,
            sequence: 0,
            created_ms: 0,
            deletes_applied: 0,
        };
        let blocks = [meta(3), meta(1), meta(2)];
        for (bytes, gone) in [
            (30, vec![]),
            (29, vec![1]),
            (20, vec![1]),
            (9, vec![3, 2, 1]),
        ] {
            let limits = Limits {
                age: None,
                bytes: Some(bytes),
            };
            let gone: Vec<BlockId> = gone.into_iter().map(BlockId::from_bits).collect();
            assert_eq!(plan(blocks.iter(), &limits, 0), gone, "{bytes}");
        }
    }
}
