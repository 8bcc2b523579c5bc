//! Settings of logs, with Loki's names and meaning: what a query may ask, what a push may bring, and
//! what becomes of attributes of OTLP. `config` reads them with all others, for all tenants and, from
//! the key `overrides` of the file, for one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use trine_query::text::format_prometheus_duration;
use trine_storage::regex::LineRegex;

use super::{Config, Setting, value};

/// Limits of logs. A limit of zero is none, unless its description says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Logs {
    /// Lines that one query may give.
    pub entries_max: usize,
    /// Time between start and end of a query.
    pub query_length_max: Duration,
    /// The longest range in brackets that a query may have.
    pub query_interval_max: Duration,
    /// How far back a query may look.
    pub query_lookback_max: Duration,
    /// Bytes of lines that a query may have to look at.
    pub query_bytes_max: usize,
    /// Labels that every selector must name.
    pub required_labels: Vec<String>,
    /// How many labels every selector must name.
    pub required_labels_count: usize,
    /// Followers of one tenant at a time.
    pub tails_max: usize,
    /// How long a follower may stay.
    pub tail_duration_max: Duration,
    /// Whether entries may be deleted.
    pub deletes: bool,
    /// Whether patterns of lines are looked for as they come.
    pub patterns: bool,
    /// Bytes per second that a tenant may push.
    pub rate_bytes: usize,
    /// Bytes that a tenant may push at once when there is a limit per second.
    pub burst_bytes: usize,
    /// Bytes per second that may be pushed to one stream.
    pub stream_rate_bytes: usize,
    /// Bytes that may be pushed to one stream at once when there is a limit per second.
    pub stream_burst_bytes: usize,
    /// Streams that a tenant may push to within an hour.
    pub streams_max: usize,
    /// Whether lines that are too long are cut rather than refused.
    pub truncate_lines: bool,
    /// How old an entry may be.
    pub age_max: Duration,
    /// Whether older entries are refused.
    pub reject_old: bool,
    /// Whether entries may have structured metadata.
    pub metadata: bool,
    /// Whether the level of a line is looked for.
    pub levels: bool,
    /// Labels that every stream must have.
    pub enforced_labels: Vec<String>,
    /// Until when nothing is taken, in nanoseconds since 1970.
    pub blocked_until_ns: Option<i64>,
    /// The status with which senders are told that nothing is taken.
    pub blocked_status: u16,
    /// What becomes of attributes of OTLP.
    pub otlp: OtlpLogs,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            entries_max: 5000,
            query_length_max: Duration::from_secs(721 * 3600),
            query_interval_max: Duration::ZERO,
            query_lookback_max: Duration::ZERO,
            query_bytes_max: 0,
            required_labels: Vec::new(),
            required_labels_count: 0,
            tails_max: 10,
            tail_duration_max: Duration::from_secs(3600),
            deletes: true,
            patterns: true,
            rate_bytes: 0,
            burst_bytes: 6 << 20,
            stream_rate_bytes: 0,
            stream_burst_bytes: 15 << 20,
            streams_max: 0,
            truncate_lines: false,
            age_max: Duration::from_secs(7 * 24 * 3600),
            reject_old: false,
            metadata: true,
            levels: true,
            enforced_labels: Vec::new(),
            blocked_until_ns: None,
            blocked_status: 260,
            otlp: OtlpLogs::default(),
        }
    }
}

/// What becomes of attributes of OTLP log records, in the form of Loki's `otlp_config`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpLogs {
    resource_attributes: ResourceAttributes,
    scope_attributes: Vec<AttributeRule>,
    log_attributes: Vec<AttributeRule>,
    severity_text_as_label: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ResourceAttributes {
    ignore_defaults: bool,
    attributes_config: Vec<AttributeRule>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributeRule {
    action: Action,
    #[serde(default)]
    attributes: Vec<String>,
    #[serde(default)]
    regex: Pattern,
}

/// An expression that the whole name of an attribute matches; none matches nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(Option<LineRegex>);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let regex = LineRegex::anchored(&text).map_err(|error| error.to_string())?;
        Ok(Self(Some(regex)))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().map(LineRegex::pattern) == other.0.as_ref().map(LineRegex::pattern)
    }
}

/// What becomes of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It becomes a label of the stream.
    IndexLabel,
    /// It becomes structured metadata.
    StructuredMetadata,
    /// It is dropped.
    Drop,
}

/// Resource attributes that become labels of the stream unless the rules say otherwise: few values
/// each, and known to everyone who searches.
const LABELS: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

