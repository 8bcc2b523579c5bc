//! Attributes that a processor asks for, found among all that a span or its resource has, and their
//! values as text. `span_metrics` and `service_graphs` call it.

use std::fmt::Write as _;

use trine_tracestore::{SpanView, ValueView};

/// The most bytes that a value may have as that of a label; longer ones are cut.
pub(super) const LABEL_VALUE_BYTES_MAX: usize = 2048;

/// The most bytes that the name of a label may have; longer ones are cut.
const LABEL_NAME_BYTES_MAX: usize = 1024;

/// No attribute.
const NONE: usize = usize::MAX;

/// Keys of attributes, each with a place.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Vec<Box<[u8]>>,
    /// Which lengths keys have, bit by bit; the last bit stands for all longer ones.
    lengths: u64,
}

/// Where a span has the attributes that were asked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    places: Vec<usize>,
}

/// The value of an attribute that is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Held {
    Str(Box<str>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Keys {
    /// The place of `key`, which is added if it is not there.
    pub(super) fn add(&mut self, key: &str) -> usize {
        let found = self.keys.iter().position(|held| **held == *key.as_bytes());
        found.unwrap_or_else(|| {
            self.lengths |= 1 << key.len().min(63);
            self.keys.push(key.as_bytes().into());
            self.keys.len() - 1
        })
    }

    /// The place of a key.
    #[inline]
    fn place(&self, key: &[u8]) -> Option<usize> {
        if self.lengths >> key.len().min(63) & 1 == 0 {
            return None;
        }
        self.keys.iter().position(|held| **held == *key)
    }

    /// Finds the attributes of a span; of several with one key the first counts.
    #[inline]
    pub(super) fn find(&self, span: &SpanView<'_, '_>, found: &mut Found) {
        found.places.clear();
        found.places.resize(self.keys.len(), NONE);
        if self.keys.is_empty() {
            return;
        }
        for (at, (key, _)) in span.attributes().enumerate() {
            if let Some(place) = self.place(key)
                && let Some(slot @ &mut NONE) = found.places.get_mut(place)
            {
                *slot = at;
            }
        }
    }

    /// The values of the attributes of a resource, by place.
    pub(super) fn of(&self, attributes: &[(&[u8], ValueView<'_>)]) -> Vec<Option<Held>> {
        let value = |key: &[u8]| {
            let pair = attributes.iter().find(|(held, _)| *held == key);
            pair.and_then(|(_, value)| Held::of(*value))
        };
        self.keys.iter().map(|key| value(key)).collect()
    }
}

impl Found {
    /// The value of a key by its place.
    #[inline]
    pub(super) fn value<'a>(&self, span: &SpanView<'_, 'a>, place: usize) -> Option<ValueView<'a>> {
        let at = self.places.get(place).filter(|at| **at != NONE)?;
        span.value(*at).filter(|value| *value != ValueView::Other)
    }
}

impl Held {
    fn of(value: ValueView<'_>) -> Option<Self> {
        Some(match value {
            ValueView::Str(text) => Self::Str(String::from_utf8_lossy(text).into()),
            ValueView::Int(number) => Self::Int(number),
            ValueView::Float(number) => Self::Float(number),
            ValueView::Bool(truth) => Self::Bool(truth),
            ValueView::Other => return None,
        })
    }

    pub(super) fn view(&self) -> ValueView<'_> {
        match self {
            Self::Str(text) => ValueView::Str(text.as_bytes()),
            Self::Int(number) => ValueView::Int(*number),
            Self::Float(number) => ValueView::Float(*number),
            Self::Bool(truth) => ValueView::Bool(*truth),
        }
    }
}

/// A value of a resource or of a span: that of the resource, where both have one.
#[inline]
pub(super) fn either<'a>(
    of_resource: &'a [Option<Held>],
    (found, span): (&Found, &SpanView<'_, 'a>),
    place: usize,
) -> Option<ValueView<'a>> {
    let held = of_resource.get(place).and_then(Option::as_ref);
    held.map(Held::view).or_else(|| found.value(span, place))
}

/// Appends a value as text, as much of it as a label may have.
pub(super) fn put_text(out: &mut Vec<u8>, value: ValueView<'_>) {
    let mut text = String::new();
    // Infallible: the target is a String.
    match value {
        ValueView::Str(bytes) => return out.extend_from_slice(bounded(bytes)),
        ValueView::Int(number) => write!(text, "{number}").ok(),
        ValueView::Float(number) => write!(text, "{number}").ok(),
        ValueView::Bool(truth) => write!(text, "{truth}").ok(),
        ValueView::Other => None,
    };
    out.extend_from_slice(text.as_bytes());
}

/// A value as text; none for an empty one.
pub(super) fn text(value: ValueView<'_>) -> Option<Box<str>> {
    let mut out = Vec::new();
    put_text(&mut out, value);
    let text = String::from_utf8_lossy(&out).into_owned();
    (!text.is_empty()).then(|| text.into())
}

