//! The functions that templates call, by name, with the types of their arguments.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use trine_storage::regex::{LineRegex, Template as Replacement};

use super::exec::Env;
use super::number::{self, Decimal, to_float, to_int};
use super::printf::printf;
use super::strings::{self, Text};
use super::time::Time;
use super::value::{Value, labels};
use crate::logql::units;

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Float,
    Time,
    Any,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Time => "time.Time",
            Self::Any => "interface {}",
        }
    }
}

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) op: Op,
    /// The parameters that must be given.
    pub(super) fixed: &'static [Kind],
    /// The type of any number of arguments after them.
    pub(super) more: Option<Kind>,
}

/// What a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Line,
    Timestamp,
    Lower,
    Upper,
    Title,
    Trunc,
    Substr,
    Contains,
    HasPrefix,
    HasSuffix,
    Indent,
    Nindent,
    Replace,
    ReplaceSome,
    Repeat,
    TrimSpace,
    TrimAll,
    Trim,
    TrimLeft,
    TrimRight,
    TrimPrefix,
    TrimPrefixOf,
    TrimSuffix,
    TrimSuffixOf,
    Int,
    Float64,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Addf,
    Subf,
    Mulf,
    Divf,
    Max,
    Min,
    Maxf,
    Minf,
    Ceil,
    Floor,
    Round,
    FromJson,
    Date,
    ToDate,
    ToDateInZone,
    Now,
    UnixEpoch,
    UnixEpochMillis,
    UnixEpochNanos,
    UnixToTime,
    Default,
    RegexReplaceAll,
    RegexReplaceAllLiteral,
    Count,
    UrlDecode,
    UrlEncode,
    Bytes,
    Duration,
    AlignLeft,
    AlignRight,
    Base64Encode,
    Base64Decode,
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    Html,
    Js,
    Urlquery,
    Call,
}

const fn function(
    name: &'static str,
    op: Op,
    fixed: &'static [Kind],
    more: Option<Kind>,
) -> Function {
    Function {
        name,
        op,
        fixed,
        more,
    }
}

use Kind::{Any, Float, Int, Text as Str, Time as Instant};

