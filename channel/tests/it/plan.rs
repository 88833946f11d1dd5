//! What is settled when, and together with whom.

use farebox_channel::gateway::{
    Cause, Channel, Closing, Draft, Input, Mempool, Mined, Spender, Step,
};
use farebox_channel::{Fee, Kind, SETTLEMENT_VSIZE_MAX, SettlementError};

use crate::support::settling::{
    EMERGENCY, MOST, WAIT, build, built, closing, drafts, expiring, fees, only_draft, plan,
    plan_with, pooled, put, rate_of, refunded, rival, settle, settled, waiting_rules,
};
use crate::support::{CAPACITY, EXPIRY, NOW, SETTLE, clock_at, open, outpoint, rate, sat};

/// Channels with these numbers, which have paid enough.
fn some(numbers: std::ops::Range<u16>) -> Vec<Closing> {
    numbers.map(|number| closing(Kind::Cltv, number, 40_000)).collect()
}

fn contract(channel: &Closing) -> bitcoin::OutPoint {
    channel.account.contract.outpoint
}

fn contracts(channels: &[Closing]) -> Vec<bitcoin::OutPoint> {
    channels.iter().map(contract).collect()
}

#[test]
fn the_gateway_closes_two_waits_before_the_settlement_goes_out() {
    let channel = open(Kind::Cltv);
    let mark = EXPIRY - SETTLE - 2 * WAIT;
    assert_eq!(channel.due(clock_at(mark - 1), &waiting_rules()), None);
    assert_eq!(channel.due(clock_at(mark), &waiting_rules()), Some(Cause::Expiring));
    assert_eq!(channel.mark(&waiting_rules()).unwrap().get(), mark);
}

#[test]
fn channels_wait_for_others_to_the_second() {
    let three = some(1..4);
    assert_eq!(plan(&three, &fees(2, 20), NOW), []);
    assert_eq!(plan(&three, &fees(2, 20), NOW + WAIT - 1), []);
    let steps = plan(&three, &fees(2, 20), NOW + WAIT);
    let draft = only_draft(&steps);
    assert_eq!(draft.members, contracts(&three));
    assert_eq!((draft.dropped.len(), &draft.payout, draft.is_last_chance), (0, &None, false));
    assert_eq!(rate_of(&build(draft, &three).unwrap()), 2);
}

#[test]
fn nobody_waits_when_many_are_there_or_the_first_has_waited() {
    let most = u16::try_from(MOST).unwrap();
    assert_eq!(plan(&some(0..most - 1), &fees(2, 20), NOW), []);
    assert_eq!(only_draft(&plan(&some(0..most), &fees(2, 20), NOW)).members.len(), MOST);
    let mut two = some(1..3);
    two[0].since = farebox_channel::Timestamp::new(NOW - WAIT);
    assert_eq!(only_draft(&plan(&two, &fees(2, 20), NOW)).members, contracts(&two));
}

#[test]
fn a_channel_goes_alone_and_urgently_from_its_settle_mark_on() {
    let (late, other) = (closing(Kind::Cltv, 1, 40_000), expiring(2, 40_000, EXPIRY + 86_400));
    let since = farebox_channel::Timestamp::new(EXPIRY - SETTLE - WAIT + 1);
    let both = [late, other].map(|channel| Closing { since, ..channel });
    assert_eq!(plan(&both, &fees(2, 20), EXPIRY - SETTLE - 1), []);
    let steps = plan(&both, &fees(2, 20), EXPIRY - SETTLE);
    let draft = only_draft(&steps);
    assert_eq!(draft.members, [contract(&both[0])]);
    assert!(draft.is_last_chance);
    assert_eq!(rate_of(&build(draft, &both).unwrap()), 20);
}

