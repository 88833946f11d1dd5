//! What a request owes, has charged, and gives back.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::account::Account;
use super::clock::StopClock;
use super::pace::{Ask, Pace};
use super::purse::{Closing, Denied, Later};
use super::rates::{Counts, Rates};
use crate::problem::Problem;
use crate::stall::Stall;

/// Who sends what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Who has asked, and pays.
    Client,
    /// Who answers.
    Service,
}

/// The tab of a request: what has passed both ways, and what is charged for it.
pub(super) struct Tab {
    rates: Arc<Rates>,
    pub(super) account: Account,
    pub(super) clock: StopClock,
    pub(super) pace: Pace,
    pub(super) funding: Funding,
    /// Until when it waits for credit, while it does. Less than what lets it go on buys no time.
    until: Option<Instant>,
    /// Whether less credit is left than is drawn at a time.
    pub(super) is_low: bool,
    client: Flow,
    service: Flow,
    /// Who is woken besides, where time is charged while nothing passes.
    watcher: Option<Waker>,
    /// How it ends once the draw is made that is under way, and who is to be told.
    pub(super) ending: Option<(Closing, oneshot::Sender<Option<Receipt>>)>,
    /// Why nothing more passes, whatever is paid.
    pub(super) stopped: Option<Problem>,
    /// Whether nothing passes any more.
    pub(super) is_over: bool,
    /// Whether what waits of the upload waits on then, for the end of an answer that is still coming.
    pub(super) is_kept: bool,
    /// Whether it has ever paused for want of credit.
    pub(super) has_paused: bool,
    /// How long the service waits for what the client sends.
    pub(super) stall: Stall,
}

/// Where the next charge is to come from.
pub(super) enum Funding {
    /// Nobody needs one.
    Idle,
    /// It is being made.
    Drawing,
    /// From a payment that has not come. Who waits for it waits no longer than this value lives.
    Waiting { _open: oneshot::Sender<()> },
    /// There is none any more.
    Stopped(Problem),
}

/// One of both ways.
#[derive(Default)]
struct Flow {
    passed: Counts,
    /// What will have passed with what has come and waits.
    wanted: Counts,
    waker: Option<Waker>,
}

impl Tab {
    /// Opens the tab of a request, of which nothing has passed.
    pub(super) fn new(rates: Arc<Rates>, account: Account) -> Self {
        let tab = Self {
            account,
            clock: StopClock::default(),
            pace: Pace::new(rates.draw, Instant::now()),
            rates,
            funding: Funding::Idle,
            until: None,
            is_low: false,
            client: Flow::default(),
            service: Flow::default(),
            watcher: None,
            ending: None,
            stopped: None,
            is_over: false,
            is_kept: false,
            has_paused: false,
            stall: Stall::default(),
        };
        tab.note();
        tab
    }

    fn flow(&mut self, from: Party) -> &mut Flow {
        match from {
            Party::Client => &mut self.client,
            Party::Service => &mut self.service,
        }
    }

    /// Returns what has passed one way.
    pub(super) const fn passed(&self, from: Party) -> Counts {
        match from {
            Party::Client => self.client.passed,
            Party::Service => self.service.passed,
        }
    }

    /// Returns what the request has cost. It is never more than what is charged.
    pub(super) fn cost(&self) -> Msat {
        self.owed().min(self.account.drawn())
    }

    /// Returns what the request would have cost, were all of it charged.
    fn owed(&self) -> Msat {
        self.rates.cost(self.client.passed, self.service.passed, self.clock.elapsed())
    }

    /// Returns the same once so much has passed one way.
    pub(super) fn owed_for(&self, from: Party, counts: Counts) -> Msat {
        let (client, service) = match from {
            Party::Client => (counts, self.service.passed),
            Party::Service => (self.client.passed, counts),
        };
        self.rates.cost(client, service, self.clock.elapsed())
    }

    /// Tells whether it is paid that so much passes one way.
    pub(super) fn covers(&self, from: Party, counts: Counts) -> bool {
        self.owed_for(from, counts) <= self.account.drawn()
    }

