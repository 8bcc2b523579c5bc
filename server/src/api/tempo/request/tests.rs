//! What parameters mean, and in which words they are refused.

use std::collections::HashMap;

use super::*;
use crate::ingest::otlp_value::hex;

#[test]
fn trace_ids() {
    let full = "2f3e0cee77ae5dc9c17ade3689eb2e54";
    for (text, expect) in [
        (full, full),
        ("1", "00000000000000000000000000000001"),
        ("ABC", "00000000000000000000000000000abc"),
    ] {
        assert_eq!(trace_id(text).map(|id| hex(&id)), Ok(expect.to_owned()));
    }
    for (text, why) in [
        (
            "12x4",
            "trace IDs can only contain hex characters: invalid character 'x' at position 3",
        ),
        (
            "+1",
            "trace IDs can only contain hex characters: invalid character '+' at position 1",
        ),
        (
            &format!("0{full}"),
            "trace IDs can't be larger than 128 bits",
        ),
        (
            &format!("1{full}"),
            "trace IDs can't be larger than 128 bits",
        ),
    ] {
        assert_eq!(trace_id(text), Err(Refusal::bad(why)), "{text}");
    }
}

fn plain() -> Search {
    Search {
        query: "{}".to_owned(),
        range: TimeRange::new(i64::MIN, i64::MAX),
        limit: 20,
        spans_per_set: 3,
    }
}

#[test]
fn searches() {
    let limits = Traces::default();
    let check = |query: &str| search(&Params::from_query(query), &limits).map_err(|e| e.text);
    assert_eq!(check(""), Ok(plain()));
    let range = TimeRange::new(SECOND_NS, 3 * SECOND_NS);
    let query = "{name=\"a\"}".to_owned();
    assert_eq!(
        check("q={name=%22a%22}&start=1&end=2&limit=262144&spss=0"),
        Ok(Search {
            query,
            range,
            limit: 262_144,
            spans_per_set: 100
        })
    );
    assert_eq!(check("spss=100").map(|s| s.spans_per_set), Ok(100));
    let week = check("start=1&end=604801").map(|s| s.range.end);
    assert_eq!(week, Ok(604_802 * SECOND_NS));
    let tags = check("tags=a=b&minDuration=1ms&maxDuration=1s").map(|s| s.query);
    let expect = r#"{ .a = "b" && traceDuration >= 1000000ns && traceDuration <= 1000000000ns }"#;
    assert_eq!(tags, Ok(expect.to_owned()));
    for (query, why) in [
        (
            "q={}&tags=a=b",
            "invalid request: can't specify tags and q in the same query",
        ),
        ("limit=0", "invalid limit: must be a positive number"),
        ("limit=-1", "invalid limit: must be a positive number"),
        (
            "limit=x",
            "invalid limit: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        ("limit=262145", "limit 262145 exceeds max limit 262144"),
        ("spss=101", "spans per span set exceeds 100. received 101"),
        (
            "spss=-1",
            "invalid spss: strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
        (
            "start=1",
            "only one of start and end provided: must provide both or neither",
        ),
        (
            "end=1",
            "only one of start and end provided: must provide both or neither",
        ),
        (
            "start=2&end=2",
            "http parameter start must be before end. received start=2 end=2",
        ),
        (
            "start=3&end=2",
            "http parameter start must be before end. received start=3 end=2",
        ),
        (
            "start=x&end=2",
            "invalid start: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "start=1&end=99999999999",
            "invalid end: strconv.ParseUint: parsing \"99999999999\": value out of range",
        ),
        (
            "start=1&end=604802",
            "range specified by start and end exceeds 168h0m0s. received start=1 end=604802",
        ),
        ("tags=a=1 a=2", "invalid tags: tag a has been set twice"),
        (
            "minDuration=x",
            "invalid minDuration: not a valid duration string: \"x\"",
        ),
        (
            "minDuration=2s&maxDuration=1s",
            "invalid maxDuration: must be greater than minDuration",
        ),
    ] {
        assert_eq!(check(query), Err(why.to_owned()), "{query}");
    }
}

#[test]
fn limits_of_zero_are_none() {
    let limits = Traces {
        search_duration_max: Duration::ZERO,
        result_limit_max: 0,
        spans_per_set_max: 0,
        ..Traces::default()
    };
    let params = Params::from_query("start=1&end=4294967295&limit=4294967295&spss=0");
    let found = search(&params, &limits).unwrap();
    assert_eq!((found.limit, found.spans_per_set), (4_294_967_295, 0));
}

#[test]
fn searches_that_are_messages() {
    let limits = Traces::default();
    let check = |message: &SearchRequest| {
        Search::of_message(message, &limits).map_err(|refusal| refusal.text)
    };
    assert_eq!(check(&SearchRequest::default()), Ok(plain()));
    let told = SearchRequest {
        query: "{ true }".to_owned(),
        limit: 1,
        spans_per_span_set: 7,
        start: 1,
        end: 2,
        ..SearchRequest::default()
    };
    assert_eq!(
        check(&told),
        Ok(Search {
            query: "{ true }".to_owned(),
            range: TimeRange::new(SECOND_NS, 3 * SECOND_NS),
            limit: 1,
            spans_per_set: 7
        })
    );
    let pair = |name: &str| (name.to_owned(), "v".to_owned());
    let tags = SearchRequest {
        tags: HashMap::from([pair("b"), pair("a")]),
        min_duration_ms: 2,
        ..SearchRequest::default()
    };
    let query = r#"{ .a = "v" && .b = "v" && traceDuration >= 2000000ns }"#;
    assert_eq!(
        check(&tags).map(|search| search.query),
        Ok(query.to_owned())
    );
    let both = SearchRequest {
        query: "{}".to_owned(),
        ..tags
    };
    let why = "invalid request: can't specify tags and q in the same query";
    assert_eq!(check(&both), Err(why.to_owned()));
    let long = SearchRequest {
        limit: 262_145,
        ..SearchRequest::default()
    };
    let why = "limit 262145 exceeds max limit 262144";
    assert_eq!(check(&long), Err(why.to_owned()));
}

#[test]
fn queries_have_a_size() {
    let limits = Traces::default();
    let of_bytes = |bytes: usize| format!("{{ name = \"{}\" }}", "x".repeat(bytes - 13));
    assert!(parse(&of_bytes(128 << 10), &limits).is_ok());
    let refused = parse(&of_bytes((128 << 10) + 1), &limits).unwrap_err();
    assert_eq!(
        refused.text,
        "TraceQL expression exceeds the configured maximum size of 131072 bytes, reduce the query \
         expression size or contact your system administrator"
    );
    let refused = parse("{", &limits).unwrap_err();
    assert!(
        refused
            .text
            .starts_with("invalid TraceQL query: parse error at ")
    );
}

#[test]
fn limits_of_lists() {
    let check = |query: &str| list_limit(&Params::from_query(query)).map_err(|e| e.text);
    for (query, expect) in [("", None), ("limit=0", None), ("limit=5000", Some(5000))] {
        assert_eq!(check(query), Ok(expect), "{query}");
    }
    let why = "invalid limit: strconv.ParseUint: parsing \"-\": invalid syntax";
    assert_eq!(check("limit=-"), Err(why.to_owned()));
}
