//! Reads a part: what ids mean, and the chunks of one id.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use trine_storage::codec::Reader;
use trine_storage::sealed::{PageRef, SealedFile};
use trine_storage::{Error, Labels, Result};

use super::{
    CHUNK_SAMPLES_CLAIMED_MAX, DEFINITION_PAGE_BYTES_MAX, DEFINITIONS, GOES_ON, IDS, KIND_SHIFT,
    PAGES, PLACES, STARTED,
};
use crate::exemplar::{self, Exemplar, ExemplarTable};
use crate::head::series::{Chunk, ChunkKind};
use crate::metadata::MetadataTable;

/// A part. Its tables are checked when they are first used and then read where they lie.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: SealedFile,
    tables: OnceLock<Tables>,
}

#[derive(Debug, Clone)]
struct Tables {
    ids: Bytes,
    places: Bytes,
    pages: Bytes,
    exemplars: Option<Arc<ExemplarTable>>,
}

/// What was read last: series with near ids share a page.
#[derive(Debug, Default)]
pub(crate) struct PageCache {
    /// Where the next id is likely to be.
    next: usize,
    page: Option<(u32, Bytes)>,
    exemplars: exemplar::PageCache,
}

impl PartFile {
    pub(crate) fn new(file: SealedFile) -> Self {
        Self {
            file,
            tables: OnceLock::new(),
        }
    }

