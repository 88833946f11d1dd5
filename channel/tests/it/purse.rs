//! The client's purse: what it signs, what it is charged, what it does not believe.

use bitcoin::Network;
use farebox_channel::client::{CannotPay, Distrust, Purse};
use farebox_channel::message::{Receipt, StateName, StateReply};
use farebox_channel::{
    Contract, Kind, Msat, Payment, PaymentError, Place, Sat, Subject, Timestamp,
};

use crate::client::funded;
use crate::support::{CAPACITY, FIRST, NOW, client_key, gateway, key, msat, public, sat};

/// An open channel's purse after the first payment.
pub(crate) fn purse() -> Purse {
    let held = funded(Kind::Cltv).hold(None).unwrap();
    let shown = held.show(&client_key()).unwrap();
    let reply = StateReply {
        channel: shown.outpoint,
        state: StateName::Open,
        pass: gateway().pass(shown.outpoint),
        paid: shown.payment.paid,
        settlement: None,
    };
    held.open(&shown, &reply)
}

/// The amounts of the payments that a purse signs for these prices.
fn amounts(prices: &[u64]) -> Result<Vec<u64>, CannotPay> {
    let mut purse = purse();
    let mut amounts = vec![];
    for price in prices {
        let (next, request) = purse.pay(msat(*price), &client_key())?;
        amounts.push(request.payment.paid.get());
        purse = next;
    }
    Ok(amounts)
}

#[test]
fn a_purse_pays_the_least_that_covers_a_price() {
    let first = FIRST * 1_000;
    assert_eq!(amounts(&[first - 1, 1]), Ok(vec![FIRST, FIRST]));
    assert_eq!(amounts(&[first, 1, 999, 1]), Ok(vec![FIRST, 1_001, 1_001, 1_002]));
    assert_eq!(amounts(&[0]), Ok(vec![FIRST]));
}

#[test]
fn a_repeated_payment_is_the_very_same() {
    let purse = purse();
    let (next, request) = purse.pay(msat(1), &client_key()).unwrap();
    assert_eq!(request.payment, purse.payment);
    assert_eq!(request.pass, purse.pass);
    assert_eq!(next.spent, msat(1));
}

/// The amounts of the payments that a purse signs for these prices, with so much credit each time.
fn amounts_with(credit: u64, prices: &[u64]) -> Vec<u64> {
    let mut purse = purse();
    let mut amounts = vec![];
    for price in prices {
        let (next, request) =
            purse.pay_with_credit(msat(*price), msat(credit), &client_key()).unwrap();
        assert_eq!(next.spent.get(), purse.spent.get() + price, "credit is not spent");
        amounts.push(request.payment.paid.get());
        purse = next;
    }
    amounts
}

#[test]
fn a_purse_signs_ahead_where_it_signs_at_all_and_as_far_as_the_channel_holds_it() {
    let first = FIRST * 1_000;
    assert_eq!(
        amounts_with(2_500, &[first, 1, 2_500, 500]),
        [FIRST, FIRST + 3, FIRST + 3, FIRST + 6]
    );
    let all = CAPACITY * 1_000;
    assert_eq!(amounts_with(all, &[first, 1]), [FIRST, CAPACITY]);
    // 100 sat would be left, which is dust, and so much was not asked for.
    let most = all - first - 100_000 - 1;
    assert_eq!(amounts_with(most, &[first, 1]), [FIRST, FIRST + 1]);
}

#[test]
fn a_purse_signs_nothing_ahead_that_running_answers_would_draw_on() {
    let purse = purse().shared();
    let (_, request) = purse.pay_with_credit(msat(1), msat(5_000), &client_key()).unwrap();
    assert_eq!(request.payment.paid.get(), FIRST + 1);
}

#[test]
fn a_purse_pays_everything_rather_than_leave_dust() {
    let edge = (CAPACITY - 294) * 1_000;
    assert_eq!(amounts(&[edge, 1, 293_999]), Ok(vec![CAPACITY - 294, CAPACITY, CAPACITY]));
    let left = Msat::ZERO;
    let refused = CannotPay::Exhausted { left, price: msat(1) };
    assert_eq!(amounts(&[CAPACITY * 1_000, 1]), Err(refused));
    let (left, price) = (msat(CAPACITY * 1_000), msat(CAPACITY * 1_000 + 1));
    assert_eq!(amounts(&[price.get()]), Err(CannotPay::Exhausted { left, price }));
    let price = Msat::MAX;
    assert_eq!(amounts(&[price.get()]), Err(CannotPay::Exhausted { left, price }));
}

