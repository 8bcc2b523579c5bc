//! Names of OTLP metrics and attributes as Prometheus writes them: characters escaped to `_`,
//! unit and `_total` as suffixes. `ingest::otlp_metrics` calls it.

/// What decides the suffixes of a metric's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A monotonic sum: ends in `_total`.
    Counter,
    /// A gauge, or a sum that may go down.
    Gauge,
    /// Anything else.
    Other,
}

/// The Prometheus name of the metric `name` with `unit`.
pub fn metric_name(name: &str, unit: &str, shape: Shape) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut tokens: Vec<&str> = name
        .split(|c: char| !is_part(c))
        .filter(|token| !token.is_empty())
        .collect();
    let (main, per) = units(unit);
    for suffix in [main.as_deref(), per.as_deref()].into_iter().flatten() {
        for token in suffix.split('_') {
            if !token.is_empty() && (token == "per" || !tokens.contains(&token)) {
                tokens.push(token);
            }
        }
        // `per` without what comes after it, because that token was there already.
        if tokens.last() == Some(&"per") {
            tokens.pop();
        }
    }
    match shape {
        Shape::Counter => {
            tokens.retain(|token| *token != "total");
            tokens.push("total");
        }
        Shape::Gauge if unit == "1" => {
            tokens.retain(|token| *token != "ratio");
            tokens.push("ratio");
        }
        Shape::Gauge | Shape::Other => {}
    }
    let mut out = tokens.join("_");
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// The suffixes of a unit: the one before `/` and, with `per_`, the one after it.
fn units(unit: &str) -> (Option<String>, Option<String>) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let known = |text: &str, table: &[(&str, &str)]| {
        let text = text.trim();
        if text.is_empty() || text.contains(['{', '}']) {
            return None;
        }
        let word = table
            .iter()
            .find(|(short, _)| *short == text)
            .map_or(text, |(_, long)| long);
        let clean: Vec<&str> = word
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|token| !token.is_empty())
            .collect();
        Some(clean.join("_")).filter(|clean| !clean.is_empty())
    };
    (
        known(main, MAIN_UNITS),
        known(per, PER_UNITS).map(|word| format!("per_{word}")),
    )
}

const MAIN_UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

const PER_UNITS: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The Prometheus name of an attribute as a label.
pub fn label_name(key: &str) -> String {
    let mut out: String = key
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "key_");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Shape, label_name, metric_name};

    #[test]
    fn metric_names() {
        use Shape::{Counter, Gauge, Other};
        for (name, unit, shape, expect) in [
            (
                "system.network.io",
                "By",
                Counter,
                "system_network_io_bytes_total",
            ),
            (
                "http.server.request.duration",
                "s",
                Other,
                "http_server_request_duration_seconds",
            ),
            (
                "http.server.duration",
                "ms",
                Other,
                "http_server_duration_milliseconds",
            ),
            ("requests", "{request}", Counter, "requests_total"),
            ("requests.total", "1", Counter, "requests_total"),
            ("total.requests", "", Counter, "requests_total"),
            ("cpu.utilization", "1", Gauge, "cpu_utilization_ratio"),
            ("cpu.utilization", "1", Other, "cpu_utilization"),
            ("disk.speed", "By/s", Gauge, "disk_speed_bytes_per_second"),
            ("io", "{op}/s", Gauge, "io_per_second"),
            ("memory.bytes", "By", Gauge, "memory_bytes"),
            ("memory_usage", "MiBy", Gauge, "memory_usage_mebibytes"),
            ("2xx", "", Gauge, "_2xx"),
            ("a..b--c", "", Gauge, "a_b_c"),
            ("a:b", "", Gauge, "a:b"),
            ("temp", "Cel", Gauge, "temp_celsius"),
            ("x", "%", Gauge, "x_percent"),
            ("x", "my unit", Gauge, "x_my_unit"),
            ("x.per.second", "1/s", Gauge, "x_per_second"),
        ] {
            assert_eq!(
                metric_name(name, unit, shape),
                expect,
                "{name} {unit} {shape:?}"
            );
        }
    }

    #[test]
    fn label_names() {
        for (key, expect) in [
            ("http.route", "http_route"),
            ("already_good", "already_good"),
            ("0day", "key_0day"),
            ("_x", "_x"),
            ("é", "_"),
        ] {
            assert_eq!(label_name(key), expect, "{key}");
        }
    }
}
