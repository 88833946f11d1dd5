//! One account for all that passes of a request, both ways.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use farebox_ledger::Credited;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, timeout_at};

use super::account::Account;
use super::bill::RunningBill;
use super::counter::Counter;
use super::pace::Ask;
use super::purse::{Closing, Denied, Later};
use super::rates::{Counts, Rates};
use super::tab::{Funding, Party, Tab};
use crate::ClientFault;
use crate::begin::begin;
use crate::problem::{Problem, ProblemKind};

/// A tab that both ways of a request share. What is paid passes, and what is not waits until a task
/// of the meter's own has charged it. The lock is never held while something is waited for.
#[derive(Clone)]
pub(crate) struct Meter(pub(super) Arc<Mutex<Tab>>);

/// What a request without credit waits for.
struct Wait {
    credited: Credited,
    until: Instant,
    /// Why it ends where nothing is paid until then.
    reason: ProblemKind,
    /// Ends when nobody waits any more.
    is_over: oneshot::Receiver<()>,
}

/// Why nothing more passes.
#[derive(Clone, Debug)]
pub(crate) enum Halt {
    /// It is not paid any further.
    Unpaid(Problem),
    /// The request is over.
    Over,
}

/// How a request ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Its answer has come, or its client has left.
    Answered,
    /// The service has broken its answer off.
    Broken,
    /// There is no answer, and what has passed is charged.
    Unanswered,
    /// There is no answer, and nothing is charged, unless that may be the client's doing.
    Void,
}

/// What may be told of an account in the middle of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) cost: Msat,
    pub(crate) credit: Msat,
    pub(crate) is_low: bool,
    pub(crate) is_waiting: bool,
}

impl Meter {
    /// Opens the account of a request, of which nothing has passed.
    pub(crate) fn new(rates: Arc<Rates>, account: Account) -> Self {
        Self(Arc::new(Mutex::new(Tab::new(rates, account))))
    }

    /// Nobody panics with the lock in hand, so a poisoned one is still good.
    pub(super) fn lock(&self) -> MutexGuard<'_, Tab> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what tells the cost.
    pub(crate) fn bill(&self) -> RunningBill {
        self.lock().account.bill()
    }

    /// Returns where the account stands.
    pub(crate) fn standing(&self) -> Standing {
        let tab = self.lock();
        Standing {
            cost: tab.cost(),
            credit: tab.account.credit(),
            is_low: tab.is_low,
            is_waiting: matches!(tab.funding, Funding::Waiting { .. }),
        }
    }

    /// Returns the receipt of all that was charged.
    pub(crate) fn receipt(&self) -> Receipt {
        self.lock().account.receipt()
    }

    /// Returns for how long nothing more has to be charged, if nothing passes.
    pub(crate) fn lasts(&self) -> Option<Duration> {
        self.lock().lasts()
    }

    /// Notes that the client has broken its request off, so that what it has sent stays charged.
    pub(crate) fn is_clients_fault(&self) {
        self.lock().account.fault().set();
    }

    /// Notes whether the service waits for what the client sends.
    pub(crate) fn awaits_client(&self, does_wait: bool) {
        let mut tab = self.lock();
        if does_wait { tab.stall.begin() } else { tab.stall.end() }
    }

    /// Notes who says from now on whether it has.
    pub(crate) fn blame(&self, fault: ClientFault) {
        let mut tab = self.lock();
        if tab.account.fault().is_set() {
            fault.set();
        }
        tab.account.blame(fault);
    }

    /// Tells whether it has.
    pub(crate) fn has_client_broken_off(&self) -> bool {
        self.lock().account.fault().is_set()
    }

    /// Notes that the answer begins. From now on time counts.
    pub(crate) fn begin(&self) {
        self.lock().begin();
    }

    /// Tells whether the answer has begun.
    pub(crate) fn is_answered(&self) -> bool {
        self.lock().clock.has_begun()
    }

    /// Notes that the answer begins, also on record, and returns the receipt for its head.
    pub(crate) async fn answers(&self) -> Result<Receipt, Problem> {
        let (receipt, answering) = {
            let tab = self.lock();
            (tab.account.receipt(), tab.account.answers())
        };
        let receipt = match answering {
            Some(answering) => answering.await?,
            None => receipt,
        };
        self.begin();
        Ok(receipt)
    }

