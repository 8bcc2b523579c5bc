//! A sorted list of terms with the chunks that have each, read in place. The section WORDS consists
//! of two: words, and fields with their values. Called by `words`.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::Bytes;
use roaring::RoaringBitmap;
use trine_storage::codec::{Reader, put_u32, put_varint};
use trine_storage::{Error, Kind, Result};

use super::pattern::Pattern;

/// Terms from one entry of the table to the next.
const GROUP: usize = 32;

/// Most terms whose chunks are gathered for one pattern. A pattern with more is no condition worth
/// having.
pub(crate) const TERMS_MAX: usize = 4096;

const HEADER: usize = 12;
/// Bytes of a group in the table.
const ENTRY: usize = 8;

/// Puts a dictionary together from terms in order.
#[derive(Debug)]
pub(crate) struct DictionaryWriter {
    chunks: u32,
    terms: usize,
    table: Vec<u8>,
    text: Vec<u8>,
    postings: Vec<u8>,
}

impl DictionaryWriter {
    /// A dictionary over this many chunks.
    pub(crate) fn new(chunks: u32) -> Self {
        Self {
            chunks,
            terms: 0,
            table: Vec::new(),
            text: vec![b'\n'],
            postings: Vec::new(),
        }
    }

    /// Adds a term, which has no newline in it and is greater than those before, with the chunks
    /// that have it, ascending.
    pub(crate) fn push(&mut self, term: &[u8], chunks: &[u32]) -> Result<()> {
        if self.terms.is_multiple_of(GROUP) {
            let place = |len: usize| {
                u32::try_from(len).map_err(|_| {
                    Error::new(
                        Kind::Limit,
                        "the dictionary of one block exceeds 4 GiB; write smaller blocks",
                    )
                })
            };
            put_u32(&mut self.table, place(self.text.len())?);
            put_u32(&mut self.table, place(self.postings.len())?);
        }
        self.terms += 1;
        self.text.extend_from_slice(term);
        self.text.push(b'\n');
        put_postings(chunks, self.chunks, &mut self.postings);
        Ok(())
    }

    /// Appends the dictionary.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Result<()> {
        for len in [self.terms, self.text.len(), self.postings.len()] {
            let len = u32::try_from(len).map_err(|_| {
                Error::new(
                    Kind::Limit,
                    "the dictionary of one block exceeds 4 GiB; write smaller blocks",
                )
            })?;
            put_u32(out, len);
        }
        out.extend_from_slice(&self.table);
        out.extend_from_slice(&self.text);
        out.extend_from_slice(&self.postings);
        Ok(())
    }
}

/// Appends which of `of` chunks: as differences, or as bits where that is shorter.
fn put_postings(chunks: &[u32], of: u32, out: &mut Vec<u8>) {
    let start = out.len();
    put_varint(out, (chunks.len() as u64) << 1);
    let mut next = 0;
    let bitmap_bytes = of.div_ceil(8) as usize;
    for &chunk in chunks {
        put_varint(out, u64::from(chunk - next));
        next = chunk + 1;
    }
    if out.len() - start > bitmap_bytes + 1 {
        out.truncate(start);
        out.push(1);
        let bits = out.len();
        out.resize(bits + bitmap_bytes, 0);
        for &chunk in chunks {
            if let Some(byte) = out.get_mut(bits + chunk as usize / 8) {
                *byte |= 1 << (chunk % 8);
            }
        }
    }
}

/// Reads the chunks of one term.
fn read_postings<E: Extend<u32>>(
    reader: &mut Reader<'_>,
    of: u32,
    mut found: Option<&mut E>,
) -> Result<()> {
    let head = reader.varint()?;
    if head & 1 == 1 {
        if head != 1 {
            return Err(reader.corrupt("the chunks of a term make no sense"));
        }
        let bits = reader.take(of.div_ceil(8) as usize)?;
        let Some(found) = found else { return Ok(()) };
        for (byte, base) in bits.iter().zip((0..).step_by(8)) {
            let mut left = *byte;
            while left != 0 {
                let chunk = base + left.trailing_zeros();
                if chunk >= of {
                    return Err(reader.corrupt("a term is in a chunk that does not exist"));
                }
                found.extend([chunk]);
                left &= left - 1;
            }
        }
        return Ok(());
    }
    let mut next = 0u64;
    for _ in 0..head >> 1 {
        let chunk = reader.varint()?.saturating_add(next);
        let Some(chunk) = u32::try_from(chunk).ok().filter(|&chunk| chunk < of) else {
            return Err(reader.corrupt("a term is in a chunk that does not exist"));
        };
        if let Some(found) = &mut found {
            found.extend([chunk]);
        }
        next = u64::from(chunk) + 1;
    }
    Ok(())
}

/// A dictionary, read in place.
#[derive(Debug)]
pub(crate) struct Dictionary {
    name: String,
    chunks: u32,
    terms: usize,
    table: Bytes,
    text: Bytes,
    postings: Bytes,
}

