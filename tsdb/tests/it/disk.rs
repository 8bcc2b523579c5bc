//! What lies on a simulated disk: files read, replaced and named, and answers bit for bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use trine_storage::catalog::{self, Document};
use trine_storage::fs::Fs;
use trine_storage::sim::SimFs;
use trine_storage::{Matcher, Result, TimeRange};
use trine_tsdb::{Hints, Tsdb, Values};

/// Samples by series, values as bits.
pub(crate) type Answer = BTreeMap<String, Vec<(i64, u64)>>;

pub(crate) fn read(fs: &SimFs, path: &Path) -> Vec<u8> {
    let file = Fs::open(fs, path).unwrap();
    let whole = 0..file.len();
    file.read(&[whole]).unwrap().remove(0).to_vec()
}

pub(crate) fn write(fs: &SimFs, path: &Path, bytes: &[u8]) {
    let mut file = fs.create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync().unwrap();
}

/// The files of a directory of the store, sorted.
pub(crate) fn files(fs: &SimFs, dir: &str) -> Vec<PathBuf> {
    let mut files = fs.files();
    files.retain(|path| path.starts_with(dir));
    files
}

pub(crate) fn catalog(fs: &SimFs) -> Document {
    let bytes = read(fs, Path::new("store/catalog"));
    catalog::decode("catalog", &bytes).unwrap()
}

/// The files of parts and blocks with their levels, lowest first.
pub(crate) fn blocks(fs: &SimFs) -> Vec<(u8, PathBuf)> {
    let path = |id| PathBuf::from(format!("store/blocks/{id}.block"));
    let blocks = catalog(fs).blocks;
    let mut blocks: Vec<(u8, PathBuf)> = blocks
        .iter()
        .map(|meta| (meta.level, path(meta.id)))
        .collect();
    blocks.sort();
    blocks
}

/// What a read gives.
pub(crate) fn answer(db: &Tsdb, matchers: &[Matcher], range: TimeRange) -> Result<Answer> {
    let mut answer = Answer::new();
    for series in db.snapshot().select(matchers, range, &Hints::default())? {
        let series = series?;
        let Values::Floats(values) = series.samples.values else {
            panic!("no floats")
        };
        let bits = values.iter().map(|value| value.to_bits());
        let samples = series.samples.timestamps.into_iter().zip(bits).collect();
        let again = answer.insert(series.labels.to_string(), samples);
        assert_eq!(again, None, "{} is told twice", series.labels);
    }
    Ok(answer)
}

/// Whether each sample of `found` is one of `all`.
pub(crate) fn holds_nothing_else(found: &Answer, all: &Answer) -> bool {
    found.iter().all(|(series, samples)| {
        let all = all.get(series).map(Vec::as_slice).unwrap_or_default();
        samples
            .iter()
            .all(|sample| all.binary_search(sample).is_ok())
    })
}
