//! The way of a request, from its head to the paywall and its answer back.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use farebox_channel::message::PayRequest;
use farebox_channel::wire::{Field, PREFIX, WELL_KNOWN};
use farebox_middleware::{Problem, ProblemKind, is_grpc};
use http::header::{ALLOW, CONTENT_LENGTH, HOST, ORIGIN};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use tower_layer::Layer;
use tower_service::Service;

use super::answer::{Answer, Ending};
use super::asked::{ask, settled};
use super::booth::{Booth, Lane, Seat};
use super::call::Call;
use super::crossing::Crossing;
use super::vitals::Vitals;
use crate::guard::address::{ClientKey, Peer, Scheme};
use crate::guard::concurrency::Slot;
use crate::observe::metrics::Limit;
use crate::routes::{BadPath, Fare, is_host, normal_target};
use crate::upstream::{Proxy, UploadLimits, asks_for_websocket};

/// Where the requests of one connection come in.
#[derive(Debug)]
pub(crate) struct Door {
    /// Where the connection's worker finds what is served.
    pub(crate) seat: Arc<Seat>,
    /// The connection.
    pub(crate) vitals: Arc<Vitals>,
    /// Who has connected.
    pub(crate) peer: Peer,
    /// How.
    pub(crate) scheme: Scheme,
    /// What its last request goes on as, where that leaves HTTP.
    pub(crate) crossing: Mutex<Option<Crossing>>,
}

/// What a request's payment fields ask for, as far as their names tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Nothing,
    /// To be served for a payment.
    Payment,
    /// For a step that opens, looks after or closes a channel.
    Step,
}

impl Asks {
    fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(PayRequest::NAME) {
            Self::Payment
        } else if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
            Self::Step
        } else {
            Self::Nothing
        }
    }
}

