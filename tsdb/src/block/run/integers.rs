//! Columns of integers: linear, seldom changing, or coded in pages. Timestamps are such columns,
//! and the columns of floats and histograms are made of them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;

use trine_storage::codec::{Reader, put_bytes, put_signed, put_varint};
use trine_storage::{Error, Result};

use super::Effort;
use super::bins::{Bins, Histogram};
use super::page::{Decoder, Encoder, PAGE_ROWS};

/// The kind of a column is in the two lowest bits of its first byte.
const LINEAR: u8 = 0;
const CHANGES: u8 = 1;
const CODED: u8 = 2;
const KIND_MASK: u8 = 3;
/// Where the first byte of a coded column has the order of the differences (two bits).
const ORDER_SHIFT: u32 = 2;
/// Set when residuals are folded around their centre, else they are counted from the least one.
const FOLDED: u8 = 1 << 4;
/// Set when a common factor of all differences follows.
const FACTOR: u8 = 1 << 5;
/// Set when the rows are distances from a line, whose slope follows.
const SLOPE: u8 = 1 << 6;

/// The greatest order of differences.
const ORDER_MAX: u8 = 2;
/// A column is stored as its changes when at most one row in this many is one.
const ROWS_PER_CHANGE: usize = 24;
/// Rows looked at to compare the orders of differences.
const SAMPLE_ROWS: usize = 256;
/// They are taken in blocks of so many neighbours.
const SAMPLE_BLOCK: usize = 16;
/// A line must spare so much a row, by the sample, because it is read a little slower.
const SLOPE_BITS: f64 = 0.25;
/// An order is worth a closer look when the sample says that it costs at most this much more.
const SAMPLE_ERROR_BITS: f64 = 1.0;

/// Whether a column may be stored as its changes: the columns inside of such a one may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    Outer,
    Inner,
}

/// Appends the column of `values`; nothing when there are none.
pub(super) fn encode(values: &[i64], effort: Effort, nesting: Nesting, out: &mut Vec<u8>) {
    let [first, rest @ ..] = values else { return };
    let step = rest.first().map_or(0, |second| second.wrapping_sub(*first));
    let pairs = || {
        rest.iter()
            .zip(values)
            .map(|(to, from)| to.wrapping_sub(*from))
    };
    if pairs().all(|difference| difference == step) {
        out.push(LINEAR);
        put_signed(out, *first);
        put_signed(out, step);
        return;
    }
    let changes = pairs().filter(|&difference| difference != 0).count();
    if nesting == Nesting::Outer && changes * ROWS_PER_CHANGE <= values.len() {
        encode_changes(values, effort, out);
    } else {
        encode_coded(values, effort, out);
    }
}

fn encode_changes(values: &[i64], effort: Effort, out: &mut Vec<u8>) {
    let mut rows = Vec::new();
    let mut levels: Vec<i64> = values.first().copied().into_iter().collect();
    for ((row, from), to) in (1..).zip(values).zip(values.iter().skip(1)) {
        if from != to {
            rows.push(row);
            levels.push(*to);
        }
    }
    out.push(CHANGES);
    put_varint(out, rows.len() as u64);
    let mut column = Vec::new();
    encode(&from_rows(&rows), effort, Nesting::Inner, &mut column);
    put_bytes(out, &column);
    encode(&levels, effort, Nesting::Inner, out);
}

/// How the rows of a coded column become the numbers of its pages.
#[derive(Debug)]
struct Model {
    order: u8,
    folded: bool,
    centre: i64,
    bins: Bins,
    residuals: Vec<i64>,
}

impl Model {
    /// The number that stands for a residual.
    #[inline]
    fn number(&self, residual: i64) -> u64 {
        number(residual, self.folded, self.centre)
    }
}

#[inline]
fn number(residual: i64, folded: bool, centre: i64) -> u64 {
    let offset = residual.wrapping_sub(centre);
    if folded {
        ((offset << 1) ^ (offset >> 63)).cast_unsigned()
    } else {
        offset.cast_unsigned()
    }
}

