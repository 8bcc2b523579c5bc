//! Listeners: which addresses, and what is spoken on them. Each one speaks HTTP/1.1, HTTP/2
//! without TLS and gRPC, and answers every API. `lib` binds them and runs [`serve`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::api::jaeger;

/// The ports that clients expect, with what they expect there.
pub const DEFAULT_PORTS: [(u16, &str); 9] = [
    (9090, "Prometheus"),
    (9009, "Mimir"),
    (3100, "Loki"),
    (3200, "Tempo"),
    (4317, "OTLP over gRPC"),
    (4318, "OTLP over HTTP"),
    (jaeger::PORT, "Jaeger"),
    (14268, "Jaeger's collector"),
    (9411, "Zipkin's collector"),
];

/// How long a client may take to send its request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait after a failed accept, which mostly means that there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address of the listener that a request came in on; an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local(pub SocketAddr);

/// Bound sockets, and what was left out.
#[derive(Debug)]
pub struct Listeners {
    /// The sockets.
    pub sockets: Vec<TcpListener>,
    /// A sentence for each default port that was taken.
    pub warnings: Vec<String>,
}

/// Binds `asked`, or the default ports on loopback when nothing was asked for.
///
/// # Errors
/// A sentence that says which address cannot be had: one that was asked for, or all defaults.
pub async fn bind(asked: &[SocketAddr]) -> Result<Listeners, String> {
    let mut listeners = Listeners {
        sockets: Vec::new(),
        warnings: Vec::new(),
    };
    for address in asked {
        let socket = TcpListener::bind(address)
            .await
            .map_err(|error| format!("cannot listen on {address}: {error}"))?;
        listeners.sockets.push(socket);
    }
    if !asked.is_empty() {
        return Ok(listeners);
    }
    for (port, what) in DEFAULT_PORTS {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(socket) => listeners.sockets.push(socket),
            Err(error) => listeners.warnings.push(format!(
                "port {port} ({what}) is left out: {error}; every other port answers {what} too"
            )),
        }
    }
    if listeners.sockets.is_empty() {
        return Err("every default port is taken; choose one with --listen".to_owned());
    }
    Ok(listeners)
}

/// Serves `router` on `socket` until `stop` changes, then waits for the requests in progress.
pub async fn serve(socket: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(true);
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        stream.set_nodelay(true).ok();
        let Ok(local) = stream.local_addr() else {
            continue;
        };
        let router = router.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Local(local));
            if let Some(uri) = jaeger::address(request.uri(), local.port()) {
                *request.uri_mut() = uri;
            }
            router.clone().oneshot(request)
        });
        let connection = builder
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection broke off");
            }
        });
    }
    drop(socket);
    graceful.shutdown().await;
}

/// One client's failure is none of ours; anything else would otherwise spin.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        tracing::warn!(%error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::bind;

    #[tokio::test]
    async fn an_address_that_was_asked_for_must_be_free() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = bind(&[any]).await.unwrap();
        let taken = first.sockets[0].local_addr().unwrap();
        let error = bind(&[any, taken]).await.unwrap_err();
        assert!(
            error.contains(&format!("cannot listen on {taken}")),
            "{error}"
        );
    }
}
