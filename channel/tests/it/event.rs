//! What an embedder is told: each thing that happens once, and nothing that does not.

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use farebox_channel::Kind;
use farebox_channel::gateway::{Cause, Channel, Event, Happened, Input, Mined, Spender};
use farebox_channel::message::Memo;

use crate::support::{CAPACITY, FIRST, msat, open, paid, pay, pending, sat, step};

/// What `input` is told as.
fn happened(before: &Channel, input: Input, memo: Option<Memo>) -> Option<Happened> {
    let event = Event::between(Some(before), &step(before, input), memo)?;
    assert_eq!(event.channel, before.contract().outpoint);
    Some(event.happened)
}

fn spent(by: Spender) -> Input {
    let settled = if by == Spender::Settlement { sat(FIRST) } else { sat(0) };
    Input::Spent(Mined { txid: Txid::all_zeros(), height: 300, by, settled })
}

#[test]
fn a_channels_life_is_told_step_by_step() {
    let shown = pending(Kind::Cltv);
    let event = Event::between(None, &shown, None).unwrap();
    let told = Happened::Shown { capacity: sat(CAPACITY), paid: sat(FIRST) };
    assert_eq!(event, Event { channel: shown.contract().outpoint, happened: told });
    let confirmed = Input::Confirmed { height: 201, confirmations: 2 };
    assert_eq!(happened(&shown, confirmed, None), Some(Happened::Opened));
    let open = open(Kind::Cltv);
    assert_eq!(happened(&open, Input::Unconfirmed, None), Some(Happened::Suspended));
    let close = Input::Close(paid(open.contract(), 1_500));
    let told = Happened::Closing { cause: Cause::Client, paid: sat(1_500) };
    assert_eq!(happened(&open, close.clone(), None), Some(told));
    let mined = step(&step(&open, close), spent(Spender::Settlement));
    let told =
        Happened::Ended { cause: Cause::Client, by: Spender::Settlement, txid: Txid::all_zeros() };
    assert_eq!(happened(&mined, Input::Deepened { height: 305 }, None), Some(told));
}

#[test]
fn a_close_is_told_with_its_cause() {
    let open = open(Kind::Cltv);
    for cause in [Cause::Client, Cause::Operator, Cause::Expiring] {
        let told = Happened::Closing { cause, paid: sat(FIRST) };
        assert_eq!(happened(&open, Input::Expire(cause), None), Some(told));
    }
    let told = Happened::Closing { cause: Cause::Spent, paid: sat(FIRST) };
    assert_eq!(happened(&open, spent(Spender::Refund), None), Some(told));
    let late = happened(&pending(Kind::Cltv), Input::Expire(Cause::Expiring), None);
    assert_eq!(late, Some(Happened::Late));
}

#[test]
fn a_payment_is_told_with_what_it_adds_and_what_came_along() {
    let open = open(Kind::Cltv);
    let memo = Some(Memo::new("two").unwrap());
    let told = happened(&open, pay(&open, 2_000, 1_500), memo.clone());
    let (paid, spent) = (sat(2_000), msat(1_500));
    let increase = sat(1_000);
    let expected = Happened::Paid { increase, paid, price: msat(1_500), spent, memo };
    assert_eq!(told, Some(expected));
    let told = happened(&open, pay(&open, FIRST, 1_500), None);
    let (paid, increase) = (sat(FIRST), sat(0));
    let expected = Happened::Paid { increase, paid, price: msat(1_500), spent, memo: None };
    assert_eq!(told, Some(expected));
}

#[test]
fn a_charge_that_is_taken_back_is_told() {
    let paid = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 2_000, 1_500));
    let told = happened(&paid, Input::Release { charge: msat(500) }, None);
    assert_eq!(told, Some(Happened::Released { charge: msat(500), spent: msat(1_000) }));
}

#[test]
fn what_changes_nothing_is_not_told() {
    let open = open(Kind::Cltv);
    let closing = step(&open, Input::Expire(Cause::Client));
    let again = Input::Confirmed { height: 201, confirmations: 9 };
    for (channel, input) in [
        (&open, pay(&open, FIRST, 0)),
        (&open, again.clone()),
        (&open, Input::Release { charge: msat(0) }),
        (&closing, again),
        (&closing, spent(Spender::Settlement)),
        (&pending(Kind::Cltv), Input::Unconfirmed),
    ] {
        assert_eq!(happened(channel, input.clone(), None), None, "{input:?}");
    }
}
