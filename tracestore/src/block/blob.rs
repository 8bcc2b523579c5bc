//! Pages of byte strings in zstd frames: what neither a dictionary nor templates fit. A frame has
//! whole values of about 32 KiB together, so one value costs one frame.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{Reader, put_varint};
use trine_storage::{Error, Kind, Result};

use super::bits::{self, Packed, packed_bytes};
use super::frame;
use super::numbers::Bounds;
use super::values::Texts;

/// Values are added to a frame until it has as many bytes.
const FRAME_BYTES: usize = 32 << 10;

/// Appends a page.
///
/// # Errors
/// [`Kind::Limit`] for a value of more than 64 MiB.
pub(crate) fn put_page<'v>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = &'v [u8]> + Clone,
) -> Result<()> {
    let lengths: Vec<u64> = values.clone().map(|value| value.len() as u64).collect();
    let bounds = Bounds::of(lengths.iter().copied()).unwrap_or(Bounds {
        least: 0,
        greatest: 0,
    });
    if bounds.greatest > frame::RAW_BYTES_MAX as u64 {
        return Err(Error::new(
            Kind::Limit,
            format!("a value of {} bytes is too large", bounds.greatest),
        ));
    }
    let (mut table, mut frames, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let (mut count, mut held) = (0u64, 0u64);
    let mut close = |raw: &mut Vec<u8>, held: &mut u64| {
        if *held > 0 {
            let stored = frame::put(&mut frames, raw);
            put_varint(&mut table, *held);
            put_varint(&mut table, raw.len() as u64);
            put_varint(&mut table, stored as u64);
            count += 1;
        }
        raw.clear();
        *held = 0;
    };
    for value in values {
        if raw.len() + value.len() > FRAME_BYTES {
            close(&mut raw, &mut held);
        }
        raw.extend_from_slice(value);
        held += 1;
    }
    close(&mut raw, &mut held);
    put_varint(out, bounds.least);
    out.push(bounds.width());
    put_varint(out, count);
    out.extend_from_slice(&table);
    let above = lengths.iter().map(|length| length - bounds.least);
    bits::pack(out, above, bounds.width());
    out.extend_from_slice(&frames);
    Ok(())
}

#[derive(Debug)]
struct Frame {
    /// The values in it are `first..end`.
    first: usize,
    end: usize,
    raw_len: usize,
    /// Its bytes are `start..start + stored` of all frames.
    start: usize,
    stored: usize,
}

/// A page, read in place.
#[derive(Debug)]
pub(crate) struct BlobPage<'a> {
    name: &'a str,
    offset: u64,
    least: u64,
    lengths: Packed<'a>,
    table: Vec<Frame>,
    frames: &'a [u8],
}

/// The frame that was decompressed last, so that neighbours share it.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    frame: Option<usize>,
    raw: Vec<u8>,
    /// Where in `raw` value `next` begins.
    next: usize,
    at: usize,
}

impl<'a> BlobPage<'a> {
    /// A page of `count` values that takes all of `bytes`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`], with `name` and `offset`, when it makes no sense; so for all methods.
    pub(crate) fn new(name: &'a str, offset: u64, bytes: &'a [u8], count: usize) -> Result<Self> {
        let mut reader = Reader::new(name, bytes);
        let least = reader.varint()?;
        let width = reader.u8()?;
        let frames = reader.count(3)?;
        let mut table = Vec::with_capacity(frames);
        let (mut first, mut start) = (0usize, 0usize);
        for _ in 0..frames {
            let mut number =
                || Ok::<_, Error>(usize::try_from(reader.varint()?).unwrap_or(usize::MAX));
            let (held, raw_len, stored) = (number()?, number()?, number()?);
            let end = first.saturating_add(held);
            table.push(Frame {
                first,
                end,
                raw_len,
                start,
                stored,
            });
            first = end;
            start = start.saturating_add(stored);
        }
        let lengths = reader.take(packed_bytes(count, width))?;
        let frames = reader.take(start)?;
        if first != count || !reader.is_empty() {
            return Err(reader.corrupt("the frames of a page are not those that it says"));
        }
        Ok(Self {
            name,
            offset,
            least,
            lengths: Packed::new(name, offset, lengths, count, width)?,
            table,
            frames,
        })
    }

    fn corrupt(&self) -> Error {
        Error::corrupt(self.name, self.offset, "a frame does not hold what it says")
    }

    fn length(&self, place: usize) -> usize {
        let length = self.least.saturating_add(self.lengths.get(place));
        usize::try_from(length).unwrap_or(usize::MAX)
    }

