//! Tests of the store as its users see it: one file per behaviour, one binary.

#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]

mod between;
mod concurrent;
mod crash;
mod damage;
mod delete;
mod disk;
mod golden;
mod kinds;
mod limits;
mod lives;
mod loss;
mod model;
mod refusals;
mod shipping;
mod store;
