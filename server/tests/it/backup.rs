//! `trine backup` and `trine restore`, as processes of their own: between buckets, from and to data
//! directories, killed in the middle. Buckets are directories.

#![expect(
    clippy::disallowed_methods,
    reason = "looks into directories, and changes them as no program should"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::harness::Running;
use crate::process::Process;
use crate::query::path;
use crate::storage::{all, objects, reader, rows, ship, start, until, write_row};
use crate::wire::now_ms;

fn url(bucket: &Path) -> String {
    format!("file://{}", bucket.display())
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
    command.args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the binary; gives its exit code and what it says on stdout and on stderr.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = command(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn copy(verb: &str, from: &str, to: &str) -> String {
    let (code, out, err) = run(&[verb, "--from", from, "--to", to]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.starts_with(&format!("{verb}: ")), "{out}");
    assert!(out.contains(&format!(" from {from} to {to}: ")), "{out}");
    out
}

fn refused(verb: &str, from: &str, to: &str) -> String {
    let (code, out, err) = run(&[verb, "--from", from, "--to", to]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.starts_with("trine: "), "{err}");
    err
}

/// A server that has no bucket.
fn local(dir: &Path) -> Running {
    Running::start(dir, |_| {})
}

fn check(bucket: &Path, cache: &Path, expected: &[u64]) {
    let reader = reader(bucket, cache);
    assert_eq!(rows(reader.address), all(expected));
    reader.stop();
}

/// Makes the beats of a bucket's leases as old as if their holders had died a while ago.
fn age_beats(bucket: &Path) {
    for name in objects(bucket) {
        if name.ends_with(".beat") {
            let file = std::fs::File::options().write(true).open(bucket.join(name));
            let past = SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms() as u64 - 120_000);
            file.unwrap().set_modified(past).unwrap();
        }
    }
}

fn blocks(dir: &Path) -> usize {
    let found = if dir.is_dir() {
        objects(dir)
    } else {
        Vec::new()
    };
    found.iter().filter(|name| name.ends_with(".block")).count()
}

#[test]
fn a_bucket_is_copied_while_its_server_goes_on_and_again_only_what_is_new() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let server = start(&at("bucket"), &at("a"), "host-a");
    write_row(server.address, 1);
    write_row(server.address, 2);
    ship(&server);
    let (from, to) = (url(&at("bucket")), url(&at("copy")));
    let said = copy("backup", &from, &to);
    assert!(said.contains(" 3 stores are copied "), "{said}");
    assert!(said.contains("; 0 blocks were there already"), "{said}");
    check(&at("copy"), &at("reader"), &[1, 2]);
    // Nothing is new.
    let before = objects(&at("copy"));
    let said = copy("backup", &from, &to);
    assert!(said.contains(": 0 blocks with 0 B "), "{said}");
    let stores = |names: &[String]| {
        let names = names.iter().filter(|name| name.starts_with("tenants/"));
        names.cloned().collect::<Vec<_>>()
    };
    assert_eq!(stores(&objects(&at("copy"))), stores(&before));
    write_row(server.address, 3);
    ship(&server);
    let said = copy("backup", &from, &to);
    assert!(!said.contains("; 0 blocks were there already"), "{said}");
    check(&at("copy"), &at("reader"), &[1, 2, 3]);
    // The wrong way round, while its server writes there.
    let error = refused("restore", &to, &from);
    assert!(
        error.contains("host-a wrote to it last; name an empty prefix"),
        "{error}"
    );
    server.stop();
    let error = refused("restore", &to, &from);
    assert!(error.contains("host-a wrote to it last"), "{error}");
    let error = refused("backup", &from, &from);
    assert!(error.contains("is the source itself"), "{error}");
    // What a server has written to is no copy any more, and nothing is written over it.
    start(&at("copy"), &at("b"), "host-b").stop();
    let error = refused("backup", &from, &to);
    assert!(error.contains("host-b wrote to it last"), "{error}");
    // A copy is copied like every other bucket.
    let third = url(&at("third"));
    copy("restore", &to, &third);
    let server = start(&at("third"), &at("c"), "host-c");
    write_row(server.address, 4);
    assert_eq!(rows(server.address), all(&[1, 2, 3, 4]));
    server.stop();
}

