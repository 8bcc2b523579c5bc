//! What of a request was not stored, and why. Every translator of `ingest` fills one; the
//! protocols tell it to the sender in their own way.

use std::fmt::Write as _;

/// Different reasons that are told in one answer; more are only counted.
const TEXTS_MAX: usize = 10;

/// Refused parts of one request. Empty when all was stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejections {
    count: u64,
    texts: Vec<String>,
    busy: bool,
}

impl Rejections {
    /// `count` parts were refused for the reason that `text` gives. A text that was already given
    /// is not repeated.
    pub fn add(&mut self, count: u64, text: impl Into<String>) {
        self.count += count;
        let text = text.into();
        if self.texts.len() < TEXTS_MAX && !self.texts.contains(&text) {
            self.texts.push(text);
        }
    }

    /// As [`Rejections::add`], of parts that came too fast and may come again later.
    pub fn add_busy(&mut self, count: u64, text: impl Into<String>) {
        self.busy = true;
        self.add(count, text);
    }

    /// Whether some parts only came too fast.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Something beside the parts that are counted was not stored, for the reason that `text` gives.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.add(0, text);
    }

    /// Whether everything was stored.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.texts.is_empty()
    }

    /// Counts `max` parts at most.
    pub fn limit(&mut self, max: u64) {
        self.count = self.count.min(max);
    }

    /// How many parts were refused.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The reasons, joined by `separator`.
    pub fn text(&self, separator: &str) -> String {
        let mut out = self.texts.join(separator);
        if self.texts.len() == TEXTS_MAX {
            // Infallible: the target is a String.
            write!(out, "{separator}(refused in all: {})", self.count).ok();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{Rejections, TEXTS_MAX};

    #[test]
    fn reasons_are_told_once_and_not_without_end() {
        let mut rejections = Rejections::default();
        assert!(rejections.is_empty());
        rejections.add(2, "a");
        rejections.add(3, "a");
        rejections.add(1, "b");
        assert_eq!(
            (rejections.count(), rejections.text("; ").as_str()),
            (6, "a; b")
        );
        for i in 0..2 * TEXTS_MAX {
            rejections.add(1, i.to_string());
        }
        let text = rejections.text("\n");
        assert_eq!(text.lines().count(), TEXTS_MAX + 1);
        assert!(text.ends_with("(refused in all: 26)"), "{text}");
        let mut rejections = Rejections::default();
        rejections.warn("w");
        assert_eq!((rejections.count(), rejections.is_empty()), (0, false));
        rejections.add(7, "many");
        rejections.limit(5);
        assert_eq!((rejections.count(), rejections.is_busy()), (5, false));
        rejections.add_busy(1, "fast");
        assert_eq!((rejections.count(), rejections.is_busy()), (6, true));
    }
}
