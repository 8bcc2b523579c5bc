//! `moto_server` (PyPI `moto[s3,server]`) on loopback, where it is installed: a store that speaks the S3
//! protocol for real. Tests of this module start it, and those of the server, which include this file.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The bucket that is there from the start.
pub(crate) const BUCKET: &str = "trine";
/// How often it is asked whether it has started, every 100 ms.
const TRIES_MAX: u32 = 600;

/// A running store; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Moto {
    child: Child,
    address: SocketAddr,
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Moto {
    /// Starts one. Where it is not installed this says so, and gives nothing: the test is skipped.
    pub(crate) fn start() -> Option<Self> {
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .ok()?;
        let child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("SKIPPED: moto_server is not installed");
            return None;
        };
        let store = Self { child, address };
        for _ in 0..TRIES_MAX {
            if store.make_bucket() == Some(200) {
                return Some(store);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("SKIPPED: moto_server is installed and does not start");
        None
    }

    /// Where it listens, for plain HTTP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The status of the answer.
    fn make_bucket(&self) -> Option<u16> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let head = format!(
            "PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }
}

/// What a client of the store at `address` has in its environment.
pub(crate) fn environment(address: SocketAddr) -> [(&'static str, String); 3] {
    [
        ("AWS_ACCESS_KEY_ID", "id".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
    ]
}
