//! A client of WebSockets over a plain socket, as far as following logs needs one. A browser that is
//! asked whether it is there answers by itself; so does this one, whenever it reads.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An open connection.
pub(crate) struct Socket(TcpStream);

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A text.
    Text(String),
    /// The end, with its code and reason.
    Close(u16, String),
    /// Nothing for a while.
    Silence,
    /// The connection is gone without a word.
    Gone,
}

/// Opens a connection, or gives the status of the refusal and the start of its text.
pub(crate) fn open(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Socket, (u16, String)> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    let status: u16 = answer[9..12].parse().unwrap();
    if status == 101 {
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        return Ok(Socket(stream));
    }
    let mut text = [0; 1024];
    let length = stream.read(&mut text).unwrap_or(0);
    Err((
        status,
        String::from_utf8_lossy(&text[..length]).into_owned(),
    ))
}

impl Socket {
    /// The next frame that is not a ping; [`Frame::Silence`] when none comes within `patience`.
    pub(crate) fn read(&mut self, patience: Duration) -> Frame {
        // Pings come once a second.
        for _ in 0..=patience.as_secs() + 1 {
            match self.frame(patience) {
                Ok((0x9, body)) => self.send(0xa, &body),
                Ok((0x1, body)) => return Frame::Text(String::from_utf8(body).unwrap()),
                Ok((0x8, body)) if body.len() >= 2 => {
                    let code = u16::from_be_bytes([body[0], body[1]]);
                    return Frame::Close(code, String::from_utf8(body[2..].to_vec()).unwrap());
                }
                Ok(other) => panic!("{other:?}"),
                Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Frame::Silence,
                Err(_) => return Frame::Gone,
            }
        }
        Frame::Silence
    }

    fn frame(&mut self, patience: Duration) -> Result<(u8, Vec<u8>), ErrorKind> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut read = |length: usize| {
            let mut bytes = vec![0; length];
            let done = self.0.read_exact(&mut bytes);
            done.map(|()| bytes).map_err(|error| error.kind())
        };
        let head = read(2)?;
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(read(2)?.try_into().unwrap())),
            127 => u64::from_be_bytes(read(8)?.try_into().unwrap()),
            short => u64::from(short),
        };
        Ok((head[0] & 0xf, read(usize::try_from(length).unwrap())?))
    }

    /// Sends a short frame.
    pub(crate) fn send(&mut self, kind: u8, body: &[u8]) {
        // A mask of zeros leaves the bytes as they are.
        let length = u8::try_from(body.len()).unwrap();
        let mut frame = vec![0x80 | kind, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(body);
        self.0.write_all(&frame).ok();
    }
}