static FUNCTIONS: [Function; 86] = [
    function("__line__", Op::Line, &[], None),
    function("__timestamp__", Op::Timestamp, &[], None),
    function("lower", Op::Lower, &[Str], None),
    function("ToLower", Op::Lower, &[Str], None),
    function("upper", Op::Upper, &[Str], None),
    function("ToUpper", Op::Upper, &[Str], None),
    function("title", Op::Title, &[Str], None),
    function("trunc", Op::Trunc, &[Int, Str], None),
    function("substr", Op::Substr, &[Int, Int, Str], None),
    function("contains", Op::Contains, &[Str, Str], None),
    function("hasPrefix", Op::HasPrefix, &[Str, Str], None),
    function("hasSuffix", Op::HasSuffix, &[Str, Str], None),
    function("indent", Op::Indent, &[Int, Str], None),
    function("nindent", Op::Nindent, &[Int, Str], None),
    function("replace", Op::Replace, &[Str, Str, Str], None),
    function("Replace", Op::ReplaceSome, &[Str, Str, Str, Int], None),
    function("repeat", Op::Repeat, &[Int, Str], None),
    function("trim", Op::TrimSpace, &[Str], None),
    function("TrimSpace", Op::TrimSpace, &[Str], None),
    function("trimAll", Op::TrimAll, &[Str, Str], None),
    function("Trim", Op::Trim, &[Str, Str], None),
    function("TrimLeft", Op::TrimLeft, &[Str, Str], None),
    function("TrimRight", Op::TrimRight, &[Str, Str], None),
    function("trimPrefix", Op::TrimPrefix, &[Str, Str], None),
    function("TrimPrefix", Op::TrimPrefixOf, &[Str, Str], None),
    function("trimSuffix", Op::TrimSuffix, &[Str, Str], None),
    function("TrimSuffix", Op::TrimSuffixOf, &[Str, Str], None),
    function("int", Op::Int, &[Any], None),
    function("float64", Op::Float64, &[Any], None),
    function("add", Op::Add, &[], Some(Any)),
    function("sub", Op::Sub, &[Any, Any], None),
    function("mul", Op::Mul, &[Any], Some(Any)),
    function("div", Op::Div, &[Any, Any], None),
    function("mod", Op::Mod, &[Any, Any], None),
    function("addf", Op::Addf, &[], Some(Any)),
    function("subf", Op::Subf, &[Any], Some(Any)),
    function("mulf", Op::Mulf, &[Any], Some(Any)),
    function("divf", Op::Divf, &[Any], Some(Any)),
    function("max", Op::Max, &[Any], Some(Any)),
    function("min", Op::Min, &[Any], Some(Any)),
    function("maxf", Op::Maxf, &[Any], Some(Any)),
    function("minf", Op::Minf, &[Any], Some(Any)),
    function("ceil", Op::Ceil, &[Any], None),
    function("floor", Op::Floor, &[Any], None),
    function("round", Op::Round, &[Any, Int], Some(Float)),
    function("fromJson", Op::FromJson, &[Str], None),
    function("date", Op::Date, &[Str, Any], None),
    function("toDate", Op::ToDate, &[Str, Str], None),
    function("toDateInZone", Op::ToDateInZone, &[Str, Str, Str], None),
    function("now", Op::Now, &[], None),
    function("unixEpoch", Op::UnixEpoch, &[Instant], None),
    function("unixEpochMillis", Op::UnixEpochMillis, &[Instant], None),
    function("unixEpochNanos", Op::UnixEpochNanos, &[Instant], None),
    function("unixToTime", Op::UnixToTime, &[Str], None),
    function("default", Op::Default, &[Any], Some(Any)),
    function(
        "regexReplaceAll",
        Op::RegexReplaceAll,
        &[Str, Str, Str],
        None,
    ),
    function(
        "regexReplaceAllLiteral",
        Op::RegexReplaceAllLiteral,
        &[Str, Str, Str],
        None,
    ),
    function("count", Op::Count, &[Str, Str], None),
    function("urldecode", Op::UrlDecode, &[Str], None),
    function("urlencode", Op::UrlEncode, &[Str], None),
    function("bytes", Op::Bytes, &[Str], None),
    function("duration", Op::Duration, &[Str], None),
    function("duration_seconds", Op::Duration, &[Str], None),
    function("alignLeft", Op::AlignLeft, &[Int, Str], None),
    function("alignRight", Op::AlignRight, &[Int, Str], None),
    function("b64enc", Op::Base64Encode, &[Str], None),
    function("b64dec", Op::Base64Decode, &[Str], None),
    function("and", Op::And, &[Any], Some(Any)),
    function("or", Op::Or, &[Any], Some(Any)),
    function("not", Op::Not, &[Any], None),
    function("eq", Op::Eq, &[Any], Some(Any)),
    function("ne", Op::Ne, &[Any, Any], None),
    function("lt", Op::Lt, &[Any, Any], None),
    function("le", Op::Le, &[Any, Any], None),
    function("gt", Op::Gt, &[Any, Any], None),
    function("ge", Op::Ge, &[Any, Any], None),
    function("len", Op::Len, &[Any], None),
    function("index", Op::Index, &[Any], Some(Any)),
    function("slice", Op::Slice, &[Any], Some(Any)),
    function("print", Op::Print, &[], Some(Any)),
    function("printf", Op::Printf, &[Str], Some(Any)),
    function("println", Op::Println, &[], Some(Any)),
    function("html", Op::Html, &[], Some(Any)),
    function("js", Op::Js, &[], Some(Any)),
    function("urlquery", Op::Urlquery, &[], Some(Any)),
    function("call", Op::Call, &[Any], Some(Any)),
];

/// The function of that name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

fn take<'a>(args: &mut [Value<'a>], index: usize) -> Value<'a> {
    args.get_mut(index).map(std::mem::take).unwrap_or_default()
}

fn text<'a>(args: &mut [Value<'a>], index: usize) -> Text<'a> {
    match take(args, index) {
        Value::Text(text) => text,
        _ => Cow::Borrowed(b""),
    }
}

