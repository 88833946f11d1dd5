//! The service: reads the step, charges, serves, and hands out the receipt.

use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_channel::message::{Memo, PayRequest, Receipt};
use farebox_channel::wire::{Field, Step, WELL_KNOWN};
use http::header::{ACCEPT_ENCODING, TRAILER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tower_service::Service;

use crate::answer;
use crate::begin::begin;
use crate::body::{OnBreak, PaidBody};
use crate::cashier::Cashier;
use crate::charged::Charged;
use crate::grpc::{has_failed, in_grpc, is_grpc};
use crate::headers::{
    Asked, hand_over, insert, is_prefetch, make_private, remove, strip, take, take_memo, usage,
};
use crate::layer::{Gate, ServiceFields};
use crate::metering::{
    Account, Counter, End, Forgiveness, Metered, Metering, PaidUpload, Rates, Reported, Running,
    RunningBill,
};
use crate::naming::name;
use crate::node::Node;
use crate::pricing::{Billing, Pricing};
use crate::problem::Problem;
use crate::unanswered::Unanswered;
use crate::uploaded::Uploaded;

/// A service behind a paywall.
#[derive(Debug)]
pub struct Paywall<S, N, P> {
    pub(crate) inner: S,
    pub(crate) gate: Arc<Gate<N, P>>,
}

impl<S, N, P> Paywall<S, N, P> {
    pub(crate) const fn new(inner: S, gate: Arc<Gate<N, P>>) -> Self {
        Self { inner, gate }
    }
}

impl<S: Clone, N, P> Clone for Paywall<S, N, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

/// The answer of a [`Paywall`], some time from now.
pub struct ResponseFuture<B, E> {
    serving: Pin<Box<dyn Future<Output = Served<B, E>> + Send>>,
    is_grpc: bool,
}

/// What a paywall answers. It never makes an error of its own: it answers with a problem.
type Served<B, E> = Result<Response<PaidBody<B>>, E>;

impl<B, E> Future for ResponseFuture<B, E> {
    type Output = Served<B, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let is_grpc = self.is_grpc;
        let spoken = |response| {
            if is_grpc { in_grpc(response, PaidBody::told(Bytes::new())) } else { response }
        };
        self.serving.as_mut().poll(context).map_ok(spoken)
    }
}

impl<B, E> fmt::Debug for ResponseFuture<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, N, P, ReqBody, ResBody> Service<Request<ReqBody>> for Paywall<S, N, P>
where
    S: Service<Request<PaidUpload<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    N: Node,
    P: Pricing,
    ReqBody: Body + Send + 'static,
    ResBody: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<PaidBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<ResBody, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The clone is not ready; what was polled is (see `tower::Service`).
        let clone = self.clone();
        let ready = mem::replace(self, clone);
        let is_grpc = is_grpc(request.headers());
        ResponseFuture { serving: Box::pin(ready.serve(request)), is_grpc }
    }
}

impl<S, N, P> Paywall<S, N, P> {
    /// Serves one request.
    async fn serve<ReqBody, ResBody>(self, request: Request<ReqBody>) -> Served<ResBody, S::Error>
    where
        S: Service<Request<PaidUpload<ReqBody>>, Response = Response<ResBody>>,
        N: Node,
        P: Pricing,
        ReqBody: Body,
        ResBody: Body<Data = Bytes>,
    {
        let (mut parts, body) = request.into_parts();
        let gate = Arc::clone(&self.gate);
        if let Some(field) = &gate.fields.memo {
            remove(&mut parts.headers, field);
        }
        if parts.uri.path() == WELL_KNOWN {
            let asked = take(&mut parts.headers);
            // Boxed, like the steps below, because few requests need it and all would carry it.
            let told = Box::pin(answer::well_known(&gate, asked, &parts)).await;
            return Ok(told.map(PaidBody::told));
        }
        let Some(price) = gate.pricing.price(&parts) else {
            strip(&mut parts.headers);
            return self.give(Request::from_parts(parts, body)).await;
        };
        let billing = gate.pricing.billing(&parts);
        let offered = gate.pricing.offered(&parts).unwrap_or(price);
        let began = Instant::now();
        let asked = take(&mut parts.headers);
        let is_prefetch = is_prefetch(&parts.headers);
        let outcome = match asked {
            Ok(Asked { step: Some(Step::Pay(pay)), memo }) if !is_prefetch => {
                match charge(&gate, &pay, price, &parts, memo.clone()).await {
                    Ok(charge) => {
                        if let (Some(field), Some(memo)) = (&gate.fields.memo, &memo) {
                            hand_over(&mut parts.headers, field, memo);
                        }
                        parts.extensions.insert(charge.paid_by());
                        ask_plainly(&billing, &mut parts.headers);
                        let upload = billing.upload(&parts.headers);
                        if let Some(upload) = upload.filter(|_| !body.is_end_stream()) {
                            let request = Request::from_parts(parts, body);
                            // Boxed, because few requests need it and all would carry it.
                            return Box::pin(self.meter(request, charge, upload)).await;
                        }
                        let request = Request::from_parts(parts, PaidUpload::plain(body));
                        return self.forward(request, charge, billing).await;
                    }
                    Err(problem) => Err(problem),
                }
            }
            Ok(Asked { step: None | Some(Step::Pay(_)), .. }) => Err(answer::unpaid(offered)),
            Ok(Asked { step: Some(step), .. }) => {
                Box::pin(answer::unpaid_step(&gate.cashier, step, offered)).await
            }
            Err(malformed) => Err(malformed.into()),
        };
        let response = outcome.unwrap_or_else(|problem| problem.response());
        Ok(answer::offering(&gate, (offered, &billing), began, response).map(PaidBody::told))
    }