fn encode_coded(values: &[i64], effort: Effort, out: &mut Vec<u8>) {
    let costs = [0, 1, ORDER_MAX].map(|order| sample_bits(values, order));
    let (slope, distances) = distances(values, &costs);
    let (scaled, factor) = scale(&distances);
    let orders = if slope == 0 {
        orders(&costs, effort)
    } else {
        vec![0]
    };
    let mut best: Option<(f32, Model)> = None;
    for order in orders {
        let residuals = residuals(&scaled, order);
        let least = residuals.iter().copied().min().unwrap_or(0);
        let forms = [(false, least), (true, median(&residuals))].map(|(folded, centre)| {
            let numbers = residuals
                .iter()
                .map(|&residual| number(residual, folded, centre));
            let (bins, cost) = Histogram::new(numbers).bins();
            (cost, folded, centre, bins)
        });
        let better = forms.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((cost, folded, centre, bins)) = better else {
            continue;
        };
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((
                cost,
                Model {
                    order,
                    folded,
                    centre,
                    bins,
                    residuals,
                },
            ));
        }
    }
    let Some((_, model)) = best else { return };
    let mut flags = CODED | model.order << ORDER_SHIFT;
    if model.folded {
        flags |= FOLDED;
    }
    if factor > 1 {
        flags |= FACTOR;
    }
    if slope != 0 {
        flags |= SLOPE;
    }
    out.push(flags);
    let first = values.first().copied().unwrap_or(0);
    let origin = state_before(&scaled, &model.residuals, model.order, 0);
    let base = first.wrapping_add(origin.value.wrapping_mul(factor.cast_signed()));
    put_signed(out, base);
    if slope != 0 {
        put_signed(out, slope);
    }
    if factor > 1 {
        put_varint(out, factor);
    }
    put_signed(out, model.centre);
    model.bins.write(out);
    let mut encoder = Encoder::new(&model.bins);
    let mut pages = Vec::new();
    let mut value = origin.value;
    for (page, rows) in model.residuals.chunks(PAGE_ROWS).enumerate() {
        let state = state_before(&scaled, &model.residuals, model.order, page * PAGE_ROWS);
        if model.order >= 1 && page > 0 {
            put_signed(out, state.value.wrapping_sub(value));
            value = state.value;
        }
        if model.order == 2 {
            put_signed(out, state.difference);
        }
        let start = pages.len();
        encoder.encode(
            rows.iter().map(|&residual| model.number(residual)),
            &mut pages,
        );
        if (page + 1) * PAGE_ROWS < values.len() {
            put_varint(out, (pages.len() - start) as u64);
        }
    }
    out.extend_from_slice(&pages);
}

/// The rows as multiples of their greatest common factor, counted from the first; and the factor.
fn scale(values: &[i64]) -> (Vec<i64>, u64) {
    let first = values.first().copied().unwrap_or(0);
    let mut scaled: Vec<i64> = values
        .iter()
        .map(|value| value.wrapping_sub(first))
        .collect();
    let any = scaled.iter().fold(0, |bits, difference| bits | difference);
    let overflows = values
        .iter()
        .any(|value| value.checked_sub(first).is_none());
    let powers = 1u64 << any.trailing_zeros().min(62);
    let mut factor = 0u64;
    for difference in scaled.iter().map(|difference| difference.unsigned_abs()) {
        if factor == powers || overflows {
            break;
        }
        if factor == 0 || difference % factor != 0 {
            factor = greatest_common_factor(factor, difference);
        }
    }
    if overflows || factor <= 1 {
        return (scaled, 1);
    }
    if factor.is_power_of_two() {
        let shift = factor.trailing_zeros();
        for difference in &mut scaled {
            *difference >>= shift;
        }
    } else {
        for difference in &mut scaled {
            *difference = difference.wrapping_div(factor.cast_signed());
        }
    }
    (scaled, factor)
}

fn greatest_common_factor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The slope of a line that the rows keep close to, as scrape times do, and their distances from
/// it; `costs` is what the orders of differences cost in a sample. Without such a line the slope is zero and the rows stay as they are.
fn distances(values: &[i64], costs: &[f64]) -> (i64, Vec<i64>) {
    let as_they_are = (0, values.to_vec());
    let (Some(first), Some(last)) = (values.first(), values.last()) else {
        return as_they_are;
    };
    let steps = i64::try_from(values.len()).unwrap_or(i64::MAX) - 1;
    // Half of the range must do: the sum of two such numbers does not overflow.
    let Some(rise) = last
        .checked_sub(*first)
        .filter(|rise| rise.checked_mul(2).is_some())
    else {
        return as_they_are;
    };
    let slope = (rise + rise.signum() * (steps / 2)) / steps.max(1);
    if slope == 0 {
        return as_they_are;
    }
    let line = (0..=steps).map(|row| slope.wrapping_mul(row));
    let distances: Vec<i64> = values
        .iter()
        .zip(line)
        .map(|(value, line)| value.wrapping_sub(line))
        .collect();
    let best = costs.iter().copied().fold(f64::MAX, f64::min);
    if sample_bits(&distances, 0) < best - SLOPE_BITS {
        (slope, distances)
    } else {
        as_they_are
    }
}

