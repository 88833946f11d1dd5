//! A ledger that stops between a charge and its answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use farebox_channel::message::Receipt;
use farebox_channel::wire::Field;
use farebox_ledger::Ledger;
use farebox_middleware::{PaidBy, PaidUpload};
use http::header::HeaderName;
use http::{Request, Response};
use http_body_util::Full;
use tower_layer::Layer;
use tower_service::Service;

use crate::support::{Desk, PRICE_MSAT, header};

/// A service that answers once the ledger has stopped, and has used little.
#[derive(Clone)]
struct Late(Ledger);

impl Service<Request<PaidUpload<Full<Bytes>>>> for Late {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<PaidUpload<Full<Bytes>>>) -> Self::Future {
        let ledger = self.0.clone();
        Box::pin(async move {
            ledger.close().await;
            let answer = Response::builder().header("x-used", "400");
            Ok(answer.body(Full::from("late\n")).unwrap())
        })
    }
}

/// Pays for a request with one more field, and returns its status, its receipt, and who has paid.
async fn ask(desk: &Desk, field: (&str, &str)) -> (u16, Receipt, PaidBy) {
    let layer = desk.layer().usage(Some(HeaderName::from_static("x-used")));
    let (name, value) = header(&desk.pay(2_000));
    let request = Request::get("/x").header(name, value).header(field.0, field.1);
    let request = request.body(Full::default()).unwrap();
    let answer = layer.layer(Late(desk.ledger.clone())).call(request).await.unwrap();
    let receipt = answer.headers().get("payment-channel-receipt").unwrap();
    let receipt = Receipt::decode(receipt.as_bytes()).unwrap();
    (answer.status().as_u16(), receipt, *answer.extensions().get().unwrap())
}

#[tokio::test]
async fn a_charged_request_whose_answer_cannot_be_noted_is_refused_with_its_receipt() {
    let desk = Desk::open().await;
    let (status, receipt, paid) = ask(&desk, ("idempotency-key", "one")).await;
    assert_eq!(status, 503);
    assert_eq!((receipt.price.get(), receipt.spent.get()), (PRICE_MSAT, PRICE_MSAT));
    assert_eq!((paid.price, paid.credit), (receipt.price, receipt.credit));
}

#[tokio::test]
async fn an_answer_without_a_name_is_given_for_its_whole_charge_after_the_ledger_stopped() {
    let desk = Desk::open().await;
    let (status, receipt, _) = ask(&desk, ("x-other", "one")).await;
    assert_eq!((status, receipt.price.get()), (200, PRICE_MSAT));
}
