//! Label sets: sorted, unique (name, value) pairs in one allocation.
//!
//! Called by every engine and by the query languages. The encoding is also what the write-ahead
//! log and the blocks store (`FORMAT.md`, "Labels").

mod buffer;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

pub use buffer::LabelsBuffer;

/// An immutable, cheaply cloned label set: pairs sorted by name (bytewise), names unique and not
/// empty, values not empty (a label with an empty value is the same as no label).
///
/// One allocation holds everything: for each pair the length of the name, the name, the length of
/// the value, the value. Lengths are written six bits a byte, low bits first, bit 6 set while more
/// follow, so that every byte of a length is ASCII, the whole buffer is valid UTF-8 and can be
/// sliced without a check.
///
/// ```
/// use trine_storage::Labels;
///
/// let labels = Labels::from_pairs([("job", "api"), ("__name__", "up")])?;
/// assert_eq!(labels.get("job"), Some("api"));
/// assert_eq!(labels.to_string(), r#"{__name__="up", job="api"}"#);
/// # Ok::<(), trine_storage::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

/// A thread keeps room to build a label set of up to this many bytes.
const TEXT_BYTES_KEPT: usize = 64 << 10;

impl Labels {
    /// The label set without labels.
    pub fn empty() -> Self {
        Self("".into())
    }