    /// Waits until what has passed by now is paid, and tells that more may be taken in from one side.
    pub(crate) fn poll_ready(&self, from: Party, context: &Context<'_>) -> Poll<Result<(), Halt>> {
        let mut tab = self.lock();
        if let Some(halt) = halted(&tab) {
            return Poll::Ready(Err(halt));
        }
        let passed = tab.passed(from);
        // It is woken also where it waits for its side only.
        tab.want(from, passed, context.waker());
        if tab.covers(from, passed) && !tab.is_paused() {
            return Poll::Ready(Ok(()));
        }
        self.fund(tab);
        Poll::Pending
    }

    /// Lets pass what comes next from one side, or as much of it as is paid. Returns how much.
    pub(crate) fn poll_pass(
        &self,
        (from, counter): (Party, &mut Counter),
        piece: &[u8],
        context: &Context<'_>,
    ) -> Poll<Result<usize, Halt>> {
        let mut tab = self.lock();
        if tab.is_over {
            return Poll::Ready(Err(Halt::Over));
        }
        let whole = counter.after(piece);
        let drawn = tab.account.drawn();
        let fits = if tab.covers(from, whole.counts()) {
            piece.len()
        } else if tab.account.credit() == Msat::ZERO {
            counter.affordable(piece, drawn, |counts| tab.owed_for(from, counts))
        } else {
            0
        };
        if let Some(part) = piece.get(..fits).filter(|part| !part.is_empty()) {
            *counter = if fits == piece.len() { whole } else { counter.after(part) };
            tab.deliver(from, counter.counts());
            return Poll::Ready(Ok(fits));
        }
        if let Some(halt) = halted(&tab) {
            return Poll::Ready(Err(halt));
        }
        tab.want(from, whole.counts(), context.waker());
        self.fund(tab);
        Poll::Pending
    }

    /// Notes that so much has passed from one side by now.
    pub(crate) fn deliver(&self, from: Party, counts: Counts) {
        self.lock().deliver(from, counts);
    }

    /// Lets so much more pass from one side, whole or not at all.
    pub(crate) fn poll_load(
        &self,
        from: Party,
        load: Counts,
        context: &Context<'_>,
    ) -> Poll<Result<(), Halt>> {
        let mut tab = self.lock();
        if let Some(halt) = halted(&tab) {
            return Poll::Ready(Err(halt));
        }
        let counts = tab.passed(from).and(load);
        if tab.covers(from, counts) && !tab.is_paused() {
            tab.deliver(from, counts);
            return Poll::Ready(Ok(()));
        }
        tab.want(from, counts, context.waker());
        self.fund(tab);
        Poll::Pending
    }

    /// Notes that what waits from one side is not to pass any more. Where nothing else is wanted,
    /// nothing is waited for.
    pub(crate) fn forgo(&self, from: Party) {
        let mut tab = self.lock();
        tab.forgo(from);
        if matches!(tab.funding, Funding::Waiting { .. }) && !tab.is_over && !tab.is_wanting() {
            tab.resume();
            tab.wake();
        }
    }

    /// Notes that so much has not passed from one side that was charged.
    pub(crate) fn take_back(&self, from: Party, load: Counts) {
        self.lock().take_back(from, load);
    }

    /// Charges the time that has passed, and waits until nothing more is paid.
    pub(crate) fn poll_time(&self, context: &Context<'_>) -> Poll<Halt> {
        let mut tab = self.lock();
        if let Some(halt) = halted(&tab) {
            return Poll::Ready(halt);
        }
        tab.watch(context.waker());
        if !tab.covers(Party::Service, tab.passed(Party::Service)) {
            self.fund(tab);
        }
        Poll::Pending
    }

    /// Tells whether nothing more is taken in: there is no credit, or nothing more passes.
    pub(crate) fn is_unpaid(&self) -> bool {
        let tab = self.lock();
        tab.is_over || matches!(tab.funding, Funding::Waiting { .. } | Funding::Stopped(_))
    }

    /// Waits until nothing more is paid, and tells why. It is woken in the place of the service.
    pub(crate) fn poll_stopped(&self, context: &Context<'_>) -> Poll<Problem> {
        let mut tab = self.lock();
        if let Some(Halt::Unpaid(problem)) = halted(&tab) {
            return Poll::Ready(problem);
        }
        tab.watch_from(Party::Service, context.waker());
        Poll::Pending
    }

