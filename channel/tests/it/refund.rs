//! The refund: what the gateway signs, what the client accepts, what goes out after T.

use bitcoin::{
    Amount, EcdsaSighashType, FeeRate, OutPoint, Sequence, Transaction, TxIn, TxOut, absolute,
    transaction,
};
use farebox_channel::{Contract, Kind, Refund, RefundError, RefundRequest};
use proptest::prelude::any;
use secp256k1::SECP256K1;
use secp256k1::ecdsa::Signature;

use crate::support::{
    CAPACITY, EXPIRY, check_spend, client_key, contract, digest, expiry, gateway, key, law, now,
    outpoint, p2wpkh, payouts, public, rate, sat, vsize,
};

fn request() -> RefundRequest {
    RefundRequest {
        outpoint: outpoint(9),
        capacity: sat(CAPACITY),
        client_key: public(&client_key()),
        expiry: expiry(EXPIRY),
    }
}

/// The gateway's signature for the refund of the usual `refund` contract.
fn signed() -> Signature {
    gateway().sign_refund(&request(), now()).unwrap().signature
}

/// The transaction that the gateway's half of a refund commits to, to be changed by a test.
fn skeleton() -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::from_consensus(expiry(EXPIRY).get()),
        input: vec![TxIn {
            previous_output: outpoint(9),
            sequence: Sequence(0xffff_fffd),
            ..TxIn::default()
        }],
        output: vec![],
    }
}

/// Tells whether `signature` is the gateway's over `transaction` under `flag`.
fn is_gateways(signature: &Signature, transaction: &Transaction, flag: EcdsaSighashType) -> bool {
    let contract = contract(Kind::Refund);
    let message = digest(transaction, 0, &contract, flag);
    SECP256K1.verify_ecdsa(&message, signature, &contract.terms.gateway_key).is_ok()
}

#[test]
fn the_gateway_signs_version_2_and_a_replaceable_input_locked_until_the_expiry() {
    let flag = EcdsaSighashType::NonePlusAnyoneCanPay;
    assert!(is_gateways(&signed(), &skeleton(), flag));
}

#[test]
fn the_client_chooses_outputs_and_further_inputs_alone() {
    let mut transaction = skeleton();
    let script_pubkey = p2wpkh().script().into();
    transaction.output.push(TxOut { value: Amount::from_sat(1), script_pubkey });
    transaction.input.push(TxIn { previous_output: outpoint(5), ..TxIn::default() });
    let flag = EcdsaSighashType::NonePlusAnyoneCanPay;
    assert!(is_gateways(&signed(), &transaction, flag));
}

#[test]
fn the_gateways_signature_is_worth_nothing_for_any_other_time_or_sequence() {
    let flag = EcdsaSighashType::NonePlusAnyoneCanPay;
    let signature = signed();
    for sequence in [0xffff_ffff, 0xffff_fffe, 0xffff_fffc, 0, 1] {
        let mut transaction = skeleton();
        transaction.input[0].sequence = Sequence(sequence);
        assert!(!is_gateways(&signature, &transaction, flag), "sequence {sequence:#x}");
        transaction.lock_time = absolute::LockTime::ZERO;
        assert!(!is_gateways(&signature, &transaction, flag), "sequence {sequence:#x}, no lock");
    }
    let now = expiry(EXPIRY).get();
    for lock_time in [0, 1, now - 1, now + 1] {
        let lock_time = absolute::LockTime::from_consensus(lock_time);
        let transaction = Transaction { lock_time, ..skeleton() };
        assert!(!is_gateways(&signature, &transaction, flag), "{lock_time}");
    }
    for version in [1, 3] {
        let version = transaction::Version(version);
        let transaction = Transaction { version, ..skeleton() };
        assert!(!is_gateways(&signature, &transaction, flag), "{version:?}");
    }
}

#[test]
fn the_gateways_signature_is_worth_nothing_under_any_other_flag() {
    let signature = signed();
    for flag in [
        EcdsaSighashType::All,
        EcdsaSighashType::None,
        EcdsaSighashType::Single,
        EcdsaSighashType::AllPlusAnyoneCanPay,
        EcdsaSighashType::SinglePlusAnyoneCanPay,
    ] {
        assert!(!is_gateways(&signature, &skeleton(), flag), "{flag}");
    }
}

