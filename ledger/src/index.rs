//! The channels in memory, and the ways to find those that something has happened to.
//!
//! A gateway has many channels and few of them need anything: so each question that is asked again
//! and again has an index of its own, and costs what it finds.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Block, OutPoint, Transaction, Txid};
use farebox_channel::gateway::{Channel, Rules};
use farebox_channel::{Msat, Timestamp};
use secp256k1::PublicKey;

use crate::{Table, Totals};

/// The channels as of the last commit.
#[derive(Debug)]
pub(crate) struct Channels {
    rules: Arc<Rules>,
    /// All of them, in the order in which they came. None is ever removed, so that a channel's place
    /// stands for it.
    slots: Vec<Channel>,
    by_outpoint: Table<OutPoint, usize>,
    /// The places of each client's channels, under a hash of its key that nobody can foresee.
    by_client_key: BTreeSet<(u64, usize)>,
    hasher: RandomState,
    totals: Totals,
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
    /// When each has to be closed whatever is left on it, if nothing happens to it before.
    clocks: BTreeSet<(Timestamp, usize)>,
    /// Those on which everything is paid, by what is left: so prices change at no cost.
    full: BTreeSet<(Msat, usize)>,
    /// The heights of the blocks that contracts are in and were spent in.
    heights: BTreeSet<(u32, usize)>,
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
    mark: Option<Timestamp>,
    last_credit: Option<Msat>,
    height: Option<u32>,
    spent_at: Option<u32>,
    /// The coins of a contract that is in no block.
    unmined: Option<Arc<[OutPoint]>>,
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
        let is_unmined = !is_ended && height.is_none();
        let list = match channel {
            Channel::Pending(_) => Some(List::Pending),
            Channel::Open(open) if open.height.is_none() => Some(List::Trusted),
            Channel::Closing(closing) if closing.mined.is_some() => Some(List::Spent),
            Channel::Closing(_) => Some(List::Closing),
            Channel::Late(_) | Channel::Open(_) | Channel::Ended(_) => None,
        };
        Self {
            list,
            mark: channel.mark(rules),
            last_credit: channel.last_credit(),
            height,
            spent_at: channel.mined().map(|mined| mined.height),
            unmined: is_unmined.then(|| Arc::clone(&channel.account().coins)),
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
    /// Indexes all channels of a store.
    pub(crate) fn new(rules: Arc<Rules>, channels: Vec<Channel>) -> Self {
        let mut indexed = Self {
            rules,
            slots: Vec::new(),
            by_outpoint: Table::with_capacity_and_hasher(channels.len(), Default::default()),
            by_client_key: BTreeSet::new(),
            hasher: RandomState::new(),
            totals: Totals::default(),
            pending: BTreeSet::new(),
            trusted: BTreeSet::new(),
            closing: BTreeSet::new(),
            spent: BTreeSet::new(),
            unmined: BTreeSet::new(),
            clocks: BTreeSet::new(),
            full: BTreeSet::new(),
            heights: BTreeSet::new(),
            exposed: BTreeSet::new(),
            coins: BTreeSet::new(),
        };
        for (place, channel) in channels.iter().enumerate() {
            indexed.index(place, channel);
        }
        indexed.slots = channels;
        indexed
    }

    /// Returns the rules that channels are judged by.
    pub(crate) const fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Changes which credit buys nothing any more, and so which channels have to be closed. It costs
    /// the same however many there are.
    pub(crate) fn set_cheapest(&mut self, cheapest: Msat) {
        self.rules = Arc::new(Rules { cheapest, ..Rules::clone(&self.rules) });
    }

    /// Returns a channel.
    pub(crate) fn get(&self, outpoint: OutPoint) -> Option<&Channel> {
        self.slots.get(*self.by_outpoint.get(&outpoint)?)
    }

    /// Returns all channels, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Channel> {
        self.slots.iter()
    }

    /// Returns the sums over all channels.
    pub(crate) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns when the next channel has to be closed, if nothing happens to it before.
    pub(crate) fn next_mark(&self) -> Option<Timestamp> {
        let now = self.exhausted().next().map(|_| Timestamp::new(0));
        now.or_else(|| self.clocks.first().map(|(at, _)| *at))
    }

