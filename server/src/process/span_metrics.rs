//! How many spans there are, how long they took and how large they are, by service, name, kind and
//! status and by whatever attributes the settings name: metrics, names and labels are those of
//! Tempo's processor `span-metrics`. `generator` gives it spans.

use trine_storage::Labels;
use trine_tracestore::{SpanView, ValueView};

use super::attributes::{Found, Held, Keys, Weight, bounded, either, label_name, put_text, text};
use super::series::{Observation, Room, Round, Schema, Table, Told};
use crate::config::generator::{Generator, Processor, SpanMetrics as Settings};

mod filter;

use filter::Filters;

const CALLS: &str = "traces_spanmetrics_calls_total";
const SIZE: &str = "traces_spanmetrics_size_total";

/// What stands behind each value in the key of a row; no text has it.
pub(super) const END: u8 = 0xff;

/// Series of spans.
#[derive(Debug)]
pub(super) struct SpanMetrics {
    table: Table,
    /// The places of the counters, where they are on.
    calls: Option<usize>,
    size: Option<usize>,
    has_latency: bool,
    labels: Vec<(String, Source)>,
    keys: Keys,
    found: Found,
    filters: Filters,
    weight: Weight,
    target_info: Option<TargetInfo>,
    /// The key of the row of a span.
    key: Vec<u8>,
}

/// Where the value of a label comes from.
#[derive(Debug)]
enum Source {
    Service,
    Name,
    Kind,
    Status,
    StatusMessage,
    Job,
    Instance,
    Attribute(usize),
    Joined(Vec<usize>, String),
}

/// What is known of a resource.
#[derive(Debug)]
pub(super) struct OfResource {
    service: Box<str>,
    job: Box<str>,
    instance: Box<str>,
    /// The values of the attributes that labels or filters are made of.
    values: Vec<Option<Held>>,
    /// Its row of `traces_target_info`.
    target: Option<Labels>,
}

/// The facts about resources.
#[derive(Debug)]
struct TargetInfo {
    table: Table,
    excluded: Vec<String>,
    has_instance: bool,
}

/// A span that is to be counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'r, 's, 'a> {
    /// What is known of its resource.
    pub(super) resource: &'r OfResource,
    /// The span.
    pub(super) span: &'r SpanView<'s, 'a>,
    /// When it came, milliseconds since 1970.
    pub(super) now_ms: i64,
}

impl SpanMetrics {
    /// What the settings ask for, if anything.
    pub(super) fn new(generator: &Generator, schema: &Schema) -> Option<Self> {
        let on = |part| generator.has(Processor::SpanMetrics) || generator.has(part);
        let has_latency = on(Processor::SpanMetricsLatency);
        let (calls, size, counters): (_, _, &[&str]) = match (
            on(Processor::SpanMetricsCount),
            on(Processor::SpanMetricsSize),
        ) {
            (true, true) => (Some(0), Some(1), &[CALLS, SIZE]),
            (true, false) => (Some(0), None, &[CALLS]),
            (false, true) => (None, Some(0), &[SIZE]),
            (false, false) if has_latency => (None, None, &[]),
            (false, false) => return None,
        };
        let settings = &generator.processor.span_metrics;
        let mut keys = Keys::default();
        let histograms: &[&str] = match has_latency {
            true => &["traces_spanmetrics_latency"],
            false => &[],
        };
        let own = Schema {
            counters,
            histograms,
            bounds: settings.histogram_buckets.clone(),
            ..schema.clone()
        };
        let facts = Schema {
            counters: &["traces_target_info"],
            histograms: &[],
            facts: true,
            ..schema.clone()
        };
        Some(Self {
            table: Table::new(own),
            calls,
            size,
            has_latency,
            labels: labels(settings, &mut keys),
            filters: Filters::new(&settings.filter_policies, &mut keys),
            weight: Weight::new(
                &settings.span_multiplier_key,
                settings.enable_tracestate_span_multiplier,
                &mut keys,
            ),
            target_info: settings.enable_target_info.then(|| TargetInfo {
                table: Table::new(facts),
                excluded: settings.target_info_excluded_dimensions.clone(),
                has_instance: settings.enable_instance_label,
            }),
            keys,
            found: Found::default(),
            key: Vec::new(),
        })
    }

