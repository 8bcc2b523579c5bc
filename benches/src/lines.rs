//! Lines of logs to measure with: a third plain text of real systems with its numbers varied, a
//! third JSON, a third logfmt, as in 100 streams of an installation. The same in every run.

use std::fmt::Write as _;
use std::path::Path;

/// Where lines come from.
#[derive(Debug)]
pub struct Source {
    corpus: Vec<(String, Vec<String>)>,
    streams: Vec<Stream>,
    /// The streams of each kind.
    of_kind: [Vec<usize>; 3],
    random: Random,
    bytes: [u64; 3],
}

/// One stream and what its lines look like.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Pairs of label and value.
    pub labels: [(&'static str, String); 4],
    kind: usize,
    file: usize,
}

/// Marsaglia's xorshift: quick, and good enough to be incompressible.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; a seed of 0 would only give zeros.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// 32 hexadecimal digits.
    pub fn id(&mut self) -> String {
        format!("{:016x}{:016x}", self.number(), self.number())
    }
}

const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];
const ROUTES: [&str; 8] = [
    "/api/v1/items",
    "/api/v1/items/{id}",
    "/api/v1/orders",
    "/login",
    "/logout",
    "/search",
    "/healthz",
    "/api/v2/cart",
];

impl Source {
    /// Reads the text of the files `*.log` in `corpus`.
    ///
    /// # Panics
    /// When there are none.
    #[expect(clippy::disallowed_methods, reason = "reads samples, stores nothing")]
    pub fn new(corpus: &Path) -> Self {
        let mut paths: Vec<_> = read_dir(corpus);
        paths.sort();
        let corpus: Vec<(String, Vec<String>)> = paths
            .iter()
            .map(|path| {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let app = name.split('_').next().unwrap_or_default().to_lowercase();
                let text = std::fs::read(path).expect("a readable file");
                let text = String::from_utf8_lossy(&text);
                let lines = text
                    .lines()
                    .map(str::trim_end)
                    .filter(|line| !line.is_empty());
                (app, lines.map(str::to_owned).collect())
            })
            .collect();
        assert!(!corpus.is_empty(), "the folder of sample logs has no *.log");
        let stream = |app: &str, host: String, level: &str, kind, file| Stream {
            labels: [
                ("app", app.to_owned()),
                ("host", host),
                ("job", "bench".to_owned()),
                ("level", level.to_owned()),
            ],
            kind,
            file,
        };
        let mut streams = Vec::new();
        for (file, (app, _)) in corpus.iter().enumerate() {
            for level in ["info", "error"] {
                streams.push(stream(app, format!("h{file:02}"), level, 0, file));
            }
        }
        for (app, hosts, kind) in [("api", 8, 1), ("gateway", 9, 2)] {
            for host in 0..hosts {
                for level in LEVELS {
                    streams.push(stream(app, format!("{app}-{host}"), level, kind, 0));
                }
            }
        }
        let of_kind = [0, 1, 2].map(|kind| {
            let is_kind = |at: &usize| streams[*at].kind == kind;
            (0..streams.len()).filter(is_kind).collect()
        });
        Self {
            corpus,
            streams,
            of_kind,
            random: Random::new(77),
            bytes: [0; 3],
        }
    }

    /// All streams.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// A line of the sample logs as it is.
    pub fn sample(&mut self) -> (usize, &str) {
        let file = self.random.below(self.corpus.len() as u64) as usize;
        let lines = &self.corpus[file].1;
        let line = &lines[self.random.below(lines.len() as u64) as usize];
        (2 * file, line)
    }

    /// Writes the next line into `out`, which is cleared; gives its stream.
    pub fn line(&mut self, timestamp: i64, out: &mut String) -> usize {
        out.clear();
        let kind = (0..3).min_by_key(|&kind| self.bytes[kind]).unwrap_or(0);
        let random = &mut self.random;
        let level = match random.below(100) {
            0..=69 => "info",
            70..=87 => "debug",
            88..=96 => "warn",
            _ => "error",
        };
        let of_kind = &self.of_kind[kind];
        let mut number = of_kind[random.below(of_kind.len() as u64) as usize];
        for _ in 0..8 {
            if self.streams[number].labels[3].1 == level {
                break;
            }
            number = of_kind[random.below(of_kind.len() as u64) as usize];
        }
        let stream = &self.streams[number];
        let level = stream.labels[3].1.as_str();
        let status = match level {
            "error" => [500, 502, 503, 504][random.below(4) as usize],
            "warn" => [400, 404, 429, 409][random.below(4) as usize],
            _ => [200, 200, 200, 201, 204][random.below(5) as usize],
        };
        let part = |random: &mut Random| random.below(1_000_000) as f64 / 1e6;
        let ms = part(random) * part(random) * part(random) * 4_000.0 + 0.2;
        let method = ["GET", "GET", "GET", "POST"][random.below(4) as usize];
        let path = ROUTES[random.below(8) as usize];
        let written = match kind {
            0 => {
                let lines = &self.corpus[stream.file].1;
                let line = &lines[random.below(lines.len() as u64) as usize];
                vary(line, random, out);
                Ok(())
            }
            1 => write!(
                out,
                "{{\"ts\":\"{timestamp}\",\"level\":\"{level}\",\"caller\":\"http/server.go:{}\",\
                 \"msg\":\"request completed\",\"method\":\"{method}\",\"path\":\"{path}\",\
                 \"status\":{status},\"duration_ms\":{ms:.3},\"bytes\":{},\"user_id\":\"u{}\",\
                 \"trace_id\":\"{}\",\"remote_addr\":\"10.{}.{}.{}:{}\",\"user_agent\":\
                 \"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\"}}",
                100 + random.below(300),
                random.below(60_000),
                random.below(50_000),
                random.id(),
                random.below(256),
                random.below(256),
                random.below(256),
                1_024 + random.below(60_000),
            ),
            _ => write!(
                out,
                "ts={timestamp} level={level} component=gateway upstream=svc-{} msg=\"proxied \
                 request\" method={method} path={path} status={status} duration={ms:.3}ms \
                 retries={} bytes_in={} bytes_out={} user=u{} trace_id={} cluster=eu-{} tls=1.3",
                random.below(20),
                random.below(3),
                random.below(4_000),
                random.below(90_000),
                random.below(50_000),
                random.id(),
                random.below(4),
            ),
        };
        written.expect("a string takes everything");
        self.bytes[kind] += out.len() as u64;
        number
    }
}

/// Replaces the digits of every number of two and more digits but the first.
fn vary(line: &str, random: &mut Random, out: &mut String) {
    let mut digits = 0;
    let bytes = line.as_bytes();
    for (at, letter) in line.char_indices() {
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        digits = if is_digit(at) { digits + 1 } else { 0 };
        let changes = digits > 1;
        out.push(if changes {
            char::from(b'0' + random.below(10) as u8)
        } else {
            letter
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "reads samples, stores nothing")]
fn read_dir(path: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path).expect("the folder of sample logs");
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .filter(|path| path.extension().is_some_and(|ext| ext == "log"))
        .collect()
}
