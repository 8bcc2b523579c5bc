//! Puts rows of several tables together, column by column. `build` calls it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::codec::{put_bytes, put_varint};
use trine_storage::{Error, Kind, Result};

use super::shapes::{self, Numbering, Placed, RowShapes};
use super::table::{AttributeSource, Key, Plan, PoolPages, TableWriter};
use super::values::{Texts, Type, Values};

/// A table that rows are taken from.
pub(crate) trait TableSource {
    /// How many rows there are.
    fn rows(&self) -> usize;

    /// Numbers of all rows of a column that every row has.
    fn numbers(&self, number: u8) -> Result<Cow<'_, [u64]>>;

    /// Texts of all rows of a column that every row has.
    fn texts(&self, key: &Key) -> Result<Cow<'_, Values>>;

    /// Names and types of the attributes.
    fn attributes(&self) -> Vec<(Arc<str>, Type)>;

    /// Which rows have which of them.
    fn shapes(&self) -> Result<Cow<'_, RowShapes>>;

    /// How many attributes there are.
    fn attributes_len(&self) -> usize;

    /// The rows that have an attribute, as often as they have it, when they are told so.
    fn rows_of(&self, attribute: usize) -> Result<Option<Vec<u32>>>;

    /// The pool that has the values of an attribute, and where they begin there.
    fn in_pool(&self, attribute: usize) -> Option<(Type, usize)>;

    /// The values of a page of a pool.
    fn pool_page(&self, kind: Type, page: usize) -> Result<Values>;

    /// The values of an attribute in row order.
    fn values(&self, attribute: usize) -> Result<Cow<'_, Values>>;
}

/// Neighbouring rows of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) source: u32,
    pub(crate) first: u32,
    pub(crate) len: u32,
}

/// Rows of several sources in a new order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    rows: usize,
}

impl Runs {
    /// Appends `len` rows of a source.
    pub(crate) fn push(&mut self, source: u32, first: u32, len: u32) {
        self.rows += len as usize;
        match self.runs.last_mut() {
            Some(last) if last.source == source && last.first + last.len == first => {
                last.len += len;
            }
            _ if len == 0 => {}
            _ => self.runs.push(Run { source, first, len }),
        }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    /// Numbers of these rows, which `of_source` gives for all rows of a source.
    pub(crate) fn numbers(&self, of_source: &[Cow<'_, [u64]>]) -> Vec<u64> {
        let mut out = Vec::with_capacity(self.rows);
        for run in &self.runs {
            let (first, len) = (run.first as usize, run.len as usize);
            let numbers = &of_source[run.source as usize][first..first + len];
            match numbers {
                [one] => out.push(*one),
                _ => out.extend_from_slice(numbers),
            }
        }
        out
    }
}

/// Values of one source on their way into a column.
struct Part<'a> {
    values: Cow<'a, Values>,
    places: Places,
}

/// Where the values of each row are among those of a column.
enum Places {
    /// Every row has one.
    Every,
    /// Those of row `n` begin at the place `n`.
    Starts(Vec<u32>),
}

impl<'a> Part<'a> {
    /// # Errors
    /// [`Kind::Corrupt`] when there are not as many values as rows have.
    fn new(values: Cow<'a, Values>, places: Places, rows: usize) -> Result<Self> {
        let wanted = match &places {
            Places::Every => rows,
            Places::Starts(starts) => starts.last().map_or(0, |last| *last as usize),
        };
        if values.len() != wanted {
            let what = format!("a column has {} values of {wanted}", values.len());
            return Err(Error::new(Kind::Corrupt, what));
        }
        Ok(Self { values, places })
    }

