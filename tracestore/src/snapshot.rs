//! What is asked of a snapshot: traces by id, whole traces that satisfy a filter, counts, names and
//! values of attributes. `scan` answers.

use trine_storage::block_set::warm;
use trine_storage::{Result, TimeRange};

use crate::block::format;
use crate::model::{Trace, TraceId};
use crate::place::{Place, Snapshot};
use crate::request::{Batches, Filter, Request, Scope as AttributeScope, Value, ValuesRequest};
use crate::scan::{self, Piece, View};

impl Snapshot {
    /// The trace `id`: every span that is stored, each once and as it came, those below a span behind
    /// it; `None` when there is none.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) and [`Kind::Io`](trine_storage::Kind::Io)
    /// when a block cannot be read, [`Kind::Unavailable`](trine_storage::Kind::Unavailable) when it is
    /// far away and the depot does not answer.
    pub fn trace(&self, id: TraceId) -> Result<Option<Trace>> {
        // What is far away comes in four rounds: heads, directories, where the trace is, what it is.
        let blocks = || self.places.iter().filter_map(Place::block);
        warm(
            blocks().filter(|block| !block.reader.knows_ids()),
            &format::FIRST,
        )?;
        let mut places = Vec::new();
        for place in &self.places {
            if place.may_have(&id)? {
                places.push(place);
            }
        }
        open(places.iter().copied())?;
        for place in &places {
            place.image()?.prefetch_find(&id)?;
        }
        for place in &places {
            place.image()?.prefetch_trace(&id)?;
        }
        let mut pieces = Vec::new();
        for place in places {
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
    /// union of all its spans that are stored, read as they are asked for; or counts, in a batch of each
    /// thread.
    ///
    /// # Errors
    /// As [`Snapshot::trace`], here or from the iterator.
    pub fn scan(&self, request: &Request) -> Result<Batches> {
        match request {
            Request::Rows(rows) => scan::rows(self.views()?, rows),
            Request::Counts(counts) => scan::counts(&self.views()?, counts),
            Request::Comparison(comparison) => scan::comparison(&self.views()?, comparison),
        }
    }

    /// The attributes that queries see, by scope and name, with how many spans have them (of those of
    /// events and links, how many of these). Places that have spans in `range` count as wholes, and a
    /// span that is stored twice may count twice.
    ///
    /// # Errors
    /// As [`Snapshot::trace`].
    pub fn attribute_names(&self, range: TimeRange) -> Result<Vec<(AttributeScope, String, u64)>> {
        scan::attribute_names(&self.views()?, range)
    }

    /// The attributes that queries see of the spans in `range` that satisfy a filter, by scope and name.
    ///
    /// # Errors
    /// As [`Snapshot::trace`].
    pub fn attribute_names_of(
        &self,
        range: TimeRange,
        filter: &Filter,
    ) -> Result<Vec<(AttributeScope, String)>> {
        scan::attribute_names_of(&self.views()?, filter, range)
    }

    /// Distinct values of an attribute, each with how many spans have it among those that were looked
    /// at until there were enough values; without a scope those of spans and of resources. The
    /// elements of arrays count on their own, and so does every event and link. Without a filter places
    /// that have spans in the range count as wholes, and a span that is stored twice may count twice.
    ///
    /// # Errors
    /// As [`Snapshot::trace`].
    pub fn attribute_values(&self, request: &ValuesRequest) -> Result<Vec<(Value, u64)>> {
        scan::attribute_values(&self.views()?, request)
    }

    /// Views of which nothing is read but what says which pages there are.
    fn views(&self) -> Result<Vec<View>> {
        open(self.places.iter())?;
        let view = |place: &Place| {
            let view = View::unread(place.image()?, place.hidden()?, place.range());
            Ok(if place.is_stranger {
                view.stranger()
            } else {
                view
            })
        };
        self.places.iter().map(view).collect()
    }
}

/// Begins to fetch what it takes to open places that are not open yet.
fn open<'a>(places: impl Iterator<Item = &'a Place>) -> Result<()> {
    let blocks = places.filter_map(Place::block);
    warm(
        blocks.filter(|block| !block.reader.is_open()),
        &format::FIRST,
    )
}
