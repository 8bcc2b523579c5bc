//! A line whose numbers and ids were left out, for the parsers: they find their way by what is between
//! and put in only what they keep.

use std::cell::{Cell, RefCell};

use memchr::memchr;

use crate::logql::source::{STAND_IN, Skeletons};

/// What all rows share.
#[derive(Debug, Default)]
pub(super) struct Filling {
    text: RefCell<Vec<u8>>,
    unclear: Cell<bool>,
}

impl Filling {
    /// Whether a parser could not do without the whole line since this was asked last.
    pub(super) fn take_unclear(&self) -> bool {
        self.unclear.take()
    }
}

/// A line that stages see without its numbers and ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skeleton<'a> {
    pub(super) lines: &'a dyn Skeletons,
    pub(super) row: usize,
    pub(super) line: &'a [u8],
    pub(super) filling: &'a Filling,
}

impl Skeleton<'_> {
    /// Says that the whole line is needed.
    pub(super) fn is_unclear(self) {
        self.filling.unclear.set(true);
    }
}

/// Gives `read` a part of the line as it is written; `part` is a slice of the line that the parser
/// was given.
pub(super) fn written<R>(
    skeleton: Option<Skeleton<'_>>,
    part: &[u8],
    read: impl FnOnce(&[u8]) -> R,
) -> R {
    let Some(skeleton) = skeleton.filter(|_| memchr(STAND_IN, part).is_some()) else {
        return read(part);
    };
    let at = part.as_ptr().addr() - skeleton.line.as_ptr().addr();
    let mut text = skeleton.filling.text.take();
    text.clear();
    let range = at..at + part.len();
    if skeleton
        .lines
        .write(skeleton.row, range, &mut text)
        .is_err()
    {
        // Who reads the whole line meets the error and tells it.
        skeleton.is_unclear();
    }
    let read = read(&text);
    skeleton.filling.text.replace(text);
    read
}
