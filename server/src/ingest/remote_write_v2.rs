//! Remote write 2.0: series whose strings are symbols of their request, to the metrics engine.
//! `ingest::remote_write` calls it.

use std::collections::HashSet;
use std::fmt::Write as _;

use trine_storage::labels::LabelsBuffer;
use trine_tsdb::Metadata;

use super::known_series::Print;
use super::metric_labels::{Pair, Rules, shown};
use super::metric_rows::{Extras, Sink, family, metric_type};
use super::rejections::Rejections;
use crate::proto::remote_write_v2::{self as proto, Request, SYMBOLS_MAX, TimeSeries};
use crate::proto::wire::WireError;

/// References that are repeated to a sender.
const REFS_SHOWN_MAX: usize = 20;

/// Gives everything in an unpacked body to `sink` and says what was refused.
///
/// # Errors
/// [`WireError`] when the body cannot be read: what was given to `sink` must not be stored.
pub fn translate(
    body: &[u8],
    rules: &Rules<'_>,
    sink: &mut dyn Sink,
) -> Result<Rejections, WireError> {
    let mut request = Request::read(body, SYMBOLS_MAX)?;
    let symbols = std::mem::take(&mut request.symbols);
    let mut translation = Translation {
        rules,
        symbols: &symbols,
        prints: symbols
            .iter()
            .map_while(|symbol| sink.print(symbol))
            .collect(),
        name_ref: place_of(&symbols, b"__name__"),
        sink,
        told: HashSet::new(),
        pairs: Vec::new(),
        labels: LabelsBuffer::default(),
        extras: Extras::default(),
        rejections: Rejections::default(),
    };
    let mut series = TimeSeries::default();
    let refs_max = refs_max(rules);
    while request.next_series(refs_max, &mut series)? {
        translation.series(&series)?;
    }
    Ok(translation.rejections)
}

/// Gives the labels of the first series of an unpacked body to `each`.
///
/// # Errors
/// [`WireError`] when the body cannot be read.
pub fn first_labels(
    body: &[u8],
    rules: &Rules<'_>,
    each: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), WireError> {
    let mut request = Request::read(body, SYMBOLS_MAX)?;
    let mut series = TimeSeries::default();
    if request.next_series(refs_max(rules), &mut series)? {
        let mut pairs = Vec::new();
        resolve(&request.symbols, &series.labels_refs, &mut pairs).ok();
        pairs.iter().for_each(|(name, value)| each(name, value));
    }
    Ok(())
}

/// References that are read of one series.
fn refs_max(rules: &Rules<'_>) -> usize {
    rules.labels_read_max().saturating_mul(2)
}

fn place_of(symbols: &[&[u8]], text: &[u8]) -> Option<u32> {
    let place = symbols.iter().position(|symbol| *symbol == text)?;
    u32::try_from(place).ok()
}

/// The translation of one request.
struct Translation<'a> {
    rules: &'a Rules<'a>,
    symbols: &'a [&'a [u8]],
    /// What stands for each symbol; empty when series are not remembered.
    prints: Vec<Print>,
    /// The place of `__name__`.
    name_ref: Option<u32>,
    sink: &'a mut dyn Sink,
    /// What was said of metrics, by the place of the name.
    told: HashSet<(u32, proto::Metadata)>,
    pairs: Vec<Pair<'a>>,
    labels: LabelsBuffer,
    extras: Extras,
    rejections: Rejections,
}

