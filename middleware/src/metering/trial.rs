//! Requests that nobody pays, and of which it is only told what they would cost.

use std::future::ready;

use bytes::Bytes;
use farebox_channel::message::Receipt;
use farebox_channel::{Msat, Sat};
use http::Response;
use http_body::Body;

use super::purse::{Closing, Denied, Later, Purse};
use super::{Account, Counter, Forgiveness, Meter, Metered, Metering, Reported, RunningBill};
use crate::body::{OnBreak, PaidBody};
use crate::fault::ClientFault;
use crate::grpc::could_do_nothing;
use crate::problem::Problem;

/// A purse that has whatever is wanted of it.
struct Trial;

impl Purse for Trial {
    fn answers(&self, charged: Receipt) -> Later<Result<Receipt, Problem>> {
        Box::pin(ready(Ok(charged)))
    }

    fn takes_back(&self) -> bool {
        true
    }

    fn draw(&self, _least: Msat, most: Msat) -> Later<Result<Receipt, Denied>> {
        Box::pin(ready(Ok(given(most))))
    }

    fn settle(self: Box<Self>, _charged: Receipt, closing: Closing) -> Later<Option<Receipt>> {
        Box::pin(ready(Some(given(closing.cost()))))
    }
}

/// Returns the receipt of a charge that nobody pays.
const fn given(price: Msat) -> Receipt {
    Receipt { paid: Sat::ZERO, spent: Msat::ZERO, credit: Msat::MAX, price, is_running: false }
}

/// Opens the account of a request that nobody pays, with this price charged first.
pub(crate) fn on_trial(price: Msat, forgiveness: Forgiveness) -> Account {
    Account::new((Box::new(Trial), given(price)), forgiveness).untold()
}

/// Passes an answer on for nothing, and tells what it would cost with this price charged first.
pub(crate) fn tried<B: Body<Data = Bytes>>(
    (price, metering): (Msat, Metering),
    forgiveness: Forgiveness,
    mut response: Response<B>,
) -> Response<PaidBody<B>> {
    let account = on_trial(price, forgiveness);
    let bill = account.bill();
    match metering {
        Metering::Flat => flat(price, account, response),
        Metering::Known(cost) => {
            flat(cost.map_or(price, |cost| cost.min(price)), account, response)
        }
        Metering::Reported(reading) => {
            response.extensions_mut().insert(bill);
            response.map(|body| PaidBody::reported(Reported::new(body, reading, account)))
        }
        Metering::Running(rates, counter) => {
            response.extensions_mut().insert(bill);
            let meter = Meter::new(rates, account);
            meter.begin();
            response.map(|body| PaidBody::metered(Metered::new(body, meter, counter)))
        }
        Metering::Left(rates) => {
            let meter = Meter::new(rates, account);
            response.map(|body| PaidBody::left(body, meter))
        }
    }
}

/// The same for an answer whose cost its head tells. Where it breaks off, that would be given back.
fn flat<B: Body<Data = Bytes>>(
    cost: Msat,
    account: Account,
    mut response: Response<B>,
) -> Response<PaidBody<B>> {
    account.note(cost);
    response.extensions_mut().insert(account.bill());
    let on_break: OnBreak = Box::new(move |has_begun| {
        if account.forgives(has_begun) {
            account.note(Msat::ZERO);
        }
    });
    response.map(|body| PaidBody::served(body, Some(on_break)))
}

/// The same for a failure, which would be given back.
pub(crate) fn failed<B: Body<Data = Bytes>>(mut response: Response<B>) -> Response<PaidBody<B>> {
    response.extensions_mut().insert(RunningBill::default());
    response.map(|body| PaidBody::served(body, None))
}

/// The same for the answer to a request whose body was counted already. A failure gives back what it
/// would be given back for.
pub(crate) fn uploaded<B: Body<Data = Bytes>>(
    meter: Meter,
    gives_back: bool,
    mut response: Response<B>,
) -> Response<PaidBody<B>> {
    if let Some(fault) = response.extensions_mut().remove::<ClientFault>() {
        meter.blame(fault);
    }
    response.extensions_mut().insert(meter.bill());
    if gives_back && could_do_nothing(&response) {
        // It passes on, as if it were free.
        return response.map(|body| PaidBody::kept(body, meter.keep()));
    }
    meter.begin();
    let counter = Counter::new(response.headers());
    response.map(|body| PaidBody::metered(Metered::new(body, meter, counter)))
}
