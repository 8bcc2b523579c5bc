//! Answers that are written while they are sent: piece after piece of bounded size, so that a large
//! result is never in memory as text. The handlers of `prometheus` make them.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;

/// Bytes after which a piece is sent; it is longer by one value or label set at most.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// Something that writes itself piece by piece.
pub(super) trait Produce: Send {
    /// Appends to `out` until [`PIECE_BYTES`] are in it or everything is written. Gives whether
    /// more is to come.
    fn produce(&mut self, out: &mut String) -> bool;
}

/// What a handler answers: JSON, whole or in pieces.
pub(super) enum Reply {
    /// All of it.
    Whole(String),
    /// The first piece, and what writes the others.
    Pieces(String, Box<dyn Produce>),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(text) => f.debug_tuple("Whole").field(text).finish(),
            Self::Pieces(first, _) => f.debug_tuple("Pieces").field(first).finish(),
        }
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self::Whole(text)
    }
}

impl Reply {
    /// What `producer` writes. The first piece is written now.
    pub(super) fn of(mut producer: impl Produce + 'static) -> Self {
        let mut first = String::new();
        if producer.produce(&mut first) {
            Self::Pieces(first, Box::new(producer))
        } else {
            Self::Whole(first)
        }
    }

    /// All of it in one text.
    #[cfg(test)]
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Whole(text) => text,
            Self::Pieces(mut text, mut rest) => {
                let mut piece = String::new();
                let mut goes_on = true;
                while goes_on {
                    goes_on = rest.produce(&mut piece);
                    text.push_str(&std::mem::take(&mut piece));
                }
                text
            }
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        self.into_response_of("application/json")
    }
}

impl Reply {
    /// As a response of another content type than JSON.
    pub(super) fn into_response_of(self, kind: &'static str) -> Response {
        let kind = HeaderValue::from_static(kind);
        let body = match self {
            Self::Whole(text) => Body::from(text),
            Self::Pieces(first, rest) => Body::new(Pieces {
                first: Some(first),
                rest: Some(rest),
            }),
        };
        ([(header::CONTENT_TYPE, kind)], body).into_response()
    }
}

/// A body in pieces. Writing one takes a fraction of a millisecond, so it is done where the body is
/// polled.
struct Pieces {
    first: Option<String>,
    /// None after the last piece.
    rest: Option<Box<dyn Produce>>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => self.rest.take().map(|mut rest| {
                let mut piece = String::with_capacity(PIECE_BYTES + (PIECE_BYTES >> 3));
                if rest.produce(&mut piece) {
                    self.rest = Some(rest);
                }
                piece
            }),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }
}

/// A list of which each item is written at once, between two texts.
pub(super) struct List<T> {
    head: String,
    items: std::vec::IntoIter<T>,
    write: fn(&mut String, T),
    tail: String,
    is_first: bool,
}

impl<T> List<T> {
    /// `head`, the items with commas between, `tail`.
    pub(super) fn new(
        head: String,
        items: Vec<T>,
        write: fn(&mut String, T),
        tail: String,
    ) -> Self {
        Self {
            head,
            items: items.into_iter(),
            write,
            tail,
            is_first: true,
        }
    }
}

impl<T: Send> Produce for List<T> {
    fn produce(&mut self, out: &mut String) -> bool {
        out.push_str(&std::mem::take(&mut self.head));
        while out.len() < PIECE_BYTES {
            let Some(item) = self.items.next() else {
                out.push_str(&self.tail);
                return false;
            };
            if !std::mem::replace(&mut self.is_first, false) {
                out.push(',');
            }
            (self.write)(out, item);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use http_body_util::BodyExt as _;

    use super::{List, PIECE_BYTES, Reply};

    fn list(items: usize) -> Reply {
        let write = |out: &mut String, text: String| out.push_str(&text);
        let items = vec!["x".repeat(999); items];
        Reply::of(List::new("[".to_owned(), items, write, "]".to_owned()))
    }

    #[tokio::test]
    async fn pieces_are_bounded_and_make_the_whole() {
        for (items, pieces_expected) in [(0, 1), (1, 1), (64, 1), (65, 1), (66, 2), (1000, 16)] {
            let expect = format!("[{}]", vec!["x".repeat(999); items].join(","));
            assert_eq!(list(items).into_text(), expect);
            let mut body = list(items).into_response().into_body();
            let (mut pieces, mut whole) = (0, Vec::new());
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!(data.len() < PIECE_BYTES + 1000, "{}", data.len());
                pieces += 1;
                whole.extend_from_slice(&data);
            }
            assert_eq!(whole, expect.as_bytes());
            assert_eq!(pieces, pieces_expected, "{items}");
        }
    }
}
