//! One keep-alive connection: a request out, its answer in, and no second one before that.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::Outcome;

/// How much is read at once, and how long the fields of an answer are at most, in bytes.
const PIECE_MAX: usize = 256 * 1024;
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
    /// How many bytes have come in since the beginning.
    pub(crate) bytes: u64,
    buffer: Box<[u8]>,
    filled: usize,
    /// How much of the answer has come in, also what is in the buffer no more.
    came: usize,
    /// How long the whole answer is and whether it is one that counts, once its fields are there.
    head: Option<(usize, bool)>,
}

/// An answer that has come in completely.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The status is 200.
    Ok,
    /// It is another one. This is the answer, or the end of it.
    Other(String),
}

impl Connection {
    /// Connects to a proxy.
    pub(crate) fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let buffer = vec![0; PIECE_MAX].into_boxed_slice();
        Ok(Self { stream, began: Instant::now(), bytes: 0, buffer, filled: 0, came: 0, head: None })
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
        if self.filled == self.buffer.len() {
            // The fields are read already, and nobody looks at a body.
            self.filled = 0;
        }
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => Err("the connection was closed".into()),
            Ok(more) => {
                self.filled += more;
                self.came += more;
                self.bytes += u64::try_from(more)?;
                self.take()
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
                _ => Err(error.into()),
            },
        }
    }

    /// Takes the answer once it is complete.
    fn take(&mut self) -> Outcome<Option<Answer>> {
        let read = &self.buffer[..self.filled];
        let (length, is_ok) = match self.head {
            Some(head) => head,
            None => match length(read)? {
                Some(length) => *self.head.insert((length, read.starts_with(OK))),
                None => return Ok(None),
            },
        };
        if length > self.came {
            return Ok(None);
        }
        if length < self.came {
            return Err("more came than one answer".into());
        }
        let answer = match is_ok {
            true => Answer::Ok,
            false => Answer::Other(String::from_utf8_lossy(read).into_owned()),
        };
        (self.filled, self.came, self.head) = (0, 0, None);
        Ok(Some(answer))
    }
}

/// Returns how long an answer is with its fields, once they are all there.
fn length(read: &[u8]) -> Outcome<Option<usize>> {
    let Some(end) = read.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END) else {
        return match read.len() < PIECE_MAX {
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
    Ok(Some(end + HEAD_END.len() + body))
}
