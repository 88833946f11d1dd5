//! The channels in memory, and the ways to find those that something has happened to.
//!
//! A gateway has many channels and few of them need anything: so each question that is asked again
//! and again has an index of its own, and costs what it finds.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Block, OutPoint, Transaction, Txid};
use farebox_channel::Timestamp;
use farebox_channel::gateway::{Channel, Rules};
use secp256k1::PublicKey;

/// The channels as of the last commit.
#[derive(Debug)]
pub(crate) struct Channels {
    rules: Arc<Rules>,
    by_outpoint: HashMap<OutPoint, Channel>,
    by_client_key: HashMap<PublicKey, Vec<OutPoint>>,
    /// Those that wait for confirmations.
    pub(crate) pending: BTreeSet<OutPoint>,
    /// Those that are served although their contract is in no block.
    pub(crate) trusted: BTreeSet<OutPoint>,
    /// Those that are closing, and that no block has settled.
    pub(crate) closing: BTreeSet<OutPoint>,
    /// Those whose contract was spent in a block that is not deep yet.
    pub(crate) spent: BTreeSet<OutPoint>,
    /// Those whose contract is in no block, as far as is known.
    pub(crate) unmined: BTreeSet<OutPoint>,
    /// When each has to be closed, if nothing happens to it before.
    clocks: BTreeSet<(Timestamp, OutPoint)>,
    /// The heights of the blocks that contracts are in and were spent in.
    heights: BTreeSet<(u32, OutPoint)>,
    /// Those that were served on a contract that is in no block.
    pub(crate) exposed: BTreeSet<OutPoint>,
    /// The coins that unconfirmed contracts are made of, each with its contract. One coin may be in
    /// several: contracts of one transaction, or transactions that replace each other.
    coins: BTreeSet<(OutPoint, OutPoint)>,
}

/// Where a channel stands in the indexes.
#[derive(PartialEq, Eq)]
struct Keys {
    list: Option<List>,
    wakes_at: Option<Timestamp>,
    height: Option<u32>,
    spent_at: Option<u32>,
    is_unmined: bool,
    is_exposed: bool,
}

/// The list that a channel is in.
#[derive(PartialEq, Eq)]
enum List {
    Pending,
    Trusted,
    Closing,
    Spent,
}

impl Keys {
    fn of(channel: &Channel, rules: &Rules) -> Self {
        let height = channel.height();
        let is_ended = matches!(channel, Channel::Ended(_));
        let list = match channel {
            Channel::Pending(_) => Some(List::Pending),
            Channel::Open(open) if open.height.is_none() => Some(List::Trusted),
            Channel::Closing(closing) if closing.mined.is_some() => Some(List::Spent),
            Channel::Closing(_) => Some(List::Closing),
            Channel::Late(_) | Channel::Open(_) | Channel::Ended(_) => None,
        };
        Self {
            list,
            wakes_at: channel.wakes_at(rules),
            height,
            spent_at: channel.mined().map(|mined| mined.height),
            is_unmined: !is_ended && height.is_none(),
            is_exposed: channel.is_exposed(),
        }
    }
}

/// What a block does to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch<'b> {
    /// The channel.
    pub channel: OutPoint,
    /// How.
    pub how: Touched,
    /// The transaction that does it.
    pub transaction: &'b Transaction,
}

/// How a block touches a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Its contract is made.
    Mined,
    /// Its contract is spent.
    Spent,
    /// A coin that its unconfirmed contract needs is spent otherwise.
    DoubleSpent,
}

