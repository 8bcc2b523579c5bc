//! What becomes of appended entries: how many are stored, which are refused and why.

use std::fmt;

/// What became of a committed batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Entries that are stored, or were in memory already, byte for byte the same.
    pub stored: u64,
    /// Of those, entries whose line was cut at `Config::line_bytes_max`.
    pub truncated: u64,
    /// Entries that are not, by reason.
    pub rejected: Vec<Rejected>,
}

/// Entries of one batch that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// How many.
    pub count: u64,
    /// The first of them: its stream, its timestamp and what was too much.
    pub example: String,
}

/// Why an entry was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Its timestamp lies before the retention.
    TooOld,
    /// Its timestamp lies further ahead of the clock than `Config::future_max`.
    TooFarInFuture,
    /// Its line is longer than `Config::line_bytes_max`.
    LineTooLong,
    /// Its stream has more labels than `Config::labels_max`.
    TooManyLabels,
    /// The labels of its stream take more bytes than `Config::labels_bytes_max`.
    LabelsTooLarge,
    /// Its metadata takes more bytes than `Config::metadata_bytes_max`.
    MetadataTooLarge,
    /// Its metadata has more pairs than `Config::metadata_max`.
    TooManyMetadata,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooOld => "timestamp too old",
            Self::TooFarInFuture => "timestamp too new",
            Self::LineTooLong => "line too long",
            Self::TooManyLabels => "too many labels",
            Self::LabelsTooLarge => "labels too large",
            Self::MetadataTooLarge => "structured metadata too large",
            Self::TooManyMetadata => "too many structured metadata labels",
        })
    }
}

impl Accepted {
    /// Counts one refused entry; `example` is only asked for the first of a reason.
    pub(crate) fn reject(&mut self, reason: Reason, example: impl FnOnce() -> String) {
        match self
            .rejected
            .iter_mut()
            .find(|rejected| rejected.reason == reason)
        {
            Some(rejected) => rejected.count += 1,
            None => self.rejected.push(Rejected {
                reason,
                count: 1,
                example: example(),
            }),
        }
    }
}
