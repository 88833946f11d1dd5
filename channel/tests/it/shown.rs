//! Contracts that are shown to the gateway.

use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut, Witness, absolute};
use farebox_channel::gateway::Refusal;
use farebox_channel::message::{ContractRequest, StateName};
use farebox_channel::{
    ChainTime, Contract, ContractMismatch, Kind, Payment, PaymentError, Sat, Seconds, Terms,
};

use crate::support::{
    CAPACITY, EXPIRY, FIRST, chain, client_key, clock_at, contract, expiry, funding, gateway, key,
    now, p2wpkh, payouts, public, sat, shown, terms,
};

const DAY: u32 = 86_400;

/// What the gateway says to `request`.
fn check(request: &ContractRequest) -> Result<Contract, Refusal> {
    gateway().check_shown(request, now(), chain()).map(|shown| shown.contract().clone())
}

/// Shows `transaction`, its output `vout`, with all that follows from it.
fn show(kind: Kind, transaction: Transaction, vout: u32) -> Result<Contract, Refusal> {
    let outpoint = bitcoin::OutPoint { txid: transaction.compute_txid(), vout };
    let contract = Contract { outpoint, ..contract(kind) };
    let payment = Payment::sign(&contract, sat(FIRST), &client_key()).unwrap();
    check(&ContractRequest { outpoint, transaction: Some(transaction), payment, ..shown(kind) })
}

#[test]
fn a_good_contract_is_taken_with_or_without_its_transaction() {
    for kind in Kind::ALL {
        let with = shown(kind);
        let without = ContractRequest { transaction: None, ..with.clone() };
        let expected = Contract { outpoint: with.outpoint, ..contract(kind) };
        assert_eq!(check(&with), Ok(expected.clone()));
        assert_eq!(check(&without), Ok(expected));
    }
}

#[test]
fn a_shown_contract_is_pending_with_its_first_payment() {
    let shown = gateway().check_shown(&shown(Kind::Cltv), now(), chain()).unwrap();
    let output = shown.contract().output();
    let channel = shown.clone().admit(&output).unwrap();
    assert_eq!(channel.name(), StateName::Pending);
    assert_eq!(channel.account().payment, shown.payment());
    assert_eq!(channel.account().payment.paid(), sat(FIRST));
    assert_eq!(channel.account().spent.get(), 0);
    assert_eq!(channel.account().least, sat(FIRST));
}

#[test]
fn a_transaction_that_is_not_the_contract_is_refused() {
    let kind = Kind::Cltv;
    let script = terms(kind).script_pubkey();
    let refused = |transaction, vout| match show(kind, transaction, vout) {
        Err(Refusal::Contract(mismatch)) => mismatch,
        other => panic!("{other:?}"),
    };
    let good = || funding(&[(CAPACITY, script.clone())]);
    assert!(show(kind, good(), 0).is_ok());
    assert_eq!(refused(good(), 1), ContractMismatch::NoOutput(1));
    assert_eq!(refused(good(), u32::MAX), ContractMismatch::NoOutput(u32::MAX));
    let elsewhere = funding(&[(1, p2wpkh().script().into()), (CAPACITY, script.clone())]);
    assert_eq!(refused(elsewhere, 0), ContractMismatch::OtherScript);
    let wrapped = funding(&[(CAPACITY, ScriptBuf::new_p2sh(&script.script_hash()))]);
    assert_eq!(refused(wrapped, 0), ContractMismatch::OtherScript);
    let mut other = shown(kind);
    other.transaction = Some(good());
    let txid = good().compute_txid();
    assert_eq!(check(&other), Err(ContractMismatch::OtherTransaction(txid).into()));
}

#[test]
fn a_contract_of_other_terms_is_refused() {
    for kind in Kind::ALL {
        let terms = terms(kind);
        let swapped =
            Terms { gateway_key: terms.client_key, client_key: terms.gateway_key, ..terms };
        let later = Terms { expiry: expiry(EXPIRY + 1), ..terms };
        let stranger = Terms { gateway_key: public(&key(5)), ..terms };
        for other in [swapped, stranger] {
            let refused = show(kind, funding(&[(CAPACITY, other.script_pubkey())]), 0);
            assert_eq!(refused, Err(ContractMismatch::OtherScript.into()), "{kind}");
        }
        let refused = show(kind, funding(&[(CAPACITY, later.script_pubkey())]), 0);
        // A `refund` script holds no expiry; the key in it does.
        assert_eq!(refused.is_ok(), kind == Kind::Refund);
    }
}

#[test]
fn the_expiry_of_a_refund_contract_is_in_the_gateways_key() {
    let later = gateway().keyring.terms(Kind::Refund, public(&client_key()), expiry(EXPIRY + 1));
    let refused = show(Kind::Refund, funding(&[(CAPACITY, later.script_pubkey())]), 0);
    assert_eq!(refused, Err(ContractMismatch::OtherScript.into()));
}

#[test]
fn the_capacity_is_the_one_of_the_output() {
    for kind in Kind::ALL {
        for found in [CAPACITY - 1, CAPACITY + 1] {
            let transaction = funding(&[(found, terms(kind).script_pubkey())]);
            let refused = Refusal::OtherCapacity { shown: sat(CAPACITY), found: sat(found) };
            assert_eq!(show(kind, transaction, 0), Err(refused));
        }
    }
    let absurd = funding(&[(u64::MAX, terms(Kind::Cltv).script_pubkey())]);
    let refused = show(Kind::Cltv, absurd, 0);
    assert!(matches!(refused, Err(Refusal::Contract(ContractMismatch::Value(_)))));
}

