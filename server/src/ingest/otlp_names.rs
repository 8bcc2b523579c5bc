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

/// How names become those of Prometheus, by Prometheus' words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Characters that old Prometheus names may not have become `_`; unit and type are suffixes.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// The characters become `_`; names have no suffixes.
    UnderscoreEscapingWithoutSuffixes,
    /// Names keep their characters; unit and type are suffixes.
    NoUtf8EscapingWithSuffixes,
    /// Names stay what they are.
    NoTranslation,
}

/// The strategies by the words of the configuration.
const STRATEGIES: [(&str, Strategy); 4] = [
    (
        "UnderscoreEscapingWithSuffixes",
        Strategy::UnderscoreEscapingWithSuffixes,
    ),
    (
        "UnderscoreEscapingWithoutSuffixes",
        Strategy::UnderscoreEscapingWithoutSuffixes,
    ),
    (
        "NoUTF8EscapingWithSuffixes",
        Strategy::NoUtf8EscapingWithSuffixes,
    ),
    ("NoTranslation", Strategy::NoTranslation),
];

impl Strategy {
    /// The strategy that a word of the configuration means.
    ///
    /// # Errors
    /// What it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = STRATEGIES.iter().find(|(word, _)| *word == text);
        found.map(|(_, strategy)| *strategy).ok_or_else(|| {
            let words = STRATEGIES.map(|(word, _)| word).join(", ");
            format!("{text:?} is not a translation strategy; they are {words}")
        })
    }

    fn escapes(self) -> bool {
        matches!(
            self,
            Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes
        )
    }

    /// The Prometheus name of the metric `name` with `unit`; empty when nothing of it is left.
    pub fn metric_name(self, name: &str, unit: &str, shape: Shape) -> String {
        match self {
            Self::UnderscoreEscapingWithSuffixes => escaped_with_suffixes(name, unit, shape),
            Self::UnderscoreEscapingWithoutSuffixes => {
                let kept = |c: char| c.is_ascii_alphanumeric() || c == ':' || c == '_';
                let pieces = name.split(|c| !kept(c)).filter(|piece| !piece.is_empty());
                not_a_digit_first(pieces.collect::<Vec<_>>().join("_"))
            }
            Self::NoUtf8EscapingWithSuffixes => with_suffixes(name, unit, shape),
            Self::NoTranslation => name.to_owned(),
        }
    }

    /// The Prometheus word for a unit.
    pub fn unit_name(self, unit: &str) -> String {
        let (main, per) = units(unit);
        let words = [main.map(str::to_owned), per.map(|per| format!("per_{per}"))];
        let words = words.into_iter().flatten();
        let words: Vec<String> = match self.escapes() {
            true => words.map(|word| clean(&word)).collect(),
            false => words.collect(),
        };
        words.join("_").trim_matches('_').to_owned()
    }

    /// The Prometheus name of the attribute `key` as a label; empty when there is none.
    pub fn label_name(self, key: &str) -> String {
        if key.bytes().all(|byte| byte == b'_') {
            return String::new();
        }
        if !self.escapes() {
            return key.to_owned();
        }
        let name = label_name(key);
        if name.bytes().all(|byte| byte == b'_') {
            String::new()
        } else if name.starts_with('_') && !name.starts_with("__") {
            format!("key{name}")
        } else {
            name
        }
    }
}

/// The name with its pieces joined by `_` and the pieces of unit and type after it.
fn escaped_with_suffixes(name: &str, unit: &str, shape: Shape) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut tokens: Vec<&str> = name
        .split(|c: char| !is_part(c))
        .filter(|token| !token.is_empty())
        .collect();
    let (main, per) = units(unit);
    let main = main.map(clean);
    let per = per.map(|word| format!("per_{}", clean(word)));
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
    not_a_digit_first(tokens.join("_"))
}

fn not_a_digit_first(mut name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// The name as it is, with unit and type after it; those it ends in already come once.
fn with_suffixes(name: &str, unit: &str, shape: Shape) -> String {
    let last = match shape {
        Shape::Counter => Some("total"),
        Shape::Gauge if unit == "1" => Some("ratio"),
        Shape::Gauge | Shape::Other => None,
    };
    let (main, per) = units(unit);
    let per = per.map(|word| format!("per_{word}"));
    let mut out = name;
    for suffix in [last, per.as_deref()].into_iter().flatten() {
        out = without_suffix(out, suffix);
    }
    let mut out = out.to_owned();
    let main = main.filter(|main| !out.ends_with(main));
    for suffix in [main, per.as_deref(), last].into_iter().flatten() {
        out.push('_');
        out.push_str(suffix);
    }
    out
}

/// `name` without a suffix and the one character before it.
fn without_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let Some(rest) = name.strip_suffix(suffix) else {
        return name;
    };
    let mut before = rest.chars();
    match before.next_back() {
        Some(_) if !before.as_str().is_empty() => before.as_str(),
        _ => name,
    }
}