#[test]
fn no_request_makes_the_gateway_sign_a_final_sequence() {
    law(
        200,
        (any::<[u8; 32]>(), any::<u32>(), 10_000..=1_000_000_u64),
        |(txid, vout, capacity)| {
            let txid = bitcoin::consensus::deserialize(&txid).unwrap();
            let (outpoint, capacity) = (OutPoint { txid, vout }, sat(capacity));
            let asked = RefundRequest { outpoint, capacity, ..request() };
            let signature = gateway().sign_refund(&asked, now()).unwrap().signature;
            let contract = Contract { outpoint, capacity, ..contract(Kind::Refund) };
            assert!(Refund::new(contract.clone(), Some(signature)).is_ok());
            let mut transaction = skeleton();
            transaction.input[0].previous_output = outpoint;
            transaction.input[0].sequence = Sequence::MAX;
            let flag = EcdsaSighashType::NonePlusAnyoneCanPay;
            let message = digest(&transaction, 0, &contract, flag);
            let verified =
                SECP256K1.verify_ecdsa(&message, &signature, &contract.terms.gateway_key);
            assert!(verified.is_err());
        },
    );
}

#[test]
fn a_refund_without_the_gateways_signature_is_none() {
    assert_eq!(Refund::new(contract(Kind::Refund), None), Err(RefundError::Unsigned));
}

#[test]
fn a_wrong_gateway_signature_is_refused() {
    let signature = signed();
    let honest = contract(Kind::Refund);
    let by = |contract: &Contract, flag, transaction: &Transaction| {
        SECP256K1.sign_ecdsa(&digest(transaction, 0, contract, flag), &key(5))
    };
    // A gateway that holds key 5, and signs all but what it should.
    let mut own = honest.clone();
    own.terms.gateway_key = public(&key(5));
    let flag = EcdsaSighashType::NonePlusAnyoneCanPay;
    let good = by(&own, flag, &skeleton());
    assert!(Refund::new(own.clone(), Some(good)).is_ok());
    let all = by(&own, EcdsaSighashType::All, &skeleton());
    let version_3 = by(&own, flag, &Transaction { version: transaction::Version(3), ..skeleton() });
    let later = absolute::LockTime::from_consensus(expiry(EXPIRY).get() + 1);
    let later = by(&own, flag, &Transaction { lock_time: later, ..skeleton() });
    for wrong in [all, version_3, later, signature] {
        assert_eq!(Refund::new(own.clone(), Some(wrong)), Err(RefundError::BadSignature));
    }
    let others = [
        Contract { outpoint: outpoint(8), ..honest.clone() },
        Contract { capacity: sat(CAPACITY + 1), ..honest.clone() },
    ];
    for other in others {
        assert_eq!(Refund::new(other, Some(signature)), Err(RefundError::BadSignature));
    }
    assert!(Refund::new(honest, Some(signature)).is_ok());
}

#[test]
fn a_cltv_contract_needs_no_signature_and_keeps_none() {
    let refund = Refund::new(contract(Kind::Cltv), Some(signed())).unwrap();
    assert_eq!(refund.gateway_signature(), None);
    assert_eq!(refund, Refund::new(contract(Kind::Cltv), None).unwrap());
}

/// The refund of the usual contract of `kind`.
fn held(kind: Kind) -> Refund {
    Refund::new(contract(kind), Some(signed())).unwrap()
}

#[test]
fn the_refund_is_complete_for_both_kinds_and_all_payouts() {
    for kind in Kind::ALL {
        for (payout, _) in payouts() {
            let refund = held(kind);
            let transaction = refund.transaction(&payout, rate(3), &client_key()).unwrap();
            assert_eq!(transaction.version, transaction::Version::TWO);
            assert_eq!(transaction.lock_time.to_consensus_u32(), expiry(EXPIRY).get());
            assert_eq!(transaction.input[0].previous_output, outpoint(9));
            assert_eq!(transaction.input[0].sequence, Sequence(0xffff_fffd));
            assert_eq!(transaction.output[0].script_pubkey, *payout.script());
            assert_eq!((transaction.input.len(), transaction.output.len()), (1, 1));
            assert_eq!(check_spend(&transaction, 0, &contract(kind).output()), Ok(()));
        }
    }
}

