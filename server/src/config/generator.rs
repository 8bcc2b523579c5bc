//! Settings of the metrics that are made of spans, with the names and the form of Tempo's overrides
//! of its metrics generator. `config` reads them with all others, for all tenants and, from the key
//! `overrides` of the file, for one; `process` reads the fields.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use trine_storage::regex::LineRegex;

use super::{Setting, value};

/// What becomes of the spans of a tenant beside being stored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Generator {
    /// What is made of spans.
    pub processors: Vec<Processor>,
    /// Series that a tenant may have of its spans at a time; 0 for any number.
    pub max_active_series: usize,
    /// How often series are stored.
    #[serde(deserialize_with = "duration")]
    pub collection_interval: Duration,
    /// Whether series are made but not stored.
    pub disable_collection: bool,
    /// After how long without a span a series ends.
    #[serde(deserialize_with = "duration")]
    pub stale_duration: Duration,
    /// How far the end of a span may be from the clock, before and behind it, for it to count; zero
    /// for any distance.
    #[serde(
        alias = "metrics_ingestion_time_range_slack",
        deserialize_with = "duration"
    )]
    pub ingestion_time_range_slack: Duration,
    /// The label of exemplars that has the id of the trace.
    pub trace_id_label_name: String,
    /// In which form histograms are stored.
    pub generate_native_histograms: HistogramForm,
    /// How much wider a bucket of a native histogram is than the one before, at most.
    pub native_histogram_bucket_factor: f64,
    /// Buckets of a native histogram after which they are made wider.
    pub native_histogram_max_bucket_number: usize,
    /// Settings of what is made.
    pub processor: Processors,
    /// What was told, in the form of this.
    #[serde(skip)]
    pub told: Told,
}

/// What was told. Settings that are the same are equal however they were told.
#[derive(Debug, Clone, Default)]
pub struct Told(Value);

impl PartialEq for Told {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What is made of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Processor {
    /// Who calls whom.
    ServiceGraphs,
    /// How many spans there are, how long they took and how large they are.
    SpanMetrics,
    /// Of that the histogram of durations.
    SpanMetricsLatency,
    /// Of that the number.
    SpanMetricsCount,
    /// Of that the size.
    SpanMetricsSize,
}

/// In which form histograms are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistogramForm {
    /// A series for each bucket.
    Classic,
    /// One series of native histograms.
    Native,
    /// Both.
    Both,
}

/// Settings of each processor.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Processors {
    /// Of [`Processor::ServiceGraphs`].
    pub service_graphs: ServiceGraphs,
    /// Of [`Processor::SpanMetrics`].
    pub span_metrics: SpanMetrics,
}

/// Settings of who calls whom.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceGraphs {
    /// Upper bounds of buckets, seconds.
    pub histogram_buckets: Vec<f64>,
    /// Attributes that become labels.
    pub dimensions: Vec<String>,
    /// Whether labels say of which side they are, by `client_` and `server_` before their names.
    pub enable_client_server_prefix: bool,
    /// Whether the time between producer and consumer is a histogram of its own.
    pub enable_messaging_system_latency_histogram: bool,
    /// Whether a label says which side sent no spans.
    pub enable_virtual_node_label: bool,
    /// Attributes that name the other side; the first that a span has counts.
    pub peer_attributes: Vec<String>,
    /// Attributes that say that a client calls a database; the first that it has names it, unless
    /// an address does.
    pub database_name_attributes: Vec<String>,
    /// An attribute with the share of spans that were kept, by which counts are divided; or nothing.
    pub span_multiplier_key: String,
    /// Whether that share may stand in the state of the trace.
    pub enable_tracestate_span_multiplier: bool,
    /// How long one side waits for the other.
    #[serde(deserialize_with = "duration")]
    pub wait: Duration,
    /// How many sides may wait.
    pub max_items: usize,
}

/// Settings of numbers and durations of spans.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpanMetrics {
    /// Upper bounds of buckets, seconds.
    pub histogram_buckets: Vec<f64>,
    /// Which parts of a span become labels.
    pub intrinsic_dimensions: IntrinsicDimensions,
    /// Attributes that become labels.
    pub dimensions: Vec<String>,
    /// Labels that are made of attributes.
    pub dimension_mappings: Vec<DimensionMapping>,
    /// Which spans count.
    pub filter_policies: Vec<FilterPolicy>,
    /// Whether there is `traces_target_info` with the attributes of resources.
    pub enable_target_info: bool,
    /// Attributes that it leaves out.
    pub target_info_excluded_dimensions: Vec<String>,
    /// Whether it and the others have `instance`, where there is `traces_target_info`.
    pub enable_instance_label: bool,
    /// As [`ServiceGraphs::span_multiplier_key`].
    pub span_multiplier_key: String,
    /// As [`ServiceGraphs::enable_tracestate_span_multiplier`].
    pub enable_tracestate_span_multiplier: bool,
}

