//! From memory to blocks: all runs up to one position of the log become one block per time window.

use std::collections::HashMap;
use std::time::Duration;

use roaring::RoaringBitmap;
use trine_storage::Result;
use trine_storage::block_set::{Edit, Unfinished};
use trine_storage::catalog::BlockMeta;
use trine_storage::sealed::SealedWriter;

use super::{Inner, by_sequence};
use crate::block::build::{self, Built, Input, Source};
use crate::block::format;
use crate::live::{Part, Sealing};
use crate::model::TraceId;
use crate::place::{self, Patience};
use trine_storage::time::nanos;

impl Inner {
    pub(super) fn flush(&self) -> Result<()> {
        let _seal = self.sealing.lock();
        // What an earlier seal could not write goes first: blocks are in the order of appending.
        let again = self.live.lock().figures().is_sealing;
        self.seal_once()?;
        if again { self.seal_once() } else { Ok(()) }
    }

    /// Seals unless somebody else has done so meanwhile.
    pub(super) fn seal_while_full(&self) -> Result<()> {
        let _seal = self.sealing.lock();
        // Twice, where an earlier seal failed and is to be tried again.
        for _ in 0..2 {
            if self.memory_is(1) {
                self.seal_once()?;
            }
        }
        Ok(())
    }

    pub(super) fn seal_once(&self) -> Result<()> {
        self.check_healthy()?;
        let Some(sealing) = self.begin_seal() else {
            return Ok(());
        };
        let written = self.write_runs(&sealing);
        if written.is_err() {
            // They stay for longer than was thought: as runs they take less, and hold no blocks.
            sealing.runs.iter().for_each(|run| self.build(run));
        }
        let written = self.blocks.make_room_if_full(written)?;
        let edit = Edit {
            add: written.iter().map(|(meta, _)| meta.clone()).collect(),
            wal_position: Some(sealing.position),
            ..Edit::default()
        };
        self.blocks.commit(&edit, || {
            let mut live = self.live.lock();
            live.end_seal();
            self.account.set(live.figures().bytes);
        })?;
        let version = self.blocks.version();
        self.live.lock().ask_blocks(&version.blocks);
        if self.blocks.depot().is_some() {
            self.shippers.wake();
        }
        self.wal.truncate(sealing.position)
    }

    /// Takes all of memory, unless an earlier seal failed and is to be tried again.
    pub(super) fn begin_seal(&self) -> Option<Sealing> {
        let _order = self.order.lock();
        self.blocks.read(|version| {
            let mut live = self.live.lock();
            if !live.figures().is_sealing {
                live.cut(&version.blocks, self.clock.now_ns());
            }
            live.begin_seal(self.wal.next_position())
        })
    }

    /// Writes one block per window.
    fn write_runs(&self, sealing: &Sealing) -> Result<Vec<(BlockMeta, Unfinished)>> {
        let mut parts = Vec::new();
        sealing.runs.iter().for_each(|run| run.parts(&mut parts));
        let windows = windows(
            &parts,
            self.config.block_range,
            self.config.block_ranges_max,
        )?;
        // Later runs say themselves that these blocks have spans of their traces.
        let has_more = place::held_by(&by_sequence(&self.blocks.version()), self.patience());
        let has_strangers = self.has_strangers();
        let mut written = Vec::with_capacity(windows.len());
        for traces in windows {
            let taken = parts
                .iter()
                .zip(traces)
                .filter(|(_, traces)| traces.as_ref().is_none_or(|traces| !traces.is_empty()));
            let inputs: Vec<Input<'_>> = taken
                .map(|(part, traces)| Input {
                    traces,
                    is_stranger: has_strangers,
                    ..Input::all(part.source())
                })
                .collect();
            let (built, bytes, file) = self.write_block(&inputs, &has_more)?;
            let meta = BlockMeta {
                id: file.id(),
                range: built.range,
                rows: built.spans,
                bytes,
                level: 0,
                sequence: sealing.position,
                created_ms: self.clock.now_ms(),
                deletes_applied: 0,
            };
            written.push((meta, file));
        }
        Ok(written)
    }

