//! What a column holds once it is decoded, and single values of it. The stage fills these, the
//! codecs of columns write and read them.

/// What kind of values a column has. A key has a column for each type it was seen with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Type {
    /// Text.
    Str,
    /// Signed 64 bits.
    Int,
    /// Double precision.
    Float,
    /// Truth.
    Bool,
    /// Homogeneous arrays of scalars, as bytes of `model::codec`; queries see their elements.
    Array,
    /// Everything that queries do not see, as bytes of `model::codec`.
    Other,
}

impl Type {
    /// Whether values are numbers: the others are bytes.
    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Float | Self::Bool)
    }

    /// Whether a value is of this type.
    pub(crate) fn is_of(self, value: ValueRef<'_>) -> bool {
        match value {
            ValueRef::Str(_) => self == Self::Str,
            ValueRef::Int(_) => self == Self::Int,
            ValueRef::Float(_) => self == Self::Float,
            ValueRef::Bool(_) => self == Self::Bool,
            ValueRef::Bytes(_) => matches!(self, Self::Array | Self::Other),
        }
    }
}

/// The values of a column, in row order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Values {
    /// `i64` and `f64` as their bits, truth as 0 and 1.
    Numbers(Vec<u64>),
    /// Bytes by their place in a list.
    Coded {
        /// For each value its place in `dictionary`.
        codes: Vec<u32>,
        /// No duplicates, in any order; entries may be unused.
        dictionary: Texts,
    },
    /// Bytes as they are.
    Plain(Texts),
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

/// Byte strings one after the other in one allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    /// An empty list with room.
    pub(crate) fn with_capacity(texts: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(texts),
        }
    }

    /// Appends a text.
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    /// Appends what `write` appends, as one text.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// The text at a place, which must exist.
    pub(crate) fn get(&self, place: usize) -> &[u8] {
        debug_assert!(place < self.len(), "text {place} of {}", self.len());
        let start = match place.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0),
            None => 0,
        };
        let end = self.ends.get(place).copied().unwrap_or(start);
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

    /// Bytes of all texts together.
    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes all texts out and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// All texts in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            text
        })
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut all = Self::default();
        texts.into_iter().for_each(|text| all.push(text.as_ref()));
        all
    }
}

/// One value, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ValueRef<'a> {
    /// Of [`Type::Str`].
    Str(&'a str),
    /// Of [`Type::Int`].
    Int(i64),
    /// Of [`Type::Float`].
    Float(f64),
    /// Of [`Type::Bool`].
    Bool(bool),
    /// Of [`Type::Array`] and [`Type::Other`]: bytes of `model::codec`.
    Bytes(&'a [u8]),
}

impl ValueRef<'_> {
    /// A number of `kind` from its bits.
    pub(crate) fn of_bits(kind: Type, bits: u64) -> Self {
        match kind {
            Type::Float => Self::Float(f64::from_bits(bits)),
            Type::Bool => Self::Bool(bits != 0),
            _ => Self::Int(bits.cast_signed()),
        }
    }

    /// The bits of a number; `None` for bytes.
    pub(crate) fn bits(self) -> Option<u64> {
        match self {
            Self::Int(number) => Some(number.cast_unsigned()),
            Self::Float(number) => Some(number.to_bits()),
            Self::Bool(truth) => Some(u64::from(truth)),
            Self::Str(_) | Self::Bytes(_) => None,
        }
    }
}

impl<'a> ValueRef<'a> {
    /// The bytes of a value that is no number.
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Str(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}
