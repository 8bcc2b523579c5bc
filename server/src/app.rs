//! What every handler shares: configuration, tenants, pools, and what is observed.

use std::sync::Arc;

use tokio::sync::watch;
use trine_storage::clock::Clock;

use crate::body::Budget;
use crate::config::Config;
use crate::observe::Observer;
use crate::pool::Pool;
use crate::slots::Slots;
use crate::tenants::Tenants;

/// The state of one running server.
#[derive(Debug)]
pub struct App {
    /// What the server was told.
    pub config: Config,
    /// The clock of the server and its engines.
    pub clock: Arc<dyn Clock>,
    /// The tenants and their engines.
    pub tenants: Tenants,
    /// Runs writes.
    pub appends: Pool,
    /// Runs queries.
    pub queries: Pool,
    /// Runs remote reads.
    pub reads: Pool,
    /// Who follows logs.
    pub tails: Slots,
    /// Memory of request bodies.
    pub bodies: Budget,
    /// What the server observes of itself.
    pub observer: Observer,
    /// When it started, nanoseconds since 1970.
    pub started_ns: i64,
    /// Whether a client asked the server to end; whoever runs it waits for it.
    pub quit: watch::Sender<bool>,
}

impl App {
    /// The state of a server over `tenants`.
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        tenants: Tenants,
        observer: Observer,
    ) -> Self {
        Self {
            appends: Pool::new("write", config.appends_max, config.waiting_max),
            queries: Pool::new("query", config.queries_max, config.waiting_max).metered(),
            reads: Pool::new("read", config.remote_reads_max, config.waiting_max).metered(),
            // A quarter of the budget; the engines have the rest.
            bodies: Budget::new((config.memory_budget_bytes / 4).max(config.body_bytes_max)),
            tails: Slots::default(),
            config,
            started_ns: clock.now_ns(),
            clock,
            tenants,
            observer,
            quit: watch::Sender::new(false),
        }
    }
}
