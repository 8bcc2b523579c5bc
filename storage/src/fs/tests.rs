//! One script for both file systems: what the simulation says must be what the real one does.

use super::*;
use crate::sim::SimFs;

fn write(fs: &dyn Fs, path: &Path, parts: &[&[u8]]) {
    let mut file = fs.create(path).unwrap();
    for part in parts {
        file.write_all(part).unwrap();
    }
    file.sync().unwrap();
}

fn names(fs: &dyn Fs, dir: &Path) -> Vec<(String, bool, u64)> {
    fs.list(dir)
        .unwrap()
        .into_iter()
        .map(|e| (e.name, e.is_dir, e.len))
        .collect()
}

fn check(fs: &dyn Fs, root: &Path) {
    let dir = root.join("a/b");
    assert_eq!(fs.list(&dir).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs.create_dir_all(&dir).unwrap();
    fs.create_dir_all(&dir).unwrap();
    let (one, two) = (dir.join("one"), dir.join("two"));
    write(fs, &one, &[b"hello ", b"world"]);
    write(fs, &dir.join("empty"), &[]);
    fs.create_dir_all(&dir.join("sub")).unwrap();
    let expected = [
        ("empty".into(), false, 0),
        ("one".into(), false, 11),
        ("sub".into(), true, 0),
    ];
    assert_eq!(names(fs, &dir), expected);

    let file = fs.open(&one).unwrap();
    assert_eq!((file.len(), file.is_empty()), (11, false));
    assert_eq!(
        file.read(&[0..5, 6..11, 3..3]).unwrap(),
        [&b"hello"[..], b"world", b""]
    );
    let beyond = file.read(&[0..1, 10..12]).unwrap_err();
    assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    assert!(fs.open(&dir.join("empty")).unwrap().is_empty());
    assert_eq!(fs.open(&two).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(read_if_exists(fs, &two).unwrap(), None);

    // A reader keeps what it opened when the name goes to another file.
    write(fs, &two, &[b"newer"]);
    fs.rename(&two, &one).unwrap();
    fs.sync_dir(&dir).unwrap();
    assert_eq!(
        file.read(&[0..5, 5..11]).unwrap(),
        [&b"hello"[..], b" world"]
    );
    assert_eq!(read_if_exists(fs, &one).unwrap().unwrap(), &b"newer"[..]);
    assert_eq!(
        fs.rename(&two, &one).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    drop(file);

    fs.truncate(&one, 3).unwrap();
    assert_eq!(read_if_exists(fs, &one).unwrap().unwrap(), &b"new"[..]);
    fs.remove_file(&one).unwrap();
    assert_eq!(
        fs.remove_file(&one).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );

    let lock = fs.lock(&dir.join("lock")).unwrap();
    assert_eq!(
        fs.lock(&dir.join("lock")).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    drop(lock);
    fs.lock(&dir.join("lock")).unwrap();
}

fn check_claim(fs: &dyn Fs, root: &Path) {
    let dir = root.join("a/b");
    let claimed = claim(fs, &dir).unwrap();
    fs.list(&dir).unwrap();
    let error = claim(fs, &dir).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    let told = format!("{} is in use by another process", dir.display());
    assert!(error.to_string().contains(&told), "{error}");
    let above = claim(fs, dir.parent().unwrap()).unwrap();
    drop(claimed);
    drop(claim(fs, &dir).unwrap());
    drop(above);
}

#[test]
fn the_simulation_does_as_the_script_says() {
    check(&SimFs::new(), Path::new("root"));
    check_claim(&SimFs::new(), Path::new("root"));
}

#[test]
fn the_real_file_system_does_as_the_script_says() {
    let dir = tempfile::tempdir().unwrap();
    check(&RealFs, dir.path());
    let dir = tempfile::tempdir().unwrap();
    check_claim(&RealFs, dir.path());
}

#[test]
fn a_directory_that_cannot_be_had_is_told_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (file, locked) = (dir.path().join("file"), dir.path().join("locked"));
    write(&RealFs, &file, &[b"x"]);
    RealFs.create_dir_all(&locked.join("lock")).unwrap();
    for (path, told) in [
        (file.join("below"), "create "),
        (file, "lock "),
        (locked, "lock "),
    ] {
        let error = claim(&RealFs, &path).unwrap_err();
        assert_eq!(error.kind(), Kind::Io, "{error}");
        let told = format!("{told}{}", path.display());
        assert!(error.to_string().contains(&told), "{error}");
    }
}
