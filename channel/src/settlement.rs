//! The settlement: one transaction that closes channels and pays both sides.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, EcdsaSighashType, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use thiserror::Error;

use crate::contract::Contract;
use crate::keys::Keyring;
use crate::payment::{SETTLEMENT_VERSION, Template, VerifiedPayment, input, witness_signature};
use crate::payout::{DUST_MAX, Payout};
use crate::units::Sat;

/// The greatest size of a version 3 transaction (`BIP-0431`).
pub const SETTLEMENT_VSIZE_MAX: u64 = 10_000;
/// More channels than fit into one settlement: each adds more than 90 vB to it.
const MEMBERS_MAX: usize = 110;
/// The length of the longest output script that is taken: P2WSH and P2TR.
const OWN_SCRIPT_LEN_MAX: usize = 34;
/// The size of a transaction without inputs and outputs, in virtual bytes, rounded down.
const SKELETON_VSIZE: u64 = 10;
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

/// What a settlement pays the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fee {
    /// The fee rate.
    pub rate: FeeRate,
    /// The least fee, whatever the rate.
    pub least: Sat,
    /// What is paid on the settlement's own size on top of `replaced` (`BIP-0125`).
    pub increment: FeeRate,
    /// The fees of all that it takes the place of in a mempool, with their children.
    pub replaced: Sat,
}

impl Fee {
    /// Pays a rate, and replaces nothing.
    #[must_use]
    pub const fn at(rate: FeeRate) -> Self {
        Self { rate, least: Sat::ZERO, increment: FeeRate::ZERO, replaced: Sat::ZERO }
    }

    /// Returns the fee of a transaction of `vsize` virtual bytes.
    #[must_use]
    pub fn of(&self, vsize: u64) -> u64 {
        let sat = |rate: FeeRate| rate.fee_vb(vsize).map_or(u64::MAX, Amount::to_sat);
        let over_replaced = match self.replaced {
            Sat::ZERO => 0,
            replaced => replaced.get().saturating_add(sat(self.increment)),
        };
        sat(self.rate).max(self.least.get()).max(over_replaced)
    }
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
    /// Builds and signs the settlement of `members`.
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
        fee: Fee,
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
        let fee_sat = fee.of(relayed_size(&transaction, &pairs)?);
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
                let fee_sat = fee.of(relayed_size(&transaction, &pairs)?);
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

    /// Recognises a settlement on the chain by the contracts that it spends, whoever has built it.
    ///
    /// Returns nothing when it spends anything else too: then its fee is not known.
    #[must_use]
    pub fn recognise(transaction: &Transaction, contracts: &[Arc<Contract>]) -> Option<Self> {
        let is_whole = contracts.len() == transaction.input.len();
        if !is_whole || transaction.version != SETTLEMENT_VERSION {
            return None;
        }
        let mut locked = Sat::ZERO;
        let mut paid = Sat::ZERO;
        for contract in contracts {
            locked = locked.checked_add(contract.capacity)?;
            paid = paid.checked_add(settled(contract, transaction)?)?;
        }
        let given = transaction.output.iter().map(|output| output.value).sum::<Amount>();
        let fee = locked.checked_sub(Sat::try_from(given).ok()?)?;
        let share = paid.checked_sub(fee)?;
        Some(Self { transaction: transaction.clone(), fee, share })
    }

    /// Returns the transaction's id.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.transaction.compute_txid()
    }

    /// Returns the contracts that are settled.
    pub fn members(&self) -> impl Iterator<Item = OutPoint> + '_ {
        self.transaction.input.iter().map(|input| input.previous_output)
    }

    /// Returns the size in virtual bytes.
    #[must_use]
    pub fn vsize(&self) -> u64 {
        u64::try_from(self.transaction.vsize()).unwrap_or(u64::MAX)
    }

    /// Returns where the gateway's share goes, if there is any.
    #[must_use]
    pub fn payout(&self) -> Option<Payout> {
        let own = self.transaction.output.last().filter(|_| self.share > Sat::ZERO)?;
        Payout::new(own.script_pubkey.clone()).ok()
    }
}

