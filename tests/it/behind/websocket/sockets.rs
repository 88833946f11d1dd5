//! A service and a client that speak WebSocket as others wrote it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use super::super::PATIENCE;

/// A WebSocket over a socket.
pub(super) type Socket = WebSocketStream<TcpStream>;

/// A service that sends back what it is sent. Words are orders: `flood` has it send without an end,
/// `leave` close with a reason, `drop` hang up without a word, and `deaf` read nothing more. It refuses
/// `/403` and `/500`.
pub(super) struct Sockets {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    open: AtomicUsize,
    flooded: AtomicUsize,
    seen: Mutex<Vec<HeaderMap>>,
    ends: Mutex<Vec<Option<CloseFrame>>>,
}

impl Sockets {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a service that is spoken to by TLS, or without.
    pub(super) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                all.spawn(async move {
                    state.open.fetch_add(1, Ordering::SeqCst);
                    let _open = Open(&state);
                    match tls {
                        None => serve(socket, &state).await,
                        Some(tls) => serve(tls.accept(socket).await.unwrap(), &state).await,
                    }
                });
            }
        });
        Self { address, state, serving }
    }

    /// Returns the key that names it.
    pub(super) fn url(&self) -> String {
        format!("url = \"http://{}\"\n", self.address)
    }

    /// Returns how many connections there are.
    pub(super) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Returns how many messages of floods were taken.
    pub(super) fn flooded(&self) -> usize {
        self.state.flooded.load(Ordering::SeqCst)
    }

    /// Returns the fields of all requests so far.
    pub(super) fn seen(&self) -> Vec<HeaderMap> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Returns how the WebSockets have ended so far: by a close frame, if there was one.
    pub(super) fn ends(&self) -> Vec<Option<CloseFrame>> {
        self.state.ends.lock().unwrap().clone()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A connection that is open, for as long as this value lives.
struct Open<'a>(&'a State);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(socket: S, state: &State) {
    #[expect(clippy::result_large_err, reason = "the type is not ours")]
    let callback = |request: &server::Request, mut response: server::Response| {
        state.seen.lock().unwrap().push(request.headers().clone());
        let path = request.uri().path();
        if let Some(status) = path.rsplit('/').next().and_then(|status| status.parse().ok()) {
            let mut refusal = Response::new(Some("not here".to_owned()));
            *refusal.status_mut() = StatusCode::from_u16(status).unwrap();
            return Err(refusal);
        }
        if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
            response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
        }
        response.headers_mut().insert("x-service", "here".parse().unwrap());
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(socket, callback).await else { return };
    let mut end = None;
    while let Some(Ok(message)) = socket.next().await {
        match &message {
            Message::Text(words) if *words == "flood" => loop {
                if socket.send(Message::binary(vec![7; 64 << 10])).await.is_err() {
                    break;
                }
                state.flooded.fetch_add(1, Ordering::SeqCst);
            },
            Message::Text(words) if *words == "leave" => {
                let frame = CloseFrame { code: 4001.into(), reason: "enough".into() };
                socket.close(Some(frame)).await.unwrap();
            }
            Message::Text(words) if *words == "drop" => return,
            Message::Text(words) if *words == "deaf" => std::future::pending().await,
            Message::Text(_) | Message::Binary(_) => {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
            Message::Close(frame) => end.clone_from(frame),
            // They are answered by the library.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    state.ends.lock().unwrap().push(end);
}

/// Asks a gateway for a WebSocket, and returns it with the fields of the answer, or the status.
pub(super) async fn ask(
    host: &str,
    path: &str,
    field: &str,
) -> Result<(Socket, HeaderMap), (u16, HeaderMap)> {
    let mut request = format!("ws://{host}{path}").into_client_request().unwrap();
    if let Some((name, value)) = field.split_once(": ") {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let socket = TcpStream::connect(host).await.unwrap();
    match tokio::time::timeout(PATIENCE, client_async(request, socket)).await.unwrap() {
        Ok((socket, answer)) => Ok((socket, answer.headers().clone())),
        Err(Error::Http(answer)) => Err((answer.status().as_u16(), answer.headers().clone())),
        Err(error) => panic!("{error}"),
    }
}

/// Opens a WebSocket through a gateway.
pub(super) async fn open(host: &str, path: &str) -> Socket {
    ask(host, path, "").await.unwrap().0
}

/// Returns the next message.
pub(super) async fn next<S>(socket: &mut WebSocketStream<S>) -> Message
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

/// Reads until a close frame or the end, and returns the code and the reason if there are some.
pub(super) async fn close_of<S>(socket: &mut WebSocketStream<S>) -> Option<(u16, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut found = None;
    let reading = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(frame)) = message {
                found = Some((frame.code.into(), frame.reason.to_string()));
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    found
}

/// Sends words, and asserts that they come back.
pub(super) async fn echo<S>(socket: &mut WebSocketStream<S>, words: &str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(Message::text(words)).await.unwrap();
    assert_eq!(next(socket).await, Message::text(words));
}
