//! Engines that can write no more, mostly because the disk was full: they are closed and opened again
//! as soon as there is room, as a restart would do it. `server` runs [`watch`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use trine_storage::Error;
use trine_storage::fs::Fs;

use super::{Tenant, Tenants};
use crate::app::App;

/// How often it is looked for such engines, and so the least time between two times that one is opened.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// As much has to fit on the disk before an engine is opened again.
const ROOM_BYTES: usize = 4 << 20;

/// Looks after the engines until `stop` changes.
pub async fn watch(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            _ = stop.changed() => return,
        }
        let app = Arc::clone(&app);
        let done = tokio::task::spawn_blocking(move || app.tenants.revive());
        // A panic was told by its hook; the next time may go well.
        done.await.ok();
    }
}

impl Tenants {
    /// Opens engines again that can write no more, if the disk takes writes now; has local copies of
    /// shipped blocks removed if it does not. Blocks.
    pub fn revive(&self) {
        let tenants = self.all();
        let mut poisoned = tenants.iter().filter(|(_, tenant)| tenant.is_poisoned());
        let Some(first) = poisoned.next() else {
            return;
        };
        if check_room(&*self.parts.fs, &self.root).is_err() {
            if let Some(storage) = self.storage() {
                storage.depots().make_room();
            }
            return;
        }
        for (id, tenant) in std::iter::once(first).chain(poisoned) {
            for (signal, revived) in tenant.revive() {
                match revived {
                    Ok(false) => {}
                    Ok(true) => tracing::warn!(
                        "the {signal} of tenant {id} could not be written any more, as a write had failed; the disk takes writes now, and they were opened again"
                    ),
                    Err(error) => tracing::warn!(
                        "the {signal} of tenant {id} could not be written any more, and cannot be opened again: {error}"
                    ),
                }
            }
        }
    }
}

impl Tenant {
    fn is_poisoned(&self) -> bool {
        self.metrics.is_poisoned() || self.logs.is_poisoned() || self.traces.is_poisoned()
    }

    fn revive(&self) -> [(&'static str, Result<bool, Error>); 3] {
        // Series have other references in the new engine.
        let forget = || {
            self.known_series.forget();
            self.generator.forget_references();
        };
        [
            (
                "metrics",
                self.metrics.revive(forget, || self.begin_metrics()),
            ),
            ("logs", self.logs.revive(|| {}, || self.begin_logs())),
            ("traces", self.traces.revive(|| {}, || self.begin_traces())),
        ]
    }
}

/// Whether the disk of the directory takes some writes.
fn check_room(fs: &dyn Fs, root: &Path) -> std::io::Result<()> {
    let path = root.with_file_name("room.tmp");
    let write = || {
        let mut file = fs.create(&path)?;
        file.write_all(&vec![0; ROOM_BYTES])?;
        file.sync()
    };
    let written = write();
    fs.remove_file(&path).and(written)
}
