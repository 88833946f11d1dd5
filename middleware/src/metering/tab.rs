//! What a running answer owes, has charged, and gives back.

use std::sync::Arc;
use std::time::Duration;

use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use tokio::time::Instant;

use super::account::Account;
use super::clock::StopClock;
use super::counter::Counter;
use super::pace::{Ask, Pace};
use super::purse::{Denied, Later};
use super::rates::{Counts, Rates};

/// The tab of an answer: what has passed, and what is charged for it.
pub(crate) struct Tab {
    pub(crate) counter: Counter,
    pub(crate) clock: StopClock,
    rates: Arc<Rates>,
    account: Account,
    pace: Pace,
}

impl Tab {
    /// Opens the tab of an answer, of which nothing has passed.
    pub(crate) fn new(counter: Counter, rates: Arc<Rates>, account: Account) -> Self {
        let tab = Self {
            counter,
            clock: StopClock::start(),
            pace: Pace::new(rates.draw, Instant::now()),
            rates,
            account,
        };
        tab.note();
        tab
    }

    /// Returns what the answer has cost. It is never more than what is charged.
    pub(crate) fn cost(&self) -> Msat {
        self.owed().min(self.drawn())
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
        self.account.drawn()
    }

    /// Returns what is left of the channel's credit, as far as is known.
    pub(crate) const fn credit(&self) -> Msat {
        self.account.credit()
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

    /// Notes what has passed by now.
    pub(crate) fn deliver(&mut self, counter: Counter) {
        self.counter = counter;
        self.note();
    }

    fn note(&self) {
        self.account.note(self.cost());
    }

    /// Begins to charge what is `owed`, and some more. Returns how much was asked for.
    pub(crate) fn draw(&mut self, owed: Msat) -> Option<(Later<Result<Receipt, Denied>>, Ask)> {
        let missing = owed.checked_sub(self.drawn()).unwrap_or_default();
        let ask = self.pace.ask(Instant::now(), self.cost(), missing, self.credit());
        Some((self.account.draw(ask.most)?, ask))
    }

    /// Notes what was charged of what was asked for.
    pub(crate) fn drew(&mut self, receipt: Receipt, ask: Ask) {
        self.pace.drew(receipt.price >= ask.most);
        self.account.drew(receipt);
        self.clock.go_on();
    }

    /// Notes that there is no credit. From now on time costs nothing.
    pub(crate) fn ran_dry(&mut self) {
        self.account.ran_dry();
        self.clock.stop();
    }

    /// Begins to give back what was not used. There is nothing to begin a second time.
    pub(crate) fn settle(&mut self) -> Option<Later<Option<Receipt>>> {
        self.clock.stop();
        self.account.settle(self.cost())
    }

    /// Gives back what was not used, once it is known what was charged last.
    pub(crate) fn settle_after(&mut self, drawing: Later<Result<Receipt, Denied>>) {
        self.clock.stop();
        self.account.settle_after(drawing, self.cost());
    }

    /// Begins to settle what the service has broken off: what was delivered is charged.
    pub(crate) fn settle_broken(&mut self) -> Option<Later<Option<Receipt>>> {
        self.clock.stop();
        let is_untouched = self.counter.counts() == Counts::default();
        self.account.settle_broken(self.cost(), is_untouched)
    }
}
