//! Counts of spans by time and attributes. `Snapshot::scan` calls it.
//!
//! Attributes are counted by their codes. A group is found step by step, by the group so far and the
//! next code, in tables; hashing is for codes that are too many.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;
use std::sync::Arc;

use trine_storage::Result;

use super::buckets::Buckets;
use super::coder::Coder;
use super::codes::{self, Named, Translation, Wanted};
use super::condition::duration_of;
use super::evaluate::Page;
use super::intrinsics;
use super::sweep::{Found, Sweep, on_threads};
use super::traces::{asks_trace, asks_traces};
use super::view::View;
use crate::block::build::start_of;
use crate::block::format::span;
use crate::block::image::Image;
use crate::block::table::Key;
use crate::block::values::Type;
use crate::request::{
    ABSENT, AttributeRef, Batch, Batches, Column, CountBatch, Counts, Intrinsic, Measure, Scope,
    Value,
};

/// Codes up to this many are found in tables.
const TABLE_MAX: usize = 1 << 16;

/// An attribute that is read page by page.
#[derive(Debug)]
pub(crate) struct Reading {
    attribute: AttributeRef,
    pub(crate) coder: Coder,
    /// Of the image at hand: codes of one are not those of another.
    translations: Option<(Arc<Image>, [Translation; 2])>,
    pub(crate) codes: Vec<u32>,
    other: Vec<u32>,
}

impl Reading {
    pub(crate) fn new(attribute: &AttributeRef) -> Self {
        Self {
            attribute: attribute.clone(),
            coder: Coder::default(),
            translations: None,
            codes: Vec::new(),
            other: Vec::new(),
        }
    }

    /// One that tells so many values apart.
    pub(crate) fn bounded(attribute: &AttributeRef, values_max: usize) -> Self {
        Self {
            coder: Coder::bounded(values_max),
            ..Self::new(attribute)
        }
    }

    /// Sets `codes` to those of the rows.
    pub(crate) fn read(&mut self, view: &View, page: &Page<'_>, wanted: &Wanted) -> Result<()> {
        self.codes.clear();
        self.codes.resize(wanted.rows.len(), ABSENT);
        let held = self.translations.take();
        let held = held.filter(|(image, _)| Arc::ptr_eq(image, &view.image));
        let held = held.unwrap_or_else(|| (Arc::clone(&view.image), Default::default()));
        let (_, [first, second]) = self.translations.insert(held);
        let at = (view, page);
        match &self.attribute {
            AttributeRef::Intrinsic(intrinsic) => {
                let to = (&mut self.coder, first);
                intrinsics::codes(at, *intrinsic, wanted, to, &mut self.codes)
            }
            AttributeRef::Attribute { scope, key } => {
                let named = |scope| Named {
                    scope,
                    key: key.clone(),
                };
                let to = (&mut self.coder, first);
                let scope_first = scope.unwrap_or(Scope::Span);
                codes::attribute(at, &named(scope_first), wanted, to, &mut self.codes)?;
                if scope.is_none() && self.codes.contains(&ABSENT) {
                    self.other.clear();
                    self.other.resize(wanted.rows.len(), ABSENT);
                    let to = (&mut self.coder, second);
                    codes::attribute(at, &named(Scope::Resource), wanted, to, &mut self.other)?;
                    for (code, other) in self.codes.iter_mut().zip(&self.other) {
                        if *code == ABSENT {
                            *code = *other;
                        }
                    }
                }
                Ok(())
            }
        }
    }
}

/// Groups that are told apart by one more code than those before.
#[derive(Debug, Default)]
struct Step {
    /// By the group so far and the code, 0 for none; what is 0 is not known yet.
    table: Vec<Vec<u32>>,
    more: HashMap<(u32, u32), u32>,
    /// The group so far and the code of each group.
    groups: Vec<(u32, u32)>,
}

