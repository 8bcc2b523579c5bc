//! The container of every immutable block: pages, named sections, a footer, checksums.
//!
//! Engines write pages and remember their [`PageRef`]s in sections of their own; everything that
//! is read back is checked against its checksum. A block is one file, so that it can be shipped,
//! copied and dropped whole. See `FORMAT.md`, "Sealed file".

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::codec::{Reader, put_u32, put_u64};
use crate::error::{Error, Kind, Result};
use crate::fs::{Fs, ReadFile, WriteFile};

const MAGIC: &[u8; 8] = b"TRINESEA";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 16;
const TRAILER_BYTES: u64 = 32;
/// How much of its end is read first: footer and trailer of nearly every file are in it.
const END_BYTES: u64 = 4 << 10;
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

/// A sealed file that is read. Clones share what was read of its head.
#[derive(Debug, Clone)]
pub struct SealedFile {
    file: Arc<dyn ReadFile>,
    name: Arc<str>,
    known: Arc<Known>,
}

/// What is known of a file once it was looked at.
#[derive(Debug)]
struct Known {
    kind: [u8; 4],
    is_checked: bool,
    is_deferred: bool,
    /// The sections that are looked at first.
    first: &'static [u32],
    /// Damage is remembered, what may be over the next time is not.
    head: OnceLock<Result<Head>>,
    damage: OnceLock<Damage>,
    /// Of a remote file: bytes that were given as sections, which readers keep.
    given: AtomicU64,
    /// Of a remote file: bytes of pages that were read.
    read: AtomicU64,
    /// Of a remote file: whether it was read since that was asked last.
    was_read: AtomicBool,
    /// Of a remote file: when it was read, as far as that was asked.
    used_ms: AtomicI64,
}

/// What trailer and footer say.
#[derive(Debug)]
struct Head {
    sections: BTreeMap<u32, PageRef>,
    footer_offset: u64,
    file_crc: u32,
}

