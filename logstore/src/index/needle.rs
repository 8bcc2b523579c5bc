//! What a line must have in it for a filter to let it through, in terms of tokens. Made once per
//! query from line filters; [`TokenIndex`](super::TokenIndex) finds the chunks.
//!
//! A condition may be weaker than the filter it comes from, never stronger.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use trine_storage::regex::Required;

use super::pattern::Pattern;
use super::token::{self, Class, WORD_BYTES_MAX};

/// Most runs of one literal that are looked up; the longest of those that no end cuts come first.
pub(crate) const LITERAL_RUNS_MAX: usize = 16;

/// Most runs of all conditions together. What exceeds it is no condition.
pub(crate) const RUNS_MAX: usize = 1024;

/// Longest value of a field that is a term of the dictionary, in bytes. A longer one, or one that
/// is an id, is in filters only.
pub(crate) const FIELD_VALUE_BYTES_MAX: usize = 64;

/// Longest name of such a field, in bytes.
pub(crate) const FIELD_NAME_BYTES_MAX: usize = 128;

/// Conditions that a line satisfies with what it contains.
#[derive(Debug, Clone)]
pub(crate) enum Needles {
    /// Every line may do.
    Anything,
    /// All of these hold.
    All(Vec<Needles>),
    /// At least one of these holds.
    Any(Vec<Needles>),
    /// A token of the line has this run of bytes.
    Run(Arc<Run>),
    /// The entry's metadata has this name with this value.
    Field(Field),
}

/// How a run may lie in an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InId {
    /// No id has it.
    Impossible,
    /// It is an id itself and nothing longer will do.
    Equal,
    /// It may be a part of a longer one, or, if `whole`, one itself.
    Part {
        /// Whether it looks like an id itself.
        whole: bool,
    },
}

/// A run of token bytes that a token is, begins with, ends with or contains.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The bytes.
    pub(crate) text: Vec<u8>,
    /// Whether the token may have more bytes before them.
    pub(crate) open_left: bool,
    /// Whether the token may have more bytes behind them.
    pub(crate) open_right: bool,
    /// Whether letter case does not matter, as with `(?i)`.
    pub(crate) fold: bool,
    /// Whether a word has it.
    pub(crate) in_word: bool,
    /// Whether a long token has it.
    pub(crate) in_long: bool,
    /// Whether and how an id has it.
    pub(crate) in_id: InId,
    /// What filters keep of a token that is the run; `None` when letter case makes it many.
    pub(crate) hash: Option<u64>,
    /// What finds it in lists of tokens; `None` when nothing does.
    pub(crate) pattern: Option<Pattern>,
}

/// A name of structured metadata with its value.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// `name=value`.
    pub(crate) term: Vec<u8>,
    /// Whether it is a term of dictionaries.
    pub(crate) in_dictionary: bool,
    /// What filters keep of it.
    pub(crate) hash: u64,
}

impl Field {
    pub(crate) fn new(name: &[u8], value: &[u8]) -> Self {
        let id = matches!(token::class_of(value), Class::Digits | Class::Hex)
            && value.iter().copied().all(token::is_token_byte);
        let mut term = Vec::with_capacity(name.len() + 1 + value.len());
        term.extend_from_slice(name);
        term.push(b'=');
        term.extend_from_slice(value);
        Self {
            in_dictionary: !id
                && value.len() <= FIELD_VALUE_BYTES_MAX
                && name.len() <= FIELD_NAME_BYTES_MAX
                && !term.contains(&b'\n'),
            hash: token::hash(&term),
            term,
        }
    }
}

/// Bytes that the variants of a run have that differ in letter case.
fn variant_bytes(text: &[u8], fold: bool) -> (usize, usize) {
    if !fold {
        return (text.len(), text.len());
    }
    let Ok(text) = str::from_utf8(text) else {
        return (1, usize::MAX);
    };
    let (mut least, mut most) = (0, 0);
    for c in text.chars() {
        least += 1;
        most += match c {
            // U+212A and U+017F.
            'k' | 'K' => 3,
            's' | 'S' => 2,
            c if c.is_ascii() => 1,
            _ => 4,
        };
    }
    (least, most)
}

/// Whether every variant of the run in another letter case has the same hash.
fn one_hash(text: &[u8], fold: bool) -> bool {
    if !fold || text.is_ascii() {
        return true;
    }
    let Ok(text) = str::from_utf8(text) else {
        return false;
    };
    text.chars()
        .all(|c| c.is_ascii() || matches!(c, '\u{212a}' | '\u{17f}'))
}

