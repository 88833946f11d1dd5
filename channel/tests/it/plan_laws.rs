//! What holds of every plan, whatever closes, whatever a mempool has of it, whatever that costs.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, OutPoint, Txid};
use farebox_channel::gateway::{
    Channel, Closing, Draft, Input, Market, Mempool, Mined, Plan, Rival, Spender, Step,
};
use farebox_channel::{Contract, Fee, Kind, SETTLEMENT_VSIZE_MAX, SettlementError, Timestamp};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

use crate::support::settling::{build, cost, of_contract, put, rival, settle, waiting_rules};
use crate::support::{
    CAPACITY, EXPIRY, NOW, SETTLE, client_key, clock_at, contract, expiry, keyring, law, numbered,
    public, rate, sat,
};

/// A channel: its kind, its capacity, what part of it is paid, when it expires, and how it stands.
#[derive(Clone, Debug)]
struct Any {
    kind: Kind,
    capacity: u64,
    percent: u64,
    lives: u64,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    New,
    Unmined,
    Spent,
    GivenUp,
    /// It has a settlement with others of the same number.
    Settled(u8),
}

/// What a mempool has of a channel.
#[derive(Clone, Copy, Debug)]
enum Pooled {
    Nothing,
    Refund(u64),
    /// The settlement on record, with a child.
    Own(u64, u64),
    /// Another settlement of it and of its neighbours.
    Other(u64),
}

fn any_channel() -> impl Strategy<Value = Any> {
    let standing = prop_oneof![
        4 => Just(Standing::New),
        6 => (0..3_u8).prop_map(Standing::Settled),
        1 => Just(Standing::Unmined),
        1 => Just(Standing::Spent),
        1 => Just(Standing::GivenUp),
    ];
    let capacity = prop_oneof![600..3_000_u64, 3_000..2_000_000_u64];
    let percent = prop_oneof![Just(100), 0..=100_u64];
    let lives = select(vec![EXPIRY - 86_400, EXPIRY, EXPIRY + 3_600, EXPIRY + 864_000]);
    (select(Kind::ALL.to_vec()), capacity, percent, lives, standing).prop_map(
        |(kind, capacity, percent, lives, standing)| Any {
            kind,
            capacity,
            percent,
            lives,
            standing,
        },
    )
}

fn any_pooled() -> impl Strategy<Value = Pooled> {
    let fee = || prop_oneof![100..2_000_u64, 100..1_000_000_u64];
    prop_oneof![
        5 => Just(Pooled::Nothing),
        1 => fee().prop_map(Pooled::Refund),
        3 => (prop_oneof![Just(0), fee()], 0..1_000_u64).prop_map(|(fee, size)| Pooled::Own(fee, size)),
        1 => fee().prop_map(Pooled::Other),
    ]
}

fn any_market() -> impl Strategy<Value = Market> {
    let rates = (1..60_u64, 0..300_u64, 1..12_u64, 1..4_u64);
    rates.prop_map(|(relaxed, more, floor, increment)| Market {
        relaxed: rate(relaxed.max(floor)),
        urgent: rate(relaxed.max(floor) + more),
        floor: rate(floor),
        increment: rate(increment),
    })
}

/// Makes the channels, with their settlements.
fn make(all: &[Any]) -> Vec<Closing> {
    let one = |(number, any): (usize, &Any)| {
        let terms = keyring().terms(any.kind, public(&client_key()), expiry(any.lives));
        let outpoint = numbered(u16::try_from(number).unwrap());
        let capacity = sat(any.capacity);
        let contract = Contract { terms, outpoint, capacity, ..contract(any.kind) };
        let paid = contract.payable(sat(any.capacity * any.percent / 100)).unwrap();
        let closing = of_contract(contract, paid.get());
        match any.standing {
            Standing::New | Standing::Settled(_) => closing,
            Standing::Unmined => Closing { height: None, ..closing },
            Standing::GivenUp => Closing { is_written_off: true, ..closing },
            Standing::Spent => {
                let (txid, by) = (Txid::from_byte_array([6; 32]), Spender::Settlement);
                let mined = Mined { txid, height: 300, by, settled: paid };
                Closing { mined: Some(mined), ..closing }
            }
        }
    };
    let mut channels: Vec<_> = all.iter().enumerate().map(one).collect();
    for group in 0..3 {
        let is_in = |any: &&Any| any.standing == Standing::Settled(group);
        let members: Vec<&Closing> =
            all.iter().zip(&channels).filter(|(any, _)| is_in(any)).map(|(_, it)| it).collect();
        let Ok(settlement) = settle(&members, Fee::at(rate(u64::from(group) + 1))) else {
            continue;
        };
        let settlement = Arc::new(settlement);
        for (any, channel) in all.iter().zip(&mut channels) {
            if is_in(&any) {
                channel.settlement = Some(Arc::clone(&settlement));
            }
        }
    }
    channels
}

