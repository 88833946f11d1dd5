//! The gateway's account: payments, charges, releases and the client's close.

use farebox_channel::gateway::{Cause, Channel, Input, Refusal};
use farebox_channel::message::StateName;
use farebox_channel::{Clock, Contract, Kind, Msat, Payment, Payout, Timestamp};

use crate::support::{
    CAPACITY, EXPIRY, FIRST, SETTLE, STOP, chain, client_key, clock_at, contract, gateway, msat,
    now, open, paid, pay, payouts, pending, rules, sat, shown, step,
};

/// What a clock says that was never set.
const NEVER: u64 = 0;

/// What `channel` says to a payment, as its account then.
fn try_pay(channel: &Channel, paid_sat: u64, price_msat: u64) -> Result<(u64, u64), Refusal> {
    let next = channel.handle(now(), &rules(), pay(channel, paid_sat, price_msat))?;
    Ok(account(&next))
}

/// What is paid, in satoshi, and spent, in millisatoshi.
fn account(channel: &Channel) -> (u64, u64) {
    (channel.account().payment.paid().get(), channel.account().spent.get())
}

#[test]
fn a_payment_and_its_charge_are_one_step() {
    for kind in Kind::ALL {
        let channel = step(&open(kind), pay(&open(kind), 1_002, 1_001_500));
        assert_eq!(account(&channel), (1_002, 1_001_500));
        let receipt = channel.account().receipt(msat(1_001_500));
        assert_eq!((receipt.paid, receipt.spent), (sat(1_002), msat(1_001_500)));
        assert_eq!((receipt.credit, receipt.price), (msat(500), msat(1_001_500)));
    }
}

#[test]
fn payments_that_overtake_each_other_are_all_served() {
    let mut channel = open(Kind::Cltv);
    for (newest, spent) in [(1_003, 1_001_000), (1_001, 1_002_000), (1_002, 1_003_000)] {
        let price = if spent == 1_001_000 { 1_001_000 } else { 1_000 };
        channel = step(&channel, pay(&channel, newest, price));
        assert_eq!(account(&channel), (1_003, spent));
    }
    let refused = try_pay(&channel, 1_003, 1);
    assert!(matches!(refused, Err(Refusal::Underpaid { .. })), "all is spent");
}

#[test]
fn the_latest_payment_again_spends_the_credit() {
    let mut channel = open(Kind::Cltv);
    for request in 1..=4 {
        channel = step(&channel, pay(&channel, FIRST, 250_000));
        assert_eq!(account(&channel), (FIRST, request * 250_000));
    }
    assert!(try_pay(&channel, FIRST, 250_000).is_err());
}

#[test]
fn a_free_request_takes_the_payment_and_charges_nothing() {
    let channel = open(Kind::Refund);
    assert_eq!(try_pay(&channel, 5_000, 0), Ok((5_000, 0)));
    assert_eq!(try_pay(&channel, FIRST, 0), Ok((FIRST, 0)));
}

#[test]
fn an_underpaid_request_is_told_the_account_and_changes_nothing() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 2_000, 1_999_500));
    let before = channel.clone();
    let refused = channel.handle(now(), &rules(), pay(&channel, 2_001, 1_501));
    let told = Refusal::Underpaid {
        paid: sat(2_001),
        spent: msat(1_999_500),
        credit: msat(1_500),
        price: msat(1_501),
    };
    assert_eq!(refused, Err(told));
    assert_eq!(channel, before);
    assert_eq!(try_pay(&channel, 2_001, 1_500), Ok((2_001, 2_001_000)), "to the millisatoshi");
}

#[test]
fn a_price_beyond_all_amounts_is_underpaid() {
    let refused = try_pay(&open(Kind::Cltv), CAPACITY, Msat::MAX.get());
    assert!(matches!(refused, Err(Refusal::Underpaid { .. })));
}

#[test]
fn prices_below_a_satoshi_add_up_exactly() {
    let mut channel = open(Kind::Cltv);
    for _ in 0..1_000 {
        channel = step(&channel, pay(&channel, FIRST, 333));
    }
    assert_eq!(account(&channel), (FIRST, 333_000));
    assert_eq!(channel.account().credit(), msat(667_000));
}

#[test]
fn a_released_charge_is_credit_again() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), FIRST, 600_000));
    let released = step(&channel, Input::Release { charge: msat(250_000) });
    assert_eq!(account(&released), (FIRST, 350_000));
    assert_eq!(released.account().credit(), msat(650_000));
}