#[test]
fn a_bucket_becomes_a_directory_that_needs_none() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let server = start(&at("bucket"), &at("a"), "host-a");
    for row in 1..4 {
        write_row(server.address, row);
        ship(&server);
    }
    // Times of deletes are whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    let now = now_ms() / 1000;
    let delete = path(
        "/loki/api/v1/delete",
        &[
            ("query", r#"{app="x"} |= "row 2""#),
            ("start", &(now - 600).to_string()),
            ("end", &now.to_string()),
        ],
    );
    assert_eq!(server.post(&delete).send().status, 204);
    server.stop();
    let (from, dir) = (url(&at("bucket")), at("new"));
    let to = dir.display().to_string();
    copy("restore", &from, &to);
    // The bucket is not needed any more.
    std::fs::rename(at("bucket"), at("away")).unwrap();
    let server = local(&dir);
    let expected = [vec![1, 2, 3], vec![1, 3], vec![1, 2, 3]];
    assert_eq!(rows(server.address), expected);
    write_row(server.address, 4);
    server.stop();
    let server = local(&dir);
    let expected = [vec![1, 2, 3, 4], vec![1, 3, 4], vec![1, 2, 3, 4]];
    assert_eq!(rows(server.address), expected);
    std::fs::rename(at("away"), at("bucket")).unwrap();
    let error = refused("restore", &from, &to);
    assert!(error.contains("is in use by another process"), "{error}");
    server.stop();
    let error = refused("restore", &from, &to);
    assert!(
        error.contains("has stores already; name a directory"),
        "{error}"
    );
    // What is restored can be shipped to a new bucket.
    let server = start(&at("next"), &dir, "host-a");
    assert_eq!(rows(server.address), expected);
    ship(&server);
    server.stop();
    let reader = reader(&at("next"), &at("reader"));
    assert_eq!(rows(reader.address), expected);
    reader.stop();
}

#[test]
fn a_directory_is_copied_and_stays_what_it_is() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let dir = at("data");
    let (from, to) = (dir.display().to_string(), url(&at("copy")));
    let server = local(&dir);
    write_row(server.address, 1);
    write_row(server.address, 2);
    let error = refused("backup", &from, &to);
    assert!(error.contains("is in use by another process"), "{error}");
    server.stop();
    assert!(!at("copy").is_dir());
    let said = copy("backup", &from, &to);
    assert!(said.contains(" 3 stores are copied "), "{said}");
    check(&at("copy"), &at("reader"), &[1, 2]);
    let server = local(&dir);
    assert_eq!(rows(server.address), all(&[1, 2]));
    write_row(server.address, 3);
    server.stop();
    copy("backup", &from, &to);
    check(&at("copy"), &at("reader"), &[1, 2, 3]);
    assert!(!dir.join("backup.tmp").is_dir());
    // Another directory is another source.
    let other = local(&at("other"));
    write_row(other.address, 7);
    other.stop();
    let error = refused("backup", &at("other").display().to_string(), &to);
    assert!(error.contains("are no copy of what is read"), "{error}");
    // The copy is restored to where nothing is.
    let new = at("new");
    copy("restore", &to, &new.display().to_string());
    let server = local(&new);
    assert_eq!(rows(server.address), all(&[1, 2, 3]));
    server.stop();
    // A directory that ships has its data elsewhere.
    let server = start(&at("bucket"), &at("shipped"), "host-a");
    write_row(server.address, 1);
    ship(&server);
    server.stop();
    let error = refused("backup", &at("shipped").display().to_string(), &to);
    assert!(error.contains("give its --storage as --from"), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name).display().to_string();
    let bucket = format!("file://{}", at("bucket"));
    let error = refused("backup", &at("a"), &at("b"));
    assert!(error.contains("are both directories; "), "{error}");
    let error = refused("backup", &at("missing"), &bucket);
    assert!(error.contains("has no data; name the directory"), "{error}");
    assert!(!root.path().join("missing").is_dir());
    let error = refused("restore", &bucket, &at("new"));
    assert!(error.contains("has no stores; name the place"), "{error}");
    assert!(!root.path().join("new").is_dir());
    for (arguments, expect) in [
        (&["backup"][..], "--from <PLACE>"),
        (
            &["backup", "--from", "a", "--to", ""][..],
            "the option to: the path is empty",
        ),
        (
            &["backup", "--from", "a", "--to", "b", "--at-once", "65"][..],
            "the option at-once: it must be at most 64",
        ),
        (
            &[
                "restore",
                "--from",
                "a",
                "--to",
                "b",
                "--bandwidth-max",
                "x",
            ][..],
            "the option bandwidth-max: ",
        ),
        (
            &["--data-dir", "x", "backup", "--from", "a", "--to", "b"][..],
            "backup",
        ),
    ] {
        let (code, _, err) = run(arguments);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(expect), "{err}");
    }
    let (code, out, _) = run(&["backup", "--help"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("--bandwidth-max <SIZE>"), "{out}");
    assert!(out.contains("simply run again"), "{out}");
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("restore"), "{out}");
}

