//! The body of an answer that is charged by what passes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use farebox_ledger::Credited;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::account::behind;
use super::notice::Notice;
use super::pace::Ask;
use super::purse::{Denied, Later};
use super::tab::Tab;
use crate::grpc;
use crate::headers::{insert, strip};
use crate::problem::{Problem, ProblemKind};

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
    tab: Tab,
    /// What the service has given, and nobody has yet.
    held: Bytes,
    step: Step,
    /// Until when the body waits for credit, while it does. Less than what lets it go on buys no time.
    until: Option<Instant>,
    /// Wakes the body when the time that is charged is over.
    alarm: Option<Pin<Box<Sleep>>>,
    /// What is to be told between two events, where the body may have more of them.
    notice: Option<Notice>,
    may_tell: bool,
    /// Whether it was told that credit runs low.
    is_low: bool,
}

/// What a body is about to do.
enum Step {
    /// To pass on what comes.
    Pass,
    /// To charge more: so much, if it is there.
    Draw(Later<Result<Receipt, Denied>>, Ask),
    /// To wait for credit.
    Wait(Later<()>, Pin<Box<Sleep>>),
    /// To settle, and then to end with these trailers, or with an error.
    Settle(Later<Option<Receipt>>, Result<HeaderMap, ProblemKind>),
    /// To end, with the receipt of all that was charged.
    End(Option<Receipt>, Result<HeaderMap, ProblemKind>),
    /// Nothing.
    Rest,
}

impl<B: Body<Data = Bytes>> Metered<B> {
    /// Passes a body on, as far as it is paid.
    pub(crate) fn new(inner: B, tab: Tab) -> Self {
        // Where a length was announced, nothing can be added.
        let may_tell = tab.counter.is_between_events() && inner.size_hint().exact().is_none();
        let (inner, held) = (Box::pin(inner), Bytes::new());
        let (step, until, alarm, notice) = (Step::Pass, None, None, None);
        Self { inner, tab, held, step, until, alarm, notice, may_tell, is_low: false }
    }

