//! Signatures under flags that no payment has, and halves that no signature has.

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{
    Amount, EcdsaSighashType, Sequence, Transaction, TxIn, TxOut, absolute, transaction,
};
use farebox_channel::{Contract, Kind, Payment, PaymentError};
use secp256k1::constants::CURVE_ORDER;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, SECP256K1};

use crate::support::{CAPACITY, client_key, contract, digest, outpoint, sat};

const PAID: u64 = 40_000;
/// The settlement that pays `paid`, with the client's change if there is any.
fn settlement(contract: &Contract, paid: u64) -> Transaction {
    let change = TxOut {
        value: Amount::from_sat(CAPACITY - paid),
        script_pubkey: contract.payout.script().into(),
    };
    Transaction {
        version: transaction::Version(3),
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: contract.outpoint,
            sequence: Sequence(0xffff_fffd),
            ..TxIn::default()
        }],
        output: if paid == CAPACITY { vec![] } else { vec![change] },
    }
}

/// Signs `transaction` for a flag byte that may be none, after `BIP-0143`.
fn sign_raw(contract: &Contract, transaction: &Transaction, flag: u8) -> Signature {
    let serialize = bitcoin::consensus::serialize::<TxOut>;
    let input = &transaction.input[0];
    let outpoint = bitcoin::consensus::serialize(&input.previous_output);
    let sequence = input.sequence.0.to_le_bytes();
    let hash = |bytes: &[u8]| sha256d::Hash::hash(bytes).to_byte_array();
    let binds_all = !matches!(flag & 0x1f, 2 | 3);
    let outputs: Vec<u8> = transaction.output.iter().flat_map(serialize).collect();
    let anyone = flag & 0x80 != 0;
    let preimage = [
        &3_u32.to_le_bytes()[..],
        &if anyone { [0; 32] } else { hash(&outpoint) },
        &if anyone || !binds_all { [0; 32] } else { hash(&sequence) },
        &outpoint,
        &bitcoin::consensus::serialize(&contract.terms.witness_script()),
        &contract.capacity.get().to_le_bytes(),
        &sequence,
        &match flag & 0x1f {
            2 => [0; 32],
            3 if transaction.output.is_empty() => [0; 32],
            _ => hash(&outputs),
        },
        &0_u32.to_le_bytes(),
        &u32::from(flag).to_le_bytes(),
    ];
    SECP256K1.sign_ecdsa(&Message::from_digest(hash(&preimage.concat())), &client_key())
}

#[test]
fn a_payment_under_any_flag_but_the_one_of_its_amount_is_refused() {
    for kind in Kind::ALL {
        let contract = contract(kind);
        for (paid, own) in [(PAID, 0x83), (CAPACITY, 0x82)] {
            let transaction = settlement(&contract, paid);
            for flag in [0x00, 0x01, 0x02, 0x03, 0x04, 0x80, 0x81, 0x82, 0x83, 0x84, 0xff] {
                let signature = sign_raw(&contract, &transaction, flag);
                let verified = Payment { paid: sat(paid), signature }.verify(&contract);
                let expected = flag == own;
                assert_eq!(verified.is_ok(), expected, "{kind}, {paid} sat, flag {flag:#x}");
            }
        }
    }
}

#[test]
fn a_signature_made_beyond_the_outputs_is_refused() {
    // `SINGLE` at an index without an output binds none at all (`BIP-0143`).
    for paid in [PAID, CAPACITY] {
        let contract = contract(Kind::Cltv);
        let mut transaction = settlement(&contract, PAID);
        transaction.input.insert(0, TxIn { previous_output: outpoint(1), ..TxIn::default() });
        let flag = EcdsaSighashType::SinglePlusAnyoneCanPay;
        let message = digest(&transaction, 1, &contract, flag);
        let signature = SECP256K1.sign_ecdsa(&message, &client_key());
        let refused = Payment { paid: sat(paid), signature }.verify(&contract);
        assert_eq!(refused, Err(PaymentError::BadSignature), "{paid} sat");
    }
}

#[test]
fn a_signature_with_a_half_of_nothing_or_of_too_much_is_refused() {
    let contract = contract(Kind::Refund);
    let good = Payment::sign(&contract, sat(PAID), &client_key()).unwrap();
    for half in [0, 32] {
        let with = |bytes: [u8; 32]| {
            let mut compact = good.signature.serialize_compact();
            compact[half..half + 32].copy_from_slice(&bytes);
            Signature::from_compact(&compact)
        };
        let signature = with([0; 32]).unwrap();
        let refused = Payment { signature, ..good }.verify(&contract);
        assert_eq!(refused, Err(PaymentError::BadSignature), "nothing at {half}");
        for beyond in [CURVE_ORDER, [0xff; 32]] {
            assert!(with(beyond).is_err(), "{beyond:?} at {half}");
        }
    }
}