fn int(args: &[Value<'_>], index: usize) -> i64 {
    match args.get(index) {
        Some(Value::Int(value)) => *value,
        _ => 0,
    }
}

fn utf8<'t>(text: &'t Text<'_>) -> Cow<'t, str> {
    String::from_utf8_lossy(text)
}

/// Calls a function with arguments of its types.
///
/// # Errors
/// The text that the function's error has in Go.
pub(super) fn call<'a>(
    op: Op,
    args: &mut [Value<'a>],
    env: &mut Env<'a, '_>,
) -> Result<Value<'a>, String> {
    use super::value::Value as V;
    match op {
        Op::Line | Op::Timestamp | Op::Now => Ok(given(op, env)),
        Op::And | Op::Or | Op::Not => Ok(V::Bool(!first(args).is_true(env.row))),
        Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => compare(op, args),
        Op::Len | Op::Index | Op::Slice => part_of(op, args, env),
        Op::Print | Op::Printf | Op::Println | Op::Html | Op::Js | Op::Urlquery => {
            print(op, args, env)
        }
        Op::Call => Err(format!("non-function of type {}", first(args).type_name())),
        Op::Int | Op::Float64 | Op::Ceil | Op::Floor | Op::Round => Ok(convert(op, args)),
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Mod | Op::Max | Op::Min => integers(op, args),
        Op::Addf | Op::Subf | Op::Mulf | Op::Divf | Op::Maxf | Op::Minf => floats(op, args),
        Op::FromJson => {
            let json = text(args, 0);
            env.room(json.len())?;
            let value = serde_json::from_slice(&json).unwrap_or_default();
            Ok(from_json(value))
        }
        Op::Date
        | Op::ToDate
        | Op::ToDateInZone
        | Op::UnixEpoch
        | Op::UnixEpochMillis
        | Op::UnixEpochNanos
        | Op::UnixToTime => dates(op, args, env),
        Op::Default => {
            let given = take(args, 1);
            Ok(if given.is_empty(env.row) {
                take(args, 0)
            } else {
                given
            })
        }
        Op::RegexReplaceAll | Op::RegexReplaceAllLiteral | Op::Count => regexes(op, args, env),
        Op::Bytes => {
            let bytes = units::bytes(&utf8(&text(args, 0)))?;
            Ok(V::Float(bytes as f64))
        }
        Op::Duration => {
            let nanos = units::go_duration(&utf8(&text(args, 0)))?;
            Ok(V::Float(nanos as f64 / 1e9))
        }
        Op::Contains | Op::HasPrefix | Op::HasSuffix => {
            let (part, whole) = (text(args, 0), text(args, 1));
            Ok(V::Bool(match op {
                Op::Contains => memchr::memmem::find(&whole, &part).is_some(),
                Op::HasPrefix => whole.starts_with(&part),
                _ => whole.ends_with(&part),
            }))
        }
        _ => texts(op, args, env).map(V::Text),
    }
}

fn first<'v, 'a>(args: &'v [Value<'a>]) -> &'v Value<'a> {
    args.first().unwrap_or(&Value::Nil)
}

fn given<'a>(op: Op, env: &Env<'a, '_>) -> Value<'a> {
    match op {
        Op::Line => Value::text(env.row.line),
        Op::Timestamp => Value::Time(Rc::new(Time::of_nanos(env.row.timestamp_ns))),
        _ => Value::Time(Rc::new(Time::of_nanos(env.now_ns))),
    }
}

fn compare<'a>(op: Op, args: &[Value<'a>]) -> Result<Value<'a>, String> {
    let first = first(args);
    let rest = args.get(1..).unwrap_or_default();
    if op == Op::Eq || op == Op::Ne {
        if rest.is_empty() {
            return Err("missing argument for comparison".to_owned());
        }
        for other in rest {
            if first.equals(other)? {
                return Ok(Value::Bool(op == Op::Eq));
            }
        }
        return Ok(Value::Bool(op == Op::Ne));
    }
    let order = first.order(rest.first().unwrap_or(&Value::Nil))?;
    Ok(Value::Bool(match op {
        Op::Lt => order == Some(Ordering::Less),
        Op::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Op::Gt => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }))
}

