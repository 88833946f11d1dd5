//! The body of an answer: the service's own, or a document of the paywall.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use crate::grpc::has_failed;
use crate::headers::strip;
use crate::metering::{Kept, Meter, Metered, Passage, Reported, Stop};
use crate::problem::ProblemKind;
use crate::stall::Stall;

/// Runs once when the service breaks its answer off, and is told whether the client has got anything of
/// it. It is dropped with the body.
pub(crate) type OnBreak = Box<dyn FnOnce(bool) + Send>;

/// Why an answer that came through a paywall has broken off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The service has broken it off.
    #[error(transparent)]
    Service(AnyError),
    /// It was not paid any further.
    #[error("the answer is not paid any further: {}", .0.name())]
    Unpaid(ProblemKind),
}

/// What a service's body breaks off with.
type AnyError = Box<dyn Error + Send + Sync>;

impl<E: Into<AnyError>> From<Stop<E>> for BodyError {
    fn from(stop: Stop<E>) -> Self {
        match stop {
            Stop::Broken(error) => Self::Service(error.into()),
            Stop::Unpaid(reason) => Self::Unpaid(reason),
        }
    }
}

pin_project! {
    /// The body of an answer that came through a paywall.
    pub struct PaidBody<B> {
        #[pin]
        state: State<B>,
        passage: Option<Meter>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<B> {
        Served { #[pin] inner: B, watch: Watch },
        Metered { metered: Box<Metered<B>> },
        Reported { reported: Box<Reported<B>> },
        Told { #[pin] document: Full<Bytes> },
    }
}

/// Watches who breaks an answer off.
struct Watch {
    on_break: Option<OnBreak>,
    /// Whether the client has got anything of the answer.
    has_begun: bool,
    stall: Stall,
}

impl Watch {
    /// Notes what the service had to give.
    fn handed<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>) {
        let fails = |trailers| !self.has_begun && has_failed(trailers);
        match frame {
            // Where nobody would be told of a break, nobody has to know who was slow.
            Some(Ok(frame)) if !frame.trailers_ref().is_some_and(fails) => {
                self.has_begun = true;
                if self.on_break.is_some() {
                    self.stall.begin();
                }
            }
            // A call of gRPC that fails before its first message is no more than one that breaks off.
            Some(_) => {
                let on_break = self.on_break.take();
                if let Some(on_break) = on_break.filter(|_| !self.stall.is_long()) {
                    on_break(self.has_begun);
                }
            }
            None => self.on_break = None,
        }
    }
}

impl<B> PaidBody<B> {
    /// Passes on the service's body, and tells when it breaks off.
    pub(crate) fn served(inner: B, on_break: Option<OnBreak>) -> Self {
        let watch = Watch { on_break, has_begun: false, stall: Stall::default() };
        Self { state: State::Served { inner, watch }, passage: None }
    }

    /// Passes on the service's body, for nothing. Until its end, the upload does not break off.
    pub(crate) fn kept(inner: B, upload: Kept) -> Self {
        Self::served(inner, Some(Box::new(move |_| drop(upload))))
    }

    /// Passes on the service's body, as far as it is paid.
    pub(crate) fn metered(metered: Metered<B>) -> Self {
        Self { state: State::Metered { metered: Box::new(metered) }, passage: None }
    }

    /// Passes on the service's body, and reads what it has used.
    pub(crate) fn reported(reported: Reported<B>) -> Self {
        Self { state: State::Reported { reported: Box::new(reported) }, passage: None }
    }

    /// Makes a body of an answer that leaves HTTP.
    pub(crate) fn left(inner: B, meter: Meter) -> Self {
        Self { passage: Some(meter), ..Self::served(inner, None) }
    }

    /// Takes over what goes on after an answer that leaves HTTP, where it is charged by what passes.
    /// Where nobody does, it costs the price.
    #[must_use]
    pub fn passage(&mut self) -> Option<Passage> {
        self.passage.take().map(Passage::new)
    }

    /// Makes a body of a document.
    pub(crate) fn told(document: Bytes) -> Self {
        Self { state: State::Told { document: Full::new(document) }, passage: None }
    }
}

impl<B> fmt::Debug for PaidBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaidBody").finish_non_exhaustive()
    }
}

impl<B> Body for PaidBody<B>
where
    B: Body<Data = Bytes, Error: Into<AnyError>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().state.project() {
            StateProjection::Served { inner, watch } => {
                watch.stall.end();
                let frame = ready!(inner.poll_frame(context));
                watch.handed(frame.as_ref());
                let frame = frame.map(|frame| frame.map(without_payment));
                Poll::Ready(
                    frame.map(|frame| frame.map_err(|error| BodyError::Service(error.into()))),
                )
            }
            StateProjection::Metered { metered } => {
                let piece = ready!(metered.poll_piece(context));
                Poll::Ready(piece.map(|piece| piece.map_err(BodyError::from)))
            }
            StateProjection::Reported { reported } => {
                let piece = ready!(reported.poll_piece(context));
                let told = |error: B::Error| BodyError::Service(error.into());
                Poll::Ready(piece.map(|piece| piece.map_err(told)))
            }
            StateProjection::Told { document } => {
                document.poll_frame(context).map_err(|never| match never {})
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Served { inner, .. } => inner.is_end_stream(),
            State::Metered { metered } => metered.is_end(),
            State::Reported { reported } => reported.is_end(),
            State::Told { document } => document.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Served { inner, .. } => inner.size_hint(),
            State::Metered { metered } => metered.length(),
            State::Reported { reported } => reported.length(),
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
