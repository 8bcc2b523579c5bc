//! The tree of patterns of one stream: lines of as many words that begin alike are compared word by
//! word, and where they differ the pattern has a gap. `patterns` calls it. The method is Drain's.

use std::collections::{HashMap, VecDeque};

/// Which part of the words of a line must be those of a pattern, in percent.
const ALIKE_PERCENT: usize = 40;

/// Words of a line that are looked at; what follows varies.
const WORDS_MAX: usize = 100;

/// What stands for words that vary.
const GAP: &str = "<_>";

/// Lines of patterns, by what they have in common without being looked at.
#[derive(Debug, Default)]
pub(super) struct Drain {
    groups: HashMap<Group, Vec<Cluster>>,
    len: usize,
}

/// How many words and marks a line has, and its first word unless that varies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    parts: usize,
    first: Box<str>,
}

/// A pattern, and when it was seen.
#[derive(Debug)]
struct Cluster {
    /// Words and marks; [`None`] is a gap.
    parts: Vec<Option<Box<str>>>,
    /// Buckets of time in order, with lines.
    counts: VecDeque<(i64, u64)>,
}

/// The words of a line, and the marks between them. A word that is or has a number varies.
fn split(line: &str) -> Vec<Option<&str>> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if parts.len() >= WORDS_MAX {
            parts.push(None);
            break;
        }
        let end = match is_mark(first) {
            true => rest.find(|c| !is_mark(c)),
            false => rest.find(is_mark),
        };
        let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
        let varies = !is_mark(first) && part.bytes().any(|byte| byte.is_ascii_digit());
        parts.push((!varies).then_some(part));
        rest = after;
    }
    parts
}

fn is_mark(c: char) -> bool {
    c.is_whitespace() || "=,:;\"'`()[]{}<>|".contains(c)
}

fn is_word(part: &str) -> bool {
    part.chars().next().is_some_and(|c| !is_mark(c))
}

fn group_of(parts: &[Option<&str>]) -> Group {
    let words = |part: &&Option<&str>| part.is_none_or(is_word);
    let first = parts.iter().find(words).copied().flatten();
    Group {
        parts: parts.len(),
        first: first.unwrap_or(GAP).into(),
    }
}

impl Drain {
    /// How many patterns there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Counts a line with the pattern that it has, which is widened to it; false when it has none.
    pub(super) fn count(&mut self, line: &str, bucket: i64, lines: u64) -> bool {
        let parts = split(line);
        let Some(clusters) = self.groups.get_mut(&group_of(&parts)) else {
            return false;
        };
        let scored = clusters.iter_mut().filter_map(|cluster| {
            let alike = cluster.alike(&parts)?;
            Some((alike, cluster))
        });
        let Some((_, best)) = scored.max_by_key(|(alike, _)| *alike) else {
            return false;
        };
        for (held, part) in best.parts.iter_mut().zip(&parts) {
            if held.as_deref() != *part {
                *held = None;
            }
        }
        best.add(bucket, lines);
        true
    }

    /// Makes a pattern of a line.
    pub(super) fn learn(&mut self, line: &str, bucket: i64, lines: u64) {
        let parts = split(line);
        let cluster = Cluster {
            parts: parts.iter().map(|part| part.map(Box::from)).collect(),
            counts: VecDeque::from([(bucket, lines)]),
        };
        self.groups
            .entry(group_of(&parts))
            .or_default()
            .push(cluster);
        self.len += 1;
    }

    /// Drops the pattern that was not seen for longest; false when there is none.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let all = self.groups.iter();
        let all = all.flat_map(|(group, held)| held.iter().map(move |cluster| (group, cluster)));
        let Some((group, seen)) = all
            .map(|(group, cluster)| (group, cluster.seen()))
            .min_by_key(|(_, seen)| *seen)
        else {
            return false;
        };
        let group = group.clone();
        if let Some(held) = self.groups.get_mut(&group) {
            if let Some(at) = held.iter().position(|cluster| cluster.seen() == seen) {
                held.swap_remove(at);
                self.len -= 1;
            }
            if held.is_empty() {
                self.groups.remove(&group);
            }
        }
        true
    }

    /// Drops patterns that were not seen since a bucket; says how many.
    pub(super) fn forget_before(&mut self, bucket: i64) -> usize {
        let before = self.len;
        self.groups.retain(|_, held| {
            held.retain(|cluster| cluster.seen() >= bucket);
            !held.is_empty()
        });
        self.len = self.groups.values().map(Vec::len).sum();
        before - self.len
    }

    /// The patterns that have words, with their counts.
    pub(super) fn patterns(
        &self,
    ) -> impl Iterator<Item = (String, impl Iterator<Item = (i64, u64)>)> {
        let clusters = self.groups.values().flatten();
        let says = |cluster: &&Cluster| cluster.parts.iter().flatten().any(|part| is_word(part));
        clusters
            .filter(says)
            .map(|cluster| (cluster.text(), cluster.counts.iter().copied()))
    }
}

