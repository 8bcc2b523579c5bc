//! OTLP log records as log entries: some resource attributes become the stream's labels,
//! everything else structured metadata. The HTTP and gRPC handlers of `ingest` call
//! [`translate`].

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use trine_logstore::discover::{DETECTED_LEVEL, Levels};
use trine_storage::Labels;

use super::otlp_names::label_name;
use super::otlp_value::{flatten, hex, text};
use super::rejections::Rejections;
use super::stream;
use crate::config::Limits;

/// Resource attributes that become labels of the stream: few values each, and known to everyone
/// who searches.
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
/// is given `now_ns`.
pub fn translate(
    request: &ExportLogsServiceRequest,
    now_ns: i64,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Rejections {
    let mut rejections = Rejections::default();
    for resource in &request.resource_logs {
        let records = || {
            resource
                .scope_logs
                .iter()
                .flat_map(|scope| &scope.log_records)
        };
        let (labels, shared) = match of_resource(resource, limits) {
            Ok(both) => both,
            Err(text) => {
                rejections.add(records().count() as u64, text);
                continue;
            }
        };
        let levels = Levels::of(&labels);
        for scope in &resource.scope_logs {
            let mut of_scope = shared.clone();
            if let Some(scope) = &scope.scope {
                describe_scope(scope, &mut of_scope);
            }
            for record in &scope.log_records {
                let mut pairs = of_scope.clone();
                describe_record(record, &mut pairs);
                let stored = store(record, (&labels, &levels), pairs, now_ns, limits, sink);
                if let Err(text) = stored {
                    rejections.add(1, text);
                }
            }
        }
    }
    rejections
}

/// The labels of a resource's streams and the metadata that all its entries share.
fn of_resource(resource: &ResourceLogs, limits: &Limits) -> Result<(Labels, Pairs), String> {
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut shared = Pairs::new();
    let attributes = resource
        .resource
        .as_ref()
        .map_or(&[][..], |r| &r.attributes);
    for pair in attributes {
        if LABELS.contains(&pair.key.as_str()) {
            let value = text(pair.value.as_ref());
            if !value.is_empty() {
                labels.push((label_name(&pair.key), value));
            }
        } else {
            flatten("", std::slice::from_ref(pair), &mut |name, value| {
                shared.push((name.to_owned().into(), value.into()));
            });
        }
    }
    if labels.is_empty() {
        labels.push(("service_name".to_owned(), "unknown_service".to_owned()));
    }
    let labels = stream::build(&labels, "resource")?;
    Ok((stream::admit(labels, limits)?, shared))
}

fn describe_scope(scope: &InstrumentationScope, pairs: &mut Pairs) {
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
    flatten("", &scope.attributes, &mut |name, value| {
        pairs.push((name.to_owned().into(), value.into()));
    });
}

fn describe_record(record: &LogRecord, pairs: &mut Pairs) {
    flatten("", &record.attributes, &mut |name, value| {
        pairs.push((name.to_owned().into(), value.into()));
    });
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
    let texts = [
        ("severity_text", record.severity_text.clone()),
        ("trace_id", hex(&record.trace_id)),
        ("span_id", hex(&record.span_id)),
        ("event_name", record.event_name.clone()),
    ];
    for (name, value) in texts {
        if !value.is_empty() {
            pairs.push((name.into(), value.into()));
        }
    }
}

fn store(
    record: &LogRecord,
    (labels, levels): (&Labels, &Levels),
    mut pairs: Pairs,
    now_ns: i64,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<(), String> {
    let line = text(record.body.as_ref());
    let found = levels.level(&pairs, line.as_bytes()).into_owned();
    pairs.retain(|(name, _)| name != DETECTED_LEVEL);
    pairs.push((DETECTED_LEVEL.into(), found.into()));
    // A later attribute of the same name wins: the record's over the scope's and the resource's.
    pairs.reverse();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.dedup_by(|later, kept| later.0 == kept.0);
    stream::admit_entry(labels, &line, &pairs, limits)?;
    let metadata = Labels::from_pairs(pairs.iter().map(|(name, value)| (&**name, &**value)))
        .map_err(|error| error.to_string())?;
    let timestamp = [record.time_unix_nano, record.observed_time_unix_nano]
        .into_iter()
        .find(|&time| time != 0)
        .map_or(now_ns, |time| i64::try_from(time).unwrap_or(i64::MAX));
    sink.entry(labels, timestamp, &line, &metadata)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use trine_storage::Labels;

    use super::{Limits, Sink, translate};

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
        let limits = Limits {
            log_line_bytes_max: 20,
            ..Limits::default()
        };
        let rejections = translate(&request, 99, &limits, &mut lines);
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
}