impl Translation<'_> {
    fn series(&mut self, series: &TimeSeries<'_>) -> Result<(), WireError> {
        self.read_extras(series)?;
        if series.samples.is_empty() && series.histograms.is_empty() {
            let labels = self.shown(series);
            self.extras.forget();
            self.rejections.add(
                1,
                format!(
                    "TimeSeries must contain at least one sample or histogram for series {labels}"
                ),
            );
            return Ok(());
        }
        let print = self.print(series);
        let mut rows = self.extras.rows(&series.samples, &series.starts);
        if print.is_none_or(|print| !self.sink.known(print, &mut rows)) {
            let named =
                resolve(self.symbols, &series.labels_refs, &mut self.pairs).and_then(|()| {
                    let count = series.ref_count / 2;
                    self.rules.encode(&self.pairs, count, &mut self.labels)
                });
            if let Err(text) = named {
                let rows = series.samples.len() + series.histograms.len();
                self.rejections.add(rows as u64, text);
                self.extras.forget();
                return Ok(());
            }
            self.sink.series(print, &self.labels, &mut rows);
        }
        if self.extras.has_refused() {
            resolve(self.symbols, &series.labels_refs, &mut self.pairs).ok();
            self.extras.tell(&self.pairs, &mut self.rejections);
        }
        if series.metadata != proto::Metadata::default() {
            self.metadata(series);
        }
        Ok(())
    }

    fn read_extras(&mut self, series: &TimeSeries<'_>) -> Result<(), WireError> {
        self.extras.histograms.clear();
        self.extras.exemplars.clear();
        if !series.histograms.is_empty() {
            self.extras
                .read_histograms(&series.histograms, series.created)?;
        }
        let mut exemplar = proto::Exemplar::default();
        for message in &series.exemplars {
            exemplar.read(message)?;
            let (timestamp, value) = (exemplar.timestamp, exemplar.value);
            if let Err(text) = resolve(self.symbols, &exemplar.labels_refs, &mut self.pairs) {
                let labels = self.shown(series);
                let text = format!("parsing exemplar for series {labels}: {text}");
                self.rejections.add(1, text);
                continue;
            }
            let pairs = &self.pairs;
            let added = self
                .extras
                .exemplar(pairs, timestamp, value, &series.samples);
            if let Err(text) = added {
                let text = format!("an exemplar was not stored: {text}");
                self.rejections.warn(text);
            }
        }
        Ok(())
    }

    /// What stands for the labels of a series: the prints of their symbols.
    fn print(&self, series: &TimeSeries<'_>) -> Option<Print> {
        if self.prints.is_empty() || series.ref_count > series.labels_refs.len() {
            return None;
        }
        let mut refs = series.labels_refs.iter();
        refs.try_fold(Print::NOTHING, |all, place| {
            Some(all.and(*self.prints.get(*place as usize)?))
        })
    }

    fn shown(&mut self, series: &TimeSeries<'_>) -> String {
        resolve(self.symbols, &series.labels_refs, &mut self.pairs).ok();
        shown(&self.pairs)
    }

    /// Says what the metric of a series is, unless the request said it before.
    fn metadata(&mut self, series: &TimeSeries<'_>) {
        let (pairs, _) = series.labels_refs.as_chunks::<2>();
        let named = pairs.iter().find(|[name, _]| Some(*name) == self.name_ref);
        let Some(&[_, name_ref]) = named else {
            return;
        };
        if !self.told.insert((name_ref, series.metadata)) {
            return;
        }
        let text = |place: u32| {
            let symbol = self.symbols.get(place as usize);
            let symbol = symbol.ok_or_else(|| outside(place, self.symbols))?;
            std::str::from_utf8(symbol).map_err(|error| error.to_string())
        };
        let proto::Metadata {
            kind,
            help_ref,
            unit_ref,
        } = series.metadata;
        let read = || {
            let kind = metric_type(kind);
            let (help, unit) = (text(help_ref)?.to_owned(), text(unit_ref)?.to_owned());
            let name = family(text(name_ref)?, kind);
            Ok::<_, String>((name, Metadata { kind, help, unit }))
        };
        match read() {
            Ok((name, metadata)) => self.sink.metadata(name, metadata),
            Err(text) => {
                let labels = self.shown(series);
                let text = format!("parsing metadata for series {labels}: {text}");
                self.rejections.add(1, text);
            }
        }
    }
}

fn outside(place: u32, symbols: &[&[u8]]) -> String {
    let size = symbols.len();
    format!("symbol reference {place} outside of symbols table (size {size})")
}

/// Puts the labels that places name into `pairs`: all, or those before the first that is wrong.
///
/// # Errors
/// The refusal's text.
fn resolve<'a>(
    symbols: &[&'a [u8]],
    refs: &[u32],
    pairs: &mut Vec<Pair<'a>>,
) -> Result<(), String> {
    pairs.clear();
    let (two, rest) = refs.as_chunks::<2>();
    for [name_ref, value_ref] in two {
        let name = symbols.get(*name_ref as usize);
        let value = symbols.get(*value_ref as usize);
        let (Some(name), Some(value)) = (name, value) else {
            let size = symbols.len();
            let what = format!(
                "labelRefs {name_ref} (name) = {value_ref} (value) outside of symbols table (size \
                 {size})"
            );
            return Err(wrong_refs(refs, &what));
        };
        pairs.push((name, value));
    }
    if !rest.is_empty() {
        let what = format!("invalid labelRefs length {}", refs.len());
        return Err(wrong_refs(refs, &what));
    }
    Ok(())
}

fn wrong_refs(refs: &[u32], what: &str) -> String {
    let mut out = String::from("parsing labels for series [");
    for (number, place) in refs.iter().take(REFS_SHOWN_MAX).enumerate() {
        let space = if number == 0 { "" } else { " " };
        // Infallible: the target is a String.
        write!(out, "{space}{place}").ok();
    }
    out.push_str("]: ");
    out.push_str(what);
    out
}

#[cfg(test)]
mod tests;