    /// Lets nothing more pass, whatever is paid.
    pub(super) fn stop(&self, problem: Problem) {
        let mut tab = self.lock();
        tab.stopped = Some(problem);
        tab.wake();
    }

    /// Begins to charge what is wanted, unless that is under way.
    fn fund(&self, mut tab: MutexGuard<'_, Tab>) {
        if matches!(tab.funding, Funding::Idle)
            && let Some(drawing) = tab.draw()
        {
            // Its work takes the lock.
            drop(tab);
            begin(self.clone().funding(drawing));
        }
    }

    /// Charges what is wanted, and waits for credit as long as that may be.
    async fn funding(self, mut drawing: (Later<Result<Receipt, Denied>>, Ask)) {
        loop {
            let (draw, ask) = drawing;
            let drew = draw.await;
            let Some(wait) = self.drew(drew, ask) else { return };
            let Wait { mut credited, until, reason, mut is_over } = wait;
            let waited = tokio::select! {
                biased;
                _ = &mut is_over => return,
                waited = timeout_at(until, credited.again()) => waited,
            };
            let mut tab = self.lock();
            // It may be so since, and somebody else draws by now.
            if is_over.try_recv() != Err(TryRecvError::Empty) {
                return;
            }
            if waited.is_err() {
                let detail = "nothing more could be charged, and the time to wait is over";
                tab.stop(Problem::new(reason, detail));
            }
            let next = if waited.is_ok() { tab.draw() } else { None };
            tab.wake();
            let Some(next) = next else { return };
            drawing = next;
        }
    }

    /// Notes what came of a draw. Where there is no credit, returns what to wait for, until when, and
    /// why.
    fn drew(&self, drew: Result<Receipt, Denied>, ask: Ask) -> Option<Wait> {
        let mut tab = self.lock();
        let mut waiting = None;
        match drew {
            Ok(receipt) => tab.drew(receipt, ask),
            Err(Denied::Poor(credited, reason)) => {
                let (until, is_over) = tab.ran_dry();
                waiting = Some(Wait { credited, until, reason, is_over });
            }
            Err(Denied::Refused(problem)) => tab.stop(problem),
        }
        tab.wake();
        let Some((closing, tell)) = tab.ending.take() else { return waiting };
        let settling = tab.account.close(closing);
        drop(tab);
        begin(async move {
            let receipt = match settling {
                Some(settling) => settling.await,
                None => None,
            };
            // Who does not wait for it has no need to know.
            let _told = tell.send(receipt);
        });
        None
    }

    /// Ends the request, and begins to give back what was not used. There is nothing to begin a second
    /// time.
    pub(crate) fn end(&self, end: End) -> Option<Later<Option<Receipt>>> {
        let mut tab = self.lock();
        if std::mem::replace(&mut tab.is_over, true) {
            return None;
        }
        tab.clock.stop();
        let cost = tab.cost();
        let sides = [Party::Client, Party::Service];
        let is_untouched = sides.iter().all(|side| tab.passed(*side) == Counts::default());
        // The gateway has let nothing pass, and stops.
        let is_cut_off = tab.stopped.is_some() && is_untouched;
        let closing = match end {
            End::Answered if is_cut_off => tab.account.broken(cost, true),
            End::Answered => Closing::Costs(cost),
            End::Broken => tab.account.broken(cost, is_untouched),
            End::Unanswered if is_cut_off => Closing::Void,
            End::Unanswered => Closing::Unanswered(cost),
            End::Void if tab.has_client_failed() => Closing::Unanswered(cost),
            End::Void => Closing::Void,
        };
        tab.wake();
        if !matches!(tab.funding, Funding::Drawing) {
            if matches!(tab.funding, Funding::Waiting { .. }) {
                tab.funding = Funding::Idle;
            }
            return tab.account.close(closing);
        }
        // What is being charged is as good as charged.
        tab.account.ends(closing);
        let (tell, told) = oneshot::channel();
        tab.ending = Some((closing, tell));
        Some(Box::pin(async move { told.await.ok().flatten() }))
    }
}

/// Tells why nothing more passes, if that is so.
fn halted(tab: &Tab) -> Option<Halt> {
    match &tab.funding {
        _ if tab.is_over => Some(Halt::Over),
        Funding::Stopped(problem) => Some(Halt::Unpaid(problem.clone())),
        Funding::Idle | Funding::Drawing | Funding::Waiting { .. } => {
            tab.stopped.clone().map(Halt::Unpaid)
        }
    }
}
