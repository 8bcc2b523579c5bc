//! The container of every immutable block: pages, named sections, a footer, checksums.
//!
//! Engines write pages and remember their [`PageRef`]s in sections of their own; everything that
//! is read back is checked against its checksum. A block is one file, so that it can be shipped,
//! copied and dropped whole. See `FORMAT.md`, "Sealed file".

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Reader, put_u32, put_u64};
use crate::error::{Error, Kind, Result};
use crate::fs::{Fs, ReadFile, WriteFile};

const MAGIC: &[u8; 8] = b"TRINESEA";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 16;
const TRAILER_BYTES: u64 = 32;
/// How much is handed to the operating system at a time.
const WRITE_BYTES: usize = 256 << 10;

/// Where a page lies and what its checksum is. Sixteen bytes when stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRef {
    /// Offset in the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
    /// CRC-32 of the bytes.
    pub crc: u32,
}

impl PageRef {
    /// Appends the sixteen bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.offset);
        put_u32(out, self.len);
        put_u32(out, self.crc);
    }

    /// Reads the sixteen bytes.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when there are fewer.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            offset: reader.u64()?,
            len: reader.u32()?,
            crc: reader.u32()?,
        })
    }

    fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.len))
    }
}

/// Writes a sealed file from front to back.
#[derive(Debug)]
pub struct SealedWriter {
    file: Box<dyn WriteFile>,
    path: PathBuf,
    buffer: Vec<u8>,
    offset: u64,
    crc: crc32fast::Hasher,
    sections: BTreeMap<u32, PageRef>,
}

impl SealedWriter {
    /// Creates the file; `kind` says what is in it (four letters of the engine).
    ///
    /// # Errors
    /// [`Kind::Io`].
    pub fn create(fs: &dyn Fs, path: &Path, kind: [u8; 4]) -> Result<Self> {
        let file = fs
            .create(path)
            .map_err(|e| Error::io(format!("create {}", path.display()), e))?;
        Self::new(file, path, kind)
    }

    /// Begins a file that is still empty; errors call it `path`.
    ///
    /// # Errors
    /// [`Kind::Io`].
    pub fn new(file: Box<dyn WriteFile>, path: &Path, kind: [u8; 4]) -> Result<Self> {
        let mut writer = Self {
            file,
            path: path.to_owned(),
            buffer: Vec::with_capacity(WRITE_BYTES),
            offset: 0,
            crc: crc32fast::Hasher::new(),
            sections: BTreeMap::new(),
        };
        let mut header = MAGIC.to_vec();
        put_u32(&mut header, VERSION);
        header.extend_from_slice(&kind);
        writer.write(&header)?;
        Ok(writer)
    }

    /// Writes a page and tells where it lies.
    ///
    /// # Errors
    /// [`Kind::Io`]; [`Kind::Limit`] for a page of 4 GiB or more.
    pub fn page(&mut self, bytes: &[u8]) -> Result<PageRef> {
        let len = u32::try_from(bytes.len()).map_err(|_| {
            Error::new(
                Kind::Limit,
                format!("a page of {} bytes is too large", bytes.len()),
            )
        })?;
        let page = PageRef {
            offset: self.offset,
            len,
            crc: crc32fast::hash(bytes),
        };
        self.write(bytes)?;
        Ok(page)
    }

    /// Writes a page that is found again by its number.
    ///
    /// # Errors
    /// As [`SealedWriter::page`].
    pub fn section(&mut self, id: u32, bytes: &[u8]) -> Result<()> {
        let page = self.page(bytes)?;
        let previous = self.sections.insert(id, page);
        debug_assert!(previous.is_none(), "section {id} was written twice");
        Ok(())
    }

    /// Writes the footer and syncs the file. Gives its length. The name becomes durable when the
    /// directory is synced.
    ///
    /// # Errors
    /// [`Kind::Io`].
    pub fn finish(mut self) -> Result<u64> {
        let footer_offset = self.offset;
        let file_crc = self.crc.clone().finalize();
        let mut footer = Vec::new();
        put_u32(
            &mut footer,
            u32::try_from(self.sections.len()).unwrap_or(u32::MAX),
        );
        for (id, page) in &self.sections {
            put_u32(&mut footer, *id);
            page.put(&mut footer);
        }
        let footer_crc = crc32fast::hash(&footer);
        let footer_len = u32::try_from(footer.len()).unwrap_or(u32::MAX);
        put_u64(&mut footer, footer_offset);
        put_u32(&mut footer, footer_len);
        put_u32(&mut footer, footer_crc);
        put_u32(&mut footer, file_crc);
        put_u32(&mut footer, VERSION);
        footer.extend_from_slice(MAGIC);
        self.write(&footer)?;
        self.drain()?;
        self.file
            .sync()
            .map_err(|e| Error::io(format!("sync {}", self.path.display()), e))?;
        Ok(self.offset)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.offset += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        self.file
            .write_all(&self.buffer)
            .map_err(|e| Error::io(format!("write {}", self.path.display()), e))?;
        self.buffer.clear();
        Ok(())
    }
}

/// A sealed file that is read.
#[derive(Debug, Clone)]
pub struct SealedFile {
    file: Arc<dyn ReadFile>,
    name: Arc<str>,
    sections: Arc<BTreeMap<u32, PageRef>>,
    footer_offset: u64,
    file_crc: u32,
    is_checked: bool,
}

impl SealedFile {
    /// Opens a file by reading its trailer and footer; pages are checked when they are read.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when it is no sealed file of this `kind` or its footer is damaged,
    /// [`Kind::Unsupported`] when a newer version wrote it, [`Kind::Io`].
    pub fn open(file: Arc<dyn ReadFile>, name: &str, kind: [u8; 4]) -> Result<Self> {
        Self::open_as(file, name, kind, true)
    }

