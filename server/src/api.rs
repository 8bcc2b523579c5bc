//! The read paths: each API family decodes its parameters, calls a query language over a tenant's
//! engine, and writes the answer in the form that its clients read.
//!
//! [`prometheus`], [`loki`], [`tempo`] and [`jaeger`] are the families; [`signals`] tells what all three
//! signals know of a trace, [`ops`] holds probes and the server's own metrics.

pub mod jaeger;
pub mod loki;
pub mod ops;
pub mod prometheus;
pub mod signals;
pub mod tempo;
