//! The reverse proxy: passes a request to the service behind, and its answer back.
//!
//! Bodies are streamed both ways. The proxy knows nothing of payments but what it is told.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use farebox_middleware::{ClientFault, PaidBy, PaidUpload, Problem, ProblemKind, RunningBill};
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::address::Visit;
use super::body::{Download, Sent, Served, Source, Upload, UploadError};
use super::fields::{
    CHANNEL, PRICE, REQUEST_ID, go_over, hex, is_websocket, join_cookies, remove_claims,
    remove_connection, remove_hop_by_hop, set,
};
use super::link::{self, Link, LinkError};
use super::{Address, Upstream};
use crate::guard::address::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};
use crate::server::Call;

/// Why a service has not answered.
#[derive(Debug, Error)]
enum ForwardError {
    /// There is no address that could be asked.
    #[error("no address is left")]
    NoAddress,
    /// The path is too long with what stands before it at the address.
    #[error("{address}: the path is too long with the one of the URL before it")]
    TooLong { address: Arc<str> },
    /// There is no connection.
    #[error("{address}: {source}")]
    Unreachable { address: Arc<str>, source: LinkError },
    /// The connection broke before the answer.
    #[error("{address}: {source}")]
    Broken { address: Arc<str>, source: hyper::Error },
    /// The answer has not begun in time.
    #[error("{address}: no answer in {secs} s")]
    Late { address: Arc<str>, secs: u64 },
    /// The service has gone over to another protocol that nobody has asked it for.
    #[error("{address}: it speaks another protocol without having been asked to")]
    Unasked { address: Arc<str> },
    /// The client has not sent the request as it should.
    #[error(transparent)]
    Client(UploadError),
}

/// One try that has failed.
struct Failed {
    error: ForwardError,
    /// The request, where it certainly did not arrive.
    unsent: Option<Box<Request<Upload>>>,
}

/// A reverse proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proxy;

