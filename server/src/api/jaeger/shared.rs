//! Spans of Zipkin's clients that share an id: the client's and the server's of one call. Jaeger's UI
//! tells spans by their ids, so the server's gets one of its own below the client's.
//! The handlers in `jaeger` call [`tell_apart`].

use std::collections::{HashMap, HashSet};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};

fn spans(trace: &[ResourceSpans]) -> impl Iterator<Item = &Span> {
    let scopes = trace.iter().flat_map(|spans| &spans.scope_spans);
    scopes.flat_map(|spans| &spans.spans)
}

/// Gives a new id to every server's span that has the id of a client's span, makes the client's its
/// parent, and makes it the parent of what was below the shared id.
pub(super) fn tell_apart(trace: &mut [ResourceSpans]) {
    let (client, server) = (i32::from(SpanKind::Client), i32::from(SpanKind::Server));
    let of_kind = |kind: i32| spans(trace).filter(move |span| span.kind == kind);
    let clients: HashSet<&[u8]> = of_kind(client).map(|span| &*span.span_id).collect();
    let mut shared = of_kind(server)
        .filter(|span| clients.contains(&*span.span_id))
        .peekable();
    if shared.peek().is_none() {
        return;
    }
    let taken: HashSet<&[u8]> = spans(trace).map(|span| &*span.span_id).collect();
    let mut next = 0u64;
    let mut free = || {
        loop {
            next += 1;
            let id = next.to_be_bytes();
            if !taken.contains(&id[..]) {
                return id.to_vec();
            }
        }
    };
    let own: HashMap<Vec<u8>, Vec<u8>> =
        shared.map(|span| (span.span_id.clone(), free())).collect();
    let scopes = trace.iter_mut().flat_map(|spans| &mut spans.scope_spans);
    for span in scopes.flat_map(|spans| &mut spans.spans) {
        if let Some(id) = own.get(&span.span_id)
            && span.kind == server
        {
            span.parent_span_id = std::mem::replace(&mut span.span_id, id.clone());
        } else if let Some(id) = own.get(&span.parent_span_id) {
            span.parent_span_id.clone_from(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

    use super::*;

    fn id(number: u64) -> Vec<u8> {
        match number {
            0 => Vec::new(),
            number => number.to_be_bytes().to_vec(),
        }
    }

    #[test]
    fn a_server_with_the_id_of_a_client_gets_its_own() {
        let (client, server) = (SpanKind::Client, SpanKind::Server);
        let span = |(span_id, parent, kind): (u64, u64, SpanKind)| Span {
            span_id: id(span_id),
            parent_span_id: id(parent),
            kind: kind.into(),
            ..Span::default()
        };
        let all = [
            (1, 0, server),
            (5, 1, client),
            (5, 1, server),
            (6, 5, client),
            (6, 5, server),
            (7, 6, SpanKind::Internal),
        ];
        let mut trace = [ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: all.map(span).to_vec(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }];
        tell_apart(&mut trace);
        let told: Vec<_> = spans(&trace)
            .map(|span| (span.span_id.clone(), span.parent_span_id.clone()))
            .collect();
        let expect = [(1, 0), (5, 1), (2, 5), (6, 2), (3, 6), (7, 3)];
        assert_eq!(told, expect.map(|(own, parent)| (id(own), id(parent))));
        let before = trace.clone();
        tell_apart(&mut trace);
        assert_eq!(trace, before, "nothing is left to tell apart");
    }
}