fn part_of<'a>(op: Op, args: &mut [Value<'a>], env: &Env<'a, '_>) -> Result<Value<'a>, String> {
    let whole = take(args, 0);
    let places = args.get(1..).unwrap_or_default();
    match op {
        Op::Len => {
            let len = match &whole {
                Value::Text(text) => text.len(),
                Value::List(list) => list.len(),
                Value::Map(map) => map.len(),
                Value::Row => labels(env.row).len(),
                Value::Nil => return Err("len of nil pointer".to_owned()),
                other => return Err(format!("len of type {}", other.type_name())),
            };
            Ok(Value::Int(i64::try_from(len).unwrap_or(i64::MAX)))
        }
        Op::Index => places
            .iter()
            .try_fold(whole, |whole, place| index(&whole, place, env)),
        _ => slice(whole, places),
    }
}

fn index<'a>(whole: &Value<'a>, place: &Value<'a>, env: &Env<'a, '_>) -> Result<Value<'a>, String> {
    let bad_key = |place: &Value<'_>| match place {
        Value::Nil => "value is nil; should be of type string".to_owned(),
        place => format!("value has type {}; should be string", place.type_name()),
    };
    match (whole, place) {
        (Value::Row, Value::Text(name)) => Ok(env.label(&utf8(name))),
        (Value::Map(map), Value::Text(key)) => Ok(map.get(&**key).cloned().unwrap_or_default()),
        (Value::Row | Value::Map(_), place) => Err(bad_key(place)),
        (Value::List(list), place) => {
            let at = offset(place, list.len().checked_sub(1))?;
            Ok(list.get(at).cloned().unwrap_or_default())
        }
        (Value::Text(text), place) => {
            let at = offset(place, text.len().checked_sub(1))?;
            Ok(Value::Int(i64::from(text.get(at).copied().unwrap_or(0))))
        }
        (Value::Nil, _) => Err("index of untyped nil".to_owned()),
        (other, _) => Err(format!("can't index item of type {}", other.type_name())),
    }
}

/// A place in a list or text whose last place is `last`.
fn offset(place: &Value<'_>, last: Option<usize>) -> Result<usize, String> {
    match place {
        Value::Int(at) | Value::Int64(at) => usize::try_from(*at)
            .ok()
            .filter(|at| last.is_some_and(|last| *at <= last))
            .ok_or_else(|| format!("index out of range: {at}")),
        Value::Nil => Err("cannot index slice/array with nil".to_owned()),
        place => Err(format!(
            "cannot index slice/array with type {}",
            place.type_name()
        )),
    }
}

fn slice<'a>(whole: Value<'a>, places: &[Value<'a>]) -> Result<Value<'a>, String> {
    let len = match &whole {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Nil => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let most = if matches!(whole, Value::Text(_)) {
        2
    } else {
        3
    };
    if places.len() > 3 {
        return Err(format!("too many slice indexes: {}", places.len()));
    }
    if places.len() > most {
        return Err("cannot 3-index slice a string".to_owned());
    }
    let mut ends = [0, len];
    for (end, place) in ends.iter_mut().zip(places) {
        *end = offset(place, Some(len))?;
    }
    let [start, end] = ends;
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    Ok(match whole {
        Value::Text(text) => Value::Text(strings::part(text, |text| {
            text.get(start..end).unwrap_or_default()
        })),
        Value::List(list) => {
            Value::List(Rc::new(list.get(start..end).unwrap_or_default().to_vec()))
        }
        other => other,
    })
}

fn print<'a>(op: Op, args: &mut [Value<'a>], env: &mut Env<'a, '_>) -> Result<Value<'a>, String> {
    let mut out = Vec::new();
    if op == Op::Printf {
        let format = text(args, 0);
        let values = args.get(1..).unwrap_or_default();
        printf(&format, values, env.row, env.left(), &mut out)?;
        env.room(out.len())?;
        return Ok(Value::text(out));
    }
    env.room(
        args.iter()
            .map(Value::weight)
            .fold(0, usize::saturating_add),
    )?;
    let is_text = |value: Option<&Value<'_>>| matches!(value, Some(Value::Text(_)));
    for (i, value) in args.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|before| args.get(before));
        let spaced = op == Op::Println || !(is_text(before) || is_text(Some(value)));
        if i > 0 && spaced {
            out.push(b' ');
        }
        value.print(env.row, "<nil>", &mut out);
    }
    let out = match op {
        Op::Html => strings::html(&out),
        Op::Js => strings::js(&out),
        Op::Urlquery => strings::url_encode(&out),
        Op::Println => {
            out.push(b'\n');
            out
        }
        _ => out,
    };
    env.room(out.len())?;
    Ok(Value::text(out))
}

