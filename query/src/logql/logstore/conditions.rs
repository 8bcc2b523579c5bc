//! LogQL as the language of deletes: a query stands for the entries that come through its stages.
//! The server opens its stores with it.

use std::sync::Arc;

use trine_logstore as engine;

use crate::logql::ast::Expr;
use crate::logql::source::RowBatch;
use crate::logql::{Stages, parse};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conditions;

#[derive(Debug)]
struct Passing(Stages);

impl engine::Language for Conditions {
    fn condition(&self, text: &str) -> Result<Arc<dyn engine::Condition>, String> {
        let Expr::Log(expr) = parse(text).map_err(|error| error.to_string())? else {
            return Err("it is no query for lines".to_owned());
        };
        let stages = Stages::new(&expr).map_err(|error| error.to_string())?;
        Ok(Arc::new(Passing(stages)))
    }
}

impl engine::Condition for Passing {
    fn met_by(&self, rows: engine::RowBatch) -> Vec<bool> {
        self.0.passing(&RowBatch::from(rows))
    }
}

#[cfg(test)]
mod tests {
    use trine_logstore::{Durability, LogStore, Matcher, Rows, TimeRange};
    use trine_storage::Labels;

    use super::*;

    fn lines(store: &LogStore) -> Vec<String> {
        let rows = Rows::new(Vec::new(), TimeRange::ALL);
        let mut lines = Vec::new();
        for batch in store.snapshot().scan(&engine::Request::Rows(rows)).unwrap() {
            let engine::Batch::Rows(rows) = batch.unwrap() else {
                panic!("rows are asked for")
            };
            let all = 0..rows.timestamps.len();
            lines.extend(all.map(|row| String::from_utf8_lossy(rows.lines.get(row)).into_owned()));
        }
        lines
    }

    #[test]
    fn what_a_query_finds_is_deleted_for_queries_files_and_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let config = engine::Config {
            delete_delay: std::time::Duration::ZERO,
            ..engine::Config::default()
        };
        let builder = || LogStore::builder(dir.path()).config(config.clone());
        let open = || builder().language(Arc::new(Conditions)).open().unwrap();
        let store = open();
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
        let mut appender = store.appender();
        for (at, app, line, trace) in [
            (1, "a", r#"{"level":"debug"}"#, "x"),
            (2, "a", r#"{"level":"info"}"#, "x"),
            (3, "a", r#"{"level":"debug"}"#, "y"),
            (4, "b", r#"{"level":"debug"}"#, "x"),
        ] {
            let (stream, metadata) = (labels(&[("app", app)]), labels(&[("trace", trace)]));
            appender.append(&stream, at, line.as_bytes(), &metadata);
        }
        appender.commit(Durability::Synced).unwrap().wait().unwrap();
        let text = r#"{app="a"} | json | level="debug" | trace="x""#;
        let app = [Matcher::equal("app", "a")];
        let delete = |text: &str| store.delete_where(&app, &[], text, TimeRange::ALL);
        assert!(delete("{app=").is_err());
        delete(text).unwrap();
        let left = [
            r#"{"level":"info"}"#,
            r#"{"level":"debug"}"#,
            r#"{"level":"debug"}"#,
        ];
        assert_eq!(lines(&store), left);
        assert_eq!(
            store
                .snapshot()
                .totals(&app, TimeRange::ALL)
                .unwrap()
                .entries,
            2
        );
        assert_eq!(store.deletes()[0].condition.as_deref(), Some(text));
        store.close().unwrap();

        // The next start needs the language, and finds the same.
        let error = builder().open().unwrap_err();
        assert_eq!(error.kind(), engine::Kind::Unsupported, "{error}");
        let store = open();
        assert_eq!(lines(&store), left);
        store.compact().unwrap();
        assert_eq!(lines(&store), left);
        assert!(store.deletes().is_empty(), "it is done with");
        store.close().unwrap();
        assert_eq!(lines(&builder().open().unwrap()), left);
    }
}
