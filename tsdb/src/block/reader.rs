//! Reads blocks where they lie: nothing is decoded at open, tables are checked at the first query. Of a
//! block that is far away all that a read needs is fetched in four rounds: head, tables, runs, and the
//! timestamps that these name.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use roaring::RoaringBitmap;
use trine_storage::catalog::BlockMeta;
use trine_storage::codec::Reader;
use trine_storage::frozen_index::FrozenIndex;
use trine_storage::sealed::{PageRef, SealedFile};
use trine_storage::{Error, Matcher, Result, TimeRange};

use super::format::{self, COLUMN_ROWS_MAX};
use super::run;
use crate::chunk::starts::decode_starts;
use crate::columns::Columns;
use crate::exemplar::{self, Exemplar, ExemplarTable};
use crate::histogram::decode_run;
use crate::sample::{Value, Values};

/// One block as the engine keeps it open.
#[derive(Debug)]
pub(crate) struct BlockFile {
    file: SealedFile,
    /// What the catalog says: no column has more rows.
    rows: u64,
    tables: OnceLock<Tables>,
}

/// The tables of a block, as they lie in the file.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) index: FrozenIndex,
    series: Bytes,
    times: Bytes,
    pages: Bytes,
    exemplars: Option<Box<ExemplarTable>>,
}

/// The sections that every read needs.
pub(crate) const TABLES: [u32; 5] = [
    format::INDEX,
    format::SERIES,
    format::TIMES,
    format::PAGES,
    exemplar::SECTION,
];

/// Series whose samples are fetched together, at most.
const FETCHED_AT_ONCE: usize = 4096;

/// What a reader that goes through series in order used last.
#[derive(Debug, Default)]
pub(crate) struct PageCache {
    page: Option<(u32, Bytes)>,
    times: Option<(u32, Arc<Vec<i64>>)>,
    exemplars: exemplar::PageCache,
}

impl BlockFile {
    pub(crate) fn new(file: SealedFile, rows: u64) -> Self {
        Self {
            file,
            rows,
            tables: OnceLock::new(),
        }
    }

