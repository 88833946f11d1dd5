//! Answers of services with HTTP/2 that are reset without an error (RFC 9113 §8.1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farebox_channel::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, frame, try_next,
};
use super::{payment, run, spent, world_behind};
use crate::support::{PRICE_MSAT, until};

const ACK: u8 = 1;
const NO_ERROR: [u8; 4] = [0; 4];
/// `:status: 200`, as it stands in the static table of RFC 7541.
const OK: u8 = 0x88;

/// Starts a service that resets each of its answers without an error: the first before its end, the
/// others behind it.
async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket, Arc::clone(&asked)));
        }
    });
    address
}

/// Answers the requests of a connection until the gateway hangs up. Of what they upload nothing is
/// taken but what fits into the first window.
async fn serve(mut socket: TcpStream, asked: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await?;
    socket.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let said = match try_next(&mut socket).await? {
            (SETTINGS, _, 1..) => frame(SETTINGS, ACK, 0, &[]),
            (HEADERS, stream, _) => {
                let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
                let end = if is_first { 0 } else { END_STREAM };
                let head = frame(HEADERS, END_HEADERS, stream, &[OK]);
                let body = frame(DATA, end, stream, b"hello");
                [head, body, frame(RST_STREAM, 0, stream, &NO_ERROR)].concat()
            }
            _ => continue,
        };
        socket.write_all(&said).await?;
    }
}

#[tokio::test]
async fn an_answer_that_is_reset_without_an_error_is_whole_only_where_it_has_ended() {
    let address = start().await;
    let world = world_behind(format!("url = \"http://{address}\"\nhttp = \"2\"\n")).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);
    // More than a service takes that reads nothing.
    let upload = "x".repeat(100_000);
    let url = world.gateway.url("/paid/x");
    let get = ["--silent", "-H", &field, &url];
    let post = [&get[..], &["--data", &upload]].concat();

    let broken = run("curl", &get).await;
    assert!(!broken.status.success(), "{broken:?}");
    until("it is not charged", async || spent(&buyer, &paid).await == 0).await;

    for whole in [run("curl", &get).await, run("curl", &post).await] {
        assert!(whole.status.success() && whole.stdout == b"hello", "{whole:?}");
    }
    assert_eq!(spent(&buyer, &paid).await, 2 * PRICE_MSAT);
}
