//! Series that are counted here and told in rounds: counters and histograms by what tells them apart.
//! `span_metrics` and `service_graphs` count, `generator` has them told.
//!
//! A *row* is all series of one set of labels. A series begins with a zero at the round before it is
//! first told, so that its first increase is one for queries; it ends with a marker when nothing
//! was counted for long.

use std::sync::Arc;

use hashbrown::HashTable;
use trine_storage::Labels;
use trine_tracestore::TraceId;
use trine_tsdb::{Exemplar, Value};
use xxhash_rust::xxh3::xxh3_64;

mod native;

use crate::config::generator::HistogramForm;
use native::Native;
pub(super) use native::schema_of as native_schema_of;

/// The bits of the NaN that ends a series.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// What every row of a table has.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    /// Names of counters.
    pub(super) counters: &'static [&'static str],
    /// Names of histograms of seconds.
    pub(super) histograms: &'static [&'static str],
    /// Upper bounds of buckets, seconds.
    pub(super) bounds: Vec<f64>,
    /// How histograms are told.
    pub(super) form: HistogramForm,
    /// How fine native histograms are at first.
    pub(super) native_schema: i8,
    /// The most buckets that native histograms have.
    pub(super) native_buckets_max: usize,
    /// Whether counters are facts that do not begin with a zero.
    pub(super) facts: bool,
}

/// How many series all tables of a tenant may have.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The most series; 0 for any number.
    pub(super) max: usize,
    /// Series that there are, or that rows may come to have.
    pub(super) taken: usize,
    /// Series that were begun.
    pub(super) added: u64,
    /// Series that ended.
    pub(super) removed: u64,
    /// What was not counted for want of room.
    pub(super) refused: u64,
}

/// Rows of one schema.
#[derive(Debug)]
pub(super) struct Table {
    schema: Schema,
    /// Values of the label `le`, the last for no bound.
    les: Vec<Arc<str>>,
    rows: Vec<Option<Row>>,
    free: Vec<u32>,
    index: HashTable<u32>,
}

/// All series of one set of labels.
#[derive(Debug)]
struct Row {
    key: Box<[u8]>,
    labels: Labels,
    updated_ms: i64,
    /// Which counters and histograms have something, and which of these were told, bit by bit.
    seen: u32,
    told: u32,
    /// The counters, then for each histogram its sum, its count and its buckets.
    values: Box<[f64]>,
    natives: Box<[Native]>,
    /// The last observation of each bucket of each histogram since the last round.
    exemplars: Box<[Option<Observed>]>,
}

#[derive(Debug, Clone, Copy)]
struct Observed {
    trace_id: TraceId,
    seconds: f64,
    time_ms: i64,
}

/// An observation of a histogram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observation {
    /// What was observed.
    pub(super) seconds: f64,
    /// For how many it stands.
    pub(super) weight: f64,
    /// The trace that it is of.
    pub(super) trace_id: TraceId,
    /// When, milliseconds since 1970.
    pub(super) time_ms: i64,
}

/// A round of telling.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round<'a> {
    /// Series of rows that nothing was counted for since then end, milliseconds since 1970.
    pub(super) idle_before_ms: i64,
    /// The label of exemplars that has the id of a trace.
    pub(super) trace_label: &'a str,
}

/// One series of a round.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// The place of the series, for as long as it lives.
    pub(super) place: usize,
    /// The name of its metric.
    pub(super) metric: &'static str,
    /// What its own name has behind that.
    pub(super) suffix: &'static str,
    /// Its labels but for its name and `le`.
    pub(super) labels: Labels,
    /// Its label `le`.
    pub(super) le: Option<Arc<str>>,
    /// Its value.
    pub(super) value: Value,
    /// What it begins with, when it is new.
    pub(super) zero: Option<Value>,
    /// Whether the value ends it.
    pub(super) ends: bool,
    /// What its last increase was of.
    pub(super) exemplar: Option<Exemplar>,
}

impl Told {
    /// All its labels.
    pub(super) fn all_labels(&self) -> Labels {
        let name = [self.metric, self.suffix].concat();
        let labels = self.labels.with("__name__", &name);
        match &self.le {
            Some(le) => labels.with("le", le),
            None => labels,
        }
    }
}

impl Schema {
    fn has_classic(&self) -> bool {
        self.form != HistogramForm::Native
    }

    fn has_native(&self) -> bool {
        self.form != HistogramForm::Classic
    }

    /// Values of a histogram of a row.
    fn width(&self) -> usize {
        3 + self.bounds.len()
    }

    /// Series of a histogram.
    fn series_of_histogram(&self) -> usize {
        let classic = if self.has_classic() { self.width() } else { 0 };
        classic + usize::from(self.has_native())
    }

    /// Series that a row may come to have.
    fn series(&self) -> usize {
        self.counters.len() + self.histograms.len() * self.series_of_histogram()
    }
}