/// Passes a request on.
async fn forward(
    mut request: Request<PaidUpload<Incoming>>,
) -> Result<Response<Download>, Infallible> {
    let Some(call) = request.extensions_mut().remove::<Arc<Call>>() else {
        return Ok(tell(&unavailable())); // nobody has said where to
    };
    let (mut head, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let is_of_unknown_length = has_body && body.size_hint().exact().is_none();
    let paid = head.extensions.remove::<PaidBy>();
    call.note_charge(paid, head.extensions.remove::<RunningBill>());
    strip(&mut head.headers, &call, is_of_unknown_length);
    let fault = has_body.then(ClientFault::default);
    let (body, is_sent) = match &fault {
        Some(fault) => {
            let (body, is_sent) = Upload::new(body, Arc::clone(&call), fault.clone());
            (body, Some(is_sent))
        }
        None => (Upload::empty(), None),
    };
    // Boxed, because it is handed on often.
    let request = Box::new(Request::from_parts(head, body));
    let Some(lane) = call.lane() else { return Ok(tell(&unavailable())) };
    let mut response = match persist(&call, &lane.upstream, (request, paid), is_sent).await {
        Ok(response) => response,
        Err(error) => tell(&problem(&error)),
    };
    if let Some(fault) = fault {
        response.extensions_mut().insert(fault);
    }
    Ok(response)
}

/// Tries to get an answer, at several addresses if that is safe.
async fn persist(
    call: &Call,
    upstream: &Upstream,
    (mut request, paid): (Box<Request<Upload>>, Option<PaidBy>),
    is_sent: Option<Sent>,
) -> Result<Response<Download>, ForwardError> {
    let mut retries = upstream.setup().retries;
    // Such a request may arrive twice (RFC 9110 §9.2.2), and nothing of it is used up.
    let may_repeat = is_sent.is_none() && request.method().is_idempotent();
    // What the gateway tells by itself is not in it: it is told again.
    let spare = (may_repeat && retries > 0).then(|| copy(&request));
    inform(request.headers_mut(), call, paid);
    let mut tried = Vec::new();
    while let Some(address) = upstream.choose(&tried) {
        let answers = address.health().answers();
        let Failed { error, unsent } =
            match attempt(call, upstream, &address, request, is_sent.clone()).await {
                Ok(response) => {
                    address.health().answered();
                    call.ask(&address);
                    return Ok(response);
                }
                Err(failed) => failed,
            };
        // What a client has done wrong is not the service's failure.
        if let Some(fault) = is_sent.as_ref().and_then(|sent| sent.borrow().clone()) {
            return Err(ForwardError::Client(fault));
        }
        if matches!(error, ForwardError::TooLong { .. }) {
            return Err(error);
        }
        address.metrics().failed();
        // An address that has answered others meanwhile is well: a client may ask for what takes
        // too long, and must not take it from all.
        let is_away = matches!(error, ForwardError::Unreachable { .. });
        let is_silent = address.health().answers() == answers;
        if (is_away || is_silent) && address.health().failed() {
            let (upstream, address) = (&upstream.setup().name, address.location());
            tracing::warn!(%upstream, %address, "a service gets no requests for a while");
        }
        // A client that has waited for all of the time is not made to wait for it again.
        let spare = spare.as_ref().filter(|_| !matches!(error, ForwardError::Late { .. }));
        let copied = || {
            let mut copy = copy(spare?);
            inform(copy.headers_mut(), call, paid);
            Some(copy)
        };
        let Some(again) = unsent.or_else(copied) else { return Err(error) };
        let Some(left) = retries.checked_sub(1) else { return Err(error) };
        tracing::debug!(error = %causes(&error), "a request is tried again");
        (request, retries) = (again, left);
        // The only address there is may be asked again.
        if upstream.addresses().len() > 1 {
            tried.push(address);
        }
        if tried.len() >= upstream.addresses().len() {
            return Err(error);
        }
    }
    Err(ForwardError::NoAddress)
}

/// Asks one address, over a connection that is open or a new one.
async fn attempt(
    call: &Call,
    upstream: &Upstream,
    address: &Arc<Address>,
    mut request: Box<Request<Upload>>,
    is_sent: Option<Sent>,
) -> Result<Response<Download>, Failed> {
    let visit = address.enter();
    let worker = call.booth.worker;
    let asking = Asking { call, upstream, address, worker };
    // A tunnel has a connection of its own.
    let open = if call.is_tunnel { None } else { address.take(worker, call.began) };
    if let Some(link) = open {
        match asking.ask(link, request, is_sent.clone()).await {
            Ok(answered) => return Ok(asking.pass(answered, visit, is_sent)),
            // The service has closed a connection that nobody used: that is no failure.
            Err(Failed { unsent: Some(unsent), .. }) => request = unsent,
            Err(failed) => return Err(failed),
        }
    }
    // Boxed, because few requests need it and all would carry it.
    let link = match Box::pin(link::join(upstream, address, worker)).await {
        Ok(link) => link,
        Err(source) => {
            let error = ForwardError::Unreachable { address: Arc::clone(address.name()), source };
            return Err(Failed { error, unsent: Some(request) });
        }
    };
    let answered = asking.ask(link, request, is_sent.clone()).await?;
    Ok(asking.pass(answered, visit, is_sent))
}

/// A request that an address is asked.
#[derive(Clone, Copy)]
struct Asking<'a> {
    call: &'a Call,
    upstream: &'a Upstream,
    address: &'a Arc<Address>,
    worker: usize,
}

impl Asking<'_> {
    /// Asks over a connection.
    async fn ask(
        self,
        mut link: Link,
        mut request: Box<Request<Upload>>,
        mut is_sent: Option<Sent>,
    ) -> Result<(Response<Incoming>, Link), Failed> {
        let Asking { call, upstream, address, .. } = self;
        let patience = upstream.setup().patience;
        if !link.aim(&mut request, address, &call.target) {
            let error = ForwardError::TooLong { address: Arc::clone(address.name()) };
            return Err(Failed { error, unsent: None });
        }
        let sending = link.send(*request);
        let answered = match &mut is_sent {
            None => timeout(patience.answer, sending).await.ok(),
            Some(is_sent) => tokio::select! {
                answered = sending => Some(answered),
                () = exhausted(call, patience.answer, is_sent) => None,
            },
        };
        match answered {
            Some(Ok(response)) if is_expected(call, &response) => Ok((response, link)),
            Some(Ok(_)) => {
                let error = ForwardError::Unasked { address: Arc::clone(address.name()) };
                Err(Failed { error, unsent: None })
            }
            Some(Err(mut failed)) => {
                let unsent = failed.take_message().map(Box::new);
                let error = ForwardError::Broken {
                    address: Arc::clone(address.name()),
                    source: failed.into_error(),
                };
                Err(Failed { error, unsent })
            }
            None => {
                let secs = patience.answer.as_secs();
                let error = ForwardError::Late { address: Arc::clone(address.name()), secs };
                Err(Failed { error, unsent: None })
            }
        }
    }

    /// Makes the client's answer of what has come.
    fn pass(
        self,
        (mut response, link): (Response<Incoming>, Link),
        visit: Visit,
        is_sent: Option<Sent>,
    ) -> Response<Download> {
        *response.version_mut() = Version::HTTP_11;
        remove_connection(response.headers_mut());
        let source = Source { link, worker: self.worker, visit, is_sent };
        let pause = self.upstream.setup().patience.pause;
        if is_switch(&response) {
            go_over(response.headers_mut());
            return response.map(|body| Either::Right(Served::tunnelled(body, pause, source)));
        }
        response.map(|body| Either::Right(Served::new(body, pause, source)))
    }
}

