//! What TraceQL asks of a store and what it gets: plain data, columns, no rows.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use trine_storage::regex::LabelRegex;
use trine_storage::{Error, TimeRange};

/// The id of a trace.
pub type TraceId = [u8; 16];
/// The id of a span.
pub type SpanId = [u8; 8];

/// A store of spans.
pub trait Source: Send + Sync {
    /// The answer of a request: whole traces that satisfy a filter, newest first (by their first span,
    /// then by id), each the union of all its spans; or counts.
    ///
    /// # Errors
    /// The store's, here or from the iterator. A store that does not count answers a request for
    /// counts with [`Kind::Unsupported`](trine_storage::error::Kind::Unsupported); it is asked for
    /// rows then. So does one that does not compare.
    fn scan(&self, request: &Request) -> Result<Batches, Error>;

    /// The attributes that spans in `range` have, by scope and name, sorted, with how many spans (of
    /// those of events and links, how many of these) have them.
    ///
    /// # Errors
    /// The store's.
    fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String, u64)>, Error>;

    /// The attributes of the spans in `range` that satisfy a filter, by scope and name, sorted.
    ///
    /// # Errors
    /// The store's.
    fn attribute_names_of(
        &self,
        range: TimeRange,
        filter: &Filter,
    ) -> Result<Vec<(Scope, String)>, Error> {
        let mut found = Vec::new();
        for (scope, key, _) in self.attribute_names(range)? {
            let attribute = AttributeRef::Attribute {
                scope: Some(scope),
                key: key.clone(),
            };
            let request = ValuesRequest {
                attribute,
                range,
                filter: Some(filter.clone()),
                limit: 1,
            };
            if !self.attribute_values(&request)?.is_empty() {
                found.push((scope, key));
            }
        }
        Ok(found)
    }

    /// Distinct values of an attribute, each with how often it was met.
    ///
    /// # Errors
    /// The store's.
    fn attribute_values(&self, request: &ValuesRequest) -> Result<Vec<(Value, u64)>, Error>;
}

/// A question about spans.
#[derive(Debug, Clone)]
pub enum Request {
    /// The spans of the traces that match.
    Rows(Rows),
    /// How many spans, by time and attributes.
    Counts(Counts),
    /// How often values of attributes occur among two kinds of spans.
    Comparison(Comparison),
}

/// Whole traces that satisfy a filter.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Traces are taken of which a span begins before the end of this range and ends at its start or
    /// later (nanoseconds since 1970). They come whole, and their other spans count for the filter,
    /// too.
    pub range: TimeRange,
    /// Which traces.
    pub filter: TraceFilter,
    /// The attributes that the answer holds as columns.
    pub projection: Vec<AttributeRef>,
    /// How many traces are probably enough: batches are made so that not many more are read. More come
    /// to whoever goes on.
    pub enough: usize,
}

/// What a trace must have, all its spans taken together wherever they are stored.
#[derive(Debug, Clone)]
pub enum TraceFilter {
    /// Nothing.
    All,
    /// A span that satisfies a filter.
    Has(Filter),
    /// So many spans that satisfy a filter.
    Count {
        /// Which spans.
        filter: Filter,
        /// At least so many. Nothing is counted where there is no span, so 0 means 1.
        least: u64,
        /// At most so many.
        most: u64,
    },
    /// Two different spans that are related.
    Related {
        /// How.
        relation: Relation,
        /// What the parent, the ancestor or one of the siblings satisfies.
        above: Filter,
        /// What the other one satisfies.
        below: Filter,
    },
    /// All of these. Without any it is [`TraceFilter::All`].
    And(Vec<TraceFilter>),
    /// One of these.
    Or(Vec<TraceFilter>),
}

/// How two spans of a trace are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// One is the parent of the other.
    Child,
    /// One is above the other, however many are between.
    Descendant,
    /// They name the same parent, stored or not.
    Sibling,
}

