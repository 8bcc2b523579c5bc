//! Reads blocks: footer at open, tables at the first query, of groups only the columns asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use trine_storage::block_set::BlockReader;
use trine_storage::catalog::BlockMeta;
use trine_storage::codec::Reader;
use trine_storage::sealed::{PageRef, SealedFile};
use trine_storage::{Error, Result, TimeRange};

use super::format::{self, FIXED_PAGES, PAGE_BYTES_MAX, TableSizes};
use crate::columns::{Columns, Key, Tables};
use crate::model::{Span, TraceId, decode_resource, decode_scope, decode_span};

/// One block as the engine keeps it open.
#[derive(Debug)]
pub(crate) struct BlockFile {
    file: SealedFile,
    /// Decoded at the first query and kept.
    index: OnceLock<Arc<Index>>,
}

/// The decoded tables of a block.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) tables: Tables,
    pub(crate) groups: Vec<Group>,
    /// Sorted by id.
    traces: Vec<TraceEntry>,
}

/// Where a trace lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TraceEntry {
    pub(crate) id: TraceId,
    /// When its first span began.
    pub(crate) start: i64,
    pub(crate) group: u32,
    pub(crate) first: u32,
    pub(crate) rows: u32,
}

/// A group of traces.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) rows: usize,
    /// From the first to the last start of its spans.
    pub(crate) range: TimeRange,
    fixed: Vec<Page>,
    attributes: BTreeMap<Key, Page>,
}

#[derive(Debug, Clone, Copy)]
struct Page {
    place: PageRef,
    raw_bytes: usize,
}

/// Which columns of a group are wanted; times and codes always come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) ids: bool,
    pub(crate) attributes: Vec<Key>,
}

impl BlockReader for BlockFile {
    const KIND: [u8; 4] = format::KIND;

    fn open(file: SealedFile, _meta: &BlockMeta) -> Result<Self> {
        Ok(Self {
            file,
            index: OnceLock::new(),
        })
    }
}

