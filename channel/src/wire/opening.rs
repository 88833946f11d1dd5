//! The fields that open a channel: offer, terms, refund, watch, contract, state.

use std::str::FromStr;

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{ScriptBuf, Transaction, Txid};

use super::fields::{Reader, Writer, read};
use super::{Fault, Field, Malformed};
use crate::message::{
    ContractRequest, Offer, OfferedRates, OpenRequest, RefundReply, RefundRequest, StateReply,
    TermsReply, WatchReply, WatchRequest,
};

impl Field for Offer {
    const NAME: &'static str = "payment-channel-offer";

    fn encode(&self) -> String {
        let writer = Writer::new().msat("price", self.price);
        let writer = match self.price_holds {
            Some(holds) => writer.integer("price-secs", u64::from(holds.get())),
            None => writer,
        };
        let writer = match &self.rates {
            Some(rates) => write_rates(writer, rates),
            None => writer,
        };
        writer
            .token("network", self.network.to_core_arg())
            .kinds("kinds", &self.kinds)
            .sat("capacity-min", *self.capacity.start())
            .sat("capacity-max", *self.capacity.end())
            .integer("lifetime-min", u64::from(self.lifetime.start().get()))
            .integer("lifetime-max", u64::from(self.lifetime.end().get()))
            .sat("first-payment", self.first_payment)
            .integer("confirmations", u64::from(self.confirmations))
            // A close by the gateway itself settles all that is paid, not what is spent.
            .token("gateway-close", "paid")
            .finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            Ok(Self {
                price: reader.msat("price")?,
                price_holds: reader.seconds_if("price-secs")?,
                rates: read_rates(reader)?,
                network: reader.network("network")?,
                kinds: reader.kinds("kinds")?,
                capacity: reader.sat("capacity-min")?..=reader.sat("capacity-max")?,
                lifetime: reader.seconds("lifetime-min")?..=reader.seconds("lifetime-max")?,
                first_payment: reader.sat("first-payment")?,
                confirmations: reader.count("confirmations")?,
            })
        })
    }
}

/// Writes what an answer costs by what passes.
fn write_rates(writer: Writer, rates: &OfferedRates) -> Writer {
    writer
        .msat("answer", rates.answer)
        .rate_if("bytes", rates.bytes)
        .rate_if("events", rates.events)
        .rate_if("messages", rates.messages)
        .rate_if("millis", rates.millis)
        .rate_if("request-bytes", rates.request_bytes)
        .rate_if("request-messages", rates.request_messages)
        .integer("wait-secs", u64::from(rates.wait.get()))
}

/// Reads what an answer costs by what passes, where it does.
fn read_rates(reader: &Reader<'_>) -> Result<Option<OfferedRates>, Malformed> {
    if !reader.has("answer") {
        return Ok(None);
    }
    Ok(Some(OfferedRates {
        answer: reader.msat("answer")?,
        bytes: reader.rate_if("bytes")?,
        events: reader.rate_if("events")?,
        messages: reader.rate_if("messages")?,
        millis: reader.rate_if("millis")?,
        request_bytes: reader.rate_if("request-bytes")?,
        request_messages: reader.rate_if("request-messages")?,
        wait: reader.seconds("wait-secs")?,
    }))
}

impl Field for OpenRequest {
    const NAME: &'static str = "payment-channel-open";

    fn encode(&self) -> String {
        Writer::new()
            .token("kind", self.kind.as_str())
            .key("key", &self.client_key)
            .sat("capacity", self.capacity)
            .integer("lifetime", u64::from(self.lifetime.get()))
            .finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            Ok(Self {
                kind: reader.token("kind")?,
                client_key: reader.key("key")?,
                capacity: reader.sat("capacity")?,
                lifetime: reader.seconds("lifetime")?,
            })
        })
    }
}

impl Field for TermsReply {
    const NAME: &'static str = "payment-channel-terms";

    fn encode(&self) -> String {
        Writer::new()
            .token("kind", self.kind.as_str())
            .token("network", self.network.to_core_arg())
            .key("key", &self.gateway_key)
            .expiry("expiry", self.expiry)
            .bytes("script", self.script.as_bytes())
            .string("address", &self.address)
            .finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            Ok(Self {
                kind: reader.token("kind")?,
                network: reader.network("network")?,
                gateway_key: reader.key("key")?,
                expiry: reader.expiry("expiry")?,
                script: ScriptBuf::from_bytes(reader.bytes("script")?.to_vec()),
                address: reader.string("address")?.to_owned(),
            })
        })
    }
}

