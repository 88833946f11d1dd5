//! A server that stands before the real gateway, and lies.

use std::future::pending;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use farebox_channel::wire::{Field, WELL_KNOWN};
use farebox_client::PayError;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

/// An answer as the gateway gives it, or as the liar does.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What becomes of the body's end.
    pub(super) end: End,
}

/// How a body ends.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    #[default]
    Well,
    /// The connection is lost.
    Broken,
    /// Nothing comes any more.
    Never,
}

impl Answer {
    /// Sets a message.
    pub(super) fn set<F: Field>(&mut self, message: &F) {
        self.put(F::NAME, &message.encode());
    }

    /// Sets a field.
    pub(super) fn put(&mut self, name: &'static str, value: &str) {
        self.headers.insert(HeaderName::from_static(name), value.parse().unwrap());
    }

    /// Changes a message, if it is there.
    pub(super) fn change<F: Field>(&mut self, change: impl FnOnce(&mut F)) {
        if let Some(value) = self.headers.get(F::NAME) {
            let mut message = F::decode(value.as_bytes()).unwrap();
            change(&mut message);
            self.set(&message);
        }
    }

    /// Returns a problem of the gateway's.
    pub(super) fn problem(status: StatusCode, name: &str) -> Self {
        let body = format!(r#"{{"type": "urn:farebox:problem:{name}", "detail": "no"}}"#).into();
        let mut answer = Self { status, body, ..Self::default() };
        answer.put("content-type", "application/problem+json");
        answer
    }
}

/// A message on its way.
pub(super) enum Message<'a> {
    /// One of the client's, with its fields.
    Asked(&'a HeaderMap),
    /// The gateway's answer to it.
    Answered(&'a mut Answer),
}

/// What the liar does with a message.
pub(super) enum Fate {
    /// It goes on, as it is by now.
    Pass,
    /// Nobody gets it, and the connection is lost.
    Lose,
    /// Nobody gets it, and nothing happens.
    Swallow,
    /// The client gets this instead.
    Say(Answer),
}

/// What the liar does: by the name of the step, which is `request` for a request and `paid` for one with a
/// payment.
pub(super) type Lie = Box<dyn FnMut(&str, Message<'_>) -> Fate + Send>;

/// What a liar does with an answer.
pub(super) type Twist = fn(&mut Answer);
/// Tells whether a client has found out.
pub(super) type Finding = fn(&PayError) -> bool;

/// A server before a gateway.
#[derive(Clone)]
pub(super) struct Liar {
    pub(super) host: String,
    lie: Arc<Mutex<Lie>>,
}

impl Liar {
    /// Takes a place, which the configuration of the gateway has to name.
    pub(super) fn take_place() -> (Self, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let honest: Lie = Box::new(|_, _| Fate::Pass);
        (Self { host, lie: Arc::new(Mutex::new(honest)) }, listener)
    }

    /// Serves before the gateway at `host`.
    pub(super) fn serve(&self, listener: TcpListener, host: &str) {
        let (lie, gateway) = (Arc::clone(&self.lie), format!("http://{host}"));
        // A connection that is kept could be one of a gateway that was killed since.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0);
        let http = http.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        tokio::spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (lie, gateway, http) = (Arc::clone(&lie), gateway.clone(), http.clone());
                let service = service_fn(move |request| {
                    answer(request, Arc::clone(&lie), gateway.clone(), http.clone())
                });
                let serving = hyper::server::conn::http1::Builder::new()
                    .max_buf_size(4 << 20)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
    }

    /// Lies like this from now on.
    pub(super) fn lie(&self, lie: impl FnMut(&str, Message<'_>) -> Fate + Send + 'static) {
        *self.lie.lock().unwrap() = Box::new(lie);
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }
}

async fn answer(
    request: Request<Incoming>,
    lie: Arc<Mutex<Lie>>,
    gateway: String,
    http: reqwest::Client,
) -> Result<Response<Body>, std::io::Error> {
    let step = step(&request);
    let fate = lie.lock().unwrap()(&step, Message::Asked(request.headers()));
    let answer = match fate {
        Fate::Pass => {
            let url = format!("{gateway}{}", request.uri().path());
            let asked = http.get(url).headers(request.headers().clone());
            let answered = asked.send().await.map_err(std::io::Error::other)?;
            let (status, headers) = (answered.status(), answered.headers().clone());
            let body = answered.bytes().await.map_err(std::io::Error::other)?;
            let mut answer = Answer { status, headers, body, end: End::Well };
            let fate = lie.lock().unwrap()(&step, Message::Answered(&mut answer));
            told(fate, answer).await?
        }
        fate => told(fate, Answer::default()).await?,
    };
    Ok(sent(answer))
}

async fn told(fate: Fate, answer: Answer) -> Result<Answer, std::io::Error> {
    match fate {
        Fate::Pass => Ok(answer),
        Fate::Say(other) => Ok(other),
        Fate::Lose => Err(std::io::ErrorKind::ConnectionReset.into()),
        Fate::Swallow => pending().await,
    }
}

fn step(request: &Request<Incoming>) -> String {
    let step =
        |name: &HeaderName| name.as_str().strip_prefix("payment-channel-").map(str::to_owned);
    let step = request.headers().keys().find_map(step);
    match step {
        Some(step) if request.uri().path() == WELL_KNOWN => step,
        Some(_) => "paid".to_owned(),
        None => "request".to_owned(),
    }
}

fn sent(answer: Answer) -> Response<Body> {
    let Answer { status, mut headers, body, end } = answer;
    let body = match end {
        End::Well => Body::from(body),
        end => {
            headers.remove("content-length");
            let begun = futures_util::stream::once(async { Ok(body) });
            let last = futures_util::stream::once(async move {
                if end == End::Never {
                    pending::<()>().await;
                }
                // What was said before gets to the client.
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err::<Bytes, _>(std::io::Error::other("broken off"))
            });
            Body::from_stream(futures_util::StreamExt::chain(begun, last))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    headers.remove("transfer-encoding");
    *response.headers_mut() = headers;
    response
}

/// Returns a field as long as this.
pub(super) fn long(length: usize) -> HeaderValue {
    "x".repeat(length).parse().unwrap()
}

/// Lies about each answer to a step.
pub(super) fn twisted(
    at: &'static str,
    twist: Twist,
) -> impl FnMut(&str, Message<'_>) -> Fate + Send {
    move |step, message| {
        if let Message::Answered(answer) = message
            && step == at
        {
            twist(answer);
        }
        Fate::Pass
    }
}

/// Tells something else instead of each answer to a step.
pub(super) fn said(
    at: &'static str,
    say: fn() -> Answer,
) -> impl FnMut(&str, Message<'_>) -> Fate + Send {
    move |step, message| match message {
        Message::Asked(_) if step == at => Fate::Say(say()),
        Message::Asked(_) | Message::Answered(_) => Fate::Pass,
    }
}
