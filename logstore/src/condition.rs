//! Conditions of deletes that the store does not understand. Whoever embeds it says what their texts
//! mean (`Builder::language`); `tombstone` asks them, after matchers, times and line filters.

use std::fmt;
use std::sync::Arc;

use trine_storage::{Error, Kind, Labels, Result};

use crate::request::{Lines, RowBatch};

/// Which entries a delete concerns, beyond what matchers and line filters say.
pub trait Condition: fmt::Debug + Send + Sync {
    /// For each of `rows` whether it meets the condition. What is given for one row never depends
    /// on the others.
    fn met_by(&self, rows: RowBatch) -> Vec<bool>;
}

/// What texts mean as conditions.
pub trait Language: fmt::Debug + Send + Sync {
    /// The condition that `text` stands for.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn condition(&self, text: &str) -> Result<Arc<dyn Condition>, String>;
}

/// A condition and the text that stands for it.
#[derive(Debug)]
pub(crate) struct Spoken {
    pub(crate) text: String,
    pub(crate) condition: Arc<dyn Condition>,
}

impl Spoken {
    /// # Errors
    /// [`Kind::Unsupported`] without a language, [`Kind::Invalid`] when it does not know the text.
    pub(crate) fn new(text: &str, language: Option<&dyn Language>) -> Result<Self> {
        let language = language.ok_or_else(|| {
            let told = format!(
                "the condition {text:?} of a delete needs a language; open the store with one"
            );
            Error::new(Kind::Unsupported, told)
        })?;
        let condition = language
            .condition(text)
            .map_err(|why| Error::invalid(format!("the condition {text:?} of a delete: {why}")))?;
        Ok(Self {
            text: text.to_owned(),
            condition,
        })
    }
}

/// Entries of one stream as columns, to be asked about.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    rows: RowBatch,
    blob: Vec<u8>,
}

impl Asked {
    pub(crate) fn of(stream: &Labels) -> Self {
        let rows = RowBatch {
            streams: vec![stream.clone()],
            metadata_sets: vec![Labels::empty()],
            ..RowBatch::default()
        };
        Self {
            rows,
            blob: Vec::new(),
        }
    }

    /// Adds an entry. The lines are those of one chunk, or of a page.
    pub(crate) fn push(&mut self, timestamp: i64, line: &[u8], metadata: Labels) {
        self.blob.extend_from_slice(line);
        let end = u32::try_from(self.blob.len()).expect("a chunk is far below 4 GiB");
        let sets = &mut self.rows.metadata_sets;
        if sets.last() != Some(&metadata) {
            sets.push(metadata);
        }
        let set = u32::try_from(sets.len() - 1).unwrap_or(0);
        self.rows.stream.push(0);
        self.rows.timestamps.push(timestamp);
        self.rows.lines.ends.push(end);
        self.rows.metadata.push(set);
    }

    pub(crate) fn ask(mut self, condition: &dyn Condition) -> Vec<bool> {
        self.rows.lines = Lines {
            blob: self.blob.into(),
            ends: self.rows.lines.ends,
        };
        condition.met_by(self.rows)
    }
}
