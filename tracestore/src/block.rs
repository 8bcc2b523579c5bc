//! Immutable blocks: the format, who writes it, who reads it.

#[allow(dead_code, reason = "wired by the table")]
pub(crate) mod bits;
#[allow(dead_code, reason = "wired by the table")]
pub(crate) mod blob;
#[allow(dead_code, unused_imports, reason = "wired by the table")]
pub(crate) mod column;
#[allow(dead_code, unreachable_pub, reason = "wired by the table")]
pub(crate) mod decode;
#[allow(dead_code, reason = "wired by the table")]
pub(crate) mod dictionary;
#[allow(dead_code, reason = "wired by the table")]
pub(crate) mod filter;
pub(crate) mod format;
#[allow(dead_code, reason = "wired by the table")]
pub(crate) mod frame;
#[allow(dead_code, reason = "wired by the table")]
pub(crate) mod numbers;
pub(crate) mod reader;
#[allow(dead_code, unused_imports, reason = "wired by the table")]
pub(crate) mod template;
#[allow(dead_code, reason = "wired by the table")]
pub(crate) mod values;
pub(crate) mod writer;
