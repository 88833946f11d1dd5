//! What a running answer is paid from.

use std::future::Future;
use std::pin::Pin;

use farebox_channel::Msat;
use farebox_channel::gateway::Refusal;
use farebox_channel::message::Receipt;
use farebox_ledger::{Credited, LedgerError, Paid};

use crate::begin::begun;
use crate::cashier::Cashier;
use crate::charged::Charged;
use crate::node::Node;
use crate::problem::{Problem, ProblemKind};

/// Something that is done some time from now.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why nothing was drawn.
pub(crate) enum Denied {
    /// There is too little credit, or none is given before the contract is confirmed. It may come.
    Poor(Credited, ProblemKind),
    /// The channel gives nothing any more.
    Refused(Problem),
}

/// How a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// It costs so much.
    Costs(Msat),
    /// It costs so much, and no answer has begun: so its name can be asked again.
    Unanswered(Msat),
    /// It was broken off before anything was delivered.
    Void,
}

impl Closing {
    /// Returns what the request costs.
    pub(crate) const fn cost(self) -> Msat {
        match self {
            Self::Costs(cost) | Self::Unanswered(cost) => cost,
            Self::Void => Msat::ZERO,
        }
    }
}

/// What a running answer is paid from: the credit of a channel.
pub(crate) trait Purse: Send {
    /// Notes that the answer begins, and returns the receipt for its head. Given is what is charged by
    /// then.
    fn answers(&self, charged: Receipt) -> Later<Result<Receipt, Problem>>;

    /// Charges more: `most`, or what there is, but no less than `least`.
    fn draw(&self, least: Msat, most: Msat) -> Later<Result<Receipt, Denied>>;

    /// Tells whether there is still something that could be taken back: not once the channel closes,
    /// because what is settled is signed already.
    fn takes_back(&self) -> bool;

    /// Takes back what the answer did not use. The receipt is that of the last charge, and its price
    /// all that was charged. Returns the receipt of the end, if that is on record.
    fn settle(self: Box<Self>, charged: Receipt, closing: Closing) -> Later<Option<Receipt>>;
}

/// The charge of a request that goes on.
pub(crate) struct Running<N> {
    pub(crate) cashier: Cashier<N>,
    pub(crate) charge: Charged,
}

impl<N: Node> Purse for Running<N> {
    fn answers(&self, charged: Receipt) -> Later<Result<Receipt, Problem>> {
        let (cashier, channel) = (self.cashier.clone(), self.charge.channel());
        let paid = Paid { receipt: charged, ..self.charge.paid() };
        Box::pin(async move { cashier.answered(channel, paid, None).await })
    }

    fn draw(&self, least: Msat, most: Msat) -> Later<Result<Receipt, Denied>> {
        let (cashier, channel) = (self.cashier.clone(), self.charge.channel());
        Box::pin(async move {
            // Whoever waits must not miss what comes between the refusal and the waiting.
            let credited = cashier.credited(channel);
            cashier.draw(channel, least, most).await.map_err(|error| match error {
                LedgerError::Refused(Refusal::Underpaid { .. }) => {
                    Denied::Poor(credited, ProblemKind::Underpaid)
                }
                LedgerError::Refused(Refusal::Pending) => {
                    Denied::Poor(credited, ProblemKind::ChannelPending)
                }
                error => Denied::Refused(error.into()),
            })
        })
    }

    fn takes_back(&self) -> bool {
        self.cashier.serves(self.charge.channel())
    }

    fn settle(self: Box<Self>, charged: Receipt, closing: Closing) -> Later<Option<Receipt>> {
        let Self { cashier, mut charge } = *self;
        charge.amount_to(charged);
        begun(async move {
            let settled = match closing {
                Closing::Costs(cost) => cashier.answer(&mut charge, Some(cost)).await,
                Closing::Unanswered(cost) => cashier.part(&charge, cost).await,
                Closing::Void => cashier.release(charge.channel(), charge.paid()).await,
            };
            if let Err(problem) = &settled {
                tracing::warn!(problem = %problem.detail, "a running charge was not settled");
            }
            settled.ok()
        })
    }
}
