//! Shipping a file: in parts, within a bandwidth and a bound of memory, looked at afterwards.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bucket::{Bucket, refused, wait};
use super::counters::Verb;
use super::failure::{Failure, Reason};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fs::{ReadFile, WriteFile};

/// Bytes of a part, unless the file would have too many.
pub const PART_BYTES: u64 = 8 << 20;
/// Parts of a file: the stores' limit is 10,000.
const PARTS_MAX: u64 = 9_000;
/// How much of either end of an object is read back and compared.
const COMPARED_BYTES: u64 = 64 << 10;

/// How fast and with how much memory files are uploaded, all uploads of a process together; another one
/// says how fast copies are fetched.
#[derive(Debug)]
pub struct Throttle {
    clock: Arc<dyn Clock>,
    bytes_per_second: Option<u64>,
    parts: Arc<Semaphore>,
    /// When the bandwidth is free again, monotonic nanoseconds.
    free_ns: AtomicU64,
}

impl Throttle {
    /// At most `bytes_per_second` (nothing for no limit), and `parts_max` parts of [`PART_BYTES`] in
    /// memory at a time (at least one).
    pub fn new(clock: Arc<dyn Clock>, bytes_per_second: Option<u64>, parts_max: usize) -> Self {
        Self {
            clock,
            bytes_per_second,
            parts: Arc::new(Semaphore::new(parts_max.max(1))),
            free_ns: AtomicU64::new(0),
        }
    }

    /// Takes its share of the bandwidth; gives how long to wait before it is used.
    pub(super) fn reserve(&self, bytes: u64) -> Duration {
        let Some(rate) = self.bytes_per_second else {
            return Duration::ZERO;
        };
        let takes = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let takes = u64::try_from(takes).unwrap_or(u64::MAX);
        let now = self.clock.monotonic_ns();
        let mut free = self.free_ns.load(Ordering::Relaxed);
        loop {
            let from = free.max(now);
            let until = from.saturating_add(takes);
            let swapped = self.free_ns.compare_exchange_weak(
                free,
                until,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Duration::from_nanos(from - now),
                Err(changed) => free = changed,
            }
        }
    }
}

/// Whether to go on.
type Check<'a> = &'a dyn Fn() -> Result<()>;

/// What an upload did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    /// Bytes of the object.
    pub bytes: u64,
    /// Parts that were sent; 0 when an earlier upload had come to its end already.
    pub parts: u64,
}

impl Bucket {
    /// Makes the object `key` of a file that no longer changes, unless it is there already, and looks
    /// whether it is what the file is: its length, and the first and last 64 KiB. Every part is
    /// sent with a checksum that S3 checks; other stores are trusted with what TLS delivers. May be
    /// done again after any failure. The file is read on the calling thread.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable), [`Kind::Corrupt`](crate::Kind::Corrupt) when the
    /// object is not what the file is, [`Kind::Io`](crate::Kind::Io) when the file cannot be read.
    pub fn upload(&self, key: &str, file: &dyn ReadFile, throttle: &Throttle) -> Result<Uploaded> {
        self.upload_while(key, file, throttle, &|| Ok(()))
    }

    /// As [`Bucket::upload`]; `check` is asked before each part, and its error ends the upload.
    ///
    /// # Errors
    /// As [`Bucket::upload`], and those of `check`.
    pub fn upload_while(
        &self,
        key: &str,
        file: &dyn ReadFile,
        throttle: &Throttle,
        check: Check<'_>,
    ) -> Result<Uploaded> {
        check()?;
        let bytes = file.len();
        let there = self.head(key)?.is_some_and(|object| object.bytes == bytes);
        if there && self.compare(key, file)? {
            return Ok(Uploaded { bytes, parts: 0 });
        }
        let parts = self.send(key, file, throttle, check)?;
        if self.compare(key, file)? {
            return Ok(Uploaded { bytes, parts });
        }
        Err(refused(
            format_args!("upload {key} to {}", self.name()),
            Reason::Damaged,
            "what the store gives back is not what was sent; it is sent again",
        ))
    }

