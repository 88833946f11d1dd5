//! Header fields, read and written.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::DisplayHex;
use farebox_channel::RefundRequest;
use farebox_channel::message::{
    CloseRequest, ContractRequest, Memo, Offer, OpenRequest, PayRequest, Receipt, RefundReply,
    StateReply, StatusReply, StatusRequest, StatusSubject, TermsReply, WatchReply, WatchRequest,
};
use farebox_channel::wire::{Fault, Field, Malformed};
use secp256k1::ecdsa::Signature;
use serde_json::{Value, json};

use super::case::each;

#[test]
fn each_field_is_read_and_written_as_in_the_vectors() {
    each(include_str!("../../vectors/fields.json"), |case, expect| {
        let (field, value) = (case.text("field").to_lowercase(), case.text("value"));
        let read = read(&field, value).unwrap_or_else(|| panic!("unknown: {field}"));
        match expect {
            "accept" => {
                let written = case.value("written").map_or(value, |line| line.as_str().unwrap());
                let decoded = case.value("decoded").unwrap().clone();
                assert_eq!(read, Ok((decoded, written.to_owned())));
            }
            "malformed" => {
                let Malformed { name, fault } = read.unwrap_err();
                assert_eq!(name, field);
                let key = match fault {
                    Fault::Missing(key) | Fault::Type { key, .. } | Fault::Value { key, .. } => {
                        Value::from(key)
                    }
                    Fault::Syntax(_) => Value::Null,
                    Fault::TooLong | Fault::TooLongTogether | Fault::Repeated => panic!("{fault}"),
                };
                assert_eq!(case.value("key_at_fault"), Some(&key), "{fault}");
            }
            _ => panic!("unknown: {expect}"),
        }
    });
}

/// What a field says, as in the vectors, and how its message is written.
type Told = Result<(Value, String), Malformed>;

/// Reads the value of a field, or nothing if there is no such field.
fn read(name: &str, value: &str) -> Option<Told> {
    Some(match name {
        Offer::NAME => tell(value, offer),
        OpenRequest::NAME => tell(value, open),
        TermsReply::NAME => tell(value, terms),
        RefundRequest::NAME => tell(value, refund),
        RefundReply::NAME => {
            tell(value, |it: &RefundReply| json!({ "signature": compact(&it.signature) }))
        }
        WatchRequest::NAME => tell(
            value,
            |it: &WatchRequest| json!({ "key": it.client_key.to_string(), "expiry_unix_secs": it.expiry.get() }),
        ),
        WatchReply::NAME => tell(value, seen),
        ContractRequest::NAME => tell(value, contract),
        StateReply::NAME => tell(value, state),
        PayRequest::NAME => tell(value, pay),
        Receipt::NAME => tell(value, receipt),
        StatusRequest::NAME => tell(value, status),
        StatusReply::NAME => tell(value, channels),
        Memo::NAME => {
            tell(value, |it: &Memo| json!({ "memo": it.as_bytes().to_lower_hex_string() }))
        }
        CloseRequest::NAME => tell(value, close),
        _ => return None,
    })
}

fn tell<T: Field>(value: &str, told: impl Fn(&T) -> Value) -> Told {
    T::decode(value.as_bytes()).map(|message| (told(&message), message.encode()))
}

fn compact(signature: &Signature) -> String {
    signature.serialize_compact().to_lower_hex_string()
}

fn offer(it: &Offer) -> Value {
    let mut told = json!({
        "price_msat": it.price.get(), "network": it.network.to_core_arg(),
        "kinds": it.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
        "capacity_min_sat": it.capacity.start().get(), "capacity_max_sat": it.capacity.end().get(),
        "lifetime_min_secs": it.lifetime.start().get(),
        "lifetime_max_secs": it.lifetime.end().get(),
        "first_payment_sat": it.first_payment.get(), "confirmations": it.confirmations,
    });
    if let Some(holds) = it.price_holds {
        told["price_secs"] = holds.get().into();
    }
    told
}

