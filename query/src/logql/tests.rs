//! Tests of LogQL as a whole: scripts under `testdata/logql` over a source in memory, and
//! properties against naive models.

mod answers;
mod memory;
mod model;
mod properties;
mod script;
mod search;

/// A script of queries with their answers; see `script.rs` for its form.
macro_rules! scripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let text = include_str!(concat!("../../testdata/logql/", stringify!($name), ".test"));
            script::run(stringify!($name), text);
        }
    )*};
}

scripts! { lines parsers labels metrics vectors errors stages templates }
