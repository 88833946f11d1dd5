//! A seller's own service that is asked for prices. It remembers what it was asked, and says what a
//! test wants it to say.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One question as the service got it.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) document: Value,
}

impl Question {
    /// Returns the path that it asks for.
    fn wanted(&self) -> &str {
        self.document["path"].as_str().unwrap()
    }
}

/// What is answered to a path.
type Say = Arc<dyn Fn(&str) -> Response + Send + Sync>;

#[derive(Clone)]
struct Desk {
    asked: Arc<Mutex<Vec<Question>>>,
    say: Arc<Mutex<Say>>,
    /// Whether answers may go out.
    is_open: watch::Receiver<bool>,
}

/// A running service.
pub(super) struct PriceService {
    pub(super) address: SocketAddr,
    desk: Desk,
    open: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl PriceService {
    /// Starts one that says this price for everything, and that nobody may keep it.
    pub(super) async fn start(msat: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, is_open) = watch::channel(true);
        let say: Say = Arc::new(move |_| passing(msat));
        let desk = Desk { asked: Arc::default(), say: Arc::new(Mutex::new(say)), is_open };
        let router = Router::new().fallback(any(answer)).with_state(desk.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, desk, open, serving }
    }

    /// Answers so from now on.
    pub(super) fn say(&self, say: impl Fn(&str) -> Response + Send + Sync + 'static) {
        *self.desk.say.lock().unwrap() = Arc::new(say);
    }

    /// Lets answers wait, or go out.
    pub(super) fn open(&self, is_open: bool) {
        self.open.send_replace(is_open);
    }

    /// Returns all questions so far.
    pub(super) fn asked(&self) -> Vec<Question> {
        self.desk.asked.lock().unwrap().clone()
    }

    /// Returns how often a path was asked for.
    pub(super) fn times(&self, path: &str) -> usize {
        self.asked().iter().filter(|question| question.wanted() == path).count()
    }

    /// Returns the `ask` keys of a route.
    pub(super) fn keys(&self) -> String {
        format!("ask.url = \"http://{}/price/\"\nask.max_msat = 1_000_000\n", self.address)
    }
}

impl Drop for PriceService {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(mut desk): State<Desk>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let document = serde_json::from_slice(&body).unwrap();
    let path = parts.uri.to_string();
    let question = Question { method: parts.method, path, headers: parts.headers, document };
    let wanted = question.wanted().to_owned();
    desk.asked.lock().unwrap().push(question);
    desk.is_open.wait_for(|is_open| *is_open).await.unwrap();
    let say = Arc::clone(&*desk.say.lock().unwrap());
    say(&wanted)
}

/// Returns a price that is kept for as long as the gateway keeps any.
pub(super) fn price(msat: u64) -> Response {
    format!("{{\"price_msat\": {msat}}}").into_response()
}

/// Returns a price that is not to be kept.
pub(super) fn passing(msat: u64) -> Response {
    ([("cache-control", "no-store")], price(msat)).into_response()
}
