//! WebSockets through the gateway: between a client and a service that others wrote.

mod broken;
mod ends;
mod metered;
mod paid;
mod secure;
mod sockets;

use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::Front;
use super::service::{Act, Service, ok};
use crate::support::until;
use sockets::{Sockets, ask, echo, next, open};

/// What a client says that asks for a WebSocket by hand.
const ASKED: &str = "GET /x HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade, X-Gone\r\n\
                     Upgrade: h2c, WebSocket\r\nX-Gone: 1\r\nX-Kept: 2\r\nTE: trailers\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// What a service says that agrees.
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade, X-Gone\r\n\
                      Upgrade: websocket\r\nX-Gone: 1\r\nSec-WebSocket-Extensions: x\r\n\r\n";

#[tokio::test]
async fn messages_of_every_kind_and_length_pass_both_ways_unchanged() {
    let service = Sockets::start().await;
    let front = Front::start(&service.url(), "").await;
    let (mut socket, fields) =
        ask(front.host(), "/x", "Sec-WebSocket-Protocol: chat").await.unwrap();
    assert_eq!(fields["x-service"], "here");
    assert_eq!(fields["sec-websocket-protocol"], "chat");

    for length in [0, 1, 125, 126, 65_535, 65_536, 5_000_000_u32] {
        let bytes: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
        let message = Message::binary(bytes);
        socket.send(message.clone()).await.unwrap();
        assert!(next(&mut socket).await == message, "{length}");
    }
    echo(&mut socket, "grüß dich").await;
    for (words, opcode, is_final) in [
        ("in ", Data::Text, false),
        ("three ", Data::Continue, false),
        ("parts", Data::Continue, true),
    ] {
        let frame = Frame::message(words, OpCode::Data(opcode), is_final);
        socket.send(Message::Frame(frame)).await.unwrap();
    }
    assert_eq!(next(&mut socket).await, Message::text("in three parts"));
    socket.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("there?".into()));
}

#[tokio::test]
async fn only_a_websocket_is_asked_for_and_with_no_other_field_of_the_connection() {
    let service = Service::start(|_| Act::Hang(AGREED.to_owned())).await;
    let front = Front::start(&service.url(), "").await;

    let mut socket = tokio::net::TcpStream::connect(front.host()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, ASKED.as_bytes()).await.unwrap();
    let told = super::hear(&mut socket, "\r\n\r\n").await.to_ascii_lowercase();

    assert!(told.starts_with("http/1.1 101 "), "{told}");
    assert!(told.contains("connection: upgrade\r\n"), "{told}");
    assert!(told.contains("upgrade: websocket\r\n") && !told.contains("x-gone"), "{told}");
    assert!(told.contains("sec-websocket-extensions: x\r\n"), "{told}");
    assert!(!told.contains("content-length") && !told.contains("transfer-encoding"), "{told}");
    let seen = service.seen().remove(0);
    assert_eq!(seen.field("connection"), Some("Upgrade"));
    assert_eq!(seen.field("upgrade"), Some("websocket"));
    assert_eq!((seen.field("x-gone"), seen.field("te")), (None, None));
    assert_eq!(seen.field("x-kept"), Some("2"));
    assert_eq!(seen.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
}

#[tokio::test]
async fn what_does_not_ask_for_a_websocket_as_it_should_is_an_ordinary_request() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "").await;
    for asked in [
        "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: TLS/1.0\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n\r\n",
        "GET /x HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
         Content-Length: 0\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
         Content-Length: 2\r\n\r\nhi",
    ] {
        let told = front.speak(asked.as_bytes()).await;
        assert!(told.contains(" 200 OK"), "{asked}: {told}");
        let seen = service.seen().pop().unwrap();
        assert_eq!(seen.field("upgrade"), None, "{asked}");
        assert_eq!(seen.field("connection"), None, "{asked}");
        assert_eq!(seen.field("http2-settings"), None, "{asked}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_agree_passes_like_any_other() {
    let service = Sockets::start().await;
    let front = Front::start(&service.url(), "").await;

    let (status, _) = ask(front.host(), "/403", "").await.unwrap_err();

    assert_eq!(status, 403);
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn a_service_that_goes_over_to_another_protocol_unasked_has_failed() {
    let service = Service::start(|_| Act::Hang(AGREED.to_owned())).await;
    let front = Front::start(&(service.url() + "retries = 0"), "").await;
    assert_eq!(front.get("/x").await.0, 502);
    until("it is left", async || service.open() == 0).await;

    let other = AGREED.replace("websocket", "h2c");
    let service = Service::start(move |_| Act::Hang(other.clone())).await;
    let front = Front::start(&(service.url() + "retries = 0"), "").await;
    assert_eq!(ask(front.host(), "/x", "").await.unwrap_err().0, 502);
    front.logged("speaks another protocol without having been asked").await;
}

#[tokio::test]
async fn a_service_that_is_spoken_to_by_http2_takes_no_websockets_and_stays_well() {
    let service = super::modern::Modern::start(None).await;
    let keys = format!("url = \"http://{}\"\nhttp = \"2\"\n", service.address);
    let front = Front::start(&keys, "").await;

    for _ in 0..5 {
        assert_eq!(ask(front.host(), "/x", "").await.unwrap_err().0, 502);
    }

    assert_eq!(front.get("/x").await.0, 200);
    assert!(!std::fs::read_to_string(front.file("log")).unwrap().contains("gets no requests"));
}

#[tokio::test]
async fn a_websocket_is_one_request_with_one_line_when_it_ends() {
    let service = Sockets::start().await;
    let front = Front::start(&service.url(), "[log]\naccess = \"text\"\n").await;
    let mut socket = open(front.host(), "/x").await;
    echo(&mut socket, "hello").await;
    echo(&mut socket, "you").await;
    socket.send(Message::Ping("12".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("12".into()));
    assert_eq!(front.metric("farebox_requests_in_flight").await, 1);
    assert_eq!(front.metric("farebox_connections_open").await, 1);
    let line = "\" 101 outcome=free ";
    assert!(!std::fs::read_to_string(front.file("log")).unwrap().contains(line));

    socket.close(None).await.unwrap();
    assert_eq!(sockets::close_of(&mut socket).await, None);

    front.logged(line).await;
    let log = std::fs::read_to_string(front.file("log")).unwrap();
    let lines: Vec<&str> = log.lines().filter(|it| it.contains(line)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let counts = " bytes_in=10 bytes_out=10 messages_in=2 messages_out=2 route=";
    assert!(lines[0].contains(counts), "{lines:?}");
    assert!(!lines[0].contains("client_left"), "{lines:?}");
    assert_eq!(front.metric("farebox_requests_in_flight").await, 0);
    until("the connection is over", async || {
        front.metric("farebox_connections_open").await == 0 && service.open() == 0
    })
    .await;
}
