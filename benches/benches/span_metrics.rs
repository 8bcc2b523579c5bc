//! What counting spans costs beside storing them: a request of 2,000 spans that is read, counted by the
//! span metrics and put together to edges of the service graph.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use trine_benches::spans::Source;
use trine_server::config::generator::{Generator as Settings, Processor};
use trine_server::process::generator::{Generator, Total};
use trine_tracestore::{ResourceView, SpanReader, SpanView, StoredSpans};

/// Spans of a request.
const SPANS: u64 = 2_000;

/// When the spans end, nanoseconds since 1970.
const END_NS: u64 = 1_700_000_000_000_000_000;

/// Looks at nothing.
#[derive(Default)]
struct Blind(u64);

impl SpanReader for Blind {
    fn resource(&mut self, _: &ResourceView<'_>) {}

    fn span(&mut self, span: &SpanView<'_, '_>) {
        self.0 += span.end_ns;
    }
}

fn span_metrics(criterion: &mut Criterion) {
    let mut source = Source::new(1);
    let requests: Vec<(StoredSpans, u64)> = (0..16)
        .map(|_| {
            let (request, spans) = source.request(SPANS, END_NS);
            (StoredSpans::of_request(request.into()), spans)
        })
        .collect();
    let spans = requests.iter().map(|(_, spans)| spans).sum::<u64>();
    let mut group = criterion.benchmark_group("span_metrics");
    group.throughput(Throughput::Elements(spans));
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let mut blind = Blind::default();
            for (request, _) in &requests {
                request.read(&mut blind).expect("a request");
            }
            blind.0
        });
    });
    let now_ms = i64::try_from(END_NS / 1_000_000).expect("a time");
    for (name, processors) in [
        ("span_metrics", vec![Processor::SpanMetrics]),
        ("service_graphs", vec![Processor::ServiceGraphs]),
        (
            "both",
            vec![Processor::SpanMetrics, Processor::ServiceGraphs],
        ),
    ] {
        let settings = Arc::new(Settings {
            processors,
            // All spans of the bench end near one time.
            ingestion_time_range_slack: Duration::ZERO,
            ..Settings::default()
        });
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || Generator::new(Arc::clone(&settings), Total::default(), now_ms),
                |generator| {
                    for (request, _) in &requests {
                        generator.take(request.clone(), now_ms);
                    }
                    generator.count_waiting();
                    generator
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, span_metrics);
criterion_main!(benches);
