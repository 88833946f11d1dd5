//! A client with an old copy, or with nothing but its key: what it believes, and what it does not.

use bitcoin::Network;
use farebox_channel::client::{Distrust, Held, Purse, Recovered};
use farebox_channel::gateway::Channel;
use farebox_channel::message::{ChannelStatus, StateName};
use farebox_channel::{Contract, Kind, Payment, Payout, RefundError};

use crate::support::{
    CAPACITY, FIRST, client_key, contract, expiry, gateway, key, keyring, msat, now, open,
    outpoint, paid, pay, payouts, rate, sat, step, terms,
};

/// What an honest gateway tells of a channel.
fn told(channel: &Channel) -> ChannelStatus {
    channel.status(keyring().pass(channel.contract().outpoint))
}

/// A channel that has paid 5,000 sat and spent 4,200 of them.
fn channel(kind: Kind) -> Channel {
    step(&open(kind), pay(&open(kind), 5_000, 4_200_000))
}

fn recover(told: &ChannelStatus) -> Result<Recovered, Distrust> {
    Recovered::verify(told, Network::Regtest, &client_key())
}

/// The purse that a client makes of what it is told.
fn recovered(kind: Kind) -> Purse {
    let recovered = recover(&told(&channel(kind))).unwrap();
    let sign = |request| gateway().sign_refund(&request, now()).unwrap().signature;
    let signature = recovered.refund_request().map(sign);
    recovered.hold(signature).unwrap()
}

/// Lies of a gateway about a channel, each in one respect.
fn lies(kind: Kind) -> Vec<ChannelStatus> {
    let honest = told(&channel(kind));
    let other_kind = if kind == Kind::Cltv { Kind::Refund } else { Kind::Cltv };
    let signed_by = |number, sat_paid| {
        Payment::sign(channel(kind).contract(), sat(sat_paid), &key(number)).unwrap()
    };
    let raised = Payment { paid: sat(5_001), ..honest.payment };
    vec![
        ChannelStatus { channel: outpoint(8), ..honest.clone() },
        ChannelStatus { gateway_key: terms(other_kind).gateway_key, ..honest.clone() },
        ChannelStatus { kind: other_kind, ..honest.clone() },
        ChannelStatus { expiry: expiry(u64::from(honest.expiry.get()) + 1), ..honest.clone() },
        ChannelStatus { capacity: sat(CAPACITY + 1), ..honest.clone() },
        ChannelStatus { payout: payouts()[1].0.clone(), ..honest.clone() },
        ChannelStatus { payment: raised, ..honest.clone() },
        ChannelStatus { payment: signed_by(7, 5_000), ..honest.clone() },
        ChannelStatus { spent: msat(5_000_001), ..honest.clone() },
        ChannelStatus { least: sat(5_001), ..honest.clone() },
        ChannelStatus { least: sat(CAPACITY), ..honest },
    ]
}

#[test]
fn a_client_with_nothing_but_its_key_finds_its_channel_and_pays_on() {
    for kind in Kind::ALL {
        let purse = recovered(kind);
        assert_eq!(purse.contract(), &**channel(kind).contract());
        assert_eq!((purse.spent, purse.least), (msat(4_200_000), sat(FIRST)));
        let (_, request) = purse.pay(msat(800_001), &client_key()).unwrap();
        assert_eq!(request.payment.paid, sat(5_001));
        let payment = request.payment.verify(purse.contract()).unwrap();
        let input = farebox_channel::gateway::Input::Pay { payment, price: msat(800_001) };
        assert_eq!(step(&channel(kind), input).account().spent, msat(5_000_001));
        let refund = purse.refund.transaction(&payouts()[0].0, rate(2), &client_key());
        assert!(refund.is_ok(), "the refund is complete again");
    }
}

#[test]
fn a_close_is_for_no_more_than_what_is_signed_whatever_a_gateway_has_told() {
    for kind in Kind::ALL {
        let purse = Purse { least: sat(CAPACITY), ..recovered(kind) };
        assert_eq!(purse.final_amount(), sat(5_000));
    }
}

