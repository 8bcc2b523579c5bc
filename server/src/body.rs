//! Request bodies of the write paths: read with one limit, unpacked with another. Handlers of
//! `ingest` call [`read`] on the runtime and [`Encoding::decode`] on a thread that may block.
//!
//! What a body claims about itself is an attacker's input: nothing is allocated on its word alone,
//! and all bodies together draw on one budget.

use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::{Reason, Refusal};

/// Bytes that one permit of the budget stands for.
const PERMIT_BYTES: usize = 4096;

/// A zstd frame may ask for a window of at most 2^this bytes (8 MiB, what level 19 uses); larger
/// ones are refused rather than allocated.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Snappy cannot expand by more than 64 bytes out of 3 in; a claim past this is a lie.
const SNAPPY_RATIO_MAX: usize = 22;

/// Memory that bodies may hold between arrival and commit, all requests together.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

/// A body's share of the [`Budget`]; dropping it gives the share back.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    permits: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            (bytes / PERMIT_BYTES).clamp(1, u32::MAX as usize >> 4),
        )))
    }

    /// A share of nothing, to grow.
    pub fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            permits: None,
            bytes: 0,
        }
    }
}

impl Share {
    /// Makes the share at least `bytes` large.
    ///
    /// # Errors
    /// [`Reason::Busy`] when the budget has no more.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let more = (bytes - self.bytes).div_ceil(PERMIT_BYTES);
        let busy = || {
            let text = "the bodies of requests in progress fill the memory that they may use; \
                        send it again later";
            Refusal::new(Reason::Busy, text)
        };
        let count = u32::try_from(more).map_err(|_| busy())?;
        let permits = Arc::clone(&self.budget.0)
            .try_acquire_many_owned(count)
            .map_err(|_| busy())?;
        match &mut self.permits {
            Some(held) => held.merge(permits),
            None => self.permits = Some(permits),
        }
        self.bytes += more * PERMIT_BYTES;
        Ok(())
    }
}

/// A body as it arrived.
#[derive(Debug)]
pub struct Payload {
    /// The bytes, still encoded.
    pub bytes: Bytes,
    /// What it holds of the budget.
    pub share: Share,
}

/// Reads a whole body of at most `bytes_max` bytes as they come over the wire.
///
/// # Errors
/// [`Reason::TooLarge`] past the limit (before reading, if the header admits it), [`Reason::Busy`]
/// when the budget is used up, [`Reason::Bad`] when the body breaks off.
pub async fn read(
    mut body: Body,
    headers: &HeaderMap,
    bytes_max: usize,
    budget: &Budget,
) -> Result<Payload, Refusal> {
    let claimed = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if let Some(length) = claimed
        && length > bytes_max
    {
        return Err(too_large(length, bytes_max));
    }
    let mut share = budget.share();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Refusal::bad(format!("cannot read the request body: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = bytes.len() + data.len();
        if length > bytes_max {
            return Err(too_large(length, bytes_max));
        }
        share.grow_to(length)?;
        bytes.extend_from_slice(&data);
    }
    Ok(Payload {
        bytes: bytes.freeze(),
        share,
    })
}

/// The text is Loki's, which Fluent Bit users search for; it serves the other APIs as well.
fn too_large(length: usize, limit: usize) -> Refusal {
    let text = format!("request body too large: {length} bytes, limit: {limit} bytes");
    Refusal::new(Reason::TooLarge, text)
}

/// How a body was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 1950, or RFC 1951 without its envelope, as Go's clients send under the same name.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// One snappy block (not the framed format).
    Snappy,
}

impl Encoding {
    /// The encoding that the header `Content-Encoding` names; none without the header.
    ///
    /// # Errors
    /// [`Reason::UnsupportedMedia`] for a name that is not known.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else {
            return Ok(None);
        };
        let name = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        match name.as_str() {
            "" => Ok(None),
            "identity" | "none" => Ok(Some(Self::Identity)),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" | "zlib" => Ok(Some(Self::Deflate)),
            "zstd" => Ok(Some(Self::Zstd)),
            "snappy" => Ok(Some(Self::Snappy)),
            _ => {
                let text = format!("Content-Encoding {name:?} not supported");
                Err(Refusal::new(Reason::UnsupportedMedia, text))
            }
        }
    }

    /// Unpacks `bytes` into at most `bytes_max` bytes; `share` grows before memory does.
    ///
    /// # Errors
    /// [`Reason::TooLarge`] past the limit, [`Reason::Bad`] when the bytes are damaged,
    /// [`Reason::Busy`] when the budget is used up.
    pub fn decode(
        self,
        bytes: Bytes,
        bytes_max: usize,
        share: &mut Share,
    ) -> Result<Bytes, Refusal> {
        match self {
            Self::Identity if bytes.len() > bytes_max => Err(too_large(bytes.len(), bytes_max)),
            Self::Identity => Ok(bytes),
            Self::Gzip => inflate(
                "gzip",
                flate2::read::MultiGzDecoder::new(&bytes[..]),
                bytes_max,
                share,
            ),
            Self::Deflate if has_zlib_header(&bytes) => inflate(
                "deflate",
                flate2::read::ZlibDecoder::new(&bytes[..]),
                bytes_max,
                share,
            ),
            Self::Deflate => inflate(
                "deflate",
                flate2::read::DeflateDecoder::new(&bytes[..]),
                bytes_max,
                share,
            ),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(&bytes[..])
                    .map_err(|error| damaged("zstd", &error))?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG_MAX)
                    .map_err(|error| damaged("zstd", &error))?;
                inflate("zstd", decoder, bytes_max, share)
            }
            Self::Snappy => unsnap(&bytes, bytes_max, share),
        }
    }
}

fn damaged(name: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::bad(format!("cannot unpack the {name} body: {error}"))
}

fn has_zlib_header(bytes: &[u8]) -> bool {
    match bytes {
        [first, second, ..] => {
            first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31)
        }
        _ => false,
    }
}

fn inflate(
    name: &str,
    mut decoder: impl Read,
    bytes_max: usize,
    share: &mut Share,
) -> Result<Bytes, Refusal> {
    let held = share.bytes;
    let mut out = Vec::new();
    let mut piece = [0u8; 16 << 10];
    loop {
        let count = decoder
            .read(&mut piece)
            .map_err(|error| damaged(name, &error))?;
        if count == 0 {
            return Ok(out.into());
        }
        let length = out.len() + count;
        if length > bytes_max {
            // How much more would come is not worth finding out.
            return Err(too_large(length, bytes_max));
        }
        share.grow_to(held + length)?;
        out.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
}

fn unsnap(bytes: &[u8], bytes_max: usize, share: &mut Share) -> Result<Bytes, Refusal> {
    let length = snap::raw::decompress_len(bytes).map_err(|error| damaged("snappy", &error))?;
    if length > bytes.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(damaged("snappy", &"it claims to hold more than it can"));
    }
    if length > bytes_max {
        return Err(too_large(length, bytes_max));
    }
    share.grow_to(share.bytes + length)?;
    let mut out = vec![0; length];
    let count = snap::raw::Decoder::new()
        .decompress(bytes, &mut out)
        .map_err(|error| damaged("snappy", &error))?;
    out.truncate(count);
    Ok(out.into())
}

#[cfg(test)]
mod tests;