    /// What is to be known of a resource with these attributes.
    pub(super) fn of_resource(&self, attributes: &[(&[u8], ValueView<'_>)]) -> OfResource {
        let value = |key: &str| {
            let pair = attributes.iter().find(|(held, _)| *held == key.as_bytes());
            pair.and_then(|(_, value)| text(*value)).unwrap_or_default()
        };
        let service = value("service.name");
        let namespace = value("service.namespace");
        let job = match namespace.is_empty() || service.is_empty() {
            true => service.clone(),
            false => format!("{namespace}/{service}").into(),
        };
        let mut found = OfResource {
            service,
            job,
            instance: value("service.instance.id"),
            values: self.keys.of(attributes),
            target: None,
        };
        if let Some(info) = &self.target_info {
            found.target = info.labels(&found, attributes);
        }
        found
    }

    /// Counts a span, unless the filters leave it out: then it says so.
    #[inline]
    pub(super) fn count(&mut self, arrival: &Arrival<'_, '_, '_>, room: &mut Room) -> bool {
        let Arrival {
            resource,
            span,
            now_ms,
        } = *arrival;
        self.keys.find(span, &mut self.found);
        if !self.filters.take(arrival, &self.found) {
            return false;
        }
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        for (_, source) in &self.labels {
            self.put(&mut key, source, arrival);
            key.push(END);
        }
        let labels = &self.labels;
        let row = self.table.row(&key, room, || {
            let names = labels.iter().map(|(name, _)| name.as_str());
            row_labels(names, &key)
        });
        self.key = key;
        if let Some(row) = row {
            let weight = self.weight.of(&resource.values, (&self.found, span));
            self.table.touch(row, now_ms);
            if let Some(calls) = self.calls {
                self.table.add(row, calls, weight);
            }
            if let Some(size) = self.size {
                self.table.add(row, size, span.bytes as f64);
            }
            if self.has_latency {
                self.table.observe(row, 0, observation(span, weight));
            }
        }
        if let (Some(info), Some(labels)) = (&mut self.target_info, &resource.target) {
            let encoded = labels.encoded();
            if let Some(row) = info.table.row(encoded, room, || Some(labels.clone())) {
                info.table.touch(row, now_ms);
                info.table.state(row);
            }
        }
        true
    }

    #[inline]
    fn put(&self, out: &mut Vec<u8>, source: &Source, arrival: &Arrival<'_, '_, '_>) {
        let Arrival { resource, span, .. } = arrival;
        let value = |place| either(&resource.values, (&self.found, span), place);
        match source {
            Source::Service => out.extend_from_slice(resource.service.as_bytes()),
            Source::Name => out.extend_from_slice(bounded(span.name)),
            Source::Kind => put_named(out, kind_name(span.kind), span.kind),
            Source::Status => put_named(out, status_name(span.status), span.status),
            Source::StatusMessage => out.extend_from_slice(bounded(span.status_message)),
            Source::Job => out.extend_from_slice(resource.job.as_bytes()),
            Source::Instance => out.extend_from_slice(resource.instance.as_bytes()),
            Source::Attribute(place) => {
                if let Some(value) = value(*place) {
                    put_text(out, value);
                }
            }
            Source::Joined(places, join) => {
                let start = out.len();
                for value in places.iter().filter_map(|place| value(*place)) {
                    if out.len() > start {
                        out.extend_from_slice(join.as_bytes());
                    }
                    put_text(out, value);
                }
                let kept = out.get(start..).map_or(0, |text| bounded(text).len());
                out.truncate(start + kept);
            }
        }
    }

    /// The tables, each with a number, to tell their series.
    pub(super) fn tell(
        &mut self,
        round: Round<'_>,
        room: &mut Room,
        each: &mut dyn FnMut(usize, Told),
    ) {
        self.table.tell(round, room, &mut |told| each(0, told));
        if let Some(info) = &mut self.target_info {
            info.table.tell(round, room, &mut |told| each(1, told));
        }
    }

    /// Whether there is a row.
    pub(super) fn is_empty(&self) -> bool {
        self.table.len() == 0
            && self
                .target_info
                .as_ref()
                .is_none_or(|info| info.table.len() == 0)
    }
}

/// The labels of rows and where they come from.
fn labels(settings: &Settings, keys: &mut Keys) -> Vec<(String, Source)> {
    let on = &settings.intrinsic_dimensions;
    let own = [
        (on.service, "service", Source::Service),
        (on.span_name, "span_name", Source::Name),
        (on.span_kind, "span_kind", Source::Kind),
        (on.status_code, "status_code", Source::Status),
        (on.status_message, "status_message", Source::StatusMessage),
        (settings.enable_target_info, "job", Source::Job),
        (
            settings.enable_target_info && settings.enable_instance_label,
            "instance",
            Source::Instance,
        ),
    ];
    let own = own.into_iter().filter(|(on, ..)| *on);
    let mut labels: Vec<(String, Source)> = own
        .map(|(_, name, source)| (name.to_owned(), source))
        .collect();
    let mut add = |name: &str, source: Source| {
        let name = free_name(label_name(name));
        if !name.is_empty() && labels.iter().all(|(held, _)| *held != name) {
            labels.push((name, source));
        }
    };
    for key in &settings.dimensions {
        add(key, Source::Attribute(keys.add(key)));
    }
    for mapping in &settings.dimension_mappings {
        let places = mapping.source_labels.iter().map(|key| keys.add(key));
        add(
            &mapping.name,
            Source::Joined(places.collect(), mapping.join.clone()),
        );
    }
    labels
}

/// The name of a label that an attribute gives: two underscores before it where it is one of the
/// others.
fn free_name(name: String) -> String {
    const TAKEN: [&str; 9] = [
        "service",
        "span_name",
        "span_kind",
        "status_code",
        "status_message",
        "job",
        "instance",
        "le",
        "__name__",
    ];
    match TAKEN.contains(&name.as_str()) {
        true => format!("__{name}"),
        false => name,
    }
}

/// The labels of a row from their names and its key.
pub(super) fn row_labels<'a>(
    names: impl Iterator<Item = &'a str>,
    key: &'a [u8],
) -> Option<Labels> {
    let values = key.split(|byte| *byte == END).map(String::from_utf8_lossy);
    Labels::from_pairs(names.zip(values)).ok()
}

/// How long a span took.
pub(super) fn observation(span: &SpanView<'_, '_>, weight: f64) -> Observation {
    Observation {
        seconds: span.end_ns.saturating_sub(span.start_ns) as f64 / 1e9,
        weight,
        trace_id: span.trace_id,
        time_ms: i64::try_from(span.end_ns / 1_000_000).unwrap_or(i64::MAX),
    }
}

/// OTLP's name of a kind.
fn kind_name(kind: i32) -> Option<&'static str> {
    const KINDS: [&str; 6] = [
        "SPAN_KIND_UNSPECIFIED",
        "SPAN_KIND_INTERNAL",
        "SPAN_KIND_SERVER",
        "SPAN_KIND_CLIENT",
        "SPAN_KIND_PRODUCER",
        "SPAN_KIND_CONSUMER",
    ];
    KINDS.get(usize::try_from(kind).ok()?).copied()
}

