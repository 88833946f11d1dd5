//! One keep-alive connection: a request out, its answer in, and no second one before that.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::Outcome;

/// The longest answer, in bytes.
const ANSWER_MAX: usize = 16 * 1024;
/// How an answer begins that counts.
const OK: &[u8] = b"HTTP/1.1 200 ";
/// What ends the fields of an answer.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// The field that tells how long a body is.
const LENGTH: &[u8] = b"\r\ncontent-length:";

/// A connection to a proxy.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// From when on the time of the request under way counts.
    pub(crate) began: Instant,
    buffer: Box<[u8]>,
    filled: usize,
    /// How long the whole answer is, once its fields are there.
    length: Option<usize>,
}

/// An answer that has come in completely.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The status is 200.
    Ok,
    /// It is another one. This is the whole answer.
    Other(String),
}

impl Connection {
    /// Connects to a proxy.
    pub(crate) fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let buffer = vec![0; ANSWER_MAX].into_boxed_slice();
        Ok(Self { stream, began: Instant::now(), buffer, filled: 0, length: None })
    }

    /// Sends a request, whose time counts from `began` on.
    pub(crate) fn send(&mut self, request: &[u8], began: Instant) -> Outcome<()> {
        self.began = began;
        let sent = self.stream.write(request)?;
        // The socket's buffer is empty, and holds a hundred requests.
        if sent < request.len() {
            return Err("a request was not taken in one piece".into());
        }
        Ok(())
    }

    /// Reads what is there, and returns the answer once it is complete.
    pub(crate) fn read(&mut self) -> Outcome<Option<Answer>> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => Err("the connection was closed".into()),
            Ok(more) => {
                self.filled += more;
                self.take()
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
                _ => Err(error.into()),
            },
        }
    }

    /// Takes the answer out of the buffer once it is complete.
    fn take(&mut self) -> Outcome<Option<Answer>> {
        let read = &self.buffer[..self.filled];
        let length = match self.length {
            Some(length) => length,
            None => match length(read)? {
                Some(length) => *self.length.insert(length),
                None => return Ok(None),
            },
        };
        if length > self.filled {
            return Ok(None);
        }
        if length < self.filled {
            return Err("more came than one answer".into());
        }
        let answer = match read.starts_with(OK) {
            true => Answer::Ok,
            false => Answer::Other(String::from_utf8_lossy(read).into_owned()),
        };
        self.filled = 0;
        self.length = None;
        Ok(Some(answer))
    }
}

/// Returns how long an answer is with its fields, once they are all there.
fn length(read: &[u8]) -> Outcome<Option<usize>> {
    let Some(end) = read.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END) else {
        return match read.len() < ANSWER_MAX {
            true => Ok(None),
            false => Err("an answer's fields are too long".into()),
        };
    };
    let head = &read[..end];
    let is_length = |bytes: &[u8]| bytes[2] | 0x20 == b'c' && bytes.eq_ignore_ascii_case(LENGTH);
    let Some(at) = head.windows(LENGTH.len()).position(is_length) else {
        let words = String::from_utf8_lossy(head);
        return Err(format!("an answer does not tell its length: {words}").into());
    };
    let value = head[at + LENGTH.len()..].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let body: usize = std::str::from_utf8(value)?.trim().parse()?;
    let whole = end + HEAD_END.len() + body;
    match whole <= ANSWER_MAX {
        true => Ok(Some(whole)),
        false => Err("an answer is too long".into()),
    }
}
