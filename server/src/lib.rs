//! The server of Trine: a translator and nothing more. It decodes what senders and Grafana send,
//! calls an engine, encodes the answer.
//!
//! It is not: a store (that is `trine-tsdb`, `trine-logstore`, `trine-tracestore`), a query
//! language (`trine-query`).
//!
//! In reading order: [`config`] is what it is told, [`server`] starts and stops it, [`listen`] and
//! [`routes`] bring requests in, [`app`] is what handlers share; [`tenants`], [`pool`], [`body`]
//! [`slots`], [`storage`] and [`params`] are what they use. [`ingest`] holds the write paths with [`proto`], [`api`]
//! the read paths, [`process`] what is learned on the way, [`observe`] what the server stores of itself.
//! [`commands`] copies all data from one place to another instead of serving it.

#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use trine_storage::clock::SystemClock;

pub mod api;
pub mod app;
pub mod banner;
pub mod body;
pub mod commands;
pub mod config;
pub mod ingest;
pub mod listen;
pub mod observe;
pub mod params;
pub mod pool;
pub mod process;
pub mod proto;
pub mod refusal;
pub mod routes;
pub mod server;
pub mod slots;
pub mod storage;
pub mod tenants;

pub use config::Config;
pub use server::Server;

use observe::log_lines::{LogLayer, LogLines};

/// Stack of each thread: parsers and evaluators of queries are recursive, to a bounded depth that
/// needs more than the usual two mebibytes in a debug build.
const STACK_BYTES: usize = 8 << 20;

/// How long work of requests that were cut off is waited for at the end.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(1);

/// Serves until the process is told to stop (SIGTERM or SIGINT).
///
/// # Errors
/// A sentence that says what is in the way.
pub fn run(config: Config) -> Result<(), String> {
    let lines = LogLines::default();
    let filter: Targets = config
        .log_level
        .parse()
        .map_err(|error| format!("log-level: {error}"))?;
    let colours = std::io::stderr().is_terminal();
    let layer = LogLayer::new(lines.clone(), Arc::new(SystemClock::new()));
    tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .with_ansi(colours)
                .with_writer(std::io::stderr),
        )
        .with(config.self_observe.then(|| layer.boxed()))
        .with(filter)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let served = runtime.block_on(async {
        let data_dir = config.data_dir.clone();
        let server = Server::start(config, lines).await?;
        for warning in server.warnings() {
            tracing::warn!("{warning}");
        }
        let role = server.app().tenants.storage().map(|storage| storage.role());
        let banner = banner::banner(server.addresses(), &data_dir, role.as_deref());
        println!("{banner}");
        asked_to_stop(server.app().quit.subscribe()).await?;
        tracing::info!("stopping");
        server.stop().await
    });
    // The engines are closed. What still runs waits for something that does not come.
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    served
}

async fn asked_to_stop(mut quit: watch::Receiver<bool>) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = quit.changed() => {}
    }
    Ok(())
}