impl Field for RefundRequest {
    const NAME: &'static str = "payment-channel-refund";

    fn encode(&self) -> String {
        Writer::new()
            .outpoint("outpoint", &self.outpoint)
            .sat("capacity", self.capacity)
            .key("key", &self.client_key)
            .expiry("expiry", self.expiry)
            .finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            Ok(Self {
                outpoint: reader.outpoint("outpoint")?,
                capacity: reader.sat("capacity")?,
                client_key: reader.key("key")?,
                expiry: reader.expiry("expiry")?,
            })
        })
    }
}

impl Field for RefundReply {
    const NAME: &'static str = "payment-channel-refund-signature";

    fn encode(&self) -> String {
        Writer::new().signature("signature", &self.signature).finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| Ok(Self { signature: reader.signature("signature")? }))
    }
}

impl Field for WatchRequest {
    const NAME: &'static str = "payment-channel-watch";

    fn encode(&self) -> String {
        Writer::new().key("key", &self.client_key).expiry("expiry", self.expiry).finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            Ok(Self { client_key: reader.key("key")?, expiry: reader.expiry("expiry")? })
        })
    }
}

impl Field for WatchReply {
    const NAME: &'static str = "payment-channel-seen";

    fn encode(&self) -> String {
        match &self.seen {
            Some((outpoint, capacity)) => Writer::new()
                .token("state", "seen")
                .outpoint("outpoint", outpoint)
                .sat("capacity", *capacity)
                .finish(),
            None => Writer::new().token("state", "waiting").finish(),
        }
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            let SeenState(is_seen) = reader.token("state")?;
            if !is_seen {
                return Ok(Self { seen: None });
            }
            Ok(Self { seen: Some((reader.outpoint("outpoint")?, reader.sat("capacity")?)) })
        })
    }
}

/// Whether an address was paid: `seen` or `waiting`.
struct SeenState(bool);

impl FromStr for SeenState {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        match name {
            "seen" => Ok(Self(true)),
            "waiting" => Ok(Self(false)),
            _ => Err("a state is `seen` or `waiting`"),
        }
    }
}

impl Field for ContractRequest {
    const NAME: &'static str = "payment-channel-contract";

    fn encode(&self) -> String {
        let writer = Writer::new()
            .outpoint("outpoint", &self.outpoint)
            .sat("capacity", self.capacity)
            .token("kind", self.kind.as_str())
            .key("key", &self.client_key)
            .expiry("expiry", self.expiry)
            .bytes("payout", self.payout.script().as_bytes())
            .payment(&self.payment);
        match &self.transaction {
            Some(transaction) => writer.bytes("transaction", &serialize(transaction)).finish(),
            None => writer.finish(),
        }
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            let transaction = if reader.has("transaction") {
                Some(transaction(reader.bytes("transaction")?)?)
            } else {
                None
            };
            Ok(Self {
                outpoint: reader.outpoint("outpoint")?,
                transaction,
                capacity: reader.sat("capacity")?,
                kind: reader.token("kind")?,
                client_key: reader.key("key")?,
                expiry: reader.expiry("expiry")?,
                payout: reader.payout("payout")?,
                payment: reader.payment()?,
            })
        })
    }
}

/// Reads a contract transaction.
fn transaction(bytes: &[u8]) -> Result<Transaction, Malformed> {
    deserialize(bytes).map_err(|error| Malformed {
        name: ContractRequest::NAME,
        fault: Fault::Value { key: "transaction", reason: error.to_string() },
    })
}

impl Field for StateReply {
    const NAME: &'static str = "payment-channel-state";

    fn encode(&self) -> String {
        let writer = Writer::new()
            .outpoint("channel", &self.channel)
            .token("state", self.state.as_str())
            .bytes("pass", self.pass.as_bytes())
            .sat("paid", self.paid);
        match &self.settlement {
            Some(txid) => writer.string("settlement", &txid.to_string()).finish(),
            None => writer.finish(),
        }
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            let settlement = if reader.has("settlement") {
                let fault = |error: bitcoin::hex::HexToArrayError| Malformed {
                    name: Self::NAME,
                    fault: Fault::Value { key: "settlement", reason: error.to_string() },
                };
                Some(reader.string("settlement")?.parse::<Txid>().map_err(fault)?)
            } else {
                None
            };
            Ok(Self {
                channel: reader.outpoint("channel")?,
                state: reader.token("state")?,
                pass: reader.pass("pass")?,
                paid: reader.sat("paid")?,
                settlement,
            })
        })
    }
}
