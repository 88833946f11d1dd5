//! What is at stake and what is lost in every state; what is idle; what is given up.

use farebox_channel::gateway::{Cause, Channel, Input, Mined, Rules, Settling, Spender};
use farebox_channel::message::StateName;
use farebox_channel::{Kind, Sat, Seconds};

use crate::support::{
    FIRST, NOW, clock_at, funding, is_claimed, open, pay, pending, planned, rules, sat, step,
};

/// An open channel that has paid 5,000 sat and was served.
fn served() -> Channel {
    step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 5_000, 4_000_000))
}

fn money(channel: &Channel) -> (u64, u64) {
    (channel.at_stake().get(), channel.lost().get())
}

fn spent(by: Spender, settled: u64) -> Input {
    let (txid, height) = (funding(&[]).compute_txid(), 300);
    Input::Spent(Mined { txid, height, by, settled: sat(settled) })
}

#[test]
fn what_is_at_stake_and_what_is_lost_is_told_in_every_state() {
    let late = step(&pending(Kind::Cltv), Input::Expire(Cause::Expiring));
    let closing = step(&served(), Input::Expire(Cause::Expiring));
    let deep = Input::Deepened { height: 305 };
    let after = |input| step(&closing, input);
    for (channel, expected) in [
        (pending(Kind::Cltv), (0, 0)),
        (late, (0, 0)),
        (open(Kind::Cltv), (FIRST, 0)),
        (served(), (5_000, 0)),
        (step(&served(), Input::Unconfirmed), (5_000, 0)),
        (closing.clone(), (5_000, 0)),
        (after(Input::Unconfirmed), (5_000, 0)),
        (after(Input::WriteOff), (0, 5_000)),
        (after(spent(Spender::Settlement, 5_000)), (5_000, 0)),
        (after(spent(Spender::Settlement, 3_000)), (3_000, 2_000)),
        (after(spent(Spender::Refund, 0)), (0, 5_000)),
        (after(spent(Spender::DoubleSpend, 0)), (0, 5_000)),
        (step(&after(spent(Spender::Settlement, 3_000)), deep.clone()), (0, 2_000)),
        (step(&after(spent(Spender::Refund, 0)), deep), (0, 5_000)),
    ] {
        assert_eq!(money(&channel), expected, "{channel:?}");
    }
}

#[test]
fn what_is_left_to_a_refund_that_a_reorg_has_undone_is_not_at_stake() {
    let undone = step(&step(&open(Kind::Cltv), spent(Spender::Refund, 0)), Input::Unspent);
    assert!(!is_claimed(&undone));
    assert_eq!(money(&undone), (0, 0));
}

#[test]
fn what_is_given_up_is_lost_until_it_is_settled_after_all() {
    let given_up = step(&step(&served(), Input::Expire(Cause::Expiring)), Input::WriteOff);
    assert_eq!((given_up.name(), money(&given_up)), (StateName::WrittenOff, (0, 5_000)));
    assert_eq!(planned(&given_up, clock_at(u64::MAX)), []);
    let same = step(&given_up, Input::Confirmed { height: 201, confirmations: 99 });
    assert_eq!(same, given_up, "it was in a block all the time, and too dear");
    let settled = step(&given_up, spent(Spender::Settlement, 5_000));
    assert_eq!(money(&settled), (5_000, 0));
    let ended = step(&settled, Input::Deepened { height: 305 });
    assert_eq!((ended.name(), ended.lost()), (StateName::Settled, Sat::ZERO));
}

#[test]
fn what_is_spent_is_not_given_up() {
    let mined = step(&served(), spent(Spender::Settlement, 5_000));
    assert_eq!(step(&mined, Input::WriteOff), mined);
    assert_eq!(step(&mined, Input::Withdraw), mined);
    assert_eq!(step(&served(), Input::WriteOff), served(), "it is open");
}

fn idle_after(seconds: u32) -> Rules {
    let settling = Settling { idle: Some(Seconds::new(seconds)), ..rules().settling };
    Rules { settling, ..rules() }
}

#[test]
fn a_channel_that_is_not_used_for_long_is_closed_to_the_second() {
    let rules = idle_after(7_200);
    let channel = open(Kind::Cltv);
    assert_eq!(channel.due(clock_at(NOW + 7_199), &rules), None);
    assert_eq!(channel.due(clock_at(NOW + 7_200), &rules), Some(Cause::Idle));
    let later = pay(&channel, 2_000, 1_000);
    let used = channel.handle(clock_at(NOW + 7_000), &rules, later).unwrap();
    assert_eq!(used.due(clock_at(NOW + 14_199), &rules), None);
    assert_eq!(used.due(clock_at(NOW + 14_200), &rules), Some(Cause::Idle));
    let never = self::rules();
    assert_eq!(used.due(clock_at(NOW + 90_000), &never), None);
}

#[test]
fn a_payment_that_comes_before_the_close_of_an_idle_channel_keeps_it_open() {
    let rules = idle_after(7_200);
    let channel = open(Kind::Cltv);
    let at = clock_at(NOW + 7_200);
    assert_eq!(channel.due(at, &rules), Some(Cause::Idle));
    let used = channel.handle(at, &rules, pay(&channel, 2_000, 1_000)).unwrap();
    assert_eq!(used.handle(at, &rules, Input::Expire(Cause::Idle)).as_ref(), Ok(&used));
    let closed = channel.handle(at, &rules, Input::Expire(Cause::Idle)).unwrap();
    assert_eq!(closed.cause(), Some(Cause::Idle));
}

#[test]
fn a_channel_that_is_near_its_end_closes_for_that_and_not_for_being_idle() {
    let rules = idle_after(u32::MAX);
    let mark = open(Kind::Cltv).mark(&rules).unwrap();
    assert_eq!(mark, rules.closes_at(open(Kind::Cltv).contract().terms.expiry));
    assert_eq!(open(Kind::Cltv).due(clock_at(mark.get()), &rules), Some(Cause::Expiring));
    let rules = idle_after(60);
    assert_eq!(open(Kind::Cltv).due(clock_at(mark.get()), &rules), Some(Cause::Expiring));
}
