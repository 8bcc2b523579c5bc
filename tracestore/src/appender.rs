//! Batches: put together, handed over, acknowledged.

use std::sync::Arc;

use bytes::Bytes;
use trine_storage::Result;
use trine_storage::wal::Durability;

use crate::db::Handle;
use crate::model::{Resource, Scope, Span};
use crate::otlp::{Bounds, Writer};
use crate::stats::Accepted;
use crate::stored::StoredSpans;

/// A batch of spans that is being put together. Dropping it stores nothing.
#[derive(Debug)]
pub struct Appender {
    inner: Arc<Handle>,
    bounds: Bounds,
    requests: Vec<Bytes>,
    /// The spans that came after the last request.
    writer: Writer,
}

impl Appender {
    pub(crate) fn new(inner: Arc<Handle>, bounds: Bounds) -> Self {
        Self {
            inner,
            bounds,
            requests: Vec::new(),
            writer: Writer::default(),
        }
    }

    /// Adds a span. Spans of one resource and scope that come one after the other are cheaper.
    /// What is refused is told by [`Commit::wait`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a batch takes its spans; how it keeps them is its own matter"
    )]
    pub fn append(&mut self, resource: &Arc<Resource>, scope: &Arc<Scope>, span: Span) {
        self.writer.push(resource, scope, &span);
    }

    /// Adds the spans of an `ExportTraceServiceRequest` of OTLP in protobuf. Whether it is one is
    /// told by [`Appender::commit`], what is refused of it by [`Commit::wait`].
    pub fn append_otlp(&mut self, request: Bytes) {
        self.close();
        self.requests.push(request);
    }

    /// Makes the spans of the writer a request.
    fn close(&mut self) {
        let request = std::mem::take(&mut self.writer).finish();
        if !request.is_empty() {
            self.requests.push(request.into());
        }
    }

    /// Hands the batch to log and memory. It shows in snapshots from now on, and is acknowledged
    /// when [`Commit::wait`] answers.
    ///
    /// # Errors
    /// [`Kind::Invalid`](trine_storage::Kind::Invalid) when a request is malformed,
    /// [`Kind::Limit`](trine_storage::Kind::Limit) when the batch is larger than a record of the
    /// log may be or the memory budget is used up,
    /// [`Kind::Poisoned`](trine_storage::Kind::Poisoned) after a failed write,
    /// [`Kind::Closed`](trine_storage::Kind::Closed). Nothing was stored.
    pub fn commit(mut self, durability: Durability) -> Result<Commit> {
        self.close();
        // Requests one after the other are a request: so protobuf merges messages.
        let request = match self.requests.as_slice() {
            [request] => request.clone(),
            requests => requests.concat().into(),
        };
        let (position, accepted) = self.inner.append(&request, &self.bounds)?;
        let refused_by = (!accepted.rejected.is_empty()).then_some(self.bounds);
        Ok(Commit {
            inner: self.inner,
            position,
            durability,
            accepted,
            spans: StoredSpans::new(request, refused_by),
        })
    }
}

/// A batch that was handed over and is not acknowledged yet.
#[derive(Debug)]
#[must_use = "nothing is acknowledged before `wait`"]
pub struct Commit {
    inner: Arc<Handle>,
    position: Option<u64>,
    durability: Durability,
    accepted: Accepted,
    spans: StoredSpans,
}

impl Commit {
    /// The spans of the batch that are stored once [`Commit::wait`] answers.
    pub fn spans(&self) -> StoredSpans {
        self.spans.clone()
    }

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
