//! What answers read next of places that are far away, fetched together: what filters are made ready
//! with, the pages that they are applied to, the pages that an answer is made of. Of places that are on
//! this disk nothing is fetched, and what is missed here is fetched when it is read.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::ops::Range;

use trine_storage::sealed::PageRef;

use super::codes::Named;
use super::condition::{Leaf, Node, visible};
use super::view::View;
use crate::block::format::span;
use crate::block::table::{Key, TableReader};
use crate::request::{AttributeRef, Filter, Intrinsic, Scope};

/// Begins to fetch what it takes to make filters ready.
pub(crate) fn filters<'a>(views: impl Iterator<Item = &'a View>, filters: &[&Filter]) {
    let mut asked = Vec::new();
    for filter in filters {
        attributes(filter, &mut asked);
    }
    each_far(views, |view, pages| {
        for attribute in &asked {
            of_attribute(view, attribute, pages);
        }
    });
}

/// Begins to fetch what it takes to tell which values an attribute has.
pub(crate) fn attribute<'a>(views: impl Iterator<Item = &'a View>, attribute: &AttributeRef) {
    each_far(views, |view, pages| of_attribute(view, attribute, pages));
}

/// Begins to fetch resources and scopes, and how many spans share each.
pub(crate) fn shared<'a>(views: impl Iterator<Item = &'a View>) {
    each_far(views, |view, pages| {
        for number in [span::RESOURCE, span::SCOPE] {
            view.image.spans.stored_of(&Key::Number(number), pages);
        }
        all_of(&view.image.resources, pages);
        all_of(&view.image.scopes, pages);
    });
}

fn each_far<'a>(
    views: impl Iterator<Item = &'a View>,
    mut find: impl FnMut(&View, &mut Vec<PageRef>),
) {
    for view in views.filter(|view| view.image.is_remote()) {
        let mut pages = Vec::new();
        find(view, &mut pages);
        view.image.prefetch(&pages);
    }
}

fn attributes<'f>(filter: &'f Filter, out: &mut Vec<&'f AttributeRef>) {
    match filter {
        Filter::And(filters) | Filter::Or(filters) => {
            filters.iter().for_each(|filter| attributes(filter, out));
        }
        Filter::Not(filter) => attributes(filter, out),
        Filter::Is(condition) => out.push(&condition.attribute),
    }
}

fn of_attribute(view: &View, attribute: &AttributeRef, out: &mut Vec<PageRef>) {
    let image = &view.image;
    let spans = &image.spans;
    match attribute {
        AttributeRef::Intrinsic(Intrinsic::Name | Intrinsic::RootName) => {
            spans.stored_of(&span::NAME, out);
        }
        AttributeRef::Intrinsic(Intrinsic::StatusMessage) => spans.stored_of(&span::MESSAGE, out),
        AttributeRef::Intrinsic(Intrinsic::RootServiceName) => all_of(&image.resources, out),
        AttributeRef::Intrinsic(_) => {}
        AttributeRef::Attribute { scope, key } => {
            if matches!(scope, None | Some(Scope::Span)) {
                visible(spans, key).for_each(|key| spans.stored_of(&key, out));
            }
            if matches!(scope, None | Some(Scope::Resource)) {
                all_of(&image.resources, out);
            }
            let (children, count) = match scope {
                Some(Scope::Instrumentation) => return all_of(&image.scopes, out),
                Some(Scope::Event) => (&image.events, span::EVENTS),
                Some(Scope::Link) => (&image.links, span::LINKS),
                _ => return,
            };
            let rows = 0..children.rows();
            children.pages_of_shapes(&rows, out);
            visible(children, key).for_each(|key| children.pages_of(&key, &rows, out));
            spans.pages_of_numbers(count, &(0..spans.rows()), out);
        }
    }
}

/// Begins to fetch what tells which spans some traces have, each named by the number of its view and its
/// place there.
pub(crate) fn keys(views: &[View], traces: impl Iterator<Item = (usize, usize)>) {
    let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, place) in traces {
        places.entry(number).or_default().push(place);
    }
    for (number, places) in places {
        let Some(view) = views.get(number).filter(|view| view.image.is_remote()) else {
            continue;
        };
        let mut found = Vec::new();
        // What fails here fails again where it is read.
        view.read_rows().ok();
        for place in places {
            let rows = view.rows_of(place);
            let rows = rows.start as usize..rows.end as usize;
            view.image.pages_of_traces(place..place + 1, &mut found);
            for number in KEYS {
                view.image.spans.pages_of_numbers(number, &rows, &mut found);
            }
        }
        found.sort_unstable_by_key(|page| page.offset);
        found.dedup();
        view.image.prefetch(&found);
    }
}

/// The columns that tell who is below whom.
const KEYS: [u8; 6] = [
    span::ID,
    span::START,
    span::DURATION,
    span::KIND,
    span::PARENT,
    span::PARENT_ID,
];