impl Step {
    /// Tells groups apart by one more code each.
    fn groups(&mut self, groups: &mut [u32], codes: impl Iterator<Item = u32>) {
        for (group, code) in groups.iter_mut().zip(codes) {
            let row = self.table.get(*group as usize);
            let held = row.and_then(|row| row.get(code.wrapping_add(1) as usize));
            *group = match held {
                Some(held) if *held > 0 => *held - 1,
                _ => self.group(*group, code),
            };
        }
    }

    fn group(&mut self, before: u32, code: u32) -> u32 {
        let code = code.wrapping_add(1);
        let at = before as usize;
        if code as usize <= TABLE_MAX && at <= TABLE_MAX {
            if at >= self.table.len() {
                self.table.resize_with(at + 1, Vec::new);
            }
            let Some(row) = self.table.get_mut(at) else {
                return 0;
            };
            if code as usize >= row.len() {
                row.resize(code as usize + 1, 0);
            }
            let Some(held) = row.get_mut(code as usize) else {
                return 0;
            };
            if *held == 0 {
                self.groups.push((before, code.wrapping_sub(1)));
                *held = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
            }
            return *held - 1;
        }
        let next = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let group = *self.more.entry((before, code)).or_insert(next);
        if group == next {
            self.groups.push((before, code.wrapping_sub(1)));
        }
        group
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    count: u64,
    value: f64,
    /// What a sum has lost by rounding.
    rest: f64,
}

struct Counting<'a> {
    request: &'a Counts,
    by: Vec<Reading>,
    measured: Option<Reading>,
    /// One for each attribute, and one for exponents.
    steps: Vec<Step>,
    /// By bucket, by group.
    cells: Vec<Vec<Cell>>,
    buckets: Buckets,
    groups: Vec<u32>,
    starts: Vec<u64>,
    values: Vec<Option<Value>>,
    wanted: Wanted,
    is_full: bool,
}

/// Counts spans of some places. What the threads of the request count comes in a batch of each.
pub(crate) fn counts(views: &[View], request: &Counts) -> Result<Batches> {
    let read: Vec<&AttributeRef> = request
        .by
        .iter()
        .chain(measured_by(&request.measure))
        .collect();
    let asks = read.iter().any(|attribute| asks_trace(attribute));
    let asks = (asks || asks_traces(&request.filter), request.range);
    let filters = [&request.filter];
    let sweep = Sweep::new(views, &filters, asks)?.reading(read);
    let threads = request.effort.threads.min(sweep.pieces().saturating_sub(1));
    let counted = on_threads(threads, &|| {
        let mut counting = Counting::new(request);
        sweep.run(&mut |found| {
            counting.add(found)?;
            Ok(!counting.is_full && !request.effort.is_stopped())
        })?;
        Ok(Batch::Counts(counting.finish()))
    });
    Ok(Box::new(counted.into_iter()))
}

fn measured_by(measure: &Measure) -> Option<&AttributeRef> {
    match measure {
        Measure::Spans => None,
        Measure::Log2(attribute)
        | Measure::Sum(attribute)
        | Measure::Least(attribute)
        | Measure::Greatest(attribute) => Some(attribute),
    }
}

/// The least exponent of two that is not less; see [`Measure::Log2`].
fn exponent(value: &Value) -> Option<i32> {
    match value {
        Value::Int(number) => Some(exponent_of(u64::try_from(*number).unwrap_or(0))),
        Value::Float(number) if number.is_nan() => None,
        Value::Float(number) if *number <= 0.0 => Some(i32::MIN),
        Value::Float(number) if number.is_infinite() => Some(i32::MAX),
        Value::Float(number) => Some(ceil_log2(*number)),
        _ => None,
    }
}

/// Of a number that is not below zero.
fn exponent_of(number: u64) -> i32 {
    match number.checked_sub(1) {
        None => i32::MIN,
        Some(less) => i32::try_from(64 - less.leading_zeros()).unwrap_or(0),
    }
}

