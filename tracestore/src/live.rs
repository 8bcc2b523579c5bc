//! Memory: the stage that spans go to, and runs, which are stages that became blocks in memory. `db`
//! holds one of it and swaps it for a seal.
//!
//! A stage becomes a run when it is full, and before somebody reads it. Runs of few spans are taken up
//! by the next one, so that they are few and a span is written a few times at most. A run that nobody
//! reads before memory is sealed is never built: blocks are made of its stage.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use trine_storage::block_set::Block;
use trine_storage::{Error, Kind, Result, TimeRange};

use crate::block::build::{Input, Source, start_of};
use crate::block::format::span;
use crate::block::gather::TableSource;
use crate::block::image::{self, BlockFile, Image};
use crate::place::{self, Held, Patience};
use crate::stage::Stage;
use crate::tombstone::Veil;

/// A stage of so many bytes becomes a run, however few spans it has.
const STAGE_BYTES_MAX: u64 = 16 << 20;

/// What is not in blocks yet.
#[derive(Debug)]
pub(crate) struct Live {
    stage: Stage,
    /// A stage of so many spans becomes a run.
    stage_spans_max: u64,
    /// Older first.
    runs: Vec<Arc<Run>>,
    /// When the first span came that is not being sealed, nanoseconds since 1970.
    since_ns: Option<i64>,
    sealing: Option<Sealing>,
}

/// Runs that are being written into blocks: all of memory up to a position of the log.
#[derive(Debug, Clone)]
pub(crate) struct Sealing {
    pub(crate) runs: Vec<Arc<Run>>,
    pub(crate) position: u64,
}

/// Spans that no longer change.
#[derive(Debug)]
pub(crate) struct Run {
    spans: u64,
    traces: u64,
    bytes: AtomicU64,
    range: TimeRange,
    image: OnceLock<Arc<Image>>,
    /// What it is made of, until somebody did.
    waiting: Mutex<Option<Arc<Waiting>>>,
    /// Every place that is older. They are asked whether they hold spans of its traces.
    older: Mutex<Vec<Held>>,
    /// When it was cut, nanoseconds since 1970.
    cut_ns: i64,
    pub(crate) veil: Veil,
}

#[derive(Debug)]
struct Waiting {
    /// Runs that it takes the place of.
    runs: Vec<Arc<Run>>,
    stage: Stage,
}

/// What blocks are made of.
#[derive(Debug)]
pub(crate) enum Part {
    Image(Arc<Image>),
    Stage(Staged),
}

/// A stage that is no tables yet.
#[derive(Debug)]
pub(crate) struct Staged(Arc<Waiting>);

impl Part {
    /// All of it.
    pub(crate) fn source(&self) -> Source<'_> {
        match self {
            Self::Image(image) => Source::Image(image),
            Self::Stage(Staged(waiting)) => Source::Stage(&waiting.stage),
        }
    }
}

/// How much there is in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) spans: u64,
    /// A trace of which several runs have spans is counted for each.
    pub(crate) traces: u64,
    pub(crate) bytes: u64,
    pub(crate) runs: u64,
    pub(crate) since_ns: Option<i64>,
    pub(crate) is_sealing: bool,
}

impl Live {
    pub(crate) fn new(stage_spans_max: u64) -> Self {
        Self {
            stage: Stage::default(),
            stage_spans_max,
            runs: Vec::new(),
            since_ns: None,
            sealing: None,
        }
    }

    /// Where spans go to that come at `now_ns`.
    pub(crate) fn stage(&mut self, now_ns: i64) -> &mut Stage {
        self.since_ns.get_or_insert(now_ns);
        &mut self.stage
    }

    /// Whether the stage is to become a run.
    pub(crate) fn is_full(&self) -> bool {
        u64::from(self.stage.rows()) >= self.stage_spans_max
            || self.stage.bytes() >= STAGE_BYTES_MAX
    }

    /// Makes the stage a run at `now_ns`, if it has spans; it is not built yet. `blocks` are all that
    /// there are.
    pub(crate) fn cut(
        &mut self,
        blocks: &[Arc<Block<BlockFile>>],
        now_ns: i64,
    ) -> Option<Arc<Run>> {
        let mut spans = u64::from(self.stage.rows());
        if spans == 0 {
            return None;
        }
        let stage = std::mem::take(&mut self.stage);
        let mut first = self.runs.len();
        while let Some(run) = first.checked_sub(1).and_then(|at| self.runs.get(at))
            && run.spans <= spans
            && run.spans + spans <= self.stage_spans_max
        {
            spans += run.spans;
            first -= 1;
        }
        let runs = self.runs.split_off(first);
        let older = older(blocks, self.runs());
        let run = Arc::new(Run::new(Waiting { runs, stage }, older, now_ns));
        self.runs.push(Arc::clone(&run));
        Some(run)
    }

