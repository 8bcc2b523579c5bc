//! Tests of the store as its users see it: one file per behaviour, one binary.

mod crash;
mod limits;
mod model;
mod store;
