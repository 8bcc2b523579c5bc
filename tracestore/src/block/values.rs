//! Values of columns while they are written, merged and read. All of `block` calls it.

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Type {
    /// Text.
    Str,
    /// Signed numbers.
    Int,
    /// Floats.
    Float,
    /// Truth values.
    Bool,
    /// Arrays of values of one kind, in the bytes of `model::codec`.
    Array,
    /// What queries do not see, in the same bytes.
    Other,
}

/// Values of a column in row order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    /// The bits of numbers and floats; 0 and 1 for truth values.
    Numbers(Vec<u64>),
    /// Places in a dictionary that has no entry twice, in any order.
    Coded {
        /// The places.
        codes: Vec<u32>,
        /// The entries, some perhaps unused.
        dictionary: Texts,
    },
    /// Byte strings one after the other.
    Plain(Texts),
}

/// Byte strings in one piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// A value as columns hold it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ValueRef<'a> {
    Str(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// An array, or what queries do not see.
    Bytes(&'a [u8]),
}

impl Values {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Coded { codes, .. } => codes.len(),
            Self::Plain(texts) => texts.len(),
        }
    }
}

impl Texts {
    /// Appends one.
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    /// The text at `at`; empty when there is none.
    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let start = match at.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(usize::MAX),
            None => 0,
        };
        let end = self.ends.get(at).copied().unwrap_or(0);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Bytes of all texts together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all texts and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}
