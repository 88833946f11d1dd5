//! Requests that share a connection of HTTP/2, and do not hold each other up.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::modern::Modern;
use super::{Front, hear};
use crate::support::until;

/// How long anybody waits who has nothing to wait for.
const SOON: Duration = Duration::from_secs(5);
/// So many for each worker, so that none is without.
const MANY: usize = 8;

#[tokio::test]
async fn a_client_that_reads_nothing_holds_no_other_answer_of_an_http2_service_up() {
    let service = Modern::start(None).await;
    let keys = format!("url = \"http://{}\"\nhttp = \"2\"\n", service.address);
    let front = Front::start(&keys, "").await;
    let mut deaf = Vec::new();
    for _ in 0..MANY {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut socket = socket.connect(front.host().parse().unwrap()).await.unwrap();
        socket.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        hear(&mut socket, "HTTP/1.1 200 OK").await;
        deaf.push(socket);
    }
    until_it_stands_still(|| service.pieces()).await;

    for _ in 0..MANY {
        let told = timeout(SOON, front.get("/x")).await;
        assert_eq!(told, Ok((200, "over 2".to_owned())), "it waits for others");
    }
}

#[tokio::test]
async fn an_upload_that_a_service_does_not_read_holds_no_other_of_its_client_up() {
    // It takes connections and never reads.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = listener.local_addr().unwrap();
    let service = Modern::start(None).await;
    let more = format!(
        "[upstreams.deaf]\nurl = \"http://{deaf}\"\n\n\
         [[route]]\npath = \"/deaf\"\nfree = true\nupstream = \"deaf\"\n\n"
    );
    let front = Front::start(&format!("url = \"http://{}\"\n", service.address), &more).await;
    let client = connect(&front).await;
    let piece = Bytes::from(vec![7; 64 << 10]);
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let endless = repeat(&piece).inspect(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let stuck = tokio::spawn(post(client.clone(), "/deaf", endless));
    until_it_stands_still(|| taken.load(Ordering::SeqCst)).await;

    let whole = repeat(&piece).take(64);
    let answer = timeout(SOON, post(client, "/echo", whole)).await.expect("it waits for the other");
    let echoed = timeout(SOON, answer.into_body().collect()).await.unwrap().unwrap().to_bytes();

    assert_eq!(echoed.len(), 4 << 20);
    assert!(!stuck.is_finished());
    stuck.abort();
}

#[tokio::test]
async fn another_connection_is_opened_where_an_http2_service_takes_no_more_on_one() {
    let service = Modern::start_narrow(None, Some(3)).await;
    let keys = format!("url = \"http://{}\"\nhttp = \"2\"\nanswer_secs = 4\n", service.address);
    let front = Front::start(&keys, "").await;
    // One connection of a client is served by one worker; nothing was open before.
    let client = connect(&front).await;
    let began = Instant::now();

    let all = (0..12).map(|_| post(client.clone(), "/slow", stream::empty()));
    for answer in join_all(all).await {
        assert_eq!(answer.status(), 200);
    }

    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!((service.hits(), service.connections()), (12, 4));
}

/// Waits until something is counted, and no more of it.
async fn until_it_stands_still(count: impl Fn() -> usize) {
    until("it stands still", async || {
        let before = count();
        tokio::time::sleep(Duration::from_millis(500)).await;
        before > 0 && count() == before
    })
    .await;
}

/// Returns a piece again and again.
fn repeat(piece: &Bytes) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + use<> {
    stream::repeat(piece.clone()).map(|piece| Ok(Frame::data(piece)))
}

type Client = SendRequest<UnsyncBoxBody<Bytes, Infallible>>;

/// Connects to a gateway with HTTP/2.
async fn connect(front: &Front) -> Client {
    let socket = TcpStream::connect(front.host()).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    client
}

/// Sends a body of pieces.
async fn post(
    mut client: Client,
    path: &str,
    pieces: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static,
) -> Response<Incoming> {
    let body = StreamBody::new(pieces).boxed_unsync();
    let request = Request::post(format!("http://x{path}")).body(body).unwrap();
    client.send_request(request).await.unwrap()
}
