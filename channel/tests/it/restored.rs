//! A gateway that was restored from a backup: it grants nothing twice.

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use farebox_channel::gateway::{
    Cause, Channel, DEPTH_FINAL, Gateway, Input, Mined, Refusal, Rules, Spender,
};
use farebox_channel::message::StateName;
use farebox_channel::{Clock, Kind, Msat, Sat};

use crate::support::{
    EXPIRY, FIRST, STOP, chain, clock_at, gateway, is_claimed, msat, now, open, paid, pay, pending,
    rules, shown, step,
};

/// The height of the tip when the gateway was restored.
const RESTORED: u32 = 300;

fn restored_rules() -> Rules {
    Rules { restored: Some(RESTORED), ..rules() }
}

fn handle(channel: &Channel, clock: Clock, input: Input) -> Result<Channel, Refusal> {
    channel.handle(clock, &restored_rules(), input)
}

/// The channel once its contract, mined at `height`, and the restore are deep in the chain.
fn confirmed(channel: &Channel, height: u32) -> Channel {
    let confirmations = RESTORED + DEPTH_FINAL + 1 - height;
    handle(channel, now(), Input::Confirmed { height, confirmations }).unwrap()
}

/// An open channel with 500 sat of credit, as it stands once its backup was restored and its
/// contract was found.
fn stale() -> Channel {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 2_000, 1_500_000));
    confirmed(&channel.restored(), 201)
}

/// A channel whose contract was shown to the restored gateway, which has no record of it.
fn shown_again() -> Channel {
    let gateway = Gateway { rules: restored_rules(), ..gateway() };
    let shown = gateway.check_shown(&shown(Kind::Cltv), now(), chain()).unwrap();
    let output = shown.contract().output();
    shown.admit(&output).unwrap()
}

fn money(channel: &Channel) -> (u64, u64) {
    (channel.account().payment.paid().get(), channel.account().spent.get())
}

#[test]
fn a_restored_channel_is_looked_up_anew_and_its_credit_counts_as_spent() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 2_000, 1_500_000)).restored();
    assert_eq!(channel.name(), StateName::Pending);
    assert_eq!(money(&channel), (2_000, 2_000_000));
    assert_eq!((channel.height(), channel.due(now(), &restored_rules())), (None, None));
    assert_eq!(handle(&channel, now(), pay(&channel, 2_100, 1)), Err(Refusal::Pending));
}

#[test]
fn a_restored_channel_serves_nothing_before_its_client_has_shown_its_newest_payment() {
    let channel = stale();
    assert_eq!(channel.name(), StateName::Open);
    for (paid_sat, price) in [(2_000, 1), (2_100, 1), (9_000, 1_000)] {
        let refused = handle(&channel, now(), pay(&channel, paid_sat, price));
        assert_eq!(refused, Err(Refusal::Stale));
    }
}

#[test]
fn what_a_restored_client_shows_first_counts_as_spent_and_what_follows_does_not() {
    let channel = stale();
    let caught_up = handle(&channel, now(), pay(&channel, 2_900, 0)).unwrap();
    assert_eq!(money(&caught_up), (2_900, 2_900_000));
    let broke = handle(&caught_up, now(), pay(&channel, 2_900, 1));
    assert!(matches!(broke, Err(Refusal::Underpaid { credit: Msat::ZERO, .. })));
    let paying = handle(&caught_up, now(), pay(&channel, 2_901, 600)).unwrap();
    assert_eq!(money(&paying), (2_901, 2_900_600));
}

#[test]
fn an_older_payment_does_not_lower_what_a_restored_channel_has_on_record() {
    let channel = stale();
    let caught_up = handle(&channel, now(), pay(&channel, FIRST, 0)).unwrap();
    assert_eq!(money(&caught_up), (2_000, 2_000_000));
    assert!(handle(&caught_up, now(), pay(&channel, 2_001, 1_000)).is_ok());
}

#[test]
fn a_contract_that_the_backup_does_not_know_has_spent_what_it_shows() {
    let channel = confirmed(&shown_again(), RESTORED);
    assert_eq!(money(&channel), (FIRST, FIRST * 1_000));
    assert_eq!(handle(&channel, now(), pay(&channel, FIRST + 1, 1)), Err(Refusal::Stale));
}

#[test]
fn a_contract_that_was_mined_after_the_restore_is_served_as_any_other() {
    let channel = confirmed(&shown_again(), RESTORED + 1);
    assert_eq!(money(&channel), (FIRST, 0));
    let paying = handle(&channel, now(), pay(&channel, FIRST, 1)).unwrap();
    assert_eq!(money(&paying), (FIRST, 1));
}

