//! The reverse proxy: passes a request to the service behind, and its answer back.
//!
//! Bodies are streamed both ways. The proxy knows nothing of payments.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use farebox_middleware::{ClientFault, Problem, ProblemKind};
use http::header::{
    CONNECTION, COOKIE, FORWARDED, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tower_service::Service;

use crate::routes::Routes;

/// How long a connection to the service may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the service may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an unused connection to the service is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Fields that concern one connection only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Where the service behind listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its host and port.
    pub authority: Authority,
    /// What stands before every path, without a slash at its end.
    pub base: String,
}

/// A reverse proxy for one service.
#[derive(Clone, Debug)]
pub struct Proxy {
    client: Client<HttpConnector, Body>,
    upstream: Upstream,
    routes: Routes,
}

impl Proxy {
    /// Makes a proxy that serves `routes` from `upstream`.
    #[must_use]
    pub fn new(upstream: Upstream, routes: Routes) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client, upstream, routes }
    }

    async fn forward(self, mut request: Request<Body>) -> Response<Body> {
        if self.routes.find(request.uri().path()).is_none() {
            let detail = "no route leads here; see the gateway's configuration";
            return tell(&Problem::new(ProblemKind::NotFound, detail));
        }
        if let Err(problem) = self.readdress(&mut request) {
            return tell(&problem);
        }
        let fault = ClientFault::default();
        let (sent, mut is_sent) = watch::channel(());
        let request = request.map(|body| Body::new(Upload { body, fault: fault.clone(), sent }));
        let timeout = async {
            // The service has its time once it has the whole request.
            let _dropped = is_sent.changed().await;
            tokio::time::sleep(ANSWER_TIMEOUT).await;
        };
        let mut response = tokio::select! {
            answered = self.client.request(request) => match answered {
                Ok(mut response) => {
                    remove_hop_by_hop(response.headers_mut());
                    response.map(Body::new)
                }
                Err(error) => {
                    tracing::warn!(error = %causes(&error), "the service behind did not answer");
                    tell(&unavailable())
                }
            },
            () = timeout => {
                let timeout_secs = ANSWER_TIMEOUT.as_secs();
                tracing::warn!(timeout_secs, "the service behind took too long to answer");
                tell(&unavailable())
            }
        };
        response.extensions_mut().insert(fault);
        response
    }

    /// Turns a client's request into one for the service behind.
    fn readdress(&self, request: &mut Request<Body>) -> Result<(), Problem> {
        let wanted = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let path = format!("{}{wanted}", self.upstream.base);
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.upstream.authority.clone())
            .path_and_query(path)
            .build();
        let named = request.uri().authority().map(|authority| authority.as_str().to_owned());
        *request.uri_mut() = uri.map_err(|_| unavailable())?;
        *request.version_mut() = Version::HTTP_11;
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().copied();
        let is_of_unknown_length =
            !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
        let headers = request.headers_mut();
        remove_hop_by_hop(headers);
        if is_of_unknown_length {
            // Some methods have no body unless it is announced.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        join_cookies(headers);
        // What a client claims about its way here is not passed on as if it were known.
        headers.remove(FORWARDED);
        let host = headers.remove(HOST);
        let host = host.or_else(|| HeaderValue::from_str(&named?).ok());
        set(headers, "x-forwarded-host", host);
        set(headers, "x-forwarded-proto", Some(HeaderValue::from_static("http")));
        let peer = peer.and_then(|ConnectInfo(peer)| peer.ip().to_string().parse().ok());
        set(headers, "x-forwarded-for", peer);
        Ok(())
    }
}

/// Sets a field, or removes it.
fn set(headers: &mut HeaderMap, name: &'static str, value: Option<HeaderValue>) {
    match value {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    };
}

/// Removes the fields that concern one connection only, and those that `Connection` names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Makes one field of several cookie fields, as HTTP/1.1 has them (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, cookie);
    }
}

/// A client's body on its way to the service. It notes when the client breaks it off.
struct Upload {
    body: Body,
    fault: ClientFault,
    /// Dropped with the body, which tells that it was sent.
    sent: watch::Sender<()>,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.fault.set(),
            None => drop(self.sent.send(())),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn unavailable() -> Problem {
    let detail = "the service behind the gateway did not answer";
    Problem::new(ProblemKind::UpstreamUnavailable, detail)
}

/// Makes an answer of a problem.
fn tell(problem: &Problem) -> Response<Body> {
    problem.response().map(Body::from)
}

/// Joins an error's words with those of its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

impl Service<Request<Body>> for Proxy {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let proxy = self.clone();
        Box::pin(async move { Ok(proxy.forward(request).await) })
    }
}
