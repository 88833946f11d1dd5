//! The paywall's own answers: to steps, and to requests without a payment.

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_channel::message::{Memo, PayRequest};
use farebox_channel::wire::{Field, Malformed, Step};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::cashier::Cashier;
use crate::headers::{Asked, insert};
use crate::node::Node;
use crate::problem::{Problem, ProblemKind};

/// Says that a request is to be paid.
pub(crate) fn unpaid(price: Msat) -> Problem {
    let detail = format!("this request costs {price}; see the Payment-Channel-Offer field");
    Problem::new(ProblemKind::PaymentRequired, detail)
}

/// Adds the offer to an answer that asks for payment.
pub(crate) fn offering<N: Node>(
    cashier: &Cashier<N>,
    price: Msat,
    mut response: Response<Bytes>,
) -> Response<Bytes> {
    if response.status() == StatusCode::PAYMENT_REQUIRED {
        insert(response.headers_mut(), &cashier.offer(price));
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
pub(crate) async fn well_known<N: Node>(
    cashier: &Cashier<N>,
    asked: Result<Asked, Malformed>,
) -> Response<Bytes> {
    let outcome = match asked {
        Ok(Asked { step: Some(step), memo }) => take(cashier, step, memo).await,
        Ok(Asked { step: None, .. }) => Ok(described(cashier)),
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
    let charge = cashier.pay(request, Msat::ZERO, None, memo).await?;
    Ok(reply(&charge.receipt()))
}

/// Makes an answer of a message.
fn reply<F: Field>(message: &F) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    insert(response.headers_mut(), message);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Describes the offer, and where the gateway's node stands, as a document.
fn described<N: Node>(cashier: &Cashier<N>) -> Response<Bytes> {
    let offer = cashier.offer(Msat::ZERO);
    let kinds: Vec<_> = offer.kinds.iter().map(|kind| kind.as_str()).collect();
    let chain = cashier
        .chain_time()
        .map(|chain| json!({ "height": chain.height, "median_time_past": chain.median_time_past }));
    let document = json!({
        "chain": chain,
        "network": offer.network.to_core_arg(),
        "kinds": kinds,
        "capacity_min_sat": offer.capacity.start().get(),
        "capacity_max_sat": offer.capacity.end().get(),
        "lifetime_min_secs": offer.lifetime.start().get(),
        "lifetime_max_secs": offer.lifetime.end().get(),
        "first_payment_sat": offer.first_payment.get(),
        "confirmations": offer.confirmations,
    });
    let mut response = Response::new(Bytes::from(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
