//! The write-ahead log: what was acknowledged and is not yet in a block.
//!
//! Records are opaque bytes with consecutive numbers, their *positions*. Callers stage records
//! ([`Wal::append`], no I/O) and then wait for them ([`Wal::commit`]); whoever waits first writes
//! everything that is staged as one compressed frame and, if anyone asked for it, syncs once for
//! all (group commit). A failed write or sync poisons the log: nothing is ever written after it.
//!
//! Segments and frames are described in `FORMAT.md`, "Write-ahead log".

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::codec::put_varint;
use crate::error::{Error, Kind, Result};
use crate::fs::{Fs, WriteFile};

mod frame;
mod replay;
mod verify;

/// What each of the two buffers of a log keeps between writes: a thousand idle tenants should not
/// hold on to the largest batch they ever wrote.
const BUFFER_BYTES_KEPT: usize = 256 << 10;
/// The same for a log that writes over its segments, until it is idle ([`Wal::trim`]).
const BUSY_BUFFER_BYTES_KEPT: usize = 4 << 20;

pub use frame::read_segment;
pub use replay::{Replay, Replayer};
pub use verify::Verified;

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// The record was handed to the operating system: it survives a crash of the process, not a
    /// loss of power.
    Buffered,
    /// The record was synced: it survives a loss of power too.
    #[default]
    Synced,
}

/// How the frames of a log are stored. Every log is read, whatever its frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are: several times the bytes, written without a thought.
    None,
    /// By zstd, level 1, where that makes them smaller.
    #[default]
    Zstd,
}

/// Settings of a log.
#[derive(Debug, Clone)]
pub struct Config {
    /// How frames are stored. Default [`Compression::Zstd`].
    pub compression: Compression,
    /// A segment that reached this many bytes is closed and a new one begun. Default 16 MiB.
    pub segment_bytes: u64,
    /// How many bytes of segments that are done with are kept to be written over, which is several
    /// times as fast as writing new ones; [`Wal::trim`] lets go of them. Default 0.
    pub reused_bytes_max: u64,
    /// The largest record, in bytes. Default 64 MiB.
    pub record_bytes_max: usize,
    /// Staged bytes above which [`Wal::append`] waits for the writer. Default 32 MiB.
    pub staged_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            segment_bytes: 16 << 20,
            reused_bytes_max: 0,
            record_bytes_max: 64 << 20,
            staged_bytes_max: 32 << 20,
        }
    }
}

/// What a log holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes in all segments.
    pub bytes: u64,
    /// Number of segments.
    pub segments: usize,
    /// The position that the next record gets.
    pub next_position: u64,
    /// Whether a write failed, so that nothing is written until the log is opened again.
    pub is_poisoned: bool,
}

/// A write-ahead log in a directory of its own.
#[derive(Debug)]
pub struct Wal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    config: Config,
    state: Mutex<State>,
    /// Signalled whenever a writer is done.
    written: Condvar,
}

#[derive(Debug)]
struct State {
    next_position: u64,
    /// Room for the header of a frame, then records; empty when there are none.
    staged: Vec<u8>,
    staged_count: u32,
    /// All records before this position are with the operating system.
    written_before: u64,
    /// All records before this position are synced.
    synced_before: u64,
    /// Somebody asked that all records before this position be synced.
    sync_wanted_before: u64,
    /// Taken out while somebody writes.
    writer: Option<Writer>,
    closed: VecDeque<Segment>,
    /// How many [`Segments`] there are.
    held: u32,
    failed: Option<Error>,
}

/// The segments of a log at one moment. As long as this is held, what they hold does not change:
/// none is written over. They may be removed.
#[derive(Debug)]
pub struct Segments<'a> {
    wal: &'a Wal,
    segments: Vec<(PathBuf, u64)>,
}

impl Segments<'_> {
    /// Where each lies, and how many bytes of it are its own: what follows is of an earlier life of
    /// its file, or is not written yet.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, u64)> {
        let segments = self.segments.iter();
        segments.map(|(path, bytes)| (path.as_path(), *bytes))
    }
}

impl Drop for Segments<'_> {
    fn drop(&mut self) {
        self.wal.state.lock().held -= 1;
    }
}

/// A segment that is no longer written to.
#[derive(Debug, Clone)]
struct Segment {
    path: PathBuf,
    /// The position after the last record.
    end: u64,
    bytes: u64,
}

/// The open end of the log.
#[derive(Debug)]
struct Writer {
    next_sequence: u64,
    open: Option<OpenSegment>,
    /// Segments that are done with and will be written over.
    done: Vec<Segment>,
    /// The position of the next record when the log was last asked to let go of them.
    trimmed_at: u64,
    spare: Vec<u8>,
    encoder: frame::Encoder,
}

