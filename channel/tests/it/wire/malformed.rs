//! Fields that do not say what their name promises.

use farebox_channel::message::{
    CloseRequest, ContractRequest, Offer, OpenRequest, PayRequest, Receipt, RefundRequest,
    StatusReply, StatusRequest, TermsReply, WatchRequest,
};
use farebox_channel::wire::{Fault, Field, Malformed, PREFIX};

use super::examples::{PAY, examples};

/// The good field number `index`, with the member `key` replaced, or removed.
pub(super) fn with(index: usize, key: &str, value: Option<&str>) -> String {
    let field = examples().swap_remove(index);
    let own = format!("{key}=");
    let members = field.split(", ").filter_map(|member| match (member.starts_with(&own), value) {
        (false, _) => Some(member.to_owned()),
        (true, value) => value.map(|value| format!("{key}={value}")),
    });
    let changed = members.collect::<Vec<_>>().join(", ");
    assert_ne!(changed, field, "`{key}` does not stand in {field}");
    changed
}

/// The key that a fault names.
pub(super) fn named(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::TooLong | Fault::TooLongTogether | Fault::Syntax(_) | Fault::Repeated => None,
        Fault::Missing(key) | Fault::Type { key, .. } | Fault::Value { key, .. } => Some(key),
    }
}

/// What is wrong with the good field number `index` once its member `key` is `value`.
pub(super) fn fault<T: Field>(index: usize, key: &str, value: Option<&str>) -> Option<Fault> {
    let Malformed { name, fault } = T::decode(with(index, key, value).as_bytes()).err()?;
    assert_eq!(name, T::NAME);
    Some(fault)
}

#[test]
fn a_missing_key_is_named() {
    let pay = |key| fault::<PayRequest>(PAY, key, None);
    for key in ["channel", "pass", "paid", "signature"] {
        assert_eq!(pay(key), Some(Fault::Missing(key)));
    }
    for key in ["price", "network", "capacity-min", "lifetime-max", "confirmations"] {
        assert_eq!(fault::<Offer>(0, key, None), Some(Fault::Missing(key)));
    }
    let kinds = fault::<Offer>(0, "kinds", None);
    assert_eq!(kinds.as_ref().and_then(named), Some("kinds"));
    for key in ["kind", "network", "key", "expiry", "script", "address"] {
        assert_eq!(fault::<TermsReply>(2, key, None), Some(Fault::Missing(key)));
    }
    for key in ["outpoint", "capacity", "kind", "key", "expiry", "payout", "paid", "signature"] {
        assert_eq!(fault::<ContractRequest>(7, key, None), Some(Fault::Missing(key)));
    }
    for key in ["channel", "time", "proof", "paid", "signature"] {
        assert_eq!(fault::<CloseRequest>(13, key, None), Some(Fault::Missing(key)));
    }
    assert_eq!(fault::<StatusRequest>(11, "channel", None), Some(Fault::Missing("key")));
    assert_eq!(fault::<StatusRequest>(11, "time", None), Some(Fault::Missing("time")));
}

#[test]
fn an_empty_field_misses_its_first_key() {
    let refused = PayRequest::decode(b"").unwrap_err();
    assert_eq!(refused.to_string(), "payment-channel-pay: `channel` is missing");
    assert_eq!(PayRequest::decode(b"   "), Err(refused));
}

#[test]
fn an_amount_of_another_type_is_refused() {
    let expected = "a non-negative Integer";
    for value in ["-1", "1.0", "\"1\"", "?1", "one", ":AQ==:", "@1", "(1)"] {
        let refused = fault::<PayRequest>(PAY, "paid", Some(value));
        let is_list = value.starts_with('(');
        let expected = if is_list { "a single value" } else { expected };
        assert_eq!(refused, Some(Fault::Type { key: "paid", expected }), "{value}");
    }
}

#[test]
fn a_number_that_is_none_is_refused_as_a_whole() {
    for value in ["+1", "0x10", "1_000", "1,5", "--1", "", "9999999999999999", "1e3"] {
        assert!(fault::<PayRequest>(PAY, "paid", Some(value)).is_some(), "{value}");
    }
}