    /// Returns the next piece.
    pub(crate) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece<B::Error>> {
        loop {
            if let Some(event) = self.event() {
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
            match &mut self.step {
                Step::Pass => {
                    let piece = ready!(self.pass(context));
                    if piece.is_some() {
                        return Poll::Ready(piece);
                    }
                }
                Step::Draw(drawing, ask) => {
                    let ask = *ask;
                    let drew = ready!(drawing.as_mut().poll(context));
                    self.drew(drew, ask);
                }
                Step::Wait(credited, alarm) => {
                    if credited.as_mut().poll(context).is_ready() {
                        self.notice.take_if(|notice| *notice == Notice::Paused);
                        let whole = self.tab.counter.after(&self.held);
                        self.draw(self.tab.owed_for(whole.counts()));
                    } else {
                        ready!(alarm.as_mut().poll(context));
                        let detail = "the credit has run out, and no payment has come in time";
                        self.stop(&Problem::new(ProblemKind::Underpaid, detail));
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
            return Poll::Ready(self.deliver());
        }
        // Time that has passed is charged before anything else is.
        let owed = self.tab.owed();
        if owed > self.tab.drawn() {
            self.draw(owed);
            return Poll::Ready(None);
        }
        self.until = None;
        match self.inner.as_mut().poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => self.held = data,
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    strip(&mut trailers);
                    let has_failed = grpc::has_failed(&trailers);
                    self.end(Ok(trailers), has_failed);
                }
            },
            Poll::Ready(Some(Err(error))) => {
                self.step = Step::Rest;
                behind(self.tab.settle_broken());
                return Poll::Ready(Some(Err(Stop::Broken(error))));
            }
            Poll::Ready(None) => self.settle(Ok(HeaderMap::new())),
            Poll::Pending => {
                let Some(lasts) = self.tab.lasts() else { return Poll::Pending };
                let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(lasts)));
                alarm.as_mut().reset(Instant::now() + lasts);
                ready!(alarm.as_mut().poll(context));
            }
        }
        Poll::Ready(None)
    }

    /// Delivers what is held, as far as it is paid. Returns nothing when nothing of it is.
    fn deliver(&mut self) -> Piece<B::Error> {
        let whole = self.tab.counter.after(&self.held);
        let owed = self.tab.owed_for(whole.counts());
        let is_dry = self.tab.credit() == Msat::ZERO;
        let (piece, counter) = if owed <= self.tab.drawn() {
            (std::mem::take(&mut self.held), whole)
        } else {
            let length = if is_dry { self.affordable() } else { 0 };
            if length == 0 {
                self.draw(owed);
                return None;
            }
            let piece = self.held.split_to(length);
            let counter = self.tab.counter.after(&piece);
            (piece, counter)
        };
        self.tab.deliver(counter);
        self.until = None;
        Some(Ok(Frame::data(piece)))
    }

    /// Returns how much of what is held is paid.
    fn affordable(&self) -> usize {
        let owed = |counts| self.tab.owed_for(counts);
        self.tab.counter.affordable(&self.held, self.tab.drawn(), owed)
    }

    /// Begins to charge what is `owed`, and some more.
    fn draw(&mut self, owed: Msat) {
        if let Some((drawing, ask)) = self.tab.draw(owed) {
            self.step = Step::Draw(drawing, ask);
        }
    }

    /// Goes on with what was charged, or waits for credit.
    fn drew(&mut self, drew: Result<Receipt, Denied>, ask: Ask) {
        match drew {
            Ok(receipt) => {
                self.tab.drew(receipt, ask);
                let is_low = receipt.credit < ask.wished;
                let was_low = std::mem::replace(&mut self.is_low, is_low);
                if self.is_low && !was_low {
                    self.notice = Some(Notice::Low);
                }
                self.step = Step::Pass;
            }
            Err(Denied::Poor(credited)) => {
                self.tab.ran_dry();
                if self.affordable() > 0 {
                    self.step = Step::Pass;
                    return;
                }
                if self.until.is_none() {
                    self.notice = Some(Notice::Paused);
                }
                let until = Instant::now() + self.tab.patience();
                let alarm = Box::pin(sleep_until(*self.until.get_or_insert(until)));
                self.step = Step::Wait(Box::pin(news(credited)), alarm);
            }
            Err(Denied::Refused(problem)) => self.stop(&problem),
        }
    }

    /// Ends the answer before its time, and says why as well as the form of the answer allows.
    fn stop(&mut self, problem: &Problem) {
        let reason = problem.kind;
        self.held = Bytes::new();
        if self.may_tell && self.tab.counter.is_between_events() {
            self.notice = Some(Notice::Ended(reason.name()));
            self.settle(Ok(HeaderMap::new()));
        } else if self.tab.counter.is_grpc() {
            let mut trailers = HeaderMap::new();
            grpc::tell(problem, &mut trailers);
            self.settle(Ok(trailers));
        } else {
            self.settle(Err(reason));
        }
    }

    /// Begins to settle, and ends then.
    fn settle(&mut self, end: Result<HeaderMap, ProblemKind>) {
        self.end(end, false);
    }

    /// The same, also for a call of gRPC that has failed.
    fn end(&mut self, end: Result<HeaderMap, ProblemKind>, has_failed: bool) {
        let settling = if has_failed { self.tab.settle_broken() } else { self.tab.settle() };
        self.step = match settling {
            Some(settling) => Step::Settle(settling, end),
            None => Step::Rest,
        };
    }

    /// Returns an event of the paywall's own, where there is one to tell and it can stand.
    fn event(&mut self) -> Option<Bytes> {
        let can_stand = self.may_tell && self.tab.counter.is_between_events();
        // What it has cost in the end is known once it is settled.
        let (cost, credit) = match (&self.step, self.notice?) {
            (Step::Settle(..), Notice::Ended(_)) => return None,
            (Step::End(Some(receipt), _), _) => (receipt.price, receipt.credit),
            (Step::End(None, _), _) => (self.tab.drawn(), self.tab.credit()),
            _ => (self.tab.cost(), self.tab.credit()),
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
        let held = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        let left = self.inner.size_hint().exact().filter(|_| !self.may_tell);
        left.map_or_else(SizeHint::new, |left| SizeHint::with_exact(left.saturating_add(held)))
    }
}

impl<B> Drop for Metered<B> {
    /// The client has left, or has all that was announced. A charge that is under way is as good as
    /// made.
    fn drop(&mut self) {
        match std::mem::replace(&mut self.step, Step::Rest) {
            Step::Draw(drawing, _) => self.tab.settle_after(drawing),
            Step::Pass | Step::Wait(..) | Step::Settle(..) | Step::End(..) | Step::Rest => {
                behind(self.tab.settle());
            }
        }
    }
}

/// Waits for news of a channel's credit.
async fn news(mut credited: Credited) {
    credited.again().await;
}

/// Puts the receipt among the trailers.
pub(super) fn with_receipt(mut trailers: HeaderMap, receipt: Option<Receipt>) -> HeaderMap {
    if let Some(receipt) = receipt {
        insert(&mut trailers, &receipt);
    }
    trailers
}
