//! The settlement: one transaction that closes channels and pays both sides.

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, EcdsaSighashType, FeeRate, Transaction, TxOut};
use thiserror::Error;

use crate::contract::Contract;
use crate::keys::Keyring;
use crate::payment::{SETTLEMENT_VERSION, Template, VerifiedPayment, input, witness_signature};
use crate::payout::Payout;
use crate::units::Sat;

/// The greatest size of a version 3 transaction (`BIP-0431`).
pub const SETTLEMENT_VSIZE_MAX: u64 = 10_000;
/// The gateway's signature in a witness: low R, low S, and the flag.
const GATEWAY_SIGNATURE_LEN: usize = 71;

/// A channel to settle, and the payment to settle it for.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The channel's contract.
    pub contract: &'a Contract,
    /// The payment that is settled.
    pub payment: &'a VerifiedPayment,
}

/// A settlement, signed and ready for the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The transaction.
    pub transaction: Transaction,
    /// What the network takes.
    pub fee: Sat,
    /// What the gateway takes: all that is paid, less the fee.
    pub share: Sat,
}

/// Why there is no settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SettlementError {
    /// The fee is more than what is paid.
    #[error("of {paid} a fee of {fee_sat} sat leaves nothing that is worth an output")]
    Uneconomic {
        /// What all members pay.
        paid: Sat,
        /// What the network would take, in satoshi.
        fee_sat: u64,
    },
    /// The transaction would not be relayed (`BIP-0431`).
    #[error(
        "a settlement of {vsize} vB is larger than the {SETTLEMENT_VSIZE_MAX} vB that are relayed"
    )]
    TooLarge {
        /// The size in virtual bytes.
        vsize: u64,
    },
    /// A channel is named twice.
    #[error("a channel is to be settled twice in one transaction")]
    Repeated,
    /// A contract's key is none of this keyring: it is another seed's or network's.
    #[error("a contract is another gateway's")]
    Foreign,
    /// A recorded payment does not fit its contract, or nothing is to be settled.
    #[error("there is nothing that could be settled")]
    Nothing,
}

impl Settlement {
    /// Builds and signs the settlement of `members` at a fee rate.
    ///
    /// Each client's change stands at the index of its channel's input, because `SINGLE` binds
    /// the two: channels with change come first, exhausted ones next, the gateway's own output
    /// last. A share below dust is left to the fee where the change alone makes a transaction.
    ///
    /// # Errors
    /// [`SettlementError`] says why not.
    pub fn build(
        members: &[Member<'_>],
        keyring: &Keyring,
        payout: &Payout,
        rate: FeeRate,
    ) -> Result<Self, SettlementError> {
        let is_own = |Member { contract: Contract { terms, .. }, .. }: &Member<'_>| {
            keyring.terms(terms.kind, terms.client_key, terms.expiry) == *terms
        };
        if !members.iter().all(is_own) {
            return Err(SettlementError::Foreign);
        }
        let pairs = order(members)?;
        let paid = members
            .iter()
            .try_fold(Sat::ZERO, |sum, member| sum.checked_add(member.payment.paid()))
            .ok_or(SettlementError::Nothing)?;
        let mut transaction = unsigned(&pairs);
        let script_pubkey = payout.script().to_owned();
        transaction.output.push(TxOut { value: Amount::ZERO, script_pubkey });
        let fee_sat = fee(&transaction, &pairs, rate)?;
        let after_fee = |fee_sat| paid.checked_sub(Sat::new(fee_sat).ok()?);
        let share = match after_fee(fee_sat).filter(|share| *share >= payout.dust()) {
            Some(share) => {
                if let Some(own) = transaction.output.last_mut() {
                    own.value = share.to_amount();
                }
                share
            }
            None => {
                // Without an output of its own the gateway still gives the client its change.
                transaction.output.pop();
                let fee_sat = fee(&transaction, &pairs, rate)?;
                if transaction.output.is_empty() || after_fee(fee_sat).is_none() {
                    return Err(SettlementError::Uneconomic { paid, fee_sat });
                }
                Sat::ZERO
            }
        };
        sign(&mut transaction, &pairs, keyring);
        let fee = paid.checked_sub(share).ok_or(SettlementError::Nothing)?;
        Ok(Self { transaction, fee, share })
    }
}

/// A member and what its client has signed.
type Pair<'a> = (Member<'a>, Template);

/// Returns the members with change first, and the exhausted ones after them.
fn order<'a>(members: &[Member<'a>]) -> Result<Vec<Pair<'a>>, SettlementError> {
    let mut pairs = members
        .iter()
        .map(|member| {
            let template = member.contract.template(member.payment.paid());
            template.map(|template| (*member, template)).map_err(|_| SettlementError::Nothing)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if pairs.is_empty() {
        return Err(SettlementError::Nothing);
    }
    let outpoints: BTreeSet<_> = members.iter().map(|member| member.contract.outpoint).collect();
    if outpoints.len() < members.len() {
        return Err(SettlementError::Repeated);
    }
    pairs.sort_by_key(|(_, template)| template.change.is_none());
    Ok(pairs)
}

/// Returns the settlement with every client's change, without witnesses.
fn unsigned(pairs: &[Pair<'_>]) -> Transaction {
    Transaction {
        version: SETTLEMENT_VERSION,
        lock_time: LockTime::ZERO,
        input: pairs.iter().map(|(member, _)| input(member.contract.outpoint)).collect(),
        output: pairs.iter().filter_map(|(_, template)| template.change.clone()).collect(),
    }
}

/// Returns the fee of `transaction` once it is signed.
fn fee(
    transaction: &Transaction,
    pairs: &[Pair<'_>],
    rate: FeeRate,
) -> Result<u64, SettlementError> {
    let mut sized = transaction.clone();
    for (input, (member, template)) in sized.input.iter_mut().zip(pairs) {
        let client = client_signature(member, template);
        input.witness =
            member.contract.terms.settlement_witness(&client, &[0; GATEWAY_SIGNATURE_LEN]);
    }
    let vsize = u64::try_from(sized.vsize()).unwrap_or(u64::MAX);
    if vsize > SETTLEMENT_VSIZE_MAX {
        return Err(SettlementError::TooLarge { vsize });
    }
    Ok(rate.fee_vb(vsize).map_or(u64::MAX, Amount::to_sat))
}

/// Signs every input with `ALL`, so that nobody else can change the transaction.
fn sign(transaction: &mut Transaction, pairs: &[Pair<'_>], keyring: &Keyring) {
    let unsigned = transaction.clone();
    for (index, (input, (member, template))) in transaction.input.iter_mut().zip(pairs).enumerate()
    {
        let terms = &member.contract.terms;
        let key = keyring.channel_key(terms.kind, &terms.client_key, terms.expiry);
        let signature = key.sign_settlement(&unsigned, index, member.contract);
        let gateway = witness_signature(signature, EcdsaSighashType::All);
        input.witness = terms.settlement_witness(&client_signature(member, template), &gateway);
    }
}

/// Returns the client's signature as it stands in the witness.
fn client_signature(member: &Member<'_>, template: &Template) -> Vec<u8> {
    witness_signature(member.payment.payment().signature, template.flag())
}
