//! Reads a log from the first to the last byte, beside what is appended.

use std::path::Path;

use super::{Wal, read_segment};
use crate::fs::read_if_exists;
use crate::{Error, Result};

/// How often the log is read again when something was written meanwhile.
const ATTEMPTS: usize = 5;

/// What reading a whole log showed.
#[derive(Debug, Default)]
pub struct Verified {
    /// Records that were read.
    pub records: u64,
    /// What is damaged.
    pub errors: Vec<Error>,
}

impl Wal {
    /// Reads all there is and gives every record to `decode`, whose errors are damage, too. An end
    /// that is torn after a failed write is none: it is cut when the log is opened.
    pub fn verify(&self, decode: &mut dyn FnMut(&[u8]) -> Result<()>) -> Verified {
        for attempt in 1.. {
            let before = self.stats();
            let mut verified = Verified::default();
            for (path, bytes) in self.segments().iter() {
                match self.verify_segment(path, bytes, decode) {
                    Ok(found) => verified.records += found,
                    Err(error) => verified.errors.push(error),
                }
            }
            let is_still = self.stats() == before;
            if !verified.errors.is_empty() && !is_still && attempt < ATTEMPTS {
                continue;
            }
            // What was read while it was written may be half of it.
            if !is_still || self.failure().is_some() {
                verified.errors.clear();
            }
            return verified;
        }
        Verified::default()
    }

    /// Gives how many records there are in the first `len` bytes.
    fn verify_segment(
        &self,
        path: &Path,
        len: u64,
        decode: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<u64> {
        let name = path.display().to_string();
        let bytes =
            read_if_exists(&*self.fs, path).map_err(|e| Error::io(format!("read {name}"), e))?;
        // It may be cut off the log by now.
        let Some(bytes) = bytes else { return Ok(0) };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if bytes.len() < len {
            let at = bytes.len() as u64;
            return Err(Error::corrupt(&*name, at, "it is shorter than it was"));
        }
        let bytes = bytes.slice(..len);
        let read = read_segment(&name, &bytes, &mut |_, record| decode(record))?;
        let bad = |at: u64| Error::corrupt(&*name, at, "it is damaged here");
        if let Some((start, _)) = read.damaged.first() {
            return Err(bad(*start));
        }
        if read.good_bytes < bytes.len() as u64 {
            return Err(bad(read.good_bytes));
        }
        Ok(read.records)
    }
}
