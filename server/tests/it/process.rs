//! The real binary in a process of its own, which can be killed.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::client::{Request, request};

/// How often a server that starts is asked whether it is ready, and one that ends whether it has, every
/// 20 ms.
const TRIES_MAX: u32 = 3_000;

/// How a process is started.
#[derive(Clone, Default)]
pub(crate) struct Launch {
    pub(crate) data_dir: PathBuf,
    pub(crate) flags: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Where its log goes; each start goes on behind the last one.
    pub(crate) log: Option<PathBuf>,
}

/// A running process.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    launch: Launch,
}

impl Launch {
    /// The command that starts the binary.
    fn command(&self, address: SocketAddr) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
        command
            .args(["--listen", &address.to_string(), "--data-dir"])
            .arg(&self.data_dir)
            .args(&self.flags)
            .envs(self.environment.iter().cloned())
            .stdout(Stdio::null());
        match &self.log {
            Some(path) => command.stderr(log_file(path)),
            None => command.stderr(Stdio::piped()),
        };
        command
    }

    /// Starts the binary on a free port and waits until it answers, ready or not.
    pub(crate) fn start(self) -> Process {
        // The port is free now; nobody else on this machine is likely to take it in between.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let child = self.command(address).spawn().unwrap();
        let mut process = Process {
            child,
            address,
            launch: self,
        };
        for _ in 0..TRIES_MAX {
            if process.get("/-/healthy").try_send().is_some() {
                return process;
            }
            let ended = process.child.try_wait().unwrap();
            assert_eq!(ended, None, "the server does not start: {}", process.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not answer");
    }
}

fn log_file(path: &Path) -> File {
    let file = File::options().append(true).create(true).open(path);
    file.unwrap()
}

impl Process {
    /// Starts the binary on a free port and waits until it is ready.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// As [`Process::start`], with more flags.
    pub(crate) fn start_with(data_dir: &Path, flags: &[&str]) -> Self {
        let launch = Launch {
            data_dir: data_dir.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            ..Launch::default()
        };
        launch.start().until_ready()
    }

    /// Waits until it is ready.
    pub(crate) fn until_ready(self) -> Self {
        for _ in 0..TRIES_MAX {
            if self.get("/ready").send().status == 200 {
                return self;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not become ready");
    }

    pub(crate) fn get<'a>(&self, path: &'a str) -> Request<'a> {
        request(self.address, "GET", path)
    }

    pub(crate) fn post<'a>(&self, path: &'a str) -> Request<'a> {
        request(self.address, "POST", path)
    }

    /// How it was started.
    pub(crate) fn launch(&self) -> Launch {
        self.launch.clone()
    }

    /// What it has logged, over all starts, where that goes to a file.
    pub(crate) fn log(&self) -> String {
        let path = self.launch.log.as_ref();
        path.map_or_else(String::new, |path| std::fs::read_to_string(path).unwrap())
    }

    /// Ends the process without a word; gives how it was started.
    pub(crate) fn kill(mut self) -> Launch {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.launch.clone()
    }

    /// Ends the process without a word and starts another one over the same directory.
    pub(crate) fn kill_and_restart(self) -> Self {
        self.kill().start().until_ready()
    }

    /// Asks the process to stop and gives its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        for _ in 0..TRIES_MAX {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not stop: {}", self.log());
    }

    /// What a second process over the same directory says.
    pub(crate) fn second(&self) -> Output {
        let launch = Launch {
            data_dir: self.launch.data_dir.clone(),
            ..Launch::default()
        };
        let child = launch.command("127.0.0.1:0".parse().unwrap()).spawn();
        child.unwrap().wait_with_output().unwrap()
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
