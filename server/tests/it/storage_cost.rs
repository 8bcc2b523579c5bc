//! What queries cost of a bucket, and what is done so that they cost less.

use crate::client::Response;
use crate::harness::Running;
use crate::query::path;
use crate::storage::{SIGNALS, all, objects, reader, rows, ship, start, until, write_row};

/// What the header of an answer says that a query cost: requests, bytes, depth, hits.
fn cost(answer: &Response) -> [u64; 4] {
    let told = answer.header("x-trine-storage").unwrap();
    let mut words = told.split(' ');
    let cost = ["requests", "bytes", "depth", "hits"].map(|name| {
        let word = words.next().unwrap();
        let number = word.strip_prefix(name).and_then(|w| w.strip_prefix('='));
        number.unwrap().parse().unwrap()
    });
    assert_eq!(words.next(), None, "{told}");
    cost
}

/// Waits until the stores of the bucket are open, which nobody asked for.
fn until_open(running: &Running) {
    until("all stores are open", || {
        let told = running.get("/metrics").send().text().to_owned();
        let is_open = |signal: &str| {
            let labels = format!("signal=\"{signal}\"");
            let mut lines = told.lines();
            lines.any(|line| {
                line.starts_with("trine_storage_catalog_version{")
                    && line.contains("tenant=\"anonymous\"")
                    && line.contains(&labels)
                    && !line.ends_with(" 0")
            })
        };
        SIGNALS.into_iter().all(is_open)
    });
}

/// The bars of a cold start: nothing is on the disk, and each query is the first of its server.
#[test]
fn a_first_query_waits_for_few_answers_of_the_bucket() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, a) = (root.path().join("bucket"), root.path().join("a"));
    let writer = start(&bucket, &a, "host-a");
    for row in 1..6 {
        write_row(writer.address, row);
        ship(&writer);
    }
    writer.stop();
    let logs = [("query", r#"count_over_time({app="x"}[1h])"#)];
    for (number, (query, depth_max)) in [
        ("/api/traces/07070707070707070000000000000002".into(), 4),
        (path("/api/v1/query", &[("query", "rate(x[1h])")]), 6),
        (path("/loki/api/v1/query", &logs), 4),
        (path("/api/search", &[("q", "{name=\"x\"}")]), 6),
    ]
    .into_iter()
    .enumerate()
    {
        let reader = reader(&bucket, &root.path().join(format!("reader{number}")));
        until_open(&reader);
        let answer = reader.get(&query).send();
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        let [requests, _, depth, hits] = cost(&answer);
        assert!(requests > 0 && hits == 0, "{query}: {answer:?}");
        assert!((1..=depth_max).contains(&depth), "{query}: {answer:?}");
        reader.stop();
    }
}

#[test]
fn a_query_says_what_it_cost_of_the_bucket() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, a) = (root.path().join("bucket"), root.path().join("a"));
    let writer = start(&bucket, &a, "host-a");
    for row in 1..4 {
        write_row(writer.address, row);
        ship(&writer);
    }
    let ready = writer.get("/ready").send();
    assert_eq!(ready.header("x-trine-storage"), None, "it is no query");
    writer.stop();
    // Nothing is on its disk.
    let reader = reader(&bucket, &root.path().join("b"));
    until_open(&reader);
    let id = "/api/traces/07070707070707070000000000000002";
    let first = reader.get(id).send();
    assert_eq!(first.status, 200);
    let [requests, bytes, depth, _] = cost(&first);
    assert!(requests > 0 && bytes > 0, "{first:?}");
    // What was asked for ahead may be there before anybody waits for it.
    assert!(depth <= 4, "{first:?}");
    let again = reader.get(id).send();
    assert_eq!(again.status, 200);
    let [requests, bytes, depth, _] = cost(&again);
    assert_eq!([requests, bytes, depth], [0, 0, 0], "{again:?}");
    let query = path("/api/v1/query", &[("query", "last_over_time(x[1h])")]);
    let answer = reader.get(&query).send();
    assert!(cost(&answer)[0] > 0, "{answer:?}");
    let metrics = reader.get("/metrics").send();
    for line in [
        "trine_storage_query_requests_bucket{api=\"tempo\",le=\"0\"} 1\n",
        "trine_storage_query_requests_count{api=\"tempo\"} 2\n",
        "trine_storage_query_bytes_count{api=\"prometheus\"} 1\n",
        "trine_storage_query_memory_hits_count{api=\"tempo\"} 2\n",
        "trine_storage_query_disk_hits_sum{api=\"tempo\"} 0\n",
        "trine_storage_query_misses_bucket{api=\"tempo\",le=\"0\"} 1\n",
    ] {
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
    reader.stop();
    // Without a bucket there is nothing to say.
    let alone = Running::start(&root.path().join("c"), |_| {});
    let answer = alone.get(&query).send();
    assert_eq!(
        (answer.status, answer.header("x-trine-storage")),
        (200, None)
    );
    let metrics = alone.get("/metrics").send();
    assert!(!metrics.text().contains("trine_storage_"), "{metrics:?}");
    alone.stop();
}

#[test]
fn what_is_read_again_and_again_comes_home() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, dir) = (root.path().join("bucket"), root.path().join("b"));
    let writer = start(&bucket, &root.path().join("a"), "host-a");
    write_row(writer.address, 1);
    ship(&writer);
    writer.stop();
    let reader = reader(&bucket, &dir);
    let blocks = || objects(&dir.join("tenants"));
    let is_block = |name: &String| name.ends_with(".block");
    let is_block_of = |name: &&String, signal: &str| is_block(name) && name.contains(signal);
    // One span is kept by who has read it, and is read no more.
    until("blocks come home", || {
        assert_eq!(rows(reader.address), all(&[1]));
        let blocks = blocks();
        let has = |signal| blocks.iter().any(|name| is_block_of(&name, signal));
        ["metrics", "logs"].into_iter().all(has)
    });
    let copies = blocks().iter().filter(|name| is_block(name)).count();
    let metrics = reader.get("/metrics").send();
    let told = |name: &str| {
        let text = metrics.text();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert!(told("trine_storage_copies_fetched_total ") >= copies as f64);
    assert!(told("trine_storage_copies_fetched_bytes_total ") > 0.0);
    // The bucket is asked for nothing of them.
    let answer = reader
        .get("/api/traces/07070707070707070000000000000001")
        .send();
    assert_eq!((answer.status, cost(&answer)), (200, [0, 0, 0, 0]));
    reader.stop();
}
