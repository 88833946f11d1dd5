//! A channel and the chain: confirmation, reorganisation, settlement, refund, end.

use std::sync::Arc;

use bitcoin::Transaction;
use farebox_channel::gateway::{
    Cause, Channel, Closing, DEPTH_FINAL, Input, Mined, Refusal, Spender, Step,
};
use farebox_channel::message::StateName;
use farebox_channel::{
    Clock, Contract, Fee, Kind, Member, Refund, RefundRequest, Sat, Settlement, Timestamp,
};

use crate::support::{
    CAPACITY, EXPIRY, FIRST, STOP, client_key, clock_at, funding, gateway, is_claimed,
    is_settled_next, keyring, msat, now, open, outpoint, p2wpkh, paid, pay, pending, planned, rate,
    rules, sat, step,
};

/// A settlement of what `channel` has paid.
fn settlement(channel: &Channel, sat_per_vb: u64) -> Settlement {
    let payment = &channel.account().payment;
    let member = Member { contract: channel.contract(), payment };
    Settlement::build(&[member], &keyring(), &p2wpkh(), Fee::at(rate(sat_per_vb))).unwrap()
}

/// The client's refund of `contract`.
fn refund(contract: &Contract) -> Transaction {
    let request = RefundRequest {
        outpoint: contract.outpoint,
        capacity: contract.capacity,
        client_key: contract.terms.client_key,
        expiry: contract.terms.expiry,
    };
    let signature = gateway().sign_refund(&request, now()).unwrap().signature;
    let refund = Refund::new(contract.clone(), Some(signature)).unwrap();
    refund.transaction(&p2wpkh(), rate(2), &client_key()).unwrap()
}

/// An open channel that has paid 5,000 sat, closing for `cause`.
fn closing(kind: Kind, cause: Cause) -> Channel {
    let channel = step(&open(kind), pay(&open(kind), 5_000, 4_000_000));
    step(&channel, Input::Expire(cause))
}

fn mined(transaction: &Transaction, height: u32, by: Spender) -> Mined {
    let settled = if by == Spender::Settlement { sat(5_000) } else { Sat::ZERO };
    Mined { txid: transaction.compute_txid(), height, by, settled }
}

#[test]
fn a_contract_is_looked_up_until_it_has_its_confirmations() {
    let channel = pending(Kind::Refund);
    assert_eq!((channel.height(), channel.due(now(), &rules())), (None, None));
    let one = step(&channel, Input::Confirmed { height: 201, confirmations: 1 });
    assert_eq!((one.name(), one.height()), (StateName::Pending, Some(201)));
    assert_eq!(one.account(), channel.account());
    let two = step(&one, Input::Confirmed { height: 201, confirmations: 2 });
    let Channel::Open(open) = &two else { panic!("{two:?}") };
    assert_eq!((open.height, &open.account), (Some(201), channel.account()));
    assert_eq!(two.due(now(), &rules()), None);
}

#[test]
fn a_contract_that_confirms_at_the_stop_mark_is_late_by_either_clock() {
    let confirm = |median_time_past, wall| {
        let clock = Clock {
            median_time_past: Timestamp::new(median_time_past),
            wall: Timestamp::new(wall),
        };
        let confirmed = Input::Confirmed { height: 201, confirmations: 2 };
        pending(Kind::Cltv).handle(clock, &rules(), confirmed).unwrap().name()
    };
    let mark = EXPIRY - STOP;
    assert_eq!(confirm(mark - 1, mark - 1), StateName::Open);
    assert_eq!(confirm(mark, mark - 1), StateName::Late);
    assert_eq!(confirm(mark - 1, mark), StateName::Late);
}

/// A channel whose contract confirmed too late.
fn late(kind: Kind) -> Channel {
    let confirmed = Input::Confirmed { height: 201, confirmations: 2 };
    pending(kind).handle(clock_at(EXPIRY - 1), &rules(), confirmed).unwrap()
}

#[test]
fn a_late_channel_is_never_served() {
    let channel = late(Kind::Cltv);
    for price in [0, 1] {
        let refused = channel.handle(now(), &rules(), pay(&channel, FIRST, price));
        assert_eq!(refused, Err(Refusal::Late));
    }
    let close = Input::Close(paid(channel.contract(), FIRST));
    assert_eq!(channel.handle(now(), &rules(), close), Err(Refusal::Late));
    assert_eq!(step(&channel, Input::Confirmed { height: 201, confirmations: 9 }), channel);
    assert_eq!(step(&channel, Input::Expire(Cause::Expiring)), channel);
    assert_eq!(channel.due(clock_at(EXPIRY), &rules()), None);
}

