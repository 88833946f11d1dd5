//! The client's checks against a gateway that lies, and its purse.

use bitcoin::{Network, ScriptBuf, TxOut, Witness};
use farebox_channel::client::{
    CannotPay, Distrust, Draft, Funded, FundingMismatch, Limits, Purse, TermsRefused,
};
use farebox_channel::gateway::{Input, Rules};
use farebox_channel::message::{Offer, Receipt, StateName, StateReply, TermsReply};
use farebox_channel::{
    Contract, Kind, Msat, Payment, PaymentError, Place, RefundError, Sat, Seconds, Subject,
    Timestamp,
};
use secp256k1::SECP256K1;

use crate::support::{
    CAPACITY, EXPIRY, FIRST, NOW, chain, client_key, expiry, funding, gateway, key, msat, now,
    p2wpkh, payouts, public, rules, sat, step,
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
    let mut reply = gateway()
        .terms(&request, now())
        .map_err(|_| TermsRefused::OtherScript)?;
    change(&mut reply);
    Draft::accept(&offer(), &request, &reply, now())
}

/// A contract that is funded and known to nobody.
fn funded(kind: Kind) -> Result<Funded, FundingMismatch> {
    let draft = accept(kind, |_| ()).map_err(|_| FundingMismatch::Unpaid)?;
    let script = draft.terms.script_pubkey();
    draft.fund(
        funding(&[(7, script.clone()), (CAPACITY, script)]),
        p2wpkh(),
    )
}

/// An open channel's purse after the first payment.
fn purse() -> Result<Purse, RefundError> {
    let held = funded(Kind::Cltv)
        .map_err(|_| RefundError::Unsigned)?
        .hold(None)?;
    let shown = held
        .show(&client_key())
        .map_err(|_| RefundError::Unsigned)?;
    let reply = StateReply {
        channel: shown.outpoint,
        state: StateName::Open,
        pass: gateway().pass(shown.outpoint),
        paid: shown.payment.paid,
        settlement: None,
    };
    Ok(held.open(&shown, &reply))
}

#[test]
fn an_offer_beyond_the_clients_limits_is_refused() {
    let refuse = |offer: Offer| {
        limits(Kind::Cltv)
            .request(&offer, &client_key())
            .unwrap_err()
    };
    assert_eq!(
        refuse(Offer {
            network: Network::Bitcoin,
            ..offer()
        }),
        TermsRefused::OtherNetwork(Network::Bitcoin)
    );
    assert_eq!(
        refuse(Offer {
            kinds: vec![Kind::Refund],
            ..offer()
        }),
        TermsRefused::KindNotOffered(Kind::Cltv)
    );
    let (least, most) = (sat(CAPACITY + 1), sat(CAPACITY + 2));
    let wished = sat(CAPACITY);
    assert_eq!(
        refuse(Offer {
            capacity: least..=most,
            ..offer()
        }),
        TermsRefused::Capacity {
            least,
            most,
            wished
        }
    );
    let (least, most) = (Seconds::new(1), Seconds::new(172_799));
    assert_eq!(
        refuse(Offer {
            lifetime: least..=most,
            ..offer()
        }),
        TermsRefused::Lifetime {
            least,
            most,
            wished: LIFETIME
        }
    );
    let (asked, most) = (sat(FIRST + 1), sat(FIRST));
    assert_eq!(
        refuse(Offer {
            first_payment: asked,
            ..offer()
        }),
        TermsRefused::FirstPayment { asked, most }
    );
}

#[test]
fn honest_terms_are_accepted_for_both_kinds() {
    for kind in Kind::ALL {
        let draft = accept(kind, |_| ()).unwrap();
        assert_eq!(draft.terms, crate::support::terms(kind));
        assert_eq!(
            (draft.capacity, draft.first_payment),
            (sat(CAPACITY), sat(FIRST))
        );
    }
}

