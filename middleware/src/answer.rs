//! The paywall's own answers: to steps, and to requests without a payment.

use std::num::NonZeroU32;

use bytes::Bytes;
use farebox_channel::message::{Memo, Offer, PayRequest, Receipt};
use farebox_channel::wire::{Field, Malformed, Step};
use farebox_channel::{Msat, Seconds};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cashier::Cashier;
use crate::headers::{Asked, insert};
use crate::layer::Gate;
use crate::node::Node;
use crate::page::{JSON_QUERY, POLICY, is_preferred, page};
use crate::pricing::{Billing, PricedRoute, Pricing};
use crate::problem::{Problem, ProblemKind};

/// Says that a request is to be paid.
pub(crate) fn unpaid(price: Msat) -> Problem {
    let detail = format!("this request costs {price}; see the Payment-Channel-Offer field");
    Problem::new(ProblemKind::PaymentRequired, detail)
}

/// Adds the offer to an answer that asks for payment. The price was looked up when the request
/// began, so its time runs from then on.
pub(crate) fn offering<N: Node, P>(
    gate: &Gate<N, P>,
    (price, billing): (Msat, &Billing),
    began: Instant,
    mut response: Response<Bytes>,
) -> Response<Bytes> {
    if response.status() == StatusCode::PAYMENT_REQUIRED {
        let gone = u32::try_from(began.elapsed().as_secs()).unwrap_or(u32::MAX);
        let left = gate.quote.and_then(|quote| quote.get().checked_sub(gone));
        let price_holds = left.filter(|secs| *secs > 0).map(Seconds::new);
        let rates = billing.offered();
        let offer = Offer { price_holds, rates, ..gate.cashier.offer(price) };
        insert(response.headers_mut(), &offer);
    }
    response
}

/// Takes a step on a priced URL. The step is done, and the request itself is still to be paid.
pub(crate) async fn unpaid_step<N: Node>(
    cashier: &Cashier<N>,
    step: Step,
    price: Msat,
) -> Result<Response<Bytes>, Problem> {
    let done = take(cashier, step, None).await?;
    let mut response = unpaid(price).response();
    response.headers_mut().extend(done.headers().clone());
    Ok(response)
}

/// Answers on the well-known path, where nothing is charged.
pub(crate) async fn well_known<N: Node, P: Pricing>(
    gate: &Gate<N, P>,
    asked: Result<Asked, Malformed>,
    request: &Parts,
) -> Response<Bytes> {
    let outcome = match asked {
        Ok(Asked { step: Some(step), memo }) => take(&gate.cashier, step, memo).await,
        Ok(Asked { step: None, .. }) => Ok(described(gate, request)),
        Err(malformed) => Err(malformed.into()),
    };
    outcome.unwrap_or_else(|problem| problem.response())
}

/// Takes a step. A payment pays for no request here; it adds to the credit.
async fn take<N: Node>(
    cashier: &Cashier<N>,
    step: Step,
    memo: Option<Memo>,
) -> Result<Response<Bytes>, Problem> {
    match step {
        Step::Open(request) => Ok(reply(&cashier.open(&request)?)),
        Step::Refund(request) => Ok(reply(&cashier.refund(&request)?)),
        Step::Watch(request) => Ok(reply(&cashier.watch(&request).await?)),
        Step::Contract(request) => Ok(reply(&cashier.contract(*request).await?)),
        Step::Pay(request) => top_up(cashier, &request, memo).await,
        Step::Status(request) => Ok(reply(&cashier.status(&request)?)),
        Step::Close(request) => Ok(reply(&cashier.close(&request).await?)),
    }
}

async fn top_up<N: Node>(
    cashier: &Cashier<N>,
    request: &PayRequest,
    memo: Option<Memo>,
) -> Result<Response<Bytes>, Problem> {
    let charge = cashier.pay(request, Msat::ZERO, None, memo, NonZeroU32::MAX).await?;
    Ok(reply(&Receipt { is_running: charge.has_others(), ..charge.receipt() }))
}

/// Makes an answer of a message.
fn reply<F: Field>(message: &F) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    insert(response.headers_mut(), message);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Describes the offer, the prices, and where the gateway's node stands: as a document, or as a page
/// for whoever would rather have one.
fn described<N: Node, P: Pricing>(gate: &Gate<N, P>, request: &Parts) -> Response<Bytes> {
    let offer = Offer { price_holds: gate.quote, ..gate.cashier.offer(Msat::ZERO) };
    let prices = gate.pricing.prices();
    let is_page = request.uri.query() != Some(JSON_QUERY) && is_preferred(&request.headers);
    let (content_type, body) = if is_page {
        ("text/html; charset=utf-8", page(&offer, &prices))
    } else {
        ("application/json", document(&gate.cashier, &offer, &prices).to_string())
    };
    let mut response = Response::new(Bytes::from(body));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (VARY, "accept"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_page {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    }
    response
}

/// Returns the document.
fn document<N: Node>(cashier: &Cashier<N>, offer: &Offer, prices: &[PricedRoute]) -> Value {
    let kinds: Vec<_> = offer.kinds.iter().map(|kind| kind.as_str()).collect();
    let chain = cashier
        .chain_time()
        .map(|chain| json!({ "height": chain.height, "median_time_past": chain.median_time_past }));
    let prices: Vec<_> = prices.iter().map(PricedRoute::document).collect();
    json!({
        "chain": chain,
        "network": offer.network.to_core_arg(),
        "kinds": kinds,
        "capacity_min_sat": offer.capacity.start().get(),
        "capacity_max_sat": offer.capacity.end().get(),
        "lifetime_min_secs": offer.lifetime.start().get(),
        "lifetime_max_secs": offer.lifetime.end().get(),
        "first_payment_sat": offer.first_payment.get(),
        "confirmations": offer.confirmations,
        "price_secs": offer.price_holds.map(Seconds::get),
        "prices": prices,
    })
}