impl Run {
    fn new(text: &[u8], open_left: bool, open_right: bool, fold: bool) -> Self {
        let class = token::class_of(text);
        let is_id = matches!(class, Class::Digits | Class::Hex);
        let (least, most) = variant_bytes(text, fold);
        let (in_word, in_long, in_id) = if open_left || open_right {
            let in_id = if text.iter().all(u8::is_ascii_hexdigit) {
                InId::Part { whole: is_id }
            } else {
                InId::Impossible
            };
            // A byte more makes a word of an id.
            let in_word = least < WORD_BYTES_MAX || (least == WORD_BYTES_MAX && !is_id);
            (in_word, true, in_id)
        } else if is_id {
            (false, false, InId::Equal)
        } else {
            (
                least <= WORD_BYTES_MAX,
                most > WORD_BYTES_MAX,
                InId::Impossible,
            )
        };
        Self {
            text: text.to_vec(),
            open_left,
            open_right,
            fold,
            in_word,
            in_long,
            in_id,
            hash: one_hash(text, fold).then(|| token::hash(text)),
            pattern: Pattern::new(text, open_left, open_right, fold),
        }
    }

    /// Whether the token is nothing but the run.
    pub(crate) fn is_whole(&self) -> bool {
        !self.open_left && !self.open_right
    }
}

/// What is told apart among the runs of a literal before they are made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut<'a> {
    text: &'a [u8],
    open_left: bool,
    open_right: bool,
}

impl Needles {
    /// The line contains these bytes, or, if `fold`, this text in whatever letter case.
    pub(crate) fn literal(text: &[u8], fold: bool) -> Self {
        Self::cut(text, fold, true)
    }

    /// The line contains these bytes, and no byte of a token is next to them.
    pub(crate) fn whole(text: &[u8]) -> Self {
        Self::cut(text, false, false)
    }

