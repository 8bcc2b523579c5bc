use super::*;

fn schema() -> Schema {
    Schema {
        counters: &["calls_total"],
        histograms: &["latency"],
        bounds: vec![0.5, 1.0],
        form: HistogramForm::Classic,
        native_schema: 3,
        native_buckets_max: 100,
        facts: false,
    }
}

fn labels(service: &str) -> Option<Labels> {
    Labels::from_pairs([("service", service)]).ok()
}

fn seen(seconds: f64) -> Observation {
    Observation {
        seconds,
        weight: 1.0,
        trace_id: [7; 16],
        time_ms: 5,
    }
}

/// What a round tells, as lines.
fn tell(table: &mut Table, room: &mut Room, idle_before_ms: i64) -> Vec<String> {
    let mut lines = Vec::new();
    let round = Round {
        idle_before_ms,
        trace_label: "trace_id",
    };
    table.tell(round, room, &mut |told| {
        let value = match &told.value {
            Value::Float(value) if value.to_bits() == STALE => "stale".to_owned(),
            Value::Float(value) => value.to_string(),
            Value::Histogram(histogram) if histogram.is_stale() => "stale".to_owned(),
            Value::Histogram(histogram) => format!("histogram of {}", histogram.count()),
            _ => String::new(),
        };
        let zero = if told.zero.is_some() { " from 0" } else { "" };
        let exemplar = told.exemplar.as_ref().map(|exemplar| {
            let Exemplar {
                timestamp,
                value,
                labels,
            } = exemplar;
            format!(" # {labels} {value} {timestamp}")
        });
        let (place, exemplar) = (told.place, exemplar.unwrap_or_default());
        lines.push(format!(
            "{place}: {} {value}{zero}{exemplar}",
            told.all_labels()
        ));
    });
    lines
}

#[test]
fn a_row_is_told_with_a_zero_first_and_a_marker_last() {
    let (mut table, mut room) = (Table::new(schema()), Room::default());
    let row = table.row(b"a", &mut room, || labels("a")).unwrap();
    assert_eq!(table.row(b"a", &mut room, || None), Some(row));
    table.touch(row, 100);
    table.add(row, 0, 2.0);
    for seconds in [0.5, 0.75, 2.0] {
        table.observe(row, 0, seen(seconds));
    }
    let id = "07".repeat(16);
    let told = tell(&mut table, &mut room, 0);
    assert_eq!(
        told,
        [
            r#"0: {__name__="calls_total", service="a"} 2 from 0"#.to_owned(),
            r#"1: {__name__="latency_sum", service="a"} 3.25 from 0"#.to_owned(),
            r#"2: {__name__="latency_count", service="a"} 3 from 0"#.to_owned(),
            format!(
                r#"3: {{__name__="latency_bucket", le="0.5", service="a"}} 1 from 0 # {{trace_id="{id}"}} 0.5 5"#
            ),
            format!(
                r#"4: {{__name__="latency_bucket", le="1", service="a"}} 2 from 0 # {{trace_id="{id}"}} 0.75 5"#
            ),
            format!(
                r#"5: {{__name__="latency_bucket", le="+Inf", service="a"}} 3 from 0 # {{trace_id="{id}"}} 2 5"#
            ),
        ]
    );
    let again = tell(&mut table, &mut room, 100);
    assert_eq!(again.len(), 6);
    assert!(
        again
            .iter()
            .all(|line| !line.contains("from 0") && !line.contains('#'))
    );
    assert_eq!((room.taken, room.added, room.removed), (6, 6, 0));

    let ended = tell(&mut table, &mut room, 101);
    assert_eq!(
        ended.iter().filter(|line| line.contains("stale")).count(),
        6
    );
    assert_eq!((room.taken, room.added, room.removed), (0, 6, 6));
    assert_eq!(table.len(), 0);
    assert!(tell(&mut table, &mut room, 101).is_empty());

    // The next row takes its place, and begins at zero.
    let row = table.row(b"b", &mut room, || labels("b")).unwrap();
    table.touch(row, 200);
    table.add(row, 0, 1.0);
    assert_eq!(
        tell(&mut table, &mut room, 0),
        [r#"0: {__name__="calls_total", service="b"} 1 from 0"#]
    );
    table.observe(row, 0, seen(0.1));
    let later = tell(&mut table, &mut room, 0);
    assert!(
        later[0].ends_with(" 1") && later[1].ends_with("from 0"),
        "{later:?}"
    );
}

#[test]
fn there_is_room_for_so_many_series() {
    let (mut table, mut room) = (Table::new(schema()), Room::default());
    // Of one counter and a histogram of two bounds.
    room.max = 2 * 6;
    assert!(table.row(b"a", &mut room, || labels("a")).is_some());
    assert!(table.row(b"b", &mut room, || labels("b")).is_some());
    assert!(table.row(b"c", &mut room, || labels("c")).is_none());
    assert!(table.row(b"a", &mut room, || None).is_some());
    assert_eq!((room.taken, room.refused, table.len()), (12, 1, 2));
    // Rows that nothing was counted in are idle.
    tell(&mut table, &mut room, 0);
    assert_eq!((room.taken, table.len()), (0, 0));
    assert!(table.row(b"c", &mut room, || labels("c")).is_some());
    room.max = 0;
    for n in 0..100u8 {
        assert!(table.row(&[n], &mut room, || labels("x")).is_some());
    }
}

#[test]
fn histograms_are_classic_or_native_or_both() {
    for (form, series) in [
        (HistogramForm::Classic, 1 + 5),
        (HistogramForm::Native, 1 + 1),
        (HistogramForm::Both, 1 + 5 + 1),
    ] {
        let (mut table, mut room) = (Table::new(Schema { form, ..schema() }), Room::default());
        let row = table.row(b"a", &mut room, || labels("a")).unwrap();
        table.touch(row, 100);
        table.add(row, 0, 1.0);
        table.observe(row, 0, seen(0.3));
        table.observe(row, 0, seen(3.0));
        let told = tell(&mut table, &mut room, 0);
        assert_eq!((told.len(), room.taken), (series, series), "{told:?}");
        if form != HistogramForm::Classic {
            let last = told.last().unwrap();
            assert!(
                last.contains(r#"{__name__="latency", service="a"} histogram of 2 from 0 #"#),
                "{last}"
            );
            assert!(last.ends_with("3 5"), "{last}");
        }
        let ended = tell(&mut table, &mut room, 101);
        assert_eq!(
            ended.iter().filter(|line| line.contains("stale")).count(),
            series
        );
    }
}

#[test]
fn a_fact_is_told_as_it_is() {
    let facts = Schema {
        counters: &["target_info"],
        histograms: &[],
        facts: true,
        ..schema()
    };
    let (mut table, mut room) = (Table::new(facts), Room::default());
    let row = table.row(b"a", &mut room, || labels("a")).unwrap();
    table.touch(row, 1);
    table.state(row);
    assert_eq!(
        tell(&mut table, &mut room, 0),
        [r#"0: {__name__="target_info", service="a"} 1"#]
    );
}