/// Which parts of a span become labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntrinsicDimensions {
    /// `service.name` of the resource.
    pub service: bool,
    /// The name.
    pub span_name: bool,
    /// The kind.
    pub span_kind: bool,
    /// How it ended.
    pub status_code: bool,
    /// The words for that.
    pub status_message: bool,
}

/// A label that is made of attributes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DimensionMapping {
    /// Its name.
    pub name: String,
    /// The attributes.
    #[serde(alias = "source_label")]
    pub source_labels: Vec<String>,
    /// What stands between their values.
    #[serde(default)]
    pub join: String,
}

/// Which spans count.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterPolicy {
    /// What every span must have.
    pub include: Option<PolicyMatch>,
    /// What is enough, whatever the others ask for.
    pub include_any: Option<PolicyMatch>,
    /// What no span may have.
    pub exclude: Option<PolicyMatch>,
}

/// Attributes with their values, all of which a span must have.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "WrittenMatch")]
pub struct PolicyMatch {
    /// The attributes.
    pub attributes: Vec<AttributeMatch>,
}

/// An attribute with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributeMatch {
    /// Which attribute.
    pub attribute: FilterAttribute,
    /// Its value.
    pub test: FilterTest,
}

/// What a filter looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterAttribute {
    /// The kind, as OTLP names it.
    Kind,
    /// How the span ended, as OTLP names it.
    Status,
    /// The name.
    Name,
    /// An attribute of the resource.
    Resource(String),
    /// An attribute of the span.
    Span(String),
}

/// What a value must be.
#[derive(Debug, Clone)]
pub enum FilterTest {
    /// This.
    Is(Value),
    /// Text in which this matches.
    Matches(LineRegex),
}

impl PartialEq for FilterTest {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(a), Self::Is(b)) => a == b,
            (Self::Matches(a), Self::Matches(b)) => a.pattern() == b.pattern(),
            _ => false,
        }
    }
}

