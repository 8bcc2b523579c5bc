//! Memory: the stage that spans go to, and runs, which are stages that became blocks in memory. `db`
//! holds one of it and swaps it for a seal.
//!
//! A stage becomes a run when it is full, and before somebody reads it. Runs of few spans are taken up
//! by the next one, so that they are few and a span is written a few times at most.

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
    waiting: Mutex<Option<Waiting>>,
    pub(crate) veil: Veil,
}

#[derive(Debug)]
struct Waiting {
    /// Runs that it takes the place of.
    runs: Vec<Arc<Run>>,
    stage: Stage,
    /// Every place that is older. They are asked whether they hold spans of its traces.
    older: Vec<Held>,
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

    /// Makes the stage a run, if it has spans; it is not built yet. `blocks` are all that there are.
    pub(crate) fn cut(&mut self, blocks: &[Arc<Block<BlockFile>>]) -> Option<Arc<Run>> {
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
        let blocks = blocks.iter().cloned().map(Held::Block);
        let older = blocks.chain(self.runs().cloned().map(Held::Run)).collect();
        let run = Arc::new(Run::new(Waiting { runs, stage, older }));
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

impl Run {
    fn new(waiting: Waiting) -> Self {
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
            waiting: Mutex::new(Some(waiting)),
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
        let (image, bytes) = held.build()?;
        let image = Arc::new(image);
        self.bytes.store(bytes, Ordering::Relaxed);
        *waiting = None;
        Ok(Arc::clone(self.image.get_or_init(|| image)))
    }
}

impl Waiting {
    fn build(&self) -> Result<(Image, u64)> {
        let images = self.runs.iter().map(|run| run.image());
        let images = images.collect::<Result<Vec<_>>>()?;
        let images = images.iter().map(|image| Source::Image(image));
        let sources = images.chain([Source::Stage(&self.stage)]);
        let inputs: Vec<Input<'_>> = sources.map(Input::all).collect();
        // Nobody who appends waits for another machine; a seal asks again.
        let has_more = place::held_by(&self.older, Patience::None);
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
