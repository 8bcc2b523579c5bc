//! Places that hold entries, a block or memory, and what a scan knows of one that it looked into.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use roaring::RoaringBitmap;
use trine_storage::block_set::Block;
use trine_storage::{Error, Labels, MatchOp, Matcher, Result, TimeRange};

use super::Spec;
use super::duplicates::Others;
use crate::block::format::{ChunkHeader, LEVEL, Run};
use crate::block::reader::{BlockFile, Ids, Tables};
use crate::buffer::{Page, View};
use crate::index::{Candidates, Needles};
use crate::tombstone::{Hidden, Veil, Veils};

/// Looking up one stream by its labels costs about as much as decoding this many streams in a row.
const LOOK_UP_COST: usize = 32;

/// Something that holds entries.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Block(Arc<Block<BlockFile>>),
    Memory(View),
}

impl Place {
    /// The range of time that its entries lie in; `None` when there are none.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        match self {
            Self::Block(block) => Some(block.meta.range),
            Self::Memory(view) => view.range(),
        }
    }

    /// The block, unless it is memory.
    pub(crate) fn block(&self) -> Option<&Block<BlockFile>> {
        match self {
            Self::Block(block) => Some(block),
            Self::Memory(_) => None,
        }
    }

    /// What of it is not to be seen in `range`.
    pub(crate) fn veil(&self, hidden: &Hidden, range: TimeRange) -> Veil {
        match self {
            Self::Block(block) => hidden.veil(Some(&block.meta), range),
            Self::Memory(_) => hidden.veil(None, range),
        }
    }
}

/// A place that was looked into for one scan.
#[derive(Debug)]
pub(super) struct OpenPlace {
    pub(super) held: Held,
    /// For each stream code whether the scan looks for the stream.
    is_selected: Vec<bool>,
    /// One for each condition on metadata.
    pub(super) conditions: Vec<Condition>,
    /// What metadata may fulfil in place of a line.
    pub(super) either: Option<Condition>,
    /// What is not to be seen.
    pub(super) veils: Veils,
    /// The chunks that may hold something, in their order, with the hull of the times at which.
    pub(super) chunks: Vec<(usize, TimeRange)>,
    /// What the token index says of them.
    candidates: Option<Candidates>,
    /// Whether the token index left few of them.
    pub(super) is_sparse: bool,
    /// Of streams of a block, as they are asked for.
    labels: PerStream<Labels>,
    /// Where else the entries of a stream may be, as it is asked for.
    pub(super) others: PerStream<Others>,
    codes: OnceLock<HashMap<Labels, u32>>,
    look_ups: AtomicUsize,
    /// Memory's rows by stream and time, when asked for.
    sorted: OnceLock<Vec<RowOfMemory>>,
}

/// Something of each stream by code, found when it is asked for. Takes room for the streams near
/// those that were asked for.
#[derive(Debug)]
pub(super) struct PerStream<T>(Box<[Near<T>]>);

type Near<T> = OnceLock<Box<[OnceLock<T>]>>;

/// So many streams get room together.
const NEAR: usize = 256;

impl<T> PerStream<T> {
    fn new(streams: usize) -> Self {
        let near = 0..streams.div_ceil(NEAR);
        Self(near.map(|_| OnceLock::new()).collect())
    }

    /// What was found before.
    pub(super) fn get(&self, stream: u32) -> Option<&T> {
        let near = self.0.get(stream as usize / NEAR)?.get()?;
        near.get(stream as usize % NEAR)?.get()
    }

    /// What is known, or what `find` finds; `None` for a stream that there is not.
    pub(super) fn get_or_init(&self, stream: u32, find: impl FnOnce() -> T) -> Option<&T> {
        let near = self.0.get(stream as usize / NEAR)?;
        let near = near.get_or_init(|| (0..NEAR).map(|_| OnceLock::new()).collect());
        Some(near.get(stream as usize % NEAR)?.get_or_init(find))
    }
}

/// Where the entries are.
#[derive(Debug)]
pub(super) enum Held {
    Block(Arc<Block<BlockFile>>, Arc<Tables>),
    Memory {
        view: View,
        ranges: Vec<TimeRange>,
        pages: Vec<Page>,
    },
}

/// A condition on metadata.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) matcher: Matcher,
    /// The streams whose label of that name, which hides metadata, satisfies it.
    pub(super) decided: RoaringBitmap,
    /// The selected streams whose label does not.
    pub(super) refused: RoaringBitmap,
}