    /// The tables and the label index.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when they are damaged,
    /// [`Kind::Io`](trine_storage::Kind::Io).
    pub(crate) fn tables(&self) -> Result<&Tables> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables);
        }
        self.file.prefetch_sections(&TABLES)?;
        let name = self.file.name();
        let tables = Tables {
            index: FrozenIndex::open(name, self.file.section(format::INDEX)?)?,
            series: self.file.section(format::SERIES)?,
            times: self.file.section(format::TIMES)?,
            pages: self.file.section(format::PAGES)?,
            exemplars: ExemplarTable::open(&self.file)?.map(Box::new),
        };
        if tables.series.len() != 8 * tables.index.len()
            || !tables.times.len().is_multiple_of(12)
            || !tables.pages.len().is_multiple_of(16)
        {
            let what = "its tables do not have the lengths that belong together";
            return Err(Error::corrupt(name, 0, what));
        }
        Ok(self.tables.get_or_init(|| tables))
    }

    /// The series that satisfy `matchers`.
    ///
    /// # Errors
    /// As [`BlockFile::tables`].
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        self.tables()?.index.select(matchers)
    }

    /// Whether reads may have to wait for another machine.
    pub(crate) fn is_remote(&self) -> bool {
        self.file.is_remote()
    }

    /// Begins to fetch the runs of the first of the series `places`, of about `bytes_max` bytes, where
    /// the block is far away. Gives of how many. What goes wrong is told by who reads them.
    pub(crate) fn fetch_runs(&self, places: impl Iterator<Item = u32>, bytes_max: u64) -> usize {
        if !self.is_remote() {
            return 0;
        }
        let Ok(tables) = self.tables() else { return 0 };
        let (mut count, mut left, mut pages) = (0, bytes_max, BTreeSet::new());
        for place in places.take(FETCHED_AT_ONCE) {
            count += 1;
            let Some([number, _]) = numbers(&tables.series, place) else {
                continue;
            };
            if pages.insert(number) {
                let page = self.page_ref(tables, number);
                let bytes = page.map_or(0, |page| u64::from(page.len));
                match left.checked_sub(bytes) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        }
        self.fetch_pages(tables, &pages);
        count
    }

    /// Begins to fetch the timestamps of the series `places`, whose runs are waited for.
    pub(crate) fn fetch_times(&self, places: impl Iterator<Item = u32>) {
        if let (true, Ok(tables)) = (self.is_remote(), self.tables()) {
            let mut cache = PageCache::default();
            let columns = places.filter_map(|place| self.times_of(tables, place, &mut cache).ok());
            let columns: BTreeSet<u32> = columns.collect();
            let pages = columns
                .iter()
                .filter_map(|&number| numbers(&tables.times, number));
            self.fetch_pages(tables, &pages.map(|[page, _, _]| page).collect());
        }
    }

    /// Which column of timestamps a series has.
    fn times_of(&self, tables: &Tables, place: u32, cache: &mut PageCache) -> Result<u32> {
        let [page, offset] = numbers(&tables.series, place)
            .ok_or_else(|| self.corrupt("the index names a series that is not there"))?;
        let page = self.page(tables, page, cache)?;
        let mut reader = self.reader(&page, offset)?;
        reader.varint()?;
        Ok(u32::try_from(reader.varint()?).unwrap_or(u32::MAX))
    }

    fn fetch_pages(&self, tables: &Tables, numbers: &BTreeSet<u32>) {
        let pages = numbers.iter();
        let pages = pages.filter_map(|&number| self.page_ref(tables, number).ok());
        let pages: Vec<PageRef> = pages.collect();
        if !pages.is_empty() {
            self.file.prefetch(&pages);
        }
    }

    fn page_ref(&self, tables: &Tables, number: u32) -> Result<PageRef> {
        let at = usize::try_from(number)
            .unwrap_or(usize::MAX)
            .saturating_mul(16);
        let entry = tables.pages.get(at..at.saturating_add(16));
        PageRef::read(&mut Reader::new(
            self.file.name(),
            entry.unwrap_or_default(),
        ))
    }

    /// Adds the samples of the series `place` in `range` to `columns`.
    ///
    /// # Errors
    /// As [`BlockFile::tables`].
    pub(crate) fn samples(
        &self,
        place: u32,
        range: TimeRange,
        cache: &mut PageCache,
        columns: &mut Columns,
    ) -> Result<()> {
        let tables = self.tables()?;
        let [page, offset] = numbers(&tables.series, place)
            .ok_or_else(|| self.corrupt("the index names a series that is not there"))?;
        let page = self.page(tables, page, cache)?;
        let mut reader = self.reader(&page, offset)?;
        let kind = reader.varint()?;
        let times = u32::try_from(reader.varint()?).unwrap_or(u32::MAX);
        let values = page.slice_ref(reader.bytes()?);
        let times = self.times(tables, times, cache)?;
        let first = times.partition_point(|&t| t < range.start);
        let end = times.partition_point(|&t| t < range.end).max(first);
        let rows = first..end;
        let from = columns.len();
        columns
            .timestamps
            .extend(times.get(rows.clone()).unwrap_or_default());
        let name = self.file.name();
        let decoded = match kind >> format::KIND_SHIFT {
            format::FLOATS => columns.values.with_floats(|out| {
                run::decode_floats(name, &values, times.len(), rows.clone(), out)
            }),
            format::HISTOGRAMS => columns
                .values
                .with_histograms(|out| decode_run(name, &values, times.len(), rows.clone(), out)),
            format::MIXED => mixed(name, &values, times.len(), &rows, &mut columns.values),
            _ => Err(reader.corrupt("a run is of a kind that this program does not know")),
        };
        decoded?;
        let starts = match kind & format::STARTED {
            0 => return columns.decode_starts(name, from, &[]),
            _ => reader.bytes()?,
        };
        let mut all = Vec::new();
        decode_starts(name, starts, &times, &mut all)?;
        columns.starts.resize(from, 0);
        columns.starts.extend(all.get(rows).unwrap_or_default());
        Ok(())
    }

    /// The places of the series with exemplars, rising; one may come more than once.
    pub(crate) fn exemplar_places(&self) -> Result<Vec<u32>> {
        let table = self.tables()?.exemplars.as_ref();
        Ok(table.map_or_else(Vec::new, |table| table.keys().collect()))
    }

    /// Adds the exemplars of the series `place` to `out`.
    pub(crate) fn exemplars(
        &self,
        place: u32,
        cache: &mut PageCache,
        out: &mut Vec<Exemplar>,
    ) -> Result<()> {
        match &self.tables()?.exemplars {
            Some(table) => table.read(&self.file, place, &mut cache.exemplars, out),
            None => Ok(()),
        }
    }

    /// The column of timestamps `number`.
    fn times(&self, tables: &Tables, number: u32, cache: &mut PageCache) -> Result<Arc<Vec<i64>>> {
        if let Some((cached, times)) = &cache.times
            && *cached == number
        {
            return Ok(Arc::clone(times));
        }
        let [page, offset, rows] = numbers(&tables.times, number)
            .ok_or_else(|| self.corrupt("a run names timestamps that are not there"))?;
        let page = self.page(tables, page, &mut PageCache::default())?;
        let mut reader = self.reader(&page, offset)?;
        let column = reader.bytes()?;
        if rows > COLUMN_ROWS_MAX || u64::from(rows) > self.rows {
            return Err(reader.corrupt("timestamps claim to be more than there can be"));
        }
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let mut times = Vec::new();
        run::decode_integers(self.file.name(), column, rows, 0..rows, &mut times)?;
        if !times.is_sorted_by(|a, b| a < b) {
            return Err(reader.corrupt("timestamps do not rise"));
        }
        let times = Arc::new(times);
        cache.times = Some((number, Arc::clone(&times)));
        Ok(times)
    }

    fn page(&self, tables: &Tables, number: u32, cache: &mut PageCache) -> Result<Bytes> {
        if let Some((cached, page)) = &cache.page
            && *cached == number
        {
            return Ok(page.clone());
        }
        let page = self.page_ref(tables, number)?;
        let bytes = self.file.read(&[page])?.pop().unwrap_or_default();
        cache.page = Some((number, bytes.clone()));
        Ok(bytes)
    }

    fn reader<'a>(&'a self, page: &'a Bytes, offset: u32) -> Result<Reader<'a>> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = page.get(offset..);
        let bytes = bytes.ok_or_else(|| self.corrupt("a run lies outside its page"))?;
        Ok(Reader::new(self.file.name(), bytes))
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(self.file.name(), 0, what)
    }

    /// Reads everything and checks it. Gives the number of samples.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) for the first damage that is found.
    pub(crate) fn verify(&self, meta: &BlockMeta) -> Result<u64> {
        self.file.verify()?;
        let tables = self.tables()?;
        tables.index.verify()?;
        let mut cache = PageCache::default();
        let mut columns = Columns::default();
        let mut rows = 0;
        for place in (0u32..).take(tables.index.len()) {
            columns.clear();
            self.samples(place, TimeRange::ALL, &mut cache, &mut columns)?;
            let outside = |t: &&i64| !meta.range.contains(**t);
            if let Some(timestamp) = columns.timestamps.iter().find(outside) {
                let what = format!("timestamp {timestamp} lies outside the block's range");
                return Err(self.corrupt(&what));
            }
            rows += columns.len() as u64;
        }
        let mut exemplars = Vec::new();
        for place in self.exemplar_places()? {
            exemplars.clear();
            self.exemplars(place, &mut cache, &mut exemplars)?;
            if usize::try_from(place).is_ok_and(|place| place >= tables.index.len()) {
                return Err(self.corrupt("exemplars belong to a series that is not there"));
            }
        }
        if rows != meta.rows {
            let what = format!("it holds {rows} samples, the catalog says {}", meta.rows);
            return Err(self.corrupt(&what));
        }
        Ok(rows)
    }
}

