//! Sightings: who has paid the address of a `cltv` contract.
//!
//! They are kept in memory only, and no more than a stated number of them. A client that asks
//! again after a restart is watched for again.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use farebox_chain::{Chain, Wallet};
use farebox_channel::{Sat, Terms, Timestamp};
use farebox_middleware::Node;

use super::{WatchError, Watcher, lock};

/// The greatest number of addresses that are watched at a time.
const WATCHED_MAX: usize = 1_000;
/// How long an address is watched after it was last asked about, in seconds.
const WATCHED_SECS: u64 = 2 * 60 * 60;
/// The greatest number of transactions of the mempool that are looked at in one step.
const LOOKS_MAX: usize = 500;

/// What is known of one watched address.
#[derive(Debug)]
struct Watched {
    asked_at: Timestamp,
    seen: Option<(OutPoint, Sat)>,
}

/// The watched addresses, and the mempool as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    watched: BTreeMap<ScriptBuf, Watched>,
    looked_at: BTreeSet<Txid>,
}

impl Sightings {
    /// Watches the address of `terms`, and returns what has paid it first.
    pub(super) fn watch(&mut self, terms: Terms, now: Timestamp) -> Option<(OutPoint, Sat)> {
        let script = terms.script_pubkey();
        if let Some(watched) = self.watched.get_mut(&script) {
            watched.asked_at = now;
            return watched.seen;
        }
        if self.watched.len() >= WATCHED_MAX {
            // Whoever waits asks often, so the one that asked first of all is not waiting.
            let oldest = self.watched.iter().min_by_key(|(_, watched)| watched.asked_at);
            if let Some(oldest) = oldest.map(|(script, _)| script.clone()) {
                self.watched.remove(&oldest);
            }
        }
        self.watched.insert(script, Watched { asked_at: now, seen: None });
        None
    }

    /// Forgets the addresses that nobody has asked about for long, and tells whether any is left.
    fn is_needed(&mut self, now: Timestamp) -> bool {
        self.watched.retain(|_, watched| watched.asked_at.distance(now) < WATCHED_SECS);
        if self.watched.is_empty() {
            self.looked_at.clear();
        }
        !self.watched.is_empty()
    }

    /// Notes the outputs of a transaction that pay watched addresses.
    pub(super) fn look_at(&mut self, transaction: &Transaction) {
        if self.watched.is_empty() {
            return;
        }
        for (index, output) in transaction.output.iter().enumerate() {
            let Some(watched) = self.watched.get_mut(&output.script_pubkey) else {
                continue;
            };
            let Ok(vout) = u32::try_from(index) else {
                continue;
            };
            let Ok(capacity) = Sat::try_from(output.value) else {
                continue;
            };
            let outpoint = OutPoint { txid: transaction.compute_txid(), vout };
            watched.seen.get_or_insert((outpoint, capacity));
        }
    }

    /// Returns the transactions of the mempool that were not looked at, while it matters.
    fn unseen(&mut self, mempool: Vec<Txid>) -> Vec<Txid> {
        let mempool: BTreeSet<Txid> = mempool.into_iter().collect();
        self.looked_at.retain(|txid| mempool.contains(txid));
        mempool.difference(&self.looked_at).take(LOOKS_MAX).copied().collect()
    }
}

impl<B: Chain + Wallet> Watcher<B> {
    /// Looks at what is new in the mempool, while an address is watched.
    pub(super) async fn scan_mempool(&self) -> Result<(), WatchError> {
        let now = self.clock().now();
        if !lock(&self.0.sightings).is_needed(now) {
            return Ok(());
        }
        let mempool = self.0.node.mempool().await?;
        let unseen = lock(&self.0.sightings).unseen(mempool);
        for txid in unseen {
            let transaction = self.0.node.mempool_transaction(txid).await?;
            let mut sightings = lock(&self.0.sightings);
            sightings.looked_at.insert(txid);
            if let Some(transaction) = transaction {
                sightings.look_at(&transaction);
            }
        }
        Ok(())
    }
}