#[test]
fn a_release_of_more_than_is_spent_gives_no_credit_away() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), FIRST, 600_000));
    let released = step(&channel, Input::Release { charge: msat(600_001) });
    assert_eq!(account(&released), (FIRST, 0));
}

#[test]
fn payments_stop_at_their_mark_by_the_later_clock() {
    let channel = open(Kind::Cltv);
    let at = |median_time_past, wall| {
        let clock = Clock {
            median_time_past: Timestamp::new(median_time_past),
            wall: Timestamp::new(wall),
        };
        channel.handle(clock, &rules(), pay(&channel, FIRST, 1)).map(|_| ())
    };
    let mark = EXPIRY - STOP;
    assert_eq!(at(mark - 1, mark - 1), Ok(()));
    assert_eq!(at(mark, NEVER), Err(Refusal::Expiring));
    assert_eq!(at(NEVER, mark), Err(Refusal::Expiring));
    assert_eq!(at(u64::MAX, u64::MAX), Err(Refusal::Expiring));
}

#[test]
fn a_client_can_close_when_payments_have_stopped() {
    let channel = open(Kind::Cltv);
    let close = Input::Close(paid(channel.contract(), FIRST));
    let closed = channel.handle(clock_at(EXPIRY - 1), &rules(), close).unwrap();
    assert_eq!(closed.name(), StateName::Closing);
}

#[test]
fn a_channel_is_due_to_close_exactly_at_its_settle_mark() {
    let channel = open(Kind::Refund);
    let mark = EXPIRY - SETTLE;
    assert_eq!(channel.due(clock_at(mark - 1), &rules()), None);
    assert_eq!(channel.due(clock_at(mark), &rules()), Some(Cause::Expiring));
}

#[test]
fn an_exhausted_channel_is_due_to_close() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), CAPACITY, 99_999_000));
    assert_eq!(channel.due(now(), &rules()), None, "1 sat is left");
    let channel = step(&channel, pay(&channel, CAPACITY, 1_000));
    assert_eq!(channel.due(now(), &rules()), Some(Cause::Exhausted));
}

#[test]
fn a_close_settles_for_what_the_client_names_and_for_no_less_than_is_spent() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 5_000, 3_000_001));
    let close = |paid_sat| {
        let input = Input::Close(paid(channel.contract(), paid_sat));
        channel.handle(now(), &rules(), input).map(|next| account(&next).0)
    };
    let refused = |paid_sat| {
        let (least, most) = (sat(3_001), sat(CAPACITY));
        Err(Refusal::FinalOutOfBounds { paid: sat(paid_sat), least, most })
    };
    assert_eq!(close(3_001), Ok(3_001));
    assert_eq!(close(5_000), Ok(5_000));
    assert_eq!(close(3_000), refused(3_000));
    assert_eq!(close(0), refused(0));
    assert_eq!(close(5_001), Ok(5_001), "a request with a newer payment was lost");
}

#[test]
fn a_close_settles_for_the_first_payment_at_least() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 5_000, 1));
    let close = |paid_sat| {
        let input = Input::Close(paid(channel.contract(), paid_sat));
        channel.handle(now(), &rules(), input).map(|next| account(&next).0)
    };
    let (least, most) = (sat(FIRST), sat(CAPACITY));
    let refused = Refusal::FinalOutOfBounds { paid: sat(FIRST - 1), least, most };
    assert_eq!(close(FIRST - 1), Err(refused));
    assert_eq!(close(FIRST), Ok(FIRST));
}

#[test]
fn a_close_names_everything_when_less_than_dust_would_be_left() {
    let spent = (CAPACITY - 200) * 1_000;
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), CAPACITY, spent));
    let close = |paid_sat| {
        let input = Input::Close(paid(channel.contract(), paid_sat));
        channel.handle(now(), &rules(), input).map(|next| account(&next).0)
    };
    let everything = sat(CAPACITY);
    let lower = sat(CAPACITY - 294);
    let (least, most) = (everything, everything);
    assert_eq!(close(lower.get()), Err(Refusal::FinalOutOfBounds { paid: lower, least, most }));
    assert_eq!(close(CAPACITY), Ok(CAPACITY));
}

#[test]
fn an_honest_close_is_within_bounds_for_every_payout() {
    for (payout, dust) in payouts() {
        let contract = Contract { payout, ..contract(Kind::Cltv) };
        let edge = CAPACITY - dust;
        for spent in [FIRST, edge - 1, edge, edge + 1, CAPACITY] {
            let channel = with_payout(&contract.payout);
            let most = channel.contract().payable(sat(spent)).unwrap();
            let channel = step(&channel, pay(&channel, most.get(), spent * 1_000));
            let close = Input::Close(paid(channel.contract(), most.get()));
            assert!(channel.handle(now(), &rules(), close).is_ok(), "{spent} of {dust}");
        }
    }
}