/// Of a finite number above zero.
fn ceil_log2(number: f64) -> i32 {
    const FRACTION: u32 = 52;
    let bits = number.to_bits();
    let fraction = bits & ((1 << FRACTION) - 1);
    let of_bits = |bits: u64| i32::try_from(bits).unwrap_or(0);
    match of_bits(bits >> FRACTION) {
        // Numbers without a leading one count in steps of 2^-1074.
        0 => of_bits((64 - (fraction - 1).leading_zeros()).into()) - 1074,
        exponent => exponent - 1023 + i32::from(fraction != 0),
    }
}

/// Exponents as codes of a step.
fn code_of_exponent(exponent: i32) -> u32 {
    match exponent {
        i32::MIN => 0,
        i32::MAX => 1,
        exponent => u32::try_from(exponent + 1100).unwrap_or(0),
    }
}

fn exponent_of_code(code: u32) -> i32 {
    match code {
        0 => i32::MIN,
        1 => i32::MAX,
        code => i32::try_from(code).map_or(0, |code| code - 1100),
    }
}

#[expect(clippy::cast_precision_loss, reason = "sums are told as floats")]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) if !number.is_nan() => Some(*number),
        _ => None,
    }
}

impl<'a> Counting<'a> {
    fn new(request: &'a Counts) -> Self {
        let mut steps = Vec::new();
        steps.resize_with(request.by.len() + 1, Step::default);
        Self {
            request,
            by: request.by.iter().map(Reading::new).collect(),
            measured: measured_by(&request.measure).map(Reading::new),
            steps,
            cells: Vec::new(),
            buckets: Buckets::new(request.origin_ns, request.bucket_ns),
            groups: Vec::new(),
            starts: Vec::new(),
            values: Vec::new(),
            wanted: Wanted::default(),
            is_full: false,
        }
    }

    fn add(&mut self, found: &Found<'_, '_>) -> Result<()> {
        let (view, page, rows) = (found.view, found.page, found.rows);
        self.wanted
            .set(rows, page.table().rows_of(page.number()).len());
        self.groups.clear();
        self.groups.resize(self.wanted.rows.len(), 0);
        for (reading, step) in self.by.iter_mut().zip(&mut self.steps) {
            reading.read(view, page, &self.wanted)?;
            step.groups(&mut self.groups, reading.codes.iter().copied());
        }
        let mut numbers = Vec::new();
        if let Measure::Log2(AttributeRef::Intrinsic(Intrinsic::Duration)) = self.request.measure {
            let (spans, rows) = (&view.image.spans, &self.wanted.rows);
            let stored = codes::numbers(spans, span::DURATION, page.number(), rows)?;
            let code = |stored: u64| code_of_exponent(exponent_of(duration_of(stored)));
            if let Some(step) = self.steps.last_mut() {
                step.groups(&mut self.groups, stored.into_iter().map(code));
            }
        } else if let Some(attribute) = measured_by(&self.request.measure) {
            self.measure(view, page, attribute)?;
            if let Measure::Log2(_) = self.request.measure {
                let step = self.steps.last_mut();
                let Some(step) = step else { return Ok(()) };
                for (group, value) in self.groups.iter_mut().zip(&self.values) {
                    *group = match value.as_ref().and_then(exponent) {
                        Some(exponent) => step.group(*group, code_of_exponent(exponent)),
                        None => u32::MAX,
                    };
                }
            } else {
                let number = |value: &Option<Value>| value.as_ref().and_then(number);
                numbers.extend(self.values.iter().map(number));
            }
        }
        let most = self.request.groups_max;
        self.is_full = self.steps.iter().any(|step| step.groups.len() > most);
        let one = self.buckets.one(view, page.number())?;
        if let Some(bucket) = one {
            if numbers.is_empty() {
                self.count_all(bucket);
                return Ok(());
            }
        } else {
            self.starts.clear();
            view.image.starts(page.number(), &mut self.starts)?;
        }
        for at in 0..self.groups.len() {
            let group = self.groups.get(at).copied().unwrap_or(u32::MAX);
            let number = numbers.get(at).copied();
            if group == u32::MAX || number == Some(None) {
                continue;
            }
            let bucket = one.unwrap_or_else(|| {
                let row = self.wanted.rows.get(at).copied().unwrap_or(u32::MAX);
                let start = self.starts.get(row as usize).copied().unwrap_or(0);
                self.buckets.of(start_of(start))
            });
            self.count(bucket, group, number.flatten());
        }
        Ok(())
    }

