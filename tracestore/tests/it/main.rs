//! Tests of the store as its users see it: one file per behaviour, one binary.

#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]

mod crash;
mod damage;
mod far;
mod limits;
mod lives;
mod model;
mod names;
mod otlp;
mod shipping;
mod store;