fn convert<'a>(op: Op, args: &[Value<'a>]) -> Value<'a> {
    let value = first(args);
    match op {
        Op::Int => Value::Int(to_int(value)),
        Op::Float64 => Value::Float(to_float(value)),
        Op::Ceil => Value::Float(to_float(value).ceil()),
        Op::Floor => Value::Float(to_float(value).floor()),
        _ => {
            let from = args.get(2).map_or(0.5, to_float);
            Value::Float(number::round(to_float(value), int(args, 1), from))
        }
    }
}

fn integers<'a>(op: Op, args: &[Value<'a>]) -> Result<Value<'a>, String> {
    let mut values = args.iter().map(to_int);
    let by_zero = || "runtime error: integer divide by zero".to_owned();
    let value = match op {
        Op::Add => values.fold(0, i64::wrapping_add),
        Op::Mul => values.fold(1, i64::wrapping_mul),
        Op::Max => values.max().unwrap_or(0),
        Op::Min => values.min().unwrap_or(0),
        op => {
            let a = values.next().unwrap_or(0);
            let b = values.next().unwrap_or(0);
            match op {
                Op::Sub => a.wrapping_sub(b),
                _ if b == 0 => return Err(by_zero()),
                Op::Div => a.wrapping_div(b),
                _ => a.wrapping_rem(b),
            }
        }
    };
    Ok(Value::Int64(value))
}

fn floats<'a>(op: Op, args: &[Value<'a>]) -> Result<Value<'a>, String> {
    let (first, rest) = (to_float(first(args)), args.get(1..).unwrap_or_default());
    Ok(Value::Float(match op {
        Op::Addf => number::decimal(Decimal::Add, 0.0, args)?,
        Op::Subf => number::decimal(Decimal::Sub, first, rest)?,
        Op::Mulf => number::decimal(Decimal::Mul, first, rest)?,
        Op::Divf => number::decimal(Decimal::Div, first, rest)?,
        Op::Maxf => rest.iter().map(to_float).fold(first, f64::max),
        _ => rest.iter().map(to_float).fold(first, f64::min),
    }))
}

fn from_json<'a>(json: serde_json::Value) -> Value<'a> {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or(0.0)),
        Json::String(text) => Value::owned(text),
        Json::Array(list) => Value::List(Rc::new(list.into_iter().map(from_json).collect())),
        Json::Object(members) => {
            let members = members.into_iter();
            let map: BTreeMap<Vec<u8>, Value<'a>> = members
                .map(|(key, value)| (key.into_bytes(), from_json(value)))
                .collect();
            Value::Map(Rc::new(map))
        }
    }
}

fn dates<'a>(op: Op, args: &mut [Value<'a>], env: &mut Env<'a, '_>) -> Result<Value<'a>, String> {
    let utc = jiff::tz::TimeZone::UTC;
    if let Value::Time(time) = first(args) {
        return Ok(Value::owned(epoch(op, time)));
    }
    let layout = text(args, 0);
    Ok(match op {
        Op::Date => {
            let time = match take(args, 1) {
                Value::Time(time) => time,
                Value::Int(seconds) | Value::Int64(seconds) => Rc::new(Time::utc(seconds, 0)),
                _ => Rc::new(Time::of_nanos(env.now_ns)),
            };
            let mut out = String::new();
            // The longest that a chunk of a layout is written as: a fraction is as long as it is.
            env.room(layout.len().saturating_mul(10))?;
            time.format(&utf8(&layout), &mut out);
            Value::owned(out)
        }
        Op::ToDate => {
            let time = Time::parse(&utf8(&layout), &utf8(&text(args, 1)), &utc);
            Value::Time(Rc::new(time.unwrap_or_else(Time::zero)))
        }
        Op::ToDateInZone => {
            let name = text(args, 1);
            let zone = jiff::tz::TimeZone::get(&utf8(&name)).unwrap_or(utc);
            let time = Time::parse(&utf8(&layout), &utf8(&text(args, 2)), &zone);
            Value::Time(Rc::new(time.unwrap_or_else(Time::zero)))
        }
        _ => Value::Time(Rc::new(unix_to_time(&utf8(&layout))?)),
    })
}

