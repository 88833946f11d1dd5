//! Bodies on their way: a client's to a service, and a service's back.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farebox_middleware::{self as middleware, ClientFault, PaidUpload};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use super::address::Visit;
use super::link::Link;
use crate::server::Call;

/// Why a client's body did not get through.
#[derive(Clone, Debug, Error)]
pub(crate) enum UploadError {
    /// The client has broken it off.
    #[error("the client has broken its request off: {0}")]
    Broken(String),
    /// It is longer than what is taken.
    #[error("the body is longer than {0} bytes")]
    TooLong(u64),
    /// The client has paused for too long.
    #[error("the client has paused for more than {0:?}")]
    Stalled(Duration),
    /// Its request is over already.
    #[error("the request is over")]
    Over,
}

/// What is taken of a client's body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadLimits {
    /// Its greatest length, in bytes.
    pub(crate) length: u64,
    /// The longest pause in it.
    pub(crate) pause: Duration,
}

/// Tells when a client's body was sent, and what was wrong with it if it was not.
pub(super) type Sent = watch::Receiver<Option<UploadError>>;

/// A client's body on its way to a service, or none: without its trailers, since what is removed from
/// a head must not come after the body (RFC 9110 §6.5.1). It notes when the client breaks it off.
#[derive(Debug)]
pub(crate) struct Upload(Option<Box<Sending>>);

/// A body that is being sent.
struct Sending {
    body: PaidUpload<Incoming>,
    call: Arc<Call>,
    alarm: Alarm,
    fault: ClientFault,
    /// Dropped with the body, which tells that it was sent.
    sent: watch::Sender<Option<UploadError>>,
}

impl Upload {
    /// Makes a body of nothing.
    pub(crate) const fn empty() -> Self {
        Self(None)
    }

    /// Passes a client's body on. The receiver tells when all of it was sent.
    pub(super) fn new(
        body: PaidUpload<Incoming>,
        call: Arc<Call>,
        fault: ClientFault,
    ) -> (Self, Sent) {
        let (sent, is_sent) = watch::channel(None);
        let (body, alarm) = (body.limited(call.upload.length), Alarm::default());
        (Self(Some(Box::new(Sending { body, call, alarm, fault, sent }))), is_sent)
    }
}

impl Sending {
    fn check(
        &self,
        frame: Result<Frame<Bytes>, middleware::UploadError>,
    ) -> Result<Frame<Bytes>, UploadError> {
        let frame = frame.map_err(|error| match error {
            middleware::UploadError::Client(error) => UploadError::Broken(error.to_string()),
            middleware::UploadError::TooLong => UploadError::TooLong(self.call.upload.length),
            middleware::UploadError::Over => UploadError::Over,
        })?;
        if let Some(data) = frame.data_ref() {
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.call.receive(length);
        }
        Ok(frame)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(sending) = &mut self.0 else { return Poll::Ready(None) };
        let pause = sending.call.upload.pause;
        sending.call.waits_for_credit(false);
        let frame = match Pin::new(&mut sending.body).poll_frame(context) {
            // They are the last that comes.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => None,
            Poll::Ready(frame) => {
                sending.alarm.disarm();
                frame.map(|frame| sending.check(frame))
            }
            // Who waits for credit is given the time for that, and is read nothing from.
            Poll::Pending if sending.body.is_unpaid() => {
                sending.alarm.disarm();
                sending.call.waits_for_credit(true);
                return Poll::Pending;
            }
            Poll::Pending if sending.alarm.rings(pause, context) => {
                Some(Err(UploadError::Stalled(pause)))
            }
            Poll::Pending => return Poll::Pending,
        };
        if let Some(Err(error)) = &frame {
            sending.fault.set();
            // Not every version of HTTP hands an error of a body on.
            sending.sent.send_replace(Some(error.clone()));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|sending| sending.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |sending| sending.body.size_hint())
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("body", &self.body).finish_non_exhaustive()
    }
}

