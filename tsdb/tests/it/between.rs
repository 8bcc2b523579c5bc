//! Deletes, appends, reads and backups in the middle of a compaction: at every file that it creates.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use trine_storage::fs::{Entry, Fs, Lock, ReadFile, WriteFile};
use trine_storage::shared::Shared;
use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Matcher, TimeRange};
use trine_tsdb::{Durability, Tsdb, Value};

use crate::store::{NOW_MS, clock, dump, labels, open, put};

type Hook = Box<dyn FnOnce() + Send>;

/// A disk that runs something before a file is created.
#[derive(Clone)]
struct Hooked {
    fs: SimFs,
    /// How many files are created before.
    hook: Arc<Mutex<Option<(usize, Hook)>>>,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

impl Hooked {
    fn run(&self) {
        let mut hook = self.hook.lock().unwrap();
        let due = match hook.take() {
            Some((0, run)) => Some(run),
            Some((more, run)) => {
                *hook = Some((more - 1, run));
                None
            }
            None => None,
        };
        drop(hook);
        if let Some(run) = due {
            run();
        }
    }
}

impl Fs for Hooked {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.fs.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.fs.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        // Not the catalog: who changes it is alone.
        if path.starts_with("store/blocks") {
            self.run();
        }
        self.fs.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        Fs::open(&self.fs, path)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.fs.truncate(path, len)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_file(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.fs.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.fs.lock(path)
    }
}

/// Samples of closed windows, in blocks already or in parts, and of the open window.
fn fill(db: &Tsdb, in_blocks: bool) {
    put(db, &[("n=a", 1, 1.0), ("n=b", 1, 1.0)]);
    match in_blocks {
        true => db.compact().unwrap(),
        false => db.flush().unwrap(),
    }
    put(
        db,
        &[
            ("n=a", 2, 2.0),
            ("n=b", 2, 2.0),
            ("n=a", NOW_MS, 3.0),
            ("n=b", NOW_MS, 3.0),
        ],
    );
    db.flush().unwrap();
}

/// What is done, and what a read gives ever after.
type Case = (&'static str, fn(&Tsdb), [String; 2]);

#[test]
fn whatever_comes_while_a_compaction_writes_is_kept() {
    let all = |name: &str, samples: &str| format!("{{n=\"{name}\"}} {samples}");
    let before = format!("1=1 2=2 {NOW_MS}=3");
    let cases: [Case; 4] = [
        (
            "delete",
            |db| {
                let a = [Matcher::equal("n", "a")];
                db.delete(&a, TimeRange::new(2, NOW_MS)).unwrap();
            },
            [all("a", &format!("1=1 {NOW_MS}=3")), all("b", &before)],
        ),
        (
            "append and flush",
            |db| {
                put(db, &[("n=a", 2, 9.0), ("n=a", NOW_MS, 9.0)]);
                db.flush().unwrap();
            },
            [all("a", &format!("1=1 2=9 {NOW_MS}=9")), all("b", &before)],
        ),
        (
            "append",
            |db| {
                let mut appender = db.appender();
                appender.append(&labels("n=a"), 1, Value::Float(9.0));
                appender.commit(Durability::Synced).unwrap().wait().unwrap();
            },
            [all("a", &format!("1=9 2=2 {NOW_MS}=3")), all("b", &before)],
        ),
        (
            "backup",
            |db| db.backup("copy").unwrap(),
            [all("a", &before), all("b", &before)],
        ),
    ];
    for (name, work, expected) in cases {
        let mut times = 0;
        for (files, in_blocks) in (0..).flat_map(|files| [(files, true), (files, false)]) {
            let hooked = Hooked {
                fs: SimFs::new(),
                hook: Arc::default(),
            };
            let db = Tsdb::builder("store")
                .fs(Arc::new(hooked.clone()))
                .clock(clock())
                .shared(Shared::without_workers())
                .open()
                .unwrap();
            fill(&db, in_blocks);
            let (inner, expected_there) = (db.clone(), expected.clone());
            let run: Hook = Box::new(move || {
                work(&inner);
                let found = dump(&inner, &[], TimeRange::ALL);
                assert_eq!(found, expected_there, "{name} before file {files}, at once");
            });
            *hooked.hook.lock().unwrap() = Some((files, run));
            db.compact().unwrap();
            if hooked.hook.lock().unwrap().take().is_some() {
                // It creates fewer files.
                assert_eq!(dump(&db, &[], TimeRange::ALL).len(), 2);
                if files > 8 {
                    break;
                }
                continue;
            }
            times += 1;
            let place = format!("{name} before file {files}");
            assert_eq!(dump(&db, &[], TimeRange::ALL), expected, "{place}");
            let found = open(&hooked.fs.crash(Crash::Power, 1));
            assert_eq!(
                dump(&found, &[], TimeRange::ALL),
                expected,
                "{place}, crashed"
            );
            db.compact().unwrap();
            assert_eq!(
                dump(&db, &[], TimeRange::ALL),
                expected,
                "{place}, compacted"
            );
            assert!(db.verify().errors.is_empty(), "{place}");
        }
        assert!(times >= 3, "{name}: {times}");
    }
}
