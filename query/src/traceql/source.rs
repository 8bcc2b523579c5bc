//! What TraceQL asks of a store and what it gets: plain data, columns, no rows.

use std::ops::Range;
use std::sync::Arc;

use trine_storage::{Error, TimeRange};

/// The id of a trace.
pub type TraceId = [u8; 16];
/// The id of a span.
pub type SpanId = [u8; 8];

/// A store of spans.
pub trait Source: Send + Sync {
    /// Whole traces of which some span may be what is asked for, newest first (by their first span,
    /// then by id), each the union of all its spans. A source may answer counts with rows.
    ///
    /// # Errors
    /// The store's, here or from the iterator.
    fn spans(&self, request: &Request) -> Result<Batches, Error>;

    /// The attributes that spans in `range` have, by scope and name, sorted.
    ///
    /// # Errors
    /// The store's.
    fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String)>, Error>;

    /// Distinct values of an attribute of spans in `range`, at most `limit`; without a scope those
    /// of spans and resources.
    ///
    /// # Errors
    /// The store's.
    fn attribute_values(
        &self,
        scope: Option<Scope>,
        key: &str,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Value>, Error>;
}

/// A question about spans.
#[derive(Debug, Clone)]
pub enum Request {
    /// The spans of the traces that may match.
    Rows(Rows),
    /// How many spans, by time and attributes. A source may answer with rows.
    Counts(Counts),
}

/// Whole traces of which some span may satisfy the conditions.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Spans that begin in this range decide (nanoseconds since 1970); their traces come whole.
    pub range: TimeRange,
    /// What is known of the spans that are looked for. A trace is left out only when none of its
    /// spans can satisfy them.
    pub conditions: Vec<Condition>,
    /// Whether one span must satisfy all conditions; otherwise any of them will do.
    pub all: bool,
    /// The attributes that the answer holds as columns, beside those of the conditions.
    pub projection: Vec<AttributeRef>,
}

/// How many spans begin in each bucket, by attributes.
#[derive(Debug, Clone)]
pub struct Counts {
    /// As in [`Rows`].
    pub range: TimeRange,
    /// As in [`Rows`]; one span must satisfy all of them.
    pub conditions: Vec<Condition>,
    /// The width of a bucket, nanoseconds.
    pub bucket_ns: i64,
    /// What the counts are told apart by.
    pub by: Vec<AttributeRef>,
}

/// Something that is known of a span: its attribute compares like this to one of the values.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Which attribute.
    pub attribute: AttributeRef,
    /// How it compares.
    pub op: CompareOp,
    /// With what; without values the attribute must be there, whatever it is.
    pub values: Vec<Value>,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// Anything else that needs the attribute to be there.
    Exists,
}

/// Names an attribute or an intrinsic of spans.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttributeRef {
    /// A part of the span itself.
    Intrinsic(Intrinsic),
    /// An attribute; without a scope that of the span or, where it has none, of the resource.
    Attribute {
        /// Where it is looked for.
        scope: Option<Scope>,
        /// Its name.
        key: String,
    },
}

/// Parts of a span that conditions can be about. Others are columns of every [`SpanBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intrinsic {
    /// Nanoseconds, an integer.
    Duration,
    /// Text.
    Name,
    /// 0 unset, 1 ok, 2 error.
    Status,
    /// Text.
    StatusMessage,
    /// As OTLP numbers kinds.
    Kind,
}

/// Where an attribute belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The resource.
    Resource,
    /// The span.
    Span,
    /// An event of the span. Several events give an array.
    Event,
    /// A link of the span. Several links give an array.
    Link,
    /// The instrumentation scope.
    Instrumentation,
}

/// Keys under which the intrinsics of events, links and instrumentation scopes are columns.
pub mod keys {
    /// Scope `Event`: the name, text.
    pub const EVENT_NAME: &str = "event:name";
    /// Scope `Event`: nanoseconds since the span began, an integer.
    pub const EVENT_TIME_SINCE_START: &str = "event:timeSinceStart";
    /// Scope `Link`: the trace id, hexadecimal text.
    pub const LINK_TRACE_ID: &str = "link:traceID";
    /// Scope `Link`: the span id, hexadecimal text.
    pub const LINK_SPAN_ID: &str = "link:spanID";
    /// Scope `Instrumentation`: the name, text.
    pub const INSTRUMENTATION_NAME: &str = "instrumentation:name";
    /// Scope `Instrumentation`: the version, text.
    pub const INSTRUMENTATION_VERSION: &str = "instrumentation:version";
}

/// A value that queries can see. Key-value lists, bytes and mixed arrays are kept but not seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Str(Arc<str>),
    /// A signed number.
    Int(i64),
    /// A float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Values of one kind.
    Array(Vec<Value>),
}

/// The code of a row that has no value.
pub const ABSENT: u32 = u32::MAX;
/// The row of a parent that is not in the batch.
pub const NO_ROW: u32 = u32::MAX;

/// A column of values as codes into a dictionary.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// A code for each row; [`ABSENT`] where there is no value.
    pub codes: Vec<u32>,
    /// The distinct values.
    pub dictionary: Vec<Value>,
}

/// The column of one attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributeColumn {
    /// Where it belongs.
    pub scope: Scope,
    /// Its name.
    pub key: Arc<str>,
    /// The values.
    pub column: Column,
}

/// One trace of a batch, the union of all its spans that are stored.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceRows {
    /// Its id.
    pub id: TraceId,
    /// Its rows in the batch.
    pub rows: Range<u32>,
    /// When its first span began, nanoseconds since 1970.
    pub start: i64,
    /// When its last span ended.
    pub end: i64,
    /// `service.name` of the resource of its root, when the root is there.
    pub root_service: Option<Arc<str>>,
    /// Name of its root, when the root is there.
    pub root_name: Option<Arc<str>>,
}

/// Spans of whole traces as columns, the traces newest first, the spans of a trace by start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpanBatch {
    /// The traces.
    pub traces: Vec<TraceRows>,
    /// Ids of the spans.
    pub span_ids: Vec<SpanId>,
    /// Ids of their parents; zero where there is none.
    pub parent_ids: Vec<SpanId>,
    /// Rows of their parents; [`NO_ROW`] where the parent is not stored.
    pub parents: Vec<u32>,
    /// Nested-set numbers: spans below a span have numbers between its left and right one.
    pub nested_left: Vec<i32>,
    /// See `nested_left`.
    pub nested_right: Vec<i32>,
    /// The left number of the parent; -1 for roots, 0 where the parent is not stored.
    pub nested_parent: Vec<i32>,
    /// When the spans began, nanoseconds since 1970.
    pub starts: Vec<i64>,
    /// How long they took, nanoseconds.
    pub durations: Vec<u64>,
    /// Their kinds, as OTLP numbers them.
    pub kinds: Vec<u8>,
    /// How they ended: 0 unset, 1 ok, 2 error.
    pub statuses: Vec<u8>,
    /// Their names.
    pub names: Column,
    /// Their status messages.
    pub status_messages: Column,
    /// The attributes that were asked for and are there.
    pub attributes: Vec<AttributeColumn>,
}

/// The batches of an answer.
pub type Batches = Box<dyn Iterator<Item = Result<SpanBatch, Error>> + Send>;
