//! The body of an answer on its last way, to the client.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use farebox_middleware::{PaidBody, PaidBy, Problem, ProblemKind, RunningBill, in_grpc};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};

use super::call::Call;
use super::vitals::Request;
use crate::guard::Held;
use crate::observe::metrics::Counted;
use crate::observe::record::{Figures, Record};
use crate::tunnel::Toll;
use crate::upstream::Download;

/// What is done when an answer has ended: its request is counted, logged and forgotten.
pub(crate) struct Ending {
    call: Arc<Call>,
    status: StatusCode,
    first_byte: Duration,
    paid: Option<PaidBy>,
    /// What tells the cost, where that is not known at the beginning.
    bill: Option<RunningBill>,
    refusal: Option<ProblemKind>,
    sent: u64,
    is_whole: bool,
    /// What goes on after an answer that leaves HTTP.
    toll: Option<Arc<Toll>>,
    /// The request is under way for as long as this lives.
    under_way: Request,
    _held: Option<Held>,
    _counted: Counted,
}

impl Ending {
    pub(crate) fn new(call: Arc<Call>, under_way: Request, held: Option<Held>) -> Box<Self> {
        let counted = call.booth.site.observers.metrics().request();
        Box::new(Self {
            call,
            status: StatusCode::OK,
            first_byte: Duration::ZERO,
            paid: None,
            bill: None,
            refusal: None,
            sent: 0,
            is_whole: false,
            toll: None,
            under_way,
            _held: held,
            _counted: counted,
        })
    }

    /// Answers with a document, or with a problem as the client reads it.
    pub(crate) fn tell(mut self: Box<Self>, mut response: Response<Bytes>) -> Response<Answer> {
        if self.call.is_grpc {
            response = in_grpc(response, Bytes::new());
        }
        self.begin(&response);
        response.map(|document| Answer::new(Either::Left(Full::new(document)), self))
    }

    /// Refuses the request, and shows pages of other origins why.
    pub(crate) fn refuse(
        self: Box<Self>,
        problem: &Problem,
        origin: Option<&HeaderValue>,
    ) -> Response<Answer> {
        self.say(problem.response(), origin)
    }

    /// Answers with a document, and says which pages of other origins may read it.
    pub(crate) fn say(
        self: Box<Self>,
        mut response: Response<Bytes>,
        origin: Option<&HeaderValue>,
    ) -> Response<Answer> {
        self.decorate(&mut response, origin);
        self.tell(response)
    }

    /// Passes on what comes through the paywall.
    pub(crate) fn pass(
        mut self: Box<Self>,
        mut response: Response<PaidBody<Download>>,
        origin: Option<&HeaderValue>,
    ) -> Response<Answer> {
        self.begin(&response);
        self.paid = response.extensions_mut().remove::<PaidBy>();
        self.bill = response.extensions_mut().remove::<RunningBill>();
        self.decorate(&mut response, origin);
        response.map(|body| Answer::new(Either::Right(body), self))
    }

    /// Passes on an answer that leaves HTTP. What comes after it is counted by the toll, and ends when
    /// the value does that is returned.
    pub(crate) fn switch<B>(
        mut self: Box<Self>,
        mut response: Response<B>,
        origin: Option<&HeaderValue>,
        toll: Arc<Toll>,
    ) -> (Response<Answer>, Box<Self>, B) {
        self.begin(&response);
        self.paid = response.extensions_mut().remove::<PaidBy>();
        self.bill = toll.bill();
        self.decorate(&mut response, origin);
        self.toll = Some(toll);
        let (head, body) = response.into_parts();
        (Response::from_parts(head, Answer::none()), self, body)
    }

    /// Notes that the client has not left before the end.
    pub(crate) const fn is_over(&mut self) {
        self.is_whole = true;
    }

    /// Notes how the answer begins.
    fn begin<B>(&mut self, response: &Response<B>) {
        self.status = response.status();
        self.under_way.waits();
        self.first_byte = self.call.began.elapsed();
        self.refusal = response.extensions().get::<ProblemKind>().copied();
    }