#[test]
fn the_fee_goes_toward_what_is_at_stake_from_the_emergency_mark_to_the_expiry() {
    let one = [closing(Kind::Cltv, 1, 40_000)];
    let fee = |seconds| {
        let steps = plan(&one, &fees(1, 1), seconds);
        build(only_draft(&steps), &one).unwrap().fee.get()
    };
    let least = fee(EXPIRY - EMERGENCY - 1);
    assert!(least < 200);
    assert_eq!(fee(EXPIRY - EMERGENCY), least);
    assert_eq!(fee(EXPIRY - EMERGENCY / 2), 10_000, "a half of 50 %");
    assert_eq!(fee(EXPIRY - EMERGENCY / 4), 15_000);
    assert!((19_990..20_000).contains(&fee(EXPIRY - 1)));
    assert_eq!([EXPIRY, EXPIRY + 1, EXPIRY + 1_000_000].map(fee), [20_000; 3]);
}

#[test]
fn seventy_channels_of_both_kinds_are_one_settlement() {
    let kinds = [Kind::Refund, Kind::Cltv];
    let make = |number: u16| {
        let paid = if number.is_multiple_of(9) { CAPACITY } else { 30_000 };
        closing(kinds[usize::from(number % 2)], number, paid)
    };
    let channels: Vec<_> = (0..70).map(make).collect();
    let steps = plan(&channels, &fees(2, 20), NOW + WAIT);
    let settlement = build(only_draft(&steps), &channels).unwrap();
    assert_eq!(settlement.transaction.input.len(), 70);
    assert!(settlement.vsize() <= SETTLEMENT_VSIZE_MAX);
}

#[test]
fn three_hundred_channels_are_as_few_settlements_as_are_relayed() {
    let channels = some(0..300);
    let steps = plan(&channels, &fees(2, 20), NOW);
    let drafts = drafts(&steps);
    let mut settled: Vec<_> = drafts.iter().flat_map(|draft| draft.members.clone()).collect();
    settled.sort_unstable();
    let mut all = contracts(&channels);
    all.sort_unstable();
    assert_eq!(settled, all, "each is in one");
    assert_eq!(
        drafts.len(),
        4,
        "{:?}",
        drafts.iter().map(|it| it.members.len()).collect::<Vec<_>>()
    );
    for draft in drafts {
        assert!(build(draft, &channels).unwrap().vsize() <= SETTLEMENT_VSIZE_MAX);
    }
}

#[test]
fn those_that_are_late_go_first_and_each_alone() {
    let soon = EXPIRY - 86_400;
    let mut channels = some(1..4);
    channels.push(expiring(8, 40_000, soon + 60));
    channels.push(expiring(9, 40_000, soon));
    let steps = plan(&channels, &fees(2, 20), soon - SETTLE + 60);
    let members: Vec<_> = drafts(&steps).iter().map(|draft| draft.members.clone()).collect();
    let [rest @ .., next, first] = <[_; 5]>::try_from(contracts(&channels)).unwrap();
    assert_eq!(members, [vec![first], vec![next], rest.to_vec()]);
}

#[test]
fn what_does_not_pay_for_itself_waits_and_joins_nobody() {
    let poor = closing(Kind::Cltv, 1, 1_000);
    let market = fees(10, 20);
    assert_eq!(plan(std::slice::from_ref(&poor), &market, NOW + WAIT), []);
    let others = [
        poor,
        Closing {
            since: farebox_channel::Timestamp::new(NOW + WAIT),
            ..closing(Kind::Cltv, 2, 40_000)
        },
    ];
    assert_eq!(plan(&others, &market, NOW + WAIT), [], "it makes nobody go");
    let steps = plan(&others, &market, NOW + 2 * WAIT);
    assert_eq!(only_draft(&steps).members, [contract(&others[1])]);
    let cheaper = plan(&others, &fees(2, 20), NOW + 2 * WAIT);
    assert_eq!(only_draft(&cheaper).members, contracts(&others));
}

#[test]
fn what_never_pays_for_itself_is_given_up_at_its_mark() {
    let poor = [closing(Kind::Cltv, 1, 1_000)];
    assert_eq!(plan(&poor, &fees(100, 100), EXPIRY - SETTLE - 1), []);
    let market = farebox_channel::gateway::Market { floor: rate(10), ..fees(10, 10) };
    let steps = plan(&poor, &market, EXPIRY - SETTLE);
    let draft: &Draft = only_draft(&steps);
    assert!(draft.is_last_chance);
    let refused = build(draft, &poor).unwrap_err();
    assert!(matches!(refused, SettlementError::Uneconomic { .. }), "{refused}");
}

