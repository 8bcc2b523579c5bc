//! Metrics of a tenant's spans: what `span_metrics` and `service_graphs` count, stored in rounds in the
//! tenant's own metrics engine. `ingest::otlp_traces` hands over the spans that were stored; `rounds`
//! asks for rounds.
//!
//! Spans are counted behind the acknowledgement, by a thread that nobody waits for; when too many
//! wait, by the one who brings more. A request that comes again, since its sender did not hear that
//! it was stored, counts once. What was counted since the last round is lost when the process is
//! killed; counters begin anew after a restart, as those of every process do.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use trine_tracestore::{ResourceView, SpanReader, SpanView, StoredSpans};
use trine_tsdb::{Error, Tsdb};
use xxhash_rust::xxh3::xxh3_128;

mod batch;

use super::resources::Resources;
use super::series::{Room, Round, Schema, Told, native_schema_of};
use super::service_graphs::{self, ServiceGraphs};
use super::span_metrics::{Arrival, SpanMetrics};
use crate::config::generator::Generator as Settings;
use batch::{Batch, References};

/// Bytes of requests of one tenant that wait to be counted.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Bytes of requests of all tenants that wait to be counted.
const WAITING_IN_ALL_MAX: usize = 64 << 20;

/// The last requests that are known again.
const REQUESTS_KNOWN_MAX: usize = 4096;

/// Bytes that wait of all tenants; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Total(Arc<AtomicUsize>);

/// The metrics of one tenant's spans.
#[derive(Debug)]
pub struct Generator {
    settings: Arc<Settings>,
    total: Total,
    waiting: Mutex<Waiting>,
    /// Held by the one who counts a request that waited, from when it waits no more.
    serving: Mutex<()>,
    state: Mutex<State>,
    /// Whether references are those of an engine that is closed by now.
    is_other_engine: AtomicBool,
    figures: Counts,
}

/// Requests that are stored and not counted yet.
#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<(StoredSpans, i64)>,
    bytes: usize,
    /// Whether somebody counts them, or is about to.
    is_served: bool,
    /// What the last requests looked like, and in which order they came.
    known: HashSet<u128>,
    known_order: VecDeque<u128>,
}

/// What was counted.
#[derive(Debug)]
struct State {
    span_metrics: Option<SpanMetrics>,
    service_graphs: Option<ServiceGraphs>,
    resources: Resources,
    room: Room,
    /// How the engine knows the series of each table.
    references: References,
    /// When the last round was, milliseconds since 1970.
    last_ms: i64,
    was_full: bool,
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    outside_slack: AtomicU64,
    filtered: AtomicU64,
    repeated: AtomicU64,
    rounds: AtomicU64,
    rounds_failed: AtomicU64,
}

/// What became of the spans of a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Spans that came.
    pub received: u64,
    /// Those that ended too far from now to count.
    pub outside_slack: u64,
    /// Those that the filter policies left out of span metrics.
    pub filtered: u64,
    /// Requests that came again.
    pub repeated: u64,
    /// Series that there is room taken for.
    pub active_series: u64,
    /// How many there may be.
    pub max_active_series: u64,
    /// Series that were begun, and that ended.
    pub added: u64,
    /// See `added`.
    pub removed: u64,
    /// Spans and edges that were not counted for want of series.
    pub limited: u64,
    /// Rounds in which series were stored, and those that failed.
    pub rounds: u64,
    /// See `rounds`.
    pub rounds_failed: u64,
    /// Edges of the service graph.
    pub edges: u64,
    /// Edges whose other side did not come in time.
    pub expired_edges: u64,
    /// Spans for which there was no room to wait for their other side.
    pub dropped_spans: u64,
    /// Bytes of requests whose spans are not counted yet.
    pub waiting_bytes: u64,
}

impl Generator {
    /// Nothing counted yet, of a tenant among others, at `now_ms`.
    pub fn new(settings: Arc<Settings>, total: Total, now_ms: i64) -> Self {
        let schema = Schema {
            counters: &[],
            histograms: &[],
            bounds: Vec::new(),
            form: settings.generate_native_histograms,
            native_schema: native_schema_of(settings.native_histogram_bucket_factor),
            native_buckets_max: settings.native_histogram_max_bucket_number,
            facts: false,
        };
        let state = State {
            span_metrics: SpanMetrics::new(&settings, &schema),
            service_graphs: ServiceGraphs::new(&settings, &schema),
            resources: Resources::default(),
            room: Room {
                max: settings.max_active_series,
                ..Room::default()
            },
            references: References::default(),
            last_ms: now_ms,
            was_full: false,
        };
        Self {
            settings,
            total,
            waiting: Mutex::default(),
            serving: Mutex::default(),
            state: Mutex::new(state),
            is_other_engine: AtomicBool::new(false),
            figures: Counts::default(),
        }
    }

