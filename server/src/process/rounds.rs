//! The rounds in which the series of all tenants' spans are stored: every tenant's own, when its
//! interval is over, and once more at the end. `server` runs it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;

/// How often it is looked whether a round is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Stores series until `stop` changes, then once more.
pub async fn run(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => false,
            _ = stop.changed() => true,
        };
        let app = Arc::clone(&app);
        let done = tokio::task::spawn_blocking(move || round(&app, stopping));
        // A panic was told by its hook; the next round may go well.
        done.await.ok();
        if stopping {
            return;
        }
    }
}

/// Stores the series of the tenants whose round is due, or of all; none while this server takes no
/// writes.
pub fn round(app: &App, all: bool) {
    if app.tenants.may_write().is_err() {
        return;
    }
    for (id, tenant) in app.tenants.all() {
        let (generator, now_ms) = (tenant.generator(), app.clock.now_ms());
        if !generator.is_due(now_ms) && !all {
            continue;
        }
        if let Err(error) = generator.store(now_ms, || tenant.metrics()) {
            let id = id.as_str();
            tracing::warn!(%error, tenant = id, "cannot store the metrics of spans");
        }
    }
}