impl Condition {
    /// Whether it is about levels, which headers count, in every stream.
    pub(super) fn is_of_level(&self) -> bool {
        self.matcher.name() == LEVEL && self.decided.is_empty()
    }

    /// What it asks of metadata, when that is a value and no stream decides.
    fn needle(&self) -> Option<Needles> {
        let (name, value) = (self.matcher.name(), self.matcher.value());
        let is_value = self.matcher.op() == MatchOp::Equal && !value.is_empty();
        (is_value && self.decided.is_empty())
            .then(|| Needles::field(name.as_bytes(), value.as_bytes()))
    }

    /// Whether a set of metadata meets it.
    pub(super) fn is_met_by(&self, set: &Labels) -> bool {
        self.matcher
            .matches(set.get(self.matcher.name()).unwrap_or(""))
    }
}

/// Where the token index leaves fewer chunks than one in so many, rows that pass are rare.
const SPARSE: usize = 8;

/// A row of memory by what duplicates are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowOfMemory {
    stream: u32,
    timestamp: i64,
    pub(super) page: u32,
    pub(super) row: u32,
}

impl OpenPlace {
    /// Finds out which streams the scan looks for and which chunks may hold their entries.
    pub(super) fn open(place: &Place, spec: &Spec, hidden: &Hidden) -> Result<Self> {
        let select = |matchers: &[Matcher], held: &Held| match (place, held) {
            (Place::Memory(view), _) => Ok(view.select(matchers)),
            (_, Held::Block(_, tables)) => tables.select(matchers),
            (_, Held::Memory { .. }) => Ok(RoaringBitmap::new()),
        };
        let held = match place {
            Place::Block(block) => Held::Block(Arc::clone(block), block.reader.tables()?),
            // Streams come after pages, so that every row of a page has its stream.
            Place::Memory(view) => {
                let pages = view.pages();
                Held::Memory {
                    view: view.clone(),
                    ranges: view.stream_ranges(),
                    pages,
                }
            }
        };
        let mut selected = select(&spec.matchers, &held)?;
        let mut conditions = Vec::with_capacity(spec.metadata.len());
        for matcher in &spec.metadata {
            let has_label = Matcher::new(MatchOp::NotEqual, matcher.name(), "")?;
            let decided = select(std::slice::from_ref(&has_label), &held)? & &selected;
            if !decided.is_empty() {
                let satisfied = select(&[has_label, matcher.clone()], &held)?;
                selected -= &decided - &satisfied;
            }
            conditions.push(Condition {
                matcher: matcher.clone(),
                decided,
                refused: RoaringBitmap::new(),
            });
        }
        let either = spec.either.as_ref().map(|either| {
            let matcher = either.matcher.clone();
            let has_label = Matcher::new(MatchOp::NotEqual, matcher.name(), "")?;
            let labelled = select(std::slice::from_ref(&has_label), &held)? & &selected;
            let decided = select(&[has_label, matcher.clone()], &held)? & &selected;
            Ok::<_, Error>(Condition {
                refused: labelled - &decided,
                matcher,
                decided,
            })
        });
        let either = either.transpose()?;
        let streams = held.streams();
        let mut is_selected = vec![false; streams];
        for stream in selected {
            if let Some(flag) = is_selected.get_mut(stream as usize) {
                *flag = true;
            }
        }
        let mut open = Self {
            held,
            is_selected,
            conditions,
            either,
            veils: Veils::default(),
            chunks: Vec::new(),
            candidates: None,
            is_sparse: false,
            labels: PerStream::new(streams),
            others: PerStream::new(streams),
            codes: OnceLock::new(),
            look_ups: AtomicUsize::new(0),
            sorted: OnceLock::new(),
        };
        let veil = place.veil(hidden, spec.range);
        if !veil.is_empty() {
            let labels = open.selected_labels()?;
            open.veils = Veils::new(&veil, labels.iter().map(|(code, labels)| (*code, labels)));
        }
        open.chunks = open.chunks_in(spec.range);
        if let Some(needles) = &spec.needles {
            let of_either = spec.either.as_ref().map(|either| &either.needles);
            open.ask_index(needles, of_either)?;
        }
        Ok(open)
    }

