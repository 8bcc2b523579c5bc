//! What holds for the logs that a tenant sends at one moment: limits and rates. `ingest::loki_push` and
//! `ingest::otlp_logs` ask it for each stream and entry. The refusals have Loki's words, because
//! senders' operators search for them.

use trine_storage::Labels;

use super::rates::{Rate, Rates};
use super::rejections::Rejections;
use super::stream;
use crate::config::{Config, Limits, Logs, rfc3339};
use crate::refusal::{Reason, Refusal};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Limits of streams and entries.
    pub limits: &'a Limits,
    /// Settings of logs.
    pub logs: &'a Logs,
    tenant: &'a str,
    rates: &'a Rates,
    /// The time, in nanoseconds since 1970.
    pub now_ns: i64,
    monotonic_ns: u64,
    oldest_ns: i64,
    newest_ns: i64,
}

/// Why an entry is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// It is not what it may be, as the text says.
    Bad(String),
    /// Its stream is one too many, as the text says.
    TooMany(String),
    /// Its stream comes too fast.
    TooFast,
}

impl Denied {
    /// Writes down that `count` entries are not stored; those that come too fast are told together,
    /// by [`Rules::tell`].
    pub fn tell(&self, count: u64, rejections: &mut Rejections) {
        match self {
            Self::Bad(text) => rejections.add(count, text.as_str()),
            Self::TooMany(text) => rejections.add_busy(count, text.as_str()),
            Self::TooFast => {}
        }
    }
}

/// Entries of one stream, counted to say how many came too fast.
#[derive(Debug, Default)]
pub struct Counted {
    entries: u64,
    ignored: u64,
    bytes: usize,
    first_ns: i64,
}

impl<'a> Rules<'a> {
    /// What holds for `tenant` at `now_ns`, which is `monotonic_ns` by the monotonic clock.
    pub fn new(
        config: &'a Config,
        tenant: &'a str,
        rates: &'a Rates,
        (now_ns, monotonic_ns): (i64, u64),
    ) -> Self {
        let own = config.of(tenant);
        let nanos = |duration: std::time::Duration| i64::try_from(duration.as_nanos());
        let age = nanos(own.logs.age_max).unwrap_or(i64::MAX);
        let ahead = nanos(own.creation_grace_period).unwrap_or(i64::MAX);
        let oldest_ns = match own.logs.reject_old {
            true => now_ns.saturating_sub(age),
            false => i64::MIN,
        };
        Self {
            limits: &own.limits,
            logs: &own.logs,
            tenant,
            rates,
            now_ns,
            monotonic_ns,
            oldest_ns,
            newest_ns: now_ns.saturating_add(ahead),
        }
    }

    /// Whether nothing is taken without a word, as it is where the status that tells of it is 200.
    ///
    /// # Errors
    /// [`Reason::Blocked`] when nothing is taken and senders are told so.
    pub fn are_closed(&self) -> Result<bool, Refusal> {
        let until = self.logs.blocked_until_ns;
        let Some(until) = until.filter(|until| self.now_ns < *until) else {
            return Ok(false);
        };
        let (user, status) = (self.tenant, self.logs.blocked_status);
        if status == 200 {
            return Ok(true);
        }
        let text = format!(
            "ingestion blocked for user '{user}' until '{}' with status code '{status}'",
            rfc3339(until)
        );
        Err(Refusal::new(Reason::Blocked(status), text))
    }

    /// Whether it matters how much a request brings.
    pub fn limits_rate(&self) -> bool {
        self.logs.rate_bytes > 0
    }