#[test]
fn a_contract_with_little_time_left_may_be_shown_again_after_a_restore() {
    let gateway = Gateway { rules: restored_rules(), ..gateway() };
    let show = |at| gateway.check_shown(&shown(Kind::Cltv), clock_at(at), chain()).map(|_| ());
    assert_eq!(show(EXPIRY - STOP), Ok(()));
    assert!(matches!(show(EXPIRY - STOP + 1), Err(Refusal::ExpiryOutOfBounds { .. })));
}

#[test]
fn a_restored_channel_that_is_near_its_expiry_is_settled_and_not_forgotten() {
    let late = clock_at(EXPIRY - STOP);
    let found = Input::Confirmed { height: 201, confirmations: 106 };
    for channel in [open(Kind::Cltv), pending(Kind::Cltv)] {
        let channel = channel.restored();
        assert_eq!(channel.name(), StateName::Pending);
        assert_eq!(channel.due(late, &restored_rules()), None);
        let Channel::Closing(closing) = handle(&channel, late, found.clone()).unwrap() else {
            panic!("it may have been served since the backup")
        };
        assert_eq!((closing.cause, closing.account.spent), (Cause::Expiring, msat(1_000_000)));
    }
}

#[test]
fn a_contract_from_before_a_restore_waits_until_the_restore_is_deep() {
    // A settlement may be on its way that neither the backup nor the node knows of any more.
    for channel in [open(Kind::Cltv).restored(), pending(Kind::Cltv).restored(), shown_again()] {
        let wait = |tip| {
            let found = Input::Confirmed { height: 201, confirmations: tip - 200 };
            handle(&channel, now(), found).unwrap().name()
        };
        assert_eq!(wait(RESTORED + DEPTH_FINAL - 1), StateName::Pending);
        assert_eq!(wait(RESTORED + DEPTH_FINAL), StateName::Open);
    }
}

#[test]
fn what_was_counted_once_is_not_granted_again_when_a_reorg_mines_the_contract_anew() {
    let channel = handle(&stale(), now(), Input::Unconfirmed).unwrap();
    let mined_anew = confirmed(&channel, RESTORED + 1);
    assert_eq!(money(&mined_anew), (2_000, 2_000_000));
    assert_eq!(handle(&mined_anew, now(), pay(&channel, 9_000, 1)), Err(Refusal::Stale));
    // Served before a reorg, and pending when the backup was taken.
    let served = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 2_000, 1_500_000));
    let pending = step(&served, Input::Unconfirmed).restored();
    assert_eq!(money(&confirmed(&pending, RESTORED + 1)), (2_000, 2_000_000));
}

#[test]
fn a_contract_that_is_shown_after_a_restore_and_never_confirms_is_given_up_at_its_expiry() {
    let channel = shown_again();
    assert_eq!(channel.due(clock_at(EXPIRY - 1), &restored_rules()), None);
    let give_up = Some(Cause::Expiring);
    assert_eq!(channel.due(clock_at(EXPIRY), &restored_rules()), give_up);
    let late = handle(&channel, clock_at(EXPIRY), Input::Expire(Cause::Expiring)).unwrap();
    assert_eq!(
        (late.name(), late.due(clock_at(EXPIRY), &restored_rules())),
        (StateName::Late, None)
    );
}

#[test]
fn a_contract_that_is_shown_after_a_restore_and_found_spent_is_settled_if_a_reorg_allows_it() {
    let (by, settled) = (Spender::Refund, Sat::ZERO);
    let spent = Mined { txid: Txid::all_zeros(), height: 301, by, settled };
    let spent = handle(&shown_again(), now(), Input::Spent(spent)).unwrap();
    let unspent = handle(&spent, now(), Input::Unspent).unwrap();
    assert!(is_claimed(&unspent));
}

#[test]
fn a_client_may_show_its_newest_payment_until_the_channel_is_settled() {
    let shown = handle(&stale(), clock_at(EXPIRY - STOP), pay(&stale(), 2_900, 0)).unwrap();
    assert_eq!(money(&shown), (2_900, 2_900_000));
    let next = handle(&shown, clock_at(EXPIRY - STOP), pay(&shown, 3_000, 0));
    assert_eq!(next, Err(Refusal::Expiring));
}

#[test]
fn a_restore_leaves_channels_that_serve_nothing_as_they_are() {
    let closing = step(&open(Kind::Cltv), Input::Expire(Cause::Client));
    let late = step(&pending(Kind::Cltv), Input::Expire(Cause::Expiring));
    for channel in [closing, late] {
        assert_eq!(channel.clone().restored(), channel);
    }
}

#[test]
fn a_restored_channel_closes_for_no_less_than_what_is_on_record() {
    let channel = stale();
    let close = |paid_sat| {
        handle(&channel, now(), Input::Close(paid(channel.contract(), paid_sat))).map(|_| ())
    };
    assert!(matches!(close(1_999), Err(Refusal::FinalOutOfBounds { .. })));
    assert_eq!(close(2_000), Ok(()));
    assert_eq!(close(2_900), Ok(()));
}
