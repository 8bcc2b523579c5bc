//! Deletes that are in force: which samples of which files are not to be seen.

use std::sync::Arc;

use trine_storage::catalog::{BlockMeta, Delete};
use trine_storage::{Error, Kind, Labels, MatchOp, Matcher, Result};

use crate::columns::Columns;
use crate::exemplar::Exemplar;

/// One delete, ready to be asked.
#[derive(Debug)]
pub(crate) struct Tombstone {
    pub(crate) delete: Delete,
    matchers: Vec<Matcher>,
}

impl Tombstone {
    /// A delete of the samples of the series that satisfy all `matchers`.
    pub(crate) fn new(delete: Delete, matchers: &[Matcher]) -> Self {
        let matchers = matchers.to_vec();
        Self { delete, matchers }
    }

    /// Reads all deletes of the catalog.
    ///
    /// # Errors
    /// As [`Tombstone::from_catalog`].
    pub(crate) fn all(deletes: &[Delete]) -> Result<Vec<Arc<Self>>> {
        let deletes = deletes.iter().cloned();
        deletes
            .map(|delete| Self::from_catalog(delete).map(Arc::new))
            .collect()
    }

    /// Reads the matchers back from the words of the catalog.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when they are none.
    pub(crate) fn from_catalog(delete: Delete) -> Result<Self> {
        let bad =
            |what: String| Error::new(Kind::Corrupt, format!("delete {}: {what}", delete.number));
        let words: Vec<[String; 3]> =
            serde_json::from_str(&delete.what).map_err(|error| bad(error.to_string()))?;
        let matchers = words.into_iter().map(|[name, op, value]| {
            let op = match op.as_str() {
                "=" => MatchOp::Equal,
                "!=" => MatchOp::NotEqual,
                "=~" => MatchOp::Match,
                "!~" => MatchOp::NotMatch,
                _ => return Err(bad(format!("{op:?} is no comparison"))),
            };
            Matcher::new(op, name, value)
        });
        let matchers = matchers.collect::<Result<_>>()?;
        Ok(Self { delete, matchers })
    }

    /// Takes what this deletes out of the samples from `start` on, which come from `block`.
    pub(crate) fn apply(
        &self,
        block: &BlockMeta,
        labels: &Labels,
        columns: &mut Columns,
        start: usize,
    ) {
        if self.concerns(block, labels) {
            columns.remove(start, self.delete.range);
        }
    }

    /// Takes what this deletes out of the exemplars from `start` on, which come from `block`.
    pub(crate) fn apply_exemplars(
        &self,
        block: &BlockMeta,
        labels: &Labels,
        exemplars: &mut Vec<Exemplar>,
        start: usize,
    ) {
        if self.concerns(block, labels) {
            let mut tail = exemplars.split_off(start.min(exemplars.len()));
            tail.retain(|exemplar| !self.delete.range.contains(exemplar.timestamp));
            exemplars.append(&mut tail);
        }
    }

    /// Whether it may delete something of this series in `block`.
    pub(crate) fn concerns(&self, block: &BlockMeta, labels: &Labels) -> bool {
        self.delete.concerns(block) && self.matchers.iter().all(|m| m.matches_labels(labels))
    }
}

/// The matchers in the words of the catalog.
///
/// # Errors
/// [`Kind::Invalid`] when they cannot be written down, which does not happen.
pub(crate) fn words(matchers: &[Matcher]) -> Result<String> {
    let words: Vec<[String; 3]> = matchers
        .iter()
        .map(|m| {
            [
                m.name().to_owned(),
                m.op().to_string(),
                m.value().to_owned(),
            ]
        })
        .collect();
    serde_json::to_string(&words).map_err(|error| Error::invalid(error.to_string()))
}
