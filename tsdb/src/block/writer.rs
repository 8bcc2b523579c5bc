//! Writes a block: series in label order, each with its samples in the block's range.

use std::path::Path;
use std::sync::Arc;

use trine_storage::codec::{put_bytes, put_u32, put_varint};
use trine_storage::frozen_index::FrozenWriter;
use trine_storage::fs::Fs;
use trine_storage::sealed::{PageRef, SealedWriter};
use trine_storage::{Error, Kind, Labels, Result};

use super::format::{self, COLUMN_ROWS_MAX, PAGE_BYTES};
use super::run::{self, Effort};
use super::times::Times;
use crate::chunk::starts::encode_starts;
use crate::columns::Columns;
use crate::exemplar::{Exemplar, ExemplarWriter};
use crate::histogram::encode_run;
use crate::sample::{Value, Values};

/// A block that is being written.
pub(crate) struct BlockWriter {
    pages: Pages,
    index: FrozenWriter,
    effort: Effort,
    /// Section of the series.
    series: Vec<u8>,
    /// Columns of timestamps that were written, and the section that says where.
    times: Times,
    time_places: Vec<u8>,
    exemplars: ExemplarWriter,
    series_count: u32,
    samples: u64,
}

/// What a finished block holds.
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) samples: u64,
    pub(crate) series: u32,
}

impl BlockWriter {
    pub(crate) fn create(fs: &dyn Fs, path: &Path, effort: Effort) -> Result<Self> {
        Ok(Self {
            pages: Pages::new(SealedWriter::create(fs, path, format::KIND)?),
            index: FrozenWriter::new(),
            effort,
            series: Vec::new(),
            times: Times::default(),
            time_places: Vec::new(),
            exemplars: ExemplarWriter::default(),
            series_count: 0,
            samples: 0,
        })
    }

    /// Adds a series, which must come after those before it in label order and have samples or
    /// exemplars.
    pub(crate) fn series(
        &mut self,
        labels: &Labels,
        samples: &Columns,
        exemplars: &[Exemplar],
    ) -> Result<()> {
        let times = self.times(&samples.timestamps)?;
        let mut values = Vec::new();
        let kind = self.values(&samples.values, &mut values)?;
        let started = samples.starts.iter().any(|start| *start != 0);
        let (page, offset) = self.pages.place()?;
        put_u32(&mut self.series, page);
        put_u32(&mut self.series, offset);
        let out = &mut self.pages.buffer;
        let flag = if started { format::STARTED } else { 0 };
        put_varint(out, kind << format::KIND_SHIFT | flag);
        put_varint(out, u64::from(times));
        put_bytes(out, &values);
        if started {
            let mut starts = Vec::new();
            encode_starts(&samples.starts, &samples.timestamps, &mut starts);
            put_bytes(out, &starts);
        }
        self.index.push(labels);
        let (place, file) = (self.series_count, &mut self.pages.file);
        self.exemplars.series(place, exemplars, file)?;
        self.series_count += 1;
        self.samples += samples.len() as u64;
        Ok(())
    }

    /// Appends a column of values. Gives its kind.
    fn values(&self, values: &Values, out: &mut Vec<u8>) -> Result<u64> {
        Ok(match values {
            Values::Floats(values) => {
                run::encode_floats(values, self.effort, out);
                format::FLOATS
            }
            Values::Histograms(values) => {
                encode_run(values, out)?;
                format::HISTOGRAMS
            }
            Values::Mixed(values) => match Values::Mixed(values.clone()).pure() {
                Values::Mixed(values) => {
                    self.mixed(&values, out)?;
                    format::MIXED
                }
                pure => self.values(&pure, out)?,
            },
        })
    }

    /// Appends which rows are histograms, the floats, the histograms.
    fn mixed(&self, values: &[Value], out: &mut Vec<u8>) -> Result<()> {
        let (mut rows, mut floats, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
        for (row, value) in (0i64..).zip(values) {
            match value {
                Value::Float(value) => floats.push(*value),
                Value::Histogram(histogram) => {
                    rows.push(row);
                    histograms.push(Arc::clone(histogram));
                }
            }
        }
        put_varint(out, rows.len() as u64);
        let mut column = Vec::new();
        run::encode_integers(&rows, self.effort, &mut column);
        put_bytes(out, &column);
        column.clear();
        run::encode_floats(&floats, self.effort, &mut column);
        put_bytes(out, &column);
        column.clear();
        encode_run(&histograms, &mut column)?;
        put_bytes(out, &column);
        Ok(())
    }

    /// The number of the column with these timestamps, which is written if it is new.
    fn times(&mut self, timestamps: &[i64]) -> Result<u32> {
        if let Some(number) = self.times.find(timestamps) {
            return Ok(number);
        }
        let rows = u32::try_from(timestamps.len())
            .ok()
            .filter(|rows| *rows <= COLUMN_ROWS_MAX);
        let rows = rows.ok_or_else(|| {
            let what = format!("a series has {} samples in one block", timestamps.len());
            Error::new(Kind::Limit, what)
        })?;
        let (page, offset) = self.pages.place()?;
        for number in [page, offset, rows] {
            put_u32(&mut self.time_places, number);
        }
        let mut column = Vec::new();
        run::encode_integers(timestamps, self.effort, &mut column);
        put_bytes(&mut self.pages.buffer, &column);
        Ok(self.times.add(timestamps))
    }

    /// Completes and syncs the file.
    pub(crate) fn finish(self) -> Result<Written> {
        let (mut file, pages) = self.pages.finish()?;
        file.section(format::INDEX, &self.index.finish()?)?;
        file.section(format::SERIES, &self.series)?;
        file.section(format::TIMES, &self.time_places)?;
        file.section(format::PAGES, &pages)?;
        self.exemplars.finish(&mut file)?;
        Ok(Written {
            bytes: file.finish()?,
            samples: self.samples,
            series: self.series_count,
        })
    }
}

/// Packs runs and columns into pages.
struct Pages {
    file: SealedWriter,
    buffer: Vec<u8>,
    written: Vec<PageRef>,
}

impl Pages {
    fn new(file: SealedWriter) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Where what is put into the buffer next will lie.
    fn place(&mut self) -> Result<(u32, u32)> {
        if self.buffer.len() >= PAGE_BYTES {
            self.flush()?;
        }
        let number = |n: usize| {
            let what = "a block has more pages than it can number";
            u32::try_from(n).map_err(|_| Error::new(Kind::Limit, what))
        };
        Ok((number(self.written.len())?, number(self.buffer.len())?))
    }

    fn flush(&mut self) -> Result<()> {
        self.written.push(self.file.page(&self.buffer)?);
        self.buffer.clear();
        Ok(())
    }

    /// The file and the section of the pages.
    fn finish(mut self) -> Result<(SealedWriter, Vec<u8>)> {
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        let mut table = Vec::new();
        for page in &self.written {
            page.put(&mut table);
        }
        Ok((self.file, table))
    }
}