    /// Builds a label set from pairs in any order. Pairs with an empty value are left out.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) when a name is empty or occurs twice.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        for pair in &pairs {
            if pair.0.as_ref().is_empty() {
                return Err(Error::invalid(format!(
                    "a label with the value {:?} has an empty name",
                    pair.1.as_ref()
                )));
            }
        }
        for two in pairs.windows(2) {
            if let [a, b] = two
                && a.0.as_ref() == b.0.as_ref()
            {
                return Err(Error::invalid(format!(
                    "duplicate label name {:?}",
                    a.0.as_ref()
                )));
            }
        }
        Ok(Self::from_sorted(
            pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())),
        ))
    }

    /// Builds a label set from pairs in any order, also those without a value or a name, for what
    /// answers show: such a set is not the same as one without them, and cannot be stored. Of pairs
    /// with one name the first stays.
    pub fn showing<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        pairs.dedup_by(|b, a| a.0.as_ref() == b.0.as_ref());
        let mut text = Vec::new();
        put_pairs(
            &mut text,
            pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())),
        );
        Self(std::str::from_utf8(&text).unwrap_or_default().into())
    }

    /// Builds a label set from pairs that are already sorted, unique and named.
    pub(crate) fn from_sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        thread_local! {
            /// Room to write in: the set itself is one allocation of its size.
            static TEXT: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
        }
        let mut text = TEXT.take();
        text.clear();
        for (name, value) in pairs.filter(|(_, value)| !value.is_empty()) {
            push_len(&mut text, name.len());
            text.extend_from_slice(name.as_bytes());
            push_len(&mut text, value.len());
            text.extend_from_slice(value.as_bytes());
        }
        let set = Self(
            std::str::from_utf8(&text)
                .expect("lengths are ASCII")
                .into(),
        );
        if text.capacity() <= TEXT_BYTES_KEPT {
            TEXT.set(text);
        }
        set
    }

    /// Reads back what [`Labels::encoded`] gave.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::Kind::Corrupt) when the bytes are not an encoded label set.
    pub fn from_encoded(bytes: &[u8]) -> Result<Self> {
        Self::check_encoded(bytes).map(|text| Self(text.into()))
    }

    /// Whether bytes are what [`Labels::encoded`] gives; they are text then.
    ///
    /// # Errors
    /// As [`Labels::from_encoded`].
    pub fn check_encoded(bytes: &[u8]) -> Result<&str> {
        let bad = |what: &str| Error::corrupt("a label set", 0, what);
        let text = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
        let mut rest = text;
        let mut previous: Option<&str> = None;
        while !rest.is_empty() {
            let (name, after) = take(rest).ok_or_else(|| bad("a name is cut"))?;
            let (value, after) = take(after).ok_or_else(|| bad("a value is cut"))?;
            if name.is_empty() || value.is_empty() {
                return Err(bad("an empty name or value"));
            }
            if previous.is_some_and(|previous| previous >= name) {
                return Err(bad("names out of order"));
            }
            previous = Some(name);
            rest = after;
        }
        Ok(text)
    }

    /// The stable encoding of the set (see the type's description); equal sets have equal bytes.
    pub fn encoded(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// XXH3 of the encoding. Stable across processes and versions.
    pub fn hash64(&self) -> u64 {
        hash_encoded(self.encoded())
    }

    /// The pairs in order of their names.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// The value of `name`, or `None` when the set does not have it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// The set of those labels whose name `keep` says to keep.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self::from_sorted(self.iter().filter(|(name, _)| keep(name)))
    }

    /// The set with `name` set to `value`, or without `name` when `value` is empty. An empty
    /// `name` changes nothing.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        if name.is_empty() {
            return self.clone();
        }
        let before = self.iter().take_while(|(n, _)| *n < name);
        let after = self.iter().skip_while(|(n, _)| *n <= name);
        Self::from_sorted(before.chain([(name, value)]).chain(after))
    }

    /// Bytes that this set holds on the heap, for memory accounting.
    pub fn heap_bytes(&self) -> usize {
        self.0.len() + 2 * size_of::<usize>()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Ord for Labels {
    /// By the sorted pairs, name before value, bytewise; a set that is a prefix comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        // Equal sets have equal bytes, so only the string in which the bytes first differ is looked
        // at: lengths lead to it.
        let (a, b) = (self.encoded(), other.encoded());
        let same = common_prefix(a, b);
        if same == a.len() || same == b.len() {
            return a.len().cmp(&b.len());
        }
        let mut rest = &*self.0;
        loop {
            let start = a.len() - rest.len();
            let Some((_, after)) = take(rest) else {
                return self.iter().cmp(other.iter());
            };
            if a.len() - after.len() > same {
                let strings = (take(rest), other.0.get(start..).and_then(take));
                let (Some((ours, _)), Some((theirs, _))) = strings else {
                    return self.iter().cmp(other.iter());
                };
                return ours.cmp(theirs);
            }
            rest = after;
        }
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterator over the pairs of a [`Labels`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = take(self.rest)?;
        let (value, rest) = take(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// How many bytes two encodings have in common at their beginnings.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.chunks_exact(8).zip(b.chunks_exact(8));
    let whole = 8 * chunks.take_while(|(a, b)| a == b).count();
    let (a, b) = (a.get(whole..), b.get(whole..));
    let rest = a.unwrap_or_default().iter().zip(b.unwrap_or_default());
    whole + rest.take_while(|(a, b)| a == b).count()
}

/// Names and values of the set with this encoding, which is one of [`Labels::encoded`]; bytes that
/// are no encoding give what can be read of them.
pub fn pairs_of(encoded: &[u8]) -> Iter<'_> {
    Iter {
        rest: std::str::from_utf8(encoded).unwrap_or_default(),
    }
}

/// Appends the encoding of pairs, whose names rise and which are not empty; what is none is refused
/// by [`Labels::check_encoded`].
pub fn put_pairs<'a>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    for text in pairs.flat_map(|(name, value)| [name, value]) {
        push_len(out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

/// What [`Labels::hash64`] gives for the set with this encoding.
pub fn hash_encoded(encoded: &[u8]) -> u64 {
    xxh3_64(encoded)
}

fn push_len(encoded: &mut Vec<u8>, mut len: usize) {
    while len >= 0x40 {
        encoded.push((len & 0x3f) as u8 | 0x40);
        len >>= 6;
    }
    encoded.push(len as u8);
}

/// Splits one length-prefixed string off the front.
fn take(text: &str) -> Option<(&str, &str)> {
    let mut len = 0usize;
    for (i, &byte) in text.as_bytes().iter().enumerate().take(10) {
        if byte >= 0x80 {
            return None;
        }
        len |= usize::from(byte & 0x3f).checked_shl(6 * i as u32)?;
        if byte & 0x40 == 0 {
            // A length has one form only: equal sets have equal bytes.
            if byte == 0 && i > 0 {
                return None;
            }
            let body = text.get(i + 1..)?;
            return Some((body.get(..len)?, body.get(len..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests;
