//! Cuts text into tokens and names their class. Called by the token index and by the codec of
//! chunks.
//!
//! A token is a maximal run of ASCII letters, ASCII digits and bytes from 0x80 on; all else, also
//! `_`, is a delimiter. Simple case folding never changes where tokens begin and end: the ASCII
//! characters that fold are letters, and what else folds is not ASCII.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Fewest digits of a token of digits that is an id, in bytes.
pub(crate) const ID_DIGITS_MIN: usize = 5;

/// Fewest hexadecimal digits of a token that is an id although it has letters, in bytes.
pub(crate) const ID_HEX_MIN: usize = 12;

/// Longest word, in bytes. A longer token that is no id is [`Class::Long`].
pub(crate) const WORD_BYTES_MAX: usize = 32;

/// What a token looks like, which says where the index keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Everything that is none of the others.
    Word,
    /// An id: digits only, [`ID_DIGITS_MIN`] bytes or more.
    Digits,
    /// An id: hexadecimal digits of either case, [`ID_HEX_MIN`] bytes or more, at least one letter.
    Hex,
    /// No id, and longer than [`WORD_BYTES_MAX`] bytes.
    Long,
}

/// Where a token lies in the text and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// Offset of its first byte.
    pub(crate) start: usize,
    /// Offset behind its last byte.
    pub(crate) end: usize,
    /// What it looks like.
    pub(crate) class: Class,
    /// Whether it has ASCII digits.
    pub(crate) has_digit: bool,
}

/// Calls `each` for every token of `text`, from left to right. A line end is a delimiter like any
/// other, but a token never spans two lines only if `text` has one between them.
pub(crate) fn tokens(text: &[u8], mut each: impl FnMut(Token)) {
    let mut open = Open::default();
    let mut at = 0;
    let (words, rest) = text.as_chunks::<STRIDE>();
    for word in words {
        open.advance(Masks::of(word), at, &mut each);
        at += STRIDE;
    }
    // What is left and at least one delimiter, which ends the last token.
    let mut last = [0; STRIDE];
    if let Some(head) = last.get_mut(..rest.len()) {
        head.copy_from_slice(rest);
    }
    open.advance(Masks::of(&last), at, &mut each);
}

/// Whether `byte` belongs to a token.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

/// The class of a whole token.
pub(crate) fn class_of(token: &[u8]) -> Class {
    let mut class = Class::Word;
    tokens(token, |found| class = found.class);
    class
}

/// Bytes that are classified at once, one bit each.
const STRIDE: usize = 64;

/// One bit for each of 64 bytes, the lowest for the first.
#[derive(Debug, Clone, Copy)]
struct Masks {
    token: u64,
    digit: u64,
    hex_letter: u64,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x80 * ONES;
/// The bit that makes ASCII letters small and that ASCII digits have anyway.
const LOWER: u64 = 0x20 * ONES;

/// The high bit of each byte of `low` (all below 0x80) that is at least `least`.
const fn at_least(low: u64, least: u8) -> u64 {
    low + (0x80 - least as u64) * ONES
}

/// The high bits of eight bytes as eight bits.
const fn gather(highs: u64) -> u64 {
    ((highs & HIGHS) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

impl Masks {
    fn of(bytes: &[u8; STRIDE]) -> Self {
        let mut masks = Self {
            token: 0,
            digit: 0,
            hex_letter: 0,
        };
        let (eights, _) = bytes.as_chunks::<8>();
        for (i, eight) in eights.iter().enumerate() {
            let x = u64::from_le_bytes(*eight);
            let low = x & !HIGHS;
            let lower = low | LOWER;
            let ascii = !x;
            let digit = at_least(low, b'0') & !at_least(low, b'9' + 1) & ascii;
            let from_a = at_least(lower, b'a') & ascii;
            let letter = from_a & !at_least(lower, b'z' + 1);
            let hex_letter = from_a & !at_least(lower, b'f' + 1);
            masks.token |= gather(digit | letter | x) << (8 * i);
            masks.digit |= gather(digit) << (8 * i);
            masks.hex_letter |= gather(hex_letter) << (8 * i);
        }
        masks
    }
}

/// The token that began before the bytes at hand, if there is one.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    start: Option<usize>,
    seen: Seen,
}

/// What the bytes of a token were so far.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    not_hex: bool,
    hex_letter: bool,
    digit: bool,
}

impl Seen {
    fn with(self, masks: Masks, span: u64) -> Self {
        Self {
            not_hex: self.not_hex | (span & !(masks.digit | masks.hex_letter) != 0),
            hex_letter: self.hex_letter | (span & masks.hex_letter != 0),
            digit: self.digit | (span & masks.digit != 0),
        }
    }