/// How many bits a residual of `order` needs on average in a sample of the rows, roughly.
fn sample_bits(values: &[i64], order: u8) -> f64 {
    // Blocks of neighbours, so that a sample has differences too.
    let stride = (values.len() * SAMPLE_BLOCK / SAMPLE_ROWS).max(SAMPLE_BLOCK);
    let skip = usize::from(ORDER_MAX);
    let mut sample = Vec::with_capacity(SAMPLE_ROWS + SAMPLE_BLOCK);
    for rows in values.chunks(stride) {
        let rows = rows.get(..SAMPLE_BLOCK).unwrap_or(rows);
        if rows.len() > skip {
            sample.extend(residuals(rows, order).into_iter().skip(skip));
        }
    }
    let centre = median(&sample);
    let bits =
        |residual: &i64| u64::BITS - residual.wrapping_sub(centre).unsigned_abs().leading_zeros();
    let sum: u32 = sample.iter().map(bits).sum();
    f64::from(sum) / sample.len().max(1) as f64
}

/// The orders of differences to try, by what they cost in a sample.
fn orders(costs: &[f64], effort: Effort) -> Vec<u8> {
    let least = costs.iter().copied().fold(f64::MAX, f64::min);
    let error = match effort {
        Effort::Fast => 0.0,
        Effort::Small => SAMPLE_ERROR_BITS,
    };
    let close = (0..=ORDER_MAX)
        .zip(costs)
        .filter(|(_, cost)| **cost <= least + error);
    close.map(|(order, _)| order).collect()
}

/// The differences of `order`; the first ones, which have no predecessors, are as the next.
fn residuals(scaled: &[i64], order: u8) -> Vec<i64> {
    let mut residuals = scaled.to_vec();
    for _ in 0..order {
        let mut before = 0;
        for value in &mut residuals {
            before = std::mem::replace(value, value.wrapping_sub(before));
        }
    }
    let order = usize::from(order);
    let next = residuals.get(order).copied().unwrap_or(0);
    for value in residuals.iter_mut().take(order) {
        *value = next;
    }
    residuals
}

/// What is known before a row: the value and the difference that it builds on.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    value: i64,
    difference: i64,
}

/// The state before `row`. Before the first it is such that the first residuals come out right.
fn state_before(scaled: &[i64], residuals: &[i64], order: u8, row: usize) -> State {
    let at = |row: usize| scaled.get(row).copied().unwrap_or(0);
    let residual = residuals.first().copied().unwrap_or(0);
    if order == 0 {
        return State::default();
    }
    if row >= 2 {
        let value = at(row - 1);
        return State {
            value,
            difference: value.wrapping_sub(at(row - 2)),
        };
    }
    if order == 1 {
        return State {
            value: at(0).wrapping_sub(residual),
            difference: 0,
        };
    }
    let first = at(1).wrapping_sub(at(0)).wrapping_sub(residual);
    State {
        value: at(0).wrapping_sub(first),
        difference: first.wrapping_sub(residual),
    }
}

/// The median of at most [`SAMPLE_ROWS`] values.
fn median(values: &[i64]) -> i64 {
    let stride = values.len().div_ceil(SAMPLE_ROWS).max(1);
    let mut sample: Vec<i64> = values.iter().copied().step_by(stride).collect();
    let middle = sample.len() / 2;
    if sample.is_empty() {
        return 0;
    }
    *sample.select_nth_unstable(middle).1
}

/// A column that was opened for reading.
#[derive(Debug)]
pub(super) struct Column<'a> {
    name: &'a str,
    count: usize,
    body: Body<'a>,
}

#[derive(Debug)]
enum Body<'a> {
    Linear { base: i64, step: i64 },
    Changes { rows: Vec<usize>, levels: Vec<i64> },
    Coded(Box<Coded<'a>>),
}

#[derive(Debug)]
struct Coded<'a> {
    order: u8,
    folded: bool,
    base: i64,
    slope: i64,
    factor: i64,
    centre: i64,
    decoder: Decoder,
    pages: Vec<(State, &'a [u8])>,
}

