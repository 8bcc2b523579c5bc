//! What of a block takes how many bytes. `TraceStore::sizes` calls it.

use trine_storage::Result;
use trine_storage::sealed::SealedFile;

use super::format::{self, span};
use super::image::Image;
use super::table::{Column, Key, TableReader};
use super::values::Type;

/// Bytes of a block by what they are, in a fixed order.
pub(crate) fn of(file: &SealedFile, image: &Image) -> Result<Vec<(&'static str, u64)>> {
    let mut sizes = Sizes::default();
    for column in image.spans.columns() {
        sizes.add(of_spans(column), TableReader::bytes_of(column));
    }
    for (table, what) in [
        (&image.events, "events"),
        (&image.links, "links"),
        (&image.resources, "resources"),
        (&image.scopes, "scopes"),
        (&image.traces, "traces"),
        (&image.ids, "index of traces"),
    ] {
        for column in table.columns() {
            sizes.add(what, TableReader::bytes_of(column));
        }
    }
    let directories = [
        format::SPANS,
        format::EVENTS,
        format::LINKS,
        format::RESOURCES,
        format::SCOPES,
        format::TRACES,
        format::IDS,
    ];
    for section in directories {
        let bytes = file.section_len(section)?;
        sizes.add("directories", bytes.unwrap_or(0));
    }
    let filter = file.section_len(format::ID_FILTER)?;
    sizes.add("index of traces", filter.unwrap_or(0));
    let told: u64 = sizes.0.iter().map(|(_, bytes)| bytes).sum();
    sizes.add("container", file.len().saturating_sub(told));
    Ok(sizes.0)
}

#[derive(Default)]
struct Sizes(Vec<(&'static str, u64)>);

impl Sizes {
    fn add(&mut self, what: &'static str, bytes: u64) {
        match self.0.iter_mut().find(|(held, _)| *held == what) {
            Some((_, sum)) => *sum += bytes,
            None => self.0.push((what, bytes)),
        }
    }
}

fn of_spans(column: &Column) -> &'static str {
    if TableReader::is_of_shapes(column) {
        return "shapes";
    }
    match &column.key {
        Key::Number(span::ID) => "span ids",
        Key::Number(span::START) => "starts",
        Key::Number(span::DURATION) => "durations",
        Key::Number(span::PARENT | span::PARENT_ID) => "parents",
        Key::Number(span::RESOURCE | span::SCOPE) => "codes of resources and scopes",
        Key::Number(_) => "kinds, statuses, counts",
        key if *key == span::NAME => "names",
        Key::Text(_) | Key::Bytes(_) => "status messages, trace states",
        Key::Pool(_) => "attributes: rare",
        Key::Attribute(_, Type::Str) => "attributes: text",
        Key::Attribute(_, Type::Int) => "attributes: numbers",
        Key::Attribute(_, Type::Float) => "attributes: floats",
        Key::Attribute(_, Type::Bool) => "attributes: truth values",
        Key::Attribute(_, Type::Array | Type::Other) => "attributes: arrays and others",
    }
}
