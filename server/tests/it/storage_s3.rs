//! Servers over a bucket that speaks the S3 protocol, as processes of their own: lost disks, who writes,
//! who only reads, deletes, merges and retention of what is shipped, copies.

#![expect(
    clippy::disallowed_methods,
    reason = "a disk that is lost is a directory that is"
)]

use std::process::Command;

use crate::client::request;
use crate::process::{Launch, Process};
use crate::query::path;
use crate::s3::{S3, flush};
use crate::storage::{SIGNALS, all, rows, rows_of, until, write_row, write_row_at};
use crate::wire::now_ms;

#[test]
fn a_server_whose_disk_is_lost_answers_all_that_was_shipped_and_writes_on() {
    let Some(s3) = S3::start("lost-disk") else {
        return;
    };
    let first = s3.launch("host-a", &[]).start().until_ready();
    write_row(first.address, 1);
    write_row(first.address, 2);
    flush(&first);
    write_row(first.address, 3);
    assert_eq!(rows(first.address), all(&[1, 2, 3]));
    let launch = first.kill();
    std::fs::remove_dir_all(&launch.data_dir).unwrap();
    // It is told apart from the one before, whose lease lasts.
    let named = |name: &str| {
        let flags = s3.launch(name, &[]).flags;
        Launch {
            flags,
            ..launch.clone()
        }
    };
    let second = named("host-b").start();
    let ready = second.get("/ready").send();
    let told = format!(
        "not ready: {} is written to by host-a; takes over when its lease has run out\n",
        s3.url()
    );
    assert_eq!((ready.status, ready.text()), (503, &*told));
    let refused = second.post("/flush").send();
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("is written to by host-a"));
    assert_eq!(rows(second.address), all(&[1, 2]), "what was shipped");
    s3.end_lease();
    let second = second.until_ready();
    until("it says how far the history goes", || {
        let ready = second.get("/ready").send();
        let told = |signal: &&str| {
            let line = format!("storage: the {signal} of tenant anonymous were taken over from ");
            ready.text().contains(&line)
        };
        SIGNALS.iter().all(told)
    });
    write_row(second.address, 4);
    flush(&second);
    assert_eq!(rows(second.address), all(&[1, 2, 4]));
    // A third one waits until the second has stopped.
    let third = s3.launch("host-c", &[]).start();
    let ready = third.get("/ready").send();
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.text().contains("is written to by host-b;"));
    assert_eq!(second.terminate(), Some(0));
    let third = third.until_ready();
    write_row(third.address, 5);
    assert_eq!(rows(third.address), all(&[1, 2, 4, 5]));
    assert_eq!(third.terminate(), Some(0));
}

