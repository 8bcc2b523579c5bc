//! Targets of the log engine: the pages and sections of a block. Checksums would hide everything
//! behind them, so each page is what it is before it is packed. An input is the number of entries
//! (one byte) and pieces with two bytes of length before each; the last takes the rest.

use trine_logstore::decoders;

/// Lengths, text, variables.
pub(crate) fn lines(data: &[u8]) {
    if let Some((rows, [lengths, text, variables])) = pieces(data) {
        decoders::lines(lengths, text, variables, rows.into()).ok();
    }
}

/// The page of metadata.
pub(crate) fn metadata(data: &[u8]) {
    if let Some((rows, page)) = data.split_first() {
        decoders::metadata(page, u32::from(*rows)).ok();
    }
}

/// Summary, headers, timestamps of the first chunk.
pub(crate) fn chunks(data: &[u8]) {
    if let Some((_, [summary, headers, timestamps])) = pieces(data) {
        decoders::chunks(summary, headers, timestamps).ok();
    }
}

fn pieces(data: &[u8]) -> Option<(u8, [&[u8]; 3])> {
    let (rows, mut data) = data.split_first()?;
    let mut pieces = [&[][..]; 3];
    let (last, first) = pieces.split_last_mut()?;
    for piece in first {
        let (len, rest) = data.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        (*piece, data) = rest.split_at(len);
    }
    *last = data;
    Some((*rows, pieces))
}
