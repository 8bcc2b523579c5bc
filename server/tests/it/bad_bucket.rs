//! Servers over a bucket that throttles, cuts bodies, loses answers, hangs, or holds what it should not:
//! nothing that was acknowledged is lost, what is wrong is said, and it is over when it is over.

use std::collections::HashMap;
use std::time::Duration;

use trine_storage::sim::Rng;

use crate::client::request;
use crate::process::Process;
use crate::proxy::{Fate, Proxy};
use crate::query::path;
use crate::s3::{S3, flush, try_flush};
use crate::storage::{SIGNALS, all, rows, until, write_row};

/// Three of ten requests fail in some way, each at most twice in a row: whoever tries three times gets
/// through.
fn bad(seed: u64) -> impl FnMut(&str) -> Fate {
    let mut rng = Rng::new(seed);
    let mut failed: HashMap<String, u32> = HashMap::new();
    move |line| {
        let times = failed.entry(line.to_owned()).or_default();
        let fate = match rng.below(10) {
            _ if *times == 2 => Fate::Well,
            0 => Fate::Throttled,
            1 => Fate::Truncated,
            2 => Fate::LostAnswer,
            _ => Fate::Well,
        };
        *times = if fate == Fate::Well { 0 } else { *times + 1 };
        fate
    }
}

fn until_ready_without_trouble(process: &Process) {
    until("it is over without hands", || {
        process.get("/ready").send().text() == "ready\n"
    });
}

#[test]
fn a_bucket_that_fails_all_the_time_costs_time_and_nothing_else() {
    let Some(s3) = S3::start("fails") else {
        return;
    };
    let proxy = Proxy::start(s3.address());
    proxy.set_latency(Duration::from_millis(20));
    let launch = s3.launch_over(proxy.address(), "writer", &[]);
    let mut writer = launch.start().until_ready();
    let mut written = Vec::new();
    for row in 1..=4 {
        proxy.judge(bad(row));
        write_row(writer.address, row);
        flush(&writer);
        write_row(writer.address, 10 + row);
        written.extend([row, 10 + row]);
        if row == 2 {
            writer = writer.kill_and_restart();
        }
        let mut now = written.clone();
        now.sort_unstable();
        assert_eq!(rows(writer.address), all(&now));
    }
    written.sort_unstable();
    // It refuses everything for a while.
    proxy.all(Fate::Throttled);
    write_row(writer.address, 20);
    written.push(20);
    let refused = try_flush(&writer);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(
        refused.text().contains("the store throttles"),
        "{refused:?}"
    );
    write_row(writer.address, 21);
    written.push(21);
    assert_eq!(rows(writer.address), all(&written));
    until("probes are told why", || {
        let ready = writer.get("/ready").send();
        assert_eq!(ready.status, 200, "{ready:?}");
        let text = ready.text();
        text.contains(" fails since ") && text.contains("the store throttles")
    });
    until("the log says why", || {
        let log = writer.log();
        log.contains(" fails since ") && log.contains("the store throttles")
    });
    proxy.judge(bad(5));
    until_ready_without_trouble(&writer);
    until("the log says that it is over", || {
        writer.log().contains("storage: it is over: ")
    });
    flush(&writer);
    assert_eq!(writer.terminate(), Some(0));
    // Who has nothing of it on its disk reads all of it, from the same bucket.
    let launch = s3.launch_over(proxy.address(), "reader", &["--read-only"]);
    let reader = launch.start().until_ready();
    assert_eq!(rows(reader.address), all(&written));
    let id = "/api/traces/0707070707070707000000000000000e";
    assert_eq!(reader.get(id).send().status, 200);
}

#[test]
fn a_server_whose_bucket_hangs_takes_writes_and_stops() {
    let Some(s3) = S3::start("hangs") else {
        return;
    };
    let proxy = Proxy::start(s3.address());
    let writer = s3.launch_over(proxy.address(), "writer", &[]);
    let writer = writer.start().until_ready();
    write_row(writer.address, 1);
    flush(&writer);
    proxy.all(Fate::Hanging);
    write_row(writer.address, 2);
    assert_eq!(rows(writer.address), all(&[1, 2]));
    let address = writer.address;
    let launch = std::thread::scope(|scope| {
        // Somebody waits for the bucket, or is about to.
        let waits = scope.spawn(move || request(address, "POST", "/flush").try_send());
        write_row(address, 3);
        let launch = writer.launch();
        assert_eq!(writer.terminate(), Some(0));
        let answer = waits.join().unwrap();
        assert!(answer.is_none_or(|answer| answer.status != 204));
        launch
    });
    let log = std::fs::read_to_string(launch.log.as_ref().unwrap()).unwrap();
    assert!(log.contains("the bucket was not given back"), "{log}");
    // The same directory, when the bucket answers again.
    proxy.all(Fate::Well);
    let writer = launch.start().until_ready();
    assert_eq!(rows(writer.address), all(&[1, 2, 3]));
    flush(&writer);
    assert_eq!(writer.terminate(), Some(0));
    let reader = s3.reader("reader");
    assert_eq!(rows(reader.address), all(&[1, 2, 3]));
}

