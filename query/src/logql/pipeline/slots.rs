//! What parsers look for in lines of one stream with one set of metadata, worked out once for as many
//! rows as share the two; called by `labels.rs`.

use memchr::memmem::Finder;
use trine_storage::Labels;

use super::labels::{ERROR, ERROR_DETAILS, EXTRACTED, Wanted};

/// Of pipelines that want more names, each field of a line is made into a name and looked up.
const NAMES_MAX: usize = u64::BITS as usize;

/// Lines are searched for keys while at least one in so many of them has none.
const ABSENT_SHARE: u32 = 2;
/// The lines that say so are forgotten by halves when they are so many.
const SEARCHED_MAX: u32 = 1 << 12;
/// Shorter pieces of keys are in most lines.
const PIECE_BYTES_MIN: usize = 3;

/// A key whose value is wanted, where it is written in the characters of a name.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Which of the wanted names its label has.
    name: usize,
    /// So many bytes of the name are the key.
    key_bytes: usize,
}

/// The keys that are looked for, and what was worked out with them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Holding the sets keeps others from their addresses, by which they are told apart.
    of: Option<(Labels, Labels)>,
    /// Whether the metadata tell of an error.
    pub(super) tells_error: bool,
    /// A bit for each wanted name that the stream or the metadata have.
    pub(super) taken: u64,
    /// A bit for each wanted name.
    pub(super) all: u64,
    /// Whether there are wanted names, few enough to look for them.
    is_usable: bool,
    slots: Vec<Slot>,
    /// The bits of [`letter`] for the bytes that keys begin with.
    letters: u64,
    /// For each wanted name text that is in every line with a key that becomes it.
    pieces: Vec<Option<Finder<'static>>>,
    /// Whether no piece can be hidden in a number or an id.
    are_seen: bool,
    /// How many lines were searched, and how many had no key.
    searched: (u32, u32),
}

/// The longest piece of a name that stands in its keys as it is: what parts pieces may be another
/// character there, or an object's beginning.
fn piece(name: &str) -> Option<Finder<'static>> {
    let key = name.strip_suffix(EXTRACTED).unwrap_or(name);
    let piece = key.split('_').max_by_key(|piece| piece.len())?;
    let is_plain = piece.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_plain && piece.len() >= PIECE_BYTES_MIN).then(|| Finder::new(piece).into_owned())
}

/// The bit of a byte that stands for itself at the front of a name; 0 for others.
fn letter(byte: u8) -> u64 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => 1 << (byte & 63),
        _ => 0,
    }
}

fn is_same(a: &Labels, b: &Labels) -> bool {
    std::ptr::eq(a.encoded(), b.encoded())
}

impl Slots {
    /// Makes them those of a stream and metadata. One pipeline asks, always for the same `wanted`.
    pub(super) fn refresh(&mut self, stream: &Labels, metadata: &Labels, wanted: &Wanted) {
        if let Some((last_stream, last_metadata)) = &self.of
            && is_same(last_stream, stream)
            && is_same(last_metadata, metadata)
        {
            return;
        }
        self.of = Some((stream.clone(), metadata.clone()));
        let mut early = metadata
            .iter()
            .take_while(|(name, _)| *name <= ERROR_DETAILS);
        self.tells_error = early.any(|(name, _)| matches!(name, ERROR | ERROR_DETAILS));
        self.slots.clear();
        (self.taken, self.all, self.letters, self.is_usable) = (0, 0, 0, false);
        let Wanted::Names(names) = wanted else {
            return;
        };
        if names.len() > NAMES_MAX {
            return;
        }
        self.is_usable = true;
        if self.pieces.is_empty() {
            self.pieces = names.iter().map(|name| piece(name)).collect();
            self.are_seen = self.pieces.iter().flatten().all(|piece| {
                let is_id = |byte: &u8| byte.is_ascii_hexdigit();
                let has_digit = piece.needle().iter().any(u8::is_ascii_digit);
                !has_digit && !piece.needle().iter().all(is_id)
            });
        }
        let is_taken = |name: &str| stream.get(name).is_some() || metadata.get(name).is_some();
        for (at, name) in names.iter().enumerate() {
            self.all |= 1 << at;
            if is_taken(name) {
                self.taken |= 1 << at;
            } else {
                self.add(at, name);
            }
            if let Some(key) = name.strip_suffix(EXTRACTED)
                && is_taken(key)
            {
                self.add(at, key);
            }
        }
    }

    fn add(&mut self, name: usize, key: &str) {
        self.letters |= key.bytes().next().map_or(0, letter);
        self.slots.push(Slot {
            name,
            key_bytes: key.len(),
        });
    }

    /// Whether [`Slots::may_begin`] and [`Slots::find`] say all that there is to say.
    pub(super) fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// Whether some key begins like this one, which may be written in other characters than names
    /// are. Wrong answers are all "yes".
    #[inline]
    pub(super) fn may_begin(&self, key: &[u8]) -> bool {
        let bit = key.first().map_or(0, |first| letter(*first));
        bit == 0 || bit & self.letters != 0
    }

