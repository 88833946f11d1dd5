//! What is planned for a closing channel, whatever a mempool has of it and whatever that costs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, Txid};
use farebox_channel::gateway::{
    Closing, Draft, Gateway, Market, Mempool, Plan, Rival, Spender, Step,
};
use farebox_channel::{Member, SETTLEMENT_VSIZE_MAX, Sat, Settlement, SettlementError, Timestamp};

use crate::bytes::Bytes;
use crate::channel::RATES;
use crate::parties::payout;

/// The greatest size of a rival with its child, in virtual bytes (`BIP-0431`).
const FAMILY_VSIZE_MAX: u64 = SETTLEMENT_VSIZE_MAX + 1_000;

/// What is done for a channel.
#[derive(Debug)]
pub(crate) enum Work {
    /// A settlement is built.
    Build(Arc<Settlement>),
    /// A settlement was handed to the node, and is mined.
    Mine(Arc<Settlement>),
    /// It is given up.
    WriteOff,
}

/// Plans for one channel, checks the plan, and carries it out.
pub(crate) fn play(
    closing: &Closing,
    gateway: &Gateway,
    now: Timestamp,
    bytes: &mut Bytes<'_>,
) -> Option<Work> {
    let rate = |bytes: &mut Bytes<'_>| FeeRate::from_sat_per_vb_u32(bytes.pick(&RATES));
    let (relaxed, floor) = (rate(bytes), FeeRate::BROADCAST_MIN);
    let urgent = rate(bytes).max(relaxed);
    let market = Market { relaxed, urgent, floor, increment: floor };
    let mempool = mempool(closing, bytes);
    let steps = Plan::new(&[closing], &mempool, &market, &gateway.rules, now).0;
    let again = Plan::new(&[closing], &mempool, &market, &gateway.rules, now).0;
    assert_eq!(steps, again, "it is pure");
    assert!(steps.len() <= 1, "one channel, and so much to do: {steps:?}");
    let step = steps.into_iter().next()?;
    assert!(closing.is_claimed(), "{step:?} of a channel that wants no settlement");
    match step {
        Step::Build(draft) => build(closing, gateway, &mempool, &market, &draft),
        Step::Broadcast(settlement) => {
            assert_eq!(Some(&settlement), closing.settlement.as_ref());
            Some(Work::Mine(settlement))
        }
        Step::WriteOff(outpoint) => {
            assert_eq!(outpoint, closing.account.contract.outpoint);
            assert_eq!(closing.height, None);
            assert!(now >= closing.account.contract.terms.expiry.timestamp());
            Some(Work::WriteOff)
        }
    }
}

/// What a mempool has of the contract: nothing, the channel's settlement, or another spending.
fn mempool(closing: &Closing, bytes: &mut Bytes<'_>) -> Mempool {
    let (by, txid) = match (bytes.byte() % 5, &closing.settlement) {
        (0 | 1, _) => return Mempool::default(),
        (2, Some(settlement)) => (Spender::Settlement, settlement.txid()),
        (3, _) => (Spender::Refund, Txid::from_byte_array([3; 32])),
        _ => (Spender::Settlement, Txid::from_byte_array([4; 32])),
    };
    let vsize = 100 + u64::from(bytes.byte());
    let fee = Sat::saturating(u64::from(bytes.number() % 200_000));
    let family_vsize = (vsize + u64::from(bytes.byte()) * 4).min(FAMILY_VSIZE_MAX);
    let child_fee = u64::from(bytes.number() % 200_000) * u64::from(family_vsize > vsize);
    let family_fee = Sat::saturating(fee.get() + child_fee);
    let rival = Rival { by, fee, vsize, family_fee, family_vsize };
    let spenders = BTreeMap::from([(closing.account.contract.outpoint, txid)]);
    Mempool { spenders, rivals: BTreeMap::from([(txid, rival)]) }
}

fn build(
    closing: &Closing,
    gateway: &Gateway,
    mempool: &Mempool,
    market: &Market,
    draft: &Draft,
) -> Option<Work> {
    let contract = closing.account.contract.as_ref();
    assert_eq!(draft.members, [contract.outpoint]);
    assert!(closing.height.is_some(), "its contract is in no block");
    let members = [Member { contract, payment: &closing.account.payment }];
    let payout = draft.payout.clone().unwrap_or_else(payout);
    let settlement = match Settlement::build(&members, &gateway.keyring, &payout, draft.fee) {
        Ok(settlement) => settlement,
        Err(SettlementError::Uneconomic { .. }) => {
            return draft.is_last_chance.then_some(Work::WriteOff);
        }
        Err(other) => panic!("{other}"),
    };
    let (vsize, fee) = (settlement.vsize(), settlement.fee.get());
    assert!(vsize <= SETTLEMENT_VSIZE_MAX);
    assert!(fee >= vsize, "it is not relayed");
    for rival in mempool.rivals.values() {
        let increment = market.increment.fee_vb(vsize).unwrap().to_sat();
        assert!(fee >= rival.family_fee.get() + increment, "it is no replacement");
        let is_higher = u128::from(fee) * u128::from(rival.vsize)
            > u128::from(rival.fee.get()) * u128::from(vsize);
        assert!(is_higher, "it pays a lower rate than what it replaces");
    }
    Some(Work::Build(Arc::new(settlement)))
}
