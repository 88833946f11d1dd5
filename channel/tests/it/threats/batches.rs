//! Settlements with a member that does not belong there, or with a signature that is another's.

use bitcoin::{EcdsaSighashType, Network, ecdsa};
use farebox_channel::{Contract, Keyring, Kind, Payment, Seed, SettlementError};
use secp256k1::{SECP256K1, SecretKey};

use crate::settlement::{channel, settle};
use crate::support::{
    CAPACITY, EXPIRY, check_spend, client_key, contract, digest, expiry, key, public, sat,
};

#[test]
fn a_channel_named_twice_makes_no_settlement() {
    for kind in Kind::ALL {
        for other in [10_000, 40_000, CAPACITY] {
            let twice =
                [channel(kind, 1, 40_000), channel(kind, 2, 5_000), channel(kind, 1, other)];
            assert_eq!(settle(&twice, 2), Err(SettlementError::Repeated), "{kind}");
        }
    }
}

#[test]
fn a_contract_of_another_seed_makes_no_settlement() {
    for (seed, network) in [(2, Network::Regtest), (1, Network::Bitcoin)] {
        let keyring = Keyring::new(Seed::new([seed; 32]), network);
        for kind in Kind::ALL {
            let terms = keyring.terms(kind, public(&client_key()), expiry(EXPIRY));
            let foreign = Contract { terms, ..contract(kind) };
            let payment = Payment::sign(&foreign, sat(40_000), &client_key()).unwrap();
            let payment = payment.verify(&foreign).unwrap();
            let batch = [channel(kind, 1, 40_000), (foreign, payment)];
            assert!(settle(&batch[..1], 2).is_ok());
            assert_eq!(settle(&batch, 2), Err(SettlementError::Foreign), "{kind}");
        }
    }
}

#[test]
fn a_settlement_with_a_wrong_signature_of_either_side_cannot_be_spent() {
    for kind in Kind::ALL {
        for paid_sat in [40_000, CAPACITY] {
            let one = [channel(kind, 9, paid_sat)];
            let good = settle(&one, 2).unwrap().transaction;
            let output = one[0].0.output();
            assert_eq!(check_spend(&good, 0, &output), Ok(()));
            let witness = good.input[0].witness.to_vec();
            let last = witness.len() - 1;
            // The client's half stands before the gateway's, and the script comes last.
            for place in [last - 2, last - 1] {
                let flag = ecdsa::Signature::from_slice(&witness[place]).unwrap().sighash_type;
                let mut forged = good.clone();
                let sign = |flag: EcdsaSighashType, key: &SecretKey| {
                    let message = digest(&good, 0, &one[0].0, flag);
                    let signature = SECP256K1.sign_ecdsa(&message, key);
                    ecdsa::Signature { signature, sighash_type: flag }.to_vec()
                };
                let mut items = witness.clone();
                items[place] = sign(flag, &key(5));
                forged.input[0].witness = bitcoin::Witness::from_slice(&items);
                assert!(check_spend(&forged, 0, &output).is_err(), "{kind}, {paid_sat}, {place}");
            }
        }
    }
}
