//! Closing channels by number, a mempool with rivals, and what is planned for them.

use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, Txid};
use farebox_channel::gateway::{
    Account, Cause, Closing, Draft, Market, Mempool, Plan, Rival, Rules, Settling, Spender, Step,
};
use farebox_channel::{
    Contract, Fee, Kind, Member, Seconds, Settlement, SettlementError, Timestamp,
};

use super::{NOW, contract, expiry, keyring, numbered, p2wpkh, paid, rate, rules, sat};

/// How long channels wait for others here, in seconds.
pub(crate) const WAIT: u64 = 600;
/// How many channels do not wait any longer here.
pub(crate) const MOST: usize = 50;
/// How long before the expiry a fee goes toward what is at stake here, in seconds.
pub(crate) const EMERGENCY: u64 = 14_400;

/// Rules under which channels wait for each other.
pub(crate) fn waiting_rules() -> Rules {
    let settling = Settling {
        emergency: Seconds::new(u32::try_from(EMERGENCY).unwrap()),
        stake_percent: 50,
        wait: Seconds::new(u32::try_from(WAIT).unwrap()),
        most: MOST,
        idle: None,
    };
    Rules { settling, ..rules() }
}

/// Fee rates in sat/vB: of what has time, and of what has none.
pub(crate) fn fees(relaxed: u64, urgent: u64) -> Market {
    let one = rate(1);
    Market { relaxed: rate(relaxed), urgent: rate(urgent), floor: one, increment: one }
}

/// The channel number `number`, which has paid so much, and closes now.
pub(crate) fn closing(kind: Kind, number: u16, paid_sat: u64) -> Closing {
    of_contract(Contract { outpoint: numbered(number), ..contract(kind) }, paid_sat)
}

/// The same with another expiry.
pub(crate) fn expiring(number: u16, paid_sat: u64, seconds: u64) -> Closing {
    let at = expiry(seconds);
    let kind = Kind::Cltv;
    let terms = keyring().terms(kind, contract(kind).terms.client_key, at);
    of_contract(Contract { terms, outpoint: numbered(number), ..contract(kind) }, paid_sat)
}

pub(crate) fn of_contract(contract: Contract, paid_sat: u64) -> Closing {
    let payment = paid(&contract, paid_sat);
    let account = Account {
        contract: contract.into(),
        payment,
        spent: payment.paid().to_msat(),
        least: payment.paid(),
        is_stale: false,
        used_at: Timestamp::new(NOW),
        coins: Default::default(),
    };
    Closing {
        account,
        cause: Cause::Client,
        since: Timestamp::new(NOW),
        height: Some(201),
        settlement: None,
        mined: None,
        is_written_off: false,
    }
}

/// The settlement of channels for a fee.
pub(crate) fn settle(channels: &[&Closing], fee: Fee) -> Result<Settlement, SettlementError> {
    let members: Vec<_> = channels
        .iter()
        .map(|it| Member { contract: &it.account.contract, payment: &it.account.payment })
        .collect();
    Settlement::build(&members, &keyring(), &p2wpkh(), fee)
}

/// The same channels, once they are settled together at so many sat/vB.
pub(crate) fn settled(channels: &[Closing], sat_per_vb: u64) -> Vec<Closing> {
    let all: Vec<&Closing> = channels.iter().collect();
    let settlement = std::sync::Arc::new(settle(&all, Fee::at(rate(sat_per_vb))).unwrap());
    let take = |it: &Closing| Closing { settlement: Some(settlement.clone()), ..it.clone() };
    channels.iter().map(take).collect()
}

/// The settlement of a channel that has one.
pub(crate) fn built(channel: &Closing) -> std::sync::Arc<Settlement> {
    channel.settlement.clone().unwrap()
}

/// What is planned at a time.
pub(crate) fn plan_with(
    channels: &[Closing],
    mempool: &Mempool,
    market: &Market,
    seconds: u64,
) -> Vec<Step> {
    let all: Vec<&Closing> = channels.iter().collect();
    let now = Timestamp::new(seconds);
    let plan = Plan::new(&all, mempool, market, &waiting_rules(), now);
    assert_eq!(plan, Plan::new(&all, mempool, market, &waiting_rules(), now), "it is pure");
    plan.0
}

/// What is planned at a time while nothing of it is in the mempool.
pub(crate) fn plan(channels: &[Closing], market: &Market, seconds: u64) -> Vec<Step> {
    plan_with(channels, &Mempool::default(), market, seconds)
}

/// The drafts of a plan.
pub(crate) fn drafts(steps: &[Step]) -> Vec<&Draft> {
    let mut drafts = vec![];
    for step in steps {
        if let Step::Build(draft) = step {
            drafts.push(draft);
        }
    }
    drafts
}

/// The only draft of a plan that has nothing else.
pub(crate) fn only_draft(steps: &[Step]) -> &Draft {
    let [Step::Build(draft)] = steps else { panic!("{steps:?}") };
    draft
}

/// Builds a draft.
pub(crate) fn build(draft: &Draft, channels: &[Closing]) -> Result<Settlement, SettlementError> {
    let find = |member: &bitcoin::OutPoint| {
        channels.iter().find(|it| it.account.contract.outpoint == *member)
    };
    let members: Vec<&Closing> = draft.members.iter().map(|it| find(it).unwrap()).collect();
    settle(&members, draft.fee)
}

/// The fee rate of a settlement in sat/vB, rounded down.
pub(crate) fn rate_of(settlement: &Settlement) -> u64 {
    settlement.fee.get() / settlement.vsize()
}

/// A transaction in the mempool, with a child where that has a fee and a size.
pub(crate) fn rival(by: Spender, fee: u64, vsize: u64, child: (u64, u64)) -> Rival {
    let (family_fee, family_vsize) = (sat(fee + child.0), vsize + child.1);
    Rival { by, fee: sat(fee), vsize, family_fee, family_vsize }
}

/// Puts a transaction into a mempool, which spends the contracts of channels.
pub(crate) fn put(mempool: &mut Mempool, txid: Txid, rival: Rival, channels: &[&Closing]) {
    mempool.rivals.insert(txid, rival);
    let contracts = channels.iter().map(|it| (it.account.contract.outpoint, txid));
    mempool.spenders.extend(contracts);
}

/// A mempool that has a settlement, with a child of it.
pub(crate) fn pooled(settlement: &Settlement, channels: &[Closing], child: (u64, u64)) -> Mempool {
    let mut mempool = Mempool::default();
    let (fee, vsize) = (settlement.fee.get(), settlement.vsize());
    let rival = rival(Spender::Settlement, fee, vsize, child);
    put(&mut mempool, settlement.txid(), rival, &channels.iter().collect::<Vec<_>>());
    mempool
}

/// A mempool that has a refund of one channel.
pub(crate) fn refunded(channel: &Closing, fee: u64) -> Mempool {
    let mut mempool = Mempool::default();
    let rival = rival(Spender::Refund, fee, 150, (0, 0));
    put(&mut mempool, Txid::from_byte_array([0xaa; 32]), rival, &[channel]);
    mempool
}

/// What a rate costs for a size, rounded up.
pub(crate) fn cost(rate: FeeRate, vsize: u64) -> u64 {
    rate.fee_vb(vsize).unwrap().to_sat()
}
