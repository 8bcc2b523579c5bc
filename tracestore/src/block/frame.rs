//! Byte strings under zstd, with contexts that are kept by each thread: making one costs more than
//! a small frame does. Pages of blobs and dictionaries of long texts call it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

/// Frames are some ten KiB, where higher levels win little.
const LEVEL: i32 = 3;
/// More than any frame holds; a claim above it is damage.
pub(crate) const RAW_BYTES_MAX: usize = 64 << 20;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends `raw` under zstd, or as it is when that does not save a sixteenth; tells how many bytes
/// these are, which are as many as `raw` has only when it is stored as it is.
pub(crate) fn put(out: &mut Vec<u8>, raw: &[u8]) -> usize {
    let packed = COMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Compressor::new(LEVEL).ok();
        }
        kept.as_mut()?.compress(raw).ok()
    });
    let stored = match &packed {
        Some(packed) if packed.len() < raw.len() - raw.len() / 16 => packed,
        _ => raw,
    };
    out.extend_from_slice(stored);
    stored.len()
}

/// Replaces `out` by the `raw_len` bytes that [`put`] was given; `None` when `stored` does not hold
/// exactly as many.
pub(crate) fn open(stored: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    if stored.len() == raw_len {
        out.extend_from_slice(stored);
        return Some(());
    }
    // The frame knows how much it holds; what a damaged length asks for is never allocated.
    let claimed = zstd::zstd_safe::get_frame_content_size(stored).ok()??;
    if claimed != raw_len as u64 || raw_len > RAW_BYTES_MAX {
        return None;
    }
    DECOMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Decompressor::new().ok();
        }
        out.reserve(raw_len);
        let written = kept.as_mut()?.decompress_to_buffer(stored, out).ok()?;
        (written == raw_len && out.len() == raw_len).then_some(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_damage_is_seen() {
        let text = "the same and the same again ".repeat(20);
        for raw in [&b""[..], b"x", text.as_bytes()] {
            let mut stored = Vec::new();
            let len = put(&mut stored, raw);
            assert_eq!(len, stored.len());
            let mut out = b"old".to_vec();
            assert_eq!(open(&stored, raw.len(), &mut out), Some(()));
            assert_eq!(out, raw);
            assert_eq!(open(&stored, raw.len() + 1, &mut out), None);
            for cut in 0..stored.len() {
                assert_eq!(open(&stored[..cut], raw.len(), &mut out), None, "{cut}");
            }
        }
    }
}