#[test]
fn a_recovered_channel_closes_for_the_first_payment_that_its_client_has_kept() {
    let told = ChannelStatus { spent: msat(0), least: sat(5_000), ..told(&channel(Kind::Cltv)) };
    let kept = recovered(Kind::Cltv).refund;
    let held = Held { refund: kept, transaction: None, first_payment: sat(FIRST) };
    assert_eq!(recover(&told).unwrap().with(held).final_amount(), sat(FIRST));
}

#[test]
fn a_recovered_channel_needs_the_gateways_half_of_its_refund_again() {
    let lost = recover(&told(&channel(Kind::Refund))).unwrap();
    assert_eq!(lost.clone().hold(None), Err(RefundError::Unsigned));
    let foreign = *channel(Kind::Refund).account().payment.payment();
    assert!(matches!(lost.hold(Some(foreign.signature)), Err(RefundError::BadSignature)));
    assert_eq!(recover(&told(&channel(Kind::Cltv))).unwrap().refund_request(), None);
}

#[test]
fn a_client_believes_no_status_that_its_own_signature_does_not_bear_out() {
    for kind in Kind::ALL {
        for (number, lie) in lies(kind).iter().enumerate() {
            assert!(recovered(kind).resynchronise(lie).is_err(), "lie {number}");
            // The script of a `refund` contract does not name its expiry.
            if kind == Kind::Cltv || lie.expiry == told(&channel(kind)).expiry {
                assert!(recover(lie).is_err(), "lie {number} of a {kind} channel");
            }
        }
    }
    let network = Recovered::verify(&told(&channel(Kind::Cltv)), Network::Signet, &client_key());
    assert!(network.is_ok(), "no signature says on which chain an outpoint is");
    let stranger = Recovered::verify(&told(&channel(Kind::Cltv)), Network::Regtest, &key(7));
    assert_eq!(stranger, Err(Distrust::Unsigned { named: sat(5_000) }));
}

#[test]
fn the_expiry_of_a_recovered_refund_contract_is_believed_once_its_refund_is_signed_for_it() {
    let honest = told(&channel(Kind::Refund));
    let sign = |request| gateway().sign_refund(&request, now()).unwrap().signature;
    let signature = recover(&honest).unwrap().refund_request().map(sign);
    let lie = ChannelStatus { expiry: expiry(u64::from(honest.expiry.get()) + 1), ..honest };
    let held = recover(&lie).unwrap().hold(signature);
    assert_eq!(held, Err(RefundError::BadSignature));
}

#[test]
fn a_payout_script_is_believed_once_it_is_signed_for() {
    // At the whole capacity nothing is signed of the outputs, and nothing is left to pay out.
    let whole = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), CAPACITY, 0));
    let other: Payout = payouts()[1].0.clone();
    let lie = ChannelStatus { payout: other, ..told(&whole) };
    assert!(recover(&lie).is_ok());
    let lie = ChannelStatus { payout: lie.payout, ..told(&channel(Kind::Cltv)) };
    assert_eq!(recover(&lie), Err(Distrust::Unsigned { named: sat(5_000) }));
}

#[test]
fn an_old_copy_takes_the_newer_payment_and_the_greater_amount_spent() {
    let old = Purse { payment: *first().payment(), spent: msat(100), ..recovered(Kind::Cltv) };
    let fresh = old.resynchronise(&told(&channel(Kind::Cltv))).unwrap();
    assert_eq!((fresh.payment.paid, fresh.spent), (sat(5_000), msat(4_200_000)));
    assert_eq!(fresh, recovered(Kind::Cltv));
}

#[test]
fn a_copy_that_is_newer_than_the_gateways_record_stays_as_it_is() {
    let newest = *paid(&contract_of(), 6_000).payment();
    let newer = Purse { payment: newest, spent: msat(5_900_000), ..recovered(Kind::Cltv) };
    assert_eq!(newer.resynchronise(&told(&channel(Kind::Cltv))), Ok(newer));
}

fn contract_of() -> Contract {
    (**channel(Kind::Cltv).contract()).clone()
}

fn first() -> farebox_channel::VerifiedPayment {
    assert_eq!(contract_of().terms, contract(Kind::Cltv).terms);
    assert_eq!(channel(Kind::Cltv).name(), StateName::Open);
    paid(&contract_of(), FIRST)
}
