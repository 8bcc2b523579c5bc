//! Parts: what a seal writes. Chunks by series id, byte for byte as they were in memory, and the
//! labels of the ids that are new. Blocks of level 0; the head gives their ids a meaning. Exemplars
//! and metadata have sections of their own.
//! See `FORMAT.md`, "Part".

pub(crate) mod reader;
pub(crate) mod writer;

/// Series definitions: count varint, then page references with the bytes when decompressed.
const DEFINITIONS: u32 = 1;
/// Ids of the series with chunks, rising, four bytes each.
const IDS: u32 = 2;
/// For each id where its chunks lie: number of the page, offset in it, four bytes each.
const PLACES: u32 = 3;
/// Page references of the chunk pages.
const PAGES: u32 = 4;
/// A page of chunks is closed when it reaches this many bytes: small, because a read takes one
/// series out of it and checks all.
const PAGE_BYTES: usize = 4 << 10;
/// A page of definitions is compressed when it reaches this many bytes.
const DEFINITION_PAGE_BYTES: usize = 256 << 10;
/// The most bytes that a page of definitions may claim to have: one label set may be long.
const DEFINITION_PAGE_BYTES_MAX: u64 = 64 << 20;
/// The most samples that a chunk may claim to have.
const CHUNK_SAMPLES_CLAIMED_MAX: u64 = 1 << 16;
/// In the number before a chunk: another chunk of this series follows.
const GOES_ON: u64 = 1;
/// In the number before a chunk: start timestamps follow the samples.
const STARTED: u64 = 2;
/// In the number before a chunk: the kind lies above the flags.
const KIND_SHIFT: u32 = 2;
const ZSTD_LEVEL: i32 = 1;
