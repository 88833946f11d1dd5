//! Scripts, payments, refunds, settlements, proofs and keys.

use std::cell::RefCell;
use std::collections::BTreeSet;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::{Hash, sha256, sha256d};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Amount, Network, Transaction, TxOut};
use farebox_channel::{
    Contract, Expiry, Fee, Kind, Member, Payment, PaymentError, Place, Proof, ProofError, Refund,
    RefundError, RefundRequest, Settlement, SettlementError, Subject, Terms, Timestamp,
    VerifiedPayment,
};
use secp256k1::{SECP256K1, SecretKey};

use super::case::{Case, each};
use crate::support::{check_spend, public, sat, vsize};

#[test]
fn each_contract_has_the_script_and_addresses_of_the_vectors() {
    each(include_str!("../../vectors/scripts.json"), |case, expect| {
        if expect == "malformed" {
            case.kind();
            assert!(case.key("client_key") != case.key("gateway_key"));
            assert!(Expiry::new(case.number("expiry_unix_secs")).is_err());
            return;
        }
        let terms = case.terms(Network::Regtest);
        let output_script = case.script("output_script");
        let shown = terms.check_output(&TxOut {
            value: Amount::from_sat(1),
            script_pubkey: output_script.clone(),
        });
        match expect {
            "accept" => {
                assert_eq!(terms.witness_script(), case.script("witness_script"));
                assert_eq!(terms.script_pubkey(), output_script);
                assert_eq!(shown, Ok(sat(1)));
                let addresses = case.object("addresses");
                for name in ["main", "test", "testnet4", "signet", "regtest"] {
                    let network = Network::from_core_arg(name).unwrap();
                    let address = Terms { network, ..terms }.address();
                    assert_eq!(address.to_string(), addresses.text(name));
                }
                addresses.done();
            }
            "contract-mismatch" => {
                assert_eq!(shown, Err(farebox_channel::ContractMismatch::OtherScript));
            }
            _ => panic!("unknown: {expect}"),
        }
    });
}

#[test]
fn each_payment_is_signed_and_verified_as_in_the_vectors() {
    each(include_str!("../../vectors/payments.json"), |case, expect| {
        let (contract, payment) = (case.contract(), case.payment());
        let verified = payment.verify(&contract).map(|_| ());
        if expect == "accept" {
            let secret = case.secret("client_secret");
            assert_eq!(public(&secret), contract.terms.client_key);
            assert_eq!(Payment::sign(&contract, payment.paid, &secret), Ok(payment));
            assert_eq!(verified, Ok(()));
            // The nonce follows from the digest, so an equal signature is one of this digest.
            let digest = case.digest("digest");
            assert_eq!(SECP256K1.sign_ecdsa(&digest, &secret), payment.signature);
            let preimage = Vec::from_hex(case.text("preimage")).unwrap();
            assert_eq!(sha256d::Hash::hash(&preimage).as_byte_array(), digest.as_ref());
            let [flag] = case.bytes("flag");
            assert_eq!(preimage[preimage.len() - 4..], [flag, 0, 0, 0]);
            let change = contract.capacity.checked_sub(payment.paid).unwrap();
            assert_eq!(change.get(), case.number("change_sat"));
            return;
        }
        let amount =
            Payment::sign(&contract, payment.paid, &SecretKey::from_slice(&[1; 32]).unwrap());
        let refused = match expect {
            "beyond-capacity" => PaymentError::BeyondCapacity { capacity: contract.capacity },
            "change-below-dust" => PaymentError::ChangeBelowDust {
                change: contract.capacity.checked_sub(payment.paid).unwrap(),
                dust: contract.payout.dust(),
            },
            "signature-invalid" => PaymentError::BadSignature,
            _ => panic!("unknown: {expect}"),
        };
        let is_signature = refused == PaymentError::BadSignature;
        assert_eq!(amount.err(), Some(refused).filter(|_| !is_signature));
        assert_eq!(verified, Err(refused));
        let preimage = Vec::from_hex(case.text("signed_preimage")).unwrap();
        let digest = case.digest("signed_digest");
        let (once, twice) = (sha256::Hash::hash(&preimage), sha256d::Hash::hash(&preimage));
        let is_once = case.text("name").contains("SHA-256 once");
        let hash = if is_once { once.to_byte_array() } else { twice.to_byte_array() };
        assert_eq!(hash, *digest.as_ref());
        case.check_signer(&digest);
    });
}

