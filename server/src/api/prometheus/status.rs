//! What the server and the store say of themselves. The routes of `prometheus` lead here.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use trine_query::promql::functions::{self, Function, Optional};
use trine_query::promql::{self, ValueType};
use trine_query::text::format_prometheus_duration;
use trine_storage::cardinality::Cardinality;
use trine_tsdb::{BlockMeta, Snapshot};

use super::answer::Failure;
use super::pieces::Reply;
use super::run::Asked;
use super::source;
use crate::config::MetricsApi;

/// How long the lists of `status/tsdb` are unless the request says it, and at most.
const TOP_DEFAULT: usize = 10;
const TOP_MAX: usize = 10_000;

/// The label that names a metric.
const METRIC: &str = "__name__";

/// Operators of the language, as Prometheus lists them.
pub(super) const OPERATORS: &[&str] = &[
    "!=",
    "!~",
    "%",
    "*",
    "+",
    "-",
    "/",
    "<",
    "<=",
    "==",
    "=~",
    ">",
    ">=",
    "@",
    "^",
    "and",
    "atan2",
    "avg",
    "bottomk",
    "count",
    "count_values",
    "group",
    "limit_ratio",
    "limitk",
    "max",
    "min",
    "or",
    "quantile",
    "stddev",
    "stdvar",
    "sum",
    "topk",
    "unless",
];

/// Parts of the language with a query that has them.
pub(super) const SYNTAX: &[(&str, &str)] = &[
    ("anchored", "rate(a[1m] anchored)"),
    ("at_modifier", "a @ 0"),
    ("bool", "a == bool 1"),
    ("by", "sum by (b) (a)"),
    ("duration_expr", "rate(a[1m + 1m])"),
    ("fill", "a + fill(0) b"),
    ("fill_left", "a + fill_left(0) b"),
    ("fill_right", "a + fill_right(0) b"),
    ("group_left", "a + on (b) group_left () c"),
    ("group_right", "a + on (b) group_right () c"),
    ("ignoring", "a + ignoring (b) c"),
    ("negative_offset", "a offset -1m"),
    ("offset", "a offset 1m"),
    ("on", "a + on (b) c"),
    ("smoothed", "rate(a[1m] smoothed)"),
    ("subqueries", "rate(a[1m:1s])"),
    ("without", "sum without (b) (a)"),
];

