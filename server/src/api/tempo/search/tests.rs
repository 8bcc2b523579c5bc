//! Pieces of a range, and traces that lie in several stores.

use std::collections::BTreeMap;

use super::*;

#[test]
fn pieces_cover_the_range_from_its_end() {
    for (start, end) in [
        (0, 16),
        (0, 15),
        (-7, 1_000_003),
        (5, 6),
        (5, 5),
        (0, i64::MAX),
    ] {
        let range = TimeRange::new(start, end);
        let pieces = pieces(range);
        assert!(pieces.len() == 1 || pieces.len() == PIECES as usize);
        assert_eq!(pieces.first().unwrap().end, end);
        assert_eq!(pieces.last().unwrap().start, start);
        for two in pieces.windows(2) {
            assert_eq!(two[0].start, two[1].end);
            assert!(two[1].start < two[1].end, "{pieces:?}");
        }
    }
    let all = TimeRange::new(i64::MIN, i64::MAX);
    assert_eq!(pieces(all), [all]);
}

fn trace(id: u8, start_ns: i64, root: Option<&str>, sets: Vec<traceql::SpanSet>) -> TraceSummary {
    TraceSummary {
        id: [id; 16],
        root_service: root.map(Into::into),
        root_name: root.map(Into::into),
        start_ns,
        duration_ns: 10,
        span_sets: sets,
        services: BTreeMap::from([(
            "s".into(),
            traceql::ServiceStats {
                spans: 3,
                errors: id.into(),
            },
        )]),
    }
}

fn set(by: &str, starts: &[i64]) -> traceql::SpanSet {
    let span = |start: &i64| traceql::SpanResult {
        id: [1; 8],
        name: "s".into(),
        start_ns: *start,
        duration_ns: 1,
        attributes: Vec::new(),
    };
    traceql::SpanSet {
        spans: starts.iter().map(span).collect(),
        matched: 5,
        attributes: vec![
            ("by(x)".to_owned(), Value::Str(by.into())),
            ("count()".to_owned(), Value::Int(5)),
        ],
    }
}

#[test]
fn a_trace_of_two_stores_is_one() {
    let all = joined(
        vec![
            trace(1, 20, None, vec![set("a", &[21, 24])]),
            trace(2, 50, None, Vec::new()),
            trace(3, 5, None, Vec::new()),
            trace(1, 15, Some("r"), vec![set("b", &[15]), set("a", &[16])]),
            trace(0, 5, None, Vec::new()),
        ],
        2,
    );
    let ids: Vec<u8> = all.iter().map(|trace| trace.id[0]).collect();
    assert_eq!(ids, [2, 1, 0, 3]);
    let one = &all[1];
    assert_eq!((one.start_ns, one.duration_ns), (15, 15));
    assert_eq!(one.root_name.as_deref(), Some("r"));
    let told: Vec<(usize, Vec<i64>)> = one
        .span_sets
        .iter()
        .map(|set| (set.matched, set.spans.iter().map(|s| s.start_ns).collect()))
        .collect();
    assert_eq!(told, [(10, vec![16, 21]), (5, vec![15])]);
    let stats = one.services["s"];
    assert_eq!((stats.spans, stats.errors), (6, 2));
}
