//! The contract: which output locks a channel's money, and under which script.

use std::fmt;
use std::str::FromStr;

use bitcoin::opcodes::all::{
    OP_CHECKMULTISIG, OP_CHECKSIG, OP_CLTV, OP_ENDIF, OP_NOTIF, OP_PUSHNUM_2, OP_VERIFY,
};
use bitcoin::{Address, Network, OutPoint, ScriptBuf, Transaction, TxOut, Witness, script};
use secp256k1::PublicKey;
use thiserror::Error;

use crate::payout::Payout;
use crate::units::{Expiry, Sat};

/// The length of the longest witness script, in bytes.
const SCRIPT_LEN_MAX: usize = 79;

/// How the client gets its money back when the gateway is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A plain 2-of-2; the gateway signs a refund before it is shown the contract.
    Refund,
    /// The refund path is in the script (`BIP-0065`).
    Cltv,
}

impl Kind {
    /// Both kinds, in the order in which they are offered.
    pub const ALL: [Self; 2] = [Self::Refund, Self::Cltv];

    /// Returns the kind's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::Cltv => "cltv",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no kind of contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a kind of contract is `refund` or `cltv`")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(UnknownKind)
    }
}

/// What both sides agree on before money moves: it determines the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The network of the contract.
    pub network: Network,
    /// The kind of the contract.
    pub kind: Kind,
    /// The gateway's key S.
    pub gateway_key: PublicKey,
    /// The client's key C.
    pub client_key: PublicKey,
    /// The expiry T.
    pub expiry: Expiry,
}

impl Terms {
    /// Returns the witness script that locks the contract.
    ///
    /// `refund`: `2 <C> <S> 2 CHECKMULTISIG`, 71 bytes.
    /// `cltv`: the miniscript `and_v(or_c(pk(S),v:after(T)),pk(C))`, 79 bytes.
    #[must_use]
    pub fn witness_script(&self) -> ScriptBuf {
        let client = self.client_key.serialize();
        let gateway = self.gateway_key.serialize();
        let script = script::Builder::from(Vec::with_capacity(SCRIPT_LEN_MAX));
        match self.kind {
            Kind::Refund => script
                .push_opcode(OP_PUSHNUM_2)
                .push_slice(client)
                .push_slice(gateway)
                .push_opcode(OP_PUSHNUM_2)
                .push_opcode(OP_CHECKMULTISIG)
                .into_script(),
            Kind::Cltv => script
                .push_slice(gateway)
                .push_opcode(OP_CHECKSIG)
                .push_opcode(OP_NOTIF)
                .push_int(i64::from(self.expiry.get()))
                .push_opcode(OP_CLTV)
                .push_opcode(OP_VERIFY)
                .push_opcode(OP_ENDIF)
                .push_slice(client)
                .push_opcode(OP_CHECKSIG)
                .into_script(),
        }
    }

    /// Returns the output script of the contract: P2WSH of the witness script.
    #[must_use]
    pub fn script_pubkey(&self) -> ScriptBuf {
        self.witness_script().to_p2wsh()
    }

