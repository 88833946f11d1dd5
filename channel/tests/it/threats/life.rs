//! Whole lives of channels: what is paid arrives, whatever happens on the way.

use farebox_channel::gateway::{Cause, Channel, Input, Mined, Step};
use farebox_channel::message::StateName;
use farebox_channel::{
    Contract, Fee, Kind, Member, Refund, RefundRequest, Settlement, SettlementError,
};

use crate::settlement::{channel, settle};
use crate::support::{
    CAPACITY, check_spend, client_key, clock_at, contract, gateway, is_claimed, is_settled_next,
    keyring, law, now, open, p2wpkh, paid, pay, pending, planned, rate, sat, step,
};

/// Builds a settlement of what a channel has paid.
fn build(channel: &Channel, sat_per_vb: u64) -> Result<Settlement, SettlementError> {
    let member = Member { contract: channel.contract(), payment: &channel.account().payment };
    Settlement::build(&[member], &keyring(), &p2wpkh(), Fee::at(rate(sat_per_vb)))
}

/// The input that tells that `settlement` stands in the block at `height`.
fn mined(channel: &Channel, settlement: &Settlement, height: u32) -> Input {
    Input::Spent(Mined::recognise(channel.contract(), &settlement.transaction, height).unwrap())
}

#[test]
fn payments_before_and_after_the_confirmation_are_settled_as_one() {
    for kind in Kind::ALL {
        let mut channel = pending(kind);
        for amount in [2_000, 3_000, 4_000, 5_000] {
            channel = step(&channel, pay(&channel, amount, 0));
        }
        channel = step(&channel, Input::Confirmed { height: 201, confirmations: 2 });
        channel = step(&channel, pay(&channel, 6_000, 6_000_000));
        channel = step(&channel, Input::Close(paid(channel.contract(), 6_000)));
        let settlement = build(&channel, 2).unwrap();
        channel = step(&channel, Input::Settle(settlement.clone().into()));
        channel = step(&channel, mined(&channel, &settlement, 210));
        channel = step(&channel, Input::Deepened { height: 215 });

        assert_eq!(channel.name(), StateName::Settled);
        let [change, share] = settlement.transaction.output.as_slice() else { panic!("{kind}") };
        assert_eq!(change.value.to_sat(), CAPACITY - 6_000);
        assert_eq!(share.value.to_sat() + settlement.fee.get(), 6_000);
        let spent = check_spend(&settlement.transaction, 0, &channel.contract().output());
        assert_eq!(spent, Ok(()), "{kind}");
    }
}

/// A channel that has paid 5,000 sat and closes.
fn closing(kind: Kind) -> Channel {
    let channel = step(&open(kind), pay(&open(kind), 5_000, 4_000_000));
    step(&channel, Input::Expire(Cause::Expiring))
}

/// The client's refund of `contract`, in the block at `height`.
fn refunded(contract: &Contract, height: u32) -> Input {
    let request = RefundRequest {
        outpoint: contract.outpoint,
        capacity: contract.capacity,
        client_key: contract.terms.client_key,
        expiry: contract.terms.expiry,
    };
    let signature = gateway().sign_refund(&request, now()).unwrap().signature;
    let refund = Refund::new(contract.clone(), Some(signature)).unwrap();
    let transaction = refund.transaction(&p2wpkh(), rate(2), &client_key()).unwrap();
    Input::Spent(Mined::recognise(contract, &transaction, height).unwrap())
}

#[test]
fn whichever_settlement_is_mined_ends_the_channel() {
    let channel = closing(Kind::Refund);
    let (older, newer) = (build(&channel, 2).unwrap(), build(&channel, 20).unwrap());
    let unknown = build(&channel, 7).unwrap(); // of another process with the same seed
    let channel = step(&channel, Input::Settle(older.clone().into()));
    let channel = step(&channel, Input::Settle(newer.clone().into()));
    for settlement in [older, newer, unknown] {
        let done = step(&channel, mined(&channel, &settlement, 300));
        assert!(!is_claimed(&done));
        let ended = step(&done, Input::Deepened { height: 305 });
        assert_eq!(ended.name(), StateName::Settled);
        assert_eq!(ended.settlement_txid(), Some(settlement.transaction.compute_txid()));
    }
}

#[test]
fn a_settlement_that_a_reorg_unmines_at_any_depth_is_due_again() {
    for kind in Kind::ALL {
        let channel = closing(kind);
        let settlement = build(&channel, 2).unwrap();
        let built = step(&channel, Input::Settle(settlement.clone().into()));
        let done = step(&built, mined(&built, &settlement, 300));
        for height in 300..310 {
            let deeper = step(&done, Input::Deepened { height });
            let undone = step(&deeper, Input::Unspent);
            let broadcast = [Step::Broadcast(settlement.clone().into())];
            assert_eq!(planned(&undone, now()), broadcast, "{kind}, {height}");
            // By then the client may be faster: that is a loss with its amount, and no end yet.
            let lost = step(&undone, refunded(undone.contract(), 301));
            assert_eq!(lost.name(), StateName::Closing);
            let lost = step(&lost, Input::Deepened { height: 306 });
            assert_eq!((lost.name(), lost.account().payment.paid()), (StateName::Lost, sat(5_000)));
        }
    }
}

#[test]
fn a_channel_that_cannot_pay_its_settlement_stays_due_and_keeps_its_payment() {
    for kind in Kind::ALL {
        let channel = closing(kind);
        let refused = build(&channel, 50).unwrap_err();
        assert!(matches!(refused, SettlementError::Uneconomic { .. }), "{refused}");
        let much_later = clock_at(u64::MAX);
        for (clock, height) in [(now(), 300), (now(), 3_000), (much_later, u32::MAX)] {
            let waiting = step(&channel, Input::Deepened { height });
            assert_eq!(waiting, channel);
            assert!(is_claimed(&waiting));
            assert!(is_settled_next(&waiting, clock));
        }
        let cheaper = build(&channel, 2).unwrap();
        assert_eq!(cheaper.share.get() + cheaper.fee.get(), 5_000);
    }
}

#[test]
fn a_settlement_goes_out_from_the_fee_of_its_change_on() {
    for kind in Kind::ALL {
        let mut paid_out = 0;
        for paid_sat in 1_000..1_400 {
            match settle(&[channel(kind, 9, paid_sat)], 10) {
                Ok(settlement) => {
                    assert!(settlement.fee.get() <= paid_sat);
                    paid_out += 1;
                }
                Err(SettlementError::Uneconomic { paid, fee_sat }) => {
                    assert_eq!(paid, sat(paid_sat));
                    assert!(fee_sat > paid_sat, "{kind}: {paid_sat} sat pay {fee_sat} sat");
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!((1..400).contains(&paid_out), "{kind}: {paid_out}");
    }
}

#[test]
fn a_first_payment_of_200_vb_settles_at_the_rate_of_the_opening() {
    law(100, 1..500_u64, |sat_per_vb| {
        for kind in Kind::ALL {
            let contract = Contract { capacity: sat(1_000_000), ..contract(kind) };
            let payment = paid(&contract, 200 * sat_per_vb);
            let settlement = settle(&[(contract.clone(), payment)], sat_per_vb).unwrap();
            assert!(settlement.fee <= payment.paid());
            let spent = check_spend(&settlement.transaction, 0, &contract.output());
            assert_eq!(spent, Ok(()), "{kind}");
        }
    });
}
