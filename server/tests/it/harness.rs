//! A server in this process, in a directory of its own.

use std::net::SocketAddr;
use std::path::Path;

use trine_server::observe::log_lines::LogLines;
use trine_server::{Config, Server};

use crate::client::{Request, request};

/// A running server and the runtime that it runs on.
pub(crate) struct Running {
    runtime: tokio::runtime::Runtime,
    server: Option<Server>,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Starts a server over `dir` that does not observe itself; `change` adapts its configuration.
    pub(crate) fn start(dir: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            data_dir: dir.to_owned(),
            self_observe: false,
            ..Config::default()
        };
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime
            .block_on(Server::start(config, LogLines::default()))
            .unwrap();
        let address = server.addresses()[0];
        Self {
            runtime,
            server: Some(server),
            address,
        }
    }

    pub(crate) fn get<'a>(&self, path: &'a str) -> Request<'a> {
        request(self.address, "GET", path)
    }

    pub(crate) fn post<'a>(&self, path: &'a str) -> Request<'a> {
        request(self.address, "POST", path)
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("a server that was not stopped")
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Stops in order.
    pub(crate) fn stop(mut self) {
        let server = self.server.take().expect("a server that was not stopped");
        self.runtime.block_on(server.stop()).unwrap();
    }
}