/// Waits until a service has had its time: once it has the whole request, or once neither it nor
/// the client does anything about the body.
async fn exhausted(call: &Call, answer: Duration, is_sent: &mut Sent) {
    let standstill = answer.saturating_add(call.upload.pause);
    let mut taken = call.received();
    while timeout(standstill, is_sent.changed()).await.is_err() {
        let before = mem::replace(&mut taken, call.received());
        if before == taken && !call.is_waiting_for_credit() {
            return;
        }
    }
    sleep(answer).await;
}

/// Tells whether a service leaves HTTP with its answer.
fn is_switch<B>(answer: &Response<B>) -> bool {
    answer.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Tells whether an answer may come to a request: one leaves HTTP only for what was asked for.
fn is_expected<B>(call: &Call, answer: &Response<B>) -> bool {
    !is_switch(answer) || (call.is_tunnel && is_websocket(answer.headers()))
}

/// Copies a request without a body.
fn copy(request: &Request<Upload>) -> Box<Request<Upload>> {
    let mut copy = Box::new(Request::new(Upload::empty()));
    *copy.method_mut() = request.method().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Takes out what the service may not know or believe, and says how the body comes and what is asked for.
fn strip(headers: &mut HeaderMap, call: &Call, is_of_unknown_length: bool) {
    remove_hop_by_hop(headers);
    remove_claims(headers, call.is_peer_trusted);
    join_cookies(headers);
    if is_of_unknown_length {
        // Some methods have no body unless it is announced.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if call.is_tunnel {
        go_over(headers);
    }
}

/// Tells the service what it may know.
fn inform(headers: &mut HeaderMap, call: &Call, paid: Option<PaidBy>) {
    set(headers, FORWARDED_HOST, call.host.clone());
    set(headers, FORWARDED_PROTO, Some(call.scheme.value()));
    set(headers, FORWARDED_FOR, call.forwarded_for.clone());
    set(headers, REQUEST_ID, hex(call.id.as_bytes()));
    call.hand_trace_over(headers);
    if let Some(PaidBy { channel, price, .. }) = paid {
        set(headers, CHANNEL, hex(channel.as_bytes()));
        headers.insert(PRICE, HeaderValue::from(price.get()));
    }
}

/// Says what went wrong: in full to the log, and to the client what concerns it.
fn problem(error: &ForwardError) -> Problem {
    match error {
        ForwardError::Client(fault @ UploadError::TooLong(_)) => {
            Problem::new(ProblemKind::BodyTooLarge, fault.to_string())
        }
        ForwardError::Client(fault @ UploadError::Stalled(_)) => {
            Problem::new(ProblemKind::RequestTimeout, fault.to_string())
        }
        // Nobody is there to be told, or was told already.
        ForwardError::Client(UploadError::Broken(_) | UploadError::Over) => unavailable(),
        ForwardError::NoAddress
        | ForwardError::TooLong { .. }
        | ForwardError::Unreachable { .. }
        | ForwardError::Broken { .. }
        | ForwardError::Late { .. }
        | ForwardError::Unasked { .. } => {
            tracing::warn!(error = %causes(error), "the service behind did not answer");
            unavailable()
        }
    }
}

fn unavailable() -> Problem {
    let detail = "the service behind the gateway did not answer";
    Problem::new(ProblemKind::UpstreamUnavailable, detail)
}

/// Makes an answer of a problem.
fn tell(problem: &Problem) -> Response<Download> {
    problem.response().map(|document| Either::Left(Full::new(document)))
}

/// Joins an error's words with those of its causes.
fn causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

impl Service<Request<PaidUpload<Incoming>>> for Proxy {
    type Response = Response<Download>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Download>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<PaidUpload<Incoming>>) -> Self::Future {
        Box::pin(forward(request))
    }
}
