//! A file in memory: what engines keep in the form of a file before it becomes one.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{ReadFile, WriteFile};

/// A file that is written front to back in memory, then read.
#[derive(Debug, Default)]
pub struct MemoryFile {
    bytes: Arc<Mutex<Vec<u8>>>,
}

#[derive(Debug)]
struct Writer {
    bytes: Arc<Mutex<Vec<u8>>>,
}

#[derive(Debug)]
struct Reader {
    bytes: Bytes,
}

impl MemoryFile {
    /// A file that holds these bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Arc::new(Mutex::new(bytes)),
        }
    }

    /// What appends to the file.
    pub fn writer(&self) -> Box<dyn WriteFile> {
        Box::new(Writer {
            bytes: Arc::clone(&self.bytes),
        })
    }

    /// What was written; nothing may be written after this.
    pub fn finish(self) -> Arc<dyn ReadFile> {
        let bytes = std::mem::take(&mut *self.bytes.lock());
        Arc::new(Reader {
            bytes: bytes.into(),
        })
    }
}

impl WriteFile for Writer {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.lock().extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadFile for Reader {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        let read = |range: &Range<u64>| {
            let start = usize::try_from(range.start).ok();
            let end = usize::try_from(range.end).ok();
            let ends = start.zip(end);
            let held = ends.filter(|(start, end)| start <= end && *end <= self.bytes.len());
            held.map(|(start, end)| self.bytes.slice(start..end))
                .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        ranges.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_beyond() {
        let file = MemoryFile::default();
        let mut writer = file.writer();
        writer.write_all(b"abc").unwrap();
        writer.write_all(b"def").unwrap();
        writer.sync().unwrap();
        let file = file.finish();
        assert_eq!(file.len(), 6);
        assert_eq!(file.read(&[1..4, 6..6]).unwrap(), ["bcd", ""]);
        for range in [5..7, 7..8, u64::MAX - 1..u64::MAX] {
            let error = file.read(&[range]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