    /// The wanted name that a field with this key gives; keys are taken as they are.
    #[inline]
    pub(super) fn find(&self, key: &[u8], names: &[String]) -> Option<usize> {
        let is_key = |slot: &&Slot| {
            slot.key_bytes == key.len()
                && names
                    .get(slot.name)
                    .is_some_and(|name| name.as_bytes().starts_with(key))
        };
        self.slots.iter().find(is_key).map(|slot| slot.name)
    }

    /// Whether [`Slots::are_absent`] may be asked of lines without their numbers and ids.
    pub(super) fn are_seen(&self) -> bool {
        self.are_seen
    }

    /// Whether a line has none of the keys, if none of them is written with escapes; wrong answers are
    /// all "no".
    pub(super) fn are_absent(&mut self, line: &[u8]) -> bool {
        if self.slots.is_empty() {
            return true;
        }
        let (searched, absent) = &mut self.searched;
        if *absent * ABSENT_SHARE < *searched && *searched >= SEARCHED_MAX / 2 {
            return false;
        }
        if *searched == SEARCHED_MAX {
            (*searched, *absent) = (*searched / 2, *absent / 2);
        }
        let is_absent = |slot: &Slot| {
            let piece = self.pieces.get(slot.name).and_then(Option::as_ref);
            piece.is_some_and(|piece| piece.find(line).is_none())
        };
        let are_absent = self.slots.iter().all(is_absent);
        *searched += 1;
        *absent += u32::from(are_absent);
        are_absent
    }
}

#[cfg(test)]
mod tests {
    use trine_storage::Labels;

    use super::{NAMES_MAX, SEARCHED_MAX, Slots, Wanted};

    #[test]
    fn keys_are_those_of_free_names_and_of_taken_ones_that_are_renamed() {
        let stream = Labels::from_pairs([("a", "1"), ("b", "1")]).unwrap();
        let metadata = Labels::from_pairs([("c", "1"), ("__error__", "x")]).unwrap();
        let names = ["a", "b_extracted", "c", "d", "d_extracted"].map(str::to_owned);
        let wanted = Wanted::Names(names.to_vec());
        let mut slots = Slots::default();
        slots.refresh(&stream, &metadata, &wanted);
        assert!(slots.is_usable() && slots.tells_error);
        let found = ["a", "b", "c", "d", "b_extracted", "d_", ""]
            .map(|key| slots.find(key.as_bytes(), &names));
        assert_eq!(found, [None, Some(1), None, Some(3), Some(1), None, None]);
        let begin = ["a", "b!", "-", "1"].map(|key| slots.may_begin(key.as_bytes()));
        assert_eq!(begin, [false, true, true, true]);
        assert_eq!((slots.all, slots.taken), (0b11111, 0b00101));
        slots.refresh(&Labels::empty(), &metadata, &wanted);
        assert_eq!(slots.find(b"a", &names), Some(0));
    }

    #[test]
    fn lines_are_searched_for_the_pieces_of_keys() {
        let stream = Labels::from_pairs([("level", "1")]).unwrap();
        let names = ["detected_level", "level_extracted", "level"].map(str::to_owned);
        let wanted = Wanted::Names(names.to_vec());
        let mut slots = Slots::default();
        slots.refresh(&stream, &Labels::empty(), &wanted);
        let mut check = |line: &str, absent| {
            assert_eq!(slots.are_absent(line.as_bytes()), absent, "{line}");
        };
        check("a=b", true);
        check("{\"detected\":{\"lev\":1}}", false);
        check("level_=1", false);
        check("detecte=lev", true);
        let mut short = Slots::default();
        let names = vec!["ab_cd".to_owned()];
        short.refresh(&stream, &Labels::empty(), &Wanted::Names(names));
        assert!(
            !short.are_absent(b""),
            "pieces of two bytes are not looked for"
        );
    }

    #[test]
    fn where_most_lines_have_a_key_they_are_not_searched() {
        let mut slots = Slots::default();
        let wanted = Wanted::Names(vec!["level".to_owned()]);
        slots.refresh(&Labels::empty(), &Labels::empty(), &wanted);
        for _ in 0..SEARCHED_MAX / 2 - 1 {
            assert!(!slots.are_absent(b"level"));
        }
        assert!(slots.are_absent(b"x"), "too few lines to tell");
        assert!(!slots.are_absent(b"x"));
    }

    #[test]
    fn so_many_names_are_looked_for_and_no_more() {
        let empty = Labels::empty();
        for (count, expect) in [(NAMES_MAX, true), (NAMES_MAX + 1, false)] {
            let names = (0..count).map(|i| format!("n{i}")).collect();
            let mut slots = Slots::default();
            slots.refresh(&empty, &empty, &Wanted::Names(names));
            assert_eq!(slots.is_usable(), expect);
        }
    }
}
