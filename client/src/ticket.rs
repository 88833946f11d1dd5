//! A request that is paid for, until it is known what it costs.

use std::sync::Arc;

use farebox_channel::Msat;
use farebox_channel::client::{Ahead, Purse};
use farebox_channel::message::{PayRequest, Receipt};

use crate::budget::as_far_as_budgets_go;
use crate::error::PayError;
use crate::policy::Allowance;
use crate::purchase::{Asked, Line, Number};
use crate::till::Till;
use crate::traffic::Traffic;

/// A request that is paid for. When it is dropped before it is known what it costs, all that it may
/// cost stays counted.
#[derive(Debug)]
pub(crate) struct Ticket {
    till: Arc<Till>,
    price: Msat,
    /// Its row in the history.
    number: Option<Number>,
    phase: Phase,
    /// How often both records had been brought together when it was signed.
    signed_at: u32,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its head has not come, and it costs its price.
    Waiting,
    /// Its head has not come, and its answer is to run.
    WaitingToRun,
    /// Its answer runs.
    Running,
    /// It is known what it costs, or that nobody knows.
    Over,
}

impl Ticket {
    /// Signs for a request that costs `price` in the end, and saves it. Where it signs, it signs for
    /// so much `credit` more, as far as the budgets go.
    pub(crate) fn at_price(
        till: &Arc<Till>,
        price: Msat,
        credit: Msat,
        asked: &Asked,
    ) -> Result<(Self, PayRequest), PayError> {
        let sign = |credit| {
            till.sign(
                Some((asked, price)),
                |purse, record, _| {
                    let (next, payment) = purse.pay_with_credit(price, credit, &record.key)?;
                    Ok((next, (payment, till.turns())))
                },
                |traffic| traffic.begin(price),
            )
        };
        let ((payment, signed_at), number) = as_far_as_budgets_go(credit, sign)?;
        let till = Arc::clone(till);
        Ok((Self { till, price, number, phase: Phase::Waiting, signed_at }, payment))
    }

    /// Signs for a request whose answer runs, and for some of that ahead, and saves it.
    pub(crate) fn running(
        till: &Arc<Till>,
        price: Msat,
        allowance: Allowance,
        asked: &Asked,
    ) -> Result<(Self, PayRequest), PayError> {
        let sign = |wished| {
            till.sign(
                Some((asked, price)),
                |purse, record, traffic| {
                    let pool_max = allowance.pool_max(traffic.sharers().saturating_add(1));
                    let ahead = Ahead { wished, pool_max };
                    let (next, payment) = purse.begin(price, ahead, &record.key)?;
                    Ok((next, (payment, till.turns())))
                },
                |traffic| traffic.begin_running(price),
            )
        };
        let ((payment, signed_at), number) = as_far_as_budgets_go(allowance.ahead, sign)?;
        let till = Arc::clone(till);
        Ok((Self { till, price, number, phase: Phase::WaitingToRun, signed_at }, payment))
    }

    /// Returns the till.
    pub(crate) const fn till(&self) -> &Arc<Till> {
        &self.till
    }

    /// Returns the price that was agreed to.
    pub(crate) const fn price(&self) -> Msat {
        self.price
    }

    /// Returns how often both records had been brought together when it was signed.
    pub(crate) const fn signed_at(&self) -> u32 {
        self.signed_at
    }

    /// Tells whether both records were brought together since it was signed.
    fn is_older(&self) -> bool {
        self.till.turns() != self.signed_at
    }

    /// Tells whether the answer is to run, and has not begun.
    pub(crate) fn is_to_run(&self) -> bool {
        self.phase == Phase::WaitingToRun
    }

