//! The real binary in a process of its own, which can be killed.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::client::{Request, request};

/// How often a server that starts is asked whether it is ready, every 20 ms.
const READY_TRIES_MAX: u32 = 1_500;

/// A running process.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    data_dir: PathBuf,
    flags: Vec<String>,
}

/// The command that starts the binary over `data_dir`.
fn command(address: SocketAddr, data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
    command
        .args(["--listen", &address.to_string(), "--data-dir"])
        .arg(data_dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Process {
    /// Starts the binary on a free port and waits until it is ready.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// As [`Process::start`], with more flags.
    pub(crate) fn start_with(data_dir: &Path, flags: &[&str]) -> Self {
        // The port is free now; nobody else on this machine is likely to take it in between.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let child = command(address, data_dir).args(flags).spawn().unwrap();
        let process = Self {
            child,
            address,
            data_dir: data_dir.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        };
        for _ in 0..READY_TRIES_MAX {
            if std::net::TcpStream::connect(address).is_ok()
                && process.get("/ready").send().status == 200
            {
                return process;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not become ready");
    }

    pub(crate) fn get<'a>(&self, path: &'a str) -> Request<'a> {
        request(self.address, "GET", path)
    }

    /// Ends the process without a word and starts another one over the same directory.
    pub(crate) fn kill_and_restart(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        Self::start_with(&self.data_dir, &flags)
    }

    /// Asks the process to stop and gives its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.child.wait().unwrap().code()
    }

    /// What a second process over the same directory says.
    pub(crate) fn second(&self) -> Output {
        let address = "127.0.0.1:0".parse().unwrap();
        command(address, &self.data_dir)
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap()
    }

    /// Kilobytes of anonymous memory that the process holds.
    pub(crate) fn anonymous_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
