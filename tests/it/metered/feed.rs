//! A service that says only what a test tells it to.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};

/// The head of an answer whose body comes in chunks.
pub(super) const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
/// The head of a stream of events.
pub(super) const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                                 Transfer-Encoding: chunked\r\n\r\n";

/// How long a test waits for a request, and for words.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A service.
pub(super) struct Feed {
    pub(super) address: SocketAddr,
    listener: TcpListener,
}

/// The service's side of one request: its connection, its head, and what is to come of the chunk that
/// is read. It hangs up when it is dropped.
pub(super) struct Side(BufStream<TcpStream>, String, usize);

impl Feed {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    /// Waits for the next request, on a connection of its own.
    pub(super) async fn asked(&self) -> Side {
        let asked = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let mut socket = BufStream::new(asked.expect("the service is asked").unwrap().0);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        Side(socket, String::from_utf8(head).unwrap(), 0)
    }
}

impl Side {
    /// What was asked.
    pub(super) fn head(&self) -> &str {
        &self.1
    }

    pub(super) async fn say(&mut self, words: &str) {
        self.send(words.as_bytes()).await;
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Says a chunk.
    pub(super) async fn chunk(&mut self, data: &str) {
        self.say(&format!("{:x}\r\n{data}\r\n", data.len())).await;
    }

    /// Says that no more chunks come.
    pub(super) async fn end(&mut self) {
        self.say("0\r\n\r\n").await;
    }

    /// Reads so much of the body, in chunks or as it is.
    pub(super) async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let is_plain = !self.is_chunked();
        let reading = async {
            if is_plain {
                body.resize(length, 0);
                self.0.read_exact(&mut body).await.unwrap();
            }
            while body.len() < length {
                body.push(self.byte().await);
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.unwrap_or_else(|_| panic!("not {length} bytes"));
        body
    }

    /// Tells that nothing comes for a while.
    pub(super) async fn hears_nothing(&mut self) {
        let heard = tokio::time::timeout(Duration::from_millis(300), self.byte()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    fn is_chunked(&self) -> bool {
        self.1.to_ascii_lowercase().contains("transfer-encoding: chunked")
    }

    /// Reads a byte of the body.
    async fn byte(&mut self) -> u8 {
        if self.is_chunked() {
            if self.2 == 0 {
                let mut line = String::new();
                while line.trim().is_empty() || !line.ends_with('\n') {
                    line.push(self.0.read_u8().await.unwrap().into());
                }
                self.2 = usize::from_str_radix(line.trim(), 16).unwrap();
            }
            self.2 -= 1;
        }
        self.0.read_u8().await.unwrap()
    }

    /// Waits until the other side has hung up.
    pub(super) async fn left(mut self) {
        let mut rest = Vec::new();
        let _reset = self.0.read_to_end(&mut rest).await;
    }
}
