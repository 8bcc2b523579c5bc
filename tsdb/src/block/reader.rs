//! Reads blocks: footer at open, series table and index at the first query, pages when asked for.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use trine_storage::catalog::BlockMeta;
use trine_storage::codec::Reader;
use trine_storage::label_index::LabelIndex;
use trine_storage::sealed::{PageRef, SealedFile};
use trine_storage::{Error, Labels, Matcher, Result};

use crate::columns::Columns;

use super::format::{self, PAGE_BYTES_MAX};

/// One block as the engine keeps it open.
#[derive(Debug)]
pub(crate) struct BlockFile {
    file: SealedFile,
    /// Decoded at the first query and kept.
    tables: OnceLock<Arc<Tables>>,
}

/// The decoded tables of a block.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) index: LabelIndex,
    series: Vec<SeriesEntry>,
    pages: Vec<(PageRef, usize)>,
}

#[derive(Debug)]
struct SeriesEntry {
    labels: Labels,
    page: usize,
    offset: usize,
    len: usize,
}

/// One decompressed page, kept by a reader that goes through series in order.
#[derive(Debug, Default)]
pub(crate) struct PageCache {
    page: Option<(usize, Bytes)>,
}

impl BlockFile {
    pub(crate) fn new(file: SealedFile) -> Self {
        Self {
            file,
            tables: OnceLock::new(),
        }
    }

    /// The series table and the label index.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when they are damaged,
    /// [`Kind::Io`](trine_storage::Kind::Io).
    pub(crate) fn tables(&self) -> Result<Arc<Tables>> {
        if let Some(tables) = self.tables.get() {
            return Ok(Arc::clone(tables));
        }
        let tables = Arc::new(self.read_tables()?);
        Ok(Arc::clone(self.tables.get_or_init(|| tables)))
    }

    fn read_tables(&self) -> Result<Tables> {
        let name = self.file.name();
        let section = self.file.section(format::PAGES)?;
        let mut reader = Reader::new(name, &section);
        let mut pages = Vec::new();
        for _ in 0..reader.count(17)? {
            let page = PageRef::read(&mut reader)?;
            let raw_len = reader.varint()?;
            if raw_len > PAGE_BYTES_MAX {
                return Err(reader.corrupt("a page claims to be larger than any page is"));
            }
            pages.push((page, usize::try_from(raw_len).unwrap_or(usize::MAX)));
        }
        let section = self.file.section(format::SERIES)?;
        let mut reader = Reader::new(name, &section);
        let mut series: Vec<SeriesEntry> = Vec::new();
        for _ in 0..reader.count(4)? {
            let labels = Labels::from_encoded(reader.bytes()?)?;
            if series.last().is_some_and(|last| last.labels >= labels) {
                return Err(reader.corrupt("series are out of order"));
            }
            let mut part = || Ok(usize::try_from(reader.varint()?).unwrap_or(usize::MAX));
            let (page, offset, len) = (part()?, part()?, part()?);
            series.push(SeriesEntry {
                labels,
                page,
                offset,
                len,
            });
        }
        let index = LabelIndex::read(&self.file.section(format::INDEX)?)?;
        Ok(Tables {
            index,
            series,
            pages,
        })
    }

    /// Adds the samples of the series at `place` of the table to `columns`.
    ///
    /// # Errors
    /// As [`BlockFile::tables`].
    pub(crate) fn samples(
        &self,
        tables: &Tables,
        place: u32,
        cache: &mut PageCache,
        columns: &mut Columns,
    ) -> Result<()> {
        let name = self.file.name();
        let missing = |what: &str| Error::corrupt(name, 0, what);
        let entry = tables
            .series
            .get(place as usize)
            .ok_or_else(|| missing("the index names a series that is not there"))?;
        let page = match &cache.page {
            Some((number, bytes)) if *number == entry.page => bytes,
            _ => {
                let (page, raw_len) = tables
                    .pages
                    .get(entry.page)
                    .ok_or_else(|| missing("a series names a page that is not there"))?;
                let packed = self.file.read(&[*page])?.pop().unwrap_or_default();
                let raw = zstd::bulk::decompress(&packed, *raw_len)
                    .map_err(|e| Error::corrupt(name, page.offset, e))?;
                &cache.page.insert((entry.page, raw.into())).1
            }
        };
        let end = entry.offset.saturating_add(entry.len);
        let run = page
            .get(entry.offset..end)
            .ok_or_else(|| missing("a series names bytes outside its page"))?;
        let (timestamps, values) = format::decode_run(name, run)?;
        columns.timestamps.extend(timestamps);
        columns.values.extend(values);
        Ok(())
    }

    /// Reads everything and checks it. Gives the number of samples.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) for the first damage that is found.
    pub(crate) fn verify(&self, meta: &BlockMeta) -> Result<u64> {
        self.file.verify()?;
        let tables = self.read_tables()?;
        let mut cache = PageCache::default();
        let mut columns = Columns::default();
        let mut rows = 0;
        for place in (0u32..).take(tables.series.len()) {
            columns.clear();
            self.samples(&tables, place, &mut cache, &mut columns)?;
            let timestamps = &columns.timestamps;
            let outside = |t: &&i64| !meta.range.contains(**t);
            if let Some(timestamp) = timestamps.iter().find(outside) {
                let what = format!("timestamp {timestamp} lies outside the block's range");
                return Err(Error::corrupt(self.file.name(), 0, what));
            }
            rows += timestamps.len() as u64;
        }
        if rows != meta.rows {
            let what = format!("it holds {rows} samples, the catalog says {}", meta.rows);
            return Err(Error::corrupt(self.file.name(), 0, what));
        }
        Ok(rows)
    }
}

impl Tables {
    /// The series that satisfy `matchers`, in label order.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<(Labels, u32)> {
        self.index
            .select(matchers)
            .iter()
            .filter_map(|place| Some((self.series.get(place as usize)?.labels.clone(), place)))
            .collect()
    }
}
