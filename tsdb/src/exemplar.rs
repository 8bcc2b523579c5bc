//! Exemplars: observations that stand for many, with labels that say which they were. In files they
//! lie in one section beside the samples (`FORMAT.md`, "Exemplars").
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::Bytes;
use trine_storage::codec::{Reader, put_bytes, put_signed, put_u32, put_u64, put_varint};
use trine_storage::sealed::{PageRef, SealedFile, SealedWriter};
use trine_storage::{Error, Kind, Labels, Result};

/// The most characters that names and values of the labels of an exemplar may have together, as
/// OpenMetrics has it.
pub const EXEMPLAR_LABELS_CHARS_MAX: usize = 128;

/// Section of parts and blocks.
pub(crate) const SECTION: u32 = 5;
/// A page is compressed when it reaches this many bytes.
const PAGE_BYTES: usize = 64 << 10;
/// The most bytes that a page may claim to have: one exemplar more than it takes to close it.
const PAGE_BYTES_MAX: u64 = (PAGE_BYTES as u64) + (4 << 10);
const ZSTD_LEVEL: i32 = 3;

/// An observation that stands for others.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// What was observed.
    pub value: f64,
    /// Where it leads to: the id of a trace, for example.
    pub labels: Labels,
}

impl Exemplar {
    /// Characters of all names and values.
    pub(crate) fn label_chars(&self) -> usize {
        let chars = |(name, value): (&str, &str)| name.chars().count() + value.chars().count();
        self.labels.iter().map(chars).sum()
    }

    pub(crate) fn same_bits(&self, other: &Self) -> bool {
        self.timestamp == other.timestamp
            && self.value.to_bits() == other.value.to_bits()
            && self.labels == other.labels
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.labels.heap_bytes()
    }

    /// Appends it; `before` is the timestamp of the one before, 0 for the first.
    pub(crate) fn put(&self, before: i64, out: &mut Vec<u8>) {
        put_signed(out, self.timestamp.wrapping_sub(before));
        put_u64(out, self.value.to_bits());
        put_bytes(out, self.labels.encoded());
    }

    /// Reads what [`Exemplar::put`] wrote.
    pub(crate) fn read(before: i64, reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            timestamp: before.wrapping_add(reader.signed()?),
            value: f64::from_bits(reader.u64()?),
            labels: Labels::from_encoded(reader.bytes()?)?,
        })
    }
}

/// Brings exemplars into order of time, each once.
pub(crate) fn settle(exemplars: &mut Vec<Exemplar>) {
    exemplars.sort_by(|a, b| {
        let value = a.value.total_cmp(&b.value);
        let time = a.timestamp.cmp(&b.timestamp);
        time.then_with(|| a.labels.cmp(&b.labels)).then(value)
    });
    exemplars.dedup_by(|a, b| a.same_bits(b));
}

/// Writes the section, series after series.
#[derive(Debug, Default)]
pub(crate) struct ExemplarWriter {
    rows: Vec<u8>,
    page: Vec<u8>,
    pages: Vec<(PageRef, usize)>,
}

