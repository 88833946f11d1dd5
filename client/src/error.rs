//! Why a request could not be paid.

use farebox_chain::ChainError;
use farebox_channel::client::{CannotPay, Distrust, FundingMismatch, TermsRefused};
use farebox_channel::message::StateName;
use farebox_channel::wire::Malformed;
use farebox_channel::{Msat, OutOfBounds, PaymentError, RefundError, Sat, Seconds};
use thiserror::Error;

/// The channel file did not do its work.
#[derive(Debug, Error)]
pub enum FileError {
    /// The database failed.
    #[error("{path}: {source}")]
    Database {
        /// The file.
        path: String,
        /// What went wrong.
        source: rusqlite::Error,
    },
    /// The file cannot be made or opened.
    #[error("{path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Others can read the file, which holds secret keys.
    #[error("{path} can be read by others (mode {mode:03o}): run `chmod 600` on it")]
    Exposed {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Another process uses the file.
    #[error("another process uses {0}")]
    InUse(String),
    /// A record cannot be read.
    #[error("{path}: the record of channel {channel} cannot be read: {reason}")]
    Damaged {
        /// The file.
        path: String,
        /// The channel.
        channel: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was made by a newer release.
    #[error("{path} has format {found}, and this release reads up to {known}")]
    Newer {
        /// The file.
        path: String,
        /// The file's format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
}

/// What does not allow a payment: a limit of the policy's, with what was asked for and the most that
/// is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Limit {
    /// One request costs too much.
    #[error("the request costs {asked}, and at most {most} are allowed")]
    Price {
        /// The price.
        asked: Msat,
        /// The most to pay for one request.
        most: Msat,
    },
    /// The first payment of a channel is too great.
    #[error("the first payment of a channel is {asked}, and at most {most} are allowed")]
    FirstPayment {
        /// The first payment.
        asked: Sat,
        /// The greatest to agree to.
        most: Sat,
    },
    /// A channel would lock too much.
    #[error("a channel would lock {asked}, and at most {most} are allowed")]
    Capacity {
        /// What it would lock.
        asked: Sat,
        /// The greatest amount to lock.
        most: Sat,
    },
    /// A channel would lock coins for too long.
    #[error("a channel would lock coins for {} s, and at most {} s are allowed", asked.get(), most.get())]
    Lifetime {
        /// How long it would.
        asked: Seconds,
        /// The longest time to lock them.
        most: Seconds,
    },
    /// Too many channels would be opened with one server on one day.
    #[error("at most {0} channels are opened with one server on one day (UTC)")]
    Openings(u32),
    /// Too much would be paid to one server, over all runs.
    #[error("{asked} would be paid to this server by then, and at most {most} are allowed")]
    Host {
        /// What would be signed for by then.
        asked: Msat,
        /// The most to pay to one server.
        most: Msat,
    },
    /// Too much would be paid on one day, over all runs.
    #[error("{asked} would be paid today (UTC) by then, and at most {most} are allowed a day")]
    Day {
        /// What would be signed for by then.
        asked: Msat,
        /// The most to pay on one day.
        most: Msat,
    },
    /// Too much would be paid in all, over all runs.
    #[error("{asked} would be paid in all by then, and at most {most} are allowed")]
    Total {
        /// What would be signed for by then.
        asked: Msat,
        /// The most to pay in all.
        most: Msat,
    },
    /// An answer that is charged while it passes may cost no more.
    #[error("the answer was not paid any further: it may cost {0} at most")]
    Answer(Msat),
    /// The channel holds no more for such an answer.
    #[error("the answer was not paid any further: the channel holds {0}")]
    Channel(Sat),
}

/// Why a request could not be paid. Nothing was lost: what was signed is on record.
#[derive(Debug, Error)]
pub enum PayError {
    /// The request could not be sent, or its answer not be read.
    #[error("{}", causes(.0))]
    Http(#[from] reqwest::Error),
    /// Payments over plain http go to this machine only: whoever reads them can spend the credit.
    #[error("{0} is neither https nor on this machine, so no payment is sent there")]
    Insecure(String),
    /// The URL has no host.
    #[error("{0} has no host")]
    NoHost(String),
    /// The server asks for payment in another way.
    #[error("the server answers 402 without a Payment-Channel-Offer")]
    NoOffer,
    /// The server answers without a field that belongs there.
    #[error("the gateway's answer has no {0}")]
    NoField(&'static str),
    /// No answer has begun in time.
    #[error("the server has not begun to answer in {} s", .0.as_secs())]
    Silent(std::time::Duration),
    /// A field of the answer cannot be read.
    #[error("the gateway's answer: {0}")]
    Malformed(#[from] Malformed),
    /// The offer or the terms are not agreed to.
    #[error(transparent)]
    Terms(#[from] TermsRefused),
    /// The node or the wallet failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The wallet's transaction does not fund the contract.
    #[error(transparent)]
    Funding(#[from] FundingMismatch),
    /// The refund is not complete, so the contract was not shown.
    #[error("the contract was not shown: {0}")]
    Refund(#[from] RefundError),
    /// The contract cannot pay an amount.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The channel cannot pay the request.
    #[error(transparent)]
    CannotPay(#[from] CannotPay),
    /// The gateway's account is not believed.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// The gateway refuses a step.
    #[error("the gateway refuses: {detail} ({kind})")]
    Refused {
        /// The problem type.
        kind: String,
        /// What is wrong.
        detail: String,
    },
    /// A named request was sent again, and this says nothing of what came of it before: it may have
    /// been charged, and its price stays counted. With `request-answered` it was, and its answer was
    /// lost on the way.
    #[error("the request may have been paid for, and has no answer: {0}")]
    Unanswered(Box<Self>),
    /// The gateway cannot do a step now.
    #[error("the gateway cannot do it now: {0}")]
    NotNow(String),
    /// The contract was not confirmed in time. It is on record; try again later.
    #[error("the contract {0} is not confirmed yet; it is on record, try again later")]
    Unconfirmed(bitcoin::OutPoint),
    /// Nobody has paid the contract in time. It is on record; try again later.
    #[error("{0} was not paid yet; it is on record, try again later")]
    Unpaid(bitcoin::Address),
    /// The channel has come to another state than open. Its refund is on record.
    #[error("the channel {0} is {1}; its refund is on record")]
    NotOpen(bitcoin::OutPoint, StateName),
    /// The request's body can be sent only once, and was begun before its price was known.
    #[error("the body is a stream and cannot be sent again with a payment")]
    OneShotBody,
    /// The client beneath has followed a redirect to another server.
    #[error("a redirect was followed to {0}: the client beneath must follow none")]
    Redirected(String),
    /// Another middleware of the chain failed.
    #[error(transparent)]
    Middleware(Box<dyn std::error::Error + Send + Sync>),
    /// A number of the chain is out of bounds.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// The wallet's address is no payout script.
    #[error(transparent)]
    Payout(#[from] farebox_channel::UnusualScript),
    /// No random numbers are to be had.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A limit does not allow it. What would have been beyond it was not signed.
    #[error(transparent)]
    Limit(#[from] Limit),
    /// There is no channel with this server.
    #[error("there is no channel with {0}")]
    NoChannel(String),
    /// Whoever was asked has not agreed. Nothing was paid or locked for it.
    #[error("not agreed to: {0}")]
    Declined(String),
    /// What a request costs that changes something cannot be asked for, because it would be done if it
    /// were free.
    #[error(
        "a {method} request is not sent without a payment, because it may be free and would be done; {list} tells the prices"
    )]
    MayBeFree {
        /// The request's method.
        method: reqwest::Method,
        /// Where the price list is.
        list: reqwest::Url,
    },
    /// The channel file failed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl PayError {
    /// Returns why an answer that is charged while it passes has ended before its time, where the
    /// error of reading it comes from here.
    #[must_use]
    pub fn of<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(ours) = error.downcast_ref() {
                return Some(ours);
            }
            cause = error.source();
        }
        None
    }
}

/// Joins an error's words with those of its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}
