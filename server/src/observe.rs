//! Self-observation: the server's own metrics, log lines and spans, appended to the tenant
//! `trine`. Nothing of it goes over HTTP, and it never observes itself. `lib` runs it.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::watch;
use trine_storage::Labels;

use crate::app::App;
use crate::ingest::rejections::Rejections;
use crate::ingest::{otlp_logs::Sink as _, otlp_traces, store};
use crate::refusal::Refusal;
use crate::tenants::{Tenant, TenantId};

mod generators;
pub mod log_lines;
pub mod query_cost;
pub mod registry;
pub mod request_spans;
mod storage;

use log_lines::{Line, LogLines};
use query_cost::QueryCosts;
use registry::{Registry, Signal};
use request_spans::RequestSpans;

/// How often waiting log lines and spans are stored.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// How many of those pass between two rounds of metrics.
const METRICS_EVERY: u32 = 15;

/// Where observations wait.
#[derive(Debug)]
pub struct Observer {
    /// Counters.
    pub registry: Registry,
    /// Log lines.
    pub lines: LogLines,
    /// Spans.
    pub spans: RequestSpans,
    /// What queries cost of the bucket.
    pub query_costs: QueryCosts,
    instance: String,
    started: u64,
}

impl Observer {
    /// An observer for the server at `instance` (the value of that label) that started at the
    /// monotonic time `started`, nanoseconds.
    pub fn new(lines: LogLines, instance: String, started: u64) -> Self {
        Self {
            registry: Registry::default(),
            lines,
            spans: RequestSpans::default(),
            query_costs: QueryCosts::default(),
            instance,
            started,
        }
    }
}

/// Stores the first observations, so that there is something to look at at once.
///
/// # Errors
/// What the engines say; a server that cannot store its first line will not store anything.
pub async fn begin(app: &Arc<App>, started_ns: i64, message: String) -> Result<(), Refusal> {
    let took = app
        .clock
        .monotonic_ns()
        .saturating_sub(app.observer.started);
    let span = request_spans::internal("start", started_ns, Duration::from_nanos(took));
    app.observer.spans.push(span);
    app.observer.lines.push(Line {
        timestamp_ns: app.clock.now_ns(),
        level: "info",
        target: "trine_server".to_owned(),
        text: message,
    });
    blocking(app, |app, tenant| {
        flush(app, tenant)?;
        append_metrics(app, tenant)
    })
    .await
}

/// Stores observations until `stop` changes, then once more.
pub async fn run(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut rounds = 0u32;
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(FLUSH_INTERVAL) => false,
            _ = stop.changed() => true,
        };
        rounds = rounds.wrapping_add(1);
        // While another server writes to the bucket, what is observed waits here.
        if app.tenants.may_write().is_err() {
            if stopping {
                return;
            }
            continue;
        }
        let with_metrics = stopping || rounds.is_multiple_of(METRICS_EVERY);
        let stored = blocking(&app, move |app, tenant| {
            flush(app, tenant)?;
            if with_metrics {
                append_metrics(app, tenant)
            } else {
                Ok(())
            }
        })
        .await;
        if let Err(refusal) = stored {
            tracing::warn!(%refusal, "cannot store observations of the server itself");
        }
        if stopping {
            return;
        }
    }
}

async fn blocking(
    app: &Arc<App>,
    work: impl FnOnce(&App, &Tenant) -> Result<(), Refusal> + Send + 'static,
) -> Result<(), Refusal> {
    let app = Arc::clone(app);
    let done = tokio::task::spawn_blocking(move || {
        let tenant = app.tenants.get_or_create(&TenantId::own())?;
        work(&app, &tenant)
    });
    done.await.unwrap_or(Ok(()))
}

/// Stores waiting lines and spans.
fn flush(app: &App, tenant: &Tenant) -> Result<(), Refusal> {
    let observer = &app.observer;
    let (lines, dropped) = observer.lines.take();
    observer.registry.dropped(Signal::Logs, dropped);
    if !lines.is_empty() {
        append_lines(app, tenant, &lines)?;
    }
    let (spans, dropped) = observer.spans.take();
    observer.registry.dropped(Signal::Traces, dropped);
    if !spans.is_empty() {
        let request = request_spans::export(spans, &observer.instance);
        otlp_traces::push(app, &TenantId::own(), request.encode_to_vec().into())?;
    }
    Ok(())
}

fn append_lines(app: &App, tenant: &Tenant, lines: &[Line]) -> Result<(), Refusal> {
    let mut logs = store::Logs::new(&tenant.logs()?);
    let max = app.config.limits.log_line_bytes_max;
    for line in lines {
        let labels = Labels::from_pairs([
            ("instance", app.observer.instance.as_str()),
            ("job", "trine"),
            ("level", line.level),
            ("service_name", "trine"),
        ])?;
        let metadata = [
            ("detected_level", line.level),
            ("target", line.target.as_str()),
        ];
        let end = line.text.floor_char_boundary(max);
        let text = line.text.get(..end).unwrap_or("");
        let metadata = Labels::from_pairs(metadata)?;
        logs.entry(&labels, line.timestamp_ns, text, &metadata)
            .map_err(Refusal::bad)?;
    }
    logs.commit(Rejections::default()).map(drop)
}

fn append_metrics(app: &App, tenant: &Tenant) -> Result<(), Refusal> {
    let now_ms = app.clock.now_ms();
    let engine = tenant.metrics()?;
    let mut metrics = store::Metrics::new(&engine, &app.config.limits);
    for family in gather(app) {
        for point in &family.points {
            let name = format!("{}{}", family.name, point.suffix);
            let own = [
                ("__name__", name.as_str()),
                ("instance", app.observer.instance.as_str()),
                ("job", "trine"),
            ];
            let pairs = point
                .labels
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .chain(own);
            let labels = Labels::from_pairs(pairs)?;
            metrics
                .sample(&labels, now_ms, point.value)
                .map_err(Refusal::bad)?;
        }
    }
    metrics.commit(Rejections::default()).map(drop)
}

/// All figures at this moment.
pub fn gather(app: &App) -> Vec<registry::Family> {
    let up = app
        .clock
        .monotonic_ns()
        .saturating_sub(app.observer.started);
    let registry = &app.observer.registry;
    let mut families = registry.gather(&app.tenants, Duration::from_nanos(up));
    let bucket = app.tenants.storage().map(AsRef::as_ref);
    let costs = &app.observer.query_costs;
    families.extend(storage::families(bucket, costs, app.clock.now_ms()));
    families
}