/// `features`: what is there, found out by asking the parser where the language is concerned.
pub(super) fn features(asked: &Asked) -> Result<Reply, Failure> {
    let config = &asked.app.config;
    let mut language: BTreeMap<&str, bool> = SYNTAX
        .iter()
        .map(|(name, query)| (*name, has_syntax(query)))
        .collect();
    language.extend([
        ("delayed_name_removal", config.promql.delayed_name_removal),
        ("per_query_lookback_delta", true),
        ("per_step_stats", false),
        ("type_and_unit_labels", false),
    ]);
    let experimental = config.promql.experimental_functions;
    let is_on = |f: &Function| is_known(f) && (experimental || !f.experimental);
    let all = functions::all().iter();
    let functions: BTreeMap<&str, bool> = all.map(|f| (f.name, is_on(f))).collect();
    let is_on = |op: &str| has_operator(op) && (experimental || !op.starts_with("limit"));
    let operators: BTreeMap<&str, bool> = OPERATORS.iter().map(|op| (*op, is_on(op))).collect();
    success(&json!({
        "api": {
            "admin": config.enable_admin_api,
            "exclude_alerts": true,
            "label_values_match": true,
            "lifecycle": config.enable_lifecycle,
            "otlp_write_receiver": true,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": true,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "otlp_receiver": { "delta_conversion": false, "native_delta_ingestion": false },
        "prometheus": { "agent_mode": false, "auto_reload_config": false, "server_mode": true },
        "promql": language,
        "promql_functions": functions,
        "promql_operators": operators,
        "tsdb": { "exemplar_storage": true, "isolation": true, "native_histograms": true },
    }))
}

/// Whether a call of the function is accepted.
fn is_known(function: &Function) -> bool {
    has_syntax(&call(function))
}

/// A call of the function.
pub(super) fn call(function: &Function) -> String {
    let argument = |kind: &ValueType| match kind {
        ValueType::Scalar => "0.5",
        ValueType::String => "\"a\"",
        ValueType::InstantVector => "a",
        ValueType::RangeVector => "a[1m]",
    };
    let last_is_needed = !matches!(function.optional, Optional::Last);
    let needed = function.arguments.len() - usize::from(!last_is_needed);
    let arguments = function.arguments.iter().map(argument).take(needed);
    let arguments: Vec<&str> = arguments.collect();
    format!("{}({})", function.name, arguments.join(", "))
}

/// Whether a query is accepted.
fn has_syntax(query: &str) -> bool {
    promql::parse(query).is_ok()
}

/// Whether a query with the operator is accepted.
fn has_operator(operator: &str) -> bool {
    has_syntax(&operation(operator))
}

/// A query with the operator.
pub(super) fn operation(operator: &str) -> String {
    match operator {
        "=~" | "!~" => format!("a{{b{operator}\"c\"}}"),
        "@" => "a @ 0".to_owned(),
        "avg" | "count" | "group" | "max" | "min" | "stddev" | "stdvar" | "sum" => {
            format!("{operator}(a)")
        }
        "count_values" => "count_values(\"b\", a)".to_owned(),
        "bottomk" | "limit_ratio" | "limitk" | "quantile" | "topk" => format!("{operator}(1, a)"),
        binary => format!("a {binary} b"),
    }
}

/// `status/config`: every setting, as the configuration file has them.
pub(super) fn config(asked: &Asked) -> Result<Reply, Failure> {
    if asked.app.config.metrics_api == MetricsApi::Mimir {
        return success(&json!({}));
    }
    success(&json!({ "yaml": asked.app.config.yaml() }))
}

/// `status/flags`.
pub(super) fn flags(asked: &Asked) -> Result<Reply, Failure> {
    if asked.app.config.metrics_api == MetricsApi::Mimir {
        return success(&json!({}));
    }
    let settings = asked.app.config.settings().into_iter();
    let settings = settings.map(|(name, value)| (name.to_owned(), Value::from(value)));
    success(&Value::Object(settings.collect::<Map<_, _>>()))
}

/// `status/runtimeinfo`.
pub(super) fn runtime(asked: &Asked) -> Result<Reply, Failure> {
    let app = &asked.app;
    let time = |ns: i64| {
        let time = jiff::Timestamp::from_nanosecond(ns.into());
        time.map_or_else(|_| String::new(), |time| time.to_string())
    };
    let mut damaged = 0;
    for (_, store) in source::stores(asked)? {
        damaged += store.stats().damaged.len();
    }
    let directory = std::env::current_dir().unwrap_or_default();
    let retention = app.config.retention.unwrap_or_default();
    let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let tasks = tokio::runtime::Handle::try_current();
    let threads = std::thread::available_parallelism();
    success(&json!({
        "startTime": time(app.started_ns),
        "CWD": directory.to_string_lossy(),
        "hostname": std::env::var("HOSTNAME").unwrap_or_default(),
        "serverTime": time(app.clock.now_ns()),
        "reloadConfigSuccess": true,
        "lastConfigTime": time(app.started_ns),
        "corruptionCount": damaged,
        "goroutineCount": tasks.map_or(0, |handle| handle.metrics().num_alive_tasks()),
        "GOMAXPROCS": threads.map_or(1, std::num::NonZero::get),
        "GOMEMLIMIT": i64::MAX,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": format_prometheus_duration(retention),
    }))
}

/// `status/tsdb`: what is in memory, and which labels make the series.
pub(super) fn tsdb(asked: &Asked) -> Result<Reply, Failure> {
    let limit = match asked.params.get("limit") {
        None => TOP_DEFAULT,
        Some(text) => match text.parse::<usize>() {
            Ok(limit @ 1..=TOP_MAX) => limit,
            Ok(limit) if limit > TOP_MAX => {
                return Err(Failure::bad(format!("limit must not exceed {TOP_MAX}")));
            }
            _ => return Err(Failure::bad("limit must be a positive number")),
        },
    };
    let mut head = Head::default();
    for (_, store) in source::stores(asked)? {
        head.add(&store.stats(), &store.snapshot(), limit);
    }
    let (oldest, newest) = head.times.unwrap_or((i64::MAX, i64::MIN));
    success(&json!({
        "headStats": {
            "numSeries": head.series,
            "numLabelPairs": head.label_pairs,
            "chunkCount": head.series,
            "minTime": oldest,
            "maxTime": newest,
        },
        "seriesCountByMetricName": top(head.by_name, limit),
        "labelValueCountByLabelName": top(head.by_label, limit),
        "memoryInBytesByLabelName": top(head.bytes_by_label, limit),
        "seriesCountByLabelValuePair": top(head.by_pair, limit),
    }))
}

/// What the heads of several tenants have together.
#[derive(Default)]
struct Head {
    series: u64,
    label_pairs: u64,
    times: Option<(i64, i64)>,
    by_name: BTreeMap<String, u64>,
    by_label: BTreeMap<String, u64>,
    bytes_by_label: BTreeMap<String, u64>,
    by_pair: BTreeMap<String, u64>,
}

impl Head {
    fn add(&mut self, stats: &trine_tsdb::Stats, snapshot: &Snapshot, limit: usize) {
        let Cardinality {
            label_pairs,
            series_by_name,
            values_by_label,
            series_by_pair,
            bytes_by_label,
            ..
        } = snapshot.head_cardinality(METRIC, limit);
        self.series += stats.head_series;
        self.label_pairs += label_pairs;
        if let Some((oldest, newest)) = stats.head_times {
            let (a, b) = self.times.unwrap_or((oldest, newest));
            self.times = Some((a.min(oldest), b.max(newest)));
        }
        for (sum, list) in [
            (&mut self.by_name, series_by_name),
            (&mut self.by_label, values_by_label),
            (&mut self.bytes_by_label, bytes_by_label),
            (&mut self.by_pair, series_by_pair),
        ] {
            for (name, count) in list {
                *sum.entry(name).or_default() += count;
            }
        }
    }
}

/// The largest numbers first, of equal ones by name.
fn top(counts: BTreeMap<String, u64>, limit: usize) -> Vec<Value> {
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|count| Reverse(count.1));
    let counts = counts.into_iter().take(limit);
    let entry = |(name, value)| json!({ "name": name, "value": value });
    counts.map(entry).collect()
}

