//! OTLP log records as log entries: some resource attributes become the stream's labels,
//! everything else structured metadata. The HTTP and gRPC handlers of `ingest` call
//! [`translate`].

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use trine_logstore::discover::{DETECTED_LEVEL, Levels};
use trine_storage::Labels;

use super::log_rules::{Counted, Denied, Rules};
use super::otlp_names::label_name;
use super::otlp_value::{flatten, hex, text};
use super::rejections::Rejections;
use super::stream;
use crate::config::Action;
use crate::refusal::Refusal;

/// Takes entries one by one.
pub trait Sink {
    /// Takes one entry; the timestamp is in nanoseconds.
    ///
    /// # Errors
    /// The text that says why it is refused.
    fn entry(
        &mut self,
        labels: &Labels,
        timestamp_ns: i64,
        line: &str,
        metadata: &Labels,
    ) -> Result<(), String>;
}

/// Names and texts of structured metadata, before they become one set.
type Pairs = Vec<(Cow<'static, str>, Cow<'static, str>)>;

/// Gives every record of `request` to `sink` and says what was refused. A record without any time
/// is given that of `rules`.
///
/// # Errors
/// [`Reason::Busy`](crate::refusal::Reason::Busy) when it is too much at once; nothing has been given
/// to `sink` then.
pub fn translate(
    request: &ExportLogsServiceRequest,
    rules: &Rules<'_>,
    sink: &mut dyn Sink,
) -> Result<Rejections, Refusal> {
    if rules.limits_rate() {
        let scopes = request.resource_logs.iter().flat_map(|r| &r.scope_logs);
        let records = || scopes.clone().flat_map(|scope| &scope.log_records);
        let bytes = records().map(|record| text(record.body.as_ref()).len());
        rules.take(records().count() as u64, bytes.sum())?;
    }
    let mut rejections = Rejections::default();
    for resource in &request.resource_logs {
        let records = || {
            resource
                .scope_logs
                .iter()
                .flat_map(|scope| &scope.log_records)
        };
        let (own, shared) = of_resource(resource, rules);
        let mut stream = match Stream::of(own.clone(), rules) {
            Ok(stream) => stream,
            Err(denied) => {
                denied.tell(records().count() as u64, &mut rejections);
                continue;
            }
        };
        for scope in &resource.scope_logs {
            let mut of_scope = shared.clone();
            if let Some(scope) = &scope.scope {
                describe_scope(scope, rules, &mut of_scope);
            }
            for record in &scope.log_records {
                let mut pairs = of_scope.clone();
                let mut labels = Vec::new();
                describe_record(record, rules, &mut pairs, &mut labels);
                if labels.is_empty() {
                    store(record, &mut stream, pairs, rules, sink, &mut rejections);
                    continue;
                }
                // Labels of the record make it one of another stream.
                labels.extend(own.iter().cloned());
                match Stream::of(labels, rules) {
                    Ok(mut other) => {
                        store(record, &mut other, pairs, rules, sink, &mut rejections);
                        rules.tell(&other.labels, &other.counted, &mut rejections);
                    }
                    Err(denied) => denied.tell(1, &mut rejections),
                }
            }
        }
        rules.tell(&stream.labels, &stream.counted, &mut rejections);
    }
    Ok(rejections)
}

/// A stream whose records are read.
struct Stream {
    labels: Labels,
    levels: Levels,
    counted: Counted,
}

impl Stream {
    /// Of several values of one label the first is taken.
    fn of(mut pairs: Vec<(String, String)>, rules: &Rules<'_>) -> Result<Self, Denied> {
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, kept| later.0 == kept.0);
        if pairs.is_empty() {
            pairs.push(("service_name".to_owned(), "unknown_service".to_owned()));
        }
        let labels = stream::build(&pairs, "resource").map_err(Denied::Bad)?;
        let labels = rules.admit_stream(labels)?;
        Ok(Self {
            levels: Levels::of(&labels),
            labels,
            counted: Counted::default(),
        })
    }
}

/// The labels of a resource's streams and the metadata that all its entries share.
fn of_resource(resource: &ResourceLogs, rules: &Rules<'_>) -> (Vec<(String, String)>, Pairs) {
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut shared = Pairs::new();
    let attributes = resource
        .resource
        .as_ref()
        .map_or(&[][..], |r| &r.attributes);
    for pair in attributes {
        let action = rules.logs.otlp.of_resource(&pair.key);
        take(pair, action, &mut shared, &mut labels);
    }
    (labels, shared)
}

/// Does with an attribute what is to be done.
fn take(pair: &KeyValue, action: Action, pairs: &mut Pairs, labels: &mut Vec<(String, String)>) {
    match action {
        Action::IndexLabel => {
            let value = text(pair.value.as_ref());
            if !value.is_empty() {
                labels.push((label_name(&pair.key), value));
            }
        }
        Action::StructuredMetadata => {
            flatten("", std::slice::from_ref(pair), &mut |name, value| {
                pairs.push((name.to_owned().into(), value.into()));
            });
        }
        Action::Drop => {}
    }
}

