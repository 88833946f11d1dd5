//! What is paid to be mined, and when a settlement takes the place of another.

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use farebox_channel::gateway::{Closing, Market, Mempool, Spender, Step};
use farebox_channel::{Fee, Kind, Settlement};

use crate::support::settling::{
    EMERGENCY, WAIT, build, built, closing, cost, fees, only_draft, plan, plan_with, pooled, put,
    rate_of, refunded, rival, settle, settled,
};
use crate::support::{CAPACITY, EXPIRY, NOW, SETTLE, rate, sat};

/// When a settlement that was built at once has lingered.
const LINGERED: u64 = NOW + WAIT + 3_600;

/// Two channels that are settled together at so many sat/vB.
fn pair(sat_per_vb: u64) -> Vec<Closing> {
    let both = [closing(Kind::Cltv, 1, 40_000), closing(Kind::Refund, 2, 40_000)];
    settled(&both, sat_per_vb)
}

/// What takes the place of the settlement of `channels`, which is in the mempool with a child.
fn replacement(
    channels: &[Closing],
    child: (u64, u64),
    market: &Market,
    seconds: u64,
) -> Option<Settlement> {
    let mempool = pooled(&built(&channels[0]), channels, child);
    let steps = plan_with(channels, &mempool, market, seconds);
    if steps.is_empty() {
        return None;
    }
    let draft = only_draft(&steps);
    assert_eq!(draft.members.len(), channels.len());
    assert_eq!(draft.payout, built(&channels[0]).payout(), "the same address");
    Some(build(draft, channels).unwrap())
}

#[test]
fn a_settlement_that_lingers_is_bumped_to_the_rate_of_the_next_blocks() {
    let pair = pair(2);
    assert_eq!(replacement(&pair, (0, 0), &fees(2, 20), LINGERED - 1), None);
    let bumped = replacement(&pair, (0, 0), &fees(2, 20), LINGERED).unwrap();
    assert_eq!(rate_of(&bumped), 20);
}

#[test]
fn a_batch_is_bumped_at_once_when_a_member_is_at_its_settle_mark() {
    let since = farebox_channel::Timestamp::new(EXPIRY - SETTLE - WAIT);
    let pair: Vec<_> = pair(2).into_iter().map(|it| Closing { since, ..it }).collect();
    assert_eq!(replacement(&pair, (0, 0), &fees(2, 20), EXPIRY - SETTLE - 1), None);
    let bumped = replacement(&pair, (0, 0), &fees(2, 20), EXPIRY - SETTLE).unwrap();
    assert_eq!(rate_of(&bumped), 20);
}

#[test]
fn a_settlement_that_is_not_mined_near_the_expiry_costs_a_part_of_what_is_at_stake() {
    let pair = pair(20);
    let at = |seconds| replacement(&pair, (0, 0), &fees(2, 20), seconds).map(|it| it.fee.get());
    assert_eq!(at(EXPIRY - EMERGENCY), None);
    assert_eq!(at(EXPIRY - EMERGENCY / 2), Some(20_000), "a half of 50 % of 80,000 sat");
    assert_eq!(at(EXPIRY), Some(40_000));
    assert_eq!(at(EXPIRY + 1_000_000), Some(40_000));
}

#[test]
fn a_fee_rises_by_a_quarter_at_least() {
    let pair = pair(16);
    let at = |urgent| replacement(&pair, (0, 0), &fees(2, urgent), LINGERED).map(|it| rate_of(&it));
    assert_eq!(at(19), None);
    assert_eq!(at(21), Some(21));
}

#[test]
fn a_fee_rate_takes_no_more_than_a_part_of_what_is_paid() {
    let pair = pair(2);
    let bumped = replacement(&pair, (0, 0), &fees(2, 10_000), LINGERED).unwrap();
    assert_eq!(bumped.fee, sat(40_000));
}

#[test]
fn a_replacement_pays_for_all_that_it_evicts_and_for_its_own_size() {
    // A child with little more than the rate of its parent, so that both are worth a bump.
    let pair = pair(2);
    let old = built(&pair[0]);
    let child = (2_500, 1_000);
    let increment = rate(3);
    let market = Market { increment, ..fees(2, 20) };
    let bumped = replacement(&pair, child, &market, LINGERED).unwrap();
    let least = old.fee.get() + child.0 + cost(increment, bumped.vsize());
    assert!(bumped.fee.get() >= least);
    // What is paid for is the size after signing, to the satoshi.
    let needed = old.fee.get() + child.0 + cost(increment, old.vsize());
    let exact = Fee { replaced: sat(old.fee.get() + child.0), increment, ..Fee::at(rate(1)) };
    let members: Vec<&Closing> = pair.iter().collect();
    assert_eq!(settle(&members, exact).unwrap().fee.get(), needed);
}

#[test]
fn a_child_that_pays_enough_for_both_stops_the_bump() {
    let pair = pair(2);
    let vsize = built(&pair[0]).vsize() + 200;
    let enough = cost(rate(20), vsize);
    let child = |family: u64| (family - built(&pair[0]).fee.get(), 200);
    assert_eq!(replacement(&pair, child(enough + vsize), &fees(2, 20), LINGERED), None);
    assert!(replacement(&pair, child(enough - 10 * vsize), &fees(2, 20), LINGERED).is_some());
}

