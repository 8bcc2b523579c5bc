//! Labels of a metric series as senders write them: checked against the limits, brought into
//! order, encoded. The translators of metrics call it. The refusals have the words of Prometheus
//! and Mimir, because senders' operators search for them.

use std::fmt::Write as _;

use trine_storage::Labels;
use trine_storage::labels::LabelsBuffer;

use crate::config::Limits;

/// A label as bytes.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// Characters of a text of a sender that are repeated to it.
const SHOWN_MAX: usize = 200;

/// What a series may be, and which label of it goes.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The limits.
    pub limits: &'a Limits,
    /// The name of the label that tells replicas of a sender apart, when it is to be removed.
    pub dropped: Option<&'a str>,
}

impl<'a> Rules<'a> {
    /// Nothing but limits.
    pub fn of(limits: &'a Limits) -> Self {
        Self {
            limits,
            dropped: None,
        }
    }

    /// Labels that have to be read of a series, so that one too many shows.
    pub fn labels_read_max(&self) -> usize {
        // One more may be removed.
        self.limits.metric_labels_max.saturating_add(2)
    }

    fn drops(&self, name: &[u8]) -> bool {
        self.dropped
            .is_some_and(|dropped| dropped.as_bytes() == name)
    }

    /// Puts the labels of a series into `out`. There are `count` of them, of which the first
    /// [`Rules::labels_read_max`] are in `pairs`.
    ///
    /// # Errors
    /// The refusal's text.
    pub fn encode(
        &self,
        pairs: &[Pair<'_>],
        count: usize,
        out: &mut LabelsBuffer,
    ) -> Result<(), String> {
        out.clear();
        let mut named = false;
        let limits = self.limits;
        let plain = count <= limits.metric_labels_max
            && pairs.iter().all(|(name, value)| {
                named |= *name == b"__name__";
                name.len() <= limits.metric_label_name_bytes_max
                    && value.len() <= limits.metric_label_value_bytes_max
                    && !self.drops(name)
                    && out.push(name, value)
            });
        if plain && named {
            return Ok(());
        }
        // Unsorted, or something is wrong with it: in full, with words.
        let sorted = self.sort(pairs, count)?;
        out.clear();
        for (name, value) in &sorted {
            out.push(name.as_bytes(), value.as_bytes());
        }
        Ok(())
    }

    fn sort(&self, pairs: &[Pair<'_>], count: usize) -> Result<Labels, String> {
        let text = |bytes| std::str::from_utf8(bytes);
        let kept = pairs.iter().filter(|(name, _)| !self.drops(name));
        let texts: Result<Vec<(&str, &str)>, _> = kept
            .map(|(name, value)| Ok((text(name)?, text(value)?)))
            .collect();
        let texts = texts.map_err(|_: std::str::Utf8Error| invalid(&shown(pairs)))?;
        let count = count - (pairs.len() - texts.len());
        check_count(count, self.limits, || shown(pairs))?;
        if texts.iter().any(|(name, _)| name.is_empty()) {
            return Err(invalid(&shown(pairs)));
        }
        for (place, (name, _)) in texts.iter().enumerate() {
            if texts.iter().take(place).any(|(earlier, _)| earlier == name) {
                let labels = shown(pairs);
                return Err(format!(
                    "invalid labels for series, labels {labels}, duplicated label {name}"
                ));
            }
        }
        let sorted = Labels::from_pairs(texts).map_err(|error| error.to_string())?;
        admit(&sorted, self.limits)?;
        Ok(sorted)
    }
}

/// Checks a series' labels against the limits.
///
/// # Errors
/// The refusal's text.
pub fn admit(labels: &Labels, limits: &Limits) -> Result<(), String> {
    if labels.get("__name__").is_none() {
        return Err(invalid(&shown_set(labels)));
    }
    let mut count = 0;
    for (name, value) in labels {
        count += 1;
        if name.len() > limits.metric_label_name_bytes_max {
            return Err(format!(
                "received a series whose label name length exceeds the limit, label: '{}' series: \
                 '{}' (err-mimir-label-name-too-long); it has {} bytes, metric-label-name-bytes-max \
                 is {}",
                start(name),
                shown_set(labels),
                name.len(),
                limits.metric_label_name_bytes_max
            ));
        }
        if value.len() > limits.metric_label_value_bytes_max {
            return Err(format!(
                "received a series whose label value length of {} exceeds the limit of {}, label: \
                 '{}', value: '{}' (truncated) series: '{}' (err-mimir-label-value-too-long); \
                 metric-label-value-bytes-max is the setting",
                value.len(),
                limits.metric_label_value_bytes_max,
                start(name),
                start(value),
                shown_set(labels)
            ));
        }
    }
    check_count(count, limits, || shown_set(labels))
}

fn check_count(
    count: usize,
    limits: &Limits,
    shown: impl FnOnce() -> String,
) -> Result<(), String> {
    let max = limits.metric_labels_max;
    if count <= max {
        return Ok(());
    }
    Err(format!(
        "received a series whose number of labels exceeds the limit (actual: {count}, limit: \
         {max}) series: '{}' (err-mimir-max-label-names-per-series); metric-labels-max is the \
         setting",
        shown()
    ))
}

fn invalid(labels: &str) -> String {
    format!("invalid metric name or labels, got {labels}")
}

/// Labels as PromQL writes them, whatever they are; the beginning of it when they are many.
pub fn shown(pairs: &[Pair<'_>]) -> String {
    let mut out = String::from("{");
    for (place, (name, value)) in pairs.iter().enumerate() {
        if out.len() > SHOWN_MAX {
            break;
        }
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        let comma = if place == 0 { "" } else { ", " };
        // Infallible: the target is a String.
        write!(out, "{comma}{}={:?}", start(&name), start(&value)).ok();
    }
    out.push('}');
    out
}

fn shown_set(labels: &Labels) -> String {
    start(&labels.to_string())
}

/// The beginning of a text.
fn start(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use trine_storage::labels::LabelsBuffer;

    use super::{Limits, Rules, shown};

    fn limits() -> Limits {
        Limits {
            metric_labels_max: 3,
            metric_label_name_bytes_max: 8,
            metric_label_value_bytes_max: 4,
            ..Limits::default()
        }
    }

    /// The labels that pairs become, or what the refusal begins with.
    fn check(dropped: Option<&str>, pairs: &[(&str, &str)], expect: Result<&str, &str>) {
        let limits = limits();
        let rules = Rules {
            dropped,
            ..Rules::of(&limits)
        };
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let read = &pairs[..pairs.len().min(rules.labels_read_max())];
        let mut out = LabelsBuffer::default();
        match (rules.encode(read, pairs.len(), &mut out), expect) {
            (Ok(()), Ok(expect)) => {
                assert_eq!(out.to_labels().unwrap().to_string(), expect, "{pairs:?}");
            }
            (Err(told), Err(expect)) => assert!(told.starts_with(expect), "{told}"),
            (got, expect) => panic!("{pairs:?}: {got:?}, {expect:?}"),
        }
    }

    #[test]
    fn labels_in_any_order() {
        let name = ("__name__", "up");
        check(None, &[name, ("a", "b")], Ok(r#"{__name__="up", a="b"}"#));
        check(None, &[("a", "b"), name], Ok(r#"{__name__="up", a="b"}"#));
        check(None, &[name, ("a", "")], Ok(r#"{__name__="up"}"#));
        check(None, &[("A", "b"), name], Ok(r#"{A="b", __name__="up"}"#));
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_the_originals() {
        let name = ("__name__", "up");
        check(
            None,
            &[("a", "b")],
            Err(r#"invalid metric name or labels, got {a="b"}"#),
        );
        check(
            None,
            &[("__name__", "")],
            Err("invalid metric name or labels"),
        );
        check(None, &[], Err("invalid metric name or labels, got {}"));
        check(
            None,
            &[name, ("", "b")],
            Err("invalid metric name or labels"),
        );
        check(
            None,
            &[name, ("a", "b"), ("a", "c")],
            Err(
                r#"invalid labels for series, labels {__name__="up", a="b", a="c"}, duplicated label a"#,
            ),
        );
        check(
            None,
            &[name, ("a", ""), ("a", "")],
            Err("invalid labels for series"),
        );
        let limits = limits();
        let bytes: &[(&[u8], &[u8])] = &[(b"__name__", b"\xff")];
        let told = Rules::of(&limits).encode(bytes, 1, &mut LabelsBuffer::default());
        // What is not UTF-8 is found when the series turns out not to be known.
        assert!(told.is_ok());
        let bytes: &[(&[u8], &[u8])] = &[(b"b", b"\xff"), (b"__name__", b"x")];
        let told = Rules::of(&limits).encode(bytes, 2, &mut LabelsBuffer::default());
        assert!(told.unwrap_err().starts_with("invalid metric name"));
    }

    #[test]
    fn limits_at_their_edges() {
        let name = ("__name__", "1234");
        let edge = [name, ("a2345678", "b"), ("c", "d")];
        check(None, &edge, Ok(r#"{__name__="1234", a2345678="b", c="d"}"#));
        check(
            None,
            &[("__name__", "12345")],
            Err(
                "received a series whose label value length of 5 exceeds the limit of 4, label: \
                 '__name__', value: '12345' (truncated)",
            ),
        );
        check(
            None,
            &[name, ("a23456789", "b")],
            Err("received a series whose label name length exceeds the limit, label: 'a23456789'"),
        );
        let text = "received a series whose number of labels exceeds the limit (actual: 4, limit: \
                    3) series:";
        check(None, &[name, ("a", "b"), ("c", "d"), ("e", "f")], Err(text));
        let many = [name; 9];
        let text = "received a series whose number of labels exceeds the limit (actual: 9";
        check(None, &many, Err(text));
    }

    #[test]
    fn a_label_is_removed_before_the_others_are_counted() {
        let (name, replica) = (("__name__", "up"), ("r", "1"));
        let four = [name, ("a", "b"), ("c", "d"), replica];
        let three = Ok(r#"{__name__="up", a="b", c="d"}"#);
        check(Some("r"), &four, three);
        check(Some("r"), &four[..3], three);
        check(None, &four, Err("received a series whose number of labels"));
        let five = [name, ("a", "b"), ("c", "d"), ("e", "f"), replica];
        check(
            Some("r"),
            &five,
            Err("received a series whose number of labels exceeds the limit (actual: 4"),
        );
    }

    #[test]
    fn what_is_shown_has_an_end() {
        let long = "x".repeat(1000);
        let pairs = [(long.as_bytes(), long.as_bytes()); 10];
        assert!(shown(&pairs).len() < 500);
    }
}