#[test]
fn a_refund_contract_spends_native_segwit_coins_only() {
    let change = |kind, change: fn(&mut Transaction)| {
        let mut transaction = funding(&[(CAPACITY, terms(kind).script_pubkey())]);
        transaction.input.push(transaction.input[0].clone());
        change(&mut transaction);
        show(kind, transaction, 0)
    };
    let legacy = |transaction: &mut Transaction| transaction.input[1].witness = Witness::new();
    let nested = |transaction: &mut Transaction| {
        transaction.input[1].script_sig = ScriptBuf::from_bytes(vec![0x51]);
    };
    assert!(change(Kind::Refund, |_| ()).is_ok());
    for malleable in [legacy, nested] {
        let refused = change(Kind::Refund, malleable);
        assert_eq!(refused, Err(ContractMismatch::NotSegwit(1).into()));
        assert!(change(Kind::Cltv, malleable).is_ok(), "any wallet may fund it");
    }
}

#[test]
fn a_contract_that_cannot_be_mined_yet_is_refused() {
    let ChainTime { height, median_time_past } = chain();
    let with = |lock_time, sequence| {
        let mut transaction = funding(&[(CAPACITY, terms(Kind::Cltv).script_pubkey())]);
        transaction.lock_time = absolute::LockTime::from_consensus(lock_time);
        transaction.input[0].sequence = sequence;
        show(Kind::Cltv, transaction, 0).map(|_| ())
    };
    let not_final = Err(ContractMismatch::NotFinal.into());
    assert_eq!(with(height, Sequence::ZERO), Ok(()));
    assert_eq!(with(height + 1, Sequence::ZERO), not_final);
    assert_eq!(with(median_time_past - 1, Sequence::ZERO), Ok(()));
    assert_eq!(with(median_time_past, Sequence::ZERO), not_final);
    assert_eq!(with(median_time_past, Sequence::MAX), Ok(()));
}

#[test]
fn the_first_payment_must_be_as_large_as_was_asked() {
    let with = |paid| {
        let request = shown(Kind::Cltv);
        let contract = Contract { outpoint: request.outpoint, ..contract(Kind::Cltv) };
        let payment = Payment::sign(&contract, sat(paid), &client_key()).unwrap();
        check(&ContractRequest { payment, ..request }).map(|_| ())
    };
    let least = sat(FIRST);
    let paid = sat(FIRST - 1);
    assert_eq!(with(FIRST - 1), Err(Refusal::FirstPaymentTooSmall { paid, least }));
    assert_eq!(with(FIRST), Ok(()));
    assert_eq!(with(CAPACITY), Ok(()));
}

#[test]
fn a_shown_payment_that_does_not_verify_is_refused() {
    for kind in Kind::ALL {
        let good = shown(kind);
        let other_payout = payouts()[1].0.clone();
        let wrong = [
            ContractRequest { payout: other_payout, ..good.clone() },
            ContractRequest {
                outpoint: bitcoin::OutPoint { vout: 0, ..good.outpoint },
                transaction: None,
                ..good.clone()
            },
            ContractRequest { capacity: sat(CAPACITY + 1), transaction: None, ..good.clone() },
            ContractRequest { client_key: public(&key(5)), transaction: None, ..good.clone() },
            ContractRequest { expiry: expiry(EXPIRY + 1), transaction: None, ..good },
        ];
        for (index, request) in wrong.iter().enumerate() {
            let refused = Err(PaymentError::BadSignature.into());
            assert_eq!(check(request), refused, "{kind}, {index}");
        }
    }
}

#[test]
fn a_contract_is_shown_in_time_or_not_at_all() {
    let at =
        |seconds| gateway().check_shown(&shown(Kind::Cltv), clock_at(seconds), chain()).map(|_| ());
    let latest = EXPIRY - u64::from(DAY / 2);
    assert_eq!(at(latest), Ok(()));
    let refused = Refusal::ExpiryOutOfBounds {
        left_secs: u64::from(DAY / 2) - 1,
        least: Seconds::new(DAY / 2),
        most: Seconds::new(10 * DAY),
    };
    assert_eq!(at(latest + 1), Err(refused));
}

#[test]
fn the_nodes_word_on_the_output_decides() {
    for kind in Kind::ALL {
        let request = ContractRequest { transaction: None, ..shown(kind) };
        let shown = gateway().check_shown(&request, now(), chain()).unwrap();
        let good = shown.contract().output();
        let value = Amount::from_sat(CAPACITY - 1);
        let less = TxOut { value, ..good.clone() };
        let refused =
            Refusal::OtherCapacity { shown: sat(CAPACITY), found: Sat::try_from(value).unwrap() };
        assert_eq!(shown.clone().admit(&less), Err(refused));
        let script_pubkey = p2wpkh().script().into();
        let elsewhere = TxOut { script_pubkey, ..good.clone() };
        let refused = Err(ContractMismatch::OtherScript.into());
        assert_eq!(shown.clone().admit(&elsewhere), refused);
        assert!(shown.admit(&good).is_ok());
    }
}
