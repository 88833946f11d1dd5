//! Answers that come before the whole request has.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::service::{Service, ok};
use super::{Front, heard};
use crate::support::until;

/// Uploads a body piece by piece, as over a slow line, before anything is read.
async fn uploaded(front: &Front, path: &str, length: usize) -> String {
    let mut socket = TcpStream::connect(front.host()).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    for sent in (0..length).step_by(64 << 10) {
        socket
            .write_all(&[0; 64 << 10])
            .await
            .unwrap_or_else(|error| panic!("{path}: hung up after {sent} bytes: {error}"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    heard(&mut socket).await
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_uploads_hears_why() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "[limits]\nbody_bytes = 600_000\n").await;

    let told = uploaded(&front, "/paid/x", 512 << 10).await;
    assert!(told.starts_with("HTTP/1.1 402 "), "{told}");
    let told = uploaded(&front, "/free", 1 << 20).await;
    assert!(told.starts_with("HTTP/1.1 413 "), "{told}");
    assert_eq!(service.hits(), 0);
}

#[tokio::test]
async fn a_client_that_never_stops_uploading_is_left() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "").await;
    let began = Instant::now();
    for pause in [Duration::ZERO, Duration::from_millis(100)] {
        let mut socket = TcpStream::connect(front.host()).await.unwrap();
        let head = "POST /paid/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        while socket.write_all(b"5\r\nagain\r\n").await.is_ok() {
            tokio::time::sleep(pause).await;
            assert!(began.elapsed() < Duration::from_secs(15), "it is never left");
        }
    }
    until("it is forgotten", async || front.metric("farebox_connections_open").await == 0).await;
}
