//! A body that has no copy, or is long, sent before its price is known: it is held back for a moment,
//! since whoever asks for a payment does so at once, and reads little of what it does not want.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use reqwest::{Body, Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::carrier::Carrier;
use crate::error::PayError;
use crate::paying::lock;

/// How long it is held back once the head was sent, as other clients wait for `100 Continue`.
const MOMENT: Duration = Duration::from_secs(1);

/// The greatest body that is sent at once: it is read along with the head.
const AT_ONCE_MAX: usize = 16 * 1024;

/// What carries requests, and holds long bodies back.
pub(crate) struct Holding<'c, C>(pub(crate) &'c mut C);

impl<C: Carrier> Carrier for Holding<'_, C> {
    async fn carry(&mut self, request: Request) -> Result<Response, PayError> {
        let bytes = request.body().and_then(Body::as_bytes);
        match bytes.is_some_and(|bytes| bytes.len() > AT_ONCE_MAX) {
            true => send(self.0, request).await.0,
            false => self.0.carry(request).await,
        }
    }
}

/// Sends a request with such a body. Returns the request too where nothing of the body was sent.
pub(crate) async fn send(
    carrier: &mut impl Carrier,
    mut request: Request,
) -> (Result<Response, PayError>, Option<Request>) {
    let Some(body) = request.body_mut().take() else {
        return (carrier.carry(request).await, None);
    };
    let spare = request.try_clone();
    let size = body.size_hint();
    let kept = Arc::new(Mutex::new(Some(body)));
    let (wanted, is_wanted) = oneshot::channel();
    let held = HeldBody { kept: Arc::clone(&kept), size, is_wanted, moment: None, body: None };
    *request.body_mut() = Some(Body::wrap(held));
    let answered = carrier.carry(request).await;
    // A service may begin its answer before it has read the request.
    let is_asked_to_pay =
        matches!(&answered, Ok(response) if response.status() == StatusCode::PAYMENT_REQUIRED);
    let unsent = if is_asked_to_pay { lock(&kept).take() } else { None };
    drop(wanted);
    let whole = spare.zip(unsent).map(|(mut request, body)| {
        *request.body_mut() = Some(body);
        request
    });
    (answered, whole)
}

/// A body that is held back.
struct HeldBody {
    /// Nothing once it is being sent, or was taken back.
    kept: Arc<Mutex<Option<Body>>>,
    size: SizeHint,
    /// Ends once the request was answered.
    is_wanted: oneshot::Receiver<()>,
    /// When it is sent after all. It runs from when it is asked for first.
    moment: Option<Pin<Box<Sleep>>>,
    /// What is being sent.
    body: Option<Body>,
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.body.is_none() {
            if Pin::new(&mut self.is_wanted).poll(context).is_pending() {
                let moment = self.moment.get_or_insert_with(|| Box::pin(sleep(MOMENT)));
                ready!(moment.as_mut().poll(context));
            }
            let kept = lock(&self.kept).take();
            self.body = kept;
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(Some(Err("the request was answered before".into())));
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}
