//! The body of an answer: the service's own, or a document of the paywall.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// Runs once when the service breaks its answer off.
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
        Served { #[pin] inner: B, on_break: Option<OnBreak> },
        Told { document: Option<Bytes> },
    }
}

impl<B> PaidBody<B> {
    /// Passes on the service's body, and tells when it breaks off.
    pub(crate) const fn served(inner: B, on_break: Option<OnBreak>) -> Self {
        Self {
            state: State::Served { inner, on_break },
        }
    }

    /// Makes a body of a document.
    pub(crate) fn told(document: Bytes) -> Self {
        let document = Some(document).filter(|document| !document.is_empty());
        Self {
            state: State::Told { document },
        }
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
            StateProjection::Served { inner, on_break } => {
                let frame = ready!(inner.poll_frame(context));
                if let Some(Err(_)) = frame
                    && let Some(on_break) = on_break.take()
                {
                    on_break();
                }
                Poll::Ready(frame)
            }
            StateProjection::Told { document } => {
                Poll::Ready(document.take().map(|document| Ok(Frame::data(document))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Served { inner, .. } => inner.is_end_stream(),
            State::Told { document } => document.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Served { inner, .. } => inner.size_hint(),
            State::Told { document } => {
                let length = document.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
        }
    }
}