fn open(it: &OpenRequest) -> Value {
    json!({
        "kind": it.kind.as_str(), "key": it.client_key.to_string(),
        "capacity_sat": it.capacity.get(), "lifetime_secs": it.lifetime.get(),
    })
}

fn terms(it: &TermsReply) -> Value {
    json!({
        "kind": it.kind.as_str(), "network": it.network.to_core_arg(),
        "key": it.gateway_key.to_string(), "expiry_unix_secs": it.expiry.get(),
        "script": it.script.to_hex_string(), "address": it.address,
    })
}

fn refund(it: &RefundRequest) -> Value {
    json!({
        "outpoint": it.outpoint.to_string(), "capacity_sat": it.capacity.get(),
        "key": it.client_key.to_string(), "expiry_unix_secs": it.expiry.get(),
    })
}

fn seen(it: &WatchReply) -> Value {
    it.seen.map_or_else(|| json!({}), |(outpoint, capacity)| {
        json!({ "outpoint": outpoint.to_string(), "capacity_sat": capacity.get() })
    })
}

fn contract(it: &ContractRequest) -> Value {
    let mut told = json!({
        "outpoint": it.outpoint.to_string(), "capacity_sat": it.capacity.get(),
        "kind": it.kind.as_str(), "key": it.client_key.to_string(),
        "expiry_unix_secs": it.expiry.get(), "payout": it.payout.script().to_hex_string(),
        "paid_sat": it.payment.paid.get(), "signature": compact(&it.payment.signature),
    });
    if let Some(transaction) = &it.transaction {
        told["transaction"] = serialize_hex(transaction).into();
    }
    told
}

fn state(it: &StateReply) -> Value {
    let mut told = json!({
        "channel": it.channel.to_string(), "state": it.state.as_str(),
        "pass": it.pass.as_bytes().to_lower_hex_string(), "paid_sat": it.paid.get(),
    });
    if let Some(settlement) = it.settlement {
        told["settlement"] = settlement.to_string().into();
    }
    told
}

fn pay(it: &PayRequest) -> Value {
    let mut told = json!({
        "channel": it.channel.to_string(), "pass": it.pass.as_bytes().to_lower_hex_string(),
        "paid_sat": it.payment.paid.get(), "signature": compact(&it.payment.signature),
    });
    if let Some(price_max) = it.price_max {
        told["price_max_msat"] = price_max.get().into();
    }
    told
}

fn receipt(it: &Receipt) -> Value {
    json!({
        "paid_sat": it.paid.get(), "spent_msat": it.spent.get(),
        "credit_msat": it.credit.get(), "price_msat": it.price.get(),
    })
}

fn status(it: &StatusRequest) -> Value {
    let (key, subject) = match it.subject {
        StatusSubject::Key(key) => ("key", key.to_string()),
        StatusSubject::Channel(channel) => ("channel", channel.to_string()),
    };
    json!({
        key: subject, "time_unix_secs": it.proof.time.get(),
        "proof": compact(&it.proof.signature),
    })
}

fn channels(it: &StatusReply) -> Value {
    let channel = |it: &farebox_channel::message::ChannelStatus| {
        json!({
            "channel": it.channel.to_string(), "key": it.gateway_key.to_string(),
            "kind": it.kind.as_str(), "expiry_unix_secs": it.expiry.get(),
            "capacity_sat": it.capacity.get(), "payout": it.payout.script().to_hex_string(),
            "paid_sat": it.payment.paid.get(), "signature": compact(&it.payment.signature),
            "least_sat": it.least.get(), "spent_msat": it.spent.get(), "credit_msat": it.credit.get(),
            "state": it.state.as_str(), "pass": it.pass.as_bytes().to_lower_hex_string(),
        })
    };
    json!({ "channels": it.channels.iter().map(channel).collect::<Vec<_>>() })
}

fn close(it: &CloseRequest) -> Value {
    json!({
        "channel": it.channel.to_string(), "time_unix_secs": it.proof.time.get(),
        "proof": compact(&it.proof.signature), "paid_sat": it.payment.paid.get(),
        "signature": compact(&it.payment.signature),
    })
}
