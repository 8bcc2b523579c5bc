//! Places: the blocks and runs that a snapshot holds, and what of them is not to be seen. `db` makes
//! snapshots, `snapshot` and `scan` read them, builds ask other places for traces.

use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::block_set::Block;
use trine_storage::{Result, TimeRange};

use crate::block::image::{BlockFile, Image};
use crate::live::Run;
use crate::model::TraceId;
use crate::tombstone::{Hidden, Veil};

/// A block or a run.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    Block(Arc<Block<BlockFile>>),
    Run(Arc<Run>),
}

/// A block or a run as a snapshot holds it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    held: Held,
    hidden: Hidden,
}

/// A view of the store: everything that was committed when it was taken, and nothing that came later.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Older first.
    pub(crate) places: Vec<Place>,
}

impl Held {
    /// Its tables.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) and [`Kind::Io`](trine_storage::Kind::Io)
    /// when a block cannot be read.
    pub(crate) fn image(&self) -> Result<Arc<Image>> {
        match self {
            Self::Block(block) => block.reader.image(),
            Self::Run(run) => run.image(),
        }
    }

    /// When its spans began.
    pub(crate) fn range(&self) -> TimeRange {
        match self {
            Self::Block(block) => block.meta.range,
            Self::Run(run) => run.range(),
        }
    }

    /// What was worked out of what is hidden of it.
    pub(crate) fn veil(&self) -> &Veil {
        match self {
            Self::Block(block) => &block.reader.veil,
            Self::Run(run) => &run.veil,
        }
    }
}

impl Place {
    pub(crate) fn new(held: Held, hidden: Hidden) -> Self {
        Self { held, hidden }
    }

    /// Its tables, opened once.
    ///
    /// # Errors
    /// As [`Held::image`].
    pub(crate) fn image(&self) -> Result<Arc<Image>> {
        self.held.image()
    }

    /// Rows of spans that deletes and the retention hide; mostly none. Worked out once for what is
    /// hidden, and kept with the place.
    ///
    /// # Errors
    /// As [`Held::image`].
    pub(crate) fn hidden(&self) -> Result<Arc<RoaringBitmap>> {
        self.hidden.rows(&self.held)
    }

    /// When its spans began.
    pub(crate) fn range(&self) -> TimeRange {
        self.held.range()
    }
}

/// Whether one of `places` may have spans of a trace. One that cannot be read may have any.
pub(crate) fn held_by(places: &[Held]) -> impl Fn(&TraceId) -> bool + use<> {
    let images: Vec<Result<Arc<Image>>> = places.iter().map(Held::image).collect();
    move |id| {
        let holds = |image: &Arc<Image>| image.find(id).map(|found| found.is_some());
        let mut images = images.iter();
        images.any(|image| match image {
            Ok(image) => holds(image).unwrap_or(true),
            Err(_) => true,
        })
    }
}
