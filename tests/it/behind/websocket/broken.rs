//! What is no WebSocket, and what is hidden behind one.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::service::{Act, Service};
use super::super::{Front, PATIENCE, hear};
use super::sockets::Sockets;
use super::{AGREED, ASKED};
use crate::support::{terminate, until};

/// Says something to a gateway, and reads until it hangs up: the head of the answer, and what follows.
async fn said(front: &Front, said: &[u8]) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(front.host()).await.unwrap();
    socket.write_all(said).await.unwrap();
    let mut all = Vec::new();
    let reading = socket.read_to_end(&mut all);
    // A reset is an end as well.
    let _reset = tokio::time::timeout(PATIENCE, reading).await.expect("the gateway hangs up");
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let rest = all.split_off(end);
    (String::from_utf8(all).unwrap(), rest)
}

/// Returns the code and the reason, where some bytes are a close frame that is not masked.
fn close(bytes: &[u8]) -> Option<(u16, &str)> {
    let [0x88, _length, high, low, reason @ ..] = bytes else { return None };
    Some((u16::from_be_bytes([*high, *low]), std::str::from_utf8(reason).unwrap()))
}

#[tokio::test]
async fn what_comes_with_the_request_is_the_first_of_the_websocket() {
    let service = Sockets::start().await;
    let front = Front::start(&service.url(), "").await;
    // "hi" and a close frame, both masked with nothing.
    let frames = b"\x81\x82\0\0\0\0hi\x88\x82\0\0\0\0\x03\xe8";

    let (head, rest) = said(&front, &[ASKED.as_bytes(), frames].concat()).await;

    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(rest, b"\x81\x02hi\x88\x02\x03\xe8");
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn what_the_service_sends_with_its_answer_is_not_lost() {
    let words = format!("{AGREED}\u{1}\u{2}he\u{0}\u{1}y");
    let service = Service::start(move |_| Act::Last(words.clone())).await;
    let front = Front::start(&service.url(), "").await;

    let (head, rest) = said(&front, ASKED.as_bytes()).await;

    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(rest, b"\x01\x02he\0\x01y", "a message whose end has not come");
}

#[tokio::test]
async fn a_request_behind_the_one_for_a_websocket_is_none() {
    let service = Service::start(|_| Act::Hang(AGREED.to_owned())).await;
    let front = Front::start(&service.url(), "").await;

    let (head, rest) =
        said(&front, format!("{ASKED}GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;

    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let told = close(&rest);
    assert_eq!(told, Some((1002, "the client has sent a reserved opcode")), "{rest:?}");
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn a_client_that_sends_what_is_no_frame_is_told_and_so_is_the_service() {
    let service = Sockets::start().await;
    let front = Front::start(&service.url(), "").await;
    let whole = b"\x81\x82\0\0\0\0hi";
    for (at, (bytes, fault)) in [
        (&b"\x81\x02hi"[..], "a payload that is not masked"),
        (b"\x83\x80\0\0\0\0", "a reserved opcode"),
        (b"\x09\x80\0\0\0\0", "a control frame in pieces"),
        (b"\x89\xfe\0\x7e\0\0\0\0", "a control frame of more than 125 bytes"),
        (b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", "a length of more than 63 bits"),
        (b"\x80\x80\0\0\0\0", "the end of no message"),
    ]
    .into_iter()
    .enumerate()
    {
        let (head, rest) = said(&front, &[ASKED.as_bytes(), whole, bytes].concat()).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // What was good before it may have come back.
        let rest = rest.strip_prefix(b"\x81\x02hi").unwrap_or(&rest);
        assert_eq!(close(rest), Some((1002, &*format!("the client has sent {fault}"))), "{fault}");
        until("the service has heard", async || service.ends().len() > at).await;
        let end = service.ends().pop().unwrap().unwrap();
        assert_eq!(u16::from(end.code), 1002, "{fault}: {end}");
    }
}

#[tokio::test]
async fn a_service_that_sends_what_is_no_frame_is_not_passed_on() {
    for (bytes, fault) in [
        ("\u{1}\u{7}he", None),
        ("\u{3}\u{0}", Some("a reserved opcode")),
        ("\u{9}\u{0}", Some("a control frame in pieces")),
        ("\u{2}\u{1}a\u{2}\u{1}b", Some("a message within a message")),
    ] {
        let words = format!("{AGREED}{bytes}");
        let service = Service::start(move |_| Act::Hang(words.clone())).await;
        let front = Front::start(&(service.url() + "pause_secs = 1"), "").await;

        let (_, rest) = said(&front, ASKED.as_bytes()).await;

        match fault {
            // A frame is not cut into by another one.
            None => assert_eq!(rest, bytes.as_bytes()),
            Some(fault) => {
                let rest = rest.strip_prefix(b"\x02\x01a").unwrap_or(&rest);
                let told = format!("the service has sent {fault}");
                assert_eq!(close(rest), Some((1002, &*told)), "{rest:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_websocket_that_is_agreed_on_while_the_gateway_stops_ends_at_once() {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("url = \"http://{}\"", service.local_addr().unwrap());
    let front = Front::start(&url, "").await;
    let agreeing = async {
        let (mut socket, _) = service.accept().await.unwrap();
        hear(&mut socket, "\r\n\r\n").await;
        terminate(front.gateway.pid());
        until("it stops", async || TcpStream::connect(front.host()).await.is_err()).await;
        socket.write_all(AGREED.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        socket.read_to_end(&mut told).await.unwrap();
        told
    };

    let ((head, rest), told) = tokio::join!(said(&front, ASKED.as_bytes()), agreeing);

    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(close(&rest), Some((1001, "the gateway stops")), "{rest:?}");
    assert_eq!(told.first_chunk(), Some(&[0x88, 0x80 | 19]), "a close frame with a mask");
}
