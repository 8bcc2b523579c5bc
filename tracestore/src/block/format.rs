//! Numbers of sections and columns of a block (`FORMAT.md`, "Block"). The writer and the readers of
//! blocks call it, and the stage, whose columns have the same numbers.

/// What the container calls a block of this engine.
pub(crate) const KIND: [u8; 4] = *b"trac";

/// Directories of the tables.
pub(crate) const SPANS: u32 = 1;
pub(crate) const EVENTS: u32 = 2;
pub(crate) const LINKS: u32 = 3;
pub(crate) const RESOURCES: u32 = 4;
pub(crate) const SCOPES: u32 = 5;
pub(crate) const TRACES: u32 = 6;
pub(crate) const IDS: u32 = 7;
/// The filter of the ids of the traces.
pub(crate) const ID_FILTER: u32 = 8;

/// What is read of a block before anything else.
pub(crate) const FIRST: [u32; 8] = [
    SPANS, EVENTS, LINKS, RESOURCES, SCOPES, TRACES, IDS, ID_FILTER,
];

/// Columns of spans.
pub(crate) mod span {
    use super::super::table::Key;

    /// Big-endian.
    pub(crate) const ID: u8 = 0;
    /// Since the trace began, wrapping.
    pub(crate) const START: u8 = 1;
    /// From start to end, wrapping.
    pub(crate) const DURATION: u8 = 2;
    /// [`NO_PARENT`], [`PARENT_ELSEWHERE`], or so many rows above [`PARENT_ELSEWHERE`] before.
    pub(crate) const PARENT: u8 = 3;
    /// Ids of parents that are elsewhere, by row.
    pub(crate) const PARENT_ID: u8 = 4;
    pub(crate) const KIND: u8 = 5;
    /// 0 without a status, else 1 + the code, zigzag.
    pub(crate) const STATUS: u8 = 6;
    pub(crate) const RESOURCE: u8 = 7;
    pub(crate) const SCOPE: u8 = 8;
    pub(crate) const FLAGS: u8 = 9;
    pub(crate) const DROPPED_ATTRIBUTES: u8 = 10;
    pub(crate) const DROPPED_EVENTS: u8 = 11;
    pub(crate) const DROPPED_LINKS: u8 = 12;
    /// How many events it has.
    pub(crate) const EVENTS: u8 = 13;
    /// How many links it has.
    pub(crate) const LINKS: u8 = 14;

    pub(crate) const NAME: Key = Key::Text(0);
    pub(crate) const MESSAGE: Key = Key::Text(1);
    pub(crate) const TRACE_STATE: Key = Key::Text(2);

    pub(crate) const NO_PARENT: u64 = 0;
    pub(crate) const PARENT_ELSEWHERE: u64 = 1;
}

/// Columns of events.
pub(crate) mod event {
    use super::super::table::Key;

    /// Since the span began, wrapping.
    pub(crate) const TIME: u8 = 0;
    pub(crate) const DROPPED_ATTRIBUTES: u8 = 1;
    pub(crate) const NAME: Key = Key::Text(0);
}

/// Columns of links.
pub(crate) mod link {
    use super::super::table::Key;

    pub(crate) const DROPPED_ATTRIBUTES: u8 = 0;
    pub(crate) const FLAGS: u8 = 1;
    pub(crate) const TRACE_ID: Key = Key::Bytes(0);
    pub(crate) const SPAN_ID: Key = Key::Bytes(1);
    pub(crate) const TRACE_STATE: Key = Key::Text(2);
}

/// Columns of resources.
pub(crate) mod resource {
    use super::super::table::Key;

    pub(crate) const DROPPED_ATTRIBUTES: u8 = 0;
    pub(crate) const SCHEMA_URL: Key = Key::Text(0);
}

/// Columns of instrumentation scopes.
pub(crate) mod scope {
    use super::super::table::Key;

    pub(crate) const DROPPED_ATTRIBUTES: u8 = 0;
    pub(crate) const NAME: Key = Key::Text(0);
    pub(crate) const VERSION: Key = Key::Text(1);
    pub(crate) const SCHEMA_URL: Key = Key::Text(2);
}

/// Columns of traces.
pub(crate) mod trace {
    /// The first eight bytes of the id, big-endian.
    pub(crate) const ID_HIGH: u8 = 0;
    /// The last eight.
    pub(crate) const ID_LOW: u8 = 1;
    /// How many spans it has here.
    pub(crate) const ROWS: u8 = 2;
    /// When the first of them began.
    pub(crate) const START: u8 = 3;
    /// From there until the last ended.
    pub(crate) const DURATION: u8 = 4;
    /// [`HAS_ROOT`] and [`HAS_MORE`].
    pub(crate) const FLAGS: u8 = 5;

    /// The first span is a root.
    pub(crate) const HAS_ROOT: u64 = 1;
    /// Other places had spans of it when this was written.
    pub(crate) const HAS_MORE: u64 = 2;
}

/// Columns of the index of traces by id.
pub(crate) mod id {
    /// The first eight bytes of the ids, in order of the whole ids.
    pub(crate) const HIGH: u8 = 0;
    /// Which trace has it.
    pub(crate) const TRACE: u8 = 1;
}
