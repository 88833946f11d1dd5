//! What the writer is asked to do, and what it answers.

use bitcoin::OutPoint;
use farebox_channel::gateway::{Channel, Input};
use farebox_channel::message::Receipt;
use farebox_channel::{Clock, Msat};

use crate::charge::Charge;
use crate::{AttemptId, Cursor, LedgerError};

/// What the writer is asked to do.
pub(crate) enum Order {
    /// Record a channel.
    Create(Box<Channel>),
    /// Apply an input to a channel.
    Apply {
        /// The channel.
        outpoint: OutPoint,
        /// The time.
        clock: Clock,
        /// The input.
        input: Box<Input>,
    },
    /// Take a payment and charge a request, at most once for its name.
    Pay {
        /// The channel.
        outpoint: OutPoint,
        /// The time.
        clock: Clock,
        /// What is paid and charged.
        charge: Charge,
    },
    /// Charge a request that is under way for more, as far as it can be charged.
    Draw {
        /// The channel.
        outpoint: OutPoint,
        /// The time.
        clock: Clock,
        /// The least that is of use.
        least: Msat,
        /// The most that is wanted.
        most: Msat,
    },
    /// Note that an answer is begun, and take back what of its charge was not used.
    Answer {
        /// The channel.
        outpoint: OutPoint,
        /// The time.
        clock: Clock,
        /// What was not used.
        unused: Msat,
        /// The receipt of the charge.
        receipt: Receipt,
        /// The request's name, if it has one.
        id: Option<AttemptId>,
    },
    /// Take the charge of a request back, and forget its name.
    Release {
        /// The channel.
        outpoint: OutPoint,
        /// The time.
        clock: Clock,
        /// What was charged.
        charge: Msat,
        /// The request's name, if it has one.
        id: Option<AttemptId>,
    },
    /// Apply inputs to channels, all or none, and record how far the chain is followed.
    Tell {
        /// The time.
        clock: Clock,
        /// The inputs.
        inputs: Vec<(OutPoint, Input)>,
        /// How far the chain is followed, if that changes.
        cursor: Option<Cursor>,
    },
}

/// What an order has done.
pub(crate) enum Done {
    /// All of it.
    All,
    /// A channel is as the order left it.
    Channel(Box<Channel>),
    /// A request is charged, or less than before, or as before.
    Receipt(Receipt),
}

/// What the writer answers.
pub(crate) type Answer = Result<Done, LedgerError>;

impl Order {
    /// Tells whether the order begins something, rather than ends what was begun.
    pub(crate) const fn begins(&self) -> bool {
        match self {
            Self::Create(_) | Self::Apply { .. } | Self::Pay { .. } => true,
            Self::Draw { .. } | Self::Answer { .. } | Self::Release { .. } | Self::Tell { .. } => {
                false
            }
        }
    }
}

impl Done {
    /// Returns the channel, if there is one.
    pub(crate) fn channel(self) -> Option<Channel> {
        match self {
            Self::Channel(channel) => Some(*channel),
            Self::All | Self::Receipt(_) => None,
        }
    }

    /// Returns the receipt, if there is one.
    pub(crate) fn receipt(self) -> Option<Receipt> {
        match self {
            Self::Receipt(receipt) => Some(receipt),
            Self::All | Self::Channel(_) => None,
        }
    }
}

impl From<Channel> for Done {
    fn from(channel: Channel) -> Self {
        Self::Channel(Box::new(channel))
    }
}