#[test]
fn the_refunds_witness_has_the_shape_of_its_kind() {
    let witness = |kind| {
        let refund = held(kind);
        let transaction = refund.transaction(&p2wpkh(), rate(1), &client_key()).unwrap();
        transaction.input[0].witness.to_vec()
    };
    let two_of_two = witness(Kind::Refund);
    let [dummy, client, gateway, script] = two_of_two.as_slice() else { panic!("{two_of_two:?}") };
    assert!(dummy.is_empty());
    assert_eq!((client.last(), gateway.last()), (Some(&0x01), Some(&0x82)));
    assert_eq!(*script, contract(Kind::Refund).terms.witness_script().to_bytes());
    let alone = witness(Kind::Cltv);
    let [client, gateway, script] = alone.as_slice() else { panic!("{alone:?}") };
    assert!(gateway.is_empty());
    assert_eq!(client.last(), Some(&0x01));
    assert_eq!(*script, contract(Kind::Cltv).terms.witness_script().to_bytes());
}

#[test]
fn a_refund_that_is_made_valid_sooner_is_no_longer_signed() {
    for kind in Kind::ALL {
        let refund = held(kind);
        let good = refund.transaction(&p2wpkh(), rate(1), &client_key()).unwrap();
        let output = contract(kind).output();
        let mut early = good.clone();
        early.lock_time = absolute::LockTime::from_consensus(expiry(EXPIRY).get() - 1);
        assert!(check_spend(&early, 0, &output).is_err(), "{kind}: earlier");
        let mut height = good.clone();
        height.lock_time = absolute::LockTime::from_consensus(499_999_999);
        assert!(check_spend(&height, 0, &output).is_err(), "{kind}: a height");
        let mut last = good;
        last.input[0].sequence = Sequence::MAX;
        assert!(check_spend(&last, 0, &output).is_err(), "{kind}: final");
    }
}

#[test]
fn nobody_but_the_client_can_complete_the_refund() {
    for kind in Kind::ALL {
        let refund = held(kind);
        let stolen = refund.transaction(&p2wpkh(), rate(1), &key(1)).unwrap();
        assert!(check_spend(&stolen, 0, &contract(kind).output()).is_err(), "{kind}");
    }
}

#[test]
fn the_refund_pays_its_rate_for_its_real_size() {
    for (kind, size) in [(Kind::Refund, 137), (Kind::Cltv, 121)] {
        law(100, (0..=900_000_u64, 1..50_u64), |(more, sat_per_vb)| {
            let (outpoint, capacity) = (outpoint(9), sat(CAPACITY + more));
            let asked = RefundRequest { capacity, ..request() };
            let signature = gateway().sign_refund(&asked, now()).map(|reply| reply.signature);
            let contract = Contract { outpoint, capacity, ..contract(kind) };
            let refund = Refund::new(contract, signature.ok()).unwrap();
            let transaction = refund.transaction(&p2wpkh(), rate(sat_per_vb), &client_key());
            let transaction = transaction.unwrap();
            let fee = capacity.get() - transaction.output[0].value.to_sat();
            assert_eq!(vsize(&transaction), size);
            assert_eq!(fee, sat_per_vb * size);
        });
    }
}

#[test]
fn a_fee_that_leaves_less_than_dust_is_too_high() {
    for (payout, dust) in payouts() {
        let refund = held(Kind::Cltv);
        let fee = vsize(&refund.transaction(&payout, rate(1), &client_key()).unwrap());
        let with = |capacity| {
            let contract = Contract { capacity: sat(capacity), ..contract(Kind::Cltv) };
            let refund = Refund::new(contract, None).unwrap();
            let transaction = refund.transaction(&payout, rate(1), &client_key());
            transaction.map(|transaction| transaction.output[0].value.to_sat())
        };
        assert_eq!(with(fee + dust), Ok(dust));
        assert_eq!(with(fee + dust - 1), Err(RefundError::FeeTooHigh { fee_sat: fee }));
        assert_eq!(with(0), Err(RefundError::FeeTooHigh { fee_sat: fee }));
    }
    let absurd = held(Kind::Cltv).transaction(&p2wpkh(), FeeRate::MAX, &client_key());
    assert!(matches!(absurd, Err(RefundError::FeeTooHigh { .. })));
}