    /// The runs of a text at whose ends a token may go on if they are `open`.
    fn cut(text: &[u8], fold: bool, open: bool) -> Self {
        if fold && str::from_utf8(text).is_err() {
            return Self::Anything;
        }
        let mut cuts: Vec<Cut<'_>> = Vec::new();
        token::tokens(text, |token| {
            let cut = Cut {
                text: text.get(token.start..token.end).unwrap_or_default(),
                open_left: open && token.start == 0,
                open_right: open && token.end == text.len(),
            };
            let open = cut.open_left || cut.open_right;
            // A single byte at an open end is in nearly every chunk.
            if !open || cut.text.len() > 1 {
                cuts.push(cut);
            }
        });
        let open = |cut: &Cut<'_>| cut.open_left || cut.open_right;
        cuts.sort_by_key(|cut| (open(cut), std::cmp::Reverse(cut.text.len()), cut.text));
        cuts.dedup();
        if cuts.len() > LITERAL_RUNS_MAX {
            // An end is worth more than the shortest of the words between.
            let ends: Vec<Cut<'_>> = cuts.iter().copied().filter(open).collect();
            cuts.truncate(LITERAL_RUNS_MAX - ends.len());
            cuts.extend(ends);
        }
        let run = |cut: Cut<'_>| {
            let run = Run::new(cut.text, cut.open_left, cut.open_right, fold);
            Self::Run(Arc::new(run))
        };
        Self::all(cuts.into_iter().map(run).collect())
    }

    /// The line has what every match of an expression has.
    pub(crate) fn required(required: &Required) -> Self {
        match required {
            Required::Nothing => Self::Anything,
            Required::Literal { text, fold } => Self::literal(text.as_bytes(), *fold),
            Required::All(parts) => Self::all(parts.iter().map(Self::required).collect()),
            Required::Any(parts) => Self::any(parts.iter().map(Self::required).collect()),
        }
    }

    /// The entry has structured metadata of this name and value.
    pub(crate) fn field(name: &[u8], value: &[u8]) -> Self {
        Self::Field(Field::new(name, value))
    }

    /// All of these hold.
    pub(crate) fn all(parts: Vec<Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Anything => {}
                Self::All(parts) => kept.extend(parts),
                part => kept.push(part),
            }
        }
        while kept.iter().map(Self::runs).sum::<usize>() > RUNS_MAX {
            kept.pop();
        }
        match kept.len() {
            0 => Self::Anything,
            1 => kept.pop().unwrap_or(Self::Anything),
            _ => Self::All(kept),
        }
    }

    /// At least one of these holds.
    pub(crate) fn any(mut parts: Vec<Self>) -> Self {
        let anything = |part: &Self| matches!(part, Self::Anything);
        if parts.is_empty()
            || parts.iter().any(anything)
            || parts.iter().map(Self::runs).sum::<usize>() > RUNS_MAX
        {
            return Self::Anything;
        }
        match parts.len() {
            1 => parts.pop().unwrap_or(Self::Anything),
            _ => Self::Any(parts),
        }
    }

    /// Whether there is no condition.
    pub(crate) fn is_anything(&self) -> bool {
        matches!(self, Self::Anything)
    }

    /// How many runs and fields there are.
    fn runs(&self) -> usize {
        match self {
            Self::Anything => 0,
            Self::Run(_) | Self::Field(_) => 1,
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::runs).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runs as text: `<` and `>` at open ends, `i` in front when letter case does not matter,
    /// then where the run may be: w, l, and e or p for an id.
    fn shown(needles: &Needles) -> String {
        let join = |parts: &[Needles], with: &str| {
            let parts: Vec<String> = parts.iter().map(shown).collect();
            format!("({})", parts.join(with))
        };
        match needles {
            Needles::Anything => "anything".to_owned(),
            Needles::All(parts) => join(parts, " and "),
            Needles::Any(parts) => join(parts, " or "),
            Needles::Field(field) => String::from_utf8_lossy(&field.term).into_owned(),
            Needles::Run(run) => format!(
                "{}{}{}{}:{}{}{}",
                if run.fold { "i" } else { "" },
                if run.open_left { "<" } else { "" },
                String::from_utf8_lossy(&run.text),
                if run.open_right { ">" } else { "" },
                if run.in_word { "w" } else { "" },
                if run.in_long { "l" } else { "" },
                match run.in_id {
                    InId::Impossible => "",
                    InId::Equal => "e",
                    InId::Part { whole: false } => "p",
                    InId::Part { whole: true } => "pe",
                },
            ),
        }
    }

    #[test]
    fn literals_are_cut_into_runs() {
        let word = "g".repeat(32);
        let long = "g".repeat(33);
        for (literal, fold, expected) in [
            ("", false, "anything"),
            (" =, ", false, "anything"),
            ("e", false, "anything"),
            (" e ", false, "e:w"),
            ("error", false, "<error>:wl"),
            ("fade", false, "<fade>:wlp"),
            (" error ", false, "error:w"),
            (" error ", true, "ierror:w"),
            (
                "level=error msg",
                false,
                "(error:w and <level:wl and msg>:wl)",
            ),
            (" 12345 ", false, "12345:e"),
            (" 1234 ", false, "1234:w"),
            ("12345", false, "<12345>:wlpe"),
            ("=12345", false, "12345>:wlpe"),
            (
                "4bf92f3577b34da6a3ce929d0e0e4736",
                false,
                "<4bf92f3577b34da6a3ce929d0e0e4736>:lpe",
            ),
            (
                " 4BF92f3577b34da6a3ce929d0e0e4736 ",
                true,
                "i4BF92f3577b34da6a3ce929d0e0e4736:e",
            ),
            (&word, false, &format!("<{word}>:wl")),
            (&format!(" {word} "), false, &format!("{word}:w")),
            (&long, false, &format!("<{long}>:l")),
            (&format!(" {long} "), false, &format!("{long}:l")),
            (
                &format!(" {} ", "k".repeat(20)),
                true,
                &format!("i{}:wl", "k".repeat(20)),
            ),
            (" \u{e9}a-b ", false, "(\u{e9}a:w and b:w)"),
            ("a-bc a-bc a", false, "(bc:w and a:w)"),
        ] {
            let needles = Needles::literal(literal.as_bytes(), fold);
            assert_eq!(shown(&needles), expected, "{literal:?}");
        }
    }

    #[test]
    fn a_literal_has_only_so_many_runs() {
        let words = |count: usize| {
            let words: Vec<String> = (0..count).map(|i| format!("w{i}")).collect();
            Needles::literal(words.join(" ").as_bytes(), false).runs()
        };
        assert_eq!(words(LITERAL_RUNS_MAX), LITERAL_RUNS_MAX);
        assert_eq!(words(LITERAL_RUNS_MAX + 1), LITERAL_RUNS_MAX);
        let huge = "abc ".repeat(25_000);
        assert_eq!(
            shown(&Needles::literal(huge.as_bytes(), false)),
            "(abc:w and <abc:wlp)"
        );
    }

    #[test]
    fn too_many_runs_are_no_condition() {
        let words = |count: usize| -> Vec<Needles> {
            (0..count)
                .map(|i| Needles::literal(format!(" {i} ").as_bytes(), false))
                .collect()
        };
        assert_eq!(Needles::any(words(RUNS_MAX)).runs(), RUNS_MAX);
        assert!(Needles::any(words(RUNS_MAX + 1)).is_anything());
        assert_eq!(Needles::all(words(RUNS_MAX + 1)).runs(), RUNS_MAX);
        assert!(Needles::any(Vec::new()).is_anything());
        assert!(Needles::all(Vec::new()).is_anything());
    }

    #[test]
    fn needles_that_are_not_text_have_no_condition_when_case_does_not_matter() {
        assert!(Needles::literal(b"abc\xff", true).is_anything());
        assert_eq!(
            shown(&Needles::literal(b"ab\xff", false)),
            "<ab\u{fffd}>:wl"
        );
    }

    #[test]
    fn fields_are_terms_unless_they_are_ids_or_long() {
        let long = "x".repeat(FIELD_VALUE_BYTES_MAX);
        for (name, value, in_dictionary) in [
            ("pod", "api-1", true),
            ("pod", "", true),
            ("pod", &long, true),
            ("pod", &format!("{long}x"), false),
            (&"n".repeat(FIELD_NAME_BYTES_MAX), "x", true),
            (&"n".repeat(FIELD_NAME_BYTES_MAX + 1), "x", false),
            ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736", false),
            ("count", "12345", false),
            ("count", "12345-1", true),
            ("text", "a\nb", false),
        ] {
            let field = Field::new(name.as_bytes(), value.as_bytes());
            assert_eq!(field.in_dictionary, in_dictionary, "{name} {value}");
        }
    }
}