    fn token(self, start: usize, end: usize) -> Token {
        Token {
            start,
            end,
            class: self.class(end - start),
            has_digit: self.digit,
        }
    }

    fn class(self, len: usize) -> Class {
        match self {
            Self { not_hex: true, .. } if len > WORD_BYTES_MAX => Class::Long,
            Self { not_hex: true, .. } => Class::Word,
            Self {
                hex_letter: true, ..
            } if len >= ID_HEX_MIN => Class::Hex,
            Self {
                hex_letter: false, ..
            } if len >= ID_DIGITS_MIN => Class::Digits,
            _ => Class::Word,
        }
    }
}

impl Open {
    /// Takes 64 bytes, of which the first is at `base`.
    #[inline]
    fn advance(&mut self, masks: Masks, base: usize, each: &mut impl FnMut(Token)) {
        // A set bit where a token begins, or where one has ended.
        let mut edges = masks.token ^ (masks.token << 1 | u64::from(self.start.is_some()));
        if let Some(start) = self.start {
            let end = edges.trailing_zeros();
            let span = below(end);
            self.seen = self.seen.with(masks, span);
            if end == 64 {
                return;
            }
            let end = base + end as usize;
            each(self.seen.token(start, end));
            self.start = None;
            edges &= edges - 1;
        }
        while edges != 0 {
            let first = edges.trailing_zeros();
            edges &= edges - 1;
            let end = edges.trailing_zeros();
            let span = below(end) & !below(first);
            let seen = Seen::default().with(masks, span);
            let start = base + first as usize;
            if end == 64 {
                *self = Self {
                    start: Some(start),
                    seen,
                };
                return;
            }
            edges &= edges - 1;
            let end = base + end as usize;
            each(seen.token(start, end));
        }
    }
}

/// The lowest `bits` bits; all of them for 64.
const fn below(bits: u32) -> u64 {
    if bits >= 64 {
        u64::MAX
    } else {
        (1 << bits) - 1
    }
}

/// What filters keep of a token. Tokens that differ in ASCII case only, or in having U+212A for k
/// or U+017F for s, have the same hash: it serves searches of either kind. `FORMAT.md` has the
/// definition.
pub(crate) fn hash(token: &[u8]) -> u64 {
    if token.is_ascii() {
        hash_with::<LOWER>(token)
    } else {
        hash_with::<LOWER>(&unfolded(token))
    }
}

/// Tells terms apart that differ in letter case; never written to a file.
pub(crate) fn hash_exact(term: &[u8], seed: u64) -> u64 {
    mix(hash_with::<0>(term), seed)
}

/// The token with the two characters outside of ASCII that fold to ASCII letters replaced by them.
#[cold]
fn unfolded(token: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(token.len());
    let mut rest = token;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix("\u{212a}".as_bytes()) {
            out.push(b'k');
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("\u{17f}".as_bytes()) {
            out.push(b's');
            rest = tail;
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

/// A token of up to 16 bytes as two numbers, which are quicker to compare and to hash than bytes.
/// No token has a byte of zero, so that none is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Short([u64; 2]);

/// Which bytes of the two numbers belong to a token of so many bytes.
static SHORT_MASKS: [[u64; 2]; 17] = short_masks();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "computed when the program is built"
)]
const fn short_masks() -> [[u64; 2]; 17] {
    let mut masks = [[0; 2]; 17];
    let mut len = 0;
    while len <= 16 {
        let mask = if len == 16 {
            u128::MAX
        } else {
            (1 << (8 * len)) - 1
        };
        masks[len] = [mask as u64, (mask >> 64) as u64];
        len += 1;
    }
    masks
}

impl Short {
    /// The token that lies there in `text`; `None` for a longer one.
    #[inline]
    pub(crate) fn of(text: &[u8], token: &Token) -> Option<Self> {
        let [low, high] = SHORT_MASKS.get(token.end - token.start)?;
        let rest = text.get(token.start..)?;
        let bytes = match rest.first_chunk::<16>() {
            Some(bytes) => *bytes,
            None => {
                let mut bytes = [0; 16];
                let token = text.get(token.start..token.end)?;
                bytes.get_mut(..token.len())?.copy_from_slice(token);
                bytes
            }
        };
        let (numbers, _) = bytes.as_chunks::<8>();
        match numbers {
            [first, second] => Some(Self([
                u64::from_le_bytes(*first) & low,
                u64::from_le_bytes(*second) & high,
            ])),
            _ => None,
        }
    }

    /// These bytes, if they can be a token.
    pub(crate) fn of_all(bytes: &[u8]) -> Option<Self> {
        let (start, end) = (0, bytes.len());
        let token = Token {
            start,
            end,
            class: Class::Word,
            has_digit: false,
        };
        Self::of(bytes, &token).filter(|_| !bytes.contains(&0))
    }

    /// The bytes, and how many they are.
    pub(crate) fn bytes(self) -> ([u8; 16], usize) {
        let Self([low, high]) = self;
        let number = u128::from(low) | u128::from(high) << 64;
        let len = (u128::BITS - number.leading_zeros()).div_ceil(8);
        (number.to_le_bytes(), len as usize)
    }

    /// Differs for each `seed`, so that nobody can choose tokens that collide.
    #[inline]
    pub(crate) fn hash(self, seed: u64) -> u64 {
        let Self([low, high]) = self;
        mix(mix(low, seed), high)
    }
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0xbf58_476d_1ce4_e5b9;
const FINAL: u64 = 0x94d0_49bb_1331_11eb;

fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * u128::from(MULTIPLIER);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both halves are taken, one after the other"
    )]
    let folded = product as u64 ^ (product >> 64) as u64;
    folded
}