#[test]
fn an_amount_out_of_bounds_is_refused() {
    for value in ["1000000000000", "999999999999999"] {
        let refused = fault::<PayRequest>(PAY, "paid", Some(value));
        assert!(matches!(refused, Some(Fault::Value { key: "paid", .. })), "{value}");
    }
    for value in ["999999999999001", "999999999999999"] {
        let refused = fault::<Receipt>(10, "spent", Some(value));
        assert!(matches!(refused, Some(Fault::Value { key: "spent", .. })), "{value}");
    }
    let good = with(10, "spent", Some("999999999999000"));
    assert!(Receipt::decode(good.as_bytes()).is_ok());
}

#[test]
fn times_and_spans_out_of_bounds_are_refused() {
    for value in ["499999999", "2147483648", "0"] {
        let refused = fault::<RefundRequest>(3, "expiry", Some(value));
        assert!(matches!(refused, Some(Fault::Value { key: "expiry", .. })), "{value}");
        let refused = fault::<WatchRequest>(5, "expiry", Some(value));
        assert!(matches!(refused, Some(Fault::Value { key: "expiry", .. })), "{value}");
    }
    let refused = fault::<OpenRequest>(1, "lifetime", Some("4294967296"));
    assert!(matches!(refused, Some(Fault::Value { key: "lifetime", .. })));
    assert!(matches!(
        fault::<StatusRequest>(11, "time", Some("-1")),
        Some(Fault::Type { key: "time", .. })
    ));
}

#[test]
fn the_last_of_repeated_keys_counts() {
    // RFC 9651 §4.2.2: a dictionary's later member replaces the one before.
    let good = examples().swap_remove(PAY);
    let read = |value: String| PayRequest::decode(value.as_bytes());
    assert_eq!(read(format!("paid=7, {good}")), read(good.clone()));
    assert_eq!(read(format!("{good}, paid=7")).unwrap().payment.paid.get(), 7);
    let refused = read(format!("{good}, paid=-7")).unwrap_err();
    assert_eq!(named(&refused.fault), Some("paid"));
}

#[test]
fn what_is_no_structured_field_is_refused_as_syntax() {
    for value in [
        "=",
        "paid=",
        "Paid=1",
        "paid=1,",
        "paid=1 2",
        "channel=\"",
        "pass=:!:",
        "{\"paid\":1}",
        "\0",
    ] {
        let refused = PayRequest::decode(value.as_bytes()).unwrap_err();
        assert!(matches!(refused.fault, Fault::Syntax(_)), "{value}: {refused}");
        assert!(refused.name.starts_with(PREFIX));
    }
    assert!(PayRequest::decode("paid=\"ü\"".as_bytes()).is_err());
}

#[test]
fn a_record_without_its_outpoints_is_refused() {
    for value in ["1", "(\"a\")", "channel", ":AQ==:", "\"no outpoint\""] {
        let refused = StatusReply::decode(value.as_bytes()).unwrap_err();
        assert_eq!(named(&refused.fault), Some("channel"), "{value}");
    }
    let good = examples().swap_remove(12);
    let refused = StatusReply::decode(good.replace(";pass=", ";other=").as_bytes()).unwrap_err();
    assert_eq!(refused.fault, Fault::Missing("pass"));
    let refused = StatusReply::decode(good.replace(";spent=1", ";spent=-1").as_bytes());
    assert_eq!(refused.err().as_ref().and_then(|refused| named(&refused.fault)), Some("spent"));
}

#[test]
fn a_rate_that_is_none_is_refused_and_without_a_fixed_part_there_are_no_rates() {
    let with_rates = |rates: &str| {
        let offer = examples().swap_remove(0);
        Offer::decode(format!("{offer}, {rates}").as_bytes())
    };
    let good = with_rates("answer=0, bytes=(3 1024), wait-secs=30").unwrap().rates.unwrap();
    assert_eq!(good.bytes.map(|rate| (rate.price().get(), rate.units())), Some((3, 1_024)));
    for value in ["3", "(3)", "(3 1 1)", "(-3 1)", "(3 a)", "(3 0)", "(999999999999001 1)"] {
        let refused = with_rates(&format!("answer=0, events={value}, wait-secs=30"));
        assert!(refused.is_err(), "{value}");
    }
    assert!(with_rates("answer=0, bytes=(3 1)").is_err(), "how long it waits is told too");
    assert_eq!(with_rates("bytes=(3 1024)").unwrap().rates, None);
}
