//! Settlements for a standby without keys: signed, and not broadcast.

use bitcoin::FeeRate;
use bitcoin::consensus::encode::serialize_hex;
use farebox_chain::{Chain, Wallet};
use farebox_channel::gateway::Channel;
use farebox_channel::{Fee, Keyring, Payout, Settlement};
use farebox_middleware::NodeError;
use serde::{Deserialize, Serialize};

use super::{AdminError, Desk};

/// The most fee rates in one export.
const RATES_MAX: usize = 20;
/// The greatest fee rate, in sat/vB.
const RATE_MAX: u32 = 10_000;

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportRequest {
    /// The fee rates, in sat/vB.
    pub(crate) rates_sat_per_vb: Vec<u32>,
}

/// The settlement of one channel at one fee rate, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Exported {
    /// The channel.
    pub(crate) channel: String,
    /// When its client's refund can be mined, in Unix seconds: broadcast before.
    pub(crate) expiry: u64,
    /// What is paid.
    pub(crate) paid_sat: u64,
    /// The fee rate.
    pub(crate) fee_rate_sat_per_vb: u32,
    /// The settlement, if it is worth its fee.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// A settlement, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    /// It is signed by both sides.
    Signed {
        /// What the gateway gets.
        share_sat: u64,
        /// What the network takes.
        fee_sat: u64,
        /// The transaction's id.
        txid: String,
        /// The transaction, in hexadecimal digits.
        transaction: String,
    },
    /// There is none.
    None {
        /// Why.
        reason: String,
    },
}

impl ExportRequest {
    /// Returns the fee rates from the lowest to the highest, each once.
    fn rates(mut self) -> Result<Vec<u32>, AdminError> {
        let rates = &mut self.rates_sat_per_vb;
        rates.sort_unstable();
        rates.dedup();
        let is_good = (1..=RATES_MAX).contains(&rates.len())
            && rates.iter().all(|rate| (1..=RATE_MAX).contains(rate));
        if !is_good {
            return Err(AdminError::Malformed(format!(
                "`rates_sat_per_vb` are 1 to {RATES_MAX} fee rates from 1 to {RATE_MAX} sat/vB"
            )));
        }
        Ok(self.rates_sat_per_vb)
    }
}

impl<B: Chain + Wallet> Desk<B> {
    /// Signs a settlement of every channel that could be settled now, at every fee rate. Nothing
    /// on record changes.
    pub(super) async fn export(self, request: ExportRequest) -> Result<Vec<Exported>, AdminError> {
        let rates = request.rates()?;
        let payout = self.watcher.payout().await.map_err(|error| match error {
            NodeError::Away(words) | NodeError::Missing(words) | NodeError::Refused(words) => {
                AdminError::NodeAway(words)
            }
            NodeError::Busy => AdminError::NodeAway(error.to_string()),
        })?;
        let signing = tokio::task::spawn_blocking(move || {
            let mut channels = self.ledger.select(is_settleable);
            channels.sort_by_key(|channel| channel.contract().terms.expiry);
            let of_channel = |channel: &Channel| {
                let at = |rate: &u32| export(channel, *rate, &payout, &self.keyring);
                rates.iter().map(at).collect::<Vec<_>>()
            };
            channels.iter().flat_map(of_channel).collect()
        });
        signing.await.map_err(|_| AdminError::Stopping)
    }
}

/// Tells whether a channel's contract is confirmed, not spent, and to be settled at some time.
fn is_settleable(channel: &Channel) -> bool {
    match channel {
        Channel::Open(open) => open.height.is_some(),
        Channel::Closing(closing) => closing.height.is_some() && closing.is_claimed(),
        Channel::Pending(_) | Channel::Late(_) | Channel::Ended(_) => false,
    }
}

/// Signs the settlement of one channel at a fee rate.
fn export(channel: &Channel, rate: u32, payout: &Payout, keyring: &Keyring) -> Exported {
    let (contract, member) = (channel.contract(), channel.account().member());
    let fee_rate = FeeRate::from_sat_per_vb_u32(rate);
    let outcome = match Settlement::build(&[member], keyring, payout, Fee::at(fee_rate)) {
        Ok(Settlement { transaction, fee, share }) => Outcome::Signed {
            share_sat: share.get(),
            fee_sat: fee.get(),
            txid: transaction.compute_txid().to_string(),
            transaction: serialize_hex(&transaction),
        },
        Err(error) => Outcome::None { reason: error.to_string() },
    };
    Exported {
        channel: contract.outpoint.to_string(),
        expiry: contract.terms.expiry.timestamp().get(),
        paid_sat: member.payment.paid().get(),
        fee_rate_sat_per_vb: rate,
        outcome,
    }
}
