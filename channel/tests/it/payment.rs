//! What a client signs to pay, and what a gateway takes for a payment.

use bitcoin::{
    Amount, EcdsaSighashType, Sequence, Transaction, TxIn, TxOut, absolute, transaction,
};
use farebox_channel::{Contract, Kind, Msat, Payment, PaymentError, Sat};
use proptest::prelude::{Strategy, any};
use secp256k1::ecdsa::Signature;
use secp256k1::{SECP256K1, SecretKey};

use crate::support::{
    CAPACITY, EXPIRY, client_key, contract, digest, expiry, high_s, key, law, outpoint, payouts,
    sat,
};

/// What a client signs for 40,000 sat, part by part, to be changed by a test.
struct Signed {
    contract: Contract,
    transaction: Transaction,
    flag: EcdsaSighashType,
    key: SecretKey,
}

impl Signed {
    const PAID: u64 = 40_000;

    fn honest(kind: Kind) -> Self {
        let contract = contract(kind);
        let transaction = Transaction {
            version: transaction::Version(3),
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: contract.outpoint,
                sequence: Sequence(0xffff_fffd),
                ..TxIn::default()
            }],
            output: vec![TxOut {
                value: Amount::from_sat(CAPACITY - Self::PAID),
                script_pubkey: contract.payout.script().into(),
            }],
        };
        let flag = EcdsaSighashType::SinglePlusAnyoneCanPay;
        Self { contract, transaction, flag, key: client_key() }
    }

    fn sign(&self) -> Signature {
        let message = digest(&self.transaction, 0, &self.contract, self.flag);
        SECP256K1.sign_ecdsa(&message, &self.key)
    }

    /// Shows the signature as a payment of 40,000 sat on the honest contract.
    fn verify(&self) -> Result<Sat, PaymentError> {
        let payment = Payment { paid: sat(Self::PAID), signature: self.sign() };
        payment.verify(&contract(self.contract.terms.kind)).map(|payment| payment.paid())
    }
}

#[test]
fn a_payment_is_signed_over_the_one_input_settlement() {
    for kind in Kind::ALL {
        let signed = Signed::honest(kind);
        let payment = Payment::sign(&contract(kind), sat(Signed::PAID), &client_key()).unwrap();
        assert_eq!(payment.signature, signed.sign());
        assert_eq!(signed.verify(), Ok(sat(Signed::PAID)));
    }
}

#[test]
fn a_signature_over_anything_else_is_refused() {
    type Change = fn(&mut Signed);
    let changes: [(&str, Change); 18] = [
        ("version 2", |signed| {
            signed.transaction.version = transaction::Version::TWO;
        }),
        ("version 1", |signed| {
            signed.transaction.version = transaction::Version::ONE;
        }),
        ("a lock time", |signed| {
            signed.transaction.lock_time = absolute::LockTime::from_consensus(1);
        }),
        ("a final sequence", |signed| {
            signed.transaction.input[0].sequence = Sequence::MAX;
        }),
        ("sequence 0", |signed| {
            signed.transaction.input[0].sequence = Sequence::ZERO;
        }),
        ("another output of the transaction", |signed| {
            signed.transaction.input[0].previous_output.vout += 1;
        }),
        ("another transaction", |signed| {
            signed.transaction.input[0].previous_output = outpoint(8);
        }),
        ("1 sat more change", |signed| {
            signed.transaction.output[0].value += Amount::ONE_SAT;
        }),
        ("1 sat less change", |signed| {
            signed.transaction.output[0].value -= Amount::ONE_SAT;
        }),
        ("another payout", |signed| {
            signed.transaction.output[0].script_pubkey = payouts()[1].0.script().into();
        }),
        ("no output", |signed| signed.transaction.output.clear()),
        ("another capacity", |signed| {
            signed.contract.capacity = sat(CAPACITY + 1);
        }),
        ("another expiry", |signed| {
            signed.contract.terms.expiry = expiry(EXPIRY + 1);
        }),
        ("another key", |signed| signed.key = key(1)),
        ("flag ALL", |signed| signed.flag = EcdsaSighashType::All),
        ("flag SINGLE", |signed| {
            signed.flag = EcdsaSighashType::Single;
        }),
        ("flag ALL|ANYONECANPAY", |signed| {
            signed.flag = EcdsaSighashType::AllPlusAnyoneCanPay;
        }),
        ("flag NONE|ANYONECANPAY", |signed| {
            signed.flag = EcdsaSighashType::NonePlusAnyoneCanPay;
        }),
    ];
    for (name, change) in changes {
        let mut signed = Signed::honest(Kind::Cltv);
        change(&mut signed);
        assert_eq!(signed.verify(), Err(PaymentError::BadSignature), "{name}");
    }
}

#[test]
fn a_signature_for_the_other_kind_is_refused() {
    let payment = Payment::sign(&contract(Kind::Refund), sat(5_000), &client_key()).unwrap();
    assert_eq!(payment.verify(&contract(Kind::Cltv)), Err(PaymentError::BadSignature));
}

#[test]
fn a_payment_of_everything_binds_no_output() {
    for kind in Kind::ALL {
        let mut signed = Signed::honest(kind);
        signed.transaction.output.clear();
        signed.flag = EcdsaSighashType::NonePlusAnyoneCanPay;
        let payment = Payment { paid: sat(CAPACITY), signature: signed.sign() };
        assert_eq!(Payment::sign(&contract(kind), sat(CAPACITY), &client_key()), Ok(payment));
        assert!(payment.verify(&contract(kind)).is_ok());
    }
}