    /// Takes spans that were stored at `now_ms`. True when nobody is about to count them: then
    /// somebody has to call [`Generator::count_waiting`].
    pub fn take(&self, spans: StoredSpans, now_ms: i64) -> bool {
        if self.settings.processors.is_empty() || spans.bytes().is_empty() {
            return false;
        }
        let bytes = spans.bytes().len();
        let print = xxh3_128(spans.bytes());
        let mut waiting = self.waiting.lock();
        if !waiting.is_new(print) {
            self.figures.repeated.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let in_all = self.total.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting.bytes + bytes > WAITING_BYTES_MAX || in_all > WAITING_IN_ALL_MAX {
            self.total.0.fetch_sub(bytes, Ordering::Relaxed);
            drop(waiting);
            self.count(&spans, now_ms);
            return false;
        }
        waiting.bytes += bytes;
        waiting.requests.push_back((spans, now_ms));
        !std::mem::replace(&mut waiting.is_served, true)
    }

    /// Counts the spans that wait.
    pub fn count_waiting(&self) {
        loop {
            let _one = self.serving.lock();
            let mut waiting = self.waiting.lock();
            let Some((spans, now_ms)) = waiting.pop(&self.total) else {
                waiting.is_served = false;
                return;
            };
            drop(waiting);
            self.count(&spans, now_ms);
        }
    }

    fn count(&self, spans: &StoredSpans, now_ms: i64) {
        let slack = self.settings.ingestion_time_range_slack.as_nanos();
        let mut counting = Counting {
            state: &mut self.state.lock(),
            resource: None,
            now_ms,
            slack_ns: u64::try_from(slack).unwrap_or(u64::MAX),
            received: 0,
            outside_slack: 0,
            filtered: 0,
        };
        // What was stored can be read.
        spans.read(&mut counting).ok();
        let Counting {
            received,
            outside_slack,
            filtered,
            ..
        } = counting;
        let figures = &self.figures;
        figures.received.fetch_add(received, Ordering::Relaxed);
        figures
            .outside_slack
            .fetch_add(outside_slack, Ordering::Relaxed);
        figures.filtered.fetch_add(filtered, Ordering::Relaxed);
    }

    /// Whether it is time for a round; ends edges that waited long enough in any case.
    pub fn is_due(&self, now_ms: i64) -> bool {
        if self.settings.processors.is_empty() {
            return false;
        }
        let mut state = self.state.lock();
        let State {
            service_graphs,
            room,
            ..
        } = &mut *state;
        if let Some(graphs) = service_graphs {
            graphs.expire(now_ms, room);
        }
        let interval = millis(self.settings.collection_interval);
        now_ms.saturating_sub(state.last_ms) >= interval
    }

    /// Stores all series in `engine`, which is opened if there are any, as of `now_ms`.
    ///
    /// # Errors
    /// The engine's. What was counted is told in the next round.
    pub fn store(
        &self,
        now_ms: i64,
        engine: impl FnOnce() -> Result<Tsdb, Error>,
    ) -> Result<(), Error> {
        let one = self.serving.lock();
        while let Some((spans, now_ms)) = self.next() {
            self.count(&spans, now_ms);
        }
        drop(one);
        let mut state = self.state.lock();
        state.expire(now_ms);
        if now_ms <= state.last_ms {
            // The clock went back: no sample may lie before another one of its series.
            return Ok(());
        }
        let result = match state.is_empty() || self.settings.disable_collection {
            true => Ok(()),
            false => engine().and_then(|engine| {
                self.figures.rounds.fetch_add(1, Ordering::Relaxed);
                if self.is_other_engine.swap(false, Ordering::AcqRel) {
                    state.references = References::default();
                }
                state.store(&self.settings, now_ms, &engine)
            }),
        };
        if result.is_err() {
            self.figures.rounds_failed.fetch_add(1, Ordering::Relaxed);
        }
        state.last_ms = now_ms;
        let is_full = state.room.refused > 0;
        if is_full && !std::mem::replace(&mut state.was_full, is_full) {
            tracing::warn!(
                "spans of a tenant have more than {} series; others are not counted: raise \
                 metrics-generator-max-active-series or leave dimensions out",
                self.settings.max_active_series
            );
        }
        result
    }

    /// Forgets how the engine knows the series: there will be another engine. Waits for nobody, since a
    /// round may wait for that.
    pub fn forget_references(&self) {
        self.is_other_engine.store(true, Ordering::Release);
    }

    fn next(&self) -> Option<(StoredSpans, i64)> {
        self.waiting.lock().pop(&self.total)
    }

    /// What became of the spans.
    pub fn figures(&self) -> Figures {
        let waiting_bytes = self.waiting.lock().bytes as u64;
        let state = self.state.lock();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let graphs = state.service_graphs.as_ref();
        let service_graphs::Figures {
            edges,
            expired,
            dropped,
        } = graphs.map_or_else(Default::default, |graphs| graphs.figures);
        Figures {
            received: of(&self.figures.received),
            outside_slack: of(&self.figures.outside_slack),
            filtered: of(&self.figures.filtered),
            repeated: of(&self.figures.repeated),
            active_series: state.room.taken as u64,
            max_active_series: state.room.max as u64,
            added: state.room.added,
            removed: state.room.removed,
            limited: state.room.refused,
            rounds: of(&self.figures.rounds),
            rounds_failed: of(&self.figures.rounds_failed),
            edges,
            expired_edges: expired,
            dropped_spans: dropped,
            waiting_bytes,
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let bytes = self.waiting.get_mut().bytes;
        self.total.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Waiting {
    /// Whether a request is none of the last ones; it is from now on.
    fn is_new(&mut self, print: u128) -> bool {
        if !self.known.insert(print) {
            return false;
        }
        self.known_order.push_back(print);
        if self.known_order.len() > REQUESTS_KNOWN_MAX
            && let Some(oldest) = self.known_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    fn pop(&mut self, total: &Total) -> Option<(StoredSpans, i64)> {
        let (spans, now_ms) = self.requests.pop_front()?;
        self.bytes -= spans.bytes().len();
        total.0.fetch_sub(spans.bytes().len(), Ordering::Relaxed);
        Some((spans, now_ms))
    }
}

/// Counts the spans of a request.
struct Counting<'g> {
    state: &'g mut State,
    /// The place of what is known of the resource of the spans that come.
    resource: Option<usize>,
    now_ms: i64,
    slack_ns: u64,
    received: u64,
    outside_slack: u64,
    filtered: u64,
}

impl SpanReader for Counting<'_> {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        let State {
            span_metrics,
            service_graphs,
            resources,
            ..
        } = &mut *self.state;
        let place = resources.place(resource, |attributes| {
            (
                span_metrics
                    .as_ref()
                    .map(|held| held.of_resource(attributes)),
                service_graphs
                    .as_ref()
                    .map(|held| held.of_resource(attributes)),
            )
        });
        self.resource = Some(place);
    }

    #[inline]
    fn span(&mut self, span: &SpanView<'_, '_>) {
        self.received += 1;
        let now_ns = u64::try_from(self.now_ms)
            .unwrap_or(0)
            .saturating_mul(1_000_000);
        if self.slack_ns > 0 && span.end_ns.abs_diff(now_ns) > self.slack_ns {
            self.outside_slack += 1;
            return;
        }
        let State {
            span_metrics,
            service_graphs,
            resources,
            room,
            ..
        } = &mut *self.state;
        let Some(known) = self.resource.and_then(|place| resources.get(place)) else {
            return;
        };
        let now_ms = self.now_ms;
        if let (Some(metrics), Some(resource)) = (span_metrics, &known.0) {
            let arrival = Arrival {
                resource,
                span,
                now_ms,
            };
            self.filtered += u64::from(!metrics.count(&arrival, room));
        }
        if let (Some(graphs), Some(resource)) = (service_graphs, &known.1) {
            graphs.take((resource, span), now_ms, room);
        }
    }
}

impl State {
    fn expire(&mut self, now_ms: i64) {
        if let Some(graphs) = &mut self.service_graphs {
            graphs.expire(now_ms, &mut self.room);
        }
    }