/// What one span must satisfy.
#[derive(Debug, Clone)]
pub enum Filter {
    /// A condition.
    Is(Condition),
    /// All of these; without any, every span. Parts that are only about events, whatever [`Filter::And`]
    /// and [`Filter::Or`] they are made of, must hold for one event of the span together when they stand
    /// side by side here, and likewise those about links. [`Test::Missing`] and [`Filter::Not`] stand
    /// apart.
    And(Vec<Filter>),
    /// One of these; without any, no span.
    Or(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
}

/// A test of an attribute. Of events and links of a span, any one may satisfy it; for
/// [`Test::Missing`], none may have the attribute.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Which attribute.
    pub attribute: AttributeRef,
    /// What its value must satisfy.
    pub test: Test,
}

/// What a value must satisfy. A span without the attribute satisfies [`Test::Missing`] only. Text,
/// truth and numbers do not compare with each other: whatever the test, it does not hold. Of an
/// array one element must satisfy the test, and all of them for the forms that negate.
#[derive(Debug, Clone)]
pub enum Test {
    /// It equals one of these.
    Equal(Vec<Value>),
    /// It differs from each of these, and compares with each of them. Every number differs from NaN.
    NotEqual(Vec<Value>),
    /// It is less. Text compares byte by byte.
    Less(Value),
    /// It is less or equal.
    LessEqual(Value),
    /// It is greater.
    Greater(Value),
    /// It is greater or equal.
    GreaterEqual(Value),
    /// It is text, and all of it matches.
    Matches(LabelRegex),
    /// It is text, and does not match.
    NotMatches(LabelRegex),
    /// It is there.
    Exists,
    /// It is not there. What is built in always is.
    Missing,
}

/// How many spans satisfy a filter, by time and attributes.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Spans that begin in this range are counted.
    pub range: TimeRange,
    /// Which of them.
    pub filter: Filter,
    /// Buckets begin here, and every width before and after it.
    pub origin_ns: i64,
    /// The width of a bucket; 0 or less for one bucket that begins at the origin.
    pub bucket_ns: i64,
    /// What the counts are told apart by.
    pub by: Vec<AttributeRef>,
    /// What is counted.
    pub measure: Measure,
    /// The most groups, each power of two one of its own; a count that meets more ends soon.
    pub groups_max: usize,
    /// How it is done.
    pub effort: Effort,
}

/// How often each value of some attributes occurs among spans that are selected, and among others.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Spans that begin in this range are counted.
    pub range: TimeRange,
    /// Which of them.
    pub filter: Filter,
    /// Which of these are selected.
    pub selection: Filter,
    /// When selected spans begin; others are not selected, whatever they are.
    pub selected_range: TimeRange,
    /// Buckets begin here, and every width before and after it.
    pub origin_ns: i64,
    /// The width of a bucket; 0 or less for one bucket that begins at the origin.
    pub bucket_ns: i64,
    /// Whose values are counted.
    pub attributes: Vec<AttributeRef>,
    /// The most values of an attribute that are told apart; those that are met later count as one.
    pub values_max: usize,
    /// How it is done.
    pub effort: Effort,
}

/// What a count may use, and what ends it before its time.
#[derive(Debug, Clone, Default)]
pub struct Effort {
    /// Threads beside the caller's.
    pub threads: usize,
    /// Set from outside: the count ends soon, with what it has by then.
    pub stop: Arc<AtomicBool>,
}

/// What [`Counts`] tells of the spans of a group. Spans without a number are left out of all but
/// [`Measure::Spans`].
#[derive(Debug, Clone)]
pub enum Measure {
    /// How many there are.
    Spans,
    /// How many there are for each power of two: a number belongs to the least exponent `e` with
    /// `number <= 2^e`, so 1 to 0, 2 to 1, 3 and 4 to 2; what is not above zero to `i32::MIN`,
    /// infinity to `i32::MAX`. Floats likewise, so that a half belongs to -1; NaN to none.
    Log2(AttributeRef),
    /// The sum of the numbers.
    Sum(AttributeRef),
    /// The least of the numbers.
    Least(AttributeRef),
    /// The greatest of the numbers.
    Greatest(AttributeRef),
}