impl Door {
    /// Answers a request.
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Infallible> {
        let is_http2 = request.version() == Version::HTTP_2;
        let under_way = self.vitals.begin(is_http2);
        self.vitals.uploads(!is_http2 && !request.body().is_end_stream());
        let (mut head, body) = request.into_parts();
        let booth = self.seat.booth();
        let site = &booth.site;
        let mut call = self.announce(&head, &booth);
        call.is_tunnel = body.is_end_stream() && asks_for_websocket(&head);
        let upgrade = head.extensions.remove::<OnUpgrade>().filter(|_| call.is_tunnel);
        if let Some(cors) = &site.cors
            && let Some(preflight) = cors.preflight(&head)
        {
            let ending = Ending::new(Arc::new(call), under_way, None);
            return Ok(ending.tell(preflight.map(|()| Bytes::new())));
        }
        let origin = site.cors.as_ref().and_then(|_| head.headers.get(ORIGIN).cloned());
        let client = call.client.into();
        let held = match site.guards.request(client) {
            Ok(held) => held,
            Err(problem) => {
                site.observers.limited(Limit::Requests);
                let ending = Ending::new(Arc::new(call), under_way, None);
                return Ok(ending.refuse(&problem, origin.as_ref()));
            }
        };
        let aimed = aim(&mut call, &mut head);
        let call = Arc::new(call);
        // It ends also where its client leaves before it is decided.
        let ending = Ending::new(Arc::clone(&call), under_way, Some(held));
        let decided = match aimed {
            Ok(()) => decide(&call, &head).await,
            Err(problem) => Err(problem),
        };
        let (step, pays) = match decided {
            Ok(Decision::Step(slot)) => (Some(slot), false),
            Ok(Decision::Payment) => (None, true),
            Ok(Decision::Request) => (None, false),
            Ok(Decision::Told(response)) => return Ok(ending.say(response, origin.as_ref())),
            Err(problem) => return Ok(ending.refuse(&problem, origin.as_ref())),
        };
        head.extensions.insert(Arc::clone(&call));
        let request = Request::from_parts(head, body);
        let Ok(response) = booth.paywall.layer(Proxy).call(request).await;
        drop(step);
        // The paywall has no other limit than that of a channel.
        if response.extensions().get() == Some(&ProblemKind::TooManyRequests) {
            site.observers.limited(Limit::ChannelRequests);
        }
        if pays && let Err(problem) = check_payment(&call, &response) {
            return Ok(ending.refuse(&problem, origin.as_ref()));
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let (Some(upgrade), Some(lane)) = (upgrade, call.lane())
        {
            let (answer, crossing) =
                Crossing::begin((upgrade, lane), response, ending, origin.as_ref());
            *self.crossing.lock().unwrap_or_else(PoisonError::into_inner) = Some(crossing);
            return Ok(answer);
        }
        Ok(ending.pass(response, origin.as_ref()))
    }

    /// Returns what the last request goes on as, where it has left HTTP.
    pub(crate) fn crossing(&self) -> Option<Crossing> {
        self.crossing.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes what the head of a request says.
    fn announce(&self, head: &Parts, booth: &Arc<Booth>) -> Call {
        let began = Instant::now();
        let (site, ids) = (&booth.site, &self.seat.ids);
        let headers = &head.headers;
        let named = head.uri.authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok());
        let host = self.peer.host(headers).or(named).or_else(|| headers.get(HOST).cloned());
        let target = head.uri.path_and_query().cloned();
        Call {
            began,
            id: ids.next(),
            client: self.peer.client(headers),
            is_peer_trusted: self.peer.is_trusted(),
            is_tunnel: false,
            method: head.method.clone(),
            version: head.version,
            is_grpc: is_grpc(headers),
            host: host.filter(|host| !host.is_empty()),
            scheme: self.peer.scheme(self.scheme, headers),
            target: target.unwrap_or_else(|| PathAndQuery::from_static("/")),
            forwarded_for: self.peer.forwarded_for(headers),
            trace: site.observers.trace(headers, ids),
            upload: UploadLimits {
                length: site.limits.body_bytes,
                pause: site.limits.body_timeout,
            },
            received: AtomicU64::new(0),
            is_unpaid: AtomicBool::new(false),
            paid: OnceLock::new(),
            asked: OnceLock::new(),
            lane: OnceLock::new(),
            costs: OnceLock::new(),
            booth: Arc::clone(booth),
        }
    }
}

/// What was decided of a request.
enum Decision {
    /// It goes to the paywall.
    Request,
    /// It goes to the paywall, which says what its payment is worth.
    Payment,
    /// It asks for a step, and has a place among those of its client.
    Step(Slot<ClientKey>),
    /// It is answered here.
    Told(Response<Bytes>),
}

/// Decides where a request goes and what it costs, and refuses what nobody has to look at any further.
async fn decide(call: &Call, head: &Parts) -> Result<Decision, Problem> {
    let booth = &call.booth;
    let site = &booth.site;
    if let Some(told) = site.probe(call.target.path()) {
        return Ok(Decision::Told(told));
    }
    let is_well_known = call.target.path() == WELL_KNOWN;
    let asks = Asks::of(&head.headers);
    if !is_well_known {
        match site.tariff.price(call.host(), &call.method, call.target.path(), call.began) {
            Fare::Quote(quote) => {
                let Some(lane) = booth.lane(quote.route) else { return Ok(Decision::Request) };
                let lane = call.lane.get_or_init(|| Arc::clone(lane));
                // Whoever pays has no need of what is free.
                let is_asking = asks == Asks::Nothing && quote.price().charged().is_some();
                if !(is_asking && takes_free(call, lane)) {
                    let costs = if lane.asker.is_some() || quote.was_asked {
                        // Boxed, because all requests would carry it.
                        Box::pin(ask(call, lane, &quote)).await?
                    } else {
                        settled(&quote)
                    };
                    call.costs.get_or_init(|| costs);
                }
            }
            Fare::OtherMethod(allowed) => return Ok(Decision::Told(other_method(allowed))),
            Fare::Unknown => {
                let detail = "no route leads here; see the gateway's configuration";
                return Err(Problem::new(ProblemKind::NotFound, detail));
            }
        }
    }
    if call.is_tunnel && call.lane().is_some_and(|lane| !lane.upstream.takes_tunnels()) {
        let detail = "the service behind the gateway takes no WebSockets";
        return Err(Problem::new(ProblemKind::UpstreamUnavailable, detail));
    }
    if call.charged().is_none() && !is_well_known {
        return Ok(Decision::Request);
    }
    let client = call.client.into();
    match asks {
        Asks::Payment => Ok(Decision::Payment),
        Asks::Step => {
            let slot = site.guards.opening(client, call.began);
            slot.map(Decision::Step).inspect_err(|_| site.observers.limited(Limit::Openings))
        }
        Asks::Nothing => {
            let counted = site.guards.unpaid(client, call.began);
            counted.inspect_err(|_| site.observers.limited(Limit::Unpaid))?;
            Ok(Decision::Request)
        }
    }
}

/// Reads where a request wants to go.
fn aim(call: &mut Call, head: &mut Parts) -> Result<(), Problem> {
    let malformed = |detail| Err(Problem::new(ProblemKind::Malformed, detail));
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        // Whoever reads the other one is asked for something else (RFC 9112 §3.2).
        (_, Some(_)) => return malformed("a request names one host"),
        (None, None) if head.version == Version::HTTP_11 && head.uri.authority().is_none() => {
            return malformed("a request of HTTP/1.1 has a Host field");
        }
        (field, None) => {
            // The service may serve another host for another price: both read the same one.
            let is_none = |host: &HeaderValue| {
                !host.to_str().is_ok_and(|host| host.is_empty() || is_host(host))
            };
            let other = call.host.as_ref().filter(|host| field != Some(*host));
            if field.into_iter().chain(other).any(is_none) {
                return malformed("a request names a host, and a port or none");
            }
        }
    }
    let bad = |bad: BadPath| Problem::new(ProblemKind::BadPath, bad.to_string());
    call.target = normal_target(&head.uri).map_err(bad)?;
    if call.target.path() != head.uri.path() {
        head.uri = Uri::from(call.target.clone());
    }
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > call.upload.length) {
        let detail = format!("a body has at most {} bytes here", call.upload.length);
        return Err(Problem::new(ProblemKind::BodyTooLarge, detail));
    }
    Ok(())
}

/// Takes a request of what its client has free, and tells whether there was something left.
fn takes_free(call: &Call, lane: &Lane) -> bool {
    let allowances = lane.allowances.as_ref();
    allowances.is_some_and(|allowances| allowances.take(call.client.into(), call.began))
}

/// Counts what has come as a payment and is of no channel, and refuses it where there is too much.
///
/// It is asked after the paywall, which knows a channel by its pass: so whoever has one is served,
/// or told what is wrong, whatever others send from the same address.
fn check_payment<B>(call: &Call, answer: &Response<B>) -> Result<(), Problem> {
    let is_false = matches!(
        answer.extensions().get(),
        Some(ProblemKind::Malformed | ProblemKind::WrongPass | ProblemKind::PaymentRequired)
    );
    if !is_false {
        return Ok(());
    }
    let site = &call.booth.site;
    let counted = site.guards.false_payment(call.client.into(), call.began);
    counted.inspect_err(|_| site.observers.limited(Limit::Payments))
}

/// Says that a route takes other methods.
fn other_method(allowed: HeaderValue) -> Response<Bytes> {
    let detail = "routes lead here with other methods only";
    let mut response = Problem::new(ProblemKind::MethodNotAllowed, detail).response();
    response.headers_mut().insert(ALLOW, allowed);
    response
}
