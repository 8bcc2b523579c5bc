//! The bytes of a block: sections and the head of a run (`FORMAT.md`, "Block").

/// The letters in the header of the container, of parts too.
pub(crate) const KIND: [u8; 4] = *b"tsdb";

/// Section: the label index with the label sets; its places are those of the series in label order.
pub(crate) const INDEX: u32 = 1;
/// Section: for each series where its run lies: number of the page, offset in it, four bytes each.
pub(crate) const SERIES: u32 = 2;
/// Section: for each column of timestamps where it lies: number of the page, offset in it, number of
/// timestamps, four bytes each.
pub(crate) const TIMES: u32 = 3;
/// Section: page references of the pages with runs and columns of timestamps.
pub(crate) const PAGES: u32 = 4;

/// A page is closed when it reaches this many bytes: a read takes one run out of it and checks all.
pub(crate) const PAGE_BYTES: usize = 32 << 10;
/// The most timestamps that a column may claim to have: a sample each millisecond for weeks.
pub(crate) const COLUMN_ROWS_MAX: u32 = 1 << 31;

/// What the values of a run are: the number before them, above the flag.
pub(crate) const FLOATS: u64 = 0;
pub(crate) const HISTOGRAMS: u64 = 1;
/// Floats and histograms, and which rows are histograms.
pub(crate) const MIXED: u64 = 2;
/// In the number before the values: start timestamps follow them.
pub(crate) const STARTED: u64 = 1;
/// In the number before the values: the kind lies above the flag.
pub(crate) const KIND_SHIFT: u32 = 1;