/// A [`PolicyMatch`] as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMatch {
    match_type: MatchType,
    attributes: Vec<WrittenAttribute>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MatchType {
    Strict,
    Regex,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAttribute {
    key: String,
    value: Value,
}

impl TryFrom<WrittenMatch> for PolicyMatch {
    type Error = String;

    fn try_from(written: WrittenMatch) -> Result<Self, String> {
        let attributes = written
            .attributes
            .into_iter()
            .map(|WrittenAttribute { key, value }| {
                let test = match (written.match_type, &value) {
                    (MatchType::Strict, Value::Array(_) | Value::Object(_) | Value::Null) => {
                        return Err(format!("{value} is no value of an attribute"));
                    }
                    (MatchType::Strict, _) => FilterTest::Is(value),
                    (MatchType::Regex, Value::String(text)) => FilterTest::Matches(
                        LineRegex::new(text).map_err(|error| error.to_string())?,
                    ),
                    (MatchType::Regex, _) => return Err(format!("{value} is no expression")),
                };
                let attribute = FilterAttribute::parse(&key)?;
                Ok(AttributeMatch { attribute, test })
            });
        let attributes = attributes.collect::<Result<Vec<_>, String>>()?;
        match attributes.is_empty() {
            true => Err("a filter policy without attributes".to_owned()),
            false => Ok(Self { attributes }),
        }
    }
}

impl FilterAttribute {
    fn parse(key: &str) -> Result<Self, String> {
        let of_scope = |scope: &str| key.strip_prefix(scope).filter(|name| !name.is_empty());
        match key {
            "kind" => Ok(Self::Kind),
            "status" => Ok(Self::Status),
            "name" => Ok(Self::Name),
            _ => of_scope("resource.")
                .map(|name| Self::Resource(name.to_owned()))
                .or_else(|| of_scope("span.").map(|name| Self::Span(name.to_owned())))
                .ok_or_else(|| {
                    format!(
                        "{key:?} is not an attribute to filter by; write kind, status, name, \
                         resource.NAME or span.NAME"
                    )
                }),
        }
    }
}

impl Default for Generator {
    fn default() -> Self {
        Self {
            processors: vec![Processor::ServiceGraphs, Processor::SpanMetrics],
            max_active_series: 100_000,
            collection_interval: Duration::from_secs(15),
            disable_collection: false,
            stale_duration: Duration::from_secs(15 * 60),
            ingestion_time_range_slack: Duration::from_secs(30),
            trace_id_label_name: "trace_id".to_owned(),
            generate_native_histograms: HistogramForm::Classic,
            native_histogram_bucket_factor: 1.1,
            native_histogram_max_bucket_number: 100,
            processor: Processors::default(),
            told: Told::default(),
        }
    }
}

/// So many bounds, each twice the one before.
fn doubling(first: f64, count: i32) -> Vec<f64> {
    (0..count).map(|k| first * f64::from(2).powi(k)).collect()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

impl Default for ServiceGraphs {
    fn default() -> Self {
        Self {
            histogram_buckets: doubling(0.1, 8),
            dimensions: Vec::new(),
            enable_client_server_prefix: false,
            enable_messaging_system_latency_histogram: false,
            enable_virtual_node_label: false,
            peer_attributes: words(["peer.service", "db.name", "db.system", "db.system.name"]),
            database_name_attributes: words([
                "db.namespace",
                "db.name",
                "db.system",
                "db.system.name",
            ]),
            span_multiplier_key: String::new(),
            enable_tracestate_span_multiplier: false,
            wait: Duration::from_secs(10),
            max_items: 100_000,
        }
    }
}

impl Default for SpanMetrics {
    fn default() -> Self {
        Self {
            histogram_buckets: doubling(0.002, 14),
            intrinsic_dimensions: IntrinsicDimensions::default(),
            dimensions: Vec::new(),
            dimension_mappings: Vec::new(),
            filter_policies: Vec::new(),
            enable_target_info: false,
            target_info_excluded_dimensions: Vec::new(),
            enable_instance_label: true,
            span_multiplier_key: String::new(),
            enable_tracestate_span_multiplier: false,
        }
    }
}

impl Default for IntrinsicDimensions {
    fn default() -> Self {
        Self {
            service: true,
            span_name: true,
            span_kind: true,
            status_code: true,
            status_message: false,
        }
    }
}

impl Generator {
    /// Whether a processor is on.
    pub fn has(&self, processor: Processor) -> bool {
        self.processors.contains(&processor)
    }

    /// Adds what `text`, YAML in the form of this, says to what was told.
    fn tell(&mut self, text: &str) -> Result<(), String> {
        let told = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        self.take(told)
    }

    /// Names the processors, with commas between them; `none` for none.
    fn tell_processors(&mut self, text: &str) -> Result<(), String> {
        let names: Vec<String> = value::words(text);
        let none = names == ["none"];
        let names = if none { Vec::new() } else { names };
        self.take(json!({ "processors": names }))
    }

    fn tell_series(&mut self, text: &str) -> Result<(), String> {
        self.take(json!({ "max_active_series": value::number(text)? }))
    }

    fn take(&mut self, new: Value) -> Result<(), String> {
        let mut told = self.told.0.clone();
        merge(&mut told, new);
        let known = match &told {
            Value::Null => Value::Object(Map::new()),
            told => told.clone(),
        };
        let mut read: Self = serde_json::from_value(known).map_err(|error| error.to_string())?;
        read.check()?;
        read.told = Told(told);
        *self = read;
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let interval = self.collection_interval;
        if interval < Duration::from_secs(1) || interval > Duration::from_secs(3600) {
            return Err("collection_interval must be from 1s to 1h".to_owned());
        }
        if self.stale_duration < interval {
            return Err("stale_duration must be at least collection_interval".to_owned());
        }
        if self.trace_id_label_name.is_empty() {
            return Err("trace_id_label_name is empty".to_owned());
        }
        if self.native_histogram_bucket_factor.partial_cmp(&1.0)
            != Some(std::cmp::Ordering::Greater)
        {
            return Err("native_histogram_bucket_factor must be above 1".to_owned());
        }
        if self.native_histogram_max_bucket_number == 0 {
            return Err("native_histogram_max_bucket_number must be at least 1".to_owned());
        }
        let of = &self.processor;
        check_buckets(&of.service_graphs.histogram_buckets)?;
        check_buckets(&of.span_metrics.histogram_buckets)
    }
}

/// The most buckets of a histogram.
pub const BUCKETS_MAX: usize = 200;

fn check_buckets(bounds: &[f64]) -> Result<(), String> {
    let rising = bounds.windows(2).all(|two| two.first() < two.last());
    if bounds.is_empty() || bounds.len() > BUCKETS_MAX || !rising {
        return Err(format!(
            "histogram_buckets must be 1 to {BUCKETS_MAX} numbers, each above the one before"
        ));
    }
    Ok(())
}

/// Puts `new` over `old`, object by object.
fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (old, new) => *old = new,
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        other => other.to_string(),
    };
    value::duration(&text).map_err(serde::de::Error::custom)
}

/// The settings by the names that Tempo's overrides and this server know them by.
pub(super) fn own_name(name: &str) -> Option<&'static str> {
    let setting = SETTINGS.iter().find(|setting| setting.name == name);
    setting.map(|setting| setting.name)
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "metrics-generator-processors",
        value: "NAMES",
        help: "What is made of spans as they come, with commas between them: service-graphs, \
               span-metrics (or span-metrics-count, span-metrics-latency, span-metrics-size), or \
               none [default: service-graphs,span-metrics]",
        apply: |config, text| config.generator.tell_processors(text),
    },
    Setting {
        name: "metrics-generator-max-active-series",
        value: "N",
        help: "Series that one tenant may have of its spans at a time; 0 for any number [default: \
               100000]",
        apply: |config, text| config.generator.tell_series(text),
    },
    Setting {
        name: "metrics-generator",
        value: "YAML",
        help: "How metrics are made of spans, in the form of metrics_generator in Tempo's \
               overrides [default: {}]",
        apply: |config, text| config.generator.tell(text),
    },
];

#[cfg(test)]
mod tests;
