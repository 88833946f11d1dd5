//! Every message there and back.

use std::fmt::Debug;

use bitcoin::hashes::Hash;
use bitcoin::{Network, OutPoint, ScriptBuf, Txid};
use farebox_channel::message::{
    ChannelStatus, CloseRequest, ContractRequest, Offer, OfferedRate, OfferedRates, OpenRequest,
    PayRequest, Receipt, RefundReply, RefundRequest, StateName, StateReply, StatusReply,
    StatusRequest, StatusSubject, TermsReply, WatchReply, WatchRequest,
};
use farebox_channel::wire::{FIELD_LEN_MAX, Field, Step};
use farebox_channel::{Expiry, Kind, Msat, Pass, Payment, Payout, Proof, Sat, Seconds, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Strategy, any};
use proptest::sample::select;
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;

use super::examples::{PAY, examples};
use crate::support::{
    expiry, funding, key, keyring, law, msat, outpoint, payouts, public, sat, terms,
};

/// Writes and reads a message.
fn round_trip<T: Field + Debug + PartialEq>(message: T) {
    let value = message.encode();
    assert!(value.len() <= FIELD_LEN_MAX, "{} bytes", value.len());
    assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{value}");
    assert_eq!(T::decode(value.as_bytes()), Ok(message), "{value}");
}

fn any_sat() -> impl Strategy<Value = Sat> {
    (0..=Sat::MAX.get()).prop_map(sat)
}

fn any_msat() -> impl Strategy<Value = Msat> {
    (0..=Msat::MAX.get()).prop_map(msat)
}

fn any_key() -> impl Strategy<Value = PublicKey> {
    any::<u32>().prop_map(|number| public(&key(number)))
}

fn any_outpoint() -> impl Strategy<Value = OutPoint> {
    (any::<[u8; 32]>(), any::<u32>())
        .prop_map(|(txid, vout)| OutPoint { txid: Txid::from_byte_array(txid), vout })
}

fn any_expiry() -> impl Strategy<Value = Expiry> {
    (500_000_000..=2_147_483_647_u64).prop_map(expiry)
}

fn any_signature() -> impl Strategy<Value = Signature> {
    vec(any::<u8>(), 64)
        .prop_filter_map("beyond the order", |bytes| Signature::from_compact(&bytes).ok())
}

fn any_payment() -> impl Strategy<Value = Payment> {
    (any_sat(), any_signature()).prop_map(|(paid, signature)| Payment { paid, signature })
}

fn any_proof() -> impl Strategy<Value = Proof> {
    (0..=999_999_999_999_999_u64, any_signature())
        .prop_map(|(time, signature)| Proof { time: Timestamp::new(time), signature })
}

fn any_pass() -> impl Strategy<Value = Pass> {
    any::<[u8; 16]>().prop_map(Pass::new)
}

fn any_kind() -> impl Strategy<Value = Kind> {
    select(Kind::ALL.to_vec())
}

fn any_network() -> impl Strategy<Value = Network> {
    select(vec![
        Network::Bitcoin,
        Network::Testnet,
        Network::Testnet4,
        Network::Signet,
        Network::Regtest,
    ])
}

fn any_payout() -> impl Strategy<Value = Payout> {
    select(payouts().map(|(payout, _)| payout).to_vec())
}

fn any_state() -> impl Strategy<Value = StateName> {
    select(vec![
        StateName::Pending,
        StateName::Late,
        StateName::Open,
        StateName::Closing,
        StateName::Settled,
        StateName::Lost,
    ])
}

fn any_rate() -> impl Strategy<Value = Option<OfferedRate>> {
    let rate = |(price, units)| OfferedRate::new(price, units).unwrap();
    option::of((any_msat(), 1..=999_999_999_999_999_u64).prop_map(rate))
}

fn any_rates() -> impl Strategy<Value = OfferedRates> {
    let answer = (any_rate(), any_rate(), any_rate(), any_rate());
    let request = (any_rate(), any_rate());
    let wait = any::<u32>().prop_map(Seconds::new);
    let parts = (any_msat(), answer, request, wait);
    parts.prop_map(|(answer, (bytes, events, messages, millis), request, wait)| {
        let (request_bytes, request_messages) = request;
        OfferedRates {
            answer,
            bytes,
            events,
            messages,
            millis,
            request_bytes,
            request_messages,
            wait,
        }
    })
}

#[test]
fn an_offer_is_read_as_it_was_written() {
    let seconds = || any::<u32>().prop_map(Seconds::new);
    let money = (any_msat(), any_sat(), any_sat(), any_sat());
    let kinds = vec(any_kind(), 0..3);
    let holds = option::of(seconds());
    let times = (seconds(), seconds(), any::<u32>(), holds);
    let offer = (money, any_network(), kinds, times, option::of(any_rates()));
    law(100, offer, |(money, network, kinds, times, rates)| {
        let (price, least, most, first_payment) = money;
        let (shortest, longest, confirmations, price_holds) = times;
        round_trip(Offer {
            price,
            price_holds,
            rates,
            network,
            kinds,
            capacity: least..=most,
            lifetime: shortest..=longest,
            first_payment,
            confirmations,
        });
    });
}

