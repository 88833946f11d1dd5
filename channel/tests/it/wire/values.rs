//! Values of the right type that are none: keys, signatures, outpoints, scripts, words.

use bitcoin::consensus::serialize;
use bitcoin::hex::FromHex;
use farebox_channel::Kind;
use farebox_channel::message::{
    CloseRequest, ContractRequest, Offer, OpenRequest, PayRequest, RefundReply, StateReply,
};
use farebox_channel::wire::{Fault, Field};
use sfv::{DictSerializer, KeyRef};

use super::examples::PAY;
use super::malformed::{fault, with};
use crate::support::shown;

/// Bytes as a value of a structured field.
fn bytes(bytes: &[u8]) -> String {
    let mut writer = DictSerializer::new();
    writer.bare_item(KeyRef::from_str("x").unwrap(), bytes);
    writer.finish().unwrap().split_off("x=".len())
}

#[test]
fn a_key_is_33_bytes_and_on_the_curve() {
    let with = |key: &[u8]| fault::<OpenRequest>(1, "key", Some(&bytes(key)));
    let good = shown(Kind::Cltv).client_key;
    let expected = "a compressed public key of 33 bytes";
    let wrong_length = Some(Fault::Type { key: "key", expected });
    assert_eq!(with(&good.serialize()[..32]), wrong_length);
    assert_eq!(with(&[&good.serialize()[..], &[0]].concat()), wrong_length);
    assert_eq!(with(&good.serialize_uncompressed()), wrong_length);
    assert_eq!(with(&[]), wrong_length);
    let mut other_parity = good.serialize();
    other_parity[0] = 0x04;
    let beyond_the_field = [&[2][..], &[0xff; 32]].concat();
    let off_the_curve = [&[2][..], &[0; 31], &[5]].concat();
    for key in [&other_parity[..], &beyond_the_field, &off_the_curve, &[0; 33]] {
        let refused = with(key);
        assert!(matches!(refused, Some(Fault::Value { key: "key", .. })), "{key:?}");
    }
}

#[test]
fn a_signature_is_64_bytes_below_the_order() {
    let good = shown(Kind::Refund).payment.signature.serialize_compact();
    let longer = [&good[..], &[0]].concat();
    let mut beyond = good;
    beyond[32..].fill(0xff);
    let der = shown(Kind::Refund).payment.signature.serialize_der().to_vec();
    for wrong in [&good[..63], &longer, &[], &beyond, &der] {
        let refused = fault::<PayRequest>(PAY, "signature", Some(&bytes(wrong)));
        assert!(matches!(refused, Some(Fault::Value { key: "signature", .. })), "{wrong:?}");
        let refused = fault::<RefundReply>(4, "signature", Some(&bytes(wrong)));
        assert!(matches!(refused, Some(Fault::Value { key: "signature", .. })), "{wrong:?}");
        let refused = fault::<CloseRequest>(13, "proof", Some(&bytes(wrong)));
        assert!(matches!(refused, Some(Fault::Value { key: "proof", .. })), "{wrong:?}");
    }
}

#[test]
fn a_pass_is_16_bytes() {
    for length in [0, 15, 17, 32] {
        let refused = fault::<PayRequest>(PAY, "pass", Some(&bytes(&vec![1; length])));
        let expected = "a pass of 16 bytes";
        assert_eq!(refused, Some(Fault::Type { key: "pass", expected }), "{length}");
    }
}

#[test]
fn an_outpoint_is_a_txid_and_an_index() {
    let txid = "09".repeat(32);
    for wrong in [
        txid.clone(),
        format!("{txid}:"),
        format!("{txid}:-1"),
        format!("{txid}:+1"),
        format!("{txid}:01"),
        format!("{txid}:4294967296"),
        format!("{txid}:1:1"),
        format!("{}:1", &txid[1..]),
        format!("{}zz:1", &txid[2..]),
        String::new(),
    ] {
        let refused = fault::<PayRequest>(PAY, "channel", Some(&format!("\"{wrong}\"")));
        assert!(matches!(refused, Some(Fault::Value { key: "channel", .. })), "{wrong}");
    }
    let token = fault::<PayRequest>(PAY, "channel", Some("txid"));
    assert_eq!(token, Some(Fault::Type { key: "channel", expected: "a String" }));
}

#[test]
fn words_that_name_nothing_are_refused() {
    for word in ["lightning", "CLTV", "Refund"] {
        let refused = fault::<OpenRequest>(1, "kind", Some(word));
        assert!(matches!(refused, Some(Fault::Value { key: "kind", .. })), "{word}");
    }
    let string = fault::<OpenRequest>(1, "kind", Some("\"cltv\""));
    assert_eq!(string, Some(Fault::Type { key: "kind", expected: "a Token" }));
    for word in ["bitcoin", "mainnet", "MAIN"] {
        let refused = fault::<Offer>(0, "network", Some(word));
        assert!(matches!(refused, Some(Fault::Value { key: "network", .. })), "{word}");
    }
    let refused = fault::<StateReply>(8, "state", Some("shut"));
    assert!(matches!(refused, Some(Fault::Value { key: "state", .. })));
    let refused = fault::<StateReply>(8, "settlement", Some("\"abc\""));
    assert!(matches!(refused, Some(Fault::Value { key: "settlement", .. })));
}

#[test]
fn an_offer_of_kinds_to_come_is_read_for_those_that_are_known() {
    let offer = Offer::decode(with(0, "kinds", Some("(taproot cltv \"x\" 1)")).as_bytes());
    assert_eq!(offer.map(|offer| offer.kinds), Ok(vec![Kind::Cltv]));
    let refused = fault::<Offer>(0, "kinds", Some("cltv"));
    assert!(matches!(refused, Some(Fault::Type { key: "kinds", .. })));
}

#[test]
fn a_payout_of_another_script_is_refused() {
    let anchor = Vec::from_hex("51024e73").unwrap();
    let future = [&[0x52, 32][..], &[7; 32]].concat();
    for script in [&anchor[..], &future, &[0x6a], &[], &[0; 100]] {
        let refused = fault::<ContractRequest>(7, "payout", Some(&bytes(script)));
        assert!(matches!(refused, Some(Fault::Value { key: "payout", .. })), "{script:?}");
    }
}

#[test]
fn a_transaction_that_is_none_is_refused() {
    let good = shown(Kind::Refund).transaction.map(|transaction| serialize(&transaction)).unwrap();
    let longer = [&good[..], &[0]].concat();
    for wrong in [&good[..good.len() - 1], &longer, &[], &[0xff; 50]] {
        let refused = fault::<ContractRequest>(7, "transaction", Some(&bytes(wrong)));
        assert!(matches!(refused, Some(Fault::Value { key: "transaction", .. })));
    }
    let refused = fault::<ContractRequest>(7, "transaction", Some("1"));
    let expected = "a Byte Sequence";
    assert_eq!(refused, Some(Fault::Type { key: "transaction", expected }));
}
