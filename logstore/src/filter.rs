//! Line filters over a whole blob of lines at once, not line by line.

use memchr::memmem::Finder;

use crate::columns::Columns;
use crate::request::LineFilter;

/// Filters that are ready to run.
#[derive(Debug)]
pub(crate) struct Filters {
    filters: Vec<(Finder<'static>, Keep)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    WithHit,
    WithoutHit,
}

impl Filters {
    pub(crate) fn new(filters: &[LineFilter]) -> Self {
        let ready = |filter: &LineFilter| match filter {
            LineFilter::Contains(literal) => (Finder::new(literal).into_owned(), Keep::WithHit),
            LineFilter::NotContains(literal) => {
                (Finder::new(literal).into_owned(), Keep::WithoutHit)
            }
        };
        Self {
            filters: filters.iter().map(ready).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Keeps those of `rows` (ascending) whose lines satisfy every filter.
    pub(crate) fn retain(&self, columns: &Columns, rows: &mut Vec<u32>) {
        for (finder, keep) in &self.filters {
            if rows.is_empty() {
                return;
            }
            let mut kept = Vec::with_capacity(rows.len());
            for neighbours in rows.chunk_by(|a, b| a + 1 == *b) {
                search(finder, *keep, columns, neighbours, &mut kept);
            }
            *rows = kept;
        }
    }
}

/// Searches the lines of neighbouring rows as one piece of text.
fn search(finder: &Finder<'_>, keep: Keep, columns: &Columns, rows: &[u32], kept: &mut Vec<u32>) {
    let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else {
        return;
    };
    let mut row = first;
    let mut at = columns.line_range(first as usize).start;
    let end = columns.line_range(last as usize).end;
    while row <= last {
        let found = columns.blob.get(at..end).and_then(|text| finder.find(text));
        let Some(found) = found.map(|found| at + found) else {
            break;
        };
        // A hit at the very end of a line may also be the start of empty lines after it.
        let ends = &columns.ends[row as usize..=last as usize];
        let skipped = ends.partition_point(|&end| (end as usize) < found + finder.needle().len());
        let hit = row + u32::try_from(skipped).unwrap_or(u32::MAX);
        if hit > last {
            break;
        }
        let line = columns.line_range(hit as usize);
        if keep == Keep::WithoutHit {
            kept.extend(row..hit);
        }
        if line.start > found {
            // The hit runs over the start of this line: it is in none. Lines before it have none.
            row = hit;
            at = found + 1;
            continue;
        }
        if keep == Keep::WithHit {
            kept.push(hit);
        }
        row = hit + 1;
        at = line.end;
    }
    if keep == Keep::WithoutHit {
        kept.extend(row..=last);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn check(lines: &[&[u8]], candidates: &[u32], needle: &[u8]) {
        let mut columns = Columns::default();
        for line in lines {
            columns.push(0, 0, line, 0);
        }
        let contains = |row: u32| {
            needle.is_empty()
                || lines[row as usize]
                    .windows(needle.len())
                    .any(|w| w == needle)
        };
        let needle = Bytes::copy_from_slice(needle);
        for (filter, wanted) in [
            (LineFilter::Contains(needle.clone()), true),
            (LineFilter::NotContains(needle), false),
        ] {
            let mut rows = candidates.to_vec();
            Filters::new(std::slice::from_ref(&filter)).retain(&columns, &mut rows);
            let expected: Vec<u32> = candidates
                .iter()
                .copied()
                .filter(|&row| contains(row) == wanted)
                .collect();
            assert_eq!(rows, expected, "{filter} in {lines:?}, of {candidates:?}");
        }
    }

    #[test]
    fn hits_belong_to_lines() {
        check(&[b"error", b"all well", b"an error"], &[0, 1, 2], b"error");
        check(&[b"er", b"ror"], &[0, 1], b"error");
        check(&[b"aa", b"aaa", b"", b"a"], &[0, 1, 2, 3], b"aa");
        check(&[b"", b"", b"x", b""], &[0, 1, 2, 3], b"");
        check(&[b"x", b"x", b"x"], &[0, 2], b"x");
        check(&[b"", b""], &[0, 1], b"x");
        check(&[], &[], b"x");
    }

    proptest! {
        #[test]
        fn blobs_and_lines_agree(
            lines in prop::collection::vec("[ab]{0,6}", 0..12),
            needle in "[ab]{0,3}",
            mask: u16,
        ) {
            let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
            let rows: Vec<u32> =
                (0..lines.len() as u32).filter(|row| mask >> row & 1 == 1).collect();
            check(&lines, &rows, needle.as_bytes());
        }
    }
}
