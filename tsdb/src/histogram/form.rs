//! How a histogram is told by the one before it. Both codecs begin a sample, or a group of samples
//! of one layout, with a form; what follows are differences to the *base* that the form stands for.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::borrow::Cow;

use trine_storage::Result;
use trine_storage::codec::{Reader, put_signed, put_u64, put_varint};

use super::number::Number;
use super::validate::check_shape;
use super::{
    BUCKETS_MAX, Buckets, CUSTOM_SCHEMA, Histogram, ResetHint, SCHEMA_MAX, SCHEMA_MIN, STALE, Side,
    Span, indices,
};

/// Stale samples stand outside: the one before is always the last that is not told by a stale form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The layout follows; the base has no observations.
    Whole = 0,
    /// The spans follow: the layout is that of the one before but for them, and so is the base,
    /// with its counts in the buckets of the same index.
    Spans = 1,
    /// The base is the one before.
    Same = 2,
    /// Nothing follows: it is [`Histogram::stale`] but for the hint.
    StaleInteger = 3,
    /// Nothing follows: the float twin of it.
    StaleFloat = 4,
}

impl Form {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        [
            Self::Whole,
            Self::Spans,
            Self::Same,
            Self::StaleInteger,
            Self::StaleFloat,
        ]
        .into_iter()
        .find(|form| *form as u8 == code)
    }

    pub(super) fn of(histogram: &Histogram, before: Option<&Histogram>) -> Self {
        if histogram.is_stale() {
            for form in [Self::StaleInteger, Self::StaleFloat] {
                let twin = form.stale(histogram.reset_hint);
                if twin.is_some_and(|twin| twin.same_bits(histogram)) {
                    return form;
                }
            }
        }
        match before {
            Some(before) if before.layout_eq(histogram) => Self::Same,
            Some(before) if before.same_scale(histogram) => Self::Spans,
            _ => Self::Whole,
        }
    }

    /// The histogram of a stale form, `None` for the other forms.
    pub(super) fn stale(self, reset_hint: ResetHint) -> Option<Histogram> {
        let buckets = match self {
            Self::StaleInteger => Buckets::default(),
            Self::StaleFloat => Buckets::zeros(false, 0, 0),
            Self::Whole | Self::Spans | Self::Same => return None,
        };
        Some(Histogram {
            reset_hint,
            sum: f64::from_bits(STALE),
            buckets,
            ..Histogram::default()
        })
    }

    /// Appends what the form needs to tell the layout of `histogram`; the base of its differences.
    pub(super) fn put_base<'a>(
        self,
        histogram: &Histogram,
        before: Option<&'a Histogram>,
        out: &mut Vec<u8>,
    ) -> Cow<'a, Histogram> {
        match (self, before) {
            (Self::Same, Some(before)) => Cow::Borrowed(before),
            (Self::Spans, Some(before)) => {
                put_spans(out, &histogram.positive_spans);
                put_spans(out, &histogram.negative_spans);
                let spans = (
                    histogram.positive_spans.clone(),
                    histogram.negative_spans.clone(),
                );
                Cow::Owned(respanned(before, spans))
            }
            _ => {
                put_layout(out, histogram);
                Cow::Owned(emptied(histogram))
            }
        }
    }

    /// Reads what [`Form::put_base`] wrote.
    pub(super) fn take_base(
        self,
        before: Option<&Histogram>,
        reader: &mut Reader<'_>,
    ) -> Result<Histogram> {
        match (self, before) {
            (Self::Same, Some(before)) => Ok(before.clone()),
            (Self::Spans, Some(before)) => {
                let is_custom = before.has_custom_bounds();
                let spans = take_spans(reader, is_custom)?;
                let base = respanned(before, spans);
                check_custom(&base, reader)?;
                Ok(base)
            }
            (Self::Whole, _) => take_layout(reader),
            _ => Err(reader.corrupt("a histogram differs from none before it")),
        }
    }
}