#[test]
fn what_cannot_pay_for_itself_alone_is_not_tried_again_and_again() {
    // It pays for its input and its change, and not for the rest of a transaction.
    for paid in (250..700).step_by(7) {
        let one = [closing(Kind::Cltv, 1, paid)];
        let steps = plan(&one, &fees(2, 2), NOW + WAIT);
        for draft in drafts(&steps) {
            assert!(build(draft, &one).is_ok(), "{paid}");
        }
    }
}

#[test]
fn a_saved_settlement_is_handed_to_the_node_until_it_has_it() {
    let pair = settled(&some(1..3), 2);
    let settlement = built(&pair[0]);
    assert_eq!(plan(&pair, &fees(2, 20), NOW), [Step::Broadcast(settlement.clone())]);
    assert_eq!(plan_with(&pair, &pooled(&settlement, &pair, (0, 0)), &fees(2, 20), NOW), []);
}

#[test]
fn nothing_is_planned_for_what_is_mined_or_given_up() {
    let mined = Mined {
        txid: bitcoin::hashes::Hash::all_zeros(),
        height: 300,
        by: Spender::Settlement,
        settled: sat(40_000),
    };
    for seconds in [NOW + WAIT, EXPIRY - SETTLE, EXPIRY] {
        for channel in [closing(Kind::Cltv, 1, 40_000), settled(&some(1..2), 2).remove(0)] {
            let done = Closing { mined: Some(mined), ..channel.clone() };
            let given_up = Closing { is_written_off: true, ..channel };
            assert_eq!(plan(&[done, given_up], &fees(2, 20), seconds), []);
        }
    }
}

#[test]
fn a_refund_of_one_member_has_the_rest_settled_without_it_at_once() {
    let three = settled(&some(1..4), 2);
    let steps = plan_with(&three, &refunded(&three[1], 9_000), &fees(2, 20), NOW);
    let draft = only_draft(&steps);
    assert_eq!(draft.members, [contract(&three[0]), contract(&three[2])]);
    assert_eq!(draft.dropped, [contract(&three[1])]);
    assert_eq!(draft.payout, built(&three[0]).payout(), "no new address is needed");
    assert!(build(draft, &three).is_ok());
}

#[test]
fn a_member_that_is_settled_alone_is_not_withdrawn_in_the_same_breath() {
    let three = settled(&some(1..4), 2);
    let steps = plan_with(&three, &refunded(&three[1], 300), &fees(2, 20), EXPIRY);
    let drafts = drafts(&steps);
    let [alone, rest] = drafts.as_slice() else { panic!("{drafts:?}") };
    let (alone, rest) = if alone.members.len() == 1 { (alone, rest) } else { (rest, alone) };
    assert_eq!(alone.members, [contract(&three[1])]);
    assert_eq!((rest.members.len(), rest.dropped.as_slice()), (2, [].as_slice()));
}

#[test]
fn the_poor_rest_of_a_batch_waits_and_is_given_up_at_its_mark() {
    let pair = settled(&[closing(Kind::Cltv, 1, 90_000), closing(Kind::Cltv, 2, 1_000)], 1);
    let market = farebox_channel::gateway::Market { floor: rate(10), ..fees(10, 10) };
    let mempool = refunded(&pair[0], 90_000);
    assert_eq!(plan_with(&pair, &mempool, &market, NOW), []);
    let steps = plan_with(&pair, &mempool, &market, EXPIRY - SETTLE);
    let draft = only_draft(&steps);
    assert_eq!(
        (draft.members.as_slice(), draft.is_last_chance),
        ([contract(&pair[1])].as_slice(), true)
    );
    let written_off = Channel::Closing(pair[1].clone());
    let written_off = written_off.handle(clock_at(NOW), &waiting_rules(), Input::WriteOff).unwrap();
    let Channel::Closing(written_off) = written_off else { panic!("it is closing") };
    assert!(written_off.is_written_off && !written_off.is_claimed());
}