impl<'a> Column<'a> {
    /// Opens the column of `count` rows that `bytes` holds and nothing else; `name` is what errors
    /// call it.
    ///
    /// # Errors
    /// Corrupt when the bytes are not such a column.
    pub(super) fn open(
        name: &'a str,
        bytes: &'a [u8],
        count: usize,
        nesting: Nesting,
    ) -> Result<Self> {
        let mut reader = Reader::new(name, bytes);
        let body = if count == 0 {
            Body::Linear { base: 0, step: 0 }
        } else {
            let flags = reader.u8()?;
            match flags & KIND_MASK {
                LINEAR if flags == LINEAR => {
                    let base = reader.signed()?;
                    Body::Linear {
                        base,
                        step: reader.signed()?,
                    }
                }
                CHANGES if flags == CHANGES && nesting == Nesting::Outer => {
                    open_changes(name, &mut reader, count)?
                }
                CODED => Body::Coded(Box::new(open_coded(flags, &mut reader, count)?)),
                _ => return Err(reader.corrupt("a column is of no known kind")),
            }
        };
        if !reader.is_empty() {
            return Err(reader.corrupt("a column is longer than its rows"));
        }
        Ok(Self { name, count, body })
    }

    /// Gives `rows` to `each`, in order, in slices of at most [`PAGE_ROWS`]. Only the pages that
    /// hold them are decoded.
    ///
    /// # Errors
    /// Corrupt; Invalid when there are no such rows.
    pub(super) fn read(&self, rows: Range<usize>, mut each: impl FnMut(&[i64])) -> Result<()> {
        if rows.start > rows.end || rows.end > self.count {
            return Err(Error::invalid(format!(
                "{} has {} rows, not rows {rows:?}",
                self.name, self.count
            )));
        }
        let mut buffer = Vec::with_capacity(PAGE_ROWS.min(rows.len()));
        let mut start = rows.start;
        while start < rows.end {
            let page = start / PAGE_ROWS;
            let skip = start % PAGE_ROWS;
            let end = rows.end.min((page + 1) * PAGE_ROWS);
            match &self.body {
                Body::Linear { base, step } => {
                    buffer.clear();
                    let rows = (start as i64)..(end as i64);
                    buffer.extend(rows.map(|row| base.wrapping_add(step.wrapping_mul(row))));
                    each(&buffer);
                }
                Body::Changes { rows, levels } => {
                    buffer.clear();
                    fill_changes(rows, levels, start..end, &mut buffer);
                    each(&buffer);
                }
                Body::Coded(coded) => {
                    let page_rows = PAGE_ROWS.min(self.count - page * PAGE_ROWS);
                    let decoded =
                        coded.decode(page, page_rows, end - page * PAGE_ROWS, &mut buffer);
                    let values = decoded.and_then(|()| buffer.get(skip..));
                    each(values.ok_or_else(|| Error::corrupt(self.name, 0, "a page is damaged"))?);
                }
            }
            start = end;
        }
        Ok(())
    }

    /// Appends `rows` to `out`.
    pub(super) fn append(&self, rows: Range<usize>, out: &mut Vec<i64>) -> Result<()> {
        out.reserve(rows.len().min(self.count));
        self.read(rows, |values| out.extend_from_slice(values))
    }
}

fn open_changes<'a>(name: &str, reader: &mut Reader<'_>, count: usize) -> Result<Body<'a>> {
    let number = reader.varint()?;
    let rows = read_rows(name, reader.bytes()?, number, count)?;
    let mut levels = Vec::new();
    let rest = reader.take(reader.remaining())?;
    let column = Column::open(name, rest, rows.len() + 1, Nesting::Inner)?;
    column.append(0..rows.len() + 1, &mut levels)?;
    Ok(Body::Changes { rows, levels })
}

/// The `number` numbers of rows in `bytes`, which ascend and are below `count`.
///
/// # Errors
/// Corrupt when they are not.
pub(super) fn read_rows(name: &str, bytes: &[u8], number: u64, count: usize) -> Result<Vec<usize>> {
    let number = usize::try_from(number)
        .ok()
        .filter(|&number| number <= count);
    let Some(number) = number else {
        return Err(Error::corrupt(name, 0, "a list is longer than its column"));
    };
    let mut listed = Vec::new();
    Column::open(name, bytes, number, Nesting::Inner)?.append(0..number, &mut listed)?;
    let rows: Vec<usize> = listed
        .into_iter()
        .map_while(|row| usize::try_from(row).ok())
        .collect();
    let inside = rows.len() == number && rows.last().is_none_or(|&last| last < count);
    if !inside || !rows.is_sorted_by(|a, b| a < b) {
        return Err(Error::corrupt(
            name,
            0,
            "the rows of a list are not in order",
        ));
    }
    Ok(rows)
}