#[test]
fn what_others_put_under_the_prefix_is_left_alone() {
    let Some(s3) = S3::start("foreign") else {
        return;
    };
    let foreign = [
        "readme.txt",
        "lease/notes",
        "stores/notes",
        "stores/no,such,tenant/logs",
        "stores/a/b/c",
        "tenants/anonymous/notes.txt",
        "tenants/anonymous/logs/notes.txt",
        "tenants/anonymous/logs/blocks/notes.txt",
        "tenants/anonymous/logs/blocks/01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp",
        "tenants/anonymous/traces/catalog/notes",
        "tenants/anonymous/metrics/catalog/7",
        "tenants/else/metrics/catalog/x",
    ];
    for key in foreign {
        s3.put(key, b"not ours");
    }
    let writer = s3.launch("writer", &[]).start().until_ready();
    write_row(writer.address, 1);
    flush(&writer);
    let writer = writer.kill_and_restart();
    write_row(writer.address, 2);
    flush(&writer);
    assert_eq!(writer.get("/ready").send().text(), "ready\n");
    assert_eq!(writer.terminate(), Some(0));
    let reader = s3.reader("reader");
    assert_eq!(rows(reader.address), all(&[1, 2]));
    for key in foreign {
        assert_eq!(s3.get(key), b"not ours", "{key}");
    }
}

#[test]
fn a_catalog_of_a_newer_version_is_told_and_left_alone() {
    let Some(s3) = S3::start("newer") else {
        return;
    };
    let writer = s3.launch("writer", &[]).start().until_ready();
    write_row(writer.address, 1);
    flush(&writer);
    let (number, _) = s3.catalog("logs");
    let key = format!("tenants/anonymous/logs/catalog/{:020}", number + 1);
    let newer = b"trine-catalog 2 crc32=00000000\n{}";
    s3.put(&key, newer);
    write_row(writer.address, 2);
    let refused = try_flush(&writer);
    let name = format!("{key} in ").replace("tenants/anonymous/logs/", "");
    let words = "has format 2, this program reads 1; use the version of trine that wrote it";
    let is_told = |text: &str| text.contains(&name) && text.contains(words);
    assert!(is_told(refused.text()), "{refused:?}");
    until("probes are told", || {
        is_told(writer.get("/ready").send().text())
    });
    assert_eq!(rows(writer.address), all(&[1, 2]), "nothing is lost");
    // What is not concerned is shipped.
    let reader = s3.reader("reader");
    let url = path(
        "/api/v1/query",
        &[("query", "count(last_over_time(x[1h]))")],
    );
    until("the metrics are shipped", || {
        reader.get(&url).send().json()["data"]["result"][0]["value"][1] == "2"
    });
    let id = "/api/traces/07070707070707070000000000000002";
    until("the traces are shipped", || {
        reader.get(id).send().status == 200
    });
    // Nor can they be opened with it.
    let writer = writer.kill_and_restart();
    let url = path("/loki/api/v1/labels", &[("since", "1h")]);
    let refused = writer.get(&url).send();
    assert!(is_told(refused.text()), "{refused:?}");
    until("probes are told after a start", || {
        is_told(writer.get("/ready").send().text())
    });
    until("the log tells it", || is_told(&writer.log()));
    assert_eq!(s3.get(&key), newer);
    s3.delete(&key);
    until_ready_without_trouble(&writer);
    assert_eq!(rows(writer.address), all(&[1, 2]));
    flush(&writer);
    assert_eq!(writer.terminate(), Some(0));
    until("everything is shipped", || {
        rows(reader.address) == all(&[1, 2])
    });
}

#[test]
fn a_damaged_block_is_named_the_others_answer_and_it_comes_back() {
    let Some(s3) = S3::start("damaged") else {
        return;
    };
    let writer = s3.launch("writer", &[]).start().until_ready();
    for row in 1..=2 {
        write_row(writer.address, row);
        flush(&writer);
    }
    assert_eq!(writer.terminate(), Some(0));
    let mut damaged = Vec::new();
    for signal in SIGNALS {
        let keys = s3.keys(&format!("tenants/anonymous/{signal}/blocks/"));
        let key = keys[0].clone();
        let good = s3.get(&key);
        let mut bytes = good.clone();
        let half = bytes.len() / 2;
        for byte in &mut bytes[16..half] {
            *byte ^= 0x55;
        }
        s3.put(&key, &bytes);
        let id = key.rsplit('/').next().unwrap().trim_end_matches(".block");
        let told = format!("/{signal}: block {id} is damaged at byte ");
        damaged.push((signal, key, good, told));
    }
    let reader = s3.reader("reader");
    let ask = [
        path("/api/v1/query", &[("query", "last_over_time(x[1h])")]),
        path(
            "/loki/api/v1/query_range",
            &[("query", r#"{app="x"}"#), ("since", "1h")],
        ),
        path("/api/search", &[("q", r#"{ name = "x" }"#)]),
    ];
    for (url, (.., told)) in ask.iter().zip(&damaged) {
        let answer = reader.get(url).send();
        assert!(answer.text().contains(told), "{answer:?}");
    }
    // Until it is found out what is damaged, and then the others answer without a word.
    until("the damaged blocks are not served", || {
        let ready = reader.get("/ready").send();
        let is_told = |(signal, _, _, told): &(&str, String, Vec<u8>, String)| {
            let line = format!("storage: a block of anonymous/{signal} is not served: ");
            ready.text().contains(&line) && ready.text().contains(told)
        };
        damaged.iter().all(is_told)
    });
    assert_eq!(rows(reader.address), all(&[2]));
    for (_, _, _, told) in &damaged {
        until("it is logged", || reader.log().contains(told));
    }
    // Put right, they are served by whoever starts then, from the same directory.
    for (_, key, good, _) in &damaged {
        s3.put(key, good);
    }
    let reader = reader.kill_and_restart();
    assert_eq!(rows(reader.address), all(&[1, 2]));
    assert_eq!(reader.get("/ready").send().text(), "ready\n");
}