    /// Passes a request on, and releases its charge when it gets no answer.
    async fn forward<ReqBody, ResBody>(
        mut self,
        request: Request<PaidUpload<ReqBody>>,
        charge: Charged,
        billing: Billing,
    ) -> Served<ResBody, S::Error>
    where
        S: Service<Request<PaidUpload<ReqBody>>, Response = Response<ResBody>>,
        N: Node,
        P: Pricing,
        ResBody: Body<Data = Bytes>,
    {
        let forgiveness = self.gate.forgiveness(request.headers());
        let unanswered = Unanswered::new(&self.gate.cashier, &charge);
        match unanswered.until(self.inner.call(request)).await {
            Ok(response) => Ok(bill(self.gate, charge, response, (billing, forgiveness)).await),
            Err(error) => {
                release(&self.gate.cashier, &charge).await;
                Err(error)
            }
        }
    }

    /// Passes a request on whose body is charged by what passes. Where that is not paid any further
    /// before there is an answer, it is answered here.
    async fn meter<ReqBody, ResBody>(
        mut self,
        request: Request<ReqBody>,
        charge: Charged,
        (rates, counter): (Arc<Rates>, Counter),
    ) -> Served<ResBody, S::Error>
    where
        S: Service<Request<PaidUpload<ReqBody>>, Response = Response<ResBody>>,
        N: Node,
        P: Pricing,
        ResBody: Body<Data = Bytes>,
    {
        let paid = charge.paid_by();
        let forgiveness = self.gate.forgiveness(request.headers());
        let account = account(&self.gate, charge, forgiveness);
        let meter = self.gate.cashier.meters().open(rates, account);
        let uploaded = Uploaded { meter, paid };
        let meter = uploaded.meter.clone();
        let mut request = request.map(|body| PaidUpload::metered(body, meter.clone(), counter));
        request.extensions_mut().insert(meter.bill());
        let answered = tokio::select! {
            biased;
            answered = self.inner.call(request) => answered,
            problem = poll_fn(|context| meter.poll_stopped(context)) => {
                return Ok(uploaded.refuse(problem).await.map(PaidBody::told));
            }
        };
        match answered {
            Ok(response) => Ok(uploaded.bill(&self.gate, response).await),
            Err(error) => {
                let _released = uploaded.end(End::Void).await;
                Err(error)
            }
        }
    }
}

