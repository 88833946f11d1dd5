//! The body of a request on its way to the service: charged by what passes, where that costs
//! something.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::counter::Counter;
use super::meter::{Halt, Meter};
use super::tab::Party;

/// What a client's body breaks off with.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request that came through a paywall has broken off.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The client has broken it off.
    #[error(transparent)]
    Client(AnyError),
    /// The client sends more than is taken.
    #[error("the request is longer than what is taken")]
    TooLong,
    /// It is over: its answer has ended, or it was not paid any further.
    #[error("the request is over")]
    Over,
}

pin_project! {
    /// The body of a request that came through a paywall.
    pub struct PaidUpload<B> {
        #[pin]
        inner: B,
        // How much more of it is taken, in bytes.
        left: u64,
        toll: Option<Box<Toll>>,
    }
}

/// What a body is charged by.
struct Toll {
    meter: Meter,
    counter: Counter,
    /// What the client has sent, and the service has not got yet.
    held: Bytes,
}

impl<B> PaidUpload<B> {
    /// Passes a body on that costs nothing.
    pub(crate) const fn plain(inner: B) -> Self {
        Self { inner, left: u64::MAX, toll: None }
    }

    /// Passes a body on, as far as it is paid.
    pub(crate) fn metered(inner: B, meter: Meter, counter: Counter) -> Self {
        let toll = Some(Box::new(Toll { meter, counter, held: Bytes::new() }));
        Self { inner, left: u64::MAX, toll }
    }

    /// Takes no more than so many bytes. A piece that goes beyond is neither passed on nor charged, and
    /// the body breaks off there, through its client.
    #[must_use]
    pub fn limited(self, most: u64) -> Self {
        Self { left: most, ..self }
    }

    /// Tells whether there is no credit for it, or nothing more of it passes, and nothing is taken from
    /// the client meanwhile. So a pause is not the client's.
    #[must_use]
    pub fn is_unpaid(&self) -> bool {
        self.toll.as_ref().is_some_and(|toll| toll.meter.is_unpaid())
    }
}

impl Drop for Toll {
    /// The service wants no more of it.
    fn drop(&mut self) {
        self.meter.forgo(Party::Client);
    }
}

impl Toll {
    /// Passes on what is paid of what is held. Returns nothing where nothing is held, and more may be
    /// taken in.
    fn poll_held(&mut self, context: &Context<'_>) -> Poll<Result<Option<Bytes>, UploadError>> {
        let Self { meter, counter, held } = self;
        let passed = if held.is_empty() {
            ready!(meter.poll_ready(Party::Client, context)).map(|()| None)
        } else {
            let passed = ready!(meter.poll_pass((Party::Client, counter), held, context));
            passed.map(|length| Some(held.split_to(length)))
        };
        match passed {
            Ok(piece) => Poll::Ready(Ok(piece)),
            // Whoever answers says so, and ends it then.
            Err(Halt::Over | Halt::Unpaid(_)) => {
                ready!(meter.poll_over(context));
                Poll::Ready(Err(UploadError::Over))
            }
        }
    }
}

impl<B> Body for PaidUpload<B>
where
    B: Body<Data = Bytes, Error: Into<AnyError>>,
{
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let mut this = self.project();
        loop {
            if let Some(toll) = this.toll {
                match ready!(toll.poll_held(context)) {
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            let polled = this.inner.as_mut().poll_frame(context);
            if let Some(toll) = this.toll {
                toll.meter.awaits_client(polled.is_pending());
            }
            let frame = ready!(polled).map(|frame| match frame {
                Ok(frame) => within(this.left, frame),
                Err(error) => Err(UploadError::Client(error.into())),
            });
            let frame = match (frame, &mut this.toll) {
                (Some(Ok(frame)), Some(toll)) => match frame.into_data() {
                    Ok(data) => {
                        toll.held = data;
                        continue;
                    }
                    Err(frame) => Some(Ok(frame)),
                },
                (Some(Err(error)), Some(toll)) => {
                    toll.meter.is_clients_fault();
                    Some(Err(error))
                }
                (frame, _) => frame,
            };
            return Poll::Ready(frame);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.toll.as_ref().is_none_or(|toll| toll.held.is_empty()) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.toll.as_ref().map_or(0, |toll| toll.held.len());
        let held = u64::try_from(held).unwrap_or(u64::MAX);
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(held));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

/// Takes a frame, unless it goes beyond what is left.
fn within(left: &mut u64, frame: Frame<Bytes>) -> Result<Frame<Bytes>, UploadError> {
    let length = frame.data_ref().map_or(0, Bytes::len);
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    *left = left.checked_sub(length).ok_or(UploadError::TooLong)?;
    Ok(frame)
}

impl<B> fmt::Debug for PaidUpload<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaidUpload").finish_non_exhaustive()
    }
}