    fn range(&self, run: &Run) -> Range<usize> {
        let (first, end) = (run.first as usize, (run.first + run.len) as usize);
        match &self.places {
            Places::Every => first..end,
            Places::Starts(starts) => starts[first] as usize..starts[end] as usize,
        }
    }
}

/// The values of `runs`, of which some sources may have none.
fn gather(parts: &[Option<Part<'_>>], runs: &Runs) -> Values {
    let held = || parts.iter().flatten();
    let is_numbers = |part: &Part<'_>| matches!(*part.values, Values::Numbers(_));
    let is_coded = |part: &Part<'_>| matches!(*part.values, Values::Coded { .. });
    if held().all(is_numbers) {
        return Values::Numbers(gather_numbers(parts, runs));
    }
    if held().all(is_coded) {
        return gather_coded(parts, runs);
    }
    let mut out = Texts::default();
    for run in runs.iter() {
        let Some(part) = &parts[run.source as usize] else {
            continue;
        };
        match &*part.values {
            Values::Plain(texts) => part.range(run).for_each(|at| out.push(texts.get(at))),
            Values::Coded { codes, dictionary } => {
                let codes = &codes[part.range(run)];
                codes
                    .iter()
                    .for_each(|code| out.push(dictionary.get(*code as usize)));
            }
            Values::Numbers(_) => {}
        }
    }
    Values::Plain(out)
}

/// How many values `runs` have at most.
fn most(parts: &[Option<Part<'_>>]) -> usize {
    parts.iter().flatten().map(|part| part.values.len()).sum()
}

fn gather_numbers(parts: &[Option<Part<'_>>], runs: &Runs) -> Vec<u64> {
    let mut out = Vec::with_capacity(most(parts));
    for run in runs.iter() {
        if let Some(part) = &parts[run.source as usize]
            && let Values::Numbers(numbers) = &*part.values
        {
            out.extend_from_slice(&numbers[part.range(run)]);
        }
    }
    out
}

fn gather_coded(parts: &[Option<Part<'_>>], runs: &Runs) -> Values {
    let mut out = Vec::with_capacity(most(parts));
    let coded = |part: &Option<Part<'_>>| part.is_some();
    let alone = parts.iter().filter(|part| coded(part)).count() == 1;
    let mut dictionary = Texts::default();
    let mut numbers: HashMap<&[u8], u32> = HashMap::new();
    let mut remaps: Vec<Vec<u32>> = Vec::with_capacity(parts.len());
    for part in parts {
        let mut remap = Vec::new();
        if let Some(part) = part
            && let Values::Coded {
                dictionary: held, ..
            } = &*part.values
        {
            if alone {
                dictionary = held.clone();
            } else {
                remap.extend(held.iter().map(|text| {
                    *numbers.entry(text).or_insert_with(|| {
                        dictionary.push(text);
                        dictionary.len() as u32 - 1
                    })
                }));
            }
        }
        remaps.push(remap);
    }
    for run in runs.iter() {
        if let Some(part) = &parts[run.source as usize]
            && let Values::Coded { codes, .. } = &*part.values
        {
            let codes = &codes[part.range(run)];
            if alone {
                out.extend_from_slice(codes);
            } else {
                let remap = &remaps[run.source as usize];
                out.extend(codes.iter().map(|code| remap[*code as usize]));
            }
        }
    }
    Values::Coded {
        codes: out,
        dictionary,
    }
}

/// What rows of a table hold, in bytes that are equal for equal rows of any table of the kind.
///
/// # Errors
/// [`Kind::Corrupt`] when a row is not there, and those of reading.
pub(crate) fn contents(
    source: &dyn TableSource,
    (numbers, texts): (&[u8], &[Key]),
    rows: &RoaringBitmap,
) -> Result<Vec<Vec<u8>>> {
    if rows
        .max()
        .is_some_and(|last| last as usize >= source.rows())
    {
        return Err(Error::new(
            Kind::Corrupt,
            "a span names a row that is not there",
        ));
    }
    let mut out = vec![Vec::new(); rows.len() as usize];
    for &number in numbers {
        let held = source.numbers(number)?;
        for (out, row) in out.iter_mut().zip(rows) {
            put_varint(out, held[row as usize]);
        }
    }
    for key in texts {
        let held = source.texts(key)?;
        let held = Part::new(held, Places::Every, source.rows())?;
        for (out, row) in out.iter_mut().zip(rows) {
            put_value(out, &held.values, row as usize);
        }
    }
    let shapes = source.shapes()?;
    let mut placed = shapes.placed(source.attributes_len());
    let mut columns = Vec::new();
    for (at, (name, kind)) in source.attributes().into_iter().enumerate() {
        let places = Places::Starts(placed.starts(at as u32));
        let part = Part::new(source.values(at)?, places, source.rows())?;
        columns.push((name, kind, part));
    }
    let mut seen = vec![0usize; columns.len()];
    for (out, row) in out.iter_mut().zip(rows) {
        let list = shapes.of_row(row as usize);
        for column in list {
            let (name, kind, part) = &columns[column as usize];
            put_bytes(out, name.as_bytes());
            out.push(*kind as u8);
            let one = Run {
                source: 0,
                first: row,
                len: 1,
            };
            put_value(
                out,
                &part.values,
                part.range(&one).start + seen[column as usize],
            );
            seen[column as usize] += 1;
        }
        list.for_each(|column| seen[column as usize] = 0);
    }
    Ok(out)
}

fn put_value(out: &mut Vec<u8>, values: &Values, at: usize) {
    match values {
        Values::Numbers(numbers) => put_varint(out, numbers[at]),
        Values::Coded { codes, dictionary } => put_bytes(out, dictionary.get(codes[at] as usize)),
        Values::Plain(texts) => put_bytes(out, texts.get(at)),
    }
}

/// Writes rows of several tables as one: the numbers and texts that every row has, and the
/// attributes.
pub(crate) fn write(
    writer: &mut TableWriter<'_>,
    sources: &[&dyn TableSource],
    runs: &Runs,
    numbers: &[u8],
    texts: &[Key],
) -> Result<()> {
    for &number in numbers {
        let held = sources.iter().map(|source| source.numbers(number));
        let held = held.collect::<Result<Vec<_>>>()?;
        writer.every(Key::Number(number), &Values::Numbers(runs.numbers(&held)))?;
    }
    for key in texts {
        let mut parts = Vec::with_capacity(sources.len());
        for source in sources {
            let part = Part::new(source.texts(key)?, Places::Every, source.rows())?;
            parts.push(Some(part));
        }
        writer.every(key.clone(), &gather(&parts, runs))?;
    }
    attributes(writer, sources, runs)
}

/// Columns that at most one row in so many has are put together by their rows alone.
const ROWS_PER_VALUE: u64 = 64;

fn attributes(
    writer: &mut TableWriter<'_>,
    sources: &[&dyn TableSource],
    runs: &Runs,
) -> Result<()> {
    let of_sources: Vec<Vec<(Arc<str>, Type)>> = sources.iter().map(|s| s.attributes()).collect();
    let mut keys: Vec<(Arc<str>, Type)> = of_sources.iter().flatten().cloned().collect();
    keys.sort();
    keys.dedup();
    let number = |key: &(Arc<str>, Type)| keys.binary_search(key).unwrap_or(0) as u32;
    let numbers: Vec<Vec<u32>> = of_sources
        .iter()
        .map(|keys| keys.iter().map(number).collect())
        .collect();
    drop(of_sources);
    let held = sources.iter().map(|source| source.shapes());
    let held = held.collect::<Result<Vec<_>>>()?;
    let shapes = shapes_of(&held, &numbers, runs);
    let plan = Plan::new(keys.len(), &shapes);
    let few = Few::of(&plan, keys.len(), &held, &numbers, runs);
    let mut of_sources = Vec::with_capacity(sources.len());
    for ((source, held), numbers) in sources.iter().zip(held).zip(&numbers) {
        // Of each column its place among those of the source.
        let mut places = vec![None; keys.len()];
        for (at, number) in numbers.iter().enumerate() {
            places[*number as usize] = Some(at);
        }
        of_sources.push(OfSource {
            source: *source,
            places,
            shapes: held,
        });
    }
    let mut columns = Columns {
        sources: &of_sources,
        placed: of_sources.iter().map(|_| None).collect(),
        pools: of_sources.iter().map(|_| PoolPages::default()).collect(),
        few,
        runs,
    };
    writer.attributes(&keys, &shapes, &plan, &mut columns)
}

/// A source, and where it has which columns.
struct OfSource<'a> {
    source: &'a dyn TableSource,
    /// By column.
    places: Vec<Option<usize>>,
    shapes: Cow<'a, RowShapes>,
}

/// The columns of several sources.
struct Columns<'a> {
    sources: &'a [OfSource<'a>],
    /// Made for the first column that asks.
    placed: Vec<Option<Placed<'a>>>,
    /// Where the pools of each source were read last.
    pools: Vec<PoolPages>,
    few: Few,
    runs: &'a Runs,
}

impl AttributeSource for Columns<'_> {
    fn values(&mut self, column: usize) -> Result<Values> {
        if let Some(entries) = self.few.of_column(column) {
            let mut held = Vec::with_capacity(self.sources.len());
            for (OfSource { source, places, .. }, pages) in self.sources.iter().zip(&mut self.pools)
            {
                let at = places[column];
                held.push(match at.and_then(|at| source.in_pool(at)) {
                    Some((kind, first)) => FewOf::Pool {
                        source: *source,
                        kind,
                        first,
                        pages,
                    },
                    None => match at {
                        Some(at) => FewOf::Values(source.values(at)?),
                        None => FewOf::Nothing,
                    },
                });
            }
            return gather_few(&mut held, entries);
        }
        let mut parts = Vec::with_capacity(self.sources.len());
        for (of_source, placed) in self.sources.iter().zip(&mut self.placed) {
            let Some(at) = of_source.places[column] else {
                parts.push(None);
                continue;
            };
            let source = of_source.source;
            let starts = match source.rows_of(at)? {
                Some(rows) => shapes::starts_of(&rows, source.rows()),
                None => {
                    let columns = source.attributes_len();
                    let placed = placed.get_or_insert_with(|| of_source.shapes.placed(columns));
                    placed.starts(at as u32)
                }
            };
            let places = Places::Starts(starts);
            parts.push(Some(Part::new(source.values(at)?, places, source.rows())?));
        }
        Ok(gather(&parts, self.runs))
    }

    fn rows(&self, column: usize) -> Vec<u64> {
        let entries = self.few.of_column(column).unwrap_or_default();
        entries.iter().map(|entry| entry.row.into()).collect()
    }
}

/// Where a value of a column is that few rows have.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// In the new order.
    row: u32,
    source: u32,
    /// Among the values that the source has of the column.
    place: u32,
}