#[test]
fn an_operator_closes_no_channel_that_was_never_open() {
    let close = Input::Expire(Cause::Operator);
    let pending = pending(Kind::Cltv);
    assert_eq!(pending.handle(now(), &rules(), close.clone()), Err(Refusal::Pending));
    assert_eq!(late(Kind::Cltv).handle(now(), &rules(), close), Err(Refusal::Late));
}

#[test]
fn a_late_channel_ends_with_the_clients_refund() {
    let channel = late(Kind::Cltv);
    let transaction = refund(channel.contract());
    let spent = Mined::recognise(channel.contract(), &transaction, 300).unwrap();
    let channel = step(&channel, Input::Spent(spent));
    assert_eq!(channel.name(), StateName::Closing);
    let ended = step(&channel, Input::Deepened { height: 305 });
    assert_eq!(ended.name(), StateName::Lost);
}

#[test]
fn a_contract_that_a_reorganisation_unmines_is_pending_with_its_account() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 5_000, 4_000_000));
    let unmined = step(&channel, Input::Unconfirmed);
    assert_eq!(unmined.name(), StateName::Pending);
    assert_eq!(unmined.account(), channel.account());
    let refused = unmined.handle(now(), &rules(), pay(&unmined, 5_000, 1));
    assert_eq!(refused, Err(Refusal::Pending));
    let again = step(&unmined, Input::Confirmed { height: 203, confirmations: 2 });
    assert_eq!(again.name(), StateName::Open);
    assert_eq!(again.account(), channel.account());
}

#[test]
fn a_charge_can_be_released_while_the_contract_is_unmined() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 5_000, 4_000_000));
    let unmined = step(&channel, Input::Unconfirmed);
    let release = Input::Release { charge: msat(1_000_000) };
    assert_eq!(step(&unmined, release).account().spent, msat(3_000_000));
}

#[test]
fn a_served_channel_that_confirms_again_too_late_is_settled() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), 5_000, 4_000_000));
    let unmined = step(&channel, Input::Unconfirmed);
    let confirmed = Input::Confirmed { height: 210, confirmations: 2 };
    let expired = step(&unmined, Input::Expire(Cause::Expiring));
    let before = clock_at(EXPIRY - 1);
    assert_eq!(planned(&expired, before), [], "its settlement waits for the contract");
    for seconds in [EXPIRY - STOP, EXPIRY - 1, EXPIRY + 1] {
        let clock = clock_at(seconds);
        let gives_up = (seconds > EXPIRY).then_some(Cause::Expiring);
        assert_eq!(unmined.due(clock, &rules()), gives_up);
        for waiting in [&unmined, &expired] {
            let again = waiting.handle(clock, &rules(), confirmed.clone()).unwrap();
            assert_eq!(again.name(), StateName::Closing);
            assert_eq!(again.account(), channel.account());
            assert!(is_settled_next(&again, clock));
        }
    }
}

#[test]
fn a_contract_that_never_confirms_is_late_at_the_stop_mark() {
    let channel = pending(Kind::Refund);
    let mark = EXPIRY - STOP;
    assert_eq!(channel.due(clock_at(mark - 1), &rules()), None);
    assert_eq!(channel.due(clock_at(mark), &rules()), Some(Cause::Expiring));
    let late = step(&channel, Input::Expire(Cause::Expiring));
    assert_eq!(late.name(), StateName::Late);
    assert_eq!(late.due(clock_at(mark), &rules()), None);
    assert_eq!(late.account(), channel.account());
    assert_eq!(step(&late, Input::Unconfirmed), late);
    let confirmed = Input::Confirmed { height: 210, confirmations: 9 };
    assert_eq!(step(&late, confirmed).name(), StateName::Late, "it is never served");
}

#[test]
fn a_late_contract_that_is_unmined_is_pending() {
    assert_eq!(step(&late(Kind::Refund), Input::Unconfirmed), pending(Kind::Refund));
}

