//! How far a copy is, in words.

use std::sync::Arc;

use trine_storage::clock::Clock;
use trine_storage::remote::Done;

use crate::config::Copying;

/// Tells how far a copy is.
#[derive(Debug)]
pub(super) struct Report {
    verb: &'static str,
    clock: Arc<dyn Clock>,
    began_ns: u64,
    /// When it was told last, and how many bytes were done then.
    last: (u64, u64),
}

impl Report {
    pub(super) fn new(verb: &'static str, clock: &Arc<dyn Clock>) -> Self {
        let began_ns = clock.monotonic_ns();
        Self {
            verb,
            clock: Arc::clone(clock),
            began_ns,
            last: (began_ns, 0),
        }
    }

    /// A line for the moment.
    pub(super) fn line(&mut self, done: Done) -> String {
        let now = self.clock.monotonic_ns();
        let (since, bytes) = self.last;
        self.last = (now, done.bytes_done);
        let came = done.bytes_done.saturating_sub(bytes);
        format!(
            "{}: {} of {} stores; {} of {} blocks, {} of {}, {}/s; {} left and {} stores",
            self.verb,
            done.stores_done,
            done.stores,
            done.objects_done,
            done.objects,
            shown(done.bytes_done),
            shown(done.bytes),
            shown(rate(came, now.saturating_sub(since))),
            shown(done.bytes.saturating_sub(done.bytes_done)),
            done.stores.saturating_sub(done.stores_done),
        )
    }

    /// A line for the end.
    pub(super) fn summary(&self, done: Done, copying: &Copying) -> String {
        let took = self.clock.monotonic_ns().saturating_sub(self.began_ns);
        format!(
            "{}: {} stores are copied from {} to {}: {} blocks with {} in {} s ({}/s); {} blocks were there already",
            self.verb,
            done.stores_done,
            copying.from,
            copying.to,
            done.objects_done,
            shown(done.bytes_done),
            took / 1_000_000_000,
            shown(rate(done.bytes_done, took)),
            done.objects_kept,
        )
    }
}

/// Bytes a second.
fn rate(bytes: u64, nanoseconds: u64) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / u128::from(nanoseconds.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// A number of bytes with one digit after the point.
fn shown(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trine_storage::clock::ManualClock;

    use super::*;
    use crate::config::Place;

    #[test]
    fn lines_say_how_much_is_done_and_how_much_is_left() {
        let manual = Arc::new(ManualClock::new(0));
        let clock = Arc::clone(&manual) as Arc<dyn Clock>;
        let mut report = Report::new("backup", &clock);
        let mut done = Done {
            stores: 6,
            stores_done: 1,
            objects: 10,
            objects_done: 4,
            objects_kept: 7,
            bytes: 3 << 30,
            bytes_done: 5 << 20,
        };
        manual.advance(Duration::from_secs(2));
        assert_eq!(
            report.line(done),
            "backup: 1 of 6 stores; 4 of 10 blocks, 5.0 MiB of 3.0 GiB, 2.5 MiB/s; 2.9 GiB left and 5 stores"
        );
        done.bytes_done += 100;
        manual.advance(Duration::from_secs(1));
        assert!(report.line(done).contains(" 100 B/s; "));
        let copying = Copying {
            verb: "backup",
            from: Place::Bucket("s3://b/p".to_owned()),
            to: Place::Directory("new".into()),
            bandwidth_max: 0,
            at_once: 8,
        };
        assert_eq!(
            report.summary(done, &copying),
            "backup: 1 stores are copied from s3://b/p to new: 4 blocks with 5.0 MiB in 3 s (1.6 MiB/s); 7 blocks were there already"
        );
    }

    #[test]
    fn bytes_are_shown_in_their_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(shown(bytes), text);
        }
    }
}