/// Columns that few rows have, so that ten thousand of them do not cost ten thousand walks over all
/// rows.
struct Few {
    /// Of the first such column, then of the second and so on, in the new order.
    entries: Vec<Entry>,
    /// By column; an empty range for those that many rows have.
    ranges: Vec<Range<usize>>,
}

/// A value of a column of few rows, as its source has it.
struct Placement {
    row: u32,
    column: u32,
    place: u32,
}

impl Few {
    fn of(
        plan: &Plan,
        columns: usize,
        held: &[Cow<'_, RowShapes>],
        numbers: &[Vec<u32>],
        runs: &Runs,
    ) -> Self {
        let mut ranges = Vec::with_capacity(columns);
        let mut next = 0;
        for column in 0..columns as u32 {
            let values = plan.values(column);
            let is_few = plan.is_rare(column) || values * ROWS_PER_VALUE <= runs.rows() as u64;
            let first = next;
            next += if is_few { values as usize } else { 0 };
            ranges.push(first..next);
        }
        if next == 0 {
            return Self {
                entries: Vec::new(),
                ranges,
            };
        }
        let placed = held.iter().zip(numbers);
        let placed: Vec<Vec<Placement>> = placed
            .map(|(held, numbers)| Self::placements(held, numbers, &ranges))
            .collect();
        let mut entries = vec![Entry::default(); next];
        let mut ends: Vec<usize> = ranges.iter().map(|range| range.start).collect();
        let mut row = 0;
        for run in runs.iter() {
            let placed = &placed[run.source as usize];
            let first = placed.partition_point(|held| held.row < run.first);
            let of_run = placed[first..].iter();
            for held in of_run.take_while(|held| held.row - run.first < run.len) {
                let end = &mut ends[held.column as usize];
                entries[*end] = Entry {
                    row: row + held.row - run.first,
                    source: run.source,
                    place: held.place,
                };
                *end += 1;
            }
            row += run.len;
        }
        Self { entries, ranges }
    }

    /// The values of such columns of a source, in the order of its rows.
    fn placements(held: &RowShapes, numbers: &[u32], ranges: &[Range<usize>]) -> Vec<Placement> {
        let is_few: Vec<bool> = numbers
            .iter()
            .map(|column| !ranges[*column as usize].is_empty())
            .collect();
        let has_few = held.lists.iter();
        let has_few = has_few.map(|mut list| list.any(|column| is_few[column as usize]));
        let has_few: Vec<bool> = has_few.collect();
        let mut seen = vec![0u32; numbers.len()];
        let mut placed = Vec::new();
        for (row, code) in (0u32..).zip(&held.codes) {
            if !has_few[*code as usize] {
                continue;
            }
            let columns = held.lists.get(*code);
            for column in columns.filter(|column| is_few[*column as usize]) {
                let place = &mut seen[column as usize];
                placed.push(Placement {
                    row,
                    column: numbers[column as usize],
                    place: *place,
                });
                *place += 1;
            }
        }
        placed
    }

    /// The values of a column; none when many rows have it.
    fn of_column(&self, column: usize) -> Option<&[Entry]> {
        let range = self.ranges.get(column)?;
        (!range.is_empty()).then(|| &self.entries[range.clone()])
    }
}

/// What a source has of a column that few rows have.
enum FewOf<'a> {
    Nothing,
    Values(Cow<'a, Values>),
    Pool {
        source: &'a dyn TableSource,
        kind: Type,
        first: usize,
        pages: &'a mut PoolPages,
    },
}

impl FewOf<'_> {
    /// Where the value at a place is.
    fn at(&mut self, place: u32) -> Result<(&Values, usize)> {
        let missing = || Error::new(Kind::Corrupt, "a column has fewer values than rows");
        let (values, at) = match self {
            Self::Nothing => return Err(missing()),
            Self::Values(values) => (&**values, place as usize),
            Self::Pool {
                source,
                kind,
                first,
                pages,
            } => pages.at(*kind, *first + place as usize, |page| {
                source.pool_page(*kind, page)
            })?,
        };
        match at < values.len() {
            true => Ok((values, at)),
            false => Err(missing()),
        }
    }
}

