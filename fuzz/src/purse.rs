//! The client's side: it signs no more than it agreed to, whatever the gateway says.

use farebox_channel::client::{CannotPay, Held, Purse};
use farebox_channel::message::{ContractRequest, Receipt, StateName, StateReply};
use farebox_channel::{Contract, Msat, Place, Refund, RefundRequest, Timestamp};

use crate::bytes::Bytes;
use crate::parties::{FIRST, NOW, client_key, gateway, msat, paid, sat};

/// The most steps of one run.
const STEPS_MAX: usize = 100;

/// Plays a client: each byte chooses what it does, or what it is told.
pub(crate) fn play(contract: &Contract, bytes: &mut Bytes<'_>) {
    let mut purse = purse(contract);
    for _ in 0..STEPS_MAX {
        let Some(choice) = bytes.next() else { break };
        let price = msat(bytes.number());
        purse = match choice % 4 {
            0 | 1 => pay(&purse, price),
            2 => receive(&purse, &told(&purse, bytes), price),
            _ => {
                let next = purse.take_back(price);
                assert!(next.spent <= purse.spent && next.payment == purse.payment);
                next
            }
        };
        check(&purse);
    }
    check_close(&purse);
}

/// The purse of a channel that has just opened.
fn purse(contract: &Contract) -> Purse {
    let (gateway, terms, outpoint) = (gateway(), &contract.terms, contract.outpoint);
    let request = RefundRequest {
        outpoint,
        capacity: contract.capacity,
        client_key: terms.client_key,
        expiry: terms.expiry,
    };
    let key = gateway.keyring.channel_key(terms.kind, &terms.client_key, terms.expiry);
    let half = key.sign_refund(&request, terms.network);
    let refund = Refund::new(contract.clone(), Some(half)).unwrap();
    let payment = *paid(contract, FIRST).payment();
    let held = Held { refund, transaction: None, first_payment: payment.paid };
    let shown = ContractRequest { payment, ..held.show(&client_key()).unwrap() };
    let reply = StateReply {
        channel: outpoint,
        state: StateName::Open,
        pass: gateway.pass(outpoint),
        paid: payment.paid,
        settlement: None,
    };
    held.open(&shown, &reply)
}

fn pay(purse: &Purse, price: Msat) -> Purse {
    let contract = purse.contract();
    let wanted = purse.spent.get() + price.get();
    let is_enough = wanted <= contract.capacity.get() * 1_000;
    match purse.pay(price, &client_key()) {
        Ok((next, request)) => {
            assert!(is_enough);
            assert_eq!(next.spent.get(), wanted);
            assert_eq!((request.payment, request.channel), (next.payment, contract.outpoint));
            if wanted <= purse.payment.paid.get() * 1_000 {
                assert_eq!(next.payment, purse.payment, "what is paid is signed again");
            } else {
                assert_eq!(Some(next.payment.paid), contract.payable(next.spent.to_sat_ceil()));
                assert!(next.payment.verify(contract).is_ok());
            }
            next
        }
        Err(CannotPay::Exhausted { left, .. }) => {
            assert!(!is_enough && left < price);
            purse.clone()
        }
        Err(CannotPay::Payment(error)) => panic!("{error}"),
    }
}

/// What the gateway says, near the truth or far from it.
fn told(purse: &Purse, bytes: &mut Bytes<'_>) -> Receipt {
    let (paid, spent) = (u64::from(bytes.number()), msat(bytes.number()));
    let is_near = bytes.byte() & 1 == 0;
    Receipt {
        paid: if is_near { purse.payment.paid } else { sat(paid) },
        spent: if is_near { purse.spent.min(spent) } else { spent },
        credit: Msat::ZERO,
        price: msat(bytes.number()),
        is_running: false,
    }
}

fn receive(purse: &Purse, receipt: &Receipt, price: Msat) -> Purse {
    let is_true = receipt.spent <= purse.spent
        && receipt.price <= price
        && receipt.paid <= purse.payment.paid;
    match purse.receive(receipt, price) {
        Ok(next) => {
            assert!(is_true, "{receipt:?} is believed");
            assert!(next.spent <= purse.spent);
            assert_eq!(Purse { spent: purse.spent, ..next.clone() }, *purse);
            next
        }
        Err(_) => {
            assert!(!is_true, "{receipt:?} is not believed");
            purse.clone()
        }
    }
}

fn check(purse: &Purse) {
    let (paid, capacity) = (purse.payment.paid, purse.contract().capacity);
    assert!(purse.spent <= paid.to_msat() && paid <= capacity);
    assert_eq!(purse.left().get() + purse.spent.get(), capacity.get() * 1_000);
    let last = purse.final_amount();
    assert!(last.to_msat() >= purse.spent && last >= purse.least);
    assert_eq!(purse.contract().payable(last), Some(last));
}

fn check_close(purse: &Purse) {
    let place = Place { network: purse.contract().terms.network, host: "127.0.0.1:8402" };
    let time = Timestamp::new(u64::from(NOW));
    let request = purse.close(place, time, &client_key()).unwrap();
    assert_eq!(request.payment.paid, purse.final_amount());
    assert!(request.payment.verify(purse.contract()).is_ok());
}
