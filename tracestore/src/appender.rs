//! Batches: put together, handed over, acknowledged.

use std::ops::RangeInclusive;
use std::sync::Arc;

use trine_storage::Result;
use trine_storage::wal::Durability;

use crate::columns::{hex, start_of};
use crate::db::Inner;
use crate::model::{KeyValue, Resource, Scope, Span, is_too_deep};
use crate::stats::{Accepted, Reason};
use crate::wal_record::Batch;

/// A batch of spans that is being put together. Dropping it stores nothing.
#[derive(Debug)]
pub struct Appender {
    inner: Arc<Inner>,
    /// The first and the last start that are taken, nanoseconds since 1970. What is refused never
    /// reaches the log, so that a replay cannot bring it back.
    bounds: RangeInclusive<i64>,
    batch: Batch,
    accepted: Accepted,
}

impl Appender {
    pub(crate) fn new(inner: Arc<Inner>, bounds: RangeInclusive<i64>) -> Self {
        Self {
            inner,
            bounds,
            batch: Batch::default(),
            accepted: Accepted::default(),
        }
    }

    /// Adds a span. Spans of one resource and scope that come one after the other are cheaper.
    /// What is refused is told by [`Commit::wait`].
    pub fn append(&mut self, resource: &Arc<Resource>, scope: &Arc<Scope>, span: Span) {
        if let Some(reason) = self.judge(resource, scope, &span) {
            self.reject(reason, &span);
            return;
        }
        self.batch.push(resource, scope, span);
        self.accepted.stored += 1;
        if self.batch.last_bytes() > self.inner.config.span_bytes_max
            && let Some(span) = self.batch.pop()
        {
            self.accepted.stored -= 1;
            self.reject(Reason::TooLarge, &span);
        }
    }

    fn reject(&mut self, reason: Reason, span: &Span) {
        self.accepted.reject(reason, || {
            let name: String = span.name.chars().take(80).collect();
            format!(
                "trace={} span={} name={name:?}",
                hex(&span.trace_id),
                hex(&span.span_id)
            )
        });
    }

    /// Why a span cannot be stored, if it cannot.
    fn judge(&self, resource: &Resource, scope: &Scope, span: &Span) -> Option<Reason> {
        let start = start_of(span);
        let deep = |attributes: &[KeyValue]| attributes.iter().any(|a| is_too_deep(&a.value, 0));
        if span.trace_id == [0; 16] {
            Some(Reason::TraceId)
        } else if span.span_id == [0; 8] {
            Some(Reason::SpanId)
        } else if start < *self.bounds.start() {
            Some(Reason::TooOld)
        } else if start > *self.bounds.end() {
            Some(Reason::TooFarInFuture)
        } else if deep(&resource.attributes)
            || deep(&scope.attributes)
            || deep(&span.attributes)
            || span.events.iter().any(|event| deep(&event.attributes))
            || span.links.iter().any(|link| deep(&link.attributes))
        {
            Some(Reason::TooDeep)
        } else {
            None
        }
    }

    /// Hands the batch to log and memory. It shows in snapshots from now on, and is acknowledged
    /// when [`Commit::wait`] answers.
    ///
    /// # Errors
    /// [`Kind::Limit`](trine_storage::Kind::Limit) when the memory budget is used up,
    /// [`Kind::Poisoned`](trine_storage::Kind::Poisoned) after a failed write,
    /// [`Kind::Closed`](trine_storage::Kind::Closed). Nothing was stored.
    pub fn commit(self, durability: Durability) -> Result<Commit> {
        let position = self.inner.append(&self.batch)?;
        Ok(Commit {
            inner: self.inner,
            position,
            durability,
            accepted: self.accepted,
        })
    }
}

/// A batch that was handed over and is not acknowledged yet.
#[derive(Debug)]
#[must_use = "nothing is acknowledged before `wait`"]
pub struct Commit {
    inner: Arc<Inner>,
    position: Option<u64>,
    durability: Durability,
    accepted: Accepted,
}

impl Commit {
    /// Waits until the batch is as durable as was asked for.
    ///
    /// # Errors
    /// [`Kind::Io`](trine_storage::Kind::Io) and [`Kind::Poisoned`](trine_storage::Kind::Poisoned):
    /// the log could not be written. The batch is not acknowledged and is gone after a restart, or,
    /// if the write went through after all, is there.
    pub fn wait(self) -> Result<Accepted> {
        if let Some(position) = self.position {
            self.inner.wait(position, self.durability)?;
        }
        Ok(self.accepted)
    }
}