    fn is_empty(&self) -> bool {
        self.span_metrics.as_ref().is_none_or(SpanMetrics::is_empty)
            && self
                .service_graphs
                .as_ref()
                .is_none_or(ServiceGraphs::is_empty)
    }

    fn tell(&mut self, round: Round<'_>, each: &mut dyn FnMut(usize, Told)) {
        if let Some(metrics) = &mut self.span_metrics {
            metrics.tell(round, &mut self.room, each);
        }
        if let Some(graphs) = &mut self.service_graphs {
            graphs.tell(round, &mut self.room, &mut |told| each(2, told));
        }
    }

    fn store(&mut self, settings: &Settings, now_ms: i64, engine: &Tsdb) -> Result<(), Error> {
        let times = (self.last_ms + 1, now_ms);
        let mut batch = Batch::new(engine, times, std::mem::take(&mut self.references));
        let round = Round {
            idle_before_ms: now_ms.saturating_sub(millis(settings.stale_duration)),
            trace_label: &settings.trace_id_label_name,
        };
        self.tell(round, &mut |table, told| batch.add(table, told));
        let (references, result) = batch.finish();
        // An engine that fails may be closed and opened again.
        self.references = match &result {
            Ok(()) => references,
            Err(_) => References::default(),
        };
        result
    }
}

#[cfg(test)]
mod tests;
