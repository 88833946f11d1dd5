//! The client's checks against a gateway that lies, until its channel is open.

use bitcoin::{Network, ScriptBuf, TxOut, Witness};
use farebox_channel::client::{Draft, Funded, FundingMismatch, Limits, TermsRefused};
use farebox_channel::gateway::{Input, Rules};
use farebox_channel::message::{Offer, StateName, TermsReply};
use farebox_channel::{Kind, RefundError, Seconds};
use secp256k1::SECP256K1;

use crate::support::{
    CAPACITY, EXPIRY, FIRST, chain, client_key, expiry, funding, gateway, key, msat, now, p2wpkh,
    payouts, public, rules, sat, step,
};

const LIFETIME: Seconds = Seconds::new(172_800);

fn limits(kind: Kind) -> Limits {
    Limits {
        network: Network::Regtest,
        kind,
        capacity: sat(CAPACITY),
        lifetime: LIFETIME,
        first_payment_max: sat(FIRST),
    }
}

fn offer() -> Offer {
    rules().offer(msat(2_500), Network::Regtest)
}

/// What the client makes of a reply that a gateway has changed.
fn accept(kind: Kind, change: impl FnOnce(&mut TermsReply)) -> Result<Draft, TermsRefused> {
    let request = limits(kind).request(&offer(), &client_key())?;
    let mut reply = gateway().terms(&request, now()).unwrap();
    change(&mut reply);
    Draft::accept(&offer(), &request, &reply, now())
}

/// A contract that is funded and known to nobody.
pub(crate) fn funded(kind: Kind) -> Funded {
    let draft = accept(kind, |_| ()).unwrap();
    let script = draft.terms.script_pubkey();
    let transaction = funding(&[(7, script.clone()), (CAPACITY, script)]);
    draft.fund(transaction, p2wpkh()).unwrap()
}

#[test]
fn an_offer_beyond_the_clients_limits_is_refused() {
    let refuse = |offer: Offer| limits(Kind::Cltv).request(&offer, &client_key()).unwrap_err();
    assert_eq!(
        refuse(Offer { network: Network::Bitcoin, ..offer() }),
        TermsRefused::OtherNetwork(Network::Bitcoin)
    );
    assert_eq!(
        refuse(Offer { kinds: vec![Kind::Refund], ..offer() }),
        TermsRefused::KindNotOffered(Kind::Cltv)
    );
    let (least, most) = (sat(CAPACITY + 1), sat(CAPACITY + 2));
    let wished = sat(CAPACITY);
    assert_eq!(
        refuse(Offer { capacity: least..=most, ..offer() }),
        TermsRefused::Capacity { least, most, wished }
    );
    let (least, most) = (Seconds::new(1), Seconds::new(172_799));
    assert_eq!(
        refuse(Offer { lifetime: least..=most, ..offer() }),
        TermsRefused::Lifetime { least, most, wished: LIFETIME }
    );
    let (asked, most) = (sat(FIRST + 1), sat(FIRST));
    assert_eq!(
        refuse(Offer { first_payment: asked, ..offer() }),
        TermsRefused::FirstPayment { asked, most }
    );
}

#[test]
fn honest_terms_are_accepted_for_both_kinds() {
    for kind in Kind::ALL {
        let draft = accept(kind, |_| ()).unwrap();
        assert_eq!(draft.terms, crate::support::terms(kind));
        assert_eq!((draft.capacity, draft.first_payment), (sat(CAPACITY), sat(FIRST)));
    }
}

#[test]
fn a_gateway_that_lies_about_its_terms_is_not_believed() {
    let other = || gateway().keyring.terms(Kind::Cltv, public(&key(5)), expiry(EXPIRY));
    let lie = |lie: fn(&mut TermsReply)| accept(Kind::Cltv, lie).unwrap_err();
    let scripts: [fn(&mut TermsReply); 5] = [
        |reply| reply.script = ScriptBuf::new(),
        |reply| reply.script = crate::support::terms(Kind::Refund).witness_script(),
        |reply| reply.address = crate::support::terms(Kind::Refund).address().to_string(),
        |reply| reply.address.make_ascii_uppercase(),
        |reply| reply.gateway_key = public(&key(5)),
    ];
    for script in scripts {
        assert_eq!(lie(script), TermsRefused::OtherScript);
    }
    let swapped = accept(Kind::Cltv, |reply| {
        reply.script = other().witness_script();
        reply.address = other().address().to_string();
    });
    assert_eq!(swapped, Err(TermsRefused::OtherScript), "a contract with another client's key");
    let network = lie(|reply| reply.network = Network::Bitcoin);
    assert_eq!(network, TermsRefused::OtherNetwork(Network::Bitcoin));
    let kind = lie(|reply| reply.kind = Kind::Refund);
    assert_eq!(kind, TermsRefused::OtherKind(Kind::Refund));
}

#[test]
fn an_expiry_may_differ_by_the_clocks_only() {
    let with = |seconds: u64| {
        accept(Kind::Cltv, |reply| {
            let terms = gateway().keyring.terms(Kind::Cltv, public(&client_key()), expiry(seconds));
            reply.expiry = terms.expiry;
            reply.gateway_key = terms.gateway_key;
            reply.script = terms.witness_script();
            reply.address = terms.address().to_string();
        })
        .map(|draft| draft.terms.expiry)
    };
    for seconds in [EXPIRY - 7_200, EXPIRY + 7_200] {
        assert_eq!(with(seconds), Ok(expiry(seconds)));
    }
    for seconds in [EXPIRY - 7_201, EXPIRY + 7_201, 500_000_000, 2_147_483_647] {
        let refused = TermsRefused::OtherExpiry { expiry: expiry(seconds).get() };
        assert_eq!(with(seconds), Err(refused));
    }
}