    /// Tells whether the answer runs.
    pub(crate) fn runs(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Takes the receipt in the head of the answer.
    pub(crate) fn receive(&mut self, receipt: &Receipt) -> Result<(), PayError> {
        let price = self.price;
        match (self.phase, receipt.is_running) {
            (Phase::Waiting, false) => {
                self.phase = Phase::Over;
                // It has cost no more than was agreed to, whatever a receipt says.
                let line = self.paid(receipt.price.min(price));
                let note = |traffic: &mut Traffic| {
                    traffic.answered(price);
                    traffic.named = traffic.named.max(receipt.spent);
                };
                self.till.book(line, note, |purse, traffic| {
                    let next = purse.receive(receipt, price)?;
                    // It is in the sum that the gateway named when both records were brought together.
                    let is_in = |charged| receipt.spent <= charged && self.is_older();
                    let is_counted_twice = traffic.charged.is_some_and(is_in);
                    Ok(if is_counted_twice { next.take_back(receipt.price) } else { next })
                })
            }
            (Phase::Waiting, true) => {
                self.phase = Phase::Running;
                let note = |traffic: &mut Traffic| {
                    traffic.answered(price);
                    traffic.run();
                };
                self.till.book(None, note, |purse, traffic| {
                    head(&purse.adopt(price), receipt, traffic.slack())
                })
            }
            (Phase::WaitingToRun, _) => {
                self.phase = Phase::Running;
                self.till.book(
                    None,
                    |traffic| traffic.answered(price),
                    |purse, traffic| head(purse, receipt, traffic.slack()),
                )?;
                // There was nothing in it to be counted.
                if receipt.is_running { Ok(()) } else { self.end(receipt) }
            }
            (Phase::Running | Phase::Over, _) => Ok(()),
        }
    }

    /// Takes the receipt of the end.
    pub(crate) fn end(&mut self, receipt: &Receipt) -> Result<(), PayError> {
        if self.phase != Phase::Running {
            return Ok(());
        }
        let line = self.paid(receipt.price);
        self.till.book(line, |_| {}, |purse, traffic| Ok(purse.end(receipt, traffic.slack())?))?;
        self.phase = Phase::Over;
        self.till.book(None, |traffic| traffic.end(), |purse, _| Ok(purse.clone()))
    }

    /// Notes what it has cost, where the account takes that in another way.
    pub(crate) fn note(&self, cost: Msat) -> Result<(), PayError> {
        self.till.write(self.paid(cost))
    }

    fn paid(&self, cost: Msat) -> Option<Line> {
        self.number.map(|number| Line::Paid(number, cost))
    }

    /// Notes that the answer runs no more, and that it is not known what it has cost.
    pub(crate) fn leave(&mut self) {
        if self.runs() {
            self.phase = Phase::Over;
            self.till.traffic().leave(self.number);
        }
    }

    /// Notes that the request was refused before it was charged.
    pub(crate) fn refused(&mut self) -> Result<(), PayError> {
        let (phase, price) = (std::mem::replace(&mut self.phase, Phase::Over), self.price);
        // What was signed before both records were brought together counts as spent since, where it was
        // not counted besides. That is looked at while the account is locked: it may be done at this
        // moment.
        let line = self.number.map(Line::Refused);
        match phase {
            Phase::Waiting => self.till.book(
                line,
                |traffic| traffic.answered(price),
                |purse, traffic| {
                    let is_besides = traffic.charged.is_some() || traffic.sharers() > 0;
                    let is_kept = self.is_older() && !is_besides;
                    Ok(if is_kept { purse.clone() } else { purse.take_back(price) })
                },
            ),
            Phase::WaitingToRun => self.till.book(
                line,
                |traffic| {
                    traffic.answered(price);
                    match self.is_older() {
                        true => traffic.leave(None),
                        false => traffic.end(),
                    }
                },
                |purse, _| Ok(purse.clone()),
            ),
            Phase::Running | Phase::Over => Ok(()),
        }
    }

    /// Notes that the request was answered by somebody who does not say what it has cost.
    pub(crate) fn answered(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Waiting => self.till.traffic().answered(self.price),
            Phase::WaitingToRun => {
                let mut traffic = self.till.traffic();
                traffic.answered(self.price);
                traffic.leave(self.number);
            }
            Phase::Running | Phase::Over => {}
        }
    }
}

impl Drop for Ticket {
    /// Nobody waits for what comes.
    fn drop(&mut self) {
        let mut traffic = self.till.traffic();
        match self.phase {
            Phase::Waiting => traffic.lose(self.price),
            Phase::WaitingToRun => {
                traffic.lose(self.price);
                traffic.leave(None);
            }
            Phase::Running => traffic.leave(self.number),
            Phase::Over => {}
        }
    }
}

/// Checks the receipt in the head of an answer that runs. What was uploaded by then may have cost more
/// than the price, and no more than an end may.
fn head(purse: &Purse, receipt: &Receipt, slack: Msat) -> Result<Purse, PayError> {
    let _at_most = purse.end(receipt, slack)?;
    Ok(purse.clone())
}