fn epoch(op: Op, time: &Time) -> String {
    match op {
        Op::UnixEpoch => time.seconds().to_string(),
        Op::UnixEpochMillis => time.units(1000).to_string(),
        _ => time.units(1_000_000_000).to_string(),
    }
}

/// An instant by its number: of days, seconds, or parts of seconds by how many digits it has.
fn unix_to_time(text: &str) -> Result<Time, String> {
    let error = |what: &str| format!("unable to parse time '{text}': {what}");
    let value: i64 = text.parse().map_err(|_| {
        let quoted = crate::text::quote(text);
        error(&format!(
            "strconv.ParseInt: parsing {quoted}: invalid syntax"
        ))
    })?;
    match text.len() {
        5 => Ok(Time::utc(value.wrapping_mul(86_400), 0)),
        10 => Ok(Time::utc(value, 0)),
        13 => Ok(Time::of_nanos(value.wrapping_mul(1_000_000))),
        16 => Ok(Time::of_nanos(value.wrapping_mul(1000))),
        19 => Ok(Time::of_nanos(value)),
        _ => Err(error("%!w(<nil>)")),
    }
}

fn regexes<'a>(op: Op, args: &mut [Value<'a>], env: &mut Env<'a, '_>) -> Result<Value<'a>, String> {
    let (pattern, line) = (text(args, 0), text(args, 1));
    let new = text(args, 2);
    let most = env.left();
    let (regex, locations) = env.regex(&pattern)?;
    if op == Op::Count {
        let mut count = 0;
        regex.each_match(&line, locations, |_| {
            count += 1;
            true
        });
        return Ok(Value::Int(count));
    }
    let new_text = utf8(&new);
    let replacement = (op == Op::RegexReplaceAll).then(|| Replacement::new(&new_text, regex));
    let mut out = Vec::new();
    let mut from = 0;
    regex.each_match(&line, locations, |locations| {
        let found = locations.get(0).unwrap_or_default();
        out.extend_from_slice(line.get(from..found.start).unwrap_or_default());
        match &replacement {
            Some(replacement) => replacement.expand(&line, locations, &mut out),
            None => out.extend_from_slice(&new),
        }
        from = found.end;
        out.len() <= most
    });
    out.extend_from_slice(line.get(from..).unwrap_or_default());
    env.room(out.len())?;
    Ok(Value::text(out))
}

/// Compiles an expression for [`Env::regex`].
pub(super) fn compile(pattern: &[u8]) -> Result<LineRegex, String> {
    LineRegex::new(&String::from_utf8_lossy(pattern)).map_err(|error| error.to_string())
}