fn delete_lines(process: &Process, line: &str) {
    let now = now_ms() / 1000;
    let query = format!(r#"{{app="x"}} |= "{line}""#);
    let delete = [
        ("query", &*query),
        ("start", &(now - 60 * 3_600).to_string()),
        ("end", &now.to_string()),
    ];
    let answer = process.post(&path("/loki/api/v1/delete", &delete)).send();
    assert_eq!(answer.status, 204, "{answer:?}");
}

fn delete_series(process: &Process, selector: &str) {
    let url = path("/api/v1/admin/tsdb/delete_series", &[("match[]", selector)]);
    let answer = process.post(&url).send();
    assert_eq!(answer.status, 204, "{answer:?}");
}

#[test]
fn who_only_reads_sees_what_is_shipped_deleted_merged_and_expired() {
    let Some(s3) = S3::start("follows") else {
        return;
    };
    let hours = |hours: i64| now_ms() - hours * 3_600_000;
    let writer = s3.launch("writer", &[]).start().until_ready();
    write_row_at(writer.address, 1, hours(50));
    flush(&writer);
    let reader = s3.reader("reader");
    assert_eq!(rows_of(reader.address, 60), all(&[1]));
    let refused = reader.post("/loki/api/v1/push");
    let refused = refused
        .body(
            "application/json",
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","x"]]}]}"#,
        )
        .send();
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.text().contains("is read-only"), "{refused:?}");
    assert_eq!(reader.post("/flush").send().status, 403);
    // Every flush makes a block, and blocks become fewer, larger ones.
    for row in 2..=10 {
        write_row_at(writer.address, row, hours(3));
        flush(&writer);
    }
    for signal in SIGNALS {
        until(&format!("blocks of {signal} are merged"), || {
            s3.blocks(signal) < 10
        });
    }
    let written: Vec<u64> = (1..=10).collect();
    assert_eq!(rows_of(writer.address, 60), all(&written));
    until("the reader follows", || {
        rows_of(reader.address, 60) == all(&written)
    });
    // What is deleted is gone at once here, and soon there.
    delete_lines(&writer, "row 5");
    delete_series(&writer, r#"x{row="6"}"#);
    let without = |gone: u64| -> Vec<u64> {
        let left = written.iter().copied();
        left.filter(|row| *row != gone).collect()
    };
    let expected = [without(6), without(5), written.clone()];
    assert_eq!(rows_of(writer.address, 60), expected);
    until("the reader follows the deletes", || {
        rows_of(reader.address, 60) == expected
    });
    assert_eq!(reader.get("/ready").send().text(), "ready\n");
    // A retention takes what is shipped from the bucket, without a word to who reads.
    let mut launch = writer.kill();
    launch.flags.push("--retention=30h".to_owned());
    let writer = launch.start().until_ready();
    let expected = expected.map(|rows| rows.into_iter().filter(|row| *row > 1).collect::<Vec<_>>());
    until("the writer has let go of what is too old", || {
        rows_of(writer.address, 60) == expected
    });
    until("the reader follows the retention", || {
        rows_of(reader.address, 60) == expected
    });
    assert_eq!(reader.terminate(), Some(0));
    assert_eq!(writer.terminate(), Some(0));
    // An empty directory sees the same.
    let reader = s3.reader("another");
    assert_eq!(rows_of(reader.address, 60), expected);
}

#[test]
fn a_bucket_is_backed_up_to_a_directory_and_restored_from_it() {
    let Some(s3) = S3::start("backup") else {
        return;
    };
    let writer = s3.launch("writer", &[]).start().until_ready();
    write_row(writer.address, 1);
    write_row(writer.address, 2);
    flush(&writer);
    write_row(writer.address, 3);
    flush(&writer);
    let copy = format!("file://{}", s3.dir("copy").display());
    let run = |verb: &str, from: &str, to: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
        command.args([verb, "--from", from, "--to", to]);
        command.envs(S3::environment(s3.address()));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}{error}");
        said
    };
    // Its server goes on meanwhile.
    let said = run("backup", &s3.url(), &copy);
    assert!(said.contains(" 3 stores are copied "), "{said}");
    write_row(writer.address, 4);
    assert_eq!(writer.terminate(), Some(0));
    // To a directory that needs no bucket ...
    let dir = s3.dir("restored");
    run("restore", &copy, &dir.display().to_string());
    let restored = Process::start_with(&dir, &["--self-observe=false"]);
    assert_eq!(rows(restored.address), all(&[1, 2, 3]));
    write_row(restored.address, 5);
    assert_eq!(rows(restored.address), all(&[1, 2, 3, 5]));
    assert_eq!(restored.terminate(), Some(0));
    // ... and to another prefix of the bucket.
    let other = S3::start("backup-restored").unwrap();
    run("restore", &copy, &other.url());
    let server = other.launch("host-b", &[]).start().until_ready();
    assert_eq!(rows(server.address), all(&[1, 2, 3]));
    write_row(server.address, 6);
    flush(&server);
    assert_eq!(server.terminate(), Some(0));
    let reader = other.reader("reader");
    assert_eq!(rows(reader.address), all(&[1, 2, 3, 6]));
    let id = "/api/traces/07070707070707070000000000000002";
    assert_eq!(request(reader.address, "GET", id).send().status, 200);
}
