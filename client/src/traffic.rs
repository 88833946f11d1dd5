//! What is under way at a till, as far as it matters for what its answers have cost.

use farebox_channel::Msat;

use crate::purchase::Number;

/// The requests and answers that a channel pays for at the moment.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Answers that are charged while they pass, from the request on.
    running: u32,
    /// Such answers that have ended at a cost which is not known.
    unknown: u32,
    /// Their rows in the history, as far as they are known.
    left: Vec<Number>,
    /// Requests whose head has not come, those of running answers too.
    waiting: u32,
    /// What they cost together, as far as that is agreed to.
    agreed: Msat,
    /// What the gateway had charged when both records were last brought together, if what waited then
    /// was counted besides.
    pub(crate) charged: Option<Msat>,
    /// The greatest sum that a receipt has named since that was begun.
    pub(crate) named: Msat,
    /// How many requests were begun.
    begun: u64,
    /// What was signed for requests that got no answer. They may be charged yet.
    lost: Msat,
    /// By how much less requests at a price may have been charged than they are counted: an answer
    /// may break off, or report less than its price.
    slack: Msat,
    /// How often more was paid ahead.
    pub(crate) topped_up: u64,
    /// Whether the channel is about to close.
    pub(crate) is_closing: bool,
}

/// The count of requests by which it is known that none has begun since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calm(u64);

impl Traffic {
    /// Begins where nothing is under way. Of a channel of an earlier run it is not known what was
    /// charged, nor what answers have cost that ran by then.
    pub(crate) const fn new(is_resumed: bool, is_shared: bool) -> Self {
        let slack = if is_resumed { Msat::MAX } else { Msat::ZERO };
        let unknown = if is_shared { 1 } else { 0 };
        let (running, waiting, begun, topped_up, lost) = (0, 0, 0, 0, Msat::ZERO);
        let (agreed, charged, named) = (Msat::ZERO, None, Msat::ZERO);
        Self {
            running,
            unknown,
            left: Vec::new(),
            waiting,
            agreed,
            charged,
            named,
            begun,
            lost,
            slack,
            topped_up,
            is_closing: false,
        }
    }

    /// Notes that a request is sent at a price that is agreed to.
    pub(crate) fn begin(&mut self, price: Msat) {
        self.wait(price);
        self.slack = self.slack.checked_add(price).unwrap_or(Msat::MAX);
    }

    /// Notes that a request is sent whose answer will run.
    pub(crate) fn begin_running(&mut self, price: Msat) {
        self.wait(price);
        self.run();
    }

    /// Notes that the answer to a request runs.
    pub(crate) const fn run(&mut self) {
        self.running = self.running.saturating_add(1);
    }

    fn wait(&mut self, price: Msat) {
        self.agreed = self.agreed.checked_add(price).unwrap_or(Msat::MAX);
        self.waiting = self.waiting.saturating_add(1);
        self.begun = self.begun.saturating_add(1);
    }

    /// Notes that a request at a price was answered.
    pub(crate) fn answered(&mut self, price: Msat) {
        self.agreed = self.agreed.checked_sub(price).unwrap_or_default();
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Notes that a request got no answer. It may be charged yet.
    pub(crate) fn lose(&mut self, price: Msat) {
        self.answered(price);
        self.lost = self.lost.checked_add(price).unwrap_or(Msat::MAX);
    }

    /// Notes that an answer runs no more, and that it is known what it has cost.
    pub(crate) const fn end(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Notes that an answer runs no more, and that it is not known what it has cost.
    pub(crate) fn leave(&mut self, number: Option<Number>) {
        self.end();
        self.unknown = self.unknown.saturating_add(1);
        self.left.extend(number);
    }

    /// Notes that all is known that was charged so far. Returns the row of the one answer whose cost is
    /// known by that; of several, only the sum is.
    pub(crate) fn know(&mut self) -> Option<Number> {
        let left = std::mem::take(&mut self.left);
        let is_one = self.unknown == 1 && self.lost == Msat::ZERO;
        self.unknown = 0;
        self.slack = self.lost;
        left.first().copied().filter(|_| is_one && left.len() == 1)
    }

    /// Returns how many answers share the pool.
    pub(crate) const fn sharers(&self) -> u32 {
        self.running.saturating_add(self.unknown)
    }

    /// Tells whether no request waits for its answer, and no answer runs.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.waiting == 0 && self.running == 0
    }

    /// Returns a mark of this moment if nothing is under way, and it is not known what has run cost.
    pub(crate) fn calm(&self) -> Option<Calm> {
        let is_calm = self.is_quiet() && self.unknown > 0;
        is_calm.then_some(Calm(self.begun))
    }

    /// Returns what the requests that wait cost together.
    pub(crate) const fn agreed(&self) -> Msat {
        self.agreed
    }

    /// Returns what was signed for requests that got no answer.
    pub(crate) const fn lost(&self) -> Msat {
        self.lost
    }

    /// Returns by how much less other requests may have been charged than they are counted.
    pub(crate) const fn slack(&self) -> Msat {
        self.slack
    }
}
