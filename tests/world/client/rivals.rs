//! How a client meets a settlement in the mempool: with a child that spends its change, or after T
//! with a refund that pays more.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Sequence, Transaction, TxIn, TxOut, Witness};

use super::{Client, Saved};
use crate::lies::other_script;
use crate::scene::Scene;

/// The size that a refund has at most, in vB.
const REFUND_VSIZE_MAX: u64 = 200;
/// What a child leaves for itself at least, in satoshi.
const CHILD_SAT_MIN: u64 = 294;

impl Client {
    /// After T, takes the money back although a settlement is in the mempool, by paying more.
    /// Tells whether it was done.
    pub(super) fn outbid(&self, saved: &Saved, scene: &mut Scene) -> bool {
        let contract = saved.contract();
        let mut chain = scene.chain.look();
        let is_due = chain.median_time_past() > u64::from(contract.terms.expiry.get());
        let Some((rival, family_fee)) = chain.rival(contract.outpoint).filter(|_| is_due) else {
            return false;
        };
        if rival.version != Version(3) || !scene.rng.one_in(2) {
            return false;
        }
        let Some(refund) = saved.refund() else { return false };
        let needed = family_fee.div_euclid(100) + 2 + scene.rng.below(6);
        let rate = FeeRate::from_sat_per_vb(needed.max(chain.floor)).unwrap();
        let Ok(transaction) = refund.transaction(&self.payout, rate, &saved.key) else {
            return false;
        };
        assert!(u64::try_from(transaction.vsize()).unwrap() < REFUND_VSIZE_MAX);
        let taken = chain.accept(&transaction);
        drop(chain);
        let number = self.number;
        scene.log.note(format!("client {number} outbids {}: {taken:?}", rival.compute_txid()));
        if taken.is_ok() {
            scene.mark("settlement evicted by a refund");
            if rival.input.len() > 1 {
                scene.mark("batch evicted by a refund");
            }
        }
        taken.is_ok()
    }

    /// Spends its change of a settlement that is in the mempool, for any fee: so the settlement
    /// costs more to replace. Tells whether it was done.
    pub(super) fn spend_change(&self, saved: &Saved, scene: &mut Scene) -> bool {
        let contract = saved.contract();
        let mut chain = scene.chain.look();
        let Some((parent, _)) = chain.rival(contract.outpoint) else { return false };
        let is_member = |input: &TxIn| input.previous_output == contract.outpoint;
        let index = parent.input.iter().position(is_member).unwrap();
        let script = self.payout.script();
        let change = parent.output.get(index).filter(|it| it.script_pubkey == *script);
        let is_plain = parent.version == Version(3) && !script.is_p2wsh();
        let Some(change) = change.filter(|_| is_plain) else { return false };
        if !scene.rng.one_in(3) {
            return false;
        }
        let fee = scene.rng.pick(&[200, 300, 500, 2_000, 8_000]);
        let Some(left) = change.value.to_sat().checked_sub(fee).filter(|it| *it >= CHILD_SAT_MIN)
        else {
            return false;
        };
        let vout = u32::try_from(index).unwrap();
        let padding = scene.rng.index(800);
        let child = Transaction {
            version: Version(3),
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint { txid: parent.compute_txid(), vout },
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::from_slice(&[vec![1; 71 + padding], vec![2; 33]]),
                ..TxIn::default()
            }],
            output: vec![TxOut { value: Amount::from_sat(left), script_pubkey: other_script() }],
        };
        let taken = chain.accept(&child);
        drop(chain);
        scene.log.note(format!("client {} spends its change: {taken:?}", self.number));
        if taken.is_ok() {
            scene.mark("child on a client's change");
        }
        taken.is_ok()
    }
}
