//! The index against going through every line: it may keep too much, never too little.

use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use trine_storage::regex::LineRegex;

use super::builder::Sections;
use super::builder::WORDS_BYTES_MAX;
use super::token::{Class, tokens};
use super::*;

/// Chunks of lines with an index over them.
struct Block {
    chunks: Vec<Vec<Vec<u8>>>,
    index: TokenIndex,
    asked: Cell<usize>,
}

/// Which sections there are.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Filters,
    Words,
    /// Words of the first chunks only.
    SomeWords,
}

fn sections(chunks: &[Vec<Vec<u8>>], kind: Kind) -> Sections {
    let most = match kind {
        Kind::Filters => 0,
        Kind::Words => WORDS_BYTES_MAX,
        Kind::SomeWords => 40,
    };
    let mut builder = IndexBuilder::with_limit(most);
    for chunk in chunks {
        for line in chunk {
            builder.line(line);
        }
        builder.end_chunk().unwrap();
    }
    builder.finish().unwrap()
}

fn open(sections: Sections, chunks: usize) -> TokenIndex {
    TokenIndex::open(
        "test",
        sections.filters.into(),
        sections.long.into(),
        &Bytes::from(sections.words),
        u32::try_from(chunks).unwrap(),
    )
}

impl Block {
    fn new(chunks: Vec<Vec<Vec<u8>>>, kind: Kind) -> Self {
        let index = open(sections(&chunks, kind), chunks.len());
        assert!(index.damage().is_empty(), "{:?}", index.damage());
        index.verify("test").unwrap();
        Self {
            chunks,
            index,
            asked: Cell::new(0),
        }
    }

    fn of(chunks: &[&[&str]], kind: Kind) -> Self {
        let line = |line: &&str| line.as_bytes().to_vec();
        let chunk = |lines: &&[&str]| lines.iter().map(line).collect();
        Self::new(chunks.iter().map(chunk).collect(), kind)
    }

    fn candidates(&self, needles: &Needles) -> Vec<u32> {
        self.index
            .candidates(needles, &self.all(), self)
            .iter()
            .collect()
    }

    fn all(&self) -> RoaringBitmap {
        (0..u32::try_from(self.chunks.len()).unwrap()).collect()
    }

    /// Those that are left before ids are asked.
    fn before_ids(&self, needles: &Needles) -> u64 {
        let found: Candidates = self.index.search(needles, &self.all());
        found.chunks().len()
    }

    /// The chunks with a line for which `hit` holds.
    fn hits(&self, hit: impl Fn(&[u8]) -> bool) -> Vec<u32> {
        let with_hit = |(_, lines): &(u32, &Vec<Vec<u8>>)| lines.iter().any(|line| hit(line));
        let chunks = (0..).zip(&self.chunks).filter(with_hit);
        chunks.map(|(chunk, _)| chunk).collect()
    }
}

impl IdColumns for Block {
    fn may_contain(&self, chunk: u32, run: &[u8], left: bool, right: bool, fold: bool) -> bool {
        self.asked.set(self.asked.get() + 1);
        let lower = |bytes: &[u8]| match fold {
            true => bytes.to_ascii_lowercase(),
            false => bytes.to_vec(),
        };
        let run = lower(run);
        let mut found = false;
        for line in &self.chunks[chunk as usize] {
            tokens(line, |token| {
                let id = lower(&line[token.start..token.end]);
                found |= matches!(token.class, Class::Digits | Class::Hex)
                    && match (left, right) {
                        (false, false) => id == run,
                        (true, false) => id.ends_with(&run),
                        (false, true) => id.starts_with(&run),
                        (true, true) => memchr::memmem::find(&id, &run).is_some(),
                    };
            });
        }
        found
    }
}

fn contains(line: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(line, needle).is_some()
}

const KINDS: [Kind; 3] = [Kind::Filters, Kind::Words, Kind::SomeWords];