    /// Leaves out the chunks that have no line with these needles, no metadata that satisfies the
    /// conditions, or neither of what will do.
    fn ask_index(&mut self, needles: &Needles, of_either: Option<&Needles>) -> Result<()> {
        let either = of_either
            .zip(self.either.as_ref())
            .map(|(line, condition)| {
                let field = condition.needle().unwrap_or(Needles::Anything);
                Needles::any(vec![line.clone(), field])
            });
        let fields = self.conditions.iter().filter_map(Condition::needle);
        let needles = Needles::all(
            [needles.clone()]
                .into_iter()
                .chain(fields)
                .chain(either)
                .collect(),
        );
        let Held::Block(block, _) = &self.held else {
            return Ok(());
        };
        if needles.is_anything() || self.chunks.is_empty() {
            return Ok(());
        }
        let number = |chunk: usize| u32::try_from(chunk).unwrap_or(u32::MAX);
        let within = self
            .chunks
            .iter()
            .map(|(chunk, _)| number(*chunk))
            .collect();
        let found = block.reader.tokens()?.search(&needles, &within);
        let before = self.chunks.len();
        self.chunks
            .retain(|(chunk, _)| found.chunks().contains(number(*chunk)));
        self.is_sparse = self.chunks.len() < before / SPARSE;
        self.candidates = Some(found);
        Ok(())
    }

    /// Whether no chunk is left to be ruled out by its ids.
    pub(super) fn is_sure(&self) -> bool {
        self.candidates.as_ref().is_none_or(Candidates::is_sure)
    }

    /// Whether the ids of a chunk do not rule it out.
    pub(super) fn confirms(&self, chunk: usize) -> bool {
        match (&self.held, &self.candidates) {
            (Held::Block(block, tables), Some(candidates)) => {
                let ids = Ids {
                    file: &block.reader,
                    chunks: &tables.chunks,
                };
                candidates.confirms(u32::try_from(chunk).unwrap_or(u32::MAX), &ids)
            }
            _ => true,
        }
    }

    /// The labels of the selected streams, by code.
    fn selected_labels(&self) -> Result<Vec<(u32, Labels)>> {
        let selected = (0u32..).zip(&self.is_selected);
        let selected = selected.filter_map(|(code, selected)| selected.then_some(code));
        self.labels_of(&selected.collect())
    }

    /// The labels of streams, by code.
    pub(super) fn labels_of(&self, codes: &RoaringBitmap) -> Result<Vec<(u32, Labels)>> {
        match &self.held {
            Held::Block(_, tables) => tables.labels_of(codes),
            Held::Memory { view, .. } => Ok(view.labels_of(codes)),
        }
    }

    fn chunks_in(&self, range: TimeRange) -> Vec<(usize, TimeRange)> {
        let none = TimeRange::new(0, 0);
        let hull = |header: &ChunkHeader| {
            if !header.range.overlaps(&range) || self.is_excluded(header) {
                return none;
            }
            let runs = header.runs.iter();
            let held = runs.filter(|run| self.is_selected(run.stream));
            held.map(Run::range)
                .filter(|held| held.overlaps(&range))
                .fold(none, |hull, held| hull.union(&held))
        };
        let hulls: Vec<TimeRange> = match &self.held {
            Held::Block(_, tables) => tables.chunks.iter().map(hull).collect(),
            Held::Memory { pages, .. } => pages.iter().map(|page| page.range).collect(),
        };
        let hulls = hulls.into_iter().enumerate();
        hulls.filter(|(_, hull)| hull.overlaps(&range)).collect()
    }

    /// Whether a header tells that no entry of the chunk meets the conditions.
    fn is_excluded(&self, header: &ChunkHeader) -> bool {
        self.conditions.iter().any(|condition| {
            condition.is_of_level()
                && !header.levels.is_empty()
                && !header
                    .levels
                    .iter()
                    .any(|level| condition.matcher.matches(level))
        })
    }

    pub(super) fn is_selected(&self, stream: u32) -> bool {
        self.is_selected
            .get(stream as usize)
            .is_some_and(|&flag| flag)
    }

    /// The header of a chunk; memory has none.
    pub(super) fn header(&self, chunk: usize) -> Option<&ChunkHeader> {
        match &self.held {
            Held::Block(_, tables) => tables.chunks.get(chunk),
            Held::Memory { .. } => None,
        }
    }

