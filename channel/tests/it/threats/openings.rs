//! Offers, wishes and contracts at their bounds, and in strangers' hands.

use bitcoin::{Network, OutPoint, ScriptBuf, TxIn, Witness, transaction};
use farebox_channel::client::{Draft, Limits};
use farebox_channel::gateway::{Gateway, Refusal, Rules};
use farebox_channel::message::{ContractRequest, OpenRequest};
use farebox_channel::{
    Contract, ContractMismatch, Keyring, Kind, Payment, PaymentError, Seconds, Seed,
};

use crate::support::{
    CAPACITY, EXPIRY, FIRST, NOW, chain, client_key, contract, expiry, funding, gateway, key,
    keyring, msat, now, p2wpkh, paid, public, rules, sat, shown, terms,
};

/// Shows a contract that says `says` and whose output holds `holds`, in satoshi.
fn show(kind: Kind, says: u64, holds: u64, with_transaction: bool) -> Result<(), Refusal> {
    let transaction = funding(&[(holds, terms(kind).script_pubkey())]);
    let outpoint = OutPoint { txid: transaction.compute_txid(), vout: 0 };
    let claimed = Contract { outpoint, capacity: sat(says), ..contract(kind) };
    // Nobody can sign for a contract of nothing; then the payment is another's.
    let first = Payment::sign(&claimed, sat(FIRST), &client_key());
    let request = ContractRequest {
        outpoint,
        transaction: with_transaction.then_some(transaction),
        capacity: sat(says),
        payment: first.unwrap_or_else(|_| shown(kind).payment),
        ..shown(kind)
    };
    gateway().check_shown(&request, now(), chain()).map(|_| ())
}

#[test]
fn a_contract_of_nothing_or_outside_the_offer_is_refused_when_it_is_shown() {
    let (least, most) = (sat(10_000), sat(1_000_000));
    for kind in Kind::ALL {
        for with_transaction in [true, false] {
            for capacity in [10_000, 1_000_000] {
                assert_eq!(show(kind, capacity, capacity, with_transaction), Ok(()));
            }
            for capacity in [0, 1, 9_999, 1_000_001] {
                let refused = show(kind, capacity, capacity, with_transaction);
                let capacity = sat(capacity);
                let expected = Refusal::CapacityOutOfBounds { capacity, least, most };
                assert_eq!(refused, Err(expected), "{kind}");
            }
        }
        let refused = Refusal::OtherCapacity { shown: sat(CAPACITY), found: sat(0) };
        assert_eq!(show(kind, CAPACITY, 0, true), Err(refused));
    }
}

#[test]
fn a_contract_of_another_network_or_seed_is_refused() {
    let foreign = [
        Keyring::new(Seed::new([1; 32]), Network::Bitcoin),
        Keyring::new(Seed::new([1; 32]), Network::Signet),
        Keyring::new(Seed::new([2; 32]), Network::Regtest),
    ];
    for (kind, keyring) in
        Kind::ALL.into_iter().flat_map(|kind| foreign.iter().map(move |it| (kind, it)))
    {
        let terms = keyring.terms(kind, public(&client_key()), expiry(EXPIRY));
        let transaction = funding(&[(CAPACITY, terms.script_pubkey())]);
        let outpoint = OutPoint { txid: transaction.compute_txid(), vout: 0 };
        let theirs = Contract { terms, outpoint, ..contract(kind) };
        let payment = Payment::sign(&theirs, sat(FIRST), &client_key()).unwrap();
        let request =
            ContractRequest { outpoint, transaction: Some(transaction), payment, ..shown(kind) };
        let refused = gateway().check_shown(&request, now(), chain()).map(|_| ());
        assert_eq!(refused, Err(ContractMismatch::OtherScript.into()), "{kind}");
        // Without its transaction the signature gives it away: it commits to the script.
        let request = ContractRequest { transaction: None, ..request };
        let refused = gateway().check_shown(&request, now(), chain()).map(|_| ());
        assert_eq!(refused, Err(PaymentError::BadSignature.into()), "{kind}");
    }
}

#[test]
fn a_transaction_with_two_contracts_makes_two_channels() {
    for kind in Kind::ALL {
        let script = terms(kind).script_pubkey();
        let transaction = funding(&[(CAPACITY, script.clone()), (CAPACITY, script)]);
        let txid = transaction.compute_txid();
        let [first, second] = [0, 1].map(|vout| {
            let contract = Contract { outpoint: OutPoint { txid, vout }, ..contract(kind) };
            let outpoint = contract.outpoint;
            let payment = *paid(&contract, FIRST).payment();
            let transaction = Some(transaction.clone());
            let request = ContractRequest { outpoint, transaction, payment, ..shown(kind) };
            gateway().check_shown(&request, now(), chain()).unwrap()
        });
        assert_ne!(first.contract().outpoint, second.contract().outpoint);
        let crossed = first.payment().payment().verify(second.contract());
        assert_eq!(crossed, Err(PaymentError::BadSignature), "{kind}");
        let pass = |outpoint| gateway().pass(outpoint);
        assert_ne!(pass(first.contract().outpoint), pass(second.contract().outpoint));
    }
}