/// The pages of spans that filters look at, with the traces that begin there, where they are far away.
pub(crate) fn pages(view: &View, nodes: &[Node], pages: Range<usize>) -> Vec<PageRef> {
    if !view.image.is_remote() || pages.is_empty() {
        return Vec::new();
    }
    let spans = &view.image.spans;
    let mut keys = Vec::new();
    nodes.iter().for_each(|node| keys_of(node, &mut keys));
    let rows = spans.rows_of(pages.start).start..spans.rows_of(pages.end - 1).end;
    let mut found = Vec::new();
    if keys.iter().any(|key| matches!(key, Key::Attribute(..))) {
        spans.pages_of_shapes(&rows, &mut found);
    }
    for key in &keys {
        spans.pages_of(key, &rows, &mut found);
    }
    let first = view.places_of(pages.start).start;
    let end = view.places_of(pages.end - 1).end;
    view.image.pages_of_traces(first..end, &mut found);
    found
}

fn keys_of(node: &Node, out: &mut Vec<Key>) {
    match node {
        Node::No | Node::All => {}
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| keys_of(node, out)),
        Node::Not(node) => keys_of(node, out),
        Node::Leaf(leaf) => match leaf {
            Leaf::Column { key, .. } => out.push(key.clone()),
            Leaf::Without(keys) => out.extend(keys.iter().cloned()),
            Leaf::Rows(_) | Leaf::NotRows(_) | Leaf::TraceDuration(_) => {}
            Leaf::ParentId(_) => {
                out.extend([span::ID, span::PARENT, span::PARENT_ID].map(Key::Number));
            }
            Leaf::Children(_) => out.push(Key::Number(span::PARENT)),
            Leaf::RootName { .. } => out.push(span::NAME),
            Leaf::RootResource { .. } => out.push(Key::Number(span::RESOURCE)),
        },
    }
}

/// Begins to fetch what some pages of spans give to an answer, which are named by their numbers.
pub(crate) fn answer(view: &View, pages: impl Iterator<Item = usize>, named: &[Named]) {
    if !view.image.is_remote() {
        return;
    }
    let image = &view.image;
    let spans = &image.spans;
    let others = [span::STATUS, span::RESOURCE, span::SCOPE];
    let mut keys: Vec<Key> = KEYS.into_iter().chain(others).map(Key::Number).collect();
    keys.extend([span::NAME, span::MESSAGE]);
    let mut found = Vec::new();
    all_of(&image.resources, &mut found);
    for Named { scope, key } in named {
        match scope {
            Scope::Span => keys.extend(visible(spans, key)),
            Scope::Instrumentation => all_of(&image.scopes, &mut found),
            // Their values are of rows that are not known yet.
            Scope::Resource | Scope::Event | Scope::Link => {}
        }
    }
    for page in pages {
        let rows = spans.rows_of(page);
        spans.pages_of_shapes(&rows, &mut found);
        keys.iter()
            .for_each(|key| spans.pages_of(key, &rows, &mut found));
    }
    image.prefetch(&found);
}

/// Begins to fetch what tells the values that spans of some pages have for some attributes, as far as
/// that lies in these pages or is shared.
pub(crate) fn read(view: &View, pages: impl Iterator<Item = usize>, attributes: &[&AttributeRef]) {
    if !view.image.is_remote() || attributes.is_empty() {
        return;
    }
    let image = &view.image;
    let spans = &image.spans;
    let (mut keys, mut found) = (vec![Key::Number(span::START)], Vec::new());
    for attribute in attributes {
        match attribute {
            AttributeRef::Intrinsic(intrinsic) => keys.extend(match intrinsic {
                Intrinsic::Name => Some(span::NAME),
                Intrinsic::StatusMessage => Some(span::MESSAGE),
                Intrinsic::Duration => Some(Key::Number(span::DURATION)),
                Intrinsic::Status => Some(Key::Number(span::STATUS)),
                Intrinsic::Kind => Some(Key::Number(span::KIND)),
                Intrinsic::SpanId => Some(Key::Number(span::ID)),
                Intrinsic::IsRoot | Intrinsic::ChildCount => Some(Key::Number(span::PARENT)),
                // They are of other spans, or of whole traces.
                _ => None,
            }),
            AttributeRef::Attribute { scope, key } => {
                if matches!(scope, None | Some(Scope::Span)) {
                    keys.extend(visible(spans, key));
                }
                if matches!(scope, None | Some(Scope::Resource)) {
                    keys.push(Key::Number(span::RESOURCE));
                    all_of(&image.resources, &mut found);
                }
                if matches!(scope, Some(Scope::Instrumentation)) {
                    keys.push(Key::Number(span::SCOPE));
                    all_of(&image.scopes, &mut found);
                }
            }
        }
    }
    for page in pages {
        let rows = spans.rows_of(page);
        if keys.iter().any(|key| matches!(key, Key::Attribute(..))) {
            spans.pages_of_shapes(&rows, &mut found);
        }
        for key in &keys {
            spans.pages_of(key, &rows, &mut found);
        }
    }
    image.prefetch(&found);
}

/// The pages of a table that is small.
fn all_of(table: &TableReader, out: &mut Vec<PageRef>) {
    const PAGES_MAX: usize = 2;
    if table.pages() <= PAGES_MAX {
        table.pages_with(&(0..table.rows()), out);
    }
}
