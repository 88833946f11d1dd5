//! A service that speaks HTTP/1.1 by hand, so that a test says when it breaks and what it counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a service does about a request.
pub(super) enum Act {
    /// Says something, and waits for the next request.
    Say(String),
    /// Says something, and hangs up.
    Last(String),
    /// Hangs up without a word.
    HangUp,
    /// Says something and then nothing more, until the other side hangs up.
    Hang(String),
}

/// Returns a whole answer.
pub(super) fn ok(body: &str) -> Act {
    Act::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// A request as the service got it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Its number among all, from 0.
    pub(super) number: usize,
    /// Its head, as it was sent.
    pub(super) head: String,
    /// Its body, without the marks of chunks.
    pub(super) body: Vec<u8>,
}

impl Seen {
    /// Returns the method and the target.
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap().strip_suffix(" HTTP/1.1").unwrap()
    }

    /// Returns the value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

type Script = dyn Fn(&Seen) -> Act + Send + Sync;

/// A running service.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    open: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

impl Service {
    /// Starts a service.
    pub(super) async fn start(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::listen(listener, script)
    }

    /// Starts a service on an address where none listens now.
    pub(super) async fn start_on(
        address: SocketAddr,
        script: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::listen(TcpListener::bind(address).await.unwrap(), script)
    }

    fn listen(
        listener: TcpListener,
        script: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let (script, shared): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&state));
        let serving = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (state, script) = (Arc::clone(&shared), Arc::clone(&script));
                all.spawn(async move {
                    state.open.fetch_add(1, Ordering::SeqCst);
                    let _open = Open(&state);
                    serve(socket, &state, &*script).await;
                });
            }
        });
        Self { address, state, serving }
    }

    /// Returns the key that names it.
    pub(super) fn url(&self) -> String {
        format!("url = \"http://{}\"\n", self.address)
    }

    /// Returns how many connections there were.
    pub(super) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Returns how many connections there are.
    pub(super) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Returns all requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Returns the number of requests so far.
    pub(super) fn hits(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }
}

impl Drop for Service {
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

/// Answers the requests of a connection until one of both sides hangs up.
async fn serve(socket: TcpStream, state: &State, script: &Script) {
    let mut socket = BufReader::new(socket);
    while let Some((head, body)) = read(&mut socket).await {
        let number = state.seen.lock().unwrap().len();
        let seen = Seen { number, head, body };
        state.seen.lock().unwrap().push(seen.clone());
        let (words, then) = match script(&seen) {
            Act::Say(words) => (words, None),
            Act::Last(words) => (words, Some(false)),
            Act::HangUp => (String::new(), Some(false)),
            Act::Hang(words) => (words, Some(true)),
        };
        if socket.get_mut().write_all(words.as_bytes()).await.is_err() {
            return;
        }
        match then {
            None => {}
            Some(false) => return,
            Some(true) => {
                // It ends when the other side hangs up.
                let _read = socket.read(&mut [0; 1]).await;
                return;
            }
        }
    }
}

/// Reads one request.
async fn read(socket: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if socket.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
        if &head[before..] == "\r\n" {
            break;
        }
    }
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if lower.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            socket.read_line(&mut size).await.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut piece = vec![0; size + 2];
            socket.read_exact(&mut piece).await.ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&piece[..size]);
        }
    } else if let Some((_, length)) = lower.split_once("content-length: ") {
        body = vec![0; length.split("\r\n").next()?.parse().ok()?];
        socket.read_exact(&mut body).await.ok()?;
    }
    Some((head, body))
}

/// Waits for a time that is part of a promise, such as a rest.
pub(super) async fn pass(secs: u64) {
    tokio::time::sleep(Duration::from_secs(secs)).await;
}
