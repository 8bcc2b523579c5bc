//! Our own cases of the language, in `query/testdata/traceql`.
