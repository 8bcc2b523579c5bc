//! What columns are made of, read from untrusted bytes in every way. The fuzz targets call it
//! through `decoders`; the first bytes say what a directory would.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::Bytes;
use trine_storage::Result;
use trine_storage::codec::Reader;

use super::blob::BlobPage;
use super::column::ColumnMeta;
use super::dictionary::Dictionary;
use super::filter;
use super::numbers::{Bounds, NumberPage, Wanted};
use super::presence;
use super::template::{Needle, TemplatePage, Templates, split};
use super::values::{Texts, Type, ValueRef};

const NAME: &str = "fuzz";
/// Pages of equal values have no bytes that their number could be checked against.
const VALUES_MAX: usize = 1 << 16;

fn count(reader: &mut Reader<'_>) -> Result<usize> {
    Ok(usize::try_from(reader.varint()?).unwrap_or(usize::MAX) % VALUES_MAX)
}

fn bounds(reader: &mut Reader<'_>) -> Result<Bounds> {
    let least = reader.varint()?;
    let greatest = least.saturating_add(reader.varint()?);
    Ok(Bounds { least, greatest })
}

fn rest<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8]> {
    reader.take(reader.remaining())
}

/// The entry of a column in a directory.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt); so for all functions.
pub fn directory_entry(bytes: &[u8]) -> Result<()> {
    let meta = ColumnMeta::read(&mut Reader::new(NAME, bytes), 1 << 10)?;
    let mut out = Vec::new();
    meta.put(&mut out);
    Ok(())
}

/// A page of numbers or codes.
pub fn number_page(bytes: &[u8]) -> Result<()> {
    let mut reader = Reader::new(NAME, bytes);
    let (count, bounds) = (count(&mut reader)?, bounds(&mut reader)?);
    let page = NumberPage::new(NAME, 0, rest(&mut reader)?, count, bounds)?;
    let mut found = Vec::new();
    let middle = bounds.least.midpoint(bounds.greatest);
    let upper = Bounds {
        least: middle,
        greatest: bounds.greatest,
    };
    page.search(&Wanted::Range(upper), &mut found);
    if let Some(any) = Wanted::any(vec![bounds.least, middle, bounds.greatest]) {
        page.search(&any, &mut found);
    }
    page.decode(&mut Vec::new(), |number| number);
    page.codes(NAME, 0, &mut Vec::new())
}

/// A dictionary.
pub fn dictionary(bytes: &[u8]) -> Result<()> {
    let mut reader = Reader::new(NAME, bytes);
    let kind = match reader.u8()? % 4 {
        0 => Type::Str,
        1 => Type::Other,
        2 => Type::Int,
        _ => Type::Float,
    };
    let count = count(&mut reader)?;
    let body = Bytes::copy_from_slice(rest(&mut reader)?);
    let dictionary = Dictionary::open(NAME, 0, kind, count, &body)?;
    let last = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut scratch = Vec::new();
    dictionary.count(last);
    dictionary.lower_bound_number(u64::MAX / 3);
    for value in [
        ValueRef::Str("m"),
        ValueRef::Bytes(b"m"),
        ValueRef::Int(17),
        ValueRef::Float(1.5),
    ] {
        dictionary.find(value)?;
    }
    dictionary.read(last, &mut scratch)?;
    dictionary.each(last / 2, &mut |_, _| true)?;
    dictionary.entry(last).map(|_| ())
}

/// A page of blobs.
pub fn blob_page(bytes: &[u8]) -> Result<()> {
    let mut reader = Reader::new(NAME, bytes);
    let count = count(&mut reader)?;
    let page = BlobPage::new(NAME, 0, rest(&mut reader)?, count)?;
    page.search(&[b"needle".to_vec()], &mut Vec::new())?;
    page.texts(None, &mut Texts::default())
}

/// Rows of a page that have a column.
pub fn rows_page(bytes: &[u8]) -> Result<()> {
    let mut reader = Reader::new(NAME, bytes);
    let count = u32::try_from(count(&mut reader)?).unwrap_or(0);
    let first = u32::try_from(reader.varint()? % (1 << 13)).unwrap_or(0);
    let bytes = rest(&mut reader)?;
    for wanted in [0..u32::MAX, first..first + 64] {
        presence::each((NAME, 0), bytes, (count, 1 << 13), wanted, |_| {})?;
    }
    Ok(())
}

/// Templates, and a page of them.
pub fn template_page(bytes: &[u8]) -> Result<()> {
    let mut reader = Reader::new(NAME, bytes);
    let known = count(&mut reader)?;
    let templates = Templates::open(NAME, reader.bytes()?, known)?;
    let (count, bounds) = (count(&mut reader)?, bounds(&mut reader)?);
    let page = TemplatePage::new((NAME, 0), rest(&mut reader)?, count, bounds, &templates)?;
    let slots = vec![17; templates.slots(0).unwrap_or(0)];
    page.search(&[Needle { code: 0, slots }], &mut Vec::new())?;
    let mut text = Vec::new();
    page.each(None, |_, write| {
        text.clear();
        write(&mut text);
        text.len() < VALUES_MAX
    })
}

/// Text that is split and put together again; whether it is the same.
pub fn template_of(text: &str) -> bool {
    let (mut template, mut slots) = (Vec::new(), Vec::new());
    split(text.as_bytes(), &mut template, &mut slots);
    let mut bytes = Vec::new();
    super::template::put_templates(&mut bytes, &[&template].into_iter().collect());
    let mut out = Vec::new();
    if let Ok(templates) = Templates::open(NAME, &bytes, 1) {
        templates.write(0, &slots, &mut out);
    }
    out == text.as_bytes()
}

/// A filter; whether a value may be in it.
pub fn filter(bytes: &[u8]) -> bool {
    filter::may_contain(bytes, filter::hash(b"needle"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(
            prop_oneof![0..4u8, any::<u8>()], 0..60
        )) {
            let all = [
                directory_entry,
                number_page,
                dictionary,
                blob_page,
                rows_page,
                template_page,
            ];
            for decode in all {
                if let Err(error) = decode(&bytes) {
                    prop_assert_eq!(error.kind(), trine_storage::Kind::Corrupt);
                }
            }
            filter(&bytes);
            prop_assert!(template_of(&String::from_utf8_lossy(&bytes)));
        }
    }
}