/// The hash of the words of `token` with the bits of `SET` set in each.
#[inline]
fn hash_with<const SET: u64>(token: &[u8]) -> u64 {
    let mut state = (token.len() as u64).wrapping_mul(SEED);
    if let (Some(first), Some(last)) = (token.first_chunk::<8>(), token.last_chunk::<8>()) {
        if token.len() > 16 {
            let (words, _) = token.as_chunks::<8>();
            for word in words {
                state = mix(state, u64::from_le_bytes(*word) | SET);
            }
        } else {
            state = mix(state, u64::from_le_bytes(*first) | SET);
        }
        state = mix(state, u64::from_le_bytes(*last) | SET);
    } else {
        state = mix(state, short(token) | SET);
    }
    state ^= state >> 32;
    state = state.wrapping_mul(FINAL);
    state ^ state >> 29
}

/// Up to seven bytes as one word, each of them at least once.
fn short(token: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (token.first_chunk::<4>(), token.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    match *token {
        [a] => u64::from(a),
        [a, b] => u64::from(a) | u64::from(b) << 8,
        [a, b, c] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens_of(text: &[u8]) -> Vec<Token> {
        let mut found = Vec::new();
        tokens(text, |token| found.push(token));
        found
    }

    /// The definition, byte by byte.
    fn naive(text: &[u8]) -> Vec<Token> {
        let mut found = Vec::new();
        let mut start = 0;
        for end in 0..=text.len() {
            if text.get(end).copied().is_some_and(is_token_byte) {
                continue;
            }
            let token = &text[start..end];
            let class = if token.iter().all(u8::is_ascii_digit) && token.len() >= 5 {
                Class::Digits
            } else if token.iter().all(u8::is_ascii_hexdigit)
                && token.iter().any(u8::is_ascii_alphabetic)
                && token.len() >= 12
            {
                Class::Hex
            } else if token.len() > 32 {
                Class::Long
            } else {
                Class::Word
            };
            if !token.is_empty() {
                let has_digit = token.iter().any(u8::is_ascii_digit);
                found.push(Token {
                    start,
                    end,
                    class,
                    has_digit,
                });
            }
            start = end + 1;
        }
        found
    }

    #[test]
    fn classes_at_their_edges() {
        let long = "g".repeat(WORD_BYTES_MAX + 1);
        let hex = "ab".repeat(40);
        for (token, class) in [
            ("1234", Class::Word),
            ("12345", Class::Digits),
            ("12345678901234567890123456789012345678901", Class::Digits),
            ("1234567890a", Class::Word),
            ("1234567890ab", Class::Hex),
            ("1234567890AB", Class::Hex),
            ("123456789012", Class::Digits),
            ("abcdefabcdef", Class::Hex),
            ("1234567890ag", Class::Word),
            (&long[1..], Class::Word),
            (&long, Class::Long),
            (&hex, Class::Hex),
            ("1234\u{e9}", Class::Word),
            ("", Class::Word),
        ] {
            assert_eq!(class_of(token.as_bytes()), class, "{token}");
        }
    }

    #[test]
    fn every_byte_is_what_it_is() {
        for byte in 0..=255 {
            assert_eq!(tokens_of(&[byte]), naive(&[byte]), "{byte}");
            let text = [b'0', byte, b'f'];
            assert_eq!(tokens_of(&text), naive(&text), "{byte}");
        }
    }

    /// The values written down in FORMAT.md.
    #[test]
    fn golden_hashes() {
        for (token, expected) in GOLDEN {
            assert_eq!(
                hash(token.as_bytes()),
                *expected,
                "{token} {:#x}",
                hash(token.as_bytes())
            );
        }
    }

    const GOLDEN: &[(&str, u64)] = &[
        ("a", 0x2ec301ad34f2462d),
        ("ab", 0xec4a4f73c82fcb6e),
        ("abc", 0x4039131f7d73a75a),
        ("error", 0x74f76ed001004226),
        ("12345678", 0x862f6da828858d4c),
        ("4bf92f3577b34da6a3ce929d0e0e4736", 0x2e19e6941d1b08a8),
    ];

    #[test]
    fn hashes_ignore_case() {
        for (a, b) in [
            ("Task", "taSK"),
            ("task", "ta\u{17f}\u{212a}"),
            (
                "0123456789ABCDEF0123456789abcdef",
                "0123456789abcdef0123456789ABCDEF",
            ),
        ] {
            assert_eq!(hash(a.as_bytes()), hash(b.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn hashes_of_what_is_alike_differ() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..200_000 {
            assert!(seen.insert(hash(number.to_string().as_bytes())), "{number}");
            let padded = format!("{number:040}");
            assert!(seen.insert(hash(padded.as_bytes())), "{padded}");
        }
        for len in 0..100 {
            assert!(seen.insert(hash(&vec![b'a'; len])), "{len}");
        }
    }

    proptest! {
        /// Whatever follows them in the text.
        #[test]
        fn short_tokens_are_equal_when_their_bytes_are(
            a in "[ab\u{e9}]{1,20}",
            b in "[ab\u{e9}]{1,20}",
            behind in "[ .]{0,20}",
        ) {
            let short = |token: &str| {
                let text = format!("{token}{behind}");
                let mut found = tokens_of(text.as_bytes());
                Short::of(text.as_bytes(), &found.remove(0))
            };
            prop_assert_eq!(short(&a).is_some(), a.len() <= 16);
            prop_assert_eq!(short(&a), Short::of_all(a.as_bytes()));
            if let Some((bytes, len)) = short(&a).map(Short::bytes) {
                prop_assert_eq!(&bytes[..len], a.as_bytes());
            }
            if a.len().min(b.len()) <= 16 {
                prop_assert_eq!(short(&a) == short(&b), a == b);
            }
        }

        #[test]
        fn tokens_are_what_the_definition_says(
            text in "[a-h0-9 ._\u{e9}]{0,40}[0-9a-f]{0,70}[ -]{0,2}[0-9a-f]{0,20}[a-z -]{0,80}",
            cut in 0..8usize,
        ) {
            let text = &text.as_bytes()[cut.min(text.len())..];
            prop_assert_eq!(tokens_of(text), naive(text));
        }

        #[test]
        fn tokens_of_any_bytes(text in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(tokens_of(&text), naive(&text));
        }
    }
}
