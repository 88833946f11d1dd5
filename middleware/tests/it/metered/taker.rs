//! An upload that a test feeds, to a service that takes it and answers when it is told to.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use farebox_channel::message::Receipt;
use farebox_channel::wire::Field;
use farebox_middleware::{PaidBody, PaidBy, PaidUpload, PaywallLayer, Pricing};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tower_layer::Layer;
use tower_service::Service;

use super::stream::{Fed, Given, layer, rates};
use crate::support::{Desk, Quiet, WELL_KNOWN, header};

/// What a service answers, or why it does not.
pub(super) type Told = Result<Response<Fed>, &'static str>;

/// What a service has of a body.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    bytes: usize,
    /// Whether the rest waits for credit.
    is_unpaid: bool,
}

/// A service that takes as much of a body as it may have.
#[derive(Clone)]
struct Taker {
    most: u64,
    taken: watch::Sender<Taken>,
    taking: Arc<Mutex<Option<JoinHandle<()>>>>,
    told: Arc<Mutex<Option<oneshot::Receiver<Told>>>>,
}

impl Service<Request<PaidUpload<Fed>>> for Taker {
    type Response = Response<Fed>;
    type Error = &'static str;
    type Future = Pin<Box<dyn Future<Output = Told> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<PaidUpload<Fed>>) -> Self::Future {
        let (mut body, taken) = (request.into_body().limited(self.most), self.taken.clone());
        let taking = poll_fn(move |context| {
            loop {
                let polled = Pin::new(&mut body).poll_frame(context);
                let bytes = match &polled {
                    Poll::Ready(Some(Ok(frame))) => frame.data_ref().unwrap().len(),
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    Poll::Pending => 0,
                };
                let is_unpaid = body.is_unpaid();
                taken.send_modify(|taken| {
                    *taken = Taken { bytes: taken.bytes + bytes, is_unpaid };
                });
                ready!(polled);
            }
        });
        *self.taking.lock().unwrap() = Some(tokio::spawn(taking));
        let told = self.told.lock().unwrap().take().unwrap();
        Box::pin(async move { told.await.unwrap() })
    }
}

/// An upload that is under way.
pub(super) struct Uploading {
    give: Option<UnboundedSender<Given>>,
    taken: watch::Receiver<Taken>,
    taking: Arc<Mutex<Option<JoinHandle<()>>>>,
    tell: Option<oneshot::Sender<Told>>,
    answering: JoinHandle<Answered>,
}

/// What a client is answered.
type Answered = Result<Response<PaidBody<Fed>>, &'static str>;

impl Uploading {
    /// Begins an upload with these fields and a payment of a thousand satoshi, to a service that takes
    /// no more than so much.
    pub(super) fn begin<P: Pricing>(
        desk: &Desk,
        layer: PaywallLayer<Quiet, P>,
        fields: &[(&'static str, &str)],
        most: u64,
    ) -> Self {
        let (give, fed) = unbounded_channel();
        let (name, value) = header(&desk.pay(1_000));
        let mut request = Request::post("/x").header(name, value).body(Fed(fed)).unwrap();
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (sender, taken) = watch::channel(Taken::default());
        let (tell, told) = oneshot::channel();
        let told = Arc::new(Mutex::new(Some(told)));
        let taker = Taker { most, taken: sender, taking: Arc::default(), told };
        let taking = Arc::clone(&taker.taking);
        let mut paywall = layer.layer(taker);
        let answering = tokio::spawn(async move { paywall.call(request).await });
        Self { give: Some(give), taken, taking, tell: Some(tell), answering }
    }

    /// Gives the next piece.
    pub(super) fn give(&self, piece: impl Into<Bytes>) {
        self.give.as_ref().unwrap().send(Ok(Frame::data(piece.into()))).unwrap();
    }

    /// Waits until the service has so much.
    pub(super) async fn taken(&mut self, bytes: usize) {
        self.taken.wait_for(|taken| taken.bytes == bytes).await.unwrap();
    }

    /// Waits until it pauses for want of credit.
    pub(super) async fn pauses(&mut self) {
        self.taken.wait_for(|taken| taken.is_unpaid).await.unwrap();
    }

    /// Waits until nothing more of the body comes to the service.
    pub(super) async fn is_over(&self) {
        let taking = self.taking.lock().unwrap().take().unwrap();
        taking.await.unwrap();
    }

    /// Ends the body.
    pub(super) async fn end(&mut self) {
        self.give = None;
        self.is_over().await;
    }

    /// Breaks the body off.
    pub(super) async fn break_off(&mut self) {
        self.give.take().unwrap().send(Err("the client has gone")).unwrap();
        self.is_over().await;
    }

    /// Has the service let go of the body.
    pub(super) async fn leave(&self) {
        let taking = self.taking.lock().unwrap().take().unwrap();
        taking.abort();
        assert!(taking.await.unwrap_err().is_cancelled());
    }

    /// Has the service answer.
    pub(super) async fn answer(&mut self, told: Told) -> Answered {
        assert!(self.tell.take().unwrap().send(told).is_ok(), "it is answered already");
        (&mut self.answering).await.unwrap()
    }

    /// Has the service answer with a status and nothing else. Returns the summary.
    pub(super) async fn told(&mut self, status: u16) -> (u16, u64, bool) {
        let (_, body) = unbounded_channel();
        let told = Response::builder().status(status).body(Fed(body)).unwrap();
        summary(&self.answer(Ok(told)).await.unwrap())
    }

    /// Returns the status of an answer that is not the service's.
    pub(super) async fn refused(mut self) -> u16 {
        // The service has nothing to say.
        self.tell = None;
        self.answering.await.unwrap().unwrap().status().as_u16()
    }
}

/// Returns the status of an answer, what its receipt says that was charged, and whether that was taken
/// back.
pub(super) fn summary<B>(answer: &Response<B>) -> (u16, u64, bool) {
    let paid: &PaidBy = answer.extensions().get().unwrap();
    (answer.status().as_u16(), receipt(answer.headers()).price.get(), paid.is_released)
}

pub(super) fn receipt(headers: &HeaderMap) -> Receipt {
    Receipt::decode(headers[Receipt::NAME].as_bytes()).unwrap()
}

/// Reads a body to its end, and returns the receipt that stands in the trailers.
pub(super) async fn rest<B>(body: B) -> Result<Receipt, B::Error>
where
    B: Body<Data = Bytes>,
{
    let mut body = Box::pin(body);
    loop {
        if let Ok(trailers) = body.frame().await.unwrap()?.into_trailers() {
            return Ok(receipt(&trailers));
        }
    }
}

/// Pays so much in all, on another request of the channel.
pub(super) async fn pay(desk: &Desk, paid: u64) {
    let (name, value) = header(&desk.pay(paid));
    let mut paywall = layer(desk, rates()).layer(crate::support::Api::default());
    let request = Request::get(WELL_KNOWN).header(name, value).body(Full::default()).unwrap();
    assert_eq!(paywall.call(request).await.unwrap().status(), 200);
}

/// What is charged on record, once everything is saved. Nothing is taken any more then.
pub(super) async fn spent(desk: &Desk) -> u64 {
    desk.ledger.close().await;
    on_record(desk)
}

/// What is charged on record now.
pub(super) fn on_record(desk: &Desk) -> u64 {
    let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
    channel.account().spent.get()
}

/// Lets so much time pass at once.
pub(super) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    // Whoever has waited for that long goes on before this does.
    tokio::time::sleep(Duration::from_millis(1)).await;
    tokio::time::resume();
}