fn contract_of(channel: &Closing) -> OutPoint {
    channel.account.contract.outpoint
}

/// Makes a mempool: each transaction is there with all the contracts that it spends.
fn fill(channels: &[Closing], pooled: &[Pooled]) -> Mempool {
    let mut mempool = Mempool::default();
    for (number, (channel, pooled)) in (0_u8..).zip(channels.iter().zip(pooled)) {
        let is_free = |it: &&Closing| !mempool.spenders.contains_key(&contract_of(it));
        let txid = Txid::from_byte_array([number; 32]);
        if !is_free(&channel) || channel.mined.is_some() {
            continue;
        }
        match (pooled, &channel.settlement) {
            (Pooled::Refund(fee), _) => {
                put(&mut mempool, txid, rival(Spender::Refund, *fee, 150, (0, 0)), &[channel]);
            }
            (Pooled::Own(fee, size), Some(own)) => {
                let members: BTreeSet<_> = own.members().collect();
                let all: Vec<_> =
                    channels.iter().filter(|it| members.contains(&contract_of(it))).collect();
                if all.iter().all(is_free) {
                    let child = if *size == 0 { (0, 0) } else { (*fee, *size) };
                    let by = rival(Spender::Settlement, own.fee.get(), own.vsize(), child);
                    put(&mut mempool, own.txid(), by, &all);
                }
            }
            (Pooled::Other(fee), _) => {
                let next: Vec<_> = channels.iter().skip(usize::from(number)).take(3).collect();
                if next.iter().all(is_free) {
                    put(&mut mempool, txid, rival(Spender::Settlement, *fee, 400, (0, 0)), &next);
                }
            }
            (Pooled::Nothing, _) | (Pooled::Own(..), None) => {}
        }
    }
    mempool
}

/// Checks a draft, and returns whether a settlement can be built of it.
fn check_draft(draft: &Draft, channels: &[Closing], mempool: &Mempool, market: &Market) -> bool {
    let is_in = |it: &&Closing| draft.members.contains(&contract_of(it));
    let members: Vec<&Closing> = channels.iter().filter(is_in).collect();
    assert_eq!(members.len(), draft.members.len());
    for member in &members {
        assert!(member.is_claimed(), "it wants no settlement");
        assert!(member.height.is_some(), "its contract is in no block");
        assert!(!draft.dropped.contains(&contract_of(member)), "it is settled and dropped");
    }
    let settlement = match build(draft, channels) {
        Ok(settlement) => settlement,
        Err(SettlementError::Uneconomic { .. }) => return false,
        Err(other) => panic!("{other}"),
    };
    let (vsize, fee) = (settlement.vsize(), settlement.fee.get());
    let paid: u64 = members.iter().map(|it| it.account.payment.paid().get()).sum();
    assert!(vsize <= SETTLEMENT_VSIZE_MAX && fee <= paid);
    assert!(fee >= cost(market.floor, vsize), "it is not relayed");
    let spenders: BTreeSet<Txid> =
        members.iter().filter_map(|it| mempool.spenders.get(&contract_of(it)).copied()).collect();
    let rivals: Vec<Rival> = spenders.iter().map(|txid| mempool.rivals[txid]).collect();
    if rivals.is_empty() {
        return true;
    }
    let replaced: u64 = rivals.iter().map(|rival| rival.family_fee.get()).sum();
    assert!(fee >= replaced + cost(market.increment, vsize), "BIP-0125, rules 3 and 4");
    for rival in rivals {
        let is_greater = u128::from(fee) * u128::from(rival.vsize)
            > u128::from(rival.fee.get()) * u128::from(vsize);
        assert!(is_greater, "{fee} sat for {vsize} vB do not outbid {rival:?}");
    }
    true
}

#[test]
fn every_plan_can_be_carried_out_and_settles_nothing_twice() {
    let clocks = vec![
        NOW + 1,
        NOW + 600,
        NOW + 7_200,
        EXPIRY - 86_400,
        EXPIRY - SETTLE,
        EXPIRY - 7_200,
        EXPIRY,
        EXPIRY + 9_000,
        EXPIRY + 900_000,
    ];
    let channels = vec((any_channel(), any_pooled()), 1..14);
    law(400, (channels, any_market(), select(clocks)), |(all, market, seconds)| {
        let (all, pooled): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let channels = make(&all);
        let mempool = fill(&channels, &pooled);
        let refs: Vec<&Closing> = channels.iter().collect();
        let now = Timestamp::new(seconds);
        let plan = Plan::new(&refs, &mempool, &market, &waiting_rules(), now);
        let mut reversed = refs.clone();
        reversed.reverse();
        let other = Plan::new(&reversed, &mempool, &market, &waiting_rules(), now);
        assert_eq!(plan.0.len(), other.0.len(), "the order on record does not matter");
        let mut seen = BTreeSet::new();
        for step in &plan.0 {
            match step {
                Step::Build(draft) => {
                    check_draft(draft, &channels, &mempool, &market);
                    let settled = draft.members.iter().chain(&draft.dropped);
                    assert!(settled.copied().all(|it| seen.insert(it)), "it is in two steps");
                }
                Step::Broadcast(settlement) => {
                    assert!(settlement.members().all(|it| seen.insert(it)), "it is in two steps");
                }
                Step::WriteOff(outpoint) => {
                    let channel = refs.iter().find(|it| contract_of(it) == *outpoint).unwrap();
                    let expiry = channel.account.contract.terms.expiry.timestamp();
                    assert!(channel.is_claimed() && channel.height.is_none() && now >= expiry);
                }
            }
        }
    });
}