    /// One value. Ascending places cost each frame once, and each length once.
    pub(crate) fn get<'o>(&self, place: usize, opened: &'o mut Opened) -> Result<&'o [u8]> {
        let number = self.table.partition_point(|frame| frame.end <= place);
        let frame = self.table.get(number).ok_or_else(|| self.corrupt())?;
        if opened.frame != Some(number) {
            opened.frame = None;
            let stored = self
                .frames
                .get(frame.start..)
                .and_then(|f| f.get(..frame.stored));
            stored
                .and_then(|stored| frame::open(stored, frame.raw_len, &mut opened.raw))
                .ok_or_else(|| self.corrupt())?;
            opened.frame = Some(number);
            (opened.next, opened.at) = (frame.first, 0);
        } else if place < opened.next {
            (opened.next, opened.at) = (frame.first, 0);
        }
        while opened.next < place {
            opened.at = opened.at.saturating_add(self.length(opened.next));
            opened.next += 1;
        }
        let end = opened.at.saturating_add(self.length(place));
        let value = opened.raw.get(opened.at..end);
        value.ok_or_else(|| self.corrupt())
    }

    /// Appends the values at some places, which ascend; all without.
    pub(crate) fn texts(&self, places: Option<&[u32]>, out: &mut Texts) -> Result<()> {
        let mut opened = Opened::default();
        match places {
            Some(places) => {
                for &place in places {
                    out.push(self.get(place as usize, &mut opened)?);
                }
            }
            None => self.each(|_, value| {
                out.push(value);
                Ok(())
            })?,
        }
        Ok(())
    }

    /// Appends the places of values that equal one of `needles`. Lengths tell which frames need
    /// not be decompressed.
    pub(crate) fn search(&self, needles: &[Vec<u8>], out: &mut Vec<u32>) -> Result<()> {
        let mut opened = Opened::default();
        for (number, place) in (0..).zip(0..self.lengths.len()) {
            let len = self.length(place);
            if needles.iter().any(|needle| needle.len() == len) {
                let value = self.get(place, &mut opened)?;
                if needles.iter().any(|needle| needle == value) {
                    out.push(number);
                }
            }
        }
        Ok(())
    }

    /// Hands over all values in order, with their places.
    pub(crate) fn each(&self, mut take: impl FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        let mut opened = Opened::default();
        for (number, place) in (0..).zip(0..self.lengths.len()) {
            take(number, self.get(place, &mut opened)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests use small numbers")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(values: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_page(&mut out, values.iter().map(Vec::as_slice)).unwrap();
        out
    }

    #[test]
    fn golden_bytes() {
        let bytes = page(&[b"ab".to_vec(), b"".to_vec(), b"cde".to_vec()]);
        assert_eq!(bytes, b"\x00\x02\x01\x03\x05\x05\x32abcde");
    }

    #[test]
    fn frames_are_cut_and_large_values_have_their_own() {
        let sizes = [20_000, 20_000, 100_000, 10, 10];
        let values: Vec<Vec<u8>> = (b'a'..)
            .zip(sizes)
            .map(|(letter, size)| vec![letter; size])
            .collect();
        let bytes = page(&values);
        let page = BlobPage::new("test", 0, &bytes, values.len()).unwrap();
        let ends: Vec<usize> = page.table.iter().map(|frame| frame.end).collect();
        assert_eq!(ends, [1, 2, 3, 5]);
        let mut opened = Opened::default();
        for place in [4, 3, 0, 2, 1] {
            assert_eq!(page.get(place, &mut opened).unwrap(), values[place]);
        }
    }

    #[test]
    fn damage_is_an_error_or_harmless() {
        let values: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n / 8; n.into()]).collect();
        let bytes = page(&values);
        let read = |bytes: &[u8]| {
            let mut out = Texts::default();
            BlobPage::new("test", 0, bytes, values.len())?.texts(None, &mut out)
        };
        read(&bytes).unwrap();
        for at in 0..bytes.len() {
            assert!(read(&bytes[..at]).is_err(), "{at}");
            for mask in [1, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= mask;
                if let Err(error) = read(&bytes) {
                    assert_eq!(error.kind(), Kind::Corrupt);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn values_come_back(
            values in proptest::collection::vec("[a-d]{0,40}".prop_map(String::into_bytes), 0..100),
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let bytes = page(&values);
            let page = BlobPage::new("test", 0, &bytes, values.len()).unwrap();
            let mut all = Texts::default();
            page.texts(None, &mut all).unwrap();
            prop_assert!(all.iter().eq(values.iter().map(Vec::as_slice)));
            let mut places: Vec<u32> = picks
                .iter()
                .filter(|_| !values.is_empty())
                .map(|pick| pick.index(values.len()) as u32)
                .collect();
            places.sort_unstable();
            let mut some = Texts::default();
            page.texts(Some(&places), &mut some).unwrap();
            prop_assert!(some.iter().eq(places.iter().map(|&p| values[p as usize].as_slice())));
        }
    }
}