/// Which values of an attribute are asked for.
#[derive(Debug, Clone)]
pub struct ValuesRequest {
    /// The attribute.
    pub attribute: AttributeRef,
    /// Of spans that begin in this range. Without a filter a store may also tell values of spans
    /// that are stored beside them.
    pub range: TimeRange,
    /// And that satisfy this.
    pub filter: Option<Filter>,
    /// The most values.
    pub limit: usize,
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

/// Parts of a span and its trace.
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
    /// Hexadecimal text.
    SpanId,
    /// Hexadecimal text; empty for roots.
    ParentId,
    /// Hexadecimal text of 32 digits.
    TraceId,
    /// Whether it has no parent.
    IsRoot,
    /// From the first start to the last end of the trace, nanoseconds.
    TraceDuration,
    /// Name of the first root of the trace; empty without one.
    RootName,
    /// `service.name` of the resource of that root; empty without one.
    RootServiceName,
    /// How many spans of the trace have it as their parent.
    ChildCount,
}

/// Where an attribute belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The resource.
    Resource,
    /// The span.
    Span,
    /// An event of the span. Counts take the value of the first that has it.
    Event,
    /// A link of the span. Counts take the value of the first that has it.
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
    /// A code for each row (of events and links, for each of these); [`ABSENT`] where there is no value.
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

/// Spans of whole traces as columns: the traces newest first, the spans of a trace depth first, so
/// that what is below a span follows it; roots before spans whose parent is not stored, siblings by
/// start. Columns of attributes have a code for each span, those of events and links one for each event
/// and link.
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
    /// The rows of the spans that events belong to, rising; empty when no attribute of events was asked
    /// for.
    pub events: Vec<u32>,
    /// The same of links.
    pub links: Vec<u32>,
    /// The attributes that were asked for and are there.
    pub attributes: Vec<AttributeColumn>,
}

/// Counts of groups as columns, one row a group, bucket and power of two that has spans. By bucket,
/// then by the codes of the groups, then by exponent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CountBatch {
    /// The attributes of the groups, as they were asked for.
    pub by: Vec<Column>,
    /// When the bucket begins.
    pub buckets: Vec<i64>,
    /// For [`Measure::Log2`] the exponent; empty otherwise.
    pub exponents: Vec<i32>,
    /// How many spans.
    pub counts: Vec<u64>,
    /// For sums, least and greatest numbers the number, zero without a sign; empty otherwise.
    pub values: Vec<f64>,
    /// Whether there are more groups than may be, and spans that were not counted.
    pub is_full: bool,
}

/// How often values of attributes occur.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ComparisonBatch {
    /// The attributes, as they were asked for.
    pub attributes: Vec<Occurrences>,
}

/// How often values of one attribute occur, one row a value and bucket that has spans.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Occurrences {
    /// The values; [`ABSENT`] for those that are not told apart any more.
    pub values: Column,
    /// When the bucket begins.
    pub buckets: Vec<i64>,
    /// How many spans that are selected.
    pub selected: Vec<u64>,
    /// How many others.
    pub others: Vec<u64>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for thousands of spans"
)]
pub enum Batch {
    /// For [`Request::Rows`].
    Spans(SpanBatch),
    /// For [`Request::Counts`]. What several batches tell of a group adds up.
    Counts(CountBatch),
    /// For [`Request::Comparison`]. What several batches tell of a value adds up.
    Comparison(ComparisonBatch),
}

/// The batches of an answer. One may be empty: a store that searches for long lets whoever asks stop in
/// between.
pub type Batches = Box<dyn Iterator<Item = Result<Batch, Error>> + Send>;
