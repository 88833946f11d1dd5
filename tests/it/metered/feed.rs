//! A service that says only what a test tells it to.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The head of an answer whose body comes in chunks.
pub(super) const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
/// The head of a stream of events.
pub(super) const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                                 Transfer-Encoding: chunked\r\n\r\n";

/// How long a test waits for a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// A service.
pub(super) struct Feed {
    pub(super) address: SocketAddr,
    listener: TcpListener,
}

/// The service's side of one request. It hangs up when it is dropped.
pub(super) struct Side(TcpStream, String);

impl Feed {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    /// Waits for the next request, on a connection of its own.
    pub(super) async fn asked(&self) -> Side {
        let asked = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let (mut socket, _) = asked.expect("the service is asked").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        Side(socket, String::from_utf8(head).unwrap())
    }
}

impl Side {
    /// What was asked.
    pub(super) fn head(&self) -> &str {
        &self.1
    }

    pub(super) async fn say(&mut self, words: &str) {
        self.0.write_all(words.as_bytes()).await.unwrap();
    }

    /// Says a chunk.
    pub(super) async fn chunk(&mut self, data: &str) {
        self.say(&format!("{:x}\r\n{data}\r\n", data.len())).await;
    }

    /// Says that no more chunks come.
    pub(super) async fn end(&mut self) {
        self.say("0\r\n\r\n").await;
    }

    /// Waits until the other side has hung up.
    pub(super) async fn left(mut self) {
        let mut rest = Vec::new();
        let _reset = self.0.read_to_end(&mut rest).await;
    }
}