    /// Tells whether nothing is taken in: for want of credit, where time costs something that is not
    /// charged meanwhile.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.funding, Funding::Waiting { .. }) && self.rates.millis.is_some()
    }

    /// Returns for how long nothing more has to be charged, if nothing passes.
    pub(super) fn lasts(&self) -> Option<Duration> {
        let rate = self.rates.millis?;
        let left = self.account.drawn().checked_sub(self.owed()).unwrap_or_default();
        let millis = left.get().saturating_mul(rate.units.get()).checked_div(rate.price.get())?;
        Some(Duration::from_millis(millis.saturating_add(1)))
    }

    /// Notes what has passed one way by now.
    pub(super) fn deliver(&mut self, from: Party, counts: Counts) {
        if self.owed_for(from, counts) > self.owed() {
            self.until = None;
        }
        let flow = self.flow(from);
        (flow.passed, flow.wanted) = (counts, counts);
        self.note();
    }

    fn note(&self) {
        self.account.note(self.cost());
    }

    /// Notes what is to pass next one way, and who is woken when there is news.
    pub(super) fn want(&mut self, from: Party, counts: Counts, waker: &Waker) {
        let flow = self.flow(from);
        flow.wanted = counts;
        flow.waker.get_or_insert_with(|| waker.clone()).clone_from(waker);
    }

    /// Has one side woken when there is news.
    pub(super) fn watch_from(&mut self, from: Party, waker: &Waker) {
        let passed = self.passed(from);
        self.want(from, passed, waker);
    }

    /// Notes who else is woken when there is news.
    pub(super) fn watch(&mut self, waker: &Waker) {
        self.watcher.get_or_insert_with(|| waker.clone()).clone_from(waker);
    }

    /// Wakes all who wait.
    pub(super) fn wake(&mut self) {
        [&mut self.client.waker, &mut self.service.waker, &mut self.watcher]
            .into_iter()
            .filter_map(Option::take)
            .for_each(Waker::wake);
    }

    /// Notes that so much has not passed one way that was charged.
    pub(super) fn take_back(&mut self, from: Party, load: Counts) {
        let flow = self.flow(from);
        flow.passed = flow.passed.without(load);
        flow.wanted = flow.passed;
        self.note();
    }

    /// Returns what all costs that has passed or waits.
    fn wanted(&self) -> Msat {
        self.rates.cost(self.client.wanted, self.service.wanted, self.clock.elapsed())
    }

    /// Notes that what waits one way is not to pass any more.
    pub(super) fn forgo(&mut self, from: Party) {
        let flow = self.flow(from);
        flow.wanted = flow.passed;
    }

    /// Tells whether more is wanted than is charged.
    pub(super) fn is_wanting(&self) -> bool {
        self.wanted() > self.account.drawn()
    }

    /// Goes on where nothing more is wanted.
    pub(super) fn resume(&mut self) {
        self.funding = Funding::Idle;
        self.until = None;
        self.clock.go_on();
    }

    /// Notes that the answer begins, from where on time counts, but not in a pause.
    pub(super) fn begin(&mut self) {
        self.clock.begin();
        if matches!(self.funding, Funding::Waiting { .. } | Funding::Stopped(_)) {
            self.clock.stop();
        }
    }

    /// Tells whether the client may have brought it about that the service fails: by breaking off, or by
    /// keeping it waiting, for credit or for what it sends.
    pub(super) fn has_client_failed(&self) -> bool {
        self.account.fault().is_set() || self.has_paused || self.stall.is_long()
    }

    /// Begins to charge what is wanted, and some more. There is nothing to begin where all is paid.
    pub(super) fn draw(&mut self) -> Option<(Later<Result<Receipt, Denied>>, Ask)> {
        let missing = self.wanted().checked_sub(self.account.drawn());
        let drawing = missing.filter(|missing| *missing > Msat::ZERO).and_then(|missing| {
            let credit = self.account.credit();
            let ask = self.pace.ask(Instant::now(), self.cost(), missing, credit);
            Some((self.account.draw(ask.most)?, ask))
        });
        self.funding = if drawing.is_some() { Funding::Drawing } else { Funding::Idle };
        if drawing.is_none() {
            self.resume();
        }
        drawing
    }

    /// Notes what was charged of what was asked for.
    pub(super) fn drew(&mut self, receipt: Receipt, ask: Ask) {
        self.pace.drew(receipt.price >= ask.most);
        self.is_low = receipt.credit < ask.wished;
        self.account.drew(receipt);
        if !self.is_wanting() {
            self.until = None;
        }
        self.clock.go_on();
        self.funding = Funding::Idle;
    }

    /// Notes that there is no credit, and returns until when to wait for it, and what tells that nobody
    /// waits any more. From now on time costs nothing.
    pub(super) fn ran_dry(&mut self) -> (Instant, oneshot::Receiver<()>) {
        self.account.ran_dry();
        self.clock.stop();
        self.has_paused = true;
        let (_open, is_over) = oneshot::channel();
        self.funding = Funding::Waiting { _open };
        let until = self.until.get_or_insert_with(|| Instant::now() + self.rates.patience);
        (*until, is_over)
    }

    /// Notes that nothing more is charged.
    pub(super) fn stop(&mut self, problem: Problem) {
        self.account.ran_dry();
        self.clock.stop();
        self.funding = Funding::Stopped(problem);
    }
}