impl Dictionary {
    /// Reads the header of the dictionary that `bytes` begin with; gives it and what follows.
    ///
    /// # Errors
    /// [`Kind::Corrupt`]; so for all methods below.
    pub(crate) fn open(name: &str, bytes: &Bytes, chunks: u32) -> Result<(Self, Bytes)> {
        let mut reader = Reader::new(name, bytes);
        let mut size = || Ok::<_, Error>(usize::try_from(reader.u32()?).unwrap_or(usize::MAX));
        let (terms, text_len, postings_len) = (size()?, size()?, size()?);
        let groups = terms.div_ceil(GROUP);
        if reader.remaining() / ENTRY < groups {
            return Err(reader.corrupt("the table of a dictionary ends too early"));
        }
        let mut at = HEADER;
        let mut next = |len: usize| {
            reader.take(len)?;
            let from = at;
            at += len;
            Ok::<_, Error>(bytes.slice(from..at))
        };
        let dictionary = Self {
            name: name.to_owned(),
            chunks,
            terms,
            table: next(groups * ENTRY)?,
            text: next(text_len)?,
            postings: next(postings_len)?,
        };
        let ends = dictionary.text.first().zip(dictionary.text.last());
        if ends != Some((&b'\n', &b'\n')) {
            return Err(Error::corrupt(
                name,
                HEADER as u64,
                "a dictionary has no ends",
            ));
        }
        Ok((dictionary, bytes.slice(at..)))
    }

    /// Bytes of all of it but the header.
    pub(crate) fn bytes(&self) -> usize {
        self.table.len() + self.text.len() + self.postings.len()
    }

    /// Bytes of the text, which a search for a part of a term reads.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text.len()
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(&self.name, 0, what)
    }

    /// Where the text and the postings of a group begin.
    fn group(&self, group: usize) -> Option<(usize, usize)> {
        let entry = self.table.get(group * ENTRY..)?.first_chunk::<ENTRY>()?;
        let (text, postings) = entry.split_first_chunk::<4>()?;
        let postings = postings.first_chunk::<4>()?;
        let wide = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
        Some((wide(text)?, wide(postings)?))
    }

    /// The term that begins at this offset of the text.
    fn term_at(&self, at: usize) -> Option<&[u8]> {
        let rest = self.text.get(at..)?;
        rest.get(..memchr::memchr(b'\n', rest)?)
    }

    /// The number of groups for whose first terms `before` holds, which it does for the first ones.
    fn partition(&self, before: impl Fn(usize) -> Result<bool>) -> Result<usize> {
        let (mut low, mut high) = (0, self.terms.div_ceil(GROUP));
        while low < high {
            let middle = low.midpoint(high);
            if before(middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn first_term(&self, group: usize) -> Result<&[u8]> {
        let term = self.group(group).and_then(|(text, _)| self.term_at(text));
        term.ok_or_else(|| self.corrupt("a group of terms lies outside of the text"))
    }

    /// The offset of the first term that is not less than `least`, and its group; the end of the
    /// text if there is none.
    fn lower_bound(&self, least: &[u8]) -> Result<(usize, usize)> {
        let after = self.partition(|group| Ok(self.first_term(group)? < least))?;
        let group = after.saturating_sub(1);
        let Some((mut at, _)) = self.group(group) else {
            return Ok((self.text.len(), group));
        };
        while let Some(term) = self.term_at(at) {
            if term >= least {
                break;
            }
            at += term.len() + 1;
        }
        Ok((at, self.group_at(at, group)))
    }

    /// The group of the term that begins at `at`, which is `group` or a later one.
    fn group_at(&self, at: usize, mut group: usize) -> usize {
        while self.group(group + 1).is_some_and(|(text, _)| text <= at) {
            group += 1;
        }
        group
    }

    /// The chunks that have exactly this term.
    pub(crate) fn exact(&self, term: &[u8]) -> Result<RoaringBitmap> {
        let (at, group) = self.lower_bound(term)?;
        let mut found = RoaringBitmap::new();
        if self.term_at(at) == Some(term) {
            let mut cursor = Cursor::default();
            cursor.gather(self, at, group, &mut found)?;
        }
        Ok(found)
    }

    /// The chunks that have a term with this prefix; `None` when the terms are more than
    /// [`TERMS_MAX`].
    pub(crate) fn prefix(&self, prefix: &[u8]) -> Result<Option<RoaringBitmap>> {
        let (mut at, mut group) = self.lower_bound(prefix)?;
        let mut found = RoaringBitmap::new();
        let mut cursor = Cursor::default();
        for _ in 0..=TERMS_MAX {
            let term = self.term_at(at).filter(|term| term.starts_with(prefix));
            let Some(term) = term else {
                return Ok(Some(found));
            };
            group = self.group_at(at, group);
            cursor.gather(self, at, group, &mut found)?;
            at += term.len() + 1;
        }
        Ok(None)
    }

    /// The chunks that have a term that `pattern` matches; `None` when the terms are more than
    /// [`TERMS_MAX`] or have all of `enough` chunks.
    pub(crate) fn matching(
        &self,
        pattern: &Pattern,
        enough: &RoaringBitmap,
    ) -> Result<Option<RoaringBitmap>> {
        let mut found = RoaringBitmap::new();
        let mut cursor = Cursor::default();
        let mut from = 0;
        let mut terms = 0;
        while let Some(hit) = pattern.find(&self.text, from) {
            terms += 1;
            if terms > TERMS_MAX {
                return Ok(None);
            }
            let after = self.partition(|group| {
                let (text, _) = self
                    .group(group)
                    .ok_or_else(|| self.corrupt("the table of a dictionary ends too early"))?;
                Ok(text <= hit.token)
            })?;
            cursor.gather(self, hit.token, after.saturating_sub(1), &mut found)?;
            if terms.is_multiple_of(64) && enough.is_subset(&found) {
                return Ok(None);
            }
            let rest = self.text.get(hit.token..).unwrap_or_default();
            // The next term at the earliest, whose newline is the one that ends this one.
            let end = memchr::memchr(b'\n', rest).map_or(self.text.len(), |end| hit.token + end);
            from = hit.next.max(end);
        }
        Ok(Some(found))
    }

    /// Goes through the terms.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk {
            dictionary: self,
            at: 1,
            left: self.terms,
            before: None,
            postings: Reader::new(&self.name, &self.postings),
        }
    }

    /// Reads everything.
    pub(crate) fn verify(&self) -> Result<()> {
        let mut reader = Reader::new(&self.name, &self.postings);
        let (mut at, mut before) = (1, None);
        for ordinal in 0..self.terms {
            let term = self.term_at(at);
            let term = term.ok_or_else(|| self.corrupt("a dictionary has too few terms"))?;
            if before.is_some_and(|before| before >= term) {
                return Err(self.corrupt("the terms of a dictionary are not in order"));
            }
            if ordinal.is_multiple_of(GROUP)
                && self.group(ordinal / GROUP) != Some((at, reader.offset()))
            {
                return Err(self.corrupt("a group of terms is not where the table says"));
            }
            read_postings(&mut reader, self.chunks, Some(&mut RoaringBitmap::new()))?;
            at += term.len() + 1;
            before = Some(term);
        }
        if at != self.text.len() || !reader.is_empty() {
            return Err(self.corrupt("bytes follow the terms of a dictionary"));
        }
        Ok(())
    }
}

