//! The section LONG: the long tokens of each chunk as text, so that a needle may be any part of one;
//! a few long ids too. Called by the token index.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashSet;

use bytes::Bytes;
use roaring::RoaringBitmap;
use trine_storage::codec::{Reader, put_u32};
use trine_storage::{Error, Kind, Result};

use super::pattern::Pattern;
use super::token::{Class, class_of};

/// Most bytes of long tokens, without ids, that are kept of one chunk. A chunk with more is marked and may contain
/// any long token.
pub(crate) const LONG_BYTES_MAX: usize = 16 << 10;

/// Most bytes of ids among them; with more the chunk has none of its ids here. Ids that are longer
/// than words are few in most logs, and being here spares a look at the id columns.
pub(crate) const LONG_IDS_BYTES_MAX: usize = 8 << 10;

const VERSION: u32 = 1;
const HEADER: usize = 8;
/// Bytes of a chunk in the table.
const ENTRY: usize = 4;
/// The bit of an entry that marks the chunk.
const MARK: u32 = 1 << 31;

/// Puts the section together.
#[derive(Debug, Default)]
pub(crate) struct LongWriter {
    table: Vec<u8>,
    text: Vec<u8>,
    chunks: u32,
    /// Of the chunk at hand.
    seen: HashSet<Vec<u8>>,
    seen_bytes: usize,
    ids_bytes: usize,
    marked: bool,
}

impl LongWriter {
    /// Adds a long token of the chunk at hand.
    pub(crate) fn token(&mut self, token: &[u8]) {
        if self.marked || self.seen.contains(token) {
            return;
        }
        self.seen_bytes += token.len() + 1;
        if self.seen_bytes > LONG_BYTES_MAX {
            self.marked = true;
            // What is left of them would be of no use.
            self.seen.retain(|token| class_of(token) != Class::Long);
        } else {
            self.seen.insert(token.to_vec());
        }
    }

    /// Adds an id of the chunk at hand.
    pub(crate) fn id(&mut self, id: &[u8]) {
        if self.ids_bytes > LONG_IDS_BYTES_MAX || self.seen.contains(id) {
            return;
        }
        self.ids_bytes += id.len() + 1;
        if self.ids_bytes > LONG_IDS_BYTES_MAX {
            self.seen.retain(|token| class_of(token) == Class::Long);
        } else {
            self.seen.insert(id.to_vec());
        }
    }

    /// Ends the chunk at hand; `false` when its ids were too many.
    ///
    /// # Errors
    /// [`Kind::Limit`] when the section would exceed 2 GiB.
    pub(crate) fn end_chunk(&mut self) -> Result<bool> {
        let mut tokens: Vec<Vec<u8>> = self.seen.drain().collect();
        tokens.sort_unstable();
        for token in tokens {
            if self.text.is_empty() {
                self.text.push(b'\n');
            }
            self.text.extend_from_slice(&token);
            self.text.push(b'\n');
        }
        let end = u32::try_from(self.text.len())
            .ok()
            .filter(|end| end & MARK == 0);
        let end = end.ok_or_else(|| {
            Error::new(
                Kind::Limit,
                "the long tokens of one block exceed 2 GiB; write smaller blocks",
            )
        })?;
        put_u32(&mut self.table, if self.marked { end | MARK } else { end });
        self.chunks += 1;
        self.marked = false;
        self.seen_bytes = 0;
        let has_ids = self.ids_bytes <= LONG_IDS_BYTES_MAX;
        self.ids_bytes = 0;
        Ok(has_ids)
    }

    /// Adds the next chunk with the tokens of one of another section.
    ///
    /// # Errors
    /// As [`LongWriter::end_chunk`].
    pub(crate) fn copy(&mut self, from: &LongTokens, chunk: u32) -> Result<()> {
        let number = usize::try_from(chunk).unwrap_or(usize::MAX);
        let start = number.checked_sub(1).map_or(0, |before| from.end(before));
        let tokens = from.text().get(start..from.end(number));
        let tokens = tokens.unwrap_or_default();
        // All tokens have a newline before and after them; the first one's belongs to no chunk.
        let framed = start == 0 && !self.text.is_empty();
        let tokens = tokens.get(usize::from(framed)..).unwrap_or_default();
        if self.text.is_empty() && start > 0 && !tokens.is_empty() {
            self.text.push(b'\n');
        }
        self.text.extend_from_slice(tokens);
        self.marked = from.marked.contains(chunk);
        self.end_chunk()?;
        Ok(())
    }

