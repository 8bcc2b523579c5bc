//! Bytes that survive: what the three Trine engines share, and nothing else.
//!
//! A *toolkit*, not a framework. The dangerous protocol lives here once (framing, fsync order,
//! atomic change of the block set, deferred deletion, poison after a failed fsync); each engine
//! wires the parts in the order it needs.
//!
//! It is not: an engine, a query language, a server. Nothing here knows what a sample, a log line
//! or a span is.
//!
//! In reading order: [`labels`] and [`matcher`] name things, [`label_index`] finds them in memory and
//! [`frozen_index`] in blocks, [`cardinality`] counts them, [`fs`] and
//! [`clock`] are the only doors to the outside, [`wal`] keeps what was acknowledged, [`sealed`]
//! holds what is immutable, [`catalog`] says which blocks exist, [`compaction`] which
//! of them become one, [`depot`] where they are shipped to, [`shipping`] how an engine does that, [`cost`] what reading them there costs,
//! [`shared`] is what all engines of a process have in common, [`sim`] runs all of it under simulated crashes. With the feature `remote`,
//! `remote` keeps blocks and catalog in an object store.
//!
//! File formats: see `FORMAT.md` beside this crate.

pub mod block_set;
pub mod cardinality;
pub mod catalog;
pub mod clock;
pub mod codec;
pub mod compaction;
pub mod cost;
pub mod depot;
pub mod error;
pub mod frozen_index;
pub mod fs;
pub mod label_index;
pub mod labels;
pub mod matcher;
pub mod pack;
pub mod read_ahead;
pub mod regex;
#[cfg(feature = "remote")]
pub mod remote;
pub mod sealed;
pub mod shared;
pub mod shipping;
pub mod sim;
pub mod time;
pub mod ulid;
pub mod wal;

pub use error::{Error, Kind, Result};
pub use labels::Labels;
pub use matcher::{MatchOp, Matcher};
pub use time::TimeRange;