#[test]
fn a_closing_channel_asks_for_a_settlement_and_then_for_its_broadcast() {
    let channel = closing(Kind::Cltv, Cause::Client);
    assert!(matches!(planned(&channel, now()).as_slice(), [Step::Build(_)]));
    assert_eq!(channel.settlement_txid(), None);
    let first = Arc::new(settlement(&channel, 2));
    let built = step(&channel, Input::Settle(Arc::clone(&first)));
    let txid = first.transaction.compute_txid();
    assert_eq!(built.settlement_txid(), Some(txid));
    assert_eq!(planned(&built, now()), [Step::Broadcast(first)]);
    let bumped = settlement(&channel, 20);
    let bumped_txid = bumped.transaction.compute_txid();
    assert_ne!(bumped_txid, txid);
    let built = step(&built, Input::Settle(bumped.into()));
    assert_eq!(built.settlement_txid(), Some(bumped_txid));
}

#[test]
fn a_mined_settlement_is_due_again_when_its_block_is_gone() {
    let channel = closing(Kind::Refund, Cause::Expiring);
    let built = step(&channel, Input::Settle(settlement(&channel, 2).into()));
    let transaction = settlement(&channel, 2).transaction;
    let spent = mined(&transaction, 300, Spender::Settlement);
    let done = step(&built, Input::Spent(spent));
    assert_eq!((is_claimed(&done), planned(&done, now())), (false, vec![]));
    let undone = step(&done, Input::Unspent);
    assert_eq!(undone, built);
    assert_eq!(planned(&undone, now()), [Step::Broadcast(settlement(&channel, 2).into())]);
    let refused = undone.handle(now(), &rules(), pay(&undone, 5_000, 1));
    assert_eq!(refused, Err(Refusal::Closing), "the signature is public");
}

#[test]
fn a_channel_ends_at_depth_6_and_not_before() {
    assert_eq!(DEPTH_FINAL, 6);
    let channel = closing(Kind::Cltv, Cause::Client);
    let transaction = settlement(&channel, 2).transaction;
    let channel = step(&channel, Input::Spent(mined(&transaction, 300, Spender::Settlement)));
    for height in [0, 299, 300, 304] {
        assert_eq!(step(&channel, Input::Deepened { height }), channel, "{height}");
    }
    for height in [305, u32::MAX] {
        let ended = step(&channel, Input::Deepened { height });
        assert_eq!(ended.name(), StateName::Settled, "{height}");
        assert_eq!(ended.settlement_txid(), Some(transaction.compute_txid()));
        assert_eq!(ended.due(now(), &rules()), None);
    }
}

#[test]
fn an_unspent_channel_does_not_end_however_deep_the_chain() {
    let channel = closing(Kind::Cltv, Cause::Client);
    let built = step(&channel, Input::Settle(settlement(&channel, 2).into()));
    for channel in [channel, built, open(Kind::Cltv), pending(Kind::Cltv)] {
        assert_eq!(step(&channel, Input::Deepened { height: u32::MAX }), channel);
    }
}

#[test]
fn an_ended_channel_takes_nothing_and_comes_back_with_a_deep_reorg_only() {
    let channel = closing(Kind::Cltv, Cause::Client);
    let built = settlement(&channel, 2);
    let spent = mined(&built.transaction, 300, Spender::Settlement);
    let channel = step(&channel, Input::Spent(spent));
    let ended = step(&channel, Input::Deepened { height: 305 });
    let close = Input::Close(paid(ended.contract(), 5_000));
    assert_eq!(ended.handle(now(), &rules(), close), Err(Refusal::Ended));
    let refused = ended.handle(now(), &rules(), pay(&ended, 5_000, 0));
    assert_eq!(refused, Err(Refusal::Ended));
    let release = Input::Release { charge: msat(1) };
    assert_eq!(ended.handle(now(), &rules(), release), Err(Refusal::Ended));
    for input in [
        Input::Expire(Cause::Expiring),
        Input::Confirmed { height: 1, confirmations: 9 },
        Input::Unconfirmed,
        Input::Settle(built.into()),
        Input::Spent(Mined { height: 301, ..spent }),
        Input::Deepened { height: 0 },
    ] {
        assert_eq!(step(&ended, input.clone()), ended, "{input:?}");
    }
    let Channel::Closing(closing) = step(&ended, Input::Unspent) else { panic!("{ended:?}") };
    assert!(closing.is_claimed());
    assert_eq!(closing.account, *ended.account());
}