#[test]
fn each_refund_is_signed_checked_and_completed_as_in_the_vectors() {
    each(include_str!("../../vectors/refunds.json"), |case, expect| {
        let contract = case.contract();
        match case.text("check") {
            "gateway-half" => check_gateway_half(case, expect, contract),
            "transaction" => check_refund(case, expect, contract),
            check => panic!("unknown: {check}"),
        }
    });
}

fn check_gateway_half(case: &Case<'_>, expect: &str, contract: Contract) {
    let signature = case.signature("signature");
    let Contract { terms, outpoint, capacity, .. } = contract;
    let (preimage, digest) = match expect {
        "accept" => ("preimage", case.digest("digest")),
        "signature-invalid" => ("signed_preimage", case.digest("signed_digest")),
        _ => panic!("unknown: {expect}"),
    };
    let preimage = Vec::from_hex(case.text(preimage)).unwrap();
    assert_eq!(sha256d::Hash::hash(&preimage).as_byte_array(), digest.as_ref());
    let held = Refund::new(contract, Some(signature)).map(|_| ());
    if expect == "signature-invalid" {
        assert_eq!(held, Err(RefundError::BadSignature));
        case.check_signer(&digest);
        return;
    }
    assert_eq!(held, Ok(()));
    let secret = case.secret("gateway_secret");
    assert_eq!(SECP256K1.sign_ecdsa_low_r(&digest, &secret), signature);
    let Terms { network, kind, client_key, expiry, gateway_key } = terms;
    let key = case.keyring(network).channel_key(kind, &client_key, expiry);
    assert_eq!([key.public_key(), public(&secret)], [gateway_key; 2]);
    let request = RefundRequest { outpoint, capacity, client_key, expiry };
    assert_eq!(key.sign_refund(&request, network), signature);
}

fn check_refund(case: &Case<'_>, expect: &str, contract: Contract) {
    if expect == "unsigned" {
        assert_eq!(Refund::new(contract, None), Err(RefundError::Unsigned));
        return;
    }
    let signature =
        (contract.terms.kind == Kind::Refund).then(|| case.signature("gateway_signature"));
    let refund = Refund::new(contract.clone(), signature).unwrap();
    let (fee_sat, secret) = (case.number("fee_sat"), case.secret("client_secret"));
    assert_eq!(public(&secret), contract.terms.client_key);
    let built = refund.transaction(&case.payout("destination"), case.rate(), &secret);
    match expect {
        "fee-too-high" => assert_eq!(built, Err(RefundError::FeeTooHigh { fee_sat })),
        "accept" => {
            let built = built.unwrap();
            check_transaction(case, &built);
            assert_eq!(contract.capacity.get() - built.output[0].value.to_sat(), fee_sat);
            let (digest, signature) =
                (case.digest("client_digest"), case.signature("client_signature"));
            assert_eq!(SECP256K1.sign_ecdsa_low_r(&digest, &secret), signature);
            let [client, witness] =
                [signature.serialize_der().to_vec(), built.input[0].witness.to_vec().concat()];
            assert!(witness.windows(client.len()).any(|window| window == client));
            assert_eq!(check_spend(&built, 0, &contract.output()), Ok(()));
        }
        _ => panic!("unknown: {expect}"),
    }
}

/// Checks that `built` is the transaction of the case, with its id and size.
fn check_transaction(case: &Case<'_>, built: &Transaction) {
    assert_eq!(serialize_hex(built), case.text("transaction"));
    assert_eq!(deserialize_hex::<Transaction>(case.text("transaction")).unwrap(), *built);
    assert_eq!(built.compute_txid().to_string(), case.text("txid"));
    assert_eq!(vsize(built), case.number("vsize_vb"));
}

#[test]
fn each_settlement_is_built_as_in_the_vectors() {
    each(include_str!("../../vectors/settlements.json"), |case, expect| {
        let member = |member: Case<'_>| {
            let (contract, payment) = (member.contract(), member.payment());
            member.done();
            let payment = payment.verify(&contract).unwrap();
            (contract, payment)
        };
        let members: Vec<_> = case.list("members").into_iter().map(member).collect();
        let pairs: Vec<_> =
            members.iter().map(|(contract, payment)| Member { contract, payment }).collect();
        let keyring = case.keyring(case.network());
        let built =
            Settlement::build(&pairs, &keyring, &case.payout("payout"), Fee::at(case.rate()));
        let refused = match expect {
            "accept" => {
                let Settlement { transaction, fee, share } = built.unwrap();
                check_transaction(case, &transaction);
                assert_eq!(fee.get(), case.number("fee_sat"));
                assert_eq!(share.get(), case.number("share_sat"));
                check_spends(&transaction, &members);
                return;
            }
            "uneconomic" => {
                let (paid, fee_sat) = (sat(case.number("paid_sat")), case.number("fee_sat"));
                SettlementError::Uneconomic { paid, fee_sat }
            }
            "repeated" => SettlementError::Repeated,
            "nothing" => SettlementError::Nothing,
            _ => panic!("unknown: {expect}"),
        };
        assert_eq!(built, Err(refused));
    });
}

