//! Puts rows of several tables together, column by column. `build` calls it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::codec::{put_bytes, put_varint};
use trine_storage::{Error, Kind, Result};

use super::shapes::{Lists, RowShapes};
use super::table::{Key, TableWriter};
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
    /// The row of each value.
    Rows(Vec<u32>),
}

impl<'a> Part<'a> {
    /// # Errors
    /// [`Kind::Corrupt`] when there are not as many values as rows have.
    fn new(values: Cow<'a, Values>, places: Places, rows: usize) -> Result<Self> {
        let wanted = match &places {
            Places::Every => rows,
            Places::Starts(starts) => starts.last().map_or(0, |last| *last as usize),
            Places::Rows(rows) => rows.len(),
        };
        if values.len() != wanted {
            let what = format!("a column has {} values of {wanted}", values.len());
            return Err(Error::new(Kind::Corrupt, what));
        }
        Ok(Self { values, places })
    }

    fn range(&self, run: &Run) -> std::ops::Range<usize> {
        let (first, end) = (run.first as usize, (run.first + run.len) as usize);
        match &self.places {
            Places::Every => first..end,
            Places::Starts(starts) => starts[first] as usize..starts[end] as usize,
            Places::Rows(rows) => {
                let place = |row: usize| rows.partition_point(|held| (*held as usize) < row);
                place(first)..place(end)
            }
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
    let mut columns = Vec::new();
    for (at, (name, kind)) in source.attributes().into_iter().enumerate() {
        let places = Places::Starts(shapes.starts(at as u32));
        let part = Part::new(source.values(at)?, places, source.rows())?;
        columns.push((name, kind, part));
    }
    let mut seen = vec![0usize; columns.len()];
    for (out, row) in out.iter_mut().zip(rows) {
        let list = &shapes.lists[shapes.codes[row as usize] as usize];
        for &column in list {
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
        list.iter().for_each(|column| seen[*column as usize] = 0);
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
    let held = sources.iter().map(|source| source.shapes());
    let held = held.collect::<Result<Vec<_>>>()?;
    let shapes = shapes_of(&held, &numbers, runs);
    let few = Few::of(&shapes, keys.len(), &held, &numbers, runs);
    // Of each source the place of a column among its own.
    let mut places: Vec<HashMap<u32, usize>> = Vec::with_capacity(sources.len());
    for numbers in &numbers {
        places.push(
            numbers
                .iter()
                .enumerate()
                .map(|(at, number)| (*number, at))
                .collect(),
        );
    }
    writer.attributes(&keys, &shapes, &mut |column| {
        let column = column as u32;
        let of_few = few.runs.get(column as usize).and_then(Option::as_ref);
        let runs = of_few.unwrap_or(runs);
        let mut parts = Vec::with_capacity(sources.len());
        for (source, input) in sources.iter().enumerate() {
            let Some(&at) = places[source].get(&column) else {
                parts.push(None);
                continue;
            };
            let places = match of_few {
                Some(_) => Places::Rows(few.rows[source][column as usize].clone()),
                None => Places::Starts(held[source].starts(at as u32)),
            };
            parts.push(Some(Part::new(input.values(at)?, places, input.rows())?));
        }
        Ok(gather(&parts, runs))
    })
}

/// Columns that few rows have, and those rows: so that ten thousand of them do not cost ten thousand
/// walks over all rows.
#[derive(Default)]
struct Few {
    /// By column, the rows that have it in the new order.
    runs: Vec<Option<Runs>>,
    /// Of each source, by column, the row of each value.
    rows: Vec<Vec<Vec<u32>>>,
}

impl Few {
    fn of(
        shapes: &RowShapes,
        columns: usize,
        held: &[Cow<'_, RowShapes>],
        numbers: &[Vec<u32>],
        runs: &Runs,
    ) -> Self {
        let mut rows_with = vec![0u64; columns];
        for (list, rows) in shapes.lists.iter().zip(shapes.rows_by_list()) {
            list.iter()
                .for_each(|column| rows_with[*column as usize] += u64::from(rows));
        }
        let is_few =
            |column: &u32| rows_with[*column as usize] * ROWS_PER_VALUE <= runs.rows() as u64;
        let none = |column| is_few(&column).then(Runs::default);
        let mut few = Self {
            runs: (0..columns as u32).map(none).collect(),
            rows: vec![vec![Vec::new(); columns]; held.len()],
        };
        for ((held, numbers), found) in held.iter().zip(numbers).zip(&mut few.rows) {
            let of_list = |list: &[u32]| -> Vec<u32> {
                let known = list.iter().map(|column| numbers[*column as usize]);
                known.filter(is_few).collect()
            };
            let lists: Vec<Vec<u32>> = held.lists.iter().map(|list| of_list(list)).collect();
            for (row, code) in (0u32..).zip(&held.codes) {
                for column in &lists[*code as usize] {
                    found[*column as usize].push(row);
                }
            }
        }
        let of_list = |list: &[u32]| -> Vec<u32> {
            let mut columns: Vec<u32> = list.iter().copied().filter(is_few).collect();
            columns.sort_unstable();
            columns.dedup();
            columns
        };
        let lists: Vec<Vec<u32>> = shapes.lists.iter().map(|list| of_list(list)).collect();
        let mut codes = shapes.codes.iter();
        for run in runs.iter() {
            for (row, code) in (run.first..run.first + run.len).zip(&mut codes) {
                for column in &lists[*code as usize] {
                    if let Some(runs) = &mut few.runs[*column as usize] {
                        runs.push(run.source, row, 1);
                    }
                }
            }
        }
        few
    }
}

/// The shapes of the rows, with the numbers that columns have now.
fn shapes_of(held: &[Cow<'_, RowShapes>], numbers: &[Vec<u32>], runs: &Runs) -> RowShapes {
    let mut lists = Lists::default();
    let mut told = Vec::new();
    let mut remaps: Vec<Vec<u32>> = Vec::with_capacity(held.len());
    for (shapes, numbers) in held.iter().zip(numbers) {
        let mut remap = Vec::with_capacity(shapes.lists.len());
        for list in &shapes.lists {
            told.clear();
            told.extend(list.iter().map(|column| numbers[*column as usize]));
            remap.push(lists.number(&told));
        }
        remaps.push(remap);
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
        lists: lists.finish(),
    }
}
