//! Request parameters: those of the URL and, on a POST, those of the form body, as one list.
//! Every query handler of `api` reads its parameters here.

use axum::body::Body;
use axum::http::{HeaderMap, Method, header};
use http_body_util::BodyExt;
use percent_encoding::percent_decode;

use crate::refusal::{Reason, Refusal};

/// Bytes of a form body that are read at most. Queries of a megabyte exist, larger ones do not.
pub const FORM_BYTES_MAX: usize = 8 << 20;

/// Parameters in the order in which they came: body before URL, as Go's `FormValue` orders them,
/// because the first one wins where only one is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Parameters of a URL's query part.
    pub fn from_query(query: &str) -> Self {
        let mut params = Self::default();
        params.extend(query.as_bytes());
        params
    }

    /// Parameters of a request: its URL and, when the body is a form, its body.
    ///
    /// # Errors
    /// [`Reason::TooLarge`] past [`FORM_BYTES_MAX`], [`Reason::Bad`] when the body breaks off.
    pub async fn read(
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
        body: Body,
    ) -> Result<Self, Refusal> {
        let mut params = Self::default();
        if *method == Method::POST && is_form(headers) {
            let limited = http_body_util::Limited::new(body, FORM_BYTES_MAX);
            let bytes = limited.collect().await.map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    let text = format!("the form is larger than {FORM_BYTES_MAX} bytes");
                    Refusal::new(Reason::TooLarge, text)
                } else {
                    Refusal::bad(format!("cannot read the form: {error}"))
                }
            })?;
            params.extend(&bytes.to_bytes());
        }
        params.extend(query.unwrap_or("").as_bytes());
        Ok(params)
    }

    fn extend(&mut self, form: &[u8]) {
        for pair in form
            .split(|&byte| byte == b'&')
            .filter(|pair| !pair.is_empty())
        {
            let mut halves = pair.splitn(2, |&byte| byte == b'=');
            let name = decode(halves.next().unwrap_or(b""));
            let value = decode(halves.next().unwrap_or(b""));
            self.0.push((name, value));
        }
    }

    /// The first value of `name`; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Nanoseconds since 1970 of a time as APIs of Loki and Tempo take it: seconds with a fraction, whole
/// seconds of at most ten digits, nanoseconds, or RFC 3339. `None` when it is none of these.
pub fn instant_ns(text: &str) -> Option<i64> {
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
    {
        return seconds_as_ms(seconds)?.checked_mul(1_000_000);
    }
    if let Ok(number) = text.parse::<i64>() {
        return if text.len() <= 10 {
            number.checked_mul(1_000_000_000)
        } else {
            Some(number)
        };
    }
    let time = text.parse::<jiff::Timestamp>().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// Milliseconds, if they are a number of 64 bits.
pub fn seconds_as_ms(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1000.0).round();
    // 2^63 is a float, and the smallest one that does not fit.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&ms);
    fits.then_some(ms as i64)
}

/// A POST without a content type is taken for a form too: hand-written clients forget it.
fn is_form(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let text = value.to_str().unwrap_or("").to_ascii_lowercase();
    text.starts_with("application/x-www-form-urlencoded")
}

/// Undoes form encoding: `+` is a space, `%xx` a byte; what is not UTF-8 becomes U+FFFD.
fn decode(text: &[u8]) -> String {
    let spaced: Vec<u8> = text
        .iter()
        .map(|&b| if b == b'+' { b' ' } else { b })
        .collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{HeaderMap, HeaderValue, Method, header};

    use super::{FORM_BYTES_MAX, Params};
    use crate::refusal::Reason;

    #[test]
    fn decoding() {
        let params =
            Params::from_query("query=sum%28rate(x%5B1m0s%5D))+%2B+1&match[]=a&match%5B%5D=b&e&f=");
        assert_eq!(params.get("query"), Some("sum(rate(x[1m0s])) + 1"));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(params.get("e"), None);
        assert_eq!(params.get("f"), None);
        assert_eq!(params.all("f").count(), 1);
        assert_eq!(params.get("g"), None);
    }

    async fn read(
        method: Method,
        kind: Option<&'static str>,
        body: &str,
    ) -> Result<Params, Reason> {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        Params::read(
            &method,
            &headers,
            Some("a=url&b=url"),
            Body::from(body.to_owned()),
        )
        .await
        .map_err(|refusal| refusal.reason)
    }

    #[tokio::test]
    async fn a_post_has_parameters_in_the_url_and_in_the_body() {
        let form = Some("application/x-www-form-urlencoded; charset=utf-8");
        for (method, kind, a) in [
            (Method::POST, form, "body"),
            (Method::POST, None, "body"),
            (Method::POST, Some("application/json"), "url"),
            (Method::GET, form, "url"),
        ] {
            let params = read(method, kind, "a=body").await.unwrap();
            assert_eq!(params.get("a"), Some(a));
            assert_eq!(params.get("b"), Some("url"));
        }
    }

    #[tokio::test]
    async fn a_form_has_a_limit() {
        let at = "a".repeat(FORM_BYTES_MAX);
        assert!(read(Method::POST, None, &at).await.is_ok());
        assert_eq!(
            read(Method::POST, None, &format!("{at}a")).await,
            Err(Reason::TooLarge)
        );
    }
}
