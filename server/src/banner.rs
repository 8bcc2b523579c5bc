//! What the server prints when it is ready: where each API listens, and how to see something at
//! once. `lib` prints it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The text for a server that listens on `addresses`; `storage` says what it does with its bucket.
pub fn banner(addresses: &[SocketAddr], data_dir: &Path, storage: Option<&str>) -> String {
    let url = |port: u16| {
        let found = addresses.iter().find(|address| address.port() == port);
        found
            .or_else(|| addresses.first())
            .map_or_else(String::new, |&address| shown(address))
    };
    let (prometheus, loki, tempo) = (url(9090), url(3100), url(3200));
    let mut out = String::new();
    let version = env!("CARGO_PKG_VERSION");
    // Writing to a String cannot fail.
    writeln!(
        out,
        "trine {version} is ready. Its data is in {}.",
        data_dir.display()
    )
    .ok();
    if let Some(storage) = storage {
        writeln!(out, "{storage}").ok();
    }
    out.push('\n');
    for (name, url, what) in [
        (
            "Prometheus",
            &prometheus,
            "data source; remote write to /api/v1/write",
        ),
        ("Loki", &loki, "data source; push to /loki/api/v1/push"),
        ("Tempo", &tempo, "data source"),
        ("OTLP", &url(4318), "HTTP, /v1/metrics /v1/logs /v1/traces"),
        ("OTLP", &url(4317), "gRPC"),
        ("Jaeger", &url(16686), "data source"),
        ("Jaeger", &url(14268), "Thrift to /api/traces"),
        ("Zipkin", &url(9411), "JSON to /api/v2/spans"),
    ] {
        writeln!(out, "  {name:<11} {url:<24} {what}").ok();
    }
    write!(
        out,
        "\nEvery port answers every API. The server stores its own metrics, logs and traces in \
         the tenant trine:\n\n\
         curl -sG -H 'X-Scope-OrgID: trine' {prometheus}/api/v1/query --data-urlencode 'query=up'\n\
         curl -sG -H 'X-Scope-OrgID: trine' {loki}/loki/api/v1/query_range --data-urlencode \
         'query={{job=\"trine\"}}'\n\
         curl -sG -H 'X-Scope-OrgID: trine' {tempo}/api/search --data-urlencode \
         'q={{resource.service.name=\"trine\"}}'\n"
    )
    .ok();
    out
}

/// An address as a client of this machine writes it.
fn shown(address: SocketAddr) -> String {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    format!("http://{host}:{}", address.port())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::banner;

    #[test]
    fn each_api_is_shown_where_its_clients_expect_it() {
        let all: Vec<_> = [9090, 3100, 3200, 4317, 4318, 16686, 14268, 9411]
            .into_iter()
            .map(|port| format!("127.0.0.1:{port}").parse().unwrap())
            .collect();
        let text = banner(&all, Path::new("./data"), None);
        assert!(
            text.contains(" is ready. Its data is in ./data.\n\n  Prometheus "),
            "{text}"
        );
        for expect in [
            "Loki        http://127.0.0.1:3100 ",
            "OTLP        http://127.0.0.1:4317 ",
            "Jaeger      http://127.0.0.1:16686 ",
            "Jaeger      http://127.0.0.1:14268 ",
            "Zipkin      http://127.0.0.1:9411 ",
            "http://127.0.0.1:9090/api/v1/query --data-urlencode 'query=up'",
            "http://127.0.0.1:3200/api/search",
        ] {
            assert!(text.contains(expect), "{text}");
        }
        let text = banner(
            &["0.0.0.0:80".parse().unwrap()],
            Path::new("/d"),
            Some("It ships."),
        );
        assert!(text.contains(" in /d.\nIt ships.\n\n"), "{text}");
        assert!(
            text.contains("http://127.0.0.1:80/loki/api/v1/query_range"),
            "{text}"
        );
    }
}
