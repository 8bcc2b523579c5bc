//! Writes a column in the way that [`choose`] and [`sample`] find.

use std::ops::Range;

use trine_storage::sealed::{PageRef, SealedWriter};
use trine_storage::{Error, Kind, Result};

use super::super::blob;
use super::super::dictionary;
use super::super::filter::{self, FilterWriter};
use super::super::numbers::{Bounds, ordered, put_page};
use super::super::template;
use super::super::values::{Texts, Type, Values};
use super::choose::{self, Coded, Rows, Used, VALUES_PER_ENTRY};
use super::sample;
use super::split::{Items, Splitter};
use super::{ColumnMeta, Encoding, INLINE_MAX, PAGE_VALUES_MAX, PageMeta, Stored};

/// Writes a column. `page_ends` says for each page of the table how many values the pages up to it
/// have.
///
/// # Errors
/// [`Kind::Io`]; [`Kind::Limit`] for values of more than 64 MiB and pages of too many values.
pub(crate) fn write(
    sink: &mut SealedWriter,
    kind: Type,
    values: &Values,
    page_ends: &[u32],
) -> Result<ColumnMeta> {
    debug_assert_eq!(
        page_ends.last().map_or(0, |&end| end as usize),
        values.len(),
        "all values lie in pages"
    );
    let writer = Writer {
        sink,
        page_ends,
        pages: Vec::new(),
        bytes: Vec::new(),
    };
    match values {
        Values::Numbers(bits) => writer.numbers(kind, bits),
        Values::Coded { codes, dictionary } => writer.coded(kind, codes, dictionary),
        Values::Plain(texts) => match choose::distinct_texts(texts) {
            Some((codes, entries)) => writer.coded(kind, &codes, &entries),
            None => writer.plain(kind, &Rows::Plain(texts), None),
        },
    }
}

/// Writes which rows have another column: those of each page that has some, ascending.
///
/// # Errors
/// Those of the file.
pub(crate) fn write_rows<'r>(
    sink: &mut SealedWriter,
    pages: impl Iterator<Item = (u32, usize, &'r [u8])>,
) -> Result<ColumnMeta> {
    let mut writer = Writer {
        sink,
        page_ends: &[],
        pages: Vec::new(),
        bytes: Vec::new(),
    };
    for (page, count, bytes) in pages {
        writer.bytes.clear();
        writer.bytes.extend_from_slice(bytes);
        writer.page(page, count, Bounds::default())?;
    }
    Ok(writer.finish(Encoding::Rows, 0))
}

struct Writer<'a> {
    sink: &'a mut SealedWriter,
    page_ends: &'a [u32],
    pages: Vec<PageMeta>,
    bytes: Vec<u8>,
}

/// A page that is ready.
struct Unwritten {
    page: u32,
    count: usize,
    bounds: Bounds,
    bytes: Vec<u8>,
}