    /// Returns the address that a wallet pays to fund the contract.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::p2wsh(&self.witness_script(), self.network)
    }

    /// Checks that `output` is a contract under these terms, and returns its capacity.
    ///
    /// # Errors
    /// [`ContractMismatch`] when the script is another or the value is no amount.
    pub fn check_output(&self, output: &TxOut) -> Result<Sat, ContractMismatch> {
        if output.script_pubkey != self.script_pubkey() {
            return Err(ContractMismatch::OtherScript);
        }
        Ok(Sat::try_from(output.value)?)
    }

    /// Checks that `transaction` funds a contract under these terms at `outpoint`, and returns
    /// its capacity.
    ///
    /// # Errors
    /// [`ContractMismatch`] says what is wrong with it.
    pub fn check_transaction(
        &self,
        transaction: &Transaction,
        outpoint: OutPoint,
        chain: ChainTime,
    ) -> Result<Sat, ContractMismatch> {
        let txid = transaction.compute_txid();
        if txid != outpoint.txid {
            return Err(ContractMismatch::OtherTransaction(txid));
        }
        let output = usize::try_from(outpoint.vout)
            .ok()
            .and_then(|index| transaction.output.get(index))
            .ok_or(ContractMismatch::NoOutput(outpoint.vout))?;
        let capacity = self.check_output(output)?;
        self.check_stable(transaction)?;
        if !is_final(transaction, chain) {
            return Err(ContractMismatch::NotFinal);
        }
        Ok(capacity)
    }

    /// Checks that the id of a contract's transaction cannot change before it is mined.
    ///
    /// Otherwise the refund that the client of a `refund` contract holds would spend nothing. So
    /// each input has an empty `scriptSig` and a witness. A `cltv` contract needs no such check.
    ///
    /// # Errors
    /// [`ContractMismatch::NotSegwit`] names the first input that is not native segwit.
    pub fn check_stable(&self, transaction: &Transaction) -> Result<(), ContractMismatch> {
        let malleable =
            |input: &bitcoin::TxIn| !input.script_sig.is_empty() || input.witness.is_empty();
        match (self.kind, transaction.input.iter().position(malleable)) {
            (Kind::Refund, Some(index)) => Err(ContractMismatch::NotSegwit(index)),
            (Kind::Refund, None) | (Kind::Cltv, _) => Ok(()),
        }
    }

    /// Returns the witness that spends the contract with both keys' signatures.
    ///
    /// Each signature is DER with its flag byte.
    pub(crate) fn settlement_witness(&self, client: &[u8], gateway: &[u8]) -> Witness {
        let script = self.witness_script();
        match self.kind {
            Kind::Refund => Witness::from_slice(&[&[], client, gateway, script.as_bytes()]),
            Kind::Cltv => Witness::from_slice(&[client, gateway, script.as_bytes()]),
        }
    }
}

/// A funded channel: the output that holds the money and where the change goes.
///
/// It never changes. Its outpoint identifies the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The agreed terms.
    pub terms: Terms,
    /// The output that holds the money.
    pub outpoint: OutPoint,
    /// The amount it holds.
    pub capacity: Sat,
    /// Where the client's change is paid.
    pub payout: Payout,
}

impl Contract {
    /// Returns the output that the contract's outpoint points at.
    #[must_use]
    pub fn output(&self) -> TxOut {
        TxOut { value: self.capacity.to_amount(), script_pubkey: self.terms.script_pubkey() }
    }
}

/// Why a transaction is not the contract that it is shown as.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ContractMismatch {
    /// The transaction's id is another than the outpoint's.
    #[error("the transaction's id is {0}, not the one of the outpoint")]
    OtherTransaction(bitcoin::Txid),
    /// The transaction has no output at the outpoint's index.
    #[error("the transaction has no output {0}")]
    NoOutput(u32),
    /// The output pays another script than the one of the terms.
    #[error("the output pays another script than the one of the terms")]
    OtherScript,
    /// The output's value is no amount.
    #[error("the output's value is out of bounds: {0}")]
    Value(#[from] crate::units::OutOfBounds),
    /// The output spends coins whose spending could change the transaction's id (`BIP-0141`).
    #[error("input {0} is not native segwit, so the contract's id could change")]
    NotSegwit(usize),
    /// The transaction may not be mined yet.
    #[error("the transaction's lock time lies in the future")]
    NotFinal,
}

/// Where the chain stands, for deciding whether a transaction is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainTime {
    /// The height of the tip.
    pub height: u32,
    /// The median time past at the tip (`BIP-0113`).
    pub median_time_past: u32,
}

/// Tells whether `transaction` could be in the next block, as far as its lock time goes
/// (`BIP-0113`).
fn is_final(transaction: &Transaction, chain: ChainTime) -> bool {
    if !transaction.is_lock_time_enabled() {
        return true;
    }
    match transaction.lock_time {
        bitcoin::absolute::LockTime::Blocks(height) => height.to_consensus_u32() <= chain.height,
        bitcoin::absolute::LockTime::Seconds(time) => {
            time.to_consensus_u32() < chain.median_time_past
        }
    }
}