/// OTLP's name of how a span ended.
fn status_name(status: i32) -> Option<&'static str> {
    const CODES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
    CODES.get(usize::try_from(status).ok()?).copied()
}

fn put_named(out: &mut Vec<u8>, name: Option<&str>, number: i32) {
    match name {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => out.extend_from_slice(number.to_string().as_bytes()),
    }
}

impl TargetInfo {
    /// The labels of a resource's fact; none for one that has nothing to tell or nobody to tell it
    /// of.
    fn labels(&self, known: &OfResource, attributes: &[(&[u8], ValueView<'_>)]) -> Option<Labels> {
        const IDENTITY: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];
        if known.job.is_empty() && known.instance.is_empty() {
            return None;
        }
        let mut pairs = vec![("job".to_owned(), known.job.clone())];
        if self.has_instance {
            pairs.push(("instance".to_owned(), known.instance.clone()));
        }
        let own = pairs.len();
        for (key, value) in attributes {
            let key = String::from_utf8_lossy(key);
            let is_left_out = IDENTITY.contains(&&*key) || self.excluded.iter().any(|e| *e == *key);
            let name = free_name(label_name(&key));
            let is_there = name.is_empty() || pairs.iter().any(|(held, _)| *held == name);
            if let (false, false, Some(value)) = (is_left_out, is_there, text(*value)) {
                pairs.push((name, value));
            }
        }
        if pairs.len() == own {
            return None;
        }
        Labels::from_pairs(pairs).ok()
    }
}

#[cfg(test)]
mod tests;
