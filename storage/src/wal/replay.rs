//! Reading a log back at open: which records there are, what was torn, what is damaged.

use std::collections::VecDeque;
use std::path::Path;

use super::Segment;
use super::frame::{self, SegmentReport};
use crate::error::{Error, Kind, Result};
use crate::fs::{Fs, read_if_exists};

/// What [`Wal::open`](super::Wal::open) read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// The position after the last record.
    pub end: u64,
    /// Records given to the caller.
    pub records: u64,
    /// Bytes of all segments that were read.
    pub bytes: u64,
    /// Bytes cut off the end of the last segment: a write that was never acknowledged.
    pub torn_bytes: u64,
    /// What could not be read although it may have been acknowledged: a sentence for each place.
    pub damaged: Vec<String>,
}

/// Takes what a log holds when it is opened.
pub trait Replayer {
    /// Takes a record.
    ///
    /// # Errors
    /// Whatever ends the opening of the log.
    fn record(&mut self, position: u64, record: &[u8]) -> Result<()>;

    /// Hears how many bytes of all were read, after each segment.
    fn progress(&mut self, _read_bytes: u64, _total_bytes: u64) {}
}

impl<F: FnMut(u64, &[u8]) -> Result<()>> Replayer for F {
    fn record(&mut self, position: u64, record: &[u8]) -> Result<()> {
        self(position, record)
    }
}

/// Replays all segments of `dir`. Gives what was read, the segments that stay, and the sequence of
/// the next segment.
pub(super) fn run(
    fs: &dyn Fs,
    dir: &Path,
    from: u64,
    replayer: &mut dyn Replayer,
) -> Result<(Replay, VecDeque<Segment>, u64)> {
    let entries = fs
        .list(dir)
        .map_err(|e| Error::io(format!("list {}", dir.display()), e))?;
    let total_bytes = entries.iter().map(|entry| entry.len).sum();
    for entry in entries.iter().filter(|entry| frame::is_spare(&entry.name)) {
        let path = dir.join(&entry.name);
        fs.remove_file(&path)
            .map_err(|e| Error::io(format!("remove {}", path.display()), e))?;
    }
    let names: Vec<(u64, String)> = entries
        .into_iter()
        .filter_map(|entry| Some((frame::sequence_of(&entry.name)?, entry.name)))
        .collect();
    let last_sequence = names.last().map(|(sequence, _)| *sequence);
    let mut replay = Replay::default();
    let mut kept = VecDeque::new();
    for (sequence, name) in &names {
        let path = dir.join(name);
        let is_last = Some(*sequence) == last_sequence;
        let shown = path.display().to_string();
        let read = read_if_exists(fs, &path).map_err(|e| Error::io(format!("read {shown}"), e))?;
        let Some(bytes) = read else { continue };
        let len = bytes.len() as u64;
        replay.bytes += len;
        let mut given = 0;
        let report = frame::read_segment(&shown, &bytes, &mut |position, record| {
            if position < from {
                return Ok(());
            }
            given += 1;
            replayer.record(position, record)
        });
        // The mapping must be gone before the file is cut.
        drop(bytes);
        replayer.progress(replay.bytes, total_bytes);
        replay.records += given;
        let unbegun = match &report {
            Ok(report) => report.is_headless,
            Err(error) => error.kind() == Kind::Corrupt,
        };
        // The process died while it began this segment: no record was in it yet, but there may be
        // some of an earlier life of its file, which are in blocks.
        if unbegun && is_last && given == 0 {
            replay.torn_bytes += len;
            fs.remove_file(&path)
                .map_err(|e| Error::io(format!("remove {shown}"), e))?;
            // Else it may be back beside newer ones, and look like damage.
            fs.sync_dir(dir)
                .map_err(|e| Error::io(format!("sync {}", dir.display()), e))?;
            continue;
        }
        let report = match report {
            Ok(report) => report,
            Err(error) if error.kind() == Kind::Corrupt => {
                replay.damaged.push(error.to_string());
                kept.push_back(Segment {
                    path,
                    end: replay.end,
                    bytes: len,
                });
                continue;
            }
            Err(error) => return Err(error),
        };
        note_damage(&mut replay, &shown, &report, from);
        if report.good_bytes < len {
            if is_last {
                if !report.is_reused {
                    replay.torn_bytes += len - report.good_bytes;
                }
                fs.truncate(&path, report.good_bytes)
                    .map_err(|e| Error::io(format!("cut {shown}"), e))?;
            } else {
                let at = report.good_bytes;
                replay
                    .damaged
                    .push(format!("{shown} is damaged from byte {at} to its end"));
            }
        }
        replay.end = replay.end.max(report.end);
        kept.push_back(Segment {
            path,
            end: report.end,
            bytes: report.good_bytes,
        });
    }
    Ok((replay, kept, last_sequence.map_or(1, |last| last + 1)))
}

/// Tells what a segment has lost; records before `from` are not missed.
fn note_damage(replay: &mut Replay, shown: &str, report: &SegmentReport, from: u64) {
    for (start, end) in &report.damaged {
        replay.damaged.push(format!(
            "{shown} is damaged from byte {start} to byte {end}"
        ));
    }
    let known = replay.end.max(from);
    if report.first > known {
        replay.damaged.push(format!(
            "records {known} to {} are missing before {shown}",
            report.first - 1
        ));
    }
}
