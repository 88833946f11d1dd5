//! The body of an answer that is charged by what passes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use farebox_channel::message::Receipt;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::account::behind;
use super::counter::Counter;
use super::meter::{End, Halt, Meter};
use super::notice::Notice;
use super::purse::Later;
use super::tab::Party;
use crate::grpc;
use crate::headers::{insert, strip};
use crate::problem::ProblemKind;

/// What comes of a body.
type Piece<E> = Option<Result<Frame<Bytes>, Stop<E>>>;

/// Why a body ends before its time.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// The service has broken it off.
    Broken(E),
    /// It is not paid any further.
    Unpaid(ProblemKind),
}

/// A body that is charged by what passes.
pub(crate) struct Metered<B> {
    inner: Pin<Box<B>>,
    meter: Meter,
    counter: Counter,
    /// What the service has given, and nobody has yet.
    held: Bytes,
    /// The beginning of what stands before a message of gRPC. It passes with the rest of it, so that
    /// a call can end before.
    beginning: Bytes,
    step: Step,
    /// Wakes the body when the time that is charged is over.
    alarm: Option<Pin<Box<Sleep>>>,
    /// What is to be told between two events, where the body may have more of them.
    notice: Option<Notice>,
    may_tell: bool,
    /// What was told: that credit runs low, and that the body waits for it.
    is_low: bool,
    is_waiting: bool,
}

/// What a body is about to do.
enum Step {
    /// To pass on what comes.
    Pass,
    /// To settle, and then to end with these trailers, or with an error.
    Settle(Later<Option<Receipt>>, Result<HeaderMap, ProblemKind>),
    /// To end, with the receipt of all that was charged.
    End(Option<Receipt>, Result<HeaderMap, ProblemKind>),
    /// Nothing.
    Rest,
}

impl<B: Body<Data = Bytes>> Metered<B> {
    /// Passes a body on, as far as it is paid.
    pub(crate) fn new(inner: B, meter: Meter, counter: Counter) -> Self {
        // Where a length was announced, nothing can be added.
        let may_tell = counter.is_between_events() && inner.size_hint().exact().is_none();
        Self {
            inner: Box::pin(inner),
            meter,
            counter,
            held: Bytes::new(),
            beginning: Bytes::new(),
            step: Step::Pass,
            alarm: None,
            notice: None,
            may_tell,
            is_low: false,
            is_waiting: false,
        }
    }