impl AttributeRule {
    fn concerns(&self, name: &str) -> bool {
        let matches = |regex: &LineRegex| regex.is_match(name.as_bytes());
        self.attributes.iter().any(|held| held == name)
            || self.regex.0.as_ref().is_some_and(matches)
    }
}

fn action_of(rules: &[AttributeRule], name: &str) -> Action {
    let rule = rules.iter().find(|rule| rule.concerns(name));
    rule.map_or(Action::StructuredMetadata, |rule| rule.action)
}

impl OtlpLogs {
    /// Reads the form of `otlp_config`.
    fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// What becomes of an attribute of a resource.
    pub fn of_resource(&self, name: &str) -> Action {
        let rules = &self.resource_attributes;
        if !rules.ignore_defaults && LABELS.contains(&name) {
            return Action::IndexLabel;
        }
        action_of(&rules.attributes_config, name)
    }

    /// What becomes of an attribute of a scope; it is no label of the stream.
    pub fn of_scope(&self, name: &str) -> Action {
        action_of(&self.scope_attributes, name)
    }

    /// What becomes of an attribute of a record.
    pub fn of_record(&self, name: &str) -> Action {
        action_of(&self.log_attributes, name)
    }

    /// Whether the text of the severity becomes a label.
    pub fn severity_is_label(&self) -> bool {
        self.severity_text_as_label
    }
}

/// Names by which the file of Loki knows settings that have other names here.
const NAMES_OF_LOKI: [(&str, &str); 9] = [
    ("max-label-names-per-series", "log-labels-max"),
    ("max-label-name-length", "log-label-name-bytes-max"),
    ("max-label-value-length", "log-label-value-bytes-max"),
    ("max-line-size", "log-line-bytes-max"),
    ("max-structured-metadata-size", "log-metadata-bytes-max"),
    (
        "max-structured-metadata-entries-count",
        "log-metadata-entries-max",
    ),
    ("max-query-series", "query-series-max"),
    ("query-timeout", "query-timeout"),
    ("creation-grace-period", "creation-grace-period"),
];

/// The name here of a setting that one tenant may have for itself, which may be written as Loki
/// does.
pub(super) fn own_name(name: &str) -> Option<&'static str> {
    let alias = NAMES_OF_LOKI
        .iter()
        .find(|(loki, ours)| *loki == name || *ours == name);
    let setting = || SETTINGS.iter().find(|setting| setting.name == name);
    alias
        .map(|(_, ours)| *ours)
        .or_else(|| setting().map(|setting| setting.name))
}

/// The limits of logs by Loki's names, as its pages of limits show them.
pub fn shown(config: &Config) -> BTreeMap<&'static str, Value> {
    let (logs, limits) = (&config.logs, &config.limits);
    let time = |duration: Duration| {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Value::from(format_prometheus_duration(ms))
    };
    let megabytes = |bytes: usize| json!(bytes as f64 / f64::from(1 << 20));
    let retention = config.retention.unwrap_or_default();
    BTreeMap::from([
        ("allow_structured_metadata", json!(logs.metadata)),
        ("block_ingestion_status_code", json!(logs.blocked_status)),
        (
            "block_ingestion_until",
            logs.blocked_until_ns
                .map_or(json!(0), |ns| json!(rfc3339(ns))),
        ),
        ("creation_grace_period", time(config.creation_grace_period)),
        (
            "deletion_mode",
            json!(if logs.deletes {
                "filter-and-delete"
            } else {
                "disabled"
            }),
        ),
        ("discover_log_levels", json!(logs.levels)),
        ("enforced_labels", json!(logs.enforced_labels)),
        ("ingestion_burst_size_mb", megabytes(logs.burst_bytes)),
        ("ingestion_rate_mb", megabytes(logs.rate_bytes)),
        ("max_concurrent_tail_requests", json!(logs.tails_max)),
        ("max_entries_limit_per_query", json!(logs.entries_max)),
        ("max_global_streams_per_user", json!(logs.streams_max)),
        (
            "max_label_name_length",
            json!(limits.log_label_name_bytes_max),
        ),
        ("max_label_names_per_series", json!(limits.log_labels_max)),
        (
            "max_label_value_length",
            json!(limits.log_label_value_bytes_max),
        ),
        ("max_line_size", json!(limits.log_line_bytes_max)),
        ("max_line_size_truncate", json!(logs.truncate_lines)),
        ("max_query_bytes_read", json!(logs.query_bytes_max)),
        ("max_query_length", time(logs.query_length_max)),
        ("max_query_lookback", time(logs.query_lookback_max)),
        ("max_query_range", time(logs.query_interval_max)),
        ("max_query_series", json!(config.query_series_max)),
        (
            "max_structured_metadata_entries_count",
            json!(limits.log_metadata_entries_max),
        ),
        (
            "max_structured_metadata_size",
            json!(limits.log_metadata_bytes_max),
        ),
        ("minimum_labels_number", json!(logs.required_labels_count)),
        ("pattern_ingester_enabled", json!(logs.patterns)),
        ("per_stream_rate_limit", json!(logs.stream_rate_bytes)),
        (
            "per_stream_rate_limit_burst",
            json!(logs.stream_burst_bytes),
        ),
        ("query_timeout", time(config.query_timeout)),
        ("reject_old_samples", json!(logs.reject_old)),
        ("reject_old_samples_max_age", time(logs.age_max)),
        ("required_labels", json!(logs.required_labels)),
        ("retention_period", time(retention)),
        ("tail_max_duration", time(logs.tail_duration_max)),
        ("volume_enabled", json!(true)),
    ])
}

