//! Criterion benches for all crates: `cargo bench` runs them, `cargo bench --bench tsdb` one of
//! them. Each reports elements (samples, lines, spans) per second; quote medians, and ratios of one
//! run. The library makes what is measured with.

pub mod lines;
pub mod process;
pub mod spans;
