//! How fast a tenant pushes logs, held against its limits per second: all of it and each stream.
//! `ingest::loki_push` and `ingest::otlp_logs` ask before entries are staged.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Streams whose rates are remembered at a time; those that may push all they want again are
/// forgotten first.
const STREAMS_MAX: usize = 100_000;

/// How long a stream counts after it was last pushed to, in nanoseconds.
const ACTIVE_NS: u64 = 3600 * 1_000_000_000;

/// The rates of one tenant.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    tenant: Option<Bucket>,
    streams: HashMap<u64, Bucket>,
    /// When each stream was last pushed to, kept only where their number is limited.
    active: HashMap<u64, u64>,
}

/// What may be pushed at once, and at what rate that comes again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Bytes per second; 0 for any number.
    pub bytes: usize,
    /// Bytes at once.
    pub burst: usize,
}

/// What is left of a burst.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at_ns: u64,
}

impl Bucket {
    fn take(&mut self, bytes: usize, rate: Rate, now_ns: u64) -> bool {
        let seconds = now_ns.saturating_sub(self.at_ns) as f64 / 1e9;
        self.left = (self.left + seconds * rate.bytes as f64).min(rate.burst as f64);
        self.at_ns = now_ns;
        let fits = self.left >= bytes as f64;
        if fits {
            self.left -= bytes as f64;
        }
        fits
    }

    fn is_full(&self, rate: Rate, now_ns: u64) -> bool {
        let seconds = now_ns.saturating_sub(self.at_ns) as f64 / 1e9;
        self.left + seconds * rate.bytes as f64 >= rate.burst as f64
    }
}

impl Rates {
    /// Whether the tenant may push so many bytes now, by the monotonic clock. If not, nothing is
    /// taken.
    pub fn take(&self, bytes: usize, rate: Rate, now_ns: u64) -> bool {
        if rate.bytes == 0 {
            return true;
        }
        let mut held = self.0.lock();
        held.tenant
            .get_or_insert(full(rate, now_ns))
            .take(bytes, rate, now_ns)
    }

    /// Whether the tenant, who may have `max` active streams (0 for any number), may push to this one.
    pub fn take_stream(&self, stream: u64, max: usize, now_ns: u64) -> bool {
        if max == 0 {
            return true;
        }
        let active = &mut self.0.lock().active;
        if active.len() >= max && !active.contains_key(&stream) {
            active.retain(|_, last| now_ns.saturating_sub(*last) < ACTIVE_NS);
            if active.len() >= max {
                return false;
            }
        }
        active.insert(stream, now_ns);
        true
    }

    /// As [`Rates::take`], of one stream.
    pub fn take_of(&self, stream: u64, bytes: usize, rate: Rate, now_ns: u64) -> bool {
        if rate.bytes == 0 {
            return true;
        }
        let mut held = self.0.lock();
        if held.streams.len() >= STREAMS_MAX && !held.streams.contains_key(&stream) {
            held.streams
                .retain(|_, bucket| !bucket.is_full(rate, now_ns));
            if held.streams.len() >= STREAMS_MAX {
                // So many streams at their limits are beyond what is told apart.
                held.streams.clear();
            }
        }
        let bucket = held.streams.entry(stream).or_insert(full(rate, now_ns));
        bucket.take(bytes, rate, now_ns)
    }
}

fn full(rate: Rate, now_ns: u64) -> Bucket {
    Bucket {
        left: rate.burst as f64,
        at_ns: now_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_comes_again_at_the_rate() {
        let rates = Rates::default();
        let rate = Rate {
            bytes: 10,
            burst: 20,
        };
        for (bytes, at, expect) in [
            (20, 0, true),
            (1, 0, false),
            (10, SECOND, true),
            (1, SECOND, false),
            (21, 100 * SECOND, false),
            (20, 100 * SECOND, true),
        ] {
            assert_eq!(rates.take(bytes, rate, at), expect, "{bytes} at {at}");
            assert_eq!(rates.take_of(7, bytes, rate, at), expect, "{bytes} at {at}");
        }
        assert!(rates.take_of(8, 20, rate, 100 * SECOND));
        let none = Rate { bytes: 0, burst: 0 };
        assert!(rates.take(usize::MAX, none, 0) && rates.take_of(7, usize::MAX, none, 0));
    }

    #[test]
    fn streams_are_active_for_an_hour() {
        let rates = Rates::default();
        for (stream, max, hours, expect) in [
            (1, 2, 0, true),
            (2, 2, 0, true),
            (3, 2, 0, false),
            (3, 0, 0, true),
            (2, 2, 1, true),
            (3, 2, 1, true),
            (1, 2, 1, false),
        ] {
            let got = rates.take_stream(stream, max, hours * ACTIVE_NS);
            assert_eq!(got, expect, "{stream} of {max} after {hours} h");
        }
    }

    #[test]
    fn streams_that_are_remembered_are_bounded() {
        let rates = Rates::default();
        let rate = Rate { bytes: 1, burst: 2 };
        for stream in 0..STREAMS_MAX as u64 + 10 {
            assert!(rates.take_of(stream, 2, rate, 0));
        }
        assert!(rates.0.lock().streams.len() <= STREAMS_MAX);
    }
}
