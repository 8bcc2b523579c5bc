//! Places: the blocks and runs that a snapshot holds, and what of them is not to be seen. `db` makes
//! snapshots, `snapshot` and `scan` read them, builds ask other places for traces.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use trine_storage::block_set::{Block, warm};
use trine_storage::{Kind, Result, TimeRange};

use crate::block::filter;
use crate::block::format;
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
    /// Whether it may have been written when other places were not known.
    pub(crate) is_stranger: bool,
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

    /// Whether it is on this disk only.
    pub(crate) fn is_own(&self) -> bool {
        self.block().is_none_or(|block| !block.is_shipped())
    }

    /// When its spans began.
    pub(crate) fn range(&self) -> TimeRange {
        match self {
            Self::Block(block) => block.meta.range,
            Self::Run(run) => run.range(),
        }
    }

    /// The block, if it is one.
    pub(crate) fn block(&self) -> Option<&Block<BlockFile>> {
        match self {
            Self::Block(block) => Some(block),
            Self::Run(_) => None,
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
    pub(crate) fn new(held: Held, hidden: Hidden, is_stranger: bool) -> Self {
        Self {
            held,
            hidden,
            is_stranger,
        }
    }

    /// Its tables, opened once.
    ///
    /// # Errors
    /// As [`Held::image`].
    pub(crate) fn image(&self) -> Result<Arc<Image>> {
        self.held.image()
    }

    /// The block, if it is one.
    pub(crate) fn block(&self) -> Option<&Block<BlockFile>> {
        self.held.block()
    }

    /// Whether a trace may have spans here, as far as that is told without its tables.
    ///
    /// # Errors
    /// As [`Held::image`].
    pub(crate) fn may_have(&self, id: &TraceId) -> Result<bool> {
        match &self.held {
            Held::Block(block) => block.reader.may_have(id),
            Held::Run(run) => Ok(run.image()?.may_have(id)),
        }
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

/// Whether it may take long to find out where traces are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// What is not known without asking another machine is taken for "perhaps".
    None,
    /// Blocks that are far away are asked, too, until one does not answer.
    Some,
}

/// Whether one of `places` may have spans of a trace. One that cannot be read may have any.
pub(crate) fn held_by(places: &[Held], patience: Patience) -> impl Fn(&TraceId) -> bool + use<> {
    let is_patient = Cell::new(patience == Patience::Some);
    if is_patient.get() {
        let blocks = places.iter().filter_map(Held::block);
        let unknown = blocks.filter(|block| !block.reader.knows_ids());
        if let Err(error) = warm(unknown, &[format::ID_FILTER]) {
            is_patient.set(error.kind() == Kind::Corrupt);
        }
    }
    let asked = places.iter().map(|held| Asked::new(held, &is_patient));
    let asked: Vec<Asked> = asked.collect();
    move |id| asked.iter().any(|place| place.may_have(id, &is_patient))
}

/// A place that is asked for traces.
struct Asked {
    /// None of one that may have any.
    held: Option<Held>,
    /// Of the ids of its traces; none of a run, which is asked itself.
    filter: Option<Bytes>,
    image: OnceCell<Option<Arc<Image>>>,
}

impl Asked {
    fn new(held: &Held, is_patient: &Cell<bool>) -> Self {
        let filter = match held {
            Held::Block(block) if is_patient.get() || block.reader.knows_ids() => {
                match block.reader.id_filter() {
                    Ok(filter) => Some(filter),
                    Err(error) => {
                        is_patient.set(is_patient.get() && error.kind() == Kind::Corrupt);
                        None
                    }
                }
            }
            _ => None,
        };
        let is_known = filter.is_some() || matches!(held, Held::Run(_));
        Self {
            held: is_known.then(|| held.clone()),
            filter,
            image: OnceCell::new(),
        }
    }

    fn may_have(&self, id: &TraceId, is_patient: &Cell<bool>) -> bool {
        let Some(held) = &self.held else {
            return true;
        };
        let filter = self.filter.as_ref();
        if filter.is_some_and(|filter| !filter::may_contain(filter, filter::hash(id))) {
            return false;
        }
        let is_remote = held.block().is_some_and(|block| block.reader.is_remote());
        if is_remote && !is_patient.get() {
            return true;
        }
        let image = self.image.get_or_init(|| held.image().ok());
        let found = image.as_ref().map(|image| image.find(id));
        match found {
            Some(Ok(found)) => found.is_some(),
            // It may be over the next time, but not so soon.
            _ if is_remote => {
                is_patient.set(false);
                true
            }
            _ => true,
        }
    }
}
