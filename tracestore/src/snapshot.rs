//! What is asked of a snapshot: traces by id, whole traces that satisfy a filter, counts, names and
//! values of attributes. `scan` answers.

use trine_storage::Result;

use crate::model::{Trace, TraceId};
use crate::place::Snapshot;
use crate::scan::{self, Piece};

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
}
