//! What an answer is charged while it passes, and what is given back at its end.

use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use http::Response;

use super::bill::RunningBill;
use super::purse::{Closing, Denied, Later, Purse};
use crate::ClientFault;
use crate::begin::begin;
use crate::problem::Problem;

/// What is forgiven when a service breaks its answer off.
#[derive(Clone, Debug)]
pub(crate) struct Forgiveness {
    /// Whether anything is.
    pub(crate) is_granted: bool,
    /// Set when it was the client's doing.
    pub(crate) fault: ClientFault,
    /// Whether the client has set a deadline, at which the service may break off.
    pub(crate) has_deadline: bool,
}

impl Forgiveness {
    /// Returns the same with who is to blame, as an answer says.
    pub(crate) fn of_answer<B>(self, answer: &mut Response<B>) -> Self {
        let fault = answer.extensions_mut().remove::<ClientFault>().unwrap_or_default();
        Self { fault, ..self }
    }

    /// Tells whether an answer is forgiven that breaks off now: not where that may be the client's doing.
    /// Once the client has got something of it, its own deadline may be the reason. Otherwise it could
    /// choose one, read on beyond it, and have all that comes by then for nothing.
    pub(crate) fn covers(&self, has_begun: bool) -> bool {
        self.is_granted && !self.fault.is_set() && !(has_begun && self.has_deadline)
    }
}

/// The charge of an answer that has begun. It is settled once.
pub(crate) struct Account {
    /// Nothing once the answer is being settled.
    purse: Option<Box<dyn Purse>>,
    /// The receipt of the last charge. Its price is all that was charged.
    charged: Receipt,
    forgiveness: Forgiveness,
    bill: RunningBill,
    /// Whether the receipt of the end is for the client.
    is_told: bool,
}

impl Account {
    /// Begins with what is charged already.
    pub(crate) fn new(
        (purse, charged): (Box<dyn Purse>, Receipt),
        forgiveness: Forgiveness,
    ) -> Self {
        Self {
            purse: Some(purse),
            charged,
            forgiveness,
            bill: RunningBill::default(),
            is_told: true,
        }
    }

    /// Tells the client nothing of the end.
    pub(super) const fn untold(mut self) -> Self {
        self.is_told = false;
        self
    }

    /// Returns what tells the cost.
    pub(crate) fn bill(&self) -> RunningBill {
        self.bill.clone()
    }

    /// Notes what the answer has cost so far.
    pub(crate) fn note(&self, cost: Msat) {
        self.bill.set(cost);
    }

    /// Returns all that was charged.
    pub(crate) const fn drawn(&self) -> Msat {
        self.charged.price
    }

    /// Returns what is left of the channel's credit, as far as is known.
    pub(crate) const fn credit(&self) -> Msat {
        self.charged.credit
    }

    /// Notes that the answer begins, and returns the receipt for its head.
    pub(crate) fn answers(&self) -> Option<Later<Result<Receipt, Problem>>> {
        Some(self.purse.as_ref()?.answers(self.charged))
    }

    /// Returns the receipt of all that was charged.
    pub(crate) const fn receipt(&self) -> Receipt {
        self.charged
    }

    /// Returns what notes that the client has broken its request off.
    pub(crate) const fn fault(&self) -> &ClientFault {
        &self.forgiveness.fault
    }

    /// Replaces it.
    pub(crate) fn blame(&mut self, fault: ClientFault) {
        self.forgiveness.fault = fault;
    }

    /// Begins to charge `most`, or what there is.
    pub(crate) fn draw(&self, most: Msat) -> Option<Later<Result<Receipt, Denied>>> {
        Some(self.purse.as_ref()?.draw(Msat::ONE, most))
    }

    /// Notes what was charged besides.
    pub(crate) fn drew(&mut self, receipt: Receipt) {
        self.charged = together(self.charged, receipt);
    }

    /// Notes that there is no credit.
    pub(crate) const fn ran_dry(&mut self) {
        self.charged.credit = Msat::ZERO;
    }

    /// Begins to give back what an answer of this cost has not used. There is nothing to begin a
    /// second time.
    pub(crate) fn settle(&mut self, cost: Msat) -> Option<Later<Option<Receipt>>> {
        self.close(Closing::Costs(cost))
    }

    /// The same where the service has broken the answer off. It is void where it `may_be_void`, and
    /// that is not the client's doing.
    pub(crate) fn settle_broken(
        &mut self,
        cost: Msat,
        may_be_void: bool,
    ) -> Option<Later<Option<Receipt>>> {
        self.close(self.broken(cost, may_be_void))
    }

    /// Tells whether an answer is forgiven that breaks off now.
    pub(crate) fn forgives(&self, has_begun: bool) -> bool {
        self.forgiveness.covers(has_begun)
    }

    /// Returns how a request ends whose answer the service has broken off.
    pub(crate) fn broken(&self, cost: Msat, may_be_void: bool) -> Closing {
        if may_be_void && self.forgives(false) { Closing::Void } else { Closing::Costs(cost) }
    }

    /// Notes that the request is over, and what it costs.
    pub(crate) fn ends(&self, closing: Closing) {
        if let Some(purse) = &self.purse {
            // What is not taken back stays charged.
            self.bill.set(if purse.takes_back() { closing.cost() } else { self.drawn() });
        }
    }

    /// Begins to take back what was not used. There is nothing to begin a second time.
    pub(crate) fn close(&mut self, closing: Closing) -> Option<Later<Option<Receipt>>> {
        self.ends(closing);
        let purse = self.purse.take()?;
        let (charged, bill, is_told) = (self.charged.price, self.bill.clone(), self.is_told);
        let settling = purse.settle(self.charged, closing);
        Some(Box::pin(async move {
            let receipt = settling.await;
            bill.set(receipt.map_or(charged, |receipt| receipt.price));
            receipt.filter(|_| is_told)
        }))
    }
}

/// Returns the receipt of two charges.
fn together(first: Receipt, second: Receipt) -> Receipt {
    let price = first.price.checked_add(second.price).unwrap_or(Msat::MAX);
    Receipt { price, ..second }
}

/// Lets a settlement end by itself.
pub(crate) fn behind(settling: Option<Later<Option<Receipt>>>) {
    if let Some(settling) = settling {
        begin(async move {
            let _receipt = settling.await;
        });
    }
}