fn describe_scope(scope: &InstrumentationScope, rules: &Rules<'_>, pairs: &mut Pairs) {
    let mut add = |name: &'static str, value: String| {
        if !value.is_empty() {
            pairs.push((name.into(), value.into()));
        }
    };
    add("scope_name", scope.name.clone());
    add("scope_version", scope.version.clone());
    if scope.dropped_attributes_count != 0 {
        add(
            "scope_dropped_attributes_count",
            scope.dropped_attributes_count.to_string(),
        );
    }
    for pair in &scope.attributes {
        let action = match rules.logs.otlp.of_scope(&pair.key) {
            Action::IndexLabel => Action::StructuredMetadata,
            other => other,
        };
        take(pair, action, pairs, &mut Vec::new());
    }
}

fn describe_record(
    record: &LogRecord,
    rules: &Rules<'_>,
    pairs: &mut Pairs,
    labels: &mut Vec<(String, String)>,
) {
    let otlp = &rules.logs.otlp;
    for pair in &record.attributes {
        take(pair, otlp.of_record(&pair.key), pairs, labels);
    }
    let numbers: [(&'static str, u64); 4] = [
        ("observed_timestamp", record.observed_time_unix_nano),
        (
            "severity_number",
            u64::try_from(record.severity_number).unwrap_or(0),
        ),
        (
            "dropped_attributes_count",
            u64::from(record.dropped_attributes_count),
        ),
        ("flags", u64::from(record.flags)),
    ];
    for (name, number) in numbers {
        if number != 0 {
            pairs.push((name.into(), number.to_string().into()));
        }
    }
    if otlp.severity_is_label() && !record.severity_text.is_empty() {
        labels.push(("severity_text".to_owned(), record.severity_text.clone()));
    }
    let texts = [
        ("severity_text", record.severity_text.clone()),
        ("trace_id", hex(&record.trace_id)),
        ("span_id", hex(&record.span_id)),
        ("event_name", record.event_name.clone()),
    ];
    for (name, value) in texts {
        if !value.is_empty() && !labels.iter().any(|(label, _)| label == name) {
            pairs.push((name.into(), value.into()));
        }
    }
}

fn store(
    record: &LogRecord,
    stream: &mut Stream,
    mut pairs: Pairs,
    rules: &Rules<'_>,
    sink: &mut dyn Sink,
    rejections: &mut Rejections,
) {
    let line = text(record.body.as_ref());
    if rules.logs.levels {
        let found = stream.levels.level(&pairs, line.as_bytes()).into_owned();
        pairs.retain(|(name, _)| name != DETECTED_LEVEL);
        pairs.push((DETECTED_LEVEL.into(), found.into()));
    }
    // A later attribute of the same name wins: the record's over the scope's and the resource's.
    pairs.reverse();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.dedup_by(|later, kept| later.0 == kept.0);
    let timestamp = [record.time_unix_nano, record.observed_time_unix_nano]
        .into_iter()
        .find(|&time| time != 0)
        .map_or(rules.now_ns, |time| i64::try_from(time).unwrap_or(i64::MAX));
    let admitted = rules.admit_entry(&stream.labels, timestamp, &line, &pairs);
    let too_fast = admitted == Err(Denied::TooFast);
    stream.counted.add(timestamp, &line, too_fast);
    let stored = match admitted {
        Ok(line) => {
            let metadata = pairs.iter().map(|(name, value)| (&**name, &**value));
            let metadata = Labels::from_pairs(metadata).map_err(|error| error.to_string());
            metadata.and_then(|set| sink.entry(&stream.labels, timestamp, line, &set))
        }
        Err(denied) => return denied.tell(1, rejections),
    };
    if let Err(text) = stored {
        rejections.add(1, text);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use trine_storage::Labels;

    use super::{Rules, Sink, translate};
    use crate::config::Config;
    use crate::ingest::rates::Rates;

    struct Lines(Vec<String>);

    impl Sink for Lines {
        fn entry(
            &mut self,
            labels: &Labels,
            timestamp_ns: i64,
            line: &str,
            metadata: &Labels,
        ) -> Result<(), String> {
            self.0
                .push(format!("{labels} {timestamp_ns} {line} {metadata}"));
            Ok(())
        }
    }

    fn attribute(key: &str, value: &str) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: body(value),
            ..KeyValue::default()
        }
    }

    fn body(text: &str) -> Option<AnyValue> {
        Some(AnyValue {
            value: Some(Value::StringValue(text.into())),
        })
    }

    fn check(resource: &[(&str, &str)], records: Vec<LogRecord>, expect: &[&str], told: &str) {
        let attributes = resource
            .iter()
            .map(|(key, value)| attribute(key, value))
            .collect();
        let scope = InstrumentationScope {
            name: "lib".into(),
            attributes: vec![attribute("a", "scope")],
            ..InstrumentationScope::default()
        };
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(Resource {
                    attributes,
                    ..Resource::default()
                }),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope),
                    log_records: records,
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        };
        let mut lines = Lines(Vec::new());
        let mut config = Config::default();
        config.limits.log_line_bytes_max = 20;
        let rates = Rates::default();
        let rules = Rules::new(&config, "t", &rates, (99, 0));
        let rejections = translate(&request, &rules, &mut lines).unwrap();
        assert_eq!(lines.0, expect);
        assert_eq!(rejections.text("; "), told);
    }

    #[test]
    fn records_become_entries() {
        let full = LogRecord {
            time_unix_nano: 5,
            observed_time_unix_nano: 6,
            severity_number: 17,
            severity_text: String::new(),
            body: body("it broke"),
            attributes: vec![attribute("a", "record"), attribute("http.route", "/")],
            trace_id: vec![0xab; 16],
            span_id: vec![1; 8],
            ..LogRecord::default()
        };
        let observed = LogRecord {
            observed_time_unix_nano: 7,
            ..LogRecord::default()
        };
        check(
            &[("service.name", "shop"), ("host.name", "h")],
            vec![full, observed, LogRecord::default()],
            &[
                "{service_name=\"shop\"} 5 it broke {a=\"record\", detected_level=\"error\", \
                 host_name=\"h\", http_route=\"/\", observed_timestamp=\"6\", scope_name=\"lib\", \
                 severity_number=\"17\", span_id=\"0101010101010101\", \
                 trace_id=\"abababababababababababababababab\"}",
                "{service_name=\"shop\"} 7  {a=\"scope\", detected_level=\"unknown\", \
                 host_name=\"h\", observed_timestamp=\"7\", scope_name=\"lib\"}",
                "{service_name=\"shop\"} 99  {a=\"scope\", detected_level=\"unknown\", \
                 host_name=\"h\", scope_name=\"lib\"}",
            ],
            "",
        );
    }

    #[test]
    fn a_resource_without_labels_still_has_a_stream() {
        check(
            &[],
            vec![LogRecord {
                time_unix_nano: 1,
                body: body("warn: x"),
                ..LogRecord::default()
            }],
            &[
                "{service_name=\"unknown_service\"} 1 warn: x {a=\"scope\", \
                 detected_level=\"warn\", scope_name=\"lib\"}",
            ],
            "",
        );
    }

    #[test]
    fn what_is_too_long_is_refused_and_the_rest_is_kept() {
        let record = |line: &str| LogRecord {
            time_unix_nano: 1,
            body: body(line),
            ..LogRecord::default()
        };
        check(
            &[("service.name", "s")],
            vec![record(&"x".repeat(21)), record(&"x".repeat(20))],
            &["{service_name=\"s\"} 1 xxxxxxxxxxxxxxxxxxxx {a=\"scope\", \
                 detected_level=\"unknown\", scope_name=\"lib\"}"],
            "max entry size '20' bytes exceeded for stream '{service_name=\"s\"}' while adding an \
             entry with length '21' bytes",
        );
    }

    #[test]
    fn attributes_go_where_the_tenant_wants_them() {
        let mut config = Config::default();
        config.logs.otlp = serde_saphyr::from_str(
            "{resource_attributes: {ignore_defaults: true, attributes_config: [{action: \
             index_label, attributes: [team]}]}, scope_attributes: [{action: drop, regex: '.*'}], \
             log_attributes: [{action: index_label, attributes: [shop]}, {action: drop, regex: \
             'secret.*'}], severity_text_as_label: true}",
        )
        .unwrap();
        let rates = Rates::default();
        let rules = Rules::new(&config, "t", &rates, (99, 0));
        let record = |attributes: Vec<KeyValue>, severity: &str| LogRecord {
            time_unix_nano: 1,
            body: body("x"),
            attributes,
            severity_text: severity.into(),
            ..LogRecord::default()
        };
        let secret = attribute("secret.key", "s");
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(Resource {
                    attributes: vec![attribute("team", "a"), attribute("service.name", "n")],
                    ..Resource::default()
                }),
                scope_logs: vec![ScopeLogs {
                    scope: Some(InstrumentationScope {
                        attributes: vec![attribute("v", "1")],
                        ..InstrumentationScope::default()
                    }),
                    log_records: vec![
                        record(vec![secret.clone(), attribute("k", "v")], ""),
                        record(vec![attribute("shop", "b")], "warn"),
                    ],
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        };
        let mut lines = Lines(Vec::new());
        let rejections = translate(&request, &rules, &mut lines).unwrap();
        assert!(rejections.is_empty());
        let metadata = "service_name=\"n\"";
        assert_eq!(
            lines.0,
            [
                format!(
                    "{{service_name=\"unknown_service\", team=\"a\"}} 1 x \
                     {{detected_level=\"unknown\", k=\"v\", {metadata}}}"
                ),
                format!(
                    "{{service_name=\"unknown_service\", severity_text=\"warn\", shop=\"b\", \
                     team=\"a\"}} 1 x {{detected_level=\"warn\", {metadata}}}"
                ),
            ]
        );
    }
}