fn check_spends(transaction: &Transaction, members: &[(Contract, VerifiedPayment)]) {
    assert_eq!(transaction.input.len(), members.len());
    for (index, input) in transaction.input.iter().enumerate() {
        let own = |(contract, _): &&(Contract, _)| contract.outpoint == input.previous_output;
        let (contract, _) = members.iter().find(own).unwrap();
        assert_eq!(check_spend(transaction, index, &contract.output()), Ok(()));
    }
}

#[test]
fn each_proof_is_signed_and_verified_as_in_the_vectors() {
    each(include_str!("../../vectors/proofs.json"), |case, expect| {
        let channel = || case.text("subject").parse().unwrap();
        let subject = match (case.text("action"), case.text("subject").contains(':')) {
            ("status", false) => Subject::StatusOfKey(case.key("subject")),
            ("status", true) => Subject::StatusOfChannel(channel()),
            ("close", true) => Subject::Close(channel()),
            (action, _) => panic!("unknown: {action}"),
        };
        let place = Place { network: case.network(), host: case.text("host") };
        let time = Timestamp::new(case.number("time_unix_secs"));
        let wall = Timestamp::new(case.number("gateway_time_unix_secs"));
        let proof = Proof { time, signature: case.signature("signature") };
        let verified = proof.verify(&subject, place, wall, &case.key("client_key"));
        let [message, digest] = match expect {
            "accept" => ["message", "digest"],
            "stale" | "signature-invalid" => ["signed_message", "signed_digest"],
            _ => panic!("unknown: {expect}"),
        };
        let message = Vec::from_hex(case.text(message)).unwrap();
        let digest = case.digest(digest);
        let tag = sha256::Hash::hash(b"farebox/v1/proof").to_byte_array();
        let tagged = sha256::Hash::hash(&[&tag, &tag, &message[..]].concat());
        let hashed_as_told = tagged.as_byte_array() == digest.as_ref();
        match expect {
            "accept" => {
                let secret = case.secret("client_secret");
                assert_eq!(verified, Ok(()));
                assert_eq!(public(&secret), case.key("client_key"));
                assert_eq!(Proof::sign(&subject, place, time, &secret), proof);
                assert_eq!(SECP256K1.sign_ecdsa(&digest, &secret), proof.signature);
                assert!(hashed_as_told);
            }
            "stale" => assert_eq!(verified, Err(ProofError::Stale)),
            _ => assert_eq!(verified, Err(ProofError::BadSignature)),
        }
        if expect != "accept" {
            let name = case.text("name");
            let other = ["without the tag", "hashed twice", "another tag"].contains(&name);
            assert_eq!(hashed_as_told, !other);
            case.check_signer(&digest);
        }
    });
}

#[test]
fn each_gateway_key_and_pass_follows_from_the_seed_as_in_the_vectors() {
    let seen = RefCell::new(BTreeSet::new());
    each(include_str!("../../vectors/gateway_keys.json"), |case, expect| {
        assert_eq!(expect, "accept");
        let network = case.network();
        let keyring = case.keyring(network);
        let fingerprint = case.text("fingerprint");
        assert_eq!(keyring.fingerprint().to_lower_hex_string(), fingerprint);
        assert!(seen.borrow_mut().insert(fingerprint.to_owned()));
        for told in case.list("passes") {
            assert_eq!(*keyring.pass(told.outpoint()).as_bytes(), told.bytes("pass"));
            told.done();
        }
        for told in case.list("channel_keys") {
            let terms = told.terms(network);
            let Terms { kind, client_key, expiry, gateway_key, .. } = terms;
            assert_eq!(keyring.terms(kind, client_key, expiry), terms);
            assert_eq!(public(&told.secret("gateway_secret")), gateway_key);
            assert!(seen.borrow_mut().insert(gateway_key.to_string()));
            told.done();
        }
    });
}
