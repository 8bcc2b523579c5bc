//! What a [`ShipEdit`] makes of a document. Nothing here asks anything; [`super::depot`] commits it.

use std::collections::BTreeSet;

use crate::catalog::Document;
use crate::depot::ShipEdit;
use crate::error::{Error, Result};
use crate::ulid::BlockId;

/// Data directories whose last batch is remembered.
const DIRECTORIES_MAX: usize = 64;

/// The document with the change; nothing when it has it already. The version stays.
///
/// # Errors
/// [`Kind::Invalid`](crate::Kind::Invalid) when the plan is void.
pub(super) fn apply(
    document: &Document,
    edit: &ShipEdit,
    instance: &str,
) -> Result<Option<Document>> {
    let named: BTreeSet<BlockId> = document.blocks.iter().map(|block| block.id).collect();
    let last = document
        .shipped
        .get(instance)
        .map_or(&[][..], Vec::as_slice);
    let is_there = |id: &BlockId| named.contains(id) || (edit.is_batch && last.contains(id));
    let is_new = |id: &BlockId| !is_there(id);
    let adds = edit.add.iter().any(|block| is_new(&block.id));
    if adds && let Some(gone) = edit.remove.iter().find(|id| !named.contains(id)) {
        return Err(Error::invalid(format!(
            "block {gone} is replaced by another writer already; the plan is void"
        )));
    }
    let mut next = document.clone();
    next.blocks.retain(|block| !edit.remove.contains(&block.id));
    for block in &edit.add {
        if is_new(&block.id) {
            next.blocks.push(block.clone());
        }
    }
    if edit.is_batch && adds {
        remember(&mut next, instance, edit);
    }
    for delete in &edit.delete {
        if document.deletes.contains(delete) {
            continue;
        }
        let given = document.deletes.iter().map(|delete| delete.number).max();
        let given = given.unwrap_or(0).max(next.deletes_given);
        if delete.number <= given {
            return Err(Error::invalid(format!(
                "a delete cannot have the number {}: {given} was given already",
                delete.number
            )));
        }
        next.deletes_given = delete.number;
        next.deletes.push(delete.clone());
    }
    next.deletes
        .retain(|delete| !edit.forget_deletes.contains(&delete.number));
    if let Some(position) = edit.wal_position {
        next.wal_position = next.wal_position.max(position);
    }
    Ok((next != *document).then_some(next))
}

/// Keeps which blocks the directory shipped with this batch.
fn remember(document: &mut Document, instance: &str, edit: &ShipEdit) {
    let ids: Vec<BlockId> = edit.add.iter().map(|block| block.id).collect();
    let shipped = &mut document.shipped;
    let last = shipped.entry(instance.to_owned()).or_default();
    // Some of the last batch once more: the directory does not know what became of that.
    if last.iter().any(|id| ids.contains(id)) {
        last.extend(
            ids.iter()
                .filter(|id| !last.contains(id))
                .copied()
                .collect::<Vec<_>>(),
        );
    } else {
        *last = ids;
    }
    while shipped.len() > DIRECTORIES_MAX {
        // Ids rise with time.
        let others = shipped.iter().filter(|(name, _)| *name != instance);
        let oldest = others
            .min_by_key(|(_, ids)| ids.iter().max())
            .map(|(name, _)| name.clone());
        match oldest {
            Some(oldest) => shipped.remove(&oldest),
            None => return,
        };
    }
}

/// Whether two documents say the same, whatever their versions are.
pub(super) fn is_same(a: &Document, b: &Document) -> bool {
    let Document {
        version: _,
        wal_position,
        blocks,
        deletes,
        deletes_given,
        shipped,
    } = a;
    (wal_position, blocks, deletes, deletes_given, shipped)
        == (
            &b.wal_position,
            &b.blocks,
            &b.deletes,
            &b.deletes_given,
            &b.shipped,
        )
}

#[cfg(test)]
mod tests;