    /// Takes a request of so many lines and bytes, or refuses all of it.
    ///
    /// # Errors
    /// [`Reason::Busy`] when the tenant sends too fast.
    pub fn take(&self, lines: u64, bytes: usize) -> Result<(), Refusal> {
        let rate = Rate {
            bytes: self.logs.rate_bytes,
            burst: self.logs.burst_bytes,
        };
        if self.rates.take(bytes, rate, self.monotonic_ns) {
            return Ok(());
        }
        let text = format!(
            "ingestion rate limit exceeded for user {} (limit: {} bytes/sec) while attempting to \
             ingest '{lines}' lines totaling '{bytes}' bytes, reduce log volume or contact your Loki \
             administrator to see if the limit can be increased",
            self.tenant, rate.bytes
        );
        Err(Refusal::new(Reason::Busy, text))
    }

    /// The labels of a stream, complete.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit_stream(&self, labels: Labels) -> Result<Labels, Denied> {
        let labels = self.complete(labels).map_err(Denied::Bad)?;
        let (stream, max) = (labels.hash64(), self.logs.streams_max);
        if self.rates.take_stream(stream, max, self.monotonic_ns) {
            return Ok(labels);
        }
        Err(Denied::TooMany(format!(
            "maximum active stream limit exceeded when trying to create stream {labels}, reduce the \
             number of active streams (reduce labels or reduce label values), or contact your Loki \
             administrator to see if the limit can be increased, user: '{}'",
            self.tenant
        )))
    }

    fn complete(&self, labels: Labels) -> Result<Labels, String> {
        let labels = stream::admit(labels, self.limits)?;
        let names = self.logs.enforced_labels.iter().map(String::as_str);
        let missing: Vec<&str> = names.filter(|name| labels.get(name).is_none()).collect();
        if missing.is_empty() {
            return Ok(labels);
        }
        Err(format!(
            "missing required labels '{}' for user '{}' for stream '{labels}' (policy: '')",
            missing.join(","),
            self.tenant
        ))
    }

    /// The line of an entry, cut where that is wanted. `metadata` is its pairs.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit_entry<'l, N: AsRef<str>, V: AsRef<str>>(
        &self,
        labels: &Labels,
        time_ns: i64,
        line: &'l str,
        metadata: &[(N, V)],
    ) -> Result<&'l str, Denied> {
        if time_ns < self.oldest_ns {
            return Err(Denied::Bad(format!(
                "entry for stream '{labels}' has timestamp too old: {}, oldest acceptable timestamp \
                 is: {}",
                rfc3339(time_ns),
                rfc3339(self.oldest_ns)
            )));
        }
        if time_ns > self.newest_ns {
            return Err(Denied::Bad(format!(
                "entry for stream '{labels}' has timestamp too new: {}",
                rfc3339(time_ns)
            )));
        }
        if !self.logs.metadata && !metadata.is_empty() {
            return Err(Denied::Bad(format!(
                "stream '{labels}' includes structured metadata, but this feature is disallowed. \
                 Please see `limits_config.allow_structured_metadata` or contact your Loki \
                 administrator to enable it"
            )));
        }
        let line = match self.logs.truncate_lines {
            true => cut(line, self.limits.log_line_bytes_max),
            false => line,
        };
        stream::admit_entry(labels, line, metadata, self.limits).map_err(Denied::Bad)?;
        let rate = self.stream_rate();
        if rate.bytes > 0 {
            let size = |(name, value): &(N, V)| name.as_ref().len() + value.as_ref().len();
            let bytes = line.len() + metadata.iter().map(size).sum::<usize>();
            if !self
                .rates
                .take_of(labels.hash64(), bytes, rate, self.monotonic_ns)
            {
                return Err(Denied::TooFast);
            }
        }
        Ok(line)
    }

    fn stream_rate(&self) -> Rate {
        Rate {
            bytes: self.logs.stream_rate_bytes,
            burst: self.logs.stream_burst_bytes,
        }
    }

    /// Writes down what became of the entries of a stream that came too fast.
    pub fn tell(&self, labels: &Labels, counted: &Counted, rejections: &mut Rejections) {
        if counted.ignored == 0 {
            return;
        }
        let Counted {
            entries,
            ignored,
            bytes,
            first_ns,
        } = counted;
        let text = format!(
            "entry with timestamp {} ignored, reason: 'Per stream rate limit exceeded (limit: \
             {}/sec) while attempting to ingest for stream '{labels}' totaling {}, consider \
             splitting a stream via additional labels or contact your Loki administrator to see if \
             the limit can be increased',\nuser '{}', total ignored: {ignored} out of {entries} for \
             stream: {labels}",
            rfc3339(*first_ns),
            size(self.stream_rate().bytes),
            size(*bytes),
            self.tenant,
        );
        rejections.add_busy(*ignored, text);
    }
}