impl Writer<'_> {
    fn numbers(mut self, kind: Type, bits: &[u64]) -> Result<ColumnMeta> {
        let all: Vec<u64> = bits.iter().map(|&bits| ordered(kind, bits)).collect();
        let size = if kind == Type::Bool { 1 } else { 8 };
        let raw_bytes = bits.len() as u64 * size;
        let mut packed = 0;
        for (_, rows) in page_rows(self.page_ends) {
            let page = all.get(rows).unwrap_or_default();
            let bounds = Bounds::of(page.iter().copied()).unwrap_or_default();
            packed += bounds.page_bytes(page.len());
        }
        if let Some(coded) = choose::distinct_numbers(&all) {
            let mut stored = Vec::new();
            dictionary::put_numbers(&mut stored, &coded.entries, &coded.counts);
            if choose::is_dictionary_better(&coded, stored.len(), packed) {
                let Coded { codes, entries, .. } = coded;
                let stored = self.store(&stored)?;
                self.codes(|row| codes.get(row).copied().unwrap_or(0))?;
                return Ok(self.finish(
                    Encoding::Dictionary {
                        entries: entry_count(entries.len())?,
                        stored,
                    },
                    raw_bytes,
                ));
            }
        }
        self.number_pages(|row| all.get(row).copied().unwrap_or(0))?;
        Ok(self.finish(Encoding::Numbers, raw_bytes))
    }

    fn coded(mut self, kind: Type, codes: &[u32], entries: &Texts) -> Result<ColumnMeta> {
        let rows = Rows::Coded { codes, entries };
        let used = Used::of(codes, entries);
        let Some(order) = sample::dictionary_order(kind, &rows, &used) else {
            return self.plain(kind, &rows, Some(&used));
        };
        let mut places = vec![0u32; entries.len()];
        let mut counts = Vec::with_capacity(order.len());
        for (place, &code) in (0..).zip(&order) {
            if let Some(to) = places.get_mut(code as usize) {
                *to = place;
            }
            counts.push(used.counts.get(code as usize).copied().unwrap_or(0));
        }
        let mut stored = Vec::new();
        let texts = order.iter().map(|&code| entries.get(code as usize));
        dictionary::put_texts(&mut stored, texts, &counts);
        let stored = self.store(&stored)?;
        self.codes(|row| {
            let code = codes.get(row).copied().unwrap_or(0);
            places.get(code as usize).copied().unwrap_or(0)
        })?;
        let encoding = Encoding::Dictionary {
            entries: entry_count(order.len())?,
            stored,
        };
        Ok(self.finish(encoding, used.raw_bytes))
    }

    /// Writes texts without a dictionary. `used` is known of those that are coded.
    fn plain(mut self, kind: Type, rows: &Rows<'_>, used: Option<&Used>) -> Result<ColumnMeta> {
        let filter = self.filter(kind, rows, used)?;
        let raw_bytes = match (rows, used) {
            (Rows::Plain(texts), _) => texts.bytes_len() as u64,
            (_, used) => used.map_or(0, |used| used.raw_bytes),
        };
        if kind == Type::Str
            && sample::has_templates(rows)
            && let Some((pages, templates)) = self.split(rows, used)
        {
            return self.templates(&pages, &templates, filter, raw_bytes);
        }
        for (page, range) in page_rows(self.page_ends) {
            let count = range.len();
            self.bytes.clear();
            blob::put_page(&mut self.bytes, range.map(|row| rows.get(row)))?;
            self.page(page, count, Bounds::default())?;
        }
        Ok(self.finish(Encoding::Blobs { filter }, raw_bytes))
    }

    /// Pages of templates and numbers; `None` when there are too many templates. Only then is it
    /// known, so nothing is written yet.
    fn split(&self, rows: &Rows<'_>, used: Option<&Used>) -> Option<(Vec<Unwritten>, Texts)> {
        let mut splitter = Splitter::new(rows.len(), VALUES_PER_ENTRY);
        let mut items = Items::default();
        if let (Rows::Coded { entries, .. }, Some(used)) = (rows, used) {
            for (entry, &count) in entries.iter().zip(&used.counts) {
                match count {
                    0 => splitter.skip(&mut items),
                    _ => splitter.push(entry, &mut items)?,
                }
            }
        }
        let mut places = std::array::from_fn(|_| Vec::new());
        let mut pages = Vec::new();
        for (page, range) in page_rows(self.page_ends) {
            let first = range.start;
            if let Rows::Plain(texts) = rows {
                items.clear();
                for row in range.clone() {
                    splitter.push(texts.get(row), &mut items)?;
                }
            }
            let count = range.len();
            let values = range.map(|row| match rows {
                Rows::Coded { .. } => items.get(rows.item(row)),
                Rows::Plain(_) => items.get(row - first),
            });
            let codes = values.clone().map(|(code, _)| u64::from(code));
            let bounds = Bounds::of(codes).unwrap_or_default();
            let mut bytes = Vec::new();
            template::put_page(&mut bytes, values, bounds, &mut places);
            pages.push(Unwritten {
                page,
                count,
                bounds,
                bytes,
            });
        }
        Some((pages, splitter.templates))
    }

    fn templates(
        mut self,
        pages: &[Unwritten],
        templates: &Texts,
        filter: Stored,
        raw_bytes: u64,
    ) -> Result<ColumnMeta> {
        let mut stored = Vec::new();
        template::put_templates(&mut stored, templates);
        let stored = self.store(&stored)?;
        for unwritten in pages {
            self.bytes.clone_from(&unwritten.bytes);
            self.page(unwritten.page, unwritten.count, unwritten.bounds)?;
        }
        let encoding = Encoding::Templates {
            entries: entry_count(templates.len())?,
            stored,
            filter,
        };
        Ok(self.finish(encoding, raw_bytes))
    }

    /// Writes the filter of texts. Nobody looks for a whole array.
    fn filter(&mut self, kind: Type, rows: &Rows<'_>, used: Option<&Used>) -> Result<Stored> {
        if kind != Type::Str {
            return self.store(&[]);
        }
        let mut filter = FilterWriter::new(used.map_or(rows.len(), |used| used.entries));
        match (rows, used) {
            (Rows::Coded { entries, .. }, Some(used)) => {
                for (entry, &count) in entries.iter().zip(&used.counts) {
                    if count > 0 {
                        filter.add(filter::hash(entry));
                    }
                }
            }
            _ => (0..rows.len()).for_each(|row| filter.add(filter::hash(rows.get(row)))),
        }
        let mut out = Vec::new();
        filter.finish(&mut out);
        self.store(&out)
    }

    fn codes(&mut self, code: impl Fn(usize) -> u32) -> Result<()> {
        self.number_pages(|row| code(row).into())
    }

    fn number_pages(&mut self, number: impl Fn(usize) -> u64) -> Result<()> {
        let mut numbers = Vec::new();
        for (page, range) in page_rows(self.page_ends) {
            numbers.clear();
            numbers.extend(range.map(&number));
            let bounds = Bounds::of(numbers.iter().copied()).unwrap_or_default();
            self.bytes.clear();
            put_page(&mut self.bytes, numbers.iter().copied(), bounds);
            self.page(page, numbers.len(), bounds)?;
        }
        Ok(())
    }

    /// Writes what is in `bytes` as a page.
    fn page(&mut self, page: u32, count: usize, bounds: Bounds) -> Result<()> {
        let count = u32::try_from(count)
            .ok()
            .filter(|&count| count <= PAGE_VALUES_MAX)
            .ok_or_else(|| Error::new(Kind::Limit, format!("{count} values in a page")))?;
        let place = match self.bytes.is_empty() {
            // Where the next one begins, so that all lie side by side.
            true => PageRef {
                offset: self.pages.last().map_or(0, end_of),
                len: 0,
                crc: 0,
            },
            false => self.sink.page(&self.bytes)?,
        };
        if place.len > 0 && self.pages.iter().all(|before| before.place.len == 0) {
            let before = self.pages.iter_mut();
            before.for_each(|before| before.place.offset = place.offset);
        }
        self.pages.push(PageMeta {
            page,
            count,
            bounds,
            place,
        });
        Ok(())
    }

    /// Writes bytes that belong to the column as a whole.
    fn store(&mut self, bytes: &[u8]) -> Result<Stored> {
        if bytes.len() <= INLINE_MAX {
            return Ok(Stored::Inline(bytes.to_vec().into()));
        }
        Ok(Stored::Page(self.sink.page(bytes)?))
    }

    fn finish(self, encoding: Encoding, raw_bytes: u64) -> ColumnMeta {
        ColumnMeta {
            encoding,
            raw_bytes,
            pages: self.pages,
        }
    }
}

/// The pages that have values, with the values that they have.
fn page_rows(page_ends: &[u32]) -> impl Iterator<Item = (u32, Range<usize>)> {
    let starts = std::iter::once(0).chain(page_ends.iter().copied());
    (0u32..)
        .zip(starts.zip(page_ends))
        .filter(|(_, (start, end))| start < end)
        .map(|(page, (start, end))| (page, start as usize..*end as usize))
}

fn end_of(page: &PageMeta) -> u64 {
    page.place.offset + u64::from(page.place.len)
}

fn entry_count(entries: usize) -> Result<u32> {
    u32::try_from(entries).map_err(|_| Error::new(Kind::Limit, "a dictionary is too large"))
}