impl Cluster {
    /// How many words a line has in common with the pattern; `None` when they are too few.
    fn alike(&self, parts: &[Option<&str>]) -> Option<usize> {
        let (mut words, mut same) = (0, 0);
        for (held, part) in self.parts.iter().zip(parts) {
            match (held.as_deref(), *part) {
                (Some(held), Some(part)) if !is_word(held) || !is_word(part) => {
                    if held != part {
                        return None;
                    }
                }
                // A gap in the pattern has no mark beneath it.
                (None, Some(part)) if !is_word(part) => return None,
                (Some(held), None) if !is_word(held) => return None,
                (Some(held), Some(part)) => {
                    words += 1;
                    same += usize::from(held == part);
                }
                (None, _) | (_, None) => {}
            }
        }
        (same * 100 >= words * ALIKE_PERCENT).then_some(same)
    }

    fn add(&mut self, bucket: i64, lines: u64) {
        let at = self.counts.partition_point(|(held, _)| *held < bucket);
        match self.counts.get_mut(at) {
            Some((held, count)) if *held == bucket => *count += lines,
            _ => self.counts.insert(at, (bucket, lines)),
        }
        let kept = super::KEPT_S / super::BUCKET_S;
        while self
            .counts
            .front()
            .is_some_and(|(held, _)| *held < self.seen() - kept)
        {
            self.counts.pop_front();
        }
    }

    /// The last bucket in which it was seen.
    fn seen(&self) -> i64 {
        self.counts.back().map_or(i64::MIN, |(bucket, _)| *bucket)
    }

    /// The pattern as a text; gaps that meet are one.
    fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Some(part) => text.push_str(part),
                None if text.ends_with(GAP) => {}
                None => text.push_str(GAP),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(lines: &[&str]) -> Vec<(String, u64)> {
        let mut drain = Drain::default();
        for line in lines {
            if !drain.count(line, 1, 1) {
                drain.learn(line, 1, 1);
            }
        }
        let patterns = drain.patterns();
        let mut told: Vec<_> = patterns
            .map(|(text, counts)| (text, counts.map(|(_, count)| count).sum()))
            .collect();
        told.sort();
        told
    }

    #[test]
    fn what_varies_is_a_gap() {
        for (lines, expect) in [
            (&["GET /a 200", "GET /b 404"][..], &[("GET <_> <_>", 2)][..]),
            (
                &[
                    "level=info msg=\"user alice came\"",
                    "level=info msg=\"user bob came\"",
                ],
                &[("level=info msg=\"user <_> came\"", 2)],
            ),
            (
                &["connection refused", "disk full"],
                &[("connection refused", 1), ("disk full", 1)],
            ),
            (
                &[r#"{"a":1,"b":"x"}"#, r#"{"a":2,"b":"x"}"#],
                &[(r#"{"a":<_>,"b":"x"}"#, 2)],
            ),
            (&["42", "43"], &[]),
            (&["", "  "], &[]),
            (&["a b c", "a b c d"], &[("a b c", 1), ("a b c d", 1)]),
        ] {
            let expect: Vec<_> = expect
                .iter()
                .map(|(text, count)| ((*text).to_owned(), *count))
                .collect();
            assert_eq!(learned(lines), expect, "{lines:?}");
        }
    }

    #[test]
    fn long_lines_end_with_a_gap() {
        let long = "w ".repeat(WORDS_MAX);
        let told = learned(&[&long]);
        assert!(told[0].0.ends_with("w <_>"), "{told:?}");
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut drain = Drain::default();
        for (line, bucket) in [("a", 3), ("b", 1), ("c", 2)] {
            drain.learn(line, bucket, 1);
        }
        assert!(drain.forget_oldest());
        let mut left: Vec<String> = drain.patterns().map(|(text, _)| text).collect();
        left.sort();
        assert_eq!(left, ["a", "c"]);
        assert_eq!(drain.forget_before(3), 1);
        assert_eq!(drain.len(), 1);
        assert!(drain.forget_oldest());
        assert!(!drain.forget_oldest());
    }
}