    /// Returns the places of the channels whose credit buys nothing any more.
    fn exhausted(&self) -> impl Iterator<Item = usize> {
        self.full.range(..(self.rules.cheapest, 0)).map(|(_, place)| *place)
    }

    /// Returns the channels of a list.
    pub(crate) fn listed(&self, list: &BTreeSet<OutPoint>) -> Vec<Channel> {
        list.iter().filter_map(|outpoint| self.get(*outpoint).cloned()).collect()
    }

    /// Returns the channels of a client's key.
    pub(crate) fn of_client(&self, key: &PublicKey) -> Vec<Channel> {
        let hash = self.hasher.hash_one(key);
        let alike = self.by_client_key.range((hash, 0)..=(hash, usize::MAX));
        let alike = alike.filter_map(|(_, place)| self.slots.get(*place));
        alike.filter(|channel| channel.contract().terms.client_key == *key).cloned().collect()
    }

    /// Returns the channels that are to be closed by `now`, the most urgent first.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Channel> {
        let clocks = self.clocks.iter().take_while(|(at, _)| *at <= now).map(|(_, place)| *place);
        let is_left = |channel: &Channel| {
            channel.last_credit().is_none_or(|credit| credit >= self.rules.cheapest)
        };
        let clocks = clocks.filter(|place| self.slots.get(*place).is_some_and(is_left));
        let due = self.exhausted().chain(clocks);
        due.filter_map(|place| self.slots.get(place).cloned()).collect()
    }

    /// Returns the channels that a block at `height` or above has changed.
    pub(crate) fn changed_from(&self, height: u32) -> Vec<Channel> {
        let changed = self.heights.range((height, 0)..);
        let changed = changed.filter_map(|(_, place)| self.slots.get(*place));
        let changed: BTreeSet<_> = changed.map(|channel| channel.contract().outpoint).collect();
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
            match self.by_outpoint.get(&channel.contract().outpoint) {
                Some(place) => self.replace(*place, channel),
                None => {
                    self.index(self.slots.len(), &channel);
                    self.slots.push(channel);
                }
            }
        }
    }

    /// Notes a new channel in all indexes.
    fn index(&mut self, place: usize, channel: &Channel) {
        let contract = channel.contract();
        self.by_outpoint.insert(contract.outpoint, place);
        self.by_client_key.insert((self.hasher.hash_one(contract.terms.client_key), place));
        self.totals = self.totals.plus(Totals::of(channel));
        let keys = Keys::of(channel, &self.rules);
        self.insert_keys(contract.outpoint, place, &keys);
    }

    /// Puts a channel in the place of its earlier state.
    fn replace(&mut self, place: usize, channel: Channel) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        let outpoint = channel.contract().outpoint;
        let (old, new) = (Keys::of(slot, &self.rules), Keys::of(&channel, &self.rules));
        self.totals = self.totals.minus(Totals::of(slot)).plus(Totals::of(&channel));
        *slot = channel;
        if old != new {
            self.remove_keys(outpoint, place, &old);
            self.insert_keys(outpoint, place, &new);
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

    fn insert_keys(&mut self, outpoint: OutPoint, place: usize, keys: &Keys) {
        if let Some(list) = &keys.list {
            self.list(list).insert(outpoint);
        }
        self.clocks.extend(keys.mark.map(|at| (at, place)));
        self.full.extend(keys.last_credit.map(|credit| (credit, place)));
        self.heights.extend(keys.height.map(|height| (height, place)));
        self.heights.extend(keys.spent_at.map(|height| (height, place)));
        if let Some(coins) = &keys.unmined {
            self.unmined.insert(outpoint);
            self.coins.extend(coins.iter().map(|coin| (*coin, outpoint)));
        }
        if keys.is_exposed {
            self.exposed.insert(outpoint);
        }
    }

    fn remove_keys(&mut self, outpoint: OutPoint, place: usize, keys: &Keys) {
        if let Some(list) = &keys.list {
            self.list(list).remove(&outpoint);
        }
        if let Some(at) = keys.mark {
            self.clocks.remove(&(at, place));
        }
        if let Some(credit) = keys.last_credit {
            self.full.remove(&(credit, place));
        }
        for height in keys.height.into_iter().chain(keys.spent_at) {
            self.heights.remove(&(height, place));
        }
        if let Some(coins) = &keys.unmined {
            self.unmined.remove(&outpoint);
            for coin in coins.iter() {
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
