//! Tests of the buffer.

use trine_storage::shared::MemoryBudget;

use super::*;

fn buffer() -> (Arc<Buffer>, MemoryBudget) {
    let budget = MemoryBudget::new(u64::MAX);
    (Arc::new(Buffer::new(budget.account())), budget)
}

fn batch(rows: &[(i64, &[u8], u32)]) -> Batch {
    let mut batch = Batch::default();
    batch
        .streams
        .push(Labels::from_pairs([("app", "a")]).unwrap());
    batch
        .columns
        .sets
        .push(&Labels::from_pairs([("k", "v")]).unwrap());
    for &(timestamp, line, set) in rows {
        batch.columns.push(0, timestamp, line, set);
    }
    batch
}

fn rows(view: &View) -> Vec<(i64, Vec<u8>, String)> {
    let of_page = |page: &Page| {
        let columns = Arc::clone(&page.columns);
        (0..columns.rows())
            .map(move |row| {
                let line = columns.line(row).to_vec();
                (
                    columns.timestamps[row],
                    line,
                    columns.sets.labels(columns.set_code(row)).to_string(),
                )
            })
            .collect::<Vec<_>>()
    };
    view.pages().iter().flat_map(of_page).collect()
}

#[test]
fn exact_duplicates_are_kept_once() {
    let (buffer, _) = buffer();
    buffer.apply(
        &batch(&[(1, b"x", 0), (1, b"x", 0), (1, b"x", 1), (1, b"y", 0)]),
        0,
    );
    buffer.apply(&batch(&[(2, b"x", 0), (1, b"x", 1)]), 0);
    let row = |t, line: &[u8], set: &str| (t, line.to_vec(), set.to_owned());
    let expected = [
        row(1, b"x", "{}"),
        row(1, b"x", r#"{k="v"}"#),
        row(1, b"y", "{}"),
        row(2, b"x", "{}"),
    ];
    assert_eq!(rows(&buffer.view()), expected);
}

#[test]
fn a_view_holds_the_rows_that_were_there_over_full_and_open_pages() {
    let (buffer, _) = buffer();
    let mut views = Vec::new();
    for step in 0..3 {
        let lines: Vec<String> = (0..PAGE_ROWS - 1)
            .map(|row| format!("{step} {row}"))
            .collect();
        let all: Vec<(i64, &[u8], u32)> = lines
            .iter()
            .enumerate()
            .map(|(i, l)| (i as i64, l.as_bytes(), 0))
            .collect();
        buffer.apply(&batch(&all), 0);
        views.push(buffer.view());
    }
    for (step, view) in views.iter().enumerate() {
        let rows = rows(view);
        assert_eq!(rows.len(), (step + 1) * (PAGE_ROWS - 1));
        assert_eq!(
            rows.last().unwrap().1,
            format!("{step} {}", PAGE_ROWS - 2).into_bytes()
        );
    }
    assert_eq!(views[2].pages().len(), 3);
}

#[test]
fn the_budget_knows_what_a_buffer_takes_until_it_is_dropped() {
    let (buffer, budget) = buffer();
    let line = vec![b'x'; 1_000];
    let batch = batch(&[(1, &line, 0), (2, &line, 1)]);
    buffer.apply(&batch, 0);
    let taken = budget.used();
    assert!(
        taken > 2_000 && taken <= 2 * batch_bytes(&batch),
        "{taken} of {}",
        batch_bytes(&batch)
    );
    drop(buffer);
    assert_eq!(budget.used(), 0);
}

/// Random entries of a few streams against a plain list without duplicates, in batches of any size
/// and over many pages.
mod model {
    use proptest::prelude::*;

    use super::*;

    /// Stream, timestamp, line, metadata.
    type Entry = (u8, i64, u8, u8);

    /// Some lines are so long that few fill a page.
    fn line_len(byte: u8) -> usize {
        usize::from(byte) * if byte > 240 { 256 } else { 1 }
    }

    fn labels(name: &str, number: u8) -> Labels {
        Labels::from_pairs([(name, number.to_string())]).unwrap()
    }

    fn batch(entries: &[Entry]) -> Batch {
        let mut batch = Batch::default();
        let mut codes = SetCodes::default();
        // Streams in another order each time.
        let mut streams: Vec<u8> = entries.iter().map(|entry| entry.0).collect();
        streams.sort_unstable_by_key(|stream| stream.wrapping_mul(entries.len() as u8 | 1));
        streams.dedup();
        batch.streams = streams.iter().map(|&number| labels("s", number)).collect();
        for &(stream, timestamp, line, set) in entries {
            let stream = streams.iter().position(|&held| held == stream).unwrap();
            let set = match set {
                0 => Labels::empty(),
                set => labels("k", set),
            };
            let set = codes.code(&mut batch.columns.sets, set.encoded());
            let line = vec![line; line_len(line)];
            batch.columns.push(stream as u32, timestamp, &line, set);
        }
        batch
    }

    proptest! {
        #[test]
        fn entries_are_kept_once_and_in_order(
            batches in prop::collection::vec(
                (
                    prop::collection::vec((0..4u8, 0..6i64, any::<u8>(), 0..3u8), 0..40),
                    any::<bool>(),
                ),
                1..8,
            ),
        ) {
            let (buffer, _) = buffer();
            let mut expected: Vec<Entry> = Vec::new();
            let mut views = Vec::new();
            for (number, (entries, is_newer)) in (0i64..).zip(batches) {
                let mut entries: Vec<Entry> = entries;
                for (place, entry) in (0i64..).zip(&mut entries) {
                    // Every entry newer than those before, or many at the same time.
                    if is_newer {
                        entry.1 = number * 1_000 + place;
                    }
                }
                buffer.apply(&batch(&entries), 0);
                for entry in entries {
                    if !expected.contains(&entry) {
                        expected.push(entry);
                    }
                }
                views.push((buffer.view(), expected.len()));
            }
            for (view, count) in views {
                let mut found = Vec::new();
                for page in view.pages() {
                    let columns = &page.columns;
                    let streams = view.streams();
                    for row in 0..columns.rows() {
                        let number = |labels: &Labels, name| match labels.get(name) {
                            Some(text) => text.parse::<u8>().unwrap(),
                            None => 0,
                        };
                        let stream = number(&streams[columns.streams[row] as usize], "s");
                        let set = number(&columns.sets.labels(columns.set_code(row)), "k");
                        let (timestamp, line) = (columns.timestamps[row], columns.line(row));
                        let byte = line.first().copied().unwrap_or(0);
                        prop_assert_eq!(line.len(), line_len(byte));
                        prop_assert!(page.range.contains(timestamp));
                        found.push((stream, timestamp, byte, set));
                    }
                }
                prop_assert_eq!(&found[..], &expected[..count]);
            }
        }
    }
}