#[test]
fn a_child_that_pins_with_a_great_fee_is_paid_for_only_where_that_is_worth_it() {
    // 1,000 vB at 30 sat/vB: the family's rate is below the urgent one, its fee above what it costs.
    let pair = pair(2);
    let child = (14_000, 1_000);
    let market = fees(2, 20);
    assert_eq!(replacement(&pair, child, &market, LINGERED), None);
    let later = replacement(&pair, child, &market, EXPIRY).unwrap();
    assert!(later.fee.get() >= built(&pair[0]).fee.get() + child.0 + later.vsize());
    assert_eq!(later.fee, sat(40_000));
    assert_eq!(replacement(&pair, (60_000, 1_000), &market, EXPIRY), None, "more than the stake");
}

#[test]
fn an_older_settlement_in_the_mempool_is_replaced_by_the_newer_one_on_record() {
    // The gateway ended between the save and the broadcast.
    let (older, newer) = (pair(2), pair(4));
    let mempool = pooled(&built(&older[0]), &newer, (0, 0));
    let steps = plan_with(&newer, &mempool, &fees(2, 4), NOW + WAIT);
    assert_eq!(steps, [Step::Broadcast(built(&newer[0]))]);
    // A child of the older one makes that impossible, so it waits until a greater fee is worth it.
    let mempool = pooled(&built(&older[0]), &newer, (5_000, 300));
    assert_eq!(plan_with(&newer, &mempool, &fees(2, 4), NOW + WAIT), []);
    let steps = plan_with(&newer, &mempool, &fees(2, 60), LINGERED);
    let settlement = build(only_draft(&steps), &newer).unwrap();
    assert!(settlement.fee.get() >= built(&older[0]).fee.get() + 5_000 + settlement.vsize());
}

#[test]
fn a_settlement_below_what_is_relayed_is_built_anew() {
    let pair = pair(2);
    let market = Market { floor: rate(5), ..fees(5, 5) };
    let steps = plan(&pair, &market, NOW);
    let settlement = build(only_draft(&steps), &pair).unwrap();
    assert_eq!(rate_of(&settlement), 5);
    let again =
        pair.iter().map(|it| Closing { settlement: Some(settlement.clone().into()), ..it.clone() });
    let again: Vec<_> = again.collect();
    assert_eq!(plan(&again, &market, NOW), [Step::Broadcast(built(&again[0]))], "and only once");
}

#[test]
fn a_refund_is_outbid_while_that_is_worth_it() {
    for channel in [closing(Kind::Cltv, 1, 40_000), closing(Kind::Refund, 1, CAPACITY)] {
        let paid = channel.account.payment.paid().get();
        let one = [channel];
        let contest = |fee| {
            let steps = plan_with(&one, &refunded(&one[0], fee), &fees(1, 1), EXPIRY);
            (!steps.is_empty()).then(|| build(only_draft(&steps), &one).unwrap().fee.get())
        };
        assert_eq!(contest(300), Some(paid / 2));
        assert_eq!(contest(paid / 2 * 150 / 190), Some(paid / 2), "at a greater rate too");
        assert_eq!(contest(paid / 2 - 100), None, "a half of what is paid is not worth more");
    }
}

#[test]
fn a_refund_is_not_contested_before_the_settle_mark() {
    let one = [closing(Kind::Cltv, 1, 40_000)];
    assert_eq!(plan_with(&one, &refunded(&one[0], 300), &fees(1, 1), NOW + WAIT), []);
}

#[test]
fn an_exhausted_channel_can_be_settled_at_its_expiry_whatever_part_is_at_stake() {
    let mut rules = crate::support::settling::waiting_rules();
    rules.settling.stake_percent = 100;
    for paid in [CAPACITY, 40_000] {
        let one = closing(Kind::Refund, 1, paid);
        let now = farebox_channel::Timestamp::new(EXPIRY);
        let steps = farebox_channel::gateway::Plan::new(
            &[&one],
            &Mempool::default(),
            &fees(1, 1),
            &rules,
            now,
        );
        let settlement = build(only_draft(&steps.0), &[one]).unwrap();
        assert!(settlement.share.get() >= 546);
    }
}

#[test]
fn a_rebuilt_batch_pays_more_than_the_older_one_that_it_evicts() {
    // The newer settlement was never sent; an older one of the free member is in the mempool.
    let three = settled(&[1, 2, 3].map(|number| closing(Kind::Cltv, number, 40_000)), 4);
    let mut mempool = refunded(&three[2], 9_000);
    let txid = Txid::from_byte_array([5; 32]);
    let older = rival(Spender::Settlement, 2_000, 300, (1_500, 500));
    put(&mut mempool, txid, older, &[&three[0], &three[1]]);
    let steps = plan_with(&three, &mempool, &fees(2, 20), NOW);
    let settlement = build(only_draft(&steps), &three).unwrap();
    assert!(settlement.fee.get() >= 3_500 + settlement.vsize());
    assert!(settlement.fee.get() * 300 > 2_000 * settlement.vsize());
}

#[test]
fn a_channel_is_not_given_up_for_an_urgent_rate_that_it_could_do_without() {
    // 170 vB cost 17,000 sat to be mined at once, and 1,700 sat to be mined in time.
    let fee = |paid| {
        let one = [closing(Kind::Cltv, 1, paid)];
        let steps = plan(&one, &fees(10, 100), EXPIRY - SETTLE);
        build(only_draft(&steps), &one).map(|settlement| settlement.fee.get())
    };
    assert!((16_500..=17_200).contains(&fee(90_000).unwrap()));
    assert!((9_000..=10_000).contains(&fee(20_000).unwrap()), "half of what it brings");
    assert!((1_650..=1_720).contains(&fee(2_100).unwrap()));
    assert!(fee(1_300).is_err());
}