/// The words for the parts of a unit before and after `/`.
fn units(unit: &str) -> (Option<&str>, Option<&str>) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    (word(main, MAIN_UNITS), word(per, PER_UNITS))
}

fn word<'a>(text: &'a str, table: &[(&str, &'static str)]) -> Option<&'a str> {
    let text = text.trim();
    if text.contains(['{', '}']) {
        return None;
    }
    let known = table.iter().find(|(short, _)| *short == text);
    Some(known.map_or(text, |(_, long)| long)).filter(|word| !word.is_empty())
}

/// A word of a unit with `_` for what is neither letter nor digit.
fn clean(word: &str) -> String {
    let pieces = word.split(|c: char| !c.is_ascii_alphanumeric());
    let pieces = pieces.filter(|piece| !piece.is_empty());
    pieces.collect::<Vec<_>>().join("_")
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

/// The name of an attribute as a label, with `_` for each character that labels may not have.
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
    use super::{STRATEGIES, Shape, Strategy, label_name};

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
            let strategy = Strategy::UnderscoreEscapingWithSuffixes;
            let got = strategy.metric_name(name, unit, shape);
            assert_eq!(got, expect, "{name} {unit} {shape:?}");
        }
    }

    #[test]
    fn strategies() {
        use Shape::{Counter, Gauge, Other};
        for (word, strategy) in STRATEGIES {
            assert_eq!(Strategy::parse(word), Ok(strategy));
        }
        let told = Strategy::parse("None").unwrap_err();
        assert!(told.contains("NoTranslation"), "{told}");
        assert_eq!(Strategy::default(), STRATEGIES[0].1);
        for (name, unit, shape, without, utf8) in [
            ("a.b__c", "s", Counter, "a_b__c", "a.b__c_seconds_total"),
            (
                "http.duration",
                "s",
                Other,
                "http_duration",
                "http.duration_seconds",
            ),
            ("x.bytes", "By", Gauge, "x_bytes", "x.bytes"),
            ("x.total", "By", Counter, "x_total", "x_bytes_total"),
            ("x.ratio", "1", Gauge, "x_ratio", "x_ratio"),
            ("2xx", "By/s", Gauge, "_2xx", "2xx_bytes_per_second"),
            ("x.per_second", "1/s", Gauge, "x_per_second", "x_per_second"),
            ("é", "{a}", Counter, "", "é_total"),
            ("total", "", Counter, "total", "total_total"),
        ] {
            let named = |strategy: Strategy| strategy.metric_name(name, unit, shape);
            assert_eq!(named(Strategy::UnderscoreEscapingWithoutSuffixes), without);
            assert_eq!(named(Strategy::NoUtf8EscapingWithSuffixes), utf8);
            assert_eq!(named(Strategy::NoTranslation), name);
        }
    }

    #[test]
    fn attributes_as_labels() {
        for (key, escaped, utf8) in [
            ("http.route", "http_route", "http.route"),
            ("0day", "key_0day", "0day"),
            ("_x", "key_x", "_x"),
            ("__x", "__x", "__x"),
            (".x", "key_x", ".x"),
            ("a..b", "a__b", "a..b"),
            ("é", "", "é"),
            ("_", "", ""),
            ("", "", ""),
        ] {
            let named = |strategy: Strategy| strategy.label_name(key);
            assert_eq!(named(Strategy::UnderscoreEscapingWithSuffixes), escaped);
            assert_eq!(named(Strategy::NoTranslation), utf8);
        }
    }

    #[test]
    fn units_by_their_words() {
        for (unit, escaped, utf8) in [
            ("By/s", "bytes_per_second", "bytes_per_second"),
            ("1", "", ""),
            ("{request}", "", ""),
            ("{request}/s", "per_second", "per_second"),
            ("my unit", "my_unit", "my unit"),
        ] {
            let named = |strategy: Strategy| strategy.unit_name(unit);
            assert_eq!(named(Strategy::UnderscoreEscapingWithSuffixes), escaped);
            assert_eq!(named(Strategy::NoTranslation), utf8);
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
