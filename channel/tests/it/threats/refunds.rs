//! The gateway's half of a refund, asked for and answered in every wrong way.

use bitcoin::{EcdsaSighashType, OutPoint, Sequence, Transaction, TxIn, absolute, transaction};
use farebox_channel::{Contract, Keyring, Kind, Refund, RefundError, RefundRequest, Seed};
use secp256k1::SECP256K1;
use secp256k1::ecdsa::Signature;

use crate::support::{
    CAPACITY, EXPIRY, client_key, clock_at, contract, digest, expiry, gateway, high_s, key, law,
    now, outpoint, public, sat,
};

const FLAG: EcdsaSighashType = EcdsaSighashType::NonePlusAnyoneCanPay;

fn request() -> RefundRequest {
    let client_key = public(&client_key());
    let (outpoint, expiry) = (outpoint(9), expiry(EXPIRY));
    RefundRequest { outpoint, capacity: sat(CAPACITY), client_key, expiry }
}

fn sign(request: &RefundRequest) -> Signature {
    gateway().sign_refund(request, now()).unwrap().signature
}

/// What the gateway's half commits to, without outputs.
fn skeleton(outpoint: OutPoint) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::from_consensus(expiry(EXPIRY).get()),
        input: vec![TxIn {
            previous_output: outpoint,
            sequence: Sequence(0xffff_fffd),
            ..TxIn::default()
        }],
        output: vec![],
    }
}

#[test]
fn a_refund_asked_for_again_gets_the_same_signature() {
    let first = sign(&request());
    assert_eq!(sign(&request()), first);
    let later = gateway().sign_refund(&request(), clock_at(EXPIRY - 86_400)).unwrap();
    assert_eq!(later.signature, first, "also later, and from a gateway that has forgotten all");
}

#[test]
fn a_refund_signature_under_another_flag_is_refused_by_the_client() {
    // A gateway that holds key 5.
    let mut own = contract(Kind::Refund);
    own.terms.gateway_key = public(&key(5));
    let under = |flag| {
        let message = digest(&skeleton(outpoint(9)), 0, &own, flag);
        Refund::new(own.clone(), Some(SECP256K1.sign_ecdsa(&message, &key(5)))).map(|_| ())
    };
    assert_eq!(under(FLAG), Ok(()));
    for flag in [
        EcdsaSighashType::All,
        EcdsaSighashType::None,
        EcdsaSighashType::Single,
        EcdsaSighashType::AllPlusAnyoneCanPay,
        EcdsaSighashType::SinglePlusAnyoneCanPay,
    ] {
        assert_eq!(under(flag), Err(RefundError::BadSignature), "{flag}");
    }
}

#[test]
fn a_flipped_bit_in_the_refunds_signature_is_noticed() {
    let good = sign(&request());
    law(200, (0..64_usize, 0..8_u8), |(byte, bit)| {
        let mut compact = good.serialize_compact();
        compact[byte] ^= 1 << bit;
        if let Ok(signature) = Signature::from_compact(&compact) {
            let refused = Refund::new(contract(Kind::Refund), Some(signature));
            assert_eq!(refused, Err(RefundError::BadSignature));
        }
    });
}

#[test]
fn a_high_s_refund_signature_is_refused_by_the_client() {
    let good = sign(&request());
    let high = high_s(&good);
    assert_ne!(high, good);
    let refused = Refund::new(contract(Kind::Refund), Some(high));
    assert_eq!(refused, Err(RefundError::BadSignature));
}

#[test]
fn a_refund_signature_spends_the_contract_of_its_own_terms_only() {
    let honest = contract(Kind::Refund);
    let signature = sign(&request());
    let spends = |contract: &Contract| {
        let message = digest(&skeleton(contract.outpoint), 0, contract, FLAG);
        SECP256K1.verify_ecdsa(&message, &signature, &contract.terms.gateway_key).is_ok()
    };
    assert!(spends(&honest));
    let keyring = &gateway().keyring;
    let other_seed = Keyring::new(Seed::new([2; 32]), keyring.network());
    let client = public(&client_key());
    let others = [
        keyring.terms(Kind::Refund, public(&key(5)), expiry(EXPIRY)),
        keyring.terms(Kind::Refund, client, expiry(EXPIRY + 1)),
        keyring.terms(Kind::Cltv, client, expiry(EXPIRY)),
        other_seed.terms(Kind::Refund, client, expiry(EXPIRY)),
    ];
    for terms in others {
        assert!(!spends(&Contract { terms, ..honest.clone() }), "{terms:?}");
    }
    for outpoint in [outpoint(8), OutPoint { vout: 8, ..outpoint(9) }] {
        assert!(!spends(&Contract { outpoint, ..honest.clone() }), "{outpoint}");
    }
    assert!(!spends(&Contract { capacity: sat(CAPACITY - 1), ..honest }));
}

#[test]
fn a_client_key_that_is_a_gateway_key_gets_another_gateway_key() {
    let keyring = &gateway().keyring;
    for kind in Kind::ALL {
        let own = keyring.terms(kind, public(&client_key()), expiry(EXPIRY)).gateway_key;
        let terms = keyring.terms(kind, own, expiry(EXPIRY));
        assert_ne!(terms.gateway_key, terms.client_key, "{kind}");
        assert_ne!(terms.gateway_key, own, "{kind}");
    }
}