/// Carries a plan out as a node would that refuses everything, and returns what is on record then.
fn carry_out(plan: &Plan, channels: &[Closing]) -> Vec<Closing> {
    let mut after = channels.to_vec();
    let mut tell = |outpoint: OutPoint, input: Input| {
        let channel = after.iter_mut().find(|it| contract_of(it) == outpoint).unwrap();
        let told = Channel::Closing(channel.clone()).handle(clock_at(NOW), &waiting_rules(), input);
        let Ok(Channel::Closing(told)) = told else { panic!("{told:?}") };
        *channel = told;
    };
    for step in &plan.0 {
        match step {
            Step::Build(draft) => match build(draft, channels) {
                Ok(settlement) => {
                    let settlement = Arc::new(settlement);
                    for member in &draft.members {
                        tell(*member, Input::Settle(settlement.clone()));
                    }
                    for dropped in &draft.dropped {
                        tell(*dropped, Input::Withdraw);
                    }
                }
                Err(_) if draft.is_last_chance => {
                    tell(draft.members[0], Input::WriteOff);
                }
                Err(_) => {}
            },
            Step::Broadcast(_) => {}
            Step::WriteOff(outpoint) => tell(*outpoint, Input::WriteOff),
        }
    }
    after
}

#[test]
fn the_same_facts_again_have_nothing_built_for_ever() {
    // The node refuses all that it is given, so its mempool stays as it is.
    let clocks = vec![NOW + 7_200, EXPIRY - SETTLE, EXPIRY - 7_200, EXPIRY, EXPIRY + 900_000];
    let channels = vec((any_channel(), any_pooled()), 1..10);
    law(200, (channels, any_market(), select(clocks)), |(all, market, seconds)| {
        let (all, pooled): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let mut channels = make(&all);
        let mempool = fill(&channels, &pooled);
        for round in 0.. {
            let refs: Vec<&Closing> = channels.iter().collect();
            let now = Timestamp::new(seconds);
            let plan = Plan::new(&refs, &mempool, &market, &waiting_rules(), now);
            let after = carry_out(&plan, &channels);
            if after == channels {
                break;
            }
            assert!(round < 5, "{:?}", plan.0);
            channels = after;
        }
    });
}

#[test]
fn a_channel_is_due_exactly_from_its_mark() {
    let seconds = prop_oneof![NOW..EXPIRY + 100, EXPIRY - SETTLE - 1_300..EXPIRY - SETTLE + 10];
    law(
        300,
        (seconds, any::<bool>(), any::<bool>(), 0..90_000_u32),
        |(at, is_open, is_idle, idle)| {
            let kind = Kind::Cltv;
            let channel =
                if is_open { crate::support::open(kind) } else { crate::support::pending(kind) };
            let mut rules = waiting_rules();
            rules.settling.idle = is_idle.then_some(farebox_channel::Seconds::new(idle));
            let mark = channel.mark(&rules).unwrap();
            for seconds in [at, mark.get(), mark.get() - 1] {
                let clock = clock_at(seconds);
                assert_eq!(channel.due(clock, &rules).is_some(), clock.now() >= mark);
            }
        },
    );
}

#[test]
fn amounts_at_their_bounds_saturate_nothing() {
    let most = FeeRate::from_sat_per_kwu(u64::MAX / 1_000_000);
    let rich = Contract { capacity: farebox_channel::Sat::MAX, ..contract(Kind::Cltv) };
    let other = Contract { outpoint: numbered(2), ..rich.clone() };
    let channels =
        [of_contract(rich, CAPACITY), of_contract(other, farebox_channel::Sat::MAX.get())];
    let refs: Vec<&Closing> = channels.iter().collect();
    for urgent in [rate(1), most, FeeRate::MAX] {
        let market = Market { relaxed: rate(1), urgent, floor: rate(1), increment: rate(1) };
        for seconds in [NOW + 600, EXPIRY - SETTLE, EXPIRY] {
            let now = Timestamp::new(seconds);
            for step in Plan::new(&refs, &Mempool::default(), &market, &waiting_rules(), now).0 {
                let Step::Build(draft) = step else { panic!("{step:?}") };
                check_draft(&draft, &channels, &Mempool::default(), &market);
            }
        }
    }
}
