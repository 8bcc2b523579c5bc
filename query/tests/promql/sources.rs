//! Where the samples of a script lie: in memory, and in sealed blocks of a store.

use std::collections::HashMap;

use trine_query::promql::source::Memory;
use trine_query::promql::{SampleValue, SeriesValue, Source};
use trine_query::vector::Histogram;
use trine_storage::Labels;
use trine_tsdb::{Durability, Reason, Snapshot, Tsdb, Value};

use super::histogram;
use super::script::{Load, Sample};

pub(super) struct Sources {
    memory: Memory,
    blocks: Blocks,
    /// The last sample of each series, where it is a histogram.
    last: HashMap<Labels, Histogram>,
}

impl Sources {
    pub(super) fn new() -> Self {
        Self {
            memory: Memory::default(),
            blocks: Blocks::new(),
            last: HashMap::new(),
        }
    }

    /// Takes in more samples.
    pub(super) fn load(&mut self, load: Load) {
        let mut samples = load.samples;
        if load.with_custom {
            let custom = histogram::custom_of_classic(&samples);
            samples.extend(custom);
        }
        self.hint_resets(&mut samples);
        for sample in &samples {
            let value = match &sample.value {
                SeriesValue::Float(value) => SampleValue::Float(*value),
                SeriesValue::Histogram(description) => {
                    SampleValue::Histogram(histogram::engine(description).into())
                }
                SeriesValue::Missing => continue,
            };
            self.memory
                .add_sample(&sample.labels, sample.time_ms, sample.start_ms, value);
        }
        self.blocks.append(&samples);
    }

    /// Where nothing is said of counter resets, says of a histogram that it is none, if it goes on
    /// from the one before: so the original's store does while it appends to a chunk.
    fn hint_resets(&mut self, samples: &mut [Sample]) {
        for sample in samples {
            let SeriesValue::Histogram(description) = &mut sample.value else {
                self.last.remove(&sample.labels);
                continue;
            };
            let now = histogram::engine(description);
            let goes_on = self.last.get(&sample.labels).is_some_and(|before| {
                !before.is_gauge()
                    && before.schema == now.schema
                    && before.zero_threshold == now.zero_threshold
                    && before.custom_values == now.custom_values
                    && !now.is_reset_since(before)
            });
            if description.hint.is_none() && goes_on {
                description.hint = Some("not_reset".to_owned());
            }
            self.last.insert(sample.labels.clone(), now);
        }
    }

    /// Both, by their names.
    pub(super) fn both(&mut self) -> [(&'static str, &dyn Source); 2] {
        [
            ("in memory", &self.memory),
            ("in blocks", self.blocks.snapshot()),
        ]
    }
}

/// A store of which all samples are sealed before it is read. It is opened when something is loaded.
struct Blocks {
    folder: tempfile::TempDir,
    db: Option<Tsdb>,
    snapshot: Option<Snapshot>,
}

impl Blocks {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            db: None,
            snapshot: None,
        }
    }

    fn append(&mut self, samples: &[Sample]) {
        let folder = self.folder.path();
        let db = self.db.get_or_insert_with(|| Tsdb::open(folder).unwrap());
        let mut appender = db.appender();
        for sample in samples {
            let value = match &sample.value {
                SeriesValue::Float(value) => Value::Float(*value),
                SeriesValue::Histogram(description) => {
                    Value::Histogram(histogram::stored(description).into())
                }
                SeriesValue::Missing => continue,
            };
            appender
                .series(&sample.labels)
                .append_started(sample.time_ms, sample.start_ms, value);
        }
        let commit = appender.commit(Durability::Buffered).unwrap();
        let accepted = commit.wait().unwrap();
        let unforeseen = accepted.rejected.iter().find(|one| {
            !matches!(
                one.reason,
                Reason::DuplicateTimestamp | Reason::InvalidHistogram
            )
        });
        assert!(unforeseen.is_none(), "{unforeseen:?}");
        self.snapshot = None;
    }

    fn snapshot(&mut self) -> &Snapshot {
        let folder = self.folder.path();
        let db = self.db.get_or_insert_with(|| Tsdb::open(folder).unwrap());
        self.snapshot.get_or_insert_with(|| {
            db.flush().unwrap();
            db.compact().unwrap();
            db.snapshot()
        })
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.snapshot = None;
        if let Some(db) = self.db.take() {
            db.close().unwrap();
        }
    }
}