    /// Sets `values` to what is measured of the wanted rows. Numbers are read as they are; values of
    /// other attributes by their codes.
    fn measure(&mut self, view: &View, page: &Page<'_>, attribute: &AttributeRef) -> Result<()> {
        self.values.clear();
        let spans = &view.image.spans;
        match attribute {
            AttributeRef::Intrinsic(Intrinsic::Duration) => {
                let rows = &self.wanted.rows;
                let stored = codes::numbers(spans, span::DURATION, page.number(), rows)?;
                let value = |stored| Value::Int(i64::try_from(duration_of(stored)).unwrap_or(0));
                self.values
                    .extend(stored.into_iter().map(|stored| Some(value(stored))));
            }
            AttributeRef::Attribute {
                scope: Some(Scope::Span),
                key,
            } => {
                self.values.resize(self.wanted.rows.len(), None);
                for kind in [Type::Int, Type::Float] {
                    let key = Key::Attribute(key.as_str().into(), kind);
                    if let Some(column) = spans.column(&key)? {
                        codes::values(page, column, &self.wanted, &mut self.values)?;
                    }
                }
            }
            _ => {
                let Some(measured) = &mut self.measured else {
                    return Ok(());
                };
                measured.read(view, page, &self.wanted)?;
                let value = |code: &u32| measured.coder.values.get(*code as usize).cloned();
                self.values.extend(measured.codes.iter().map(value));
            }
        }
        Ok(())
    }

    /// The cells of a bucket by its number.
    fn cells_of(&mut self, bucket: usize) -> Option<&mut Vec<Cell>> {
        if bucket >= self.cells.len() {
            self.cells.resize_with(bucket + 1, Vec::new);
        }
        self.cells.get_mut(bucket)
    }

    /// Counts all groups in a bucket.
    fn count_all(&mut self, bucket: usize) {
        let groups = std::mem::take(&mut self.groups);
        if let Some(cells) = self.cells_of(bucket) {
            count_all(&groups, cells);
        }
        self.groups = groups;
    }
    fn count(&mut self, bucket: usize, group: u32, number: Option<f64>) {
        let measure = &self.request.measure;
        let Some(cells) = self.cells_of(bucket) else {
            return;
        };
        if group as usize >= cells.len() {
            cells.resize(group as usize + 1, Cell::default());
        }
        let Some(cell) = cells.get_mut(group as usize) else {
            return;
        };
        cell.count += 1;
        let Some(number) = number else { return };
        match measure {
            Measure::Least(_) if cell.count == 1 || number < cell.value => cell.value = number,
            Measure::Greatest(_) if cell.count == 1 || number > cell.value => cell.value = number,
            Measure::Sum(_) => {
                let sum = cell.value + number;
                // What a sum with infinity loses is no number.
                if sum.is_finite() {
                    cell.rest += match cell.value.abs() >= number.abs() {
                        true => cell.value - sum + number,
                        false => number - sum + cell.value,
                    };
                }
                cell.value = sum;
            }
            _ => {}
        }
    }

