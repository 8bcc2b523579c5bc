//! The stages of LogQL's pipelines one by one, over lines in memory: lines and bytes a second.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trine_query::budget::{Cancel, Limits};
use trine_query::logql::source::{Batch, Batches, Lines, Request, RowBatch, Source};
use trine_query::logql::{Engine, parse};
use trine_storage::{Error, Labels, Matcher, TimeRange};

const LINES: usize = 10_000;
const SECOND: i64 = 1_000_000_000;

struct Memory(RowBatch);

impl Memory {
    fn of(line: impl Fn(u64) -> String) -> Self {
        let mut blob = Vec::new();
        let ends = (0..LINES as u64).map(|n| {
            blob.extend_from_slice(line(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16).as_bytes());
            blob.len() as u32
        });
        let ends = ends.collect();
        Self(RowBatch {
            streams: vec![Labels::from_pairs([("app", "bench")]).expect("unique names")],
            stream: vec![0; LINES],
            timestamps: (1..=LINES as i64)
                .map(|n| n * SECOND / LINES as i64)
                .collect(),
            lines: Lines {
                blob: Bytes::from(blob),
                ends,
            },
            skeletons: None,
            metadata_sets: vec![Labels::empty()],
            metadata: Vec::new(),
        })
    }
}

impl Source for Memory {
    fn scan(&self, _: &Request) -> Result<Batches, Error> {
        Ok(Box::new(std::iter::once(Ok(Batch::Rows(self.0.clone())))))
    }

    fn streams(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, Error> {
        Ok(self.0.streams.clone())
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(vec!["app".to_owned()])
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(vec!["bench".to_owned()])
    }
}

fn stages(criterion: &mut Criterion) {
    let json = Memory::of(|n| {
        format!(
            r#"{{"time":"2026-11-21T10:00:00Z","level":"info","msg":"request \"done\"","status":{},"user":{{"id":"u{}","roles":["a","b"]}},"duration_ms":{},"addr":"10.0.{}.7"}}"#,
            [200, 200, 404, 503][n as usize % 4],
            n % 5000,
            n % 9000,
            n % 256,
        )
    });
    let logfmt = Memory::of(|n| {
        format!(
            "time=2026-11-21T10:00:00Z level=info msg=\"request \\\"done\\\"\" status={} user=u{} \
             duration_ms={} addr=10.0.{}.7",
            [200, 200, 404, 503][n as usize % 4],
            n % 5000,
            n % 9000,
            n % 256,
        )
    });
    let packed = Memory::of(|n| {
        format!(
            r#"{{"pod":"p-{}","container":"c","_entry":"GET /x {n}"}}"#,
            n % 50
        )
    });
    let mut group = criterion.benchmark_group("logql_stages");
    for (name, memory, query) in [
        (
            "json",
            &json,
            "sum by (status) (count_over_time({app=\"bench\"} | json [1m]))",
        ),
        (
            "json_all",
            &json,
            "count_over_time({app=\"bench\"} | json | keep level [1m])",
        ),
        (
            "json_equality",
            &json,
            "sum(count_over_time({app=\"bench\"} | json | status=\"503\" | duration_ms>3500 [1m]))",
        ),
        (
            "json_paths",
            &json,
            "sum by (id) (count_over_time({app=\"bench\"} | json id=\"status\" [1m]))",
        ),
        (
            "logfmt",
            &logfmt,
            "sum by (status) (count_over_time({app=\"bench\"} | logfmt [1m]))",
        ),
        (
            "logfmt_filters",
            &logfmt,
            "sum(count_over_time({app=\"bench\"} | logfmt | status=503 | duration_ms>3500 [1m]))",
        ),
        (
            "pattern",
            &logfmt,
            "sum by (status) (count_over_time({app=\"bench\"} | pattern `<_>level=<level> <_> status=<status> <_>` [1m]))",
        ),
        (
            "regexp",
            &logfmt,
            "sum by (status) (count_over_time({app=\"bench\"} | regexp `status=(?P<status>\\d+)` [1m]))",
        ),
        (
            "pattern_filter",
            &logfmt,
            "sum(count_over_time({app=\"bench\"} |> `<_>status=503<_>` [1m]))",
        ),
        (
            "ip_filter",
            &logfmt,
            "sum(count_over_time({app=\"bench\"} |= ip(\"10.0.7.0/24\") [1m]))",
        ),
        (
            "unpack",
            &packed,
            "sum by (pod) (count_over_time({app=\"bench\"} | unpack [1m]))",
        ),
        (
            "line_format",
            &logfmt,
            "sum(bytes_over_time({app=\"bench\"} | logfmt | line_format `{{.status}} {{.user | upper}}` [1m]))",
        ),
        (
            "label_format",
            &logfmt,
            "sum by (class) (count_over_time({app=\"bench\"} | logfmt | label_format class=`{{if eq .status \"503\"}}bad{{else}}good{{end}}` [1m]))",
        ),
    ] {
        let query = parse(query).expect("a query");
        let engine = Engine::new(Limits::default());
        let bytes = memory.0.lines.blob.len() as u64;
        for (unit, throughput) in [
            ("lines", Throughput::Elements(LINES as u64)),
            ("bytes", Throughput::Bytes(bytes)),
        ] {
            group.throughput(throughput);
            group.bench_function(format!("{name}/{unit}"), |bencher| {
                bencher.iter(|| {
                    let found = engine.instant(memory, &query, SECOND, &Cancel::new());
                    black_box(found).expect("an answer")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
