//! What was charged for a request that is under way.

use bitcoin::OutPoint;
use farebox_channel::message::Receipt;
use farebox_channel::{Label, Msat};
use farebox_ledger::{Hold, Paid};

use crate::naming::Run;

/// Who has paid for a request, and how much. The service behind finds it among the request's
/// extensions, whoever stands before the paywall among those of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaidBy {
    /// The channel.
    pub channel: Label,
    /// What was charged, in the answer less what was taken back.
    pub price: Msat,
    /// What is paid and not spent.
    pub credit: Msat,
    /// Whether the whole charge was taken back, and not only what an answer has not used.
    pub is_released: bool,
}

impl PaidBy {
    /// Returns the same once something else was charged, with the receipt of that.
    pub(crate) const fn charged(self, receipt: Receipt) -> Self {
        let Receipt { price, credit, .. } = receipt;
        Self { price, credit, ..self }
    }

    /// Returns the same once the charge was taken back, with the receipt of that.
    pub(crate) const fn released(self, receipt: Receipt) -> Self {
        let Receipt { price, credit, .. } = receipt;
        Self { price, credit, is_released: true, ..self }
    }
}

/// A charge that can be taken back. While it lives, its request is under way.
#[derive(Debug)]
pub(crate) struct Charged {
    channel: OutPoint,
    label: Label,
    paid: Paid,
    hold: Hold,
    _run: Option<Run>,
}

impl Charged {
    /// Keeps what was charged to a channel with what says that its request, and its name, are
    /// under way.
    pub(crate) fn new(
        (channel, label): (OutPoint, Label),
        paid: Paid,
        (hold, run): (Hold, Option<Run>),
    ) -> Self {
        Self { channel, label, paid, hold, _run: run }
    }

    /// Returns what is on record of the charge.
    pub(crate) const fn paid(&self) -> Paid {
        self.paid
    }

    /// Tells whether the request has a name, by which it may be asked again.
    pub(crate) const fn is_named(&self) -> bool {
        self.paid.id.is_some()
    }

    /// Returns the channel that has paid.
    pub(crate) const fn channel(&self) -> OutPoint {
        self.channel
    }

    /// Notes what was charged in all by now.
    pub(crate) const fn amount_to(&mut self, charged: Receipt) {
        self.paid.receipt = charged;
    }

    /// Returns the receipt, as far as is known now.
    pub(crate) const fn receipt(&self) -> Receipt {
        self.paid.receipt
    }

    /// Tells whether the channel had other requests under way when this one began.
    pub(crate) const fn has_others(&self) -> bool {
        self.hold.count() > 1
    }

    /// Returns who has paid.
    pub(crate) const fn paid_by(&self) -> PaidBy {
        let Receipt { price, credit, .. } = self.paid.receipt;
        PaidBy { channel: self.label, price, credit, is_released: false }
    }
}