/// An open channel whose change goes to `payout`.
fn with_payout(payout: &Payout) -> Channel {
    let mut request = shown(Kind::Cltv);
    let outpoint = request.outpoint;
    let contract = Contract { payout: payout.clone(), outpoint, ..contract(Kind::Cltv) };
    request.payout = payout.clone();
    request.payment = Payment::sign(&contract, sat(FIRST), &client_key()).unwrap();
    let shown = gateway().check_shown(&request, now(), chain()).unwrap();
    let channel = shown.admit(&contract.output()).unwrap();
    step(&channel, Input::Confirmed { height: 201, confirmations: 2 })
}

#[test]
fn a_close_by_the_gateway_settles_what_is_paid() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 5_000, 1));
    for cause in [Cause::Expiring, Cause::Operator] {
        let closed = step(&channel, Input::Expire(cause));
        assert_eq!(account(&closed), (5_000, 1));
        assert_eq!((closed.name(), closed.cause()), (StateName::Closing, Some(cause)));
    }
    let exhausted = step(&channel, pay(&channel, CAPACITY, 99_999_999));
    let closed = step(&exhausted, Input::Expire(Cause::Exhausted));
    assert_eq!((closed.name(), closed.cause()), (StateName::Closing, Some(Cause::Exhausted)));
}

#[test]
fn a_channel_that_was_found_exhausted_is_judged_again_when_it_is_to_close() {
    let spent = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), CAPACITY, 100_000_000));
    assert_eq!(spent.due(now(), &rules()), Some(Cause::Exhausted));
    let close = Input::Expire(Cause::Exhausted);

    let released = step(&spent, Input::Release { charge: msat(1_000) });
    assert_eq!(step(&released, close.clone()), released);
    let reorged = step(&released, Input::Unconfirmed);
    assert_eq!(step(&reorged, close.clone()), reorged);
    let late = spent.handle(clock_at(EXPIRY - SETTLE), &rules(), close).unwrap();
    assert_eq!(late.cause(), Some(Cause::Expiring));
}

#[test]
fn nothing_is_served_before_the_contract_is_confirmed() {
    let channel = pending(Kind::Cltv);
    assert_eq!(try_pay(&channel, FIRST, 1), Err(Refusal::Pending));
    let close = Input::Close(paid(channel.contract(), FIRST));
    assert_eq!(channel.handle(now(), &rules(), close), Err(Refusal::Pending));
    assert_eq!(try_pay(&channel, 2_000, 0), Ok((2_000, 0)), "a newer payment is kept");
    assert_eq!(try_pay(&channel, FIRST - 1, 0), Ok((FIRST, 0)), "an older one is not");
}

#[test]
fn nothing_is_served_once_the_channel_closes() {
    let channel = open(Kind::Cltv);
    let closing = step(&channel, Input::Expire(Cause::Expiring));
    assert_eq!(try_pay(&closing, 5_000, 0), Err(Refusal::Closing));
    assert_eq!(try_pay(&closing, FIRST, 1), Err(Refusal::Closing));
    let close = Input::Close(paid(channel.contract(), FIRST));
    assert_eq!(closing.handle(now(), &rules(), close), Err(Refusal::Closing));
    let release = Input::Release { charge: msat(1) };
    let refused = closing.handle(now(), &rules(), release);
    assert_eq!(refused, Err(Refusal::Closing), "what is settled is signed already");
    let reopened = step(&closing, Input::Confirmed { height: 201, confirmations: 9 });
    assert_eq!(reopened, closing);
    let unmined = step(&closing, Input::Unconfirmed);
    assert_eq!((unmined.name(), unmined.height()), (StateName::Closing, None));
    assert_eq!(try_pay(&unmined, 5_000, 1), Err(Refusal::Closing));
}

#[test]
fn a_refused_input_leaves_the_channel_as_it_was() {
    let channel = open(Kind::Cltv);
    let before = channel.clone();
    let refused = [
        (now(), pay(&channel, FIRST, FIRST * 1_000 + 1)),
        (clock_at(EXPIRY), pay(&channel, 2_000, 1)),
        (now(), Input::Close(paid(channel.contract(), FIRST - 1))),
    ];
    for (clock, input) in refused {
        assert!(channel.handle(clock, &rules(), input).is_err());
        assert_eq!(channel, before);
    }
}