/// The values of a column that few rows have.
///
/// # Errors
/// [`Kind::Corrupt`] when a source has not as many as its rows say, and those of reading.
fn gather_few(held: &mut [FewOf<'_>], entries: &[Entry]) -> Result<Values> {
    let (mut numbers, mut texts) = (Vec::new(), Texts::default());
    for entry in entries {
        match held[entry.source as usize].at(entry.place)? {
            (Values::Numbers(held), at) => numbers.push(held[at]),
            (Values::Plain(held), at) => texts.push(held.get(at)),
            (Values::Coded { codes, dictionary }, at) => {
                texts.push(dictionary.get(codes[at] as usize));
            }
        }
    }
    Ok(match texts.is_empty() {
        true => Values::Numbers(numbers),
        false => Values::Plain(texts),
    })
}

/// The shapes of the rows, with the numbers that columns have now.
fn shapes_of(held: &[Cow<'_, RowShapes>], numbers: &[Vec<u32>], runs: &Runs) -> RowShapes {
    let mut numbering = Numbering::default();
    let mut remaps: Vec<Vec<u32>> = Vec::with_capacity(held.len());
    for (shapes, numbers) in held.iter().zip(numbers) {
        let told = |column: u32| numbers[column as usize];
        let remap = shapes.lists.iter();
        remaps.push(remap.map(|list| numbering.number(list.map(told))).collect());
    }
    let mut codes = Vec::with_capacity(runs.rows());
    for run in runs.iter() {
        let source = run.source as usize;
        let (first, end) = (run.first as usize, (run.first + run.len) as usize);
        let of_run = held[source].codes[first..end].iter();
        codes.extend(of_run.map(|code| remaps[source][*code as usize]));
    }
    RowShapes {
        codes,
        lists: numbering.finish(),
    }
}