#[test]
fn a_gateway_that_overcharges_is_not_trusted() {
    let (purse, _) = purse().pay(msat(2_500), &client_key()).unwrap();
    let receive = |spent: u64, price: u64| {
        let credit = Msat::ZERO;
        let (paid, spent, price, is_running) = (sat(FIRST), msat(spent), msat(price), false);
        let receipt = Receipt { paid, spent, credit, price, is_running };
        purse.receive(&receipt, msat(2_500)).map(|purse| purse.spent.get())
    };
    assert_eq!(receive(2_500, 2_500), Ok(2_500));
    let overcharged = Distrust::Overcharged { charged: msat(2_501), agreed: msat(2_500) };
    assert_eq!(receive(2_501, 2_500), Err(overcharged));
    let dearer = receive(2_500, 2_501);
    assert!(matches!(dearer, Err(Distrust::Overcharged { .. })));
    assert_eq!(receive(2_000, 2_000), Ok(2_000), "less may be charged");
    assert_eq!(receive(0, 0), Ok(0), "a request that was not charged");
}

#[test]
fn a_receipt_leaves_other_requests_on_their_way_agreed_to() {
    let (purse, _) = purse().pay(msat(2_500), &client_key()).unwrap();
    let (purse, _) = purse.pay(msat(1_000), &client_key()).unwrap();
    let receipt = Receipt {
        paid: sat(FIRST),
        spent: msat(2_500),
        credit: msat(997_500),
        price: msat(2_500),
        is_running: false,
    };
    assert_eq!(purse.receive(&receipt, msat(2_500)).unwrap().spent, msat(3_500));
}

#[test]
fn a_gateway_that_names_a_payment_never_signed_is_not_trusted() {
    let purse = purse();
    let receipt = |paid| Receipt {
        paid: sat(paid),
        spent: Msat::ZERO,
        credit: Msat::ZERO,
        price: Msat::ZERO,
        is_running: false,
    };
    let (named, signed) = (sat(FIRST + 1), sat(FIRST));
    let refused = purse.receive(&receipt(FIRST + 1), Msat::ZERO);
    assert_eq!(refused, Err(Distrust::OtherPayment { named, signed }));
    assert!(purse.receive(&receipt(FIRST), Msat::ZERO).is_ok());
    assert!(purse.receive(&receipt(FIRST - 1), Msat::ZERO).is_ok(), "an older one");
}

#[test]
fn a_refused_price_is_taken_back() {
    let purse = purse();
    let (paying, _) = purse.pay(msat(2_500), &client_key()).unwrap();
    assert_eq!(paying.take_back(msat(2_500)), purse);
    assert_eq!(purse.take_back(msat(1)).spent, Msat::ZERO);
    assert_eq!(paying.left(), msat(CAPACITY * 1_000 - 2_500));
}

#[test]
fn a_close_asks_for_what_is_spent_and_is_good_at_the_gateway() {
    let place = Place { network: Network::Regtest, host: "api.example.com" };
    let close = |price: u64| {
        let (purse, _) = purse().pay(msat(price), &client_key()).unwrap();
        purse.close(place, Timestamp::new(NOW), &client_key()).unwrap()
    };
    assert_eq!(close(1).payment.paid, sat(FIRST), "the first payment at least");
    assert_eq!(close(FIRST * 1_000 + 1).payment.paid, sat(FIRST + 1));
    assert_eq!(close((CAPACITY - 293) * 1_000).payment.paid, sat(CAPACITY), "or all");
    let request = close(5_000_000);
    let contract: Contract = purse().contract().clone();
    assert_eq!(request.payment.verify(&contract).map(|payment| payment.paid()), Ok(sat(5_000)));
    let subject = Subject::Close(request.channel);
    let proven = request.proof.verify(&subject, place, Timestamp::new(NOW), &public(&client_key()));
    assert_eq!(proven, Ok(()));
}

#[test]
fn a_foreign_signature_is_no_payment_of_the_purse() {
    let purse = purse();
    let (_, request) = purse.pay(msat(FIRST * 1_000 + 1), &key(5)).unwrap();
    let refused = request.payment.verify(purse.contract());
    assert_eq!(refused, Err(PaymentError::BadSignature));
    assert!(Payment::sign(purse.contract(), Sat::MAX, &client_key()).is_err());
}