impl ResetHint {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Reset => 1,
            Self::NotReset => 2,
            Self::Gauge => 3,
        }
    }

    /// The hint of the lower two bits.
    pub(super) fn from_code(code: u8) -> Self {
        match code & 3 {
            0 => Self::Unknown,
            1 => Self::Reset,
            2 => Self::NotReset,
            _ => Self::Gauge,
        }
    }
}

impl Buckets {
    pub(super) fn zeros(is_integer: bool, positive: usize, negative: usize) -> Self {
        if is_integer {
            Self::Integer {
                zero_count: 0,
                count: 0,
                positive: vec![0; positive],
                negative: vec![0; negative],
            }
        } else {
            Self::Float {
                zero_count: 0.0,
                count: 0.0,
                positive: vec![0.0; positive],
                negative: vec![0.0; negative],
            }
        }
    }
}

/// Observations of an integer histogram that are in no bucket: usually none, so that neither codec
/// spends bytes on the count. Meaningful modulo 2^64.
pub(super) fn excess(zero_count: u64, count: u64, positive: &[i64], negative: &[i64]) -> u64 {
    count.wrapping_sub(bucketed(zero_count, positive, negative))
}

/// Observations of an integer histogram that are in buckets, modulo 2^64.
pub(super) fn bucketed(zero_count: u64, positive: &[i64], negative: &[i64]) -> u64 {
    let counts = positive.iter().chain(negative);
    counts.fold(zero_count, |sum, count| sum.wrapping_add_signed(*count))
}

/// A histogram of the same layout without observations.
fn emptied(histogram: &Histogram) -> Histogram {
    let (positive, negative) = match &histogram.buckets {
        Buckets::Integer {
            positive, negative, ..
        } => (positive.len(), negative.len()),
        Buckets::Float {
            positive, negative, ..
        } => (positive.len(), negative.len()),
    };
    Histogram {
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        buckets: Buckets::zeros(histogram.buckets.is_integer(), positive, negative),
        positive_spans: histogram.positive_spans.clone(),
        negative_spans: histogram.negative_spans.clone(),
        custom_values: histogram.custom_values.clone(),
        ..Histogram::default()
    }
}

/// The histogram before with other spans: buckets that it lacks are empty, those that the new spans
/// lack are gone.
fn respanned(
    before: &Histogram,
    (positive_spans, negative_spans): (Vec<Span>, Vec<Span>),
) -> Histogram {
    let buckets = match &before.buckets {
        Buckets::Integer {
            zero_count,
            count,
            positive,
            negative,
        } => {
            // The excess stays, so that it costs nothing either.
            let excess = excess(*zero_count, *count, positive, negative);
            let positive = moved(positive, &before.positive_spans, &positive_spans);
            let negative = moved(negative, &before.negative_spans, &negative_spans);
            Buckets::Integer {
                zero_count: *zero_count,
                count: bucketed(*zero_count, &positive, &negative).wrapping_add(excess),
                positive,
                negative,
            }
        }
        Buckets::Float {
            zero_count,
            count,
            positive,
            negative,
        } => Buckets::Float {
            zero_count: *zero_count,
            count: *count,
            positive: moved(positive, &before.positive_spans, &positive_spans),
            negative: moved(negative, &before.negative_spans, &negative_spans),
        },
    };
    Histogram {
        schema: before.schema,
        reset_hint: before.reset_hint,
        zero_threshold: before.zero_threshold,
        sum: before.sum,
        buckets,
        positive_spans,
        negative_spans,
        custom_values: before.custom_values.clone(),
    }
}

fn moved<T: Number>(counts: &[T], from: &[Span], to: &[Span]) -> Vec<T> {
    let mut counts = indices(from).zip(counts).peekable();
    indices(to)
        .map(|index| {
            while counts.next_if(|(before, _)| *before < index).is_some() {}
            let same = counts.next_if(|(before, _)| *before == index);
            same.map_or(T::default(), |(_, count)| *count)
        })
        .collect()
}