    fn decorate<B>(&self, response: &mut Response<B>, origin: Option<&HeaderValue>) {
        if let Some(cors) = &self.call.booth.site.cors {
            cors.decorate(origin, response.headers_mut());
        }
    }

    /// Returns what is counted of the request now.
    fn figures(&self) -> Figures {
        let call = &self.call;
        let tally = self.toll.as_ref().map(|toll| toll.tally());
        let begun = call.paid.get();
        let bill = self.bill.as_ref().or_else(|| begun.map(|(_, bill)| bill));
        let cost = bill.map(RunningBill::cost);
        let paid = self.paid();
        Figures {
            status: self.status,
            bytes_in: tally.map_or_else(|| call.received(), |tally| tally.bytes_in),
            bytes_out: tally.map_or(self.sent, |tally| tally.bytes_out),
            duration: call.began.elapsed(),
            first_byte: Some(self.first_byte),
            price: paid.map(|paid| cost.unwrap_or(paid.price)),
            refusal: self.refusal,
            would_charge: call.would_charge().map(|price| cost.unwrap_or(price)),
            is_released: paid.is_some_and(|paid| paid.is_released),
            has_client_left: !self.is_whole,
        }
    }

    /// Returns who pays. Where the client has left before the answer, nobody has told it with one.
    fn paid(&self) -> Option<PaidBy> {
        self.paid.or_else(|| self.call.paid.get().and_then(|(paid, _)| *paid))
    }

    /// Returns all that is known of the request now.
    fn record(&self, figures: Figures) -> Record {
        let call = &self.call;
        let now = SystemTime::now();
        let tally = self.toll.as_ref().map(|toll| toll.tally());
        let paid = self.paid();
        Record {
            id: call.id,
            began: now.checked_sub(figures.duration).unwrap_or(now),
            client: call.client,
            method: call.method.clone(),
            host: call.host.clone(),
            scheme: call.scheme,
            target: call.target.clone(),
            version: call.version,
            messages: tally.map(|tally| (tally.messages_in, tally.messages_out)),
            route: call.lane().map(|lane| Arc::clone(&lane.name)),
            upstream: call.asked.get().cloned(),
            channel: paid.map(|paid| paid.channel),
            credit: paid.map(|paid| paid.credit),
            trace: call.trace,
            figures,
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.is_whole {
            self.under_way.breaks_off();
        }
        let (booth, lane) = (&self.call.booth, self.call.lane());
        let route = booth.metrics(lane.map(|lane| &**lane));
        booth.site.observers.ended(route, self.figures(), |figures| self.record(figures));
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The body of an answer. What belongs to its request lives as long as it does.
pub(crate) struct Answer {
    body: Told,
    /// It is elsewhere where the request goes on after the answer.
    ending: Option<Box<Ending>>,
}

/// A document of the gateway's own, or what comes through the paywall.
type Told = Either<Full<Bytes>, PaidBody<Download>>;

impl Answer {
    fn new(body: Told, mut ending: Box<Ending>) -> Self {
        // Nobody asks for the pieces of a body that has none, or that is not sent.
        ending.is_whole = ending.call.method == Method::HEAD || body.is_end_stream();
        Self { body, ending: Some(ending) }
    }

    /// Makes a body of nothing.
    fn none() -> Self {
        Self { body: Either::Left(Full::default()), ending: None }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = <Told as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body, ending: Some(ending) } = &mut *self else { return Poll::Ready(None) };
        ending.under_way.goes_on();
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let length = u64::try_from(length).unwrap_or(u64::MAX);
                ending.sent = ending.sent.saturating_add(length);
                ending.under_way.waits();
            }
            // What the service breaks off is not the client's doing.
            Some(Err(_)) | None => ending.is_whole = true,
        }
        ending.is_whole |= body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}