#[test]
fn the_rest_of_a_batch_that_cannot_pay_for_a_settlement_together_waits_for_others() {
    let paid = [90_000, 530, 530];
    let three = [1, 2, 3].map(|number| closing(Kind::Cltv, number, paid[usize::from(number) - 1]));
    let three = settled(&three, 1);
    let mempool = refunded(&three[0], 90_000);
    assert_eq!(plan_with(&three, &mempool, &fees(4, 4), NOW), []);
    assert_eq!(only_draft(&plan_with(&three, &mempool, &fees(1, 1), NOW)).members.len(), 2);
}

#[test]
fn a_batch_waits_an_hour_for_a_contract_that_a_reorg_has_unmined() {
    let mut pair = settled(&some(1..3), 2);
    pair[0].height = None;
    assert_eq!(plan(&pair, &fees(2, 20), NOW + WAIT + 3_599), []);
    let steps = plan(&pair, &fees(2, 20), NOW + WAIT + 3_600);
    let draft = only_draft(&steps);
    assert_eq!(draft.members, [contract(&pair[1])]);
    assert_eq!(draft.dropped, [contract(&pair[0])]);
}

#[test]
fn a_contract_in_no_block_at_its_expiry_is_given_up_and_claimed_again_once_it_is_mined() {
    let unbuilt = closing(Kind::Cltv, 1, 40_000);
    for channel in [unbuilt.clone(), settled(&[unbuilt], 2).remove(0)] {
        let unmined = [Closing { height: None, ..channel }];
        assert_eq!(plan(&unmined, &fees(2, 20), EXPIRY - 1), []);
        let write_off = Step::WriteOff(contract(&unmined[0]));
        assert_eq!(plan(&unmined, &fees(2, 20), EXPIRY), [write_off]);
        let [unmined] = unmined.map(Channel::Closing);
        let step = |channel: &Channel, input| {
            channel.handle(clock_at(EXPIRY), &waiting_rules(), input).unwrap()
        };
        let given_up = step(&unmined, Input::WriteOff);
        let Channel::Closing(gone) = &given_up else { panic!("it is closing") };
        assert_eq!((gone.is_claimed(), &gone.settlement), (false, &None));
        let mined = step(&given_up, Input::Confirmed { height: 500, confirmations: 1 });
        let Channel::Closing(mined) = mined else { panic!("it is closing") };
        assert!(mined.is_claimed());
        assert_eq!(drafts(&plan(&[mined], &fees(2, 20), EXPIRY)).len(), 1);
    }
}

#[test]
fn a_settlement_that_the_node_refuses_stays_the_same() {
    // Its channel's refund is in the mempool, and the node has not taken what replaces it.
    let one = [closing(Kind::Cltv, 1, 40_000)];
    let mempool = refunded(&one[0], 300);
    let steps = plan_with(&one, &mempool, &fees(2, 20), EXPIRY);
    let settlement = build(only_draft(&steps), &one).unwrap();
    let one = [Closing { settlement: Some(settlement.into()), ..one[0].clone() }];
    let again = plan_with(&one, &mempool, &fees(2, 20), EXPIRY);
    assert_eq!(again, [Step::Broadcast(built(&one[0]))]);
}

#[test]
fn an_unknown_settlement_in_the_mempool_is_left_alone_while_there_is_time() {
    let one = [closing(Kind::Cltv, 1, 40_000)];
    let unknown = settle(&[&one[0]], Fee::at(rate(3))).unwrap();
    let mut mempool = Mempool::default();
    let by = rival(Spender::Settlement, unknown.fee.get(), unknown.vsize(), (0, 0));
    put(&mut mempool, outpoint(5).txid, by, &[&one[0]]);
    assert_eq!(plan_with(&one, &mempool, &fees(2, 20), NOW + WAIT), []);
    let steps = plan_with(&one, &mempool, &fees(2, 20), EXPIRY - SETTLE);
    assert!((20..=21).contains(&rate_of(&build(only_draft(&steps), &one).unwrap())));
}
