//! Whether a node is the one that the gateway is set up for, and whether it is up to date.

use bitcoin::{BlockHash, Network};
use farebox_chain::{Chain, Tip, Wallet};
use farebox_channel::{Seconds, Timestamp};
use thiserror::Error;

use super::WatchError;

/// How old the newest block of the main network may be.
const STALL: Seconds = Seconds::new(90 * 60);

/// What a gateway asks of its node.
#[derive(Clone, Debug)]
pub struct Fitness {
    /// The network of the channels.
    pub network: Network,
    /// Whether the gateway's share goes to the node's wallet.
    pub needs_wallet: bool,
    /// Whether a node that does not enforce the rules of version 3 transactions is good enough.
    pub any_truc_policy: bool,
    /// A block that the node has to have.
    pub checkpoint: Option<Checkpoint>,
    /// How old the newest block may be before the tip counts as stalled; nothing means any age.
    pub stall: Option<Seconds>,
}

/// A block that is known to be in the right chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

/// A node that the gateway does not work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// The node is on another network.
    #[error(
        "bitcoind is on network `{}`, and `network` in the configuration is `{}`",
        found.to_core_arg(),
        wanted.to_core_arg()
    )]
    OtherNetwork {
        /// The node's network.
        found: Network,
        /// The gateway's network.
        wanted: Network,
    },
    /// The node follows another chain than the one that the configuration names.
    #[error(
        "bitcoind has block {found} at height {}, and `bitcoind.block` in the configuration is {}: \
         it is another chain",
        wanted.height,
        wanted.hash
    )]
    OtherChain {
        /// The node's block.
        found: BlockHash,
        /// The block that it should be.
        wanted: Checkpoint,
    },
    /// The node does not enforce the rules of version 3 transactions (`BIP-0431`).
    #[error(
        "bitcoind's truc_policy is `{0}`, so settlements could be pinned: set `mempooltruc=enforce` \
         in bitcoin.conf, or `bitcoind.any_truc_policy = true` here"
    )]
    TrucPolicy(String),
}

impl Fitness {
    /// Asks of a node that it is on a network, up to date, and strict.
    #[must_use]
    pub fn new(network: Network) -> Self {
        // On other networks blocks come when somebody makes them.
        let stall = (network == Network::Bitcoin).then_some(STALL);
        Self { network, needs_wallet: true, any_truc_policy: false, checkpoint: None, stall }
    }

    /// Asks a node where it stands, and whether it is the right one and can take the gateway's
    /// share.
    ///
    /// # Errors
    /// [`WatchError`] when it does not answer or is unfit.
    pub async fn check<B: Chain + Wallet>(&self, node: &B) -> Result<Tip, WatchError> {
        let tip = node.tip().await?;
        let wanted = self.network;
        if tip.network != wanted {
            return Err(Unfit::OtherNetwork { found: tip.network, wanted }.into());
        }
        if let Some(wanted) = self.checkpoint {
            // A node that has not come so far yet cannot tell.
            let found = node.block_hash(wanted.height).await?;
            if let Some(found) = found.filter(|found| *found != wanted.hash) {
                return Err(Unfit::OtherChain { found, wanted }.into());
            }
        }
        if self.needs_wallet {
            node.check_wallet().await?;
        }
        let policy = node.relay_policy().await?;
        match policy.truc {
            Some(truc) if truc != "enforce" && !self.any_truc_policy => {
                Err(Unfit::TrucPolicy(truc).into())
            }
            Some(_) | None => Ok(tip),
        }
    }

    /// Returns in words why a node does not know the newest blocks, if it does not.
    pub(super) fn behind(&self, tip: &Tip, wall: Timestamp) -> Option<String> {
        if is_downloading(tip) {
            return Some("it is in its initial download".to_owned());
        }
        let age_secs = wall.get().saturating_sub(tip.time);
        let stall = self.stall?;
        (age_secs > u64::from(stall.get()))
            .then(|| format!("its newest block is {} minutes old", age_secs.div_euclid(60)))
    }
}

/// Tells whether a node does not know yet where the chain stands. A regtest node without new blocks
/// always says so.
pub(crate) fn is_downloading(tip: &Tip) -> bool {
    tip.is_initial_download && tip.network != Network::Regtest
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn tip(network: Network, is_initial_download: bool, time: u64) -> Tip {
        Tip {
            network,
            height: 900_000,
            hash: BlockHash::all_zeros(),
            headers: 900_000,
            time,
            median_time_past: time,
            oldest: None,
            is_initial_download,
        }
    }

    fn behind(network: Network, is_initial_download: bool, age_secs: u64) -> Option<String> {
        let tip = tip(network, is_initial_download, NOW - age_secs);
        Fitness::new(network).behind(&tip, Timestamp::new(NOW))
    }

    #[test]
    fn a_node_in_its_initial_download_is_behind_unless_it_is_on_regtest() {
        let downloading = |network| behind(network, true, 0).is_some();
        assert!(downloading(Network::Bitcoin) && downloading(Network::Signet));
        assert!(!downloading(Network::Regtest));
    }

    #[test]
    fn a_tip_of_the_main_network_stalls_after_ninety_minutes() {
        assert_eq!(behind(Network::Bitcoin, false, 5_400), None);
        let words = behind(Network::Bitcoin, false, 5_401).unwrap();
        assert_eq!(words, "its newest block is 90 minutes old");
        assert_eq!(behind(Network::Testnet4, false, 1_000_000), None);
    }
}
