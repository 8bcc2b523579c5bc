//! What is built in of spans and their traces as codes of an answer's dictionary. `counts` and
//! `values` call it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::Result;

use super::coder::{BEYOND, Coder};
use super::codes::{self, Named, Translation, Wanted};
use super::condition::{duration_of, hex, kind, status};
use super::evaluate::{Page, child_counts};
use super::view::View;
use crate::block::format::span;
use crate::block::image::Trace;
use crate::block::table::PAGE_ROWS;
use crate::block::values::ValueRef;
use crate::request::{ABSENT, Intrinsic, Scope, Value};

/// What a stored number stands for.
pub(crate) type OfNumber = fn(u64) -> Value;

/// The column of what is stored as a small number, and what a number stands for.
pub(crate) fn small_number(intrinsic: Intrinsic) -> Option<(u8, OfNumber)> {
    match intrinsic {
        Intrinsic::Kind => Some((span::KIND, |stored| Value::Int(kind(stored)))),
        Intrinsic::Status => Some((span::STATUS, |stored| Value::Int(status(stored)))),
        _ => None,
    }
}

/// Sets the codes of something built in.
pub(crate) fn codes(
    (view, page): (&View, &Page<'_>),
    intrinsic: Intrinsic,
    wanted: &Wanted,
    (coder, translation): (&mut Coder, &mut Translation),
    out: &mut [u32],
) -> Result<()> {
    let spans = &view.image.spans;
    let small: Option<(u8, OfNumber)> = match intrinsic {
        Intrinsic::Kind | Intrinsic::Status => small_number(intrinsic),
        Intrinsic::IsRoot => Some((span::PARENT, |told| Value::Bool(told == span::NO_PARENT))),
        Intrinsic::Duration => Some((span::DURATION, |stored| {
            Value::Int(i64::try_from(duration_of(stored)).unwrap_or(0))
        })),
        Intrinsic::SpanId => Some((span::ID, |id| Value::Str(hex(&id.to_be_bytes()).into()))),
        _ => None,
    };
    if let Some((number, value)) = small {
        let numbers = codes::numbers(spans, number, page.number(), &wanted.rows)?;
        for (stored, at) in numbers.into_iter().zip(&wanted.out) {
            let code = translation.shared(stored, || Ok(coder.code_of(&value(stored))))?;
            codes::set(out, *at, code);
        }
        return Ok(());
    }
    match intrinsic {
        Intrinsic::Name | Intrinsic::StatusMessage => {
            let key = match intrinsic {
                Intrinsic::Name => span::NAME,
                _ => span::MESSAGE,
            };
            let column = spans.known(&key)?;
            codes::of_column(page, column, wanted, (coder, translation), out)
        }
        Intrinsic::ParentId => {
            let first = u32::try_from(page.number() * PAGE_ROWS).unwrap_or(u32::MAX);
            for (row, at) in wanted.rows.iter().zip(&wanted.out) {
                let id = view.image.parent_id(first + row)?;
                let text = if id == 0 {
                    String::new()
                } else {
                    hex(&id.to_be_bytes())
                };
                codes::set(out, *at, coder.code(ValueRef::Str(&text)));
            }
            Ok(())
        }
        Intrinsic::RootName | Intrinsic::RootServiceName => {
            of_roots((view, page), intrinsic, wanted, (coder, translation), out)
        }
        intrinsic => of_traces(view, page, intrinsic, wanted, coder, out),
    }
}

/// Sets the codes of what the roots of the spans' traces have. Roots are looked at page by page, as
/// spans are.
fn of_roots(
    (view, page): (&View, &Page<'_>),
    intrinsic: Intrinsic,
    wanted: &Wanted,
    (coder, translation): (&mut Coder, &mut Translation),
    out: &mut [u32],
) -> Result<()> {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let first = small(page.number() * PAGE_ROWS);
    // Of each trace where its root is, and how many wanted rows it has.
    let mut roots: Vec<(Option<u32>, usize)> = Vec::new();
    let mut end = 0;
    for row in &wanted.rows {
        let row = first.saturating_add(*row);
        if roots.is_empty() || row >= end {
            let trace = view.trace(view.place_of(row))?;
            end = trace.rows.end;
            roots.push((trace.has_root.then_some(trace.rows.start), 0));
        }
        if let Some((_, count)) = roots.last_mut() {
            *count += 1;
        }
    }
    let nothing = coder.code(ValueRef::Str(""));
    let mut codes = vec![ABSENT; roots.len()];
    let mut set = |page: &Page<'_>, roots: &Wanted| match intrinsic {
        Intrinsic::RootName => {
            let column = view.image.spans.known(&span::NAME)?;
            codes::of_column(page, column, roots, (coder, translation), &mut codes)
        }
        _ => {
            let named = Named {
                scope: Scope::Resource,
                key: "service.name".into(),
            };
            let at = (view, page);
            codes::attribute(at, &named, roots, (coder, translation), &mut codes)
        }
    };
    let mut here = Wanted::default();
    for ((root, _), at) in roots.iter().zip(0u32..) {
        let Some(root) = *root else {
            continue;
        };
        match root.checked_sub(first) {
            Some(row) => {
                here.rows.push(row);
                here.out.push(at);
            }
            // A trace that began on an earlier page.
            None => {
                let root = root as usize;
                let there = Wanted {
                    rows: vec![small(root % PAGE_ROWS)],
                    out: vec![at],
                };
                set(&Page::of_spans(view, root / PAGE_ROWS), &there)?;
            }
        }
    }
    set(page, &here)?;
    let is_text = |code: u32| {
        code == BEYOND || matches!(coder.values.get(code as usize), Some(Value::Str(_)))
    };
    let codes = codes
        .iter()
        .map(|code| if is_text(*code) { *code } else { nothing });
    let counts = roots.iter().map(|(_, count)| *count);
    let codes = codes
        .zip(counts)
        .flat_map(|(code, count)| std::iter::repeat_n(code, count));
    for (at, code) in wanted.out.iter().zip(codes) {
        codes::set(out, *at, code);
    }
    Ok(())
}

fn of_traces(
    view: &View,
    page: &Page<'_>,
    intrinsic: Intrinsic,
    wanted: &Wanted,
    coder: &mut Coder,
    out: &mut [u32],
) -> Result<()> {
    let first = u32::try_from(page.number() * PAGE_ROWS).unwrap_or(u32::MAX);
    let mut held: Option<(Trace, u32, Vec<u32>)> = None;
    for (row, at) in wanted.rows.iter().zip(&wanted.out) {
        let row = first + row;
        let known = held
            .as_ref()
            .is_some_and(|(trace, ..)| trace.rows.contains(&row));
        if !known {
            let trace = view.trace(view.place_of(row))?;
            let (code, counts) = match intrinsic {
                Intrinsic::ChildCount => (0, child_counts(view, &trace.rows)?),
                intrinsic => (coder.code_of(&of_trace(intrinsic, &trace)), Vec::new()),
            };
            held = Some((trace, code, counts));
        }
        let Some((trace, code, counts)) = &held else {
            continue;
        };
        let code = match counts.get((row - trace.rows.start) as usize) {
            Some(count) => coder.code(ValueRef::Int((*count).into())),
            None => *code,
        };
        codes::set(out, *at, code);
    }
    Ok(())
}

fn of_trace(intrinsic: Intrinsic, trace: &Trace) -> Value {
    match intrinsic {
        Intrinsic::TraceId => Value::Str(hex(&trace.id).into()),
        _ => Value::Int(trace.end.saturating_sub(trace.start)),
    }
}