/// Asks for a body that is not encoded, where it is read.
pub(crate) fn ask_plainly(billing: &Billing, headers: &mut HeaderMap) {
    if billing.reads_bodies() {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Settles the charge of an answer, or has its body do so.
async fn bill<N: Node, P: Pricing, B: Body<Data = Bytes>>(
    gate: Arc<Gate<N, P>>,
    mut charge: Charged,
    mut response: Response<B>,
    (billing, forgiveness): (Billing, Forgiveness),
) -> Response<PaidBody<B>> {
    let used = dress(&gate, &mut response);
    let forgiveness = forgiveness.of_answer(&mut response);
    let (has_failed, is_to_blame) = (is_failure(&response), forgiveness.fault.is_set());
    if has_failed && !is_to_blame && gate.release.server_error {
        let released = release(&gate.cashier, &charge).await;
        return unanswered(&charge, released, response);
    }
    if has_failed && is_to_blame && charge.is_named() {
        // A client that has broken off hears nothing of it, and may ask again: the charge stays on
        // record for the name.
        return unanswered(&charge, None, response);
    }
    let metering = billing.metering(response.status(), response.headers());
    let used = match &metering {
        Metering::Flat => used,
        Metering::Known(cost) => *cost,
        Metering::Reported(_) | Metering::Running(..) | Metering::Left(_) => None,
    };
    match gate.cashier.answer(&mut charge, used).await {
        Ok(receipt) => {
            let is_running = matches!(metering, Metering::Running(..) | Metering::Left(_));
            insert(response.headers_mut(), &Receipt { is_running, ..receipt });
            response.extensions_mut().insert(charge.paid_by());
        }
        Err(problem) => {
            // The charge stays on record for the name, which may be asked again.
            let mut response = problem.with_receipt(charge.receipt()).response();
            response.extensions_mut().insert(charge.paid_by());
            return response.map(PaidBody::told);
        }
    }
    match metering {
        Metering::Flat | Metering::Known(_) => {}
        Metering::Reported(reading) => {
            let account = account(&gate, charge, forgiveness);
            tell_cost(account.bill(), &mut response);
            let reported = |body| PaidBody::reported(Reported::new(body, reading, account));
            return response.map(reported);
        }
        Metering::Left(rates) => {
            let account = account(&gate, charge, forgiveness);
            let meter = gate.cashier.meters().open(rates, account);
            return response.map(|body| PaidBody::left(body, meter));
        }
        Metering::Running(rates, counter) => {
            let account = account(&gate, charge, forgiveness);
            let meter = gate.cashier.meters().open(rates, account);
            meter.begin();
            tell_cost(meter.bill(), &mut response);
            return response.map(|body| PaidBody::metered(Metered::new(body, meter, counter)));
        }
    }
    let on_break: OnBreak = Box::new(move |has_begun| {
        if forgiveness.covers(has_begun) {
            begin(async move {
                let _receipt = release(&gate.cashier, &charge).await;
            });
        }
    });
    response.map(|body| PaidBody::served(body, Some(on_break)))
}

/// Passes on what a request gets that has no answer, and says whether its charge was taken back.
fn unanswered<B>(
    charge: &Charged,
    released: Option<Receipt>,
    mut response: Response<B>,
) -> Response<PaidBody<B>> {
    insert(response.headers_mut(), &released.unwrap_or_else(|| charge.receipt()));
    let paid = charge.paid_by();
    let paid = released.map_or(paid, |receipt| paid.released(receipt));
    response.extensions_mut().insert(paid);
    response.map(|body| PaidBody::served(body, None))
}

/// Takes from the head of an answer what is the paywall's to say, and returns what its service says
/// that it has used.
pub(crate) fn dress<N, P, B>(gate: &Gate<N, P>, response: &mut Response<B>) -> Option<Msat> {
    let ServiceFields { usage: used, memo } = &gate.fields;
    let used = used.as_ref().and_then(|field| usage(response.headers(), field));
    let memo = memo.as_ref().and_then(|field| take_memo(response.headers_mut(), field));
    strip(response.headers_mut());
    if let Some(memo) = memo {
        insert(response.headers_mut(), &memo);
    }
    make_private(response.headers_mut());
    used
}

/// Tells whether a service says by the head of its answer that it has failed.
pub(crate) fn is_failure<B>(response: &Response<B>) -> bool {
    let says_so = is_grpc(response.headers()) && has_failed(response.headers());
    response.status().is_server_error() || says_so
}

/// Begins to charge a request until its end.
fn account<N: Node, P>(gate: &Gate<N, P>, charge: Charged, forgiveness: Forgiveness) -> Account {
    let receipt = charge.receipt();
    let purse = Box::new(Running { cashier: gate.cashier.clone(), charge });
    Account::new((purse, receipt), forgiveness)
}

/// Says where the cost of a running answer is to be found: its last receipt stands in the trailers,
/// where there can be any.
pub(crate) fn tell_cost<B: Body>(bill: RunningBill, response: &mut Response<B>) {
    response.extensions_mut().insert(bill);
    if response.body().size_hint().exact().is_none() {
        response.headers_mut().append(TRAILER, HeaderValue::from_static(Receipt::NAME));
    }
}

/// Takes a payment and charges a request.
async fn charge<N: Node, P: Pricing>(
    gate: &Gate<N, P>,
    pay: &PayRequest,
    price: Msat,
    request: &Parts,
    memo: Option<Memo>,
) -> Result<Charged, Problem> {
    let most = gate.requests_per_channel;
    let name = name(request, &gate.pricing.sold_at(request))?;
    gate.cashier.pay(pay, price, name, memo, most).await
}

/// Takes a charge back, unless the channel is closing. A receipt says so only if it was.
async fn release<N: Node>(cashier: &Cashier<N>, charge: &Charged) -> Option<Receipt> {
    // Boxed, because few requests need it and all would carry it.
    match Box::pin(cashier.release(charge.channel(), charge.paid())).await {
        Ok(receipt) => Some(receipt),
        Err(problem) => {
            tracing::warn!(problem = %problem.detail, "a charge could not be released");
            None
        }
    }
}
