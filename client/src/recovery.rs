//! What gets a channel's coins back with a node alone, as a file that a person can read.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{FeeRate, PrivateKey};
use farebox_channel::client::Draft;
use farebox_channel::{Contract, Kind, Payout, RefundError, Sat, Terms};
use secp256k1::SecretKey;
use serde::Serialize;

use crate::channel_file::private;
use crate::error::FileError;
use crate::record::{Record, Wanted};

/// The fee rates of the refunds, in sat/vB: nobody knows what a block will cost by then.
const RATES: [u32; 11] = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000];

/// What gets a channel's coins back once it has expired, with a node alone. It holds a secret key.
#[derive(Clone, Serialize)]
pub struct Recovery {
    /// What to do, for whoever finds the file.
    how: String,
    network: &'static str,
    kind: &'static str,
    /// The scheme, host and port of the server.
    server: String,
    /// The address of the contract, and its output (`txid:vout`) once that is known.
    contract_address: String,
    contract: Option<String>,
    capacity_sat: u64,
    /// The median time past has to be greater, in Unix seconds.
    valid_after: u32,
    /// Where the refunds pay to.
    payout: Option<String>,
    /// The same refund at several fee rates. Each is signed and needs nothing else.
    refunds: Vec<SignedRefund>,
    /// The contract with its secret key (`BIP-0380`), where that alone can spend it.
    descriptor: Option<String>,
}

/// A refund that is signed.
#[derive(Clone, Serialize)]
struct SignedRefund {
    sat_per_vb: u32,
    fee_sat: u64,
    transaction: String,
}

impl Recovery {
    /// Returns the recovery of a channel whose refund is held.
    ///
    /// # Errors
    /// [`RefundError`] when the refund is not complete, or the contract pays no fee at all.
    pub fn of(record: &Record) -> Result<Self, RefundError> {
        let Contract { terms, outpoint, capacity, payout } = record.contract();
        let refund = |sat_per_vb: u32| {
            let transaction =
                record.refund_transaction(FeeRate::from_sat_per_vb_u32(sat_per_vb))?;
            let paid = transaction.output.iter().map(|output| output.value.to_sat()).sum();
            let fee_sat = capacity.get().saturating_sub(paid);
            Ok(SignedRefund { sat_per_vb, fee_sat, transaction: serialize_hex(&transaction) })
        };
        let mut refunds = Vec::new();
        for rate in RATES {
            match refund(rate) {
                Ok(refund) => refunds.push(refund),
                // A dearer one is too dear, too.
                Err(RefundError::FeeTooHigh { .. }) if !refunds.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let contract = Some(outpoint.to_string());
        let draft = Draft { terms: *terms, capacity: *capacity, first_payment: Sat::ZERO };
        Ok(Self { contract, refunds, ..Self::begun(&record.origin, &draft, payout, &record.key) })
    }

    /// Returns the recovery of a `cltv` contract that somebody is asked to pay.
    pub(crate) fn wanted(wanted: &Wanted) -> Self {
        let Wanted { origin, key, draft, payout, .. } = wanted;
        Self::begun(origin, draft, payout, key)
    }

    fn begun(server: &str, draft: &Draft, payout: &Payout, key: &SecretKey) -> Self {
        let Draft { terms, capacity, .. } = draft;
        Self {
            how: how(terms),
            network: terms.network.to_core_arg(),
            kind: terms.kind.as_str(),
            server: server.to_owned(),
            contract_address: terms.address().to_string(),
            contract: None,
            capacity_sat: capacity.get(),
            valid_after: terms.expiry.get(),
            payout: payout.address(terms.network).map(|address| address.to_string()),
            refunds: Vec::new(),
            descriptor: descriptor(terms, key),
        }
    }

    /// Returns it as a JSON document.
    #[must_use]
    pub fn document(&self) -> String {
        // It has neither maps with odd keys nor values that can fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Saves it in a folder, for its owner to read. It is durable when this returns.
    pub(crate) fn save(&self, folder: &Path) -> Result<PathBuf, FileError> {
        let path = folder.join(format!("{}.json", self.contract_address));
        let failed = |source| FileError::Open { path: path.display().to_string(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let unfinished = path.with_extension("unfinished");
        let _older = fs::remove_file(&unfinished);
        let mut file = private(&unfinished)?;
        file.write_all(self.document().as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&unfinished, &path).map_err(failed)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(path)
    }
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("contract", &self.contract_address).finish_non_exhaustive()
    }
}

fn how(terms: &Terms) -> String {
    let refund = "Once `bitcoin-cli getblockchaininfo` tells a mediantime greater than \
                  `valid_after`, one of the refunds gets the coins back: `bitcoin-cli \
                  sendrawtransaction TRANSACTION`. If it is not mined, send one with a greater fee.";
    match terms.kind {
        Kind::Refund => refund.to_owned(),
        Kind::Cltv => format!(
            "{refund} Or import the descriptor into a wallet and spend the contract from there, \
             with a lock time of `valid_after` and a sequence below 4294967294."
        ),
    }
}

/// Returns the descriptor that spends a `cltv` contract without the gateway.
fn descriptor(terms: &Terms, key: &SecretKey) -> Option<String> {
    let Terms { network, kind, gateway_key, expiry, .. } = *terms;
    let key = PrivateKey::new(*key, network);
    let (is_alone, expiry) = (kind == Kind::Cltv, expiry.get());
    is_alone.then(|| format!("wsh(and_v(or_c(pk({gateway_key}),v:after({expiry})),pk({key})))"))
}