/// The column that [`read_rows`] reads back.
pub(super) fn from_rows(rows: &[usize]) -> Vec<i64> {
    rows.iter()
        .map(|&row| i64::try_from(row).unwrap_or(i64::MAX))
        .collect()
}

/// Appends `range` of a column that changes at `rows` to the next of `levels`.
fn fill_changes(rows: &[usize], levels: &[i64], range: Range<usize>, out: &mut Vec<i64>) {
    let mut at = rows.partition_point(|&row| row <= range.start);
    let mut row = range.start;
    while row < range.end {
        let end = rows
            .get(at)
            .map_or(range.end, |&next| next.clamp(row, range.end));
        out.resize(
            out.len() + (end - row),
            levels.get(at).copied().unwrap_or(0),
        );
        row = end;
        at += 1;
    }
}

fn open_coded<'a>(flags: u8, reader: &mut Reader<'a>, count: usize) -> Result<Coded<'a>> {
    let order = flags >> ORDER_SHIFT & 3;
    if order > ORDER_MAX || flags >> 7 != 0 {
        return Err(reader.corrupt("a column is of no known kind"));
    }
    let base = reader.signed()?;
    let slope = if flags & SLOPE == 0 {
        0
    } else {
        reader.signed()?
    };
    let factor = if flags & FACTOR == 0 {
        1
    } else {
        reader.varint()?
    };
    let centre = reader.signed()?;
    let mut bits = reader.clone();
    let header = Bins::read(bits.take(bits.remaining())?);
    let Some((bins, len)) = header else {
        return Err(reader.corrupt("the bins of a column are damaged"));
    };
    reader.take(len)?;
    let mut lens = Vec::new();
    let mut state = State::default();
    for page in 0..count.div_ceil(PAGE_ROWS) {
        if order >= 1 && page > 0 {
            state.value = state.value.wrapping_add(reader.signed()?);
        }
        if order == 2 {
            state.difference = reader.signed()?;
        }
        let last = (page + 1) * PAGE_ROWS >= count;
        let len = if last { None } else { Some(reader.count(1)?) };
        lens.push((state, len));
    }
    let mut pages = Vec::with_capacity(lens.len());
    for (state, len) in lens {
        pages.push((state, reader.take(len.unwrap_or(reader.remaining()))?));
    }
    let folded = flags & FOLDED != 0;
    Ok(Coded {
        order,
        folded,
        base,
        slope,
        factor: factor.cast_signed(),
        centre,
        decoder: Decoder::new(&bins, if folded { 0 } else { centre }),
        pages,
    })
}

impl Coded<'_> {
    /// Decodes the first `len` of the `rows` rows of a page into `out`.
    fn decode(&self, page: usize, rows: usize, len: usize, out: &mut Vec<i64>) -> Option<()> {
        let (
            State {
                mut value,
                mut difference,
            },
            bytes,
        ) = *self.pages.get(page)?;
        out.resize(len, 0);
        self.decoder.decode(bytes, rows, out)?;
        if self.folded {
            for row in out.iter_mut() {
                let folded = row.cast_unsigned();
                let offset = (folded >> 1).cast_signed() ^ -((folded & 1).cast_signed());
                *row = self.centre.wrapping_add(offset);
            }
        }
        if self.factor != 1 {
            for row in out.iter_mut() {
                *row = row.wrapping_mul(self.factor);
            }
            difference = difference.wrapping_mul(self.factor);
        }
        value = self.base.wrapping_add(value.wrapping_mul(self.factor));
        match self.order {
            0 => {
                for row in out.iter_mut() {
                    *row = value.wrapping_add(*row);
                }
            }
            1 => {
                for row in out.iter_mut() {
                    value = value.wrapping_add(*row);
                    *row = value;
                }
            }
            _ => {
                for row in out.iter_mut() {
                    difference = difference.wrapping_add(*row);
                    value = value.wrapping_add(difference);
                    *row = value;
                }
            }
        }
        if self.slope != 0 {
            let first = i64::try_from(page * PAGE_ROWS).ok()?;
            for (at, row) in (first..).zip(out.iter_mut()) {
                *row = row.wrapping_add(self.slope.wrapping_mul(at));
            }
        }
        Some(())
    }
}
