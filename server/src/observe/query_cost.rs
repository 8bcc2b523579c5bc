//! What queries cost of the bucket: counted by request, told in a header of its answer, in attributes
//! of its span and as histograms by API. `routes` puts [`meter`] around handlers where there is a
//! bucket; pools of queries count for the request that they work for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use trine_storage::cost::{Cost, Counting, Spent};

use super::registry::Family;
use crate::app::App;

/// Says what a query cost of the bucket until its answer began.
const HEADER: HeaderName = HeaderName::from_static("x-trine-storage");

/// Upper bounds of the histogram of requests.
const REQUESTS: &[f64] = &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0];

/// Upper bounds of the histogram of bytes.
const BYTES: &[f64] = &[
    0.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
];

/// Upper bounds of the histograms of pages.
const PAGES: &[f64] = &[0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0];

/// One figure of queries.
struct Told {
    name: &'static str,
    help: &'static str,
    bounds: &'static [f64],
    of: fn(&Spent) -> u64,
}

/// What is told of queries.
const TOLD: [Told; 5] = [
    Told {
        name: "trine_storage_query_requests",
        help: "Requests to the bucket that a query needed.",
        bounds: REQUESTS,
        of: |spent| spent.requests,
    },
    Told {
        name: "trine_storage_query_bytes",
        help: "Bytes that a query fetched from the bucket.",
        bounds: BYTES,
        of: |spent| spent.bytes,
    },
    Told {
        name: "trine_storage_query_memory_hits",
        help: "Pages of files in the bucket that a query found in memory.",
        bounds: PAGES,
        of: |spent| spent.memory_hits,
    },
    Told {
        name: "trine_storage_query_disk_hits",
        help: "Pages of files in the bucket that a query found on the local disk.",
        bounds: PAGES,
        of: |spent| spent.disk_hits,
    },
    Told {
        name: "trine_storage_query_misses",
        help: "Pages of files in the bucket that a query had to fetch or to wait for.",
        bounds: PAGES,
        of: |spent| spent.misses,
    },
];

tokio::task_local! {
    /// What the request is counted in that the task handles.
    static CURRENT: Arc<Query>;
}

/// Histograms by API.
#[derive(Debug, Default)]
pub struct QueryCosts(Mutex<BTreeMap<&'static str, Figures>>);

#[derive(Debug, Default)]
struct Figures {
    queries: u64,
    /// One for each of [`TOLD`].
    sums: [Sum; TOLD.len()],
}

#[derive(Debug, Default)]
struct Sum {
    sum: f64,
    /// One for each bound; empty before the first query.
    buckets: Vec<u64>,
}

impl QueryCosts {
    fn count(&self, api: &'static str, spent: &Spent) {
        let mut all = self.0.lock();
        let figures = all.entry(api).or_default();
        figures.queries += 1;
        for (told, sum) in TOLD.iter().zip(&mut figures.sums) {
            let value = (told.of)(spent) as f64;
            sum.sum += value;
            sum.buckets.resize(told.bounds.len(), 0);
            for (bucket, bound) in sum.buckets.iter_mut().zip(told.bounds) {
                *bucket += u64::from(value <= *bound);
            }
        }
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let all = self.0.lock();
        let family = |(number, told): (usize, &Told)| {
            let mut family = Family::new(told.name, "histogram", told.help);
            for (api, figures) in &*all {
                let labels = vec![("api", (*api).to_owned())];
                if let Some(Sum { sum, buckets }) = figures.sums.get(number) {
                    let bounds = told.bounds.iter().copied();
                    let buckets = bounds.zip(buckets.iter().copied());
                    family.add_histogram(&labels, buckets, *sum, figures.queries);
                }
            }
            family
        };
        TOLD.iter().enumerate().map(family).collect()
    }
}

/// One request that may be a query. What it cost is in the histograms when the last that works for it
/// is done, unless no pool of queries ever worked for it.
#[derive(Debug)]
pub struct Query {
    api: &'static str,
    cost: Arc<Cost>,
    is_query: AtomicBool,
    app: Arc<App>,
}

impl Query {
    /// That of the request which this task handles, where there is a bucket.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Counts what this thread reads until the guard is dropped.
    pub fn enter(&self) -> Counting {
        self.is_query.store(true, Ordering::Relaxed);
        self.cost.enter()
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        if self.is_query.load(Ordering::Relaxed) {
            let costs = &self.app.observer.query_costs;
            costs.count(self.api, &self.cost.now());
        }
    }
}

/// What [`meter`] has to know.
#[derive(Debug, Clone)]
pub struct Meter {
    app: Arc<App>,
    /// The APIs of the paths, as they are without a prefix.
    apis: Arc<HashMap<String, &'static str>>,
}

impl Meter {
    /// Meters the requests of a server; `apis` says which path is of which API.
    pub fn new(app: &Arc<App>, apis: HashMap<String, &'static str>) -> Self {
        Self {
            app: Arc::clone(app),
            apis: Arc::new(apis),
        }
    }

    fn api(&self, request: &Request) -> &'static str {
        let Some(path) = request.extensions().get::<MatchedPath>() else {
            return "other";
        };
        let path = path.as_str();
        let prefix = self.app.config.http_prefix.as_deref().unwrap_or("");
        let path = path.strip_prefix(prefix).unwrap_or(path);
        self.apis.get(path).copied().unwrap_or("other")
    }
}