    fn tables(&self) -> Result<&Tables> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables);
        }
        let tables = Tables {
            ids: self.file.section(IDS)?,
            places: self.file.section(PLACES)?,
            pages: self.file.section(PAGES)?,
            exemplars: ExemplarTable::open(&self.file)?.map(Arc::new),
        };
        let ids = tables.ids.len() / 4;
        if !tables.ids.len().is_multiple_of(4)
            || tables.places.len() != 8 * ids
            || !tables.pages.len().is_multiple_of(16)
        {
            let what = "its tables do not have the lengths that belong together";
            return Err(Error::corrupt(self.file.name(), 0, what));
        }
        Ok(self.tables.get_or_init(|| tables))
    }

    /// Gives what each id means that is defined here to `each`, after `expect` heard how many there
    /// are.
    pub(crate) fn definitions(
        &self,
        expect: impl FnOnce(u64),
        mut each: impl FnMut(u32, Labels) -> Result<()>,
    ) -> Result<()> {
        let name = self.file.name();
        let table = self.file.section(DEFINITIONS)?;
        let mut reader = Reader::new(name, &table);
        let mut left = reader.varint()?;
        // A definition has more bytes than that, even in zstd.
        expect(left.min(self.file.len()));
        for _ in 0..reader.count(17)? {
            let page = PageRef::read(&mut reader)?;
            let raw_len = reader.varint()?;
            if raw_len > DEFINITION_PAGE_BYTES_MAX {
                return Err(reader.corrupt("a page claims to be larger than any page is"));
            }
            let packed = self.file.read(&[page])?.pop().unwrap_or_default();
            let raw_len = usize::try_from(raw_len).unwrap_or(usize::MAX);
            let raw = zstd::bulk::decompress(&packed, raw_len)
                .map_err(|e| Error::corrupt(name, page.offset, e))?;
            let mut rows = Reader::new(name, &raw);
            while !rows.is_empty() {
                let id = u32::try_from(rows.varint()?)
                    .map_err(|_| rows.corrupt("an id is too large"))?;
                each(id, Labels::from_encoded(rows.bytes()?)?)?;
                left = left.wrapping_sub(1);
            }
        }
        if left != 0 || !reader.is_empty() {
            return Err(reader.corrupt("there are not as many definitions as it says"));
        }
        Ok(())
    }

    /// The ids with chunks, rising.
    pub(crate) fn ids(&self) -> Result<impl Iterator<Item = u32>> {
        Ok(self.tables()?.ids.chunks_exact(4).map(number))
    }

    /// Gives the chunks of a series to `each`; none when it has none here.
    pub(crate) fn chunks(
        &self,
        id: u32,
        cache: &mut PageCache,
        mut each: impl FnMut(Chunk<Bytes>) -> Result<()>,
    ) -> Result<()> {
        let tables = self.tables()?;
        let Some(at) = tables.find(id, cache.next) else {
            return Ok(());
        };
        cache.next = at + 1;
        let name = self.file.name();
        let place = tables.places.get(8 * at..8 * at + 8).unwrap_or_default();
        let (page, offset) = place.split_at(place.len() / 2);
        let page = self.page(tables, number(page), cache)?;
        let offset = usize::try_from(number(offset)).unwrap_or(usize::MAX);
        let outside = || Error::corrupt(name, 0, "chunks lie outside their page");
        let bytes = page.get(offset..).ok_or_else(outside)?;
        let mut reader = Reader::new(name, bytes);
        loop {
            let kind = reader.varint()?;
            let count = reader.varint()?;
            let count = u32::try_from(count.min(CHUNK_SAMPLES_CLAIMED_MAX + 1)).unwrap_or(u32::MAX);
            if count == 0 || u64::from(count) > CHUNK_SAMPLES_CLAIMED_MAX {
                return Err(reader.corrupt("a chunk claims to be empty or larger than any is"));
            }
            let first = reader.signed()?;
            let last = first.wrapping_add(reader.signed()?);
            let bytes = page.slice_ref(reader.bytes()?);
            let starts = match kind & STARTED {
                0 => Bytes::new(),
                _ => page.slice_ref(reader.bytes()?),
            };
            let Some(chunk_kind) = ChunkKind::from_number(kind >> KIND_SHIFT) else {
                return Err(reader.corrupt("a chunk is of a kind that this program does not know"));
            };
            each(Chunk {
                kind: chunk_kind,
                count,
                first,
                last,
                bytes,
                starts,
            })?;
            if kind & GOES_ON == 0 {
                return Ok(());
            }
        }
    }

    /// The ids of the series with exemplars, rising; one may come more than once.
    pub(crate) fn exemplar_ids(&self) -> Result<Vec<u32>> {
        let table = self.tables()?.exemplars.as_ref();
        Ok(table.map_or_else(Vec::new, |table| table.keys().collect()))
    }

    /// Adds the exemplars of a series to `out`.
    pub(crate) fn exemplars(
        &self,
        id: u32,
        cache: &mut PageCache,
        out: &mut Vec<Exemplar>,
    ) -> Result<()> {
        match &self.tables()?.exemplars {
            Some(table) => table.read(&self.file, id, &mut cache.exemplars, out),
            None => Ok(()),
        }
    }

    /// All metadata that was known when the part was written; nothing when it does not say.
    pub(crate) fn metadata(&self) -> Result<Option<MetadataTable>> {
        MetadataTable::read(&self.file)
    }

    fn page(&self, tables: &Tables, number: u32, cache: &mut PageCache) -> Result<Bytes> {
        match &cache.page {
            Some((cached, page)) if *cached == number => Ok(page.clone()),
            _ => {
                let at = usize::try_from(number)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(16);
                let entry = tables
                    .pages
                    .get(at..at.saturating_add(16))
                    .unwrap_or_default();
                let page = PageRef::read(&mut Reader::new(self.file.name(), entry))?;
                let bytes = self.file.read(&[page])?.pop().unwrap_or_default();
                cache.page = Some((number, bytes.clone()));
                Ok(bytes)
            }
        }
    }

    /// Checks every byte. Gives the number of samples.
    pub(crate) fn verify(&self) -> Result<u64> {
        self.file.verify()?;
        self.definitions(|_| {}, |_, _| Ok(()))?;
        let mut samples = 0;
        let mut cache = PageCache::default();
        let mut columns = crate::columns::Columns::default();
        let mut previous = None;
        for id in self.ids()? {
            if previous.is_some_and(|previous| previous >= id) {
                return Err(Error::corrupt(self.file.name(), 0, "ids are out of order"));
            }
            previous = Some(id);
            self.chunks(id, &mut cache, |chunk| {
                columns.clear();
                columns.decode(self.file.name(), &chunk)?;
                samples += u64::from(chunk.count);
                Ok(())
            })?;
        }
        let mut exemplars = Vec::new();
        for id in self.exemplar_ids()? {
            exemplars.clear();
            self.exemplars(id, &mut cache, &mut exemplars)?;
        }
        self.metadata()?;
        Ok(samples)
    }

    /// What errors call it.
    pub(crate) fn name(&self) -> &str {
        self.file.name()
    }
}

impl Tables {
    /// Where `id` stands among the ids, at `likely` perhaps.
    fn find(&self, id: u32, likely: usize) -> Option<usize> {
        let there = self.ids.get(4 * likely..4 * likely + 4).map(number);
        if there == Some(id) {
            return Some(likely);
        }
        let (mut low, mut high) = (0, self.ids.len() / 4);
        while low < high {
            let middle = low + (high - low) / 2;
            match number(self.ids.get(4 * middle..4 * middle + 4)?).cmp(&id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

/// A number of four bytes; zero when there are not four.
fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}
