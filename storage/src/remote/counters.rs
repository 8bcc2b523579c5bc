//! What is counted of the requests of a bucket, for operators. What one query costs is in
//! [`crate::cost`].

use std::sync::atomic::{AtomicU64, Ordering};

/// What kind of request it is, as stores bill them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reads an object, or ranges of it.
    Get,
    /// Asks for the length and time of an object.
    Head,
    /// Writes an object, a part of one, or begins or ends an upload in parts.
    Put,
    /// Lists objects. A page of a thousand counts once.
    List,
    /// Removes an object.
    Delete,
}

impl Verb {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 5] = [Self::Get, Self::Head, Self::Put, Self::List, Self::Delete];

    /// The word for it, as metrics and errors say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// What a bucket and all buckets within it did since they were opened.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [AtomicU64; Verb::ALL.len()],
    errors: [AtomicU64; Verb::ALL.len()],
    retries: AtomicU64,
    throttled: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests that were sent, repeated ones too, in the order of [`Verb::ALL`].
    pub requests: [u64; Verb::ALL.len()],
    /// Requests that failed, in the same order. An object that is missing or exists already is an
    /// answer, not a failure.
    pub errors: [u64; Verb::ALL.len()],
    /// Requests that were sent again.
    pub retries: u64,
    /// Requests that the store refused because there were too many.
    pub throttled: u64,
    /// Bytes of objects that came.
    pub bytes_in: u64,
    /// Bytes of objects that were sent.
    pub bytes_out: u64,
}

impl Counters {
    pub(crate) fn request(&self, verb: Verb, count: u64) {
        add(&self.requests, verb, count);
    }

    pub(crate) fn error(&self, verb: Verb) {
        add(&self.errors, verb, 1);
    }

    pub(crate) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn throttle(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn came(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What they say now.
    pub fn now(&self) -> Counted {
        let all = |of: &[AtomicU64; Verb::ALL.len()]| {
            std::array::from_fn(|i| of.get(i).map_or(0, |n| n.load(Ordering::Relaxed)))
        };
        Counted {
            requests: all(&self.requests),
            errors: all(&self.errors),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

impl Counted {
    /// Requests of one kind.
    pub fn of(&self, verb: Verb) -> u64 {
        self.requests.get(verb as usize).copied().unwrap_or(0)
    }

    /// Requests of all kinds.
    pub fn all(&self) -> u64 {
        self.requests.iter().sum()
    }
}

fn add(of: &[AtomicU64; Verb::ALL.len()], verb: Verb, count: u64) {
    if let Some(counter) = of.get(verb as usize) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_their_kind() {
        let counters = Counters::default();
        for (i, verb) in (0..).zip(Verb::ALL) {
            assert_eq!(verb as usize, i);
            counters.request(verb, i as u64 + 1);
        }
        let counted = counters.now();
        assert_eq!(counted.requests, [1, 2, 3, 4, 5]);
        assert_eq!((counted.of(Verb::List), counted.all()), (4, 15));
    }
}