    /// Writes the `bytes` of the object `key` to a file, without syncing it. `check` is asked before each
    /// piece, and told how long that is; its error ends the download.
    pub(super) fn download_while(
        &self,
        key: &str,
        bytes: u64,
        to: &mut dyn WriteFile,
        check: &dyn Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let mut at = 0;
        while at < bytes {
            let end = bytes.min(at + PART_BYTES);
            check(end - at)?;
            let piece = self.get_range(key, at..end)?;
            to.write_all(&piece)
                .map_err(|e| Error::io(format!("write a copy of {key}"), e))?;
            at = end;
        }
        Ok(())
    }

    fn send(
        &self,
        key: &str,
        file: &dyn ReadFile,
        throttle: &Throttle,
        check: Check<'_>,
    ) -> Result<u64> {
        let len = file.len();
        let part_bytes = PART_BYTES.max(len.div_ceil(PARTS_MAX));
        if len <= part_bytes {
            let (bytes, permit) = self.part(key, file, throttle, 0..len)?;
            let pause = throttle.reserve(len);
            let (this, path) = (self.clone(), self.path(key));
            self.run("upload", key, async move {
                let _permit = permit;
                this.rest(pause).await;
                let payload = PutPayload::from(bytes);
                this.ask(Verb::Put, || {
                    this.backend().store.put(&path, payload.clone())
                })
                .await?;
                this.counters().sent(payload.content_length() as u64);
                Ok(())
            })?;
            return Ok(1);
        }
        let ranges = (0..len.div_ceil(part_bytes))
            .map(|i| i * part_bytes..len.min((i + 1) * part_bytes))
            .collect::<Vec<_>>();
        match &self.backend().parts {
            Some(store) => self.send_parts(key, file, (throttle, check), &ranges, store)?,
            None => self.send_in_order(key, file, (throttle, check), &ranges)?,
        }
        Ok(ranges.len() as u64)
    }

    /// A part of the file, once there is memory for it.
    fn part(
        &self,
        key: &str,
        file: &dyn ReadFile,
        throttle: &Throttle,
        range: Range<u64>,
    ) -> Result<(Bytes, OwnedSemaphorePermit)> {
        let permit = wait(self.handle(), Arc::clone(&throttle.parts).acquire_owned())
            .and_then(|permit| permit.map_err(|_| Failure::new(Reason::Runtime, "")))
            .map_err(|failure| failure.during(format_args!("upload {key}")))?;
        Ok((read_local(key, file, range)?, permit))
    }