/// Returns what a transaction on the chain takes of a contract for the gateway, if it is a
/// settlement: the flag of the client's signature says whether it returns change, and the change
/// stands at the index of its input.
pub(crate) fn settled(contract: &Contract, transaction: &Transaction) -> Option<Sat> {
    let spends = |input: &bitcoin::TxIn| input.previous_output == contract.outpoint;
    let index = transaction.input.iter().position(spends)?;
    let witness = &transaction.input.get(index)?.witness;
    let has_flag = |flag: EcdsaSighashType| {
        let flag = u8::try_from(flag.to_u32()).ok();
        witness.iter().any(|element| element.last().copied() == flag)
    };
    if has_flag(EcdsaSighashType::NonePlusAnyoneCanPay) {
        return Some(contract.capacity);
    }
    if !has_flag(EcdsaSighashType::SinglePlusAnyoneCanPay) {
        return None;
    }
    let change = Sat::try_from(transaction.output.get(index)?.value).ok()?;
    contract.capacity.checked_sub(change)
}

/// Returns an output as large as any that takes the gateway's share.
fn largest_own() -> TxOut {
    let script_pubkey = ScriptBuf::from_bytes(vec![0; OWN_SCRIPT_LEN_MAX]);
    TxOut { value: Amount::ZERO, script_pubkey }
}

/// Returns how many of `members`, from the first on, fit into one settlement that is relayed, and
/// whose share is an amount.
pub(crate) fn fitting(members: &[Member<'_>]) -> usize {
    // However many wait, only so many are tried.
    let members = members.get(..MEMBERS_MAX).unwrap_or(members);
    let fits = |count: usize| {
        let Some(Ok(pairs)) = members.get(..count).map(order) else { return false };
        let mut transaction = unsigned(&pairs);
        transaction.output.push(largest_own());
        let mut paid = pairs.iter().map(|(member, _)| member.payment.paid());
        let is_amount = paid.try_fold(Sat::ZERO, Sat::checked_add).is_some();
        is_amount && size(&transaction, &pairs) <= SETTLEMENT_VSIZE_MAX
    };
    let (mut fitting, mut beyond) = (0_usize, members.len().saturating_add(1));
    while fitting.saturating_add(1) < beyond {
        let middle = fitting.midpoint(beyond);
        if fits(middle) { fitting = middle } else { beyond = middle }
    }
    fitting
}

/// Tells whether `members` can pay a fee rate together, if only by leaving the gateway no output.
pub(crate) fn carry(members: &[Member<'_>], rate: FeeRate) -> bool {
    let Ok(pairs) = order(members) else { return false };
    let paid: u64 = pairs.iter().map(|(member, _)| member.payment.paid().get()).sum();
    let mut transaction = unsigned(&pairs);
    let mut own = Sat::ZERO;
    if transaction.output.is_empty() {
        // Without any change there has to be another output.
        transaction.output.push(largest_own());
        own = DUST_MAX;
    }
    let fee = Fee::at(rate).of(size(&transaction, &pairs));
    paid >= fee.saturating_add(own.get())
}

impl Member<'_> {
    /// Returns by how much the channel makes a settlement larger, in virtual bytes, rounded up.
    pub(crate) fn marginal_vsize(&self) -> Option<u64> {
        let pair = (*self, self.contract.template(self.payment.paid()).ok()?);
        let alone = size(&unsigned(std::slice::from_ref(&pair)), std::slice::from_ref(&pair));
        Some(alone.saturating_sub(SKELETON_VSIZE))
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

/// Returns the size of `transaction` in virtual bytes once it is signed.
fn size(transaction: &Transaction, pairs: &[Pair<'_>]) -> u64 {
    let mut sized = transaction.clone();
    for (input, (member, template)) in sized.input.iter_mut().zip(pairs) {
        let client = client_signature(member, template);
        input.witness =
            member.contract.terms.settlement_witness(&client, &[0; GATEWAY_SIGNATURE_LEN]);
    }
    u64::try_from(sized.vsize()).unwrap_or(u64::MAX)
}

/// Returns that size, unless it is too large to be relayed.
fn relayed_size(transaction: &Transaction, pairs: &[Pair<'_>]) -> Result<u64, SettlementError> {
    match size(transaction, pairs) {
        vsize if vsize > SETTLEMENT_VSIZE_MAX => Err(SettlementError::TooLarge { vsize }),
        vsize => Ok(vsize),
    }
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