#[test]
fn the_funding_must_pay_the_contract_exactly() {
    for kind in Kind::ALL {
        let draft = || accept(kind, |_| ()).unwrap();
        let script = draft().terms.script_pubkey();
        let fund = |outputs: &[(u64, ScriptBuf)]| draft().fund(funding(outputs), p2wpkh());
        assert_eq!(fund(&[(CAPACITY - 1, script.clone())]), Err(FundingMismatch::Unpaid));
        let elsewhere = p2wpkh().script().to_owned();
        assert_eq!(fund(&[(CAPACITY, elsewhere)]), Err(FundingMismatch::Unpaid));
        assert_eq!(fund(&[]), Err(FundingMismatch::Unpaid));
        let funded = fund(&[(7, script.clone()), (CAPACITY, script)]).unwrap();
        assert_eq!(funded.contract.outpoint.vout, 1);
        assert_eq!(funded.contract.outpoint.txid, funded.transaction.compute_txid());
    }
}

#[test]
fn a_refund_contract_is_funded_with_native_segwit_coins() {
    let with = |kind, script_sig: &[u8], witness: &[&[u8]]| {
        let draft = accept(kind, |_| ()).unwrap();
        let mut transaction = funding(&[(CAPACITY, draft.terms.script_pubkey())]);
        transaction.input[0].script_sig = ScriptBuf::from_bytes(script_sig.to_vec());
        transaction.input[0].witness = Witness::from_slice(witness);
        draft.fund(transaction, p2wpkh()).map(|_| ())
    };
    assert_eq!(with(Kind::Refund, &[], &[&[1]]), Ok(()));
    assert_eq!(with(Kind::Refund, &[], &[]), Err(FundingMismatch::NotSegwit));
    assert_eq!(with(Kind::Refund, &[0x51], &[&[1]]), Err(FundingMismatch::NotSegwit));
    assert_eq!(with(Kind::Cltv, &[0x51], &[]), Ok(()));
}

#[test]
fn nothing_is_shown_before_the_refund_is_held() {
    let funded = || funded(Kind::Refund);
    let request = funded().refund_request().unwrap();
    let signature = gateway().sign_refund(&request, now()).unwrap().signature;
    assert_eq!(funded().hold(None).map(|_| ()), Err(RefundError::Unsigned));
    let message = secp256k1::Message::from_digest([3; 32]);
    let wrong = SECP256K1.sign_ecdsa(&message, &key(5));
    assert_eq!(funded().hold(Some(wrong)).map(|_| ()), Err(RefundError::BadSignature));
    let held = funded().hold(Some(signature)).unwrap();
    let shown = held.show(&client_key()).unwrap();
    assert!(gateway().check_shown(&shown, now(), chain()).is_ok());
    assert_eq!(self::funded(Kind::Cltv).refund_request(), None);
}

#[test]
fn a_first_payment_that_leaves_less_than_dust_is_not_agreed_to() {
    let limits = Limits { first_payment_max: sat(CAPACITY), ..limits(Kind::Cltv) };
    let asked = |first| {
        let offer = Offer { first_payment: sat(first), ..offer() };
        limits.request(&offer, &client_key()).map(|_| ())
    };
    let (asks, most) = (sat(CAPACITY - 545), sat(CAPACITY - 546));
    assert_eq!(asked(CAPACITY - 546), Ok(()));
    assert_eq!(asked(CAPACITY - 545), Err(TermsRefused::FirstPayment { asked: asks, most }));
}

#[test]
fn the_whole_opening_ends_in_an_open_channel_for_every_payout() {
    for kind in Kind::ALL {
        for (payout, _) in payouts() {
            let draft = accept(kind, |_| ()).unwrap();
            let transaction = funding(&[(CAPACITY, draft.terms.script_pubkey())]);
            let funded = draft.fund(transaction, payout).unwrap();
            let sign = |request| gateway().sign_refund(&request, now()).unwrap().signature;
            let signature = funded.refund_request().map(sign);
            let shown = funded.hold(signature).unwrap().show(&client_key()).unwrap();
            let checked = gateway().check_shown(&shown, now(), chain()).unwrap();
            let output: TxOut = checked.contract().output();
            let confirmed = Input::Confirmed { height: 201, confirmations: 2 };
            let channel = step(&checked.admit(&output).unwrap(), confirmed);
            assert_eq!(channel.name(), StateName::Open);
        }
    }
}

#[test]
fn an_offer_is_made_of_the_rules() {
    let Rules { kinds, capacity, lifetime, first_payment, confirmations, .. } = rules();
    let (price, network) = (msat(2_500), Network::Regtest);
    let made = Offer {
        price,
        price_holds: None,
        rates: None,
        network,
        kinds,
        capacity,
        lifetime,
        first_payment,
        confirmations,
    };
    assert_eq!(offer(), made);
}

#[test]
fn a_refund_contract_is_not_funded_by_what_may_be_replaced() {
    let draft = accept(Kind::Refund, |_| ()).unwrap();
    let mut replaceable = funding(&[(CAPACITY, draft.terms.script_pubkey())]);
    replaceable.input[0].sequence = bitcoin::Sequence::ENABLE_RBF_NO_LOCKTIME;

    let refused = draft.fund(replaceable, p2wpkh());

    assert_eq!(refused.unwrap_err(), FundingMismatch::Replaceable);
}
