//! Answers whose service says what they have used.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::account::{Account, behind};
use super::body::with_receipt;
use super::purse::Later;
use crate::grpc::has_failed;
use crate::headers::strip;
use crate::stall::Stall;
use crate::usage::{UsageReader, UsageSource};

/// What answers cost by the units that their service reports. It is never more than the price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Where the units are told. The first of them that tells any counts.
    pub sources: Vec<UsageSource>,
    /// What one unit costs.
    pub unit: Msat,
}

impl Usage {
    /// Tells whether bodies are read, so that services have to be asked for plain ones.
    pub(crate) fn reads_bodies(&self) -> bool {
        self.sources.iter().any(UsageSource::reads_body)
    }

    /// Returns the same at the lower price of two for a unit.
    pub(crate) fn or_lower(&self, other: &Self) -> Self {
        Self { sources: self.sources.clone(), unit: self.unit.min(other.unit) }
    }

    /// Returns what so many units cost, and the greatest amount where that is more.
    fn cost(&self, units: u64) -> Msat {
        let cost = units.checked_mul(self.unit.get());
        cost.and_then(|cost| Msat::new(cost).ok()).unwrap_or(Msat::MAX)
    }
}

/// What a service has reported so far.
pub(crate) struct Reading {
    usage: Arc<Usage>,
    readers: Vec<UsageReader>,
}

impl Reading {
    /// Begins with the head of an answer.
    pub(crate) fn new(usage: Arc<Usage>, head: &HeaderMap) -> Self {
        let readers = usage.sources.iter().map(|source| UsageReader::new(source, head)).collect();
        Self { usage, readers }
    }

    /// Returns what the answer costs, as far as the service has said.
    pub(crate) fn cost(&self) -> Option<Msat> {
        let units = self.readers.iter().find_map(UsageReader::units)?;
        Some(self.usage.cost(units))
    }

    /// Tells whether nothing comes after the head.
    pub(crate) fn is_over(&self) -> bool {
        let is_head = |source: &UsageSource| matches!(source, UsageSource::Header(_));
        self.usage.sources.first().is_some_and(is_head) && self.cost().is_some()
            || self.usage.sources.iter().all(is_head)
    }
}

/// The body of an answer whose usage is read while it passes.
pub(crate) struct Reported<B> {
    inner: Pin<Box<B>>,
    reading: Reading,
    account: Account,
    stall: Stall,
    /// Whether the client has got anything of the body.
    has_begun: bool,
    step: Step,
}

/// What a body is about to do.
enum Step {
    /// To pass on what comes.
    Pass,
    /// To settle, and then to end with these trailers.
    Settle(Later<Option<Receipt>>, HeaderMap),
    /// Nothing.
    Rest,
}

impl<B> Reported<B> {
    /// Returns what the answer costs, as far as the service has said.
    fn cost(&self) -> Msat {
        let price = self.account.drawn();
        self.reading.cost().map_or(price, |cost| cost.min(price))
    }

    /// Begins to settle what the service has broken off.
    fn settle_broken(&mut self) -> Option<Later<Option<Receipt>>> {
        let may_be_void = self.reading.cost().is_none()
            && !self.stall.is_long()
            && self.account.forgives(self.has_begun);
        self.account.settle_broken(self.cost(), may_be_void)
    }
}

impl<B> Drop for Reported<B> {
    /// The client has left, or has all that was announced.
    fn drop(&mut self) {
        behind(self.account.settle(self.cost()));
    }
}

impl<B: Body<Data = Bytes>> Reported<B> {
    /// Passes a body on.
    pub(crate) fn new(inner: B, reading: Reading, account: Account) -> Self {
        account.note(account.drawn());
        let (stall, has_begun, step) = (Stall::default(), false, Step::Pass);
        Self { inner: Box::pin(inner), reading, account, stall, has_begun, step }
    }

    /// Returns the next piece.
    pub(crate) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.stall.end();
        loop {
            match &mut self.step {
                Step::Pass => match ready!(self.inner.as_mut().poll_frame(context)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            let readers = &mut self.reading.readers;
                            readers.iter_mut().for_each(|reader| reader.read(&data));
                            self.stall.begin();
                            self.has_begun = true;
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                        Err(frame) => self.settle(frame.into_trailers().unwrap_or_default()),
                    },
                    Some(Err(error)) => {
                        self.step = Step::Rest;
                        behind(self.settle_broken());
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => self.settle(HeaderMap::new()),
                },
                Step::Settle(settling, trailers) => {
                    let receipt = ready!(settling.as_mut().poll(context));
                    let trailers = with_receipt(std::mem::take(trailers), receipt);
                    self.step = Step::Rest;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Step::Rest => return Poll::Ready(None),
            }
        }
    }

    /// Begins to settle, and ends then.
    fn settle(&mut self, mut trailers: HeaderMap) {
        let readers = &mut self.reading.readers;
        readers.iter_mut().for_each(|reader| reader.trailers(&trailers));
        strip(&mut trailers);
        let is_broken = !self.has_begun && has_failed(&trailers);
        let settling =
            if is_broken { self.settle_broken() } else { self.account.settle(self.cost()) };
        self.step = match settling {
            Some(settling) => Step::Settle(settling, trailers),
            None => Step::Rest,
        };
    }

    /// Tells whether nothing comes any more. There may be trailers, so only the end itself tells.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.step, Step::Rest) || self.length().exact() == Some(0)
    }

    /// Returns how much comes.
    pub(crate) fn length(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