/// Counts what a request costs of the bucket, and tells it in a header if it was a query.
pub async fn meter(State(meter): State<Meter>, request: Request, next: Next) -> Response {
    let query = Arc::new(Query {
        api: meter.api(&request),
        cost: Arc::new(Cost::default()),
        is_query: AtomicBool::new(false),
        app: meter.app,
    });
    let mut response = CURRENT.scope(Arc::clone(&query), next.run(request)).await;
    if query.is_query.load(Ordering::Relaxed) {
        let spent = query.cost.now();
        // It is ASCII.
        if let Ok(value) = HeaderValue::from_str(&told(&spent)) {
            response.headers_mut().insert(HEADER, value);
        }
        // For the span.
        response.extensions_mut().insert(spent);
    }
    response
}

fn told(spent: &Spent) -> String {
    let Spent {
        requests,
        bytes,
        depth,
        ..
    } = spent;
    let hits = hits(spent);
    format!("requests={requests} bytes={bytes} depth={depth} hits={hits}")
}

/// Pages that were in memory or on the disk.
pub(super) fn hits(spent: &Spent) -> u64 {
    spent.memory_hits + spent.disk_hits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::registry::text;

    #[test]
    fn queries_are_told_by_api() {
        let costs = QueryCosts::default();
        assert!(text(&costs.families()).is_empty());
        let spent = Spent {
            requests: 3,
            bytes: 70_000,
            depth: 2,
            memory_hits: 4,
            disk_hits: 5,
            misses: 17,
            ..Spent::default()
        };
        costs.count("tempo", &spent);
        costs.count("tempo", &Spent::default());
        let told = text(&costs.families());
        for line in [
            "trine_storage_query_requests_bucket{api=\"tempo\",le=\"0\"} 1\n",
            "trine_storage_query_requests_bucket{api=\"tempo\",le=\"2\"} 1\n",
            "trine_storage_query_requests_bucket{api=\"tempo\",le=\"4\"} 2\n",
            "trine_storage_query_requests_sum{api=\"tempo\"} 3\n",
            "trine_storage_query_bytes_bucket{api=\"tempo\",le=\"65536\"} 1\n",
            "trine_storage_query_bytes_bucket{api=\"tempo\",le=\"+Inf\"} 2\n",
            "trine_storage_query_bytes_count{api=\"tempo\"} 2\n",
            "trine_storage_query_memory_hits_bucket{api=\"tempo\",le=\"1\"} 1\n",
            "trine_storage_query_memory_hits_bucket{api=\"tempo\",le=\"4\"} 2\n",
            "trine_storage_query_disk_hits_sum{api=\"tempo\"} 5\n",
            "trine_storage_query_misses_bucket{api=\"tempo\",le=\"16\"} 1\n",
            "trine_storage_query_misses_bucket{api=\"tempo\",le=\"64\"} 2\n",
        ] {
            assert!(told.contains(line), "{line}: {told}");
        }
        assert_eq!(super::told(&spent), "requests=3 bytes=70000 depth=2 hits=9");
    }
}