    /// In parallel, each part repeated by itself.
    fn send_parts(
        &self,
        key: &str,
        file: &dyn ReadFile,
        (throttle, check): (&Throttle, Check<'_>),
        ranges: &[Range<u64>],
        store: &Arc<dyn MultipartStore>,
    ) -> Result<()> {
        let path = self.path(key);
        let id = {
            let (this, store, path) = (self.clone(), Arc::clone(store), path.clone());
            self.run("begin to upload", key, async move {
                this.ask(Verb::Put, || store.create_multipart(&path)).await
            })?
        };
        let abort = || {
            let (this, store, path, id) =
                (self.clone(), Arc::clone(store), path.clone(), id.clone());
            // If this fails the parts stay until a rule of the bucket removes them.
            self.run("give up", key, async move {
                this.attempt(Verb::Delete, store.abort_multipart(&path, &id))
                    .await
            })
            .ok();
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut begun = 0;
        let mut failed = None;
        for (i, range) in ranges.iter().enumerate() {
            // What has failed by now fails the whole.
            let part = check().and_then(|()| self.part(key, file, throttle, range.clone()));
            let (bytes, permit) = match part {
                Ok(part) => part,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            let pause = throttle.reserve(bytes.len() as u64);
            let (this, store, path, id) =
                (self.clone(), Arc::clone(store), path.clone(), id.clone());
            let sender = sender.clone();
            self.handle().spawn(async move {
                let _permit = permit;
                this.rest(pause).await;
                let payload = PutPayload::from(bytes);
                let put = || store.put_part(&path, &id, i, payload.clone());
                let done = this.ask(Verb::Put, put).await;
                if done.is_ok() {
                    this.counters().sent(payload.content_length() as u64);
                }
                sender.send((i, done)).ok();
            });
            begun += 1;
        }
        drop(sender);
        let mut done: Vec<(usize, PartId)> = Vec::with_capacity(begun);
        for (i, part) in &receiver {
            match part {
                Ok(part) => done.push((i, part)),
                Err(failure) => {
                    let what = format!("upload part {i} of {key} to {}", self.name());
                    failed.get_or_insert(failure.during(what));
                }
            }
        }
        if failed.is_none() && done.len() < ranges.len() {
            let words = "the runtime was shut down";
            failed = Some(refused(
                format_args!("upload {key}"),
                Reason::Runtime,
                words,
            ));
        }
        if let Some(error) = failed {
            abort();
            return Err(error);
        }
        done.sort_by_key(|(i, _)| *i);
        let parts: Vec<PartId> = done.into_iter().map(|(_, part)| part).collect();
        let completed = {
            let (this, store, path, id) =
                (self.clone(), Arc::clone(store), path.clone(), id.clone());
            self.run("finish the upload of", key, async move {
                let complete = || store.complete_multipart(&path, &id, parts.clone());
                this.ask(Verb::Put, complete).await
            })
        };
        match completed {
            Ok(_) => Ok(()),
            // The answer to a success may have been lost; the comparison that follows decides.
            Err(_) if self.head(key)?.is_some_and(|o| o.bytes == file.len()) => Ok(()),
            Err(error) => {
                abort();
                Err(error)
            }
        }
    }

    /// One after another, for stores that have no other way.
    fn send_in_order(
        &self,
        key: &str,
        file: &dyn ReadFile,
        (throttle, check): (&Throttle, Check<'_>),
        ranges: &[Range<u64>],
    ) -> Result<()> {
        let path = self.path(key);
        let begin = {
            let (this, path): (_, Path) = (self.clone(), path.clone());
            self.run("begin to upload", key, async move {
                this.ask(Verb::Put, || this.backend().store.put_multipart(&path))
                    .await
            })
        };
        let mut upload = begin?;
        for range in ranges {
            check()?;
            let (bytes, permit) = self.part(key, file, throttle, range.clone())?;
            let pause = throttle.reserve(bytes.len() as u64);
            let this = self.clone();
            let sent = self.run("upload a part of", key, async move {
                let _permit = permit;
                this.rest(pause).await;
                let len = bytes.len() as u64;
                let put = upload.put_part(PutPayload::from(bytes));
                if let Err(failure) = this.attempt(Verb::Put, put).await {
                    upload.abort().await.ok();
                    return Err(failure);
                }
                this.counters().sent(len);
                Ok(upload)
            });
            upload = sent?;
        }
        let this = self.clone();
        self.run("finish the upload of", key, async move {
            this.attempt(Verb::Put, upload.complete()).await?;
            Ok(())
        })
    }

    /// Whether the object is what the file is, at both ends and in length.
    fn compare(&self, key: &str, file: &dyn ReadFile) -> Result<bool> {
        let len = file.len();
        if self.head(key)?.is_none_or(|object| object.bytes != len) {
            return Ok(false);
        }
        let ends = [
            0..len.min(COMPARED_BYTES),
            len.saturating_sub(COMPARED_BYTES)..len,
        ];
        let second = usize::from(len > COMPARED_BYTES);
        for range in ends.into_iter().take(1 + second) {
            if range.is_empty() {
                continue;
            }
            let local = read_local(key, file, range.clone())?;
            match self.get_range(key, range) {
                Ok(remote) if remote == local => {}
                Ok(_) => return Ok(false),
                Err(error) if Reason::of(&error) == Some(Reason::Damaged) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn read_local(key: &str, file: &dyn ReadFile, range: Range<u64>) -> Result<Bytes> {
    let what = format!(
        "read bytes {} to {} of what becomes {key}",
        range.start, range.end
    );
    let read = file.read(std::slice::from_ref(&range));
    let mut read = read.map_err(|e| Error::io(&what, e))?;
    read.pop()
        .ok_or_else(|| Error::io(&what, std::io::ErrorKind::UnexpectedEof.into()))
}

#[cfg(test)]
mod tests;