/// As much of a text as a label may have.
#[inline]
pub(super) fn bounded(text: &[u8]) -> &[u8] {
    if text.len() <= LABEL_VALUE_BYTES_MAX {
        return text;
    }
    let is_start = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let end = (0..=LABEL_VALUE_BYTES_MAX).rev().find(is_start);
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// The name of a label for an attribute: letters, digits and underscores.
pub(super) fn label_name(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    key.chars().map(plain).take(LABEL_NAME_BYTES_MAX).collect()
}

/// By how much spans count, for those that were not kept.
#[derive(Debug)]
pub(super) struct Weight {
    /// The place of the attribute with the share of spans that were kept.
    share: Option<usize>,
    /// Whether that share may stand in the state of the trace, which is asked first.
    of_state: bool,
}

impl Weight {
    /// The weight by the attribute `key`, unless it is empty, and perhaps by the state.
    pub(super) fn new(key: &str, of_state: bool, keys: &mut Keys) -> Self {
        Self {
            share: (!key.is_empty()).then(|| keys.add(key)),
            of_state,
        }
    }

    /// By how much a span counts.
    #[inline]
    pub(super) fn of(
        &self,
        of_resource: &[Option<Held>],
        (found, span): (&Found, &SpanView<'_, '_>),
    ) -> f64 {
        let of_state = || threshold_multiplier(span.trace_state);
        let of_share = |place| either(of_resource, (found, span), place).and_then(multiplier);
        let told = self.of_state.then(of_state).flatten();
        told.or_else(|| self.share.and_then(of_share))
            .unwrap_or(1.0)
    }
}

/// By how much a span counts: one over the share of spans that were kept, as the attribute says.
fn multiplier(share: ValueView<'_>) -> Option<f64> {
    let share = match share {
        ValueView::Float(share) => share,
        ValueView::Int(share) => share as f64,
        _ => return None,
    };
    let multiplier = 1.0 / share;
    (share > 0.0 && multiplier.is_finite()).then_some(multiplier)
}

/// By how much a span counts by the threshold in the state of its trace, `ot=th:...`: of so many
/// random numbers of 56 bits, those from there on were kept.
fn threshold_multiplier(trace_state: &[u8]) -> Option<f64> {
    const DIGITS: usize = 14;
    let state = std::str::from_utf8(trace_state).ok()?;
    let member = |member: &str| member.trim().strip_prefix("ot=").map(str::to_owned);
    let own = state.split(',').find_map(member)?;
    let digits = own.split(';').find_map(|pair| pair.strip_prefix("th:"))?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits.is_empty() || digits.len() > DIGITS || !is_hex {
        return None;
    }
    let number = u64::from_str_radix(digits, 16).ok()?;
    let threshold = number << (4 * (DIGITS - digits.len()));
    let all = 1u64 << (4 * DIGITS);
    Some(all as f64 / (all - threshold) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_fit_into_labels() {
        assert_eq!(label_name("http.route"), "http_route");
        assert_eq!(label_name("é-1"), "__1");
        assert_eq!(label_name(&"a".repeat(2000)).len(), LABEL_NAME_BYTES_MAX);
        for (bytes, expect) in [(2047, 2047), (2048, 2048), (2049, 2048)] {
            assert_eq!(bounded(&vec![b'a'; bytes]).len(), expect);
        }
        let euros = "€".repeat(1000);
        assert_eq!(bounded(euros.as_bytes()).len(), 2046);
        assert_eq!(text(ValueView::Int(-5)).as_deref(), Some("-5"));
        assert_eq!(text(ValueView::Float(0.5)).as_deref(), Some("0.5"));
        assert_eq!(text(ValueView::Bool(true)).as_deref(), Some("true"));
        assert_eq!(text(ValueView::Str(b"")), None);
        assert_eq!(text(ValueView::Other), None);
    }

    #[test]
    fn a_span_counts_for_those_that_were_not_kept() {
        for (share, expect) in [
            (ValueView::Float(0.25), Some(4.0)),
            (ValueView::Float(1.0), Some(1.0)),
            (ValueView::Int(1), Some(1.0)),
            (ValueView::Float(0.0), None),
            (ValueView::Float(-1.0), None),
            (ValueView::Float(f64::NAN), None),
            (ValueView::Float(f64::MIN_POSITIVE / 8.0), None),
            (ValueView::Str(b"0.5"), None),
        ] {
            assert_eq!(multiplier(share), expect, "{share:?}");
        }
        for (state, expect) in [
            ("ot=th:8", Some(2.0)),
            ("ot=th:c", Some(4.0)),
            ("ot=th:0", Some(1.0)),
            ("vendor=x, ot=rv:1;th:c", Some(4.0)),
            ("ot=th:", None),
            ("ot=th:g", None),
            ("ot=th:+8", None),
            ("ot=th:123456789012345", None),
            ("ot=th:ffffffffffffff", Some(f64::from(2).powi(56))),
            ("other=th:8", None),
            ("", None),
        ] {
            assert_eq!(threshold_multiplier(state.as_bytes()), expect, "{state}");
        }
    }
}