    /// The labels of a stream.
    pub(super) fn labels(&self, stream: u32) -> Result<Labels> {
        let tables = match &self.held {
            Held::Block(_, tables) => tables,
            Held::Memory { view, .. } => return Ok(view.labels(stream)),
        };
        if let Some(labels) = self.labels.get(stream) {
            return Ok(labels.clone());
        }
        let labels = tables.index.labels(stream)?;
        self.labels.get_or_init(stream, || labels.clone());
        Ok(labels)
    }

    /// The code of the stream with these labels; `None` when there is none, or what says so cannot
    /// be read.
    pub(super) fn code_of(&self, labels: &Labels) -> Option<u32> {
        let look_ups = self.look_ups.fetch_add(1, Ordering::Relaxed);
        if self.codes.get().is_none()
            && let Held::Block(_, tables) = &self.held
            && look_ups < self.is_selected.len() / LOOK_UP_COST
        {
            return code_in(tables, labels);
        }
        let codes = self.codes.get_or_init(|| self.all_codes());
        codes.get(labels).copied()
    }

    fn all_codes(&self) -> HashMap<Labels, u32> {
        let labels = self.selected_labels().unwrap_or_default();
        labels
            .into_iter()
            .map(|(code, labels)| (labels, code))
            .collect()
    }

    /// From the first to the last entry of a stream; `None` when there are none.
    pub(super) fn range_of(&self, stream: u32) -> Option<TimeRange> {
        match &self.held {
            Held::Memory { ranges, .. } => ranges.get(stream as usize).copied(),
            Held::Block(..) => self
                .runs_of(stream)
                .map(|(_, _, run)| run.range())
                .reduce(|a, b| a.union(&b)),
        }
    }

    /// The runs of a stream of a block: chunk, rows there, run.
    pub(super) fn runs_of(&self, stream: u32) -> impl Iterator<Item = (usize, Range<usize>, &Run)> {
        let chunks: &[ChunkHeader] = match &self.held {
            Held::Block(_, tables) => &tables.chunks,
            Held::Memory { .. } => &[],
        };
        // Chunks are in the order of streams.
        let last = |chunk: &ChunkHeader| chunk.runs.last().map_or(0, |run| run.stream);
        let first = |chunk: &ChunkHeader| chunk.runs.first().map_or(0, |run| run.stream);
        let from = chunks.partition_point(|chunk| last(chunk) < stream);
        let held = chunks.iter().enumerate().skip(from);
        held.take_while(move |(_, chunk)| first(chunk) <= stream)
            .filter_map(move |(number, chunk)| {
                let at = chunk.runs.binary_search_by_key(&stream, |run| run.stream);
                let (before, rest) = chunk.runs.split_at(at.ok()?);
                let start: usize = before.iter().map(|run| run.rows as usize).sum();
                let run = rest.first()?;
                Some((number, start..start + run.rows as usize, run))
            })
    }

    /// The rows of memory of a stream at an instant.
    pub(super) fn memory_rows(&self, stream: u32, timestamp: i64) -> &[RowOfMemory] {
        let sorted = self.sorted.get_or_init(|| self.sort_memory());
        let key = |row: &RowOfMemory| (row.stream, row.timestamp);
        let from = sorted.partition_point(|row| key(row) < (stream, timestamp));
        let rest = sorted.get(from..).unwrap_or_default();
        let count = rest.partition_point(|row| key(row) == (stream, timestamp));
        rest.get(..count).unwrap_or_default()
    }

    fn sort_memory(&self) -> Vec<RowOfMemory> {
        let Held::Memory { pages, .. } = &self.held else {
            return Vec::new();
        };
        let mut rows = Vec::new();
        for (page, held) in (0u32..).zip(pages) {
            let columns = held.columns.streams.iter().zip(&held.columns.timestamps);
            rows.extend(
                (0u32..)
                    .zip(columns)
                    .map(|(row, (&stream, &timestamp))| RowOfMemory {
                        stream,
                        timestamp,
                        page,
                        row,
                    }),
            );
        }
        rows.sort_unstable();
        rows
    }
}

impl Held {
    /// How many stream codes there are.
    fn streams(&self) -> usize {
        match self {
            Self::Block(_, tables) => tables.index.len(),
            Self::Memory { ranges, .. } => ranges.len(),
        }
    }
}

/// Codes are in label order.
fn code_in(tables: &Tables, labels: &Labels) -> Option<u32> {
    let (mut low, mut high) = (0, u32::try_from(tables.index.len()).ok()?);
    while low < high {
        let middle = low + (high - low) / 2;
        match tables.index.labels(middle).ok()?.cmp(labels) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}