    /// Opens a file whose checksums are not looked at: what is made of it must cope with any bytes.
    /// For tests and fuzzing.
    ///
    /// # Errors
    /// As [`SealedFile::open`].
    #[doc(hidden)]
    pub fn open_unchecked(file: Arc<dyn ReadFile>, name: &str, kind: [u8; 4]) -> Result<Self> {
        Self::open_as(file, name, kind, false)
    }

    fn open_as(
        file: Arc<dyn ReadFile>,
        name: &str,
        kind: [u8; 4],
        is_checked: bool,
    ) -> Result<Self> {
        let len = file.len();
        let bad = |offset, what: &str| Error::corrupt(name, offset, what);
        if len < HEADER_BYTES + TRAILER_BYTES {
            return Err(bad(len, "it is too short for a sealed file"));
        }
        let trailer_offset = len - TRAILER_BYTES;
        let read = read_ranges(&*file, name, &[0..HEADER_BYTES, trailer_offset..len])?;
        let [header, trailer] = read.as_slice() else {
            return Err(bad(0, "it cannot be read"));
        };
        let mut reader = Reader::new(name, trailer);
        let footer_offset = reader.u64()?;
        let footer_len = reader.u32()?;
        let footer_crc = reader.u32()?;
        let file_crc = reader.u32()?;
        let version = reader.u32()?;
        if reader.take(8)? != MAGIC {
            return Err(bad(len - 8, "the magic number at its end is wrong"));
        }
        if version != VERSION {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{name} has version {version}, this program reads {VERSION}"),
            ));
        }
        let mut reader = Reader::new(name, header);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION || reader.array()? != kind {
            return Err(bad(0, "the header is not that of a block of this engine"));
        }
        if footer_offset.checked_add(u64::from(footer_len)) != Some(trailer_offset) {
            return Err(bad(
                trailer_offset,
                "the footer is not where the trailer says",
            ));
        }
        let footer = &read_range(&*file, name, footer_offset..trailer_offset)?;
        if is_checked && crc32fast::hash(footer) != footer_crc {
            return Err(bad(
                footer_offset,
                "the checksum of the footer does not match",
            ));
        }
        let mut reader = Reader::new(name, footer);
        let mut sections = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let id = reader.u32()?;
            sections.insert(id, PageRef::read(&mut reader)?);
        }
        Ok(Self {
            file,
            name: name.into(),
            sections: Arc::new(sections),
            footer_offset,
            file_crc,
            is_checked,
        })
    }

    /// What errors call this file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Whether the file is empty, which no sealed file is.
    pub fn is_empty(&self) -> bool {
        self.file.is_empty()
    }

    /// Whether the file has a section.
    pub fn has_section(&self, id: u32) -> bool {
        self.sections.contains_key(&id)
    }

    /// Bytes of a section; `None` when there is none.
    pub fn section_len(&self, id: u32) -> Option<u64> {
        self.sections.get(&id).map(|page| u64::from(page.len))
    }

    /// The bytes of a section.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when it is missing or damaged, [`Kind::Io`].
    pub fn section(&self, id: u32) -> Result<Bytes> {
        let Some(page) = self.sections.get(&id) else {
            return Err(Error::corrupt(
                &*self.name,
                self.footer_offset,
                format!("section {id} is missing"),
            ));
        };
        self.read(&[*page])?
            .pop()
            .ok_or_else(|| Error::corrupt(&*self.name, page.offset, "a section cannot be read"))
    }

    /// The bytes of pages, in one read, each checked.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when one is damaged or lies outside the file, [`Kind::Io`].
    pub fn read(&self, pages: &[PageRef]) -> Result<Vec<Bytes>> {
        let ranges: Vec<Range<u64>> = pages.iter().map(PageRef::range).collect();
        let read = read_ranges(&*self.file, &self.name, &ranges)?;
        for (page, bytes) in pages.iter().zip(&read) {
            if self.is_checked && crc32fast::hash(bytes) != page.crc {
                return Err(Error::corrupt(
                    &*self.name,
                    page.offset,
                    "the checksum of a page does not match",
                ));
            }
        }
        Ok(read)
    }

    /// Reads the whole file and checks every byte.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when any byte is not what was written, [`Kind::Io`].
    pub fn verify(&self) -> Result<()> {
        const STEP: u64 = 1 << 20;
        let mut crc = crc32fast::Hasher::new();
        let mut offset = 0;
        while offset < self.footer_offset {
            let end = self.footer_offset.min(offset + STEP);
            crc.update(&read_range(&*self.file, &self.name, offset..end)?);
            offset = end;
        }
        if crc.finalize() != self.file_crc {
            return Err(Error::corrupt(
                &*self.name,
                0,
                "the checksum of the file does not match",
            ));
        }
        Ok(())
    }
}

fn read_range(file: &dyn ReadFile, name: &str, range: Range<u64>) -> Result<Bytes> {
    let read = read_ranges(file, name, std::slice::from_ref(&range))?;
    read.into_iter()
        .next()
        .ok_or_else(|| Error::corrupt(name, range.start, "it cannot be read"))
}

fn read_ranges(file: &dyn ReadFile, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    file.read(ranges).map_err(|error| {
        let own = error.get_ref().and_then(|source| source.downcast_ref());
        if let Some(own) = own {
            // A file that is not a local one says itself what was wrong.
            return Error::clone(own);
        }
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            Error::corrupt(name, file.len(), "a page lies outside the file")
        } else {
            Error::io(format!("read {name}"), error)
        }
    })
}

#[cfg(test)]
mod tests;
