//! Charged requests that were passed on and have no answer yet.

use std::future::Future;
use std::mem;

use crate::begin::begin;
use crate::cashier::Cashier;
use crate::charged::Charged;
use crate::node::Node;

/// A charge whose request waits for its answer. A client that leaves meanwhile stays charged. Where the
/// gateway stops and cuts it off, the charge is taken back, but not that of a name: it buys the answer
/// once more.
pub(crate) struct Unanswered<'c, N: Node> {
    cashier: &'c Cashier<N>,
    charge: &'c Charged,
}

impl<'c, N: Node> Unanswered<'c, N> {
    /// Keeps an eye on a charge.
    pub(crate) const fn new(cashier: &'c Cashier<N>, charge: &'c Charged) -> Self {
        Self { cashier, charge }
    }

    /// Waits until there is an answer, or until it is known that there will be none.
    pub(crate) async fn until<T>(self, answered: impl Future<Output = T>) -> T {
        let answered = answered.await;
        mem::forget(self);
        answered
    }
}

impl<N: Node> Drop for Unanswered<'_, N> {
    fn drop(&mut self) {
        let (channel, paid) = (self.charge.channel(), self.charge.paid());
        if paid.id.is_some() || !self.cashier.meters().are_stopped() {
            return;
        }
        let cashier = self.cashier.clone();
        // Until it is released, its channel is not closed for being used up.
        let hold = cashier.hold(channel);
        begin(async move {
            let _hold = hold;
            if let Err(problem) = cashier.release(channel, paid).await {
                tracing::warn!(problem = %problem.detail, "a charge could not be released");
            }
        });
    }
}
