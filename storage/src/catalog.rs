//! The catalog: the one small document that says which blocks exist and up to which position of
//! the write-ahead log they hold everything.
//!
//! A change is a new version, put in place of the old one by an atomic rename: after a crash either
//! the old or the new version is there. See `FORMAT.md`, "Catalog".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::fs::{Fs, read_if_exists, replace};
use crate::time::TimeRange;
use crate::ulid::BlockId;

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;
const MAGIC: &str = "trine-catalog";

/// What the catalog says of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockMeta {
    /// Its name.
    pub id: BlockId,
    /// The time range that its rows lie in, in the engine's unit.
    pub range: TimeRange,
    /// Number of rows: samples, log entries or spans.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// How often its rows were merged: 0 for a sealed block.
    pub level: u8,
    /// The position of the log up to which its rows were appended: of two blocks that hold the same
    /// row the one with the higher number has the later one.
    #[serde(default)]
    pub sequence: u64,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// The number of the newest [`Delete`] whose rows it does not hold any more.
    #[serde(default)]
    pub deletes_applied: u64,
}

/// Rows that are deleted although blocks may still hold them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// Rises from delete to delete.
    pub number: u64,
    /// It concerns the blocks whose `sequence` is not higher.
    pub sequence: u64,
    /// The time range of the rows, in the engine's unit.
    pub range: TimeRange,
    /// Which rows, in the engine's words.
    pub what: String,
    /// When it was asked for, milliseconds since 1970.
    pub created_ms: i64,
}

impl Delete {
    /// Whether the block may still hold rows that this deletes.
    pub fn concerns(&self, block: &BlockMeta) -> bool {
        block.sequence <= self.sequence
            && block.deletes_applied < self.number
            && block.range.overlaps(&self.range)
    }
}

/// One version of the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Counts the changes, from 0 for the empty catalog.
    pub version: u64,
    /// All records of the log before this position are in the blocks: replay starts here.
    pub wal_position: u64,
    /// The blocks, oldest first.
    pub blocks: Vec<BlockMeta>,
    /// What is deleted and may still be in blocks, by number.
    #[serde(default)]
    pub deletes: Vec<Delete>,
    /// The highest number that a delete was ever given: none is given again, not even when nothing is
    /// left that remembers the delete. Of a bucket's catalog only.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deletes_given: u64,
    /// Which blocks each data directory shipped with its last batch, by the directory's instance: a
    /// directory whose process died behind its commit learns from it that a block was shipped, although
    /// another writer has merged it away since. Of a bucket's catalog only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shipped: BTreeMap<String, Vec<BlockId>>,
}

impl Document {
    /// The position that a log begins at whose records are to be later than all that this names.
    pub fn floor(&self) -> u64 {
        let blocks = self.blocks.iter().map(|meta| meta.sequence);
        let deletes = self.deletes.iter().map(|delete| delete.sequence);
        blocks.chain(deletes).fold(self.wal_position, u64::max)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The document behind `load` and `swap`.
#[derive(Debug)]
pub struct Catalog {
    fs: Arc<dyn Fs>,
    path: PathBuf,
}

impl Catalog {
    /// The catalog in the file `path`.
    pub fn new(fs: Arc<dyn Fs>, path: &Path) -> Self {
        Self {
            fs,
            path: path.to_owned(),
        }
    }

    /// The newest version; the empty document when there is none yet.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when the file is damaged, [`Kind::Unsupported`] when a newer version of
    /// the program wrote it, [`Kind::Io`].
    pub fn load(&self) -> Result<Document> {
        let shown = self.path.display();
        let bytes = read_if_exists(&*self.fs, &self.path)
            .map_err(|e| Error::io(format!("read {shown}"), e))?;
        match bytes {
            Some(bytes) => decode(&shown.to_string(), &bytes),
            None => Ok(Document::default()),
        }
    }

    /// Puts `document` in place of the version before it, durably.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when its version does not follow the one that is there; [`Kind::Io`], and
    /// then either version may be the one that is found after a restart.
    pub fn swap(&self, document: &Document) -> Result<()> {
        let current = self.load()?.version;
        if document.version != current + 1 {
            return Err(Error::invalid(format!(
                "version {} of {} cannot follow version {current}",
                document.version,
                self.path.display()
            )));
        }
        self.put(document)
    }

    /// Puts `document` in place of whatever is there, durably.
    ///
    /// # Errors
    /// [`Kind::Io`], and then either version may be the one that is found after a restart.
    pub fn put(&self, document: &Document) -> Result<()> {
        let bytes = encode(document)
            .map_err(|e| Error::io(format!("write {}", self.path.display()), e.into()))?;
        replace(&*self.fs, &self.path, &bytes)
    }
}

/// The blocks whose every row is older than `oldest`, and the oldest of those that are more than
/// `bytes_max`: what a retention is done with.
pub fn outdated<'a>(
    blocks: impl Iterator<Item = &'a BlockMeta>,
    oldest: i64,
    bytes_max: Option<u64>,
) -> Vec<BlockId> {
    let mut blocks: Vec<&BlockMeta> = blocks.collect();
    blocks.sort_by_key(|meta| std::cmp::Reverse(meta.range.end));
    let mut left = bytes_max.unwrap_or(u64::MAX);
    let mut remove = Vec::new();
    for meta in blocks {
        let fits = left.checked_sub(meta.bytes);
        left = fits.unwrap_or(0);
        if fits.is_none() || meta.range.end <= oldest {
            remove.push(meta.id);
        }
    }
    remove
}

/// A first line with format and checksum, then the document as JSON for people to read.
pub(crate) fn encode(document: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut json = serde_json::to_string_pretty(document)?;
    json.push('\n');
    let crc = crc32fast::hash(json.as_bytes());
    Ok(format!("{MAGIC} {FORMAT} crc32={crc:08x}\n{json}").into_bytes())
}

/// Reads what [`Catalog::swap`] wrote.
///
/// # Errors
/// As [`Catalog::load`].
pub fn decode(name: &str, bytes: &[u8]) -> Result<Document> {
    decode_as(name, bytes)
}

/// Reads what [`encode`] wrote of a `T`.
pub(crate) fn decode_as<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    let bad = |what: &str| Error::corrupt(name, 0, what);
    let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))?;
    let (head, json) = text
        .split_once('\n')
        .ok_or_else(|| bad("the first line is missing"))?;
    let rest = head
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.strip_prefix(' '));
    let (format, crc) = rest
        .and_then(|rest| rest.split_once(" crc32="))
        .ok_or_else(|| bad("the first line is not that of a catalog"))?;
    if format != FORMAT.to_string() {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "{name} has format {format}, this program reads {FORMAT}; use the version of trine that wrote it, or a later one"
            ),
        ));
    }
    if crc != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
        return Err(bad("the checksum does not match"));
    }
    serde_json::from_str(json)
        .map_err(|e| Error::caused_by(Kind::Corrupt, format!("{name} is damaged: {e}"), e))
}

#[cfg(test)]
mod tests;