impl BlockFile {
    /// The tables of the block.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when they are damaged,
    /// [`Kind::Io`](trine_storage::Kind::Io).
    pub(crate) fn index(&self) -> Result<Arc<Index>> {
        if let Some(index) = self.index.get() {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(self.read_index()?);
        Ok(Arc::clone(self.index.get_or_init(|| index)))
    }

    fn read_index(&self) -> Result<Index> {
        let name = self.file.name();
        let section = self.file.section(format::TABLES)?;
        let mut reader = Reader::new(name, &section);
        let mut tables = Tables::default();
        for _ in 0..reader.count(3)? {
            tables
                .resources
                .push(Arc::new(decode_resource(&mut reader)?));
        }
        for _ in 0..reader.count(5)? {
            tables.scopes.push(Arc::new(decode_scope(&mut reader)?));
        }
        let section = self.file.section(format::GROUPS)?;
        let mut reader = Reader::new(name, &section);
        let count = reader.count(3 + FIXED_PAGES * 17)?;
        let groups = (0..count)
            .map(|_| read_group(&mut reader))
            .collect::<Result<Vec<_>>>()?;
        let section = self.file.section(format::TRACES)?;
        let mut reader = Reader::new(name, &section);
        let mut traces: Vec<TraceEntry> = Vec::new();
        for _ in 0..reader.count(20)? {
            let id = reader.array()?;
            if traces.last().is_some_and(|last| last.id >= id) {
                return Err(reader.corrupt("traces are out of order"));
            }
            let start = reader.signed()?;
            let mut number = || Ok(u32::try_from(reader.varint()?).unwrap_or(u32::MAX));
            let entry = TraceEntry {
                id,
                start,
                group: number()?,
                first: number()?,
                rows: number()?,
            };
            let group = groups.get(entry.group as usize);
            let end = entry.first as usize + entry.rows as usize;
            if group.is_none_or(|group| end > group.rows) {
                return Err(reader.corrupt("a trace names rows that are not there"));
            }
            traces.push(entry);
        }
        Ok(Index {
            tables,
            groups,
            traces,
        })
    }

    /// Some columns of a group.
    ///
    /// # Errors
    /// As [`BlockFile::index`].
    pub(crate) fn columns(&self, index: &Index, group: &Group, wanted: &Wanted) -> Result<Columns> {
        let name = self.file.name();
        let mut pages = vec![
            group.fixed[format::PAGE_TIMES],
            group.fixed[format::PAGE_CODES],
        ];
        let keys: Vec<&Key> = wanted
            .attributes
            .iter()
            .filter(|key| group.attributes.contains_key(*key))
            .collect();
        pages.extend(keys.iter().filter_map(|key| group.attributes.get(*key)));
        if wanted.ids {
            pages.push(group.fixed[format::PAGE_IDS]);
        }
        let mut raw = self.unpack(&pages)?.into_iter();
        let mut next = || raw.next().unwrap_or_default();
        let mut columns = Columns::default();
        let sizes = TableSizes {
            resources: index.tables.resources.len(),
            scopes: index.tables.scopes.len(),
        };
        format::read_times(name, &next(), group.rows, &mut columns)?;
        format::read_codes(name, &next(), group.rows, sizes, &mut columns)?;
        for key in keys {
            let column = format::read_sparse(name, &next(), group.rows)?;
            columns.attributes.insert(key.clone(), column);
        }
        if wanted.ids {
            format::read_ids(name, &next(), group.rows, &mut columns)?;
        }
        Ok(columns)
    }

    /// The spans of a trace as they came, with the codes of their resources and scopes.
    ///
    /// # Errors
    /// As [`BlockFile::index`].
    pub(crate) fn spans(&self, index: &Index, entry: &TraceEntry) -> Result<Vec<(u32, u32, Span)>> {
        let name = self.file.name();
        let group = &index.groups[entry.group as usize];
        let columns = self.columns(index, group, &Wanted::default())?;
        let raw = self
            .unpack(&[group.fixed[format::PAGE_SPANS]])?
            .pop()
            .unwrap_or_default();
        let spans = format::read_spans(name, &raw, group.rows)?;
        let rows = entry.first as usize..entry.first as usize + entry.rows as usize;
        rows.map(|row| {
            let span = decode_span(&mut Reader::new(name, spans[row]))?;
            Ok((columns.resources[row], columns.scopes[row], span))
        })
        .collect()
    }

    fn unpack(&self, pages: &[Page]) -> Result<Vec<Vec<u8>>> {
        let places: Vec<PageRef> = pages.iter().map(|page| page.place).collect();
        let packed = self.file.read(&places)?;
        pages
            .iter()
            .zip(packed)
            .map(|(page, packed)| {
                zstd::bulk::decompress(&packed, page.raw_bytes)
                    .map_err(|e| Error::corrupt(self.file.name(), page.place.offset, e))
            })
            .collect()
    }

    /// Reads everything and checks it. Gives the number of spans.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) for the first damage that is found.
    pub(crate) fn verify(&self, meta: &BlockMeta) -> Result<u64> {
        self.file.verify()?;
        let index = self.read_index()?;
        let mut rows = 0;
        for (group, traces) in index.groups.iter().zip(index.traces_by_group()) {
            let attributes = group.attributes.keys().cloned().collect();
            self.columns(
                &index,
                group,
                &Wanted {
                    ids: true,
                    attributes,
                },
            )?;
            let raw = self
                .unpack(&[group.fixed[format::PAGE_SPANS]])?
                .pop()
                .unwrap_or_default();
            let spans = format::read_spans(self.file.name(), &raw, group.rows)?;
            for entry in traces {
                let part = entry.first as usize..entry.first as usize + entry.rows as usize;
                for encoded in &spans[part] {
                    let span = decode_span(&mut Reader::new(self.file.name(), encoded))?;
                    if span.trace_id != entry.id {
                        let what = "a span lies under another trace";
                        return Err(Error::corrupt(self.file.name(), 0, what));
                    }
                }
            }
            rows += group.rows as u64;
        }
        if rows != meta.rows {
            let what = format!("it holds {rows} spans, the catalog says {}", meta.rows);
            return Err(Error::corrupt(self.file.name(), 0, what));
        }
        Ok(rows)
    }
}

fn read_group(reader: &mut Reader<'_>) -> Result<Group> {
    let rows = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    let range = TimeRange::new(reader.signed()?, reader.signed()?);
    let fixed = (0..FIXED_PAGES)
        .map(|_| read_page(reader))
        .collect::<Result<Vec<_>>>()?;
    // Every span has ids of sixteen bytes in that page: a row count above that is damage.
    if fixed
        .get(format::PAGE_IDS)
        .is_none_or(|page| page.raw_bytes / 16 != rows)
    {
        return Err(reader.corrupt("a group does not hold as many spans as it says"));
    }
    let mut attributes = BTreeMap::new();
    for _ in 0..reader.count(19)? {
        let key = format::read_key(reader)?;
        attributes.insert(key, read_page(reader)?);
    }
    Ok(Group {
        rows,
        range,
        fixed,
        attributes,
    })
}

fn read_page(reader: &mut Reader<'_>) -> Result<Page> {
    let place = PageRef::read(reader)?;
    let raw_bytes = reader.varint()?;
    if raw_bytes > PAGE_BYTES_MAX {
        return Err(reader.corrupt("a page claims to be larger than any page is"));
    }
    Ok(Page {
        place,
        raw_bytes: usize::try_from(raw_bytes).unwrap_or(usize::MAX),
    })
}

impl Index {
    /// Where a trace lies in this block, if it does.
    pub(crate) fn trace(&self, id: &TraceId) -> Option<&TraceEntry> {
        let at = self
            .traces
            .binary_search_by_key(id, |entry| entry.id)
            .ok()?;
        self.traces.get(at)
    }

    /// The traces of every group, in order of their rows.
    pub(crate) fn traces_by_group(&self) -> Vec<Vec<TraceEntry>> {
        let mut groups = vec![Vec::new(); self.groups.len()];
        for entry in &self.traces {
            groups[entry.group as usize].push(*entry);
        }
        for group in &mut groups {
            group.sort_unstable_by_key(|entry| entry.first);
        }
        groups
    }

    /// The attributes of all groups.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.groups.iter().flat_map(|group| group.attributes.keys())
    }
}
