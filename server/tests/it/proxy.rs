//! A proxy between a server and its bucket that does to requests what networks and stores do: refuses
//! them, cuts bodies, loses answers, lets them wait. One request, one connection.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Bytes of a request's head, at most.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Well,
    /// It is refused with a 503 and `SlowDown`, and does not arrive.
    Throttled,
    /// The answer ends in the middle of its body.
    Truncated,
    /// It arrives and is done; the connection is closed before an answer.
    LostAnswer,
    /// It does not arrive, and nobody says so, until other fates are set.
    Hanging,
}

/// Tells what becomes of a request by its first line.
type Judge = Box<dyn FnMut(&str) -> Fate + Send>;

struct Shared {
    upstream: SocketAddr,
    judge: Mutex<Judge>,
    latency: Mutex<Duration>,
    /// Changes with the judge.
    judged_anew: watch::Sender<()>,
}

/// A running proxy; it ends when this is dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Proxy {
    /// Starts one that passes everything on to `upstream`.
    pub(crate) fn start(upstream: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            judge: Mutex::new(Box::new(|_| Fate::Well)),
            latency: Mutex::default(),
            judged_anew: watch::Sender::new(()),
        });
        let for_all = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&for_all);
                // Who closed the connection, and when, is the business of the two ends.
                tokio::spawn(async move { shared.serve(client).await.ok() });
            }
        });
        Self {
            shared,
            address,
            _runtime: runtime,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What becomes of requests from now on, told by their first lines; ends what hangs.
    pub(crate) fn judge(&self, judge: impl FnMut(&str) -> Fate + Send + 'static) {
        let mut held = lock(&self.shared.judge);
        *held = Box::new(judge);
        self.shared.judged_anew.send_replace(());
    }

    /// As [`Proxy::judge`], for all requests alike.
    pub(crate) fn all(&self, fate: Fate) {
        self.judge(move |_| fate);
    }

    /// How long each request takes from now on, beside its own time.
    pub(crate) fn set_latency(&self, latency: Duration) {
        *lock(&self.shared.latency) = latency;
    }
}

fn lock<T: ?Sized>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some((head, body)) = read_request(&mut client).await? else {
            return Ok(());
        };
        let latency = *lock(&self.latency);
        tokio::time::sleep(latency).await;
        let line = head.lines().next().unwrap_or_default();
        let (fate, mut judged_anew) = {
            let mut judge = lock(&self.judge);
            (judge(line), self.judged_anew.subscribe())
        };
        match fate {
            Fate::Throttled => {
                let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                client.write_all(answer.as_bytes()).await?;
            }
            Fate::Hanging => {
                judged_anew.changed().await.ok();
            }
            Fate::Well | Fate::Truncated | Fate::LostAnswer => {
                let mut answer = self.ask(&head, &body).await?;
                if fate == Fate::LostAnswer {
                    return Ok(());
                }
                if fate == Fate::Truncated {
                    let body = end_of_head(&answer).unwrap_or(answer.len());
                    answer.truncate(body + (answer.len() - body) / 2);
                }
                client.write_all(&answer).await?;
            }
        }
        client.shutdown().await
    }

    /// The whole answer of the store.
    async fn ask(&self, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut store = TcpStream::connect(self.upstream).await?;
        let is_kept = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
        let lines: Vec<&str> = head.trim_end().lines().filter(is_kept).collect();
        let head = lines.join("\r\n") + "\r\nConnection: close\r\n\r\n";
        store.write_all(head.as_bytes()).await?;
        store.write_all(body).await?;
        let mut answer = Vec::new();
        store.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

/// Head and body of a request; nothing when there is none any more.
async fn read_request(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let body = loop {
        if let Some(end) = end_of_head(&bytes) {
            break end;
        }
        if bytes.len() > HEAD_BYTES_MAX || client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let mut rest = bytes.split_off(body);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse().ok())?
    });
    let length: usize = length.unwrap_or(0);
    while rest.len() < length {
        if client.read_buf(&mut rest).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some((head, rest)))
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}