/// `status/tsdb/blocks`.
pub(super) fn blocks(asked: &Asked) -> Result<Reply, Failure> {
    let mut blocks = Vec::new();
    for (_, store) in source::stores(asked)? {
        blocks.extend(store.blocks().iter().map(block));
    }
    success(&json!({ "blocks": blocks }))
}

fn block(meta: &BlockMeta) -> Value {
    json!({
        "ulid": meta.id.to_string(),
        "minTime": meta.range.start,
        "maxTime": meta.range.end,
        "stats": { "numSamples": meta.rows, "numBytes": meta.bytes },
        "compaction": { "level": meta.level, "sources": [meta.id.to_string()] },
        "version": 1,
    })
}

/// `user_stats` of Mimir. Rates are not kept by tenant.
pub(super) fn user_stats(asked: &Asked) -> Result<Reply, Failure> {
    let mut series = 0;
    for (_, store) in source::stores(asked)? {
        series += store.stats().head_series;
    }
    bare(&json!({
        "ingestionRate": 0,
        "numSeries": series,
        "APIIngestionRate": 0,
        "RuleIngestionRate": 0,
    }))
}

/// `user_limits` of Mimir; 0 for what has no limit here.
pub(super) fn user_limits(_: &Asked) -> Result<Reply, Failure> {
    bare(&json!({
        "ingestion_rate": 0,
        "ingestion_burst_size": 0,
        "max_global_series_per_user": 0,
        "max_global_series_per_metric": 0,
        "max_global_exemplars_per_user": 0,
        "ruler_max_rules_per_rule_group": 0,
        "ruler_max_rule_groups_per_tenant": 0,
    }))
}

/// Mimir answers some questions without an envelope.
pub(super) fn bare(data: &Value) -> Result<Reply, Failure> {
    Ok(data.to_string().into())
}

fn success(data: &Value) -> Result<Reply, Failure> {
    bare(&json!({ "status": "success", "data": data }))
}