    /// All runs, older first.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        let sealing = self.sealing.iter().flat_map(|sealing| &sealing.runs);
        sealing.chain(&self.runs)
    }

    /// Takes all runs for a seal, unless an earlier one failed and is to be tried again. Everything
    /// before `position` is in runs.
    pub(crate) fn begin_seal(&mut self, position: u64) -> Option<Sealing> {
        if self.sealing.is_none() && !self.runs.is_empty() {
            let runs = std::mem::take(&mut self.runs);
            self.since_ns = None;
            self.sealing = Some(Sealing { runs, position });
        }
        self.sealing.clone()
    }

    /// Lets go of what was sealed.
    pub(crate) fn end_seal(&mut self) {
        self.sealing = None;
    }

    /// Has runs that are not built ask `blocks`, which are all that there are, in the place of runs that
    /// were sealed: what those are made of is needed no more.
    pub(crate) fn ask_blocks(&self, blocks: &[Arc<Block<BlockFile>>]) {
        for (at, run) in self.runs.iter().enumerate() {
            let sealing = self.sealing.iter().flat_map(|sealing| &sealing.runs);
            let before = sealing.chain(self.runs.iter().take(at));
            if !run.is_built() {
                *run.older.lock() = older(blocks, before);
            }
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let spans = u64::from(self.stage.rows());
        let mut figures = Figures {
            spans,
            traces: self.stage.trace_ids.len() as u64,
            bytes: if spans > 0 { self.stage.bytes() } else { 0 },
            runs: 0,
            since_ns: self.since_ns,
            is_sealing: self.sealing.is_some(),
        };
        for run in self.runs() {
            figures.spans += run.spans;
            figures.traces += run.traces;
            figures.bytes += run.bytes.load(Ordering::Relaxed);
            figures.runs += 1;
        }
        figures
    }
}

/// Every place before a run.
fn older<'a>(
    blocks: &[Arc<Block<BlockFile>>],
    runs: impl Iterator<Item = &'a Arc<Run>>,
) -> Vec<Held> {
    let blocks = blocks.iter().cloned().map(Held::Block);
    blocks.chain(runs.cloned().map(Held::Run)).collect()
}

impl Run {
    fn new(waiting: Waiting, older: Vec<Held>, cut_ns: i64) -> Self {
        let runs = || waiting.runs.iter();
        let of_runs = |what: fn(&Run) -> u64| runs().map(|run| what(run)).sum::<u64>();
        let bytes = of_runs(|run| run.bytes.load(Ordering::Relaxed));
        let ranges = runs().map(|run| run.range);
        let range = ranges.fold(starts(&waiting.stage), |all, range| all.union(&range));
        Self {
            spans: u64::from(waiting.stage.rows()) + of_runs(|run| run.spans),
            traces: waiting.stage.trace_ids.len() as u64 + of_runs(|run| run.traces),
            bytes: (waiting.stage.bytes() + bytes).into(),
            range,
            image: OnceLock::new(),
            waiting: Mutex::new(Some(Arc::new(waiting))),
            older: Mutex::new(older),
            cut_ns,
            veil: Veil::default(),
        }
    }

    /// When its spans began.
    pub(crate) fn range(&self) -> TimeRange {
        self.range
    }

    pub(crate) fn is_built(&self) -> bool {
        self.image.get().is_some()
    }

    /// When it was cut, nanoseconds since 1970.
    pub(crate) fn cut_ns(&self) -> i64 {
        self.cut_ns
    }

    /// Appends what blocks with its spans are made of, older parts first: its tables, or what these
    /// would be made of.
    pub(crate) fn parts(&self, out: &mut Vec<Part>) {
        // Whoever builds it just now is waited for.
        let waiting = self.waiting.lock().clone();
        if let Some(image) = self.image.get() {
            out.push(Part::Image(Arc::clone(image)));
        } else if let Some(waiting) = waiting {
            waiting.runs.iter().for_each(|run| run.parts(out));
            out.push(Part::Stage(Staged(waiting)));
        }
    }

    /// Its tables. Who asks first makes them, who asks meanwhile waits.
    ///
    /// # Errors
    /// [`Kind::Limit`] for spans that no block can hold.
    pub(crate) fn image(&self) -> Result<Arc<Image>> {
        if let Some(image) = self.image.get() {
            return Ok(Arc::clone(image));
        }
        // Whoever holds this only waits for older runs.
        let mut waiting = self.waiting.lock();
        if let Some(image) = self.image.get() {
            return Ok(Arc::clone(image));
        }
        let Some(held) = &*waiting else {
            return Err(Error::new(Kind::Invalid, "a run is made of nothing"));
        };
        let older = self.older.lock().clone();
        let (image, bytes) = held.build(&older)?;
        let image = Arc::new(image);
        self.bytes.store(bytes, Ordering::Relaxed);
        *waiting = None;
        self.older.lock().clear();
        Ok(Arc::clone(self.image.get_or_init(|| image)))
    }
}

impl Waiting {
    fn build(&self, older: &[Held]) -> Result<(Image, u64)> {
        let images = self.runs.iter().map(|run| run.image());
        let images = images.collect::<Result<Vec<_>>>()?;
        let images = images.iter().map(|image| Source::Image(image));
        let sources = images.chain([Source::Stage(&self.stage)]);
        let inputs: Vec<Input<'_>> = sources.map(Input::all).collect();
        // Nobody who appends waits for another machine; a seal asks again.
        let has_more = place::held_by(older, Patience::None);
        let (image, _, bytes) = image::in_memory(&inputs, &has_more)?;
        Ok((image, bytes))
    }
}

/// When the spans of a stage began.
fn starts(stage: &Stage) -> TimeRange {
    let starts = stage.spans.numbers(span::START).unwrap_or_default();
    let starts = || starts.iter().map(|start| start_of(*start));
    match (starts().min(), starts().max()) {
        (Some(first), Some(last)) => TimeRange::inclusive(first, last),
        _ => TimeRange::new(0, 0),
    }
}
