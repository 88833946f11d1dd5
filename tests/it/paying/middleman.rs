//! Something between the client and the gateway that counts requests and breaks connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::until;

/// For how long an answer is waited for that is not meant to come.
const SHORT: Duration = Duration::from_millis(200);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes its way.
    Pass,
    /// It goes its way once it is released.
    Late,
    /// The gateway gets it, and the answer goes its way once that is released.
    Slow,
    /// The connection breaks before it gets to the gateway.
    Lost,
    /// The gateway gets it, and both connections break before an answer has begun.
    Left,
    /// The gateway answers, and nothing of that gets to the client.
    Unheard,
    /// The gateway answers, and half of that gets to the client.
    Half,
    /// The client gets a 502 of the middleman's, and the gateway nothing.
    BadGateway,
    /// The gateway answers, and the client gets a 503 of the middleman's, with a problem document that
    /// has no type.
    Overloaded,
    /// The gateway gets it, and the client gets a 504 of the middleman's before an answer has begun.
    TimedOut,
}

/// Says what becomes of the requests that carry a payment, by their number: the first is 1.
type Rule = Box<dyn Fn(usize) -> Fate + Send>;

struct State {
    gateway: Option<SocketAddr>,
    rule: Rule,
    heads: Vec<String>,
    /// How many carried a payment since the rule was set.
    paid: usize,
    /// Whether requests that are late are released, and answers that are slow.
    released: watch::Sender<(bool, bool)>,
}

/// A server before the gateway. It ends with this value.
pub(super) struct Middleman {
    pub(super) host: String,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl Middleman {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let rule = Box::new(|_| Fate::Pass);
        let state = State {
            gateway: None,
            rule,
            heads: Vec::new(),
            paid: 0,
            released: watch::Sender::default(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(client, Arc::clone(&shared)));
            }
        });
        Self { host, state, serving }
    }

    /// Stands before this gateway from now on.
    pub(super) fn stand_before(&self, gateway: &str) {
        self.state.lock().unwrap().gateway = Some(gateway.parse().unwrap());
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    /// Decides by this rule, and counts anew.
    pub(super) fn rule(&self, rule: impl Fn(usize) -> Fate + Send + 'static) {
        let mut state = self.state.lock().unwrap();
        (state.rule, state.paid) = (Box::new(rule), 0);
        state.heads.clear();
    }

    /// Waits until so many requests have come that carry a payment.
    pub(super) async fn until_paid(&self, number: usize) {
        until("a payment comes", async || self.state.lock().unwrap().paid >= number).await;
    }

    /// Lets requests go their way that are late.
    pub(super) fn release_requests(&self) {
        self.state.lock().unwrap().released.send_modify(|(requests, _)| *requests = true);
    }

    /// Lets answers go their way that are slow.
    pub(super) fn release_answers(&self) {
        self.state.lock().unwrap().released.send_modify(|(_, answers)| *answers = true);
    }

    /// Returns the heads of all requests since then, in lower case.
    pub(super) fn heads(&self) -> Vec<String> {
        self.state.lock().unwrap().heads.clone()
    }

    /// Returns the payments of all requests since then.
    pub(super) fn payments(&self) -> Vec<String> {
        let pay = |head: &String| {
            let line = head.lines().find(|line| line.starts_with("payment-channel-pay:"));
            line.map(str::to_owned)
        };
        self.heads().iter().filter_map(pay).collect()
    }
}

impl Drop for Middleman {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves one request for each connection.
async fn serve(mut client: TcpStream, state: Arc<Mutex<State>>) {
    let Some((head, begun)) = read_head(&mut client).await else { return };
    let (fate, gateway, mut released) = {
        let mut state = state.lock().unwrap();
        let lower = head.to_ascii_lowercase();
        let is_paid = lower.contains("payment-channel-pay:");
        state.heads.push(lower);
        state.paid += usize::from(is_paid);
        let fate = if is_paid { (state.rule)(state.paid) } else { Fate::Pass };
        (fate, state.gateway.unwrap(), state.released.subscribe())
    };
    match fate {
        Fate::Lost => return,
        Fate::BadGateway => return say(&mut client, "502 Bad Gateway", "sorry").await,
        _ => {}
    }
    if fate == Fate::Late {
        released.wait_for(|(requests, _)| *requests).await.unwrap();
    }
    let mut gateway = TcpStream::connect(gateway).await.unwrap();
    // Each answer ends with its connection.
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    gateway.write_all(head.as_bytes()).await.unwrap();
    gateway.write_all(&begun).await.unwrap();
    if fate == Fate::Slow {
        gateway.readable().await.unwrap();
        released.wait_for(|(_, answers)| *answers).await.unwrap();
    }
    if matches!(fate, Fate::Pass | Fate::Late | Fate::Slow) {
        let _ended = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
        return;
    }
    let mut answer = Vec::new();
    let read = gateway.read_to_end(&mut answer);
    if matches!(fate, Fate::Left | Fate::TimedOut) {
        assert!(tokio::time::timeout(SHORT, read).await.is_err(), "the answer takes longer");
        drop(gateway);
        if fate == Fate::TimedOut {
            say(&mut client, "504 Gateway Timeout", "sorry").await;
        }
        return;
    }
    read.await.unwrap();
    if fate == Fate::Overloaded {
        say(&mut client, "503 Service Unavailable", r#"{"title":"later"}"#).await;
    }
    if fate == Fate::Half {
        // The head is whole, and the body is not.
        let body = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        client.write_all(&answer[..body + 2]).await.unwrap();
    }
}

async fn say(client: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    client.write_all(answer.as_bytes()).await.unwrap();
}

/// Reads a head, and what has come of the body by then.
async fn read_head(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|end| end == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            return Some((String::from_utf8(read).unwrap(), body));
        }
        if client.read_buf(&mut read).await.unwrap_or_default() == 0 {
            return None;
        }
    }
}
