//! A paid answer that a test feeds and reads.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use farebox_channel::wire::Field;
use farebox_middleware::{
    Billing, BodyError, Cashier, PaidBody, PaidUpload, PaywallLayer, Pricing, Rate, Rates,
    RunningBill,
};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower_layer::Layer;
use tower_service::Service;

use crate::support::{Desk, HOST, Quiet, header};

/// What a service puts into a body.
pub(super) type Given = Result<Frame<Bytes>, &'static str>;

/// A body that is given from outside.
pub(super) struct Fed(pub(super) UnboundedReceiver<Given>);

impl Body for Fed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.0.poll_recv(context)
    }
}

/// A service that answers with one body.
#[derive(Clone)]
pub(super) struct Api(pub(super) &'static str, pub(super) Arc<Mutex<Option<Fed>>>);

impl Service<Request<PaidUpload<Full<Bytes>>>> for Api {
    type Response = Response<Fed>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<PaidUpload<Full<Bytes>>>) -> Self::Future {
        let body = self.1.lock().unwrap().take().unwrap();
        ready(Ok(Response::builder().header(CONTENT_TYPE, self.0).body(body).unwrap()))
    }
}

#[derive(Clone)]
pub(super) struct Metering(Arc<Rates>);

impl Pricing for Metering {
    fn price(&self, _: &Parts) -> Option<Msat> {
        Some(self.0.draw)
    }

    fn billing(&self, _: &Parts) -> Billing {
        Billing::Running(Arc::clone(&self.0))
    }
}

pub(super) fn msat(msat: u64) -> Msat {
    Msat::new(msat).unwrap()
}

pub(super) fn rate(price: u64, units: u64) -> Option<Rate> {
    Some(Rate { price: msat(price), units: NonZeroU64::new(units).unwrap() })
}

/// Rates that charge nothing, and wait for credit as long as a test may.
pub(super) fn rates() -> Rates {
    Rates {
        answer: Msat::ZERO,
        bytes: None,
        events: None,
        messages: None,
        request_bytes: None,
        request_messages: None,
        millis: None,
        draw: msat(1_000),
        patience: Duration::from_secs(60),
    }
}

/// A paid answer that is under way. Its channel has a million millisatoshi of credit.
pub(super) struct Stream {
    pub(super) desk: Desk,
    pub(super) give: Option<UnboundedSender<Given>>,
    pub(super) head: HeaderMap,
    pub(super) bill: RunningBill,
    pub(super) body: Pin<Box<PaidBody<Fed>>>,
}

impl Stream {
    pub(super) async fn open(content_type: &'static str, rates: Rates) -> Self {
        let desk = Desk::open().await;
        let cashier = cashier(&desk);
        Self::open_by(desk, cashier, content_type, rates).await
    }

    /// The same with a cashier of the test's own.
    pub(super) async fn open_by(
        desk: Desk,
        cashier: Cashier<Quiet>,
        content_type: &'static str,
        rates: Rates,
    ) -> Self {
        let (give, fed) = unbounded_channel();
        let api = Api(content_type, Arc::new(Mutex::new(Some(Fed(fed)))));
        let (name, value) = header(&desk.pay(1_000));
        let request = Request::get("/x").header(name, value).body(Full::default()).unwrap();
        let layer = PaywallLayer::new(cashier, Metering(Arc::new(rates)));
        let mut paywall = layer.layer(api);
        let (head, body) = paywall.call(request).await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        let bill = head.extensions.get::<RunningBill>().unwrap().clone();
        Self { desk, give: Some(give), head: head.headers, bill, body: Box::pin(body) }
    }

    pub(super) fn give(&self, data: impl Into<Bytes>) {
        self.give.as_ref().unwrap().send(Ok(Frame::data(data.into()))).unwrap();
    }

    pub(super) fn end(&mut self) {
        self.give = None;
    }

    /// The next piece.
    pub(super) async fn piece(&mut self) -> Bytes {
        self.body.frame().await.unwrap().unwrap().into_data().unwrap()
    }

    /// So many bytes, which are whole pieces.
    pub(super) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            bytes.extend_from_slice(&self.piece().await);
        }
        assert_eq!(bytes.len(), length);
        bytes
    }

    /// The error that the body ends with.
    pub(super) async fn error(&mut self) -> BodyError {
        self.body.frame().await.unwrap().unwrap_err()
    }

    /// Everything up to the end, and the receipt that stands in the trailers.
    pub(super) async fn rest(&mut self) -> (Vec<u8>, Receipt) {
        let mut rest = Vec::new();
        loop {
            match self.body.frame().await.unwrap().unwrap().into_data() {
                Ok(data) => rest.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    let receipt = trailers.get(Receipt::NAME).unwrap();
                    return (rest, Receipt::decode(receipt.as_bytes()).unwrap());
                }
            }
        }
    }

    /// Pays so much in all, on another request of the channel.
    pub(super) async fn pay(&self, paid: u64) {
        super::taker::pay(&self.desk, paid).await;
    }

    /// Lets go of the body, and waits until so much is charged.
    pub(super) async fn settled(self, spent: u64) -> u64 {
        let Self { desk, body, .. } = self;
        drop(body);
        let mut credited = desk.ledger.credited(desk.contract.outpoint);
        let on_record = || {
            let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
            channel.account().spent.get()
        };
        let settling = async {
            while on_record() != spent {
                credited.again().await;
            }
        };
        let _late = tokio::time::timeout(Duration::from_secs(10), settling).await;
        on_record()
    }

    /// What is charged on record, once everything is saved.
    pub(super) async fn spent(self) -> u64 {
        let Self { desk, body, .. } = self;
        drop(body);
        desk.ledger.close().await;
        let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
        channel.account().spent.get()
    }
}

pub(super) fn layer(desk: &Desk, rates: Rates) -> PaywallLayer<Quiet, Metering> {
    PaywallLayer::new(cashier(desk), Metering(Arc::new(rates)))
}

pub(super) fn cashier(desk: &Desk) -> Cashier<Quiet> {
    let (keyring, ledger) = (desk.gateway.keyring.clone(), desk.ledger.clone());
    Cashier::new(keyring, ledger, Quiet, vec![HOST.to_owned()])
}
