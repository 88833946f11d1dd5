//! Why the gateway turns a client down. A refusal changes nothing.

use thiserror::Error;

use crate::contract::{ContractMismatch, Kind};
use crate::message::Receipt;
use crate::payment::PaymentError;
use crate::proof::ProofError;
use crate::units::{Msat, Sat, Seconds};

/// What is wrong with a client's step.
///
/// The list is complete on purpose: a new refusal does not compile until it has an answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The kind of contract is not offered.
    #[error("contracts of kind `{0}` are not offered here")]
    KindNotOffered(Kind),
    /// The capacity is outside the offer.
    #[error("a capacity of {capacity} is not within {least} and {most}")]
    CapacityOutOfBounds {
        /// The wished or shown capacity.
        capacity: Sat,
        /// The least capacity offered.
        least: Sat,
        /// The greatest capacity offered.
        most: Sat,
    },
    /// The lifetime or expiry is outside the offer.
    #[error("{left_secs} s to the expiry are not within {} s and {} s", least.get(), most.get())]
    ExpiryOutOfBounds {
        /// The time to the expiry in seconds, nothing when it has passed.
        left_secs: u64,
        /// The least time to the expiry.
        least: Seconds,
        /// The greatest time to the expiry.
        most: Seconds,
    },
    /// The shown output is not the contract of these terms.
    #[error(transparent)]
    Contract(#[from] ContractMismatch),
    /// The shown output has another value than the client says.
    #[error("the contract holds {found}, not {shown}")]
    OtherCapacity {
        /// What the client says.
        shown: Sat,
        /// What the output holds.
        found: Sat,
    },
    /// The contract's output is spent, or its inputs are.
    #[error("the contract is spent, or was never there: {0}")]
    ContractSpent(String),
    /// The node does not take the contract's transaction.
    #[error("the node does not take the contract: {0}")]
    ContractRefused(String),
    /// The channel was shown before with another payout script or expiry.
    #[error("the channel is on record with other terms")]
    OtherTerms,
    /// The payment cannot count.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The first payment is less than what the gateway asks for.
    #[error("the first payment of {paid} is less than {least}")]
    FirstPaymentTooSmall {
        /// What is paid.
        paid: Sat,
        /// The first payment that is asked for.
        least: Sat,
    },
    /// The pass is not the one of this channel, whether there is such a channel or not.
    #[error("the pass is not the one of this channel")]
    WrongPass,
    /// The pass is right, but no such channel is on record.
    #[error("no such channel is on record; show its contract again")]
    UnknownChannel,
    /// The proof does not show the client's key, whether there is such a channel or not.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The contract has too few confirmations.
    #[error("the contract is not confirmed yet")]
    Pending,
    /// The contract confirmed too late before its expiry.
    #[error("the contract confirmed too late before its expiry; wait for the refund")]
    Late,
    /// The record is from a backup, and what the client has paid since is not known.
    #[error(
        "this gateway was restored from a backup: send the newest payment as a top-up, then pay"
    )]
    Stale,
    /// The credit does not pay the price.
    #[error("a credit of {credit} does not pay {price}")]
    Underpaid {
        /// All that is paid.
        paid: Sat,
        /// All that is charged.
        spent: Msat,
        /// What is left with this payment.
        credit: Msat,
        /// The price of the request.
        price: Msat,
    },
    /// The expiry is too near for another payment.
    #[error("the channel expires too soon for another payment; close it and open another")]
    Expiring,
    /// A settlement is on its way.
    #[error("the channel is closing")]
    Closing,
    /// The channel has ended.
    #[error("the channel has ended")]
    Ended,
    /// A request of this name is under way.
    #[error("a request with this Idempotency-Key is under way")]
    UnderWay,
    /// The request of this name was answered.
    #[error("the request with this Idempotency-Key was answered")]
    Answered(Receipt),
    /// The name is another request's.
    #[error("this Idempotency-Key is another request's")]
    NameReused,
    /// The final payment is out of bounds.
    #[error("a final payment of {paid} is not within {least} and {most}")]
    FinalOutOfBounds {
        /// What the client wants to close with.
        paid: Sat,
        /// What is spent, or the first payment if that is more.
        least: Sat,
        /// The capacity.
        most: Sat,
    },
}
