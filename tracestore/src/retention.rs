//! What is kept and what goes: pure functions of the settings, of what the catalog says and of the
//! time.

use std::time::Duration;

use trine_storage::catalog::{BlockMeta, outdated};
use trine_storage::ulid::BlockId;

use crate::request::Filter;
use trine_storage::time::nanos;

/// How long some traces are kept, whatever the retention of the others is.
#[derive(Debug, Clone)]
pub struct RetentionRule {
    /// Which traces: those of which some span satisfies this. Spans of a trace that lie in several
    /// blocks are judged on their own until these become one, as blocks of one time do.
    pub filter: Filter,
    /// How long they are kept, longer or shorter than the others; `None` for ever. Of several rules
    /// that are for a trace the longest counts.
    pub keep: Option<Duration>,
}

/// How long traces are kept.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// Those that no rule is for.
    keep: Option<Duration>,
    pub(crate) rules: Vec<RetentionRule>,
}

/// How much is kept, as far as whole blocks are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Every trace that began before this is expired.
    pub(crate) oldest_ns: i64,
    pub(crate) bytes: Option<u64>,
}

impl Retention {
    pub(crate) fn new(keep: Option<Duration>, rules: &[RetentionRule]) -> Self {
        let rules = rules.to_vec();
        Self { keep, rules }
    }

    /// The oldest start that is kept of traces that no rule is for, then of those of each rule.
    pub(crate) fn oldest_ns(&self, now_ns: i64) -> impl Iterator<Item = i64> {
        let oldest = move |keep: Duration| now_ns.saturating_sub(nanos(keep));
        self.keeps().map(move |keep| keep.map_or(i64::MIN, oldest))
    }

    /// The oldest start that is kept of any trace.
    pub(crate) fn oldest_of_all_ns(&self, now_ns: i64) -> i64 {
        self.oldest_ns(now_ns).min().unwrap_or(i64::MIN)
    }

    /// Traces that began from here on are kept whatever they are.
    pub(crate) fn newest_expired_ns(&self, now_ns: i64) -> i64 {
        self.oldest_ns(now_ns).max().unwrap_or(i64::MIN)
    }

    /// The shortest time that anything is kept for; `None` when everything is kept for ever.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.keeps().flatten().min()
    }

    fn keeps(&self) -> impl Iterator<Item = Option<Duration>> {
        let of_rules = self.rules.iter().map(|rule| rule.keep);
        std::iter::once(self.keep).chain(of_rules)
    }
}

/// The blocks of which everything is expired, and the oldest of those that are more than the bytes
/// that are kept.
pub(crate) fn plan<'a>(
    blocks: impl Iterator<Item = &'a BlockMeta>,
    limits: &Limits,
) -> Vec<BlockId> {
    outdated(blocks, limits.oldest_ns, limits.bytes)
}

#[cfg(test)]
mod tests {
    use trine_storage::TimeRange;

    use super::*;

    fn meta(start: i64, end: i64, bytes: u64) -> BlockMeta {
        BlockMeta {
            id: BlockId::from_bits(start as u128),
            range: TimeRange::new(start, end),
            rows: 1,
            bytes,
            level: 0,
            sequence: 0,
            created_ms: 0,
            deletes_applied: 0,
        }
    }

    fn rules(keeps: &[Option<u64>]) -> Vec<RetentionRule> {
        let rule = |keep: &Option<u64>| RetentionRule {
            filter: Filter::And(vec![]),
            keep: keep.map(Duration::from_nanos),
        };
        keeps.iter().map(rule).collect()
    }

    #[test]
    fn a_block_goes_when_its_last_span_is_too_old() {
        let blocks = [meta(0, 100, 1), meta(100, 200, 1), meta(150, 201, 1)];
        for (kept_ns, rule_ns, now, expected) in [
            (None, Some(1), i64::MAX, 0),
            (Some(50), Some(1), 149, 0),
            (Some(50), Some(1), 150, 1),
            (Some(50), Some(1), 250, 2),
            (Some(50), Some(1), 251, 3),
            (Some(1), Some(50), 250, 2),
            (Some(1), None, i64::MAX, 0),
            (Some(u64::MAX), Some(1), 0, 0),
        ] {
            let keep = kept_ns.map(Duration::from_nanos);
            let retention = Retention::new(keep, &rules(&[rule_ns]));
            let limits = Limits {
                oldest_ns: retention.oldest_of_all_ns(now),
                bytes: None,
            };
            let gone = plan(blocks.iter(), &limits).len();
            assert_eq!(gone, expected, "{kept_ns:?} {rule_ns:?} at {now}");
        }
    }

    #[test]
    fn the_longest_and_the_shortest_time_are_told() {
        let retention = Retention::new(
            Some(Duration::from_nanos(50)),
            &rules(&[Some(20), Some(70)]),
        );
        assert_eq!(retention.oldest_of_all_ns(1_000), 930);
        assert_eq!(retention.newest_expired_ns(1_000), 980);
        assert_eq!(retention.shortest(), Some(Duration::from_nanos(20)));
        assert_eq!(Retention::default().newest_expired_ns(1_000), i64::MIN);
    }
}
