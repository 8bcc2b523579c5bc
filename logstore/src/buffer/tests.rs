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
        .push(Labels::from_pairs([("k", "v")]).unwrap());
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
                (columns.timestamps[row], line, columns.set(row).to_string())
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
    assert!(taken > 2_000 && taken <= batch_bytes(&batch), "{taken}");
    drop(buffer);
    assert_eq!(budget.used(), 0);
}
