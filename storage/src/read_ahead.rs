//! How far a reader of files that are far away is ahead of itself: what it comes to next is on its way
//! while it works on what it has, as long as that is not too much.

use std::collections::VecDeque;

/// Bytes that one reader has asked for and not come to yet, at most; a single piece may be larger.
/// Default 32 MiB, less where the cache of pages is small.
pub const READ_AHEAD_BYTES_MAX: u64 = 32 << 20;
/// Pieces that one reader has asked for and not come to yet, at most: some need no bytes.
const PIECES_MAX: usize = 1024;

/// What a reader has asked for and not come to yet, in the order in which it will.
#[derive(Debug)]
pub struct ReadAhead {
    bytes_max: u64,
    pieces_max: usize,
    coming: VecDeque<u64>,
    bytes: u64,
}

impl ReadAhead {
    /// Of a reader that needs all there is, or of one that may stop early and begins with one piece:
    /// it asks for twice as many each time. At most `bytes_max` are coming, and not more than
    /// [`READ_AHEAD_BYTES_MAX`].
    pub fn new(bytes_max: u64, needs_all: bool) -> Self {
        Self {
            bytes_max: bytes_max.min(READ_AHEAD_BYTES_MAX),
            pieces_max: if needs_all { PIECES_MAX } else { 1 },
            coming: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether the reader is to ask for more before it goes on: when little is coming, so that it
    /// seldom asks and never waits for all of it.
    pub fn is_due(&self) -> bool {
        match self.pieces_max < PIECES_MAX {
            true => self.coming.is_empty(),
            false => self.coming.len() <= PIECES_MAX / 2 && self.bytes <= self.bytes_max / 2,
        }
    }

    /// Whether nothing more may be asked for now.
    pub fn is_full(&self) -> bool {
        let has_enough = self.coming.len() >= self.pieces_max || self.bytes >= self.bytes_max;
        has_enough && !self.coming.is_empty()
    }

    /// Told of the next piece; whether it may be asked for now. The first always may.
    pub fn ask(&mut self, bytes: u64) -> bool {
        let has_room = bytes <= self.bytes_max.saturating_sub(self.bytes) && !self.is_full();
        let may = self.coming.is_empty() || has_room;
        if may {
            self.coming.push_back(bytes);
            self.bytes = self.bytes.saturating_add(bytes);
        }
        may
    }

    /// Told that the reader comes to the piece that was asked for first.
    pub fn used(&mut self) {
        if let Some(bytes) = self.coming.pop_front() {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        if self.coming.is_empty() {
            self.pieces_max = (2 * self.pieces_max).min(PIECES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for pieces of so many bytes as long as it may; how many.
    fn fill(ahead: &mut ReadAhead, bytes: u64) -> usize {
        (0..)
            .take_while(|_| !ahead.is_full() && ahead.ask(bytes))
            .count()
    }

    #[test]
    fn no_more_bytes_are_coming_than_may() {
        let max = READ_AHEAD_BYTES_MAX;
        let mut ahead = ReadAhead::new(u64::MAX, true);
        assert!(ahead.is_due());
        assert!(ahead.ask(max - 1));
        assert!(!ahead.is_full() && !ahead.is_due());
        assert!(!ahead.ask(2), "one byte too many");
        assert!(ahead.ask(1), "to the last byte");
        assert!(ahead.is_full());
        assert!(!ahead.ask(0));
        ahead.used();
        assert_eq!(ahead.bytes, 1);
        // One that is too large comes alone.
        ahead.used();
        assert!(ahead.ask(max + 1));
        assert!(ahead.is_full() && !ahead.ask(1));
        ahead.used();
        assert!(ahead.is_due() && !ahead.is_full());
        // A smaller cache allows less.
        let mut ahead = ReadAhead::new(10, true);
        assert!(ahead.ask(4) && !ahead.ask(7) && ahead.ask(6) && ahead.is_full());
        let mut ahead = ReadAhead::new(0, true);
        assert!(!ahead.is_full() && ahead.ask(4) && ahead.is_full());
    }

    #[test]
    fn who_needs_all_asks_again_when_half_of_it_was_used() {
        let mut ahead = ReadAhead::new(100, true);
        assert_eq!(fill(&mut ahead, 10), 10);
        for _ in 0..4 {
            ahead.used();
            assert!(!ahead.is_due());
        }
        ahead.used();
        assert!(ahead.is_due());
        assert_eq!(fill(&mut ahead, 10), 5);
        // Pieces without bytes are bounded, too.
        let mut ahead = ReadAhead::new(100, true);
        assert_eq!(fill(&mut ahead, 0), PIECES_MAX);
        assert!(!ahead.ask(0));
    }

    #[test]
    fn who_may_stop_early_begins_with_one_and_doubles() {
        let mut ahead = ReadAhead::new(u64::MAX, false);
        for count in [1, 2, 4, 8] {
            assert!(ahead.is_due());
            assert_eq!(fill(&mut ahead, 10), count);
            for _ in 0..count {
                assert!(!ahead.is_due());
                ahead.used();
            }
        }
    }
}
