//! Opening at the gateway: offers, terms, refund signatures, and contracts that are shown.

use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut, Witness, absolute};
use farebox_channel::gateway::{Gateway, Refusal, Rules};
use farebox_channel::message::{ContractRequest, OpenRequest, RefundRequest, StateName};
use farebox_channel::{
    ChainTime, Clock, Contract, ContractMismatch, Kind, Payment, PaymentError, Sat, Seconds,
    Timestamp,
};

use crate::support::{
    CAPACITY, EXPIRY, FIRST, NOW, chain, client_key, clock_at, contract, expiry, funding, gateway,
    key, now, outpoint, p2wpkh, payouts, public, rules, sat, shown, terms,
};

const DAY: u32 = 86_400;

fn wish(kind: Kind) -> OpenRequest {
    let client_key = public(&client_key());
    OpenRequest {
        kind,
        client_key,
        capacity: sat(CAPACITY),
        lifetime: Seconds::new(2 * DAY),
    }
}

/// A gateway that takes `cltv` contracts only.
fn cltv_only() -> Gateway {
    Gateway {
        rules: Rules {
            kinds: vec![Kind::Cltv],
            ..rules()
        },
        ..gateway()
    }
}

#[test]
fn the_terms_are_those_that_the_key_and_the_expiry_make() {
    for kind in Kind::ALL {
        let reply = gateway().terms(&wish(kind), now()).unwrap();
        let terms = terms(kind);
        assert_eq!(reply.expiry, expiry(EXPIRY));
        assert_eq!(reply.gateway_key, terms.gateway_key);
        assert_eq!(reply.script, terms.witness_script());
        assert_eq!(reply.address, terms.address().to_string());
        assert_eq!(
            (reply.kind, reply.network),
            (kind, bitcoin::Network::Regtest)
        );
    }
}

#[test]
fn the_lifetime_is_counted_from_the_later_clock() {
    let at = |median_time_past, wall| {
        let clock = Clock {
            median_time_past: Timestamp::new(median_time_past),
            wall: Timestamp::new(wall),
        };
        gateway().terms(&wish(Kind::Cltv), clock).unwrap().expiry
    };
    assert_eq!(at(NOW - 3_600, NOW), expiry(EXPIRY));
    assert_eq!(at(NOW, NOW - 3_600), expiry(EXPIRY));
}

#[test]
fn a_wish_beyond_the_offer_is_refused() {
    let ask = |request: OpenRequest| gateway().terms(&request, now());
    let capacity = |capacity| {
        ask(OpenRequest {
            capacity: sat(capacity),
            ..wish(Kind::Cltv)
        })
    };
    for (inside, outside) in [(10_000, 9_999), (1_000_000, 1_000_001)] {
        assert!(capacity(inside).is_ok());
        let (least, most) = (sat(10_000), sat(1_000_000));
        let refused = Refusal::CapacityOutOfBounds {
            capacity: sat(outside),
            least,
            most,
        };
        assert_eq!(capacity(outside), Err(refused));
    }
    let lifetime = |secs| {
        ask(OpenRequest {
            lifetime: Seconds::new(secs),
            ..wish(Kind::Cltv)
        })
    };
    for (inside, outside) in [(DAY, DAY - 1), (10 * DAY, 10 * DAY + 1)] {
        assert!(lifetime(inside).is_ok());
        let (least, most) = (Seconds::new(DAY), Seconds::new(10 * DAY));
        let left_secs = u64::from(outside);
        let refused = Refusal::ExpiryOutOfBounds {
            left_secs,
            least,
            most,
        };
        assert_eq!(lifetime(outside), Err(refused));
    }
    let refused = cltv_only().terms(&wish(Kind::Refund), now());
    assert_eq!(refused, Err(Refusal::KindNotOffered(Kind::Refund)));
}

#[test]
fn an_expiry_that_no_script_can_hold_is_refused() {
    let clock = clock_at(2_147_483_647 - u64::from(DAY));
    let wish = |lifetime| OpenRequest {
        lifetime: Seconds::new(lifetime),
        ..wish(Kind::Cltv)
    };
    assert!(gateway().terms(&wish(DAY), clock).is_ok());
    let refused = gateway().terms(&wish(DAY + 1), clock);
    assert!(matches!(refused, Err(Refusal::ExpiryOutOfBounds { .. })));
}