#[test]
fn wishes_and_terms_are_read_as_they_were_written() {
    let wish = (any_kind(), any_key(), any_sat(), any::<u32>());
    law(100, (wish, any_network(), any_expiry()), |(wish, network, expiry)| {
        let (kind, client_key, capacity, lifetime) = wish;
        let lifetime = Seconds::new(lifetime);
        round_trip(OpenRequest { kind, client_key, capacity, lifetime });
        let terms =
            farebox_channel::Terms { network, expiry, ..keyring().terms(kind, client_key, expiry) };
        round_trip(TermsReply {
            kind,
            network,
            gateway_key: terms.gateway_key,
            expiry,
            script: terms.witness_script(),
            address: terms.address().to_string(),
        });
    });
}

#[test]
fn refunds_and_watches_are_read_as_they_were_written() {
    let refund = (any_outpoint(), any_sat(), any_key(), any_expiry());
    law(100, (refund, any_signature(), any::<bool>()), |(refund, signature, is_seen)| {
        let (outpoint, capacity, client_key, expiry) = refund;
        round_trip(RefundRequest { outpoint, capacity, client_key, expiry });
        round_trip(RefundReply { signature });
        round_trip(WatchRequest { client_key, expiry });
        round_trip(WatchReply { seen: is_seen.then_some((outpoint, capacity)) });
    });
}

#[test]
fn contracts_are_read_as_they_were_written() {
    let outputs = vec((0..=Sat::MAX.get(), any_payout()), 1..20);
    let parts = (any_sat(), any_kind(), any_key(), any_expiry(), any_payout(), any_payment());
    law(100, (option::of(outputs), any_outpoint(), parts), |(outputs, outpoint, parts)| {
        let (capacity, kind, client_key, expiry, payout, payment) = parts;
        let output = |(value, payout): &(u64, Payout)| (*value, ScriptBuf::from(payout.script()));
        let transaction =
            outputs.map(|outputs| funding(&outputs.iter().map(output).collect::<Vec<_>>()));
        round_trip(ContractRequest {
            outpoint,
            transaction,
            capacity,
            kind,
            client_key,
            expiry,
            payout,
            payment,
        });
    });
}

#[test]
fn payments_receipts_and_states_are_read_as_they_were_written() {
    let pay = (any_outpoint(), any_pass(), any_payment(), option::of(any_msat()));
    let receipt = (any_sat(), any_msat(), any_msat(), any_msat(), any::<bool>());
    let state = (any_state(), option::of(any::<[u8; 32]>()));
    law(100, (pay, receipt, state), |(pay, receipt, (state, settlement))| {
        let (channel, pass, payment, price_max) = pay;
        round_trip(PayRequest { channel, pass, payment, price_max });
        let (paid, spent, credit, price, is_running) = receipt;
        round_trip(Receipt { paid, spent, credit, price, is_running });
        let settlement = settlement.map(Txid::from_byte_array);
        round_trip(StateReply { channel, state, pass, paid, settlement });
    });
}

#[test]
fn proofs_are_read_as_they_were_written() {
    law(100, (any_outpoint(), any_key(), any_proof(), any_payment()), |parts| {
        let (channel, client_key, proof, payment) = parts;
        round_trip(CloseRequest { channel, proof, payment });
        round_trip(StatusRequest { subject: StatusSubject::Channel(channel), proof });
        round_trip(StatusRequest { subject: StatusSubject::Key(client_key), proof });
    });
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let contract = (any_outpoint(), any_kind(), any_expiry(), any_sat(), any_payout());
    let money = (any_payment(), any_msat(), any_msat());
    let account = (money, any_state(), any_pass());
    law(50, vec((contract, account), 0..11), |channels| {
        let channel = |(contract, account)| {
            let (channel, kind, expiry, capacity, payout) = contract;
            let ((payment, spent, credit), state, pass) = account;
            ChannelStatus {
                channel,
                gateway_key: terms(kind).gateway_key,
                kind,
                expiry,
                capacity,
                payout,
                payment,
                least: payment.paid,
                spent,
                credit,
                state,
                pass,
            }
        };
        round_trip(StatusReply { channels: channels.into_iter().map(channel).collect() });
    });
}

#[test]
fn a_step_is_chosen_by_the_name_of_its_field() {
    let fields = examples();
    let chosen = |name, field: &str| {
        let step = Step::decode(name, field.as_bytes()).unwrap();
        step.map(|step| format!("{step:?}").split('(').next().unwrap().to_owned())
    };
    for (name, index, step) in [
        ("payment-channel-open", 1, "Open"),
        ("payment-channel-refund", 3, "Refund"),
        ("payment-channel-watch", 5, "Watch"),
        ("payment-channel-contract", 7, "Contract"),
        ("payment-channel-pay", PAY, "Pay"),
        ("payment-channel-status", 11, "Status"),
        ("payment-channel-close", 13, "Close"),
    ] {
        assert!(Step::NAMES.contains(&name));
        assert_eq!(chosen(name, &fields[index]).as_deref(), Some(step));
    }
    assert_eq!(chosen("payment-channel-offer", &fields[0]), None);
    assert_eq!(chosen("accept", "*/*"), None);
}

#[test]
fn a_payment_reads_in_a_terminal() {
    let signature = Signature::from_compact(&[1; 64]).unwrap();
    let payment = Payment { paid: sat(1_250), signature };
    let request =
        PayRequest { channel: outpoint(9), pass: Pass::new([0; 16]), payment, price_max: None };
    let txid = "09".repeat(32);
    let ones = format!("{}AQ==", "AQEB".repeat(21));
    assert_eq!(
        request.encode(),
        format!(
            "channel=\"{txid}:9\", pass=:AAAAAAAAAAAAAAAAAAAAAA==:, paid=1250, signature=:{ones}:"
        )
    );
}
