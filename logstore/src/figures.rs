//! What a snapshot tells of streams without giving entries: how much there is, names and values of
//! structured metadata from its columns. Called by `snapshot`.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use trine_storage::{Labels, Matcher, Result, TimeRange};

use crate::block::format::{ChunkHeader, Run};
use crate::block::reader::BlockFile;
use crate::buffer::View;
use crate::columns::Columns;
use crate::scan::Place;
use crate::tombstone::{Hidden, Veils};

/// How much there is of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The stream.
    pub labels: Labels,
    /// Its entries.
    pub entries: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// How much there is of some streams together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams that have entries.
    pub streams: u64,
    /// Chunks of blocks, and pages of memory, that may hold some of the entries.
    pub chunks: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// Names or values that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In order, as many as were asked for at most.
    pub texts: Vec<String>,
    /// There are more; which were left out is not said.
    pub truncated: bool,
}

/// Which streams and times are asked for, and what of them is not to be seen.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) matchers: &'a [Matcher],
    pub(crate) range: TimeRange,
    pub(crate) hidden: &'a Hidden,
}

/// A place with the streams that were asked for.
struct Selected {
    streams: RoaringBitmap,
    veils: Veils,
}

impl Selection<'_> {
    fn of(&self, place: &Place, streams: RoaringBitmap, labels: &[(u32, Labels)]) -> Selected {
        let veil = place.veil(self.hidden, self.range);
        let veils = Veils::new(&veil, labels.iter().map(|(code, labels)| (*code, labels)));
        Selected { streams, veils }
    }

    fn of_memory(&self, place: &Place, view: &View) -> Selected {
        let streams = view.select(self.matchers);
        let labels = view.labels_of(&streams);
        self.of(place, streams, &labels)
    }

    /// The rows of a page of memory.
    fn rows_of_page(&self, selected: &Selected, columns: &Columns) -> Vec<u32> {
        let rows = 0..u32::try_from(columns.rows()).unwrap_or(u32::MAX);
        let wanted = |&row: &u32| {
            let row = row as usize;
            self.range.contains(columns.timestamps[row])
                && selected.streams.contains(columns.streams[row])
        };
        let mut rows: Vec<u32> = rows.filter(wanted).collect();
        selected.veils.retain(columns, &mut rows);
        rows
    }

    fn overlaps(&self, selected: &Selected, run: &Run) -> bool {
        run.range().overlaps(&self.range)
            && selected.streams.contains(run.stream)
            && !selected
                .veils
                .of(run.stream)
                .is_some_and(|veil| veil.covers(run.range()))
    }

    /// Whether every entry of a run is asked for.
    fn is_whole(&self, selected: &Selected, run: &Run) -> bool {
        let inside = self.range.contains(run.first) && self.range.contains(run.last);
        let veil = selected.veils.of(run.stream);
        inside && !veil.is_some_and(|veil| veil.touches(run.range()))
    }

    /// The rows of a chunk.
    fn rows_of_chunk(
        &self,
        selected: &Selected,
        file: &BlockFile,
        header: &ChunkHeader,
    ) -> Result<Vec<u32>> {
        let mut columns = Columns {
            timestamps: file.timestamps(header)?,
            ..Columns::default()
        };
        let mut rows = Vec::new();
        for run in &header.runs {
            let start = columns.streams.len();
            columns
                .streams
                .resize(start + run.rows as usize, run.stream);
            if self.overlaps(selected, run) {
                let of_run = (0u32..).zip(&columns.timestamps).skip(start);
                let of_run = of_run.take(run.rows as usize);
                let inside = of_run.filter(|(_, at)| self.range.contains(**at));
                rows.extend(inside.map(|(row, _)| row));
            }
        }
        let needs = selected.veils.needs(&columns, &rows);
        needs.load(file, header, &mut columns)?;
        selected.veils.retain(&columns, &mut rows);
        Ok(rows)
    }
}

/// Names of structured metadata, or the values of one name.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    /// Whose values; `None` for the names.
    name: Option<&'a str>,
    max: usize,
    texts: BTreeSet<String>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(name: Option<&'a str>, max: usize) -> Self {
        Self {
            name,
            max,
            texts: BTreeSet::new(),
        }
    }

    /// Whether there are more than were asked for.
    pub(crate) fn is_full(&self) -> bool {
        self.texts.len() > self.max
    }

    pub(crate) fn finish(self) -> Found {
        Found {
            truncated: self.is_full(),
            texts: self.texts.into_iter().take(self.max).collect(),
        }
    }

    fn insert(&mut self, text: &str) {
        if !self.is_full() && !self.texts.contains(text) {
            self.texts.insert(text.to_owned());
        }
    }

    fn insert_set(&mut self, set: &Labels) {
        for (name, value) in set {
            match self.name {
                None => self.insert(name),
                Some(wanted) if wanted == name => self.insert(value),
                Some(_) => {}
            }
        }
    }

    /// Adds what a place holds, until there is more than was asked for.
    pub(crate) fn add(&mut self, place: &Place, selection: &Selection<'_>) -> Result<()> {
        match place {
            Place::Memory(view) => {
                let selected = selection.of_memory(place, view);
                for page in view.pages() {
                    let rows = selection.rows_of_page(&selected, &page.columns);
                    let sets = rows.iter().map(|&row| page.columns.set_code(row as usize));
                    for set in sets.collect::<BTreeSet<u32>>() {
                        self.insert_set(&page.columns.sets.labels(set));
                    }
                }
            }
            Place::Block(block) => {
                let tables = block.reader.tables()?;
                let streams = tables.select(selection.matchers)?;
                let labels = tables.labels_of(&streams)?;
                let selected = selection.of(place, streams, &labels);
                for header in &tables.chunks {
                    if self.is_full() {
                        return Ok(());
                    }
                    self.add_chunk(&block.reader, header, selection, &selected)?;
                }
            }
        }
        Ok(())
    }

    fn add_chunk(
        &mut self,
        file: &BlockFile,
        header: &ChunkHeader,
        selection: &Selection<'_>,
        selected: &Selected,
    ) -> Result<()> {
        if !header.range.overlaps(&selection.range)
            || !header
                .runs
                .iter()
                .any(|run| selection.overlaps(selected, run))
        {
            return Ok(());
        }
        let Some(metadata) = file.metadata(header)? else {
            return Ok(());
        };
        let mut runs = header.runs.iter();
        let all = runs.all(|run| selection.is_whole_and_asked(selected, run));
        let names: Vec<&str> = match self.name {
            Some(name) => vec![name],
            None if all => {
                metadata.names().for_each(|name| self.insert(name));
                return Ok(());
            }
            None => metadata.names().collect(),
        };
        let rows = match all {
            true => (0..header.rows).collect(),
            false => selection.rows_of_chunk(selected, file, header)?,
        };
        for name in names {
            let Some(column) = metadata.column(name)? else {
                continue;
            };
            let codes = rows
                .iter()
                .filter_map(|&row| column.codes.get(row as usize));
            let codes: BTreeSet<u32> = codes.copied().filter(|&code| code > 0).collect();
            match self.name {
                Some(_) => codes
                    .iter()
                    .for_each(|&code| self.insert(column.value(code))),
                None if codes.is_empty() => {}
                None => self.insert(name),
            }
        }
        Ok(())
    }
}

impl Selection<'_> {
    fn is_whole_and_asked(&self, selected: &Selected, run: &Run) -> bool {
        selected.streams.contains(run.stream) && self.is_whole(selected, run)
    }
}