#[test]
fn a_refund_is_signed_only_for_a_contract_that_could_be_opened() {
    let sign = |clock, capacity| {
        let request = RefundRequest {
            outpoint: outpoint(9),
            capacity: sat(capacity),
            client_key: public(&client_key()),
            expiry: expiry(EXPIRY),
        };
        gateway().sign_refund(&request, clock).map(|_| ())
    };
    let latest = EXPIRY - u64::from(DAY / 2);
    let earliest = EXPIRY - u64::from(10 * DAY);
    for clock in [earliest, NOW, latest] {
        assert_eq!(sign(clock_at(clock), CAPACITY), Ok(()));
    }
    for clock in [earliest - 1, latest + 1, EXPIRY, EXPIRY + 1] {
        let refused = sign(clock_at(clock), CAPACITY);
        assert!(
            matches!(refused, Err(Refusal::ExpiryOutOfBounds { .. })),
            "{clock}"
        );
    }
    for capacity in [9_999, 1_000_001] {
        let refused = sign(now(), capacity);
        assert!(matches!(refused, Err(Refusal::CapacityOutOfBounds { .. })));
    }
}

#[test]
fn a_kind_that_is_not_offered_is_refused_at_every_step() {
    let refused = Refusal::KindNotOffered(Kind::Refund);
    let request = RefundRequest {
        outpoint: outpoint(9),
        capacity: sat(CAPACITY),
        client_key: public(&client_key()),
        expiry: expiry(EXPIRY),
    };
    let signed = cltv_only().sign_refund(&request, now());
    assert_eq!(signed.map(|_| ()), Err(refused.clone()));
    let checked = cltv_only().check_shown(&shown(Kind::Refund), now(), chain());
    assert_eq!(checked, Err(refused));
    let refund_only = Gateway {
        rules: Rules {
            kinds: vec![Kind::Refund],
            ..rules()
        },
        ..gateway()
    };
    let watched = refund_only.watched_terms(public(&client_key()), expiry(EXPIRY), now());
    assert_eq!(watched, Err(Refusal::KindNotOffered(Kind::Cltv)));
}

#[test]
fn the_watched_address_is_the_one_of_the_terms() {
    let watch = |clock| gateway().watched_terms(public(&client_key()), expiry(EXPIRY), clock);
    assert_eq!(watch(now()), Ok(terms(Kind::Cltv)));
    let late = watch(clock_at(EXPIRY - u64::from(DAY / 2) + 1));
    assert!(matches!(late, Err(Refusal::ExpiryOutOfBounds { .. })));
}

/// What the gateway says to `request`.
fn check(request: &ContractRequest) -> Result<Contract, Refusal> {
    gateway()
        .check_shown(request, now(), chain())
        .map(|shown| shown.contract().clone())
}

/// Shows `transaction`, its output `vout`, with all that follows from it.
fn show(kind: Kind, transaction: Transaction, vout: u32) -> Result<Contract, Refusal> {
    let outpoint = bitcoin::OutPoint {
        txid: transaction.compute_txid(),
        vout,
    };
    let contract = Contract {
        outpoint,
        ..contract(kind)
    };
    let payment = Payment::sign(&contract, sat(FIRST), &client_key()).unwrap();
    check(&ContractRequest {
        outpoint,
        transaction: Some(transaction),
        payment,
        ..shown(kind)
    })
}

#[test]
fn a_good_contract_is_taken_with_or_without_its_transaction() {
    for kind in Kind::ALL {
        let with = shown(kind);
        let without = ContractRequest {
            transaction: None,
            ..with.clone()
        };
        let expected = Contract {
            outpoint: with.outpoint,
            ..contract(kind)
        };
        assert_eq!(check(&with), Ok(expected.clone()));
        assert_eq!(check(&without), Ok(expected));
    }
}

#[test]
fn a_shown_contract_is_pending_with_its_first_payment() {
    let shown = gateway()
        .check_shown(&shown(Kind::Cltv), now(), chain())
        .unwrap();
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
    assert_eq!(
        refused(good(), u32::MAX),
        ContractMismatch::NoOutput(u32::MAX)
    );
    let elsewhere = funding(&[(1, p2wpkh().script().into()), (CAPACITY, script.clone())]);
    assert_eq!(refused(elsewhere, 0), ContractMismatch::OtherScript);
    let wrapped = funding(&[(CAPACITY, ScriptBuf::new_p2sh(&script.script_hash()))]);
    assert_eq!(refused(wrapped, 0), ContractMismatch::OtherScript);
    let mut other = shown(kind);
    other.transaction = Some(good());
    let txid = good().compute_txid();
    assert_eq!(
        check(&other),
        Err(ContractMismatch::OtherTransaction(txid).into())
    );
}

