//! The body of an answer that is charged while it passes: it is paid for while it is read.
//!
//! Nothing is done for a reader who does not read, and nothing is left behind when the body is
//! dropped.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::HeaderMap;
use reqwest::{Response, ResponseBuilderExt};
use tokio::time::{Instant, sleep};

use crate::error::{Limit, PayError};
use crate::event::Event;
use crate::gateway::field;
use crate::notices::{Notice, Notices};
use crate::pace::Pace;
use crate::teller::{Look, Teller};
use crate::ticket::Ticket;

/// How long to wait before it is asked once more what an answer has cost.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];

/// How long to wait for more of an answer that has drawn all that it may, in case that credit comes back
/// from another one.
const DRY: Duration = Duration::from_secs(10);

/// Whatever ends a body before its time.
type Failure = Box<dyn std::error::Error + Send + Sync>;
/// Something that is done some time from now.
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Returns the answer with a body that is paid for while it is read.
pub(crate) fn follow(response: Response, ticket: Ticket, teller: Teller) -> Response {
    let url = response.url().clone();
    let (mut parts, body) = http::Response::from(response).into_parts();
    // What carries an answer does not carry its address along.
    if let Ok(marked) = http::Response::builder().url(url).body(()) {
        parts.extensions.extend(marked.into_parts().0.extensions);
    }
    let answer = Answer {
        notices: Notices::new(&parts.headers),
        pace: Pace::new(teller.allowance.ahead),
        body: Some(body),
        ticket,
        teller: Arc::new(teller),
        look: None,
        limit: None,
        dry_since: None,
        is_cut: false,
        ending: None,
    };
    let body = reqwest::Body::wrap(Running(Mutex::new(answer)));
    Response::from(http::Response::from_parts(parts, body))
}

/// A running answer. Only its reader ever locks it.
struct Running(Mutex<Answer>);

impl Body for Running {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).poll(context)
    }

    fn size_hint(&self) -> SizeHint {
        let answer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answer.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// An answer, and what is done beside it.
struct Answer {
    /// Nothing once it has ended.
    body: Option<reqwest::Body>,
    notices: Notices,
    pace: Pace,
    ticket: Ticket,
    teller: Arc<Teller>,
    /// The look at the account that is under way, and what it wishes to pay.
    look: Option<(Later<Result<Look, PayError>>, Msat)>,
    /// What did not allow the last payment that was needed.
    limit: Option<Limit>,
    /// Since when nothing has come, no credit is left and no more may be paid.
    dry_since: Option<Instant>,
    /// Whether the stream has said that it ends before its time.
    is_cut: bool,
    ending: Option<Ending>,
}

/// How a body ends once it was asked what it has cost.
struct Ending {
    told: Later<Result<(), PayError>>,
    failure: Option<Failure>,
}

impl Answer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            if let Some(ending) = &mut self.ending {
                let told = ready!(ending.told.as_mut().poll(context));
                let failure = self.ending.take().and_then(|ending| ending.failure);
                return Poll::Ready(failure.or_else(|| distrust(told)).map(Err));
            }
            if let Err(error) = self.pay(context) {
                self.limit = None;
                self.end(Some(error.into()));
                continue;
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.hear(&data);
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Poll::Ready(Some(self.close(trailers)));
                    }
                },
                Poll::Ready(Some(Err(error))) => self.end(Some(error.into())),
                Poll::Ready(None) => self.end(None),
                Poll::Pending if self.pace.stalled() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Looks at the account whenever it is time to, and pays ahead.
    fn pay(&mut self, context: &mut Context<'_>) -> Result<(), PayError> {
        while self.ticket.runs() {
            if let Some((look, wished)) = &mut self.look {
                let Poll::Ready(seen) = look.as_mut().poll(context) else { return Ok(()) };
                let wished = *wished;
                self.look = None;
                if let Some(look) = self.pace.saw(seen, wished)? {
                    self.limit = look.limit;
                    self.dry(look)?;
                }
            }
            if self.pace.poll(context).is_pending() {
                return Ok(());
            }
            let (mark, wished) = self.pace.wishes();
            let teller = Arc::clone(&self.teller);
            let look = Box::pin(async move { teller.look(mark, wished).await });
            self.look = Some((look, wished));
        }
        Ok(())
    }

    /// Gives an answer up that can have no more.
    fn dry(&mut self, look: Look) -> Result<(), PayError> {
        let Some(limit) = look.limit.filter(|_| look.is_dry) else {
            self.dry_since = None;
            return Ok(());
        };
        let since = *self.dry_since.get_or_insert_with(Instant::now);
        if since.elapsed() < DRY { Ok(()) } else { Err(PayError::Limit(limit)) }
    }

    fn hear(&mut self, data: &Bytes) {
        self.pace.flowed();
        self.dry_since = None;
        match self.notices.read(data) {
            Some(Notice::Low | Notice::Paused) => self.pace.hasten(),
            Some(Notice::Ended) => self.is_cut = true,
            None => {}
        }
    }

    /// Takes the trailers, which are the last that comes.
    fn close(&mut self, trailers: HeaderMap) -> Result<Frame<Bytes>, Failure> {
        if let Ok(receipt) = field::<Receipt>(&trailers) {
            self.look = None;
            if let Err(error) = self.ticket.end(&receipt) {
                self.body = None;
                self.ticket.leave();
                return Err(error.into());
            }
            self.teller.observer.tell(&Event::Ended(receipt));
        }
        Ok(Frame::trailers(trailers))
    }

    /// Ends, and asks first what the answer has cost if that is not known.
    fn end(&mut self, failure: Option<Failure>) {
        // Whatever else comes is not read, so the gateway sees that its client has left.
        self.body = None;
        self.look = None;
        let failure = match self.limit {
            Some(limit) if failure.is_some() || self.is_cut => Some(PayError::Limit(limit).into()),
            Some(_) | None => failure,
        };
        let is_unknown = self.ticket.runs();
        self.ticket.leave();
        let teller = Arc::clone(&self.teller);
        let told = async move { if is_unknown { ask(&teller).await } else { Ok(()) } };
        self.ending = Some(Ending { told: Box::pin(told), failure });
    }
}

/// Returns why a body must not end well, where what it has cost is not believed, or not on record.
/// Whatever else has failed is asked for again before the next request.
fn distrust(told: Result<(), PayError>) -> Option<Failure> {
    match told {
        Err(error @ (PayError::Distrust(_) | PayError::File(_))) => Some(error.into()),
        Ok(()) | Err(_) => None,
    }
}

/// Asks what an answer has cost, until the gateway has counted it too.
async fn ask(teller: &Teller) -> Result<(), PayError> {
    for pause in PAUSES {
        sleep(pause).await;
        if teller.reckon().await? || teller.till.traffic().calm().is_none() {
            break;
        }
    }
    Ok(())
}