impl Table {
    pub(super) fn new(schema: Schema) -> Self {
        let les = schema.bounds.iter().map(ToString::to_string);
        let les = les.map(Arc::from);
        Self {
            les: les.chain(["+Inf".into()]).collect(),
            schema,
            rows: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// The row of `key`, which `labels` makes labels for when it is new; none without room.
    #[inline]
    pub(super) fn row(
        &mut self,
        key: &[u8],
        room: &mut Room,
        labels: impl FnOnce() -> Option<Labels>,
    ) -> Option<u32> {
        let hash = xxh3_64(key);
        let rows = &self.rows;
        let same = |&at: &u32| key_of(rows, at) == key;
        match self.index.find(hash, same) {
            Some(&at) => Some(at),
            None => self.new_row((key, hash), room, labels),
        }
    }

    #[cold]
    fn new_row(
        &mut self,
        (key, hash): (&[u8], u64),
        room: &mut Room,
        labels: impl FnOnce() -> Option<Labels>,
    ) -> Option<u32> {
        let series = self.schema.series();
        if room.max != 0 && room.taken + series > room.max {
            room.refused += 1;
            return None;
        }
        let at = match self.free.last() {
            Some(&at) => at,
            None => u32::try_from(self.rows.len()).ok()?,
        };
        let (counters, histograms) = (self.schema.counters.len(), self.schema.histograms.len());
        let natives = if self.schema.has_native() {
            histograms
        } else {
            0
        };
        let row = Row {
            key: key.into(),
            labels: labels()?,
            updated_ms: i64::MIN,
            seen: 0,
            told: 0,
            values: vec![0.0; counters + histograms * self.schema.width()].into(),
            natives: vec![Native::new(self.schema.native_schema); natives].into(),
            exemplars: vec![None; histograms * self.les.len()].into(),
        };
        room.taken += series;
        room.added += series as u64;
        self.free.pop();
        match self.rows.get_mut(at as usize) {
            Some(slot) => *slot = Some(row),
            None => self.rows.push(Some(row)),
        }
        let rows = &self.rows;
        self.index
            .insert_unique(hash, at, |&at| xxh3_64(key_of(rows, at)));
        Some(at)
    }

    /// Says that something happened to a row.
    #[inline]
    pub(super) fn touch(&mut self, row: u32, now_ms: i64) {
        if let Some(Some(row)) = self.rows.get_mut(row as usize) {
            row.updated_ms = now_ms;
        }
    }

    /// Adds to a counter of a row.
    #[inline]
    pub(super) fn add(&mut self, row: u32, counter: usize, amount: f64) {
        if let Some(Some(row)) = self.rows.get_mut(row as usize)
            && let Some(value) = row.values.get_mut(counter)
        {
            *value += amount;
            row.seen |= 1 << counter;
        }
    }

    /// Makes a fact of a row known.
    pub(super) fn state(&mut self, row: u32) {
        if let Some(Some(row)) = self.rows.get_mut(row as usize) {
            row.values.fill(1.0);
            row.seen = u32::MAX;
        }
    }

    /// Counts an observation.
    #[inline]
    pub(super) fn observe(&mut self, row: u32, histogram: usize, observation: Observation) {
        let Some(Some(row)) = self.rows.get_mut(row as usize) else {
            return;
        };
        let Observation {
            seconds,
            weight,
            trace_id,
            time_ms,
        } = observation;
        let bounds = &self.schema.bounds;
        let bucket = bounds.partition_point(|bound| *bound < seconds);
        let counters = self.schema.counters.len();
        let first = counters + histogram * self.schema.width();
        if let Some([sum, count, buckets @ ..]) = row.values.get_mut(first..)
            && let Some(bucket) = buckets.get_mut(bucket)
        {
            *sum += seconds * weight;
            *count += weight;
            *bucket += weight;
        }
        if let Some(native) = row.natives.get_mut(histogram) {
            native.observe(seconds, weight, self.schema.native_buckets_max);
        }
        if let Some(exemplar) = row.exemplars.get_mut(histogram * self.les.len() + bucket) {
            *exemplar = Some(Observed {
                trace_id,
                seconds,
                time_ms,
            });
        }
        row.seen |= 1 << (counters + histogram);
    }

    /// Tells the series of all rows. Those of rows that were idle end.
    pub(super) fn tell(&mut self, round: Round<'_>, room: &mut Room, each: &mut dyn FnMut(Told)) {
        let width = self.schema.series();
        for at in 0..self.rows.len() {
            let Some(Some(row)) = self.rows.get_mut(at) else {
                continue;
            };
            let ends = row.updated_ms < round.idle_before_ms;
            let teller = Teller {
                schema: &self.schema,
                les: &self.les,
                trace_label: round.trace_label,
                first: at * width,
                ends,
            };
            teller.tell(row, each);
            if ends {
                self.remove(at as u32);
                room.taken = room.taken.saturating_sub(width);
                room.removed += width as u64;
            }
        }
    }

    fn remove(&mut self, at: u32) {
        let hash = xxh3_64(key_of(&self.rows, at));
        if let Ok(entry) = self.index.find_entry(hash, |&held| held == at) {
            entry.remove();
        }
        if let Some(slot) = self.rows.get_mut(at as usize) {
            *slot = None;
            self.free.push(at);
        }
    }
}

fn key_of(rows: &[Option<Row>], at: u32) -> &[u8] {
    let row = rows.get(at as usize).and_then(Option::as_ref);
    row.map_or(&[], |row| &row.key)
}

/// Tells the series of one row.
struct Teller<'a> {
    schema: &'a Schema,
    les: &'a [Arc<str>],
    trace_label: &'a str,
    /// The place of the first series of the row.
    first: usize,
    ends: bool,
}

impl Teller<'_> {
    fn tell(&self, row: &mut Row, each: &mut dyn FnMut(Told)) {
        let schema = self.schema;
        let counters = schema.counters.len();
        let is = |bits: u32, metric: usize| bits >> metric & 1 != 0;
        for (at, metric) in schema.counters.iter().enumerate() {
            let Some(&value) = row.values.get(at).filter(|_| is(row.seen, at)) else {
                continue;
            };
            let is_new = !is(row.told, at) && !schema.facts;
            each(self.told(row, (at, metric, ""), (value.into(), is_new)));
        }
        for (at, metric) in schema.histograms.iter().enumerate() {
            let metric_at = counters + at;
            if !is(row.seen, metric_at) {
                continue;
            }
            let is_new = !is(row.told, metric_at);
            let first = counters + at * schema.series_of_histogram();
            if schema.has_classic() {
                self.classic(row, (at, first, metric), is_new, each);
            }
            if schema.has_native() {
                let behind = if schema.has_classic() {
                    schema.width()
                } else {
                    0
                };
                self.native(row, (at, first + behind, metric), is_new, each);
            }
        }
        row.told = row.seen;
        row.exemplars.fill(None);
    }