    /// Returns the next piece.
    pub(crate) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece<B::Error>> {
        loop {
            if let Some(event) = self.event() {
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
            match &mut self.step {
                Step::Pass => {
                    let standing = self.meter.standing();
                    let was_low = std::mem::replace(&mut self.is_low, standing.is_low);
                    if standing.is_low && !was_low {
                        self.notice = Some(Notice::Low);
                        continue;
                    }
                    match self.pass(context) {
                        Poll::Ready(None) => {}
                        Poll::Ready(piece) => return Poll::Ready(piece),
                        Poll::Pending if standing.is_waiting && !self.is_waiting => {
                            self.is_waiting = true;
                            self.notice = Some(Notice::Paused);
                        }
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Step::Settle(settling, end) => {
                    let receipt = ready!(settling.as_mut().poll(context));
                    let end = std::mem::replace(end, Ok(HeaderMap::new()));
                    self.step = Step::End(receipt, end);
                }
                Step::End(receipt, end) => {
                    let receipt = *receipt;
                    let end = std::mem::replace(end, Ok(HeaderMap::new()));
                    self.step = Step::Rest;
                    return Poll::Ready(Some(match end {
                        Ok(trailers) => Ok(Frame::trailers(with_receipt(trailers, receipt))),
                        Err(reason) => Err(Stop::Unpaid(reason)),
                    }));
                }
                Step::Rest => return Poll::Ready(None),
            }
        }
    }

    /// Passes on what is paid. Returns nothing when there is something else to do first.
    fn pass(&mut self, context: &mut Context<'_>) -> Poll<Piece<B::Error>> {
        if !self.held.is_empty() {
            let Self { meter, counter, held, .. } = self;
            return Poll::Ready(
                match ready!(meter.poll_pass((Party::Service, counter), held, context)) {
                    Ok(length) => {
                        self.is_waiting = false;
                        self.notice.take_if(|notice| *notice == Notice::Paused);
                        Some(Ok(Frame::data(self.held.split_to(length))))
                    }
                    Err(halt) => self.halt(&halt),
                },
            );
        }
        // Time that has passed is charged before anything else is.
        if let Err(halt) = ready!(self.meter.poll_ready(Party::Service, context)) {
            return Poll::Ready(self.halt(&halt));
        }
        match self.inner.as_mut().poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => self.take(data),
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    strip(&mut trailers);
                    let end = if grpc::has_failed(&trailers) { End::Broken } else { End::Answered };
                    let last = self.last();
                    self.settle(end, Ok(trailers));
                    return Poll::Ready(last);
                }
            },
            Poll::Ready(Some(Err(error))) => {
                self.step = Step::Rest;
                behind(self.meter.end(End::Broken));
                return Poll::Ready(Some(Err(Stop::Broken(error))));
            }
            Poll::Ready(None) => {
                let last = self.last();
                self.settle(End::Answered, Ok(HeaderMap::new()));
                return Poll::Ready(last);
            }
            Poll::Pending => {
                let Some(lasts) = self.meter.lasts() else { return Poll::Pending };
                let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(lasts)));
                alarm.as_mut().reset(Instant::now() + lasts);
                ready!(alarm.as_mut().poll(context));
            }
        }
        Poll::Ready(None)
    }

    /// Takes what the service gives.
    fn take(&mut self, data: Bytes) {
        let before = std::mem::take(&mut self.beginning);
        let data = if before.is_empty() { data } else { [before, data].concat().into() };
        self.held = data;
        if self.counter.is_grpc() {
            let unfinished = self.counter.after(&self.held).unfinished();
            self.beginning = self.held.split_off(self.held.len().saturating_sub(unfinished));
        }
    }

    /// Delivers what the service has begun and not gone on with.
    fn last(&mut self) -> Piece<B::Error> {
        let beginning = std::mem::take(&mut self.beginning);
        self.counter.pass(&beginning);
        self.meter.deliver(Party::Service, self.counter.counts());
        (!beginning.is_empty()).then(|| Ok(Frame::data(beginning)))
    }

    /// Ends the answer before its time, and says why as well as the form of the answer allows.
    fn halt(&mut self, halt: &Halt) -> Piece<B::Error> {
        (self.held, self.beginning) = (Bytes::new(), Bytes::new());
        let Halt::Unpaid(problem) = halt else {
            self.step = Step::Rest;
            return None;
        };
        let reason = problem.kind;
        let mut end = Ok(HeaderMap::new());
        if self.may_tell && self.counter.is_between_events() {
            self.notice = Some(Notice::Ended(reason.name()));
        } else if self.counter.is_grpc() {
            let mut trailers = HeaderMap::new();
            grpc::tell(problem, &mut trailers);
            end = Ok(trailers);
        } else {
            end = Err(reason);
        }
        self.settle(End::Answered, end);
        None
    }

    /// Begins to settle, and ends then.
    fn settle(&mut self, how: End, end: Result<HeaderMap, ProblemKind>) {
        self.step = match self.meter.end(how) {
            Some(settling) => Step::Settle(settling, end),
            None => Step::Rest,
        };
    }

    /// Returns an event of the paywall's own, where there is one to tell and it can stand.
    fn event(&mut self) -> Option<Bytes> {
        let can_stand = self.may_tell && self.counter.takes_event_before(&self.held);
        // What it has cost in the end is known once it is settled.
        let (cost, credit) = match (&self.step, self.notice?) {
            (Step::Settle(..), Notice::Ended(_)) => return None,
            (Step::End(receipt, _), _) => {
                let receipt = receipt.unwrap_or_else(|| self.meter.receipt());
                (receipt.price, receipt.credit)
            }
            _ => {
                let standing = self.meter.standing();
                (standing.cost, standing.credit)
            }
        };
        let notice = self.notice.take_if(|_| can_stand)?;
        Some(notice.event(cost, credit))
    }

    /// Tells whether nothing comes any more. There may be trailers, so only the end itself tells.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.step, Step::Rest) || self.length().exact() == Some(0)
    }

    /// Returns how much comes, as far as is known.
    pub(crate) fn length(&self) -> SizeHint {
        let held = self.held.len().saturating_add(self.beginning.len());
        let held = u64::try_from(held).unwrap_or(u64::MAX);
        let left = self.inner.size_hint().exact().filter(|_| !self.may_tell);
        left.map_or_else(SizeHint::new, |left| SizeHint::with_exact(left.saturating_add(held)))
    }
}

impl<B> Drop for Metered<B> {
    /// The client has left, or has all that was announced.
    fn drop(&mut self) {
        behind(self.meter.end(End::Answered));
    }
}

/// Puts the receipt among the trailers.
pub(super) fn with_receipt(mut trailers: HeaderMap, receipt: Option<Receipt>) -> HeaderMap {
    if let Some(receipt) = receipt {
        insert(&mut trailers, &receipt);
    }
    trailers
}
