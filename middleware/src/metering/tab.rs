//! What a running answer owes, has charged, and gives back.

use std::sync::Arc;
use std::time::Duration;

use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use http::HeaderMap;
use tokio::time::Instant;

use super::bill::RunningBill;
use super::clock::StopClock;
use super::counter::Counter;
use super::purse::{Closing, Denied, Later, Purse};
use super::rates::{Counts, Rates};
use crate::ClientFault;
use crate::service::begin;

/// A draw is meant to last for so long. One that was used up sooner is followed by a greater one.
const DRAW_LASTS: Duration = Duration::from_millis(100);
/// What a draw grows by then.
const DRAW_GROWS: u64 = 2;
/// Draws that last longer than this are as small as at first again.
const DRAW_IDLES: Duration = Duration::from_millis(400);

/// The least that is drawn: one millisatoshi.
const LEAST: Msat = Msat::ONE;

/// What is forgiven when a service breaks its answer off before anything was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Forgiveness {
    /// Whether anything is.
    pub(crate) is_granted: bool,
    /// Set when it was the client's doing.
    pub(crate) fault: ClientFault,
}

/// The tab of an answer. When it is dropped, what was charged and not used is given back.
pub(crate) struct Tab {
    pub(crate) counter: Counter,
    pub(crate) clock: StopClock,
    rates: Arc<Rates>,
    /// Nothing once the answer is being settled.
    purse: Option<Box<dyn Purse>>,
    /// The receipt of the last charge. Its price is all that was charged.
    charged: Receipt,
    /// How much is drawn next, and when it was drawn last.
    draw: Msat,
    drawn_at: Instant,
    forgiveness: Forgiveness,
    bill: RunningBill,
}

impl Tab {
    /// Opens the tab of an answer with this head, of which so much is charged already.
    pub(crate) fn new(
        head: &HeaderMap,
        rates: Arc<Rates>,
        (purse, charged): (Box<dyn Purse>, Receipt),
        forgiveness: Forgiveness,
    ) -> Self {
        let tab = Self {
            counter: Counter::new(head),
            clock: StopClock::start(),
            draw: rates.draw,
            drawn_at: Instant::now(),
            rates,
            purse: Some(purse),
            charged,
            forgiveness,
            bill: RunningBill::default(),
        };
        tab.note();
        tab
    }

    /// Returns what tells the cost.
    pub(crate) fn bill(&self) -> RunningBill {
        self.bill.clone()
    }

    /// Returns what the answer has cost. It is never more than what is charged.
    pub(crate) fn cost(&self) -> Msat {
        self.owed().min(self.charged.price)
    }

    /// Returns what the answer would have cost, were all of it charged.
    pub(crate) fn owed(&self) -> Msat {
        self.owed_for(self.counter.counts())
    }

    /// Returns the same for so much.
    pub(crate) fn owed_for(&self, counts: Counts) -> Msat {
        self.rates.cost(counts, self.clock.elapsed())
    }

    /// Returns all that was charged.
    pub(crate) const fn drawn(&self) -> Msat {
        self.charged.price
    }

    /// Returns what is left of the channel's credit, as far as is known.
    pub(crate) const fn credit(&self) -> Msat {
        self.charged.credit
    }

    /// Returns how long an answer waits for credit.
    pub(crate) fn patience(&self) -> Duration {
        self.rates.patience
    }

    /// Returns for how long nothing more has to be charged, if nothing passes.
    pub(crate) fn lasts(&self) -> Option<Duration> {
        let rate = self.rates.millis?;
        let left = self.drawn().checked_sub(self.owed()).unwrap_or_default();
        let millis = left.get().saturating_mul(rate.units.get()).checked_div(rate.price.get())?;
        Some(Duration::from_millis(millis.saturating_add(1)))
    }

    /// Notes that a piece was delivered.
    pub(crate) fn deliver(&mut self, piece: &[u8]) {
        self.counter.pass(piece);
        self.note();
    }

    fn note(&self) {
        self.bill.set(self.cost());
    }

    /// Begins to charge what is `owed`, and some more. Returns how much was asked for.
    pub(crate) fn draw(&mut self, owed: Msat) -> Option<(Later<Result<Receipt, Denied>>, Msat)> {
        let purse = self.purse.as_ref()?;
        let lasted = self.drawn_at.elapsed();
        if lasted < DRAW_LASTS {
            let greater = self.draw.get().saturating_mul(DRAW_GROWS);
            self.draw = Msat::new(greater).unwrap_or(Msat::MAX);
        } else if lasted > DRAW_IDLES {
            self.draw = self.rates.draw;
        }
        self.drawn_at = Instant::now();
        let missing = owed.checked_sub(self.drawn()).unwrap_or_default();
        let most = missing.max(self.draw);
        Some((purse.draw(LEAST, most), most))
    }

    /// Notes what was charged.
    pub(crate) fn drew(&mut self, receipt: Receipt) {
        self.charged = together(self.charged, receipt);
        self.clock.go_on();
    }

    /// Notes that there is no credit. From now on time costs nothing.
    pub(crate) fn ran_dry(&mut self) {
        self.charged.credit = Msat::ZERO;
        self.clock.stop();
    }

    /// Begins to give back what was not used. There is nothing to begin a second time.
    pub(crate) fn settle(&mut self) -> Option<Later<Option<Receipt>>> {
        self.close(Closing::Costs(self.cost()))
    }

    /// Gives back what was not used, once it is known what was charged last.
    pub(crate) fn settle_after(&mut self, drawing: Later<Result<Receipt, Denied>>) {
        let (cost, charged) = (self.cost(), self.charged);
        self.bill.set(cost);
        let Some(purse) = self.purse.take() else { return };
        begin(async move {
            let charged = match drawing.await {
                Ok(receipt) => together(charged, receipt),
                Err(_) => charged,
            };
            let _receipt = purse.settle(charged, Closing::Costs(cost)).await;
        });
    }

    /// Settles what the service has broken off behind the answer's back.
    pub(crate) fn break_off(&mut self) {
        behind(self.settle_broken());
    }

    /// Begins to settle what the service has broken off: what was delivered is charged.
    pub(crate) fn settle_broken(&mut self) -> Option<Later<Option<Receipt>>> {
        let Forgiveness { is_granted, ref fault } = self.forgiveness;
        let is_void = is_granted && !fault.is_set() && self.counter.counts() == Counts::default();
        self.close(if is_void { Closing::Void } else { Closing::Costs(self.cost()) })
    }

    fn close(&mut self, closing: Closing) -> Option<Later<Option<Receipt>>> {
        self.clock.stop();
        self.bill.set(closing.cost());
        Some(self.purse.take()?.settle(self.charged, closing))
    }
}

/// Returns the receipt of two charges.
fn together(first: Receipt, second: Receipt) -> Receipt {
    let price = first.price.checked_add(second.price).unwrap_or(Msat::MAX);
    Receipt { price, ..second }
}

impl Drop for Tab {
    /// The client has left, or has all that was announced.
    fn drop(&mut self) {
        behind(self.settle());
    }
}

/// Lets something end by itself.
pub(super) fn behind(settling: Option<Later<Option<Receipt>>>) {
    if let Some(settling) = settling {
        begin(async move {
            let _receipt = settling.await;
        });
    }
}
