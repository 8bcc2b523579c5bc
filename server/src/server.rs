//! One running server: engines, listeners, self-observation; started and stopped as one. `lib`
//! runs it for the binary, tests start it in their own process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use trine_storage::clock::{Clock, SystemClock};
use trine_storage::fs::{self, Fs, RealFs};
use trine_storage::remote::unfinished;
use trine_storage::shared::{self, Shared};

use crate::app::App;
use crate::config::Config;
use crate::listen;
use crate::observe::log_lines::LogLines;
use crate::observe::{self, Observer};
use crate::process::rounds;
use crate::routes;
use crate::storage::{self, Storage};
use crate::tenants::{Tenants, revival};

/// How long a stop waits for a bucket that does not answer.
const BUCKET_PATIENCE: Duration = Duration::from_secs(10);

/// Threads that seal and expire for all engines.
const WORKERS: usize = 2;

/// A server that serves. [`Server::stop`] ends it in order; dropping it ends it at once, and
/// what was acknowledged is there at the next start all the same.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    addresses: Vec<SocketAddr>,
    warnings: Vec<String>,
    stop: watch::Sender<bool>,
    stop_observer: watch::Sender<bool>,
    stop_rounds: watch::Sender<bool>,
    listeners: JoinSet<()>,
    observer: Option<JoinHandle<()>>,
    rounds: JoinHandle<()>,
    storage: JoinHandle<()>,
    revival: JoinHandle<()>,
}

impl Server {
    /// Opens the data directory and the bucket behind it, binds the listeners and starts to serve.
    /// `lines` is where the server's own log lines come from.
    ///
    /// # Errors
    /// A sentence that says what is in the way.
    pub async fn start(config: Config, lines: LogLines) -> Result<Self, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (started, started_ns) = (clock.monotonic_ns(), clock.now_ns());
        let bound = listen::bind(&config.listen).await?;
        let addresses: Vec<SocketAddr> = bound
            .sockets
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect();
        let instance = addresses
            .first()
            .map_or_else(String::new, ToString::to_string);

        let tenants = open(&config, &clock).await?;
        let observer = Observer::new(lines, instance, started);
        let self_observe = config.self_observe;
        let app = Arc::new(App::new(config, clock, tenants, observer));

        let (stop, stopped) = watch::channel(false);
        let (stop_observer, observer_stopped) = watch::channel(false);
        let (stop_rounds, rounds_stopped) = watch::channel(false);
        let rounds = tokio::spawn(rounds::run(Arc::clone(&app), rounds_stopped));
        let storage = tokio::spawn(storage::watch(Arc::clone(&app), stopped.clone()));
        let revival = tokio::spawn(revival::watch(Arc::clone(&app), stopped.clone()));
        let mut observer = None;
        if self_observe {
            let message = format!(
                "trine {} started on {} listeners",
                env!("CARGO_PKG_VERSION"),
                addresses.len()
            );
            if app.tenants.may_write().is_ok() {
                observe::begin(&app, started_ns, message)
                    .await
                    .map_err(|refusal| refusal.text)?;
            }
            observer = Some(tokio::spawn(observe::run(
                Arc::clone(&app),
                observer_stopped,
            )));
        }
        let router = routes::router(Arc::clone(&app));
        let mut listeners = JoinSet::new();
        for socket in bound.sockets {
            listeners.spawn(listen::serve(socket, router.clone(), stopped.clone()));
        }
        Ok(Self {
            app,
            addresses,
            warnings: bound.warnings,
            stop,
            stop_observer,
            stop_rounds,
            listeners,
            observer,
            rounds,
            storage,
            revival,
        })
    }

    /// The addresses that are listened on, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A sentence for each default port that was left out.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the server shares with its handlers.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Stops accepting, waits for the requests in progress as long as the configuration says,
    /// stores the last observations and closes the engines.
    ///
    /// # Errors
    /// What the engines say when they close.
    pub async fn stop(mut self) -> Result<(), String> {
        self.stop.send_replace(true);
        let patience = self.app.config.shutdown_timeout;
        let drain = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, drain).await.is_err() {
            tracing::warn!("some requests did not end in time and are cut off");
            self.listeners.abort_all();
        }
        self.stop_observer.send_replace(true);
        if let Some(observer) = self.observer.take() {
            tokio::time::timeout(Duration::from_secs(5), observer)
                .await
                .ok();
        }
        // After the last spans of the server itself, so that they count, too.
        self.stop_rounds.send_replace(true);
        tokio::time::timeout(Duration::from_secs(5), self.rounds)
            .await
            .ok();
        for watching in [self.storage, self.revival] {
            tokio::time::timeout(Duration::from_secs(5), watching)
                .await
                .ok();
        }
        let app = Arc::clone(&self.app);
        let patience = self.app.tenants.storage().cloned().map(|storage| {
            tokio::spawn(async move {
                tokio::time::sleep(BUCKET_PATIENCE).await;
                storage.give_up();
            })
        });
        let closed = tokio::task::spawn_blocking(move || {
            let closed = app.tenants.close();
            if let Some(Err(error)) = app.tenants.storage().map(|storage| storage.close()) {
                tracing::warn!(%error, "the bucket was not given back; the next server waits a minute");
            }
            closed
        });
        let closed = closed.await;
        if let Some(patience) = patience {
            patience.abort();
        }
        match closed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("a defect stopped the closing of the engines".to_owned()),
        }
    }
}

/// Locks the data directory, opens the bucket behind it, and finds the tenants of both.
async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Tenants, String> {
    let (config, clock, handle) = (config.clone(), Arc::clone(clock), Handle::current());
    let opened = tokio::task::spawn_blocking(move || {
        let real: Arc<dyn Fs> = Arc::new(RealFs);
        let lock = fs::claim(&*real, &config.data_dir)?;
        unfinished(&*real, &config.data_dir)?.map_or(Ok(()), Err)?;
        let storage = Storage::open(&config, &real, &clock, &handle)?;
        let memory = config.memory_budget_bytes as u64;
        let cache = config.storage.memory_bytes() as u64;
        let shared = Shared::new(&shared::Config {
            workers: WORKERS,
            // A quarter is for request bodies (`App::new`).
            memory_bytes_max: (memory - memory / 4).saturating_sub(cache),
            ..shared::Config::default()
        });
        Tenants::open(&config, real, clock, shared, lock, storage)
    });
    match opened.await {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(_) => Err("a defect stopped the opening of the data; see the log".to_owned()),
    }
}