#[test]
fn a_contract_of_other_terms_is_refused() {
    for kind in Kind::ALL {
        let terms = terms(kind);
        let swapped = farebox_channel::Terms {
            gateway_key: terms.client_key,
            client_key: terms.gateway_key,
            ..terms
        };
        let later = farebox_channel::Terms {
            expiry: expiry(EXPIRY + 1),
            ..terms
        };
        let stranger = farebox_channel::Terms {
            gateway_key: public(&key(5)),
            ..terms
        };
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
    let later = gateway()
        .keyring
        .terms(Kind::Refund, public(&client_key()), expiry(EXPIRY + 1));
    let refused = show(
        Kind::Refund,
        funding(&[(CAPACITY, later.script_pubkey())]),
        0,
    );
    assert_eq!(refused, Err(ContractMismatch::OtherScript.into()));
}

#[test]
fn the_capacity_is_the_one_of_the_output() {
    for kind in Kind::ALL {
        for found in [CAPACITY - 1, CAPACITY + 1] {
            let transaction = funding(&[(found, terms(kind).script_pubkey())]);
            let refused = Refusal::OtherCapacity {
                shown: sat(CAPACITY),
                found: sat(found),
            };
            assert_eq!(show(kind, transaction, 0), Err(refused));
        }
    }
    let absurd = funding(&[(u64::MAX, terms(Kind::Cltv).script_pubkey())]);
    let refused = show(Kind::Cltv, absurd, 0);
    assert!(matches!(
        refused,
        Err(Refusal::Contract(ContractMismatch::Value(_)))
    ));
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
        assert!(
            change(Kind::Cltv, malleable).is_ok(),
            "any wallet may fund it"
        );
    }
}

#[test]
fn a_contract_that_cannot_be_mined_yet_is_refused() {
    let ChainTime {
        height,
        median_time_past,
    } = chain();
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
        let contract = Contract {
            outpoint: request.outpoint,
            ..contract(Kind::Cltv)
        };
        let payment = Payment::sign(&contract, sat(paid), &client_key()).unwrap();
        check(&ContractRequest { payment, ..request }).map(|_| ())
    };
    let least = sat(FIRST);
    let paid = sat(FIRST - 1);
    assert_eq!(
        with(FIRST - 1),
        Err(Refusal::FirstPaymentTooSmall { paid, least })
    );
    assert_eq!(with(FIRST), Ok(()));
    assert_eq!(with(CAPACITY), Ok(()));
}

#[test]
fn a_shown_payment_that_does_not_verify_is_refused() {
    for kind in Kind::ALL {
        let good = shown(kind);
        let other_payout = payouts()[1].0.clone();
        let wrong = [
            ContractRequest {
                payout: other_payout,
                ..good.clone()
            },
            ContractRequest {
                outpoint: bitcoin::OutPoint {
                    vout: 0,
                    ..good.outpoint
                },
                transaction: None,
                ..good.clone()
            },
            ContractRequest {
                capacity: sat(CAPACITY + 1),
                transaction: None,
                ..good.clone()
            },
            ContractRequest {
                client_key: public(&key(5)),
                transaction: None,
                ..good.clone()
            },
            ContractRequest {
                expiry: expiry(EXPIRY + 1),
                transaction: None,
                ..good
            },
        ];
        for (index, request) in wrong.iter().enumerate() {
            let refused = Err(PaymentError::BadSignature.into());
            assert_eq!(check(request), refused, "{kind}, {index}");
        }
    }
}

#[test]
fn a_contract_is_shown_in_time_or_not_at_all() {
    let at = |seconds| {
        gateway()
            .check_shown(&shown(Kind::Cltv), clock_at(seconds), chain())
            .map(|_| ())
    };
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
        let request = ContractRequest {
            transaction: None,
            ..shown(kind)
        };
        let shown = gateway().check_shown(&request, now(), chain()).unwrap();
        let good = shown.contract().output();
        let value = Amount::from_sat(CAPACITY - 1);
        let less = TxOut {
            value,
            ..good.clone()
        };
        let refused = Refusal::OtherCapacity {
            shown: sat(CAPACITY),
            found: Sat::try_from(value).unwrap(),
        };
        assert_eq!(shown.clone().admit(&less), Err(refused));
        let script_pubkey = p2wpkh().script().into();
        let elsewhere = TxOut {
            script_pubkey,
            ..good.clone()
        };
        let refused = Err(ContractMismatch::OtherScript.into());
        assert_eq!(shown.clone().admit(&elsewhere), refused);
        assert!(shown.admit(&good).is_ok());
    }
}