    fn finish(self) -> CountBatch {
        let is_log = matches!(self.request.measure, Measure::Log2(_));
        let groups = self.told_groups();
        // The groups in the order of their codes and exponents, and where each one stands there.
        let mut order: Vec<u32> = (0u32..).take(groups.len()).collect();
        order.sort_by_key(|group| groups.get(*group as usize));
        let mut ranks = vec![0u32; groups.len()];
        for (group, rank) in order.iter().zip(0u32..) {
            if let Some(held) = ranks.get_mut(*group as usize) {
                *held = rank;
            }
        }
        let mut batch = CountBatch {
            is_full: self.is_full,
            ..CountBatch::default()
        };
        batch.by.resize_with(self.request.by.len(), Column::default);
        let mut held: Vec<(u32, Cell)> = Vec::new();
        for (from, at) in self.buckets.used() {
            let cells = self.cells.get(at).into_iter().flatten();
            held.clear();
            held.extend(ranks.iter().copied().zip(cells.copied()));
            held.retain(|(_, cell)| cell.count > 0);
            held.sort_unstable_by_key(|(rank, _)| *rank);
            for (rank, cell) in &held {
                let group = order.get(*rank as usize).copied().unwrap_or(0);
                let Some((codes, exponent)) = groups.get(group as usize) else {
                    continue;
                };
                for (column, code) in batch.by.iter_mut().zip(codes) {
                    column.codes.push(*code);
                }
                batch.buckets.push(from);
                if is_log {
                    batch.exponents.push(*exponent);
                }
                batch.counts.push(cell.count);
                if !is_log && self.measured.is_some() {
                    batch.values.push(cell.value + cell.rest);
                }
            }
        }
        for (column, reading) in batch.by.iter_mut().zip(self.by) {
            column.dictionary = reading.coder.values;
        }
        batch
    }

    /// The codes of each group, and its exponent where there are any.
    fn told_groups(&self) -> Vec<(Vec<u32>, i32)> {
        let is_log = matches!(self.request.measure, Measure::Log2(_));
        let levels = self.request.by.len();
        let last = match is_log {
            true => self.steps.last(),
            false => levels.checked_sub(1).and_then(|last| self.steps.get(last)),
        };
        let count = last.map_or(1, |step| step.groups.len());
        let tell = |group: u32| {
            let mut group = group;
            let mut told = |step: Option<&Step>| {
                let held = step.and_then(|step| step.groups.get(group as usize));
                let (before, code) = held.copied().unwrap_or((0, ABSENT));
                group = before;
                code
            };
            let exponent = match is_log {
                true => exponent_of_code(told(self.steps.last())),
                false => 0,
            };
            let steps = self.steps.iter().take(levels).rev();
            let mut codes: Vec<u32> = steps.map(|step| told(Some(step))).collect();
            codes.reverse();
            (codes, exponent)
        };
        (0u32..).take(count).map(tell).collect()
    }
}

fn count_all(groups: &[u32], cells: &mut Vec<Cell>) {
    let known = groups.iter().filter(|group| **group != u32::MAX).max();
    let len = known.map_or(0, |greatest| *greatest as usize + 1);
    if len > cells.len() {
        cells.resize(len, Cell::default());
    }
    for group in groups {
        if let Some(cell) = cells.get_mut(*group as usize) {
            cell.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_belong_to_powers_of_two() {
        let of = |number: i64| exponent(&Value::Int(number));
        let ints = [
            i64::MIN,
            -1,
            0,
            1,
            2,
            3,
            4,
            5,
            1 << 40,
            (1 << 40) + 1,
            i64::MAX,
        ];
        let expected = [i32::MIN, i32::MIN, i32::MIN, 0, 1, 2, 2, 3, 40, 41, 63];
        assert_eq!(ints.map(of), expected.map(Some));
        let of = |number: f64| exponent(&Value::Float(number));
        let tiny = f64::from_bits(1);
        let floats = [
            -1.0,
            0.0,
            tiny,
            3.0 * tiny,
            0.4,
            0.5,
            0.6,
            1.0,
            1.5,
            f64::MAX,
            f64::INFINITY,
        ];
        let expected = [
            i32::MIN,
            i32::MIN,
            -1074,
            -1072,
            -1,
            -1,
            0,
            0,
            1,
            1024,
            i32::MAX,
        ];
        assert_eq!(floats.map(of), expected.map(Some));
        assert_eq!(of(f64::NAN), None);
        assert_eq!(exponent(&Value::Bool(true)), None);
        for exponent in [i32::MIN, i32::MAX, -1074, -1, 0, 1024] {
            assert_eq!(exponent_of_code(code_of_exponent(exponent)), exponent);
        }
    }
}