/// Adds `rows` of a column of `count` floats and histograms.
fn mixed(
    name: &str,
    bytes: &[u8],
    count: usize,
    rows: &Range<usize>,
    out: &mut Values,
) -> Result<()> {
    let mut reader = Reader::new(name, bytes);
    let number = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    if number > count {
        return Err(reader.corrupt("more rows are histograms than there are"));
    }
    let mut places = Vec::new();
    run::decode_integers(name, reader.bytes()?, number, 0..number, &mut places)?;
    let inside = |row: &i64| usize::try_from(*row).is_ok_and(|row| row < count);
    if !places.is_sorted_by(|a, b| a < b) || !places.iter().all(inside) {
        return Err(reader.corrupt("the rows of histograms do not rise"));
    }
    let before = |row: usize| places.partition_point(|place| (*place as u64) < row as u64);
    let (first, end) = (before(rows.start), before(rows.end));
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    let float_rows = rows.start - first..rows.end - end;
    run::decode_floats(
        name,
        reader.bytes()?,
        count - number,
        float_rows,
        &mut floats,
    )?;
    decode_run(name, reader.bytes()?, number, first..end, &mut histograms)?;
    let (mut floats, mut histograms) = (floats.into_iter(), histograms.into_iter());
    for row in rows.clone() {
        let value = match places.binary_search(&i64::try_from(row).unwrap_or(i64::MAX)) {
            Ok(_) => histograms.next().map(Value::Histogram),
            Err(_) => floats.next().map(Value::Float),
        };
        out.push(value.ok_or_else(|| reader.corrupt("a value is missing"))?);
    }
    Ok(())
}

/// Row `place` of a table of numbers of four bytes.
fn numbers<const N: usize>(table: &Bytes, place: u32) -> Option<[u32; N]> {
    let place = usize::try_from(place).ok()?;
    let start = place.checked_mul(4 * N)?;
    let row = table.get(start..start.checked_add(4 * N)?)?;
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(row.chunks_exact(4)) {
        *number = u32::from_le_bytes(bytes.try_into().ok()?);
    }
    Some(numbers)
}
