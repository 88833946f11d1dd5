//! Channels that are served although their contract is in no block yet.

use bitcoin::OutPoint;
use farebox_channel::gateway::{Cause, Channel, Input, Mined, Open, Refusal, Rules, Unconfirmed};
use farebox_channel::message::StateName;
use farebox_channel::{Kind, Sat};

use crate::support::{
    EXPIRY, STOP, clock_at, funding, is_claimed, msat, now, outpoint, paid, pay, pending, rules,
    sat,
};

/// What one such channel is served for, in satoshi.
const EACH: u64 = 300;

fn trusting() -> Rules {
    let unconfirmed = Some(Unconfirmed { each: sat(EACH), total: sat(1_000) });
    Rules { confirmations: 0, unconfirmed, ..rules() }
}

fn handle(channel: &Channel, input: Input) -> Result<Channel, Refusal> {
    channel.handle(now(), &trusting(), input)
}

fn step(channel: &Channel, input: Input) -> Channel {
    handle(channel, input).unwrap()
}

fn coins() -> Vec<OutPoint> {
    vec![outpoint(1), outpoint(2)]
}

/// A channel whose contract is in the mempool.
fn trusted() -> Channel {
    step(&pending(Kind::Cltv), Input::Seen(coins()))
}

fn confirmed() -> Input {
    Input::Confirmed { height: 201, confirmations: 1 }
}

#[test]
fn a_contract_in_the_mempool_is_served_only_where_that_is_offered() {
    let Channel::Open(Open { account, height: None }) = trusted() else { panic!("it is open") };
    assert_eq!(*account.coins, coins());
    let no_total = Rules { unconfirmed: None, ..trusting() };
    let one_block = Rules { confirmations: 1, ..trusting() };
    for rules in [no_total, one_block, rules()] {
        let seen = pending(Kind::Cltv).handle(now(), &rules, Input::Seen(coins())).unwrap();
        assert_eq!(seen, pending(Kind::Cltv));
    }
    let stopped = clock_at(EXPIRY - STOP);
    let late = pending(Kind::Cltv).handle(stopped, &trusting(), Input::Seen(coins())).unwrap();
    assert_eq!(late.name(), StateName::Pending);
}

#[test]
fn as_many_are_served_as_the_total_allows() {
    let places = |each, total| Unconfirmed { each: sat(each), total: sat(total) }.places();
    assert_eq!([places(300, 1_000), places(300, 299), places(0, 1_000)], [3, 0, 0]);
}

#[test]
fn an_unconfirmed_contract_is_served_up_to_its_cap_and_no_millisatoshi_more() {
    let channel = step(&trusted(), pay(&trusted(), 5_000, EACH * 1_000 - 1));
    assert_eq!(handle(&channel, pay(&channel, 5_000, 2)), Err(Refusal::Pending));
    let full = step(&channel, pay(&channel, 5_000, 1));
    assert_eq!(full.account().spent, sat(EACH).to_msat());
    assert_eq!(handle(&full, pay(&full, 9_000, 1)), Err(Refusal::Pending));
    let again = step(&full, pay(&full, 9_000, 0));
    assert_eq!(again.account().payment.paid(), sat(9_000), "a payment alone is taken");
    let released = step(&full, Input::Release { charge: msat(1_000) });
    assert!(handle(&released, pay(&released, 5_000, 1_000)).is_ok());
    assert!(handle(&step(&full, confirmed()), pay(&full, 5_000, 1_000_000)).is_ok());
}

#[test]
fn a_contract_that_has_left_the_mempool_is_frozen_until_it_is_mined() {
    let frozen = step(&step(&trusted(), pay(&trusted(), 5_000, 200_000)), Input::Unconfirmed);
    assert_eq!(frozen.name(), StateName::Pending);
    assert_eq!(handle(&frozen, pay(&frozen, 5_000, 1)), Err(Refusal::Pending));
    assert_eq!(step(&frozen, Input::Seen(coins())), frozen, "it may leave again");
    let open = step(&frozen, confirmed());
    assert_eq!((open.name(), open.height()), (StateName::Open, Some(201)));
    assert!(handle(&open, pay(&open, 5_000, 1_000_000)).is_ok());
}

#[test]
fn a_contract_that_is_mined_is_open_for_good() {
    let open = step(&trusted(), confirmed());
    assert_eq!((open.name(), open.height()), (StateName::Open, Some(201)));
    let unmined = step(&step(&open, pay(&open, 5_000, 1_000_000)), Input::Unconfirmed);
    assert_eq!(
        step(&unmined, Input::Seen(coins())),
        unmined,
        "it was served for more than its cap"
    );
}

#[test]
fn a_double_spend_is_a_loss_with_its_amount() {
    let served = step(&trusted(), pay(&trusted(), 5_000, 200_000));
    let closing = step(&served, Input::Expire(Cause::Expiring));
    let frozen = step(&served, Input::Unconfirmed);
    for channel in [served, closing, frozen] {
        assert_eq!((channel.at_stake(), channel.lost()), (sat(5_000), Sat::ZERO));
        let spent = Mined::double_spend(&funding(&[]), 300);
        let lost = step(&channel, Input::Spent(spent));
        assert_eq!((lost.at_stake(), lost.lost()), (Sat::ZERO, sat(5_000)));
        assert!(!is_claimed(&lost));
        let ended = step(&lost, Input::Deepened { height: 305 });
        assert_eq!((ended.name(), ended.lost()), (StateName::Lost, sat(5_000)));
        let undone = step(&lost, Input::Unspent);
        assert_eq!((undone.at_stake(), undone.lost()), (sat(5_000), Sat::ZERO));
    }
}

#[test]
fn a_double_spend_of_what_was_never_served_costs_nothing() {
    let lost = step(&trusted(), Input::Spent(Mined::double_spend(&funding(&[]), 300)));
    assert_eq!((lost.at_stake(), lost.lost()), (Sat::ZERO, Sat::ZERO));
}

#[test]
fn a_client_may_close_before_its_contract_is_mined() {
    let served = step(&trusted(), pay(&trusted(), 5_000, 200_000));
    let closing = step(&served, Input::Close(paid(served.contract(), 5_000)));
    assert_eq!((closing.name(), closing.height()), (StateName::Closing, None));
    let mined = step(&closing, confirmed());
    assert_eq!((mined.name(), mined.height()), (StateName::Closing, Some(201)));
    assert!(is_claimed(&mined));
}
