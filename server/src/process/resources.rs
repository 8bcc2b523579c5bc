//! What the processors of spans know of resources, so that the attributes of one are looked at once
//! and not for every request. `generator` asks.

use hashbrown::HashTable;
use trine_tracestore::{ResourceView, ValueView};
use xxhash_rust::xxh3::xxh3_64;

use super::{service_graphs, span_metrics};

/// Resources that are known at a time; one more and all are looked at again.
const RESOURCES_MAX: usize = 4096;

/// What each processor that is on knows of a resource.
pub(super) type Known = (
    Option<span_metrics::OfResource>,
    Option<service_graphs::OfResource>,
);

/// Resources by the bytes of their messages.
#[derive(Debug, Default)]
pub(super) struct Resources {
    index: HashTable<usize>,
    known: Vec<(Box<[u8]>, Known)>,
}

impl Resources {
    /// The place of a resource; a new one is looked at by `look`. Places hold until the next call.
    pub(super) fn place(
        &mut self,
        resource: &ResourceView<'_>,
        look: impl FnOnce(&[(&[u8], ValueView<'_>)]) -> Known,
    ) -> usize {
        let hash = xxh3_64(resource.bytes);
        let bytes_of = |known: &[(Box<[u8]>, Known)], at: usize| -> u64 {
            known.get(at).map_or(0, |(bytes, _)| xxh3_64(bytes))
        };
        let same = |&at: &usize| {
            let known = self.known.get(at);
            known.is_some_and(|(bytes, _)| **bytes == *resource.bytes)
        };
        if let Some(&at) = self.index.find(hash, same) {
            return at;
        }
        if self.known.len() >= RESOURCES_MAX {
            self.known.clear();
            self.index.clear();
        }
        let at = self.known.len();
        self.known
            .push((resource.bytes.into(), look(&resource.attributes())));
        let known = &self.known;
        self.index
            .insert_unique(hash, at, |&at| bytes_of(known, at));
        at
    }

    /// What is known of the resource at a place.
    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<&Known> {
        self.known.get(place).map(|(_, known)| known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_looked_at_once_and_their_number_is_bounded() {
        let mut resources = Resources::default();
        let mut looks = 0;
        let mut place = |resources: &mut Resources, name: usize| {
            // Resource { attributes { key: name } }
            let name = name.to_string();
            let mut bytes = vec![0x0a, name.len() as u8 + 2, 0x0a, name.len() as u8];
            bytes.extend_from_slice(name.as_bytes());
            let before = looks;
            let place = resources.place(&ResourceView { bytes: &bytes }, |attributes| {
                assert_eq!(attributes, [(name.as_bytes(), ValueView::Other)]);
                looks += 1;
                (None, None)
            });
            (place, looks > before)
        };
        for name in 0..RESOURCES_MAX {
            assert_eq!(place(&mut resources, name), (name, true));
            assert_eq!(place(&mut resources, name), (name, false));
        }
        assert_eq!(place(&mut resources, 0), (0, false));
        assert_eq!(place(&mut resources, RESOURCES_MAX), (0, true));
        assert_eq!(resources.known.len(), 1);
        assert!(resources.get(0).is_some() && resources.get(1).is_none());
    }
}
