//! What is kept and what goes: pure functions of the settings, of what the catalog says and of the
//! time.

use std::time::Duration;

use trine_storage::catalog::{BlockMeta, outdated};
use trine_storage::ulid::BlockId;
use trine_storage::{Labels, Matcher};

use trine_storage::time::nanos;

/// How long the entries of some streams are kept, whatever the retention of the others is.
#[derive(Debug, Clone)]
pub struct RetentionRule {
    /// Which streams: those that satisfy all of these.
    pub matchers: Vec<Matcher>,
    /// How long their entries are kept, longer or shorter than the others; `None` for ever.
    pub keep: Option<Duration>,
    /// Of several rules for a stream the one with the highest priority counts, of those the first.
    pub priority: u32,
}

/// How long entries are kept.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// Of streams that no rule is for.
    keep: Option<Duration>,
    /// The highest priority first.
    rules: Vec<RetentionRule>,
}

/// How much is kept, as far as whole blocks are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Entries of any stream before this are expired.
    pub(crate) oldest_ns: i64,
    pub(crate) bytes: Option<u64>,
}

impl Retention {
    pub(crate) fn new(keep: Option<Duration>, rules: &[RetentionRule]) -> Self {
        let mut rules = rules.to_vec();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
        Self { keep, rules }
    }

    /// Whether streams are kept for different times.
    pub(crate) fn differs(&self) -> bool {
        self.keeps().any(|keep| keep != self.keep)
    }

    /// The shortest time that anything is kept for; `None` when everything is kept for ever.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.keeps().flatten().min()
    }

    fn keeps(&self) -> impl Iterator<Item = Option<Duration>> {
        let of_rules = self.rules.iter().map(|rule| rule.keep);
        of_rules.chain([self.keep])
    }

    /// The oldest timestamp that is kept of a stream.
    pub(crate) fn oldest_ns(&self, labels: &Labels, now_ns: i64) -> i64 {
        let rule = self.rules.iter().find(|rule| {
            let mut matchers = rule.matchers.iter();
            matchers.all(|matcher| matcher.matches_labels(labels))
        });
        oldest_ns(rule.map_or(self.keep, |rule| rule.keep), now_ns)
    }

    /// The oldest timestamp that is kept of any stream.
    pub(crate) fn oldest_of_all_ns(&self, now_ns: i64) -> i64 {
        let oldest = self.keeps().map(|keep| oldest_ns(keep, now_ns));
        oldest.min().unwrap_or(i64::MIN)
    }

    /// Entries from here on are kept whatever their stream is.
    pub(crate) fn newest_expired_ns(&self, now_ns: i64) -> i64 {
        let oldest = self.keeps().map(|keep| oldest_ns(keep, now_ns));
        oldest.max().unwrap_or(i64::MIN)
    }
}

/// The oldest timestamp that is kept, nanoseconds since 1970.
fn oldest_ns(keep: Option<Duration>, now_ns: i64) -> i64 {
    keep.map_or(i64::MIN, |kept| now_ns.saturating_sub(nanos(kept)))
}

/// The blocks whose every entry is expired, and the oldest of those that are more than the bytes
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

    #[test]
    fn a_block_goes_when_its_last_entry_is_too_old() {
        let blocks = [meta(0, 100, 1), meta(100, 200, 1), meta(150, 201, 1)];
        let gone = |retention_ns: Option<u64>, now| {
            let retention = Retention::new(retention_ns.map(Duration::from_nanos), &[]);
            let limits = Limits {
                oldest_ns: retention.oldest_of_all_ns(now),
                bytes: None,
            };
            plan(blocks.iter(), &limits).len()
        };
        for (retention_ns, now, expected) in [
            (None, i64::MAX, 0),
            (Some(50), 149, 0),
            (Some(50), 150, 1),
            (Some(50), 250, 2),
            (Some(50), 251, 3),
            (Some(u64::MAX), 0, 0),
        ] {
            assert_eq!(
                gone(retention_ns, now),
                expected,
                "{retention_ns:?} at {now}"
            );
        }
    }

    #[test]
    fn the_oldest_blocks_go_when_there_are_too_many_bytes() {
        let blocks = [meta(3, 30, 10), meta(1, 10, 10), meta(2, 20, 10)];
        for (bytes, gone) in [
            (30, vec![]),
            (29, vec![1]),
            (20, vec![1]),
            (9, vec![3, 2, 1]),
        ] {
            let limits = Limits {
                oldest_ns: i64::MIN,
                bytes: Some(bytes),
            };
            let gone: Vec<BlockId> = gone.into_iter().map(BlockId::from_bits).collect();
            assert_eq!(plan(blocks.iter(), &limits), gone, "{bytes}");
        }
    }

    #[test]
    fn the_rule_with_the_highest_priority_counts() {
        let rule = |value: &str, keep: Option<u64>, priority| RetentionRule {
            matchers: vec![Matcher::equal("env", value)],
            keep: keep.map(Duration::from_nanos),
            priority,
        };
        let mut rules = vec![
            rule("dev", Some(10), 1),
            rule("prod", None, 1),
            rule("dev", Some(20), 1),
        ];
        let oldest = |rules: &[RetentionRule], env: &str| {
            let retention = Retention::new(Some(Duration::from_nanos(50)), rules);
            let labels = Labels::from_pairs([("env", env)]).unwrap();
            retention.oldest_ns(&labels, 1_000)
        };
        assert_eq!(oldest(&rules, "dev"), 990, "the first of one priority");
        assert_eq!(oldest(&rules, "prod"), i64::MIN, "kept for ever");
        assert_eq!(oldest(&rules, "test"), 950, "no rule");
        rules.push(rule("dev", Some(70), 2));
        assert_eq!(oldest(&rules, "dev"), 930, "the highest priority");
        let retention = Retention::new(Some(Duration::from_nanos(50)), &rules);
        assert_eq!(retention.oldest_of_all_ns(1_000), i64::MIN);
        assert_eq!(retention.newest_expired_ns(1_000), 990);
        assert_eq!(Retention::default().newest_expired_ns(1_000), i64::MIN);
    }
}
