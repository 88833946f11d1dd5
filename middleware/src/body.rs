//! The body of an answer: the service's own, or a document of the paywall.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::headers::strip;

/// How long a client may make an answer wait, all its pieces together. If the answer breaks off
/// after that, it is the client's doing: otherwise a client could read on a little now and then,
/// until the service gives up, and have nearly all of the answer and its charge back.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Runs once when the service breaks its answer off. It is dropped with the body.
pub(crate) type OnBreak = Box<dyn FnOnce() + Send>;

pin_project! {
    /// The body of an answer that came through a paywall.
    pub struct PaidBody<B> {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<B> {
        Served { #[pin] inner: B, meter: Meter },
        Told { #[pin] document: Full<Bytes> },
    }
}

/// Watches who breaks an answer off.
struct Meter {
    on_break: Option<OnBreak>,
    handed_at: Option<Instant>,
    /// How long the answer has waited for the client so far.
    waited: Duration,
}

impl Meter {
    /// Notes that the client wants more.
    fn wanted(&mut self) {
        let waited = self.handed_at.take().map_or(Duration::ZERO, |at| at.elapsed());
        self.waited = self.waited.saturating_add(waited);
    }

    /// Notes what the service had to give.
    fn handed<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>) {
        match frame {
            // Where nobody would be told of a break, nobody has to know who was slow.
            Some(Ok(_)) => self.handed_at = self.on_break.is_some().then(Instant::now),
            Some(Err(_)) => {
                let on_break = self.on_break.take();
                if let Some(on_break) = on_break.filter(|_| self.waited <= STALL_MAX) {
                    on_break();
                }
            }
            None => self.on_break = None,
        }
    }
}

impl<B> PaidBody<B> {
    /// Passes on the service's body, and tells when it breaks off.
    pub(crate) const fn served(inner: B, on_break: Option<OnBreak>) -> Self {
        let meter = Meter { on_break, handed_at: None, waited: Duration::ZERO };
        Self { state: State::Served { inner, meter } }
    }

    /// Makes a body of a document.
    pub(crate) fn told(document: Bytes) -> Self {
        Self { state: State::Told { document: Full::new(document) } }
    }
}

impl<B> fmt::Debug for PaidBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaidBody").finish_non_exhaustive()
    }
}

impl<B: Body<Data = Bytes>> Body for PaidBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().state.project() {
            StateProjection::Served { inner, meter } => {
                meter.wanted();
                let frame = ready!(inner.poll_frame(context));
                meter.handed(frame.as_ref());
                Poll::Ready(frame.map(|frame| frame.map(without_payment)))
            }
            StateProjection::Told { document } => {
                document.poll_frame(context).map_err(|never| match never {})
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Served { inner, .. } => inner.is_end_stream(),
            State::Told { document } => document.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Served { inner, .. } => inner.size_hint(),
            State::Told { document } => document.size_hint(),
        }
    }
}

/// Removes payment fields from trailers: a receipt is the paywall's to give.
fn without_payment(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            strip(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
