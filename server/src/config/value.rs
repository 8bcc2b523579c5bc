//! Texts of settings as values: sizes, durations, addresses. `config` calls it for flags,
//! environment variables and keys of the file alike.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::MetricsApi;

/// Puts a value that was read where it belongs.
pub(super) fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// `ADDR:PORT`; `:PORT` and a bare port mean every interface, as elsewhere in this field.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let expect = || format!("{text:?} is not an address; write it as 127.0.0.1:9090 or [::1]:9090");
    if let Some(port) = text.strip_prefix("localhost:") {
        return format!("127.0.0.1:{port}").parse().map_err(|_| expect());
    }
    if let Some(port) = text.strip_prefix(':') {
        return format!("0.0.0.0:{port}").parse().map_err(|_| expect());
    }
    text.parse().map_err(|_| expect())
}

/// A path that is not empty.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("the path is empty".to_owned())
    } else {
        Ok(text.into())
    }
}

/// The name of a label.
pub(super) fn label(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("the name of the label is empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// Words with commas between them; none in an empty text.
pub(super) fn words(text: &str) -> Vec<String> {
    let words = text.split(',').map(str::trim);
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// A path of a URL without the slash at its end; none for `/` alone.
pub(super) fn prefix(text: &str) -> Result<Option<String>, String> {
    let path = text.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if !text.starts_with('/') || path.contains("//") || !path.chars().all(plain) {
        return Err(format!("{text:?} is not a path; write it as /trine"));
    }
    Ok(Some(path.to_owned()).filter(|path| !path.is_empty()))
}

/// `prometheus` or `mimir`.
pub(super) fn metrics_api(text: &str) -> Result<MetricsApi, String> {
    match text {
        "prometheus" => Ok(MetricsApi::Prometheus),
        "mimir" => Ok(MetricsApi::Mimir),
        _ => Err(format!("{text:?} is neither prometheus nor mimir")),
    }
}

/// A number of at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("{text:?} is not a whole number")),
    }
}

/// A number that may be zero.
pub(super) fn number(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a whole number"))
}

/// As [`size`]; zero for none.
pub(super) fn size_or_none(text: &str) -> Result<usize, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

/// Bytes: a number with an optional unit, `64MiB`, `1GB`, `4096`.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is not a size; write it as 64MiB, 1GB or 4096");
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().map_err(|_| wrong())?;
    let factor: usize = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "kb" => 1000,
        "m" | "mib" => 1 << 20,
        "mb" => 1_000_000,
        "g" | "gib" => 1 << 30,
        "gb" => 1_000_000_000,
        "t" | "tib" => 1 << 40,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    match number.checked_mul(factor) {
        Some(0) => Err("it must be at least one byte".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err(wrong()),
    }
}

/// A duration as Prometheus writes it: `1h30m`, `15d`, `500ms`; `0` needs no unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write it as 30d, 1h30m or 500ms");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    // Units go down: `1m1h` is refused, as Prometheus refuses it.
    let mut previous = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return Err(wrong()),
        };
        if millis >= previous {
            return Err(wrong());
        }
        previous = millis;
        total = number
            .checked_mul(millis)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(Duration::from_millis(total))
    }
}

/// Directives of a log filter.
pub(super) fn filter(text: &str) -> Result<String, String> {
    text.parse::<tracing_subscriber::filter::Targets>()
        .map(|_| text.to_owned())
        .map_err(|error| format!("{text:?} is not a log filter: {error}"))
}

/// `true` or `false`, and what YAML 1.1 writes for them.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}