fn texts<'a>(op: Op, args: &mut [Value<'a>], env: &mut Env<'a, '_>) -> Result<Text<'a>, String> {
    let number = int(args, 0);
    let count = usize::try_from(number);
    let repeats = || count.map_err(|_| "strings: negative Repeat count".to_owned());
    match op {
        Op::Trunc => {
            return Ok(strings::part(text(args, 1), |text| trunc(text, number)));
        }
        Op::Substr => return substr(text(args, 2), number, int(args, 1)),
        Op::Trim => return Ok(strings::trim(text(args, 0), &text(args, 1), true, true)),
        Op::TrimLeft => return Ok(strings::trim(text(args, 0), &text(args, 1), true, false)),
        Op::TrimRight => return Ok(strings::trim(text(args, 0), &text(args, 1), false, true)),
        Op::TrimAll => return Ok(strings::trim(text(args, 1), &text(args, 0), true, true)),
        Op::TrimSpace => return Ok(strings::trim_space(text(args, 0))),
        Op::TrimPrefix | Op::TrimPrefixOf | Op::TrimSuffix | Op::TrimSuffixOf => {
            let swapped = matches!(op, Op::TrimPrefixOf | Op::TrimSuffixOf);
            let (a, b) = (text(args, 0), text(args, 1));
            let (whole, cut) = if swapped { (a, b) } else { (b, a) };
            let is_front = matches!(op, Op::TrimPrefix | Op::TrimPrefixOf);
            return Ok(strings::part(whole, |whole| {
                let kept = if is_front {
                    whole.strip_prefix(&*cut)
                } else {
                    whole.strip_suffix(&*cut)
                };
                kept.unwrap_or(whole)
            }));
        }
        _ => {}
    }
    let made: Vec<u8> = match op {
        Op::Replace | Op::ReplaceSome => {
            let (a, b, c) = (text(args, 0), text(args, 1), text(args, 2));
            let most = if op == Op::ReplaceSome {
                int(args, 3)
            } else {
                -1
            };
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let (whole, old, new) = if op == Op::Replace {
                (c, a, b)
            } else {
                (a, b, c)
            };
            env.room(strings::replaced_len(&whole, &old, &new, most))?;
            return Ok(strings::replace(whole, &old, &new, most));
        }
        Op::Repeat => {
            let (text, count) = (text(args, 1), repeats()?);
            env.room(text.len().saturating_mul(count))?;
            return Ok(text.repeat(count).into());
        }
        Op::Indent | Op::Nindent => {
            let (text, count) = (text(args, 1), repeats()?);
            let lines = memchr::memchr_iter(b'\n', &text).count() + 1;
            env.room(lines.saturating_mul(count).saturating_add(text.len()))?;
            let pad = b" ".repeat(count);
            let body = strings::replace(text, b"\n", &[b"\n", &*pad].concat(), usize::MAX);
            let newline: &[u8] = if op == Op::Nindent { b"\n" } else { b"" };
            return Ok([newline, &pad, &body].concat().into());
        }
        Op::AlignLeft | Op::AlignRight => {
            let text = text(args, 1);
            env.room(
                usize::try_from(number)
                    .unwrap_or(0)
                    .saturating_add(text.len()),
            )?;
            let aligned = strings::align(&text, number, op == Op::AlignLeft);
            return Ok(aligned.map_or(text, Cow::Owned));
        }
        Op::Lower => strings::lower(&text(args, 0)),
        Op::Upper => strings::upper(&text(args, 0)),
        Op::Title => strings::title(&text(args, 0)),
        Op::UrlEncode => strings::url_encode(&text(args, 0)),
        Op::UrlDecode => strings::url_decode(&text(args, 0))?,
        Op::Base64Encode => strings::base64_encode(&text(args, 0)),
        // What cannot be decoded is not an error: its text is the result.
        _ => strings::base64_decode(&text(args, 0)).unwrap_or_else(String::into_bytes),
    };
    env.room(made.len())?;
    Ok(made.into())
}

/// So many bytes of the front, or of the end for a negative number.
fn trunc(text: &[u8], count: i64) -> &[u8] {
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if size >= text.len() {
        return text;
    }
    let range = if count < 0 {
        text.len() - size..text.len()
    } else {
        0..size
    };
    text.get(range).unwrap_or_default()
}

fn substr(text: Text<'_>, start: i64, end: i64) -> Result<Text<'_>, String> {
    let len = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let out_of_range = |what: String| format!("runtime error: slice bounds out of range {what}");
    let (start, end) = if start < 0 {
        if end < 0 {
            return Err(out_of_range(format!("[:{end}]")));
        }
        if end > len {
            return Err(out_of_range(format!("[:{end}] with length {len}")));
        }
        (0, end)
    } else if end < 0 || end > len {
        if start > len {
            return Err(out_of_range(format!("[{start}:{len}]")));
        }
        (start, len)
    } else {
        if start > end {
            return Err(out_of_range(format!("[{start}:{end}]")));
        }
        (start, end)
    };
    let range = usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
    Ok(strings::part(text, |text| {
        text.get(range.clone()).unwrap_or_default()
    }))
}