/// Starts a copy so slow that it can be killed when the place has a first block.
fn kill_in_the_middle(verb: &str, from: &str, to: &str, place: &Path) {
    let mut arguments = vec![verb, "--from", from, "--to", to];
    arguments.extend(["--bandwidth-max", "512", "--at-once", "1"]);
    let mut child: Child = command(&arguments).spawn().unwrap();
    until("a first block is there", || blocks(place) > 0);
    assert_eq!(
        child.try_wait().unwrap(),
        None,
        "it is too fast to be killed"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_copy_that_was_killed_is_run_again() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let server = start(&at("bucket"), &at("a"), "host-a");
    for row in 1..6 {
        write_row(server.address, row);
        ship(&server);
    }
    server.stop();
    let source = objects(&at("bucket"));
    let (from, to) = (url(&at("bucket")), url(&at("copy")));
    kill_in_the_middle("backup", &from, &to, &at("copy"));
    assert!(blocks(&at("copy")) < blocks(&at("bucket")));
    // What is whole already is served, and nothing else.
    let cut = reader(&at("copy"), &at("cut"));
    for found in rows(cut.address) {
        assert!(found.is_empty() || found == [1, 2, 3, 4, 5], "{found:?}");
    }
    cut.stop();
    age_beats(&at("copy"));
    let said = copy("backup", &from, &to);
    assert!(!said.contains("; 0 blocks were there already"), "{said}");
    check(&at("copy"), &at("reader"), &[1, 2, 3, 4, 5]);

    let dir = at("new");
    let to = dir.display().to_string();
    kill_in_the_middle("restore", &from, &to, &dir);
    // A server does not start on a part.
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", &to];
    let (code, _, err) = run(&flags);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("run `trine restore` again to its end"),
        "{err}"
    );
    // Another place is not mixed in.
    let error = refused("restore", &url(&at("copy")), &to);
    assert!(error.contains("holds a part of another copy"), "{error}");
    let said = copy("restore", &from, &to);
    assert!(!said.contains("; 0 blocks were there already"), "{said}");
    let process = Process::start_with(&dir, &["--self-observe=false"]);
    assert_eq!(rows(process.address), all(&[1, 2, 3, 4, 5]));
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(objects(&at("bucket")), source);
}

#[test]
fn a_copy_that_is_told_to_stop_gives_its_place_back() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let server = start(&at("bucket"), &at("a"), "host-a");
    for row in 1..4 {
        write_row(server.address, row);
        ship(&server);
    }
    server.stop();
    let (from, to) = (url(&at("bucket")), url(&at("copy")));
    let mut arguments = vec!["backup", "--from", &from, "--to", &to];
    arguments.extend(["--bandwidth-max", "512", "--at-once", "1"]);
    let child = command(&arguments).spawn().unwrap();
    until("a first block is there", || blocks(&at("copy")) > 0);
    let pid = child.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("run the same `trine backup` again to go on"),
        "{said}"
    );
    // How many stores were done by then is up to the machine.
    assert!(said.contains(" of 3 stores; "), "{said}");
    // At once, as the lease was given back.
    copy("backup", &from, &to);
    check(&at("copy"), &at("reader"), &[1, 2, 3]);
}
