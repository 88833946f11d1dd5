//! Requests with a name are sent again where it is not known what has come of them.
//!
//! The gateway charges a name once, and answers it once. Without a name a request is sent once: the
//! gateway could charge it again.

use std::time::Duration;

use farebox_channel::message::{PayRequest, Receipt};
use farebox_channel::wire::Field;
use reqwest::header::HeaderValue;
use reqwest::{Request, Response, StatusCode};
use tokio::time::{sleep, timeout};

use crate::carrier::Carrier;
use crate::error::PayError;
use crate::gateway::{field, is_of_gateway, is_problem, refused_payment};
use crate::paying::is_one_of;
use crate::policy::Policy;

/// The field that names a request.
pub(crate) const KEY: &str = "idempotency-key";
/// How long to wait before the first time. Each later wait is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// The refusals that tell nothing of the request's first sending, and pass.
const BUSY: [&str; 2] = ["request-under-way", "too-many-requests"];

/// How a request may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tries {
    /// How often once more.
    pub(crate) retries: u32,
    /// How long to wait for the head of the answer, each time.
    pub(crate) patience: Option<Duration>,
}

/// A request that was sent, perhaps several times.
pub(crate) struct Sent {
    /// What was answered the last time.
    pub(crate) answered: Result<Response, PayError>,
    /// Whether it was sent before, and nobody knows what has come of that.
    pub(crate) is_repeat: bool,
}

/// Names a request that has no name, where the policy says so. What cannot be sent again needs none.
pub(crate) fn name(request: &mut Request, policy: &Policy) -> Result<(), PayError> {
    if !policy.names_requests
        || request.headers().contains_key(KEY)
        || request.try_clone().is_none()
    {
        return Ok(());
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(PayError::Random)?;
    let key = format!("\"{:032x}\"", u128::from_be_bytes(bytes));
    let key = HeaderValue::try_from(key).map_err(|_| PayError::NoField("Idempotency-Key"))?;
    request.headers_mut().insert(KEY, key);
    Ok(())
}

/// Sends a request, and one with a name as often again as it may be.
pub(crate) async fn send(carrier: &mut impl Carrier, mut request: Request, tries: Tries) -> Sent {
    let is_named = request.headers().contains_key(KEY);
    let is_paid = request.headers().contains_key(PayRequest::NAME);
    let mut left = if is_named { tries.retries } else { 0 };
    let (mut is_repeat, mut pause) = (false, PAUSE);
    loop {
        let copy = if left > 0 { request.try_clone() } else { None };
        let answered = match tries.patience {
            Some(at_most) => timeout(at_most, carrier.carry(request))
                .await
                .unwrap_or(Err(PayError::Silent(at_most))),
            None => carrier.carry(request).await,
        };
        let mut is_lost = is_lost(&answered, is_paid);
        let answered = match answered {
            Ok(response) if is_named && is_paid && is_refusal(&response) => {
                let refused = refused_payment(response).await;
                is_lost &= !is_of_gateway(&refused);
                Err(refused)
            }
            answered => answered,
        };
        let is_busy = matches!(&answered, Err(error) if is_busy(error));
        let Some(again) = copy.filter(|_| is_lost || is_repeat && is_busy) else {
            return Sent { answered, is_repeat };
        };
        is_repeat = true;
        sleep(pause).await;
        pause = pause.saturating_mul(2);
        left = left.saturating_sub(1);
        request = again;
    }
}

/// Tells whether nobody knows what has come of a request: its connection broke, or something between
/// it and the gateway gave up. A time that its sender has set is over for good.
fn is_lost(answered: &Result<Response, PayError>, is_paid: bool) -> bool {
    match answered {
        Ok(response) => is_paid && !has_receipt(response) && is_gone(response.status()),
        Err(PayError::Http(error)) => {
            // What nobody has paid for, a gateway does not know by its name.
            error.is_connect() || is_paid && error.is_request() && !error.is_timeout()
        }
        Err(_) => false,
    }
}

/// Tells whether a status is one of those by which proxies say that they got no answer.
fn is_gone(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

fn is_busy(error: &PayError) -> bool {
    matches!(error, PayError::NotNow(_)) || is_one_of(error, &BUSY)
}

/// Tells whether an answer is a refusal that costs nothing and offers nothing.
fn is_refusal(response: &Response) -> bool {
    response.status() != StatusCode::PAYMENT_REQUIRED
        && is_problem(response)
        && !has_receipt(response)
}

fn has_receipt(response: &Response) -> bool {
    field::<Receipt>(response.headers()).is_ok()
}