#[test]
fn a_payment_of_everything_with_single_and_no_output_is_refused() {
    let mut signed = Signed::honest(Kind::Cltv);
    signed.transaction.output.clear();
    let payment = Payment { paid: sat(CAPACITY), signature: signed.sign() };
    assert_eq!(payment.verify(&contract(Kind::Cltv)), Err(PaymentError::BadSignature));
}

#[test]
fn a_high_s_signature_is_refused() {
    let contract = contract(Kind::Cltv);
    let payment = Payment::sign(&contract, sat(5_000), &client_key()).unwrap();
    let mut signature = high_s(&payment.signature);
    assert_ne!(signature, payment.signature);
    let high = Payment { signature, ..payment };
    assert_eq!(high.verify(&contract), Err(PaymentError::BadSignature));
    signature.normalize_s();
    assert!(
        Payment { signature, ..payment }.verify(&contract).is_ok(),
        "it was the same but for S"
    );
}

#[test]
fn a_signature_of_zeros_is_refused() {
    let signature = Signature::from_compact(&[0; 64]).unwrap();
    let payment = Payment { paid: sat(5_000), signature };
    assert_eq!(payment.verify(&contract(Kind::Cltv)), Err(PaymentError::BadSignature));
}

#[test]
fn the_client_keeps_dust_of_its_own_script_or_nothing() {
    for (payout, dust) in payouts() {
        let contract = Contract { payout, ..contract(Kind::Cltv) };
        let leave = |change: u64| {
            let paid = sat(CAPACITY - change);
            let signed = Payment::sign(&contract, paid, &client_key());
            signed.and_then(|payment| payment.verify(&contract)).map(|payment| payment.paid())
        };
        let refused =
            |change| Err(PaymentError::ChangeBelowDust { change: sat(change), dust: sat(dust) });
        assert_eq!(leave(dust), Ok(sat(CAPACITY - dust)));
        assert_eq!(leave(dust - 1), refused(dust - 1));
        assert_eq!(leave(1), refused(1));
        assert_eq!(leave(0), Ok(sat(CAPACITY)));
    }
}

#[test]
fn change_below_dust_is_refused_before_the_signature_is_looked_at() {
    let contract = contract(Kind::Cltv);
    let good = Payment::sign(&contract, sat(5_000), &client_key()).unwrap();
    let short = Payment { paid: sat(CAPACITY - 293), ..good };
    let refused = PaymentError::ChangeBelowDust { change: sat(293), dust: sat(294) };
    assert_eq!(short.verify(&contract), Err(refused));
}

#[test]
fn more_than_the_capacity_cannot_be_paid() {
    let contract = contract(Kind::Refund);
    let refused = PaymentError::BeyondCapacity { capacity: sat(CAPACITY) };
    let good = Payment::sign(&contract, sat(CAPACITY), &client_key()).unwrap();
    for paid in [sat(CAPACITY + 1), Sat::MAX] {
        assert_eq!(Payment::sign(&contract, paid, &client_key()), Err(refused));
        assert_eq!(Payment { paid, ..good }.verify(&contract), Err(refused));
    }
}

#[test]
fn nothing_can_be_paid_too() {
    let contract = contract(Kind::Cltv);
    let payment = Payment::sign(&contract, Sat::ZERO, &client_key()).unwrap();
    assert_eq!(payment.verify(&contract).map(|payment| payment.paid()), Ok(Sat::ZERO));
}

#[test]
fn the_payable_amount_is_the_least_that_leaves_dust_or_nothing() {
    let contract = contract(Kind::Cltv);
    let payable = |paid| contract.payable(sat(paid)).map(Sat::get);
    assert_eq!(payable(0), Some(0));
    assert_eq!(payable(CAPACITY - 294), Some(CAPACITY - 294));
    assert_eq!(payable(CAPACITY - 293), Some(CAPACITY));
    assert_eq!(payable(CAPACITY), Some(CAPACITY));
    assert_eq!(payable(CAPACITY + 1), None);
}

#[test]
fn a_flipped_bit_makes_another_payment_of_it() {
    let contract = contract(Kind::Refund);
    let good = Payment::sign(&contract, sat(5_000), &client_key()).unwrap();
    law(200, (0..64_usize, 0..8_u8), |(byte, bit)| {
        let mut compact = good.signature.serialize_compact();
        compact[byte] ^= 1 << bit;
        if let Ok(signature) = Signature::from_compact(&compact) {
            let verified = Payment { signature, ..good }.verify(&contract);
            assert_eq!(verified, Err(PaymentError::BadSignature));
        }
    });
}

#[test]
fn a_signature_counts_for_its_own_amount_only() {
    let contract = contract(Kind::Cltv);
    let amounts =
        (0..=CAPACITY).prop_filter("payable", |paid| !(1..294).contains(&(CAPACITY - paid)));
    law(200, (amounts.clone(), amounts, any::<bool>()), |(signed, claimed, same)| {
        let claimed = if same { signed } else { claimed };
        let payment = Payment::sign(&contract, sat(signed), &client_key()).unwrap();
        let verified = Payment { paid: sat(claimed), ..payment }.verify(&contract);
        assert_eq!(verified.is_ok(), signed == claimed);
    });
}

#[test]
fn every_amount_in_millisatoshi_is_covered_by_the_least_whole_one() {
    law(500, 0..=Msat::MAX.get(), |amount| {
        let amount = Msat::new(amount).unwrap();
        let cover = amount.to_sat_ceil();
        assert!(cover.to_msat() >= amount);
        assert!(cover == Sat::ZERO || sat(cover.get() - 1).to_msat() < amount);
    });
}
