//! Hostile clients with HTTP/2, whose frames are written by hand (RFC 9113 §4.1).

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, next, try_next,
};
use super::service::{Act, Service, ok};
use super::{Front, SOON};
use crate::support::until;

/// Returns the fields of a GET, in the static table of RFC 7541 and literally.
fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x01, 1, b'x']);
    block
}

/// Opens a connection, with settings.
async fn open(front: &Front, settings: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(front.host()).await.unwrap();
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    said.extend(frame(SETTINGS, 0, 0, settings));
    socket.write_all(&said).await.unwrap();
    socket
}

/// Writes until the gateway hangs up or everything is written, and reads what it says beside that.
async fn flood(socket: TcpStream, said: Vec<u8>) -> bool {
    let (mut from, mut to) = socket.into_split();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        let _ended = from.read_to_end(&mut all).await;
        all
    });
    let written = to.write_all(&said).await.is_ok();
    let ended = tokio::time::timeout(Duration::from_secs(10), reading).await;
    drop(to);
    written && ended.is_err()
}

/// Asserts that a free route is served quickly while something goes on.
async fn is_served_meanwhile<T>(front: &Front, going_on: impl Future<Output = T>) -> T {
    let serving = async {
        loop {
            let began = Instant::now();
            assert_eq!(front.get("/free").await, (200, "ok".to_owned()));
            assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        }
    };
    tokio::select! {
        ended = going_on => ended,
        () = serving => unreachable!(),
    }
}

/// Waits until nothing is left of a flood.
async fn until_all_is_over(front: &Front) {
    until("nothing is left", async || {
        front.metric("farebox_requests_in_flight").await == 0
            && front.metric("farebox_connections_open").await == 0
    })
    .await;
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "").await;
    let mut said = Vec::new();
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        said.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/free")));
        said.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }

    let socket = open(&front, &[]).await;
    let is_open = is_served_meanwhile(&front, flood(socket, said)).await;

    assert!(!is_open, "the gateway has hung up");
    let asked = service.seen().iter().filter(|seen| seen.field("user-agent").is_none()).count();
    assert!(asked < 2_000, "{asked} requests reached the service");
    until_all_is_over(&front).await;
}

/// Asks 90 times, waits until the gateway has taken all, and resets them.
async fn ask_and_leave(socket: &mut TcpStream, first: u32) -> std::io::Result<()> {
    let streams = || (first..first + 90).map(|number| 2 * number + 1);
    let asked = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/free"));
    let mut said: Vec<u8> = streams().flat_map(asked).collect();
    said.extend(frame(PING, 0, 0, &[7; 8]));
    socket.write_all(&said).await?;
    while try_next(socket).await?.0 != PING {}
    let left = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    socket.write_all(&streams().flat_map(left).collect::<Vec<_>>()).await
}

#[tokio::test]
async fn streams_that_are_reset_once_they_are_under_way_end_the_connection() {
    let service = Service::start(|seen| {
        let is_flood = seen.field("user-agent").is_none();
        if is_flood { Act::Hang(String::new()) } else { ok("ok") }
    })
    .await;
    let front = Front::start(&service.url(), "").await;
    let mut socket = open(&front, &[]).await;

    let mut asked = 0;
    let leaving = async {
        while ask_and_leave(&mut socket, asked).await.is_ok() {
            asked += 90;
            assert!(asked < 18_000, "the gateway goes on");
        }
    };
    is_served_meanwhile(&front, leaving).await;

    assert!(asked > 90, "a few are fine");
    until_all_is_over(&front).await;
}

#[tokio::test]
async fn a_head_without_an_end_ends_the_connection() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "").await;
    let mut said = frame(HEADERS, END_STREAM, 1, &get("/free"));
    for number in 0..20_000_u32 {
        let mut field = vec![0x00, 5];
        field.extend(format!("x{:04}", number % 10_000).as_bytes());
        field.extend([10]);
        field.extend([b'y'; 10]);
        said.extend(frame(CONTINUATION, 0, 1, &field));
    }

    let socket = open(&front, &[]).await;
    let is_open = is_served_meanwhile(&front, flood(socket, said)).await;

    assert!(!is_open, "the gateway has hung up");
    until_all_is_over(&front).await;
}