/// What the index knows exactly it must answer exactly.
#[test]
fn chunks_without_the_needle_are_left_out() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let long = format!("{}Zebra{}", "g".repeat(20), "h".repeat(20));
    let chunks: &[&[&str]] = &[
        &["level=error msg=\"timed out\"", "stderr closed"],
        &["level=Info user=u123 trace=4bf92f3577b34da6a3ce929d0e0e4736"],
        &["count=1234567 a=b"],
        &[&long],
        &["Ta\u{17f}\u{212a} failed", "info"],
    ];
    for (needle, fold, words, filters) in [
        ("error ", false, &[0][..], &[0, 1, 2, 3, 4][..]),
        ("=error msg=", false, &[0], &[0]),
        ("stderr", false, &[0], &[0, 1, 2, 3, 4]),
        ("tder", false, &[0], &[0, 1, 2, 3, 4]),
        (" timed", false, &[0], &[0, 1, 2, 3, 4]),
        (" imed", false, &[], &[0, 1, 2, 3, 4]),
        ("info", false, &[4], &[0, 1, 2, 3, 4]),
        ("info", true, &[1, 4], &[0, 1, 2, 3, 4]),
        ("=info ", true, &[1, 4], &[1, 4]),
        ("task", true, &[4], &[0, 1, 2, 3, 4]),
        (id, false, &[1], &[1]),
        (&id[3..20], false, &[1], &[0, 1, 2, 3, 4]),
        ("f92f35", false, &[1], &[0, 1, 2, 3, 4]),
        ("00000000000000000000000000000000", false, &[], &[]),
        ("=1234567 ", false, &[2], &[2]),
        ("34567", false, &[2], &[0, 1, 2, 3, 4]),
        ("gZebrah", false, &[3], &[0, 1, 2, 3, 4]),
        ("ggggggggZebrahhhhhhhhhhhhhhhhhhhh", false, &[3], &[3]),
        ("zebra", true, &[3], &[0, 1, 2, 3, 4]),
        (" = ", false, &[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4]),
    ] {
        let needles = Needles::literal(needle.as_bytes(), fold);
        for (kind, expected) in [(Kind::Words, words), (Kind::Filters, filters)] {
            let block = Block::of(chunks, kind);
            let found = block.candidates(&needles);
            assert_eq!(found, expected, "{needle:?} {fold} {kind:?}");
        }
    }
}

#[test]
fn ids_are_asked_only_where_they_decide() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let longer = format!("{id}{id}");
    let block = Block::of(&[&[id], &["no id"], &["12345678"], &[&longer]], Kind::Words);
    for (needle, asked, found) in [
        (id, 1, &[0, 3][..]),
        ("4bf92f3577b34da6a3ce929d0e0e4737", 0, &[]),
        ("d0e0e47364bf92f", 1, &[3]),
        (&longer[1..34], 0, &[3]),
        (" 4bf92f3577b34da6a3ce929d0e0e4736 ", 1, &[0]),
        ("3577b3", 1, &[0, 3]),
        ("345678", 2, &[2]),
        ("id", 0, &[1]),
        // Once what costs less has ruled a chunk out, its ids are not asked.
        ("word 345678", 0, &[]),
    ] {
        block.asked.set(0);
        let needles = Needles::literal(needle.as_bytes(), false);
        assert_eq!(block.candidates(&needles), found, "{needle}");
        assert_eq!(block.asked.get(), asked, "{needle}");
        assert!(block.before_ids(&needles) as usize >= found.len());
    }
}