#[test]
fn a_contract_that_was_replaced_by_another_transaction_is_another_channel() {
    let before = shown(Kind::Cltv);
    let mut replacement = before.transaction.clone().unwrap();
    replacement.output[0].value -= bitcoin::Amount::from_sat(500); // a higher fee
    let outpoint = OutPoint { txid: replacement.compute_txid(), vout: 1 };
    let again = ContractRequest { outpoint, transaction: Some(replacement), ..before.clone() };
    let refused = gateway().check_shown(&again, now(), chain()).map(|_| ());
    assert_eq!(refused, Err(PaymentError::BadSignature.into()), "the old payment is void");
    let contract = Contract { outpoint, ..contract(Kind::Cltv) };
    let anew = ContractRequest { payment: *paid(&contract, FIRST).payment(), ..again };
    let taken = gateway().check_shown(&anew, now(), chain()).unwrap();
    assert_ne!(taken.contract().outpoint, before.outpoint);
}

#[test]
fn a_stranger_cannot_show_somebody_elses_contract() {
    for kind in Kind::ALL {
        let honest = ContractRequest { transaction: None, ..shown(kind) };
        let contract = Contract { outpoint: honest.outpoint, ..contract(kind) };
        let forged = Payment::sign(&contract, sat(FIRST), &key(5)).unwrap();
        let request = ContractRequest { payment: forged, ..honest.clone() };
        let refused = gateway().check_shown(&request, now(), chain()).map(|_| ());
        assert_eq!(refused, Err(PaymentError::BadSignature.into()), "{kind}");
        // With a key of its own it signs well, but the output is another's.
        let terms = keyring().terms(kind, public(&key(5)), expiry(EXPIRY));
        let own = Contract { terms, ..contract.clone() };
        let payment = Payment::sign(&own, sat(FIRST), &key(5)).unwrap();
        let request = ContractRequest { client_key: terms.client_key, payment, ..honest };
        let shown = gateway().check_shown(&request, now(), chain()).unwrap();
        let refused = shown.admit(&contract.output());
        assert_eq!(refused, Err(ContractMismatch::OtherScript.into()), "{kind}");
    }
}

#[test]
fn a_contract_may_be_funded_by_any_coins_and_stand_beside_any_outputs() {
    for version in [1, 2, 3] {
        for kind in Kind::ALL {
            let elsewhere = p2wpkh().script().to_owned();
            let script = terms(kind).script_pubkey();
            let mut transaction =
                funding(&[(7, elsewhere.clone()), (8, elsewhere), (CAPACITY, script)]);
            transaction.version = transaction::Version(version);
            let mut second = transaction.input[0].clone();
            second.previous_output.vout += 1;
            transaction.input.push(second);
            if kind == Kind::Cltv {
                // The refund path is in the script, so even legacy coins will do.
                let script_sig = ScriptBuf::from_bytes(vec![0x51]);
                let witness = Witness::new();
                transaction.input.push(TxIn { script_sig, witness, ..TxIn::default() });
            }
            let outpoint = OutPoint { txid: transaction.compute_txid(), vout: 2 };
            let contract = Contract { outpoint, ..contract(kind) };
            let payment = *paid(&contract, FIRST).payment();
            let transaction = Some(transaction);
            let request = ContractRequest { outpoint, transaction, payment, ..shown(kind) };
            let taken = gateway().check_shown(&request, now(), chain()).map(|_| ());
            assert_eq!(taken, Ok(()), "{kind}, version {version}");
        }
    }
}

/// What a client asks for that wants a lifetime, of a gateway that offers some.
fn wish(gateway: &Gateway, lifetime: u32) -> Option<OpenRequest> {
    let limits = Limits {
        network: Network::Regtest,
        kind: Kind::Cltv,
        capacity: sat(CAPACITY),
        lifetime: Seconds::new(lifetime),
        first_payment_max: sat(FIRST),
    };
    limits.request(&gateway.rules.offer(msat(1), Network::Regtest), &client_key()).ok()
}

#[test]
fn the_terms_have_exactly_the_lifetime_that_the_client_wants() {
    for lifetime in [86_400, 86_401, 200_000, 864_000] {
        let request = wish(&gateway(), lifetime).unwrap();
        assert_eq!(request.lifetime.get(), lifetime);
        let reply = gateway().terms(&request, now()).unwrap();
        assert_eq!(reply.expiry, expiry(NOW + u64::from(lifetime)));
        let offer = gateway().rules.offer(msat(1), Network::Regtest);
        assert!(Draft::accept(&offer, &request, &reply, now()).is_ok());
    }
}

#[test]
fn an_offer_of_one_lifetime_takes_that_one_and_no_other() {
    let only = Seconds::new(172_800);
    let gateway = Gateway { rules: Rules { lifetime: only..=only, ..rules() }, ..gateway() };
    let request = wish(&gateway, 172_800).unwrap();
    assert_eq!(gateway.terms(&request, now()).map(|reply| reply.expiry), Ok(expiry(EXPIRY)));
    for lifetime in [172_799, 172_801] {
        assert_eq!(wish(&gateway, lifetime), None, "the client does not ask");
        let request = OpenRequest { lifetime: Seconds::new(lifetime), ..request };
        let refused = gateway.terms(&request, now()).map(|_| ());
        assert!(matches!(refused, Err(Refusal::ExpiryOutOfBounds { .. })), "{lifetime}");
    }
}