#[test]
fn a_refund_that_comes_first_is_a_loss() {
    for kind in Kind::ALL {
        let channel = closing(kind, Cause::Expiring);
        let built = step(&channel, Input::Settle(settlement(&channel, 2).into()));
        let transaction = refund(channel.contract());
        let spent = Mined::recognise(channel.contract(), &transaction, 300).unwrap();
        assert_eq!(spent, mined(&transaction, 300, Spender::Refund));
        let ended = step(&step(&built, Input::Spent(spent)), Input::Deepened { height: 305 });
        assert_eq!(ended.name(), StateName::Lost);
        assert_eq!(ended.account().payment.paid().get(), 5_000, "what is lost is on record");
        assert_eq!(ended.settlement_txid(), Some(spent.txid));
    }
}

#[test]
fn a_spending_is_noticed_in_every_state_before_the_end() {
    for channel in [pending(Kind::Cltv), late(Kind::Cltv), open(Kind::Cltv)] {
        let (account, height) = (channel.account().clone(), channel.height());
        let spent = mined(&refund(channel.contract()), 300, Spender::Refund);
        let expected = Channel::Closing(Closing {
            account,
            cause: Cause::Spent,
            since: now().now(),
            height,
            settlement: None,
            mined: Some(spent),
            is_written_off: false,
        });
        assert_eq!(step(&channel, Input::Spent(spent)), expected);
        assert!(!is_claimed(&expected));
    }
}

#[test]
fn a_served_channel_whose_spending_is_undone_is_settled() {
    let channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), FIRST, 1));
    let spent = mined(&refund(channel.contract()), 300, Spender::Refund);
    let undone = step(&step(&channel, Input::Spent(spent)), Input::Unspent);
    assert_eq!(undone.name(), StateName::Closing);
    assert!(is_settled_next(&undone, now()));
}

#[test]
fn a_channel_that_was_never_served_is_left_to_its_refund_when_that_is_undone() {
    let channel = open(Kind::Cltv);
    let spent = mined(&refund(channel.contract()), 300, Spender::Refund);
    let undone = step(&step(&channel, Input::Spent(spent)), Input::Unspent);
    assert!(!is_claimed(&undone));
}

#[test]
fn settlements_and_refunds_of_both_kinds_are_told_apart() {
    for kind in Kind::ALL {
        let channel = open(kind);
        let contract = channel.contract();
        let recognise = |transaction: &Transaction| {
            Mined::recognise(contract, transaction, 300).map(|mined| (mined.height, mined.by))
        };
        let pair = settlement(&channel, 2).transaction;
        assert_eq!(recognise(&pair), Some((300, Spender::Settlement)), "{kind}");
        let everything = step(&channel, pay(&channel, CAPACITY, 1));
        let exhausted = settlement(&everything, 2).transaction;
        assert_eq!(recognise(&exhausted), Some((300, Spender::Settlement)), "{kind}");
        let refund = refund(contract);
        assert_eq!(recognise(&refund), Some((300, Spender::Refund)), "{kind}");
    }
}

#[test]
fn a_channel_is_recognised_in_the_midst_of_a_batch() {
    let channel = open(Kind::Cltv);
    let other = Contract { outpoint: outpoint(3), ..(**channel.contract()).clone() };
    let (a, b) = (paid(&other, 2_000), channel.account().payment);
    let members = [
        Member { contract: &other, payment: &a },
        Member { contract: channel.contract(), payment: &b },
    ];
    let batch = Settlement::build(&members, &keyring(), &p2wpkh(), Fee::at(rate(2))).unwrap();
    let found = Mined::recognise(channel.contract(), &batch.transaction, 300).unwrap();
    let settled = sat(FIRST);
    assert_eq!(found, Mined { settled, ..mined(&batch.transaction, 300, Spender::Settlement) });
}

#[test]
fn a_transaction_that_spends_something_else_is_none_of_the_channels() {
    let channel = open(Kind::Refund);
    let mut other = settlement(&channel, 2).transaction;
    other.input[0].previous_output.vout += 1;
    assert_eq!(Mined::recognise(channel.contract(), &other, 300), None);
    let funding = funding(&[]);
    assert_eq!(Mined::recognise(channel.contract(), &funding, 300), None);
}
