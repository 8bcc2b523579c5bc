//! Compression of pages and columns, with contexts that are kept by each thread: making one costs
//! more than a small column does. The formats of blocks call it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::codec::{Reader, put_u32};
use crate::error::{Error, Kind, Result};

/// Better levels cost time and win little on text of which the variables are taken out.
const LEVEL: i32 = 1;
/// More than any page unpacks to; a claim above it is damage.
pub const PAGE_RAW_BYTES_MAX: u32 = 64 << 20;

const STORED: u8 = 0;
const ZSTD: u8 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The bytes under zstd, when they are fewer than `below`.
pub fn compress(raw: &[u8], below: usize) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Compressor::new(LEVEL).ok();
        }
        let packed = kept.as_mut()?.compress(raw).ok()?;
        (packed.len() < below).then_some(packed)
    })
}

/// The `len` bytes that [`compress`] was given; `None` when `packed` does not hold as many.
pub fn decompress(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    // The frame knows how much it holds; what a damaged length asks for is never allocated.
    let claimed = zstd::zstd_safe::get_frame_content_size(packed).ok()??;
    if claimed != len as u64 || len > PAGE_RAW_BYTES_MAX as usize {
        return None;
    }
    DECOMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Decompressor::new().ok();
        }
        let raw = kept.as_mut()?.decompress(packed, len).ok()?;
        (raw.len() == len).then_some(raw)
    })
}

/// Packs a page: codec, length of what is packed, packed bytes.
///
/// # Errors
/// [`Kind::Limit`] when it is larger than [`PAGE_RAW_BYTES_MAX`].
pub fn pack(raw: &[u8]) -> Result<Vec<u8>> {
    let raw_len = u32::try_from(raw.len())
        .ok()
        .filter(|&len| len <= PAGE_RAW_BYTES_MAX);
    let raw_len = raw_len.ok_or_else(|| {
        Error::new(
            Kind::Limit,
            format!("a page of {} bytes is too large", raw.len()),
        )
    })?;
    let packed = compress(raw, raw.len());
    let (codec, body) = match &packed {
        Some(packed) => (ZSTD, packed.as_slice()),
        None => (STORED, raw),
    };
    let mut out = Vec::with_capacity(5 + body.len());
    out.push(codec);
    put_u32(&mut out, raw_len);
    out.extend_from_slice(body);
    Ok(out)
}

/// Unpacks what [`pack`] made.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are not that.
pub fn unpack(name: &str, page: &[u8]) -> Result<Vec<u8>> {
    let mut reader = Reader::new(name, page);
    let codec = reader.u8()?;
    let raw_len = reader.u32()?;
    if raw_len > PAGE_RAW_BYTES_MAX {
        return Err(reader.corrupt("a page says that it is larger than any page"));
    }
    let raw_len = usize::try_from(raw_len).unwrap_or(usize::MAX);
    let body = reader.take(reader.remaining())?;
    let raw = match codec {
        STORED => body.to_vec(),
        ZSTD => decompress(body, raw_len)
            .ok_or_else(|| reader.corrupt("a page cannot be decompressed"))?,
        _ => return Err(reader.corrupt("a page has an unknown codec")),
    };
    if raw.len() != raw_len {
        return Err(reader.corrupt("a page is not as long as it says"));
    }
    Ok(raw)
}