    fn told(
        &self,
        row: &Row,
        (place, metric, suffix): (usize, &'static str, &'static str),
        (value, is_new): (Value, bool),
    ) -> Told {
        Told {
            place: self.first + place,
            metric,
            suffix,
            labels: row.labels.clone(),
            le: None,
            value: if self.ends {
                f64::from_bits(STALE).into()
            } else {
                value
            },
            zero: is_new.then_some(Value::Float(0.0)),
            ends: self.ends,
            exemplar: None,
        }
    }

    /// Sum, count and buckets of a histogram as series.
    fn classic(
        &self,
        row: &Row,
        (at, place, metric): (usize, usize, &'static str),
        is_new: bool,
        each: &mut dyn FnMut(Told),
    ) {
        let first = self.schema.counters.len() + at * self.schema.width();
        let values = row.values.get(first..first + self.schema.width());
        let Some([sum, count, buckets @ ..]) = values else {
            return;
        };
        let of_histogram = [("_sum", sum), ("_count", count)];
        for (place, (suffix, value)) in (place..).zip(of_histogram) {
            each(self.told(row, (place, metric, suffix), ((*value).into(), is_new)));
        }
        let exemplars = row.exemplars.iter().skip(at * self.les.len());
        let mut below = 0.0;
        let rows = buckets.iter().zip(self.les).zip(exemplars);
        for (place, ((bucket, le), exemplar)) in (place + 2..).zip(rows) {
            below += bucket;
            let mut told = self.told(row, (place, metric, "_bucket"), (below.into(), is_new));
            told.le = Some(Arc::clone(le));
            told.exemplar = exemplar.and_then(|observed| self.exemplar(observed));
            each(told);
        }
    }

    /// A histogram as one series.
    fn native(
        &self,
        row: &Row,
        (at, place, metric): (usize, usize, &'static str),
        is_new: bool,
        each: &mut dyn FnMut(Told),
    ) {
        let Some(native) = row.natives.get(at) else {
            return;
        };
        let (value, zero) = match self.ends {
            true => (trine_tsdb::Histogram::stale(), None),
            false => (native.histogram(), is_new.then(|| native.nothing().into())),
        };
        let mut told = self.told(row, (place, metric, ""), (Value::Float(0.0), false));
        told.value = value.into();
        told.zero = zero;
        // One will do; that of the highest bucket is the most telling.
        let exemplars = row
            .exemplars
            .get(at * self.les.len()..(at + 1) * self.les.len());
        let last = exemplars.into_iter().flatten().rev().find_map(|held| *held);
        told.exemplar = last.and_then(|observed| self.exemplar(observed));
        each(told);
    }

    fn exemplar(&self, observed: Observed) -> Option<Exemplar> {
        let id: String = observed
            .trace_id
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Some(Exemplar {
            timestamp: observed.time_ms,
            value: observed.seconds,
            labels: Labels::from_pairs([(self.trace_label, id.as_str())]).ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