/// What was found to be wrong in a file, even when it was read again.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    pub(crate) error: Error,
    /// Which page; `None` for the head.
    pub(crate) page: Option<PageRef>,
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

    /// A file that nothing is read of before it is asked for, because that may take long. The `first`
    /// sections are what every read looks at first.
    pub fn deferred(
        file: Arc<dyn ReadFile>,
        name: &str,
        kind: [u8; 4],
        first: &'static [u32],
    ) -> Self {
        Self::new(file, name, kind, Some(first), true)
    }

    fn open_as(
        file: Arc<dyn ReadFile>,
        name: &str,
        kind: [u8; 4],
        is_checked: bool,
    ) -> Result<Self> {
        let file = Self::new(file, name, kind, None, is_checked);
        file.head()?;
        file.check_header()?;
        Ok(file)
    }

    fn new(
        file: Arc<dyn ReadFile>,
        name: &str,
        kind: [u8; 4],
        first: Option<&'static [u32]>,
        is_checked: bool,
    ) -> Self {
        Self {
            file,
            name: name.into(),
            known: Arc::new(Known {
                kind,
                is_checked,
                is_deferred: first.is_some(),
                first: first.unwrap_or_default(),
                head: OnceLock::new(),
                damage: OnceLock::new(),
                given: AtomicU64::new(0),
                read: AtomicU64::new(0),
                was_read: AtomicBool::new(false),
                used_ms: AtomicI64::new(0),
            }),
        }
    }

    fn corrupt(&self, offset: u64, what: &str) -> Error {
        Error::corrupt(&*self.name, offset, what)
    }

    /// Refuses a file of another kind.
    fn check_header(&self) -> Result<()> {
        let len = self.file.len();
        if len < HEADER_BYTES + TRAILER_BYTES {
            return Err(self.corrupt(len, "it is too short for a sealed file"));
        }
        let header = read_range(&*self.file, &self.name, 0..HEADER_BYTES)?;
        let mut reader = Reader::new(&self.name, &header);
        if reader.take(8)? != MAGIC
            || reader.u32()? != VERSION
            || reader.array()? != self.known.kind
        {
            return Err(self.corrupt(0, "the header is not that of a block of this engine"));
        }
        Ok(())
    }

    /// What the end of the file says, which is read when it is asked for first.
    fn head(&self) -> Result<&Head> {
        let known = &*self.known;
        if let Some(head) = known.head.get() {
            return head.as_ref().map_err(Error::clone);
        }
        let read = self.again_if_corrupt(|| self.read_head());
        match read {
            Ok(head) => {
                let first = known.first.iter();
                let first = first.filter_map(|id| head.sections.get(id).map(PageRef::range));
                self.file.prioritize(&first.collect::<Vec<_>>());
                known.head.get_or_init(|| Ok(head)).as_ref()
            }
            Err(error) if error.kind() == Kind::Corrupt => {
                self.note_damage(&error, None);
                known.head.get_or_init(|| Err(error)).as_ref()
            }
            Err(error) => return Err(error),
        }
        .map_err(Error::clone)
    }

    fn read_head(&self) -> Result<Head> {
        let (file, name) = (&*self.file, &*self.name);
        let len = file.len();
        if len < HEADER_BYTES + TRAILER_BYTES {
            return Err(self.corrupt(len, "it is too short for a sealed file"));
        }
        let trailer_offset = len - TRAILER_BYTES;
        let end_offset = len.saturating_sub(END_BYTES);
        let end = read_range(file, name, end_offset..len)?;
        let in_end = |offset: u64| usize::try_from(offset.checked_sub(end_offset)?).ok();
        let from = |offset: u64| in_end(offset).and_then(|at| end.get(at..));
        let mut reader = Reader::new(name, from(trailer_offset).unwrap_or_default());
        let footer_offset = reader.u64()?;
        let footer_len = reader.u32()?;
        let footer_crc = reader.u32()?;
        let file_crc = reader.u32()?;
        let version = reader.u32()?;
        if reader.take(8)? != MAGIC {
            return Err(self.corrupt(len - 8, "the magic number at its end is wrong"));
        }
        if version != VERSION {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{name} has version {version}, this program reads {VERSION}"),
            ));
        }
        if footer_offset.checked_add(u64::from(footer_len)) != Some(trailer_offset) {
            return Err(self.corrupt(trailer_offset, "the footer is not where the trailer says"));
        }
        let footer = match (in_end(footer_offset), in_end(trailer_offset)) {
            (Some(start), Some(trailer)) if start <= trailer => end.slice(start..trailer),
            _ => read_range(file, name, footer_offset..trailer_offset)?,
        };
        if self.known.is_checked && crc32fast::hash(&footer) != footer_crc {
            return Err(self.corrupt(footer_offset, "the checksum of the footer does not match"));
        }
        let mut reader = Reader::new(name, &footer);
        let mut sections = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let id = reader.u32()?;
            sections.insert(id, PageRef::read(&mut reader)?);
        }
        Ok(Head {
            sections,
            footer_offset,
            file_crc,
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

    /// Whether reads may have to wait for another machine.
    pub fn is_remote(&self) -> bool {
        self.file.is_remote()
    }

    /// Whether the file has a section.
    ///
    /// # Errors
    /// As [`SealedFile::open`], and [`Kind::Unavailable`] where the file is far away; so for all that
    /// follow.
    pub fn has_section(&self, id: u32) -> Result<bool> {
        Ok(self.head()?.sections.contains_key(&id))
    }

    /// Bytes of a section; `None` when there is none.
    ///
    /// # Errors
    /// As [`SealedFile::has_section`].
    pub fn section_len(&self, id: u32) -> Result<Option<u64>> {
        let page = self.head()?.sections.get(&id);
        Ok(page.map(|page| u64::from(page.len)))
    }

    /// The bytes of a section.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when it is missing or damaged, [`Kind::Io`], [`Kind::Unavailable`].
    pub fn section(&self, id: u32) -> Result<Bytes> {
        let head = self.head()?;
        let Some(page) = head.sections.get(&id) else {
            let what = format!("section {id} is missing");
            return Err(self.corrupt(head.footer_offset, &what));
        };
        let section = self.read(&[*page])?.pop();
        let section =
            section.ok_or_else(|| self.corrupt(page.offset, "a section cannot be read"))?;
        if self.known.is_deferred {
            let given = section.len() as u64;
            self.known.given.fetch_add(given, Ordering::Relaxed);
        }
        Ok(section)
    }

    /// The bytes of pages, in one read, each checked.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when one is damaged or lies outside the file, [`Kind::Io`],
    /// [`Kind::Unavailable`].
    pub fn read(&self, pages: &[PageRef]) -> Result<Vec<Bytes>> {
        let ranges: Vec<Range<u64>> = pages.iter().map(PageRef::range).collect();
        if self.known.is_deferred {
            let bytes = pages.iter().map(|page| u64::from(page.len)).sum();
            self.known.read.fetch_add(bytes, Ordering::Relaxed);
            self.known.was_read.store(true, Ordering::Relaxed);
        }
        let read = || -> Result<Vec<Bytes>> {
            let read = read_ranges(&*self.file, &self.name, &ranges)?;
            match self.damaged(pages, &read) {
                Some(page) => {
                    Err(self.corrupt(page.offset, "the checksum of a page does not match"))
                }
                None => Ok(read),
            }
        };
        self.again_if_corrupt(read).inspect_err(|error| {
            if error.kind() == Kind::Corrupt {
                self.note_damage(error, self.first_damaged(pages));
            }
        })
    }

    /// Begins to fetch pages and does not wait. What goes wrong is told by the read that follows.
    pub fn prefetch(&self, pages: &[PageRef]) {
        let ranges: Vec<Range<u64>> = pages.iter().map(PageRef::range).collect();
        self.file.prefetch(&ranges).ok();
    }

    /// How many bytes a reader may ask for ahead of itself, see [`ReadFile::ahead_bytes_max`].
    pub fn ahead_bytes_max(&self) -> u64 {
        self.file.ahead_bytes_max()
    }

    /// Begins to fetch sections and does not wait for them, but for the head of the file. Sections
    /// that there are not are passed over.
    ///
    /// # Errors
    /// As [`SealedFile::has_section`].
    pub fn prefetch_sections(&self, ids: &[u32]) -> Result<()> {
        if self.is_remote() {
            let sections = &self.head()?.sections;
            let pages: Vec<PageRef> = ids
                .iter()
                .filter_map(|id| sections.get(id))
                .copied()
                .collect();
            self.prefetch(&pages);
        }
        Ok(())
    }

    /// Begins to fetch the head of a file that was not looked at yet.
    pub(crate) fn prefetch_head(&self) {
        if self.known.head.get().is_none() {
            let len = self.len();
            let end = len.saturating_sub(END_BYTES)..len;
            self.file.prefetch(std::slice::from_ref(&end)).ok();
        }
    }

    /// Reads the whole file and checks every byte.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when any byte is not what was written, [`Kind::Io`], [`Kind::Unavailable`].
    pub fn verify(&self) -> Result<()> {
        const STEP: u64 = 1 << 20;
        let head = self.head()?;
        self.check_header()?;
        let mut crc = crc32fast::Hasher::new();
        let mut offset = 0;
        while offset < head.footer_offset {
            let end = head.footer_offset.min(offset + STEP);
            crc.update(&read_range(&*self.file, &self.name, offset..end)?);
            offset = end;
        }
        if crc.finalize() != head.file_crc {
            let error = self.corrupt(0, "the checksum of the file does not match");
            self.file.distrust();
            self.note_damage(&error, None);
            return Err(error);
        }
        Ok(())
    }

    /// What was found to be wrong in the file.
    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.known.damage.get()
    }

    /// Forgets what is kept of the file between here and where it is.
    pub(crate) fn forget(&self) {
        self.file.distrust();
    }

    /// Whether the head, and a page that was damaged, can be read.
    pub(crate) fn check_again(&self, page: Option<PageRef>) -> Result<()> {
        self.head()?;
        self.read(page.as_slice()).map(drop)
    }

    /// Bytes that were given as sections of a deferred file, which readers keep.
    pub(crate) fn given_bytes(&self) -> u64 {
        self.known.given.load(Ordering::Relaxed)
    }

    /// Bytes of pages that were read of a deferred file, each as often as it was read.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.known.read.load(Ordering::Relaxed)
    }

    /// When a deferred file was read last, milliseconds since 1970: `now_ms` if it was since this was
    /// asked last, 0 when it never was.
    pub(crate) fn used_ms(&self, now_ms: i64) -> i64 {
        if self.known.was_read.swap(false, Ordering::Relaxed) {
            self.known.used_ms.store(now_ms, Ordering::Relaxed);
        }
        self.known.used_ms.load(Ordering::Relaxed)
    }

    /// Goes on counting what is read of a deferred file where another reader of it has stopped.
    pub(crate) fn count_from(&self, earlier: &Self) {
        let (to, from) = (&*self.known, &*earlier.known);
        let (read, used_ms) = (&from.read, &from.used_ms);
        to.read
            .fetch_add(read.load(Ordering::Relaxed), Ordering::Relaxed);
        to.used_ms
            .store(used_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts what is read of a deferred file from nothing.
    pub(crate) fn count_anew(&self) {
        self.known.read.store(0, Ordering::Relaxed);
    }

    fn note_damage(&self, error: &Error, page: Option<PageRef>) {
        let error = error.clone();
        self.known.damage.get_or_init(|| Damage { error, page });
    }

    /// The first page whose bytes are not those that were written.
    fn damaged<'a>(&self, pages: &'a [PageRef], read: &[Bytes]) -> Option<&'a PageRef> {
        let mut both = pages.iter().zip(read);
        let wrong = |(page, bytes): &(&PageRef, &Bytes)| crc32fast::hash(bytes) != page.crc;
        both.find(|both| self.known.is_checked && wrong(both))
            .map(|(page, _)| page)
    }

    /// Which of the pages is damaged, found out one by one.
    fn first_damaged(&self, pages: &[PageRef]) -> Option<PageRef> {
        let is_damaged = |page: &&PageRef| {
            let range = page.range();
            let read = read_range(&*self.file, &self.name, range);
            read.map_or(true, |bytes| crc32fast::hash(&bytes) != page.crc)
        };
        pages.iter().find(is_damaged).copied()
    }

    /// Reads once more when what was read is damaged and the damage may be in what is kept of a file
    /// that is somewhere else.
    fn again_if_corrupt<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        let first = read();
        match &first {
            Err(error) if error.kind() == Kind::Corrupt => {
                self.file.distrust();
                if self.is_remote() { read() } else { first }
            }
            _ => first,
        }
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