#[tokio::test]
async fn settings_and_pings_without_end_hold_nobody_up() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "[limits]\nwrite_secs = 2\nheader_secs = 3\n").await;
    for (kind, payload) in [(SETTINGS, vec![]), (PING, vec![7; 8])] {
        let said = frame(kind, 0, 0, &payload).repeat(500_000);

        // One that reads the answers, and one that does not.
        let reads = flood(open(&front, &[]).await, said.clone());
        is_served_meanwhile(&front, reads).await;
        let mut deaf = open(&front, &[]).await;
        let writing = tokio::time::timeout(Duration::from_secs(10), deaf.write_all(&said));
        let _blocked = is_served_meanwhile(&front, writing).await;

        until_all_is_over(&front).await;
    }
}

#[tokio::test]
async fn answers_that_a_client_gives_no_room_to_are_left_and_others_of_its_connection_go_on() {
    let service = Service::start(|seen| {
        let is_flood = seen.field("user-agent").is_none();
        if is_flood { Act::Say(large()) } else { ok("ok") }
    })
    .await;
    let front = Front::start(&service.url(), "[limits]\nwrite_secs = 2\nidle_secs = 5\n").await;
    // Windows of nothing: no byte of an answer may be sent, and the connection is never full.
    let mut socket = open(&front, &[0, 4, 0, 0, 0, 0]).await;
    let mut said = Vec::new();
    for number in 0..50 {
        said.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &get("/free")));
    }
    socket.write_all(&said).await.unwrap();
    until("they are under way", async || service.hits() >= 50).await;
    let began = Instant::now();

    // Pings show that the client is there. That gives the answers no more time.
    let mut reset = std::collections::BTreeSet::new();
    let leaving = async {
        while reset.len() < 50 {
            socket.write_all(&frame(PING, 0, 0, &[7; 8])).await.unwrap();
            let (kind, stream, _) = next(&mut socket).await;
            if kind == RST_STREAM {
                assert!(reset.insert(stream), "{stream} twice");
            }
            assert!(began.elapsed() < Duration::from_secs(15), "they are never left: {reset:?}");
        }
    };
    is_served_meanwhile(&front, leaving).await;
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());

    // The connection goes on, with room for this one.
    let mut said = frame(HEADERS, END_STREAM | END_HEADERS, 101, &get("/free"));
    said.extend(frame(WINDOW_UPDATE, 0, 101, &(1_u32 << 20).to_be_bytes()));
    said.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes()));
    socket.write_all(&said).await.unwrap();
    let mut answered = 0;
    while answered < 1 << 20 {
        let (kind, stream, length) = next(&mut socket).await;
        assert_ne!(kind, GOAWAY, "the connection is left");
        if (kind, stream) == (DATA, 101) {
            answered += length;
        }
    }
    until_all_is_over(&front).await;
}

fn large() -> String {
    let body = "x".repeat(1 << 20);
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_stream_whose_body_never_ends_is_told_so() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "[limits]\nbody_secs = 1\nidle_secs = 2\n").await;
    let mut post = get("/free");
    post[0] = 0x83;
    let mut said = frame(HEADERS, END_HEADERS, 1, &post);
    said.extend(frame(DATA, 0, 1, b"begun"));
    let mut socket = open(&front, &[]).await;
    socket.write_all(&said).await.unwrap();

    let mut heard = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(15), socket.read_to_end(&mut heard));
    let _ended = reading.await.unwrap();

    let told = String::from_utf8_lossy(&heard).into_owned();
    assert!(told.contains("urn:farebox:problem:request-timeout"), "{told}");
    assert_eq!(service.hits(), 0, "no whole request has come");
}