impl Counted {
    /// Counts an entry, and that it came too fast.
    pub fn add(&mut self, time_ns: i64, line: &str, too_fast: bool) {
        self.entries += 1;
        if too_fast {
            if self.ignored == 0 {
                self.first_ns = time_ns;
                self.bytes = line.len();
            }
            self.ignored += 1;
        }
    }
}

/// As much of a line as fits, to the end of a character.
fn cut(line: &str, bytes_max: usize) -> &str {
    let mut end = line.len().min(bytes_max);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default()
}

/// Bytes in the largest unit of which they are a multiple.
fn size(bytes: usize) -> String {
    let units = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    let unit = units
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;
    const HOUR: i64 = 3_600_000_000_000;

    fn labels() -> Labels {
        Labels::from_pairs([("app", "a")]).unwrap()
    }

    fn check(
        change: impl FnOnce(&mut Config),
        time_ns: i64,
        line: &str,
        expect: Result<&str, &str>,
    ) {
        let mut config = Config::default();
        change(&mut config);
        let rates = Rates::default();
        let rules = Rules::new(&config, "t", &rates, (NOW, 0));
        let got = rules.admit_entry(&labels(), time_ns, line, &[("k", "v")]);
        let expect = expect.map_err(|text| Denied::Bad(text.to_owned()));
        assert_eq!(got, expect);
    }

    #[test]
    fn times_at_their_edges() {
        let week = 7 * 24 * HOUR;
        check(|_| {}, 0, "x", Ok("x"));
        check(
            |config| config.logs.reject_old = true,
            NOW - week,
            "x",
            Ok("x"),
        );
        check(
            |config| config.logs.reject_old = true,
            NOW - week - 1,
            "x",
            Err(
                "entry for stream '{app=\"a\"}' has timestamp too old: 2023-11-07T22:13:19Z, \
                 oldest acceptable timestamp is: 2023-11-07T22:13:20Z",
            ),
        );
        check(|_| {}, NOW + HOUR / 6, "x", Ok("x"));
        check(
            |_| {},
            NOW + HOUR / 6 + 1,
            "x",
            Err("entry for stream '{app=\"a\"}' has timestamp too new: 2023-11-14T22:23:20Z"),
        );
    }

    #[test]
    fn lines_are_cut_where_that_is_wanted() {
        let short = |config: &mut Config| {
            config.limits.log_line_bytes_max = 4;
            config.logs.truncate_lines = true;
        };
        check(short, NOW, "abcd", Ok("abcd"));
        check(short, NOW, "abcé", Ok("abc"));
    }

    #[test]
    fn metadata_may_be_switched_off() {
        check(
            |config| config.logs.metadata = false,
            NOW,
            "x",
            Err(
                "stream '{app=\"a\"}' includes structured metadata, but this feature is disallowed. \
                 Please see `limits_config.allow_structured_metadata` or contact your Loki \
                 administrator to enable it",
            ),
        );
    }

    #[test]
    fn a_tenant_may_be_kept_out_until_a_time() {
        let check = |status: u16, now_ns: i64| {
            let mut config = Config::default();
            config.logs.blocked_until_ns = Some(NOW);
            config.logs.blocked_status = status;
            let rates = Rates::default();
            Rules::new(&config, "t", &rates, (now_ns, 0)).are_closed()
        };
        let told =
            "ingestion blocked for user 't' until '2023-11-14T22:13:20Z' with status code '260'";
        let refusal = Refusal::new(Reason::Blocked(260), told);
        assert_eq!(refusal.status().as_u16(), 260);
        assert_eq!(check(260, NOW - 1), Err(refusal));
        assert_eq!(check(200, NOW - 1), Ok(true));
        assert_eq!(check(260, NOW), Ok(false));
    }

    #[test]
    fn labels_that_every_stream_must_have() {
        let mut config = Config::default();
        config.logs.enforced_labels = vec!["app".to_owned(), "env".to_owned(), "team".to_owned()];
        let rates = Rates::default();
        let rules = Rules::new(&config, "t", &rates, (NOW, 0));
        let told = "missing required labels 'env,team' for user 't' for stream '{app=\"a\", \
                    service_name=\"a\"}' (policy: '')";
        let denied = rules.admit_stream(labels()).unwrap_err();
        assert_eq!(denied, Denied::Bad(told.to_owned()));
        let all = labels().with("env", "x").with("team", "y");
        assert!(rules.admit_stream(all).is_ok());
    }

    #[test]
    fn streams_may_be_limited() {
        let mut config = Config::default();
        config.logs.streams_max = 1;
        let rates = Rates::default();
        let rules = Rules::new(&config, "t", &rates, (NOW, 0));
        for _ in 0..2 {
            assert!(rules.admit_stream(labels()).is_ok());
        }
        let denied = rules.admit_stream(labels().with("b", "c")).unwrap_err();
        let mut rejections = Rejections::default();
        denied.tell(2, &mut rejections);
        assert_eq!((rejections.count(), rejections.is_busy()), (2, true));
        assert_eq!(
            rejections.text(""),
            "maximum active stream limit exceeded when trying to create stream {app=\"a\", \
             b=\"c\", service_name=\"a\"}, reduce the number of active streams (reduce labels or \
             reduce label values), or contact your Loki administrator to see if the limit can be \
             increased, user: 't'"
        );
    }

    #[test]
    fn rates_are_told_in_loki_s_words() {
        let mut config = Config::default();
        config.logs.rate_bytes = 10;
        config.logs.burst_bytes = 20;
        config.logs.stream_rate_bytes = 3 << 20;
        config.logs.stream_burst_bytes = 4;
        let rates = Rates::default();
        let rules = Rules::new(&config, "t", &rates, (NOW, 0));
        assert_eq!(rules.take(1, 20), Ok(()));
        assert_eq!(
            rules.take(2, 1).unwrap_err().text,
            "ingestion rate limit exceeded for user t (limit: 10 bytes/sec) while attempting to \
             ingest '2' lines totaling '1' bytes, reduce log volume or contact your Loki \
             administrator to see if the limit can be increased"
        );
        let none: [(&str, &str); 0] = [];
        let mut counted = Counted::default();
        for (line, fits) in [("abc", true), ("de", false), ("f", true)] {
            let admitted = rules.admit_entry(&labels(), NOW, line, &none);
            assert_eq!(admitted.is_ok(), fits, "{line}");
            counted.add(NOW, line, !fits);
        }
        let mut rejections = Rejections::default();
        rules.tell(&labels(), &counted, &mut rejections);
        assert!(rejections.is_busy());
        assert_eq!(
            rejections.text(""),
            "entry with timestamp 2023-11-14T22:13:20Z ignored, reason: 'Per stream rate limit \
             exceeded (limit: 3MB/sec) while attempting to ingest for stream '{app=\"a\"}' totaling \
             2B, consider splitting a stream via additional labels or contact your Loki \
             administrator to see if the limit can be increased',\nuser 't', total ignored: 1 out of \
             3 for stream: {app=\"a\"}"
        );
    }
}