impl ExemplarWriter {
    /// Adds the exemplars of a series, if there are any. Keys rise from call to call.
    pub(crate) fn series(
        &mut self,
        key: u32,
        exemplars: &[Exemplar],
        file: &mut SealedWriter,
    ) -> Result<()> {
        let mut rest = exemplars;
        while !rest.is_empty() {
            put_u32(&mut self.rows, key);
            for number in [self.pages.len(), self.page.len()] {
                let what = "a file has more exemplars than it can number";
                let number = u32::try_from(number).map_err(|_| Error::new(Kind::Limit, what))?;
                put_u32(&mut self.rows, number);
            }
            // As many as the page takes.
            let mut bytes = Vec::new();
            let mut before = 0;
            let mut count = 0;
            for exemplar in rest {
                if count > 0 && self.page.len() + bytes.len() >= PAGE_BYTES {
                    break;
                }
                exemplar.put(before, &mut bytes);
                before = exemplar.timestamp;
                count += 1;
            }
            put_varint(&mut self.page, count as u64);
            self.page.extend_from_slice(&bytes);
            rest = rest.get(count..).unwrap_or_default();
            if self.page.len() >= PAGE_BYTES {
                self.flush(file)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, file: &mut SealedWriter) -> Result<()> {
        let packed = zstd::bulk::compress(&self.page, ZSTD_LEVEL)
            .map_err(|e| Error::io("compress a page", e))?;
        self.pages.push((file.page(&packed)?, self.page.len()));
        self.page.clear();
        Ok(())
    }

    /// Writes the section, if there is an exemplar.
    pub(crate) fn finish(mut self, file: &mut SealedWriter) -> Result<()> {
        if !self.page.is_empty() {
            self.flush(file)?;
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut table = Vec::new();
        put_varint(&mut table, self.pages.len() as u64);
        for (page, raw_len) in &self.pages {
            page.put(&mut table);
            put_varint(&mut table, *raw_len as u64);
        }
        table.extend_from_slice(&self.rows);
        file.section(SECTION, &table)
    }
}

/// The section of one file, read.
#[derive(Debug)]
pub(crate) struct ExemplarTable {
    pages: Vec<(PageRef, usize)>,
    rows: Bytes,
}

/// The page that was read last.
#[derive(Debug, Default)]
pub(crate) struct PageCache {
    page: Option<(u32, Vec<u8>)>,
}

impl ExemplarTable {
    /// Reads the section of a file; nothing when it has no exemplars.
    pub(crate) fn open(file: &SealedFile) -> Result<Option<Self>> {
        if !file.has_section(SECTION)? {
            return Ok(None);
        }
        let table = file.section(SECTION)?;
        let mut reader = Reader::new(file.name(), &table);
        let mut pages = Vec::new();
        for _ in 0..reader.count(17)? {
            let page = PageRef::read(&mut reader)?;
            let raw_len = reader.varint()?;
            if raw_len > PAGE_BYTES_MAX {
                return Err(reader.corrupt("a page claims to be larger than any page is"));
            }
            pages.push((page, usize::try_from(raw_len).unwrap_or(usize::MAX)));
        }
        let left = reader.remaining();
        if !left.is_multiple_of(12) {
            return Err(reader.corrupt("the table of exemplars is cut"));
        }
        let rows = table.slice(table.len() - left..);
        Ok(Some(Self { pages, rows }))
    }

    /// The keys of the series with exemplars, rising; one may come more than once.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u32> {
        self.rows.chunks_exact(12).map(|row| number(row, 0))
    }

    /// Adds the exemplars of the series `key` to `out`.
    pub(crate) fn read(
        &self,
        file: &SealedFile,
        key: u32,
        cache: &mut PageCache,
        out: &mut Vec<Exemplar>,
    ) -> Result<()> {
        let mut at = self.first(key);
        while let Some(row) = self.row(at).filter(|row| number(row, 0) == key) {
            at += 1;
            let page = self.page(file, number(row, 4), cache)?;
            let offset = usize::try_from(number(row, 8)).unwrap_or(usize::MAX);
            let outside = || Error::corrupt(file.name(), 0, "exemplars lie outside their page");
            let mut reader = Reader::new(file.name(), page.get(offset..).ok_or_else(outside)?);
            let mut before = 0;
            for _ in 0..reader.count(10)? {
                let exemplar = Exemplar::read(before, &mut reader)?;
                before = exemplar.timestamp;
                out.push(exemplar);
            }
        }
        Ok(())
    }

    fn row(&self, at: usize) -> Option<&[u8]> {
        self.rows.get(12 * at..12 * at + 12)
    }

    /// The first row of `key` or a later one.
    fn first(&self, key: u32) -> usize {
        let (mut low, mut high) = (0, self.rows.len() / 12);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.row(middle) {
                Some(row) if number(row, 0) < key => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    fn page<'a>(
        &self,
        file: &SealedFile,
        number: u32,
        cache: &'a mut PageCache,
    ) -> Result<&'a [u8]> {
        let held = cache.page.take().filter(|(held, _)| *held == number);
        let page = match held {
            Some(page) => page,
            None => {
                let at = usize::try_from(number).unwrap_or(usize::MAX);
                let wrong = || Error::corrupt(file.name(), 0, "exemplars are in no page");
                let (page, raw_len) = self.pages.get(at).ok_or_else(wrong)?;
                let packed = file.read(&[*page])?.pop().unwrap_or_default();
                let raw = zstd::bulk::decompress(&packed, *raw_len)
                    .map_err(|e| Error::corrupt(file.name(), page.offset, e))?;
                (number, raw)
            }
        };
        Ok(&cache.page.insert(page).1)
    }
}

/// A number of four bytes; zero when there are not four.
fn number(row: &[u8], at: usize) -> u32 {
    let bytes = row.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}
