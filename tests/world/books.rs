//! What is true, whatever the peers believe: what was served, what was signed, what was agreed to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bitcoin::OutPoint;
use farebox_channel::Contract;

use crate::life::lock;

/// What a charge was for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChargeId {
    /// A request without a name: the visit that it was.
    Visit(u64),
    /// A request with a name, and when it was first served, in Unix seconds.
    Named(String),
}

/// The truth about one channel.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Whose channel it is.
    pub(crate) client: usize,
    /// The contract.
    pub(crate) contract: Contract,
    /// Whether the contract was ever in a block.
    pub(crate) was_mined: bool,
    /// Whether somebody else has seen the contract.
    pub(crate) is_shown: bool,
    /// The greatest amount that the client has signed and sent, in satoshi.
    pub(crate) signed_sat: u64,
    /// All that the client has ever agreed to pay, in millisatoshi.
    pub(crate) agreed_msat: u64,
    /// What was served and is not taken back, in millisatoshi.
    pub(crate) charges: BTreeMap<ChargeId, u64>,
    /// How many whole answers each name has bought.
    pub(crate) answers: BTreeMap<String, u64>,
    /// When the service behind has first seen each name that is not forgotten, in Unix seconds.
    pub(crate) named_at: BTreeMap<String, u64>,
    /// What was signed and is not known to a gateway that was restored, in millisatoshi.
    pub(crate) forgotten_msat: u64,
    /// The same, before the gateway was restored last.
    pub(crate) forgotten_before_msat: u64,
    /// Whether the gateway was restored since the contract was built.
    pub(crate) is_restored: bool,
    /// Whether a settlement was handed out that a restored gateway does not know of.
    pub(crate) is_settled_unknown: bool,
    /// Whether the client has lost its disk.
    pub(crate) is_client_restored: bool,
}

impl Page {
    /// Returns what was served, in millisatoshi.
    pub(crate) fn served_msat(&self) -> u64 {
        self.charges.values().sum()
    }
}

/// A request that is delivered to the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// The channel that pays.
    pub(crate) channel: Option<OutPoint>,
    /// When it was delivered, in Unix seconds.
    pub(crate) at: u64,
    /// The price, in millisatoshi.
    pub(crate) price: u64,
    /// The request's name.
    pub(crate) name: Option<String>,
    /// What the service behind does with it.
    pub(crate) fate: Fate,
    /// Whether the service behind holds it back.
    pub(crate) is_held: bool,
    /// Whether the service behind has seen it.
    pub(crate) has_arrived: bool,
}

/// What the service behind does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It answers.
    Answer,
    /// It answers, and has used this much, in millisatoshi.
    Use(u64),
    /// It answers 500.
    Fail,
    /// It cannot be reached.
    Gone,
    /// It begins an answer and breaks it off.
    Break,
}

/// The truth. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books(Arc<Mutex<Truth>>);

/// Everything that is true.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Every channel that was ever funded.
    pub(crate) pages: BTreeMap<OutPoint, Page>,
    /// Every request that was delivered.
    pub(crate) visits: BTreeMap<u64, Visit>,
    /// Laws that were broken while a request was served.
    pub(crate) broken: Vec<String>,
}

impl Books {
    /// Returns the truth.
    pub(crate) fn open(&self) -> MutexGuard<'_, Truth> {
        lock(&self.0)
    }
}