    /// Whether a seal waits for what is far away: not when somebody waits for the seal.
    fn patience(&self) -> Patience {
        match self.shipping.depot_fails() || self.memory_is(1) {
            true => Patience::None,
            false => Patience::Some,
        }
    }

    /// Writes a block file, which is not in the catalog yet.
    pub(super) fn write_block(
        &self,
        inputs: &[Input<'_>],
        has_more: &dyn Fn(&TraceId) -> bool,
    ) -> Result<(Built, u64, Unfinished)> {
        let file = self.blocks.begin(&*self.clock);
        let mut sink = SealedWriter::create(&*self.fs, file.path(), format::KIND)?;
        let built = build::write(inputs, &mut sink, has_more)?;
        Ok((built, sink.finish()?, file))
    }

    /// How old memory may become. With a depot there has to be time left to write and to upload.
    fn seal_age(&self) -> Duration {
        match self.blocks.depot() {
            Some(_) => self.config.seal_age.min(self.config.ship_age_max * 2 / 3),
            None => self.config.seal_age,
        }
    }

    /// Whether memory is large or old enough to be sealed.
    fn seal_is_due(&self) -> bool {
        let figures = self.live.lock().figures();
        let age_ns = figures
            .since_ns
            .map(|since| self.clock.now_ns().saturating_sub(since));
        let crowded = self.shared.memory().used() > self.shared.memory().max() / 2;
        figures.is_sealing
            || (figures.spans > 0
                && (crowded
                    || age_ns.is_some_and(|age| age >= nanos(self.seal_age()))
                    || self.memory_is(2)))
    }

    /// Seals when memory or the log is large enough or memory is old enough.
    pub(super) fn seal_if_due(&self) -> Result<()> {
        if self.seal_is_due() {
            self.flush()
        } else {
            self.build_waiting();
            self.wal.trim()
        }
    }
}

/// Of each part the traces of a window; `None` for all.
type Window = Vec<Option<RoaringBitmap>>;

/// The traces of all parts by the window that their first span begins in, earlier ones first. The
/// windows are as wide as `range`, doubled until there are at most `ranges_max` (or they cannot grow).
fn windows(parts: &[Part], range: Duration, ranges_max: usize) -> Result<Vec<Window>> {
    let traces = parts.iter().map(|part| match part.source() {
        Source::Stage(stage) => stage.trace_starts(),
        Source::Image(image) => {
            let traces = image.traces()?.into_iter();
            Ok(traces.map(|trace| (trace.id, trace.start)).collect())
        }
    });
    let traces = traces.collect::<Result<Vec<Vec<(TraceId, i64)>>>>()?;
    let mut starts: HashMap<TraceId, i64> = HashMap::new();
    for (id, start) in traces.iter().flatten() {
        let held = starts.entry(*id).or_insert(*start);
        *held = (*held).min(*start);
    }
    let mut sorted: Vec<i64> = starts.values().copied().collect();
    sorted.sort_unstable();
    let mut width = nanos(range).max(1);
    let numbers = |width: i64| {
        let mut numbers: Vec<i64> = sorted.iter().map(|start| start.div_euclid(width)).collect();
        numbers.dedup();
        numbers
    };
    let mut found = numbers(width);
    while found.len() > ranges_max.max(1) && width <= i64::MAX / 2 {
        width *= 2;
        found = numbers(width);
    }
    if found.len() == 1 {
        return Ok(vec![vec![None; parts.len()]]);
    }
    let mut windows = vec![vec![Some(RoaringBitmap::new()); parts.len()]; found.len()];
    for (part, traces) in traces.iter().enumerate() {
        for (place, (id, start)) in (0u32..).zip(traces) {
            let start = starts.get(id).copied().unwrap_or(*start);
            let window = found.partition_point(|number| *number < start.div_euclid(width));
            if let Some(Some(taken)) = windows[window].get_mut(part) {
                taken.insert(place);
            }
        }
    }
    Ok(windows)
}