impl Channels {
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            by_outpoint: HashMap::new(),
            by_client_key: HashMap::new(),
            pending: BTreeSet::new(),
            trusted: BTreeSet::new(),
            closing: BTreeSet::new(),
            spent: BTreeSet::new(),
            unmined: BTreeSet::new(),
            clocks: BTreeSet::new(),
            heights: BTreeSet::new(),
            exposed: BTreeSet::new(),
            coins: BTreeSet::new(),
        }
    }

    /// Returns a channel.
    pub(crate) fn get(&self, outpoint: OutPoint) -> Option<&Channel> {
        self.by_outpoint.get(&outpoint)
    }

    /// Returns all channels, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Channel> {
        self.by_outpoint.values()
    }

    /// Returns the channels of a list.
    pub(crate) fn listed(&self, list: &BTreeSet<OutPoint>) -> Vec<Channel> {
        list.iter().filter_map(|outpoint| self.get(*outpoint).cloned()).collect()
    }

    /// Returns the channels of a client's key.
    pub(crate) fn of_client(&self, key: &PublicKey) -> Vec<Channel> {
        let outpoints = self.by_client_key.get(key).into_iter().flatten();
        outpoints.filter_map(|outpoint| self.get(*outpoint).cloned()).collect()
    }

    /// Returns the channels that are to be closed by `now`, the most urgent first.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Channel> {
        let due = self.clocks.iter().take_while(|(at, _)| *at <= now);
        due.filter_map(|(_, outpoint)| self.get(*outpoint).cloned()).collect()
    }

    /// Returns the channels that a block at `height` or above has changed.
    pub(crate) fn changed_from(&self, height: u32) -> Vec<Channel> {
        let from = (height, OutPoint { txid: first_txid(), vout: 0 });
        let changed: BTreeSet<OutPoint> = self.heights.range(from..).map(|(_, it)| *it).collect();
        self.listed(&changed)
    }

    /// Returns what a block does to channels, in the order of its transactions.
    pub(crate) fn touched<'b>(&self, block: &'b Block) -> Vec<Touch<'b>> {
        let mut touches = Vec::new();
        for transaction in &block.txdata {
            let mut touch = |channel, how| touches.push(Touch { channel, how, transaction });
            if !self.unmined.is_empty() {
                let txid = transaction.compute_txid();
                let outputs = OutPoint { txid, vout: 0 }..=OutPoint { txid, vout: u32::MAX };
                self.unmined.range(outputs).for_each(|channel| touch(*channel, Touched::Mined));
            }
            for input in &transaction.input {
                if self.by_outpoint.contains_key(&input.previous_output) {
                    touch(input.previous_output, Touched::Spent);
                }
                for channel in self.made_of(input.previous_output) {
                    if transaction.compute_txid() != channel.txid {
                        touch(channel, Touched::DoubleSpent);
                    }
                }
            }
        }
        touches
    }

    /// Returns the unconfirmed contracts that a coin is in.
    fn made_of(&self, coin: OutPoint) -> impl Iterator<Item = OutPoint> {
        let first = (coin, OutPoint { txid: first_txid(), vout: 0 });
        let all = self.coins.range(first..).take_while(move |(it, _)| *it == coin);
        all.map(|(_, channel)| *channel)
    }

    /// Puts channels in, in the place of their earlier states.
    pub(crate) fn put(&mut self, channels: impl IntoIterator<Item = Channel>) {
        for channel in channels {
            let outpoint = channel.contract().outpoint;
            let keys = Keys::of(&channel, &self.rules);
            let coins = Arc::clone(&channel.account().coins);
            match self.by_outpoint.insert(outpoint, channel) {
                Some(before) => {
                    let old = Keys::of(&before, &self.rules);
                    if old == keys && before.account().coins == coins {
                        continue;
                    }
                    self.remove_keys(outpoint, &old, &before.account().coins);
                }
                None => self.note_client(outpoint),
            }
            self.insert_keys(outpoint, &keys, &coins);
        }
    }

    fn note_client(&mut self, outpoint: OutPoint) {
        if let Some(channel) = self.by_outpoint.get(&outpoint) {
            let key = channel.contract().terms.client_key;
            self.by_client_key.entry(key).or_default().push(outpoint);
        }
    }

    fn list(&mut self, list: &List) -> &mut BTreeSet<OutPoint> {
        match list {
            List::Pending => &mut self.pending,
            List::Trusted => &mut self.trusted,
            List::Closing => &mut self.closing,
            List::Spent => &mut self.spent,
        }
    }

    fn insert_keys(&mut self, outpoint: OutPoint, keys: &Keys, coins: &[OutPoint]) {
        if let Some(list) = &keys.list {
            self.list(list).insert(outpoint);
        }
        self.clocks.extend(keys.wakes_at.map(|at| (at, outpoint)));
        self.heights.extend(keys.height.map(|height| (height, outpoint)));
        self.heights.extend(keys.spent_at.map(|height| (height, outpoint)));
        if keys.is_unmined {
            self.unmined.insert(outpoint);
            self.coins.extend(coins.iter().map(|coin| (*coin, outpoint)));
        }
        if keys.is_exposed {
            self.exposed.insert(outpoint);
        }
    }

    fn remove_keys(&mut self, outpoint: OutPoint, keys: &Keys, coins: &[OutPoint]) {
        if let Some(list) = &keys.list {
            self.list(list).remove(&outpoint);
        }
        if let Some(at) = keys.wakes_at {
            self.clocks.remove(&(at, outpoint));
        }
        for height in keys.height.into_iter().chain(keys.spent_at) {
            self.heights.remove(&(height, outpoint));
        }
        if keys.is_unmined {
            self.unmined.remove(&outpoint);
            for coin in coins {
                self.coins.remove(&(*coin, outpoint));
            }
        }
        if keys.is_exposed {
            self.exposed.remove(&outpoint);
        }
    }
}

/// Returns the least of all ids.
fn first_txid() -> Txid {
    Txid::all_zeros()
}