fn put_layout(out: &mut Vec<u8>, histogram: &Histogram) {
    out.push(u8::from(!histogram.buckets.is_integer()));
    out.push(histogram.schema.cast_unsigned());
    put_u64(out, histogram.zero_threshold.to_bits());
    put_varint(out, histogram.custom_values.len() as u64);
    for value in &histogram.custom_values {
        put_u64(out, value.to_bits());
    }
    put_spans(out, &histogram.positive_spans);
    put_spans(out, &histogram.negative_spans);
}

fn take_layout(reader: &mut Reader<'_>) -> Result<Histogram> {
    let kind = reader.u8()?;
    let schema = reader.u8()?.cast_signed();
    let is_custom = schema == CUSTOM_SCHEMA;
    if kind > 1 || !(is_custom || (SCHEMA_MIN..=SCHEMA_MAX).contains(&schema)) {
        return Err(reader.corrupt("histograms have no such kind or schema"));
    }
    let zero_threshold = f64::from_bits(reader.u64()?);
    let bounds = take_length(reader, 8)?;
    let custom_values = (0..bounds)
        .map(|_| reader.u64().map(f64::from_bits))
        .collect::<Result<Vec<_>>>()?;
    let (positive_spans, negative_spans) = take_spans(reader, is_custom)?;
    let layout = Histogram {
        schema,
        zero_threshold,
        buckets: Buckets::zeros(
            kind == 0,
            indices(&positive_spans).count(),
            indices(&negative_spans).count(),
        ),
        positive_spans,
        negative_spans,
        custom_values,
        ..Histogram::default()
    };
    check_custom(&layout, reader)?;
    Ok(layout)
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    put_varint(out, spans.len() as u64);
    for span in spans {
        put_signed(out, span.offset.into());
        put_varint(out, span.length.into());
    }
}

/// Both sides. No index of theirs wraps, and all buckets together are within [`BUCKETS_MAX`].
fn take_spans(reader: &mut Reader<'_>, is_custom: bool) -> Result<(Vec<Span>, Vec<Span>)> {
    let above = if is_custom {
        Side::Custom
    } else {
        Side::Positive
    };
    let mut buckets = 0;
    let mut take_side = |side: Side| {
        let spans = (0..take_length(reader, 2)?)
            .map(|_| {
                let offset = i32::try_from(reader.signed()?);
                let length = u32::try_from(reader.varint()?);
                match (offset, length) {
                    (Ok(offset), Ok(length)) => Ok(Span { offset, length }),
                    _ => Err(reader.corrupt("a span is longer than there are buckets")),
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let shape =
            check_shape(&spans, side).map_err(|error| reader.corrupt(&error.to_string()))?;
        buckets += shape.buckets;
        if buckets > BUCKETS_MAX as u64 {
            return Err(reader.corrupt("a histogram has more buckets than any may have"));
        }
        Ok(spans)
    };
    Ok((take_side(above)?, take_side(Side::Negative)?))
}

/// A number of spans or bounds of at least `least_bytes` bytes each.
fn take_length(reader: &mut Reader<'_>, least_bytes: usize) -> Result<usize> {
    let length = reader.count(least_bytes)?;
    if length > BUCKETS_MAX {
        return Err(reader.corrupt("a histogram has more spans or bounds than any may have"));
    }
    Ok(length)
}

/// Checks that each custom bucket has its bound, so that no reader looks for one that is not there.
fn check_custom(layout: &Histogram, reader: &Reader<'_>) -> Result<()> {
    let last = indices(&layout.positive_spans).last().unwrap_or(-1);
    let has_bound = i64::from(last) <= layout.custom_values.len() as i64;
    if layout.has_custom_bounds() && !(has_bound && layout.negative_spans.is_empty()) {
        return Err(reader.corrupt("custom buckets are more than their bounds"));
    }
    Ok(())
}