    /// The section.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.table.len() + self.text.len());
        put_u32(&mut out, VERSION);
        put_u32(&mut out, self.chunks);
        out.extend_from_slice(&self.table);
        out.extend_from_slice(&self.text);
        out
    }
}

/// The section, read in place.
#[derive(Debug)]
pub(crate) struct LongTokens {
    bytes: Bytes,
    chunks: usize,
    marked: RoaringBitmap,
}

impl LongTokens {
    /// Reads the table of the section of a block with so many chunks.
    ///
    /// # Errors
    /// [`Kind::Corrupt`], [`Kind::Unsupported`] for another version.
    pub(crate) fn open(name: &str, bytes: Bytes, chunks: u32) -> Result<Self> {
        let mut reader = Reader::new(name, &bytes);
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "{name} has long tokens of version {version}, this program reads {VERSION}"
                ),
            ));
        }
        if reader.u32()? != chunks {
            return Err(reader.corrupt("the lists of long tokens are not as many as the chunks"));
        }
        let mut marked = RoaringBitmap::new();
        let mut before = 0;
        for chunk in 0..chunks {
            let entry = reader.u32()?;
            let end = entry & !MARK;
            if end < before {
                return Err(reader.corrupt("long tokens of a chunk end before they begin"));
            }
            before = end;
            if entry & MARK != 0 {
                marked.insert(chunk);
            }
        }
        if u64::from(before) != reader.remaining() as u64 {
            return Err(reader.corrupt("the text of long tokens is not as long as the table says"));
        }
        let text = reader.take(reader.remaining())?;
        let framed = text.first().zip(text.last());
        if framed.is_some_and(|ends| ends != (&b'\n', &b'\n')) {
            return Err(reader.corrupt("the text of long tokens has no ends"));
        }
        let chunks = usize::try_from(chunks).unwrap_or(usize::MAX);
        Ok(Self {
            bytes,
            chunks,
            marked,
        })
    }

    /// Chunks that may contain any long token.
    #[cfg(test)]
    pub(crate) fn marked(&self) -> &RoaringBitmap {
        &self.marked
    }

    /// All tokens, with a newline before and after each.
    pub(crate) fn text(&self) -> &[u8] {
        self.bytes
            .get(HEADER + self.chunks * ENTRY..)
            .unwrap_or_default()
    }

    /// Where the tokens of `chunk` end in the text.
    fn end(&self, chunk: usize) -> usize {
        let at = HEADER + chunk * ENTRY;
        let entry = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
        let end = entry.map_or(0, |entry| u32::from_le_bytes(*entry) & !MARK);
        usize::try_from(end).unwrap_or(usize::MAX)
    }

    /// The chunks with a long token that `pattern` matches, and those that are marked.
    pub(crate) fn chunks(&self, pattern: &Pattern) -> RoaringBitmap {
        let mut found = self.marked.clone();
        let text = self.text();
        let mut at = 0;
        while let Some(hit) = pattern.find(text, at) {
            // The byte behind the match lies in the same token or ends it.
            let chunk = self.chunk_of(hit.token);
            found.insert(u32::try_from(chunk).unwrap_or(u32::MAX));
            // The rest of the chunk cannot add anything; the newline before the next chunk can.
            at = self.end(chunk).saturating_sub(1).max(hit.next);
        }
        found
    }

    /// The chunk of the token in which this byte of the text lies.
    fn chunk_of(&self, at: usize) -> usize {
        let (mut low, mut high) = (0, self.chunks);
        while low < high {
            let middle = low.midpoint(high);
            if self.end(middle) <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(chunks: &[&[&str]]) -> Vec<u8> {
        let mut writer = LongWriter::default();
        for tokens in chunks {
            for token in *tokens {
                writer.token(token.as_bytes());
            }
            writer.end_chunk().unwrap();
        }
        writer.finish()
    }

    fn open(chunks: &[&[&str]]) -> LongTokens {
        let count = u32::try_from(chunks.len()).unwrap();
        LongTokens::open("test", section(chunks).into(), count).unwrap()
    }

    #[test]
    fn parts_of_tokens_are_found_in_their_chunks() {
        let long = open(&[&[], &["abc", "xabc", "abc"], &["abcx"], &[], &["ABC"]]);
        for (run, left, right, fold, expected) in [
            ("abc", true, true, false, &[1, 2][..]),
            ("abc", false, false, false, &[1]),
            ("abc", true, false, false, &[1]),
            ("abc", false, true, false, &[1, 2]),
            ("abcx", false, false, false, &[2]),
            ("abc", false, false, true, &[1, 4]),
            ("abc", true, true, true, &[1, 2, 4]),
            ("cxa", true, true, false, &[]),
        ] {
            let pattern = Pattern::new(run.as_bytes(), left, right, fold).unwrap();
            let found: Vec<u32> = long.chunks(&pattern).iter().collect();
            assert_eq!(found, expected, "{run} {left} {right} {fold}");
        }
    }

    #[test]
    fn a_chunk_with_too_much_is_marked() {
        let fits = "g".repeat(LONG_BYTES_MAX - 1);
        let longer = "g".repeat(LONG_BYTES_MAX);
        let long = open(&[&[&fits], &[&longer], &[&fits, "h"], &[&fits, &fits]]);
        let marked: Vec<u32> = long.marked().iter().collect();
        assert_eq!(marked, [1, 2]);
        let pattern = Pattern::new(b"h", true, true, false).unwrap();
        assert_eq!(long.chunks(&pattern).iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn only_so_many_ids_fit() {
        let mut writer = LongWriter::default();
        let half = "1".repeat(LONG_IDS_BYTES_MAX / 2 - 1);
        let other = "2".repeat(LONG_IDS_BYTES_MAX / 2 - 1);
        let long = "g".repeat(40);
        for id in [&half, &other, &half] {
            writer.id(id.as_bytes());
        }
        writer.token(&[b'g'; LONG_BYTES_MAX]);
        assert!(writer.end_chunk().unwrap());
        writer.token(long.as_bytes());
        for id in [&half, &other, "3"] {
            writer.id(id.as_bytes());
        }
        assert!(!writer.end_chunk().unwrap());
        writer.id(b"3");
        assert!(writer.end_chunk().unwrap());
        let tokens = LongTokens::open("test", writer.finish().into(), 3).unwrap();
        let all = format!("\n{half}\n{other}\n{long}\n3\n");
        assert_eq!(tokens.text(), all.as_bytes());
        assert_eq!(tokens.marked().iter().collect::<Vec<_>>(), [0]);
    }

    /// The bytes written down in FORMAT.md, "Long tokens".
    #[test]
    fn golden_section() {
        let mut expected = vec![1, 0, 0, 0, 3, 0, 0, 0];
        expected.extend([6, 0, 0, 0, 6, 0, 0, 0x80, 9, 0, 0, 0]);
        expected.extend(b"\nab\nc\nde\n");
        let longer = "g".repeat(LONG_BYTES_MAX);
        assert_eq!(section(&[&["c", "ab"], &[&longer], &["de"]]), expected);
    }

    #[test]
    fn damage_is_corrupt_or_harmless() {
        let good = section(&[&["abc", "def"], &[], &["ghi"]]);
        let pattern = Pattern::new(b"h", true, true, false).unwrap();
        for cut in 0..good.len() {
            let bytes = Bytes::copy_from_slice(&good[..cut]);
            let error = LongTokens::open("test", bytes, 3).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{cut}");
        }
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                if let Ok(long) = LongTokens::open("test", bytes.into(), 3) {
                    long.chunks(&pattern);
                }
            }
        }
        let mut newer = good;
        newer[0] = 2;
        let error = LongTokens::open("test", newer.into(), 3).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    }
}