/// Why a service's body did not come through.
#[derive(Debug, Error)]
pub(crate) enum DownloadError {
    /// The service has broken it off.
    #[error("the service has broken its answer off: {0}")]
    Broken(hyper::Error),
    /// The service has ended it without an error, and before its end.
    #[error("the service has broken its answer off before its end")]
    Unfinished,
    /// The service has paused for too long.
    #[error("the service has paused for more than {0:?}")]
    Stalled(Duration),
}

/// The connection that an answer comes over.
#[derive(Debug)]
pub(super) struct Source {
    /// The connection.
    pub(super) link: Link,
    /// The worker that it belongs to.
    pub(super) worker: usize,
    /// The request, which is under way until its answer has come.
    pub(super) visit: Visit,
    /// Tells when the request was sent, if it has a body.
    pub(super) is_sent: Option<Sent>,
}

/// Keeps the connection of an answer that has come for the next request, unless this one is still
/// being sent.
fn finish(source: Source) {
    let Source { link, worker, visit, is_sent } = source;
    let is_sent = is_sent.is_none_or(|is_sent| is_sent.has_changed().is_err());
    // A connection that takes many requests is kept already.
    if is_sent && !link.is_shared() {
        visit.address().keep(worker, link);
    }
}

/// The body of an answer: a document of the proxy's own, or a service's on its way to the client.
pub(crate) type Download = Either<Full<Bytes>, Served>;

/// A service's body on its way to the client.
pub(crate) struct Served {
    body: Incoming,
    pause: Duration,
    alarm: Alarm,
    source: Option<Source>,
}

impl Served {
    /// Passes a service's body on.
    pub(super) fn new(body: Incoming, pause: Duration, source: Source) -> Self {
        let source = if body.is_end_stream() {
            finish(source);
            None
        } else {
            Some(source)
        };
        Self { body, pause, alarm: Alarm::default(), source }
    }

    /// Makes the body of an answer that leaves HTTP: there is none, and the request is under way for as
    /// long as this value lives.
    pub(super) fn tunnelled(body: Incoming, pause: Duration, source: Source) -> Self {
        Self { body, pause, alarm: Alarm::default(), source: Some(source) }
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        let Self { body, pause, alarm, source } = &mut *self;
        match Pin::new(&mut *body).poll_frame(context) {
            Poll::Ready(frame) => {
                alarm.disarm();
                // A stream that is reset without an error is over for `hyper`, also where its end has not
                // come. Whole is only what has ended before that (RFC 9113 §8.1).
                let is_shared = source.as_ref().is_some_and(|source| source.link.is_shared());
                if frame.is_none() && is_shared && !body.is_end_stream() {
                    return Poll::Ready(Some(Err(DownloadError::Unfinished)));
                }
                let has_ended = match &frame {
                    Some(Ok(_)) => body.is_end_stream(),
                    Some(Err(_)) => false,
                    None => true,
                };
                if let Some(source) = source.take_if(|_| has_ended) {
                    finish(source);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(DownloadError::Broken)))
            }
            Poll::Pending if alarm.rings(*pause, context) => {
                Poll::Ready(Some(Err(DownloadError::Stalled(*pause))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

/// Rings when a pause is too long. Where nothing pauses, it costs nothing.
#[derive(Debug, Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    is_armed: bool,
}

impl Alarm {
    /// Notes that the pause is over.
    const fn disarm(&mut self) {
        self.is_armed = false;
    }

    /// Tells whether the pause has lasted too long. If not, the task is woken when it has.
    fn rings(&mut self, pause: Duration, context: &mut Context<'_>) -> bool {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(pause)));
        if !self.is_armed {
            // A pause without an end in sight is as good as none.
            let end = Instant::now().checked_add(pause);
            if let Some(end) = end {
                sleep.as_mut().reset(end);
            }
            self.is_armed = true;
        }
        sleep.as_mut().poll(context).is_ready()
    }
}