fn rate(text: &str) -> Result<usize, String> {
    let megabytes: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number"))?;
    // A petabyte is more than any machine takes, and a float of it is exact.
    if !(0.0..=1e9).contains(&megabytes) {
        return Err(format!("{text:?} is not a number of megabytes"));
    }
    Ok((megabytes * f64::from(1 << 20)) as usize)
}

/// A time to the second in the form of RFC 3339.
pub fn rfc3339(time_ns: i64) -> String {
    let time = jiff::Timestamp::from_second(time_ns.div_euclid(1_000_000_000));
    time.map_or_else(|_| time_ns.to_string(), |time| time.to_string())
}

fn instant(text: &str) -> Result<Option<i64>, String> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is not a time; write it as 2026-01-31T12:00:00Z");
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    let ns = i64::try_from(time.as_nanosecond());
    ns.map(Some).map_err(|_| wrong())
}

fn status(text: &str) -> Result<u16, String> {
    let code = text.parse().ok();
    code.filter(|code| (200..600).contains(code))
        .ok_or_else(|| format!("{text:?} is not a status code from 200 to 599"))
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "max-entries-limit-per-query",
        value: "N",
        help: "Lines that one query over logs may give; 0 for any number [default: 5000]",
        apply: |config, text| value::put(&mut config.logs.entries_max, value::number(text)),
    },
    Setting {
        name: "max-query-length",
        value: "DURATION",
        help: "Time between start and end of a query over logs; 0 for any [default: 721h]",
        apply: |config, text| value::put(&mut config.logs.query_length_max, value::duration(text)),
    },
    Setting {
        name: "max-query-range",
        value: "DURATION",
        help: "The longest range in brackets that a query over logs may have; 0 for any [default: 0]",
        apply: |config, text| {
            value::put(&mut config.logs.query_interval_max, value::duration(text))
        },
    },
    Setting {
        name: "max-query-lookback",
        value: "DURATION",
        help: "How far back a query over logs may look; 0 for any time [default: 0]",
        apply: |config, text| {
            value::put(&mut config.logs.query_lookback_max, value::duration(text))
        },
    },
    Setting {
        name: "max-query-bytes-read",
        value: "SIZE",
        help: "Lines that a query may have to look at, by what its selectors and its times find; \
               0 for any size [default: 0]",
        apply: |config, text| {
            value::put(&mut config.logs.query_bytes_max, value::size_or_none(text))
        },
    },
    Setting {
        name: "required-labels",
        value: "NAMES",
        help: "Labels that every selector of a query over logs must name, with commas between them \
               [default: ]",
        apply: |config, text| {
            config.logs.required_labels = value::words(text);
            Ok(())
        },
    },
    Setting {
        name: "minimum-labels-number",
        value: "N",
        help: "Labels that every selector of a query over logs must have [default: 0]",
        apply: |config, text| {
            value::put(&mut config.logs.required_labels_count, value::number(text))
        },
    },
    Setting {
        name: "max-concurrent-tail-requests",
        value: "N",
        help: "Clients that may follow logs of one tenant at a time [default: 10]",
        apply: |config, text| value::put(&mut config.logs.tails_max, value::number(text)),
    },
    Setting {
        name: "tail-max-duration",
        value: "DURATION",
        help: "How long a client may follow logs before it has to ask again [default: 1h]",
        apply: |config, text| value::put(&mut config.logs.tail_duration_max, value::duration(text)),
    },
    Setting {
        name: "deletion-mode",
        value: "WORD",
        help: "Whether entries of logs may be deleted: filter-and-delete or disabled [default: \
               filter-and-delete]",
        apply: |config, text| {
            config.logs.deletes = match text {
                "filter-and-delete" => true,
                "disabled" => false,
                _ => {
                    return Err(format!(
                        "{text:?} is neither filter-and-delete nor disabled"
                    ));
                }
            };
            Ok(())
        },
    },
    Setting {
        name: "pattern-ingester-enabled",
        value: "BOOL",
        help: "Whether patterns of lines are looked for as they come [default: true]",
        apply: |config, text| value::put(&mut config.logs.patterns, value::truth(text)),
    },
    Setting {
        name: "ingestion-rate-mb",
        value: "NUMBER",
        help: "Megabytes of logs per second that one tenant may push; 0 for any [default: 0]",
        apply: |config, text| value::put(&mut config.logs.rate_bytes, rate(text)),
    },
    Setting {
        name: "ingestion-burst-size-mb",
        value: "NUMBER",
        help: "Megabytes of logs that one tenant may push at once [default: 6]",
        apply: |config, text| value::put(&mut config.logs.burst_bytes, rate(text)),
    },
    Setting {
        name: "per-stream-rate-limit",
        value: "SIZE",
        help: "Size of what may be pushed to one stream of logs per second; 0 for any [default: 0]",
        apply: |config, text| {
            value::put(
                &mut config.logs.stream_rate_bytes,
                value::size_or_none(text),
            )
        },
    },
    Setting {
        name: "per-stream-rate-limit-burst",
        value: "SIZE",
        help: "Size of what may be pushed to one stream of logs at once [default: 15MiB]",
        apply: |config, text| {
            value::put(
                &mut config.logs.stream_burst_bytes,
                value::size_or_none(text),
            )
        },
    },
    Setting {
        name: "max-global-streams-per-user",
        value: "N",
        help: "Streams of logs that one tenant may push to within an hour; 0 for any number \
               [default: 0]",
        apply: |config, text| value::put(&mut config.logs.streams_max, value::number(text)),
    },
    Setting {
        name: "max-line-size-truncate",
        value: "BOOL",
        help: "Whether lines that are too long are cut rather than refused [default: false]",
        apply: |config, text| value::put(&mut config.logs.truncate_lines, value::truth(text)),
    },
    Setting {
        name: "reject-old-samples",
        value: "BOOL",
        help: "Whether entries older than reject-old-samples-max-age are refused [default: false]",
        apply: |config, text| value::put(&mut config.logs.reject_old, value::truth(text)),
    },
    Setting {
        name: "reject-old-samples-max-age",
        value: "DURATION",
        help: "How old an entry may be where old ones are refused [default: 1w]",
        apply: |config, text| value::put(&mut config.logs.age_max, value::duration(text)),
    },
    Setting {
        name: "allow-structured-metadata",
        value: "BOOL",
        help: "Whether entries may have structured metadata [default: true]",
        apply: |config, text| value::put(&mut config.logs.metadata, value::truth(text)),
    },
    Setting {
        name: "discover-log-levels",
        value: "BOOL",
        help: "Whether the level of a line is looked for when it comes [default: true]",
        apply: |config, text| value::put(&mut config.logs.levels, value::truth(text)),
    },
    Setting {
        name: "enforced-labels",
        value: "NAMES",
        help: "Labels that every stream must have, with commas between them [default: ]",
        apply: |config, text| {
            config.logs.enforced_labels = value::words(text);
            Ok(())
        },
    },
    Setting {
        name: "block-ingestion-until",
        value: "TIME",
        help: "Until when no logs are taken, as 2026-01-31T12:00:00Z; 0 for never [default: 0]",
        apply: |config, text| value::put(&mut config.logs.blocked_until_ns, instant(text)),
    },
    Setting {
        name: "block-ingestion-status-code",
        value: "N",
        help: "The status with which senders hear that no logs are taken; with 200 they hear \
               nothing of it [default: 260]",
        apply: |config, text| value::put(&mut config.logs.blocked_status, status(text)),
    },
    Setting {
        name: "otlp-config",
        value: "YAML",
        help: "What becomes of attributes of OTLP logs, as Loki's otlp_config says it [default: {}]",
        apply: |config, text| value::put(&mut config.logs.otlp, OtlpLogs::parse(text)),
    },
];