#[derive(Debug)]
struct OpenSegment {
    file: Box<dyn WriteFile>,
    path: PathBuf,
    bytes: u64,
    end: u64,
    /// Whether the file was written over, so that more may follow in it.
    is_reused: bool,
}

impl Wal {
    /// Opens the log in `dir`, creating it if it is missing, and gives every record from the
    /// position `from` on to `replayer` (a closure will do), in order.
    ///
    /// The torn end of the last segment (an unfinished write) is cut off. Damage in the middle is
    /// skipped, what follows it is replayed, and [`Replay::damaged`] says what was lost.
    ///
    /// # Errors
    /// [`Kind::Io`] when the directory cannot be read or written, [`Kind::Unsupported`] when a
    /// newer version wrote it, and whatever `replayer` gives.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        config: Config,
        from: u64,
        replayer: &mut dyn Replayer,
    ) -> Result<(Self, Replay)> {
        fs.create_dir_all(dir)
            .map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
        let (replay, closed, next_sequence) = replay::run(&*fs, dir, from, replayer)?;
        let next_position = from.max(replay.end);
        let state = State {
            next_position,
            staged: Vec::new(),
            staged_count: 0,
            written_before: next_position,
            synced_before: next_position,
            sync_wanted_before: 0,
            writer: Some(Writer {
                next_sequence,
                open: None,
                done: Vec::new(),
                trimmed_at: next_position,
                spare: Vec::new(),
                encoder: frame::Encoder::new(config.compression),
            }),
            closed,
            held: 0,
            failed: None,
        };
        let wal = Self {
            fs,
            dir: dir.to_owned(),
            config,
            state: Mutex::new(state),
            written: Condvar::new(),
        };
        Ok((wal, replay))
    }

    /// Stages a record and gives its position. Nothing is promised until [`Wal::commit`].
    ///
    /// # Errors
    /// [`Kind::Limit`] when the record is larger than `record_bytes_max`; [`Kind::Poisoned`]
    /// after a failed write. Then nothing was staged.
    pub fn append(&self, record: &[u8]) -> Result<u64> {
        self.append_parts(&[record])
    }

    /// Stages a record that lies in several pieces. As [`Wal::append`] otherwise.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn append_parts(&self, record: &[&[u8]]) -> Result<u64> {
        let len = record.iter().map(|part| part.len()).sum::<usize>();
        if len > self.config.record_bytes_max {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "a record of {len} bytes is larger than record_bytes_max ({} bytes); send less at a time",
                    self.config.record_bytes_max
                ),
            ));
        }
        let mut state = self.state.lock();
        while state.staged.len() > self.config.staged_bytes_max && state.failed.is_none() {
            let wanted = state.next_position;
            self.write_or_wait(&mut state, wanted);
        }
        if let Some(error) = &state.failed {
            return Err(poisoned(error));
        }
        let position = state.next_position;
        state.next_position += 1;
        state.staged_count += 1;
        if state.staged.is_empty() {
            state.staged.resize(frame::FRAME_HEADER_BYTES, 0);
        }
        put_varint(&mut state.staged, len as u64);
        for part in record {
            state.staged.extend_from_slice(part);
        }
        Ok(position)
    }

    /// Waits until the record at `position` and all before it have the promised `durability`.
    ///
    /// # Errors
    /// The write's or sync's own error ([`Kind::Io`]) for those who waited for it,
    /// [`Kind::Poisoned`] for all who come later.
    pub fn commit(&self, position: u64, durability: Durability) -> Result<()> {
        let wanted = position + 1;
        let mut state = self.state.lock();
        if durability == Durability::Synced {
            state.sync_wanted_before = state.sync_wanted_before.max(wanted);
        }
        let mut waited = false;
        loop {
            let done = match durability {
                Durability::Buffered => state.written_before >= wanted,
                Durability::Synced => state.synced_before >= wanted,
            };
            if done {
                return Ok(());
            }
            if let Some(error) = &state.failed {
                return Err(if waited {
                    error.clone()
                } else {
                    poisoned(error)
                });
            }
            waited = true;
            self.write_or_wait(&mut state, wanted);
        }
    }

    /// The position that the next record gets.
    pub fn next_position(&self) -> u64 {
        self.state.lock().next_position
    }

    /// Gives no position before `position` any more. Everything before it must be in blocks, and the
    /// catalog must say so already: a replay would miss the records that there never were. Nothing
    /// happens when the log is as far already.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when records are staged and not written yet, [`Kind::Poisoned`] after a failed
    /// write, [`Kind::Io`] when the open segment cannot be synced, which poisons the log.
    pub fn skip_to(&self, position: u64) -> Result<()> {
        let mut state = self.state.lock();
        while state.writer.is_none() {
            self.written.wait(&mut state);
        }
        if let Some(error) = &state.failed {
            return Err(poisoned(error));
        }
        if position <= state.next_position {
            return Ok(());
        }
        if state.staged_count > 0 {
            let what = format!(
                "records before {} are not written yet; the log cannot go on at {position}",
                state.next_position
            );
            return Err(Error::invalid(what));
        }
        // The next segment says at which position it begins.
        let open = state.writer.as_mut().and_then(|writer| writer.open.take());
        if let Some(open) = open {
            match self.close_segment(open) {
                Ok(closed) => state.closed.push_back(closed),
                Err(error) => {
                    state.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
        state.next_position = position;
        state.written_before = position;
        state.synced_before = position;
        Ok(())
    }

    /// Removes the segments whose records all lie before `position`. Everything before it must be
    /// in blocks that the catalog knows.
    ///
    /// # Errors
    /// [`Kind::Io`] when a segment cannot be removed; the log stays usable.
    pub fn truncate(&self, position: u64) -> Result<()> {
        let mut state = self.state.lock();
        while state.writer.is_none() {
            self.written.wait(&mut state);
        }
        let finished = state
            .writer
            .as_mut()
            .and_then(|writer| writer.open.take_if(|open| open.end <= position));
        if let Some(OpenSegment {
            path, end, bytes, ..
        }) = finished
        {
            state.closed.push_back(Segment { path, end, bytes });
        }
        let mut removed = false;
        while let Some(first) = state.closed.front()
            && first.end <= position
        {
            let first = first.clone();
            let free = state.held == 0;
            let writer = state.writer.as_mut().filter(|_| free);
            self.be_done_with(&first, writer.map(|writer| &mut writer.done))?;
            state.closed.pop_front();
            removed = true;
        }
        if removed {
            self.fs
                .sync_dir(&self.dir)
                .map_err(|e| Error::io(format!("sync {}", self.dir.display()), e))?;
        }
        Ok(())
    }

    /// Keeps a segment to be written over, or removes it.
    fn be_done_with(&self, segment: &Segment, done: Option<&mut Vec<Segment>>) -> Result<()> {
        let name = segment.path.file_name().and_then(|name| name.to_str());
        let sequence = name.and_then(frame::sequence_of);
        if let (Some(done), Some(sequence)) = (done, sequence) {
            let held: u64 = done.iter().map(|segment| segment.bytes).sum();
            if held + segment.bytes <= self.config.reused_bytes_max {
                let path = self.dir.join(frame::spare_name(sequence));
                self.fs
                    .rename(&segment.path, &path)
                    .map_err(|e| Error::io(format!("rename {}", segment.path.display()), e))?;
                done.push(Segment {
                    path,
                    ..segment.clone()
                });
                return Ok(());
            }
        }
        self.fs
            .remove_file(&segment.path)
            .map_err(|e| Error::io(format!("remove {}", segment.path.display()), e))
    }

    /// Lets go of the segments that are kept to be written over and of the memory of large writes,
    /// unless records were appended since this was last called.
    ///
    /// # Errors
    /// [`Kind::Io`] when a segment cannot be removed; the log stays usable.
    pub fn trim(&self) -> Result<()> {
        let mut state = self.state.lock();
        let position = state.next_position;
        // Somebody is writing: the log is not idle.
        let Some(writer) = state.writer.as_mut() else {
            return Ok(());
        };
        if std::mem::replace(&mut writer.trimmed_at, position) == position {
            writer.spare.shrink_to(BUFFER_BYTES_KEPT);
            writer.encoder.shrink_to(BUFFER_BYTES_KEPT);
            while let Some(Segment { path, .. }) = writer.done.pop() {
                self.fs
                    .remove_file(&path)
                    .map_err(|e| Error::io(format!("remove {}", path.display()), e))?;
            }
        }
        if state.staged.is_empty() {
            state.staged.shrink_to(BUFFER_BYTES_KEPT);
        }
        Ok(())
    }

    /// What the log holds.
    pub fn stats(&self) -> Stats {
        let state = self.state.lock();
        let open = state.writer.as_ref().and_then(|w| w.open.as_ref());
        let closed: u64 = state.closed.iter().map(|s| s.bytes).sum();
        Stats {
            bytes: closed + open.map_or(0, |o| o.bytes),
            segments: state.closed.len() + usize::from(open.is_some()),
            next_position: state.next_position,
            is_poisoned: state.failed.is_some(),
        }
    }

    /// The segments that there are now, to be read.
    pub fn segments(&self) -> Segments<'_> {
        let mut state = self.state.lock();
        while state.writer.is_none() {
            self.written.wait(&mut state);
        }
        state.held += 1;
        let closed = state.closed.iter();
        let mut segments: Vec<(PathBuf, u64)> = closed.map(|s| (s.path.clone(), s.bytes)).collect();
        let open = state.writer.as_ref().and_then(|w| w.open.as_ref());
        segments.extend(open.map(|open| (open.path.clone(), open.bytes)));
        Segments {
            wal: self,
            segments,
        }
    }

    /// Why the log refuses writes, if it does.
    pub fn failure(&self) -> Option<Error> {
        self.state.lock().failed.clone()
    }

    /// Writes all that is staged, or waits for the one who is writing. Returns with the lock held;
    /// the caller checks what has become true.
    fn write_or_wait(&self, state: &mut MutexGuard<'_, State>, wanted: u64) {
        let Some(mut writer) = state.writer.take() else {
            self.written.wait(state);
            return;
        };
        let mut batch = std::mem::replace(&mut state.staged, std::mem::take(&mut writer.spare));
        let count = std::mem::take(&mut state.staged_count);
        let end = state.next_position;
        let first = end - u64::from(count);
        let sync = state.sync_wanted_before > state.synced_before;
        debug_assert!(count > 0 || sync, "position {wanted} was never given out");

        let result = MutexGuard::unlocked(state, || {
            let written = if count == 0 {
                Ok(None)
            } else {
                self.write_frame(&mut writer, &mut batch, first, count)
            };
            let written = written.and_then(|closed| {
                match &mut writer.open {
                    Some(open) if sync => open
                        .file
                        .sync()
                        .map_err(|e| Error::io(format!("sync {}", open.path.display()), e))?,
                    _ => {}
                }
                Ok(closed)
            });
            writer.spare = batch;
            let kept = match self.config.reused_bytes_max {
                0 => BUFFER_BYTES_KEPT,
                _ => BUSY_BUFFER_BYTES_KEPT,
            };
            writer.spare.clear();
            writer.spare.shrink_to(kept);
            writer.encoder.shrink_to(kept);
            written
        });
        match result {
            Ok(closed) => {
                state.closed.extend(closed);
                state.written_before = end;
                if sync {
                    state.synced_before = end;
                }
            }
            Err(error) => state.failed = Some(error),
        }
        state.writer = Some(writer);
        self.written.notify_all();
    }

    /// Writes one frame, beginning a new segment when the open one is full. Gives the segment that
    /// was closed.
    fn write_frame(
        &self,
        writer: &mut Writer,
        batch: &mut [u8],
        first: u64,
        count: u32,
    ) -> Result<Option<Segment>> {
        let full = writer
            .open
            .take_if(|open| open.bytes >= self.config.segment_bytes);
        let closed = full.map(|full| self.close_segment(full)).transpose()?;
        let open = match &mut writer.open {
            Some(open) => open,
            empty => {
                let sequence = writer.next_sequence;
                writer.next_sequence += 1;
                let done = writer.done.pop();
                empty.insert(self.begin_segment(sequence, first, done.as_ref())?)
            }
        };
        let frame = writer.encoder.encode(batch, first, count)?;
        open.file
            .write_all(frame)
            .map_err(|e| Error::io(format!("write {}", open.path.display()), e))?;
        open.bytes += frame.len() as u64;
        open.end = first + u64::from(count);
        Ok(closed)
    }

    /// Closes a segment: what was only buffered in it must not be lost behind a synced record of the
    /// next one.
    fn close_segment(&self, mut full: OpenSegment) -> Result<Segment> {
        let synced = match full.is_reused {
            // Nothing of its earlier life may follow in a closed segment.
            true => self.fs.truncate(&full.path, full.bytes),
            false => full.file.sync(),
        };
        synced.map_err(|e| Error::io(format!("sync {}", full.path.display()), e))?;
        Ok(Segment {
            path: full.path,
            end: full.end,
            bytes: full.bytes,
        })
    }

    /// Begins a segment, in the file of one that is `done` with where there is one.
    fn begin_segment(
        &self,
        sequence: u64,
        first: u64,
        done: Option<&Segment>,
    ) -> Result<OpenSegment> {
        let path = self.dir.join(frame::segment_name(sequence));
        let begin = || {
            let mut file = match done {
                Some(done) => {
                    self.fs.rename(&done.path, &path)?;
                    self.fs.reuse(&path)?
                }
                None => self.fs.create(&path)?,
            };
            let header = frame::segment_header(sequence, first);
            file.write_all(&header)?;
            self.fs.sync_dir(&self.dir)?;
            Ok(OpenSegment {
                file,
                path: path.clone(),
                bytes: header.len() as u64,
                end: first,
                is_reused: done.is_some(),
            })
        };
        begin().map_err(|e| Error::io(format!("begin {}", path.display()), e))
    }
}

fn poisoned(cause: &Error) -> Error {
    Error::caused_by(
        Kind::Poisoned,
        format!("an earlier write failed, nothing is written until a restart: {cause}"),
        cause.clone(),
    )
}

#[cfg(test)]
mod tests;
