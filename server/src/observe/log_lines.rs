//! The server's own log lines: a layer of `tracing` puts them into a bounded queue, `observe`
//! appends them to the tenant `trine`.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use trine_storage::clock::Clock;

/// Lines that wait to be stored; more are dropped and counted.
const LINES_MAX: usize = 4096;

/// Events of this module tree are not stored: storing them could cause the next one.
const OWN_TARGET: &str = "trine_server::observe";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    /// The module that wrote it.
    pub target: String,
    /// The message and then the fields as `name=value`.
    pub text: String,
}

/// Lines that wait to be stored; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct LogLines(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Line>,
    dropped: u64,
}

impl LogLines {
    /// Adds a line, or drops and counts it when there is no room.
    pub fn push(&self, line: Line) {
        let mut waiting = self.0.lock();
        if waiting.lines.len() < LINES_MAX {
            waiting.lines.push_back(line);
        } else {
            waiting.dropped += 1;
        }
    }

    /// Takes what waits, and how many were dropped since the last time.
    pub fn take(&self) -> (Vec<Line>, u64) {
        let mut waiting = self.0.lock();
        let dropped = std::mem::take(&mut waiting.dropped);
        (waiting.lines.drain(..).collect(), dropped)
    }
}

/// The layer that fills a [`LogLines`].
#[derive(Debug)]
pub struct LogLayer {
    lines: LogLines,
    clock: Arc<dyn Clock>,
}

impl LogLayer {
    /// A layer that pushes to `lines`.
    pub fn new(lines: LogLines, clock: Arc<dyn Clock>) -> Self {
        Self { lines, clock }
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target().starts_with(OWN_TARGET) {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        self.lines.push(Line {
            timestamp_ns: self.clock.now_ns(),
            level: level_name(*metadata.level()),
            target: metadata.target().to_owned(),
            text: format!("{}{}", text.message, text.fields)
                .trim_start()
                .to_owned(),
        });
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// An event as text.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else if value.contains([' ', '"', '=']) || value.is_empty() {
            // Writing to a String cannot fail.
            write!(self.fields, " {}={value:?}", field.name()).ok();
        } else {
            write!(self.fields, " {}={value}", field.name()).ok();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;
    use trine_storage::clock::ManualClock;

    use super::{LINES_MAX, LogLayer, LogLines};

    #[test]
    fn events_become_lines_and_the_queue_has_an_end() {
        let lines = LogLines::default();
        let layer = LogLayer::new(lines.clone(), Arc::new(ManualClock::new(7)));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "a", n = 1, text = "two words", "something {}", "happened");
            tracing::info!(target: "trine_server::observe", "must not be seen");
            for _ in 0..LINES_MAX + 4 {
                tracing::error!(target: "b", "again");
            }
        });
        let (got, dropped) = lines.take();
        assert_eq!(dropped, 5);
        assert_eq!(got.len(), LINES_MAX);
        assert_eq!(got[0].text, "something happened n=1 text=\"two words\"");
        assert_eq!(
            (got[0].level, got[0].target.as_str(), got[0].timestamp_ns),
            ("warn", "a", 7)
        );
        assert_eq!(lines.take(), (Vec::new(), 0));
    }
}