/// The terms of a dictionary from the first to the last.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    dictionary: &'a Dictionary,
    at: usize,
    left: usize,
    before: Option<&'a [u8]>,
    postings: Reader<'a>,
}

impl<'a> Walk<'a> {
    /// The next term; its chunks are put in place of what `chunks` holds.
    ///
    /// # Errors
    /// [`Kind::Corrupt`].
    pub(crate) fn next(&mut self, chunks: &mut Vec<u32>) -> Result<Option<&'a [u8]>> {
        if self.left == 0 {
            return Ok(None);
        }
        let corrupt = |what| self.dictionary.corrupt(what);
        let term = self.dictionary.term_at(self.at);
        let term = term.ok_or_else(|| corrupt("a dictionary has too few terms"))?;
        if self.before.is_some_and(|before| before >= term) {
            return Err(corrupt("the terms of a dictionary are not in order"));
        }
        self.before = Some(term);
        self.left -= 1;
        self.at += term.len() + 1;
        chunks.clear();
        read_postings(&mut self.postings, self.dictionary.chunks, Some(chunks))?;
        Ok(Some(term))
    }
}

/// Where the postings of ascending terms are read: those of one group are gone through only once.
#[derive(Debug, Default)]
struct Cursor {
    /// The group, where the next term of it begins, and where its postings do.
    place: Option<(usize, usize, usize)>,
}

impl Cursor {
    /// Adds the chunks of the term with a byte at `at`, which lies in this group.
    fn gather(
        &mut self,
        dictionary: &Dictionary,
        at: usize,
        group: usize,
        found: &mut RoaringBitmap,
    ) -> Result<()> {
        let (mut term, postings) = match self.place {
            Some((same, term, postings)) if same == group && term <= at => (term, postings),
            _ => dictionary
                .group(group)
                .ok_or_else(|| dictionary.corrupt("the table of a dictionary ends too early"))?,
        };
        let rest = dictionary.postings.get(postings..).unwrap_or_default();
        let mut reader = Reader::new(&dictionary.name, rest);
        let mut of_term = RoaringBitmap::new();
        for _ in 0..GROUP {
            let bytes = dictionary.term_at(term);
            let bytes = bytes.ok_or_else(|| dictionary.corrupt("a term has no end"))?;
            let next = term + bytes.len() + 1;
            if at < next {
                read_postings(&mut reader, dictionary.chunks, Some(&mut of_term))?;
                *found |= of_term;
                self.place = Some((group, next, postings + reader.offset()));
                return Ok(());
            }
            read_postings(&mut reader, dictionary.chunks, None::<&mut RoaringBitmap>)?;
            term = next;
        }
        Err(dictionary.corrupt("a group has too few terms"))
    }
}