#[test]
fn alternatives_and_conjunctions() {
    let chunks: &[&[&str]] = &[&["a one b"], &["a two b"], &["a three b"], &["four"]];
    let block = Block::of(chunks, Kind::Words);
    let word = |word: &str| Needles::literal(format!(" {word} ").as_bytes(), false);
    let any = Needles::any(vec![word("one"), word("three"), word("none")]);
    assert_eq!(block.candidates(&any), [0, 2]);
    let all = Needles::all(vec![any, word("three")]);
    assert_eq!(block.candidates(&all), [2]);
    let regex = LineRegex::new("(?i)a (TWO|thr[e]{2}) b$").unwrap();
    assert_eq!(
        block.candidates(&Needles::required(regex.required())),
        [1, 2]
    );
    let within: RoaringBitmap = [1, 3].into_iter().collect();
    let found = block.index.candidates(&word("two"), &within, &block);
    assert_eq!(found.iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn fields_are_found_whatever_section_has_them() {
    let long = "x".repeat(100);
    let fields = [
        ("pod", "api-1"),
        ("pod", "api-2"),
        ("trace", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("text", &long),
        ("two", "a\nb"),
        ("n\u{0}", "\u{e9}"),
    ];
    for words in [0, WORDS_BYTES_MAX] {
        let mut builder = IndexBuilder::with_limit(words);
        for (name, value) in fields {
            builder.field(name.as_bytes(), value.as_bytes());
            builder.field(name.as_bytes(), value.as_bytes());
            builder.end_chunk().unwrap();
        }
        let chunks = (0..6).map(|_| Vec::new()).collect();
        let index = open(builder.finish().unwrap(), 6);
        index.verify("test").unwrap();
        let block = Block {
            chunks,
            index,
            asked: Cell::new(0),
        };
        for (chunk, (name, value)) in (0..).zip(fields) {
            let needles = Needles::field(name.as_bytes(), value.as_bytes());
            assert_eq!(block.candidates(&needles), [chunk], "{name} {words}");
        }
        let other = Needles::field(b"pod", b"api-3");
        assert!(block.candidates(&other).is_empty());
    }
}

/// A section that is missing or cut costs speed only.
#[test]
fn damaged_sections_leave_out_nothing_that_has_a_hit() {
    let chunks: Vec<Vec<Vec<u8>>> = vec![
        vec![b"level=error 1234567".to_vec()],
        vec!["g".repeat(40).into_bytes()],
        vec![b"level=info 4bf92f3577b34da6a3ce929d0e0e4736".to_vec()],
    ];
    let needles = [
        "=error ", "rror", "gggggg", "=1234567", "4567", "level=in", "9f1",
    ];
    let block = Block::new(chunks.clone(), Kind::Words);
    for which in 0..3 {
        let good = sections(&chunks, Kind::Words);
        let len = [&good.filters, &good.long, &good.words][which].len();
        for cut in (0..len).step_by(3) {
            let mut cut_off = sections(&chunks, Kind::Words);
            match which {
                0 => cut_off.filters.truncate(cut),
                1 => cut_off.long.truncate(cut),
                _ => cut_off.words.truncate(cut),
            }
            let index = open(cut_off, 3);
            assert!(
                index.verify("test").is_err(),
                "section {which} cut at {cut}"
            );
            for needle in needles {
                let hits = block.hits(|line| contains(line, needle.as_bytes()));
                let literal = Needles::literal(needle.as_bytes(), false);
                let found = index.candidates(&literal, &block.all(), &block);
                for hit in hits {
                    assert!(
                        found.contains(hit),
                        "{needle} in {hit}, {which} cut at {cut}"
                    );
                }
            }
        }
        for at in 0..len {
            let mut flipped = sections(&chunks, Kind::Words);
            match which {
                0 => flipped.filters[at] ^= 0x41,
                1 => flipped.long[at] ^= 0x41,
                _ => flipped.words[at] ^= 0x41,
            }
            let index = open(flipped, 3);
            index.verify("test").ok();
            for needle in needles {
                let literal = Needles::literal(needle.as_bytes(), false);
                index.candidates(&literal, &block.all(), &block);
            }
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec![
            "error", "Error", "ERROR", "stderr", "task", "TAS\u{212a}", "ta\u{17f}k", "a", "GET", "u1",
            "caf\u{e9}", "CAF\u{c9}", "\u{df}", "\u{1e9e}", "x0f",
        ]).prop_map(str::to_owned),
        2 => "[0-9]{1,8}",
        2 => "[0-9a-f]{8,34}",
        1 => "[0-9A-Fa-f]{30,40}",
        1 => "[a-zK]{28,40}",
    ]
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let separator = prop::sample::select(vec![" ", "=", "_", "-", ", ", "\n", "\u{0}", ""]);
    let raw = prop::option::weighted(0.1, (0..40usize, 0x80..=0xffu8));
    (prop::collection::vec((word(), separator), 0..5), raw).prop_map(|(words, raw)| {
        let mut line: Vec<u8> = Vec::new();
        for (word, separator) in words {
            line.extend_from_slice(word.as_bytes());
            line.extend_from_slice(separator.as_bytes());
        }
        if let Some((at, byte)) = raw {
            line.insert(at.min(line.len()), byte);
        }
        line
    })
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    prop::collection::vec(prop::collection::vec(line(), 0..4), 1..5)
}

/// A needle cut out of the lines, or made of the same words.
fn needles(chunks: &[Vec<Vec<u8>>], seed: &(usize, usize, usize), other: &[u8]) -> Vec<u8> {
    let lines: Vec<&Vec<u8>> = chunks
        .iter()
        .flatten()
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() || seed.0.is_multiple_of(5) {
        return other.to_vec();
    }
    let line = lines[seed.0 % lines.len()];
    let from = seed.1 % line.len();
    let len = match seed.2 % 3 {
        0 => seed.2 % 4,
        _ => seed.2 % 60,
    };
    line[from..line.len().min(from + len)].to_vec()
}

/// The same text in another letter case.
fn other_case(text: &str, seed: usize) -> String {
    let change = |(at, c): (usize, char)| match seed >> (at % 16) & 1 {
        0 => c.to_lowercase().to_string(),
        _ => c.to_uppercase().to_string(),
    };
    text.chars().enumerate().map(change).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("TRINE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
    ))]

    #[test]
    fn every_chunk_with_a_hit_is_a_candidate(
        chunks in blocks(),
        seeds in prop::collection::vec((any::<usize>(), any::<usize>(), any::<usize>()), 1..8),
        other in line(),
    ) {
        for kind in KINDS {
            let block = Block::new(chunks.clone(), kind);
            for seed in &seeds {
                let needle = needles(&chunks, seed, &other);
                let found = block.candidates(&Needles::literal(&needle, false));
                for hit in block.hits(|line| contains(line, &needle)) {
                    prop_assert!(found.contains(&hit), "{:?} in {hit}, {kind:?}", needle);
                }
                let Ok(text) = String::from_utf8(needle) else { continue };
                let text = other_case(&text, seed.2);
                let pattern = format!("(?i:{})", regex::escape(&text));
                let regex = regex::bytes::Regex::new(&pattern).unwrap();
                let found = block.candidates(&Needles::literal(text.as_bytes(), true));
                for hit in block.hits(|line| regex.is_match(line)) {
                    prop_assert!(found.contains(&hit), "(?i){text:?} in {hit}, {kind:?}");
                }
            }
        }
    }

    #[test]
    fn every_chunk_with_a_match_is_a_candidate(
        chunks in blocks(),
        words in prop::collection::vec((word(), 0..9usize), 1..4),
    ) {
        let glue = [" ", ".*", "|", "_?", "[ =]", "(?i)", "+", "=", r"\b"];
        let pattern: String = words
            .iter()
            .map(|(word, with)| format!("{}{}", regex::escape(word), glue[*with]))
            .collect();
        let Ok(regex) = LineRegex::new(&pattern) else { return Ok(()) };
        let needles = Needles::required(regex.required());
        for kind in KINDS {
            let block = Block::new(chunks.clone(), kind);
            let found = block.candidates(&needles);
            for hit in block.hits(|line| regex.is_match(line)) {
                prop_assert!(found.contains(&hit), "{pattern:?} in {hit}, {kind:?}");
            }
        }
    }
}