#[test]
fn a_gateway_that_lies_about_its_terms_is_not_believed() {
    let other = || {
        gateway()
            .keyring
            .terms(Kind::Cltv, public(&key(5)), expiry(EXPIRY))
    };
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
    assert_eq!(
        swapped,
        Err(TermsRefused::OtherScript),
        "a contract with another client's key"
    );
    let network = lie(|reply| reply.network = Network::Bitcoin);
    assert_eq!(network, TermsRefused::OtherNetwork(Network::Bitcoin));
    let kind = lie(|reply| reply.kind = Kind::Refund);
    assert_eq!(kind, TermsRefused::OtherKind(Kind::Refund));
}

#[test]
fn an_expiry_may_differ_by_the_clocks_only() {
    let with = |seconds: u64| {
        accept(Kind::Cltv, |reply| {
            let terms = gateway()
                .keyring
                .terms(Kind::Cltv, public(&client_key()), expiry(seconds));
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
        let refused = TermsRefused::OtherExpiry {
            expiry: expiry(seconds).get(),
        };
        assert_eq!(with(seconds), Err(refused));
    }
}

#[test]
fn the_funding_must_pay_the_contract_exactly() {
    for kind in Kind::ALL {
        let draft = || accept(kind, |_| ()).unwrap();
        let script = draft().terms.script_pubkey();
        let fund = |outputs: &[(u64, ScriptBuf)]| draft().fund(funding(outputs), p2wpkh());
        assert_eq!(
            fund(&[(CAPACITY - 1, script.clone())]),
            Err(FundingMismatch::Unpaid)
        );
        let elsewhere = p2wpkh().script().to_owned();
        assert_eq!(fund(&[(CAPACITY, elsewhere)]), Err(FundingMismatch::Unpaid));
        assert_eq!(fund(&[]), Err(FundingMismatch::Unpaid));
        let funded = fund(&[(7, script.clone()), (CAPACITY, script)]).unwrap();
        assert_eq!(funded.contract.outpoint.vout, 1);
        assert_eq!(
            funded.contract.outpoint.txid,
            funded.transaction.compute_txid()
        );
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
    assert_eq!(
        with(Kind::Refund, &[], &[]),
        Err(FundingMismatch::NotSegwit)
    );
    assert_eq!(
        with(Kind::Refund, &[0x51], &[&[1]]),
        Err(FundingMismatch::NotSegwit)
    );
    assert_eq!(with(Kind::Cltv, &[0x51], &[]), Ok(()));
}

#[test]
fn nothing_is_shown_before_the_refund_is_held() {
    let funded = || funded(Kind::Refund).unwrap();
    let request = funded().refund_request().unwrap();
    let signature = gateway().sign_refund(&request, now()).unwrap().signature;
    assert_eq!(funded().hold(None).map(|_| ()), Err(RefundError::Unsigned));
    let message = secp256k1::Message::from_digest([3; 32]);
    let wrong = SECP256K1.sign_ecdsa(&message, &key(5));
    assert_eq!(
        funded().hold(Some(wrong)).map(|_| ()),
        Err(RefundError::BadSignature)
    );
    let held = funded().hold(Some(signature)).unwrap();
    let shown = held.show(&client_key()).unwrap();
    assert!(gateway().check_shown(&shown, now(), chain()).is_ok());
    assert_eq!(self::funded(Kind::Cltv).unwrap().refund_request(), None);
}

#[test]
fn the_first_payment_is_everything_when_less_than_dust_would_be_left() {
    let offer = Offer {
        first_payment: sat(CAPACITY - 100),
        ..offer()
    };
    let limits = Limits {
        first_payment_max: sat(CAPACITY),
        ..limits(Kind::Cltv)
    };
    let request = limits.request(&offer, &client_key()).unwrap();
    let reply = gateway().terms(&request, now()).unwrap();
    let draft = Draft::accept(&offer, &request, &reply, now()).unwrap();
    let transaction = funding(&[(CAPACITY, draft.terms.script_pubkey())]);
    let held = draft
        .fund(transaction, p2wpkh())
        .unwrap()
        .hold(None)
        .unwrap();
    assert_eq!(
        held.show(&client_key()).unwrap().payment.paid,
        sat(CAPACITY)
    );
}

/// The amounts of the payments that a purse signs for these prices.
fn amounts(prices: &[u64]) -> Result<Vec<u64>, CannotPay> {
    let mut purse = purse().map_err(|_| PaymentError::BadSignature)?;
    let mut amounts = vec![];
    for price in prices {
        let (next, request) = purse.pay(msat(*price), &client_key())?;
        amounts.push(request.payment.paid.get());
        purse = next;
    }
    Ok(amounts)
}

#[test]
fn a_purse_pays_the_least_that_covers_a_price() {
    let first = FIRST * 1_000;
    assert_eq!(amounts(&[first - 1, 1]), Ok(vec![FIRST, FIRST]));
    assert_eq!(
        amounts(&[first, 1, 999, 1]),
        Ok(vec![FIRST, 1_001, 1_001, 1_002])
    );
    assert_eq!(amounts(&[0]), Ok(vec![FIRST]));
}

#[test]
fn a_repeated_payment_is_the_very_same() {
    let purse = purse().unwrap();
    let (next, request) = purse.pay(msat(1), &client_key()).unwrap();
    assert_eq!(request.payment, purse.payment);
    assert_eq!(request.pass, purse.pass);
    assert_eq!(next.spent, msat(1));
}

#[test]
fn a_purse_pays_everything_rather_than_leave_dust() {
    let edge = (CAPACITY - 294) * 1_000;
    assert_eq!(
        amounts(&[edge, 1, 293_999]),
        Ok(vec![CAPACITY - 294, CAPACITY, CAPACITY])
    );
    let left = Msat::ZERO;
    let refused = CannotPay::Exhausted {
        left,
        price: msat(1),
    };
    assert_eq!(amounts(&[CAPACITY * 1_000, 1]), Err(refused));
    let (left, price) = (msat(CAPACITY * 1_000), msat(CAPACITY * 1_000 + 1));
    assert_eq!(
        amounts(&[price.get()]),
        Err(CannotPay::Exhausted { left, price })
    );
    let price = Msat::MAX;
    assert_eq!(
        amounts(&[price.get()]),
        Err(CannotPay::Exhausted { left, price })
    );
}

#[test]
fn a_gateway_that_overcharges_is_not_trusted() {
    let (purse, _) = purse().unwrap().pay(msat(2_500), &client_key()).unwrap();
    let receive = |spent: u64, price: u64, is_alone: bool| {
        let credit = Msat::ZERO;
        let receipt = Receipt {
            paid: sat(FIRST),
            spent: msat(spent),
            credit,
            price: msat(price),
        };
        purse
            .receive(&receipt, msat(2_500), is_alone)
            .map(|purse| purse.spent.get())
    };
    for is_alone in [true, false] {
        assert_eq!(receive(2_500, 2_500, is_alone), Ok(2_500));
        let overcharged = Distrust::Overcharged {
            charged: msat(2_501),
            agreed: msat(2_500),
        };
        assert_eq!(receive(2_501, 2_500, is_alone), Err(overcharged));
        let dearer = receive(2_500, 2_501, is_alone);
        assert!(matches!(dearer, Err(Distrust::Overcharged { .. })));
    }
    assert_eq!(
        receive(2_000, 2_000, true),
        Ok(2_000),
        "less may be charged"
    );
    assert_eq!(receive(2_000, 2_000, false), Ok(2_000));
    assert_eq!(
        receive(0, 0, false),
        Ok(0),
        "a request that was not charged"
    );
}

#[test]
fn a_receipt_leaves_other_requests_on_their_way_agreed_to() {
    let (purse, _) = purse().unwrap().pay(msat(2_500), &client_key()).unwrap();
    let (purse, _) = purse.pay(msat(1_000), &client_key()).unwrap();
    let receipt = Receipt {
        paid: sat(FIRST),
        spent: msat(2_500),
        credit: msat(997_500),
        price: msat(2_500),
    };
    assert_eq!(
        purse.receive(&receipt, msat(2_500), false).unwrap().spent,
        msat(3_500)
    );
    assert_eq!(
        purse.receive(&receipt, msat(2_500), true).unwrap().spent,
        msat(2_500)
    );
}

#[test]
fn a_gateway_that_names_a_payment_never_signed_is_not_trusted() {
    let purse = purse().unwrap();
    let receipt = |paid| Receipt {
        paid: sat(paid),
        spent: Msat::ZERO,
        credit: Msat::ZERO,
        price: Msat::ZERO,
    };
    let (named, signed) = (sat(FIRST + 1), sat(FIRST));
    let refused = purse.receive(&receipt(FIRST + 1), Msat::ZERO, true);
    assert_eq!(refused, Err(Distrust::OtherPayment { named, signed }));
    assert!(purse.receive(&receipt(FIRST), Msat::ZERO, true).is_ok());
    assert!(
        purse.receive(&receipt(FIRST - 1), Msat::ZERO, true).is_ok(),
        "an older one"
    );
}

#[test]
fn a_refused_price_is_taken_back() {
    let purse = purse().unwrap();
    let (paying, _) = purse.pay(msat(2_500), &client_key()).unwrap();
    assert_eq!(paying.take_back(msat(2_500)), purse);
    assert_eq!(purse.take_back(msat(1)).spent, Msat::ZERO);
    assert_eq!(paying.left(), msat(CAPACITY * 1_000 - 2_500));
}

#[test]
fn a_close_asks_for_what_is_spent_and_is_good_at_the_gateway() {
    let place = Place {
        network: Network::Regtest,
        host: "api.example.com",
    };
    let close = |price: u64| {
        let (purse, _) = purse().unwrap().pay(msat(price), &client_key()).unwrap();
        purse
            .close(place, Timestamp::new(NOW), &client_key())
            .unwrap()
    };
    assert_eq!(
        close(1).payment.paid,
        sat(FIRST),
        "the first payment at least"
    );
    assert_eq!(close(FIRST * 1_000 + 1).payment.paid, sat(FIRST + 1));
    assert_eq!(
        close((CAPACITY - 293) * 1_000).payment.paid,
        sat(CAPACITY),
        "or all"
    );
    let request = close(5_000_000);
    let contract: Contract = purse().unwrap().contract().clone();
    assert_eq!(
        request
            .payment
            .verify(&contract)
            .map(|payment| payment.paid()),
        Ok(sat(5_000))
    );
    let subject = Subject::Close(request.channel);
    let proven = request
        .proof
        .verify(&subject, place, Timestamp::new(NOW), &public(&client_key()));
    assert_eq!(proven, Ok(()));
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
            let confirmed = Input::Confirmed {
                height: 201,
                confirmations: 2,
            };
            let channel = step(&checked.admit(&output).unwrap(), confirmed);
            assert_eq!(channel.name(), StateName::Open);
        }
    }
}

#[test]
fn a_foreign_signature_is_no_payment_of_the_purse() {
    let purse = purse().unwrap();
    let (_, request) = purse.pay(msat(FIRST * 1_000 + 1), &key(5)).unwrap();
    let refused = request.payment.verify(purse.contract());
    assert_eq!(refused, Err(PaymentError::BadSignature));
    assert!(Payment::sign(purse.contract(), Sat::MAX, &client_key()).is_err());
}

#[test]
fn an_offer_is_made_of_the_rules() {
    let Rules {
        kinds,
        capacity,
        lifetime,
        first_payment,
        confirmations,
        ..
    } = rules();
    let (price, network) = (msat(2_500), Network::Regtest);
    let made = Offer {
        price,
        network,
        kinds,
        capacity,
        lifetime,
        first_payment,
        confirmations,
    };
    assert_eq!(offer(), made);
}
