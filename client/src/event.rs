//! What happens while a client pays, for whoever wants to watch.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid};
use farebox_channel::message::{Offer, Receipt, StateName};
use farebox_channel::{Msat, Sat, Terms};

use crate::paying::PayingClient;

/// Something has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request was answered 402 with this offer.
    Offered(Offer),
    /// The gateway's terms were checked. So much will be locked until they expire, and no less than
    /// the first payment is the gateway's.
    Agreed {
        /// The terms.
        terms: Terms,
        /// What will be locked.
        capacity: Sat,
        /// The first payment.
        first_payment: Sat,
    },
    /// Somebody was asked to pay the contract's address, and the gateway looks out for that.
    Asked(Terms, Sat),
    /// The contract was built, or was found on the chain.
    Funded(OutPoint),
    /// The refund is complete and on record.
    RefundHeld(Transaction),
    /// What gets the coins back with a node alone is in this file.
    Exported(PathBuf),
    /// The contract was shown, and the channel is in this state.
    Shown(OutPoint, StateName),
    /// The client's own node counts so many confirmations of a contract that was shown.
    Confirmed(OutPoint, u32),
    /// A request was paid for, and its receipt is believed. Where the receipt is running, that is what
    /// was charged first.
    Paid(Receipt),
    /// More was paid ahead for answers that are charged while they pass.
    ToppedUp {
        /// The channel.
        channel: OutPoint,
        /// How much more was signed.
        amount: Sat,
        /// What the running answers of the channel have cost by then, as far as is known.
        cost: Msat,
    },
    /// An answer that was charged while it passed has ended: its price is what it has cost.
    Ended(Receipt),
    /// The two sides' records were brought together after a loss: what is paid and spent now.
    Resynchronised {
        /// The channel.
        channel: OutPoint,
        /// All that is paid.
        paid: Sat,
        /// All that counts as spent.
        spent: Msat,
    },
    /// A refund was broadcast.
    Refunding(OutPoint, Txid),
    /// The channel is closing with this settlement.
    Closing(OutPoint, Option<Txid>),
}

impl<B> PayingClient<B> {
    /// Tells `observer` what happens.
    #[must_use]
    pub fn observed_by(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

/// Who watches.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Event) + Send + Sync>);

impl Observer {
    /// Makes an observer of a function.
    #[must_use]
    pub fn new(observe: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    pub(crate) fn tell(&self, event: &Event) {
        (self.0)(event);
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer(..)")
    }
}
