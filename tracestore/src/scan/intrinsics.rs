//! What is built in of spans and their traces as codes of an answer's dictionary. `counts` and
//! `values` call it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use trine_storage::Result;

use super::coder::Coder;
use super::codes::{self, Named, Translation, Wanted};
use super::condition::{duration_of, hex, kind, status};
use super::evaluate::{Page, child_counts};
use super::view::View;
use crate::block::format::span;
use crate::block::image::Trace;
use crate::block::table::PAGE_ROWS;
use crate::block::values::{Texts, ValueRef};
use crate::request::{Intrinsic, Scope, Value};

/// What a stored number stands for.
type OfNumber = fn(u64) -> Value;

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
        Intrinsic::Kind => Some((span::KIND, |stored| Value::Int(kind(stored)))),
        Intrinsic::Status => Some((span::STATUS, |stored| Value::Int(status(stored)))),
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
        intrinsic => of_traces(view, page, intrinsic, wanted, coder, out),
    }
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
                intrinsic => (
                    coder.code_of(&of_trace(view, intrinsic, &trace)?),
                    Vec::new(),
                ),
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

fn of_trace(view: &View, intrinsic: Intrinsic, trace: &Trace) -> Result<Value> {
    let row = trace.rows.start as usize;
    let text = |text: Option<Arc<str>>| Value::Str(text.unwrap_or_default());
    Ok(match intrinsic {
        Intrinsic::TraceId => Value::Str(hex(&trace.id).into()),
        Intrinsic::TraceDuration => Value::Int(trace.end.saturating_sub(trace.start)),
        _ if !trace.has_root => text(None),
        Intrinsic::RootName => {
            let mut names = Texts::default();
            let position = [u32::try_from(row % PAGE_ROWS).unwrap_or(u32::MAX)];
            let page = row / PAGE_ROWS;
            view.image
                .spans
                .texts(&span::NAME, page, Some(&position), &mut names)?;
            let name = std::str::from_utf8(names.iter().next().unwrap_or_default());
            text(name.ok().map(Into::into))
        }
        _ => {
            let resource = view.image.spans.number_at(span::RESOURCE, row)?;
            let resource = usize::try_from(resource).unwrap_or(usize::MAX);
            let named = Named {
                scope: Scope::Resource,
                key: "service.name".into(),
            };
            let name = codes::value_of(&view.image.resources, &named, &[resource])?;
            text(name.into_iter().flatten().find_map(|name| match name {
                Value::Str(name) => Some(name),
                _ => None,
            }))
        }
    })
}
