//! The server's own figures: counted with atomics, gathered as families of points. `/metrics`
//! writes them as text, `observe` appends them to the tenant `trine`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::generators;
use crate::tenants::Tenants;

/// Upper bounds of the duration histogram, seconds.
const BOUNDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Combinations of route, method and status that are counted apart; more go into one.
const ROUTES_MAX: usize = 1000;

/// What is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Samples.
    Metrics,
    /// Log entries.
    Logs,
    /// Spans.
    Traces,
}

/// Counters of one server.
#[derive(Debug, Default)]
pub struct Registry {
    requests: Mutex<BTreeMap<Route, Durations>>,
    stored: [AtomicU64; 3],
    rejected: [AtomicU64; 3],
    dropped: [AtomicU64; 3],
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    path: String,
    method: String,
    status: u16,
}

#[derive(Debug, Clone, Default)]
struct Durations {
    count: u64,
    seconds: f64,
    buckets: [u64; BOUNDS.len()],
}

/// Figures of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The metric's name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Prometheus' word for its kind.
    pub kind: &'static str,
    /// The points.
    pub points: Vec<Point>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// `_bucket`, `_sum` or `_count` for histograms.
    pub suffix: &'static str,
    /// Labels without the name.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl Family {
    pub(super) fn new(name: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind,
            points: Vec::new(),
        }
    }

    fn with(mut self, labels: Vec<(&'static str, String)>, value: f64) -> Self {
        self.add("", labels, value);
        self
    }

    pub(super) fn add(
        &mut self,
        suffix: &'static str,
        labels: Vec<(&'static str, String)>,
        value: f64,
    ) {
        self.points.push(Point {
            suffix,
            labels,
            value,
        });
    }

    /// Adds a histogram: how many values are at most as high as each bound, their sum, and how many
    /// there are.
    pub(super) fn add_histogram(
        &mut self,
        labels: &[(&'static str, String)],
        buckets: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        for (bound, at_most) in buckets {
            let mut labels = labels.to_vec();
            labels.push(("le", bound.to_string()));
            self.add("_bucket", labels, at_most as f64);
        }
        let mut infinite = labels.to_vec();
        infinite.push(("le", "+Inf".to_owned()));
        self.add("_bucket", infinite, count as f64);
        self.add("_sum", labels.to_vec(), sum);
        self.add("_count", labels.to_vec(), count as f64);
    }
}

impl Signal {
    const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    fn index(self) -> usize {
        match self {
            Self::Metrics => 0,
            Self::Logs => 1,
            Self::Traces => 2,
        }
    }

    /// The word that labels use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }
}

impl Registry {
    /// Counts a served request.
    pub fn request(&self, path: &str, method: &str, status: u16, took: Duration) {
        let mut route = Route {
            path: path.to_owned(),
            method: method.to_owned(),
            status,
        };
        let mut requests = self.requests.lock();
        if requests.len() >= ROUTES_MAX && !requests.contains_key(&route) {
            route = Route {
                path: "other".to_owned(),
                method: "other".to_owned(),
                status: 0,
            };
        }
        let durations = requests.entry(route).or_default();
        durations.count += 1;
        durations.seconds += took.as_secs_f64();
        for (bucket, bound) in durations.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(took.as_secs_f64() <= bound);
        }
    }

    /// Counts what a write request brought.
    pub fn written(&self, signal: Signal, stored: u64, rejected: u64) {
        add(&self.stored, signal, stored);
        add(&self.rejected, signal, rejected);
    }

    /// Counts observations of the server itself that there was no room for.
    pub fn dropped(&self, signal: Signal, count: u64) {
        add(&self.dropped, signal, count);
    }

    /// All figures at this moment.
    pub fn gather(&self, tenants: &Tenants, uptime: Duration) -> Vec<Family> {
        let mut families = vec![
            Family::new("up", "gauge", "Whether the server runs.").with(Vec::new(), 1.0),
            Family::new("trine_build_info", "gauge", "The version that runs.")
                .with(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0),
            Family::new(
                "trine_uptime_seconds",
                "gauge",
                "Seconds since the server started.",
            )
            .with(Vec::new(), uptime.as_secs_f64()),
        ];
        families.extend(self.of_requests());
        families.push(per_signal(
            Family::new(
                "trine_stored_total",
                "counter",
                "Samples, log entries and spans that were stored for senders.",
            ),
            &self.stored,
        ));
        families.push(per_signal(
            Family::new(
                "trine_rejected_total",
                "counter",
                "Samples, log entries and spans that were refused, the sender was told why.",
            ),
            &self.rejected,
        ));
        families.push(per_signal(
            Family::new(
                "trine_self_dropped_total",
                "counter",
                "Observations of the server itself that there was no room for.",
            ),
            &self.dropped,
        ));
        families.extend(of_engines(tenants));
        families.extend(generators::families(tenants));
        families.extend(of_process());
        families
    }

    fn of_requests(&self) -> [Family; 2] {
        let mut total = Family::new("trine_http_requests_total", "counter", "Served requests.");
        let mut durations = Family::new(
            "trine_http_request_duration_seconds",
            "histogram",
            "How long requests took, from their headers to the first byte of the answer.",
        );
        for (route, figures) in &*self.requests.lock() {
            let labels = vec![
                ("method", route.method.clone()),
                ("route", route.path.clone()),
                ("status", route.status.to_string()),
            ];
            total.add("", labels.clone(), figures.count as f64);
            durations.add_histogram(
                &labels,
                BOUNDS.into_iter().zip(figures.buckets),
                figures.seconds,
                figures.count,
            );
        }
        [total, durations]
    }
}

fn add(counters: &[AtomicU64; 3], signal: Signal, count: u64) {
    if let Some(counter) = counters.get(signal.index()) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

fn per_signal(mut family: Family, counters: &[AtomicU64; 3]) -> Family {
    for (signal, counter) in Signal::ALL.into_iter().zip(counters) {
        let labels = vec![("signal", signal.name().to_owned())];
        family.add("", labels, counter.load(Ordering::Relaxed) as f64);
    }
    family
}

/// Memory and blocks of every engine that is open.
fn of_engines(tenants: &Tenants) -> [Family; 4] {
    let mut memory = Family::new(
        "trine_memory_bytes",
        "gauge",
        "Memory of an engine's open data.",
    );
    let mut rows = Family::new(
        "trine_memory_rows",
        "gauge",
        "Samples, log entries and spans in an engine's memory.",
    );
    let mut blocks = Family::new("trine_blocks", "gauge", "Blocks of an engine.");
    let mut bytes = Family::new("trine_block_bytes", "gauge", "Bytes in an engine's blocks.");
    let mut engine = |id: &str, signal: Signal, figures: [u64; 4]| {
        let labels = vec![
            ("signal", signal.name().to_owned()),
            ("tenant", id.to_owned()),
        ];
        for (family, value) in [&mut memory, &mut rows, &mut blocks, &mut bytes]
            .into_iter()
            .zip(figures)
        {
            family.add("", labels.clone(), value as f64);
        }
    };
    for (id, tenant) in tenants.all() {
        if let Some(stats) = tenant.open_metrics().map(|engine| engine.stats()) {
            let figures = [
                stats.head_bytes,
                stats.head_samples,
                stats.blocks,
                stats.block_bytes,
            ];
            engine(id.as_str(), Signal::Metrics, figures);
        }
        if let Some(stats) = tenant.open_logs().map(|engine| engine.stats()) {
            let figures = [
                stats.buffer_bytes,
                stats.buffer_rows,
                stats.blocks,
                stats.block_bytes,
            ];
            engine(id.as_str(), Signal::Logs, figures);
        }
        if let Some(stats) = tenant.open_traces().map(|engine| engine.stats()) {
            let figures = [
                stats.live_bytes,
                stats.live_spans,
                stats.blocks,
                stats.block_bytes,
            ];
            engine(id.as_str(), Signal::Traces, figures);
        }
    }
    [memory, rows, blocks, bytes]
}

/// What the operating system says of the process; nothing where it says nothing.
fn of_process() -> Vec<Family> {
    const PAGE_BYTES: f64 = 4096.0;
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else {
        return Vec::new();
    };
    let Some(pages) = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok())
    else {
        return Vec::new();
    };
    vec![
        Family::new("process_resident_memory_bytes", "gauge", "Resident memory.")
            .with(Vec::new(), pages * PAGE_BYTES),
    ]
}

/// The families in Prometheus' text format.
pub fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.points.is_empty()) {
        let Family {
            name,
            help,
            kind,
            points,
        } = family;
        // Writing to a String cannot fail.
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
        for point in points {
            write!(out, "{name}{}", point.suffix).ok();
            for (i, (label, value)) in point.labels.iter().enumerate() {
                let open = if i == 0 { '{' } else { ',' };
                let value = value
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n");
                write!(out, "{open}{label}=\"{value}\"").ok();
            }
            let close = if point.labels.is_empty() { "" } else { "}" };
            writeln!(out, "{close} {}", point.value).ok();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Family, ROUTES_MAX, Registry, text};

    #[test]
    fn the_text_format() {
        let family = Family::new("a_total", "counter", "A.")
            .with(Vec::new(), 1.0)
            .with(
                vec![("l", "x\"\\\n".to_owned()), ("m", "y".to_owned())],
                0.5,
            );
        let empty = Family::new("b", "gauge", "B.");
        assert_eq!(
            text(&[family, empty]),
            "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n\
             a_total{l=\"x\\\"\\\\\\n\",m=\"y\"} 0.5\n"
        );
    }

    #[test]
    fn requests_are_counted_by_route_without_end() {
        let registry = Registry::default();
        for i in 0..ROUTES_MAX + 10 {
            registry.request(&i.to_string(), "GET", 200, Duration::from_millis(20));
        }
        let [total, durations] = registry.of_requests();
        assert_eq!(total.points.len(), ROUTES_MAX + 1);
        let sum: f64 = total.points.iter().map(|point| point.value).sum();
        assert_eq!(sum, (ROUTES_MAX + 10) as f64);
        let buckets: Vec<f64> = durations
            .points
            .iter()
            .take(5)
            .map(|point| point.value)
            .collect();
        assert_eq!(
            buckets,
            [0.0, 0.0, 0.0, 1.0, 1.0],
            "20 ms are at most 25 ms"
        );
    }
}
